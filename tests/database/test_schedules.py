"""Schedules in the database: any number of callers, of one tenant or of all, make each fire time's task once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.conftest import START, Zora
from tests.database.test_pooler import pooled_url  # noqa: F401 - a fixture
from zora_core.database.postgres import connect
from zora_core.errors import DuplicateKey, InvalidInput, InvalidState, NotFound
from zora_core.schedules import attend_schedules, plan_schedules

pytestmark = pytest.mark.both_transports

OTHER_TENANT_ID = UUID("00000000-0000-0000-0000-0000000000b0")


def content(name: str = "s", **fields: Any) -> dict[str, Any]:
    return {"name": name, "agent_id": "EIVOR", "task_type": "summarize_recent_events", "cron": "@hourly", **fields}


async def create(zora: Zora, name: str = "s", *, tenant_id: UUID | None = None, **fields: Any) -> dict[str, Any]:
    (row,) = await zora.call("create_schedule", tenant_id=tenant_id or zora.tenant_id, schedule=content(name, **fields))
    await plan_schedules(zora.database)
    return row


async def keys(zora: Zora) -> list[str]:
    return [row["idempotency_key"] for row in await zora.sql("select idempotency_key from agent_tasks order by 1")]


async def test_callers_at_the_same_moment_make_each_task_once(zora: Zora) -> None:
    made = [await create(zora, f"s{number}", misfire_policy="catch_up") for number in range(10)]
    connections = [await asyncpg.connect(zora.url) for _ in range(4)]
    await zora.advance(hours=3)
    for connection in connections:
        await connection.execute("begin")
    async with asyncio.timeout(20):
        rows = await asyncio.gather(*(c.fetch("select * from run_due_schedules(p_limit => 4)") for c in connections))
    for connection in connections:
        await connection.execute("commit")
    assert [len(one) for one in sorted(rows, key=len)] == [0, 2, 4, 4], "each passes over what another has locked"
    assert await keys(zora) == sorted(
        f"schedule:{row['id']}:{START + timedelta(hours=hour):%Y-%m-%dT%H:%MZ}" for row in made for hour in (1, 2, 3)
    )
    for connection in connections:
        assert await connection.fetch("select * from run_due_schedules()") == []
        await connection.close()


async def test_a_fire_time_has_one_task_even_if_the_schedule_forgets_that_it_was_there(zora: Zora) -> None:
    """The key of schedule and fire time alone makes a second one impossible."""
    await create(zora)
    await zora.advance(hours=1)
    (first,) = await zora.call("run_due_schedules")
    await zora.sql("update autonomy_schedules set handled_until = $1, next_run_at = $2", START, zora.now)
    (second,) = await zora.call("run_due_schedules")
    assert (len(first["task_ids"]), second["task_ids"], second["passed_over"]) == (1, [], 1)
    assert len(await keys(zora)) == 1


async def test_one_call_is_for_all_tenants_or_for_one(zora: Zora) -> None:
    await zora.database.value("ensure_tenant", id=OTHER_TENANT_ID, name="other", slug="other")
    ours = await create(zora)
    theirs = await create(zora, tenant_id=OTHER_TENANT_ID)
    await zora.advance(hours=1)
    (row,) = await zora.call("run_due_schedules", tenant_id=OTHER_TENANT_ID)
    assert (row["schedule_id"], row["tenant_id"]) == (theirs["id"], OTHER_TENANT_ID)
    assert [r["schedule_id"] for r in await zora.call("run_due_schedules")] == [ours["id"]]
    api = await zora.database.restricted()
    await zora.advance(hours=1)
    rows = await api.call("run_due_schedules", tenant_id=zora.tenant_id)
    assert [r["schedule_id"] for r in rows] == [ours["id"]], "the API's role may, for its tenant"
    await api.close()


async def test_a_dry_run_says_the_same_and_does_nothing(zora: Zora) -> None:
    for name, fields in {
        "a": {"misfire_policy": "catch_up", "max_catch_up": 2}, "b": {"misfire_policy": "skip"},
        "c": {"misfire_policy": "catch_up", "overlap_policy": "skip"}, "d": {},
    }.items():  # fmt: skip
        await create(zora, name, **fields)
    await zora.advance(hours=4, minutes=20)
    before = await zora.sql("select * from autonomy_schedules order by id")
    journal = await zora.sql("select count(*) from journal_entries")
    would = await zora.call("run_due_schedules", dry_run=True)
    assert await zora.sql("select * from autonomy_schedules order by id") == before
    assert await zora.sql("select count(*) from journal_entries") == journal
    done = await zora.call("run_due_schedules")
    assert [{**row, "task_ids": []} for row in done] == would
    assert {row["name"]: (len(row["task_ids"]), row["passed_over"], row["why"]) for row in done} == {
        "a": (2, 2, "missed"), "b": (0, 4, "missed"), "c": (1, 3, "overlap"), "d": (1, 3, "missed"),
    }  # fmt: skip


async def test_the_oldest_first_and_no_more_than_asked_for(zora: Zora) -> None:
    for name, cron in (("late", "5 * * * *"), ("early", "1 * * * *"), ("middle", "3 * * * *")):
        await create(zora, name, cron=cron)
    await zora.advance(minutes=10)
    assert [r["name"] for r in await zora.call("run_due_schedules", limit=2)] == ["early", "middle"]
    assert [r["name"] for r in await zora.call("run_due_schedules", limit=2)] == ["late"]


@pytest.mark.direct_connection
async def test_through_a_pooler(zora: Zora, pooled_url: str) -> None:  # noqa: F811
    database = await connect(pooled_url)
    try:
        assert database.pooled
        await zora.database.call("create_schedule", tenant_id=zora.tenant_id, schedule=content())
        assert await attend_schedules(database) == 3600
        await zora.advance(hours=1)
        await asyncio.gather(*(attend_schedules(database) for _ in range(4)))
        assert len(await keys(zora)) == 1
    finally:
        await database.close()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"name": " "}, "a name of 1 to 200 characters"),
        ({"title": "x" * 501}, "a title of over 500 characters"),
        ({"title": " "}, "a blank title"),
        ({"misfire_policy": "never"}, "unknown misfire policy 'never' (known: skip, run_once, catch_up)"),
        ({"overlap_policy": "never"}, "unknown overlap policy 'never' (known: allow, skip)"),
        ({"max_catch_up": 0}, "1 to 1000 fire times, not 0"),
        ({"grace_seconds": 3601}, "0 to 3600 seconds, not 3601"),
        ({"payload": []}, "a payload that is not an object"),
    ],
    ids=str,
)
async def test_what_a_schedule_cannot_be_is_told(zora: Zora, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said.replace("(", r"\(").replace(")", r"\)")):
        await create(zora, **{"name": "s", **fields})
    made = await create(zora)
    with pytest.raises(InvalidInput, match=said.replace("(", r"\(").replace(")", r"\)")):
        await zora.call("update_schedule", tenant_id=zora.tenant_id, id=made["id"], changes=fields)


async def test_a_name_is_a_schedules_own_in_its_tenant(zora: Zora) -> None:
    await zora.database.value("ensure_tenant", id=OTHER_TENANT_ID, name="other", slug="other")
    made = await create(zora)
    other = await create(zora, "t")
    with pytest.raises(DuplicateKey, match="a schedule 's' exists already"):
        await create(zora)
    with pytest.raises(DuplicateKey, match="a schedule 's' exists already"):
        await zora.call("update_schedule", tenant_id=zora.tenant_id, id=other["id"], changes={"name": "s"})
    await create(zora, tenant_id=OTHER_TENANT_ID)
    for by in (str(made["id"]), "s", str(made["id"])[-8:].upper()):
        (found,) = await zora.call("get_schedule", tenant_id=zora.tenant_id, id=by)
        assert found["id"] == made["id"]
    for by in ("nope", str(made["id"])[-3:]):
        with pytest.raises(NotFound, match=f"no schedule {by}"):
            await zora.call("get_schedule", tenant_id=zora.tenant_id, id=by)
    for function in ("update_schedule", "delete_schedule", "run_schedule_now"):
        arguments = {"changes": {}} if function == "update_schedule" else {}
        with pytest.raises(NotFound):
            await zora.call(function, tenant_id=OTHER_TENANT_ID, id=made["id"], **arguments)


async def test_what_is_done_with_a_schedule_stands_in_the_journal(zora: Zora) -> None:
    (user,) = await zora.call("ensure_user", tenant_id=zora.tenant_id, email="b@example.org", role="brand_admin")
    by = {"tenant_id": zora.tenant_id, "user_id": user["id"]}
    (made,) = await zora.call("create_schedule", schedule=content(payload={"days": 1}), **by)
    assert made["created_by_user_id"] == user["id"]
    await zora.call("update_schedule", id=made["id"], changes={"cron": "@daily", "payload": {"days": 1}}, **by)
    await zora.call("update_schedule", id=made["id"], changes={"cron": "@daily"}, **by)
    await zora.call("run_schedule_now", id=made["id"], **by)
    await zora.call("delete_schedule", id=made["id"], **by)
    rows = await zora.call("list_journal_entries", tenant_id=zora.tenant_id, category="autonomy")
    assert {row["author"] for row in rows} == {"b@example.org"}
    assert [row["event_type"].removeprefix("autonomy_schedule_") for row in reversed(rows)] == [
        "created", "updated", "executed", "deleted",
    ], "what changes nothing is no change"  # fmt: skip
    assert (rows[2]["details"]["before"], rows[2]["details"]["after"]) == ({"cron": "@hourly"}, {"cron": "@daily"})
    assert all(made["id"] in row["related_entity_ids"] for row in rows)
    assert len(await zora.sql("select from agent_tasks")) == 1, "its tasks stay"


async def test_a_tenant_has_a_bounded_number_of_schedules(zora: Zora) -> None:
    await zora.sql(
        "insert into autonomy_schedules (tenant_id, name, agent_id, task_type, cron) "
        "select $1, n::text, 'SAM', 't', '@daily' from generate_series(1, 1000) as n",
        zora.tenant_id,
    )
    with pytest.raises(InvalidState, match="at most 1000 schedules"):
        await zora.call("create_schedule", tenant_id=zora.tenant_id, schedule=content())


async def test_an_idle_look_reads_two_entries_of_an_index(zora: Zora) -> None:
    """It comes every few seconds from every worker."""
    await zora.sql(
        "insert into autonomy_schedules (tenant_id, name, agent_id, task_type, cron) "
        "select $1, n::text, 'SAM', 't', '@daily' from generate_series(1, 5000) as n",
        zora.tenant_id,
    )
    await zora.sql("update autonomy_schedules set plan_again_at = $1, next_run_at = $1", START + timedelta(hours=1))
    await zora.sql("vacuum analyze autonomy_schedules")
    await zora.call("schedules_to_attend")
    connection = await asyncpg.connect(zora.url)
    before = await connection.fetchrow(
        "select seq_tup_read, idx_tup_fetch from pg_stat_xact_user_tables where relname = 'autonomy_schedules'"
    )
    async with connection.transaction():
        row = await connection.fetchrow("select * from schedules_to_attend()")
        after = await connection.fetchrow(
            "select seq_tup_read, idx_tup_fetch from pg_stat_xact_user_tables where relname = 'autonomy_schedules'"
        )
    await connection.close()
    assert (row["some_to_plan"], row["next_due_seconds"]) == (False, 3600)
    assert after["seq_tup_read"] - (before["seq_tup_read"] or 0) == 0
    assert after["idx_tup_fetch"] - (before["idx_tup_fetch"] or 0) <= 2
