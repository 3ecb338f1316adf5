"""Does the record of each task hold together: evidence, times, states, durations, loops, retries, leases."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from zora_core.data import load
from zora_core.models import JournalEntry, Metric, Rows, TaskRecord
from zora_core.skills.risk.issue import Issue
from zora_core.wording import count

_OUTCOMES = {
    "agent_task_completed": "completed",
    "agent_task_failed": "failed",
    "agent_task_cancelled": "failed",
}


def integrity_issues(
    tasks: Sequence[TaskRecord], journal: Sequence[JournalEntry], *, now: datetime, journal_since: datetime
) -> list[Issue]:
    """All integrity checks; `journal` is in order of time and complete from `journal_since` to `now`."""
    events: dict[str, list[JournalEntry]] = defaultdict(list)
    for entry in journal:
        if entry.task_id is not None and entry.event_type.startswith("agent_task_"):
            events[str(entry.task_id)].append(entry)
    issues: list[Issue] = []
    for task in tasks:
        issues += _evidence(task)
        issues += _times(task, now)
        issues += _states(task, events[str(task.id)], journal_since)
        issues += _leases(task, now)
        issues += _retries(task, events[str(task.id)])
    return [*issues, *_durations(tasks), *_loops(tasks), *_storms(tasks, journal)]


def _evidence(task: TaskRecord) -> Iterator[Issue]:
    if task.status != "completed":
        return
    result = task.result or {}
    findings = [f for f in result.get("findings") or [] if isinstance(f, dict)]
    if not result.get("sources") and not any(f.get("evidence") for f in findings):
        what = "has no result" if not result else "names no source it read and no finding with evidence"
        yield Issue("risk.completed-without-evidence", (str(task.id),), f"{_name(task)} is completed but {what}.")
    elif bare := [str(f.get("rule_id") or f.get("title") or "unnamed") for f in findings if not f.get("evidence")]:
        yield Issue(
            "risk.finding-without-evidence",
            (str(task.id),),
            f"{_name(task)}: {len(bare)} of {count(len(findings), 'finding')} without evidence, first {bare[0][:80]}.",
        )


def _times(task: TaskRecord, now: datetime) -> Iterator[Issue]:
    problems = [
        problem
        for wrong, problem in (
            (_after(task.created_at, now), f"created at {task.created_at}, which is after now ({now})"),
            (_after(task.created_at, task.started_at), f"started at {task.started_at}, before it was created"),
            (_after(task.started_at, task.completed_at), f"ended at {task.completed_at}, before it started"),
            (_after(task.completed_at, now), f"ended at {task.completed_at}, which is after now ({now})"),
            (task.status in ("completed", "failed") and task.completed_at is None, f"{task.status} without an end"),
            (task.status == "completed" and task.started_at is None, "completed without having started"),
            (task.status == "pending" and task.completed_at is not None, f"pending, but ended at {task.completed_at}"),
        )
        if wrong
    ]
    if problems:
        yield Issue("risk.impossible-times", (str(task.id),), f"{_name(task)}: {'; '.join(problems)}.")


def _after(first: datetime | None, second: datetime | None) -> bool:
    return first is not None and second is not None and first > second


def _states(task: TaskRecord, events: list[JournalEntry], journal_since: datetime) -> Iterator[Issue]:
    ids = (str(task.id),)
    for before, after in pairwise(events):
        if before.event_type == "agent_task_completed":
            evidence = (Rows(table="journal_entries", ids=[str(before.id), str(after.id)]),)
            detail = f"{_name(task)} was completed, and then journalled as {after.event_type}."
            yield Issue("risk.impossible-transition", ids, detail, evidence)
    created = [e for e in events if e.event_type == "agent_task_created"]
    if created and events[0].event_type != "agent_task_created":
        evidence = (Rows(table="journal_entries", ids=[str(events[0].id), str(created[0].id)]),)
        detail = f"{_name(task)} was journalled as {events[0].event_type} before it was created."
        yield Issue("risk.impossible-transition", ids, detail, evidence)
    ended = task.status in ("completed", "failed")
    outcomes = [e for e in events if e.event_type in _OUTCOMES]
    if ended and task.completed_at is not None and task.completed_at > journal_since:
        if not outcomes:
            yield Issue(
                "risk.outcome-not-journalled", ids, f"{_name(task)} is {task.status}, which no journal entry records."
            )
        elif _OUTCOMES[outcomes[-1].event_type] != task.status:
            evidence = (Rows(table="journal_entries", ids=[str(outcomes[-1].id)]),)
            detail = f"{_name(task)} is {task.status}, but the journal's last word is {outcomes[-1].event_type}."
            yield Issue("risk.outcome-not-journalled", ids, detail, evidence)
    elif not ended and events and events[-1].event_type == "agent_task_completed":
        evidence = (Rows(table="journal_entries", ids=[str(events[-1].id)]),)
        detail = f"{_name(task)} is {task.status}, but the journal records that it was completed."
        yield Issue("risk.impossible-transition", ids, detail, evidence)


def _leases(task: TaskRecord, now: datetime) -> Iterator[Issue]:
    limits = load("risk_rules")["limits"]
    if task.failure_kind == "lost" or task.lost_leases >= limits["lost_leases"]:
        detail = f"{_name(task)} lost its lease {count(task.lost_leases, 'time')}: it may be what ends its workers."
        yield Issue("risk.lost-lease", (str(task.id),), detail)
    if task.status == "in_progress" and task.lease_expires_at is not None:
        overdue = (now - task.lease_expires_at).total_seconds()
        if overdue > limits["stuck_seconds"]:
            detail = f"{_name(task)} is in progress, but its lease expired {overdue:,.0f} s ago and nobody rescued it."
            yield Issue("risk.stuck", (str(task.id),), detail)


def _retries(task: TaskRecord, events: list[JournalEntry]) -> Iterator[Issue]:
    retries = [e for e in events if e.event_type == "agent_task_retried"]
    times = max(len(retries), task.attempt - 1)
    if times >= load("risk_rules")["limits"]["task_retries"]:
        evidence = (Rows(table="journal_entries", ids=[str(e.id) for e in retries[:20]]),) if retries else ()
        detail = f"{_name(task)} was retried {count(times, 'time')} (attempt {task.attempt} of {task.max_attempts})."
        yield Issue("risk.retry-storm", (str(task.id),), detail, evidence)


def _durations(tasks: Sequence[TaskRecord]) -> Iterator[Issue]:
    """Modified z-scores of log durations, per agent and type (Iglewicz & Hoaglin, 1993)."""
    limits = load("risk_rules")["limits"]
    for (agent_id, task_type), runs in _by_type(tasks).items():
        if len(runs) < limits["outlier_runs"]:
            continue
        logs = [math.log(max(seconds, 0.001)) for _, seconds in runs]
        middle = median(logs)
        spread = max(median(abs(x - middle) for x in logs), limits["outlier_spread"])
        for (task, seconds), log in zip(runs, logs, strict=True):
            score = 0.6745 * (log - middle) / spread
            typical = math.exp(middle)
            if abs(score) > limits["outlier_score"] and abs(seconds - typical) >= limits["outlier_seconds"]:
                metric = Metric(
                    name="duration",
                    value=round(seconds, 3),
                    unit="s",
                    formula="0.6745 (ln x - median) / MAD",
                    source="agent_tasks",
                )
                detail = (
                    f"{_name(task)} took {seconds:,.1f} s; {agent_id} {task_type} typically takes {typical:,.1f} s "
                    f"({len(runs)} runs, modified z-score {score:.1f})."
                )
                yield Issue("risk.duration-outlier", (str(task.id),), detail, (metric,))


def _by_type(tasks: Sequence[TaskRecord]) -> dict[tuple[str, str], list[tuple[TaskRecord, float]]]:
    runs: dict[tuple[str, str], list[tuple[TaskRecord, float]]] = defaultdict(list)
    for task in tasks:
        if task.status == "completed" and task.started_at is not None and task.completed_at is not None:
            seconds = (task.completed_at - task.started_at).total_seconds()
            if seconds >= 0:
                runs[task.agent_id, task.task_type].append((task, seconds))
    return runs


def _loops(tasks: Sequence[TaskRecord]) -> Iterator[Issue]:
    limits = load("risk_rules")["limits"]
    alike: dict[str, list[TaskRecord]] = defaultdict(list)
    for task in tasks:
        what = json.dumps([task.agent_id, task.task_type, task.payload], sort_keys=True, default=str)
        alike[hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest()].append(task)
    for group in alike.values():
        group.sort(key=lambda t: (t.created_at, str(t.id)))
        burst = _burst([t.created_at for t in group], timedelta(seconds=limits["loop_seconds"]))
        if len(burst) >= limits["loop_tasks"]:
            ids = tuple(str(group[i].id) for i in burst)
            detail = (
                f"{len(burst)} tasks like {_name(group[0])} with the same payload within {limits['loop_seconds']} s."
            )
            yield Issue("risk.loop", ids, detail)


def _storms(tasks: Sequence[TaskRecord], journal: Sequence[JournalEntry]) -> Iterator[Issue]:
    limits = load("risk_rules")["limits"]
    by_id = {str(t.id): t for t in tasks}
    retries: dict[tuple[str, str], list[JournalEntry]] = defaultdict(list)
    for entry in journal:
        task = by_id.get(str(entry.task_id))
        if entry.event_type == "agent_task_retried" and task is not None:
            retries[task.agent_id, task.task_type].append(entry)
    for (agent_id, task_type), entries in retries.items():
        burst = _burst([e.created_at for e in entries], timedelta(seconds=limits["storm_seconds"]))
        ids = tuple(dict.fromkeys(str(entries[i].task_id) for i in burst))
        if len(burst) >= limits["storm_retries"] and len(ids) > 1:
            seconds = limits["storm_seconds"]
            detail = f"{len(burst)} retries of {agent_id} {task_type} within {seconds} s, of {len(ids)} tasks."
            yield Issue(
                "risk.retry-storm",
                ids,
                detail,
                (Rows(table="journal_entries", ids=[str(entries[i].id) for i in burst[:20]]),),
            )


def _burst(moments: Sequence[datetime], window: timedelta) -> range:
    """The longest run of `moments` (in order) that fits into `window`."""
    best = range(0)
    first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] > window:
            first += 1
        best = max(best, range(first, last + 1), key=len)
    return best


def _name(task: TaskRecord) -> str:
    return f"{task.agent_id} {task.task_type}"
