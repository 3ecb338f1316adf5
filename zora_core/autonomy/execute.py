"""Running one claimed task: from its row to what is to be recorded. Nothing is written here, nothing is swallowed."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from zora_core.agents.agent import Delegate, Registry, Snooze, run_handler
from zora_core.effects import effect_of
from zora_core.errors import FalseEvidence, InvalidInput, InvalidPayload, UnknownTaskType
from zora_core.graph import ordered, references, resolve
from zora_core.masking import mask
from zora_core.models import Task, TaskResult

if TYPE_CHECKING:
    from zora_core.agents.context import TaskContext

logger = logging.getLogger("zora.runtime")

MAX_MESSAGE = 500  # characters of a progress message that are kept


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


class Run:
    """A claimed task while it is worked on."""

    def __init__(self, row: dict[str, Any]) -> None:
        """Take over a row of `claim_agent_tasks`."""
        self.task = Task.model_validate(row)
        self.lease_token: UUID = row["lease_token"]
        self.timeout_seconds: int | None = row["timeout_seconds"]
        self.round: int = row["round"]
        self.resume_with: Any = row["resume_with"]
        self.claimed_at: datetime = row["started_at"]
        self.started = time.monotonic()
        self.progress: float | None = None
        self.message: str | None = None
        self.stored: tuple[float | None, str | None] = (None, None)
        """Progress and message as the database has them."""
        self.work: asyncio.Task[None] | None = None
        self.handling = False
        """Whether the handler is at work; what comes before and after it must not be interrupted."""
        self.stop_reason: str | None = None
        """Why the runtime cancelled the handler: cancel, lost or shutdown."""

    def report(self, fraction: float, message: str) -> None:
        """Keep the handler's progress until a heartbeat takes it; a fraction that is no number leaves the last one.

        What PostgreSQL cannot store is replaced, so that one handler's words cannot spoil the heartbeat of all.
        """
        if not math.isnan(fraction):
            self.progress = float(fraction)
        self.message = (
            message[:MAX_MESSAGE].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
        )

    @property
    def news(self) -> tuple[float | None, str | None] | None:
        """Progress and message, if the database does not have them yet."""
        reported = (self.progress, self.message)
        return None if reported == self.stored else reported

    def stop(self, reason: str) -> None:
        """Cancel the handler; the first reason stands."""
        if self.stop_reason is None:
            self.stop_reason = reason
            if self.handling and self.work is not None:
                self.work.cancel()

    def settlement(self, outcome: str, **fields: Any) -> Settlement:
        """What this run reports."""
        return Settlement(id=self.task.id, lease_token=self.lease_token, outcome=outcome, **fields)


async def execute(run: Run, registry: Registry, make_context: Callable[[Run], TaskContext]) -> Settlement | None:
    """Run the handler of a claimed task and say how it ended; None when the lease was lost, and nobody may write."""
    task = run.task
    deadline: asyncio.Timeout | None = None
    try:
        if run.stop_reason is not None:  # stopped before the first step
            raise asyncio.CancelledError
        task_type = registry.find(task.agent_id, task.task_type)
        context = make_context(run)
        async with asyncio.timeout(run.timeout_seconds or task_type.timeout_seconds) as deadline:
            if any(references(task.payload)):
                task = task.model_copy(update={"payload": resolve(task.payload, await context.results())})
            if run.round:
                await context.resume(run.resume_with)
            outcome = await run_handler(task_type, task, context)
            match outcome:
                case Snooze(seconds=seconds, reason=reason):
                    return run.settlement("snoozed", delay=seconds, summary=reason or None)
                case Delegate() as delegation:
                    return _delegated(run, delegation, registry)
                case TaskResult() as result:
                    return await _completed(run, result, context)
    except UnknownTaskType as error:
        return run.settlement("failed", failure_kind="unknown_task_type", error=mask(str(error)))
    except InvalidPayload as error:
        return run.settlement("failed", failure_kind="invalid_payload", error=mask(str(error)))
    except (InvalidInput, FalseEvidence) as error:
        return run.settlement("failed", failure_kind="error", error=mask(str(error))[:4000])
    except asyncio.CancelledError:
        match run.stop_reason:
            case "cancel":
                return run.settlement("failed", failure_kind="cancelled", error="cancelled on request while running")
            case "shutdown":
                return run.settlement("released")
            case "lost":
                return None
            case _:
                raise
    except (Exception, SystemExit) as error:
        if isinstance(error, TimeoutError) and deadline is not None and deadline.expired():
            limit = run.timeout_seconds or task_type.timeout_seconds
            return run.settlement("error", failure_kind="timeout", error=f"timed out after {limit} seconds")
        logger.exception("%s %s failed (task %s, attempt %s)", task.agent_id, task.task_type, task.id, task.attempt)
        return run.settlement("error", failure_kind="error", error=mask(f"{type(error).__name__}: {error}")[:4000])


def _delegated(run: Run, delegation: Delegate, registry: Registry) -> Settlement:
    """The settlement of a delegation to tasks that exist, with payloads that fit.

    A payload that refers to a sibling's result is looked at when that result is there.
    """
    rows = [child.row() for child in delegation.children]
    for row in rows:
        try:
            child_type = registry.find(row["agent_id"], row["task_type"])
            if not any(references(row["payload"])):
                child_type.parse(row["payload"])
        except (UnknownTaskType, InvalidPayload) as error:
            raise type(error)(f"child {row['key']!r}: {error}") from error
    children = [dict(row) for row in ordered(rows)]
    return run.settlement(
        "delegated",
        summary=f"delegated to {', '.join(row['key'] for row in children)}",
        result={"children": children, "then": delegation.then},
    )


async def _completed(run: Run, result: TaskResult, context: TaskContext) -> Settlement:
    """The settlement of a result whose evidence has been found in what the run read, with the effects it proposes."""
    if not context.sources and not result.findings:
        raise ValueError(
            f"{run.task.agent_id} {run.task.task_type} returned a result without evidence: "
            "read what it rests on through ctx, or cite it with ctx.cite"
        )
    stored = await context.checked(result)
    for suggestion, row in zip(result.suggestions, stored["suggestions"], strict=True):
        row["effect"] = effect_of(suggestion)
    return run.settlement("completed", summary=result.summary, result=stored)
