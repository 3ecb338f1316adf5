"""A safety review of what the agents did: integrity, permission, secrets, injected instructions, tainted flow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from zora_core.data import load
from zora_core.models import Evidence, Finding, JournalEntry, Rows, Severity, SuggestionRecord, TaskRecord
from zora_core.skills.risk.content import content_issues
from zora_core.skills.risk.flow import flow_issues
from zora_core.skills.risk.integrity import integrity_issues
from zora_core.skills.risk.issue import Issue
from zora_core.skills.risk.permission import permission_issues

Verdict = Literal["pass", "needs_human", "block"]
VERDICTS: tuple[Verdict, ...] = ("pass", "needs_human", "block")

_ROWS_SHOWN = 20


@dataclass(frozen=True)
class TaskVerdict:
    """A task that has findings: the worst verdict of them, the rules, and the findings, most severe first."""

    task_id: str
    verdict: Verdict
    rule_ids: tuple[str, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class RiskReport:
    """The flagged tasks (worst first), all findings (most severe first), and how many tasks got which verdict."""

    flagged: list[TaskVerdict]
    findings: list[Finding]
    verdicts: dict[Verdict, int]


def review_tasks(
    tasks: Sequence[TaskRecord],
    journal: Sequence[JournalEntry],
    suggestions: Sequence[SuggestionRecord],
    *,
    now: datetime,
    journal_since: datetime,
) -> RiskReport:
    """Review `tasks` in the light of the journal and of the suggestions they led to.

    `journal`, in order of time, holds all entries from `journal_since` to `now`: what it lacks counts as not recorded.
    Limits and severities stand in `data/risk_rules.toml`. Credentials and personal data are never repeated: findings
    show their kind and length only.
    """
    contents = content_issues(tasks)
    issues = [
        *integrity_issues(tasks, journal, now=now, journal_since=journal_since),
        *permission_issues(tasks, journal, suggestions, journal_since=journal_since),
        *contents,
        *flow_issues(tasks, suggestions, poisoned={t for i in contents if i.is_injection for t in i.task_ids}),
    ]
    issues.sort(key=lambda issue: (-_severity(issue).rank, issue.rule_id, issue.task_ids))
    read = {str(task.id) for task in tasks}
    findings = [_finding(issue, read) for issue in issues]
    flagged = _verdicts(issues, findings)
    counts = Counter(task.verdict for task in flagged)
    counts["pass"] += len(read - {task.task_id for task in flagged})
    return RiskReport(flagged, findings, {verdict: counts[verdict] for verdict in VERDICTS})


def _verdicts(issues: Iterable[Issue], findings: Iterable[Finding]) -> list[TaskVerdict]:
    findings_of: dict[str, list[Finding]] = {}
    for issue, finding in zip(issues, findings, strict=True):
        for task_id in issue.task_ids:
            findings_of.setdefault(task_id, []).append(finding)
    flagged = [
        TaskVerdict(
            task_id,
            max((_rule_verdict(f.rule_id) for f in found), key=VERDICTS.index),
            tuple(dict.fromkeys(f.rule_id for f in found)),
            tuple(found),
        )
        for task_id, found in findings_of.items()
    ]
    return sorted(flagged, key=lambda task: (-VERDICTS.index(task.verdict), task.task_id))


def _severity(issue: Issue) -> Severity:
    return Severity(load("risk_rules")["rules"][issue.rule_id]["severity"])


def _rule_verdict(rule_id: str) -> Verdict:
    verdict: Verdict = load("risk_rules")["rules"][rule_id]["verdict"]
    return verdict


def _finding(issue: Issue, read: Collection[str]) -> Finding:
    """The issue as a finding; of the tasks only those that were `read` are evidence, the others are named elsewhere."""
    rule = load("risk_rules")["rules"][issue.rule_id]
    ids = [task_id for task_id in issue.task_ids if task_id in read][:_ROWS_SHOWN]
    evidence: list[Evidence] = [Rows(table="agent_tasks", ids=ids)] if ids else []
    return Finding(
        rule_id=issue.rule_id,
        title=rule["title"],
        detail=issue.detail,
        severity=Severity(rule["severity"]),
        confidence=rule["confidence"],
        source="statistic" if issue.rule_id == "risk.duration-outlier" else "rule",
        evidence=[*evidence, *issue.evidence],
    )
