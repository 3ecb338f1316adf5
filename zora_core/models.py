"""The data that passes between the queue, the agents and the people who read their work."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class AgentId(StrEnum):
    """The six agents."""

    CONNOR = "CONNOR"
    LUMINA = "LUMINA"
    EIVOR = "EIVOR"
    ORACLE = "ORACLE"
    AEGIS = "AEGIS"
    SAM = "SAM"

    @property
    def purpose(self) -> str:
        """What the agent is for, in a few words."""
        return {
            "CONNOR": "systems and backend",
            "LUMINA": "planning and orchestration",
            "EIVOR": "memory and knowledge",
            "ORACLE": "research and strategy",
            "AEGIS": "safety and ethics",
            "SAM": "frontend and experience",
        }[self.value]


class Role(StrEnum):
    """What a user may do, from reading to everything."""

    VIEWER = "viewer"
    MEMBER = "member"
    BRAND_ADMIN = "brand_admin"
    FOUNDER = "founder"

    @property
    def rank(self) -> int:
        """0 for `viewer` to 3 for `founder`; a role may do whatever a lower one may."""
        return list(Role).index(self)


class Severity(StrEnum):
    """How much a finding matters, from `info` (worth knowing) to `critical` (stop and act)."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for `info` to 4 for `critical`, for sorting."""
        return list(Severity).index(self)


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quote(_Frozen):
    """A literal passage: `text` stands in `source` at character offset `start`."""

    kind: Literal["quote"] = "quote"
    source: str
    text: str
    start: int | None = None


class Element(_Frozen):
    """An element of a page: `selector` finds it in `source`, `html` is its (shortened) markup."""

    kind: Literal["element"] = "element"
    source: str
    selector: str
    html: str = ""


class FileLine(_Frozen):
    """A line of a file, 1-based, and its text."""

    kind: Literal["file"] = "file"
    path: str
    line: int
    text: str = ""


class Rows(_Frozen):
    """Rows of a table, by id."""

    kind: Literal["rows"] = "rows"
    table: str
    ids: list[str]


class Metric(_Frozen):
    """A measured or computed number with its unit; `formula` says how it came about."""

    kind: Literal["metric"] = "metric"
    name: str
    value: float
    unit: str
    formula: str = ""


Evidence = Annotated[Quote | Element | FileLine | Rows | Metric, Field(discriminator="kind")]


class Finding(_Frozen):
    """One thing an agent found, and what it rests on.

    `rule_id` is stable across runs; `confidence` lies in 0..1; `source` tells whether a rule, a statistic or a
    language model produced it. A finding without evidence cannot be made.
    """

    rule_id: str
    title: str
    detail: str = ""
    severity: Severity
    confidence: float = Field(ge=0, le=1)
    source: Literal["rule", "statistic", "model"] = "rule"
    evidence: list[Evidence] = Field(min_length=1)


class Suggestion(_Frozen):
    """A change that an agent proposes and a person decides. The agent itself cannot make it.

    `target` names what would change (for example `{"table": "frontend_configs", "page": "climate"}`);
    `current_value` is what the agent saw, `suggested_value` what it proposes.
    """

    suggestion_type: str
    title: str
    body: str = ""
    target: dict[str, Any] = Field(default_factory=dict)
    current_value: Any = None
    suggested_value: Any = None
    evidence: list[Evidence] = Field(min_length=1)
    risk_level: Literal["low", "medium", "high"] = "low"


class Source(_Frozen):
    """Something a handler read: recorded by the context, so that a result says what it rests on.

    `kind` is page, url, file, directory, repository, rows, probe, database or payload; `ref` names it;
    `digest` is the SHA-256 of what was read; `count` the rows or bytes, as `unit` says.
    """

    kind: str
    ref: str
    digest: str
    read_at: datetime
    count: int
    unit: str


class TaskResult(BaseModel):
    """What a handler returns: a sentence for people, findings and suggestions with evidence, `result` for programs."""

    model_config = ConfigDict(extra="forbid")

    summary: str = Field(min_length=1)
    findings: list[Finding] = Field(default_factory=list)
    suggestions: list[Suggestion] = Field(default_factory=list)
    result: dict[str, Any] = Field(default_factory=dict)


