"""Every page and every GET route of the API, with every kind of row: none answers that something went wrong."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import quote, urljoin, urlsplit
from uuid import UUID

import asyncpg
import pytest
from starlette.routing import Route

from tests.admin.conftest import Visitor, Visitors
from tests.api.conftest import Callers
from tests.conftest import Zora
from tests.rows import Rows
from zora_core.admin.app import ROUTES
from zora_core.api.state import Api
from zora_core.effects import effect_of
from zora_core.models import Metric, Role, Suggestion
from zora_core.server.app import routes

HOSTILE = "<b>\u202e\x1b[31m\u200b"  # markup, a change of direction, a terminal's escape, an invisible character
# The pages of one row by the table that they show; a new page that names a row must be put here.
TABLES = {
    "/agents/tasks/{id}": "agent_tasks",
    "/agents/suggestions/{id:uuid}": "agent_suggestions",
    "/workflow-runs/{id}": "workflow_runs",
    "/schedules/{id}": "autonomy_schedules",
    "/journal/{id:uuid}": "journal_entries",
    "/memory/{id:uuid}": "memory_events",
}
# Neither shows rows, or they end the visitor's own session.
NO_PAGES = {"/static/{name}", "/live", "/workflows/{key}"}


async def seeded(zora: Zora, text: str = "words") -> Rows:
    connection = await asyncpg.connect(zora.url)
    try:
        rows = Rows(connection, text)
        await rows.every_kind()
        return rows
    finally:
        await connection.close()


def paths(rows: Rows) -> list[str]:
    """The address of every page; of a row's page, with the id of every row."""
    found = []
    for route in ROUTES:
        if not isinstance(route, Route) or route.path in NO_PAGES or "GET" not in (route.methods or ()):
            continue
        if "{" in route.path:
            place = re.compile(r"\{id(:uuid)?\}")
            assert rows.ids[TABLES[route.path]]
            found += [place.sub(row_id, f"/admin{route.path}") for row_id in rows.ids[TABLES[route.path]]]
        else:
            found.append(f"/admin{route.path}")
    return found


async def opened(visitor: Visitor, begin: list[str]) -> dict[str, int]:
    """Open pages, and each page that one of them links to; the status of each."""
    answered: dict[str, int] = {}

    async def look(path: str) -> set[str]:
        answer = await visitor.client.get(path)
        answered[path] = answer.status_code
        assert 'id="ignored"' not in answer.text, f"{path} has a filter that its page does not know"
        targets = (urlsplit(urljoin(path, unescape(link))) for link in re.findall(r'href="([^"]*)"', answer.text))
        return {
            f"{target.path}?{target.query}".rstrip("?")
            for target in targets
            if target.path.startswith("/admin") and not target.netloc and "static" not in target.path
        }

    linked = set().union(*[await look(path) for path in begin])
    for path in sorted(linked - set(answered)):
        await look(path)
    return answered


async def test_no_page_fails_whatever_rows_it_shows(zora: Zora, founder: Visitor) -> None:
    rows = await seeded(zora, HOSTILE)
    answered = await opened(founder, paths(rows))
    assert len(answered) > 500
    assert {path: status for path, status in answered.items() if status not in (200, 303, 307)} == {}


async def test_no_page_fails_for_somebody_who_may_only_look(zora: Zora, visitors: Visitors) -> None:
    rows = await seeded(zora)
    viewer = await visitors(Role.VIEWER)
    answered = await opened(viewer, paths(rows))
    assert {path: status for path, status in answered.items() if status not in (200, 303, 307, 403)} == {}


async def test_no_route_of_the_api_fails_whatever_rows_it_reads(zora: Zora, api: Api, callers: Callers) -> None:
    rows = await seeded(zora, HOSTILE)
    client = await callers.client(Role.FOUNDER)
    every = {row_id for ids in rows.ids.values() for row_id in ids}
    failed = {}
    for route in routes():
        if "GET" not in route.methods or route.path.endswith("/events"):  # a stream without an end
            continue
        places = "{" in route.path
        for row_id in every if places else [""]:
            path = re.sub(r"\{\w+(:\w+)?\}", quote(row_id, safe=""), route.path)
            answer = await client.get(path)
            if answer.status_code >= 500:
                failed[path] = answer.status_code
            elif not places:
                answer.json() if "json" in answer.headers["content-type"] else answer.text
    assert failed == {}


