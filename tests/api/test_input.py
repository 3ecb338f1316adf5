"""Malformed requests: always a refusal in the envelope, never a fault of ours, and nothing stored."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict

from tests.api.conftest import OTHER_TENANT_ID, Callers, Log, task
from tests.conftest import Zora
from zora_core.agents import Agent, AgentId, Payload, Task, TaskContext, TaskResult, handler
from zora_core.agents.agent import Registry
from zora_core.api.access import Caller
from zora_core.api.answers import write_cursor
from zora_core.api.bodies import MAX_BYTES
from zora_core.api.state import Api
from zora_core.errors import DatabaseUnavailable
from zora_core.server.app import create_app, routes

JSON = {"Content-Type": "application/json"}
NOWHERE = "0199d2c4-9b0e-7c3a-8f52-5a6b83c73447"
TASKS = "/api/agents/tasks"
CANCEL = f"{TASKS}/{NOWHERE}/cancel"

# A good body for every route that takes one.
SUGGESTIONS = "/api/agents/suggestions"
SUGGESTION = {
    "agent_id": "SAM", "suggestion_type": "advice", "title": "Tidy up",
    "evidence": [{"kind": "metric", "name": "pages", "value": 7, "unit": "pages"}],
}  # fmt: skip
WORKFLOW = {
    "key": "mine", "name": "Mine",
    "steps": [{"key": "sum", "agent_id": "EIVOR", "task_type": "summarize_recent_events", "title": "Sum up"}],
}  # fmt: skip
SCHEDULES = "/api/autonomy/schedules"
SCHEDULE = {
    "name": "digest", "agent_id": "EIVOR", "task_type": "summarize_recent_events", "cron": "0 9 * * 1",
}  # fmt: skip
GOOD = {
    "create_task": (TASKS, task()),
    "create_tasks": (f"{TASKS}/bulk", {"tasks": [task()]}),
    "validate_task": (f"{TASKS}/validate", task()),
    "cancel_task": (CANCEL, {"reason": "not needed"}),
    "create_suggestion": (SUGGESTIONS, SUGGESTION),
    "save_workflow": ("/api/workflows", WORKFLOW),
    "create_command": ("/api/agents/commands", {"text": "Check our climate page"}),
    "decide_suggestion": (f"{SUGGESTIONS}/{NOWHERE}/decision", {"decision": "reject", "reason": "not now"}),
    "create_schedule": (SCHEDULES, SCHEDULE),
}
# Or with one that may be left out, of which cancel_task stands for all.
WITHOUT_BODY = {
    "retry_task",
    "undo_suggestion",
    "pause",
    "run_schedule_now",
    "start_workflow_run",
    "cancel_workflow_run",
    "retry_workflow_run",
}

# A database's and a language's own words.
FOREIGN = (
    "syntax",
    "sqlstate",
    "relation",
    "constraint",
    "asyncpg",
    "traceback",
    "psycopg",
    "pg_",
    "pydantic",
    "jsonb",
)
CODES = {400: {"INVALID_JSON", "VALIDATION_ERROR"}, 413: {"PAYLOAD_TOO_LARGE"}, 415: {"UNSUPPORTED_MEDIA_TYPE"}}


def refused(answer: httpx.Response, why: object, *statuses: int, code: str | None = None) -> dict[str, Any]:
    """The error of an answer, which must be one of these statuses (400 when none is named), and in the envelope."""
    assert answer.status_code in (statuses or (400,)), f"{why}: {answer.status_code} {answer.text[:300]}"
    assert answer.headers["content-type"] == "application/json", why
    body = answer.json()
    assert body.keys() == {"error"}, f"{why}: {answer.text[:300]}"
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"code", "message", "details"}, f"{why}: {error}"
    known = CODES.get(answer.status_code)
    assert known is None or error["code"] in known, f"{why}: {error}"
    assert code in (None, error["code"]), f"{why}: {error}"
    assert error["message"], why
    for detail in error["details"] or ():
        assert detail.keys() == {"field", "message"}, f"{why}: {detail}"
        assert detail["field"], f"{why}: {detail}"
        assert detail["message"], f"{why}: {detail}"
    said = answer.text.lower()
    assert not [word for word in FOREIGN if word in said], f"{why}: {answer.text[:300]}"
    assert len(answer.content) < 100_000, f"{why}: an answer of {len(answer.content)} bytes"
    return error


@pytest.fixture
async def unchanged(zora: Zora, founder: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A founder whose requests must leave nothing behind."""
    counts = """select (select count(*) from agent_tasks), (select count(*) from journal_entries),
        (select count(*) from memory_events), (select count(*) from users), (select count(*) from tenants)"""
    before = await zora.sql(counts)
    yield founder
    assert await zora.sql(counts) == before, "something was stored"


