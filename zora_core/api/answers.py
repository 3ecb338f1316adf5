"""Answers: one thing, a list with its pagination, and the cursors that lists go on from."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json, to_json

from zora_core.api.errors import ValidationFailed
from zora_core.models import Record

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MAX_LIMIT = 200
EXACT_UP_TO = 10_000  # how far totals are counted, and offsets reach

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Maximum number of items to return.")]
Offset = Annotated[
    int,
    Query(ge=0, le=EXACT_UP_TO, description="Number of items to skip. For deep pages use `cursor`, which is faster."),
]
Cursor = Annotated[
    str | None,
    Query(max_length=200, description="`next_cursor` of the previous page; use the same filters and no `offset`."),
]


class Pagination(BaseModel):
    """The position of a page in its list. `total` is exact up to 10,000; with `total_is_estimate` there are more."""

    model_config = ConfigDict(extra="forbid")

    limit: int
    offset: int
    total: int
    total_is_estimate: bool = False
    has_more: bool
    next_cursor: str | None = Field(
        default=None, description="Pass it as `cursor` to get the next page; null on the last page."
    )


class One(BaseModel, Generic[T]):
    """One thing."""

    data: T


class Page(BaseModel, Generic[T]):
    """A page of a list."""

    data: list[T]
    pagination: Pagination


def one(data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with one thing. Ids and times become strings; nothing is checked again."""
    return Response(to_json({"data": _plain([data])[0]}), status, headers, "application/json")


def page(
    rows: Sequence[Any], *, limit: int, offset: int, total: int, is_estimate: bool = False, cursor: str | None = None
) -> Response:
    """Answer with a page; `rows` holds one more than `limit` when there are more; `cursor` goes on after the page."""
    return listed(
        rows[:limit],
        Pagination(
            limit=limit,
            offset=offset,
            total=max(total, offset + len(rows)) if rows else total,
            total_is_estimate=is_estimate,
            has_more=len(rows) > limit,
            next_cursor=cursor if len(rows) > limit else None,
        ),
    )


def everything(rows: Sequence[Any], *, status: int = 200) -> Response:
    """Answer with a list that has one page only."""
    return listed(rows, Pagination(limit=len(rows), offset=0, total=len(rows), has_more=False), status=status)


def listed(rows: Sequence[Any], pagination: Pagination, *, status: int = 200) -> Response:
    """Answer with a list."""
    body = to_json({"data": _plain(rows), "pagination": pagination})
    return Response(body, status, None, "application/json")


def _plain(rows: Sequence[Any]) -> Sequence[Any]:
    """Rows whose ids are texts, and of records what was read.

    The driver's own kind of UUID takes ten times as long to write as any other. The first row shows which
    columns are ids; a column that is null there is not converted.
    """
    rows = [row.model_dump(exclude_unset=True, warnings=False) if isinstance(row, Record) else row for row in rows]
    if not rows or not isinstance(rows[0], dict):
        return rows
    ids = [name for name, value in rows[0].items() if isinstance(value, UUID)]
    return [row | {name: str(row[name]) for name in ids if row[name] is not None} for row in rows]


def write_cursor(*position: datetime | UUID | int) -> str:
    """Encode a list position as an opaque cursor."""
    plain = [(p - _EPOCH) // timedelta(microseconds=1) if isinstance(p, datetime) else p for p in position]
    return base64.urlsafe_b64encode(to_json(plain)).rstrip(b"=").decode()


def read_cursor(cursor: str, *kinds: type) -> list[Any]:
    """The position that `write_cursor` wrote; raises `ValidationFailed` for anything else."""
    try:
        plain = from_json(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        if not isinstance(plain, list) or len(plain) != len(kinds):
            raise ValueError("not a position")
        return [_read(value, kind) for value, kind in zip(plain, kinds, strict=True)]
    except (ValueError, TypeError, AttributeError, OverflowError, binascii.Error) as error:
        message = "not a cursor of this list: take `next_cursor` or an event's `cursor` as it is"
        raise ValidationFailed(f"cursor: {message}", [{"field": "cursor", "message": message}]) from error


def _read(value: Any, kind: type) -> Any:
    if kind is UUID:
        return UUID(value)
    if type(value) is not int or (kind is int and not -(2**31) <= value < 2**31):
        raise ValueError("not an integer")
    return _EPOCH + timedelta(microseconds=value) if kind is datetime else value


def refuse_both(cursor: str | None, offset: int) -> None:
    """A page begins at an offset or after a cursor, not at both."""
    if cursor is not None and offset:
        message = "give cursor or offset, not both"
        raise ValidationFailed(message, [{"field": "offset", "message": message}])
