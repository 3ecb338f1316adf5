"""Ctrl-C while a command starts: nothing has begun that must be ended with care, and nobody wants to read a traceback.

A `KeyboardInterrupt` would not do: C code that loads a module at that moment turns it into an error of its own.
"""

from __future__ import annotations

import os
import signal


def end_at_once() -> None:
    """From now on Ctrl-C ends the process silently with status 130, unless it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def interrupt_work() -> None:
    """From now on Ctrl-C interrupts what runs, so that it can end in order."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: object) -> None:
    os._exit(130)


def main() -> None:
    """The console script `zora`."""
    end_at_once()

    from zora_core.autonomy.cli import main as program

    program(prog_name="zora")
