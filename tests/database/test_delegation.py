"""Tasks that delegate, in SQL: children within the settlement, resumption, cascades, limits; steps that are kept."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.conftest import Zora
from tests.database.test_queue import claim, journal, settle
from zora_core.database.backoff import retrying
from zora_core.errors import DatabaseUnavailable, InvalidState

pytestmark = pytest.mark.both_transports

Row = dict[str, Any]


def child(key: str, *depends_on: str, **fields: Any) -> Row:
    return {
        "key": key, "agent_id": "SAM", "task_type": "t", "title": key, "depends_on": list(depends_on), **fields,
    }  # fmt: skip


async def delegate(zora: Zora, claimed: Row, *children: Row, then: Any = None) -> dict[str, UUID]:
    """Settle a run as delegated; the ids of the children by their keys."""
    (row,) = await settle(zora, claimed, "delegated", result={"children": list(children), "then": then})
    assert (row["status"], row["waiting_for"]) == ("pending", "children"), await zora.task(claimed["id"])
    return await children_of(zora, claimed["id"])


async def children_of(zora: Zora, task_id: UUID) -> dict[str, UUID]:
    rows = await zora.call("list_agent_task_children", tenant_id=zora.tenant_id, id=task_id)
    return {row["key"]: row["id"] for row in rows}


async def parent(zora: Zora, *children: Row, then: Any = None, **fields: Any) -> tuple[UUID, dict[str, UUID]]:
    """A task that has delegated."""
    task_id = await zora.create("SAM", "parent", **fields)
    (claimed,) = await claim(zora)
    assert claimed["id"] == task_id
    return task_id, await delegate(zora, claimed, *children, then=then)


async def state(zora: Zora, task_id: UUID) -> str:
    task = await zora.task(task_id)
    return "/".join(filter(None, (task.status, task.waiting_for, task.failure_kind)))


async def end(zora: Zora, task_id: UUID, outcome: str = "completed") -> None:
    """Run one task of those that can be claimed, and hand the others back."""
    fields = {} if outcome == "completed" else {"error": "e", "failure_kind": "error"}
    for claimed in await claim(zora, 200):
        if claimed["id"] == task_id:
            await settle(zora, claimed, outcome, result={"n": str(task_id)} if not fields else None, **fields)
        else:
            await settle(zora, claimed, "released")


async def explained(zora: Zora, task_id: UUID) -> str:
    (row,) = await zora.call("explain_agent_task", tenant_id=zora.tenant_id, id=task_id)
    return row["explain_agent_task"]


async def test_a_parent_waits_without_a_worker_and_is_claimable_when_the_last_child_has_ended(zora: Zora) -> None:
    task_id, ids = await parent(zora, child("a"), child("b", "a"), then={"page": 1})
    assert await state(zora, task_id) == "pending/children"
    assert (await zora.task(task_id)).attempt == 0, "the attempt does not count"
    assert [await state(zora, one) for one in ids.values()] == ["pending", "pending/dependencies"]
    said = await explained(zora, task_id)
    assert re.fullmatch(r"Waits for 2 of the 2 tasks to which it delegated, first for SAM t \(pending, .*\)\.", said)

    await end(zora, ids["a"])
    assert await state(zora, task_id) == "pending/children"
    await end(zora, ids["b"], "failed")
    (claimed,) = await claim(zora)
    assert (claimed["id"], claimed["attempt"], claimed["round"]) == (task_id, 1, 1)
    assert claimed["resume_with"] == {"page": 1}
    rows = await zora.call("list_agent_task_children", tenant_id=zora.tenant_id, id=task_id)
    assert [(r["key"], r["status"], r["result"], r["error"]) for r in rows] == [
        ("a", "completed", {"n": str(ids["a"])}, None),
        ("b", "failed", None, "e"),
    ]


async def test_a_task_delegates_again_and_sees_the_children_of_its_last_round(zora: Zora) -> None:
    task_id, ids = await parent(zora, child("a"), then=1)
    await end(zora, ids["a"])
    (claimed,) = await claim(zora)
    again = await delegate(zora, claimed, child("a"), then=2)
    assert again["a"] != ids["a"]
    await end(zora, again["a"])
    (claimed,) = await claim(zora)
    assert (claimed["round"], claimed["resume_with"]) == (2, 2)
    await settle(zora, claimed)
    assert await state(zora, task_id) == "completed"


async def test_delegation_is_journalled_with_its_children_and_they_name_their_parent(zora: Zora) -> None:
    task_id, ids = await parent(zora, child("a"), child("b"))
    (entry,) = await zora.sql("select * from journal_entries where event_type = 'agent_task_delegated'")
    assert entry["title"] == "SAM task: parent (pending)"
    assert entry["body"] == "to be resumed when the tasks to which it delegated have ended: a, b"
    assert set(entry["related_entity_ids"]) == {task_id, *ids.values()}
    (found,) = await zora.call("list_journal_entries", tenant_id=zora.tenant_id, task_id=task_id, limit=1)
    assert found["details"]["children"] == {key: str(one) for key, one in ids.items()}
    assert found["details"]["attempt"] == 1
    (made,) = await zora.call("list_journal_entries", tenant_id=zora.tenant_id, task_id=ids["a"])
    assert (made["event_type"], made["details"]["parent_id"]) == ("agent_task_created", str(task_id))
    assert made["related_entity_ids"] == [ids["a"], task_id]
    (memory,) = await zora.sql("select * from memory_events where source_task_id = $1", task_id)
    assert memory["content"].startswith("SAM parent: to be resumed")


async def test_a_repeated_settlement_creates_no_second_children(zora: Zora) -> None:
    await zora.create("SAM", "parent")
    (claimed,) = await claim(zora)
    ids = await delegate(zora, claimed, child("a"))
    assert await delegate(zora, claimed, child("a")) == ids
    assert len(await zora.sql("select from agent_tasks")) == 2
    assert (await journal(zora, claimed["id"])).count("agent_task_delegated") == 1
    await end(zora, ids["a"])
    (row,) = await settle(zora, claimed, "delegated", result={"children": [child("a")]})
    assert (row["status"], row["waiting_for"]) == ("pending", None), "told as it is now"


async def test_a_worker_without_the_lease_creates_no_children(zora: Zora) -> None:
    task_id = await zora.create("SAM", "parent")
    (zombie,) = await claim(zora)
    await zora.advance(seconds=31)
    await zora.call("rescue_agent_tasks")
    before = await zora.sql("select to_jsonb(t)::text from agent_tasks as t")
    assert await settle(zora, zombie, "delegated", result={"children": [child("a")]}) == []
    assert await zora.sql("select to_jsonb(t)::text from agent_tasks as t") == before
    (heir,) = await claim(zora)
    assert await settle(zora, zombie, "delegated", result={"children": [child("a")]}) == []
    assert list(await delegate(zora, heir, child("b"))) == ["b"]
    assert await state(zora, task_id) == "pending/children"


async def test_a_task_that_is_to_stop_delegates_no_more(zora: Zora) -> None:
    task_id = await zora.create("SAM", "parent")
    (claimed,) = await claim(zora)
    await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=task_id)
    await settle(zora, claimed, "delegated", result={"children": [child("a")]})
    assert await state(zora, task_id) == "failed/cancelled"
    assert len(await zora.sql("select from agent_tasks")) == 1


@pytest.mark.parametrize(
    ("policy", "becomes"), [("continue", "pending/children"), ("fail", "failed/dependency"), ("skip", "completed")]
)
async def test_what_a_childs_failure_does_to_its_parent(zora: Zora, policy: str, becomes: str) -> None:
    task_id, ids = await parent(zora, child("a", on_failure=policy), child("b"))
    await end(zora, ids["a"], "failed")
    assert await state(zora, task_id) == becomes
    assert await state(zora, ids["b"]) == ("pending" if policy == "continue" else "failed/cancelled")


async def test_children_inherit_tenant_user_and_deadline_and_do_not_come_after_their_parent(zora: Zora) -> None:
    (user,) = await zora.call("ensure_user", tenant_id=zora.tenant_id, email="ada@example.org", role="member")
    task = {
        "agent_id": "SAM", "task_type": "t", "title": "t", "priority": 5, "deadline_at": "2026-03-02T12:00:00Z",
    }  # fmt: skip
    await zora.call("create_agent_tasks", tenant_id=zora.tenant_id, tasks=[task], created_by=user["id"])
    (claimed,) = await claim(zora)
    ids = await delegate(
        zora, claimed, child("a"), child("b", priority=9), child("c", deadline_at="2026-03-02T10:00:00Z")
    )
    rows = {r["id"]: r for r in await zora.sql("select * from agent_tasks")}
    a, b, c = (rows[ids[key]] for key in "abc")
    assert {r["tenant_id"] for r in (a, b, c)} == {zora.tenant_id}
    assert [r["priority"] for r in (a, b, c)] == [5, 9, 5]
    assert {r["created_by_user_id"] for r in (a, b, c)} == {user["id"]}
    assert {(r["parent_id"], r["root_id"], r["depth"]) for r in (a, b, c)} == {(claimed["id"], claimed["id"], 1)}
    assert [r["deadline_at"].hour for r in (a, b, c)] == [12, 12, 10]


async def test_a_task_past_its_deadline_is_not_claimed_but_fails_with_what_it_delegated(zora: Zora) -> None:
    task_id, ids = await parent(zora, child("a"), child("b", "a"), deadline_at="2026-03-02T10:00:00Z")
    (running,) = await claim(zora)
    await zora.advance(hours=2)
    late = await zora.create("SAM", "late", deadline_at="2026-03-02T10:30:00Z")
    assert await claim(zora) == []
    assert await explained(zora, late) == "Its deadline passed 30 min ago; the next running worker lets it fail."
    await zora.call("expire_agent_tasks")
    assert [await state(zora, one) for one in (late, task_id, ids["b"])] == ["failed/timeout"] * 3
    assert (await zora.call("heartbeat_agent_tasks", ids=[running["id"]], lease_tokens=[running["lease_token"]])) == [
        {"id": ids["a"], "lease_token": running["lease_token"], "state": "cancel"}
    ]
    assert (await zora.task(late)).error_message == "its deadline passed at 2026-03-02 10:30:00+00"
    await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=late)
    assert [row["id"] for row in await claim(zora)] == [late], "a person's retry sets the deadline aside"


async def test_cancelling_a_parent_cancels_what_is_unfinished_below_it(zora: Zora) -> None:
    """In one transaction: pending ones end, running ones are asked to stop."""
    task_id, ids = await parent(zora, child("done"), child("runs"), child("waits", "runs"), child("nests"))
    await end(zora, ids["done"])
    claims = {row["id"]: row for row in await claim(zora, 10)}
    below = await delegate(zora, claims[ids["nests"]], child("x"), child("y", "x"))
    await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=task_id, reason="wrong page")
    assert {key: await state(zora, one) for key, one in {**ids, **below, "": task_id}.items()} == {
        "": "failed/cancelled", "done": "completed", "runs": "in_progress", "waits": "failed/cancelled",
        "nests": "failed/cancelled", "x": "failed/cancelled", "y": "failed/cancelled",
    }  # fmt: skip
    runs = claims[ids["runs"]]
    assert (await zora.call("heartbeat_agent_tasks", ids=[runs["id"]], lease_tokens=[runs["lease_token"]])) == [
        {"id": ids["runs"], "lease_token": runs["lease_token"], "state": "cancel"}
    ]
    (entry,) = await zora.sql(
        "select * from journal_entries where task_id = $1 and event_type = 'agent_task_cancelled'", below["x"]
    )
    assert (entry["body"], entry["author"]) == (f"cancelled with task {task_id}: wrong page", "operator")
    await settle(zora, runs, "failed", failure_kind="cancelled", error="stopped")
    assert await state(zora, task_id) == "failed/cancelled"


async def test_a_cancelled_child_counts_as_ended(zora: Zora) -> None:
    task_id, ids = await parent(zora, child("a"))
    await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=ids["a"])
    assert await state(zora, task_id) == "pending"


async def test_a_child_that_a_cascade_passed_over_is_cancelled_afterwards(zora: Zora) -> None:
    """Locked by somebody who may in turn wait for us, it is left to the next worker's upkeep."""
    task_id, ids = await parent(zora, child("a"), child("b"))
    other = await asyncpg.connect(zora.url)
    async with other.transaction():
        await other.execute("select from agent_tasks where id = $1 for update", ids["a"])
        await asyncio.wait_for(zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=task_id), 5)
    await other.close()
    assert [await state(zora, one) for one in ids.values()] == ["pending", "failed/cancelled"]
    await zora.call("cancel_orphaned_agent_tasks")
    assert [await state(zora, one) for one in ids.values()] == ["failed/cancelled"] * 2
    (row,) = await zora.call("cancel_orphaned_agent_tasks")
    assert row == {"cancel_orphaned_agent_tasks": 0}


