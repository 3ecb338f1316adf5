"""The data that passes between the queue, the agents and the people who read their work."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def integral(value: Any) -> Any:
    """For integers in JSON: 5.0 is the same number as 5, to JSON Schema as well."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[int, BeforeValidator(integral)]

# Some character that is not a space, as a pattern that Rust's regular expressions and JSON Schema's understand alike.
NOT_BLANK = r"[^\s\x1c-\x1f\x85]"


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


class Record(BaseModel):
    """A row as it is read. Columns that a newer schema has besides are left out."""

    # The validators of all records are not built for a command that reads two of them.
    model_config = ConfigDict(frozen=True, defer_build=True, extra="ignore")


def _with_kind(schema: dict[str, Any]) -> None:
    """It has a default for those who make evidence in Python; in JSON it must be said."""
    schema["required"] = ["kind", *schema.get("required", ())]


class _Evidence(_Frozen):
    model_config = ConfigDict(json_schema_extra=_with_kind)


class Quote(_Evidence):
    """A literal passage: `text` stands in `source` at character offset `start`, or anywhere when that is None.

    `source` is the name of something read: a page, a URL, a file, a part of the payload, a field of a row
    (`memory_events/ID#content`). `masked` says that credentials or personal data in `text` are replaced by their kind
    and length, as `redact` does.
    """

    kind: Literal["quote"] = Field(default="quote", description="Kind of evidence.")
    source: str = Field(description="The name of what it stands in.")
    text: str = Field(description="The passage, letter by letter.")
    start: int | None = Field(default=None, description="Where it begins, in characters; anywhere when null.")
    masked: bool = Field(default=False, description="True if credentials and personal data in it are masked.")


class Element(_Evidence):
    """An element of a page: `selector` finds it in `source`, `html` is its (shortened) markup."""

    kind: Literal["element"] = Field(default="element", description="Kind of evidence.")
    source: str = Field(description="The name of the page.")
    selector: str = Field(description="A CSS selector that finds it.")
    html: str = Field(default="", description="Its markup, shortened.")


class FileLine(_Evidence):
    """A line of a file, 1-based, and its text or a part of it; `masked` as in a quote."""

    kind: Literal["file"] = Field(default="file", description="Kind of evidence.")
    path: str = Field(description="The file.")
    line: int = Field(description="The line, from 1.")
    text: str = Field(default="", description="The line, or a part of it.")
    masked: bool = Field(default=False, description="True if credentials and personal data in it are masked.")


class Rows(_Evidence):
    """Rows of a table, by id."""

    kind: Literal["rows"] = Field(default="rows", description="Kind of evidence.")
    table: str = Field(description="The table.")
    ids: list[str] = Field(description="The ids of its rows.")


class Metric(_Evidence):
    """A measured or computed number with its unit; `formula` says how it came about, `source` from what was read."""

    kind: Literal["metric"] = Field(default="metric", description="Kind of evidence.")
    name: str = Field(description="Name of the measurement.")
    value: float = Field(description="The number.")
    unit: str = Field(description="Its unit.")
    formula: str = Field(default="", description="How it came about.")
    source: str | None = Field(default=None, description="Name of the source that it was computed from.")


Evidence = Annotated[Quote | Element | FileLine | Rows | Metric, Field(discriminator="kind")]


def identity(*parts: Any) -> str:
    """A key that is the same for the same thing in every run: a digest of `parts`, without case and spacing.

    Parts name the rule, the subject and its text. They hold no positions (offsets, line numbers) and no counts, which
    an edit elsewhere would change.
    """
    said = [" ".join(unicodedata.normalize("NFKC", str(part)).casefold().split()) for part in parts]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


_MARKS = r"[.,;:!?()\[\]\"'\u2018-\u201f\u00ab\u00bb\u2026]"


def folded(text: str) -> str:
    """Reduce a sentence to its words: no case, spacing, hyphens or punctuation marks around words.

    A hyphen beside a digit stays, and so does a mark before one: -5 is not 5, and .5 is not 5. The function `folded` in
    the database does the same for quotes.
    """
    text = unicodedata.normalize("NFKC", text).casefold().replace("\u00ad", "")
    text = re.sub(r"(?<![\d\s])[-\u2010-\u2014](?![\d\s])", " ", text)
    return " ".join(re.sub(rf"(?<!\S){_MARKS}+(?!\d)|{_MARKS}+(?!\S)", " ", text).split())


