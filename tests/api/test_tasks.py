"""Tasks over HTTP: the specification's three endpoints, and those around them."""

from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import task
from tests.conftest import Zora


async def test_a_task_is_created_listed_read_cancelled_and_retried(founder: httpx.AsyncClient) -> None:
    created = await founder.post("/api/agents/tasks", json=task(priority=5, description="d", payload={"days": 3}))
    assert created.status_code == 201
    made = created.json()["data"]
    assert created.headers["location"] == f"/api/agents/tasks/{made['id']}"
    assert (made["status"], made["priority"], made["payload"], made["agent_id"]) == ("pending", 5, {"days": 3}, "EIVOR")

    listed = (await founder.get("/api/agents/tasks", params={"agent_id": "eivor", "status": "pending"})).json()
    assert [row["id"] for row in listed["data"]] == [made["id"]]
    assert listed["pagination"] == {
        "limit": 50, "offset": 0, "total": 1, "total_is_estimate": False, "has_more": False, "next_cursor": None,
    }  # fmt: skip

    path = f"/api/agents/tasks/{made['id']}"
    read = (await founder.get(path)).json()["data"]
    assert read["title"] == "What happened"
    assert not {"lease_token", "state"} & set(read)
    assert "Ready for" in (await founder.get(f"{path}/explain")).json()["data"]["explanation"]

    cancelled = await founder.post(f"{path}/cancel", json={"reason": "not needed"})
    assert (cancelled.json()["data"]["failure_kind"], cancelled.json()["data"]["error_message"]) == (
        "cancelled",
        "cancelled: not needed",
    )
    again = await founder.post(f"{path}/cancel")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "INVALID_STATE")
    assert (await founder.post(f"{path}/retry")).json()["data"]["status"] == "pending"


async def test_a_list_goes_on_by_cursor_and_by_offset_to_the_same_tasks(founder: httpx.AsyncClient) -> None:
    tasks = [task(title=f"t{n}", priority=n % 3) for n in range(25)]
    created = (await founder.post("/api/agents/tasks/bulk", json={"tasks": tasks})).json()
    assert [row["title"] for row in created["data"]] == [t["title"] for t in tasks]
    expected = [t["title"] for t in sorted(tasks, key=lambda t: -t["priority"])]
    titles: list[str] = []
    cursor = None
    while True:
        page = (
            await founder.get("/api/agents/tasks", params={"limit": 10} | ({"cursor": cursor} if cursor else {}))
        ).json()
        titles += [row["title"] for row in page["data"]]
        cursor = page["pagination"]["next_cursor"]
        assert page["pagination"]["has_more"] == (cursor is not None)
        if cursor is None:
            break
    assert titles == expected
    offset = (await founder.get("/api/agents/tasks", params={"limit": 10, "offset": 20})).json()
    assert [row["title"] for row in offset["data"]] == expected[20:]
    assert offset["pagination"]["total"] == 25


async def test_the_same_idempotency_key_creates_once_and_never_something_else(founder: httpx.AsyncClient) -> None:
    first = await founder.post("/api/agents/tasks", json=task(idempotency_key="k"))
    second = await founder.post("/api/agents/tasks", json=task(idempotency_key="k"))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["data"]["id"] == second.json()["data"]["id"]
    other = await founder.post("/api/agents/tasks", json=task(idempotency_key="k", payload={"days": 1}))
    assert (other.status_code, other.json()["error"]["code"]) == (409, "DUPLICATE_KEY")
    bulk = await founder.post(
        "/api/agents/tasks/bulk", json={"tasks": [task(), task(idempotency_key="k", payload={"days": 1})]}
    )
    assert bulk.status_code == 409
    assert (await founder.get("/api/agents/tasks")).json()["pagination"]["total"] == 1


async def test_one_bad_task_refuses_the_bulk_and_names_its_field(founder: httpx.AsyncClient) -> None:
    answer = await founder.post(
        "/api/agents/tasks/bulk", json={"tasks": [task(), task(payload={"days": "seven"}), task()]}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["field"] == "tasks.1.payload.days"
    assert (await founder.get("/api/agents/tasks")).json()["pagination"]["total"] == 0


async def test_validating_says_what_creating_would_and_stores_nothing(founder: httpx.AsyncClient) -> None:
    good = await founder.post("/api/agents/tasks/validate", json=task(agent_id="eivor"))
    assert good.json()["data"]["task"]["agent_id"] == "EIVOR"
    bad = await founder.post("/api/agents/tasks/validate", json=task(task_type="summarise"))
    assert bad.status_code == 400
    assert "known: memory_cleanup, summarize_recent_events" in bad.json()["error"]["message"]
    assert (await founder.get("/api/agents/tasks")).json()["data"] == []


@pytest.mark.parametrize(
    "query", ["status=done", "limit=0", "limit=201", "offset=-1", "offset=10001", "agent_id=BOB", "cursor=x", "limit=x"]
)
async def test_a_value_outside_its_range_is_an_error_and_not_ignored(founder: httpx.AsyncClient, query: str) -> None:
    answer = await founder.get(f"/api/agents/tasks?{query}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert answer.json()["error"]["details"][0]["field"] == query.partition("=")[0]


async def test_statistics_count_what_ran(founder: httpx.AsyncClient, zora: Zora) -> None:
    await zora.run("EIVOR", "summarize_recent_events")
    await founder.post("/api/agents/tasks", json=task(run_at="2099-01-01T00:00:00Z"))
    stats = (await founder.get("/api/agents/tasks/stats")).json()["data"]
    assert (stats["total"], stats["by_agent"]["EIVOR"]["completed"], stats["waiting_for"]) == (2, 1, {"run_at": 1})
    assert stats["durations"][0]["task_type"] == "summarize_recent_events"
