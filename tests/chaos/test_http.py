"""A drain over HTTP, whose server is killed again and again, and the worker once."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO

import pytest

from tests.autonomy.test_runtime import until
from tests.chaos.test_processes import process
from tests.conftest import ROOT, SECRET, Zora
from tests.postgrest import authenticator_url

TASKS = 2000
KILLS = 4


@pytest.fixture
def transport() -> str:
    return "http"


class StandIn:
    """The server between the workers and the database, as a process on one and the same port."""

    def __init__(self, zora: Zora) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [
            sys.executable, "-m", "tests.postgrest", f"--database-url={authenticator_url(zora.url)}",
            f"--jwt-secret={SECRET}", f"--port={self.port}",
        ]  # fmt: skip
        self._process: subprocess.Popen[str] | None = None

    async def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, cwd=ROOT)  # noqa: ASYNC220
        assert self._process.stdout
        assert await asyncio.to_thread(self._process.stdout.readline) == f"{self.url}\n"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@contextmanager
def standing(zora: Zora) -> Iterator[StandIn]:
    stand_in = StandIn(zora)
    try:
        yield stand_in
    finally:
        stand_in.kill()


async def completed(zora: Zora) -> int:
    (row,) = await zora.sql("select count(*) from agent_tasks where status = 'completed'")
    return int(row["count"])


async def in_flight(zora: Zora) -> bool:
    """Whether a call is being carried out right now, or waits for its commit."""
    return bool(
        await zora.sql(
            "select from pg_stat_activity where usename = 'authenticator' and datname = current_database() "
            "and state in ('active', 'idle in transaction')"
        )
    )


async def a_random_moment(zora: Zora, dice: random.Random, least: int, worker: subprocess.Popen[str]) -> None:
    """End after this number of tasks, or when the queue is empty: during a call, or at any time."""

    async def reached() -> bool:
        return worker.poll() is not None or await completed(zora) >= least

    await until(reached, 60)
    if dice.random() < 0.6:
        await until(lambda: worker.poll() is not None or in_flight(zora))
    else:
        await asyncio.sleep(dice.uniform(0, 0.1))


async def has_ended(output: IO[str]) -> None:
    """Until the worker has found nothing any more, and says how much it did.

    What the killed one had claimed, up to 350 tasks, runs one at a time.
    """
    async with asyncio.timeout(240):
        assert await asyncio.to_thread(output.readline)


async def test_a_drain_survives_the_deaths_of_its_server_and_of_a_worker(zora: Zora) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(2**32))
    print(f"CHAOS_SEED={seed} repeats these moments, as far as the machine does")  # shown with a failure
    dice = random.Random(seed)
    # The worker dies at one of these moments, beside the server.
    moments = sorted(dice.sample(range(1, TASKS * 3 // 4), KILLS))
    last_of_the_worker = dice.randrange(KILLS)
    await zora.sql(
        "insert into agent_tasks (tenant_id, agent_id, task_type, title) "
        "select $1, 'CONNOR', 'noop', n::text from generate_series(1, $2::int) as n",
        zora.tenant_id,
        TASKS,
    )
    with standing(zora) as stand_in, ExitStack() as workers:

        async def start_worker() -> tuple[subprocess.Popen[str], IO[str]]:
            return await asyncio.to_thread(workers.enter_context, process(stand_in.url, f"--limit={TASKS}"))

        await stand_in.start()
        worker, output = await start_worker()
        for number, moment in enumerate(moments):
            await a_random_moment(zora, dice, moment, worker)
            stand_in.kill()
            if number == last_of_the_worker:
                worker.kill()
                await zora.advance(seconds=31)  # its leases are over
            await stand_in.start()
            if number == last_of_the_worker:
                worker, output = await start_worker()
        await has_ended(output)
        if await completed(zora) < TASKS:  # a claim whose answer never came: its leases have to end
            await zora.advance(seconds=31)
            _, output = await start_worker()
            await has_ended(output)

    rows = await zora.sql(
        "select status::text, attempt, failure_kind, lost_leases < 2 as plausible, count(*) from agent_tasks "
        "group by 1, 2, 3, 4"
    )
    assert [tuple(row) for row in rows] == [("completed", 1, None, True, TASKS)]
    for table, column, ended in (
        ("journal_entries", "task_id", "event_type = 'agent_task_completed'"),
        ("memory_events", "source_task_id", "metadata ->> 'status' = 'completed'"),
    ):
        (row,) = await zora.sql(f"select count(*) as n, count(distinct {column}) as tasks from {table} where {ended}")
        assert tuple(row) == (TASKS, TASKS), table
    events = await zora.sql("select distinct event_type from journal_entries")
    assert {row["event_type"] for row in events} <= {"agent_task_completed", "agent_task_rescued"}