@pytest.mark.parametrize(
    ("children", "message"),
    [
        ([], "names no children"),
        ([child(str(n)) for n in range(101)], "names 101 children, more than the limit of 100"),
        ([child("a"), child("a")], "cannot be created: two tasks have the key 'a'"),
        ([child("a", "b")], "'a' depends on 'b', which no task before it is called"),
        ([child("a", on_failure="ignore")], "unknown on_failure (known: fail, skip, continue)"),
        ([child("a", agent_id="HAL")], "unknown agent 'HAL'"),
        ([child("a", colour="red")], "unknown field 'colour'"),
        ([child("a", priority="high")], "invalid input syntax for type integer"),
        ([child("a", max_attempts=0)], "agent_tasks_max_attempts_check"),
    ],
)
async def test_a_delegation_that_is_none_fails_its_task_alone_and_leaves_nothing(
    zora: Zora, children: list[Row], message: str
) -> None:
    ids = [await zora.create("SAM", "t") for _ in range(2)]
    claims = await claim(zora, 2)
    rows = await zora.call(
        "settle_agent_tasks",
        ids=ids, lease_tokens=[row["lease_token"] for row in claims], outcomes=["delegated", "completed"],
        results=[{"children": children}, {}], summaries=[], errors=[], failure_kinds=[], delays=[],
    )  # fmt: skip
    assert sorted(row["status"] for row in rows) == ["completed", "failed"]
    task = await zora.task(ids[0])
    assert task.failure_kind == "error"
    assert message in (task.error_message or "")
    assert len(await zora.sql("select from agent_tasks")) == 2


