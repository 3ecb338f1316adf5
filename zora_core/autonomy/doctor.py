"""Checks of the installation, the connection, the schema and the queue, each with what was found."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

from zora_core import __version__
from zora_core.autonomy.schedules import examine_schedules
from zora_core.database import schema
from zora_core.database.connect import open_database
from zora_core.database.database import Database
from zora_core.errors import ZoraError
from zora_core.journal.sealing import examine as examine_journal
from zora_core.settings import Settings, load_settings

LONG_TRANSACTION_SECONDS = 300  # an old snapshot keeps dead rows from being removed, which slows every claim
DEAD_SHARE = 0.5
CLOCK_SKEW_SECONDS = 5.0
FREEZE_AGE = 1_000_000_000  # transactions; PostgreSQL refuses writes near 2^31


@dataclass(frozen=True)
class Check:
    """One check: `state` is ok, note (works, but worth knowing) or wrong; `found` says what, and what to do."""

    name: str
    state: Literal["ok", "note", "wrong"]
    found: str


async def examine() -> list[Check]:
    """Check everything that can be reached; the first thing that cannot be reached ends the list."""
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
        checks.append(Check("connection", "ok", _where(settings, database)))
        try:
            await database.check_schema()
        except ZoraError as error:
            return [*checks, Check("schema", "wrong", str(error))]
        checks.append(Check("schema", "ok", f"version {schema.latest_version()}"))
        before = datetime.now(UTC)
        health = await database.value("database_health", tenant_id=settings.tenant_id)
        checks += _figures(health, before, datetime.now(UTC))
        server_time = datetime.fromisoformat(health["server_time"])
        checks.append(Check("schedules", *await examine_schedules(database, settings.tenant_id, server_time)))
        checks.append(Check("journal", *await examine_journal(database, settings)))
        return [*checks, _disk(settings)] if settings.embedded else checks
    finally:
        await database.close()


def _where(settings: Settings, database: Database) -> str:
    if settings.embedded:
        return f"embedded PostgreSQL in {settings.home}"
    if settings.supabase_url:
        return "SUPABASE_URL, over HTTP: no notifications, tasks are found by polling"
    if not database.notifies:
        return "DATABASE_URL, through a pooler: no notifications, tasks are found by polling"
    return "DATABASE_URL, directly"


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
            else f"differs from the server's by {skew:.0f} s: the queue goes by the server's, logs by this machine's",
        )
    )
    used, most = health["connections"]["used"], health["connections"]["max"]
    checks.append(Check("connections", "ok" if used < 0.8 * most else "note", f"{used} of {most} in use"))

    longest = health["longest_transaction_seconds"]
    checks.append(
        Check(
            "oldest transaction",
            "ok" if longest < LONG_TRANSACTION_SECONDS else "note",
            f"open for {longest:.0f} s"
            + ("" if longest < LONG_TRANSACTION_SECONDS else ": it keeps dead rows alive; see pg_stat_activity"),
        )
    )
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


def _disk(settings: Settings) -> Check:
    free = shutil.disk_usage(settings.home).free
    return Check("disk", "ok" if free > 1e9 else "note", f"{free / 1e9:,.1f} GB free at {settings.home}")
