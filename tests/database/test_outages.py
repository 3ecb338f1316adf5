"""What a database cannot do for a while is waited out, said once, and told from what a person must correct."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.autonomy.agents import Probe
from tests.autonomy.test_runtime import until
from tests.conftest import Zora
from tests.forgetful import Network, network
from zora_core.autonomy import worker as worker_module
from zora_core.autonomy.runtime import AgentRuntime
from zora_core.autonomy.worker import TaskRun, Worker
from zora_core.database import backoff, outage, postgres
from zora_core.database.backoff import retrying
from zora_core.database.postgres import PostgresDatabase, connect
from zora_core.database.sqlstate import Remedies, error_for
from zora_core.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DataRejected,
    DuplicateKey,
    NotFound,
    RetriesExhausted,
    SchemaError,
    TooMuchAtOnce,
    UnexpectedAnswer,
    ZoraError,
)

REMEDIES = Remedies(login="check the login", rights="grant it", schema="migrate")


@pytest.mark.parametrize(
    ("codes", "before", "after"),
    [
        ("08006 08P01 40001 40P01 53100 53200 53300 55P03 57P01 57P03 57P05 58030 XX000 XX001 25006 25P03 25P04",
         DatabaseUnavailable, DatabaseUnavailable),
        ("PGRST000 PGRST001 PGRST002 PGRST003", DatabaseUnavailable, DatabaseUnavailable),
        ("57014", TooMuchAtOnce, TooMuchAtOnce),
        ("28000 28P01 3D000", ConfigurationError, DatabaseUnavailable),
        ("42501", ConfigurationError, UnexpectedAnswer),
        ("42883 42P01 42703 3F000 PGRST202", SchemaError, UnexpectedAnswer),
        ("P0001 42601 0A000 F0000 Z9999 55000", UnexpectedAnswer, UnexpectedAnswer),
        ("22003 22P02 23514 23503 54000", DataRejected, DataRejected),
        ("23505", DuplicateKey, DuplicateKey),
        ("PT404", NotFound, NotFound),
    ],
)  # fmt: skip
def test_a_code_means_the_same_over_every_transport(
    codes: str, before: type[ZoraError], after: type[ZoraError]
) -> None:
    for code in codes.split():
        assert type(error_for(code, "said", REMEDIES, answered=False)) is before, code
        assert type(error_for(code, "said", REMEDIES, answered=True)) is after, code
        assert "said" in str(error_for(code, "said", REMEDIES, answered=True))


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    caplog.set_level(logging.INFO, logger="zora")

    def containing(part: str) -> list[str]:
        return [record.getMessage() for record in caplog.records if part in record.getMessage()]

    return containing


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "MAX_SECONDS", 0.3)


class Working:
    """A loop that works, and the runs that ended."""

    def __init__(self, worker: Worker, ended: asyncio.Queue[TaskRun], loop: asyncio.Task[Any]) -> None:
        self.worker = worker
        self.ended = ended
        self.loop = loop

    async def next(self, seconds: float = 20) -> TaskRun:
        getting = asyncio.create_task(self.ended.get())
        await asyncio.wait([getting, self.loop], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if self.loop.done():
            self.loop.result()
        assert getting.done(), "no run ended"
        return getting.result()


@asynccontextmanager
async def working(
    zora: Zora, agent: Probe, database: PostgresDatabase | None = None, **options: Any
) -> AsyncIterator[Working]:
    """A worker's loop on this database, or on the test's own."""
    ended: asyncio.Queue[TaskRun] = asyncio.Queue()
    on = Zora(database or zora.database, zora.url, zora.settings)
    worker = on.worker(agent, observe=lambda e: ended.put_nowait(e) if isinstance(e, TaskRun) else None, **options)
    loop = asyncio.create_task(worker.run(poll_seconds=0.1))
    try:
        yield Working(worker, ended, loop)
    finally:
        worker.stop()
        worker.stop()
        await asyncio.wait([loop], timeout=20)
        assert loop.done()
        if not loop.cancelled() and (error := loop.exception()) is not None:
            raise error


async def test_a_server_that_reads_only_is_waited_for_and_said_once(
    zora: Zora, lines: Callable[[str], list[str]]
) -> None:
    async with working(zora, Probe()) as loop:
        await zora.create("SAM", "count")
        assert (await loop.next()).status == "completed"
        await zora.sql("alter system set default_transaction_read_only = on")
        await zora.sql("select pg_reload_conf()")
        try:
            await until(lambda: lines("read-only"))
            with pytest.raises(DatabaseUnavailable, match="the database is read-only: cannot execute"):
                await zora.create("SAM", "count")
            await until(lambda: loop.worker._database.outage._failing)
        finally:
            async with connected(zora.url) as connection:
                await connection.execute("set default_transaction_read_only = off")
                await connection.execute("alter system reset default_transaction_read_only")
                await connection.execute("select pg_reload_conf()")
        await until(lambda: lines("answers again"))
        await zora.create("SAM", "count")
        assert (await loop.next()).status == "completed"
    assert len(lines("retrying until it answers")) == 1
    assert len(lines("answers again after")) == 1


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def set_for(zora: Zora, what: str, setting: str, value: str) -> AsyncIterator[None]:
    async with connected(zora.url) as connection:
        name = await connection.fetchval("select current_database()" if what == "database" else "select current_user")
        await connection.execute(f"alter {what} {name} set {setting} = {value}")
        try:
            yield
        finally:
            await connection.execute("set default_transaction_read_only = off")
            await connection.execute(f"alter {what} {name} reset {setting}")


@pytest.mark.parametrize("what", ["database", "role"])
@pytest.mark.parametrize(
    ("setting", "value"), [("default_transaction_isolation", "serializable"), ("default_transaction_read_only", "on")]
)
async def test_defaults_of_a_role_or_a_database_do_not_change_what_our_statements_mean(
    zora: Zora, what: str, setting: str, value: str
) -> None:
    async with set_for(zora, what, setting, value):
        database = await connect(zora.url)
        try:
            async with database._connection() as connection:
                shown = await connection.fetchrow(
                    "select current_setting('transaction_isolation'), current_setting('transaction_read_only')"
                )
                assert tuple(shown) == ("read committed", "off")
            await database.call("promote_agent_tasks")
        finally:
            await database.close()


async def test_a_url_that_sets_read_only_is_told_as_read_only(zora: Zora) -> None:
    database = await connect(f"{zora.url}&default_transaction_read_only=on&default_transaction_isolation=serializable")
    try:
        with pytest.raises(DatabaseUnavailable, match="the database is read-only"):
            await database.call("promote_agent_tasks")
        async with database._connection() as connection:
            assert await connection.fetchval("show transaction_isolation") == "read committed"
    finally:
        await database.close()


async def test_a_limited_run_on_a_read_only_database_ends_with_one_line(
    zora: Zora, lines: Callable[[str], list[str]]
) -> None:
    url = f"{zora.url}&default_transaction_read_only=on"
    runtime = AgentRuntime(settings=replace(zora.settings, database_url=url))
    with pytest.raises(DatabaseUnavailable, match="the database is read-only"):
        await asyncio.wait_for(runtime.run_once(), 10)
    assert not lines("read-only"), "the error is enough"
    call = [sys.executable, "-m", "zora_core.cli", "run-once"]
    process = await asyncio.create_subprocess_exec(
        *call, env={**os.environ, "DATABASE_URL": url}, stdout=PIPE, stderr=PIPE
    )
    said, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (said, errors.count(b"\n"), process.returncode) == (b"", 1, 1)
    assert errors.startswith(b"error: the database is read-only: ")


async def test_a_limited_run_waits_for_the_database_while_it_has_tasks_in_hand(
    zora: Zora, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would lose their outcomes; with nothing in hand it gives up."""
    monkeypatch.setattr(worker_module, "ANSWER_SECONDS", 0.1)
    probe, call, is_away, tries = Probe(), zora.database.call, False, 0

    async def away(function: str, /, **arguments: Any) -> Any:
        nonlocal tries
        if is_away:
            tries += 1
            raise DatabaseUnavailable("the database cannot be reached")
        return await call(function, **arguments)

    monkeypatch.setattr(zora.database, "call", away)
    await zora.create("SAM", "wait")
    run = asyncio.create_task(zora.worker(probe).run(limit=5))
    await until(probe.started.is_set)
    is_away = True
    probe.release.set()
    await until(lambda: tries >= 4 or run.done())
    is_away = False
    assert [one.status for one in await asyncio.wait_for(run, 30)] == ["completed"]

    def ended(event: object) -> None:
        nonlocal is_away
        is_away = isinstance(event, TaskRun)

    await zora.create("SAM", "count")
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(zora.worker(probe, observe=ended).run(limit=5), 30)
    assert isinstance(raised.value.exceptions[0], DatabaseUnavailable)