async def test_nobody_delegates_deeper_than_five(zora: Zora) -> None:
    task_id = await zora.create("SAM", "t")
    for _ in range(5):
        (claimed,) = await claim(zora)
        assert claimed["id"] == task_id
        task_id = (await delegate(zora, claimed, child("a")))["a"]
    (claimed,) = await claim(zora)
    await settle(zora, claimed, "delegated", result={"children": [child("a")]})
    assert await state(zora, task_id) == "failed/error"
    assert "stands 5 levels below its root, and the limit is 5" in ((await zora.task(task_id)).error_message or "")


async def test_a_tree_has_at_most_a_thousand_descendants_also_when_many_delegate_at_once(zora: Zora) -> None:
    _, ids = await parent(zora, *(child(str(n)) for n in range(20)))
    claims = await claim(zora, 20)
    batch = {"children": [child(str(n)) for n in range(100)]}

    async def work(rows: list[Row]) -> list[Row]:
        return await zora.call(
            "settle_agent_tasks",
            ids=[r["id"] for r in rows], lease_tokens=[r["lease_token"] for r in rows],
            outcomes=["delegated"] * len(rows), results=[batch] * len(rows), summaries=[], errors=[], failure_kinds=[],
            delays=[],
        )  # fmt: skip

    settled = await asyncio.gather(*(work(claims[start : start + 5]) for start in range(0, 20, 5)))
    assert sorted(row["status"] for rows in settled for row in rows) == ["failed"] * 11 + ["pending"] * 9
    assert len(await zora.sql("select from agent_tasks where depth > 0")) == 920
    (row,) = await zora.sql("select min(error_message) as said from agent_tasks where status = 'failed'")
    assert "has 920 descendants, and the limit is 1000" in row["said"]
    assert len(ids) == 20


