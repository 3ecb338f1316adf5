"""What a handler may read, and the record of what it read. There is nothing here to write with."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, TypeAdapter

from zora_core.errors import InvalidInput
from zora_core.models import (
    ClimateMission,
    ClimateProfile,
    JournalEntry,
    MemoryEvent,
    PageConfig,
    Source,
    SuggestionRecord,
    TaskRecord,
)
from zora_core.settings import Settings, examples
from zora_core.threads import in_thread

if TYPE_CHECKING:
    from uuid import UUID

    from zora_core.agents.agent import Registry
    from zora_core.database.postgres import Database
    from zora_core.fetch import Fetched
    from zora_core.skills.page import Page

T = TypeVar("T")
Row = TypeVar("Row", bound=BaseModel)

MAX_FILE_BYTES = 5_000_000


class TaskContext:
    """Given to every handler: reads through the database's functions, files and the network, each read recorded.

    `sources` is what the handler has read so far: the evidence base of its result. `now` is the database's time when
    the task was claimed (aware, UTC); handlers have no clock of their own. `task_types` is every task type that the
    runtime knows, installed ones included.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        tenant_id: UUID,
        now: datetime,
        task_types: Registry,
        report: Callable[[float, str], None] = lambda fraction, message: None,
    ) -> None:
        """Make the context of one run; reads are limited to `tenant_id`, progress goes to `report`."""
        self.task_types = task_types
        self.sources: list[Source] = []
        self.now = now
        self._database = database
        self._settings = settings
        self._tenant_id = tenant_id
        self._report = report

    async def progress(self, fraction: float, message: str = "") -> None:
        """Report progress, 0..1; shown while the task runs."""
        self._report(min(max(fraction, 0.0), 1.0), message)

    async def compute(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run a slow, pure function on a thread of its own, so that heartbeats go on."""
        return await in_thread(function, *args, **kwargs)

    def cite(
        self, kind: str, ref: str, content: str | bytes, *, count: int | None = None, unit: str = "bytes"
    ) -> Source:
        """Record something read by other means (the payload's own text, a repository) as a source."""
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        source = Source(
            kind=kind,
            ref=ref,
            digest=hashlib.sha256(data).hexdigest(),
            read_at=self.now,
            count=len(data) if count is None else count,
            unit=unit,
        )
        self.sources.append(source)
        return source

    async def page(self, *, page: str | None = None, url: str | None = None, html: str | None = None) -> Page:
        """Read a page: by key (looked up in `frontend_configs`), by URL, or given as HTML; exactly one of them.

        Raises `InvalidInput` for an unknown key (naming the known ones), a refused address or an unreadable file.
        """
        from zora_core.skills.page import Page

        if sum(given is not None for given in (page, url, html)) != 1:
            raise InvalidInput("give exactly one of page, url and html")
        if html is not None:
            self.cite("payload", "html", html)
            return Page(ref="html", html=html)
        if url is not None:
            return await self._fetched_page(url, url)
        assert page is not None
        configs = {c.page: c.config for c in await self._rows("frontend_configs", PageConfig, "list_frontend_configs")}
        if page not in configs:
            known = ", ".join(configs) or "none yet"
            raise InvalidInput(
                f"unknown page {page!r} (known: {known}): add it to frontend_configs, or give a url or html"
            )
        config = configs[page]
        if config.get("url"):
            return await self._fetched_page(page, str(config["url"]))
        if config.get("path"):
            data = self.read_file(str(config["path"]), kind="page", ref=page)
            return Page(ref=page, html=data.decode("utf-8", "replace"), url=self.path(str(config["path"])).as_uri())
        raise InvalidInput(f"the config of page {page!r} names neither a url nor a path")

    async def _fetched_page(self, ref: str, url: str) -> Page:
        from zora_core.skills.page import Page

        answer = await self.fetch(url)
        if answer.status >= 400:
            raise InvalidInput(f"{url} answered {answer.status}: there is no page to read")
        kind = answer.headers.get("content-type", "text/html")
        if "html" not in kind and "text" not in kind:
            raise InvalidInput(f"{url} is {kind}, not a page")
        charset = kind.partition("charset=")[2].strip(" \"';") or "utf-8"
        try:
            html = answer.body.decode(charset, "replace")
        except LookupError:  # a charset that does not exist
            html = answer.body.decode("utf-8", "replace")
        return Page(ref=ref, html=html, url=answer.final_url)

    async def page_keys(self) -> list[str]:
        """The keys of the tenant's pages."""
        return [c.page for c in await self._rows("frontend_configs", PageConfig, "list_frontend_configs")]

    async def fetch(self, url: str, *, method: str = "GET") -> Fetched:
        """Fetch a URL under the runtime's network policy."""
        from zora_core.fetch import fetch

        answer = await fetch(url, method=method, allow_private=self._settings.allow_private_addresses)
        self.cite("url", url, answer.body)
        return answer

    def path(self, path: str) -> Path:
        """Resolve a file or directory that may be read: under one of ZORA_FILE_ROOTS, or the examples."""
        roots = [*self._settings.file_roots, examples().resolve()]
        resolved = (self._settings.file_roots[0] / path).resolve()
        if not any(resolved.is_relative_to(root) for root in roots):
            raise InvalidInput(
                f"{path!r} lies outside the folders that this runtime may read ({', '.join(map(str, roots))}): "
                "add its folder to ZORA_FILE_ROOTS"
            )
        if not resolved.exists():
            raise InvalidInput(f"{path!r} does not exist (looked at {resolved})")
        return resolved

    def read_file(self, path: str, *, kind: str = "file", ref: str | None = None) -> bytes:
        """The content of a file of at most 5 MB that may be read, recorded as a source."""
        file = self.path(path)
        if not file.is_file():
            raise InvalidInput(f"{path!r} is not a file")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput(f"{path!r} has {file.stat().st_size:,} bytes, more than {MAX_FILE_BYTES:,}")
        data = file.read_bytes()
        self.cite(kind, ref or str(file), data)
        return data

    async def tasks(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        status: str | None = None,
        limit: int = 1000,
    ) -> list[TaskRecord]:
        """The tenant's tasks created or updated in a window, newest first."""
        return await self._rows(
            "agent_tasks", TaskRecord, "recent_agent_tasks", since=since, until=until, status=status, limit=limit
        )

    async def journal(
        self, *, since: datetime | None = None, until: datetime | None = None, limit: int = 5000
    ) -> list[JournalEntry]:
        """Journal entries of a window, oldest first (the newest `limit` of them)."""
        rows = await self._rows(
            "journal_entries", JournalEntry, "list_journal_entries", since=since, until=until, limit=limit
        )
        return rows[::-1]

    async def memories(
        self, *, since: datetime | None = None, until: datetime | None = None, archived: bool = False, limit: int = 5000
    ) -> list[MemoryEvent]:
        """Memory events of a window, oldest first (the newest `limit` of them)."""
        rows = await self._rows(
            "memory_events", MemoryEvent, "list_memory_events", since=since, until=until, archived=archived, limit=limit
        )
        return rows[::-1]

    async def search(self, query: str, *, limit: int = 50) -> list[MemoryEvent]:
        """Memories that share a word with `query`, best first."""
        return await self._rows("memory_events", MemoryEvent, "search_memory_events", query=query, limit=limit)

    async def profiles(self) -> list[ClimateProfile]:
        """The tenant's climate profiles, the primary one first."""
        return await self._rows("climate_profiles", ClimateProfile, "list_climate_profiles")

    async def missions(self, *, profile_id: str | None = None) -> list[ClimateMission]:
        """The tenant's climate missions, or those of one profile."""
        return await self._rows("climate_missions", ClimateMission, "list_climate_missions", profile_id=profile_id)

    async def suggestions(self, *, status: str | None = None, limit: int = 200) -> list[SuggestionRecord]:
        """Suggestions made so far, newest first."""
        return await self._rows(
            "agent_suggestions", SuggestionRecord, "list_agent_suggestions", status=status, limit=limit
        )

    async def database_health(self) -> dict[str, Any]:
        """Figures of the queue and the database.

        Keys: `queue` {pending, ready, in_progress, failed_last_hour, completed_last_hour, oldest_ready_seconds,
        expired_leases}, `connections` {used, max}, `longest_transaction_seconds`, `blocked_locks`, `dead_tuples` (a
        list of {table, live, dead}), `transaction_id_age`, `database_bytes`, `server_version`, `round_trip_ms`.
        """
        before = time.perf_counter()
        health: dict[str, Any] = await self._database.value("database_health", tenant_id=self._tenant_id)
        health["round_trip_ms"] = (time.perf_counter() - before) * 1000
        self.cite("database", "database_health", json.dumps(health), count=len(health), unit="figures")
        return health

    async def task_durations(self) -> list[dict[str, Any]]:
        """Durations of completed runs per agent and type: {agent_id, task_type, runs, p50_seconds, p90_seconds}."""
        rows = await self._database.call("agent_task_durations", tenant_id=self._tenant_id)
        self._cite_rows("agent_tasks", rows)
        return rows

    async def _rows(self, table: str, model: type[Row], function: str, **arguments: Any) -> list[Row]:
        rows = await self._database.call(function, tenant_id=self._tenant_id, **arguments)
        self._cite_rows(table, rows)
        return TypeAdapter(list[model]).validate_python(rows)  # type: ignore[valid-type]

    def _cite_rows(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        content = json.dumps(rows, default=str, sort_keys=True)
        self.cite("rows", table, content, count=len(rows), unit="rows")
