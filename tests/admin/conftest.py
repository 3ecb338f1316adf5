"""The admin pages over a database of one's own, in this process, and visitors who are signed in with every role."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from selectolax.lexbor import LexborHTMLParser

from tests.api import conftest as of_api
from tests.api.conftest import Callers
from zora_core.api.state import Api
from zora_core.models import Role
from zora_core.server.app import create_app

ORIGIN = "http://zora"

api = of_api.api
callers = of_api.callers


class Visitor:
    """A browser as far as pages need one: it keeps cookies, follows redirects, and sends the forms that it sees."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.answer: httpx.Response
        self.page: LexborHTMLParser

    async def open(self, path: str, *, status: int = 200) -> LexborHTMLParser:
        """Go to a page, and expect this status."""
        return self._took(await self.client.get(path, follow_redirects=True), status)

    async def post(self, path: str, *, status: int = 200, token: str | None = None, **fields: Any) -> LexborHTMLParser:
        """Send a form as the page that is open would: with its token, and to come back to it."""
        back = self.page.css_first("input[name=back]")
        data = {"csrf": self.csrf if token is None else token, "back": back.attributes["value"] if back else self.here}
        data |= fields
        answer = await self.client.post(path, data=data, headers={"Origin": ORIGIN}, follow_redirects=True)
        return self._took(answer, status)

    def _took(self, answer: httpx.Response, status: int) -> LexborHTMLParser:
        self.answer, self.page = answer, LexborHTMLParser(answer.text)
        assert answer.status_code == status, f"{answer.status_code} {answer.url}\n{self.text}"
        return self.page

    @property
    def here(self) -> str:
        url = self.answer.url
        return url.raw_path.decode()

    @property
    def csrf(self) -> str:
        """The token of the page that is open."""
        field = self.page.css_first("input[name=csrf]")
        assert field is not None, "no form on this page"
        return str(field.attributes["value"])

    @property
    def text(self) -> str:
        """What the page says, its spaces as one."""
        main = self.page.css_first("main") or self.page.body
        return re.sub(r"\s+", " ", main.text() if main else "").strip()

    @property
    def notice(self) -> str:
        """What the page says of what was done just before."""
        found = self.page.css_first(".notice")
        return re.sub(r"\s+", " ", found.text()).strip() if found else ""

    def texts(self, selector: str) -> list[str]:
        """What the elements say that a selector finds."""
        return [re.sub(r"\s+", " ", node.text()).strip() for node in self.page.css(selector)]


class Visitors:
    """Makes visitors who have signed in."""

    def __init__(self, callers: Callers, app: Any) -> None:
        self._callers = callers
        self.app = app
        self._clients: list[httpx.AsyncClient] = []

    def anybody(self) -> Visitor:
        """Somebody who has not signed in."""
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url=ORIGIN)
        self._clients.append(client)
        return Visitor(client)

    async def __call__(self, role: Role | str = Role.FOUNDER, **who: Any) -> Visitor:
        """Somebody who has signed in with an API key of a user with this role."""
        visitor = self.anybody()
        key = await self._callers.key(role, **who)
        answer = await visitor.client.post("/admin/sign-in", data={"key": key}, headers={"Origin": ORIGIN})
        assert answer.status_code == 303, answer.text
        await visitor.open("/admin/agents/tasks?view=all")
        return visitor

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()


@pytest.fixture
async def visitors(api: Api, callers: Callers) -> AsyncIterator[Visitors]:
    made = Visitors(callers, create_app(api))
    yield made
    await made.close()


@pytest.fixture
async def founder(visitors: Visitors) -> Visitor:
    return await visitors(Role.FOUNDER)
