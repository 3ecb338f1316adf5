"""Notifications of watchers; and a reader of changes misses none, with any overlap of transactions."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Server, Zora
from zora_core.database import schema
from zora_core.database.postgres import API_ROLE
from zora_core.settings import DEFAULT_TENANT_ID

pytestmark = pytest.mark.both_transports

CHANNEL = "agent_task_changes"
WATCHER = UUID(int=1)
OTHER_TENANT_ID = UUID(int=2)


class Listener:
    """Hears what is said on the channel of changes."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._heard: asyncio.Queue[str] = asyncio.Queue()

    @classmethod
    @asynccontextmanager
    async def on(cls, url: str) -> AsyncIterator[Listener]:
        connection = await asyncpg.connect(url)
        listener = cls(connection)
        await connection.add_listener(CHANNEL, lambda _c, _pid, _channel, payload: listener._heard.put_nowait(payload))
        try:
            yield listener
        finally:
            await connection.close()

    async def heard(self) -> list[str]:
        """What was said since the last call. Notifications come in the order of commits: the last one is our own."""
        end = str(uuid4())
        await self._connection.execute("select pg_notify($1, $2)", CHANNEL, end)
        said = []
        while (payload := await asyncio.wait_for(self._heard.get(), 10)) != end:
            said.append(payload)
        return said


async def watch(zora: Zora, tenant_id: UUID = DEFAULT_TENANT_ID, seconds: float = 3600) -> None:
    await zora.call("watch_agent_tasks", tenant_id=tenant_id, watcher_id=WATCHER, seconds=seconds)


TASK = {"agent_id": "SAM", "task_type": "t", "title": "t"}


class Actions:
    """Everything that changes tasks, three at a time where a statement can."""

    def __init__(self, zora: Zora) -> None:
        self._zora = zora
        self._claimed: list[dict[str, Any]] = []

    async def create(self, **fields: Any) -> None:
        await self._zora.call("create_agent_tasks", tenant_id=DEFAULT_TENANT_ID, tasks=[{**TASK, **fields}] * 3)

    async def create_one_for_later(self) -> None:
        later = {**TASK, "run_at": (self._zora.now.replace(year=2027)).isoformat()}
        await self._zora.call("create_agent_tasks", tenant_id=DEFAULT_TENANT_ID, tasks=[later])

    async def promote(self) -> None:
        await self._zora.advance(days=1000)
        (row,) = await self._zora.call("promote_agent_tasks")
        assert row["promoted"] == 1

    async def claim(self) -> None:
        self._claimed = await self._zora.call(
            "claim_agent_tasks", tenant_id=DEFAULT_TENANT_ID, worker_id="w", limit=3, lease_seconds=10
        )
        assert len(self._claimed) == 3

    async def progress(self) -> None:
        await self._beat(progress=[0.1, 0.2, 0.3], messages=["a", "b", "c"])

    async def prolong(self) -> None:
        await self._beat()

    async def _beat(self, **progress: Any) -> None:
        rows = await self._zora.call(
            "heartbeat_agent_tasks",
            ids=[task["id"] for task in self._claimed],
            lease_tokens=[task["lease_token"] for task in self._claimed],
            lease_seconds=10,
            **progress,
        )
        assert [row["state"] for row in rows] == ["held"] * 3

    async def settle(self, *outcomes: str) -> None:
        rows = await self._zora.call(
            "settle_agent_tasks",
            ids=[task["id"] for task in self._claimed],
            lease_tokens=[task["lease_token"] for task in self._claimed],
            outcomes=list(outcomes),
            summaries=["done"] * 3,
            results=[{}] * 3,
            errors=["broken"] * 3,
            failure_kinds=["error"] * 3,
            delays=[3600.0] * 3,
        )
        assert len(rows) == 3

    async def complete(self) -> None:
        await self.settle("completed", "completed", "completed")

    async def end_in_different_ways(self) -> None:
        await self.settle("completed", "failed", "error")

    async def snooze(self) -> None:
        await self.settle("snoozed", "snoozed", "snoozed")

    async def hand_back(self) -> None:
        await self.settle("released", "released", "released")

    async def rescue(self) -> None:
        await self._zora.advance(minutes=1)
        assert len(await self._zora.call("rescue_agent_tasks")) == 3

    async def cancel(self) -> None:
        await self._on_one("cancel_agent_task", "pending")

    async def ask_to_stop(self) -> None:
        await self._on_one("cancel_agent_task", "in_progress")

    async def retry(self) -> None:
        await self._on_one("retry_agent_task", "failed")

    async def _on_one(self, function: str, status: str) -> None:
        (task, *_) = await self._zora.call("list_agent_tasks", tenant_id=DEFAULT_TENANT_ID, status=status)
        await self._zora.call(function, tenant_id=DEFAULT_TENANT_ID, id=task["id"])


