"""Live status over real connections: what a client is told, what it is told again, and when it is turned away."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.api.conftest import OTHER_TENANT_ID, Callers
from tests.autonomy.agents import Probe
from tests.autonomy.test_runtime import until, working
from tests.conftest import Zora
from zora_core.api import changes, events
from zora_core.api.access import Principal
from zora_core.api.answers import read_cursor, write_cursor
from zora_core.api.changes import Event, Filter, Subscriber, TaskChange, write_message
from zora_core.api.state import Api
from zora_core.models import Role
from zora_core.server.serve import api_for, bind, serve, url_of

PATH = "/api/agents/tasks/events"
Message = dict[str, Any]


class Client:
    """One WebSocket and what it was told."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.messages: list[Message] = []
        self.view: dict[UUID, str] = {}
        """The state of each task as this client knows it."""

    @property
    def cursor(self) -> str:
        return self.messages[-1]["cursor"]

    async def next(self) -> Message:
        async with asyncio.timeout(10):
            message = json.loads(await self.connection.recv())
        self.take(message)
        return message

    def take(self, *messages: Message) -> None:
        self.messages += messages
        self.view |= seen_in(messages)

    async def until(self, condition: Callable[[Message], Any]) -> Message:
        async with asyncio.timeout(30):
            while not condition(message := await self.next()):
                pass
        return message

    async def state(self, task_id: UUID, *status: str) -> Message:
        """Read until a task is told to be in one of these states."""
        message = await self.until(
            lambda m: m["type"] == "task" and m["task"]["id"] == str(task_id) and m["task"]["status"] in status
        )
        return message["task"]

    def states(self, task_id: UUID) -> list[str]:
        """Every state that was told of a task, with what it waits for."""
        told = [m["task"] for m in self.messages if m["type"] == "task" and m["task"]["id"] == str(task_id)]
        return ["/".join(filter(None, (task["status"], task["waiting_for"]))) for task in told]

    async def closed(self) -> tuple[int, str]:
        """The code and reason with which the server ends the connection."""
        try:
            while True:
                await self.next()
        except ConnectionClosed as error:
            assert error.rcvd is not None, "closed without a code"
            return error.rcvd.code, error.rcvd.reason


def seen_in(messages: Iterable[Message]) -> dict[UUID, str]:
    view: dict[UUID, str] = {}
    for message in messages:
        for task in message["tasks"] if message["type"] == "snapshot" else [message.get("task")]:
            if task:
                view[UUID(task["id"])] = task["status"]
    return view


class Live:
    """A server in the test's loop, and clients of it."""

    def __init__(self, api: Api, url: str, key: str) -> None:
        self.api = api
        self.url = url
        self.key = key

    def stop(self) -> None:
        """As SIGTERM does, unless the server is ending already."""
        if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
            signal.raise_signal(signal.SIGTERM)

    @asynccontextmanager
    async def watch(
        self, key: str | None = None, *, header: bool = True, read: bool = True, **parameters: Any
    ) -> AsyncIterator[Client]:
        """A client that has read its snapshot (unless `read` is false)."""
        address = f"{self.url.replace('http', 'ws')}{PATH}?{urlencode(parameters)}"
        headers = {"Authorization": f"Bearer {key or self.key}"} if header else {}
        async with connect(
            address, additional_headers=headers, proxy=None, close_timeout=1, max_queue=None
        ) as connection:
            client = Client(connection)
            if header and read:
                assert (await client.next())["type"] == "snapshot"
            yield client

    @asynccontextmanager
    async def stream(
        self, key: str | None = None, since: str | None = None, **parameters: Any
    ) -> AsyncIterator[Events]:
        """The same over server-sent events."""
        headers = {"Authorization": f"Bearer {key or self.key}"} | ({"Last-Event-ID": since} if since else {})
        async with (
            httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=15) as client,
            client.stream("GET", PATH, params=parameters) as response,
        ):
            yield Events(response)

    async def nobody(self) -> None:
        """Wait until no subscriber is left, nor anything that works for one."""
        await until(lambda: not self.api.changes.subscribers and not self.api.changes._readers)


class Events:
    """A stream of server-sent events, parsed."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> Message | None:
        """The next message; None at the end of the stream. Its cursor must be its id, and its type its event."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(15):
            async for line in self._lines:
                if not line:
                    break
                name, _, value = line.partition(": ")
                fields[name] = value
            else:
                return None
        message = json.loads(fields["data"])
        assert (fields["event"], fields["id"]) == (message["type"], message["cursor"])
        return message

    async def until(self, condition: Callable[[Message], Any]) -> list[Message]:
        messages: list[Message] = []
        while not messages or not condition(messages[-1]):
            message = await self.next()
            assert message is not None, "the stream ended"
            messages.append(message)
        return messages


@asynccontextmanager
async def served(api: Api, key: str, listener: socket.socket | None = None) -> AsyncIterator[Live]:
    with listener or bind("127.0.0.1", 0) as bound:
        live = Live(api, url_of(bound), key)
        serving = asyncio.create_task(serve(api, bound, None, sleep_seconds=60))
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{live.url}/api/status")).status_code == 200
        try:
            yield live
        finally:
            live.stop()
            async with asyncio.timeout(15):
                await serving