def test_every_route_with_a_body_is_tried() -> None:
    taking = {route.name for route in routes() if "POST" in (route.methods or ())}
    assert taking - WITHOUT_BODY == set(GOOD)


async def test_the_bodies_that_are_broken_below_are_good(founder: httpx.AsyncClient) -> None:
    statuses = {}
    for name, (path, body) in GOOD.items():
        statuses[name] = (await founder.post(path, json=body)).status_code
    assert statuses == {
        "create_task": 201, "create_tasks": 201, "validate_task": 200, "cancel_task": 404, "create_suggestion": 201,
        "decide_suggestion": 404, "create_schedule": 201, "save_workflow": 200, "create_command": 201,
    }  # fmt: skip


# --- not JSON


def not_json(good: bytes) -> dict[str, bytes]:
    """What is made of a good body so that it is not JSON, or not JSON that everybody reads alike."""
    middle = len(good) // 2
    some = good.index(b'": "') + 4  # within a text
    return {
        **{f"cut after {n} bytes": good[:n] for n in (1, 2, middle, len(good) - 2, len(good) - 1)},
        "trailing garbage": good + b"x",
        "trailing bracket": good + b"}",
        "trailing NUL": good + b"\0",
        "twice": good + b"\n" + good,
        "leading comma": b"," + good,
        "trailing comma": good[:-1] + b",}",
        "single quotes": good.replace(b'"', b"'"),
        "no quotes": good.replace(b'"', b""),
        "a comment": b"/* good */" + good,
        "BOM": b"\xef\xbb\xbf" + good,
        "UTF-16": good.decode().encode("utf-16"),
        "UTF-16 without BOM": good.decode().encode("utf-16-le"),
        "UTF-32": good.decode().encode("utf-32"),
        "invalid UTF-8": good[:some] + b"\xff" + good[some:],
        "half a character": good[:some] + b"\xe2\x82" + good[some:],
        "overlong UTF-8": good[:some] + b"\xc0\x80" + good[some:],
        "a surrogate in UTF-8": good[:some] + b"\xed\xa0\x80" + good[some:],
        "a lone high surrogate": good[:some] + rb"\ud800" + good[some:],
        "a lone low surrogate": good[:some] + rb"\udc00" + good[some:],
        "surrogates in the wrong order": good[:some] + rb"\udc00\ud800" + good[some:],
        "half an escape": good[:some] + rb"\u12" + good[some:],
        "an unknown escape": good[:some] + rb"\x41" + good[some:],
        "a raw NUL": good[:some] + b"\0" + good[some:],
        "a raw line break": good[:some] + b"\n" + good[some:],
        "form data": b"agent_id=EIVOR&title=x",
        "XML": b"<?xml version='1.0'?><task/>",
        "a word": b"undefined",
        "500,000 open brackets": b"[" * 500_000,
        "500,000 open braces": b'{"a":' * 150_000,
        "a long number": b"9" * 500_000,
        "white space": b" \n\t",
    }


async def test_what_is_not_json_is_refused(unchanged: httpx.AsyncClient) -> None:
    for name, (path, body) in GOOD.items():
        for what, content in not_json(json.dumps(body).encode()).items():
            answer = await unchanged.post(path, content=content, headers=JSON)
            error = refused(answer, f"{name}: {what}")
            assert error["code"] == "INVALID_JSON", f"{name}: {what}: {error}"


async def test_json_that_is_no_object_is_refused(unchanged: httpx.AsyncClient) -> None:
    for name, (path, body) in GOOD.items():
        for other in (None, True, 0, -1, 1.5, "", "text", json.dumps(body), [], [body], [[]], [None]):
            answer = await unchanged.post(path, content=json.dumps(other), headers=JSON)
            refused(answer, f"{name}: {other}", code="VALIDATION_ERROR")
        if name != "cancel_task":
            refused(await unchanged.post(path, json={}), name, code="VALIDATION_ERROR")
            refused(await unchanged.post(path, content=b"", headers=JSON), name, code="INVALID_JSON")


