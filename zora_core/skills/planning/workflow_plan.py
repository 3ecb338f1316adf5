"""A plan for a goal: templates joined into steps with dependencies, proven feasible and put on a time line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zora_core.skills.planning.workflow_goal import Match, find_entities, match_templates, nearest_templates, settings
from zora_core.skills.planning.workflow_schedule import (
    Duration,
    Timing,
    critical_chain,
    critical_path,
    finish_percentiles,
    topological_order,
)

Validate = Callable[[str, str, dict[str, Any]], str | None]


@dataclass
class Step:
    """One task of a plan; `after` are the keys of the steps before it, each with the reason."""

    key: str
    agent_id: str
    task_type: str
    title: str
    payload: dict[str, Any]
    after: dict[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> str | None:
        """The page or address it concerns, if it concerns one."""
        subject = self.payload.get("page") or self.payload.get("url") or self.payload.get("target")
        return subject if isinstance(subject, str) else None


@dataclass
class Plan:
    """What a goal leads to. `left_out` says which task types were wanted and why they are not in the plan.

    Without `steps` nothing fitted or nothing was possible; `nearest` then are templates to choose from. `problems` is
    empty for a plan that is proven feasible.
    """

    goal: str
    matches: list[Match]
    nearest: list[Match]
    steps: list[Step]
    left_out: dict[str, str]
    entities: dict[str, Any]
    problems: list[str]


@dataclass(frozen=True)
class Schedule:
    """Times of a plan in seconds: its steps, the critical path, the finish, and task types whose time is assumed."""

    timings: dict[str, Timing]
    path: list[str]
    durations: dict[str, Duration]
    p50_seconds: float
    p90_seconds: float
    assumed: list[str]


def make_plan(goal: str, page_keys: Sequence[str], agents: Sequence[str], validate: Validate) -> Plan:
    """Plan `goal` with the steps of all templates that fit.

    `page_keys` are the pages there are, `agents` those that may be used (all when empty), and `validate` returns what
    is wrong with (agent, task type, payload), or None. A step that lacks what it needs, whose agent is not allowed, or
    whose payload does not fit is left out with the reason; a goal that fits no template gets no steps.
    """
    matches = match_templates(goal)
    entities = find_entities(goal, page_keys)
    plan = Plan(goal, matches, [] if matches else nearest_templates(goal), [], {}, entities, [])
    templates = {template["key"]: template for template in settings()["templates"]}
    for match in matches:
        template = templates[match.key]
        known = dict(entities)
        if "pages" not in known and "url" not in known and template.get("default_page") in page_keys:
            known |= {"page": template["default_page"], "pages": [template["default_page"]]}
        for task_type in template["steps"]:
            _add(plan, task_type, known, agents, validate)
    del plan.steps[settings()["max_steps"] :]
    for step in plan.steps:
        plan.left_out.pop(step.task_type, None)
    _link(plan.steps)
    plan.problems = prove(plan.steps, agents, validate)
    return plan


def prove(steps: Sequence[Step], agents: Sequence[str], validate: Validate) -> list[str]:
    """What stands against running the steps: a cycle, an unknown dependency, a forbidden agent, an invalid payload."""
    keys = {step.key for step in steps}
    problems = [f"{s.key} waits for unknown {n}" for s in steps for n in s.after if n not in keys]
    problems += [
        f"{s.key} needs {s.agent_id}, who is not allowed" for s in steps if agents and s.agent_id not in agents
    ]
    problems += [
        f"{s.key}: {wrong}" for s in steps if (wrong := validate(s.agent_id, s.task_type, s.payload)) is not None
    ]
    if len(keys) != len(steps):
        problems.append("two steps have the same key")
    elif topological_order({s.key: list(s.after) for s in steps}) is None:
        problems.append("the steps depend on each other in a circle")
    return problems


def schedule(steps: Sequence[Step], history: Sequence[Mapping[str, Any]]) -> Schedule:
    """The time line of feasible steps from `history`, rows as `TaskContext.task_durations()` returns them."""
    assumed = settings()["durations"]
    by_type = {(row["agent_id"], row["task_type"]): row for row in history}
    durations: dict[str, Duration] = {}
    for step in steps:
        row = by_type.get((step.agent_id, step.task_type))
        if row is None or not row["runs"]:
            durations[step.key] = Duration(assumed["p50_seconds"], assumed["p90_seconds"], 0)
            continue
        p50 = max(float(row["p50_seconds"]), 0.001)
        least = p50 * assumed["spread"] if row["runs"] < assumed["least_runs"] else p50
        durations[step.key] = Duration(p50, max(float(row["p90_seconds"]), least), int(row["runs"]))
    after = {step.key: list(step.after) for step in steps}
    timings = critical_path(after, {key: duration.p50 for key, duration in durations.items()})
    p50, p90 = finish_percentiles(after, durations, assumed["draws"])
    path = critical_chain(after, timings)
    unknown = sorted({f"{s.agent_id} {s.task_type}" for s in steps if not durations[s.key].runs})
    return Schedule(timings, path, durations, round(p50, 1), round(p90, 1), unknown)


def definition(plan: Plan) -> dict[str, Any]:
    """The plan as a workflow to be created: key, name, goal and steps with their payloads and dependencies."""
    slug = re.sub(r"[^a-z0-9]+", "-", plan.goal.lower()).strip("-")[:60].strip("-")
    return {
        "key": slug or "workflow",
        "name": plan.goal[:200],
        "steps": [
            {
                "key": step.key,
                "agent_id": step.agent_id,
                "task_type": step.task_type,
                "title": step.title,
                "payload": step.payload,
                "depends_on": list(step.after),
            }
            for step in plan.steps
        ],
    }


def _add(plan: Plan, task_type: str, known: dict[str, Any], agents: Sequence[str], validate: Validate) -> None:
    rule = settings()["steps"][task_type]
    if agents and rule["agent"] not in agents:
        plan.left_out[task_type] = f"{rule['agent']} is not among the allowed agents"
        return
    variant = next((v for v in rule["variants"] if all(need in known for need in v["needs"])), None)
    if variant is None:
        if "instead" in rule and "page" in known:
            _add(plan, rule["instead"], known, agents, validate)
        plan.left_out[task_type] = f"the goal names nothing for it: it wants {rule['wants']}"
        return
    pages = known["pages"] if rule.get("per_page") and "page" in variant["needs"] else [known.get("page")]
    for page in pages:
        values = known | {"page": page}
        values["subject"] = values.get("url") or (f"page {page}" if page else "the goal")
        if "claims" in variant["needs"]:
            values["subject"] = "the goal"
        payload = {name: _fill(value, values) for name, value in variant["payload"].items()}
        if any(s.task_type == task_type and s.payload == payload for s in plan.steps):
            continue
        wrong = validate(rule["agent"], task_type, payload)
        if wrong is not None:
            plan.left_out[task_type] = wrong
            continue
        number = sum(s.task_type == task_type for s in plan.steps) + 1
        key = task_type if number == 1 else f"{task_type}-{number}"
        title = str(_fill(rule["title"], values))[:200]
        plan.steps.append(Step(key, rule["agent"], task_type, title, payload))


def _fill(template: str, values: Mapping[str, Any]) -> Any:
    """Replace `{name}`; a template that is nothing but one keeps the value's type."""
    whole = re.fullmatch(r"\{(\w+)\}", template)
    if whole:
        return values[whole[1]]
    return re.sub(r"\{(\w+)\}", lambda match: str(values[match[1]]), template)


def _link(steps: Sequence[Step]) -> None:
    for rule in settings()["order"]:
        for step in steps:
            if step.task_type != rule["then"]:
                continue
            for first in steps:
                same = None in (first.subject, step.subject) or first.subject == step.subject
                if first is not step and rule["first"] in ("*", first.task_type) and same:
                    step.after.setdefault(first.key, rule["reason"])
