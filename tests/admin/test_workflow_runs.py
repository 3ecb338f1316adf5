"""The pages of workflow runs: the list, and one run with its steps' states, what it asks, and what it came to."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from tests.admin.conftest import Visitor, Visitors
from tests.api.conftest import OTHER_TENANT_ID
from tests.conftest import Zora
from zora_core.models import Role
from zora_core.workflows import parse

PAGE = "/admin/workflow-runs"
STEP = {"agent_id": "EIVOR", "task_type": "summarize_recent_events", "title": "Sum <b>up</b>"}


async def start(zora: Zora, *steps: dict[str, Any], key: str = "mine", name: str = "Mine <i>") -> UUID:
    """Start a run of these steps."""
    made = [{**STEP, "key": f"s{n}", **step} for n, step in enumerate(steps or ({},), start=1)]
    workflow = parse({"key": key, "name": name, "inputs": {"days": 7}, "steps": made})
    (run,) = await zora.call(
        "start_workflow_run",
        tenant_id=zora.tenant_id,
        workflow=key,
        name=name,
        definition=workflow.model_dump(mode="json"),
        context={"days": 7},
        tasks=workflow.tasks({}),
    )
    run_id: UUID = run["id"]
    return run_id


async def steps_of(zora: Zora, run_id: UUID) -> dict[str, dict[str, Any]]:
    rows = await zora.call("list_workflow_run_tasks", tenant_id=zora.tenant_id, id=run_id)
    return {row["step"]: row for row in rows}


def drawn(visitor: Visitor) -> dict[str, str]:
    """The class of each step's box in the graph, by where it leads."""
    return {
        str(link.attributes["href"]): str(link.css_first("g").attributes["class"]) for link in visitor.page.css("svg a")
    }


async def test_a_run_is_drawn_with_the_state_of_each_step_and_followed(zora: Zora, founder: Visitor) -> None:
    run_id = await start(zora, {}, {"depends_on": ["s1"]})
    first, second = (await steps_of(zora, run_id)).values()
    await founder.open(f"{PAGE}/{run_id}")
    paths = [f"/admin/agents/tasks/{step['id']}" for step in (first, second)]
    assert drawn(founder) == dict.fromkeys(paths, "c-node c-node-pending")
    watched = str(founder.page.css_first("body").attributes["data-watch"])
    assert str(first["id"]) in watched
    assert str(second["id"]) in watched
    assert "0 of 2 steps ended" in founder.text
    await zora.run_once(limit=1)
    await founder.open(f"{PAGE}/{run_id}")
    assert drawn(founder)[paths[0]] == "c-node c-node-completed"
    assert str(first["id"]) not in str(founder.page.css_first("body").attributes["data-watch"])
    await zora.run_once()
    await founder.open(f"{PAGE}/{run_id}")
    assert "completed 2 of 2 steps ended" in founder.text
    assert "data-watch" not in founder.page.css_first("body").attributes
    assert [node.id for node in founder.page.css("[data-section]")] == [
        "run-head", "run-graph", "run-asks", "run-result", "run-steps",
    ]  # fmt: skip


async def test_what_the_last_steps_came_to_is_told(zora: Zora, founder: Visitor) -> None:
    run_id = await start(zora, {}, {"depends_on": ["s1"], "title": "The end"})
    await founder.open(f"{PAGE}/{run_id}")
    assert "Nothing yet." in founder.texts("#run-result")[0]
    await zora.run_once()
    await founder.open(f"{PAGE}/{run_id}")
    summary = str((await steps_of(zora, run_id))["s2"]["result_summary"])
    assert summary in founder.texts("#run-result")[0]
    assert founder.texts("#run-result a") == ["The end"]


async def test_a_step_that_asks_first_is_approved_on_the_runs_page(zora: Zora, founder: Visitor) -> None:
    run_id = await start(zora, {"ask_first": True, "title": "Dare <b>it</b>"})
    await founder.open(f"{PAGE}/{run_id}")
    assert "waits for a person" in founder.texts("#run-head .state")
    assert list(drawn(founder).values()) == ["c-node c-node-waiting"]
    assert founder.texts("#run-asks h3") == ["Run: Dare <b>it</b>"]
    form = founder.page.css_first("#run-asks form")
    digest = form.css_first("input[name=digest]").attributes["value"]
    await founder.post(str(form.attributes["action"]), decision="approve", digest=digest)
    assert founder.here == f"{PAGE}/{run_id}"
    assert "Applied" in founder.notice
    assert founder.texts("#run-asks h2") == []
    await zora.run_once()
    assert (await steps_of(zora, run_id))["s1"]["status"] == "completed"


