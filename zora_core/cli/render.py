"""Tables and texts for people. Everything from the database is data: markup and control characters are not obeyed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from zora_core.cli.output import new_console
from zora_core.shapes import findings_of, sources_of, suggestions_of
from zora_core.suggested_command import zora_command
from zora_core.visible import visible

if TYPE_CHECKING:
    from zora_core.agents.agent import TaskType
    from zora_core.autonomy.runtime import TaskRun
    from zora_core.cli.doctor import Check

COLOURS = {
    "completed": "green",
    "failed": "red",
    "in_progress": "cyan",
    "pending": "yellow",
    "lost": "red",
    "critical": "bold red",
    "high": "red",
    "medium": "yellow",
    "low": "blue",
    "info": "dim",
    "ok": "green",
    "note": "yellow",
    "wrong": "red",
}
AGENT_COLUMNS = ("pending", "in_progress", "completed", "failed")
MAX_FINDINGS = 40
_ROW_ID = re.compile(r"/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?=#|\Z)")
MAX_EVIDENCE = 3  # pieces of a finding
MAX_ORIGINS = 3  # findings of a suggestion
NARROWEST = 20  # columns of what may be folded
WIDE = 130  # columns of a terminal from which on a summary fits beside its task

console = new_console()


def clean(value: Any) -> str:
    """The value as text, with characters that a terminal obeys, or that hide or reorder text, shown escaped."""
    return visible(str(value))


def text(value: Any, style: str = "") -> Text:
    """A cell: plain text, coloured by its meaning if it has one."""
    shown = "" if value is None else clean(value)
    return Text(shown, style=style or COLOURS.get(shown, ""))


def short(identifier: Any) -> str:
    """The end of an id, which tells ids apart (the beginning is the time) and which every command accepts."""
    return str(identifier)[-8:]


def when(moment: datetime | None) -> str:
    """A time in the reader's own time zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M") if moment else ""


def print_more(shown: int, counted: dict[str, Any]) -> None:
    """That a list goes on after the `shown` first rows; `counted` is a row of a count, exact or not."""
    total = counted["total"]
    if total > shown:
        more = f"more than {total:,}" if counted["is_estimate"] else f"{total:,}"
        limit = min(1000, -(-total // 100) * 100)
        what = "all" if total <= limit else f"{limit:,}"
        console.print(text(f"{shown:,} of {more} (`--limit {limit}` shows {what})", "dim"))


def percent(fraction: float) -> str:
    """Progress as text: 40 %."""
    return f"{fraction * 100:.0f} %"


def table(*columns: str, rows: Iterable[Sequence[Any]]) -> Table:
    """A plain table; a column whose name begins with > is aligned to the right, one with + may be folded.

    Other columns are never cut: ids and statuses are copied and searched for. In a pipe no column is folded.
    """
    cells = [[cell if isinstance(cell, Text) else text(cell) for cell in row] for row in rows]
    named = any(column.lstrip(">+") for column in columns)
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0), show_header=named)
    for number, column in enumerate(columns):
        name = column.lstrip(">+")
        whole = not column.startswith("+") or (_piped() and bool(cells))
        lines = [line for row in cells for line in row[number].plain.split("\n")]
        made.add_column(
            name,
            justify="right" if column.startswith(">") else "left",
            no_wrap=whole,
            min_width=max(map(cell_len, [name, *lines])) if whole else None,
            ratio=1 if column.startswith("+") else None,
            overflow="fold",
        )
    for row in cells:
        made.add_row(*row)
    needed = sum(column.min_width or NARROWEST for column in made.columns) + 2 * (len(columns) - 1)
    if needed > console.width:  # else columns would be left out
        made.width = needed
    return made


def _piped() -> bool:
    """Whether the output goes to a program, without a given width."""
    return not console.is_terminal and "COLUMNS" not in os.environ


