"""Reading the fields of a row of the original, and saying why a row has no place here.

A row may come from a database or from an export, where everything is text: a field is read for what it means, not for
the type that it has.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from zora_core.agents.agent import Registry

Row = Mapping[str, Any]

# Either naming, from before and after 2025-12-02 ("Nordic rename"). TYR took over from LUMINA and AEGIS: the task type
# says which of the two is meant; where it does not, TYR's own description (ethics, safety) does.
AGENTS: dict[str, tuple[str, ...]] = {
    "CONNOR": ("CONNOR",),
    "LUMINA": ("LUMINA",),
    "EIVOR": ("EIVOR",),
    "ORACLE": ("ORACLE",),
    "AEGIS": ("AEGIS",),
    "SAM": ("SAM",),
    "ODIN": ("CONNOR",),
    "TYR": ("AEGIS", "LUMINA"),
    "BALDUR": ("SAM",),
    "HEIMDALL": ("ORACLE",),
}
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
MAX_DEPTH = 100  # of nested values; what a parser of another program makes of more is anybody's guess
MAX_INTEGER = 2**31 - 1


@dataclass(frozen=True)
class Taken:
    """A row of ours, as `import_records` takes it, and what there is to say about it."""

    row: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """Why a row of the original is nothing here."""

    reason: str


Mapped = Taken | Refused


class NoPlace(Exception):
    """A row has no place here; says why."""


@dataclass(frozen=True)
class Context:
    """What mapping needs besides the row: the task types that there are, and the present."""

    registry: Registry
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def agents_of(self, task_type: str) -> list[str]:
        """The agents that know a task type."""
        return [known.agent_id.value for known in self.registry if known.name == task_type]


def maps(function: Callable[..., Taken]) -> Callable[..., Mapped]:
    """Turn what has no place into a refusal, and refuse what the database cannot hold."""

    def mapped(row: Row, context: Context, *more: Any) -> Mapped:
        try:
            if problem := unstorable([row, *more]):
                raise NoPlace(problem)
            return function(row, context, *more)
        except NoPlace as error:
            return Refused(str(error))

    return mapped


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def unstorable(value: Any) -> str | None:
    """Why PostgreSQL could not hold a value, or None when it can."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for one in level:
            if isinstance(one, str):
                if _UNSTORABLE.search(one):
                    return "it holds a character that PostgreSQL does not store (U+0000, or half of one)"
            elif isinstance(one, float) and not math.isfinite(one):
                return "it holds a number that is none (infinity or NaN)"
            elif isinstance(one, Mapping):
                below += [*one.keys(), *one.values()]
            elif isinstance(one, list | tuple):
                below += one
        if not below:
            return None
        level = below
    return f"it is nested more than {MAX_DEPTH} levels deep"


def shown(value: Any) -> str:
    """A value of the original in a reason: its beginning, in quotation marks."""
    said = value if isinstance(value, str) else json.dumps(value, default=str)
    return repr(said if len(said) <= 60 else f"{said[:59]}…")


def optional_text(row: Row, name: str) -> str | None:
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | int | float | Decimal):
        return str(value)
    raise NoPlace(f"its {name} is not text")


def text_of(row: Row, name: str, limit: int | None = None) -> str:
    value = optional_text(row, name)
    if value is None or not value.strip():
        raise NoPlace(f"it has no {name}")
    if limit is not None and len(value) > limit:
        raise NoPlace(f"its {name} has more than {limit} characters")
    return value


def word_of(row: Row, name: str, limit: int = 100) -> str:
    """The value of an enumeration."""
    return text_of(row, name, limit).strip().lower()


def moment_of(row: Row, name: str) -> datetime | None:
    """A time; without a zone it is in UTC, as the original's exports are."""
    value = row.get(name)
    if value in (None, ""):
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise NoPlace(f"its {name} is not a time: {shown(value)}") from error
    if not EARLIEST <= moment < LATEST:
        raise NoPlace(f"its {name} lies outside of the years 1970 to 9998: {shown(value)}")
    return moment


def iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def created_of(row: Row, context: Context) -> datetime:
    """When it was made. What claims to be from the future would stay the newest for ever."""
    moment = moment_of(row, "created_at")
    if moment is None:
        raise NoPlace("it has no created_at")
    if moment > context.now + timedelta(days=1):
        raise NoPlace(f"its created_at lies in the future: {shown(row['created_at'])}")
    return moment


def number_of(value: Any) -> Decimal | None:
    """A finite number of a size that makes sense, or None when it is none."""
    if value is None or isinstance(value, bool):
        return None
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number) < Decimal("1e15") else None


def flag_of(row: Row, name: str) -> bool | None:
    value = row.get(name)
    if value is None or isinstance(value, bool):
        return value
    if str(value).strip().lower() in ("true", "t", "1", "yes"):
        return True
    if str(value).strip().lower() in ("false", "f", "0", "no", ""):
        return False
    raise NoPlace(f"its {name} is neither true nor false: {shown(value)}")


def json_of(row: Row, name: str) -> Any:
    """A column of JSON, which an export may hold as text."""
    value = row.get(name)
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        found = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise NoPlace(f"its {name} is not JSON") from error
    if problem := unstorable(found):
        raise NoPlace(problem)
    return found


def object_of(row: Row, name: str) -> dict[str, Any]:
    value = json_of(row, name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise NoPlace(f"its {name} is not a JSON object")
    return value


_ELEMENT = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^",{}\\]*))\s*(,|\})')


def texts_of(row: Row, name: str) -> list[str]:
    """An array of texts: a list, JSON, or `{a,"b c"}` as PostgreSQL writes it."""
    value = row.get(name)
    if isinstance(value, str) and value.strip().startswith("{") and value.strip().endswith("}"):
        return _braces(value.strip(), name)
    found = json_of(row, name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise NoPlace(f"its {name} must be a list of texts")
    return found


def _braces(value: str, name: str) -> list[str]:
    found: list[str] = []
    position = 1
    while value != "{}":
        match = _ELEMENT.match(value, position)
        if match is None:
            raise NoPlace(f"its {name} must be a list of texts")
        quoted, plain, end = match.groups()
        if quoted is not None:
            found.append(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
        elif plain != "NULL":
            found.append(plain)
        position = match.end()
        if end == "}":
            break
    return found


def id_of(row: Row, name: str = "id") -> str:
    return text_of(row, name, 200).strip().lower()


def agent_of(name: str, task_type: str | None, context: Context) -> tuple[str, tuple[str, ...]]:
    """Our agent for a name of either naming, and what there is to say about it."""
    named = name.strip().upper()
    candidates = AGENTS.get(named)
    if candidates is None:
        raise NoPlace(f"the agent {shown(named)} has no counterpart here")
    knowing = context.agents_of(task_type) if task_type else []
    for candidate in candidates:
        if candidate in knowing:
            return candidate, ()
    if len(candidates) > 1:
        return candidates[0], (f"{named}, who took over from {' and '.join(candidates)}, was taken as {candidates[0]}",)
    return candidates[0], ()


def remaining(row: Row, *names: str) -> dict[str, Any]:
    """The columns that we have no column for, as far as they say something."""
    return {name: row[name] for name in names if row.get(name) not in (None, "", {}, [], "{}", "[]")}


def base_of(row: Row, table: str) -> dict[str, Any]:
    return {"source_table": table, "source_id": id_of(row)}


def tenant_of(row: Row) -> str | None:
    """The tenant that a row belongs to; None when it says none, or nothing that is one."""
    value = row.get("tenant_id")
    try:
        return str(UUID(str(value).strip())) if value not in (None, "") else None
    except ValueError:
        return None
