"""The OpenAPI document, completed by what FastAPI cannot read from our routes."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, RootModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from zora_core import __version__
from zora_core.errors import InvalidPayload
from zora_core.models import Role

if TYPE_CHECKING:
    from zora_core.agents.agent import Registry, TaskType

REF = "#/components/schemas/{model}"

DESCRIPTION = """
Tasks for six agents, their live status, and what they leave behind.

Every request but `/api/status` needs `Authorization: Bearer` with an API key (`zora keys create`) or an HS256 token
with the claims `tenant_id`, `user_id`, `role` and `exp`. The tenant comes from the credential. Roles, weakest first:
viewer (reads), member (creates tasks and suggestions), brand_admin (decides, cancels, retries, pauses, sets policies
and schedules), founder. A credential that an agent holds (`zora keys create --agent`, or a token with the claim
`agent_id`) never decides, whatever its role.

Success is `{"data": …}`, a list also has `pagination`; failure is `{"error": {"code", "message", "details"}}`. Each
answer has an `X-Request-ID`, the one that was sent or a new one, which the log has too.

Bodies are strict JSON: no unknown fields, no text for a number, and no NUL characters in a text.
Unknown parameters are refused, too. Agents may be named in upper or lower case.

Live status is a WebSocket at `/api/agents/tasks/events`, or a stream of server-sent events at the same path.
"""

TAGS = {
    "tasks": "Tasks for the agents.",
    "live status": "Live changes of tasks.",
    "agents": "The agents and their task types.",
    "suggestions": "Changes that agents propose and people decide.",
    "policies": "What runs and is applied without asking.",
    "schedules": "Tasks that are created at set times.",
    "workflows": "Workflows and their runs.",
    "pauses": "Pauses that stop all claims and all effects.",
    "records": "Journal and memory.",
    "status": "Health and metrics of the server.",
}


class ErrorBody(BaseModel):
    """An error; `code` is for programs, `message` for people."""

    code: str = Field(description="Stable, such as VALIDATION_ERROR.")
    message: str = Field(description="The problem, and often how to correct it.")
    details: list[dict[str, Any]] | None = Field(
        description="Each invalid `field`, with a `message` about it; null for other errors."
    )


class ErrorAnswer(BaseModel):
    """The envelope of every error."""

    error: ErrorBody = Field(description="The problem, in words.")


# By status: what it means, its code and an example of a message, and the header that comes with it.
_ERRORS: dict[int, tuple[str, str, str, str | None]] = {
    400: ("INVALID_JSON or VALIDATION_ERROR", "VALIDATION_ERROR", "title: must not be blank", None),
    401: (
        "Missing or invalid credential",
        "UNAUTHORIZED",
        "the API key is unknown, revoked or expired",
        "WWW-Authenticate",
    ),
    403: ("The role does not allow this", "FORBIDDEN", "this needs the role member, yours is viewer", None),
    404: ("Not found in this tenant", "NOT_FOUND", "no task 0199d2c4-9b0e-7c3a-8f52-5a6b83c73447", None),
    413: ("The body is over 1 MB", "PAYLOAD_TOO_LARGE", "the body is too large: the maximum is 1 MB", None),
    415: ("The Content-Type is not JSON", "UNSUPPORTED_MEDIA_TYPE", "send JSON, and say so: Content-Type: …", None),
    429: ("Too many requests", "RATE_LIMIT_EXCEEDED", "too many requests: wait 0.4 s", "Retry-After"),
    500: ("A fault of this server", "INTERNAL_ERROR", "internal error; see the server's log for this …", None),
    503: (
        "The database cannot serve requests",
        "DATABASE_UNAVAILABLE",
        "the database cannot serve this at the moment: …",
        "Retry-After",
    ),
}
_HEADERS = {
    "X-Request-ID": ("The request's id: yours, or a new one.", "4bf92f3577b34da6a3ce929d0e0e4736"),
    "WWW-Authenticate": ("The scheme to authenticate with.", "Bearer"),
    "Retry-After": ("Seconds to wait.", "1"),
}
_DONE = {"200": "Done", "201": "Created"}

# What can be done next with what an operation answers: by name the operation, its parameter, and where its value is.
_NEXT_PAGE = ("cursor", "$response.body#/pagination/next_cursor")
_CREATED_ID = ("task_id", "$response.body#/data/id")
_SUGGESTION_ID = ("suggestion_id", "$response.body#/data/id")
_RUN_ID = ("run_id", "$response.body#/data/id")
_SCHEDULE_ID = ("schedule_id", "$response.body#/data/id")
_LINKS = {
    "create_task": dict.fromkeys(("get_task", "explain_task", "cancel_task"), _CREATED_ID),
    "cancel_task": {"retry_task": _CREATED_ID},
    "retry_task": {"cancel_task": _CREATED_ID},
    "create_suggestion": dict.fromkeys(("get_suggestion", "decide_suggestion"), _SUGGESTION_ID),
    "decide_suggestion": dict.fromkeys(("get_suggestion", "undo_suggestion"), _SUGGESTION_ID),
    "create_schedule": dict.fromkeys(("get_schedule", "update_schedule", "run_schedule_now"), _SCHEDULE_ID),
    "run_schedule_now": {"get_task": ("task_id", "$response.body#/data/last_task_id"), "delete_schedule": _SCHEDULE_ID},
    "start_workflow_run": dict.fromkeys(("get_workflow_run", "cancel_workflow_run"), _RUN_ID),
    "cancel_workflow_run": {"retry_workflow_run": _RUN_ID},
    "list_tasks": {"list_tasks": _NEXT_PAGE},
    "list_suggestions": {"list_suggestions": _NEXT_PAGE},
    "list_journal": {"list_journal": _NEXT_PAGE},
    "list_memory": {"list_memory": _NEXT_PAGE},
}

# The envelopes are generic, so that the framework knows no names for them, and nothing to say about what is in them.
_ENVELOPES = {
    r"\bOne(?:_(\w+)_|\[(\w+)\])(?=\")": r"\1\2Answer",
    r"\bPage(?:_(\w+)_|\[(\w+)\])(?=\")": r"\1\2Page",
    r"\b(Task|Suggestion)Record": r"\1",
}
_PROPERTIES = {
    "data": "The requested object.",
    "pagination": "The position of this page in the list.",
    "limit": "The maximum number of items on the page.",
    "offset": "The number of skipped items.",
    "total": "The number of items on all pages.",
    "total_is_estimate": "Whether there are more than `total`, which is exact up to 10,000.",
    "has_more": "Whether there is a page after this one.",
}


def install(app: FastAPI, routes: list[APIRoute], registry: Registry) -> None:
    """Serve the document of `routes` at /openapi.json."""

    @cache
    def document() -> dict[str, Any]:
        return _document(app, routes, registry)

    @cache
    def written() -> bytes:
        return json.dumps(document(), ensure_ascii=False, separators=(",", ":")).encode()

    async def answer(request: Request) -> Response:
        return Response(written(), media_type="application/json")

    app.openapi = document  # type: ignore[method-assign]
    app.add_route("/openapi.json", answer, include_in_schema=False)


def role_of(route: APIRoute) -> Role | None:
    """The role that a route declares by `needs(...)`; None for one that needs no credential."""
    calls: list[Any] = [d.call for d in route.dependant.dependencies]
    return next((call.role for call in calls if hasattr(call, "role")), None)


def _body_of(route: APIRoute) -> tuple[type[BaseModel], bool] | None:
    """The model that a route declares by `json_body(...)`, and whether the body may be missing."""
    calls: list[Any] = [d.call for d in route.dependant.dependencies]
    return next(((c.body_model, c.body_optional) for c in calls if hasattr(c, "body_model")), None)


def _document(app: FastAPI, routes: list[APIRoute], registry: Registry) -> dict[str, Any]:
    tags = [{"name": name, "description": description} for name, description in TAGS.items()]
    document = _named(
        get_openapi(
            title="ZORA Agent Runtime",
            version=__version__,
            description=DESCRIPTION,
            routes=app.routes,
            servers=[{"url": "/"}],
            tags=tags,
        )
    )
    components = document["components"]
    schemas = components["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    models: list[type[BaseModel]] = [ErrorAnswer, *(body[0] for route in routes if (body := _body_of(route)))]
    schemas |= models_json_schema([(m, "validation") for m in models], ref_template=REF)[1]["$defs"]
    components["examples"] = _describe_tasks(schemas, registry)
    components["headers"] = {
        name: {"description": d, "required": name == "X-Request-ID", "schema": {"type": "string"}, "example": example}
        for name, (d, example) in _HEADERS.items()
    }
    components["responses"] = {
        code: {**_failure(description, code, message), "headers": _headers(*([header] if header else []))}
        for description, code, message, header in _ERRORS.values()
    }
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or a token."}
    }
    for route in routes:
        for method in route.methods or ():
            _complete(document["paths"][route.path_format][method.lower()], route, components["examples"])
    return document


def _named(document: dict[str, Any]) -> dict[str, Any]:
    """The document with readable names of the envelopes, and descriptions of what is in them."""
    text = json.dumps(document)
    for pattern, name in _ENVELOPES.items():
        text = re.sub(pattern, name, text)
    named: dict[str, Any] = json.loads(text)
    for name, schema in named["components"]["schemas"].items():
        if name.endswith(("Answer", "Page", "Pagination")):
            schema.setdefault("description", "A page of a list." if name.endswith("Page") else "One thing.")
            for key, property_schema in schema["properties"].items():
                if "description" not in property_schema:
                    property_schema["description"] = _PROPERTIES[key]
    return named


def _complete(operation: dict[str, Any], route: APIRoute, examples: dict[str, Any]) -> None:
    operation["operationId"] = route.name
    operation["summary"] = route.summary or operation["description"].split(". ")[0].rstrip(".")
    statuses = {500, 503}
    if route.tags != ["status"]:  # these take anything, for the sake of what watches them
        statuses |= {400}
    role = role_of(route)
    if role is not None:
        operation["security"] = [{"bearer": []}]
        operation["x-role"] = role.value
        statuses |= {401, 403, 429}
    if any(parameter["in"] == "path" for parameter in operation.get("parameters", ())):
        statuses |= {404}
    body = _body_of(route)
    if body is not None:
        statuses |= {413, 415}
        model, optional = body
        content = {"schema": {"$ref": REF.format(model=model.__name__)}, "examples": _examples_of(model, examples)}
        operation["requestBody"] = {"required": not optional, "content": {"application/json": content}}
    answers = operation["responses"]
    answers.pop("422", None)
    for status, answer in answers.items():
        if "content" not in answer:  # a failure that only this operation has
            answer |= _failure(answer["description"], *answer["description"].split(": ", 1))
        if answer["description"] == "Successful Response":
            answer["description"] = _DONE[status]
        answer["headers"] = {**answer.get("headers", {}), **_headers()}
        if status in _DONE and route.name in _LINKS:
            answer["links"] = {
                name: {"operationId": name, "parameters": {parameter: value}}
                for name, (parameter, value) in _LINKS[route.name].items()
            }
    for status in statuses:
        answers.setdefault(str(status), {"$ref": f"#/components/responses/{_ERRORS[status][1]}"})
    operation["responses"] = dict(sorted(answers.items()))


def _failure(description: str, code: str, message: str) -> dict[str, Any]:
    schema = {"$ref": REF.format(model="ErrorAnswer")}
    example = {"error": {"code": code, "message": message, "details": None}}
    return {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-ID", *names)}


def _describe_tasks(schemas: dict[str, Any], registry: Registry) -> dict[str, Any]:
    """`TaskCreate` as one of the task types, each with the schema of its payload; gives an example of each."""
    types = list(registry)
    payloads = _payloads(schemas, types)
    _by_type(schemas, "TaskCreate", "", types, payloads)
    _by_type(schemas, "ScheduleCreate", "Schedule_", types, payloads)
    return {
        _name(task_type): {"summary": f"{task_type.agent_id.value} {task_type.name}", "value": example}
        for task_type in types
        if (example := _example_of(task_type)) is not None
    }


def _by_type(
    schemas: dict[str, Any], model: str, prefix: str, types: list[TaskType], payloads: dict[type[BaseModel], str]
) -> None:
    """A body that has a task's type and payload, as one of a schema for each type."""
    general = schemas.pop(model)
    names = {}
    for task_type in types:
        name = prefix + _name(task_type)
        names[task_type.name] = REF.format(model=name)
        schemas[name] = _task_of(task_type, general, payloads[task_type.payload])
    schemas[model] = {
        "title": model,
        "description": general["description"],
        "oneOf": [{"$ref": ref} for ref in names.values()],
    }
    if len(names) == len(types):
        schemas[model]["discriminator"] = {"propertyName": "task_type", "mapping": names}


