"""Decisions against a model: whatever people, agents, crashes and the target itself do, in any order.

Never applied twice, never without a recorded approval of exactly that effect, never half.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Server, Zora
from tests.database.test_suggestions import attend, decide, headline, page, propose, suggest, undo
from zora_core.database.postgres import connect
from zora_core.effects import edited as edit
from zora_core.errors import InvalidInput, InvalidState
from zora_core.settings import Settings

pytestmark = pytest.mark.both_transports

# Fails at the n-th write to any of these tables, as when a server stops. That undoes the transaction, or, where several
# suggestions are applied, what was done for one of them.
FAULTS = """
create sequence test_writes;
create table test_fault (at bigint);
create function test_break() returns trigger language plpgsql as $$
begin
    if nextval('test_writes') = (select at from test_fault) then
        raise exception 'a crash' using errcode = '57P01';
    end if;
    return coalesce(new, old);
end
$$;
"""
TABLES = (
    "agent_suggestions",
    "journal_entries",
    "memory_events",
    "frontend_configs",
    "agent_tasks",
    "climate_missions",
)


class Crash(Exception):
    """The transaction was broken on purpose."""


@dataclass
class Model:
    """What must be: the headline, and each suggestion's status and expectation."""

    headline: Any = "Old"
    paused: bool = False
    suggestions: dict[UUID, dict[str, Any]] = field(default_factory=dict)


TITLES = st.sampled_from(["A", "B", "C"])
STEP = st.one_of(
    st.tuples(st.just("propose"), TITLES),
    st.tuples(st.just("change"), TITLES),
    st.tuples(st.sampled_from(["approve", "reject", "undo", "stale"]), st.integers(0, 5)),
    st.tuples(st.just("edit"), st.integers(0, 5), TITLES),
    st.tuples(st.sampled_from(["attend", "pause", "resume"])),
)
STEPS = st.lists(st.tuples(STEP, st.one_of(st.just(0), st.integers(1, 12))), min_size=5, max_size=25)


class World:
    """The database and the model side by side."""

    def __init__(self, zora: Zora, connection: asyncpg.Connection) -> None:
        self.zora = zora
        self.connection = connection
        self.model = Model()

    async def take(self, step: tuple[Any, ...], crash_at: int) -> None:
        """First with a crash at some write, which must leave everything as it was; then without.

        Attending handles a crash itself: the suggestion waits as if nothing had been tried, the others are applied.
        """
        if crash_at and step[0] != "propose":  # which is several transactions
            before = await self.everything()
            await self.connection.execute("alter sequence test_writes restart")
            await self.connection.execute("insert into test_fault values ($1)", crash_at)
            try:
                await self.act(step)
            except Crash:
                assert await self.everything() == before
            else:
                return  # it has fewer writes than that
            finally:
                await self.connection.execute("truncate test_fault")
        await self.act(step)

    async def act(self, step: tuple[Any, ...]) -> None:
        try:
            await self._act(*step)
        except Exception as error:
            if "a crash" in str(error):
                raise Crash from error
            raise

    async def _act(self, action: str, *arguments: Any) -> None:
        zora, model = self.zora, self.model
        match action, *arguments:
            case "propose", title:
                if not model.paused:  # else nothing runs that could
                    await self.propose(title)
            case "change", title:
                await zora.sql(
                    "update frontend_configs set config = jsonb_set(config, '{hero,title}', $1)", f'"{title}"'
                )
                model.headline = title
            case ("pause",):
                await zora.call("pause_agents", tenant_id=zora.tenant_id)
                model.paused = True
            case ("resume",):
                if model.paused:
                    await zora.call("resume_agents", tenant_id=zora.tenant_id)
                model.paused = False
            case ("attend",):
                await attend(zora)
                if not model.paused:
                    put_off = await zora.sql("select id from agent_suggestions where status = 'approved'")
                    assert len(put_off) <= await self.connection.fetchval("select count(*) from test_fault")
                    waiting = [one for one in model.suggestions.values() if one["status"] == "approved"]
                    for one in sorted(waiting, key=lambda one: one["put_off"]):
                        one["put_off"] = one["row"]["id"] in {row["id"] for row in put_off}
                        if not one["put_off"]:
                            await self.applied(one)
            case _, number, *edited:
                if model.suggestions:
                    ids = list(model.suggestions)
                    await self.decide(action, ids[number % len(ids)], *edited)

    async def propose(self, title: str) -> None:
        model = self.model
        rows = await propose(self.zora, headline(title, model.headline))
        same = [s for s in model.suggestions.values() if s["key"] == title]
        # One that waits with the same value on the same headline, one that waits to be applied, or one rejected on the
        # same evidence. What a person edited, and what was proposed anew because its target changed, has another value.
        assert bool(rows) != any(
            s["status"] in ("approved", "rejected")
            or (s["status"] == "proposed" and (s["expected"], s["value"]) == (model.headline, title))
            for s in same
        )
        for one in same:
            if rows and one["status"] == "proposed":  # replaced by what was seen later
                one["status"] = "superseded"
        for row in rows:
            self.know(row, title, model.headline, key=title)

    def know(self, row: dict[str, Any], value: Any, expected: Any, *, key: str) -> None:
        self.model.suggestions[row["id"]] = {
            "row": row, "value": value, "expected": expected, "status": "proposed", "undone": False, "key": key,
            "put_off": False,
        }  # fmt: skip

    async def decide(self, action: str, which: UUID, edited: Any = None) -> None:
        one = self.model.suggestions[which]
        arguments: dict[str, Any] = {}
        if action == "undo":
            can = one["status"] == "applied" and not one["undone"] and self.model.headline == one["made"]
            with contextlib.nullcontext() if can else pytest.raises(InvalidState):
                await undo(self.zora, one["row"])
            if can:
                one["undone"] = True
                self.model.headline = one["expected"]
            return
        if action == "edit":
            value = {"value": edited}
            arguments = edit(one["row"], value)
        if action == "stale":
            arguments = {"digest": "0" * 64}
        can = one["status"] == "proposed" and action != "stale"
        with contextlib.nullcontext() if can else pytest.raises((InvalidState, InvalidInput)):
            await decide(self.zora, one["row"], "reject" if action == "reject" else "approve", **arguments)
        if not can:
            return
        one["status"] = "rejected" if action == "reject" else "approved"
        one["value"] = edited if action == "edit" else one["value"]
        if one["status"] == "approved" and not self.model.paused:
            await self.applied(one)

    async def applied(self, one: dict[str, Any]) -> None:
        """What becomes of an approved suggestion."""
        model = self.model
        if model.headline == one["expected"]:
            one["status"] = "applied"
            one["made"] = model.headline = one["value"]
            return
        one["status"] = "superseded"
        again = await self.zora.sql("select * from agent_suggestions where supersedes = $1", one["row"]["id"])
        waits = any(s["status"] == "proposed" and s["key"] == one["key"] for s in model.suggestions.values())
        assert len(again) == (model.headline != one["value"] and not waits)
        for record in again:
            row = (await self.zora.call("get_agent_suggestion", tenant_id=self.zora.tenant_id, id=str(record["id"])))[0]
            self.know(row, one["value"], model.headline, key=one["key"])

    async def everything(self) -> list[Any]:
        return [
            await self.connection.fetchval(f"select jsonb_agg(to_jsonb(t) order by to_jsonb(t)) from {table} as t")
            for table in (*TABLES, "agent_pauses")
        ]

    async def check(self) -> None:
        zora, model = self.zora, self.model
        assert (await page(zora))["hero"]["title"] == model.headline
        rows = await zora.sql("select * from agent_suggestions")
        assert {row["id"]: (row["status"], row["undone_at"] is not None) for row in rows} == {
            one: (known["status"], known["undone"]) for one, known in model.suggestions.items()
        }
        entries = await zora.sql(
            "select event_type, details ->> 'suggestion_id' as id, details ->> 'effect_digest' as digest "
            "from journal_entries where category = 'decision'"
        )
        counted = Counter((entry["event_type"], entry["id"], entry["digest"]) for entry in entries)
        assert max(counted.values(), default=1) == 1, "nothing is recorded, or done, twice"
        for row in rows:
            approved = ("agent_suggestion_approved", str(row["id"]), row["effect_digest"])
            replaced = row["reason"] == "replaced by a newer proposal of the same"
            if row["applied_at"] or row["status"] == "approved" or (row["status"] == "superseded" and not replaced):
                assert counted[approved] == 1, "an approval of exactly this effect stands in the journal"
            assert counted["agent_suggestion_applied", str(row["id"]), row["effect_digest"]] == bool(row["applied_at"])


