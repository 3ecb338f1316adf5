"""ORACLE's task types through the runtime and PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Zora

pytestmark = pytest.mark.both_transports


async def household(zora: Zora, **columns: Any) -> str:
    fields = {"profile_type": "person", "name": "Household", "is_primary": True, "country": "Germany", **columns}
    return str(await zora.seed("climate_profiles", **fields))


async def remember(zora: Zora, content: str, **columns: Any) -> str:
    fields = {"agent": "ORACLE", "memory_type": "research", "tags": [], **columns}
    return str(await zora.seed("memory_events", content=content, **fields))


def answer(task: Any) -> dict[str, Any]:
    assert task.status == "completed", task.error_message
    assert task.result is not None
    return dict(task.result)


async def test_missions_fit_the_profile_and_can_be_created_as_they_are(zora: Zora) -> None:
    profile_id = await household(zora, diet_type="vegan", transport_mode="bicycle", energy_source="gas")
    task = await zora.run("ORACLE", "propose_new_climate_missions", {"count": 4})
    result = answer(task)
    missions = result["result"]["missions"]
    assert len(missions) == len(result["suggestions"]) == 4
    assert not {"vegan", "car_free", "bev"} & {m["id"] for m in missions}
    for suggestion in result["suggestions"]:
        assert suggestion["suggestion_type"] == "create_climate_missions"
        value = suggestion["suggested_value"]
        assert value["profile_id"] == profile_id
        assert value["estimated_impact_kgco2"] > 0
        await zora.seed("climate_missions", **value)
    assert "4 missions proposed for Household" in (task.result_summary or "")


async def test_existing_and_suggested_missions_are_not_proposed_again(zora: Zora) -> None:
    await household(zora, energy_source="gas")
    await zora.seed("climate_missions", title="Install a heat pump", category="energy", status="planned")
    first = answer(await zora.run("ORACLE", "propose_new_climate_missions", {"focus_area": "Energy", "count": 3}))
    second = answer(await zora.run("ORACLE", "propose_new_climate_missions", {"focus_area": "energy", "count": 3}))
    titles = [{m["title"] for m in run["result"]["missions"]} for run in (first, second)]
    assert not titles[0] & titles[1]
    assert not any("heat pump" in title for run in titles for title in run)


async def test_without_a_profile_averages_are_used_and_told(zora: Zora) -> None:
    task = await zora.run("ORACLE", "propose_new_climate_missions")
    result = answer(task)
    assert result["result"]["profile_id"] is None
    assert any("no profile" in text for text in result["result"]["assumptions"])
    assert "no profile" in (task.result_summary or "")


async def test_an_unknown_profile_or_focus_is_refused(zora: Zora) -> None:
    await household(zora)
    unknown = await zora.run("ORACLE", "propose_new_climate_missions", {"profile_id": "nobody"})
    assert unknown.status == "failed"
    assert "Household" in (unknown.error_message or "")
    wrong = await zora.run("ORACLE", "propose_new_climate_missions", {"focus_area": "magic"})
    assert wrong.failure_kind == "invalid_payload"


async def test_research_cites_memories_and_reports_contradictions(zora: Zora) -> None:
    first = await remember(zora, "The heat pump offer is 28,400 EUR with two radiators.")
    second = await remember(zora, "The heat pump offer is 31,200 EUR with two radiators.")
    await remember(zora, "Refill pouches weigh 9 g.")
    result = answer(await zora.run("ORACLE", "research_topic", title="heat pump offer"))
    found = result["result"]
    assert found["verdict"] == "supported"
    assert {p["source"] for p in found["passages"]} == {f"memory_events/{first}", f"memory_events/{second}"}
    assert "28400" in found["disagreements"][0]["reason"]


async def test_research_reads_texts_files_and_the_journal(zora: Zora, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Pouches of polyethylene are recycled where films are collected.")
    await zora.seed(
        "journal_entries",
        category="decision",
        event_type="decision_recorded",
        title="Pouches are recycled with films",
        author="ingrid",
        created_at=zora.now - timedelta(days=3),
    )
    sources = ["Most plants cannot recycle pouches of mixed films.", "notes.txt"]
    result = answer(
        await zora.run("ORACLE", "research_topic", {"topic": "recycled pouches", "sources": sources, "depth": "quick"})
    )
    refs = {p["source"].split("/")[0] for p in result["result"]["passages"]}
    assert refs == {"sources[0]", "notes.txt", "journal_entries"}
    assert {"sources[0]", "notes.txt"} <= {s["ref"] for s in result["sources"]}


async def test_not_enough_evidence_is_an_honest_answer(zora: Zora) -> None:
    task = await zora.run("ORACLE", "research_topic", {"topic": "quantum computing for whales"})
    result = answer(task)
    assert result["result"]["verdict"] == "not enough evidence"
    assert (task.result_summary or "").startswith("Not enough evidence")
    assert result["findings"]


async def test_sources_outside_the_allowed_folders_fail(zora: Zora) -> None:
    task = await zora.run("ORACLE", "research_topic", {"topic": "passwords", "sources": ["/etc/passwd.txt"]})
    assert task.status == "failed"
    assert "outside" in (task.error_message or "")