async def test_a_body_must_be_said_to_be_json(unchanged: httpx.AsyncClient) -> None:
    kinds = [
        None, "", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
        "application/jsonp", "application/merge-patch+json", "application/json-seq", "json", "*/*", "text/html",
        "application/json/x", "text/html, application/json", "application/octet-stream",
    ]  # fmt: skip
    for path, body in GOOD.values():
        for kind in kinds:
            headers = {} if kind is None else {"Content-Type": kind}
            answer = await unchanged.post(path, content=json.dumps(body).encode(), headers=headers)
            refused(answer, f"{path}: {kind}", 415)
    for kind in (
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON;charset=UTF-8",
        "application/json ;x",
    ):
        answer = await unchanged.post(f"{TASKS}/validate", content=json.dumps(task()), headers={"Content-Type": kind})
        assert answer.status_code == 200, kind


# --- sizes


def chunks(size: int, piece: int = 65_536) -> Callable[[], AsyncIterator[bytes]]:
    async def produce() -> AsyncIterator[bytes]:
        for start in range(0, size, piece):
            yield b" " * min(piece, size - start)

    return produce


async def test_a_body_over_a_megabyte_is_refused_however_it_is_sent(unchanged: httpx.AsyncClient) -> None:
    for path, _ in GOOD.values():
        for size in (MAX_BYTES + 1, 2_000_000):
            whole = await unchanged.post(path, content=b" " * size, headers=JSON)
            refused(whole, f"{path}: {size} bytes", 413)
            pieces = await unchanged.post(path, content=chunks(size)(), headers=JSON)
            assert "content-length" not in pieces.request.headers
            refused(pieces, f"{path}: {size} bytes in pieces", 413)
            assert whole.json() == pieces.json()
    for length in ("2000000", "99999999999999999999999999", "9" * 5000):
        answer = await unchanged.post(TASKS, content=chunks(10)(), headers={**JSON, "Content-Length": length})
        refused(answer, length, 413)


async def test_a_body_of_a_megabyte_is_taken_and_its_pieces_do_not_matter(founder: httpx.AsyncClient) -> None:
    body = json.dumps(task(payload={"extra_instructions": "§"}), ensure_ascii=False).encode()
    full = body.replace("§".encode(), b"x" * (MAX_BYTES - len(body) + 2))
    assert len(full) == MAX_BYTES

    async def bytewise() -> AsyncIterator[bytes]:
        yield b""
        for byte in body:
            yield bytes([byte])

    for content in (full, bytewise()):
        assert (await founder.post(f"{TASKS}/validate", content=content, headers=JSON)).status_code == 200


async def test_at_most_a_thousand_tasks_are_created_at_once(
    zora: Zora, founder: httpx.AsyncClient, unchanged: httpx.AsyncClient
) -> None:
    for tasks in ([], [task()] * 1001, [task()] * 999 + [task(title=" ")], [task()] * 999 + [task(task_type="x")],
                  [task()] * 999 + [None], [[task()]], {"0": task()}, "x", None):  # fmt: skip
        refused(await unchanged.post(f"{TASKS}/bulk", json={"tasks": tasks}), str(tasks)[-80:], code="VALIDATION_ERROR")
    many = b'{"tasks": [' + b"0," * 400_000 + b"0]}"
    refused(await unchanged.post(f"{TASKS}/bulk", content=many, headers=JSON), "400,001 numbers")


async def test_an_answer_does_not_grow_with_the_mistakes_of_its_request(unchanged: httpx.AsyncClient) -> None:
    extra = {f"unknown{n}": 0 for n in range(15_000)}
    for body in (
        task(**extra), task(payload=extra), task(payload={"x" * 900_000: 1}), task(**{"x" * 900_000: 1}),
        task(task_type="x" * 900_000), task(payload={"days": "x" * 900_000}), {"tasks": [{}] * 1000},
    ):  # fmt: skip
        for path in (TASKS, f"{TASKS}/bulk"):
            error = refused(await unchanged.post(path, json=body), str(body)[:100], code="VALIDATION_ERROR")
            assert len(error["message"]) < 3000
            assert len(error["details"] or ()) <= 50


async def test_a_title_has_one_to_500_characters_that_are_not_all_white(
    founder: httpx.AsyncClient, unchanged: httpx.AsyncClient
) -> None:
    for title in ("", " ", "\t\n", "\u2003\u00a0", "x" * 501, "😀" * 501):
        refused(await unchanged.post(TASKS, json=task(title=title)), title[:20], code="VALIDATION_ERROR")
        refused(await unchanged.post(f"{TASKS}/bulk", json={"tasks": [task(title=title)]}), title[:20])
    for title in ("x", "x" * 500, "😀" * 500, " x ", "𝕳é\u0301\u202e", "'; drop table agent_tasks; --"):
        good = await founder.post(f"{TASKS}/validate", json=task(title=title))
        assert good.json()["data"]["task"]["title"] == title


