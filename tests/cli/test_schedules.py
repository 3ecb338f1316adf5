"""Schedules on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.cli import test_cli
from tests.cli.test_cli import Zora
from zora_core.database.embedded import EmbeddedServer

environment, zora = test_cli.environment, test_cli.zora


@pytest.fixture(autouse=True)
def none(zora: Zora) -> None:
    for schedule in zora.json("schedules", "list"):
        zora("schedules", "delete", schedule["id"])


@pytest.fixture
def url(environment: dict[str, str]) -> Iterator[str]:
    server = EmbeddedServer.at(Path(environment["ZORA_HOME"]))
    yield server.start()
    server.release()


def create(zora: Zora, name: str, *options: str, cron: str = "0 9 * * 1") -> dict[str, Any]:
    return zora.json("schedules", "create", name, "eivor", "summarize_recent_events", "--cron", cron, *options)


def test_a_schedule_from_its_creation_to_its_end(zora: Zora) -> None:
    said = zora(
        "schedules", "create", "Weekly digest", "EIVOR", "summarize_recent_events", "--cron", "0 9 * * 1",
        "--timezone", "Europe/Berlin", "--payload", '{"days": 7}', "--title", "The week", "--priority", "3",
        "--misfire", "catch_up", "--max-catch-up", "4", "--overlap", "skip", "--grace-seconds", "60",
    )  # fmt: skip
    assert "Created. Weekly digest runs next on Mon 20" in said
    assert "09:00 (Europe/Berlin)" in said
    shown = zora("schedules", "show", "Weekly digest")
    for part in (
        "EIVOR summarize_recent_events", "The week", '{"days": 7}', "0 9 * * 1, Europe/Berlin", "60 s", "create none",
        "a task for each missed run, for the last 4 at most",
    ):  # fmt: skip
        assert part in shown
    (row,) = zora.json("schedules", "list")
    assert (row["misfire_policy"], row["max_catch_up"], row["overlap_policy"]) == ("catch_up", 4, "skip")
    assert "upcoming" not in row

    assert "Paused." in zora("schedules", "pause", row["id"][-8:])
    assert "paused" in zora("schedules", "list")
    assert zora.json("schedules", "next", "--hours", "200") == []
    assert "Resumed. Weekly digest runs next" in zora("schedules", "resume", "Weekly digest")

    changed = zora.json("schedules", "update", "Weekly digest", "--cron", "@daily", "--timezone", "UTC")
    assert (changed["cron"], changed["payload"], changed["next_run_at"][11:16]) == ("@daily", {"days": 7}, "00:00")

    said = zora("schedules", "run-now", "Weekly digest")
    task = zora.json("tasks", "show", said.split()[2].rstrip(":"))
    assert (task["title"], task["priority"], task["payload"]) == ("The week", 3, {"days": 7})

    assert "Deleted the schedule Weekly digest" in zora("schedules", "delete", "Weekly digest")
    assert "No schedules yet" in zora("schedules", "list")
    assert "no schedule Weekly digest" in zora("schedules", "show", "Weekly digest", status=1)


def test_next_shows_what_comes_in_order(zora: Zora) -> None:
    create(zora, "hourly", cron="30 * * * *")
    create(zora, "daily", cron="0 12 * * *")
    coming = zora.json("schedules", "next")
    times = [datetime.fromisoformat(one["fire_time"]) for one in coming]
    assert times == sorted(times)
    assert [one["name"] for one in coming].count("daily") == 1
    assert [one["name"] for one in coming].count("hourly") == 24
    assert all(timedelta(0) < time - datetime.now(UTC) <= timedelta(hours=24) for time in times[1:])
    assert len(zora.json("schedules", "next", "daily", "--hours", "72")) == 3
    assert "… and 20 more" in zora("schedules", "next", "--limit", "5")
    assert "No runs in the next 0.001 hours." in zora("schedules", "next", "daily", "--hours", "0.001")


def test_what_is_wrong_is_told_before_anything_is_stored(zora: Zora) -> None:
    for options, said in (
        (("--cron", "61 * * * *"), "minute must be 0–59"),
        (("--cron", "@daily", "--timezone", "Berlin"), "use Europe/Berlin"),
        (("--cron", "@daily", "--payload", '{"weeks": 1}'), "weeks: Extra inputs are not permitted"),
        (("--cron", "@daily", "--payload", "["), "is not JSON"),
        (("--cron", "@daily", "--payload", "[]"), "must be a JSON object"),
    ):
        assert said in zora("schedules", "create", "s", "EIVOR", "summarize_recent_events", *options, status=2)
    assert "unknown task type 'fly'" in zora("schedules", "create", "s", "EIVOR", "fly", "--cron", "@daily", status=2)
    assert zora.json("schedules", "list") == []
    create(zora, "s")
    assert "exists already" in zora(
        "schedules", "create", "s", "EIVOR", "summarize_recent_events", "--cron", "@daily", status=1
    )
    assert "minute must be 0–59" in zora("schedules", "update", "s", "--cron", "61 * * * *", status=2)
    assert "Extra inputs" in zora("schedules", "update", "s", "--payload", '{"weeks": 1}', status=2)
    assert "nothing to change" in zora("schedules", "update", "s", status=2)


async def test_doctor_sees_that_nothing_runs_and_an_external_cron_makes_up_for_it(zora: Zora, url: str) -> None:
    made = create(zora, "s", "--misfire", "catch_up", cron="@hourly")
    assert "No schedule is due." in zora("run-due-schedules")
    connection = await asyncpg.connect(url)
    now = await connection.fetchval("select date_trunc('hour', now())")
    await connection.execute(
        "update autonomy_schedules set upcoming = array[$1::timestamptz, $2, $3], next_run_at = $1, handled_until = $4",
        now - timedelta(hours=2), now - timedelta(hours=1), now + timedelta(days=30), now - timedelta(hours=3),
    )  # fmt: skip
    await connection.close()
    (check,) = [one for one in zora.json("doctor") if one["name"] == "schedules"]
    assert check["state"] == "note"
    assert "overdue: s," in check["found"]
    said = zora("run-due-schedules", "--limit", "5", "--dry-run")
    assert "Nothing was done" in said
    assert [row["task_ids"] for row in zora.json("run-due-schedules", "--dry-run")] == [[]]
    (row,) = zora.json("run-due-schedules")
    assert (row["schedule_id"], len(row["fire_times"]), len(row["task_ids"])) == (made["id"], 2, 2)
    assert "No schedule is due." in zora("run-due-schedules")
    (check,) = [one for one in zora.json("doctor") if one["name"] == "schedules"]
    assert (check["state"], check["found"]) == ("ok", "1 enabled")


def test_json_is_data(zora: Zora) -> None:
    create(zora, "s")
    assert json.loads(zora("schedules", "show", "s", "--json"))["name"] == "s"
