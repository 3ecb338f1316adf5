"""`zora serve` as people run it: in processes that are started, stopped and killed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.api.test_events import PATH, Client, Events
from tests.autonomy.test_runtime import until
from tests.conftest import Zora
from zora_core.api.keys import new_key
from zora_core.database.embedded import EmbeddedServer

SERVE = [sys.executable, "-m", "zora_core.cli", "serve"]
LISTENING = (
    "select query from pg_stat_activity where datname = current_database() and application_name = 'zora' "
    "and query like 'LISTEN%'"
)


def environment(**variables: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZORA_", "SUPABASE_", "DATABASE_URL"))}
    return {**kept, "ZORA_ALLOW_PRIVATE_ADDRESSES": "1", **variables}


class Serving:
    """A running `zora serve`, what it said, and clients of it."""

    def __init__(self, process: asyncio.subprocess.Process, env: dict[str, str], token: str | None) -> None:
        self.process = process
        self.link = ""
        self._env = env
        self.said: list[str] = []
        self._token = token
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr
        async for line in self.process.stderr:
            self.said.append(line.decode())

    @property
    def url(self) -> str:
        found = (line.split()[5] for line in self.said if line.startswith("The admin pages are at "))
        return next(found, "").removesuffix("/admin,")

    async def sign_in(self) -> None:
        """Use a link: the session is a credential like any other."""
        command = [sys.executable, "-m", "zora_core.cli", "keys", "link", "--url", self.url, "--json"]
        made = await asyncio.create_subprocess_exec(*command, env=self._env, stdout=subprocess.PIPE)
        self.link = json.loads((await made.communicate())[0])["link"]
        assert self.link.startswith(f"{self.url}/admin/sign-in?link=")
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as http:
            link = self.link.partition("link=")[2]
            answer = await http.post("/admin/sign-in", data={"link": link}, headers={"Origin": self.url})
            assert answer.status_code == 303
            self._token = http.cookies["zora_session"]

    @property
    def token(self) -> str:
        assert self._token is not None, "sign in first"
        return self._token

    def http(self, token: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=30)

    @asynccontextmanager
    async def watch(self, since: str | None = None) -> AsyncIterator[Client]:
        address = self.url.replace("http", "ws") + PATH + (f"?since={since}" if since else "")
        headers = {"Authorization": f"Bearer {self.token}"}
        async with connect(address, additional_headers=headers, proxy=None, close_timeout=1) as connection:
            client = Client(connection)
            assert (await client.next())["type"] == "snapshot"
            yield client

    async def ended(self) -> int:
        """The exit status."""
        async with asyncio.timeout(20):
            await self._reading
            return await self.process.wait()


@asynccontextmanager
async def serving(env: dict[str, str], *arguments: str, token: str | None = None) -> AsyncIterator[Serving]:
    """A server that answers."""
    process = await asyncio.create_subprocess_exec(
        *SERVE, "--port=0", *arguments, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    made = Serving(process, env, token)
    try:
        await until(lambda: made.url or made.process.returncode is not None, 60)
        assert made.process.returncode is None, made.said
        async with made.http("none") as http:
            assert (await http.get("/api/status")).status_code == 200
        if token is None:
            await made.sign_in()
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await made.ended()


async def created(env: dict[str, str]) -> UUID:
    """A task made by `zora create-task` in a process of its own."""
    command = [sys.executable, "-m", "zora_core.cli", "create-task", *SUMMARY, "What happened", "--json"]
    process = await asyncio.create_subprocess_exec(*command, env=env, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    return UUID(json.loads(said)["id"])


@pytest.fixture(scope="module")
def home(short_tmp: Path) -> Iterator[dict[str, str]]:
    """An environment with an embedded database that only the processes of these tests use."""
    yield environment(ZORA_HOME=str(short_tmp / "serve"))
    EmbeddedServer.at(short_tmp / "serve").stop(force=True)


@pytest.fixture
async def key(zora: Zora) -> str:
    (user,) = await zora.call("ensure_user", tenant_id=zora.tenant_id, email="ada@example.org", role="viewer")
    made = new_key()
    await zora.call(
        "create_api_key", tenant_id=zora.tenant_id, user_id=user["id"], name="k", prefix=made.prefix, hash=made.hash
    )
    return made.key


class Page:
    """A page that answers only when the test releases it."""

    def __init__(self) -> None:
        self.read = asyncio.Event()
        self.released = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.read.set()
        await self.released.wait()
        body = "<html lang='en'><title>A page</title><h1>A page</h1><p>With a text.</p></html>"
        with contextlib.suppress(ConnectionError):  # of a process that was killed
            writer.write(
                f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            await writer.drain()
        writer.close()


@asynccontextmanager
async def page() -> AsyncIterator[tuple[Page, tuple[str, str, dict[str, str]]]]:
    """Such a page, and a task that reads it."""
    made = Page()
    async with await asyncio.start_server(made.answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        try:
            yield made, ("LUMINA", "plan_frontend_improvements", {"url": url})
        finally:
            made.released.set()


SUMMARY = ("EIVOR", "summarize_recent_events")
ALL_STATES = ["pending", "in_progress", "completed"]


def progress_aside(states: list[str]) -> list[str]:
    return [state for state, _ in itertools.groupby(states)]


async def test_a_task_of_another_process_is_seen_from_pending_to_completed(home: dict[str, str]) -> None:
    async with serving(home) as first, first.watch() as client, first.http() as http:
        assert (await http.get("/api/agents/tasks")).status_code == 200
        async with http.stream("GET", PATH) as response:
            stream = Events(response)
            task_id = await created(home)
            await client.state(task_id, "completed")
            assert progress_aside(client.states(task_id)) == ALL_STATES
            await stream.until(lambda m: m["type"] == "task" and m["task"]["status"] == "completed")

            first.process.terminate()
            assert (await client.closed())[0] == 1012
            assert await stream.next() is None
        assert await first.ended() == 0
        assert not [line for line in first.said if line.startswith(("ERROR", "Traceback", "Exception"))]
    async with serving(home, "--no-worker") as second, second.http(first.token) as http:
        assert (await http.get("/api/agents/tasks")).status_code == 200, "a session outlives the process it began with"
        again = {"link": first.link.partition("link=")[2]}
        assert (await http.post("/admin/sign-in", data=again, headers={"Origin": second.url})).status_code == 401


async def test_clients_stay_while_the_database_is_killed_and_started_again(home: dict[str, str]) -> None:
    async with serving(home) as server, server.watch() as client:
        pid = int((Path(home["ZORA_HOME"]) / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        task_id = await created(home)
        await client.state(task_id, "completed")
        assert progress_aside(client.states(task_id)) == ALL_STATES
        assert {m["type"] for m in client.messages[1:]} <= {"task", "heartbeat"}


async def test_a_server_killed_with_running_tasks_leaves_its_clients_without_a_gap(zora: Zora, key: str) -> None:
    env = environment(DATABASE_URL=zora.url)
    async with page() as (slow, reading):
        async with serving(env, token=key) as first, first.watch() as client:
            tasks = [await zora.create(*SUMMARY), await zora.create(*reading)]
            await client.state(tasks[1], "in_progress")
            while client.view.get(tasks[0]) != "completed":
                await client.next()
            await asyncio.wait_for(slow.read.wait(), 20)
            first.process.kill()
            assert await first.ended() == -signal.SIGKILL
        tasks += [await zora.create(*SUMMARY), await zora.create(*SUMMARY)]
        await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=tasks[-1])
        await zora.advance(seconds=31)  # the killed server's lease is over
        slow.released.set()
        async with serving(env, token=key) as second, second.watch(client.cursor) as back:
            client.take(*back.messages)
            finals = [*["completed"] * 3, "failed"]
            while [client.view.get(task_id) for task_id in tasks] != finals:
                client.take(await back.next())
            assert (await zora.task(tasks[1])).lost_leases == 1


async def test_a_server_that_is_stopped_lets_tasks_end_hands_the_rest_back_and_says_so(zora: Zora, key: str) -> None:
    env = environment(DATABASE_URL=zora.url)
    async with (
        page() as (quick, read_quick),
        page() as (slow, read_slow),
        serving(env, token=key) as server,
        server.watch() as client,
        server.http() as http,
        http.stream("GET", PATH) as response,
    ):
        stream = Events(response)
        assert await stream.next() is not None
        first, second = await zora.create(*read_quick), await zora.create(*read_slow)
        for waiting in (quick, slow):
            await asyncio.wait_for(waiting.read.wait(), 20)
        server.process.terminate()
        quick.released.set()
        await client.state(first, "completed")
        server.process.terminate()
        assert (await client.closed())[0] == 1012
        while await stream.next() is not None:
            pass
        assert await server.ended() == 0
        task = await zora.task(second)
        assert (task.status, task.attempt, task.lost_leases) == ("pending", 0, 0)


async def test_without_a_worker_tasks_are_served_and_left_to_others(zora: Zora, key: str) -> None:
    env = environment(DATABASE_URL=zora.url)
    async with serving(env, "--no-worker", token=key) as server, server.watch() as client:
        task_id = await zora.create(*SUMMARY)
        await client.state(task_id, "pending")
        assert [row["query"] for row in await zora.sql(LISTENING)] == ['LISTEN "agent_task_changes"']
        await zora.run_once()
        await client.state(task_id, "completed")
        server.process.terminate()
        assert await server.ended() == 0


async def test_the_link_to_sign_in_is_shown_at_a_terminal_and_nowhere_else(home: dict[str, str]) -> None:
    async with serving(home, "--no-worker", token="none") as served:
        said = "".join(served.said)
        assert "link=" not in said
        assert f"`zora keys link --url {served.url}` creates a sign-in link." in said
    terminal, stderr = os.openpty()
    process = await asyncio.create_subprocess_exec(*SERVE, "--port=0", "--no-worker", env=home, stderr=stderr)
    try:
        os.close(stderr)
        os.set_blocking(terminal, False)
        shown = b""

        def link_is_shown() -> bool:
            nonlocal shown
            with contextlib.suppress(BlockingIOError):
                shown += os.read(terminal, 65_536)
            return b"/admin/sign-in?link=zora_" in shown

        await until(link_is_shown, 60)
    finally:
        process.kill()
        await process.wait()
        os.close(terminal)


def said_by(command: list[str], *arguments: str) -> str:
    """What a `serve` says that refuses its call."""
    env = environment(ZORA_HOME="/nowhere/that/could/be/made")
    done = subprocess.run([*command, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    return done.stderr


def test_a_call_that_cannot_work_is_refused_in_a_line_before_anything_is_started() -> None:
    script = [str(Path(sys.executable).parent / "zora"), "serve"]
    said = said_by(script, "--host", "0.0.0.0")
    assert said.startswith(
        "error: --host 0.0.0.0 makes the API reachable from other machines, and ZORA_JWT_SECRET is not"
    )
    assert said.count("\n") == 1
    assert said_by(SERVE, "--host", "0.0.0.0") == said, "python -m zora_core.autonomy.cli is the same program"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = said_by(SERVE, "--port", str(port))
    assert said == (
        f"error: cannot listen on 127.0.0.1 port {port} (Address already in use): choose another --host or --port\n"
    )