STORIES = {
    "a creation": ["create"],
    "a creation for later": ["create_one_for_later"],
    "a promotion": ["create_one_for_later", "promote"],
    "a claim": ["create", "claim"],
    "a progress beat": ["create", "claim", "progress"],
    "a completion": ["create", "claim", "complete"],
    "different ends": ["create", "claim", "end_in_different_ways"],
    "a snooze": ["create", "claim", "snooze"],
    "a hand-back": ["create", "claim", "hand_back"],
    "a rescue": ["create", "claim", "rescue"],
    "a cancellation": ["create", "cancel"],
    "a request to stop": ["create", "claim", "ask_to_stop"],
    "a retry": ["create", "cancel", "retry"],
}


@pytest.mark.parametrize("story", STORIES)
async def test_watchers_are_told_of_a_change_once_per_statement_and_nobody_else_is(zora: Zora, story: str) -> None:
    """Nothing is said of a tenant that nobody watches (any more), nor because another one is watched."""
    await zora.call("ensure_tenant", id=OTHER_TENANT_ID, name="other", slug="other")
    actions = Actions(zora)
    *before, action = STORIES[story]
    async with Listener.on(zora.url) as listener:
        await watch(zora, OTHER_TENANT_ID)
        await watch(zora, seconds=-0.001)
        for step in before:
            await getattr(actions, step)()
        assert await listener.heard() == [], "the watch is over"
        await watch(zora)
        await getattr(actions, action)()
        assert await listener.heard() == [str(DEFAULT_TENANT_ID)]
    if action == "create":
        async with Listener.on(zora.url) as listener:
            await watch(zora, seconds=-0.001)
            await actions.create()
            assert await listener.heard() == []


async def test_what_changes_nothing_that_is_shown_is_not_announced(zora: Zora) -> None:
    actions = Actions(zora)
    await actions.create()
    await actions.claim()
    await watch(zora)
    async with Listener.on(zora.url) as listener:
        await actions.prolong()
        await zora.call("claim_agent_tasks", tenant_id=DEFAULT_TENANT_ID, worker_id="w", limit=3)
        await zora.call("promote_agent_tasks")
        await zora.call("rescue_agent_tasks")
        await zora.call("create_agent_tasks", tenant_id=DEFAULT_TENANT_ID, tasks=[])
        assert await listener.heard() == []


async def test_a_change_by_the_apis_role_is_announced_to_its_own_tenant_only(zora: Zora) -> None:
    await zora.call("ensure_tenant", id=OTHER_TENANT_ID, name="other", slug="other")
    api = await zora.database.restricted()
    try:
        async with Listener.on(zora.url) as listener:
            await api.call("watch_agent_tasks", tenant_id=DEFAULT_TENANT_ID, watcher_id=WATCHER, seconds=3600)
            await api.call("create_agent_tasks", tenant_id=OTHER_TENANT_ID, tasks=[TASK])
            assert await listener.heard() == []
            (task,) = await api.call("create_agent_tasks", tenant_id=DEFAULT_TENANT_ID, tasks=[TASK])
            for function in ("cancel_agent_task", "retry_agent_task"):
                await api.call(function, tenant_id=DEFAULT_TENANT_ID, id=task["id"])
            assert await listener.heard() == [str(DEFAULT_TENANT_ID)] * 3
    finally:
        await api.close()


