"""Live updates of open pages: one query a second for all pages of a tenant.

Pages do not get every change, as programs do (`zora_core/api/changes.py`): a person cannot read a thousand changes a
second, and workers must not become slower because of open pages. A page in the background closes its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic_core import to_json
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect

from zora_core.admin.rendering import COUNT_CAP, count, render
from zora_core.admin.site import SESSION_COOKIE, check_origin
from zora_core.api.access import Principal, caller
from zora_core.api.errors import answer_for
from zora_core.errors import DatabaseUnavailable, ZoraError
from zora_core.models import AgentId, Role

if TYPE_CHECKING:
    from zora_core.api.state import Api

logger = logging.getLogger("zora.api")

TICK_SECONDS = 1.0
SHARE = 1 / 60  # of a connection's time that looking may take: where a look takes longer, there are fewer
MAX_TICK_SECONDS = 5.0
QUIET_SECONDS = 5.0  # after which a page is told that nothing has changed, so that it knows the connection lives
SLOW_SECONDS = 10.0  # in which a page must take what is sent
MAX_WATCHED = 60  # tasks of a page

_SIGNED_OUT = (4401, "signed out")
_GOING_AWAY = (1012, "the server is shutting down")


@dataclass(eq=False)
class _Page:
    """An open page: which tasks it shows, and what waits to be sent. Of two boards, the later one is enough."""

    principal: Principal
    watched: frozenset[UUID]
    lanes: bool
    versions: dict[str, str] = field(default_factory=dict)
    next: dict[str, Any] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ended: tuple[int, str] | None = None

    def tell(self, news: Mapping[str, Any]) -> None:
        self.next.update({name: value for name, value in news.items() if name != "lanes" or self.lanes})
        if self.next:
            self.wake.set()

    def end(self, code: int, reason: str) -> None:
        self.ended = self.ended or (code, reason)
        self.wake.set()


class Boards:
    """The boards of all tenants that somebody looks at."""

    def __init__(self, api: Api) -> None:
        """Nobody watches yet."""
        self._api = api
        self._boards: dict[UUID, _Board] = {}

    def open_pages(self, tenant_id: UUID) -> int:
        """How many pages of a tenant are being looked at."""
        board = self._boards.get(tenant_id)
        return len(board.pages) if board else 0

    @contextlib.asynccontextmanager
    async def showing(self, page: _Page) -> Any:
        """Tell a page what changes, for as long as this lasts."""
        board = self._boards.get(page.principal.tenant_id)
        if board is None:
            board = self._boards[page.principal.tenant_id] = _Board(self._api, page.principal.tenant_id)
        board.join(page)
        try:
            yield
        finally:
            board.leave(page)
            if not board.pages:
                self._boards.pop(board.tenant_id, None)


class _Board:
    """What a tenant's pages show, and who is looking."""

    def __init__(self, api: Api, tenant_id: UUID) -> None:
        self.tenant_id = tenant_id
        self.pages: set[_Page] = set()
        self._api = api
        self._seen: dict[str, Any] = {}
        self._look = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    def join(self, page: _Page) -> None:
        """The page has been rendered before: it is told what is so now, and decides what is news to it."""
        self.pages.add(page)
        page.tell(self._seen)
        self._look.set()
        if self._work is None:
            self._work = asyncio.create_task(self._run())
            self._work.add_done_callback(self._over)

    def leave(self, page: _Page) -> None:
        self.pages.discard(page)
        if not self.pages and self._work is not None:
            self._work.cancel()

    def _over(self, work: asyncio.Task[None]) -> None:
        """However it ended, nobody is left waiting: pages connect again."""
        if not work.cancelled() and (error := work.exception()) is not None:
            logger.error("live pages are not told of changes any more: %r", error)
        for page in self.pages:
            page.end(*_GOING_AWAY)

    async def _run(self) -> None:
        while True:
            started = time.monotonic()
            try:
                await self._tell()
                self._api.database.outage.answered()
            except DatabaseUnavailable as error:
                # Nothing is sent meanwhile, and pages say for how long they have heard nothing.
                self._api.database.outage.failed(error)
            self._look.clear()
            took = time.monotonic() - started
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max(TICK_SECONDS, took / SHARE), MAX_TICK_SECONDS)):
                    await self._look.wait()

    async def _tell(self) -> None:
        asked = set(self.pages)  # others may come meanwhile
        good = await self._api.credentials.still_good({page.principal for page in asked})
        for page in asked:
            if page.principal not in good:
                page.end(*_SIGNED_OUT)
        watched = {task for page in self.pages for task in page.watched}
        board = await self._api.database.value("agent_board", tenant_id=self.tenant_id, watched=sorted(watched))
        news = board_values(board)
        changed = {name: value for name, value in news.items() if self._seen.get(name) != value}
        self._seen = news
        for page in self.pages:
            page.tell(changed)
            versions = {task: version for task in map(str, page.watched) if (version := board["watched"].get(task))}
            if versions != page.versions:
                page.versions = versions
                page.tell({"tasks": versions})


