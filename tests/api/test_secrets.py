"""Secrets that callers send: not in the log, not in an error, wherever they stand and whatever goes wrong."""

from __future__ import annotations

import base64
import json
import logging
import secrets
import string
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from pydantic import ConfigDict

from tests.api.conftest import Callers, Log, scope_of, speak, task
from tests.conftest import Zora
from zora_core.agents import Agent, AgentId, Payload, Task, TaskContext, TaskResult, handler
from zora_core.agents.agent import Registry
from zora_core.api.access import Caller, Credentials
from zora_core.api.keys import new_key
from zora_core.api.state import Api
from zora_core.errors import InvalidInput
from zora_core.server.app import create_app

TASKS = "/api/agents/tasks"


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


WORD = string.ascii_letters + string.digits
PASSWORD = "correct" + "-horse-" + _random(WORD, 6)
# What each looks like, and the part that must not be seen. Made at run time: none stands in this file.
SECRETS = {
    "API key": new_key().key.split("_", 2)[2],
    "GitHub token": _random(WORD, 36),
    "AWS key": _random(WORD + "/+", 40),
    "Stripe key": _random(WORD, 24),
    "JWT": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("="),
    "password": PASSWORD,
    "PEM": base64.b64encode(secrets.token_bytes(600)).decode(),
}
TEXTS = {
    "API key": "zora_" + "ab12cd34_" + SECRETS["API key"],
    "GitHub token": "gh" + "p_" + SECRETS["GitHub token"],
    "AWS key": "aws_secret_access_key = " + SECRETS["AWS key"],
    "Stripe key": "sk_" + "live_" + SECRETS["Stripe key"],
    "JWT": "ey" + "J" + base64.urlsafe_b64encode(b'hbGciOiJIUzI1NiJ9{"a":1}').decode() + ".ey" + "Jh." + SECRETS["JWT"],
    "password": f"postgresql://ada:{PASSWORD}@db.example.org/zora and password={PASSWORD}",
    "PEM": f"-----BEGIN {'RSA '}PRIVATE KEY-----\n{SECRETS['PEM']}\n-----END {'RSA '}PRIVATE KEY-----",
}
ALL = " and ".join(TEXTS.values())


def assert_silent(text: str, where: str, *more: str) -> None:
    """No secret stands in a text."""
    seen = [name for name, secret in SECRETS.items() if secret in text]
    seen += [f"number {number}" for number, secret in enumerate(more) if secret in text]
    assert not seen, f"{where} shows {', '.join(seen)}: {text[:1500]}"


class Careless(Agent):
    """An agent that says what it was given when it fails, as code that was not written for secrets does."""

    agent_id = AgentId.SAM

    @handler("anything")
    async def anything(self, task: Task, payload: Anything, ctx: TaskContext) -> TaskResult:
        """Fail with the payload."""
        logging.getLogger("zora.agents.careless").warning("about to fail with %s", payload)
        raise RuntimeError(f"cannot work with {task.payload} ({payload!r})")

    @handler("nested")
    def nested(self, task: Task, payload: Anything, ctx: TaskContext) -> TaskResult:
        """Fail while failing."""
        try:
            raise ValueError(json.dumps(task.payload))
        except ValueError as error:
            raise KeyError(str(task.payload)) from error

    @handler("refuse")
    async def refuse(self, task: Task, payload: Anything, ctx: TaskContext) -> TaskResult:
        """Refuse the payload."""
        raise InvalidInput(f"cannot read {payload}")

    @handler("slow", timeout_seconds=1)
    async def strict(self, task: Task, payload: Strict, ctx: TaskContext) -> TaskResult:
        """Take nothing."""
        raise AssertionError


class Anything(Payload):
    model_config = ConfigDict(extra="allow")


class Strict(Payload):
    days: int = 7


@pytest.fixture
async def careless(api: Api, callers: Callers) -> httpx.AsyncClient:
    """A founder at an API that knows the careless agent."""
    return callers.with_token(await callers.key(), app=create_app(replace(api, registry=Registry([Careless()]))))


def payloads() -> list[dict[str, Any]]:
    return [
        {"extra_instructions": ALL},
        {"a": {"b": [{"c": list(TEXTS.values())}]}},
        {"password": PASSWORD, "api_key": TEXTS["API key"], "headers": {"Authorization": f"Bearer {TEXTS['JWT']}"}},
        {"token": SECRETS["Stripe key"], "client_secret": SECRETS["AWS key"], "private_key": SECRETS["PEM"]},
        {"auth": ["Basic", base64.b64encode(f"ada:{PASSWORD}".encode()).decode()], "passwd": PASSWORD},
    ]