@pytest.fixture
def loud(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing may go wrong behind the scenes: what asyncio, uvicorn or the API log as an error is a failure."""
    yield
    records = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    wrong = [r for r in records if r.levelname in ("ERROR", "CRITICAL") and r.name != "zora.runtime"]
    assert not wrong, [r.getMessage() + (r.exc_text or "") for r in wrong]


@pytest.fixture
async def live(loud: None, api: Api, callers: Callers) -> AsyncIterator[Live]:
    async with served(api, await callers.key(Role.VIEWER)) as made:
        yield made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers look by themselves all the time."""
    monkeypatch.setattr(changes, "SWEEP_SECONDS", 0.02)


async def created(zora: Zora, count: int, *, tenant_id: UUID | None = None, **fields: Any) -> list[UUID]:
    """So many tasks at once."""
    tasks = [{"agent_id": "SAM", "task_type": "count", "title": f"number {n}", **fields} for n in range(count)]
    rows = await zora.call("create_agent_tasks", tenant_id=tenant_id or zora.tenant_id, tasks=tasks)
    return [row["id"] for row in rows]


ONE = json.dumps([{"agent_id": "SAM", "task_type": "count", "title": "t"}])


async def claimed(zora: Zora, count: int) -> dict[UUID, UUID]:
    """Lease tokens of as many tasks."""
    rows = await zora.call("claim_agent_tasks", tenant_id=zora.tenant_id, worker_id="test", limit=count)
    return {row["id"]: row["lease_token"] for row in rows}


async def settled(zora: Zora, leases: dict[UUID, UUID], outcome: str = "completed", text: str = "done") -> None:
    n = len(leases)
    await zora.call(
        "settle_agent_tasks", ids=list(leases), lease_tokens=list(leases.values()), outcomes=[outcome] * n,
        summaries=[text] * n, results=[{}] * n, errors=[text] * n, failure_kinds=["error"] * n, delays=[None] * n,
    )  # fmt: skip


# --- Who may watch ---


async def test_a_key_in_the_header_or_in_the_first_message_lets_one_watch(live: Live) -> None:
    async with live.watch() as client:
        assert client.messages[0] == {**client.messages[0], "type": "snapshot", "tasks": [], "truncated": False}
    async with live.watch(header=False) as client:
        await client.connection.send(json.dumps({"type": "auth", "token": live.key}))
        assert (await client.next())["type"] == "snapshot"


@pytest.mark.parametrize("value", ["", "Bearer", "Basic abc", "Bearer zora_nobody_knows_this_one", "Bearer a.b.c"])
async def test_a_header_that_is_no_credential_is_refused_before_the_connection_is_made(live: Live, value: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(live.url.replace("http", "ws") + PATH, additional_headers={"Authorization": value}, proxy=None)
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["error"]["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize(
    "first",
    ["", "hello", b"\xff", "[]", '{"type": "auth"}', '{"type": "auth", "token": 5}', '{"type": "hi", "token": "x"}',
     '{"type": "auth", "token": "zora_nobody_knows_this_one"}', '{"type": "auth", "token": "a.b.c"}'],
)  # fmt: skip
async def test_a_first_message_without_a_good_credential_ends_the_connection(live: Live, first: str | bytes) -> None:
    async with live.watch(header=False) as client:
        await client.connection.send(first)
        assert (await client.closed())[0] == 4401


async def test_whoever_says_nothing_is_turned_away(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "AUTHENTICATION_SECONDS", 0.05)
    async with live.watch(header=False) as client:
        assert (await client.closed())[0] == 4401
    assert not live.api.changes.subscribers


@pytest.mark.parametrize(
    "parameters",
    [{"page": 1}, {"status": "done"}, {"agent_id": "BOB"}, {"id": "5"}, {"since": "yesterday"}, {"since": "WzFd!"}],
)
async def test_wrong_parameters_are_refused_in_the_envelope(live: Live, parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with live.watch(**parameters):
            pass
    assert refused.value.response.status_code == 400
    error = json.loads(refused.value.response.body)["error"]
    assert error["code"] == "VALIDATION_ERROR"
    assert error["details"][0]["field"] == ("cursor" if "since" in parameters else next(iter(parameters)))


async def test_too_many_connections_are_refused_by_status_or_by_code(zora: Zora, callers: Callers) -> None:
    async with (
        api_for(zora.database, zora.settings, requests_per_minute=1) as api,
        served(api, await callers.key()) as live,
    ):
        async with live.watch():
            pass
        with pytest.raises(InvalidStatus) as refused:
            async with live.watch():
                pass
        assert refused.value.response.status_code == 429
        async with live.watch(header=False) as client:
            await client.connection.send(json.dumps({"type": "auth", "token": live.key}))
            assert (await client.closed())[0] == 4429


# --- What the snapshot shows ---


async def test_a_snapshot_shows_what_is_unfinished_and_nobody_elses(live: Live, zora: Zora, callers: Callers) -> None:
    running = await zora.create("SAM", "count", priority=1)
    leases = await claimed(zora, 1)
    pending = await zora.create("SAM", "count")
    other_agent = await zora.create("EIVOR", "summarize_recent_events")
    done, failed = await created(zora, 2, priority=5)
    await settled(zora, await claimed(zora, 1))
    await settled(zora, await claimed(zora, 1), "failed")
    (foreign,) = await created(zora, 1, tenant_id=OTHER_TENANT_ID)
    assert set(leases) == {running}

    shown: list[tuple[dict[str, Any], set[UUID]]] = [
        ({}, {running, pending, other_agent}),
        ({"agent_id": "eivor"}, {other_agent}),
        ({"status": "in_progress"}, {running}),
        ({"status": "completed"}, {done}),
        ({"status": "failed", "agent_id": "SAM"}, {failed}),
        ({"id": done}, {done}),
        ({"id": done, "status": "pending"}, set()),
    ]
    for parameters, expected in shown:
        async with live.watch(**parameters) as client:
            assert set(client.view) == expected, parameters
            assert not client.messages[0]["truncated"]
    async with live.watch(await callers.key(Role.VIEWER, OTHER_TENANT_ID)) as client:
        assert set(client.view) == {foreign}


async def test_a_snapshot_says_when_there_is_more(live: Live, zora: Zora, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SNAPSHOT_TASKS", 3)
    await created(zora, 5)
    await claimed(zora, 2)
    async with live.watch() as client:
        assert client.messages[0]["truncated"]
        assert sorted(client.view.values()) == ["in_progress", "in_progress", "pending"]


async def test_watching_a_task_that_is_not_there_says_so(live: Live, zora: Zora) -> None:
    (foreign,) = await created(zora, 1, tenant_id=OTHER_TENANT_ID)
    for task_id in (uuid4(), foreign):
        async with live.watch(id=task_id, read=False) as client:
            assert await client.closed() == (4400, f"no task {task_id}")
        async with live.stream(id=task_id) as stream:
            assert stream.response.status_code == 404
    await live.nobody()


# --- What happens ---


@pytest.mark.parametrize(
    ("task_type", "fields", "expected"),
    [
        ("count", {}, ["pending", "in_progress", "completed"]),
        ("fail", {"max_attempts": 1}, ["pending", "in_progress", "failed"]),
        ("fail", {}, ["pending", "in_progress", "pending/retry"]),
        ("snooze", {}, ["pending", "in_progress", "pending/run_at"]),
    ],
)
async def test_every_state_of_a_quick_task_is_told_once_and_in_order(
    live: Live, zora: Zora, task_type: str, fields: dict[str, Any], expected: list[str]
) -> None:
    async with live.watch() as client, working(zora.worker(Probe())):
        tasks = [await zora.create("SAM", task_type, **fields) for _ in range(10)]
        for task_id in tasks:
            while client.states(task_id) != expected:
                await client.next()
        attempts = {(m["task"]["status"], m["task"]["attempt"]) for m in client.messages if m["type"] == "task"}
        assert ("pending", 0) in attempts
        assert ("in_progress", 1) in attempts
    assert all(client.states(task_id) == expected for task_id in tasks)


async def test_states_are_told_although_nobody_could_have_seen_them(live: Live, zora: Zora) -> None:
    async with live.watch() as client:
        connection = await asyncpg.connect(zora.url)
        async with connection.transaction():  # so that a read sees only the end of it
            (row,) = await connection.fetch("select id from create_agent_tasks($1, $2::jsonb)", zora.tenant_id, ONE)
            (lease,) = await connection.fetch("select * from claim_agent_tasks($1, 'test')", zora.tenant_id)
            await connection.execute(
                "select settle_agent_tasks(array[$1::uuid], array[$2::uuid], '{completed}', '{done}', "
                "array['{}'::jsonb], '{null}', '{null}', '{null}')",
                lease["id"], lease["lease_token"],
            )  # fmt: skip
        await connection.close()
        final = await client.state(row["id"], "completed")
        assert client.states(row["id"]) == ["pending", "in_progress", "completed"]
        assert (final["result_summary"], final["progress"]) == ("done", 1)
        pending, running, _ = [m["task"] for m in client.messages if m["type"] == "task"]
        assert (pending["started_at"], pending["attempt"], pending["result_summary"]) == (None, 0, None)
        assert (running["started_at"], running["attempt"], running["completed_at"]) == (final["started_at"], 1, None)


@pytest.mark.direct_connection  # its worker is notified of the task
async def test_progress_of_a_handler_is_told_while_it_runs(live: Live, zora: Zora) -> None:
    probe = Probe()
    async with live.watch() as client, working(zora.worker(probe)):
        task_id = await zora.create("SAM", "wait")
        message = await client.until(lambda m: m["type"] == "task" and m["task"]["progress"])
        assert (message["task"]["progress"], message["task"]["progress_message"]) == (0.4, "half way there")
        assert message["task"]["status"] == "in_progress"
        probe.release.set()
        assert (await client.state(task_id, "completed"))["progress"] == 1


async def test_cancellations_and_retries_are_told(live: Live, zora: Zora) -> None:
    probe = Probe()
    async with live.watch() as client:
        waiting = await zora.create("SAM", "wait")
        await client.state(waiting, "pending")
        await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=waiting, reason="not needed")
        cancelled = await client.state(waiting, "failed")
        assert (cancelled["failure_kind"], cancelled["error_message"]) == ("cancelled", "cancelled: not needed")
        await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=waiting)
        await client.state(waiting, "pending")
        assert client.states(waiting) == ["pending", "failed", "pending"]
        async with working(zora.worker(probe, lease_seconds=0.3)):
            await client.state(waiting, "in_progress")
            await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=waiting)
            assert (await client.state(waiting, "failed"))["failure_kind"] == "cancelled"


async def test_what_becomes_of_suggestions_is_told_too(live: Live, zora: Zora, quick: None) -> None:
    async def propose(title: str, agent_id: str = "SAM") -> dict[str, Any]:
        suggestion = {"suggestion_type": "advice", "title": title, "target": {"title": title}, "evidence": []}
        arguments = {"tenant_id": zora.tenant_id, "agent_id": agent_id, "suggestion": suggestion}
        return (await zora.call("propose_agent_suggestion", **arguments))[0]

    def of(client: Client) -> list[tuple[str, str, bool]]:
        told = [m["suggestion"] for m in client.messages if m["type"] == "suggestion"]
        return [(s["title"], s["status"], s["due"]) for s in told]

    async with live.watch() as client, live.watch(agent_id="ORACLE") as oracle, live.watch(status="pending") as other:
        first = await propose("first")
        await client.until(lambda m: m["type"] == "suggestion")
        await zora.advance(days=23)
        await zora.call("attend_agent_suggestions")
        await client.until(lambda m: m["type"] == "suggestion" and m["suggestion"]["due"])
        await zora.call(
            "decide_agent_suggestion",
            tenant_id=zora.tenant_id, id=first["id"], decision="approve", digest=first["effect_digest"],
        )  # fmt: skip
        await client.until(lambda m: m["type"] == "suggestion" and m["suggestion"]["status"] == "approved")
        assert of(client) == [("first", "proposed", False), ("first", "proposed", True), ("first", "approved", False)]
        await propose("second", "ORACLE")
        await oracle.until(lambda m: m["type"] == "suggestion")
        task_id = await zora.create("SAM", "wait")
        await other.state(task_id, "pending")
        assert (of(oracle), of(other)) == ([("second", "proposed", False)], [])
    async with live.watch(since=client.messages[1]["cursor"]) as back:
        await back.until(lambda m: m["type"] == "heartbeat")
        assert of(back) == [("first", "approved", False), ("second", "proposed", False)]


async def test_what_is_not_in_the_journal_is_told_too(live: Live, zora: Zora, quick: None) -> None:
    """Making a task due, and handing it back."""
    probe = Probe()
    async with live.watch() as client:
        task_id = await zora.create("SAM", "wait", run_at="2026-03-02T10:00:00Z")
        assert (await client.state(task_id, "pending"))["waiting_for"] == "run_at"
        await caught_up(live)
        await zora.advance(hours=2)
        await zora.call("promote_agent_tasks")
        assert (await client.state(task_id, "pending"))["waiting_for"] is None
        async with working(zora.worker(probe)) as worker:
            await client.state(task_id, "in_progress")
            await probe.started.wait()
            await caught_up(live)
            worker.stop()
            worker.stop()
        assert (await client.state(task_id, "pending"))["attempt"] == 0
        async with live.watch(since=client.messages[0]["cursor"]) as back:
            assert back.view == {task_id: "pending"}


async def test_a_task_taken_back_from_a_dead_worker_is_told(live: Live, zora: Zora) -> None:
    async with live.watch() as client:
        (task_id,) = await created(zora, 1)
        await claimed(zora, 1)
        await client.state(task_id, "in_progress")
        await zora.advance(seconds=31)
        await zora.call("rescue_agent_tasks")
        await client.state(task_id, "pending")
        await zora.run_once(Probe())
        await client.state(task_id, "completed")
        assert client.states(task_id) == ["pending", "in_progress", "pending", "in_progress", "completed"]


async def test_filters_hold_for_events_and_a_state_that_is_left_is_told(live: Live, zora: Zora) -> None:
    async with (
        live.watch(status="pending") as pending,
        live.watch(status="in_progress") as running,
        live.watch(status="failed") as failed,
        live.watch(agent_id="EIVOR") as eivor,
    ):
        other = await zora.create("EIVOR", "summarize_recent_events", run_at="2026-03-02T10:00:00Z")
        first, second = await created(zora, 2)
        async with live.watch(id=first) as one:
            leases = await claimed(zora, 2)
            await running.state(second, "in_progress")
            await settled(zora, {first: leases.pop(first)})
            await running.state(first, "completed")
            await settled(zora, leases, "failed")
            await failed.state(second, "failed")
            await zora.call("retry_agent_task", tenant_id=zora.tenant_id, id=second)
            await failed.state(second, "pending")
            await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=second)
            await zora.call("cancel_agent_task", tenant_id=zora.tenant_id, id=other)
            await eivor.state(other, "failed")
            for client in (pending, failed):
                await client.until(
                    lambda m, client=client: [client.view.get(t) for t in (other, second)] == ["failed"] * 2
                )
            await one.state(first, "completed")
            assert one.states(first)[-2:] == ["in_progress", "completed"]
            assert set(one.view) == {first}
        assert pending.states(first) == ["pending", "in_progress"]
        assert pending.states(second) == ["pending", "in_progress", "pending", "failed"]
        assert running.states(first) == ["in_progress", "completed"]
        await running.state(second, "failed")
        assert running.states(second) == ["in_progress", "failed"]
        assert failed.states(first) == []
        assert failed.states(second) == ["failed", "pending", "failed"]
        assert set(eivor.view) == {other}