def board_values(board: Mapping[str, Any]) -> dict[str, Any]:
    """What all pages of a tenant are told of `agent_board`: counts, the lanes as HTML, and what needs a decision."""
    return {
        "counts": board_counts(board),
        "needs": board["needs_version"],
        "lanes": render("_lanes.html", lanes=lanes(board), counts=board_counts(board)),
    }


def board_counts(board: Mapping[str, Any]) -> dict[str, str]:
    """The counts of `agent_board`, as they are shown."""
    counts = {name: count(board[name]) for name in ("needs", "running_total", "ready", "waiting", "failed")}
    if not board["waiting_is_exact"] and board["waiting"] <= COUNT_CAP:
        counts["waiting"] = f"at least {counts['waiting']}"
    return counts


def lanes(board: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The running tasks of a board by agent, every agent included."""
    found: dict[str, list[dict[str, Any]]] = {agent.value: [] for agent in AgentId}
    for task in board["running"]:
        started = task["started_at"]
        found[task["agent_id"]].append(
            {**task, "started_at": datetime.fromisoformat(started) if isinstance(started, str) else started}
        )
    return found


async def watch(websocket: WebSocket) -> None:
    """The connection of an open page: `?watch=<task ids>` for those that it shows, `?lanes=1` for the running ones."""
    try:
        check_origin(websocket)
        known = await caller(websocket, websocket.cookies.get(SESSION_COOKIE, ""), Role.VIEWER)
    except ZoraError as error:
        await websocket.send_denial_response(answer_for(error))
        return
    await websocket.accept()
    page = _Page(known.principal, _watched(websocket), lanes=websocket.query_params.get("lanes") == "1")
    receiving = asyncio.create_task(_until_gone(websocket, page))
    following = known.api.following

    def stopped(_: object) -> None:
        page.end(*_GOING_AWAY)

    following.add_done_callback(stopped)
    try:
        async with websocket.app.state.boards.showing(page):
            await _send(websocket, page)
    except (WebSocketDisconnect, TimeoutError):
        pass
    finally:
        following.remove_done_callback(stopped)
        receiving.cancel()
        await asyncio.wait([receiving])


async def _send(websocket: WebSocket, page: _Page) -> None:
    while page.ended is None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                await page.wake.wait()
        page.wake.clear()
        news, page.next = page.next, {}
        if page.ended is None:
            async with asyncio.timeout(SLOW_SECONDS):
                await websocket.send_text(to_json({**news, "at": datetime.now(UTC)}).decode())
    async with asyncio.timeout(SLOW_SECONDS):
        await websocket.close(*page.ended)


async def _until_gone(websocket: WebSocket, page: _Page) -> None:
    """What a page says is read and not obeyed."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass
    page.end(1000, "")


def _watched(connection: HTTPConnection) -> frozenset[UUID]:
    found = set()
    for text in connection.query_params.get("watch", "").split(",")[:MAX_WATCHED]:
        with contextlib.suppress(ValueError):
            found.add(UUID(text))
    return frozenset(found)