# --- values

TEXTS = ("agent_id", "task_type", "title", "description", "idempotency_key")
WRONG: dict[str, list[Any]] = {
    "agent_id": [None, "", "BOB", "EIVOR ", "EIVOR\0", 1, True, [], {}, ["EIVOR"], "EIVOR" * 1000, "ЕIVOR"],
    "task_type": [None, "", " ", "nothing", "Summarize_Recent_Events", "memory_cleanup ", 1, True, [], {}, "x" * 101,
                  "plan_workflow", "__class__", "summarize_recent_events\0"],
    "title": [None, "", " ", 1, 1.5, True, [], {}, ["x"], "x" * 501, "a\0b", "\0"],
    "description": [1, True, [], {}, "x" * 20_001, "a\0b"],
    "payload": [None, "", "{}", 1, True, [], [{}], {"nothing": 1}, {"days": "7"}, {"days": 0}, {"days": None},
                {"days": True}, {"days": [7]}, {"Days": 7}, {"days": 10**30}, {"extra_instructions": 1}],
    "priority": [None, "", "5", 1.5, True, [], {}, 1_000_001, -1_000_001, 2**31, 2**63, -(2**63) - 1, 2**64, 10**300],
    "run_at": ["", "tomorrow", "now()", "infinity", "2026-03-02", "2026-03-02T09:00:00", "09:00:00Z", 1772442000, 1.5,
               True, [], {}, "1772442000", "20260302", "2026-02-30T09:00:00Z", "2026-03-02T25:00:00Z",
               "2026-03-02T09:00:00+99:00", "2026-03-02T09:00:00Z\0", "0001-01-01T00:00:00+14:00",
               "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "10000-01-01T00:00:00Z", "-2026-03-02T09:00:00Z",
               "2026-03-02T09:00:00CET"],
    "max_attempts": [None, "", "3", 0, -1, 101, 1.5, True, [], {}, 2**63],
    "timeout_seconds": ["", "3", 0, -1, 86_401, 1.5, True, [], {}, 2**63],
    "idempotency_key": ["", 1, True, [], {}, "x" * 201, "a\0b"],
    "nothing": [None, 1, "x"], "id": [NOWHERE], "tenant_id": [str(OTHER_TENANT_ID)], "status": ["completed"],
    "created_by_user_id": [NOWHERE], "attempt": [5], "title\0": ["x"], "__proto__": [{}],
}  # fmt: skip
WRONG["deadline_at"] = WRONG["run_at"]
# Numbers that JSON has and a double or an integer has not; json.dumps would not write them.
NUMBERS = ("1e999", "-1e999", "1e400", "9" * 400, "9" * 5000, "-" + "9" * 5000, "NaN", "Infinity", "-Infinity", "0x10",
           "01", "+1", ".5", "1.", "1e", "--1", "1_000", "９")  # fmt: skip


def test_every_field_of_a_task_is_tried() -> None:
    from zora_core.api.tasks import TaskCreate

    assert set(TaskCreate.model_fields) <= set(WRONG)


async def test_a_wrong_value_in_any_field_is_refused_by_every_route_and_named(unchanged: httpx.AsyncClient) -> None:
    for field, values in WRONG.items():
        for value in values:
            body = {**task(), field: value}
            shown = f"{field} = {str(value)[:60]!r}"
            one = refused(await unchanged.post(TASKS, json=body), shown, code="VALIDATION_ERROR")
            validated = refused(await unchanged.post(f"{TASKS}/validate", json=body), shown, code="VALIDATION_ERROR")
            bulk = refused(await unchanged.post(f"{TASKS}/bulk", json={"tasks": [task(), body]}), shown)
            assert one == validated, f"{shown}: the dry run says something else"
            named = [detail["field"] for detail in one["details"]]
            assert all(name.split(".")[0] == field for name in named), f"{shown}: {one}"
            assert [d["field"] for d in bulk["details"]] == [f"tasks.1.{name}" for name in named], f"{shown}: {bulk}"
    for reason in (1, True, [], {}, "x" * 2001, "a\0b"):
        refused(await unchanged.post(CANCEL, json={"reason": reason}), reason, code="VALIDATION_ERROR")
    refused(await unchanged.post(CANCEL, json={"because": "x"}), "an unknown field", code="VALIDATION_ERROR")


