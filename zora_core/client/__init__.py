"""The typed face of the database: every public SQL function once, as a method of a section of `Client`.

Nothing else in the project names a SQL function (`tests/client/test_contract.py`). The functions themselves say more:
`database/sql/functions/`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from zora_core.client.calls import Calls, Transport
from zora_core.errors import ConfigurationError, NotFound

if TYPE_CHECKING:
    from zora_core.client.access import Access
    from zora_core.client.agents import Agents
    from zora_core.client.climate import Climate
    from zora_core.client.journal import Journal
    from zora_core.client.memory import Memory
    from zora_core.client.policies import Policies
    from zora_core.client.queue import Queue
    from zora_core.client.schedules import Schedules
    from zora_core.client.suggestions import Suggestions
    from zora_core.client.system import System
    from zora_core.client.tasks import Tasks
    from zora_core.client.workflows import Workflows
    from zora_core.database.database import Database


class Client:
    """Everything that can be done in a tenant, by subject: `await client.tasks.get(task_id)`.

    A section is imported when it is first used.
    """

    def __init__(self, transport: Transport, tenant_id: UUID, *, schema_name: str = "public") -> None:
        """Act for `tenant_id` through `transport`, usually a `Database`, which the caller closes."""
        self.tenant_id = tenant_id
        self._schema_name = schema_name
        self._calls = Calls(transport, tenant_id), Calls(transport)

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str | None = None, *, tenant: UUID | str | None = None) -> AsyncIterator[Self]:
        """Connect, and disconnect at the end of the block.

        `url` is a PostgreSQL URL; the default is what the `zora` command uses (DATABASE_URL, Supabase, or the embedded
        server). `tenant` is an id or a slug; the default is ZORA_TENANT_ID. Raises `ConfigurationError` for a wrong
        setting or an unknown tenant, `DatabaseUnavailable` if the database cannot be reached, and `SchemaError` if its
        schema is missing or has another version.
        """
        from zora_core.database.connect import check_tenant, open_database
        from zora_core.settings import DEFAULT_TENANT_ID, load_settings

        environment = dict(os.environ)
        if url is not None:
            if not url.strip():
                raise ConfigurationError("the database URL is empty: pass postgresql://…, or leave it out")
            environment = {name: value for name, value in environment.items() if "SUPABASE" not in name}
            environment["DATABASE_URL"] = url
        if tenant is not None:
            environment["ZORA_TENANT_ID"] = str(DEFAULT_TENANT_ID)  # until it has been looked up
        settings = load_settings(environment)
        database = await open_database(settings)
        try:
            if tenant is not None:
                settings = replace(settings, tenant_id=await _find_tenant(database, str(tenant)))
            elif not settings.embedded:
                await check_tenant(database, settings)
            yield cls(database, settings.tenant_id, schema_name=settings.schema)
        finally:
            await database.close()

    def using(self, connection: Any) -> Client:
        """The same tenant on a connection of your program, inside its open transaction.

        `connection` is one of asyncpg or psycopg, or a connection or session of SQLAlchemy. Changes become visible, and
        wake workers, when you commit. After an error of the database you must roll back, as after any other.
        """
        from zora_core.client.connections import BorrowedConnection

        return Client(BorrowedConnection(connection, self._schema_name), self.tenant_id, schema_name=self._schema_name)

    @cached_property
    def tasks(self) -> Tasks:
        """Create tasks, read them, change them, and follow what becomes of them."""
        from zora_core.client.tasks import Tasks

        return Tasks(*self._calls)

    @cached_property
    def suggestions(self) -> Suggestions:
        """What agents propose: read it, decide on it, take it back."""
        from zora_core.client.suggestions import Suggestions

        return Suggestions(*self._calls)

    @cached_property
    def policies(self) -> Policies:
        """Which task types run by themselves, and which tables effects may change."""
        from zora_core.client.policies import Policies

        return Policies(*self._calls)

    @cached_property
    def agents(self) -> Agents:
        """What each agent does, and pausing it."""
        from zora_core.client.agents import Agents

        return Agents(*self._calls)

    @cached_property
    def schedules(self) -> Schedules:
        """Tasks that are created again and again."""
        from zora_core.client.schedules import Schedules

        return Schedules(*self._calls)

    @cached_property
    def workflows(self) -> Workflows:
        """Steps that hang together: their definitions and their runs."""
        from zora_core.client.workflows import Workflows

        return Workflows(*self._calls)

    @cached_property
    def journal(self) -> Journal:
        """What happened, and its proofs."""
        from zora_core.client.journal import Journal

        return Journal(*self._calls)

    @cached_property
    def memory(self) -> Memory:
        """What the agents remember."""
        from zora_core.client.memory import Memory

        return Memory(*self._calls)

    @cached_property
    def climate(self) -> Climate:
        """Climate profiles, their missions, and the pages that agents watch."""
        from zora_core.client.climate import Climate

        return Climate(*self._calls)

    @cached_property
    def access(self) -> Access:
        """Who may do what: users, API keys, tenants."""
        from zora_core.client.access import Access

        return Access(*self._calls)

    @cached_property
    def queue(self) -> Queue:
        """For workers: claiming, settling, and the upkeep of the queue."""
        from zora_core.client.queue import Queue

        return Queue(*self._calls)

    @cached_property
    def system(self) -> System:
        """The server's clock and health, and imports."""
        from zora_core.client.system import System

        return System(*self._calls)


async def _find_tenant(database: Database, tenant: str) -> UUID:
    try:
        return UUID(str(await database.value("find_tenant", tenant=tenant)))
    except NotFound as error:
        raise ConfigurationError(str(error)) from error
