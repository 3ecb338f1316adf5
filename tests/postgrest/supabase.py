"""What Supabase puts around PostgREST: the roles, the keys, and the gateway that looks at the header `apikey`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg
import jwt

ROLES = (Path(__file__).parent / "roles.sql").read_text(encoding="utf-8")

# Revokes `zora_api` from the authenticator, for every grantor: the owners of several databases may have granted it.
REVOKE_API_ROLE = """
do $$
declare
    v_grantor regrole;
begin
    for v_grantor in
        select m.grantor from pg_auth_members as m
        where m.roleid = 'zora_api'::regrole and m.member = 'authenticator'::regrole
    loop
        execute format('revoke zora_api from authenticator granted by %s', v_grantor);
    end loop;
end
$$
"""

PREFIX = "/rest/v1"


async def prepare(database_url: str) -> str:
    """Make Supabase's roles, as the database's superuser, and return the URL by which the authenticator gets there."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(ROLES)
    finally:
        await connection.close()
    return authenticator_url(database_url)


def authenticator_url(database_url: str) -> str:
    """The same database for the role `authenticator`, on a server that trusts every connection."""
    parts = urlsplit(database_url)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in ("user", "password")]
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(
        parts._replace(netloc=f"{quote('authenticator')}@{place}", query=urlencode([*query, ("user", "authenticator")]))
    )


def token(secret: str, role: str | None, **claims: Any) -> str:
    """A JWT signed with HS256, such as Supabase's legacy keys and its users' tokens are; no `role` without one."""
    return jwt.encode({**({"role": role} if role else {}), **claims}, secret, algorithm="HS256")


@dataclass(eq=False)
class GatewayError(Exception):
    """The gateway refuses a request by itself, with a body of its own shape."""

    status: int
    message: str
    hint: str | None = None

    @property
    def body(self) -> bytes:
        return json.dumps({"message": self.message, **({"hint": self.hint} if self.hint else {})}).encode()


@dataclass(frozen=True)
class Keys:
    """A project's API keys: opaque ones by the role they act as, and JWTs, which only tell an application."""

    opaque: Mapping[str, str]
    tokens: frozenset[str]

    def admit(self, headers: Mapping[str, str]) -> str | None:
        """Let a request with a known key pass, and return the role it acts as when it carries an opaque key alone.

        Page: Supabase, api/api-keys. Raises `GatewayError` (401).
        """
        key = headers.get("apikey")
        bearer = _bearer(headers)
        if not key:
            raise GatewayError(401, "No API key found in request", "No `apikey` request header or url param was found.")
        if key not in self.opaque and key not in self.tokens:
            raise GatewayError(401, "Invalid API key", "Double check your Supabase `anon` or `service_role` API key.")
        if key.startswith("sb_secret_") and "Mozilla/" in headers.get("user-agent", ""):
            raise GatewayError(401, "Forbidden use of secret API key in browser")
        if bearer is not None and bearer.startswith(("sb_publishable_", "sb_secret_")) and bearer != key:
            raise GatewayError(401, "Invalid API key", "An API key is no bearer token.")
        return self.opaque.get(key) if bearer is None else None


def _bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None
