"""Running a slow function beside the event loop, and what threads may not do at once."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
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
        except BaseException as error:  # noqa: BLE001 - carried to whoever waits
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(deliver, result, failure)

    threading.Thread(target=work, daemon=True, name=f"zora-{getattr(function, '__name__', 'compute')}").start()
    return await future
