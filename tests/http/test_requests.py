"""Requests that are lost on the way are carried out once; what they may do, and for whom."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from tests.autonomy.test_runtime import until
from tests.conftest import SECRET, Server, Zora
from tests.http.gateway import Answer, Gateway, Request, cut_short, drop, keep_silent, lose, say
from tests.postgrest import Config, token
from tests.postgrest.supabase import REVOKE_API_ROLE
from zora_core.database import postgrest
from zora_core.database.postgrest import ATTEMPTS, PostgrestDatabase
from zora_core.errors import ConfigurationError, DatabaseUnavailable, DataRejected, InvalidState, UnexpectedAnswer
from zora_core.settings import Settings

pytestmark = pytest.mark.usefixtures("probes")

OTHER = UUID("00000000-0000-0000-0000-000000000002")


async def calls(zora: Zora) -> int:
    (row,) = await zora.sql("select count(*) from probe_calls")
    return int(row["count"])


# Once


@pytest.mark.parametrize(
    "losses",
    [[drop], [lose], [cut_short], [lose, lose], [drop, lose, cut_short, drop, lose], [lose, say(503), say(502), lose]],
    ids=["before", "after", "during", "twice", "all kinds", "gateways"],
)
async def test_a_call_is_carried_out_once_however_often_it_is_lost(
    zora: Zora, gateway: Gateway, through: PostgrestDatabase, pauses: list[float], losses: list[Any]
) -> None:
    gateway.todo += losses
    assert await through.value("probe_call", said="once") == 1, "the answer of the first"
    assert (len(gateway.seen), len(pauses)) == (len(losses) + 1, len(losses))
    assert len({request.body for request in gateway.seen}) == 1
    assert await calls(zora) == 1
    assert await through.value("probe_call") == 2, "another call is another one"


async def test_an_answer_that_does_not_come_is_asked_for_again(
    zora: Zora, gateway: Gateway, server: Server, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgrest, "ANSWER_SECONDS", 0.25)
    key = (await server.project()).supabase_service_key
    database = await postgrest.connect(Settings(home=Path(), supabase_url=gateway.url, supabase_service_key=key))
    gateway.todo.append(keep_silent)
    assert await database.value("probe_call") == 1
    assert await calls(zora) == 1
    gateway.otherwise = keep_silent
    with pytest.raises(DatabaseUnavailable, match=r"SUPABASE_URL \(127\.0\.0\.1\) cannot be reached: ReadTimeout"):
        await database.call("probe_call")
    assert await calls(zora) == 2
    await database.close()


async def test_a_server_that_comes_back_is_found_again(
    zora: Zora, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = await server.project()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    database = await postgrest.connect(
        Settings(
            home=Path(), supabase_url=f"http://127.0.0.1:{port}", supabase_service_key=settings.supabase_service_key
        )
    )
    monkeypatch.setattr(postgrest, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(postgrest, "MAX_SECONDS", 0.1)
    monkeypatch.setattr(postgrest, "ATTEMPTS", 100)
    call = asyncio.create_task(database.value("probe_call"))
    await asyncio.wait([call], timeout=0.05)
    assert not call.done()
    async with Gateway(settings.supabase_url).listening(port):
        assert await call == 1
    await database.close()


async def test_a_second_request_waits_for_the_first_that_is_still_at_work(
    zora: Zora, gateway: Gateway, through: PostgrestDatabase, pauses: list[float]
) -> None:
    async def hang_up_while_it_works(gateway: Gateway, request: Request) -> Answer | None:
        gateway.in_background(request)
        await until(lambda: waiting("advisory", 1))
        return None

    async def waiting(event: str, number: int) -> bool:
        (row,) = await zora.sql("select count(*) from pg_stat_activity where wait_event = $1", event)
        return bool(row["count"] == number)

    gateway.todo.append(hang_up_while_it_works)
    holder = await asyncpg.connect(zora.url)
    try:
        await holder.execute("select pg_advisory_lock(4711)")
        call = asyncio.create_task(through.value("probe_call_and_wait"))
        await until(lambda: waiting("transactionid", 1))
        assert not call.done()
        await holder.execute("select pg_advisory_unlock(4711)")
        assert await call == 1
    finally:
        await holder.close()
    assert await calls(zora) == 1


async def test_a_second_request_acts_when_the_first_has_failed(
    zora: Zora, gateway: Gateway, through: PostgrestDatabase, pauses: list[float]
) -> None:
    """What is rolled back leaves no answer behind."""
    gateway.todo.append(lose)
    with pytest.raises(InvalidState):
        await through.call("probe_fail", state="PT409")
    assert len(gateway.seen) == 2
    assert await zora.sql("select from zora_requests") == []
    assert await calls(zora) == 0


async def test_two_that_wait_for_one_another_both_get_their_turn(
    zora: Zora, gateway: Gateway, pauses: list[float], through: PostgrestDatabase
) -> None:
    first, second = [await zora.create("SAM", "count") for _ in range(2)]
    await zora.sql(
        "create or replace function probe_both_tasks(p_first uuid, p_second uuid) returns bigint language plpgsql as "
        "$$ begin perform from agent_tasks where id = p_first for update; perform pg_advisory_xact_lock_shared(4712); "
        "perform from agent_tasks where id = p_second for update; return probe_call(); end $$"
    )
    holder = await asyncpg.connect(zora.url)
    try:
        await holder.execute("select pg_advisory_lock(4712)")
        both = [
            asyncio.create_task(through.value("probe_both_tasks", first=one, second=other))
            for one, other in ((first, second), (second, first))
        ]

        async def both_wait() -> bool:
            (row,) = await zora.sql("select count(*) from pg_stat_activity where wait_event = 'advisory'")
            return bool(row["count"] == 2)

        await until(both_wait)
        await holder.execute("select pg_advisory_unlock(4712)")
        assert sorted(await asyncio.gather(*both)) == [1, 2]
    finally:
        await holder.close()
    assert len(gateway.seen) == 3, "the one that was chosen to give way came again"


async def test_when_the_attempts_are_used_up_the_database_is_unavailable(
    zora: Zora, gateway: Gateway, through: PostgrestDatabase, pauses: list[float]
) -> None:
    gateway.otherwise = lose
    with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
        await through.call("probe_call")
    assert len(gateway.seen) == ATTEMPTS
    assert await calls(zora) == 1


async def test_answers_are_kept_for_an_hour_and_reads_are_not(zora: Zora) -> None:
    await zora.database.call("probe_call")
    await zora.database.call("probe_who")
    (kept,) = await zora.sql("select id, answer from zora_requests")
    assert json.loads(kept["answer"])[0]["rows"] == [{"probe_call": 1}]
    await zora.sql("update zora_requests set created_at = now() - interval '59 minutes'")
    await zora.database.call("probe_call")
    assert len(await zora.sql("select from zora_requests")) == 2
    await zora.sql("update zora_requests set created_at = now() - interval '61 minutes' where id = $1", kept["id"])
    await zora.database.call("probe_call")
    left = [row["id"] for row in await zora.sql("select id from zora_requests")]
    assert kept["id"] not in left
    assert len(left) == 2


async def test_old_answers_go_faster_than_new_ones_come(zora: Zora) -> None:
    await zora.sql(
        "insert into zora_requests (id, created_at) select gen_random_uuid(), now() - interval '2 hours' "
        "from generate_series(1, 50)"
    )
    for _ in range(3):
        await zora.database.call("probe_call")
    assert len(await zora.sql("select from zora_requests")) == 3


# One request, one transaction


async def test_of_a_batch_whose_last_call_fails_nothing_stays(
    zora: Zora, gateway: Gateway, through: PostgrestDatabase
) -> None:
    answers = await through.batch([("probe_call", {"said": "a"}), ("probe_who", {}), ("probe_call", {"said": "b"})])
    assert [rows[0] for rows in answers] == [{"probe_call": 1}, {"probe_who": "service_role"}, {"probe_call": 2}]
    assert len(gateway.seen) == 1
    with pytest.raises(InvalidState):
        await through.batch([("probe_call", {}), ("probe_call", {}), ("probe_fail", {"state": "PT409"})])
    with pytest.raises(DataRejected):
        await through.batch([("probe_call", {}), ("probe_arguments", {"text": "\0"})])
    assert await calls(zora) == 2
    assert await through.batch([]) == []


async def test_a_set_of_more_rows_than_postgrest_shows_arrives_whole(zora: Zora) -> None:
    rows = await zora.database.call("probe_set", upto=12_345)
    assert [row["probe_set"] for row in rows] == list(range(1, 12_346))


# Connections


async def test_calls_one_after_the_other_use_one_connection(gateway: Gateway, through: PostgrestDatabase) -> None:
    for _ in range(20):
        await through.call("zora_now")
    gateway.todo.append(say(500, {"code": "PT409", "message": "no"}))
    with pytest.raises(InvalidState):
        await through.call("zora_now")
    await through.call("zora_now")
    assert gateway.connections == 1, "an error keeps the connection, too"


async def test_there_are_never_more_connections_than_allowed(gateway: Gateway, through: PostgrestDatabase) -> None:
    together, most = asyncio.Event(), 0

    async def hold(gateway: Gateway, request: Request) -> Answer | None:
        nonlocal most
        most = max(most, gateway.open)
        if gateway.open == 4:
            together.set()
        await together.wait()
        return await gateway.pass_on(request)

    gateway.otherwise = hold
    await asyncio.gather(*(through.call("zora_now") for _ in range(24)))
    assert (most, gateway.connections, len(gateway.seen)) == (4, 4, 24)


async def test_a_connection_that_was_closed_meanwhile_is_replaced(
    gateway: Gateway, through: PostgrestDatabase, pauses: list[float]
) -> None:
    async def last(gateway: Gateway, request: Request) -> Answer | None:
        answer = await gateway.pass_on(request)
        return Answer(answer.status, answer.body, {**answer.headers, "connection": "close"})

    gateway.todo.append(last)
    assert await through.value("probe_call") == 1
    assert await through.value("probe_call") == 2
    assert (gateway.connections, pauses) == (2, [])


async def test_closing_a_restricted_way_leaves_the_other_open(through: PostgrestDatabase) -> None:
    restricted = await through.restricted()
    await restricted.close()
    assert await through.value("probe_who") == "service_role"


# Tenants


@pytest.fixture
async def two_tenants(zora: Zora) -> Zora:
    await zora.sql("insert into tenants (id, name, slug) values ($1, 'other', 'other')", OTHER)
    for tenant_id, title in ((zora.tenant_id, "mine"), (OTHER, "theirs")):
        task = {"agent_id": "SAM", "task_type": "t", "title": title}
        await zora.call("create_agent_tasks", tenant_id=tenant_id, tasks=[task])
    return zora


async def titles(database: Any, tenant_id: UUID | None) -> list[str]:
    return [row["probe_titles"] for row in await database.call("probe_titles", tenant_id=tenant_id)]


async def test_a_tenant_sees_its_own_rows_whatever_a_function_forgets(two_tenants: Zora) -> None:
    database = two_tenants.database
    restricted = await database.restricted()
    assert await titles(restricted, two_tenants.tenant_id) == ["mine"]
    assert await titles(restricted, OTHER) == ["theirs"]
    assert await titles(restricted, uuid4()) == []
    assert await titles(restricted, None) == []
    assert await restricted.call("probe_titles") == [], "without a tenant there is nothing to see"
    assert await titles(database, two_tenants.tenant_id) == ["mine", "theirs"]


async def test_each_call_of_a_batch_is_for_its_own_tenant(two_tenants: Zora) -> None:
    restricted = await two_tenants.database.restricted()
    mine, theirs, none = await restricted.batch(
        [("probe_titles", {"tenant_id": id_}) for id_ in (two_tenants.tenant_id, OTHER)] + [("probe_titles", {})]
    )
    assert (mine, theirs, none) == ([{"probe_titles": "mine"}], [{"probe_titles": "theirs"}], [])
    changed = await restricted.value("probe_retitle", tenant_id=OTHER, title="changed")
    assert changed == 1
    assert await titles(two_tenants.database, None) == ["changed", "mine"]


async def test_a_text_that_is_no_tenant_shows_nothing(two_tenants: Zora) -> None:
    restricted = await two_tenants.database.restricted()
    for text in ("", "' or true --", "null"):
        with pytest.raises(DataRejected):
            await restricted.call("probe_titles", tenant_id=text)


async def test_the_role_ends_with_the_calls(two_tenants: Zora) -> None:
    restricted = await two_tenants.database.restricted()
    assert await restricted.value("probe_who", tenant_id=OTHER) == "zora_api"
    assert await two_tenants.database.value("probe_who", tenant_id=OTHER) == "service_role"
    connection = await asyncpg.connect(two_tenants.url)
    try:
        async with connection.transaction():
            await connection.execute("set local role service_role")
            for function in ("probe_who", "zora_now"):
                call = [{"function": function, "arguments": {}}]
                await connection.fetchval("select call_functions($1, $2, true)", json.dumps(call), uuid4())
                row = await connection.fetchrow("select current_user::text as role, zora_tenant() as tenant")
                assert tuple(row) == ("service_role", None)
    finally:
        await connection.close()


@pytest.mark.parametrize("function", ["call_functions", "call_function"])
async def test_a_restricted_call_cannot_choose_its_tenant_anew(two_tenants: Zora, function: str) -> None:
    restricted = await two_tenants.database.restricted()
    inner = {"function": "probe_titles", "arguments": {"tenant_id": str(OTHER)}}
    arguments = {"calls": [inner], "restricted": False} if function == "call_functions" else inner
    try:
        (row,) = await restricted.call(function, **arguments)
    except UnexpectedAnswer as error:
        assert "permission denied for function call_functions" in str(error)
    else:
        assert row["call_function"]["rows"] == []


async def test_without_the_role_a_restricted_way_says_what_is_missing(zora: Zora, server: Server) -> None:
    hidden = f"hidden_{uuid4().hex}"
    await server.admin(f"alter role zora_api rename to {hidden}")
    try:
        with pytest.raises(ConfigurationError, match="the database role zora_api is missing"):
            await zora.database.restricted()
    finally:
        await server.admin(f"alter role {hidden} rename to zora_api")
    await server.admin(REVOKE_API_ROLE)
    try:
        with pytest.raises(ConfigurationError, match="or authenticator may not act as it: run the output of `zora sch"):
            await zora.database.restricted()
    finally:
        await server.admin("grant zora_api to authenticator")
    await zora.database.restricted()


# Who may call


@pytest.mark.parametrize("role", ["anon", "authenticated"])
async def test_the_public_may_not_call(zora: Zora, server: Server, role: str) -> None:
    url = (await server.project()).supabase_url
    config = Config(database_url=zora.url, jwt_secret=SECRET)
    headers = {
        "apikey": config.anon_key,
        "authorization": f"Bearer {token(SECRET, role, tenant_id=str(zora.tenant_id))}",
    }
    async with httpx.AsyncClient(base_url=f"{url}/rest/v1/rpc/", headers=headers) as client:
        for restricted in (False, True):
            body = {"p_calls": [{"function": "zora_now"}], "p_request_id": str(uuid4()), "p_restricted": restricted}
            answer = await client.post("call_functions", json=body)
            assert answer.status_code in (401, 403)
            assert answer.json()["message"] == "permission denied for function call_functions"
        for function, arguments in (
            ("call_function", {"p_function": "zora_now", "p_arguments": {}}),
            ("installed_schema", {}),
        ):
            assert (await client.post(function, json=arguments)).json()["code"] == "42501"


@pytest.mark.parametrize("role", ["anon", "authenticated", "zora_api", "authenticator"])
async def test_answers_are_for_nobody_else(zora: Zora, role: str) -> None:
    await zora.database.call("probe_call")
    member = f"member_{uuid4().hex}"
    connection = await asyncpg.connect(zora.url)
    try:
        async with connection.transaction():
            await connection.execute(f"create role {member} inherit in role {role}")
            for name in (role, member):
                await connection.execute(f"set local role {name}")
                for statement in (
                    "select from zora_requests",
                    "insert into zora_requests (id) values (gen_random_uuid())",
                ):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        async with connection.transaction():
                            await connection.execute(statement)
                await connection.execute("reset role")
            await connection.execute(f"drop role {member}")
    finally:
        await connection.close()
