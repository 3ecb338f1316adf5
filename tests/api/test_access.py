"""Who may do what: the table of roles, and credentials of every kind of badness."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi.routing import APIWebSocketRoute
from hypothesis import given
from hypothesis import strategies as st

from tests.api.conftest import OTHER_TENANT_ID, Callers, Log, scope_of, speak, task
from tests.conftest import Zora
from zora_core.api import access
from zora_core.api.access import Credentials
from zora_core.api.errors import RateLimited, Unauthorized
from zora_core.api.keys import new_key
from zora_core.api.limits import RateLimiter
from zora_core.api.state import Api
from zora_core.effects import effect_of
from zora_core.errors import ConfigurationError
from zora_core.models import Role, Suggestion
from zora_core.server.app import ROUTERS, create_app, routes
from zora_core.server.serve import api_for, check_binding
from zora_core.settings import Settings, load_settings

# Which role a route needs at least; None is no credential at all.
LEAST: dict[str, Role | None] = {
    "status": None,
    "list_agents": Role.VIEWER,
    "list_task_types": Role.VIEWER,
    "list_tasks": Role.VIEWER,
    "get_task": Role.VIEWER,
    "explain_task": Role.VIEWER,
    "task_stats": Role.VIEWER,
    "task_events": Role.VIEWER,
    "task_events_websocket": Role.VIEWER,
    "list_journal": Role.VIEWER,
    "list_memory": Role.VIEWER,
    "list_suggestions": Role.VIEWER,
    "get_suggestion": Role.VIEWER,
    "list_policies": Role.VIEWER,
    "list_pauses": Role.VIEWER,
    "list_schedules": Role.VIEWER,
    "get_schedule": Role.VIEWER,
    "metrics": Role.VIEWER,
    "create_task": Role.MEMBER,
    "create_tasks": Role.MEMBER,
    "validate_task": Role.MEMBER,
    "change_task": Role.BRAND_ADMIN,
    "cancel_task": Role.BRAND_ADMIN,
    "retry_task": Role.BRAND_ADMIN,
    "create_suggestion": Role.MEMBER,
    "create_command": Role.MEMBER,
    "decide_suggestion": Role.BRAND_ADMIN,
    "undo_suggestion": Role.BRAND_ADMIN,
    "set_policy": Role.BRAND_ADMIN,
    "remove_policy": Role.BRAND_ADMIN,
    "pause": Role.BRAND_ADMIN,
    "resume": Role.BRAND_ADMIN,
    "list_workflows": Role.VIEWER,
    "get_workflow": Role.VIEWER,
    "list_workflow_runs": Role.VIEWER,
    "get_workflow_run": Role.VIEWER,
    "start_workflow_run": Role.MEMBER,
    "save_workflow": Role.BRAND_ADMIN,
    "delete_workflow": Role.BRAND_ADMIN,
    "cancel_workflow_run": Role.BRAND_ADMIN,
    "retry_workflow_run": Role.BRAND_ADMIN,
    "create_schedule": Role.BRAND_ADMIN,
    "update_schedule": Role.BRAND_ADMIN,
    "delete_schedule": Role.BRAND_ADMIN,
    "run_schedule_now": Role.BRAND_ADMIN,
}
PEOPLE = {
    "decide_suggestion", "undo_suggestion", "set_policy", "remove_policy", "pause", "resume", "create_schedule",
    "update_schedule", "delete_schedule", "run_schedule_now", "save_workflow", "delete_workflow",
}  # fmt: skip
"""What no agent may do, whatever its credential's role."""
ADVICE = {
    "agent_id": "EIVOR", "suggestion_type": "advice", "title": "Tidy up",
    "evidence": [{"kind": "metric", "name": "memories", "value": 7, "unit": "rows"}],
}  # fmt: skip
MINE: dict[str, Any] = {
    "key": "mine", "name": "Mine",
    "steps": [{"key": "sum", "agent_id": "EIVOR", "task_type": "summarize_recent_events", "title": "Sum up"}],
}  # fmt: skip
BODIES = {
    "create_task": task(),
    "create_tasks": {"tasks": [task()]},
    "validate_task": task(),
    "create_suggestion": ADVICE,
    "create_command": {"text": "Check our climate page"},
    "change_task": {"priority": 5},
    "decide_suggestion": {"decision": "reject", "reason": "no"},
    "set_policy": {"max_risk_level": "low"},
    "pause": {"agent_id": "AEGIS"},
    "save_workflow": MINE,
    "create_schedule": {
        "name": "digest", "agent_id": "EIVOR", "task_type": "summarize_recent_events", "cron": "0 9 * * 1",
    },
    "update_schedule": {"enabled": False},
}  # fmt: skip
GOOD = {
    "create_task": 201,
    "create_tasks": 201,
    "create_suggestion": 201,
    "create_command": 201,
    "create_schedule": 201,
    "start_workflow_run": 201,
}
NOWHERE = "0199d2c4-9b0e-7c3a-8f52-5a6b83c73447"
EVENTS = "/api/agents/tasks/events"


def envelope(answer: httpx.Response, status: int, code: str, why: str = "") -> dict[str, Any]:
    """The error of an answer, which must be this one, and in the envelope."""
    assert answer.status_code == status, f"{why}: {answer.status_code} {answer.text[:300]}"
    assert answer.headers["content-type"] == "application/json", why
    assert answer.json().keys() == {"error"}, f"{why}: {answer.text[:300]}"
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() == {"code", "message", "details"}, f"{why}: {error}"
    assert error["code"] == code, f"{why}: {error}"
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer", why
    return error