async def test_a_watch_is_prolonged_and_forgotten_an_hour_after_its_end(zora: Zora) -> None:
    await watch(zora, seconds=10)
    await watch(zora, seconds=-3601)
    assert await zora.sql("select from agent_task_watchers") == []
    await watch(zora, seconds=3600)
    (row,) = await zora.sql(
        "select expires_at > clock_timestamp() + interval '59 min' as long from agent_task_watchers"
    )
    assert row["long"]


async def test_a_watcher_does_not_wait_for_another_ones_row(zora: Zora) -> None:
    """Two processes that slept for more than an hour, and wake together, must not lock each other out."""
    await zora.sql(
        "insert into agent_task_watchers (tenant_id, watcher_id, expires_at) "
        "select $1, gen_random_uuid(), clock_timestamp() - interval '2 hours' from generate_series(1, 2)",
        DEFAULT_TENANT_ID,
    )
    locking = "select watcher_id from agent_task_watchers where tenant_id = $1 order by watcher_id limit 1 for update"
    async with connections(zora.url, None, API_ROLE) as (slow, quick), slow.transaction():
        locked = await slow.fetchval(locking, DEFAULT_TENANT_ID)
        await quick.execute("set lock_timeout = '5s'")
        await quick.execute("select watch_agent_tasks($1, $2, 3600)", DEFAULT_TENANT_ID, WATCHER)
        rows = await quick.fetch("select watcher_id from agent_task_watchers")
        assert {row["watcher_id"] for row in rows} == {locked, WATCHER}, "the other one is forgotten"


STRICT = ("interval '50 milliseconds'", "interval '0 milliseconds'")


