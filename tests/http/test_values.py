"""What goes through is the same Python value over HTTP as over a direct connection."""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Zora
from zora_core.agents import Agent, AgentId, Payload, TaskContext, TaskResult, handler
from zora_core.agents.agent import Task
from zora_core.database import postgres
from zora_core.database.postgres import PostgresDatabase
from zora_core.errors import DataRejected

pytestmark = pytest.mark.usefixtures("probes")
ID = UUID("3f2504e0-4f89-41d3-9a0c-0305e82c3301")


@pytest.fixture
async def direct(zora: Zora) -> AsyncIterator[PostgresDatabase]:
    database = await postgres.connect(zora.url)
    yield database
    await database.close()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("probe_types", {}),
        ("probe_numeric", {}),
        ("probe_void", {}),
        ("probe_nothing", {}),
        ("probe_moment", {}),
        ("probe_set", {"upto": 3}),
        ("probe_out", {"number": 1}),
        ("probe_both", {"number": 1, "other": 2}),
        ("probe_none", {}),
    ],
)
async def test_results_are_the_same_values_in_the_same_order(
    zora: Zora, direct: PostgresDatabase, function: str, arguments: dict[str, Any]
) -> None:
    expected, got = [await database.call(function, **arguments) for database in (direct, zora.database)]
    assert [list(row) for row in got] == [list(row) for row in expected]
    for row, other in zip(got, expected, strict=True):
        # By name, so that a failure says which type differs; as text, because 1 == 1.0 == True.
        assert {name: repr(value) for name, value in row.items()} == {
            name: repr(value) for name, value in other.items()
        }
        assert row == other


BERLIN = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"whole": None},
        {"id": ID, "ids": [ID, None]},
        {"id": str(ID), "ids": []},
        {"moment": datetime(2026, 3, 2, 9, 0, 0, 123456, tzinfo=UTC), "moments": [None]},
        {"moments": [datetime(1900, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, 12, tzinfo=BERLIN)]},
        {"bytes": b"", "all_bytes": []},
        {"bytes": bytes(range(256)), "all_bytes": [b"\0", None, b"", b'"\\{}'], "texts": None},
        {"all_bytes": (b"\1", b"\2")},
        {"doc": {"a": [None, {"b": 10**40}], "ü𝄞": "\\ \" ' \n %L $1"}},
        {"doc": None},
        {"doc": []},
        {"doc": "text"},
        {"docs": [{"a": None}, None, {"b": []}]},
        {"docs": []},
        {"docs": [None, None]},
        {"texts": ["a", None, "", "NULL", 'ü"\\{},', "'"], "text": "'; drop table probe_calls; --"},
        {"text": "", "yes": False, "flags": [True, None, False]},
        {"big": -(2**63), "whole": 2**31 - 1},
        {"double": 0.1, "doubles": [1e-300, None, 5], "singles": [0.4, None]},
        {"time": timedelta(days=1, seconds=2.5)},
    ],
    ids=lambda arguments: ",".join(arguments) or "none",
)
async def test_arguments_arrive_as_they_are(zora: Zora, direct: PostgresDatabase, arguments: dict[str, Any]) -> None:
    expected, got = [await database.call("probe_arguments", **arguments) for database in (direct, zora.database)]
    assert repr(got) == repr(expected)


@pytest.mark.parametrize(
    "arguments",
    [
        {"text": "a\0b"},
        {"texts": ["fine", "\0"]},
        {"text": "\ud800"},
        {"doc": {"a": "\0"}},
        {"doc": {"\0": 1}},
        {"doc": "\udfff"},
        {"doc": {"a": [math.nan]}},
        {"doc": {"a": math.inf}},
        {"docs": [{"a": math.nan}]},
        {"whole": 2**31},
        {"id": "no uuid"},
        {"moment": "no moment"},
        {"moments": [object()]},
        {"doc": object()},
        {"all_bytes": "text"},
    ],
    ids=lambda arguments: f"{arguments!r}".partition("<object")[0],
)
async def test_what_postgresql_cannot_store_is_refused_and_not_sent_again(
    zora: Zora, direct: PostgresDatabase, arguments: dict[str, Any]
) -> None:
    for database in (direct, zora.database):
        with pytest.raises(DataRejected, match="the database refuses a value"):
            await database.call("probe_arguments", **arguments)


class Poisoner(Agent):
    agent_id = AgentId.SAM

    @handler("give")
    async def give(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")
        poison = {"nan": math.nan, "surrogate": "\ud800", "nul": "\0", "infinite": [math.inf]}
        return TaskResult(summary=task.title, result={"value": poison.get(task.title, task.title)})


async def test_one_poisoned_outcome_spoils_no_other_one(zora: Zora) -> None:
    titles = ("good", "nan", "better", "surrogate", "nul", "infinite", "best")
    for title in titles:
        await zora.create("SAM", "give", title=title)
    runs = await zora.run_once(Poisoner())
    assert {run.task.title: run.status for run in runs} == {
        title: "completed" if title in ("good", "better", "best") else "failed" for title in titles
    }
    rows = await zora.sql("select title, error_message from agent_tasks where status = 'failed'")
    assert all(re.search("PostgreSQL cannot store|is not JSON", row["error_message"]) for row in rows)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
)


def _numerically(values: list[Any]) -> Any:
    """jsonb keeps numbers, and not whether they were written as 1e3 or 1000."""
    return json.loads(json.dumps(values), parse_int=Decimal, parse_float=Decimal)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(documents, min_size=1, max_size=8))
async def test_whatever_json_says_comes_back_the_same(zora: Zora, direct: PostgresDatabase, values: list[Any]) -> None:
    calls = [("probe_same", {"value": value}) for value in values]
    got = [rows[0]["probe_same"] for rows in await zora.database.batch(calls)]
    expected = [rows[0]["probe_same"] for rows in await direct.batch(calls)]
    assert repr(got) == repr(expected)
    assert _numerically(got) == _numerically(values)


async def test_a_row_of_ours_is_the_same_over_both(zora: Zora, direct: PostgresDatabase) -> None:
    task_id = await zora.create("SAM", "count", {"ü": [None, 1.5]}, deadline_at=zora.now.isoformat())
    await zora.sql("update agent_tasks set progress = 0.4, lease_token = $1", uuid4())
    expected, got = [
        await database.call("get_agent_task", tenant_id=zora.tenant_id, id=str(task_id))
        for database in (direct, zora.database)
    ]
    assert repr(got) == repr(expected)


async def test_an_infinite_argument_is_refused_because_json_has_no_word_for_it(zora: Zora) -> None:
    for arguments in ({"double": math.inf}, {"doubles": [1.0, -math.inf]}):
        with pytest.raises(DataRejected):
            await zora.database.call("probe_arguments", **arguments)
