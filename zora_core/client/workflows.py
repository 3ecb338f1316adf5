"""TODO workflows."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record


class Workflow(Record):
    """TODO a row of `list_workflows`."""

    id: UUID
    tenant_id: UUID
    key: str
    name: str
    definition: Any
    created_by: UUID | None = None
    created_at: datetime
    updated_at: datetime | None = None


class WorkflowRun(Record):
    """TODO a row of `list_workflow_runs`."""

    id: UUID
    workflow: str | None = None
    name: str
    status: str
    context: Any | None = None
    created_by: UUID | None = None
    created_at: datetime
    finished_at: datetime | None = None
    tasks: int
    ended: int
    failed: int
    definition: Any | None = None


class WorkflowRunTask(Record):
    """TODO a row of `list_workflow_run_tasks`."""

    step: str | None = None
    id: UUID
    agent_id: str
    task_type: str
    title: str
    status: str
    waiting_for: str | None = None
    failure_kind: str | None = None
    result_summary: str | None = None
    error_message: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    depends_on: list[str] | None = None


class Workflows(Section):
    """TODO."""

    async def list(
        self,
    ) -> Records[Workflow]:
        """TODO"""
        return await self._tenant.all(Workflow, "list_workflows")

    async def save(self, key: str, *, name: str, definition: Any, user_id: UUID | None = None) -> Workflow:
        """TODO"""
        return await self._tenant.one(
            Workflow, "save_workflow", key=key, name=name, definition=definition, user_id=user_id
        )

    async def delete(self, key: str, *, user_id: UUID | None = None) -> Workflow:
        """TODO"""
        return await self._tenant.one(Workflow, "delete_workflow", key=key, user_id=user_id)

    async def runs(
        self, *, workflow: str | None = None, id: UUID | None = None, limit: int = 50, offset: int = 0
    ) -> Records[WorkflowRun]:
        """TODO"""
        return await self._tenant.all(
            WorkflowRun, "list_workflow_runs", workflow=workflow, id=id, limit=limit, offset=offset
        )

    async def count_runs(self, *, workflow: str | None = None) -> int:
        """TODO"""
        return await self._tenant.value(int, "count_workflow_runs", workflow=workflow)

    async def find_run(self, id: str) -> UUID:
        """TODO"""
        return await self._tenant.value(UUID, "find_workflow_run", id=id)

    async def run_tasks(self, id: UUID) -> Records[WorkflowRunTask]:
        """TODO"""
        return await self._tenant.all(WorkflowRunTask, "list_workflow_run_tasks", id=id)

    async def start(
        self, *, workflow: str, name: str, definition: Any, context: Any, tasks: Any, user_id: UUID | None = None
    ) -> WorkflowRun:
        """TODO"""
        return await self._tenant.one(
            WorkflowRun,
            "start_workflow_run",
            workflow=workflow,
            name=name,
            definition=definition,
            context=context,
            tasks=tasks,
            user_id=user_id,
        )

    async def cancel_run(self, id: UUID, *, reason: str | None = None, user_id: UUID | None = None) -> int:
        """TODO"""
        return await self._tenant.value(int, "cancel_workflow_run", id=id, reason=reason, user_id=user_id)

    async def retry_run(self, id: UUID, *, user_id: UUID | None = None) -> int:
        """TODO"""
        return await self._tenant.value(int, "retry_workflow_run", id=id, user_id=user_id)
