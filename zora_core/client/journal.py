"""TODO journal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import JournalEntry, Record


class CountJournalEntrie(Record):
    """TODO a row of `count_journal_entries`."""

    total: int
    is_estimate: bool


class JournalEntriesAfter(Record):
    """TODO a row of `journal_entries_after`."""

    entries: int
    oldest: datetime | None = None


class JournalProof(Record):
    """TODO a row of `journal_proofs`."""

    id: UUID
    block_number: int
    position: int
    sealed_at: datetime | None = None
    header_hash: str | None = None
    intact: bool


class JournalState(Record):
    """TODO a row of `journal_state`."""

    server_time: datetime | None = None
    last_sealed_id: UUID | None = None
    first_unsealed_id: UUID | None = None
    unsealed: int


class NextJournalBlock(Record):
    """TODO a row of `next_journal_block`."""

    header: str | None = None
    entry_ids: bytes | None = None
    entry_digests: bytes | None = None


class Journal(Section):
    """TODO."""

    async def list(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        category: str | None = None,
        task_id: UUID | None = None,
        limit: int = 50,
        offset: int = 0,
        before_id: UUID | None = None,
    ) -> Records[JournalEntry]:
        """TODO"""
        return await self._tenant.all(
            JournalEntry,
            "list_journal_entries",
            since=since,
            until=until,
            category=category,
            task_id=task_id,
            limit=limit,
            offset=offset,
            before_id=before_id,
        )

    async def count(
        self, *, category: str | None = None, task_id: UUID | None = None, exact_up_to: int = 10000
    ) -> CountJournalEntrie:
        """TODO"""
        return await self._tenant.one(
            CountJournalEntrie, "count_journal_entries", category=category, task_id=task_id, exact_up_to=exact_up_to
        )

    async def entries_after(self, after: UUID) -> JournalEntriesAfter:
        """TODO"""
        return await self._tenant.one(JournalEntriesAfter, "journal_entries_after", after=after)

    async def proofs(self, ids: Sequence[UUID]) -> Records[JournalProof]:
        """TODO"""
        return await self._tenant.all(JournalProof, "journal_proofs", ids=ids)

    async def state(
        self,
    ) -> JournalState:
        """TODO"""
        return await self._tenant.one(JournalState, "journal_state")

    async def erase(self, id: str, *, reason: str, user_id: UUID) -> JournalEntry:
        """TODO"""
        return await self._tenant.one(JournalEntry, "erase_journal_entry", id=id, reason=reason, user_id=user_id)

    async def watermark(
        self,
    ) -> datetime:
        """TODO"""
        return await self._everyone.value(datetime, "journal_watermark")

    async def next_block(
        self, *, public_key: bytes, min_age_seconds: float = 10, margin_seconds: float = 5, limit: int = 1000
    ) -> Records[NextJournalBlock]:
        """TODO"""
        return await self._tenant.all(
            NextJournalBlock,
            "next_journal_block",
            public_key=public_key,
            min_age_seconds=min_age_seconds,
            margin_seconds=margin_seconds,
            limit=limit,
        )

    async def seal_block(self, *, header: str, signature: bytes, entry_ids: bytes, entry_digests: bytes) -> bool:
        """TODO"""
        return await self._tenant.value(
            bool,
            "seal_journal_block",
            header=header,
            signature=signature,
            entry_ids=entry_ids,
            entry_digests=entry_digests,
        )

    async def record_import(self, *, source: str, counts: Any, user_id: UUID | None = None) -> UUID:
        """TODO"""
        return await self._tenant.value(UUID, "journal_import", source=source, counts=counts, user_id=user_id)
