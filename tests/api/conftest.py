"""The API over a database of one's own, in this process, and callers with every role in two tenants."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.conftest import Zora
from zora_core.api.keys import new_key
from zora_core.api.state import Api
from zora_core.logs import set_up_logging
from zora_core.models import Role
from zora_core.server.app import create_app
from zora_core.server.serve import api_for

OTHER_TENANT_ID = UUID("00000000-0000-0000-0000-0000000000b0")


class Callers:
    """Makes users with keys, and clients that use them."""

    def __init__(self, zora: Zora, transport: httpx.AsyncBaseTransport) -> None:
        self._zora = zora
        self._transport = transport
        self._clients: list[httpx.AsyncClient] = []

    async def key(
        self, role: Role | str = Role.FOUNDER, tenant_id: UUID | None = None, agent_id: str | None = None
    ) -> str:
        """A new API key of a user with this role, or of an agent that acts for them."""
        tenant_id = tenant_id or self._zora.tenant_id
        (user,) = await self._zora.call("ensure_user", tenant_id=tenant_id, email=f"{role}@example.org", role=str(role))
        made = new_key()
        await self._zora.call(
            "create_api_key", tenant_id=tenant_id, user_id=user["id"], name="test", prefix=made.prefix, hash=made.hash,
            agent_id=agent_id,
        )  # fmt: skip
        return made.key

    async def client(self, role: Role | str = Role.FOUNDER, tenant_id: UUID | None = None) -> httpx.AsyncClient:
        """A client with a key of its own."""
        return self.with_token(await self.key(role, tenant_id))

    def with_token(self, token: str | None, *, app: Any = None, address: str = "127.0.0.1") -> httpx.AsyncClient:
        """A client with this credential, or with none; of another application, at an address of its own."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        transport = httpx.ASGITransport(app=app, client=(address, 123)) if app else self._transport
        client = httpx.AsyncClient(transport=transport, base_url="http://zora", headers=headers)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()


@pytest.fixture
async def api(zora: Zora) -> AsyncIterator[Api]:
    await zora.database.value("ensure_tenant", id=OTHER_TENANT_ID, name="other", slug="other")
    async with api_for(zora.database, zora.settings, requests_per_minute=0) as made:
        yield made


@pytest.fixture
async def callers(zora: Zora, api: Api) -> AsyncIterator[Callers]:
    made = Callers(zora, httpx.ASGITransport(app=create_app(api), raise_app_exceptions=True))
    yield made
    await made.close()


@pytest.fixture
async def founder(callers: Callers) -> httpx.AsyncClient:
    return await callers.client(Role.FOUNDER)


def task(**fields: Any) -> dict[str, Any]:
    """A task that every role but a viewer may create."""
    return {"agent_id": "EIVOR", "task_type": "summarize_recent_events", "title": "What happened", **fields}


async def speak(
    app: Any,
    scope: dict[str, Any],
    incoming: Iterable[dict[str, Any]] = (),
    until: Callable[[dict[str, Any]], bool] = lambda message: False,
) -> list[dict[str, Any]]:
    """Speak ASGI with the application, for what httpx cannot send or wait for.

    Sends `incoming`, and is gone as soon as `until` holds for a message; gives all messages that came.
    """
    waiting = iter(incoming)
    enough = asyncio.Event()
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        for message in waiting:
            return message
        await enough.wait()
        return (
            {"type": "http.disconnect"} if scope["type"] == "http" else {"type": "websocket.disconnect", "code": 1005}
        )

    async def send(message: dict[str, Any]) -> None:
        said.append(message)
        if until(message):
            enough.set()

    async with asyncio.timeout(20):
        await app(scope, receive, send)
    return said


_ONLY: dict[str, dict[str, Any]] = {
    "http": {"method": "GET"},
    "websocket": {"subprotocols": [], "extensions": {"websocket.http.response": {}}},
}


def scope_of(kind: str, target: str, token: str | None = None, **headers: str) -> dict[str, Any]:
    """The scope of a request (GET) or a WebSocket, as the server makes it."""
    path, _, query = target.partition("?")
    given = {**({"authorization": f"Bearer {token}"} if token is not None else {}), **headers}
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()],
        "client": ("127.0.0.1", 123),
        "server": ("zora", 80),
        **_ONLY[kind],
    }


class Log(io.StringIO):
    """What takes the place of stderr."""

    def set_up(self) -> None:
        """Log as `zora serve` does, with tracebacks; called in a test, for pytest puts its handlers on fixtures."""
        set_up_logging(tracebacks=True)
        (handler,) = logging.getLogger("zora").handlers
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(self)
        logging.getLogger("zora.api").setLevel(logging.INFO)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    ours = logging.getLogger("zora")
    monkeypatch.setattr(ours, "handlers", ours.handlers)
    monkeypatch.setattr(ours, "propagate", ours.propagate)
    yield Log()
    logging.getLogger("zora.api").setLevel(logging.NOTSET)
