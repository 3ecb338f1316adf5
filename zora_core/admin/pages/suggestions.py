"""Suggestions: all that was proposed, one in full, and the decisions."""

from __future__ import annotations

import asyncio
from typing import Any, Literal
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.responses import Response

from zora_core.admin.forms import errors_of, fields_of, payload_of, submitted, values_of
from zora_core.admin.inbox import shown_suggestions
from zora_core.admin.rendering import short
from zora_core.admin.site import Notice, Pages, Query, Visit
from zora_core.effects import edited, suggestion_types
from zora_core.errors import InvalidInput, InvalidPayload, InvalidState
from zora_core.models import AgentId, Role

pages = Pages()

PAGE = 50


class SuggestionsQuery(Query):
    """Which suggestions are shown."""

    status: Literal["proposed", "approved", "applied", "rejected", "expired", "superseded"] | None = None
    agent: AgentId | None = None
    before: UUID | None = None


@pages.get("/agents/suggestions")
async def index(visit: Visit) -> Response:
    """All suggestions, newest first."""
    query: SuggestionsQuery = visit.query(SuggestionsQuery)
    filters = {"status": query.status, "agent_id": query.agent, "task_id": None}
    rows, (total,) = await asyncio.gather(
        visit.call("list_agent_suggestions", **filters, limit=PAGE + 1, before_id=query.before),
        visit.call("count_agent_suggestions", **filters, exact_up_to=1000),
    )
    shown = rows[:PAGE]
    return await visit.page(
        "suggestions.html",
        query=query,
        suggestions=shown,
        cursor=shown[-1]["id"] if len(rows) > PAGE else None,
        total=total,
        agents=list(AgentId),
    )


@pages.get("/agents/suggestions/{id:uuid}")
async def show(visit: Visit) -> Response:
    """One suggestion: what would change from what to what, on what evidence, and what became of it."""
    return await _show(visit, await _stored(visit))


async def _show(
    visit: Visit,
    row: dict[str, Any],
    *,
    status: int = 200,
    values: dict[str, Any] | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    (shown,) = await shown_suggestions(visit, [row])
    fields = _fields(row) if row["status"] == "proposed" and visit.may_decide else []
    entries = await visit.call("list_journal_entries", task_id=row["task_id"], limit=100) if row["task_id"] else []
    return await visit.page(
        "suggestion.html",
        status=status,
        s=shown,
        fields=fields,
        values=values or values_of(fields, row["suggested_value"] or {}),
        errors=errors or {},
        entries=[entry for entry in entries if row["id"] in entry["related_entity_ids"]],
    )


def _fields(row: dict[str, Any]) -> list[Any]:
    """The controls with which the suggested value is edited; none for advice and for tasks that wait to run."""
    kind = next((kind for kind in suggestion_types() if kind.name == row["suggestion_type"]), None)
    if kind is None or row["effect"] is None:
        return []
    return fields_of(kind.value.model_json_schema())


@pages.post("/agents/suggestions/{id:uuid}/decision", Role.BRAND_ADMIN, person=True)
async def decide(visit: Visit) -> Response:
    """Approve, as it is or edited, or reject with a reason."""
    row = await _stored(visit)
    decision = visit.form.get("decision")
    change: dict[str, Any] = {}
    if decision == "edit":
        fields = _fields(row)
        try:
            value = payload_of(fields, visit.form)
            change = edited(row, value)
        except InvalidPayload as error:
            problems = errors_of(fields, error.problems)
            return await _show(visit, row, status=400, values=submitted(fields, visit.form), errors=problems)
        except InvalidInput as error:
            problems = {"payload": str(error)}
            return await _show(visit, row, status=400, values=submitted(fields, visit.form), errors=problems)
        if visit.form.get("digest") != row["effect_digest"]:
            raise InvalidState("this suggestion is not the one that you saw: look at it again")
        decision = "approve"
    elif decision not in ("approve", "reject"):
        raise InvalidInput("decide with approve or reject")
    reason = visit.form.text("reason")
    if decision == "reject" and reason is None:
        raise InvalidInput("say why you reject it: the agents learn from the reason")
    (after,) = await visit.call(
        "decide_agent_suggestion",
        id=row["id"],
        decision=decision,
        digest=visit.form.get("digest") if decision == "approve" else None,
        reason=reason,
        **change,
        user_id=visit.user_id,
    )
    return visit.back(_notice(after))


def _notice(row: dict[str, Any]) -> Notice:
    title = f"“{row['title']}”"
    match row["status"]:
        case "applied":
            return Notice(f"Applied: {title}", undo=str(row["id"]))
        case "rejected":
            return Notice(f"Rejected: {title}")
        case "superseded":
            anew = "A new proposal shows what is there now." if row["superseded_by"] else "Nothing is proposed anew."
            return Notice(f"Not applied: what {title} would change has changed since. {anew}", "problem")
        case "approved" if row["effect"] is not None:
            return Notice(f"Approved: {title}. It is applied when its agent is no longer paused.")
        case _:
            return Notice(f"Approved: {title}")


@pages.post("/agents/suggestions/{id:uuid}/undo", Role.BRAND_ADMIN, person=True)
async def undo(visit: Visit) -> Response:
    """Restore what was there before."""
    (row,) = await visit.call(
        "undo_agent_suggestion",
        id=visit.request.path_params["id"],
        reason=visit.form.text("reason"),
        user_id=visit.user_id,
    )
    return visit.back(Notice(f"Taken back: “{row['title']}” ({short(row['id'])})"))


async def _stored(visit: Visit) -> dict[str, Any]:
    rows = await visit.call("get_agent_suggestion", id=str(visit.request.path_params["id"]))
    if not rows:
        raise HTTPException(404)
    return rows[0]