def print_runs(runs: Sequence[TaskRun]) -> None:
    """What became of each task that ran; its summary stands beside it, or under it where that would be too narrow."""

    def facts(run: TaskRun) -> tuple[str, str, str, str, str]:
        task = run.task
        return (short(task.id), task.agent_id.value, task.task_type, run.status, f"{run.duration_seconds:.1f}")

    columns = ("task", "agent", "type", "status", ">seconds")
    if console.width >= WIDE:
        rows = ((*facts(run), run.summary or run.error) for run in runs)
        console.print(table(*columns, "+summary", rows=rows))
        return
    made = table("+", rows=())
    for run in runs:
        head = Text("  ").join(text(fact) for fact in facts(run))
        made.add_row(Group(head.append(" s"), Padding(text(run.summary or run.error), (0, 0, 0, 2))))
    console.print(made)


def print_status(counts: list[dict[str, Any]], proposed: dict[str, Any]) -> None:
    """Tasks per agent and state, and why pending ones wait."""
    if not counts:
        create = zora_command("create-task", "--help")
        console.print(text(f"No tasks yet. Create one as `{create}` shows, or see `zora demo`."))
        return
    rows: dict[str, dict[str, int]] = {}
    waiting: dict[str, int] = {}
    for row in counts:
        agent = rows.setdefault(row["agent_id"], dict.fromkeys(AGENT_COLUMNS, 0))
        agent[row["status"]] += row["tasks"]
        if row["waiting_for"]:
            waiting[row["waiting_for"]] = waiting.get(row["waiting_for"], 0) + row["tasks"]
    totals = {column: sum(row[column] for row in rows.values()) for column in AGENT_COLUMNS}
    body = [
        (agent, *(text(row[c] or "·", COLOURS[c] if row[c] else "dim") for c in AGENT_COLUMNS))
        for agent, row in sorted(rows.items())
    ]
    body.append((text("all", "bold"), *(text(totals[c], "bold") for c in AGENT_COLUMNS)))
    console.print(table("agent", *(f">{c}" for c in AGENT_COLUMNS), rows=body))
    for reason, number in sorted(waiting.items()):
        console.print(f"{number:,} pending wait for {reason}.")
    if proposed["total"]:
        more = "more than " if proposed["is_estimate"] else ""
        noun = "suggestion waits" if proposed["total"] == 1 else "suggestions wait"
        command = zora_command("suggestions", "list", "--status", "proposed")
        console.print(text(f"{more}{proposed['total']:,} {noun} for a person: `{command}`."))


def print_tasks(rows: list[dict[str, Any]]) -> None:
    """A list of tasks."""
    if not rows:
        console.print("No tasks match.")
        return
    if console.width < WIDE and not _piped():  # type and title stand in one column, and the rest below them
        made = table("task", "agent", "status", "+type, title", rows=())
        for row in rows:
            about = f"{row['title']}\npriority {row['priority']}, created {when(row['created_at'])}"
            status = text(_state(row), COLOURS[row["status"]])
            made.add_row(short(row["id"]), row["agent_id"], status, Group(text(row["task_type"]), text(about, "dim")))
        console.print(made)
        return
    console.print(
        table(
            "task",
            "agent",
            "type",
            "status",
            ">priority",
            "created",
            "+title",
            rows=(
                (
                    short(row["id"]),
                    row["agent_id"],
                    row["task_type"],
                    text(_state(row), COLOURS[row["status"]]),
                    row["priority"],
                    when(row["created_at"]),
                    row["title"],
                )
                for row in rows
            ),
        )
    )


def _state(row: dict[str, Any]) -> str:
    """A status with its reason: pending (retry), failed (timeout), in_progress 40 %."""
    reason = row["waiting_for"] or row["failure_kind"]
    if row["status"] == "in_progress" and row["progress"]:
        return f"in_progress {percent(row['progress'])}"
    return f"{row['status']} ({reason})" if reason else str(row["status"])


