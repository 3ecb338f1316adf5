"""What a handler may read: within its tenant, its folders and its network policy, each read recorded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.conftest import Zora
from zora_core.agents import Registry
from zora_core.agents.context import TaskContext
from zora_core.errors import InvalidInput

pytestmark = pytest.mark.both_transports


def context(zora: Zora) -> TaskContext:
    return TaskContext(zora.database, zora.settings, zora.tenant_id, zora.now, Registry([]))


async def test_every_read_is_recorded_with_a_digest(zora: Zora) -> None:
    await zora.seed("memory_events", agent="EIVOR", memory_type="plan", content="insulate the loft")
    ctx = context(zora)
    assert [m.content for m in await ctx.memories()] == ["insulate the loft"]
    first = ctx.sources[-1]
    assert (first.kind, first.ref, first.count, first.unit) == ("rows", "memory_events", 1, "rows")
    await zora.seed("memory_events", agent="EIVOR", memory_type="plan", content="insulate the floor")
    await ctx.memories()
    assert ctx.sources[-1].digest != first.digest


async def test_search_finds_memories_by_any_word_best_first(zora: Zora) -> None:
    for content in ("the heat pump is loud", "pumps in the cellar", "nothing of that kind"):
        await zora.seed("memory_events", agent="EIVOR", memory_type="plan", content=content)
    assert [m.content for m in await context(zora).search("heat pumps")] == [
        "the heat pump is loud", "pumps in the cellar",
    ]  # fmt: skip


async def test_files_outside_the_allowed_folders_are_refused_also_through_links(zora: Zora, tmp_path: Path) -> None:
    ctx = context(zora)
    inside = tmp_path / "page.html"
    inside.write_text("<p>hello</p>")
    assert ctx.path("page.html") == inside.resolve()
    (tmp_path / "link.html").symlink_to("/etc/hostname")
    for outside in ("/etc/passwd", "../../etc/passwd", "link.html"):
        with pytest.raises(InvalidInput, match="outside the folders"):
            ctx.path(outside)
    with pytest.raises(InvalidInput, match="does not exist"):
        ctx.path("missing.html")


async def test_a_page_is_read_by_key_by_html_or_refused_by_name(zora: Zora, tmp_path: Path) -> None:
    (tmp_path / "home.html").write_text("<h1>Home</h1>")
    await zora.seed("frontend_configs", page="home", config={"path": "home.html"})
    await zora.seed("frontend_configs", page="empty", config={})
    ctx = context(zora)
    assert "Home" in (await ctx.page(page="home")).html
    assert (await ctx.page(html="<p>x</p>")).ref == "html"
    for arguments, message in (
        ({"page": "hmoe"}, r"unknown page 'hmoe' \(known: empty, home\)"),
        ({"page": "empty"}, "names neither a url nor a path"),
        ({}, "exactly one of"),
        ({"page": "home", "html": "x"}, "exactly one of"),
    ):
        with pytest.raises(InvalidInput, match=message):
            await ctx.page(**arguments)


async def test_private_addresses_are_refused_unless_allowed(zora: Zora) -> None:
    zora.settings = dataclasses.replace(zora.settings, allow_private_addresses=False)
    with pytest.raises(InvalidInput, match="ZORA_ALLOW_PRIVATE_ADDRESSES"):
        await context(zora).fetch("http://127.0.0.1:9/")


async def test_another_tenants_rows_are_not_read(zora: Zora) -> None:
    (other,) = await zora.sql("insert into tenants (name, slug) values ('o', 'o') returning id")
    await zora.seed("memory_events", tenant_id=other["id"], agent="EIVOR", memory_type="plan", content="heat pump")
    await zora.seed("journal_entries", tenant_id=other["id"], category="release", event_type="e", title="t")
    await zora.seed("frontend_configs", tenant_id=other["id"], page="theirs", config={})
    ctx = context(zora)
    assert await ctx.memories() == await ctx.search("heat pump") == await ctx.journal() == await ctx.page_keys() == []
