"""The workflows' pages: what there is, starting a run, and changing a definition."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.admin.conftest import Visitor, Visitors
from tests.api.conftest import OTHER_TENANT_ID
from tests.conftest import Zora
from zora_core.models import Role

PAGE, EDIT = "/admin/workflows", "/admin/workflow-definition"
MINE: dict[str, Any] = {
    "key": "mine",
    "name": "Mine <script>",
    "description": "What it is <b>for</b>.",
    "inputs": {"days": 7, "what": "tidy", "tags": ["a"]},
    "steps": [
        {
            "key": "sum",
            "agent_id": "EIVOR",
            "task_type": "summarize_recent_events",
            "title": "The last {days} days",
            "payload": {"days": {"$input": "days"}},
        },
        {
            "key": "tidy",
            "agent_id": "EIVOR",
            "task_type": "memory_cleanup",
            "title": "Then {what}",
            "depends_on": [{"key": "sum", "on_failure": "continue"}],
            "ask_first": True,
        },
    ],
}


async def save(visitor: Visitor, definition: dict[str, Any] = MINE) -> None:
    """Save a new definition by the form."""
    await visitor.open(EDIT)
    await visitor.post(EDIT, definition=json.dumps(definition))
    assert "is saved" in visitor.notice


async def runs(zora: Zora) -> list[dict[str, Any]]:
    return await zora.call("list_workflow_runs", tenant_id=zora.tenant_id)


async def test_the_shipped_workflows_are_listed_with_their_steps_in_words(founder: Visitor) -> None:
    await founder.open(PAGE)
    assert founder.texts("main h2") == ["Frontend quality round", "Nightly housekeeping", "Weekly climate review"]
    assert "CONNOR Is the system behind dashboard well? after 2, even if that fails asks a person first" in founder.text
    assert "LUMINA Plan improvements of dashboard after 1, unless that fails" in founder.text
    assert "AEGIS Review the last 24 hours after 1 and 2, even if they fail" in founder.text
    assert founder.text.count("No runs lately. Start one") == 3


async def test_a_workflow_is_drawn_and_its_steps_and_inputs_are_shown(founder: Visitor) -> None:
    await save(founder)
    assert founder.here == f"{PAGE}/mine"
    assert founder.page.css_first("h1").text() == "Mine <script>"
    assert "What it is <b>for</b>." in founder.text
    assert [node.attributes["href"] for node in founder.page.css("svg a")] == ["#step-sum", "#step-tidy"]
    assert founder.texts("#step-sum h3") == ["1. The last {days} days"]
    assert '"$input": "days"' in founder.texts("#step-sum pre")[0]
    assert "after 1, even if that fails asks a person first" in founder.texts("#step-tidy")[0]
    shown = {
        node.attributes["name"]: node.attributes["value"] for node in founder.page.css("form.wide input[type=text]")
    }
    assert shown == {"input.days": "7", "input.what": "tidy"}
    assert founder.page.css_first("textarea[name='input.tags']").text().strip() == '["a"]'


async def test_a_run_is_started_with_the_inputs_of_the_form(zora: Zora, founder: Visitor) -> None:
    await save(founder)
    await founder.post(f"{PAGE}/mine", **{"input.days": "3", "input.what": "5", "input.tags": "[]"})
    (run,) = await runs(zora)
    assert founder.here == f"/admin/workflow-runs/{run['id']}"
    assert "is started" in founder.notice
    assert run["context"] == {"days": 3, "what": "5", "tags": []}
    assert run["created_by"] is not None
    assert "The last 3 days" in founder.text
    await founder.open(PAGE)
    assert f"/admin/workflow-runs/{run['id']}" in [node.attributes["href"] for node in founder.page.css(".last a")]
    await founder.open(f"{PAGE}/mine")
    assert "days = 3, tags = [], what = 5" in founder.text


@pytest.mark.parametrize(
    ("name", "typed", "problem"),
    [
        ("input.days", "three <b>", "days: must be JSON"),
        ("input.days", "NaN", "days: must be JSON"),
        ("input.tags", "[1", "tags: must be JSON"),
        ("input.days", "-4", "It could not run like this: the step 'sum'"),
        ("input.tags", "[1e999]", "tags: must not contain numbers that are not finite"),
    ],
)
async def test_an_input_that_cannot_be_is_told_and_shown_again(
    zora: Zora, founder: Visitor, name: str, typed: str, problem: str
) -> None:
    await save(founder)
    given = {"input.days": "7", "input.what": "my <i>text</i>", "input.tags": "[]", name: typed}
    await founder.post(f"{PAGE}/mine", status=400, **given)
    assert any(problem in text for text in founder.texts(".field-error")), founder.texts(".field-error")
    control = founder.page.css_first(f"[name='{name}']")
    assert (control.attributes.get("value") or control.text().strip()) == typed
    assert founder.page.css_first("[name='input.what']").attributes["value"] == "my <i>text</i>"
    assert await runs(zora) == []
    await founder.post(f"{PAGE}/mine", **{**given, name: "[]" if name == "input.tags" else "2"})
    assert len(await runs(zora)) == 1


async def test_a_definition_is_changed_in_place(zora: Zora, founder: Visitor) -> None:
    await save(founder)
    await founder.open(f"{EDIT}?key=mine")
    text = founder.page.css_first("textarea[name=definition]").text()
    assert json.loads(text) == MINE
    await founder.post(f"{EDIT}?key=mine", definition=text.replace("Mine <script>", "Yours"))
    assert founder.page.css_first("h1").text() == "Yours"
    (stored,) = await zora.call("list_workflows", tenant_id=zora.tenant_id)
    assert (stored["key"], stored["name"]) == ("mine", "Yours")


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("{]", "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
        ("7", "Input should be an object"),
        ("", "Invalid JSON"),
        (json.dumps({**MINE, "key": "Not A Key"}), "key: String should match pattern"),
        (json.dumps({**MINE, "steps": []}), "steps: List should have at least 1 item"),
        (json.dumps({**MINE, "colour": "red"}), "colour: Extra inputs are not permitted"),
        (json.dumps({**MINE, "inputs": {}}), "names the input 'days' (known: none)"),
        (json.dumps({**MINE, "inputs": {**MINE["inputs"], "x": "\0"}}), "NUL"),
        (json.dumps({**MINE, "steps": [{**MINE["steps"][0], "task_type": "paint"}]}), "unknown task type 'paint'"),
        (json.dumps({**MINE, "steps": [{**MINE["steps"][0], "depends_on": ["sum"]}]}), "depend on one another"),
        (json.dumps({**MINE, "key": "nightly-housekeeping"}), "there is a workflow 'nightly-housekeeping' already"),
    ],
)
async def test_a_definition_that_cannot_be_is_told_and_shown_again(
    zora: Zora, founder: Visitor, wrong: str, problem: str
) -> None:
    await founder.open(EDIT)
    await founder.post(EDIT, definition=wrong, status=400)
    assert problem in founder.texts("#definition-error")[0]
    assert founder.page.css_first("textarea[name=definition]").text().strip() == wrong
    assert await zora.call("list_workflows", tenant_id=zora.tenant_id) == []


async def test_a_shipped_workflow_is_replaced_by_ones_own_until_that_is_deleted(zora: Zora, founder: Visitor) -> None:
    await founder.open(f"{PAGE}/nightly-housekeeping")
    assert founder.page.css_first(".delete") is None
    await founder.open(f"{EDIT}?key=nightly-housekeeping")
    assert "If you save it, your version replaces it" in founder.text
    text = founder.page.css_first("textarea[name=definition]").text()
    await founder.post(f"{EDIT}?key=nightly-housekeeping", definition=text.replace("Nightly housekeeping", "Our night"))
    assert "yours, in place of the shipped one" in founder.text
    await founder.post(f"{PAGE}/nightly-housekeeping/delete")
    assert founder.page.css_first("h1").text() == "Nightly housekeeping"
    assert "The one that comes with the program holds again." in founder.notice
    await founder.post(f"{PAGE}/nightly-housekeeping/delete")
    assert "No workflow nightly-housekeeping" in founder.notice


async def test_deleting_a_workflow_leaves_its_runs(zora: Zora, founder: Visitor) -> None:
    await save(founder)
    await founder.post(f"{PAGE}/mine", **{"input.days": "3"})
    (run,) = await runs(zora)
    await founder.open(f"{PAGE}/mine")
    await founder.post(f"{PAGE}/mine/delete")
    assert founder.here == PAGE
    await founder.open(f"{PAGE}/mine", status=404)
    await founder.open(f"/admin/workflow-runs/{run['id']}")
    assert founder.page.css_first("h1").text() == "Mine <script>"
    await founder.open("/admin/workflow-runs?workflow=mine")
    assert "1 run, newest first" in founder.text


@pytest.mark.parametrize(
    "wrong", [{"steps": []}, {"colour": "red"}, {"steps": [{**MINE["steps"][0], "depends_on": ["sum"]}]}]
)
async def test_a_definition_that_this_version_cannot_read_is_told_and_can_be_mended(
    zora: Zora, founder: Visitor, wrong: dict[str, Any]
) -> None:
    broken = {**MINE, "key": "old", **wrong}
    await zora.call("save_workflow", tenant_id=zora.tenant_id, key="old", name="Old", definition=broken)
    await founder.open(PAGE)
    assert "This version cannot read it" in founder.text
    await founder.open(f"{PAGE}/old")
    assert "This version cannot read the definition" in founder.text
    await founder.open(f"{EDIT}?key=old")
    assert json.loads(founder.page.css_first("textarea[name=definition]").text()) == broken
    await founder.post(f"{EDIT}?key=old", definition=json.dumps({**MINE, "key": "old"}))
    assert "is saved" in founder.notice


async def test_what_a_role_may_not_do_is_not_offered_and_refused(
    zora: Zora, founder: Visitor, visitors: Visitors
) -> None:
    await save(founder)
    viewer, member = await visitors(Role.VIEWER), await visitors(Role.MEMBER)
    agent = await visitors(Role.FOUNDER, agent_id="SAM")
    await viewer.open(f"{PAGE}/mine")
    assert viewer.page.css("main form") == []
    assert viewer.texts(".facts dt")[0] == "days"
    assert viewer.texts(".facts dd")[0] == "7"
    await viewer.post(f"{PAGE}/mine", status=403)
    for visitor in (viewer, member):
        await visitor.open(EDIT, status=403)
    for visitor in (viewer, member, agent):
        for path in (PAGE, f"{PAGE}/mine"):
            await visitor.open(path)
            assert not [a for a in visitor.page.css("main a") if EDIT in str(a.attributes["href"])]
            assert visitor.page.css_first(".delete") is None
        await visitor.post(f"{PAGE}/mine/delete", status=403)
        await visitor.open("/admin/agents/tasks?view=all")
        await visitor.post(EDIT, definition=json.dumps({**MINE, "key": "other"}), status=403)
    assert [row["key"] for row in await zora.call("list_workflows", tenant_id=zora.tenant_id)] == ["mine"]
    await member.open(f"{PAGE}/mine")
    await member.post(f"{PAGE}/mine", **{"input.days": "2"})
    assert len(await runs(zora)) == 1


async def test_another_tenants_workflows_are_not_there(founder: Visitor, visitors: Visitors) -> None:
    await save(founder)
    other = await visitors(Role.FOUNDER, tenant_id=OTHER_TENANT_ID)
    await other.open(PAGE)
    assert "Mine" not in other.text
    await other.open(f"{PAGE}/mine", status=404)
    await other.open(f"{EDIT}?key=mine", status=404)
    await other.open(PAGE)
    await other.post(f"{PAGE}/mine/delete")
    assert "No workflow mine" in other.notice
    await founder.open(f"{PAGE}/mine")
