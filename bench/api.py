"""How fast the API is, each figure as a ratio to something simpler that runs beside it, in turns.

    python bench/api.py [create] [bulk] [list] [watch] [settle] [--smoke] [--clients 1000] [--rate 2] …

Starts a PostgreSQL of its own (embedded, its default settings) and ends it; each part has databases of its own in it,
and servers in processes of their own: `zora serve --no-worker` as a user starts it, but without a rate limit. All run
unless some are named. What is measured, and against what:

- create: tasks created one by one over kept-alive connections, beside `--backlog` others. Against a bare FastAPI route,
  without credentials, checks, journal or notification, that inserts a row into a table with the same columns, rows,
  primary key and list index from asyncpg's pool. With the line per request that `zora serve` logs by default, with
  --quiet, and with an idempotency key for each task.
- bulk: 1,000 tasks in one request. Against the SQL function called from this process with the same tasks.
- list: a page of 50 out of `--tasks` tasks. Against the same request out of 1,000, in another database; where so few
  have fewer rows to show, against the first page of all.
- watch: from before the statement that changes a task is sent until its message is at each of `--clients` WebSockets.
- settle: tasks claimed and settled per second as in drain.py. While nobody watches; with a watcher and a listener; and
  with a server and one WebSocket, which takes its share of the processors for reading what changed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import random
import re
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import asyncpg
import uvicorn
import uvloop
from drain import checkpoint, drain_functions, enqueue
from fastapi import FastAPI
from pydantic import BaseModel
from pydantic_core import from_json, to_json
from serving import Contenders, Server, database_for, founder_key, in_turns, load, report, zora_server

from zora_core.api.answers import write_cursor
from zora_core.database.database import Database
from zora_core.database.embedded import EmbeddedServer
from zora_core.database.postgres import connect
from zora_core.models import AgentId
from zora_core.server.serve import bind
from zora_core.settings import DEFAULT_TENANT_ID

processes = multiprocessing.get_context("spawn")

TASK: dict[str, Any] = {
    "agent_id": "EIVOR",
    "task_type": "summarize_recent_events",
    "title": "What happened in the last days",
    "description": "For the meeting on Monday.",
    "payload": {"days": 7, "extra_instructions": "Begin with what needs a decision."},
    "priority": 1,
}

BARE_TABLE = """
create table bare_tasks as select * from agent_tasks;
alter table bare_tasks add primary key (id), alter id set default uuidv7(), alter status set default 'pending',
    alter created_at set default now();
