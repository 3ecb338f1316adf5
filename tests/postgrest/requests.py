"""What a request asks for: preferences, media types, the range of rows, and arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from tests.postgrest.errors import ApiError, not_implemented

OBJECT = "application/vnd.pgrst.object+json"
JSON = "application/json"

# Query parameters with a meaning of their own, which are no arguments. Pages: api/tables_views, api/pagination_count.
_RESERVED = frozenset(
    {"select", "order", "columns", "limit", "offset", "on_conflict", "and", "or", "not.and", "not.or"}
)
_PREFERENCES: Mapping[str, re.Pattern[str]] = {
    "handling": re.compile(r"strict|lenient"),
    "timezone": re.compile(r".+"),
    "return": re.compile(r"minimal|headers-only|representation"),
    "count": re.compile(r"exact|planned|estimated"),
    "resolution": re.compile(r"merge-duplicates|ignore-duplicates"),
    "missing": re.compile(r"default|null"),
    "max-affected": re.compile(r"\d+"),
}


@dataclass(frozen=True)
class Preferences:
    """The header Prefer, as far as it concerns functions. `tx` is disabled by default, and is here."""

    strict: bool = False
    timezone: str | None = None
    count: bool = False
    max_affected: int | None = None
    applied: tuple[str, ...] = ()

    @classmethod
    def of(cls, header: str) -> Preferences:
        """Read the header; raises `ApiError` (PGRST122) for what is unknown when handling is strict."""
        given = [one.strip() for one in header.split(",") if one.strip()]
        known: dict[str, str] = {}
        unknown = []
        for one in given:
            name, _, value = one.partition("=")
            if name in _PREFERENCES and _PREFERENCES[name].fullmatch(value):
                known.setdefault(name, value)
            else:
                unknown.append(one)
        strict = known.get("handling") == "strict"
        if strict and unknown:
            raise ApiError(
                400,
                "PGRST122",
                "Invalid preferences given with handling=strict",
                f"Invalid preferences: {', '.join(unknown)}",
            )
        if known.get("count") in ("planned", "estimated"):
            raise not_implemented(f"count={known['count']}")
        if not strict:
            known.pop("max-affected", None)
        applied = [name for name in ("handling", "timezone", "count", "max-affected") if name in known]
        return cls(
            strict=strict,
            timezone=known.get("timezone"),
            count="count" in known,
            max_affected=int(known["max-affected"]) if "max-affected" in known else None,
            applied=tuple(f"{name}={known[name]}" for name in applied),
        )


def accepted(header: str | None) -> str:
    """The media type to answer with. Raises `ApiError` (PGRST107) when none of those accepted is one of ours."""
    wanted = []
    for place, one in enumerate((header or "*/*").split(",")):
        kind, *parameters = [part.strip() for part in one.split(";")]
        quality = next((float(p[2:]) for p in parameters if re.fullmatch(r"q=[\d.]+", p)), 1.0)
        wanted.append((-quality, place, kind, [p for p in parameters if not p.startswith("q=")]))
    for _, _, kind, parameters in sorted(wanted):
        if "nulls=stripped" in parameters:
            raise not_implemented("nulls=stripped")
        if kind in ("application/vnd.pgrst.object", OBJECT):
            return OBJECT
        if kind in (JSON, "*/*", "application/*"):
            return JSON
        if kind == "text/csv" or kind.startswith("application/vnd.pgrst.") or kind == "application/geo+json":
            raise not_implemented(f"media type {kind}")
    types = ", ".join(kind for _, _, kind, _ in wanted)
    raise ApiError(406, "PGRST107", f"None of these media types are available: {types}")


@dataclass(frozen=True)
class Range:
    """Which rows of a set; no end without a limit."""

    offset: int = 0
    limit: int | None = None

    @classmethod
    def of(cls, query: Sequence[tuple[str, str]], header: str | None) -> Range:
        """Read limit and offset, and the header Range, which counts for GET alone and only without the other two.

        Raises `ApiError` (PGRST103) for a range that cannot be.
        """
        given = {name: value for name, value in query if name in ("limit", "offset")}
        for name, value in given.items():
            if not re.fullmatch(r"-?\d{1,18}", value):
                raise ApiError(400, "PGRST100", f"{name} is not a whole number: {value}")
            if value.startswith("-"):
                _no_range(f"{name.capitalize()} should be greater than or equal to zero.")
        if given:
            return cls(int(given.get("offset", 0)), int(given["limit"]) if "limit" in given else None)
        match = re.fullmatch(r"(?:items=)?(\d{1,18})-(\d{0,18})", (header or "").strip())
        if match is None:
            return cls()
        first = int(match[1])
        if not match[2]:
            return cls(first)
        if int(match[2]) < first:
            _no_range("The lower boundary must be lower than or equal to the upper boundary in the Range header.")
        return cls(first, int(match[2]) - first + 1)


def _no_range(details: str) -> NoReturn:
    raise ApiError(416, "PGRST103", "Requested range not satisfiable", details)


def refuse_filters(names: Sequence[str]) -> None:
    """Refuse what would shape or filter a result."""
    for name in names:
        if name not in ("limit", "offset"):
            raise not_implemented(f"query parameter {name}")


def arguments_of_query(query: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The arguments of a GET, each with its values in order."""
    refuse_filters([name for name, _ in query if name in _RESERVED])
    arguments: dict[str, list[str]] = {}
    for name, value in query:
        if name not in _RESERVED:
            arguments.setdefault(name, []).append(value)
    return arguments


def arguments_of_body(body: bytes) -> list[str] | None:
    """The names of the arguments in a body of JSON; None for a value that is not an object.

    Raises `ApiError` (PGRST102) for an empty body, for what is not JSON, and for an object that names a key twice.
    """
    if not body.strip():
        raise _no_body("Empty body")
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_Pairs, parse_constant=_no_constant, parse_int=str, parse_float=str
        )
    except (ValueError, RecursionError) as error:
        raise _no_body("Empty or invalid json") from error
    if not isinstance(value, _Pairs):
        return None
    names = [name for name, _ in value]
    if len(set(names)) < len(names):
        raise _no_body("An argument is given twice")
    return names


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON as it was written."""


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _no_body(message: str) -> ApiError:
    return ApiError(400, "PGRST102", message)


def content_type_of(header: str | None) -> str:
    """The content type of a body. Raises `ApiError` when it is none that functions take."""
    kind = (header or "").partition(";")[0].strip().lower()
    if kind in (JSON, "application/octet-stream", "text/plain", "text/xml"):
        return kind
    if kind in ("application/x-www-form-urlencoded", "text/csv"):
        raise not_implemented(f"body of the type {kind}")
    raise _no_body(f"Content-Type not acceptable: {kind or 'none'}")
