"""Logging, set up in one place: a record is one line on stderr, without secrets."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from contextvars import ContextVar
from typing import TextIO

from zora_core.visible import visible

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered; the lines logged meanwhile carry it. Tasks have none."""


def set_up_logging(*, tracebacks: bool) -> None:
    """Write what our loggers ("zora" and below) and the HTTP server's say to stderr, with tracebacks if asked for.

    May be called again. Loggers above get nothing: a handler there would write the same without masking it.
    """
    handler = _Handler()
    handler.setFormatter(_Brief(tracebacks=tracebacks))
    for name in ("zora", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """Say on stderr what failed and for which record, without the record's arguments and exception: unmasked."""
        if sys.stderr is None:
            return
        with suppress(OSError):  # stderr itself is gone
            sys.stderr.write(f"ERROR a record of {record.name} at {record.pathname}:{record.lineno} was not logged\n")
            traceback.print_exc(chain=False)


class _Brief(logging.Formatter):
    """`LEVEL [request id] message`; what begins a line begins a record.

    Tracebacks only when asked for: what failed is recorded with its task in any case.
    """

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        from zora_core.masking import mask  # here, for commands that log nothing start without it

        request = request_id.get()
        head = f"{record.levelname} [{request}] " if request else f"{record.levelname} "
        line = head + record.getMessage()
        if not getattr(record, "plain", False):  # set by callers that know every part of the line
            line = mask(line)  # first, because where a line ends says where a secret may end
        line = _printable(line)
        if self._tracebacks and (record.exc_text or record.exc_info):
            shown = mask(self.formatException(record.exc_info) if record.exc_info else str(record.exc_text))
            line = "\n  ".join([line, *map(_printable, shown.split("\n"))])
        return line


def _printable(text: str) -> str:
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")
