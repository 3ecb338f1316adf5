"""`/api/agents/suggestions`: changes that agents propose, and decisions about them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    create_model,
    model_validator,
)

from zora_core.api.access import Caller, needs
from zora_core.api.answers import Cursor, Limit, Offset, One, Page, one
from zora_core.api.bodies import (
    NOT_BLANK,
    Body,
    StorableObject,
    StorableText,
    json_body,
    known_parameters,
    not_blank,
    storable,
    strictly,
)
from zora_core.api.errors import ValidationFailed, error_answer
from zora_core.api.records import OfAgent, OfTask, newest, shown
from zora_core.api.tasks import AnyCaseAgent
from zora_core.effects import SuggestionType, edited, effect_of, suggestion_types
from zora_core.errors import DataRejected, InvalidInput, InvalidState
from zora_core.models import Evidence, Role, Suggestion, SuggestionRecord

router = APIRouter(prefix="/api/agents/suggestions", tags=["suggestions"], dependencies=[known_parameters])

Status = Literal["proposed", "approved", "applied", "rejected", "expired", "superseded"]
SuggestionId = Annotated[UUID, Path(description="The suggestion's id.")]


class _SuggestionBody(Body):
    agent_id: AnyCaseAgent = Field(description="The agent that proposes it; case-insensitive.")
    title: StorableText = Field(min_length=1, max_length=500, description="The change, in one line.")
    body: StorableText = Field(default="", max_length=20_000, description="Reason and details.")
    current_value: StorableObject | None = Field(
        default=None,
        description="The value that you saw in the target. With an effect it becomes part of the precondition. Answers "
        "and pages show the row's own value instead.",
    )
    evidence: list[Annotated[Evidence, strictly(Evidence)]] = Field(
        min_length=1, max_length=100, description="Its evidence, in the same form as in a task's findings."
    )
    risk_level: Literal["low", "medium", "high"] = Field(default="low", description="The risk of the change.")

    @model_validator(mode="after")
    def _storable(self) -> _SuggestionBody:
        storable(self.model_dump(mode="json"))
        return self


class Advice(_SuggestionBody):
    """Advice: approving it changes nothing."""

    suggestion_type: Literal["advice"] = Field(description="The type of the change.")
    target: StorableObject = Field(default_factory=dict, description="The subject of the advice.")
    suggested_value: StorableObject | None = Field(default=None, description="The new value.")


def _body_of(kind: SuggestionType[Any, Any]) -> type[_SuggestionBody]:
    fields: dict[str, Any] = {
        "suggestion_type": (Literal[kind.name], Field(description="The type of the change.")),
        "target": (Annotated[kind.target, strictly(kind.target)], Field(description="The target of the change.")),
        "suggested_value": (Annotated[kind.value, strictly(kind.value)], Field(description="The new value.")),
    }
    return create_model(f"Suggest_{kind.name}", __base__=_SuggestionBody, __doc__=inspect.getdoc(type(kind)), **fields)


if TYPE_CHECKING:
    AnySuggestion = Advice
else:
    AnySuggestion = Union[(Advice, *(_body_of(kind) for kind in suggestion_types()))]


class SuggestionCreate(RootModel[Annotated[AnySuggestion, Field(discriminator="suggestion_type")]]):
    """A suggestion made outside of a run, by its type; the effect is computed from its value."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "agent_id": "ORACLE",
                    "suggestion_type": "create_climate_missions",
                    "title": "Switch the office to green power",
                    "target": {},
                    "suggested_value": {"title": "Green power", "category": "energy", "estimated_impact_kgco2": 900},
                    "evidence": [{"kind": "metric", "name": "grid electricity", "value": 2400, "unit": "kWh"}],
                }
            ]
        }
    )


class Approve(Body):
    """Approve the change exactly as it was seen, or with another value."""

    decision: Literal["approve"] = Field(description="Approves the suggestion.")
    digest: StorableText = Field(
        pattern="^[0-9a-f]{64}$", description="The effect_digest of the suggestion that was reviewed."
    )
    reason: StorableText | None = Field(default=None, max_length=2_000, description="Why.")
    edited_value: StorableObject | None = Field(
        default=None, description="A value to apply instead of the suggested one."
    )


class Reject(Body):
    """Reject the change; the agents learn from the reason."""

    decision: Literal["reject"] = Field(description="Rejects the suggestion.")
    reason: Annotated[StorableText, BeforeValidator(not_blank)] = Field(
        min_length=1, max_length=2_000, description="Why.", json_schema_extra={"pattern": NOT_BLANK}
    )