@pytest.fixture(scope="module", params=["embedded", "system"])
def strict(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database without the watermark's margin, which would hide in a quick test what these tests look for."""
    server: Server = request.getfixturevalue(request.param)

    async def prepare(url: str) -> None:
        connection = await asyncpg.connect(url)
        await schema.migrate(connection)
        definition = await connection.fetchval("select pg_get_functiondef('journal_watermark'::regproc)")
        assert definition.count(STRICT[0]) == 1
        await connection.execute(definition.replace(*STRICT))
        for tenant_id in (DEFAULT_TENANT_ID, OTHER_TENANT_ID):
            await connection.execute("select ensure_tenant($1, $2, $2)", tenant_id, str(tenant_id))
        await connection.close()

    with asyncio.Runner() as runner:
        database = server.fresh()
        url = runner.run(database.__aenter__())
        runner.run(prepare(url))
        yield url
        runner.run(database.__aexit__(None, None, None))


@asynccontextmanager
async def connections(url: str, *roles: str | None) -> AsyncIterator[list[asyncpg.Connection]]:
    """One per role; the API's is within the default tenant."""
    opened: list[asyncpg.Connection] = []
    try:
        for role in roles:
            opened.append(await asyncpg.connect(url, server_settings={"role": role} if role else None))
            if role == API_ROLE:
                await opened[-1].execute("select set_config('zora.tenant_id', $1, false)", str(DEFAULT_TENANT_ID))
        yield opened
    finally:
        for connection in opened:
            await connection.close(timeout=5)


async def created(connection: asyncpg.Connection, tenant_id: UUID = DEFAULT_TENANT_ID) -> UUID:
    return await connection.fetchval("select id from create_agent_tasks($1, $2)", tenant_id, json.dumps([TASK]))


async def changed(
    connection: asyncpg.Connection, since: Any, known: list[UUID] | None = None, **more: Any
) -> tuple[Any, dict[UUID, asyncpg.Record]]:
    """The next cursor and the tasks that changed, by id."""
    named = "".join(f", p_{name} => ${number}" for number, name in enumerate(more, 4))
    rows = await connection.fetch(
        f"select * from changed_agent_tasks($1, $2, $3{named})", DEFAULT_TENANT_ID, since, known or [], *more.values()
    )
    assert len({row["cursor"] for row in rows}) == 1, "the cursor comes with every row, and there is always one"
    found = {row["id"]: row for row in rows if row["id"] is not None}
    assert len(found) == len(rows) or (len(rows) == 1 and not found)
    return rows[0]["cursor"], found


async def nothing_more(connection: asyncpg.Connection, cursor: Any) -> None:
    """The cursor passes everything; what happened in its own millisecond may be told twice."""
    async with asyncio.timeout(10):
        while True:
            cursor, found = await changed(connection, cursor)
            if not found:
                return


@pytest.mark.parametrize("role", [None, API_ROLE])
async def test_a_task_made_in_a_transaction_that_is_still_open_is_told_of_after_its_commit(
    strict: str, role: str | None
) -> None:
    async with connections(strict, None, None, role) as (slow, quick, watcher):
        cursor, _ = await changed(watcher, None)
        began = await quick.fetchval("select clock_timestamp()")
        transaction = slow.transaction()
        await transaction.start()
        hidden = await created(slow)
        for _ in range(3):
            seen = await created(quick)
            cursor, found = await changed(watcher, cursor)
            assert seen in found
            assert hidden not in found
        assert began <= cursor <= await slow.fetchval("select now()"), "held back, and no further than need be"
        await transaction.commit()
        cursor, found = await changed(watcher, cursor)
        assert hidden in found
        await nothing_more(watcher, cursor)


async def test_a_reader_does_not_hold_the_cursor_back_and_a_late_writer_is_not_missed(strict: str) -> None:
    """A transaction that began long ago and writes only now writes after every cursor that was given meanwhile."""
    async with connections(strict, None, None, API_ROLE) as (slow, quick, watcher):
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("select count(*) from agent_tasks")
        began = await quick.fetchval("select clock_timestamp()")
        cursor, _ = await changed(watcher, None)
        assert cursor > began
        hidden = await created(slow)
        cursor, found = await changed(watcher, cursor)
        await transaction.commit()
        _, found = await changed(watcher, cursor)
        assert hidden in found


async def test_two_looks_within_one_transaction_both_see_who_writes(strict: str) -> None:
    """The server shows a transaction the same activity again, unless it is told to look anew."""
    async with connections(strict, None, None) as (slow, watcher), watcher.transaction():
        cursor, _ = await changed(watcher, None)
        transaction = slow.transaction()
        await transaction.start()
        hidden = await created(slow)
        for _ in range(2):
            cursor, _ = await changed(watcher, cursor)
        await transaction.commit()
        _, found = await changed(watcher, cursor)
        assert hidden in found


async def test_the_transaction_of_a_role_that_the_owner_may_not_look_at_is_waited_for(server: Server) -> None:
    """An owner who is not a superuser learns of such a transaction, but not when it began."""
    owner, stranger = f"owner_{uuid4().hex}", f"stranger_{uuid4().hex}"
    try:
        await server.admin(*(f'create role "{name}" login; grant zora_api to "{name}"' for name in (owner, stranger)))
        async with server.fresh() as url:
            await server.admin(f'alter database {urlsplit(url).path[1:]} owner to "{owner}"')
            async with connections(url.replace("postgres@", f"{owner}@"), None, None) as (quick, watcher):
                await schema.migrate(quick)
                definition = await quick.fetchval("select pg_get_functiondef('journal_watermark'::regproc)")
                await quick.execute(definition.replace(*STRICT))
                await quick.execute("select ensure_tenant($1, 't', 't')", DEFAULT_TENANT_ID)
                async with connections(url.replace("postgres@", f"{stranger}@"), API_ROLE) as (slow,):
                    cursor, _ = await changed(watcher, None)
                    transaction = slow.transaction()
                    await transaction.start()
                    hidden = await created(slow)
                    for _ in range(3):
                        seen = await created(quick)
                        cursor, found = await changed(watcher, cursor)
                        assert seen in found
                        assert hidden not in found
                    await transaction.commit()
                    cursor, found = await changed(watcher, cursor)
                    assert hidden in found
                    await nothing_more(watcher, cursor)
    finally:
        await server.admin(*(f'drop role if exists "{name}"' for name in (owner, stranger)))


async def test_a_hand_back_leaves_no_trace_and_is_seen_by_who_knew_of_the_run(strict: str) -> None:
    async with connections(strict, None, API_ROLE) as (worker, watcher):
        task_id = await created(worker)
        claimed = await worker.fetch("select * from claim_agent_tasks($1, 'w', 100)", DEFAULT_TENANT_ID)
        cursor, found = await changed(watcher, None)
        assert found[task_id]["status"] == "in_progress"
        ids, tokens = [row["id"] for row in claimed], [row["lease_token"] for row in claimed]
        await worker.execute(
            "select from settle_agent_tasks($1, $2, array_fill('released'::text, $3), '{}', '{}', '{}', '{}', '{}')",
            ids, tokens, [len(ids)],
        )  # fmt: skip
        cursor, found = await changed(watcher, cursor)
        assert task_id not in found
        _, found = await changed(watcher, cursor, [task_id, uuid4()])
        assert {i: row["status"] for i, row in found.items()} == {task_id: "pending"}


async def test_what_changed_may_be_read_in_pages_of_any_size(strict: str) -> None:
    async with connections(strict, None, API_ROLE) as (owner, watcher):
        since = await owner.fetchval("select journal_watermark()")
        made = [await created(owner) for _ in range(5)]
        await owner.execute(
            "insert into journal_entries (tenant_id, category, event_type, title) values ($1, 'decision', 'd', 'd')",
            DEFAULT_TENANT_ID,
        )
        for limit in (1, 2, 3, 6, 7):
            found: set[UUID] = set()
            after, pages = None, 0
            while after is not None or not pages:
                rows = await watcher.fetch(
                    "select * from changed_agent_tasks($1, $2, p_after_id => $3, p_limit => $4)",
                    DEFAULT_TENANT_ID, since, after, limit,
                )  # fmt: skip
                found |= {row["id"] for row in rows if row["id"] is not None}
                after = rows[0]["more_after"]
                pages += 1
                assert pages <= 8
            assert found >= set(made)


async def test_of_many_who_write_at_once_nothing_is_missed(strict: str) -> None:
    """Truly at once, unlike below: transactions begin and end while the watcher is looking."""
    async with connections(strict, *[None] * 5, API_ROLE) as (*writers, watcher):
        made: set[UUID] = set()

        async def write(connection: asyncpg.Connection) -> None:
            for _ in range(50):
                async with connection.transaction():
                    made.update([await created(connection), await created(connection)])

        cursor, _ = await changed(watcher, None)
        writing = asyncio.gather(*(write(connection) for connection in writers))
        told: set[UUID] = set()
        while not writing.done():
            cursor, found = await changed(watcher, cursor)
            told |= set(found)
        await writing
        _, found = await changed(watcher, cursor)
        assert told | set(found) == made
        await writers[0].execute("delete from agent_tasks")


WRITERS = 3
STEPS = st.one_of(
    st.tuples(st.just("poll")),
    st.tuples(st.sampled_from(["begin", "commit", "rollback"]), st.integers(0, WRITERS - 1)),
    st.tuples(
        st.sampled_from(["create", "claim", "complete", "release", "progress", "cancel", "retry"]),
        st.integers(0, WRITERS - 1),
        st.integers(0, 5),
    ),
)


class Overlapping:
    """Writers with transactions of their own, and a watcher who keeps a copy of the list from what it is told."""

    def __init__(
        self, writers: list[asyncpg.Connection], watcher: asyncpg.Connection, owner: asyncpg.Connection
    ) -> None:
        self.writers = writers
        self.watcher = watcher
        self.owner = owner
        self.open: dict[int, Any] = {}
        self.touched: dict[UUID, int] = {}
        """By whose open transaction; another one would wait for it."""
        self.copy: dict[UUID, tuple[Any, ...]] = {}
        self.cursor: Any = None

    async def start(self) -> None:
        self.cursor, _ = await changed(self.watcher, None)
        self.copy = await self.shown(self.watcher)

    async def shown(self, connection: asyncpg.Connection) -> dict[UUID, tuple[Any, ...]]:
        rows = await connection.fetch("select * from list_agent_tasks($1, p_limit => 10000)", DEFAULT_TENANT_ID)
        return {row["id"]: self.view(row) for row in rows}

    @staticmethod
    def view(row: asyncpg.Record) -> tuple[Any, ...]:
        """Without updated_at, all that is left of a run that began and was handed back unseen."""
        return (row["status"], row["waiting_for"], row["attempt"], row["progress"], row["failure_kind"])

    async def take(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("poll",):
                await self.poll()
            case ("begin", writer) if writer not in self.open:
                self.open[writer] = self.writers[writer].transaction()
                await self.open[writer].start()
            case ("commit" | "rollback" as end, writer) if writer in self.open:
                await getattr(self.open.pop(writer), end)()
                self.touched = {task: by for task, by in self.touched.items() if by != writer}
            case (action, writer, number):
                await self.act(action, writer, number)

    async def act(self, action: str, writer: int, number: int) -> None:
        connection = self.writers[writer]
        if action == "create":
            self.touch(writer, await created(connection))
            return
        if action == "claim":
            for row in await connection.fetch(
                "select id from claim_agent_tasks($1, 'w', $2)", DEFAULT_TENANT_ID, 1 + number % 2
            ):
                self.touch(writer, row["id"])
            return
        status = {"cancel": "pending", "retry": "failed"}.get(action, "in_progress")
        rows = await connection.fetch(
            "select id, lease_token from agent_tasks where tenant_id = $1 and status::text = $2 order by id",
            DEFAULT_TENANT_ID, status,
        )  # fmt: skip
        rows = [row for row in rows if self.touched.get(row["id"], writer) == writer]
        if not rows:
            return
        task_id, token = rows[number % len(rows)]
        self.touch(writer, task_id)
        match action:
            case "cancel" | "retry":
                await connection.execute(f"select from {action}_agent_task($1, $2)", DEFAULT_TENANT_ID, task_id)
            case "progress":
                await connection.execute(
                    "select from heartbeat_agent_tasks($1, $2, 3600, $3)", [task_id], [token], [number / 10]
                )
            case _:
                outcome = {"complete": "completed", "release": "released"}[action]
                await connection.execute(
                    "select from settle_agent_tasks($1, $2, $3, '{done}', '{}', '{}', '{}', '{}')",
                    [task_id], [token], [outcome],
                )  # fmt: skip

    def touch(self, writer: int, task_id: UUID) -> None:
        if writer in self.open:
            self.touched[task_id] = writer

    async def poll(self) -> None:
        """The copy is brought up to date, and must then be what is committed."""
        running = [task_id for task_id, (status, *_) in self.copy.items() if status == "in_progress"]
        before = self.cursor
        self.cursor, found = await changed(self.watcher, before, running)
        assert self.cursor >= before
        self.copy |= {task_id: self.view(row) for task_id, row in found.items()}
        assert self.copy == await self.shown(self.owner)

    async def end(self) -> None:
        for transaction in self.open.values():
            await transaction.rollback()
        await self.owner.execute("delete from agent_tasks")


def test_a_copy_kept_from_what_is_told_is_always_what_is_committed(strict: str) -> None:
    """Creations, runs, cancellations and retries in overlapping transactions that are committed or rolled back."""
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:
        opened = connections(strict, *[None] * (WRITERS + 1), API_ROLE)
        *writers, owner, watcher = runner.run(opened.__aenter__())
        stack.callback(lambda: runner.run(opened.__aexit__(None, None, None)))

        async def play(steps: list[tuple[Any, ...]]) -> None:
            world = Overlapping(writers, watcher, owner)
            try:
                await world.start()
                for step in steps:
                    await world.take(step)
                await world.poll()
            finally:
                await world.end()

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(STEPS, min_size=15, max_size=40))
        def check(steps: list[tuple[Any, ...]]) -> None:
            runner.run(play(steps))

        check()
