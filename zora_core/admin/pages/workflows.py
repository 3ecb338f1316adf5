"""Workflows: the definitions, with their steps in words and drawn; starting a run, and changing a definition."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from pydantic import Field, ValidationError
from pydantic_core import from_json
from starlette.responses import Response

from zora_core.admin.forms import Field as Control
from zora_core.admin.graph_chart import workflow_graph
from zora_core.admin.site import Notice, Pages, Query, Visit
from zora_core.api.errors import field_errors
from zora_core.api.workflows import RunCreate, WorkflowSave
from zora_core.errors import InvalidInput, NotFound
from zora_core.graph import ordered
from zora_core.models import Role
from zora_core.workflows import Step, Workflow, choose, parse, shipped

pages = Pages()

HERE = "/admin/workflows"
RUNS_LOOKED_THROUGH = 100  # newest of the tenant's, for the list of workflows
LAST_RUNS = 3
STATES = {"running": "running", "waiting": "waits for a person", "completed": "completed", "failed": "failed"}
PREFIX = "input."  # of the names of a run's inputs in the form


@dataclass(frozen=True)
class Definition:
    """A workflow that can be chosen: the tenant's own, or one that comes with the program."""

    key: str
    name: str
    is_own: bool
    is_shipped: bool
    """Whether the program has one of this key; the tenant's own takes its place."""
    workflow: Workflow | None = None
    """None when this version cannot read what is stored."""
    problem: str = ""


async def definitions(visit: Visit) -> dict[str, Definition]:
    """The tenant's workflows and the shipped ones, by key."""
    ours = shipped()
    found = {key: Definition(key, one.name, False, True, one) for key, one in ours.items()}
    for row in await visit.call("list_workflows"):
        workflow, problem = None, ""
        try:
            workflow = parse(row["definition"])
            ordered([step.model_dump() for step in workflow.steps])
        except InvalidInput as error:
            workflow, problem = None, str(error)
        found[row["key"]] = Definition(row["key"], row["name"], True, row["key"] in ours, workflow, problem)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Told:
    """A step in words; `number` is its place among those that can run before it."""

    number: int
    step: Step
    title: str
    """With the inputs' defaults."""
    after: str


def in_words(workflow: Workflow) -> list[Told]:
    """The steps in an order in which they can run, each with what it waits for."""
    by_key = {step.key: step for step in workflow.steps}
    titles = {task["key"]: task["title"] for task in workflow.tasks({})}  # each after those that it waits for
    numbers = {key: number for number, key in enumerate(titles, start=1)}
    return [Told(number, by_key[key], titles[key], _after(by_key[key], numbers)) for key, number in numbers.items()]


def _after(step: Step, numbers: Mapping[str, int]) -> str:
    """What a step waits for, by the others' numbers, and what becomes of it when that fails."""
    places: dict[str, list[int]] = {"fail": [], "skip": [], "continue": []}
    for edge in step.depends_on:
        name, policy = (edge, "fail") if isinstance(edge, str) else (edge.key, edge.on_failure)
        places[policy].append(numbers[name])
    one = {"fail": "", "skip": ", unless that fails", "continue": ", even if that fails"}
    several = {"fail": "", "skip": ", unless one of them fails", "continue": ", even if they fail"}
    return "; ".join(
        f"after {_listed(sorted(those))}{(one if len(those) == 1 else several)[policy]}"
        for policy, those in places.items()
        if those
    )


