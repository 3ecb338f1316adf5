"""TODO policies."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from zora_core.client.calls import Records, Section
from zora_core.models import Record


class Policy(Record):
    """TODO a row of `list_agent_task_policies`."""

    id: UUID
    tenant_id: UUID | None = None
    task_type: str
    auto_execute: bool
    max_risk_level: str | None = None
    decide_within_hours: int | None = None
    created_at: datetime
    updated_at: datetime | None = None


class EffectTable(Record):
    """TODO a row of `list_effect_tables`."""

    tenant_id: UUID
    name: str
    key_column: str
    writable: list[str]
    rests_on: list[str]
    created_at: datetime
    registration: UUID
    identity: str | None = None


class ClosedEffectTable(Record):
    """TODO a row of `closed_effect_tables`."""

    name: str
    registered: bool
    run_by: str | None = None
    command: str | None = None


class Policies(Section):
    """TODO."""

    async def list(
        self,
    ) -> Records[Policy]:
        """TODO"""
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
        """TODO"""
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
        """TODO"""
        return await self._tenant.one(Policy, "remove_agent_task_policy", task_type=task_type, user_id=user_id)

    async def effect_tables(
        self,
    ) -> Records[EffectTable]:
        """TODO"""
        return await self._tenant.all(EffectTable, "list_effect_tables")

    async def register_effect_table(
        self, name: str, *, key_column: str, writable: Sequence[str], rests_on: Sequence[str] | None = None
    ) -> EffectTable:
        """TODO"""
        return await self._tenant.one(
            EffectTable, "register_effect_table", name=name, key_column=key_column, writable=writable, rests_on=rests_on
        )

    async def remove_effect_table(self, name: str) -> EffectTable:
        """TODO"""
        return await self._tenant.one(EffectTable, "remove_effect_table", name=name)

    async def closed_effect_tables(
        self,
    ) -> Records[ClosedEffectTable]:
        """TODO"""
        return await self._tenant.all(ClosedEffectTable, "closed_effect_tables")
