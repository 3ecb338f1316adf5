"""Following tasks for those who watch: one listening connection per process, one reader per watched tenant.

A notification only wakes a reader; what changed is read from the database (`changed_agent_tasks`), so that a lost
notification costs time and nothing else. See `database/sql/functions/watch_agent_tasks.sql`.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from pydantic import BaseModel
from pydantic_core import to_json

from zora_core.api.answers import write_cursor
from zora_core.database.backoff import FIRST_SECONDS, retrying
from zora_core.errors import DatabaseUnavailable, DataRejected

if TYPE_CHECKING:
    from zora_core.api.access import Credentials, Principal
    from zora_core.database.database import Database

logger = logging.getLogger("zora.api")

DEBOUNCE_SECONDS = 0.05  # between two reads for a tenant, however much happens
SWEEP_SECONDS = 5.0  # between two reads when nothing is heard
WATCH_SECONDS = 30.0  # for how long one call of watch_agent_tasks holds; it is repeated three times as often
MAX_WAITING_EVENTS = 1000  # per subscriber; one that falls further behind reads the missed events from the database
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

    @property
    def finished(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.status in ("completed", "failed")

    def earlier(self, previous: TaskChange | None, *, is_new: bool) -> list[TaskChange]:
        """The states that the task passed through since `previous`, too quickly for a read to see them.

        `is_new` says that the task was created since the last read. The row tells by its own times when it started.
        """
        states = []
        if is_new and (self.status != "pending" or self.started_at is not None):
            states.append(self._at("pending", waiting_for=None, attempt=0, started_at=None))
        if self.status != "in_progress" and self._ran_since(previous, is_new=is_new):
            # A run that was handed back, put off or rescued does not count as an attempt.
            counted = self.attempt + (self.status == "pending" and self.waiting_for != "retry")
            states.append(self._at("in_progress", waiting_for=None, attempt=counted))
        return states

    def _ran_since(self, previous: TaskChange | None, *, is_new: bool) -> bool:
        if self.started_at is None:
            return False
        if previous is not None:
            return previous.started_at != self.started_at
        # What was running at the last read is known: this one began after it, unless it was cancelled while it waited.
        return is_new or self.failure_kind != "cancelled"

    def _at(self, status: str, **fields: Any) -> TaskChange:
        """The task as it was when it came into `status`: without what happened later, and written at its start."""
        written = None if status == "pending" else self.started_at
        return self.model_copy(update={**_LATER, **fields, "status": status, "updated_at": written})


class SuggestionChange(BaseModel):
    """A suggestion as it is now; `due` says that its time to be decided runs out."""

    id: UUID
    agent_id: str
    task_id: UUID | None = None
    suggestion_type: str
    title: str
    risk_level: str
    status: str
    due: bool = False
    expires_at: datetime | None = None
    created_at: datetime


_LATER = dict.fromkeys(
    ("progress", "progress_message", "result_summary", "error_message", "failure_kind", "completed_at", "run_at")
)

# From which states a task may have come into a state, when it is not known from which it did.
_ORIGINS = {
    "pending": frozenset({"in_progress", "failed"}),
    "in_progress": frozenset({"pending"}),
    "completed": frozenset({"in_progress"}),
    "failed": frozenset({"pending", "in_progress"}),
}


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: its type, the cursor from which on nothing is missed after it, and the whole as JSON."""

    kind: str
    cursor: datetime
    text: str


def write_message(kind: str, cursor: datetime, **fields: Any) -> Message:
    """A message of this type with these fields."""
    return Message(kind, cursor, to_json({"type": kind, "cursor": write_cursor(cursor), **fields}).decode())


@dataclass(frozen=True, slots=True)
class Event:
    """A change, in which states the task may have been before it, and its message, written once for all subscribers."""

    change: TaskChange | SuggestionChange
    origins: frozenset[str]
    message: Message


