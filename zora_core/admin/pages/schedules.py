"""Schedules: what comes in the next 24 hours, all of them, one in full, and a new one from the form of its type."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.responses import RedirectResponse, Response

from zora_core.admin.charts import day_strip
from zora_core.admin.crontab import in_words
from zora_core.admin.forms import errors_of, fields_of, payload_of, requirement, submitted, values_of
from zora_core.admin.site import Form, Notice, Pages, Query, Visit
from zora_core.agents.agent import TaskType
from zora_core.api.errors import field_errors
from zora_core.api.schedules import ScheduleChange, ScheduleCreate
from zora_core.cron import zones
from zora_core.errors import DuplicateKey, InvalidPayload
from zora_core.models import AgentId, Role
from zora_core.schedules import LATE, plan_schedules

pages = Pages()

DRAWN = 40  # schedules in the strip of the next day
LISTED = 12  # fire times of one schedule
MISFIRES = {
    "skip": "leave them out",
    "run_once": "create one task for all of them",
    "catch_up": "create a task for each",
}
OVERLAPS = {"allow": "create another one all the same", "skip": "leave it out"}

# Fields of a schedule besides its payload, as the form has them.
_OWN = (
    "name", "cron", "timezone", "title", "priority", "misfire_policy", "max_catch_up", "grace_seconds",
    "overlap_policy",
)  # fmt: skip
_NUMBERS = ("priority", "max_catch_up", "grace_seconds")
_DEFAULTS = {name: ScheduleCreate.model_fields[name].default for name in _OWN if name not in ("name", "cron", "title")}


class NewQuery(Query):
    """What has been chosen for a new schedule."""

    agent: AgentId | None = None
    type: str | None = None


@pages.get("/schedules")
async def index(visit: Visit) -> Response:
    """The next 24 hours, and all schedules by name."""
    rows, paused = await asyncio.gather(visit.call("list_schedules"), _paused(visit))
    now = datetime.now(UTC)
    until = now + timedelta(hours=24)
    days = [(row, [time for time in _upcoming(row) if now <= time <= until]) for row in rows]
    coming = sorted((one for one in days if one[1]), key=lambda one: (one[1][0], one[0]["name"]))
    strip = [
        {"name": row["name"], "times": times, "href": f"/admin/schedules/{row['id']}"} for row, times in coming[:DRAWN]
    ]
    return await visit.page(
        "schedules.html",
        schedules=[_shown(visit, row, paused, now) for row in rows],
        strip=day_strip(strip, now, title="The next 24 hours, in UTC") if strip else None,
        undrawn=max(0, len(coming) - DRAWN),
    )


@pages.get("/schedules/new", Role.BRAND_ADMIN)
async def new(visit: Visit) -> Response:
    """The choice of a task type, or the form of a schedule of the one that was chosen."""
    query: NewQuery = visit.query(NewQuery)
    kind = visit.task_type(query.agent, query.type)
    if kind is None:
        kinds = {agent: [kind for kind in visit.caller.api.registry if kind.agent_id == agent] for agent in AgentId}
        return await visit.page("schedule_kinds.html", kinds=kinds)
    own = {"name": "", "cron": "", "title": "", **{name: str(value) for name, value in _DEFAULTS.items()}}
    return await _new_form(visit, kind, own, values_of(fields_of(kind.schema), {}))


async def _new_form(
    visit: Visit,
    kind: TaskType,
    own: dict[str, str],
    values: dict[str, Any],
    *,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    return await visit.page(
        "schedule_new.html",
        status=status,
        kind=kind,
        **_form(kind, own, values, errors),
    )


def _form(
    kind: TaskType | None, own: dict[str, str], values: dict[str, Any], errors: dict[str, str] | None
) -> dict[str, Any]:
    """What `_schedule_form.html` needs."""
    return {
        "fields": fields_of(kind.schema) if kind else [],
        "requirement": requirement(kind.schema) if kind else "",
        "own": own,
        "values": values,
        "errors": errors or {},
        "misfires": MISFIRES,
        "overlaps": OVERLAPS,
        "zones": sorted(zones()),
    }


@pages.post("/schedules/new", Role.BRAND_ADMIN, person=True)
async def create(visit: Visit) -> Response:
    """Create a schedule and plan its fire times; what is wrong is said at its field."""
    form = visit.form
    kind = visit.task_type(form.get("agent"), form.get("type"))
    if kind is None:
        return visit.back(Notice("There is no such task type.", "problem"), to="/admin/schedules/new")
    payload, errors = _payload(kind, form)
    given = {"agent_id": kind.agent_id, "task_type": kind.name, "payload": payload, **_own(form)}
    schedule, problems = _checked(ScheduleCreate, given)
    errors |= problems
    if schedule is not None and not errors:
        try:
            (row,) = await visit.call(
                "create_schedule", schedule=schedule.model_dump(mode="json"), user_id=visit.user_id
            )
        except DuplicateKey as error:
            errors["name"] = str(error)
        else:
            return await _planned(visit, row["id"], "Created.")
    values = submitted(fields_of(kind.schema), form)
    return await _new_form(visit, kind, _typed(form), values, errors=errors, status=400)


@pages.get("/schedules/{id}")
async def show(visit: Visit) -> Response:
    """Everything about a schedule. Its id may be its name or the end of the id, as for the command line."""
    given = visit.request.path_params["id"]
    (row,) = await visit.call("get_schedule", id=given)
    if str(row["id"]) != given:
        return RedirectResponse(f"/admin/schedules/{row['id']}", 303)
    kind = visit.task_type(row["agent_id"], row["task_type"])
    own = {name: "" if row[name] is None else str(row[name]) for name in _OWN}
    return await _show(visit, row, own, values_of(fields_of(kind.schema), row["payload"]) if kind else {})


async def _show(
    visit: Visit,
    row: dict[str, Any],
    own: dict[str, str],
    values: dict[str, Any],
    *,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    now = datetime.now(UTC)
    shown = _shown(visit, row, await _paused(visit), now)
    zone = _zone(row)
    times = _upcoming(row)
    kind = visit.task_type(row["agent_id"], row["task_type"])
    return await visit.page(
        "schedule.html",
        status=status,
        s=shown,
        kind=kind,
        times=[(time, f"{time.astimezone(zone):%a %Y-%m-%d %H:%M}") for time in times[:LISTED]],
        misfire=MISFIRES[row["misfire_policy"]],
        overlap=OVERLAPS[row["overlap_policy"]],
        **_form(kind, own, values, errors),
    )


@pages.post("/schedules/{id:uuid}", Role.BRAND_ADMIN, person=True)
async def update(visit: Visit) -> Response:
    """Change a schedule and plan its fire times anew; what is wrong is said at its field."""
    form = visit.form
    (row,) = await visit.call("get_schedule", id=str(visit.request.path_params["id"]))
    kind = visit.task_type(row["agent_id"], row["task_type"])
    given: dict[str, Any] = {"title": None, **_own(form)}
    errors: dict[str, str] = {}
    if kind is not None:
        payload, errors = _payload(kind, form)
        if errors or not _same(kind, payload, row["payload"]):
            given["payload"] = payload
    missing = {name: "is required" for name in ("name", "cron", "timezone") if name not in given}
    change, problems = _checked(ScheduleChange, given)
    errors |= missing | problems
    if change is not None and not errors:
        try:
            await visit.call(
                "update_schedule",
                id=row["id"],
                changes=change.model_dump(mode="json", exclude_unset=True),
                user_id=visit.user_id,
            )
        except DuplicateKey as error:
            errors["name"] = str(error)
        else:
            return await _planned(visit, row["id"], "Saved.")
    values = submitted(fields_of(kind.schema), form) if kind else {}
    return await _show(visit, row, _typed(form), values, errors=errors, status=400)


@pages.post("/schedules/{id:uuid}/enabled", Role.BRAND_ADMIN, person=True)
async def enable(visit: Visit) -> Response:
    """Let a schedule go on from now, or stop it."""
    enabled = visit.form.get("enabled") == "1"
    (row,) = await visit.call(
        "update_schedule",
        id=visit.request.path_params["id"],
        changes={"enabled": enabled},
        user_id=visit.user_id,
    )
    if enabled:
        return await _planned(visit, row["id"], "Resumed.", stay=True)
    return visit.back(Notice(f"“{row['name']}” is paused. What would have come meanwhile is not made up for."))


@pages.post("/schedules/{id:uuid}/run-now", Role.BRAND_ADMIN, person=True)
async def run_now(visit: Visit) -> Response:
    """Create a task at once; the fire times stay as they are."""
    (row,) = await visit.call("run_schedule_now", id=visit.request.path_params["id"], user_id=visit.user_id)
    return visit.back(Notice(f"Created a task of “{row['name']}”."), to=f"/admin/agents/tasks/{row['last_task_id']}")


@pages.post("/schedules/{id:uuid}/delete", Role.BRAND_ADMIN, person=True)
async def delete(visit: Visit) -> Response:
    """Delete a schedule; its tasks stay."""
    (row,) = await visit.call("delete_schedule", id=visit.request.path_params["id"], user_id=visit.user_id)
    return visit.back(Notice(f"Deleted the schedule “{row['name']}”; its tasks stay."), to="/admin/schedules")


# --- what is shown ----------------------------------------------------------------------------------------------------


async def _paused(visit: Visit) -> set[str]:
    """The agents that are paused, * for all."""
    return {row["agent_id"] for row in await visit.call("list_agent_pauses")}


def _shown(visit: Visit, row: dict[str, Any], paused: set[str], now: datetime) -> dict[str, Any]:
    """A stored schedule with its cron expression in words and its `state`: class, word and explanation."""
    state = _state(visit, row, paused, now)
    return {**row, "words": in_words(row["cron"]), "state": state, "next_local": _local(row)}


def _state(visit: Visit, row: dict[str, Any], paused: set[str], now: datetime) -> tuple[str, str, str]:
    if not row["enabled"]:
        return "paused", "paused", "Nothing is created until it is enabled."
    if row["problem"]:
        return "problem", "problem", row["problem"]
    if paused & {"*", row["agent_id"]}:
        who = "All agents are" if "*" in paused else f"{row['agent_id']} is"
        return "waits", "agent paused", f"{who} paused: what is due waits until then."
    run = f"`{visit.command('run-loop')}` or `{visit.command('serve')}`"
    if row["next_run_at"] is None:
        return "waits", "not planned", f"When it comes next is computed by any {run}."
    if row["next_run_at"] < now - LATE:
        return "problem", "late", f"It is due, but no worker runs it: start {run}."
    return "ok", "enabled", ""


def _upcoming(row: dict[str, Any]) -> list[datetime]:
    return sorted(row["upcoming"] or ()) if row["enabled"] else []


def _zone(row: dict[str, Any]) -> ZoneInfo:
    return ZoneInfo(row["timezone"] if row["timezone"] in zones() else "UTC")


def _local(row: dict[str, Any]) -> str | None:
    """The next fire time in the schedule's own zone."""
    at: datetime | None = row["next_run_at"]
    return f"{at.astimezone(_zone(row)):%a %Y-%m-%d %H:%M}" if at else None


