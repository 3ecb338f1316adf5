"""Tasks: creating and reading them, changing them, and following what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Required, TypedDict
from uuid import UUID

from zora_core.client.calls import Count, Records, Section
from zora_core.models import Record, TaskRecord

FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.05, 1.0  # between looks at a task that is followed


class NewTask(TypedDict, total=False):
    """A task to create; `agent_id`, `task_type` and `title` are required."""

    agent_id: Required[str]
    task_type: Required[str]
    title: Required[str]
    description: str
    payload: Mapping[str, Any]
    priority: int
    run_at: datetime
    deadline_at: datetime
    max_attempts: int
    timeout_seconds: int
    idempotency_key: str
    key: str
    """Names the task in `depends_on` of others that are created with it."""
    depends_on: Sequence[Any]
    """Keys of tasks that this one waits for, or objects with `task`, `name` and `on_failure`."""


class CreatedTask(TaskRecord):
    """A task as it was created; `created` is false for the earlier task with the same idempotency key."""

    created: bool


class TaskLine(Record):
    """A task in a list, without payload and result."""

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


class TaskCount(Record):
    """Number of an agent's tasks in one state; `oldest` is when the first of them was created."""

    agent_id: str
    status: str
    waiting_for: str | None = None
    tasks: int
    oldest: datetime | None = None


class TaskDurations(Record):
    """How long completed runs of a task type took, in seconds, over the last 1,000 of the tenant."""

    agent_id: str
    task_type: str
    runs: int
    p50_seconds: float | None = None
    p90_seconds: float | None = None


class ChildTaskRow(Record):
    """A task that another one delegated, by its key there."""

    key: str | None = None
    id: UUID
    agent_id: str
    task_type: str
    title: str
    status: str
    failure_kind: str | None = None
    error: str | None = None
    summary: str | None = None
    result: dict[str, Any] | None = None


class Dependency(Record):
    """A task that this one waits for (`relation` is needs), or that waits for it (needed_by)."""

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
    """What a task that this one depends on resulted in."""

    name: str
    id: UUID
    status: str
    result: dict[str, Any] | None = None
    result_summary: str | None = None


class TreeTask(Record):
    """A task of a delegation, with its depth below the first one."""

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
    """A task related to another: its parent, child, dependency or dependent."""

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


class Step(Record):
    """The stored value of a task's step, and what was read for it."""

    name: str
    value: Any = None
    reads: Any = None


class StepValue(Record):
    """A step's value as it is stored."""

    value: Any = None


class ChangedTask(Record):
    """A task that changed since a watermark, as live pages show it."""

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
    """A page without an address that was reviewed before."""

    id: UUID
    known_as: str | None = None
    sketch: str | None = None


