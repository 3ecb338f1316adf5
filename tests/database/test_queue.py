"""The queue's functions, one statement about each."""

from __future__ import annotations

from uuid import uuid4

from tests.conftest import Zora


async def claim(zora: Zora, limit: int = 1, worker: str = "w1", lease: float = 30):
    return await zora.call(
        "claim_agent_tasks", tenant_id=zora.tenant_id, worker_id=worker, limit=limit, lease_seconds=lease
    )


async def settle(zora: Zora, claimed, outcome: str = "completed", **fields):
    one = {
        "summaries": fields.get("summary"), "results": fields.get("result"), "errors": fields.get("error"),
        "failure_kinds": fields.get("failure_kind"), "delays": fields.get("delay"),
    }  # fmt: skip
    return await zora.call(
        "settle_agent_tasks",
        ids=[claimed["id"]],
        lease_tokens=[claimed["lease_token"]],
        outcomes=[outcome],
        **{name: [value] for name, value in one.items()},
    )


async def test_a_task_runs_from_creation_to_completion(zora: Zora) -> None:
    task_id = await zora.create("sam", "review_climate_page", {"page": "climate"}, priority=3)
    (claimed,) = await claim(zora)
    assert claimed["id"] == task_id
    assert claimed["payload"] == {"page": "climate"}
    (row,) = await settle(zora, claimed, summary="done", result={"suggestions": []})
    assert row["status"] == "completed"
    task = await zora.task(task_id)
    assert (task.status, task.result_summary, task.attempt) == ("completed", "done", 1)
    assert await settle(zora, claimed, summary="again", result={}) == [row]
    assert (await zora.task(task_id)).result_summary == "done"
    assert await settle(zora, {**claimed, "lease_token": uuid4()}) == []
