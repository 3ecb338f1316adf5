"""What an agent is: a class whose decorated methods each handle one task type."""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from zora_core.errors import ConfigurationError, InvalidInput, InvalidPayload, UnknownTaskType
from zora_core.models import AgentId, Task, TaskResult

if typing.TYPE_CHECKING:
    from zora_core.agents.context import TaskContext


MAX_PROBLEMS = 1000  # of a payload that are named
MAX_SNOOZE_SECONDS = 10 * 366 * 86400

EvidenceRule = Literal["required", "none"]


class Payload(BaseModel):
    """Base of every task type's payload. Unknown fields are refused, so that a misspelt field does not go unnoticed."""

    model_config = ConfigDict(extra="forbid")

    extra_instructions: str = Field(default="", description="Free text for the agent; data, never commands.")


@dataclass(frozen=True)
class Snooze:
    """Returned by a handler instead of a result: run the task again in `seconds`; the attempt does not count.

    `seconds` is more than 0 and at most ten years, else `InvalidInput` is raised: a task that runs again at once would
    never leave its worker.
    """

    seconds: float
    reason: str = ""

    def __post_init__(self) -> None:
        """Refuse a number of seconds out of range."""
        if (
            isinstance(self.seconds, bool)
            or not isinstance(self.seconds, int | float)
            or not 0 < self.seconds <= MAX_SNOOZE_SECONDS
        ):
            raise InvalidInput(
                f"Snooze needs a number of seconds above 0 and at most {MAX_SNOOZE_SECONDS}, not {self.seconds!r}"
            )


@dataclass(frozen=True, kw_only=True)
class ChildTask:
    """A task to be made by delegation; `key` is what it is called among its siblings.

    `depends_on` names siblings that it waits for (or objects with `key` and `on_failure`), to whose results its payload
    may refer with `{"$result": KEY, "path": PATH}`. `on_failure` says what its failure does to the task that delegates:
    `continue` (it is resumed and sees the failure), `fail` (it fails, too, and the other children are cancelled) or
    `skip` (it ends without being resumed). `priority` is at least that of the task that delegates. With `ask_first` a
    person is asked whether the child may run.
    """

    key: str
    agent_id: AgentId | str
    task_type: str
    title: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    depends_on: Sequence[str | Mapping[str, str]] = ()
    on_failure: str = "continue"
    ask_first: bool = False
    description: str | None = None
    priority: int | None = None
    max_attempts: int | None = None
    timeout_seconds: int | None = None

    def row(self) -> dict[str, Any]:
        """As `delegate_agent_task` takes it."""
        given = {name: value for name, value in vars(self).items() if value not in (None, False)}
        return {
            **given,
            "agent_id": str(self.agent_id).upper(),
            "payload": dict(self.payload),
            "depends_on": list(self.depends_on),
        }


@dataclass(frozen=True)
class Delegate:
    """Returned by a handler instead of a result: create `children`, and run the handler again when they have ended.

    Meanwhile no worker holds the task, and the attempt does not count. Run again, the handler finds the children's
    results in `ctx.children`, and `then`, which is JSON, in `ctx.then`; it may delegate again. The children are checked
    first: one of an unknown type, or with a payload that does not fit, fails the task.
    """

    children: Sequence[ChildTask]
    then: Any = None


Outcome = TaskResult | Snooze | Delegate
HandlerFunction = Callable[..., Outcome | Awaitable[Outcome]]
_Function = TypeVar("_Function", bound=HandlerFunction)


