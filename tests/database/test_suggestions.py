"""Suggestions: what a person approved is done, once, wholly, and only if it is still what they saw."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.conftest import Zora
from tests.database.test_queue import claim, settle
from zora_core.effects import edited, effect_of
from zora_core.errors import InvalidInput, InvalidState, NotAllowed, NotFound
from zora_core.models import Quote, Suggestion

pytestmark = pytest.mark.both_transports

Row = dict[str, Any]
_numbers = itertools.count()


def suggest(kind: str, target: Row, current: Any, value: Any, **fields: Any) -> Row:
    """A suggestion as a run would report it, with its effect."""
    made = Suggestion(
        suggestion_type=kind,
        title=fields.pop("title", kind),
        target=target,
        current_value=current,
        suggested_value=value,
        evidence=[Quote(source="page", text=fields.pop("evidence", "as seen"))],
        **fields,
    )
    return {**made.model_dump(mode="json"), "effect": effect_of(made)}


async def propose(zora: Zora, *suggestions: Row, agent_id: str = "SAM", task_type: str = "t") -> list[Row]:
    """Let a task make these suggestions; gives those that were stored, in their order."""
    task_id = await zora.create(agent_id, task_type)
    (claimed,) = await claim(zora)
    assert claimed["id"] == task_id
    await settle(zora, claimed, summary="s", result={"suggestions": list(suggestions)})
    rows = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, task_id=task_id)
    return sorted(rows, key=lambda row: [s["suggested_value"] for s in suggestions].index(row["suggested_value"]))


def headline(value: Any, current: Any = "Old", **fields: Any) -> Row:
    """A suggestion to change the headline of the page climate."""
    target = {"page": "climate", "path": ["hero", "title"]}
    return suggest("change_frontend_config", target, {"value": current}, {"value": value}, **fields)


async def page(zora: Zora) -> Row:
    (row,) = await zora.call("list_frontend_configs", tenant_id=zora.tenant_id)
    return row["config"]


async def founder(zora: Zora) -> UUID:
    (row,) = await zora.call("ensure_founder", tenant_id=zora.tenant_id)
    return row["id"]


async def decide(zora: Zora, suggestion: Row, decision: str = "approve", **arguments: Any) -> Row:
    arguments = {
        "digest": suggestion["effect_digest"] if decision == "approve" else None,
        "reason": "no" if decision == "reject" else None,
        "user_id": await founder(zora),
        **arguments,
    }
    (row,) = await zora.call(
        "decide_agent_suggestion", tenant_id=zora.tenant_id, id=suggestion["id"], decision=decision, **arguments
    )
    return row


async def undo(zora: Zora, suggestion: Row, **arguments: Any) -> Row:
    arguments = {"user_id": await founder(zora), **arguments}
    (row,) = await zora.call("undo_agent_suggestion", tenant_id=zora.tenant_id, id=suggestion["id"], **arguments)
    return row


async def stored(zora: Zora, suggestion: Row) -> Row:
    return (await zora.call("get_agent_suggestion", tenant_id=zora.tenant_id, id=str(suggestion["id"])))[0]


async def events(zora: Zora) -> list[str]:
    """What the journal says of suggestions, oldest first."""
    rows = await zora.sql(
        "select event_type from journal_entries where event_type like 'agent_suggestion%' order by id"
    )
    return [row["event_type"].removeprefix("agent_suggestion_") for row in rows]


@pytest.fixture
async def climate(zora: Zora) -> UUID:
    """The page climate and its config."""
    return await zora.seed("frontend_configs", page="climate", config={"hero": {"title": "Old", "image": "sea.jpg"}})


async def test_an_approved_change_is_made_and_can_be_taken_back(zora: Zora, climate: UUID) -> None:
    (suggestion,) = await propose(zora, headline("New"))
    row = await decide(zora, suggestion, reason="clearer")
    assert (row["status"], row["applied_at"], row["decided_as"]) == ("applied", zora.now, "founder@localhost")
    assert await page(zora) == {"hero": {"title": "New", "image": "sea.jpg"}}
    row = await undo(zora, suggestion)
    assert (row["status"], row["undone_at"]) == ("applied", zora.now)
    assert await page(zora) == {"hero": {"title": "Old", "image": "sea.jpg"}}
    assert await events(zora) == ["created", "approved", "applied", "undone"]
    memories = await zora.sql("select content, tags from memory_events where memory_type = 'decision' order by id")
    assert [m["content"] for m in memories] == [
        "founder@localhost approved: change_frontend_config - clearer",
        "founder@localhost undone: change_frontend_config",
    ]
    with pytest.raises(InvalidState, match="was undone"):
        await undo(zora, suggestion)


async def test_the_journal_says_who_decided_on_which_effect(zora: Zora, climate: UUID) -> None:
    (suggestion,) = await propose(zora, headline("New"))
    await decide(zora, suggestion)
    rows = await zora.call("list_journal_entries", tenant_id=zora.tenant_id, category="decision")
    applied, approved = rows
    assert approved["details"]["effect_digest"] == approved["details"]["seen_digest"] == suggestion["effect_digest"]
    assert approved["details"]["suggestion_id"] == str(suggestion["id"])
    assert approved["author"] == applied["author"] == approved["details"]["decided_by"] == "founder@localhost"
    assert approved["task_id"] == suggestion["task_id"]


async def test_a_rejection_needs_a_reason_changes_nothing_and_is_remembered(zora: Zora, climate: UUID) -> None:
    (suggestion,) = await propose(zora, headline("New"))
    with pytest.raises(InvalidInput, match="needs a reason"):
        await decide(zora, suggestion, "reject", reason=" ")
    row = await decide(zora, suggestion, "reject", reason="not our tone")
    assert (row["status"], row["reason"]) == ("rejected", "not our tone")
    assert (await page(zora))["hero"]["title"] == "Old"
    (memory,) = await zora.sql("select * from memory_events where memory_type = 'decision'")
    assert memory["content"] == "founder@localhost rejected: change_frontend_config - not our tone"
    assert memory["source_task_id"] == suggestion["task_id"]


async def test_an_approval_is_bound_to_what_was_seen(zora: Zora, climate: UUID) -> None:
    (suggestion,) = await propose(zora, headline("New"))
    with pytest.raises(InvalidInput, match="effect_digest"):
        await decide(zora, suggestion, digest=None)
    with pytest.raises(InvalidState, match="not the one that was seen"):
        await decide(zora, suggestion, digest="0" * 64)
    await zora.sql("""update agent_suggestions set effect = jsonb_set(effect, '{changes,0,after,config}', '"Worse"')""")
    with pytest.raises(InvalidState, match="not the one that was seen"):
        await decide(zora, suggestion)
    assert (await page(zora))["hero"]["title"] == "Old"
    assert await events(zora) == ["created"]


async def test_one_decision_wins(zora: Zora, climate: UUID) -> None:
    (suggestion,) = await propose(zora, headline("New"))
    await founder(zora)

    async def attempt(decision: str) -> str:
        try:
            return (await decide(zora, suggestion, decision))["status"]
        except InvalidState as error:
            assert "already, decided by founder@localhost" in str(error)
            return "late"

    ends = await asyncio.gather(*(attempt(d) for d in ("approve", "reject", "approve", "reject")))
    assert sorted(ends, key="late".__eq__)[1:] == ["late"] * 3
    final = (await stored(zora, suggestion))["status"]
    assert final in ends
    assert (await page(zora))["hero"]["title"] == ("New" if final == "applied" else "Old")


async def test_members_do_not_decide_and_neither_do_strangers_of_another_tenant(zora: Zora, climate: UUID) -> None:
    (suggestion,) = await propose(zora, headline("New"))
    for role in ("member", "viewer"):
        (user,) = await zora.call("ensure_user", tenant_id=zora.tenant_id, email=f"{role}@example.org", role=role)
        with pytest.raises(NotAllowed, match=f"not by a {role}"):
            await decide(zora, suggestion, user_id=user["id"])
    with pytest.raises(NotFound):
        (await zora.call(
            "decide_agent_suggestion", tenant_id=uuid4(), id=suggestion["id"], decision="approve",
            digest=suggestion["effect_digest"],
        ))  # fmt: skip
    (admin,) = await zora.call("ensure_user", tenant_id=zora.tenant_id, email="b@example.org", role="brand_admin")
    assert (await decide(zora, suggestion, user_id=admin["id"]))["status"] == "applied"


async def test_a_target_that_changed_supersedes_and_is_proposed_anew(zora: Zora, climate: UUID) -> None:
    (suggestion,) = await propose(zora, headline("New"))
    await zora.sql("""update frontend_configs set config = jsonb_set(config, '{hero,title}', '"Mine"')""")
    row = await decide(zora, suggestion)
    assert row["status"] == "superseded"
    assert (await page(zora))["hero"]["title"] == "Mine"
    (again,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="proposed")
    assert again["supersedes"] == suggestion["id"]
    (change,) = again["effect"]["changes"]
    assert (change["before"], change["after"]) == ({"config": "Mine"}, {"config": "New"})
    assert again["effect_digest"] != suggestion["effect_digest"]
    assert await events(zora) == ["created", "approved", "superseded", "created"]
    await decide(zora, again)
    assert (await page(zora))["hero"]["title"] == "New"
    await undo(zora, again)
    assert (await page(zora))["hero"]["title"] == "Mine"


async def test_other_places_of_a_config_may_change_meanwhile(zora: Zora, climate: UUID) -> None:
    (suggestion,) = await propose(zora, headline("New"))
    await zora.sql("""update frontend_configs set config = jsonb_set(config, '{hero,image}', '"hill.jpg"')""")
    assert (await decide(zora, suggestion))["status"] == "applied"
    await zora.sql("""update frontend_configs set config = jsonb_set(config, '{hero,image}', '"lake.jpg"')""")
    await undo(zora, suggestion)
    assert await page(zora) == {"hero": {"title": "Old", "image": "lake.jpg"}}


@pytest.mark.parametrize("change", ["delete from frontend_configs",
    """update frontend_configs set config = jsonb_set(config, '{hero,title}', '"New"')"""])  # fmt: skip
async def test_a_target_that_is_gone_or_is_so_already_supersedes_for_good(
    zora: Zora, climate: UUID, change: str
) -> None:
    (suggestion,) = await propose(zora, headline("New"))
    await zora.sql(change)
    assert (await decide(zora, suggestion))["status"] == "superseded"
    assert await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="proposed") == []


async def test_an_edited_value_is_what_is_applied(zora: Zora, climate: UUID) -> None:
    (suggestion,) = await propose(zora, headline("New"))
    value = {"value": "Newer"}
    row = await decide(zora, suggestion, **edited(suggestion, value))
    assert (row["status"], row["suggested_value"], row["edited_value"]) == ("applied", {"value": "New"}, value)
    assert (await page(zora))["hero"]["title"] == "Newer"
    (entry,) = await zora.sql(
        "select details ->> 'seen_digest' as seen, details ->> 'effect_digest' as done, details -> 'edited_value' as v "
        "from journal_entries where event_type = 'agent_suggestion_approved'"
    )
    assert (entry["seen"], entry["done"]) == (suggestion["effect_digest"], row["effect_digest"])
    assert entry["seen"] != entry["done"]


async def test_an_edit_cannot_reach_for_something_else(zora: Zora, climate: UUID) -> None:
    (suggestion,) = await propose(zora, headline("New"))
    other = headline("x")["effect"]
    other["changes"][0]["path"] = ["hero"]
    with pytest.raises(InvalidInput, match="may change values, not what is changed"):
        await decide(zora, suggestion, edited_value={"value": "x"}, edited_effect=other)
    assert (await stored(zora, suggestion))["status"] == "proposed"


async def test_undo_is_refused_when_something_has_changed_since(zora: Zora, climate: UUID) -> None:
    (first,) = await propose(zora, headline("New"))
    await decide(zora, first)
    (second,) = await propose(zora, headline("Newest", "New"))
    await decide(zora, second)
    with pytest.raises(InvalidState, match="frontend_configs climate has changed since"):
        await undo(zora, first)
    await undo(zora, second)
    await undo(zora, first)
    assert (await page(zora))["hero"]["title"] == "Old"


async def test_a_key_can_be_added_and_taken_away(zora: Zora, climate: UUID) -> None:
    target = {"page": "climate", "path": ["hero", "note"]}
    (suggestion,) = await propose(zora, suggest("change_frontend_config", target, None, {"value": {"a": [1, None]}}))
    await decide(zora, suggestion)
    assert (await page(zora))["hero"]["note"] == {"a": [1, None]}
    await undo(zora, suggestion)
    assert await page(zora) == {"hero": {"title": "Old", "image": "sea.jpg"}}


MISSION = {"title": "Heat pump", "category": "energy", "estimated_impact_kgco2": 1250.5}


async def test_a_mission_is_created_and_taken_back(zora: Zora) -> None:
    (suggestion,) = await propose(zora, suggest("create_climate_missions", {}, None, MISSION))
    await decide(zora, suggestion)
    (mission,) = await zora.call("list_climate_missions", tenant_id=zora.tenant_id)
    assert (mission["title"], mission["status"], mission["created_at"]) == ("Heat pump", "planned", zora.now)
    assert float(mission["estimated_impact_kgco2"]) == 1250.5
    await undo(zora, suggestion)
    assert await zora.call("list_climate_missions", tenant_id=zora.tenant_id) == []


async def test_a_mission_that_somebody_works_on_is_not_taken_back(zora: Zora) -> None:
    (suggestion,) = await propose(zora, suggest("create_climate_missions", {}, None, MISSION))
    await decide(zora, suggestion)
    await zora.sql("update climate_missions set status = 'in_progress'")
    with pytest.raises(InvalidState, match="has changed since"):
        await undo(zora, suggestion)
    assert (await stored(zora, suggestion))["undone_at"] is None


async def memories(zora: Zora, *tags: list[str]) -> list[UUID]:
    return [
        await zora.seed("memory_events", agent="EIVOR", memory_type="plan", content="same", tags=tag) for tag in tags
    ]


async def test_memories_are_merged_and_restored(zora: Zora) -> None:
    keep, one, two = await memories(zora, ["a"], ["b"], ["c"])
    current = {str(keep): {"tags": ["a"]}}
    value = {"keep": str(keep), "archive": [str(one), str(two)], "tags": ["a", "b", "c"]}
    target = {"keep": str(keep), "ids": [str(one), str(two)]}
    (suggestion,) = await propose(zora, suggest("merge_memories", target, current, value))
    await decide(zora, suggestion)

    async def state() -> dict[UUID, Any]:
        rows = await zora.sql("select id, tags, archived_at from memory_events where memory_type = 'plan'")
        return {row["id"]: (row["tags"], row["archived_at"]) for row in rows}

    assert await state() == {keep: (["a", "b", "c"], None), one: (["b"], zora.now), two: (["c"], zora.now)}
    await zora.advance(days=1)
    await undo(zora, suggestion)
    assert await state() == {keep: (["a"], None), one: (["b"], None), two: (["c"], None)}


async def test_half_of_an_effect_is_never_made(zora: Zora) -> None:
    """One of the memories is archived already: nothing happens to the others, and the new proposal leaves it out."""
    ids = await memories(zora, [], [], [])
    value = {"archive": [str(i) for i in ids]}
    (suggestion,) = await propose(zora, suggest("archive_memories", {"ids": value["archive"]}, None, value))
    await zora.sql("update memory_events set archived_at = now() where id = $1", ids[1])
    assert (await decide(zora, suggestion))["status"] == "superseded"
    rows = await zora.sql("select id from memory_events where archived_at is null and memory_type = 'plan'")
    assert {row["id"] for row in rows} == {ids[0], ids[2]}


TOPIC = {"topic": "x"}


async def test_a_plan_becomes_tasks_that_undo_cancels_unless_one_has_run(zora: Zora) -> None:
    steps = [
        {
            "key": "read",
            "agent_id": "ORACLE",
            "task_type": "research_topic",
            "title": "Read",
            "payload": {"topic": "x"},
        },
        {"key": "plan", "agent_id": "LUMINA", "task_type": "plan_workflow", "title": "Plan", "depends_on": ["read"]},
    ]
    plan = suggest("create_workflow", {"key": "k"}, None, {"key": "k", "name": "K", "steps": steps})
    (first,) = await propose(zora, plan)
    await decide(zora, first)
    tasks = await zora.call("list_agent_tasks", tenant_id=zora.tenant_id, status="pending")
    assert [(t["agent_id"], t["title"], t["payload"]) for t in tasks] == [
        ("ORACLE", "Read", TOPIC),
        ("LUMINA", "Plan", {}),
    ]
    await undo(zora, first)
    assert {(await zora.task(t["id"])).failure_kind for t in tasks} == {"cancelled"}

    (second,) = await propose(zora, plan)
    await decide(zora, second)
    await claim(zora)
    with pytest.raises(InvalidState, match="one of its tasks has changed since"):
        await undo(zora, second)


async def test_a_schedule_is_changed(zora: Zora) -> None:
    schedule = await zora.seed(
        "autonomy_schedules", name="weekly", agent_id="SAM", task_type="t", cron="0 9 * * 1", timezone="UTC",
        enabled=True, payload={}, misfire_policy="skip",
    )  # fmt: skip
    change = suggest("change_schedule", {"id": str(schedule)}, {"cron": "0 9 * * 1"}, {"cron": "0 7 * * 1"})
    (suggestion,) = await propose(zora, change)
    await decide(zora, suggestion)
    (row,) = await zora.sql("select cron from autonomy_schedules")
    assert row["cron"] == "0 7 * * 1"
    await undo(zora, suggestion)
    (row,) = await zora.sql("select cron from autonomy_schedules")
    assert row["cron"] == "0 9 * * 1"


async def test_advice_is_agreed_with_and_changes_nothing(zora: Zora) -> None:
    (suggestion,) = await propose(zora, suggest("advice", {"page": "climate"}, "soon", "by 2030"))
    assert suggestion["effect"] is None
    assert (await decide(zora, suggestion))["status"] == "approved"
    with pytest.raises(InvalidState, match="only an applied one"):
        await undo(zora, suggestion)


async def test_nobodys_decision_is_not_a_no(zora: Zora, climate: UUID) -> None:
    (suggestion,) = await propose(zora, headline("New"))
    assert (suggestion["expires_at"] - zora.now).days == 30
    await zora.advance(days=22.6)
    assert await attend(zora) == (0, 0, 1)
    assert await attend(zora) == (0, 0, 0)
    await zora.advance(days=7.5)
    with pytest.raises(InvalidState, match="has passed"):
        await decide(zora, suggestion)
    assert await attend(zora) == (0, 1, 0)
    assert (await stored(zora, suggestion))["status"] == "expired"
    assert await events(zora) == ["created", "due", "expired"]
    assert await propose(zora, headline("New")) != []


async def attend(zora: Zora) -> tuple[int, int, int]:
    (row,) = await zora.call("attend_agent_suggestions")
    return (row["applied"], row["expired"], row["reminded"])


async def test_what_was_rejected_is_not_proposed_again_on_the_same_grounds(zora: Zora, climate: UUID) -> None:
    (suggestion,) = await propose(zora, headline("New"))
    assert await propose(zora, headline("New", evidence="another one")) == []
    await decide(zora, suggestion, "reject")
    assert await propose(zora, headline("New")) == []
    assert await propose(zora, headline("Newer")) != []
    (again,) = await propose(zora, headline("New", evidence="customers asked for it"))
    assert again["status"] == "proposed"


KEEP, MERGED = str(UUID(int=7)), str(UUID(int=8))


def test_effects_that_do_not_fit_are_refused_by_name() -> None:
    for wrong, message in (
        (("no_such_type", {}, None, None), "unknown suggestion type 'no_such_type'.*change_frontend_config"),
        (("change_frontend_config", {"page": "p"}, None, {"value": 1}), "target of change_frontend_config.*path"),
        (("change_frontend_config", {"page": "p", "path": ["a"]}, None, {}), "wrong at value: Field required"),
        (
            ("merge_memories", {"keep": KEEP, "ids": [MERGED]}, None, {"keep": KEEP, "archive": [MERGED]}),
            "wrong at tags: Field required",
        ),
        (("create_climate_missions", {}, None, {"title": "T", "category": "cars"}), "value of .* at category"),
        (("create_climate_missions", {}, None, {**MISSION, "status": "completed"}), "at status"),
        (("archive_memories", {"ids": []}, None, {"archive": []}), "at ids"),
    ):
        with pytest.raises(InvalidInput, match=message):
            suggest(*wrong)


async def test_the_database_refuses_effects_that_reach_too_far(zora: Zora) -> None:
    for change, message in (
        ({"op": "update", "table": "users", "key": "x", "before": {}, "after": {"role": "founder"}}, "no effect may"),
        ({"op": "update", "table": "memory_events", "key": str(uuid4()), "before": {}, "after": {"content": "x"}},
         "columns that no effect may write"),
        ({"op": "insert", "table": "climate_missions", "row": {"id": str(uuid4()), "tenant_id": str(uuid4())}},
         "columns that no effect may write"),
        ({"op": "drop", "table": "users"}, "unknown op"),
        ({"op": "create_tasks", "tasks": [{"agent_id": "SAM"}]}, "lacks a key"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match=message):
            await zora.call("apply_effect", tenant_id=zora.tenant_id, effect={"changes": [change]}, user_id=None)


# --- Policies, pauses, and tasks that wait for approval ---------------------------------------------------------------


async def policy(zora: Zora, task_type: str = "t", **fields: Any) -> Row:
    (row,) = await zora.call("set_agent_task_policy", tenant_id=zora.tenant_id, task_type=task_type, **fields)
    return row


async def test_a_policy_lets_small_risks_pass_and_a_worker_applies_them(zora: Zora, climate: UUID) -> None:
    await policy(zora, max_risk_level="low")
    low, medium = await propose(zora, headline("New", risk_level="low"), headline("Bold", risk_level="medium"))
    assert (low["status"], low["decided_as"], medium["status"]) == ("approved", "policy", "proposed")
    assert (await page(zora))["hero"]["title"] == "Old"
    assert await attend(zora) == (1, 0, 0)
    assert (await page(zora))["hero"]["title"] == "New"
    assert await attend(zora) == (0, 0, 0)
    assert await events(zora) == ["created", "created", "approved", "applied"]
    (memory,) = await zora.sql("select content from memory_events where memory_type = 'decision'")
    assert memory["content"] == "policy approved: change_frontend_config"


async def test_a_tenants_policy_comes_before_everybodys(zora: Zora, climate: UUID) -> None:
    await zora.sql("insert into agent_task_policies (task_type, max_risk_level) values ('t', 'high')")
    (row,) = await propose(zora, headline("New", risk_level="high"))
    assert row["status"] == "approved"
    await policy(zora, max_risk_level="low", decide_within_hours=8)
    (row,) = await propose(zora, headline("Newer", risk_level="high"))
    assert (row["status"], (row["expires_at"] - zora.now).total_seconds()) == ("proposed", 8 * 3600)
    await zora.call("remove_agent_task_policy", tenant_id=zora.tenant_id, task_type="t")
    (row,) = await propose(zora, headline("Newest", risk_level="high"))
    assert row["status"] == "approved"


async def test_what_cannot_be_applied_does_not_hold_up_the_rest(zora: Zora, climate: UUID) -> None:
    await policy(zora, max_risk_level="high")
    profile = await zora.seed("climate_profiles", profile_type="person", name="H")
    broken = suggest("create_climate_missions", {}, None, {**MISSION, "profile_id": str(profile)})
    await propose(zora, broken, headline("New"))
    await zora.sql("delete from climate_profiles")
    assert await attend(zora) == (1, 0, 0)
    assert (await page(zora))["hero"]["title"] == "New"
    rows = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="superseded")
    assert [row["suggestion_type"] for row in rows] == ["create_climate_missions"]
    assert await attend(zora) == (0, 0, 0)


async def test_a_task_of_a_type_that_needs_approval_waits_and_runs_once_approved(zora: Zora) -> None:
    await policy(zora, auto_execute=False)
    task_id = await zora.create("SAM", "t", {"page": "climate"})
    assert (await zora.task(task_id)).waiting_for == "approval"
    assert await claim(zora) == []
    (asked,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="proposed")
    assert (asked["suggestion_type"], asked["task_id"]) == ("run_task", task_id)
    assert asked["suggested_value"] == {"page": "climate"}
    await decide(zora, asked)
    (claimed,) = await claim(zora)
    assert claimed["id"] == task_id
    with pytest.raises(InvalidState, match="cannot be undone"):
        await undo(zora, asked)


async def explained(zora: Zora, task_id: UUID) -> str:
    (row,) = await zora.call("explain_agent_task", tenant_id=zora.tenant_id, id=task_id)
    return row["explain_agent_task"]


async def test_what_waits_for_a_person_or_a_pause_says_so(zora: Zora) -> None:
    await policy(zora, auto_execute=False)
    held, ready = await zora.create("SAM", "t"), await zora.create("ORACLE", "u")
    await zora.advance(minutes=5)
    (asked,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id)
    assert await explained(zora, held) == (
        f"Waits for a person to let it run: suggestion {str(asked['id'])[-8:]}, asked 5 min ago."
    )
    await zora.call("pause_agents", tenant_id=zora.tenant_id, agent_id="oracle", reason="looks odd")
    await zora.advance(minutes=2)
    assert await explained(zora, ready) == (
        "ORACLE is paused since 2 min (looks odd); `zora resume ORACLE` lifts the pause."
    )


async def test_an_approval_is_for_this_payload(zora: Zora) -> None:
    await policy(zora, auto_execute=False)
    task_id = await zora.create("SAM", "t", {"page": "climate"})
    (asked,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id)
    await zora.sql("""update agent_tasks set payload = '{"page": "everything"}'""")
    row = await decide(zora, asked)
    assert row["status"] == "superseded"
    assert (await zora.task(task_id)).waiting_for == "approval"
    (again,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="proposed")
    assert (again["id"], again["supersedes"]) == (row["superseded_by"], asked["id"])
    assert again["suggested_value"] == {"page": "everything"}
    assert again["body"] == "SAM would run t, which has changed since a person was asked."
    assert await explained(zora, task_id) == (
        f"Waits for a person to let it run: suggestion {str(again['id'])[-8:]}, asked 0.0 s ago."
    )
    assert await events(zora) == ["created", "approved", "created", "superseded"]
    await decide(zora, again)
    (claimed,) = await claim(zora)
    assert claimed["payload"] == {"page": "everything"}


async def test_a_task_that_was_approved_during_a_pause_says_so_and_asks_anew_when_it_has_changed(zora: Zora) -> None:
    await policy(zora, auto_execute=False)
    task_id = await zora.create("SAM", "t", {"page": "climate"})
    (asked,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id)
    await zora.call("pause_agents", tenant_id=zora.tenant_id)
    assert (await decide(zora, asked))["status"] == "approved"
    assert await explained(zora, task_id) == "Approved. Waits until its agent is no longer paused: `zora resume`."
    await zora.sql("update agent_tasks set title = 'Another'")
    await zora.call("resume_agents", tenant_id=zora.tenant_id)
    await attend(zora)
    (again,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="proposed")
    assert again["title"] == "Run: Another"
    await zora.sql("delete from agent_suggestions")
    assert await explained(zora, task_id) == (
        "Waits for approval, and no suggestion asks for it: cancel and retry the task, so that it asks again."
    )


async def test_a_rejected_task_never_runs(zora: Zora) -> None:
    await policy(zora, auto_execute=False)
    task_id = await zora.create("SAM", "t")
    (asked,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id)
    await decide(zora, asked, "reject", reason="too costly")
    task = await zora.task(task_id)
    assert (task.status, task.failure_kind) == ("failed", "rejected")
    assert task.error_message == "rejected by founder@localhost: too costly"
    await zora.call("remove_agent_task_policy", tenant_id=zora.tenant_id, task_type="t")
    with pytest.raises(InvalidState, match="was rejected"):
        await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=task_id)
    assert await claim(zora) == []


async def test_cancelling_and_retrying_is_no_way_around_the_approval(zora: Zora) -> None:
    await policy(zora, auto_execute=False)
    task_id = await zora.create("SAM", "t")
    (asked,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id)
    await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=task_id)
    assert (await stored(zora, asked))["status"] == "superseded"
    await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=task_id)
    assert (await zora.task(task_id)).waiting_for == "approval"
    assert await claim(zora) == []
    (again,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="proposed")
    await decide(zora, again)
    (claimed,) = await claim(zora)
    await settle(zora, claimed, "failed", error="e", failure_kind="error")
    await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=task_id)
    assert (await zora.task(task_id)).waiting_for is None, "it was approved"


async def test_approval_comes_before_the_time_to_run(zora: Zora) -> None:
    await policy(zora, auto_execute=False)
    task_id = await zora.create("SAM", "t", run_at="2026-03-02T12:00:00Z")
    await zora.advance(hours=1)
    await zora.call("promote_agent_tasks")
    assert (await zora.task(task_id)).waiting_for == "approval"
    (asked,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id)
    await decide(zora, asked)
    assert (await zora.task(task_id)).waiting_for == "run_at"
    await zora.advance(hours=5)
    await zora.call("promote_agent_tasks")
    assert [row["id"] for row in await claim(zora)] == [task_id]


async def test_a_new_policy_holds_what_waits_already(zora: Zora) -> None:
    task_id = await zora.create("SAM", "t")
    other = await zora.create("SAM", "u")
    await policy(zora, auto_execute=False)
    assert [row["id"] for row in await claim(zora, 5)] == [other]
    assert (await zora.task(task_id)).waiting_for == "approval"
    (asked,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id)
    await decide(zora, asked)
    await policy(zora, auto_execute=False)
    assert [row["id"] for row in await claim(zora, 5)] == [task_id]


async def test_a_pause_stops_claims_and_effects_and_resuming_lifts_it(zora: Zora, climate: UUID) -> None:
    (suggestion,) = await propose(zora, headline("New"))
    sam, oracle = await zora.create("SAM", "t"), await zora.create("ORACLE", "t")
    pause = {"tenant_id": zora.tenant_id, "user_id": await founder(zora)}
    await zora.call("pause_agents", **pause, agent_id="sam", reason="looks odd")
    assert [row["id"] for row in await claim(zora, 5)] == [oracle]
    await zora.call("pause_agents", **pause)
    await zora.call("pause_agents", **pause)
    assert (await decide(zora, suggestion))["status"] == "approved"
    assert await attend(zora) == (0, 0, 0)
    assert (await page(zora))["hero"]["title"] == "Old"
    left = await zora.call("resume_agents", **pause)
    assert [(row["agent_id"], row["reason"]) for row in left] == [("SAM", "looks odd")]
    assert await claim(zora, 5) == []
    await zora.call("resume_agents", **pause, agent_id="SAM")
    assert [row["id"] for row in await claim(zora, 5)] == [sam]
    assert await attend(zora) == (1, 0, 0)
    assert (await page(zora))["hero"]["title"] == "New"
    with pytest.raises(InvalidState, match="not paused"):
        await zora.call("resume_agents", **pause)
    titles = await zora.sql("select title from journal_entries where category = 'config_change' order by id")
    assert [row["title"] for row in titles] == [
        "SAM paused", "All agents paused", "All agents resumed", "SAM resumed"
    ]  # fmt: skip
