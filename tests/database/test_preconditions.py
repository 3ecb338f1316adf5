"""An effect rests on what was decided on: each field of it is changed between the proposal and the approval."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.conftest import Zora
from tests.database.test_suggestions import attend, decide, events, founder, page, policy, propose, stored, suggest
from zora_core.database import schema
from zora_core.effects import edited
from zora_core.errors import InvalidInput, InvalidState, NotFound

pytestmark = pytest.mark.both_transports

Row = dict[str, Any]


async def rows_of(zora: Zora, table: str) -> list[str]:
    """The rows of a table as texts; not the memory of the decision itself."""
    rows = await zora.sql(f"select to_jsonb(t)::text as row from {table} as t order by 1")
    return [row["row"] for row in rows if '"agent_suggestion"' not in row["row"]]


async def profile(zora: Zora, **columns: Any) -> UUID:
    return await zora.seed(
        "climate_profiles", profile_type="brand", name="Fernhill", is_primary=False, country="DE", household_size=3,
        energy_source="coal", transport_mode="car", diet_type="mixed", location_type="city",
        estimated_footprint_kg=4321.5, **columns,
    )  # fmt: skip


async def two_memories(zora: Zora) -> tuple[UUID, UUID]:
    ids = [
        await zora.seed(
            "memory_events", agent="EIVOR", memory_type="plan", content="We ship on Mondays", tags=[tag], metadata={}
        )
        for tag in ("a", "b")
    ]
    return ids[0], ids[1]


def merge(keep: UUID, other: UUID, current: Any = None) -> Row:
    value = {"keep": str(keep), "archive": [str(other)], "tags": ["a", "b"]}
    return suggest("merge_memories", {"keep": str(keep), "ids": [str(other)]}, current, value)


async def mission_of(zora: Zora) -> tuple[Row, str]:
    one = await profile(zora)
    value = {"title": "Heat pump", "category": "energy", "profile_id": str(one)}
    return suggest("create_climate_missions", {"profile_id": str(one)}, None, value), f"id = '{one}'"


async def config_of(zora: Zora) -> tuple[Row, str]:
    await zora.seed("frontend_configs", page="climate", config={"hero": {"title": "Old"}})
    target = {"page": "climate", "path": ["hero", "title"]}
    return suggest("change_frontend_config", target, None, {"value": "New"}), "page = 'climate'"


async def merged(zora: Zora) -> tuple[Row, str]:
    keep, other = await two_memories(zora)
    return merge(keep, other), f"id = '{other}'"


async def kept(zora: Zora) -> tuple[Row, str]:
    keep, other = await two_memories(zora)
    return merge(keep, other), f"id = '{keep}'"


async def archived(zora: Zora) -> tuple[Row, str]:
    one, _ = await two_memories(zora)
    return suggest("archive_memories", {"ids": [str(one)]}, None, {"archive": [str(one)]}), f"id = '{one}'"


async def scheduled(zora: Zora) -> tuple[Row, str]:
    one = await zora.seed(
        "autonomy_schedules", name="weekly", agent_id="SAM", task_type="t", cron="0 9 * * 1", timezone="UTC",
        enabled=True, payload={"page": "climate"}, misfire_policy="skip",
    )  # fmt: skip
    return suggest("change_schedule", {"id": str(one)}, None, {"cron": "0 7 * * 1"}), f"id = '{one}'"


MEMORY = ("content = 'Completely different words now'", "memory_type = 'decision'", "tags = '{c}'",
    """metadata = '{"pinned": true}'""", "archived_at = now()")  # fmt: skip
CASES = {
    "create_climate_missions": (mission_of, "climate_profiles", (
        "profile_type = 'person'", "name = 'Other'", "energy_source = 'solar'", "transport_mode = 'bus'",
        "diet_type = 'vegan'", "location_type = 'country'", "country = 'NO'", "household_size = 5",
        "estimated_footprint_kg = 4321.6",
    )),
    "change_frontend_config": (config_of, "frontend_configs", (
        """config = '{"hero": {"title": "Mine"}}'""", "config = '{}'", "page = 'moved'",
    )),
    "merge_memories, archived": (merged, "memory_events", MEMORY),
    "merge_memories, kept": (kept, "memory_events", MEMORY),
    "archive_memories": (archived, "memory_events", MEMORY),
    "change_schedule": (scheduled, "autonomy_schedules", (
        "cron = '0 8 * * 1'", "timezone = 'Europe/Berlin'", "enabled = false", "payload = '{}'", "task_type = 'u'",
        "agent_id = 'ORACLE'", "name = 'daily'", "misfire_policy = 'catch_up'",
    )),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_an_approval_is_refused_when_a_field_it_rests_on_has_changed(zora: Zora, case: str) -> None:
    make, table, changes = CASES[case]
    for change in changes:
        made, where = await make(zora)
        (suggestion,) = await propose(zora, made)
        before = await rows_of(zora, table)
        await zora.sql(f"update {table} set {change} where {where}")
        changed = await rows_of(zora, table)
        assert before != changed, change
        row = await decide(zora, suggestion)
        assert row["status"] == "superseded", change
        assert await rows_of(zora, table) == changed, change
        assert await zora.sql("select from climate_missions") == []
        await zora.sql(f"delete from {table}")
        await zora.sql("delete from agent_suggestions")


@pytest.mark.parametrize("case", CASES)
async def test_an_approval_of_what_has_not_changed_is_applied_and_undone(zora: Zora, case: str) -> None:
    make, table, _ = CASES[case]
    made, _ = await make(zora)
    (suggestion,) = await propose(zora, made)
    before = await rows_of(zora, table)
    assert (await decide(zora, suggestion))["status"] == "applied"
    await zora.call("undo_agent_suggestion", tenant_id=zora.tenant_id, id=suggestion["id"], user_id=await founder(zora))
    after = await rows_of(zora, table)
    assert after == before


@pytest.mark.parametrize("change", ["payload = '{\"page\": \"all\"}'", "title = 'Delete everything'", "task_type = 'u'",
    "description = 'and more'", "agent_id = 'ORACLE'"])  # fmt: skip
async def test_a_task_runs_only_as_it_was_seen(zora: Zora, change: str) -> None:
    await policy(zora, auto_execute=False)
    task_id = await zora.create("SAM", "t", {"page": "climate"})
    (asked,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id)
    await zora.sql(f"update agent_tasks set {change}")
    assert (await decide(zora, asked))["status"] == "superseded"
    assert (await zora.task(task_id)).waiting_for == "approval"


async def test_what_a_proposer_says_of_a_row_is_no_way_around_the_row(zora: Zora) -> None:
    """Neither what is claimed nor what is left out makes the precondition weaker, and no claim is kept."""
    keep, other = await two_memories(zora)
    for claim in ({str(other): {"content": "harmless", "tags": ["b"]}}, {str(other): {}}, "nonsense", None):
        (suggestion,) = await propose(zora, merge(keep, other, claim))
        assert suggestion["current_value"] is None
        change = next(c for c in suggestion["effect"]["changes"] if c["key"] == str(other))
        told = isinstance(claim, dict) and "content" in claim.get(str(other), {})
        assert change["before"]["content"] == ("harmless" if told else "We ship on Mondays")
        if told:
            assert (await decide(zora, suggestion))["status"] == "superseded"
        await zora.sql("delete from agent_suggestions")


async def test_a_merge_whose_tags_have_changed_is_not_proposed_anew(zora: Zora) -> None:
    """Its union was made of the old ones: what has been added since would be lost."""
    keep, other = await two_memories(zora)
    (suggestion,) = await propose(zora, merge(keep, other))
    await zora.sql("update memory_events set tags = '{a,new}' where id = $1", keep)
    assert (await decide(zora, suggestion))["superseded_by"] is None


async def test_an_edit_keeps_the_precondition_and_is_checked_as_a_new_one(zora: Zora) -> None:
    made, where = await mission_of(zora)
    (suggestion,) = await propose(zora, made)
    for wrong in (
        {"title": "T", "category": "energy", "estimated_impact_kgco2": "12"},
        {"title": 7, "category": "energy"},
        {"title": "a\0b", "category": "energy"},
        {"title": "T", "category": "energy", "estimated_impact_kgco2": float("nan")},
        {"title": "T", "category": "energy", "verified": 0},
        {"title": "T", "category": "energy", "profile_id": str(uuid4())},
        {"title": "\ud800", "category": "energy"},
    ):
        with pytest.raises(InvalidInput):
            edited(suggestion, wrong)
    change = edited(suggestion, {"title": "Smaller", "category": "energy"})
    weaker = {**change, "edited_effect": {"changes": change["edited_effect"]["changes"][1:]}}
    with pytest.raises(InvalidInput, match="not what is changed"):
        await decide(zora, suggestion, **weaker)
    await zora.sql(f"update climate_profiles set country = 'NO' where {where}")
    assert (await decide(zora, suggestion, **change))["status"] == "superseded"


async def test_a_row_of_another_tenant_cannot_be_referred_to(zora: Zora) -> None:
    other = uuid4()
    await zora.sql("insert into tenants (id, name, slug) values ($1, 'other', $2)", other, str(other))
    theirs = await profile(zora, tenant_id=str(other))
    value = {"title": "T", "category": "energy", "profile_id": str(theirs)}
    made = suggest("create_climate_missions", {}, None, value)
    with pytest.raises(InvalidInput, match="does not exist"):
        await zora.call("propose_agent_suggestion", tenant_id=zora.tenant_id, agent_id="ORACLE", suggestion=made)
    (suggestion,) = await propose(zora, made)
    assert (await decide(zora, suggestion))["status"] == "superseded"
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await zora.seed("climate_missions", title="T", category="energy", profile_id=str(theirs), status="planned",
            verified=False)  # fmt: skip


async def test_every_reference_between_rows_of_tenants_carries_the_tenant(zora: Zora) -> None:
    rows = await zora.sql(
        "select c.conrelid::regclass::text as source, c.confrelid::regclass::text as target, array_length(c.conkey, 1) "
        "as columns from pg_constraint as c where c.contype = 'f' and c.confrelid <> 'tenants'::regclass"
    )
    alone = {(row["source"], row["target"]) for row in rows if row["columns"] == 1}
    # Checked by a trigger: a key of (tenant_id, id) would be one more index to write at every step of every task.
    assert alone == {("agent_task_dependencies", "agent_tasks"), ("agent_task_steps", "agent_tasks")}
    other = uuid4()
    await zora.sql("insert into tenants (id, name, slug) values ($1, 'other', $2)", other, str(other))
    ours, also = await zora.create("SAM", "t"), await zora.create("SAM", "t")
    for statement in (
        f"insert into agent_task_dependencies (tenant_id, task_id, depends_on, name) values ('{other}', $1, $2, 'n')",
        f"insert into agent_task_steps (tenant_id, task_id, name) values ('{other}', $1, $2::uuid::text)",
    ):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await zora.sql(statement, ours, also)


# --- Tables of the owner's --------------------------------------------------------------------------------------------


@pytest.fixture
async def products(zora: Zora) -> AsyncIterator[UUID]:
    """A table of the owner's with a row, and a suggestion type's effect on it."""
    await zora.sql(
        "create table shop_products (id bigint generated always as identity primary key, tenant_id uuid not null, "
        "name text not null, price numeric not null, stock integer not null default 0)"
    )
    if await zora.sql("select from pg_roles where rolname = 'service_role'"):
        await zora.sql("grant all on shop_products to service_role")  # as Supabase grants what is made there
    await zora.sql("insert into shop_products (tenant_id, name, price) values ($1, 'Mug', 9.5)", zora.tenant_id)
    yield zora.tenant_id
    await zora.sql("drop table if exists shop_products, shop_orders")


def price(value: Any, **fields: Any) -> Row:
    """What an installed agent's own type makes; this process does not know the type."""
    change = {
        "op": "update", "table": "shop_products", "key": "1", "before": {}, "after": {"price": value}, **fields,
    }  # fmt: skip
    advice = suggest("advice", {}, None, {"price": value})
    return {**advice, "suggestion_type": "change_price", "effect": {"changes": [change]}}


