"""A site in a process of its own, and the system's Chromium; without one, one line says that tests are skipped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.browser.site import OPTIONS, Site, chromium, served
from tests.conftest import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

Open = Callable[..., "Page"]

# Without a browser test_browser.py says so, once.
collect_ignore = [] if chromium() else ["test_hostile.py", "test_pages.py", "test_story.py"]


@pytest.fixture(scope="session")
def program() -> str:
    found = chromium()
    if found is None:
        pytest.skip("no Chromium or Chrome on this machine: install one (Debian: apt-get install chromium)")
    return found


@pytest.fixture(scope="session")
def site(program: str, embedded: Server, short_tmp: Path) -> Iterator[Site]:
    home = short_tmp / "site"
    home.mkdir()
    asyncio.run(embedded.admin("create database site"))
    with served(embedded.database_url("site"), home) as made:
        yield made


@pytest.fixture
def browser(program: str, site: Site) -> Iterator[Browser]:
    """One for each test: while it lasts, its loop runs, and no other could."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def session(site: Site) -> list[Any]:
    """The cookies of a founder who has signed in."""
    with httpx.Client(base_url=site.url, trust_env=False) as client:
        link = site.link().partition("link=")[2]
        answer = client.post("/admin/sign-in", data={"link": link}, headers={"Origin": site.url})
        assert answer.status_code == 303
        return [
            {"name": cookie.name, "value": cookie.value, "url": f"{site.url}/admin/", "httpOnly": True}
            for cookie in client.cookies.jar
        ]


@pytest.fixture
def visit(browser: Browser, site: Site, session: list[Any]) -> Iterator[Open]:
    """Opens a page as the founder; what a script says on the console is an error of the test."""
    contexts: list[BrowserContext] = []
    said: list[str] = []

    def open_page(path: str | None = None, *, signed_in: bool = True, refused: bool = False, **options: Any) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(15_000)
        contexts.append(context)
        if signed_in:
            context.add_cookies(session)
        page = context.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        if not refused:  # the browser says so itself, as an error
            page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        if path is not None:
            page.goto(site.url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in said if "ERR_CONNECTION" not in text and "WebSocket connection" not in text] == []
