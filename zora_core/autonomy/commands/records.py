"""What the agents leave behind: journal, memory, suggestions."""

from __future__ import annotations

from typing import Any

import click

from zora_core.autonomy.commands.common import json_option, print_json, run, session

_limit = click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)


@click.command()
@click.option("--category", help="release, decision, incident, agent_action, …")
@click.option("--task", help="Only entries of this task.")
@_limit
@json_option
def journal(category: str | None, task: str | None, limit: int, as_json: bool) -> None:
    """The journal, newest first."""

    async def read() -> list[dict[str, Any]]:
        async with session() as zora:
            task_id = (await zora.task(task))["id"] if task else None
            return await zora.call("list_journal_entries", category=category, task_id=task_id, limit=limit)

    rows = run(read())
    if as_json:
        print_json(rows)
        return
    from zora_core.autonomy.commands.render import print_journal

    print_journal(rows)


@click.group()
def memory() -> None:
    """EIVOR's memory."""


@memory.command()
@click.argument("query", nargs=-1, required=True)
@_limit
@json_option
def search(query: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Memories that share a word with QUERY, best first."""

    async def read() -> list[dict[str, Any]]:
        async with session() as zora:
            return await zora.call("search_memory_events", query=" ".join(query), limit=limit)

    rows = run(read())
    if as_json:
        print_json(rows)
        return
    from zora_core.autonomy.commands.render import print_memories

    print_memories(rows, " ".join(query))


@click.group()
def suggestions() -> None:
    """What the agents propose."""


@suggestions.command("list")
@click.option("--status", type=click.Choice(("proposed", "approved", "applied", "rejected", "expired", "superseded")))
@click.option("--task", help="Only those of this task.")
@_limit
@json_option
def list_(status: str | None, task: str | None, limit: int, as_json: bool) -> None:
    """Suggestions, newest first."""

    async def read() -> list[dict[str, Any]]:
        async with session() as zora:
            task_id = (await zora.task(task))["id"] if task else None
            return await zora.call("list_agent_suggestions", status=status, task_id=task_id, limit=limit)

    rows = run(read())
    if as_json:
        print_json(rows)
        return
    from zora_core.autonomy.commands.render import print_suggestions

    print_suggestions(rows)


@suggestions.command()
@click.argument("suggestion")
@json_option
def show(suggestion: str, as_json: bool) -> None:
    """One suggestion: what would change, and on what evidence."""

    async def read() -> dict[str, Any]:
        async with session() as zora:
            return (await zora.call("get_agent_suggestion", id=suggestion))[0]

    row = run(read())
    if as_json:
        print_json(row)
        return
    from zora_core.autonomy.commands.render import print_suggestion

    print_suggestion(row)


COMMANDS = (journal, memory, suggestions)
