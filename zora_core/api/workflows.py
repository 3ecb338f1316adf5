"""`/api/workflows` and `/api/workflow-runs`: workflows and their runs."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from zora_core.api.access import Caller, needs
from zora_core.api.answers import Limit, Offset, One, Page, everything, one, page
from zora_core.api.bodies import (
    Body,
    StorableObject,
    StorableText,
    json_body,
    known_parameters,
    storable,
    strictly,
)
from zora_core.api.records import shown
from zora_core.errors import NotFound
from zora_core.models import Role
from zora_core.workflows import Workflow, choose, parse, result_of, shipped

router = APIRouter(prefix="/api", tags=["workflows"], dependencies=[known_parameters])

Key = Annotated[StorableText, Path(min_length=1, max_length=100, description="The workflow's key.")]
RunId = Annotated[UUID, Path(description="The run's id.")]
RunStatus = Literal["running", "waiting", "completed", "failed"]
_EXAMPLE: dict[str, Any] = {
    "key": "page-check",
    "name": "Check a page",
    "inputs": {"page": "climate"},
    "steps": [
        {
            "key": "review",
            "agent_id": "SAM",
            "task_type": "review_climate_page",
            "title": "Review {page}",
            "payload": {"page": {"$input": "page"}},
        },
        {
            "key": "claims",
            "agent_id": "AEGIS",
            "task_type": "check_climate_claims",
            "title": "Check the claims of {page}",
            "payload": {"claims": {"$result": "review", "path": "result.claims.*.text"}},
            "depends_on": ["review"],
        },
    ],
}


class WorkflowSave(RootModel[Annotated[Workflow, strictly(Workflow)]]):
    """A workflow's definition, saved under its key."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    @model_validator(mode="after")
    def _storable(self) -> WorkflowSave:
        storable(self.root.model_dump(mode="json"))
        return self


class WorkflowRecord(Workflow):
    """A definition, and whether it is built in."""

    is_shipped: bool = Field(description="True if it is a built-in workflow; the tenant has none with this key.")


class RunCreate(Body):
    """The inputs of a run."""

    inputs: StorableObject = Field(default_factory=dict, description="Inputs that override their defaults.")


class RunCancel(Body):
    """Reason for cancelling a run."""

    reason: StorableText | None = Field(default=None, max_length=2_000, description="For people.")


class StepRecord(BaseModel):
    """A step of a run: its task."""

    step: str = Field(description="The step's key.")
    id: UUID = Field(description="The task's id.")
    agent_id: str = Field(description="The agent that does it.")
    task_type: str = Field(description="The task's type.")
    title: str = Field(description="The task's title.")
    status: Literal["pending", "in_progress", "completed", "failed"] = Field(description="The task's status.")
    waiting_for: str | None = Field(description="Condition that a pending task waits for.")
    failure_kind: str | None = Field(description="Why it failed.")
    result_summary: str | None = Field(description="The task's summary.")
    error_message: str | None = Field(description="The task's error.")
    started_at: datetime | None = Field(description="When its last run began.")
    completed_at: datetime | None = Field(description="When it ended.")
    depends_on: list[str] = Field(description="The steps that it waits for.")


class RunRecord(BaseModel):
    """A run of a workflow; its status is that of its tasks."""

    id: UUID = Field(description="The run's id, ordered by time.")
    workflow: str = Field(description="The workflow's key.")
    name: str = Field(description="The workflow's name.")
    status: RunStatus = Field(
        description="running; waiting, when nothing can run before a person has decided; completed; or failed."
    )
    context: dict[str, Any] = Field(description="Its inputs.")
    created_by: UUID | None = Field(description="Who started it.")
    created_at: datetime = Field(description="When it was started.")
    finished_at: datetime | None = Field(description="When its last task ended.")
    tasks: int = Field(description="The number of its tasks.")
    ended: int = Field(description="The number of finished tasks.")
    failed: int = Field(description="The number of failed tasks.")


class RunDetail(RunRecord):
    """A run with its steps."""

    result: dict[str, str | None] = Field(description="The summaries of the steps that no other waits for, by key.")
    steps: list[StepRecord] = Field(description="Its steps, in their order.")


def _shown(workflow: Workflow, own: set[str]) -> dict[str, Any]:
    return {**workflow.model_dump(mode="json"), "is_shipped": workflow.key not in own}


@router.get("/workflows", response_model=Page[WorkflowRecord], name="list_workflows", summary="List the workflows")
async def list_workflows(caller: Annotated[Caller, needs(Role.VIEWER)]) -> Response:
    """The tenant's workflows, and the built-in ones whose key it does not use."""
    own = {row["key"]: parse(row["definition"]) for row in await caller.call("list_workflows")}
    found = {**shipped(), **own}
    return everything([_shown(found[key], set(own)) for key in sorted(found)])