def _progress(row: dict[str, Any]) -> str:
    """What a running task's handler says: 40 %  reading pages."""
    fraction = None if row["progress"] is None else percent(row["progress"])
    return "  ".join(part for part in (fraction, row["progress_message"]) if part)


def print_task(
    row: dict[str, Any], explanation: str, journal: list[dict[str, Any]], suggestions: list[dict[str, Any]]
) -> None:
    """Everything about one task; `suggestions` are those of its own that were stored, with what became of them."""
    console.print(text(row["title"], "bold"))
    running = row["status"] == "in_progress"
    facts = [
        ("task", row["id"]),
        ("agent", f"{row['agent_id']} {row['task_type']}"),
        ("status", text("in_progress" if running else _state(row), COLOURS[row["status"]])),
        ("progress", _progress(row) if running else ""),
        ("", explanation),
        ("payload", json.dumps(row["payload"], ensure_ascii=False)),
        ("priority", row["priority"]),
        ("attempts", f"{row['attempt']} of {row['max_attempts']}"),
        ("created", when(row["created_at"])),
        ("deadline", when(row.get("deadline_at"))),
        ("started", when(row["started_at"])),
        ("finished", when(row["completed_at"])),
    ]
    if row["description"]:
        facts.insert(1, ("about", row["description"]))
    console.print(table("", "+", rows=((text(name, "dim"), value) for name, value in facts if value != "")))
    stored = row["result"]
    result: dict[str, Any] = {
        "findings": findings_of(stored), "sources": sources_of(stored), "suggestions": suggestions_of(stored),
    }  # fmt: skip
    if row["result_summary"]:
        console.print("\n", text(row["result_summary"]), sep="")
    shown = _print_findings(result)
    if result["suggestions"]:
        console.print(text("\nSuggestions", "bold"))
        states = {(s["suggestion_type"], s["title"]): _became(s) for s in suggestions}
        for suggestion in result["suggestions"]:
            became = states.get((suggestion["suggestion_type"], suggestion["title"]), "known already")
            console.print(text(f"  • {suggestion['title']}").append_text(text(f"  {became}", "dim")))
            _print_origin(suggestion, result, shown)
        command = zora_command("suggestions", "list", "--task", short(row["id"]))
        console.print(text(f"  `{command}` lists them with their ids.", "dim"))
    if any(result["sources"]):
        console.print(text("\nRead", "bold"))
        for source in (read for read in result["sources"] if read):
            line = text(f"  {source['kind']} {source['ref']}: {source['count']:,} {source['unit']}")
            console.print(line.append_text(text(f"  {_proof(source)}", "dim")))
    console.print(text("\nJournal", "bold"))
    for entry in reversed(journal):
        console.print(text(f"  {when(entry['created_at'])}  {entry['title']}  {one_line(entry['body'] or '', 90)}"))


def _became(suggestion: dict[str, Any]) -> str:
    """What became of a stored suggestion, and by whom."""
    if suggestion["undone_at"]:
        return "undone"
    if suggestion["status"] == "proposed":
        return "waits for a person"
    by = f" by {suggestion['decided_as']}" if suggestion["decided_as"] else ""
    return f"{suggestion['status']}{by}"


def _print_findings(result: dict[str, Any]) -> set[str]:
    """Findings under the evidence they share: a sentence that breaks three rules is quoted once.

    Returns the ids of those that were shown.
    """
    findings = result["findings"]
    if not findings:
        return set()
    console.print(text(f"\nFindings ({len(findings)})", "bold"))
    shown = findings[:MAX_FINDINGS]
    by_evidence: dict[str, list[dict[str, Any]]] = {}
    for finding in shown:
        by_evidence.setdefault(str(finding["evidence"]), []).append(finding)
    for group in by_evidence.values():
        _print_evidence(group[0]["evidence"], result, indent=2)
        for finding in group:
            _print_finding(finding, indent=4)
    if len(findings) > MAX_FINDINGS:
        console.print(text(f"  … and {len(findings) - MAX_FINDINGS} more: use --json", "dim"))
    return {finding.get("id", "") for finding in shown}


