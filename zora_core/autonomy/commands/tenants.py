"""Commands for tenants: create one, and set the folders that its tasks may read."""

from __future__ import annotations

import re

import click

from zora_core.autonomy.commands.common import Session, json_option, print_json, run, session
from zora_core.settings import load_settings


@click.group()
def tenants() -> None:
    """Manage tenants. Each task, memory and key belongs to one tenant."""


@tenants.command()
@click.argument("name")
@click.option("--slug", help="Short name for `--tenant` [NAME in lower case, with hyphens].")
@json_option
def add(name: str, slug: str | None, as_json: bool) -> None:
    """Create the tenant with the id ZORA_TENANT_ID, and call it NAME.

    `zora migrate` and the embedded database create their tenant by themselves. Repeating it changes nothing.
    """
    from zora_core.database.connect import open_database

    if not name.strip():
        raise click.BadParameter("must not be empty", param_hint="NAME")
    settings = load_settings()
    slug = (slug or re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or str(settings.tenant_id)).lower()

    async def write() -> bool:
        database = await open_database(settings)
        try:
            return bool(await database.value("ensure_tenant", id=settings.tenant_id, name=name.strip(), slug=slug))
        finally:
            await database.close()

    created = run(write())
    if as_json:
        print_json({"id": settings.tenant_id, "created": created})
    elif created:
        click.echo(f"Made the tenant {name.strip()}: {settings.tenant_id}, or `--tenant {slug}`.")
        click.echo(
            "`zora serve` answers every tenant, but runs tasks and seals the journal of one only: for this tenant, run "
            f"`zora --tenant {slug} serve` or `zora --tenant {slug} run-loop`."
        )
    else:
        click.echo(f"The tenant {settings.tenant_id} exists already; nothing to do.")


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
        click.echo("  no folder; a task created with `zora create-task` may read the folder it was created in")


COMMANDS = (tenants,)
