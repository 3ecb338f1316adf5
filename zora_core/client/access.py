"""TODO access."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record


class User(Record):
    """TODO a row of `list_users`."""

    id: UUID
    tenant_id: UUID
    email: str
    display_name: str | None = None
    role: str
    created_at: datetime


class ApiKey(Record):
    """TODO a row of `list_api_keys`."""

    id: UUID
    name: str
    prefix: str | None = None
    email: str | None = None
    role: str | None = None
    agent_id: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    state: str


class CreateApiKey(Record):
    """TODO a row of `create_api_key`."""

    id: UUID
    name: str
    prefix: str | None = None
    email: str | None = None
    role: str | None = None
    agent_id: str
    created_at: datetime
    expires_at: datetime | None = None


class RevokeApiKey(Record):
    """TODO a row of `revoke_api_key`."""

    id: UUID
    name: str
    prefix: str | None = None
    revoked_at: datetime | None = None


class WorkingApiKey(Record):
    """TODO a row of `working_api_keys`."""

    prefix: str | None = None
    hash: bytes | None = None
    kind: str | None = None
    tenant_id: UUID
    user_id: UUID | None = None
    email: str | None = None
    role: str | None = None
    agent_id: str


class CreateSignInLink(Record):
    """TODO a row of `create_sign_in_link`."""

    id: UUID
    email: str | None = None
    role: str | None = None
    expires_at: datetime | None = None


class StartSession(Record):
    """TODO a row of `start_session`."""

    id: UUID
    user_id: UUID | None = None
    expires_at: datetime | None = None


class Access(Section):
    """TODO."""

    async def users(
        self,
    ) -> Records[User]:
        """TODO"""
        return await self._tenant.all(User, "list_users")

    async def add_user(self, email: str, *, role: str, by_user_id: UUID | None = None) -> User:
        """TODO"""
        return await self._tenant.one(User, "add_user", email=email, role=role, by_user_id=by_user_id)

    async def find_user(self, email: str) -> Records[User]:
        """TODO"""
        return await self._tenant.all(User, "find_user", email=email)

    async def ensure_user(self, email: str, *, role: str | None = None) -> User:
        """TODO"""
        return await self._tenant.one(User, "ensure_user", email=email, role=role)

    async def ensure_founder(
        self,
    ) -> User:
        """TODO"""
        return await self._tenant.one(User, "ensure_founder")

    async def set_role(self, id: UUID, *, role: str, user_id: UUID | None = None) -> User:
        """TODO"""
        return await self._tenant.one(User, "set_user_role", id=id, role=role, user_id=user_id)

    async def user_name(self, user_id: UUID) -> str:
        """TODO"""
        return await self._tenant.value(str, "user_name", user_id=user_id)

    async def keys(self, *, kind: str = "key") -> Records[ApiKey]:
        """TODO"""
        return await self._tenant.all(ApiKey, "list_api_keys", kind=kind)

    async def create_key(
        self,
        *,
        user_id: UUID,
        name: str,
        prefix: str,
        hash: bytes,
        expires_at: datetime | None = None,
        agent_id: str | None = None,
        by_user_id: UUID | None = None,
    ) -> CreateApiKey:
        """TODO"""
        return await self._tenant.one(
            CreateApiKey,
            "create_api_key",
            user_id=user_id,
            name=name,
            prefix=prefix,
            hash=hash,
            expires_at=expires_at,
            agent_id=agent_id,
            by_user_id=by_user_id,
        )

    async def revoke_key(self, key: str, *, by_user_id: UUID | None = None) -> RevokeApiKey:
        """TODO"""
        return await self._tenant.one(RevokeApiKey, "revoke_api_key", key=key, by_user_id=by_user_id)

    async def working_keys(self, *, prefixes: Sequence[str], links: bool = False) -> Records[WorkingApiKey]:
        """TODO"""
        return await self._everyone.all(WorkingApiKey, "working_api_keys", prefixes=prefixes, links=links)

    async def create_sign_in_link(
        self, *, user_id: UUID, prefix: str, hash: bytes, seconds: int, by_user_id: UUID | None = None
    ) -> CreateSignInLink:
        """TODO"""
        return await self._tenant.one(
            CreateSignInLink,
            "create_sign_in_link",
            user_id=user_id,
            prefix=prefix,
            hash=hash,
            seconds=seconds,
            by_user_id=by_user_id,
        )

    async def start_session(self, *, made_with: str, prefix: str, hash: bytes, seconds: int) -> StartSession:
        """TODO"""
        return await self._tenant.one(
            StartSession, "start_session", made_with=made_with, prefix=prefix, hash=hash, seconds=seconds
        )

    async def ensure_tenant(self, id: UUID, *, name: str, slug: str) -> bool:
        """TODO"""
        return await self._everyone.value(bool, "ensure_tenant", id=id, name=name, slug=slug)

    async def find_tenant(self, tenant: str) -> UUID:
        """TODO"""
        return await self._everyone.value(UUID, "find_tenant", tenant=tenant)

    async def has_tenant(
        self,
    ) -> bool:
        """TODO"""
        return await self._tenant.value(bool, "has_tenant")

    async def seed_tenant(self, seed: Any) -> None:
        """TODO"""
        await self._tenant.do("seed_tenant", seed=seed)
