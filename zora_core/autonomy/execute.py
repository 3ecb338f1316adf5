"""Running one claimed task: from its row to the outcome to record. Nothing is written here.

Every return value and exception of a handler becomes an outcome; only a GeneratorExit leaves `execute`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json

from zora_core.agents.agent import Delegate, Registry, Snooze, run_handler
from zora_core.agents.evidence import MAX_RESULT_BYTES, masked
from zora_core.database.unreadable import MAX_DIGITS, is_readable
from zora_core.effects import effect_of
from zora_core.errors import FalseEvidence, InvalidInput, InvalidPayload, UnknownTaskType, described
from zora_core.graph import ordered, references, resolve
from zora_core.masking import mask
from zora_core.models import Task, TaskResult
from zora_core.safe_logger import safe_logger
from zora_core.storable import MAX_DEPTH, check_storable, storable

if TYPE_CHECKING:
    from zora_core.agents.agent import TaskType
    from zora_core.agents.context import TaskContext
    from zora_core.autonomy.lane import Lane

logger = safe_logger("zora.runtime")

MAX_MESSAGE = 500  # characters of a progress message that are kept
MAX_ERROR = 4000
SPARED_SECONDS = 10.0  # until a task runs again that another task's handler has cancelled
MAX_CHILDREN = 100  # as in delegate_agent_task(), so that a longer list is refused before it is looked at


@dataclass(slots=True, kw_only=True)
class Settlement:
    """What a run reports to `settle_agent_tasks`; see there for the meaning of `outcome`."""

    id: UUID
    lease_token: UUID
    outcome: str
    summary: str | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    failure_kind: str | None = None
    delay: float | None = None
    tries: int = 0
    """How often the database did not take it."""
    refused_since: float | None = None
    """When the database first refused it alone, by the loop's clock."""
    replaced: bool = False
    """Whether it stands for another one, which the database did not take."""


class TimeLimit:
    """A run's time limit. Its clock stands still while the run only waits for a child process to compute for it.

    It runs while any of the run's computations has a child process. So every child process is freed in time, and every
    computation that waits for one gets its turn.
    """

    def __init__(self) -> None:
        """Without a limit; `start` sets it."""
        self.due = math.inf
        """When it is over, by `time.monotonic`; read on other threads."""
        self.expired = False
        self._timeout: asyncio.Timeout | None = None
        self._waiting = 0
        self._computing = 0
        self._left: float | None = None

    def start(self, seconds: float) -> TimeLimit:
        """Begin at the next `async with`, whose body is cancelled after this many seconds and raises `TimeoutError`."""
        self.due = time.monotonic() + seconds
        self._timeout = asyncio.timeout(seconds)
        return self

    async def __aenter__(self) -> None:
        assert self._timeout is not None
        await self._timeout.__aenter__()

    async def __aexit__(self, *raised: Any) -> None:
        timeout = self._timeout
        assert timeout is not None
        try:
            await timeout.__aexit__(*raised)
        finally:
            self._timeout = None
            self.expired = timeout.expired()

    @contextmanager
    def computing(self) -> Iterator[Callable[[], None]]:
        """A computation in a child process; gives the function to call when a child begins with it."""
        waiting, computing = True, False

        def begin() -> None:
            nonlocal waiting, computing
            if waiting:  # else it was cancelled meanwhile
                waiting, computing = False, True
                self._count(waiting=-1, computing=1)

        self._count(waiting=1)
        try:
            yield begin
        finally:
            ended = {"waiting": -int(waiting), "computing": -int(computing)}
            waiting = computing = False
            self._count(**ended)

    def _count(self, *, waiting: int = 0, computing: int = 0) -> None:
        self._waiting += waiting
        self._computing += computing
        if self._timeout is None or self._timeout.expired():
            return
        now = time.monotonic()
        if self._waiting and not self._computing:
            if self._left is None:
                self._left = max(self.due - now, 0.0)
                self.due = math.inf
                self._timeout.reschedule(None)
        elif self._left is not None:
            self.due = now + self._left
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._left)
            self._left = None


