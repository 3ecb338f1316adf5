"""Workflows and their runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record


class WorkflowRecord(Record):
    """A workflow's definition."""

    id: UUID
    tenant_id: UUID
    key: str
    name: str
    definition: dict[str, Any]
    created_by: UUID | None = None
    created_at: datetime
    updated_at: datetime | None = None


class WorkflowRunLine(Record):
    """A run of a workflow with the number of its tasks by state."""

    id: UUID
    workflow: str | None = None
    name: str
    status: str
    context: dict[str, Any] | None = None
    created_by: UUID | None = None
    created_at: datetime
    finished_at: datetime | None = None
    tasks: int
    ended: int
    failed: int
    definition: dict[str, Any] | None = None


class RunTask(Record):
    """A task of a workflow's run, by its step."""

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


class WorkflowRunRecord(Record):
    """A run of a workflow."""

    id: UUID
    tenant_id: UUID
    workflow: str
    name: str
    definition: dict[str, Any]
    context: dict[str, Any]
    created_by: UUID | None = None
    created_at: datetime
    finished_at: datetime | None = None


class Workflows(Section):
    """The tenant's workflows and their runs."""

    async def list(
        self,
    ) -> Records[WorkflowRecord]:
        """All workflows, by name."""
        return await self._tenant.all(WorkflowRecord, "list_workflows")

    async def save(self, key: str, *, name: str, definition: Any, user_id: UUID | None = None) -> WorkflowRecord:
        """Create a workflow, or replace its definition. Raises `InvalidInput`."""
        return await self._tenant.one(
            WorkflowRecord, "save_workflow", key=key, name=name, definition=definition, user_id=user_id
        )

    async def delete(self, key: str, *, user_id: UUID | None = None) -> WorkflowRecord:
        """Delete a workflow; its runs stay. Raises `NotFound`."""
        return await self._tenant.one(WorkflowRecord, "delete_workflow", key=key, user_id=user_id)

    async def runs(
        self, *, workflow: str | None = None, id: UUID | None = None, limit: int = 50, offset: int = 0
    ) -> Records[WorkflowRunLine]:
        """Runs, newest first; of one workflow, or one run."""
        return await self._tenant.all(
            WorkflowRunLine, "list_workflow_runs", workflow=workflow, id=id, limit=limit, offset=offset
        )

    async def count_runs(self, *, workflow: str | None = None) -> int:
        """Number of runs."""
        return await self._tenant.value(int, "count_workflow_runs", workflow=workflow)

    async def find_run(self, id: str) -> UUID:
        """A run's id, by the end of it. Raises `NotFound`."""
        return await self._tenant.value(UUID, "find_workflow_run", id=id)

    async def run_tasks(self, id: UUID) -> Records[RunTask]:
        """The tasks of a run, in the order of its steps."""
        return await self._tenant.all(RunTask, "list_workflow_run_tasks", id=id)

    async def start(
        self, *, workflow: str, name: str, definition: Any, context: Any, tasks: Any, user_id: UUID | None = None
    ) -> WorkflowRunRecord:
        """Start a run: create its tasks, with their dependencies. Raises `InvalidInput`."""
        return await self._tenant.one(
            WorkflowRunRecord,
            "start_workflow_run",
            workflow=workflow,
            name=name,
            definition=definition,
            context=context,
            tasks=tasks,
            user_id=user_id,
        )

    async def cancel_run(self, id: UUID, *, reason: str | None = None, user_id: UUID | None = None) -> int:
        """Cancel the tasks of a run that have not ended, and return their number."""
        return await self._tenant.value(int, "cancel_workflow_run", id=id, reason=reason, user_id=user_id)

    async def retry_run(self, id: UUID, *, user_id: UUID | None = None) -> int:
        """Retry the failed tasks of a run, and return their number."""
        return await self._tenant.value(int, "retry_workflow_run", id=id, user_id=user_id)