async def register(zora: Zora, **fields: Any) -> Row:
    arguments = {"name": "shop_products", "key_column": "id", "writable": ["price"], "rests_on": ["name", "price"]}
    (row,) = await zora.call("register_effect_table", tenant_id=zora.tenant_id, **{**arguments, **fields})
    return row


async def test_an_effect_on_an_unknown_table_fails_the_task_and_nothing_is_stored(zora: Zora, products: UUID) -> None:
    task_id = await zora.create("SAM", "t")
    from tests.database.test_queue import claim, settle

    (claimed,) = await claim(zora)
    good = suggest("advice", {"page": "p"}, None, "soon")
    await settle(zora, claimed, summary="s", result={"suggestions": [good, price(12)]})
    task = await zora.task(task_id)
    assert (task.status, task.failure_kind, task.result) == ("failed", "error", None)
    assert "shop_products" in str(task.error_message)
    assert "zora tables register" in str(task.error_message)
    assert await zora.sql("select from agent_suggestions") == []
    with pytest.raises(InvalidInput, match="no effect may change, shop_products"):
        await zora.call("propose_agent_suggestion", tenant_id=zora.tenant_id, agent_id="SAM", suggestion=price(12))


async def test_a_registered_table_is_changed_and_restored_and_rests_on_what_was_said(
    zora: Zora, products: UUID
) -> None:
    await register(zora)
    (suggestion,) = await propose(zora, price(12))
    assert suggestion["effect"]["changes"][0]["before"] == {"name": "Mug", "price": 9.5}
    assert (await decide(zora, suggestion))["status"] == "applied"
    ((shown),) = await zora.sql("select price from shop_products")
    assert shown["price"] == 12
    await zora.call("undo_agent_suggestion", tenant_id=zora.tenant_id, id=suggestion["id"])
    (again,) = await propose(zora, price(13))
    await zora.sql("update shop_products set stock = 3")
    await zora.sql("update shop_products set name = 'Cup'")
    assert (await decide(zora, again))["status"] == "superseded"
    connection = await asyncpg.connect(zora.url)
    try:
        await schema.migrate(connection)
    finally:
        await connection.close()
    (kept_,) = await zora.call("list_effect_tables", tenant_id=zora.tenant_id)
    assert (kept_["name"], kept_["writable"]) == ("shop_products", ["price"])


