"""Real processes and real kills."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.autonomy.agents import Probe
from tests.autonomy.test_runtime import until
from tests.chaos.worker import Chaos
from tests.conftest import Zora
from zora_core.agents import Registry
from zora_core.autonomy.worker import TaskRun, Worker
from zora_core.database.backoff import retrying
from zora_core.database.connect import open_database
from zora_core.database.embedded import EmbeddedServer
from zora_core.settings import DEFAULT_TENANT_ID, Settings

TASKS = 10_000


@contextmanager
def process(url: str, *options: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.worker", url, *options],
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
    limit = f"--limit={TASKS}"
    with process(zora.url, limit) as (_, first), process(zora.url, limit) as (_, second):
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
    with process(zora.url, "--limit=1") as (worker, output):
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


async def create_many(zora: Zora, number: int, task_type: str, payload: dict[str, str] | None = None) -> None:
    tasks = [{"agent_id": "CONNOR", "task_type": task_type, "title": "t", "payload": payload or {}}] * number
    await zora.call("create_agent_tasks", tenant_id=zora.tenant_id, tasks=tasks)


async def statuses(zora: Zora, task_type: str) -> Counter[str]:
    rows = await zora.sql("select status::text from agent_tasks where task_type = $1", task_type)
    return Counter(row["status"] for row in rows)


async def test_a_lone_worker_that_was_stopped_past_its_leases_loses_nothing_and_goes_on(
    zora: Zora, tmp_path: Path
) -> None:
    """A laptop's sleep: all leases have expired when it wakes up, and once another worker has taken the tasks back."""
    released = tmp_path / "released"
    await create_many(zora, 4, "hold", {"path": str(released)})
    with process(zora.url, "--concurrency=4", "--lease-seconds=2") as (worker, output):
        for _ in range(4):
            assert await asyncio.to_thread(output.readline) == "started\n"

        async def expired() -> int:
            rows = await zora.sql("select from agent_tasks where lease_expires_at < zora_now()")
            return len(rows)

        worker.send_signal(signal.SIGSTOP)
        await zora.advance(seconds=40)
        assert await expired() == 4
        worker.send_signal(signal.SIGCONT)

        async def prolonged() -> bool:
            return await expired() == 0

        await until(prolonged)
        rows = await zora.sql("select status::text, attempt, lost_leases from agent_tasks")
        assert {tuple(row) for row in rows} == {("in_progress", 1, 0)}, "nobody else was there to take them"

        worker.send_signal(signal.SIGSTOP)
        await zora.advance(seconds=40)
        assert len(await zora.call("rescue_agent_tasks")) == 4
        worker.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(output.readline) == "started\n", "it gets its own tasks back"
        released.touch()

        async def completed() -> bool:
            return await statuses(zora, "hold") == {"completed": 4}

        await until(completed)
        assert worker.poll() is None
    rows = await zora.sql("select attempt, lost_leases from agent_tasks")
    assert {tuple(row) for row in rows} == {(1, 1)}
    (row,) = await zora.sql("select count(*) from journal_entries where event_type = 'agent_task_completed'")
    assert row["count"] == 4


async def test_a_task_that_kills_its_process_is_lost_alone(zora: Zora) -> None:
    await create_many(zora, 1, "die")
    await create_many(zora, 9, "nap")
    codes = []
    for _ in range(10):
        with process(zora.url, "--limit=100", "--concurrency=4") as (worker, _):
            codes.append(await asyncio.to_thread(worker.wait, 60))
        await zora.advance(seconds=31)
        if codes[-1] == 0:
            break
    assert codes == [9, 9, 9, 0]
    assert await statuses(zora, "nap") == {"completed": 9}
    (culprit,) = await zora.sql("select failure_kind, lost_leases from agent_tasks where task_type = 'die'")
    assert tuple(culprit) == ("lost", 3)
    rows = await zora.sql("select lost_leases from agent_tasks where task_type = 'nap' order by lost_leases")
    assert [row["lost_leases"] for row in rows] == [0] * 6 + [1] * 3, "those beside it, once"


async def test_sigterm_twice_ends_a_process_whose_handlers_never_end(zora: Zora) -> None:
    await create_many(zora, 1, "block")
    await create_many(zora, 3, "hang")
    with process(zora.url, "--concurrency=4", "--lease-seconds=2") as (worker, output):
        for _ in range(4):
            assert await asyncio.to_thread(output.readline) == "started\n"

        def ended() -> bool:
            worker.send_signal(signal.SIGTERM)
            return worker.poll() is not None

        await until(ended, 10)
        assert worker.returncode in (0, -signal.SIGTERM), "the last one may come when it handles none any more"
    rows = await zora.sql("select status::text, attempt, lost_leases from agent_tasks")
    assert [tuple(row) for row in rows] == [("pending", 0, 0)] * 4


@pytest.mark.parametrize("kind", ["try_again", "thread"])
async def test_two_sigterms_end_a_process_whatever_a_handler_leaves_behind(zora: Zora, kind: str) -> None:
    await create_many(zora, 1, kind)
    with process(zora.url, "--lease-seconds=2") as (worker, output):
        assert await asyncio.to_thread(output.readline) == "started\n"
        worker.terminate()
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 20) == 0
    assert await statuses(zora, kind) == {"pending": 1}


def test_the_command_does_not_wait_for_threads_that_handlers_left_for_long() -> None:
    script = """
import time
from concurrent.futures import ThreadPoolExecutor
from zora_core.cli import interrupts
interrupts.end_at_once()
with interrupts.ending_soon():
    ThreadPoolExecutor().submit(time.sleep, 3600)
"""
    ended = subprocess.run([sys.executable, "-c", script], timeout=30, capture_output=True, text=True, check=True)
    assert "zora ends without waiting for threads that still run: ThreadPoolExecutor-0_0" in ended.stderr


async def test_a_rolling_deploy_of_a_new_type_loses_no_task(zora: Zora) -> None:
    await create_many(zora, 10, "new")
    await create_many(zora, 10, "noop")
    with process(zora.url, "--concurrency=4") as (old, _):

        async def done(task_type: str) -> bool:
            return await statuses(zora, task_type) == {"completed": 10}

        await until(lambda: done("noop"))
        (row,) = await zora.sql(
            "select min(id::text) as id, max(attempt) as attempts from agent_tasks where task_type = 'new'"
        )
        assert row["attempts"] == 0
        why = await zora.database.value("explain_agent_task", tenant_id=zora.tenant_id, id=row["id"])
        assert "no running worker knows this type, CONNOR new (1 worker is running)" in why
        with process(zora.url, "--concurrency=4", "--new"):
            await until(lambda: done("new"))
        assert old.poll() is None
    (row,) = await zora.sql("select count(*) from agent_tasks where status = 'failed'")
    assert row["count"] == 0


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
        await retrying(database, lambda: database.call("create_agent_tasks", tenant_id=DEFAULT_TENANT_ID, tasks=[task]))

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
