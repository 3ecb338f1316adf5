"""EXPLAIN: what a call reads depends on what it is about, whatever the history and the future."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.conftest import Server
from zora_core.database import schema
from zora_core.database.postgres import API_ROLE
from zora_core.settings import DEFAULT_TENANT_ID

SMALL_TENANT_ID = UUID(int=2)

# Of 24 kinds, and of three priorities.
FINISHED = """
insert into agent_tasks (
    tenant_id, agent_id, task_type, title, priority, created_at, status, completed_at, result_summary, failure_kind
)
select $1, (array['SAM', 'LUMINA', 'EIVOR'])[1 + n % 3], 'type_' || n / 3 % 4, 't', n / 12 % 3,
    now() - n * interval '1 second', s.status, now(), 'done', case when s.status = 'failed' then 'error' end
from generate_series(1, $2::integer) as n
cross join lateral (
    select (case when n % 7 = 0 then 'failed' else 'completed' end)::agent_task_status as status
) as s
"""
FUTURE = """
insert into agent_tasks (tenant_id, agent_id, task_type, title, priority, created_at, waiting_for, run_at)
select $1, (array['SAM', 'LUMINA', 'EIVOR'])[1 + n % 3], 'type_' || n / 3 % 4, 't', n / 12 % 3,
    now() - n * interval '1 second', 'run_at', now() + n * interval '1 minute'
from generate_series(1, $2::integer) as n
"""
JOURNAL = """
insert into journal_entries (tenant_id, category, event_type, title, task_id)
select tenant_id, 'agent_action', 'agent_task_created', 't', id from agent_tasks where tenant_id = $1 limit $2
"""
READY = """
insert into agent_tasks (tenant_id, agent_id, task_type, title)
select $1, 'SAM', 't', 't' from generate_series(1, 500)
"""


@pytest.fixture(scope="module", params=["embedded", "system"])
def crowded(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with 100,000 finished and 100,000 future tasks, 500 ready ones and 100 running ones.

    Another tenant has a twentieth of that.
    """
    server: Server = request.getfixturevalue(request.param)

    async def fill(url: str) -> None:
        connection = await asyncpg.connect(url)
        await schema.migrate(connection)
        await connection.execute("set session_replication_role = replica")  # no triggers: three times as fast
        for tenant_id, number in ((DEFAULT_TENANT_ID, 100_000), (SMALL_TENANT_ID, 5_000)):
            await connection.execute("insert into tenants (id, name, slug) values ($1, $2, $2)", tenant_id, str(number))
            for statement in (FINISHED, FUTURE, JOURNAL):
                await connection.execute(statement, tenant_id, number)
        await connection.execute("set session_replication_role = origin")
        await connection.execute(READY, DEFAULT_TENANT_ID)
        await connection.execute("select from claim_agent_tasks($1, 'w', 100, 0.0)", DEFAULT_TENANT_ID)
        await connection.execute("vacuum analyze agent_tasks, journal_entries")
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
    ("function", "parameters", "indexes"),
    [
        ("ready_agent_tasks", {"tenant_id": f"'{DEFAULT_TENANT_ID}'::uuid", "worker_id": "'w'", "limit": "10",
                               "task_types": "'{SAM t,LUMINA t}'::text[]", "idle": "false"},
         {"agent_tasks_claimable"}),
        ("suspect_priority", {"tenant_id": f"'{DEFAULT_TENANT_ID}'::uuid", "worker_id": "'w'",
                              "task_types": "'{SAM t,LUMINA t}'::text[]"},
         {"agent_tasks_suspect", "agent_tasks_lease"}),
        ("rescue_agent_tasks", {"limit": "100", "max_lost": "3", "held": "'{}'::uuid[]"}, {"agent_tasks_lease"}),
        ("promote_agent_tasks", {"limit": "1000"}, {"agent_tasks_due"}),
    ],
)  # fmt: skip
async def test_the_hot_path_reads_only_its_partial_indexes(
    crowded: str, function: str, parameters: dict[str, str], indexes: set[str]
) -> None:
    found = await plans(crowded, function, **parameters)
    assert found
    for plan in found:
        scans = [n for n in nodes(plan) if n["Node Type"].endswith("Scan") and n.get("Relation Name") == "agent_tasks"]
        assert scans
        used = {n.get("Index Name", n["Node Type"]) for n in scans}
        assert indexes <= used
        assert used <= indexes | {"agent_tasks_pkey"}, "nothing but its indexes, and the primary key for the update"


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
    [
        "claim_agent_tasks($1, 'w', 10)",
        "claim_agent_tasks($1, 'w', 10, 30, '{SAM t,LUMINA t}', false)",
        "rescue_agent_tasks(10)",
        "promote_agent_tasks(10)",
    ],
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
        # Ten rows to find, lock and write, with their index entries and journal; the crowd has over 5,000 pages.
        assert 10 < top["Shared Hit Blocks"] + top["Shared Read Blocks"] < 1000
    finally:
        await connection.close()


