"""Waiting out a database that cannot serve calls, with backoff and deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from zora_core.database.outage import Outage
from zora_core.errors import (
    DatabaseUnavailable,
    DataRejected,
    InvalidInput,
    InvalidState,
    NotAllowed,
    NotFound,
    RetriesExhausted,
    UnexpectedAnswer,
)

if TYPE_CHECKING:
    from zora_core.database.database import Database

T = TypeVar("T")

FIRST_SECONDS, MAX_SECONDS = 0.1, 15.0
PATIENCE_SECONDS = 300.0  # for which answers that are not known to be temporary are retried
REFUSALS = (DataRejected, InvalidInput, InvalidState, NotAllowed, NotFound)
STOP_SECONDS = 2.0  # that a call in flight gets when its loop is asked to stop


async def retrying(
    database: Database | None,
    call: Callable[[], Awaitable[T]],
    *,
    unless: asyncio.Event | None = None,
    within: float | None = None,
    lasting: bool = False,
    patience: float = math.inf,
) -> T:
    """Call until the database answers, waiting longer each time (doubled from 0.1 s to 15 s, with jitter).

    `DatabaseUnavailable` is retried without end, or until it has lasted for `patience` seconds: then it is raised.
    `UnexpectedAnswer` is retried for `PATIENCE_SECONDS`: then `RetriesExhausted` is raised. Any other error is raised
    at once. An attempt that takes longer than `within` seconds (default: what the transport says) is cut off, and the
    next one gets twice as long, unless the call is a `lasting` one. Once `unless` is set, a call in flight gets
    `STOP_SECONDS`, and the next `DatabaseUnavailable` is raised. `database` is None while it is being opened: there is
    nothing to recover yet.
    """
    outage = Outage() if database is None else database.outage
    clock = asyncio.get_running_loop().time
    delay = FIRST_SECONDS
    if within is None and database is not None and not lasting:
        within = database.attempt_seconds
    failing_since: float | None = None
    unexpected_since: float | None = None
    try:
        while True:
            started = clock()
            try:
                async with _limited(within, unless):
                    answer = await call()
            except DatabaseUnavailable as error:
                failing_since = clock() if failing_since is None else failing_since
                if (unless is not None and unless.is_set()) or clock() - failing_since >= patience:
                    raise
                if not isinstance(error, UnexpectedAnswer):
                    unexpected_since = None
                elif unexpected_since is None:
                    unexpected_since = clock()
                elif clock() - unexpected_since >= PATIENCE_SECONDS:
                    raise RetriesExhausted(f"{error}; gave up after {PATIENCE_SECONDS / 60:.0f} minutes") from error
                outage.failed(error)
            else:
                outage.answered()
                return answer
            if clock() - started > MAX_SECONDS:  # it worked for a while, as a connection that listens does
                delay = FIRST_SECONDS
            await _pause(delay * random.uniform(0.5, 1.0), unless)
            delay = min(delay * 2, MAX_SECONDS)
            within = None if within is None else within * 2
            if database is not None:
                try:
                    await database.recover()
                except DatabaseUnavailable as error:
                    outage.failed(error)
    finally:
        outage.left()


def insisting(call: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """For `retrying`, a call without a person to correct it: a refusal counts as an unexpected answer.

    It comes from a trigger or a constraint that somebody has added to a table, and may be gone in a moment. A value
    that no table could store is still refused at once.
    """

    async def attempt() -> T:
        try:
            return await call()
        except REFUSALS as error:
            if isinstance(error, DataRejected) and error.unstorable:
                raise
            raise UnexpectedAnswer(f"the database refuses a call of the worker: {error}") from error

    return attempt


@asynccontextmanager
async def _limited(within: float | None, unless: asyncio.Event | None) -> AsyncIterator[None]:
    """Cut the body off after `within` seconds, or `STOP_SECONDS` after `unless` was set."""
    clock = asyncio.get_running_loop().time
    ending: asyncio.Task[None] | None = None
    limit = asyncio.timeout(within)

    async def end_soon(stopping: asyncio.Event) -> None:
        await stopping.wait()
        limit.reschedule(min(limit.when() or math.inf, clock() + STOP_SECONDS))

    try:
        async with limit:
            if unless is not None:
                ending = asyncio.create_task(end_soon(unless))
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise DatabaseUnavailable("the database does not answer") from error
    finally:
        if ending is not None:
            ending.cancel()


async def _pause(seconds: float, unless: asyncio.Event | None) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await (asyncio.Event() if unless is None else unless).wait()
