"""What suggestions do: each type turns a suggestion into the exact changes that a person approves.

An effect is data (`functions/apply_effect.sql` says which forms it has): it is computed when a suggestion is made,
shown to whoever decides, bound to the decision by its digest, and carried out by the database. What it must find there
(`before`) is its precondition, and the database gives back the effect that undoes it; neither is written here.

A new type is one class in this file, or in that of an installed agent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import to_jsonable_python

from zora_core.cron import CronText, ZoneName
from zora_core.errors import InvalidInput
from zora_core.graph import ordered
from zora_core.models import NOT_BLANK, AgentId, Suggestion

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
        """What is done, row by row; `current` is what the agent saw there."""


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


def edited_effect(suggestion: dict[str, Any], value: Any) -> Effect:
    """What a stored suggestion does with another value: it expects the same to be there, and changes it to `value`."""
    if suggestion["effect"] is None or suggestion["suggestion_type"] not in _TYPES:
        raise InvalidInput(f"a suggestion of the type {suggestion['suggestion_type']} has no value that can be edited")
    effect = _effect(suggestion["suggestion_type"], suggestion["target"], None, value)
    assert effect is not None
    stored = {_place(change): change for change in suggestion["effect"]["changes"] if change["op"] == "update"}
    for change in effect["changes"]:
        if _place(change) in stored:
            change["before"] = stored[_place(change)]["before"]
    return effect


def describe(suggestion: dict[str, Any]) -> str:
    """What approving a stored suggestion does, in one sentence."""
    kind = _TYPES.get(suggestion["suggestion_type"])
    if suggestion["suggestion_type"] == RUN_TASK:
        return "Lets the task run, with exactly this payload."
    if kind is None or suggestion["effect"] is None:
        return "Nothing is changed: it is advice, and approving it says that you agree."
    value = suggestion["suggested_value"] if suggestion["edited_value"] is None else suggestion["edited_value"]
    return kind.describe(kind.target.model_validate(suggestion["target"]), kind.value.model_validate(value))


def _effect(name: str, target: Any, current: Any, value: Any) -> Effect | None:
    if name == ADVICE:
        return None
    kind = _TYPES.get(name)
    if kind is None:
        raise InvalidInput(f"unknown suggestion type {name!r} (known: {', '.join(known_types())})")
    try:
        parsed = kind.target.model_validate(to_jsonable_python(target))
        wanted = kind.value.model_validate(to_jsonable_python(value))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"])) or "the value"
        what = "target" if error.title == kind.target.__name__ else "value"
        raise InvalidInput(f"the {what} of {name} is wrong at {where}: {problem['msg']}") from error
    changes = to_jsonable_python(kind.changes(parsed, current, wanted))
    return {"changes": changes}


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
    title: str = Field(min_length=1, max_length=500, description="What is to be done, in one line.")
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
        """One new row."""
        return [{"op": "insert", "table": target.table, "row": value.model_dump()}]


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

    value: Any = Field(default=None, description="Any JSON.")


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
        seen = current.get("value") if isinstance(current, dict) else None
        return [
            {
                "op": "update",
                "table": target.table,
                "key": target.page,
                "path": target.path,
                "before": {"config": seen},
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
    tags: list[str] = Field(default_factory=list, description="The tags of the one that stays.")
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
        """The tags of one memory, and the archiving of the others; `current` has their tags, by id."""
        seen = current.get(str(value.keep), {}) if isinstance(current, dict) else {}
        kept = {
            "op": "update",
            "table": target.table,
            "key": value.keep,
            "before": {"tags": seen.get("tags", []), "archived_at": None},
            "after": {"tags": value.tags, "archived_at": None},
        }
        return [kept, *_archived(target.table, value.archive)]


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
        return f"Archives {len(value.archive)} memories; they stay readable."

    def changes(self, target: ArchiveTarget, current: Any, value: Archive) -> list[Change]:
        """One column of each."""
        return _archived(target.table, value.archive)


def _archived(table: str, ids: list[UUID]) -> list[Change]:
    """In the order of their ids, so that two effects on the same rows wait for one another instead of locking up."""
    return [
        {
            "op": "update",
            "table": table,
            "key": memory_id,
            "before": {"archived_at": None},
            "after": {"archived_at": "now"},
        }
        for memory_id in sorted(ids)
    ]


# --- create_workflow --------------------------------------------------------------------------------------------------


class WorkflowTarget(_Strict):
    """The workflow's key."""

    table: Literal["workflows"] = Field(default="workflows", description="The table.")
    key: str = Field(min_length=1, max_length=100, description="The workflow's key.")


class Step(_Strict):
    """A step of a plan: a task, and the keys of the steps before it."""

    key: str = Field(min_length=1, max_length=100, description="What the other steps call it.")
    agent_id: AgentId = Field(description="The agent.")
    task_type: str = Field(min_length=1, max_length=100, description="One of its task types.")
    title: str = Field(pattern=NOT_BLANK, max_length=500, description="What the task is about.")
    payload: dict[str, Any] = Field(default_factory=dict, description="The task type's parameters.")
    depends_on: list[str] = Field(default_factory=list, description="The keys of the steps before it.")


class Plan(_Strict):
    """A plan of one or more steps."""

    key: str = Field(description="The workflow's key.")
    name: str = Field(description="What it is for.")
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
    enabled: bool | SkipJsonSchema[None] = Field(default=None, description="Whether it is carried out.")
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
        before = {name: seen.get(name) for name in after}
        return [{"op": "update", "table": target.table, "key": target.id, "before": before, "after": after}]
