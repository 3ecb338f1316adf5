"""A new task: agent, type, and the fields of its payload, made of the type's JSON Schema; checked before it is sent."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import to_json
from starlette.responses import RedirectResponse, Response

from zora_core.admin.command import command_line
from zora_core.admin.forms import errors_of, fields_of, payload_of, submitted, values_of
from zora_core.admin.site import Notice, Pages, Query, Visit
from zora_core.agents.agent import TaskType
from zora_core.api.errors import ValidationFailed, field_errors
from zora_core.api.tasks import TaskCreate
from zora_core.errors import InvalidPayload
from zora_core.models import AgentId, Role

pages = Pages()

# Fields of a task besides its payload, as the form has them.
_OWN = ("title", "description", "priority", "run_at", "deadline_at", "max_attempts", "timeout_seconds")


class NewQuery(Query):
    """What has been chosen; `copy` is a task whose payload is taken over."""

    agent: AgentId | None = None
    type: str | None = None
    copy_of: UUID | None = None


@pages.get("/agents/tasks/new", Role.MEMBER)
async def new(visit: Visit) -> Response:
    """The choice of a task type, or the form of the one that was chosen."""
    query: NewQuery = visit.query(NewQuery)
    original: dict[str, Any] | None = None
    if query.copy_of:
        (original,) = await visit.call("get_agent_task", id=str(query.copy_of))
        query.agent, query.type = AgentId(original["agent_id"]), original["task_type"]
    kind = visit.task_type(query.agent, query.type)
    if kind is None:
        kinds = {agent: [kind for kind in visit.caller.api.registry if kind.agent_id == agent] for agent in AgentId}
        return await visit.page("new.html", kinds=kinds)
    fields = fields_of(kind.schema)
    own = {"title": original["title"], "priority": str(original["priority"])} if original else {}
    own.setdefault("priority", "0")
    return await _form(visit, kind, own, values_of(fields, original["payload"] if original else {}))


async def _form(
    visit: Visit,
    kind: TaskType,
    own: dict[str, str],
    values: dict[str, Any],
    *,
    errors: dict[str, str] | None = None,
    command: str | None = None,
    status: int = 200,
) -> Response:
    fields = fields_of(kind.schema)
    return await visit.page(
        "new_task.html",
        status=status,
        kind=kind,
        fields=fields,
        own=own,
        values=values,
        errors=errors or {},
        labels={field.name: field.label for field in fields},
        command=command,
    )


@pages.post("/agents/tasks/new", Role.MEMBER)
async def create(visit: Visit) -> Response:
    """Check the form; with `action` create, create the task as well. What is wrong is said at its field."""
    form = visit.form
    kind = visit.task_type(form.get("agent"), form.get("type"))
    if kind is None:
        return visit.back(Notice("There is no such task type.", "problem"), to="/admin/agents/tasks/new")
    fields = fields_of(kind.schema)
    own = {name: form.get(name, "").strip() for name in _OWN}
    errors: dict[str, str] = {}
    payload: dict[str, Any] = {}
    try:
        payload = payload_of(fields, form)
        kind.parse(payload)
    except InvalidPayload as error:
        errors |= errors_of(fields, error.problems)
    task: TaskCreate | None = None
    try:
        task = TaskCreate.model_validate_json(to_json(_task(kind, own, payload)))
        task.check(visit.caller.api.registry)
    except ValidationError as error:
        problems = field_errors(error.errors(include_url=False, include_input=False, include_context=False))
        errors |= {problem["field"]: problem["message"] for problem in problems}
    except ValidationFailed as error:  # of the payload: said above, at its field
        errors = errors or {"payload": str(error)}
    if errors or task is None:
        return await _form(visit, kind, own, submitted(fields, form), errors=errors, status=400)
    if form.get("action") != "create":
        command = command_line(
            task.agent_id,
            task.task_type,
            task.title,
            payload,
            tenant=visit.foreign,
            **task.model_dump(include=set(_OWN) - {"title"}, exclude_none=True),
        )
        return await _form(visit, kind, own, submitted(fields, form), command=command)
    (row,) = await visit.call(
        "create_agent_tasks", tasks=[task.check(visit.caller.api.registry)], created_by=visit.user_id
    )
    return visit.back(Notice("Created."), to=f"/admin/agents/tasks/{quote(str(row['id']))}")


def _task(kind: TaskType, own: dict[str, str], payload: dict[str, Any]) -> dict[str, Any]:
    """The task as the API takes it: numbers as numbers, times with their zone, nothing that was left empty."""
    given: dict[str, Any] = {name: text for name, text in own.items() if text}
    for name in ("priority", "max_attempts", "timeout_seconds"):
        if name in given and given[name].lstrip("-").isdecimal():
            given[name] = int(given[name])
    for name in ("run_at", "deadline_at"):
        if name in given and not given[name].endswith("Z"):
            given[name] += "Z"  # a browser's control for a time knows no zone; the label says UTC
    return {"agent_id": kind.agent_id, "task_type": kind.name, "payload": payload, **given}


@pages.post("/agents/ask", Role.MEMBER)
async def ask(visit: Visit) -> Response:
    """Have LUMINA make a plan of a sentence, for a person to approve."""
    text = visit.form.text("text")
    if text is None or not 3 <= len(text) <= 500:
        return visit.back(Notice("Say what is wanted in 3 to 500 characters.", "problem"))
    task = {"agent_id": "LUMINA", "task_type": "plan_workflow", "title": text, "payload": {"goal": text}}
    (row,) = await visit.call("create_agent_tasks", tasks=[task], created_by=visit.user_id)
    return RedirectResponse(f"/admin/agents/tasks/{row['id']}", 303)
