"""EIVOR's memory: searched or newest first, with where each comes from and what set it aside."""

from __future__ import annotations

import asyncio
from typing import Any, get_args
from uuid import UUID

from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from zora_core.admin.pages.journal import one_by_id
from zora_core.admin.rendering import counted
from zora_core.admin.site import Pages, Query, Visit
from zora_core.api.records import MemoryType
from zora_core.models import AgentId

pages = Pages()

PAGE = 30
COUNT_CAP = 1000
SEARCHED = 20_000  # as search_memory_events() does
LOOKED_THROUGH = 100  # applied suggestions, for the one that changed a memory
LONG = 1200  # characters that a list shows of a memory


class MemoryQuery(Query):
    """Which memories are shown; `q` is words, of which they share one."""

    q: str | None = Field(default=None, max_length=500)
    agent: AgentId | None = None
    type: MemoryType | None = None
    archived: bool = False
    before: UUID | None = None


@pages.get("/memory")
async def index(visit: Visit) -> Response:
    """What fits the words best, or all, newest first."""
    query: MemoryQuery = visit.query(MemoryQuery)
    filters = {"archived": query.archived, "agent": query.agent, "memory_type": query.type}
    if query.q:
        rows = await visit.call("search_memory_events", query=query.q, **filters, limit=PAGE + 1)
        cursor = None
        found = _searched(rows)
    else:
        rows, (total,) = await asyncio.gather(
            visit.call("list_memory_events", **filters, limit=PAGE + 1, before_id=query.before),
            visit.call("count_memory_events", **filters, exact_up_to=COUNT_CAP),
        )
        cursor = rows[PAGE - 1]["id"] if len(rows) > PAGE else None
        found = f"{counted(total, 'memory', 'memories').capitalize()}, newest first."
    return await visit.page(
        "memory.html",
        query=query,
        memories=rows[:PAGE],
        cursor=cursor,
        found=found,
        filtered=bool(query.q or query.agent or query.type or query.archived),
        agents=list(AgentId),
        types=get_args(MemoryType),
        long=LONG,
    )


def _searched(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return f"No memory shares a word with this, among the newest {SEARCHED:,} that the other filters let through."
    if len(rows) > PAGE:
        return f"The {PAGE} that fit best. Say more, or filter, for others."
    return f"{_memories(len(rows))}, what fits best first."


def _memories(number: int) -> str:
    return f"{number:,} {'memory' if number == 1 else 'memories'}"


@pages.get("/memory/{id:uuid}")
async def show(visit: Visit) -> Response:
    """One memory: all of it, where it comes from, and the suggestions that changed it."""
    memory = await one_by_id(visit, "list_memory_events", visit.request.path_params["id"], archived=True)
    if memory is None:
        raise HTTPException(404)
    suggestions = await visit.call("list_agent_suggestions", status="applied", limit=LOOKED_THROUGH)
    return await visit.page("memory_one.html", m=memory, changed_by=_changed_by(memory["id"], suggestions))


def _changed_by(memory_id: UUID, suggestions: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    """The suggestions whose effect names the memory, each with what it did to it."""
    found = []
    for suggestion in suggestions:
        for change in (suggestion["effect"] or {}).get("changes", ()):
            if (change.get("table"), change.get("key")) == ("memory_events", str(memory_id)):
                archives = change.get("after", {}).get("archived_at") is not None
                did = "archived it" if archives else "kept it, with the tags of all that say the same"
                found.append((suggestion, did))
    return found
