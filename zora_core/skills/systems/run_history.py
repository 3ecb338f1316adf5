"""What the journal of runs says: task types that fail, and hours that differ from the days before."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from zora_core.models import Finding, JournalEntry, Metric, Quote, Rows, Severity
from zora_core.skills.systems.anomaly import Sensitivity, find_anomalies
from zora_core.skills.systems.health import Check, judge_failures, settings
from zora_core.skills.text.error_text import telling_lines

EVIDENCE_ROWS = 20
ERROR_CHARACTERS = 200
# Whether a run that ended with this event failed. A cancelled run was ended by a person.
OUTCOMES = {
    "agent_task_completed": False,
    "agent_task_failed": True,
    "agent_task_retried": True,
    "agent_task_rescued": True,
}


@dataclass(frozen=True)
class Run:
    """A run that ended, from its journal entry `entry_id`; `error` is the message of one that failed."""

    entry_id: str
    subject: str
    at: datetime
    failed: bool
    seconds: float | None
    error: str


@dataclass(frozen=True)
class Hour:
    """The runs that ended in one hour; `seconds` is the median duration of those that completed, if any did."""

    start: datetime
    completed: int
    failed: int
    seconds: float | None
    ids: tuple[str, ...]


def read_runs(entries: Sequence[JournalEntry]) -> list[Run]:
    """The runs in a journal, oldest first: completed, or failed for good, for a retry or with its worker."""
    runs = []
    for entry in entries:
        details = entry.details
        # What a person puts back into the queue has ended before.
        if entry.event_type not in OUTCOMES or "task_type" not in details or "by_user_id" in details:
            continue
        duration = details.get("duration_ms")
        failed = OUTCOMES[entry.event_type]
        runs.append(
            Run(
                entry_id=str(entry.id),
                subject=f"{details.get('agent_id', entry.author)} {details['task_type']}",
                at=entry.created_at,
                failed=failed,
                seconds=None if duration is None else duration / 1000,
                error=(entry.body or "") if failed else "",
            )
        )
    return sorted(runs, key=lambda run: (run.at, run.entry_id))


def judge_types(runs: Sequence[Run], now: datetime) -> list[Check]:
    """The failure rate of each agent's task types over the last `history.rate_hours`, with the commonest error."""
    history = settings()["history"]
    since = now - timedelta(hours=history["rate_hours"])
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.at >= since:
            groups[run.subject].append(run)
    when = f"in the last {history['rate_hours']} h"
    checks = []
    for subject, group in sorted(groups.items()):
        if len(group) < history["least_runs"]:
            continue
        failed = [run for run in group if run.failed]
        evidence: list[Rows | Quote] = []
        if failed:
            evidence.append(Rows(table="journal_entries", ids=[run.entry_id for run in failed[-EVIDENCE_ROWS:]]))
        errors = Counter(told for run in failed if (told := _told(run)))
        if errors:
            message = min(errors, key=lambda error: (-errors[error], error))
            example = next(run for run in failed if _told(run) == message)
            source = f"journal_entries/{example.entry_id}#body"
            start = example.error.index(message)
            evidence.append(Quote(source=source, text=message[:ERROR_CHARACTERS], start=start))
        checks.append(
            judge_failures(subject, len(failed), len(group), when, source="journal_entries", evidence=evidence)
        )
    return checks


def _told(run: Run) -> str:
    """The line of a run's error that tells what went wrong, as it stands there; empty without an error."""
    return next(iter(telling_lines(run.error)), "")


def hourly(runs: Sequence[Run], now: datetime) -> list[Hour]:
    """Every full hour from the first run to the hour before `now`, those without runs included."""
    by_hour: dict[datetime, list[Run]] = defaultdict(list)
    for run in runs:
        by_hour[_hour(run.at)].append(run)
    hours: list[Hour] = []
    start = min(by_hour, default=_hour(now))
    while start < _hour(now):
        group = by_hour.get(start, [])
        seconds = [run.seconds for run in group if not run.failed and run.seconds is not None]
        failed = sum(run.failed for run in group)
        ids = tuple(run.entry_id for run in group)
        hours.append(Hour(start, len(group) - failed, failed, median(seconds) if seconds else None, ids))
        start += timedelta(hours=1)
    return hours


def unusual_hours(hours: Sequence[Hour], now: datetime) -> list[Finding]:
    """Hours of the last `history.report_hours` whose runs, failures or durations leave what the days before had.

    Only a rise is reported, and for runs also a fall of the level; fewer hours than the warm-up say nothing.
    """
    history = settings()["history"]
    sensitivity = Sensitivity(**settings()["anomaly"]["hourly"])
    since = now - timedelta(hours=history["report_hours"])
    series = {
        "runs": [(hour, float(hour.completed + hour.failed)) for hour in hours],
        "failures": [(hour, float(hour.failed)) for hour in hours],
        "seconds": [(hour, hour.seconds) for hour in hours if hour.seconds is not None],
    }
    found = []
    for name, points in series.items():
        for anomaly in find_anomalies([value for _, value in points], sensitivity):
            hour = points[anomaly.index][0]
            rise = anomaly.value - anomaly.expected
            fell = name == "runs" and anomaly.kind == "shift" and rise < 0
            if hour.start < since or (rise < 0 and not fell) or abs(rise) < history["least_rise"][name]:
                continue
            found.append(_finding(name, hour, anomaly.kind, anomaly.value, anomaly.expected, anomaly.score))
    return sorted(found, key=lambda finding: (-finding.severity.rank, finding.rule_id, finding.title))


def _finding(name: str, hour: Hour, kind: str, value: float, expected: float, score: float) -> Finding:
    what = {"runs": "Finished runs", "failures": "Failed runs", "seconds": "Median duration"}[name]
    how = "a new level" if kind == "shift" else "an outlier"
    unit = "s" if name == "seconds" else "runs/h"
    evidence: list[Metric | Rows] = [
        Metric(
            name=f"{name} at {hour.start:%Y-%m-%d %H:00}",
            value=round(value, 3),
            unit=unit,
            formula=f"rolling median {expected:g} {unit}, {score:g} robust deviations away",
            source="journal_entries",
        )
    ]
    if hour.ids:
        evidence.append(Rows(table="journal_entries", ids=list(hour.ids[:EVIDENCE_ROWS])))
    return Finding(
        rule_id=f"health.history.{name}",
        title=f"{what}: {how} at {hour.start:%Y-%m-%d %H:00} UTC",
        detail=f"{value:g} {unit} where {expected:g} was usual. Next: compare with that hour's releases and schedules.",
        severity=Severity.MEDIUM if name == "failures" else Severity.LOW,
        confidence=round(1 - math.exp(-score / 4), 2),
        source="statistic",
        evidence=list(evidence),
    )


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
