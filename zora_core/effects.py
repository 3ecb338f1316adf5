"""What suggestions do: each type turns a suggestion into the exact changes that a person approves.

An effect is data (`functions/apply_effect.sql` says which forms it has): it is computed when a suggestion is made,
shown to the person who decides, bound to the decision by its digest, and carried out by the database. What it must find
there (`before`) is its precondition: what a type leaves out of it, the database reads from the rows when it stores the
suggestion. It also gives back the effect that undoes it.

A new type is one class in this file, or in that of an installed agent. Tables of your own are registered with
`zora tables register`.
"""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections import Counter
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import to_jsonable_python

from zora_core.cron import CronText, ZoneName
from zora_core.errors import InvalidInput
from zora_core.graph import ordered
from zora_core.models import NOT_BLANK, AgentId, Suggestion
from zora_core.storable import problem as problem_of
from zora_core.wording import count

logger = logging.getLogger("zora.effects")

Change = dict[str, Any]
Effect = dict[str, Any]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


Target = TypeVar("Target", bound=BaseModel)
Value = TypeVar("Value", bound=BaseModel)


class SuggestionType(ABC, Generic[Target, Value]):
    """A kind of suggestion with an effect; a subclass registers itself under its `name`."""

    name: ClassVar[str]
    target: type[Target]
    value: type[Value]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the type known."""
        super().__init_subclass__(**kwargs)
        _TYPES[cls.name] = cls()

    @abstractmethod
    def describe(self, target: Target, value: Value) -> str:
        """What approving it does, in one sentence."""

    @abstractmethod
    def changes(self, target: Target, current: Any, value: Value) -> list[Change]:
        """What is done, row by row; `current` is what the agent saw there.

        Raises `ValueError` when the value is not about the target.
        """


_TYPES: dict[str, SuggestionType[Any, Any]] = {}
ADVICE = "advice"  # nothing to apply
RUN_TASK = "run_task"  # made by the database, see ask_to_run()


def known_types() -> list[str]:
    """The names of all types of suggestions that an agent may make."""
    return [ADVICE, *_TYPES]


def suggestion_types() -> list[SuggestionType[Any, Any]]:
    """All types that have an effect."""
    return list(_TYPES.values())


def effect_of(suggestion: Suggestion) -> Effect | None:
    """What approving `suggestion` would do; None for plain advice.

    Raises `InvalidInput` naming what is wrong when the type is unknown, or its target or value do not fit it.
    """
    return _effect(suggestion.suggestion_type, suggestion.target, suggestion.current_value, suggestion.suggested_value)


def edited(suggestion: dict[str, Any], value: Any) -> dict[str, Any]:
    """`edited_value` and `edited_effect` of a stored suggestion with another value, checked as strictly as a new one.

    It expects the same to be there, and changes it to `value`.
    """
    name = suggestion["suggestion_type"]
    if suggestion["effect"] is None or name == RUN_TASK:
        raise InvalidInput(f"a suggestion of the type {name} has no value that can be edited")
    kind, target, parsed = _parsed(name, suggestion["target"], value)
    effect = _changes(kind, target, None, parsed)
    stored = {_place(change): change for change in suggestion["effect"]["changes"] if "before" in change}
    for change in effect["changes"]:
        if _place(change) in stored:
            change["before"] = stored[_place(change)]["before"]
    return {"edited_value": parsed.model_dump(mode="json", exclude_unset=True), "edited_effect": effect}


def describe(suggestion: dict[str, Any]) -> str:
    """What approving a stored suggestion does, in one sentence.

    Of a type that this process does not know, or whose value it cannot read, the changes themselves say it.
    """
    effect = suggestion["effect"]
    if suggestion["suggestion_type"] == RUN_TASK:
        return "Lets the task run, with exactly this payload."
    if effect is None:
        return "Advice only: approving it records your agreement and changes nothing."
    kind = _TYPES.get(suggestion["suggestion_type"])
    value = suggestion["suggested_value"] if suggestion["edited_value"] is None else suggestion["edited_value"]
    if kind is not None:
        try:
            return kind.describe(kind.target.model_validate(suggestion["target"]), kind.value.model_validate(value))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            logger.warning("the type %s cannot describe suggestion %s: %r", kind.name, suggestion["id"], error)
    return _described(effect.get("changes") if isinstance(effect, dict) else effect)


def _described(changes: Any) -> str:
    """What changes do, by their form alone."""
    verbs = {"insert": "adds a row to", "update": "changes a row of", "delete": "removes a row of"}
    counted = Counter(
        (verbs[change["op"]], str(change.get("table")))
        if isinstance(change, dict) and change.get("op") in verbs
        else ("makes a change of the kind", str(change.get("op")) if isinstance(change, dict) else "unknown")
        for change in (changes if isinstance(changes, list) else [changes])
        if not (isinstance(change, dict) and change.get("op") == "expect")
    )
    said = [f"{verb} {what}" + (f" ({times} times)" if times > 1 else "") for (verb, what), times in counted.items()]
    text = ", ".join(said) or "changes nothing"
    return f"{text[:1].upper()}{text[1:]}."


def _effect(name: str, target: Any, current: Any, value: Any) -> Effect | None:
    if name == ADVICE:
        return None
    kind, parsed, wanted = _parsed(name, target, value)
    return _changes(kind, parsed, current, wanted)


def _parsed(name: str, target: Any, value: Any) -> tuple[SuggestionType[Any, Any], Any, Any]:
    """The type, and target and value as its models; by JSON's own types, so that a text is not taken for a number."""
    kind = _TYPES.get(name)
    if kind is None:
        raise InvalidInput(f"unknown suggestion type {name!r} (known: {', '.join(known_types())})")
    parts = []
    for what, model, given in (("target", kind.target, target), ("value", kind.value, value)):
        if unstorable := problem_of(given, what):
            raise InvalidInput(f"the {what} of {name} cannot be stored: {unstorable}")
        try:
            text = json.dumps(to_jsonable_python(given), allow_nan=False)
            parts.append(model.model_validate_json(text, strict=True))
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, problem["loc"])) or "the value"
            raise InvalidInput(f"the {what} of {name} is wrong at {where}: {problem['msg']}") from error
        except ValueError as error:
            raise InvalidInput(f"the {what} of {name} cannot be stored: {error}") from error
    return kind, parts[0], parts[1]


