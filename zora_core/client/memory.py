"""What the agents remember."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from zora_core.client.calls import Count, Records, Section
from zora_core.models import MemoryEvent


class Memory(Section):
    """The tenant's memories."""

    async def list(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        archived: bool = False,
        agent: str | None = None,
        memory_type: str | None = None,
        limit: int = 50,
        offset: int = 0,
        before_id: UUID | None = None,
    ) -> Records[MemoryEvent]:
        """Memories, newest first."""
        return await self._tenant.all(
            MemoryEvent,
            "list_memory_events",
            since=since,
            until=until,
            archived=archived,
            agent=agent,
            memory_type=memory_type,
            limit=limit,
            offset=offset,
            before_id=before_id,
        )

    async def search(
        self,
        *,
        query: str,
        limit: int = 20,
        archived: bool = False,
        agent: str | None = None,
        memory_type: str | None = None,
    ) -> Records[MemoryEvent]:
        """Memories that match the words of `query`, best first, among the newest 20,000."""
        return await self._tenant.all(
            MemoryEvent,
            "search_memory_events",
            query=query,
            limit=limit,
            archived=archived,
            agent=agent,
            memory_type=memory_type,
        )

    async def count(
        self,
        *,
        archived: bool = False,
        agent: str | None = None,
        memory_type: str | None = None,
        exact_up_to: int = 10000,
    ) -> Count:
        """Number of memories; exact up to `exact_up_to`."""
        return await self._tenant.one(
            Count,
            "count_memory_events",
            archived=archived,
            agent=agent,
            memory_type=memory_type,
            exact_up_to=exact_up_to,
        )
