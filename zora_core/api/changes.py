"""Following tasks for those who watch: one listening connection per process, one reader per watched tenant.

A notification only wakes a reader; what changed is read from the database (`changed_agent_tasks`), so that a lost
notification costs time and nothing else. See `database/sql/functions/watch_agent_tasks.sql`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from pydantic import BaseModel
from pydantic_core import to_json

from zora_core.api.answers import write_cursor
from zora_core.autonomy.backoff import retrying
from zora_core.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from zora_core.api.access import Credentials, Principal
    from zora_core.database.postgres import Database

DEBOUNCE_SECONDS = 0.05  # between two reads for a tenant, however much happens
SWEEP_SECONDS = 5.0  # between two reads when nothing is heard
POLL_SECONDS = 0.5  # the same where a pooler lets no notification through
WATCH_SECONDS = 30.0  # for how long one call of watch_agent_tasks holds; it is repeated three times as often
CREDENTIAL_SECONDS = 0.5  # between two looks at the credentials of those who watch
MAX_WAITING_EVENTS = 1000  # per subscriber; whoever falls further behind is dropped
READY_SECONDS = 10.0  # for which a subscriber waits for the database
REPLAY_ENTRIES = 2000  # of the journal, in one page of what somebody missed
MAX_WAITING_TASKS = 500  # tasks with a time of their own that a reader keeps an eye on


class TaskChange(BaseModel):
    """A task as it is now, in the few fields that a live view needs."""

    id: UUID
    agent_id: str
    task_type: str
    status: str
    waiting_for: str | None = None
    title: str
    priority: int = 0
    progress: float | None = None
    progress_message: str | None = None
    attempt: int = 0
    result_summary: str | None = None
    error_message: str | None = None
    failure_kind: str | None = None
    run_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    created_at: datetime
    updated_at: datetime | None = None

    @property
    def version(self) -> datetime:
        """When the row was written last."""
        return self.updated_at or self.created_at

    def earlier(self, previous: TaskChange | None, *, is_new: bool) -> list[TaskChange]:
        """The states that the task passed through since `previous`, too quickly for a read to see them.

        `is_new` says that the task was created since the last read. The row tells by its own times when it started.
        """
        states = []
        if is_new and (self.status != "pending" or self.attempt):
            states.append(self._at("pending", waiting_for=None, attempt=0, started_at=None))
        ran = self.status == "completed" or self.waiting_for == "retry" or self.failure_kind not in (None, "cancelled")
        known = previous is not None and previous.started_at == self.started_at
        if self.status != "in_progress" and ran and self.started_at is not None and not known:
            states.append(self._at("in_progress", waiting_for=None, attempt=max(self.attempt, 1)))
        return states

    def _at(self, status: str, **fields: Any) -> TaskChange:
        """The task as it was when it came into `status`: without what happened later, and written at its start."""
        written = None if status == "pending" else self.started_at
        return self.model_copy(update={**_LATER, **fields, "status": status, "updated_at": written})


_LATER = dict.fromkeys(
    ("progress", "progress_message", "result_summary", "error_message", "failure_kind", "completed_at", "run_at")
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which tasks a subscriber wants; None is all."""

    agent_id: str | None = None
    status: str | None = None
    task_id: UUID | None = None

    def fits(self, task: TaskChange) -> bool:
        """Whether the task is one of those."""
        return (
            (self.agent_id is None or task.agent_id == self.agent_id)
            and (self.status is None or task.status == self.status)
            and (self.task_id is None or task.id == self.task_id)
        )


@dataclass(frozen=True, slots=True)
class Event:
    """A change with its message, written once for all subscribers."""

    task: TaskChange
    cursor: datetime
    text: str


def task_event(task: TaskChange, cursor: datetime) -> Event:
    """The message of a change; from `cursor` on a client misses nothing that came after it."""
    message = {"type": "task", "cursor": write_cursor(cursor), "task": task}
    return Event(task, cursor, to_json(message).decode())


