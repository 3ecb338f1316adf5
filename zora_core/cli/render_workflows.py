"""Prints workflows and their runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zora_core.cli.render import COLOURS, console, one_line, short, table, text, when
from zora_core.shapes import as_object
from zora_core.suggested_command import zora_command

if TYPE_CHECKING:
    from zora_core.workflows import Step, Workflow

COLOURS |= {"running": "cyan", "waiting": "yellow"}


def print_workflows(workflows: list[Workflow], own: set[str]) -> None:
    """A list of definitions."""
    rows = (
        (w.key, str(len(w.steps)), text("yours" if w.key in own else "shipped", "" if w.key in own else "dim"), w.name)
        for w in workflows
    )
    console.print(table("workflow", ">steps", "from", "+name", rows=rows))


def print_workflow(workflow: Workflow) -> None:
    """A definition, drawn as rows: what stands in one may run at the same time."""
    from zora_core.workflows import upstream

    console.print(text(workflow.name, "bold"))
    if workflow.description:
        console.print(text(workflow.description))
    if workflow.inputs:
        given = ", ".join(f"{name} = {value}" for name, value in workflow.inputs.items())
        console.print(text(f"inputs: {given}", "dim"))
    levels = workflow.levels()
    width = max(len(step.key) for step in workflow.steps)
    for number, row in enumerate(levels):
        console.print(text("│" if number else "", "dim"))
        for position, step in enumerate(row):
            mark = "┬" if number == 0 and position == 0 else "├" if position < len(row) - 1 else "└"
            line = text(f"{mark}─ ", "dim").append_text(text(step.key.ljust(width), "bold"))
            line.append_text(text(f"  {step.agent_id} {step.task_type}"))
            after = ", ".join(_edge(step, name) for name in upstream(step))
            line.append_text(text(f"  after {after}" if after else "", "dim"))
            console.print(line.append_text(text("  asks a person first" if step.ask_first else "", "yellow")))


def _edge(step: Step, name: str) -> str:
    policy = next((e.on_failure for e in step.depends_on if not isinstance(e, str) and e.key == name), "fail")
    said = {"fail": "", "skip": " (skipped if it fails)", "continue": " (even if it fails)"}
    return name + said[policy]


def print_runs(rows: list[dict[str, Any]]) -> None:
    """A list of runs."""
    if not rows:
        start, names = zora_command("workflows", "run", "KEY"), zora_command("workflows", "list")
        console.print(text(f"No runs yet. `{start}` starts one; `{names}` lists the keys."))
        return
    cells = (
        (
            short(row["id"]),
            row["workflow"],
            text(row["status"]),
            f"{row['ended']} of {row['tasks']}",
            when(row["created_at"]),
            when(row["finished_at"]),
        )
        for row in rows
    )
    console.print(table("run", "workflow", "status", "ended", "started", "finished", rows=cells))


def print_run(row: dict[str, Any], tasks: list[dict[str, Any]]) -> None:
    """A run, step by step."""
    console.print(text(row["name"], "bold"))
    facts = [
        ("run", row["id"]),
        ("status", text(row["status"])),
        ("ended", f"{row['ended']} of {row['tasks']} steps"),
        ("started", when(row["created_at"])),
    ]
    if row["finished_at"]:
        facts.append(("finished", when(row["finished_at"])))
    if row["context"]:
        facts.append(("inputs", ", ".join(f"{name} = {value}" for name, value in as_object(row["context"]).items())))
    console.print(table("", "+", rows=((text(name, "dim"), value) for name, value in facts)))
    console.print()
    width = max((len(task["step"]) for task in tasks), default=0)
    for task in tasks:
        state = "/".join(filter(None, (task["status"], task["waiting_for"] or task["failure_kind"])))
        line = text(task["step"].ljust(width), "bold")
        line.append_text(text(f"  {short(task['id'])}  ", "dim"))
        line.append_text(text(state, COLOURS.get(task["status"], "")))
        line.append_text(text(f"  {task['agent_id']} {task['task_type']}"))
        after = ", ".join(task["depends_on"])
        console.print(line.append_text(text(f"  after {after}" if after else "", "dim")))
        said = task["result_summary"] or task["error_message"]
        if said:
            console.print(text(f"{' ' * width}  {one_line(said, 160)}", "dim"))
    if row["status"] == "waiting":
        command = zora_command("suggestions", "list", "--status", "proposed")
        console.print(text(f"\nA person is asked: `{command}`.", "yellow"))
