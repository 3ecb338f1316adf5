"""Tasks that wait for other tasks: created as a graph, released by the ends of others, compared with a simple model."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Server, Zora
from tests.database.test_queue import claim, settle
from zora_core.database.postgres import connect
from zora_core.errors import InvalidInput
from zora_core.settings import Settings

pytestmark = pytest.mark.both_transports

Row = dict[str, Any]


def node(key: str, *depends_on: Any, **fields: Any) -> Row:
    return {
        "key": key, "depends_on": list(depends_on), "agent_id": "SAM", "task_type": "t", "title": key, **fields,
    }  # fmt: skip


async def create(zora: Zora, *nodes: Row) -> dict[str, UUID]:
    rows = await zora.call("create_agent_task_graph", tenant_id=zora.tenant_id, tasks=list(nodes))
    assert [row["key"] for row in rows] == [one["key"] for one in nodes]
    return {row["key"]: row["id"] for row in rows}


async def states(zora: Zora, ids: dict[str, UUID]) -> dict[str, str]:
    rows = await zora.sql("select id, status::text, waiting_for, failure_kind from agent_tasks")
    told = {row["id"]: "/".join(filter(None, (row["status"], row["waiting_for"], row["failure_kind"]))) for row in rows}
    return {key: told[task_id] for key, task_id in ids.items()}


async def end(zora: Zora, ids: dict[str, UUID], key: str, outcome: str = "completed") -> None:
    """Run one task, which must be the next to be claimed or among those."""
    report = {"completed": {"result": {"n": key}}, "failed": {"error": "e", "failure_kind": "error"}}[outcome]
    for claimed in await claim(zora, 100):
        if claimed["id"] == ids[key]:
            await settle(zora, claimed, outcome, **report)
        else:
            await settle(zora, claimed, "released")


async def test_a_task_runs_when_all_that_it_depends_on_have_ended(zora: Zora) -> None:
    ids = await create(zora, node("a"), node("b"), node("c", "a", "b"), node("d", "c"))
    assert await states(zora, ids) == {
        "a": "pending", "b": "pending", "c": "pending/dependencies", "d": "pending/dependencies",
    }  # fmt: skip
    await end(zora, ids, "a")
    assert (await states(zora, ids))["c"] == "pending/dependencies"
    (row,) = await zora.call("explain_agent_task", tenant_id=zora.tenant_id, id=ids["c"])
    assert row["explain_agent_task"].startswith("Waits for 1 of the 2 tasks that it depends on, first for SAM t")
    await end(zora, ids, "b")
    assert await states(zora, ids) == {
        "a": "completed", "b": "completed", "c": "pending", "d": "pending/dependencies",
    }  # fmt: skip
    results = await zora.call("list_dependency_results", tenant_id=zora.tenant_id, id=ids["c"])
    assert [(row["name"], row["status"], row["result"]) for row in results] == [
        ("a", "completed", {"n": "a"}),
        ("b", "completed", {"n": "b"}),
    ]


@pytest.mark.parametrize(
    ("policy", "middle", "last"),
    [
        ("fail", "failed/dependency", "failed/dependency"),
        ("skip", "completed", "pending"),
        ("continue", "pending", "pending/dependencies"),
    ],
)
async def test_what_becomes_of_the_rest_when_one_fails(zora: Zora, policy: str, middle: str, last: str) -> None:
    ids = await create(zora, node("a"), node("b", {"key": "a", "on_failure": policy}), node("c", "b"))
    await end(zora, ids, "a", "failed")
    assert await states(zora, ids) == {"a": "failed/error", "b": middle, "c": last}
    if policy != "continue":
        entries = await zora.sql(
            "select event_type, body from journal_entries where task_id = $1 order by id", ids["b"]
        )
        assert len(entries) == 2
        assert str(ids["a"]) in entries[1]["body"]


async def test_cancelling_and_rejecting_end_what_depends_on_it(zora: Zora) -> None:
    ids = await create(zora, node("a"), node("b", "a"))
    await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=ids["a"])
    assert (await states(zora, ids))["b"] == "failed/dependency"
    await zora.call("set_agent_task_policy", tenant_id=zora.tenant_id, task_type="t", auto_execute=False)
    ids = await create(zora, node("a"), node("b", "a"))
    assert await states(zora, ids) == {"a": "pending/approval", "b": "pending/approval"}
    asked = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="proposed")
    by_task = {row["task_id"]: row for row in asked}
    await zora.call(
        "decide_agent_suggestion", tenant_id=zora.tenant_id, id=by_task[ids["b"]]["id"], decision="approve",
        digest=by_task[ids["b"]]["effect_digest"],
    )  # fmt: skip
    assert (await states(zora, ids))["b"] == "pending/dependencies", "approved, but a has not run"
    await zora.call(
        "decide_agent_suggestion", tenant_id=zora.tenant_id, id=by_task[ids["a"]]["id"], decision="reject", reason="no"
    )
    assert await states(zora, ids) == {"a": "failed/rejected", "b": "failed/dependency"}


async def test_dependencies_come_before_the_time_to_run(zora: Zora) -> None:
    ids = await create(zora, node("a"), node("b", "a", run_at="2026-03-02T12:00:00Z"))
    await zora.advance(hours=1)
    await zora.call("promote_agent_tasks")
    assert (await states(zora, ids))["b"] == "pending/dependencies"
    await end(zora, ids, "a")
    assert (await states(zora, ids))["b"] == "pending/run_at"


async def test_graphs_that_are_none_are_refused_by_name_and_leave_nothing(zora: Zora) -> None:
    for nodes, message in (
        ([node("a", "b"), node("b")], "'a' depends on 'b', which no task before it is called"),
        ([node("a", "a")], "'a' depends on 'a', which no task before it"),
        ([node("a", "z")], "'a' depends on 'z', which no task before it"),
        ([node("a"), node("a")], "two tasks have the key 'a'"),
        ([node("")], "task 1 of 1 lacks a key"),
        ([node("a"), node("b", {"key": "a", "on_failure": "ignore"})], "unknown on_failure"),
        ([node("a", idempotency_key="k")], "idempotency_key"),
        ([node("a", agent_id="HAL")], "unknown agent 'HAL'"),
    ):
        with pytest.raises(InvalidInput, match=message):
            await create(zora, *nodes)
    assert await zora.sql("select from agent_tasks") == []


POLICIES = ("fail", "skip", "continue")


@st.composite
def graphs(draw: st.DrawFn) -> list[list[tuple[int, str]]]:
    """For each task the earlier ones that it depends on, each with a policy."""
    size = draw(st.integers(1, 7))
    return [
        [
            (other, draw(st.sampled_from(POLICIES)))
            for other in (draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else ())
        ]
        for number in range(size)
    ]


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["complete", "complete", "fail", "error", "cancel", "retry", "lose"]), st.integers(0, 6)),
    max_size=25,
)


class Model:
    """What the policies say, in plain words."""

    def __init__(self, graph: list[list[tuple[int, str]]]) -> None:
        self.graph = graph
        self.status = ["pending"] * len(graph)

    def met(self, upstream: int, policy: str) -> bool:
        status = self.status[upstream]
        return status == "completed" or (policy == "continue" and status == "failed")

    def waits(self, number: int) -> bool:
        return not all(self.met(*edge) for edge in self.graph[number])

    def ended(self, number: int, status: str) -> None:
        """In waves: what an end ends at once, then what those ends end; to fail goes before to be skipped."""
        self.status[number] = status
        wave = [number] if status == "failed" else []
        while wave:
            hit: dict[int, set[str]] = defaultdict(set)
            for other, edges in enumerate(self.graph):
                if self.status[other] == "pending":
                    hit[other] = {policy for upstream, policy in edges if upstream in wave} - {"continue"}
            wave = [other for other, policies in hit.items() if "fail" in policies]
            for other, policies in hit.items():
                if policies:
                    self.status[other] = "failed" if "fail" in policies else "completed"

    def shown(self) -> list[str]:
        return [
            "waits" if status == "pending" and self.waits(number) else status
            for number, status in enumerate(self.status)
        ]


def test_graphs_with_failures_retries_cancellations_and_crashes_follow_the_model(server: Server, tmp_path: Any) -> None:
    """Every task ends in the state that the policies say, and no graph gets stuck."""
    with asyncio.Runner() as runner:
        url = runner.run(server.emptied())
        connection = runner.run(asyncpg.connect(url))
        database = runner.run(connect(url))
        zora = Zora(database, url, Settings(home=tmp_path))

        async def ready() -> dict[UUID, Row]:
            return {row["id"]: row for row in await claim(zora, 100)}

        async def act(model: Model, ids: list[UUID], action: str, number: int) -> None:
            number %= len(ids)
            one = ids[number]
            if action == "cancel":
                if model.status[number] == "pending":
                    await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=one)
                    model.ended(number, "failed")
                return
            if action == "retry":
                if model.status[number] == "failed":
                    await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=one)
                    model.status[number] = "pending"
                return
            claimed = await ready()
            assert {ids.index(i) for i in claimed} == {n for n, s in enumerate(model.shown()) if s == "pending"}
            for task_id, row in claimed.items():
                if task_id != one or action == "error":
                    await settle(zora, row, "released")
                elif action == "lose":
                    await connection.execute(
                        "update agent_tasks set lease_expires_at = '2000-01-01' where id = $1", one
                    )
                    await zora.call("rescue_agent_tasks", max_lost=100)
                    # Else it would be claimed with nothing else, which test_queue.py is about.
                    await connection.execute("update agent_tasks set lost_leases = 0 where id = $1", one)
                else:
                    outcome = {"complete": "completed", "fail": "failed"}[action]
                    await settle(zora, row, outcome, error="e", failure_kind="error")
                    model.ended(number, outcome)

        async def play(graph: list[list[tuple[int, str]]], actions: list[tuple[str, int]]) -> None:
            await connection.execute("delete from agent_task_dependencies; delete from agent_tasks")
            nodes = [
                node(str(number), *({"key": str(o), "on_failure": p} for o, p in edges))
                for number, edges in enumerate(graph)
            ]
            ids = list((await create(zora, *nodes)).values())
            model = Model(graph)
            for action, number in [*actions, *[("complete", n) for n in range(len(ids))]]:
                await act(model, ids, action, number)
                rows = {row["id"]: row for row in await connection.fetch("select * from agent_tasks")}
                shown = ["waits" if rows[i]["waiting_for"] == "dependencies" else rows[i]["status"] for i in ids]
                assert shown == model.shown(), (action, number)
            assert not {"pending", "in_progress"} & set(model.shown()), "nothing is stuck that could run"

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(graphs(), ACTIONS)
        def check(graph: list[list[tuple[int, str]]], actions: list[tuple[str, int]]) -> None:
            runner.run(play(graph, actions))

        try:
            check()
        finally:
            runner.run(database.close())
            runner.run(connection.close())


async def test_many_ends_at_once_release_each_dependent_once(zora: Zora) -> None:
    """Four connections settle what a hundred tasks wait for, all at once."""
    first = [node(f"a{n}") for n in range(40)]
    second = [node(f"b{n}", *(f"a{m}" for m in range(n % 7, 40, 7))) for n in range(60)]
    ids = await create(zora, *first, *second, node("last", *(f"b{n}" for n in range(60))))
    claims = await claim(zora, 100)
    assert len(claims) == 40
    by_worker = defaultdict(list)
    for number, row in enumerate(claims):
        by_worker[number % 4].append(row)

    async def work(rows: list[Row]) -> None:
        for start in range(0, len(rows), 3):
            batch = rows[start : start + 3]
            await zora.call(
                "settle_agent_tasks",
                ids=[r["id"] for r in batch], lease_tokens=[r["lease_token"] for r in batch],
                outcomes=["completed"] * len(batch), summaries=[], results=[], errors=[], failure_kinds=[], delays=[],
            )  # fmt: skip

    await asyncio.gather(*(work(rows) for rows in by_worker.values()))
    shown = await states(zora, ids)
    assert [shown[f"b{n}"] for n in range(60)] == ["pending"] * 60
    assert shown["last"] == "pending/dependencies"
    (row,) = await zora.sql("select sum(dependencies_left) as left from agent_tasks")
    assert row["left"] == 60
