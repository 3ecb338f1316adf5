"""The system: whether it goes on, how it is, who works, what waits, how fast, and what needs no asking."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from markupsafe import Markup
from pydantic import Field, ValidationError
from pydantic_core import to_json
from starlette.responses import Response

from zora_core import __version__
from zora_core.admin import charts, health
from zora_core.admin.live import board_counts
from zora_core.admin.site import Form, Notice, Pages, Query, Visit
from zora_core.api.policies import PauseCreate, PolicySet
from zora_core.errors import InvalidInput
from zora_core.models import Role
from zora_core.wording import count

pages = Pages()

HERE = "/admin/system"
HOUR, DAY = 3600, 86_400
BUCKETS = {HOUR: 60, DAY: 48}


class SystemQuery(Query):
    """Which policy is to be changed: its values are in the form."""

    policy: str | None = Field(default=None, max_length=100)


@dataclass(frozen=True)
class Typed:
    """What was typed into a form that could not be carried out, and what is wrong with it, by field."""

    values: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """What happened in a span of time: drawn, and in words."""

    span: str
    throughput: Markup
    depth: Markup
    said: Sequence[str]


@dataclass
class Queue:
    """An agent's unfinished tasks."""

    ready: int = 0
    running: int = 0
    waiting: Counter[str] = field(default_factory=Counter)
    """By what they wait for."""
    oldest: datetime | None = None
    """When the oldest ready one was created."""


@pages.get("/system")
async def index(visit: Visit) -> Response:
    """Everything about the system that a tenant may know."""
    query: SystemQuery = visit.query(SystemQuery)
    return await _show(visit, chosen=query.policy)


async def _show(
    visit: Visit, *, chosen: str | None = None, policy: Typed | None = None, pause: Typed | None = None
) -> Response:
    """The page; `policy` and `pause` are forms that could not be carried out."""
    board, counts, workers, hour, day, durations, policies, pauses = await asyncio.gather(
        visit.value("agent_board", watched=[]),
        visit.call("agent_task_counts"),
        visit.call("list_workers"),
        visit.call("queue_history", seconds=HOUR, buckets=BUCKETS[HOUR]),
        visit.call("queue_history", seconds=DAY, buckets=BUCKETS[DAY]),
        visit.call("agent_task_durations"),
        visit.call("list_agent_task_policies"),
        visit.call("list_agent_pauses"),
    )
    paused = {row["agent_id"]: row for row in pauses}
    everybody = paused.pop("*", None)
    findings, version = await asyncio.gather(
        health.examine(visit, counts, workers, hour, paused=everybody is not None),
        visit.caller.api.database.value("server_version"),
    )
    by = everybody["paused_by"] if everybody else None
    failed = policy or pause
    return await visit.page(
        "system.html",
        status=400 if failed else 200,
        board=board,
        counts=board_counts(board),
        paused_all=everybody,
        paused_by=await visit.value("user_name", user_id=by) if by else None,
        paused=sorted(paused),
        findings=findings,
        queue=health.ready_of(counts),
        queues=queues(counts),
        workers=workers,
        histories=[history(hour, "hour"), history(day, "day")],
        durations=sorted(durations, key=lambda row: -row["p90_seconds"]),
        policies=policies,
        policy=policy or Typed(_values(policies, chosen)),
        pause=pause or Typed(),
        task_types=sorted({kind.name for kind in visit.caller.api.registry}),
        version=__version__,
        server_version=version,
        uptime=time.monotonic() - visit.caller.api.started,
        open_pages=visit.request.app.state.boards.open_pages(visit.caller.principal.tenant_id),
    )


def queues(counts: Iterable[Mapping[str, Any]]) -> dict[str, Queue]:
    """The rows of `agent_task_counts` by agent; without the finished ones."""
    found: dict[str, Queue] = {}
    for row in sorted(counts, key=lambda row: row["agent_id"]):
        if row["status"] not in ("pending", "in_progress"):
            continue
        queue = found.setdefault(row["agent_id"], Queue())
        if row["status"] == "in_progress":
            queue.running += row["tasks"]
        elif row["waiting_for"] is None:
            queue.ready, queue.oldest = row["tasks"], row["oldest"]
        else:
            queue.waiting[row["waiting_for"]] += row["tasks"]
    return found


