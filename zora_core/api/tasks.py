"""`/api/agents/tasks`: create, list, read, cancel, retry, explain."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field, Strict
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError
from starlette.convertors import StringConvertor, register_url_convertor

from zora_core.agents.agent import Registry
from zora_core.api.access import Caller, needs
from zora_core.api.answers import (
    Cursor,
    Limit,
    Offset,
    One,
    Page,
    everything,
    one,
    page,
    read_cursor,
    refuse_both,
    write_cursor,
)
from zora_core.api.bodies import (
    NOT_BLANK,
    Body,
    StorableObject,
    StorableText,
    json_body,
    known_parameters,
    not_blank,
)
from zora_core.api.errors import ValidationFailed
from zora_core.errors import InvalidPayload, UnknownTaskType
from zora_core.models import AgentId, Integer, Role, TaskRecord, integral

router = APIRouter(prefix="/api/agents/tasks", tags=["tasks"], dependencies=[known_parameters])

Status = Literal["pending", "in_progress", "completed", "failed"]
MAX_BULK = 1000
MIN_YEAR, MAX_YEAR = 1970, 9998  # with a day to spare on both sides for time zones


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class _Id(StringConvertor):
    """What may stand where a task's id does: not the names of our own paths, which refuse other methods as such."""

    regex = "(?!(?:bulk|events|stats|validate)$)[^/]+"


register_url_convertor("id", _Id())

AnyCaseAgent = Annotated[AgentId, BeforeValidator(_upper)]
TaskId = Annotated[UUID, Path(description="The task's id.")]


def _exact(value: Any) -> Any:
    """A number would be taken for seconds since 1970, in quotes, too: "20260101" for a day of that year.

    This says what strictness would, which knows no datetime in JSON once a validator has been before it.
    """
    if not isinstance(value, str) or ("T" not in value.upper() and " " not in value):
        raise PydanticCustomError("datetime", "must be a date and a time, as in 2026-03-02T09:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    """Every reader of the table must be able to show it, in any time zone."""
    if not MIN_YEAR <= value.year <= MAX_YEAR:
        raise PydanticCustomError("datetime", f"must lie in the years {MIN_YEAR} to {MAX_YEAR}")
    return value.astimezone(UTC)


Moment = Annotated[AwareDatetime, Strict(False), BeforeValidator(_exact), AfterValidator(_in_utc)]
_YEARS: JsonDict = {"pattern": r"^(19[7-9]\d|[2-8]\d{3}|9[0-8]\d{2}|99[0-8]\d|999[0-8])-"}  # as _in_utc


def check_payload(registry: Registry, agent_id: str, task_type: str, payload: dict[str, Any], where: str = "") -> None:
    """Raise `ValidationFailed` unless the task type exists and takes the payload; `where` begins the fields' names."""
    try:
        registry.find(agent_id, task_type).parse(payload)
    except UnknownTaskType as error:
        raise ValidationFailed(str(error), [{"field": f"{where}task_type", "message": str(error)}]) from error
    except InvalidPayload as error:
        details = [{"field": f"{where}payload.{p['field']}", "message": p["message"]} for p in error.problems]
        raise ValidationFailed(str(error), details) from error


class TaskCreate(Body):
    """A task to be created. `agent_id`, `task_type` and `title` are required; `payload` as the task type says."""

    agent_id: AnyCaseAgent = Field(description="The agent; case-insensitive.")
    task_type: StorableText = Field(min_length=1, max_length=100, description="One of the agent's task types.")
    title: Annotated[StorableText, BeforeValidator(not_blank)] = Field(
        min_length=1,
        max_length=500,
        description="Title, shown to people.",
        json_schema_extra={"pattern": NOT_BLANK},
    )
    description: StorableText | None = Field(
        default=None, max_length=20_000, description="Description, shown to people."
    )
    payload: StorableObject = Field(default_factory=dict, description="The task type's parameters.")
    priority: Integer = Field(default=0, ge=-1_000_000, le=1_000_000, description="Higher runs first.")
    run_at: Moment | None = Field(
        default=None, description="Earliest time to run, with its time zone.", json_schema_extra=_YEARS
    )
    deadline_at: Moment | None = Field(
        default=None,
        description="The task fails if it has not started by this time (with its time zone).",
        json_schema_extra=_YEARS,
    )
    max_attempts: Integer = Field(default=3, ge=1, le=100, description="Maximum number of attempts.")
    timeout_seconds: Annotated[int, Field(ge=1, le=86_400), BeforeValidator(integral)] | None = Field(
        default=None, description="Time limit of a run, in seconds; null: the task type's default."
    )
    idempotency_key: StorableText | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="If a task with this key exists, it is returned and none is created.",
    )

    def check(self, registry: Registry, where: str = "") -> dict[str, Any]:
        """As `create_agent_tasks` takes it; raises `ValidationFailed` unless the payload fits its task type."""
        check_payload(registry, self.agent_id, self.task_type, self.payload, where)
        # As JSON, because an enumeration's member takes ten times as long to write as its text.
        return self.model_dump(mode="json", exclude_none=True)


