"""The tasks' pages: what needs a decision, lists with filters, one task, a new one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.admin.conftest import Visitor, Visitors
from tests.autonomy.agents import Probe
from tests.conftest import Zora
from zora_core.models import Role

NEW = "/admin/agents/tasks/new"
ALL = "/admin/agents/tasks?view=all"


def mission(title: str = "Green power", risk: str = "low") -> dict[str, Any]:
    value = {"title": title, "category": "energy", "estimated_impact_kgco2": 900}
    return {
        "suggestion_type": "create_climate_missions", "title": title, "body": f"**Why** {title}", "target": {},
        "suggested_value": value, "risk_level": risk,
        "evidence": [{"kind": "metric", "name": "grid electricity", "value": 2400, "unit": "kWh"}],
        "effect": {"changes": [{"op": "insert", "table": "climate_missions", "row": value}]},
    }  # fmt: skip


async def propose(zora: Zora, title: str = "Green power", risk: str = "low") -> UUID:
    (row,) = await zora.call(
        "propose_agent_suggestion", tenant_id=zora.tenant_id, agent_id="ORACLE", suggestion=mission(title, risk)
    )
    return row["id"]


async def missions(zora: Zora) -> list[str]:
    return [row["title"] for row in await zora.call("list_climate_missions", tenant_id=zora.tenant_id)]


# --- what needs a decision


async def test_what_needs_a_decision_comes_by_urgency_and_says_exactly_what_it_does(
    zora: Zora, founder: Visitor
) -> None:
    await zora.sql("insert into agent_task_policies (tenant_id, task_type, decide_within_hours) values ($1, 'x', 1)",
                   zora.tenant_id)  # fmt: skip
    low, high = await propose(zora, "Low"), await propose(zora, "High", "high")
    urgent = await propose(zora, "Urgent")
    await zora.sql("update agent_suggestions set expires_at = $2 where id = $1", urgent, zora.now)
    await zora.sql("update agent_suggestions set expires_at = zora_now() + interval '2 hours' where id = $1", urgent)
    page = await founder.open("/admin/agents/tasks")
    assert [card.attributes["id"] for card in page.css(".card")] == [f"s-{urgent}", f"s-{high}", f"s-{low}"]
    assert founder.texts(".tabs a")[0] == "Needs you 3"
    card = page.css_first(f"#s-{high}")
    assert "Adds the climate mission “High” (energy, 900 kgCO2e a year)." in card.text()
    assert card.css_first(".prose strong").text() == "Why"
    assert "900" in card.css_first("table.diff").text()


async def test_without_anything_to_decide_the_page_says_so(founder: Visitor) -> None:
    await founder.open("/admin/agents/tasks")
    assert "Nothing needs you. 0 running, 0 ready, 0 waiting." in founder.text
    await founder.open(ALL)
    assert "No tasks yet. Create the first one" in founder.text


async def test_all_that_needs_a_decision_is_reached_page_by_page(zora: Zora, founder: Visitor) -> None:
    made = {f"s-{await propose(zora, f'number {n}')}" for n in range(45)}
    await founder.open("/admin/agents/tasks")
    seen: list[str] = []
    for _ in range(3):
        seen += [card.attributes["id"] for card in founder.page.css(".card")]
        further = founder.page.css_first(".pages a[rel=next]")
        if further is not None:
            await founder.open(f"/admin/agents/tasks{further.attributes['href']}")
    assert len(seen) == 45
    assert set(seen) == made


async def test_a_suggestion_is_approved_and_taken_back(zora: Zora, founder: Visitor) -> None:
    suggestion = await propose(zora)
    page = await founder.open("/admin/agents/tasks")
    digest = page.css_first("input[name=digest]").attributes["value"]
    path = f"/admin/agents/suggestions/{suggestion}"
    await founder.post(f"{path}/decision", decision="approve", digest=digest)
    assert founder.notice.startswith("Applied: “Green power”")
    assert founder.here == "/admin/agents/tasks", "back to where the decision was taken"
    assert await missions(zora) == ["Green power"]
    (row,) = await zora.call("get_agent_suggestion", tenant_id=zora.tenant_id, id=str(suggestion))
    assert (row["status"], row["decided_as"]) == ("applied", "founder@example.org")
    undo = founder.page.css_first(".notice form").attributes["action"]
    await founder.post(undo)
    assert founder.notice.startswith("Taken back")
    assert await missions(zora) == []
    await founder.open("/admin/agents/tasks")
    assert founder.notice == "", "a notice is shown once"


async def test_an_approval_of_what_was_not_seen_is_refused(zora: Zora, founder: Visitor) -> None:
    suggestion = await propose(zora)
    for digest in ("", "0" * 64):
        await founder.post(f"/admin/agents/suggestions/{suggestion}/decision", decision="approve", digest=digest)
        assert "problem" in founder.page.css_first(".notice").attributes["class"]
    assert await missions(zora) == []


async def test_a_rejection_needs_a_reason(zora: Zora, founder: Visitor) -> None:
    suggestion = await propose(zora)
    path = f"/admin/agents/suggestions/{suggestion}/decision"
    await founder.post(path, decision="reject", reason="  ")
    assert "say why" in founder.notice.lower()
    await founder.post(path, decision="reject", reason="We have one")
    assert founder.notice == "Rejected: “Green power”"
    await founder.open(f"/admin/agents/suggestions/{suggestion}")
    assert "We have one" in founder.text
    assert founder.page.css_first(".decide") is None


async def test_a_suggestion_is_approved_with_another_value(zora: Zora, founder: Visitor) -> None:
    suggestion = await propose(zora)
    page = await founder.open(f"/admin/agents/suggestions/{suggestion}")
    digest = page.css_first("#edit input[name=digest]").attributes["value"]
    path = f"/admin/agents/suggestions/{suggestion}/decision"
    edited = {"payload.title": "Green power, from May", "payload.category": "energy", "payload.status": "planned"}
    wrong = {**edited, "payload.estimated_impact_kgco2": "a lot"}
    await founder.post(path, status=400, decision="edit", digest=digest, **wrong)
    assert founder.page.css_first("[aria-invalid]").attributes["value"] == "a lot", "what was typed is still there"
    assert await missions(zora) == []
    await founder.post(path, decision="edit", digest=digest, **edited, reason="Not before")
    assert founder.notice.startswith("Applied"), founder.notice
    assert await missions(zora) == ["Green power, from May"]


async def test_a_proposal_whose_target_has_changed_shows_what_is_there_now(zora: Zora, founder: Visitor) -> None:
    await zora.seed("frontend_configs", page="home", config={"title": "Hello world"})
    before, after = {"config": "Hello world"}, {"config": "Hello there"}
    change = {
        "op": "update", "table": "frontend_configs", "key": "home", "path": ["title"], "before": before, "after": after,
    }  # fmt: skip
    proposed = {
        **mission("Greet"), "suggestion_type": "change_frontend_config", "target": {"page": "home", "path": ["title"]},
        "current_value": {"value": "Hello world"}, "suggested_value": {"value": "Hello there"},
        "effect": {"changes": [change]},
    }  # fmt: skip
    (row,) = await zora.call("propose_agent_suggestion", tenant_id=zora.tenant_id, agent_id="SAM", suggestion=proposed)
    path = f"/admin/agents/suggestions/{row['id']}"
    page = await founder.open(path)
    assert (page.css_first("del").text(), page.css_first("ins").text()) == ("world", "there")
    await zora.sql('update frontend_configs set config = \'{"title": "Good morning"}\'')
    page = await founder.open(path)
    assert "changed since" in founder.text
    assert "Good morning" in page.css_first("table.diff").text()
    digest = page.css_first("input[name=digest]").attributes["value"]
    await founder.post(f"{path}/decision", decision="approve", digest=digest)
    assert founder.notice.startswith("Not applied")
    assert page.css_first("a") is not None
    (config,) = await zora.sql("select config ->> 'title' as title from frontend_configs")
    assert config["title"] == "Good morning"


# --- lists


async def test_tasks_are_found_by_every_filter_and_the_address_keeps_them(zora: Zora, founder: Visitor) -> None:
    await zora.create("SAM", "review_climate_page", title="Review the 100% page_a")
    await zora.create("SAM", "review_climate_page", title="Review the 1000 pagexa", run_at="2031-01-01T00:00:00Z")
    other = await zora.create("EIVOR", "summarize_recent_events", title="What happened")

    async def found(**query: str) -> list[str]:
        url = str(founder.client.build_request("GET", ALL, params={"view": "all", **query}).url.raw_path.decode())
        await founder.open(url)
        for name, value in query.items():
            shown = founder.page.css_first(f"[name={name}]")
            chosen = shown.css_first("option[selected]") if shown.tag == "select" else shown
            assert (chosen.attributes.get("value") or chosen.text()) == value
        return founder.texts(".row .what > a")

    assert await found() == ["What happened", "Review the 1000 pagexa", "Review the 100% page_a"]
    assert await found(q="100% page_") == ["Review the 100% page_a"]
    assert await found(q="REVIEW", agent="SAM") == ["Review the 1000 pagexa", "Review the 100% page_a"]
    assert await found(q=str(other)[-6:]) == ["What happened"]
    assert await found(status="pending", waiting="run_at") == ["Review the 1000 pagexa"]
    assert await found(type="summarize_recent_events") == ["What happened"]
    assert await found(status="failed") == []
    await founder.open(f"{ALL}&agent=NOBODY&status=x&before=1&view=all")
    assert len(founder.texts(".row")) == 3, "what cannot be is left out"


async def test_older_tasks_are_reached_page_by_page(zora: Zora, founder: Visitor) -> None:
    tasks = [{"agent_id": "SAM", "task_type": "t", "title": f"number {n}"} for n in range(120)]
    await zora.call("create_agent_tasks", tenant_id=zora.tenant_id, tasks=tasks)
    await founder.open(ALL)
    seen: list[str] = []
    for _ in range(3):
        seen += founder.texts(".row .what > a")
        older = founder.page.css_first(".pages a[rel=next]")
        if older is None:
            break
        await founder.open(older.attributes["href"])
    assert sorted(seen) == sorted(f"number {n}" for n in range(120))
    assert len(founder.texts(".row")) == 20


async def test_several_tasks_are_acted_on_and_each_outcome_is_told(zora: Zora, founder: Visitor) -> None:
    waiting = await zora.create("SAM", "t", title="waits", run_at="2031-01-01T00:00:00Z")
    done = await zora.create("SAM", "count", title="done")
    await zora.run_once(Probe())
    await founder.open(ALL)
    ids = [str(waiting), str(done)]
    await founder.post("/admin/agents/tasks/selected", id=ids, action="priority", priority="7")
    assert "1 of 2 tasks with priority 7" in founder.notice
    assert (await zora.task(waiting)).priority == 7
    for word in ("", "seven", "1.5"):
        await founder.post("/admin/agents/tasks/selected", id=ids, action="priority", priority=word)
        assert "whole number" in founder.notice
    await founder.post("/admin/agents/tasks/selected", id=ids, action="cancel")
    assert "1 of 2 tasks cancelled" in founder.notice
    assert str(done)[-8:] in founder.notice
    task = await zora.task(waiting)
    assert (task.status, task.failure_kind) == ("failed", "cancelled")
    await founder.post("/admin/agents/tasks/selected", id=ids, action="retry")
    assert (await zora.task(waiting)).status == "pending"
    await founder.post("/admin/agents/tasks/selected", action="retry")
    assert "select a task first" in founder.notice.lower()


@pytest.mark.parametrize("bad", ["x", "", "0" * 300])
async def test_what_is_no_id_of_a_task_is_told_and_harms_nothing(founder: Visitor, bad: str) -> None:
    await founder.post("/admin/agents/tasks/selected", id=bad, action="cancel")
    assert "problem" in founder.page.css_first(".notice").attributes["class"]


async def test_viewers_and_members_are_offered_what_they_may(zora: Zora, visitors: Visitors) -> None:
    suggestion = await propose(zora)
    task = await zora.create("SAM", "t", title="waits", run_at="2031-01-01T00:00:00Z")
    viewer, member, admin = [await visitors(role) for role in (Role.VIEWER, Role.MEMBER, Role.BRAND_ADMIN)]
    agent = await visitors(Role.FOUNDER, agent_id="SAM")
    for visitor, creates, acts, decides in (
        (viewer, False, False, False),
        (member, True, False, False),
        (admin, True, True, True),
        (agent, True, True, False),
    ):
        page = await visitor.open(f"/admin/agents/suggestions/{suggestion}")
        assert (page.css_first(".decide") is not None) == decides
        page = await visitor.open(ALL)
        assert (page.css_first("a[href='/admin/agents/tasks/new']") is not None) == creates
        assert (page.css_first(".bulk") is not None) == acts
        page = await visitor.open(f"/admin/agents/tasks/{task}")
        assert ("Cancel" in visitor.text) == acts


# --- one task


async def test_a_task_tells_its_story_with_its_findings_their_evidence_and_its_proof(
    zora: Zora, founder: Visitor
) -> None:
    task_id = await zora.create("AEGIS", "check_climate_claims", {"claims": ["The greenest detergent on the market."]})
    await zora.advance(minutes=3)
    await zora.run_once()
    task = await zora.task(task_id)
    page = await founder.open(f"/admin/agents/tasks/{task.id}")
    severities = founder.texts(".finding .severity")
    ranks = ["critical", "high", "medium", "low", "info"]
    assert severities == sorted(severities, key=ranks.index)
    assert "The greenest detergent on the market." in page.css_first(".evidence q").text()
    said = founder.texts("#task-timeline li")
    assert any(line.startswith("Created") for line in said)
    assert "waited for a worker 3 min" in said
    assert any(line.startswith("Run 1 began") for line in said)
    assert any(line.startswith("Completed") for line in said)
    assert "not sealed yet" in founder.text
    await founder.open(f"/admin/agents/tasks/{str(task.id)[-8:]}")
    assert founder.here == f"/admin/agents/tasks/{task.id}", "the end of an id leads to it"


async def test_a_task_says_why_it_waits_and_what_it_hangs_on(zora: Zora, founder: Visitor) -> None:
    graph = [
        {"key": "a", "agent_id": "SAM", "task_type": "t", "title": "First step", "depends_on": []},
        {"key": "b", "agent_id": "SAM", "task_type": "t", "title": "Second step", "depends_on": ["a"]},
    ]
    rows = await zora.call("create_agent_task_graph", tenant_id=zora.tenant_id, tasks=graph)
    second = next(row for row in rows if row["waiting_for"] == "dependencies")
    await founder.open(f"/admin/agents/tasks/{second['id']}")
    assert "Waits for 1 of the 1 tasks that it depends on" in founder.text
    assert any("depends on" in row and "First step" in row for row in founder.texts("#task-related tbody tr"))


async def test_a_failed_task_shows_its_error_and_is_retried(zora: Zora, founder: Visitor) -> None:
    task = await zora.run("CONNOR", "analyze_codebase", {"target": "/nowhere/at/all"})
    page = await founder.open(f"/admin/agents/tasks/{task.id}")
    assert page.css_first("pre.error") is not None
    await founder.post(f"/admin/agents/tasks/{task.id}/retry")
    assert "back in the queue" in founder.notice
    assert (await zora.task(task.id)).status == "pending"
    await founder.post(f"/admin/agents/tasks/{task.id}/retry")
    assert "problem" in founder.page.css_first(".notice").attributes["class"]


async def test_no_task_is_a_page_that_says_so(founder: Visitor) -> None:
    for path in ("01900000-0000-7000-8000-000000000000", "zzzz", "0000", "%00", "a" * 400):
        answer = await founder.client.get(f"/admin/agents/tasks/{path}")
        assert answer.status_code in (400, 404), path
        assert answer.headers["content-type"].startswith("text/html")


# --- a new one


async def test_a_task_is_created_from_the_form_of_its_type(zora: Zora, founder: Visitor) -> None:
    await founder.open(f"{NEW}?agent=EIVOR&type=summarize_recent_events")
    await founder.post(
        NEW, agent="EIVOR", type="summarize_recent_events", title="What happened", action="create",
        run_at="2031-03-02T09:00", priority="5",
    )  # fmt: skip
    assert founder.page.css_first("h1").text() == "What happened"
    (task,) = await zora.call("list_agent_tasks", tenant_id=zora.tenant_id)
    assert (task["priority"], task["run_at"].isoformat()) == (5, "2031-03-02T09:00:00+00:00")
    (row,) = await zora.call("get_agent_task", tenant_id=zora.tenant_id, id=str(task["id"]))
    assert row["created_by_user_id"] is not None


async def test_what_is_wrong_is_said_at_its_field_and_nothing_is_lost(zora: Zora, founder: Visitor) -> None:
    typed = {"title": "", "priority": "high", "payload.target": "x", "payload.html": "<b>", "max_attempts": "0"}
    page = await founder.post(NEW, status=400, agent="SAM", type="review_accessibility", action="create", **typed)
    for name in ("title", "priority", "max_attempts"):
        assert page.css_first(f"[name={name}]").attributes["aria-invalid"] == "true", name
    assert page.css_first("[name=priority]").attributes["value"] == "high"
    assert page.css_first("[name='payload.target']").attributes["value"] == "x"
    assert page.css_first("[name='payload.html']").text().strip() == "<b>"
    assert await zora.call("list_agent_tasks", tenant_id=zora.tenant_id) == []


async def test_checking_creates_nothing_and_shows_the_command(zora: Zora, founder: Visitor) -> None:
    page = await founder.post(
        NEW, agent="SAM", type="review_accessibility", title="It's ours", action="check", **{"payload.target": "home"}
    )
    command = page.css_first(".command").text()
    assert command.startswith("zora create-task SAM review_accessibility 'It'\"'\"'s ours' --payload '{\"target\": ")
    assert await zora.call("list_agent_tasks", tenant_id=zora.tenant_id) == []


async def test_a_copy_is_made_with_the_payload_of_its_original(zora: Zora, founder: Visitor) -> None:
    original = await zora.create("SAM", "review_accessibility", {"target": "home", "level": "AAA"}, title="Ours")
    page = await founder.open(f"{NEW}?copy_of={original}")
    assert page.css_first("[name=title]").attributes["value"] == "Ours"
    assert page.css_first("[name='payload.target']").attributes["value"] == "home"
    assert page.css_first("[name='payload.level'] option[selected]").attributes["value"] == "AAA"


async def test_a_sentence_becomes_a_task_of_planning(zora: Zora, founder: Visitor) -> None:
    await founder.open(NEW)
    await founder.post("/admin/agents/ask", text="Review our climate page")
    (task,) = await zora.call("list_agent_tasks", tenant_id=zora.tenant_id)
    assert (task["task_type"], task["payload"]) == ("plan_workflow", {"goal": "Review our climate page"})
    await founder.post("/admin/agents/ask", text="ab")
    assert "3 to 500" in founder.notice
