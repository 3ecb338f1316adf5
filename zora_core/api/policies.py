"""`/api/agents/policies` and `/api/agents/pauses`: what runs and is applied without asking, and pauses."""

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
    Path(description="The agent whose pause to end; `all` ends the pause of the whole tenant."),
]


class Policy(BaseModel):
    """What holds for a task type."""

    task_type: str = Field(description="The task type.")
    tenant_id: UUID | None = Field(description="The tenant of the policy; null for a policy of all tenants.")
    auto_execute: bool = Field(description="True if its tasks run without asking.")
    max_risk_level: RiskLevel | None = Field(
        description="Suggestions up to this risk are applied without asking; null: none."
    )
    decide_within_hours: int | None = Field(description="Hours until a suggestion expires; 30 days when null.")
    created_at: datetime = Field(description="When it was set.")


class PolicySet(Body):
    """A policy: without any field tasks run, and a person is asked about every effect."""

    auto_execute: bool = Field(default=True, description="True if tasks of the type run without asking.")
    max_risk_level: RiskLevel | None = Field(
        default=None, description="Apply suggestions up to this risk without asking."
    )
    decide_within_hours: Annotated[int, Field(ge=1, le=8760), BeforeValidator(integral)] | None = Field(
        default=None, description="Hours until a suggestion expires; 30 days when null."
    )


class Pause(BaseModel):
    """A pause: no task is claimed and no suggestion is applied."""

    agent_id: str = Field(description="The agent; `all` is the whole tenant.")
    reason: str | None = Field(description="Why.")
    paused_by: UUID | None = Field(description="The user who paused it.")
    created_at: datetime = Field(description="Since when.")


class PauseCreate(Body):
    """What to pause: an agent, or all."""

    agent_id: AnyCaseAgent | None = Field(default=None, description="The agent to pause; null pauses all.")
    reason: StorableText | None = Field(default=None, max_length=2_000, description="Reason, shown to people.")


@router.get(
    "/policies", response_model=Page[Policy], tags=["policies"], name="list_policies", summary="List the policies"
)
async def list_policies(caller: Annotated[Caller, needs(Role.VIEWER)]) -> Response:
    """The policies in force for the tenant: its own, and the common ones for other task types."""
    return everything(shown(Policy, await caller.call("list_agent_task_policies")))


@router.put(
    "/policies/{task_type}", response_model=One[Policy], tags=["policies"], name="set_policy", summary="Set a policy"
)
async def set_policy(
    caller: Annotated[Caller, needs(Role.BRAND_ADMIN, person=True)],
    task_type: TaskType,
    body: Annotated[PolicySet, json_body(PolicySet)],
) -> Response:
    """Set what tasks of a type may do without asking. If `auto_execute` is false, pending tasks are held, too."""
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
    """Remove the tenant's policy for a task type, and return it."""
    rows = await caller.call("remove_agent_task_policy", task_type=task_type, user_id=caller.principal.user_id)
    return one(shown(Policy, rows)[0])


@router.get("/pauses", response_model=Page[Pause], tags=["pauses"], name="list_pauses", summary="List the pauses")
async def list_pauses(caller: Annotated[Caller, needs(Role.VIEWER)]) -> Response:
    """The pauses in force."""
    return _pauses(await caller.call("list_agent_pauses"))


@router.post("/pauses", response_model=Page[Pause], tags=["pauses"], name="pause", summary="Pause agents")
async def pause(
    caller: Annotated[Caller, needs(Role.BRAND_ADMIN, person=True)],
    body: Annotated[PauseCreate, json_body(PauseCreate, optional=True)],
) -> Response:
    """Stop all claims and all effects of the tenant, or of an agent, at once. Running tasks finish."""
    agent_id = body.agent_id.value if body.agent_id else None
    rows = await caller.call("pause_agents", agent_id=agent_id, reason=body.reason, user_id=caller.principal.user_id)
    return _pauses(rows)


@router.delete(
    "/pauses/{agent_id}",
    response_model=Page[Pause],
    tags=["pauses"],
    name="resume",
    summary="End a pause",
    responses={409: {"description": "INVALID_STATE: it is not paused"}},
)
async def resume(caller: Annotated[Caller, needs(Role.BRAND_ADMIN, person=True)], agent_id: Paused) -> Response:
    """End the pause of the tenant or of an agent; returns the remaining pauses."""
    named = None if agent_id == "all" else agent_id
    return _pauses(await caller.call("resume_agents", agent_id=named, user_id=caller.principal.user_id))


def _pauses(rows: list[dict[str, Any]]) -> Response:
    return everything([row | {"agent_id": row["agent_id"].replace("*", "all")} for row in shown(Pause, rows)])
