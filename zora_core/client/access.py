"""Users, API keys, sessions and tenants."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record


class User(Record):
    """A user of the tenant."""

    id: UUID
    tenant_id: UUID
    email: str
    display_name: str | None = None
    role: str
    created_at: datetime


class ApiKey(Record):
    """An API key or a session. The key itself is not stored."""

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


class CreatedApiKey(Record):
    """A new API key."""

    id: UUID
    name: str
    prefix: str | None = None
    email: str | None = None
    role: str | None = None
    agent_id: str
    created_at: datetime
    expires_at: datetime | None = None


class RevokedApiKey(Record):
    """An API key that was revoked."""

    id: UUID
    name: str
    prefix: str | None = None
    revoked_at: datetime | None = None


class WorkingApiKey(Record):
    """A valid API key: its hash, user and role. Revoked and expired keys are left out."""

    prefix: str | None = None
    hash: bytes | None = None
    kind: str | None = None
    tenant_id: UUID
    user_id: UUID | None = None
    email: str | None = None
    role: str | None = None
    agent_id: str


class SignInLink(Record):
    """A one-time link for the pages, and when it expires."""

    id: UUID
    email: str | None = None
    role: str | None = None
    expires_at: datetime | None = None


class Session(Record):
    """A session of the pages."""

    id: UUID
    user_id: UUID | None = None
    expires_at: datetime | None = None


class Access(Section):
    """Who may do what. Roles are viewer, member, brand_admin and founder, each with the rights of those before it."""

    async def users(
        self,
    ) -> Records[User]:
        """All users."""
        return await self._tenant.all(User, "list_users")

    async def add_user(self, email: str, *, role: str, by_user_id: UUID | None = None) -> User:
        """Add a user. Raises `InvalidInput`, and `DuplicateKey` if there is one of this address."""
        return await self._tenant.one(User, "add_user", email=email, role=role, by_user_id=by_user_id)

    async def find_user(self, email: str) -> Records[User]:
        """The users of an e-mail address: one or none."""
        return await self._tenant.all(User, "find_user", email=email)

    async def ensure_user(self, email: str, *, role: str | None = None) -> User:
        """The user of an e-mail address, who is added if there is none; `role` is for a new one.

        Raises `InvalidState` for another role.
        """
        return await self._tenant.one(User, "ensure_user", email=email, role=role)

    async def ensure_founder(
        self,
    ) -> User:
        """The tenant's first founder, who is added if there is none."""
        return await self._tenant.one(User, "ensure_founder")

    async def set_role(self, id: UUID, *, role: str, user_id: UUID | None = None) -> User:
        """Change a user's role. Raises `NotFound`, `NotAllowed`, and `InvalidState` for the last founder."""
        return await self._tenant.one(User, "set_user_role", id=id, role=role, user_id=user_id)

    async def user_name(self, user_id: UUID) -> str:
        """A user's name for people."""
        return await self._tenant.value(str, "user_name", user_id=user_id)

    async def keys(self, *, kind: str = "key") -> Records[ApiKey]:
        """API keys, or with `kind` session the sessions of the pages."""
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
    ) -> CreatedApiKey:
        """Store a new API key, by its prefix and the SHA-256 of the key. Raises `NotFound` for an unknown user."""
        return await self._tenant.one(
            CreatedApiKey,
            "create_api_key",
            user_id=user_id,
            name=name,
            prefix=prefix,
            hash=hash,
            expires_at=expires_at,
            agent_id=agent_id,
            by_user_id=by_user_id,
        )

    async def revoke_key(self, key: str, *, by_user_id: UUID | None = None) -> RevokedApiKey:
        """Revoke a key, by its id or prefix. Raises `NotFound`."""
        return await self._tenant.one(RevokedApiKey, "revoke_api_key", key=key, by_user_id=by_user_id)

    async def working_keys(self, *, prefixes: Sequence[str], links: bool = False) -> Records[WorkingApiKey]:
        """The keys of these prefixes that can be used; with `links`, one-time links too."""
        return await self._everyone.all(WorkingApiKey, "working_api_keys", prefixes=prefixes, links=links)

    async def create_sign_in_link(
        self, *, user_id: UUID, prefix: str, hash: bytes, seconds: int, by_user_id: UUID | None = None
    ) -> SignInLink:
        """Store a one-time link that is valid for `seconds`."""
        return await self._tenant.one(
            SignInLink,
            "create_sign_in_link",
            user_id=user_id,
            prefix=prefix,
            hash=hash,
            seconds=seconds,
            by_user_id=by_user_id,
        )

    async def start_session(self, *, made_with: str, prefix: str, hash: bytes, seconds: int) -> Session:
        """Begin a session of the pages, made with a key or a link, for `seconds`.

        A link is used up. Raises `NotFound`.
        """
        return await self._tenant.one(
            Session, "start_session", made_with=made_with, prefix=prefix, hash=hash, seconds=seconds
        )

    async def ensure_tenant(self, id: UUID, *, name: str, slug: str) -> bool:
        """Create a tenant if it does not exist; returns whether it was created."""
        return await self._everyone.value(bool, "ensure_tenant", id=id, name=name, slug=slug)

    async def find_tenant(self, tenant: str) -> UUID:
        """A tenant's id, by its id or slug. Raises `NotFound`."""
        return await self._everyone.value(UUID, "find_tenant", tenant=tenant)

    async def has_tenant(
        self,
    ) -> bool:
        """Whether the tenant exists."""
        return await self._tenant.value(bool, "has_tenant")

    async def seed_tenant(self, seed: Any) -> None:
        """Fill a new tenant with example rows."""
        await self._tenant.do("seed_tenant", seed=seed)
