"""A row that cannot be read fails alone; JSON that nobody could read again is refused."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest

from tests.autonomy.agents import Probe
from tests.conftest import Zora
from zora_core.database.unreadable import MAX_LEVELS, Unreadable, is_readable, read_json
from zora_core.errors import InvalidInput

pytestmark = pytest.mark.both_transports


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "change",
    [
        *(
            pytest.param(
                f"payload = ('{{\"a\": ' || repeat('[', {n}) || repeat(']', {n}) || '}}')::jsonb", id=f"{n} levels"
            )
            for n in (190, 250, 5000)
        ),
        pytest.param("payload = '[]'", id="an array"),
        pytest.param("payload = '\"x\"'", id="a string"),
        pytest.param("payload = 'null'", id="null"),
        pytest.param("payload = ('{\"text\": ' || repeat('9', 5000) || '}')::jsonb", id="a long number"),
        pytest.param("payload = '{\"text\": 1e400}'", id="a large number"),
    ],
)
async def test_a_row_that_cannot_be_read_fails_alone(zora: Zora, change: str) -> None:
    bad, good = [await zora.create("SAM", "count") for _ in range(2)]
    await zora.sql(f"update agent_tasks set {change} where id = $1", bad)
    assert len(await zora.call("list_agent_tasks", tenant_id=zora.tenant_id)) == 2
    runs = {run.task.id: run for run in await zora.run_once(Probe())}
    assert (runs[bad].status, runs[bad].failure_kind, runs[good].status) == ("failed", "invalid_payload", "completed")


@pytest.mark.parametrize(
    "change",
    ["created_at = '20000-01-01'", "created_at = '0044-03-15 BC'", "created_at = 'infinity'", "attempt = 2147483647"],
)
async def test_a_row_out_of_range_runs_as_any_other(zora: Zora, change: str) -> None:
    tasks = [await zora.create("SAM", "count") for _ in range(2)]
    await zora.sql(f"update agent_tasks set {change} where id = $1", tasks[0])
    assert {run.task.id: run.status for run in await zora.run_once(Probe())} == dict.fromkeys(tasks, "completed")


@pytest.mark.parametrize(("levels", "refused"), [(99, False), (100, True), (250, True), (3000, True)])
async def test_nested_json_is_refused_by_every_function_that_keeps_it(zora: Zora, levels: int, refused: bool) -> None:
    """The value is one level below the payload, and a payload has 100 levels."""
    deep = json.dumps({"a": 1}).replace("1", "[" * levels + "1" + "]" * levels)
    task = f'{{"agent_id": "SAM", "task_type": "count", "title": "t", "payload": {deep}}}'
    schedule = f'{{"name": "n", "agent_id": "SAM", "task_type": "t", "cron": "0 3 * * *", "payload": {deep}}}'
    suggestion = (
        f'{{"suggestion_type": "advice", "title": "t", "target": {deep}, "suggested_value": null, "evidence": []}}'
    )
    for function, values in (
        ("create_agent_tasks", [f"[{task}]"]),
        ("create_agent_task_graph", [f"[{task}]".replace("{", '{"key": "k", ', 1)]),
        ("create_schedule", [schedule]),
        ("save_workflow", ["key", "name", deep]),
        ("propose_agent_suggestion", ["SAM", suggestion]),
    ):
        literals = ", ".join(f"'{value}'" for value in (zora.tenant_id, *values))
        try:
            await zora.sql(f"select from {function}({literals})")
        except asyncpg.PostgresError as error:
            assert refused, function
            assert "nested deeper than 100 levels" in str(error), function
        else:
            assert not refused, function


async def test_nested_json_is_refused_by_name_too(zora: Zora) -> None:
    with pytest.raises(InvalidInput, match="nested deeper than 100 levels: give it a flatter structure"):
        await zora.create("SAM", "count", {"a": nested(101)})


def test_only_what_cannot_be_read_is_left_out() -> None:
    deep = "[" * 5000 + '"]", 1, "\\"", {}' + "]" * 5000
    read = read_json(f'[{{"a": {deep}, "b": [1, "[[", {"9" * 5000}]}}, "after", {{"c": {deep}}}]')
    assert [read[0]["b"][:2], read[1]] == [[1, "[["], "after"]
    assert isinstance(read[0]["b"][2], Unreadable)
    levels, at = 0, read[2]["c"]
    while isinstance(at, list):
        levels, at = levels + 1, at[0]
    assert (isinstance(at, Unreadable), levels) == (True, MAX_LEVELS - 3)
    assert not is_readable(read)
    assert is_readable(read[1])
    for broken in ("[1", '{"a": ]', "]" * 300):
        with pytest.raises(ValueError, match=r"."):
            read_json(broken)
