"""The runtime against a real database: what becomes of every kind of run."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.autonomy.agents import Probe
from tests.conftest import SECRET, Zora
from tests.postgrest import Config
from zora_core.agents import (
    Agent,
    AgentId,
    ChildTask,
    Delegate,
    Payload,
    Quote,
    Snooze,
    Suggestion,
    Task,
    TaskContext,
    TaskResult,
    handler,
)
from zora_core.agents.agent import Registry
from zora_core.autonomy import settler
from zora_core.autonomy import worker as worker_module
from zora_core.autonomy.runtime import AgentRuntime, on_signals
from zora_core.autonomy.worker import TaskRun, Worker
from zora_core.database import backoff
from zora_core.errors import ConfigurationError, RequestTooLarge, TooMuchAtOnce
from zora_core.settings import Settings

pytestmark = pytest.mark.both_transports


@asynccontextmanager
async def working(worker: Worker, *, poll_seconds: float = 60) -> AsyncIterator[Worker]:
    """A worker's loop beside the test; stopped and waited for at the end."""
    loop = asyncio.create_task(worker.run(poll_seconds=poll_seconds))
    try:
        yield worker
    finally:
        worker.stop()
        await asyncio.wait_for(loop, 20)


async def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Wait for a condition; an awaitable one is asked again and again."""
    async with asyncio.timeout(seconds):
        while True:
            met = condition()
            if asyncio.iscoroutine(met):
                met = await met
            if met:
                return
            await asyncio.sleep(0.005)


async def test_a_run_returns_what_it_did_and_records_what_it_read(zora: Zora) -> None:
    task_id = await zora.create("SAM", "count", {"text": "three small words"})
    (run,) = await zora.run_once(Probe())
    assert (run.status, run.summary, run.task.id) == ("completed", "3 words", task_id)
    task = await zora.task(task_id)
    assert task.result is not None
    (source,) = task.result["sources"]
    assert (source["kind"], source["ref"], source["count"]) == ("payload", "text", len("three small words"))


async def test_a_payload_that_does_not_fit_fails_once_and_names_the_field(zora: Zora) -> None:
    task_id = await zora.create("SAM", "count", {"txet": 1})
    await zora.run_once(Probe())
    task = await zora.task(task_id)
    assert (task.status, task.failure_kind, task.attempt) == ("failed", "invalid_payload", 1)
    assert "txet: Extra inputs are not permitted" in (task.error_message or "")


async def test_an_exception_is_recorded_with_its_type_and_retried(zora: Zora) -> None:
    task_id = await zora.create("SAM", "fail")
    (run,) = await zora.run_once(Probe())
    assert (run.status, run.waiting_for, run.error) == ("pending", "retry", "ValueError: the page is empty")
    (entry,) = await zora.sql("select * from journal_entries where event_type = 'agent_task_retried'")
    assert entry["body"] == "ValueError: the page is empty"
    assert (await zora.task(task_id)).error_message == "ValueError: the page is empty"


async def test_a_handler_that_exits_or_returns_something_else_does_not_end_the_runtime(zora: Zora) -> None:
    for task_type in ("exit", "wrong", "count"):
        await zora.create("SAM", task_type)
    runs = {run.task.task_type: run for run in await zora.run_once(Probe())}
    assert runs["exit"].error == "SystemExit: 3"
    assert "returned str, not a TaskResult" in (runs["wrong"].error or "")
    assert runs["count"].status == "completed"


async def test_a_result_without_evidence_is_not_completed(zora: Zora) -> None:
    await zora.create("SAM", "baseless", max_attempts=1)
    (run,) = await zora.run_once(Probe())
    assert run.status == "failed"
    assert "without evidence" in (run.error or "")


async def test_a_plain_function_runs_beside_the_event_loop(zora: Zora) -> None:
    probe = Probe()
    await zora.create("SAM", "sync")
    (run,) = await zora.run_once(probe)
    assert run.status == "completed"
    assert probe.thread not in (None, threading.main_thread())


class Holder(Probe):
    @handler("hold")
    async def hold(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        return await self.wait(task, payload, ctx)


async def test_a_suspect_runs_on_the_worker_that_is_idle_first_and_the_other_goes_on(zora: Zora) -> None:
    """Not on the worker with the lowest id, which may be busy for half an hour."""
    long, short = Probe(), Holder()
    types = [task_type for task_type in short.task_types() if task_type.name in ("hold", "count")]
    workers = [zora.worker(long, lease_seconds=3600), zora.worker(short, lease_seconds=3600, claims=types)]
    workers[0].worker_id, workers[1].worker_id = "a", "b"
    async with working(workers[0], poll_seconds=0.2), working(workers[1], poll_seconds=0.2):
        await zora.create("SAM", "wait")
        await until(long.started.is_set)
        await zora.advance(seconds=1)
        await zora.create("SAM", "hold")
        await until(short.started.is_set)
        (suspect,) = await zora.sql(
            "insert into agent_tasks (tenant_id, agent_id, task_type, title, lost_leases, created_at, updated_at) "
            "values ($1, 'SAM', 'count', 'suspect', 1, zora_now(), zora_now()) returning id",
            zora.tenant_id,
        )
        await zora.advance(seconds=31)
        normal = await zora.create("SAM", "count")
        await until(lambda: finished(zora, normal))
        assert not await finished(zora, suspect["id"])
        short.release.set()
        await until(lambda: finished(zora, suspect["id"]))
        long.release.set()
    assert [(await zora.task(task)).worker_id for task in (normal, suspect["id"])] == ["a", "b"]


async def finished(zora: Zora, task_id: UUID) -> bool:
    return (await zora.task(task_id)).status == "completed"


async def test_a_timeout_is_recorded_as_one(zora: Zora) -> None:
    task_id = await zora.create("SAM", "slow", max_attempts=1)
    await zora.run_once(Probe())
    task = await zora.task(task_id)
    assert (task.failure_kind, task.error_message) == ("timeout", "timed out after 1 seconds")


async def test_a_snoozed_task_waits_without_using_an_attempt(zora: Zora) -> None:
    task_id = await zora.create("SAM", "snooze", max_attempts=1)
    (run,) = await zora.run_once(Probe())
    assert (run.status, run.waiting_for) == ("pending", "run_at")
    assert (await zora.task(task_id)).attempt == 0


async def test_a_result_that_cannot_be_stored_fails_alone_in_its_batch(zora: Zora) -> None:
    for text in ("good", "bad", "good", "good"):
        await zora.create("SAM", "poison", {"text": text})
    runs = await zora.run_once(Probe())
    assert Counter(run.status for run in runs) == {"completed": 3, "failed": 1}
    (failed,) = await zora.sql("select error_message from agent_tasks where status = 'failed'")
    assert "PostgreSQL cannot store" in failed["error_message"]


async def test_outcomes_that_are_too_many_at_once_are_recorded_in_smaller_parts(
    zora: Zora, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(30):
        await zora.create("SAM", "count")
    call, sizes = zora.database.call, []

    async def short_of_time(function: str, /, **arguments: Any) -> list[dict[str, Any]]:
        if function == "settle_agent_tasks":
            sizes.append(len(arguments["ids"]))
            if len(arguments["ids"]) > 3:
                raise TooMuchAtOnce("canceling statement due to statement timeout")
        return await call(function, **arguments)

    monkeypatch.setattr(zora.database, "call", short_of_time)
    runs = await zora.worker(Probe(), concurrency=10).run(limit=30)
    assert [run.status for run in runs] == ["completed"] * 30
    assert max(sizes) > 3, "nothing was tried"


class Length(Payload):
    length: int


class Large(Agent):
    """Returns an outcome with a text of the length that the payload says."""

    agent_id = AgentId.ORACLE

    @handler("result", evidence="none")
    async def result(self, task: Task, payload: Length, ctx: TaskContext) -> TaskResult:
        return TaskResult(summary="large", result={"text": "x" * payload.length})

    @handler("summary", evidence="none")
    async def summary(self, task: Task, payload: Length, ctx: TaskContext) -> TaskResult:
        return TaskResult(summary="x" * payload.length)

    @handler("snooze", evidence="none")
    async def snooze(self, task: Task, payload: Length, ctx: TaskContext) -> Snooze:
        return Snooze(60, reason="x" * payload.length)

    @handler("payload", evidence="none")
    async def payload(self, task: Task, payload: Length, ctx: TaskContext) -> Delegate:
        child = ChildTask(key="a", agent_id="SAM", task_type="count", title="c", payload={"text": "x" * payload.length})
        return Delegate([child])

    @handler("then", evidence="none")
    async def then(self, task: Task, payload: Length, ctx: TaskContext) -> Delegate:
        return Delegate(
            [ChildTask(key="a", agent_id="SAM", task_type="count", title="c")], then={"text": "x" * payload.length}
        )


@pytest.mark.parametrize("kind", ["result", "summary", "snooze", "payload", "then"])
async def test_an_outcome_over_the_limit_fails_its_task_alone(zora: Zora, kind: str) -> None:
    await zora.create("ORACLE", kind, {"length": 6_000_000})
    await zora.create("SAM", "count")
    runs = {run.task.task_type: run for run in await zora.run_once(Large(), Probe())}
    assert (runs[kind].status, runs["count"].status) == ("failed", "completed")
    assert "bytes of JSON, more than" in (runs[kind].error or "")


@pytest.mark.parametrize("kind", ["result", "payload"])
async def test_an_outcome_that_the_database_never_takes_fails_its_run_and_delays_no_other(
    zora: Zora, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(settler, "MAX_SECONDS", 0.05)
    ended: list[TaskRun] = []
    call, refused = zora.database.call, 0

    async def refuse(function: str, /, **arguments: Any) -> list[dict[str, Any]]:
        nonlocal refused
        if function == "settle_agent_tasks" and len(str(arguments["results"])) > 1_000_000:
            refused += 1
            if refused == 3:
                await zora.create("SAM", "count")
            raise TooMuchAtOnce("canceling statement due to statement timeout")
        return await call(function, **arguments)

    monkeypatch.setattr(zora.database, "call", refuse)
    await zora.create("ORACLE", kind, {"length": 2_000_000}, max_attempts=1)
    worker = zora.worker(Large(), Probe(), observe=lambda e: ended.append(e) if isinstance(e, TaskRun) else None)
    async with working(worker, poll_seconds=0.1):
        await until(lambda: len(ended) == 2)
    runs = {run.task.task_type: run for run in ended}
    assert (runs["count"].status, runs[kind].status) == ("completed", "failed")
    assert "outcome could not be stored: canceling statement due to statement timeout" in (runs[kind].error or "")
    assert refused >= settler.MAX_TRIES  # one more when another outcome was in its first call


@pytest.mark.parametrize("kind", ["result", "snooze", "payload"])
async def test_an_outcome_that_a_gateway_finds_too_large_fails_at_once_and_alone(
    zora: Zora, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    call, refused = zora.database.call, 0

    async def refuse(function: str, /, **arguments: Any) -> list[dict[str, Any]]:
        nonlocal refused
        if function == "settle_agent_tasks" and len(str(arguments)) > 1_000_000:
            refused += 1
            raise RequestTooLarge("the gateway refuses a request of this size")
        return await call(function, **arguments)

    monkeypatch.setattr(zora.database, "call", refuse)
    await zora.create("ORACLE", kind, {"length": 2_000_000})
    await zora.create("SAM", "count")
    runs = {run.task.task_type: run for run in await zora.worker(Large(), Probe()).run(limit=2)}
    assert (runs["count"].status, runs[kind].status) == ("completed", "failed")
    assert "outcome could not be stored: the gateway refuses a request of this size" in (runs[kind].error or "")
    assert refused <= 2, "once together with the other outcome, once alone"


@asynccontextmanager
async def refusing(zora: Zora, condition: str, table: str = "agent_tasks") -> AsyncIterator[None]:
    """A trigger of the owner that refuses rows."""
    await zora.sql(
        "create function refuse() returns trigger language plpgsql as "
        f"$$begin if {condition} then raise exception 'the owner refuses it'; end if; return new; end$$"
    )
    try:
        await zora.sql(
            f"create trigger refuse before insert or update on {table} for each row execute function refuse()"
        )
        yield
    finally:
        await zora.sql("drop function refuse cascade")


@pytest.mark.parametrize(
    ("table", "condition"),
    [
        ("agent_tasks", "new.result_summary = '7 words'"),
        ("memory_events", "new.content like '%7 words%'"),
        ("agent_tasks", "new.result_summary = '7 words' or new.status = 'failed'"),
    ],
    ids=["task", "memory", "failure too"],
)
async def test_an_outcome_that_the_database_refuses_fails_its_run_and_delays_no_other(
    zora: Zora, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, table: str, condition: str
) -> None:
    """More outcomes are refused than the worker has slots: the others are recorded while these are tried again."""
    monkeypatch.setattr(settler, "MAX_SECONDS", 0.05)
    monkeypatch.setattr(backoff, "PATIENCE_SECONDS", 300)
    refused = [await zora.create("SAM", "count", {"text": "a b c d e f g"}) for _ in range(3)]
    accepted = [await zora.create("SAM", "count", {"text": "a b"}) for _ in range(6)]
    ended: dict[UUID, TaskRun] = {}
    worker = zora.worker(
        Probe(), concurrency=2, observe=lambda e: ended.update({e.task.id: e}) if isinstance(e, TaskRun) else None
    )
    async with refusing(zora, condition, table), working(worker, poll_seconds=0.1):
        await until(lambda: set(accepted) <= set(ended))
        assert not set(refused) & set(ended), "these are still tried again"
        assert {ended[task_id].status for task_id in accepted} == {"completed"}
        monkeypatch.setattr(backoff, "PATIENCE_SECONDS", 0)
        await until(lambda: len(ended) == 9)
        assert not worker.running
    for task_id in refused:
        task = await zora.task(task_id)
        if "failed" in condition:
            assert (task.status, ended[task_id].status) == ("in_progress", "lost")
            assert f"gave up recording the outcome of task {task_id}" in caplog.text
        else:
            assert (task.status, task.attempt) == ("failed", 1)
            assert "outcome could not be stored: the database reports the owner refuses it" in (
                task.error_message or ""
            )


async def test_a_suspect_runs_as_soon_as_the_last_outcome_is_refused(
    zora: Zora, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "PATIENCE_SECONDS", 300)
    probe = Probe()
    await zora.create("SAM", "wait", priority=1)
    suspect = await zora.create("SAM", "count")
    await zora.sql("update agent_tasks set lost_leases = 1 where id = $1", suspect)
    async with refusing(zora, "new.result_summary = 'done'"), working(zora.worker(probe)) as worker:
        await until(probe.started.is_set)
        await until(lambda: not worker._wake.is_set())
        probe.release.set()
        await until(lambda: finished(zora, suspect))
        await zora.sql("drop trigger refuse on agent_tasks")
        await until(lambda: not worker.running)


async def test_a_worker_that_stops_releases_tasks_whose_outcomes_are_refused(
    zora: Zora, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backoff, "PATIENCE_SECONDS", 300)
    probe = Probe()
    refused = await zora.create("SAM", "count", {"text": "a b c d e f g"})
    running = await zora.create("SAM", "wait")
    worker = zora.worker(probe)
    async with refusing(zora, "new.result_summary = '7 words'"), working(worker, poll_seconds=0.1):
        await until(probe.started.is_set)
        await until(lambda: "the database refuses the outcome of task" in caplog.text)
        worker.stop()
        probe.release.set()
        async with asyncio.timeout(4):  # less than the grace period of five seconds
            await until(lambda: not worker.running)
    assert (await zora.task(running)).status == "completed"
    task = await zora.task(refused)
    assert (task.status, task.attempt, task.lease_expires_at) == ("pending", 0, None)
    assert "could not be handed back" not in caplog.text


async def test_run_once_stops_at_its_limit(zora: Zora) -> None:
    for _ in range(5):
        await zora.create("SAM", "count")
    assert len(await zora.run_once(Probe(), limit=3)) == 3
    assert len(await zora.run_once(Probe(), limit=3)) == 2


async def test_run_once_promotes_what_is_due_and_rescues_what_is_lost(zora: Zora) -> None:
    due = await zora.create("SAM", "count", run_at=zora.now.isoformat())
    lost = await zora.create("SAM", "count", priority=1)
    await zora.call("claim_agent_tasks", tenant_id=zora.tenant_id, worker_id="gone", limit=1)
    await zora.advance(minutes=1)
    assert {run.task.id for run in await zora.run_once(Probe())} == {due, lost}


async def test_a_slow_task_does_not_hold_the_slots_of_the_others(zora: Zora) -> None:
    probe, ended = Probe(), []
    await zora.create("SAM", "wait", priority=9)
    for _ in range(10):
        await zora.create("SAM", "count")
    worker = zora.worker(probe, concurrency=2, observe=lambda e: ended.append(e) if isinstance(e, TaskRun) else None)
    async with working(worker):
        await until(lambda: len(ended) == 10)
        assert probe.started.is_set()
        probe.release.set()
        await until(lambda: len(ended) == 11)


async def test_a_new_task_wakes_an_idle_loop_without_polling(zora: Zora) -> None:
    ended: list[TaskRun] = []
    worker = zora.worker(Probe(), observe=lambda e: ended.append(e) if isinstance(e, TaskRun) else None)
    async with working(worker):
        await zora.create("SAM", "count")
        await until(lambda: len(ended) == 1)
        await zora.create("SAM", "count")
        await until(lambda: len(ended) == 2)


async def test_a_task_is_claimed_and_other_upkeep_goes_on_while_suggestions_wait_for_a_lock(
    zora: Zora, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "UPKEEP_SECONDS", 0.05)
    probe = Probe()
    owner = await asyncpg.connect(zora.url)
    try:
        async with working(zora.worker(probe), poll_seconds=0.05):
            transaction = owner.transaction()
            await transaction.start()
            await owner.execute("lock table agent_suggestions in access exclusive mode")
            waiting = (
                "select from pg_locks as l inner join pg_stat_activity as a using (pid) "
                "where not l.granted and l.relation = 'agent_suggestions'::regclass "
                "and a.query_start < clock_timestamp() - interval '0.2 s'"
            )
            await until(lambda: zora.sql(waiting))
            for _ in range(2):
                await zora.advance(seconds=1)
                await until(lambda: zora.sql("select from workers where last_beat_at = zora_now()"))
            await zora.create("SAM", "wait")
            await until(probe.started.is_set, 5)
            await transaction.rollback()
            probe.release.set()
    finally:
        await owner.close()


async def test_a_type_that_a_narrowed_worker_knows_is_not_unknown(zora: Zora, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "UPKEEP_SECONDS", 0.05)
    known = Registry([Probe()])
    worker = Worker(
        zora.database,
        known,
        zora.settings,
        concurrency=1,
        lease_seconds=30,
        grace_seconds=1,
        claims=known.select([], ["count"]),
    )
    async with working(worker, poll_seconds=0.1):
        await until(lambda: zora.sql("select from workers"))
        left = await zora.create("SAM", "sync")
        unknown = await zora.create("SAM", "unknown_type")
        (said,) = await zora.call("explain_agent_task", tenant_id=zora.tenant_id, id=left)
        assert "is limited to others (--agents, --types)" in said["explain_agent_task"]
        await zora.advance(minutes=20)

        async def failed() -> bool:
            return (await zora.task(unknown)).status == "failed"

        await until(failed)
    assert (await zora.task(left)).status == "pending"


async def test_cancelling_a_running_task_stops_its_handler(zora: Zora) -> None:
    probe = Probe()
    task_id = await zora.create("SAM", "wait")
    async with working(zora.worker(probe, lease_seconds=0.3)):
        await probe.started.wait()
        await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=task_id)

        async def failed() -> bool:
            return (await zora.task(task_id)).status == "failed"

        await until(failed)
    assert (await zora.task(task_id)).failure_kind == "cancelled"


async def test_heartbeats_store_progress_while_the_handler_runs(zora: Zora) -> None:
    probe = Probe()
    await zora.create("SAM", "wait")
    async with working(zora.worker(probe, lease_seconds=0.3)):

        async def stored() -> bool:
            rows = await zora.sql("select progress_message from agent_tasks")
            return bool(rows[0]["progress_message"] == "half way there")

        await until(stored)
        probe.release.set()


async def test_a_worker_that_lost_its_lease_stops_its_handler_and_records_nothing(zora: Zora) -> None:
    probe, ended = Probe(), []
    task_id = await zora.create("SAM", "wait")
    worker = zora.worker(probe, lease_seconds=0.3, observe=lambda e: ended.append(e))
    async with working(worker):
        await probe.started.wait()
        await zora.sql("update agent_tasks set lease_token = gen_random_uuid(), worker_id = 'heir'")
        await until(lambda: any(isinstance(e, TaskRun) for e in ended))
    assert ended[-1].status == "lost"
    assert (await zora.task(task_id)).status == "in_progress"
    assert await zora.sql("select from memory_events") == []


async def test_stopping_lets_running_tasks_finish(zora: Zora) -> None:
    probe = Probe()
    task_id = await zora.create("SAM", "wait")
    waiting = await zora.create("SAM", "wait", priority=-1)
    worker = zora.worker(probe, concurrency=1)
    loop = asyncio.create_task(worker.run(poll_seconds=60))
    await probe.started.wait()
    worker.stop()
    probe.release.set()
    await asyncio.wait_for(loop, 10)
    assert (await zora.task(task_id)).status == "completed"
    assert (await zora.task(waiting)).status == "pending", "nothing is claimed after the stop"


async def test_what_does_not_finish_in_time_is_handed_back_with_its_attempt(zora: Zora) -> None:
    probe = Probe()
    task_id = await zora.create("SAM", "wait")
    worker = zora.worker(probe)
    loop = asyncio.create_task(worker.run(poll_seconds=60))
    await probe.started.wait()
    worker.stop()
    worker.stop()  # the second call does not wait
    await asyncio.wait_for(loop, 10)
    task = await zora.task(task_id)
    assert (task.status, task.attempt, task.waiting_for, task.error_message) == ("pending", 0, None, None)
    assert await zora.sql("select from memory_events") == []


async def test_a_stop_between_claim_and_first_step_hands_the_task_back(
    zora: Zora, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await zora.create("SAM", "wait")
    worker = zora.worker(Probe())
    claim = worker._claim_ready

    async def claim_then_stop(limit: int) -> list[dict[str, Any]]:
        rows = await claim(limit)
        for _ in range(2):
            asyncio.get_running_loop().call_soon(worker.stop)  # runs before the claimed task's first step
        return rows

    monkeypatch.setattr(worker, "_claim_ready", claim_then_stop)
    await asyncio.wait_for(worker.run(poll_seconds=60), 10)
    task = await zora.task(task_id)
    assert (task.status, task.attempt) == ("pending", 0)


async def test_run_once_hands_back_when_it_is_cancelled(zora: Zora) -> None:
    """As `asyncio.run` does on Ctrl-C: an interruption is no crash of the task's worker."""
    probe = Probe()
    task_id = await zora.create("SAM", "wait")
    runtime = AgentRuntime(agents=[probe], settings=zora.settings, database=zora.database)
    once = asyncio.create_task(runtime.run_once(limit=1))
    await probe.started.wait()
    once.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(once, 10)
    task = await zora.task(task_id)
    assert (task.status, task.attempt) == ("pending", 0)


