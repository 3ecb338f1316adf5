"""What a worker asks of a database whose calls are dear: how often, and what becomes of tasks claimed ahead."""

from __future__ import annotations

import asyncio
import json
import selectors
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest

from tests.autonomy.agents import Signal
from tests.autonomy.test_runtime import until, working
from tests.conftest import Zora
from zora_core.agents import Agent, AgentId, Payload, Registry, TaskContext, TaskResult, handler
from zora_core.agents.agent import Task
from zora_core.autonomy import worker as worker_module
from zora_core.autonomy.lane import Lane
from zora_core.autonomy.runtime import AgentRuntime
from zora_core.autonomy.worker import TaskRun, Worker
from zora_core.database.backoff import MAX_SECONDS, retrying
from zora_core.database.database import Call, Database, Pace, Row
from zora_core.database.postgrest import PostgrestDatabase
from zora_core.database.schema import Installed
from zora_core.errors import DatabaseUnavailable
from zora_core.settings import DEFAULT_TENANT_ID, Settings

TASKS = 2000


@pytest.fixture
def transport() -> str:
    return "http"


class Noop(Agent):
    agent_id = AgentId.SAM

    def __init__(self, signal: type[Signal] | type[asyncio.Event] = Signal) -> None:
        self.done: list[str] = []
        self.started = signal()
        self.release = signal()

    @handler("noop")
    async def noop(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")
        self.done.append(task.title)
        return TaskResult(summary="did nothing")

    @handler("long", timeout_seconds=3600)
    async def long(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        self.started.set()
        await self.release.wait()
        return await self.noop(task, payload, ctx)


@pytest.fixture
def asked(zora: Zora) -> list[list[str]]:
    """The functions of every request, also of one that is sent again."""
    requests: list[list[str]] = []

    async def count(request: httpx.Request) -> None:
        requests.append([call["function"] for call in json.loads(request.content)["p_calls"]])

    assert isinstance(zora.database, PostgrestDatabase)
    zora.database._client.event_hooks = {"request": [count]}
    return requests


async def fill(zora: Zora, number: int, task_type: str = "noop", *, priority: int = 0) -> None:
    await zora.sql(
        "insert into agent_tasks (tenant_id, agent_id, task_type, title, priority) "
        "select $1, 'SAM', $2, n::text, $3 from generate_series(1, $4::int) as n",
        zora.tenant_id,
        task_type,
        priority,
        number,
    )


async def states(zora: Zora) -> Counter[tuple[str, int]]:
    rows = await zora.sql("select status::text, attempt from agent_tasks")
    return Counter((row["status"], row["attempt"]) for row in rows)


# How often


async def test_a_drain_takes_one_request_for_fifty_tasks(zora: Zora, asked: list[list[str]]) -> None:
    await fill(zora, TASKS)
    runtime = AgentRuntime(agents=[Noop()], settings=zora.settings, database=zora.database)
    runs = await runtime.run_once(limit=TASKS)
    assert Counter(run.status for run in runs) == {"completed": TASKS}
    assert len(asked) <= TASKS // 50, Counter(map(tuple, asked))


async def test_a_loop_drains_with_as_few_requests(zora: Zora, asked: list[list[str]]) -> None:
    await fill(zora, TASKS)
    ended: list[TaskRun] = []
    worker = zora.worker(Noop(), observe=lambda e: ended.append(e) if isinstance(e, TaskRun) else None)
    async with working(worker):
        await until(lambda: len(ended) == TASKS, 60)
        assert len(asked) <= TASKS // 50, Counter(map(tuple, asked))
    assert await states(zora) == {("completed", 1): TASKS}


# An idle loop, in time that passes only while nobody has anything to do


class LeapingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock leaps to the next moment for which something is waiting."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_LeapingSelector(self))

    def time(self) -> float:
        return self._now


class _LeapingSelector(selectors.DefaultSelector):
    def __init__(self, loop: LeapingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if not events:
            assert timeout is not None, "everybody waits for ever"
            self._loop._now += timeout
        return events


class SameLoop(Lane):
    """Handlers on the loop whose clock leaps, which would else leap over what they do."""

    def _start(self) -> asyncio.AbstractEventLoop:
        return self.home

    async def close(self) -> None:
        pass


class Quiet(Database):
    """A database without notifications, whose queue the test fills; it knows when it was asked what."""

    pace = Pace(ahead=250, linger_seconds=0.1, progress_seconds=2.0)
    notifies = False  # type: ignore[assignment]

    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []
        self.queue: list[Row] = []
        self.claimed: dict[UUID, Row] = {}
        self.outcomes: Counter[str] = Counter()
        self.next_due_seconds: float | None = None
        self.entries = False
        self.rescues: list[tuple[float, bool]] = []
        self.is_down = False

    def put(self, number: int = 1, task_type: str = "noop") -> None:
        for _ in range(number):
            now = datetime(2026, 3, 2, tzinfo=UTC)
            self.queue.append(
                {
                    "id": uuid4(), "tenant_id": DEFAULT_TENANT_ID, "agent_id": "SAM", "task_type": task_type,
                    "title": "t", "description": None, "payload": {}, "priority": 0, "attempt": 1, "max_attempts": 3,
                    "timeout_seconds": None, "lease_token": uuid4(), "created_at": now, "started_at": now, "round": 0,
                    "resume_with": None, "lost_leases": 0,
                }
            )  # fmt: skip

    def at(self, function: str) -> list[float]:
        return [moment for moment, name in self.asked if name == function]

    async def call(self, function: str, /, **arguments: Any) -> list[Row]:
        (rows,) = await self.batch([(function, arguments)])
        return rows

    async def batch(self, calls: Sequence[Call]) -> list[list[Row]]:
        if self.is_down:
            raise DatabaseUnavailable("the database cannot be reached")
        self.asked.append((asyncio.get_running_loop().time(), calls[0][0]))
        return [self._answer(function, **arguments) for function, arguments in calls]

    def _answer(self, function: str, **arguments: Any) -> list[Row]:
        match function:
            case "schedules_to_attend":
                return [{"some_to_plan": False, "next_due_seconds": None}]
            case "rescue_agent_tasks":
                self.rescues.append((asyncio.get_running_loop().time(), arguments["limit"] > 0))
            case "promote_agent_tasks":
                return [{"promoted": 0, "next_due_seconds": self.next_due_seconds}]
            case "expire_agent_tasks":
                return [{"expire_agent_tasks": 0}]
            case "work_to_do":
                return [{"tasks": bool(self.queue), "entries": self.entries, "suggestions": False}]
            case "claim_agent_tasks":
                limit = arguments["limit"]
                claimed, self.queue = self.queue[:limit], self.queue[limit:]
                self.claimed |= {row["id"]: row for row in claimed}
                return claimed
            case "settle_agent_tasks":
                self.outcomes.update(arguments["outcomes"])
                rows = [self.claimed.pop(id_) for id_ in arguments["ids"]]
                self.queue += [row for row, out in zip(rows, arguments["outcomes"], strict=True) if out == "released"]
                return [{"lease_token": row["lease_token"], "status": "completed", "waiting_for": None} for row in rows]
            case "heartbeat_agent_tasks":
                return [{"lease_token": token, "state": "held"} for token in arguments["lease_tokens"]]
        return []

    async def read(self, query: str, tenant_id: UUID, /, **arguments: Any) -> Any:
        raise NotImplementedError

    async def restricted(self, *, max_connections: int = 8) -> Database:
        raise NotImplementedError

    def listening(self, channel: str, callback: Callable[[str], None]) -> AbstractAsyncContextManager[asyncio.Event]:
        raise NotImplementedError

    async def migrate(self) -> bool:
        raise NotImplementedError

    async def check_schema(self) -> Installed:
        raise NotImplementedError

    async def missing_objects(self) -> list[str]:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Quiet:
    def now() -> float:
        return asyncio.get_running_loop().time()

    clock = SimpleNamespace(monotonic=now, time=now)
    monkeypatch.setattr(worker_module, "time", clock)
    monkeypatch.setattr("zora_core.autonomy.execute.time", clock)
    monkeypatch.setattr(worker_module, "Lane", SameLoop)
    return Quiet()


def leaping(quiet: Quiet, agent: Agent, script: Callable[[], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run a loop with run_loop()'s defaults beside the script, and stop it when that ends."""

    async def main() -> None:
        worker = Worker(
            quiet, Registry([agent]), Settings(home=Path("/nowhere")),
            concurrency=4, lease_seconds=30, grace_seconds=5, **options,
        )  # fmt: skip
        loop = asyncio.create_task(worker.run(poll_seconds=30))
        try:
            await script()
        finally:
            worker.stop()
            await loop

    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        runner.run(main())


def test_an_idle_loop_asks_twice_a_minute(quiet: Quiet) -> None:
    async def an_hour() -> None:
        await asyncio.sleep(3600)

    leaping(quiet, Noop(), an_hour)
    assert len(quiet.asked) <= 2 * 60 + 3, "with a first claim, and a word at the end"
    assert len(quiet.at("rescue_agent_tasks")) >= 2 * 60 - 1, "and does not fall asleep"


def test_work_makes_a_loop_look_more_often_for_a_while(quiet: Quiet) -> None:
    began = 0.0

    async def work() -> None:
        nonlocal began
        await asyncio.sleep(100)
        quiet.put()
        await asyncio.sleep(20.1)
        began = quiet.at("settle_agent_tasks")[0]
        await asyncio.sleep(120)

    leaping(quiet, Noop(), work)
    looks = [round(moment - began) for moment in quiet.at("rescue_agent_tasks") if moment > began]
    assert looks[:4] == [1, 5, 21, 51]
    assert len([m for m in quiet.asked if m[0] > began + 60]) <= 4, "as idle as before"


def test_a_task_that_is_due_is_seen_at_that_moment(quiet: Quiet) -> None:
    async def due() -> None:
        await asyncio.sleep(1)
        quiet.next_due_seconds = 7.0
        await asyncio.sleep(29.5)
        quiet.next_due_seconds = None
        await asyncio.sleep(30)

    leaping(quiet, Noop(), due)
    assert quiet.at("rescue_agent_tasks")[:3] == [0, 30, 37]


def test_tasks_of_a_burst_do_not_wait_for_the_next_look(quiet: Quiet) -> None:
    noop = Noop()

    async def burst() -> None:
        quiet.put(1000)
        await asyncio.sleep(10)
        assert len(noop.done) == 1000

    leaping(quiet, noop, burst)
    assert len(quiet.asked) <= 1000 // 50


# Tasks of workers that vanished


def test_nothing_is_taken_back_right_after_a_pause_of_the_process(quiet: Quiet) -> None:
    """Such as a laptop's sleep: the other workers may have been paused with it, and their leases have expired, too."""

    async def paused() -> None:
        await asyncio.sleep(31)
        assert quiet.rescues == [(0, True), (30, True)]
        cast("LeapingLoop", asyncio.get_running_loop())._now += 40
        await asyncio.sleep(60)

    leaping(quiet, Noop(), paused)
    assert quiet.rescues[2:] == [(71, False), (101, True), (131, True)]


def test_nothing_is_taken_back_right_after_an_outage(quiet: Quiet) -> None:
    """The other workers pause between their tries to reach the database, and cannot prolong their leases until then."""

    async def outage() -> None:
        await asyncio.sleep(31)
        quiet.is_down = True
        await asyncio.sleep(60)
        quiet.is_down = False
        await asyncio.sleep(90)

    leaping(quiet, Noop(), outage)
    (again, first), *later = quiet.rescues[2:]
    assert 91 <= again <= 91 + MAX_SECONDS
    assert not first
    assert later
    assert all(may and moment >= again + 10 + MAX_SECONDS for moment, may in later)


def test_a_failure_of_other_calls_that_lasts_does_not_keep_tasks_from_being_taken_back(quiet: Quiet) -> None:
    async def failing() -> None:
        async def fail() -> None:
            raise DatabaseUnavailable("the journal's index is broken")

        other = asyncio.create_task(retrying(quiet, fail))
        await asyncio.sleep(100)
        other.cancel()

    leaping(quiet, Noop(), failing)
    assert quiet.rescues[1:] == [(30, True), (60, True), (90, True)]


# Claimed ahead


def test_what_waits_behind_long_tasks_is_handed_back_and_left_to_others(quiet: Quiet) -> None:
    noop = Noop(asyncio.Event)

    async def long_after_short() -> None:
        quiet.put(400)
        quiet.put(300, "long")
        await asyncio.sleep(5)
        ahead = len(quiet.claimed) - 4
        assert ahead > 50, "as fast as the short ones were"
        assert not quiet.outcomes["released"]
        await asyncio.sleep(worker_module.AHEAD_SECONDS + 5)
        assert quiet.outcomes["released"] == ahead
        assert len(quiet.claimed) - 4 <= ahead // 8, "the short ones are not forgotten at once"
        await asyncio.sleep(worker_module.AHEAD_SECONDS + 5)
        released, claims = quiet.outcomes["released"], len(quiet.at("claim_agent_tasks"))
        assert len(quiet.claimed) == 4
        await asyncio.sleep(300)
        assert (quiet.outcomes["released"], len(quiet.claimed)) == (released, 4)
        assert len(quiet.at("claim_agent_tasks")) == claims
        noop.release.set()
        await asyncio.sleep(300)
        assert not quiet.queue

    leaping(quiet, noop, long_after_short)
    assert quiet.outcomes["completed"] == 700


def busy(worker: Worker) -> Worker:
    """A worker that claims ahead the first time, as if it had just worked through a thousand tasks."""
    worker._asked = (-1000, time.monotonic())
    return worker


@pytest.fixture
async def behind(zora: Zora) -> UUID:
    """Nine short tasks; gives the id of a long one that comes first."""
    await fill(zora, 9)
    return await zora.create("SAM", "long", priority=9)


async def behind_it(zora: Zora, noop: Noop, worker: Worker) -> None:
    await noop.started.wait()
    assert await states(zora) == {("in_progress", 1): 10}
    assert len(worker.running) == 10
    assert noop.done == [], "the highest priority begins first"


async def test_what_has_not_begun_for_long_is_handed_back_with_its_attempt_for_another_worker(
    zora: Zora, behind: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "AHEAD_SECONDS", 0.3)
    noop, other, seen = Noop(), Noop(), list[TaskRun | Task]()
    worker = busy(zora.worker(noop, concurrency=1, lease_seconds=0.6, observe=seen.append))
    async with working(worker):
        await behind_it(zora, noop, worker)

        async def handed_back() -> bool:
            return await states(zora) == {("in_progress", 1): 1, ("pending", 0): 9}

        await until(handed_back)
        runs = await zora.run_once(other, limit=100)
        assert [run.status for run in runs] == ["completed"] * 9
        assert noop.done == []
        noop.release.set()
        await until(lambda: len(seen) == 2)
    assert await states(zora) == {("completed", 1): 10}
    assert [event.id if isinstance(event, Task) else event.task.id for event in seen] == [behind, behind]
    rows = await zora.sql("select lost_leases, error_message from agent_tasks")
    assert {tuple(row) for row in rows} == {(0, None)}


async def test_stopping_hands_back_at_once_what_has_not_begun(zora: Zora, behind: UUID) -> None:
    noop = Noop()
    worker = busy(zora.worker(noop, concurrency=1))
    async with working(worker):
        await behind_it(zora, noop, worker)
        worker.stop()

        async def handed_back() -> bool:
            return await states(zora) == {("in_progress", 1): 1, ("pending", 0): 9}

        await until(handed_back)
        assert not noop.done, "while the long one still has its grace"
        noop.release.set()
        await until(lambda: not worker.running)
    assert (await zora.task(behind)).status == "completed"
    assert await states(zora) == {("completed", 1): 1, ("pending", 0): 9}


async def test_a_limited_run_that_handed_back_takes_others_instead(
    zora: Zora, behind: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "AHEAD_SECONDS", 0.1)
    noop = Noop()
    worker = busy(zora.worker(noop, concurrency=1, lease_seconds=0.6))
    running = asyncio.create_task(worker.run(limit=10))
    await noop.started.wait()
    await until(lambda: len(worker.running) == 1)
    noop.release.set()
    assert len(await running) == 10
    assert await states(zora) == {("completed", 1): 10}


async def test_long_tasks_do_not_starve_short_ones(zora: Zora) -> None:
    await fill(zora, 200)
    await fill(zora, 3, "long", priority=9)
    noop = Noop()
    async with working(busy(zora.worker(noop, concurrency=4))):
        await until(lambda: len(noop.done) == 200)
        assert len(set(noop.done)) == 200
        noop.release.set()
        await until(lambda: len(noop.done) == 203)


async def test_what_was_claimed_ahead_keeps_its_lease(zora: Zora, behind: UUID) -> None:
    noop = Noop()
    worker = busy(zora.worker(noop, concurrency=1, lease_seconds=0.6))
    async with working(worker):
        await behind_it(zora, noop, worker)
        for _ in range(3):
            await zora.advance(seconds=0.5)

            async def prolonged() -> bool:
                rows = await zora.sql("select lease_expires_at - zora_now() as left from agent_tasks")
                return {row["left"].total_seconds() for row in rows} == {0.6}

            await until(prolonged)
        assert await zora.call("rescue_agent_tasks", max_lost=3) == []
        noop.release.set()
        await until(lambda: len(noop.done) == 10)
    assert await states(zora) == {("completed", 1): 10}


async def test_what_is_cancelled_before_it_begins_ends_as_cancelled(zora: Zora, behind: UUID) -> None:
    noop, seen = Noop(), list[TaskRun | Task]()
    worker = busy(zora.worker(noop, concurrency=1, lease_seconds=0.6, observe=seen.append))
    async with working(worker):
        await behind_it(zora, noop, worker)
        (row,) = await zora.sql("select id, lease_token from agent_tasks where title = '5'")
        await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=row["id"])
        await until(lambda: worker.running[row["lease_token"]].stop_reason == "cancel")
        noop.release.set()
        await until(lambda: not worker.running)
    task = await zora.task(row["id"])
    assert (task.status, task.failure_kind) == ("failed", "cancelled")
    assert len(noop.done) == 9
    assert "5" not in noop.done
    assert await states(zora) == {("completed", 1): 9, ("failed", 1): 1}


async def test_what_was_lost_before_it_begins_is_not_run(zora: Zora, behind: UUID) -> None:
    noop = Noop()
    worker = busy(zora.worker(noop, concurrency=1, lease_seconds=0.6))
    async with working(worker):
        await behind_it(zora, noop, worker)
        (row,) = await zora.sql(
            "update agent_tasks as t set lease_token = gen_random_uuid(), worker_id = 'heir' from agent_tasks as old "
            "where t.id = old.id and old.title = '5' returning old.lease_token"
        )
        await until(lambda: worker.running[row["lease_token"]].stop_reason == "lost")
        noop.release.set()
        await until(lambda: not worker.running)
    assert "5" not in noop.done
    assert await states(zora) == {("completed", 1): 9, ("in_progress", 1): 1}


async def test_all_that_a_worker_claimed_ahead_before_it_vanished_is_taken_back_at_once(zora: Zora) -> None:
    await fill(zora, 300)
    await zora.call("claim_agent_tasks", tenant_id=zora.tenant_id, worker_id="gone", limit=300)
    await zora.advance(seconds=31)
    runs = await zora.run_once(Noop(), limit=300)
    assert Counter(run.status for run in runs) == {"completed": 300}
