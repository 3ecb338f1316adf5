"""The schema as one script, and whether a database has it.

The script is safe to run twice: a migration that has been applied is passed over, functions are replaced. `zora
migrate` runs it in one transaction under an advisory lock; `zora schema` prints it. For Supabase the script also says
who may do what (`sql/supabase.sql`), and ends with a check of that (`sql/supabase_check.sql`).

Everything lies in one schema of the database, ZORA_SCHEMA. The script's texts name no schema: the script sets
search_path first, and each function keeps it (`sql/pin.sql`).

A database knows which migrations it has, which release its functions are from, and the digests of the functions that
were replaced. From this a program tells a database that is older than itself, which it may migrate, from one that is
newer, which it leaves as it is and works with as long as the minor version is the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

import asyncpg

from zora_core import __version__
from zora_core.errors import SchemaError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

PUBLIC = "public"

# Any constant works, if every migrating process uses the same one.
_LOCK = "select pg_advisory_xact_lock(7206017351921)"

# The guard refuses to change a database; its message says why.
_REFUSED = "PT409"

# Users who are signed in to Supabase can read these, for one tenant: no credentials, no users, no internal tables.
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
    r"^ *create (?:or replace )?(?:unlogged |unique )?(table|type|function|index|trigger) (?:if not exists )?(\w+)",
    re.MULTILINE,
)
# The index of a constraint that is given a name has that name.
_CONSTRAINT = re.compile(r"\badd constraint (\w+) (?:unique|primary|exclude)\b")
_DROPPED = re.compile(r"^ *drop function (?:if exists )?((\w+)\([^;]*\));", re.MULTILINE)
# What changes the list of objects, in the order of the script.
_CHANGES = re.compile(
    r"^ *create (?:unlogged )?table (?:if not exists )?(?P<table>\w+) \((?P<columns>.*?)^\)"
    r"|^ *alter table (?P<altered>\w+)(?P<actions>[^;]*);"
    r"|^ *create type (?P<type>\w+)"
    r"|^ *create (?:or replace )?function (?P<function>\w+)"
    r"|^ *create (?:unique )?index (?P<index>\w+)[^;]*;"
    r"|^ *drop (?P<kind>table|type|function|index) (?:if exists )?(?P<dropped>\w+)"
    r"|^ *create trigger (?P<trigger>\w+)\s[^;]*?\son (?P<on>\w+)[^;]*;",
    re.MULTILINE | re.DOTALL,
)
_COLUMN = re.compile(r"^ {4}(?!(?:primary|unique|check|constraint|foreign|exclude)\b)(\w+) ", re.MULTILINE)

# What cannot be made again without the rows that were in it.
_HOLDING_DATA = ("table ", "column ", "type ")

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


@dataclass(frozen=True)
class Installed:
    """What a database has: the migrations applied, and the functions' digest, release and replaced digests."""

    versions: frozenset[int] = frozenset()
    digest: str = ""
    release: str | None = None
    replaced: tuple[str, ...] = ()

    @classmethod
    def of(cls, said: dict[str, Any]) -> Installed:
        """What the function installed_schema() says; a database before migration 13 says less."""
        versions, highest = said.get("versions"), said.get("version") or 0
        if versions is None:
            before = {migration.version for migration in migrations() if migration.version < highest}
            versions = before | {highest} if highest else before
        return cls(
            frozenset(versions),
            said.get("digest") or "",
            said.get("release"),
            tuple(said.get("replaced") or ()),
        )

    @property
    def standing(self) -> Literal["same", "older", "newer"]:
        """How the database compares with this program."""
        ours = {migration.version for migration in migrations()}
        theirs = _numbers(self.release)
        if self.versions - ours or theirs > _numbers(__version__):
            return "newer"
        if ours - self.versions:
            return "older"
        if self.digest == functions_digest():
            return "same"
        replaced = theirs == _numbers(__version__) and functions_digest() in self.replaced
        return "newer" if replaced else "older"

    @property
    def works(self) -> bool:
        """Whether this program can work with a newer database: within a minor version nothing is taken away."""
        return _numbers(self.release)[:2] == _numbers(__version__)[:2]

    @property
    def described(self) -> str:
        """Which version this is, for people."""
        release = f" of zora {self.release}" if self.release else ""
        return f"version {max(self.versions, default=0)}{release}"


def _numbers(release: str | None) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", release or "")
    return tuple(int(number) for number in found[0].split(".")) if found else ()