class Task(BaseModel):
    """A claimed task, as its handler sees it."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    tenant_id: UUID
    agent_id: AgentId
    task_type: str
    title: str
    description: str | None = None
    payload: dict[str, Any] = Field(default_factory=dict)
    priority: int = 0
    attempt: int = 1
    max_attempts: int = 3
    created_at: datetime


class JournalEntry(BaseModel):
    """A row of the append-only journal."""

    id: UUID
    category: str
    event_type: str
    title: str
    body: str | None = None
    details: dict[str, Any] = Field(default_factory=dict)
    author: str | None = None
    task_id: UUID | None = None
    related_entity_ids: list[UUID] = Field(default_factory=list)
    created_at: datetime


class MemoryEvent(BaseModel):
    """A row of EIVOR's memory."""

    id: UUID
    agent: str
    memory_type: str
    content: str
    tags: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    session_id: str | None = None
    source_task_id: UUID | None = None
    archived_at: datetime | None = None
    created_at: datetime


class TaskRecord(BaseModel):
    """A row of `agent_tasks` as a reader sees it: the spec's columns and those that the runtime needs."""

    id: UUID
    tenant_id: UUID
    agent_id: str
    task_type: str
    status: Literal["pending", "in_progress", "completed", "failed"]
    waiting_for: str | None = None
    priority: int = 0
    title: str
    description: str | None = None
    payload: dict[str, Any] = Field(default_factory=dict)
    result: dict[str, Any] | None = None
    result_summary: str | None = None
    error_message: str | None = None
    failure_kind: str | None = None
    attempt: int = 0
    max_attempts: int = 3
    lost_leases: int = 0
    timeout_seconds: int | None = None
    progress: float | None = Field(default=None, description="How far the run is, 0 to 1, by its own account.")
    progress_message: str | None = None
    idempotency_key: str | None = None
    run_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    lease_expires_at: datetime | None = None
    worker_id: str | None = None
    created_by_user_id: UUID | None = None
    created_at: datetime
    updated_at: datetime | None = None

    @classmethod
    def shown(cls, row: dict[str, Any]) -> dict[str, Any]:
        """A row's columns that readers see: not the lease's token, and nothing that only indexes are made of."""
        return {name: row[name] for name in cls.model_fields if name in row}


class SuggestionRecord(BaseModel):
    """A stored suggestion and what became of it."""

    id: UUID
    agent_id: str
    task_id: UUID
    suggestion_type: str
    title: str
    body: str | None = None
    target: dict[str, Any] = Field(default_factory=dict)
    current_value: Any = None
    suggested_value: Any = None
    evidence: list[dict[str, Any]] = Field(default_factory=list)
    risk_level: str
    status: str
    created_at: datetime


class ClimateProfile(BaseModel):
    """A person's, brand's or organization's climate profile; `estimated_footprint_kg` is kgCO2e per year."""

    id: UUID
    profile_type: Literal["person", "brand", "organization"]
    name: str
    energy_source: str | None = None
    transport_mode: str | None = None
    diet_type: str | None = None
    location_type: str | None = None
    country: str | None = None
    household_size: int | None = None
    estimated_footprint_kg: float | None = None
    is_primary: bool = False
    created_at: datetime


class ClimateMission(BaseModel):
    """A climate mission of a profile; `estimated_impact_kgco2` is kgCO2e saved per year."""

    id: UUID
    profile_id: UUID | None = None
    title: str
    description: str | None = None
    category: Literal["energy", "transport", "food", "consumption", "advocacy", "products"]
    status: Literal["planned", "in_progress", "completed", "cancelled", "failed"]
    estimated_impact_kgco2: float | None = None
    due_date: datetime | None = None
    verified: bool = False
    created_at: datetime


class PageConfig(BaseModel):
    """A page that the frontend knows by key; `config` may name a `url` or a `path` where its HTML is found."""

    page: str
    config: dict[str, Any] = Field(default_factory=dict)
