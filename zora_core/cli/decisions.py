"""Commands for decisions of people: suggestions, policies, pauses, and tables that suggestions may change."""

from __future__ import annotations

from typing import Any

import click

from zora_core.cli.common import Session, json_option, need_terminal, print_json, read_json, run, session
from zora_core.errors import DataRejected, InvalidInput, InvalidState
from zora_core.models import AgentId
from zora_core.suggested_command import zora_command

_limit = click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
_as = click.option("--as", "user", metavar="EMAIL", help="Who decides; a founder or brand admin [the founder].")
_risk = click.Choice(("low", "medium", "high"))
_agent = click.argument("agent", required=False, type=click.Choice(list(AgentId), case_sensitive=False))


async def _user_id(zora: Session, email: str | None) -> Any:
    rows = await (zora.call("find_user", email=email) if email else zora.call("ensure_founder"))
    return rows[0]["id"]


async def _suggestion(zora: Session, suggestion: str) -> dict[str, Any]:
    return (await zora.call("get_agent_suggestion", id=suggestion))[0]


@click.group()
def suggestions() -> None:
    """List, show, approve, reject and undo suggestions of the agents."""


@suggestions.command("list")
@click.option("--status", type=click.Choice(("proposed", "approved", "applied", "rejected", "expired", "superseded")))
@click.option("--task", help="Only those of this task.")
@_limit
@json_option
def list_(status: str | None, task: str | None, limit: int, as_json: bool) -> None:
    """List suggestions, newest first."""

    async def read() -> tuple[list[dict[str, Any]], dict[str, Any]]:
        async with session() as zora:
            chosen = {"status": status, "task_id": (await zora.task(task))["id"] if task else None}
            (counted,) = await zora.call("count_agent_suggestions", **chosen)
            return await zora.call("list_agent_suggestions", **chosen, limit=limit), counted

    rows, counted = run(read())
    if as_json:
        print_json(rows)
        return
    from zora_core.cli.render import print_more
    from zora_core.cli.render_decisions import print_suggestions

    print_suggestions(rows)
    print_more(len(rows), counted)


@suggestions.command()
@click.argument("suggestion")
@json_option
def show(suggestion: str, as_json: bool) -> None:
    """Show one suggestion: each change with its old and new value, and the evidence."""

    async def read() -> tuple[dict[str, Any], list[dict[str, Any]], str | None]:
        async with session() as zora:
            row = await _suggestion(zora, suggestion)
            return (row, *await _preview(zora, row))

    row, preview, problem = run(read())
    if as_json:
        print_json({**row, "targets": preview, "problem": problem})
        return
    from zora_core.cli.render_decisions import paged, print_suggestion

    paged(lambda: print_suggestion(row, preview, problem))


async def _preview(zora: Session, row: dict[str, Any]) -> tuple[list[dict[str, Any]], str | None]:
    """The current values of the rows that an undecided suggestion changes, or why they cannot be read."""
    if row["status"] != "proposed" or row["effect"] is None:
        return [], None
    try:
        return await zora.call("preview_agent_suggestion", id=row["id"]), None
    except (InvalidInput, DataRejected) as error:
        return [], str(error)