def _sql() -> Traversable:
    return resources.files("zora_core.database") / "sql"


def _text(file: str) -> str:
    return (_sql() / file).read_text(encoding="utf-8")


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
def query(function: str, parameters: tuple[str, ...], schema: str = PUBLIC) -> str:
    """The body of a function in `read_journal.sql` as a query of its own; see `Database.read`.

    `parameters` are the names of its parameters, without `p_`, in the order of the values.
    """
    body = _body("read_journal.sql", function, parameters)
    return re.sub(r"\bfrom (journal_\w+)", rf"from {quoted(schema)}.\1", body)


def _body(file: str, function: str, parameters: Sequence[str]) -> str:
    body = _text(f"functions/{file}").partition(f"create or replace function {function}(")[2].split("$$")[1]
    return re.sub(r"\bp_(\w+)", lambda name: f"${parameters.index(name[1]) + 1}", body)


def quoted(schema: str) -> str:
    """A schema's name as an identifier; settings allow only names without special characters."""
    return f'"{schema}"'


@cache
def functions_digest() -> str:
    """Tells whether a database's functions, and on Supabase the rights, are ours (SHA-256, hexadecimal)."""
    parts = [functions(), _text("pin.sql"), _text("supabase.sql"), *READABLE]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def latest_version() -> int:
    """The number of the last migration."""
    return migrations()[-1].version


@cache
def created(kind: str) -> tuple[str, ...]:
    """The names of all that the script creates of a kind: `table` or `function`, Supabase's part included."""
    ours = {name.removeprefix(f"{kind} ") for name in objects() if name.startswith(f"{kind} ")}
    return tuple(sorted(ours | {name for found, name in _CREATED.findall(_text("supabase.sql")) if found == kind}))


@cache
def objects() -> dict[str, str | None]:
    """All that a database should have, as `missing_schema_objects()` names it, with the statement that makes it again.

    Read from the script. Only an index or a trigger can be made again by itself; a lost column or table took its rows
    along, and functions come with the script.
    """
    found: dict[str, str | None] = {}
    script = "\n".join([_text("bootstrap.sql"), *(migration.sql for migration in migrations()), functions()])
    for change in _CHANGES.finditer(re.sub(r"--.*$", "", script, flags=re.MULTILINE)):
        if change["table"]:
            found[f"table {change['table']}"] = None
            found |= dict.fromkeys(f"column {change['table']}.{name}" for name in _COLUMN.findall(change["columns"]))
        elif change["altered"]:
            added = re.findall(r"\badd column (?:if not exists )?(\w+)", change["actions"])
            found |= dict.fromkeys(f"column {change['altered']}.{name}" for name in added)
            for name in re.findall(r"\bdrop column (?:if exists )?(\w+)", change["actions"]):
                found.pop(f"column {change['altered']}.{name}", None)
                # PostgreSQL drops the indexes that hold the column.
                held = re.compile(rf"\bon {change['altered']}\b.*\b{name}\b", re.DOTALL)
                found = {key: made for key, made in found.items() if not (made and held.search(made))}
        elif change["dropped"]:
            found.pop(f"{change['kind']} {change['dropped']}", None)
            if change["kind"] == "table":
                found = {name: made for name, made in found.items() if f" {change['dropped']}." not in name}
        elif change["trigger"]:
            found[f"trigger {change['on']}.{change['trigger']}"] = change[0]
        elif change["index"]:
            found[f"index {change['index']}"] = change[0]
        else:
            found[f"type {change['type']}" if change["type"] else f"function {change['function']}"] = None
    (restricted,) = re.findall(r"foreach v_table in array array\[(.*?)\]", _text("functions/access.sql"), re.DOTALL)
    return found | dict.fromkeys(f"access {name}" for name in ["tenants", *re.findall(r"\w+", restricted)])


