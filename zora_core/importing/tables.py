"""The tables of the original system that are read, and what they hold."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from zora_core.errors import InvalidInput
from zora_core.importing.fields import Row


@dataclass(frozen=True)
class Table:
    """A table of the original: the columns without which a row says nothing, and those that some versions have."""

    name: str
    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()


def _table(name: str, needed: str, optional: str) -> Table:
    return Table(name, tuple(needed.split()), tuple(optional.split()))


_ALL = (
    _table(
        "climate_profiles",
        "id name created_at",
        "tenant_id profile_type energy_source primary_energy_source transport_mode diet_type location_type country "
        "household_size estimated_footprint_kg is_primary",
    ),
    _table(
        "climate_missions",
        "id title created_at",
        "tenant_id profile_id description category status impact_estimate estimated_impact_kgco2 due_date verified",
    ),
    _table(
        "agent_tasks",
        "id agent_id task_type status title created_at",
        "tenant_id priority description payload result result_summary error_message started_at completed_at updated_at "
        "command_id approved_by_user_id approved_at rejected_by_user_id rejected_at decision_reason",
    ),
    _table(
        "memory_events",
        "id agent memory_type content created_at",
        "tenant_id tags metadata session_id updated_at archived_at llm_provider llm_model",
    ),
    _table(
        "agent_insights",
        "id agent_id category title created_at",
        "tenant_id source_task_id body status related_entity_type related_entity_ref impact_estimate_kgco2 metadata",
    ),
    _table(
        "agent_suggestions",
        "id agent_id status created_at",
        "tenant_id suggestion_type target_page current_config suggested_config diff_summary decision_by_user_id "
        "decision_reason updated_at",
    ),
    _table("agent_task_policies", "id task_type auto_execute", "tenant_id max_risk_level"),
    _table("autonomy_schedules", "id schedule_type frequency", "tenant_id cron_hint next_run_at config"),
    _table("workflows", "id key name", "tenant_id description is_active"),
    _table(
        "workflow_steps",
        "id workflow_id key name step_type",
        "description agent_id task_type config order_index",
    ),
    _table("workflow_step_edges", "workflow_id from_step_id to_step_id", "condition"),
    _table(
        "journal_entries",
        "id category title created_at",
        "tenant_id body details related_memory_ids related_entity_ids author",
    ),
)
TABLES = {table.name: table for table in _ALL}
OURS = "zora_migrations"  # a table that only a database of this program has


@dataclass(frozen=True)
class Tenant:
    """A tenant that owns rows there."""

    id: str
    slug: str | None = None

    def __str__(self) -> str:
        """For people."""
        return f"{self.slug} ({self.id})" if self.slug else self.id


@dataclass(frozen=True)
class Broken:
    """A piece of an export that is not a row."""

    where: str
    reason: str


def row_of(text: str, where: str) -> Row | Broken:
    """A row from its JSON."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return Broken(where, "it is not JSON")
    return row if isinstance(row, dict) else Broken(where, "it is not a JSON object")


def check_tables(found: Collection[str], where: str) -> None:
    """Raise `InvalidInput` when there is nothing to import at all."""
    kinds = [name for name in TABLES if name not in ("workflow_steps", "workflow_step_edges")]
    if not any(name in found for name in kinds):
        raise InvalidInput(f"{where} has none of the tables of the original system: {', '.join(kinds)}")


def check_columns(table: Table, columns: Collection[str], where: str) -> None:
    """Raise `InvalidInput` naming a column that must be there."""
    for name in table.needed:
        if name not in columns:
            raise InvalidInput(f"{where} lacks the column {name} of {table.name}, without which its rows say nothing")
