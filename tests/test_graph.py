"""Graphs of tasks: their order, cycles by name, and references to results."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.errors import InvalidInput, InvalidPayload
from zora_core.graph import ordered, references, resolve


def node(key: str, *depends_on: Any, payload: Any = None) -> dict[str, Any]:
    return {"key": key, "depends_on": list(depends_on), "payload": payload or {}}


def keys(*tasks: dict[str, Any]) -> str:
    return "".join(task["key"] for task in ordered(tasks))


def test_tasks_stand_after_what_they_depend_on_and_else_in_their_order() -> None:
    assert keys(node("c", "a"), node("a"), node("b")) == "abc"
    assert keys(node("d", {"key": "b", "on_failure": "skip"}), node("b"), node("a")) == "bad"


@given(st.lists(st.sets(st.integers(0, 19), max_size=4), max_size=20), st.randoms())
def test_every_graph_without_a_cycle_is_put_in_order(edges: list[set[int]], random: Any) -> None:
    tasks = [node(str(n), *(str(m) for m in upstream if m < n)) for n, upstream in enumerate(edges)]
    random.shuffle(tasks)
    seen: set[str] = set()
    for task in ordered(tasks):
        assert set(task["depends_on"]) <= seen
        seen.add(task["key"])
    assert len(seen) == len(tasks)


def test_what_is_no_graph_is_told_by_name() -> None:
    for tasks, message in (
        ([node("a", "c"), node("b", "a"), node("c", "b")], r"depend on one another: \w → \w → \w → \w"),
        ([node("a", "a")], "depend on one another: a → a"),
        ([node("a", "z")], "'a' depends on 'z', and no task is called so"),
        ([node("a"), node("a")], "two tasks have the key 'a'"),
        (
            [node("a"), node("b", payload={"x": {"$result": "a"}})],
            "'b' refers to 'a', on which the task does not depend",
        ),
        ([node("a"), node("b", "a", payload={"x": {"$result": "a", "pth": "y"}})], "a reference has"),
    ):
        with pytest.raises(InvalidInput, match=message):
            ordered(tasks)


RESULTS = {"audit": {"findings": [{"title": "Old"}, {"title": "Older"}], "result": {"count": 0}}, "gone": None}


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"$result": "audit", "path": "findings.1.title"}, "Older"),
        ({"$result": "audit", "path": "result.count"}, 0),
        ({"$result": "audit", "path": "findings"}, RESULTS["audit"]["findings"]),  # type: ignore[index]
        ({"$result": "audit"}, RESULTS["audit"]),
        ({"$result": "audit", "path": "findings.*.title"}, ["Old", "Older"]),
        ({"$result": "gone", "path": "findings", "default": []}, []),
        ({"$result": "audit", "path": "findings.7", "default": None}, None),
    ],
)
def test_a_reference_is_replaced_by_what_it_leads_to(reference: dict[str, Any], value: Any) -> None:
    payload = {"page": "climate", "deep": [{"here": reference}]}
    assert [name for name, _ in references(payload)] == [reference["$result"]]
    assert resolve(payload, RESULTS) == {"page": "climate", "deep": [{"here": value}]}


def test_many_references_to_a_large_result_are_refused() -> None:
    results = {"audit": {"result": [*range(10_000)], "text": "x" * 1_000_000}}
    for path, said in (("result", "more than 2,000,000 values"), ("text", "more than 50,000,000 characters")):
        with pytest.raises(InvalidPayload, match=said):
            resolve({"x": [{"$result": "audit", "path": path}] * 1_000}, results)


@pytest.mark.parametrize("path", ["nothing", "findings.2", "findings.title", "findings.0.title.x"])
def test_a_reference_that_leads_nowhere_is_told(path: str) -> None:
    with pytest.raises(InvalidPayload, match=f"the result of 'audit' has nothing at '{path}'"):
        resolve({"x": {"$result": "audit", "path": path}}, RESULTS)
