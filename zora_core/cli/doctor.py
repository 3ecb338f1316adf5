"""Checks of the installation, the connection, the schema and the queue, each with what was found."""

from __future__ import annotations

import platform
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import median
from typing import Any, Literal

from zora_core import __version__
from zora_core.database import schema
from zora_core.database.connect import check_tenant, open_database
from zora_core.database.database import API_ROLE, CLOCK_SKEW_SECONDS, Database
from zora_core.database.postgrest import RUN_SCRIPT
from zora_core.errors import DatabaseUnavailable, SchemaError, ZoraError
from zora_core.journal.sealing import examine as examine_journal
from zora_core.schedules import examine_schedules
from zora_core.settings import Settings, load_settings
from zora_core.suggested_command import zora_command

LONG_TRANSACTION_SECONDS = 300  # an old snapshot keeps dead rows from being removed, which slows every claim
DEAD_SHARE = 0.5
FREEZE_AGE = 1_000_000_000  # transactions; PostgreSQL refuses writes near 2^31


@dataclass(frozen=True)
class Check:
    """One check: `state` is ok, note (works, but worth knowing) or wrong; `found` says what, and what to do."""

    name: str
    state: Literal["ok", "note", "wrong"]
    found: str


async def examine() -> list[Check]:
    """Run the checks in order; stops at the first one that cannot connect."""
    checks = [
        Check(
            "versions",
            "ok",
            f"zora {__version__}, Python {platform.python_version()}, asyncpg {version('asyncpg')}, "
            f"{platform.system()} {platform.machine()}",
        )
    ]
    try:
        settings = load_settings()
        database = await open_database(settings, check=False)
    except ZoraError as error:
        return [*checks, Check("connection", "wrong", str(error))]
    try:
        try:
            schema_check = await _schema(settings, database)
        except SchemaError as error:
            schema_check = Check("schema", "wrong", str(error))
        except ZoraError as error:  # over HTTP, this was the first call
            return [*checks, Check("connection", "wrong", _unreached(settings, error))]
        checks += [_connection(settings, database), schema_check]
        if schema_check.state == "wrong":
            return checks
        checks.append(
            Check("latency", "ok", f"a call takes {await _latency(database) * 1000:.0f} ms, the median of three")
        )
        try:
            await check_tenant(database, settings)
        except ZoraError as error:
            return [*checks, Check("tenant", "wrong", str(error))]
        checks.append(Check("tenant", "ok", str(settings.tenant_id)))
        if settings.supabase_url:
            checks.append(await _api_role(database))
        elif obstacle := await database.api_login_obstacle():
            found = (
                f"`{zora_command('serve')}` logs in as the role of DATABASE_URL and then acts as {API_ROLE}: {obstacle}"
            )
            checks.append(Check(API_ROLE, "note", found))
        before = datetime.now(UTC)
        health = await database.value("database_health", tenant_id=settings.tenant_id)
        checks += _figures(health, before, datetime.now(UTC))
        server_time = datetime.fromisoformat(health["server_time"])
        checks.append(Check("schedules", *await examine_schedules(database, settings.tenant_id, server_time)))
        checks.append(Check("journal", *await examine_journal(database, settings)))
        return [*checks, _disk(settings)] if settings.embedded else checks
    finally:
        await database.close()


async def _schema(settings: Settings, database: Database) -> Check:
    """Raises `SchemaError` when this program cannot work with what the database has."""
    found = await database.check_schema()
    place = "" if settings.schema == schema.PUBLIC else f" in {settings.schema}"
    if found.standing == "newer":  # what it should have is for the newer program to say
        newer = f"{found.described}{place}, newer than this zora {__version__}, which works with it"
        return Check("schema", "note", f"{newer}; upgrade zora")
    remedy = RUN_SCRIPT if settings.supabase_url else "run `zora migrate` to create them again"
    if lacking := await database.missing_objects():
        return Check("schema", "wrong", schema.explain_missing(lacking, remedy=remedy))
    return Check("schema", "ok", f"version {schema.latest_version()}{place}")


