"""Records outcomes in batches: outcomes that arrive while a batch is being recorded form the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from zora_core.autonomy.execute import MAX_ERROR, Settlement
from zora_core.database import backoff
from zora_core.database.backoff import FIRST_SECONDS, MAX_SECONDS, REFUSALS, retrying
from zora_core.errors import DataRejected, RequestTooLarge, TooMuchAtOnce, UnexpectedAnswer
from zora_core.masking import mask
from zora_core.safe_logger import safe_logger

if TYPE_CHECKING:
    from uuid import UUID

    from zora_core.database.database import Database

logger = safe_logger("zora.runtime")

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
        refused: Callable[[], None] = lambda: None,
        more: Callable[[], bool] = lambda: False,
    ) -> None:
        """Settle over this database, and call `recorded` for each run.

        `recorded` gets the row's new state, or None when the lease was lost and nothing was written. `refused` is
        called when one more outcome is `held`. Where calls are dear, a batch is waited for while `more` outcomes are to
        come.
        """
        self._database = database
        self._recorded = recorded
        self._on_refusal = refused
        self._more = more if database.pace.linger_seconds else lambda: False
        self._waiting: asyncio.Queue[Settlement] = asyncio.Queue()
        self.held: dict[UUID, Settlement] = {}
        """By lease token: the outcomes that the database has refused, and which are tried again."""

    def settle(self, settlement: Settlement) -> None:
        """Have an outcome recorded."""
        self._waiting.put_nowait(settlement)

    def release_held(self) -> None:
        """Release the tasks whose outcomes are refused, because this worker will not try these again."""
        for held in self.held.values():
            released = Settlement(id=held.id, lease_token=held.lease_token, outcome="released")
            released.refused_since = held.refused_since
            self.held[held.lease_token] = released
            self.settle(released)

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
            await self._flush([settlement for settlement in batch if settlement.lease_token not in self.held])
            for settlement in batch:
                if self.held.get(settlement.lease_token) is settlement:  # alone: it is not refused with others again
                    await self._flush([settlement])

    async def _flush(self, batch: list[Settlement]) -> None:
        """Record outcomes in one call; in two of half the size when the database does not take all of them."""
        if not batch:
            return
        try:
            answer = await retrying(self._database, lambda: self._settle(batch))
            rows = {row["lease_token"]: row for row in answer}
        except (_Refused, _TooLarge) as error:
            if len(batch) > 1:
                half = len(batch) // 2
                await self._flush(batch[:half])
                await self._flush(batch[half:])
            elif isinstance(error, _Refused):
                await self._refused(batch[0], error)
            elif not isinstance(error.__cause__, RequestTooLarge):
                self._try_later(batch[0], error)
            else:
                logger.error("the outcome of task %s could not be stored: %s", batch[0].id, error)
                await self._flush([_replaced(batch[0], "failed", f"{_NOT_STORED}: {error}")])
        else:
            for settlement in batch:
                self._done(settlement, rows.get(settlement.lease_token))

    async def _refused(self, settlement: Settlement, error: _Refused) -> None:
        """Deal with an outcome that the database refuses on its own; the others go on meanwhile.

        A value that no table can store fails its run at once. Anything else comes from a trigger or a constraint that
        somebody has added, and may be gone in a moment: it is tried again for `PATIENCE_SECONDS`, then its run has
        failed. If that is refused as well, the run's lease is let go.
        """
        clock = asyncio.get_running_loop().time
        if error.unstorable and settlement.error != _UNSTORABLE:
            logger.error("the outcome of task %s could not be stored: %s", settlement.id, error)
            await self._flush([_replaced(settlement, "failed", _UNSTORABLE)])
            return
        if settlement.refused_since is None:
            logger.warning("the database refuses the outcome of task %s: %s; trying again", settlement.id, error)
            settlement.refused_since = clock()
            self.held[settlement.lease_token] = settlement
            self._on_refusal()
        if clock() - settlement.refused_since < backoff.PATIENCE_SECONDS:
            settlement.tries += 1
            delay = min(FIRST_SECONDS * 2 ** min(settlement.tries, 10), MAX_SECONDS)
            asyncio.get_running_loop().call_later(delay, self.settle, settlement)
        elif settlement.outcome == "released" or settlement.replaced:
            logger.error(
                "gave up recording the outcome of task %s, which runs again when its lease has expired: %s",
                settlement.id,
                error,
            )
            self._done(settlement, None)
        else:
            logger.error("gave up storing the outcome of task %s: %s", settlement.id, error)
            replacement = _replaced(settlement, "failed", mask(f"{_NOT_STORED}: {error}")[:MAX_ERROR])
            replacement.refused_since = settlement.refused_since
            self.held[settlement.lease_token] = replacement
            await self._flush([replacement])

    def _done(self, settlement: Settlement, row: dict[str, Any] | None) -> None:
        self.held.pop(settlement.lease_token, None)
        self._recorded(settlement, row)

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
        except (UnexpectedAnswer, *REFUSALS) as error:
            raise _Refused(str(error), unstorable=isinstance(error, DataRejected) and error.unstorable) from error


class _Refused(Exception):
    """The database refuses these outcomes, but may take some of them; `unstorable` is as in `DataRejected`."""

    def __init__(self, message: str, *, unstorable: bool) -> None:
        super().__init__(message)
        self.unstorable = unstorable


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
        replaced=True,
    )