def _filled(file: str, schema: str) -> str:
    """A part that looks at everything of ours, with the names filled in."""
    since = [
        (kind, name, migration.version)
        for migration in migrations()
        for kind, name in dict.fromkeys(_CREATED.findall(migration.sql))
        if kind != "function" and f"{kind} {name}" in objects()
    ]
    since += [("function", name, 0) for name in created("function")]
    since += [("index", name, m.version) for m in migrations() for name in _CONSTRAINT.findall(m.sql)]
    dropped = [
        (signature, migration.version)
        for migration in migrations()
        for signature, name in _DROPPED.findall(migration.sql)
        if name not in created("function")
    ]
    values = {
        ":schema": schema,
        ":release": __version__,
        ":versions": f"{{{','.join(str(migration.version) for migration in migrations())}}}",
        ":migrations": f"{{{','.join(migration.name for migration in migrations())}}}",
        ":kinds": f"{{{','.join(kind for kind, _, _ in since)}}}",
        ":names": f"{{{','.join(name for _, name, _ in since)}}}",
        ":since": f"{{{','.join(str(version) for _, _, version in since)}}}",
        # A type may have commas, a name of a function none.
        ":dropped": json.dumps([signature for signature, _ in dropped]).replace("[", "{", 1)[:-1] + "}",
        ":dropped_by": f"{{{','.join(str(version) for _, version in dropped)}}}",
        ":earlier": json.dumps(json.loads(_text("earlier_functions.json"))),
        ":made": f"{{{','.join(created('function'))}}}",
        ":numbers": ", ".join(str(migration.version) for migration in migrations()),
        # PostgreSQL 18 has uuidv7() itself, and another of this name is not ours.
        ":pinned": f"{{{','.join(name for name in created('function') if name != 'uuidv7')}}}",
        ":tables": ",".join(created("table")),
        ":functions": ",".join(created("function")),
        ":readable": ",".join(READABLE),
        ":condition": _CONDITION,
        ":version": str(latest_version()),
        ":applied": str(len(migrations())),
        ":digest": functions_digest(),
    }
    return re.sub(rf"(?<!:)(?:{'|'.join(values)})\b", lambda name: values[name[0]], _text(file))


def pinning(schema: str = PUBLIC) -> str:
    """The part of the script that sets the search_path of every function."""
    return _filled("pin.sql", schema)


def supabase_check(schema: str = PUBLIC) -> str:
    """The query that ends the script for Supabase: a row per check, with what to do when it fails."""
    return _filled("supabase_check.sql", schema)


def render_script(*, supabase: bool = False, schema: str = PUBLIC) -> str:
    """The whole schema as one idempotent script, which stops before it writes anything where it must not be run.

    `supabase` adds what the roles of Supabase's API may do, and a check of it at the end, which the SQL editor shows.
    """
    parts = [
        f"-- The schema of ZORA's Agent Runtime {__version__}, version {latest_version()}. Safe to run more than once.",
        "begin;",
        f"{_LOCK};",
        "do $schema$\nbegin\n"
        f"if to_regnamespace('{schema}') is null then create schema {quoted(schema)}; end if;\n"
        "end\n$schema$;",
        f"set local search_path = {quoted(schema)}, pg_temp;",
        # Rows that are hidden from the role that runs the script would look like rows that are missing.
        "set local row_security = off;",
        _filled("guard.sql", schema),
        _text("bootstrap.sql"),
    ]
    parts += [
        "do $migration$\nbegin\n"
        f"if exists (select from zora_migrations where version = {migration.version}) then return; end if;\n"
        f"{migration.sql}\n"
        f"insert into zora_migrations (version, name) values ({migration.version}, '{migration.name}');\n"
        "end\n$migration$;"
        for migration in migrations()
    ]
    parts += [
        # Functions call one another; their bodies are checked when they run, so that files need no order.
        "set local check_function_bodies = off;",
        functions(),
        *([_filled("supabase.sql", schema)] if supabase else []),
        pinning(schema),
        _filled("record.sql", schema),
        "commit;",
        *([supabase_check(schema)] if supabase else []),
    ]
    return "\n\n".join(parts) + "\n"


async def installed(connection: asyncpg.Connection, schema: str = PUBLIC) -> Installed:
    """What the database has; nothing when it is empty."""
    place = quoted(schema)
    if await connection.fetchval(f"select to_regclass('{place}.zora_functions')") is None:
        return Installed()
    # As jsonb, because a database before migration 13 has not all the columns.
    said = await connection.fetchval(
        "select (to_jsonb(f) || jsonb_build_object('versions', m.versions))::text "
        f"from {place}.zora_functions as f, (select jsonb_agg(version) as versions from {place}.zora_migrations) as m"
    )
    return Installed.of(json.loads(said)) if said else Installed()


async def missing(connection: asyncpg.Connection, schema: str = PUBLIC) -> list[str]:
    """The names of the objects that the schema lacks; within a transaction."""
    await connection.execute(f"set local search_path = {quoted(schema)}, pg_temp")
    text = _body("installed_schema.sql", "missing_schema_objects", ("objects",))
    return [row[0] for row in await connection.fetch(text, list(objects()))]