def _changes(kind: SuggestionType[Any, Any], target: Any, current: Any, value: Any) -> Effect:
    try:
        return {"changes": to_jsonable_python(kind.changes(target, current, value))}
    except ValueError as error:
        raise InvalidInput(f"the value of {kind.name} does not fit its target: {error}") from error


def _place(change: Change) -> tuple[Any, ...]:
    return (change.get("table"), change.get("key"), tuple(change.get("path", ())))


# --- create_climate_missions ------------------------------------------------------------------------------------------


def _boolean(value: Any) -> Any:
    """Python takes 0 for False; JSON does not."""
    if not isinstance(value, bool):
        raise ValueError("must be a boolean")
    return value


class MissionsTarget(_Strict):
    """The profile that the mission is for; none for the tenant as a whole."""

    table: Literal["climate_missions"] = Field(default="climate_missions", description="The table.")
    profile_id: UUID | None = Field(default=None, description="The climate profile.")


class Mission(_Strict):
    """A row of `climate_missions` to be; `estimated_impact_kgco2` is kgCO2e saved per year."""

    profile_id: UUID | None = Field(default=None, description="The climate profile that it is for.")
    title: str = Field(min_length=1, max_length=500, description="The task to do, in one line.")
    description: str | None = Field(default=None, description="More about it.")
    category: Literal["energy", "transport", "food", "consumption", "advocacy", "products"] = Field(
        description="Where it saves."
    )
    status: Literal["planned"] = Field(default="planned", description="A new mission is planned.")
    estimated_impact_kgco2: float | None = Field(
        default=None, ge=-1e12, le=1e12, allow_inf_nan=False, description="kgCO2e saved per year."
    )
    due_date: AwareDatetime | None = Field(default=None, description="Until when.")
    verified: Annotated[Literal[False], BeforeValidator(_boolean)] = Field(
        default=False, description="A new mission is not verified."
    )


class CreateClimateMissions(SuggestionType[MissionsTarget, Mission]):
    """A new climate mission."""

    name = "create_climate_missions"
    target = MissionsTarget
    value = Mission

    def describe(self, target: MissionsTarget, value: Mission) -> str:
        """What approving it does."""
        impact = f", {value.estimated_impact_kgco2:,.0f} kgCO2e a year" if value.estimated_impact_kgco2 else ""
        return f"Adds the climate mission “{value.title}” ({value.category}{impact})."

    def changes(self, target: MissionsTarget, current: Any, value: Mission) -> list[Change]:
        """One new row, of a profile that is as it was; `current` may have the profile's columns."""
        profile_id = value.profile_id if "profile_id" in value.model_fields_set else target.profile_id
        if profile_id != target.profile_id and "profile_id" in target.model_fields_set:
            raise ValueError(f"it is for the profile {profile_id}, not {target.profile_id}")
        added = {"op": "insert", "table": target.table, "row": {**value.model_dump(), "profile_id": profile_id}}
        if profile_id is None:
            return [added]
        seen = current if isinstance(current, dict) else {}
        return [{"op": "expect", "table": "climate_profiles", "key": profile_id, "before": seen}, added]


