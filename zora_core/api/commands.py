"""`/api/agents/commands`: a sentence becomes a plan, for people to approve."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BeforeValidator, Field

from zora_core.api.access import Caller, needs
from zora_core.api.answers import One, one
from zora_core.api.bodies import NOT_BLANK, Body, StorableText, json_body, known_parameters, not_blank
from zora_core.models import Role, TaskRecord

router = APIRouter(prefix="/api/agents/commands", tags=["suggestions"], dependencies=[known_parameters])


class Command(Body):
    """A request in one sentence."""

    text: Annotated[StorableText, BeforeValidator(not_blank)] = Field(
        min_length=3,
        max_length=500,
        description="The request.",
        json_schema_extra={"pattern": NOT_BLANK},
        examples=["Review our climate page and check its claims"],
    )


@router.post("", status_code=201, response_model=One[TaskRecord], name="create_command", summary="Ask in a sentence")
async def create_command(
    caller: Annotated[Caller, needs(Role.MEMBER)], body: Annotated[Command, json_body(Command)]
) -> Response:
    """Let LUMINA turn a sentence into a plan.

    Returns the planning task. Its plan is a suggestion of the type `create_workflow`
    (`/api/agents/suggestions?task_id=…`); nothing else is created before a person has approved that.
    """
    payload = {"goal": body.text}
    task = {"agent_id": "LUMINA", "task_type": "plan_workflow", "title": body.text, "payload": payload}
    (row,) = await caller.call("create_agent_tasks", tasks=[task], created_by=caller.principal.user_id)
    del row["created"]
    return one(row, status=201)