async def test_a_lock_that_is_not_available_in_time_is_waited_for(
    zora: Zora, lines: Callable[[str], list[str]]
) -> None:
    database = await connect(f"{zora.url}&lock_timeout=50")
    try:
        async with working(zora, Probe(), database) as loop:
            async with connected(zora.url) as holder, holder.transaction():
                await holder.execute("lock table agent_tasks in access exclusive mode")
                await until(lambda: lines("a lock was not available in time: canceling statement due to lock timeout"))
            await zora.create("SAM", "count")
            assert (await loop.next()).status == "completed"
    finally:
        await database.close()


async def test_a_function_that_is_missing_during_a_migration_is_waited_for(
    zora: Zora, lines: Callable[[str], list[str]]
) -> None:
    async with working(zora, Probe()) as loop:
        await zora.create("SAM", "count")
        assert (await loop.next()).status == "completed"
        await zora.sql("alter function promote_agent_tasks rename to promote_elsewhere")
        try:
            await until(lambda: lines("lacks a function"))
        finally:
            await zora.sql("alter function promote_elsewhere rename to promote_agent_tasks")
        await zora.create("SAM", "count")
        assert (await loop.next()).status == "completed"
    assert "run `zora migrate`" in lines("lacks a function")[0]


@pytest.mark.parametrize(
    ("refusal", "until_gone"),
    [
        *(
            (
                "create function refuse() returns trigger language plpgsql as $$begin "
                f"raise exception 'I refuse' using errcode = '{code}'; end$$; "
                f"create trigger refuse before {event} on {table} for each row execute function refuse()",
                "drop function refuse cascade",
            )
            for code, event, table in (
                ("23514", "update", "agent_tasks"),
                ("22012", "insert", "journal_entries"),
                ("PT403", "update", "agent_tasks"),
            )
        ),
        (
            "alter table agent_tasks add constraint refuse check (status <> 'completed') not valid",
            "alter table agent_tasks drop constraint refuse",
        ),
        (
            "alter table journal_entries add constraint refuse check (title is null) not valid",
            "alter table journal_entries drop constraint refuse",
        ),
    ],
    ids=["23514", "22012", "PT403", "task check", "journal check"],
)
async def test_a_trigger_or_constraint_that_refuses_outcomes_is_waited_for(
    zora: Zora, lines: Callable[[str], list[str]], refusal: str, until_gone: str
) -> None:
    """The value of the outcome is not to blame, and the worker goes on."""
    probe = Probe()
    task_id = await zora.create("SAM", "wait")
    async with working(zora, probe, lease_seconds=3) as loop:
        await probe.started.wait()
        await _execute(zora, refusal)
        probe.release.set()
        try:
            await until(lambda: lines("the database refuses the outcome of task"))
        finally:
            await _execute(zora, until_gone)
        run = await loop.next()
        assert (run.task.id, run.status) == (task_id, "completed")