@pytest.mark.parametrize("tenant_id", [DEFAULT_TENANT_ID, SMALL_TENANT_ID])
async def test_a_look_for_work_costs_little_whether_there_is_any_or_not(crowded: str, tenant_id: UUID) -> None:
    connection = await asyncpg.connect(crowded)
    try:
        assert await buffers_read(connection, tenant_id, "work_to_do") < 200
        types = ["SAM t", "LUMINA t"]
        assert await buffers_read(connection, tenant_id, "work_to_do", task_types=types, idle=False) < 250
    finally:
        await connection.close()


@pytest.mark.parametrize("idle", [True, False])
async def test_a_claim_does_not_read_a_backlog_of_types_that_the_worker_lacks(crowded: str, idle: bool) -> None:
    """Although it comes first in the queue; and one of its own types, if it may not take it, is not read either."""
    connection = await asyncpg.connect(crowded)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("set local session_replication_role = replica")
        await connection.execute(
            "insert into agent_tasks (tenant_id, agent_id, task_type, title, priority) "
            "select $1, 'SAM', 'foreign', 't', 5 from generate_series(1, 100000)",
            DEFAULT_TENANT_ID,
        )
        types = ["SAM t", "LUMINA t"]
        read = await buffers_read(
            connection, DEFAULT_TENANT_ID, "claim_agent_tasks",
            worker_id="w", limit=10, task_types=types, idle=idle,
        )  # fmt: skip
        assert 10 < read < 1000
        assert await buffers_read(connection, DEFAULT_TENANT_ID, "work_to_do", task_types=types, idle=idle) < 250
        assert await buffers_read(connection, DEFAULT_TENANT_ID, "work_to_do", task_types=["SAM none"], idle=idle) < 250
        claimed = await connection.fetch(
            "select task_type from claim_agent_tasks($1, 'w', 20, 30, $2, false)", DEFAULT_TENANT_ID, types
        )
        assert [row["task_type"] for row in claimed] == ["t"] * 20
    finally:
        await transaction.rollback()
        await connection.execute("vacuum agent_tasks")  # the other tests read these indexes, too
        await connection.close()


async def test_a_call_by_name_reads_no_more_than_the_call_itself(crowded: str) -> None:
    """As over HTTP, where arguments come as JSON."""
    call = {"function": "claim_agent_tasks", "arguments": {"tenant_id": str(DEFAULT_TENANT_ID), "worker_id": "w"}}
    connection = await asyncpg.connect(crowded)
    try:
        await connection.execute("select call_functions($1)", json.dumps([call]))  # reads the catalogue
        (plan,) = await connection.fetchrow(
            "explain (analyze, buffers, format json) select call_functions($1)", json.dumps([call])
        )
        top = json.loads(plan)[0]["Plan"]
        assert 10 < top["Shared Hit Blocks"] + top["Shared Read Blocks"] < 1000
    finally:
        await connection.close()


FILTERS = {
    "everything": {},
    "an agent": {"agent_id": "SAM"},
    "the pending": {"status": "pending"},
    "the running": {"status": "in_progress"},
    "the completed": {"status": "completed"},
    "a type": {"task_type": "type_1"},
    "a kind": {"agent_id": "LUMINA", "status": "failed", "task_type": "type_2"},
    "nothing": {"agent_id": "AEGIS"},
}