async def test_a_missing_field_is_named(unchanged: httpx.AsyncClient) -> None:
    for field in ("agent_id", "task_type", "title"):
        body = {name: value for name, value in task().items() if name != field}
        error = refused(await unchanged.post(TASKS, json=body), field, code="VALIDATION_ERROR")
        assert error["details"] == [{"field": field, "message": "Field required"}]


async def test_a_number_that_nothing_can_hold_is_refused_wherever_it_stands(unchanged: httpx.AsyncClient) -> None:
    start = json.dumps(task(payload=7)).replace('"payload": 7', '"payload": §')
    for number in NUMBERS:
        for payload in ("§", '{"days": §}', '{"nothing": §}', '{"a": [{"b": [§]}]}'):
            content = start.replace("§", payload).replace("§", number).encode()
            refused(await unchanged.post(TASKS, content=content, headers=JSON), f"{number[:20]} in {payload}")
        for field in ("priority", "max_attempts", "timeout_seconds", "title", "nothing"):
            body = {name: value for name, value in task().items() if name != field}
            content = (json.dumps(body)[:-1] + f', "{field}": {number}}}').encode()
            refused(await unchanged.post(TASKS, content=content, headers=JSON), f"{field}: {number[:20]}")


class Open(Agent):
    """An agent that takes whatever JSON there is: nothing but the API stands between it and the database."""

    agent_id = AgentId.SAM

    @handler("anything")
    async def anything(self, task: Task, payload: Anything, ctx: TaskContext) -> TaskResult:
        """Take anything."""
        ctx.cite("payload", "all", str(payload))
        return TaskResult(summary="taken")


class Anything(Payload):
    model_config = ConfigDict(extra="allow")


@pytest.fixture
async def taker(api: Api, callers: Callers) -> httpx.AsyncClient:
    """A founder at an API whose only task type takes any payload."""
    return callers.with_token(await callers.key(), app=create_app(replace(api, registry=Registry([Open()]))))


def anything(**fields: Any) -> dict[str, Any]:
    return {"agent_id": "SAM", "task_type": "anything", "title": "t", **fields}


def nested(depth: int, *, objects: bool) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if objects else [value]
    return value


async def test_a_nul_is_refused_wherever_it_stands(zora: Zora, taker: httpx.AsyncClient) -> None:
    bad = "a\0b"
    payloads = [
        {"a": bad}, {bad: 1}, {"a": {bad: 1}}, {"a": {"b": {bad: {}}}}, {"a": [bad]}, {"a": [[{"b": [bad]}]]},
        {"a": [{bad: []}]}, {"a": [1, [2, [3, {"x": {"y": [bad]}}]]]}, {"extra_instructions": bad},
    ]  # fmt: skip
    bodies = [anything(payload=payload) for payload in payloads]
    bodies += [{**anything(), field: bad} for field in TEXTS]
    for body in bodies:
        for path, sent in ((TASKS, body), (f"{TASKS}/bulk", {"tasks": [anything(), body]})):
            error = refused(await taker.post(path, json=sent), body, code="VALIDATION_ERROR")
            assert error["details"], f"{body}: only the database has seen it"
    assert await zora.sql("select id from agent_tasks") == []


async def test_nesting_is_taken_to_a_depth_and_refused_beyond_it(zora: Zora, taker: httpx.AsyncClient) -> None:
    for objects in (True, False):
        taken = await taker.post(TASKS, json=anything(payload={"a": nested(31, objects=objects)}))
        assert taken.status_code == 201
        assert taken.json()["data"]["payload"] == {"a": nested(31, objects=objects)}
        before = await zora.sql("select count(*) from agent_tasks")
        for depth in (32, 33, 100):
            body = anything(payload={"a": nested(depth, objects=objects)})
            assert "deeper than 32" in refused(await taker.post(TASKS, json=body), depth)["message"]
        opening, closing = ('{"a":', "}") if objects else ("[", "]")
        for depth in (200, 10_000, 166_000 if objects else 499_000):
            text = json.dumps(anything(payload=7)).replace("7", f'{{"a":{opening * depth}1{closing * depth}}}')
            assert len(text) < MAX_BYTES
            refused(await taker.post(TASKS, content=text.encode(), headers=JSON), f"{depth} {opening}")
        assert await zora.sql("select count(*) from agent_tasks") == before


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same to a reader whose numbers are doubles."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, bool) or isinstance(other, bool) or not isinstance(one, int | float):
        return type(one) is type(other) and one == other
    return isinstance(other, int | float) and float(one) == float(other)


