"""Trying again while the database cannot be reached."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from zora_core.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from zora_core.database.database import Database

logger = logging.getLogger("zora.runtime")
T = TypeVar("T")

FIRST_SECONDS, MAX_SECONDS = 0.1, 15.0


async def retrying(database: Database, call: Callable[[], Awaitable[T]], *, unless: asyncio.Event | None = None) -> T:
    """Call until the database answers, waiting longer each time (doubled from 0.1 s to 15 s, with jitter).

    Once `unless` is set, the next `DatabaseUnavailable` is raised instead of waited for.
    """
    delay = FIRST_SECONDS
    unless = unless or asyncio.Event()
    while True:
        try:
            return await call()
        except DatabaseUnavailable as error:
            if unless.is_set():
                raise
            logger.warning("%s; trying again in %.1f s", error, delay)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(unless.wait(), delay * random.uniform(0.5, 1.0))
        delay = min(delay * 2, MAX_SECONDS)
        try:
            await database.recover()
        except DatabaseUnavailable as error:
            logger.warning("the embedded database does not start: %s", error)