def _print_origin(suggestion: dict[str, Any], result: dict[str, Any], shown: set[str]) -> None:
    """The findings that a suggestion follows from, each with its evidence unless that was shown with it before."""
    by_id = {finding.get("id"): finding for finding in result["findings"]}
    named = [by_id[name] for name in suggestion.get("findings", ()) if name in by_id]
    if not named:  # it rests on evidence alone
        _print_evidence(suggestion["evidence"], result, indent=6)
    for finding in named[:MAX_ORIGINS]:
        _print_finding(finding, indent=6)
        if finding["id"] not in shown:
            _print_evidence(finding["evidence"], result, indent=8)
    if len(named) > MAX_ORIGINS:
        console.print(text(f"      … and {len(named) - MAX_ORIGINS} more", "dim"))


def _print_finding(finding: dict[str, Any], *, indent: int) -> None:
    line = text(f"{' ' * indent}{finding['severity']:8} ", COLOURS[finding["severity"]])
    line.append_text(text(finding["title"], "default"))
    console.print(line.append_text(text(f"  {finding['rule_id']}  {finding.get('id', '')}".rstrip(), "dim")))


def _print_evidence(evidence: list[Any], result: dict[str, Any], *, indent: int) -> None:
    """The first pieces of evidence, with where and when they were read: once for those of one source."""
    shown = [(piece, _where(piece, result["sources"])) for piece in evidence[:MAX_EVIDENCE]]
    for number, (piece, where) in enumerate(shown, 1):
        line = text(f"{' ' * indent}{evidence_line(piece)}")
        said_below = number < len(shown) and shown[number][1] == where
        console.print(line if said_below else line.append_text(text(where, "dim")))
    if len(evidence) > MAX_EVIDENCE:
        console.print(text(f"{' ' * indent}… and {len(evidence) - MAX_EVIDENCE} more", "dim"))


def _where(piece: Any, sources: list[dict[str, Any] | None]) -> str:
    """The source of a piece of evidence, as the list of what was read has it."""
    positions = piece["read"] if isinstance(piece, dict) else []
    read = [source for position in positions if position < len(sources) and (source := sources[position])]
    if not read:
        return ""
    first = read[0]
    names = (piece.get("source"), piece.get("path"), piece.get("table"))
    named = any(name is not None and (name == first["ref"] or name.startswith(f"{first['ref']}/")) for name in names)
    name = first["kind"] if named else f"{first['kind']} {one_line(first['ref'], 60)}"
    more = f" and {len(read) - 1} more" if len(read) > 1 else ""
    return f"  ({name}, {_proof(first)}{more})"


def _proof(source: dict[str, Any]) -> str:
    """The beginning of a source's digest, and when it was read."""
    return f"{source['digest'][:8]}, {when(source['read_at'])}"


def evidence_line(evidence: Any) -> str:
    """A piece of evidence of `pieces_of` in one line."""
    if isinstance(evidence, str):
        return one_line(evidence, 120)
    match evidence["kind"]:
        case "quote":
            return f"{_source_name(evidence['source'])}: “{one_line(evidence['text'], 120)}”"
        case "element":
            return f"{evidence['source']}: {evidence['selector']}  {one_line(evidence['html'], 90)}"
        case "file":
            return f"{evidence['path']}:{evidence['line']}  {one_line(evidence['text'], 90)}"
        case "rows":
            ids = ", ".join(short(identifier) for identifier in evidence["ids"][:4])
            return f"{evidence['table']}: {ids}{' …' if len(evidence['ids']) > 4 else ''}"
        case _:
            return f"{evidence['name']} = {evidence['value']:g} {evidence['unit']}  {one_line(evidence['formula'], 60)}"


def _source_name(source: str) -> str:
    """A source as a person reads it: of a row, the table, the end of its id, and the field."""
    return _ROW_ID.sub(lambda found: f"/{short(found[1])}", source)


