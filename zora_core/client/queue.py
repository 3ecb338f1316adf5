"""For workers: claiming, settling and the upkeep of the queue."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record


class ClaimedTask(Record):
    """A claimed task, and the token of its lease."""

    id: UUID
    tenant_id: UUID
    agent_id: str
    task_type: str
    title: str
    description: str | None = None
    payload: dict[str, Any] | None = None
    priority: int
    attempt: int
    max_attempts: int
    timeout_seconds: int | None = None
    lease_token: UUID | None = None
    created_at: datetime
    started_at: datetime | None = None
    round: int
    resume_with: Any = None
    lost_leases: int


class Heartbeat(Record):
    """The state of a lease: held, cancel or lost."""

    id: UUID
    lease_token: UUID | None = None
    state: str


class SettledTask(Record):
    """A task after its outcome was recorded."""

    id: UUID
    lease_token: UUID | None = None
    status: str
    waiting_for: str | None = None
    run_at: datetime | None = None


class RescuedTask(Record):
    """A task that was taken back from a worker that vanished."""

    id: UUID
    status: str


class Promoted(Record):
    """Number of tasks that became ready, and in how many seconds the next one is due."""

    promoted: int
    next_due_seconds: float | None = None


class WorkToDo(Record):
    """Whether there are tasks to claim, entries to seal, and suggestions to attend to."""

    tasks: bool
    entries: bool
    suggestions: bool


class WorkerLine(Record):
    """A worker that holds tasks, or held one lately."""

    worker_id: str | None = None
    tasks: int
    first_started_at: datetime | None = None
    lease_expires_at: datetime | None = None
    expired: int


class QueueBucket(Record):
    """What happened in the queue in an interval."""

    bucket_start: datetime | None = None
    created: int
    completed: int
    failed: int
    depth: int
    is_partial: bool


class Attended(Record):
    """Number of suggestions applied, expired and reminded of."""

    applied: int
    expired: int
    reminded: int


class Queue(Section):
    """What a worker calls. Programs that only create and read tasks do not need it."""

    async def claim(
        self,
        *,
        worker_id: str,
        limit: int = 1,
        lease_seconds: float = 30,
        task_types: Sequence[str] | None = None,
        idle: bool = True,
        begin: int | None = None,
    ) -> Records[ClaimedTask]:
        """Claim up to `limit` ready tasks for a worker, highest priority first, then oldest.

        `task_types` are the types it can run, each as `AGENT type`; None for any. `idle` says that the worker has
        nothing else in hand: only then it gets a task that has lost a lease.
        """
        return await self._tenant.all(
            ClaimedTask,
            "claim_agent_tasks",
            worker_id=worker_id,
            limit=limit,
            lease_seconds=lease_seconds,
            task_types=task_types,
            idle=idle,
            begin=begin,
        )

    async def heartbeat(
        self,
        *,
        ids: Sequence[UUID],
        lease_tokens: Sequence[UUID],
        lease_seconds: float = 30,
        progress: Sequence[float] | None = None,
        messages: Sequence[str] | None = None,
    ) -> Records[Heartbeat]:
        """Renew leases for `lease_seconds`, and store progress; says of each run whether it goes on."""
        return await self._everyone.all(
            Heartbeat,
            "heartbeat_agent_tasks",
            ids=ids,
            lease_tokens=lease_tokens,
            lease_seconds=lease_seconds,
            progress=progress,
            messages=messages,
        )

    async def settle(
        self,
        *,
        ids: Sequence[UUID],
        lease_tokens: Sequence[UUID],
        outcomes: Sequence[str],
        summaries: Sequence[str],
        results: Sequence[Any],
        errors: Sequence[str],
        failure_kinds: Sequence[str],
        delays: Sequence[float],
    ) -> Records[SettledTask]:
        """Record outcomes, each with its journal entry, memory and suggestions; rows whose lease was lost are left out.

        The lists run in parallel; those that hold nothing may be empty. Outcomes are completed, failed, error, snoozed,
        released and delegated.
        """
        return await self._everyone.all(
            SettledTask,
            "settle_agent_tasks",
            ids=ids,
            lease_tokens=lease_tokens,
            outcomes=outcomes,
            summaries=summaries,
            results=results,
            errors=errors,
            failure_kinds=failure_kinds,
            delays=delays,
        )

    async def rescue(self, *, limit: int = 100, max_lost: int = 3, held: Sequence[UUID] = ()) -> Records[RescuedTask]:
        """Take back tasks whose lease has expired, except those `held` here; a task that loses `max_lost` fails."""
        return await self._everyone.all(RescuedTask, "rescue_agent_tasks", limit=limit, max_lost=max_lost, held=held)

    async def promote(self, *, limit: int = 1000) -> Promoted:
        """Make tasks claimable whose time has come."""
        return await self._everyone.one(Promoted, "promote_agent_tasks", limit=limit)

    async def expire(self, *, limit: int = 1000) -> int:
        """Let tasks fail that have passed their deadline, and return their number."""
        return await self._everyone.value(int, "expire_agent_tasks", limit=limit)

    async def cancel_orphaned(self, *, limit: int = 1000) -> int:
        """Cancel tasks whose parent has ended, and return their number."""
        return await self._everyone.value(int, "cancel_orphaned_agent_tasks", limit=limit)

    async def fail_unknown(self, *, worker_id: str, after_seconds: float = 600, limit: int = 1000) -> int:
        """Let tasks fail whose type no worker has known for `after_seconds`, and return their number."""
        return await self._tenant.value(
            int, "fail_unknown_agent_tasks", worker_id=worker_id, after_seconds=after_seconds, limit=limit
        )

    async def work_to_do(
        self,
        *,
        min_age_seconds: float = 10,
        limit: int = 1000,
        task_types: Sequence[str] | None = None,
        idle: bool = True,
        worker_id: str | None = None,
    ) -> WorkToDo:
        """What there is to do, for transports without notifications."""
        return await self._tenant.one(
            WorkToDo,
            "work_to_do",
            min_age_seconds=min_age_seconds,
            limit=limit,
            task_types=task_types,
            idle=idle,
            worker_id=worker_id,
        )

    async def beat(
        self,
        id: str,
        *,
        host: str,
        version: str,
        task_types: Sequence[str],
        slots: int,
        next_seconds: float = 5,
        keep_seconds: float = 86400,
        known_types: Sequence[str] | None = None,
    ) -> datetime:
        """Say that a worker runs, and which types it has; returns the database's time.

        The next beat comes within `next_seconds`, 0 for never.
        """
        return await self._tenant.value(
            datetime,
            "beat_worker",
            id=id,
            host=host,
            version=version,
            task_types=task_types,
            slots=slots,
            next_seconds=next_seconds,
            keep_seconds=keep_seconds,
            known_types=known_types,
        )

    async def workers(
        self,
    ) -> Records[WorkerLine]:
        """The workers that hold tasks."""
        return await self._tenant.all(WorkerLine, "list_workers")

    async def history(self, *, seconds: int = 3600, buckets: int = 60) -> Records[QueueBucket]:
        """What happened in the last `seconds`, in `buckets` intervals."""
        return await self._tenant.all(QueueBucket, "queue_history", seconds=seconds, buckets=buckets)

    async def attend_suggestions(self, *, limit: int = 100) -> Attended:
        """Apply what a policy has approved, and let expire what nobody has decided, of all tenants."""
        return await self._everyone.one(Attended, "attend_agent_suggestions", limit=limit)
