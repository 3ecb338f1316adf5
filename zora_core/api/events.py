"""Live status: `WS /api/agents/tasks/events`, and the same as server-sent events over GET.

Messages are JSON objects with a `type`: `snapshot` (the unfinished tasks, first), `task` (one changed), `heartbeat`.
Each carries a `cursor`; connecting again with `since=<cursor>` goes on from there, and no final state is missed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, WebSocket
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocketDisconnect

from zora_core.api.access import Caller, bearer, caller, needs
from zora_core.api.answers import read_cursor, write_cursor
from zora_core.api.changes import Filter, Subscriber, TaskChange, task_event
from zora_core.api.errors import RateLimited, Unauthorized, ValidationFailed, answer_for, validation_failed
from zora_core.api.tasks import AnyCaseAgent, Status
from zora_core.errors import NotFound, ZoraError
from zora_core.models import Role

router = APIRouter(prefix="/api/agents/tasks", tags=["live status"])

HEARTBEAT_SECONDS = 15.0
AUTHENTICATION_SECONDS = 10.0
SNAPSHOT_TASKS = 200
CLOSE_SECONDS = 10.0  # for which a client that fell behind may still fetch the code of why it was dropped

# Codes with which a WebSocket is closed, from the range left to applications; see docs/api.md.
BAD_REQUEST, UNAUTHORIZED, TOO_SLOW, RATE_LIMITED, GOING_AWAY, TRY_AGAIN = 4400, 4401, 4408, 4429, 1012, 1013
_ENDED = {
    "slow": (TOO_SLOW, "too slow: connect again with since=<your last cursor>"),
    "credential": (UNAUTHORIZED, "the credential was revoked, has expired, or its role has changed"),
    "shutdown": (GOING_AWAY, "the server is shutting down: connect again"),
}


_agent = TypeAdapter(AnyCaseAgent | None)
_status = TypeAdapter(Status | None)
_task_id = TypeAdapter(UUID | None)


def _wanted(parameters: Any) -> tuple[Filter, datetime | None]:
    """The filter and the cursor in a WebSocket's query, which the framework does not validate into our envelope."""
    known = ("agent_id", "status", "id", "since")
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise ValidationFailed(f"unknown parameter {unknown[0]!r} (known: {', '.join(known)})")
    try:
        wanted = Filter(
            agent_id=_agent.validate_python(parameters.get("agent_id")),
            status=_status.validate_python(parameters.get("status")),
            task_id=_task_id.validate_python(parameters.get("id")),
        )
    except ValidationError as error:
        raise validation_failed(error.errors(include_url=False, include_input=False, include_context=False)) from None
    return wanted, _position(parameters.get("since"))


def _position(since: str | None) -> datetime | None:
    return read_cursor(since, datetime)[0] if since else None


@router.get(
    "/events",
    name="task_events",
    response_class=StreamingResponse,
    responses={200: {"description": "The stream.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def server_sent_events(
    request: Request,
    caller: Annotated[Caller, needs(Role.VIEWER)],
    agent_id: Annotated[AnyCaseAgent | None, Query(description="Only this agent's.")] = None,
    status: Annotated[Status | None, Query(description="Only in this state, and when they leave it.")] = None,
    id: Annotated[UUID | None, Query(description="Only this task.")] = None,
    since: Annotated[str | None, Query(max_length=200, description="Go on from this cursor.")] = None,
    last_event_id: Annotated[str | None, Header(description="The same, as browsers send it.")] = None,
) -> Response:
    """The events of the WebSocket of this path as a stream of server-sent events, for clients without WebSocket.

    `event` is the message's type, `data` the message, `id` its cursor.
    """
    position = _position(since or last_event_id)
    subscriber = Subscriber(caller.principal, Filter(agent_id, status, id))

    async def stream() -> AsyncIterator[bytes]:
        async with aclosing(_messages(caller, subscriber, position)) as messages:
            async for message in messages:
                yield _as_sse(message)

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def _as_sse(message: str) -> bytes:
    """A message as an event; JSON has no line breaks of its own."""
    head = from_json(message)
    return f"event: {head['type']}\nid: {head['cursor']}\ndata: {message}\n\n".encode()


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
        await _serve(websocket, known, subscriber, position)
        code, reason = _ENDED.get(subscriber.ended or "", (1000, ""))
    except (Unauthorized, ValidationFailed, RateLimited) as error:
        codes = {Unauthorized: UNAUTHORIZED, ValidationFailed: BAD_REQUEST, RateLimited: RATE_LIMITED}
        code, reason = codes[type(error)], str(error)
    except NotFound as error:
        code, reason = BAD_REQUEST, str(error)
    except ZoraError:
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


async def _serve(websocket: WebSocket, known: Caller, subscriber: Subscriber, position: datetime | None) -> None:
    """Send until the client goes or the subscriber is ended. What the client says is read and not obeyed."""

    async def send() -> None:
        async with aclosing(_messages(known, subscriber, position)) as messages:
            async for message in messages:
                await websocket.send({"type": "websocket.send", "text": message})

    async def receive() -> None:
        while True:
            await websocket.receive_text()

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


async def _messages(known: Caller, subscriber: Subscriber, position: datetime | None) -> AsyncGenerator[str]:
    """A snapshot, or what was missed since `position`; then what happens, and heartbeats while nothing does.

    Most of what was missed is sent before subscribing, because events must not pile up meanwhile; what happened during
    that is read once more.
    """
    changes = known.api.changes
    wanted = replace(subscriber.wanted, status=None)  # a client must learn that a task left the state it asked for
    if position is not None:
        async for missed, after in changes.since(known.principal.tenant_id, position):
            for task in filter(wanted.fits, missed):
                yield task_event(task, position).text
            position = after
    async with changes.subscribe(subscriber):
        if position is None:
            cursor = await changes.now()
            tasks = await _current(known, subscriber.wanted)
            shown, truncated = tasks[:SNAPSHOT_TASKS], len(tasks) > SNAPSHOT_TASKS
            yield _message("snapshot", cursor, tasks=shown, truncated=truncated)
            for task in shown:
                subscriber.seen(task)
        else:
            cursor = position
            async for missed, after in changes.since(known.principal.tenant_id, position):
                for task in filter(wanted.fits, missed):
                    subscriber.seen(task)
                    yield task_event(task, cursor).text
                cursor = after
            yield _message("heartbeat", cursor, at=datetime.now(UTC))
        while not subscriber.ended:
            events = await subscriber.next(HEARTBEAT_SECONDS)
            for event in events:
                cursor = event.cursor
                yield event.text
            if not events and not subscriber.ended:
                yield _message("heartbeat", cursor, at=datetime.now(UTC))


def _message(kind: str, cursor: datetime, **fields: Any) -> str:
    return to_json({"type": kind, "cursor": write_cursor(cursor), **fields}).decode()


async def _current(known: Caller, wanted: Filter) -> list[TaskChange]:
    """What a snapshot shows: one task, those in a state, or the unfinished ones; one more than fits."""
    if wanted.task_id is not None:
        rows = await known.call("get_agent_task", id=str(wanted.task_id))
        return [task for row in rows if wanted.fits(task := TaskChange.model_validate(row))]
    states = [wanted.status] if wanted.status else ["in_progress", "pending"]
    tasks: list[TaskChange] = []
    for state in states:
        rows = await known.call(
            "list_agent_tasks", agent_id=wanted.agent_id, status=state, limit=SNAPSHOT_TASKS + 1 - len(tasks)
        )
        tasks += [TaskChange.model_validate(row) for row in rows]
    return tasks
