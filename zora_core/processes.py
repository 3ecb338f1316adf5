"""Child processes for the analysis of outside input: unlike a thread, a process can be killed and limited in memory.

A child is a fresh interpreter, started when it is first needed. It gets this process's module path, but neither its
main program nor its environment: credentials stay here. It protects this process from input that takes too long or too
much memory; it is not a sandbox for hostile code.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, TypeVar

from zora_core.errors import AnalysisFailed, described

T = TypeVar("T")

# Children at once. More calls wait, in order.
MOST_CHILDREN = max(4, os.cpu_count() or 1)
# After this time without work a child ends, and gives its memory back.
IDLE_SECONDS = 60.0
MEMORY_MB = 2048

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from zora_core.child import main; main()"
# What a child needs of the environment to find programs, temporary files and its language; all else stays here.
_ENVIRONMENT = frozenset(
    {"HOME", "LANG", "LANGUAGE", "PATH", "PATHEXT", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "TZ", "USERPROFILE"}
)
_NOT_SENT = (
    "cannot send {function} to a child process ({error}): ctx.compute takes a function that is defined at the top "
    "level of a module, with arguments and a result that can be pickled. Use ctx.in_thread for anything else; a thread "
    "cannot be stopped at the time limit"
)


@dataclass(eq=False)
class _Job:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    memory_mb: int
    report: Callable[[float, str], None]
    begun: Callable[[], None]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    lock: threading.Lock = field(default_factory=threading.Lock)
    process: subprocess.Popen[bytes] | None = None
    cancelled: bool = False

    def cancel(self) -> None:
        """Drop the job; its process is killed if it has one."""
        with self.lock:
            self.cancelled = True
            if self.process is not None:
                _kill(self.process)

    def begin(self, process: subprocess.Popen[bytes]) -> bool:
        """Take a process, unless the job was cancelled."""
        with self.lock:
            self.process = None if self.cancelled else process
            if not self.cancelled:
                self.tell(self.begun)
            return not self.cancelled

    def end(self) -> bool:
        """Give the process back; from now on a cancellation does not kill it. Returns whether it was cancelled."""
        with self.lock:
            self.process = None
            return self.cancelled

    def tell(self, function: Callable[..., None], *args: Any) -> None:
        """Call a function in the loop that waits for the job, if it is still there."""
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
            self.loop.call_soon_threadsafe(function, *args)

    def deliver(self, value: Any, error: BaseException | None = None) -> None:
        """Give the result, or the error, to the task that waits."""

        def settle() -> None:
            if not self.future.done():
                if error is None:
                    self.future.set_result(value)
                else:
                    self.future.set_exception(error)

        self.tell(settle)


class _Child(threading.Thread):
    """A thread that owns one child process at a time and does one job after the other in it."""

    def __init__(self, pool: _Pool) -> None:
        super().__init__(daemon=True, name="zora-child")
        self.inbox: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._pool = pool
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        job: _Job | None = self.inbox.get()
        while job is not None:
            try:
                answer = self._do(job)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it must not end this thread
                answer = None, error
                self.discard()
            following = self._pool.release(self)  # first, so that a call that follows finds this child
            if answer is not None:
                job.deliver(*answer)
            job = following or self._pool.wait(self)
        self.discard()

    def discard(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            _kill(process)
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):  # what was not written when it ended
                        stream.close()

    def _do(self, job: _Job) -> tuple[Any, BaseException | None] | None:
        """Do a job; returns its value and its error, or None when it was cancelled."""
        try:
            request = pickle.dumps((job.memory_mb, job.function, job.args, job.kwargs), pickle.HIGHEST_PROTOCOL)
        except BaseException as error:  # noqa: BLE001 - pickling calls methods of the arguments, which may raise anything
            name = getattr(job.function, "__qualname__", type(job.function).__qualname__)
            return None, TypeError(_NOT_SENT.format(function=name, error=described(error)))
        try:
            process = self._running()
        except OSError as error:
            return None, AnalysisFailed(f"cannot start a process for the analysis: {error}")
        if not job.begin(process):
            return None
        try:
            kind, value, trace = self._ask(process, request, job)
        except (OSError, EOFError):
            cancelled = job.end()
            _kill(process)
            failure = _died(process, job.memory_mb)
            self.discard()
            return None if cancelled else (None, failure)
        except AnalysisFailed as error:
            kind, value, trace = "error", error, ""
        if job.end():
            self.discard()
            return None
        if kind == "value":
            return value, None
        if isinstance(value, AnalysisFailed):
            self.discard()
        if trace:
            value.add_note(trace)
        return None, value

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or _ended(self._process):
            self.discard()
            paths = [path or os.getcwd() for path in sys.path]
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    *(["-X", "utf8"] if sys.flags.utf8_mode else []),
                    "-c",
                    _START,
                    json.dumps(paths),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={k: v for k, v in os.environ.items() if k.upper() in _ENVIRONMENT or k.startswith("LC_")},
                # A group of its own: Ctrl-C is for the worker to handle, and programs that it runs end with it.
                start_new_session=True,
            )
        return self._process

    def _ask(self, process: subprocess.Popen[bytes], request: bytes, job: _Job) -> tuple[str, Any, str]:
        """Send a request and wait for its answer, passing on what the child reports meanwhile.

        Raises `OSError` or `EOFError` when the child has ended, and `AnalysisFailed` for an answer that cannot be read.
        """
        assert process.stdin is not None
        assert process.stdout is not None
        send(process.stdin, request)
        while True:
            answer = receive(process.stdout)
            try:
                message = pickle.loads(answer)
            except BaseException as error:
                raise AnalysisFailed(
                    f"cannot unpickle what the analysis returned ({described(error)}): return plain values, such as "
                    "lists, dicts and strings"
                ) from error
            match message:
                case ("progress", fraction, message):
                    job.tell(job.report, fraction, message)
                case ("log", name, level, text):
                    logging.getLogger(name).log(level, "%s", text)
                case (kind, value, trace):
                    return kind, value, trace


class _Pool:
    """The children: the one that worked last is the next to get a job, because it has the most in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: set[_Child] = set()
        self._idle: list[_Child] = []
        self._waiting: deque[_Job] = deque()

    def submit(self, job: _Job) -> None:
        with self._lock:
            if self._idle:
                self._idle.pop().inbox.put(job)
            elif len(self._children) < MOST_CHILDREN:
                child = _Child(self)
                child.inbox.put(job)
                child.start()  # before it counts, because the system may refuse another thread
                self._children.add(child)
            else:
                self._waiting.append(job)

    def release(self, child: _Child) -> _Job | None:
        """The job that a child does next, if one waits; otherwise the child is idle."""
        with self._lock:
            while self._waiting:
                job = self._waiting.popleft()
                if not job.cancelled:
                    return job
            self._idle.append(child)
        return None

    def wait(self, child: _Child) -> _Job | None:
        """Wait for an idle child's next job; None when it has been idle for long and is no longer one of the pool."""
        try:
            return child.inbox.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            with self._lock:
                if child in self._idle:
                    self._idle.remove(child)
                    self._children.discard(child)
                    return None
            return child.inbox.get()  # given in the last moment

    def close(self) -> None:
        """Kill every process, when the program ends."""
        with self._lock:
            for child in self._children:
                if child._process is not None:
                    _kill(child._process)