async def test_values_that_a_column_cannot_hold_are_refused_when_they_are_proposed(zora: Zora, products: UUID) -> None:
    await register(zora)
    for wrong in (price("much"), price(1, key="one"), price(1, after={"stock": 1}), price(1, before={"price": "x"})):
        with pytest.raises(InvalidInput):
            await zora.call("propose_agent_suggestion", tenant_id=zora.tenant_id, agent_id="SAM", suggestion=wrong)


async def test_a_registration_is_checked(zora: Zora, products: UUID) -> None:
    await zora.sql("create table if not exists shop_orders (id bigint)")
    for wrong, message in (
        ({"name": "no_such_table"}, "not a table"),
        ({"name": "no good; name"}, "not a table"),
        ({"name": "users", "writable": ["role"]}, "ZORA's own"),
        ({"name": "public.agent_tasks", "writable": ["payload"]}, "ZORA's own"),
        ({"writable": ["colour"]}, "lacks the columns colour"),
        ({"writable": ["tenant_id"]}, "tenant_id cannot be writable"),
        ({"writable": []}, "at least one"),
        ({"name": "shop_orders", "writable": ["id"], "rests_on": None}, "lacks the columns tenant_id"),
    ):
        with pytest.raises(InvalidInput, match=message):
            await register(zora, **wrong)
    for ours in schema.created("table"):
        with pytest.raises(InvalidInput, match="ZORA's own"):
            await register(zora, name=ours, writable=["id"])
    with pytest.raises(NotFound, match="not registered"):
        await zora.call("remove_effect_table", tenant_id=zora.tenant_id, name="shop_orders")


