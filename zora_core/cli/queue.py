"""Commands for tasks: create, list, show, explain, cancel, retry, prune."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from zora_core.cli.common import Session, json_option, print_json, read_json, run, session
from zora_core.suggested_command import completed, zora_command

if TYPE_CHECKING:
    from zora_core.client.agents import Pause
    from zora_core.client.calls import Count
    from zora_core.client.tasks import CreatedTask, Dependency, TaskCount, TreeTask
    from zora_core.models import JournalEntry, SuggestionRecord, TaskRecord

MAX_COUNTED = 1_000_000  # suggestions; counting so many takes a second
AGENTS = ("CONNOR", "LUMINA", "EIVOR", "ORACLE", "AEGIS", "SAM")
_moment = click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z"])
_agent = click.Choice(AGENTS, case_sensitive=False)
_status = click.Choice(("pending", "in_progress", "completed", "failed"))


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Count each agent's tasks by state."""

    async def read() -> tuple[list[TaskCount], Count, list[Pause]]:
        async with session() as zora:
            return (
                await zora.client.tasks.counts(),
                await zora.client.suggestions.count(status="proposed", exact_up_to=MAX_COUNTED),
                await zora.client.agents.pauses(),
            )

    counts, proposed, pauses = run(read())
    if as_json:
        said = {"suggestions_proposed": proposed.total, "suggestions_proposed_is_more": proposed.is_estimate}
        print_json({"tasks": counts, **said, "paused": pauses})
        return
    from zora_core.cli.render import print_status
    from zora_core.cli.render_decisions import print_pauses

    print_status(counts, proposed)
    print_pauses(pauses)


@click.command("create-task")
@click.argument("agent_argument", metavar="[AGENT", required=False)
@click.argument("type_argument", metavar="TYPE", required=False)
@click.argument("title_argument", metavar="TITLE]", required=False)
@click.option("--agent", help="Agent that runs the task: CONNOR, LUMINA, EIVOR, ORACLE, AEGIS or SAM.")
@click.option("--type", "task_type", help="A task type of the agent; see `zora task-types`.")
@click.option("--title", help="Title, shown to people.")
@click.option("--description", help="Description, shown to people.")
@click.option("--payload", default="{}", metavar="JSON", help="The task's parameters as a JSON object.")
@click.option("--priority", type=int, default=0, show_default=True, help="Higher runs first.")
@click.option("--run-at", type=_moment, help="Earliest time to run.")
@click.option("--deadline", type=_moment, help="The task fails if it has not started by this time.")
@click.option("--max-attempts", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.IntRange(1, 86400),
    help="Time limit of an attempt, in seconds [the task type's].",
)
@click.option("--idempotency-key", help="If a task with this key exists, no second one is created.")
@json_option
def create_task(
    agent_argument: str | None,
    type_argument: str | None,
    title_argument: str | None,
    agent: str | None,
    task_type: str | None,
    title: str | None,
    payload: str,
    run_at: Any,
    deadline: Any,
    as_json: bool,
    **fields: Any,
) -> None:
    """Create a task: `create-task AGENT TYPE TITLE`, or with --agent, --type and --title."""
    from zora_core.agents.builtin import registry

    names = {
        "agent": agent or agent_argument,
        "type": task_type or type_argument,
        "title": title or title_argument,
    }
    for name, value in names.items():
        if not value:
            raise click.UsageError(f"missing --{name} (or the argument {name.upper()})")
    agent_id = _agent.convert(names["agent"], None, None)
    try:
        parsed = read_json(payload)
    except click.BadParameter as error:
        error.param_hint = "--payload"
        raise
    if not isinstance(parsed, dict):
        raise click.BadParameter(f"must be a JSON object, not {payload}", param_hint="--payload")
    registry().find(agent_id, names["type"] or "").parse(parsed)
    about = {"title": names["title"], "run_at": run_at, "deadline_at": deadline, **fields}

    async def create() -> tuple[CreatedTask, str]:
        async with session() as zora:
            with zora.permitting() as permit:
                row = await zora.client.tasks.create(agent_id, names["type"] or "", parsed, **about)
                if row.created:
                    permit([row.id])
            return row, await _what_next(zora, row)

    row, what_next = run(create())
    if as_json:
        print_json(row)
    elif row.created:
        click.echo(f"Created task {row.id}: {row.agent_id} {row.task_type}. {what_next}")
    else:
        click.echo(f"Task {row.id} with this idempotency key exists already ({row.status}); nothing was created.")


async def _what_next(zora: Session, row: TaskRecord) -> str:
    """How to run a new task."""
    from zora_core.cli.render import short, when

    if row.waiting_for == "approval":
        asked = await zora.client.suggestions.list(task_id=row.id, status="proposed", limit=1)
        return f"It waits for approval: `{zora_command('suggestions', 'approve', *(short(s.id) for s in asked))}`."
    if row.waiting_for == "run_at":
        return f"`{zora_command('run-loop')}` runs it at {when(row.run_at)}."
    return f"Run it with `{zora_command('run-once')}`."


@click.command("task-types")
@json_option
def task_types(as_json: bool) -> None:
    """List the task types of every agent, with their payloads."""
    from zora_core.agents.builtin import registry

    types = list(registry())
    if as_json:
        print_json(
            [
                {
                    "agent_id": t.agent_id,
                    "task_type": t.name,
                    "description": t.description,
                    "timeout_seconds": t.timeout_seconds,
                    "payload_schema": t.schema,
                }
                for t in types
            ]
        )
        return
    from zora_core.cli.render import print_task_types

    print_task_types(types)


