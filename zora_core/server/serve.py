"""Serving: the API, the reader of changes, and the runtime beside them, in one process that ends as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import uvicorn

from zora_core.agents.builtin import registry
from zora_core.api.access import Credentials
from zora_core.api.changes import Changes
from zora_core.api.connections import Limits, guarded
from zora_core.api.keys import new_key
from zora_core.api.limits import RateLimiter
from zora_core.api.state import Api
from zora_core.autonomy.runtime import on_signals
from zora_core.database.backoff import retrying
from zora_core.errors import ConfigurationError
from zora_core.server.app import create_app

if TYPE_CHECKING:
    from uuid import UUID

    from zora_core.autonomy.runtime import AgentRuntime
    from zora_core.database.database import Database
    from zora_core.settings import Settings

GRACE_SECONDS = 5  # for requests that are being answered when the server stops
DEFAULT_LIMITS = Limits()
STUCK_SECONDS = 60  # after which a client that takes nothing of what was sent to it is cut off


def check_binding(host: str, settings: Settings) -> None:
    """Refuse to be reachable from elsewhere until somebody has decided who may sign tokens."""
    if not _is_loopback(host) and settings.jwt_secret is None:
        raise ConfigurationError(
            f"--host {host} makes the API reachable from other machines, and ZORA_JWT_SECRET is not set: set it to a "
            "secret of at least 32 characters (`openssl rand -base64 48`), or stay on 127.0.0.1. Let a proxy in front "
            "of it do the encryption"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, or `ConfigurationError` naming what is in the way."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (while attempting")[0]
        raise ConfigurationError(
            f"cannot listen on {host} port {port} ({reason}): choose another --host or --port"
        ) from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; a closed connection would else wait for a stuck client for ever
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STUCK_SECONDS * 1000)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a client on this machine finds a listening socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def api_for(owner: Database, settings: Settings, *, requests_per_minute: int) -> AsyncIterator[Api]:
    """The API over an open database, its reader of changes running."""
    database = await retrying(owner, owner.restricted)
    credentials = Credentials(
        database,
        settings.jwt_secret,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        max_hours=settings.jwt_max_hours,
    )
    changes = Changes(owner, database, credentials)
    following = asyncio.create_task(changes.run())
    try:
        yield Api(
            database=database,
            settings=settings,
            registry=registry(),
            credentials=credentials,
            limiter=RateLimiter(requests_per_minute),
            changes=changes,
            following=following,
        )
    finally:
        changes.close()
        following.cancel()
        await asyncio.wait([following])
        await database.close()
        if not following.cancelled():
            following.result()


async def sign_in_link(owner: Database, tenant_id: UUID, user_id: UUID, url: str, seconds: int) -> str:
    """A link to the admin pages with which a user can sign in, once, within `seconds`."""
    new = new_key()
    await owner.call(
        "create_sign_in_link",
        tenant_id=tenant_id, user_id=user_id, prefix=new.prefix, hash=new.hash, seconds=seconds,
    )  # fmt: skip
    return f"{url}/admin/sign-in?link={new.key}"


async def serve(
    api: Api,
    listener: socket.socket,
    runtime: AgentRuntime | None,
    *,
    sleep_seconds: float,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Serve until SIGTERM or SIGINT; with a runtime, until it has let its running tasks end as `run_loop` does."""
    config = uvicorn.Config(
        create_app(api),
        http=guarded(limits),
        timeout_keep_alive=limits.idle_seconds,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=65_536,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_no_refusal)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]  # they are ours

    async def until_stopped() -> None:
        if runtime is not None:
            with on_signals(runtime.stop):
                await runtime.run_loop(sleep_seconds=sleep_seconds)
            return
        stopped = asyncio.Event()
        with on_signals(stopped.set):
            await stopped.wait()

    async def until_over() -> None:
        """Stopped, or failed and then loudly; clients are told of the end in either case."""
        working = asyncio.create_task(until_stopped())
        try:
            await asyncio.wait([working, api.following], return_when=asyncio.FIRST_COMPLETED)
        finally:
            api.changes.close()
            server.should_exit = True
            working.cancel()
            await asyncio.wait([working])
        if api.following.done():
            api.following.result()
        working.result()

    ending = asyncio.create_task(until_over())
    try:
        await server.serve(sockets=[listener])
        await ending
    finally:
        ending.cancel()
        await asyncio.wait([ending])


def _is_no_refusal(record: logging.LogRecord) -> bool:
    """A WebSocket that was answered with an error is an unfinished handshake to uvicorn, which is no error to log."""
    return "returned without completing handshake" not in record.getMessage()
