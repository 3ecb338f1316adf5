"""The beginning and the end of a process that is a command's own.

Ctrl-C while a command starts: the process just ends, because there is no work to finish, and no traceback is shown.

A `KeyboardInterrupt` would not do: C code that loads a module at that moment turns it into an error of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

EXIT_SECONDS = 3.0

_own_process = False


def end_at_once() -> None:
    """From now on Ctrl-C ends the process silently with status 130, unless it is ignored."""
    global _own_process
    _own_process = True
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def interrupt_work() -> None:
    """From now on Ctrl-C interrupts what runs, so that it can end in order."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def ending_soon() -> Iterator[None]:
    """End the process a few seconds after this block, unless it has ended by itself or is another program's.

    Python waits for threads at its end, those of an executor that a handler made included, and one may never return.
    """
    status = 1
    try:
        yield
        status = 0
    finally:
        if _own_process:
            threading.Thread(target=_end_within, args=[EXIT_SECONDS, status], daemon=True, name="zora-exit").start()


def _end_within(seconds: float, status: int) -> None:
    import logging

    time.sleep(seconds)
    main_thread = threading.main_thread()
    left = [thread.name for thread in threading.enumerate() if not thread.daemon and thread is not main_thread]
    logging.getLogger("zora.runtime").warning(
        "zora ends without waiting for threads that still run: %s", ", ".join(left)
    )
    os._exit(status)


def _end(number: int, frame: object) -> None:
    os._exit(130)


def main() -> None:
    """The console script `zora`."""
    end_at_once()

    from zora_core.cli.main import main as program

    program(prog_name="zora")