async def test_a_valid_task_with_secrets_is_not_logged(careless: httpx.AsyncClient, log: Log) -> None:
    log.set_up()
    for payload in payloads():
        body = {"agent_id": "SAM", "task_type": "anything", "title": ALL[:400], "description": ALL, "payload": payload}
        created = await careless.post(TASKS, json=body)
        assert created.status_code == 201
        assert (await careless.post(f"{TASKS}/bulk", json={"tasks": [body]})).status_code == 201
        assert (await careless.post(f"{TASKS}/validate", json=body)).status_code == 200
        path = f"{TASKS}/{created.json()['data']['id']}"
        assert (await careless.post(f"{path}/cancel", json={"reason": ALL})).status_code == 200
    said = log.getvalue()
    assert said.count(f"POST {TASKS} 201") == len(payloads())
    assert_silent(said, "the log")


async def test_an_error_does_not_quote_what_was_wrong(founder: httpx.AsyncClient, log: Log) -> None:
    log.set_up()
    broken: list[dict[str, Any]] = []
    for text in TEXTS.values():
        broken += [
            task(agent_id=text), task(priority=text), task(run_at=text), task(max_attempts=text),
            task(timeout_seconds=text), task(title=[text]), task(title=text + "x" * 500), task(title=text + "\0"),
            task(description={"a": text}), task(description=text * (20_000 // len(text) + 1)),
            task(payload=text), task(payload=[text]), task(payload={"days": text}), task(payload={"days": [text]}),
            task(payload={"password": text}), task(payload={"extra_instructions": [text]}),
            task(payload={"extra_instructions": text + "\0"}), task(payload={"a": {"b": text + "\0"}}),
            task(payload={"days": {"days": text}}), task(idempotency_key=text * 20),
            task(idempotency_key=text + "\0"), task(password=text), task(task_type=text * 9),
            task(task_type=text + "\0"), {"token": text},
        ]  # fmt: skip
    for body in broken:
        for path, sent in ((TASKS, body), (f"{TASKS}/validate", body), (f"{TASKS}/bulk", {"tasks": [body]})):
            answer = await founder.post(path, json=sent)
            assert answer.status_code == 400, sent
            assert_silent(answer.text, f"the answer to {str(sent)[:60]}")
    for body in ({"reason": [ALL]}, {"reason": ALL * 10}, {"password": ALL}, {"reason": ALL + "\0"}):
        answer = await founder.post(f"{TASKS}/{uuid4()}/cancel", json=body)
        assert answer.status_code == 400
        assert_silent(answer.text, "the answer to a reason")
    assert_silent(log.getvalue(), "the log")


async def test_every_task_type_refuses_a_payload_without_quoting_it(
    founder: httpx.AsyncClient, api: Api, log: Log
) -> None:
    log.set_up()
    for task_type in api.registry:
        for field in task_type.payload.model_fields:
            for value in (f"{ALL}\0", {"secret": ALL}, [[ALL]], [ALL + "\0"], [{"password": PASSWORD}]):
                body = task(agent_id=task_type.agent_id, task_type=task_type.name, payload={field: value})
                answer = await founder.post(TASKS, json=body)
                if answer.status_code != 201:
                    assert_silent(answer.text, f"{task_type.agent_id} {task_type.name} {field}")
            for number in (10**40, -1.5, True):
                body = task(agent_id=task_type.agent_id, task_type=task_type.name, payload={field: number})
                assert (await founder.post(TASKS, json=body)).status_code in (201, 400)
    assert_silent(log.getvalue(), "the log")


async def test_broken_json_and_bad_parameters_are_not_quoted(founder: httpx.AsyncClient, log: Log) -> None:
    log.set_up()
    headers = {"Content-Type": "application/json"}
    for text in (*TEXTS.values(), *SECRETS.values()):
        whole = json.dumps(task(payload={"extra_instructions": text}))
        for content in (whole[:-1], text, f'"{text}', f"[{text}]", whole + text, f"{{{text}: 1}}", f'{{"a": {text}}}'):
            answer = await founder.post(TASKS, content=content.encode(), headers=headers)
            assert answer.status_code == 400
            assert_silent(answer.text, f"the answer to {content[:40]}")
        for name in ("status", "agent_id", "limit", "offset", "cursor"):
            answer = await founder.get(TASKS, params={name: text})
            assert answer.status_code == 400, name
            assert_silent(answer.text, name)
        answer = await founder.post(TASKS, content=whole, headers={"Content-Type": f"text/{text}".replace("\n", "")})
        assert_silent(answer.text, "the answer to a content type")
    assert_silent(log.getvalue(), "the log")


async def test_a_credential_is_neither_logged_nor_answered_whether_good_or_bad(
    zora: Zora, api: Api, callers: Callers, log: Log
) -> None:
    log.set_up()
    secret = secrets.token_urlsafe(48)
    app = create_app(replace(api, credentials=Credentials(api.database, secret)))
    good = await callers.key()
    bad = [
        new_key().key, good[:14] + new_key().key[14:], good + "x", TEXTS["JWT"], PASSWORD, TEXTS["GitHub token"],
        f"{good} {good}", f"{TEXTS['JWT']}.x", good.replace("_", "-"),
    ]  # fmt: skip
    hidden = [secret, *(key[14:] for key in (good, *bad[:2]))]
    for token in (good, *bad):
        client = callers.with_token(token, app=app)
        for answer in (await client.get(TASKS), await client.post(TASKS, json=task()), await client.get("/nothing")):
            assert_silent(str(answer.headers) + answer.text, "an answer", *hidden)
    for scheme in ("Basic", "Token", "bearer:", ""):
        answer = await callers.with_token(None, app=app).get(TASKS, headers={"Authorization": f"{scheme} {good}"})
        assert_silent(str(answer.headers) + answer.text, "an answer", *hidden)
    said = log.getvalue()
    assert said.count(f"GET {TASKS} 200") == 1
    assert good[:13] in said
    assert_silent(said, "the log", *hidden)


async def test_a_token_in_a_websockets_message_or_url_is_not_logged(api: Api, callers: Callers, log: Log) -> None:
    log.set_up()
    app, good = create_app(api), await callers.key()
    bad = new_key().key
    for target, token, *texts in (
        ("/events", None, json.dumps({"type": "auth", "token": good})),
        ("/events", None, json.dumps({"type": "auth", "token": bad})),
        ("/events", None, json.dumps({"type": "auth", "password": PASSWORD})),
        ("/events", None, f"{bad} is not JSON"),
        ("/events", good, json.dumps({"type": "auth", "token": PASSWORD})),
        ("/events", bad),
        (f"/events?token={bad}", None, "x"),
        (f"/events?status={bad}", good),
        (f"/events?since={bad}", good),
    ):
        incoming = [{"type": "websocket.connect"}, *({"type": "websocket.receive", "text": text} for text in texts)]
        said = await speak(
            app, scope_of("websocket", TASKS + target, token), incoming,
            until=lambda m: m["type"] in ("websocket.send", "websocket.close", "websocket.http.response.body"),
        )  # fmt: skip
        shown = [m for m in said if m["type"] != "websocket.http.response.start"]
        assert_silent(str(shown), f"the answer at {target[:20]}", good[14:], bad[14:])
    assert log.getvalue().count(f"WS {TASKS}/events ") == 9
    assert_silent(log.getvalue(), "the log", good[14:], bad[14:])


async def test_a_credential_in_a_url_is_not_logged(founder: httpx.AsyncClient, log: Log) -> None:
    log.set_up()
    for text in (TEXTS["API key"], TEXTS["GitHub token"], TEXTS["Stripe key"], TEXTS["JWT"]):
        for path in (f"{TASKS}?token={text}", f"{TASKS}/{text}", f"/{text}", f"/api/token/{text}/x"):
            answer = await founder.get(path)
            assert_silent(answer.text, path[:30])
    assert_silent(log.getvalue(), "the log")


async def test_a_handler_that_fails_with_its_payload_leaks_nothing(
    zora: Zora, careless: httpx.AsyncClient, log: Log
) -> None:
    log.set_up()
    tasks = [
        {"agent_id": "SAM", "task_type": kind, "title": "t", "payload": payload, "max_attempts": 1}
        for kind in ("anything", "nested", "refuse")
        for payload in payloads()
    ]
    answer = await careless.post(f"{TASKS}/bulk", json={"tasks": tasks})
    assert answer.status_code == 201
    # A payload that no longer fits its task type, as after an upgrade.
    await zora.create("SAM", "slow", {"days": TEXTS["GitHub token"], "password": PASSWORD})
    runs = await zora.run_once(Careless(), limit=100)
    assert [run.status for run in runs] == ["failed"] * len(runs)
    assert len(runs) == len(tasks) + 1
    said = log.getvalue()
    assert said.count("ERROR SAM anything failed (task ") == len(payloads())
    assert "RuntimeError: cannot work with" in said
    assert_silent(said, "the log")
    for made in answer.json()["data"]:
        ended = (await careless.get(f"{TASKS}/{made['id']}")).json()["data"]
        assert_silent(f"{ended['error_message']} {ended['result_summary']}", "how the task ended")
    entries = (await careless.get("/api/journal?limit=200")).json()["data"]
    assert len([entry for entry in entries if entry["event_type"] == "agent_task_failed"]) == len(runs)
    assert_silent(str(entries), "the journal")
    assert_silent(str((await careless.get("/api/memory?limit=200")).json()), "the memory")


async def test_a_fault_of_ours_that_quotes_a_request_leaks_nothing(
    founder: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    log.set_up()

    async def fail(self: Caller, function: str, /, **arguments: Any) -> None:
        raise RuntimeError(f"{function} failed with {arguments}") from asyncpg.PostgresError(
            f"connection postgresql://zora:{PASSWORD}@db/zora: {arguments}"
        )

    monkeypatch.setattr(Caller, "call", fail)
    for text in TEXTS.values():
        answer = await founder.post(
            TASKS, json=task(payload={"extra_instructions": text}, title=text[:400], description=text)
        )
        assert answer.status_code == 500
        assert_silent(answer.text, "the answer")
    assert log.getvalue().count("RuntimeError: create_agent_tasks failed with") == len(TEXTS)
    assert_silent(log.getvalue(), "the log")