@dataclass(frozen=True, slots=True)
class Filter:
    """Which tasks a subscriber wants; None is all."""

    agent_id: str | None = None
    status: str | None = None
    task_id: UUID | None = None

    def concerns(self, task: TaskChange) -> bool:
        """Whether it is one of those, in whatever state."""
        return (self.agent_id is None or task.agent_id == self.agent_id) and self.task_id in (None, task.id)

    def fits(self, task: TaskChange) -> bool:
        """Whether it is one of those, and in the state that is asked for."""
        return self.concerns(task) and self.status in (None, task.status)

    def reaches(self, suggestion: SuggestionChange) -> bool:
        """Whether it belongs to one of those tasks; a filter by status excludes suggestions."""
        of_agent = self.agent_id in (None, suggestion.agent_id)
        return self.status is None and of_agent and self.task_id in (None, suggestion.task_id)

    def takes(self, event: Event) -> bool:
        """Whether the subscriber is to be told: also when a task leaves the state that is asked for."""
        if isinstance(event.change, SuggestionChange):
            return self.reaches(event.change)
        return self.concerns(event.change) and (
            self.status in (None, event.change.status) or self.status in event.origins
        )


class Subscriber:
    """One watcher: the events that wait for it, and why it was ended."""

    def __init__(self, principal: Principal, wanted: Filter) -> None:
        """Nothing waits before `catch_up()`."""
        self.principal = principal
        self.wanted = wanted
        self.behind = True
        """Whether something happened that does not wait here: it must be read from the database."""
        self.reached: datetime | None = None
        """The cursor behind all that was offered."""
        self.ended: str | None = None
        """Why no event will come any more: slow, credential or shutdown."""
        self.over = asyncio.Event()
        """Set when `ended` is."""
        self._waiting: deque[Event] = deque()
        self._sent: dict[UUID, datetime] = {}
        self._wake = asyncio.Event()

    def offer(self, event: Event) -> None:
        """Queue an event if it is wanted; when too many wait already, none does, and the subscriber is behind."""
        if self.ended or self.behind or not self.wanted.takes(event):
            return
        self._waiting.append(event)
        if len(self._waiting) > MAX_WAITING_EVENTS:
            self._waiting.clear()
            self.behind = True
        self._wake.set()

    def catch_up(self) -> None:
        """From now on events wait again: what happened before is about to be read from the database."""
        self._waiting.clear()
        self._sent.clear()
        self.behind = False

    def seen(self, task: TaskChange) -> None:
        """The subscriber has this state from the database: older ones that wait, or will, are passed over.

        After so many tasks that this costs memory, the first ones may be told of in an older state once more.
        """
        if len(self._sent) >= REPLAY_ENTRIES:
            self._sent.clear()
        self._sent[task.id] = task.version

    def _is_news(self, event: Event) -> bool:
        """A final state always is: the times of two writers need not be in order."""
        task = event.change
        if isinstance(task, SuggestionChange):
            return True
        is_older = task.id in self._sent and task.version < self._sent[task.id] and not task.finished
        if not is_older:
            self._sent.pop(task.id, None)
        return not is_older

    def end(self, why: str) -> None:
        """No more events; those that wait are dropped."""
        self.ended = self.ended or why
        self._waiting.clear()
        self.over.set()
        self._wake.set()

    async def next(self, seconds: float) -> list[Event]:
        """The events that wait, at once or when the first comes; none after `seconds`, when ended, or when behind."""
        if not (self._waiting or self.behind or self.ended):
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
        events = [event for event in self._waiting if self._is_news(event)]
        self._waiting.clear()
        return events


