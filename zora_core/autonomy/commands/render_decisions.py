"""Suggestions, policies and decisions as people read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.text import Text

from zora_core.autonomy.commands.render import COLOURS, console, evidence_line, one_line, short, table, text, when
from zora_core.errors import ZoraError
from zora_core.shapes import pieces_of

MAX_CHANGES = 12  # of an effect that are shown
MAX_EVIDENCE = 12
COLOURS |= {
    "proposed": "yellow",
    "approved": "cyan",
    "applied": "green",
    "rejected": "red",
    "expired": "dim",
    "superseded": "dim",
}


def print_suggestions(rows: list[dict[str, Any]]) -> None:
    """A list of suggestions."""
    if not rows:
        console.print("No suggestions match.")
        return
    cells = (
        (
            short(row["id"]),
            row["agent_id"],
            row["suggestion_type"],
            _state(row),
            text(row["risk_level"], "" if row["risk_level"] == "low" else "yellow"),
            row["title"],
        )
        for row in rows
    )
    console.print(table("suggestion", "agent", "type", "status", "risk", "+title", rows=cells))


def _state(row: dict[str, Any]) -> Text:
    return text("undone", "dim") if row["undone_at"] else text(row["status"])


def print_suggestion(row: dict[str, Any], preview: list[dict[str, Any]]) -> None:
    """Everything about one suggestion; `preview` is what its changes expect and would find."""
    print_change(row, preview)
    facts = [
        ("suggestion", row["id"]),
        ("from", f"{row['agent_id']}" + (f", task {short(row['task_id'])}" if row["task_id"] else "")),
        ("type", row["suggestion_type"]),
        ("target", json.dumps(row["target"], ensure_ascii=False)),
        ("status", _state(row)),
        ("risk", row["risk_level"]),
        ("digest", row["effect_digest"]),
    ]
    if row["status"] == "proposed" and row["expires_at"]:
        facts.append(("decide until", when(row["expires_at"])))
    if row["decided_as"]:
        facts.append(("decided by", f"{row['decided_as']}, {when(row['decided_at'])}"))
    if row["reason"]:
        facts.append(("because", row["reason"]))
    for name, other in (("instead of", row["supersedes"]), ("replaced by", row["superseded_by"])):
        if other:
            facts.append((name, short(other)))
    console.print()
    console.print(table("", "+", rows=((text(name, "dim"), value) for name, value in facts)))
    console.print(text("\nEvidence", "bold"))
    for evidence in pieces_of(row["evidence"])[:MAX_EVIDENCE]:
        console.print(text(f"  {evidence_line(evidence)}"))
    if len(row["evidence"]) > MAX_EVIDENCE:
        console.print(text(f"  … and {len(row['evidence']) - MAX_EVIDENCE} more", "dim"))
    if row["findings"]:
        console.print(text(f"  from finding {', '.join(row['findings'][:6])} of its task", "dim"))
    if row["status"] == "proposed":
        one = short(row["id"])
        console.print(text(f"\n`zora suggestions approve {one}` or `zora suggestions reject {one}` decides it.", "dim"))


def print_change(row: dict[str, Any], preview: list[dict[str, Any]]) -> None:
    """What a suggestion does, and the difference it makes to what is there now."""

    console.print(text(row["title"], "bold"))
    if row["body"]:
        console.print(text(row["body"]))
    console.print(text(f"\n{_what(row)}", "bold" if row["effect"] else "dim"))
    if row["effect"] is None:
        if row["suggested_value"] is not None:
            console.print(text(json.dumps(row["suggested_value"], ensure_ascii=False, indent=2)))
        return
    changes = row["effect"]["changes"]
    open_ = row["status"] == "proposed"
    found = [p["found"] if open_ and p["expected"] != p["found"] else _SAME for p in preview] if preview else []
    for number, change in enumerate(changes[:MAX_CHANGES]):
        now = found[number] if number < len(found) else _SAME
        for line in _difference(change, now):
            console.print(line)
        said = row["current_value"].get(change.get("key")) if isinstance(row["current_value"], dict) else None
        if isinstance(said, dict) and said.get("content"):
            console.print(text(f"    “{one_line(said['content'], 100)}”", "dim"))
    if len(changes) > MAX_CHANGES:
        console.print(text(f"  … and {len(changes) - MAX_CHANGES} more changes: use --json", "dim"))


_SAME = object()


def _difference(change: dict[str, Any], now: Any) -> Iterator[Text]:
    """A change as lines: where, what goes (-), what comes (+), and what is there by now if it is something else (!)."""
    match change["op"]:
        case "insert":
            yield text(f"  {change['table']}: a new row", "dim")
            for name, value in change["row"].items():
                if value is not None:
                    yield text(f"  + {name}: {_shown(value)}", "green")
        case "update":
            where = change["key"] if change["table"] != "memory_events" else short(change["key"])
            yield text(f"  {change['table']} {where}", "dim")
            for name, value in change["after"].items():
                place = ".".join([name, *change.get("path", ())])
                if change["before"].get(name) == value:
                    continue
                yield text(f"  - {place}: {_shown(change['before'].get(name))}", "red")
                if now is None:
                    yield text("  ! it is gone by now", "yellow")
                elif now is not _SAME:
                    yield text(f"  ! {place} is {_shown(now.get(name))} by now", "yellow")
                yield text(f"  + {place}: {_shown(value)}", "green")
        case "create_tasks":
            for task in change["tasks"]:
                after = ", ".join(d if isinstance(d, str) else d["key"] for d in task.get("depends_on", ()))
                what = f"{task['agent_id']} {task['task_type']}, “{task['title']}”"
                line = text(f"  + task {task['key']}: {what}", "green")
                yield line.append_text(text(f", after {after}" if after else "", "dim"))
        case "release_task":
            yield text(f"  task {short(change['id'])}, payload {_shown(change['payload'])}", "dim")


def _shown(value: Any) -> str:
    return one_line(json.dumps(value, ensure_ascii=False), 200)


def print_decision(row: dict[str, Any]) -> None:
    """What became of a suggestion."""
    one = short(row["id"])
    if row["undone_at"]:
        console.print(text(f"Undone: {row['title']}"))
    elif row["status"] == "applied":
        console.print(text(f"Applied: {row['title']}", "green"))
        if row["inverse"]:
            console.print(text(f"`zora suggestions undo {one}` takes it back.", "dim"))
    elif row["status"] == "approved" and row["effect"]:
        console.print(
            text(f"Approved: {row['title']}\n{row['agent_id']} is paused; it is applied after `zora resume`.")
        )
    elif row["status"] == "approved":
        console.print(text(f"Agreed: {row['title']}"))
    elif row["status"] == "rejected":
        console.print(text(f"Rejected: {row['title']}"))
    else:
        console.print(text(f"Not applied, because its target has changed since: {row['title']}", "yellow"))
        if row["superseded_by"]:
            console.print(f"It is proposed anew: `zora suggestions show {short(row['superseded_by'])}`.")


def _what(row: dict[str, Any]) -> str:
    from zora_core.effects import describe

    try:
        return describe(row)
    except (ZoraError, ValueError):  # of a type, or with a value, that this version does not know
        return "What it does is listed change by change."


def print_pauses(rows: list[dict[str, Any]]) -> None:
    """What is paused; nothing when nothing is."""
    for row in rows:
        what = "Everything" if row["agent_id"] == "*" else row["agent_id"]
        because = f": {row['reason']}" if row["reason"] else ""
        again = "zora resume" if row["agent_id"] == "*" else f"zora resume {row['agent_id']}"
        console.print(
            text(f"{what} is paused since {when(row['created_at'])}{because} (`{again}` lifts it).", "yellow")
        )


def print_policies(rows: list[dict[str, Any]]) -> None:
    """What holds for which task types."""
    if not rows:
        console.print("No policies: tasks run without asking, and a person is asked about every effect.")
        return
    cells = (
        (
            row["task_type"],
            "without asking" if row["auto_execute"] else text("after approval", "yellow"),
            f"up to {row['max_risk_level']} risk" if row["max_risk_level"] else "never",
            f"{row['decide_within_hours'] or 720} h",
            "this tenant" if row["tenant_id"] else "everybody",
        )
        for row in rows
    )
    console.print(table("task type", "tasks run", "+applied without asking", "+to be decided in", "set by", rows=cells))