def ground(evidence: Evidence) -> list[str]:
    """What a piece of evidence is about, without where it stands and without measured values."""
    match evidence:
        case Quote():
            return [evidence.source, evidence.text]
        case Element():
            return [evidence.source, evidence.html.partition(">")[0] or evidence.selector]
        case FileLine():
            return [evidence.path, evidence.text]
        case Rows():
            return [evidence.table, *sorted(evidence.ids)]
        case Metric():
            return [evidence.name, evidence.unit, evidence.source or ""]


class Finding(_Frozen):
    """One thing an agent found, and what it rests on.

    `rule_id` is stable across runs; `confidence` lies in 0..1; `source` tells whether a rule, a statistic or a
    language model produced it. A finding without evidence cannot be made, and one whose evidence is not in what the
    run read is not stored: the task fails. `key` says which findings of a rule are the same in every run, where their
    evidence does not: see `identity`.
    """

    rule_id: str
    title: str
    detail: str = ""
    severity: Severity
    confidence: float = Field(ge=0, le=1)
    source: Literal["rule", "statistic", "model"] = "rule"
    evidence: list[Evidence] = Field(min_length=1)
    key: str = ""

    @cached_property
    def id(self) -> str:
        """What names it, in every run: eight letters and digits made of its rule and its key.

        Without a key, of what its evidence is about and of its title without numbers. In base 32, because eight decimal
        digits could be taken for a telephone number.
        """
        about = [self.key] if self.key else [re.sub(r"\d+", "#", self.title), *map(ground, self.evidence)]
        said = json.dumps([self.rule_id, *about])
        return base64.b32encode(hashlib.sha256(said.encode()).digest())[:8].decode().lower()


class Suggestion(_Frozen):
    """A change that an agent proposes and a person decides. The agent itself cannot make it.

    `target` names what would change (for example `{"table": "frontend_configs", "page": "climate"}`);
    `current_value` is what the agent saw, `suggested_value` what it proposes. `findings` names those of the same result
    that it follows from, by their `id` or, for all findings of a rule, by `rule_id`.

    `key` says which suggestions are the same in every run, so that none is made twice and what was decided stays
    decided: see `identity`; without one, those of the same target and value. `subject` names what was examined: when a
    later run examines it again (`TaskResult.examined`) and no longer finds `key`, the suggestion is closed.
    """

    suggestion_type: str
    title: str
    body: str = ""
    target: dict[str, Any] = Field(default_factory=dict)
    current_value: Any = None
    suggested_value: Any = None
    findings: list[str] = Field(default_factory=list)
    evidence: list[Evidence] = Field(min_length=1)
    risk_level: Literal["low", "medium", "high"] = "low"
    key: str = ""
    subject: str = ""


class Source(_Frozen):
    """Something a handler read: recorded by the context, so that a result says what it rests on.

    `kind` is page, url, file, directory, repository, rows, probe, database, data (constants that come with the program)
    or payload; `ref` names it;
    `digest` is the SHA-256 of what was read; `count` the rows or bytes, as `unit` says.
    """

    kind: str
    ref: str
    digest: str
    read_at: datetime
    count: int
    unit: str


class TaskResult(BaseModel):
    """What a handler returns: a sentence for people, findings and suggestions with evidence, `result` for programs.

    `examined` has the subjects that were examined whole, each with the keys of all that was found there, also of what
    is not suggested for want of room: open suggestions about them with other keys are closed as no longer found.
    """

    model_config = ConfigDict(extra="forbid")

    summary: str = Field(min_length=1)
    findings: list[Finding] = Field(default_factory=list)
    suggestions: list[Suggestion] = Field(default_factory=list)
    result: dict[str, Any] = Field(default_factory=dict)
    examined: dict[str, list[str]] = Field(default_factory=dict)


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


class ChildResult(BaseModel):
    """What became of a task to which another one delegated."""

    model_config = ConfigDict(frozen=True)

    key: str
    id: UUID
    agent_id: AgentId
    task_type: str
    title: str
    status: Literal["completed", "failed", "pending", "in_progress"]
    """Completed or failed, unless a person has retried the child just now."""
    failure_kind: str | None = None
    error: str | None = None
    summary: str | None = None
    result: dict[str, Any] | None = None
    """As it is stored: `findings`, `suggestions`, `sources`, and in `result` what is for programs."""


