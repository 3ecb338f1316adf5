"""Functions that tests run in child processes, which import them by name."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from zora_core.child import progress


def environment() -> dict[str, str]:
    return dict(os.environ)


def process_id() -> int:
    return os.getpid()


def fail(message: str) -> None:
    raise ValueError(message)


class Unsendable(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def fail_strangely() -> None:
    raise Unsendable("one", "two")


class Unpicklable:
    def __getstate__(self) -> NoReturn:
        raise ValueError("a handle cannot be pickled")


class Abrupt:
    def __getstate__(self) -> NoReturn:
        raise SystemExit("leaving")


def raise_value_error() -> NoReturn:
    raise ValueError("a handle cannot be restored")


def end_of_file() -> NoReturn:
    raise EOFError("nothing more")


class Unreadable:
    """Pickled without a fault; unpickling it raises."""

    def __init__(self, restore: Callable[[], Any]) -> None:
        self.restore = restore

    def __reduce__(self) -> tuple[Any, ...]:
        return self.restore, ()


class NoError(Exception):
    """Unpickled, it is not an exception."""

    def __reduce__(self) -> tuple[Any, ...]:
        return str, ("text",)


def unreadable(restore: Callable[[], Any]) -> Unreadable:
    return Unreadable(restore)


def unpicklable() -> Unpicklable:
    return Unpicklable()


def leave() -> NoReturn:
    raise SystemExit(3)


def stop_iteration() -> NoReturn:
    raise StopIteration("no more")


def no_error() -> NoReturn:
    raise NoError("lost")


def spin(marker: str | None = None) -> None:
    """Work that holds the interpreter's lock and never ends; the marker then holds the process id."""
    if marker is not None:
        note(marker, os.getpid())
    sum(range(10**15))


def run_program(marker: str) -> None:
    """Wait for a program that would outlive this process."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as program:
        note(marker, program.pid)
        program.wait()


def wait_for(path: str, marker: str) -> str:
    """Make a marker and wait until a file is there; says then in which process."""
    note(marker, os.getpid())
    while not Path(path).exists():
        time.sleep(0.01)
    return str(os.getpid())


def note(marker: str, number: int) -> None:
    """Write a number to a file that appears whole."""
    Path(marker + ".part").write_text(str(number))
    Path(marker + ".part").rename(marker)


def allocate(megabytes: int) -> int:
    return len(bytearray(megabytes * 1024 * 1024))


def end(status: int) -> None:
    os._exit(status)


def talk() -> str:
    print("this must not disturb the answer")
    logging.getLogger("zora.test").warning("password=hunter2 was read")
    progress(0.5, "half way")
    return "done"


def die_with_a_fork(marker: str) -> None:
    """Fork, as multiprocessing may, and be killed, as for its memory; the fork would outlive this process."""
    if fork := os.fork():
        note(marker, fork)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def die_with_a_program(marker: str) -> None:
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    note(marker, program.pid)
    os.kill(os.getpid(), signal.SIGKILL)


def leave_a_fork(marker: str) -> int:
    """Return, while a fork lives on."""
    if fork := os.fork():
        note(marker, fork)
        return os.getpid()
    time.sleep(600)
    return 0


def return_twice() -> int:
    """Fork, and return from both processes."""
    if not os.fork():
        progress(0.5, "from the fork")
        logging.getLogger("zora.test").warning("from the fork")
    return os.getpid()
