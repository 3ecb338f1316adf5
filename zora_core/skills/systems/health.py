"""The health of endpoints, queue, database and disk: each figure against its threshold, green, amber or red."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from math import ceil, sqrt
from typing import Any, Literal

from zora_core.data import load
from zora_core.models import Evidence, Finding, Metric, Severity
from zora_core.wording import count

Status = Literal["green", "amber", "red"]
# What `TaskContext.database_health` records its figures as.
DATABASE = "database_health"
ORDER: dict[Status, int] = {"red": 0, "amber": 1, "green": 2}


@dataclass(frozen=True)
class Probe:
    """What came back from one request: `status` is None when nothing did, and `error` then says why."""

    elapsed_ms: float
    status: int | None = None
    error: str | None = None

    @property
    def answered(self) -> bool:
        """Whether the service answered as it should: any status below 400."""
        return self.status is not None and self.status < 400


@dataclass(frozen=True)
class Check:
    """One judged figure: `name` is the rule, `subject` what was measured, `reason` and `next_step` are for a person."""

    name: str
    subject: str
    status: Status
    value: float
    unit: str
    reason: str
    next_step: str
    evidence: tuple[Evidence, ...]

    def as_dict(self) -> dict[str, Any]:
        """For programs; the evidence is in the findings."""
        return {key: value for key, value in asdict(self).items() if key != "evidence"}


def settings() -> dict[str, Any]:
    """The thresholds in `health.toml`."""
    return load("health")


def judge(
    name: str,
    subject: str,
    value: float,
    reason: str,
    *,
    source: str,
    formula: str = "",
    evidence: Sequence[Evidence] = (),
) -> Check:
    """Compare `value`, which comes from what was read as `source`, with the thresholds of the check `name`."""
    rule = settings()["checks"][name]
    below = rule["worse"] == "below"

    def beyond(limit: float) -> bool:
        return value < limit if below else value > limit

    status: Status = "red" if beyond(rule["red"]) else "amber" if beyond(rule["amber"]) else "green"
    if status != "green":
        reason += f" ({status} {rule['worse']} {rule[status]:g} {rule['unit']})"
    metric = Metric(
        name=f"{name} {subject}".strip(), value=round(value, 4), unit=rule["unit"], formula=formula, source=source
    )
    return Check(
        name=name,
        subject=subject,
        status=status,
        value=round(value, 4),
        unit=rule["unit"],
        reason=reason,
        next_step="" if status == "green" else rule["next_step"],
        evidence=(metric, *evidence),
    )


def judge_endpoint(
    url: str, probes: Sequence[Probe], certificate_expires: datetime | None, now: datetime
) -> list[Check]:
    """Availability, p95 latency and the certificate's remaining life of one endpoint.

    Latency counts only probes that were answered. Without `certificate_expires` nothing is said about TLS.
    """
    if not probes:
        raise ValueError(f"no probe of {url}")
    good = [probe for probe in probes if probe.answered]
    bad = [probe for probe in probes if not probe.answered]
    reason = f"{url} answered {len(good)} of {count(len(probes), 'probe')}"
    if bad:
        reason += "; " + ", ".join(sorted({probe.error or f"HTTP {probe.status}" for probe in bad}))
    formula = "probes answered with a status below 400 / probes"
    checks = [judge("endpoint-available", url, len(good) / len(probes), reason, source=url, formula=formula)]
    if good:
        times = [probe.elapsed_ms for probe in good]
        p50, p95 = percentile(times, 0.5), percentile(times, 0.95)
        checks.append(
            judge(
                "endpoint-latency",
                url,
                p95,
                f"{url} took {p50:.0f} ms (median) and {p95:.0f} ms (p95) over {count(len(good), 'probe')}",
                source=url,
                formula="nearest-rank 95th percentile of the time to the last byte",
            )
        )
    if certificate_expires is not None:
        days = (certificate_expires - now).total_seconds() / 86400
        distance, when = count(round(abs(days)), "day"), f"{certificate_expires:%Y-%m-%d}"
        reason = f"the certificate of {url} ends on {when}, in {distance}"
        if days < 0:
            reason = f"the certificate of {url} ended on {when}, {distance} ago"
        checks.append(judge("endpoint-tls", url, days, reason, source=url))
    return checks


def judge_queue(queue: Mapping[str, Any], *, own_tasks: int = 0) -> list[Check]:
    """Age, backlog, stalled work, expired leases and the last hour's failures of the queue.

    Keys as in `TaskContext.database_health()["queue"]`. `own_tasks` of those in progress are the review itself, which
    does not prove that anybody works on the rest.
    """
    ready, running = int(queue["ready"]), max(0, int(queue["in_progress"]) - own_tasks)
    completed, failed = int(queue["completed_last_hour"]), int(queue["failed_last_hour"])
    oldest, expired = float(queue["oldest_ready_seconds"] or 0), int(queue["expired_leases"])
    finished = completed + failed
    stalled = ready if running == 0 and finished == 0 and oldest > settings()["checks"]["queue-age"]["amber"] else 0
    waiting = f"{count(ready, 'task is', 'tasks are')} ready, the oldest for {duration(oldest)}"
    state = f"{ready} ready, {running} running, {finished} ended in the last hour"
    overdue = f"{count(expired, 'running task has', 'running tasks have')} an expired lease"
    checks = [
        judge("queue-age", "queue", oldest, waiting, source=DATABASE),
        judge("queue-stalled", "queue", stalled, state, source=DATABASE),
        judge("queue-expired-leases", "queue", expired, overdue, source=DATABASE),
        judge_failures("queue", failed, finished, "in the last hour", source=DATABASE),
    ]
    if finished:
        reason = f"{count(ready, 'ready task')} at {finished} ended in the last hour"
        formula = "ready tasks / tasks ended in the last hour"
        checks.append(judge("queue-drain", "queue", ready / finished, reason, source=DATABASE, formula=formula))
    return checks


def judge_failures(
    subject: str, failed: int, runs: int, when: str, *, source: str, evidence: Sequence[Evidence] = ()
) -> Check:
    """The failure rate of `runs` runs, by the lower end of its 95 % Wilson interval."""
    reason = f"{failed} of {count(runs, 'run')} failed {when}" if runs else f"no run ended {when}"
    formula = f"lower 95 % Wilson bound of {failed}/{runs}"
    share = wilson_lower(failed, runs)
    return judge("failure-rate", subject, share, reason, source=source, formula=formula, evidence=evidence)


def judge_database(figures: Mapping[str, Any]) -> list[Check]:
    """Connections, round trip, transactions, locks, dead rows and wraparound of PostgreSQL.

    Keys as in `TaskContext.database_health()`. What is known of the caller's own sessions alone is not judged. Of the
    tables only the one with the largest share of dead rows is judged
    green; every table beyond a threshold has a check of its own.
    """
    used, most = int(figures["connections"]["used"]), int(figures["connections"]["max"])
    longest = float(figures["longest_transaction_seconds"] or 0)
    blocked, age = int(figures["blocked_locks"] or 0), int(figures["transaction_id_age"] or 0)
    trip = float(figures["round_trip_ms"])
    waiting = count(blocked, "session waits", "sessions wait")
    judged = (
        ("database-connections", used / most, f"{used} of {count(most, 'connection')} in use"),
        ("database-round-trip", trip, f"a round trip takes {trip:.1f} ms"),
        ("database-long-transaction", longest, f"the longest transaction lasts {duration(longest)}"),
        ("database-blocked-locks", blocked, f"{waiting} for a lock"),
        ("database-wraparound", age, f"the oldest transaction id is {age:,} transactions old"),
    )
    unseen = () if figures["sees_sessions"] else ("database-connections", "database-long-transaction")
    return [
        *(
            judge(name, "database", value, reason, source=DATABASE)
            for name, value, reason in judged
            if name not in unseen
        ),
        *_judge_dead_rows(figures["dead_tuples"]),
    ]


def _judge_dead_rows(tables: Iterable[Mapping[str, Any]]) -> list[Check]:
    least = settings()["checks"]["database-dead-rows"]["least_rows"]
    checks = []
    for table in tables:
        live, dead = int(table["live"]), int(table["dead"])
        share = dead / (live + dead) if dead >= least else 0.0
        reason = f"{table['table']} has {dead:,} dead and {count(live, 'live row')}"
        formula = f"dead / (dead + live), 0 with fewer than {least} dead rows"
        checks.append(judge("database-dead-rows", str(table["table"]), share, reason, source=DATABASE, formula=formula))
    checks.sort(key=lambda check: (-check.value, check.subject))
    return [check for check in checks if check.status != "green"] or checks[:1]


def judge_disk(path: str, total: int, free: int) -> Check:
    """Free space of the disk under `path`; sizes in bytes."""
    reason = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB are free under {path}"
    return judge("disk-free", path, free / total, reason, source=path, formula="free bytes / total bytes")


def severity(check: Check) -> Severity:
    """How much a check that is not green matters."""
    red: str = settings()["checks"][check.name].get("red_severity", "high")
    return {"red": Severity(red), "amber": Severity.MEDIUM, "green": Severity.INFO}[check.status]


def worst_first(check: Check) -> tuple[int, int, str, str]:
    """A key that sorts checks by status, then severity."""
    return ORDER[check.status], -severity(check).rank, check.name, check.subject


def findings(checks: Iterable[Check]) -> list[Finding]:
    """A finding for each check that is not green, red first."""
    return [finding(check) for check in sorted(checks, key=worst_first) if check.status != "green"]


def finding(check: Check) -> Finding:
    """A check as a finding."""
    rule = settings()["checks"][check.name]
    return Finding(
        rule_id=f"health.{check.name}",
        title=f"{rule['title']}: {check.status}" + (f" ({check.subject})" if check.subject else ""),
        detail=f"{check.reason}. Next: {check.next_step} Threshold: {rule['source']}.",
        severity=severity(check),
        confidence=1.0,
        source="statistic" if check.name == "failure-rate" else "rule",
        evidence=list(check.evidence),
    )


def wilson_lower(successes: int, trials: int, z: float = 1.96) -> float:
    """Lower end of the Wilson score interval (Wilson 1927); 0 without trials."""
    if trials == 0:
        return 0.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    margin = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # Rounding may lift the bound of a share of 0 above it.
    return min(share, max(0.0, (centre - margin) / (1 + z * z / trials)))


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile of at least one value; `share` in 0..1."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def duration(seconds: float) -> str:
    """Seconds in the unit that people would use."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
