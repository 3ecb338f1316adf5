"""Behind PgBouncer in transaction mode: no prepared statement, no LISTEN and no session outlives a transaction."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.autonomy.agents import Probe
from tests.conftest import Server, Zora
from tests.database.test_outages import connected, set_for
from zora_core.autonomy.worker import TaskRun
from zora_core.database.postgres import connect
from zora_core.errors import DatabaseUnavailable, ZoraError

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/opt/homebrew/bin")

CONFIGURATION = """
[databases]
shared = host={host} port={port} dbname=shared user=postgres
unprivileged = host={host} port={port} dbname=shared user=unprivileged

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
max_client_conn = 50
logfile = {folder}/pgbouncer.log
"""


@pytest.fixture
async def pooled_url(server: Server, short_tmp: Path) -> AsyncIterator[str]:
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed")
    query = parse_qs(urlsplit(server.url).query)
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = free.getsockname()[1]
    folder = short_tmp / f"pooler-{listen}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    file = folder / "pgbouncer.ini"
    file.write_text(CONFIGURATION.format(host=query["host"][0], port=query["port"][0], listen=listen, folder=folder))
    # PgBouncer refuses to run as root, and must reach the server's socket: it runs as the data's owner.
    # With that owner's groups alone: root's may not pass through the folder of the home.
    owner = pwd.getpwuid(Path(query["host"][0]).stat().st_uid)
    identity = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": ()} if os.geteuid() == 0 else {}
    process = subprocess.Popen(  # noqa: ASYNC220 - it does not block
        [PGBOUNCER, str(file)], **identity, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", listen)
                except ConnectionRefusedError:
                    assert process.poll() is None, "pgbouncer refused its configuration"
                    await asyncio.sleep(0.01)
                else:
                    writer.close()
                    await writer.wait_closed()
                    break
        yield f"postgresql://postgres@127.0.0.1:{listen}/shared?pgbouncer=true&sslmode=disable"
    finally:
        process.terminate()
        process.wait()


async def test_the_queue_works_through_a_transaction_pooler(zora: Zora, pooled_url: str) -> None:
    database = await connect(pooled_url, max_connections=8)
    try:
        assert database.pooled
        assert not zora.database.pooled
        await database.check_schema()
        direct, zora.database = zora.database, database
        for _ in range(60):
            await zora.create("SAM", "count", {"text": "through the pool"})
        runs = await asyncio.gather(*(zora.worker(Probe(), concurrency=8).run(limit=20) for _ in range(3)))
        assert [len(part) for part in runs] == [20, 20, 20]
        assert {run.status for part in runs for run in part} == {"completed"}
    finally:
        zora.database = direct
        await database.close()


async def test_a_loop_behind_a_pooler_finds_new_tasks_by_polling(zora: Zora, pooled_url: str) -> None:
    database = await connect(pooled_url)
    direct, zora.database = zora.database, database
    ended: asyncio.Queue[TaskRun] = asyncio.Queue()
    worker = zora.worker(Probe(), observe=lambda e: ended.put_nowait(e) if isinstance(e, TaskRun) else None)
    loop = asyncio.create_task(worker.run(poll_seconds=0.05))
    try:
        await zora.create("SAM", "count")
        assert (await asyncio.wait_for(ended.get(), 10)).status == "completed"
        await zora.create("SAM", "count")
        assert (await asyncio.wait_for(ended.get(), 10)).status == "completed"
    finally:
        worker.stop()
        await loop
        zora.database = direct
        await database.close()


@pytest.mark.parametrize("what", ["database", "role"])
async def test_a_read_only_default_of_a_role_or_a_database_is_overridden(
    zora: Zora, pooled_url: str, what: str
) -> None:
    async with set_for(zora, what, "default_transaction_read_only", "on"):
        database = await connect(pooled_url)
        restricted = await database.restricted()
        try:
            for one in (database, restricted, database):
                task = {"agent_id": "SAM", "task_type": "count", "title": "t"}
                (row,) = await one.call("create_agent_tasks", tenant_id=zora.tenant_id, tasks=[task])
                assert row["created"]
            async with database._connection() as connection:  # other programs share the pooler's sessions
                assert await connection.fetchval("show default_transaction_read_only") == "on"
        finally:
            await restricted.close()
            await database.close()


async def test_a_server_that_reads_only_is_not_written_to(zora: Zora, pooled_url: str) -> None:
    database = await connect(pooled_url)
    await zora.sql("alter system set default_transaction_read_only = on")
    await zora.sql("select pg_reload_conf()")
    try:
        async with asyncio.timeout(10), connected(pooled_url.partition("?")[0]) as connection:
            while True:
                if await connection.fetchval("show default_transaction_read_only") == "on":
                    break
                await asyncio.sleep(0.01)
        with pytest.raises(DatabaseUnavailable, match="the database is read-only"):
            await database.call("promote_agent_tasks")
    finally:
        async with connected(zora.url) as connection:
            await connection.execute("set default_transaction_read_only = off")
            await connection.execute("alter system reset default_transaction_read_only")
            await connection.execute("select pg_reload_conf()")
        await database.close()


@pytest.fixture
async def unprivileged(zora: Zora) -> AsyncIterator[str]:
    """A role that owns no table and whom row-level security shows no row, as after a restore by another owner."""
    await zora.sql("create role unprivileged login")
    await zora.sql("grant all on all tables in schema public to unprivileged")
    yield "unprivileged"
    await zora.sql("drop owned by unprivileged")
    await zora.sql("drop role unprivileged")


@pytest.mark.parametrize("way", ["directly", "through the pooler"])
async def test_rows_that_row_level_security_hides_are_an_error_and_not_missing(
    zora: Zora, pooled_url: str, unprivileged: str, way: str
) -> None:
    urls = {"directly": zora.url.replace("postgres@", f"{unprivileged}@"),
            "through the pooler": pooled_url.replace("/shared?", f"/{unprivileged}?")}  # fmt: skip
    database = await connect(urls[way])
    try:
        assert database.pooled is (way != "directly")
        for call in (
            database.call("list_agent_tasks", tenant_id=zora.tenant_id),
            database.read("journal_head_row", zora.tenant_id),
            database.check_schema(),
        ):
            with pytest.raises(ZoraError, match="row-level security"):
                await call
    finally:
        await database.close()
