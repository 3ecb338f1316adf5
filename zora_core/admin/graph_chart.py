"""The graph of a workflow's steps, drawn on the server as SVG, with its figures in words as `<title>` and `<desc>`.

It has a natural size, so that what is around it must scroll.

Its classes, besides those that all charts have (see `charts.py`): `c-graph`; `c-node` and `c-node-STATUS` (a group), in
it `c-box`; `c-link`; `c-edge` (fill: none) and `c-edge-skip`, `c-edge-continue` (what a failure before it does, if not
fail), `c-arrow`.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from zora_core.admin.svg import drawing, fitted, local_href, nothing, point, tag, text
from zora_core.graph import ordered
from zora_core.wording import count

BOX_WIDTH, BOX_HEIGHT = 208, 66  # of a step
COLUMN_GAP, ROW_GAP = 56, 22  # between steps
LANE = 14  # height of an edge's way past other steps
MAX_LANES = 5_000  # of all edges; above, edges are drawn straight over what lies between
MAX_EDGES = 3_000
MAX_TOLD = 40  # steps that a description names
SWEEPS = 4  # in which the order of steps settles


@dataclass
class _Node:
    """A step, or (`step` is None) the place where an edge passes a layer."""

    step: Mapping[str, Any] | None
    layer: int
    y: float = 0.0

    @property
    def height(self) -> int:
        return LANE if self.step is None else BOX_HEIGHT

    @property
    def x(self) -> float:
        return 1 + self.layer * (BOX_WIDTH + COLUMN_GAP)

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


def workflow_graph(steps: Sequence[Mapping[str, Any]], *, title: str = "Steps and what they wait for") -> Markup:
    """Steps from left to right, each after those that it waits for.

    A step has `key`, `title`, `agent_id`, `task_type`, `depends_on` (keys, or objects with `key` and `on_failure`;
    those of no step here are passed over), and may have `status` and `href`, an address on this server. Raises
    `InvalidInput` for steps that wait for one another, and for two with one key.
    """
    if not steps:
        return nothing("c-graph", title, "There are no steps.")
    keys = {str(step["key"]) for step in steps}
    edges = {
        (source, str(step["key"])): policy for step in steps for source, policy in _upstream(step) if source in keys
    }
    every = len(edges)
    drawn = dict(list(edges.items())[:MAX_EDGES])
    nodes, ways = _laid_out(steps, drawn)
    width = max(node.x for node in nodes.values()) + BOX_WIDTH + 1
    height = max(node.y + node.height for way in [*ways.values(), list(nodes.values())] for node in way) + 1
    body = [_edge(way, drawn[edge]) for edge, way in ways.items()] + [_box(node) for node in nodes.values()]
    told = [_told(step) for step in steps[:MAX_TOLD]]
    told += [f"And {len(steps) - MAX_TOLD} more."] if len(steps) > MAX_TOLD else []
    told += [f"Only {MAX_EDGES} of {every} lines are drawn."] if every > MAX_EDGES else []
    desc = f"{count(len(steps), 'step')}. {' '.join(told)}"
    # What has links in it is no image to those who have it read out: they would not be told of the links.
    role = "group" if any(local_href(step) for step in steps) else "img"
    return drawing("c-graph", width, height, title, desc, body, role=role, natural=True)


def _upstream(step: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (edge, "fail") if isinstance(edge, str) else (str(edge["key"]), str(edge.get("on_failure", "fail")))
        for edge in step.get("depends_on") or ()
    ]


def _laid_out(
    steps: Sequence[Mapping[str, Any]], edges: Mapping[tuple[str, str], str]
) -> tuple[dict[str, _Node], dict[tuple[str, str], list[_Node]]]:
    """Each step's place, and each edge's way: the step it leaves, the lanes through the layers between, its end."""
    before: dict[str, list[str]] = defaultdict(list)
    for source, target in edges:
        before[target].append(source)
    nodes: dict[str, _Node] = {}
    by_key = {str(step["key"]): step for step in steps}
    for found in ordered([{"key": str(step["key"]), "depends_on": before[str(step["key"])]} for step in steps]):
        layer = 1 + max((nodes[name].layer for name in before[found["key"]]), default=-1)
        nodes[found["key"]] = _Node(by_key[found["key"]], layer)
    layers: list[list[_Node]] = [[] for _ in range(1 + max(node.layer for node in nodes.values()))]
    for node in nodes.values():
        layers[node.layer].append(node)

    lanes = sum(nodes[target].layer - nodes[source].layer - 1 for source, target in edges)
    ways = {}
    for source, target in edges:
        between = range(nodes[source].layer + 1, nodes[target].layer) if lanes <= MAX_LANES else range(0)
        passed = [_Node(None, layer) for layer in between]
        for node in passed:
            layers[node.layer].append(node)
        ways[source, target] = [nodes[source], *passed, nodes[target]]
    _order(layers, ways.values())

    tall = [sum(node.height + ROW_GAP for node in layer) - ROW_GAP for layer in layers]
    for layer_nodes, height in zip(layers, tall, strict=True):
        y = 1 + (max(tall) - height) / 2
        for node in layer_nodes:
            node.y = y
            y += node.height + ROW_GAP
    return nodes, ways


def _order(layers: list[list[_Node]], ways: Iterable[list[_Node]]) -> None:
    """Put each layer's nodes by the mean place of their neighbours, forwards and backwards: fewer edges cross."""
    before: dict[int, list[_Node]] = defaultdict(list)
    after: dict[int, list[_Node]] = defaultdict(list)
    for way in ways:
        for source, target in itertools.pairwise(way):
            before[id(target)].append(source)
            after[id(source)].append(target)
    for sweep in range(SWEEPS):
        neighbours = after if sweep % 2 else before
        place = {id(node): (n + 0.5) / len(layer) for layer in layers for n, node in enumerate(layer)}
        for layer in reversed(layers) if sweep % 2 else layers:
            mean = {
                id(node): sum(place[id(n)] for n in near) / len(near) if near else place[id(node)]
                for node in layer
                for near in [neighbours[id(node)]]
            }
            layer.sort(key=lambda node, mean=mean: mean[id(node)])  # type: ignore[misc]
            place |= {id(node): (n + 0.5) / len(layer) for n, node in enumerate(layer)}


