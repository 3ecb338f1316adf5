"""Delegation with workers that are killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.autonomy.test_runtime import until
from tests.conftest import Zora


@asynccontextmanager
async def worker(zora: Zora, folder: Path) -> AsyncIterator[asyncio.StreamReader]:
    """What a worker says that is killed (SIGKILL) at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.delegating", zora.url, str(folder), stdout=subprocess.PIPE
    )
    assert process.stdout
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def says(output: asyncio.StreamReader, *lines: str) -> None:
    """Wait until it has said all of these, in whatever order."""
    missing = Counter(lines)
    async with asyncio.timeout(30):
        while missing:
            line = (await output.readline()).decode().rstrip()
            assert line, f"it ended without {set(missing)}"
            missing -= Counter([line])


async def test_a_delegation_survives_the_death_of_its_workers(zora: Zora, tmp_path: Path) -> None:
    """The first is killed when it has saved a step, the second while children run, the third finishes."""
    task_id = await zora.create("SAM", "whole")
    (tmp_path / "hang-whole").touch()
    async with worker(zora, tmp_path) as output:
        await says(output, "step", "whole hangs")
    (tmp_path / "hang-whole").unlink()
    await zora.advance(seconds=31)

    for name in "bc":
        (tmp_path / f"hang-{name}").touch()
    async with worker(zora, tmp_path) as output:
        await says(output, "delegates", "a ends", "b hangs", "c hangs")
        assert (await zora.task(task_id)).waiting_for == "children"
        await until(lambda: ended(zora, "a"))
    for name in "bc":
        (tmp_path / f"hang-{name}").unlink()
    await zora.advance(seconds=31)

    async with worker(zora, tmp_path) as output:
        await says(output, "b ends", "c ends")
        await until(lambda: ended(zora, "whole"))

    task = await zora.task(task_id)
    assert task.result
    assert task.result["result"] == {
        "results": {"a": {"name": "A"}, "b": {"name": "B"}, "c": {"name": "C"}},
        "then": {"parts": ["a", "b", "c"]},
    }
    assert [source["ref"] for source in task.result["sources"]] == ["agent_tasks", "names"], "read before the kills"
    assert (task.attempt, task.lost_leases) == (1, 1)
    assert Counter((tmp_path / "notes").read_text().split("\n")) == Counter(
        ["step", "whole hangs", "delegates", "a ends", "b hangs", "c hangs", "b ends", "c ends", ""]
    ), "the step was done once, and each child came to its end once"
    rows = await zora.sql(
        "select title, status::text, attempt, lost_leases from agent_tasks where depth = 1 order by 1"
    )
    assert [tuple(row) for row in rows] == [
        ("a", "completed", 1, 0), ("b", "completed", 1, 1), ("c", "completed", 1, 1),
    ]  # fmt: skip
    events = await zora.sql("select event_type, count(*) as n from journal_entries group by 1")
    assert {row["event_type"]: row["n"] for row in events} == {
        "agent_task_created": 4, "agent_task_delegated": 1, "agent_task_rescued": 3, "agent_task_completed": 4,
    }  # fmt: skip


async def ended(zora: Zora, title: str) -> bool:
    (row,) = await zora.sql("select status::text from agent_tasks where title = $1", title)
    return row["status"] == "completed"


async def test_cancelling_a_delegation_stops_children_in_another_process(zora: Zora, tmp_path: Path) -> None:
    task_id = await zora.create("SAM", "whole")
    for name in "bc":
        (tmp_path / f"hang-{name}").touch()
    async with worker(zora, tmp_path) as output:
        await says(output, "a ends", "b hangs", "c hangs")
        await until(lambda: ended(zora, "a"))
        await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=task_id)

        async def stopped() -> bool:
            rows = await zora.sql("select status::text, failure_kind from agent_tasks order by title")
            return [tuple(row) for row in rows] == [("completed", None), *[("failed", "cancelled")] * 3]

        await until(stopped, 30)
