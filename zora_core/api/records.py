"""`/api/journal` and `/api/memory`: what the agents leave behind, to be read."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response

from zora_core.api.access import Caller, needs
from zora_core.api.answers import Cursor, Limit, Offset, Page, page, read_cursor, refuse_both, write_cursor
from zora_core.api.bodies import StorableText, known_parameters
from zora_core.api.errors import ValidationFailed
from zora_core.api.tasks import AnyCaseAgent
from zora_core.models import JournalEntry, MemoryEvent, Role

router = APIRouter(prefix="/api", dependencies=[known_parameters])

Category = Literal[
    "release", "decision", "model_update", "experiment", "milestone", "incident", "config_change", "agent_action",
    "user_feedback", "system_event", "autonomy",
]  # fmt: skip
MemoryType = Literal[
    "decision", "reflection", "artifact", "conversation", "plan", "result", "research", "design", "safety_review",
    "climate_data", "brand_data",
]  # fmt: skip
OfTask = Annotated[UUID | None, Query(description="Only of this task.")]
OfAgent = Annotated[AnyCaseAgent | None, Query(description="Only this agent's.")]


@router.get(
    "/journal", response_model=Page[JournalEntry], tags=["records"], name="list_journal", summary="List the journal"
)
async def list_journal(
    caller: Annotated[Caller, needs(Role.VIEWER)],
    category: Annotated[Category | None, Query(description="Only of this category.")] = None,
    task_id: OfTask = None,
    limit: Limit = 50,
    offset: Offset = 0,
    cursor: Cursor = None,
) -> Response:
    """The append-only journal, newest first."""
    filters = {"category": category, "task_id": task_id}
    return await newest(caller, "journal_entries", JournalEntry, filters, limit, offset, cursor)


@router.get(
    "/memory",
    response_model=Page[MemoryEvent],
    tags=["records"],
    name="list_memory",
    summary="List or search EIVOR's memory",
)
async def list_memory(
    caller: Annotated[Caller, needs(Role.VIEWER)],
    query: Annotated[
        StorableText | None,
        Query(
            max_length=500, description="Only memories that share a word with this, best first, without further pages."
        ),
    ] = None,
    agent: OfAgent = None,
    memory_type: Annotated[MemoryType | None, Query(description="Only of this type.")] = None,
    archived: Annotated[bool, Query(description="Include archived ones.")] = False,
    limit: Limit = 50,
    offset: Offset = 0,
    cursor: Cursor = None,
) -> Response:
    """EIVOR's memory, newest first; or, with `query`, the best matches among the newest 20,000."""
    filters = {"archived": archived, "agent": agent, "memory_type": memory_type}
    if query is None:
        return await newest(caller, "memory_events", MemoryEvent, filters, limit, offset, cursor)
    if offset or cursor is not None:
        message = "a query has one page: leave offset and cursor out"
        raise ValidationFailed(message, [{"field": "offset" if offset else "cursor", "message": message}])
    found = await caller.call("search_memory_events", query=query, **filters, limit=limit)
    return page(shown(MemoryEvent, found), limit=limit, offset=0, total=len(found))


async def newest(
    caller: Caller, table: str, model: Any, filters: dict[str, Any], limit: int, offset: int, cursor: str | None
) -> Response:
    """A page of an append-only table, whose time-ordered ids are its order."""
    refuse_both(cursor, offset)
    before = read_cursor(cursor, UUID)[0] if cursor is not None else None
    rows, (counted,) = await asyncio.gather(
        caller.call(f"list_{table}", **filters, limit=limit + 1, offset=offset, before_id=before),
        caller.call(f"count_{table}", **filters),
    )
    return page(
        shown(model, rows),
        limit=limit,
        offset=offset,
        total=counted["total"],
        is_estimate=counted["is_estimate"],
        cursor=write_cursor(rows[:limit][-1]["id"]) if rows else None,
    )


def shown(model: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The columns of rows that a model names."""
    return [{name: row[name] for name in model.model_fields if name in row} for row in rows]
