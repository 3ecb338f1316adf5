"""The journal's pages: entries and their proofs, verification on request, and the export."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.admin.conftest import Visitor, Visitors
from tests.api.conftest import OTHER_TENANT_ID, Callers, scope_of, speak
from tests.conftest import START, Zora
from tests.journal.conftest import Journal
from zora_core.admin.pages import journal as page
from zora_core.api.state import Api
from zora_core.database import schema
from zora_core.journal.keys import SigningKey
from zora_core.models import Role
from zora_core.settings import DEFAULT_TENANT_ID

HOSTILE = "<script>alert(1)</script>\"'"


@pytest.fixture
async def chain(zora: Zora, tmp_path: Path) -> AsyncIterator[Journal]:
    """The journal with entries old enough to be sealed, and the owner of the database, who can tamper with it."""
    owner = await asyncpg.connect(zora.url)
    yield Journal(zora, owner, tmp_path)
    await owner.close()


async def entry(zora: Zora, title: str, **columns: Any) -> UUID:
    return await zora.seed(
        "journal_entries",
        **{"id": str(await new_id(zora)), "category": "decision", "event_type": "decided", "title": title,
           "details": {}, "related_entity_ids": [], **columns},
    )  # fmt: skip


async def new_id(zora: Zora) -> UUID:
    ((found,),) = await zora.sql("select uuidv7()")
    return found


def titles(visitor: Visitor) -> list[str]:
    return visitor.texts(".rows .what > a")


async def test_entries_are_listed_newest_first_with_who_did_what(zora: Zora, founder: Visitor) -> None:
    task_id = await zora.create("EIVOR", "summarize_recent_events", title="What happened")
    await entry(zora, "A decision", body="because", author="ada", details={"why": "it is better"})
    await founder.open("/admin/journal")
    assert titles(founder)[0] == "A decision"
    assert "ada · decision · decided" in founder.text
    assert "because" in founder.text
    assert '"why": "it is better"' in founder.page.css_first(".row details pre").text()
    assert founder.page.css_first(f".row a[href='/admin/agents/tasks/{task_id}']") is not None
    assert "not sealed yet" in founder.texts(".row .state")


async def test_the_filters_narrow_the_list_and_live_in_the_address(zora: Zora, founder: Visitor) -> None:
    task_id = await zora.create("EIVOR", "summarize_recent_events", title="What happened")
    await entry(zora, "An incident", category="incident")
    await entry(zora, "Long ago", category="incident", created_at=START.replace(year=2020))
    await founder.open("/admin/journal?category=incident")
    assert titles(founder) == ["Long ago", "An incident"]
    assert "2 entries, newest first" in founder.text
    await founder.open("/admin/journal?category=incident&since=2026-01-01")
    assert titles(founder) == ["An incident"]
    await founder.open("/admin/journal?since=2020-03-02&until=2020-03-02")
    assert titles(founder) == ["Long ago"], "the whole last day belongs to it"
    await founder.open(f"/admin/journal?task={task_id}")
    assert len(titles(founder)) == 1
    assert "summarize_recent_events" in titles(founder)[0]
    await founder.open("/admin/journal?category=release")
    assert "No entries match these filters." in founder.text
    await founder.open("/admin/journal?category=nonsense&task=x&since=tomorrow&before=y")
    assert len(titles(founder)) >= 3, "what a query cannot be is left out"
    await founder.open("/admin/journal?until=9999-12-31")
    assert len(titles(founder)) >= 3, "nor is a day that has none after it"


async def test_older_entries_are_reached_page_by_page_and_none_is_left_out(zora: Zora, founder: Visitor) -> None:
    for number in range(page.PAGE + 5):
        await entry(zora, f"Entry {number}", category="milestone")
    await founder.open("/admin/journal?category=milestone")
    first = titles(founder)
    link = founder.page.css_first("nav.pages a[rel=next]").attributes["href"]
    assert "category=milestone" in link
    await founder.open(link)
    assert first + titles(founder) == [f"Entry {number}" for number in reversed(range(page.PAGE + 5))]
    assert founder.page.css_first("nav.pages a[rel=next]") is None


async def test_an_entry_has_a_page_with_everything_and_its_proof(chain: Journal, founder: Visitor) -> None:
    await chain.sealed(blocks=2)
    (late,) = await chain.add(1)
    await founder.open(f"/admin/journal/{chain.ids[6]}")
    assert founder.page.css_first("h1").text() == "Decision 6"
    assert "because 6" in founder.text
    assert "ada" in founder.text
    assert "in block 1, as its entry 2" in founder.text
    assert "Is it what was sealed?Yes." in founder.text
    ((header,),) = await chain.owner.fetch(
        "select encode(sha256(convert_to(header, 'UTF8')), 'hex') from journal_blocks where number = 1"
    )
    assert header in founder.text
    await founder.open(f"/admin/journal/{late}")
    assert "It is not sealed yet." in founder.text
    await founder.open(f"/admin/journal/{UUID(int=7)}", status=404)
    await founder.open(f"/admin/journal/{UUID(int=2**128 - 1)}", status=404)


async def test_changed_removed_and_inserted_entries_are_shown_as_such(chain: Journal, founder: Visitor) -> None:
    await chain.sealed(blocks=2)
    changed, removed = chain.ids[1], chain.ids[3]
    await chain.tamper("update journal_entries set title = 'Nothing' where id = $1", changed)
    await chain.tamper("delete from journal_entries where id = $1", removed)
    await founder.open("/admin/journal?category=decision")
    assert founder.texts(".row .state").count("not what was sealed") == 1
    await founder.open(f"/admin/journal/{changed}")
    assert "No: it was changed afterwards." in founder.text
    await founder.open(f"/admin/journal/{removed}", status=404)
    assert "This entry is gone" in founder.text
    assert "No: it was removed." in founder.text


async def test_a_viewer_has_the_journal_verified_and_reads_what_was_found(
    chain: Journal,
    visitors: Visitors,
) -> None:
    await chain.sealed(blocks=2)
    await chain.add(1)
    viewer = await visitors(Role.VIEWER)
    await viewer.open("/admin/journal")
    assert viewer.page.css_first("form[action='/admin/journal/verify'] button") is not None
    await viewer.post("/admin/journal/verify")
    assert "10 entries in 2 blocks are as they were sealed." in viewer.text
    assert "This server knows it." in viewer.text, "the key is this machine's"
    assert "found where this server saw it" in viewer.text, "and what it remembers is in the chain"
    assert "nothing is proven from" in viewer.text


async def test_problems_are_named_by_block_and_entry(chain: Journal, founder: Visitor) -> None:
    await chain.sealed(blocks=2)
    await chain.tamper("update journal_entries set title = $2 where id = $1", chain.ids[6], HOSTILE)
    await chain.tamper("delete from journal_entries where id = $1", chain.ids[1])
    await founder.post("/admin/journal/verify")
    assert "The sealed journal was changed: 2 problems." in founder.text
    assert founder.texts("tbody tr td:nth-child(1)") == ["0", "1"]
    assert founder.texts("tbody tr td:nth-child(3)") == ["removed", "changed"]
    links = [link.attributes["href"] for link in founder.page.css("tbody a")]
    assert links == [f"/admin/journal/{chain.ids[1]}", f"/admin/journal/{chain.ids[6]}"]
    assert HOSTILE in founder.text
    assert "<script>alert" not in founder.answer.text


async def test_a_journal_cut_off_at_its_end_is_found_by_what_this_machine_remembers(
    chain: Journal,
    founder: Visitor,
) -> None:
    await chain.sealed(blocks=2)
    await chain.tamper("delete from journal_blocks where number = 1")
    await chain.tamper("delete from journal_entries where id = any($1)", chain.ids[5:])
    await founder.post("/admin/journal/verify")
    assert "the end of the journal was cut off" in founder.text


async def test_a_key_that_this_server_does_not_know_is_told(chain: Journal, api: Api, founder: Visitor) -> None:
    await chain.sealed(blocks=1)
    object.__setattr__(api, "settings", replace(api.settings, journal_key=bytes(32)))
    await founder.post("/admin/journal/verify")
    assert "which is not known to be good" in founder.text
    assert SigningKey.of(bytes(32)).public.hex() not in founder.text


async def test_without_a_sealed_block_verification_says_that_nothing_is_proven(founder: Visitor) -> None:
    await founder.post("/admin/journal/verify")
    assert "Nothing is sealed yet" in founder.text


async def test_verifications_run_one_at_a_time_and_have_a_limit(
    chain: Journal,
    founder: Visitor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await chain.sealed(blocks=1)
    begun, go_on = asyncio.Event(), asyncio.Event()
    verify_stored = page.verify_stored

    async def slow(*arguments: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await verify_stored(*arguments)

    monkeypatch.setattr(page, "verify_stored", slow)
    await founder.open("/admin/journal")
    other = Visitor(founder.client)
    await other.open("/admin/journal")
    first = asyncio.create_task(founder.post("/admin/journal/verify"))
    await begun.wait()
    await other.post("/admin/journal/verify")
    assert "being verified just now" in other.notice
    assert other.here == "/admin/journal"
    go_on.set()
    await first
    assert "5 entries in 1 block are as they were sealed." in founder.text

    monkeypatch.setattr(page, "VERIFY_SECONDS", 0.05)
    go_on.clear()
    await founder.post("/admin/journal/verify")
    assert "It was stopped after" in founder.text
    assert "are as they were sealed" not in founder.text
    monkeypatch.setattr(page, "verify_stored", verify_stored)
    monkeypatch.setattr(page, "VERIFY_SECONDS", 60)
    await founder.post("/admin/journal/verify")
    assert "5 entries in 1 block" in founder.text, "and the next one is let in"


async def test_the_address_of_a_report_leads_back_to_the_journal(founder: Visitor) -> None:
    await founder.post("/admin/journal/verify")
    assert founder.here == "/admin/journal/verify"
    await founder.open("/admin/journal/verify")
    assert founder.here == "/admin/journal"


async def test_the_export_is_a_file_that_verifies_without_the_database(
    chain: Journal,
    visitors: Visitors,
    tmp_path: Path,
) -> None:
    await chain.sealed(blocks=2)
    await chain.add(1)
    viewer = await visitors(Role.VIEWER)
    expected = (await chain.export()).read_text()
    answer = await viewer.client.get("/admin/journal/export")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith('attachment; filename="zora-journal-')
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text == expected, "what `zora journal export` writes"
    path = tmp_path / "downloaded.jsonl"
    path.write_text(answer.text)
    report = chain.verify_export(path)
    assert report.ok
    assert (report.blocks, report.entries) == (2, 10)


async def test_the_export_is_sent_while_it_is_read_and_ends_when_nobody_takes_it(
    chain: Journal,
    visitors: Visitors,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await chain.sealed(blocks=3)
    founder = await visitors(Role.FOUNDER)
    read = 0
    export = page.export

    async def counted(*arguments: Any) -> AsyncIterator[tuple[str, int]]:
        nonlocal read
        async for part in export(*arguments):
            read += 1
            yield part
            await asyncio.sleep(0.05)

    monkeypatch.setattr(page, "export", counted)
    cookie = f"zora_session={founder.client.cookies['zora_session']}"
    said = await speak(
        visitors.app,
        scope_of("http", "/admin/journal/export", cookie=cookie),
        until=lambda message: b'"number": 0' in message.get("body", b""),
    )
    assert said[0]["status"] == 200
    assert said[1]["body"].startswith(b'{"type": "journal"')
    assert said[1]["more_body"]
    assert read < 5, "the client was gone after the first block, and the rest was not read"


async def test_tenants_see_verify_and_export_only_their_own_journal(
    chain: Journal,
    visitors: Visitors,
) -> None:
    await chain.sealed(blocks=1)
    other = await visitors(Role.FOUNDER, tenant_id=OTHER_TENANT_ID)
    await other.open("/admin/journal?category=decision")
    assert titles(other) == []
    await other.open(f"/admin/journal/{chain.ids[0]}", status=404)
    await other.open("/admin/journal")
    await other.post("/admin/journal/verify")
    assert "Nothing is sealed yet" in other.text
    exported = (await other.client.get("/admin/journal/export")).text
    assert "Decision 0" not in exported
    assert str(OTHER_TENANT_ID) in exported


@pytest.mark.direct_connection
async def test_reading_for_verification_is_held_to_the_tenant_by_the_database_itself(
    chain: Journal,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await chain.sealed(blocks=1)
    assert len(await api.database.read("journal_block_rows", DEFAULT_TENANT_ID, number=0, limit=10)) == 1
    assert len(await api.database.read("journal_block_rows", OTHER_TENANT_ID, number=0, limit=10)) == 0
    # A query that names no tenant sees the rows of the transaction's all the same, and no others.
    text = schema.query("journal_block_rows", ("tenant_id", "number", "limit")).replace(
        "b.tenant_id = $1", "$1::uuid is not null"
    )
    monkeypatch.setattr(schema, "query", lambda *_: text)
    for pooled in (False, True):
        monkeypatch.setattr(api.database, "pooled", pooled)
        assert await api.database.read("journal_block_rows", OTHER_TENANT_ID, number=0, limit=10) == []
        assert len(await api.database.read("journal_block_rows", DEFAULT_TENANT_ID, number=0, limit=10)) == 1
    assert len(await chain.zora.database.read("journal_block_rows", OTHER_TENANT_ID, number=0, limit=10)) == 1, (
        "as the owner reads it"
    )


async def test_hostile_text_is_text(zora: Zora, founder: Visitor) -> None:
    made = await entry(zora, HOSTILE, body=HOSTILE, author=HOSTILE, details={"x": HOSTILE, "suggestion_id": HOSTILE})
    for here in ("/admin/journal", f"/admin/journal/{made}"):
        await founder.open(here)
        assert HOSTILE in founder.text
        assert "<script>alert" not in founder.answer.text


async def test_a_journal_that_is_not_sealed_is_amber_on_the_system_page_and_in_the_metrics(
    chain: Journal, founder: Visitor, callers: Callers
) -> None:
    async def shown() -> tuple[str, str]:
        await founder.open("/admin/system")
        (said,) = [text for text in founder.texts(".checks li") if " Journal " in text]
        return said, (await (await callers.client()).get("/metrics")).text

    said, metrics = await shown()
    assert said.startswith("ok Journal")
    await chain.sealed(blocks=1)
    await chain.add(3)
    said, metrics = await shown()
    assert said.startswith("note Journal")
    assert "nothing is proven from" in said
    assert "Sealing needs a running `zora serve` or `zora run-loop`" in said
    unsealed = int(float(re.search(r"^zora_journal_unsealed_entries (\S+)", metrics, re.M)[1]))
    seconds = float(re.search(r"^zora_journal_unsealed_seconds (\S+)", metrics, re.M)[1])
    assert unsealed >= 3
    assert 3500 < seconds < 3700
    await founder.open("/admin/journal")
    await founder.post("/admin/journal/verify")
    assert "nothing is proven from" in founder.text