class Run:
    """A claimed task while it is worked on.

    The worker's thread reads it and `stop`s it; `execute` works on it on the thread of its lane.
    """

    def __init__(self, row: dict[str, Any]) -> None:
        """Take over a row of `claim_agent_tasks`, also one that another program has made unreadable."""
        self.unreadable: str | None = None
        """What is wrong with the row, which then fails without its handler."""
        try:
            self.task = Task.model_validate(row)
        except ValidationError as error:
            (first, *_) = error.errors(include_url=False, include_input=False)
            field = ".".join(str(part) for part in first["loc"])
            self.unreadable = f"the task's row cannot be read: {field}: {first['msg']}"
            self.task = Task.model_construct(**{**row, "payload": {}})
        if not is_readable([row["payload"], row["resume_with"]]):
            self.unreadable = (
                f"the task's payload cannot be read: it is nested more than {MAX_DEPTH} levels deep, or has a number "
                f"of more than {MAX_DIGITS} digits"
            )
        self.lease_token: UUID = row["lease_token"]
        self.timeout_seconds: int | None = row["timeout_seconds"]
        self.round: int = row["round"]
        self.resume_with: Any = row["resume_with"]
        self.suspect: bool = row["lost_leases"] > 0
        """Whether it has lost a lease, so that nothing else runs beside it."""
        self.claimed_at: datetime = row["started_at"]
        self.started = time.monotonic()
        self.progress: float | None = None
        self.message: str | None = None
        self.stored: tuple[float | None, str | None] = (None, None)
        """Progress and message as the database has them."""
        self.lane: Lane | None = None
        """Where its handler runs; None before it begins."""
        self.work: asyncio.Task[None] | None = None
        self.handling = False
        """Whether the handler is at work; what comes before and after it must not be interrupted."""
        self.limit = TimeLimit()
        self.overdue_looks = 0
        """How often the worker has found it at work after its limit, or after it was told to stop."""
        self.limit_seconds = 0
        self.cancelled_by_another = False
        """Whether another run's handler cancelled this one's."""
        self.spared = False
        """Whether it runs again without counting the attempt, because another run's handler cancelled it."""
        self.spared_before = False
        """Whether the last run of this task in this process was spared."""
        self.stop_reason: str | None = None
        """Why the runtime cancelled the handler: cancel, lost or shutdown."""

    def report(self, fraction: float, message: str) -> None:
        """Keep the handler's progress until a heartbeat takes it; NaN leaves the last fraction."""
        if not math.isnan(fraction):
            self.progress = float(fraction)
        self.message = storable(message[:MAX_MESSAGE])

    @property
    def news(self) -> tuple[float | None, str | None] | None:
        """Progress and message, if the database does not have them yet."""
        reported = (self.progress, self.message)
        return None if reported == self.stored else reported

    def stop(self, reason: str) -> None:
        """Cancel the handler; the first reason stands."""
        if self.stop_reason is None:
            self.stop_reason = reason
            if self.lane is not None:
                self.lane.cancel(self)

    def settlement(self, outcome: str, **fields: Any) -> Settlement:
        """What this run reports."""
        return Settlement(id=self.task.id, lease_token=self.lease_token, outcome=outcome, **fields)

    def stopped(self) -> Settlement | None:
        """The settlement of a run that was told to stop; None when the lease was lost: it must not write."""
        match self.stop_reason:
            case "cancel":
                return self.settlement("failed", failure_kind="cancelled", error="cancelled on request while running")
            case "lost":
                return None
            case _:
                return self.settlement("released")

    def timed_out(self) -> Settlement:
        """The settlement of a run that took longer than its time limit."""
        error = f"timed out after {self.limit_seconds} seconds"
        return self.settlement("error", failure_kind="timeout", error=error)


async def execute(run: Run, registry: Registry, make_context: Callable[[Run], TaskContext]) -> Settlement | None:
    """Run the handler of a claimed task and say how it ended; None when the lease was lost: it must not write.

    Raises GeneratorExit if the handler does; `failed` makes the outcome of it.
    """
    task = run.task
    try:
        if run.stop_reason is not None:  # stopped before the first step
            return run.stopped()
        if run.unreadable is not None:
            return run.settlement("failed", failure_kind="invalid_payload", error=run.unreadable)
        task_type = registry.find(task.agent_id, task.task_type)
        context = make_context(run)
        run.limit_seconds = run.timeout_seconds or task_type.timeout_seconds
        run.handling = True
        async with run.limit.start(run.limit_seconds):
            if task_type.resources is not None and run.lane is not None:
                context.resources = await run.lane.resources(task_type.resources)
            if any(references(task.payload)):
                task = task.model_copy(update={"payload": resolve(task.payload, await context.results())})
            if run.round:
                await context.resume(run.resume_with)
            match await run_handler(task_type, task, context):
                case Snooze(seconds=seconds, reason=reason):
                    settlement = run.settlement("snoozed", delay=seconds, summary=reason or None)
                case Delegate() as delegation:
                    settlement = _delegated(run, delegation, registry)
                case TaskResult() as result:
                    settlement = await _completed(run, task_type, result, context)
            _check_size([settlement.summary, settlement.result])
            return settlement
    except GeneratorExit:  # Python closes coroutines that await what raises it: only the task's first one can go on
        raise
    except BaseException as error:  # noqa: BLE001 - a handler may raise anything, and must not end the worker
        return failed(run, error, timed_out=run.limit.expired)
    finally:
        run.handling = False


