"""Cron expressions in words, those that people mostly write; the others are shown as they are."""

from __future__ import annotations

from zora_core.cron import NAMED

_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


def in_words(expression: str) -> str | None:
    """What an expression means: `every day at 09:00`; None for one that takes more than a few words."""
    fields = NAMED.get(expression, expression).lower().split()
    if len(fields) != 5:
        return None
    minute, hour, day, month, weekday = fields
    if (day, month, weekday) == ("*", "*", "*"):
        often = _often(minute, hour)
        if often:
            return often
    if not (minute.isdecimal() and hour.isdecimal()):
        return None
    time = f"at {int(hour):02}:{int(minute):02}"
    match day, month, weekday:
        case "*", "*", "*":
            return f"every day {time}"
        case "*", "*", days:
            named = _weekdays(days)
            return f"{named} {time}" if named else None
        case number, "*", "*" if number.isdecimal():
            return f"on day {int(number)} of every month {time}"
        case "l", "*", "*":
            return f"on the last day of every month {time}"
        case number, of, "*" if number.isdecimal() and of.isdecimal():
            return f"on {int(number)} {_MONTHS[int(of) - 1]} {time}"
        case _:
            return None


def _often(minute: str, hour: str) -> str | None:
    """What comes several times a day, at the same distance."""
    match minute, hour:
        case (("*" | "*/1"), "*"):
            return "every minute"
        case step, "*" if _step(step, 60):
            return f"every {_step(step, 60)} minutes"
        case at, ("*" | "*/1") if at.isdecimal():
            return f"every hour at :{int(at):02}"
        case at, step if at.isdecimal() and _step(step, 24):
            return f"every {_step(step, 24)} hours at :{int(at):02}"
        case _:
            return None


def _step(field: str, of: int) -> int | None:
    """The n of `*/n` where that divides the whole, so that all distances are the same."""
    number = field.removeprefix("*/")
    return int(number) if number != field and number.isdecimal() and of % int(number) == 0 else None


def _weekdays(field: str) -> str | None:
    first, dash, last = field.partition("-")
    if dash:
        ends = [_weekday(first), _weekday(last)]
        return f"{ends[0]} to {ends[1]}" if all(ends) else None
    days = [_weekday(part) for part in field.split(",")]
    named = [f"{day}s" for day in days if day]
    if len(named) < len(days):
        return None
    return f"{', '.join(named[:-1])} and {named[-1]}" if len(named) > 1 else named[0]


def _weekday(text: str) -> str | None:
    if text.isdecimal():
        return _DAYS[int(text)] if int(text) < len(_DAYS) else None
    return next((day for day in _DAYS if day[:3].lower() == text), None)
