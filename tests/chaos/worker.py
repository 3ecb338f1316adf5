"""A worker in a process of its own: `python -m tests.chaos.worker URL LIMIT`; URL is a database's or a project's.

Prints `ready`, waits for a line, and works. Prints `started` from inside a handler of type `hang`, which never ends, so
that a test can kill it there.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from zora_core.agents import Agent, AgentId, Payload, Registry, TaskContext, TaskResult, handler
from zora_core.agents.agent import Task
from zora_core.autonomy.worker import Worker
from zora_core.database import postgres, postgrest
from zora_core.database.database import Database
from zora_core.settings import Settings


class Chaos(Agent):
    agent_id = AgentId.CONNOR

    @handler("noop")
    async def noop(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")
        return TaskResult(summary="did nothing")

    @handler("hang")
    async def hang(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        print("started", flush=True)
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


async def main(url: str, limit: int) -> None:
    if url.startswith("http"):
        database: Database = await postgrest.connect(
            Settings(home=Path(), supabase_url=url, supabase_service_key="sb_secret_test")
        )
    else:
        database = await postgres.connect(url)
    worker = Worker(
        database, Registry([Chaos()]), Settings(home=Path()), concurrency=100, lease_seconds=30, grace_seconds=5
    )
    print("ready", flush=True)
    sys.stdin.readline()
    runs = await worker.run(limit=limit)
    print(len(runs), flush=True)
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
