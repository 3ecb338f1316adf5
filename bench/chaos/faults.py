"""The faults: what is done to the system while tasks keep coming. Each docstring is the table's column "how"."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from cluster import SYSTEM, Cluster, account, free_port
from load import LOST, Load
from proxy import Proxy
from worker import LEASE_SECONDS, MISBEHAVING


@dataclass(frozen=True)
class Outcome:
    """One line of the table. `recovery` is in seconds, the worst of all tries; None when it did not recover."""

    tries: int
    tasks: int
    lost: int
    doubled: int
    died: int
    recovery: float | None


Fault = Callable[[Path, random.Random], Awaitable[Outcome]]
Strike = Callable[[Cluster, Load, random.Random], Awaitable[None]]
FAULTS: dict[str, Fault] = {}
_SETTABLE_CLOCK = (
    "create table clock (ahead interval not null)",
    "insert into clock values ('0')",
    "create or replace function zora_now() returns timestamptz language sql stable as "
    "$$ select clock_timestamp() + (select ahead from public.clock) $$",
)


class Missing(Exception):
    """This machine lacks what the fault needs; the text says what."""


def fault(name: str) -> Callable[[Fault], Fault]:
    """Enter a fault into the table."""

    def register(function: Fault) -> Fault:
        FAULTS[name] = function
        return function

    return register


def simple_fault(
    name: str, *, tries: int, workers: int = 2, settings: tuple[str, ...] = (), prepared: tuple[str, ...] = ()
) -> Callable[[Strike], Strike]:
    """Enter a fault that is one strike at a cluster with `settings`, after the statements `prepared`."""

    def register(function: Strike) -> Strike:
        async def struck(folder: Path, dice: random.Random) -> Outcome:
            with _cluster(folder, *settings) as cluster:
                async with Load(cluster.url, cluster.url, folder) as load:

                    async def once() -> None:
                        await function(cluster, load, dice)

                    return await _run(load, tries, once, workers=workers, prepared=prepared)

        struck.__doc__ = function.__doc__
        fault(name)(struck)
        return function

    return register


async def _run(
    load: Load,
    tries: int,
    strike: Callable[[], Awaitable[None]],
    *,
    workers: int = 2,
    prepared: tuple[str, ...] = (),
) -> Outcome:
    """Let `strike` happen `tries` times while tasks come; recovery begins when `strike` returns.

    The statements `prepared` change the database before the workers start.
    """
    await load.prepare()
    if prepared:
        await _sql(load.url, *prepared)
    for _ in range(workers):
        load.start_worker()
    recoveries: list[float | None] = []
    async with load.coming():
        if await load.progress(20) is None:
            raise RuntimeError(f"the workers did not begin: see {load.folder}")
        for _ in range(tries):
            await strike()
            recoveries.append(await load.progress())
            load.died += load.replace_dead()
            if recoveries[-1] is None:
                break
    await load.drained()
    lost, doubled = await load.count()
    worst = None if None in recoveries else max(r for r in recoveries if r is not None)
    return Outcome(len(recoveries), len(load.acknowledged), lost, doubled, load.died, worst)


async def _sql(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        with contextlib.suppress(*LOST):
            await connection.close(timeout=2)


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m,mode=777", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def _cluster(folder: Path, *settings: str, wal: Path | None = None) -> Iterator[Cluster]:
    cluster = Cluster(folder, settings=settings)
    cluster.create(wal=wal)
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()


@simple_fault("kill -9 of a worker", tries=10)
async def killed(cluster: Cluster, load: Load, dice: random.Random) -> None:
    """One of two workers is killed at a random moment and replaced."""
    await asyncio.sleep(dice.uniform(0, 1))
    load.kill_worker(dice.choice(load.workers))
    load.start_worker()


@simple_fault("kill -9 of PostgreSQL", tries=3)
async def server_killed(cluster: Cluster, load: Load, dice: random.Random) -> None:
    """The server process is killed and started again two seconds later."""
    await asyncio.sleep(dice.uniform(0, 1))
    cluster.kill()
    await asyncio.sleep(2)
    cluster.start()


@simple_fault("SIGSTOP past the lease", tries=3, workers=1)
async def asleep(cluster: Cluster, load: Load, dice: random.Random) -> None:
    """The only worker, with tasks of two leases, is stopped for two leases, as by a laptop's sleep."""
    await load.create("long", "long")
    await asyncio.sleep(dice.uniform(0.5, 1.5))
    (worker,) = load.workers
    worker.send_signal(signal.SIGSTOP)
    await asyncio.sleep(2 * LEASE_SECONDS)
    worker.send_signal(signal.SIGCONT)


