"""What a handler or a program around the worker breaks costs the sound tasks beside it nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from tests.autonomy.agents import Signal
from tests.autonomy.test_runtime import until, working
from tests.conftest import Zora
from zora_core import data, secrets
from zora_core.agents import Agent, AgentId, Payload, Task, TaskContext, TaskResult, handler
from zora_core.autonomy.execute import SPARED_SECONDS


class Neighbours(Agent):
    agent_id = AgentId.SAM

    def __init__(self) -> None:
        self.sound_runs = Signal()
        self.broken = Signal()
        self.descriptors: list[int] = []

    @handler("sound", evidence="none")
    async def sound(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        self.sound_runs.set()
        await self.broken.wait()
        return TaskResult(summary="the password=hunter2hunter2 is kept out")

    @handler("leak", evidence="none")
    async def leak(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await self.sound_runs.wait()
        with contextlib.suppress(OSError):
            while True:
                self.descriptors.append(os.open(os.devnull, os.O_RDONLY))
        self.broken.set()
        raise ValueError("no file is left")

    @handler("cancel_all", evidence="none")
    async def cancel_all(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await self.sound_runs.wait()
        self.broken.set()
        for other in asyncio.all_tasks():
            other.cancel()
        await asyncio.sleep(0)
        return TaskResult(summary="it goes on all the same")

    @handler("cancel_all_in_a_task", evidence="none")
    async def cancel_all_in_a_task(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        async def cancel() -> None:
            await self.cancel_all(task, payload, ctx)

        await asyncio.create_task(cancel())
        return TaskResult(summary="cancelled")

    @asynccontextmanager
    async def resources(self) -> AsyncIterator[asyncio.Queue[asyncio.Task[Any]]]:
        """A queue; a task of the resources cancels what is put into it, as a circuit breaker does."""
        queue: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()

        async def breaker() -> None:
            while True:
                (await queue.get()).cancel()

        task = asyncio.create_task(breaker())
        try:
            yield queue
        finally:
            task.cancel()

    @handler("give_up", evidence="none")
    async def give_up(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await ctx.resources.put(asyncio.current_task())
        await asyncio.Event().wait()
        return TaskResult(summary="never")

    @handler("leave_behind", evidence="none")
    async def leave_behind(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        async def cancel_later() -> None:
            await self.sound_runs.wait()
            for other in asyncio.all_tasks() - {asyncio.current_task()}:
                other.cancel()

        self.left_behind = asyncio.create_task(cancel_later())
        return TaskResult(summary="left a task behind")

    @handler("complain", evidence="none")
    async def complain(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await self.sound_runs.wait()
        self.broken.set()
        raise ValueError("an error that is logged")


@pytest.fixture
def few_descriptors() -> Iterator[Neighbours]:
    """An agent whose leak meets the limit soon, and is mended at the end."""
    agent = Neighbours()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 100, hard))
    try:
        yield agent
    finally:
        for descriptor in agent.descriptors:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def run_both(zora: Zora, agent: Neighbours, bad: str) -> tuple[Any, Any]:
    sound = await zora.create("SAM", "sound", max_attempts=1)
    await zora.create("SAM", bad, max_attempts=1)
    runs = {run.task.task_type: run for run in await asyncio.wait_for(zora.run_once(agent, limit=2), 30)}
    if runs["sound"].status == "pending":  # it runs again a little later, and the attempt does not count
        assert (await zora.task(sound)).attempt == 0
        await zora.advance(seconds=SPARED_SECONDS)
        (runs["sound"],) = await zora.run_once(agent, limit=1)
    return runs["sound"], runs[bad]


async def test_outcomes_are_recorded_when_no_file_descriptor_is_left(zora: Zora, few_descriptors: Neighbours) -> None:
    data.load.cache_clear()
    for cached in vars(secrets).values():
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()
    sound, bad = await run_both(zora, few_descriptors, "leak")
    assert (sound.status, sound.error) == ("completed", None)
    assert (bad.status, bad.error) == ("failed", "ValueError: no file is left")


async def test_an_error_that_cannot_be_masked_fails_its_run(zora: Zora, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str) -> str:
        raise MemoryError

    monkeypatch.setattr("zora_core.autonomy.execute.mask", broken)
    sound, bad = await run_both(zora, Neighbours(), "complain")
    assert (sound.status, bad.status) == ("completed", "failed")
    assert bad.error == "the handler raised ValueError, and its message cannot be shown (MemoryError)"


@pytest.mark.parametrize(
    "raised", [RuntimeError("disk full"), ValueError("I/O operation on closed file"), SystemExit(1)]
)
async def test_a_log_handler_that_raises_ends_nothing(
    zora: Zora, raised: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise raised

    broken = Broken()
    logger = logging.getLogger("zora.runtime")
    logger.addHandler(broken)
    try:
        sound, bad = await run_both(zora, Neighbours(), "complain")
    finally:
        logger.removeHandler(broken)
    assert (sound.status, bad.status) == ("completed", "failed")
    assert f"a log handler of zora.runtime raised {type(raised).__name__}" in capfd.readouterr().err


@pytest.mark.parametrize("bad", ["cancel_all", "cancel_all_in_a_task"])
async def test_a_handler_that_cancels_its_neighbours_fails_alone(zora: Zora, bad: str) -> None:
    sound, culprit = await run_both(zora, Neighbours(), bad)
    assert (sound.status, culprit.status) == ("completed", "failed")


async def test_a_task_that_other_handlers_cancel_again_and_again_fails(
    zora: Zora, caplog: pytest.LogCaptureFixture
) -> None:
    """The first time it waits, and the attempt does not count; the second time is an ordinary error."""
    agent = Neighbours()
    sound = await zora.create("SAM", "sound", max_attempts=1)
    await zora.create("SAM", "cancel_all", max_attempts=1)
    async with working(zora.worker(agent), poll_seconds=0.1) as worker:
        await until(lambda: _is(zora, sound, "pending", waiting_for="run_at"))
        assert (await zora.task(sound)).attempt == 0
        assert f"the handler of another task cancelled SAM sound (task {sound})" in caplog.text
        agent.sound_runs.clear()
        agent.broken.clear()
        await zora.create("SAM", "cancel_all", max_attempts=1)
        await zora.advance(seconds=SPARED_SECONDS)
        await until(lambda: _is(zora, sound, "failed"))
        assert not worker._spared
    assert (await zora.task(sound)).error_message == "CancelledError: "


async def _is(zora: Zora, task_id: UUID, status: str, waiting_for: str | None = None) -> bool:
    task = await zora.task(task_id)
    return (task.status, task.waiting_for) == (status, waiting_for)


async def _until(zora: Zora, task_id: UUID, status: str) -> None:
    await until(lambda: _is(zora, task_id, status))


async def test_a_run_that_its_own_resources_cancel_fails(zora: Zora) -> None:
    """Also if an earlier run has opened them: they belong to no run."""
    agent = Neighbours()
    agent.broken.set()
    async with working(zora.worker(agent), poll_seconds=0.1):
        await _until(zora, await zora.create("SAM", "sound", max_attempts=1), "completed")
        await _until(zora, await zora.create("SAM", "give_up", max_attempts=1), "failed")


async def test_what_a_run_has_left_behind_does_not_count_as_another_run(zora: Zora) -> None:
    agent = Neighbours()
    async with working(zora.worker(agent), poll_seconds=0.1):
        await _until(zora, await zora.create("SAM", "leave_behind", max_attempts=1), "completed")
        await _until(zora, await zora.create("SAM", "sound", max_attempts=1), "failed")
