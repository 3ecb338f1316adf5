"""Real processes and real kills."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.autonomy.agents import Probe
from tests.chaos.worker import Chaos
from tests.conftest import Zora
from zora_core.agents import Registry
from zora_core.autonomy.worker import TaskRun, Worker
from zora_core.database.connect import open_database
from zora_core.database.embedded import EmbeddedServer
from zora_core.settings import DEFAULT_TENANT_ID, Settings

TASKS = 10_000


@contextmanager
def process(url: str, limit: int) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.worker", url, str(limit)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stdin
    assert worker.stdout
    try:
        assert worker.stdout.readline() == "ready\n"
        worker.stdin.write("go\n")
        worker.stdin.flush()
        yield worker, worker.stdout
    finally:
        worker.kill()
        worker.wait()
        worker.stdin.close()
        worker.stdout.close()


async def test_two_processes_drain_ten_thousand_tasks_none_lost_none_twice(zora: Zora) -> None:
    await zora.sql(
        "insert into agent_tasks (tenant_id, agent_id, task_type, title) "
        "select $1, 'CONNOR', 'noop', n::text from generate_series(1, $2::int) as n",
        zora.tenant_id,
        TASKS,
    )
    with process(zora.url, TASKS) as (_, first), process(zora.url, TASKS) as (_, second):
        counts = [int(await asyncio.to_thread(stream.readline)) for stream in (first, second)]
    assert sum(counts) == TASKS
    assert all(counts), "both had a share"
    (row,) = await zora.sql(
        "select count(*) filter (where status = 'completed') as completed, count(distinct worker_id) as workers, "
        "max(attempt) as attempts from agent_tasks"
    )
    assert (row["completed"], row["workers"], row["attempts"]) == (TASKS, 2, 1)
    for table, column in (("journal_entries", "task_id"), ("memory_events", "source_task_id")):
        (row,) = await zora.sql(f"select count(*) as n, count(distinct {column}) as tasks from {table}")
        assert (row["n"], row["tasks"]) == (TASKS, TASKS)


async def test_a_task_whose_worker_is_killed_runs_again_after_its_lease_once(zora: Zora) -> None:
    task_id = await zora.create("CONNOR", "hang")
    with process(zora.url, 1) as (worker, output):
        assert await asyncio.to_thread(output.readline) == "started\n"
        worker.kill()
    await zora.sql("update agent_tasks set task_type = 'noop'")

    assert await zora.run_once(Chaos()) == [], "not while the lease holds"
    await zora.advance(seconds=31)
    (run,) = await zora.run_once(Chaos())
    assert (run.status, run.task.attempt) == ("completed", 1)
    assert await zora.run_once(Chaos()) == []
    entries = await zora.sql("select event_type from journal_entries where task_id = $1 order by id", task_id)
    assert [e["event_type"] for e in entries] == ["agent_task_created", "agent_task_rescued", "agent_task_completed"]


async def test_a_running_loop_survives_the_death_of_its_embedded_server(short_tmp: Path) -> None:
    settings = Settings(home=short_tmp / "mortal")
    database = await open_database(settings)
    probe, ended = Probe(), asyncio.Queue[TaskRun]()
    worker = Worker(
        database, Registry([probe]), settings, concurrency=2, lease_seconds=30, grace_seconds=5,
        observe=lambda event: ended.put_nowait(event) if isinstance(event, TaskRun) else None,
    )  # fmt: skip
    loop = asyncio.create_task(worker.run(poll_seconds=0.2))

    async def create(task_type: str) -> None:
        task = {"agent_id": "SAM", "task_type": task_type, "title": "t"}
        await database.call("create_agent_tasks", tenant_id=DEFAULT_TENANT_ID, tasks=[task])

    await create("wait")
    await asyncio.wait_for(probe.started.wait(), 20)
    os.kill(int((settings.home / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    probe.release.set()
    assert (await asyncio.wait_for(ended.get(), 30)).status == "completed"
    await create("count")
    assert (await asyncio.wait_for(ended.get(), 30)).status == "completed"
    worker.stop()
    await loop
    await database.close()
    assert not EmbeddedServer.at(settings.home).running()
