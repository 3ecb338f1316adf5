"""Workflows from definition to the end of a run: the shipped ones with the real agents, the rest with small ones."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.conftest import Zora
from tests.database.test_queue import claim
from zora_core.agents import Agent, AgentId, Payload, Task, TaskContext, TaskResult, handler
from zora_core.agents.builtin import registry
from zora_core.cli.demo import demo_seed
from zora_core.errors import InvalidInput, InvalidState, NotFound
from zora_core.workflows import Workflow, choose, load, shipped

pytestmark = pytest.mark.both_transports

Row = dict[str, Any]


async def start(zora: Zora, workflow: Workflow, **inputs: Any) -> UUID:
    (row,) = await zora.call(
        "start_workflow_run",
        tenant_id=zora.tenant_id, workflow=workflow.key, name=workflow.name,
        definition=workflow.model_dump(mode="json"), context=inputs, tasks=workflow.tasks(inputs),
    )  # fmt: skip
    return row["id"]


async def state(zora: Zora, run: UUID) -> Row:
    return (await zora.call("list_workflow_runs", tenant_id=zora.tenant_id, id=run))[0]


async def steps(zora: Zora, run: UUID) -> dict[str, Row]:
    rows = await zora.call("list_workflow_run_tasks", tenant_id=zora.tenant_id, id=run)
    return {row["step"]: row for row in rows}


async def shown(zora: Zora, run: UUID) -> dict[str, str]:
    return {
        step: "/".join(filter(None, (row["status"], row["waiting_for"], row["failure_kind"])))
        for step, row in (await steps(zora, run)).items()
    }


async def finished(zora: Zora) -> list[str]:
    rows = await zora.sql("select body from journal_entries where event_type = 'workflow_run_finished' order by id")
    return [row["body"] for row in rows]


@pytest.mark.parametrize("key", ["weekly-climate-review", "frontend-quality-round", "nightly-housekeeping"])
async def test_a_shipped_workflow_runs_from_end_to_end(zora: Zora, key: str) -> None:
    await zora.call("seed_tenant", tenant_id=zora.tenant_id, seed=demo_seed())
    workflow = shipped()[key]
    workflow.check(registry())
    run = await start(zora, workflow)
    await zora.run_once(limit=20)
    for row in await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="proposed", limit=200):
        if row["suggestion_type"] == "run_task":  # the step that asks first
            assert (await state(zora, run))["status"] == "waiting"
            await zora.call(
                "decide_agent_suggestion", tenant_id=zora.tenant_id, id=row["id"], decision="approve",
                digest=row["effect_digest"],
            )  # fmt: skip
            await zora.run_once(limit=20)
    found = await steps(zora, run)
    assert {row["status"] for row in found.values()} == {"completed"}, found
    assert all(row["result_summary"] for row in found.values())
    row = await state(zora, run)
    assert (row["status"], row["ended"], row["finished_at"]) == ("completed", len(workflow.steps), zora.now)
    assert await finished(zora) == [f"all {len(workflow.steps)} tasks completed"]


async def test_the_claims_that_one_agent_finds_are_checked_by_another(zora: Zora) -> None:
    await zora.call("seed_tenant", tenant_id=zora.tenant_id, seed=demo_seed())
    run = await start(zora, shipped()["weekly-climate-review"])
    await zora.run_once(limit=20)
    found = await steps(zora, run)
    page, claims = [await zora.task(found[step]["id"]) for step in ("page", "claims")]
    assert page.result
    assert claims.result
    quoted = {e["text"] for f in claims.result["findings"] for e in f["evidence"] if e["kind"] == "quote"}
    assert quoted
    assert quoted <= {claim["text"] for claim in page.result["result"]["claims"]}


class Word(Payload):
    word: str = "yes"


class Speaker(Agent):
    """Says a word; `no` is an error for good."""

    agent_id = AgentId.SAM

    @handler("say")
    async def say(self, task: Task, payload: Word, ctx: TaskContext) -> TaskResult:
        """Say a word."""
        if payload.word == "no":
            raise RuntimeError("no")
        ctx.cite("payload", "word", payload.word)
        return TaskResult(summary=payload.word, result={"word": payload.word})


def workflow(*steps_: Row, **fields: Any) -> Workflow:
    common = {"agent_id": "SAM", "task_type": "say", "title": "say", "max_attempts": 1}
    return Workflow.model_validate(
        {"key": "w", "name": "W", "steps": [{**common, **step} for step in steps_], **fields}
    )


async def test_a_run_that_failed_runs_again_from_where_it_failed(zora: Zora) -> None:
    made = workflow(
        {"key": "a"},
        {"key": "b", "payload": {"word": {"$input": "word"}}, "depends_on": ["a"]},
        {"key": "c", "payload": {"word": {"$result": "b", "path": "result.word"}}, "depends_on": ["b"]},
        inputs={"word": "no"},
    )
    run = await start(zora, made)
    await zora.run_once(Speaker())
    assert await shown(zora, run) == {"a": "completed", "b": "failed/error", "c": "failed/dependency"}
    assert (await state(zora, run))["status"] == "failed"
    first = (await steps(zora, run))["a"]["completed_at"]
    await zora.sql("""update agent_tasks set payload = '{"word": "well"}' where workflow_step = 'b'""")
    assert await zora.database.value("retry_workflow_run", tenant_id=zora.tenant_id, id=run) == 2
    assert await shown(zora, run) == {"a": "completed", "b": "pending", "c": "pending/dependencies"}
    await zora.advance(minutes=1)
    await zora.run_once(Speaker())
    found = await steps(zora, run)
    assert (found["a"]["completed_at"], found["c"]["result_summary"]) == (first, "well")
    assert (await state(zora, run))["status"] == "completed"
    assert await finished(zora) == ["2 of 3 tasks failed", "all 3 tasks completed"]
    with pytest.raises(InvalidState, match="nothing failed"):
        await zora.database.value("retry_workflow_run", tenant_id=zora.tenant_id, id=run)


async def test_what_was_skipped_runs_when_the_run_is_tried_again(zora: Zora) -> None:
    made = workflow(
        {"key": "a", "payload": {"word": "no"}},
        {"key": "b", "depends_on": [{"key": "a", "on_failure": "skip"}]},
        {"key": "c", "depends_on": ["b"]},
    )
    run = await start(zora, made)
    await zora.run_once(Speaker())
    found = await steps(zora, run)
    assert {step: row["status"] for step, row in found.items()} == {"a": "failed", "b": "completed", "c": "completed"}
    assert found["b"]["result_summary"].startswith("not run, because task")
    await zora.sql("""update agent_tasks set payload = '{"word": "well"}' where workflow_step = 'a'""")
    assert await zora.database.value("retry_workflow_run", tenant_id=zora.tenant_id, id=run) == 1
    assert await shown(zora, run) == {"a": "pending", "b": "pending/dependencies", "c": "completed"}
    await zora.run_once(Speaker())
    assert (await steps(zora, run))["b"]["result_summary"] == "yes"
    assert (await state(zora, run))["status"] == "completed"


async def test_cancelling_a_run_ends_all_of_it(zora: Zora) -> None:
    run = await start(zora, workflow({"key": "a"}, {"key": "b"}, {"key": "c", "depends_on": ["a"]}))
    await claim(zora)
    assert await zora.database.value("cancel_workflow_run", tenant_id=zora.tenant_id, id=run, reason="late") == 3
    states = await shown(zora, run)
    assert sorted(states.values()) == ["failed/cancelled", "failed/cancelled", "in_progress"]
    await zora.sql("update agent_tasks set lease_expires_at = '2000-01-01' where status = 'in_progress'")
    await zora.call("rescue_agent_tasks", max_lost=3)
    assert set((await shown(zora, run)).values()) == {"failed/cancelled"}
    assert await finished(zora) == ["3 of 3 tasks failed"]
    with pytest.raises(InvalidState, match="every task of run"):
        await zora.database.value("cancel_workflow_run", tenant_id=zora.tenant_id, id=run)


async def test_a_step_that_asks_first_asks_when_its_turn_has_come(zora: Zora) -> None:
    run = await start(
        zora,
        workflow({"key": "a"}, {"key": "b", "depends_on": ["a"], "ask_first": True}, {"key": "c", "depends_on": ["b"]}),
    )
    assert await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id) == []
    await zora.run_once(Speaker())
    assert await shown(zora, run) == {"a": "completed", "b": "pending/approval", "c": "pending/dependencies"}
    assert (await state(zora, run))["status"] == "waiting"
    (asked,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id)
    await zora.call(
        "decide_agent_suggestion", tenant_id=zora.tenant_id, id=asked["id"], decision="reject", reason="not today"
    )
    assert await shown(zora, run) == {"a": "completed", "b": "failed/rejected", "c": "failed/dependency"}
    assert await finished(zora) == ["2 of 3 tasks failed"]
    with pytest.raises(InvalidState, match="rejected"):
        await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=(await steps(zora, run))["b"]["id"])


async def test_of_two_who_end_the_last_two_tasks_at_once_one_finishes_the_run(zora: Zora) -> None:
    for _ in range(10):
        run = await start(zora, workflow({"key": "a"}, {"key": "b"}))
        rows = await claim(zora, 2)
        connections = [await asyncpg.connect(zora.url) for _ in rows]
        settle = "select * from settle_agent_tasks($1, $2, '{completed}', '{}', '{}', '{}', '{}', '{}')"
        await asyncio.gather(
            *(
                connection.fetch(settle, [row["id"]], [row["lease_token"]])
                for connection, row in zip(connections, rows, strict=True)
            )
        )
        for connection in connections:
            await connection.close()
        assert (await state(zora, run))["finished_at"] == zora.now
    assert await finished(zora) == ["all 2 tasks completed"] * 10


async def test_a_tenants_own_workflow_goes_before_the_shipped_one(zora: Zora) -> None:
    own = workflow({"key": "a"}, key="nightly-housekeeping")
    arguments = {"tenant_id": zora.tenant_id, "key": own.key}
    for name in ("First", "Mine"):
        definition = own.model_copy(update={"name": name}).model_dump(mode="json")
        await zora.call("save_workflow", **arguments, name=name, definition=definition)
    stored = await zora.call("list_workflows", tenant_id=zora.tenant_id)
    assert len(stored) == 1
    assert choose(stored, own.key).name == "Mine"
    await zora.call("delete_workflow", **arguments)
    assert choose([], own.key).name == "Nightly housekeeping"
    with pytest.raises(NotFound, match="no workflow nightly-housekeeping"):
        await zora.call("delete_workflow", **arguments)
    with pytest.raises(NotFound, match=r"'nope' \(known: frontend-quality-round, nightly"):
        choose([], "nope")


STEP = "{key: a, agent_id: SAM, task_type: review_accessibility, title: t, payload: {target: x}}"


def of(*steps_: str) -> str:
    return f"{{key: w, name: w, steps: [{', '.join(steps_)}]}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key: [", "is not YAML"),
        ("[]", "the definition: Input should be a valid dictionary"),
        ("{key: W, name: w, steps: []}", "key: String should match pattern"),
        (of(), "steps: List should have at least 1 item"),
        ("{key: w, name: w, step: []}", "steps: Field required"),
        (of(f"{STEP[:-1]}, depends_on: [b]}}"), "'a' depends on 'b', and no task is called so"),
        (of(f"{STEP[:-1]}, depends_on: [a]}}"), "depend on one another: a → a"),
        (of(STEP, STEP), "two tasks have the key 'a'"),
        (of(STEP.replace("review_accessibility", "paint")), "the step 'a': unknown task type"),
        (of(STEP.replace("target: x", "targt: x")), "the step 'a': "),
        (of(STEP.replace("title: t", 'title: "t {page}"')), "names the input 'page'"),
    ],
)
def test_a_definition_that_cannot_be_is_told_by_name(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        load(text).check(registry())
    assert message in str(refusal.value)


def test_a_large_input_that_occurs_too_often_is_refused() -> None:
    definition = {
        "key": "w", "name": "w", "inputs": {"page": "x" * 500_000},
        "steps": [{"key": "a", "agent_id": "SAM", "task_type": "review_accessibility", "title": "t",
                   "payload": {"target": [{"$input": "page"}] * 20_000}}],
    }  # fmt: skip
    workflow = Workflow.model_validate(definition)
    for use in (lambda: workflow.check(registry()), lambda: workflow.tasks({})):
        with pytest.raises(InvalidInput, match="holds more than 50,000,000 characters"):
            use()
