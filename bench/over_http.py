"""What a drain costs over HTTP: requests, and tasks a second as a share of those over a connection.

    PYTHONPATH=. python bench/over_http.py [--tasks 2000] [--rounds 3]

Over HTTP means over the tests' stand-in for PostgREST on this machine, in a process of its own: a real one is further
away. The rounds of both are interleaved. `--tasks` do nothing, and a hundred more are of an agent that reads.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx
from drain import Noop, enqueue

from zora_core.autonomy.runtime import AgentRuntime
from zora_core.database import postgres, postgrest, schema
from zora_core.database.embedded import EmbeddedServer
from zora_core.settings import DEFAULT_TENANT_ID, Settings

SECRET = "a secret of the measurements, of more than 32 characters"
KEY = "sb_secret_test"  # the stand-in's
AGENTS_TASKS = 100


@contextmanager
def stand_in(database_url: str) -> Iterator[str]:
    """The address of a project on this database."""
    command = [sys.executable, "-m", "tests.postgrest", f"--database-url={database_url}", "--prepare"]
    process = subprocess.Popen([*command, f"--jwt-secret={SECRET}"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


async def over_http(settings: Settings, tasks: int) -> tuple[float, int]:
    """Tasks a second, and requests, of a run that drains the queue."""
    database = await postgrest.connect(settings)
    sent: Counter[str] = Counter()

    async def count(request: httpx.Request) -> None:
        sent[request.url.path] += 1

    database._client.event_hooks["request"].append(count)
    try:
        begun = time.perf_counter()
        runs = await AgentRuntime(agents=[Noop()], settings=settings, database=database).run_once(tasks)
        assert len(runs) == tasks
        return tasks / (time.perf_counter() - begun), sent.total()
    finally:
        await database.close()


async def directly(settings: Settings, url: str, tasks: int) -> float:
    """Tasks a second over a connection."""
    database = await postgres.connect(url)
    try:
        begun = time.perf_counter()
        runs = await AgentRuntime(agents=[Noop()], settings=settings, database=database).run_once(tasks)
        assert len(runs) == tasks
        return tasks / (time.perf_counter() - begun)
    finally:
        await database.close()


async def read_something(url: str) -> None:
    """Tasks of an agent that reads the journal and the memory."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        "insert into agent_tasks (tenant_id, agent_id, task_type, title) "
        "select $1, 'EIVOR', 'summarize_recent_events', 'task ' || i from generate_series(1, $2::int) as i",
        DEFAULT_TENANT_ID,
        AGENTS_TASKS,
    )
    await connection.close()


async def measure(url: str, project: str, home: Path, arguments: argparse.Namespace) -> None:
    """Interleave the two, and print medians."""
    settings = Settings(home=home, supabase_url=project, supabase_service_key=KEY)
    ways: dict[str, list[float]] = {"directly": [], "over HTTP": []}
    requests: list[int] = []
    await read_something(url)  # first: the drains leave it more to read
    _, sent = await over_http(settings, AGENTS_TASKS)
    print(f"{sent} requests for {AGENTS_TASKS} tasks of EIVOR, three reads each")
    for _ in range(arguments.rounds):
        await enqueue(url, arguments.tasks)
        ways["directly"].append(await directly(settings, url, arguments.tasks))
        await enqueue(url, arguments.tasks)
        rate, sent = await over_http(settings, arguments.tasks)
        ways["over HTTP"].append(rate)
        requests.append(sent)
    for way, rates in ways.items():
        print(f"{way:10} {statistics.median(rates):8,.0f} tasks/s (median of {arguments.rounds})")
    share = statistics.median(h / d for d, h in zip(*ways.values(), strict=True))
    print(
        f"over HTTP {share:.2f} of it, median of pairs; {max(requests)} requests for {arguments.tasks:,} tasks at most"
    )


async def prepare(url: str) -> None:
    """The schema, with its tenant, after the roles of Supabase have been made."""
    connection = await asyncpg.connect(url)
    await schema.migrate(connection)
    await connection.execute("insert into tenants (id, name, slug) values ($1, 'bench', 'bench')", DEFAULT_TENANT_ID)
    await connection.close()


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer.at(Path(folder))
        url = server.start()
        try:
            with stand_in(url) as project:
                asyncio.run(prepare(url))
                asyncio.run(measure(url, project, Path(folder), arguments))
        finally:
            server.release()


if __name__ == "__main__":
    main()
