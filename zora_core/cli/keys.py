"""Commands for API keys (create, list, revoke) and for sign-in links."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from zora_core.cli.common import json_option, print_json, run, session
from zora_core.models import AgentId


def _name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Apply the database's limit before a user is created for the key."""
    name = value.strip()
    if not (1 <= len(name) <= 200 and name.isprintable()):
        raise click.BadParameter("must have 1 to 200 printable characters")
    return name


@click.group()
def keys() -> None:
    """Manage API keys, with which programs call the HTTP API."""


@keys.command()
@click.argument("name", callback=_name)
@click.option("--user", metavar="EMAIL", help="User of the key; created if unknown [the founder].")
@click.option(
    "--role", type=click.Choice(("founder", "brand_admin", "member", "viewer")), help="Role of a new user [member]."
)
@click.option(
    "--agent",
    type=click.Choice(list(AgentId), case_sensitive=False),
    help="Agent that uses the key. It may do what its user may, except decide.",
)
@click.option("--expires-days", type=click.IntRange(1, 36_500), help="Days until it expires [never].")
@json_option
def create(
    name: str, user: str | None, role: str | None, agent: str | None, expires_days: int | None, as_json: bool
) -> None:
    """Create a key called NAME. It is shown only once."""
    from zora_core.api.keys import new_key

    if role and user is None:
        raise click.UsageError("--role needs --user EMAIL (without --user the key is the founder's)")
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
    from zora_core.cli.render import print_new_key

    print_new_key(new.key, row)


@keys.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List keys, newest first, including expired and revoked ones."""

    async def read() -> list[dict[str, Any]]:
        async with session() as zora:
            return await zora.call("list_api_keys")

    rows = run(read())
    if as_json:
        print_json(rows)
        return
    from zora_core.cli.render import print_keys

    print_keys(rows)


@keys.command()
@click.argument("key")
@json_option
def revoke(key: str, as_json: bool) -> None:
    """Revoke a key for good; KEY is its prefix or its id."""
    from zora_core.api.keys import parse_key

    # A user may have pasted the complete key instead of its prefix: no error may repeat it.
    parsed = parse_key(key)
    named = parsed[0] if parsed else key

    async def write() -> dict[str, Any]:
        async with session() as zora:
            return (await zora.call("revoke_api_key", key=named))[0]

    row = run(write())
    if as_json:
        print_json(row)
    else:
        click.echo(f"Revoked {row['prefix']}: it stops working within a second.")


@keys.command()
@click.option("--user", metavar="EMAIL", help="User who signs in with it; created if unknown [the founder].")
@click.option(
    "--role", type=click.Choice(("founder", "brand_admin", "member", "viewer")), help="Role of a new user [member]."
)
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="URL of `zora serve`.")
@click.option(
    "--minutes", type=click.IntRange(1, 10_080), default=60, show_default=True, help="Minutes until the link expires."
)
@json_option
def link(user: str | None, role: str | None, url: str, minutes: int, as_json: bool) -> None:
    """Create a link that signs a user in to the admin pages, once."""
    from zora_core.server.serve import sign_in_link

    if role and user is None:
        raise click.UsageError("--role needs --user EMAIL (without --user the link is the founder's)")
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
