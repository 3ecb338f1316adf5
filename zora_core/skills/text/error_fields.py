"""What the fields of a structured event or log line say: whether it reports an error, and in which words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_STATUS = ("status", "outcome", "result", "state", "conclusion", "status_code", "http_status")
_SUCCESS = ("ok", "success", "succeeded")
_EXIT = ("exit_code", "exitcode", "exitCode", "exit_status", "returncode", "return_code")
_SEVERITY = ("severity", "level", "log_level", "levelname", "lvl", "loglevel", "type")
_ERROR = ("error", "err", "error_message", "errorMessage", "exception", "exc_info", "errors")
_MESSAGE = ("message", "msg", "event", "detail", "title")
_BAD_STATUS = frozenset(
    {"failed", "failure", "error", "errored", "crashed", "lost", "timed_out", "timeout", "fatal", "aborted"}
)
_GOOD_STATUS = frozenset(
    {"ok", "completed", "succeeded", "success", "resolved", "recovered", "closed", "cancelled", "canceled", "passed"}
)
_SEVERE = frozenset({"error", "err", "critical", "crit", "fatal", "severe", "alert", "emergency", "emerg", "panic"})
_HARMLESS = frozenset({"debug", "trace", "info", "information", "notice", "ok"})
_NO_ERROR = frozenset({"", "none", "no", "null", "nil", "false", "0", "-", "ok", "[]", "{}"})


def reports_error(fields: Mapping[str, Any]) -> bool | None:
    """Whether `fields` report an error, by status before success before severity; None when they say neither.

    Statuses from 500 are HTTP's; a `level` in numbers is that of bunyan and pino, where 50 is an error. The words of a
    message decide nothing.
    """
    statuses = [_word(fields.get(key)) for key in _STATUS]
    if any(status in _GOOD_STATUS for status in statuses):
        return False
    if any(status in _BAD_STATUS or (re.fullmatch(r"5\d\d", status) is not None) for status in statuses):
        return True
    for key in _SUCCESS:
        if (value := _word(fields.get(key))) in ("true", "false"):
            return value == "false"
    for key in _EXIT:
        if re.fullmatch(r"-?\d+", value := _word(fields.get(key))):
            return int(value) != 0
    return _by_severity(fields)


def _by_severity(fields: Mapping[str, Any]) -> bool | None:
    words = {_word(fields.get(key)) for key in _SEVERITY}
    number = _word(fields.get("level"))
    if words & _SEVERE or number in ("50", "60"):
        return True
    return False if words & _HARMLESS or number in ("10", "20", "30", "40") else None


def error_text(fields: Mapping[str, Any]) -> str:
    """The error that `fields` name: a text, or the type, code and message of an error object; empty without one."""
    return ": ".join(error_parts(fields))


def error_parts(fields: Mapping[str, Any]) -> list[str]:
    """The same in pieces, each as it stands in the fields."""
    for key in _ERROR:
        value = fields.get(key)
        if isinstance(value, list):
            value = next(iter(value), None)
        if isinstance(value, Mapping):
            parts = [str(value[k]) for k in ("type", "name", "code", "message", "msg", "detail") if value.get(k)]
            if parts:
                return parts
        if isinstance(value, str) and value.strip().casefold() not in _NO_ERROR:
            return [value]
    return []


def has_error(fields: Mapping[str, Any]) -> bool:
    """Whether a field for errors holds one, or says that there is one."""
    return any(fields.get(key) is True for key in _ERROR) or bool(error_parts(fields))


def message(fields: Mapping[str, Any]) -> str:
    """What `fields` say in words; empty when they say nothing."""
    return next((value for key in _MESSAGE if isinstance(value := fields.get(key), str) and value.strip()), "")


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return re.sub(r"(?<=\w)[\s-]+(?=\w)", "_", str(value).strip().casefold()) if isinstance(value, str | int) else ""