# JSON of all kinds, with the values that break things more often than chance would have them.
odd_texts = st.sampled_from(["", "\0", "a\0", "\ufeff", "\u2028", "\uffff", "😀", "__proto__", "null", "1e999", "'; --",
                             "%s", "{}", "\\u0000", "x" * 600])  # fmt: skip
texts = st.text('aB9 é日😀\u0300\u202e\x7f\n"\\{', max_size=20) | odd_texts
numbers = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        [2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**308, 10**309, 5e-324, 1.7976931348623157e308, -0.0]
    )
)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
years = st.sampled_from(["0000", "0001", "1969", "1970", "2026", "9998", "9999", "10000"])
offsets = st.sampled_from(["", "Z", "Z", "Z", "+14:00", "-14:00", "+23:59", "-23:59", "+15:59"])
moments = st.builds("{}-{:02}-{:02}T{:02}:00:00{}".format, years, st.integers(1, 12), st.integers(1, 31),
                    st.integers(0, 24), offsets)  # fmt: skip
FIELDS = sorted(WRONG)


async def driven(check: Callable[[Any], Any], strategy: st.SearchStrategy[Any], examples: int) -> None:
    """Run an async check on a strategy's examples: Hypothesis on a thread of its own, the check on this loop."""
    loop = asyncio.get_running_loop()

    @settings(max_examples=examples, derandomize=True, database=None, deadline=None)
    @given(strategy)
    def on_thread(example: Any) -> None:
        asyncio.run_coroutine_threadsafe(check(example), loop).result(30)

    await asyncio.to_thread(on_thread)


async def test_no_json_at_all_is_a_fault_of_ours(unchanged: httpx.AsyncClient) -> None:
    async def check(example: tuple[str, Any]) -> None:
        path, value = example
        answer = await unchanged.post(path, content=json.dumps(value), headers=JSON)
        refused(answer, example, 400, 404)

    await driven(check, st.tuples(st.sampled_from([path for path, _ in GOOD.values()]), values), 100)


async def test_no_bytes_at_all_are_a_fault_of_ours(unchanged: httpx.AsyncClient) -> None:
    good = json.dumps(task()).encode()
    cut = st.builds(lambda at, junk, keep: good[:at] + junk + good[at + keep :], st.integers(0, len(good)),
                    st.binary(min_size=1, max_size=8), st.integers(0, 8))  # fmt: skip

    async def check(content: bytes) -> None:
        answer = await unchanged.post(f"{TASKS}/validate", content=content, headers=JSON)
        if answer.status_code != 200:  # some junk is a word of the title
            refused(answer, content)

    await driven(check, st.binary(max_size=60) | cut, 150)


async def test_what_is_taken_can_be_read_back_as_it_was_given_and_what_is_not_is_refused(
    zora: Zora, taker: httpx.AsyncClient
) -> None:
    """The accepted and the refused have no third beside them, and the accepted do not spoil the list."""
    taken = 0

    async def check(changes: dict[str, Any]) -> None:
        nonlocal taken
        given_task = anything(**changes)
        answer = await taker.post(TASKS, json=given_task)
        if answer.status_code not in (200, 201):
            refused(answer, changes, 400, 409)
            return
        taken += answer.status_code == 201
        made = answer.json()["data"]
        read = await taker.get(f"{TASKS}/{made['id']}")
        assert read.status_code == 200, changes
        listed = (await taker.get(TASKS, params={"limit": 200})).json()["data"]
        for shown in (made, read.json()["data"], *(row for row in listed if row["id"] == made["id"])):
            assert same(given_task.get("payload", {}), shown["payload"]), changes
            if answer.status_code == 201:
                assert (shown["title"], shown["description"]) == (given_task["title"], given_task.get("description"))
        assert len(listed) == min(taken, 200)

    payloads = st.dictionaries(texts, values, max_size=4)
    changes = (
        st.fixed_dictionaries({"payload": payloads})
        | st.fixed_dictionaries({"run_at": moments})
        | st.fixed_dictionaries({}, optional={"title": texts, "description": texts, "idempotency_key": texts})
        | st.dictionaries(st.sampled_from(FIELDS), scalars, max_size=2)
    )
    await driven(check, changes, 200)
    assert taken > 20