def failed(run: Run, error: BaseException, *, timed_out: bool = False) -> Settlement | None:
    """The settlement of a run whose handler raised; what another attempt cannot change fails for good.

    After a stop or a time-out, that is the outcome, whatever the exception is. Never raises, although the
    exception's `__str__`, its properties and its type may be the handler's own code.
    """
    if run.stop_reason is not None:
        return run.stopped()
    if timed_out:
        return run.timed_out()
    task, kind = run.task, type(error)
    if run.cancelled_by_another and not run.spared_before:  # once, so that it cannot go round in circles
        run.spared = True
        logger.warning(
            "the handler of another task cancelled %s %s (task %s): it runs again in %.0f seconds, and the attempt "
            "does not count",
            task.agent_id,
            task.task_type,
            task.id,
            SPARED_SECONDS,
        )
        return run.settlement("snoozed", delay=SPARED_SECONDS)
    try:
        said = storable(mask(described(error))[:MAX_ERROR])
    except BaseException as second:  # noqa: BLE001 - memory or file descriptors may have run out
        said = f"the handler raised {kind.__name__}, and its message cannot be shown ({type(second).__name__})"
    if issubclass(kind, UnknownTaskType):
        return run.settlement("failed", failure_kind="unknown_task_type", error=said)
    if issubclass(kind, InvalidPayload):
        return run.settlement("failed", failure_kind="invalid_payload", error=said)
    if issubclass(kind, InvalidInput | FalseEvidence):
        return run.settlement("failed", failure_kind="error", error=said)
    log_failure(error, "%s %s failed (task %s, attempt %s)", task.agent_id, task.task_type, task.id, task.attempt)
    return run.settlement("error", failure_kind="error", error=said)


def log_failure(error: BaseException, message: str, *arguments: object) -> None:
    """Log a handler's exception with its traceback as text; never raises.

    A log handler that formats the exception itself would run the exception's own code, and so would its report of what
    that code raises.
    """
    try:
        shown = "".join(traceback.format_exception(error)).rstrip("\n")
    except BaseException:  # noqa: BLE001 - the exception's properties are somebody else's code
        shown = "(no traceback, because the exception's own code raises another one)"
    path, line, _, _ = logger.logger.findCaller(stacklevel=2)
    record = logger.logger.makeRecord(logger.name, logging.ERROR, path, line, message, arguments, None)
    record.exc_text = shown
    logger.handle(record)


def _delegated(run: Run, delegation: Delegate, registry: Registry) -> Settlement:
    """The settlement of a delegation to tasks that exist, with payloads that fit.

    A payload that refers to a sibling's result is looked at when that result is there.
    """
    if len(delegation.children) > MAX_CHILDREN:
        raise InvalidInput(
            f"the delegation names {len(delegation.children)} children, more than the limit of {MAX_CHILDREN}"
        )
    check_storable([[c.payload for c in delegation.children], delegation.then], "the delegation", texts=False)
    rows = [child.row() for child in delegation.children]
    for row in rows:
        try:
            child_type = registry.find(row["agent_id"], row["task_type"])
            if not any(references(row["payload"])):
                child_type.parse(row["payload"])
        except (UnknownTaskType, InvalidPayload) as error:
            raise type(error)(f"child {row['key']!r}: {error}") from error
    children = [dict(row) for row in ordered(rows)]
    result = {"children": children, "then": delegation.then}
    return run.settlement(
        "delegated", summary=f"delegated to {', '.join(row['key'] for row in children)}", result=result
    )


async def _completed(run: Run, task_type: TaskType, result: TaskResult, context: TaskContext) -> Settlement:
    """The settlement of a result whose evidence has been found in what the run read, with the effects it proposes."""
    if task_type.evidence != "none" and not context.sources and not result.findings:
        raise FalseEvidence(
            f"{run.task.agent_id} {run.task.task_type} returned a result without evidence: read what it rests on "
            'through ctx, cite it with ctx.cite, or declare the handler with evidence="none" if it only does something'
        )
    check_storable(result.result, "the result", texts=False)
    values = [[given.target, given.current_value, given.suggested_value] for given in result.suggestions]
    check_storable(values, "the list of suggestions", texts=False)
    _check_size([result.result, values])  # before credentials are searched for in it
    stored = await context.checked(result)
    for suggestion, row in zip(result.suggestions, stored["suggestions"], strict=True):
        row["effect"] = effect_of(suggestion)
    return run.settlement("completed", summary=masked(result.summary), result=stored)


def _check_size(outcome: Any) -> None:
    """Raise `InvalidInput` for an outcome that the database might not take within its time limit."""
    try:
        size = len(to_json(outcome))
    except (PydanticSerializationError, UnicodeError) as error:
        raise InvalidInput(f"the handler's outcome is not JSON: {error}") from error
    if size > MAX_RESULT_BYTES:
        raise InvalidInput(
            f"the handler's outcome has {size:,} bytes of JSON, more than the limit of {MAX_RESULT_BYTES:,}: read or "
            "quote less at once, or shorten its summary, result, suggestions, or the payloads of its children"
        )
