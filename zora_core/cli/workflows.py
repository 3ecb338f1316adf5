"""Commands for workflows: their definitions and their runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zora_core.cli.common import Session, json_option, print_json, run, session
from zora_core.suggested_command import zora_command

if TYPE_CHECKING:
    from zora_core.workflows import Workflow


async def _workflow(zora: Session, key: str) -> Workflow:
    from zora_core.workflows import choose

    return choose(await zora.call("list_workflows"), key)


@click.group()
def workflows() -> None:
    """Manage workflows, and run them."""


@workflows.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the tenant's workflows and the built-in ones."""
    from zora_core.workflows import parse, shipped

    async def read() -> list[dict[str, Any]]:
        async with session() as zora:
            return await zora.call("list_workflows")

    own = {row["key"]: parse(row["definition"]) for row in run(read())}
    found = {**shipped(), **own}
    if as_json:
        print_json([w.model_dump(mode="json") for _, w in sorted(found.items())])
        return
    from zora_core.cli.render_workflows import print_workflows

    print_workflows([found[key] for key in sorted(found)], set(own))


@workflows.command()
@click.argument("key")
@json_option
def show(key: str, as_json: bool) -> None:
    """Show a workflow's inputs, and its steps in the order in which they can run."""

    async def read() -> Workflow:
        async with session() as zora:
            return await _workflow(zora, key)

    workflow = run(read())
    if as_json:
        print_json(workflow)
        return
    from zora_core.cli.render_workflows import print_workflow

    print_workflow(workflow)


@workflows.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def save(file: Path, as_json: bool) -> None:
    """Save the definition in FILE (YAML or JSON) under its key."""
    from zora_core.agents.builtin import registry
    from zora_core.workflows import read

    workflow = read(file)
    workflow.check(registry())

    async def write() -> dict[str, Any]:
        async with session() as zora:
            (who,) = await zora.call("ensure_founder")
            definition = workflow.model_dump(mode="json")
            arguments = {"key": workflow.key, "name": workflow.name, "definition": definition}
            return (await zora.call("save_workflow", **arguments, user_id=who["id"]))[0]

    row = run(write())
    if as_json:
        print_json(row)
    else:
        click.echo(f"Saved {workflow.key}. `{zora_command('workflows', 'run', workflow.key)}` runs it.")


def _inputs(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Parse NAME=VALUE. A value that is valid JSON is read as JSON, any other as text."""
    found: dict[str, Any] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals:
            raise click.BadParameter(f"{value!r} is not of the form NAME=VALUE")
        try:
            found[name] = json.loads(text)
        except (ValueError, RecursionError):
            found[name] = text
    return found


@workflows.command("run")
@click.argument("key")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_inputs,
    help="Set an input; overrides its default.",
)
@json_option
def run_(key: str, inputs: dict[str, Any], as_json: bool) -> None:
    """Start a run of the workflow KEY. Its tasks are added to the queue."""
    from zora_core.agents.builtin import registry

    async def write() -> dict[str, Any]:
        async with session() as zora:
            workflow = await _workflow(zora, key)
            workflow.check(registry())
            (who,) = await zora.call("ensure_founder")
            with zora.permitting() as permit:
                (row,) = await zora.call(
                    "start_workflow_run",
                    workflow=workflow.key,
                    name=workflow.name,
                    definition=workflow.model_dump(mode="json"),
                    context={**workflow.inputs, **inputs},
                    tasks=workflow.tasks(inputs),
                    user_id=who["id"],
                )
                permit(task["id"] for task in await zora.call("list_workflow_run_tasks", id=row["id"]))
            return row

    row = run(write())
    if as_json:
        print_json(row)
        return
    from zora_core.cli.render import short

    command = zora_command("workflows", "status", short(row["id"]))
    click.echo(f"Started {row['name']}: `{command}` shows its progress.")


@workflows.command()
@click.option("--workflow", help="List only runs of this workflow.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
def runs(workflow: str | None, limit: int, as_json: bool) -> None:
    """List runs, newest first."""

    async def read() -> list[dict[str, Any]]:
        async with session() as zora:
            return await zora.call("list_workflow_runs", workflow=workflow, limit=limit)

    rows = run(read())
    if as_json:
        print_json(rows)
        return
    from zora_core.cli.render_workflows import print_runs

    print_runs(rows)


async def _run(zora: Session, run_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found = await zora.value("find_workflow_run", id=run_id)
    (row,) = await zora.call("list_workflow_runs", id=found)
    return row, await zora.call("list_workflow_run_tasks", id=found)


@workflows.command()
@click.argument("run_id", metavar="RUN")
@json_option
def status(run_id: str, as_json: bool) -> None:
    """Show the progress of a run and the results of its steps."""

    async def read() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        async with session() as zora:
            return await _run(zora, run_id)

    row, tasks = run(read())
    if as_json:
        from zora_core.workflows import result_of

        print_json({**row, "result": result_of(tasks), "steps": tasks})
        return
    from zora_core.cli.render_workflows import print_run

    print_run(row, tasks)


@workflows.command()
@click.argument("run_id", metavar="RUN")
@click.option("--reason", help="Reason, shown to people.")
def cancel(run_id: str, reason: str | None) -> None:
    """Cancel the unfinished tasks of a run."""

    async def write() -> int:
        async with session() as zora:
            found = await zora.value("find_workflow_run", id=run_id)
            (who,) = await zora.call("ensure_founder")
            return int(await zora.value("cancel_workflow_run", id=found, reason=reason, user_id=who["id"]))

    click.echo(f"{_tasks(run(write()))} cancelled.")


@workflows.command()
@click.argument("run_id", metavar="RUN")
def retry(run_id: str) -> None:
    """Run the failed steps of a run again, and the steps that depend on them."""

    async def write() -> int:
        async with session() as zora:
            found = await zora.value("find_workflow_run", id=run_id)
            (who,) = await zora.call("ensure_founder")
            return int(await zora.value("retry_workflow_run", id=found, user_id=who["id"]))

    click.echo(f"{_tasks(run(write()))} back in the queue.")


def _tasks(number: int) -> str:
    return "1 task is" if number == 1 else f"{number} tasks are"


COMMANDS = (workflows,)