async def test_rows_that_row_level_security_hides_do_not_look_like_a_lost_lease(zora: Zora) -> None:
    """Such as when the table has another owner for a moment: the call is refused, and retried."""
    await zora.create("SAM", "wait")
    (claimed,) = await zora.call("claim_agent_tasks", tenant_id=zora.tenant_id, worker_id="w")
    url = urlsplit(zora.url)
    role = "no_owner"
    await _execute(
        zora,
        f"create role {role} login password 'secret'; grant usage on schema public to {role};"
        f"grant all on all tables in schema public to {role}",
    )
    theirs = await connect(urlunsplit(url._replace(netloc=f"{role}:secret@{url.netloc.rpartition('@')[2]}")))
    try:
        theirs.answered = True
        with pytest.raises(UnexpectedAnswer, match="row-level security"):
            await theirs.call("heartbeat_agent_tasks", ids=[claimed["id"]], lease_tokens=[claimed["lease_token"]])
    finally:
        await theirs.close()
        await _execute(zora, f"drop owned by {role}; drop role {role}")


async def _execute(zora: Zora, statements: str) -> None:
    async with connected(zora.url) as connection:
        await connection.execute(statements)


async def test_what_is_unexpected_is_said_every_minute_and_ends_the_loop_after_some(
    zora: Zora, lines: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "PATIENCE_SECONDS", 1.5)
    monkeypatch.setattr(outage, "REMIND_SECONDS", 0.5)
    await zora.database.call("zora_now")

    async def missing() -> None:
        await zora.database.call("no_such_function")

    with pytest.raises(RetriesExhausted, match=r"lacks a function.*run `zora migrate`; gave up after"):
        await retrying(zora.database, missing)
    assert 2 <= len(lines("retrying until it answers")) <= 4


