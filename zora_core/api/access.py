"""Who calls, and what they may do: API keys and tokens become a principal, and routes name the role that they need.

The tenant comes from the credential, never from the request.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

import jwt
from fastapi import Depends
from starlette.requests import HTTPConnection

from zora_core.api.connections import AUTHENTICATED
from zora_core.api.errors import Forbidden, RateLimited, Unauthorized
from zora_core.api.keys import parse_key
from zora_core.client import Client
from zora_core.errors import ConfigurationError
from zora_core.models import AgentId, Role
from zora_core.suggested_command import zora_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from zora_core.api.state import Api
    from zora_core.database.database import Database

TRUSTED_SECONDS = 0.5  # for how long a credential that was good is not looked at again; revoking takes so long at most
MAX_REMEMBERED = 10_000
MIN_SECRET_BYTES = 32  # RFC 7518, section 3.2: a key of HS256 has at least the size of the hash


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a credential stands for.

    `label` names the credential in logs: a key's prefix, or `user:` and an id. Rates are counted by tenant and label.
    `expires_at` is when a token expires, in Unix time; None for a key, whose time the database watches. `agent_id` is
    the agent that holds the credential; None for people and their programs. `email` is the user's, when the database
    knows them.
    """

    tenant_id: UUID
    user_id: UUID | None
    role: Role
    label: str
    expires_at: float | None = None
    agent_id: str | None = None
    email: str | None = None


class Credentials:
    """Checks credentials, and remembers for half a second those that were good."""

    def __init__(
        self,
        database: Database,
        jwt_secret: str | None = None,
        *,
        issuer: str | None = None,
        audience: str | None = None,
        max_hours: float = 24,
    ) -> None:
        """Check credentials against `database`, the restricted one.

        A token must have `issuer` and `audience` when they are given, and expire within `max_hours` from now. Raises
        `ConfigurationError` when `jwt_secret` is too short to be safe.
        """
        if jwt_secret is not None and len(jwt_secret.encode()) < MIN_SECRET_BYTES:
            raise ConfigurationError(
                f"ZORA_JWT_SECRET has {len(jwt_secret.encode())} bytes, HS256 needs at least {MIN_SECRET_BYTES}: "
                "make one with `openssl rand -base64 48`"
            )
        self._database = database
        self._jwt_secret = jwt_secret
        self._issuer = issuer
        self._audience = audience
        self._max_hours = max_hours
        self._good: dict[bytes, tuple[Principal, float]] = {}

    async def check(self, token: str) -> Principal:
        """Whom `token` stands for. Raises `Unauthorized`, which says no more than its holder knows."""
        digest = _digest(token)
        known = self._good.get(digest)
        if known is not None and time.monotonic() - known[1] < TRUSTED_SECONDS:
            if known[0].expires_at is None or known[0].expires_at > time.time():
                return known[0]
            raise Unauthorized("the credential has expired")
        self._good.pop(digest, None)
        key = parse_key(token)
        principal = await (self._key(*key) if key else self._token(token))
        if len(self._good) >= MAX_REMEMBERED:
            self._good.clear()
        self._good[digest] = (principal, time.monotonic())
        return principal

    async def still_good(self, principals: Iterable[Principal]) -> set[Principal]:
        """Those whose credential is still good and whose role has not changed, found in one statement."""
        now = time.time()
        current = [p for p in principals if p.expires_at is None or p.expires_at > now]
        prefixes = list({p.label for p in current if p.label.startswith("zora_")})
        rows = await self._database.call("working_api_keys", prefixes=prefixes) if prefixes else []
        roles = {row["prefix"]: row["role"] for row in rows}
        return {p for p in current if not p.label.startswith("zora_") or roles.get(p.label) == p.role}

    async def check_to_sign_in(self, token: str) -> Principal:
        """Whom an API key or a one-time link stands for; raises `Unauthorized` for anything else."""
        key = parse_key(token)
        if key is None:
            raise Unauthorized("this is neither an API key nor a sign-in link")
        return await self._key(*key, links=True)

    def forget(self, token: str) -> None:
        """Look a credential up again the next time: it was revoked just now."""
        self._good.pop(_digest(token), None)

    async def _key(self, prefix: str, digest: bytes, *, links: bool = False) -> Principal:
        rows = await self._database.call("working_api_keys", prefixes=[prefix], links=links)
        row = rows[0] if rows else None
        if not hmac.compare_digest(row["hash"] if row else bytes(32), digest) or row is None:
            raise Unauthorized("the API key is unknown, revoked or expired")
        return Principal(
            tenant_id=row["tenant_id"],
            user_id=row["user_id"],
            role=Role(row["role"]),
            label=prefix,
            agent_id=row["agent_id"],
            email=row["email"],
        )

    async def _token(self, token: str) -> Principal:
        if self._jwt_secret is None:
            raise Unauthorized("not an API key; tokens are not taken, because ZORA_JWT_SECRET is not set")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._jwt_secret,
                algorithms=["HS256"],
                issuer=self._issuer,
                audience=self._audience,
                options={
                    "require": ["exp", "tenant_id", "user_id", "role"],
                    "verify_aud": self._audience is not None,
                    "verify_iss": self._issuer is not None,
                },
            )
            principal = _principal(claims)
            if claims["exp"] > time.time() + self._max_hours * 3600:
                raise _InvalidClaim(f"exp must be at most {self._max_hours:g} hours from now (ZORA_JWT_MAX_HOURS)")
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError) as error:
            reason = str(error) if isinstance(error, jwt.InvalidTokenError | _InvalidClaim) else "it is malformed"
            raise Unauthorized(f"the token is not good: {reason}") from error
        if not await self._database.value("has_tenant", tenant_id=principal.tenant_id):
            raise Unauthorized("the token is not good: its tenant does not exist")
        return principal


