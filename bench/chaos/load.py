"""Tasks that keep coming, workers that must survive, and the count of what became of every acknowledged task."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import asyncpg

from zora_core.database import schema
from zora_core.settings import DEFAULT_TENANT_ID

WORKER = Path(__file__).with_name("worker.py")
BATCH = 10
DRAIN_SECONDS = 40.0  # for the first task after a fault, and for everything left at the end
LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)


@dataclass
class Load:
    """A stream of tasks to one database and its workers.

    `url` is where tasks are created and counted, `worker_url` what the workers are given (through a proxy, a pooler).
    """

    url: str
    worker_url: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    died: int = 0
    """Workers that ended without being killed by the fault."""

    async def prepare(self) -> None:
        """Give the database our schema and tenant."""
        connection = await asyncpg.connect(self.url)
        try:
            await schema.migrate(connection)
            await connection.execute(
                "select ensure_tenant(p_id => $1, p_name => 'default', p_slug => 'default')", DEFAULT_TENANT_ID
            )
        finally:
            await connection.close()

    def start_worker(self) -> subprocess.Popen[bytes]:
        """One more worker process; its log is kept in the folder."""
        environment = {**os.environ, "DATABASE_URL": self.worker_url, "ZORA_HOME": str(self.folder / "home")}
        log = (self.folder / f"worker-{len(self.workers)}.log").open("wb")
        with log:
            worker = subprocess.Popen(
                [sys.executable, str(WORKER)], env={**environment, **self.environment}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        self.workers.append(worker)
        return worker

    def kill_worker(self, worker: subprocess.Popen[bytes]) -> None:
        """As the kernel does when memory runs out."""
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        self.workers.remove(worker)

    def replace_dead(self) -> int:
        """Start workers anew that ended by themselves, as a service manager does; returns how many those were."""
        dead = [worker for worker in self.workers if worker.poll() is not None]
        for worker in dead:
            self.workers.remove(worker)
            self.start_worker()
        return len(dead)

    async def create(self, *types: str, max_attempts: int = 3) -> None:
        """Create a task of each type; those the database acknowledged must end."""
        tasks = [{"agent_id": "CONNOR", "task_type": t, "title": t, "max_attempts": max_attempts} for t in types]
        connection = await asyncpg.connect(self.url, timeout=2)
        try:
            rows = await connection.fetch(
                "select id from create_agent_tasks(p_tenant_id => $1, p_tasks => $2)",
                DEFAULT_TENANT_ID, json.dumps(tasks), timeout=5,
            )  # fmt: skip
            self.acknowledged.update(str(row["id"]) for row in rows)
        finally:
            with contextlib.suppress(*LOST):
                await connection.close(timeout=2)

    @contextlib.asynccontextmanager
    async def coming(self) -> AsyncIterator[None]:
        """Tasks keep coming, ten at a time; what cannot be created is tried again like anybody's request."""

        async def feed() -> None:
            while True:
                with contextlib.suppress(*LOST):
                    await self.create(*["work"] * BATCH)
                await asyncio.sleep(0.15)

        feeding = asyncio.create_task(feed())
        try:
            yield
        finally:
            feeding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await feeding

    async def completed(self) -> int:
        """How many tasks are completed; 0 while the database does not answer."""
        return (await self._read("select count(*) from agent_tasks where status = 'completed'")) or 0

    async def _read(self, query: str) -> int | None:
        try:
            connection = await asyncpg.connect(self.url, timeout=2)
            try:
                return int(await connection.fetchval(query, timeout=5))
            finally:
                await connection.close(timeout=2)
        except LOST:
            return None

    async def progress(self, more: int = 1, *, seconds: float = DRAIN_SECONDS) -> float | None:
        """Seconds until this many more tasks are completed, or None when that did not happen in time."""
        began = time.monotonic()
        before = await self.completed()
        while time.monotonic() - began < seconds:
            if await self.completed() >= before + more:
                return time.monotonic() - began
            await asyncio.sleep(0.05)
        return None

    async def drained(self, seconds: float = DRAIN_SECONDS) -> bool:
        """Wait until no task is pending or in progress."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if await self._read("select count(*) from agent_tasks where status in ('pending', 'in_progress')") == 0:
                return True
            self.died += self.replace_dead()
            await asyncio.sleep(0.1)
        return False

    async def count(self) -> tuple[int, int]:
        """Acknowledged tasks that did not end as they must, and outcomes that were recorded more than once."""
        connection = await asyncpg.connect(self.url, timeout=5)
        try:
            rows = await connection.fetch(
                """
                select t.id::text, t.task_type, t.status::text,
                    (select count(*) from journal_entries as j where j.task_id = t.id
                        and j.event_type in ('agent_task_completed', 'agent_task_failed')) as outcomes,
                    (select count(*) from memory_events as m where m.source_task_id = t.id
                        and 'completed' = any (m.tags)) as memories
                from agent_tasks as t
                """
            )
        finally:
            await connection.close()
        ended = {row["id"] for row in rows if row["status"] == ("completed" if _sound(row["task_type"]) else "failed")}
        doubled = sum(row["outcomes"] > 1 or row["memories"] > 1 for row in rows)
        unrecorded = sum(row["id"] in ended and not row["outcomes"] for row in rows)
        return len(self.acknowledged - ended) + unrecorded, doubled

    async def __aenter__(self) -> Load:
        """Nothing runs yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.kill()
            worker.wait()


def _sound(task_type: str) -> bool:
    return task_type in ("work", "long")
