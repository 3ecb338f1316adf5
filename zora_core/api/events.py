"""Live status: `WS /api/agents/tasks/events`, and the same as server-sent events over GET.

Messages are JSON objects with a `type`: `snapshot` (the unfinished tasks, first), `task` or `suggestion` (one changed),
and `heartbeat`.
Each carries a `cursor`; connecting again with `since=<cursor>` goes on from there, and no final state is missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, WebSocket
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from starlette.responses import Response, StreamingResponse
from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from zora_core.api.access import Caller, bearer, caller, needs
from zora_core.api.answers import read_cursor, write_cursor
from zora_core.api.bodies import known_parameters
from zora_core.api.changes import Filter, Message, Subscriber, TaskChange, write_message
from zora_core.api.errors import RateLimited, Unauthorized, ValidationFailed, answer_for, validation_failed
from zora_core.api.tasks import AnyCaseAgent, Status
from zora_core.errors import DatabaseUnavailable, NotFound, ZoraError
from zora_core.models import Role

logger = logging.getLogger("zora.api")
router = APIRouter(prefix="/api/agents/tasks", tags=["live status"])

HEARTBEAT_SECONDS = 15.0
AUTHENTICATION_SECONDS = 10.0
SNAPSHOT_TASKS = 200
SLOW_SECONDS = 10.0  # in which a client must make room for one message
CLOSE_SECONDS = 10.0  # for which a client that is dropped may still fetch the code of why it was

# Codes with which a WebSocket is closed, from the range left to applications; see docs/api.md.
BAD_REQUEST, UNAUTHORIZED, TOO_SLOW, RATE_LIMITED, GOING_AWAY, TRY_AGAIN = 4400, 4401, 4408, 4429, 1012, 1013
_ENDED = {
    "slow": (TOO_SLOW, "too slow: connect again with since=<your last cursor>"),
    "credential": (UNAUTHORIZED, "the credential was revoked, has expired, or its role has changed"),
    "shutdown": (GOING_AWAY, "the server is shutting down: connect again"),
}
_REFUSED: dict[type[ZoraError], int] = {
    Unauthorized: UNAUTHORIZED,
    ValidationFailed: BAD_REQUEST,
    NotFound: BAD_REQUEST,
    RateLimited: RATE_LIMITED,
}


class _Parameters(BaseModel):
    """A WebSocket's query, which the framework does not validate into our envelope."""

    model_config = ConfigDict(extra="forbid")

    agent_id: AnyCaseAgent | None = None
    status: Status | None = None
    id: UUID | None = None
    since: str | None = Field(default=None, max_length=200)


def _wanted(parameters: Mapping[str, str]) -> tuple[Filter, datetime | None]:
    try:
        given = _Parameters.model_validate(dict(parameters))
    except ValidationError as error:
        raise validation_failed(error.errors(include_url=False, include_input=False, include_context=False)) from None
    return Filter(given.agent_id, given.status, given.id), _position(given.since)


def _position(since: str | None) -> datetime | None:
    return read_cursor(since, datetime)[0] if since else None


