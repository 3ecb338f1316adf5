"""The fire times of a cron expression in a time zone, with daylight saving as in cron's documentation.

cronsim parses the expression and finds the wall times. This module converts them to instants, because cronsim's own
conversion skips fire times where the clock changes by half an hour (Australia/Lord_Howe, `0 */2 * * *`).

Debian's cron(8): jobs that would have run in an interval that was skipped run right after it, and jobs in an interval
that is repeated run once. That holds for expressions whose minute and hour both name times. One whose minute or hour
begins with `*` runs whenever the clock shows one of its times: not in what is skipped, again in what is repeated.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache
from itertools import islice
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from zora_core.errors import InvalidInput

MAX_LENGTH = 200
NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def _pattern() -> str:
    """What a cron expression looks like, as a regular expression for JSON Schema. Ranges must also be ascending."""

    def field(value: str, alone: str = "") -> str:
        item = rf"(?:(?:\*|(?:{value})(?:-(?:{value}))?)(?:/[1-9][0-9]?)?{alone})"
        return rf"{item}(?:,{item})*"

    def names(words: str) -> str:
        return "|".join(form for word in words.split() for form in (word, word.upper(), word.title()))

    days = names("sun mon tue wed thu fri sat")
    fields = (
        field("[0-5]?[0-9]"),
        field("[01]?[0-9]|2[0-3]"),
        field("0?[1-9]|[12][0-9]|3[01]", "|L|LW"),
        field("0?[1-9]|1[0-2]|" + names("jan feb mar apr may jun jul aug sep oct nov dec")),
        field(f"[0-7]|{days}", f"|[0-7]L|(?:[0-7]|{days})#[1-5]"),
    )
    return f"^(?:{'|'.join(NAMED)}|{' +'.join(fields)})$"


PATTERN = _pattern()
_EXAMPLE = "five fields (minute, hour, day of the month, month, day of the week) as in '0 9 * * 1', or @daily"
_WRONG = {  # by cronsim's message; it says the same of a range that falls
    "Bad minute": "minute must be 0–59, ranges ascending",
    "Bad hour": "hour must be 0–23, ranges ascending",
    "Bad day-of-month": "day of the month must be 1–31, L or LW, ranges ascending, and exist in the month",
    "Bad month": "month must be 1–12 or jan–dec, ranges ascending",
    "Bad day-of-week": "day of the week must be 0–7 or sun–sat, ranges ascending",
}
_OFFSET = re.compile(r"(?i:gmt|utc|z)?\s*(?P<sign>[+-])(?P<hours>[0-9]{1,2})(?::?(?P<minutes>[0-9]{2}))?", re.ASCII)
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)  # more than any clock is ever changed by


class Cron:
    """A cron expression in a time zone."""

    def __init__(self, expression: str, timezone: str) -> None:
        """Raises `InvalidInput`, which names the value and an example of a valid one."""
        self.zone = zone(timezone)
        self._fields = _fields(expression)
        minute, hour = self._fields.split()[:2]
        self._named_times = not (minute.startswith("*") or hour.startswith("*"))
        if next(self.after(datetime(2000, 1, 1, tzinfo=UTC)), None) is None:
            raise InvalidInput(f"cron expression {expression!r} names a day that does not exist in any month")

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Every fire time after `moment`, in UTC, until the calendar ends."""
        walls = self._walls(moment.astimezone(self.zone).replace(tzinfo=None) - _DAY)
        return (instant for instant in self._instants(walls) if instant > moment)

    def before(self, moment: datetime, count: int) -> datetime:
        """A time from which on there are, up to `moment`, at least `count` fire times and few more."""
        local = moment.astimezone(self.zone).replace(tzinfo=None)
        *_, wall = local, *islice(self._walls(local, reverse=True), count)
        return wall.replace(tzinfo=self.zone).astimezone(UTC) - 2 * _DAY  # for those that a skipped interval took

    def _walls(self, start: datetime, *, reverse: bool = False) -> Iterator[datetime]:
        try:
            yield from CronSim(self._fields, start, reverse=reverse)
        except OverflowError:  # the calendar ends with the year 9999
            return

    def _instants(self, walls: Iterator[datetime]) -> Iterator[datetime]:
        """The instants of wall times, in their order: the second pass through what is repeated waits for the first."""
        repeated: list[datetime] = []
        last = None
        for wall in walls:
            first, second = (wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
            if first > second:  # the wall time is skipped
                if not self._named_times:
                    continue
                first = second = self._end_of_gap(wall)
            while repeated and repeated[0] < first:
                yield heapq.heappop(repeated)
            if first != last:  # several times of one gap run together
                yield first
            last = first
            if first < second and not self._named_times:
                heapq.heappush(repeated, second)
        yield from sorted(repeated)

    def _end_of_gap(self, wall: datetime) -> datetime:
        while True:
            wall += _MINUTE
            first, second = (wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
            if first <= second:
                return first


@cache
def zones() -> frozenset[str]:
    """The names in the tz database, without those that do not name a place."""
    return frozenset(available_timezones() - {"Factory", "localtime"})


def zone(name: str) -> ZoneInfo:
    """A time zone by its name in the tz database; raises `InvalidInput` naming some that are like it."""
    if name in zones():
        return ZoneInfo(name)
    if (offset := _OFFSET.fullmatch(name)) is not None:
        raise InvalidInput(f"unknown time zone {name!r}: use {_fixed(offset)}a place such as Europe/Berlin")
    like = " or ".join(_like(name)) if len(name) < 50 else ""
    raise InvalidInput(f"unknown time zone {name[:100]!r}: use {like or 'a name such as Europe/Berlin or UTC'}")


def _fixed(offset: re.Match[str]) -> str:
    """The zone with a fixed offset, if there is one: tz database names have the opposite sign (IANA, file etcetera)."""
    reversed_sign = "-" if offset["sign"] == "+" else "+"
    fixed = f"Etc/GMT{reversed_sign}{int(offset['hours'])}"
    if int(offset["minutes"] or 0) or fixed not in zones():
        return ""
    return f"{fixed} (the sign in these names is reversed: it is UTC{offset['sign']}{int(offset['hours'])}), or better "


def _like(name: str) -> list[str]:
    """Up to two zones: the same in another case, of that place, or nearly spelt so."""
    by_name = {known.lower(): known for known in zones()}
    by_place = {known.rpartition("/")[2]: by_name[known] for known in by_name}
    word = name.lower().replace(" ", "_")
    found = [names[word] for names in (by_name, by_place) if word in names]
    found += [by_name[near] for near in get_close_matches(word, by_name, n=2, cutoff=0.8)]
    return list(dict.fromkeys(found))[:2]


def _fields(expression: str) -> str:
    """The five fields, checked as far as cronsim checks them without looking for a day."""
    if len(expression) > MAX_LENGTH:
        raise InvalidInput(f"a cron expression has at most {MAX_LENGTH} characters, this one has {len(expression)}")
    fields = NAMED.get(expression, expression)
    try:
        if len(fields.split()) != 5:
            raise CronSimError("it must have five fields")  # six would be seconds, which cron does not know
        if fields.isascii():
            CronSim(fields, datetime(2000, 1, 1))
        if not re.fullmatch(PATTERN, expression):
            raise CronSimError("it contains something that cron does not support")
    except CronSimError as error:
        wrong = _WRONG.get(str(error), str(error))
        raise InvalidInput(f"invalid cron expression {expression!r}: {wrong}. Write {_EXAMPLE}") from error
    return fields


def _checked_cron(expression: str) -> str:
    try:
        Cron(expression, "UTC")
    except InvalidInput as error:
        raise PydanticCustomError("cron", "{problem}", {"problem": str(error)}) from error
    return expression


def _checked_zone(name: str) -> str:
    try:
        zone(name)
    except InvalidInput as error:
        raise PydanticCustomError("timezone", "{problem}", {"problem": str(error)}) from error
    return name


def _zone_schema(schema: dict[str, Any]) -> None:
    schema["enum"] = sorted(zones())


# For models. Named types, so that a schema describes each of them once.
CronText = TypeAliasType(
    "CronText",
    Annotated[
        str,
        AfterValidator(_checked_cron),
        Field(
            description="A cron expression of five fields, or a name such as @daily. Ranges ascend, days exist.",
            json_schema_extra={"pattern": PATTERN, "maxLength": MAX_LENGTH},
        ),
    ],
)
ZoneName = TypeAliasType(
    "ZoneName",
    Annotated[
        str,
        AfterValidator(_checked_zone),
        Field(description="The name of a time zone in the tz database.", json_schema_extra=_zone_schema),
    ],
)
