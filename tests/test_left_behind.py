"""A test run that is stopped, or killed, leaves no server and no folder behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def until(true: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def server_of(folder: Path) -> int | None:
    """The process of the server that runs in this folder; while it is being made, its number is negative."""
    words = [file.read_text().split() for file in folder.rglob("postmaster.pid")]
    return next((int(first) for first, *_ in filter(None, words) if int(first) > 0), None)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    short = Path("/tmp") / f"zl{os.getpid()}{number}"  # a socket's path is short
    short.mkdir()
    short.chmod(0o755)
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/database/test_queue.py"],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(short)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: server_of(short) is not None)
        server = server_of(short)
        assert server is not None
        assert is_running(server)
        run.send_signal(number)
        run.wait(timeout=60)
        until(lambda: not is_running(server))
        until(lambda: not list(short.glob("zora-*")))
    finally:
        run.kill()
        run.wait()
        for folder in short.rglob("*"):
            if folder.is_dir():
                folder.chmod(0o755)
        subprocess.run(["rm", "-rf", short], check=False)
