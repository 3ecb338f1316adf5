"""Calls on a connection of your program, inside its open transaction: asyncpg, psycopg or SQLAlchemy.

A call is one statement with one text parameter (`call_functions`), because drivers differ in how they take ids, times
and JSON. Nothing is committed, rolled back or tried again here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from zora_core.database.calls_as_json import as_json, from_answer, written
from zora_core.database.database import Row
from zora_core.database.schema import PUBLIC, quoted
from zora_core.database.sqlstate import Remedies, error_for
from zora_core.database.unreadable import read_json
from zora_core.errors import ConfigurationError

_REMEDIES = Remedies(
    login="check how your program connects",
    rights="the role of your connection needs the right to execute ZORA's functions and to use its tables",
    schema="run `zora migrate` on this database, and set ZORA_SCHEMA if ZORA has a schema of its own",
)


class BorrowedConnection:
    """Calls functions on an open connection, which the caller keeps."""

    def __init__(self, connection: Any, schema_name: str = PUBLIC) -> None:
        """Raises `ConfigurationError` for a connection of another kind than those named above."""
        self._run = _runner(connection, f"select {quoted(schema_name)}.call_functions(")

    async def call(self, function: str, /, **arguments: Any) -> list[Row]:
        """See `Database.call`."""
        try:
            said = await self._run(written(as_json([(function, arguments)])).decode())
        except Exception as error:
            ours = _error(error)
            if ours is error:
                raise
            raise ours from error
        (rows,) = from_answer(read_json(said), 1)
        return rows


def _runner(connection: Any, beginning: str) -> Callable[[str], Awaitable[str]]:
    """A function that runs the call whose arguments it is given, and returns the answer as text."""
    packages = {kind.__module__.partition(".")[0] for kind in type(connection).__mro__}
    if "asyncpg" in packages and not hasattr(connection, "acquire"):  # a pool would commit each call

        async def run(calls: str) -> str:
            return str(await connection.fetchval(f"{beginning}$1::text::jsonb)::text", calls))

    elif "psycopg" in packages and hasattr(connection, "execute"):

        async def run(calls: str) -> str:
            from psycopg.rows import tuple_row

            cursor = connection.cursor(row_factory=tuple_row)
            await _awaited(cursor.execute(f"{beginning}%s::text::jsonb)::text", [calls]))
            (said,) = await _awaited(cursor.fetchone())
            return str(said)

    elif "sqlalchemy" in packages and hasattr(connection, "execute"):

        async def run(calls: str) -> str:
            from sqlalchemy import text

            statement = text(f"{beginning}cast(cast(:calls as text) as jsonb))::text".replace("::", r"\:\:"))
            result = await _awaited(connection.execute(statement, {"calls": calls}))
            return str(result.scalar_one())

    else:
        raise ConfigurationError(
            f"cannot use a {type(connection).__module__}.{type(connection).__qualname__} as a connection: pass an open "
            "connection of asyncpg or psycopg, or a connection or session of SQLAlchemy"
        )
    return run


async def _awaited(value: Any) -> Any:
    """The value, also of a driver that blocks: a synchronous connection is used as it is."""
    return await value if isinstance(value, Awaitable) else value


def _error(error: Exception) -> Exception:
    """Our error for a driver's, as every transport raises it; any other error as it is."""
    wrapped = getattr(error, "orig", None) or error  # by SQLAlchemy, for some drivers twice
    raised = [one for one in (wrapped, wrapped.__cause__) if one is not None]
    diagnoses = [getattr(one, "diag", one) for one in raised]

    def first(*names: str) -> str | None:
        found = (getattr(one, name, None) for name in names for one in (*diagnoses, *raised))
        return next((str(value) for value in found if value), None)

    code = first("sqlstate", "pgcode")
    if code is None:
        return error
    said = first("message_primary", "message") or str(wrapped)
    return error_for(code, said, _REMEDIES, answered=False, constraint=first("constraint_name") is not None)