def one_line(value: str, width: int) -> str:
    flat = " ".join(value.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def print_task_types(types: Sequence[TaskType]) -> None:
    """Every task type with its payload fields and defaults."""

    def fields(task_type: TaskType) -> str:
        shown = []
        for name, field in task_type.payload.model_fields.items():
            if name != "extra_instructions":
                default = field.get_default(call_default_factory=True)
                given = not field.is_required() and default not in (None, "", [])
                shown.append(f"{name}={default}" if given else name)
        return ", ".join(shown)

    console.print(
        table(
            "agent",
            "type",
            "+payload",
            "+what it does",
            rows=((t.agent_id.value, t.name, text(fields(t), "dim"), t.description) for t in types),
        )
    )


def print_journal(rows: list[dict[str, Any]]) -> None:
    """Journal entries."""
    if not rows:
        console.print("The journal has no such entries.")
        return
    console.print(
        table(
            "entry",
            "time",
            "category",
            "author",
            "+what happened",
            rows=(
                (
                    short(row["id"]),
                    when(row["created_at"]),
                    row["category"],
                    row["author"],
                    row["title"] + (f": {one_line(row['body'], 140)}" if row["body"] else ""),
                )
                for row in rows
            ),
        )
    )


def print_memories(rows: list[dict[str, Any]], query: str) -> None:
    """Found memories."""
    if not rows:
        console.print(text(f"No memory mentions “{query}”."))
        return
    console.print(
        table(
            "memory",
            "time",
            "type",
            "+content",
            rows=(
                (short(row["id"]), when(row["created_at"]), row["memory_type"], one_line(row["content"], 200))
                for row in rows
            ),
        )
    )


def print_checks(checks: Sequence[Check]) -> None:
    """Print the results of `zora doctor`."""
    marks = {"ok": "✓", "note": "!", "wrong": "✗"}
    console.print(
        table(
            "",
            "check",
            "+found",
            rows=((text(marks[c.state], COLOURS[c.state]), c.name, c.found) for c in checks),
        )
    )


KEY_COLOURS = {"works": "green", "expired": "yellow", "revoked": "red"}


def print_new_key(key: str, row: dict[str, Any]) -> None:
    """A key alone on stdout, for `KEY=$(zora keys create NAME)`; what a person wants to know of it on stderr."""
    about = new_console(stderr=True)
    until = f"until {when(row['expires_at'])}" if row["expires_at"] else "until it is revoked"
    about.print(text(f"The key “{row['name']}” stands for {row['email']}, {row['role']}, {until}.\n"))
    console.print(text(key, "bold"), soft_wrap=True)
    about.print("\nIt is not shown again. Programs send it with every request: `Authorization: Bearer <key>`.")


def print_keys(rows: list[dict[str, Any]]) -> None:
    """A list of API keys; whose they are and since when stands under them where a line would be too narrow."""
    if not rows:
        console.print(text(f"No API keys yet. Make one with `{zora_command('keys', 'create', 'NAME')}`."))
        return

    def state(row: dict[str, Any]) -> Text:
        return text(row["state"], KEY_COLOURS[row["state"]])

    def expires(row: dict[str, Any]) -> str:
        return when(row["expires_at"]) or "never"

    if console.width >= WIDE:
        console.print(
            table(
                "key",
                "state",
                "+name",
                "+user",
                "role",
                "created",
                "expires",
                rows=(
                    (
                        row["prefix"],
                        state(row),
                        row["name"],
                        row["email"],
                        row["role"],
                        when(row["created_at"]),
                        expires(row),
                    )
                    for row in rows
                ),
            )
        )
        return
    made = table("key", "state", "+name", rows=())
    for row in rows:
        facts = f"{row['email']}, {row['role']}\ncreated {when(row['created_at'])}, expires {expires(row)}"
        made.add_row(text(row["prefix"]), state(row), Group(text(row["name"]), text(facts, "dim")))
    console.print(made)
