"""Tenants: making them, and which folders their tasks may read."""

from __future__ import annotations

import re
from uuid import UUID, uuid4

import click

from zora_core.cli.common import Session, json_option, print_json, run, session
from zora_core.errors import NotFound
from zora_core.settings import DEFAULT_TENANT_ID, load_settings
from zora_core.suggested_command import zora_command


@click.group()
def tenants() -> None:
    """Manage tenants. Each task, memory and key belongs to one tenant."""


@tenants.command()
@click.argument("name")
@click.option("--slug", help="Short name for `--tenant` [NAME in lower case, with hyphens].")
@json_option
def add(name: str, slug: str | None, as_json: bool) -> None:
    """Make a tenant called NAME. Repeating it changes nothing.

    It gets the id in ZORA_TENANT_ID, or a new one where ZORA_TENANT_ID is not set and the default tenant exists, which
    `zora migrate` and the embedded database make by themselves.
    """
    from zora_core.database.connect import open_database

    if not name.strip():
        raise click.BadParameter("must not be empty", param_hint="NAME")
    settings = load_settings()
    slug = (slug or re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or str(settings.tenant_id)).lower()

    async def write() -> tuple[UUID, bool]:
        database = await open_database(settings)

        async def found(tenant: object) -> UUID | None:
            try:
                return UUID(str(await database.value("find_tenant", tenant=str(tenant))))
            except NotFound:
                return None

        try:
            id_ = settings.tenant_id
            if id_ == DEFAULT_TENANT_ID and await found(id_):
                if existing := await found(slug):
                    return existing, False
                id_ = uuid4()
            return id_, bool(await database.value("ensure_tenant", id=id_, name=name.strip(), slug=slug))
        finally:
            await database.close()

    tenant_id, created = run(write())
    if as_json:
        print_json({"id": tenant_id, "created": created})
    elif created:
        click.echo(f"Made the tenant {name.strip()}: {tenant_id}, or `--tenant {slug}`.")
        click.echo(
            "A server answers every tenant, but runs tasks and seals the journal of one only: for this tenant, run "
            f"`{zora_command('serve', tenant=slug)}` or `{zora_command('run-loop', tenant=slug)}`."
        )
    else:
        click.echo(f"There is a tenant {tenant_id} already; nothing to do.")


@tenants.command()
@click.argument("folders", nargs=-1, metavar="[FOLDER]...")
@click.option("--none", "nothing", is_flag=True, help="Do not let the tenant's tasks read any folder.")
@click.option("--reset", is_flag=True, help="Remove the tenant's setting: ZORA_FILE_ROOTS applies again.")
@json_option
def roots(folders: tuple[str, ...], nothing: bool, reset: bool, as_json: bool) -> None:
    """Set the folders that a tenant's tasks may read on this machine, or show them.

    They take the place of ZORA_FILE_ROOTS for this tenant (choose it with `zora --tenant SLUG`), and are kept in
    ZORA_HOME. The root folder, your home folder and ZORA_HOME are refused.
    """
    from zora_core.roots import checked, set_tenant_roots, tenant_roots

    if bool(folders) + nothing + reset > 1:
        raise click.UsageError("give folders, or --none, or --reset: only one of them")

    async def tenant() -> Session:
        async with session() as zora:
            return zora

    settings = run(tenant()).settings
    if folders or nothing or reset:
        wanted = checked(folders, settings.home, "FOLDER")
        for folder in wanted:
            if not folder.is_dir():
                raise click.BadParameter(f"{str(folder)!r} is not a folder", param_hint="FOLDER")
        set_tenant_roots(settings.home, settings.tenant_id, None if reset else wanted)
    own = tenant_roots(settings.home, settings.tenant_id)
    effective = settings.file_roots if own is None else own
    source = "ZORA_FILE_ROOTS" if own is None else "zora tenants roots"
    if as_json:
        print_json({"tenant_id": settings.tenant_id, "roots": [str(root) for root in effective], "source": source})
        return
    click.echo(f"Tasks of the tenant {settings.tenant_id} may read ({source}):")
    for root in effective:
        click.echo(f"  {root}")
    if not effective:
        create = zora_command("create-task")
        click.echo(f"  no folder; a task created with `{create}` may read the folder it was created in")


COMMANDS = (tenants,)
