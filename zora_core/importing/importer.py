"""What is read, mapped and written, in which order, and the report of it.

A dry run asks the same function that writes: it does everything in a transaction and undoes it, so that the report says
what would be, constraints and rows that are here already included.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json

from zora_core.errors import DataRejected, InvalidInput
from zora_core.importing import graphs, mapping
from zora_core.importing.fields import Context, Mapped, Refused, Row, Taken, tenant_of
from zora_core.importing.sources import Source
from zora_core.importing.tables import Broken, Tenant

BATCH_ROWS = 250
BATCH_BYTES = 2_000_000
MAX_REASONS = 30  # that are told apart; a reason can hold a value of a row

Call = Callable[..., Awaitable[list[dict[str, Any]]]]
"""A function of the database, for the tenant that is written to."""


@dataclass(frozen=True)
class Kind:
    """A table of the original, what its rows are called here, and how one is mapped.

    `key` is what only one of them can have here. Of a `shared` kind a row without a tenant holds for every tenant; it
    comes after the tenant's own.
    """

    table: str
    name: str
    writes: str
    function: Callable[..., Mapped]
    key: str | None = None
    shared: bool = False


# In the order in which they refer to one another; the journal last, because it tells of the others.
KINDS = (
    Kind("climate_profiles", "profiles", "profile", mapping.profile),
    Kind("climate_missions", "missions", "mission", mapping.mission),
    Kind("agent_task_policies", "policies", "policy", mapping.policy, key="task_type", shared=True),
    Kind("agent_tasks", "tasks", "task", mapping.task),
    Kind("memory_events", "memories", "memory", mapping.memory),
    Kind("agent_insights", "insights", "memory", mapping.insight),
    Kind("agent_suggestions", "suggestions", "suggestion", mapping.suggestion),
    Kind("autonomy_schedules", "schedules", "schedule", mapping.schedule, key="name"),
    Kind("workflows", "workflows", "workflow", graphs.workflow, key="key", shared=True),
    Kind("journal_entries", "journal entries", "journal", mapping.journal),
)


@dataclass
class Told:
    """How often something was said of rows, and of which one first."""

    count: int = 0
    example: str = ""


@dataclass
class KindReport:
    """What became of the rows of a table: found = taken + here + not_taken."""

    name: str
    table: str
    found: int = 0
    taken: int = 0
    here: int = 0
    not_taken: int = 0
    reasons: dict[str, Told] = field(default_factory=dict)
    notes: dict[str, Told] = field(default_factory=dict)

    def refuse(self, reason: str, example: str) -> None:
        """Count a row that is not taken."""
        self.not_taken += 1
        _tell(self.reasons, reason, example)

    def take(self, notes: tuple[str, ...], example: str) -> None:
        """Count a row that is taken."""
        self.taken += 1
        for note in notes:
            _tell(self.notes, note, example)

    def shown(self) -> dict[str, Any]:
        """For programs."""
        return {
            **{name: getattr(self, name) for name in ("name", "table", "found", "taken", "here", "not_taken")},
            **{
                name: [{"text": text, "count": told.count, "example": told.example} for text, told in _ordered(said)]
                for name, said in (("reasons", self.reasons), ("notes", self.notes))
            },
        }


def _tell(said: dict[str, Told], what: str, example: str) -> None:
    if what not in said and len(said) >= MAX_REASONS:
        what = "other reasons"
    told = said.setdefault(what, Told(example=example))
    told.count += 1


def _ordered(said: dict[str, Told]) -> list[tuple[str, Told]]:
    return sorted(said.items(), key=lambda item: (-item[1].count, item[0]))


@dataclass
class Report:
    """What an import did, or would do."""

    source: str
    tenant: Tenant | None
    applied: bool
    kinds: list[KindReport] = field(default_factory=list)

    @property
    def taken(self) -> int:
        """Rows of all tables that were taken, or would be."""
        return sum(kind.taken for kind in self.kinds)

    @property
    def counts(self) -> dict[str, int]:
        """The same by kind, where there are any."""
        return {kind.name: kind.taken for kind in self.kinds if kind.taken}

    def shown(self) -> dict[str, Any]:
        """For programs."""
        return {
            "source": self.source,
            "source_tenant": self.tenant.id if self.tenant else None,
            "applied": self.applied,
            "taken": self.taken,
            "kinds": [kind.shown() for kind in self.kinds],
        }


def choose_tenant(tenants: list[Tenant], wanted: str | None) -> Tenant | None:
    """Whose rows are read: the one that is named, else the only one; None when there is none at all.

    Raises `InvalidInput` naming those there are.
    """
    known = ", ".join(map(str, tenants)) or "none"
    if wanted is not None:
        for tenant in tenants:
            if wanted.strip().lower() in (tenant.id, (tenant.slug or tenant.id).lower()):
                return tenant
        raise InvalidInput(f"no tenant {wanted!r} owns rows in the source (those that do: {known})")
    if len(tenants) > 1:
        raise InvalidInput(
            f"the source holds the rows of {len(tenants)} tenants: name one with --source-tenant ({known})"
        )
    return tenants[0] if tenants else None


class Importer:
    """Takes the rows of one source over, or says what that would be."""

    def __init__(
        self,
        source: Source,
        call: Call,
        context: Context,
        report: Report,
        *,
        without_tenant: bool = False,
        user_id: Any = None,
        progress: Callable[[KindReport], object] = lambda _: None,
    ) -> None:
        """`report` says what is to be done, and is filled; `user_id` is who imports, when something is written."""
        self._source = source
        self._call = call
        self._context = context
        self._report = report
        self._without_tenant = without_tenant
        self._user_id = user_id
        self._progress = progress
        self._lost_profiles: set[str] = set()

    async def run(self) -> None:
        """Go through all tables. What was written before an error stays written, and is not taken twice."""
        try:
            for kind in KINDS:
                if self._source.has(kind.table):
                    report = KindReport(kind.name, kind.table)
                    self._report.kinds.append(report)
                    await self._take(kind, report)
        finally:
            # Also of a run that was stopped: what it took is here.
            if self._report.applied and self._report.taken:
                await self._call(
                    "journal_import", source=self._report.source, counts=self._report.counts, user_id=self._user_id
                )

    async def _take(self, kind: Kind, report: KindReport) -> None:
        keys: set[str] = set()
        batch: list[Taken] = []
        size = 0
        for everybodys in (False, True) if kind.shared else (None,):
            async for row in self._rows(kind, report, everybodys):
                mapped = await self._mapped(kind, row)
                if isinstance(mapped, Taken) and kind.key:
                    key = mapped.row[kind.key]
                    if key in keys:
                        mapped = Refused("another row of the source is the same here")
                    keys.add(key)
                if isinstance(mapped, Refused):
                    self._refuse(kind, report, mapped.reason, str(row.get("id")))
                    continue
                batch.append(mapped)
                size += len(to_json(mapped.row))
                if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
                    await self._write(kind, report, batch)
                    batch, size = [], 0
        await self._write(kind, report, batch)

    async def _rows(self, kind: Kind, report: KindReport, everybodys: bool | None) -> AsyncIterator[Row]:
        """The rows to map; broken rows and rows without a tenant are counted here."""
        tenant = self._report.tenant.id if self._report.tenant else None
        async for row in self._source.rows(kind.table, tenant):
            if isinstance(row, Broken):
                if not everybodys:
                    report.found += 1
                    report.refuse(row.reason, row.where)
                continue
            nobodys = tenant_of(row) is None
            if everybodys is not None and nobodys != everybodys:
                continue
            report.found += 1
            if nobodys and everybodys is None and not self._without_tenant:
                self._refuse(
                    kind, report, "it belongs to no tenant: --without-tenant takes such rows", str(row.get("id"))
                )
                continue
            yield row

    async def _mapped(self, kind: Kind, row: Row) -> Mapped:
        if kind.name == "workflows":
            identifier = [str(row.get("id")).strip().lower()]
            parts = [
                [
                    one
                    for one in await self._source.rows_of(table, "workflow_id", identifier)
                    if not isinstance(one, Broken)
                ]
                for table in ("workflow_steps", "workflow_step_edges")
            ]
            return kind.function(row, self._context, *parts)
        mapped = kind.function(row, self._context)
        if isinstance(mapped, Taken) and kind.name == "missions" and mapped.row["profile"] in self._lost_profiles:
            return Taken(mapped.row, (*mapped.notes, "without its profile, which was not taken"))
        return mapped

    def _refuse(self, kind: Kind, report: KindReport, reason: str, identifier: str) -> None:
        report.refuse(reason, identifier)
        if kind.name == "profiles":
            self._lost_profiles.add(identifier.strip().lower())

    async def _write(self, kind: Kind, report: KindReport, batch: list[Taken]) -> None:
        if not batch:
            return
        rows = [{name: value for name, value in taken.row.items() if value is not None} for taken in batch]
        try:
            outcomes = await self._call(
                "import_records", kind=kind.writes, rows=rows, dry_run=not self._report.applied, user_id=self._user_id
            )
        except DataRejected as error:
            # One of them cannot even be sent; nothing of the batch was written.
            if len(batch) == 1:
                self._refuse(kind, report, str(error), batch[0].row["source_id"])
                return
            half = len(batch) // 2
            await self._write(kind, report, batch[:half])
            await self._write(kind, report, batch[half:])
            return
        for taken, outcome in zip(batch, outcomes, strict=True):
            identifier = taken.row["source_id"]
            if outcome["outcome"] == "taken":
                report.take((*taken.notes, *filter(None, [outcome["note"]])), identifier)
            elif outcome["outcome"] == "here":
                report.here += 1
            else:
                self._refuse(kind, report, outcome["reason"], identifier)
        self._progress(report)
