"""Whether the journal is being sealed: what is not proven yet, since when, and whether the clocks allow it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from zora_core.database.database import Database

CLOCK_SECONDS = 60.0  # by which the clocks may differ; ids are made from the database's
LATE_SECONDS = 60.0  # after which an entry that is not sealed is worth knowing; sealing takes some 15 seconds
COUNTED = 10_000


@dataclass(frozen=True)
class JournalState:
    """`unsealed` is counted up to 10,000; `since` is the time of the first unsealed entry, `late` its age in seconds.

    `clock` says what is wrong with the clocks, in words; None when nothing is.
    """

    unsealed: int
    since: datetime | None
    late: float
    clock: str | None

    @property
    def is_late(self) -> bool:
        """Whether entries have been unsealed for too long."""
        return self.late > LATE_SECONDS

    @property
    def said(self) -> str:
        """How much is not sealed, in words."""
        more = "more than " if self.unsealed >= COUNTED else ""
        found = f"{more}{self.unsealed:,} {'entry' if self.unsealed == 1 else 'entries'} not sealed"
        if not self.is_late or self.since is None:
            return found
        return f"{found}, the oldest for {self.late / 60:,.0f} min: nothing is proven from {at(self.since)} on"


async def read_state(database: Database, tenant_id: UUID) -> JournalState:
    """The state of a tenant's journal as the database has it now."""
    (row,) = await database.call("journal_state", tenant_id=tenant_id)
    now: datetime = row["server_time"]
    since = time_of(row["first_unsealed_id"]) if row["first_unsealed_id"] else None
    return JournalState(
        unsealed=row["unsealed"],
        since=since,
        late=max((now - since).total_seconds(), 0.0) if since else 0.0,
        clock=clock_problem(now, row["last_sealed_id"]),
    )


def clock_problem(server_time: datetime, last_sealed: UUID | None) -> str | None:
    """What is wrong with the database's clock, compared with this machine's and with the last sealed entry."""
    ahead = (server_time - datetime.now(UTC)).total_seconds()
    if abs(ahead) > CLOCK_SECONDS:
        side = "ahead of" if ahead > 0 else "behind"
        return (
            f"the database's clock ({at(server_time)}) is {abs(ahead):,.0f} s {side} this machine's: "
            "set both by NTP; entries are sealed again once they agree"
        )
    if last_sealed is not None and server_time < time_of(last_sealed):
        return (
            f"the database's clock ({at(server_time)}) was set back behind the last sealed entry "
            f"({at(time_of(last_sealed))}): entries written until then cannot be sealed; set the clock by NTP"
        )
    return None


def time_of(entry_id: UUID) -> datetime:
    """The time in an entry's id (UUID version 7)."""
    milliseconds = min(entry_id.int >> 80, 253_402_300_799_000)  # the year 9999: an id may be made by hand
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def at(moment: datetime) -> str:
    """A time for people."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