@fault("half-open connections")
async def half_open(folder: Path, dice: random.Random) -> Outcome:
    """A proxy forgets all connections without a word; new ones work."""
    with _cluster(folder) as cluster:
        async with Proxy(cluster.port) as proxy:
            url = cluster.url.replace(str(cluster.port), str(proxy.port))
            async with Load(cluster.url, url, folder) as load:

                async def strike() -> None:
                    await asyncio.sleep(dice.uniform(0, 1))
                    proxy.forget()

                return await _run(load, 3, strike)


@fault("full disk")
async def disk_full(folder: Path, dice: random.Random) -> Outcome:
    """The data lie on a tmpfs that is filled to the last byte for four seconds; the WAL lies elsewhere."""
    if os.geteuid() != 0:
        raise Missing("root, to mount a tmpfs")
    with _small_disk(folder / "small") as small, _cluster(small / "cluster", wal=folder / "wal") as cluster:
        async with Load(cluster.url, cluster.url, folder) as load:

            async def strike() -> None:
                filler = small / "filler"
                with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(1 << 20))
                with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))
                await asyncio.sleep(4)
                filler.unlink()

            return await _run(load, 2, strike)


@simple_fault("read-only database", tries=2)
async def read_only(cluster: Cluster, load: Load, dice: random.Random) -> None:
    """`default_transaction_read_only` is switched on for the server for four seconds, as after a failover."""
    await _sql(cluster.url, "alter system set default_transaction_read_only = on", "select pg_reload_conf()")
    await asyncio.sleep(4)
    await _sql(
        cluster.url, "set default_transaction_read_only = off",
        "alter system reset default_transaction_read_only", "select pg_reload_conf()",
    )  # fmt: skip


@fault("failover to a standby")
async def failover(folder: Path, dice: random.Random) -> Outcome:
    """The primary of a synchronous pair (PostgreSQL 15) is killed and the streaming standby promoted."""
    if SYSTEM is None:
        raise Missing("an installed PostgreSQL")
    primary = Cluster(folder / "primary", SYSTEM, settings=("wal_level=replica",))
    standby = Cluster(folder / "standby", SYSTEM)
    primary.create()
    primary.start()
    try:
        standby.follow(primary)
        standby.start()
        await _sql(primary.url, "alter system set synchronous_standby_names = 'standby'", "select pg_reload_conf()")
        url = (
            f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres"
            "?target_session_attrs=read-write"
        )
        async with Load(url, url, folder) as load:

            async def strike() -> None:
                await asyncio.sleep(dice.uniform(0, 1))
                primary.kill()
                await asyncio.sleep(1)
                standby.promote()

            return await _run(load, 1, strike)
    finally:
        standby.stop()
        primary.stop()


@simple_fault("lock_timeout", tries=3, settings=("lock_timeout=200ms",))
async def lock_timeout(cluster: Cluster, load: Load, dice: random.Random) -> None:
    """`lock_timeout` is 200 ms, and another session locks `agent_tasks` for two seconds."""
    connection = await asyncpg.connect(cluster.url)
    try:
        await connection.execute("set lock_timeout = 0")
        async with connection.transaction():
            await connection.execute("lock table agent_tasks in access exclusive mode")
            await asyncio.sleep(2)
    finally:
        await connection.close()


