"""The child's side of `processes`: reads requests, calls functions, sends answers. Imported in child processes only."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import Any

from zora_core.errors import AnalysisFailed, described
from zora_core.processes import receive, send

TRACE_LINES = 20

_report: Callable[[float, str], None] | None = None


def progress(fraction: float, message: str = "") -> None:
    """Report the progress of a function that runs under `ctx.compute`; elsewhere nothing happens."""
    if _report is not None:
        _report(fraction, message)


def main() -> None:
    """Serve requests until the parent closes the pipe."""
    global _report
    # The pipes are for messages alone: what a function prints goes to standard error.
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    _keep_from_forks(null, requests.fileno(), answers.fileno())
    _end_with_parent()

    def tell(*message: Any) -> None:
        send(answers, pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

    def report(fraction: float, message: str) -> None:
        tell("progress", float(fraction), str(message))

    _report = report
    logging.getLogger().addHandler(_Forwarding(tell))
    with contextlib.suppress(EOFError):
        while True:
            request = receive(requests)
            send(answers, _answer(request))
            del request


def _answer(request: bytes) -> bytes:
    """The answer to a request: what its function returned, or raised."""
    memory_mb = 0
    try:
        unpickler = _Unpickler(io.BytesIO(request))
        memory_mb, function, args, kwargs = unpickler.load()
        _limit_memory(memory_mb)
        return pickle.dumps(("value", function(*args, **kwargs), ""), pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        error = AnalysisFailed(
            f"the analysis needed more than {memory_mb:,} MB of memory: give less at once, or raise "
            "ZORA_ANALYSIS_MEMORY_MB"
        )
        return pickle.dumps(("error", error, ""), pickle.HIGHEST_PROTOCOL)
    except BaseException as error:  # noqa: BLE001 - sent to the caller
        trace = "".join(traceback.format_exception(error, limit=-TRACE_LINES))
        return _sendable(error, trace)


def _sendable(error: BaseException, trace: str) -> bytes:
    """The answer that raises an error in the parent; in words, when it cannot be pickled, restored and raised.

    It goes through a future, which carries no `StopIteration`.
    """
    try:
        answer = pickle.dumps(("error", error, trace), pickle.HIGHEST_PROTOCOL)
        restored = pickle.loads(answer)[1]
    except BaseException:  # noqa: BLE001 - pickling an error may raise anything
        restored = None
    if isinstance(restored, BaseException) and not isinstance(restored, StopIteration):
        return answer
    return pickle.dumps(("error", AnalysisFailed(described(error)), trace), pickle.HIGHEST_PROTOCOL)


class _Unpickler(pickle.Unpickler):
    """Finds names in modules, but not in the main program, which is not run again here."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "__main__":
            raise TypeError(
                f"{name!r} is defined in the program that was started, which a child process does not run again: move "
                "it into a module that the program imports, or use ctx.in_thread"
            )
        return super().find_class(module, name)


class _Forwarding(logging.Handler):
    """Sends log records to the parent, where logging is set up and secrets are masked."""

    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell("log", record.name, record.levelno, self.format(record))


def _limit_memory(megabytes: int) -> None:
    """Limit the memory that this process may allocate, where the system can: exactly on Linux only."""
    if sys.platform == "win32":
        return
    import resource

    # On Linux RLIMIT_DATA counts what is really private and writable; RLIMIT_AS also counts reservations and libraries.
    what = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    _, hard = resource.getrlimit(what)
    wanted = megabytes * 1024 * 1024
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses a limit below what is reserved already
        resource.setrlimit(what, (wanted, hard))


def _keep_from_forks(null: int, *pipes: int) -> None:
    """Have a fork of this process read nothing from the pipes, write nothing to them, and not keep them open.

    The parent sees by the closed pipe that this process has ended. A fork that returns from its function, too, would
    otherwise answer the next request with the result of this one.
    """

    def leave() -> None:
        for pipe in pipes:
            os.dup2(null, pipe, inheritable=False)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=leave)


def _end_with_parent() -> None:
    """Have Linux kill this process when its parent is gone, even in the middle of a call."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