# --- parameters and paths


def written(position: str) -> str:
    """A forged cursor with this position."""
    return base64.urlsafe_b64encode(position.encode()).rstrip(b"=").decode()


HUGE = "9" * 5000
NO_UUID = ["", "x", "1", "null", NOWHERE + "0", NOWHERE[:-1], "00000000-0000-0000-0000-00000000000g", "%00",
           NOWHERE + "%00", "' or 1=1", "x" * 5000, "%ff", "%ed%a0%80", "１２３", "[]"]  # fmt: skip
NO_NUMBER = [
    "",
    "x",
    "1.5",
    "1e3",
    "NaN",
    "-1",
    "null",
    HUGE,
    "-" + HUGE,
    "%00",
    "0x10",
    "true",
    "99999999999999999999",
]
NO_WORD = ["", "x", "%00", "null", "completed%00", "x" * 5000, "' or 1=1", "%ff"]
NO_TEXT = ["%00", "a%00b", "x" * 501]
POSITIONS = ["null", "1", '"x"', "[]", "[null]", "[[]]", "[{}]", '["x"]', "[true]", "[1, 2, 3, 4]", "[1e999, 1, 2]",
             "[NaN]", "[-9999999999999999999]", "[9223372036854775807, 1, 1]", f'[2147483648, 0, "{NOWHERE}"]',
             f'[0, 1e300, "{NOWHERE}"]', f'[0, 0, "{NOWHERE}x"]', f'["{NOWHERE}\\u0000"]']  # fmt: skip
BAD_CURSORS = ["", "x", "%00", "null", "AAAA", "x" * 201, "=", "====", "é", "%ff", *map(written, POSITIONS)]
BAD: dict[str, list[str]] = {
    "agent_id": NO_WORD, "agent": NO_WORD, "status": NO_WORD, "category": NO_WORD, "memory_type": NO_WORD,
    "workflow": NO_TEXT,
    "task_type": NO_TEXT, "query": NO_TEXT, "limit": [*NO_NUMBER, "0", "201"], "offset": [*NO_NUMBER, "10001"],
    "task_id": NO_UUID, "id": NO_UUID, "cursor": BAD_CURSORS, "since": [c for c in BAD_CURSORS if c],
    "archived": ["", "x", "maybe", "2", "%00", HUGE],
}  # fmt: skip


def parameters() -> Iterator[tuple[str, str]]:
    """Every route that takes parameters in its query, with each of their names."""
    for route in routes():
        for field in route.dependant.query_params:
            yield route.path_format, field.alias


async def test_every_bad_value_of_every_parameter_is_refused_and_its_parameter_named(
    unchanged: httpx.AsyncClient,
) -> None:
    tried = list(parameters())
    assert len(tried) > 20
    for path, name in tried:
        for value in BAD[name]:
            async with asyncio.timeout(10):  # a stream of events would not end
                answer = await unchanged.get(f"{path}?{name}={value}")
            error = refused(answer, f"{path}?{name}={value[:40]}", code="VALIDATION_ERROR")
            assert {detail["field"] for detail in error["details"]} <= {name, "cursor"}, error
            assert HUGE not in answer.text


async def test_a_cursor_that_somebody_made_is_a_place_in_the_list_or_refused(
    founder: httpx.AsyncClient, unchanged: httpx.AsyncClient
) -> None:
    paths = [path for path, name in parameters() if name == "cursor"]
    assert len(paths) == 4

    async def check(position: list[Any]) -> None:
        cursor = written(json.dumps(position))[:200]
        for path in paths:
            answer = await unchanged.get(path, params={"cursor": cursor})
            if answer.status_code != 200:
                refused(answer, position, code="VALIDATION_ERROR")

    ints = numbers | st.integers(-(2**33), 2**33) | st.integers(-(2**60), 2**60)
    await driven(check, st.lists(ints | st.just(NOWHERE) | scalars, max_size=4), 60)
    for moment in (datetime.min, datetime.max, datetime(1969, 12, 31), datetime(2026, 3, 2)):
        cursor = write_cursor(0, moment.replace(tzinfo=UTC), UUID(NOWHERE))
        assert (await founder.get(TASKS, params={"cursor": cursor})).status_code == 200, moment


