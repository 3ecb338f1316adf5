"""`zora demo`: twelve tasks, one of each type, on the example site and tenant."""

from __future__ import annotations

import dataclasses
import json
from typing import Any
from uuid import UUID

import click

from zora_core.cli.common import json_option, print_json, run

DEMO_TENANT_ID = UUID("00000000-0000-0000-0000-0000000000de")
DEMO_SLUG = "demo"


def demo_seed() -> dict[str, Any]:
    """The example tenant's records, and the example site's pages."""
    from zora_core.database.connect import example_pages
    from zora_core.settings import examples

    tenant = examples() / "tenant"
    seed = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in tenant.glob("*.json")}
    return {"pages": example_pages(), **seed}


def demo_tasks() -> list[dict[str, Any]]:
    """One task of each type, each on something in `examples/`."""
    from zora_core.settings import EXAMPLES, examples

    tasks: list[dict[str, Any]] = json.loads((examples() / "demo.json").read_text(encoding="utf-8"))
    for task in tasks:
        for name, value in task["payload"].items():
            if isinstance(value, str):
                task["payload"][name] = value.replace(EXAMPLES, str(examples()))
    return tasks


@click.command()
@json_option
@click.pass_context
def demo(ctx: click.Context, as_json: bool) -> None:
    """Run twelve example tasks, one of each type, on the example site.

    Uses the configured database, with a separate tenant `demo`. The data of other tenants is not touched.
    """
    from zora_core.autonomy.runtime import AgentRuntime, TaskRun
    from zora_core.cli.progress import Progress
    from zora_core.cli.render import console, print_runs, short, text
    from zora_core.database.connect import open_database
    from zora_core.settings import load_settings

    async def work() -> tuple[list[TaskRun], int]:
        settings = load_settings()
        database = await open_database(settings)
        settings = dataclasses.replace(settings, tenant_id=DEMO_TENANT_ID)
        try:
            await database.value("ensure_tenant", id=DEMO_TENANT_ID, name="Demo", slug=DEMO_SLUG)
            await database.value("seed_tenant", tenant_id=DEMO_TENANT_ID, seed=demo_seed())
            created = await database.call("create_agent_tasks", tenant_id=DEMO_TENANT_ID, tasks=demo_tasks())
            if not as_json:
                where = f"the embedded database, {settings.home}" if settings.embedded else settings.place
                said = (
                    f"{len(created)} tasks created for six agents, for the tenant {DEMO_SLUG} in {where}. Running them:"
                )
                console.print(text(said, "bold"))
            with Progress(quiet=as_json, lines=not as_json) as progress:
                runtime = AgentRuntime(settings=settings, database=database, observe=progress.observe)
                progress.runtime = runtime
                runs = await runtime.run_once(limit=len(created))
            proposed = await database.call(
                "list_agent_suggestions", tenant_id=DEMO_TENANT_ID, status="proposed", limit=1000
            )
            return runs, len(proposed)
        finally:
            await database.close()

    runs, proposed = run(work())
    if as_json:
        print_json(runs)
    else:
        console.print()
        print_runs(runs)
        sample = next((r for r in runs if r.task.task_type == "review_climate_page"), runs[0])
        completed = sum(r.status == "completed" for r in runs)
        console.print(f"\n{completed} of {len(runs)} completed; {proposed} suggestions wait for a person. Look next:")
        for command, what in (
            (f"tasks show {short(sample.task.id)}", "findings and evidence"),
            ("suggestions list", "what the agents propose"),
            ("journal", "what happened, in order"),
            ("memory search heat pump", "what EIVOR remembers"),
        ):
            console.print(f"  zora --tenant {DEMO_SLUG} {command:26} {what}")
    if any(one.status != "completed" for one in runs):
        ctx.exit(1)


COMMANDS = (demo,)
