"""TODO queue."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record


class ClaimAgentTask(Record):
    """TODO a row of `claim_agent_tasks`."""

    id: UUID
    tenant_id: UUID
    agent_id: str
    task_type: str
    title: str
    description: str | None = None
    payload: Any | None = None
    priority: int
    attempt: int
    max_attempts: int
    timeout_seconds: int | None = None
    lease_token: UUID | None = None
    created_at: datetime
    started_at: datetime | None = None
    round: int
    resume_with: Any | None = None
    lost_leases: int


class HeartbeatAgentTask(Record):
    """TODO a row of `heartbeat_agent_tasks`."""

    id: UUID
    lease_token: UUID | None = None
    state: str


class SettleAgentTask(Record):
    """TODO a row of `settle_agent_tasks`."""

    id: UUID
    lease_token: UUID | None = None
    status: str
    waiting_for: str | None = None
    run_at: datetime | None = None


class RescueAgentTask(Record):
    """TODO a row of `rescue_agent_tasks`."""

    id: UUID
    status: str


class PromoteAgentTask(Record):
    """TODO a row of `promote_agent_tasks`."""

    promoted: int
    next_due_seconds: float | None = None


class WorkToDo(Record):
    """TODO a row of `work_to_do`."""

    tasks: bool
    entries: bool
    suggestions: bool


class Worker(Record):
    """TODO a row of `list_workers`."""

    worker_id: str | None = None
    tasks: int
    first_started_at: datetime | None = None
    lease_expires_at: datetime | None = None
    expired: int


class QueueHistory(Record):
    """TODO a row of `queue_history`."""

    bucket_start: datetime | None = None
    created: int
    completed: int
    failed: int
    depth: int
    is_partial: bool


class AttendAgentSuggestion(Record):
    """TODO a row of `attend_agent_suggestions`."""

    applied: int
    expired: int
    reminded: int


class Queue(Section):
    """TODO."""

    async def claim(
        self,
        *,
        worker_id: str,
        limit: int = 1,
        lease_seconds: float = 30,
        task_types: Sequence[str] | None = None,
        idle: bool = True,
        begin: int | None = None,
    ) -> Records[ClaimAgentTask]:
        """TODO"""
        return await self._tenant.all(
            ClaimAgentTask,
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
    ) -> Records[HeartbeatAgentTask]:
        """TODO"""
        return await self._everyone.all(
            HeartbeatAgentTask,
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
    ) -> Records[SettleAgentTask]:
        """TODO"""
        return await self._everyone.all(
            SettleAgentTask,
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

    async def rescue(
        self, *, limit: int = 100, max_lost: int = 3, held: Sequence[UUID] = ()
    ) -> Records[RescueAgentTask]:
        """TODO"""
        return await self._everyone.all(
            RescueAgentTask, "rescue_agent_tasks", limit=limit, max_lost=max_lost, held=held
        )

    async def promote(self, *, limit: int = 1000) -> PromoteAgentTask:
        """TODO"""
        return await self._everyone.one(PromoteAgentTask, "promote_agent_tasks", limit=limit)

    async def expire(self, *, limit: int = 1000) -> int:
        """TODO"""
        return await self._everyone.value(int, "expire_agent_tasks", limit=limit)

    async def cancel_orphaned(self, *, limit: int = 1000) -> int:
        """TODO"""
        return await self._everyone.value(int, "cancel_orphaned_agent_tasks", limit=limit)

    async def fail_unknown(self, *, worker_id: str, after_seconds: float = 600, limit: int = 1000) -> int:
        """TODO"""
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
        """TODO"""
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
        """TODO"""
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
    ) -> Records[Worker]:
        """TODO"""
        return await self._tenant.all(Worker, "list_workers")

    async def history(self, *, seconds: int = 3600, buckets: int = 60) -> Records[QueueHistory]:
        """TODO"""
        return await self._tenant.all(QueueHistory, "queue_history", seconds=seconds, buckets=buckets)

    async def attend_suggestions(self, *, limit: int = 100) -> AttendAgentSuggestion:
        """TODO"""
        return await self._everyone.one(AttendAgentSuggestion, "attend_agent_suggestions", limit=limit)
