"""EIVOR's task types through the runtime and PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import Zora
from zora_core.effects import describe

pytestmark = pytest.mark.both_transports


async def remember(zora: Zora, content: str, *, age: float = 1, kind: str = "research", **columns: Any) -> str:
    created_at = zora.now - timedelta(days=age)
    fields = {"agent": "EIVOR", "memory_type": kind, "tags": [], **columns}
    return str(await zora.seed("memory_events", content=content, created_at=created_at, **fields))


async def note(zora: Zora, title: str, *, age: float, category: str = "system_event", **columns: Any) -> str:
    created_at = zora.now - timedelta(days=age)
    fields = {"event_type": "event", "author": "system", "details": {}, **columns}
    return str(await zora.seed("journal_entries", title=title, category=category, created_at=created_at, **fields))


def answer(task: Any) -> dict[str, Any]:
    assert task.status == "completed", task.error_message
    assert task.result is not None
    return dict(task.result)


async def test_recent_events_are_counted_and_compared(zora: Zora) -> None:
    for hour in range(6):
        await note(zora, f"Backup finished in {40 + hour} seconds", age=1 + hour / 24)
    new = await note(zora, "Import of feed 88 failed", age=2, event_type="import_failed", details={"error": "Timeout"})
    await note(zora, "Backup finished in 44 seconds", age=9)
    result = answer(await zora.run("EIVOR", "summarize_recent_events", {"days": 7}))
    found = result["result"]
    counted = sum(c["count"] for c in found["by_category"].values())
    assert counted == found["events"] == sum(t["count"] for t in found["templates"])
    assert found["by_event_type"]["event"]["count"] == 6
    assert found["by_event_type"]["event"]["previous"] == 1
    first = result["findings"][0]
    assert first["rule_id"] == "digest.new-error"
    assert first["evidence"][0] == {"kind": "rows", "table": "journal_entries", "ids": [new], "read": [0]}


async def test_the_window_decides_what_is_summed_up(zora: Zora) -> None:
    await note(zora, "Something long ago happened", age=20)
    short = answer(await zora.run("EIVOR", "summarize_recent_events", {"days": 7}))
    long = answer(await zora.run("EIVOR", "summarize_recent_events", {"days": 30}))
    assert long["result"]["events"] > short["result"]["events"]
    assert "Something long ago happened" in [t["pattern"] for t in long["result"]["templates"]]


async def test_a_quiet_window_says_so(zora: Zora) -> None:
    task = await zora.run("EIVOR", "summarize_recent_events", {"days": 0.0001})
    result = answer(task)
    assert result["result"]["events"] == 0
    assert result["findings"][0]["rule_id"] == "digest.nothing"
    assert "No events" in (task.result_summary or "")
    assert result["sources"]


async def test_cleanup_suggests_merges_and_reports_contradictions(zora: Zora) -> None:
    old = await remember(zora, "The label names the method of the footprint.", age=9, tags=["label"])
    new = await remember(zora, "the label names the method of the footprint", tags=["claims"])
    high = await remember(zora, "The soap has a footprint of 0.42 kg per bottle.", age=5)
    low = await remember(zora, "The soap has a footprint of 0.39 kg per bottle.", age=2)
    stale = await remember(zora, "The coffee machine makes a noise.", age=90, kind="conversation")
    result = answer(await zora.run("EIVOR", "memory_cleanup"))
    merge, archive = result["suggestions"]
    assert (merge["suggestion_type"], archive["suggestion_type"]) == ("merge_memories", "archive_memories")
    assert merge["target"] == {"table": "memory_events", "keep": new, "ids": [old]}
    assert merge["suggested_value"]["tags"] == ["claims", "label"]
    assert merge["current_value"][old]["content"] == "The label names the method of the footprint."
    assert archive["suggested_value"] == {"archive": [stale]}
    assert result["result"]["contradictions"][0]["ids"] == [high, low]
    assert result["findings"][0]["rule_id"] == "memory.contradiction"


async def test_memories_that_differ_in_order_or_in_a_negation_are_reported_and_never_merged(zora: Zora) -> None:
    await remember(zora, "Anna owes Ben 50 euro for the train tickets")
    await remember(zora, "Ben owes Anna 50 euro for the train tickets")
    await remember(zora, "Die Kundin möchte über neue Aktionen der Rösterei informiert werden")
    await remember(zora, "Die Kundin möchte nicht über neue Aktionen der Rösterei informiert werden")
    result = answer(await zora.run("EIVOR", "memory_cleanup"))
    assert result["suggestions"] == []
    assert result["result"]["duplicates"] == 0
    assert result["result"]["kept_apart"] == 2
    assert {f["rule_id"] for f in result["findings"]} == {"memory.similar"}


async def test_only_equal_memories_are_merged_at_low_risk(zora: Zora) -> None:
    for content in ("We sell the refills in the shop.", "We sell the refills in the  shop."):
        await remember(zora, content)
    for content in ("The label names the method of the test.", "the label names the method of the test!"):
        await remember(zora, content, kind="decision")
    result = answer(await zora.run("EIVOR", "memory_cleanup"))
    risks = {s["title"]: s["risk_level"] for s in result["suggestions"]}
    assert risks == {"Merge 2 equal memories": "low", "Merge 2 nearly equal memories": "medium"}


async def test_a_second_run_after_applying_proposes_nothing(zora: Zora) -> None:
    await remember(zora, "Backups are kept for 35 days.", kind="decision")
    await remember(zora, "Backups are kept for 35 days.", kind="decision", age=3)
    await remember(zora, "The service comes on Tuesday.", kind="conversation", age=100)
    first = answer(await zora.run("EIVOR", "memory_cleanup"))
    gone = [row for s in first["suggestions"] for row in s["target"]["ids"]]
    assert len(gone) == 2
    await zora.sql("update memory_events set archived_at = now() where id::text = any($1::text[])", gone)
    second = answer(await zora.run("EIVOR", "memory_cleanup"))
    assert second["suggestions"] == []
    assert second["result"]["duplicates"] == second["result"]["stale"] == 0


async def test_an_empty_memory_is_said_to_be_clean(zora: Zora) -> None:
    task = await zora.run("EIVOR", "memory_cleanup")
    result = answer(task)
    assert result["findings"][0]["rule_id"] == "memory.nothing"
    assert "0 memories examined" in (task.result_summary or "")


async def test_a_payload_out_of_range_is_refused(zora: Zora) -> None:
    task = await zora.run("EIVOR", "memory_cleanup", {"similarity": 7})
    assert (task.status, task.failure_kind) == ("failed", "invalid_payload")


async def test_what_a_person_wants_to_keep_is_not_proposed_again_in_another_bundle(zora: Zora) -> None:
    """A rejected archiving is about its memories, also when more have become stale; a merge, about those together."""
    kept = await remember(zora, "The service comes on Tuesday.", kind="conversation", age=100)
    apart = [
        await remember(zora, "Backups are kept for 35 days.", kind="decision"),
        await remember(zora, "Backups are kept for 35 days.", kind="decision", age=3),
    ]
    first = answer(await zora.run("EIVOR", "memory_cleanup"))
    assert {s["suggestion_type"] for s in first["suggestions"]} == {"merge_memories", "archive_memories"}
    for row in await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="proposed"):
        decision = {"id": row["id"], "decision": "reject", "reason": "we need it"}
        await zora.call("decide_agent_suggestion", tenant_id=zora.tenant_id, **decision)
    later = await remember(zora, "The window is stuck.", kind="conversation", age=90)
    second = answer(await zora.run("EIVOR", "memory_cleanup"))
    assert [s["suggested_value"] for s in second["suggestions"]] == [{"archive": [later]}]
    third = await remember(zora, "Backups are kept for 35 days.", kind="decision", age=4)
    (merge,) = [
        s
        for s in answer(await zora.run("EIVOR", "memory_cleanup"))["suggestions"]
        if s["suggestion_type"] == "merge_memories"
    ]
    assert {merge["suggested_value"]["keep"], *merge["suggested_value"]["archive"]} == {third, *apart}
    assert kept not in str(merge)


async def test_a_cleanup_that_a_policy_applies_does_not_claim_that_a_person_decides(zora: Zora) -> None:
    await zora.call("set_agent_task_policy", tenant_id=zora.tenant_id, task_type="memory_cleanup", max_risk_level="low")
    for _ in range(2):
        await remember(zora, "The label names the method of the footprint.")
    task = await zora.run("EIVOR", "memory_cleanup", {})
    assert str(task.result_summary).endswith("A policy allows the suggestion: applied without asking.")
    assert "a person" not in str(task.result_summary)
    await zora.call("attend_agent_suggestions")
    (row,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, task_id=task.id)
    assert (row["status"], row["decided_as"]) == ("applied", "policy")


async def test_numbers_and_nouns_agree(zora: Zora) -> None:
    await remember(zora, "The stand plan of 2019", age=2000, kind="plan")
    task_id = await zora.create("EIVOR", "memory_cleanup")
    (run,) = await zora.run_once()
    assert run.summary == "1 memory examined: 0 duplicates in 0 clusters, 0 contradictions, 1 stale."
    (archive,) = answer(await zora.task(task_id))["suggestions"]
    assert archive["title"].startswith("Archive 1 plan memory older than")
    (row,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, limit=1)
    assert describe(row) == "Archives 1 memory, still readable."
