"""Prints the report of an import."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zora_core.cli.render import console, table, text

if TYPE_CHECKING:
    from zora_core.importing.importer import KindReport, Report, Told


def print_import(report: Report) -> None:
    """Print a row per kind, then the notes."""
    of = f", the rows of {report.tenant}" if report.tenant else ""
    console.print(text(f"From {report.source}{of}"), soft_wrap=True)
    taken = "taken" if report.applied else "would be taken"
    rows = [
        (kind.name, f"{kind.found:,}", f"{kind.taken:,}", f"{kind.here:,}", f"{kind.not_taken:,}")
        for kind in report.kinds
    ]
    console.print(table("", ">found", f">{taken}", ">here already", ">not taken", rows=rows))
    _print_said("Not taken, because", report, lambda kind: kind.reasons)
    _print_said("Taken, with notes", report, lambda kind: kind.notes)
    console.print(text("Runs of workflows, users and keys are not taken over.", "dim"), soft_wrap=True)


def _print_said(title: str, report: Report, said: Callable[[KindReport], dict[str, Told]]) -> None:
    rows = [
        (f"{told.count:,}", kind.name, reason, f"as {told.example}")
        for kind in report.kinds
        for reason, told in sorted(said(kind).items(), key=lambda item: (-item[1].count, item[0]))
    ]
    if rows:
        console.print(text(f"\n{title}", "bold"))
        for count, name, reason, example in rows:
            console.print(text(f"  {count:>6}  {name}: {reason} ({example})"), soft_wrap=True)
