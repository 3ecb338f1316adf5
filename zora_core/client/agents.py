"""The agents: what each of them does, and pausing them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record


class AgentFigures(Record):
    """An agent's numbers over the last days; durations in seconds."""

    agent_id: str
    completed: int
    failed: int
    p50_seconds: float | None = None
    p90_seconds: float | None = None
    last_finished_at: datetime | None = None


class Pause(Record):
    """A pause; without `agent_id` it holds for all agents."""

    tenant_id: UUID
    agent_id: str
    reason: str | None = None
    paused_by: UUID | None = None
    created_at: datetime


class Agents(Section):
    """The six agents in this tenant."""

    async def board(self, *, watched: Sequence[UUID] = ()) -> Any:
        """What the agents do at this moment, and the versions of the `watched` tasks, for live pages."""
        return await self._tenant.value(object, "agent_board", watched=watched)

    async def figures(
        self,
    ) -> Records[AgentFigures]:
        """Each agent's numbers."""
        return await self._tenant.all(AgentFigures, "agent_figures")

    async def pauses(
        self,
    ) -> Records[Pause]:
        """The pauses that hold now."""
        return await self._tenant.all(Pause, "list_agent_pauses")

    async def pause(
        self, *, agent_id: str | None = None, reason: str | None = None, user_id: UUID | None = None
    ) -> Records[Pause]:
        """Let an agent, or all of them, begin no more tasks. Running tasks go on."""
        return await self._tenant.all(Pause, "pause_agents", agent_id=agent_id, reason=reason, user_id=user_id)

    async def resume(self, *, agent_id: str | None = None, user_id: UUID | None = None) -> Records[Pause]:
        """End a pause. Raises `InvalidState` without one."""
        return await self._tenant.all(Pause, "resume_agents", agent_id=agent_id, user_id=user_id)
