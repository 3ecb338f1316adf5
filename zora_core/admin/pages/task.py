"""One task: what happened to it when, what it found on what evidence, what it suggests, and what it is waiting for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from starlette.responses import RedirectResponse, Response

from zora_core.admin.inbox import shown_suggestions
from zora_core.admin.pages.tasks import read_priority
from zora_core.admin.site import Notice, Pages, Visit
from zora_core.effects import RUN_TASK
from zora_core.models import Role, Severity, TaskRecord
from zora_core.shapes import as_object, findings_of, sources_of

pages = Pages()

MAX_ENTRIES = 200
MAX_SUGGESTIONS = 50
_EVENTS = {
    "agent_task_created": "Created",
    "agent_task_completed": "Completed",
    "agent_task_failed": "Failed",
    "agent_task_retried": "To be tried again",
    "agent_task_snoozed": "Put off",
    "agent_task_delegated": "Delegated",
    "agent_task_rescued": "Its worker disappeared",
    "agent_task_cancelled": "Cancelled",
    "agent_task_prioritized": "Priority changed",
}


# What a task waits for after an event, until it runs again.
_WAITS = {
    "retried": "waited to be tried again",
    "snoozed": "waited for the time it was put off to",
    "delegated": "waited for what it delegated",
    "rescued": "waited to be taken up again",
}


@dataclass(frozen=True)
class Moment:
    """A point of the timeline: when, what, and how long it was since the one before, and what passed meanwhile."""

    at: datetime
    title: str
    detail: str = ""
    kind: str = ""
    """The state that the task came into, for its colour."""
    gap: float | None = None
    meanwhile: str = ""


@pages.get("/agents/tasks/{id}")
async def show(visit: Visit) -> Response:
    """Everything about a task. Its id may be the end of it, as the tables of the command line show."""
    (row,) = await visit.call("get_agent_task", id=visit.request.path_params["id"])
    if str(row["id"]) != visit.request.path_params["id"]:
        return RedirectResponse(f"/admin/agents/tasks/{row['id']}", 303)
    task_id: UUID = row["id"]
    explanation, entries, suggestions, related, board = await asyncio.gather(
        visit.value("explain_agent_task", id=task_id),
        visit.call("list_journal_entries", task_id=task_id, limit=MAX_ENTRIES),
        visit.call("list_agent_suggestions", task_id=task_id, limit=MAX_SUGGESTIONS),
        visit.call("list_related_tasks", id=task_id),
        visit.value("agent_board", watched=[task_id]),
    )
    proofs = await visit.call("journal_proofs", ids=[entry["id"] for entry in entries])
    task = TaskRecord.shown(row)
    return await visit.page(
        "task.html",
        board=board,
        t=task,
        row=row,
        explanation=explanation,
        timeline=timeline(task, entries[::-1], _first_wait(task, suggestions, related)),
        findings=sorted(findings_of(task["result"]), key=lambda found: -Severity(found["severity"]).rank),
        sources=list(filter(None, sources_of(task["result"]))),
        suggestions=await shown_suggestions(visit, suggestions),
        entries=entries,
        proofs={proof["id"]: proof for proof in proofs},
        related=related,
    )


def _first_wait(task: dict[str, Any], suggestions: list[dict[str, Any]], related: list[dict[str, Any]]) -> str:
    """What a task waited for before its first run."""
    if any(suggestion["suggestion_type"] == RUN_TASK for suggestion in suggestions):
        return "waited for a person to let it run"
    if any(other["relation"] == "depends_on" for other in related):
        return "waited for what it depends on"
    if task["run_at"] is not None and task["attempt"] <= 1:
        return "waited for its time"
    return "waited for a worker"


def timeline(task: dict[str, Any], entries: list[dict[str, Any]], first_wait: str) -> list[Moment]:
    """What happened to a task, in order: each journal entry, and the runs that ended with one.

    `first_wait` says what it waited for before its first run; what it waited for later follows from what was before.
    The journal keeps the ends of runs with their duration, so that their beginnings are known from it; the beginning of
    a run that goes on is in the row.
    """
    moments: list[Moment] = []
    for entry in entries:
        kind = entry["event_type"].removeprefix("agent_task_")
        details = as_object(entry["details"])
        ran = details.get("duration_ms")
        if isinstance(ran, int | float) and not entry["event_type"].startswith("agent_suggestion"):
            began = entry["created_at"] - timedelta(milliseconds=float(ran))
            number = details.get("attempt")
            moments.append(Moment(began, f"Run {number} began" if number else "A run began", kind="in_progress"))
        title = _EVENTS.get(entry["event_type"], entry["title"])
        # What is suggested has a place of its own on the page.
        detail = "" if entry["event_type"].startswith("agent_suggestion") else entry["body"] or ""
        moments.append(Moment(entry["created_at"], title, detail, kind))
    if not any(entry["event_type"] == "agent_task_created" for entry in entries):
        moments.append(Moment(task["created_at"], "Created", kind="created"))
    if task["status"] == "in_progress" and task["started_at"]:
        moments.append(
            Moment(task["started_at"], f"Run {task['attempt']} began", f"on worker {task['worker_id']}", "in_progress")
        )
    order = {"created": 0, "in_progress": 1}  # of what happened at one moment
    moments.sort(key=lambda moment: (moment.at, order.get(moment.kind, 2)))
    told: list[Moment] = []
    for moment in moments:
        before = told[-1] if told else None
        if before is None:
            told.append(moment)
            continue
        gap = (moment.at - before.at).total_seconds()
        if before.kind == "in_progress":
            meanwhile = "ran"
        elif moment.kind == "in_progress":
            meanwhile = _WAITS.get(before.kind, "waited for a worker") if before.kind != "created" else first_wait
        else:
            meanwhile = "then"
        told.append(replace(moment, gap=gap if gap >= 0.001 else None, meanwhile=meanwhile))
    return told


@pages.post("/agents/tasks/{id:uuid}/retry", Role.BRAND_ADMIN)
async def retry(visit: Visit) -> Response:
    """Put a failed task back into the queue."""
    (row,) = await visit.call("retry_agent_task", id=visit.request.path_params["id"], user_id=visit.user_id)
    return visit.back(Notice(f"“{row['title']}” is back in the queue."))


@pages.post("/agents/tasks/{id:uuid}/cancel", Role.BRAND_ADMIN)
async def cancel(visit: Visit) -> Response:
    """Cancel a pending task, or ask a running one to stop."""
    (row,) = await visit.call(
        "cancel_agent_task",
        id=visit.request.path_params["id"],
        reason=visit.form.text("reason"),
        user_id=visit.user_id,
    )
    asked = row["status"] == "in_progress"
    return visit.back(Notice(f"“{row['title']}” {'was asked to stop' if asked else 'is cancelled'}."))


@pages.post("/agents/tasks/{id:uuid}/priority", Role.BRAND_ADMIN)
async def priority(visit: Visit) -> Response:
    """Let a pending task run earlier or later than others."""
    (row,) = await visit.call(
        "set_agent_task_priority",
        id=visit.request.path_params["id"],
        priority=read_priority(visit.form.get("priority", "")),
        user_id=visit.user_id,
    )
    return visit.back(Notice(f"“{row['title']}” has priority {row['priority']}."))