class Subscriber:
    """One watcher: the events that wait for it, and why it was ended."""

    def __init__(self, principal: Principal, wanted: Filter) -> None:
        """Nothing waits yet."""
        self.principal = principal
        self.wanted = wanted
        self.ended: str | None = None
        """Why no event will come any more: slow, credential or shutdown."""
        self.over = asyncio.Event()
        """Set when `ended` is."""
        self._waiting: deque[Event] = deque()
        self._in_view: set[UUID] = set()
        self._sent: dict[UUID, datetime] = {}
        self._wake = asyncio.Event()

    def offer(self, event: Event) -> None:
        """Queue an event if it is wanted, or if it takes a task out of view."""
        if self.ended or not self.takes(event.task):
            return
        if len(self._waiting) >= MAX_WAITING_EVENTS:
            self.end("slow")
            return
        self._waiting.append(event)
        self._wake.set()

    def takes(self, task: TaskChange) -> bool:
        """Whether the subscriber is to be told of this state; with a status filter, also when a task leaves it."""
        if self.wanted.fits(task):
            if self.wanted.status is not None:
                self._in_view.add(task.id)
            return True
        if task.id in self._in_view:
            self._in_view.discard(task.id)
            return True
        return False

    def seen(self, task: TaskChange) -> None:
        """The subscriber has this state from elsewhere: older ones that still wait are passed over."""
        self._sent[task.id] = task.version
        self.takes(task)

    def end(self, why: str) -> None:
        """No more events; those that wait are dropped."""
        self.ended = self.ended or why
        self._waiting.clear()
        self.over.set()
        self._wake.set()

    async def next(self, seconds: float) -> list[Event]:
        """The events that wait, at once or when the first comes; none after `seconds`, or when ended."""
        if not self._waiting and not self.ended:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
        events = [e for e in self._waiting if e.task.id not in self._sent or e.task.version >= self._sent[e.task.id]]
        self._waiting.clear()
        return events


