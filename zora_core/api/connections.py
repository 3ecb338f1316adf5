"""Limits of HTTP connections: size and time of a request's head and body, and the number of open connections.

uvicorn with httptools has none of these: a header of 200 MB fills the memory before anybody has signed in, and a
connection that never sends its request stays. `guarded` makes a subclass of uvicorn's protocol with limits. A WebSocket
leaves it with its handshake; from then on the limits of the websockets library hold (message size, pings), and once its
credential was accepted it is not dropped for others.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from zora_core.keep_alive import keep_alive

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveEvent

AUTHENTICATED = "zora.authenticated"
"""In the state of a WebSocket: what to call when its credential was accepted."""
_LINE = 32  # bytes that a header costs besides its text


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one connection, and all together, may take; a head is the request line and the headers."""

    head_bytes: int = 65_536
    """Size of a request's head, and of what stands at one time around the parts of a body (chunk extensions, trailers);
    431 beyond it."""
    head_seconds: float = 10
    """Time from the first byte of a head, or from connecting, to its end; 408 after it."""
    body_bytes: int = 16_000_000
    """Bytes after which a body is cut off. Routes refuse more than 1 MB themselves, with a message."""
    body_seconds: float = 60
    """Time from the end of the head to the end of the body; 408 after it."""
    idle_seconds: int = 5
    """Time between two requests of a connection."""
    unread_seconds: float = 10
    """Time in which a client must read something of an answer that waits for it, or the connection is reset."""
    queued: int = 32
    """Requests that may wait on a connection for the answer to the one before them; 429 beyond it."""
    connections: int = field(default_factory=lambda: _most_connections())
    """Open connections. One more takes the place of the connection that has waited longest for its client (to send a
    request, its body or a credential, or to read an answer), or is answered with 503 when all are in use."""