class Tasks(Section):
    """The tenant's tasks."""

    async def create(
        self,
        agent_id: str,
        task_type: str,
        payload: Mapping[str, Any] | None = None,
        *,
        title: str | None = None,
        description: str | None = None,
        priority: int = 0,
        run_at: datetime | None = None,
        deadline_at: datetime | None = None,
        max_attempts: int = 3,
        timeout_seconds: int | None = None,
        idempotency_key: str | None = None,
        created_by: UUID | None = None,
    ) -> CreatedTask:
        """Create a task.

        `title` is shown to people; the default is the task type in words. Higher `priority` runs first. The task does
        not run before `run_at`, and fails if it has not begun by `deadline_at` (both with a time zone). An error is
        retried until `max_attempts` are used up. `timeout_seconds` limits a run; the default is the task type's. If a
        task with this `idempotency_key` exists, it is returned and nothing is created. The payload is checked when the
        task runs. Raises `InvalidInput` or `DataRejected` for a wrong field, and `DuplicateKey` if the key was used for
        a different task.
        """
        task: NewTask = {
            "agent_id": agent_id,
            "task_type": task_type,
            "title": title or task_type.replace("_", " ").capitalize(),
            "payload": payload or {},
            "priority": priority,
            "max_attempts": max_attempts,
        }
        if description is not None:
            task["description"] = description
        if run_at is not None:
            task["run_at"] = run_at
        if deadline_at is not None:
            task["deadline_at"] = deadline_at
        if timeout_seconds is not None:
            task["timeout_seconds"] = timeout_seconds
        if idempotency_key is not None:
            task["idempotency_key"] = idempotency_key
        (created,) = await self.create_many([task], created_by=created_by)
        return created

    async def create_many(
        self, tasks: Sequence[NewTask], *, created_by: UUID | None = None, parent_id: UUID | None = None
    ) -> Records[CreatedTask]:
        """Create tasks, all of them or none; payloads are checked when the tasks run.

        Raises `InvalidInput` naming the first task that is wrong, and `DuplicateKey` if an idempotency key was used
        for a different task.
        """
        return await self._tenant.all(
            CreatedTask, "create_agent_tasks", tasks=list(tasks), created_by=created_by, parent_id=parent_id
        )

    async def result(self, id: UUID | str, *, timeout: float | None = None) -> TaskRecord:
        """Wait until a task has completed or failed, and return it.

        Raises `TimeoutError` after `timeout` seconds (the task goes on), `NotFound`, and `DatabaseUnavailable` if the
        database is lost meanwhile. A task that your transaction has created can only end after you commit.
        """
        async with asyncio.timeout(timeout):
            async for task in self.follow(id):
                if task.ended:
                    return task
        raise AssertionError("following a task ends with its end")

    async def follow(self, id: UUID | str) -> AsyncIterator[TaskRecord]:
        """The task now, and again whenever its status or progress has changed, until it has completed or failed.

        Looked at every 50 ms at first, and every second while nothing changes. Raises `NotFound`.
        """
        seen: object = None
        pause = FIRST_LOOK_SECONDS
        while True:
            task = await self.get(id)
            state = (task.status, task.waiting_for, task.attempt, task.progress, task.progress_message)
            if state != seen:
                seen, pause = state, FIRST_LOOK_SECONDS
                yield task
            if task.ended:
                return
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, LAST_LOOK_SECONDS)

    async def get(self, id: UUID | str) -> TaskRecord:
        """A task with its result, by its id or by the end of it. Raises `NotFound`, also when several ids end so."""
        return await self._tenant.one(TaskRecord, "get_agent_task", id=str(id))

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
        """Tasks, highest priority first, then oldest; `after_…` name the last one of the page before."""
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
    ) -> Count:
        """Number of tasks; exact up to `exact_up_to`."""
        return await self._tenant.one(
            Count, "count_agent_tasks", agent_id=agent_id, status=status, task_type=task_type, exact_up_to=exact_up_to
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
    ) -> Records[TaskLine]:
        """Tasks, newest first. `text` is looked for in titles, among the newest 20,000 tasks."""
        return await self._tenant.all(
            TaskLine,
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
        """Tasks that were created or ended in a time window, oldest first, with their results."""
        return await self._tenant.all(
            TaskRecord, "recent_agent_tasks", since=since, until=until, status=status, limit=limit
        )

    async def cancel(self, id: UUID, *, reason: str | None = None, user_id: UUID | None = None) -> TaskRecord:
        """Cancel a task. A running one is stopped by its worker. Raises `NotFound` or `InvalidState`."""
        return await self._tenant.one(TaskRecord, "cancel_agent_task", id=id, reason=reason, user_id=user_id)

    async def retry(self, id: UUID, *, user_id: UUID | None = None) -> TaskRecord:
        """Put a failed task back into the queue, all its attempts and steps anew.

        Raises `NotFound` or `InvalidState`.
        """
        return await self._tenant.one(TaskRecord, "retry_agent_task", id=id, user_id=user_id)

    async def set_priority(self, id: UUID, *, priority: int, user_id: UUID | None = None) -> TaskRecord:
        """Change the priority of a pending task; higher runs first. Raises `NotFound` or `InvalidState`."""
        return await self._tenant.one(TaskRecord, "set_agent_task_priority", id=id, priority=priority, user_id=user_id)

    async def explain(self, id: UUID) -> str:
        """Why a task is not running, or how it ended, in one sentence. Raises `NotFound`."""
        return await self._tenant.value(str, "explain_agent_task", id=id)

    async def counts(
        self,
    ) -> Records[TaskCount]:
        """Number of tasks by agent, status and what they wait for."""
        return await self._tenant.all(TaskCount, "agent_task_counts")

    async def durations(
        self,
    ) -> Records[TaskDurations]:
        """Durations of completed runs, by task type."""
        return await self._tenant.all(TaskDurations, "agent_task_durations")

    async def children(self, id: UUID) -> Records[ChildTaskRow]:
        """The tasks that a task delegated last."""
        return await self._tenant.all(ChildTaskRow, "list_agent_task_children", id=id)

    async def dependencies(self, id: UUID) -> Records[Dependency]:
        """The tasks that a task waits for, and those that wait for it."""
        return await self._tenant.all(Dependency, "list_agent_task_dependencies", id=id)

    async def dependency_results(self, id: UUID) -> Records[DependencyResult]:
        """The results of the tasks that a task depends on, by their names there."""
        return await self._tenant.all(DependencyResult, "list_dependency_results", id=id)

    async def tree(self, id: UUID) -> Records[TreeTask]:
        """A task and all tasks below it."""
        return await self._tenant.all(TreeTask, "list_agent_task_tree", id=id)

    async def related(self, id: UUID) -> Records[RelatedTask]:
        """Everything that a task hangs together with, for a page."""
        return await self._tenant.all(RelatedTask, "list_related_tasks", id=id)

    async def steps(self, id: UUID) -> Records[Step]:
        """The stored steps of a task."""
        return await self._tenant.all(Step, "list_agent_task_steps", id=id)

    async def save_step(self, id: UUID, *, lease_token: UUID, name: str, value: Any, reads: Any = ()) -> StepValue:
        """Store a step's value, if the lease still holds; raises `NotFound` otherwise."""
        return await self._everyone.one(
            StepValue, "save_agent_task_step", id=id, lease_token=lease_token, name=name, value=value, reads=reads
        )

    async def prune(self, *, older_than_seconds: float, limit: int = 1000) -> int:
        """Delete tasks that ended this many seconds ago, up to `limit`, and return their number. The journal stays."""
        return await self._tenant.value(int, "prune_agent_tasks", older_than_seconds=older_than_seconds, limit=limit)

    async def changed(
        self, *, since: datetime, known: Sequence[UUID] = (), after_id: UUID | None = None, limit: int = 10000
    ) -> Records[ChangedTask]:
        """Tasks that changed since a watermark, up to the next one; `known` are those of which nothing is missed."""
        return await self._tenant.all(
            ChangedTask, "changed_agent_tasks", since=since, known=known, after_id=after_id, limit=limit
        )

    async def watch(self, *, watcher_id: UUID, seconds: float = 30) -> None:
        """Have changes announced for `seconds`."""
        await self._tenant.do("watch_agent_tasks", watcher_id=watcher_id, seconds=seconds)

    async def reviewed_markup(self, *, task_id: UUID, limit: int = 200) -> Records[ReviewedMarkup]:
        """Pages without an address that were reviewed before, newest first."""
        return await self._tenant.all(ReviewedMarkup, "reviewed_markup", task_id=task_id, limit=limit)
