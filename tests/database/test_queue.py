"""The queue's functions, one statement about each."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.conftest import START, Zora
from zora_core.errors import DataRejected, InvalidInput, InvalidState, NotFound

pytestmark = pytest.mark.both_transports

Row = dict[str, Any]


async def claim(zora: Zora, limit: int = 1, worker: str = "w1", lease: float = 30) -> list[Row]:
    return await zora.call(
        "claim_agent_tasks", tenant_id=zora.tenant_id, worker_id=worker, limit=limit, lease_seconds=lease
    )


async def settle(zora: Zora, claimed: Row, outcome: str = "completed", **fields: Any) -> list[Row]:
    arguments = {
        "summaries": fields.get("summary"),
        "results": fields.get("result"),
        "errors": fields.get("error"),
        "failure_kinds": fields.get("failure_kind"),
        "delays": fields.get("delay"),
    }
    return await zora.call(
        "settle_agent_tasks",
        ids=[claimed["id"]],
        lease_tokens=[claimed["lease_token"]],
        outcomes=[outcome],
        **{name: [value] for name, value in arguments.items()},
    )


async def journal(zora: Zora, task_id: UUID) -> list[str]:
    rows = await zora.sql("select event_type from journal_entries where task_id = $1 order by id", task_id)
    return [row["event_type"] for row in rows]


async def test_a_completed_run_leaves_its_result_one_journal_entry_and_one_memory(zora: Zora) -> None:
    task_id = await zora.create("sam", "review_climate_page", {"page": "climate"}, priority=3)
    (claimed,) = await claim(zora)
    assert (claimed["id"], claimed["payload"], claimed["attempt"]) == (task_id, {"page": "climate"}, 1)
    await zora.advance(seconds=2.5)
    await settle(zora, claimed, summary="nothing found", result={"findings": [], "suggestions": []})

    task = await zora.task(task_id)
    assert (task.status, task.result_summary, task.completed_at) == ("completed", "nothing found", zora.now)
    (entry,) = await zora.sql("select * from journal_entries where event_type = 'agent_task_completed'")
    assert entry["title"] == "SAM task: review_climate_page (completed)"
    assert (entry["category"], entry["author"], entry["related_entity_ids"]) == ("agent_action", "sam", [task_id])
    (details,) = await zora.call("list_journal_entries", tenant_id=zora.tenant_id, category="agent_action", limit=1)
    assert details["details"] == {
        "task_id": str(task_id), "agent_id": "SAM", "task_type": "review_climate_page", "status": "completed",
        "priority": 3, "attempt": 1, "duration_ms": 2500,
    }  # fmt: skip
    (memory,) = await zora.sql("select * from memory_events")
    assert (memory["agent"], memory["memory_type"]) == ("EIVOR", "result")
    assert memory["tags"] == ["agent_task", "SAM", "review_climate_page", "completed"]


async def test_suggestions_of_a_result_are_stored_as_proposed_and_journalled(zora: Zora) -> None:
    await zora.create("SAM", "t")
    (claimed,) = await claim(zora)
    suggestion = {
        "suggestion_type": "advice", "title": "Say by when", "body": "", "target": {"page": "climate"},
        "current_value": "soon", "suggested_value": "by 2030", "evidence": [{"kind": "quote"}], "risk_level": "low",
    }  # fmt: skip
    await settle(zora, claimed, summary="s", result={"suggestions": [suggestion, suggestion]})
    rows = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id)
    assert [(r["status"], r["suggested_value"], r["agent_id"]) for r in rows] == [("proposed", "by 2030", "SAM")] * 2
    assert (await journal(zora, claimed["id"])).count("agent_suggestion_created") == 2


async def test_highest_priority_first_then_oldest(zora: Zora) -> None:
    low = await zora.create("SAM", "t", priority=-1)
    old = await zora.create("SAM", "t")
    await zora.advance(seconds=1)
    new = await zora.create("SAM", "t")
    high = await zora.create("SAM", "t", priority=5)
    assert [(await claim(zora))[0]["id"] for _ in range(4)] == [high, old, new, low]
    assert await claim(zora) == []


async def test_claimers_do_not_wait_for_one_another_and_never_share_a_task(zora: Zora) -> None:
    ids = {await zora.create("SAM", "t") for _ in range(4)}
    first = await asyncpg.connect(zora.url)
    second = await asyncpg.connect(zora.url)
    statement = "select id from claim_agent_tasks($1, $2, 2)"
    async with first.transaction():
        held = {row["id"] for row in await first.fetch(statement, zora.tenant_id, "w1")}
        other = {row["id"] for row in await second.fetch(statement, zora.tenant_id, "w2", timeout=5)}
    assert held | other == ids
    await first.close()
    await second.close()


async def test_a_worker_without_the_lease_writes_nothing_at_all(zora: Zora) -> None:
    task_id = await zora.create("SAM", "t")
    (zombie,) = await claim(zora, worker="zombie")
    await zora.advance(seconds=31)
    await zora.call("rescue_agent_tasks")
    (heir,) = await claim(zora, worker="heir")
    await zora.advance(seconds=5)
    before = await _everything(zora)
    result = {"suggestions": [{"suggestion_type": "advice", "title": "t", "evidence": [], "risk_level": "low"}]}
    for outcome in ("completed", "failed", "error", "snoozed", "released"):
        assert await settle(zora, zombie, outcome, summary="mine", result=result, error="mine", delay=1.0) == []
    beat = await zora.call("heartbeat_agent_tasks", ids=[task_id], lease_tokens=[zombie["lease_token"]])
    assert [(row["lease_token"], row["state"]) for row in beat] == [(zombie["lease_token"], "lost")]
    assert await _everything(zora) == before
    assert (await settle(zora, heir, summary="heir's"))[0]["status"] == "completed"


async def test_a_lease_lost_by_a_worker_that_is_alive_does_not_make_its_task_a_suspect(zora: Zora) -> None:
    """It was cut off or paused; the task did not end it."""
    ids = [await zora.create("SAM", "t") for _ in range(2)]
    await beat(zora, "alive")
    await beat(zora, "dead")
    for worker in ("alive", "dead"):
        await claim(zora, worker=worker)
    await zora.advance(seconds=31)
    await beat(zora, "alive")
    assert {row["id"] for row in await zora.call("rescue_agent_tasks", max_lost=1)} == set(ids)
    rows = await zora.sql("select worker_id, status::text, lost_leases from agent_tasks order by worker_id")
    assert [tuple(row) for row in rows] == [("alive", "pending", 0), ("dead", "failed", 1)]


async def _everything(zora: Zora) -> list[list[Any]]:
    tables = ("agent_tasks", "journal_entries", "memory_events", "agent_suggestions")
    return [[dict(row) for row in await zora.sql(f"select * from {table} order by id")] for table in tables]


async def test_repeating_a_settlement_returns_the_row_and_writes_nothing(zora: Zora) -> None:
    await zora.create("SAM", "t")
    (claimed,) = await claim(zora)
    first = await settle(zora, claimed, summary="once", result={})
    before = await _everything(zora)
    assert await settle(zora, claimed, summary="twice", result={}) == first
    assert await _everything(zora) == before


async def test_an_error_is_retried_with_growing_delays_until_the_attempts_are_used_up(zora: Zora) -> None:
    task_id = await zora.create("SAM", "t", max_attempts=3)
    delays = []
    for _ in range(2):
        (claimed,) = await claim(zora)
        (row,) = await settle(zora, claimed, "error", error="ValueError: no", failure_kind="error")
        assert (row["status"], row["waiting_for"]) == ("pending", "retry")
        delays.append((row["run_at"] - zora.now).total_seconds())
        assert await claim(zora) == []
        await zora.advance(seconds=delays[-1])
        await zora.call("promote_agent_tasks")
    (claimed,) = await claim(zora)
    await settle(zora, claimed, "error", error="ValueError: no", failure_kind="timeout")
    task = await zora.task(task_id)
    assert (task.status, task.failure_kind, task.error_message) == ("failed", "timeout", "ValueError: no")
    assert 4 <= delays[0] <= 6
    assert 16 <= delays[1] <= 24
    assert await journal(zora, task_id) == [
        "agent_task_created", "agent_task_retried", "agent_task_retried", "agent_task_failed",
    ]  # fmt: skip


async def test_snoozing_and_handing_back_restore_the_attempt(zora: Zora) -> None:
    task_id = await zora.create("SAM", "t", max_attempts=1)
    (claimed,) = await claim(zora)
    (row,) = await settle(zora, claimed, "snoozed", delay=60.0)
    assert (row["waiting_for"], row["run_at"]) == ("run_at", zora.now + timedelta(seconds=60))
    await zora.advance(seconds=60)
    assert (await zora.call("promote_agent_tasks"))[0]["promoted"] == 1
    (claimed,) = await claim(zora)
    assert claimed["attempt"] == 1
    (row,) = await settle(zora, claimed, "released")
    task = await zora.task(task_id)
    assert (task.status, task.waiting_for, task.attempt, task.error_message) == ("pending", None, 0, None)
    assert await journal(zora, task_id) == ["agent_task_created", "agent_task_snoozed"]


async def test_a_task_whose_workers_keep_vanishing_ends_as_lost(zora: Zora) -> None:
    task_id = await zora.create("SAM", "t")
    for lost in (1, 2, 3):
        (claimed,) = await claim(zora, worker=f"w{lost}")
        assert claimed["attempt"] == 1
        await zora.advance(seconds=30)
        assert await zora.call("rescue_agent_tasks") == [], "the lease holds to its last moment"
        await zora.advance(seconds=1)
        assert len(await zora.call("rescue_agent_tasks")) == 1
    task = await zora.task(task_id)
    assert (task.status, task.failure_kind, task.lost_leases) == ("failed", "lost", 3)
    assert "w3" in (task.error_message or "")
    assert await journal(zora, task_id) == [
        "agent_task_created", "agent_task_rescued", "agent_task_rescued", "agent_task_failed",
    ]  # fmt: skip
    assert len(await zora.sql("select from memory_events")) == 3


async def test_heartbeats_keep_a_lease_carry_progress_and_bring_back_cancellations(zora: Zora) -> None:
    task_id = await zora.create("SAM", "t")
    (claimed,) = await claim(zora)
    await zora.advance(seconds=20)
    arguments = {"ids": [task_id], "lease_tokens": [claimed["lease_token"]], "lease_seconds": 30.0}
    beat = await zora.call("heartbeat_agent_tasks", **arguments, progress=[0.4], messages=["reading"])
    assert [row["state"] for row in beat] == ["held"]
    await zora.advance(seconds=20)
    assert await zora.call("rescue_agent_tasks") == []
    (row,) = await zora.sql("select progress, progress_message from agent_tasks")
    assert (row["progress"], row["progress_message"]) == (pytest.approx(0.4), "reading")
    await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=task_id, reason="wrong page")
    assert (await zora.call("heartbeat_agent_tasks", **arguments))[0]["state"] == "cancel"


async def test_cancelling_a_pending_task_fails_it_at_once(zora: Zora) -> None:
    task_id = await zora.create("SAM", "t", run_at=(START + timedelta(days=1)).isoformat())
    await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=task_id, reason="not needed")
    task = await zora.task(task_id)
    assert (task.status, task.failure_kind, task.waiting_for) == ("failed", "cancelled", None)
    assert "not needed" in (task.error_message or "")
    with pytest.raises(InvalidState, match="only a pending or running task can be cancelled"):
        await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=task_id)


async def test_a_cancelled_run_is_not_retried_but_work_that_was_done_counts(zora: Zora) -> None:
    stopped, finished = await zora.create("SAM", "t"), await zora.create("SAM", "t")
    rows = {row["id"]: row for row in await claim(zora, limit=2)}
    for task_id in rows:
        await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=task_id)
    await settle(zora, rows[stopped], "error", error="interrupted", failure_kind="error")
    await settle(zora, rows[finished], "completed", summary="too late to stop", result={})
    assert (await zora.task(stopped)).failure_kind == "cancelled"
    assert (await zora.task(finished)).status == "completed"


async def test_the_rescue_honours_a_cancellation(zora: Zora) -> None:
    task_id = await zora.create("SAM", "t")
    await claim(zora)
    await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=task_id)
    await zora.advance(seconds=31)
    await zora.call("rescue_agent_tasks")
    assert (await zora.task(task_id)).failure_kind == "cancelled"


async def test_retrying_gives_a_failed_task_all_its_attempts_and_only_that(zora: Zora) -> None:
    task_id = await zora.create("SAM", "t", idempotency_key="k")
    with pytest.raises(InvalidState, match="only a failed task can be retried"):
        await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=task_id)
    (claimed,) = await claim(zora)
    await settle(zora, claimed, "failed", error="no", failure_kind="error")
    await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=task_id)
    task = await zora.task(task_id)
    assert (task.status, task.attempt, task.failure_kind, task.completed_at) == ("pending", 0, None, None)
    assert await settle(zora, claimed, summary="zombie") == [], "the old lease is worthless after a retry"


async def test_a_rejected_task_never_runs_again(zora: Zora) -> None:
    task_id = await zora.seed("agent_tasks", agent_id="SAM", task_type="t", title="t", status="failed",
                              failure_kind="rejected", attempt=0, max_attempts=3, priority=0, lost_leases=0,
                              id=uuid4())  # fmt: skip
    with pytest.raises(InvalidState, match="rejected by a person"):
        await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=task_id)


async def test_an_idempotency_key_creates_one_task_however_often_and_from_wherever(zora: Zora) -> None:
    task = {"agent_id": "SAM", "task_type": "t", "title": "t", "idempotency_key": "monday"}

    async def create() -> list[Row]:
        return await zora.call("create_agent_tasks", tenant_id=zora.tenant_id, tasks=[task])

    answers = await asyncio.gather(*(create() for _ in range(8)))
    assert len({row["id"] for (row,) in answers}) == 1
    assert sorted(row["created"] for (row,) in answers) == [False] * 7 + [True]
    assert await journal(zora, answers[0][0]["id"]) == ["agent_task_created"]


async def test_many_tasks_are_created_in_their_order_in_one_call(zora: Zora) -> None:
    tasks = [{"agent_id": "SAM", "task_type": "t", "title": f"{n}"} for n in range(1000)]
    rows = await zora.call("create_agent_tasks", tenant_id=zora.tenant_id, tasks=tasks)
    assert [row["title"] for row in rows] == [f"{n}" for n in range(1000)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"agent_id": "HAL"}, "unknown agent 'HAL'"),
        ({"titel": "x"}, "unknown field 'titel'"),
        ({"title": " "}, "lacks 'title'"),
        ({"title": "x" * 501}, "over 500 characters"),
        ({"payload": [1]}, "payload that is not an object"),
    ],
)
async def test_a_bad_task_names_what_is_wrong_and_nothing_is_created(zora: Zora, change: Row, message: str) -> None:
    good = {"agent_id": "SAM", "task_type": "t", "title": "t"}
    with pytest.raises(InvalidInput, match=message) as raised:
        await zora.call("create_agent_tasks", tenant_id=zora.tenant_id, tasks=[good, {**good, **change}])
    assert "task 2 of 2" in str(raised.value)
    assert await zora.sql("select from agent_tasks") == []


async def test_a_task_in_the_future_waits_for_its_time(zora: Zora) -> None:
    task_id = await zora.create("SAM", "t", run_at=(START + timedelta(hours=1)).isoformat())
    assert await claim(zora) == []
    (row,) = await zora.call("promote_agent_tasks")
    assert (row["promoted"], row["next_due_seconds"]) == (0, 3600)
    await zora.advance(hours=1)
    assert (await zora.call("promote_agent_tasks"))[0]["promoted"] == 1
    assert [row["id"] for row in await claim(zora)] == [task_id]


async def test_pruning_removes_old_finished_tasks_and_never_the_journal(zora: Zora) -> None:
    kept, old, proposing = [await zora.create("SAM", "t") for _ in range(3)]
    rows = {row["id"]: row for row in await claim(zora, limit=3)}
    await settle(zora, rows[old], summary="s", result={})
    proposal = {"suggestion_type": "advice", "title": "t", "evidence": [], "risk_level": "low"}
    await settle(zora, rows[proposing], summary="s", result={"suggestions": [proposal]})
    await zora.advance(days=10)
    await settle(zora, rows[kept], summary="s", result={})
    before = await zora.sql("select id from journal_entries")
    assert await zora.database.value("prune_agent_tasks", tenant_id=zora.tenant_id, older_than_seconds=86400.0) == 1
    assert {row["id"] for row in await zora.sql("select id from agent_tasks")} == {kept, proposing}
    assert await zora.sql("select id from journal_entries") == before


@pytest.mark.parametrize("statement", ["update journal_entries set title = 'x'", "delete from journal_entries",
                                       "truncate journal_entries"])  # fmt: skip
async def test_the_journal_refuses_to_be_changed(zora: Zora, statement: str) -> None:
    await zora.create("SAM", "t")
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await zora.sql(statement)


@pytest.mark.direct_connection
async def test_creating_tasks_notifies_once_per_statement_also_when_inserted_by_hand(zora: Zora) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with zora.database.listening("agent_tasks", heard.put_nowait):
        await zora.sql(
            "insert into agent_tasks (tenant_id, agent_id, task_type, title) "
            "select $1, 'SAM', 't', 't' from generate_series(1, 50)",
            zora.tenant_id,
        )
        assert await asyncio.wait_for(heard.get(), 5) == str(zora.tenant_id)
    assert heard.empty()


async def test_every_state_is_explained_in_a_sentence(zora: Zora) -> None:
    async def explain(task_id: UUID) -> str:
        return str(await zora.database.value("explain_agent_task", tenant_id=zora.tenant_id, id=task_id))

    task_id = await zora.create("SAM", "t")
    behind = await zora.create("SAM", "t", priority=-1)
    await zora.advance(seconds=5)
    assert await explain(task_id) == (
        "Ready for 5.0 s, first in the queue; "
        "no worker is running: start one with run-once or run-loop, with an agent that has this type, SAM t."
    )
    gone = {"id": "w0", "host": "h", "version": "1", "task_types": ["SAM t"], "slots": 1, "next_seconds": 0}
    await zora.call("beat_worker", tenant_id=zora.tenant_id, **gone)
    assert (await explain(task_id)).endswith("; no worker is running: start one with run-once or run-loop.")
    assert "behind 1 other task" in await explain(behind)
    (claimed,) = await claim(zora, worker="w1")
    await zora.advance(seconds=3)
    assert await explain(task_id) == "Running for 3.0 s on worker w1; its lease holds for another 27 s."
    assert "1 task is running now" in await explain(behind)
    await zora.advance(seconds=60)
    assert "has not been heard of" in await explain(task_id)
    await settle(zora, claimed, "error", error="ValueError: no")
    assert (await explain(task_id)).startswith("Attempt 1 of 3 failed (ValueError: no); the next one is due in")
    await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=task_id)
    await zora.advance(hours=3)
    assert (await explain(task_id)).startswith("Failed (cancelled) 3 h ago")
    future = await zora.create("SAM", "t", run_at=(zora.now + timedelta(days=3)).isoformat())
    assert (await explain(future)).startswith("Waits for its time: to run in 3 days")
    with pytest.raises(NotFound):
        await explain(uuid4())


async def test_a_task_is_found_by_the_end_of_its_id(zora: Zora) -> None:
    task_id = await zora.create("SAM", "t")
    (row,) = await zora.call("get_agent_task", tenant_id=zora.tenant_id, id=str(task_id)[-8:])
    assert row["id"] == task_id
    for wrong, error in (("zzzz", InvalidInput), ("0000dead", NotFound), (str(uuid4()), NotFound)):
        with pytest.raises(error):
            await zora.call("get_agent_task", tenant_id=zora.tenant_id, id=wrong)


async def test_another_tenants_tasks_are_not_there(zora: Zora) -> None:
    other = await zora.sql("insert into tenants (name, slug) values ('o', 'o') returning id")
    task_id = await zora.create("SAM", "t")
    theirs = {"tenant_id": other[0]["id"]}
    assert await zora.call("list_agent_tasks", **theirs) == []
    assert await zora.call("claim_agent_tasks", **theirs, worker_id="w", limit=5) == []
    for function in ("cancel_agent_task", "retry_agent_task", "explain_agent_task"):
        with pytest.raises(NotFound):
            await zora.call(function, **theirs, id=task_id)


async def test_an_agent_outside_the_six_cannot_be_inserted_even_by_hand(zora: Zora) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await zora.sql(
            "insert into agent_tasks (tenant_id, agent_id, task_type, title) values ($1, 'HAL', 't', 't')",
            zora.tenant_id,
        )


async def test_a_value_that_cannot_be_stored_is_refused_without_quoting_the_row(zora: Zora) -> None:
    with pytest.raises(DataRejected) as raised:
        await zora.create("SAM", "t", title="secret token", max_attempts=1000)
    assert "secret token" not in str(raised.value)


async def test_ids_are_time_ordered_uuids(zora: Zora) -> None:
    (first,), (second,) = [await zora.sql("select uuidv7() as id, clock_timestamp() as now") for _ in range(2)]
    assert (first["id"].version, second["id"].version) == (7, 7)
    assert first["id"].variant == "specified in RFC 4122"
    stamp = first["id"].int >> 80
    assert abs(stamp / 1000 - first["now"].timestamp()) < 1


async def claimed_ids(zora: Zora, worker: str = "w", **arguments: Any) -> list[UUID]:
    rows = await zora.call("claim_agent_tasks", tenant_id=zora.tenant_id, worker_id=worker, **arguments)
    return [row["id"] for row in rows]


async def something_to_do(zora: Zora, **arguments: Any) -> bool:
    (row,) = await zora.call("work_to_do", tenant_id=zora.tenant_id, **arguments)
    return bool(row["tasks"])


async def test_a_task_that_lost_a_lease_is_claimed_with_nothing_else_by_an_idle_worker(zora: Zora) -> None:
    """It may kill its workers, and would take along what runs beside it."""
    ids = [await zora.create("SAM", "t", priority=-number) for number in range(6)]
    await zora.sql("update agent_tasks set lost_leases = 1, updated_at = zora_now() where id = any ($1)", ids[1:4])
    assert await claimed_ids(zora, limit=5, idle=True) == [ids[0]], "what comes before it"
    assert await claimed_ids(zora, limit=5, idle=False) == [ids[4], ids[5]], "a busy worker passes over"
    assert await claimed_ids(zora, limit=5, idle=False) == []
    assert not await something_to_do(zora, idle=False)
    assert await something_to_do(zora, idle=True)
    for expected in ids[1:4]:
        assert await claimed_ids(zora, limit=5, idle=True) == [expected]
    assert not await something_to_do(zora, idle=True)


async def test_a_suspect_that_found_no_idle_worker_makes_busy_ones_idle(zora: Zora) -> None:
    urgent = await zora.create("SAM", "t", priority=5)
    suspect = await zora.create("SAM", "t")
    other = await zora.create("SAM", "t")
    await zora.sql("update agent_tasks set lost_leases = 1, updated_at = zora_now() where id = $1", suspect)
    await zora.advance(seconds=30)
    assert await claimed_ids(zora, limit=5, idle=False) == [urgent], "a higher priority still goes first"
    assert await claimed_ids(zora, limit=5, idle=False) == []
    assert not await something_to_do(zora, idle=False)
    assert await claimed_ids(zora, limit=5, idle=True) == [suspect]
    assert await claimed_ids(zora, limit=5, idle=False) == [other]


async def test_one_worker_becomes_idle_for_a_suspect_and_the_others_go_on(zora: Zora) -> None:
    suspect, *others = [await zora.create("SAM", kind) for kind in ("a", "b", "b", "b", "a")]
    await zora.sql("update agent_tasks set lost_leases = 1, updated_at = zora_now() where id = $1", suspect)
    await zora.advance(seconds=30)
    await beat(zora, "v", "SAM a", next_seconds=3600.0)  # a limited run that was killed
    await zora.advance(seconds=60)
    await beat(zora, "w0", "SAM b")
    for worker in ("w1", "w2", "w3"):
        await beat(zora, worker, "SAM a", "SAM b")

    async def claims(worker: str) -> list[UUID]:
        types = {"task_types": ["SAM b"] if worker == "w0" else ["SAM a", "SAM b"], "idle": False}
        looked = await something_to_do(zora, worker_id=worker, **types)
        found = await claimed_ids(zora, worker, limit=1, **types)
        assert looked == bool(found)
        return found

    assert [await claims(worker) for worker in ("w3", "w2", "w1", "w0")] == [[others[0]], [others[1]], [], [others[2]]]
    await zora.advance(seconds=61)
    await beat(zora, "w2", "SAM a", "SAM b")
    await beat(zora, "w3", "SAM a", "SAM b")
    assert await claims("w2") == [], "it takes over when the first one is silent"
    assert await claims("w3") == [others[3]]
    assert await claimed_ids(zora, "w2", limit=5, idle=True) == [suspect]


class Fleet:
    """Busy workers beside a suspect: which of them may claim, each of one task at a time."""

    def __init__(self, zora: Zora) -> None:
        self._zora = zora

    async def beat(self, *workers: str) -> None:
        for worker in workers:
            await beat(self._zora, worker, "SAM t")

    async def start(self, worker: str) -> Row:
        """Have a busy worker claim a task."""
        (claimed,) = await self._claim(worker)
        return claimed

    async def elected(self, *workers: str) -> list[str]:
        """The workers that get nothing, although a task is ready."""
        await self.beat(*workers)
        found = {worker: await self._claim(worker) for worker in workers}
        for rows in found.values():
            for row in rows:
                await settle(self._zora, row)
        return [worker for worker, rows in found.items() if not rows]

    async def _claim(self, worker: str) -> list[Row]:
        await self._zora.create("SAM", "t")
        return await self._zora.call(
            "claim_agent_tasks", tenant_id=self._zora.tenant_id, worker_id=worker, limit=1, task_types=["SAM t"],
            idle=False, lease_seconds=7200.0,
        )  # fmt: skip


async def test_the_worker_that_is_likely_to_be_idle_first_is_elected_for_a_suspect(zora: Zora) -> None:
    fleet = Fleet(zora)
    suspect = await zora.create("SAM", "t", priority=1)
    await zora.sql(
        "update agent_tasks set lost_leases = 1, priority = 0, updated_at = zora_now() where id = $1", suspect
    )
    await fleet.start("w1")  # for half an hour
    await zora.advance(seconds=20)
    short = await fleet.start("w2")
    await zora.advance(seconds=15)
    assert await fleet.elected("w1", "w2") == ["w2"]
    await zora.advance(seconds=20)
    assert await fleet.elected("w1", "w2") == ["w2"], "w1 starts more tasks meanwhile"
    await settle(zora, short)
    assert await claimed_ids(zora, "w2", limit=5, idle=True) == [suspect]


async def test_an_idle_worker_takes_a_suspect_whichever_worker_is_elected(zora: Zora) -> None:
    fleet = Fleet(zora)
    suspect = await zora.create("SAM", "t")
    await zora.sql("update agent_tasks set lost_leases = 1, updated_at = zora_now() where id = $1", suspect)
    await fleet.start("w1")
    await zora.advance(seconds=40)
    assert await fleet.elected("w1") == ["w1"]
    await fleet.beat("w2")
    assert await claimed_ids(zora, "w2", limit=5, idle=True) == [suspect]


async def test_an_elected_worker_is_given_time_to_become_idle(zora: Zora) -> None:
    """Else each would start something when another is elected, and none would ever be idle."""
    fleet = Fleet(zora)
    suspect = await zora.create("SAM", "t")
    await zora.sql("update agent_tasks set lost_leases = 1, updated_at = zora_now() where id = $1", suspect)
    await fleet.beat("w1", "w2", "w3")
    tasks = {}
    for worker in ("w2", "w1", "w3"):
        tasks[worker] = await fleet.start(worker)
        await zora.advance(seconds=11)
    assert await fleet.elected("w1", "w2", "w3") == ["w3"]
    await fleet.start("w2")
    await settle(zora, tasks["w2"])
    assert await fleet.elected("w1", "w2", "w3") == ["w2"], "its tasks end sooner than those of w3"
    await zora.advance(seconds=5)
    await fleet.start("w1")
    await settle(zora, tasks["w1"])
    assert await fleet.elected("w1", "w2", "w3") == ["w2"], "w1 is no better, and would have to start waiting"
    await zora.advance(seconds=25)
    assert await fleet.elected("w1", "w2", "w3") == ["w1"], "after 60 seconds: the task of w2 turned out to be long"


async def test_a_worker_claims_only_the_types_that_it_names(zora: Zora) -> None:
    ours, other = await zora.create("SAM", "a"), await zora.create("SAM", "b")
    same_name = await zora.create("LUMINA", "a")
    types = {"task_types": ["SAM a", "EIVOR b"]}
    assert await claimed_ids(zora, limit=5, **types) == [ours]
    assert await claimed_ids(zora, limit=5, **types) == []
    assert not await something_to_do(zora, **types)
    assert await something_to_do(zora)
    assert await claimed_ids(zora, limit=5, task_types=[]) == []
    assert await claimed_ids(zora, limit=5) == [other, same_name]


async def beat(zora: Zora, worker: str, *task_types: str, next_seconds: float = 5.0) -> None:
    await zora.call(
        "beat_worker", tenant_id=zora.tenant_id, id=worker, host="h", version="1", task_types=list(task_types), slots=4,
        next_seconds=next_seconds,
    )  # fmt: skip


async def fail_unknown(zora: Zora, worker: str) -> int:
    return int(
        await zora.database.value(
            "fail_unknown_agent_tasks", tenant_id=zora.tenant_id, worker_id=worker, after_seconds=600.0
        )
    )


async def test_a_type_that_no_worker_knows_waits_for_ten_minutes_of_a_running_worker(zora: Zora) -> None:
    async def explain(task_id: UUID) -> str:
        return str(await zora.database.value("explain_agent_task", tenant_id=zora.tenant_id, id=task_id))

    known = await zora.create("SAM", "old")
    graph = [
        {"key": "new", "agent_id": "SAM", "task_type": "new", "title": "t"},
        {"key": "after", "agent_id": "SAM", "task_type": "old", "title": "t", "depends_on": ["new"]},
    ]
    task_id = (await zora.call("create_agent_task_graph", tenant_id=zora.tenant_id, tasks=graph))[0]["id"]
    await zora.advance(days=3)  # with no worker at all
    await beat(zora, "a", "SAM old", "LUMINA x")
    assert await explain(task_id) == (
        "Ready, but no running worker knows this type, SAM new (1 worker is running): start a worker whose agents "
        "have it."
    )
    assert "1 worker that knows its type is running" in await explain(known)
    assert await fail_unknown(zora, "a") == 0, "a worker that has just started does not know who comes next"
    await zora.advance(minutes=9)
    await beat(zora, "a", "SAM old", "LUMINA x")
    await beat(zora, "b", "SAM new")
    assert "1 worker that knows its type is running" in await explain(task_id)
    await beat(zora, "b", "SAM new", next_seconds=0.0)
    assert "no running worker knows this type" in await explain(task_id)
    for _ in range(2):
        await zora.advance(minutes=4)
        assert await fail_unknown(zora, "a") == 0, "not ten minutes since the last one that knew it"
        await beat(zora, "a", "SAM old", "LUMINA x")
    await zora.advance(minutes=2, seconds=1)
    late = await zora.create("SAM", "new")
    assert await fail_unknown(zora, "a") == 1
    task = await zora.task(task_id)
    assert (task.status, task.failure_kind, task.error_message) == (
        "failed", "unknown_task_type",
        "unknown task type 'new' for SAM: no worker that knows it has been running for 10 min (known: old)",
    )  # fmt: skip
    assert (await zora.task(late)).status == "pending", "it has waited for no time"
    rows = await zora.sql("select failure_kind from agent_tasks where status = 'failed' order by failure_kind")
    assert [row["failure_kind"] for row in rows] == ["dependency", "unknown_task_type"]


async def test_workers_that_are_gone_for_long_are_forgotten(zora: Zora) -> None:
    await beat(zora, "a", "SAM t")
    await zora.advance(hours=25)
    await beat(zora, "b", "SAM t")
    assert [row["id"] for row in await zora.sql("select id from workers")] == ["b"]


async def test_a_policy_is_for_a_type_that_the_program_or_a_worker_knows(zora: Zora) -> None:
    await beat(zora, "a", "SAM theirs")
    policy = {"tenant_id": zora.tenant_id, "known_types": ["ours"]}
    for known in ("ours", "theirs"):
        await zora.call("set_agent_task_policy", **policy, task_type=known)
    with pytest.raises(InvalidInput, match=r"unknown task type 'their': .* \(known: ours\)"):
        await zora.call("set_agent_task_policy", **policy, task_type="their")
