"""A database with Supabase's roles, and the stand-in in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.conftest import CLOCK, SECRET, Server
from tests.postgrest import Config, prepare, serving, token
from zora_core.database import schema

FUNCTIONS = (Path(__file__).parent / "functions.sql").read_text(encoding="utf-8")


# What a project has to grant for ZORA: Supabase grants new tables to nobody.
GRANTS = """
grant select, insert, update, delete on all tables in schema public to service_role;
revoke all on secrets from service_role;
insert into tenants (id, name, slug) values ('00000000-0000-0000-0000-000000000001', 'default', 'default');
"""


class Project:
    """A stand-in that runs, and calls to it with a key of one's choice."""

    def __init__(self, config: Config, url: str, client: httpx.AsyncClient) -> None:
        self.config = config
        self.url = url
        self.client = client

    def headers(self, role: str | None = "service_role", **claims: Any) -> dict[str, str]:
        """An API key, and the token of a role; without a role the key alone."""
        if role is None:
            return {"apikey": self.config.anon_key}
        return {"apikey": self.config.anon_key, "authorization": f"Bearer {token(SECRET, role, **claims)}"}

    async def post(
        self, function: str, arguments: Any = None, *, role: str | None = "service_role", **headers: str
    ) -> httpx.Response:
        """POST the arguments as JSON; headers as keywords, with underscores."""
        return await self.client.post(
            f"/rest/v1/rpc/{function}",
            json={} if arguments is None else arguments,
            headers={**self.headers(role), **{name.replace("_", "-"): value for name, value in headers.items()}},
        )

    async def get(
        self, function: str, query: Any = None, *, role: str | None = "service_role", **headers: str
    ) -> httpx.Response:
        return await self.client.get(
            f"/rest/v1/rpc/{function}",
            params=query,
            headers={**self.headers(role), **{name.replace("_", "-"): value for name, value in headers.items()}},
        )


@pytest.fixture(scope="module")
def project_database(embedded: Server) -> Iterator[tuple[str, str]]:
    """The URLs of a database for the superuser and for the authenticator."""
    name = "postgrest"
    url = embedded.database_url(name)

    async def make() -> str:
        await embedded.admin(f"create database {name}")
        connection = await asyncpg.connect(url)
        try:
            await schema.migrate(connection)
            await connection.execute(CLOCK)
            authenticator = await prepare(url)
            await connection.execute(FUNCTIONS)
            await connection.execute(GRANTS)
        finally:
            await connection.close()
        return authenticator

    yield url, asyncio.run(make())
    asyncio.run(embedded.admin(f"drop database {name} with (force)"))


@pytest.fixture
async def sql(project_database: tuple[str, str]) -> AsyncIterator[asyncpg.Connection]:
    """The superuser's connection; the notes are gone at the start."""
    connection = await asyncpg.connect(project_database[0])
    await connection.execute("truncate notes, children")
    yield connection
    await connection.close()


@pytest.fixture
def config(project_database: tuple[str, str]) -> Config:
    return Config(database_url=project_database[1], jwt_secret=SECRET, schemas=("public", "other"))


@pytest.fixture
async def project(config: Config, sql: asyncpg.Connection) -> AsyncIterator[Project]:
    async with serving(config) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield Project(config, url, client)