create index on bare_tasks (tenant_id, priority desc, created_at, id);
"""
BARE_INSERT = """
insert into bare_tasks (tenant_id, agent_id, task_type, title, description, payload, priority)
values ($1, $2, $3, $4, $5, $6, $7) returning id, status::text, created_at
"""


class BareTask(BaseModel):
    """What a person would write first."""

    agent_id: AgentId
    task_type: str
    title: str
    description: str | None = None
    payload: dict[str, Any] = {}
    priority: int = 0


def serve_bare(url: str, told: Connection) -> None:
    """Serve one route that does one INSERT, with the settings of `zora_core.server.serve.serve`."""
    pool: asyncpg.Pool | None = None

    @asynccontextmanager
    async def opened(_: FastAPI) -> AsyncIterator[None]:
        nonlocal pool
        async with asyncpg.create_pool(url, min_size=8, max_size=8) as pool:
            yield

    app = FastAPI(lifespan=opened, docs_url=None, redoc_url=None)

    @app.post("/api/agents/tasks", status_code=201)
    async def create(task: BareTask) -> dict[str, Any]:
        assert pool is not None
        row = await pool.fetchrow(
            BARE_INSERT,
            DEFAULT_TENANT_ID,
            task.agent_id,
            task.task_type,
            task.title,
            task.description,
            json.dumps(task.payload),
            task.priority,
        )
        return {**task.model_dump(), **row}

    with bind("127.0.0.1", 0) as listener:
        told.send(listener.getsockname()[1])
        config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, proxy_headers=False)
        uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def bare_server(url: str) -> Iterator[Server]:
    """The bare route in a process of its own."""
    ours, theirs = processes.Pipe()
    process = processes.Process(target=serve_bare, args=(url, theirs))
    process.start()
    try:
        yield Server(ours.recv(), "")
    finally:
        process.terminate()
        process.join()


class Client(asyncio.Protocol):
    """One kept-alive connection, one request at a time, as little as can be: it must not be what is measured."""

    def __init__(self, key: str) -> None:
        """Authenticate with `key`."""
        self._key = key
        self._received = bytearray()
        self._length = 0
        self._answer: asyncio.Future[None]
        self._transport: asyncio.Transport

    @classmethod
    async def open(cls, server: Server) -> Client:
        """A connection to a server."""
        _, client = await asyncio.get_running_loop().create_connection(
            lambda: cls(server.key), "127.0.0.1", server.port
        )
        return client

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Wait until the whole body is there."""
        self._received += data
        if not self._length and (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = re.search(rb"content-length: *(\d+)", self._received[:end], re.IGNORECASE)
            assert length, bytes(self._received)
            self._length = end + 4 + int(length[1])
        if self._length and len(self._received) >= self._length:
            self._answer.set_result(None)

    async def send(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The body of the answer, which must be a success."""
        self._received.clear()
        self._length = 0
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await self._answer
        assert self._received.startswith(b"HTTP/1.1 2"), bytes(self._received[:2000])
        return bytes(self._received[self._received.find(b"\r\n\r\n") + 4 :])

    def close(self) -> None:
        """Hang up."""
        self._transport.close()


async def create(arguments: argparse.Namespace, url: str) -> None:
    """Tasks created one by one."""
    url = await database_for(url, "created")
    await load(url, arguments.backlog)
    connection = await asyncpg.connect(url)
    await connection.execute(BARE_TABLE)
    await connection.execute("vacuum analyze")
    await connection.close()

    async def rate(server: Server, connections: int, keyed: bool) -> float:
        async def work(client: Client) -> None:
            for _ in range(arguments.creates // connections):
                task = {**TASK, "idempotency_key": str(uuid4())} if keyed else TASK
                await client.send("POST", "/api/agents/tasks", to_json(task))

        # New ones in every round, because a server hangs up on those that are idle for five seconds.
        clients = [await Client.open(server) for _ in range(connections)]
        started = time.perf_counter()
        await asyncio.gather(*(work(client) for client in clients))
        seconds = time.perf_counter() - started
        for client in clients:
            client.close()
        return float(arguments.creates // connections * connections / seconds)

    key = await founder_key(url)
    with bare_server(url) as bare, zora_server(url, key) as logging, zora_server(url, key, "--quiet") as quiet:
        for connections in arguments.connections:
            contenders: Contenders = {
                "bare route": partial(rate, bare, connections, keyed=False),
                "zora": partial(rate, logging, connections, keyed=False),
                "zora --quiet": partial(rate, quiet, connections, keyed=False),
                "zora, with keys": partial(rate, logging, connections, keyed=True),
            }
            for contender in contenders.values():
                await contender()  # so that connections to the database are open and statements prepared
            print(f"create  over {connections} connection{'s' if connections > 1 else ''}")
            report("create", await in_turns(arguments.rounds, contenders), "tasks/s")


async def bulk(arguments: argparse.Namespace, url: str) -> None:
    """1,000 tasks in one request."""
    url = await database_for(url, "bulk")
    tasks = [{**TASK, "title": f"What happened in week {n}"} for n in range(1000)]
    body = to_json({"tasks": tasks})
    database = await connect(url)
    (founder,) = await database.call("ensure_founder", tenant_id=DEFAULT_TENANT_ID)

    async def function() -> float:
        started = time.perf_counter()
        for _ in range(arguments.bulks):
            rows = await database.call(
                "create_agent_tasks", tenant_id=DEFAULT_TENANT_ID, tasks=tasks, created_by=founder["id"]
            )
            assert len(rows) == len(tasks)
        return float(arguments.bulks * len(tasks) / (time.perf_counter() - started))

    with zora_server(url, await founder_key(url)) as server:

        async def request() -> float:
            client = await Client.open(server)
            started = time.perf_counter()
            for _ in range(arguments.bulks):
                await client.send("POST", "/api/agents/tasks/bulk", body)
            seconds = time.perf_counter() - started
            client.close()
            return float(arguments.bulks * len(tasks) / seconds)

        await function(), await request()
        report("bulk", await in_turns(arguments.rounds, {"function": function, "zora": request}), "tasks/s")
    await database.close()


FILTERS: list[dict[str, str]] = [
    {},
    *({"status": status} for status in ("pending", "in_progress", "completed", "failed")),
    {"agent_id": "SAM"},
    {"task_type": "research_topic"},
    {"agent_id": "SAM", "status": "completed"},
    {"agent_id": "SAM", "status": "failed"},
    {"agent_id": "CONNOR", "status": "in_progress"},
    {"task_type": "plan_workflow", "status": "failed"},
    {"agent_id": "EIVOR", "task_type": "memory_cleanup", "status": "pending"},
    {"agent_id": "SAM", "task_type": "research_topic"},
]

PAGE = 50


async def list_paths(url: str) -> dict[tuple[str, str], str]:
    """Every filter on its first, middle and last page, and at an offset; cursors are read, not walked to."""
    connection = await asyncpg.connect(url)
    paths = {}
    for filters in FILTERS:
        name = " ".join(filters.values()) or "everything"
        where = "tenant_id = $1" + "".join(f" and {column} = '{value}'" for column, value in filters.items())
        total = await connection.fetchval(f"select count(*) from agent_tasks where {where}", DEFAULT_TENANT_ID)
        for place, position in {"first": 0, "middle": total // 2, "last": max(total - PAGE, 0)}.items():
            query: dict[str, Any] = {**filters, "limit": PAGE}
            if position:
                row = await connection.fetchrow(
                    f"select priority, created_at, id from agent_tasks where {where} "
                    f"order by priority desc, created_at, id offset {position - 1} limit 1",
                    DEFAULT_TENANT_ID,
                )
                query["cursor"] = write_cursor(row["priority"], row["created_at"], row["id"])
            paths[name, place] = f"/api/agents/tasks?{urlencode(query)}"
        # Half as far where there are not so many.
        query = {**filters, "limit": PAGE, "offset": min(10_000, total // 2)}
        paths[name, "offset"] = f"/api/agents/tasks?{urlencode(query)}"
    await connection.close()
    return paths


async def lists(arguments: argparse.Namespace, url: str) -> None:
    """A page of many against a page of few."""
    urls = {}
    for name, tasks in {"few": 1000, "many": arguments.tasks}.items():
        urls[name] = await database_for(url, name)
        started = time.perf_counter()
        await load(urls[name], tasks)
        print(f"list    {tasks:,} tasks loaded in {time.perf_counter() - started:.0f} s")
    await checkpoint(url)
    keys = {name: await founder_key(url) for name, url in urls.items()}
    paths_of_few, paths_of_many = [await list_paths(url) for url in urls.values()]
    ratios = {}
    with zora_server(urls["few"], keys["few"]) as few, zora_server(urls["many"], keys["many"]) as many:
        clients = [await Client.open(few), await Client.open(many)]

        async def rows(side: int, path: str) -> int:
            return len(from_json(await clients[side].send("GET", path))["data"])

        for (name, place), path in paths_of_many.items():
            paths = [paths_of_few[name, place], path]
            shown = [await rows(side, paths[side]) for side in (0, 1)]
            if shown[0] < shown[1]:
                paths[0] = paths_of_few["everything", "first"]
                shown[0] = await rows(0, paths[0])
            times: tuple[list[float], list[float]] = ([], [])
            for turn in range(arguments.requests):
                for side in (0, 1) if turn % 2 else (1, 0):
                    started = time.perf_counter()
                    await clients[side].send("GET", paths[side])
                    times[side].append(1000 * (time.perf_counter() - started))
            less, more = (statistics.median(side) for side in times)
            ratios[name, place] = more / less
            print(
                f"list    {name:28} {place:7} {more:6.2f} ms against {less:6.2f} ms "
                f"({shown[1]:2} and {shown[0]:2} rows)  {more / less:.2f}"
            )
    worst = max(ratios, key=lambda request: ratios[request])
    print(f"list    worst of {len(ratios)}: {ratios[worst]:.2f} ({', '.join(worst)})")


class Watcher(asyncio.Protocol):
    """A WebSocket that notes when the message of each state of each task came."""

    def __init__(self, key: str, came: dict[tuple[str, str], list[float]]) -> None:
        """Authenticate with `key`, note in `came`."""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._key = key
        self._came = came
        self._received = b""
        self._upgraded = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask for a WebSocket."""
        self._transport = transport
        transport.write(
            "GET /api/agents/tasks/events HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {self._key}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Take the frames apart: a server's are not masked, and ours are never in pieces."""
        now = time.monotonic()
        received = self._received + data
        if not self._upgraded:
            head, found, rest = received.partition(b"\r\n\r\n")
            if found:
                assert head.startswith(b"HTTP/1.1 101"), head
                self._upgraded, received = True, rest
        position = 0
        while self._upgraded and len(received) >= position + 2:
            start, length = position + 2, received[position + 1]
            if length > 125:
                size = 2 if length == 126 else 8
                start, length = start + size, int.from_bytes(received[start : start + size], "big")
            if len(received) < start + length:
                break
            self._take(received[position] & 15, received[start : start + length], now)
            position = start + length
        self._received = received[position:]

    def _take(self, kind: int, content: bytes, now: float) -> None:
        if kind == 9:  # a ping: without an answer the server hangs up
            self._transport.write(bytes([0x8A, 0x80 | len(content)]) + bytes(4) + content)
        elif kind == 8:
            raise AssertionError(f"closed: {content!r}")
        else:
            message = from_json(content)
            if message["type"] == "snapshot":
                self.ready.set_result(None)
            elif message["type"] == "task":
                self._came[message["task"]["id"], message["task"]["status"]].append(now)


def watch_as_clients(server: Server, clients: int, told: Connection) -> None:
    """Watch until told to stop, and tell when what came."""

    async def work() -> None:
        came: dict[tuple[str, str], list[float]] = defaultdict(list)
        loop = asyncio.get_running_loop()
        at_once = asyncio.Semaphore(20)

        async def open_one() -> None:
            async with at_once:
                _, watcher = await loop.create_connection(lambda: Watcher(server.key, came), "127.0.0.1", server.port)
                await watcher.ready

        await asyncio.gather(*(open_one() for _ in range(clients)))
        told.send("ready")
        await asyncio.to_thread(told.recv)
        told.send(dict(came))

    uvloop.run(work())


@asynccontextmanager
async def watching(server: Server, clients: int) -> AsyncIterator[list[Connection]]:
    """WebSockets in up to two processes; their ends of a pipe answer anything with what came."""
    pipes, started = [], []
    for share in (clients // 2, clients - clients // 2):
        if share:
            ours, theirs = processes.Pipe()
            started.append(processes.Process(target=watch_as_clients, args=(server, share, theirs)))
            started[-1].start()
            pipes.append(ours)
    for pipe in pipes:
        await asyncio.to_thread(pipe.recv)
    try:
        yield pipes
    finally:
        for process in started:
            process.kill()
            process.join()


def change_tasks(url: str, rate: float, seconds: float, told: Connection) -> None:
    """Create, claim and settle a task `rate` times a second, evenly spread, and tell when each statement was sent."""

    async def work() -> None:
        database = await connect(url)
        sent: dict[tuple[str, str], float] = {}
        pause = 1 / rate / 3
        due = time.monotonic()

        async def wait() -> float:
            nonlocal due
            due += pause * random.uniform(0.7, 1.3)  # so that it does not beat with the reader's own pauses
            await asyncio.sleep(max(due - time.monotonic(), 0))
            return time.monotonic()

        for _ in range(round(rate * seconds)):
            at = await wait()
            (task,) = await database.call("create_agent_tasks", tenant_id=DEFAULT_TENANT_ID, tasks=[TASK])
            sent[str(task["id"]), "pending"] = at
            at = await wait()
            (claimed,) = await database.call("claim_agent_tasks", tenant_id=DEFAULT_TENANT_ID, worker_id="bench")
            assert claimed["id"] == task["id"]
            sent[str(task["id"]), "in_progress"] = at
            at = await wait()
            await database.call(
                "settle_agent_tasks",
                ids=[task["id"]],
                lease_tokens=[claimed["lease_token"]],
                outcomes=["completed"],
                summaries=["did nothing"],
                results=[{"ok": 1}],
                errors=[],
                failure_kinds=[],
                delays=[],
            )
            sent[str(task["id"]), "completed"] = at
        await database.close()
        told.send(sent)

    uvloop.run(work())


async def watch(arguments: argparse.Namespace, url: str) -> None:
    """From the change to the message at every client."""
    url = await database_for(url, "watched")
    with zora_server(url, await founder_key(url)) as server:
        async with watching(server, arguments.clients) as clients:
            ours, theirs = processes.Pipe()
            writer = processes.Process(target=change_tasks, args=(url, arguments.rate, arguments.seconds, theirs))
            writer.start()
            sent = await asyncio.to_thread(ours.recv)
            await asyncio.sleep(2)
            delays = []
            for pipe in clients:
                pipe.send("stop")
                for change, came in (await asyncio.to_thread(pipe.recv)).items():
                    delays += [1000 * (at - sent[change]) for at in came]
            writer.join()
    steps = statistics.quantiles(delays, n=100)
    print(
        f"watch   {arguments.clients:,} WebSockets, {3 * arguments.rate:g} changes/s: {len(delays):,} of "
        f"{len(sent) * arguments.clients:,} messages came, p50 {steps[49]:.0f} ms, p95 {steps[94]:.0f} ms, "
        f"max {max(delays):.0f} ms"
    )


async def settle(arguments: argparse.Namespace, url: str) -> None:
    """The drain rate, with and without somebody who watches."""
    url = await database_for(url, "settled")
    database = await connect(url)

    async def drain(database: Database) -> float:
        await checkpoint(url)
        await enqueue(url, arguments.drained)
        return await drain_functions(database, arguments.drained)

    async def forget() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("delete from agent_task_watchers")
        await connection.close()

    async def alone() -> float:
        return await drain(database)

    async def listened() -> float:
        await database.call("watch_agent_tasks", tenant_id=DEFAULT_TENANT_ID, watcher_id=uuid4(), seconds=3600.0)
        heard: list[str] = []
        async with database.listening("agent_task_changes", heard.append):
            rate = await drain(database)
        assert heard
        await forget()
        return rate

    with zora_server(url, await founder_key(url)) as server:

        async def served() -> float:
            async with watching(server, 1):
                rate = await drain(database)
            await forget()
            return rate

        await alone()
        contenders: Contenders = {
            "nobody watches": alone,
            "watcher and listener": listened,
            "server and WebSocket": served,
        }
        report("settle", await in_turns(arguments.rounds, contenders), "tasks/s")
    await database.close()


PARTS: dict[str, Callable[[argparse.Namespace, str], Coroutine[Any, Any, None]]] = {
    "create": create,
    "bulk": bulk,
    "list": lists,
    "watch": watch,
    "settle": settle,
}


async def main(arguments: argparse.Namespace, url: str) -> None:
    """Run the parts, one after the other."""
    for name in arguments.parts or PARTS:
        await PARTS[name](arguments, url)


SMOKE = {
    "rounds": 1,
    "creates": 40,
    "backlog": 1000,
    "bulks": 1,
    "tasks": 20_000,
    "requests": 3,
    "clients": 20,
    "seconds": 3,
    "drained": 400,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--smoke", action="store_true", help="small sizes: whether it runs, not how fast")
    parser.add_argument("--rounds", type=int, default=7, help="of create, bulk and settle")
    parser.add_argument("--creates", type=int, default=1000, help="requests per round of create")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 4], help="of create, one after the other")
    parser.add_argument("--backlog", type=int, default=100_000, help="tasks that create finds there")
    parser.add_argument("--bulks", type=int, default=5, help="requests per round of bulk")
    parser.add_argument("--tasks", type=int, default=1_000_000, help="of list")
    parser.add_argument("--requests", type=int, default=60, help="per page of list")
    parser.add_argument("--clients", type=int, default=1000, help="of watch")
    parser.add_argument("--rate", type=float, default=2, help="tasks a second of watch, each with three changes")
    parser.add_argument("--seconds", type=float, default=20, help="of watch")
    parser.add_argument("--drained", type=int, default=10_000, help="tasks per round of settle")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown part {min(unknown)!r} (known: {', '.join(PARTS)})")
    if arguments.smoke:
        vars(arguments).update(SMOKE)
    # A WebSocket is a file for the server.
    with contextlib.suppress(ValueError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536) if hard > 0 else 65_536, hard))
    with tempfile.TemporaryDirectory(prefix="zora-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedServer.at(Path(folder) / "home")
        try:
            uvloop.run(main(arguments, server.start()))
        finally:
            server.release()
