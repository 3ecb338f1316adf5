"""The engine of a runtime: claim, run, heartbeat, settle, and the upkeep that any worker does for all.

No transaction is open while a handler runs, and no task of ours waits for another: each settles by itself and frees its
slot. Handlers run on a thread of their own (`lane.py`), so that nothing they do stops what is here. Every loop survives
the loss of the database; an error that is not such a loss ends the worker, loudly.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

from zora_core import __version__
from zora_core.agents.context import TaskContext
from zora_core.autonomy.execute import Run, Settlement, execute
from zora_core.autonomy.lane import CallsElsewhere, Lane
from zora_core.autonomy.settler import Settler
from zora_core.database.backoff import MAX_SECONDS, insisting, retrying
from zora_core.database.database import ANSWER_SECONDS
from zora_core.errors import DatabaseUnavailable
from zora_core.journal.sealing import Sealer
from zora_core.masking import mask
from zora_core.models import Task
from zora_core.safe_logger import safe_logger
from zora_core.schedules import attend_schedules

if TYPE_CHECKING:
    from zora_core.agents.agent import Registry, TaskType
    from zora_core.database.database import Database
    from zora_core.settings import Settings

logger = safe_logger("zora.runtime")

UPKEEP_SECONDS = 5.0
POLL_SECONDS = 1.0  # between the first looks after work, where nothing notifies; each pause is four times the last
AHEAD_SECONDS = 10.0  # what was claimed and has not begun after this time is handed back
EXPIRED_AT_ONCE = 1000  # tasks past their deadline that one upkeep lets fail
RESCUED_AT_ONCE = 1000  # of workers that vanished, each of which may have claimed hundreds ahead
MAX_LOST_LEASES = 3
RECORD_SECONDS = 5.0  # for recording what was cancelled, when the database may be gone
WATCH_SECONDS = 0.5  # between looks at handlers that should have ended, and at the loop that they run on
ABANDON_LOOKS = 4  # that found a handler at work after its limit, or after it was told to stop
# With at least this many running handlers, outcomes are collected once per COLLECT_SECONDS instead of one by one,
# because each collection takes Python's global lock from the handlers.
MANY = 16
COLLECT_SECONDS = 0.001
ONCE_SECONDS = 3600.0  # for which a limited run counts as running, unless it says that it has ended


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """The outcome of one claimed task.

    `status` is the row's new status, or `lost` when the lease was lost and this worker wrote nothing; a `pending` task
    runs again later (`error` says why, if it failed this time).
    """

    task: Task
    status: str
    waiting_for: str | None = None
    summary: str | None = None
    error: str | None = None
    failure_kind: str | None = None
    duration_seconds: float


def log_failure(event: Task | TaskRun) -> None:
    """Log a run that failed, also if it will be tried again: the observer where a program gives none."""
    if isinstance(event, TaskRun) and event.failure_kind is not None:
        task = event.task
        logger.warning(
            "task %s failed: %s %s (%s): %s", task.id, task.agent_id, task.task_type, event.failure_kind, event.error
        )


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
        claims: Iterable[TaskType] | None = None,
        observe: Callable[[Task | TaskRun], None] = log_failure,
    ) -> None:
        """Nothing runs before `run()`.

        `claims` are the task types to run, all of the registry's unless given. `observe` is called with each task that
        starts and each run that ended; unless given, failed runs are logged as warnings.
        """
        # Fresh per process, so that a restarted worker is never taken for its predecessor.
        self.worker_id = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self.running: dict[UUID, Run] = {}
        """By lease token: a worker that gets its own task back has two runs of it until the old one has stopped."""
        self._database = database
        self._registry = registry
        self._settings = settings
        self._concurrency = concurrency
        self._lease_seconds = lease_seconds
        self._grace_seconds = grace_seconds
        self._task_types = [str(task_type) for task_type in (registry if claims is None else claims)]
        self._observe = observe
        self._settler = Settler(
            database,
            recorded=self._settled,
            refused=self._look_again,
            more=lambda: bool(self._begun),
        )
        self._claimed: deque[Run] = deque()
        """Not begun yet; see `Pace.ahead`."""
        self._begun: dict[UUID, Run] = {}
        """Whose handlers are at work, by lease token."""
        self._lanes: list[Lane] = []
        """By age. One that is stuck stays until it answers again."""
        self._lane: Lane
        """Takes what begins: the oldest that is not stuck, since locks and clients that handlers share belong to it."""
        self._ended: deque[tuple[Run, Settlement | None]] = deque()
        """Filled by the lanes, who set `_arriving` and have `_arrived` set."""
        self._arriving = False
        self._claiming = asyncio.Lock()
        """Held from a claim's call until its tasks are in `running`, and while expired leases are taken back."""
        self._spared: set[UUID] = set()
        """The tasks whose last run here was `spared`."""
        self._taken = 0
        self._runs: list[TaskRun] | None = None
        self._handled = 0
        self._asked = (0, time.monotonic())
        """What `_handled` was at the last claim, and when that was."""
        self._ticked: tuple[float, float] | None = None
        """When the heartbeat last went round, by the loop's clock and by the machine's, which also counts sleep."""
        self._settled_at = -math.inf
        """When the pause of this process is long enough ago to take tasks back; by the loop's clock."""
        self._wake = asyncio.Event()
        self._ran_dry = asyncio.Event()
        self._seal_due = asyncio.Event()
        self._suggestions_due = asyncio.Event()
        self._reported = asyncio.Event()
        self._recorded = asyncio.Event()
        self._slot_freed = asyncio.Event()
        self._busy = asyncio.Event()
        self._arrived = asyncio.Event()
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
        of a limited call. A database that cannot serve calls is waited for, but by a limited call only while it has
        tasks in hand: it raises `DatabaseUnavailable` at its start, and later after `ANSWER_SECONDS`.
        """
        self._runs = None if limit is None else []
        self._lanes.clear()
        self._lane = self._new_lane()
        mask("")  # reads its data now, because a handler may use up all file descriptors later
        try:
            if limit is not None:
                await self._upkeep_once(ONCE_SECONDS, patience=0)
                await self._attend(patience=0)
            async with asyncio.TaskGroup() as group:
                work = [self._settler.run(), self._heartbeat(), self._collect(), self._watch()]
                if limit is None:
                    work.append(self._attend_when_due())
                    sealer = Sealer(self._database, self._settings)
                    if self._database.notifies:
                        work += [self._upkeep(), sealer.run(), self._listen()]
                    else:
                        work += [self._poll(poll_seconds or UPKEEP_SECONDS), sealer.run(self._seal_due)]
                background = [group.create_task(coroutine) for coroutine in work]
                try:
                    with contextlib.suppress(_Stopped):
                        await self._claim(limit, poll_seconds if self._database.notifies else None)
                    await self._finish()
                    if self._runs:
                        await self._attend(ANSWER_SECONDS)  # to what these runs suggested; a loop does so anyway
                finally:
                    for task in background:
                        task.cancel()
            await self._leave()
        finally:
            for run in self._begun.values():
                run.stop("shutdown")
            for lane in self._lanes:
                await lane.close()
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
            idle = not self.running
            self._recorded.clear()
            rows = await self._claim_ready(room)
            self._begin_claimed()
            if len(rows) == room:
                continue
            if limit is not None:
                if not rows and idle:
                    return
                if not rows:  # what ran meanwhile may have put something claimable into the queue, or may yet
                    await self._recorded.wait()
                continue
            if rows or self._handled > handled:
                handled = self._handled
                self._ran_dry.set()
            await self._sleep(poll_seconds)

    def _take(self, rows: list[dict[str, Any]]) -> None:
        """Hold what was claimed. When a run of the same task is here already, that one has lost its lease."""
        runs = [Run(row) for row in rows]
        claimed = {run.task.id for run in runs}
        for old in self.running.values():
            if old.task.id in claimed:
                old.stop("lost")
        for run in runs:
            run.spared_before = run.task.id in self._spared
        self._taken += len(runs)
        self._claimed.extend(runs)
        self.running.update((run.lease_token, run) for run in runs)

    def _room(self) -> int:
        """How many tasks to claim now: what can begin at once, and what is as good as begun.

        Ahead of that as many as would be done within a second at the rate since the last claim, as far as the database
        finds that worth while; asked for when three quarters of it have begun, so that calls are few. It grows
        eightfold at most, because a short task says little of the next ones. Nothing beside a suspect.
        """
        at_work = self._at_work()
        if any(run.suspect for run in at_work):
            return 0
        most = self._database.pace.ahead
        if len(self.running) > 4 * (self._concurrency + most):  # outcomes are not recorded as fast as they come
            return 0
        if not most:
            return self._concurrency - len(at_work)
        handled, asked = self._handled - self._asked[0], time.monotonic() - self._asked[1]
        ahead = min(most, 8 * handled, int(handled / max(asked, 0.001)))
        if len(self._claimed) > ahead // 4:
            return 0
        return self._concurrency + ahead - len(self._begun) - len(self._claimed)

    def _at_work(self) -> list[Run]:
        """The runs in hand, without those that have ended with an outcome that the database refuses for now."""
        held = self._settler.held
        return [run for token, run in self.running.items() if token not in held]

    def _begin_claimed(self) -> None:
        """Begin what was claimed, as far as there is room; when stopping, hand all of it back."""
        while self._claimed and (len(self._begun) < self._concurrency or self._stopping.is_set()):
            run = self._claimed.popleft()
            if self._stopping.is_set():
                run.stop("shutdown")
            self._begin(run)

    def _begin(self, run: Run) -> None:
        run.started = time.monotonic()
        if run.stop_reason is not None:
            self._settle(run, run.stopped())
            return
        self._begun[run.lease_token] = run
        self._busy.set()
        self._observe(run.task)
        self._lane.submit(run)

    def _hand_back_waiting(self) -> None:
        """What was claimed ahead and has not begun for long, because what runs takes long: others may have it."""
        since = time.monotonic() - AHEAD_SECONDS
        while self._claimed and self._claimed[0].started < since:
            run = self._claimed.popleft()
            run.stop("shutdown")
            self._taken -= 1
            self._begin(run)

    async def _claim_ready(self, limit: int) -> list[dict[str, Any]]:
        async def claim() -> list[dict[str, Any]]:
            async with self._claiming:
                rows = await self._database.call(
                    "claim_agent_tasks",
                    tenant_id=self._settings.tenant_id,
                    worker_id=self.worker_id,
                    limit=limit,
                    lease_seconds=self._lease_seconds,
                    task_types=self._task_types,
                    idle=not self._at_work(),
                )
                self._take(rows)
            return rows

        self._asked = (self._handled, time.monotonic())
        try:
            patience = math.inf if self._runs is None or self.running else ANSWER_SECONDS
            return await retrying(self._database, insisting(claim), unless=self._stopping, patience=patience)
        except DatabaseUnavailable as error:
            if not self._stopping.is_set():
                raise
            raise _Stopped from error

    async def _sleep(self, poll_seconds: float | None) -> None:
        """Until a notification, or for the polling interval."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(poll_seconds):
                await self._wake.wait()

    # What runs: begun above, carried out on a lane, and back here when it has ended

    def _new_lane(self) -> Lane:
        def ended(run: Run, outcome: Settlement | None) -> None:
            self._ended.append((run, outcome))
            if not self._arriving:
                self._arriving = True
                _set_from_elsewhere(self._arrived, home)

        def work(run: Run) -> Coroutine[Any, Any, Settlement | None]:
            return execute(run, self._registry, context)

        def context(run: Run) -> TaskContext:
            def report(fraction: float, message: str) -> None:
                run.report(fraction, message)
                if run.news is not None and not self._reported.is_set():
                    _set_from_elsewhere(self._reported, home)

            task = run.task
            return TaskContext(
                database,
                self._settings,
                task.tenant_id,
                run.claimed_at,
                self._registry,
                report,
                task_id=task.id,
                lease_token=run.lease_token,
                computing=run.limit.computing,
            )

        home = asyncio.get_running_loop()
        database = cast("Database", CallsElsewhere(self._database, home))
        lane = Lane(work, ended)
        self._lanes.append(lane)
        return lane

    async def _collect(self) -> None:
        """Settle the runs whose handlers have ended."""
        while True:
            if len(self._begun) >= MANY:  # what ends meanwhile is settled together
                await asyncio.sleep(COLLECT_SECONDS)
            self._arriving = False
            if not self._ended:
                await self._arrived.wait()
            self._arrived.clear()
            while self._ended:
                run, outcome = self._ended.popleft()
                if run.lease_token not in self._begun:  # it was abandoned
                    continue
                self._end(run, outcome)

    def _end(self, run: Run, settlement: Settlement | None) -> None:
        """A handler has ended, or is waited for no longer."""
        del self._begun[run.lease_token]
        (self._spared.add if run.spared else self._spared.discard)(run.task.id)
        self._handled += 1  # what is handed back before it began says nothing of how fast tasks go
        self._begin_claimed()
        if self._database.pace.ahead:
            self._slot_freed.set()
        self._settle(run, settlement)

    def _settle(self, run: Run, settlement: Settlement | None) -> None:
        if settlement is None:
            self._record(run, None, None)
        else:
            self._settler.settle(settlement)

    def _settled(self, settlement: Settlement, row: dict[str, Any] | None) -> None:
        run = self.running.get(settlement.lease_token)
        if run is not None:  # else the worker stopped waiting for the database
            self._record(run, settlement, row)

    def _record(self, run: Run, settlement: Settlement | None, row: dict[str, Any] | None) -> None:
        """A run is over, and its outcome recorded unless its lease was lost."""
        del self.running[run.lease_token]
        self._look_again()
        if run.lane is None and run.stop_reason == "shutdown":  # as if it had not been claimed
            return
        ended = TaskRun(
            task=run.task,
            status=row["status"] if row else "lost",
            waiting_for=row["waiting_for"] if row else None,
            summary=settlement.summary if settlement else None,
            error=settlement.error if settlement else "the lease was lost: the task has been taken back",
            failure_kind=settlement.failure_kind if settlement and row else None,
            duration_seconds=time.monotonic() - run.started,
        )
        if row is None:
            logger.warning("lost the lease of task %s: nothing was recorded", run.task.id)
        if self._runs is not None:
            self._runs.append(ended)
        self._observe(ended)

    def _look_again(self) -> None:
        """A run is over, or its outcome is refused for now."""
        self._recorded.set()
        self._slot_freed.set()
        if self.running.keys() <= self._settler.held.keys():  # none is at work
            self._wake.set()  # these runs may have made others claimable, and a suspect waits for an idle worker

    async def _watch(self) -> None:
        """Give up on handlers that do not end when they should, and on the thread that one of them blocks."""
        while True:
            if not self._begun:
                self._busy.clear()
            await self._busy.wait()
            await asyncio.sleep(WATCH_SECONDS)
            for lane in self._lanes:
                lane.look()
            lane = self._lane
            self._lane = next((lane for lane in self._lanes if not lane.stuck), None) or self._new_lane()
            if lane.stuck:
                for run in lane.take_back():
                    self._lane.submit(run)
                current = lane.current
                logger.error(
                    "a handler blocks the event loop: %s. Other tasks continue on another thread. An async handler "
                    "must not compute or sleep without await: make it a plain function, or use ctx.compute",
                    f"{current.task.agent_id} {current.task.task_type} (task {current.task.id})"
                    if current
                    else "a task that a handler started",
                )
            now = time.monotonic()
            for run in list(self._begun.values()):
                if run.stop_reason is not None or run.limit.due < now:
                    run.overdue_looks += 1
                    if run.overdue_looks >= ABANDON_LOOKS and run.lease_token in self._begun:
                        self._abandon(run)
            begun = {run.lane for run in self._begun.values()}
            for lane in self._lanes[:]:
                if lane is not self._lane and lane not in begun and not lane.stuck:
                    self._lanes.remove(lane)
                    await lane.close()

    def _abandon(self, run: Run) -> None:
        """Record what a run should have ended as; its handler may go on, but can write nothing any more.

        If it blocks its lane, the lane's other runs are handed back: they cannot go on, which is not their fault.
        """
        lane = run.lane
        assert lane is not None
        current = lane.current if lane.stuck else run
        if current is not run and current is not None and current.lease_token in self._begun:
            run.stop("shutdown")
        else:
            logger.error(
                "%s %s (task %s) did not stop %s: its slot is given to others",
                run.task.agent_id,
                run.task.task_type,
                run.task.id,
                "when told to" if run.stop_reason else f"at its limit of {run.limit_seconds} seconds",
            )
        self._end(run, run.stopped() if run.stop_reason else run.timed_out())
        if lane.stuck and current in (run, None):
            for other in [other for other in self._begun.values() if other.lane is lane]:
                other.stop("shutdown")
                self._end(other, other.stopped())

    async def _finish(self) -> None:
        """Let running tasks end; when stopping, only within the grace period, then hand them back."""
        if self._stopping.is_set() and self.running:
            self._begin_claimed()
            await self._none_running(lambda: self._grace_seconds, besides=self._settler.held)
            for run in self.running.values():
                run.stop("shutdown")
            self._settler.release_held()
            await self._none_running(lambda: RECORD_SECONDS)
            for run in self.running.values():
                logger.error("task %s could not be handed back: it runs again when its lease has expired", run.task.id)
            self.running.clear()
        await self._none_running(lambda: math.inf)

    async def _none_running(self, seconds: Callable[[], float], besides: Collection[UUID] = ()) -> None:
        """Until every running task has ended, but not longer than this, which may change meanwhile.

        The runs `besides`, by lease token, are not waited for.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        while not all(token in besides for token in self.running) and (left := began + seconds() - clock()) > 0:
            self._slot_freed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if left == math.inf else left):
                    await self._slot_freed.wait()

    # What goes on beside: heartbeats, and the upkeep for all

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
            self._tick()
            self._hand_back_waiting()
            early = clock() < due
            # Soon enough for a second try before the leases end.
            within = self._lease_seconds / 3
            await retrying(self._database, insisting(partial(self._beat, only_news=early)), within=within)
            if not early:
                due = clock() + interval
            await asyncio.sleep(min(self._database.pace.progress_seconds, due - clock()))

    def _tick(self) -> None:
        """Note that the heartbeat went round; when it is late, this process was paused or waited for the database."""
        if self._pause_seconds() > self._lease_seconds / 3:
            self._settled_at = asyncio.get_running_loop().time() + self._lease_seconds / 3
        self._ticked = (asyncio.get_running_loop().time(), time.time())

    def _pause_seconds(self) -> float:
        """Seconds since the heartbeat last went round."""
        if self._ticked is None:
            return 0.0
        loop_time, machine_time = self._ticked
        return max(asyncio.get_running_loop().time() - loop_time, time.time() - machine_time)

    def _may_rescue(self) -> bool:
        """Whether an expired lease means that its worker is gone.

        Not right after an outage, or after a pause of this process, such as a laptop's sleep: then other workers may
        have been cut off or paused as well, and need a moment to prolong their leases.
        """
        if self._pause_seconds() > self._lease_seconds / 3:
            return False
        if asyncio.get_running_loop().time() < self._settled_at:
            return False
        return not self._database.outage.is_recent(self._lease_seconds / 3, MAX_SECONDS)

    async def _beat(self, *, only_news: bool) -> None:
        """Prolong leases in one call, hand in progress that is new, learn of cancellations.

        Progress that the database has is not sent again: a beat with progress announces a change to watchers.
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
            held = self.running.get(row["lease_token"])
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
            next_due = await self._upkeep_once(longest)
            due = clock() + min(pause, max(next_due, shortest))
            while due > clock():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await self._ran_dry.wait()
                        self._ran_dry.clear()
                        pause = shortest
                        due = min(due, clock() + pause)
            pause = min(4 * pause, longest)

    async def _upkeep_once(self, pause: float = UPKEEP_SECONDS, patience: float = math.inf) -> float:
        """What any worker does for all; returns in how many seconds the next task or schedule falls due.

        Schedules are carried out; due tasks are made claimable; expired leases are taken back; tasks past their
        deadline, or of a type that no worker knows, fail; tasks that nobody waits for any more are cancelled. The next
        upkeep comes after `pause` seconds at most. After `patience` seconds a database that cannot serve calls is not
        waited for any more.

        What this worker runs itself it does not take back, although the leases have expired after a pause of the whole
        process, such as a laptop's sleep.
        """

        together = not self._database.notifies  # over HTTP a call more is a request more

        async def rescue() -> dict[str, list[dict[str, Any]]]:
            async with self._claiming:
                return await carried_out(self._rescue_call() | (self._upkeep_calls(pause) if together else {}))

        async def carried_out(calls: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
            return dict(zip(calls, await self._database.batch(list(calls.items())), strict=True))

        answers = await retrying(self._database, insisting(rescue), patience=patience)
        if not together:  # claims need not wait for the rest
            others = insisting(lambda: carried_out(self._upkeep_calls(pause)))
            answers |= await retrying(self._database, others, patience=patience)
        (schedules,), (promotion,) = answers["schedules_to_attend"], answers["promote_agent_tasks"]
        rescued, (expired,) = answers["rescue_agent_tasks"], answers["expire_agent_tasks"]
        attend = insisting(lambda: attend_schedules(self._database, schedules))
        next_fire_time = await retrying(self._database, attend, patience=patience)
        for row in rescued:
            logger.warning("took task %s back from a worker that vanished; it is %s now", row["id"], row["status"])
        if promotion["promoted"] or rescued:
            self._wake.set()
        if not self._database.notifies:
            (found,) = answers["work_to_do"]
            if found["tasks"]:
                self._wake.set()
            if found["entries"]:
                self._seal_due.set()
            if found["suggestions"]:
                self._suggestions_due.set()
        if expired["expire_agent_tasks"] == EXPIRED_AT_ONCE or len(rescued) == RESCUED_AT_ONCE:
            return 0.0
        due = [seconds for seconds in (promotion["next_due_seconds"], next_fire_time) if seconds is not None]
        return min(due, default=math.inf)

    def _rescue_call(self) -> dict[str, dict[str, Any]]:
        limit = RESCUED_AT_ONCE if self._may_rescue() else 0
        return {"rescue_agent_tasks": {"limit": limit, "max_lost": MAX_LOST_LEASES, "held": list(self.running)}}

    def _upkeep_calls(self, pause: float) -> dict[str, dict[str, Any]]:
        """The other calls in their order."""
        tenant_id = self._settings.tenant_id
        calls: dict[str, dict[str, Any]] = {
            "schedules_to_attend": {},
            "promote_agent_tasks": {},
            "expire_agent_tasks": {"limit": EXPIRED_AT_ONCE},
            "cancel_orphaned_agent_tasks": {},
            "beat_worker": self._presence(pause),
            "fail_unknown_agent_tasks": {
                "tenant_id": tenant_id,
                "worker_id": self.worker_id,
                "after_seconds": self._settings.unknown_type_seconds,
            },
        }
        if not self._database.notifies:
            idle = not self._at_work()
            calls["work_to_do"] = {
                "tenant_id": tenant_id,
                "task_types": self._task_types,
                "idle": idle,
                "worker_id": self.worker_id,
            }
        return calls

    def _presence(self, pause: float) -> dict[str, Any]:
        """For `beat_worker`: the types that this worker claims and knows, and when its next beat comes; 0 is never."""
        return {
            "tenant_id": self._settings.tenant_id,
            "id": self.worker_id,
            "host": socket.gethostname(),
            "version": __version__,
            "task_types": self._task_types,
            "known_types": [str(task_type) for task_type in self._registry],
            "slots": self._concurrency,
            "next_seconds": float(pause),
            "keep_seconds": max(86400.0, 2 * self._settings.unknown_type_seconds),
        }

    async def _leave(self) -> None:
        """Say that this worker has stopped; if that cannot be said at once, it is noticed by its silence."""
        try:
            async with asyncio.timeout(RECORD_SECONDS):
                await self._database.call("beat_worker", **self._presence(0))
        except (DatabaseUnavailable, TimeoutError) as error:
            logger.debug("could not say that worker %s has stopped: %r", self.worker_id, error)

    async def _attend_when_due(self) -> None:
        """In calls of their own, because they may wait for locks on the owner's tables."""
        while True:
            if self._database.notifies:
                await self._attend()
                await asyncio.sleep(UPKEEP_SECONDS)
            else:
                await self._suggestions_due.wait()
                self._suggestions_due.clear()
                await self._attend()

    async def _attend(self, patience: float = math.inf) -> None:
        """Apply what a policy approved, or people during a pause; let pass what nobody decided in time."""
        call = insisting(lambda: self._database.call("attend_agent_suggestions"))
        await retrying(self._database, call, patience=patience)

    async def _listen(self) -> None:
        """Wake on notifications for our tenant; while the connection is lost, polling goes on."""
        tenant = str(self._settings.tenant_id)

        def notified(payload: str) -> None:
            if payload == tenant:
                self._wake.set()

        async def listen_until_lost() -> None:
            async with self._database.listening("agent_tasks", notified) as lost:
                self._wake.set()  # for tasks created while there was no connection
                await lost.wait()
            raise DatabaseUnavailable("the connection for notifications was lost")

        await retrying(self._database, listen_until_lost, lasting=True)


def _set_from_elsewhere(event: asyncio.Event, home: asyncio.AbstractEventLoop) -> None:
    """Set an event of another thread's loop, if that loop still runs."""
    with contextlib.suppress(RuntimeError):
        home.call_soon_threadsafe(event.set)
