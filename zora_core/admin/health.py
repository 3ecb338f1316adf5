"""Health in words, as far as a tenant may know: its queue, workers and schedules, and how fast the database is.

What is of the whole installation (connections, locks, disk, size, dead rows) would tell of other tenants, and is not
asked for: the server's operator has `zora doctor`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from zora_core.database.database import CLOCK_SKEW_SECONDS
from zora_core.journal.sealing import start_sealing
from zora_core.journal.state import read_state
from zora_core.schedules import examine_schedules
from zora_core.skills.systems import health

if TYPE_CHECKING:
    from zora_core.admin.site import Visit

State = Literal["ok", "note", "wrong"]

_STATES: dict[health.Status, State] = {"green": "ok", "amber": "note", "red": "wrong"}
_NAMES = {
    "queue-age": "Oldest ready task",
    "queue-stalled": "Ready tasks are taken",
    "queue-expired-leases": "Workers answer",
    "failure-rate": "Failures",
    "queue-drain": "The queue drains",
    "database-round-trip": "Database answers",
}
_OF_READY = {"queue-age", "queue-stalled", "queue-drain"}
_PLACES = ["wrong", "note", "ok"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found in words, and what to do when it is not as it should be."""

    name: str
    state: State
    found: str
    next_step: str = ""


@dataclass(frozen=True)
class Ready:
    """The tenant's queue, of `agent_task_counts`."""

    ready: int
    running: int
    oldest: datetime | None
    """When the oldest of the ready tasks was created."""


def ready_of(counts: Iterable[Mapping[str, Any]]) -> Ready:
    """What is ready and what runs, of all agents together."""
    ready = [row for row in counts if row["status"] == "pending" and row["waiting_for"] is None]
    return Ready(
        sum(row["tasks"] for row in ready),
        sum(row["tasks"] for row in counts if row["status"] == "in_progress"),
        min((row["oldest"] for row in ready), default=None),
    )


async def examine(
    visit: Visit,
    counts: Sequence[Mapping[str, Any]],
    workers: Iterable[Mapping[str, Any]],
    hour: Iterable[Mapping[str, Any]],
    *,
    paused: bool = False,
) -> list[Finding]:
    """Look at what the visitor may know of, the worst first.

    `counts`, `workers` and `hour` are the rows of `agent_task_counts`, `list_workers` and `queue_history` of an hour;
    `paused` says that everything is, so that it is no wonder that tasks wait.
    """
    database = visit.caller.api.database
    before = time.perf_counter()
    now: datetime = await database.value("zora_now")
    trip = (time.perf_counter() - before) * 1000
    queue, hour = ready_of(counts), list(hour)
    checks = health.judge_queue(
        {
            "ready": queue.ready,
            "in_progress": queue.running,
            "completed_last_hour": sum(bucket["completed"] for bucket in hour),
            "failed_last_hour": sum(bucket["failed"] for bucket in hour),
            "oldest_ready_seconds": max((now - queue.oldest).total_seconds(), 0) if queue.oldest else None,
            "expired_leases": sum(worker["expired"] for worker in workers),
        }
    )
    said = f"a question takes {trip:.1f} ms to be answered"
    checks.append(health.judge("database-round-trip", "database", trip, said, source="this page"))
    found = []
    for check in checks:
        state, next_step = _STATES[check.status], check.next_step
        if check.name in _OF_READY and state != "ok" and paused:
            state, next_step = "note", "Everything is paused: nothing is taken until it is resumed."
        if queue.ready or check.name not in ("queue-age", "queue-drain"):
            found.append(Finding(_NAMES[check.name], state, _sentence(check.reason), next_step))
    found += [_clock(now), await _journal(visit)]
    state, schedules = await examine_schedules(database, visit.caller.principal.tenant_id, now)
    found.append(Finding("Schedules", state, _sentence(schedules)))
    return sorted(found, key=lambda finding: _PLACES.index(finding.state))


def _clock(now: datetime) -> Finding:
    skew = abs(datetime.now(UTC) - now)
    if skew < timedelta(seconds=CLOCK_SKEW_SECONDS):
        return Finding("Clocks", "ok", "This server's clock agrees with the database's.")
    return Finding(
        "Clocks",
        "note",
        f"This server's clock differs from the database's by {skew.total_seconds():,.0f} s.",
        "Set the clocks by NTP: the queue goes by the database's, logs by this server's.",
    )


async def _journal(visit: Visit) -> Finding:
    state = await read_state(visit.caller.api.database, visit.caller.principal.tenant_id)
    said = _sentence(state.said)
    if state.clock is not None:
        return Finding("Journal", "note", said, _sentence(state.clock))
    if not state.is_late:
        return Finding("Journal", "ok", said)
    if visit.foreign is not None:
        said += " This server answers your tenant, but runs tasks and seals the journal of another."
    return Finding("Journal", "note", said, f"{start_sealing(visit.foreign)}.")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
