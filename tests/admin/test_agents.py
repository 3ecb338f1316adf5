"""The agents' page: how each does, what it is doing, and the switch that stops it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.admin.conftest import Visitor, Visitors
from tests.api.conftest import OTHER_TENANT_ID
from tests.conftest import Zora
from zora_core.models import AgentId, Role

PAGE = "/admin/agents"


def card(visitor: Visitor, agent: str) -> str:
    """What the page says of an agent."""
    (text,) = visitor.texts(f"#{agent.lower()}")
    return text


async def test_each_agent_says_what_it_is_for_and_what_it_can_be_asked_for(founder: Visitor) -> None:
    await founder.open(PAGE)
    assert founder.texts("main h2") == [agent.value for agent in AgentId]
    for agent in AgentId:
        assert agent.purpose in card(founder, agent)
    links = [node.attributes["href"] for node in founder.page.css("#oracle .asks a")]
    assert "/admin/agents/tasks/new?agent=ORACLE&type=propose_new_climate_missions" in links
    assert "Propose climate missions that fit a profile" in card(founder, "ORACLE")
    assert "no task has finished yet" in card(founder, "ORACLE")
    for link in links:
        await founder.open(str(link))
        assert founder.page.css_first("form.wide") is not None
    await founder.open(PAGE)
    for path in {node.attributes["href"] for node in founder.page.css(".links a")}:
        await founder.open(str(path))


async def test_success_and_durations_are_those_of_what_the_agent_finished(zora: Zora, founder: Visitor) -> None:
    for _ in range(2):
        await zora.run("EIVOR", "summarize_recent_events")
    failed = await zora.create("EIVOR", "summarize_recent_events", {"days": "all"}, max_attempts=1)
    await zora.run_once()
    assert (await zora.task(failed)).status == "failed"
    await founder.open(PAGE)
    assert "67 % completed: 2 of 3, 1 failed" in card(founder, "EIVOR")
    assert "(median); 90 % within" in card(founder, "EIVOR")
    assert "no task has finished yet" in card(founder, "SAM")


async def test_what_runs_now_is_named_and_watched(zora: Zora, founder: Visitor) -> None:
    task_id = await zora.create("SAM", "review_climate_page", title="A <b>look</b>")
    await zora.call("claim_agent_tasks", tenant_id=zora.tenant_id, worker_id="w")
    await founder.open(PAGE)
    assert "A <b>look</b>" in card(founder, "SAM")
    assert founder.page.css_first("#sam b") is None
    assert founder.page.css_first(f'#sam a[href="/admin/agents/tasks/{task_id}"]') is not None
    assert str(task_id) in str(founder.page.css_first("body").attributes["data-watch"])
    assert founder.texts("#oracle dd")[0] == "nothing"


async def _suggest(zora: Zora, number: int, **fields: Any) -> Any:
    return await zora.seed(
        "agent_suggestions",
        agent_id="ORACLE",
        suggestion_type="advice",
        title=f"Advice {number}",
        target={},
        suggested_value={},
        evidence=[],
        risk_level="low",
        findings=[],
        **fields,
    )


async def test_the_share_of_accepted_suggestions_is_told_and_drawn(zora: Zora, founder: Visitor) -> None:
    for number in range(4):
        status = "rejected" if number == 0 else "approved"
        decided = {"status": status, "decided_at": zora.now, "decided_as": "x", "reason": "r"}
        await _suggest(zora, number, **decided)
    await _suggest(zora, 9, status="proposed")
    await founder.open(PAGE)
    assert "75 % accepted: 3 of 4 decided" in card(founder, "ORACLE")
    assert "75 %" in founder.texts("#oracle svg.c-spark desc")[0]
    assert "none decided" in card(founder, "SAM")
    assert founder.page.css_first("#sam svg") is None


async def test_an_agent_is_paused_with_a_reason_and_resumed(zora: Zora, founder: Visitor) -> None:
    await founder.open(PAGE)
    await founder.post(PAGE, agent_id="SAM", reason="the rules <i>first</i>")
    assert "SAM is paused" in founder.notice
    (pause,) = await zora.call("list_agent_pauses", tenant_id=zora.tenant_id)
    assert (pause["agent_id"], pause["reason"]) == ("SAM", "the rules <i>first</i>")
    assert "by founder@example.org: “the rules <i>first</i>”" in card(founder, "SAM")
    assert founder.texts("#sam .state") == ["paused"]
    assert founder.page.css_first("#sam form[action='/admin/agents']") is None
    await founder.post(f"{PAGE}/resume", agent_id="SAM")
    assert founder.notice == "SAM goes on."
    assert await zora.call("list_agent_pauses", tenant_id=zora.tenant_id) == []
    await founder.post(f"{PAGE}/resume", agent_id="SAM")
    assert "SAM is not paused" in founder.notice


async def test_all_agents_are_paused_and_resumed_at_once(zora: Zora, founder: Visitor) -> None:
    await founder.open(PAGE)
    await founder.post(PAGE, agent_id="SAM", reason="")
    await founder.post(PAGE, agent_id="all", reason="a fire")
    assert "All agents are paused" in founder.notice
    assert founder.texts(".card .state") == ["paused"] * 6
    assert "a fire" in founder.texts(".notice.problem")[0]
    await zora.create("EIVOR", "summarize_recent_events")
    assert await zora.run_once() == []
    await founder.post(f"{PAGE}/resume", agent_id="all")
    assert founder.notice == "The pause of all agents is lifted. Still paused: SAM."
    assert len(await zora.run_once()) == 1


async def test_a_reason_that_is_too_long_is_told_at_its_field_and_shown_again(zora: Zora, founder: Visitor) -> None:
    await founder.open(PAGE)
    await founder.post(PAGE, agent_id="AEGIS", reason="long " * 500, status=400)
    assert "must have at most 2,000 characters" in founder.texts("#aegis .field-error")[0]
    assert founder.page.css_first("#aegis textarea").text().strip() == ("long " * 500).strip()
    assert "open" in founder.page.css_first("#aegis details.pause").attributes
    assert await zora.call("list_agent_pauses", tenant_id=zora.tenant_id) == []
    await founder.post(PAGE, agent_id="AEGIS", reason="short")
    assert "AEGIS is paused" in founder.notice


@pytest.mark.parametrize("path", [PAGE, f"{PAGE}/resume"])
async def test_an_agent_that_there_is_not_cannot_be_paused(founder: Visitor, path: str) -> None:
    await founder.open(PAGE)
    await founder.post(path, agent_id="<b>HAL</b>")
    assert "Unknown agent '<b>HAL</b>'" in founder.notice


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER])
async def test_who_may_not_pause_is_offered_no_pause(visitors: Visitors, zora: Zora, role: Role) -> None:
    visitor = await visitors(role)
    await visitor.open(PAGE)
    assert visitor.page.css("main form") == []
    assert bool(visitor.page.css(".asks a")) == (role is Role.MEMBER)
    await visitor.post(PAGE, agent_id="SAM", reason="", status=403)
    await visitor.open(PAGE)
    await visitor.post(f"{PAGE}/resume", agent_id="SAM", status=403)
    assert await zora.call("list_agent_pauses", tenant_id=zora.tenant_id) == []


async def test_an_agents_session_pauses_nobody(visitors: Visitors) -> None:
    visitor = await visitors(Role.FOUNDER, agent_id="SAM")
    await visitor.open(PAGE)
    assert visitor.page.css("main form") == []
    await visitor.post(PAGE, agent_id="ORACLE", reason="", status=403)


async def test_another_tenants_pauses_and_tasks_are_not_shown(visitors: Visitors, founder: Visitor) -> None:
    await founder.open(PAGE)
    await founder.post(PAGE, agent_id="SAM", reason="ours alone")
    other = await visitors(Role.FOUNDER, tenant_id=OTHER_TENANT_ID)
    await other.open(PAGE)
    assert "ours alone" not in other.text
    assert other.texts(".card .state") == []
