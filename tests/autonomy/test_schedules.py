"""Workers run schedules: each fire time once, with any number of workers, and missed ones by the misfire policy."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.conftest import START, Zora
from tests.test_cron import BERLIN, LORD_HOWE, NEW_YORK, model
from zora_core import schedules
from zora_core.cron import Cron
from zora_core.database.postgres import connect
from zora_core.effects import effect_of
from zora_core.models import Suggestion
from zora_core.schedules import attend_schedules, plan, plan_schedules

pytestmark = pytest.mark.both_transports


async def create(zora: Zora, cron: str, timezone: str = "UTC", **fields: Any) -> UUID:
    schedule = {
        "name": f"{cron} {timezone}", "agent_id": "EIVOR", "task_type": "summarize_recent_events", "cron": cron,
        "timezone": timezone, **fields,
    }  # fmt: skip
    (row,) = await zora.call("create_schedule", tenant_id=zora.tenant_id, schedule=schedule)
    await plan_schedules(zora.database)
    return row["id"]


async def update(zora: Zora, schedule_id: UUID, **changes: Any) -> None:
    await zora.call("update_schedule", tenant_id=zora.tenant_id, id=schedule_id, changes=changes)


async def schedule(zora: Zora, schedule_id: UUID) -> dict[str, Any]:
    (row,) = await zora.call("get_schedule", tenant_id=zora.tenant_id, id=str(schedule_id))
    return row


async def fired(zora: Zora, schedule_id: UUID | None = None) -> list[datetime]:
    """The fire times that tasks stand for."""
    rows = await zora.sql(
        "select run_at from agent_tasks where idempotency_key like $1 order by run_at",
        f"schedule:{schedule_id or '%'}:%",
    )
    return [row["run_at"] for row in rows]


async def journalled(zora: Zora) -> list[dict[str, Any]]:
    """What the journal says of schedules that were carried out, oldest first."""
    rows = await zora.call("list_journal_entries", tenant_id=zora.tenant_id, category="autonomy", limit=1000)
    return [row["details"] for row in reversed(rows) if row["event_type"] == "autonomy_schedule_executed"]


async def settle(zora: Zora) -> None:
    """Every task has ended."""
    await zora.sql("update agent_tasks set status = 'completed', waiting_for = null")


async def test_a_schedule_makes_a_task_when_its_time_comes(zora: Zora) -> None:
    schedule_id = await create(zora, "30 9 * * *", payload={"days": 3}, title="Morning", priority=5)
    assert await attend_schedules(zora.database) == 1800
    await zora.advance(minutes=30)
    assert await attend_schedules(zora.database) == 86400
    (task,) = await zora.sql("select * from agent_tasks")
    assert (task["title"], task["priority"], task["run_at"], task["waiting_for"]) == ("Morning", 5, zora.now, None)
    row = await schedule(zora, schedule_id)
    assert (row["last_task_id"], row["last_run_at"]) == (task["id"], zora.now)
    assert row["next_run_at"] == zora.now + timedelta(days=1)
    (entry,) = await journalled(zora)
    assert (entry["task_ids"], entry["fire_times"]) == ([str(task["id"])], ["2026-03-02T09:30:00+00:00"])
    assert {"missed", "overlap", "refused"}.isdisjoint(entry)


YEAR = [
    ("30 2 * * *", "Europe/Berlin"), ("0 */4 * * 0", "Europe/Berlin"), ("0 0 1 * *", "Europe/Berlin"),
    ("*/30 2 * * *", "America/New_York"), ("30 1 * * 0,3", "America/New_York"),
    ("0 */3 * * 0,1,6", "Australia/Lord_Howe"), ("45 1 * * *", "Australia/Lord_Howe"),
]  # fmt: skip


async def test_four_workers_and_a_year_of_a_clock_fire_each_time_once(zora: Zora) -> None:
    """The clock goes on by a minute to five days, past all that a zone does in a year; nothing is lost or doubled."""
    ids = {await create(zora, *one, misfire_policy="catch_up", max_catch_up=1000): one for one in YEAR}
    databases = [await connect(zora.url) for _ in range(4)]
    workers = [Zora(database, zora.url, zora.settings).worker() for database in databases]
    steps = random.Random(1)
    end = START + timedelta(days=366)
    while zora.now < end:
        await zora.advance(
            minutes=min(steps.choice([1, 20 * 60, 72 * 60, 120 * 60]), (end - zora.now).total_seconds() / 60)
        )
        await asyncio.gather(*(worker._upkeep_once() for worker in workers))
    for database in databases:
        await database.close()
    told = Counter(
        (entry["schedule_id"], datetime.fromisoformat(time))
        for entry in await journalled_all(zora)
        for time in entry["fire_times"]
    )
    assert set(told.values()) == {1}, "the journal says the same"
    for schedule_id, (cron, timezone) in ids.items():
        times = await fired(zora, schedule_id)
        assert times == list(model(cron, timezone, START, end)), (cron, timezone)
        assert sum(1 for told_id, _ in told if told_id == str(schedule_id)) == len(times)
    assert len(told) > 3000


async def journalled_all(zora: Zora) -> list[dict[str, Any]]:
    rows = await zora.sql("select details from journal_entries where event_type = 'autonomy_schedule_executed'")
    return [json.loads(row["details"]) for row in rows]


@pytest.mark.parametrize("where", [BERLIN, NEW_YORK, LORD_HOWE], ids=lambda where: where[0])
async def test_on_time_at_both_changes_of_the_clock(zora: Zora, where: tuple[str, datetime, datetime]) -> None:
    """Workers sleep until the next fire time: each task is created in its own minute."""
    timezone, *nights = where
    for night in nights:
        begin = night.replace(tzinfo=UTC) - timedelta(hours=18)
        await zora.advance(seconds=(begin - zora.now).total_seconds())
        ids = {await create(zora, cron, timezone, name=f"{cron} {night}"): cron for cron in ("30 2 * * *", "0 * * * *")}
        while zora.now < begin + timedelta(hours=30):
            seconds = await attend_schedules(zora.database)
            assert seconds is not None
            assert seconds > 0
            await zora.advance(seconds=seconds)
        await attend_schedules(zora.database)
        late = await zora.sql("select created_at - run_at as late from agent_tasks where created_at <> run_at")
        assert late == []
        for schedule_id, cron in ids.items():
            assert await fired(zora, schedule_id) == list(model(cron, timezone, begin, zora.now))
            await zora.call("delete_schedule", tenant_id=zora.tenant_id, id=schedule_id)


HOURS = [START + timedelta(hours=hour) for hour in range(1, 200)]  # of @hourly


@pytest.mark.parametrize(
    ("fields", "late", "expected", "missed"),
    [
        # After five hours and a minute: the last one is within the grace period.
        ({"misfire_policy": "run_once"}, 301, HOURS[4:5], 4),
        ({"misfire_policy": "skip"}, 301, HOURS[4:5], 4),
        ({"misfire_policy": "catch_up"}, 301, HOURS[:5], 0),
        ({"misfire_policy": "catch_up", "max_catch_up": 3}, 301, HOURS[2:5], 2),
        # After five hours and ten minutes it is not.
        ({"misfire_policy": "run_once"}, 310, HOURS[4:5], 4),
        ({"misfire_policy": "skip"}, 310, [], 5),
        ({"misfire_policy": "skip", "grace_seconds": 600}, 310, HOURS[4:5], 4),
        ({"misfire_policy": "skip", "grace_seconds": 599}, 310, [], 5),
        ({"misfire_policy": "catch_up"}, 310, HOURS[:5], 0),
        # What comes within the grace period is not a misfire.
        ({"misfire_policy": "run_once", "grace_seconds": 3600}, 115, HOURS[:1], 0),
        ({"misfire_policy": "run_once", "grace_seconds": 3600}, 120, HOURS[:2], 0),
        ({"misfire_policy": "run_once", "grace_seconds": 3599}, 120, HOURS[1:2], 1),
    ],
)  # fmt: skip
async def test_what_becomes_of_fire_times_that_nobody_saw(
    zora: Zora, fields: dict[str, Any], late: int, expected: list[datetime], missed: int
) -> None:
    await create(zora, "@hourly", **fields)
    await zora.advance(minutes=late)
    (would,) = await zora.call("run_due_schedules", dry_run=True)
    assert (would["fire_times"], would["task_ids"], would["passed_over"]) == (expected, [], missed)
    assert await fired(zora) == []
    await attend_schedules(zora.database)
    assert await fired(zora) == expected
    (entry,) = await journalled(zora)
    assert entry.get("missed", {"count": 0})["count"] == missed
    if missed:
        assert entry["missed"]["from"] == HOURS[0].isoformat()
    await zora.advance(minutes=60 - late % 60)
    await attend_schedules(zora.database)
    assert await fired(zora) == [*expected, HOURS[late // 60]], "and then as always"


async def test_a_year_without_anybody_makes_one_task_or_as_many_as_are_wanted(zora: Zora) -> None:
    once = await create(zora, "* * * * *", name="once")
    every = await create(zora, "* * * * *", name="every", misfire_policy="catch_up", max_catch_up=1000)
    yearly = await create(zora, "0 0 1 6 *", name="yearly")
    await zora.advance(days=365)
    await attend_schedules(zora.database)
    last = zora.now
    assert await fired(zora, once) == [last]
    assert await fired(zora, every) == [last - timedelta(minutes=minute) for minute in range(999, -1, -1)]
    assert await fired(zora, yearly) == [datetime(2026, 6, 1, tzinfo=UTC)]
    dropped = [e["missed"] for e in await journalled(zora) if e["schedule_id"] == str(every)]
    assert dropped[0]["from"] == START.isoformat(), "those that were not even looked at are told as a range"
    assert datetime.fromisoformat(dropped[1]["from"]) <= datetime.fromisoformat(dropped[0]["until"]) + timedelta(
        minutes=1
    )
    await attend_schedules(zora.database)
    assert len(await fired(zora)) == 1002, "and once only"


async def test_while_the_last_task_is_unfinished_others_are_passed_over(zora: Zora) -> None:
    skipping = await create(zora, "@hourly", name="skipping", overlap_policy="skip")
    allowing = await create(zora, "@hourly", name="allowing")
    for _ in range(3):
        await zora.advance(hours=1)
        await attend_schedules(zora.database)
    assert await fired(zora, skipping) == HOURS[:1]
    assert await fired(zora, allowing) == HOURS[:3]
    passed = [entry for entry in await journalled(zora) if "overlap" in entry]
    assert [entry["overlap"]["from"] for entry in passed] == [HOURS[1].isoformat(), HOURS[2].isoformat()]
    row = await schedule(zora, skipping)
    assert row["last_run_at"] == HOURS[0]
    await settle(zora)
    await zora.advance(hours=1)
    await attend_schedules(zora.database)
    assert await fired(zora, skipping) == [HOURS[0], HOURS[3]]


async def test_one_after_the_other_also_when_catching_up(zora: Zora) -> None:
    await create(zora, "@hourly", misfire_policy="catch_up", overlap_policy="skip")
    await zora.advance(hours=5)
    await attend_schedules(zora.database)
    assert await fired(zora) == HOURS[:1]
    (entry,) = await journalled(zora)
    assert entry["overlap"]["count"] == 4


async def test_what_is_paused_waits_and_is_then_as_late_as_it_is(zora: Zora) -> None:
    """A pause of the agent is like a time without workers; one of the schedule forgets what would have come."""
    waiting = await create(zora, "@hourly", name="waiting")
    stopped = await create(zora, "@hourly", name="stopped")
    await update(zora, stopped, enabled=False)
    await zora.call("pause_agents", tenant_id=zora.tenant_id, agent_id="EIVOR")
    await zora.advance(hours=3)
    assert await attend_schedules(zora.database) is None, "there is nothing to wake up for"
    assert await zora.call("run_due_schedules", dry_run=True) == []
    assert await fired(zora) == []
    await zora.call("resume_agents", tenant_id=zora.tenant_id, agent_id="EIVOR")
    await update(zora, stopped, enabled=True)
    await attend_schedules(zora.database)
    assert await fired(zora, waiting) == HOURS[2:3]
    assert await fired(zora, stopped) == []
    await zora.advance(hours=1)
    await attend_schedules(zora.database)
    assert await fired(zora, stopped) == HOURS[3:4]


async def test_another_cron_expression_or_zone_begins_now_and_another_payload_changes_nothing_else(zora: Zora) -> None:
    schedule_id = await create(zora, "@hourly")
    before = await schedule(zora, schedule_id)
    await update(zora, schedule_id, payload={"days": 2}, title="t", cron="@hourly")
    assert (await schedule(zora, schedule_id))["next_run_at"] == before["next_run_at"]
    await zora.advance(hours=2, minutes=30)
    await update(zora, schedule_id, timezone="Asia/Kolkata")
    assert (await schedule(zora, schedule_id))["next_run_at"] is None
    assert await zora.call("run_due_schedules") == [], "nothing is carried out by what no longer holds"
    assert await attend_schedules(zora.database) == 3600
    await zora.advance(hours=1)
    await attend_schedules(zora.database)
    assert await fired(zora) == [START + timedelta(hours=3, minutes=30)]


async def test_an_approved_suggestion_changes_when_a_schedule_comes_round(zora: Zora) -> None:
    schedule_id = await create(zora, "@hourly")
    made = Suggestion(
        suggestion_type="change_schedule", title="Less often", target={"id": str(schedule_id)},
        current_value={"cron": "@hourly", "timezone": "UTC"},
        suggested_value={"cron": "30 3 * * *", "timezone": "Europe/Berlin"},
        evidence=[{"kind": "metric", "name": "n", "value": 1, "unit": "rows"}],
    )  # fmt: skip
    (asked,) = await zora.call(
        "propose_agent_suggestion", tenant_id=zora.tenant_id, agent_id="LUMINA",
        suggestion={**made.model_dump(mode="json"), "effect": effect_of(made)},
    )  # fmt: skip
    (done,) = await zora.call(
        "decide_agent_suggestion", tenant_id=zora.tenant_id, id=asked["id"], decision="approve",
        digest=asked["effect_digest"],
    )  # fmt: skip
    assert done["status"] == "applied"
    await attend_schedules(zora.database)
    assert (await schedule(zora, schedule_id))["next_run_at"] == datetime(2026, 3, 3, 2, 30, tzinfo=UTC)
    await zora.call("undo_agent_suggestion", tenant_id=zora.tenant_id, id=asked["id"])
    await attend_schedules(zora.database)
    assert (await schedule(zora, schedule_id))["next_run_at"] == HOURS[0]


async def test_killed_before_the_fire_times_are_stored_or_the_tasks_are_created(
    zora: Zora, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was computed is computed again, and a transaction that did not end did nothing."""
    schedule = {"name": "s", "agent_id": "EIVOR", "task_type": "summarize_recent_events", "cron": "@hourly"}
    await zora.call("create_schedule", tenant_id=zora.tenant_id, schedule=schedule)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(schedules, "plan", killed)
        with pytest.raises(KeyboardInterrupt):
            await attend_schedules_in_this_thread(zora, patched)
    await zora.advance(minutes=30)
    assert await attend_schedules(zora.database) == 1800
    await zora.advance(minutes=30)
    connection = await asyncpg.connect(zora.url)
    async with asyncio.timeout(10):
        await connection.execute("begin")
        assert len(await connection.fetch("select * from run_due_schedules()")) == 1
        assert await attend_schedules(zora.database) == 1, "the others pass over what is locked"
        connection.terminate()
        while not await fired(zora):
            await attend_schedules(zora.database)
    assert await fired(zora) == HOURS[:1]


