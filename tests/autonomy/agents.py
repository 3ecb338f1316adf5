"""Small agents for the runtime's tests."""

from __future__ import annotations

import asyncio
import threading

from zora_core.agents import Agent, AgentId, Payload, Snooze, TaskContext, TaskResult, handler
from zora_core.agents.agent import Task


class Signal(threading.Event):
    """An event between a test and a handler, which run on different loops."""

    async def wait(self) -> bool:  # type: ignore[override]
        while not self.is_set():  # noqa: ASYNC110 - it is set by another thread
            await asyncio.sleep(0.002)
        return True

    def wait_in_thread(self) -> None:
        """Block the calling thread until released."""
        super().wait()


class Text(Payload):
    text: str = "hello"


def result(summary: str = "done") -> TaskResult:
    return TaskResult(summary=summary)


class Probe(Agent):
    """An agent of every mood; `started` and `release` let a test meet a handler in the middle of its work."""

    agent_id = AgentId.SAM

    def __init__(self) -> None:
        self.started = Signal()
        self.release = Signal()
        self.thread: threading.Thread | None = None
        self.calls = 0

    @handler("count")
    async def count(self, task: Task, payload: Text, ctx: TaskContext) -> TaskResult:
        """Count words."""
        ctx.cite("payload", "text", payload.text)
        return TaskResult(summary=f"{len(payload.text.split())} words")

    @handler("sync")
    def sync(self, task: Task, payload: Text, ctx: TaskContext) -> TaskResult:
        self.thread = threading.current_thread()
        ctx.cite("payload", "text", payload.text)
        return result()

    @handler("wait")
    async def wait(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        self.calls += 1
        ctx.cite("payload", "nothing", b"")
        await ctx.progress(0.4, "half way there")
        self.started.set()
        await self.release.wait()
        return result()

    @handler("slow", timeout_seconds=1)
    async def slow(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await asyncio.Event().wait()
        return result()

    @handler("fail")
    async def fail(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        raise ValueError("the page is empty")

    @handler("exit")
    def exit(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        raise SystemExit(3)

    @handler("snooze")
    async def snooze(self, task: Task, payload: Payload, ctx: TaskContext) -> Snooze:
        return Snooze(60)

    @handler("baseless")
    async def baseless(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        return result("all is well")

    @handler("poison")
    async def poison(self, task: Task, payload: Text, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "text", payload.text)
        return TaskResult(summary="poisoned", result={"value": "\0"} if payload.text == "bad" else {})

    @handler("wrong")
    async def wrong(self, task: Task, payload: Payload, ctx: TaskContext) -> str:
        return "not a result"
