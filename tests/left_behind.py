"""Ends the servers of a test run that was killed, and removes their folder: `python -m tests.left_behind FOLDER`.

It waits for the end of its standard input, which comes when the test run has ended, however that was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path


def clean_up(folder: Path) -> None:
    """End every PostgreSQL whose data are in the folder, without waiting for its clients, and remove the folder."""
    for file in folder.rglob("postmaster.pid"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # as sent to the whole group of processes
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    clean_up(Path(sys.argv[1]))