async def test_errors_of_ours_and_refused_values_are_not_retried(zora: Zora) -> None:
    calls = 0

    async def refused() -> None:
        nonlocal calls
        calls += 1
        await zora.database.call("get_agent_task", tenant_id=zora.tenant_id, id="nothing")

    async def rejected() -> None:
        nonlocal calls
        calls += 1
        await zora.database.call("has_tenant", tenant_id="no uuid")

    for call, kind in ((refused, ZoraError), (rejected, DataRejected)):
        with pytest.raises(kind) as caught:
            await retrying(zora.database, call)
        assert not isinstance(caught.value, DatabaseUnavailable)
    assert calls == 2


async def test_an_outage_of_many_callers_is_said_once(zora: Zora, lines: Callable[[str], list[str]]) -> None:
    up = asyncio.Event()

    async def call() -> None:
        if not up.is_set():
            raise DatabaseUnavailable("the database is away")

    calls = [asyncio.create_task(retrying(zora.database, call)) for _ in range(5)]
    cancelled = calls.pop()
    await until(lambda: len(zora.database.outage._failing) == 5)
    cancelled.cancel()
    up.set()
    await asyncio.gather(*calls)
    assert (len(lines("the database is away")), len(lines("answers again"))) == (1, 1)


async def test_a_login_that_fails_is_a_mistake_at_first_and_an_outage_later(zora: Zora) -> None:
    with pytest.raises(ConfigurationError, match="refuses the login"):
        await connect(zora.url.replace("postgres@", "nobody_at_all@"))
    with pytest.raises(ConfigurationError, match="does not exist; check the user, the password and"):
        await connect(zora.url.replace("/shared?", "/no_such_database?"))
    async with connected(zora.url) as connection:
        await connection.execute("create role probe_login login superuser")
        database = await connect(zora.url.replace("postgres@", "probe_login@"))
        try:
            await database.call("zora_now")
            await connection.execute("alter role probe_login nologin")
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'probe_login'"
            )
            with pytest.raises(DatabaseUnavailable, match="refuses the login"):
                await _call_twice(database)
            await connection.execute("alter role probe_login login")
            await database.call("zora_now")
        finally:
            await database.close()
            await connection.execute("drop role probe_login")


async def _call_twice(database: PostgresDatabase) -> None:
    """The first may find the connection that was ended, and say just that."""
    try:
        await database.call("zora_now")
    except DatabaseUnavailable as error:
        if "refuses the login" in str(error):
            raise
    await database.call("zora_now")


# Connections that the network has forgotten


@pytest.fixture
async def between(zora: Zora) -> AsyncIterator[Network]:
    async with network(zora.url) as made:
        yield made


@asynccontextmanager
async def through(between: Network) -> AsyncIterator[PostgresDatabase]:
    database = await connect(between.url)
    try:
        yield database
    finally:
        await asyncio.wait_for(database.close(), 10)