async def test_run_loop_leaves_the_signals_to_the_program_and_hands_back_when_it_is_cancelled(zora: Zora) -> None:
    probe = Probe()
    task_id = await zora.create("SAM", "wait")
    runtime = AgentRuntime(agents=[probe], settings=zora.settings, database=zora.database)
    before = [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)]
    loop = asyncio.create_task(runtime.run_loop(sleep_seconds=60))
    await probe.started.wait()
    assert [run.task.id for run in runtime.running.values()] == [task_id]
    assert [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)] == before
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(loop, 10)
    task = await zora.task(task_id)
    assert (task.status, task.attempt) == ("pending", 0)


async def test_sigterm_ends_the_command_line_s_loop(zora: Zora) -> None:
    probe = Probe()
    task_id = await zora.create("SAM", "wait")
    runtime = AgentRuntime(agents=[probe], settings=zora.settings, database=zora.database, grace_seconds=0.01)
    with on_signals(runtime.stop):
        loop = asyncio.create_task(runtime.run_loop(sleep_seconds=60))
        await probe.started.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(loop, 10)
    assert (await zora.task(task_id)).status == "pending"


async def test_losing_every_connection_loses_nothing(zora: Zora) -> None:
    probe, ended = Probe(), []
    for _ in range(3):
        await zora.create("SAM", "wait")
    kill = (
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where pid <> pg_backend_pid() and datname = current_database()"
    )
    worker = zora.worker(probe, lease_seconds=1, observe=lambda e: ended.append(e) if isinstance(e, TaskRun) else None)
    async with working(worker):
        await until(lambda: probe.calls == 3)
        await zora.sql(kill)
        probe.release.set()
        await zora.sql(kill)
        await until(lambda: len(ended) == 3)
        await zora.sql(kill)
        await zora.sql(
            "insert into agent_tasks (tenant_id, agent_id, task_type, title) values ($1, 'SAM', 'count', 't')",
            zora.tenant_id,
        )
        await until(lambda: len(ended) == 4)
    assert {run.status for run in ended} == {"completed"}
    (row,) = await zora.sql("select count(*) from memory_events")
    assert row["count"] == 4


