"""What a SQLSTATE means to the caller, whichever transport brought it: the one place where errors are classified.

Temporary conditions are recognised by class, because a list of single codes is never complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zora_core.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DataRejected,
    DuplicateKey,
    InvalidInput,
    InvalidState,
    NotAllowed,
    NotFound,
    SchemaError,
    TooMuchAtOnce,
    UnexpectedAnswer,
    ZoraError,
)

# SQLSTATEs that our functions raise, after PostgREST's convention PT + HTTP status.
OUR_ERRORS: Mapping[str, type[ZoraError]] = {
    "PT400": InvalidInput,
    "PT403": NotAllowed,
    "PT404": NotFound,
    "PT409": InvalidState,
}

# Conditions that end without a change on our side, by the beginning of the code, the longest first; PostgREST has codes
# of its own for the first of them.
_TEMPORARY: Mapping[str, str] = {
    "25006": "the database is read-only",
    "25P0": "the database ended the transaction",
    "40P01": "a deadlock ended this call",
    "53100": "the database's disk is full",
    "53300": "the database has no free connection",
    "55P03": "a lock was not available in time",
    "08": "the database cannot be reached",
    "40": "the database rolled this call back",
    "53": "the database has run out of resources",
    "57": "the database is stopping, starting or recovering",
    "58": "the database's machine has a problem",
    "XX": "the database has an internal error",
    "PGRST000": "the database cannot be reached",
    "PGRST001": "the database cannot be reached",
    "PGRST002": "the project's API has not read the schema yet; if this lasts, the Data API is disabled or exposes a "
    "schema that does not exist (dashboard: Integrations, Data API)",
    "PGRST003": "the database has no free connection",
}

# Logins fail for a while during a failover or when a password is rotated, but only where they once worked.
_LOGIN = ("28", "3D")

# Functions, tables and columns that are missing, with PostgREST's codes for the same.
_MISSING = frozenset({"42883", "42P01", "42703", "3F000", "PGRST202", "PGRST203"})

_REJECTED = ("22", "23", "54", "PGRST102")

# Of these, what is wrong with the value whichever table it is for: encodings, numbers and times out of range, text that
# is not of its type, and limits of the server. Anything else may come from a constraint or a trigger.
_UNSTORABLE = ("22003", "22008", "22015", "22021", "22030", "22032", "22P02", "22P03", "22P05", "54", "PGRST102")


@dataclass(frozen=True, kw_only=True)
class Remedies:
    """What to do about errors that need a person, for one transport."""

    login: str
    rights: str
    schema: str


def error_for(code: str, said: str, remedies: Remedies, *, answered: bool, constraint: bool = False) -> ZoraError:
    """The error to raise for a SQLSTATE and the server's message, which must not contain its DETAIL: it quotes rows.

    `answered` says that the database has answered a call before: then a refused login is temporary, and what would
    otherwise be a mistake of the configuration may be a migration or a failover. `constraint` says that a constraint
    of a table refused the row, and not one of our functions, whose message is for callers.
    """
    if code in OUR_ERRORS:
        return OUR_ERRORS[code](said)
    if code == "57014":
        return TooMuchAtOnce(f"the database did not finish a call within its time limit: {said}")
    if problem := next((words for start, words in _TEMPORARY.items() if code.startswith(start)), None):
        return DatabaseUnavailable(f"{problem}: {said}")
    if code == "23505":
        return DuplicateKey("something with this key exists already" if constraint else said)
    if code.startswith(_REJECTED):
        return DataRejected(f"the database refuses a value: {said}", unstorable=code.startswith(_UNSTORABLE))
    if code.startswith(_LOGIN):
        problem = f"the database refuses the login: {said}"
        return DatabaseUnavailable(problem) if answered else ConfigurationError(f"{problem}; {remedies.login}")
    if code in _MISSING:
        return lasting(SchemaError(f"the database lacks a function of this zora ({said}): {remedies.schema}"), answered)
    if code == "42501":
        return lasting(ConfigurationError(f"{said}: {remedies.rights}"), answered)
    return UnexpectedAnswer(f"the database reports {said} ({code})")


def lasting(error: ZoraError, answered: bool) -> ZoraError:
    """An error that a person must correct, unless it comes after calls that succeeded: then it may pass."""
    return UnexpectedAnswer(str(error)) if answered else error
