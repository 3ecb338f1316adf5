"""API keys: creating, listing, revoking; and links to sign in with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from zora_core.autonomy.commands.common import json_option, print_json, run, session
from zora_core.models import AgentId


def _name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """The same limit as the database's, looked at before a user is made for the key."""
    name = value.strip()
    if not (1 <= len(name) <= 200 and name.isprintable()):
        raise click.BadParameter("must have 1 to 200 printable characters")
    return name


@click.group()
def keys() -> None:
    """API keys, with which programs call the HTTP API."""


@keys.command()
@click.argument("name", callback=_name)
@click.option("--user", metavar="EMAIL", help="Whom the key stands for, made when new [the founder].")
@click.option(
    "--role", type=click.Choice(("founder", "brand_admin", "member", "viewer")), help="The role of a new user [member]."
)
@click.option(
    "--agent",
    type=click.Choice(list(AgentId), case_sensitive=False),
    help="The agent that holds it: it may then do what its user may, but never decide.",
)
@click.option("--expires-days", type=click.IntRange(1, 36_500), help="Days until it expires [never].")
@json_option
def create(
    name: str, user: str | None, role: str | None, agent: str | None, expires_days: int | None, as_json: bool
) -> None:
    """Make a key called NAME and show it, this once."""
    from zora_core.api.keys import new_key

    if role and user is None:
        raise click.UsageError("--role is a user's: name the user with --user (otherwise the key is the founder's)")
    new = new_key()
    expires_at = datetime.now(UTC) + timedelta(days=expires_days) if expires_days else None

    async def write() -> dict[str, Any]:
        async with session() as zora:
            if user is None:
                (owner,) = await zora.call("ensure_founder")
            else:
                (owner,) = await zora.call("ensure_user", email=user, role=role)
            (row,) = await zora.call(
                "create_api_key",
                user_id=owner["id"], name=name, prefix=new.prefix, hash=new.hash, expires_at=expires_at,
                agent_id=agent,
            )  # fmt: skip
            return row

    row = run(write())
    if as_json:
        print_json({"key": new.key, **row})
        return
    from zora_core.autonomy.commands.render import print_new_key

    print_new_key(new.key, row)


@keys.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Keys, newest first, the expired and revoked ones too."""

    async def read() -> list[dict[str, Any]]:
        async with session() as zora:
            return await zora.call("list_api_keys")

    rows = run(read())
    if as_json:
        print_json(rows)
        return
    from zora_core.autonomy.commands.render import print_keys

    print_keys(rows)


@keys.command()
@click.argument("key")
@json_option
def revoke(key: str, as_json: bool) -> None:
    """Stop a key from working, for ever; KEY is its prefix or its id."""
    from zora_core.api.keys import parse_key

    # Whoever finds a key where it should not be has all of it; no error may repeat it.
    parsed = parse_key(key)
    named = parsed[0] if parsed else key

    async def write() -> dict[str, Any]:
        async with session() as zora:
            return (await zora.call("revoke_api_key", key=named))[0]

    row = run(write())
    if as_json:
        print_json(row)
    else:
        click.echo(f"Revoked {row['prefix']}: within a second it works no longer.")


@keys.command()
@click.option("--user", metavar="EMAIL", help="Who signs in with it, made when new [the founder].")
@click.option(
    "--role", type=click.Choice(("founder", "brand_admin", "member", "viewer")), help="The role of a new user [member]."
)
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Where `zora serve` is reached.")
@click.option(
    "--minutes", type=click.IntRange(1, 10_080), default=60, show_default=True, help="For how long the link works."
)
@json_option
def link(user: str | None, role: str | None, url: str, minutes: int, as_json: bool) -> None:
    """Make a link with which a user signs in to the admin pages, once."""
    from zora_core.api.server import sign_in_link

    if role and user is None:
        raise click.UsageError("--role is a user's: name the user with --user (otherwise the link is the founder's)")
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter("must begin with http:// or https://", param_hint="--url")

    async def write() -> dict[str, Any]:
        async with session() as zora:
            rows = await (zora.call("ensure_user", email=user, role=role) if user else zora.call("ensure_founder"))
            made = await sign_in_link(
                zora.database, zora.settings.tenant_id, rows[0]["id"], url.rstrip("/"), minutes * 60
            )
            return {"link": made, "email": rows[0]["email"], "role": rows[0]["role"], "minutes": minutes}

    row = run(write())
    if as_json:
        print_json(row)
    else:
        click.echo(f"{row['email']} ({row['role']}) signs in with it once, within {minutes} minutes:\n  {row['link']}")


COMMANDS = (keys,)
