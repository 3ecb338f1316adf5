"""Handlers that delegate, are resumed, delegate again and fail; and steps that are not done twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import Field

from tests.conftest import Zora
from zora_core.agents import (
    Agent,
    AgentId,
    ChildTask,
    Delegate,
    FileLine,
    Finding,
    Payload,
    Quote,
    Rows,
    Severity,
    Task,
    TaskContext,
    TaskResult,
    handler,
)
from zora_core.models import TaskRecord

pytestmark = pytest.mark.both_transports


class Words(Payload):
    text: str = ""
    fail: bool = False


class Plan(Payload):
    texts: list[str] = Field(default_factory=list)
    fail: bool = False


class Desk(Agent):
    """SAM's: has others count words, and adds up."""

    agent_id = AgentId.SAM

    def __init__(self) -> None:
        self.seen: list[tuple[Any, dict[str, str]]] = []

    @handler("add_up")
    async def add_up(self, task: Task, payload: Plan, ctx: TaskContext) -> TaskResult | Delegate:
        self.seen.append((ctx.then, {key: child.status for key, child in ctx.children.items()}))
        if not ctx.children:
            return Delegate(
                [
                    ChildTask(
                        key=str(n), agent_id="connor", task_type="count", title=text,
                        payload={"text": text, "fail": payload.fail},
                    )
                    for n, text in enumerate(payload.texts)
                ],
                then={"round": 1},
            )  # fmt: skip
        counts = {key: child.result["result"]["words"] for key, child in ctx.children.items() if child.result}
        failed = [f"{child.key}: {child.error}" for child in ctx.children.values() if child.status == "failed"]
        return TaskResult(summary=f"{sum(counts.values())} words", result={"counts": counts, "failed": failed})

    @handler("twice")
    async def twice(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult | Delegate:
        rounds = ctx.then or 0
        if rounds < 2:
            words = {"text": "x " * rounds}
            child = ChildTask(key="a", agent_id=AgentId.CONNOR, task_type="count", title="t", payload=words)
            return Delegate([child], then=rounds + 1)
        return TaskResult(summary=ctx.children["a"].summary or "")

    @handler("chain")
    async def chain(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult | Delegate:
        if not ctx.children:
            return Delegate(
                [
                    ChildTask(
                        key="second", agent_id="CONNOR", task_type="count", title="t", depends_on=["first"],
                        payload={"text": {"$result": "first", "path": "result.echo"}},
                    ),
                    ChildTask(key="first", agent_id="CONNOR", task_type="count", title="t", payload={"text": "a b"}),
                ]
            )  # fmt: skip
        return TaskResult(summary=ctx.children["second"].summary or "")

    @handler("ask")
    async def ask(self, task: Task, payload: Words, ctx: TaskContext) -> Delegate:
        agent_id, _, task_type = payload.text.partition(" ")
        return Delegate([ChildTask(key="a", agent_id=agent_id, task_type=task_type, title="t", payload={"wrong": 1})])

    @handler("nothing")
    async def nothing(self, task: Task, payload: Words, ctx: TaskContext) -> Delegate:
        return Delegate([])

    @handler("no_json")
    async def no_json(self, task: Task, payload: Payload, ctx: TaskContext) -> Delegate:
        return Delegate([ChildTask(key="a", agent_id="CONNOR", task_type="count", title="t")], then=object())

    @handler("cite")
    async def cite(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult | Delegate:
        if not ctx.children:
            return Delegate(
                [ChildTask(key="a", agent_id="CONNOR", task_type="count", title="t", payload={"text": "a b"})]
            )
        child = ctx.children["a"]
        evidence = [
            Rows(table="agent_tasks", ids=[str(child.id)]),
            Quote(source=f"agent_tasks/{child.id}#summary", text="2 words"),
        ]
        return TaskResult(
            summary="s",
            findings=[Finding(rule_id="r", title="t", severity=Severity.LOW, confidence=1, evidence=evidence)],
        )


class Counter(Agent):
    agent_id = AgentId.CONNOR

    @handler("count")
    async def count(self, task: Task, payload: Words, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "text", payload.text)
        if payload.fail:
            raise ValueError("cannot count")
        words = len(payload.text.split())
        return TaskResult(summary=f"{words} words", result={"words": words, "echo": payload.text})


async def ran(zora: Zora, task_type: str, payload: dict[str, Any] | None = None, *agents: Agent) -> TaskRecord:
    task_id = await zora.create("SAM", task_type, payload, max_attempts=1)
    await zora.run_once(*(agents or (Desk(), Counter())), limit=50)
    return await zora.task(task_id)


async def test_a_handler_is_resumed_with_its_childrens_results_and_what_it_gave_along(zora: Zora) -> None:
    desk = Desk()
    task = await ran(zora, "add_up", {"texts": ["one two", "three"]}, desk, Counter())
    assert (task.status, task.result_summary, task.attempt) == ("completed", "3 words", 1)
    assert task.result
    assert task.result["result"] == {"counts": {"0": 2, "1": 1}, "failed": []}
    assert desk.seen == [(None, {}), ({"round": 1}, {"0": "completed", "1": "completed"})]
    (source,) = task.result["sources"]
    assert (source["kind"], source["ref"], source["count"]) == ("rows", "agent_tasks", 2), "children are evidence"


async def test_a_delegation_frees_the_workers_only_slot(zora: Zora) -> None:
    task_id = await zora.create("SAM", "add_up", {"texts": ["a", "b"]})
    runs = await zora.worker(Desk(), Counter(), concurrency=1).run(limit=10)
    assert [(run.task.task_type, run.status, run.waiting_for) for run in runs] == [
        ("add_up", "pending", "children"), ("count", "completed", None), ("count", "completed", None),
        ("add_up", "completed", None),
    ]  # fmt: skip
    assert runs[0].summary == "delegated to 0, 1"
    assert (await zora.task(task_id)).result_summary == "2 words"


async def test_a_handler_sees_which_children_failed_and_why(zora: Zora) -> None:
    task = await ran(zora, "add_up", {"texts": ["a"], "fail": True})
    assert task.waiting_for == "children", "the child tries again"
    for seconds in (10, 100):
        await zora.advance(seconds=seconds)
        await zora.run_once(Desk(), Counter())
    task = await zora.task(task.id)
    assert task.status == "completed"
    assert task.result
    assert task.result["result"] == {"counts": {}, "failed": ["0: ValueError: cannot count"]}


async def test_a_handler_may_delegate_again(zora: Zora) -> None:
    task = await ran(zora, "twice")
    assert (task.status, task.result_summary) == ("completed", "1 words")
    rows = await zora.call("list_agent_task_tree", tenant_id=zora.tenant_id, id=task.id)
    assert [(row["key"], row["status"]) for row in rows] == [
        (None, "completed"), ("a", "completed"), ("a", "completed"),
    ]  # fmt: skip


async def test_siblings_are_put_in_order_and_read_one_anothers_results(zora: Zora) -> None:
    assert (await ran(zora, "chain")).result_summary == "2 words"


async def test_what_a_child_says_can_be_evidence(zora: Zora) -> None:
    task = await ran(zora, "cite")
    assert task.status == "completed", task.error_message


@pytest.mark.parametrize(
    ("asked", "kind", "message"),
    [
        ("CONNOR nonsense", "unknown_task_type", "child 'a': unknown task type 'nonsense' for CONNOR (known: count)"),
        ("HAL count", "unknown_task_type", "unknown task type 'count' for HAL"),
        ("CONNOR count", "invalid_payload", "invalid payload for CONNOR count: wrong: Extra inputs are not permitted"),
    ],
)
async def test_agents_delegate_only_what_exists(zora: Zora, asked: str, kind: str, message: str) -> None:
    task = await ran(zora, "ask", {"text": asked})
    assert (task.status, task.failure_kind) == ("failed", kind)
    assert message in (task.error_message or "")
    assert len(await zora.sql("select from agent_tasks")) == 1


async def test_a_delegation_to_nobody_fails_by_name(zora: Zora) -> None:
    assert (await ran(zora, "nothing")).error_message == "the delegation names no children"


async def test_a_delegation_that_is_no_json_fails_its_task(zora: Zora) -> None:
    task = await ran(zora, "no_json")
    assert (task.status, task.failure_kind) == ("failed", "error")
    assert len(await zora.sql("select from agent_tasks")) == 1


async def test_a_worker_ends_what_is_past_its_deadline_and_what_nobody_waits_for_any_more(zora: Zora) -> None:
    late = await zora.create("SAM", "nothing", deadline_at="2026-03-02T09:30:00Z")
    parent = await zora.create("SAM", "add_up", {"texts": ["a"]}, priority=1)
    await zora.run_once(Desk(), Counter(), limit=1)
    await zora.sql(
        "update agent_tasks set status = 'failed', waiting_for = null, failure_kind = 'rejected' where id = $1", parent
    )
    await zora.advance(hours=1)
    assert await zora.run_once(Desk(), Counter()) == []
    rows = await zora.sql("select id, failure_kind from agent_tasks order by created_at, id")
    kinds = [row["failure_kind"] for row in rows]
    assert kinds == ["timeout", "rejected", "cancelled"]
    assert rows[0]["id"] == late


class Steps(Agent):
    """Counts how often each step is done; crashes after them until told not to."""

    agent_id = AgentId.SAM

    def __init__(self) -> None:
        self.done: list[str] = []
        self.values: list[Any] = []
        self.crash = True
        self.work: Any = self.plain

    def plain(self, value: Any) -> Any:
        self.done.append("plain")
        return value

    @handler("steps")
    async def steps(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")

        async def fetch(n: int) -> dict[str, Any]:
            self.done.append("fetch")
            return {"n": n, "pair": (1, 2.0)}

        self.values.append(await ctx.step("fetch", fetch, 7))
        self.values.append(await ctx.step("plain", self.plain, value=None))
        self.values.append(await ctx.step("plain", self.plain, "another"))
        if self.crash:
            raise ValueError("crashed")
        return TaskResult(summary="done")

    @handler("one")
    async def one(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")
        await ctx.step("one", self.work, 1)
        return TaskResult(summary="done")

    @handler("side_by_side")
    async def side_by_side(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")

        async def slow(name: str) -> str:
            self.done.append(name)
            await asyncio.sleep(0.01)
            return name

        names = ["a", "b", "a", "b", "a"]
        self.values = await asyncio.gather(*(ctx.step(name, slow, name) for name in names))
        self.values.append(await ctx.step("outer", self._outer, ctx))
        return TaskResult(summary="done")

    async def _outer(self, ctx: TaskContext) -> Any:
        return await ctx.step("inner", self.plain, 1)

    @handler("read")
    async def read(self, task: Task, payload: Words, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "before", "of the text")

        async def look() -> str:
            self.done.append("look")
            page = await ctx.page(html="<html><body><h1 id='h'>Soon  neutral</h1></body></html>")
            ctx.read_file("lines.txt")
            ctx.derive("part", "of the", source="before")
            await ctx.tasks()
            return page.text

        await ctx.step("look", look)
        if self.crash:
            raise ValueError("crashed")
        evidence = [
            Quote(source="html", text="Soon neutral"),
            FileLine(path="lines.txt", line=2, text="second"),
            Quote(source="part", text="of the"),
            Rows(table="agent_tasks", ids=[str(task.id)]),
            Quote(source=f"agent_tasks/{task.id}#title", text="read"),
            *([Quote(source="html", text=payload.text)] if payload.text else []),
        ]
        return TaskResult(
            summary="s",
            findings=[Finding(rule_id="r", title="t", severity=Severity.LOW, confidence=1, evidence=evidence)],
        )


async def again(zora: Zora, steps: Steps, task_type: str, payload: dict[str, Any] | None = None) -> TaskRecord:
    """Run a task that crashes the first time, and then not."""
    task_id = await zora.create("SAM", task_type, payload)
    await zora.run_once(steps)
    steps.crash = False
    await zora.advance(seconds=10)
    await zora.run_once(steps)
    return await zora.task(task_id)


async def test_what_a_step_returned_is_not_computed_again(zora: Zora) -> None:
    steps = Steps()
    task = await again(zora, steps, "steps")
    assert (task.status, task.attempt) == ("completed", 2)
    assert steps.done == ["fetch", "plain"], "once each, whatever is named again"
    assert steps.values == [{"n": 7, "pair": [1, 2.0]}, None, None] * 2, "as JSON, the first time, too"


async def test_steps_may_run_side_by_side_and_within_one_another(zora: Zora) -> None:
    steps = Steps()
    await zora.create("SAM", "side_by_side")
    (run,) = await zora.run_once(steps)
    assert run.status == "completed", run.error
    assert (sorted(steps.done), steps.values) == (["a", "b", "plain"], ["a", "b", "a", "b", "a", 1])


async def test_evidence_found_in_a_step_stands_in_a_later_run(zora: Zora) -> None:
    (zora.settings.file_roots[0] / "lines.txt").write_text("first\nsecond\n")
    steps = Steps()
    task = await again(zora, steps, "read")
    assert task.status == "completed", task.error_message
    assert steps.done == ["look"]
    assert task.result
    assert [source["ref"].rpartition("/")[2] for source in task.result["sources"]] == [
        "before", "html", "lines.txt", "agent_tasks",
    ]  # fmt: skip
    reads = [evidence["read"] for evidence in task.result["findings"][0]["evidence"]]
    assert reads == [[1], [2], [0], [3], [3]]


async def test_evidence_that_a_step_did_not_read_is_still_refused(zora: Zora) -> None:
    (zora.settings.file_roots[0] / "lines.txt").write_text("first\nsecond\n")
    task = await again(zora, Steps(), "read", {"text": "Never neutral"})
    assert task.status == "failed"
    assert "“Never neutral” does not stand in html" in (task.error_message or "")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x" * 1_000_000, "the step 'one' returned 1,000,002 bytes of JSON, more than 1,000,000: return what matters"),
        (object(), "the step 'one' returned what is not JSON"),
        ("a\0b", "the step 'one' returned what cannot be kept"),
    ],
    ids=["large", "no-json", "nul"],
)
async def test_a_step_that_cannot_be_kept_fails_by_name(zora: Zora, value: Any, message: str) -> None:
    steps = Steps()
    steps.work = lambda _: value
    task_id = await zora.create("SAM", "one")
    await zora.run_once(steps)
    task = await zora.task(task_id)
    assert (task.status, task.failure_kind) == ("failed", "error")
    assert message in (task.error_message or "")
    assert await zora.sql("select from agent_task_steps") == []


async def test_a_step_of_a_run_that_lost_its_lease_is_not_kept(zora: Zora) -> None:
    steps = Steps()
    task_id = await zora.create("SAM", "one")

    async def lose(_: int) -> int:
        await zora.advance(seconds=31)
        await zora.sql("select rescue_agent_tasks()")  # on a connection of this loop's own
        return 1

    steps.work = lose
    (run, *_) = await zora.worker(steps).run(limit=1)
    assert run.status == "lost"
    assert await zora.sql("select from agent_task_steps") == []
    assert (await zora.task(task_id)).status == "pending"


async def test_a_step_that_fails_is_done_again(zora: Zora) -> None:
    steps = Steps()
    task_id = await zora.create("SAM", "one")
    steps.work = lambda _: 1 / 0
    await zora.run_once(steps)
    steps.work = steps.plain
    await zora.advance(seconds=10)
    await zora.run_once(steps)
    assert (await zora.task(task_id)).status == "completed"
