"""Running the agents: run-once and run-loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from zora_core.cli.common import Session, json_option, print_json, run, session
from zora_core.cli.interrupts import ending_soon
from zora_core.suggested_command import zora_command

sleep_option = click.option(
    "--sleep-seconds", type=click.FloatRange(0, min_open=True), default=30, show_default=True,
    help="How often to look for tasks when no notification comes.",
)  # fmt: skip


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that runs tasks, named as `AgentRuntime` names its arguments."""
    for name, what in (("--types", "task types"), ("--agents", "agents")):
        command = click.option(
            name, f"only_{name[2:]}", multiple=True, metavar="NAME[,NAME…]", callback=_names,
            help=f"Run only tasks of these {what} (default: all that are installed).",
        )(command)  # fmt: skip
    return click.option(
        "--concurrency", type=click.IntRange(1, 1000), default=4, show_default=True, help="Tasks at a time."
    )(command)


def _names(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


@click.command("run-once")
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="At most this many tasks.")
@worker_options
@json_option
@click.pass_context
def run_once(ctx: click.Context, /, limit: int, as_json: bool, **options: Any) -> None:
    """Work through claimable tasks and exit; status 1 when one of them failed."""
    from zora_core.autonomy.runtime import AgentRuntime
    from zora_core.cli.progress import Progress
    from zora_core.cli.render import print_runs

    async def work() -> bool:
        async with session() as zora:
            with Progress(quiet=as_json) as progress:
                runtime = AgentRuntime(
                    settings=zora.settings, database=zora.database, observe=progress.observe, **options
                )
                progress.runtime = runtime
                runs = await runtime.run_once(limit=limit)
            idle = "" if runs or as_json else await _why_none(zora)
        if as_json:
            print_json(runs)
        elif runs:
            print_runs(runs)
        else:
            click.echo(idle)
        return all(one.status == "completed" for one in runs)

    if not run(work()):
        ctx.exit(1)


async def _why_none(zora: Session) -> str:
    """The message when no task was claimed: which ready tasks have a type that is not installed here."""
    from zora_core.agents.builtin import registry

    known = {str(task_type) for task_type in registry()}
    pending = await zora.call("list_agent_tasks", status="pending", limit=1000)
    ready = [f"{row['agent_id']} {row['task_type']}" for row in pending if row["waiting_for"] is None]
    foreign = [kind for kind in ready if kind not in known]
    if not foreign:
        status, create = zora_command("status"), zora_command("create-task", "--help")
        return f"No task is claimable. See `{status}`, or create one as `{create}` shows."
    many = "ready task has", "ready tasks have"
    kinds = ", ".join(sorted(set(foreign)))
    from zora_core.wording import count

    return f"No task is claimable: {count(len(foreign), *many)} a type that is not installed here: {kinds}."


@click.command("run-loop")
@sleep_option
@worker_options
def run_loop(sleep_seconds: float, **options: Any) -> None:
    """Work through tasks as they come, until Ctrl-C (twice: do not wait for running tasks)."""
    from zora_core.autonomy.runtime import AgentRuntime, on_signals
    from zora_core.cli.progress import Progress

    async def work() -> None:
        async with session(wait=True) as zora:
            with Progress(lines=True) as progress:
                runtime = AgentRuntime(
                    settings=zora.settings, database=zora.database, observe=progress.observe, **options
                )
                click.echo(
                    f"Waiting for tasks of tenant {zora.settings.tenant_id} in {zora.settings.place}; Ctrl-C to stop.",
                    err=True,
                )
                with on_signals(runtime.stop):
                    await runtime.run_loop(sleep_seconds=sleep_seconds)

    with ending_soon():
        run(work())


COMMANDS = (run_once, run_loop)