@dataclass(frozen=True)
class TaskReport:
    """A task, and what `tasks show` says about it."""

    task: TaskRecord
    explanation: str
    journal: list[JournalEntry]
    dependencies: list[Dependency]
    tree: list[TreeTask]
    suggestions: list[SuggestionRecord]


@click.group()
def tasks() -> None:
    """List, show, explain, cancel, retry and prune tasks."""


@tasks.command("list")
@click.option("--agent", type=_agent)
@click.option("--status", type=_status)
@click.option("--type", "task_type", help="A task type.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--offset", type=click.IntRange(0), default=0)
@json_option
def list_(agent: str | None, status: str | None, task_type: str | None, limit: int, offset: int, as_json: bool) -> None:
    """List tasks, highest priority first, then oldest."""

    async def read() -> tuple[list[TaskRecord], Count]:
        async with session() as zora:
            every = zora.client.tasks
            counted = await every.count(agent_id=agent, status=status, task_type=task_type)
            listed = await every.list(
                agent_id=agent, status=status, task_type=task_type, limit=limit, offset=offset, with_result=as_json
            )
            return listed, counted

    rows, counted = run(read())
    if as_json:
        print_json(rows)
        return
    from zora_core.cli.render import print_more, print_tasks

    print_tasks(rows)
    if rows:
        print_more(offset + len(rows), counted)


@tasks.command()
@click.argument("task")
@json_option
def show(task: str, as_json: bool) -> None:
    """Show one task: its result with findings and evidence, suggestions, journal entries and related tasks."""

    async def read() -> TaskReport:
        async with session() as zora:
            found = await zora.client.tasks.get(task)
            return TaskReport(
                task=found,
                explanation=await zora.client.tasks.explain(found.id),
                journal=await zora.client.journal.list(task_id=found.id, limit=100),
                dependencies=await zora.client.tasks.dependencies(found.id),
                tree=await zora.client.tasks.tree(found.id),
                suggestions=await zora.client.suggestions.list(task_id=found.id, limit=1000),
            )

    report = run(read())
    if as_json:
        about = {field.name: getattr(report, field.name) for field in fields(report) if field.name != "task"}
        print_json({**report.task.model_dump(exclude_unset=True, warnings=False), **about})
        return
    from zora_core.cli.render import print_task
    from zora_core.cli.render_tree import print_dependencies, print_tree

    print_task(report.task, completed(report.explanation), report.journal, report.suggestions)
    print_dependencies(report.dependencies)
    print_tree(report.tree, report.task.id)


@tasks.command()
@click.argument("task")
@json_option
def explain(task: str, as_json: bool) -> None:
    """Say in one sentence why a task is not running."""

    async def read() -> tuple[TaskRecord, str]:
        async with session() as zora:
            row = await zora.client.tasks.get(task)
            return row, await zora.client.tasks.explain(row.id)

    row, explanation = run(read())
    if as_json:
        print_json({"id": row.id, "status": row.status, "explanation": explanation})
    else:
        click.echo(completed(explanation))


@tasks.command()
@click.argument("task")
@click.option("--reason", help="Reason, stored in the journal.")
@json_option
def cancel(task: str, reason: str | None, as_json: bool) -> None:
    """Cancel a pending task, or ask a running one to stop."""

    async def write() -> TaskRecord:
        async with session() as zora:
            row = await zora.client.tasks.get(task)
            return await zora.client.tasks.cancel(row.id, reason=reason)

    row = run(write())
    if as_json:
        print_json(row)
    elif row.status == "failed":
        click.echo(f"Cancelled task {row.id}.")
    else:
        click.echo(f"Task {row.id} is running; its worker will stop it within seconds.")


@tasks.command()
@click.argument("task")
@json_option
def retry(task: str, as_json: bool) -> None:
    """Put a failed task back into the queue."""

    async def write() -> TaskRecord:
        async with session() as zora:
            row = await zora.client.tasks.get(task)
            return await zora.client.tasks.retry(row.id)

    row = run(write())
    if as_json:
        print_json(row)
    else:
        click.echo(f"Task {row.id} is pending again.")


@tasks.command()
@click.argument("task")
@click.argument("number", metavar="PRIORITY", type=click.IntRange(-1_000_000, 1_000_000))
@json_option
def priority(task: str, number: int, as_json: bool) -> None:
    """Set the priority of a pending task; higher runs first."""

    async def write() -> TaskRecord:
        async with session() as zora:
            row = await zora.client.tasks.get(task)
            return await zora.client.tasks.set_priority(row.id, priority=number)

    row = run(write())
    if as_json:
        print_json(row)
    else:
        click.echo(f"Task {row.id} has priority {row.priority}.")


@tasks.command()
@click.option("--older-than-days", type=click.FloatRange(0, min_open=True), required=True)
@json_option
def prune(older_than_days: float, as_json: bool) -> None:
    """Delete finished tasks. Their journal entries and memories stay. ZORA never deletes tasks by itself."""

    async def write() -> int:
        deleted, batch = 0, 1000
        async with session() as zora:
            while True:
                count = await zora.client.tasks.prune(older_than_seconds=older_than_days * 86400, limit=batch)
                deleted += count
                if count < batch:
                    return deleted

    deleted = run(write())
    if as_json:
        print_json({"deleted": deleted})
    else:
        click.echo(f"Deleted {deleted:,} finished tasks.")


COMMANDS = (status, create_task, tasks, task_types)