async def buffers_read(connection: asyncpg.Connection, tenant_id: UUID, function: str, **arguments: Any) -> int:
    """What the seventh call of a function reads for a tenant; from the sixth on a generic plan may be used."""
    await connection.execute("select set_config('zora.tenant_id', $1, false)", str(tenant_id))
    names = ", ".join(f"p_{name} => ${number}" for number, name in enumerate(arguments, 2))
    query = f"explain (analyze, buffers, format json) select * from {function}(p_tenant_id => $1, {names})"
    for _ in range(7):
        (plan,) = await connection.fetchrow(query.replace(", )", ")"), tenant_id, *arguments.values())
    top = json.loads(plan)[0]["Plan"]
    return top["Shared Hit Blocks"] + top["Shared Read Blocks"]


@pytest.mark.parametrize("wanted", FILTERS)
async def test_a_page_of_a_list_costs_the_same_in_a_crowd_wherever_it_begins(crowded: str, wanted: str) -> None:
    """Under row-level security, where an expression that could leak a row keeps a condition out of the index."""
    connection = await asyncpg.connect(crowded, server_settings={"role": API_ROLE})
    try:
        deep = {
            "after_priority": 1,
            "after_created_at": await connection.fetchval("select now() - interval '1 hour'"),
            "after_id": UUID(int=0),
        }
        for function, more in (
            ("list_agent_tasks", {}),
            ("list_agent_tasks", deep),
            ("list_agent_tasks", {"offset": 200}),
            ("count_agent_tasks", {"exact_up_to": 1000}),
        ):
            crowd, few = [
                await buffers_read(connection, tenant_id, function, **FILTERS[wanted], **more)
                for tenant_id in (DEFAULT_TENANT_ID, SMALL_TENANT_ID)
            ]
            assert crowd < 1000, (function, more)
            assert crowd < 4 * few + 200, "twenty times as many tasks, and at most other pages of the index"
    finally:
        await connection.close()


# What no index knows is looked for in at most 20,000 tasks: a row each, on some page, and the entries of the index.
LOOKED_THROUGH = 22_000


@pytest.mark.parametrize("wanted", FILTERS)
async def test_a_page_of_what_is_found_costs_the_same_in_a_crowd(crowded: str, wanted: str) -> None:
    connection = await asyncpg.connect(crowded, server_settings={"role": API_ROLE})
    try:
        before = await connection.fetchval("select least_id_after(now() - interval '30 minutes')")
        for more in ({}, {"limit": 7}, {"before_id": before}):
            crowd, few = [
                await buffers_read(connection, tenant_id, "find_agent_tasks", **FILTERS[wanted], **more)
                for tenant_id in (DEFAULT_TENANT_ID, SMALL_TENANT_ID)
            ]
            assert crowd < 1500, more
            assert crowd < 4 * few + 200
        for rare in ({"text": "nowhere"}, {"waiting_for": "budget"}, {"since": datetime(2999, 1, 1, tzinfo=UTC)}):
            assert await buffers_read(connection, DEFAULT_TENANT_ID, "find_agent_tasks", **FILTERS[wanted], **rare) < (
                LOOKED_THROUGH
            )
    finally:
        await connection.close()


async def test_a_page_that_is_open_and_the_figures_read_as_much_whatever_the_history(crowded: str) -> None:
    connection = await asyncpg.connect(crowded, server_settings={"role": API_ROLE})
    owner = await asyncpg.connect(crowded)
    try:
        watched = [row["id"] for row in await owner.fetch("select id from agent_tasks order by id limit 20")]
        for function, arguments, bound in (
            ("agent_board", {"watched": watched}, 1500),
            ("list_open_suggestions", {}, 100),
            ("list_workers", {}, 500),
            ("list_related_tasks", {"id": watched[0]}, 100),
            ("agent_figures", {}, 20_000),
        ):
            crowd = await buffers_read(connection, DEFAULT_TENANT_ID, function, **arguments)
            assert 0 < crowd < bound, function
    finally:
        await owner.close()
        await connection.close()


