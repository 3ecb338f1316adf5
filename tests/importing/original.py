"""A database as the original system has it, with rows of our own making, and exports of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import asyncpg

SCHEMA = (Path(__file__).parent / "original.sql").read_text()
TENANT = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
MONDAY = "2025-06-02T08:30:00+00:00"
NORDIC = {"CONNOR": "ODIN", "LUMINA": "TYR", "AEGIS": "TYR", "SAM": "BALDUR", "ORACLE": "HEIMDALL", "EIVOR": "EIVOR"}


def id_of(name: str) -> str:
    """The id of a row that a test names."""
    return str(uuid5(UUID(TENANT), name))


def _task(name: str, agent: str, kind: str, status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": id_of(name), "tenant_id": TENANT, "agent_id": agent, "task_type": kind, "status": status,
        "title": f"The task {name}", "created_at": MONDAY, **more,
    }  # fmt: skip


def rows(*, nordic: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Rows of each table: some of each state, and some that have no place here."""

    def agent(name: str) -> str:
        return NORDIC[name] if nordic else name

    def owned(name: str, /, **columns: Any) -> dict[str, Any]:
        return {"id": id_of(name), "tenant_id": TENANT, "created_at": MONDAY, **columns}

    return {
        "tenants": [
            {"id": TENANT, "name": "First", "slug": "first"},
            {"id": OTHER, "name": "Second", "slug": "second"},
        ],
        "climate_profiles": [
            owned(
                "home", profile_type="person", name="Home", energy_source="grid", diet_type="vegetarian",
                household_size=3, estimated_footprint_kg=5400.5, is_primary=True, country="DK",
            ),
            owned("firm", profile_type="organization", name="Firm", primary_energy_source="wind", is_primary=False),
        ],
        "climate_missions": [
            owned(
                "bike", profile_id=id_of("home"), title="Cycle to work", category="transport", status="in_progress",
                estimated_impact_kgco2=320.25, due_date="2025-09-01", verified=True, verified_by="ORACLE",
            ),
            owned("heat", profile_id=id_of("firm"), title="Heat pump", category="energy", status="planned"),
            owned("talk", title="Talk about it", category="general", status="planned"),
        ],
        "agent_tasks": [
            _task(
                "reviewed", agent("SAM"), "review_climate_page", "completed", result_summary="Good page",
                result={"score": 7}, started_at="2025-06-02T08:31:00+00:00", completed_at="2025-06-02T08:32:00+00:00",
                payload={"page": "climate"},
            ),
            _task("broke", agent("CONNOR"), "review_system_health", "failed", error_message="no answer", priority=4),
            _task(
                "declined", agent("ORACLE"), "research_topic", "failed", rejected_at=MONDAY, decision_reason="too dear",
                rejected_by_user_id=id_of("somebody"), requires_approval=True,
            ),
            _task("open", agent("LUMINA"), "plan_workflow", "pending", payload={"goal": "a better page"}),
            _task("running", agent("AEGIS"), "review_recent_agent_tasks", "in_progress", started_at=MONDAY),
            _task("wrong", agent("EIVOR"), "memory_cleanup", "pending", payload={"older_than_weeks": 3}),
            _task("unknown", agent("ORACLE"), "zora_shop.create_project", "pending"),
            _task("thunder", "THOR", "review_system_health", "completed"),
        ],
        "memory_events": [
            owned(
                "talked", agent=agent("EIVOR"), memory_type="conversation", content="We spoke of heat pumps",
                tags=["heat", 'with "quotes", and commas'], metadata={"mood": "calm"}, session_id="s-1",
            ),
            owned(
                "planned", agent=agent("LUMINA"), memory_type="result", content="A plan was made",
                tags=["agent_task", "plan_workflow"], metadata={"task_id": id_of("reviewed")},
            ),
            owned("old", agent=agent("EIVOR"), memory_type="reflection", content="Aside", metadata={"archived": True}),
            {**owned("lost", agent=agent("EIVOR"), memory_type="plan", content="Whose is it?"), "tenant_id": None},
        ],
        "agent_insights": [
            owned(
                "idea", agent_id=agent("ORACLE"), source_task_id=id_of("reviewed"),
                category="climate_mission_suggestion", title="Cycle", body="Every day", status="accepted",
                impact_estimate_kgco2=120, related_entity_type="climate_profile", related_entity_ref=id_of("home"),
            ),
            owned("warning", agent_id=agent("AEGIS"), category="safety_warning", title="Careful", status="proposed"),
        ],
        "agent_suggestions": [
            owned(
                "done", agent_id=agent("SAM"), target_page="home", current_config={"a": 1}, suggested_config={"a": 2},
                diff_summary="Change a\nbecause of b", status="applied", decision_by_user_id=id_of("somebody"),
                updated_at="2025-06-03T08:30:00+00:00", suggestion_type="frontend_config_change",
            ),
            owned(
                "refused", agent_id=agent("SAM"), target_page="home", suggested_config={"a": 3}, status="rejected",
                suggestion_type="frontend_config_change",
            ),
            owned(
                "undecided", agent_id=agent("SAM"), target_page="climate", suggested_config={"a": 4},
                status="proposed", suggestion_type="frontend_config_change",
            ),
        ],
        "agent_task_policies": [
            owned("ask", task_type="analyze_codebase", auto_execute=False, max_risk_level=2),
            {**owned("everybody", task_type="analyze_codebase", auto_execute=True), "tenant_id": None},
            {**owned("digest", task_type="summarize_recent_events", auto_execute=True), "tenant_id": None},
            {**owned("shop", task_type="zora_shop.create_project", auto_execute=False), "tenant_id": None},
        ],
        "autonomy_schedules": [
            owned(
                "weekly", schedule_type="summarize_recent_events", frequency="weekly", cron_hint="0 9 * * 1",
                next_run_at=MONDAY, config={"days": 7}, enabled=True,
            ),
            owned("plan", schedule_type="climate.weekly_plan_suggest", frequency="weekly", next_run_at=MONDAY,
                  enabled=True),
        ],
        "workflows": [
            owned("flow", key="Morning_Round", name="Morning round", description="Look around", is_active=True),
            owned("calls", key="calls", name="Calls somebody", is_active=True),
        ],
        "workflow_steps": [
            {"id": id_of(name), "workflow_id": id_of(flow), "key": name, "name": f"Step {name}", "step_type": kind,
             "agent_id": by and agent(by), "task_type": task_type, "config": config, "order_index": number}
            for number, (name, flow, kind, by, task_type, config) in enumerate((
                ("sum", "flow", "agent_task", "EIVOR", "summarize_recent_events", {"days": 1}),
                ("asked", "flow", "wait_for_approval", None, None, {}),
                ("check", "flow", "agent_task", "AEGIS", "review_recent_agent_tasks", {"hours": 24}),
                ("call", "calls", "api_call", None, None, {"path": "/x"}),
            ))
        ],
        "workflow_step_edges": [
            {"id": id_of("e1"), "workflow_id": id_of("flow"), "from_step_id": id_of("sum"),
             "to_step_id": id_of("asked"), "condition": "always"},
            {"id": id_of("e2"), "workflow_id": id_of("flow"), "from_step_id": id_of("asked"),
             "to_step_id": id_of("check"), "condition": "on_success"},
        ],
        "journal_entries": [
            owned(
                "made", category="decision", title="We decided", body="at last", author=agent("LUMINA"),
                details={"event_type": "task_approved", "task_type": "plan_workflow"},
                related_entity_ids=[id_of("reviewed")],
            ),
            owned("said", category="milestone", title="First customer", author="climate_os", details={}),
        ],
    }  # fmt: skip