_POOL = _Pool()
atexit.register(_POOL.close)


async def in_process(
    function: Callable[..., T],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    memory_mb: int = MEMORY_MB,
    report: Callable[[float, str], None] = lambda fraction, message: None,
    begun: Callable[[], None] = lambda: None,
) -> T:
    """Call `function` in a child process and wait for its result; cancelling the wait kills the process.

    The function is found by its name in its module, so that it cannot be a lambda, a closure, or part of the program
    that was started. Arguments and result are pickled. The child may use `memory_mb` of memory, where the system can
    limit it, and what it says through `child.progress` goes to `report`. `begun` is called when a child begins with it:
    until then it may wait for its turn.

    Raises what the function raises, `TypeError` for what cannot be sent, and `AnalysisFailed` when the child runs out
    of memory or ends in another way.
    """
    loop = asyncio.get_running_loop()
    job = _Job(function, tuple(args), dict(kwargs or {}), memory_mb, report, begun, loop, loop.create_future())
    _POOL.submit(job)
    try:
        return await job.future  # type: ignore[no-any-return]
    except asyncio.CancelledError:
        job.cancel()
        raise


def send(stream: IO[bytes], data: bytes) -> None:
    """Write one message: its length in eight bytes, and the message."""
    stream.write(len(data).to_bytes(8, "big"))
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes:
    """Read one message; raises `EOFError` when the other side has ended."""
    length = stream.read(8)
    if len(length) < 8:
        raise EOFError("no more messages")
    data = stream.read(int.from_bytes(length, "big"))
    if len(data) < int.from_bytes(length, "big"):
        raise EOFError("a message was cut off")
    return data


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a child has ended; its process id stays taken where possible, so that `_kill` reaches its group."""
    if hasattr(os, "waitid"):  # not on macOS before Python 3.13
        # Where SIGCHLD is ignored, or the program waits for all its children, this one has already been waited for.
        with contextlib.suppress(ChildProcessError):
            return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return process.poll() is not None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a child and what it has started, which may live on although the child itself has ended.

    Until somebody has waited for the child, no other process and no other group gets its id.
    """
    if process.returncode is not None:
        return
    if sys.platform == "win32":
        process.kill()
    else:
        # No such group, or on macOS one of which all processes have ended.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _died(process: subprocess.Popen[bytes], memory_mb: int) -> AnalysisFailed:
    code = process.wait()
    how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
    return AnalysisFailed(
        f"the process of the analysis {how}: it may have needed more memory than there is (limit {memory_mb:,} MB, "
        "ZORA_ANALYSIS_MEMORY_MB), or a program library failed on this input"
    )
