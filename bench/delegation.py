"""What delegation costs: a run that delegates, and the ends of its children, against as many tasks of their own.

    PYTHONPATH=. python bench/delegation.py [--children 100] [--rounds 5]

Starts a PostgreSQL of its own and ends it. Figures are medians over parents, in milliseconds, without any handler.
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

PARENTS = 20


async def claim(database: Database, limit: int) -> list[dict[str, Any]]:
    """Tasks to settle."""
    return await database.call("claim_agent_tasks", tenant_id=DEFAULT_TENANT_ID, worker_id="bench", limit=limit)


async def settle(database: Database, claims: list[dict[str, Any]], outcome: str, result: Any = None) -> float:
    """Settle them in one call; how long it took."""
    began = time.perf_counter()
    await database.call(
        "settle_agent_tasks",
        ids=[row["id"] for row in claims],
        lease_tokens=[row["lease_token"] for row in claims],
        outcomes=[outcome] * len(claims),
        summaries=[],
        results=[result or {}] * len(claims),
        errors=[],
        failure_kinds=[],
        delays=[],
    )
    return (time.perf_counter() - began) * 1000


async def measure(database: Database, children: int) -> dict[str, float]:
    """The medians of one round."""
    took: dict[str, list[float]] = {"delegate": [], "end children": [], "create alone": [], "end alone": []}
    drafts = [{"key": f"k{n}", "agent_id": "SAM", "task_type": "bench", "title": "t"} for n in range(children)]
    alone = [{name: value for name, value in draft.items() if name != "key"} for draft in drafts]
    for _ in range(PARENTS):
        await database.call("create_agent_tasks", tenant_id=DEFAULT_TENANT_ID, tasks=alone[:1])
        took["delegate"].append(await settle(database, await claim(database, 1), "delegated", {"children": drafts}))
        took["end children"].append(await settle(database, await claim(database, children), "completed"))
        await settle(database, await claim(database, 1), "completed")
        began = time.perf_counter()
        await database.call("create_agent_tasks", tenant_id=DEFAULT_TENANT_ID, tasks=alone)
        took["create alone"].append((time.perf_counter() - began) * 1000)
        took["end alone"].append(await settle(database, await claim(database, children), "completed"))
    return {name: statistics.median(values) for name, values in took.items()}


async def main(children: int, rounds: int) -> None:
    """Print the medians of the rounds."""
    with tempfile.TemporaryDirectory(prefix="zora-") as folder:
        database = await open_database(Settings(home=Path(folder)))
        try:
            found = [await measure(database, children) for _ in range(rounds)]
        finally:
            await database.close()
    for name in found[0]:
        print(f"{name:14} {statistics.median(one[name] for one in found):8.1f} ms for {children} tasks")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--children", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.children, arguments.rounds))