def _most_connections() -> int:
    """1000, or fewer if the process's limit of open files is low: 200 files are reserved for other uses."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 1000
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1000 if files == resource.RLIM_INFINITY else max(64, min(1000, files - 200))


def guarded(limits: Limits) -> type[HttpToolsProtocol]:
    """The protocol class of a server whose connections share `limits`."""
    return type("LimitedProtocol", (GuardedProtocol,), {"limits": limits, "waiting": {}})


class GuardedProtocol(HttpToolsProtocol):
    """A connection with limits; made by `guarded`."""

    limits: ClassVar[Limits]
    waiting: ClassVar[dict[GuardedProtocol, None]]
    """Connections that wait for their clients, the one that has waited longest first; they give way to new ones."""

    _timer: asyncio.TimerHandle | None = None
    _in_head = False
    """Whether a head has begun and not ended."""
    _whole = False
    """Whether the last request was received to its end."""
    _unread: asyncio.TimerHandle | None = None
    """Set while more of an answer waits than the client reads."""
    _fed = 0
    """Bytes received since the head began or since a part of the body, without those that came with it."""
    _head = 0
    """Bytes of the head as far as it was understood."""
    _body = 0
    _answering: RequestResponseCycle | None = None
    """The request that is being answered or was answered last; `cycle` is the one that was received last."""
    _refused: int | None = None
    """The status that this connection was refused with."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and begin to wait for its first request."""
        super().connection_made(transport)
        keep_alive(transport)
        if len(self.connections) > self.limits.connections:
            oldest = next(iter(self.waiting), None)
            if oldest is None:
                self._refuse(503, "Too many connections: try again in a moment.")
                return
            oldest._evict()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.let_go()
        self.pipeline.clear()
        self._disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, as long as the head and what surrounds the parts of a body are within their limits."""
        if self._refused is not None:
            return
        if self.timeout_keep_alive_task is not None:  # the next request of a connection that was idle
            self._wait()
        self._fed += len(data)
        super().data_received(data)
        if not self._whole and self._fed > self.limits.head_bytes:
            self._refuse_head()

    def on_message_begin(self) -> None:
        """Count anew; a request that follows at once has its time from now."""
        if len(self.pipeline) >= self.limits.queued:
            self._refuse(429, "Too many requests at once on a connection: read the answers before sending more.")
            raise ValueError("too many requests")  # ends the parser's work on these bytes
        self._in_head, self._whole = True, False
        self._fed = self._head = self._body = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count a part of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value) + _LINE)
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > self.limits.head_bytes:
            self._refuse_head()
            raise ValueError("the head is too large")  # ends the parser's work on these bytes

    def on_headers_complete(self) -> None:
        """The head is there: its body has its own time, and the connection may give way until the body is there."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()
        self._timer = self.loop.call_later(self.limits.body_seconds, self._time_is_up)

    def on_body(self, body: bytes) -> None:
        """Count a part of the body."""
        self._fed = 0
        self._body += len(body)
        if self._body > self.limits.body_bytes:
            self._refuse(413, "The body is too large.")
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request is there; the answer takes its time."""
        self._whole = True
        self._stop_timer()
        self._rank()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """An idle connection gives its place to a new one, too."""
        super().on_response_complete()
        self._rank()

    def pause_writing(self) -> None:
        """Expect the client to read: more of an answer waits than the transport should hold."""
        super().pause_writing()
        self._rank()
        self._expect_reading(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self._stop_expecting()
        self._rank()

    def _expect_reading(self, before: int) -> None:
        self._stop_expecting()
        self._unread = self.loop.call_later(self.limits.unread_seconds, self._check_reading, before)

    def _check_reading(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left < before:
            self._expect_reading(left)
        else:
            self._evict()

    def _stop_expecting(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; it may give way until `access.caller` has accepted its credential.

        A handshake behind an answer that is still being sent is refused: the two would share the transport, and the
        answer would never learn that its client has read.
        """
        if self._is_answering():
            self._refuse(400, "A WebSocket cannot begin before the answer to the request before it has ended.")
            return
        self._stop_timer()
        self.waiting[self] = None
        self.ws_protocol_class = partial(_LiveProtocol, handshake=self)  # type: ignore[assignment]
        self.app_state = {**self.app_state, AUTHENTICATED: self.let_go}
        super().handle_websocket_upgrade()

    def let_go(self) -> None:
        """Do not drop the connection for another, and forget its timers."""
        self._stop_timer()
        self._stop_expecting()
        self.waiting.pop(self, None)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, unless the connection was refused already."""
        if self._refused is None:
            self._refuse(400, msg)

    def _rank(self) -> None:
        """Let the connection give way to new ones exactly while it waits for its client."""
        if not self._whole or self.timeout_keep_alive_task is not None or self.flow.write_paused:
            self.waiting.setdefault(self, None)
        else:
            self.waiting.pop(self, None)

    def _wait(self) -> None:
        self._stop_timer()
        self.waiting.pop(self, None)
        self.waiting[self] = None
        self._timer = self.loop.call_later(self.limits.head_seconds, self._time_is_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> None:
        if not self._is_answering() and not self._in_head:  # nothing was asked: nothing is answered
            self._drop()
        else:
            self._refuse(408, "The request took too long.")

    def _refuse_head(self) -> None:
        self._refuse(431, f"The request's headers are larger than {self.limits.head_bytes} bytes.")

    def _refuse(self, status: int, message: str) -> None:
        """Answer with `status`, unless an answer has begun, and close the connection."""
        if self._refused is not None:
            return
        self._refused = status
        started = self._answering is not None and self._answering.response_started
        if not (started and self._is_answering()) and not self.transport.is_closing():
            self.transport.write(
                STATUS_LINE[status] + b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%s" % (len(message), message.encode())
            )
        self._drop()

    def _drop(self) -> None:
        """Close the connection when its client has read what was written, and end what answers a request of it."""
        self._stop_timer()
        self._disconnect()
        if not self.transport.is_closing():
            self.transport.close()

    def _is_answering(self) -> bool:
        return self._answering is not None and not self._answering.response_complete

    def _disconnect(self) -> None:
        """Tell the request that is being answered that its client is gone."""
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def _evict(self) -> None:
        """Reset the connection at once: closing it would wait for a client that does not read."""
        self.let_go()
        self.transport.abort()


class _LiveProtocol(WebSocketsSansIOProtocol):
    """A WebSocket that tells the connection it was made from when it is lost, and reads no more than it can answer."""

    def __init__(self, *args: Any, handshake: GuardedProtocol, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._handshake = handshake

    def connection_lost(self, exc: Exception | None) -> None:
        self._handshake.let_go()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Read nothing until the client has read: every ping would add its answer to those that wait."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    async def receive(self) -> ASGIReceiveEvent:
        """The next event; a message that was taken is no reason to read on while the client does not."""
        event = await super().receive()
        if not self.writable.is_set():
            self.transport.pause_reading()
        return event