class TasksCreate(Body):
    """Up to 1,000 tasks; all of them are created, or none."""

    tasks: list[TaskCreate] = Field(min_length=1, max_length=MAX_BULK, description="The tasks, in this order.")


class CancelRequest(Body):
    """Reason, stored in the journal."""

    reason: StorableText | None = Field(
        default=None, max_length=2_000, description="For people.", examples=["The page was taken down."]
    )


class TaskUpdate(Body):
    """The fields of a pending task to change."""

    priority: Integer = Field(ge=-1_000_000, le=1_000_000, description="Higher runs first.", examples=[5])


class Explanation(BaseModel):
    """The state of a task in one sentence: why it is not running, or how it ended."""

    id: UUID = Field(description="The task's id.")
    status: Status = Field(description="Its status.")
    waiting_for: str | None = Field(
        description="Condition that a pending task waits for; null if a worker can claim it."
    )
    explanation: str = Field(description="The reason, in one sentence.")


class Validated(BaseModel):
    """What a task would be created with."""

    valid: Literal[True] = Field(default=True, description="A task that is not valid is answered with an error.")
    task: dict[str, Any] = Field(description="The task, its defaults filled in.")


class Duration(BaseModel):
    """How long completed runs of a task type took, over the last 1,000 completed tasks, in seconds."""

    agent_id: str = Field(description="The agent.")
    task_type: str = Field(description="Its task type.")
    runs: int = Field(description="The number of measured runs.")
    p50_seconds: float = Field(description="Median duration.")
    p90_seconds: float = Field(description="90th percentile of the duration.")


class Stats(BaseModel):
    """Number of tasks: in total, by status, by agent and status, and pending ones by what they wait for."""

    total: int = Field(description="All tasks.")
    by_status: dict[str, int] = Field(description="Tasks by status.")
    by_agent: dict[str, dict[str, int]] = Field(description="Tasks by agent, then by status.")
    waiting_for: dict[str, int] = Field(description="Pending tasks by what they wait for.")
    oldest_ready_at: datetime | None = Field(description="Creation time of the oldest task that is ready.")
    durations: list[Duration] = Field(description="How long runs take, by task type.")


