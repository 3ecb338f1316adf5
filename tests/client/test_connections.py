"""The client on connections of other programs: what it does belongs to their transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.conftest import Zora
from zora_core.client import Client
from zora_core.errors import ConfigurationError, InvalidInput, NotFound

psycopg = pytest.importorskip("psycopg")
sqlalchemy = pytest.importorskip("sqlalchemy")
pytest.importorskip("sqlalchemy.orm")

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


@asynccontextmanager
async def of_sqlalchemys_default_driver(url: str) -> AsyncIterator[Any]:
    psycopg2 = pytest.importorskip("psycopg2")
    engine = sqlalchemy.create_engine("postgresql+psycopg2://", creator=lambda: psycopg2.connect(url))
    with sqlalchemy.orm.Session(engine) as session:

        async def commit() -> None:
            session.commit()

        yield session, commit
    engine.dispose()


class OwnConnection(asyncpg.Connection):
    """As asyncpg lets programs have."""


@asynccontextmanager
async def of_a_subclass(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url, connection_class=OwnConnection)
    transaction = connection.transaction()
    await transaction.start()
    yield connection, transaction.commit
    await connection.close()


@asynccontextmanager
async def of_psycopg_with_rows_of_its_own(url: str) -> AsyncIterator[Any]:
    from psycopg.rows import scalar_row

    async with await psycopg.AsyncConnection.connect(url, row_factory=scalar_row) as connection:
        yield connection, connection.commit
        await connection.rollback()


@pytest.fixture(
    params=[
        of_asyncpg, of_a_subclass, of_psycopg, of_blocking_psycopg, of_psycopg_with_rows_of_its_own, of_sqlalchemy,
        of_blocking_sqlalchemy, of_sqlalchemys_default_driver,
    ]
)  # fmt: skip
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
    async with opened(zora.url) as (connection, _):
        with pytest.raises(NotFound) as raised:
            await client.using(connection).tasks.get(uuid4())
        assert raised.value.__cause__ is not raised.value


async def test_what_the_driver_refuses_by_itself_stays_its_own_error(zora: Zora) -> None:
    connection = await asyncpg.connect(zora.url)
    await connection.close()
    with pytest.raises(asyncpg.InterfaceError) as raised:
        await Client(zora.database, zora.tenant_id).using(connection).tasks.list()
    assert raised.value.__cause__ is not raised.value


async def test_odd_rows_are_read_as_over_a_connection_of_ours(zora: Zora, opened: Opened) -> None:
    client = Client(zora.database, zora.tenant_id)
    (deep, late) = [(await client.tasks.create("SAM", "review_accessibility")).id for _ in range(2)]
    nested = "[" * 300 + "]" * 300
    await zora.sql("update agent_tasks set payload = $2::text::jsonb where id = $1", deep, nested)
    await zora.sql("update agent_tasks set run_at = 'infinity' where id = $1", late)
    async with opened(zora.url) as (connection, _):
        found = {task.id: task.run_at for task in await client.using(connection).tasks.list()}
    assert found == {deep: None, late: datetime.max.replace(tzinfo=UTC)}


def test_another_kind_of_connection_is_refused(zora: Zora) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot use a builtins\.str as a connection"):
        Client(zora.database, zora.tenant_id).using("postgresql://")


async def test_a_pool_is_refused_because_it_would_commit_each_call(zora: Zora) -> None:
    async with asyncpg.create_pool(zora.url, min_size=0) as pool:
        with pytest.raises(ConfigurationError, match="as a connection"):
            Client(zora.database, zora.tenant_id).using(pool)
