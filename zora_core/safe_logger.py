"""Loggers of the loops that must go on: a log handler that raises ends none of them."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose calls never raise. What a program's log handler raises is reported on stderr, if that is open."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log as `logging.Logger.log` does; every other method ends here."""
        try:
            super().log(level, msg, *args, **{**kwargs, "stacklevel": kwargs.get("stacklevel", 1) + 1})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a log handler is somebody else's code
            self._report(error)

    def handle(self, record: logging.LogRecord) -> None:
        """Hand a record to the log handlers."""
        try:
            if self.logger.isEnabledFor(record.levelno):
                self.logger.handle(record)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a log handler is somebody else's code
            self._report(error)

    def _report(self, error: BaseException) -> None:
        with contextlib.suppress(Exception):  # stderr may be closed as well, and then there is nowhere to say it
            print(f"a log handler of {self.logger.name} raised {type(error).__name__}: {error}", file=sys.stderr)


def safe_logger(name: str) -> SafeLogger:
    """The logger of this name, safe to call from the worker's loops."""
    return SafeLogger(logging.getLogger(name), {})
