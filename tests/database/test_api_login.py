"""The API's connections log in as a role of their own, from which nothing leads back to the owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from tests.conftest import Server
from tests.database.test_pooler import pooled_url  # noqa: F401 - a fixture
from tests.database.test_schema import owned_by, the_api_works
from zora_core.database import schema
from zora_core.database.postgres import API_ROLE, PostgresDatabase, connect
from zora_core.settings import DEFAULT_TENANT_ID

WAYS_BACK = (
    "set role none", "reset role", "set role {owner}", "set session authorization {owner}",
    "reset session authorization", "set session authorization default",
    "select set_config('role', 'none', false)", "alter role {owner} superuser", "grant {owner} to current_user",
)  # fmt: skip


async def stays_with_the_api(api: PostgresDatabase, owner: str) -> None:
    """None of the ways back leads anywhere from a connection of this pool."""
    for way in WAYS_BACK:
        async with api._pool.acquire() as connection:
            assert await connection.fetchval("select current_user") == API_ROLE
            try:
                await connection.execute(way.format(owner=f'"{owner}"'))
            except asyncpg.PostgresError:
                pass
            else:
                await connection.execute("select set_config('zora.tenant_id', '', false)")
            user = await connection.fetchval("select session_user")
            assert user.startswith(f"{API_ROLE}_")
            assert await connection.fetchval("select current_user") in (API_ROLE, user)
            assert await connection.fetchval("select count(*) from public.agent_tasks") == 0, way
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("update public.zora_functions set digest = ''")
            connection.terminate()


@pytest.fixture
async def url(server: Server) -> AsyncIterator[str]:
    async with server.fresh() as url:
        owner = await asyncpg.connect(url)
        await schema.migrate(owner)
        await owner.execute("insert into tenants (id, name, slug) values ($1, 't', 't')", DEFAULT_TENANT_ID)
        await owner.execute("insert into agent_tasks (tenant_id, agent_id, task_type, title) "
                            f"values ('{DEFAULT_TENANT_ID}', 'SAM', 't', 't')")  # fmt: skip
        await owner.close()
        yield url


async def test_from_the_apis_connection_nothing_leads_back_to_the_owner(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        owner = await connect(url)
        for _ in range(2):  # made, and found
            api = await owner.restricted()
            assert len(await api.call("list_agent_tasks", tenant_id=DEFAULT_TENANT_ID)) == 1
            await stays_with_the_api(api, "postgres")
            assert await owner.api_login_obstacle() is None
            await api.close()
        await owner.close()
    assert caplog.messages == []


async def test_the_login_has_a_password_that_only_those_who_know_the_owners_can_know(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """On a server that asks for passwords; an owner who is not a superuser."""
    async with owned_by(server, "createrole", with_role=True) as (trusted, name):
        await server.admin(f'grant {API_ROLE} to "{name}" with admin option', f"alter role \"{name}\" password 'first'")
        hba = Path(await _value(server.url, "select setting from pg_settings where name = 'hba_file'"))
        before = hba.read_text()
        parts = urlsplit(trusted)
        try:
            asking = "".join(f"local all {who} scram-sha-256\n" for who in (f'"{name}"', f"+{API_ROLE}"))
            hba.write_text(f"local all postgres trust\n{asking}{before}")
            await server.admin("select pg_reload_conf()")
            with caplog.at_level(logging.WARNING):
                for password in ("first", "second"):
                    await server.admin(f"alter role \"{name}\" password '{password}'")
                    url = urlunsplit(parts._replace(netloc=parts.netloc.replace("@", f":{password}@")))
                    connection = await asyncpg.connect(url)
                    await schema.migrate(connection)
                    await connection.close()
                    owner = await connect(url)
                    api = await owner.restricted()
                    assert await api.call("list_agent_tasks", tenant_id=DEFAULT_TENANT_ID) == []
                    await stays_with_the_api(api, name)
                    login = api._pool._connect_kwargs["user"]
                    assert len(api._pool._connect_kwargs["password"]) == 64
                    for guess in ("", password, None):
                        with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InterfaceError)):
                            await asyncpg.connect(url, user=login, password=guess, passfile="/nowhere")
                    await api.close()
                    await owner.close()
                    stored = await _value(server.url, f"select rolpassword from pg_authid where rolname = '{login}'")
                    assert stored.startswith("SCRAM-SHA-256$")
            assert caplog.messages == []
        finally:
            hba.write_text(before)
            await server.admin("select pg_reload_conf()")


@pytest.mark.parametrize(
    ("password", "of_login"), [("", "reject"), (":unasked", "reject"), ("", "scram-sha-256")],
)  # fmt: skip
async def test_a_process_that_cannot_use_the_login_leaves_it_to_those_that_can(
    server: Server, caplog: pytest.LogCaptureFixture, password: str, of_login: str
) -> None:
    """One logs in over TCP, where passwords are asked for; the other over a socket, where only the owner may."""
    async with owned_by(server, "createrole", with_role=True) as (trusted, name):
        await server.admin(f'grant {API_ROLE} to "{name}" with admin option', f"alter role \"{name}\" password 'first'")
        hba = Path(await _value(server.url, "select setting from pg_settings where name = 'hba_file'"))
        before = hba.read_text()
        parts = urlsplit(trusted)
        first, other = (
            urlunsplit(parts._replace(netloc=parts.netloc.replace("@", f"{given}@"))) for given in (":first", password)
        )
        asked, refused = (
            f'local all postgres trust\nlocal all "{name}" {of_owner}\nlocal all +{API_ROLE} {of_api}\n{before}'
            for of_owner, of_api in (("scram-sha-256", "scram-sha-256"), ("trust", of_login))
        )
        try:
            connection = await asyncpg.connect(trusted)
            await schema.migrate(connection)
            await connection.close()
            await _accept(server, hba, asked)
            owner = await connect(first)
            api = await owner.restricted()
            await _accept(server, hba, refused)
            with caplog.at_level(logging.WARNING):
                fallen_back = await connect(other)
                await (await fallen_back.restricted()).close()
                await fallen_back.close()
            assert "it cannot have a login of its own" in caplog.messages[0]
            await _accept(server, hba, asked)
            await api._pool.expire_connections()
            assert await api.call("list_agent_tasks", tenant_id=DEFAULT_TENANT_ID) == []
            await api.close()
            await owner.close()
        finally:
            hba.write_text(before)
            await server.admin("select pg_reload_conf()")


async def _accept(server: Server, hba: Path, rules: str) -> None:
    """Give the server other rules of who may log in, which hold once this returns."""
    hba.write_text(rules)
    loaded = await _value(server.url, "select pg_conf_load_time()")
    await server.admin("select pg_reload_conf()")
    while await _value(server.url, "select pg_conf_load_time()") == loaded:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)


async def _value(url: str, query: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval(query))
    finally:
        await connection.close()


async def test_an_owner_who_may_not_create_a_login_is_told_and_the_api_works(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with owned_by(server, "nocreaterole", with_role=True) as (url, name):
        await server.admin(f'grant {API_ROLE} to "{name}"')
        connection = await asyncpg.connect(url)
        await schema.migrate(connection)
        await connection.close()
        with caplog.at_level(logging.WARNING):
            await the_api_works(url)
        (warning,) = caplog.messages
        assert "it cannot have a login of its own: permission denied to create role" in warning
        owner = await connect(url)
        assert "may not create the role zora_api_" in str(await owner.api_login_obstacle())
        await owner.close()


async def test_a_login_that_may_do_more_is_not_used(url: str, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    owner = await connect(url)
    api = await owner.restricted()
    login = api._pool._connect_kwargs["user"]
    await api.close()
    more = f"more_{uuid4().hex}"
    try:
        await server.admin(f"create role {more}; grant {more} to {login}")
        with caplog.at_level(logging.WARNING):
            await (await owner.restricted()).close()
        assert f"the role {login} may do more than {API_ROLE}" in caplog.messages[0]
    finally:
        await server.admin(f"drop role {more}")
        await owner.close()


async def test_through_a_pooler_the_api_logs_in_as_before_and_says_so(
    pooled_url: str,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    owner = await connect(pooled_url)
    with caplog.at_level(logging.WARNING):
        await (await owner.restricted()).close()
    assert "through a pooler" in caplog.messages[0]
    assert "through a pooler" in str(await owner.api_login_obstacle())
    await owner.close()
