"""Records outcomes in batches: outcomes that arrive while a batch is being recorded form the next one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from zora_core.autonomy.backoff import FIRST_SECONDS, MAX_SECONDS, insisting, retrying
from zora_core.autonomy.execute import Settlement
from zora_core.errors import DataRejected, RequestTooLarge, TooMuchAtOnce, UnexpectedAnswer

if TYPE_CHECKING:
    from zora_core.database.database import Database

logger = logging.getLogger("zora.runtime")

MAX_BATCH = 200
MAX_TRIES = 10  # of an outcome that the database does not take, although it is the only one of its call
T = TypeVar("T")


class Settler:
    """Settles runs; `run()` must be running as a task."""

    def __init__(
        self,
        database: Database,
        *,
        recorded: Callable[[Settlement, dict[str, Any] | None], None],
        more: Callable[[], bool] = lambda: False,
    ) -> None:
        """Settle over this database, and call `recorded` for each run.

        `recorded` gets the row's new state, or None when the lease was lost and nothing was written. Where calls are
        dear, a batch is waited for while `more` outcomes are to come.
        """
        self._database = database
        self._recorded = recorded
        self._more = more if database.pace.linger_seconds else lambda: False
        self._waiting: asyncio.Queue[Settlement] = asyncio.Queue()

    def settle(self, settlement: Settlement) -> None:
        """Have an outcome recorded."""
        self._waiting.put_nowait(settlement)

    async def run(self) -> None:
        """Flush for ever: at once when idle, in batches when busy; a lost database is waited for."""
        while True:
            batch = [await self._waiting.get()]
            until = asyncio.get_running_loop().time() + self._database.pace.linger_seconds
            while len(batch) < MAX_BATCH:
                if self._waiting.empty():
                    if not self._more():
                        break
                    try:
                        async with asyncio.timeout_at(until):
                            batch.append(await self._waiting.get())
                    except TimeoutError:
                        break
                else:
                    batch.append(self._waiting.get_nowait())
            await self._flush(batch)

    async def _flush(self, batch: list[Settlement]) -> None:
        """Record outcomes in one call; in two of half the size when the database does not take all of them."""
        try:
            answer = await retrying(self._database, insisting(lambda: self._settle(batch)))
            rows = {row["lease_token"]: row for row in answer}
        except (DataRejected, _TooLarge) as error:
            if len(batch) > 1:
                half = len(batch) // 2
                await self._flush(batch[:half])
                await self._flush(batch[half:])
            elif isinstance(error, _TooLarge) and not isinstance(error.__cause__, RequestTooLarge):
                self._try_later(batch[0], error)
            else:
                logger.error("the outcome of task %s could not be stored: %s", batch[0].id, error)
                said = f"{_NOT_STORED}: {error}" if isinstance(error, _TooLarge) else _UNSTORABLE
                await self._flush([_replaced(batch[0], "failed", said)])
        else:
            for settlement in batch:
                self._recorded(settlement, rows.get(settlement.lease_token))

    def _try_later(self, settlement: Settlement, error: _TooLarge) -> None:
        """Try an outcome again after the others, for about a minute; after that its run has failed."""
        settlement.tries += 1
        if settlement.tries < MAX_TRIES:
            delay = min(FIRST_SECONDS * 2**settlement.tries, MAX_SECONDS)
        else:
            logger.error("gave up storing the outcome of task %s after %s tries: %s", settlement.id, MAX_TRIES, error)
            settlement, delay = _replaced(settlement, "error", f"{_NOT_STORED}: {error}"), 0
        asyncio.get_running_loop().call_later(delay, self.settle, settlement)

    async def _settle(self, batch: list[Settlement]) -> list[dict[str, Any]]:
        try:
            return await self._database.call(
                "settle_agent_tasks",
                ids=[s.id for s in batch],
                lease_tokens=[s.lease_token for s in batch],
                outcomes=[s.outcome for s in batch],
                summaries=_column([s.summary for s in batch]),
                results=_column([s.result for s in batch]),
                errors=_column([s.error for s in batch]),
                failure_kinds=_column([s.failure_kind for s in batch]),
                delays=_column([s.delay for s in batch]),
            )
        except TooMuchAtOnce as error:
            smaller = batch[0].result is not None or (isinstance(error, RequestTooLarge) and batch[0].summary)
            if len(batch) == 1 and not smaller:  # as small as can be: it is the database that is slow
                raise
            raise _TooLarge(str(error)) from error
        except DataRejected as error:
            if all(settlement.error == _UNSTORABLE for settlement in batch):  # there is no value left to blame
                raise UnexpectedAnswer(f"the database refuses a call of the worker: {error}") from error
            raise


class _TooLarge(Exception):
    """The database or a gateway did not take these outcomes, but may take fewer."""


def _column(values: list[T | None]) -> list[T | None]:
    """The values, or none at all when all are null: `unnest` fills them up, and the driver looks at every element."""
    return values if any(value is not None for value in values) else []


_NOT_STORED = "the handler's outcome could not be stored"
_UNSTORABLE = (
    "the handler's outcome holds something that PostgreSQL cannot store, such as a NUL character, an unpaired "
    "surrogate or a number that is not one"
)


def _replaced(settlement: Settlement, outcome: str, error: str) -> Settlement:
    """What is recorded instead of an outcome that cannot be."""
    return Settlement(
        id=settlement.id,
        lease_token=settlement.lease_token,
        outcome=outcome,
        failure_kind="error",
        error=error,
    )
