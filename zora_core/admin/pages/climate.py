"""Climate: whose footprint is known, which missions there are, and what they save, in kgCO2e a year."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response

from zora_core.admin.site import Pages, Query, Visit

pages = Pages()

PAGE = 50  # missions of a page of one status
FIRST = 10  # of each status, where all are shown
READ = 5000  # as list_climate_missions() does
PROPOSALS = 200  # decisions that are looked through for who proposed a mission
NEVER = datetime.max.replace(tzinfo=UTC)
STATUSES = {
    "in_progress": "Under way",
    "planned": "Planned",
    "completed": "Achieved",
    "cancelled": "Cancelled",
    "failed": "Failed",
}


class ClimateQuery(Query):
    """Which missions are shown; `offset` counts within a status."""

    status: Literal["in_progress", "planned", "completed", "cancelled", "failed"] | None = None
    offset: int = Field(default=0, ge=0, le=READ)


@dataclass
class Total:
    """What missions save, in kgCO2e a year, by how far they are; negative when they cost more than they save."""

    planned: float = 0.0
    in_progress: float = 0.0
    completed: float = 0.0
    verified: float = 0.0
    """That part of `completed` that somebody has verified."""
    missions: int = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row of `list_climate_totals`; what was cancelled or failed saves nothing."""
        if row["status"] in ("planned", "in_progress", "completed"):
            setattr(self, row["status"], getattr(self, row["status"]) + float(row["kgco2"]))
            self.missions += row["missions"]
        if row["status"] == "completed":
            self.verified += float(row["verified_kgco2"])


@dataclass(frozen=True)
class Bar:
    """A part of a category's bar, in thousandths of the longest one."""

    kind: str
    x: float
    width: float


@dataclass(frozen=True)
class Category:
    """What a category's missions save, and its bar."""

    name: str
    total: Total
    bar: Sequence[Bar]


@dataclass(frozen=True)
class Group:
    """The missions of one status that are shown, and how many there are."""

    status: str
    label: str
    missions: Sequence[Mapping[str, Any]]
    count: int


@pages.get("/climate")
async def index(visit: Visit) -> Response:
    """Profiles, what missions save, and the missions by status."""
    query: ClimateQuery = visit.query(ClimateQuery)
    profiles, missions, totals, decisions = await asyncio.gather(
        visit.call("list_climate_profiles"),
        visit.call("list_climate_missions"),
        visit.call("list_climate_totals"),
        visit.call("list_decisions", suggestion_type="create_climate_missions", limit=PROPOSALS),
    )
    every = Total()
    for row in totals:
        every.add(row)
    shown = groups(missions, query)
    last = query.offset + PAGE
    more = query.status is not None and any(group.count > last for group in shown)
    return await visit.page(
        "climate.html",
        query=query,
        statuses=STATUSES,
        profiles=profiles,
        names={profile["id"]: profile["name"] for profile in profiles},
        total=every,
        counts={name: sum(row["missions"] for row in totals if row["status"] == name) for name in STATUSES},
        categories=by_category(totals),
        groups=shown,
        proposals=proposals(decisions),
        unread=sum(row["missions"] for row in totals) - len(missions),
        older=last if more else None,
        newer=max(query.offset - PAGE, 0) if query.status and query.offset else None,
        kg=kilograms,
        now_utc=datetime.now(UTC),
    )


def groups(missions: Iterable[Mapping[str, Any]], query: ClimateQuery) -> list[Group]:
    """Missions by status, each status by due date, then the newest first; those without missions are left out."""
    found: dict[str, list[Mapping[str, Any]]] = {status: [] for status in STATUSES}
    for mission in missions:
        found[mission["status"]].append(mission)
    for rows in found.values():
        rows.sort(key=lambda mission: mission["created_at"], reverse=True)
        rows.sort(key=lambda mission: mission["due_date"] or NEVER)
    if query.status:
        rows = found[query.status]
        return [Group(query.status, STATUSES[query.status], rows[query.offset : query.offset + PAGE], len(rows))]
    return [Group(status, STATUSES[status], rows[:FIRST], len(rows)) for status, rows in found.items() if rows]


def by_category(totals: Iterable[Mapping[str, Any]]) -> list[Category]:
    """What each category saves, the one with the most first, its bar as long as its share of that."""
    found: dict[str, Total] = {}
    for row in totals:
        found.setdefault(row["category"], Total()).add(row)
    named = [(name, total) for name, total in found.items() if total.missions]
    longest = max((sum(width for _, width in _parts(total)) for _, total in named), default=0.0)
    named.sort(key=lambda one: (-sum(width for _, width in _parts(one[1])), one[0]))
    return [Category(name, total, _bar(total, longest)) for name, total in named]


def _parts(total: Total) -> list[tuple[str, float]]:
    parts = (("achieved", total.completed), ("under-way", total.in_progress), ("planned", total.planned))
    return [(kind, max(kilos, 0.0)) for kind, kilos in parts]


def _bar(total: Total, longest: float) -> list[Bar]:
    bars, x = [], 0.0
    for kind, kilos in _parts(total):
        width = 1000 * kilos / longest if longest else 0.0
        if width:
            bars.append(Bar(kind, round(x, 1), round(width, 1)))
        x += width
    return bars


def proposals(decisions: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The suggestions that made missions, by the mission's id: what takes them back names the row that they made."""
    return {
        change["row"]["id"]: decision
        for decision in decisions
        if decision["inverse"]
        for change in decision["inverse"]["changes"]
        if change["op"] == "delete" and change["table"] == "climate_missions"
    }


def kilograms(value: float | None) -> str:
    """Kilograms as people write them: thousands apart, a tenth where there are few."""
    if value is None:
        return "–"
    return f"{value:,.1f}" if 0 < abs(value) < 10 and value != int(value) else f"{value:,.0f}"
