"""The engine of a runtime: claim, run, heartbeat, settle, and the upkeep that any worker does for all.

No transaction is open while a handler runs, and no task of ours waits for another: each settles by itself and frees its
slot. Every loop survives the loss of the database; an error that is not such a loss ends the worker, loudly.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from zora_core.agents.context import TaskContext
from zora_core.autonomy.backoff import retrying
from zora_core.autonomy.execute import Run, execute
from zora_core.autonomy.schedules import attend_schedules
from zora_core.autonomy.settler import Settler
from zora_core.errors import DatabaseUnavailable
from zora_core.journal.sealing import Sealer
from zora_core.models import Task

if TYPE_CHECKING:
    from zora_core.agents.agent import Registry
    from zora_core.database.postgres import Database
    from zora_core.settings import Settings

logger = logging.getLogger("zora.runtime")

PROGRESS_SECONDS = 0.5  # at most so often is progress stored between two regular heartbeats
UPKEEP_SECONDS = 5.0
EXPIRED_AT_ONCE = 1000  # tasks past their deadline that one upkeep lets fail
MAX_LOST_LEASES = 3
RECORD_SECONDS = 5.0  # for recording what was cancelled, when the database may be gone


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """What became of one claimed task.

    `status` is the row's new status, or `lost` when the lease was lost and this worker wrote nothing; a `pending` task
    runs again later (`error` says why, if it failed this time).
    """

    task: Task
    status: str
    waiting_for: str | None = None
    summary: str | None = None
    error: str | None = None
    duration_seconds: float


class _Stopped(Exception):
    """The worker was asked to stop while it waited for the database."""


class Worker:
    """Works through one tenant's queue until stopped, or until nothing is left."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        settings: Settings,
        *,
        concurrency: int,
        lease_seconds: float,
        grace_seconds: float,
        observe: Callable[[Task | TaskRun], None] = lambda event: None,
    ) -> None:
        """Nothing runs before `run()`; `observe` is told of each task that starts and each run that ended."""
        # Fresh per process, so that a restarted worker is never taken for its predecessor.
        self.worker_id = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self.running: dict[UUID, Run] = {}
        self._database = database
        self._registry = registry
        self._settings = settings
        self._concurrency = concurrency
        self._lease_seconds = lease_seconds
        self._grace_seconds = grace_seconds
        self._observe = observe
        self._settler = Settler(database)
        self._wake = asyncio.Event()
        self._reported = asyncio.Event()
        self._slot_freed = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Stop claiming; running tasks get the grace period. A second call hands them back at once."""
        if self._stopping.is_set():
            self._grace_seconds = 0
            for run in self.running.values():
                run.stop("shutdown")
        self._stopping.set()
        self._wake.set()
        self._slot_freed.set()

    async def run(self, *, limit: int | None = None, poll_seconds: float | None = None) -> list[TaskRun]:
        """Work: with `limit`, until that many tasks ran or none is claimable; else until stopped.

        Without notifications the queue is looked at every `poll_seconds`. Returns the runs of a limited call.
        """
        runs: list[TaskRun] = []
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(self._settler.run()), group.create_task(self._heartbeat())]
            if limit is None:
                background.append(group.create_task(self._upkeep()))
                background.append(group.create_task(Sealer(self._database, self._settings).run()))
                if not self._database.pooled:
                    background.append(group.create_task(self._listen()))
            else:
                await self._upkeep_once()
            try:
                with contextlib.suppress(_Stopped):
                    await self._claim(group, runs, limit, poll_seconds)
                await self._finish()
                if limit is not None and runs:
                    await self._attend()  # to what these runs suggested; a loop does so anyway
            finally:
                for task in background:
                    task.cancel()
        return runs

    async def _claim(
        self, group: asyncio.TaskGroup, runs: list[TaskRun], limit: int | None, poll_seconds: float | None
    ) -> None:
        claimed = 0
        while not self._stopping.is_set():
            free = self._concurrency - len(self.running)
            if limit is not None:
                free = min(free, limit - claimed)
                if claimed >= limit:
                    return
            if free <= 0:
                self._slot_freed.clear()
                await self._slot_freed.wait()
                continue
            self._wake.clear()
            rows = await self._claim_ready(free)
            for row in rows:
                claimed += 1
                run = Run(row)
                self.running[run.task.id] = run
                run.work = group.create_task(self._work(run, runs if limit is not None else None))
            if len(rows) == free:
                continue
            if limit is not None:
                if not rows and not self.running:
                    return
                if not rows:  # what runs may yet put something claimable into the queue
                    self._slot_freed.clear()
                    await self._slot_freed.wait()
                continue
            await self._sleep(poll_seconds)

    async def _claim_ready(self, limit: int) -> list[dict[str, Any]]:
        try:
            return await retrying(
                self._database,
                lambda: self._database.call(
                    "claim_agent_tasks",
                    tenant_id=self._settings.tenant_id,
                    worker_id=self.worker_id,
                    limit=limit,
                    lease_seconds=self._lease_seconds,
                ),
                unless=self._stopping,
            )
        except DatabaseUnavailable as error:
            raise _Stopped from error

    async def _sleep(self, poll_seconds: float | None) -> None:
        """Until a notification, or for the polling interval."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(poll_seconds):
                await self._wake.wait()

    async def _work(self, run: Run, runs: list[TaskRun] | None) -> None:
        """One task from claim to settlement; `execute` turns whatever happens to the handler into an outcome."""
        self._observe(run.task)
        try:
            run.handling = True
            settlement = await execute(run, self._registry, self._context)
            run.handling = False
            row = await self._settler.settle(settlement) if settlement is not None else None
        finally:
            del self.running[run.task.id]
            self._slot_freed.set()
        ended = TaskRun(
            task=run.task,
            status=row["status"] if row else "lost",
            waiting_for=row["waiting_for"] if row else None,
            summary=settlement.summary if settlement else None,
            error=settlement.error if settlement else "the lease was lost; another worker has the task",
            duration_seconds=time.monotonic() - run.started,
        )
        if row is None:
            logger.warning("lost the lease of task %s: nothing was recorded", run.task.id)
        if runs is not None:
            runs.append(ended)
        self._observe(ended)

    def _context(self, run: Run) -> TaskContext:
        def report(fraction: float, message: str) -> None:
            run.report(fraction, message)
            if run.news is not None:
                self._reported.set()

        task = run.task
        return TaskContext(
            self._database,
            self._settings,
            task.tenant_id,
            run.claimed_at,
            self._registry,
            report,
            task_id=task.id,
            lease_token=run.lease_token,
        )

    async def _finish(self) -> None:
        """Let running tasks end; when stopping, only within the grace period, then hand them back."""
        if self._stopping.is_set() and self.running:
            await self._ended(self._grace_seconds)
            for run in self.running.values():
                run.stop("shutdown")
            await self._ended(RECORD_SECONDS)
            for run in self.running.values():
                logger.error("task %s could not be handed back: it runs again when its lease has expired", run.task.id)
                if run.work:
                    run.work.cancel()
        while self.running:
            self._slot_freed.clear()
            await self._slot_freed.wait()

    async def _ended(self, seconds: float) -> None:
        """Until every running task has ended, but not longer than this."""
        works = [run.work for run in self.running.values() if run.work]
        if works:
            await asyncio.wait(works, timeout=seconds)

    async def _heartbeat(self) -> None:
        """Six beats to a lease for all runs; in between, at most every `PROGRESS_SECONDS`, one for those with news."""
        clock = asyncio.get_running_loop().time
        interval = self._lease_seconds / 6
        due = clock() + interval
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._reported.wait()
            self._reported.clear()
            early = clock() < due
            await retrying(self._database, lambda early=early: self._beat(only_news=early))  # type: ignore[misc]
            if not early:
                due = clock() + interval
            await asyncio.sleep(min(PROGRESS_SECONDS, due - clock()))

    async def _beat(self, *, only_news: bool) -> None:
        """Prolong leases in one call, hand in progress that is new, learn of cancellations.

        Progress that the database has is not sent again: a beat with progress announces a change to whoever watches.
        """
        runs = [run for run in self.running.values() if not only_news or run.news is not None]
        if not runs:
            return
        news = [run.news or (None, None) for run in runs]
        rows = await self._database.call(
            "heartbeat_agent_tasks",
            ids=[run.task.id for run in runs],
            lease_tokens=[run.lease_token for run in runs],
            lease_seconds=self._lease_seconds,
            progress=[fraction for fraction, _ in news],
            messages=[message for _, message in news],
        )
        for run, sent in zip(runs, news, strict=True):
            if sent != (None, None):
                run.stored = sent
        for row in rows:
            held = self.running.get(row["id"])
            if held is not None and row["state"] in ("cancel", "lost"):
                held.stop(row["state"])

    async def _upkeep(self) -> None:
        while True:
            next_due = await self._upkeep_once()
            await asyncio.sleep(min(UPKEEP_SECONDS, max(next_due, 0.05)))

    async def _upkeep_once(self) -> float:
        """What any worker does for all; returns in how many seconds the next task or schedule falls due.

        Schedules are carried out; due tasks are made claimable; expired leases are taken back; tasks past their
        deadline fail; tasks that nobody waits for any more are cancelled; suggestions are attended to.
        """
        next_fire_time = await retrying(self._database, lambda: attend_schedules(self._database))
        (promotion,) = await retrying(self._database, lambda: self._database.call("promote_agent_tasks"))
        rescued = await retrying(
            self._database, lambda: self._database.call("rescue_agent_tasks", max_lost=MAX_LOST_LEASES)
        )
        expired = await retrying(
            self._database, lambda: self._database.value("expire_agent_tasks", limit=EXPIRED_AT_ONCE)
        )
        await retrying(self._database, lambda: self._database.call("cancel_orphaned_agent_tasks"))
        await self._attend()
        for row in rescued:
            logger.warning("took task %s back from a worker that vanished; it is %s now", row["id"], row["status"])
        if promotion["promoted"] or rescued:
            self._wake.set()
        if expired == EXPIRED_AT_ONCE:
            return 0.0
        due = [seconds for seconds in (promotion["next_due_seconds"], next_fire_time) if seconds is not None]
        return min(due, default=UPKEEP_SECONDS)

    async def _attend(self) -> None:
        """Apply what a policy approved, or people during a pause; let pass what nobody decided in time."""
        await retrying(self._database, lambda: self._database.call("attend_agent_suggestions"))

    async def _listen(self) -> None:
        """Wake on notifications for our tenant; while the connection is lost, polling goes on."""
        tenant = str(self._settings.tenant_id)

        def notified(payload: str) -> None:
            if payload == tenant:
                self._wake.set()

        async def listen_until_lost() -> None:
            async with self._database.listening("agent_tasks", notified) as lost:
                self._wake.set()  # whatever was created while nobody listened
                await lost.wait()
            raise DatabaseUnavailable("the connection for notifications was lost")

        await retrying(self._database, listen_until_lost)