async def test_a_pause_and_a_policy_hold_for_children(zora: Zora) -> None:
    await zora.call("set_agent_task_policy", tenant_id=zora.tenant_id, task_type="t", auto_execute=False)
    task_id, ids = await parent(zora, child("a"), child("b", agent_id="AEGIS", task_type="u"))
    assert [await state(zora, one) for one in ids.values()] == ["pending/approval", "pending"]
    await zora.call("pause_agents", tenant_id=zora.tenant_id, agent_id="AEGIS")
    assert await claim(zora) == []
    await zora.call("resume_agents", tenant_id=zora.tenant_id, agent_id="AEGIS")
    await end(zora, ids["b"])
    (asked,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="proposed")
    await zora.call("decide_agent_suggestion", tenant_id=zora.tenant_id, id=asked["id"], decision="reject", reason="no")
    assert await state(zora, ids["a"]) == "failed/rejected"
    assert await state(zora, task_id) == "pending", "a rejected child has ended, and its parent sees why"


async def test_a_parent_whose_type_needs_approval_meanwhile_waits_for_it_and_then_for_its_children(zora: Zora) -> None:
    task_id, ids = await parent(zora, child("a"), child("b"))
    await zora.call("set_agent_task_policy", tenant_id=zora.tenant_id, task_type="parent", auto_execute=False)
    assert await state(zora, task_id) == "pending/approval"
    await end(zora, ids["a"])
    (asked,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="proposed")
    await zora.call(
        "decide_agent_suggestion", tenant_id=zora.tenant_id, id=asked["id"], decision="approve",
        digest=asked["effect_digest"],
    )  # fmt: skip
    assert await state(zora, task_id) == "pending/children"
    await end(zora, ids["b"])
    assert await state(zora, task_id) == "pending"


