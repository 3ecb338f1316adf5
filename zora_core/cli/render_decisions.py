"""Suggestions, policies and decisions as people read them."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import click
from rich.text import Text

from zora_core.cli.output import echo_rendered
from zora_core.cli.render import COLOURS, console, evidence_line, short, table, text, when
from zora_core.errors import ZoraError
from zora_core.shapes import pieces_of
from zora_core.suggested_command import zora_command
from zora_core.visible import odd_words

MAX_EVIDENCE = 12  # pieces that are shown
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


def print_suggestion(row: dict[str, Any], preview: list[dict[str, Any]], problem: str | None = None) -> None:
    """Everything about one suggestion; `preview` is what its changes expect and would find, `problem` why not."""
    print_change(row, preview, problem)
    facts = [
        ("suggestion", row["id"]),
        ("from", f"{row['agent_id']}" + (f", task {short(row['task_id'])}" if row["task_id"] else "")),
        ("proposed by", row["proposed_as"] or ""),
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
    for name, other in (
        ("instead of", row["supersedes"]),
        ("replaced by", row["superseded_by"]),
        ("no longer found by", row["closed_by_task_id"] and f"task {short(row['closed_by_task_id'])}"),
    ):
        if other:
            facts.append((name, other if name == "no longer found by" else short(other)))
    console.print()
    console.print(table("", "+", rows=((text(name, "dim"), value) for name, value in facts if value != "")))
    console.print(text("\nEvidence", "bold"))
    for evidence in pieces_of(row["evidence"])[:MAX_EVIDENCE]:
        console.print(text(f"  {evidence_line(evidence)}"))
    if len(row["evidence"]) > MAX_EVIDENCE:
        console.print(text(f"  … and {len(row['evidence']) - MAX_EVIDENCE} more: use --json", "dim"))
    if row["findings"]:
        console.print(text(f"  from finding {', '.join(row['findings'][:6])} of its task", "dim"))
    if row["status"] == "proposed":
        one = short(row["id"])
        approve, reject = (zora_command("suggestions", verb, one) for verb in ("approve", "reject"))
        console.print(text(f"\n`{approve}` or `{reject}` decides it.", "dim"))


def print_change(row: dict[str, Any], preview: list[dict[str, Any]], problem: str | None = None) -> None:
    """What a suggestion does, whole, and what its targets hold now: nothing of what is approved is left out."""

    _line(row["title"], "bold")
    if row["body"]:
        _line(row["body"])
    _line(f"\n{_what(row)}", "bold" if row["effect"] else "dim")
    if row["effect"] is None:
        if row["current_value"] is not None:
            _value("  what it says is there", row["current_value"], "dim")
        if row["suggested_value"] is not None:
            _value("  what it suggests", row["suggested_value"])
        return
    if problem is not None:
        _line(f"  ! It cannot be approved: {problem}", "yellow")
    # Of an edited suggestion the preview is that of the original, whose changes have the same targets.
    changes = row["effect"]["changes"]
    found = preview if row["status"] == "proposed" and len(preview) == len(changes) else [None] * len(changes)
    for change, there in zip(changes, found, strict=True):
        _print_one(change, there)
    if any(there is not None and there["expected"] != there["found"] for there in found):
        _line("  ! Its target has changed since: approving it changes nothing, and supersedes it.", "yellow")


def _print_one(change: dict[str, Any], there: dict[str, Any] | None) -> None:
    """A change: where; what the row holds and keeps (=), what goes (-), what comes (+), what it was before (!)."""
    op, table_name, key = change.get("op"), change.get("table"), change.get("key")
    match op:
        case "insert":
            _line(f"  {table_name}: a new row", "dim")
            for name, value in change["row"].items():
                if value is not None:
                    _value(f"  + {name}", value, "green")
        case "update" | "expect":
            _line(f"  {table_name} {key}" + ("" if op == "update" else ", on which this rests"), "dim")
            _print_row(change, there)
        case "create_tasks":
            if change.get("workflow"):
                _line(f"  a run of the workflow {change['workflow']['key']}: {change['workflow']['name']}", "dim")
            for task in change["tasks"]:
                _line(f"  + task {task.get('key')}: {task['agent_id']} {task['task_type']}, “{task['title']}”", "green")
                for name, value in task.items():
                    if name not in ("key", "agent_id", "task_type", "title") and value not in (None, [], {}):
                        _value(f"      {name}", value, "green")
        case "release_task":
            _line(f"  task {change['id']}", "dim")
            seen = there["found"] if there and isinstance(there["found"], dict) else change
            for name in ("agent_id", "task_type", "title", "description", "payload"):
                if seen.get(name) is not None:
                    _value(f"  + {name}", seen[name], "green")
                if name in change and change[name] != seen.get(name):
                    _value(f"  ! {name} was, when it was asked", change[name], "yellow")
        case _:
            _value(f"  {op}", {name: value for name, value in change.items() if name != "op"}, "yellow")


def _print_row(change: dict[str, Any], there: dict[str, Any] | None) -> None:
    """The columns of one row as it is now; an expected value is shown where it differs."""
    before, after = change.get("before") or {}, change.get("after") or {}
    expected = before if there is None else there["expected"] or {}
    now = expected if there is None else there["found"]
    if now is None:
        _line("  ! the row is gone", "yellow")
        now = {}
    for name in [*(n for n in expected if n not in after), *after]:
        place = ".".join([name, *change.get("path", ())]) if name in after else name
        changes = name in after and after[name] != now.get(name)
        if now.get(name) is not None or changes:
            _value(f"  {'-' if changes else '='} {place}", now.get(name), "red" if changes else "dim")
        if now.get(name) != expected.get(name):
            _value(f"  ! {place} was, when it was proposed", expected.get(name), "yellow")
        if changes:
            _value(f"  + {place}", after[name], "green")


def _value(name: str, value: Any, style: str = "") -> None:
    """A value, whole: on its line, or below it when it has a structure that would not fit."""
    shown = json.dumps(value, ensure_ascii=False)
    if len(shown) > console.width and isinstance(value, (dict, list)):
        shown = "\n" + textwrap.indent(json.dumps(value, ensure_ascii=False, indent=2), " " * 6)
    _line(f"{name}: {shown}", style)


def _line(value: str, style: str = "") -> None:
    """A line that is not broken where a terminal ends, so that what is piped is what is there.

    Words with look-alike letters of another script are named below it.
    """
    console.print(text(value, style), soft_wrap=True)
    for start, end, letters in odd_words(value):
        console.print(text(f"  ! “{value[start:end]}” has {letters}", "yellow"))


def paged(print_it: Callable[[], None]) -> None:
    """Print; on a terminal that is too low for it, page by page.

    `less` keeps colours (R) and leaves the text on the screen when it ends (X), unless LESS says otherwise. Other
    pagers get plain text.
    """
    with console.capture() as captured:
        print_it()
    said = captured.get()
    if sys.stdout.isatty() and sys.stdin.isatty() and said.count("\n") >= console.height:
        os.environ.setdefault("LESS", "-RX")
        click.echo_via_pager(said)
    else:
        echo_rendered(said)


def approval_question(row: dict[str, Any]) -> str:
    """The question after a change was shown: it names what is approved, which may have scrolled away."""
    return f"Approve “{row['title']}” (digest {row['effect_digest'][:12]}…)?"


def print_decision(row: dict[str, Any]) -> None:
    """What became of a suggestion."""
    one = short(row["id"])
    if row["undone_at"]:
        console.print(text(f"Undone: {row['title']}"))
    elif row["status"] == "applied":
        console.print(text(f"Applied: {row['title']}", "green"))
        if row["inverse"]:
            console.print(text(f"`{zora_command('suggestions', 'undo', one)}` takes it back.", "dim"))
    elif row["status"] == "approved" and row["effect"]:
        status = zora_command("status")
        console.print(
            text(f"Approved: {row['title']}\n{row['agent_id']} is paused; applied after the pause (see `{status}`).")
        )
    elif row["status"] == "approved":
        console.print(text(f"Agreed: {row['title']}"))
    elif row["status"] == "rejected":
        console.print(text(f"Rejected: {row['title']}"))
    else:
        console.print(text(f"Not applied, because its target has changed since: {row['title']}", "yellow"))
        if row["superseded_by"]:
            command = zora_command("suggestions", "show", short(row["superseded_by"]))
            console.print(text(f"It is proposed anew: `{command}`."))


def _what(row: dict[str, Any]) -> str:
    from zora_core.effects import describe

    try:
        return describe(row)
    except (ZoraError, ValueError):  # of a type, or with a value, that this version does not know
        return "Its changes are listed one by one."


def print_pauses(rows: list[dict[str, Any]]) -> None:
    """The pauses in force; None without any."""
    for row in rows:
        what = "Everything" if row["agent_id"] == "*" else row["agent_id"]
        because = f": {row['reason']}" if row["reason"] else ""
        again = zora_command("resume", *([] if row["agent_id"] == "*" else [row["agent_id"]]))
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


def print_effect_tables(rows: list[dict[str, Any]]) -> None:
    """The registered tables."""
    if not rows:
        console.print("No tables of your own: suggestions change ZORA's own records only.")
        return
    cells = ((row["name"], row["key_column"], ", ".join(row["writable"]), ", ".join(row["rests_on"])) for row in rows)
    console.print(table("table", "key", "+may write", "+superseded by changes of", rows=cells))