async def attend_schedules_in_this_thread(zora: Zora, patched: pytest.MonkeyPatch) -> None:
    async def here(function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    patched.setattr(asyncio, "to_thread", here)
    await attend_schedules(zora.database)


async def test_fire_times_that_two_compute_at_once_are_carried_out_once(zora: Zora) -> None:
    schedule_id = await create(zora, "* * * * *", misfire_policy="catch_up")
    await zora.sql("update autonomy_schedules set plan_again_at = null")
    (stale,) = await zora.call("list_schedules_to_plan")
    await asyncio.gather(*(plan_schedules(zora.database) for _ in range(4)))
    await zora.advance(minutes=5)
    await attend_schedules(zora.database)
    times, since = plan(Cron(stale["cron"], stale["timezone"]), stale["handled_until"], stale["now"])
    await zora.call(
        "plan_schedule", tenant_id=zora.tenant_id, id=schedule_id, cron=stale["cron"], timezone=stale["timezone"],
        upcoming=times, since=since,
    )  # fmt: skip
    assert (await schedule(zora, schedule_id))["next_run_at"] == zora.now + timedelta(minutes=1)
    await zora.advance(minutes=1)
    await attend_schedules(zora.database)
    assert await fired(zora) == [START + timedelta(minutes=minute) for minute in range(1, 7)]


async def test_fire_times_are_known_far_enough_ahead_and_computed_again_every_day(zora: Zora) -> None:
    """For pg_cron, which cannot compute them; and so that a new tz database takes effect."""
    for cron, known in (("* * * * *", 2 * 1440 + 1), ("@daily", 100), ("0 0 29 2 *", 4)):
        schedule_id = await create(zora, cron)
        assert len((await schedule(zora, schedule_id))["upcoming"]) == known, cron
    await zora.sql("update autonomy_schedules set upcoming = upcoming[:1]")
    await zora.advance(hours=23)
    await plan_schedules(zora.database)
    assert len((await schedule(zora, schedule_id))["upcoming"]) == 1
    await zora.advance(hours=2)
    await plan_schedules(zora.database)
    assert len((await schedule(zora, schedule_id))["upcoming"]) == 4


async def test_without_python_what_is_known_is_carried_out_and_then_it_shows(zora: Zora) -> None:
    schedule_id = await create(zora, "@daily")
    for _ in range(101):
        await zora.advance(days=1)
        await zora.call("run_due_schedules")
    row = await schedule(zora, schedule_id)
    assert (len(await fired(zora)), row["next_run_at"], row["plan_again_at"]) == (100, None, None)
    await attend_schedules(zora.database)
    assert len(await fired(zora)) == 101, "the one that was not known is made up for"
    assert (await schedule(zora, schedule_id))["next_run_at"] is not None


async def test_a_schedule_that_cannot_be_read_or_carried_out_does_not_hold_up_the_others(zora: Zora) -> None:
    bad = await create(zora, "@hourly", name="bad")
    unreadable = await create(zora, "@hourly", name="unreadable")
    good = await create(zora, "@hourly", name="good")
    await zora.sql("update autonomy_schedules set cron = 'whenever' where id = $1", unreadable)
    await zora.create("SAM", "another", title="t", idempotency_key=f"schedule:{bad}:{HOURS[0]:%Y-%m-%dT%H:%MZ}")
    await zora.advance(hours=1)
    await attend_schedules(zora.database)
    assert await fired(zora, good) == HOURS[:1]
    problem = (await schedule(zora, unreadable))["problem"]
    assert problem is not None
    assert "invalid cron expression 'whenever'" in problem
    (entry,) = [e for e in await journalled(zora) if e["schedule_id"] == str(bad)]
    assert "belongs to another task" in entry["refused"][0]["error"]
    assert (await schedule(zora, bad))["next_run_at"] == HOURS[1], "it goes on"
    await update(zora, unreadable, cron="@hourly")
    await attend_schedules(zora.database)
    row = await schedule(zora, unreadable)
    assert (row["problem"], row["next_run_at"]) == (None, HOURS[1])


async def test_a_policy_of_approval_holds_for_scheduled_tasks_too(zora: Zora) -> None:
    await zora.call(
        "set_agent_task_policy", tenant_id=zora.tenant_id, task_type="summarize_recent_events", auto_execute=False
    )
    await create(zora, "@hourly")
    await zora.advance(hours=1)
    await attend_schedules(zora.database)
    assert [r["waiting_for"] for r in await zora.sql("select waiting_for from agent_tasks")] == ["approval"]


async def test_a_person_has_a_task_made_now(zora: Zora) -> None:
    schedule_id = await create(zora, "@hourly", overlap_policy="skip", payload={"days": 2})
    await update(zora, schedule_id, enabled=False)
    for _ in range(2):
        (row,) = await zora.call("run_schedule_now", tenant_id=zora.tenant_id, id=schedule_id)
    assert len(await zora.sql("select from agent_tasks where payload = $1", '{"days": 2}')) == 2
    assert (row["last_run_at"], row["next_run_at"]) == (START, None)
    assert row["last_task_id"] is not None


async def test_a_worker_wakes_up_for_the_next_fire_time_and_runs_its_task(zora: Zora) -> None:
    await create(zora, "@hourly", payload={"days": 1})
    await zora.advance(minutes=59, seconds=58)
    assert await zora.worker()._upkeep_once() == 2, "sooner than it would look by itself"
    await zora.create("SAM", "t", run_at=(zora.now + timedelta(seconds=1)).isoformat())
    assert await zora.worker()._upkeep_once() == 1, "whatever comes first"
    await zora.advance(seconds=2)
    runs = await zora.run_once()
    assert [run.status for run in runs if run.task.task_type == "summarize_recent_events"] == ["completed"]
