"""Connections that send too much, too slowly or nothing, beside callers who are answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.api.conftest import Callers
from tests.conftest import Zora
from zora_core.api.connections import Limits
from zora_core.models import Role
from zora_core.server.serve import api_for, bind, serve, url_of

SMALL = Limits(head_seconds=0.5, body_seconds=0.5, idle_seconds=1, body_bytes=3_000_000, connections=50)
GET = b"GET /api/status HTTP/1.1\r\nhost: zora\r\n"


class Served:
    """A running server and connections to it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.open: list[asyncio.StreamWriter] = []

    async def connection(self, first: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.open.append(writer)
        writer.write(first)
        return reader, writer

    async def honest(self) -> float:
        """Seconds until an honest caller, on a connection of their own, has an answer."""
        started = time.monotonic()
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as http:
            answer = await http.get("/api/status", timeout=10)
        assert answer.status_code == 200, answer.text
        return time.monotonic() - started


@asynccontextmanager
async def serving(zora: Zora, limits: Limits) -> AsyncIterator[Served]:
    listener = bind("127.0.0.1", 0)
    async with api_for(zora.database, zora.settings, requests_per_minute=0) as api:
        running = asyncio.create_task(serve(api, listener, None, sleep_seconds=1, limits=limits))
        made = Served(url_of(listener))
        try:
            await made.honest()
            yield made
        finally:
            for writer in made.open:
                writer.close()
            api.changes.close()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            listener.close()


@pytest.fixture
async def served(zora: Zora) -> AsyncIterator[Served]:
    async with serving(zora, SMALL) as made:
        yield made


async def rest_of(reader: asyncio.StreamReader, seconds: float = 10) -> bytes:
    """Everything until the server closes the connection."""
    said = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(seconds):
            while chunk := await reader.read(65_536):
                said += chunk
    return said


async def until_reset(writer: asyncio.StreamWriter) -> None:
    """Send until it fails, for a client that does not read learns of a reset in no other way."""
    while True:
        writer.write(b"\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def dripped(served: Served, first: bytes, drop: bytes) -> bytes:
    """What is answered to a request of which a drop comes every few hundredths of a second."""
    reader, writer = await served.connection(first)
    said = asyncio.create_task(rest_of(reader))
    for _ in range(200):
        with contextlib.suppress(ConnectionError):
            writer.write(drop)
            await writer.drain()
        done, _ = await asyncio.wait([said], timeout=0.03)
        if done:
            return said.result()
    raise AssertionError("the connection stayed open")


async def test_a_huge_header_is_refused_before_it_is_stored(served: Served) -> None:
    reader, writer = await served.connection(GET + b"x-huge: ")
    sent = 0
    said = asyncio.create_task(rest_of(reader))
    with contextlib.suppress(ConnectionError):
        while sent < 200_000_000 and not said.done():
            writer.write(b"a" * 65_536)
            sent += 65_536
            await writer.drain()
            await asyncio.sleep(0)
    assert sent < 20_000_000
    assert await served.honest() < 2
    writer.close()
    await said


@pytest.mark.parametrize(
    "head",
    [
        GET + b"x-huge: " + b"a" * 70_000 + b"\r\n\r\n",
        GET + b"".join(b"x-%d: y\r\n" % number for number in range(3000)) + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: zora\r\n\r\n",
        GET + b"x-open: " + b"a" * 700_000,
    ],
    ids=["one header", "many headers", "the path", "no end"],
)
async def test_a_head_over_the_limit_is_answered_with_431(served: Served, head: bytes) -> None:
    reader, _ = await served.connection(head)
    said = await rest_of(reader)
    assert said.startswith(b"HTTP/1.1 431 "), said[:200]
    assert b"headers are larger than 65536 bytes" in said


async def test_a_head_within_the_limit_is_taken_in_pieces_of_any_size(served: Served) -> None:
    head = GET + b"x-large: " + b"a" * 30_000 + b"\r\nconnection: close\r\n\r\n"
    reader, writer = await served.connection()
    for start in range(0, len(head), 1000):
        writer.write(head[start : start + 1000])
        await writer.drain()
    assert (await rest_of(reader)).startswith(b"HTTP/1.1 200 ")


async def test_a_slow_head_ends_after_its_time(served: Served) -> None:
    said = await dripped(served, GET, b"x-a: b\r\n")
    assert said.startswith(b"HTTP/1.1 408 ")
    assert await served.honest() < 2


async def test_a_second_head_on_a_connection_has_its_own_time(served: Served) -> None:
    said = await dripped(served, GET + b"\r\n" + GET, b"x-a: b\r\n")
    assert said.startswith(b"HTTP/1.1 200 ")
    reader, writer = await served.connection(GET + b"\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.write(GET)
    assert b"HTTP/1.1 408 " in await rest_of(reader)


async def test_a_slow_body_ends_after_its_time(served: Served, callers: Callers) -> None:
    key = await callers.key(Role.FOUNDER)
    head = (
        b"POST /api/agents/tasks HTTP/1.1\r\nhost: zora\r\nauthorization: Bearer %s\r\n"
        b"content-type: application/json\r\ncontent-length: 100000\r\n\r\n{" % key.encode()
    )
    assert (await dripped(served, head, b" ")).startswith(b"HTTP/1.1 408 ")


async def test_an_endless_body_is_cut_off_whoever_sends_it(served: Served) -> None:
    head = b"POST /api/agents/tasks HTTP/1.1\r\nhost: zora\r\ntransfer-encoding: chunked\r\n\r\n"
    reader, writer = await served.connection(head)
    said = asyncio.create_task(rest_of(reader))
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 200_000_000 and not said.done():
            writer.write(b"10000\r\n" + b"a" * 65_536 + b"\r\n")
            sent += 65_536
            await writer.drain()
    assert sent < 30_000_000
    await said


async def test_an_idle_connection_is_closed_without_an_answer(served: Served) -> None:
    reader, _ = await served.connection()
    assert await rest_of(reader) == b""
    reader, _ = await served.connection(GET + b"\r\n")
    said = await rest_of(reader)
    assert said.count(b"HTTP/1.1 ") == 1


async def test_callers_are_answered_while_many_hold_connections_open(zora: Zora) -> None:
    patient = Limits(head_seconds=600, body_seconds=600, idle_seconds=600, connections=50)
    async with serving(zora, patient) as served:
        ends = set()
        for number in range(300):
            reader, _ = await served.connection(GET if number % 2 else b"")
            ends.add(asyncio.create_task(rest_of(reader, 60)))
            if number % 30 == 0:
                assert await served.honest() < 2
        assert await served.honest() < 2
        closed: set[asyncio.Task[bytes]] = set()
        while len(closed) < 250:  # the oldest gave their places to new ones
            done, ends = await asyncio.wait(ends, timeout=20, return_when=asyncio.FIRST_COMPLETED)
            assert done
            closed |= done
        assert all(said.result() == b"" for said in closed)
        for end in ends:
            end.cancel()


UNFINISHED = (
    b"POST /admin/sign-in HTTP/1.1\r\nhost: zora\r\n"
    b"content-type: application/x-www-form-urlencoded\r\ncontent-length: 500\r\n\r\n"
)
HANDSHAKE = (
    b"GET /api/agents/tasks/events HTTP/1.1\r\nhost: zora\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
UNREAD = b"GET /openapi.json HTTP/1.1\r\nhost: zora\r\n\r\n" * 30


@pytest.mark.parametrize(
    "sent",
    [UNFINISHED, GET + b"\r\n" + UNFINISHED, HANDSHAKE, UNREAD],
    ids=["no body", "no body after an answer", "no credential", "answers not read"],
)
async def test_clients_who_keep_the_server_waiting_give_way(
    zora: Zora, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    patient = Limits(head_seconds=600, body_seconds=600, idle_seconds=600, unread_seconds=600, connections=20)
    async with serving(zora, patient) as served:
        for _ in range(60):
            reader, _ = await served.connection(sent)
            if sent is UNREAD:
                await reader.read(1)  # the answer has begun, and asyncio stops reading at 128 kB
            elif sent is HANDSHAKE:
                await reader.readuntil(b"\r\n\r\n")
            assert await served.honest() < 5
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_client_who_reads_nothing_is_cut_off(zora: Zora) -> None:
    limits = Limits(head_seconds=600, body_seconds=600, idle_seconds=600, unread_seconds=0.2)
    async with serving(zora, limits) as served:
        reader, writer = await served.connection(UNREAD)
        await reader.read(1)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(until_reset(writer), 10)


async def test_connections_in_use_are_not_dropped_for_new_ones(zora: Zora, callers: Callers) -> None:
    patient = Limits(head_seconds=600, body_seconds=600, idle_seconds=600, connections=5)
    headers = {"Authorization": f"Bearer {await callers.key(Role.FOUNDER)}"}
    async with serving(zora, patient) as served, contextlib.AsyncExitStack() as stack:
        url = f"{served.url.replace('http', 'ws')}/api/agents/tasks/events"
        for _ in range(5):
            live = await stack.enter_async_context(connect(url, additional_headers=headers, proxy=None))
            await live.recv()
        reader, _ = await served.connection(GET + b"\r\n")
        assert (await rest_of(reader)).startswith(b"HTTP/1.1 503 ")


async def test_live_status_outlasts_every_limit_of_a_request(served: Served, callers: Callers) -> None:
    key = await callers.key(Role.FOUNDER)
    url = f"{served.url.replace('http', 'ws')}/api/agents/tasks/events"
    async with connect(url, additional_headers={"Authorization": f"Bearer {key}"}, proxy=None) as live:
        first = json.loads(await live.recv())
        reader, _ = await served.connection()
        await rest_of(reader)  # the limits of a head have passed
        reader, _ = await served.connection(GET + b"\r\n")
        await rest_of(reader)  # and those of an idle connection
        assert first
        await (await live.ping())


async def test_requests_that_are_sent_without_end_and_answers_not_read_are_refused(served: Served) -> None:
    """Each queued request takes memory, and all that came at once are parsed before anybody else is answered."""
    for _ in range(10):
        reader, _ = await served.connection(b"GET / HTTP/1.1\r\n\r\n" * 12_000)
        assert await served.honest() < 2
        with contextlib.suppress(ConnectionError):
            assert (await rest_of(reader)).count(b"HTTP/1.1 ") < 40
    assert await served.honest() < 2


async def test_a_few_requests_may_be_sent_before_their_answers_are_read(served: Served) -> None:
    reader, _ = await served.connection((GET + b"\r\n") * 30)
    assert (await rest_of(reader)).count(b"HTTP/1.1 200 ") == 30


async def test_a_refusal_is_not_written_into_an_answer_that_has_begun(zora: Zora) -> None:
    async with serving(zora, Limits(idle_seconds=1)) as served:
        reader, writer = await served.connection(UNREAD)
        said = await reader.read(1)  # it has begun, and waits for the client to read more
        writer.write((GET + b"\r\n") * 100)
        said += await rest_of(reader)
        assert b"HTTP/1.1 429" not in said.partition(b"\r\n\r\n")[2].partition(b"HTTP/1.1 200")[0]


@pytest.mark.parametrize(
    "beginning",
    [b"0\r\nx-a: ", b"0\r\n" + b"x-a: b\r\n" * 5, b"1;x=", b"1\r\na\r\n1;x=", b"1\r\na\r\n0\r\nx-a"],
    ids=["value", "several", "extension", "second extension", "name"],
)
@pytest.mark.parametrize("path", [b"/api/status", b"/admin/sign-in"])
async def test_what_surrounds_the_parts_of_a_body_is_as_small_as_a_head(
    zora: Zora, beginning: bytes, path: bytes
) -> None:
    head = b"POST %s HTTP/1.1\r\nhost: zora\r\ntransfer-encoding: chunked\r\n\r\n" % path
    async with serving(zora, Limits()) as served:
        reader, writer = await served.connection(head + beginning)
        said = asyncio.create_task(rest_of(reader))
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 40_000_000 and not said.done():
                writer.write(b"a" * 65_536)
                sent += 65_536
                await writer.drain()
                await asyncio.sleep(0)
        assert sent < 20_000_000
        assert await served.honest() < 2
        await said


async def test_trailers_within_the_limit_and_bodies_of_small_chunks_are_taken(served: Served, callers: Callers) -> None:
    key = await callers.key(Role.FOUNDER)
    body = json.dumps({"agent_id": "CONNOR", "task_type": "echo", "payload": {"x": "y" * 30_000}}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)  # 180 kB, of which 30 kB are the body
    head = (
        b"POST /api/agents/tasks HTTP/1.1\r\nhost: zora\r\nauthorization: Bearer %s\r\nconnection: close\r\n"
        b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n" % key.encode()
    )
    reader, _ = await served.connection(head + chunks + b"0\r\nx-sum: " + b"1" * 1000 + b"\r\n\r\n")
    said = await rest_of(reader)
    assert b"title: Field required" in said, said  # understood as a whole: the answer is about what the body says


async def test_pings_of_a_client_who_reads_no_answers_are_not_read_without_end(zora: Zora) -> None:
    patient = Limits(head_seconds=600, body_seconds=600, idle_seconds=600, unread_seconds=600)
    async with serving(zora, patient) as served:
        reader, writer = await served.connection(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        sent = 0
        ping = b"\x89\xfd\0\0\0\0" + b"a" * 125
        with contextlib.suppress(TimeoutError, ConnectionError):
            while sent < 100_000_000:
                writer.write(ping * 1000)
                sent += len(ping) * 1000
                await asyncio.wait_for(writer.drain(), 3)
        assert sent < 60_000_000
        assert await served.honest() < 2
        writer.transport.abort()  # closing would wait for the rest to be read


async def test_an_upgrade_behind_an_answer_that_is_not_read_is_refused(zora: Zora) -> None:
    async with serving(zora, Limits(unread_seconds=0.5)) as served:
        reader, _ = await served.connection(UNREAD + HANDSHAKE)
        await reader.read(1)
        assert b"HTTP/1.1 101" not in await rest_of(reader)
