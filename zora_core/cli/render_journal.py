"""Prints the report of a verification."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich.text import Text

from zora_core.cli.render import console, table, text, when
from zora_core.suggested_command import zora_command

if TYPE_CHECKING:
    from zora_core.journal.verification import Problem, Report

MAX_SHOWN = 20  # problems, and erasures


def print_report(report: Report) -> None:
    """Print the verdict first, then what is proven and what is not."""
    if report.problems:
        _print_problems(report)
    elif not report.blocks:
        command = zora_command("journal", "seal")
        console.print(text(f"Nothing is sealed yet, so nothing can be proven. `{command}` seals what can be."))
    else:
        line = text("✓ ", "green")
        line.append(f"{entries(report.entries)} in {count(report.blocks, 'block')} are as they were sealed")
        console.print(line.append(f" ({_at(report.first_at)} to {_at(report.last_at)}).", "dim"))
    facts: list[tuple[str, str | Text]] = [("tenant", report.tenant_id)] if report.tenant_id else []
    for number, key in report.keys[-MAX_SHOWN:]:
        facts.append(("key", key if len(report.keys) == 1 else f"{key} from block {number} on"))
    if report.blocks and not report.problems:
        known = "known here" if len(report.keys) == 1 else "the last one is known here"
        unknown = text(
            "it is not trusted: compare it with the key that you were given, and pass it with --public-key", "yellow"
        )
        facts.append(("", known if report.trusted else unknown))
    if report.anchors:
        facts.append(("anchors", f"{count(report.anchors, 'remembered block')} found where they were"))
    if report.unsealed:
        since = f" from {_at(report.unsealed_since)} on"
        facts.append(("not sealed", f"{entries(report.unsealed)}: nothing is proven{since}"))
    if report.erased:
        facts.append(("erased", count(len(report.erased), "text")))
    console.print(table("", "+", rows=((text(name, "dim"), value) for name, value in facts)))
    for erasure in report.erased[:MAX_SHOWN]:
        by = f"by {erasure.erased_by} at {_at(erasure.erased_at)}" if erasure.erased_at else "without a record"
        console.print(text(f"  {erasure.entry}  {by}"))
    if len(report.erased) > MAX_SHOWN:
        console.print(text(f"  … and {len(report.erased) - MAX_SHOWN:,} more: use --json", "dim"))


def _print_problems(report: Report) -> None:
    total = len(report.problems) + report.more_problems
    console.print(text(f"✗ The sealed journal was changed: {count(total, 'problem')}.", "bold red"))
    for problem in report.problems[:MAX_SHOWN]:
        line = text("  ")
        console.print(line.append_text(_place(problem)).append(text(problem.text).plain))
    if total > MAX_SHOWN:
        console.print(text(f"  … and {total - MAX_SHOWN:,} more: use --json", "dim"))


def _place(problem: Problem) -> Text:
    """Where: block 3, entry 0190…"""
    parts = [f"block {problem.block}" if problem.block is not None else "", f"entry {problem.entry}"]
    where = ", ".join(part for part in parts[: 2 if problem.entry else 1] if part)
    return text(f"{where}: " if where else "", "red")


def _at(moment: str | None) -> str:
    """A time as the chain has it, in the reader's time zone."""
    try:
        return when(datetime.fromisoformat(moment)) if moment else ""
    except ValueError:
        return str(moment)


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number of things: 1 block, 2 blocks."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def entries(number: int) -> str:
    """A number of entries."""
    return count(number, "entry", "entries")
