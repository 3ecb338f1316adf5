"""What a handler or a program around the worker breaks costs the sound tasks beside it nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
from collections.abc import Iterator
from typing import Any

import pytest

from tests.autonomy.agents import Signal
from tests.conftest import Zora
from zora_core import data
from zora_core.agents import Agent, AgentId, Payload, Task, TaskContext, TaskResult, handler
from zora_core.skills import secrets


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
    if runs["sound"].status == "pending":  # released: it runs again, and the attempt does not count
        assert (await zora.task(sound)).attempt == 0
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
