"""A project over HTTP with functions of the tests', and a gateway in front of it that does as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import pytest

from tests.conftest import SECRET, Server, Zora
from tests.http.gateway import Gateway
from tests.postgrest import token
from zora_core.database import postgrest
from zora_core.database.postgrest import PostgrestDatabase
from zora_core.settings import Settings

FUNCTIONS = (Path(__file__).parent / "functions.sql").read_text(encoding="utf-8")
NO_FUNCTIONS = """
do $$
declare
    v_name text;
begin
    for v_name in
        select oid::regprocedure::text from pg_proc where proname ^@ 'probe_' and pronamespace = 'public'::regnamespace
    loop
        execute 'drop function ' || v_name;
    end loop;
    drop table if exists probe_calls;
    drop type if exists probe_colour;
end
$$;
"""
# One that no other text looks like.
KEY = token(SECRET, "service_role", ref="project")


@pytest.fixture
def transport() -> str:
    return "http"


@pytest.fixture(scope="module")
def probes(request: pytest.FixtureRequest) -> Iterator[None]:
    """The functions of functions.sql in the project, while a module's tests run."""
    server: Server = request.getfixturevalue("system" if request.config.getoption("--system") else "embedded")

    async def execute(*statements: str) -> None:
        await server.project()
        connection = await asyncpg.connect(server.database_url("project"))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(execute(NO_FUNCTIONS, FUNCTIONS))
    yield
    asyncio.run(execute(NO_FUNCTIONS))


@pytest.fixture
async def gateway(zora: Zora, server: Server, probes: None) -> AsyncIterator[Gateway]:
    async with Gateway((await server.project()).supabase_url).listening() as listening:
        yield listening


@pytest.fixture
async def through(gateway: Gateway, server: Server, tmp_path: Path) -> AsyncIterator[PostgrestDatabase]:
    """The project through the gateway."""
    key = (await server.project()).supabase_service_key
    database = await postgrest.connect(
        Settings(home=tmp_path, supabase_url=gateway.url, supabase_service_key=key), max_connections=4
    )
    yield database
    await database.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which are not waited for."""
    made: list[float] = []

    async def sleep(seconds: float) -> None:
        made.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(postgrest, "asyncio", SimpleNamespace(sleep=sleep, timeout=asyncio.timeout))
    return made