class Changes:
    """Hands changes to subscribers; `run()` must be running as a task."""

    def __init__(self, owner: Database, database: Database, credentials: Credentials) -> None:
        """`owner` listens, `database` (the restricted one) reads."""
        self._owner = owner
        self._database = database
        self._credentials = credentials
        self._watcher_id = uuid4()
        self._readers: dict[str, _Reader] = {}
        self._group: asyncio.TaskGroup | None = None

    @property
    def subscribers(self) -> list[Subscriber]:
        """Everyone who watches at this moment."""
        return [subscriber for reader in self._readers.values() for subscriber in reader.subscribers]

    async def run(self) -> None:
        """Listen and read for ever; a lost database is waited for. However it ends, the subscribers are told."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._guarded(self._check_credentials()))
                if self._owner.notifies:
                    group.create_task(self._guarded(self._listen()))
        finally:
            self.close()

    def close(self) -> None:
        """Take no new subscribers, and tell those there are that it is over."""
        self._group = None
        for reader in self._readers.values():
            reader.ready.set()
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
        reader = self._readers.get(str(tenant_id))
        if reader is None:
            reader = _Reader(self._owner, self._database, tenant_id, self._watcher_id)
            self._readers[str(tenant_id)] = reader
            reader.work = self._group.create_task(self._guarded(self._follow(reader)))
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
            if not reader.subscribers:
                self._forget(reader)
                reader.work.cancel()

    async def since(self, tenant_id: UUID, cursor: datetime) -> AsyncGenerator[tuple[list[TaskChange], datetime]]:
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

    async def suggestions(self, tenant_id: UUID, cursor: datetime) -> list[SuggestionChange]:
        """The suggestions that changed since a cursor, as they are now."""
        rows = await self._database.call("changed_agent_suggestions", tenant_id=tenant_id, since=cursor)
        return [SuggestionChange.model_validate(row) for row in rows]

    async def now(self) -> datetime:
        """The current cursor: changes that are not visible yet come after it."""
        return await self._database.value("journal_watermark")  # type: ignore[no-any-return]

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """When one part fails, all end; no subscriber may join meanwhile."""
        try:
            await work
        except Exception:
            self.close()
            raise

    async def _follow(self, reader: _Reader) -> None:
        try:
            await reader.run()
        except DataRejected:
            if await self._database.value("has_tenant", tenant_id=reader.tenant_id):
                raise
            self._forget(reader)  # the tenant was deleted, and the row of its watcher refers to it
            reader.ready.set()
            for subscriber in reader.subscribers:
                subscriber.end("credential")

    def _forget(self, reader: _Reader) -> None:
        if self._readers.get(str(reader.tenant_id)) is reader:
            del self._readers[str(reader.tenant_id)]

    async def _listen(self) -> None:
        def notified(payload: str) -> None:
            if reader := self._readers.get(payload):
                reader.wake.set()

        async def until_lost() -> None:
            async with self._owner.listening("agent_task_changes", notified) as lost:
                for reader in self._readers.values():
                    reader.refresh()
                await lost.wait()
            logger.warning("the connection for notifications was lost")

        while True:
            await retrying(self._owner, until_lost, lasting=True)
            await asyncio.sleep(FIRST_SECONDS)

    async def _check_credentials(self) -> None:
        """End those whose key was revoked, whose role changed or whose token expired."""
        while True:
            await asyncio.sleep(self._owner.pace.look_seconds)
            watching = self.subscribers
            try:
                good = await self._credentials.still_good([s.principal for s in watching])
            except DatabaseUnavailable:
                continue  # nobody is told anything meanwhile, because there is nothing to read from
            for subscriber in watching:
                if subscriber.principal not in good:
                    subscriber.end("credential")


class _Reader:
    """Reads one tenant's changes and hands them to its subscribers."""

    def __init__(self, owner: Database, database: Database, tenant_id: UUID, watcher_id: UUID) -> None:
        self.tenant_id = tenant_id
        self.subscribers: set[Subscriber] = set()
        self.wake = asyncio.Event()
        self.ready = asyncio.Event()
        self.work: asyncio.Task[None]
        self._owner = owner
        self._database = database
        self._watcher_id = watcher_id
        self._watched = -math.inf
        self._known: dict[UUID, TaskChange] = {}
        self._told: dict[UUID, SuggestionChange] = {}
        """Suggestions of the last read: the next one may begin before its end."""

    def refresh(self) -> None:
        """After a time without notifications: read the changes, and register again (a crash forgets it)."""
        self._watched = -math.inf
        self.wake.set()

    async def run(self) -> None:
        """Read whenever something is heard, and now and then anyway."""
        await self._watch()
        cursor = await self._call(lambda: self._database.value("journal_watermark"))
        self._known = {task.id: task for task in _tasks(await self._read(cursor))}
        self._told = await self._suggestions(cursor)
        self.ready.set()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS if self._owner.notifies else self._owner.pace.look_seconds):
                    await self.wake.wait()
            self.wake.clear()
            await self._watch()
            rows = await self._read(cursor)
            suggestions = await self._suggestions(cursor)
            await self._deliver({task.id: task for task in _tasks(rows)}, suggestions, cursor, rows[0]["cursor"])
            cursor = rows[0]["cursor"]
            await asyncio.sleep(DEBOUNCE_SECONDS)

    async def _deliver(
        self,
        tasks: dict[UUID, TaskChange],
        suggestions: dict[UUID, SuggestionChange],
        before: datetime,
        after: datetime,
    ) -> None:
        """Only the last event of a read carries the cursor after it: a client that leaves earlier must get the rest."""
        news: list[tuple[TaskChange | SuggestionChange, frozenset[str]]] = [
            (suggestion, frozenset())
            for suggestion in suggestions.values()
            if self._told.get(suggestion.id) != suggestion
        ]
        self._told = suggestions
        for task in tasks.values():
            previous = self._known.get(task.id)
            if previous != task:
                is_new = previous is None and _made_at(task.id) >= math.floor(before.timestamp() * 1000) / 1000
                states = [*task.earlier(previous, is_new=is_new), task]
                origins = _ORIGINS[states[0].status] if previous is None else frozenset({previous.status})
                for state in states:
                    news.append((state, frozenset() if is_new and state is states[0] else origins))
                    origins = frozenset({state.status})
        self._known = tasks
        for index, (change, origins) in enumerate(news, 1):
            kind = "task" if isinstance(change, TaskChange) else "suggestion"
            message = write_message(kind, after if index == len(news) else before, **{kind: change})
            event = Event(change, origins, message)
            for subscriber in self.subscribers:
                subscriber.offer(event)
            if index % (MAX_WAITING_EVENTS // 2) == 0:
                await asyncio.sleep(0)  # lets those who keep up take them
        for subscriber in self.subscribers:
            subscriber.reached = after

    async def _read(self, cursor: datetime) -> list[dict[str, Any]]:
        """All changes since a cursor; the first row has the next one.

        Handing a task back and making it due are not in the journal: tasks to which that may happen are asked for.
        """
        known = [task.id for task in self._known.values() if task.status == "in_progress"]
        timed = (task for task in self._known.values() if task.waiting_for in ("run_at", "retry"))
        known += [t.id for t in heapq.nsmallest(MAX_WAITING_TASKS, timed, key=lambda t: t.run_at or t.created_at)]
        rows: list[dict[str, Any]] = []
        after = None
        while not rows or after is not None:
            arguments = {"tenant_id": self.tenant_id, "since": cursor, "known": known, "after_id": after}
            found = await self._call(partial(self._database.call, "changed_agent_tasks", **arguments))
            rows += found
            after, known = found[0]["more_after"], []
        return rows

    async def _suggestions(self, cursor: datetime) -> dict[UUID, SuggestionChange]:
        arguments = {"tenant_id": self.tenant_id, "since": cursor}
        rows = await self._call(partial(self._database.call, "changed_agent_suggestions", **arguments))
        return {row["id"]: SuggestionChange.model_validate(row) for row in rows}

    async def _watch(self) -> None:
        """Ask for announcements of changes, unless that was done lately or there are no notifications."""
        if not self._owner.notifies:
            return
        now = asyncio.get_running_loop().time()
        if now - self._watched > WATCH_SECONDS / 3:
            arguments = {"tenant_id": self.tenant_id, "watcher_id": self._watcher_id, "seconds": WATCH_SECONDS}
            await self._call(partial(self._database.call, "watch_agent_tasks", **arguments))
            self._watched = now

    async def _call(self, call: Callable[[], Any]) -> Any:
        return await retrying(self._owner, call)


def _tasks(rows: list[dict[str, Any]]) -> list[TaskChange]:
    return [TaskChange.model_validate(row) for row in rows if row["id"] is not None]


def _made_at(task_id: UUID) -> float:
    """When a time-ordered id was made: its first 48 bits are Unix time in milliseconds."""
    return (task_id.int >> 80) / 1000
