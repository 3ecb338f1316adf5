"""The system's page: the switch, health, queue, workers, history, policies; of the visitor's tenant alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.admin.conftest import Visitor, Visitors
from tests.api.conftest import OTHER_TENANT_ID
from tests.conftest import Zora
from zora_core import __version__
from zora_core.admin.pages.system import history
from zora_core.models import Role

HOSTILE = "<script>alert(1)</script>"
SYSTEM = "/admin/system"


async def create(zora: Zora, count: int = 1, *, tenant_id: Any = None, **fields: Any) -> list[dict[str, Any]]:
    task = {"agent_id": "EIVOR", "task_type": "summarize_recent_events", "title": "What happened", "payload": {}}
    return await zora.call("create_agent_tasks", tenant_id=tenant_id or zora.tenant_id, tasks=[task | fields] * count)


async def claim(zora: Zora, worker: str, **more: Any) -> list[dict[str, Any]]:
    return await zora.call("claim_agent_tasks", tenant_id=zora.tenant_id, worker_id=worker, **more)


async def journal(zora: Zora, event_type: str) -> list[dict[str, Any]]:
    entries = await zora.call("list_journal_entries", tenant_id=zora.tenant_id, limit=100)
    return [entry for entry in entries if entry["event_type"] == event_type]


def state_of(visitor: Visitor, name: str) -> str:
    """How something is, by the list of health."""
    (found,) = [said for said in visitor.texts("#health li") if name in said]
    return found.split(" ")[0]


def cells(visitor: Visitor, section: str) -> list[list[str]]:
    """What the rows of a section's table say."""
    return [
        [" ".join(cell.text().split()) for cell in row.css("th, td")] for row in visitor.page.css(f"{section} tbody tr")
    ]


async def test_an_empty_system_says_so_and_is_well(visitors: Visitors) -> None:
    viewer = await visitors(Role.VIEWER)
    await viewer.open(SYSTEM)
    assert "Nothing is paused" in viewer.text
    assert "Nothing runs, is ready or waits." in viewer.text
    assert "No task is running. Workers are listed while they run tasks." in viewer.text
    assert "No task has been completed yet." in viewer.text
    # The tests' clock stands still, and that of this machine does not.
    assert state_of(viewer, "Clocks") == "note"
    assert {said.split(" ")[0] for said in viewer.texts("#health li") if "Clocks" not in said} == {"ok"}
    assert len(viewer.texts("#history svg")) == 4
    facts = dict(zip(viewer.texts(".facts dt"), viewer.texts(".facts dd"), strict=True))
    assert facts["ZORA"] == __version__
    assert facts["PostgreSQL"].split(".")[0].isdecimal()


async def test_what_runs_is_ready_and_waits_is_told_by_agent(zora: Zora, visitors: Visitors) -> None:
    await create(zora, 1, title="first")
    await claim(zora, "w-1")
    await create(zora)
    await zora.call("set_agent_task_policy", tenant_id=zora.tenant_id, task_type="memory_cleanup", auto_execute=False)
    await create(zora, 2, task_type="memory_cleanup")
    await create(zora, agent_id="SAM", task_type="review_climate_page", payload={}, run_at="2090-01-01T00:00:00Z")
    viewer = await visitors(Role.VIEWER)
    await viewer.open(SYSTEM)
    assert [[row[0], row[1], row[2], row[4]] for row in cells(viewer, "#queue")] == [
        ["EIVOR", "1", "1", "2 for a person"],
        ["SAM", "0", "0", "1 for its time"],
    ]
    assert viewer.page.css_first("#queue a[href$='waiting=approval']") is not None
    assert viewer.texts("#workers tbody th") == ["w-1"]
    assert "works" in viewer.texts("#workers tbody tr")[0]


async def test_a_worker_of_whom_nothing_is_heard_is_marked_and_health_says_what_to_do(
    zora: Zora, visitors: Visitors
) -> None:
    await create(zora)
    await claim(zora, HOSTILE, lease_seconds=60)
    await zora.advance(seconds=61)
    viewer = await visitors(Role.VIEWER)
    await viewer.open(SYSTEM)
    (row,) = viewer.texts("#workers tbody tr")
    assert "1 expired" in row
    assert HOSTILE in row
    assert HOSTILE not in viewer.answer.text
    assert state_of(viewer, "Workers answer") == "note"
    assert "Look for workers that were killed or hang" in viewer.text


async def test_ready_tasks_that_nobody_takes_are_not_well(zora: Zora, visitors: Visitors) -> None:
    await create(zora, 3)
    await zora.advance(hours=2)
    viewer = await visitors(Role.VIEWER)
    await viewer.open(SYSTEM)
    assert state_of(viewer, "Oldest ready task") == "wrong"
    assert state_of(viewer, "Ready tasks are taken") == "wrong"
    assert "if no worker is running, start one with zora run-loop" in viewer.text
    await zora.call("pause_agents", tenant_id=zora.tenant_id)
    await viewer.open(SYSTEM)
    assert state_of(viewer, "Ready tasks are taken") == "note"
    assert "Everything is paused: nothing is taken until it is resumed." in viewer.text
    assert "start a worker" not in viewer.text.lower()


