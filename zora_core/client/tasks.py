"""TODO tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record, TaskRecord


class CreateAgentTask(Record):
    """TODO a row of `create_agent_tasks`."""

    id: UUID
    tenant_id: UUID
    agent_id: str
    task_type: str
    status: str
    waiting_for: str | None = None
    priority: int
    title: str
    description: str | None = None
    payload: Any | None = None
    attempt: int
    max_attempts: int
    timeout_seconds: int | None = None
    run_at: datetime | None = None
    idempotency_key: str | None = None
    created_by_user_id: UUID | None = None
    created_at: datetime
    updated_at: datetime | None = None
    created: bool


class CountAgentTask(Record):
    """TODO a row of `count_agent_tasks`."""

    total: int
    is_estimate: bool


class FindAgentTask(Record):
    """TODO a row of `find_agent_tasks`."""

    id: UUID
    agent_id: str
    task_type: str
    status: str
    waiting_for: str | None = None
    priority: int
    title: str
    attempt: int
    max_attempts: int
    progress: float | None = None
    progress_message: str | None = None
    result_summary: str | None = None
    error_message: str | None = None
    failure_kind: str | None = None
    parent_id: UUID | None = None
    workflow_run_id: UUID | None = None
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    run_at: datetime | None = None
    updated_at: datetime | None = None
    suggestions: int


class AgentTaskCount(Record):
    """TODO a row of `agent_task_counts`."""

    agent_id: str
    status: str
    waiting_for: str | None = None
    tasks: int
    oldest: datetime | None = None


class AgentTaskDuration(Record):
    """TODO a row of `agent_task_durations`."""

    agent_id: str
    task_type: str
    runs: int
    p50_seconds: float | None = None
    p90_seconds: float | None = None


class AgentTaskChildren(Record):
    """TODO a row of `list_agent_task_children`."""

    key: str | None = None
    id: UUID
    agent_id: str
    task_type: str
    title: str
    status: str
    failure_kind: str | None = None
    error: str | None = None
    summary: str | None = None
    result: Any | None = None


class AgentTaskDependencie(Record):
    """TODO a row of `list_agent_task_dependencies`."""

    relation: str
    id: UUID
    name: str
    on_failure: str | None = None
    agent_id: str
    task_type: str
    title: str
    status: str
    waiting_for: str | None = None


class DependencyResult(Record):
    """TODO a row of `list_dependency_results`."""

    name: str
    id: UUID
    status: str
    result: Any | None = None
    result_summary: str | None = None


class AgentTaskTree(Record):
    """TODO a row of `list_agent_task_tree`."""

    id: UUID
    parent_id: UUID | None = None
    depth: int
    key: str | None = None
    agent_id: str
    task_type: str
    title: str
    status: str
    waiting_for: str | None = None
    failure_kind: str | None = None


class RelatedTask(Record):
    """TODO a row of `list_related_tasks`."""

    relation: str
    id: UUID
    parent_id: UUID | None = None
    agent_id: str
    task_type: str
    title: str
    status: str
    waiting_for: str | None = None
    failure_kind: str | None = None
    result_summary: str | None = None
    depth: int
    on_failure: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None


class AgentTaskStep(Record):
    """TODO a row of `list_agent_task_steps`."""

    name: str
    value: Any | None = None
    reads: Any | None = None


class SaveAgentTaskStep(Record):
    """TODO a row of `save_agent_task_step`."""

    value: Any | None = None


class ChangedAgentTask(Record):
    """TODO a row of `changed_agent_tasks`."""

    cursor: datetime | None = None
    more_after: UUID | None = None
    id: UUID
    agent_id: str
    task_type: str
    status: str
    waiting_for: str | None = None
    title: str
    priority: int
    progress: float | None = None
    progress_message: str | None = None
    attempt: int
    result_summary: str | None = None
    error_message: str | None = None
    failure_kind: str | None = None
    run_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    created_at: datetime
    updated_at: datetime | None = None


class ReviewedMarkup(Record):
    """TODO a row of `reviewed_markup`."""

    id: UUID
    known_as: str | None = None
    sketch: str | None = None


class Tasks(Section):
    """TODO."""

    async def create_many(
        self, *, tasks: Any, created_by: UUID | None = None, parent_id: UUID | None = None
    ) -> Records[CreateAgentTask]:
        """TODO"""
        return await self._tenant.all(
            CreateAgentTask, "create_agent_tasks", tasks=tasks, created_by=created_by, parent_id=parent_id
        )

    async def get(self, id: str) -> TaskRecord:
        """TODO"""
        return await self._tenant.one(TaskRecord, "get_agent_task", id=id)

    async def list(
        self,
        *,
        agent_id: str | None = None,
        status: str | None = None,
        task_type: str | None = None,
        limit: int = 50,
        offset: int = 0,
        after_priority: int | None = None,
        after_created_at: datetime | None = None,
        after_id: UUID | None = None,
        with_result: bool = False,
    ) -> Records[TaskRecord]:
        """TODO"""
        return await self._tenant.all(
            TaskRecord,
            "list_agent_tasks",
            agent_id=agent_id,
            status=status,
            task_type=task_type,
            limit=limit,
            offset=offset,
            after_priority=after_priority,
            after_created_at=after_created_at,
            after_id=after_id,
            with_result=with_result,
        )

    async def count(
        self,
        *,
        agent_id: str | None = None,
        status: str | None = None,
        task_type: str | None = None,
        exact_up_to: int = 10000,
    ) -> CountAgentTask:
        """TODO"""
        return await self._tenant.one(
            CountAgentTask,
            "count_agent_tasks",
            agent_id=agent_id,
            status=status,
            task_type=task_type,
            exact_up_to=exact_up_to,
        )

    async def find(
        self,
        *,
        agent_id: str | None = None,
        status: str | None = None,
        task_type: str | None = None,
        waiting_for: str | None = None,
        text: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        before_id: UUID | None = None,
    ) -> Records[FindAgentTask]:
        """TODO"""
        return await self._tenant.all(
            FindAgentTask,
            "find_agent_tasks",
            agent_id=agent_id,
            status=status,
            task_type=task_type,
            waiting_for=waiting_for,
            text=text,
            since=since,
            until=until,
            limit=limit,
            before_id=before_id,
        )

    async def recent(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        status: str | None = None,
        limit: int = 1000,
    ) -> Records[TaskRecord]:
        """TODO"""
        return await self._tenant.all(
            TaskRecord, "recent_agent_tasks", since=since, until=until, status=status, limit=limit
        )

    async def cancel(self, id: UUID, *, reason: str | None = None, user_id: UUID | None = None) -> TaskRecord:
        """TODO"""
        return await self._tenant.one(TaskRecord, "cancel_agent_task", id=id, reason=reason, user_id=user_id)

    async def retry(self, id: UUID, *, user_id: UUID | None = None) -> TaskRecord:
        """TODO"""
        return await self._tenant.one(TaskRecord, "retry_agent_task", id=id, user_id=user_id)

    async def set_priority(self, id: UUID, *, priority: int, user_id: UUID | None = None) -> TaskRecord:
        """TODO"""
        return await self._tenant.one(TaskRecord, "set_agent_task_priority", id=id, priority=priority, user_id=user_id)

    async def explain(self, id: UUID) -> str:
        """TODO"""
        return await self._tenant.value(str, "explain_agent_task", id=id)

    async def counts(
        self,
    ) -> Records[AgentTaskCount]:
        """TODO"""
        return await self._tenant.all(AgentTaskCount, "agent_task_counts")

    async def durations(
        self,
    ) -> Records[AgentTaskDuration]:
        """TODO"""
        return await self._tenant.all(AgentTaskDuration, "agent_task_durations")

    async def children(self, id: UUID) -> Records[AgentTaskChildren]:
        """TODO"""
        return await self._tenant.all(AgentTaskChildren, "list_agent_task_children", id=id)

    async def dependencies(self, id: UUID) -> Records[AgentTaskDependencie]:
        """TODO"""
        return await self._tenant.all(AgentTaskDependencie, "list_agent_task_dependencies", id=id)

    async def dependency_results(self, id: UUID) -> Records[DependencyResult]:
        """TODO"""
        return await self._tenant.all(DependencyResult, "list_dependency_results", id=id)

    async def tree(self, id: UUID) -> Records[AgentTaskTree]:
        """TODO"""
        return await self._tenant.all(AgentTaskTree, "list_agent_task_tree", id=id)

    async def related(self, id: UUID) -> Records[RelatedTask]:
        """TODO"""
        return await self._tenant.all(RelatedTask, "list_related_tasks", id=id)

    async def steps(self, id: UUID) -> Records[AgentTaskStep]:
        """TODO"""
        return await self._tenant.all(AgentTaskStep, "list_agent_task_steps", id=id)

    async def save_step(
        self, id: UUID, *, lease_token: UUID, name: str, value: Any, reads: Any = ()
    ) -> SaveAgentTaskStep:
        """TODO"""
        return await self._everyone.one(
            SaveAgentTaskStep,
            "save_agent_task_step",
            id=id,
            lease_token=lease_token,
            name=name,
            value=value,
            reads=reads,
        )

    async def prune(self, *, older_than_seconds: float, limit: int = 1000) -> int:
        """TODO"""
        return await self._tenant.value(int, "prune_agent_tasks", older_than_seconds=older_than_seconds, limit=limit)

    async def changed(
        self, *, since: datetime, known: Sequence[UUID] = (), after_id: UUID | None = None, limit: int = 10000
    ) -> Records[ChangedAgentTask]:
        """TODO"""
        return await self._tenant.all(
            ChangedAgentTask, "changed_agent_tasks", since=since, known=known, after_id=after_id, limit=limit
        )

    async def watch(self, *, watcher_id: UUID, seconds: float = 30) -> None:
        """TODO"""
        await self._tenant.do("watch_agent_tasks", watcher_id=watcher_id, seconds=seconds)

    async def reviewed_markup(self, *, task_id: UUID, limit: int = 200) -> Records[ReviewedMarkup]:
        """TODO"""
        return await self._tenant.all(ReviewedMarkup, "reviewed_markup", task_id=task_id, limit=limit)