@pytest.mark.direct_connection
async def test_a_stop_is_heard_while_the_database_is_gone(zora: Zora, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Probe()
    await zora.create("SAM", "wait")
    worker = zora.worker(probe)
    monkeypatch.setattr(worker_module, "RECORD_SECONDS", 0.05)
    loop = asyncio.create_task(worker.run(poll_seconds=0.01))
    await probe.started.wait()
    await zora.database._pool.close()
    worker.stop()
    worker.stop()
    await asyncio.wait_for(loop, 10)
    (row,) = await zora.sql("select status::text, lease_expires_at from agent_tasks")
    assert row["status"] == "in_progress", "its lease brings it back"


@pytest.mark.parametrize("server", ["absent", "hangs up", "silent"])
@pytest.mark.parametrize("address", ["database_url", "supabase_url"])
async def test_a_stop_is_heard_before_the_database_has_ever_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, server: str, address: str
) -> None:
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        if server == "silent":
            while await reader.read(1000):
                pass
        writer.close()

    serving = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = serving.sockets[0].getsockname()[1]
    if server == "absent":
        serving.close()
    given: dict[str, Any] = {
        "database_url": {"database_url": f"postgresql://postgres@127.0.0.1:{port}/zora"},
        "supabase_url": {
            "supabase_url": f"http://127.0.0.1:{port}",
            "supabase_service_key": Config(database_url="", jwt_secret=SECRET).secret_key,
        },
    }[address]
    runtime = AgentRuntime(settings=Settings(home=tmp_path, **given))
    loop = asyncio.create_task(runtime.run_loop())
    if server == "silent":
        await asyncio.wait_for(asked.wait(), 10)
    else:
        await until(lambda: "retrying until it answers" in caplog.text)
    with pytest.raises(ConfigurationError, match="already running"):
        await runtime.run_once()
    runtime.stop()
    await asyncio.wait_for(loop, 10)
    assert not runtime.running
    serving.close()


