"""A separate login for the API: an attacker who controls its connection cannot become the owner.

A session that logged in as the owner and took on the role `zora_api` is one `set role none` away from the owner. This
login may act as `zora_api` and as nothing else. Its password is derived from the owner's, so that every process with
the same DATABASE_URL knows it, and nothing is stored but the verifier in the server's catalogue. Where the owner logs
in without a password, so does the API, or not at all.

Other processes use the same login, perhaps by another way, over a socket for example. A login that exists gets another
password only when the server has refused ours as wrong, and never none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable

import asyncpg

from zora_core.database.database import API_ROLE

_ITERATIONS = 4096  # PostgreSQL's own; the password has 256 random bits
_NOTHING_ELSE = """
select not (r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolbypassrls or r.rolreplication) and not exists (
    select from pg_roles as o where o.rolname not in ($1, $2) and pg_has_role(r.oid, o.oid, 'member')
)
from pg_roles as r
where r.rolname = session_user and r.rolname = $1
"""
_LOCK = "select pg_advisory_xact_lock(7206017351922)"

THROUGH_A_POOLER = "through a pooler only the role of DATABASE_URL can log in"

Connect = Callable[[str, str | None], Awaitable[asyncpg.Connection]]
"""Opens a connection to the same database with a user and a password."""


async def prepare(owner: asyncpg.Connection, connect: Connect) -> tuple[str, str | None] | str:
    """The user and password of the API's login, made when it is missing; or why there is none.

    `owner` is a connection of the role in DATABASE_URL, outside of a transaction.
    """
    secret = owner._params.password
    user, named = await _name(owner)
    password = hmac.new(secret.encode(), f"{API_ROLE}:{named}".encode(), hashlib.sha256).hexdigest() if secret else None
    wrong = False
    try:
        if await _works(connect, user, password):
            return user, password
    except asyncpg.InvalidPasswordError:  # it is missing, or has the password of an earlier DATABASE_URL
        wrong = True
    except asyncpg.PostgresError:  # this way is closed to it, or it is missing
        pass
    try:
        async with owner.transaction():
            await owner.execute(_LOCK)
            if not await owner.fetchval("select exists (select from pg_roles where rolname = $1)", user):
                await owner.execute(f"create role {user} login")
                wrong = True
            if password and wrong:
                await owner.execute(f"alter role {user} password {_verifier(password)}")
            await owner.execute(f"grant {API_ROLE} to {user}")
        if await _works(connect, user, password):
            return user, password
    except asyncpg.PostgresError as error:
        return f"{error.args[0]} (role {user})"
    return f"the role {user} may do more than {API_ROLE}"


async def obstacle(owner: asyncpg.Connection) -> str | None:
    """Why there cannot be a login of the API's own, as far as it can be told without making one."""
    user, _ = await _name(owner)
    if await owner.fetchval(
        "select rolsuper or rolcreaterole or exists (select from pg_roles where rolname = $1) "
        "from pg_roles where rolname = session_user",
        user,
    ):
        return None
    return f"the role of DATABASE_URL may not create the role {user}"


async def _name(owner: asyncpg.Connection) -> tuple[str, str]:
    """The login's name, and what is in it; another for each database and owner of a server."""
    place = await owner.fetchrow("select current_database()::text as database, session_user::text as owner")
    named = f"{place['database']}:{place['owner']}"
    return f"{API_ROLE}_{hashlib.sha256(named.encode()).hexdigest()[:12]}", named


async def _works(connect: Connect, user: str, password: str | None) -> bool:
    """Whether one can log in, act as the API's role, and do nothing else."""
    connection = await connect(user, password)
    try:
        await connection.execute(f"set role {API_ROLE}")
        return bool(await connection.fetchval(_NOTHING_ELSE, user, API_ROLE))
    finally:
        connection.terminate()


def _verifier(password: str) -> str:
    """What the server keeps of an ASCII password (SCRAM-SHA-256, RFC 5803): the password is in no statement, no log."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    said = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"'SCRAM-SHA-256${_ITERATIONS}:{said[0]}${said[1]}:{said[2]}'"