class Calls:
    """Calls every route by its name, on things of the first tenant that are in the state that the route wants."""

    def __init__(self, zora: Zora, callers: Callers, app: Any) -> None:
        self._zora = zora
        self._callers = callers
        self._app = app
        self._paths = {route.name: (next(iter(route.methods)), route.path_format) for route in routes()}

    async def thing(self, name: str) -> UUID:
        """What the route's path or query names: a task that can be cancelled or retried, or a suggestion."""
        task_id = await self._zora.create("EIVOR", "summarize_recent_events")
        if name == "retry_task":
            await self._zora.call("cancel_agent_task", tenant_id=self._zora.tenant_id, id=task_id)
        if name in ("get_suggestion", "decide_suggestion"):
            (row,) = await self._zora.call(
                "propose_agent_suggestion",
                tenant_id=self._zora.tenant_id,
                agent_id="EIVOR",
                suggestion={**ADVICE, "title": str(uuid4()), "target": {"id": str(uuid4())}},
            )
            return row["id"]
        if name == "undo_suggestion":
            return await self._applied()
        if "workflow" in name:
            return await self._workflow(name)
        if name.endswith("_schedule") or name == "run_schedule_now":
            (row,) = await self._zora.call(
                "create_schedule",
                tenant_id=self._zora.tenant_id,
                schedule={**BODIES["create_schedule"], "name": str(uuid4())},
            )
            return row["id"]
        if name == "remove_policy":
            await self._zora.call("set_agent_task_policy", tenant_id=self._zora.tenant_id, task_type="research_topic")
        if name == "resume":
            await self._zora.call("pause_agents", tenant_id=self._zora.tenant_id, agent_id="AEGIS")
        return task_id

    async def _workflow(self, name: str) -> UUID:
        """A run of a stored workflow, which has failed if it is to be retried."""
        ours = {"tenant_id": self._zora.tenant_id}
        kept = {"name": "Mine", "definition": MINE}
        await self._zora.call("save_workflow", **ours, key="mine", **kept)
        (row,) = await self._zora.call(
            "start_workflow_run", **ours, workflow="mine", **kept, context={}, tasks=MINE["steps"]
        )
        if name == "retry_workflow_run":
            await self._zora.call("cancel_workflow_run", **ours, id=row["id"])
        return row["id"]

    async def _applied(self) -> UUID:
        mission = {"title": str(uuid4()), "category": "energy"}
        made = Suggestion(
            suggestion_type="create_climate_missions", title="t", suggested_value=mission,
            evidence=ADVICE["evidence"],
        )  # fmt: skip
        (row,) = await self._zora.call(
            "propose_agent_suggestion",
            tenant_id=self._zora.tenant_id,
            agent_id="ORACLE",
            suggestion={**made.model_dump(mode="json"), "effect": effect_of(made)},
        )
        await self._zora.call(
            "decide_agent_suggestion",
            tenant_id=self._zora.tenant_id,
            id=row["id"],
            decision="approve",
            digest=row["effect_digest"],
        )
        return row["id"]

    async def __call__(self, name: str, token: str | None, thing: UUID | None) -> httpx.Response:
        """One answer; of a stream its beginning, of a WebSocket its denial or 101."""
        if name in ("task_events", "task_events_websocket"):
            return await self._watch(name, token, thing)
        method, path = self._paths[name]
        path = re.sub(r"\{(task|suggestion|schedule|run)_id\}", str(thing), path)
        path = path.replace("{task_type}", "research_topic").replace("{agent_id}", "AEGIS").replace("{key}", "mine")
        body = BODIES.get(name)
        if name == "create_schedule":
            body = {**BODIES[name], "name": str(uuid4())}
        return await self._callers.with_token(token).request(method, path, json=body)

    async def _watch(self, name: str, token: str | None, thing: UUID | None) -> httpx.Response:
        kind = "http" if name == "task_events" else "websocket"
        target = f"{EVENTS}?id={thing}" if thing else EVENTS
        scope = scope_of(kind, target, token)
        said = await speak(
            self._app,
            scope,
            [{"type": "http.request", "body": b""}] if kind == "http" else [{"type": "websocket.connect"}],
            until=lambda message: True,  # gone with the first message: what follows would not end
        )
        start = said[0]
        if start["type"] == "websocket.accept":
            return httpx.Response(101)
        body = b"".join(m.get("body", b"") for m in said if m["type"].endswith("response.body"))
        return httpx.Response(start["status"], headers=start["headers"], content=body)


@pytest.fixture
def calls(zora: Zora, api: Api, callers: Callers) -> Calls:
    return Calls(zora, callers, create_app(api))


async def everything_stored(zora: Zora) -> list[Any]:
    return [
        row[0]
        for table in ("agent_tasks", "journal_entries", "memory_events", "agent_suggestions", "autonomy_schedules")
        for row in await zora.sql(f"select t::text from {table} as t order by t.tenant_id, t.id")
    ]


def test_the_table_of_roles_names_every_route() -> None:
    sockets = [r.name for router in ROUTERS for r in router.routes if isinstance(r, APIWebSocketRoute)]
    names = [route.name for route in routes()] + sockets
    assert sorted(names) == sorted(LEAST)
    assert all(len(route.methods or ()) == 1 for route in routes())


async def test_nothing_but_the_description_is_served_beside_the_routes(api: Api) -> None:
    ours = {route.path_format for route in routes()}
    document = create_app(api).openapi()
    assert set(document["paths"]) == ours
    for path in ("/docs", "/openapi.json", "/docs/assets/start.js"):
        assert path not in ours


async def test_each_role_may_do_what_it_is_there_for_and_nothing_above_it(
    zora: Zora, callers: Callers, calls: Calls
) -> None:
    keys = {role: await callers.key(role) for role in Role}
    things = {name: await calls.thing(name) for name in LEAST}
    before = await everything_stored(zora)
    for name, least in LEAST.items():
        for role in Role:
            if least is not None and role.rank < least.rank:
                answer = await calls(name, keys[role], things[name])
                error = envelope(answer, 403, "FORBIDDEN", f"{name} as {role}")
                assert error["message"] == f"this needs the role {least}, yours is {role}"
    assert await everything_stored(zora) == before, "a call that was forbidden left something behind"
    for name, least in LEAST.items():
        for role in Role:
            if least is None or role.rank >= least.rank:
                answer = await calls(name, keys[role], await calls.thing(name))
                good = 101 if name == "task_events_websocket" else GOOD.get(name, 200)
                assert answer.status_code == good, f"{name} as {role}: {answer.status_code} {answer.text[:300]}"


async def test_an_agents_credential_decides_nothing_whatever_its_role(
    zora: Zora, callers: Callers, calls: Calls
) -> None:
    things = {name: await calls.thing(name) for name in PEOPLE}
    key = await callers.key(agent_id="SAM")
    before = await everything_stored(zora)
    for name in PEOPLE:
        error = envelope(await calls(name, key, things[name]), 403, "FORBIDDEN", name)
        assert error["message"] == "people decide this, and this credential is SAM's"
    assert await everything_stored(zora) == before
    answer = await callers.with_token(key).get("/api/agents/suggestions")
    assert answer.status_code == 200, "everything else it may"


async def test_without_a_good_credential_nothing_is_served_but_the_status(
    zora: Zora, callers: Callers, calls: Calls
) -> None:
    things = {name: await calls.thing(name) for name in LEAST}
    key = await callers.key()
    forged = key[:14] + new_key().key[14:]
    before = await everything_stored(zora)
    for name, least in LEAST.items():
        for what, token in {"none": None, "empty": "", "unknown": new_key().key, "forged": forged}.items():
            why = f"{name} with credential {what}"
            answer = await calls(name, token, things[name])
            if least is None:
                assert answer.status_code == 200, why
            elif name == "task_events_websocket" and token is None:
                assert answer.status_code == 101, why  # it may still say who it is: see the test of its first message
            else:
                envelope(answer, 401, "UNAUTHORIZED", why)
    assert await everything_stored(zora) == before
    assert (await callers.with_token(key).get("/api/agents")).status_code == 200, "the key that was forged is good"


