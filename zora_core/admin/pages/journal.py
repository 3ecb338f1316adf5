"""The journal: what happened, newest first, with the proof of each entry; verified or downloaded on request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args
from uuid import UUID

from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response, StreamingResponse

from zora_core.admin.rendering import count, counted
from zora_core.admin.site import PAGE_HEADERS, Pages, Query, Visit
from zora_core.api.records import Category
from zora_core.errors import InvalidState
from zora_core.journal.reading import export
from zora_core.journal.verification import Report, verify_stored
from zora_core.models import Role

pages = Pages()

PAGE = 50
COUNT_CAP = 1000
VERIFY_SECONDS = 60  # a million entries take about 30
MAX_PROBLEMS = 200  # of a report that are shown, and as many erased texts
_FIRST_DAY, _LAST_DAY = date(2000, 1, 1), date(2999, 12, 31)
_KINDS = {
    "changed": "changed",
    "removed": "removed",
    "inserted": "inserted",
    "reordered": "moved",
    "block": "block",
    "signature": "signature",
    "key": "key",
    "cut": "cut off",
    "erasure": "erased without a record",
    "file": "unreadable",
}

# Verifying takes a processor's time: a second visitor is told to wait. Nobody ever queues here.
_verifying = asyncio.Semaphore(1)


class JournalQuery(Query):
    """Which entries are shown; days are those of UTC, `until` with the whole day."""

    category: Category | None = None
    task: UUID | None = None
    since: date | None = Field(default=None, ge=_FIRST_DAY, le=_LAST_DAY)
    until: date | None = Field(default=None, ge=_FIRST_DAY, le=_LAST_DAY)
    before: UUID | None = None

    @property
    def window(self) -> dict[str, datetime | None]:
        """As `list_journal_entries` takes it."""
        return {
            "since": _midnight(self.since) if self.since else None,
            "until": _midnight(self.until + timedelta(days=1)) if self.until else None,
        }


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@pages.get("/journal")
async def index(visit: Visit) -> Response:
    """The entries that fit, newest first."""
    query: JournalQuery = visit.query(JournalQuery)
    filters = {"category": query.category, "task_id": query.task}
    rows, (total,) = await asyncio.gather(
        visit.call("list_journal_entries", **filters, **query.window, limit=PAGE + 1, before_id=query.before),
        visit.call("count_journal_entries", **filters, exact_up_to=COUNT_CAP),
    )
    shown = rows[:PAGE]
    return await visit.page(
        "journal.html",
        query=query,
        entries=shown,
        proofs=await _proofs(visit, [row["id"] for row in shown]),
        cursor=shown[-1]["id"] if len(rows) > PAGE else None,
        found=_found(query, rows, total),
        filtered=bool(query.model_dump(exclude={"before"}, exclude_none=True)),
        categories=get_args(Category),
    )


def _found(query: JournalQuery, rows: list[dict[str, Any]], total: dict[str, Any]) -> str:
    """How many there are, in words; those of a window of time are not counted beyond the page."""
    if query.since or query.until:
        more = " of those that fit" if len(rows) > PAGE or query.before else ""
        return f"{_entries(min(len(rows), PAGE))}{more}, newest first."
    return f"{counted(total, 'entry', 'entries').capitalize()}, newest first."


def _entries(number: int) -> str:
    return f"{number:,} {'entry' if number == 1 else 'entries'}"


async def _proofs(visit: Visit, ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    return {proof["id"]: proof for proof in await visit.call("journal_proofs", ids=ids)}


@pages.get("/journal/export")
async def download(visit: Visit) -> Response:
    """The whole journal with its proofs, as `zora journal export` writes it, sent while it is read."""
    database, tenant_id = visit.caller.api.database, visit.caller.principal.tenant_id

    async def lines() -> AsyncIterator[str]:
        async for text, _ in export(database, tenant_id, {"blocks": 0, "entries": 0, "unsealed": 0}):
            yield text

    name = f"zora-journal-{datetime.now(UTC):%Y-%m-%d}-{str(tenant_id)[-8:]}.jsonl"
    headers = {**PAGE_HEADERS, "Content-Disposition": f'attachment; filename="{name}"', "Vary": "Cookie"}
    return StreamingResponse(lines(), headers=headers, media_type="application/x-ndjson")


@pages.get("/journal/verify")
async def verified(visit: Visit) -> Response:
    """A report is not stored: a visit to its URL leads to the form."""
    return RedirectResponse("/admin/journal", 303)


@pages.post("/journal/verify", Role.VIEWER)
async def verify(visit: Visit) -> Response:
    """Read and hash everything that is sealed, as `zora journal verify` does, and say what was found.

    It changes nothing, so that the answer is the report itself. One verification at a time runs in a process.
    """
    if _verifying.locked():
        raise InvalidState("the journal is being verified just now: try again in a moment")
    api, tenant_id = visit.caller.api, visit.caller.principal.tenant_id
    started = time.monotonic()
    report: Report | None = None
    async with _verifying:
        try:
            async with asyncio.timeout(VERIFY_SECONDS):
                report = await verify_stored(api.database, api.settings, tenant_id)
        except TimeoutError:
            pass  # the page says so
    return await visit.page(
        "journal_report.html",
        report=report,
        took=time.monotonic() - started,
        limit=VERIFY_SECONDS,
        kinds=_KINDS,
        most=MAX_PROBLEMS,
        problems=count(len(report.problems) + report.more_problems, 10**9) if report else "",
        first_at=_moment(report.first_at) if report else None,
        last_at=_moment(report.last_at) if report else None,
        unsealed_since=_moment(report.unsealed_since) if report else None,
    )


def _moment(text: str | None) -> datetime | None:
    """A time as the chain has it; a rewritten header may say anything."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found if found and found.tzinfo else None


@pages.get("/journal/{id:uuid}")
async def show(visit: Visit) -> Response:
    """One entry with all that is stored of it, and its proof; also one that is gone from where it was sealed."""
    entry_id: UUID = visit.request.path_params["id"]
    entry, proofs = await asyncio.gather(one_by_id(visit, "list_journal_entries", entry_id), _proofs(visit, [entry_id]))
    proof = proofs.get(entry_id)
    if entry is None and proof is None:
        raise HTTPException(404)
    return await visit.page("journal_entry.html", status=200 if entry else 404, id=entry_id, entry=entry, proof=proof)


async def one_by_id(visit: Visit, function: str, row_id: UUID, **filters: Any) -> dict[str, Any] | None:
    """The row with this id out of a list that goes by ids, newest first: the first one before the next id."""
    after = min(row_id.int + 1, 2**128 - 1)
    rows = await visit.call(function, **filters, before_id=UUID(int=after), limit=1)
    return rows[0] if rows and rows[0]["id"] == row_id else None
