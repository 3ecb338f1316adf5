"""The OpenAPI document is valid, complete, and says what the server does; its reader reaches no other host."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.conftest import task
from tests.autonomy.agents import Probe
from zora_core.agents import Agent, AgentId, Payload, TaskContext, TaskResult, handler
from zora_core.agents.agent import Task as ClaimedTask
from zora_core.agents.builtin import registry
from zora_core.api.openapi import role_of
from zora_core.api.state import Api
from zora_core.server.app import create_app, routes

jsonschema = pytest.importorskip("jsonschema_rs", reason="jsonschema_rs is not installed: schemathesis brings it")

Document = dict[str, Any]


@pytest.fixture
async def document(founder: httpx.AsyncClient) -> Document:
    return (await founder.get("/openapi.json")).json()


def resolved(document: Document, part: Document) -> Document:
    """A part of the document, or what it refers to."""
    while "$ref" in part:
        found: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def operations(document: Document) -> Iterator[tuple[str, Document]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def schema_of(document: Document, name: str) -> Document:
    """A schema of the document that can be used by itself."""
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}


def test_the_document_is_valid_openapi(document: Document) -> None:
    definitions = pytest.importorskip("schemathesis.specs.openapi.definitions", reason="schemathesis is not installed")
    definitions.OPENAPI_31_VALIDATOR.validate(document)
    for schema in document["components"]["schemas"].values():
        jsonschema.meta.validate(schema)
        assert set(keywords(schema)) <= {
            "$ref", "additionalProperties", "anyOf", "const", "default", "description", "discriminator", "enum",
            "examples", "exclusiveMinimum", "format", "items", "maxItems", "maxLength", "maximum", "minItems",
            "minLength", "minProperties", "minimum", "not", "oneOf", "pattern", "properties", "required", "title",
            "type",
        }, "a word that is none of JSON Schema's constrains nothing"  # fmt: skip


def keywords(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema
        for part in [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]:
            yield from keywords(part)
        for part in [*schema.get("anyOf", ()), *schema.get("oneOf", ())]:
            yield from keywords(part)


def test_every_operation_parameter_schema_and_property_is_described(document: Document) -> None:
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    for where, operation in operations(document):
        assert operation["description"], where
        assert all(tags[tag] for tag in operation["tags"]), where
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], (where, parameter["name"])
        for status, answer in operation["responses"].items():
            assert resolved(document, answer)["description"] not in ("", "Successful Response"), (where, status)
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name
        for key, described in schema.get("properties", {}).items():
            assert described.get("description"), f"{name}.{key}"


def test_every_operation_has_a_title_and_the_name_of_its_route(document: Document) -> None:
    by_path = {(method, route.path_format): route for route in routes() for method in route.methods or ()}
    found = dict(operations(document))
    assert set(found) == {f"{method} {path}" for method, path in by_path}
    names = [operation["operationId"] for operation in found.values()]
    assert len(set(names)) == len(names)
    for (method, path), route in by_path.items():
        operation = found[f"{method} {path}"]
        assert operation["operationId"] == route.name
        assert re.fullmatch(r"[a-z_]+", route.name)
        assert re.match(r"[A-Z][a-z]+ [a-z]", operation["summary"]), operation["summary"]
        assert not operation["summary"].endswith(".")


def test_every_failure_of_an_operation_is_listed_with_the_envelope(document: Document) -> None:
    roles = {route.name: role_of(route) for route in routes()}
    for where, operation in operations(document):
        listed = set(operation["responses"])
        role = roles[operation["operationId"]]
        assert operation.get("x-role") == role, where
        assert (
            ({"401", "403", "429"} <= listed) == (operation.get("security") == [{"bearer": []}]) == (role is not None)
        )
        assert ("404" in listed) == ("{" in where), where
        assert ({"413", "415"} <= listed) == ("requestBody" in operation), where
        assert {"500", "503"} <= listed, where
        for status in listed:
            answer = resolved(document, operation["responses"][status])
            assert resolved(document, answer["headers"]["X-Request-ID"])["required"], (where, status)
            if status < "400" or (where, status) == ("GET /api/status", "503"):
                continue
            content = answer["content"]["application/json"]
            assert content["schema"]["$ref"].endswith("/ErrorAnswer"), (where, status)
            assert jsonschema.is_valid(schema_of(document, "ErrorAnswer"), content["example"]), (where, status)


def test_a_task_to_create_is_of_one_of_the_registrys_types(document: Document) -> None:
    check_task_types(document, list(registry()))
    examples = document["components"]["examples"]
    assert {(e["value"]["agent_id"], e["value"]["task_type"]) for e in examples.values()} == {
        (t.agent_id, t.name) for t in registry()
    }


def check_task_types(document: Document, types: list[Any]) -> None:
    schemas = document["components"]["schemas"]
    union = schemas["TaskCreate"]
    assert union["discriminator"]["propertyName"] == "task_type"
    references = union["discriminator"]["mapping"]
    assert [{"$ref": reference} for reference in references.values()] == union["oneOf"]
    assert list(references) == [t.name for t in types]
    for task_type in types:
        properties = resolved(document, {"$ref": references[task_type.name]})["properties"]
        assert properties["agent_id"]["const"] == task_type.agent_id
        assert properties["task_type"]["const"] == task_type.name
        payload = resolved(document, properties["payload"])
        assert set(payload["properties"]) == set(task_type.payload.model_fields)


class Status(Payload):
    """A payload that has the name of a model of the API."""

    colour: str


class Painter(Agent):
    agent_id = AgentId.SAM

    @handler("paint")
    async def paint(self, task: ClaimedTask, payload: Status, ctx: TaskContext) -> TaskResult:
        """Paint the page."""
        raise AssertionError


async def test_the_types_of_installed_agents_stand_in_the_document_whatever_their_payloads_are_called(api: Api) -> None:
    types = registry((Probe(), Painter()))
    document = create_app(dataclasses.replace(api, registry=types)).openapi()
    check_task_types(document, list(types))
    schemas = document["components"]["schemas"]
    assert "uptime_seconds" in schemas["Status"]["properties"], "ours is not replaced"
    assert "payload" in schemas["Sam_paint"]["required"]
    assert "payload" not in schemas["Sam_count"]["required"]
    assert "Sam_paint" not in document["components"]["examples"], "nobody knows which payload would be good"
    assert document["components"]["examples"]["Sam_count"]["value"]["payload"] == {}
    jsonschema.validator_for(schema_of(document, "TaskCreate")).validate(
        {"agent_id": "SAM", "task_type": "paint", "title": "x", "payload": {"colour": "red"}}
    )


async def test_every_example_of_a_body_is_accepted(document: Document, founder: httpx.AsyncClient) -> None:
    tried = 0
    for where, operation in operations(document):
        if "requestBody" not in operation:
            continue
        content = operation["requestBody"]["content"]["application/json"]
        for example in content["examples"].values():
            body = resolved(document, example)["value"]
            jsonschema.validator_for({**content["schema"], "components": document["components"]}).validate(body)
            method, path = where.split()
            if "{task_id}" in path:
                created = await founder.post("/api/agents/tasks", json=task())
                path = path.replace("{task_id}", created.json()["data"]["id"])
            if "{suggestion_id}" in path:
                path = path.replace("{suggestion_id}", await a_suggestion(founder, applied="undo" in path))
            if "{schedule_id}" in path:
                listed = (await founder.get("/api/autonomy/schedules")).json()["data"]
                path = path.replace("{schedule_id}", listed[0]["id"])
            path = path.replace("{task_type}", "research_topic").replace("{key}", "nightly-housekeeping")
            if "{run_id}" in path:
                run = await founder.post("/api/workflows/nightly-housekeeping/runs")
                path = path.replace("{run_id}", run.json()["data"]["id"])
            answer = await founder.request(method, path, json=body)
            assert answer.is_success, (where, body, answer.text)
            tried += 1
    assert tried == 12 + 12 + 1 + 1 + 5 + 2 + 3 + 1 + 1


async def a_suggestion(founder: httpx.AsyncClient, *, applied: bool) -> str:
    body = {
        "agent_id": "ORACLE", "suggestion_type": "create_climate_missions", "title": "t", "target": {},
        "suggested_value": {"title": f"applied {applied}", "category": "energy"},
        "evidence": [{"kind": "metric", "name": "n", "value": 1, "unit": "kg"}],
    }  # fmt: skip
    made = (await founder.post("/api/agents/suggestions", json=body)).json()["data"]
    if applied:
        decision = {"decision": "approve", "digest": made["effect_digest"]}
        answer = await founder.post(f"/api/agents/suggestions/{made['id']}/decision", json=decision)
        assert answer.json()["data"]["status"] == "applied", answer.text
    return str(made["id"])


@pytest.mark.parametrize(
    ("agent_id", "task_type", "fields"),
    [
        ("AEGIS", "check_climate_claims", {"claim": "x", "claims": ["x"], "url": "x", "html": "<p>x"}),
        ("SAM", "review_accessibility", {"target": "x", "html": "<p>x"}),
        ("SAM", "review_climate_page", {"page": "x", "url": "x", "html": "<p>x"}),
        ("LUMINA", "plan_frontend_improvements", {"page": "x", "url": "x", "html": "<p>x"}),
    ],
)
async def test_which_fields_exclude_each_other_is_said_by_the_schema_as_by_the_server(
    document: Document, founder: httpx.AsyncClient, agent_id: str, task_type: str, fields: dict[str, Any]
) -> None:
    valid = jsonschema.validator_for(schema_of(document, "TaskCreate")).is_valid
    absent = object()
    verdicts = set()
    for values in itertools.product(*([absent, None, value] for value in fields.values())):
        payload = {name: value for name, value in zip(fields, values, strict=True) if value is not absent}
        body = {"agent_id": agent_id, "task_type": task_type, "title": "x", "payload": payload}
        answer = await founder.post("/api/agents/tasks/validate", json=body)
        assert valid(body) == answer.is_success, (payload, answer.text)
        verdicts.add(answer.status_code)
    assert verdicts == {200, 400}


@pytest.mark.parametrize(
    "fields",
    [
        {"title": " "},
        {"title": "\x1c\x85\u2003"},
        {"title": ""},
        {"priority": 5.0},
        {"priority": 5.5},
        {"max_attempts": 1e2},
        {"timeout_seconds": 0.0},
        {"timeout_seconds": None},
        {"run_at": "1969-12-31T23:59:59Z"},
        {"run_at": "1970-01-01T00:00:00Z"},
        {"run_at": "9998-12-31T23:59:59-14:00"},
        {"run_at": "9999-01-01T00:00:00Z"},
        {"run_at": "2026-03-02"},
        {"payload": {"days": 0}},
        {"payload": {"days": 366}},
        {"payload": {"days": "7"}},
        {"payload": None},
    ],
    ids=str,
)
async def test_what_the_schema_allows_the_server_takes(
    document: Document, founder: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    validator = jsonschema.validator_for(schema_of(document, "TaskCreate"), validate_formats=True)
    answer = await founder.post("/api/agents/tasks/validate", json=task(**fields))
    assert validator.is_valid(task(**fields)) == answer.is_success, answer.text


async def test_a_parameter_that_is_not_in_the_document_or_stands_twice_is_refused(
    document: Document, founder: httpx.AsyncClient
) -> None:
    tried = 0
    for where, operation in operations(document):
        method, path = where.split()
        if operation["tags"] in (["status"], ["live status"]):
            continue
        path = re.sub(r"\{\w+_id\}", "x", path)
        known = [parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"]
        for query, name in [("?colour=red", "colour"), *((f"?{name}=1&{name}=1", name) for name in known)]:
            answer = await founder.request(method, path + query)
            assert answer.status_code == 400, (where, query, answer.text)
            error = answer.json()["error"]
            assert [detail["field"] for detail in error["details"]] == [name], (where, query, error)
            tried += 1
    assert tried > 30


async def test_a_path_says_which_methods_it_takes(document: Document, founder: httpx.AsyncClient) -> None:
    for path, methods in document["paths"].items():
        target = re.sub(r"\{\w+_id\}", "x", path)
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - {name.upper() for name in methods}:
            answer = await founder.request(method, target)
            assert (answer.status_code, answer.json()["error"]["code"]) == (405, "METHOD_NOT_ALLOWED"), (method, path)
            assert {name.strip().lower() for name in answer.headers["allow"].split(",")} == set(methods), (method, path)


async def test_the_reader_and_all_that_it_loads_come_from_here(founder: httpx.AsyncClient) -> None:
    page = await founder.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 4
    texts = {"/docs": page}
    for path in loaded:
        assert path.startswith("/docs/assets/")
        texts[path] = await founder.get(path)
        assert texts[path].status_code == 200, path
        assert len(texts[path].content) > 100, path
    for path in ("/docs", "/docs/assets/start.js"):
        assert not re.search(r"https?:|//\w", texts[path].text), path
    policy = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == policy["script-src"] == "'self'"
    assert not re.search(r"https?:|\*", page.headers["content-security-policy"]), "no other host is allowed"
    assert (await founder.get("/docs/assets/nothing.js")).status_code == 404