async def test_the_credential_is_looked_at_before_anything_else_in_a_request(callers: Callers) -> None:
    nobody, viewer = callers.with_token(None), await callers.client(Role.VIEWER)
    for path in ("/api/agents/tasks?limit=x", "/api/agents/tasks/x", "/api/journal?category=x"):
        envelope(await nobody.get(path), 401, "UNAUTHORIZED", path)
        envelope(await viewer.get(path), 400, "VALIDATION_ERROR", path)
    for path in (
        "/api/agents/tasks",
        "/api/agents/tasks/bulk",
        "/api/agents/tasks/x/cancel",
        "/api/agents/tasks/x/retry",
    ):
        envelope(await nobody.post(path, content=b"{"), 401, "UNAUTHORIZED", path)
        envelope(await viewer.post(path, content=b"{"), 403, "FORBIDDEN", path)


async def test_a_header_that_is_not_bearer_and_a_credential_is_none(callers: Callers) -> None:
    key, nobody = await callers.key(), callers.with_token(None)
    for value in (
        "", "Bearer", "Bearer ", f"Basic {key}", f"Token {key}", key, f"Bearer:{key}", f"Bearer {key} {key}",
        f"Bearer {key},", f"Bearer\t{key}", f"Bearer {key.upper()}", f"Bearer {key}A", f"Bearer {key[:-1]}",
        f'Bearer "{key}"', f"Bearer key={key}", "Bearer \xa0", f"Bearer \xff{key}", f"Bearer {key[:-1]}\xff",
    ):  # fmt: skip
        answer = await nobody.get("/api/agents", headers=[(b"Authorization", value.encode("latin-1"))])
        assert key not in envelope(answer, 401, "UNAUTHORIZED", value)["message"]
    good = await nobody.get("/api/agents", headers={"authorization": f"bEARER  {key} "})
    assert good.status_code == 200, "the scheme has no case, and space around the credential does not count"


async def test_another_tenants_things_are_not_there(zora: Zora, callers: Callers, calls: Calls) -> None:
    own, other = await callers.key(Role.FOUNDER), await callers.key(Role.FOUNDER, OTHER_TENANT_ID)
    named = [
        "get_task",
        "explain_task",
        "change_task",
        "cancel_task",
        "retry_task",
        "get_suggestion",
        "decide_suggestion",
        "undo_suggestion",
        "get_schedule",
        "update_schedule",
        "delete_schedule",
        "run_schedule_now",
        "get_workflow_run",
        "cancel_workflow_run",
        "retry_workflow_run",
    ]
    pattern = "(task|suggestion|schedule|run)_id}"
    assert set(named) == {route.name for route in routes() if re.search(pattern, route.path_format)}
    things = {name: await calls.thing(name) for name in named}
    before = await everything_stored(zora)
    for name, thing in things.items():
        envelope(await calls(name, other, thing), 404, "NOT_FOUND", f"{name} of another tenant")
        nowhere = envelope(await calls(name, own, UUID(NOWHERE)), 404, "NOT_FOUND", f"{name} of nobody")
        theirs = (await calls(name, other, thing)).json()["error"]
        assert theirs["message"].replace(str(thing), NOWHERE) == nowhere["message"], "a difference would tell"
    assert await everything_stored(zora) == before
    envelope(await calls("task_events", other, things["get_task"]), 404, "NOT_FOUND", "the events of another's task")

    client = callers.with_token(other)
    of_ours = f"task_id={things['get_task']}"
    for path in (
        "/api/agents/tasks", "/api/journal", "/api/agents/suggestions", f"/api/journal?{of_ours}",
        "/api/memory", "/api/memory?query=summarize", f"/api/agents/suggestions?{of_ours}",
    ):  # fmt: skip
        listed = (await client.get(path)).json()
        assert [r for r in listed["data"] if r.get("event_type") != "api_key_created"] == [], path
    assert (await client.get("/api/agents/tasks/stats")).json()["data"]["total"] == 0


async def test_an_idempotency_key_belongs_to_its_tenant(callers: Callers) -> None:
    ours, theirs = await callers.client(), await callers.client(tenant_id=OTHER_TENANT_ID)
    first = await ours.post("/api/agents/tasks", json=task(idempotency_key="k"))
    second = await theirs.post("/api/agents/tasks", json=task(idempotency_key="k", payload={"days": 2}))
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json()["data"]["tenant_id"] == str(OTHER_TENANT_ID)


async def test_a_cursor_of_another_tenant_shows_only_ones_own(callers: Callers) -> None:
    ours, theirs = await callers.client(), await callers.client(tenant_id=OTHER_TENANT_ID)
    for client in (ours, theirs):
        await client.post("/api/agents/tasks/bulk", json={"tasks": [task(title=f"t{n}") for n in range(3)]})
    cursor = (await ours.get("/api/agents/tasks?limit=1")).json()["pagination"]["next_cursor"]
    listed = (await theirs.get("/api/agents/tasks", params={"cursor": cursor})).json()["data"]
    assert {row["tenant_id"] for row in listed} == {str(OTHER_TENANT_ID)}


async def test_the_figures_of_two_tenants_do_not_mix(zora: Zora, callers: Callers) -> None:
    ours, theirs = await callers.client(), await callers.client(tenant_id=OTHER_TENANT_ID)
    await ours.post("/api/agents/tasks/bulk", json={"tasks": [task()] * 3})
    await theirs.post("/api/agents/tasks/bulk", json={"tasks": [task()] * 5})
    answers = await asyncio.gather(*(client.get("/metrics") for client in [ours, theirs] * 8))
    line = 'zora_tasks{{agent="EIVOR",status="pending"}} {}\n'
    for number, answer in enumerate(answers):
        assert line.format([3.0, 5.0][number % 2]) in answer.text, answer.text


async def test_methods_and_paths_that_do_not_exist_are_said_in_the_envelope(callers: Callers) -> None:
    nobody = callers.with_token(None)
    by_path: dict[str, set[str]] = {}
    for route in routes():
        by_path.setdefault(route.path_format, set()).update(route.methods or ())
    for path, methods in by_path.items():
        path = re.sub(r"\{(task|suggestion|schedule)_id\}", NOWHERE, path)
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"} - methods:
            answer = await nobody.request(method, path)
            assert answer.status_code == 405, f"{method} {path}"
            assert set(answer.headers["allow"].split(", ")) == methods, f"{method} {path}"
            if method != "HEAD":
                envelope(answer, 405, "METHOD_NOT_ALLOWED", f"{method} {path}")
    for path in (
        "/api", "/api/", "/api/agents/", "/api/agents/tasks/", "/api/nothing", f"/api/agents/tasks/{NOWHERE}/x",
        "/api/agents/suggestions/", "//api/agents", "/API/AGENTS", "/api/agents%00", "/robots.txt",
        "/docs/assets/nothing", "/docs/assets/../openapi.py", "/docs/assets/..%2f..%2fapp.py", "/docs/assets/%2e%2e",
    ):  # fmt: skip
        envelope(await nobody.get(path), 404, "NOT_FOUND", path)


# --- API keys