def _listed(numbers: Sequence[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last


def drawn(workflow: Workflow) -> Markup:
    """The graph of a definition; its boxes lead to the steps below it."""
    steps = [
        {**told.step.model_dump(mode="json"), "title": told.title, "href": f"#step-{told.step.key}"}
        for told in in_words(workflow)
    ]
    return workflow_graph(steps, title=f"The steps of {workflow.name}")


def written(workflow: Workflow) -> str:
    """A definition as JSON for people, without what is as it would be anyway."""
    return json.dumps(workflow.model_dump(mode="json", exclude_defaults=True), indent=2, ensure_ascii=False)


@pages.get("/workflows")
async def index(visit: Visit) -> Response:
    """The workflows, each with its steps in words and its last runs."""
    found, runs = await asyncio.gather(definitions(visit), visit.call("list_workflow_runs", limit=RUNS_LOOKED_THROUGH))
    last: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        last[run["workflow"]].append(run)
    return await visit.page(
        "workflows.html",
        definitions=found.values(),
        steps={key: in_words(one.workflow) for key, one in found.items() if one.workflow},
        states=STATES,
        last={key: rows[:LAST_RUNS] for key, rows in last.items()},
    )


@pages.get("/workflows/{key}")
async def show(visit: Visit) -> Response:
    """One workflow: drawn, its inputs and steps, its last runs, and the form that starts one."""
    return await _show(visit)


async def _show(
    visit: Visit, *, values: Mapping[str, str] | None = None, errors: Mapping[str, str] | None = None
) -> Response:
    key = visit.request.path_params["key"]
    found, runs = await asyncio.gather(
        definitions(visit), visit.call("list_workflow_runs", workflow=key, limit=LAST_RUNS + 2)
    )
    definition = found.get(key)
    if definition is None:
        raise NotFound(f"no workflow {key!r} (known: {', '.join(found)})")
    workflow = definition.workflow
    controls = input_controls(workflow) if workflow else []
    return await visit.page(
        "workflow.html",
        status=400 if errors else 200,
        d=definition,
        graph=drawn(workflow) if workflow else None,
        steps=in_words(workflow) if workflow else [],
        definition=workflow.model_dump(mode="json", exclude_defaults=True) if workflow else None,
        runs=runs,
        states=STATES,
        controls=controls,
        values=values if values is not None else {c.name: typed_default(c) for c in controls},
        errors=errors or {},
    )


def input_controls(workflow: Workflow) -> list[Control]:
    """A control for each input: what has a text as its default is a text, everything else is written as JSON."""
    return [
        Control(
            name=f"{PREFIX}{name}",
            path=(name,),
            label=name,
            kind="json" if isinstance(default, dict | list) else "text",
            help=_input_help(default),
            default=default,
        )
        for name, default in workflow.inputs.items()
    ]


def _input_help(default: Any) -> str:
    match default:
        case str() | dict() | list():
            return ""  # the control says it
        case bool():
            return "true or false."
        case int() | float():
            return "A number."
        case _:
            return 'Written as JSON: a text stands in quotes, such as "climate".'


def typed_default(control: Control) -> str:
    """An input's default as a person would type it."""
    value = control.default
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@pages.post("/workflows/{key}", Role.MEMBER)
async def start(visit: Visit) -> Response:
    """Start a run with the inputs of the form; what cannot be is said at its field, and nothing is started."""
    workflow = choose(await visit.call("list_workflows"), visit.request.path_params["key"])
    values = {name: text for name, text in visit.form.items() if name.startswith(PREFIX)}
    inputs: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for control in input_controls(workflow):
        text = values.get(control.name)
        if text is None:
            continue  # its default
        try:
            value = text if isinstance(control.default, str) else from_json(text, allow_inf_nan=False)
            inputs |= RunCreate(inputs={control.path[0]: value}).inputs
        except ValidationError as error:
            errors[control.name] = error.errors()[0]["msg"]
        except ValueError as error:
            errors[control.name] = f'must be JSON, such as 5, true, or "a text" in quotes: {error}'
    if not errors:
        try:
            filled = workflow.model_copy(update={"inputs": {**workflow.inputs, **inputs}})
            filled.check(visit.caller.api.registry)
        except InvalidInput as error:
            errors["payload"] = f"It could not run like this: {error}"
    if errors:
        return await _show(visit, values=values, errors=errors)
    (row,) = await visit.call(
        "start_workflow_run",
        workflow=workflow.key,
        name=workflow.name,
        definition=workflow.model_dump(mode="json"),
        context={**workflow.inputs, **inputs},
        tasks=workflow.tasks(inputs),
        user_id=visit.user_id,
    )
    return visit.back(Notice(f"“{row['name']}” is started."), to=f"/admin/workflow-runs/{row['id']}")


@pages.post("/workflows/{key}/delete", Role.BRAND_ADMIN, person=True)
async def delete(visit: Visit) -> Response:
    """Remove the tenant's definition; its runs stay."""
    key = visit.request.path_params["key"]
    (row,) = await visit.call("delete_workflow", key=key, user_id=visit.user_id)
    back = f"{HERE}/{quote(key, safe='')}" if key in shipped() else HERE
    rest = " The one that comes with the program holds again." if key in shipped() else ""
    return visit.back(Notice(f"“{row['name']}” is deleted; its runs stay.{rest}"), to=back)


# --- changing a definition --------------------------------------------------------------------------------------------


class EditQuery(Query):
    """Which definition is changed; none, and a new one is written."""

    key: str | None = Field(default=None, max_length=100)


@pages.get("/workflow-definition", Role.BRAND_ADMIN)
async def edit(visit: Visit) -> Response:
    """A definition as JSON, to be changed; of a new one, an example."""
    query: EditQuery = visit.query(EditQuery)
    if query.key is None:
        return await _edit(visit, None, written(parse(WorkflowSave.model_json_schema()["examples"][0])))
    found = (await definitions(visit)).get(query.key)
    if found is None:
        raise NotFound(f"no workflow {query.key!r}")
    if found.workflow is not None:
        return await _edit(visit, found, written(found.workflow))
    stored = {row["key"]: row["definition"] for row in await visit.call("list_workflows")}
    text = json.dumps(stored.get(query.key), indent=2, ensure_ascii=False)
    return await _edit(visit, found, text, [found.problem], status=200)


async def _edit(
    visit: Visit, of: Definition | None, text: str, problems: Sequence[str] = (), *, status: int | None = None
) -> Response:
    return await visit.page(
        "workflow_edit.html", status=status or (400 if problems else 200), of=of, text=text, problems=problems
    )


@pages.post("/workflow-definition", Role.BRAND_ADMIN, person=True)
async def save(visit: Visit) -> Response:
    """Keep a definition under its key, checked as the API checks it; runs go on as they began."""
    text = visit.form.get("definition", "")
    query: EditQuery = visit.query(EditQuery)
    found = await definitions(visit)
    of = found.get(query.key) if query.key else None
    try:
        workflow = WorkflowSave.model_validate_json(text).root
        workflow.check(visit.caller.api.registry)
    except ValidationError as error:
        problems = field_errors(error.errors(include_url=False, include_input=False, include_context=False))
        return await _edit(visit, of, text, [_told(problem) for problem in problems])
    except InvalidInput as error:
        return await _edit(visit, of, text, [str(error)])
    if workflow.key in found and (of is None or of.key != workflow.key):
        taken = f"key: there is a workflow {workflow.key!r} already. Choose another key, or change that one."
        return await _edit(visit, of, text, [taken])
    await visit.call(
        "save_workflow",
        key=workflow.key,
        name=workflow.name,
        definition=workflow.model_dump(mode="json"),
        user_id=visit.user_id,
    )
    return visit.back(Notice(f"“{workflow.name}” is saved."), to=f"{HERE}/{workflow.key}")


def _told(problem: Mapping[str, str]) -> str:
    said = problem["message"].removeprefix(": ")  # of the whole, which has no name
    return said if problem["field"] == "body" else f"{problem['field']}: {said}"
