"""Helpers of the commands: open the database for a tenant, run a coroutine, print JSON."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from zora_core.cli.interrupts import interrupt_work
from zora_core.settings import Settings, load_settings
from zora_core.storable import check_storable, problem
from zora_core.visible import visible_json

if TYPE_CHECKING:
    from zora_core.client import Client
    from zora_core.database.database import Database

T = TypeVar("T")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@dataclasses.dataclass(frozen=True)
class Session:
    """An open database, and the tenant that a command acts for."""

    database: Database
    settings: Settings

    @cached_property
    def client(self) -> Client:
        """What can be done for the tenant."""
        from zora_core.client import Client

        return Client(self.database, self.settings.tenant_id)

    async def call(self, function: str, /, **arguments: Any) -> list[dict[str, Any]]:
        """Call a function for the session's tenant; raises `InvalidInput` for text that cannot be stored."""
        for name, value in arguments.items():
            check_storable(value, name)
        return await self.database.call(function, tenant_id=self.settings.tenant_id, **arguments)

    async def value(self, function: str, /, **arguments: Any) -> Any:
        """Call a function that returns one value for the session's tenant, checked like the arguments of `call`."""
        for name, value in arguments.items():
            check_storable(value, name)
        return await self.database.value(function, tenant_id=self.settings.tenant_id, **arguments)

    @contextmanager
    def permitting(self) -> Iterator[Callable[[Iterable[UUID | str]], None]]:
        """Create tasks in this block, and call what it gives with their ids: they may read the current folder.

        A worker that claims one of them earlier waits for the end of the block. Where folders are configured, these
        hold instead.
        """
        from zora_core.roots import announced, permit, prune_permissions, tenant_roots

        home, created = self.settings.home, list[UUID | str]()
        if self.settings.file_roots or tenant_roots(home, self.settings.tenant_id) is not None:
            yield created.extend
            return
        with ExitStack() as announcement:
            with self._noted():
                announcement.enter_context(announced(home))
            yield created.extend
            with self._noted():
                permit(home, created, Path.cwd())
        with self._noted():
            prune_permissions(home)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            home = self.settings.home
            click.echo(f"note: the task may read no files, because {home} cannot be written: {error}", err=True)


@asynccontextmanager
async def session(*, wait: bool = False) -> AsyncIterator[Session]:
    """Open the database for the tenant that the command line or the environment names.

    With `wait`, for commands that run until they are stopped, a database that cannot serve calls is waited for.
    """
    from zora_core.database.backoff import retrying
    from zora_core.database.connect import check_tenant, open_database

    settings = load_settings()
    database = await open_database(settings, wait=wait)

    async def choose_tenant() -> Settings:
        tenant = click.get_current_context().find_root().obj
        if tenant:
            return dataclasses.replace(settings, tenant_id=await database.value("find_tenant", tenant=tenant))
        if not settings.embedded:
            await check_tenant(database, settings)
        return settings

    try:
        settings = await (retrying(database, choose_tenant) if wait else choose_tenant())
        yield Session(database, settings)
    finally:
        await database.close()


def read_json(text: str) -> Any:
    """The JSON value of an option; raises `click.BadParameter` if it is not JSON or cannot be stored."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"is not JSON: {error}") from error
    if said := problem(value, "the JSON"):
        raise click.BadParameter(said)
    return value


def need_terminal(instead: str) -> None:
    """Raise `click.UsageError` without a terminal, before anything is done; `instead` names the option to pass."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"cannot ask for confirmation without a terminal: {instead}")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine."""
    interrupt_work()
    return asyncio.run(coroutine)


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
        return value.model_dump(mode="json", exclude_unset=True, warnings=False)  # a record has the columns of its row
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return float(value)