async def test_children_of_a_rejected_parent_are_cancelled(zora: Zora) -> None:
    task_id, ids = await parent(zora, child("a"))
    await zora.call("set_agent_task_policy", tenant_id=zora.tenant_id, task_type="parent", auto_execute=False)
    (asked,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="proposed")
    await zora.call("decide_agent_suggestion", tenant_id=zora.tenant_id, id=asked["id"], decision="reject", reason="no")
    await zora.call("cancel_orphaned_agent_tasks")
    assert [await state(zora, one) for one in (task_id, ids["a"])] == ["failed/rejected", "failed/cancelled"]


async def test_a_child_can_be_retried_while_its_parent_waits_and_counts_again(zora: Zora) -> None:
    task_id, ids = await parent(zora, child("a"), child("b"))
    await end(zora, ids["a"], "failed")
    await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=ids["a"])
    await end(zora, ids["b"])
    assert await state(zora, task_id) == "pending/children"
    await end(zora, ids["a"], "failed")
    assert await state(zora, task_id) == "pending"
    with pytest.raises(InvalidState, match=f"was delegated by task {task_id}, which does not wait for it any more"):
        await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=ids["a"])


async def test_a_retried_parent_begins_anew_and_earlier_children_do_not_count(zora: Zora) -> None:
    task_id, ids = await parent(zora, child("a"), then="old")
    (running,) = await claim(zora)
    await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=task_id)
    await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=task_id)
    (claimed,) = await claim(zora)
    assert (claimed["id"], claimed["resume_with"], await children_of(zora, task_id)) == (task_id, None, {})
    again = await delegate(zora, claimed, child("a"))
    await settle(zora, running, "failed", failure_kind="cancelled", error="stopped")
    assert await state(zora, task_id) == "pending/children", "an end of an earlier round is none of its business"
    assert again["a"] != ids["a"]
    await end(zora, again["a"])
    assert await state(zora, task_id) == "pending"


