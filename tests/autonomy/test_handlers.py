"""Handlers that misbehave: whatever they raise, return or block becomes an outcome, and the worker goes on."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from tests import work
from tests.autonomy.agents import Probe, Signal
from tests.autonomy.test_runtime import until, working
from tests.conftest import Zora
from zora_core import processes
from zora_core.agents import (
    Agent,
    AgentId,
    ChildTask,
    Delegate,
    Finding,
    Payload,
    Quote,
    Snooze,
    Suggestion,
    Task,
    TaskContext,
    TaskResult,
    handler,
)
from zora_core.autonomy import worker as worker_module
from zora_core.autonomy.worker import TaskRun
from zora_core.errors import ConfigurationError, InvalidInput
from zora_core.logs import set_up_logging

pytestmark = pytest.mark.both_transports


class Own(BaseException):
    """Of no kind that anybody expects."""


class Unprintable(Exception):
    def __str__(self) -> NoReturn:
        raise RuntimeError("no text")


def hiding(name: str, *bases: type) -> type[Any]:
    """A class of exceptions whose property `name` raises."""

    def hidden(self: object) -> NoReturn:
        raise KeyboardInterrupt(name)

    return type("Hiding", bases or (Exception,), {name: property(hidden, lambda self, value: None)})


def nameless() -> BaseException:
    return hiding("__name__", type)("Nameless", (Exception,), {})("x")


def proxy() -> BaseException:
    def look_up(self: object, name: str) -> NoReturn:
        raise KeyError(name)

    return type("Proxy", (Exception,), {"__getattr__": look_up})("x")


def saying_text() -> BaseException:
    class Text(str):
        def __format__(self, spec: str) -> NoReturn:
            raise RuntimeError("no format")

    return type("SaysText", (Exception,), {"__str__": lambda self: Text("said")})()


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"in": value}
    return value


def raise_(error: BaseException) -> NoReturn:
    raise error


def raising(error: BaseException) -> Callable[[], NoReturn]:
    return lambda: raise_(error)


def group(levels: int) -> BaseException:
    error: BaseException = KeyboardInterrupt("deep")
    for _ in range(levels):
        error = BaseExceptionGroup("g", [error])
    return error


class Odd(Agent):
    """Does what the test says, as an async handler and as a plain one."""

    agent_id = AgentId.ORACLE

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work

    @handler("async")
    async def run_async(self, task: Task, payload: Payload, ctx: TaskContext) -> Any:
        ctx.cite("payload", "page", "text")
        result = self.work()
        return await result if asyncio.iscoroutine(result) else result

    @handler("unchecked", evidence="none")
    async def run_unchecked(self, task: Task, payload: Payload, ctx: TaskContext) -> Any:
        return await self.run_async(task, payload, ctx)

    @handler("plain")
    def run_plain(self, task: Task, payload: Payload, ctx: TaskContext) -> Any:
        ctx.cite("payload", "page", "text")
        return self.work()


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize(
    ("work", "error"),
    [
        (raising(KeyboardInterrupt()), "KeyboardInterrupt: "),
        (raising(SystemExit(3)), "SystemExit: 3"),
        (raising(GeneratorExit()), "GeneratorExit: "),
        (raising(StopIteration()), "StopIteration"),
        (raising(Own("odd")), "Own: odd"),
        (raising(MemoryError()), "MemoryError: "),
        (raising(asyncio.CancelledError("mine")), "CancelledError: mine"),
        (raising(TimeoutError("mine")), "TimeoutError: mine"),
        (raising(Unprintable()), "Unprintable: (no message: its __str__ raised RuntimeError)"),
        (raising(ValueError("a\0b\ud800")), "ValueError: a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"),
        (raising(BaseExceptionGroup("g", [Own("o"), ValueError("v")])), "(2 sub-exceptions): Own: o; ValueError: v"),
        (raising(group(5000)), "BaseExceptionGroup: g"),
        (lambda: TaskResult(summary="s", result=nested(5000)), "the result is nested deeper than 100 levels"),
        (lambda: TaskResult(summary="s", result=nested(150)), "the result is nested deeper than 100 levels"),
        (lambda: TaskResult(summary="s", result={"list": [[nested(5000)]]}), "nested deeper than 100 levels"),
        (
            lambda: Delegate([ChildTask(key="a", agent_id="ORACLE", task_type="async", title="t")], then=nested(5000)),
            "the delegation is nested deeper than 100 levels",
        ),
        (lambda: Snooze(0), "Snooze needs a number of seconds above 0"),
        (lambda: Snooze(-5), "Snooze needs a number of seconds above 0"),
        (lambda: Snooze(float("nan")), "Snooze needs a number of seconds above 0"),
        (lambda: Snooze(1e300), "Snooze needs a number of seconds above 0"),
        (lambda: Snooze("60"), "Snooze needs a number of seconds above 0"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
async def test_whatever_a_handler_raises_or_returns_is_an_outcome_with_its_name(
    zora: Zora, work: Callable[[], Any], error: str, kind: str
) -> None:
    await zora.create("ORACLE", kind, max_attempts=1)
    await zora.create("SAM", "count")
    odd, count = sorted(await zora.run_once(Odd(work), Probe()), key=lambda run: run.task.agent_id)
    assert (odd.status, count.status) == ("failed", "completed")
    assert error in (odd.error or "")


@pytest.fixture
def restored_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = logging.getLogger("zora")
    monkeypatch.setattr(ours, "handlers", ours.handlers)
    monkeypatch.setattr(ours, "propagate", ours.propagate)


UNSHOWABLE = "an exception that cannot be shown, because its own code raises another one"


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (proxy, "Proxy: x"),
        (lambda: hiding("__notes__")("x"), "Hiding: x"),
        (lambda: hiding("__traceback__")("x"), "Hiding: x"),
        (lambda: hiding("__cause__")("x"), "Hiding: x"),
        (lambda: hiding("__class__")("x"), "Hiding: x"),
        (lambda: hiding("__class__", InvalidInput)("x"), "x"),
        (lambda: hiding("exceptions", ExceptionGroup)("x", [ValueError("v")]), UNSHOWABLE),
        (
            lambda: ExceptionGroup("g", [hiding("__str__")(), nameless(), ValueError("v")]),
            f"Hiding: (no message: its __str__ raised KeyboardInterrupt); {UNSHOWABLE}; ValueError: v",
        ),
        (nameless, UNSHOWABLE),
        (saying_text, "SaysText: said"),
        (lambda: SyntaxError("x", ("f", "not a number", "b", [1])), "SyntaxError: x (f)"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
async def test_an_exception_whose_own_code_raises_is_an_outcome_like_any_other(
    zora: Zora, capsys: pytest.CaptureFixture[str], raised: Callable[[], BaseException], error: str, kind: str
) -> None:
    set_up_logging(tracebacks=True)
    await zora.create("ORACLE", kind, max_attempts=1)
    await zora.create("SAM", "count")
    odd, count = sorted(await zora.run_once(Odd(lambda: raise_(raised())), Probe()), key=lambda run: run.task.agent_id)
    assert (odd.status, count.status) == ("failed", "completed")
    assert (odd.error or "").endswith(error)
    assert "was not logged" not in capsys.readouterr().err


@pytest.mark.usefixtures("restored_logging")
async def test_the_log_shows_the_traceback_of_what_a_handler_raised(
    zora: Zora, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging(tracebacks=True)
    await zora.create("ORACLE", "async", max_attempts=1)
    await zora.run_once(Odd(raising(ValueError("two\nlines"))))
    shown = capsys.readouterr().err
    assert "ERROR ORACLE async failed (task" in shown
    assert "\n  Traceback (most recent call last):\n" in shown
    assert "\n  ValueError: two\n  lines\n" in shown


async def test_a_task_that_a_handler_started_cannot_end_the_process(zora: Zora) -> None:
    async def work() -> TaskResult:
        async def leave() -> None:
            raise SystemExit(3)

        await asyncio.create_task(leave())
        raise AssertionError

    await zora.create("ORACLE", "async", max_attempts=1)
    await zora.create("SAM", "count")
    odd, count = sorted(await zora.run_once(Odd(work), Probe()), key=lambda run: run.task.agent_id)
    assert (odd.status, odd.error, count.status) == ("failed", "SystemExit: 3", "completed")


@pytest.mark.parametrize("waits", [False, True])
async def test_a_handler_that_stops_the_event_loop_stops_neither_the_others_nor_the_worker(
    zora: Zora, waits: bool
) -> None:
    stopped = 0

    async def work() -> TaskResult:
        nonlocal stopped
        stopped += 1
        if stopped == 1:
            asyncio.get_running_loop().stop()
            if waits:
                await asyncio.sleep(0.01)
        return TaskResult(summary="done")

    for _ in range(3):
        await zora.create("ORACLE", "unchecked")
    async with asyncio.timeout(20):
        runs = await zora.worker(Odd(work), concurrency=1).run(limit=3)
    assert [run.status for run in runs] == ["completed"] * 3


async def test_a_task_factory_that_raises_harms_only_the_task_that_set_it(zora: Zora) -> None:
    def factory(loop: object, coroutine: Any, **_: object) -> NoReturn:
        coroutine.close()
        raise RuntimeError("no tasks")

    async def work() -> TaskResult:
        asyncio.get_running_loop().set_task_factory(factory)
        await asyncio.create_task(asyncio.sleep(0))
        raise AssertionError

    await zora.create("ORACLE", "async", max_attempts=1, priority=1)
    await zora.create("SAM", "count")
    worker = zora.worker(Odd(work), Probe(), concurrency=1)
    odd, count = await asyncio.wait_for(worker.run(limit=10), 20)
    assert (odd.error, count.status) == ("RuntimeError: no tasks", "completed")


async def test_a_deep_suggestion_is_refused(zora: Zora) -> None:
    def work() -> TaskResult:
        change = Suggestion(
            suggestion_type="advice", title="t", suggested_value=nested(300), evidence=[Quote(source="page", text="te")]
        )
        return TaskResult(summary="s", suggestions=[change])

    await zora.create("ORACLE", "async", max_attempts=1)
    (run,) = await zora.run_once(Odd(work))
    assert run.status == "failed"
    assert "nested deeper than 100 levels" in (run.error or "")


async def test_a_delegation_over_the_limit_is_refused_before_its_children_are_looked_at(zora: Zora) -> None:
    class Children(list[ChildTask]):
        def __len__(self) -> int:
            return 1_000_000

        def __iter__(self) -> NoReturn:
            raise AssertionError("looked at")

    await zora.create("ORACLE", "async")
    (run,) = await zora.run_once(Odd(lambda: Delegate(Children())))
    assert (run.status, run.error) == ("failed", "the delegation names 1000000 children, more than the limit of 100")


class Sender(Agent):
    agent_id = AgentId.ORACLE

    def __init__(self) -> None:
        self.sent = 0

    @handler("send", evidence="none")
    async def send(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        self.sent += 1
        return TaskResult(summary="sent")

    @handler("send_unsaid")
    async def send_unsaid(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        return await self.send(task, payload, ctx)


async def test_a_result_without_evidence_is_not_tried_again_unless_its_type_needs_none(zora: Zora) -> None:
    sender = Sender()
    for task_type in ("send_unsaid", "send"):
        await zora.create("ORACLE", task_type)
    runs = {run.task.task_type: run for run in await zora.run_once(sender)}
    assert (runs["send"].status, runs["send_unsaid"].status) == ("completed", "failed")
    assert 'declare the handler with evidence="none"' in (runs["send_unsaid"].error or "")
    assert sender.sent == 2


def test_an_unknown_rule_of_evidence_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"evidence of 'x' must be one of \('required', 'none'\), not 'some'"):
        handler("x", evidence="some")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        Snooze(True)


class Computing(Agent):
    agent_id = AgentId.ORACLE

    @handler("spin", timeout_seconds=2)
    async def spin(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "page", "text")
        await ctx.compute(work.spin)
        return TaskResult(summary="never")

    @handler("spin_and_wait", timeout_seconds=2)
    async def spin_and_wait(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await asyncio.gather(ctx.compute(work.spin), ctx.compute(len, "text"))
        return TaskResult(summary="never")

    @handler("quick", timeout_seconds=3)
    async def quick(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "page", "text")
        length = await ctx.compute(len, "text")
        finding = Finding(
            rule_id="r",
            title=f"{length} letters",
            severity="info",
            confidence=1,
            evidence=[Quote(source="page", text="text")],
        )
        return TaskResult(summary="quick", findings=[finding])

    @handler("slow_after", timeout_seconds=1)
    async def slow_after(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await ctx.compute(len, "text")
        await asyncio.Event().wait()
        return TaskResult(summary="never")


@pytest.mark.parametrize("kind", ["spin", "spin_and_wait"])
async def test_waiting_for_a_child_process_does_not_count_against_the_time_limit(
    zora: Zora, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pool = processes._Pool()
    monkeypatch.setattr(processes, "_POOL", pool)
    monkeypatch.setattr(processes, "MOST_CHILDREN", 2)
    for _ in range(4):
        await zora.create("ORACLE", kind, max_attempts=1, priority=1)
    for task_type in ("quick", "quick", "slow_after"):
        await zora.create("ORACLE", task_type, max_attempts=1)
    async with asyncio.timeout(60):
        runs = await zora.worker(Computing(), concurrency=7).run(limit=7)
    assert Counter((run.task.task_type, run.status, run.error) for run in runs) == {
        (kind, "failed", "timed out after 2 seconds"): 4,
        ("quick", "completed", None): 2,
        ("slow_after", "failed", "timed out after 1 seconds"): 1,
    }
    pool.close()


# What does not end when it should


class Stubborn(Agent):
    agent_id = AgentId.ORACLE

    def __init__(self) -> None:
        self.started = Signal()
        self.release = Signal()
        self.waiting = Signal()
        self.waited: list[str] = []
        self.lock = asyncio.Lock()

    @handler("swallow", timeout_seconds=1)
    async def swallow(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")
        self.started.set()
        while not self.release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        return TaskResult(summary="too late")

    @handler("block", timeout_seconds=1)
    async def block(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")
        self.started.set()
        self.release.wait_in_thread()
        return TaskResult(summary="too late")

    @handler("compute", timeout_seconds=1)
    async def compute(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")
        self.started.set()
        while not self.release.is_set():
            pass
        return TaskResult(summary="too late")

    @handler("swallow_long", timeout_seconds=3600)
    async def swallow_long(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        return await self.swallow(task, payload, ctx)

    @handler("block_long", timeout_seconds=3600)
    async def block_long(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        return await self.block(task, payload, ctx)

    @handler("share", evidence="none")
    async def share(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        async def use() -> None:
            async with self.lock:
                await asyncio.sleep(0)

        await asyncio.gather(use(), use())  # a lock belongs to the first loop on which something waits for it
        return TaskResult(summary="shared")

    @handler("wait")
    async def wait(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")
        self.waiting.set()
        await self.release.wait()
        self.waited.append(task.title)
        return TaskResult(summary="waited")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "WATCH_SECONDS", 0.05)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["swallow", "block", "compute"])
async def test_a_handler_that_does_not_end_at_its_limit_is_abandoned_and_the_others_go_on(
    zora: Zora, kind: str
) -> None:
    stubborn, ended = Stubborn(), list[TaskRun]()
    neighbour = await zora.create("ORACLE", "wait", priority=1)
    worker = zora.worker(
        stubborn, Probe(), lease_seconds=2, observe=lambda e: ended.append(e) if isinstance(e, TaskRun) else None
    )
    try:
        async with working(worker):
            await stubborn.waiting.wait()
            task_id = await zora.create("ORACLE", kind, max_attempts=1)
            worker._wake.set()
            await stubborn.started.wait()
            for _ in range(3):
                await zora.create("SAM", "count")
            worker._wake.set()
            await until(lambda: sum(run.task.task_type == "count" for run in ended) == 3)

            async def failed() -> bool:
                return (await zora.task(task_id)).status == "failed"

            await until(failed)
            task = await zora.task(task_id)
            assert (task.failure_kind, task.error_message) == ("timeout", "timed out after 1 seconds")
            assert (await zora.task(neighbour)).status != "failed"
            await until(lambda: task_id not in [run.task.id for run in worker.running.values()])
            stubborn.release.set()

            async def done() -> bool:
                return (await zora.task(neighbour)).status == "completed"

            await until(done)
    finally:
        stubborn.release.set()
    task = await zora.task(neighbour)
    assert (task.attempt, task.lost_leases) == (1, 0), "it is not its fault"
    assert (await zora.task(task_id)).status == "failed", "what came too late is not recorded"
    assert len(await zora.sql("select from memory_events where source_task_id = $1", task_id)) == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["swallow_long", "block_long"])
async def test_a_stop_ends_the_worker_within_seconds_whatever_the_handler_does(zora: Zora, kind: str) -> None:
    stubborn = Stubborn()
    task_id = await zora.create("ORACLE", kind)
    worker = zora.worker(stubborn)
    loop = asyncio.create_task(worker.run(poll_seconds=60))
    try:
        await stubborn.started.wait()
        worker.stop()
        worker.stop()
        began = time.monotonic()
        await asyncio.wait_for(loop, 10)
        assert time.monotonic() - began < 5
        task = await zora.task(task_id)
        assert (task.status, task.attempt, task.waiting_for) == ("pending", 0, None)
    finally:
        stubborn.release.set()


@pytest.mark.usefixtures("impatient")
async def test_what_was_claimed_with_a_handler_that_blocks_begins_before_its_limit(zora: Zora) -> None:
    stubborn, ended = Stubborn(), list[TaskRun]()
    await zora.create("ORACLE", "block_long", priority=1)
    for _ in range(3):
        await zora.create("SAM", "count")
    worker = zora.worker(stubborn, Probe(), observe=lambda e: ended.append(e) if isinstance(e, TaskRun) else None)
    try:
        async with working(worker):
            await until(lambda: len(ended) == 3)
            stubborn.release.set()
    finally:
        stubborn.release.set()
    assert Counter((run.task.task_type, run.status) for run in ended) == {
        ("count", "completed"): 3, ("block_long", "completed"): 1,
    }  # fmt: skip


@pytest.mark.usefixtures("impatient")
async def test_what_a_blocked_thread_left_behind_ends_when_it_comes_back(zora: Zora) -> None:
    stubborn = Stubborn()
    before = {thread for thread in threading.enumerate() if thread.name == "zora-handlers"}
    await zora.create("ORACLE", "block", max_attempts=1)
    async with working(zora.worker(stubborn)):
        await until(lambda: len({t for t in threading.enumerate() if t.name == "zora-handlers"} - before) == 2)
        stubborn.release.set()
        await zora.create("ORACLE", "wait")
    await until(lambda: {t for t in threading.enumerate() if t.name == "zora-handlers"} <= before)


@pytest.mark.usefixtures("impatient")
async def test_tasks_go_back_to_the_first_lane_when_it_answers_again(zora: Zora) -> None:
    stubborn, ended = Stubborn(), list[TaskRun]()
    before = {thread for thread in threading.enumerate() if thread.name == "zora-handlers"}

    def lanes() -> int:
        return len({thread for thread in threading.enumerate() if thread.name == "zora-handlers"} - before)

    worker = zora.worker(
        stubborn, Probe(), observe=lambda event: ended.append(event) if isinstance(event, TaskRun) else None
    )

    async def run(agent_id: str, task_type: str) -> None:
        await zora.create(agent_id, task_type, max_attempts=1)
        worker._wake.set()
        await until(lambda: task_type in {run.task.task_type for run in ended})

    try:
        async with working(worker):
            await run("ORACLE", "share")
            await zora.create("ORACLE", "block_long")
            worker._wake.set()
            await stubborn.started.wait()
            await run("SAM", "count")
            assert lanes() == 2
            stubborn.release.set()
            await until(lambda: lanes() == 1)
            ended.clear()
            await run("ORACLE", "share")
    finally:
        stubborn.release.set()
    assert [(run.status, run.error) for run in ended if run.task.task_type == "share"] == [("completed", None)]