async def test_who_asks_for_a_state_is_told_that_a_task_leaves_it_after_coming_back(
    live: Live, zora: Zora, quick: None
) -> None:
    (task_id,) = await created(zora, 1)
    async with live.watch(status="pending") as client:
        assert client.view == {task_id: "pending"}
    async with live.watch(status="pending", since=client.cursor) as client:
        await caught_up(live)
        await claimed(zora, 1)
        await client.state(task_id, "in_progress")  # not without its own: what is just committed may be told twice


async def test_heartbeats_come_while_nothing_happens_and_their_cursor_goes_on(
    live: Live, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.03)
    async with live.watch() as client, live.stream() as stream:
        began = read_cursor(client.cursor, datetime)[0]
        beat = await client.until(lambda m: read_cursor(m["cursor"], datetime)[0] > began)
        assert beat["type"] == "heartbeat"
        assert beat["at"]
        assert (await stream.until(lambda m: m["type"] == "heartbeat"))[0]["type"] == "snapshot"


async def test_what_a_client_says_is_not_obeyed_and_does_no_harm(live: Live, zora: Zora) -> None:
    async with live.watch() as client:
        for said in ("hello", b"\x00\xff", "{}", json.dumps({"type": "auth", "token": "x"})):
            await client.connection.send(said)
        (task_id,) = await created(zora, 1)
        await client.state(task_id, "pending")


