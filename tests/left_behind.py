"""Ends the servers of a test run that was killed, and removes their folder: `python -m tests.left_behind FOLDER`.

It waits for the end of its standard input, which comes when the test run has ended, however that was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

END_SECONDS = 10.0


def clean_up(folder: Path) -> None:
    """End every PostgreSQL whose data are in the folder, without waiting for its clients, and remove the folder."""
    with contextlib.suppress(OSError):  # a folder that is being removed
        for file in list(folder.rglob("postmaster.pid")):
            with contextlib.suppress(OSError, ValueError, IndexError):
                end(int(file.read_text().split()[0]), file.parent)
    shutil.rmtree(folder, ignore_errors=True)


def end(server: int, data: Path) -> None:
    """End a server and wait until it has ended; another process with the number of one that is gone is left alone."""
    place = Path(f"/proc/{server}/cwd")
    if place.parent.parent.exists() and (not place.exists() or place.resolve() != data.resolve()):
        return
    os.kill(server, signal.SIGQUIT)
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        os.kill(server, 0)  # raises when it is gone
        time.sleep(0.05)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # as sent to the whole group of processes
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    clean_up(Path(sys.argv[1]))
