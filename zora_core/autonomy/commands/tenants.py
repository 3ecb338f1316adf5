"""Tenants: making the one that the environment names."""

from __future__ import annotations

import re

import click

from zora_core.autonomy.commands.common import json_option, print_json, run
from zora_core.settings import load_settings


@click.group()
def tenants() -> None:
    """For whom everything is done; each task, memory and key belongs to one."""


@tenants.command()
@click.argument("name")
@click.option("--slug", help="The short name, for `--tenant` [NAME in small letters, with hyphens].")
@json_option
def add(name: str, slug: str | None, as_json: bool) -> None:
    """Make the tenant that ZORA_TENANT_ID names, and call it NAME.

    `zora migrate` and the embedded database make theirs by themselves. Repeating it changes nothing.
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
        click.echo(f"There is a tenant {settings.tenant_id} already; nothing to do.")


COMMANDS = (tenants,)
