"""What commands share: opening the database for a tenant, running a coroutine, printing JSON."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from zora_core.settings import Settings, load_settings
from zora_core.visible import visible_json

if TYPE_CHECKING:
    from zora_core.database.database import Database

T = TypeVar("T")

json_option = click.option("--json", "as_json", is_flag=True, help="Print data for programs.")


@dataclasses.dataclass(frozen=True)
class Session:
    """An open database and whose rows a command is about."""

    database: Database
    settings: Settings

    async def call(self, function: str, /, **arguments: Any) -> list[dict[str, Any]]:
        """Call a function for the session's tenant."""
        return await self.database.call(function, tenant_id=self.settings.tenant_id, **arguments)

    async def value(self, function: str, /, **arguments: Any) -> Any:
        """Call a function that returns one value for the session's tenant."""
        return await self.database.value(function, tenant_id=self.settings.tenant_id, **arguments)

    async def task(self, task: str) -> dict[str, Any]:
        """A task by its id or the end of it."""
        return (await self.call("get_agent_task", id=task))[0]


@asynccontextmanager
async def session() -> AsyncIterator[Session]:
    """Open the database for the tenant that the command line or the environment names."""
    from zora_core.database.connect import check_tenant, open_database

    settings = load_settings()
    database = await open_database(settings)
    try:
        tenant = click.get_current_context().find_root().obj
        if tenant:
            settings = dataclasses.replace(settings, tenant_id=await database.value("find_tenant", tenant=tenant))
        elif not settings.embedded:
            await check_tenant(database, settings)
        yield Session(database, settings)
    finally:
        await database.close()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine."""
    return asyncio.run(coroutine)


def shown_task(row: dict[str, Any]) -> dict[str, Any]:
    """A task's row as its readers see it."""
    from zora_core.models import TaskRecord

    return TaskRecord.shown(row)


def print_json(data: Any) -> None:
    """Print data as JSON; ids and times become strings."""
    click.echo(visible_json(json.dumps(data, default=_plain, indent=2, ensure_ascii=False)))


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return float(value)