async def test_a_busy_worker_whose_connections_are_forgotten_keeps_its_tasks(zora: Zora, between: Network) -> None:
    probe = Probe()
    async with through(between) as database, working(zora, probe, database, lease_seconds=6) as loop:
        task_id = await zora.create("SAM", "wait")
        await asyncio.wait_for(probe.started.wait(), 20)
        between.forget()
        probe.release.set()
        run = await loop.next(20)
        assert (run.status, run.task.id) == ("completed", task_id)
        (row,) = await zora.sql("select attempt, lost_leases from agent_tasks where id = $1", task_id)
        assert tuple(row) == (1, 0)


async def test_an_idle_worker_whose_connections_are_forgotten_hears_of_new_tasks(
    zora: Zora, between: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LISTEN_CHECK_SECONDS", 0.2)
    monkeypatch.setattr(postgres, "LISTEN_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(postgres, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(postgres, "TIDY_SECONDS", 0.2)
    async with through(between) as database, working(zora, Probe(), database) as loop:
        await zora.create("SAM", "count")
        assert (await loop.next()).status == "completed"
        # What such a connection said last; the check takes the place of the command.
        listening = (
            "select pid from pg_stat_activity where (query like 'LISTEN%' or query = 'select 1') "
            "and application_name = 'zora' and datname = current_database()"
        )
        await until(lambda: zora.sql(listening))
        (before,) = await zora.sql(listening)
        between.forget()

        async def listens_again() -> bool:
            return bool({row["pid"] for row in await zora.sql(listening)} - {before["pid"]})

        await until(listens_again)
        await zora.create("SAM", "count")
        assert (await loop.next()).status == "completed"


async def test_a_call_on_a_forgotten_connection_ends_and_the_next_has_a_new_one(
    zora: Zora, between: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with through(between) as database:
        await asyncio.gather(*(database.call("zora_now") for _ in range(4)))
        monkeypatch.setattr(postgres, "ANSWER_SECONDS", 0.5)
        monkeypatch.setattr(postgres, "TIDY_SECONDS", 0.2)
        between.forget()
        with pytest.raises(DatabaseUnavailable, match="did not answer a call within"):
            await database.call("zora_now")
        await database.call("zora_now")
        between.forget()
        with pytest.raises(DatabaseUnavailable, match="did not answer a call within"):
            await database.read("journal_head_row", zora.tenant_id)
        await database.read("journal_head_row", zora.tenant_id)


async def test_a_worker_on_forgotten_connections_can_be_stopped(zora: Zora, between: Network) -> None:
    async with through(between) as database, working(zora, Probe(), database) as loop:
        await zora.create("SAM", "count")
        assert (await loop.next()).status == "completed"
        between.forget()
        await zora.sql("select pg_notify('agent_tasks', $1)", str(zora.tenant_id))
        loop.worker.stop()
        await asyncio.wait_for(asyncio.shield(loop.loop), 15)


async def test_sockets_are_watched_by_the_kernel(zora: Zora, between: Network) -> None:
    import socket

    async with through(between) as database, database._connection() as connection:
        used = connection._transport.get_extra_info("socket")
        assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


async def test_a_host_that_is_silent_does_not_use_up_the_time_of_the_next(zora: Zora, between: Network) -> None:
    async with network(zora.url) as silent:
        silent.forget_new = True
        hosts = ",".join(one.url.partition("@")[2].partition("/")[0] for one in (silent, between))
        path = between.url.partition("@")[2].partition("/")[2]
        database = await connect(f"postgresql://postgres@{hosts}/{path}&connect_timeout=1")
        try:
            await database.call("zora_now")
            assert silent.made >= 2, "it was tried by the pool, too"
        finally:
            await database.close()


async def test_a_url_may_name_several_hosts(zora: Zora, between: Network) -> None:
    async with network(zora.url) as gone:
        dead = gone.url
    hosts = f"{dead.partition('@')[2].partition('/')[0]},{between.url.partition('@')[2].partition('/')[0]}"
    url = f"postgresql://postgres@{hosts}/{between.url.partition('@')[2].partition('/')[2]}"
    database = await connect(url)
    try:
        await database.call("zora_now")
    finally:
        await database.close()