async def test_tenants_that_are_watched_at_once_never_meet(live: Live, zora: Zora, callers: Callers) -> None:
    async with live.watch() as ours, live.watch(await callers.key(Role.VIEWER, OTHER_TENANT_ID)) as theirs:
        own, foreign = [], []
        for _ in range(5):
            own += await created(zora, 3)
            foreign += await created(zora, 3, tenant_id=OTHER_TENANT_ID)
        for task_id in own:
            while task_id not in ours.view:
                await ours.next()
        for task_id in foreign:
            while task_id not in theirs.view:
                await theirs.next()
        assert (set(ours.view), set(theirs.view)) == (set(own), set(foreign))
    async with live.watch(since=write_cursor(at(0))) as client:
        await client.until(lambda m: m["type"] == "heartbeat")
        assert set(client.view) == set(own)


# --- Coming back ---


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


async def test_thousands_that_changed_meanwhile_are_told_in_pages(
    live: Live, zora: Zora, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "REPLAY_ENTRIES", 250)
    async with live.watch() as client:
        pass
    tasks = [*await created(zora, 1000), *await created(zora, 1000)]
    await settled(zora, await claimed(zora, 1999))
    async with live.watch(since=client.cursor) as back:
        await back.until(lambda m: m["type"] == "heartbeat")
        finals = [task_id for task_id, status in back.view.items() if status == "completed"]
        assert len(finals) == 1999
        assert set(back.view) == set(tasks)
        assert len({m["cursor"] for m in back.messages}) > 5, "a client that disconnects can continue"
        (running,) = await claimed(zora, 1)
        await back.state(running, "in_progress")


