"""TODO suggestions."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record, SuggestionRecord


class CountAgentSuggestion(Record):
    """TODO a row of `count_agent_suggestions`."""

    total: int
    is_estimate: bool


class PreviewAgentSuggestion(Record):
    """TODO a row of `preview_agent_suggestion`."""

    change: Any | None = None
    expected: Any | None = None
    found: Any | None = None


class ChangedAgentSuggestion(Record):
    """TODO a row of `changed_agent_suggestions`."""

    id: UUID
    agent_id: str
    task_id: UUID | None = None
    suggestion_type: str
    title: str
    risk_level: str
    status: str
    due: bool
    expires_at: datetime | None = None
    created_at: datetime


class SuggestionWeek(Record):
    """TODO a row of `suggestion_weeks`."""

    agent_id: str
    week: date | None = None
    approved: int
    rejected: int
    undone: int
    expired: int


class Suggestions(Section):
    """TODO."""

    async def list(
        self,
        *,
        status: str | None = None,
        task_id: UUID | None = None,
        agent_id: str | None = None,
        limit: int = 50,
        offset: int = 0,
        before_id: UUID | None = None,
    ) -> Records[SuggestionRecord]:
        """TODO"""
        return await self._tenant.all(
            SuggestionRecord,
            "list_agent_suggestions",
            status=status,
            task_id=task_id,
            agent_id=agent_id,
            limit=limit,
            offset=offset,
            before_id=before_id,
        )

    async def get(self, id: str) -> SuggestionRecord:
        """TODO"""
        return await self._tenant.one(SuggestionRecord, "get_agent_suggestion", id=id)

    async def count(
        self,
        *,
        status: str | None = None,
        task_id: UUID | None = None,
        agent_id: str | None = None,
        exact_up_to: int = 10000,
    ) -> CountAgentSuggestion:
        """TODO"""
        return await self._tenant.one(
            CountAgentSuggestion,
            "count_agent_suggestions",
            status=status,
            task_id=task_id,
            agent_id=agent_id,
            exact_up_to=exact_up_to,
        )

    async def list_open(self, *, limit: int = 50, offset: int = 0) -> Records[SuggestionRecord]:
        """TODO"""
        return await self._tenant.all(SuggestionRecord, "list_open_suggestions", limit=limit, offset=offset)

    async def decisions(self, *, suggestion_type: str, limit: int = 100) -> Records[SuggestionRecord]:
        """TODO"""
        return await self._tenant.all(SuggestionRecord, "list_decisions", suggestion_type=suggestion_type, limit=limit)

    async def decide(
        self,
        id: UUID,
        *,
        decision: str,
        digest: str | None = None,
        reason: str | None = None,
        edited_value: Any | None = None,
        edited_effect: Any | None = None,
        user_id: UUID | None = None,
    ) -> SuggestionRecord:
        """TODO"""
        return await self._tenant.one(
            SuggestionRecord,
            "decide_agent_suggestion",
            id=id,
            decision=decision,
            digest=digest,
            reason=reason,
            edited_value=edited_value,
            edited_effect=edited_effect,
            user_id=user_id,
        )

    async def undo(self, id: UUID, *, reason: str | None = None, user_id: UUID | None = None) -> SuggestionRecord:
        """TODO"""
        return await self._tenant.one(SuggestionRecord, "undo_agent_suggestion", id=id, reason=reason, user_id=user_id)

    async def preview(self, id: UUID) -> Records[PreviewAgentSuggestion]:
        """TODO"""
        return await self._tenant.all(PreviewAgentSuggestion, "preview_agent_suggestion", id=id)

    async def propose(self, *, agent_id: str, suggestion: Any, user_id: UUID | None = None) -> SuggestionRecord:
        """TODO"""
        return await self._tenant.one(
            SuggestionRecord, "propose_agent_suggestion", agent_id=agent_id, suggestion=suggestion, user_id=user_id
        )

    async def changed(self, *, since: datetime, limit: int = 1000) -> Records[ChangedAgentSuggestion]:
        """TODO"""
        return await self._tenant.all(ChangedAgentSuggestion, "changed_agent_suggestions", since=since, limit=limit)

    async def weeks(self, *, weeks: int = 12) -> Records[SuggestionWeek]:
        """TODO"""
        return await self._tenant.all(SuggestionWeek, "suggestion_weeks", weeks=weeks)