async def test_a_path_that_names_no_id_is_refused(unchanged: httpx.AsyncClient) -> None:
    named = [(next(iter(r.methods)), r.path_format) for r in routes() if "_id}" in r.path_format]
    assert len(named) >= 8
    for method, path in named:
        for value in [v for v in NO_UUID if v] + [
            "x" * 60_000,
            "%2e%2e",
            "a%2Fb",
            "%20",
            NOWHERE + "%20",
            "*",
            "%F0%9F%98%80",
        ]:
            target = re.sub(r"{\w+}", value.replace("\\", r"\\"), path)
            answer = await unchanged.request(method, target)
            refused(answer, f"{method} {target[:80]}", 400, 404, 415)


# --- what goes wrong on our side


async def test_a_fault_of_ours_is_answered_without_its_words_and_logged_with_the_requests_id(
    founder: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    log.set_up()

    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret-text of the database")

    monkeypatch.setattr(Caller, "call", fail)
    for method, path, body in (("GET", TASKS, None), ("POST", TASKS, task()), ("GET", f"{TASKS}/{NOWHERE}", None)):
        answer = await founder.request(method, path, json=body, headers={"X-Request-ID": "the-request"})
        error = refused(answer, path, 500, code="INTERNAL_ERROR")
        assert "secret-text" not in answer.text
        assert error["details"] is None
        assert answer.headers["x-request-id"] == "the-request"
        said = log.getvalue()
        log.seek(0)
        log.truncate()
        assert f"ERROR [the-request] {method} {path} failed\n" in said
        assert "RuntimeError: secret-text of the database" in said
        assert f"INFO [the-request] {method} {path} 500 " in said
    monkeypatch.undo()
    assert (await founder.get(TASKS)).status_code == 200


async def test_a_database_that_is_gone_is_answered_with_when_to_try_again(
    api: Api, callers: Callers, founder: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    log.set_up()
    assert (await founder.get(TASKS)).status_code == 200

    async def gone(*_: Any, **__: Any) -> None:
        raise DatabaseUnavailable("the database cannot be reached: connection to 10.0.0.5 refused")

    monkeypatch.setattr(api.database, "call", gone)
    known, unknown = founder, callers.with_token("zora_abcd1234_" + "A" * 43)
    for client in (known, unknown):
        for answer in (await client.get(TASKS), await client.post(TASKS, json=task()), await client.get("/metrics")):
            refused(answer, "gone", 503, code="DATABASE_UNAVAILABLE")
            assert answer.headers["retry-after"] == "1"
            assert "10.0.0.5" not in answer.text
    status = await callers.with_token(None).get("/api/status")
    assert (status.status_code, status.json()["data"]["database"]) == (503, "unavailable")
    assert "10.0.0.5" in log.getvalue()
    refused(await founder.post(TASKS, json={}), "a mistake is told even so", 400, 503)


async def test_a_value_that_the_database_refuses_is_said_in_our_words(
    zora: Zora, founder: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Caller.call

    async def with_nul(self: Caller, function: str, /, **arguments: Any) -> Any:
        if function == "create_agent_tasks":
            arguments["tasks"][0] |= {"description": "a\0b"}
        return await original(self, function, **arguments)

    async def beyond(self: Caller, function: str, /, **arguments: Any) -> Any:
        if function == "create_agent_tasks":
            arguments["tasks"][0] |= {"priority": 10**20}
        return await original(self, function, **arguments)

    for broken in (with_nul, beyond):
        monkeypatch.setattr(Caller, "call", broken)
        error = refused(await founder.post(TASKS, json=task()), broken.__name__, code="VALIDATION_ERROR")
        assert error["message"].startswith("a value cannot be stored")
    assert await zora.sql("select id from agent_tasks") == []


async def test_a_key_that_is_taken_is_said_to_be_in_which_task_and_by_what(founder: httpx.AsyncClient) -> None:
    first = (await founder.post(TASKS, json=task(idempotency_key="k"))).json()["data"]
    answer = await founder.post(
        f"{TASKS}/bulk", json={"tasks": [task(), task(idempotency_key="k", payload={"days": 1})]}
    )
    error = refused(answer, "taken", 409, code="DUPLICATE_KEY")
    assert error["message"].startswith("the idempotency key of task 2 belongs to another task, ")
    assert first["id"] in error["message"]


async def test_the_numbers_of_a_test_are_those_of_json() -> None:
    assert same({"a": [1, 1e300]}, {"a": [1.0, int(1e300)]})
    assert not same({"a": 1}, {"a": True})
    assert not same([0], [None])
    assert math.isfinite(float(10**308))
