"""Graphs of tasks: their order, and payloads that refer to the results of other tasks.

A payload refers with an object `{"$result": NAME, "path": PATH}` to the result of the task called NAME, on which it
depends; PATH leads into it, keys and positions separated by dots, such as `findings.0.title`, or, with `*` for each
element of a list, `findings.*.title`. A `default` in the object stands there when there is nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from zora_core.errors import InvalidInput, InvalidPayload
from zora_core.storable import problem

REFERENCE = "$result"
_KNOWN = {REFERENCE, "path", "default"}


def ordered(tasks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """`tasks` with each after those that it depends on, otherwise in their order.

    Each has a `key`, and `depends_on`: keys, or objects with a `key`. Raises `InvalidInput` naming an unknown key, one
    that stands twice, a cycle, or a reference to a task that is not depended on.
    """
    by_key: dict[str, Mapping[str, Any]] = {}
    for task in tasks:
        if task["key"] in by_key:
            raise InvalidInput(f"two tasks have the key {task['key']!r}")
        by_key[task["key"]] = task
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for key, task in by_key.items():
        upstream = [edge if isinstance(edge, str) else edge["key"] for edge in task.get("depends_on", ())]
        if unknown := [name for name in upstream if name not in by_key]:
            raise InvalidInput(f"the task {key!r} depends on {unknown[0]!r}, and no task is called so")
        for name, _ in references(task.get("payload", {})):
            if name not in upstream:
                raise InvalidInput(f"the payload of {key!r} refers to {name!r}, on which the task does not depend")
        sorter.add(key, *upstream)
    try:
        sorter.prepare()
    except CycleError as error:
        # Told from what is depended on to what depends on it.
        raise InvalidInput(f"these tasks depend on one another: {' → '.join(error.args[1])}") from error
    found = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=list(by_key).index)
        found += [by_key[key] for key in ready]
        sorter.done(*ready)
    return found


def references(payload: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every reference in a payload, with the name it refers to; raises `InvalidInput` for one that is malformed."""
    if isinstance(payload, dict):
        if REFERENCE in payload:
            if not isinstance(payload[REFERENCE], str) or set(payload) - _KNOWN:
                raise InvalidInput(f"a reference has {REFERENCE}, path and default, and nothing else: {payload}")
            yield payload[REFERENCE], payload
            return
        for value in payload.values():
            yield from references(value)
    elif isinstance(payload, list):
        for value in payload:
            yield from references(value)


def resolve(payload: Any, results: Mapping[str, Any]) -> Any:
    """The payload with each reference replaced by what it refers to.

    Raises `InvalidPayload` naming the reference that leads to nothing and has no default, and for a payload that
    becomes too large, as many references to one large result make it.
    """
    resolved = _resolved(payload, results)
    if said := problem(resolved, "the payload with the results it refers to", texts=False):
        raise InvalidPayload(said)
    return resolved


def _resolved(payload: Any, results: Mapping[str, Any]) -> Any:
    if isinstance(payload, list):
        return [_resolved(value, results) for value in payload]
    if not isinstance(payload, dict):
        return payload
    if REFERENCE not in payload:
        return {name: _resolved(value, results) for name, value in payload.items()}
    name, path = payload[REFERENCE], str(payload.get("path", ""))
    value = _at(results.get(name), path.split(".") if path else [])
    if value in (None, []) and "default" not in payload:
        raise InvalidPayload(f"the result of {name!r} has nothing at {path!r}: give the reference a default")
    return payload["default"] if value in (None, []) else value


def _at(value: Any, path: list[str]) -> Any:
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(value, dict):
        return _at(value.get(step), rest)
    if isinstance(value, list) and step == "*":
        return [found for element in value if (found := _at(element, rest)) is not None]
    if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
        return _at(value[int(step)], rest)
    return None