@router.get(
    "/events",
    name="task_events",
    summary="Watch tasks",
    dependencies=[known_parameters],
    response_class=StreamingResponse,
    responses={200: {"description": "The stream.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def server_sent_events(
    request: Request,
    caller: Annotated[Caller, needs(Role.VIEWER)],
    agent_id: Annotated[AnyCaseAgent | None, Query(description="Only tasks of this agent.")] = None,
    status: Annotated[Status | None, Query(description="Only tasks with this status, and when they leave it.")] = None,
    id: Annotated[UUID | None, Query(description="Only this task.")] = None,
    since: Annotated[str | None, Query(max_length=200, description="Continue from this cursor.")] = None,
    last_event_id: Annotated[
        str | None, Header(description="The same cursor, as browsers send it when they reconnect.")
    ] = None,
) -> Response:
    """The events of the WebSocket of this path as a stream of server-sent events, for clients without WebSocket.

    `event` is the message's type, `data` the message, `id` its cursor.
    """
    # A browser that connects again repeats the address, and with it an old `since`.
    position = _position(last_event_id or since)
    subscriber = Subscriber(caller.principal, Filter(agent_id, status, id))
    messages = _messages(caller, subscriber, position)
    try:
        # Before the answer begins, so that what goes wrong has a status of its own.
        first = await anext(messages, None)
    except BaseException:
        await messages.aclose()
        raise
    if first is None:
        code, reason = _ENDED[subscriber.ended or "shutdown"]
        raise Unauthorized(reason) if code == UNAUTHORIZED else DatabaseUnavailable(reason)
    return _EventStream(first, messages, subscriber)


class _EventStream(StreamingResponse):
    """Server-sent events; ends when a client does not read, and lets go of its messages however it ends."""

    def __init__(self, first: Message, messages: AsyncGenerator[Message], subscriber: Subscriber) -> None:
        self._messages = messages
        self._subscriber = subscriber
        self._events = self._written(first)
        super().__init__(self._events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._messages), aclosing(self._events):
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        async def in_time(message: AsgiMessage) -> None:
            async with asyncio.timeout(SLOW_SECONDS):
                await send(message)

        try:
            await super().stream_response(in_time)
        except TimeoutError:
            self._subscriber.end("slow")
            logger.info("a client that does not read was dropped: %s", self._subscriber.principal.label)

    async def _written(self, first: Message) -> AsyncGenerator[bytes]:
        yield _as_sse(first)
        try:
            async for message in self._messages:
                if self._subscriber.ended:
                    return
                yield _as_sse(message)
        except ZoraError as error:
            logger.warning("%s", error)  # half an answer is out: its end tells the client to connect again


# JSON has no line breaks of its own, but some clients take these for one.
_LINE_ENDS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}


def _as_sse(message: Message) -> bytes:
    data = message.text if message.text.isascii() else message.text.translate(_LINE_ENDS)
    return f"event: {message.kind}\nid: {write_cursor(message.cursor)}\ndata: {data}\n\n".encode()


@router.websocket("/events", name="task_events_websocket")
async def websocket_events(websocket: WebSocket) -> None:
    """Authenticate (by header, or by a first message `{"type": "auth", "token": …}`), then send messages."""
    try:
        known = None
        if "authorization" in websocket.headers:
            known = await caller(websocket, bearer(websocket), Role.VIEWER)
        wanted, position = _wanted(websocket.query_params)
    except ZoraError as error:
        await websocket.send_denial_response(answer_for(error))
        return
    await websocket.accept()
    try:
        known = known or await _authenticate(websocket)
        subscriber = Subscriber(known.principal, wanted)
        await _serve(websocket, _messages(known, subscriber, position), subscriber)
        code, reason = _ENDED[subscriber.ended or "shutdown"]
    except (Unauthorized, ValidationFailed, NotFound, RateLimited) as error:
        code, reason = _REFUSED[type(error)], str(error)
    except ZoraError as error:
        logger.warning("%s", error)
        code, reason = TRY_AGAIN, "the database cannot be reached: connect again in a moment"
    except WebSocketDisconnect:
        return
    with contextlib.suppress(TimeoutError, WebSocketDisconnect):
        async with asyncio.timeout(CLOSE_SECONDS):
            await websocket.close(code, reason[:120])


async def _authenticate(websocket: WebSocket) -> Caller:
    """Browsers cannot send a header with a WebSocket: the credential is the first message, never part of the URL."""
    try:
        async with asyncio.timeout(AUTHENTICATION_SECONDS):
            message = from_json(await websocket.receive_text())
    except TimeoutError:
        raise Unauthorized(f"no credential came within {AUTHENTICATION_SECONDS:.0f} s") from None
    except (ValueError, KeyError):
        message = None
    if not isinstance(message, dict) or message.get("type") != "auth" or not isinstance(message.get("token"), str):
        raise Unauthorized('the first message must be {"type": "auth", "token": "…"}')
    return await caller(websocket, message["token"], Role.VIEWER)


async def _serve(websocket: WebSocket, messages: AsyncGenerator[Message], subscriber: Subscriber) -> None:
    """Send until the client goes or the subscriber is ended. What the client says is read and not obeyed."""

    async def send() -> None:
        async with aclosing(messages):
            async for message in messages:
                try:
                    async with asyncio.timeout(SLOW_SECONDS):
                        await websocket.send({"type": "websocket.send", "text": message.text})
                except TimeoutError:
                    subscriber.end("slow")

    async def receive() -> None:
        while (message := await websocket.receive())["type"] != "websocket.disconnect":
            pass
        raise WebSocketDisconnect(message["code"], message.get("reason"))

    async def ended() -> None:
        await subscriber.over.wait()

    tasks = [asyncio.ensure_future(work()) for work in (send, receive, ended)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for task, result in zip(tasks, results, strict=True):
        if task in done and isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result


async def _messages(known: Caller, subscriber: Subscriber, position: datetime | None) -> AsyncGenerator[Message]:
    """What has been, as `_past` says; then what happens, and heartbeats while nothing does.

    When more happens at once than may wait, the client goes on from its last cursor as if it had come back.
    """
    async with known.api.changes.subscribe(subscriber):
        cursor = position
        while not subscriber.ended:
            if cursor is None or subscriber.behind:
                async with aclosing(_past(known, subscriber, cursor)) as past:
                    async for message in past:
                        cursor = message.cursor
                        yield message
                continue
            events = await subscriber.next(HEARTBEAT_SECONDS)
            for event in events:
                cursor = event.message.cursor
                yield event.message
            if not (events or subscriber.behind or subscriber.ended):
                cursor = max(cursor, subscriber.reached or cursor)
                yield write_message("heartbeat", cursor, at=datetime.now(UTC))


async def _past(known: Caller, subscriber: Subscriber, position: datetime | None) -> AsyncGenerator[Message]:
    """A snapshot; with a position, also each task that changed since then as it is now, and a heartbeat as the end."""
    changes = known.api.changes
    subscriber.catch_up()
    cursor = position or await changes.now()
    tasks = await _current(known, subscriber.wanted)
    for task in tasks[:SNAPSHOT_TASKS]:
        subscriber.seen(task)
    yield write_message("snapshot", cursor, tasks=tasks[:SNAPSHOT_TASKS], truncated=len(tasks) > SNAPSHOT_TASKS)
    if position is None:
        return
    for suggestion in filter(subscriber.wanted.reaches, await changes.suggestions(known.principal.tenant_id, position)):
        yield write_message("suggestion", cursor, suggestion=suggestion)
    async with aclosing(changes.since(known.principal.tenant_id, position)) as pages:
        async for missed, after in pages:
            for task in filter(subscriber.wanted.concerns, missed):  # in any state: it may have left the one asked for
                subscriber.seen(task)
                yield write_message("task", cursor, task=task)
            cursor = after
    yield write_message("heartbeat", cursor, at=datetime.now(UTC))


async def _current(known: Caller, wanted: Filter) -> list[TaskChange]:
    """What a snapshot shows: one task, those in a state, or the unfinished ones; one more than fits."""
    if wanted.task_id is not None:
        rows = await known.call("get_agent_task", id=str(wanted.task_id))
        return [task for row in rows if wanted.fits(task := TaskChange.model_validate(row))]
    tasks: dict[UUID, TaskChange] = {}  # by id, because a task may change its state between the two lists
    for state in [wanted.status] if wanted.status else ["in_progress", "pending"]:
        limit = SNAPSHOT_TASKS + 1 - len(tasks)
        rows = await known.call("list_agent_tasks", agent_id=wanted.agent_id, status=state, limit=limit)
        tasks |= {row["id"]: TaskChange.model_validate(row) for row in rows}
    return list(tasks.values())
