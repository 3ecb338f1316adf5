"""What dependencies cost: tasks settled a second in a fan-out and a fan-in, against as many independent ones.

    PYTHONPATH=. python bench/graph.py [--tasks 10000] [--rounds 3]

A fan-out is one task that all others wait for, a fan-in one that waits for all others. Creation is timed, too.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from zora_core.database.connect import open_database
from zora_core.database.database import Database
from zora_core.settings import DEFAULT_TENANT_ID, Settings

BATCH = 200


def tasks(shape: str, number: int) -> list[dict[str, Any]]:
    """A graph of `number` and one task of a shape."""
    many = [{"key": f"t{n}"} for n in range(number)]
    one: dict[str, Any] = {"key": "one"}
    if shape == "fan-out":
        found = [one, *({**task, "depends_on": ["one"]} for task in many)]
    elif shape == "fan-in":
        found = [*many, {**one, "depends_on": [task["key"] for task in many]}]
    else:
        found = [*many, one]
    return [{**task, "agent_id": "SAM", "task_type": "t", "title": "t"} for task in found]


async def drain(database: Database) -> int:
    """Claim and settle until nothing is claimable."""
    done = 0
    while True:
        rows = await database.call("claim_agent_tasks", tenant_id=DEFAULT_TENANT_ID, worker_id="w", limit=BATCH)
        if not rows:
            return done
        await database.call(
            "settle_agent_tasks",
            ids=[r["id"] for r in rows], lease_tokens=[r["lease_token"] for r in rows],
            outcomes=["completed"] * len(rows), summaries=["done"] * len(rows), results=[], errors=[],
            failure_kinds=[], delays=[],
        )  # fmt: skip
        done += len(rows)


async def measure(arguments: argparse.Namespace) -> None:
    """Alternate the shapes, so that a noisy machine is noisy for all."""
    shapes = ("independent", "fan-out", "fan-in")
    created: dict[str, list[float]] = {shape: [] for shape in shapes}
    settled: dict[str, list[float]] = {shape: [] for shape in shapes}
    with tempfile.TemporaryDirectory() as home:
        database = await open_database(Settings(home=Path(home)))
        try:
            for _ in range(arguments.rounds):
                for shape in shapes:
                    graph = tasks(shape, arguments.tasks)
                    started = time.perf_counter()
                    await database.call("create_agent_task_graph", tenant_id=DEFAULT_TENANT_ID, tasks=graph)
                    created[shape].append(len(graph) / (time.perf_counter() - started))
                    started = time.perf_counter()
                    assert await drain(database) == len(graph)
                    settled[shape].append(len(graph) / (time.perf_counter() - started))
        finally:
            await database.close()
    for what, rates in (("created", created), ("settled", settled)):
        base = statistics.median(rates["independent"])
        for shape in shapes:
            rate = statistics.median(rates[shape])
            print(f"graph   {what} {shape:12} {rate:8,.0f} tasks/s (median of {arguments.rounds})  {rate / base:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    asyncio.run(measure(parser.parse_args()))