class JournalEntry(Record):
    """A row of the append-only journal."""

    id: UUID = Field(description="The entry's id, ordered by time.")
    category: str = Field(description="Category of the event, such as agent_action.")
    event_type: str = Field(description="Type of the event, such as agent_task_completed.")
    title: str = Field(description="The event in one line.")
    body: str | None = Field(default=None, description="More about it.")
    details: dict[str, Any] = Field(default_factory=dict, description="The same for programs.")
    author: str | None = Field(default=None, description="Author: an agent in lower case, or a person.")
    task_id: UUID | None = Field(default=None, description="The task it belongs to.")
    related_entity_ids: list[UUID] = Field(default_factory=list, description="Ids of all rows that it is about.")
    created_at: datetime = Field(description="When it happened.")


class MemoryEvent(Record):
    """A row of EIVOR's memory."""

    id: UUID = Field(description="The memory's id, ordered by time.")
    agent: str = Field(description="The agent that keeps it.")
    memory_type: str = Field(description="Type of the memory, such as result or decision.")
    content: str = Field(description="Text of the memory.")
    tags: list[str] = Field(default_factory=list, description="Words to find it by.")
    metadata: dict[str, Any] = Field(default_factory=dict, description="More about it, for programs.")
    session_id: str | None = Field(default=None, description="The conversation that it comes from.")
    source_task_id: UUID | None = Field(default=None, description="The task that it comes from.")
    archived_at: datetime | None = Field(
        default=None, description="Time at which it was archived; null if it is in use."
    )
    created_at: datetime = Field(description="When it was remembered.")


class TaskRecord(Record):
    """A row of `agent_tasks` as a reader sees it: the spec's columns and those that the runtime needs."""

    id: UUID = Field(description="The task's id, ordered by time.")
    tenant_id: UUID = Field(description="Tenant of the task.")
    agent_id: str = Field(description="Agent that runs it, in upper case.")
    task_type: str = Field(description="One of the agent's task types.")
    status: Literal["pending", "in_progress", "completed", "failed"] = Field(description="Status.")
    waiting_for: str | None = Field(
        default=None,
        description="Condition that a pending task waits for: run_at, retry, dependencies, approval, children or "
        "budget; null if a worker can claim it.",
    )
    priority: int = Field(default=0, description="Higher runs first.")
    title: str = Field(description="Title, shown to people.")
    description: str | None = Field(default=None, description="More about it.")
    payload: dict[str, Any] = Field(default_factory=dict, description="The task type's parameters.")
    result: dict[str, Any] | None = Field(
        default=None,
        description="Result of a completed run. `sources` lists what was read, with digest and time. `findings` "
        "have an `id` and `evidence`, each piece with `read`: the positions in `sources` of what it was found in. "
        "`suggestions` name in `findings` the ids of the findings that they follow from. `result` is for programs; its "
        "shape depends on the task type.",
    )
    result_summary: str | None = Field(default=None, description="Summary of the result, in a sentence.")
    error_message: str | None = Field(default=None, description="Error of the last run.")
    failure_kind: str | None = Field(
        default=None,
        description="Why it failed: error, invalid_payload, unknown_task_type, timeout, cancelled, rejected, lost "
        "(its lease expired too often) or dependency.",
    )
    attempt: int = Field(
        default=0, description="Number of runs that count against `max_attempts`, including the current one."
    )
    max_attempts: int = Field(default=3, description="Maximum number of runs; after that an error is final.")
    lost_leases: int = Field(default=0, description="Number of times its worker vanished and the lease expired.")
    timeout_seconds: int | None = Field(default=None, description="Seconds per run; the task type's when null.")
    progress: float | None = Field(default=None, description="Progress of the run, 0 to 1, as reported by the handler.")
    progress_message: str | None = Field(default=None, description="Progress message of the running handler.")
    idempotency_key: str | None = Field(default=None, description="Key that prevents a second task from being created.")
    parent_id: UUID | None = Field(default=None, description="The task that delegated it.")
    run_at: datetime | None = Field(default=None, description="Earliest time to run.")
    deadline_at: datetime | None = Field(
        default=None, description="Deadline; the task fails if it has not started by then."
    )
    started_at: datetime | None = Field(default=None, description="When its last run began.")
    completed_at: datetime | None = Field(default=None, description="When it was completed, or failed for good.")
    lease_expires_at: datetime | None = Field(
        default=None, description="Time at which the lease expires without a heartbeat."
    )
    worker_id: str | None = Field(default=None, description="Worker that runs it.")
    created_by_user_id: UUID | None = Field(default=None, description="Who created it.")
    created_at: datetime = Field(description="When it was created.")
    updated_at: datetime | None = Field(default=None, description="When it last changed.")

    @property
    def ended(self) -> bool:
        """Whether it has completed, or failed for good."""
        return self.status in ("completed", "failed")

    @classmethod
    def shown(cls, row: dict[str, Any]) -> dict[str, Any]:
        """A row's columns that readers see: not the lease's token, and nothing that only indexes are made of."""
        shown = {name: row[name] for name in cls.model_fields if name in row}
        if shown.get("progress") is not None:
            shown["progress"] = round(shown["progress"], 6)  # stored in four bytes
        return shown


