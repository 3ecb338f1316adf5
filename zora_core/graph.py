"""Graphs of tasks: their order, and payloads that refer to the results of other tasks.

A payload refers with an object `{"$result": NAME, "path": PATH}` to the result of the task called NAME, on which it
depends; PATH leads into it, keys and positions separated by dots, such as `findings.0.title`, or, with `*` for each
element of a list, `findings.*.title`. A `default` in the object stands there when there is nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic_core import to_json

from zora_core.errors import InvalidInput, InvalidPayload

REFERENCE = "$result"
MAX_RESOLVED_BYTES = 20_000_000  # of JSON that the references of one payload stand for: four results of full size
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


def resolve(payload: Any, results: Mapping[str, Any], max_bytes: int = MAX_RESOLVED_BYTES) -> Any:
    """The payload with each reference replaced by what it refers to.

    Raises `InvalidPayload` naming the reference that leads to nothing and has no default, or the one with which the
    references stand for more than `max_bytes` of JSON.
    """
    return _Resolving(results, max_bytes).resolve(payload)


class _Resolving:
    """Resolves one payload, and counts what its references stand for: each may be the whole of a large result."""

    def __init__(self, results: Mapping[str, Any], max_bytes: int) -> None:
        self._results = results
        self._max_bytes = self._left = max_bytes
        self._found: dict[tuple[str, str], tuple[Any, int]] = {}

    def resolve(self, payload: Any) -> Any:
        if isinstance(payload, list):
            return [self.resolve(value) for value in payload]
        if not isinstance(payload, dict):
            return payload
        if REFERENCE not in payload:
            return {name: self.resolve(value) for name, value in payload.items()}
        name, path = payload[REFERENCE], str(payload.get("path", ""))
        if (name, path) not in self._found:
            value = _at(self._results.get(name), path.split(".") if path else [])
            self._found[name, path] = value, len(to_json(value))
        value, size = self._found[name, path]
        if value in (None, []):
            if "default" not in payload:
                raise InvalidPayload(f"the result of {name!r} has nothing at {path!r}: give the reference a default")
            return payload["default"]
        self._left -= size
        if self._left < 0:
            raise InvalidPayload(
                f"the references of the payload stand for more than {self._max_bytes:,} bytes of JSON, with {name!r} "
                f"at {path!r}: refer to smaller parts of results by `path`"
            )
        return value


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
