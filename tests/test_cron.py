"""The fire times of cron expressions, above all at both changes of the clock."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from zora_core.cron import PATTERN, Cron, zone, zones
from zora_core.errors import InvalidInput

STEP = timedelta(minutes=5)


def model(cron: str, timezone: str, since: datetime, until: datetime) -> Iterator[datetime]:
    """What cron's documentation says, by looking at a clock every five minutes, without arithmetic on time zones.

    An expression that names its minute and hour runs at the first moment at which the clock has reached its time;
    any other one whenever the clock shows its time. Minutes must be multiples of five, fields plain.
    """
    minutes, hours, days, months, weekdays = (_numbers(f, *r) for f, r in zip(cron.split(), RANGES, strict=True))
    either = cron.split()[2] != "*" and cron.split()[4] != "*"

    def shows(wall: datetime) -> bool:
        day, weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
        return (
            wall.minute in minutes
            and wall.hour in hours
            and wall.month in months
            and (day or weekday if either else day and weekday)
        )

    named = "*" not in cron.split()[0] + cron.split()[1]
    place = ZoneInfo(timezone)
    moment = since
    reached = moment.astimezone(place).replace(tzinfo=None)
    while moment < until:
        moment += STEP
        wall = moment.astimezone(place).replace(tzinfo=None)
        if not named:
            if shows(wall):
                yield moment
            continue
        new = []
        while reached < wall:
            reached += STEP
            new.append(reached)
        if any(shows(time) for time in new):
            yield moment


RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


def _numbers(field: str, first: int, last: int) -> set[int]:
    found = set()
    for part in field.split(","):
        match = re.fullmatch(r"(\*|\d+)(?:-(\d+))?(?:/(\d+))?", part)
        assert match
        low = first if match[1] == "*" else int(match[1])
        high = last if match[1] == "*" or (match[3] and not match[2]) else int(match[2] or match[1])
        found.update(range(low, high + 1, int(match[3] or 1)))
    return found


def fired(cron: str, timezone: str, since: datetime, until: datetime) -> list[datetime]:
    return list(takewhile(lambda time: time <= until, Cron(cron, timezone).after(since)))


def clock(times: list[datetime], timezone: str) -> list[str]:
    return [time.astimezone(ZoneInfo(timezone)).strftime("%d %H:%M %z") for time in times]


# For each zone the night in which the clock is changed, and what it shows in that night.
BERLIN = ("Europe/Berlin", datetime(2026, 3, 29), datetime(2026, 10, 25))
NEW_YORK = ("America/New_York", datetime(2026, 3, 8), datetime(2026, 11, 1))
LORD_HOWE = ("Australia/Lord_Howe", datetime(2026, 10, 4), datetime(2026, 4, 5))


@pytest.mark.parametrize(
    ("where", "cron", "forward", "back"),
    [
        # A time that is skipped runs right after; one that is repeated runs once, the first time.
        (BERLIN, "30 2 * * *", ["29 03:00 +0200"], ["25 02:30 +0200"]),
        (BERLIN, "0,30 2 * * *", ["29 03:00 +0200"], ["25 02:00 +0200", "25 02:30 +0200"]),
        (BERLIN, "0 2,3 * * *", ["29 03:00 +0200"], ["25 02:00 +0200", "25 03:00 +0100"]),
        (NEW_YORK, "30 2 * * *", ["08 03:00 -0400"], ["01 02:30 -0500"]),
        (NEW_YORK, "30 1 * * *", ["08 01:30 -0500"], ["01 01:30 -0400"]),
        (LORD_HOWE, "10 2 * * *", ["04 02:30 +1100"], ["05 02:10 +1030"]),
        (LORD_HOWE, "45 1 * * *", ["04 01:45 +1030"], ["05 01:45 +1100"]),
        # With * in the minute or the hour: whenever the clock shows it, not in what is skipped, twice in the repeated.
        (BERLIN, "*/30 2 * * *", [], ["25 02:00 +0200", "25 02:30 +0200", "25 02:00 +0100", "25 02:30 +0100"]),
        (
            NEW_YORK, "0 */1 * * *",
            ["08 00:00 -0500", "08 01:00 -0500", "08 03:00 -0400", "08 04:00 -0400"],
            ["01 00:00 -0400", "01 01:00 -0400", "01 01:00 -0500", "01 02:00 -0500", "01 03:00 -0500",
             "01 04:00 -0500"],
        ),
        (
            LORD_HOWE, "15,45 * * * *",
            ["04 00:15 +1030", "04 00:45 +1030", "04 01:15 +1030", "04 01:45 +1030", "04 02:45 +1100", "04 03:15 +1100",
             "04 03:45 +1100"],
            ["05 00:15 +1100", "05 00:45 +1100", "05 01:15 +1100", "05 01:45 +1100", "05 01:45 +1030", "05 02:15 +1030",
             "05 02:45 +1030", "05 03:15 +1030", "05 03:45 +1030"],
        ),
        # What cronsim by itself passes over: it goes on by real hours, from half past.
        (LORD_HOWE, "0 */3 * * *", ["04 00:00 +1030", "04 03:00 +1100"], ["05 00:00 +1100", "05 03:00 +1030"]),
        (LORD_HOWE, "0 */2 * * *", ["04 00:00 +1030", "04 04:00 +1100"],
         ["05 00:00 +1100", "05 02:00 +1030", "05 04:00 +1030"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_the_nights_in_which_the_clock_is_changed(
    where: tuple[str, datetime, datetime], cron: str, forward: list[str], back: list[str]
) -> None:
    timezone, *nights = where
    for night, expected in zip(nights, (forward, back), strict=True):
        begin = night.replace(tzinfo=ZoneInfo(timezone)).astimezone(UTC) - timedelta(minutes=1)
        end = (night + timedelta(hours=4, minutes=1)).replace(tzinfo=ZoneInfo(timezone)).astimezone(UTC)
        assert clock(fired(cron, timezone, begin, end), timezone) == expected


FIVES = st.sampled_from([str(minute) for minute in range(0, 60, 5)] + ["*/5", "*/15", "*/10", "0,30", "5-50/15"])
HOURS = st.sampled_from(["*", "*/2", "*/3", "0-4", "1", "2", "3", "0,2", "1-3", "23", "0"])
DAYS = st.sampled_from(["*", "*", "1", "4,5,29", "25-31", "1-7"])
WEEKDAYS = st.sampled_from(["*", "*", "0", "1-5", "6,0"])


@settings(max_examples=100)
@given(
    minute=FIVES,
    hour=HOURS,
    day=DAYS,
    weekday=WEEKDAYS,
    where=st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE, ("Antarctica/Troll", *BERLIN[1:])]),
)
def test_any_expression_runs_when_the_documentation_says(
    minute: str, hour: str, day: str, weekday: str, where: tuple[str, datetime, datetime]
) -> None:
    timezone, *nights = where
    cron = f"{minute} {hour} {day} * {weekday}"
    for night in nights:
        begin = night.replace(tzinfo=UTC) - timedelta(days=2)
        end = begin + timedelta(days=4)
        assert fired(cron, timezone, begin, end) == list(model(cron, timezone, begin, end)), cron


@settings(max_examples=100)
@given(minute=FIVES, hour=HOURS, weekday=WEEKDAYS, where=st.sampled_from([BERLIN, NEW_YORK]))
def test_where_the_clock_is_changed_by_whole_hours_cronsim_says_the_same(
    minute: str, hour: str, weekday: str, where: tuple[str, datetime, datetime]
) -> None:
    timezone, *nights = where
    cron = f"{minute} {hour} * * {weekday}"
    for night in nights:
        begin = night.replace(tzinfo=ZoneInfo(timezone)) - timedelta(days=1)
        theirs = [time.astimezone(UTC) for time in islice(CronSim(cron, begin), 30)]
        assert list(islice(Cron(cron, timezone).after(begin), 30)) == theirs, cron


@settings(max_examples=100)
@given(
    minute=FIVES, hour=HOURS, day=DAYS, count=st.integers(1, 300), hours=st.integers(0, 24 * 400),
    timezone=st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "UTC"]),
)  # fmt: skip
def test_the_last_fire_times_before_a_moment_are_found_backwards(
    minute: str, hour: str, day: str, count: int, hours: int, timezone: str
) -> None:
    cron = Cron(f"{minute} {hour} {day} * *", timezone)
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
    found = list(takewhile(lambda time: time <= moment, cron.after(cron.before(moment, count))))
    assert count <= len(found) <= count + 3 * 24 * 60


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("61 * * * *", "minute must be 0–59"),
        ("* 24 * * *", "hour must be 0–23"),
        ("* * 0 * *", "day of the month must be"),
        ("* * * 13 *", "month must be 1–12"),
        ("* * * * 8", "day of the week must be 0–7"),
        ("5-1 * * * *", "minute must be 0–59"),
        ("*/0 * * * *", "minute must be 0–59"),
        ("* * * *", "it must have five fields"),
        ("0 * * * * *", "it must have five fields"),
        ("@reboot", "it must have five fields"),
        ("", "it must have five fields"),
        ("٣ * * * *", "something that cron does not support"),
        ("007 * * * *", "something that cron does not support"),
        ("0 0 30 2 *", "day of the month must be"),
        ("0 0 31 2,4,6,9,11 *", "day of the month must be"),
        ("* * */20 * 1L", "names a day that does not exist"),
        ("*" + ",1" * 200 + " * * * *", "at most 200 characters"),
    ],
)
def test_an_invalid_expression_is_refused(expression: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(said)) as raised:
        Cron(expression, "UTC")
    assert expression[:20] in str(raised.value) or "characters" in said


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("Berlin", "Europe/Berlin"), ("europe/berlin", "Europe/Berlin"), ("new york", "America/New_York"),
        ("Europe/Berlni", "Europe/Berlin"), ("Mars", "a name such as"), ("", "a name such as"),
        ("../../etc/passwd", "a name such as"),
    ],
)  # fmt: skip
def test_a_time_zone_that_is_none_is_told_with_one_that_is_like_it(name: str, like: str) -> None:
    with pytest.raises(InvalidInput, match=f"unknown time zone {re.escape(repr(name))}: use .*{like}"):
        zone(name)


@pytest.mark.parametrize("name", ["GMT+2", "UTC+2", "+02:00", "+2", "gmt +02", "utc+0200", "Z+2"])
def test_an_offset_is_never_answered_with_the_zone_of_the_opposite_sign(name: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        zone(name)
    said = str(raised.value)
    assert "use Etc/GMT-2 (the sign in these names is reversed: it is UTC+2), or better a place such as Europe/" in said
    assert "Etc/GMT+2" not in said
    assert zone("Etc/GMT-2").utcoffset(datetime(2026, 1, 1)) == timedelta(hours=2)


@pytest.mark.parametrize("name", ["UTC+05:30", "GMT-15", "+99", "UTC-25:00"])
def test_an_offset_without_a_zone_is_answered_with_a_place(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"use a place such as Europe/Berlin") as raised:
        zone(name)
    assert "Etc/" not in str(raised.value)


def test_a_negative_offset_is_reversed_too() -> None:
    with pytest.raises(InvalidInput, match=r"use Etc/GMT\+5 .*it is UTC-5\)"):
        zone("UTC-05:00")


def test_a_very_long_name_is_told_at_once() -> None:
    with pytest.raises(InvalidInput, match="unknown time zone 'xxx") as raised:
        zone("x" * 1_000_000)
    assert len(str(raised.value)) < 200


def test_names_and_what_debian_does_not_know_are_taken() -> None:
    for cron, first in (
        ("@daily", "02 00:00"), ("@hourly", "01 01:00"), ("@weekly", "04 00:00"), ("@yearly", "01 00:00"),
        ("0 0 L * *", "31 00:00"), ("0 0 * * fri#2", "09 00:00"), ("0 0 * * 5L", "30 00:00"),
        ("0 0 LW * *", "30 00:00"), ("0  9 * * MON-Fri", "01 09:00"),
    ):  # fmt: skip
        (found,) = islice(Cron(cron, "UTC").after(datetime(2026, 1, 1, tzinfo=UTC)), 1)
        assert found.strftime("%d %H:%M") == first, cron
        assert re.fullmatch(PATTERN, cron)


@settings(max_examples=100)
@given(st.from_regex(PATTERN, fullmatch=True).filter(lambda text: len(text) <= 200))
def test_whatever_the_pattern_allows_is_an_expression_or_told(expression: str) -> None:
    """Only a descending range or a day that does not exist is refused, and nothing fails."""
    try:
        assert next(Cron(expression, "Europe/Berlin").after(datetime(2026, 1, 1, tzinfo=UTC))).tzinfo is UTC
    except InvalidInput as error:
        assert "-" in expression or "never comes" in str(error) or "day of the month" in str(error)


@settings(max_examples=100)
@given(st.text(alphabet="0123456789*,-/#LWAMON @\t\n٣", max_size=30))
def test_nothing_else_is_taken(expression: str) -> None:
    if not re.fullmatch(PATTERN, expression):
        with pytest.raises(InvalidInput):
            Cron(expression, "UTC")


def test_the_end_of_the_calendar_is_an_end() -> None:
    assert len(list(Cron("0 0 1 1 *", "UTC").after(datetime(9990, 6, 1, tzinfo=UTC)))) == 9


def test_there_are_zones() -> None:
    assert {"UTC", "Europe/Berlin", "Australia/Lord_Howe"} <= zones()