async def test_one_bad_suggestion_holds_up_nothing(zora: Zora, products: UUID) -> None:
    """A table that is taken off the list, or dropped, while suggestions on it wait, or are approved by a policy."""
    await register(zora)
    await policy(zora, max_risk_level="medium")
    waiting, approved = await propose(zora, price(12) | {"risk_level": "high"}, price(13))
    assert (waiting["status"], approved["status"]) == ("proposed", "approved")
    await zora.seed("frontend_configs", page="climate", config={"title": "Old"})
    (good,) = await propose(
        zora, suggest("change_frontend_config", {"page": "climate", "path": ["title"]}, None, {"value": "New"})
    )
    await zora.sql("drop table shop_products")
    assert await attend(zora) == (1, 0, 0)
    assert await page(zora) == {"title": "New"}
    assert (await stored(zora, approved))["status"] == "superseded"
    with pytest.raises(InvalidInput, match="missing"):
        await zora.call("preview_agent_suggestion", tenant_id=zora.tenant_id, id=waiting["id"])
    with pytest.raises(InvalidState, match="missing"):
        await decide(zora, waiting)
    assert (await decide(zora, waiting, "reject"))["status"] == "rejected"
    assert good["status"] == "approved"
    assert "superseded" in await events(zora)


async def test_a_value_that_a_constraint_refuses_is_told_and_leaves_the_suggestion_open(
    zora: Zora, products: UUID
) -> None:
    await zora.sql("alter table shop_products add check (price > 0)")
    await register(zora)
    (suggestion,) = await propose(zora, price(-1))
    with pytest.raises(InvalidState, match="cannot be applied"):
        await decide(zora, suggestion)
    assert (await stored(zora, suggestion))["status"] == "proposed"


