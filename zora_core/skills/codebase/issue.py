"""One thing wrong in a codebase, and how it becomes a finding."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zora_core.data import load
from zora_core.models import FileLine, Finding, Metric, Severity, identity
from zora_core.secrets import cut, find_secrets

LINE_CHARACTERS = 160
SECRET_CHARACTERS = 2_000


@dataclass(frozen=True)
class Issue:
    """`rule_id` holds at `places`, the first of which is the main one; `subject` identifies it instead of the line."""

    rule_id: str
    message: str
    severity: Severity
    places: tuple[FileLine, ...]
    confidence: float = 1.0
    subject: str = ""
    metrics: tuple[Metric, ...] = ()
    source: Literal["rule", "statistic"] = "rule"

    @property
    def path(self) -> str:
        """The file of the main place."""
        return self.places[0].path

    @property
    def key(self) -> str:
        """What it is the same as in every run: those of one key make one finding."""
        return identity(self.rule_id, self.path, self.subject)


def settings() -> dict[str, Any]:
    """Limits, languages and weights in `codebase.toml`."""
    return load("codebase")


def place(path: str, line: int, lines: Sequence[str], *, hide: bool = False) -> FileLine:
    """Line `line` (1-based) of a file as evidence; credentials in it are masked, and `hide` leaves the text out."""
    # A minified file is one line; more than what is shown is looked at, so that a secret on the edge is seen whole.
    text = lines[line - 1].strip()[: LINE_CHARACTERS + SECRET_CHARACTERS] if 0 < line <= len(lines) and not hide else ""
    secrets = find_secrets(text)
    for secret in reversed(secrets):
        text = text[: secret.start] + secret.masked + text[secret.end :]
    return FileLine(path=path, line=max(line, 1), text=cut(text, LINE_CHARACTERS), masked=bool(secrets))


def fingerprints(issues: Iterable[Issue]) -> list[str]:
    """An identity for each issue that survives moved lines: rule, file, subject, the line's text, and its ordinal."""
    seen: Counter[str] = Counter()
    marks = []
    for issue in issues:
        text = issue.subject or re.sub(r"\s+", " ", issue.places[0].text)
        key = "\0".join((issue.rule_id, issue.path, text))
        seen[key] += 1
        marks.append(hashlib.sha256(f"{key}\0{seen[key]}".encode("utf-8", "surrogatepass")).hexdigest()[:10])
    return marks


def to_findings(issues: Sequence[Issue], notes: dict[int, str]) -> list[Finding]:
    """Group issues of one rule in one file, new or worse ones (those in `notes`, by position) and severe ones first.

    At most `limits.findings` are made, and of each rule at most `limits.findings_per_rule`.
    """
    limits = settings()["limits"]
    groups: dict[tuple[str, str, str], list[int]] = {}
    for position, issue in enumerate(issues):
        groups.setdefault((issue.rule_id, issue.path, issue.subject), []).append(position)

    def order(item: tuple[tuple[str, str, str], list[int]]) -> tuple[bool, int, int, tuple[str, str, str]]:
        key, members = item
        severity = max(issues[m].severity.rank for m in members)
        return (not any(m in notes for m in members), -severity, -len(members), key)

    per_rule: Counter[str] = Counter()
    found: list[Finding] = []
    for (rule_id, _, _), members in sorted(groups.items(), key=order):
        per_rule[rule_id] += 1
        if per_rule[rule_id] <= limits["findings_per_rule"]:
            found.append(_finding([issues[m] for m in members], sorted({notes[m] for m in members if m in notes})))
        if len(found) == limits["findings"]:
            break
    return found


def _finding(group: list[Issue], notes: list[str]) -> Finding:
    limit = settings()["limits"]["places_per_finding"]
    first = group[0]
    places = [p for issue in group for p in issue.places]
    title = first.message if len(group) == 1 else f"{first.message} (and {len(group) - 1} more in this file)"
    return Finding(
        rule_id=first.rule_id,
        title=f"{first.path}: {title}",
        detail=" ".join(f"{note}." for note in notes),
        severity=max((issue.severity for issue in group), key=lambda severity: severity.rank),
        confidence=min(issue.confidence for issue in group),
        source=first.source,
        evidence=[*places[:limit], *(m for issue in group[:limit] for m in issue.metrics)],
        key=first.key,
    )
