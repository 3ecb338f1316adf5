"""Hostile input: whatever a page, a text or a repository does, heartbeats go on and the task ends within its limit."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests import work
from tests.conftest import Zora
from tests.test_storable import BOMB
from zora_core.agents import Agent, AgentId, ChildTask, Delegate, Payload, TaskContext, TaskResult, handler
from zora_core.agents.agent import Task
from zora_core.models import Element, Finding, Quote, Severity, Suggestion
from zora_core.skills import page as page_module

LEASE_SECONDS = 1.5
ATTRIBUTES = " ".join(f"a{n}=1" for n in range(20_000))
RULES = "".join(f".c{n} .d{n}>p{{color:#777}}" for n in range(100_000))
SELECTORS = ",".join(f".c{n}" for n in range(100_000))


class Naive(Agent):
    """Handlers as somebody would write them who does not think of hostile input."""

    agent_id = AgentId.SAM

    @handler("spin", timeout_seconds=1)
    async def spin(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await ctx.compute(work.spin)
        raise AssertionError("never ends")

    @handler("allocate")
    async def allocate(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await ctx.compute(work.allocate, 10_000)
        raise AssertionError("there is not so much memory")

    @handler("die")
    async def die(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await ctx.compute(work.end, 1)
        raise AssertionError("the process has ended")

    @handler("count")
    async def count(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "text", "four")
        return TaskResult(summary=f"{await ctx.compute(len, 'four')} letters")

    @handler("lambda")
    async def unsendable(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await ctx.compute(lambda: 1)
        raise AssertionError("a lambda cannot be sent")

    @handler("element")
    async def element(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await ctx.page(html="<p id=a>text</p>")
        piece = Element(source="html", selector="#a", html='<p id="a">text')
        finding = Finding(rule_id="x.y", title="t", detail="d", severity=Severity.LOW, confidence=1.0, evidence=[piece])
        return TaskResult(summary="found", findings=[finding])


class Aliases(Agent):
    """Handlers that pass on what they read from YAML, where 300 bytes can refer to billions of values."""

    agent_id = AgentId.ORACLE

    @handler("result", evidence="none")
    async def result(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        return TaskResult(summary="read", result=yaml.safe_load(BOMB))

    @handler("loop", evidence="none")
    async def loop(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        return TaskResult(summary="read", result=yaml.safe_load("a: &a [*a, *a]"))

    @handler("text", evidence="none")
    async def text(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        return TaskResult(summary="read", result={"lines": ["password = hunter2 " * 1_000] * 2_000})

    @handler("suggestion")
    async def suggestion(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "page", "text")
        advice = Suggestion(
            suggestion_type="advice", title="t", suggested_value=yaml.safe_load(BOMB),
            evidence=[Quote(source="page", text="text")],
        )  # fmt: skip
        return TaskResult(summary="read", suggestions=[advice])

    @handler("child", evidence="none")
    async def child(self, task: Task, payload: Payload, ctx: TaskContext) -> Delegate:
        return Delegate(
            [ChildTask(key="a", agent_id="SAM", task_type="count", title="t", payload=yaml.safe_load(BOMB))]
        )

    @handler("then", evidence="none")
    async def then(self, task: Task, payload: Payload, ctx: TaskContext) -> Delegate:
        return Delegate([ChildTask(key="a", agent_id="SAM", task_type="count", title="t")], then=yaml.safe_load(BOMB))

    @handler("step", evidence="none")
    async def step(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await ctx.step("read", yaml.safe_load, BOMB)
        raise AssertionError("it cannot be kept")


@pytest.mark.parametrize(
    ("task_type", "said"),
    [
        ("result", "the result holds more than 2,000,000 values"),
        ("loop", "the result is nested deeper than 100 levels"),
        ("text", "38,006,016 bytes of JSON"),
        ("suggestion", "the list of suggestions holds more than 2,000,000 values"),
        ("child", "the delegation holds more than 2,000,000 values"),
        ("then", "the delegation holds more than 2,000,000 values"),
        ("step", "the value of the step 'read' holds more than 2,000,000 values"),
    ],
)
async def test_a_small_outcome_that_refers_to_much_fails_its_task_and_holds_up_no_other(
    zora: Zora, task_type: str, said: str
) -> None:
    failed = await zora.create("ORACLE", task_type)
    after = await zora.create("SAM", "count")
    async with asyncio.timeout(60):
        await zora.run_once(Aliases(), Naive())
    assert said in ((await zora.task(failed)).error_message or "")
    assert (await zora.task(after)).status == "completed"


class Beats:
    """Notes when heartbeats were sent, and how long the event loop did not answer."""

    def __init__(self, zora: Zora, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = [time.monotonic()]
        call = zora.database.call

        async def observed(function: str, /, **arguments: Any) -> list[dict[str, Any]]:
            if function == "heartbeat_agent_tasks":
                self.times.append(time.monotonic())
            return await call(function, **arguments)

        monkeypatch.setattr(zora.database, "call", observed)

    @property
    def longest_pause(self) -> float:
        return max(after - before for before, after in pairwise([*self.times, time.monotonic()]))


async def test_a_task_that_hogs_the_processor_ends_at_its_limit_while_its_neighbours_run(
    zora: Zora, monkeypatch: pytest.MonkeyPatch
) -> None:
    hog = await zora.create("SAM", "spin", max_attempts=1)
    for _ in range(5):
        await zora.create("SAM", "count")
    beats = Beats(zora, monkeypatch)
    runs = await zora.worker(Naive(), lease_seconds=LEASE_SECONDS).run(limit=6)
    assert (await zora.task(hog)).error_message == "timed out after 1 seconds"
    assert [run.summary for run in runs if run.task.id != hog] == ["4 letters"] * 5
    assert len(beats.times) > 3
    assert beats.longest_pause < LEASE_SECONDS


@pytest.mark.parametrize(
    ("task_type", "error"),
    [("allocate", "of memory"), ("die", "ended with status 1"), ("lambda", "ctx.in_thread")],
)
async def test_what_goes_wrong_in_the_process_is_the_tasks_outcome(zora: Zora, task_type: str, error: str) -> None:
    failed = await zora.create("SAM", task_type, max_attempts=1)
    after = await zora.create("SAM", "count")
    await zora.run_once(Naive())
    assert error in ((await zora.task(failed)).error_message or "")
    assert (await zora.task(after)).status == "completed"


async def test_no_page_is_parsed_in_the_workers_own_process(zora: Zora, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(html: str) -> None:
        raise AssertionError("parsed here")

    monkeypatch.setattr(page_module, "_parsed", refuse)
    monkeypatch.setattr(page_module, "bounded", refuse)
    element = await zora.create("SAM", "element")
    await zora.run_once(Naive())
    assert (await zora.task(element)).status == "completed"
    html = "<title>t</title><link rel=stylesheet href=a.css><p>Our mugs are climate neutral.</p><img src=x>"
    for agent, task_type, payload in (
        ("SAM", "review_climate_page", {"html": html}),
        ("SAM", "review_accessibility", {"html": html}),
        ("LUMINA", "plan_frontend_improvements", {"html": html}),
        ("AEGIS", "check_climate_claims", {"html": html}),
    ):
        assert (await zora.run(agent, task_type, payload)).status == "completed", task_type


def repository(root: Path) -> dict[str, Any]:
    for name, content in {
        "large.py": b"x = 1\n" * 9_000_000, "line.js": b"var a='" + b"x" * 900_000 + b"';", "deep.py": b"(" * 100_000,
        "minus.py": b"x=" + b"-" * 200_000 + b"1\n", "chain.py": b"x = " + b"1+" * 50_000 + b"1\n",
        "quotes.py": b"password = '" * 60_000, "pyproject.toml": b"a = " + b"[" * 100_000,
        "deep.js": b"function f(){" * 20_000, "notebook.ipynb": b"[" * 100_000,
        "keys.txt": b"-----BEGIN PRIVATE KEY-----" * 30_000,
        "bomb.yaml": b"a: &a [x]\n" + b"".join(b"b%d: &b%d [*a,*a]\n" % (n, n) for n in range(1000)),
        "bomb.xml": b"<!DOCTYPE l [<!ENTITY a 'b'><!ENTITY c '&a;&a;'>]><l>&c;</l>",
    }.items():  # fmt: skip
        (root / name).write_bytes(content)
    return {"target": "."}


@pytest.mark.parametrize(
    ("agent", "task_type", "payload", "said"),
    [
        ("SAM", "review_climate_page", {"html": "<div>" * 80_000}, "analysed to that depth"),
        ("SAM", "review_climate_page", {"html": f"<p {ATTRIBUTES}>"}, "19,800 were left"),
        ("SAM", "review_accessibility", {"html": f"<style>{RULES}</style>"}, None),
        ("SAM", "review_accessibility", {"html": f"<style>{SELECTORS} {{color: red}}</style>"}, None),
        ("SAM", "review_accessibility", {"html": "<style>" + "a{" * 100_000}, None),
        ("LUMINA", "plan_frontend_improvements", {"html": "<img id=a src=x><a href=y>" * 10_000}, None),
        ("AEGIS", "check_climate_claims", {"claims": ["100% eco-friendly " * 5_000] * 50}, None),
        ("AEGIS", "check_climate_claims", {"claim": "a-" * 50_000}, None),
        ("ORACLE", "research_topic", {"topic": "heat pump", "sources": ["heat. pump. " * 50_000] * 10}, None),
        ("CONNOR", "analyze_codebase", repository, None),
    ],
)  # fmt: skip
async def test_heartbeats_go_on_and_the_task_ends_in_time(
    zora: Zora,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    agent: str,
    task_type: str,
    payload: Any,
    said: str | None,
) -> None:
    payload = payload(tmp_path) if callable(payload) else payload
    task_id = await zora.create(agent, task_type, payload, timeout_seconds=10 if said else 3, max_attempts=1)
    beats = Beats(zora, monkeypatch)
    async with asyncio.timeout(20):
        (run,) = await zora.worker(lease_seconds=LEASE_SECONDS).run(limit=1)
    assert run.status in ("completed", "failed")
    assert beats.longest_pause < LEASE_SECONDS, f"no heartbeat for {beats.longest_pause:.2f} s"
    if said is not None:
        assert said in (run.summary or "")
        task = await zora.task(task_id)
        assert task.result is not None
        assert said in " ".join(task.result["result"]["limits_reached"])
