"""Commands for schedules, and the command that an external cron calls to create the tasks that are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from zora_core.cli.common import Session, json_option, print_json, read_json, run, session
from zora_core.errors import InvalidInput
from zora_core.models import AgentId

_agent = click.Choice(list(AgentId), case_sensitive=False)
_schedule = click.argument("schedule", metavar="SCHEDULE")


def _payload(_context: click.Context, _parameter: click.Parameter, value: str | None) -> dict[str, Any] | None:
    payload = None if value is None else read_json(value)
    if payload is not None and not isinstance(payload, dict):
        raise click.BadParameter(f"must be a JSON object, not {value}")
    return payload


_OPTIONS = (
    click.option("--timezone", metavar="ZONE", help="Time zone of the cron expression, such as Europe/Berlin [UTC]."),
    click.option("--payload", metavar="JSON", callback=_payload, help="Parameters of its tasks, as a JSON object."),
    click.option("--title", help="Title of its tasks [the schedule's name]."),
    click.option("--priority", type=click.IntRange(-1_000_000, 1_000_000), help="Priority; higher runs first [0]."),
    click.option(
        "--misfire", "misfire_policy", type=click.Choice(("skip", "run_once", "catch_up")),
        help="Handling of runs that were missed while no worker ran: skip them, run once, or run each [run_once].",
    ),
    click.option(
        "--max-catch-up", type=click.IntRange(1, 1000), help="Maximum number of missed runs for catch_up [100]."
    ),
    click.option(
        "--grace-seconds", type=click.IntRange(0, 3600), help="A run that is at most this late counts as on time [300]."
    ),
    click.option(
        "--overlap", "overlap_policy", type=click.Choice(("allow", "skip")),
        help="Handling of a run whose previous task is unfinished: allow a second task, or skip the run [allow].",
    ),
)  # fmt: skip


def _fields(command: Any) -> Any:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


async def _one(zora: Session, schedule: str) -> dict[str, Any]:
    return (await zora.call("get_schedule", id=schedule))[0]


async def _planned(zora: Session, row: dict[str, Any]) -> dict[str, Any]:
    """The schedule with its fire times, which SQL does not compute."""
    from zora_core.schedules import plan_schedules

    await plan_schedules(zora.database, zora.settings.tenant_id)
    return await _one(zora, str(row["id"]))


async def _update(zora: Session, schedule: str, changes: dict[str, Any]) -> dict[str, Any]:
    row = await _one(zora, schedule)
    _check({**row, **changes})
    (changed,) = await zora.call("update_schedule", id=row["id"], changes=changes)
    return await _planned(zora, changed)


def _check(fields: dict[str, Any]) -> None:
    """Cron expression, time zone and payload, which the database cannot read."""
    from zora_core.agents.builtin import registry
    from zora_core.cron import Cron

    try:
        Cron(fields["cron"], fields.get("timezone") or "UTC")
    except InvalidInput as error:
        raise click.UsageError(str(error)) from error
    registry().find(fields["agent_id"], fields["task_type"]).parse(fields.get("payload") or {})


@click.group()
def schedules() -> None:
    """Create tasks at the times of cron expressions."""


@schedules.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List all schedules, by name."""

    async def read() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        async with session() as zora:
            return await zora.call("list_schedules"), await zora.call("list_agent_pauses")

    rows, pauses = run(read())
    if as_json:
        print_json([_shown(row) for row in rows])
        return
    from zora_core.cli.render_schedules import print_schedules

    print_schedules(rows, {pause["agent_id"] for pause in pauses})


@schedules.command()
@click.argument("name")
@click.argument("agent", type=_agent)
@click.argument("task_type", metavar="TYPE")
@click.option(
    "--cron", required=True, help="Minute, hour, day of the month, month, day of the week; or a name such as @daily."
)
@_fields
@json_option
def create(name: str, agent: str, task_type: str, as_json: bool, **given: Any) -> None:
    """Create a task of the type TYPE for AGENT at each time of the cron expression."""
    fields = {"name": name, "agent_id": AgentId(agent).value, "task_type": task_type}
    fields |= {field: value for field, value in given.items() if value is not None}
    _check(fields)

    async def write() -> dict[str, Any]:
        async with session() as zora:
            (row,) = await zora.call("create_schedule", schedule=fields)
            return await _planned(zora, row)

    _say(run(write()), as_json, "Created.")


@schedules.command()
@_schedule
@json_option
def show(schedule: str, as_json: bool) -> None:
    """Show one schedule, by its name or the end of its id."""

    async def read() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        async with session() as zora:
            return await _one(zora, schedule), await zora.call("list_agent_pauses")

    row, pauses = run(read())
    if as_json:
        print_json(_shown(row))
        return
    from zora_core.cli.render_schedules import print_schedule

    print_schedule(row, {pause["agent_id"] for pause in pauses})


