"""TODO schedules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record


class Schedule(Record):
    """TODO a row of `list_schedules`."""

    id: UUID
    tenant_id: UUID
    name: str
    agent_id: str
    task_type: str
    payload: Any
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


class SchedulesToPlan(Record):
    """TODO a row of `list_schedules_to_plan`."""

    id: UUID
    tenant_id: UUID
    name: str
    cron: str
    timezone: str
    handled_until: datetime
    now: datetime | None = None


class SchedulesToAttend(Record):
    """TODO a row of `schedules_to_attend`."""

    some_to_plan: bool
    next_due_seconds: float | None = None


class RunDueSchedule(Record):
    """TODO a row of `run_due_schedules`."""

    schedule_id: UUID | None = None
    tenant_id: UUID
    name: str
    fire_times: list[datetime] | None = None
    task_ids: list[UUID] | None = None
    passed_over: int
    why: str | None = None


class Schedules(Section):
    """TODO."""

    async def list(
        self,
    ) -> Records[Schedule]:
        """TODO"""
        return await self._tenant.all(Schedule, "list_schedules")

    async def get(self, id: str) -> Schedule:
        """TODO"""
        return await self._tenant.one(Schedule, "get_schedule", id=id)

    async def create(self, *, schedule: Any, user_id: UUID | None = None) -> Schedule:
        """TODO"""
        return await self._tenant.one(Schedule, "create_schedule", schedule=schedule, user_id=user_id)

    async def update(self, id: UUID, *, changes: Any, user_id: UUID | None = None) -> Schedule:
        """TODO"""
        return await self._tenant.one(Schedule, "update_schedule", id=id, changes=changes, user_id=user_id)

    async def delete(self, id: UUID, *, user_id: UUID | None = None) -> Schedule:
        """TODO"""
        return await self._tenant.one(Schedule, "delete_schedule", id=id, user_id=user_id)

    async def run_now(self, id: UUID, *, user_id: UUID | None = None) -> Schedule:
        """TODO"""
        return await self._tenant.one(Schedule, "run_schedule_now", id=id, user_id=user_id)

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
        """TODO"""
        await self._tenant.do(
            "plan_schedule", id=id, cron=cron, timezone=timezone, upcoming=upcoming, since=since, problem=problem
        )

    async def list_to_plan(self, *, limit: int = 100, tenant_id: UUID | None = None) -> Records[SchedulesToPlan]:
        """TODO"""
        return await self._everyone.all(SchedulesToPlan, "list_schedules_to_plan", limit=limit, tenant_id=tenant_id)

    async def to_attend(
        self,
    ) -> SchedulesToAttend:
        """TODO"""
        return await self._everyone.one(SchedulesToAttend, "schedules_to_attend")

    async def run_due(
        self, *, limit: int = 100, dry_run: bool = False, tenant_id: UUID | None = None
    ) -> Records[RunDueSchedule]:
        """TODO"""
        return await self._everyone.all(
            RunDueSchedule, "run_due_schedules", limit=limit, dry_run=dry_run, tenant_id=tenant_id
        )