@simple_fault("serializable by default", tries=2, workers=4, settings=("default_transaction_isolation=serializable",))
async def serializable(cluster: Cluster, load: Load, dice: random.Random) -> None:
    """The server's `default_transaction_isolation` is `serializable`, with four workers."""
    await asyncio.sleep(2)


@simple_fault("backends terminated", tries=2)
async def terminated(cluster: Cluster, load: Load, dice: random.Random) -> None:
    """Every other session is terminated twice a second for five seconds."""
    for _ in range(10):
        with contextlib.suppress(*LOST):
            await _sql(
                cluster.url,
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where pid <> pg_backend_pid() and backend_type = 'client backend'",
            )
        await asyncio.sleep(0.5)


@fault("connections exhausted")
async def exhausted(folder: Path, dice: random.Random) -> Outcome:
    """Another program takes every free connection, all others are terminated, for four seconds."""
    with _cluster(folder, "max_connections=20", "superuser_reserved_connections=1") as cluster:
        await _sql(
            cluster.url, "create role greedy login", "create role app login",
            "alter database postgres owner to app", "grant all on schema public to app",
        )  # fmt: skip
        app = cluster.url.replace("postgres@", "app@")
        async with Load(app, app, folder) as load:

            async def strike() -> None:
                greedy = cluster.url.replace("postgres@", "greedy@")
                held: list[asyncpg.Connection] = []
                ends = time.monotonic() + 4
                while time.monotonic() < ends:
                    with contextlib.suppress(*LOST):
                        held.append(await asyncpg.connect(greedy, timeout=2))
                        continue
                    with contextlib.suppress(*LOST):
                        await _sql(
                            cluster.url,
                            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app' "
                            "and backend_type = 'client backend'",
                        )
                    await asyncio.sleep(0.1)
                for connection in held:
                    await connection.close()

            return await _run(load, 2, strike)


@simple_fault("clock steps", tries=3, prepared=_SETTABLE_CLOCK)
async def clock_steps(cluster: Cluster, load: Load, dice: random.Random) -> None:
    """The database's clock (`zora_now()`) is set an hour forward and, two seconds later, back."""
    await _sql(cluster.url, "update clock set ahead = '1 hour'")
    await asyncio.sleep(2)
    await _sql(cluster.url, "update clock set ahead = '0'")


@fault("PgBouncer restarted")
async def pooler(folder: Path, dice: random.Random) -> Outcome:
    """The workers go through PgBouncer in transaction mode, which is killed and started again a second later."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/opt/homebrew/bin")
    if program is None:
        raise Missing("PgBouncer")
    with _cluster(folder) as cluster:
        port = free_port()
        file = folder / "pgbouncer.ini"
        file.write_text(
            f"[databases]\npostgres = host=127.0.0.1 port={cluster.port} dbname=postgres user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            "pool_mode = transaction\ndefault_pool_size = 4\n"
        )

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [program, str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=account()
            )

        process = start()
        try:
            await asyncio.sleep(1)
            url = f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
            async with Load(cluster.url, url, folder) as load:

                async def strike() -> None:
                    nonlocal process
                    await asyncio.sleep(dice.uniform(0, 1))
                    process.kill()
                    process.wait()
                    await asyncio.sleep(1)
                    process = start()

                return await _run(load, 3, strike)
        finally:
            process.kill()
            process.wait()


@simple_fault("misbehaving handlers", tries=1)
async def misbehaving(cluster: Cluster, load: Load, dice: random.Random) -> None:
    """Among sound tasks, one of each: `os._exit`, `sys.exit`, KeyboardInterrupt, GeneratorExit, CancelledError, a group
    of them, an exception without a text, a result nested 5,000 deep, MemoryError, swallowed cancellation, a blocked
    event loop. Each must end as failed, everything else as completed.
    """
    await load.create(*MISBEHAVING, max_attempts=1)