class _InvalidClaim(ValueError):
    """A claim has a value that it cannot have."""


def _principal(claims: Mapping[str, Any]) -> Principal:
    ids = {}
    for name in ("tenant_id", "user_id"):
        try:
            ids[name] = UUID(claims[name])
        except (ValueError, AttributeError, TypeError) as error:
            raise _InvalidClaim(f"{name} must be a UUID") from error
    if claims["role"] not in list(Role):
        raise _InvalidClaim(f"role must be one of {', '.join(Role)}")
    if type(claims["exp"]) not in (int, float):  # the library takes a text or true as well; RFC 7519 does not
        raise _InvalidClaim("exp must be a number")
    agent_id = claims.get("agent_id")
    if agent_id is not None and agent_id not in list(AgentId):
        raise _InvalidClaim(f"agent_id must be one of {', '.join(AgentId)}")
    return Principal(
        ids["tenant_id"],
        ids["user_id"],
        role=Role(claims["role"]),
        label=f"user:{ids['user_id']}",
        expires_at=float(int(claims["exp"])),
        agent_id=agent_id,
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True)
class Caller:
    """Who makes this request, and the API that serves it."""

    api: Api
    principal: Principal

    @cached_property
    def client(self) -> Client:
        """What can be done for the caller's tenant."""
        return Client(self.api.database, self.principal.tenant_id)

    async def call(self, function: str, /, **arguments: Any) -> list[dict[str, Any]]:
        """Call a SQL function for the caller's tenant."""
        return await self.api.database.call(function, tenant_id=self.principal.tenant_id, **arguments)

    async def value(self, function: str, /, **arguments: Any) -> Any:
        """Call a SQL function that returns one value for the caller's tenant."""
        return await self.api.database.value(function, tenant_id=self.principal.tenant_id, **arguments)


def bearer(connection: HTTPConnection) -> str:
    """The credential in the Authorization header, or `Unauthorized`."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized(
            f"send `Authorization: Bearer` and an API key (`{zora_command('keys', 'create', 'NAME')}`) or a token"
        )
    return token.strip()


async def caller(connection: HTTPConnection, token: str, role: Role) -> Caller:
    """Check a credential, its rate and its role."""
    api: Api = connection.app.state.api
    try:
        principal = await api.credentials.check(token)
    except Unauthorized:
        # Attempts with invalid keys are counted by address, because there is no valid credential to count by.
        api.limiter.take(f"address:{connection.client.host if connection.client else ''}")
        raise
    connection.scope["principal"] = principal
    try:
        connection.scope["quota"] = api.limiter.take(f"{principal.tenant_id} {principal.label}")
    except RateLimited as error:
        connection.scope["quota"] = error.quota
        raise
    if principal.role.rank < role.rank:
        raise Forbidden(f"this needs the role {role}, yours is {principal.role}")
    if authenticated := connection.scope.get("state", {}).get(AUTHENTICATED):
        authenticated()
    return Caller(api, principal)


def needs(role: Role, *, person: bool = False) -> Any:
    """Declare at a route which role it needs, and whether only people may, not agents; gives the `Caller`."""

    async def authorised(connection: HTTPConnection) -> Caller:
        found = await caller(connection, bearer(connection), role)
        if person and found.principal.agent_id is not None:
            raise Forbidden(f"people decide this, and this credential is {found.principal.agent_id}'s")
        return found

    authorised.role = role  # type: ignore[attr-defined]
    return Depends(authorised)