async def test_throughput_depth_and_durations_are_told_in_words(zora: Zora, visitors: Visitors) -> None:
    await create(zora, 3)
    await zora.run_once(limit=2)
    viewer = await visitors(Role.VIEWER)
    await viewer.open(SYSTEM)
    assert viewer.text.count("3 tasks created, 2 completed, 0 failed.") == 2
    assert viewer.text.count("1 unfinished now, 0") == 2
    (row,) = cells(viewer, "section[aria-labelledby=durations-title]")
    assert row[:3] == ["summarize_recent_events", "EIVOR", "2"]


def test_figures_that_are_too_low_are_said_to_be() -> None:
    bucket = {"bucket_start": datetime(2026, 3, 2, tzinfo=UTC), "created": 1, "completed": 0, "failed": 0, "depth": 7}
    assert history([bucket | {"is_partial": False}], "day").said == [
        "1 task created, 0 completed, 0 failed.",
        "7 unfinished now, 7 a day ago; most: 7 at 00:00 UTC.",
    ]
    assert "too low" in history([bucket | {"is_partial": True}], "day").said[-1]


async def test_another_tenants_figures_are_not_told(zora: Zora, visitors: Visitors) -> None:
    await create(zora, 5)
    await claim(zora, "ours")
    await zora.call("set_agent_task_policy", tenant_id=zora.tenant_id, task_type="of_ours", auto_execute=False)
    await zora.call("pause_agents", tenant_id=zora.tenant_id, agent_id=None, reason="ours alone")
    stranger = await visitors(Role.FOUNDER, tenant_id=OTHER_TENANT_ID)
    await stranger.open(SYSTEM)
    assert "Nothing runs, is ready or waits." in stranger.text
    assert "Nothing is paused" in stranger.text
    for ours in ("of_ours", "ours alone", "w-ours"):
        assert ours not in stranger.text
    assert stranger.text.count("0 tasks created, 0 completed, 0 failed.") == 2


# --- the switch -------------------------------------------------------------------------------------------------------


async def test_everything_is_paused_with_a_reason_and_resumed(zora: Zora, visitors: Visitors) -> None:
    admin = await visitors(Role.BRAND_ADMIN)
    await admin.open(SYSTEM)
    await admin.post(f"{SYSTEM}/pause", reason=HOSTILE)
    assert admin.notice.startswith("Everything is paused")
    assert f"by brand_admin@example.org: “{HOSTILE}”" in admin.text
    assert HOSTILE not in admin.answer.text
    await create(zora)
    assert await claim(zora, "w") == []
    assert [entry["author"] for entry in await journal(zora, "agents_paused")] == ["brand_admin@example.org"]

    await zora.call("pause_agents", tenant_id=zora.tenant_id, agent_id="SAM")
    await admin.post(f"{SYSTEM}/resume")
    assert "Still paused by themselves: SAM." in admin.notice
    assert "Some agents are paused" in admin.text
    assert len(await claim(zora, "w")) == 1
    assert [entry["author"] for entry in await journal(zora, "agents_resumed")] == ["brand_admin@example.org"]

    await admin.post(f"{SYSTEM}/resume")
    assert "not paused" in admin.notice


async def test_a_reason_that_is_too_long_is_shown_again(visitors: Visitors) -> None:
    admin = await visitors(Role.BRAND_ADMIN)
    await admin.open(SYSTEM)
    await admin.post(f"{SYSTEM}/pause", reason="x" * 2001, status=400)
    assert "at most 2,000 characters" in admin.page.css_first("#reason-error").text()
    assert admin.page.css_first("#reason").text().strip() == "x" * 2001
    assert "Nothing is paused" in admin.text


# --- policies ---------------------------------------------------------------------------------------------------------


