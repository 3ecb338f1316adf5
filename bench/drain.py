"""How fast no-op tasks are drained: by the SQL functions alone, and by a whole runtime.

    python bench/drain.py [--tasks 20000] [--rounds 3] [--floor FOLDER]

Starts a PostgreSQL of its own and ends it. `--floor` names a folder with `floor.sql` and `floor.py`, a raw SQL loop of
the same shape (one statement claims, one settles and writes journal and memory); the rounds are interleaved with it,
and the ratio to its median is printed. Figures are tasks per second, from the first claim to the last settlement.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import uvloop

from zora_core.agents import Agent, AgentId, Payload, Registry, Task, TaskContext, TaskResult, handler
from zora_core.autonomy.worker import Worker
from zora_core.database import schema
from zora_core.database.database import Database
from zora_core.database.embedded import EmbeddedServer
from zora_core.database.postgres import connect
from zora_core.settings import DEFAULT_TENANT_ID, Settings

BATCH, LANES = 200, 2


class Noop(Agent):
    """Does nothing, with evidence."""

    agent_id = AgentId.LUMINA

    @handler("noop")
    async def noop(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        """Do nothing."""
        ctx.cite("payload", "payload", b"")
        return TaskResult(summary="did nothing", result={"ok": 1})


async def enqueue(url: str, tasks: int) -> None:
    """Create the tasks by hand, as the floor does: creating is not what is measured."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        "insert into agent_tasks (tenant_id, agent_id, task_type, title) "
        "select $1, 'LUMINA', 'noop', 'noop ' || i from generate_series(1, $2::int) as i",
        DEFAULT_TENANT_ID,
        tasks,
    )
    await connection.close()


async def checkpoint(url: str) -> None:
    """Write out what the last contender left in memory."""
    connection = await asyncpg.connect(url)
    await connection.execute("checkpoint")
    await connection.close()


async def drain_functions(database: Database, tasks: int) -> float:
    """Claim and settle in a loop on two connections, without a runtime."""

    async def lane(worker: str) -> int:
        done = 0
        while True:
            rows = await database.call(
                "claim_agent_tasks", tenant_id=DEFAULT_TENANT_ID, worker_id=worker, limit=BATCH, lease_seconds=60.0
            )
            if not rows:
                return done
            settled = await database.call(
                "settle_agent_tasks",
                ids=[r["id"] for r in rows],
                lease_tokens=[r["lease_token"] for r in rows],
                outcomes=["completed"] * len(rows),
                summaries=["did nothing"] * len(rows),
                results=[{"ok": 1}] * len(rows),
                errors=[],
                failure_kinds=[],
                delays=[],
            )
            done += len(settled)

    started = time.perf_counter()
    done = sum(await asyncio.gather(*(lane(f"lane-{n}") for n in range(LANES))))
    assert done == tasks, f"{done} of {tasks} were settled"
    return tasks / (time.perf_counter() - started)


async def drain_runtime(database: Database, tasks: int) -> float:
    """The whole runtime: claims, handlers, contexts, heartbeats, batched settlements."""
    worker = Worker(
        database,
        Registry([Noop()]),
        Settings(home=Path()),
        concurrency=2 * BATCH,
        lease_seconds=60,
        grace_seconds=5,
    )
    started = time.perf_counter()
    runs = await worker.run(limit=tasks)
    seconds = time.perf_counter() - started
    assert sum(run.status == "completed" for run in runs) == tasks
    return tasks / seconds


def drain_floor(folder: Path, url: str, tasks: int) -> float:
    """The raw loop, in a process of its own, on the same server."""
    said = subprocess.run(
        [sys.executable, str(folder / "floor.py"), str(tasks), str(BATCH), str(LANES)],
        env={**os.environ, "DSN": url},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return float(re.search(r"drain=(\d+)", said)[1])  # type: ignore[index]


async def main(arguments: argparse.Namespace, url: str) -> None:
    """Interleave the contenders and print medians and ratios."""
    connection = await asyncpg.connect(url)
    await schema.migrate(connection)
    await connection.execute("insert into tenants (id, name, slug) values ($1, 'b', 'b')", DEFAULT_TENANT_ID)
    if arguments.floor:
        await connection.execute((arguments.floor / "floor.sql").read_text())
    await connection.close()
    database = await connect(url)
    figures: dict[str, list[float]] = {"floor": [], "functions": [], "runtime": []}
    for number in range(arguments.rounds):
        # Every other round backwards, each after a checkpoint, so that nobody always pays for the one before.
        for name in list(figures)[:: 1 if number % 2 else -1]:
            await checkpoint(url)
            if name != "floor":
                await enqueue(url, arguments.tasks)
            if name == "functions":
                figures[name].append(await drain_functions(database, arguments.tasks))
            elif name == "runtime":
                figures[name].append(await drain_runtime(database, arguments.tasks))
            elif arguments.floor:
                figures[name].append(await asyncio.to_thread(drain_floor, arguments.floor, url, arguments.tasks))
    await database.close()
    floor = statistics.median(figures["floor"]) if figures["floor"] else None
    for name, values in figures.items():
        if values:
            median = statistics.median(values)
            ratio = f"  {median / floor:.2f} of the floor" if floor else ""
            print(f"{name:10} {median:8,.0f} tasks/s (median of {len(values)}){ratio}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--floor", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zora-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedServer.at(Path(folder) / "home")
        try:
            uvloop.run(main(arguments, server.start()))
        finally:
            server.release()
