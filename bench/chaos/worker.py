"""The worker under test: the product's own loop in a process of its own, with an agent that misbehaves on request."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from zora_core.agents import Agent, AgentId, Payload, TaskContext, TaskResult, handler
from zora_core.autonomy.runtime import AgentRuntime
from zora_core.models import Task

LEASE_SECONDS = 3.0
GRACE_SECONDS = 2.0
HANDLER_SECONDS = 0.03  # most tasks; long enough to be interrupted in the middle


class Speechless(Exception):
    """Its text raises, too."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def _nested(depth: int) -> object:
    value: object = "end"
    for _ in range(depth):
        value = [value]
    return value


class Chaos(Agent):
    agent_id = AgentId.CONNOR

    @handler("work")
    async def work(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")
        await asyncio.sleep(HANDLER_SECONDS)
        return TaskResult(summary="worked")

    @handler("long")
    async def long(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")
        await asyncio.sleep(2 * LEASE_SECONDS)
        return TaskResult(summary="worked for two leases")

    @handler("exit")
    async def exit(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        os._exit(9)

    @handler("sys_exit")
    async def sys_exit(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        sys.exit(9)

    @handler("interrupt")
    async def interrupt(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        raise KeyboardInterrupt

    @handler("generator_exit")
    async def generator_exit(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        raise GeneratorExit

    @handler("cancelled")
    async def cancelled(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        raise asyncio.CancelledError

    @handler("group")
    async def group(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        raise BaseExceptionGroup("two at once", [KeyboardInterrupt(), SystemExit(3)])

    @handler("speechless")
    async def speechless(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        raise Speechless

    @handler("nested")
    async def nested(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")
        return TaskResult(summary="deep", result={"value": _nested(5000)})

    @handler("memory", timeout_seconds=5)
    async def memory(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        raise MemoryError

    @handler("stubborn", timeout_seconds=1)
    async def stubborn(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue

    @handler("blocking", timeout_seconds=1)
    async def blocking(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        time.sleep(30)  # noqa: ASYNC251 - the fault itself
        return TaskResult(summary="slept")


MISBEHAVING = (
    "exit", "sys_exit", "interrupt", "generator_exit", "cancelled", "group", "speechless", "nested", "memory",
    "stubborn", "blocking",
)  # fmt: skip


def main() -> None:
    """Run the loop as a program of a user's does, with `DATABASE_URL` from the environment."""
    runtime = AgentRuntime(agents=[Chaos()], lease_seconds=LEASE_SECONDS, grace_seconds=GRACE_SECONDS)
    asyncio.run(runtime.run_loop(sleep_seconds=1))


if __name__ == "__main__":
    main()