async def test_bad_settings_of_a_runtime_are_refused_at_once(zora: Zora) -> None:
    for wrong in ({"concurrency": 0}, {"lease_seconds": 0}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            AgentRuntime(settings=zora.settings, **wrong)  # type: ignore[arg-type]
    runtime = AgentRuntime(settings=zora.settings, database=zora.database)
    for call in (runtime.run_once(limit=0), runtime.run_loop(sleep_seconds=0)):
        with pytest.raises(ConfigurationError):
            await call


class Proposer(Agent):
    agent_id = AgentId.SAM

    @handler("propose")
    async def propose(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        """Suggest another headline, and say what people decided on such suggestions before."""
        said = [f"{s.status}: {s.reason}" for s in await ctx.decisions("change_frontend_config")]
        ctx.cite("payload", "page", "Old")
        change = Suggestion(
            suggestion_type="change_frontend_config",
            title="New headline",
            target={"page": "climate", "path": ["title"]},
            current_value={"value": "Old"},
            suggested_value={"value": f"New {len(said)}"},
            evidence=[Quote(source="page", text="Old")],
        )
        return TaskResult(summary=str(said), suggestions=[change])


async def test_what_a_policy_allows_is_applied_by_the_run_that_suggests_it(zora: Zora) -> None:
    await zora.seed("frontend_configs", page="climate", config={"title": "Old"})
    await zora.call("set_agent_task_policy", tenant_id=zora.tenant_id, task_type="propose", max_risk_level="low")
    await zora.create("SAM", "propose")
    await zora.run_once(Proposer())
    (row,) = await zora.call("list_frontend_configs", tenant_id=zora.tenant_id)
    assert row["config"] == {"title": "New 0"}


async def test_a_handler_is_told_what_people_decided_on_its_kind_of_suggestion(zora: Zora) -> None:
    await zora.seed("frontend_configs", page="climate", config={"title": "Old"})
    await zora.create("SAM", "propose")
    await zora.run_once(Proposer())
    (row,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id)
    await zora.call(
        "decide_agent_suggestion", tenant_id=zora.tenant_id, id=row["id"], decision="reject", reason="not our tone"
    )
    task_id = await zora.create("SAM", "propose")
    await zora.run_once(Proposer())
    assert (await zora.task(task_id)).result_summary == "['rejected: not our tone']"


async def test_a_suggestion_that_cannot_be_carried_out_fails_its_task_by_name(zora: Zora) -> None:
    class Wrong(Agent):
        agent_id = AgentId.SAM

        @handler("wrong")
        async def wrong(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
            """Suggest something that no type of suggestion knows."""
            ctx.cite("payload", "page", "Old")
            change = Suggestion(suggestion_type="paint", title="t", evidence=[Quote(source="page", text="Old")])
            return TaskResult(summary="s", suggestions=[change])

    task_id = await zora.create("SAM", "wrong")
    await zora.run_once(Wrong())
    task = await zora.task(task_id)
    assert (task.status, task.failure_kind, task.result) == ("failed", "error", None)
    assert "unknown suggestion type 'paint' (known: advice, create_climate_missions" in (task.error_message or "")


class Numbers(Payload):
    numbers: list[int]


class Adder(Agent):
    agent_id = AgentId.SAM

    @handler("add")
    async def add(self, task: Task, payload: Numbers, ctx: TaskContext) -> TaskResult:
        """Add numbers."""
        ctx.cite("payload", "numbers", str(payload.numbers))
        return TaskResult(summary=str(sum(payload.numbers)), result={"sum": sum(payload.numbers)})


async def test_a_tenant_that_does_not_exist_is_no_empty_queue(zora: Zora) -> None:
    settings = dataclasses.replace(zora.settings, database_url=zora.url, tenant_id=uuid4())
    with pytest.raises(ConfigurationError, match=r"ZORA_TENANT_ID names none of them.*`zora tenants add NAME`"):
        await AgentRuntime(settings=settings).run_once()
    settings = dataclasses.replace(settings, tenant_id=zora.tenant_id)
    assert await AgentRuntime(settings=settings).run_once() == []


async def test_results_flow_along_a_graph(zora: Zora) -> None:
    def add(key: str, *numbers: Any, after: tuple[str, ...] = ()) -> dict[str, Any]:
        payload = {"numbers": list(numbers)}
        return {
            "key": key, "agent_id": "SAM", "task_type": "add", "title": key, "payload": payload,
            "depends_on": list(after),
        }  # fmt: skip

    first, second = ({"$result": key, "path": "result.sum"} for key in ("one", "two"))
    tasks = [add("one", 1, 2), add("two", 10), add("both", first, second, 100, after=("one", "two"))]
    rows = await zora.call("create_agent_task_graph", tenant_id=zora.tenant_id, tasks=tasks)
    runs = await zora.run_once(Adder())
    assert [run.summary for run in runs if run.task.title == "both"] == ["113"]
    assert (await zora.task(rows[2]["id"])).payload == {"numbers": [first, second, 100]}, "as it was created"


async def test_a_reference_to_nothing_fails_the_task_and_says_so(zora: Zora) -> None:
    tasks = [
        {"key": "one", "agent_id": "SAM", "task_type": "add", "title": "t", "payload": {"numbers": [1]}},
        {
            "key": "two", "agent_id": "SAM", "task_type": "add", "title": "t", "depends_on": ["one"],
            "payload": {"numbers": {"$result": "one", "path": "result.numbers"}},
        },
    ]  # fmt: skip
    rows = await zora.call("create_agent_task_graph", tenant_id=zora.tenant_id, tasks=tasks)
    await zora.run_once(Adder())
    task = await zora.task(rows[1]["id"])
    assert (task.failure_kind, task.error_message) == (
        "invalid_payload", "the result of 'one' has nothing at 'result.numbers': give the reference a default",
    )  # fmt: skip


async def take_back(zora: Zora, *, unnoticed: bool = False) -> None:
    """Let every lease expire and be taken back in one transaction, so that no heartbeat comes between.

    `unnoticed`: as after a failover to a server that does not know the claim, where the task has lost no lease.
    """
    connection = await asyncpg.connect(zora.url)
    try:
        await connection.execute(
            "begin; update agent_tasks set lease_expires_at = zora_now() - interval '1 second' "
            "where status = 'in_progress'; select rescue_agent_tasks(); "
            f"{'update agent_tasks set lost_leases = 0; ' if unnoticed else ''}commit"
        )
    finally:
        await connection.close()


async def test_a_worker_that_gets_its_own_task_back_runs_it_again_and_forgets_the_old_run(zora: Zora) -> None:
    """Its process slept past the lease, say, and another one took the task back."""
    probe, ended = Probe(), list[TaskRun]()
    task_id = await zora.create("SAM", "wait")
    worker = zora.worker(probe, lease_seconds=2, observe=lambda e: ended.append(e) if isinstance(e, TaskRun) else None)
    async with working(worker):
        await until(lambda: probe.calls == 1)
        (old,) = worker.running
        await take_back(zora)
        await until(lambda: probe.calls == 2)
        await until(lambda: old not in worker.running)
        (run,) = worker.running.values()

        async def heartbeated() -> bool:
            await zora.advance(seconds=1)
            (row,) = await zora.sql("select lease_token, lease_expires_at - zora_now() as left from agent_tasks")
            return bool(row["lease_token"] == run.lease_token and row["left"].total_seconds() == 2)

        await until(heartbeated)
        probe.release.set()
        await until(lambda: len(ended) == 2)
    assert [run.status for run in ended] == ["lost", "completed"]
    task = await zora.task(task_id)
    assert (task.status, task.attempt) == ("completed", 1)
    (row,) = await zora.sql("select count(*) from memory_events where metadata ->> 'status' = 'completed'")
    assert row["count"] == 1


async def test_the_old_run_of_a_task_that_comes_back_is_stopped_without_a_heartbeat(
    zora: Zora, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, ended = Probe(), list[TaskRun]()
    await zora.create("SAM", "wait")
    call = zora.database.call

    async def without_heartbeats(function: str, /, **arguments: Any) -> list[dict[str, Any]]:
        return [] if function == "heartbeat_agent_tasks" else await call(function, **arguments)

    monkeypatch.setattr(zora.database, "call", without_heartbeats)
    worker = zora.worker(probe, observe=lambda e: ended.append(e) if isinstance(e, TaskRun) else None)
    async with working(worker):
        await until(lambda: probe.calls == 1)
        await take_back(zora, unnoticed=True)
        await until(lambda: probe.calls == 2)
        await until(lambda: [run.status for run in ended] == ["lost"])
        probe.release.set()
        await until(lambda: len(ended) == 2)
    assert ended[1].status == "completed"


async def test_a_task_claimed_again_before_its_settlement_was_acknowledged_has_two_runs(
    zora: Zora, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of a settlement is slow: the task is ready again, and is claimed by the worker that settles it."""
    probe, ended = Probe(), list[TaskRun]()
    await zora.create("SAM", "fail")
    call, acknowledged = zora.database.call, asyncio.Event()

    async def slow(function: str, /, **arguments: Any) -> list[dict[str, Any]]:
        rows = await call(function, **arguments)
        if function == "settle_agent_tasks":
            await acknowledged.wait()
        return rows

    monkeypatch.setattr(zora.database, "call", slow)
    worker = zora.worker(probe, observe=lambda e: ended.append(e) if isinstance(e, TaskRun) else None)
    async with working(worker):

        async def retried() -> bool:
            return (await zora.sql("select waiting_for from agent_tasks"))[0]["waiting_for"] == "retry"

        await until(retried)
        await zora.sql("update agent_tasks set task_type = 'wait', waiting_for = null")
        await zora.sql("select pg_notify('agent_tasks', $1)", str(zora.tenant_id))
        worker._wake.set()
        await until(lambda: probe.calls == 1)
        acknowledged.set()
        await until(lambda: len(ended) == 1)
        probe.release.set()
        await until(lambda: len(ended) == 2)
    assert [run.status for run in ended] == ["pending", "completed"]