async def within_a_second(condition: Callable[[], Any], what: str) -> None:
    """Wait for a condition; what a busy machine needs for the last request itself does not count."""
    started = time.monotonic()
    while True:
        asked = time.monotonic()
        if await condition():
            assert asked - started < 1, f"{what} took {asked - started:.2f} s"
            return
        assert asked - started < 10, f"{what} did not happen"
        await asyncio.sleep(0.02)


async def test_a_key_revoked_expired_or_of_another_role_counts_within_a_second_though_it_was_just_in_use(
    zora: Zora, callers: Callers
) -> None:
    revoked, reader, expiring = await callers.key(Role.FOUNDER), await callers.key(Role.MEMBER), new_key()
    (user,) = await zora.call("ensure_user", tenant_id=zora.tenant_id, email="e@example.org", role="viewer")
    await zora.call(
        "create_api_key", tenant_id=zora.tenant_id, user_id=user["id"], name="for a minute", prefix=expiring.prefix,
        hash=expiring.hash, expires_at=zora.now + timedelta(minutes=1),
    )  # fmt: skip
    clients = [callers.with_token(key) for key in (revoked, reader, expiring.key)]

    async def refused(client: httpx.AsyncClient, status: int) -> bool:
        answer = await client.post("/api/agents/tasks/validate", json=task())
        assert answer.status_code in (200, 403, 401)
        return answer.status_code == status

    assert [await refused(clients[0], 200), await refused(clients[1], 200)] == [True, True]
    assert (await clients[2].get("/api/agents")).status_code == 200
    await zora.call("revoke_api_key", tenant_id=zora.tenant_id, key=revoked[:13])
    await within_a_second(lambda: refused(clients[0], 401), "to refuse a revoked key")

    assert await refused(clients[1], 200)
    await zora.sql("update users set role = 'viewer' where email = 'member@example.org'")
    await within_a_second(lambda: refused(clients[1], 403), "to take a role away")
    await zora.sql("update users set role = 'founder' where email = 'member@example.org'")
    await within_a_second(lambda: refused(clients[1], 200), "to give a role")

    assert (await clients[2].get("/api/agents")).status_code == 200
    await zora.advance(seconds=60)
    await within_a_second(lambda: refused(clients[2], 401), "to refuse an expired key")


async def test_a_key_says_nothing_of_why_it_is_refused(zora: Zora, callers: Callers) -> None:
    revoked, good, unknown = await callers.key(), await callers.key(), new_key().key
    await zora.call("revoke_api_key", tenant_id=zora.tenant_id, key=revoked[:13])
    messages = set()
    for token in (revoked, unknown, good[:14] + unknown[14:], unknown[:14] + good[14:]):
        answer = await callers.with_token(token).get("/api/agents")
        messages.add(envelope(answer, 401, "UNAUTHORIZED", token[:13])["message"])
    assert messages == {"the API key is unknown, revoked or expired"}


