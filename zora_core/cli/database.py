"""The database: migrate, schema, doctor, and the embedded server."""

from __future__ import annotations

from typing import Any

import click

from zora_core.cli.common import json_option, print_json, run
from zora_core.settings import load_schema, load_settings
from zora_core.suggested_command import zora_command


@click.command()
@json_option
def migrate(as_json: bool) -> None:
    """Migrate the database to this version's schema, and create the tenant with the id ZORA_TENANT_ID.

    With SUPABASE_URL, only says whether a migration is needed and how to run it.
    """
    from zora_core.database import schema
    from zora_core.database.connect import ensure_tenant, open_database

    async def write() -> bool:
        settings = load_settings()
        database = await open_database(settings, check=False)
        try:
            changed = await database.migrate()
            if not settings.supabase_url:  # where `zora tenants add` gives it a name
                await ensure_tenant(database, settings)
            return changed
        finally:
            await database.close()

    changed = run(write())
    version = schema.latest_version()
    if as_json:
        print_json({"version": version, "changed": changed})
    else:
        click.echo(f"The schema is at version {version}" + ("." if changed else " already; nothing to do."))


@click.command("schema")
@click.option("--supabase", is_flag=True, help="Add the rights of Supabase's roles, and a check of them.")
def print_schema(supabase: bool) -> None:
    """Print the complete schema as one script, safe to run twice, for psql or Supabase's SQL editor.

    Its objects are created in the database schema ZORA_SCHEMA (default: public).
    """
    from zora_core.database.schema import render_script

    click.echo(render_script(supabase=supabase, schema=load_schema()), nl=False)


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check the installation, the connection and the queue; exits with status 1 if a check fails."""
    from zora_core.cli.doctor import examine

    checks = run(examine())
    if as_json:
        print_json(checks)
    else:
        from zora_core.cli.render import print_checks

        print_checks(checks)
    if any(check.state == "wrong" for check in checks):
        ctx.exit(1)


@click.group()
def db() -> None:
    """Manage the embedded PostgreSQL server."""


@db.command()
@click.option("--force", is_flag=True, help="Stop it even if other processes use it.")
def stop(force: bool) -> None:
    """Stop the embedded server, for example after a process was killed."""
    from zora_core.database.embedded import EmbeddedServer

    stopped = EmbeddedServer.at(load_settings().home).stop(force=force)
    click.echo("Stopped." if stopped else "It is not running.")


@db.command()
@json_option
def url(as_json: bool) -> None:
    """Print the URL of the running embedded server, for psql; start it with `zora run-loop`."""
    from zora_core.database.embedded import EmbeddedServer

    home = load_settings().home
    server = EmbeddedServer.at(home)
    if not server.running():
        raise click.ClickException(
            f"the embedded server in {home} is not running: start `{zora_command('run-loop')}` beside this"
        )
    data: Any = {"url": server.url()}
    print_json(data) if as_json else click.echo(data["url"])


@db.command("bin")
def bin_() -> None:
    """Print the folder of pg_dump, pg_restore and psql of the embedded server's version."""
    from zora_core.database.embedded import EmbeddedServer

    click.echo(EmbeddedServer.programs())


COMMANDS = (migrate, print_schema, doctor, db)
