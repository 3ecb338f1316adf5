"""The engine of a runtime: claim, run, heartbeat, settle, and the upkeep that any worker does for all.

No transaction is open while a handler runs, and no task of ours waits for another: each settles by itself and frees its
slot. Every loop survives the loss of the database; an error that is not such a loss ends the worker, loudly.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
import time
from collections import deque
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
    from zora_core.database.database import Call, Database
    from zora_core.settings import Settings

logger = logging.getLogger("zora.runtime")

UPKEEP_SECONDS = 5.0
POLL_SECONDS = 1.0  # between the first looks after work, where nothing notifies; each pause is four times the last
AHEAD_SECONDS = 10.0  # what was claimed and has not begun after this time is handed back
EXPIRED_AT_ONCE = 1000  # tasks past their deadline that one upkeep lets fail
RESCUED_AT_ONCE = 1000  # of workers that vanished, each of which may have claimed hundreds ahead
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
        self._settler = Settler(database, more=lambda: self._handling > 0)
        self._claimed: deque[Run] = deque()
        """Not begun yet; see `Pace.ahead`."""
        self._taken = 0
        self._runs: list[TaskRun] | None = None
        self._group: asyncio.TaskGroup
        self._handling = 0
        self._handled = 0
        self._asked = (0, time.monotonic())
        """What `_handled` was at the last claim, and when that was."""
        self._wake = asyncio.Event()
        self._ran_dry = asyncio.Event()
        self._seal_due = asyncio.Event()
        self._reported = asyncio.Event()
        self._recorded = asyncio.Event()
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
        self._recorded.set()
        self._slot_freed.set()

    async def run(self, *, limit: int | None = None, poll_seconds: float | None = None) -> list[TaskRun]:
        """Work: with `limit`, until that many tasks ran or none is claimable; else until stopped.

        Without notifications the queue is looked at every `poll_seconds`, and more often after work. Returns the runs
        of a limited call.
        """
        self._runs = None if limit is None else []
        async with asyncio.TaskGroup() as group:
            self._group = group
            background = [group.create_task(self._settler.run()), group.create_task(self._heartbeat())]
            if limit is None:
                sealer = Sealer(self._database, self._settings)
                if self._database.notifies:
                    work = [self._upkeep(), sealer.run(), self._listen()]
                else:
                    work = [self._poll(poll_seconds or UPKEEP_SECONDS), sealer.run(self._seal_due)]
                background += [group.create_task(coroutine) for coroutine in work]
            else:
                await self._upkeep_once()
            try:
                with contextlib.suppress(_Stopped):
                    await self._claim(limit, poll_seconds if self._database.notifies else None)
                await self._finish()
                if self._runs:
                    await self._attend()  # to what these runs suggested; a loop does so anyway
            finally:
                for task in background:
                    task.cancel()
        return self._runs or []

    async def _claim(self, limit: int | None, poll_seconds: float | None) -> None:
        handled = 0
        while not self._stopping.is_set():
            room = self._room()
            if limit is not None:
                if self._taken >= limit:
                    if not self._claimed:
                        return
                    self._slot_freed.clear()
                    await self._slot_freed.wait()  # what is handed back does not count
                    continue
                room = min(room, limit - self._taken)
            if room <= 0:
                self._slot_freed.clear()
                await self._slot_freed.wait()
                continue
            self._wake.clear()
            alone = not self.running
            self._recorded.clear()
            rows = await self._claim_ready(room)
            self._taken += len(rows)
            self._claimed.extend(Run(row) for row in rows)
            self.running.update((run.task.id, run) for run in self._claimed)
            self._begin_claimed()
            if len(rows) == room:
                continue
            if limit is not None:
                if not rows and alone:
                    return
                if not rows:  # what ran meanwhile may have put something claimable into the queue, or may yet
                    await self._recorded.wait()
                continue
            if rows or self._handled > handled:
                handled = self._handled
                self._ran_dry.set()
            await self._sleep(poll_seconds)

    def _room(self) -> int:
        """How many tasks to claim now: what can begin at once, and what is as good as begun.

        Ahead of that as many as would be done within a second at the rate since the last claim, as far as the database
        finds that worth while; asked for when three quarters of it have begun, so that calls are few. It grows
        eightfold at most, because a short task says little of the next ones.
        """
        most = self._database.pace.ahead
        if not most:
            return self._concurrency - len(self.running)
        if len(self.running) > 4 * (self._concurrency + most):  # outcomes are not recorded as fast as they come
            return 0
        handled, asked = self._handled - self._asked[0], time.monotonic() - self._asked[1]
        ahead = min(most, 8 * handled, int(handled / max(asked, 0.001)))
        if len(self._claimed) > ahead // 4:
            return 0
        return self._concurrency + ahead - self._handling - len(self._claimed)

    def _begin_claimed(self) -> None:
        """Begin what was claimed, as far as there is room; when stopping, hand all of it back."""
        while self._claimed and (self._handling < self._concurrency or self._stopping.is_set()):
            self._begin(self._claimed.popleft())

    def _begin(self, run: Run) -> None:
        if self._stopping.is_set():
            run.stop("shutdown")
        run.started = time.monotonic()
        self._handling += 1
        run.work = self._group.create_task(self._work(run))

    def _hand_back_waiting(self) -> None:
        """What was claimed ahead and has not begun for long, because what runs takes long: others may have it."""
        since = time.monotonic() - AHEAD_SECONDS
        while self._claimed and self._claimed[0].started < since:
            run = self._claimed.popleft()
            run.stop("shutdown")
            self._taken -= 1
            self._begin(run)

    async def _claim_ready(self, limit: int) -> list[dict[str, Any]]:
        self._asked = (self._handled, time.monotonic())
        try:
            return await retrying(
                self._database,
                lambda: self._database.call(
                    "claim_agent_tasks",
                    tenant_id=self._settings.tenant_id,
                    worker_id=self.worker_id,
                    limit=limit,
                    lease_seconds=self._lease_seconds,
                    **({"begin": self._concurrency - self._handling} if self._database.pace.ahead else {}),
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

    async def _work(self, run: Run) -> None:
        """One task from its begin to settlement; `execute` turns whatever happens to the handler into an outcome."""
        begun = run.stop_reason is None
        if begun:
            self._observe(run.task)
        try:
            try:
                run.handling = True
                settlement = await execute(run, self._registry, self._context)
            finally:
                run.handling = False
                self._handling -= 1
                self._handled += begun  # what is handed back says nothing of how fast tasks go
                self._begin_claimed()
                if self._database.pace.ahead:
                    self._slot_freed.set()
            row = await self._settler.settle(settlement) if settlement is not None else None
        finally:
            del self.running[run.task.id]
            self._recorded.set()
            self._slot_freed.set()
            if not self.running and not self._database.notifies:
                self._wake.set()  # these runs may have made others claimable
        if not begun and run.stop_reason == "shutdown":  # as if it had not been claimed
            return
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
        if self._runs is not None:
            self._runs.append(ended)
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
            self._begin_claimed()
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
        """Six beats to a lease for all runs; in between, now and then (see `Pace`), one for those with news."""
        clock = asyncio.get_running_loop().time
        interval = self._lease_seconds / 6
        due = clock() + interval
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._reported.wait()
            self._reported.clear()
            self._hand_back_waiting()
            early = clock() < due
            # Soon enough for a second try before the leases end.
            within = self._lease_seconds / 3
            await retrying(self._database, lambda early=early: self._beat(only_news=early), within=within)  # type: ignore[misc]
            if not early:
                due = clock() + interval
            await asyncio.sleep(min(self._database.pace.progress_seconds, due - clock()))

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
        """Every few seconds; what waits for a moment is seen to at that moment."""
        while True:
            next_due = await self._upkeep_once()
            await asyncio.sleep(min(UPKEEP_SECONDS, max(next_due, 0.05)))

    async def _poll(self, longest: float) -> None:
        """Upkeep where nothing notifies, which is also how new tasks are found: one call each time.

        Every `longest` seconds, as long as nothing happens. Work makes more work likely: when the queue has run dry,
        the next look is a second later, and then each pause is four times the last.
        """
        clock = asyncio.get_running_loop().time
        shortest = min(POLL_SECONDS, longest)
        pause = longest
        while True:
            next_due = await self._upkeep_once()
            due = clock() + min(pause, max(next_due, shortest))
            while due > clock():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await self._ran_dry.wait()
                        self._ran_dry.clear()
                        pause = shortest
                        due = min(due, clock() + pause)
            pause = min(4 * pause, longest)

    async def _upkeep_once(self) -> float:
        """What any worker does for all; returns in how many seconds the next task or schedule falls due.

        Schedules are carried out; due tasks are made claimable; expired leases are taken back; tasks past their
        deadline fail; tasks that nobody waits for any more are cancelled; suggestions are attended to.
        """
        tenant_id = self._settings.tenant_id
        calls: list[Call] = [
            ("schedules_to_attend", {}),
            ("promote_agent_tasks", {}),
            ("rescue_agent_tasks", {"limit": RESCUED_AT_ONCE, "max_lost": MAX_LOST_LEASES}),
            ("expire_agent_tasks", {"limit": EXPIRED_AT_ONCE}),
            ("cancel_orphaned_agent_tasks", {}),
            ("attend_agent_suggestions", {}),
        ]
        if not self._database.notifies:
            calls += [("work_to_do", {"tenant_id": tenant_id})]
        answers = await retrying(self._database, lambda: self._database.batch(calls))
        (schedules,), (promotion,), rescued, (expired,) = answers[:4]
        next_fire_time = await retrying(self._database, lambda: attend_schedules(self._database, schedules))
        for row in rescued:
            logger.warning("took task %s back from a worker that vanished; it is %s now", row["id"], row["status"])
        if promotion["promoted"] or rescued:
            self._wake.set()
        if not self._database.notifies:
            (found,) = answers[-1]
            if found["tasks"]:
                self._wake.set()
            if found["entries"]:
                self._seal_due.set()
        if expired["expire_agent_tasks"] == EXPIRED_AT_ONCE or len(rescued) == RESCUED_AT_ONCE:
            return 0.0
        due = [seconds for seconds in (promotion["next_due_seconds"], next_fire_time) if seconds is not None]
        return min(due, default=math.inf)

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

        await retrying(self._database, listen_until_lost, lasting=True)