async def test_keys_are_compared_in_constant_time_whether_their_prefix_is_known_or_not(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await callers.key()
    forged, unknown = key[:14] + new_key().key[14:], new_key().key
    compared: list[tuple[int, int]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return hmac.compare_digest(a, b)

    monkeypatch.setattr(access, "hmac", SimpleNamespace(compare_digest=compare))
    for token, status in ((forged, 401), (unknown, 401), (key, 200)):
        assert (await callers.with_token(token).get("/api/agents")).status_code == status
    assert compared == [(32, 32)] * 3


async def test_many_credentials_do_not_fill_the_memory(
    api: Api, callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "MAX_REMEMBERED", 3)
    for client in [await callers.client() for _ in range(8)]:
        assert (await client.get("/api/agents")).status_code == 200
        assert len(api.credentials._good) <= 3


# --- tokens

SECRET = "an HS256 secret of these tests, and 64 bytes long, for HS512 too"
YEAR = 365 * 86_400


def segment(value: Any) -> str:
    plain = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(plain).rstrip(b"=").decode()


def signed(claims: Any, header: Any = None, secret: str = SECRET, digest: str = "sha256") -> str:
    """A token made by hand: a library would refuse to make most of those that must be refused."""
    head = {"alg": "HS256", "typ": "JWT"} if header is None else header
    body = f"{segment(head)}.{segment(claims)}"
    return f"{body}.{segment(hmac.digest(secret.encode(), body.encode(), digest))}"


def claims(**changed: Any) -> dict[str, Any]:
    """The claims of a good token, with some changed; `...` leaves one out."""
    good = {
        "tenant_id": str(OTHER_TENANT_ID),
        "user_id": str(uuid4()),
        "role": "member",
        "exp": int(time.time()) + 600,
    }
    return {name: value for name, value in {**good, **changed}.items() if value is not ...}


@pytest.fixture
async def tokens(api: Api) -> AsyncIterator[Callers]:
    """Clients of an API that takes tokens."""
    taking = replace(api, credentials=Credentials(api.database, SECRET))
    made = Callers(None, httpx.ASGITransport(app=create_app(taking)))  # type: ignore[arg-type]
    yield made
    await made.close()


async def test_a_token_works_in_the_tenant_that_it_names_and_its_user_is_recorded(zora: Zora, tokens: Callers) -> None:
    somebody = uuid4()
    client = tokens.with_token(signed(claims(user_id=str(somebody))))
    created = (await client.post("/api/agents/tasks", json=task())).json()["data"]
    assert created["tenant_id"] == str(OTHER_TENANT_ID)
    assert created["created_by_user_id"] is None, "the user is not a row of ours"
    (entry,) = (await client.get("/api/journal", params={"task_id": created["id"]})).json()["data"]
    assert entry["details"]["created_by_user_id"] == str(somebody)

    envelope(await client.post(f"/api/agents/tasks/{created['id']}/cancel"), 403, "FORBIDDEN", "as a member")
    admin = tokens.with_token(signed(claims(role="brand_admin", user_id=str(somebody))))
    assert (await admin.post(f"/api/agents/tasks/{created['id']}/cancel")).status_code == 200
    ours = tokens.with_token(signed(claims(role="founder", tenant_id=str(zora.tenant_id))))
    envelope(await ours.get(f"/api/agents/tasks/{created['id']}"), 404, "NOT_FOUND", "from the other tenant")


async def test_a_users_own_token_makes_them_the_tasks_creator(zora: Zora, tokens: Callers) -> None:
    (user,) = await zora.call("ensure_user", tenant_id=OTHER_TENANT_ID, email="u@example.org", role="viewer")
    (stranger,) = await zora.call("ensure_user", tenant_id=zora.tenant_id, email="s@example.org", role="member")
    for user_id, creator in ((user["id"], str(user["id"])), (stranger["id"], None)):
        client = tokens.with_token(signed(claims(user_id=str(user_id))))
        created = (await client.post("/api/agents/tasks", json=task())).json()["data"]
        assert created["created_by_user_id"] == creator


def bad_tokens() -> dict[str, str]:
    good = claims()
    token = signed(good)
    head, body, signature = token.split(".")
    now = int(time.time())
    founder = segment({**good, "role": "founder"})
    return {
        "expired": signed(claims(exp=now - 1)),
        "expired now": signed(claims(exp=now)),
        "expired long ago": signed(claims(exp=0)),
        "exp negative": signed(claims(exp=-now)),
        "exp of minus infinity": signed(json.dumps(claims()).replace(str(claims()["exp"]), "-1e999").encode()),
        "exp infinite": signed(json.dumps(claims(exp=float("inf"))).encode()),
        "exp not a number": signed(json.dumps(claims(exp=float("nan"))).encode()),
        "exp of 400 digits": signed(claims(exp=10**400)),
        "exp of 5000 digits": signed(json.dumps(claims(exp=7)).replace('"exp": 7', '"exp": ' + "9" * 5000).encode()),
        "exp a text": signed(claims(exp=str(now + 600))),
        "exp a word": signed(claims(exp="never")),
        "exp true": signed(claims(exp=True)),
        "exp null": signed(claims(exp=None)),
        "exp a list": signed(claims(exp=[now + 600])),
        "exp an object": signed(claims(exp={"at": now + 600})),
        "no exp": signed(claims(exp=...)),
        "not yet": signed(claims(nbf=now + 600)),
        "nbf a list": signed(claims(nbf=[])),
        "issued tomorrow": signed(claims(iat=now + 86_400)),
        "iat an object": signed(claims(iat={})),
        "sub a number": signed(claims(sub=1)),
        "jti a number": signed(claims(jti=1)),
        "alg none": f"{segment({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        "alg None": f"{segment({'alg': 'None'})}.{body}.",
        "alg none, signed": signed(good, {"alg": "none"}),
        "alg HS512": signed(good, {"alg": "HS512", "typ": "JWT"}, digest="sha512"),
        "alg HS512 with HS256": signed(good, {"alg": "HS512", "typ": "JWT"}),
        "alg RS256 with HS256": signed(good, {"alg": "RS256", "typ": "JWT"}),
        "alg hs256": signed(good, {"alg": "hs256"}),
        "alg a list": signed(good, {"alg": ["HS256"]}),
        "alg null": signed(good, {"alg": None}),
        "no alg": signed(good, {"typ": "JWT"}),
        "kid a number": signed(good, {"alg": "HS256", "kid": 1}),
        "a key in the header": signed(good, {"alg": "HS256", "jwk": {"kty": "oct", "k": segment(b"x")}}, secret="x"),
        "detached": signed(good, {"alg": "HS256", "b64": False, "crit": ["b64"]}),
        "an unknown crit": signed(good, {"alg": "HS256", "crit": ["exp"]}),
        "wrong secret": signed(good, secret=SECRET[:-1]),
        "empty secret": signed(good, secret=""),
        "changed claims": f"{head}.{founder}.{signature}",
        "cut signature": f"{head}.{body}.{signature[:-2]}",
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "four parts": f"{token}.{signature}",
        "only dots": "..",
        "garbage": "no.token.this",
        "not base64": f"!.{body}.{signature}",
        "non-ASCII": token + "\xe9",
        "a header of deep nesting": f"{segment(b'[' * 20_000)}.{body}.{signature}",
        "a header of a long number": f"{segment(b'9' * 20_000)}.{body}.{signature}",
        "claims of deep nesting": signed(b"[" * 20_000),
        "claims a list": signed([good]),
        "claims a text": signed("x"),
        "claims not JSON": signed(b"{"),
        "claims not UTF-8": signed(b'{"a": "\xff"}'),
        "no tenant": signed(claims(tenant_id=...)),
        "no user": signed(claims(user_id=...)),
        "no role": signed(claims(role=...)),
        "tenant unknown": signed(claims(tenant_id=str(uuid4()))),
        "tenant null": signed(claims(tenant_id=None)),
        "tenant a list": signed(claims(tenant_id=[str(OTHER_TENANT_ID)])),
        "tenant a number": signed(claims(tenant_id=OTHER_TENANT_ID.int)),
        "tenant not a UUID": signed(claims(tenant_id="other")),
        "tenant with NUL": signed(claims(tenant_id=f"{OTHER_TENANT_ID}\0")),
        "user not a UUID": signed(claims(user_id="ada")),
        "user a number": signed(claims(user_id=7)),
        "user empty": signed(claims(user_id="")),
        "user a lone surrogate": signed(claims(user_id="\ud800")),
        "role unknown": signed(claims(role="root")),
        "role in capitals": signed(claims(role="FOUNDER")),
        "role a list": signed(claims(role=["founder"])),
        "role a number": signed(claims(role=3)),
        "role an object": signed(claims(role={"founder": True})),
    }  # fmt: skip


async def test_no_bad_token_is_taken(zora: Zora, tokens: Callers) -> None:
    assert (await tokens.with_token(signed(claims())).get("/api/agents")).status_code == 200
    for what, token in bad_tokens().items():
        client = tokens.with_token(None)
        answer = await client.post(
            "/api/agents/tasks", json=task(), headers=[(b"Authorization", b"Bearer " + token.encode("latin-1"))]
        )
        error = envelope(answer, 401, "UNAUTHORIZED", what)
        assert SECRET not in answer.text
        assert token not in answer.text
        assert len(error["message"]) < 200, f"{what}: {error}"
    assert await zora.sql("select id from agent_tasks") == []


async def test_times_that_are_merely_unusual_are_taken(tokens: Callers) -> None:
    now = time.time()
    for unusual in (now + 0.5 + 60, now + 23.9 * 3600):
        token = signed(claims(exp=unusual, iat=int(now) - YEAR, nbf=int(now) - YEAR, aud="anybody", iss="somebody"))
        assert (await tokens.with_token(token).get("/api/agents")).status_code == 200, unusual


@pytest.mark.parametrize("exp", [25 * 3600, 1000 * YEAR, 1e300], ids=["a day and an hour", "1000 years", "1e300"])
async def test_a_token_that_lives_too_long_is_refused_with_the_limit(tokens: Callers, exp: float) -> None:
    answer = await tokens.with_token(signed(claims(exp=time.time() + exp))).get("/api/agents")
    assert "exp must be at most 24 hours from now" in envelope(answer, 401, "UNAUTHORIZED")["message"]


async def test_issuer_and_audience_are_checked_when_they_are_configured(api: Api) -> None:
    strict = Credentials(api.database, SECRET, issuer="https://id.example.org", audience="zora", max_hours=48)
    good = {"iss": "https://id.example.org", "aud": "zora", "exp": time.time() + 47 * 3600}
    assert (await strict.check(signed(claims(**good)))).role == Role.MEMBER
    assert (await strict.check(signed(claims(**{**good, "aud": ["zora", "shop"]})))).role == Role.MEMBER
    for wrong in (
        {"iss": ...}, {"aud": ...}, {"iss": "https://id.example.com"}, {"aud": "shop"}, {"aud": []}, {"aud": ["shop"]},
        {"iss": ["https://id.example.org"]}, {"iss": None}, {"aud": None}, {"iss": ""}, {"aud": ""},
        {"aud": {"zora": 1}},
    ):  # fmt: skip
        with pytest.raises(Unauthorized):
            await strict.check(signed(claims(**{**good, **wrong})))


async def test_a_user_of_one_tenant_does_not_use_up_the_rate_of_another(zora: Zora, api: Api) -> None:
    limiter = RateLimiter(1, 1)
    taking = replace(api, credentials=Credentials(api.database, SECRET), limiter=limiter)
    made = Callers(None, httpx.ASGITransport(app=create_app(taking)))  # type: ignore[arg-type]
    somebody = str(uuid4())
    here, there = (
        made.with_token(signed(claims(user_id=somebody, tenant_id=str(tenant))))
        for tenant in (zora.tenant_id, OTHER_TENANT_ID)
    )
    assert (await here.get("/api/agents")).status_code == 200
    assert (await here.get("/api/agents")).status_code == 429
    assert (await there.get("/api/agents")).status_code == 200
    await made.close()


async def test_a_token_that_is_remembered_still_expires(tokens: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=time.time())
    monkeypatch.setattr(access, "time", SimpleNamespace(time=lambda: clock.now, monotonic=lambda: 0.0))
    client = tokens.with_token(signed(claims(exp=int(clock.now) + 600)))
    assert (await client.get("/api/agents")).status_code == 200
    clock.now += 601
    envelope(await client.get("/api/agents"), 401, "UNAUTHORIZED", "remembered and expired")


async def test_without_a_secret_no_token_is_taken(callers: Callers) -> None:
    for secret in (SECRET, "", "None"):
        answer = await callers.with_token(signed(claims(), secret=secret)).get("/api/agents")
        assert "ZORA_JWT_SECRET is not set" in envelope(answer, 401, "UNAUTHORIZED")["message"]


async def test_a_secret_that_can_be_guessed_is_refused_and_not_shown(zora: Zora) -> None:
    for secret in ("", "short", "x" * 31):
        with pytest.raises(ConfigurationError, match=f"ZORA_JWT_SECRET has {len(secret)} bytes") as refused:
            Credentials(zora.database, secret)
        assert not secret or secret not in str(refused.value)
    for secret in ("x" * 32, "ü" * 16):
        Credentials(zora.database, secret)
    with pytest.raises(ConfigurationError, match="at least 32"):
        async with api_for(zora.database, replace(zora.settings, jwt_secret="x" * 31), requests_per_minute=0):
            pass
    assert "x" * 40 not in repr(replace(zora.settings, jwt_secret="x" * 40))


# --- WebSocket


async def said_by(app: Any, target: str, token: str | None, *texts: str) -> list[dict[str, Any]]:
    connect = [{"type": "websocket.connect"}, *({"type": "websocket.receive", "text": text} for text in texts)]
    return await speak(
        app, scope_of("websocket", target, token), connect,
        until=lambda m: m["type"] in ("websocket.send", "websocket.close", "websocket.http.response.body"),
    )  # fmt: skip


async def test_a_websockets_first_message_is_its_credential(zora: Zora, api: Api, callers: Callers) -> None:
    app, key = create_app(api), await callers.key(Role.VIEWER)
    accepted, first, *_ = await said_by(app, EVENTS, None, json.dumps({"type": "auth", "token": key}))
    assert (accepted["type"], json.loads(first["text"])["type"]) == ("websocket.accept", "snapshot")
    bad = [
        "", "x", "null", "[]", '{"type": "auth"}', '{"type": "auth", "token": 1}', '{"type": "auth", "token": ""}',
        json.dumps({"type": "hello", "token": key}), json.dumps({"token": key}), json.dumps([key]), key,
        json.dumps({"type": "auth", "token": new_key().key}), json.dumps({"type": "auth", "token": key + " x"}),
        json.dumps({"type": "auth", "token": signed(claims())}), '{"type": "auth", "token": "\\ud800"}', "[" * 50_000,
    ]  # fmt: skip
    for text in bad:
        accepted, closed = await said_by(app, EVENTS, None, text)
        assert (accepted["type"], closed["type"]) == ("websocket.accept", "websocket.close"), text[:60]
        assert closed["code"] == 4401, text[:60]
        assert key not in closed["reason"]


async def test_a_websocket_shows_only_its_own_tenant(zora: Zora, api: Api, callers: Callers) -> None:
    app, task_id = create_app(api), await zora.create("EIVOR", "summarize_recent_events")
    own, other = await callers.key(), await callers.key(tenant_id=OTHER_TENANT_ID)
    _, snapshot, *_ = await said_by(app, EVENTS, own)
    assert [t["id"] for t in json.loads(snapshot["text"])["tasks"]] == [str(task_id)]
    _, snapshot, *_ = await said_by(app, EVENTS, other)
    assert json.loads(snapshot["text"])["tasks"] == []
    accepted, closed = await said_by(app, f"{EVENTS}?id={task_id}", other)
    assert (accepted["type"], closed["code"], closed["reason"]) == ("websocket.accept", 4400, f"no task {task_id}")


# --- rates


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def taken(limiter: RateLimiter, key: str = "a", at_most: int = 100_000) -> int:
    """How many requests are let through at this moment."""
    for number in range(at_most):
        try:
            limiter.take(key)
        except RateLimited:
            return number
    return at_most


@pytest.mark.parametrize("started", [0.0, 0.1, 86_400.3, 12_345_678.9])
@pytest.mark.parametrize(
    ("per_minute", "burst", "at_once"), [(6000, None, 600), (600, 60, 60), (7, 3, 3), (5, None, 1), (60, 1, 1)]
)
def test_a_burst_is_let_through_whole_and_then_the_steady_rate(
    per_minute: int, burst: int | None, at_once: int, started: float
) -> None:
    clock = Clock(started)
    limiter = RateLimiter(per_minute, burst, clock=clock)
    assert taken(limiter) == at_once
    for _ in range(50):
        clock.now += 60 / per_minute
        assert taken(limiter) == 1
    clock.now += 60 / per_minute * at_once * 2
    assert taken(limiter) == at_once, "a burst comes back with time, and no more than one"


def test_no_limit_is_no_limit() -> None:
    assert taken(RateLimiter(0), at_most=10_000) == 10_000


def test_whoever_waits_as_long_as_asked_is_let_through() -> None:
    clock = Clock()
    limiter = RateLimiter(7, 2, clock=clock)
    for _ in range(20):
        taken(limiter)
        with pytest.raises(RateLimited) as refused:
            limiter.take("a")
        assert 0 < refused.value.seconds <= 60 / 7 + 1e-6
        clock.now += refused.value.seconds
        limiter.take("a")


def test_many_addresses_do_not_fill_the_memory() -> None:
    clock = Clock()
    limiter = RateLimiter(600, clock=clock)
    for number in range(25_000):
        limiter.take(f"address:{number}")
        clock.now += 0.001
    assert len(limiter._next) <= 10_001


@given(
    per_minute=st.sampled_from([60, 120, 600, 6000]),
    burst=st.integers(1, 8),
    calls=st.lists(st.tuples(st.integers(0, 40), st.sampled_from("ab")), max_size=60),
)
def test_the_limiter_is_a_bucket_of_a_bursts_size_that_leaks_at_the_rate(
    per_minute: int, burst: int, calls: list[tuple[int, str]]
) -> None:
    clock = Clock()
    limiter = RateLimiter(per_minute, burst, clock=clock)
    levels: dict[str, tuple[float, float]] = {}
    passed: dict[str, list[float]] = {"a": [], "b": []}
    for sixteenths, key in calls:
        clock.now += sixteenths / 16  # exact in binary, as the levels then are
        level, at = levels.get(key, (0.0, clock.now))
        level = max(0.0, level - (clock.now - at) * per_minute / 60)
        try:
            limiter.take(key)
            assert level + 1 <= burst, "let through what the bucket cannot hold"
            passed[key].append(clock.now)
            level += 1
        except RateLimited as error:
            assert level + 1 > burst, "refused what the bucket can hold"
            assert error.seconds == pytest.approx((level + 1 - burst) * 60 / per_minute, abs=1e-2)
        levels[key] = (level, clock.now)
    for times in passed.values():
        for first in range(len(times)):
            for last in range(first, len(times)):
                window = times[last] - times[first]
                assert last - first + 1 <= burst + window * per_minute / 60 + 0.01


async def test_a_rate_is_counted_by_credential_and_answered_with_how_long_to_wait(api: Api, callers: Callers) -> None:
    clock = Clock()
    app = create_app(replace(api, limiter=RateLimiter(30, 3, clock=clock)))
    one, two = [callers.with_token(await callers.key(Role.VIEWER), app=app) for _ in range(2)]
    for _ in range(3):
        assert (await one.get("/api/agents")).status_code == 200
    answer = await one.get("/api/agents")
    error = envelope(answer, 429, "RATE_LIMIT_EXCEEDED")
    assert error["message"] == "too many requests: wait 2.0 s"
    assert answer.headers["retry-after"] == "2"
    assert (await two.get("/api/agents")).status_code == 200, "another key of the same user has a rate of its own"
    assert (await one.get("/api/status")).status_code == 200, "what needs no credential is not counted"
    clock.now += int(answer.headers["retry-after"])
    assert (await one.get("/api/agents")).status_code == 200
    envelope(await one.get("/api/agents"), 429, "RATE_LIMIT_EXCEEDED")


async def test_a_forbidden_request_counts_and_a_refused_one_changes_nothing(
    zora: Zora, api: Api, callers: Callers
) -> None:
    app = create_app(replace(api, limiter=RateLimiter(1, 2, clock=Clock())))
    viewer, member = [callers.with_token(await callers.key(role), app=app) for role in (Role.VIEWER, Role.MEMBER)]
    before = await zora.sql("select count(*) from journal_entries")
    for status in (403, 403, 429):
        assert (await viewer.post("/api/agents/tasks", json=task())).status_code == status
    assert await zora.sql("select count(*) from journal_entries") == before
    for status in (201, 201, 429):
        assert (await member.post("/api/agents/tasks", json=task())).status_code == status
    assert len(await zora.sql("select from agent_tasks")) == 2


async def test_whoever_tries_credentials_is_counted_by_address_and_the_good_are_let_in(
    api: Api, callers: Callers
) -> None:
    clock = Clock()
    app = create_app(replace(api, limiter=RateLimiter(60, 3, clock=clock)))
    here, there = [
        lambda token, a=a: callers.with_token(token, app=app, address=a) for a in ("192.0.2.1", "2001:db8::1")
    ]
    key = await callers.key(Role.VIEWER)
    for token in (new_key().key, "x", signed(claims())):
        envelope(await here(token).get("/api/agents"), 401, "UNAUTHORIZED")
    for token in (new_key().key, "x"):
        answer = await here(token).get("/api/agents")
        envelope(answer, 429, "RATE_LIMIT_EXCEEDED")
        assert answer.headers["retry-after"] == "1"
    envelope(await there("x").get("/api/agents"), 401, "UNAUTHORIZED", "another address")
    assert (await here(key).get("/api/agents")).status_code == 200, "behind one address there may be many"
    accepted, closed = await speak(
        app, scope_of("websocket", EVENTS) | {"client": ("192.0.2.1", 1)},
        [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": '{"type": "auth", "token": "x"}'}],
    )  # fmt: skip
    assert (accepted["type"], closed["code"]) == ("websocket.accept", 4429)
    clock.now += 1
    envelope(await here("x").get("/api/agents"), 401, "UNAUTHORIZED")


# --- binding


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_this_machine_is_bound_with_or_without_a_secret(zora_settings: Settings, host: str) -> None:
    check_binding(host, zora_settings)
    check_binding(host, replace(zora_settings, jwt_secret=SECRET))


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "192.168.1.5", "10.0.0.1", "example.org", "", "localhost.example.org", "0", "fe80::1", "[::1]"],
)
def test_anything_else_is_bound_only_with_a_secret(zora_settings: Settings, host: str) -> None:
    with pytest.raises(ConfigurationError, match="ZORA_JWT_SECRET is not set"):
        check_binding(host, zora_settings)
    check_binding(host, replace(zora_settings, jwt_secret=SECRET))


@pytest.fixture
def zora_settings(tmp_path: Any) -> Settings:
    return Settings(home=tmp_path)


# --- headers

ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


async def test_no_page_elsewhere_may_call_the_api(callers: Callers, founder: httpx.AsyncClient) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for client in (founder, callers.with_token(None)):
        for path in ("/api/agents/tasks", "/api/status", "/nothing"):
            for answer in (await client.options(path, headers=asked), await client.get(path, headers=asked)):
                assert not [name for name in answer.headers if name.startswith("access-control")], path
                assert "set-cookie" not in answer.headers
        envelope(await client.options("/api/agents/tasks", headers=asked), 405, "METHOD_NOT_ALLOWED")


async def test_every_answer_has_the_headers_that_keep_a_browser_safe(
    api: Api, callers: Callers, founder: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = callers.with_token(None)

    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("unexpected")

    answers = {
        "200": await founder.get("/api/agents"),
        "201": await founder.post("/api/agents/tasks", json=task()),
        "status": await nobody.get("/api/status"),
        "docs": await nobody.get("/docs"),
        "document": await nobody.get("/openapi.json"),
        "metrics": await founder.get("/metrics"),
        "400": await founder.post("/api/agents/tasks", json={}),
        "401": await nobody.get("/api/agents"),
        "404": await nobody.get("/nothing"),
        "405": await nobody.delete("/api/agents"),
        "415": await founder.post("/api/agents/tasks", content=b"x"),
        "413": await founder.post(
            "/api/agents/tasks", content=b" " * 1_000_001, headers={"content-type": "application/json"}
        ),
    }
    monkeypatch.setattr(access.Caller, "call", fail)
    answers["500"] = await founder.get("/api/agents/tasks")
    for name, answer in answers.items():
        assert answer.status_code == (int(name) if name.isdecimal() else 200), f"{name}: {answer.status_code}"
        missing = {header: value for header, value in ALWAYS.items() if answer.headers.get(header) != value}
        assert not missing, f"{name} lacks {missing}"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; " in policy, name
        assert "frame-ancestors 'none'" in policy, name
        assert "unsafe-inline" not in policy.replace("style-src 'self' 'unsafe-inline'", ""), name
        assert UUID(answer.headers["x-request-id"]), name
        assert "server" not in answer.headers
    assert len({answer.headers["x-request-id"] for answer in answers.values()}) == len(answers)


async def test_a_requests_id_is_echoed_and_logged(callers: Callers, log: Log) -> None:
    log.set_up()
    nobody = callers.with_token(None)
    for wanted in ("0f3a", "x" * 128, "!~", "a/b?c=<d>"):
        for path in ("/api/status", "/api/agents", "/nothing"):
            answer = await nobody.get(path, headers={"X-Request-ID": wanted})
            assert answer.headers.get_list("x-request-id") == [wanted]
            line = log.getvalue().splitlines()[-1]
            assert line.startswith(f"INFO [{wanted}] GET {path} {answer.status_code} "), line


async def test_an_id_that_could_forge_a_line_or_fill_the_log_is_replaced(api: Api, log: Log) -> None:
    log.set_up()
    app = create_app(api)
    bad = (b"", b" ", b"a b", b"x" * 129, "é".encode(), b"\xff", b"a\tb", b"\x7f", b"a\nINFO forged", b"\x1b[2J", b"\0")
    for number, wanted in enumerate(bad, 1):
        scope = scope_of("http", "/api/agents")
        scope["headers"] = [(b"x-request-id", wanted)]
        start, *_ = await speak(app, scope, [{"type": "http.request"}])
        (made,) = [value.decode() for name, value in start["headers"] if name == b"x-request-id"]
        assert UUID(made), wanted
        lines = log.getvalue().splitlines()
        assert len(lines) == number, wanted
        assert lines[-1].startswith(f"INFO [{made}] GET /api/agents 401 "), wanted


async def test_a_log_line_names_the_credential_and_never_shows_it(callers: Callers, log: Log) -> None:
    log.set_up()
    key = await callers.key(Role.VIEWER)
    await callers.with_token(key).get("/api/agents")
    await callers.with_token(key + "A").get("/api/agents")
    said = log.getvalue().splitlines()
    assert said[0].endswith(f" ms {key[:13]}")
    assert said[1].endswith(" ms -")
    assert key[14:] not in log.getvalue()


async def test_invented_methods_do_not_fill_the_figures(callers: Callers, founder: httpx.AsyncClient) -> None:
    nobody = callers.with_token(None)
    for number in range(20):
        await nobody.request(f"INVENTED{number}", "/api/agents")
    text = (await founder.get("/metrics")).text
    assert "INVENTED" not in text
    assert 'zora_http_requests_total{method="other",route="/api/agents",status="405"} 20.0' in text


async def test_a_client_that_goes_in_the_middle_of_its_request_is_no_error(
    api: Api, callers: Callers, log: Log
) -> None:
    log.set_up()
    scope = scope_of("http", "/api/agents/tasks", await callers.key(), **{"content-type": "application/json"})
    scope["method"] = "POST"
    incoming = [{"type": "http.request", "body": b'{"agent_id"', "more_body": True}, {"type": "http.disconnect"}]
    assert await speak(create_app(api), scope, incoming) == []
    assert "ERROR" not in log.getvalue()
    assert "POST /api/agents/tasks None" in log.getvalue()


async def test_answers_say_what_is_left_of_the_rate(api: Api) -> None:
    clock = Clock(1000.0)
    limiter = RateLimiter(60, 2, clock=clock)
    limited = replace(api, limiter=limiter, credentials=Credentials(api.database, SECRET))
    made = Callers(None, httpx.ASGITransport(app=create_app(limited)))  # type: ignore[arg-type]
    client = made.with_token(signed(claims()))
    said = []
    for _ in range(3):
        answer = await client.get("/api/agents")
        said.append((answer.status_code, answer.headers["ratelimit"]))
        assert answer.headers["ratelimit-policy"] == '"burst";q=2;w=2'
    assert said == [(200, '"burst";r=1;t=1'), (200, '"burst";r=0;t=2'), (429, '"burst";r=0;t=2')]
    clock.now += 1
    assert (await client.get("/api/agents")).headers["ratelimit"] == '"burst";r=0;t=2'
    await made.close()


async def test_browsers_of_other_sites_may_call_only_when_their_origin_is_named(api: Api) -> None:
    def app(*origins: str) -> httpx.ASGITransport:
        return httpx.ASGITransport(app=create_app(replace(api, settings=replace(api.settings, cors_origins=origins))))

    asked = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization, content-type, idempotency-key"}  # fmt: skip
    for origins, allowed in (
        ((), None),
        (("https://other.example.org",), None),
        (("https://other.example.org", "https://app.example.org"), "https://app.example.org"),
    ):
        async with httpx.AsyncClient(transport=app(*origins), base_url="http://test") as client:
            preflight = await client.options("/api/agents/tasks", headers=asked)
            answer = await client.get("/api/status", headers={"Origin": "https://app.example.org"})
        assert preflight.headers.get("access-control-allow-origin") == allowed
        assert answer.headers.get("access-control-allow-origin") == allowed
        assert "access-control-allow-credentials" not in answer.headers
        if allowed:
            assert preflight.status_code == 200
            assert "idempotency-key" in preflight.headers["access-control-allow-headers"].lower()
            assert "RateLimit" in answer.headers["access-control-expose-headers"]


async def test_an_unexpected_error_can_be_read_by_a_browser_of_a_named_origin(api: Api) -> None:
    app = create_app(replace(api, settings=replace(api.settings, cors_origins=("https://app.example.org",))))

    async def broken() -> None:
        raise RuntimeError("broken")

    app.add_api_route("/api/broken", broken)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        answer = await client.get("/api/broken", headers={"Origin": "https://app.example.org"})
    assert answer.status_code == 500
    assert answer.headers["access-control-allow-origin"] == "https://app.example.org"


@pytest.mark.parametrize("per_minute", [100, 170, 300, 550, 600, 6000])
def test_what_is_left_of_a_rate_is_never_more_than_the_rate(per_minute: int) -> None:
    limiter = RateLimiter(per_minute, clock=Clock(12_345_678.9))
    taken(limiter)
    with pytest.raises(RateLimited) as raised:
        limiter.take("a")
    assert (raised.value.quota.remaining, raised.value.quota.full_in) == (0, raised.value.quota.window)


@pytest.mark.parametrize(
    "wrong", ["*", "app.example.org", "https://app.example.org/", "https://a.org, nonsense", "https://a.org:443"]
)
def test_a_wrong_origin_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="is not an origin"):
        load_settings({"ZORA_CORS_ORIGINS": wrong})
