"""`/api/autonomy/schedules`: tasks that are created at set times."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, BeforeValidator, Field

from zora_core.api.access import Caller, needs
from zora_core.api.answers import One, Page, everything, one
from zora_core.api.bodies import (
    NOT_BLANK,
    Body,
    StorableObject,
    StorableText,
    json_body,
    known_parameters,
    not_blank,
)
from zora_core.api.records import shown
from zora_core.api.tasks import AnyCaseAgent, check_payload
from zora_core.cron import CronText, ZoneName
from zora_core.models import Role, integral
from zora_core.schedules import plan_schedules

router = APIRouter(prefix="/api/autonomy/schedules", tags=["schedules"], dependencies=[known_parameters])

ScheduleId = Annotated[UUID, Path(description="The schedule's id.")]

# What a schedule is made of, with the same limits where it is created, changed and shown.
NotBlank = Annotated[StorableText, BeforeValidator(not_blank)]
Name = Annotated[
    NotBlank,
    Field(
        min_length=1,
        max_length=200,
        description="Name, unique in the tenant.",
        json_schema_extra={"pattern": NOT_BLANK},
        examples=["Weekly digest"],
    ),
]
Payload = Annotated[StorableObject, Field(description="The parameters of its tasks, as defined by the task type.")]
Title = Annotated[
    Annotated[NotBlank, Field(min_length=1, max_length=500, json_schema_extra={"pattern": NOT_BLANK})] | None,
    Field(description="The title of its tasks; the schedule's name when null."),
]
Priority = Annotated[
    int,
    Field(ge=-1_000_000, le=1_000_000, description="Priority of its tasks; higher runs first."),
    BeforeValidator(integral),
]
When = Annotated[
    CronText,
    Field(
        description="Cron expression: minute, hour, day of the month, month, day of the week.",
        examples=["0 9 * * 1"],
    ),
]
Zone = Annotated[
    ZoneName, Field(description="The time zone of the cron expression, by its name.", examples=["Europe/Berlin"])
]
Enabled = Annotated[bool, Field(description="True while it creates tasks; false when it is switched off.")]
Misfire = Annotated[
    Literal["skip", "run_once", "catch_up"],
    Field(description="Handling of runs that were missed while no worker ran: skip them, run once, or run each."),
]
MaxCatchUp = Annotated[
    int,
    Field(ge=1, le=1000, description="Maximum number of missed runs that `catch_up` runs, the latest ones."),
    BeforeValidator(integral),
]
Grace = Annotated[
    int,
    Field(ge=0, le=3600, description="A run that is at most this many seconds late counts as on time."),
    BeforeValidator(integral),
]
Overlap = Annotated[
    Literal["allow", "skip"],
    Field(description="Handling of a run whose previous task is unfinished: allow a second task, or skip the run."),
]


class Schedule(BaseModel):
    """A schedule: when its tasks are created, and what they are."""

    id: UUID = Field(description="The schedule's id.")
    name: str = Field(description="Name, unique in the tenant.")
    agent_id: str = Field(description="The agent of its tasks.")
    task_type: str = Field(description="The type of its tasks.")
    payload: dict[str, Any] = Field(description="The parameters of its tasks.")
    title: str | None = Field(description="The title of its tasks; the schedule's name when null.")
    priority: int = Field(description="The priority of its tasks.")
    cron: str = Field(description="The cron expression.")
    timezone: str = Field(description="The time zone of the cron expression.")
    enabled: Enabled
    misfire_policy: Misfire
    max_catch_up: MaxCatchUp
    grace_seconds: Grace
    overlap_policy: Overlap
    next_run_at: datetime | None = Field(
        description="The next fire time; null when it is not enabled or none is known."
    )
    last_run_at: datetime | None = Field(description="When it last created a task.")
    last_task_id: UUID | None = Field(description="The task that it created last.")
    problem: str | None = Field(description="Why its fire times cannot be computed, if so.")
    created_by_user_id: UUID | None = Field(description="The user who created it.")
    created_at: datetime = Field(description="When it was created.")
    updated_at: datetime | None = Field(description="When it was last changed here.")


class ScheduleCreate(Body):
    """A schedule to be created. `name`, `agent_id`, `task_type` and `cron` are required."""

    name: Name
    agent_id: AnyCaseAgent = Field(description="Agent; case-insensitive.", examples=["EIVOR"])
    task_type: StorableText = Field(
        min_length=1,
        max_length=100,
        description="One of the agent's task types.",
        examples=["summarize_recent_events"],
    )
    payload: Payload = Field(default_factory=dict)
    title: Title = None
    priority: Priority = 0
    cron: When
    timezone: Zone = "UTC"
    enabled: Enabled = True
    misfire_policy: Misfire = "run_once"
    max_catch_up: MaxCatchUp = 100
    grace_seconds: Grace = 300
    overlap_policy: Overlap = "allow"


def _as_it_is() -> Any:
    """For what a body may leave out; a default would be taken for a value."""


class ScheduleChange(Body):
    """The fields of a schedule to change; others stay."""

    name: Name = Field(default_factory=_as_it_is)
    payload: Payload = Field(default_factory=_as_it_is)
    title: Title = Field(default_factory=_as_it_is)
    priority: Priority = Field(default_factory=_as_it_is)
    cron: When = Field(default_factory=_as_it_is)
    timezone: Zone = Field(default_factory=_as_it_is)
    enabled: Enabled = Field(default_factory=_as_it_is)
    misfire_policy: Misfire = Field(default_factory=_as_it_is)
    max_catch_up: MaxCatchUp = Field(default_factory=_as_it_is)
    grace_seconds: Grace = Field(default_factory=_as_it_is)
    overlap_policy: Overlap = Field(default_factory=_as_it_is)


@router.get("", response_model=Page[Schedule], name="list_schedules", summary="List schedules")
async def list_schedules(caller: Annotated[Caller, needs(Role.VIEWER)]) -> Response:
    """All schedules of the tenant, by name."""
    return everything(shown(Schedule, await caller.call("list_schedules")))


@router.post(
    "",
    response_model=One[Schedule],
    status_code=201,
    name="create_schedule",
    summary="Create a schedule",
    responses={409: {"description": "DUPLICATE_KEY: a schedule has this name"}},
)
async def create_schedule(
    caller: Annotated[Caller, needs(Role.BRAND_ADMIN, person=True)],
    body: Annotated[ScheduleCreate, json_body(ScheduleCreate)],
) -> Response:
    """Create tasks at the times of a cron expression."""
    check_payload(caller.api.registry, body.agent_id, body.task_type, body.payload)
    (row,) = await caller.call(
        "create_schedule", schedule=body.model_dump(mode="json"), user_id=caller.principal.user_id
    )
    return one(await _planned(caller, row["id"]), status=201)


@router.get("/{schedule_id}", response_model=One[Schedule], name="get_schedule", summary="Read a schedule")
async def get_schedule(caller: Annotated[Caller, needs(Role.VIEWER)], schedule_id: ScheduleId) -> Response:
    """One schedule."""
    return one(await _read(caller, schedule_id))


@router.patch(
    "/{schedule_id}",
    response_model=One[Schedule],
    name="update_schedule",
    summary="Change a schedule",
    responses={409: {"description": "DUPLICATE_KEY: another schedule has this name"}},
)
async def update_schedule(
    caller: Annotated[Caller, needs(Role.BRAND_ADMIN, person=True)],
    schedule_id: ScheduleId,
    body: Annotated[ScheduleChange, json_body(ScheduleChange)],
) -> Response:
    """Change the given fields. With another cron expression, time zone or state, its fire times start from now."""
    row = await _read(caller, schedule_id)
    if "payload" in body.model_fields_set:
        check_payload(caller.api.registry, row["agent_id"], row["task_type"], body.payload)
    await caller.call(
        "update_schedule",
        id=schedule_id,
        changes=body.model_dump(mode="json", exclude_unset=True),
        user_id=caller.principal.user_id,
    )
    return one(await _planned(caller, schedule_id))


@router.delete("/{schedule_id}", response_model=One[Schedule], name="delete_schedule", summary="Delete a schedule")
async def delete_schedule(
    caller: Annotated[Caller, needs(Role.BRAND_ADMIN, person=True)], schedule_id: ScheduleId
) -> Response:
    """Delete a schedule, and return it. Its tasks stay."""
    rows = await caller.call("delete_schedule", id=schedule_id, user_id=caller.principal.user_id)
    return one(shown(Schedule, rows)[0])


@router.post(
    "/{schedule_id}/run-now",
    response_model=One[Schedule],
    name="run_schedule_now",
    summary="Create a task of a schedule now",
)
async def run_schedule_now(
    caller: Annotated[Caller, needs(Role.BRAND_ADMIN, person=True)], schedule_id: ScheduleId
) -> Response:
    """Create a task now, also when the schedule is disabled: `last_task_id`. The fire times do not change."""
    rows = await caller.call("run_schedule_now", id=schedule_id, user_id=caller.principal.user_id)
    return one(shown(Schedule, rows)[0])


async def _read(caller: Caller, schedule_id: UUID) -> dict[str, Any]:
    return shown(Schedule, await caller.call("get_schedule", id=str(schedule_id)))[0]


async def _planned(caller: Caller, schedule_id: UUID) -> dict[str, Any]:
    """The schedule with its fire times, which SQL does not compute."""
    await plan_schedules(caller.api.database, caller.principal.tenant_id)
    return await _read(caller, schedule_id)
