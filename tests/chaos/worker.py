"""A worker in a process of its own: `python -m tests.chaos.worker URL [options]`; URL is a database's or a project's.

Prints `ready`, waits for a line, and works. Prints `started` from inside handlers that a test meets in the middle of
their work: `hang`, which never ends, and `hold`, which ends when the file that its payload names exists.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from zora_core.agents import Agent, AgentId, Payload, Registry, TaskContext, TaskResult, handler
from zora_core.agents.agent import Task
from zora_core.autonomy.runtime import on_signals
from zora_core.autonomy.worker import Worker
from zora_core.database import postgres, postgrest
from zora_core.database.database import Database
from zora_core.settings import Settings


class Until(Payload):
    path: str


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

    @handler("hold")
    async def hold(self, task: Task, payload: Until, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "path", payload.path)
        print("started", flush=True)
        while not Path(payload.path).exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
        return TaskResult(summary="held")

    @handler("nap")
    async def nap(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await asyncio.sleep(0.5)
        return await self.noop(task, payload, ctx)

    @handler("block")
    async def block(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        print("started", flush=True)
        time.sleep(3600)  # noqa: ASYNC251 - that is the point
        raise AssertionError("unreachable")

    @handler("try_again")
    async def try_again(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        print("started", flush=True)
        while True:
            try:
                await asyncio.sleep(3600)
            except:  # noqa: E722, S112 - as careless handlers do
                continue

    @handler("thread")
    async def thread(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        print("started", flush=True)
        await asyncio.to_thread(time.sleep, 3600)
        raise AssertionError("unreachable")

    @handler("die")
    async def die(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await asyncio.sleep(0.1)
        os._exit(9)


class New(Agent):
    """Of a later version of the program."""

    agent_id = AgentId.CONNOR

    @handler("new")
    async def new(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")
        return TaskResult(summary="did something new")


async def main(options: argparse.Namespace, home: Path) -> None:
    if options.url.startswith("http"):
        database: Database = await postgrest.connect(
            Settings(home=home, supabase_url=options.url, supabase_service_key="sb_secret_test")
        )
    else:
        database = await postgres.connect(options.url)
    worker = Worker(
        database,
        Registry([Chaos(), New()] if options.new else [Chaos()]),
        Settings(home=home),
        concurrency=options.concurrency,
        lease_seconds=options.lease_seconds,
        grace_seconds=5,
    )
    print("ready", flush=True)
    sys.stdin.readline()
    with on_signals(worker.stop):
        runs = await worker.run(limit=options.limit, poll_seconds=0.5)
    print(len(runs), flush=True)
    await database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--limit", type=int, help="exit after this many tasks, or when none is left [never]")
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--lease-seconds", type=float, default=30)
    parser.add_argument("--new", action="store_true", help="know the task type of the later version, too")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(parser.parse_args(), Path(folder)))
