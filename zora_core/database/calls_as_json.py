"""Calls as `call_functions` takes them, and its answer as rows, for transports that carry JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from struct import pack, unpack
from typing import Any
from uuid import UUID

from pydantic_core import PydanticSerializationError, to_json

from zora_core.database.database import Call, Row
from zora_core.errors import DataRejected


def as_json(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """The argument `p_calls`."""
    return [
        {"function": function, "arguments": {name: _encode(value) for name, value in arguments.items()}}
        for function, arguments in calls
    ]


def written(value: Any) -> bytes:
    """JSON text; PostgreSQL decides about NaN and infinity. Raises `DataRejected` for what JSON cannot express."""
    try:
        return to_json(value, inf_nan_mode="constants")
    except PydanticSerializationError as error:
        raise DataRejected(f"the database refuses a value: {error}", unstorable=True) from error


def from_answer(answer: Any, calls: int) -> list[list[Row]]:
    """The rows of each call, with the same Python values as over a connection.

    Raises `TypeError`, `ValueError`, `LookupError`, `AttributeError` or `ArithmeticError` unless it is an answer of
    `call_functions` to this number of calls.
    """
    return [
        [{name: _decode(type_, row[name]) for name, type_ in result["columns"]} for row in result["rows"]]
        for result, _ in zip(answer, range(calls), strict=True)
    ]


def _encode(value: Any) -> Any:
    """An argument whose JSON PostgreSQL reads as its parameter's type."""
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, list) and any(isinstance(item, bytes) for item in value):
        return [_encode(item) for item in value]
    return value


def _moment(text: str) -> datetime:
    if text.endswith("infinity"):  # as asyncpg reads it
        return (datetime.min if text.startswith("-") else datetime.max).replace(tzinfo=UTC)
    return datetime.fromisoformat(text).astimezone(UTC)


_DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "uuid": UUID,
    "timestamp with time zone": _moment,
    "date": date.fromisoformat,
    "bytea": lambda text: bytes.fromhex(text[2:]),
    "numeric": Decimal,
    "double precision": float,
    "real": lambda number: unpack("f", pack("f", float(number)))[0],  # as exact as it is stored
    '"char"': str.encode,
}


def _decode(type_: str, value: Any) -> Any:
    """A column's value as the direct connection gives it."""
    if value is None:
        return None
    if type_.endswith("[]"):
        decoder = _DECODERS.get(type_[:-2])
        return value if decoder is None else [None if item is None else decoder(item) for item in value]
    decoder = _DECODERS.get(type_)
    return value if decoder is None else decoder(value)
