"""A server between the client and the project, which passes requests on or does to them what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass(frozen=True)
class Request:
    headers: Mapping[str, str]
    body: bytes

    @property
    def functions(self) -> list[str]:
        return [call["function"] for call in json.loads(self.body)["p_calls"]]


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    breaks_off: bool = False

    def encoded(self) -> bytes:
        headers = {"content-length": str(len(self.body)), **self.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status} Said\r\n{lines}\r\n".encode() + self.body


Treatment = Callable[["Gateway", Request], Awaitable[Answer | None]]
"""What becomes of a request; without an answer the connection is reset."""


class Gateway:
    """Counts what comes; `todo` is what becomes of the next requests, and `otherwise` of those after them."""

    def __init__(self, behind: str | None) -> None:
        self.todo: deque[Treatment] = deque()
        self.otherwise: Treatment = pass_on
        self.seen: list[Request] = []
        self.connections = 0
        self.open = 0
        self.url = ""
        self._behind = httpx.AsyncClient(base_url=behind or "http://nowhere.invalid", timeout=60)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def pass_on(self, request: Request) -> Answer:
        kept = ("apikey", "authorization", "content-type", "content-profile", "user-agent")
        headers = {name: value for name, value in request.headers.items() if name in kept}
        answer = await self._behind.post("/rest/v1/rpc/call_functions", content=request.body, headers=headers)
        return Answer(answer.status_code, answer.content, {"content-type": answer.headers.get("content-type", "")})

    def in_background(self, request: Request) -> None:
        """Pass it on whatever becomes of its connection."""
        task = asyncio.create_task(self.pass_on(request))
        self._tasks.add(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    request = await _read(reader)
                    self.seen.append(request)
                    treatment = self.todo.popleft() if self.todo else self.otherwise
                    answer = await treatment(self, request)
                    if answer is None:
                        writer.transport.abort()
                        return
                    writer.write(answer.encoded())
                    await writer.drain()
                    if answer.breaks_off:
                        return
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._behind.aclose()

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[Gateway]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            await self.close()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return Request(headers, await reader.readexactly(int(headers.get("content-length", 0))))


async def pass_on(gateway: Gateway, request: Request) -> Answer | None:
    return await gateway.pass_on(request)


async def drop(gateway: Gateway, request: Request) -> Answer | None:
    """Reset before the request has arrived."""
    return None


async def lose(gateway: Gateway, request: Request) -> Answer | None:
    """The request is carried out, and nobody learns of it."""
    await gateway.pass_on(request)
    return None


async def keep_silent(gateway: Gateway, request: Request) -> Answer | None:
    """The request is carried out, and the answer does not come within the time."""
    await gateway.pass_on(request)
    await asyncio.Event().wait()
    return None


async def cut_short(gateway: Gateway, request: Request) -> Answer | None:
    """The answer breaks off: the connection is closed after half of it."""
    answer = await gateway.pass_on(request)
    headers = {**answer.headers, "content-length": str(len(answer.body))}
    return Answer(200, answer.body[: len(answer.body) // 2], headers, breaks_off=True)


def say(status: int, body: Any = b"", **headers: str) -> Treatment:
    """Answer with this, whatever was asked; what is not bytes becomes JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "text/html" if isinstance(body, bytes) else "application/json"
    given = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}

    async def treatment(gateway: Gateway, request: Request) -> Answer | None:
        return Answer(status, content, given)

    return treatment


def said(function: str, **columns: tuple[str, Any]) -> list[dict[str, Any]]:
    """The JSON of call_functions for one call with one row: each column with its type and value."""
    return [
        {
            "columns": [[name, type_] for name, (type_, _) in columns.items()],
            "rows": [{name: value for name, (_, value) in columns.items()}],
        }
    ]
