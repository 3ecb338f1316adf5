"""Runs of workflows: the list, and one of them, drawn with the state of each step, with what it asks of people."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field
from starlette.responses import RedirectResponse, Response

from zora_core.admin.graph_chart import workflow_graph
from zora_core.admin.inbox import shown_suggestions
from zora_core.admin.live import MAX_WATCHED
from zora_core.admin.pages.workflows import STATES, definitions
from zora_core.admin.site import Notice, Pages, Query, Visit
from zora_core.errors import NotFound
from zora_core.models import Role
from zora_core.workflows import result_of

pages = Pages()

PAGE = 50
MAX_ASKING = 20  # steps whose open suggestions are looked for
MAX_ASKED = 20  # of these that are shown


class RunsQuery(Query):
    """Which runs are shown."""

    workflow: str | None = Field(default=None, max_length=100)
    offset: int = Field(default=0, ge=0, le=1_000_000)


@pages.get("/workflow-runs")
async def index(visit: Visit) -> Response:
    """Runs, newest first."""
    query: RunsQuery = visit.query(RunsQuery)
    rows, total, known = await asyncio.gather(
        visit.call("list_workflow_runs", workflow=query.workflow, limit=PAGE, offset=query.offset),
        visit.value("count_workflow_runs", workflow=query.workflow),
        definitions(visit),
    )
    names = {key: one.name for key, one in known.items()}
    if query.workflow:
        names.setdefault(query.workflow, query.workflow)
    after = query.offset + len(rows)
    return await visit.page(
        "workflow_runs.html",
        query=query,
        runs=rows,
        total=total,
        names=names,
        states=STATES,
        older=after if rows and after < total else None,
        newer=max(query.offset - PAGE, 0) if query.offset else None,
    )


@pages.get("/workflow-runs/{id}")
async def show(visit: Visit) -> Response:
    """One run. Its id may be the end of it, as the tables of the command line show."""
    given = visit.request.path_params["id"]
    run_id: UUID = await visit.value("find_workflow_run", id=given)
    if str(run_id) != given:
        return RedirectResponse(f"/admin/workflow-runs/{run_id}", 303)
    rows, steps, known = await asyncio.gather(
        visit.call("list_workflow_runs", id=run_id),
        visit.call("list_workflow_run_tasks", id=run_id),
        definitions(visit),
    )
    if not rows:
        raise NotFound(f"no workflow run {run_id}")
    run = rows[0]
    # As the definition has them: a step that delegates waits for what it delegated, too.
    edges = {step["key"]: step.get("depends_on", []) for step in run["definition"]["steps"]}
    shown = [
        {
            **step,
            "edges": edges.get(step["step"], []),
            "depends_on": [edge if isinstance(edge, str) else edge["key"] for edge in edges.get(step["step"], [])],
            "state": state_of(step),
            "seconds": seconds_of(step),
        }
        for step in steps
    ]
    results = result_of(shown)
    holding, proposed = await asyncio.gather(
        _asked(visit, [step for step in steps if step["waiting_for"] == "approval"]),
        _asked(visit, [step for step in reversed(steps) if step["status"] == "completed" and step["started_at"]]),
    )
    return await visit.page(
        "workflow_run.html",
        watch=_watched(steps),
        run=run,
        states=STATES,
        is_known=run["workflow"] in known,
        graph=workflow_graph([_box(step) for step in shown], title=f"The steps of {run['name']}"),
        steps=shown,
        numbers={step["step"]: number for number, step in enumerate(steps, start=1)},
        last=[step for step in shown if step["step"] in results],
        holding=await shown_suggestions(visit, holding),
        proposed=proposed,
        may_cancel=run["ended"] < run["tasks"],
        may_retry=any(step["status"] == "failed" and step["failure_kind"] != "rejected" for step in steps),
    )


def state_of(step: Mapping[str, Any]) -> str:
    """A step's state in one word, as the graph colours it."""
    match step["status"]:
        case "pending" if step["waiting_for"] == "approval":
            return "waiting"
        case "completed" if step["started_at"] is None:
            return "skipped"
        case status:
            return str(status)


def seconds_of(step: Mapping[str, Any]) -> float | None:
    """How long a step's last run took; None when it has not ended, or never ran."""
    began: datetime | None = step["started_at"]
    ended: datetime | None = step["completed_at"]
    return (ended - began).total_seconds() if began and ended else None


def _box(step: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key": step["step"],
        "title": step["title"],
        "agent_id": step["agent_id"],
        "task_type": step["task_type"],
        "depends_on": step["edges"],
        "status": step["state"],
        "href": f"/admin/agents/tasks/{step['id']}",
    }


def _watched(steps: Sequence[Mapping[str, Any]]) -> list[UUID]:
    """The unfinished tasks of which an open page is told; those that run, or may run, come first."""
    open_ = [step for step in steps if step["status"] in ("pending", "in_progress")]
    open_.sort(key=lambda step: (step["status"] != "in_progress", step["waiting_for"] is not None))
    return [step["id"] for step in open_[:MAX_WATCHED]]


async def _asked(visit: Visit, steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Open suggestions of these steps."""
    found = await asyncio.gather(
        *(
            visit.call("list_agent_suggestions", task_id=step["id"], status="proposed", limit=MAX_ASKED)
            for step in steps[:MAX_ASKING]
        )
    )
    return [row for rows in found for row in reversed(rows)][:MAX_ASKED]


@pages.post("/workflow-runs/{id:uuid}/cancel", Role.BRAND_ADMIN)
async def cancel(visit: Visit) -> Response:
    """Cancel what has not ended of a run; running tasks are asked to stop."""
    run_id = await _known(visit)
    cancelled = await visit.value(
        "cancel_workflow_run", id=run_id, reason=visit.form.text("reason"), user_id=visit.user_id
    )
    return visit.back(Notice(f"{_tasks(cancelled)} cancelled, or asked to stop."), to=f"/admin/workflow-runs/{run_id}")


@pages.post("/workflow-runs/{id:uuid}/retry", Role.BRAND_ADMIN)
async def retry(visit: Visit) -> Response:
    """Put back into the queue what failed in a run, and what hung on it."""
    run_id = await _known(visit)
    retried = await visit.value("retry_workflow_run", id=run_id, user_id=visit.user_id)
    return visit.back(Notice(f"{_tasks(retried)} back in the queue."), to=f"/admin/workflow-runs/{run_id}")


async def _known(visit: Visit) -> UUID:
    run_id: UUID = visit.request.path_params["id"]
    await visit.value("find_workflow_run", id=str(run_id))
    return run_id


def _tasks(number: int) -> str:
    return "1 task is" if number == 1 else f"{number} tasks are"
