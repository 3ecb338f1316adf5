"""TODO memory."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import MemoryEvent, Record


class CountMemoryEvent(Record):
    """TODO a row of `count_memory_events`."""

    total: int
    is_estimate: bool


class Memory(Section):
    """TODO."""

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
        """TODO"""
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
        """TODO"""
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
    ) -> CountMemoryEvent:
        """TODO"""
        return await self._tenant.one(
            CountMemoryEvent,
            "count_memory_events",
            archived=archived,
            agent=agent,
            memory_type=memory_type,
            exact_up_to=exact_up_to,
        )
