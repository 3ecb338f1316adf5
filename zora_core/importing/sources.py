"""Reading the original system: a database, or an export of its tables. Row by row, and nothing of it is written to.

An export is a folder with a file per table (`agent_tasks.csv`, `agent_tasks_rows.csv` as Supabase's dashboard calls it,
`.json`, or `.jsonl`), or one JSON file `{"agent_tasks": [{…}, …], …}`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from zora_core.errors import DatabaseUnavailable, InvalidInput
from zora_core.importing.exports import ExportSource, open_export
from zora_core.importing.fields import Row
from zora_core.importing.tables import OURS, TABLES, Broken, Tenant, check_columns, check_tables, row_of

CONNECT_SECONDS = 10
FETCHED = 500  # rows that the server sends at a time


class DatabaseSource:
    """Tables in a schema of a PostgreSQL database, as they were when reading began."""

    def __init__(self, connection: asyncpg.Connection, schema: str, columns: dict[str, frozenset[str]]) -> None:
        """Take over a connection whose transaction is open; `schema` is quoted for SQL."""
        self._connection = connection
        self._schema = schema
        self._columns = columns
        self._cursors = 0

    def has(self, table: str) -> bool:
        """Whether there is such a table."""
        return table in self._columns

    async def tenants(self) -> list[Tenant]:
        """Those that own rows."""
        owning = [table for table in TABLES if "tenant_id" in self._columns.get(table, ())]
        found: set[str] = set()
        for table in owning:
            query = f"select distinct tenant_id::text from {self._schema}.{table} where tenant_id is not null"
            found |= {row[0] for row in await self._connection.fetch(query)}
        slugs: dict[str, str] = {}
        if {"id", "slug"} <= self._columns.get("tenants", frozenset()):
            query = f"select id::text, slug::text from {self._schema}.tenants where id::text = any ($1)"
            slugs = {row[0]: row[1] for row in await self._connection.fetch(query, sorted(found)) if row[1]}
        return [Tenant(one, slugs.get(one)) for one in sorted(found)]

    async def rows(self, table: str, tenant: str | None) -> AsyncIterator[Row | Broken]:
        """The rows of a tenant and those of none, the oldest first."""
        owned = "tenant_id" in self._columns[table]
        condition = "where tenant_id::text = $1 or tenant_id is null" if owned else ""
        order = "created_at nulls first, id" if "created_at" in self._columns[table] else "id"
        async for row in self._select(table, f"{condition} order by {order}", *([tenant] if owned else ())):
            yield row

    async def rows_of(self, table: str, column: str, values: Collection[str]) -> list[Row | Broken]:
        """The rows that have one of these ids in a column."""
        if not self.has(table):
            return []
        return [row async for row in self._select(table, f"where {column}::text = any ($1)", sorted(values))]

    async def _select(self, table: str, rest: str, *arguments: Any) -> AsyncIterator[Row | Broken]:
        # Put together here because no version of the original has all columns; the names are those above. As JSON, so
        # that a row looks like one of an export; json, because jsonb refuses what a json column may hold.
        known = TABLES[table]
        columns = ", ".join(name for name in (*known.needed, *known.optional) if name in self._columns[table])
        query = f"select row_to_json(r)::text from (select {columns} from {self._schema}.{table} {rest}) as r"
        # A cursor in SQL: the driver's own prepares statements by name, which would stay behind in a pooler.
        self._cursors += 1
        cursor = f"zora_import_{self._cursors}"
        with _reading():
            await self._connection.execute(f"declare {cursor} no scroll cursor for {query}", *arguments)
            while rows := await self._connection.fetch(f"fetch {FETCHED} from {cursor}"):
                for (text,) in rows:
                    yield row_of(text, f"a row of {table}")
            await self._connection.execute(f"close {cursor}")


Source = DatabaseSource | ExportSource


@asynccontextmanager
async def open_source(given: str, schema: str = "public") -> AsyncIterator[Source]:
    """Open what `--from` names: a PostgreSQL URL, a folder or a JSON file.

    Raises `InvalidInput` or `DatabaseUnavailable`, saying what is wrong and never what the URL's password is.
    """
    if given.startswith(("postgres://", "postgresql://")):
        async with _open_database(given, schema) as source:
            yield source
    elif "://" in given:
        raise InvalidInput("the source is a postgresql:// URL, a folder with a file per table, or a JSON file")
    else:
        yield open_export(given)


@asynccontextmanager
async def _open_database(url: str, schema: str) -> AsyncIterator[DatabaseSource]:
    with _reading():
        connection = await _connect(url)
    try:
        with _reading():
            transaction = connection.transaction(isolation="repeatable_read", readonly=True)
            await transaction.start()
            source = await _prepared(connection, schema)
        yield source
    finally:
        connection.terminate()  # which ends the transaction, too; there is nothing in it to keep


async def _prepared(connection: asyncpg.Connection, schema: str) -> DatabaseSource:
    await connection.execute("set local timezone = 'UTC'")
    # Rather an error than a part of the rows, when policies would hide the rest.
    await connection.execute("set local row_security = off")
    rows = await connection.fetch(
        "select c.relname::text, array_agg(a.attname::text) "
        "from pg_class as c "
        "inner join pg_namespace as n on n.oid = c.relnamespace "
        "inner join pg_attribute as a on a.attrelid = c.oid "
        "where n.nspname = $1 and c.relkind in ('r', 'p', 'v', 'm') and a.attnum > 0 and not a.attisdropped "
        "group by c.relname",
        schema,
    )
    columns = {row[0]: frozenset(row[1]) for row in rows}
    where = f"the schema {schema!r} of the source"
    if OURS in columns:
        raise InvalidInput(
            f"{where} is one of this program, not of the original system: nothing needs to be imported from it "
            "(--source-schema names another schema)"
        )
    check_tables(columns, where)
    for table in TABLES.values():
        if table.name in columns:
            check_columns(table, columns[table.name], where)
    return DatabaseSource(connection, await connection.fetchval("select quote_ident($1)", schema), columns)


async def _connect(url: str) -> asyncpg.Connection:
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != "pgbouncer"]
    return await asyncpg.connect(
        urlunsplit(parts._replace(query=urlencode(query))), timeout=CONNECT_SECONDS, statement_cache_size=0
    )


@contextmanager
def _reading() -> Iterator[None]:
    """Turn the driver's errors into ours. What it says of a URL that it cannot read may repeat the password."""
    try:
        yield
    except asyncpg.PostgresError as error:
        if error.sqlstate and error.sqlstate.startswith(("28", "3D")):
            raise InvalidInput(f"the source refused the login: {error.args[0]}; check the URL of --from") from error
        raise InvalidInput(f"the source cannot be read: {error.args[0]}") from error
    except (OSError, TimeoutError, asyncpg.InternalClientError) as error:
        said = str(error) or type(error).__name__
        raise DatabaseUnavailable(f"the source cannot be reached: {said}") from error
    except (ValueError, asyncpg.InterfaceError) as error:
        raise InvalidInput(
            "the URL of --from cannot be read: it is postgresql://user:password@host:port/database, and in a password "
            "the characters : / @ ? # % are written as %3A %2F %40 %3F %23 %25"
        ) from error


def masked(given: str) -> str:
    """What `--from` names, with *** for a password."""
    if not given.startswith(("postgres://", "postgresql://")):
        return given
    try:
        parts = urlsplit(given)
        name, _, host = parts.netloc.rpartition("@")
        user, colon, _ = name.partition(":")
        query = "&".join(
            f"{name}={'***' if name == 'password' else value}"
            for name, _, value in (one.partition("=") for one in parts.query.split("&"))
            if name
        )
        netloc = f"{user}{':***' if colon else ''}{'@' if name else ''}{host}"
        return urlunsplit((parts.scheme, netloc, parts.path, query, ""))
    except ValueError:
        return "postgresql://***"
