"""Who asks: the claims of a bearer token. Page: auth."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import jwt

from tests.postgrest.errors import ApiError

_GRACE_SECONDS = 30


def claims_of(
    headers: Mapping[str, str], *, secret: str, audience: str | None, anon_role: str | None
) -> dict[str, Any]:
    """The claims of the request's token, `role` among them: the anonymous role where the token or its role is missing.

    Raises `ApiError` (401): PGRST301 when the token cannot be read, PGRST302 when there is none and there must be one,
    PGRST303 when a claim does not hold.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    claims: dict[str, Any] = {}
    # Another scheme is no token.
    if scheme in ("Bearer", "bearer"):
        claims = _decoded(token.strip(), secret)
        _check(claims, audience)
    if "role" not in claims:
        if anon_role is None:
            raise ApiError(401, "PGRST302", "Anonymous access is disabled", headers={"WWW-Authenticate": "Bearer"})
        claims["role"] = anon_role
    if not isinstance(claims["role"], str):
        raise _refused("PGRST303", "Parsing claims failed")
    return claims


def _decoded(token: str, secret: str) -> dict[str, Any]:
    parts = token.count(".") + 1
    if not token:
        raise _refused("PGRST301", "Empty JWT is sent in Authorization header")
    if parts != 3:
        raise _refused("PGRST301", f"Expected 3 parts in JWT; got {parts}")
    try:
        payload: bytes = jwt.api_jws.decode(token, secret, algorithms=["HS256"])
    except jwt.InvalidTokenError as error:
        raise _refused("PGRST301", "No suitable key or wrong key type") from error
    try:
        claims = json.loads(payload)
    except ValueError as error:
        raise _refused("PGRST303", "Parsing claims failed") from error
    if not isinstance(claims, dict):
        raise _refused("PGRST303", "Parsing claims failed")
    return claims


def _check(claims: Mapping[str, Any], audience: str | None) -> None:
    times: dict[str, float] = {}
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _refused("PGRST303", f"The JWT '{name}' claim must be a number")
        times[name] = value
    now = time.time()
    if "exp" in times and now - _GRACE_SECONDS > times["exp"]:
        raise _refused("PGRST303", "JWT expired")
    if "nbf" in times and now + _GRACE_SECONDS < times["nbf"]:
        raise _refused("PGRST303", "JWT not yet valid")
    if "iat" in times and now + _GRACE_SECONDS < times["iat"]:
        raise _refused("PGRST303", "JWT issued at future")
    if audience is None:
        return
    stated = claims.get("aud")
    stated = [stated] if isinstance(stated, str) else stated
    if stated in (None, []):
        return
    if not isinstance(stated, list) or not all(isinstance(one, str) for one in stated):
        raise _refused("PGRST303", "The JWT 'aud' claim must be a string or an array of strings")
    if audience not in stated:
        raise _refused("PGRST303", "JWT not in audience")


def _refused(code: str, message: str) -> ApiError:
    header = f'Bearer error="invalid_token", error_description="{message}"'
    return ApiError(401, code, message, headers={"WWW-Authenticate": header})