# --- change_frontend_config -------------------------------------------------------------------------------------------


class ConfigTarget(_Strict):
    """A place in the config of a page: the keys that lead to it; all but the last must exist."""

    table: Literal["frontend_configs"] = Field(default="frontend_configs", description="The table.")
    page: str = Field(description="The page's key.")
    path: list[str] = Field(
        min_length=1, max_length=20, description="The keys that lead to the place, outermost first."
    )


class ConfigValue(_Strict):
    """What should stand there; null takes the key away."""

    value: Any = Field(description="Any JSON.")


class ChangeFrontendConfig(SuggestionType[ConfigTarget, ConfigValue]):
    """Another value at one place of a page's config; whatever else the config holds stays as it is."""

    name = "change_frontend_config"
    target = ConfigTarget
    value = ConfigValue

    def describe(self, target: ConfigTarget, value: ConfigValue) -> str:
        """What approving it does."""
        return f"Sets {'.'.join(target.path)} in the config of the page {target.page}."

    def changes(self, target: ConfigTarget, current: Any, value: ConfigValue) -> list[Change]:
        """One column, at one path; `current` is what stands there, as `{"value": …}`."""
        return [
            {
                "op": "update",
                "table": target.table,
                "key": target.page,
                "path": target.path,
                "before": {"config": current["value"]} if isinstance(current, dict) and "value" in current else {},
                "after": {"config": value.value},
            }
        ]


# --- merge_memories, archive_memories ---------------------------------------------------------------------------------


class MergeTarget(_Strict):
    """The memory that stays, and those that say the same."""

    table: Literal["memory_events"] = Field(default="memory_events", description="The table.")
    keep: UUID = Field(description="The memory that stays.")
    ids: list[UUID] = Field(min_length=1, description="Those that say the same.")


class Merge(_Strict):
    """What is kept, with which tags, and what is archived; times are set when it is applied."""

    keep: UUID = Field(description="The memory that stays.")
    archive: list[UUID] = Field(min_length=1, description="Those to be archived.")
    tags: list[str] = Field(description="The tags of the one that stays.")
    similarity: float | None = Field(default=None, description="How alike they are, 0 to 1.")


class MergeMemories(SuggestionType[MergeTarget, Merge]):
    """One of several equal memories is kept with the tags of all, the others are archived."""

    name = "merge_memories"
    target = MergeTarget
    value = Merge

    def describe(self, target: MergeTarget, value: Merge) -> str:
        """What approving it does."""
        return f"Keeps one memory, with the tags of all, and archives {len(value.archive)} that say the same."

    def changes(self, target: MergeTarget, current: Any, value: Merge) -> list[Change]:
        """The tags of one memory, and the archiving of the others; `current` has what each of them said, by id."""
        _within(target.ids, value.archive)
        if value.keep != target.keep or value.keep in value.archive:
            raise ValueError(f"it keeps the memory {value.keep}, not {target.keep}")
        kept = _memory(target.table, value.keep, current, {"tags": value.tags, "archived_at": None})
        return [kept, *_archived(target.table, value.archive, current)]


class ArchiveTarget(_Strict):
    """Memories to be set aside."""

    table: Literal["memory_events"] = Field(default="memory_events", description="The table.")
    ids: list[UUID] = Field(min_length=1, description="The memories.")


class Archive(_Strict):
    """The same, as a decision may shorten it."""

    archive: list[UUID] = Field(min_length=1, description="Those to be archived.")


class ArchiveMemories(SuggestionType[ArchiveTarget, Archive]):
    """Memories are set aside: readable, but no longer used."""

    name = "archive_memories"
    target = ArchiveTarget
    value = Archive

    def describe(self, target: ArchiveTarget, value: Archive) -> str:
        """What approving it does."""
        return f"Archives {count(len(value.archive), 'memory', 'memories')}, still readable."

    def changes(self, target: ArchiveTarget, current: Any, value: Archive) -> list[Change]:
        """One column of each; `current` may have what each of them said, by id."""
        _within(target.ids, value.archive)
        return _archived(target.table, value.archive, current)


def _within(ids: list[UUID], archive: list[UUID]) -> None:
    for memory_id in archive:
        if memory_id not in ids:
            raise ValueError(f"it archives the memory {memory_id}, which the target does not name")