async def test_a_child_whose_worker_vanishes_still_ends_once(zora: Zora) -> None:
    task_id, ids = await parent(zora, child("a"))
    (lost,) = await claim(zora)
    await zora.advance(seconds=31)
    await zora.call("rescue_agent_tasks")
    assert await state(zora, task_id) == "pending/children"
    (heir,) = await claim(zora)
    assert heir["id"] == ids["a"]
    await settle(zora, heir)
    assert await settle(zora, lost) == []
    assert await state(zora, task_id) == "pending"


async def test_a_parent_whose_worker_vanishes_after_resumption_is_resumed_again(zora: Zora) -> None:
    task_id, ids = await parent(zora, child("a"), then="here")
    await end(zora, ids["a"])
    await claim(zora)
    await zora.advance(seconds=31)
    await zora.call("rescue_agent_tasks")
    (claimed,) = await claim(zora)
    assert (claimed["id"], claimed["resume_with"]) == (task_id, "here")
    assert await children_of(zora, task_id) == ids


async def test_what_a_waiting_parent_is_to_read_is_not_pruned(zora: Zora) -> None:
    task_id, ids = await parent(zora, child("a"), child("b"))
    await end(zora, ids["a"])
    await zora.advance(days=100)
    await zora.call("prune_agent_tasks", tenant_id=zora.tenant_id, older_than_seconds=60)
    assert await children_of(zora, task_id) == ids


async def test_the_tree_of_a_task_is_told_from_its_root(zora: Zora) -> None:
    task_id, ids = await parent(zora, child("a"), child("b", "a"))
    (claimed,) = await claim(zora)
    below = await delegate(zora, claimed, child("x"))
    for asked in (task_id, ids["a"], below["x"]):
        rows = await zora.call("list_agent_task_tree", tenant_id=zora.tenant_id, id=asked)
        assert [(r["id"], r["parent_id"], r["depth"], r["key"]) for r in rows] == [
            (task_id, None, 0, None), (ids["a"], task_id, 1, "a"), (ids["b"], task_id, 1, "b"),
            (below["x"], ids["a"], 2, "x"),
        ]  # fmt: skip
    edges = await zora.call("list_agent_task_dependencies", tenant_id=zora.tenant_id, id=ids["a"])
    assert {(e["relation"], e["id"]) for e in edges} == {
        ("child", below["x"]), ("dependent", ids["b"]), ("parent", task_id),
    }  # fmt: skip


async def test_many_children_ending_at_once_resume_their_parent_once(zora: Zora) -> None:
    task_id, _ = await parent(zora, *(child(str(n)) for n in range(100)))
    claims = await claim(zora, 100)
    assert len(claims) == 100

    async def work(rows: list[Row]) -> None:
        for start in range(0, len(rows), 4):
            batch = rows[start : start + 4]
            await zora.call(
                "settle_agent_tasks",
                ids=[r["id"] for r in batch], lease_tokens=[r["lease_token"] for r in batch],
                outcomes=["completed"] * len(batch), summaries=[], results=[], errors=[], failure_kinds=[], delays=[],
            )  # fmt: skip

    await asyncio.gather(*(work(claims[number::5]) for number in range(5)))
    (claimed,) = await claim(zora, 10)
    assert claimed["id"] == task_id


