"""Around every request: its id, its log line, the headers of every answer, and unexpected errors."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.requests import ClientDisconnect

from zora_core.api.errors import internal_error
from zora_core.logs import request_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from zora_core.api.access import Principal
    from zora_core.api.limits import Quota
    from zora_core.api.status import Metrics

logger = logging.getLogger("zora.api")

# A page may load nothing from elsewhere, and nothing of ours may be shown inside another page.
CONTENT_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
_METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "WS"}
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# Paths and request ids that hold no secret: masking a line costs as much as the rest of a request.
_PLAIN = re.compile(rf"{_UUID} (?:/(?:[a-z-]{{0,20}}|{_UUID}))+")


class RequestMiddleware:
    """The outermost layer that is ours. A WebSocket gets its id and its log line, too."""

    def __init__(self, app: ASGIApp, metrics: Metrics, error_page: Callable[[], Response]) -> None:
        """Wrap `app`, counting into `metrics`; under `/admin` `error_page` answers unexpected errors."""
        self._app = app
        self._metrics = metrics
        self._error_page = error_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        known = given if _REQUEST_ID.fullmatch(given) else str(uuid4()).encode()
        token = request_id.set(known.decode())
        started = time.perf_counter()
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                present = {name.lower() for name, _ in message["headers"]}
                extra = [
                    *_HEADERS,
                    (b"content-security-policy", CONTENT_POLICY.encode()),
                    (b"cache-control", b"no-store"),
                ]
                quota: Quota | None = scope.get("quota")
                message["headers"] = [
                    *message["headers"],
                    *((name, value) for name, value in extra if name not in present),
                    (b"x-request-id", known),
                    *(quota.headers if quota else ()),
                ]
            elif message["type"] in ("websocket.accept", "websocket.close"):
                status = 101 if message["type"] == "websocket.accept" else message.get("code", 1000)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass  # in the middle of its request: nobody is left to be answered, and nothing has gone wrong here
        except Exception:
            logger.exception("%s %s failed", scope.get("method", "WS"), scope["path"])
            if scope["type"] == "http" and status is None:
                is_page = scope["path"].startswith("/admin")
                await (self._error_page if is_page else internal_error)()(scope, receive, send_with_headers)
            elif scope["type"] == "http":
                raise  # half an answer is out: the connection must break, or the client takes it for a whole one
        finally:
            self._record(scope, status, time.perf_counter() - started)
            request_id.reset(token)

    def _record(self, scope: Scope, status: int | None, seconds: float) -> None:
        method = scope.get("method", "WS")
        route = getattr(scope.get("route"), "path_format", None) or "none"
        counted = method if method in _METHODS else "other"  # a client may invent methods without end
        self._metrics.requests.labels(counted, route, status).inc()
        self._metrics.seconds.labels(counted, route).observe(seconds)
        if logger.isEnabledFor(logging.INFO):
            principal: Principal | None = scope.get("principal")
            label = principal.label if principal else "-"
            plain = method in _METHODS and _PLAIN.fullmatch(f"{request_id.get()} {scope['path']}") is not None
            line = "%s %s %s %.1f ms %s"
            logger.info(line, method, scope["path"], status, seconds * 1000, label, extra={"plain": plain})