def test_decisions_follow_the_model(server: Server, tmp_path: Any) -> None:
    with asyncio.Runner() as runner:
        url = runner.run(server.emptied())
        connection = runner.run(asyncpg.connect(url))
        database = runner.run(connect(url))
        zora = Zora(database, url, Settings(home=tmp_path))
        runner.run(connection.execute(FAULTS))
        for table in TABLES:
            runner.run(
                connection.execute(
                    f"create trigger test_break before insert or update or delete on {table} "
                    "for each row execute function test_break()"
                )
            )

        async def play(steps: list[Any]) -> None:
            world = World(zora, connection)
            await connection.execute(
                "alter table journal_entries disable trigger user; alter table memory_events disable trigger user; "
                "delete from agent_suggestions; delete from agent_tasks; delete from journal_entries; "
                "delete from memory_events; delete from frontend_configs; delete from agent_pauses; "
                "alter table journal_entries enable trigger user; alter table memory_events enable trigger user"
            )
            await zora.call("ensure_founder", tenant_id=zora.tenant_id)
            await zora.seed("frontend_configs", page="climate", config={"hero": {"title": "Old"}})
            for step, crash_at in steps:
                await world.take(step, crash_at)
                await world.check()

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(STEPS)
        def check(steps: list[Any]) -> None:
            runner.run(play(steps))

        try:
            check()
        finally:
            for table in TABLES:
                runner.run(connection.execute(f"drop trigger test_break on {table}"))
            runner.run(connection.execute("drop function test_break; drop table test_fault; drop sequence test_writes"))
            runner.run(database.close())
            runner.run(connection.close())


async def test_many_at_once_decide_on_what_reaches_for_the_same_rows(zora: Zora) -> None:
    """Truly at once: every decision ends, one way or the other, and each row was changed by exactly one of them."""
    ids = [
        await zora.seed("memory_events", agent="EIVOR", memory_type="plan", content=f"{n}", tags=[]) for n in range(12)
    ]
    overlapping = [[str(i) for i in ids[start : start + 6]] for start in range(7)]
    rows = await propose(
        zora, *(suggest("archive_memories", {"ids": part[::-1]}, None, {"archive": part[::-1]}) for part in overlapping)
    )
    await zora.call("ensure_founder", tenant_id=zora.tenant_id)
    ends = await asyncio.gather(*(decide(zora, row) for row in rows))
    applied = [end for end in ends if end["status"] == "applied"]
    assert {end["status"] for end in ends} == {"applied", "superseded"}
    made = Counter(change["key"] for end in applied for change in end["effect"]["changes"])
    assert set(made.values()) == {1}
    archived = await zora.sql("select id from memory_events where archived_at is not null")
    assert {str(row["id"]) for row in archived} == set(made)
