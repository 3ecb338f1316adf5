"""Schedules: tasks that are created at the times of a cron expression."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record


class ScheduleRecord(Record):
    """A schedule."""

    id: UUID
    tenant_id: UUID
    name: str
    agent_id: str
    task_type: str
    payload: dict[str, Any]
    cron: str
    timezone: str
    enabled: bool
    misfire_policy: str
    next_run_at: datetime | None = None
    last_run_at: datetime | None = None
    created_at: datetime
    updated_at: datetime | None = None
    title: str | None = None
    priority: int
    overlap_policy: str
    max_catch_up: int
    grace_seconds: int
    upcoming: list[datetime]
    handled_until: datetime
    plan_again_at: datetime | None = None
    problem: str | None = None
    last_task_id: UUID | None = None
    created_by_user_id: UUID | None = None


class ScheduleToPlan(Record):
    """A schedule whose next fire times must be computed."""

    id: UUID
    tenant_id: UUID
    name: str
    cron: str
    timezone: str
    handled_until: datetime
    now: datetime | None = None


class SchedulesToAttend(Record):
    """Whether schedules must be planned, and in how many seconds the next one is due."""

    some_to_plan: bool
    next_due_seconds: float | None = None


class ScheduleRun(Record):
    """A schedule that was due, and the task that was created for it."""

    schedule_id: UUID | None = None
    tenant_id: UUID
    name: str
    fire_times: list[datetime] | None = None
    task_ids: list[UUID] | None = None
    passed_over: int
    why: str | None = None


class Schedules(Section):
    """The tenant's schedules. Fire times are computed in Python (`zora_core.schedules`), tasks are created in SQL."""

    async def list(
        self,
    ) -> Records[ScheduleRecord]:
        """All schedules, by name."""
        return await self._tenant.all(ScheduleRecord, "list_schedules")

    async def get(self, id: UUID | str) -> ScheduleRecord:
        """A schedule, by its id, the end of it, or its name. Raises `NotFound`."""
        return await self._tenant.one(ScheduleRecord, "get_schedule", id=str(id))

    async def create(self, *, schedule: Any, user_id: UUID | None = None) -> ScheduleRecord:
        """Create a schedule. Raises `InvalidInput` naming the field that is wrong."""
        return await self._tenant.one(ScheduleRecord, "create_schedule", schedule=schedule, user_id=user_id)

    async def update(self, id: UUID, *, changes: Any, user_id: UUID | None = None) -> ScheduleRecord:
        """Change the fields that `changes` names. Raises `NotFound` or `InvalidInput`."""
        return await self._tenant.one(ScheduleRecord, "update_schedule", id=id, changes=changes, user_id=user_id)

    async def delete(self, id: UUID, *, user_id: UUID | None = None) -> ScheduleRecord:
        """Delete a schedule; its tasks stay. Raises `NotFound`."""
        return await self._tenant.one(ScheduleRecord, "delete_schedule", id=id, user_id=user_id)

    async def run_now(self, id: UUID, *, user_id: UUID | None = None) -> ScheduleRecord:
        """Create a schedule's task at once, beside its times. Raises `NotFound` or `InvalidState`."""
        return await self._tenant.one(ScheduleRecord, "run_schedule_now", id=id, user_id=user_id)

    async def plan(
        self,
        id: UUID,
        *,
        cron: str,
        timezone: str,
        upcoming: Sequence[datetime],
        since: datetime,
        problem: str | None = None,
    ) -> None:
        """Store a schedule's computed fire times, unless its expression, zone or state has changed meanwhile; returns
        whether they were stored.
        """
        await self._tenant.do(
            "plan_schedule", id=id, cron=cron, timezone=timezone, upcoming=upcoming, since=since, problem=problem
        )

    async def list_to_plan(self, *, limit: int = 100, tenant_id: UUID | None = None) -> Records[ScheduleToPlan]:
        """Schedules whose fire times must be computed; of all tenants without `tenant_id`."""
        return await self._everyone.all(ScheduleToPlan, "list_schedules_to_plan", limit=limit, tenant_id=tenant_id)

    async def to_attend(
        self,
    ) -> SchedulesToAttend:
        """What there is to do about schedules, of all tenants."""
        return await self._everyone.one(SchedulesToAttend, "schedules_to_attend")

    async def run_due(
        self, *, limit: int = 100, dry_run: bool = False, tenant_id: UUID | None = None
    ) -> Records[ScheduleRun]:
        """Create the tasks of schedules that are due, of all tenants without `tenant_id`.

        With `dry_run` nothing is created.
        """
        return await self._everyone.all(
            ScheduleRun, "run_due_schedules", limit=limit, dry_run=dry_run, tenant_id=tenant_id
        )
