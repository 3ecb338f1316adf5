"""The journal: entries, proofs, and sealing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Count, Records, Section
from zora_core.models import JournalEntry, Record


class EntriesAfter(Record):
    """Number of entries after one, and when the first of them was written."""

    entries: int
    oldest: datetime | None = None


class Proof(Record):
    """The block that seals an entry; `intact` says whether the entry is as it was sealed."""

    id: UUID
    block_number: int
    position: int
    sealed_at: datetime | None = None
    header_hash: str | None = None
    intact: bool


class SealingState(Record):
    """How far the journal is sealed."""

    server_time: datetime | None = None
    last_sealed_id: UUID | None = None
    first_unsealed_id: UUID | None = None
    unsealed: int


class NextBlock(Record):
    """The next block of the journal as it must be signed."""

    header: str | None = None
    entry_ids: bytes | None = None
    entry_digests: bytes | None = None


class Journal(Section):
    """The tenant's journal."""

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
        """Entries, newest first."""
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
    ) -> Count:
        """Number of entries; exact up to `exact_up_to`."""
        return await self._tenant.one(
            Count, "count_journal_entries", category=category, task_id=task_id, exact_up_to=exact_up_to
        )

    async def entries_after(self, after: UUID) -> EntriesAfter:
        """Number of entries after one."""
        return await self._tenant.one(EntriesAfter, "journal_entries_after", after=after)

    async def proofs(self, ids: Sequence[UUID]) -> Records[Proof]:
        """The proofs of entries that are sealed."""
        return await self._tenant.all(Proof, "journal_proofs", ids=ids)

    async def state(
        self,
    ) -> SealingState:
        """How far the journal is sealed."""
        return await self._tenant.one(SealingState, "journal_state")

    async def erase(self, id: str, *, reason: str, user_id: UUID) -> JournalEntry:
        """Remove the text of an entry, as the law may ask; its digest stays, so that the journal can still be verified.

        Raises `NotFound` or `InvalidState`.
        """
        return await self._tenant.one(JournalEntry, "erase_journal_entry", id=id, reason=reason, user_id=user_id)

    async def watermark(
        self,
    ) -> datetime:
        """The time before which no open transaction can still write entries."""
        return await self._everyone.value(datetime, "journal_watermark")

    async def next_block(
        self, *, public_key: bytes, min_age_seconds: float = 10, margin_seconds: float = 5, limit: int = 1000
    ) -> Records[NextBlock]:
        """The next block to seal, of entries that are at least `min_age_seconds` old; none when there is nothing to
        seal.
        """
        return await self._tenant.all(
            NextBlock,
            "next_journal_block",
            public_key=public_key,
            min_age_seconds=min_age_seconds,
            margin_seconds=margin_seconds,
            limit=limit,
        )

    async def seal_block(self, *, header: str, signature: bytes, entry_ids: bytes, entry_digests: bytes) -> bool:
        """Store a signed block; returns false if another worker was faster."""
        return await self._tenant.value(
            bool,
            "seal_journal_block",
            header=header,
            signature=signature,
            entry_ids=entry_ids,
            entry_digests=entry_digests,
        )

    async def record_import(self, *, source: str, counts: Any, user_id: UUID | None = None) -> UUID:
        """Write the journal entry of an import, and return its id."""
        return await self._tenant.value(UUID, "journal_import", source=source, counts=counts, user_id=user_id)
