"""LUMINA's handlers through the real runtime."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Zora
from zora_core.settings import examples

pytestmark = pytest.mark.both_transports


async def add_page(zora: Zora, page: str) -> None:
    await zora.seed("frontend_configs", page=page, config={"path": str(examples() / "site" / f"{page}.html")})


async def test_the_dashboard_gets_ordered_work_items_with_acceptance_checks(zora: Zora) -> None:
    await add_page(zora, "dashboard")
    task = await zora.run("LUMINA", "plan_frontend_improvements")
    assert task.status == "completed", task.error_message
    assert task.result is not None
    items = task.result["result"]["items"]
    assert items[0]["score"] == max(item["score"] for item in items)
    found = {finding["rule_id"] for finding in task.result["findings"]}
    assert {item["acceptance"]["rule_id"] for item in items} <= found
    assert len(items) > 8
    assert len(task.result["suggestions"]) == task.result["result"]["items_proposed"] == 8
    assert task.result_summary is not None
    assert task.result_summary.startswith(f"{len(items)} work items for dashboard")
    assert "; the first 8 are proposed." in task.result_summary
    assert all(suggestion["evidence"] for suggestion in task.result["suggestions"])


async def test_accessibility_claims_and_content_are_planned_together(zora: Zora) -> None:
    html = (
        '<html lang="en"><head><title>Shop</title></head><body><main><h1>Shop</h1><img src="a.png">'
        "<p>Our eco-friendly soap is climate neutral because we buy offsets.</p></main></body></html>"
    )
    task = await zora.run("LUMINA", "plan_frontend_improvements", {"html": html})
    assert task.result is not None, task.error_message
    rules = {item["rule_id"].split(".")[0] for item in task.result["result"]["items"]}
    assert {"wcag", "claims", "page"} <= rules


async def test_a_mended_page_loses_its_item(zora: Zora) -> None:
    html = '<html lang="en"><head><title>Shop</title></head><body><main><h1>Shop</h1>{}</main></body></html>'
    results = []
    for image in ('<img src="a.png">', '<img src="a.png" alt="Soap in a jar">'):
        task = await zora.run("LUMINA", "plan_frontend_improvements", {"html": html.format(image)})
        assert task.result is not None
        results.append({item["rule_id"] for item in task.result["result"]["items"]})
    assert results[0] - results[1] == {"wcag.1.1.1.image-alt"}


async def test_a_page_without_faults_says_what_was_examined(zora: Zora) -> None:
    html = (
        '<!doctype html><html lang="en"><head><title>Opening hours</title><meta name="description" content="When we '
        'are open"></head><body><main><h1>Opening hours</h1><p>We open at nine.</p></main></body></html>'
    )
    task = await zora.run("LUMINA", "plan_frontend_improvements", {"html": html})
    assert task.result is not None
    assert task.result["findings"] == []
    assert task.result_summary is not None
    assert task.result_summary.startswith("Nothing to improve was found on html:")


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"page": "nowhere"}, "unknown page 'nowhere'"),
        ({"html": "  "}, "is empty"),
        ({"html": "<p>", "url": "https://x.example/"}, "only one of"),
    ],
)
async def test_pages_that_cannot_be_read_fail_with_the_reason(
    zora: Zora, payload: dict[str, Any], message: str
) -> None:
    task = await zora.run("LUMINA", "plan_frontend_improvements", payload)
    assert task.status == "failed"
    assert task.error_message is not None
    assert message in task.error_message


async def test_a_goal_becomes_one_workflow_whose_steps_all_run_to_the_end(zora: Zora) -> None:
    await add_page(zora, "climate")
    goal = "Improve our climate page and check its claims, then do a safety review of the agents"
    task = await zora.run("LUMINA", "plan_workflow", title=goal)
    assert task.status == "completed", task.error_message
    assert task.result is not None
    assert task.result["result"]["feasible"]
    (suggestion,) = task.result["suggestions"]
    assert suggestion["suggestion_type"] == "create_workflow"
    steps = suggestion["suggested_value"]["steps"]
    assert len(steps) >= 4
    for step in steps:
        run = await zora.run(step["agent_id"], step["task_type"], step["payload"], title=step["title"])
        assert run.status == "completed", (step, run.error_message)


async def test_the_time_line_uses_this_tenants_own_durations(zora: Zora) -> None:
    await add_page(zora, "climate")
    payload = {"goal": "Review the climate page"}
    before = await zora.run("LUMINA", "plan_workflow", payload)
    await zora.run("SAM", "review_climate_page", {"page": "climate"})
    after = await zora.run("LUMINA", "plan_workflow", payload)
    assert before.result is not None
    assert after.result is not None
    assert before.result["result"]["schedule"]["assumed_durations"] == ["SAM review_climate_page"]
    assert after.result["result"]["schedule"]["assumed_durations"] == []
    assert before.result_summary is not None
    assert "assumed times" in before.result_summary


async def test_a_goal_that_fits_nothing_offers_the_nearest_and_no_workflow(zora: Zora) -> None:
    task = await zora.run("LUMINA", "plan_workflow", {"goal": "Bake a chocolate cake"})
    assert task.status == "completed"
    assert task.result is not None
    assert task.result["suggestions"] == []
    assert [finding["rule_id"] for finding in task.result["findings"]] == ["workflow.no-template"]
    assert len(task.result["result"]["nearest_templates"]) == 3


async def test_only_the_named_agents_are_used_whatever_their_case(zora: Zora) -> None:
    await add_page(zora, "dashboard")
    payload = {"goal": "Improve the dashboard page", "target_agents": ["lumina"]}
    task = await zora.run("LUMINA", "plan_workflow", payload)
    assert task.result is not None, task.error_message
    assert {step["agent_id"] for step in task.result["result"]["steps"]} == {"LUMINA"}
    assert task.result["findings"][0]["rule_id"] == "workflow.step-left-out"


async def test_a_folder_that_may_not_be_read_is_left_out_of_the_plan(zora: Zora) -> None:
    task = await zora.run("LUMINA", "plan_workflow", {"goal": "Analyse the code quality of /etc/ssl"})
    assert task.result is not None
    assert task.result["suggestions"] == []
    assert "lies outside" in task.result["result"]["left_out"]["analyze_codebase"]


async def test_an_unknown_agent_is_refused(zora: Zora) -> None:
    task = await zora.run("LUMINA", "plan_workflow", {"goal": "Research wind", "target_agents": ["HAL"]})
    assert task.failure_kind == "invalid_payload"
