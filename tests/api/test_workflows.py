"""Workflows over HTTP; what becomes of their tasks is in tests/autonomy/test_workflows.py."""

from __future__ import annotations

from typing import Any

import httpx

from tests.api.conftest import OTHER_TENANT_ID, Callers
from tests.api.test_access import envelope
from tests.conftest import Zora
from zora_core.models import Role

WORKFLOWS, RUNS = "/api/workflows", "/api/workflow-runs"
MINE: dict[str, Any] = {
    "key": "mine", "name": "Mine", "inputs": {"days": 7},
    "steps": [
        {"key": "sum", "agent_id": "EIVOR", "task_type": "summarize_recent_events", "title": "The last {days} days",
         "payload": {"days": {"$input": "days"}}},
        {"key": "tidy", "agent_id": "EIVOR", "task_type": "memory_cleanup", "title": "Tidy", "depends_on": ["sum"]},
    ],
}  # fmt: skip


async def test_a_workflow_is_saved_run_watched_cancelled_and_retried(zora: Zora, founder: httpx.AsyncClient) -> None:
    assert (await founder.post(WORKFLOWS, json=MINE)).json()["data"]["is_shipped"] is False
    listed = {w["key"]: w["is_shipped"] for w in (await founder.get(WORKFLOWS)).json()["data"]}
    assert listed["mine"] is False
    assert listed["weekly-climate-review"] is True
    made = await founder.post(f"{WORKFLOWS}/mine/runs", json={"inputs": {"days": 3}})
    assert made.status_code == 201, made.text
    run = made.json()["data"]
    assert (run["status"], run["context"], run["ended"]) == ("running", {"days": 3}, 0)
    assert [(s["step"], s["title"], s["waiting_for"], s["depends_on"]) for s in run["steps"]] == [
        ("sum", "The last 3 days", None, []),
        ("tidy", "Tidy", "dependencies", ["sum"]),
    ]
    answer = await founder.post(f"{RUNS}/{run['id']}/cancel", json={"reason": "late"})
    assert (answer.json()["data"]["status"], answer.json()["data"]["failed"]) == ("failed", 2)
    envelope(await founder.post(f"{RUNS}/{run['id']}/cancel"), 409, "INVALID_STATE")
    assert (await founder.post(f"{RUNS}/{run['id']}/retry")).json()["data"]["status"] == "running"
    await zora.run_once()
    done = (await founder.get(f"{RUNS}/{run['id']}")).json()["data"]
    assert (done["status"], done["ended"], list(done["result"])) == ("completed", 2, ["tidy"])
    envelope(await founder.post(f"{RUNS}/{run['id']}/retry"), 409, "INVALID_STATE")
    page = (await founder.get(f"{RUNS}?workflow=mine&limit=1")).json()
    assert ([r["id"] for r in page["data"]], page["pagination"]["total"]) == ([run["id"]], 1)
    assert (await founder.delete(f"{WORKFLOWS}/mine")).status_code == 200
    envelope(await founder.delete(f"{WORKFLOWS}/mine"), 404, "NOT_FOUND")
    envelope(await founder.get(f"{WORKFLOWS}/mine"), 404, "NOT_FOUND")


async def test_a_definition_or_an_input_that_cannot_be_is_told(founder: httpx.AsyncClient) -> None:
    step = MINE["steps"][0]
    for wrong, message in (
        ({"steps": []}, "steps: List should have at least 1 item"),
        ({"steps": [{**step, "depends_on": ["x"]}]}, "depends on 'x'"),
        ({"steps": [{**step, "task_type": "paint"}]}, "unknown task type 'paint'"),
        ({"steps": [{**step, "payload": {"days": "many"}}]}, "the step 'sum': "),
        ({"key": "Not A Key"}, "key: String should match pattern"),
        ({"name": 7}, "name: Input should be a valid string"),
    ):
        error = envelope(await founder.post(WORKFLOWS, json={**MINE, **wrong}), 400, "VALIDATION_ERROR", message)
        assert message in error["message"], error
    await founder.post(WORKFLOWS, json=MINE)
    error = envelope(await founder.post(f"{WORKFLOWS}/mine/runs", json={"inputs": {"day": 1}}), 400, "VALIDATION_ERROR")
    assert error["message"] == "mine has no input 'day' (known: days)"
    assert (await founder.get(RUNS)).json()["data"] == []


async def test_another_tenants_workflows_and_runs_are_not_there(callers: Callers, founder: httpx.AsyncClient) -> None:
    await founder.post(WORKFLOWS, json=MINE)
    run = (await founder.post(f"{WORKFLOWS}/mine/runs")).json()["data"]["id"]
    other = await callers.client(Role.FOUNDER, OTHER_TENANT_ID)
    assert "mine" not in {w["key"] for w in (await other.get(WORKFLOWS)).json()["data"]}
    assert (await other.get(RUNS)).json()["data"] == []
    for method, path in (
        ("GET", f"{WORKFLOWS}/mine"), ("DELETE", f"{WORKFLOWS}/mine"), ("POST", f"{WORKFLOWS}/mine/runs"),
        ("GET", f"{RUNS}/{run}"), ("POST", f"{RUNS}/{run}/cancel"), ("POST", f"{RUNS}/{run}/retry"),
    ):  # fmt: skip
        envelope(await other.request(method, path), 404, "NOT_FOUND", path)