@router.get("", response_model=Page[TaskRecord], name="list_tasks", summary="List tasks")
async def list_tasks(
    caller: Annotated[Caller, needs(Role.VIEWER)],
    agent_id: Annotated[AnyCaseAgent | None, Query(description="Only tasks of this agent.")] = None,
    status: Annotated[Status | None, Query(description="Only tasks with this status.")] = None,
    task_type: Annotated[StorableText | None, Query(max_length=100, description="Only tasks of this type.")] = None,
    limit: Limit = 50,
    offset: Offset = 0,
    cursor: Cursor = None,
) -> Response:
    """The tenant's tasks, highest priority first, then oldest. Results are left out: read a task to see its own."""
    refuse_both(cursor, offset)
    after: dict[str, Any] = {}
    if cursor is not None:
        priority, created_at, task_id = read_cursor(cursor, int, datetime, UUID)
        after = {"after_priority": priority, "after_created_at": created_at, "after_id": task_id}
    filters = {"agent_id": agent_id, "status": status, "task_type": task_type}
    rows, (counted,) = await asyncio.gather(
        caller.call("list_agent_tasks", **filters, limit=limit + 1, offset=offset, **after),
        caller.call("count_agent_tasks", **filters),
    )
    for row in rows:
        del row["result"]
    last = rows[:limit][-1] if rows else None
    return page(
        rows,
        limit=limit,
        offset=offset,
        total=counted["total"],
        is_estimate=counted["is_estimate"],
        cursor=write_cursor(last["priority"], last["created_at"], last["id"]) if last else None,
    )


@router.post(
    "",
    status_code=201,
    response_model=One[TaskRecord],
    name="create_task",
    summary="Create a task",
    responses={
        201: {"headers": {"Location": {"description": "The path of the task.", "schema": {"type": "string"}}}},
        200: {"model": One[TaskRecord], "description": "The task that was created with the same `idempotency_key`"},
        409: {"description": "DUPLICATE_KEY: the `idempotency_key` was used for another task"},
    },
)
async def create_task(
    caller: Annotated[Caller, needs(Role.MEMBER)], body: Annotated[TaskCreate, json_body(TaskCreate)]
) -> Response:
    """Create a task.

    With an `idempotency_key` that was used before, nothing is created: the answer is the earlier task with status 200,
    or DUPLICATE_KEY when that one was another task than this.
    """
    task = body.check(caller.api.registry)
    (row,) = await caller.call("create_agent_tasks", tasks=[task], created_by=caller.principal.user_id)
    created = row.pop("created")
    return one(row, status=201 if created else 200, headers={"Location": f"{router.prefix}/{row['id']}"})


@router.post(
    "/bulk",
    status_code=201,
    response_model=Page[TaskRecord],
    name="create_tasks",
    summary="Create many tasks",
    responses={409: {"description": "DUPLICATE_KEY: an `idempotency_key` was used for another task"}},
)
async def create_tasks(
    caller: Annotated[Caller, needs(Role.MEMBER)], body: Annotated[TasksCreate, json_body(TasksCreate)]
) -> Response:
    """Create up to 1,000 tasks in one transaction, in the given order; all of them, or none."""
    tasks = [task.check(caller.api.registry, f"tasks.{index}.") for index, task in enumerate(body.tasks)]
    rows = await caller.call("create_agent_tasks", tasks=tasks, created_by=caller.principal.user_id)
    for row in rows:
        del row["created"]
    # A key that stands twice, or stood earlier, is the same task; the others come in their order.
    keyed = {row["idempotency_key"]: row for row in rows}
    others = iter([row for row in rows if row["idempotency_key"] is None])
    return everything(
        [keyed[t["idempotency_key"]] if "idempotency_key" in t else next(others) for t in tasks], status=201
    )


@router.post("/validate", response_model=One[Validated], name="validate_task", summary="Check a task")
async def validate_task(
    caller: Annotated[Caller, needs(Role.MEMBER)], body: Annotated[TaskCreate, json_body(TaskCreate)]
) -> Response:
    """Check a task without creating it; the errors are those of creating it."""
    return one(Validated(task=body.check(caller.api.registry)))