def trigger(body: str, kind: str = "before update", more: str = "") -> list[str]:
    """A trigger of the owner's that runs for every change of a product."""
    return [
        f"create or replace function shop_check() returns trigger language plpgsql as $$ begin {body}; end $$",
        f"create {'constraint ' if more else ''}trigger shop_check {kind} on shop_products {more} "
        "for each row execute function shop_check()",
    ]


# What the owner of a table can do to it while suggestions wait, and a part of the reason that is given then.
HOSTILE: dict[str, tuple[list[str], str]] = {
    "trigger raises": (trigger("raise exception 'frozen in the audit'"), "frozen in the audit"),
    "trigger raises a class of its own": (
        trigger("raise exception 'frozen' using errcode = 'ZX001'"), "frozen"),
    "trigger says not found": (trigger("raise exception 'no such' using errcode = 'PT404'"), "no such"),
    "trigger asserts": (trigger("assert false, 'not now'"), "not now"),
    "trigger reads a table that is gone": (trigger("perform from shop_gone; return new"), "shop_gone"),
    "trigger divides by zero": (trigger("new.stock := 1 / 0; return new"), "division by zero"),
    "trigger skips the row": (trigger("return null"), "skips it"),
    "trigger at the commit": (
        trigger("raise exception 'late'", "after update", "deferrable initially deferred"), "late"),
    "constraint at the commit": (
        ["alter table shop_products add unique (price) deferrable initially deferred",
         "insert into shop_products (tenant_id, name, price) values (gen_random_uuid(), 'a', 12), "
         "(gen_random_uuid(), 'b', 13)"], "unique constraint"),
    "tenant_id renamed": (["alter table shop_products rename tenant_id to org_id"], "tenant_id"),
    "tenant_id of another type": (
        ["drop policy if exists zora_api_effects on shop_products",
         "drop policy if exists zora_api_bounds on shop_products",
         "alter table shop_products alter tenant_id type text"], "tenant_id"),
    "key renamed": (["alter table shop_products rename id to number"], "id"),
    "written column dropped": (["alter table shop_products drop price"], "price"),
    "compared column dropped": (["alter table shop_products drop name"], "name"),
    "table renamed": (["alter table shop_products rename to shop_orders"], "missing"),
    "view in its place": (
        ["alter table shop_products rename to shop_orders", "create view shop_products as select * from shop_orders"],
        "missing"),
    "column of another type": (["alter table shop_products alter price type date using '2026-01-01'"], "shop_products"),
    "check that raises": (
        ["create function shop_price(numeric) returns boolean language plpgsql immutable as "
         "$$ begin if $1 > 10 then raise exception 'too dear'; end if; return true; end $$",
         "alter table shop_products add check (shop_price(price))"], "too dear"),
}  # fmt: skip