def _name(task_type: TaskType) -> str:
    return f"{task_type.agent_id.value.title()}_{task_type.name}"


def _payloads(schemas: dict[str, Any], types: list[TaskType]) -> dict[type[BaseModel], str]:
    """Put the payloads' schemas among `schemas`, and say where. An installed package may have named one like ours."""
    models: list[Any] = [(task_type.payload, "validation") for task_type in types]
    for prefix in ("", "payload."):
        refs, generated = models_json_schema(models, ref_template=REF.format(model=prefix + "{model}"))
        found = {prefix + name: schema for name, schema in generated["$defs"].items()}
        if all(schemas.get(name, schema) == schema for name, schema in found.items()):
            break
    schemas |= found
    return {model: schema["$ref"] for (model, _), schema in refs.items()}  # type: ignore[misc]


def _task_of(task_type: TaskType, general: dict[str, Any], payload: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(json.dumps(general))
    schema["title"] = f"{task_type.agent_id.value} {task_type.name}"
    schema["description"] = task_type.description or f"A task of the type {task_type.name}."
    properties = schema["properties"]
    properties["agent_id"] = {"const": task_type.agent_id.value, "type": "string", "description": "The agent."}
    properties["task_type"] = {"const": task_type.name, "type": "string", "description": "The task type."}
    properties["payload"] = {"$ref": payload, "description": properties["payload"]["description"]}
    if not _fits(task_type, {}):  # it has no meaning without a payload
        schema["required"] = [*schema["required"], "payload"]
    return schema


def _example_of(task_type: TaskType) -> dict[str, Any] | None:
    """A task with the first example of its payload, or with none at all; None where it needs one and has none."""
    payload = task_type.schema.get("examples", [{}])[0]
    title = task_type.description.rstrip(".") or task_type.name
    head = {"agent_id": task_type.agent_id.value, "task_type": task_type.name, "title": title[:500]}
    return {**head, "payload": payload} if _fits(task_type, payload) else None


def _fits(task_type: TaskType, payload: dict[str, Any]) -> bool:
    try:
        task_type.parse(payload)
    except InvalidPayload:
        return False
    return True


def _examples_of(model: type[BaseModel], tasks: dict[str, Any]) -> dict[str, Any]:
    """Examples of a body: tasks, many tasks, or the first examples of its fields."""
    values = {name: field.examples[0] for name, field in model.model_fields.items() if field.examples}
    if issubclass(model, RootModel):
        (values,) = cast(dict[str, Any], model.model_config["json_schema_extra"])["examples"]
    match model.__name__:
        case "TaskCreate":
            return {name: {"$ref": f"#/components/examples/{name}"} for name in tasks}
        case "TasksCreate":
            values = {"tasks": [task["value"] for task in list(tasks.values())[:2]]}
    return {"example": {"value": values}}