@dataclass(frozen=True)
class TaskType:
    """One task type of one agent: its payload model, its time limit and the function that does the work.

    With `evidence` "none" its results need not rest on anything that was read: it does something, and finds nothing.
    """

    agent_id: AgentId
    name: str
    description: str
    payload: type[Payload]
    timeout_seconds: int
    function: HandlerFunction
    evidence: EvidenceRule = "required"
    resources: Callable[[], AbstractAsyncContextManager[Any]] | None = None
    """The agent's `resources`, if it has any."""

    @cached_property
    def is_async(self) -> bool:
        """Whether its function is a coroutine function; others run on a thread."""
        return inspect.iscoroutinefunction(self.function)

    def __str__(self) -> str:
        """As claims and workers name it."""
        return f"{self.agent_id.value} {self.name}"

    @property
    def schema(self) -> dict[str, Any]:
        """The payload's JSON Schema."""
        return self.payload.model_json_schema()

    def parse(self, payload: dict[str, Any]) -> Payload:
        """Turn a raw payload into its model, or raise `InvalidPayload` naming each field that does not fit.

        By JSON's own types, as the schema says: a text is not taken for a number.
        """
        try:
            return self.payload.model_validate_json(to_json(payload), strict=True)
        except ValidationError as error:
            if error.error_count() > MAX_PROBLEMS:  # listing them all would take its time
                raise InvalidPayload(
                    f"invalid payload for {self.agent_id} {self.name}: {error.error_count():,} mistakes"
                ) from error
            problems = [
                {"field": ".".join(map(str, e["loc"])) or "payload", "message": e["msg"]}
                for e in error.errors(include_url=False, include_input=False)
            ]
            said = "; ".join(f"{p['field']}: {p['message']}" for p in problems)
            known = ", ".join(self.payload.model_fields)
            raise InvalidPayload(
                f"invalid payload for {self.agent_id} {self.name}: {said} (fields: {known})", problems
            ) from error


def handler(
    task_type: str, *, timeout_seconds: int = 120, evidence: EvidenceRule = "required"
) -> Callable[[_Function], _Function]:
    """Declare a method as the handler of `task_type`.

    The method takes `(self, task: Task, payload: P, ctx: TaskContext)`, where `P` is a subclass of `Payload`, and
    returns a `TaskResult`, a `Snooze` or a `Delegate`; it may be `async`. A plain function runs on a thread of its own,
    so that it may be slow. An async one runs on an event loop that handlers share, on a thread of the runtime's: open
    clients, pools and locks in `Agent.resources` or in the handler, not on another loop. Its docstring's first line
    describes the task type. After `timeout_seconds` the run fails as `timeout`. A result without evidence is refused,
    unless `evidence` is "none".
    """

    if evidence not in get_args(EvidenceRule):
        raise ConfigurationError(f"evidence of {task_type!r} must be one of {get_args(EvidenceRule)}, not {evidence!r}")

    def mark(function: _Function) -> _Function:
        function.__zora_handler__ = (task_type, timeout_seconds, evidence)  # type: ignore[attr-defined]
        return function

    return mark


class Agent:
    """Base of the agents. A subclass names its `agent_id` and has handlers; it holds no state between tasks."""

    agent_id: ClassVar[AgentId]

    @asynccontextmanager
    async def resources(self) -> AsyncIterator[Any]:
        """Override to open what async handlers share, such as an HTTP client or a connection pool.

        What it yields is `ctx.resources` in every handler of the agent. It is entered on the handlers' event loop
        before the first task that needs it, within that task's time limit, and left when the worker stops. If it
        raises, that task fails with the error, and the next one tries again. It is entered once per event loop: a
        worker has a second loop while a handler blocks the first.
        """
        yield None

    def task_types(self) -> Iterator[TaskType]:
        """Every task type this class handles, in the order of its methods."""
        for _, method in inspect.getmembers(type(self), inspect.isfunction):
            if not hasattr(method, "__zora_handler__"):
                continue
            name, timeout_seconds, evidence = method.__zora_handler__
            yield TaskType(
                agent_id=AgentId(self.agent_id),
                name=name,
                description=(inspect.getdoc(method) or "").split("\n", 1)[0],
                payload=_payload_model(method),
                timeout_seconds=timeout_seconds,
                function=method.__get__(self),
                evidence=evidence,
                resources=None if type(self).resources is Agent.resources else self.resources,
            )

    async def handle_task(self, task: Task, ctx: TaskContext) -> Outcome:
        """Dispatch `task` to its handler.

        Raises `UnknownTaskType` or `InvalidPayload` before any work is done.
        """
        return await run_handler(Registry([self]).find(task.agent_id, task.task_type), task, ctx)


