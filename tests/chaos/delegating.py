"""A worker that delegates, in a process of its own: `python -m tests.chaos.delegating URL FOLDER`.

Works until it is killed, and says what it does. It does not go on where FOLDER holds a file called `hang-NAME`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from zora_core.agents import (
    Agent,
    AgentId,
    ChildTask,
    Delegate,
    Payload,
    Registry,
    Task,
    TaskContext,
    TaskResult,
    handler,
)
from zora_core.autonomy.worker import Worker
from zora_core.database.postgres import connect
from zora_core.settings import Settings


class Part(Payload):
    name: str


class Parent(Agent):
    agent_id = AgentId.SAM

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, line: str) -> None:
        """Say it, and write it down where it outlives this process."""
        with (self.folder / "notes").open("a") as notes:
            notes.write(f"{line}\n")
        print(line, flush=True)

    async def hang(self, name: str) -> None:
        if (self.folder / f"hang-{name}").exists():
            self.note(f"{name} hangs")
            await asyncio.Event().wait()

    @handler("whole", timeout_seconds=3600)
    async def whole(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult | Delegate:
        def names() -> list[str]:
            self.note("step")
            ctx.cite("payload", "names", "a b c")
            return ["a", "b", "c"]

        parts = await ctx.step("names", names)
        await self.hang("whole")
        if not ctx.children:
            self.note("delegates")
            return Delegate(
                [
                    ChildTask(key=name, agent_id="SAM", task_type="part", title=name, payload={"name": name})
                    for name in parts
                ],
                then={"parts": parts},
            )
        results = {key: child.result["result"] for key, child in ctx.children.items() if child.result}
        return TaskResult(summary="put together", result={"results": results, "then": ctx.then})

    @handler("part", timeout_seconds=3600)
    async def part(self, task: Task, payload: Part, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "name", payload.name)
        await self.hang(payload.name)
        self.note(f"{payload.name} ends")
        return TaskResult(summary=payload.name, result={"name": payload.name.upper()})


async def main(url: str, folder: Path) -> None:
    database = await connect(url)
    worker = Worker(
        database, Registry([Parent(folder)]), Settings(home=folder), concurrency=4, lease_seconds=30, grace_seconds=5
    )
    await worker.run(poll_seconds=0.2)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
