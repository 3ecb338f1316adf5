"""Running a slow function beside the event loop, and what threads may not do at once."""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

# Held while `ast.parse` runs: until 3.12, Python counts the depth of all threads' trees together and then reports
# "AST constructor recursion depth mismatch" for sound source (cpython issue 106905).
PARSING = threading.Lock()


async def in_thread(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Run `function` on a daemon thread and wait for it.

    Not `asyncio.to_thread`: its pool is waited for when the program ends, so that one function that never returns would
    keep a stopped worker alive. Cancelling the wait does not stop the thread, which nothing can; its result is dropped.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = context.run(function, *args, **kwargs)
        except StopIteration as error:  # a future cannot carry it
            failure = RuntimeError(f"{function!r} raised StopIteration")
            failure.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(deliver, result, failure)

    threading.Thread(target=work, daemon=True, name=f"zora-{getattr(function, '__name__', 'compute')}").start()
    return await future


class DaemonThreads(ThreadPoolExecutor):
    """An executor of daemon threads: the process can end while one of them is at work.

    For `asyncio.to_thread`, whose loop accepts no other class. Of the base class nothing is used: its threads are
    waited for when the process ends.
    """

    def __init__(self) -> None:
        """Start no thread yet; at most as many are started as in the base class."""
        super().__init__()
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting = threading.Semaphore(0)
        self._started = 0
        self._most = min(32, (os.cpu_count() or 1) + 4)

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call `function` on a thread that waits for a call, or on a new one unless there are enough."""
        future: Future[T] = Future()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = function(*args, **kwargs)
                except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
                    future.set_exception(error)
                else:
                    future.set_result(result)

        self._calls.put(call)
        if not self._waiting.acquire(blocking=False) and self._started < self._most:
            self._started += 1
            threading.Thread(target=self._work, daemon=True, name="zora-to-thread").start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads when they have no more calls, without waiting for them."""
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # what it holds can be large, and the next one may come late
            self._waiting.release()
