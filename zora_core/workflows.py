"""Workflows: steps that hang together, defined once and run with inputs of their own.

A definition is a mapping, from YAML, JSON or the API: `key`, `name`, `inputs` with their defaults, `steps`. A step is
a task, with `depends_on` (see `zora_core.graph`). In a payload `{"$input": NAME}` stands for an input of the run and
`{"$result": STEP, "path": …}` for what an earlier step came to; in a title `{NAME}` is an input. A step with
`ask_first` waits, once its turn has come, until a person lets it run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from zora_core.errors import InvalidInput, InvalidPayload, NotFound, UnknownTaskType
from zora_core.graph import ordered, references
from zora_core.models import NOT_BLANK, AgentId, integral
from zora_core.storable import check_storable

if TYPE_CHECKING:
    from zora_core.agents.agent import Registry

INPUT = "$input"
MAX_STEPS = 1000
_KEY = r"^[a-z0-9][a-z0-9_-]{0,99}$"
_NAME = re.compile(r"\{(\w+)\}")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Edge(_Strict):
    """That a step waits for another one, and what becomes of it when that fails."""

    key: str = Field(pattern=_KEY, description="The step that is waited for.")
    on_failure: Literal["fail", "skip", "continue"] = Field(
        default="fail",
        description="Effect on this step when the other one fails: it fails too, is skipped, or runs anyway.",
    )


class Step(_Strict):
    """A step: a task, once those before it have ended."""

    key: str = Field(pattern=_KEY, description="Name of the step, for references from other steps.")
    agent_id: AgentId = Field(description="The agent.")
    task_type: str = Field(min_length=1, max_length=100, description="One of its task types.")
    title: str = Field(
        pattern=NOT_BLANK, max_length=500, description="Title of the task, shown to people; {NAME} stands for an input."
    )
    description: str | None = Field(default=None, max_length=20_000, description="More about it.")
    payload: dict[str, Any] = Field(default_factory=dict, description="The task type's parameters, with references.")
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000), BeforeValidator(integral)] | None = Field(
        default=None, description="Higher runs first."
    )
    max_attempts: Annotated[int, Field(ge=1, le=100), BeforeValidator(integral)] | None = Field(
        default=None, description="Maximum number of runs; after that an error is final."
    )
    timeout_seconds: Annotated[int, Field(ge=1, le=86_400), BeforeValidator(integral)] | None = Field(
        default=None, description="Seconds per run."
    )
    depends_on: list[str | Edge] = Field(default_factory=list, max_length=1000, description="The steps before it.")
    ask_first: bool = Field(default=False, description="True if a person is asked before the task runs.")


class Workflow(_Strict):
    """A workflow's definition."""

    key: str = Field(pattern=_KEY, description="Key of the workflow, for commands and URLs.")
    name: str = Field(pattern=NOT_BLANK, max_length=200, description="Name of the workflow, shown to people.")
    description: str = Field(default="", max_length=20_000, description="Purpose, shown to people.")
    inputs: dict[str, Any] = Field(default_factory=dict, description="The inputs of a run and their defaults.")
    steps: list[Step] = Field(min_length=1, max_length=MAX_STEPS, description="The steps.")

    def check(self, registry: Registry) -> None:
        """Raise `InvalidInput` naming a step that cannot be: an unknown task type, an unfit payload, a cycle."""
        ordered([step.model_dump() for step in self.steps])
        for step in self.steps:
            for name in [*_inputs(step.payload), *_NAME.findall(step.title)]:
                if name not in self.inputs:
                    known = ", ".join(self.inputs) or "none"
                    raise InvalidInput(f"the step {step.key!r} names the input {name!r} (known: {known})")
        payloads = _payloads([step.payload for step in self.steps], self.inputs)
        for step, payload in zip(self.steps, payloads, strict=True):
            try:
                task_type = registry.find(step.agent_id, step.task_type)
                if not any(references(step.payload)):  # else it is checked when the results are there
                    task_type.parse(payload)
            except (UnknownTaskType, InvalidPayload) as error:
                raise InvalidInput(f"the step {step.key!r}: {error}") from error

    def tasks(self, inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A run's tasks as `start_workflow_run` takes them; raises `InvalidInput` for an input that there is not."""
        if unknown := [name for name in inputs if name not in self.inputs]:
            known = ", ".join(self.inputs) or "none"
            raise InvalidInput(f"{self.key} has no input {unknown[0]!r} (known: {known})")
        context = {**self.inputs, **inputs}
        steps = [*map(dict, ordered([step.model_dump(mode="json", exclude_none=True) for step in self.steps]))]
        payloads = _payloads([step["payload"] for step in steps], context)
        return [
            {
                **step,
                "title": _NAME.sub(lambda found: str(context.get(found[1], found[0])), step["title"])[:500],
                "payload": payload,
            }
            for step, payload in zip(steps, payloads, strict=True)
        ]

    def levels(self) -> list[list[Step]]:
        """The steps by how many others stand before them: what stands in one row may run at the same time."""
        depth: dict[str, int] = {}
        by_key = {step.key: step for step in self.steps}
        for found in ordered([step.model_dump() for step in self.steps]):
            depth[found["key"]] = 1 + max((depth[name] for name in upstream(by_key[found["key"]])), default=-1)
        rows: list[list[Step]] = [[] for _ in range(max(depth.values()) + 1)]
        for step in self.steps:
            rows[depth[step.key]].append(step)
        return rows


def upstream(step: Step) -> list[str]:
    """The keys of the steps that a step waits for."""
    return [edge if isinstance(edge, str) else edge.key for edge in step.depends_on]


def result_of(steps: list[dict[str, Any]]) -> dict[str, str | None]:
    """What a run came to: the summaries of the steps that no other waits for, by their keys."""
    waited_for = {name for step in steps for name in step["depends_on"]}
    return {step["step"]: step["result_summary"] for step in steps if step["step"] not in waited_for}


def parse(definition: Any) -> Workflow:
    """A definition, from what YAML or JSON held; raises `InvalidInput` naming the field that is wrong."""
    try:
        return Workflow.model_validate(definition)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"])) or "the definition"
        raise InvalidInput(f"{where}: {problem['msg']}") from error


def load(text: str) -> Workflow:
    """A definition from YAML, of which JSON is a part."""
    import yaml  # type: ignore[import-untyped]

    try:
        definition = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(f"the definition is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise InvalidInput("the definition is nested too deep to be read") from error
    check_storable(definition, "the definition")
    return parse(definition)


def shipped() -> dict[str, Workflow]:
    """The workflows that come with the program, by key."""
    folder = resources.files("zora_core.data") / "workflows"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    found = [load(file.read_text(encoding="utf-8")) for file in files]
    return {workflow.key: workflow for workflow in found}


def choose(stored: list[dict[str, Any]], key: str) -> Workflow:
    """The tenant's workflow of this key, else the one that is shipped; raises `NotFound` naming those there are."""
    own = {row["key"]: row["definition"] for row in stored}
    if key in own:
        return parse(own[key])
    ours = shipped()
    if key not in ours:
        raise NotFound(f"no workflow {key!r} (known: {', '.join(sorted({*own, *ours}))})")
    return ours[key]


def read(path: Path) -> Workflow:
    """A definition in a file."""
    try:
        return load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{str(path)!r} is not UTF-8 (byte {error.start + 1}): encode it as UTF-8") from error


def _inputs(payload: Any) -> Iterator[str]:
    if isinstance(payload, dict):
        if INPUT in payload:
            if set(payload) != {INPUT} or not isinstance(payload[INPUT], str):
                raise InvalidInput(f"an input is written {{{INPUT!r}: NAME}} and nothing else: {payload}")
            yield payload[INPUT]
        for value in payload.values():
            yield from _inputs(value)
    elif isinstance(payload, list):
        for value in payload:
            yield from _inputs(value)


def _payloads(payloads: list[dict[str, Any]], context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The payloads with their inputs; raises `InvalidInput` when a large input occurs in them too often."""
    filled = [_filled(payload, context) for payload in payloads]
    check_storable(filled, "the run, with its inputs filled in,", texts=False)
    return filled


def _filled(payload: Any, context: Mapping[str, Any]) -> Any:
    if isinstance(payload, list):
        return [_filled(value, context) for value in payload]
    if not isinstance(payload, dict):
        return payload
    if INPUT in payload:
        return context.get(payload[INPUT])
    return {name: _filled(value, context) for name, value in payload.items()}