# What became of those of the tenant, without --without-tenant: taken, and not taken.
EXPECTED = {
    "profiles": (2, 0), "missions": (2, 1), "policies": (2, 2), "tasks": (5, 3), "memories": (3, 1), "insights": (2, 0),
    "suggestions": (3, 0), "schedules": (1, 1), "workflows": (1, 1), "journal entries": (2, 0),
}  # fmt: skip


async def fill(url: str, tables: dict[str, list[dict[str, Any]]], schema: str = "public") -> None:
    """Make the original's tables in a database, with these rows."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"create schema if not exists {schema}; set search_path = {schema}")
        await connection.execute(SCHEMA)
        for table, made in tables.items():
            for row in made:
                names = ", ".join(row)
                await connection.execute(
                    f"insert into {table} ({names}) select {names} from jsonb_populate_record(null::{table}, $1)",
                    json.dumps(row),
                )
    finally:
        await connection.close()


def as_csv(folder: Path, tables: dict[str, list[dict[str, Any]]]) -> Path:
    """A folder as Supabase's dashboard downloads tables: everything is text, arrays and objects are JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for table, made in tables.items():
        columns = list(dict.fromkeys(name for row in made for name in row))
        with (folder / f"{table}_rows.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows([_cell(row.get(name)) for name in columns] for row in made)
    return folder


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, list | dict) else value


def as_json(path: Path, tables: dict[str, list[dict[str, Any]]]) -> Path:
    """One file of all tables."""
    path.write_text(json.dumps(tables, indent=1), encoding="utf-8")
    return path


def as_lines(folder: Path, tables: dict[str, list[dict[str, Any]]]) -> Path:
    """A folder with a file of lines per table."""
    folder.mkdir(parents=True, exist_ok=True)
    for table, made in tables.items():
        (folder / f"{table}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in made), encoding="utf-8")
    return folder
