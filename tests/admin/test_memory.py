"""The memory's pages: searching, filters, where a memory comes from and what set it aside."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tests.admin.conftest import Visitor, Visitors
from tests.api.conftest import OTHER_TENANT_ID
from tests.conftest import Zora
from zora_core.admin.pages import memory as page
from zora_core.models import Role

HOSTILE = "<script>alert(1)</script>\"'"


async def remember(zora: Zora, content: str, **columns: Any) -> UUID:
    ((new_id,),) = await zora.sql("select uuidv7()")
    return await zora.seed(
        "memory_events",
        **{"id": str(new_id), "agent": "EIVOR", "memory_type": "research", "content": content, "tags": [],
           "metadata": {}, **columns},
    )  # fmt: skip


def contents(visitor: Visitor) -> list[str]:
    return visitor.texts(".prose")


async def test_without_memories_the_page_says_where_they_come_from(founder: Visitor) -> None:
    await founder.open("/admin/memory")
    assert "Nothing is remembered yet." in founder.text


async def test_what_a_task_found_is_remembered_and_leads_back_to_it(zora: Zora, founder: Visitor) -> None:
    task = await zora.run("EIVOR", "summarize_recent_events", title="What happened")
    await founder.open("/admin/memory")
    assert "EIVOR summarize_recent_events" in contents(founder)[0]
    assert founder.page.css_first(f".card a[href='/admin/agents/tasks/{task.id}']") is not None
    assert "completed" in founder.texts(".tags li")
    assert founder.page.css_first(".card details.json pre") is not None, "and has what was said for programs"


async def test_a_memorys_page_leads_to_the_task_that_it_comes_from(zora: Zora, founder: Visitor) -> None:
    task = await zora.run("EIVOR", "summarize_recent_events", title="What happened")
    ((memory,),) = await zora.sql("select id from memory_events where source_task_id = $1", task.id)
    await founder.open(f"/admin/memory/{memory}")
    assert founder.page.css_first(f".facts a[href='/admin/agents/tasks/{task.id}']") is not None


async def test_memories_are_filtered_by_agent_type_and_archive(zora: Zora, founder: Visitor) -> None:
    await remember(zora, "One of research")
    await remember(zora, "A plan", memory_type="plan", agent="SAM")
    await remember(zora, "An old one", archived_at=zora.now)
    await founder.open("/admin/memory")
    assert contents(founder) == ["A plan", "One of research"]
    assert "2 memories, newest first." in founder.text
    await founder.open("/admin/memory?agent=SAM")
    assert contents(founder) == ["A plan"]
    await founder.open("/admin/memory?type=research&archived=1")
    assert contents(founder) == ["An old one", "One of research"]
    assert founder.texts(".card.archived .state") == ["research", "archived"]
    assert "checked" in founder.page.css_first("input[name=archived]").attributes
    await founder.open("/admin/memory?type=nonsense&agent=NOBODY&before=x")
    assert len(contents(founder)) == 2, "what a query cannot be is left out"


async def test_a_search_finds_by_word_stem_and_keeps_the_filters(zora: Zora, founder: Visitor) -> None:
    await remember(zora, "Heat pumps cost less to run")
    await remember(zora, "The boiler leaks")
    await remember(zora, "Another heat pump", archived_at=zora.now)
    await founder.open("/admin/memory?q=pump")
    assert contents(founder) == ["Heat pumps cost less to run"]
    assert "1 memory, what fits best first." in founder.text
    await founder.open("/admin/memory?q=pump&archived=1")
    assert len(contents(founder)) == 2
    await founder.open("/admin/memory?q=pump&agent=SAM")
    assert "No memory shares a word with this" in founder.text
    assert founder.page.css_first("input[name=q]").attributes["value"] == "pump"
    await founder.open("/admin/memory?q=" + "'%3A*%26!(")
    assert "No memory shares a word" in founder.text, "operators of a search language are words here"


async def test_older_memories_are_reached_page_by_page(zora: Zora, founder: Visitor) -> None:
    for number in range(page.PAGE + 3):
        await remember(zora, f"Memory {number}", memory_type="design")
    await founder.open("/admin/memory?type=design")
    first = contents(founder)
    link = founder.page.css_first("nav.pages a[rel=next]").attributes["href"]
    await founder.open(link)
    assert first + contents(founder) == [f"Memory {number}" for number in reversed(range(page.PAGE + 3))]
    assert founder.page.css_first("nav.pages a[rel=next]") is None


async def test_a_long_memory_is_shortened_in_the_list_and_whole_on_its_page(zora: Zora, founder: Visitor) -> None:
    made = await remember(zora, "word " * 1000 + "end")
    await founder.open("/admin/memory")
    assert "end" not in contents(founder)[0]
    assert any(text.startswith("All of it") for text in founder.texts(".card a"))
    await founder.open(f"/admin/memory/{made}")
    assert contents(founder) == [("word " * 1000 + "end")]
    await founder.open(f"/admin/memory/{UUID(int=9)}", status=404)


async def test_a_memory_is_shown_as_markdown_that_cannot_harm(zora: Zora, founder: Visitor) -> None:
    made = await remember(
        zora,
        f"**Bold** and [a link](javascript:alert(1)) {HOSTILE} [here](/admin/sign-out)",
        tags=[HOSTILE],
        metadata={"a": HOSTILE, "suggestion_id": ["not a text"]},
    )
    for here in ("/admin/memory", f"/admin/memory/{made}"):
        await founder.open(here)
        assert founder.page.css_first(".prose strong").text() == "Bold"
        assert "<script>alert" not in founder.answer.text
        assert "javascript:" not in str([link.attributes.get("href") for link in founder.page.css("a")])
        assert HOSTILE in founder.texts(".tags li")
        assert not founder.page.css(".prose a[href='/admin/sign-out']")


async def test_a_memory_names_the_suggestion_that_archived_it(zora: Zora, founder: Visitor) -> None:
    made = [await remember(zora, f"The audit takes place in April {mark}") for mark in ("", "!", "!!")]
    await zora.run("EIVOR", "memory_cleanup")
    (proposed,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id, status="proposed")
    await zora.call(
        "decide_agent_suggestion",
        tenant_id=zora.tenant_id, id=proposed["id"], decision="approve", digest=proposed["effect_digest"],
    )  # fmt: skip
    said = []
    for memory_id in made:
        await founder.open(f"/admin/memory/{memory_id}")
        assert founder.page.css_first(f".rows a[href='/admin/agents/suggestions/{proposed['id']}']") is not None
        said.append("archived it" in founder.text)
    assert sorted(said) == [False, True, True], "one of them is kept"
    await founder.open("/admin/memory?type=decision")
    link = founder.page.css_first(f".card a[href='/admin/agents/suggestions/{proposed['id']}']")
    assert link is not None, "the decision itself is remembered, and leads to the suggestion"


async def test_evidence_leads_to_the_memory_and_the_entry_that_it_names(zora: Zora, founder: Visitor) -> None:
    made = [await remember(zora, f"The audit takes place in April {mark}") for mark in ("", "!")]
    task = await zora.run("EIVOR", "memory_cleanup")
    await founder.open(f"/admin/agents/tasks/{task.id}")
    links = {link.attributes["href"] for link in founder.page.css(".evidence a")}
    assert {f"/admin/memory/{memory_id}" for memory_id in made} <= links


async def test_every_role_reads_and_tenants_are_apart(zora: Zora, visitors: Visitors) -> None:
    made = await remember(zora, "Ours alone")
    viewer = await visitors(Role.VIEWER)
    await viewer.open("/admin/memory")
    assert contents(viewer) == ["Ours alone"]
    other = await visitors(Role.FOUNDER, tenant_id=OTHER_TENANT_ID)
    for here in ("/admin/memory", "/admin/memory?q=alone"):
        await other.open(here)
        assert contents(other) == []
    await other.open(f"/admin/memory/{made}", status=404)
