"""Prints schedules. The times of a schedule are in its own zone."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.text import Text

from zora_core.cli.render import console, short, table, text, when
from zora_core.suggested_command import zora_command

MISFIRES = {
    "skip": "skipped",
    "run_once": "one task for all missed runs",
    "catch_up": "a task for each missed run, for the last {} at most",
}


def print_schedules(rows: list[dict[str, Any]], paused: set[str]) -> None:
    """A list of schedules; `paused` are the agents that are paused, * for all."""
    if not rows:
        console.print(text(f"No schedules yet. Create one with `{zora_command('schedules', 'create', '--help')}`."))
        return
    cells = (
        (
            text(row["name"]).append_text(text(f"\n  {row['agent_id']} {row['task_type']}", "dim")),
            text(row["cron"]).append_text(text(f"\n{row['timezone']}", "dim")),
            _next(row, paused).append_text(
                text(f"\nlast {_local(row['last_run_at'], row)}" if row["last_run_at"] else "", "dim")
            ),
        )
        for row in rows
    )
    console.print(table("+schedule", "when", "next", rows=cells))
    for row in rows:
        if row["problem"]:
            console.print(text(f"{row['name']}: {row['problem']}", "red"))
    if any(_is_unknown(row) for row in rows):
        loop, once = zora_command("run-loop"), zora_command("run-due-schedules")
        console.print(text(f"Any `{loop}`, or `{once}`, computes the next run where it is “unknown”.", "yellow"))


def _is_unknown(row: dict[str, Any]) -> bool:
    return row["enabled"] and row["next_run_at"] is None


def _next(row: dict[str, Any], paused: set[str]) -> Text:
    if not row["enabled"]:
        return text("paused", "dim")
    if _is_unknown(row):
        return text("unknown", "red")
    if paused & {"*", row["agent_id"]}:
        return text("agent is paused", "yellow")
    return text(_local(row["next_run_at"], row))


def _local(moment: datetime, row: dict[str, Any]) -> str:
    """A time in the schedule's zone, or in the reader's if the schedule's is invalid."""
    if row["problem"]:
        return when(moment)
    return moment.astimezone(ZoneInfo(row["timezone"])).strftime("%a %Y-%m-%d %H:%M")


def print_schedule(row: dict[str, Any], paused: set[str]) -> None:
    """Print all fields of one schedule."""
    console.print(text(row["name"], "bold"))
    facts: list[tuple[str, Any]] = [
        ("schedule", row["id"]),
        ("task", f"{row['agent_id']} {row['task_type']}"),
        ("titled", row["title"] or row["name"]),
        ("payload", json.dumps(row["payload"], ensure_ascii=False)),
        ("priority", row["priority"]),
        ("cron", f"{row['cron']}, {row['timezone']}"),
        ("next", _next(row, paused)),
        ("last", _local(row["last_run_at"], row) if row["last_run_at"] else "·"),
        ("last task", short(row["last_task_id"]) if row["last_task_id"] else "·"),
        ("when missed", MISFIRES[row["misfire_policy"]].format(row["max_catch_up"])),
        ("missed after", f"{row['grace_seconds']} s"),
        ("while a task is unfinished", "create none" if row["overlap_policy"] == "skip" else "create another one"),
    ]
    if row["problem"]:
        facts.append(("problem", text(row["problem"], "red")))
    console.print(table("", "+", rows=((text(name, "dim"), value) for name, value in facts)))


def print_said(row: dict[str, Any], said: str) -> None:
    """Print what was done with a schedule, and its next run."""
    if row["problem"]:
        console.print(text(f"{said} {row['problem']}", "red"))
    elif row["next_run_at"]:
        console.print(text(f"{said} {row['name']} runs next on {_local(row['next_run_at'], row)} ({row['timezone']})."))
    else:
        command = zora_command("schedules", "resume", row["name"])
        console.print(text(f"{said} {row['name']} does not run until `{command}`."))


def print_coming(coming: list[tuple[datetime, dict[str, Any]]], limit: int, hours: float) -> None:
    """Print fire times, earliest first."""
    if not coming:
        console.print(f"No runs in the next {hours:g} hours.")
        return
    cells = (
        (_local(time, row), row["timezone"], row["name"], row["agent_id"], row["task_type"])
        for time, row in coming[:limit]
    )
    console.print(table("time", "zone", "+schedule", "agent", "type", rows=cells))
    if len(coming) > limit:
        console.print(text(f"… and {len(coming) - limit:,} more: use --limit", "dim"))


def print_due(rows: list[dict[str, Any]], *, dry_run: bool) -> None:
    """Print what was done, or would be done, with schedules that are due."""
    if not rows:
        console.print("No schedule is due.")
        return
    cells = (
        (
            row["name"],
            len(row["fire_times"]),
            row["passed_over"] or text("·", "dim"),
            text(row["why"] or "", "yellow"),
            text(", ".join(short(task) for task in row["task_ids"][:4]) + (" …" if len(row["task_ids"]) > 4 else "")),
        )
        for row in rows
    )
    columns = ("+schedule", ">tasks", ">skipped", "why", "created")
    console.print(table(*columns, rows=cells))
    if dry_run:
        console.print(text("Nothing was done: --dry-run.", "dim"))