@pytest.mark.direct_connection
async def test_a_settlement_that_a_deadlock_ended_can_be_repeated(zora: Zora) -> None:
    """Locks are taken in one order, children first; somebody else may take them in another."""
    task_id, ids = await parent(zora, child("a"))
    (claimed,) = await claim(zora)
    other = await asyncpg.connect(zora.url)
    await other.execute("set deadlock_timeout = '1min'")  # so that the settlement is what is ended
    async with other.transaction():
        await other.execute("select from agent_tasks where id = $1 for update", task_id)
        settling = asyncio.create_task(settle(zora, claimed))
        waiting = (
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(10):
            while not await other.fetchval(waiting):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
        reading = asyncio.create_task(other.execute("select from agent_tasks where id = $1 for update", ids["a"]))
        with pytest.raises(DatabaseUnavailable, match="a deadlock ended this call"):
            await settling
        await reading
    await other.close()
    assert (await settle(zora, claimed))[0]["status"] == "completed"
    assert await state(zora, task_id) == "pending"


async def save(zora: Zora, claimed: Row, name: str, value: Any) -> list[Row]:
    return await zora.call(
        "save_agent_task_step", id=claimed["id"], lease_token=claimed["lease_token"], name=name, value=value
    )


async def test_a_step_is_kept_once_through_crashes_and_delegations_until_a_person_retries(zora: Zora) -> None:
    task_id = await zora.create("SAM", "t")
    (claimed,) = await claim(zora)
    assert await save(zora, claimed, "fetch", {"n": 1}) == [{"value": {"n": 1}}]
    assert await save(zora, claimed, "fetch", {"n": 2}) == [{"value": {"n": 1}}], "the first value stands"
    await zora.advance(seconds=31)
    await zora.call("rescue_agent_tasks")
    (heir,) = await claim(zora)
    assert await save(zora, claimed, "late", 1) == []
    assert await save(zora, {**heir, "lease_token": uuid4()}, "late", 1) == []
    ids = await delegate(zora, heir, child("a"))
    assert await save(zora, heir, "late", 1) == [], "not while it waits"
    await end(zora, ids["a"])
    (claimed,) = await claim(zora)
    steps = await zora.call("list_agent_task_steps", tenant_id=zora.tenant_id, id=task_id)
    assert steps == [{"name": "fetch", "value": {"n": 1}, "reads": []}]
    await settle(zora, claimed, "failed", error="e", failure_kind="error")
    await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=task_id)
    assert await zora.call("list_agent_task_steps", tenant_id=zora.tenant_id, id=task_id) == []


async def test_steps_go_with_their_task(zora: Zora) -> None:
    await zora.create("SAM", "t")
    (claimed,) = await claim(zora)
    await save(zora, claimed, "fetch", 1)
    await settle(zora, claimed)
    await zora.advance(days=1)
    await zora.call("prune_agent_tasks", tenant_id=zora.tenant_id, older_than_seconds=60)
    assert await zora.sql("select from agent_task_steps") == []


class Crowd:
    """Workers and people on the same trees at the same time, each on a connection of their own, by chance."""

    def __init__(self, zora: Zora) -> None:
        self.zora = zora
        self.refused = 0

    async def work(self, seed: int, batches: int) -> None:
        rng = random.Random(seed)
        for _ in range(batches):
            claims = await claim(self.zora, 5, worker=f"w{seed}")
            rng.shuffle(claims)
            outcomes = [self._outcome(rng, row) for row in claims]
            for _ in range(rng.choice((1, 1, 2))):  # a repeated settlement
                await retrying(self.zora.database, lambda o=outcomes, c=claims: self._settle(c, o))  # type: ignore[misc]

    def _outcome(self, rng: random.Random, claimed: Row) -> tuple[str, Row]:
        chance = rng.random()
        if claimed["round"] == 0 and (claimed["task_type"] == "root" or chance < 0.2):
            children = [
                child(
                    str(n),
                    *([str(n - 1)] if n and rng.random() < 0.3 else []),
                    on_failure=rng.choice(("continue", "continue", "fail", "skip")),
                )
                for n in range(rng.randint(1, 5))
            ]
            return "delegated", {"children": children}
        return rng.choice(("completed", "completed", "completed", "failed", "released")), {}

    async def _settle(self, claims: list[Row], outcomes: list[tuple[str, Row]]) -> list[Row]:
        return await self.zora.call(
            "settle_agent_tasks",
            ids=[row["id"] for row in claims], lease_tokens=[row["lease_token"] for row in claims],
            outcomes=[outcome for outcome, _ in outcomes], results=[result for _, result in outcomes], summaries=[],
            errors=[], failure_kinds=[], delays=[],
        )  # fmt: skip

    async def meddle(self, seed: int, times: int) -> None:
        rng = random.Random(seed)
        for _ in range(times):
            function, condition = rng.choice(
                [
                    ("cancel_agent_task", "waiting_for = 'children'"),
                    ("cancel_agent_task", "status in ('pending', 'in_progress') and random() < 0.3"),
                    ("retry_agent_task", "status = 'failed'"),
                ]
            )
            rows = await self.zora.sql(f"select id from agent_tasks where {condition} order by random() limit 1")
            for row in rows:
                try:
                    await self.zora.call(function, tenant_id=self.zora.tenant_id, id=row["id"])
                except InvalidState:  # it has ended meanwhile, or nobody waits for it
                    self.refused += 1
            await self.zora.call("cancel_orphaned_agent_tasks")


