"""Prints a task's relations: the tree of delegations, and its dependencies."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from rich.text import Text

from zora_core.cli.render import COLOURS, console, short, text

MAX_LINES = 60
_RELATIONS = {"depends_on": "Depends on", "dependent": "Waited for by"}


def print_dependencies(edges: list[dict[str, Any]]) -> None:
    """What a task waits for, and what waits for it, besides children and parent: those stand in the tree."""
    for relation, title in _RELATIONS.items():
        found = [edge for edge in edges if edge["relation"] == relation]
        if not found:
            continue
        console.print(text(f"\n{title}", "bold"))
        for edge in found[:MAX_LINES]:
            name = edge["name"] if relation == "depends_on" else ""
            console.print(_line("  ", edge, name).append_text(text(f"  on failure: {edge['on_failure']}", "dim")))
        _print_rest(len(found) - MAX_LINES)


def print_tree(rows: list[dict[str, Any]], task_id: Any) -> None:
    """The tree of delegations that a task belongs to, from its root; the task itself is marked. None for one alone."""
    if len(rows) < 2:
        return
    below: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        below[row["parent_id"]].append(row)
    lines: list[Text] = []

    def add(row: dict[str, Any], first: str, rest: str) -> None:
        line = _line(first, row, row["key"] or "")
        lines.append(line.append_text(text("  ◄ this task", "dim")) if row["id"] == task_id else line)
        children = below[row["id"]]
        for child in children:
            last = child is children[-1]
            add(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))

    add(rows[0], "  ", "  ")
    console.print(text("\nTree", "bold"))
    for line in lines[:MAX_LINES]:
        console.print(line)
    _print_rest(len(lines) - MAX_LINES)


def _line(prefix: str, row: dict[str, Any], name: str) -> Text:
    state = row["status"]
    detail = row["waiting_for"] or row.get("failure_kind")
    line = Text(prefix, style="dim")
    if name:
        line.append_text(text(f"{name}: ", ""))
    line.append_text(text(f"{row['agent_id']} {row['task_type']}  "))
    line.append_text(text(state + (f" ({detail})" if detail else ""), COLOURS[state]))
    return line.append_text(text(f"  {short(row['id'])}", "dim"))


def _print_rest(number: int) -> None:
    if number > 0:
        console.print(text(f"  and {number:,} more: see --json", "dim"))
