"""The API over a database of one's own, in this process, and callers with every role in two tenants."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.conftest import Zora
from zora_core.api.app import create_app
from zora_core.api.keys import new_key
from zora_core.api.server import api_for
from zora_core.api.state import Api
from zora_core.models import Role

OTHER_TENANT_ID = UUID("00000000-0000-0000-0000-0000000000b0")


class Callers:
    """Makes users with keys, and clients that use them."""

    def __init__(self, zora: Zora, transport: httpx.AsyncBaseTransport) -> None:
        self._zora = zora
        self._transport = transport
        self._clients: list[httpx.AsyncClient] = []

    async def key(self, role: Role | str = Role.FOUNDER, tenant_id: UUID | None = None) -> str:
        """A new API key of a user with this role."""
        tenant_id = tenant_id or self._zora.tenant_id
        (user,) = await self._zora.call("ensure_user", tenant_id=tenant_id, email=f"{role}@example.org", role=str(role))
        made = new_key()
        await self._zora.call(
            "create_api_key", tenant_id=tenant_id, user_id=user["id"], name="test", prefix=made.prefix, hash=made.hash
        )
        return made.key

    async def client(self, role: Role | str = Role.FOUNDER, tenant_id: UUID | None = None) -> httpx.AsyncClient:
        """A client with a key of its own."""
        return self.with_token(await self.key(role, tenant_id))

    def with_token(self, token: str | None) -> httpx.AsyncClient:
        """A client with this credential, or with none."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        client = httpx.AsyncClient(transport=self._transport, base_url="http://zora", headers=headers)
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
