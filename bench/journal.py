"""What the journal's proof costs: settling with sealing on and off, and verifying a long journal.

    python bench/journal.py [--tasks 5000] [--rounds 30] [--entries 1000000] [--only settling|verifying]

Starts a PostgreSQL of its own and ends it. Settling is measured as `bench/drain.py` does, by the SQL functions alone
and by a whole runtime, in short rounds that take turns with and without a sealer beside them. There is always a
backlog, so that the sealer works as hard as it ever does; how much it sealed is printed. Verifying reads every entry
from the database, hashes it and checks every signature.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import uvloop
from drain import checkpoint, drain_functions, drain_runtime, enqueue

from zora_core.database import schema
from zora_core.database.database import Database
from zora_core.database.embedded import EmbeddedServer
from zora_core.database.postgres import connect
from zora_core.journal import sealing
from zora_core.journal.keys import Remembered, public_key
from zora_core.journal.reading import stored
from zora_core.journal.sealing import Sealer
from zora_core.journal.verification import Verifier
from zora_core.settings import DEFAULT_TENANT_ID, Settings

BACKLOG = 400_000  # entries that wait to be sealed when settling is measured

# Entries as settlements write them, of the past hours, a few milliseconds apart.
FILL = """
insert into journal_entries (
    id, tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids
)
select
    (left(least_uuidv7(now() - interval '3 hours' + i * interval '5 ms')::text, 14) || '7' || right(t::text, 21))::uuid,
    $1, 'agent_action', 'agent_task_completed', 'LUMINA task: noop (completed)', 'did nothing',
    jsonb_build_object('task_id', t, 'agent_id', 'LUMINA', 'task_type', 'noop', 'status', 'completed', 'priority', 0,
        'attempt', 1, 'duration_ms', i % 1000),
    'lumina', t, array[t]
from generate_series($2::bigint, $3) as i
cross join lateral (select md5(i::text)::uuid as t) as made
"""


@contextlib.asynccontextmanager
async def sealing_beside(database: Database, settings: Settings) -> AsyncIterator[None]:
    """What a worker's loop does, on the worker's own event loop."""
    task = asyncio.create_task(Sealer(database, settings).run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def seal(database: Database, settings: Settings) -> float:
    """Seal what waits; returns the seconds."""
    started = time.perf_counter()
    sealer = Sealer(database, settings)
    while await sealer.seal(min_age_seconds=0):
        pass
    return time.perf_counter() - started


async def fill(url: str, entries: int) -> None:
    """A journal of that many entries, none of them sealed."""
    connection = await asyncpg.connect(url)
    await connection.execute("set session_replication_role = replica; delete from journal_blocks")
    await connection.execute("delete from journal_entries")
    for start in range(0, entries, 100_000):
        await connection.execute(FILL, DEFAULT_TENANT_ID, start, min(start + 100_000, entries) - 1)
    await connection.execute("vacuum analyze journal_entries")
    await connection.close()


async def measure_settling(arguments: argparse.Namespace, url: str, database: Database, settings: Settings) -> None:
    """Alternate rounds with and without a sealer, and print what each took and their ratio."""
    contenders: dict[str, Callable[[Database, int], Awaitable[float]]] = {
        "functions": drain_functions,
        "runtime": drain_runtime,
    }
    for name, drain in contenders.items():
        await fill(url, BACKLOG)
        Remembered(settings, DEFAULT_TENANT_ID).forget()
        figures: dict[bool, list[float]] = {False: [], True: []}
        sealed = 0
        for number in range(arguments.rounds):
            for on in (False, True) if number % 2 else (True, False):
                await enqueue(url, arguments.tasks)
                await checkpoint(url)
                before = await sealing.unsealed(database, settings)
                async with sealing_beside(database, settings) if on else contextlib.nullcontext():
                    figures[on].append(await drain(database, arguments.tasks))
                sealed += before + arguments.tasks - await sealing.unsealed(database, settings)
        rates = {on: statistics.harmonic_mean(figures[on]) for on in (False, True)}
        pairs = [on / off for off, on in zip(figures[False], figures[True], strict=True)]
        print(
            f"{name:10} {rates[False]:8,.0f} tasks/s without sealing, {rates[True]:8,.0f} with it: ratio "
            f"{rates[True] / rates[False]:.3f}, median of {len(pairs)} pairs {statistics.median(pairs):.3f}; sealed "
            f"{sealed / len(pairs) / arguments.tasks:.0%} of what was settled meanwhile",
            flush=True,
        )


async def measure_verifying(arguments: argparse.Namespace, url: str, database: Database, settings: Settings) -> None:
    """Fill a journal, seal it, verify it."""
    await fill(url, arguments.entries)
    Remembered(settings, DEFAULT_TENANT_ID).forget()
    seconds = await seal(database, settings)
    print(f"sealing    {arguments.entries:,} entries in {seconds:.1f} s, {arguments.entries / seconds:,.0f} a second")
    ours = public_key(settings)
    assert ours is not None
    verifier = Verifier(trusted=[ours])
    started = time.perf_counter()
    async for block, entries in stored(database, DEFAULT_TENANT_ID):
        if block is not None:
            verifier.block(block, entries)
    report = verifier.finish()
    seconds = time.perf_counter() - started
    assert report.ok, report.problems[:3]
    assert (report.entries, report.trusted) == (arguments.entries, True)
    print(f"verifying  {report.entries:,} entries in {seconds:.1f} s, {report.entries / seconds:,.0f} a second")


async def main(arguments: argparse.Namespace, url: str, home: Path) -> None:
    """Prepare a database and measure."""
    connection = await asyncpg.connect(url)
    await schema.migrate(connection)
    await connection.execute("insert into tenants (id, name, slug) values ($1, 'b', 'b')", DEFAULT_TENANT_ID)
    await connection.close()
    database, settings = await connect(url), Settings(home=home)
    if arguments.only in (None, "settling"):
        await measure_settling(arguments, url, database, settings)
    if arguments.only in (None, "verifying"):
        await measure_verifying(arguments, url, database, settings)
    await database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--only", choices=("settling", "verifying"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zora-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedServer.at(Path(folder) / "home")
        try:
            uvloop.run(main(arguments, server.start(), Path(folder) / "keys"))
        finally:
            server.release()