async def test_whatever_happens_at_once_no_tree_gets_stuck_and_nothing_is_left_below_what_has_ended(zora: Zora) -> None:
    crowd = Crowd(zora)
    for _ in range(30):
        await zora.create("SAM", "root")
    await asyncio.gather(*(crowd.work(seed, 15) for seed in range(4)), crowd.meddle(7, 25), crowd.meddle(8, 25))

    (row,) = await zora.sql("select count(*) as n, max(depth) as depth from agent_tasks")
    assert row["n"] > 60
    assert row["depth"] > 1
    assert await zora.sql(
        "select t.id, t.children_left, count(c.id) from agent_tasks as t "
        "inner join agent_task_dependencies as d on d.task_id = t.id and d.round = t.round "
        "left join agent_tasks as c on c.id = d.depends_on and c.status in ('pending', 'in_progress') "
        "where t.waiting_for = 'children' group by t.id having count(c.id) <> t.children_left"
    ) == [], "every waiting parent knows how many it waits for"  # fmt: skip

    await zora.call("cancel_orphaned_agent_tasks")
    while claims := await claim(zora, 100):
        await crowd._settle(claims, [("completed", {})] * len(claims))
    assert await zora.sql("select from agent_tasks where status not in ('completed', 'failed')") == []
    ends = await zora.sql(
        "select task_id from journal_entries where event_type = 'agent_task_completed' group by 1 having count(*) > 1"
    )
    assert ends == []


async def test_a_person_can_be_asked_whether_a_child_may_run_once_what_it_depends_on_has_ended(zora: Zora) -> None:
    task_id, ids = await parent(zora, child("a"), child("b", "a", ask_first=True))
    await end(zora, ids["a"])
    assert await state(zora, ids["b"]) == "pending/approval"
    (asked,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="proposed")
    await zora.call(
        "decide_agent_suggestion", tenant_id=zora.tenant_id, id=asked["id"], decision="approve",
        digest=asked["effect_digest"],
    )  # fmt: skip
    (claimed,) = await claim(zora)
    below = await delegate(zora, claimed, child("x"))
    await end(zora, below["x"])
    assert await state(zora, ids["b"]) == "pending", "it is not asked about again when it is resumed"
    assert task_id


async def test_the_apis_role_shows_cancels_and_retries_whole_trees(zora: Zora) -> None:
    task_id, ids = await parent(zora, child("a"), child("b", "a"))
    (claimed,) = await claim(zora)
    await save(zora, claimed, "fetch", 1)
    below = await delegate(zora, claimed, child("x"))
    api = await zora.database.restricted()
    try:
        rows = await api.call("list_agent_task_tree", tenant_id=zora.tenant_id, id=below["x"])
        assert [row["id"] for row in rows] == [task_id, ids["a"], ids["b"], below["x"]]
        assert await api.call("list_agent_task_tree", tenant_id=uuid4(), id=below["x"]) == []
        await api.call("cancel_agent_task", tenant_id=zora.tenant_id, id=task_id)
        assert {await state(zora, one) for one in (task_id, *ids.values(), *below.values())} == {"failed/cancelled"}
        await api.call("retry_agent_task", tenant_id=zora.tenant_id, id=task_id)
        assert await state(zora, task_id) == "pending"
    finally:
        await api.close()
