"""What the agents remember."""

from __future__ import annotations

from typing import Any

import click

from zora_core.cli.common import json_option, print_json, run, session

_limit = click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)


@click.group()
def memory() -> None:
    """EIVOR's memory."""


@memory.command()
@click.argument("query", nargs=-1, required=True)
@_limit
@json_option
def search(query: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List memories that share a word with QUERY, best match first."""

    async def read() -> list[dict[str, Any]]:
        async with session() as zora:
            return await zora.call("search_memory_events", query=" ".join(query), limit=limit)

    rows = run(read())
    if as_json:
        print_json(rows)
        return
    from zora_core.cli.render import print_memories

    print_memories(rows, " ".join(query))


COMMANDS = (memory,)
