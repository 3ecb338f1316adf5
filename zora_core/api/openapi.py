"""The OpenAPI document, completed by what FastAPI cannot read from our routes, and `/docs` without a CDN."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from zora_core import __version__
from zora_core.api.middleware import CONTENT_POLICY
from zora_core.errors import InvalidPayload
from zora_core.models import Role

if TYPE_CHECKING:
    from zora_core.agents.agent import Registry, TaskType

REF = "#/components/schemas/{model}"

DESCRIPTION = """
Tasks for six agents, their live status, and what they leave behind.

Every request but `/api/status` needs `Authorization: Bearer` with an API key (`zora keys create`) or an HS256 token
with the claims `tenant_id`, `user_id`, `role` and `exp`. The tenant comes from the credential. Roles, weakest first:
viewer (reads), member (creates tasks), brand_admin (cancels and retries), founder.

Success is `{"data": …}`, a list also has `pagination`; failure is `{"error": {"code", "message", "details"}}`. Each
answer has an `X-Request-ID`, the one that was sent or a new one, which the log has too.

Live status is a WebSocket at `/api/agents/tasks/events`, or a stream of server-sent events at the same path.
"""


class ErrorBody(BaseModel):
    """What went wrong; `code` is for programs, `message` for people."""

    code: str
    message: str
    details: list[dict[str, Any]] | None = Field(description="Field by field, where that can be said.")


class ErrorAnswer(BaseModel):
    """The envelope of every failure."""

    error: ErrorBody


_ERRORS = {
    400: ("INVALID_JSON or VALIDATION_ERROR", "VALIDATION_ERROR", "title: must not be blank"),
    401: ("No good credential", "UNAUTHORIZED", "the API key is unknown, revoked or expired"),
    403: ("The role may not do this", "FORBIDDEN", "this needs the role member, yours is viewer"),
    404: ("Nothing like that in this tenant", "NOT_FOUND", "no task 0199d2c4-9b0e-7c3a-8f52-5a6b83c73447"),
    409: ("INVALID_STATE or DUPLICATE_KEY", "INVALID_STATE", "task … is completed: only a failed task can be retried"),
    413: ("The body is over 1 MB", "PAYLOAD_TOO_LARGE", "the body is too large: at most 1 MB are taken"),
    415: ("The body is not said to be JSON", "UNSUPPORTED_MEDIA_TYPE", "send JSON, and say so: Content-Type: …"),
    429: ("Too many requests", "RATE_LIMIT_EXCEEDED", "too many requests: wait 0.4 s"),
    500: (
        "A fault of this server",
        "INTERNAL_ERROR",
        "something went wrong here; the log has it under this request's id",
    ),
    503: (
        "The database cannot be reached",
        "SERVICE_UNAVAILABLE",
        "the database cannot be reached: try again in a moment",
    ),
}

_EXAMPLE = {
    "agent_id": "LUMINA",
    "task_type": "plan_frontend_improvements",
    "title": "Review dashboard page",
    "description": "Analyze the dashboard and suggest improvements",
    "payload": {"page": "dashboard"},
    "priority": 5,
}


def install(app: FastAPI, routes: list[APIRoute], registry: Registry) -> None:
    """Serve the document of `routes` at /openapi.json and its reader at /docs."""

    @cache
    def document() -> dict[str, Any]:
        return _document(app, routes, registry)

    app.openapi = document  # type: ignore[method-assign]
    app.include_router(router)


def role_of(route: APIRoute) -> Role | None:
    """The role that a route declares by `needs(...)`; None for one that needs no credential."""
    calls: list[Any] = [d.call for d in route.dependant.dependencies]
    return next((call.role for call in calls if hasattr(call, "role")), None)


def _body_of(route: APIRoute) -> tuple[type[BaseModel], bool] | None:
    """The model that a route declares by `json_body(...)`, and whether the body may be missing."""
    calls: list[Any] = [d.call for d in route.dependant.dependencies]
    return next(((c.body_model, c.body_optional) for c in calls if hasattr(c, "body_model")), None)


def _document(app: FastAPI, routes: list[APIRoute], registry: Registry) -> dict[str, Any]:
    document = get_openapi(
        title="ZORA Agent Runtime",
        version=__version__,
        description=DESCRIPTION,
        routes=app.routes,
        servers=[{"url": "/"}],
    )
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    models: list[type[BaseModel]] = [ErrorAnswer, *(body[0] for route in routes if (body := _body_of(route)))]
    schemas |= models_json_schema([(m, "validation") for m in models], ref_template=REF)[1]["$defs"]
    _describe_tasks(schemas, registry)
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key or a token."}
    }
    for route in routes:
        for method in route.methods or ():
            _complete(document["paths"][route.path_format][method.lower()], role_of(route), _body_of(route))
    return document


def _complete(operation: dict[str, Any], role: Role | None, body: tuple[type[BaseModel], bool] | None) -> None:
    answers = operation["responses"]
    answers.pop("422", None)
    statuses = {500, 503}
    if role is not None:
        operation["security"] = [{"bearer": []}]
        operation["x-role"] = role.value
        statuses |= {400, 401, 403, 429}
    if any(parameter["in"] == "path" for parameter in operation.get("parameters", ())):
        statuses |= {404, 409}
    if body is not None:
        model, optional = body
        operation["requestBody"] = {
            "required": not optional,
            "content": {"application/json": {"schema": {"$ref": REF.format(model=model.__name__)}}},
        }
        statuses |= {409, 413, 415}
    for status in sorted(statuses):
        description, code, message = _ERRORS[status]
        example = {"error": {"code": code, "message": message, "details": None}}
        answer = {"schema": {"$ref": REF.format(model="ErrorAnswer")}, "example": example}
        answers.setdefault(str(status), {"description": description, "content": {"application/json": answer}})
    for answer in answers.values():
        answer["headers"] = {
            "X-Request-ID": {"description": "The request's id.", "required": True, "schema": {"type": "string"}}
        }


def _describe_tasks(schemas: dict[str, Any], registry: Registry) -> None:
    """`TaskCreate` as one of the task types, each with the schema of its payload."""
    general = schemas.pop("TaskCreate")
    types = list(registry)
    payloads = models_json_schema([(t.payload, "validation") for t in types], ref_template=REF)[1].get("$defs", {})
    schemas |= {name: schema for name, schema in payloads.items() if name not in schemas}
    names = {}
    for task_type in types:
        name = f"{task_type.agent_id.value.title()}_{task_type.name}"
        names[task_type.name] = REF.format(model=name)
        schemas[name] = _task_of(task_type, general)
    schemas["TaskCreate"] = {
        "title": "TaskCreate",
        "description": general["description"],
        "oneOf": [{"$ref": ref} for ref in names.values()],
        "examples": [_EXAMPLE],
    }
    if len(names) == len(types):
        schemas["TaskCreate"]["discriminator"] = {"propertyName": "task_type", "mapping": names}


def _task_of(task_type: TaskType, general: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(json.dumps(general))
    schema["title"] = f"{task_type.agent_id.value} {task_type.name}"
    schema["description"] = task_type.description
    properties = schema["properties"]
    properties["agent_id"] = {"const": task_type.agent_id.value, "type": "string", "title": "Agent Id"}
    properties["task_type"] = {"const": task_type.name, "type": "string", "title": "Task Type"}
    properties["payload"] = {"$ref": REF.format(model=task_type.payload.__name__)}
    try:
        task_type.parse({})
    except InvalidPayload:  # it has no meaning without a payload
        schema["required"] = [*schema["required"], "payload"]
    return schema


router = APIRouter(include_in_schema=False)

# The reader of the document, with the credential of a start link, which is in the fragment and so never sent anywhere.
_DOCS = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ZORA Agent Runtime: API</title>
<link rel="icon" href="/docs/assets/favicon-32x32.png">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<main id="reader"></main>
<noscript>This page needs JavaScript; the document itself is at /openapi.json.</noscript>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/start.js"></script>
</body>
</html>
"""
_START = """const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) history.replaceState(null, "", location.pathname);
const reader = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#reader",
  docExpansion: "list",
  validatorUrl: null,
  onComplete: () => { if (token) reader.preauthorizeApiKey("bearer", token); },
});
"""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; " + CONTENT_POLICY.split("; ", 1)[1]
)
_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}


@router.get("/docs")
async def docs() -> Response:
    """The reader of the API's description."""
    return Response(_DOCS, media_type="text/html", headers={"Content-Security-Policy": _POLICY})


@router.get("/docs/assets/{name}")
async def asset(name: str) -> Response:
    """What the reader loads, from the package that brings it."""
    if name == "start.js":
        return Response(_START, media_type="text/javascript")
    if name not in _ASSETS:
        raise HTTPException(404)
    content = (resources.files("fastapi_swagger") / "resources" / name).read_bytes()
    return Response(content, media_type=_ASSETS[name], headers={"Cache-Control": "max-age=86400"})
