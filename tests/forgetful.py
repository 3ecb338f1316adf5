"""A network between a client and a PostgreSQL server that can refuse connections, or silently forget them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit


class Network:
    """Passes bytes on. What was forgotten stays open on both sides, and nothing arrives any more."""

    def __init__(self, url: str, port: int = 0) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        self._socket = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self._path = parts.path
        self._generation = 0
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.made = 0
        """How many connections were made."""
        self.forget_new = False
        """Whether connections are silent from their beginning."""

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}{self._path}?sslmode=disable"

    def forget(self) -> None:
        """From now on, all connections that exist are silent."""
        self._generation += 1

    async def open(self) -> None:
        """Accept connections."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Refuse connections, and break those that exist."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.made += 1
        generation = -1 if self.forget_new else self._generation
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self._socket)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass_on(reader, server_writer, generation))
                    group.create_task(self._pass_on(server_reader, writer, generation))
            finally:
                server_writer.close()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, generation: int) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                if generation == self._generation:
                    target.write(data)
                    await target.drain()
            if generation == self._generation:
                target.close()


@asynccontextmanager
async def network(url: str) -> AsyncIterator[Network]:
    """A network before the server of a database's URL."""
    made = Network(url)
    await made.open()
    try:
        yield made
    finally:
        await made.close()
