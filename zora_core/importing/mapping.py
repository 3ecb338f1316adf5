"""What a row of the original system is here, or why it is nothing here. Pure functions of rows as JSON has them.

The original's schema is public: `supabase/SUPABASE_SCHEMA_V1_FULL.sql` of ZORA-CORE, 35 versions until the end of 2025.
What came from outside stands below a key `imported` wherever a row of ours has room for it, so that nothing that reads
our rows can take it for something that we wrote. No number, no time and no decision is made up.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from zora_core.cron import Cron
from zora_core.errors import InvalidInput, InvalidPayload, UnknownTaskType
from zora_core.importing.fields import (
    AGENTS,
    MAX_INTEGER,
    Context,
    NoPlace,
    Row,
    Taken,
    agent_of,
    base_of,
    created_of,
    flag_of,
    id_of,
    iso,
    json_of,
    maps,
    moment_of,
    number_of,
    object_of,
    optional_text,
    remaining,
    shown,
    text_of,
    texts_of,
    word_of,
)

JOURNAL_CATEGORIES = frozenset(
    (
        "release", "decision", "model_update", "experiment", "milestone", "incident", "config_change", "agent_action",
        "user_feedback", "system_event", "autonomy",
    )
)  # fmt: skip
MEMORY_TYPES = frozenset(
    (
        "decision", "reflection", "artifact", "conversation", "plan", "result", "research", "design", "safety_review",
        "climate_data", "brand_data",
    )
)  # fmt: skip
MISSION_STATES = frozenset(("planned", "in_progress", "completed", "cancelled", "failed"))
MISSION_CATEGORIES = {
    **{name: name for name in ("energy", "transport", "food", "consumption", "advocacy", "products")},
    "water": "consumption",
    "waste": "consumption",
}
PROFILE_TYPES = {
    **{name: name for name in ("person", "brand", "organization")},
    "individual": "person",
    "household": "person",
    "company": "organization",
}
# What the agents wrote into agent_insights, and what a memory of it is.
INSIGHTS = {
    "climate_mission_suggestion": ("plan", "ORACLE"),
    "frontend_improvement": ("design", "SAM"),
    "plan": ("plan", "LUMINA"),
    "summary": ("reflection", "EIVOR"),
    "system_health": ("result", "CONNOR"),
    "safety_warning": ("safety_review", "AEGIS"),
}
# What the original made a task of when a schedule of this type was due.
SCHEDULED = {
    "climate.weekly_plan_suggest": "climate.create_missions_from_plan",
    "climate.mission_reminder": "climate.create_single_mission",
    "zora_shop.project_status_check": "zora_shop.create_project",
}
ELSEWHERE = "somebody in the original system"


@maps
def task(row: Row, context: Context) -> Taken:
    """A task. A finished one is history; any other one waits for a person, and can run as it stands."""
    task_type, named = text_of(row, "task_type", 100).strip(), text_of(row, "agent_id", 50)
    agent, notes = agent_of(named, task_type, context)
    status, created = word_of(row, "status"), created_of(row, context)
    payload, priority = object_of(row, "payload"), number_of(row.get("priority") or 0)
    if priority is None or priority != int(priority) or abs(priority) > MAX_INTEGER:
        raise NoPlace(f"its priority is not an integer: {shown(row['priority'])}")
    rejected = row.get("rejected_at") or row.get("rejected_by_user_id")
    ours: dict[str, Any] = {
        **base_of(row, "agent_tasks"),
        "agent_id": agent,
        "task_type": task_type,
        "title": text_of(row, "title", 500),
        "description": optional_text(row, "description"),
        "payload": payload,
        "priority": int(priority),
        "created_at": iso(created),
    }
    if status not in ("pending", "in_progress", "completed", "failed"):
        raise NoPlace(f"its status is {shown(status)}, which no task has here")
    if status in ("pending", "in_progress") and not rejected:
        try:
            context.registry.find(agent, task_type).parse(payload)
        except (UnknownTaskType, InvalidPayload) as error:
            raise NoPlace(f"it is not finished, and could not run: {error}") from error
        return Taken({**ours, "status": "pending"}, (*notes, "not finished: waits for a person to let it run"))

    result = json_of(row, "result")
    ended = moment_of(row, "completed_at") or moment_of(row, "rejected_at") or moment_of(row, "updated_at") or created
    started = moment_of(row, "started_at")
    told = optional_text(row, "error_message")
    reason = optional_text(row, "decision_reason")
    origin = remaining(row, "command_id", "approved_by_user_id", "approved_at", "rejected_by_user_id", "rejected_at")
    ours |= {
        "status": "completed" if status == "completed" and not rejected else "failed",
        "started_at": iso(started),
        "completed_at": iso(ended),
        "updated_at": iso(moment_of(row, "updated_at")),
        # The original ran a task once, if at all.
        "attempt": 1 if started else 0,
        "result_summary": optional_text(row, "result_summary"),
        "result": {
            **({} if result is None else {"result": result if isinstance(result, dict) else {"value": result}}),
            "imported": {"agent_id": named.strip(), **origin, **({"decision_reason": reason} if reason else {})},
        },
    }
    if ours["status"] == "failed":
        ours["failure_kind"] = "rejected" if rejected else "error"
        ours["error_message"] = told or reason or "failed in the original system, which does not say why"
    elif told:
        ours["error_message"] = told
    return Taken(ours, notes)


def _who_remembers(named: str, task_type: str | None, context: Context) -> tuple[str, tuple[str, ...]]:
    """One that we do not have keeps its name: it is said by it all the same, and does nothing any more."""
    name = named.strip().upper()
    return agent_of(name, task_type, context) if name in AGENTS else (name, ())


@maps
def memory(row: Row, context: Context) -> Taken:
    """A memory."""
    named, kind = text_of(row, "agent", 50).strip(), word_of(row, "memory_type")
    if kind not in MEMORY_TYPES:
        raise NoPlace(f"its memory_type is {shown(kind)}, which no memory has here")
    tags, metadata = texts_of(row, "tags"), object_of(row, "metadata")
    hints = [metadata.get("task_type"), *tags]
    known = next((hint for hint in hints if isinstance(hint, str) and context.agents_of(hint)), None)
    agent, notes = _who_remembers(named, known, context)
    archived = moment_of(row, "archived_at")
    if archived is None and metadata.get("archived") is True:
        archived = moment_of(row, "updated_at") or created_of(row, context)
    content = optional_text(row, "content")
    if content is None:
        raise NoPlace("it has no content")
    source_task = metadata.get("task_id")
    return Taken(
        {
            **base_of(row, "memory_events"),
            "agent": agent,
            "memory_type": kind,
            "content": content,
            "tags": tags,
            "metadata": {
                "imported": {
                    "id": id_of(row),
                    "table": "memory_events",
                    "agent": named,
                    "metadata": metadata,
                    **remaining(row, "llm_provider", "llm_model"),
                }
            },
            "session_id": optional_text(row, "session_id"),
            "source_task": source_task.strip().lower() if isinstance(source_task, str) else None,
            "archived_at": iso(archived),
            "created_at": iso(created_of(row, context)),
        },
        notes,
    )


@maps
def insight(row: Row, context: Context) -> Taken:
    """An insight becomes a memory: what was found stays findable, and decides nothing."""
    category, named = word_of(row, "category"), text_of(row, "agent_id", 50)
    kind, by = INSIGHTS.get(category, ("result", None))
    agent, notes = _who_remembers(named, None, context)
    if by in AGENTS.get(named.strip().upper(), ()):
        agent, notes = str(by), ()
    status = word_of(row, "status") if row.get("status") else "proposed"
    title, body = text_of(row, "title", 500), optional_text(row, "body")
    impact = number_of(row.get("impact_estimate_kgco2"))
    source_task = optional_text(row, "source_task_id")
    return Taken(
        {
            **base_of(row, "agent_insights"),
            "agent": agent,
            "memory_type": kind,
            "content": f"{title}\n\n{body}" if body and body.strip() else title,
            "tags": list(dict.fromkeys(["imported", "insight", category, status])),
            "metadata": {
                "imported": {
                    "id": id_of(row),
                    "table": "agent_insights",
                    "agent": named.strip(),
                    "category": category,
                    "status": status,
                    "metadata": object_of(row, "metadata"),
                    **({} if impact is None else {"impact_estimate_kgco2": float(impact)}),
                    **remaining(row, "related_entity_type", "related_entity_ref"),
                }
            },
            "source_task": source_task.strip().lower() if source_task else None,
            "created_at": iso(created_of(row, context)),
        },
        notes,
    )


@maps
def profile(row: Row, context: Context) -> Taken:
    """A climate profile."""
    kind = word_of(row, "profile_type") if row.get("profile_type") else "person"
    if kind not in PROFILE_TYPES:
        raise NoPlace(f"its profile_type is {shown(kind)}, which no profile has here")
    notes: list[str] = []
    size, footprint = number_of(row.get("household_size")), number_of(row.get("estimated_footprint_kg"))
    if size is not None and not (0 < size <= MAX_INTEGER and size == int(size)):
        notes.append("without its household size, which is not a number of people")
        size = None
    if footprint is not None and footprint < 0:
        notes.append("without its footprint, which is below zero")
        footprint = None
    return Taken(
        {
            **base_of(row, "climate_profiles"),
            "profile_type": PROFILE_TYPES[kind],
            "name": text_of(row, "name"),
            "energy_source": optional_text(row, "energy_source") or optional_text(row, "primary_energy_source"),
            "transport_mode": optional_text(row, "transport_mode"),
            "diet_type": optional_text(row, "diet_type"),
            "location_type": optional_text(row, "location_type"),
            "country": optional_text(row, "country"),
            "household_size": None if size is None else int(size),
            "estimated_footprint_kg": None if footprint is None else str(footprint),
            "is_primary": bool(flag_of(row, "is_primary")),
            "created_at": iso(created_of(row, context)),
        },
        tuple(notes),
    )


@maps
def mission(row: Row, context: Context) -> Taken:
    """A climate mission. A missing estimate stays unknown."""
    category = word_of(row, "category") if optional_text(row, "category") else None
    if category not in MISSION_CATEGORIES:
        raise NoPlace(f"its category is {shown(category)}, which no mission has here")
    status = word_of(row, "status") if row.get("status") else "planned"
    if status not in MISSION_STATES:
        raise NoPlace(f"its status is {shown(status)}, which no mission has here")
    impact = number_of(row.get("estimated_impact_kgco2"))
    if impact is None:
        estimate = json_of(row, "impact_estimate")
        impact = number_of(estimate.get("co2_kg")) if isinstance(estimate, dict) else None
    verified = bool(flag_of(row, "verified"))
    owner = optional_text(row, "profile_id")
    return Taken(
        {
            **base_of(row, "climate_missions"),
            "profile": owner.strip().lower() if owner else None,
            "title": text_of(row, "title"),
            "description": optional_text(row, "description"),
            "category": MISSION_CATEGORIES[category],
            "status": status,
            "estimated_impact_kgco2": None if impact is None else str(impact),
            "due_date": iso(moment_of(row, "due_date")),
            "verified": verified,
            "created_at": iso(created_of(row, context)),
        },
        ("verified; by whom is not kept, because it was none of our users",) if verified else (),
    )


@maps
def suggestion(row: Row, context: Context) -> Taken:
    """A suggestion, as history. An open one expires, because it has no exact effect to approve."""
    named = text_of(row, "agent_id", 50)
    agent, notes = agent_of(named, None, context)
    status = word_of(row, "status")
    if status not in ("proposed", "applied", "rejected"):
        raise NoPlace(f"its status is {shown(status)}, which no suggestion has here")
    kind = (optional_text(row, "suggestion_type") or "").strip() or "frontend_config_change"
    page, summary = optional_text(row, "target_page"), optional_text(row, "diff_summary")
    created = created_of(row, context)
    by = optional_text(row, "decision_by_user_id")
    reason = optional_text(row, "decision_reason")
    first_line = next((line.strip() for line in (summary or "").splitlines() if line.strip()), None)
    ours: dict[str, Any] = {
        **base_of(row, "agent_suggestions"),
        "agent_id": agent,
        "suggestion_type": kind,
        "title": (first_line or f"{kind.replace('_', ' ')}{f' of {page}' if page else ''}")[:500],
        "body": summary,
        "target": {"table": "frontend_configs", "page": page} if page else {},
        "current_value": json_of(row, "current_config"),
        "suggested_value": json_of(row, "suggested_config"),
        "created_at": iso(created),
    }
    if status == "proposed":
        said = "it was open when it was imported, and what it would do here could not be told exactly"
        return Taken(
            {**ours, "status": "expired", "reason": said},
            (*notes, "open: expired, because nothing exact stands behind it"),
        )
    return Taken(
        {
            **ours,
            "status": status,
            "decided_as": f"user:{by.strip().lower()}" if by and by.strip() else ELSEWHERE,
            "decided_at": iso(moment_of(row, "updated_at") or created),
            "reason": reason or ("no reason was given in the original system" if status == "rejected" else None),
        },
        notes,
    )


@maps
def policy(row: Row, context: Context) -> Taken:
    """A policy: whether tasks of a type run without asking. None applied an effect there, so none does here."""
    task_type = text_of(row, "task_type", 100).strip()
    if not context.agents_of(task_type):
        raise NoPlace(f"no agent here has the task type {shown(task_type)}")
    notes = (
        () if row.get("max_risk_level") in (None, "") else ("without its max_risk_level, which had no effect there",)
    )
    return Taken(
        {
            **base_of(row, "agent_task_policies"),
            "task_type": task_type,
            "auto_execute": bool(flag_of(row, "auto_execute")),
        },
        notes,
    )


@maps
def schedule(row: Row, context: Context) -> Taken:
    """A schedule, disabled: a person looks at it before it makes tasks."""
    kind = text_of(row, "schedule_type", 100).strip()
    task_type = SCHEDULED.get(kind, kind)
    agents = context.agents_of(task_type)
    if len(agents) != 1:
        raise NoPlace(f"no agent here has a task type for {shown(kind)}")
    payload = object_of(row, "config")
    try:
        context.registry.find(agents[0], task_type).parse(payload)
    except InvalidPayload as error:
        raise NoPlace(f"its tasks could not run: {error}") from error
    frequency = word_of(row, "frequency")
    cron, notes = _cron(frequency, moment_of(row, "next_run_at"), (optional_text(row, "cron_hint") or "").strip())
    return Taken(
        {
            **base_of(row, "autonomy_schedules"),
            "name": f"{kind}, {frequency} ({id_of(row)[-8:]})"[:200],
            "agent_id": agents[0],
            "task_type": task_type,
            "payload": payload,
            "cron": cron,
            "timezone": "UTC",
        },
        ("disabled, in UTC: the original had no time zones", *notes),
    )


def _cron(frequency: str, coming: datetime | None, hint: str) -> tuple[str, tuple[str, ...]]:
    """What the original did as a cron expression: it went by the frequency, counted from the last time."""
    notes: tuple[str, ...] = ()
    if frequency in ("daily", "weekly", "monthly") and coming is not None:
        days = {
            "daily": "* * *",
            "weekly": f"* * {coming.isoweekday() % 7}",
            "monthly": f"{coming.day if coming.day <= 28 else 'L'} * *",
        }
        cron = f"{coming.minute} {coming.hour} {days[frequency]}"
        if frequency == "monthly":
            notes = ("monthly: on a day of the month, where the original counted 30 days",)
        if hint and hint.split() != cron.split():
            notes = (*notes, "by its frequency, as the original ran it, and not by its cron hint")
        return cron, notes
    if not hint:
        raise NoPlace(f"its times cannot be derived from the frequency {shown(frequency)}")
    try:
        Cron(hint, "UTC")
    except InvalidInput as error:
        raise NoPlace(f"its cron_hint is invalid: {error}") from error
    return hint, ("by its cron hint, because its frequency says too little",)


@maps
def journal(row: Row, context: Context) -> Taken:
    """A journal entry, to be written now: what it said, and below `imported` when and as what it said it."""
    category, details = word_of(row, "category"), object_of(row, "details")
    event = details.get("event_type") or row.get("event_type")
    event = event.strip()[:100] if isinstance(event, str) and event.strip() else "entry"
    author = optional_text(row, "author")
    named = (author or "").strip().upper()
    notes: tuple[str, ...] = ()
    if named in AGENTS:
        hint = details.get("task_type")
        agent, notes = agent_of(named, hint if isinstance(hint, str) else None, context)
        author = agent.lower()
    if category not in JOURNAL_CATEGORIES:
        notes = (*notes, "of a category that no entry has here: taken as system_event")
    created = created_of(row, context)
    return Taken(
        {
            **base_of(row, "journal_entries"),
            "category": category if category in JOURNAL_CATEGORIES else "system_event",
            "event_type": f"imported_{event}",
            "title": text_of(row, "title"),
            "body": optional_text(row, "body"),
            "author": author,
            "imported": {
                "created_at": iso(created),
                "category": category,
                **({} if named == "" else {"author": str(row["author"]).strip()}),
                **({"details": details} if details else {}),
                **{name: ids for name in ("related_memory_ids", "related_entity_ids") if (ids := texts_of(row, name))},
            },
        },
        notes,
    )