async def test_what_the_steps_propose_is_listed_and_does_not_hold_the_run_up(zora: Zora, founder: Visitor) -> None:
    await zora.seed("climate_profiles", profile_type="person", name="Me", is_primary=True)
    missions = {"agent_id": "ORACLE", "task_type": "propose_new_climate_missions", "payload": {"count": 2}}
    run_id = await start(zora, missions)
    await zora.run_once()
    await founder.open(f"{PAGE}/{run_id}")
    assert founder.texts("#run-asks h2") == ["Proposed by its steps"]
    assert len(founder.texts("#run-asks li")) == 2
    assert "The run does not wait for these." in founder.text


async def test_a_run_is_cancelled_and_what_failed_is_retried(zora: Zora, founder: Visitor) -> None:
    run_id = await start(zora, {}, {"depends_on": ["s1"]})
    await founder.open(f"{PAGE}/{run_id}")
    assert founder.page.css_first(f"form[action='{PAGE}/{run_id}/retry']") is None
    await founder.post(f"{PAGE}/{run_id}/cancel", reason="too <b>late</b>")
    assert "2 tasks are cancelled" in founder.notice
    assert "too <b>late</b>" in founder.texts("#run-steps")[0]
    assert set(drawn(founder).values()) == {"c-node c-node-failed"}
    assert founder.page.css_first(f"form[action='{PAGE}/{run_id}/cancel']") is None
    await founder.post(f"{PAGE}/{run_id}/cancel")
    assert "has ended" in founder.notice
    await founder.post(f"{PAGE}/{run_id}/retry")
    assert "2 tasks are back in the queue" in founder.notice
    await zora.run_once()
    assert {step["status"] for step in (await steps_of(zora, run_id)).values()} == {"completed"}
    await founder.post(f"{PAGE}/{run_id}/retry")
    assert "nothing failed in run" in founder.notice.lower()


async def test_a_step_that_was_skipped_says_so(zora: Zora, founder: Visitor) -> None:
    wrong = {"payload": {"no such field": 1}, "max_attempts": 1}
    run_id = await start(zora, wrong, {"depends_on": [{"key": "s1", "on_failure": "skip"}]})
    await zora.run_once()
    await founder.open(f"{PAGE}/{run_id}")
    assert list(drawn(founder).values()) == ["c-node c-node-failed", "c-node c-node-skipped"]
    assert founder.texts("#run-steps .state")[-1] == "skipped"


async def test_runs_are_listed_newest_first_by_pages_and_workflow(zora: Zora, founder: Visitor) -> None:
    await founder.open(PAGE)
    assert "No runs yet." in founder.text
    made = [await start(zora, key="many", name=f"Run {n}") for n in range(53)]
    await start(zora, key="one", name="Another")
    await founder.open(f"{PAGE}?workflow=many")
    assert "1 to 50 of 53 runs" in founder.text
    assert founder.page.css_first(".what a").attributes["href"] == f"{PAGE}/{made[-1]}"
    assert "Another" not in founder.text
    await founder.open(str(founder.page.css_first("a[rel=next]").attributes["href"]))
    assert founder.texts(".what a") == ["Run 2", "Run 1", "Run 0"]
    assert founder.page.css_first("a[rel=next]") is None
    await founder.open(str(founder.page.css_first("a[rel=prev]").attributes["href"]))
    assert "1 to 50 of 53 runs" in founder.text
    await founder.open(f"{PAGE}?offset=5000")
    assert "There are no runs this far back." in founder.text


async def test_a_run_is_found_by_the_end_of_its_id(zora: Zora, founder: Visitor) -> None:
    run_id = await start(zora)
    await founder.open(f"{PAGE}/{str(run_id)[-8:]}")
    assert founder.here == f"{PAGE}/{run_id}"
    for unknown in (uuid4(), "nonsense", "x"):
        await founder.open(f"{PAGE}/{unknown}", status=404)


async def test_viewers_and_members_see_runs_and_may_not_end_them(zora: Zora, visitors: Visitors) -> None:
    run_id = await start(zora, {"ask_first": True}, {})
    for role in (Role.VIEWER, Role.MEMBER):
        visitor = await visitors(role)
        await visitor.open(f"{PAGE}/{run_id}")
        assert visitor.page.css("main form") == []
        await visitor.post(f"{PAGE}/{run_id}/cancel", status=403)
        await visitor.open(f"{PAGE}/{run_id}")
        await visitor.post(f"{PAGE}/{run_id}/retry", status=403)
    assert {step["status"] for step in (await steps_of(zora, run_id)).values()} == {"pending"}


async def test_another_tenants_run_is_not_there(zora: Zora, visitors: Visitors) -> None:
    run_id = await start(zora)
    other = await visitors(Role.FOUNDER, tenant_id=OTHER_TENANT_ID)
    await other.open(f"{PAGE}/{run_id}", status=404)
    await other.open(PAGE)
    assert "No runs yet." in other.text
    for action in ("cancel", "retry"):
        await other.open(PAGE)
        await other.post(f"{PAGE}/{run_id}/{action}")
        assert "No workflow run" in other.notice
    assert (await steps_of(zora, run_id))["s1"]["status"] == "pending"
