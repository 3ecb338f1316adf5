"""EXPLAIN: claim, rescue and promotion read their partial indexes, whatever the history and the future."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from tests.conftest import Server
from zora_core.database import schema
from zora_core.settings import DEFAULT_TENANT_ID

FINISHED = """
insert into agent_tasks (tenant_id, agent_id, task_type, title, status, completed_at, result_summary)
select $1, 'SAM', 't', 't', 'completed', now(), 'done' from generate_series(1, 200000)
"""
FUTURE = """
insert into agent_tasks (tenant_id, agent_id, task_type, title, waiting_for, run_at)
select $1, 'SAM', 't', 't', 'run_at', now() + n * interval '1 minute' from generate_series(1, 200000) as n
"""
READY = """
insert into agent_tasks (tenant_id, agent_id, task_type, title)
select $1, 'SAM', 't', 't' from generate_series(1, 500)
"""


@pytest.fixture(scope="module", params=["embedded", "system"])
def crowded(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with 200,000 finished and 200,000 future tasks, 500 ready ones and 100 running ones."""
    server: Server = request.getfixturevalue(request.param)

    async def fill(url: str) -> None:
        connection = await asyncpg.connect(url)
        await schema.migrate(connection)
        await connection.execute("insert into tenants (id, name, slug) values ($1, 't', 't')", DEFAULT_TENANT_ID)
        for statement in (FINISHED, FUTURE, READY):
            await connection.execute(statement, DEFAULT_TENANT_ID)
        await connection.execute("select from claim_agent_tasks($1, 'w', 100, 0.0)", DEFAULT_TENANT_ID)
        await connection.execute("vacuum analyze agent_tasks")
        await connection.close()

    with asyncio.Runner() as runner:
        database = server.fresh()
        url = runner.run(database.__aenter__())
        runner.run(fill(url))
        yield url
        runner.run(database.__aexit__(None, None, None))


async def plans(url: str, function: str, **parameters: str) -> list[dict[str, Any]]:
    """The plans of a function's statements, its parameters replaced by literals."""
    connection = await asyncpg.connect(url)
    try:
        (row,) = await connection.fetch("select prosrc from pg_proc where proname = $1", function)
        found = []
        for statement in _statements(row["prosrc"]):
            for name, literal in parameters.items():
                statement = re.sub(rf"\bp_{name}\b", literal, statement)
            (plan,) = await connection.fetchrow(f"explain (format json) {statement}")
            found.append(json.loads(plan)[0]["Plan"])
        return found
    finally:
        await connection.close()


def _statements(source: str) -> Iterator[str]:
    """The queries of a function's body; in plpgsql, what is between begin and end, without the variables they fill."""
    body = re.search(r"^begin\n(.*)^end", source, re.DOTALL | re.MULTILINE)
    for statement in (body[1] if body else source).split(";"):
        statement = re.sub(r"(?<!insert )\binto \w+", "", statement).strip()
        if statement.startswith(("with ", "select ", "update ")):
            yield statement


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.mark.parametrize(
    ("function", "parameters", "index"),
    [
        ("claim_agent_tasks", {"tenant_id": f"'{DEFAULT_TENANT_ID}'::uuid", "worker_id": "'w'", "limit": "10",
                               "lease_seconds": "30"}, "agent_tasks_ready"),
        ("rescue_agent_tasks", {"limit": "100", "max_lost": "3"}, "agent_tasks_lease"),
        ("promote_agent_tasks", {"limit": "1000"}, "agent_tasks_due"),
    ],
)  # fmt: skip
async def test_the_hot_path_reads_only_its_partial_index(
    crowded: str, function: str, parameters: dict[str, str], index: str
) -> None:
    found = await plans(crowded, function, **parameters)
    assert found
    for plan in found:
        scans = [n for n in nodes(plan) if n["Node Type"].endswith("Scan") and n.get("Relation Name") == "agent_tasks"]
        assert scans
        used = {n.get("Index Name", n["Node Type"]) for n in scans}
        assert index in used
        assert used <= {index, "agent_tasks_pkey"}, "nothing but its index, and the primary key for the update"


@pytest.mark.parametrize("function", ["settle_agent_tasks", "heartbeat_agent_tasks"])
async def test_what_a_worker_holds_is_found_by_primary_key(crowded: str, function: str) -> None:
    """Not by the index of running tasks, which holds the dead entries of every settled one until it is vacuumed."""
    arrays = {
        "ids": "uuid", "lease_tokens": "uuid", "outcomes": "text", "summaries": "text", "results": "jsonb",
        "errors": "text", "failure_kinds": "text", "delays": "double precision", "progress": "real", "messages": "text",
    }  # fmt: skip
    parameters = {name: f"(select '{{}}'::{kind}[])" for name, kind in arrays.items()}
    (plan,) = await plans(crowded, function, **parameters, lease_seconds="30")
    scans = [n for n in nodes(plan) if n["Node Type"].endswith("Scan") and n.get("Relation Name") == "agent_tasks"]
    assert len(scans) >= 2
    assert {n.get("Index Name", n["Node Type"]) for n in scans} == {"agent_tasks_pkey"}


@pytest.mark.parametrize(
    "call",
    ["claim_agent_tasks($1, 'w', 10)", "rescue_agent_tasks(10)", "promote_agent_tasks(10)"],
)
async def test_in_a_crowd_a_call_reads_hardly_more_than_the_pages_of_its_own_tasks(crowded: str, call: str) -> None:
    """The plan that really runs: inside the function, with parameters, not the one of the test above with literals."""
    connection = await asyncpg.connect(crowded)
    try:
        await connection.execute(
            "update agent_tasks set run_at = now() "
            "where id in (select id from agent_tasks where waiting_for = 'run_at' order by run_at limit 100)"
        )
        for _ in range(7):  # the first call reads the catalogue; from the sixth on a generic plan may be used
            (plan,) = await connection.fetchrow(
                f"explain (analyze, buffers, format json) select * from {call} where $1::uuid is not null",
                DEFAULT_TENANT_ID,
            )
        top = json.loads(plan)[0]["Plan"]
        # Ten rows to find, lock and write, with their index entries and journal; the crowd has over 10,000 pages.
        assert 10 < top["Shared Hit Blocks"] + top["Shared Read Blocks"] < 1000
    finally:
        await connection.close()