async def test_a_policy_is_set_changed_and_removed(zora: Zora, visitors: Visitors) -> None:
    admin = await visitors(Role.BRAND_ADMIN)
    await admin.open(SYSTEM)
    assert "No policies yet." in admin.text
    policy = {"task_type": "review_climate_page", "max_risk_level": "low", "decide_within_hours": "48"}
    await admin.post(f"{SYSTEM}/policies", auto_execute="no", **policy)
    assert "are run only after a person has approved" in admin.notice
    (stored,) = await zora.call("list_agent_task_policies", tenant_id=zora.tenant_id)
    assert [stored[name] for name in ("task_type", "auto_execute", "max_risk_level", "decide_within_hours")] == [
        "review_climate_page", False, "low", 48,
    ]  # fmt: skip
    assert cells(admin, "#policies")[0][:4] == ["review_climate_page", "after approval", "up to low risk", "48 h"]

    await admin.open(f"{SYSTEM}?policy=review_climate_page")
    assert admin.page.css_first("#set-policy[open]") is not None
    assert admin.page.css_first("#task_type").attributes["value"] == "review_climate_page"
    assert admin.page.css_first("#auto_execute option[selected]").attributes["value"] == "no"
    assert admin.page.css_first("#max_risk_level option[selected]").attributes["value"] == "low"
    assert admin.page.css_first("#decide_within_hours").attributes["value"] == "48"
    await admin.post(f"{SYSTEM}/policies", task_type="review_climate_page", auto_execute="yes", max_risk_level="")
    (stored,) = await zora.call("list_agent_task_policies", tenant_id=zora.tenant_id)
    assert [stored[name] for name in ("auto_execute", "max_risk_level", "decide_within_hours")] == [True, None, None]

    await admin.post(f"{SYSTEM}/policies/remove", task_type="review_climate_page")
    assert await zora.call("list_agent_task_policies", tenant_id=zora.tenant_id) == []
    await admin.post(f"{SYSTEM}/policies/remove", task_type="review_climate_page")
    assert "No policy for" in admin.notice
    for event in ("agent_task_policy_set", "agent_task_policy_removed"):
        assert {entry["author"] for entry in await journal(zora, event)} == {"brand_admin@example.org"}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"decide_within_hours": "0"}, "decide_within_hours"),
        ({"decide_within_hours": "soon"}, "decide_within_hours"),
        ({"decide_within_hours": "9" * 30}, "decide_within_hours"),
        ({"max_risk_level": "enormous"}, "max_risk_level"),
        ({"auto_execute": "perhaps"}, "auto_execute"),
        ({"task_type": "  "}, "task_type"),
        ({"task_type": "t" * 101}, "task_type"),
    ],
)
async def test_what_is_wrong_with_a_policy_is_said_at_its_field(
    zora: Zora, visitors: Visitors, given: dict[str, str], field: str
) -> None:
    admin = await visitors(Role.BRAND_ADMIN)
    await admin.open(SYSTEM)
    fields = {"task_type": HOSTILE, "auto_execute": "no", "max_risk_level": "high", "decide_within_hours": "5", **given}
    await admin.post(f"{SYSTEM}/policies", **fields, status=400)
    assert [node.attributes["id"] for node in admin.page.css(".field-error")] == [f"{field}-error"]
    assert admin.page.css_first(f"#{field}").attributes["aria-invalid"] == "true"
    assert admin.page.css_first("#set-policy[open]") is not None
    assert admin.page.css_first("#task_type").attributes["value"] == fields["task_type"]
    assert HOSTILE not in admin.answer.text
    assert await zora.call("list_agent_task_policies", tenant_id=zora.tenant_id) == []


async def test_everybodys_policy_is_told_apart_and_cannot_be_removed(zora: Zora, visitors: Visitors) -> None:
    await zora.sql("insert into agent_task_policies (task_type, auto_execute) values ('research_topic', false)")
    admin = await visitors(Role.BRAND_ADMIN)
    await admin.open(SYSTEM)
    (row,) = admin.texts("#policies tbody tr")
    assert "everybody's" in row
    assert "Set your own" in row
    assert "Remove" not in row


# --- who may ----------------------------------------------------------------------------------------------------------

ACTIONS = ("pause", "resume", "policies", "policies/remove")


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER])
async def test_whoever_may_not_decide_is_offered_nothing_and_refused(
    zora: Zora, visitors: Visitors, role: Role
) -> None:
    await zora.call("set_agent_task_policy", tenant_id=zora.tenant_id, task_type="research_topic")
    visitor = await visitors(role)
    await visitor.open(SYSTEM)
    assert visitor.texts("main form") == []
    assert "Change" not in visitor.text
    await visitor.open("/admin/agents/suggestions")
    for action in ACTIONS:
        await visitor.open(SYSTEM)
        token = visitor.csrf
        await visitor.post(f"{SYSTEM}/{action}", token=token, task_type="research_topic", status=403)
    assert len(await zora.call("list_agent_task_policies", tenant_id=zora.tenant_id)) == 1
    assert await zora.call("list_agent_pauses", tenant_id=zora.tenant_id) == []


async def test_an_agent_decides_nothing_either(zora: Zora, visitors: Visitors) -> None:
    agent = await visitors(Role.FOUNDER, agent_id="SAM")
    await agent.open(SYSTEM)
    assert agent.texts("main form") == []
    for action in ACTIONS:
        await agent.open(SYSTEM)
        await agent.post(f"{SYSTEM}/{action}", task_type="research_topic", status=403)
    assert await zora.call("list_agent_pauses", tenant_id=zora.tenant_id) == []
