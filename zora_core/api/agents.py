"""`/api/agents` and `/api/agents/task-types`: the agents and their task types."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from zora_core.api.access import Caller, needs
from zora_core.api.answers import Page, everything
from zora_core.api.bodies import known_parameters
from zora_core.models import AgentId, Role

router = APIRouter(prefix="/api/agents", tags=["agents"], dependencies=[known_parameters])


class AgentInfo(BaseModel):
    """An agent, its purpose, and its task types."""

    agent_id: AgentId = Field(description="The agent.")
    purpose: str = Field(description="Its purpose, in a few words.")
    task_types: list[str] = Field(description="Its task types.")


class TaskTypeInfo(BaseModel):
    """A task type with the JSON Schema of its payload."""

    agent_id: AgentId = Field(description="The agent that handles it.")
    task_type: str = Field(description="Its name.")
    description: str = Field(description="The work that a task of this type does.")
    timeout_seconds: int = Field(description="Default time limit of a run, in seconds.")
    payload_schema: dict[str, Any] = Field(description="The JSON Schema of its payload.")


@router.get("", response_model=Page[AgentInfo], name="list_agents", summary="List the agents")
async def list_agents(caller: Annotated[Caller, needs(Role.VIEWER)]) -> Response:
    """The six agents."""
    registry = caller.api.registry
    return everything(
        [
            AgentInfo(agent_id=a, purpose=a.purpose, task_types=[t.name for t in registry if t.agent_id == a])
            for a in AgentId
        ]
    )


@router.get("/task-types", response_model=Page[TaskTypeInfo], name="list_task_types", summary="List the task types")
async def list_task_types(caller: Annotated[Caller, needs(Role.VIEWER)]) -> Response:
    """Every task type that this server knows, including those of installed packages."""
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
