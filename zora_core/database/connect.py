"""From settings to an open database whose schema fits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from zora_core.database.backoff import retrying
from zora_core.errors import ConfigurationError, NotFound, SchemaError
from zora_core.settings import DEFAULT_TENANT_ID, EXAMPLES, Settings

if TYPE_CHECKING:
    from zora_core.database.database import Database

EXAMPLE_PAGES = ("home", "climate", "dashboard")


async def open_database(
    settings: Settings, *, check: bool = True, wait: bool = False, unless: asyncio.Event | None = None
) -> Database:
    """Open the database that the settings name.

    The embedded one is started, migrated and, the first time, given its default tenant with the example site's pages.
    Any other must have the schema already: raises `SchemaError` when it has not (unless `check` is false),
    `DatabaseUnavailable` when it cannot be reached, unless this is to `wait` until it can. Once `unless` is set, it
    waits no longer.
    """
    if settings.embedded:
        return await _open_embedded(settings, wait=wait, unless=unless)
    if wait:
        return await retrying(None, lambda: open_database(settings, check=check), unless=unless)
    database: Database
    if settings.supabase_url:
        from zora_core.database import postgrest

        database = await postgrest.connect(settings)
    else:
        from zora_core.database import postgres

        assert settings.database_url is not None
        database = await postgres.connect(settings.database_url, schema_name=settings.schema)
    if check:
        try:
            await database.check_schema()
        except BaseException:
            await database.close()
            raise
    return database


async def _open_embedded(settings: Settings, *, wait: bool, unless: asyncio.Event | None) -> Database:
    """A server that does not start is a problem of this machine, and not waited for."""
    from zora_core.database.embedded import EmbeddedServer
    from zora_core.database.postgres import connect

    server = EmbeddedServer.at(settings.home)
    url = await asyncio.to_thread(server.start)
    database = await connect(url, server=server, schema_name=settings.schema)

    async def prepare() -> None:
        try:
            await database.check_schema()
        except SchemaError:  # new, or older than this program; `migrate` refuses one that is too new
            await database.migrate()
        if await ensure_tenant(database, settings):
            await database.value("seed_tenant", tenant_id=settings.tenant_id, seed={"pages": example_pages()})

    try:
        await (
            retrying(database, prepare, unless=unless, lasting=True) if wait else prepare()
        )  # the schema may take a while
    except BaseException:
        await database.close()
        raise
    return database


async def ensure_tenant(database: Database, settings: Settings) -> bool:
    """Make sure that the tenant of the settings exists; returns whether it was created now."""
    name = "default" if settings.tenant_id == DEFAULT_TENANT_ID else str(settings.tenant_id)
    return bool(await database.value("ensure_tenant", id=settings.tenant_id, name=name, slug=name))


async def check_tenant(database: Database, settings: Settings) -> None:
    """Raise `ConfigurationError`, saying how it is made, unless the tenant of the settings exists."""
    try:
        await database.value("find_tenant", tenant=str(settings.tenant_id))
    except NotFound as error:
        raise ConfigurationError(
            f"{error}: ZORA_TENANT_ID names none of them; if it is the right one, `zora tenants add NAME` makes it"
        ) from error


def example_pages() -> list[dict[str, object]]:
    """The example site's pages, as rows of `frontend_configs`.

    Their paths begin with `{examples}`, which each installation reads as its own folder: a database has several.
    """
    return [{"page": page, "config": {"path": f"{EXAMPLES}/site/{page}.html"}} for page in EXAMPLE_PAGES]