async def check(connection: asyncpg.Connection, schema: str = PUBLIC) -> Installed:
    """What is installed; raises `SchemaError`, naming the remedy, unless it is one this program works with."""
    found = await installed(connection, schema)
    compare(found, remedy="run `zora migrate`")
    return found


def compare(found: Installed, *, remedy: str) -> None:
    """Raise `SchemaError` unless this program works with what the database has."""
    if found.standing == "newer" and not found.works:
        raise SchemaError(
            f"the database has schema {found.described}, this zora {__version__} knows version {latest_version()}: "
            "upgrade zora"
        )
    if found.standing != "older":
        return
    lacking = sorted({migration.version for migration in migrations()} - found.versions)
    if lacking:
        number = max(found.versions, default=0)
        behind = f"this zora needs {latest_version()}" if number < latest_version() else f"without {lacking[0]}"
        raise SchemaError(f"the database has schema version {number}, {behind}: {remedy}")
    raise SchemaError(f"the database's functions are not those of this zora: {remedy}")


def refuse_newer(found: Installed) -> None:
    """Raise `SchemaError` when a database must not be migrated by this program."""
    if found.standing == "newer":
        raise SchemaError(
            f"the database has schema {found.described}, which is newer than this zora {__version__}: nothing was "
            "changed; upgrade zora"
        )


def explain_missing(names: Sequence[str], *, remedy: str) -> str:
    """One line about missing objects, with what to do."""
    lost = [name for name in names if name.startswith(_HOLDING_DATA)]
    # A lost table's columns and indexes are lost with it.
    tables = {name.removeprefix("table ") for name in lost if name.startswith("table ")}
    shown = [name for name in lost or names if name.partition(".")[0].removeprefix("column ") not in tables]
    listed = ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
    if lost:
        return (
            f"the schema has lost {listed}, with the data: restore the database from a backup again, as docs/backup.md "
            "describes"
        )
    return f"the schema lacks {listed}: {remedy}"


async def migrate(connection: asyncpg.Connection, schema: str = PUBLIC) -> bool:
    """Bring the database to this program's schema; returns whether anything changed.

    One of Supabase gets Supabase's part, too: what is made there would else be open to everybody with the public key.
    Raises `SchemaError` when the database is newer than the program, when it has lost tables, and when objects of
    somebody else are in the way; nothing is changed then.
    """
    found = await installed(connection, schema)
    refuse_newer(found)
    supabase = await connection.fetchval(_ON_SUPABASE)
    closed = not supabase or await connection.fetchval(
        f"select to_regproc('{quoted(schema)}.zora_claimed_tenant') is not null"
    )
    if closed and found.standing == "same":
        async with connection.transaction():
            lacking = await missing(connection, schema)
        if not lacking:
            return False
        if any(name.startswith(_HOLDING_DATA) for name in lacking):
            raise SchemaError(explain_missing(lacking, remedy=""))
    try:
        await connection.execute(render_script(supabase=supabase, schema=schema))
    except asyncpg.PostgresError as error:
        await connection.execute("rollback")
        if error.sqlstate != _REFUSED:
            raise
        hint = f"{error.hint[:1].lower()}{error.hint[1:].rstrip('.')}" if error.hint else "see `zora doctor`"
        raise SchemaError(f"{error.args[0].rstrip('.')}; {hint}") from error
    await _complete(connection, schema)
    return True


async def _complete(connection: asyncpg.Connection, schema: str) -> None:
    """Make the indexes and triggers again that migrations made and the database has lost.

    Raises `SchemaError` for what cannot be made again. A role that may not be created is not an object of the schema.
    """
    async with connection.transaction():
        lacking = await missing(connection, schema)
        for name in list(lacking):
            statement = objects()[name]
            if statement is None:
                continue
            table, _, trigger = name.removeprefix("trigger ").partition(".")
            try:
                if trigger:  # it may be there, disabled
                    await connection.execute(f"drop trigger if exists {trigger} on {table}")
                await connection.execute(statement)
            except asyncpg.IntegrityConstraintViolationError as error:
                raise SchemaError(f"{name} is missing and cannot be made again: {error.args[0]}") from error
            lacking.remove(name)
        lost = [name for name in lacking if not name.startswith("access ")]
    if lost:
        raise SchemaError(explain_missing(lost, remedy="run the output of `zora schema` as the owner"))
