"""`AgentRuntime`: claims tasks from the shared queue and has the six agents work on them.

runtime = AgentRuntime()
results = await runtime.run_once(limit=10)
await runtime.run_loop(sleep_seconds=30)
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from zora_core.agents.agent import Agent
from zora_core.agents.builtin import registry
from zora_core.autonomy.worker import TaskRun, Worker, log_failure
from zora_core.database.backoff import retrying
from zora_core.database.connect import check_tenant, open_database
from zora_core.errors import ConfigurationError, DatabaseUnavailable
from zora_core.models import Task
from zora_core.settings import Settings, load_settings

if TYPE_CHECKING:
    from uuid import UUID

    from zora_core.autonomy.execute import Run
    from zora_core.database.database import Database

__all__ = ["AgentRuntime", "TaskRun", "is_runtime_configured"]


def is_runtime_configured() -> bool:
    """Whether the environment is complete: all of Supabase's variables, a DATABASE_URL, or none (embedded)."""
    try:
        load_settings()
    except ConfigurationError:
        return False
    return True


class AgentRuntime:
    """Works through one tenant's tasks with the six agents and those of `agents`.

    `concurrency` tasks run at a time. A lease lasts `lease_seconds` and is prolonged while its task runs; when this
    process dies, another one takes its tasks back after that time. It claims tasks of the types that it has, or only
    those of `only_agents` and `only_types` (names; empty is all). `observe` is called with each task that starts (a
    `Task`) and each run that ended (a `TaskRun`); unless given, failed runs are logged as warnings.
    """

    def __init__(
        self,
        *,
        agents: Iterable[Agent] = (),
        settings: Settings | None = None,
        database: Database | None = None,
        concurrency: int = 4,
        lease_seconds: float = 30,
        grace_seconds: float = 10,
        only_agents: Iterable[str] = (),
        only_types: Iterable[str] = (),
        observe: Callable[[Task | TaskRun], None] = log_failure,
    ) -> None:
        """Read the environment unless `settings` are given; a given `database` is used and left open.

        Raises `ConfigurationError` naming what is missing or wrong.
        """
        if concurrency < 1:
            raise ConfigurationError(f"concurrency must be at least 1, not {concurrency}")
        if lease_seconds <= 0:
            raise ConfigurationError(f"lease_seconds must be positive, not {lease_seconds}")
        self.settings = settings or load_settings()
        self.registry = registry(tuple(agents))
        self._claims = self.registry.select(only_agents, only_types)
        self._database = database
        self._concurrency = concurrency
        self._lease_seconds = lease_seconds
        self._grace_seconds = grace_seconds
        self._observe = observe
        self._worker: Worker | None = None
        self._stopping: asyncio.Event | None = None
        """Set by `stop()` while a call waits for the database; None when nothing runs."""

    async def run_once(self, limit: int = 10) -> list[TaskRun]:
        """Run up to `limit` claimable tasks and return what became of them, in the order in which they ended.

        Cancelled, as `asyncio.run` does on Ctrl-C, it hands back what runs without waiting.
        """
        if limit < 1:
            raise ConfigurationError(f"limit must be at least 1, not {limit}")
        async with self._working() as worker:
            return [] if worker is None else await self._carried_out(worker, limit=limit)

    async def run_loop(self, sleep_seconds: float = 30) -> None:
        """Run tasks as they come, until `stop()`; then wait `grace_seconds` for running tasks and hand the rest back.

        Notifications wake it at once; without them it looks every `sleep_seconds` seconds. Signals are left to the
        program around it. Cancelled, as `asyncio.run` does on Ctrl-C, it hands back what runs without waiting.
        """
        if sleep_seconds <= 0:
            raise ConfigurationError(f"sleep_seconds must be positive, not {sleep_seconds}")
        async with self._working(wait=True) as worker:
            if worker is None:
                return
            await self._carried_out(worker, poll_seconds=sleep_seconds)

    @property
    def running(self) -> dict[UUID, Run]:
        """The runs that this runtime has in hand at this moment, by lease token."""
        return self._worker.running if self._worker else {}

    def stop(self) -> None:
        """End `run_loop`; a second call does not wait for running tasks."""
        if self._stopping is not None:
            self._stopping.set()
        if self._worker is not None:
            self._worker.stop()

    async def _carried_out(self, worker: Worker, **options: Any) -> list[TaskRun]:
        """Have a worker work; when this is cancelled, it hands back what runs before the cancellation goes on."""
        work = asyncio.create_task(worker.run(**options))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            for _ in range(2):
                worker.stop()
            await work
            raise

    @asynccontextmanager
    async def _working(self, *, wait: bool = False) -> AsyncIterator[Worker | None]:
        """A worker over an open database; None when it was stopped before the database could be reached."""
        if self._stopping is not None:
            raise ConfigurationError("this AgentRuntime is already running: make another one for a second loop")
        self._stopping = asyncio.Event()
        try:
            database = self._database or await self._open(self._stopping, wait=wait)
            if database is not None:
                self._worker = Worker(
                    database,
                    self.registry,
                    self.settings,
                    concurrency=self._concurrency,
                    lease_seconds=self._lease_seconds,
                    grace_seconds=self._grace_seconds,
                    claims=self._claims,
                    observe=self._observe,
                )
                if self._stopping.is_set():
                    self._worker.stop()
            try:
                yield self._worker
            finally:
                if database is not None and self._database is None:
                    await database.close()
        finally:
            self._worker = self._stopping = None

    async def _open(self, stopping: asyncio.Event, *, wait: bool) -> Database | None:
        """The database of the settings; None when a call that waits for it was stopped."""
        database: Database | None = None
        try:
            database = await open_database(self.settings, wait=wait, unless=stopping)
            await self._check(database, stopping if wait else None)
        except BaseException as error:
            if database is not None:
                await database.close()
            if wait and stopping.is_set() and isinstance(error, DatabaseUnavailable):
                return None
            raise
        return database

    async def _check(self, database: Database, stopping: asyncio.Event | None) -> None:
        """Check the tenant; with `stopping`, wait until the database answers or the event is set."""

        async def check() -> None:
            await check_tenant(database, self.settings)

        await (check() if stopping is None else retrying(database, check, unless=stopping))


@contextlib.contextmanager
def on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM and SIGINT, where signals can be had (the main thread; not on Windows)."""
    loop = asyncio.get_running_loop()
    handled = []
    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(name, stop)
                handled.append(name)
    try:
        yield
    finally:
        for name in handled:
            loop.remove_signal_handler(name)
