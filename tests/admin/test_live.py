"""What open pages are told, over real WebSockets: their own tenant's, for as long as they may hear it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.api.conftest import OTHER_TENANT_ID, Callers
from tests.api.test_events import Live, served
from tests.autonomy.test_runtime import until
from tests.conftest import Zora
from zora_core.admin import live
from zora_core.api.state import Api
from zora_core.errors import DatabaseUnavailable
from zora_core.models import Role

News = dict[str, Any]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks come one after the other."""
    monkeypatch.setattr(live, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(live, "MAX_TICK_SECONDS", 0.02)


@pytest.fixture
async def site(quick: None, api: Api, callers: Callers) -> AsyncIterator[Live]:
    async with served(api, await callers.key(Role.VIEWER)) as made:
        yield made


async def signed_in(site: Live, key: str | None = None) -> str:
    """The cookie of a session."""
    async with httpx.AsyncClient(base_url=site.url, trust_env=False) as client:
        answer = await client.post("/admin/sign-in", data={"key": key or site.key}, headers={"Origin": site.url})
        assert answer.status_code == 303
        return f"zora_session={client.cookies['zora_session']}"


@asynccontextmanager
async def opened(
    site: Live, cookie: str, *, watch: str = "", lanes: bool = False, origin: str | None = None
) -> AsyncIterator[ClientConnection]:
    """The connection of an open page."""
    address = f"{site.url.replace('http', 'ws')}/admin/live?watch={watch}" + ("&lanes=1" if lanes else "")
    headers = {"Cookie": cookie} if cookie else {}
    async with connect(
        address,
        additional_headers=headers,
        origin=origin or site.url,
        proxy=None,
        close_timeout=1,  # type: ignore[arg-type]
    ) as page:
        yield page


async def told(page: ClientConnection, condition: Callable[[News], Any]) -> News:
    """The next news that fit."""
    async with asyncio.timeout(15):
        while True:
            news: News = json.loads(await page.recv())
            if condition(news):
                return news


async def close_code(page: ClientConnection) -> int:
    async with asyncio.timeout(15):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await page.recv()
    assert page.close_code is not None
    return page.close_code


async def test_a_page_is_told_what_runs_and_how_much_waits(zora: Zora, site: Live) -> None:
    async with opened(site, await signed_in(site), lanes=True) as page:
        news = await told(page, lambda n: "counts" in n)
        assert news["counts"] == {"needs": "0", "running_total": "0", "ready": "0", "waiting": "0", "failed": "0"}
        await zora.create("SAM", "t", title="Look at <b>this</b>")
        await told(page, lambda n: n.get("counts", {}).get("ready") == "1")
        await zora.call("claim_agent_tasks", tenant_id=zora.tenant_id, worker_id="w")
        news = await told(page, lambda n: "Look at" in n.get("lanes", ""))
        assert "Look at &lt;b&gt;this&lt;/b&gt;" in news["lanes"], "a lane is HTML"
        assert news["counts"]["running_total"] == "1"


async def test_a_page_is_told_of_the_tasks_that_it_shows_and_of_no_others(zora: Zora, site: Live) -> None:
    shown, other = await zora.create("SAM", "t"), await zora.create("SAM", "t")
    cookie = await signed_in(site)
    async with opened(site, cookie, watch=str(shown)) as page, opened(site, cookie) as another:
        first = (await told(page, lambda n: "tasks" in n))["tasks"]
        assert set(first) == {str(shown)}
        await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=other)
        await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=shown)
        second = (await told(page, lambda n: "tasks" in n))["tasks"]
        assert set(second) == {str(shown)}
        assert second != first
        news = await told(another, lambda n: n.get("counts", {}).get("failed") == "2")
        assert "tasks" not in news
        assert "lanes" not in news, "which it does not show"