@schedules.command()
@_schedule
@click.option("--name", help="New name.")
@click.option("--cron", help="New cron expression; its fire times start from now.")
@_fields
@json_option
def update(schedule: str, as_json: bool, **given: Any) -> None:
    """Change the given fields of a schedule."""
    changes = {field: value for field, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("nothing to change: pass at least one option, see --help")

    async def write() -> dict[str, Any]:
        async with session() as zora:
            return await _update(zora, schedule, changes)

    _say(run(write()), as_json, "Changed.")


@schedules.command()
@_schedule
@json_option
def delete(schedule: str, as_json: bool) -> None:
    """Delete a schedule; its tasks stay."""

    async def write() -> dict[str, Any]:
        async with session() as zora:
            row = await _one(zora, schedule)
            return (await zora.call("delete_schedule", id=row["id"]))[0]

    row = run(write())
    if as_json:
        print_json(_shown(row))
    else:
        click.echo(f"Deleted the schedule {row['name']}; its tasks stay.")


@schedules.command()
@_schedule
@json_option
def pause(schedule: str, as_json: bool) -> None:
    """Stop a schedule. Runs during the pause are dropped."""
    _enable(schedule, False, as_json)


@schedules.command()
@_schedule
@json_option
def resume(schedule: str, as_json: bool) -> None:
    """Continue a paused schedule, from now."""
    _enable(schedule, True, as_json)


def _enable(schedule: str, enabled: bool, as_json: bool) -> None:
    async def write() -> dict[str, Any]:
        async with session() as zora:
            row = await _one(zora, schedule)
            (changed,) = await zora.call("update_schedule", id=row["id"], changes={"enabled": enabled})
            return await _planned(zora, changed)

    _say(run(write()), as_json, "Resumed." if enabled else "Paused.")


@schedules.command("run-now")
@_schedule
@json_option
def run_now(schedule: str, as_json: bool) -> None:
    """Create a task of a schedule now, also when it is paused. Its fire times do not change."""

    async def write() -> dict[str, Any]:
        async with session() as zora:
            row = await _one(zora, schedule)
            return (await zora.call("run_schedule_now", id=row["id"]))[0]

    row = run(write())
    if as_json:
        print_json(_shown(row))
    else:
        click.echo(f"Created task {row['last_task_id']}: {row['agent_id']} {row['task_type']}.")


@schedules.command("next")
@click.argument("schedule", metavar="[SCHEDULE]", required=False)
@click.option(
    "--hours",
    type=click.FloatRange(0, 8784, min_open=True),
    default=24,
    show_default=True,
    help="How far to look ahead.",
)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Maximum number of runs to list."
)
@json_option
def next_(schedule: str | None, hours: float, limit: int, as_json: bool) -> None:
    """List the next runs, of all schedules or of one."""
    from zora_core.schedules import fire_times

    async def read() -> list[dict[str, Any]]:
        async with session() as zora:
            return [await _one(zora, schedule)] if schedule else await zora.call("list_schedules")

    rows = run(read())
    now = datetime.now(UTC)
    coming = [(time, row) for row in rows for time in fire_times(row, now, now + timedelta(hours=hours))]
    coming.sort(key=lambda one: (one[0], one[1]["name"]))
    if as_json:
        print_json(
            [
                {"fire_time": time, **{name: row[name] for name in ("name", "agent_id", "task_type", "timezone")}}
                for time, row in coming[:limit]
            ]
        )
        return
    from zora_core.cli.render_schedules import print_coming

    print_coming(coming, limit, hours)


@click.command("run-due-schedules")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Maximum number of schedules."
)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@json_option
def run_due_schedules(limit: int, dry_run: bool, as_json: bool) -> None:
    """Create the tasks of all schedules that are due.

    For an external cron. A running loop does this by itself.
    """
    from zora_core.schedules import plan_schedules

    async def write() -> list[dict[str, Any]]:
        async with session() as zora:
            await plan_schedules(zora.database, zora.settings.tenant_id)
            return await zora.call("run_due_schedules", limit=limit, dry_run=dry_run)

    rows = run(write())
    if as_json:
        print_json(rows)
        return
    from zora_core.cli.render_schedules import print_due

    print_due(rows, dry_run=dry_run)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A schedule without the columns that only workers use."""
    return {name: value for name, value in row.items() if name not in ("upcoming", "handled_until", "plan_again_at")}


def _say(row: dict[str, Any], as_json: bool, said: str) -> None:
    if as_json:
        print_json(_shown(row))
        return
    from zora_core.cli.render_schedules import print_said

    print_said(row, said)


COMMANDS = (schedules, run_due_schedules)
