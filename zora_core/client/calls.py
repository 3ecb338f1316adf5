"""Calls of SQL functions, and rows as typed records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar
from uuid import UUID

from pydantic import ValidationError

from zora_core.errors import NotFound
from zora_core.models import Record
from zora_core.storable import check_storable

R = TypeVar("R", bound=Record)
V = TypeVar("V")

Records = list[R]
"""A list of records, for the sections: they have methods of the name `list`."""


class Count(Record):
    """A number of rows. It is exact up to the limit asked for; `is_estimate` says that there are more."""

    total: int
    is_estimate: bool


class Transport(Protocol):
    """What carries a call to the database: a `Database`, or something that hands calls on to one."""

    async def call(self, function: str, /, **arguments: Any) -> list[dict[str, Any]]:
        """See `Database.call`."""
        ...


class Calls:
    """Calls functions, all with the same tenant or all without one, and makes records of their rows."""

    def __init__(self, transport: Transport, tenant_id: UUID | None = None) -> None:
        """With `tenant_id`, every call gives it to its function."""
        self.transport = transport
        self.tenant_id = tenant_id

    async def rows(self, function: str, /, **arguments: Any) -> list[dict[str, Any]]:
        """The rows as they come.

        Raises `InvalidInput` for a text that PostgreSQL cannot store, before anything is sent, and what
        `Database.call` raises.
        """
        for name, value in arguments.items():
            check_storable(value, name)
        if self.tenant_id is not None:
            arguments["tenant_id"] = self.tenant_id
        return await self.transport.call(function, **arguments)

    async def all(self, record: type[R], function: str, /, **arguments: Any) -> list[R]:
        """All rows."""
        return records(record, await self.rows(function, **arguments))

    async def first(self, record: type[R], function: str, /, **arguments: Any) -> R | None:
        """The first row; None when there is none."""
        rows = await self.rows(function, **arguments)
        return _read(record, rows[0]) if rows else None

    async def one(self, record: type[R], function: str, /, **arguments: Any) -> R:
        """The row of a function that gives one, or raises an error of its own."""
        found = await self.first(record, function, **arguments)
        if found is None:
            raise NotFound(f"{function} found nothing")
        return found

    async def value(self, kind: type[V], function: str, /, **arguments: Any) -> V:
        """The value of a function that gives a single one, which is a `kind`."""
        value = await self.optional(kind, function, **arguments)
        assert value is not None, f"{function} gave null"
        return value

    async def optional(self, kind: type[V], function: str, /, **arguments: Any) -> V | None:
        """The value of a function that gives a single one; None for null."""
        (row,) = await self.rows(function, **arguments)
        value = next(iter(row.values()))
        if kind is float and type(value) is int:  # JSON does not tell 1.0 from 1
            value = float(value)
        assert value is None or isinstance(value, kind), f"{function} gave {type(value).__name__}, not {kind.__name__}"
        return value

    async def do(self, function: str, /, **arguments: Any) -> None:
        """Call a function for what it does."""
        await self.rows(function, **arguments)


class Section:
    """A part of the client: the functions about one subject."""

    def __init__(self, tenant: Calls, everyone: Calls) -> None:
        """`tenant` calls functions for one tenant, `everyone` those that know no tenant."""
        self._tenant = tenant
        self._everyone = everyone


def records(record: type[R], rows: Iterable[dict[str, Any]]) -> list[R]:
    """Rows as records."""
    return [_read(record, row) for row in rows]


def _read(record: type[R], row: dict[str, Any]) -> R:
    """A row as a record. JSON that another program has stored in another shape is given as it is, and hides no row."""
    try:
        return record.model_validate(row)
    except ValidationError:
        return record.model_construct(**{name: row[name] for name in record.model_fields if name in row})