@pytest.fixture
async def hostile(zora: Zora, products: UUID) -> AsyncIterator[None]:
    await register(zora)
    yield
    if await zora.sql("select from pg_views where viewname = 'shop_products'"):
        await zora.sql("drop view shop_products")
    await zora.sql("drop table if exists shop_products, shop_orders cascade")
    await zora.sql("drop function if exists shop_check, shop_price")


@pytest.mark.parametrize("name", HOSTILE)
async def test_whatever_becomes_of_an_owners_table_concerns_only_the_suggestions_on_it(
    zora: Zora, hostile: None, name: str
) -> None:
    """Workers go on, tasks are settled, and a decision is answered with the reason."""
    statements, reason = HOSTILE[name]
    from tests.database.test_queue import claim, settle

    await policy(zora, max_risk_level="medium")
    waiting, approved = await propose(zora, price(12) | {"risk_level": "high"}, price(13))
    assert (waiting["status"], approved["status"]) == ("proposed", "approved")
    await zora.seed("frontend_configs", page="climate", config={"title": "Old"})
    await propose(zora, suggest("change_frontend_config", {"page": "climate", "path": ["title"]}, None, {"value": "N"}))
    for statement in statements:
        await zora.sql(statement)

    assert await attend(zora) == (1, 0, 0), "the good one"
    assert (await stored(zora, approved))["status"] == "superseded"
    if name != "column of another type":  # that one is no longer what it was
        (entry,) = await zora.sql("select body from journal_entries where body like 'it could not be applied: %'")
        assert reason in entry["body"]
        with pytest.raises(InvalidState, match=reason):
            await decide(zora, waiting)
    with contextlib.suppress(InvalidInput):  # with the reason; not every cause can be seen before
        await zora.call("preview_agent_suggestion", tenant_id=zora.tenant_id, id=waiting["id"])
    assert (await decide(zora, waiting, "reject"))["status"] == "rejected"

    for _ in range(2):
        await zora.create("SAM", "t")
    bad, good = await claim(zora, 2)
    await settle(zora, bad, summary="s", result={"suggestions": [price(14) | {"risk_level": "high"}]})
    await settle(zora, good, summary="s", result={"suggestions": []})
    assert (await zora.task(good["id"])).status == "completed"
    task = await zora.task(bad["id"])
    assert task.status == "completed" or (task.status == "failed" and "shop_products" in str(task.error_message))


async def test_an_undo_that_a_trigger_refuses_says_so(zora: Zora, hostile: None) -> None:
    (suggestion,) = await propose(zora, price(12))
    assert (await decide(zora, suggestion))["status"] == "applied"
    for statement in trigger("raise exception 'frozen'"):
        await zora.sql(statement)
    with pytest.raises(InvalidState, match="frozen"):
        await zora.call("undo_agent_suggestion", tenant_id=zora.tenant_id, id=suggestion["id"])
    assert (await stored(zora, suggestion))["undone_at"] is None


