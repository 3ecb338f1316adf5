"""Suggestions, policies and pauses over HTTP; what they do to the data is in tests/database/test_suggestions.py."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import httpx
import pytest

from tests.api.conftest import Callers, task
from tests.api.test_access import envelope
from tests.conftest import Zora
from zora_core.models import Role

SUGGESTIONS = "/api/agents/suggestions"
EVIDENCE = [{"kind": "quote", "source": "page", "text": "as seen"}]


def headline(value: Any, **fields: Any) -> dict[str, Any]:
    return {
        "agent_id": "sam", "suggestion_type": "change_frontend_config", "title": "Say it plainly",
        "target": {"page": "climate", "path": ["title"]}, "current_value": {"value": "Old"},
        "suggested_value": {"value": value}, "evidence": EVIDENCE, **fields,
    }  # fmt: skip


async def propose(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(SUGGESTIONS, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


def approval(suggestion: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"decision": "approve", "digest": suggestion["effect_digest"], **fields}


async def decide(client: httpx.AsyncClient, suggestion: dict[str, Any], decision: dict[str, Any]) -> httpx.Response:
    return await client.post(f"{SUGGESTIONS}/{suggestion['id']}/decision", json=decision)


@pytest.fixture(autouse=True)
async def climate(zora: Zora) -> None:
    await zora.seed("frontend_configs", page="climate", config={"title": "Old"})


async def title(zora: Zora) -> str:
    (row,) = await zora.call("list_frontend_configs", tenant_id=zora.tenant_id)
    return row["config"]["title"]


async def test_a_member_proposes_an_admin_approves_and_takes_it_back(zora: Zora, callers: Callers) -> None:
    member, admin = await callers.client(Role.MEMBER), await callers.client(Role.BRAND_ADMIN)
    made = await propose(member, headline("New"))
    assert (made["status"], made["agent_id"], made["effect"]["changes"][0]["op"]) == ("proposed", "SAM", "update")
    assert await propose(member, headline("New")) == made, "it waits already"
    answer = await decide(admin, made, approval(made, reason="clearer"))
    data = answer.json()["data"]
    assert (data["status"], data["decided_as"], data["reason"]) == ("applied", "brand_admin@example.org", "clearer")
    assert await title(zora) == "New"
    answer = await admin.post(f"{SUGGESTIONS}/{made['id']}/undo")
    assert answer.json()["data"]["undone_at"] is not None
    assert await title(zora) == "Old"
    (entry,) = [
        e
        for e in (await admin.get("/api/journal?category=decision")).json()["data"]
        if e["event_type"] == "agent_suggestion_applied"
    ]
    assert entry["author"] == "brand_admin@example.org"


async def test_a_long_key_over_many_values_costs_no_more_than_its_length(
    founder: httpx.AsyncClient,
) -> None:
    tracemalloc.start()
    try:
        made = await propose(founder, headline({"k" * 60_000: [1] * 120_000}))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made["effect"]["changes"][0]["op"] == "update"
    assert peak < 100_000_000  # bytes, for a body of 300 kB


async def test_an_edited_value_is_applied_and_one_that_does_not_fit_is_told(zora: Zora, founder: Any) -> None:
    made = await propose(founder, headline("New"))
    for wrong in ({"values": 1}, {}):
        error = envelope(await decide(founder, made, approval(made, edited_value=wrong)), 400, "VALIDATION_ERROR")
        assert error["details"][0]["field"] == "edited_value"
    answer = await decide(founder, made, approval(made, edited_value={"value": "Newer"}))
    assert answer.json()["data"]["edited_value"] == {"value": "Newer"}
    assert await title(zora) == "Newer"


async def test_what_a_decision_lacks_or_has_too_much_is_told(founder: httpx.AsyncClient) -> None:
    made = await propose(founder, headline("New"))
    for decision, field in (
        ({"decision": "approve"}, "digest"),
        ({"decision": "approve", "digest": "short"}, "digest"),
        ({"decision": "reject"}, "reason"),
        ({"decision": "reject", "reason": " "}, "reason"),
        ({"decision": "reject", "reason": "no", "edited_value": {}}, "edited_value"),
        ({"decision": "maybe"}, "body"),
    ):
        error = envelope(await decide(founder, made, decision), 400, "VALIDATION_ERROR", str(decision))
        assert error["details"][0]["field"] == field, decision
    assert (await founder.get(f"{SUGGESTIONS}/{made['id']}")).json()["data"]["status"] == "proposed"


async def test_the_second_decision_and_a_stale_one_are_invalid_state(founder: httpx.AsyncClient) -> None:
    made = await propose(founder, headline("New"))
    envelope(await decide(founder, made, {"decision": "approve", "digest": "0" * 64}), 409, "INVALID_STATE")
    answers = await asyncio.gather(*(decide(founder, made, approval(made)) for _ in range(4)))
    assert sorted(a.status_code for a in answers) == [200, 409, 409, 409]


async def test_a_changed_target_is_a_conflict_that_names_the_new_proposal(
    zora: Zora, founder: httpx.AsyncClient
) -> None:
    made = await propose(founder, headline("New"))
    await zora.sql("""update frontend_configs set config = '{"title": "Mine"}'""")
    error = envelope(await decide(founder, made, approval(made)), 409, "INVALID_STATE")
    assert "target has changed since" in error["message"]
    (detail,) = error["details"]
    assert detail["field"] == "superseded_by"
    assert (await founder.get(f"{SUGGESTIONS}/{made['id']}")).json()["data"]["status"] == "superseded"
    again = (await founder.get(f"{SUGGESTIONS}/{detail['message']}")).json()["data"]
    assert (again["supersedes"], again["effect"]["changes"][0]["before"]) == (made["id"], {"config": "Mine"})


async def test_a_memory_whose_content_has_changed_is_not_archived_as_a_duplicate(
    zora: Zora, founder: httpx.AsyncClient
) -> None:
    keep, other = [
        await zora.seed("memory_events", agent="EIVOR", memory_type="plan", content="We ship on Mondays", tags=[])
        for _ in range(2)
    ]
    body = headline(
        None, agent_id="eivor", suggestion_type="merge_memories", target={"keep": str(keep), "ids": [str(other)]},
        current_value={str(other): {"content": "We ship on Mondays"}},
        suggested_value={"keep": str(keep), "archive": [str(other)], "tags": []},
    )  # fmt: skip
    made = await propose(founder, body)
    await zora.sql("update memory_events set content = 'Completely different words now' where id = $1", other)
    error = envelope(await decide(founder, made, approval(made)), 409, "INVALID_STATE")
    assert error["details"] is None
    assert await zora.sql("select from memory_events where archived_at is not null") == []


async def test_what_a_row_holds_is_read_from_it_and_never_the_proposers_words(zora: Zora, callers: Callers) -> None:
    member, founder = await callers.client(Role.MEMBER), await callers.client(Role.FOUNDER)
    secret = await zora.seed(
        "memory_events", agent="EIVOR", memory_type="plan", content="The safety review of the plant", tags=[]
    )
    body = headline(
        None, suggestion_type="archive_memories", target={"ids": [str(secret)]},
        current_value={str(secret): {"content": "an old shopping list"}}, suggested_value={"archive": [str(secret)]},
    )  # fmt: skip
    made = await propose(member, body)
    for answer in (made, (await founder.get(f"{SUGGESTIONS}/{made['id']}")).json()["data"]):
        assert (answer["current_value"], answer["proposed_as"]) == (None, "member@example.org")
        (target,) = answer["targets"]
        assert target["found"]["content"] == "The safety review of the plant"
        assert target["expected"]["content"] == "an old shopping list"
    envelope(await decide(founder, made, approval(made)), 409, "INVALID_STATE")


async def test_a_profile_of_another_tenant_cannot_be_referred_to(zora: Zora, founder: httpx.AsyncClient) -> None:
    await zora.sql("insert into tenants (id, name, slug) values ('00000000-0000-0000-0000-000000000099', 'o', 'o')")
    theirs = await zora.seed(
        "climate_profiles", tenant_id="00000000-0000-0000-0000-000000000099", profile_type="brand", name="n",
        is_primary=False,
    )  # fmt: skip
    value = {"title": "T", "category": "energy", "profile_id": str(theirs)}
    body = headline(
        None, suggestion_type="create_climate_missions", target={}, current_value=None, suggested_value=value
    )
    error = envelope(await founder.post(SUGGESTIONS, json=body), 400, "VALIDATION_ERROR")
    assert "does not exist" in error["message"]
    made = await propose(founder, {**body, "suggested_value": {"title": "T", "category": "energy"}})
    envelope(await decide(founder, made, approval(made, edited_value=value)), 400, "VALIDATION_ERROR")
    for wrong in (
        {"title": "T", "category": "energy", "estimated_impact_kgco2": "12"},
        {"title": 7, "category": "energy"},
    ):
        envelope(await decide(founder, made, approval(made, edited_value=wrong)), 400, "VALIDATION_ERROR", str(wrong))


async def test_the_same_is_not_proposed_again_after_a_rejection(founder: httpx.AsyncClient) -> None:
    made = await propose(founder, headline("New"))
    await decide(founder, made, {"decision": "reject", "reason": "not our tone"})
    error = envelope(await founder.post(SUGGESTIONS, json=headline("New")), 409, "INVALID_STATE")
    assert "not our tone" in error["message"]
    await propose(founder, headline("New", evidence=[*EVIDENCE, {**EVIDENCE[0], "text": "asked for"}]))


async def test_bodies_that_fit_no_type_are_told_by_field(founder: httpx.AsyncClient) -> None:
    for wrong, field in (
        ({"suggestion_type": "paint_it_black"}, "body"),
        ({"target": {"page": "climate"}}, "target"),
        ({"evidence": []}, "evidence"),
        ({"evidence": [{"kind": "quote", "source": "page", "text": 7}]}, "evidence.0"),
        ({"suggested_value": {"value": "a\0b"}}, "body"),
        ({"agent_id": "HAL"}, "agent_id"),
        ({"extra": 1}, "extra"),
    ):
        answer = await founder.post(SUGGESTIONS, json={**headline("New"), **wrong})
        error = envelope(answer, 400, "VALIDATION_ERROR", str(wrong))
        assert error["details"][0]["field"] == field, (wrong, error)
    assert (await founder.get(SUGGESTIONS)).json()["data"] == []


async def test_a_policy_and_a_pause_over_http(zora: Zora, founder: httpx.AsyncClient) -> None:
    answer = await founder.put("/api/agents/policies/summarise_recent_events", json={"auto_execute": False})
    assert "unknown task type 'summarise_recent_events'" in answer.json()["error"]["message"]
    envelope(answer, 400, "VALIDATION_ERROR")
    answer = await founder.put("/api/agents/policies/summarize_recent_events", json={"auto_execute": False})
    assert answer.json()["data"]["auto_execute"] is False
    assert [p["task_type"] for p in (await founder.get("/api/agents/policies")).json()["data"]] == [
        "summarize_recent_events"
    ]
    made = (await founder.post("/api/agents/tasks", json=task())).json()["data"]
    assert made["waiting_for"] == "approval"
    (asked,) = (await founder.get(f"{SUGGESTIONS}?task_id={made['id']}")).json()["data"]
    await decide(founder, asked, approval(asked))
    assert (await founder.get(f"/api/agents/tasks/{made['id']}")).json()["data"]["waiting_for"] is None
    await founder.delete("/api/agents/policies/summarize_recent_events")
    envelope(await founder.delete("/api/agents/policies/summarize_recent_events"), 404, "NOT_FOUND")

    answer = await founder.post("/api/agents/pauses", json={"agent_id": "eivor", "reason": "odd"})
    assert [(p["agent_id"], p["reason"]) for p in answer.json()["data"]] == [("EIVOR", "odd")]
    assert await zora.call("claim_agent_tasks", tenant_id=zora.tenant_id, worker_id="w") == []
    assert (await founder.delete("/api/agents/pauses/eivor")).json()["data"] == []
    envelope(await founder.delete("/api/agents/pauses/all"), 409, "INVALID_STATE")
    assert len(await zora.call("claim_agent_tasks", tenant_id=zora.tenant_id, worker_id="w")) == 1


async def test_what_became_of_an_owners_table_is_a_problem_of_the_suggestion_and_409_for_its_approval(
    zora: Zora, callers: Callers
) -> None:
    admin = await callers.client(Role.BRAND_ADMIN)
    await zora.sql("create table shop_notes (id integer primary key, tenant_id uuid, text text)")
    try:
        await zora.sql("insert into shop_notes values (1, $1, 'old')", zora.tenant_id)
        await zora.call(
            "register_effect_table", tenant_id=zora.tenant_id, name="shop_notes", key_column="id", writable=["text"]
        )
        change = {"op": "update", "table": "shop_notes", "key": "1", "before": {}, "after": {"text": "new"}}
        suggestion = {
            "suggestion_type": "change_note", "title": "t", "evidence": EVIDENCE, "effect": {"changes": [change]},
        }  # fmt: skip
        (bad,) = await zora.call(
            "propose_agent_suggestion", tenant_id=zora.tenant_id, agent_id="SAM", suggestion=suggestion
        )
        await zora.sql("alter table shop_notes rename tenant_id to org_id")
        shown = (await admin.get(f"{SUGGESTIONS}/{bad['id']}")).json()["data"]
        assert "has lost columns since it was registered: tenant_id" in shown["problem"]
        answer = await decide(admin, bad, {"decision": "approve", "digest": bad["effect_digest"]})
        assert answer.status_code == 409
        assert "has lost columns" in answer.text
        await zora.sql("alter table shop_notes rename org_id to tenant_id")
        await zora.sql("alter table shop_notes add check (length(text) > 3) not valid")
        answer = await decide(admin, bad, {"decision": "approve", "digest": bad["effect_digest"]})
        assert answer.status_code == 409
        assert "violates check constraint" in answer.text
        assert (await decide(admin, bad, {"decision": "reject", "reason": "no"})).status_code == 200
    finally:
        await zora.sql("drop table shop_notes")