@router.get("/stats", response_model=One[Stats], name="task_stats", summary="Count tasks")
async def task_stats(caller: Annotated[Caller, needs(Role.VIEWER)]) -> Response:
    """The number of tasks by state, and their durations."""
    counts, durations = await asyncio.gather(caller.call("agent_task_counts"), caller.call("agent_task_durations"))
    by_status = dict.fromkeys(("pending", "in_progress", "completed", "failed"), 0)
    by_agent: dict[str, dict[str, int]] = {agent.value: dict(by_status) for agent in AgentId}
    waiting_for: dict[str, int] = {}
    for row in counts:
        by_status[row["status"]] += row["tasks"]
        by_agent[row["agent_id"]][row["status"]] += row["tasks"]
        if row["waiting_for"]:
            waiting_for[row["waiting_for"]] = waiting_for.get(row["waiting_for"], 0) + row["tasks"]
    ready = [row["oldest"] for row in counts if row["status"] == "pending" and row["waiting_for"] is None]
    return one(
        Stats(
            total=sum(by_status.values()),
            by_status=by_status,
            by_agent=by_agent,
            waiting_for=waiting_for,
            oldest_ready_at=min(ready, default=None),
            durations=[Duration(**row) for row in durations],
        )
    )


@router.get("/{task_id:id}", response_model=One[TaskRecord], name="get_task", summary="Read a task")
async def get_task(caller: Annotated[Caller, needs(Role.VIEWER)], task_id: TaskId) -> Response:
    """One task with its result: findings, suggestions, and their sources."""
    (row,) = await caller.call("get_agent_task", id=str(task_id))
    return one(TaskRecord.shown(row))


@router.patch(
    "/{task_id:id}",
    response_model=One[TaskRecord],
    name="change_task",
    summary="Change a task's priority",
    responses={409: {"description": "INVALID_STATE: the task has begun or ended"}},
)
async def change_task(
    caller: Annotated[Caller, needs(Role.BRAND_ADMIN)],
    task_id: TaskId,
    body: Annotated[TaskUpdate, json_body(TaskUpdate)],
) -> Response:
    """Set the priority of a pending task; a task that has started is INVALID_STATE."""
    (row,) = await caller.call(
        "set_agent_task_priority", id=task_id, priority=body.priority, user_id=caller.principal.user_id
    )
    return one(TaskRecord.shown(row))


@router.post(
    "/{task_id:id}/cancel",
    response_model=One[TaskRecord],
    name="cancel_task",
    summary="Cancel a task",
    responses={409: {"description": "INVALID_STATE: the task is finished"}},
)
async def cancel_task(
    caller: Annotated[Caller, needs(Role.BRAND_ADMIN)],
    task_id: TaskId,
    body: Annotated[CancelRequest, json_body(CancelRequest, optional=True)],
) -> Response:
    """Cancel a pending task at once, or ask the worker of a running one to stop; a finished one is INVALID_STATE."""
    (row,) = await caller.call("cancel_agent_task", id=task_id, reason=body.reason, user_id=caller.principal.user_id)
    return one(TaskRecord.shown(row))


@router.post(
    "/{task_id:id}/retry",
    response_model=One[TaskRecord],
    name="retry_task",
    summary="Retry a failed task",
    responses={409: {"description": "INVALID_STATE: the task has not failed"}},
)
async def retry_task(caller: Annotated[Caller, needs(Role.BRAND_ADMIN)], task_id: TaskId) -> Response:
    """Put a failed task back into the queue with all its attempts; any other is INVALID_STATE."""
    (row,) = await caller.call("retry_agent_task", id=task_id, user_id=caller.principal.user_id)
    return one(TaskRecord.shown(row))


@router.get(
    "/{task_id:id}/explain", response_model=One[Explanation], name="explain_task", summary="Explain a task's state"
)
async def explain_task(caller: Annotated[Caller, needs(Role.VIEWER)], task_id: TaskId) -> Response:
    """Say in one sentence why the task is not running, or how it ended."""
    (row,) = await caller.call("get_agent_task", id=str(task_id))
    explanation = await caller.value("explain_agent_task", id=task_id)
    return one(Explanation(id=task_id, status=row["status"], waiting_for=row["waiting_for"], explanation=explanation))