def _edge(way: list[_Node], policy: str) -> Markup:
    start, end = way[0], way[-1]
    x, y = start.x + BOX_WIDTH, start.middle
    path = [f"M{point(x, y)}"]
    for node in way[1:]:
        to = node.x - (6 if node is end else 0)
        half = (x + to) / 2
        path.append(f"C{point(half, y)} {point(half, node.middle)} {point(to, node.middle)}")
        x, y = node.x + BOX_WIDTH, node.middle
        if node is not end:
            path.append(f"L{point(x, y)}")
    tip, middle = end.x, end.middle
    arrow = f"M{point(tip - 9, middle - 5)}L{point(tip, middle)}L{point(tip - 9, middle + 5)}Z"
    kind = f"c-edge c-edge-{policy}" if policy in ("skip", "continue") else "c-edge"
    return tag("path", class_=kind, d=" ".join(path), fill="none") + tag("path", class_="c-arrow", d=arrow)


def _box(node: _Node) -> Markup:
    step = node.step
    assert step is not None
    status = str(step.get("status") or "")
    inner, x = BOX_WIDTH - 20, node.x + 10
    name = str(step.get("title") or step["key"])
    who = f"{step['agent_id']} {step['task_type']}"
    third = status.replace("_", " ") or str(step["key"])
    content = [
        tag("title", [f"{name}: {who}" + (f", {status.replace('_', ' ')}" if status else "")]),
        tag("rect", class_="c-box", x=node.x, y=node.y, width=BOX_WIDTH, height=BOX_HEIGHT, rx=8),
        text(x, node.y + 22, fitted(name, inner, 14), 14, kind="c-text c-strong"),
        text(x, node.y + 40, fitted(who, inner, 12), 12, kind="c-text"),
        text(x, node.y + 56, fitted(third, inner, 12), 12, kind="c-text c-small"),
    ]
    kind = f"c-node c-node-{re.sub('[^a-z0-9]+', '-', status.lower()).strip('-')}" if status else "c-node"
    group = tag("g", content, class_=kind)
    href = local_href(step)
    return tag("a", [group], class_="c-link", href=href) if href else group


def _told(step: Mapping[str, Any]) -> str:
    status = str(step.get("status") or "").replace("_", " ")
    after = ", ".join(name for name, _ in _upstream(step))
    said = f"{step['key']}: {step['agent_id']} {step['task_type']}" + (f", {status}" if status else "")
    return said + (f", after {after}." if after else ".")
