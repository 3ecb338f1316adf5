"""`/api/agents/policies` and `/api/agents/pauses`: what needs no asking, and the switch that stops everything."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, BeforeValidator, Field

from zora_core.api.access import Caller, needs
from zora_core.api.answers import One, Page, everything, one
from zora_core.api.bodies import Body, StorableText, json_body, known_parameters
from zora_core.api.records import shown
from zora_core.api.tasks import AnyCaseAgent
from zora_core.models import Role, integral

router = APIRouter(prefix="/api/agents", dependencies=[known_parameters])

RiskLevel = Literal["low", "medium", "high"]
TaskType = Annotated[StorableText, Path(min_length=1, max_length=100, description="The task type.")]
Paused = Annotated[
    Literal["all"] | AnyCaseAgent,
    Path(description="The agent whose pause is lifted; `all` is that of the whole tenant."),
]


class Policy(BaseModel):
    """What holds for a task type."""

    task_type: str = Field(description="The task type.")
    tenant_id: UUID | None = Field(description="Whose policy it is; null when it is everybody's.")
    auto_execute: bool = Field(description="Whether its tasks run without asking.")
    max_risk_level: RiskLevel | None = Field(
        description="Up to which risk what its tasks suggest is applied without asking; null when nothing is."
    )
    decide_within_hours: int | None = Field(description="Hours until a suggestion expires; 30 days when null.")
    created_at: datetime = Field(description="When it was set.")


class PolicySet(Body):
    """A policy: without any field tasks run, and a person is asked about every effect."""

    auto_execute: bool = Field(default=True, description="Whether tasks of the type run without asking.")
    max_risk_level: RiskLevel | None = Field(
        default=None, description="Up to which risk what they suggest is applied without asking."
    )
    decide_within_hours: Annotated[int, Field(ge=1, le=8760), BeforeValidator(integral)] | None = Field(
        default=None, description="Hours until a suggestion expires; 30 days when null."
    )


class Pause(BaseModel):
    """Something that is paused: nothing of it is claimed or applied."""

    agent_id: str = Field(description="The agent; `all` is the whole tenant.")
    reason: str | None = Field(description="Why.")
    paused_by: UUID | None = Field(description="The user who paused it.")
    created_at: datetime = Field(description="Since when.")


class PauseCreate(Body):
    """What to pause: an agent, or all."""

    agent_id: AnyCaseAgent | None = Field(default=None, description="Only this agent; all when null.")
    reason: StorableText | None = Field(default=None, max_length=2_000, description="Why, for people.")


@router.get(
    "/policies", response_model=Page[Policy], tags=["policies"], name="list_policies", summary="List the policies"
)
async def list_policies(caller: Annotated[Caller, needs(Role.VIEWER)]) -> Response:
    """The policies that hold for the tenant: its own, and everybody's where it has none."""
    return everything(shown(Policy, await caller.call("list_agent_task_policies")))


@router.put(
    "/policies/{task_type}", response_model=One[Policy], tags=["policies"], name="set_policy", summary="Set a policy"
)
async def set_policy(
    caller: Annotated[Caller, needs(Role.BRAND_ADMIN, person=True)],
    task_type: TaskType,
    body: Annotated[PolicySet, json_body(PolicySet)],
) -> Response:
    """Say what tasks of a type may do without asking. With `auto_execute` false, those that wait already are held."""
    rows = await caller.call(
        "set_agent_task_policy",
        task_type=task_type,
        **body.model_dump(),
        user_id=caller.principal.user_id,
        known_types=caller.api.registry.names(),
    )
    return one(shown(Policy, rows)[0])


@router.delete(
    "/policies/{task_type}",
    response_model=One[Policy],
    tags=["policies"],
    name="remove_policy",
    summary="Remove a policy",
)
async def remove_policy(
    caller: Annotated[Caller, needs(Role.BRAND_ADMIN, person=True)], task_type: TaskType
) -> Response:
    """Remove the tenant's policy for a task type; the answer is what it was."""
    rows = await caller.call("remove_agent_task_policy", task_type=task_type, user_id=caller.principal.user_id)
    return one(shown(Policy, rows)[0])


@router.get("/pauses", response_model=Page[Pause], tags=["pauses"], name="list_pauses", summary="See what is paused")
async def list_pauses(caller: Annotated[Caller, needs(Role.VIEWER)]) -> Response:
    """What is paused."""
    return _pauses(await caller.call("list_agent_pauses"))


@router.post("/pauses", response_model=Page[Pause], tags=["pauses"], name="pause", summary="Pause agents")
async def pause(
    caller: Annotated[Caller, needs(Role.BRAND_ADMIN, person=True)],
    body: Annotated[PauseCreate, json_body(PauseCreate, optional=True)],
) -> Response:
    """Stop all claims and all effects of the tenant, or of an agent, at once. What runs, runs to its end."""
    agent_id = body.agent_id.value if body.agent_id else None
    rows = await caller.call("pause_agents", agent_id=agent_id, reason=body.reason, user_id=caller.principal.user_id)
    return _pauses(rows)


@router.delete(
    "/pauses/{agent_id}",
    response_model=Page[Pause],
    tags=["pauses"],
    name="resume",
    summary="Lift a pause",
    responses={409: {"description": "INVALID_STATE: it is not paused"}},
)
async def resume(caller: Annotated[Caller, needs(Role.BRAND_ADMIN, person=True)], agent_id: Paused) -> Response:
    """Let the tenant or an agent go on; the answer is what is still paused."""
    named = None if agent_id == "all" else agent_id
    return _pauses(await caller.call("resume_agents", agent_id=named, user_id=caller.principal.user_id))


def _pauses(rows: list[dict[str, Any]]) -> Response:
    return everything([row | {"agent_id": row["agent_id"].replace("*", "all")} for row in shown(Pause, rows)])