async def test_what_was_being_written_while_a_cursor_was_given_is_not_missed(
    live: Live, zora: Zora, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.03)
    monkeypatch.setattr(changes, "REPLAY_ENTRIES", 2)
    async with live.watch() as before:
        pass
    async with begun(zora) as (task_id, commit):
        async with live.watch() as client:
            for _ in range(3):
                (other,) = await created(zora, 1)
                await client.state(other, "pending")
            await client.until(lambda m: m["type"] == "heartbeat")
        async with live.watch(since=before.cursor) as back:
            await back.until(lambda m: m["type"] == "heartbeat")
        await commit()
    assert task_id not in client.view | back.view
    for cursor in {m["cursor"] for m in client.messages + back.messages}:
        async with live.watch(since=cursor) as again:
            await again.until(lambda m: m["type"] == "heartbeat")
            assert again.states(task_id) == ["pending"]


@asynccontextmanager
async def begun(zora: Zora) -> AsyncIterator[tuple[UUID, Callable[[], Any]]]:
    """A task whose creation is not committed, and what commits it."""
    connection = await asyncpg.connect(zora.url)
    transaction = connection.transaction()
    await transaction.start()
    (row,) = await connection.fetch("select id from create_agent_tasks($1, $2::jsonb)", zora.tenant_id, ONE)
    yield row["id"], transaction.commit
    await connection.close()


async def caught_up(live: Live) -> None:
    """Wait until readers have left everything behind that has happened; they must be quick."""
    now = datetime.now(UTC)
    await until(lambda: all(s.reached and s.reached > now for s in live.api.changes.subscribers))


async def test_whoever_watches_is_told_of_what_took_long_to_be_committed(live: Live, zora: Zora, quick: None) -> None:
    async with begun(zora) as (task_id, commit), live.watch() as client:
        for _ in range(3):
            (other,) = await created(zora, 1)
            await client.state(other, "pending")
        await commit()
        await client.state(task_id, "pending")
        assert all(client.states(task_id) == ["pending"] for task_id in client.view), "nothing is told twice"