class SuggestionRecord(Record):
    """A stored suggestion and what became of it."""

    id: UUID = Field(description="The suggestion's id, ordered by time.")
    agent_id: str = Field(description="The agent that proposes it, in upper case.")
    task_id: UUID | None = Field(default=None, description="The task that it comes from.")
    suggestion_type: str = Field(description="Type of the change; advice changes nothing.")
    title: str = Field(description="The change, in one line.")
    body: str | None = Field(default=None, description="Reason and details.")
    target: dict[str, Any] = Field(default_factory=dict, description="The rows or fields that would change.")
    current_value: Any = Field(
        default=None,
        description="Advice only: what the proposer says is there. What an effect would find is in `targets`.",
    )
    suggested_value: Any = Field(default=None, description="Proposed value.")
    targets: list[dict[str, Any]] | None = Field(
        default=None,
        description="For one suggestion that waits: each change with what it must find (`expected`) and what its row "
        "holds now (`found`). If they differ, approving it is refused.",
    )
    problem: str | None = Field(default=None, description="Why it cannot be approved here, if that is so.")
    proposed_as: str | None = Field(
        default=None, description="Who proposed it in the agent's name; null when a run of the agent did."
    )
    findings: list[str] = Field(default_factory=list, description="The findings of its task that it follows from.")
    evidence: list[dict[str, Any]] = Field(
        default_factory=list, description="Evidence for it: quotes, elements, lines of files, rows, figures."
    )
    risk_level: str = Field(description="Risk level: low, medium or high.")
    effect: dict[str, Any] | None = Field(
        default=None,
        description="Exactly what approving it does: `changes`, each with what it must find and what it makes of it. "
        "Null for advice.",
    )
    effect_digest: str = Field(default="", description="SHA-256 of what it does; an approval names it.")
    status: str = Field(description="proposed, approved, applied, rejected, expired or superseded.")
    expires_at: datetime | None = Field(default=None, description="Time at which it expires without a decision.")
    decided_as: str | None = Field(
        default=None, description="Who decided: an e-mail address, user:<id>, operator or policy."
    )
    decided_by: UUID | None = Field(default=None, description="The user who decided.")
    decided_at: datetime | None = Field(default=None, description="When it was decided.")
    reason: str | None = Field(default=None, description="Why it was decided so.")
    edited_value: Any = Field(default=None, description="Value that the approver entered instead of the suggested one.")
    applied_at: datetime | None = Field(default=None, description="Time at which it was applied.")
    undone_at: datetime | None = Field(default=None, description="Time at which it was undone.")
    supersedes: UUID | None = Field(default=None, description="Earlier suggestion of the same change that it replaces.")
    superseded_by: UUID | None = Field(
        default=None, description="Later suggestion of the same change that replaces it."
    )
    closed_by_task_id: UUID | None = Field(
        default=None, description="The task that examined the same again and no longer found it."
    )
    created_at: datetime = Field(description="When it was proposed.")


class ClimateProfile(Record):
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


class ClimateMission(Record):
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


class PageConfig(Record):
    """A page that the frontend knows by key; `config` may name a `url` or a `path` where its HTML is found."""

    page: str
    config: dict[str, Any] = Field(default_factory=dict)