@pytest.mark.parametrize("lock", ["select from shop_products for update", "lock table shop_products"])
async def test_what_another_session_has_locked_is_not_waited_for(zora: Zora, hostile: None, lock: str) -> None:
    """Upkeep, settlements and pages go on; the suggestion is applied once the lock is gone."""
    from tests.database.test_queue import claim, settle

    await policy(zora, max_risk_level="medium")
    waiting, approved = await propose(zora, price(12) | {"risk_level": "high"}, price(13))
    await zora.seed("frontend_configs", page="climate", config={"title": "Old"})
    await propose(zora, suggest("change_frontend_config", {"page": "climate", "path": ["title"]}, None, {"value": "N"}))
    owner = await asyncpg.connect(zora.url)
    try:
        async with asyncio.timeout(60), owner.transaction():
            await owner.execute(lock)
            assert await attend(zora) == (1, 0, 0)
            assert (await stored(zora, approved))["status"] == "approved"
            with contextlib.suppress(InvalidInput):
                await zora.call("preview_agent_suggestion", tenant_id=zora.tenant_id, id=waiting["id"])
            with pytest.raises(InvalidState, match="lock timeout"):
                await decide(zora, waiting)
            await zora.create("SAM", "t")
            (claimed,) = await claim(zora)
            await settle(zora, claimed, summary="s", result={"suggestions": [price(14) | {"risk_level": "high"}]})
            task = await zora.task(claimed["id"])
            assert task.status == "completed" or (task.status, task.waiting_for) == ("pending", "retry")
    finally:
        await owner.close()
    applied, _, _ = await attend(zora)
    assert applied == 1
    assert (await stored(zora, approved))["status"] == "applied"


async def test_suggestions_that_can_never_be_applied_do_not_keep_new_ones_waiting(zora: Zora, hostile: None) -> None:
    """A trigger may claim for ever that its error passes."""
    await policy(zora, max_risk_level="medium")
    for statement in trigger("raise exception 'later' using errcode = '40001'"):
        await zora.sql(statement)
    stuck = [row for value in range(12, 19) for row in await propose(zora, price(value))]
    assert [await attend(zora) for _ in range(3)] == [(0, 0, 0)] * 3
    await zora.seed("frontend_configs", page="climate", config={"title": "Old"})
    await propose(zora, suggest("change_frontend_config", {"page": "climate", "path": ["title"]}, None, {"value": "N"}))
    assert await attend(zora) == (1, 0, 0)
    assert {(await stored(zora, row))["status"] for row in stuck} == {"approved"}


async def test_a_slow_trigger_costs_one_statement_and_not_the_upkeep(zora: Zora, hostile: None) -> None:
    await policy(zora, max_risk_level="medium")
    for statement in trigger("perform pg_sleep(60); return new"):
        await zora.sql(statement)
    (slow,) = await propose(zora, price(12))
    owner = await asyncpg.connect(zora.url, server_settings={"statement_timeout": "300ms"})
    try:
        assert await owner.fetchval("select applied from attend_agent_suggestions()") == 0
    finally:
        await owner.close()
    assert (await stored(zora, slow))["status"] == "approved"


async def test_a_summary_says_what_a_policy_lets_happen(zora: Zora) -> None:
    await policy(zora, max_risk_level="low")
    await zora.seed("frontend_configs", page="climate", config={"title": "Old"})
    target = {"page": "climate", "path": ["title"]}
    low = suggest("change_frontend_config", target, None, {"value": "New"})
    high = suggest("change_frontend_config", target, None, {"value": "Bold"}, risk_level="high")
    (row, _) = await propose(zora, low, high)
    task = await zora.task(row["task_id"])
    assert task.result_summary == (
        "s A policy allows 1 of 2 suggestions: applied without asking; the others wait for a person."
    )
