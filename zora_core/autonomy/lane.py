"""The event loop on which handlers run: on a thread of its own, so that a handler that blocks stops nothing else.

Heartbeats, settlements, signals and the API stay on the caller's loop. Nothing can end a thread from outside: a handler
that blocks for ever keeps its thread, and the worker goes on with another lane.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeVar, cast

from zora_core.autonomy.execute import failed, log_failure
from zora_core.safe_logger import safe_logger
from zora_core.threads import DaemonThreads

if TYPE_CHECKING:
    from zora_core.autonomy.execute import Run, Settlement
    from zora_core.database.database import Database, Row

logger = safe_logger("zora.runtime")
T = TypeVar("T")

STUCK_LOOKS = 3
CLOSE_SECONDS = 1.0
RESOURCES_SECONDS = 2.0  # for closing what handlers share


_TAKEN = object()
_HANDLER: ContextVar[Run | None] = ContextVar("handler", default=None)
"""The run whose handler runs. Tasks that a handler starts inherit it, and may outlive the run."""


class _HandlerTask(asyncio.Task[None]):
    """The task of a run. It notes when another run's handler cancels it, such as with all tasks of the loop.

    Before its first step it cannot be cancelled, because `_handle` must say what became of the run. Nor can a task
    whose run has been taken back: the run may have begun on another lane.
    """

    def __init__(self, run: Run, work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
        self._run = run
        super().__init__(work, loop=loop, context=_context_of(run))

    def cancel(self, msg: Any | None = None) -> bool:
        if self._run.work is not self:
            return False
        by = _HANDLER.get()
        if by is not None and by is not self._run and by.work is not None and not by.work.done():
            self._run.cancelled_by_another = True
        return super().cancel(msg)


def _context_of(run: Run | None) -> Context:
    context = copy_context()
    context.run(_HANDLER.set, run)
    return context


class _Shared:
    """What handlers share, the task that keeps it open, and how many runs wait until it is open."""

    keeper: asyncio.Task[None]

    def __init__(self, ready: asyncio.Future[Any]) -> None:
        self.ready = ready
        self.waiting = 0


class Lane:
    """An event loop on a daemon thread. `work` runs a handler there; `ended` is called there when it has ended."""

    def __init__(
        self,
        work: Callable[[Run], Coroutine[Any, Any, Settlement | None]],
        ended: Callable[[Run, Settlement | None], None],
    ) -> None:
        """Start the thread; its loop is of the same kind as the running one."""
        self.home = asyncio.get_running_loop()
        self._work = work
        self._ended = ended
        self._inbox: deque[Run] = deque()
        self.waiting: dict[Run, None] = {}
        """Runs whose handlers have not begun. A run is begun, or taken back, by whoever removes it from here."""
        self._woken = False
        self._tasks: dict[asyncio.Task[None], Run] = {}
        self._resources: dict[Callable[[], AbstractAsyncContextManager[Any]], _Shared] = {}
        """What handlers share, by what opens it."""
        self._closing = asyncio.Event()
        self._answered = True
        self._unanswered_looks = 0
        self._closed = False
        self._ending: asyncio.Task[None]
        self._loop = self._start()

    def submit(self, run: Run) -> None:
        """Have a run begin."""
        run.lane = self
        self.waiting[run] = None
        self._inbox.append(run)
        if not self._woken:
            self._woken = True
            self._call(self._begin)

    def cancel(self, run: Run) -> None:
        """Cancel a run's handler, if it is at work by the time that the loop gets to it."""
        self._call(self._cancel, run)

    def look(self) -> None:
        """Ask the loop for a sign of life, and count the looks that found the last question unanswered.

        Looks are counted and not seconds, because both loops stand still when the process is stopped.
        """
        if not self._answered:
            self._unanswered_looks += 1
            return
        self._unanswered_looks = 0
        self._answered = False
        self._call(self._answer)

    @property
    def stuck(self) -> bool:
        """Whether something blocks the loop."""
        return self._unanswered_looks >= STUCK_LOOKS

    @property
    def current(self) -> Run | None:
        """The run whose handler has the loop at this moment; None when it is a task that a handler has started."""
        task = asyncio.current_task(self._loop)
        return None if task is None else self._tasks.get(task)

    def take_back(self) -> list[Run]:
        """The runs that have not begun, which then do not begin here."""
        taken = []
        with contextlib.suppress(KeyError):  # the loop may take the last one at this moment
            while True:
                taken.append(self.waiting.popitem()[0])
        return taken[::-1]

    async def close(self) -> None:
        """Cancel what still runs and end the thread; a loop that is stuck is left to itself."""
        self._call(self._end)
        if not self.stuck:
            await asyncio.to_thread(self._thread.join, 2 * CLOSE_SECONDS + RESOURCES_SECONDS)

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = _loop_like(self.home)
        loop.set_default_executor(DaemonThreads())
        self._thread = threading.Thread(target=self._run, args=[loop], daemon=True, name="zora-handlers")
        self._thread.start()
        return loop

    # On the lane's own thread

    async def resources(self, opened: Callable[[], AbstractAsyncContextManager[Any]]) -> Any:
        """What this context manager gives, entered once on this loop; raises what entering it raises.

        When no run waits for it any more before it is open, entering it is given up, and the next run tries again.
        """
        shared = self._resources.get(opened)
        if shared is None:
            shared = self._resources[opened] = _Shared(self._loop.create_future())
            keeper = self._keep_open(opened, shared)
            shared.keeper = self._loop.create_task(keeper, context=_context_of(None))  # it belongs to no run
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.ready)  # a run that is stopped does not stop it for the others
        finally:
            shared.waiting -= 1
            if not shared.waiting and not shared.ready.done():
                shared.ready.cancel()
                shared.keeper.cancel()
                self._forget(opened, shared)

    async def _keep_open(self, opened: Callable[[], AbstractAsyncContextManager[Any]], shared: _Shared) -> None:
        """Enter and leave a context manager in one task, as many of them must be; the next run may try again."""
        try:
            async with opened() as resources:
                if shared.ready.cancelled():  # it was given up, and went on opening
                    return
                shared.ready.set_result(resources)
                await self._closing.wait()
        except BaseException as error:  # noqa: BLE001 - it is somebody else's code, and may raise anything
            if not shared.ready.done():
                shared.ready.set_exception(error)
                shared.ready.exception()  # a run that was stopped at this moment does not read it
            elif not isinstance(error, asyncio.CancelledError):
                log_failure(
                    error, "opening or closing the resources of %s failed", getattr(opened, "__qualname__", opened)
                )
        finally:
            self._forget(opened, shared)

    def _forget(self, opened: Callable[[], AbstractAsyncContextManager[Any]], shared: _Shared) -> None:
        """Have the next run open these resources anew, unless another run has done so already."""
        if self._resources.get(opened) is shared:
            del self._resources[opened]

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the loop until the lane is closed. If a handler stops the loop, run it again for the other handlers."""
        while not self._closed:
            try:
                loop.run_forever()
            except BaseException as error:  # noqa: BLE001 - a task's exit ends that task only
                log_failure(error, "a task that a handler had started tried to end the process")
            else:
                if not self._closed:
                    logger.error("a handler stopped the event loop that handlers share; it runs again")
        loop.close()

    def _begin(self) -> None:
        """Begin all runs that were submitted, each in a step of its own: one that blocks holds up those behind it."""
        self._woken = False
        while self._inbox:
            run = self._inbox.popleft()
            if run not in self.waiting:  # taken back
                continue
            task = _HandlerTask(run, self._handle(run), self._loop)
            self._tasks[task] = run

    async def _handle(self, run: Run) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        if self.waiting.pop(run, _TAKEN) is _TAKEN:
            del self._tasks[task]
            return
        run.work = task
        self._loop.set_task_factory(None)  # one that an earlier handler has set, and which may fail
        outcome: Settlement | None = None
        try:
            outcome = await self._work(run)
        except BaseException as error:  # noqa: BLE001 - one run must not end the worker, nor what runs beside it
            outcome = failed(run, error)
        finally:
            del self._tasks[task]
            run.work = None  # else the two would hold each other until Python looks for such circles
            self._ended(run, outcome)

    def _cancel(self, run: Run) -> None:
        if run.handling and run.work is not None:
            run.work.cancel()

    def _answer(self) -> None:
        self._answered = True

    def _end(self) -> None:
        self._loop.set_task_factory(None)
        self._ending = self._loop.create_task(self._cancel_all())

    async def _cancel_all(self) -> None:
        """Cancel every task until all have ended, and end the thread; a task that never ends keeps its loop and thread.

        Handlers are cancelled first, then what they share is closed.

        Without a loop its next `await` would fail at once: one that tries again for ever would run in circles when
        Python collects it, on whatever thread that is, also while the process ends.
        """
        try:
            self.waiting.clear()
            if handlers := set(self._tasks):
                for task in handlers:
                    task.cancel()
                await asyncio.wait(handlers, timeout=CLOSE_SECONDS)
            self._closing.set()
            if keepers := {shared.keeper for shared in self._resources.values()}:
                await asyncio.wait(keepers, timeout=RESOURCES_SECONDS)
            while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            await self._loop.shutdown_asyncgens()
        except asyncio.CancelledError:  # a handler may cancel every task of the loop, this one included
            self._loop.call_later(CLOSE_SECONDS, self._end)
            return
        self._closed = True
        self._loop.stop()

    def _call(self, callback: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # it is closed already
            self._loop.call_soon_threadsafe(callback, *arguments)


def _loop_like(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    if type(loop).__module__.partition(".")[0] == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


class CallsElsewhere:
    """The calls of a database whose connections belong to another event loop, where they are carried out.

    It has what a `TaskContext` needs of a `Database`, and no more: a handler opens, closes and migrates nothing.
    """

    def __init__(self, database: Database, home: asyncio.AbstractEventLoop) -> None:
        """Call `database` on the loop `home`."""
        self._database = database
        self._home = home

    async def call(self, function: str, /, **arguments: Any) -> list[Row]:
        """See `Database.call`."""
        return await self._there(self._database.call(function, **arguments))

    async def value(self, function: str, /, **arguments: Any) -> Any:
        """See `Database.value`."""
        return await self._there(self._database.value(function, **arguments))

    async def _there(self, call: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self._home))
