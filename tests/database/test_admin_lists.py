"""What the admin pages read, each function by what a person would see, and a task's place in the queue."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.conftest import START, Server, Zora
from tests.database.test_delegation import child, parent
from tests.database.test_dependencies import create as create_graph
from tests.database.test_dependencies import end, node
from tests.database.test_queue import claim, settle
from tests.database.test_suggestions import decide, founder, headline, propose, undo
from zora_core.database import schema
from zora_core.errors import InvalidInput, InvalidState, NotFound
from zora_core.settings import DEFAULT_TENANT_ID

pytestmark = pytest.mark.both_transports

Row = dict[str, Any]


async def find(zora: Zora, **filters: Any) -> list[UUID]:
    return [row["id"] for row in await zora.call("find_agent_tasks", tenant_id=zora.tenant_id, **filters)]


async def board(zora: Zora, *watched: UUID) -> Row:
    return await zora.database.value("agent_board", tenant_id=zora.tenant_id, watched=list(watched))


async def suggestion(zora: Zora, **columns: Any) -> UUID:
    columns = {
        "id": str(uuid4()), "agent_id": "SAM", "suggestion_type": "advice", "title": "t", "evidence": [],
        "target": {}, "risk_level": "low", "status": "proposed", "findings": "{}", **columns,
    }  # fmt: skip
    return await zora.seed("agent_suggestions", **columns)


# find_agent_tasks


async def test_tasks_are_found_newest_first_whatever_their_kind_and_in_pages_without_gaps(zora: Zora) -> None:
    kinds = [("SAM", "a", 0), ("LUMINA", "b", 9), ("SAM", "b", -5), ("ORACLE", "a", 0)]
    ids = [await zora.create(agent_id, task_type, priority=place) for agent_id, task_type, place in kinds * 3]
    for claimed in await claim(zora, 5):
        await settle(zora, claimed)
    assert await find(zora) == ids[::-1]
    walked: list[UUID] = []
    while page := await find(zora, limit=5, before_id=walked[-1] if walked else None):
        walked += page
    assert walked == ids[::-1]
    assert await find(zora, limit=0) == []


async def test_every_filter_lets_through_what_fits(zora: Zora) -> None:
    sam = await zora.create("SAM", "a", title="Review the 100%_Page")
    later = await zora.create("SAM", "b", run_at="2999-01-01T00:00:00Z")
    await zora.advance(hours=1)
    lumina = await zora.create("LUMINA", "b", title="review\\other")
    (claimed,) = await claim(zora)
    assert claimed["id"] == sam
    await settle(zora, claimed, "failed", error="e", failure_kind="error")

    assert await find(zora, agent_id="SAM") == [later, sam]
    assert await find(zora, status="failed") == [sam]
    assert await find(zora, task_type="b") == [lumina, later]
    assert await find(zora, agent_id="SAM", status="pending", task_type="b") == [later]
    assert await find(zora, waiting_for="run_at") == [later]
    assert await find(zora, waiting_for="run_at", status="failed") == []
    assert await find(zora, since=zora.now) == [lumina]
    assert await find(zora, until=zora.now) == [later, sam]
    assert await find(zora, agent_id="AEGIS") == []
    with pytest.raises(Exception, match="agent_task_status"):
        await find(zora, status="finished")


async def test_a_text_is_looked_for_in_titles_and_at_the_ends_of_ids(zora: Zora) -> None:
    sam = await zora.create("SAM", "a", title="Review the 100%_Page")
    other = await zora.create("SAM", "b", title="review\\other abcd")
    assert await find(zora, text="REVIEW") == [other, sam]
    assert await find(zora, text="100%_p") == [sam]
    assert await find(zora, text="%") == [sam]
    assert await find(zora, text="_") == [sam]
    assert await find(zora, text="\\") == [other]
    assert await find(zora, text="") == [other, sam]
    assert await find(zora, text=str(sam)[-6:].upper()) == [sam]
    assert await find(zora, text=str(sam)) == [sam]
    assert await find(zora, text=str(sam), before_id=sam) == []
    assert await find(zora, text=str(uuid4())) == []
    assert await find(zora, text=str(sam)[-3:] + "?") == []


async def test_beyond_what_is_looked_through_only_a_whole_id_or_a_window_of_time_finds_a_task(zora: Zora) -> None:
    """With a bound of three tasks instead of 20,000."""
    (definition,) = await zora.sql("select pg_get_functiondef('find_agent_tasks'::regproc)")
    await zora.sql(definition[0].replace("20000", "3"))
    try:
        ids = [await zora.create("SAM", f"type {n % 2}", title="needle" if n < 2 else "hay") for n in range(5)]
        assert await find(zora, text="needle") == []
        assert await find(zora, text="needle", task_type="type 0") == [ids[0]]
        assert await find(zora, text="needle", before_id=ids[3]) == [ids[1], ids[0]]
        assert await find(zora, text=str(ids[0])[-12:]) == []
        assert await find(zora, text=str(ids[0])) == [ids[0]]
    finally:
        await zora.sql(definition[0])


async def test_a_found_task_is_told_with_what_a_list_shows(zora: Zora) -> None:
    await zora.create("SAM", "t", priority=3)
    (claimed,) = await claim(zora)
    await zora.seed("frontend_configs", page="climate", config={"hero": {"title": "Old"}})
    made = await propose(zora, headline("One"), headline("Two"))
    await decide(zora, made[0], "reject")
    await zora.call(
        "heartbeat_agent_tasks",
        ids=[claimed["id"]], lease_tokens=[claimed["lease_token"]], lease_seconds=30.0, progress=[0.1], messages=["m"],
    )  # fmt: skip
    done, running = await zora.call("find_agent_tasks", tenant_id=zora.tenant_id)
    assert (done["status"], done["suggestions"], done["result_summary"]) == ("completed", 1, "s")
    assert (running["progress"], running["progress_message"], running["suggestions"]) == (0.1, "m", 0)
    assert (running["priority"], running["attempt"], running["started_at"]) == (3, 1, zora.now)
    assert list(done) == [
        "id", "agent_id", "task_type", "status", "waiting_for", "priority", "title", "attempt", "max_attempts",
        "progress", "progress_message", "result_summary", "error_message", "failure_kind", "parent_id",
        "workflow_run_id", "created_at", "started_at", "completed_at", "run_at", "updated_at", "suggestions",
    ]  # fmt: skip


async def test_a_window_of_time_is_a_range_of_ids_where_the_clock_is_the_databases(server: Server) -> None:
    async with server.fresh() as url:
        connection = await asyncpg.connect(url)
        await schema.migrate(connection)
        await connection.execute("insert into tenants (id, name, slug) values ($1, 't', 't')", DEFAULT_TENANT_ID)
        # One a day, the first today, each with an id of two seconds after its creation.
        ids = [
            await connection.fetchval(
                "insert into agent_tasks (id, tenant_id, agent_id, task_type, title, created_at) "
                "select (left(least_uuidv7(d.at + interval '2 s')::text, 14) || right($2, 22))::uuid, $1, 'SAM', 't', "
                "'t', d.at from (select now() - $3 * interval '1 day') as d (at) returning id",
                DEFAULT_TENANT_ID, str(uuid4()), day,
            )
            for day in range(30)
        ]  # fmt: skip
        for since, until in [(None, None), (3, None), (None, 20), (20, 3), (7, 7)]:
            rows = await connection.fetch(
                "select id from find_agent_tasks($1, p_since => now() - $2 * interval '1 day', "
                "p_until => now() - $3 * interval '1 day')",
                DEFAULT_TENANT_ID, since, until,
            )  # fmt: skip
            # What was created a moment before the clock was read again is before that moment.
            expected = ids[(until or 0) : since if since is not None else 30]
            assert [row["id"] for row in rows] == expected, (since, until)
        bounds = await connection.fetchrow("select least_id_since(now()), least_id_after(now()), now()")
        assert "0" * 32 < bounds[0].hex < ids[0].hex < bounds[1].hex < "f" * 32
        await connection.close()


# set_agent_task_priority


async def test_a_pending_task_gets_another_place_in_the_queue(zora: Zora) -> None:
    first, second = [await zora.create("SAM", "t") for _ in range(2)]
    user = await founder(zora)
    await zora.advance(seconds=1)
    (row,) = await zora.call("set_agent_task_priority", tenant_id=zora.tenant_id, id=second, priority=7, user_id=user)
    assert (row["id"], row["priority"], row["updated_at"]) == (second, 7, zora.now)
    (entry, *_) = await zora.call("list_journal_entries", tenant_id=zora.tenant_id, task_id=second)
    assert (entry["event_type"], entry["title"]) == ("agent_task_prioritized", "SAM task: t (pending)")
    assert (entry["author"], entry["body"]) == ("founder@localhost", "priority 7 instead of 0")
    assert entry["details"] == {
        "task_id": str(second), "agent_id": "SAM", "task_type": "t", "status": "pending", "priority": 7,
        "previous_priority": 0, "attempt": 0, "by_user_id": str(user),
    }  # fmt: skip
    assert [claimed["id"] for claimed in (*await claim(zora), *await claim(zora))] == [second, first]


async def test_the_same_priority_again_is_no_change(zora: Zora) -> None:
    task_id = await zora.create("SAM", "t", priority=7)
    (row,) = await zora.call("set_agent_task_priority", tenant_id=zora.tenant_id, id=task_id, priority=7)
    assert (row["priority"], row["updated_at"]) == (7, None)
    assert len(await zora.sql("select from journal_entries where task_id = $1", task_id)) == 1


async def test_what_runs_or_is_unknown_or_too_far_gets_no_priority(zora: Zora) -> None:
    async def set_to(task_id: UUID, priority: int | None) -> None:
        await zora.call("set_agent_task_priority", tenant_id=zora.tenant_id, id=task_id, priority=priority)

    waiting, running = [await zora.create("SAM", "t", priority=p) for p in (0, 1)]
    (claimed,) = await claim(zora)
    assert claimed["id"] == running
    with pytest.raises(InvalidState, match=f"task {running} is in_progress: only a pending task"):
        await set_to(running, 1)
    with pytest.raises(NotFound, match="no task"):
        await set_to(uuid4(), 1)
    for priority in (1_000_001, -1_000_001, None):
        with pytest.raises(InvalidInput, match="between -1000000 and 1000000"):
            await set_to(waiting, priority)
    await set_to(waiting, -1_000_000)
    assert (await zora.task(waiting)).priority == -1_000_000


# list_open_suggestions


async def test_open_suggestions_come_in_the_order_in_which_to_decide(zora: Zora) -> None:
    day = timedelta(days=1)
    low_soon = await suggestion(zora, expires_at=START + day / 2)
    high_soon = await suggestion(zora, risk_level="high", expires_at=START + day * 0.9)
    low_never = await suggestion(zora)
    high_late = await suggestion(zora, risk_level="high", expires_at=START + 3 * day)
    high_never = await suggestion(zora, risk_level="high")
    medium = await suggestion(zora, risk_level="medium", expires_at=START + day)
    low_late = await suggestion(zora, expires_at=START + 2 * day)
    for status in ("approved", "applied", "rejected", "expired", "superseded"):
        await suggestion(zora, status=status)
    rows = await zora.call("list_open_suggestions", tenant_id=zora.tenant_id)
    expected = [high_soon, low_soon, high_late, high_never, medium, low_late, low_never]
    assert [row["id"] for row in rows] == expected
    rows = await zora.call("list_open_suggestions", tenant_id=zora.tenant_id, limit=2, offset=3)
    assert [row["id"] for row in rows] == expected[3:5]


# agent_board


async def test_the_board_tells_what_runs_the_last_begun_first_and_how_much_there_is_of_the_rest(zora: Zora) -> None:
    empty = await board(zora)
    assert empty == {
        "running": [], "running_total": 0, "ready": 0, "waiting": 0, "waiting_is_exact": True, "failed": 0, "needs": 0,
        "needs_version": empty["needs_version"], "watched": {},
    }  # fmt: skip
    _, first, second = [await zora.create("SAM", "t", priority=p) for p in (9, 8, 7)]
    (claimed,) = await claim(zora)
    await settle(zora, claimed, "failed", error="e", failure_kind="error")
    for _ in range(2):
        await zora.advance(seconds=1)
        (claimed,) = await claim(zora)
    await zora.call(
        "heartbeat_agent_tasks",
        ids=[second], lease_tokens=[claimed["lease_token"]], lease_seconds=30.0, progress=[0.1], messages=["m"],
    )  # fmt: skip
    await zora.create("SAM", "t")
    for _ in range(2):
        await zora.create("SAM", "t", run_at="2999-01-01T00:00:00Z")
    await suggestion(zora)
    shown = await board(zora)
    assert {name: shown[name] for name in ("running_total", "ready", "waiting", "failed", "needs")} == {
        "running_total": 2, "ready": 1, "waiting": 2, "failed": 1, "needs": 1,
    }  # fmt: skip
    assert [row["id"] for row in shown["running"]] == [str(second), str(first)]
    assert shown["running"][0].pop("started_at").startswith("2026-03-02T09:00:02")
    assert shown["running"][0] == {
        "id": str(second), "agent_id": "SAM", "task_type": "t", "title": "t", "progress": 0.1,
        "progress_message": "m", "attempt": 1, "worker_id": "w1",
    }  # fmt: skip


async def test_the_boards_counts_and_lists_are_bounded(zora: Zora) -> None:
    await zora.sql(
        "insert into agent_tasks (tenant_id, agent_id, task_type, title, status, waiting_for, failure_kind, "
        "lease_token, lease_expires_at, started_at) "
        "select $1, 'SAM', k.number::text, 't', k.status::agent_task_status, k.waiting_for, "
        "case k.status when 'failed' then 'error' end, gen_random_uuid(), zora_now(), zora_now() "
        "from (values (1, 'in_progress', null), (2, 'pending', null), (3, 'pending', 'run_at'), (4, 'failed', null)) "
        "as k (number, status, waiting_for), generate_series(1, 1100)",
        zora.tenant_id,
    )
    shown = await board(zora)
    assert len(shown["running"]) == 60
    assert (shown["running_total"], shown["ready"], shown["failed"]) == (1000, 1000, 1000)
    assert (shown["waiting"], shown["waiting_is_exact"]) == (200, False), "of the newest 200 of each kind"
    await zora.sql("delete from agent_tasks where state = 'p' and waiting_for is null")
    shown = await board(zora)
    assert (shown["waiting"], shown["waiting_is_exact"]) == (1000, True)


async def test_the_board_counts_what_waits_exactly_beside_many_ready_tasks_of_many_kinds(zora: Zora) -> None:
    await zora.sql(
        "insert into agent_tasks (tenant_id, agent_id, task_type, title, waiting_for) "
        "select $1, 'SAM', kind::text, 't', case when number > 95 then 'run_at' end "
        "from generate_series(1, 12) as kind, generate_series(1, 100) as number",
        zora.tenant_id,
    )
    shown = await board(zora)
    assert (shown["ready"], shown["waiting"], shown["waiting_is_exact"]) == (1000, 60, True)


async def test_the_needs_version_changes_with_every_change_of_the_set(zora: Zora) -> None:
    async def version() -> str:
        return (await board(zora))["needs_version"]

    seen = [await version()]
    await zora.seed("frontend_configs", page="climate", config={"hero": {"title": "Old"}})
    made = await propose(zora, headline("One"), headline("Two"))
    seen.append(await version())
    await decide(zora, made[0], "reject")
    seen.append(await version())
    await suggestion(zora)  # as many as before
    seen.append(await version())
    assert len(set(seen)) == 4
    await zora.create("SAM", "t")
    await zora.advance(seconds=1)
    assert await version() == seen[-1]


async def test_a_watched_tasks_version_changes_with_it_its_suggestions_and_what_it_delegated(zora: Zora) -> None:
    other = await zora.create("SAM", "t", run_at="2999-01-01T00:00:00Z")
    task_id, ids = await parent(zora, child("a"))
    seen = []

    async def changed() -> None:
        watched = (await board(zora, task_id, uuid4()))["watched"]
        assert list(watched) == [str(task_id)]
        assert watched[str(task_id)] not in seen
        seen.append(watched[str(task_id)])
        assert (await board(zora, task_id))["watched"] == watched

    await changed()
    (claimed,) = await claim(zora)
    assert claimed["id"] == ids["a"]
    await changed()
    await zora.call(
        "heartbeat_agent_tasks",
        ids=[ids["a"]], lease_tokens=[claimed["lease_token"]], lease_seconds=30.0, progress=[0.1], messages=["m"],
    )  # fmt: skip
    await changed()
    await settle(zora, claimed, "delegated", result={"children": [child("b")]})
    await changed()
    (grandchild,) = await claim(zora)
    await changed()
    await settle(zora, grandchild)
    await changed()
    made = await suggestion(zora, task_id=task_id)
    await changed()
    await zora.sql("update agent_suggestions set status = 'expired' where id = $1", made)
    await changed()
    await zora.call("set_agent_task_priority", tenant_id=zora.tenant_id, id=task_id, priority=7)
    await changed()
    await zora.call("set_agent_task_priority", tenant_id=zora.tenant_id, id=other, priority=7)
    assert (await board(zora, task_id))["watched"] == {str(task_id): seen[-1]}


# Figures


async def test_the_figures_of_an_agent_are_those_of_its_last_thousand_finished_tasks(zora: Zora) -> None:
    for agent_id, task_type, outcome, seconds in [
        ("SAM", "a", "completed", 1), ("SAM", "b", "completed", 3), ("SAM", "a", "failed", 60),
        ("ORACLE", "a", "failed", 60),
    ]:  # fmt: skip
        await zora.create(agent_id, task_type)
        (claimed,) = await claim(zora)
        await zora.advance(seconds=seconds)
        await settle(zora, claimed, outcome, **({"failure_kind": "error"} if outcome == "failed" else {}))
    await zora.create("LUMINA", "a")
    oracle, sam = await zora.call("agent_figures", tenant_id=zora.tenant_id)
    assert tuple(oracle.values()) == ("ORACLE", 0, 1, None, None, zora.now)
    assert tuple(sam.values()) == ("SAM", 2, 1, 2.0, pytest.approx(2.8), zora.now - timedelta(seconds=60))

    await zora.sql(
        "insert into agent_tasks (tenant_id, agent_id, task_type, title, status, started_at, completed_at) "
        "select $1, 'SAM', 'k' || n % 3, 't', 'completed', $2, $2::timestamptz + interval '5 s' "
        "from generate_series(1, 1000) as n",
        zora.tenant_id, zora.now,
    )  # fmt: skip
    sam = (await zora.call("agent_figures", tenant_id=zora.tenant_id))[1]
    assert tuple(sam.values())[:5] == ("SAM", 1000, 0, 5.0, 5.0)


async def test_suggestions_are_counted_in_the_weeks_in_which_something_became_of_them(zora: Zora) -> None:
    await zora.seed("frontend_configs", page="climate", config={"hero": {"title": "Old"}})
    one, two = await propose(zora, headline("One"), headline("Two"))
    assert START.date() == date(2026, 3, 2)
    await decide(zora, one)
    await decide(zora, two, "reject")
    await suggestion(zora, agent_id="ORACLE", status="expired", expires_at=START - timedelta(seconds=1 + 9 * 3600))
    await suggestion(zora, agent_id="ORACLE", status="expired", expires_at=START - timedelta(weeks=20))
    await suggestion(zora, agent_id="ORACLE", status="superseded", decided_at=START)
    await zora.advance(days=7)
    await undo(zora, one)
    rows = [tuple(row.values()) for row in await zora.call("suggestion_weeks", tenant_id=zora.tenant_id)]
    assert rows == [
        ("ORACLE", date(2026, 2, 23), 0, 0, 0, 1), ("SAM", date(2026, 3, 2), 1, 1, 0, 0),
        ("SAM", date(2026, 3, 9), 0, 0, 1, 0),
    ]  # fmt: skip
    rows = [tuple(row.values()) for row in await zora.call("suggestion_weeks", tenant_id=zora.tenant_id, weeks=2)]
    assert [row[0] for row in rows] == ["SAM", "SAM"]


async def history(zora: Zora, seconds: int = 600, buckets: int = 6) -> list[tuple[Any, ...]]:
    """Without the beginnings, which are as many parts of the time until now."""
    rows = await zora.call("queue_history", tenant_id=zora.tenant_id, seconds=seconds, buckets=buckets)
    width = timedelta(seconds=seconds) / buckets
    assert [row["bucket_start"] for row in rows] == [
        zora.now - timedelta(seconds=seconds) + number * width for number in range(buckets)
    ]
    return [tuple(row.values())[1:] for row in rows]


async def test_the_queues_past_is_told_from_now_backwards(zora: Zora) -> None:
    await zora.create("SAM", "t")
    await zora.advance(seconds=1000)
    failing, cancelled, retrying, stopping = [await zora.create("SAM", "t", priority=9 - n) for n in range(4)]
    await zora.advance(seconds=100)
    claimed = {row["id"]: row for row in await claim(zora, 4)}
    await settle(zora, claimed.pop(failing), "failed", error="e", failure_kind="error")
    await settle(zora, claimed.pop(cancelled), "released")
    await settle(zora, claimed.pop(retrying), "error", error="e")  # waits for its next attempt: still unfinished
    await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=stopping)  # runs on until its worker hears of it
    await zora.advance(seconds=100)
    await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=cancelled)
    await settle(zora, claimed.pop(stopping), "failed")
    await zora.advance(seconds=100)
    await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=failing)
    await zora.advance(seconds=100)
    await claim(zora, 5)
    (row,) = await zora.sql("select * from agent_tasks where id = $1", failing)
    await settle(zora, dict(row))
    await zora.advance(seconds=150)
    # created, completed, failed, depth
    assert await history(zora) == [
        (4, 0, 0, 5, False), (0, 0, 1, 4, False), (0, 0, 2, 2, False), (0, 0, 0, 3, False), (0, 1, 0, 2, False),
        (0, 0, 0, 2, False),
    ]  # fmt: skip
    assert await history(zora, seconds=2000, buckets=1) == [(5, 1, 3, 2, False)]


async def test_a_past_that_is_too_long_to_read_says_so(zora: Zora) -> None:
    """With a bound of ten entries instead of 200,000."""
    (definition,) = await zora.sql("select pg_get_functiondef('queue_history'::regproc)")
    await zora.sql(definition[0].replace("200000", "10"))
    try:
        for _ in range(12):
            await zora.create("SAM", "t")
            await zora.advance(seconds=10)
        told = await history(zora, seconds=120, buckets=12)
        assert [row[4] for row in told] == [True] * 2 + [False] * 10
        assert [row[3] for row in told[2:]] == list(range(3, 13))
    finally:
        await zora.sql(definition[0])


async def test_workers_are_told_with_what_they_hold_and_what_they_let_go(zora: Zora) -> None:
    for _ in range(4):
        await zora.create("SAM", "t")
    await claim(zora, 1, worker="a", lease=5)
    await zora.advance(seconds=10)
    await claim(zora, 2, worker="a", lease=30)
    await claim(zora, 1, worker="b", lease=60)
    rows = await zora.call("list_workers", tenant_id=zora.tenant_id)
    assert [tuple(row.values()) for row in rows] == [
        ("a", 3, START, START + timedelta(seconds=5), 1), ("b", 1, zora.now, zora.now + timedelta(seconds=60), 0),
    ]  # fmt: skip


async def test_the_climate_totals_keep_verified_savings_apart(zora: Zora) -> None:
    for category, status, impact, verified in [
        ("energy", "planned", 10, False), ("energy", "completed", 100.5, True), ("energy", "completed", 50, False),
        ("energy", "completed", None, True), ("food", "planned", None, False),
    ]:  # fmt: skip
        await zora.seed(
            "climate_missions",
            id=str(uuid4()), title="t", category=category, status=status, estimated_impact_kgco2=impact,
            verified=verified,
        )  # fmt: skip
    rows = await zora.call("list_climate_totals", tenant_id=zora.tenant_id)
    assert [tuple(row.values()) for row in rows] == [
        ("energy", "completed", 3, 150.5, 2, 100.5), ("energy", "planned", 1, 10, 0, 0),
        ("food", "planned", 1, 0, 0, 0),
    ]  # fmt: skip


# list_related_tasks


async def related(zora: Zora, task_id: UUID) -> list[tuple[Any, ...]]:
    rows = await zora.call("list_related_tasks", tenant_id=zora.tenant_id, id=task_id)
    return [(row["relation"], row["title"], row["depth"], row["on_failure"]) for row in rows]


async def test_a_task_is_shown_with_all_that_is_below_it_and_the_way_up(zora: Zora) -> None:
    top, ids = await parent(zora, child("a"), child("b", {"key": "a", "on_failure": "continue"}))
    (claimed,) = await claim(zora)
    assert claimed["id"] == ids["a"]
    await settle(zora, claimed, "delegated", result={"children": [child("c"), child("d")]})
    assert await related(zora, top) == [
        ("child", "a", 1, "continue"), ("child", "b", 1, "continue"), ("child", "c", 2, "continue"),
        ("child", "d", 2, "continue"),
    ]  # fmt: skip
    assert await related(zora, ids["a"]) == [
        ("parent", "parent", 0, "continue"), ("child", "c", 2, "continue"), ("child", "d", 2, "continue"),
        ("dependent", "b", 1, "continue"),
    ]  # fmt: skip
    (c,) = await zora.sql("select id from agent_tasks where title = 'c'")
    assert await related(zora, c["id"]) == [("root", "parent", 0, None), ("parent", "a", 1, "continue")]
    (row, *_) = await zora.call("list_related_tasks", tenant_id=zora.tenant_id, id=c["id"])
    assert (row["id"], row["status"], row["waiting_for"], row["started_at"]) == (top, "pending", "children", START)
    assert await related(zora, uuid4()) == []


async def test_what_a_task_depends_on_and_what_depends_on_it_comes_with_the_edges_policy(zora: Zora) -> None:
    ids = await create_graph(zora, node("a"), node("b", {"key": "a", "on_failure": "skip"}), node("c", "b", "a"))
    await end(zora, ids, "a")
    assert await related(zora, ids["b"]) == [("depends_on", "a", 0, "skip"), ("dependent", "c", 0, "fail")]
    (row, _) = await zora.call("list_related_tasks", tenant_id=zora.tenant_id, id=ids["b"])
    assert (row["id"], row["status"], row["completed_at"]) == (ids["a"], "completed", zora.now)


async def test_of_a_large_tree_the_nearest_five_hundred_are_shown(zora: Zora) -> None:
    top = await zora.create("SAM", "t")
    for depth, title in ((1, "near"), (2, "far")):
        await zora.sql(
            "insert into agent_tasks (tenant_id, agent_id, task_type, title, parent_id, root_id, depth) "
            "select $1, 'SAM', 't', $3, coalesce((select id from agent_tasks where title = 'near' limit 1), $2), $2, "
            "$4 from generate_series(1, 400)",
            zora.tenant_id, top, title, depth,
        )  # fmt: skip
    titles = [title for _, title, _, _ in await related(zora, top)]
    assert titles == ["near"] * 400 + ["far"] * 100


# journal_proofs


async def seal(zora: Zora, limit: int) -> Row:
    """A block of so many entries; its header as it is stored."""
    (block,) = await zora.sql(
        "select * from next_journal_block($1, $2, -1000, -1000, $3)", zora.tenant_id, bytes(32), limit
    )
    await zora.sql(
        "select seal_journal_block($1, $2, $3, $4, $5)", zora.tenant_id, block[0], bytes(64), block[1], block[2]
    )
    return json.loads(block[0])


async def proofs(zora: Zora, *ids: UUID) -> dict[UUID, tuple[Any, ...]]:
    rows = await zora.call("journal_proofs", tenant_id=zora.tenant_id, ids=list(ids))
    return {row["id"]: (row["block_number"], row["position"], row["intact"]) for row in rows}


async def test_an_entry_is_told_with_its_place_in_the_sealed_blocks(zora: Zora) -> None:
    for number in range(11):
        await zora.create("SAM", f'tâsk " {number}')
    ids = [row["id"] for row in await zora.sql("select id from journal_entries order by id")]
    assert await proofs(zora, *ids[:2]) == dict.fromkeys(ids[:2], (None, None, None))
    headers = [await seal(zora, 3) for _ in range(3)]
    told = await proofs(zora, *reversed(ids))
    assert list(told) == ids[::-1]
    assert told == {
        one: (number // 3, number % 3 + 1, True) if number < 9 else (None, None, None) for number, one in enumerate(ids)
    }
    (row,) = await zora.call("journal_proofs", tenant_id=zora.tenant_id, ids=[ids[0]])
    assert row["sealed_at"] == zora.now
    second = (await zora.call("journal_proofs", tenant_id=zora.tenant_id, ids=[ids[4]]))[0]
    assert row["header_hash"] == headers[1]["previous"]
    assert second["header_hash"] == headers[2]["previous"]
    assert await proofs(zora, uuid4(), UUID(int=1)) == {}
    assert await proofs(zora) == {}


async def test_an_entry_that_was_changed_removed_or_slipped_in_is_not_intact_and_an_erased_one_is(zora: Zora) -> None:
    for number in range(5):
        await zora.create("SAM", str(number))
    ids = [row["id"] for row in await zora.sql("select id from journal_entries order by id")]
    await seal(zora, 5)
    await zora.call(
        "erase_journal_entry", tenant_id=zora.tenant_id, id=str(ids[0]), reason="r", user_id=await founder(zora)
    )
    connection = await asyncpg.connect(zora.url)
    try:
        await connection.execute("set session_replication_role = replica")
        await connection.execute("update journal_entries set author = 'somebody' where id = $1", ids[1])
        await connection.execute("update journal_entries set details = '{}' where id = $1", ids[2])
        await connection.execute("delete from journal_entries where id = $1", ids[3])
        between = UUID(int=ids[3].int + 1)
        await connection.execute(
            "insert into journal_entries (id, tenant_id, category, event_type, title) "
            "values ($1, $2, 'decision', 'd', 't')",
            between, zora.tenant_id,
        )  # fmt: skip
    finally:
        await connection.close()
    assert await proofs(zora, *ids, between) == {
        ids[0]: (0, 1, True), ids[1]: (0, 2, False), ids[2]: (0, 3, False), ids[3]: (0, 4, False),
        ids[4]: (0, 5, True), between: (None, None, False),
    }  # fmt: skip
