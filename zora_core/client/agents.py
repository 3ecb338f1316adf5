"""TODO agents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record


class AgentFigure(Record):
    """TODO a row of `agent_figures`."""

    agent_id: str
    completed: int
    failed: int
    p50_seconds: float | None = None
    p90_seconds: float | None = None
    last_finished_at: datetime | None = None


class Pause(Record):
    """TODO a row of `list_agent_pauses`."""

    tenant_id: UUID
    agent_id: str
    reason: str | None = None
    paused_by: UUID | None = None
    created_at: datetime


class Agents(Section):
    """TODO."""

    async def board(self, *, watched: Sequence[UUID] = ()) -> Any:
        """TODO"""
        return await self._tenant.value(object, "agent_board", watched=watched)

    async def figures(
        self,
    ) -> Records[AgentFigure]:
        """TODO"""
        return await self._tenant.all(AgentFigure, "agent_figures")

    async def pauses(
        self,
    ) -> Records[Pause]:
        """TODO"""
        return await self._tenant.all(Pause, "list_agent_pauses")

    async def pause(
        self, *, agent_id: str | None = None, reason: str | None = None, user_id: UUID | None = None
    ) -> Pause:
        """TODO"""
        return await self._tenant.one(Pause, "pause_agents", agent_id=agent_id, reason=reason, user_id=user_id)

    async def resume(self, *, agent_id: str | None = None, user_id: UUID | None = None) -> Pause:
        """TODO"""
        return await self._tenant.one(Pause, "resume_agents", agent_id=agent_id, user_id=user_id)
