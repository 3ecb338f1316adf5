"""Suggestions: what agents propose, and deciding on it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

from zora_core.client.calls import Count, Records, Section
from zora_core.models import Record, SuggestionRecord


class PreviewedChange(Record):
    """A change of a suggestion: what it must find in its row, and what is there now."""

    change: Any = None
    expected: Any = None
    found: Any = None


class ChangedSuggestion(Record):
    """A suggestion that changed since a watermark."""

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
    """What became of an agent's suggestions in one week."""

    agent_id: str
    week: date | None = None
    approved: int
    rejected: int
    undone: int
    expired: int


class Suggestions(Section):
    """The tenant's suggestions."""

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
        """Suggestions, newest first."""
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

    async def get(self, id: UUID | str) -> SuggestionRecord:
        """A suggestion with the rows it would change, by its id or by the end of it. Raises `NotFound`."""
        return await self._tenant.one(SuggestionRecord, "get_agent_suggestion", id=str(id))

    async def count(
        self,
        *,
        status: str | None = None,
        task_id: UUID | None = None,
        agent_id: str | None = None,
        exact_up_to: int = 10000,
    ) -> Count:
        """Number of suggestions; exact up to `exact_up_to`."""
        return await self._tenant.one(
            Count, "count_agent_suggestions", status=status, task_id=task_id, agent_id=agent_id, exact_up_to=exact_up_to
        )

    async def list_open(self, *, limit: int = 50, offset: int = 0) -> Records[SuggestionRecord]:
        """Suggestions that wait for a decision, most urgent first."""
        return await self._tenant.all(SuggestionRecord, "list_open_suggestions", limit=limit, offset=offset)

    async def decisions(self, *, suggestion_type: str, limit: int = 100) -> Records[SuggestionRecord]:
        """Decided suggestions of a type, newest first, for agents that learn from reasons."""
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
        """Approve or reject a suggestion: `decision` is approve or reject.

        An approval names the `digest` of the effect that was shown, and applies it at once; `edited_value` or
        `edited_effect` replace what was proposed. Raises `NotFound`, `NotAllowed`, and `InvalidState` if it was
        decided, has expired, or its rows changed.
        """
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
        """Take an applied suggestion back. Raises `InvalidState` if something else has changed its rows since."""
        return await self._tenant.one(SuggestionRecord, "undo_agent_suggestion", id=id, reason=reason, user_id=user_id)

    async def preview(self, id: UUID) -> Records[PreviewedChange]:
        """Each change of a suggestion, with what its row holds now."""
        return await self._tenant.all(PreviewedChange, "preview_agent_suggestion", id=id)

    async def propose(self, *, agent_id: str, suggestion: Any, user_id: UUID | None = None) -> SuggestionRecord:
        """Propose a suggestion in an agent's name. Raises `InvalidInput` for one that could not be applied."""
        return await self._tenant.one(
            SuggestionRecord, "propose_agent_suggestion", agent_id=agent_id, suggestion=suggestion, user_id=user_id
        )

    async def changed(self, *, since: datetime, limit: int = 1000) -> Records[ChangedSuggestion]:
        """Suggestions that changed since a watermark, up to the next one."""
        return await self._tenant.all(ChangedSuggestion, "changed_agent_suggestions", since=since, limit=limit)

    async def weeks(self, *, weeks: int = 12) -> Records[SuggestionWeek]:
        """What became of suggestions, by agent and week."""
        return await self._tenant.all(SuggestionWeek, "suggestion_weeks", weeks=weeks)
