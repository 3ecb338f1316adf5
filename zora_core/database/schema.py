"""The schema as one script, and whether a database has it.

The script is safe to run twice: a migration that has been applied is passed over, functions are replaced. `zora
migrate` runs it in one transaction under an advisory lock; `zora schema` prints it. For Supabase the script also says
who may do what (`sql/supabase.sql`), and ends with a check of that (`sql/supabase_check.sql`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from zora_core.errors import SchemaError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    import asyncpg

# Any constant will do, as long as it is the same for everyone who migrates.
_LOCK = "select pg_advisory_xact_lock(7206017351921)"

# Whoever is signed in to Supabase reads these, rows of one tenant: no credentials, no users, nothing of the machinery.
READABLE = (
    "agent_tasks",
    "agent_task_dependencies",
    "agent_suggestions",
    "autonomy_schedules",
    "climate_missions",
    "climate_profiles",
    "journal_blocks",
    "journal_entries",
    "memory_events",
    "workflow_runs",
    "workflows",
)

_CREATED = re.compile(
    r"^ *create (?:or replace )?(?:unlogged )?(table|function) (?:if not exists )?(\w+)", re.MULTILINE
)

# As the catalogue words the condition of supabase.sql's policies.
_CONDITION = "(tenant_id = ( SELECT zora_claimed_tenant() AS zora_claimed_tenant))"

# Supabase's API knows these roles, and its databases have this schema; a server's other databases have not.
_ON_SUPABASE = (
    "select to_regnamespace('extensions') is not null "
    "and (select count(*) = 3 from pg_roles where rolname in ('anon', 'authenticated', 'service_role'))"
)


@dataclass(frozen=True)
class Migration:
    """A numbered change of the tables; applied once."""

    version: int
    name: str
    sql: str


def _sql() -> Traversable:
    return resources.files("zora_core.database") / "sql"


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations, in the order of their numbers."""
    found = []
    for file in (_sql() / "migrations").iterdir():
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name)
        if match:
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda m: m.version))


@cache
def functions() -> str:
    """Every function and trigger, as one script of `create or replace`."""
    files = sorted((_sql() / "functions").iterdir(), key=lambda file: file.name)
    return "\n".join(f.read_text(encoding="utf-8") for f in files if f.name.endswith(".sql"))


@cache
def query(function: str, parameters: tuple[str, ...]) -> str:
    """The body of a function in `read_journal.sql` as a query of its own; see `Database.read`.

    `parameters` are the names of its parameters, without `p_`, in the order of the values.
    """
    text = (_sql() / "functions" / "read_journal.sql").read_text(encoding="utf-8")
    body = text.partition(f"create or replace function {function}(")[2].split("$$")[1]
    return re.sub(r"\bp_(\w+)", lambda name: f"${parameters.index(name[1]) + 1}", body)


@cache
def functions_digest() -> str:
    """Tells whether a database's functions, and on Supabase the rights, are ours (SHA-256, hexadecimal)."""
    rights = (_sql() / "supabase.sql").read_text(encoding="utf-8")
    return hashlib.sha256("\n".join([functions(), rights, *READABLE]).encode()).hexdigest()


def latest_version() -> int:
    """The number of the last migration."""
    return migrations()[-1].version


@cache
def created(kind: str) -> tuple[str, ...]:
    """The names of all that the script creates of a kind: `table` or `function`, Supabase's part included."""
    bootstrap, supabase = ((_sql() / name).read_text(encoding="utf-8") for name in ("bootstrap.sql", "supabase.sql"))
    script = "\n".join([bootstrap, *(migration.sql for migration in migrations()), functions(), supabase])
    return tuple(sorted({name for found, name in _CREATED.findall(script) if found == kind}))


