"""What a handler may read, and the record of what it read. All that it can write are the steps of its own task."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import webencodings
from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticSerializationError, to_json

from zora_core.agents.evidence import chain, pieces
from zora_core.agents.ledger import Ledger
from zora_core.errors import DataRejected, InvalidInput, InvalidState
from zora_core.models import (
    ChildResult,
    ClimateMission,
    ClimateProfile,
    JournalEntry,
    MemoryEvent,
    Metric,
    PageConfig,
    Rows,
    Source,
    SuggestionRecord,
    TaskRecord,
    TaskResult,
)
from zora_core.processes import in_process
from zora_core.roots import permitted, tenant_roots, unfit
from zora_core.secrets import hides_secrets, without_secrets
from zora_core.settings import EXAMPLES, Settings, examples
from zora_core.storable import check_storable, escaped, storable
from zora_core.suggested_command import zora_command
from zora_core.threads import in_thread

if TYPE_CHECKING:
    from uuid import UUID

    from zora_core.agents.agent import Registry
    from zora_core.database.database import Database
    from zora_core.fetch import Fetched
    from zora_core.skills.page import Page

T = TypeVar("T")
Row = TypeVar("Row", bound=BaseModel)

MAX_FILE_BYTES = 5_000_000
# What a step returns is read again with every later run, and is to be a result, not a store.
MAX_STEP_BYTES = 1_000_000
# What a step has read is kept so that evidence can be looked up in it: two files of the largest size.
MAX_STEP_READS = 10_000_000


class TaskContext:
    """Given to every handler: reads through the database's functions, files and the network, each read recorded.

    `sources` is what the handler has read so far: the evidence base of its result. `ledger` keeps what was read until
    the result is checked against it. `now` is the database's time when the task was claimed (aware, UTC); handlers have
    no clock of their own. `task_types` is every task type that the runtime knows, installed ones included.

    `resources` is what the agent's `resources` yields. It belongs to the event loop of async handlers: a plain handler
    runs on a thread and cannot await it.

    `children` is what became of the tasks to which this one delegated last, by their keys, and `then` what it gave
    along; empty and None until it has delegated.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        tenant_id: UUID,
        now: datetime,
        task_types: Registry,
        report: Callable[[float, str], None] = lambda fraction, message: None,
        task_id: UUID | None = None,
        lease_token: UUID | None = None,
        computing: Callable[[], AbstractContextManager[Callable[[], None]]] = lambda: nullcontext(lambda: None),
    ) -> None:
        """Make the context of a run of `task_id`; reads are limited to `tenant_id`, progress goes to `report`.

        `computing` is entered for each computation; what it gives is called when a child process begins with it.
        """
        self.task_types = task_types
        self.ledger = Ledger()
        self.now = now
        self.resources: Any = None
        self.children: dict[str, ChildResult] = {}
        self.then: Any = None
        self._database = database
        self._settings = settings
        self._tenant_id = tenant_id
        self._report = report
        self._task_id = task_id
        self._lease_token = lease_token
        self._computing = computing
        self._permitted: tuple[Path | None] | None = None
        self._steps: dict[str, dict[str, Any]] | None = None
        self._step_locks: dict[str, asyncio.Lock] = {}

    @property
    def sources(self) -> list[Source]:
        """What has been read so far, in order."""
        return self.ledger.sources

    async def progress(self, fraction: float, message: str = "") -> None:
        """Report progress, 0..1; shown while the task runs."""
        self._report(min(max(fraction, 0.0), 1.0), message)

    async def compute(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run a slow, pure function in a child process: for everything that reads outside input.

        The process is killed at the task's time limit and limited in memory (ZORA_ANALYSIS_MEMORY_MB). Waiting for a
        free process does not count against the time limit. `function` must be defined at the top level of a module that
        can be imported, and its arguments and its result must be picklable; it reports progress with
        `zora_core.child.progress`. It does not see the environment's credentials.
        Raises what `function` raises, `TypeError` for what cannot be sent, and `AnalysisFailed` when the process ends.
        """
        with self._computing() as begun:
            return await in_process(
                function, args, kwargs, memory_mb=self._settings.analysis_memory_mb, report=self._report, begun=begun
            )

    async def in_thread(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run a blocking function on a thread of this process: a lambda, say, or one that uses `ctx`.

        A thread cannot be stopped: one that goes on after the time limit keeps its thread, and its result is dropped.
        """
        return await in_thread(function, *args, **kwargs)

    async def checked(self, result: TaskResult) -> dict[str, Any]:
        """The result as it is stored, its evidence found in what this run has read.

        Quotes, lines and elements are looked up in a child process, because pages are parsed for it and what is masked
        is searched by patterns. Raises `FalseEvidence`.
        """
        wanted = [piece for piece in pieces(result) if not isinstance(piece, (Rows, Metric))]
        if not wanted:
            return chain(result, self.ledger)
        return await self.compute(chain, result, self.ledger.excerpt(wanted))

    async def resume(self, then: Any) -> None:
        """Read what became of the tasks to which this one delegated; the runtime does it before the handler runs."""
        self.then = then
        rows = await self._database.call("list_agent_task_children", tenant_id=self._tenant_id, id=self._task_id)
        if rows:
            self.children = {row["key"]: ChildResult.model_validate(row) for row in rows}
            position = self._cite_rows("agent_tasks", rows)
            self.ledger.add_rows("agent_tasks", {str(c.id): c for c in self.children.values()}, position)

    async def step(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """What `function` returned in this task's step `name`: not computed again after a crash or a failed attempt.

        The value is JSON of at most 1 MB, and is returned as it reads back from JSON, the first time, too. A plain
        function runs on a thread; `ctx.step(name, ctx.compute, function, …)` runs it in a child process. What it reads
        through this context is kept with it, up to 10 MB, so that evidence found in it stands in later runs. A person's
        retry does all steps anew. Raises `InvalidInput` for what cannot be kept.
        """
        if not 1 <= len(name) <= 200:
            raise InvalidInput(f"a step's name has 1 to 200 characters, not {len(name)}")
        async with self._step_locks.setdefault(name, asyncio.Lock()):
            if self._steps is None:
                rows = await self._database.call("list_agent_task_steps", tenant_id=self._tenant_id, id=self._task_id)
                if self._steps is None:  # else another step has read them meanwhile
                    self._steps = {row["name"]: row for row in rows}
            if name not in self._steps:
                with self.ledger.recording() as reads:
                    if inspect.iscoroutinefunction(function):
                        value = await function(*args, **kwargs)
                    else:
                        value = await in_thread(function, *args, **kwargs)
                        if inspect.isawaitable(value):  # a lambda that calls a coroutine
                            value = await value
                self._steps[name] = {"value": await self._saved(name, value, reads), "reads": None}
            elif self._steps[name]["reads"] is not None:
                self.ledger.replay(self._steps[name]["reads"])
                self._steps[name]["reads"] = None
            return self._steps[name]["value"]

    async def _saved(self, name: str, value: Any, reads: Sequence[Mapping[str, Any]]) -> Any:
        """What is kept of a step's value, once it is."""
        check_storable(value, f"the value of the step {name!r}", texts=False)
        try:
            size = len(to_json(value))
        except PydanticSerializationError as error:
            raise InvalidInput(f"the step {name!r} returned what is not JSON: {error}") from error
        if size > MAX_STEP_BYTES:
            raise InvalidInput(
                f"the step {name!r} returned {size:,} bytes of JSON, more than {MAX_STEP_BYTES:,}: return what matters"
            )
        read = len(to_json(reads))
        if read > MAX_STEP_READS:
            raise InvalidInput(
                f"the step {name!r} has read {read:,} bytes, more than the {MAX_STEP_READS:,} that are kept with it: "
                "split it into several, or read outside of a step"
            )
        try:
            kept = await self._database.call(
                "save_agent_task_step",
                id=self._task_id,
                lease_token=self._lease_token,
                name=name,
                value=value,
                reads=reads,
            )
        except DataRejected as error:
            raise InvalidInput(f"the step {name!r} returned what cannot be kept: {error}") from error
        if not kept:
            raise InvalidState(f"the step {name!r} cannot be kept: the lease was lost, another worker has the task")
        return kept[0]["value"]

    def cite(
        self,
        kind: str,
        ref: str,
        content: str | bytes,
        *,
        count: int | None = None,
        unit: str = "bytes",
        names: Iterable[str] = (),
    ) -> Source:
        """Record something read by other means (the payload's own text, a repository) as a source.

        It may be quoted as `ref`, or as one of `names`.
        """
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        source = self._source(kind, ref, hashlib.sha256(data).hexdigest(), len(data) if count is None else count, unit)
        self.ledger.add(source, content, names=names)
        return source

    def cite_files(self, kind: str, ref: str, files: Mapping[str, str]) -> Source:
        """Record a folder's files, their texts by path, as one source; a `FileLine` names a path as it stands there."""
        digest = hashlib.sha256()
        for path, text in files.items():
            digest.update(f"{path}\0{text}\0".encode("utf-8", "surrogatepass"))
        source = self._source(kind, ref, digest.hexdigest(), len(files), "files")
        position = self.ledger.add(source)
        for path, text in files.items():
            self.ledger.add_text(path, text, position)
        return source

    def derive(self, ref: str, text: str, *, source: str) -> None:
        """Let a text that was made from what was read as `source` (a part, a transcript) be quoted as `ref`.

        That it was made rightly is the handler's word; that a quote stands in it is checked. Raises `ValueError` when
        nothing was read as `source`.
        """
        positions = self.ledger.positions(source)
        if not positions:
            raise ValueError(f"cannot derive {ref!r} from {source!r}: nothing of that name was read")
        self.ledger.add_text(ref, text, positions[-1])

    def _source(self, kind: str, ref: str, digest: str, count: int, unit: str) -> Source:
        return Source(kind=kind, ref=ref, digest=digest, read_at=self.now, count=count, unit=unit)

    async def page(
        self, *, page: str | None = None, url: str | None = None, path: str | None = None, html: str | None = None
    ) -> Page:
        """Read a page: by key (looked up in `frontend_configs`), URL or file, or given as HTML; exactly one of them.

        Evidence names it by `Page.ref`: the key, URL or path as it was given, or `html`. Raises `InvalidInput` for an
        unknown key (naming the known ones), a refused address or an unreadable file.
        """
        if sum(given is not None for given in (page, url, path, html)) != 1:
            raise InvalidInput("give exactly one of page, url, path and html")
        if html is not None:
            self.cite("payload", "html", html)
            return self._page("html", html)
        if url is not None:
            return await self._fetched_page(url, url)
        if path is not None:
            return await self._file_page(path, path, kind="file")
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
            return await self._file_page(page, str(config["path"]), kind="page")
        raise InvalidInput(f"the config of page {page!r} names neither a url nor a path")

    async def _fetched_page(self, ref: str, url: str) -> Page:
        answer = await self.fetch(url)
        if answer.status >= 400:
            raise InvalidInput(f"{url} answered {answer.status}: there is no page to read")
        kind = answer.headers.get("content-type", "text/html")
        if "html" not in kind and "text" not in kind:
            raise InvalidInput(f"{url} is {kind}, not a page")
        charset = kind.partition("charset=")[2].strip(" \"';") or "utf-8"
        # Only the encodings of the web: Python has others, which decode to something else than text.
        html, _ = webencodings.decode(answer.body, webencodings.lookup(charset) or webencodings.UTF8, "replace")
        return self._page(ref, html, source=url, url=answer.final_url)

    async def _file_page(self, ref: str, path: str, *, kind: str) -> Page:
        data = await self.file(path, kind=kind, ref=ref if kind == "page" else None)
        file = await in_thread(self.path, path)
        if b"\0" in data:
            raise InvalidInput(f"{path!r} holds no markup: it has NUL characters")
        html, _ = webencodings.decode(data, webencodings.UTF8, "replace")
        return self._page(ref, html, source=ref, url=file.as_uri())

    def _page(self, ref: str, html: str, *, source: str | None = None, url: str | None = None) -> Page:
        """A page of what was read as `source`, whose text and elements may be quoted."""
        from zora_core.skills.page import Page

        # A parser makes the same of NUL; and a lone surrogate cannot be encoded.
        page = Page(ref=ref, html=storable(html), url=url)
        self.ledger.add_page(page, self.ledger.positions(source or ref)[-1])
        return page

    async def reviewed_markup(self) -> list[dict[str, Any]]:
        """The pages that earlier tasks of this type were given as markup: `known_as` and `sketch`, newest first."""
        if self._task_id is None:  # a handler that is tried without a task
            return []
        rows = await self._database.call("reviewed_markup", tenant_id=self._tenant_id, task_id=self._task_id)
        self._cite_rows("agent_tasks", rows)
        return rows

    async def page_keys(self) -> list[str]:
        """The keys of the tenant's pages."""
        return [c.page for c in await self._rows("frontend_configs", PageConfig, "list_frontend_configs")]

    async def fetch(self, url: str, *, method: str = "GET") -> Fetched:
        """Fetch a URL under the runtime's network policy."""
        check_storable(url, "the address")
        from zora_core.fetch import fetch

        answer = await fetch(url, method=method, allow_private=self._settings.allow_private_addresses)
        self.cite("url", url, answer.body, names=[answer.final_url])
        return answer

    def _own_folder(self) -> Path | None:
        """Where a person created the task; looked up once, because it waits while tasks are being created."""
        if self._permitted is None:  # no lock: threads that look it up at the same time find the same
            self._permitted = (permitted(self._settings.home, self._task_id),)
        return self._permitted[0]

    def roots(self) -> list[Path]:
        """The folders that this task may read; a relative path counts from the first. See `zora_core.roots`.

        The first call in a run, of this or of `path`, `may_read` or `name_of`, waits up to ten seconds while a command
        is creating tasks, because this task may be one of them. In an `async` handler write
        `await ctx.in_thread(ctx.roots)`.
        """
        settings = self._settings
        own = self._own_folder()
        configured = tenant_roots(settings.home, self._tenant_id)
        roots = [*(settings.file_roots if configured is None else configured)]
        if own is not None and unfit(own, settings.home) is None:
            roots.insert(0, own)
        return [*roots, examples().resolve()]

    def may_read(self, path: Path) -> bool:
        """Whether a path lies in one of the folders that this task may read, links resolved."""
        resolved, home = path.resolve(), self._settings.home.resolve()
        return not resolved.is_relative_to(home) and any(resolved.is_relative_to(root) for root in self.roots())

    def path(self, path: str) -> Path:
        """Resolve a file or directory that this task may read; raises `InvalidInput` for any other.

        Hidden files and folders, and files that usually hold credentials, are refused. It may wait (see `roots`): in an
        `async` handler write `await ctx.in_thread(ctx.path, path)`.
        """
        check_storable(path, "the path")
        if path.startswith(f"{EXAMPLES}/"):
            path = str(examples() / path.removeprefix(f"{EXAMPLES}/"))
        roots = self.roots()
        resolved = (roots[0] / path).resolve()
        if not self.may_read(resolved) or (len(roots) == 1 and not Path(path).is_absolute()):
            raise InvalidInput(f"{path!r} lies outside the folders that this task may read{self._allowed(roots[:-1])}")
        root = next(root for root in roots if resolved.is_relative_to(root))
        if reason := hides_secrets(resolved.relative_to(root)):
            raise InvalidInput(f"{path!r} is not read: {reason}")
        if not resolved.exists():
            raise InvalidInput(f"{path!r} does not exist (looked at {escaped(str(resolved))})")
        return resolved

    def name_of(self, path: Path) -> str:
        """How summaries name a file or folder: relative to the root that it lies in, a root by its own name."""
        inside = [root for root in self.roots() if path.is_relative_to(root)]
        root = max(inside, key=lambda root: len(root.parts), default=path.parent)
        return root.name if path == root else path.relative_to(root).as_posix()

    def _allowed(self, roots: Sequence[Path]) -> str:
        set_roots, create = zora_command("tenants", "roots", "FOLDER"), zora_command("create-task")
        if roots:
            names = escaped(", ".join(map(str, roots)))
            return f" ({names}): add its folder to ZORA_FILE_ROOTS, or run `{set_roots}`"
        if (own := self._own_folder()) is not None:
            return (
                f": no folders are configured. The task was created in {escaped(str(own))}, but "
                f"{unfit(own, self._settings.home)}"
            )
        return (
            f": no folders are configured. Set ZORA_FILE_ROOTS for the worker, or run `{set_roots}` (a "
            f"task created with `{create}` may also read the folder it was created in, on the same machine)"
        )

    async def file(self, path: str, *, kind: str = "file", ref: str | None = None) -> bytes:
        """The content of a file of at most 5 MB that may be read, credentials in it masked, recorded as a source."""
        file, data = await in_thread(self._content, path)
        return self._cite_file(path, file, data, await self.compute(without_secrets, data), kind, ref)

    def read_file(self, path: str, *, kind: str = "file", ref: str | None = None) -> bytes:
        """What `file` returns, for a handler that is a plain function; in an `async` one use `file`."""
        file, data = self._content(path)
        return self._cite_file(path, file, data, without_secrets(data), kind, ref)

    def _content(self, path: str) -> tuple[Path, bytes]:
        file = self.path(path)
        if not file.is_file():
            raise InvalidInput(f"{path!r} is not a file")
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise InvalidInput(f"{path!r} has more than {MAX_FILE_BYTES:,} bytes ({file.stat().st_size:,})")
        return file, data

    def _cite_file(self, path: str, file: Path, data: bytes, shown: bytes, kind: str, ref: str | None) -> bytes:
        ref = ref or escaped(str(file))
        source = self._source(kind, ref, hashlib.sha256(data).hexdigest(), len(data), "bytes")
        self.ledger.add(source, shown, names=[path])
        return shown

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

    async def decisions(self, suggestion_type: str, *, limit: int = 500) -> list[SuggestionRecord]:
        """What people decided on suggestions of a type, the last decision first, with their reasons: learn from it."""
        return await self._rows(
            "agent_suggestions", SuggestionRecord, "list_decisions", suggestion_type=suggestion_type, limit=limit
        )

    async def results(self) -> dict[str, Any]:
        """What the tasks came to on which this one depends, by their names in its graph; None for one that failed."""
        rows = await self._database.call("list_dependency_results", tenant_id=self._tenant_id, id=self._task_id)
        self._cite_rows("agent_tasks", rows)
        return {row["name"]: row["result"] for row in rows}

    async def database_health(self) -> dict[str, Any]:
        """Figures of the queue and the database.

        Keys: `queue` {pending, ready, in_progress, failed_last_hour, completed_last_hour, oldest_ready_seconds,
        expired_leases}, `sees_sessions` (whether the next two are about all sessions), `connections` {used, max},
        `longest_transaction_seconds`, `blocked_locks`, `dead_tuples` (a list of {table, live, dead}),
        `transaction_id_age`, `database_bytes`, `server_version`, `round_trip_ms`.
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
        found = await self._database.call(function, tenant_id=self._tenant_id, **arguments)
        position = self._cite_rows(table, found)
        rows: list[Row] = TypeAdapter(list[model]).validate_python(found)  # type: ignore[valid-type]
        key = "id" if "id" in model.model_fields else "page"
        self.ledger.add_rows(table, {str(getattr(row, key)): row for row in rows}, position)
        return rows

    def _cite_rows(self, table: str, rows: Sequence[dict[str, Any]]) -> int:
        digest = hashlib.sha256(json.dumps(rows, default=str, sort_keys=True).encode("utf-8", "surrogatepass"))
        return self.ledger.add(self._source("rows", table, digest.hexdigest(), len(rows), "rows"))