class Changes:
    """Hands changes to subscribers; `run()` must be running as a task."""

    def __init__(self, owner: Database, database: Database, credentials: Credentials) -> None:
        """`owner` listens, `database` (the restricted one) reads."""
        self._owner = owner
        self._database = database
        self._credentials = credentials
        self._readers: dict[UUID, _Reader] = {}
        self._group: asyncio.TaskGroup | None = None

    @property
    def subscribers(self) -> list[Subscriber]:
        """Everyone who watches at this moment."""
        return [subscriber for reader in self._readers.values() for subscriber in reader.subscribers]

    async def run(self) -> None:
        """Listen and read for ever; a lost database is waited for. On cancellation the subscribers are told."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._check_credentials())
                if not self._owner.pooled:
                    group.create_task(self._listen())
        finally:
            self.close()

    def close(self) -> None:
        """Take no new subscribers, and tell those there are that it is over."""
        self._group = None
        for subscriber in self.subscribers:
            subscriber.end("shutdown")

    @asynccontextmanager
    async def subscribe(self, subscriber: Subscriber) -> AsyncIterator[None]:
        """Offer the changes of its tenant to a subscriber from now on.

        Raises `DatabaseUnavailable` when the database cannot be read, or when changes are not followed (any more).
        """
        if self._group is None:
            raise DatabaseUnavailable("changes are not followed at this moment")
        tenant_id = subscriber.principal.tenant_id
        reader = self._readers.get(tenant_id)
        if reader is None:
            reader = _Reader(self._owner, self._database, tenant_id)
            self._readers[tenant_id] = reader
            reader.work = self._group.create_task(reader.run())
        reader.subscribers.add(subscriber)
        try:
            try:
                async with asyncio.timeout(READY_SECONDS):
                    await reader.ready.wait()
            except TimeoutError:
                raise DatabaseUnavailable(f"the tasks could not be read within {READY_SECONDS:.0f} s") from None
            yield
        finally:
            reader.subscribers.discard(subscriber)
            if not reader.subscribers and self._readers.get(tenant_id) is reader:
                del self._readers[tenant_id]
                reader.work.cancel()

    async def since(self, tenant_id: UUID, cursor: datetime) -> AsyncIterator[tuple[list[TaskChange], datetime]]:
        """What changed since a cursor, in pages, each with the cursor from which to go on after it."""
        after: UUID | None = None
        safe: datetime | None = None
        while True:
            rows = await self._database.call(
                "changed_agent_tasks", tenant_id=tenant_id, since=cursor, after_id=after, limit=REPLAY_ENTRIES
            )
            safe = safe or rows[0]["cursor"]
            after = rows[0]["more_after"]
            # Ids are made to the millisecond.
            yield _tasks(rows), safe if after is None else min(safe, datetime.fromtimestamp(_made_at(after), UTC))
            if after is None:
                return

    async def now(self) -> datetime:
        """The cursor of this moment: whatever is not visible yet comes after it."""
        return await self._database.value("journal_watermark")  # type: ignore[no-any-return]

    async def _listen(self) -> None:
        def notified(payload: str) -> None:
            reader = self._readers.get(UUID(payload))
            if reader is not None:
                reader.wake.set()

        async def until_lost() -> None:
            async with self._owner.listening("agent_task_changes", notified) as lost:
                for reader in self._readers.values():
                    reader.wake.set()  # whatever happened while nobody listened
                await lost.wait()
            raise DatabaseUnavailable("the connection for notifications was lost")

        await retrying(self._owner, until_lost)

    async def _check_credentials(self) -> None:
        """End those whose key was revoked, whose role changed or whose token expired."""
        while True:
            await asyncio.sleep(CREDENTIAL_SECONDS)
            watching = self.subscribers
            if not watching:
                continue
            try:
                good = await self._credentials.still_good([s.principal for s in watching])
            except DatabaseUnavailable:
                continue  # nobody is told anything meanwhile, because there is nothing to read from
            for subscriber in watching:
                if subscriber.principal.label not in good:
                    subscriber.end("credential")


class _Reader:
    """Reads one tenant's changes and hands them to its subscribers."""

    def __init__(self, owner: Database, database: Database, tenant_id: UUID) -> None:
        self.subscribers: set[Subscriber] = set()
        self.wake = asyncio.Event()
        self.ready = asyncio.Event()
        self.work: asyncio.Task[None]
        self._owner = owner
        self._database = database
        self._tenant_id = tenant_id
        self._watcher_id = uuid4()
        self._known: dict[UUID, TaskChange] = {}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        await self._call(self._watch)
        watched = loop.time()
        cursor = first = await self._call(lambda: self._database.value("journal_watermark"))
        rows = await self._read(cursor)
        self._known = {task.id: task for task in _tasks(rows)}
        self.ready.set()
        pause = POLL_SECONDS if self._owner.pooled else SWEEP_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.wake.wait()
            self.wake.clear()
            if loop.time() - watched > WATCH_SECONDS / 3:
                await self._call(self._watch)
                watched = loop.time()
            rows = await self._read(cursor)
            tasks = {task.id: task for task in _tasks(rows)}
            self._deliver(list(tasks.values()), cursor, rows[0]["cursor"], first)
            cursor = rows[0]["cursor"]
            await asyncio.sleep(DEBOUNCE_SECONDS)

    def _deliver(self, tasks: list[TaskChange], before: datetime, after: datetime, first: datetime) -> None:
        """Only the last event of a read carries the cursor after it: whoever breaks off earlier must get the rest."""
        news: list[TaskChange] = []
        for task in tasks:
            previous = self._known.get(task.id)
            if previous != task:
                is_new = previous is None and _made_at(task.id) >= first.timestamp()
                news += [*task.earlier(previous, is_new=is_new), task]
        waiting = sorted((t for t in self._known.values() if t.waiting_for in _TIMED), key=lambda t: t.run_at or first)
        self._known = {task.id: task for task in [*waiting[:MAX_WAITING_TASKS], *tasks]}
        for index, task in enumerate(news, 1):
            event = task_event(task, after if index == len(news) else before)
            for subscriber in self.subscribers:
                subscriber.offer(event)

    async def _read(self, cursor: datetime) -> list[dict[str, Any]]:
        """All changes since a cursor; the first row has the next one."""
        known = [task.id for task in self._known.values() if task.status == "in_progress" or task.waiting_for in _TIMED]
        rows: list[dict[str, Any]] = []
        after = None
        while not rows or after is not None:
            arguments = {"tenant_id": self._tenant_id, "since": cursor, "known": known, "after_id": after}
            found = await self._call(partial(self._database.call, "changed_agent_tasks", **arguments))
            rows += found
            after, known = found[0]["more_after"], []
        return rows

    async def _watch(self) -> None:
        await self._database.call(
            "watch_agent_tasks", tenant_id=self._tenant_id, watcher_id=self._watcher_id, seconds=WATCH_SECONDS
        )

    async def _call(self, call: Callable[[], Any]) -> Any:
        return await retrying(self._owner, call)


_TIMED = ("run_at", "retry")


def _tasks(rows: list[dict[str, Any]]) -> list[TaskChange]:
    return [TaskChange.model_validate(row) for row in rows if row["id"] is not None]


def _made_at(task_id: UUID) -> float:
    """When a time-ordered id was made: its first 48 bits are Unix time in milliseconds."""
    return (task_id.int >> 80) / 1000