async def _planned(visit: Visit, schedule_id: UUID, said: str, *, stay: bool = False) -> Response:
    """Compute its fire times, which SQL does not, and show the schedule, or `stay`, and name its next run."""
    await plan_schedules(visit.caller.api.database, visit.caller.principal.tenant_id)
    (row,) = await visit.call("get_schedule", id=str(schedule_id))
    where = None if stay else f"/admin/schedules/{schedule_id}"
    if row["problem"]:
        return visit.back(Notice(f"{said} {row['problem']}", "problem"), to=where)
    comes = f" “{row['name']}” runs next on {_local(row)} ({row['timezone']})." if row["next_run_at"] else ""
    return visit.back(Notice(said + comes), to=where)


# --- what was typed ---------------------------------------------------------------------------------------------------


def _typed(form: Form) -> dict[str, str]:
    return {name: form.get(name, "").strip() for name in _OWN}


def _own(form: Form) -> dict[str, Any]:
    """The fields besides the payload as the API takes them: numbers as numbers, nothing that was left empty."""
    given: dict[str, Any] = {name: text for name, text in _typed(form).items() if text}
    for name in _NUMBERS:
        if name in given and given[name].removeprefix("-").isdecimal() and len(given[name]) < 20:
            given[name] = int(given[name])
    return given


def _payload(kind: TaskType, form: Form) -> tuple[dict[str, Any], dict[str, str]]:
    """The payload, and what is wrong with it by the control that it belongs to."""
    fields = fields_of(kind.schema)
    payload: dict[str, Any] = {}
    try:
        payload = payload_of(fields, form)
        kind.parse(payload)
    except InvalidPayload as error:
        return payload, errors_of(fields, error.problems)
    return payload, {}


def _same(kind: TaskType, payload: dict[str, Any], stored: dict[str, Any]) -> bool:
    """Whether a payload means what is stored: the form leaves defaults out, and that alone is no change."""
    try:
        return kind.parse(payload).model_dump() == kind.parse(stored).model_dump()
    except InvalidPayload:
        return False


def _checked(model: type[BaseModel], given: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    """What is given as the API's model, or what is wrong with it by field."""
    try:
        return model.model_validate_json(to_json(given)), {}
    except ValidationError as error:
        problems = field_errors(error.errors(include_url=False, include_input=False, include_context=False))
        return None, {problem["field"]: problem["message"] for problem in problems}