async def test_a_page_is_told_when_what_needs_a_decision_changes(zora: Zora, site: Live) -> None:
    async with opened(site, await signed_in(site)) as page:
        before = (await told(page, lambda n: "needs" in n))["needs"]
        suggestion = {
            "suggestion_type": "advice", "title": "t", "risk_level": "low",
            "evidence": [{"kind": "metric", "name": "n", "value": 1, "unit": "u"}],
        }  # fmt: skip
        await zora.call("propose_agent_suggestion", tenant_id=zora.tenant_id, agent_id="SAM", suggestion=suggestion)
        news = await told(page, lambda n: "needs" in n)
        assert news["needs"] != before
        assert news["counts"]["needs"] == "1"


async def test_tenants_are_told_their_own(zora: Zora, site: Live, callers: Callers) -> None:
    task = await zora.create("SAM", "t")
    theirs = await signed_in(site, await callers.key(Role.FOUNDER, OTHER_TENANT_ID))
    async with (
        opened(site, theirs, watch=str(task), lanes=True) as page,
        opened(site, await signed_in(site)) as ours,
    ):
        await told(ours, lambda n: n.get("counts", {}).get("ready") == "1")
        await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=task)
        await told(ours, lambda n: n.get("counts", {}).get("failed") == "1")
        heard = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                while True:
                    heard.append(json.loads(await page.recv()))
        assert heard
        assert all(set(n.get("counts", {"": "0"}).values()) == {"0"} and "tasks" not in n for n in heard)


async def test_whoever_has_no_session_or_comes_from_elsewhere_is_not_let_in(site: Live) -> None:
    cookie = await signed_in(site)
    for given, origin, status in (
        ("", None, 401),
        ("zora_session=x", None, 401),
        (cookie, "http://evil.example", 403),
        (cookie, "null", 403),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with opened(site, given, origin=origin):
                pass
        assert refused.value.response.status_code == status


async def test_a_page_is_closed_when_its_session_ends_and_others_are_not(zora: Zora, site: Live) -> None:
    ends, stays = await signed_in(site), await signed_in(site)
    async with opened(site, ends) as page, opened(site, stays) as other:
        await told(page, lambda n: "counts" in n)
        prefix = ends.removeprefix("zora_session=")[:13]
        await zora.call("revoke_api_key", tenant_id=zora.tenant_id, key=prefix)
        assert await close_code(page) == 4401
        await zora.create("SAM", "t")
        await told(other, lambda n: n.get("counts", {}).get("ready") == "1")


async def test_pages_are_told_that_the_server_ends(site: Live) -> None:
    async with opened(site, await signed_in(site)) as page:
        await told(page, lambda n: "counts" in n)
        site.stop()
        assert await close_code(page) == 1012


async def test_one_look_serves_all_pages(
    zora: Zora, api: Api, callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    value = api.database.value

    async def counted(function: str, /, **arguments: Any) -> Any:
        looks.append(function)
        return await value(function, **arguments)

    monkeypatch.setattr(api.database, "value", counted)
    async with served(api, await callers.key(Role.VIEWER)) as site:
        cookie = await signed_in(site)
        async with contextlib.AsyncExitStack() as stack:
            pages = [await stack.enter_async_context(opened(site, cookie)) for _ in range(20)]
            for page in pages:
                await told(page, lambda n: "counts" in n)
            looks.clear()
            await zora.create("SAM", "t")
            for page in pages:
                await told(page, lambda n: n.get("counts", {}).get("ready") == "1")
            assert looks.count("agent_board") <= 3, "not one for each page"


async def test_a_lost_database_is_waited_for(
    zora: Zora, site: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    value = site.api.database.value
    lost = asyncio.Event()

    async def failing(function: str, /, **arguments: Any) -> Any:
        if lost.is_set() and function == "agent_board":
            raise DatabaseUnavailable("gone for a while")
        return await value(function, **arguments)

    monkeypatch.setattr(site.api.database, "value", failing)
    async with opened(site, await signed_in(site)) as page:
        await told(page, lambda n: "counts" in n)
        with caplog.at_level(logging.WARNING, "zora.api"):
            lost.set()
            await until(lambda: "gone for a while" in caplog.text)
            lost.clear()
        await zora.create("SAM", "t")
        await told(page, lambda n: n.get("counts", {}).get("ready") == "1")
