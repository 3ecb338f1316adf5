"""What changed since the last analysis of the same target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zora_core.skills.codebase.issue import Issue, fingerprints, settings
from zora_core.skills.codebase.python import Function


@dataclass
class Comparison:
    """`notes` say of an issue (by position) that it is new or worse; `partial` that the last run stored only a part."""

    new: int = 0
    worse: int = 0
    fixed: int = 0
    unchanged: int = 0
    partial: bool = False
    notes: dict[int, str] = field(default_factory=dict)


def memory(issues: Sequence[Issue], functions: Sequence[Function]) -> dict[str, Any]:
    """What the next run needs for the comparison; `issues` must be sorted, most severe first."""
    limit = settings()["limits"]["fingerprints"]
    bound = settings()["complexity"]["bound"]
    return {
        "fingerprints": fingerprints(issues)[:limit],
        "complete": len(issues) <= limit,
        "complexity": {_key(f): f.complexity for f in _worst(functions) if f.complexity > bound},
    }


def compare(issues: Sequence[Issue], functions: Sequence[Function], previous: Mapping[str, Any]) -> Comparison:
    """Compare with what `memory` returned in the last run.

    When that run had more issues than it could store, only as many of today's, most severe first, are compared.
    """
    limit = settings()["limits"]["fingerprints"]
    before = set(previous["fingerprints"])
    now = fingerprints(issues)
    comparison = Comparison(partial=not previous["complete"] or len(now) > limit)
    values = {_key(f): f.complexity for f in functions}
    for position, (issue, mark) in enumerate(zip(issues[:limit], now, strict=False)):
        key = f"{issue.path}:{issue.subject}"
        old = previous["complexity"].get(key) if issue.rule_id == "code.complexity" else None
        if mark not in before:
            comparison.new += 1
            comparison.notes[position] = "New since the last run"
        elif old is not None and values.get(key, 0) > old:
            comparison.worse += 1
            comparison.notes[position] = f"Worse since the last run: {old} before"
        else:
            comparison.unchanged += 1
    comparison.fixed = len(before - set(now))
    return comparison


def _key(function: Function) -> str:
    return f"{function.path}:{function.name}"


def _worst(functions: Sequence[Function]) -> list[Function]:
    return sorted(functions, key=lambda f: (f.complexity, f.path, f.name))[-500:]