def _for_supabase(file: str) -> str:
    """A part that looks at everything of ours, with the names filled in."""
    values = {
        ":tables": ",".join(created("table")),
        ":functions": ",".join(created("function")),
        ":readable": ",".join(READABLE),
        ":condition": _CONDITION,
        ":version": str(latest_version()),
        ":applied": str(len(migrations())),
        ":digest": functions_digest(),
    }
    text = (_sql() / file).read_text(encoding="utf-8")
    return re.sub("|".join(values), lambda name: values[name[0]], text)


def supabase_check() -> str:
    """The query that ends the script for Supabase: a row per check, with what to do when it fails."""
    return _for_supabase("supabase_check.sql")


def render_script(upto: int | None = None, *, supabase: bool = False) -> str:
    """The whole schema as one idempotent script.

    `upto` stops after that migration, for tests of upgrades. `supabase` adds what the roles of Supabase's API may do,
    and a check of it at the end, which the SQL editor shows.
    """
    parts = [
        f"-- The schema of ZORA's Agent Runtime, version {latest_version()}. Safe to run more than once.",
        "begin;",
        f"{_LOCK};",
        (_sql() / "bootstrap.sql").read_text(encoding="utf-8"),
    ]
    parts += [
        "do $migration$\nbegin\n"
        f"if exists (select from zora_migrations where version = {migration.version}) then return; end if;\n"
        f"{migration.sql}\n"
        f"insert into zora_migrations (version, name) values ({migration.version}, '{migration.name}');\n"
        "end\n$migration$;"
        for migration in migrations()
        if upto is None or migration.version <= upto
    ]
    parts += [
        # Functions call one another; their bodies are checked when they run, so that files need no order.
        "set local check_function_bodies = off;",
        functions(),
        "insert into zora_functions (digest) values "
        f"('{functions_digest()}') on conflict (only_row) do update set digest = excluded.digest, applied_at = now();",
        *([_for_supabase("supabase.sql")] if supabase else []),
        "commit;",
        *([supabase_check()] if supabase else []),
    ]
    return "\n\n".join(parts) + "\n"


async def installed(connection: asyncpg.Connection) -> tuple[int, str]:
    """The database's schema version (0 when empty) and the digest of its functions ('' when none)."""
    if await connection.fetchval("select to_regclass('zora_functions')") is None:
        return 0, ""
    row = await connection.fetchrow(
        "select (select coalesce(max(version), 0) from zora_migrations) as version, "
        "coalesce((select digest from zora_functions), '') as digest"
    )
    return row["version"], row["digest"]


async def check(connection: asyncpg.Connection) -> None:
    """Raise `SchemaError`, naming the remedy, unless the database's schema is the one this program works with."""
    compare(*await installed(connection), remedy="run `zora migrate`")


def compare(version: int, digest: str, *, remedy: str) -> None:
    """Raise `SchemaError` unless these are the version and the digest that this program works with."""
    if version > latest_version():
        raise SchemaError(
            f"the database has schema version {version}, this zora knows {latest_version()}: upgrade zora"
        )
    if version < latest_version():
        raise SchemaError(f"the database has schema version {version}, this zora needs {latest_version()}: {remedy}")
    if digest != functions_digest():
        raise SchemaError(f"the database's functions are not those of this zora: {remedy}")


async def migrate(connection: asyncpg.Connection) -> bool:
    """Bring the database to this program's schema; returns whether anything changed.

    One of Supabase gets Supabase's part, too: what is made there would else be open to everybody with the public key.
    Raises `SchemaError` when the database is newer than the program.
    """
    version, digest = await installed(connection)
    if version > latest_version():
        raise SchemaError(
            f"the database has schema version {version}, this zora knows {latest_version()}: upgrade zora"
        )
    supabase = await connection.fetchval(_ON_SUPABASE)
    closed = not supabase or await connection.fetchval("select to_regproc('zora_claimed_tenant') is not null")
    if closed and (version, digest) == (latest_version(), functions_digest()):
        return False
    await connection.execute(render_script(supabase=supabase))
    return True
