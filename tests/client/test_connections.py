"""The client on connections of other programs: what it does belongs to their transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tests.conftest import Zora
from zora_core.client import Client
from zora_core.errors import ConfigurationError, InvalidInput, NotFound

psycopg = pytest.importorskip("psycopg")
sqlalchemy = pytest.importorskip("sqlalchemy")

Opened = Callable[[str], AbstractAsyncContextManager[tuple[Any, Callable[[], Awaitable[None]]]]]
"""Opens a connection with a transaction, and gives it with what commits it."""

TASK = {"agent_id": "AEGIS", "task_type": "check_climate_claims", "title": "Ünïcode", "payload": {"claim": "50 % less"}}


def sqlalchemy_url(url: str, driver: str) -> Any:
    return sqlalchemy.engine.make_url(url).set(drivername=f"postgresql+{driver}")


@asynccontextmanager
async def of_asyncpg(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    yield connection, transaction.commit
    await connection.close()


@asynccontextmanager
async def of_psycopg(url: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection, connection.commit
        await connection.rollback()


@asynccontextmanager
async def of_blocking_psycopg(url: str) -> AsyncIterator[Any]:
    with psycopg.connect(url) as connection:

        async def commit() -> None:
            connection.commit()

        yield connection, commit
        connection.rollback()


@asynccontextmanager
async def of_sqlalchemy(url: str) -> AsyncIterator[Any]:
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url))
    async with AsyncSession(engine) as session:
        yield session, session.commit
    await engine.dispose()


@asynccontextmanager
async def of_blocking_sqlalchemy(url: str) -> AsyncIterator[Any]:
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))
    with engine.connect() as connection:

        async def commit() -> None:
            connection.commit()

        yield connection, commit
    engine.dispose()


@pytest.fixture(params=[of_asyncpg, of_psycopg, of_blocking_psycopg, of_sqlalchemy, of_blocking_sqlalchemy])
def opened(request: pytest.FixtureRequest) -> Opened:
    return request.param  # type: ignore[no-any-return]


async def test_a_task_exists_when_the_programs_transaction_is_committed(zora: Zora, opened: Opened) -> None:
    client = Client(zora.database, zora.tenant_id)
    async with opened(zora.url) as (connection, commit):
        mine = client.using(connection)
        (task,) = await mine.tasks.create_many([TASK])
        assert (task.title, task.payload) == (TASK["title"], TASK["payload"])
        assert (await mine.tasks.get(task.id)).created_at == task.created_at
        with pytest.raises(NotFound):
            await client.tasks.get(task.id)
        await commit()
    assert (await client.tasks.get(task.id)).title == TASK["title"]


async def test_nothing_remains_of_a_transaction_that_is_not_committed(zora: Zora, opened: Opened) -> None:
    client = Client(zora.database, zora.tenant_id)
    async with opened(zora.url) as (connection, _):
        await client.using(connection).tasks.create_many([TASK])
    assert await client.tasks.list() == []


async def test_errors_are_ours_whatever_the_driver(zora: Zora, opened: Opened) -> None:
    client = Client(zora.database, zora.tenant_id)
    async with opened(zora.url) as (connection, _):
        with pytest.raises(InvalidInput, match="title"):
            await client.using(connection).tasks.create_many([{**TASK, "title": ""}])


def test_another_kind_of_connection_is_refused(zora: Zora) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot use a builtins\.str as a connection"):
        Client(zora.database, zora.tenant_id).using("postgresql://")