def _value(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Any:
    return None if value is None else read_json(value)


@suggestions.command()
@click.argument("suggestion")
@click.option("--value", metavar="JSON", callback=_value, help="Approve this value instead of the suggested one.")
@click.option("--reason", help="Why.")
@click.option("--digest", help="Approve only if effect_digest is still the one that you reviewed.")
@click.option("--yes", is_flag=True, help="Approve without asking.")
@_as
@json_option
def approve(
    suggestion: str, value: Any, reason: str | None, digest: str | None, yes: bool, user: str | None, as_json: bool
) -> None:
    """Approve a suggestion and apply its changes: all at once, and only if they are still those that you saw."""
    from zora_core.effects import edited

    if not (yes or digest):
        need_terminal("pass --yes, or --digest DIGEST to confirm what you reviewed")

    async def work() -> dict[str, Any]:
        async with session() as zora:
            row = await _suggestion(zora, suggestion)
            change = {} if value is None else edited(row, value)
            if not digest and not (yes and as_json):
                from zora_core.cli.render_decisions import paged, print_change

                shown = {**row, "edited_value": value, "effect": change.get("edited_effect", row["effect"])}
                preview, problem = await _preview(zora, row)
                paged(lambda: print_change(shown, preview, problem))
                if problem is not None:
                    raise InvalidState(f"suggestion {row['id']} cannot be approved: {problem}")
            if not (yes or digest):
                from zora_core.cli.render_decisions import approval_question

                click.confirm(approval_question(row), abort=True)
            (decided,) = await zora.call(
                "decide_agent_suggestion",
                id=row["id"],
                decision="approve",
                digest=digest or row["effect_digest"],
                reason=reason,
                user_id=await _user_id(zora, user),
                **change,
            )
            return decided

    _tell(run(work()), as_json)


@suggestions.command()
@click.argument("suggestion")
@click.option("--reason", help="Reason; the agents learn from it.", prompt="Reason (the agents learn from it)")
@_as
@json_option
def reject(suggestion: str, reason: str, user: str | None, as_json: bool) -> None:
    """Reject a suggestion. It is not proposed again on the same evidence."""

    async def work() -> dict[str, Any]:
        async with session() as zora:
            row = await _suggestion(zora, suggestion)
            user_id = await _user_id(zora, user)
            decision = {"id": row["id"], "decision": "reject", "reason": reason, "user_id": user_id}
            return (await zora.call("decide_agent_suggestion", **decision))[0]

    _tell(run(work()), as_json)


@suggestions.command()
@click.argument("suggestion")
@click.option("--reason", help="Why.")
@_as
@json_option
def undo(suggestion: str, reason: str | None, user: str | None, as_json: bool) -> None:
    """Restore the values from before a suggestion was applied, unless they have changed since."""

    async def work() -> dict[str, Any]:
        async with session() as zora:
            row = await _suggestion(zora, suggestion)
            user_id = await _user_id(zora, user)
            return (await zora.call("undo_agent_suggestion", id=row["id"], reason=reason, user_id=user_id))[0]

    _tell(run(work()), as_json)


def _tell(row: dict[str, Any], as_json: bool) -> None:
    """What became of a suggestion; exit status 1 when it was approved and could not be done."""
    if as_json:
        print_json(row)
    else:
        from zora_core.cli.render_decisions import print_decision

        print_decision(row)
    if row["status"] == "superseded":
        click.get_current_context().exit(1)


@click.group()
def policies() -> None:
    """Set which task types run, and which suggestions are applied, without asking."""


@policies.command("list")
@json_option
def list_policies(as_json: bool) -> None:
    """List the policies, by task type."""

    async def read() -> list[dict[str, Any]]:
        async with session() as zora:
            return await zora.call("list_agent_task_policies")

    rows = run(read())
    if as_json:
        print_json(rows)
        return
    from zora_core.cli.render_decisions import print_policies

    print_policies(rows)


@policies.command("set")
@click.argument("task_type")
@click.option("--ask-first", is_flag=True, help="Each task of the type waits for a person's approval.")
@click.option("--apply-up-to", type=_risk, help="Apply their suggestions without asking, up to this risk.")
@click.option("--decide-within-hours", type=click.IntRange(1, 8760), help="Hours until a suggestion expires [720].")
@_as
@json_option
def set_policy(
    task_type: str,
    ask_first: bool,
    apply_up_to: str | None,
    decide_within_hours: int | None,
    user: str | None,
    as_json: bool,
) -> None:
    """Set the policy for a task type; replaces the earlier one."""
    from zora_core.agents.builtin import registry

    async def write() -> dict[str, Any]:
        async with session() as zora:
            (row,) = await zora.call(
                "set_agent_task_policy",
                task_type=task_type,
                auto_execute=not ask_first,
                max_risk_level=apply_up_to,
                decide_within_hours=decide_within_hours,
                user_id=await _user_id(zora, user),
                known_types=registry().names(),
            )
            return row

    row = run(write())
    if as_json:
        print_json(row)
        return
    from zora_core.cli.render_decisions import print_policies

    print_policies([row])


@policies.command("remove")
@click.argument("task_type")
@_as
def remove_policy(task_type: str, user: str | None) -> None:
    """Remove the policy for a task type."""

    async def write() -> None:
        async with session() as zora:
            user_id = await _user_id(zora, user)
            await zora.call("remove_agent_task_policy", task_type=task_type, user_id=user_id)

    run(write())
    click.echo(f"{task_type} has no policy of this tenant any more. Tasks that wait for approval keep waiting.")


@click.command()
@_agent
@click.option("--reason", help="Reason, shown to people.")
@_as
@json_option
def pause(agent: str | None, reason: str | None, user: str | None, as_json: bool) -> None:
    """Pause AGENT, or all agents: no task starts and no suggestion is applied. Running tasks finish."""

    async def write() -> list[dict[str, Any]]:
        async with session() as zora:
            user_id = await _user_id(zora, user)
            return await zora.call("pause_agents", agent_id=agent, reason=reason, user_id=user_id)

    rows = run(write())
    if as_json:
        print_json(rows)
    else:
        resume = zora_command("resume", *([agent] if agent else []))
        click.echo(f"{agent or 'Everything'} is paused: nothing is claimed or applied until `{resume}`.")


@click.command()
@_agent
@_as
@json_option
def resume(agent: str | None, user: str | None, as_json: bool) -> None:
    """End the pause of AGENT, or the pause of all agents."""

    async def write() -> list[dict[str, Any]]:
        async with session() as zora:
            return await zora.call("resume_agents", agent_id=agent, user_id=await _user_id(zora, user))

    rows = run(write())
    if as_json:
        print_json(rows)
        return
    left = ", ".join(row["agent_id"].replace("*", "everything") for row in rows)
    click.echo(f"{agent or 'Everything'} goes on." + (f" Still paused: {left}." if left else ""))


@click.group()
def tables() -> None:
    """Manage your own tables that suggestions may change."""


@tables.command("list")
@json_option
def list_tables(as_json: bool) -> None:
    """List the registered tables, by name."""

    async def read() -> list[dict[str, Any]]:
        async with session() as zora:
            rows = await zora.call("list_effect_tables")
            await _note_closed_tables(zora)
            return rows

    _show_tables(run(read()), as_json)


@tables.command()
@click.argument("table")
@click.option("--key", default="id", show_default=True, metavar="COLUMN", help="Column that identifies a row.")
@click.option(
    "--writable", multiple=True, required=True, metavar="COLUMN", help="Column that may be written; repeatable."
)
@click.option(
    "--rests-on",
    multiple=True,
    metavar="COLUMN",
    help="Column whose change after a proposal supersedes it; repeatable [the writable ones].",
)
@json_option
def register(table: str, key: str, writable: tuple[str, ...], rests_on: tuple[str, ...], as_json: bool) -> None:
    """Let approved suggestions change TABLE, which needs a column tenant_id; replaces an earlier registration."""

    async def write() -> list[dict[str, Any]]:
        async with session() as zora:
            rows = await zora.call(
                "register_effect_table",
                name=table,
                key_column=key,
                writable=list(writable),
                rests_on=list(rests_on) or None,
            )
            await _note_closed_tables(zora)
            return rows

    _show_tables(run(write()), as_json)


@tables.command("remove")
@click.argument("table")
def remove_table(table: str) -> None:
    """Remove TABLE from the list. Open suggestions that change it can then only be rejected."""

    async def write() -> None:
        async with session() as zora:
            await zora.call("remove_effect_table", name=table)
            await _note_closed_tables(zora)

    run(write())
    click.echo(f"{table} is no longer registered.")


async def _note_closed_tables(zora: Session) -> None:
    """Say what the owner must run where this connection may not grant or revoke the API's rights on a table."""
    for row in await zora.call("closed_effect_tables"):
        said = "has not yet the registered rights" if row["registered"] else "has rights left"
        click.echo(
            f"note: the API {said} on {row['name']}: as {row['run_by']}, run `{row['command']}` on the database",
            err=True,
        )


def _show_tables(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from zora_core.cli.render_decisions import print_effect_tables

    print_effect_tables(rows)


COMMANDS = (suggestions, policies, tables, pause, resume)