def history(buckets: Sequence[Mapping[str, Any]], span: str) -> History:
    """The rows of `queue_history` drawn and told; `span` is what they are of, hour or day."""
    created, completed, failed = (
        sum(bucket[name] for bucket in buckets) for name in ("created", "completed", "failed")
    )
    said = [f"{count(created, 'task')} created, {completed:,} completed, {failed:,} failed."]
    deepest = max(buckets, key=lambda bucket: bucket["depth"])
    if deepest["depth"]:
        before = "an hour ago" if span == "hour" else "a day ago"
        said.append(
            f"{buckets[-1]['depth']:,} unfinished now, {buckets[0]['depth']:,} {before}; "
            f"most: {deepest['depth']:,} at {deepest['bucket_start']:%H:%M} UTC."
        )
    else:
        said.append("None were left unfinished for long.")
    if any(bucket["is_partial"] for bucket in buckets):
        said.append("More happened than is counted here, or more is unfinished: some of these figures are too low.")
    return History(
        f"The last {span}",
        charts.bars(buckets, title=f"Throughput in the last {span}"),
        charts.line(
            [(bucket["bucket_start"], bucket["depth"]) for bucket in buckets],
            title=f"Unfinished tasks in the last {span}",
        ),
        said,
    )


# --- policies ---------------------------------------------------------------------------------------------------------


_MUST = {
    "auto_execute": "choose one",
    "max_risk_level": "choose one",
    "decide_within_hours": "must be a whole number, 1 to 8,760",
}


def _values(policies: Iterable[Mapping[str, Any]], chosen: str | None) -> dict[str, str]:
    """What the form shows of a policy that is to be changed; of none, what holds without one."""
    found = next((row for row in policies if row["task_type"] == chosen), None)
    if found is None:
        return {"task_type": chosen or ""}
    return {
        "task_type": found["task_type"],
        "auto_execute": "yes" if found["auto_execute"] else "no",
        "max_risk_level": found["max_risk_level"] or "",
        "decide_within_hours": str(found["decide_within_hours"] or ""),
    }


@pages.post("/system/policies", Role.BRAND_ADMIN, person=True)
async def set_policy(visit: Visit) -> Response:
    """Say what tasks of a type may do without asking."""
    task_type = visit.form.text("task_type") or ""
    errors: dict[str, str] = {}
    if not 1 <= len(task_type) <= 100:
        errors["task_type"] = "name a task type of 1 to 100 characters"
    try:
        wanted = PolicySet.model_validate_json(to_json(_policy(visit.form)))
    except ValidationError as error:
        wrong = {str(problem["loc"][0]) for problem in error.errors(include_url=False, include_input=False)}
        errors |= {name: _MUST[name] for name in wrong}
    if errors:
        return await _show(visit, policy=Typed(visit.form, errors))
    try:
        await visit.call(
            "set_agent_task_policy",
            task_type=task_type,
            **wanted.model_dump(),
            user_id=visit.user_id,
            known_types=visit.caller.api.registry.names(),
        )
    except InvalidInput as error:
        return await _show(visit, policy=Typed(visit.form, {"task_type": str(error)}))
    runs = "run without asking" if wanted.auto_execute else "are run only after a person has approved"
    return visit.back(Notice(f"Set: tasks of the type {task_type} {runs}."), to=HERE)


def _policy(form: Form) -> dict[str, Any]:
    """The policy as the API takes it; what was left empty is left out."""
    runs, hours = form.get("auto_execute", ""), form.text("decide_within_hours")
    given: dict[str, Any] = {"auto_execute": {"yes": True, "no": False}.get(runs, runs)}
    if risk := form.text("max_risk_level"):
        given["max_risk_level"] = risk
    if hours:
        given["decide_within_hours"] = int(hours) if hours.isdecimal() and len(hours) < 10 else hours
    return given


@pages.post("/system/policies/remove", Role.BRAND_ADMIN, person=True)
async def remove_policy(visit: Visit) -> Response:
    """Remove the tenant's policy for a task type, so that everybody's holds again."""
    task_type = visit.form.get("task_type", "")
    await visit.call("remove_agent_task_policy", task_type=task_type, user_id=visit.user_id)
    return visit.back(Notice(f"Removed: the policy for {task_type}."), to=HERE)


# --- the switch -------------------------------------------------------------------------------------------------------


@pages.post("/system/pause", Role.BRAND_ADMIN, person=True)
async def pause(visit: Visit) -> Response:
    """Stop all claims and effects of the tenant; running tasks finish."""
    try:
        wanted = PauseCreate.model_validate_json(to_json({"reason": visit.form.text("reason")}))
    except ValidationError:  # a form has no NUL characters, so that it can only be its length
        problem = "must have at most 2,000 characters"
        return await _show(visit, pause=Typed(visit.form, {"reason": problem}))
    await visit.call("pause_agents", agent_id=None, reason=wanted.reason, user_id=visit.user_id)
    return visit.back(
        Notice("Everything is paused: no task starts, no suggestion is applied until it is resumed."), to=HERE
    )


@pages.post("/system/resume", Role.BRAND_ADMIN, person=True)
async def resume(visit: Visit) -> Response:
    """Lift the pause of the whole tenant; agents that are paused by themselves stay so."""
    left = [row["agent_id"] for row in await visit.call("resume_agents", agent_id=None, user_id=visit.user_id)]
    still = f" Still paused by themselves: {', '.join(left)}." if left else ""
    return visit.back(Notice(f"The pause is lifted.{still}"), to=HERE)