@router.post("/workflows", response_model=One[WorkflowRecord], name="save_workflow", summary="Save a workflow")
async def save_workflow(
    caller: Annotated[Caller, needs(Role.BRAND_ADMIN, person=True)],
    body: Annotated[WorkflowSave, json_body(WorkflowSave)],
) -> Response:
    """Save a definition under its key; replaces an earlier one. Runs continue with the definition they started with."""
    workflow = body.root
    workflow.check(caller.api.registry)
    await caller.call(
        "save_workflow",
        key=workflow.key,
        name=workflow.name,
        definition=workflow.model_dump(mode="json"),
        user_id=caller.principal.user_id,
    )
    return one(_shown(workflow, {workflow.key}))


@router.get("/workflows/{key}", response_model=One[WorkflowRecord], name="get_workflow", summary="Read a workflow")
async def get_workflow(caller: Annotated[Caller, needs(Role.VIEWER)], key: Key) -> Response:
    """One definition."""
    stored = await caller.call("list_workflows")
    return one(_shown(choose(stored, key), {row["key"] for row in stored}))


@router.delete(
    "/workflows/{key}", response_model=One[WorkflowRecord], name="delete_workflow", summary="Delete a workflow"
)
async def delete_workflow(caller: Annotated[Caller, needs(Role.BRAND_ADMIN, person=True)], key: Key) -> Response:
    """Delete the tenant's definition, and return it. Its runs stay."""
    (row,) = await caller.call("delete_workflow", key=key, user_id=caller.principal.user_id)
    return one(_shown(parse(row["definition"]), {key}))


@router.post(
    "/workflows/{key}/runs",
    status_code=201,
    response_model=One[RunDetail],
    name="start_workflow_run",
    summary="Start a run",
)
async def start_run(
    caller: Annotated[Caller, needs(Role.MEMBER)],
    key: Key,
    body: Annotated[RunCreate, json_body(RunCreate, optional=True)],
) -> Response:
    """Start a run: its tasks go into the queue, in one transaction."""
    workflow = choose(await caller.call("list_workflows"), key)
    workflow.check(caller.api.registry)
    (row,) = await caller.call(
        "start_workflow_run",
        workflow=workflow.key,
        name=workflow.name,
        definition=workflow.model_dump(mode="json"),
        context={**workflow.inputs, **body.inputs},
        tasks=workflow.tasks(body.inputs),
        user_id=caller.principal.user_id,
    )
    return one(await _detail(caller, row["id"]), status=201)


@router.get("/workflow-runs", response_model=Page[RunRecord], name="list_workflow_runs", summary="List the runs")
async def list_runs(
    caller: Annotated[Caller, needs(Role.VIEWER)],
    workflow: Annotated[StorableText | None, Query(max_length=100, description="Only runs of this workflow.")] = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> Response:
    """Runs, newest first."""
    rows, total = await asyncio.gather(
        caller.call("list_workflow_runs", workflow=workflow, limit=limit + 1, offset=offset),
        caller.value("count_workflow_runs", workflow=workflow),
    )
    return page(shown(RunRecord, rows), limit=limit, offset=offset, total=total)


@router.get("/workflow-runs/{run_id}", response_model=One[RunDetail], name="get_workflow_run", summary="Read a run")
async def get_run(caller: Annotated[Caller, needs(Role.VIEWER)], run_id: RunId) -> Response:
    """A run with the results of its steps."""
    return one(await _detail(caller, run_id))


@router.post(
    "/workflow-runs/{run_id}/cancel",
    response_model=One[RunDetail],
    name="cancel_workflow_run",
    summary="Cancel a run",
    responses={409: {"description": "INVALID_STATE: every task of it has ended"}},
)
async def cancel_run(
    caller: Annotated[Caller, needs(Role.BRAND_ADMIN)],
    run_id: RunId,
    body: Annotated[RunCancel, json_body(RunCancel, optional=True)],
) -> Response:
    """Cancel the unfinished tasks of a run; running ones are asked to stop."""
    await _detail(caller, run_id)
    await caller.value("cancel_workflow_run", id=run_id, reason=body.reason, user_id=caller.principal.user_id)
    return one(await _detail(caller, run_id))


@router.post(
    "/workflow-runs/{run_id}/retry",
    response_model=One[RunDetail],
    name="retry_workflow_run",
    summary="Retry a run",
    responses={409: {"description": "INVALID_STATE: nothing failed in it that may run again"}},
)
async def retry_run(caller: Annotated[Caller, needs(Role.BRAND_ADMIN)], run_id: RunId) -> Response:
    """Put the failed steps of a run, and those that depend on them, back into the queue."""
    await _detail(caller, run_id)
    await caller.value("retry_workflow_run", id=run_id, user_id=caller.principal.user_id)
    return one(await _detail(caller, run_id))


async def _detail(caller: Caller, run_id: UUID) -> dict[str, Any]:
    rows, steps = await asyncio.gather(
        caller.call("list_workflow_runs", id=run_id), caller.call("list_workflow_run_tasks", id=run_id)
    )
    if not rows:
        raise NotFound(f"no workflow run {run_id}")
    shown_steps = [{**step, "id": str(step["id"])} for step in steps]
    return {**shown(RunRecord, rows)[0], "result": result_of(steps), "steps": shown_steps}
