"""`/api/agents` and `/api/agents/task-types`: who can be asked for what."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel

from zora_core.api.access import Caller, needs
from zora_core.api.answers import Page, everything
from zora_core.models import AgentId, Role

router = APIRouter(prefix="/api/agents", tags=["agents"])


class AgentInfo(BaseModel):
    """An agent, what it is for, and its task types."""

    agent_id: AgentId
    purpose: str
    task_types: list[str]


class TaskTypeInfo(BaseModel):
    """A task type with the JSON Schema of its payload."""

    agent_id: AgentId
    task_type: str
    description: str
    timeout_seconds: int
    payload_schema: dict[str, Any]


@router.get("", response_model=Page[AgentInfo], name="list_agents")
async def list_agents(caller: Annotated[Caller, needs(Role.VIEWER)]) -> Response:
    """The six agents."""
    registry = caller.api.registry
    return everything(
        [
            AgentInfo(agent_id=a, purpose=a.purpose, task_types=[t.name for t in registry if t.agent_id == a])
            for a in AgentId
        ]
    )


@router.get("/task-types", response_model=Page[TaskTypeInfo], name="list_task_types")
async def list_task_types(caller: Annotated[Caller, needs(Role.VIEWER)]) -> Response:
    """Every task type that this server knows, those of installed packages included."""
    return everything(
        [
            TaskTypeInfo(
                agent_id=t.agent_id,
                task_type=t.name,
                description=t.description,
                timeout_seconds=t.timeout_seconds,
                payload_schema=t.schema,
            )
            for t in caller.api.registry
        ]
    )
