"""Errors over HTTP: one envelope, `{"error": {"code", "message", "details"}}`, and never the database's own text."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.routing import Match

from zora_core.errors import (
    DatabaseUnavailable,
    DataRejected,
    DuplicateKey,
    InvalidInput,
    InvalidPayload,
    InvalidState,
    NotAllowed,
    NotFound,
    UnexpectedAnswer,
    UnknownTaskType,
    ZoraError,
)

if TYPE_CHECKING:
    from zora_core.api.limits import Quota

logger = logging.getLogger("zora.api")


class Unauthorized(ZoraError):
    """There is no credential, or none that is good."""


class Forbidden(ZoraError):
    """The credential is good, but its role may not do this."""


class InvalidJson(ZoraError):
    """The body is not JSON."""


class ValidationFailed(ZoraError):
    """The request is well formed and wrong; `details` names each field and what is wrong with it."""

    def __init__(self, message: str, details: Sequence[Mapping[str, Any]] = ()) -> None:
        """`details` holds `{"field", "message"}` each."""
        super().__init__(message)
        self.details = list(details)


class RateLimited(ZoraError):
    """Too many requests; `seconds` until the next one is let through, and what `quota` is left."""

    def __init__(self, seconds: float, quota: Quota) -> None:
        """Ask to wait `seconds`."""
        super().__init__(f"too many requests: wait {max(seconds, 0.1):.1f} s")
        self.seconds = seconds
        self.quota = quota


ANSWERS: dict[type[ZoraError], tuple[int, str]] = {
    Unauthorized: (401, "UNAUTHORIZED"),
    Forbidden: (403, "FORBIDDEN"),
    NotAllowed: (403, "FORBIDDEN"),
    NotFound: (404, "NOT_FOUND"),
    InvalidJson: (400, "INVALID_JSON"),
    ValidationFailed: (400, "VALIDATION_ERROR"),
    InvalidInput: (400, "VALIDATION_ERROR"),
    InvalidPayload: (400, "VALIDATION_ERROR"),
    UnknownTaskType: (400, "VALIDATION_ERROR"),
    DataRejected: (400, "VALIDATION_ERROR"),
    InvalidState: (409, "INVALID_STATE"),
    DuplicateKey: (409, "DUPLICATE_KEY"),
    RateLimited: (429, "RATE_LIMIT_EXCEEDED"),
    DatabaseUnavailable: (503, "DATABASE_UNAVAILABLE"),
}

MAX_DETAILS = 50
MAX_TEXT = 1000  # characters of a message or a field's name, so that an answer does not grow with its request
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

# Statuses that the framework itself answers with, and the code that each gets.
_CODES = {
    400: "INVALID_JSON",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
}
_MESSAGES = {
    404: "path not found: see /docs",
    405: "method not allowed for this path: see /docs",
    413: "the body is too large: the maximum is 1 MB",
}


def error_answer(
    status: int,
    code: str,
    message: str,
    details: Sequence[Mapping[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The envelope of an error."""
    if details is not None:
        details = [{name: _shortened(text) for name, text in detail.items()} for detail in details[:MAX_DETAILS]]
    body = {"error": {"code": code, "message": _shortened(message), "details": details}}
    return Response(to_json(body), status, dict(headers or {}), "application/json")


def answer_for(error: ZoraError) -> Response:
    """The answer to an error that was raised on purpose."""
    known = next((kind for kind in type(error).__mro__ if kind in ANSWERS), None)
    if known is None:  # a fault of ours or of the installation, whose text is not for callers
        logger.error("%s: %s", type(error).__name__, error)
        return error_answer(500, "INTERNAL_ERROR", "the server is not configured correctly; see its log")
    status, code = ANSWERS[known]
    message = str(error)
    details: Any = None
    headers = {}
    match error:
        case DuplicateKey():
            pass  # it names what is taken, in our words
        case DataRejected():
            message = "a value cannot be stored: look for NUL characters, unpaired surrogates, and numbers out of range"
        case DatabaseUnavailable():
            message = "the database cannot serve this at the moment: try again later"
            headers["Retry-After"] = "1"
            logger.log(logging.ERROR if isinstance(error, UnexpectedAnswer) else logging.WARNING, "%s", error)
        case Unauthorized():
            headers["WWW-Authenticate"] = "Bearer"
        case RateLimited(seconds=seconds):
            headers["Retry-After"] = str(max(1, round(seconds + 0.5)))
        case ValidationFailed(details=found):
            details = found
    return error_answer(status, code, message, details, headers)


def internal_error() -> Response:
    """The answer to an unexpected error; the log has it, with the request's id."""
    return error_answer(500, "INTERNAL_ERROR", "internal error; see the server's log for this request's id")


def field_errors(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Pydantic's errors as `{"field", "message"}`, without the values: they may be secrets."""
    return [
        {"field": ".".join(str(part) for part in e["loc"]) or "body", "message": str(e["msg"])}
        for e in errors[:MAX_DETAILS]
    ]


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _allowed(request: Request) -> str:
    """The methods that a path takes: the framework names only those of its first route."""
    return ", ".join(
        method
        for method in _METHODS
        if any(r.matches({**request.scope, "method": method})[0] == Match.FULL for r in request.app.routes)
    )


def install(app: FastAPI) -> None:
    """Answer every error in the envelope; the middleware answers unexpected ones."""

    async def on_purpose(request: Request, error: Exception) -> Response:
        assert isinstance(error, ZoraError)
        return answer_for(error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        details = field_errors([{**e, "loc": e["loc"][1:]} for e in error.errors()])
        return error_answer(400, "VALIDATION_ERROR", _sentence(details), details)

    async def by_framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = error.status_code
        message = _MESSAGES.get(status, str(error.detail))
        headers = {"Allow": _allowed(request)} if status == 405 else error.headers
        return error_answer(status, _CODES.get(status, "INVALID_REQUEST"), message, headers=headers)

    app.add_exception_handler(ZoraError, on_purpose)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, by_framework)


def _sentence(details: Sequence[Mapping[str, str]]) -> str:
    return "; ".join(f"{d['field']}: {d['message']}" for d in details[:3])


def validation_failed(errors: Sequence[Mapping[str, Any]]) -> ValidationFailed:
    """Pydantic's errors as ours."""
    details = field_errors(errors)
    return ValidationFailed(_sentence(details), details)
