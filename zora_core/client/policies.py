"""Policies, and the tables that effects may change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record


class Policy(Record):
    """What is decided without a person for a task type."""

    id: UUID
    tenant_id: UUID | None = None
    task_type: str
    auto_execute: bool
    max_risk_level: str | None = None
    decide_within_hours: int | None = None
    created_at: datetime
    updated_at: datetime | None = None


class EffectTable(Record):
    """A table that effects may change, and which of its columns."""

    tenant_id: UUID
    name: str
    key_column: str
    writable: list[str]
    rests_on: list[str]
    created_at: datetime
    registration: UUID
    identity: str | None = None


class ClosedEffectTable(Record):
    """A table that effects cannot change, although one is registered for it or a suggestion names it."""

    name: str
    registered: bool
    run_by: str | None = None
    command: str | None = None


class Policies(Section):
    """What is decided without a person, and which tables effects may change."""

    async def list(
        self,
    ) -> Records[Policy]:
        """All policies."""
        return await self._tenant.all(Policy, "list_agent_task_policies")

    async def set(
        self,
        task_type: str,
        *,
        auto_execute: bool = True,
        max_risk_level: str | None = None,
        decide_within_hours: int | None = None,
        user_id: UUID | None = None,
        known_types: Sequence[str] | None = None,
    ) -> Policy:
        """Set the policy of a task type.

        With `auto_execute` false, each task waits for approval. Suggestions up to `max_risk_level` (low or medium) are
        applied without asking. Approvals expire after `decide_within_hours`. Raises `InvalidInput` for a type that is
        neither in `known_types` nor known to a worker.
        """
        return await self._tenant.one(
            Policy,
            "set_agent_task_policy",
            task_type=task_type,
            auto_execute=auto_execute,
            max_risk_level=max_risk_level,
            decide_within_hours=decide_within_hours,
            user_id=user_id,
            known_types=known_types,
        )

    async def remove(self, task_type: str, *, user_id: UUID | None = None) -> Policy:
        """Remove a policy, so that the defaults hold. Raises `NotFound`."""
        return await self._tenant.one(Policy, "remove_agent_task_policy", task_type=task_type, user_id=user_id)

    async def effect_tables(
        self,
    ) -> Records[EffectTable]:
        """The tables that effects may change."""
        return await self._tenant.all(EffectTable, "list_effect_tables")

    async def register_effect_table(
        self, name: str, *, key_column: str, writable: Sequence[str], rests_on: Sequence[str] | None = None
    ) -> EffectTable:
        """Let effects change the `writable` columns of a table whose rows are found by `key_column`.

        Raises `InvalidInput` for a table or column that does not exist.
        """
        return await self._tenant.one(
            EffectTable, "register_effect_table", name=name, key_column=key_column, writable=writable, rests_on=rests_on
        )

    async def remove_effect_table(self, name: str) -> EffectTable:
        """Let effects change a table no longer. Raises `NotFound`."""
        return await self._tenant.one(EffectTable, "remove_effect_table", name=name)

    async def closed_effect_tables(
        self,
    ) -> Records[ClosedEffectTable]:
        """Tables that open suggestions name and effects cannot change, with the command that registers each."""
        return await self._tenant.all(ClosedEffectTable, "closed_effect_tables")