def _connection(settings: Settings, database: Database) -> Check:
    if settings.embedded:
        return Check("connection", "ok", f"embedded PostgreSQL in {settings.home}")
    polling = "no notifications, tasks are found by polling"
    if settings.supabase_url:
        found = f"{settings.place}, over HTTP: {polling}"
        if settings.database_url:
            return Check("connection", "note", f"{found}. DATABASE_URL is set as well and not used: unset one of them")
        return Check("connection", "ok", found)
    return Check(
        "connection", "ok", "DATABASE_URL, " + ("directly" if database.notifies else f"through a pooler: {polling}")
    )


def _unreached(settings: Settings, error: ZoraError) -> str:
    if settings.supabase_url and isinstance(error, DatabaseUnavailable):
        return (
            f"{error}. Is SUPABASE_URL the project's own, https://REF.supabase.co, is this machine online, and is the "
            "project neither paused nor restarting?"
        )
    return str(error)


async def _latency(database: Database) -> float:
    """Seconds that a call takes, on a connection that is open."""
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        await database.value("zora_now")
        seconds.append(time.perf_counter() - begun)
    return median(seconds)


async def _api_role(database: Database) -> Check:
    """Whether `zora serve` can work; nothing else needs this."""
    try:
        await (await database.restricted()).close()
    except ZoraError as error:
        return Check(API_ROLE, "note", f"`{zora_command('serve')}` cannot work: {error}")
    return Check(API_ROLE, "ok", f"`{zora_command('serve')}` may act as it")


def _figures(health: dict[str, Any], before: datetime, after: datetime) -> list[Check]:
    checks = [Check("server", "ok", f"PostgreSQL {health['server_version']}, {health['database_bytes'] / 1e6:,.0f} MB")]

    server_time = datetime.fromisoformat(health["server_time"])
    skew = max((before - server_time).total_seconds(), (server_time - after).total_seconds(), 0.0)
    checks.append(
        Check(
            "clock",
            "ok" if skew < CLOCK_SKEW_SECONDS else "note",
            "agrees with the server's"
            if skew < CLOCK_SKEW_SECONDS
            else f"differs from the server's by {skew:.0f} s: the queue uses the server's, logs this machine's",
        )
    )
    if health["sees_sessions"]:
        checks += _sessions(health)
    else:
        checks.append(Check("sessions", "ok", "this role cannot see connections and long transactions of other roles"))
    dead = {t["table"]: t for t in health["dead_tuples"]}
    bloated = [name for name, t in dead.items() if t["dead"] > 10_000 and t["dead"] > DEAD_SHARE * t["live"]]
    checks.append(
        Check(
            "dead rows",
            "note" if bloated else "ok",
            f"many in {', '.join(bloated)}: run `vacuum analyze`, look for long transactions"
            if bloated
            else f"{sum(t['dead'] for t in dead.values()):,}",
        )
    )
    age = health["transaction_id_age"]
    checks.append(
        Check("transaction ids", "ok" if age < FREEZE_AGE else "wrong", f"oldest is {age:,} transactions old")
    )

    queue = health["queue"]
    checks.append(
        Check(
            "queue",
            "ok",
            f"{queue['ready']:,} ready, {queue['pending'] - queue['ready']:,} waiting, {queue['in_progress']:,} "
            "running; "
            f"in the last hour {queue['completed_last_hour']:,} completed, {queue['failed_last_hour']:,} failed",
        )
    )
    stuck = queue["expired_leases"]
    checks.append(
        Check(
            "stuck tasks",
            "note" if stuck else "ok",
            f"{stuck} with an expired lease: the next run-once or run-loop takes them back" if stuck else "none",
        )
    )
    return checks


def _sessions(health: dict[str, Any]) -> list[Check]:
    used, most = health["connections"]["used"], health["connections"]["max"]
    longest = health["longest_transaction_seconds"]
    return [
        Check("connections", "ok" if used < 0.8 * most else "note", f"{used} of {most} in use"),
        Check(
            "oldest transaction",
            "ok" if longest < LONG_TRANSACTION_SECONDS else "note",
            f"open for {longest:.0f} s"
            + ("" if longest < LONG_TRANSACTION_SECONDS else ": it keeps dead rows alive; see pg_stat_activity"),
        ),
    ]


def _disk(settings: Settings) -> Check:
    free = shutil.disk_usage(settings.home).free
    return Check("disk", "ok" if free > 1e9 else "note", f"{free / 1e9:,.1f} GB free at {settings.home}")
