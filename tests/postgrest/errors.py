"""What goes wrong, as PostgREST says it: a status, and a body of code, message, details and hint."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg

# SQLSTATE, or the beginning of one, and its status. The longest entry that fits counts. Page: errors, status codes.
_STATUS: Mapping[str, int] = {
    "08": 503,
    "09": 500,
    "0L": 403,
    "0P": 403,
    "23503": 409,
    "23505": 409,
    "25006": 405,
    "25": 500,
    "28": 403,
    "2D": 500,
    "38": 500,
    "39": 500,
    "3B": 500,
    "40": 500,
    "53400": 500,
    "53": 503,
    "54": 500,
    "55": 500,
    "57": 500,
    "58": 500,
    "F0": 500,
    "HV": 500,
    "P0001": 400,
    "P0": 500,
    "XX": 500,
    "42883": 404,
    "42P01": 404,
    "42P17": 500,
}


@dataclass(eq=False)
class ApiError(Exception):
    """An answer that is an error; `headers` come in addition to those that every error has."""

    status: int
    code: str
    message: str
    details: str | None = None
    hint: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        said = {"code": self.code, "message": self.message, "details": self.details, "hint": self.hint}
        return json.dumps(said, ensure_ascii=False).encode()


def not_implemented(what: str) -> ApiError:
    """PGRST127, for what PostgREST does and the stand-in does not."""
    return ApiError(400, "PGRST127", "Feature not implemented", f"the stand-in for tests knows no {what}")


def status_of(sqlstate: str, *, authenticated: bool) -> int:
    """The HTTP status of an error of the database; `authenticated` means a role other than the anonymous one."""
    if sqlstate == "42501":
        return 403 if authenticated else 401
    if re.fullmatch(r"PT[1-9]\d\d", sqlstate):
        return int(sqlstate[2:])
    fitting = [beginning for beginning in _STATUS if sqlstate.startswith(beginning)]
    return _STATUS[max(fitting, key=len)] if fitting else 400


def from_database(error: asyncpg.PostgresError, *, authenticated: bool) -> ApiError:
    """What the database raised, as PostgREST forwards it."""
    sqlstate, message = str(error.sqlstate), str(error.args[0])
    if sqlstate == "PGRST":
        return _raised_in_full(message, error.detail)
    status = status_of(sqlstate, authenticated=authenticated)
    # RFC 9110: a 401 names a scheme.
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return ApiError(status, sqlstate, message, error.detail, error.hint, headers)


def _raised_in_full(message: str, detail: str | None) -> ApiError:
    """An error with the SQLSTATE PGRST, whose message and detail are JSON. Page: errors, RAISE with headers."""
    try:
        said: dict[str, Any] = json.loads(message)
        shape: dict[str, Any] = json.loads(detail or "")
        return ApiError(
            int(shape["status"]),
            str(said["code"]),
            str(said["message"]),
            said.get("details"),
            said.get("hint"),
            {str(name): str(value) for name, value in shape["headers"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(500, "PGRST121", "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error")
