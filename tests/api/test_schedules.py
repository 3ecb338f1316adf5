"""Schedules over HTTP; how they are carried out is in tests/autonomy/test_schedules.py."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.api.conftest import Callers
from tests.api.test_access import envelope
from tests.conftest import START, Zora
from zora_core.models import Role

SCHEDULES = "/api/autonomy/schedules"


def digest(**fields: Any) -> dict[str, Any]:
    return {
        "name": "digest", "agent_id": "eivor", "task_type": "summarize_recent_events", "cron": "0 9 * * 1",
        "timezone": "Europe/Berlin", **fields,
    }  # fmt: skip


async def create(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post(SCHEDULES, json=digest(**fields))
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


async def test_an_admin_makes_changes_runs_and_deletes_a_schedule_and_a_viewer_sees_it(
    zora: Zora, callers: Callers
) -> None:
    admin, viewer = await callers.client(Role.BRAND_ADMIN), await callers.client(Role.VIEWER)
    made = await create(admin, payload={"days": 7}, title="The week")
    assert datetime.fromisoformat(made["next_run_at"]) == datetime.fromisoformat("2026-03-09T08:00Z")
    assert made["misfire_policy"] == "run_once"
    path = f"{SCHEDULES}/{made['id']}"
    assert (await viewer.get(path)).json()["data"] == made
    assert (await viewer.get(SCHEDULES)).json()["data"] == [made]

    changed = (await admin.patch(path, json={"cron": "@daily", "timezone": "UTC", "title": None})).json()["data"]
    assert (changed["next_run_at"], changed["title"]) == ("2026-03-03T00:00:00Z", None)
    assert changed["payload"] == {"days": 7}, "what is not named stays"
    assert (await admin.patch(path, json={})).json()["data"] == changed
    stopped = (await admin.patch(path, json={"enabled": False})).json()["data"]
    assert (stopped["enabled"], stopped["next_run_at"]) == (False, None)

    ran = (await admin.post(f"{path}/run-now")).json()["data"]
    task = (await viewer.get(f"/api/agents/tasks/{ran['last_task_id']}")).json()["data"]
    assert (task["title"], task["payload"], task["status"]) == ("digest", {"days": 7}, "pending")
    assert datetime.fromisoformat(ran["last_run_at"]) == START

    assert (await admin.delete(path)).json()["data"]["name"] == "digest"
    for gone in (await admin.get(path), await admin.patch(path, json={}), await admin.post(f"{path}/run-now")):
        assert envelope(gone, 404, "NOT_FOUND")["message"] == f"no schedule {made['id']}"
    authors = {e["author"] for e in (await viewer.get("/api/journal?category=autonomy")).json()["data"]}
    assert authors == {"brand_admin@example.org"}


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"cron": "61 * * * *"}, "cron", "minute must be 0–59"),
        ({"cron": "0 9 * *"}, "cron", "five fields"),
        ({"cron": "0 0 30 2 *"}, "cron", "day of the month"),
        ({"cron": "0 9\0 * * 1"}, "cron", "invalid cron expression"),
        ({"cron": None}, "cron", "valid string"),
        ({"timezone": "Berlin"}, "timezone", "use Europe/Berlin"),
        ({"agent_id": "HAL"}, "agent_id", "CONNOR"),
        ({"task_type": "fly"}, "task_type", "unknown task type 'fly' for EIVOR"),
        ({"payload": {"days": "7"}}, "payload.days", "valid number"),
        ({"payload": {"week": 7}}, "payload.week", "not permitted"),
        ({"name": " "}, "name", "blank"),
        ({"title": ""}, "title", "blank"),
        ({"misfire_policy": "never"}, "misfire_policy", "catch_up"),
        ({"overlap_policy": "queue"}, "overlap_policy", "allow"),
        ({"max_catch_up": 0}, "max_catch_up", "greater than or equal to 1"),
        ({"grace_seconds": 3601}, "grace_seconds", "less than or equal to 3600"),
        ({"enabled": 1}, "enabled", "boolean"),
        ({"next_run_at": "2026-01-01T00:00:00Z"}, "next_run_at", "not permitted"),
    ],
    ids=str,
)
async def test_what_is_wrong_is_told_by_its_field_when_made_and_when_changed(
    founder: httpx.AsyncClient, fields: dict[str, Any], field: str, said: str
) -> None:
    error = envelope(await founder.post(SCHEDULES, json=digest(**fields)), 400, "VALIDATION_ERROR")
    assert (error["details"][0]["field"], said in error["details"][0]["message"]) == (field, True), error
    made = await create(founder)
    error = envelope(await founder.patch(f"{SCHEDULES}/{made['id']}", json=fields), 400, "VALIDATION_ERROR")
    assert error["details"][0]["field"] == field
    assert (await founder.get(SCHEDULES)).json()["data"] == [made]


async def test_a_name_is_taken_once(founder: httpx.AsyncClient) -> None:
    await create(founder)
    other = await create(founder, name="other")
    envelope(await founder.post(SCHEDULES, json=digest()), 409, "DUPLICATE_KEY")
    error = envelope(await founder.patch(f"{SCHEDULES}/{other['id']}", json={"name": "digest"}), 409, "DUPLICATE_KEY")
    assert error["message"] == "a schedule 'digest' exists already"


async def test_one_that_is_named_like_the_id_of_another_is_not_taken_for_it(founder: httpx.AsyncClient) -> None:
    made = await create(founder)
    await create(founder, name=made["id"])
    assert (await founder.get(f"{SCHEDULES}/{made['id']}")).json()["data"]["name"] == "digest"


async def test_a_suggested_change_of_a_schedule_is_looked_at_like_one_of_a_person(
    zora: Zora, founder: httpx.AsyncClient
) -> None:
    made = await create(founder)

    def suggestion(**value: Any) -> dict[str, Any]:
        return {
            "agent_id": "LUMINA", "suggestion_type": "change_schedule", "title": "t", "target": {"id": made["id"]},
            "current_value": {name: made[name] for name in value if name in made}, "suggested_value": value,
            "evidence": [{"kind": "metric", "name": "n", "value": 1, "unit": "rows"}],
        }  # fmt: skip

    for wrong, said in (
        ({"cron": "daily"}, "invalid cron expression"), ({"timezone": "CET/Berlin"}, "unknown time zone"),
        ({"cron": "0 9 * * 1", "timezone": None}, "name what is to be different"), ({}, "name what"),
    ):  # fmt: skip
        error = envelope(
            await founder.post("/api/agents/suggestions", json=suggestion(**wrong)), 400, "VALIDATION_ERROR"
        )
        assert said in error["message"], error
    asked = (await founder.post("/api/agents/suggestions", json=suggestion(cron="@hourly", timezone="UTC"))).json()
    decision = {"decision": "approve", "digest": asked["data"]["effect_digest"]}
    done = await founder.post(f"/api/agents/suggestions/{asked['data']['id']}/decision", json=decision)
    assert done.json()["data"]["status"] == "applied", done.text
    (row,) = await zora.call("get_schedule", tenant_id=zora.tenant_id, id=made["id"])
    assert (row["cron"], row["upcoming"], row["next_run_at"]) == ("@hourly", [], None), "any worker computes them"
    assert UUID(made["id"]) in {r["id"] for r in await zora.call("list_schedules_to_plan")}