async def test_every_message_of_every_type_has_a_cursor_that_is_good_to_come_back_with(
    live: Live, zora: Zora, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(changes, "REPLAY_ENTRIES", 7)
    monkeypatch.setattr(changes, "DEBOUNCE_SECONDS", 0.2)  # so that much happens between two reads
    probe = Probe()
    probe.release.set()
    async with live.watch():
        await created(zora, 5)
        await caught_up(live)
        async with live.watch() as first:
            await first.until(lambda m: m["type"] == "heartbeat")
            await created(zora, 2)
            await first.next()
        for _ in range(2):
            await created(zora, 6)
            for task_id, token in (await claimed(zora, 6)).items():
                await settled(zora, {task_id: token})
            await caught_up(live)
        async with live.watch(since=first.cursor) as second, working(zora.worker(probe, concurrency=2)):
            for _ in range(3):
                await zora.create("SAM", "wait")
                await zora.create("SAM", "snooze")
            await second.until(lambda m: Counter(second.view.values()) == {"completed": 22, "pending": 3})
            await second.until(lambda m: m["type"] == "heartbeat")
        await caught_up(live)

    truth = {row["id"]: row["status"] for row in await zora.sql("select id, status::text from agent_tasks")}
    told = first.messages + second.messages
    assert {m["type"] for m in told} == {"snapshot", "task", "heartbeat"}
    for number, message in enumerate(told, 1):
        async with live.watch(since=message["cursor"]) as back:
            await back.until(lambda m: m["type"] == "heartbeat")
            view = seen_in(told[:number] + back.messages)
            assert view == truth, f"after message {number} of {len(told)}, {message['type']}"


async def test_clients_that_break_off_again_and_again_miss_no_final_state(live: Live, zora: Zora) -> None:
    async with live.watch() as client:
        pass
    async with working(zora.worker(Probe())):
        tasks = []
        for number in range(30):
            tasks += await created(zora, 5)
            async with live.watch(since=client.cursor) as back:
                for _ in range(number):
                    client.take(await back.next())
                back.connection.transport.abort()
        async with live.watch(since=client.cursor) as back:
            while client.view != dict.fromkeys(tasks, "completed"):
                client.take(await back.next())
    await live.nobody()


def change(task_id: UUID, status: str, seconds: float) -> TaskChange:
    return TaskChange(
        id=task_id, agent_id="SAM", task_type="count", status=status, title="t",
        created_at=at(0), updated_at=at(seconds),
    )  # fmt: skip


async def test_an_older_state_is_not_told_after_a_newer_one_unless_it_is_final() -> None:
    subscriber = Subscriber(Principal(uuid4(), None, Role.VIEWER, "test"), Filter())
    task_id, other = uuid4(), uuid4()

    def offer(task: TaskChange) -> None:
        subscriber.offer(Event(task, frozenset(), write_message("task", at(0), task=task)))

    offer(change(task_id, "pending", 1))
    assert await subscriber.next(0) == [], "it waits for nothing before it is shown what there is"
    subscriber.catch_up()
    subscriber.seen(change(task_id, "in_progress", 5))
    subscriber.seen(change(other, "in_progress", 5))
    for status, seconds in (("pending", 3), ("in_progress", 5), ("pending", 4)):
        offer(change(task_id, status, seconds))
    offer(change(other, "failed", 2))
    told = [(event.change.id, event.change.status) for event in await subscriber.next(0)]
    assert told == [(task_id, "in_progress"), (task_id, "pending"), (other, "failed")]


# --- Clients that are slow ---


async def test_a_client_that_keeps_up_is_told_everything_in_a_burst(
    live: Live, zora: Zora, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_WAITING_EVENTS", 100)
    async with live.watch() as client:
        tasks = await created(zora, 500)
        await settled(zora, await claimed(zora, 500))
        while client.view != dict.fromkeys(tasks, "completed"):
            await client.next()
        assert all(client.states(task_id) == ["pending", "in_progress", "completed"] for task_id in tasks)


def narrow(listener: socket.socket) -> socket.socket:
    """Little room for what was sent and not read."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return listener


def narrow_client(url: str) -> socket.socket:
    address = url.removeprefix("http://").split(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((address[0], int(address[1])))
    client.setblocking(False)
    return client


@asynccontextmanager
async def lazy(live: Live) -> AsyncIterator[Client]:
    """A client that stops reading as soon as a message waits for it."""
    headers = {"Authorization": f"Bearer {live.key}"}
    async with connect(
        live.url.replace("http", "ws") + PATH, additional_headers=headers, proxy=None, sock=narrow_client(live.url),
        max_queue=1, close_timeout=1, ping_interval=None,
    ) as connection:  # fmt: skip
        yield Client(connection)


async def noise(zora: Zora, count: int) -> list[UUID]:
    """So many tasks that fail with a long message."""
    tasks = await created(zora, count)
    await settled(zora, await claimed(zora, count), "failed", "x" * 5000)
    return tasks


async def test_a_client_that_does_not_read_is_dropped_with_a_code_and_holds_up_nobody(
    zora: Zora, api: Api, callers: Callers, loud: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_WAITING_EVENTS", 50)
    monkeypatch.setattr(events, "SLOW_SECONDS", 0.5)
    async with served(api, await callers.key(), narrow(bind("127.0.0.1", 0))) as live, lazy(live) as client:
        await client.next()
        (slow,) = api.changes.subscribers
        async with live.watch() as other:
            tasks = []
            while slow in api.changes.subscribers:
                tasks += await noise(zora, 30)
                while other.view != dict.fromkeys(tasks, "failed"):
                    await other.next()
                assert len(slow._waiting) <= 50
        assert (slow.ended, len(slow._waiting)) == ("slow", 0)
        assert await client.closed() == (4408, events._ENDED["slow"][1])
        assert len(client.view) < len(tasks)
        async with live.watch(since=client.cursor) as back:
            await back.until(lambda m: m["type"] == "heartbeat")
            client.take(*back.messages)
        assert client.view == dict.fromkeys(tasks, "failed")


async def test_a_client_that_pauses_goes_on_from_where_it_stopped(
    zora: Zora, api: Api, callers: Callers, loud: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_WAITING_EVENTS", 50)
    async with served(api, await callers.key(), narrow(bind("127.0.0.1", 0))) as live, lazy(live) as client:
        await client.next()
        (subscriber,) = api.changes.subscribers
        tasks = []
        while not subscriber.behind:
            tasks += await noise(zora, 100)
        while client.view != dict.fromkeys(tasks, "failed"):
            await client.next()
        assert [m["type"] for m in client.messages].count("snapshot") > 1


async def test_a_stream_that_is_not_read_is_dropped(
    zora: Zora, api: Api, callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SLOW_SECONDS", 0.2)
    async with served(api, await callers.key(), narrow(bind("127.0.0.1", 0))) as live:
        with narrow_client(live.url) as client:
            request = f"GET {PATH} HTTP/1.1\r\nHost: zora\r\nAuthorization: Bearer {live.key}\r\n\r\n"
            await asyncio.get_running_loop().sock_sendall(client, request.encode())
            await until(lambda: api.changes.subscribers)
            while api.changes.subscribers:
                await noise(zora, 100)
            await live.nobody()


# --- Credentials that end ---


async def refused(live: Live, key: str) -> bool:
    try:
        async with live.watch(key):
            return False
    except InvalidStatus as error:
        return error.response.status_code == 401


async def closing_time(client: Client, began: float) -> float:
    assert (await client.closed())[0] == 4401
    return time.monotonic() - began


async def test_a_revoked_key_ends_its_connections_within_a_second(live: Live, zora: Zora, callers: Callers) -> None:
    key = await callers.key(Role.MEMBER)
    async with live.watch(key) as client, live.stream(key) as stream, live.watch() as other:
        await stream.next()
        began = time.monotonic()
        await zora.call("revoke_api_key", tenant_id=zora.tenant_id, key=key[:13])
        assert await closing_time(client, began) < 1.5
        assert await stream.next() is None
        await until(lambda: refused(live, key))
        assert time.monotonic() - began < 1.5
        (task_id,) = await created(zora, 1)
        await other.state(task_id, "pending")


async def test_a_role_that_changes_ends_the_connections_of_its_keys(live: Live, zora: Zora, callers: Callers) -> None:
    key = await callers.key(Role.MEMBER)
    async with live.watch(key) as client:
        began = time.monotonic()
        await zora.sql("update users set role = 'viewer' where role = 'member'")
        assert await closing_time(client, began) < 1.5
    async with live.watch(key):
        pass


def admit(live: Live, token: str, principal: Principal) -> None:
    """Have a credential known to be good that nobody has signed: a token's time cannot be shorter than a second."""
    live.api.credentials._good[hashlib.sha256(token.encode()).digest()] = (principal, math.inf)


async def test_an_expired_token_ends_its_connection_and_not_the_users_other_one(live: Live, zora: Zora) -> None:
    user = uuid4()
    for token, seconds in (("short", 0.3), ("long", 60)):
        principal = Principal(zora.tenant_id, user, Role.VIEWER, f"user:{user}", time.time() + seconds)
        admit(live, token, principal)
    async with live.watch("short") as client, live.watch("long") as other:
        assert await closing_time(client, time.monotonic()) < 1.5
        (task_id,) = await created(zora, 1)
        await other.state(task_id, "pending")


async def test_a_tenant_that_is_deleted_takes_only_its_own_connections_with_it(
    live: Live, zora: Zora, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "WATCH_SECONDS", 0.03)
    gone = uuid4()
    await zora.database.value("ensure_tenant", id=gone, name="gone", slug="gone")
    admit(live, "token", Principal(gone, None, Role.VIEWER, "user:x", time.time() + 60))
    async with live.watch("token") as client, live.watch() as other:
        connection = await asyncpg.connect(zora.url)
        async with connection.transaction():
            await connection.execute("lock table agent_task_watchers")
            await connection.execute("delete from agent_task_watchers where tenant_id = $1", gone)
            await connection.execute("delete from tenants where id = $1", gone)
        await connection.close()
        assert (await client.closed())[0] == 4401
        (task_id,) = await created(zora, 1)
        await other.state(task_id, "pending")


# --- Connections to the database ---


LISTENING = "select pid from pg_stat_activity where application_name = 'zora' and query like 'LISTEN%'"


@pytest.mark.direct_connection
async def test_one_connection_listens_however_many_watch(live: Live, zora: Zora, callers: Callers) -> None:
    theirs = await callers.key(Role.VIEWER, OTHER_TENANT_ID)
    async with live.watch(), live.watch(), live.watch(), live.watch(theirs), live.stream() as stream:
        await stream.next()
        await until(lambda: listening(zora, 1))
    await live.nobody()
    assert await listening(zora, 1)


async def listening(zora: Zora, count: int) -> bool:
    return len(await zora.sql(LISTENING)) == count


@pytest.mark.direct_connection
async def test_losing_the_listening_connection_loses_nothing(
    live: Live, zora: Zora, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "SWEEP_SECONDS", 60)
    async with live.watch() as client:
        await until(lambda: listening(zora, 1))
        for _ in range(3):
            await zora.sql(LISTENING.replace("select pid", "select pg_terminate_backend(pid)"))
            (task_id,) = await created(zora, 1)
            await client.state(task_id, "pending")
            await until(lambda: listening(zora, 1))


async def test_losing_every_connection_at_once_loses_nothing(live: Live, zora: Zora, callers: Callers) -> None:
    async with live.watch() as client, live.stream() as stream:
        await stream.next()
        for _ in range(3):
            await zora.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'zora'")
            (row,) = await zora.sql("select id from create_agent_tasks($1, $2::jsonb)", zora.tenant_id, ONE)
            task_id = row["id"]
            await client.state(task_id, "pending")
            await stream.until(lambda m, task_id=task_id: m["type"] == "task" and m["task"]["id"] == str(task_id))


async def test_a_database_that_cannot_be_read_is_said_to_newcomers(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(reader: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(changes._Reader, "run", never)
    monkeypatch.setattr(changes, "READY_SECONDS", 0.05)
    async with live.watch(read=False) as client:
        assert (await client.closed())[0] == 1013
    async with live.stream() as stream:
        assert stream.response.status_code == 503
    await live.nobody()


@pytest.mark.direct_connection
async def test_nothing_is_announced_when_nobody_watches(
    live: Live, zora: Zora, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "WATCH_SECONDS", 0.3)
    heard: list[str] = []
    connection = await asyncpg.connect(zora.url)
    await connection.add_listener("agent_task_changes", lambda *arguments: heard.append(arguments[3]))
    async with live.watch() as client:
        (task_id,) = await created(zora, 1)
        await client.state(task_id, "pending")
        await until(lambda: str(zora.tenant_id) in heard)
    await live.nobody()

    async def lapsed() -> bool:
        return not await zora.sql("select from agent_task_watchers where expires_at > clock_timestamp()")

    await until(lapsed)
    heard.clear()
    await created(zora, 1)
    await zora.sql("select pg_notify('agent_task_changes', 'marker')")  # which our own listener must not mind, too
    await until(lambda: heard)
    assert heard == ["marker"]
    await connection.close()


# --- Coming, going, and the end ---


async def test_a_client_that_goes_away_is_forgotten(live: Live) -> None:
    async with live.watch(), live.stream() as stream:
        await stream.next()
        assert len(live.api.changes.subscribers) == 2
    await live.nobody()
    async with live.watch() as client, live.stream() as stream:
        await stream.next()
        client.connection.transport.abort()
        await until(lambda: len(live.api.changes.subscribers) == 1)
    await live.nobody()


async def test_clients_that_come_while_the_last_one_goes_are_served(live: Live, zora: Zora) -> None:
    async def come_and_go(times: int) -> None:
        for _ in range(times):
            async with live.watch() as client:
                (task_id,) = await created(zora, 1)
                await client.state(task_id, "pending")
                client.connection.transport.abort()

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(come_and_go(10))
    await live.nobody()


async def test_the_end_of_the_server_is_told(api: Api, callers: Callers, loud: None) -> None:
    async with served(api, await callers.key()) as live, live.watch() as client, live.stream() as stream:
        await stream.next()
        live.stop()
        assert (await client.closed())[0] == 1012
        assert await stream.next() is None
    await live.nobody()


async def test_the_end_of_the_server_is_told_to_those_who_wait_for_the_database(
    api: Api, callers: Callers, loud: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(reader: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(changes._Reader, "run", never)

    async def stream(live: Live) -> int:
        async with live.stream() as stream:
            return stream.response.status_code

    async with served(api, await callers.key()) as live, live.watch(read=False) as client:
        status = asyncio.create_task(stream(live))
        await until(lambda: len(api.changes.subscribers) == 2)
        began = time.monotonic()
        live.stop()
        assert (await client.closed())[0] == 1012
        assert await status == 503
        assert time.monotonic() - began < 3


async def test_a_reader_that_fails_ends_the_server_loudly_and_tells_the_clients(
    zora: Zora, callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(reader: Any, cursor: Any) -> None:
        raise RuntimeError("a fault of ours")

    async def watched_until_it_fails() -> None:
        async with (
            api_for(zora.database, zora.settings, requests_per_minute=0) as api,
            served(api, await callers.key()) as live,
            live.watch() as client,
            live.stream() as stream,
        ):
            await stream.next()
            monkeypatch.setattr(changes._Reader, "_read", broken)
            await created(zora, 1)
            assert (await client.closed())[0] == 1012
            assert await stream.next() is None

    with pytest.raises(ExceptionGroup) as ended:
        await watched_until_it_fails()
    assert ended.group_contains(RuntimeError, match="a fault of ours")


# --- Server-sent events ---


async def test_a_stream_tells_what_a_websocket_tells(live: Live, zora: Zora) -> None:
    async with live.watch() as client, live.stream() as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.response.headers["cache-control"] == "no-store"
        snapshot = await stream.next()
        assert snapshot is not None
        assert snapshot["type"] == "snapshot"
        await zora.create("SAM", "count", title="line one\nline two\r\u2028")
        async with working(zora.worker(Probe())):
            await client.until(lambda m: m["type"] == "task" and m["task"]["status"] == "completed")
            told = await stream.until(lambda m: m["type"] == "task" and m["task"]["status"] == "completed")
        assert told == client.messages[1:]


async def test_a_stream_goes_on_after_the_last_id_rather_than_from_the_address(live: Live, zora: Zora) -> None:
    async with live.watch() as client:
        (first,) = await created(zora, 1)
        await client.state(first, "pending")
    old, headers = write_cursor(at(0)), {"Authorization": f"Bearer {live.key}"}
    async with live.stream(since=client.cursor, agent_id="sam") as stream:
        assert (await stream.until(lambda m: m["type"] == "heartbeat"))[0]["cursor"] == client.cursor
    async with httpx.AsyncClient(base_url=live.url, headers=headers, trust_env=False) as http:
        async with http.stream(
            "GET", PATH, params={"since": old}, headers={"Last-Event-ID": client.cursor}
        ) as response:
            message = await Events(response).next()
            assert message is not None
            assert message["cursor"] == client.cursor
        for wrong in ({"since": "x"}, {"status": "done"}, {"agent_id": "BOB"}, {"id": "5"}):
            answer = await http.get(PATH, params=wrong)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
        assert (await http.get(PATH, headers={"Authorization": ""})).status_code == 401