async def run_handler(task_type: TaskType, task: Task, ctx: TaskContext) -> Outcome:
    """Run the handler of `task_type` with the task's payload as its model."""
    payload = task_type.parse(task.payload)
    if task_type.is_async:
        result = await cast("Awaitable[Outcome]", task_type.function(task, payload, ctx))
    else:
        result = await ctx.in_thread(cast("Callable[..., Outcome]", task_type.function), task, payload, ctx)
    if not isinstance(result, Outcome):
        raise TypeError(
            f"{task.agent_id} {task.task_type} returned {type(result).__name__}, not a TaskResult, Snooze or Delegate"
        )
    return result


class Registry:
    """Which handler serves which agent and task type."""

    def __init__(self, agents: Iterable[Agent]) -> None:
        """Collect the task types of `agents`; two handlers for the same agent and type are an error."""
        self._types: dict[tuple[str, str], TaskType] = {}
        for agent in agents:
            self.add(agent)

    def add(self, agent: Agent) -> None:
        """Add the task types of an agent, or raise `ConfigurationError` and add none."""
        added: dict[tuple[str, str], TaskType] = {}
        for task_type in agent.task_types():
            key = (task_type.agent_id.value, task_type.name)
            there = self._types.get(key) or added.get(key)
            if there is not None:
                owners = (getattr(there.function, "__self__", there.function), agent)
                first, second = (f"{type(one).__module__}.{type(one).__qualname__}" for one in owners)
                raise ConfigurationError(f"two handlers for {key[0]} {key[1]}: {first} and {second}")
            added[key] = task_type
        self._types |= added

    def __iter__(self) -> Iterator[TaskType]:
        """All task types, by agent and name."""
        return iter(sorted(self._types.values(), key=lambda t: (list(AgentId).index(t.agent_id), t.name)))

    def names(self) -> list[str]:
        """The names of all task types."""
        return [task_type.name for task_type in self]

    def select(self, agents: Iterable[str], types: Iterable[str]) -> list[TaskType]:
        """The task types of these agents and with these names; none named is all.

        Raises `ConfigurationError` for a name that is unknown, and when no task type has both.
        """
        wanted_agents, wanted_types = {name.upper() for name in agents}, set(types)
        for what, wanted, known in (
            ("agent", wanted_agents, [agent.value for agent in AgentId]),
            ("task type", wanted_types, [t.name for t in self]),
        ):
            if unknown := wanted - set(known):
                raise ConfigurationError(f"unknown {what} {sorted(unknown)[0]!r} (known: {', '.join(sorted(known))})")
        selected = [
            t
            for t in self
            if (not wanted_agents or t.agent_id.value in wanted_agents) and (not wanted_types or t.name in wanted_types)
        ]
        if not selected:
            raise ConfigurationError(
                f"none of the agents {', '.join(sorted(wanted_agents)) or '(any)'} has a task type "
                f"{', '.join(sorted(wanted_types)) or '(any)'}: there would be nothing to run"
            )
        return selected

    def find(self, agent_id: str, task_type: str) -> TaskType:
        """The task type, or `UnknownTaskType` naming those that the agent knows."""
        found = self._types.get((agent_id, task_type))
        if found is None:
            known = ", ".join(t.name for t in self if t.agent_id == agent_id) or "none"
            raise UnknownTaskType(f"unknown task type {task_type!r} for {agent_id} (known: {known})")
        return found


def _payload_model(method: Callable[..., Any]) -> type[Payload]:
    """The payload model from the annotation of the handler's second argument after `self`."""
    parameters = list(inspect.signature(method).parameters)
    where = f"handler {method.__qualname__}"
    if len(parameters) != 4:
        raise ConfigurationError(f"{where} must take (self, task, payload, ctx), not {tuple(parameters)}")
    annotation = inspect.get_annotations(method).get(parameters[2])
    if isinstance(annotation, str):
        annotation = eval(annotation, method.__globals__)
    if not (isinstance(annotation, type) and issubclass(annotation, Payload)):
        raise ConfigurationError(f"{where} must annotate its payload with a subclass of Payload, not {annotation!r}")
    return annotation