def _archived(table: str, ids: list[UUID], current: Any) -> list[Change]:
    """In the order of their ids, so that two effects on the same rows wait for one another instead of locking up."""
    return [_memory(table, memory_id, current, {"archived_at": "now"}) for memory_id in sorted(set(ids))]


def _memory(table: str, memory_id: UUID, current: Any, after: dict[str, Any]) -> Change:
    """A change of a memory that is in use and says what `current` does; the rest is read when it is stored."""
    seen = current.get(str(memory_id)) if isinstance(current, dict) else None
    said = {name: seen[name] for name in ("content", "tags") if name in seen} if isinstance(seen, dict) else {}
    return {"op": "update", "table": table, "key": memory_id, "before": {**said, "archived_at": None}, "after": after}


# --- create_workflow --------------------------------------------------------------------------------------------------


class WorkflowTarget(_Strict):
    """The workflow's key."""

    table: Literal["workflows"] = Field(default="workflows", description="The table.")
    key: str = Field(min_length=1, max_length=100, description="The workflow's key.")


class Step(_Strict):
    """A step of a plan: a task, and the keys of the steps before it."""

    key: str = Field(min_length=1, max_length=100, description="Name of the step, for references from other steps.")
    agent_id: AgentId = Field(description="The agent.")
    task_type: str = Field(min_length=1, max_length=100, description="One of its task types.")
    title: str = Field(pattern=NOT_BLANK, max_length=500, description="Title of the task, shown to people.")
    payload: dict[str, Any] = Field(default_factory=dict, description="The task type's parameters.")
    depends_on: list[str] = Field(default_factory=list, description="The keys of the steps before it.")


class Plan(_Strict):
    """A plan of one or more steps."""

    key: str = Field(description="The workflow's key.")
    name: str = Field(description="Purpose, shown to people.")
    steps: list[Step] = Field(min_length=1, max_length=100, description="Its steps, earlier ones first.")


class CreateWorkflow(SuggestionType[WorkflowTarget, Plan]):
    """The tasks of a plan, each after those that it depends on."""

    name = "create_workflow"
    target = WorkflowTarget
    value = Plan

    def describe(self, target: WorkflowTarget, value: Plan) -> str:
        """What approving it does."""
        tasks = "one task" if len(value.steps) == 1 else f"{len(value.steps)} tasks"
        return f"Creates {tasks}: " + ", ".join(f"{step.agent_id} {step.task_type}" for step in value.steps) + "."

    def changes(self, target: WorkflowTarget, current: Any, value: Plan) -> list[Change]:
        """A run of the plan as a workflow."""
        if value.key != target.key:
            raise ValueError(f"it is the plan {value.key!r}, not {target.key!r}")
        definition = value.model_dump(mode="json")
        workflow = {"key": value.key, "name": value.name, "definition": definition}
        return [{"op": "create_tasks", "workflow": workflow, "tasks": ordered(definition["steps"])}]


# --- change_schedule --------------------------------------------------------------------------------------------------


class ScheduleTarget(_Strict):
    """A schedule."""

    table: Literal["autonomy_schedules"] = Field(default="autonomy_schedules", description="The table.")
    id: UUID = Field(description="The schedule's id.")


class ScheduleEdit(_Strict):
    """What should be different; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    cron: CronText | SkipJsonSchema[None] = Field(default=None, description="When, as a cron expression.")
    timezone: ZoneName | SkipJsonSchema[None] = Field(default=None, description="In which time zone.")
    enabled: bool | SkipJsonSchema[None] = Field(default=None, description="True if the proposal is carried out.")
    payload: dict[str, Any] | SkipJsonSchema[None] = Field(default=None, description="The payload of its tasks.")

    @model_validator(mode="after")
    def _says_something(self) -> ScheduleEdit:
        given = self.model_dump(include=self.model_fields_set)
        if not given or None in given.values():
            raise ValueError("name what is to be different, and only that")
        return self


class ChangeSchedule(SuggestionType[ScheduleTarget, ScheduleEdit]):
    """Another time, payload or state of a schedule."""

    name = "change_schedule"
    target = ScheduleTarget
    value = ScheduleEdit

    def describe(self, target: ScheduleTarget, value: ScheduleEdit) -> str:
        """What approving it does."""
        return f"Changes {', '.join(value.model_dump(exclude_none=True))} of the schedule."

    def changes(self, target: ScheduleTarget, current: Any, value: ScheduleEdit) -> list[Change]:
        """The columns that differ; `current` has what they hold."""
        after = value.model_dump(exclude_none=True)
        seen = current if isinstance(current, dict) else {}
        before = {name: seen[name] for name in after if name in seen}
        return [{"op": "update", "table": target.table, "key": target.id, "before": before, "after": after}]
