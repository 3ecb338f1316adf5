"""What handlers share: opened on their event loop, once, and closed when the worker stops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from tests.autonomy.agents import Signal
from tests.autonomy.test_runtime import until, working
from tests.conftest import Zora
from zora_core.agents import Agent, AgentId, Payload, Task, TaskContext, TaskResult, handler
from zora_core.autonomy import worker as worker_module


class Sharing(Agent):
    agent_id = AgentId.SAM

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        self.before = before
        self.log: list[str] = []
        self.opened: list[asyncio.AbstractEventLoop] = []
        self.started = Signal()
        self.release = Signal()

    @asynccontextmanager
    async def resources(self) -> AsyncIterator[asyncio.AbstractEventLoop]:
        self.before()
        loop = asyncio.get_running_loop()
        self.opened.append(loop)
        async with asyncio.timeout(600):  # must be left by the task that has entered it
            await asyncio.sleep(0)
            try:
                yield loop
            finally:
                await asyncio.sleep(0)
                self.log.append("closed")

    @handler("use", evidence="none")
    async def use(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        assert ctx.resources is asyncio.get_running_loop()
        return TaskResult(summary="used")

    @handler("hold", evidence="none")
    async def hold(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        self.started.set()
        try:
            await self.release.wait()
        finally:
            await asyncio.sleep(0)
            self.log.append("handler ended")
        return TaskResult(summary="held")

    @handler("block", evidence="none")
    async def block(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        self.started.set()
        self.release.wait_in_thread()
        return TaskResult(summary="blocked")

    @handler("plain", evidence="none")
    def plain(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        return TaskResult(summary="open" if ctx.resources.is_running() else "not open")


async def test_what_handlers_share_is_opened_once_on_their_loop_and_closed_at_the_end(zora: Zora) -> None:
    agent = Sharing()
    for task_type in ("use", "use", "plain", "use"):
        await zora.create("SAM", task_type)
    runs = await zora.run_once(agent)
    assert sorted(run.summary or run.error or "" for run in runs) == ["open", "used", "used", "used"]
    assert len(agent.opened) == 1
    assert agent.opened[0] is not asyncio.get_running_loop()
    assert agent.log == ["closed"]


async def test_a_handler_that_is_stopped_ends_before_what_it_uses_is_closed(zora: Zora) -> None:
    agent = Sharing()
    await zora.create("SAM", "hold")
    async with working(zora.worker(agent)) as worker:
        await until(agent.started.is_set)
        worker.stop()
        worker.stop()
    assert agent.log == ["handler ended", "closed"]


@pytest.mark.parametrize("error", [OSError("no route"), SystemExit(3), asyncio.CancelledError(), GeneratorExit()])
async def test_a_failure_to_open_fails_the_run_and_the_next_one_tries_again(zora: Zora, error: BaseException) -> None:
    errors = [error]

    def fail_once() -> None:
        if errors:
            raise errors.pop()

    task_id = await zora.create("SAM", "use")
    worker = zora.worker(Sharing(fail_once))
    async with working(worker, poll_seconds=0.1):
        await until(lambda: _failed_once(zora, task_id))
        await zora.advance(minutes=10)
        other = await zora.create("SAM", "use")
        await until(lambda: _done(zora, other))
    assert type(error).__name__ in str(await zora.sql("select body from journal_entries where task_id = $1", task_id))


async def _failed_once(zora: Zora, task_id: object) -> bool:
    return bool(await zora.sql("select from agent_tasks where id = $1 and waiting_for = 'retry'", task_id))


async def _done(zora: Zora, task_id: object) -> bool:
    return bool(await zora.sql("select from agent_tasks where id = $1 and status = 'completed'", task_id))


async def test_a_second_loop_has_its_own(zora: Zora, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "WATCH_SECONDS", 0.05)
    agent = Sharing()
    await zora.create("SAM", "block")
    async with working(zora.worker(agent), poll_seconds=0.1) as worker:
        await until(agent.started.is_set)
        await until(lambda: len(worker._lanes) == 2)
        task_id = await zora.create("SAM", "use")
        await until(lambda: _done(zora, task_id))
        agent.release.set()
        await until(lambda: not any(lane.stuck for lane in worker._lanes))  # a stuck one is not waited for
    assert len(set(agent.opened)) == len(agent.opened) == 2
    assert agent.log == ["closed", "closed"]


class Hanging(Agent):
    agent_id = AgentId.SAM

    def __init__(self, hang: Callable[[], Awaitable[object]]) -> None:
        self.hang = hang
        self.opened = 0

    @asynccontextmanager
    async def resources(self) -> AsyncIterator[int]:
        self.opened += 1
        if self.opened == 1:
            await self.hang()
        yield self.opened

    @handler("use", timeout_seconds=1, evidence="none")
    async def use(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        return TaskResult(summary=f"opened {ctx.resources}")


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _until_cancelled() -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


async def _fail_when_cancelled() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise OSError("no route")


@pytest.mark.parametrize("hang", [_for_ever, _until_cancelled, _fail_when_cancelled])
async def test_opening_that_hangs_is_given_up_with_the_last_run_that_waits_for_it(
    zora: Zora, caplog: pytest.LogCaptureFixture, hang: Callable[[], Awaitable[object]]
) -> None:
    agent = Hanging(hang)
    first = [await zora.create("SAM", "use", max_attempts=1) for _ in range(2)]
    async with working(zora.worker(agent), poll_seconds=0.1):
        for task_id in first:
            await until(partial(_failed, zora, task_id))
        other = await zora.create("SAM", "use", max_attempts=1)
        await until(lambda: _done(zora, other))
    assert (await zora.task(other)).result_summary == "opened 2"
    gc.collect()
    assert "never retrieved" not in caplog.text


async def _failed(zora: Zora, task_id: object) -> bool:
    return bool(await zora.sql("select from agent_tasks where id = $1 and failure_kind = 'timeout'", task_id))