@pytest.mark.parametrize("wanted", FILTERS)
async def test_a_count_beyond_its_bound_is_near_the_truth(crowded: str, wanted: str) -> None:
    connection = await asyncpg.connect(crowded)
    try:
        for tenant_id in (DEFAULT_TENANT_ID, SMALL_TENANT_ID):
            conditions = [f"{column}::text = ${number}" for number, column in enumerate(FILTERS[wanted], 2)]
            truth = await connection.fetchval(
                f"select count(*) from agent_tasks where {' and '.join(['tenant_id = $1', *conditions])}",
                tenant_id, *FILTERS[wanted].values(),
            )  # fmt: skip
            for role in (API_ROLE, "none"):
                await connection.execute(f"set role {role}")
                await connection.execute("select set_config('zora.tenant_id', $1, false)", str(tenant_id))
                names = "".join(f", p_{name} => ${number}" for number, name in enumerate(FILTERS[wanted], 2))
                counted = await connection.fetchrow(
                    f"select * from count_agent_tasks($1, p_exact_up_to => 500{names})",
                    tenant_id, *FILTERS[wanted].values(),
                )  # fmt: skip
                if truth <= 500:
                    assert tuple(counted) == (truth, False)
                else:
                    assert tuple(counted) == (500, True), (tenant_id, role)
    finally:
        await connection.close()


async def test_what_changed_is_found_without_reading_the_journal_that_was_there_before(crowded: str) -> None:
    connection = await asyncpg.connect(crowded, server_settings={"role": API_ROLE})
    try:
        for tenant_id in (DEFAULT_TENANT_ID, SMALL_TENANT_ID):
            await connection.execute("select set_config('zora.tenant_id', $1, false)", str(tenant_id))
            since = await connection.fetchval("select clock_timestamp()")
            tasks = [{"agent_id": "SAM", "task_type": "t", "title": "t"}] * 20
            await connection.execute("select from create_agent_tasks($1, $2)", tenant_id, json.dumps(tasks))
            entries = await connection.fetch("select id from journal_entries where created_at >= $1 order by id", since)
            running = await connection.fetchval("select count(*) from agent_tasks where state = 'i'")
            for more in ({}, {"after_id": entries[9]["id"]}, {"known": [UUID(int=1)]}):
                read = await buffers_read(connection, tenant_id, "changed_agent_tasks", since=since, **more)
                assert read < 10 * (running + len(tasks)) + 100, more
    finally:
        await connection.close()


@pytest.mark.parametrize("proposed", ["by runs", "outside of runs"])
async def test_suggestions_are_stored_in_one_session_without_reading_all_that_were_stored_before(
    server: Server, proposed: str
) -> None:
    """The session's plans are made while the table is small, and kept."""
    async with server.fresh() as url:
        connection = await asyncpg.connect(url)
        await schema.migrate(connection)
        await connection.execute("insert into tenants (id, name, slug) values ($1, 't', 't')", DEFAULT_TENANT_ID)
        for number in range(20):
            if number == 1:
                await connection.execute("analyze")
            suggestions = [
                {"suggestion_type": "advice", "title": "t", "target": {"n": n, "of": number}, "key": f"{number} {n}",
                 "subject": f"{number % 2}", "evidence": [{"kind": "quote", "source": "p", "text": f"words {n}"}]}
                for n in range(1 if number == 0 else 20)
            ]  # fmt: skip
            if proposed == "outside of runs":
                for suggestion in suggestions:
                    await connection.execute(
                        "select propose_agent_suggestion($1, 'SAM', $2)", DEFAULT_TENANT_ID, json.dumps(suggestion)
                    )
                continue
            await connection.execute(
                "insert into agent_tasks (tenant_id, agent_id, task_type, title) values ($1, 'SAM', 't', 't')",
                DEFAULT_TENANT_ID,
            )
            (task,) = await connection.fetch("select * from claim_agent_tasks($1, 'w', 1, 300)", DEFAULT_TENANT_ID)
            result = {"suggestions": suggestions, "examined": {f"{number % 2}": [s["key"] for s in suggestions]}}
            await connection.execute(
                "select settle_agent_tasks($1, $2, '{completed}', '{x}', $3, '{}', '{}', '{}')",
                [task["id"]], [task["lease_token"]], [json.dumps(result)],
            )  # fmt: skip
        await connection.execute("select pg_stat_force_next_flush()")
        read = await connection.fetch(
            "select relname, seq_tup_read from pg_stat_user_tables where seq_tup_read > 2000 order by 2 desc"
        )
        assert await connection.fetchval("select count(*) from agent_suggestions") == 381
        assert read == []
        await connection.close()
