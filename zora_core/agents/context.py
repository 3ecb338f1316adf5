"""What a handler may read, and the record of what it read. There is nothing here to write with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from zora_core.agents.agent import Registry
from zora_core.fetch import Fetched
from zora_core.models import (
    ClimateMission,
    ClimateProfile,
    JournalEntry,
    MemoryEvent,
    Source,
    SuggestionRecord,
    TaskRecord,
)
from zora_core.skills.page import Page

T = TypeVar("T")


class TaskContext(Protocol):
    """Given to every handler. Each reading method adds a `Source` to `sources`, the result's evidence base."""

    sources: list[Source]

    task_types: Registry
    """Every task type that the runtime knows, installed ones included."""

    @property
    def now(self) -> datetime:
        """The database's time when the task was claimed (aware, UTC); handlers have no clock of their own."""
        ...

    async def progress(self, fraction: float, message: str = "") -> None:
        """Report progress, 0..1; shown while the task runs."""
        ...

    async def compute(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run a slow, pure function on a thread of its own, so that heartbeats go on."""
        ...

    def cite(
        self, kind: str, ref: str, content: str | bytes, *, count: int | None = None, unit: str = "bytes"
    ) -> Source:
        """Record something read by other means (the payload's own text, a repository) as a source."""
        ...

    async def page(self, *, page: str | None = None, url: str | None = None, html: str | None = None) -> Page:
        """Read a page: by key (looked up in `frontend_configs`), by URL, or given as HTML.

        Raises `InvalidInput` for an unknown key (naming the known ones), a refused address or an unreadable file.
        """
        ...

    async def page_keys(self) -> list[str]:
        """The keys of the tenant's pages."""
        ...

    async def fetch(self, url: str, *, method: str = "GET") -> Fetched:
        """Fetch a URL under the runtime's network policy."""
        ...

    def path(self, path: str) -> Path:
        """Resolve a file or directory that the runtime allows to be read, or raise `InvalidInput`."""
        ...

    def read_file(self, path: str, *, kind: str = "file", ref: str | None = None) -> bytes:
        """The content of a file of at most 5 MB that may be read, or `InvalidInput`; recorded as a source."""
        ...

    async def tasks(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        status: str | None = None,
        limit: int = 1000,
    ) -> list[TaskRecord]:
        """The tenant's tasks created or updated since then, newest first."""
        ...

    async def journal(
        self, *, since: datetime | None = None, until: datetime | None = None, limit: int = 5000
    ) -> list[JournalEntry]:
        """Journal entries of the tenant, oldest first."""
        ...

    async def memories(
        self, *, since: datetime | None = None, until: datetime | None = None, archived: bool = False, limit: int = 5000
    ) -> list[MemoryEvent]:
        """Memory events of the tenant, oldest first."""
        ...

    async def search(self, query: str, *, limit: int = 50) -> list[MemoryEvent]:
        """Memories that match any word of `query`, best first (PostgreSQL full text)."""
        ...

    async def profiles(self) -> list[ClimateProfile]:
        """The tenant's climate profiles, the primary one first."""
        ...

    async def missions(self, *, profile_id: str | None = None) -> list[ClimateMission]:
        """The tenant's climate missions, or those of one profile."""
        ...

    async def suggestions(self, *, status: str | None = None, limit: int = 200) -> list[SuggestionRecord]:
        """Suggestions made so far, newest first."""
        ...

    async def database_health(self) -> dict[str, Any]:
        """Figures of the queue and the database.

        Keys: `queue` {pending, ready, in_progress, failed_last_hour, completed_last_hour, oldest_ready_seconds,
        expired_leases}, `connections` {used, max}, `longest_transaction_seconds`, `blocked_locks`, `dead_tuples` (a
        list of {table, live, dead}), `transaction_id_age`, `database_bytes`, `server_version`, `round_trip_ms`.
        """
        ...

    async def task_durations(self) -> list[dict[str, Any]]:
        """Durations of completed runs per agent and type: {agent_id, task_type, runs, p50_seconds, p90_seconds}."""
        ...
