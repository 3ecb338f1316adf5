"""Tasks: what needs a decision, what runs, what failed, and everything, by filters that live in the address."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from zora_core.admin.inbox import shown_suggestions
from zora_core.admin.live import board_counts, lanes
from zora_core.admin.rendering import count, counted, short
from zora_core.admin.site import Notice, Pages, Query, Visit
from zora_core.errors import InvalidInput, ZoraError
from zora_core.models import AgentId, Role

pages = Pages()

PAGE = 50
INBOX = 20
COUNTED = 1000  # tasks; of more, the list says so
LOOKED_THROUGH = 20_000  # as find_agent_tasks() does for what no index knows
VIEWS = {"needs": "Needs you", "live": "Live", "failed": "Failed", "all": "All"}
_WITHIN = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}


class TasksQuery(Query):
    """Which tasks are shown; `before` is the id of the last one of the page before."""

    view: Literal["needs", "live", "failed", "all"] = "needs"
    q: str | None = Field(default=None, max_length=200)
    agent: AgentId | None = None
    type: str | None = Field(default=None, max_length=100)
    status: Literal["pending", "in_progress", "completed", "failed"] | None = None
    waiting: Literal["run_at", "retry", "dependencies", "approval", "children", "budget"] | None = None
    within: Literal["hour", "day", "week", "month"] | None = None
    before: UUID | None = None
    skip: int = Field(default=0, ge=0, le=10_000)
    """Of what needs a decision: more urgent ones that are passed over."""

    @property
    def filters(self) -> dict[str, Any]:
        """As `find_agent_tasks` takes them."""
        return {
            "agent_id": self.agent,
            "status": "failed" if self.view == "failed" else self.status,
            "task_type": self.type,
            "waiting_for": self.waiting if self.view == "all" else None,
            "text": self.q,
            "since": datetime.now(UTC) - _WITHIN[self.within] if self.within else None,
        }


@pages.get("/agents/tasks")
async def index(visit: Visit) -> Response:
    """The views of the tasks; the first is what needs the visitor."""
    query: TasksQuery = visit.query(TasksQuery)
    if query.view == "needs":
        return await _needs(visit, query)
    if query.view == "live":
        board = await visit.value("agent_board", watched=[])
        return await _page(visit, query, board, lanes=lanes(board))
    return await _list(visit, query)


async def _needs(visit: Visit, query: TasksQuery) -> Response:
    board, rows = await asyncio.gather(
        visit.value("agent_board", watched=[]),
        visit.call("list_open_suggestions", limit=INBOX + 1, offset=query.skip),
    )
    return await _page(visit, query, board, open=await shown_suggestions(visit, rows[:INBOX]), more=len(rows) > INBOX)


async def _list(visit: Visit, query: TasksQuery) -> Response:
    filters = query.filters
    indexed = {name: filters[name] for name in ("agent_id", "status", "task_type")}
    rows, (total,) = await asyncio.gather(
        visit.call("find_agent_tasks", **filters, limit=PAGE + 1, before_id=query.before),
        visit.call("count_agent_tasks", **indexed, exact_up_to=COUNTED),
    )
    shown = rows[:PAGE]
    unfinished = [row["id"] for row in shown if row["status"] in ("pending", "in_progress")]
    return await _page(
        visit,
        query,
        await visit.value("agent_board", watched=unfinished),
        tasks=shown,
        cursor=shown[-1]["id"] if len(rows) > PAGE else None,
        found=_found(query, rows, total),
        filtered=bool(query.model_dump(exclude={"view", "before", "skip"}, exclude_none=True)),
        agents=list(AgentId),
        task_types=sorted({kind.name for kind in visit.caller.api.registry}),
    )


def _found(query: TasksQuery, rows: list[dict[str, Any]], total: dict[str, Any]) -> str:
    """How many there are, in words. What no index knows is not counted beyond the page."""
    if query.q or query.waiting or query.within:
        if not rows and not query.before:
            return f"No tasks match this filter among the newest {LOOKED_THROUGH:,} that match the others."
        more = " of those that fit, newest first" if len(rows) > PAGE or query.before else ""
        return f"{min(len(rows), PAGE):,} {'task' if len(rows) == 1 else 'tasks'}{more}."
    if not total["total"]:
        return "No tasks match these filters." if query.view == "all" else "Nothing has failed."
    return f"{counted(total, 'task', 'tasks').capitalize()}, newest first."


async def _page(visit: Visit, query: TasksQuery, board: dict[str, Any], **values: Any) -> Response:
    tabs = {
        "needs": ("needs", count(board["needs"])),
        "live": ("running_total", count(board["running_total"])),
        "failed": ("failed", count(board["failed"])),
    }
    return await visit.page(
        "tasks.html", board=board, query=query, views=VIEWS, tab_counts=tabs, counts=board_counts(board), **values
    )


@pages.post("/agents/tasks/selected", Role.BRAND_ADMIN)
async def selected(visit: Visit) -> Response:
    """Retry, cancel, or set the priority of several tasks; what became of each is told."""
    ids = [_id(text) for text in dict.fromkeys(visit.form.all("id"))][: PAGE * 2]
    action = visit.form.get("action")
    if not ids:
        raise InvalidInput("select a task first")
    if action == "priority":
        priority = read_priority(visit.form.get("priority", ""))
    done: list[UUID] = []
    refused: dict[str, list[UUID]] = defaultdict(list)
    for task_id in ids:
        try:
            match action:
                case "retry":
                    await visit.call("retry_agent_task", id=task_id, user_id=visit.user_id)
                case "cancel":
                    await visit.call("cancel_agent_task", id=task_id, reason=None, user_id=visit.user_id)
                case "priority":
                    await visit.call("set_agent_task_priority", id=task_id, priority=priority, user_id=visit.user_id)
                case _:
                    raise InvalidInput(f"unknown action {action!r}")
        except ZoraError as error:
            refused[str(error).replace(str(task_id), "")].append(task_id)
        else:
            done.append(task_id)
    verb = {"retry": "back in the queue", "cancel": "cancelled, or asked to stop"}.get(
        action or "", f"with priority {visit.form.get('priority')}"
    )
    lines = [f"{short(task_id)}: {verb}" for task_id in done]
    lines += [f"{short(task_id)}: {reason}" for reason, those in refused.items() for task_id in those]
    text = f"{len(done)} of {len(ids)} {'task' if len(ids) == 1 else 'tasks'} {verb}."
    return visit.back(Notice(text, "problem" if refused else "done", lines))


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput(f"{text[:50]!r} is not the id of a task") from None


def read_priority(text: str) -> int:
    """A priority as it was entered; raises `InvalidInput` for anything but a whole number."""
    try:
        return int(text)
    except ValueError:
        raise InvalidInput(f"priority must be a whole number, not {text[:50]!r}") from None
