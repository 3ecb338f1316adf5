"""Computes fire times of schedules, which SQL cannot. `run_due_schedules` in SQL creates the tasks."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from zora_core.cron import Cron
from zora_core.errors import InvalidInput
from zora_core.safe_logger import safe_logger
from zora_core.suggested_command import zora_command

if TYPE_CHECKING:
    from zora_core.database.database import Database, Row

logger = safe_logger("zora.schedules")

LATE = timedelta(minutes=5)
AHEAD = timedelta(days=2)  # fire times are computed for this time or number, whichever is more
AHEAD_COUNT = 100
AT_MOST = timedelta(days=3660)
MAX_MISSED = 1000  # that are kept; the highest max_catch_up
BATCH = 100
LOCKED_SECONDS = 1.0


async def attend_schedules(database: Database, state: Row | None = None) -> float | None:
    """What any worker does for all tenants: compute fire times where they run out, carry out what is due.

    `state` is what `schedules_to_attend` has just said, if it was asked already. Returns in how many seconds the next
    fire time comes; None when there is none.
    """
    if state is None:
        (state,) = await database.call("schedules_to_attend")
    if state["some_to_plan"]:
        await plan_schedules(database)
        (state,) = await database.call("schedules_to_attend")
    due: float | None = state["next_due_seconds"]
    if due is None or due > 0:
        return due
    rows = await database.call("run_due_schedules", limit=BATCH)
    if not rows:  # somebody else has them in hand
        return LOCKED_SECONDS
    for row in rows:
        if row["why"] is not None:
            logger.warning("schedule %s: passed over %d fire times (%s)", row["name"], row["passed_over"], row["why"])
    (state,) = await database.call("schedules_to_attend")
    return state["next_due_seconds"]  # type: ignore[no-any-return]


async def plan_schedules(database: Database, tenant_id: UUID | None = None) -> None:
    """Compute the fire times of schedules that have none or run out of them, of one tenant or of all.

    Repeating it, and several doing it at once, is harmless. A schedule whose cron expression or time zone cannot be
    read keeps the reason as its `problem`, and is looked at again after a day.
    """
    while rows := await database.call("list_schedules_to_plan", limit=BATCH, tenant_id=tenant_id):
        for row in rows:
            problem = None
            try:
                times, since = await asyncio.to_thread(
                    plan, Cron(row["cron"], row["timezone"]), row["handled_until"], row["now"]
                )
            except InvalidInput as error:
                times, since, problem = [], row["handled_until"], str(error)
                logger.error("schedule %s is not carried out: %s", row["name"], error)
            await database.call(
                "plan_schedule",
                tenant_id=row["tenant_id"],
                id=row["id"],
                cron=row["cron"],
                timezone=row["timezone"],
                upcoming=times,
                since=since,
                problem=problem,
            )


def plan(cron: Cron, handled_until: datetime, now: datetime) -> tuple[list[datetime], datetime]:
    """The fire times after `handled_until` that are to be known at `now`, and since when they are all there.

    Of those that were missed about the last 1,000 are kept.
    """
    since = handled_until
    missed = takewhile(lambda time: time <= now, cron.after(since))
    if len(list(islice(missed, MAX_MISSED + 1))) > MAX_MISSED:
        since = max(since, cron.before(now, MAX_MISSED))
    times: list[datetime] = []
    ahead = 0
    for time in cron.after(since):
        times.append(time)
        ahead += time > now
        if ahead and (time > now + AT_MOST or (ahead >= AHEAD_COUNT and time > now + AHEAD)):
            break
    return times, since


def fire_times(row: dict[str, Any], since: datetime, until: datetime) -> list[datetime]:
    """The fire times of a schedule in a window of time; none when it is not enabled."""
    if not row["enabled"]:
        return []
    return list(takewhile(lambda time: time <= until, Cron(row["cron"], row["timezone"]).after(since)))


async def examine_schedules(database: Database, tenant_id: UUID, now: datetime) -> tuple[Literal["ok", "note"], str]:
    """For `zora doctor`: the number of enabled schedules, and those that are overdue or not computed."""
    rows = [row for row in await database.call("list_schedules", tenant_id=tenant_id) if row["enabled"]]
    paused = {row["agent_id"] for row in await database.call("list_agent_pauses", tenant_id=tenant_id)}
    unknown = [row["name"] for row in rows if row["next_run_at"] is None]
    late = [
        row["name"]
        for row in rows
        if row["next_run_at"] and row["next_run_at"] < now - LATE and not paused & {"*", row["agent_id"]}
    ]
    found = f"{len(rows)} enabled"
    if unknown:
        found += f"; of {_some(unknown)} it is not known when they come next, see `{zora_command('schedules', 'list')}`"
    if late:
        found += f"; overdue: {_some(late)}, see “Running schedules” in docs/schedules.md"
    return "note" if unknown or late else "ok", found


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