async def test_findings_and_evidence_of_a_run_are_shown_in_their_own_form(zora: Zora, founder: Visitor) -> None:
    record = await zora.run("AEGIS", "check_climate_claims", {"claim": "Our socks are eco-friendly."})
    assert record.result
    assert record.result["findings"]
    await founder.open(f"/admin/agents/tasks/{record.id}")
    assert len(founder.texts(".finding")) == len(record.result["findings"])
    assert any("eco-friendly" in quote for quote in founder.texts(".evidence q"))


LISTS = [
    "/admin/agents/tasks", "/admin/agents/suggestions", "/admin/workflow-runs", "/admin/journal", "/admin/memory",
    "/admin/climate", "/admin/schedules", "/admin/system", "/admin/access", "/admin/agents",
]  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
async def test_a_wrong_or_unknown_filter_is_named_on_the_page(founder: Visitor, path: str) -> None:
    await founder.open(path)
    assert founder.page.css_first("#ignored") is None
    await founder.open(f"{path}?statsu=failed")
    assert "“statsu” is not a filter of this page" in founder.text
    await founder.open(f"{path}?before=x&status=nonsense&skip=-1&offset=-1&agent=NOBODY&policy=")
    assert founder.page.css_first("#ignored") is not None


async def test_the_allowed_values_of_a_filter_are_named(founder: Visitor) -> None:
    await founder.open("/admin/agents/tasks?view=all&status=done")
    assert "status must be 'pending', 'in_progress', 'completed' or 'failed', not “done”" in founder.text
    await founder.open("/admin/journal?since=tomorrow&task=x")
    assert "since must be a valid date" in founder.text
    assert "task must be a valid UUID" in founder.text


async def test_a_count_is_exact_or_says_that_there_are_more(zora: Zora, founder: Visitor) -> None:
    for number in (20, 1000):
        rows = [{"agent_id": "SAM", "task_type": "review_accessibility", "title": "t"}] * number
        await zora.call("create_agent_tasks", tenant_id=zora.tenant_id, tasks=rows)
        await founder.open("/admin/agents/tasks?view=all")
        said = "20 tasks, newest first" if number == 20 else "More than 1,000 tasks, newest first"
        assert founder.texts(".found") == [f"{said}."]
        await founder.open("/admin/journal")
        assert founder.texts(".found")[0].startswith("More than 1,000 entries") is (number == 1000)
        for page in ("system", "agents/tasks?view=live"):
            await founder.open(f"/admin/{page}")
            assert ("at least 0 waiting" in founder.text) is (number == 1000), "the newest 200 of 1,020 were looked at"


async def test_what_hides_or_reorders_text_is_shown_escaped_and_forms_keep_it(zora: Zora, founder: Visitor) -> None:
    title = "Pay\u202eeva\u200b p\u0430ypal\u2066"
    task_id = await zora.create("SAM", "review_accessibility", title=title)
    await founder.open(f"/admin/agents/tasks/{task_id}")
    assert "Pay\\u202eeva\\u200b" in founder.text
    for char in "\u202e\u200b\u2066":
        assert char not in founder.answer.text
    await founder.open("/admin/agents/tasks?view=all&q=%E2%80%AE")
    assert founder.page.css_first("input[name=q]").attributes["value"] == "\u202e", (
        "what was typed is sent back as it is"
    )


async def test_look_alike_letters_in_a_change_are_marked(zora: Zora, founder: Visitor) -> None:
    await zora.seed("frontend_configs", page="home", config={"link": "paypal.com", "city": "Bonn"})
    value = {"value": "p\u0430ypal.com"}
    suggestion = Suggestion(
        suggestion_type="change_frontend_config", title="t", target={"page": "home", "path": ["link"]},
        current_value={"value": "paypal.com"}, suggested_value=value, evidence=[Metric(name="m", value=1, unit="g")],
    )  # fmt: skip
    await zora.seed(
        "agent_suggestions", agent_id="SAM", suggestion_type="change_frontend_config", title="t", risk_level="low",
        evidence=[], target=suggestion.target, current_value=suggestion.current_value, suggested_value=value,
        effect=effect_of(suggestion), status="proposed", findings=[], id=str(UUID(int=7)),
    )  # fmt: skip
    await founder.open(f"/admin/agents/suggestions/{UUID(int=7)}")
    assert "p\u0430ypal" in founder.texts("mark.mixed")
    assert all("Bonn" not in mark for mark in founder.texts("mark"))
    assert founder.page.css_first("mark.mixed").attributes["title"] == "letters of several scripts: Cyrillic, Latin"
