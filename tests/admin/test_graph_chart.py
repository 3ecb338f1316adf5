"""Graphs of steps: boxes that do not lie over one another, and edges that pass between them."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.admin.drawings import NASTY, parsed
from zora_core.admin.graph_chart import MAX_EDGES, workflow_graph
from zora_core.admin.svg import text_width
from zora_core.errors import InvalidInput
from zora_core.workflows import shipped, upstream


def step(key: str, *before: Any, **fields: Any) -> dict[str, Any]:
    return {
        "key": key,
        "title": f"Do {key}",
        "agent_id": "SAM",
        "task_type": "review_climate_page",
        "depends_on": list(before),
        **fields,
    }


@st.composite
def graphs(draw: st.DrawFn) -> list[dict[str, Any]]:
    count = draw(st.integers(1, 14))
    found = []
    for n in range(count):
        before = draw(st.lists(st.integers(0, n - 1), max_size=4, unique=True)) if n else []
        found.append(step(f"s{n}", *(f"s{b}" for b in before), title=draw(st.text(min_size=1, max_size=80))))
    return draw(st.permutations(found))


def boxes(root: ElementTree.Element) -> dict[str, tuple[float, float, float, float]]:
    """Left, top, right and bottom of each step's box, by what its title says."""
    found = {}
    for group in root.iter("g"):
        rect, title = group.find("rect"), group.find("title")
        assert rect is not None
        assert title is not None
        x, y, w, h = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        found[f"{title.text} {len(found)}"] = (x, y, x + w, y + h)
        for text in group.iter("text"):
            at, base = float(text.attrib["x"]), float(text.attrib["y"])
            assert x < at
            assert at + text_width(text.text or "", float(text.attrib["font-size"])) <= x + w
            assert y < base < y + h
    return found


@settings(max_examples=60)
@given(graphs())
def test_boxes_do_not_overlap_and_edges_pass_between_them(steps: list[dict[str, Any]]) -> None:
    root = parsed(workflow_graph(steps))
    found = list(boxes(root).values())
    assert len(found) == len(steps)
    for a, b in itertools.combinations(found, 2):
        assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]
    edges = [e for e in root.iter("path") if e.attrib["class"].startswith("c-edge")]
    assert len(edges) == sum(len(s["depends_on"]) for s in steps)
    for edge in edges:
        for x, y in along(edge.attrib["d"]):
            assert not [b for b in found if b[0] + 0.1 < x < b[2] - 0.1 and b[1] < y < b[3]], "through a box"


def along(path: str) -> list[tuple[float, float]]:
    """Points on a path of cubic curves and straight lines."""
    found: list[tuple[float, float]] = []
    for command, numbers in re.findall(r"([MCL])([-\d. ]+)", path):
        values = [float(n) for n in numbers.split()]
        points = list(zip(values[::2], values[1::2], strict=True))
        if command != "C":
            start = found[-1] if found else points[0]
            found += [tuple(a + (b - a) * t / 10 for a, b in zip(start, points[0], strict=True)) for t in range(11)]  # type: ignore[misc]
            continue
        p0, (p1, p2, p3) = found[-1], points
        for n in range(1, 21):
            t = n / 20
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            found.append(
                tuple(sum(w * p[i] for w, p in zip(weights, (p0, p1, p2, p3), strict=True)) for i in (0, 1))  # type: ignore[arg-type]
            )
    return found


def test_each_step_stands_right_of_those_that_it_waits_for() -> None:
    steps = [step("c", "a", "b"), step("b", "a"), step("a"), step("d", {"key": "a", "on_failure": "continue"})]
    root = parsed(workflow_graph(steps))
    left = {name.split(":")[0].removeprefix("Do "): box[0] for name, box in boxes(root).items()}
    assert left["a"] < left["b"] == left["d"] < left["c"]
    assert len(root.findall(".//path[@class='c-edge c-edge-continue']")) == 1
    assert root[1].text is not None
    assert "c: SAM review_climate_page, after a, b." in root[1].text


def test_the_order_within_a_layer_avoids_crossings() -> None:
    steps = [step("a"), step("b"), step("c"), step("x", "c"), step("y", "b"), step("z", "a")]
    top = {name.split(":")[0].removeprefix("Do "): box[1] for name, box in boxes(parsed(workflow_graph(steps))).items()}
    assert sorted("abc", key=top.get) == [{"z": "a", "y": "b", "x": "c"}[n] for n in sorted("xyz", key=top.get)]  # type: ignore[arg-type]


@pytest.mark.parametrize("key", shipped())
def test_the_workflows_that_are_shipped_are_drawn(key: str) -> None:
    workflow = shipped()[key]
    root = parsed(workflow_graph([one.model_dump() for one in workflow.steps]))
    assert len(boxes(root)) == len(workflow.steps)
    edges = root.findall(".//path[@class='c-arrow']")
    assert len(edges) == sum(len(upstream(one)) for one in workflow.steps)


def test_a_status_is_a_class_and_a_word_and_a_link_leads_to_this_server_only() -> None:
    steps = [
        step("a", status="in_progress", href="/admin/tasks/1?x=1&y=2"),
        step("b", status="failed", href="javascript:alert(1)"),
        step("c", href="//evil.example"),
        step("d", href="/\\evil.example"),
        step("e", href="/\t/evil.example"),
        step("f", status=NASTY, href="https://evil.example"),
    ]
    root = parsed(workflow_graph(steps))
    assert [a.attrib["href"] for a in root.iter("a")] == ["/admin/tasks/1?x=1&y=2"]
    kinds = [group.attrib["class"] for group in root.iter("g")]
    assert kinds[:3] == ["c-node c-node-in-progress", "c-node c-node-failed", "c-node"]
    assert "in progress" in [text.text for text in root.iter("text")]


def test_a_graph_that_goes_round_in_circles_is_refused() -> None:
    with pytest.raises(InvalidInput, match="depend on one another"):
        workflow_graph([step("a", "b"), step("b", "a")])
    with pytest.raises(InvalidInput, match="depend on one another"):
        workflow_graph([step("a", "a")])


def test_the_largest_graphs_are_drawn() -> None:
    chain = [step("s0"), *(step(f"s{n}", f"s{n - 1}", "s0") for n in range(1, 1000))]
    assert len(boxes(parsed(workflow_graph(chain)))) == 1000
    dense = [step(f"s{n}", *(f"s{b}" for b in range(n))) for n in range(200)]
    root = parsed(workflow_graph(dense))
    assert root[1].text is not None
    assert f"Only {MAX_EDGES} of 19900 lines are drawn." in root[1].text


def test_a_graph_of_nothing_says_so() -> None:
    root = parsed(workflow_graph([]))
    assert [text.text for text in root.iter("text")] == [root[1].text]


def test_no_text_breaks_out() -> None:
    steps = [step("a", title=NASTY), step("b", "a", title="x", agent_id=NASTY, task_type=NASTY)]
    svg = workflow_graph(steps, title=NASTY)
    parsed(svg)
    assert "<script" not in svg