class Decision(RootModel[Annotated[Approve | Reject, Field(discriminator="decision")]]):
    """A decision. An approval is bound to the suggestion's `effect_digest`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"decision": "reject", "reason": "We have such a mission already."}]}
    )


class Undo(Body):
    """Reason for undoing an applied suggestion."""

    reason: StorableText | None = Field(default=None, max_length=2_000, description="For people.")


@router.get("", response_model=Page[SuggestionRecord], name="list_suggestions", summary="List suggestions")
async def list_suggestions(
    caller: Annotated[Caller, needs(Role.VIEWER)],
    status: Annotated[Status | None, Query(description="Only in this state.")] = None,
    agent_id: OfAgent = None,
    task_id: OfTask = None,
    limit: Limit = 50,
    offset: Offset = 0,
    cursor: Cursor = None,
) -> Response:
    """Suggestions, newest first."""
    filters = {"status": status, "agent_id": agent_id, "task_id": task_id}
    return await newest(caller, "agent_suggestions", SuggestionRecord, filters, limit, offset, cursor)


@router.post(
    "",
    status_code=201,
    response_model=One[SuggestionRecord],
    name="create_suggestion",
    summary="Create a suggestion",
    responses={409: {"description": "INVALID_STATE: the same was rejected, on the same evidence"}},
)
async def create_suggestion(
    caller: Annotated[Caller, needs(Role.MEMBER)], body: Annotated[SuggestionCreate, json_body(SuggestionCreate)]
) -> Response:
    """Propose a change for a person to decide.

    The same proposal that waits for a decision already is answered as it stands. What was rejected on the same evidence
    is INVALID_STATE.
    """
    given = body.root
    suggestion = Suggestion.model_validate(given.model_dump(mode="json", exclude={"agent_id"}, exclude_unset=True))
    rows = await caller.call(
        "propose_agent_suggestion",
        agent_id=given.agent_id.value,
        suggestion={**suggestion.model_dump(mode="json"), "effect": effect_of(suggestion)},
        user_id=caller.principal.user_id,
    )
    return one(await _with_targets(caller, rows[0]), status=201)


@router.get(
    "/{suggestion_id}", response_model=One[SuggestionRecord], name="get_suggestion", summary="Read a suggestion"
)
async def get_suggestion(caller: Annotated[Caller, needs(Role.VIEWER)], suggestion_id: SuggestionId) -> Response:
    """One suggestion: what would change, from what to what, on what evidence, and what became of it."""
    (row,) = await _stored(caller, suggestion_id)
    return one(await _with_targets(caller, row))


@router.post(
    "/{suggestion_id}/decision",
    response_model=One[SuggestionRecord],
    name="decide_suggestion",
    summary="Approve or reject a suggestion",
    responses={
        409: {
            "description": "INVALID_STATE: already decided, expired, or `effect_digest` does not match. If the target "
            "row changed, the suggestion becomes `superseded`; `details` names the replacement (`superseded_by`), if "
            "there is one."
        }
    },
)
async def decide_suggestion(
    caller: Annotated[Caller, needs(Role.BRAND_ADMIN, person=True)],
    suggestion_id: SuggestionId,
    body: Annotated[Decision, json_body(Decision)],
) -> Response:
    """Approve a suggestion, which applies it at once, or reject it.

    The answer is the suggestion as it then is: `applied`; `approved`, when it has no effect or its agent is paused; or
    `rejected`.
    """
    decision = body.root
    change: dict[str, Any] = {}
    if isinstance(decision, Approve) and decision.edited_value is not None:
        (row,) = await _stored(caller, suggestion_id)
        if decision.digest != row["effect_digest"]:
            raise InvalidState(f"suggestion {suggestion_id} is not the one that was seen")
        try:
            change = edited(row, decision.edited_value)
        except InvalidInput as error:
            raise ValidationFailed(str(error), [{"field": "edited_value", "message": str(error)}]) from error
    (after,) = await caller.call(
        "decide_agent_suggestion",
        id=suggestion_id,
        decision=decision.decision,
        digest=decision.digest if isinstance(decision, Approve) else None,
        reason=decision.reason,
        **change,
        user_id=caller.principal.user_id,
    )
    if after["status"] == "superseded":
        message = f"the target has changed since: suggestion {suggestion_id} is superseded, and nothing was changed"
        anew = after["superseded_by"]
        return error_answer(
            409, "INVALID_STATE", message, [{"field": "superseded_by", "message": str(anew)}] if anew else None
        )
    return one(shown(SuggestionRecord, [after])[0])


@router.post(
    "/{suggestion_id}/undo",
    response_model=One[SuggestionRecord],
    name="undo_suggestion",
    summary="Undo an applied suggestion",
    responses={409: {"description": "INVALID_STATE: it is not applied, or something has changed since"}},
)
async def undo_suggestion(
    caller: Annotated[Caller, needs(Role.BRAND_ADMIN, person=True)],
    suggestion_id: SuggestionId,
    body: Annotated[Undo, json_body(Undo, optional=True)],
) -> Response:
    """Restore the previous values, unless they have changed since."""
    rows = await caller.call(
        "undo_agent_suggestion", id=suggestion_id, reason=body.reason, user_id=caller.principal.user_id
    )
    return one(shown(SuggestionRecord, rows)[0])


async def _stored(caller: Caller, suggestion_id: UUID) -> list[dict[str, Any]]:
    return await caller.call("get_agent_suggestion", id=str(suggestion_id))


async def _with_targets(caller: Caller, row: dict[str, Any]) -> dict[str, Any]:
    """A suggestion with what its changes would find now, while it can be decided."""
    (record,) = shown(SuggestionRecord, [row])
    if row["status"] == "proposed" and row["effect"] is not None:
        try:
            record["targets"] = await caller.call("preview_agent_suggestion", id=row["id"])
        except (InvalidInput, DataRejected) as error:
            record["problem"] = f"cannot be approved: {error}"
    return record
