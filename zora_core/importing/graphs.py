"""What a workflow of the original, three tables there, is here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from zora_core.errors import InvalidInput
from zora_core.importing.fields import (
    Context,
    NoPlace,
    Row,
    Taken,
    agent_of,
    base_of,
    flag_of,
    id_of,
    maps,
    number_of,
    object_of,
    optional_text,
    shown,
    text_of,
    word_of,
)
from zora_core.workflows import parse


@maps
def workflow(row: Row, context: Context, steps: Sequence[Row], edges: Sequence[Row]) -> Taken:
    """A workflow with its steps. Steps that wait for an approval become the question before those that come after them.

    `edges` and `steps` are the rows that belong to the workflow.
    """
    if flag_of(row, "is_active") is False:
        raise NoPlace("it is switched off there")
    nodes = {id_of(step): step for step in sorted(steps, key=_order)}
    kinds = {identifier: word_of(step, "step_type") for identifier, step in nodes.items()}
    for identifier, kind in kinds.items():
        if kind not in ("agent_task", "noop", "wait_for_approval"):
            raise NoPlace(f"its step {shown(text_of(nodes[identifier], 'key'))} is of the type {shown(kind)}")
    before = _edges(nodes, edges)
    definition = {
        "key": _slug(text_of(row, "key")),
        "name": text_of(row, "name"),
        "description": optional_text(row, "description") or "",
        "steps": [
            _step(step, context, *_waits(identifier, before, kinds, nodes))
            for identifier, step in nodes.items()
            if kinds[identifier] == "agent_task"
        ],
    }
    try:
        parsed = parse(definition)
        parsed.check(context.registry)
    except InvalidInput as error:
        raise NoPlace(f"it could not run: {error}") from error
    return Taken(
        {
            **base_of(row, "workflows"),
            "key": parsed.key,
            "name": parsed.name,
            "definition": parsed.model_dump(mode="json"),
        }
    )


def _order(step: Row) -> tuple[Decimal, str]:
    return number_of(step.get("order_index")) or Decimal(0), str(step.get("id"))


def _slug(key: str) -> str:
    """A key as ours are: small letters, digits, - and _."""
    return re.sub(r"[^a-z0-9_-]+", "-", key.strip().lower()).strip("-_")


def _edges(nodes: Mapping[str, Row], edges: Sequence[Row]) -> dict[str, dict[str, str]]:
    """For each step those directly before it, with what their failure does; in a row when nothing else is said."""
    before: dict[str, dict[str, str]] = {identifier: {} for identifier in nodes}
    if not edges:
        if all(step.get("order_index") not in (None, "") for step in nodes.values()):
            in_order = list(nodes)
            for first, second in pairwise(in_order):
                before[second][first] = "fail"
        return before
    for edge in edges:
        first, second = id_of(edge, "from_step_id"), id_of(edge, "to_step_id")
        condition = (optional_text(edge, "condition") or "on_success").strip().lower()
        if first not in nodes or second not in nodes:
            raise NoPlace("it has an edge to a step that it does not have")
        if condition not in ("on_success", "always"):
            raise NoPlace(f"it has an edge with the condition {shown(condition)}")
        if before[second].get(first) != "fail":
            before[second][first] = "fail" if condition == "on_success" else "continue"
    return before


def _waits(
    identifier: str, before: Mapping[str, Mapping[str, str]], kinds: Mapping[str, str], nodes: Mapping[str, Row]
) -> tuple[dict[str, str], bool]:
    """The keys of the tasks that a step waits for, through steps that are none, and whether a person is asked first."""
    found: dict[str, str] = {}
    asks = False
    ahead, seen = list(before[identifier].items()), set()
    while ahead:
        earlier, on_failure = ahead.pop()
        if kinds[earlier] == "agent_task":
            key = _slug(text_of(nodes[earlier], "key"))
            found[key] = "fail" if "fail" in (on_failure, found.get(key)) else "continue"
        elif earlier not in seen:
            seen.add(earlier)
            asks = asks or kinds[earlier] == "wait_for_approval"
            ahead += before[earlier].items()
    return found, asks


def _step(step: Row, context: Context, waits: dict[str, str], asks: bool) -> dict[str, Any]:
    task_type = text_of(step, "task_type", 100).strip()
    agent, _ = agent_of(text_of(step, "agent_id", 50), task_type, context)
    return {
        "key": _slug(text_of(step, "key")),
        "agent_id": agent,
        "task_type": task_type,
        "title": text_of(step, "name", 500),
        "description": optional_text(step, "description"),
        "payload": object_of(step, "config"),
        "depends_on": [{"key": key, "on_failure": on_failure} for key, on_failure in sorted(waits.items())],
        "ask_first": asks,
    }
