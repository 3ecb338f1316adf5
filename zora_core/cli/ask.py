"""`zora ask`: a sentence becomes a plan by LUMINA, and the plan, once approved, a run."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from zora_core.cli.common import Session, json_option, need_terminal, print_json, run, session
from zora_core.errors import InvalidState
from zora_core.suggested_command import zora_command

FIRST = 1_000_000  # the highest priority: a person waits
SECONDS = 120.0  # for the plan, when somebody else's worker makes it


@click.command()
@click.argument("sentence", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Approve the plan without asking.")
@json_option
def ask(sentence: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Let LUMINA turn SENTENCE into a plan, and run it after you approve it.

    Before your approval only the task that makes the plan is created.
    """
    from zora_core.cli.render import console, short, text
    from zora_core.cli.render_decisions import approval_question, print_change

    if not (yes or as_json):
        need_terminal("pass --yes to approve the plan, or --json to get the plan as a suggestion")

    async def work() -> dict[str, Any]:
        async with session() as zora:
            task = await _planned(zora, " ".join(sentence))
            if task["status"] != "completed":
                raise InvalidState(f"there is no plan: {task['error_message']}")
            plan = await _plan(zora, task)
            if plan is None:
                return {"summary": task["result_summary"], "plan": None, "run": None}
            if plan["status"] == "proposed" and not as_json:
                print_change(plan, [])
            if not yes and (as_json or not click.confirm(approval_question(plan))):
                return {"summary": task["result_summary"], "plan": plan, "run": None}
            (who,) = await zora.call("ensure_founder")
            with zora.permitting() as permit:
                (plan,) = await zora.call(
                    "decide_agent_suggestion",
                    id=plan["id"],
                    decision="approve",
                    digest=plan["effect_digest"],
                    user_id=who["id"],
                )
                runs = await zora.call("list_workflow_runs", workflow=plan["target"]["key"], limit=1)
                for one in runs:
                    permit(step["id"] for step in await zora.call("list_workflow_run_tasks", id=one["id"]))
            return {"summary": task["result_summary"], "plan": plan, "run": runs[0] if runs else None}

    came = run(work())
    if as_json:
        print_json(came)
    elif came["plan"] is None:
        console.print(text(came["summary"]))
    elif came["run"] is None:
        console.print(
            text(f"It waits as a suggestion: `{zora_command('suggestions', 'show', short(came['plan']['id']))}`.")
        )
    else:
        console.print(
            text(f"Started. `{zora_command('workflows', 'status', short(came['run']['id']))}` shows its progress.")
        )


async def _plan(zora: Session, task: dict[str, Any]) -> dict[str, Any] | None:
    """The plan that the task proposes, or the same plan of an earlier task that still waits for a decision."""
    wanted = [s["target"] for s in task["result"]["suggestions"] if s["suggestion_type"] == "create_workflow"]
    rows = await zora.call("list_agent_suggestions", task_id=task["id"])
    rows += await zora.call("list_agent_suggestions", status="proposed", agent_id="LUMINA", limit=1000)
    return next((row for row in rows if row["target"] in wanted), None)


async def _planned(zora: Session, goal: str) -> dict[str, Any]:
    """The task of planning, when it has ended; it is done here unless another worker is faster."""
    from zora_core.autonomy.runtime import AgentRuntime

    task = {"agent_id": "LUMINA", "task_type": "plan_workflow", "title": goal[:500], "payload": {"goal": goal}}
    with zora.permitting() as permit:
        (created,) = await zora.call("create_agent_tasks", tasks=[{**task, "priority": FIRST}])
        permit([created["id"]])
    await AgentRuntime(settings=zora.settings, database=zora.database).run_once(limit=1)
    async with asyncio.timeout(SECONDS):
        while True:
            row = await zora.task(str(created["id"]))
            if row["status"] in ("completed", "failed"):
                return row
            await asyncio.sleep(0.2)


COMMANDS = (ask,)
