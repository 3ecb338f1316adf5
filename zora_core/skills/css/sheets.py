"""Style sheets as a flat list of rules: nesting resolved, conditions answered, cascade layers in order.

CSS Syntax 3, CSS Nesting 1, CSS Cascade 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import tinycss2

from zora_core.skills.css.conditions import media_applies, supports
from zora_core.skills.css.selectors import Nodes, Selector, parse_selectors, valid_selectors
from zora_core.skills.css.shorthands import expand
from zora_core.skills.css.values import bare, split, text_of, tokens_too_deep, too_deep

MAX_RULES = 20_000
MAX_CSS_CHARACTERS = 2_000_000
_MAX_NESTING = 16
_MAX_SELECTOR_CHARACTERS = 4_000
# No value without an image in it is as long.
_MAX_VALUE_CHARACTERS = 10_000

Layer = tuple[str, ...]


class Declaration(NamedTuple):
    """A longhand and its value; `via` names the shorthand that it was written as."""

    name: str
    value: str
    important: bool
    via: str


@dataclass(frozen=True, eq=False)
class Rule:
    """A style rule that may apply to the page.

    `certain` is false below a condition that cannot be told; `order` counts the declarations before the rule.
    """

    selectors: list[Selector]
    declarations: list[Declaration]
    layer: Layer
    certain: bool
    order: int


@dataclass(frozen=True)
class _Place:
    """Where a rule stands: the selector around it, its layer, and whether all conditions around it are known."""

    parent: str = ""
    prelude: Sequence[Any] = ()
    layer: Layer = ()
    certain: bool = True
    depth: int = 0


class Sheets:
    """The rules of all style sheets of a page, in order of appearance."""

    def __init__(self, nodes: Nodes) -> None:
        self.rules: list[Rule] = []
        self.media_rules: list[tuple[str, str]] = []
        self.keyframes: dict[str, set[str]] = {}
        self.registered: dict[str, tuple[bool, str | None]] = {}
        self.complete = True
        self._nodes = nodes
        self._layers: dict[Layer, int] = {}
        self._nameless = 0
        self._declarations = 0

    def add(self, css: str) -> None:
        """Read one style sheet."""
        if len(css) > MAX_CSS_CHARACTERS:
            self.complete = False
        found = tinycss2.parse_stylesheet(css[:MAX_CSS_CHARACTERS], skip_comments=True, skip_whitespace=True)
        if too_deep(css):
            kept = [rule for rule in found if not tokens_too_deep(rule)]
            self.complete = self.complete and len(kept) == len(found)
            found = kept
        self._walk(found, _Place())

    def layer_ranks(self) -> dict[Layer, int]:
        """How strong each layer is among normal declarations: later ones win, unlayered rules beat them all."""
        children: dict[Layer, list[Layer]] = {}
        for layer in self._layers:
            children.setdefault(layer[:-1], []).append(layer)
        ranks: dict[Layer, int] = {}
        stack: list[tuple[Layer, bool]] = [((), False)]
        while stack:
            layer, seen = stack.pop()
            if seen:
                ranks[layer] = len(ranks)
                continue
            stack.append((layer, True))
            stack.extend((child, False) for child in reversed(children.get(layer, [])))
        return ranks

    def _walk(self, nodes: Iterable[Any], place: _Place) -> None:
        if place.depth > _MAX_NESTING:
            self.complete = False
            return
        run: list[Declaration] = []
        for node in nodes:
            if node.type == "declaration":
                run.extend(declared(node))
                continue
            self._rule(run, place)
            run = []
            if node.type == "qualified-rule":
                self._style_rule(node, place)
            elif node.type == "at-rule":
                self._at_rule(node, place)
        self._rule(run, place)

    def _style_rule(self, node: Any, place: _Place) -> None:
        prelude, tokens = text_of(node.prelude), node.prelude
        if "&" in prelude or place.parent:
            prelude = nested(node.prelude, place.parent)
            tokens = tinycss2.parse_component_value_list(prelude, skip_comments=True)
        if len(prelude) > _MAX_SELECTOR_CHARACTERS:
            self.complete = False
            return
        inside = _Place(prelude, tokens, place.layer, place.certain, place.depth + 1)
        content = tinycss2.parse_blocks_contents(node.content, skip_comments=True, skip_whitespace=True)
        # Rules inside a rule whose own selector is invalid are dropped with it.
        if all(inner.type == "declaration" for inner in content) or valid_selectors(node.prelude):
            self._walk(content, inside)

    def _rule(self, declarations: list[Declaration], place: _Place) -> None:
        if not declarations or not place.parent:
            return
        if len(self.rules) >= MAX_RULES:
            self.complete = False
            return
        selectors = parse_selectors(place.prelude, self._nodes.present)
        if selectors:
            self.rules.append(Rule(selectors, declarations, place.layer, place.certain, self._declarations))
            self._declarations += len(declarations)

    def _at_rule(self, node: Any, place: _Place) -> None:
        name, condition = node.lower_at_keyword, text_of(node.prelude)
        if name == "layer":
            self._layer(node, condition, place)
        elif name == "import":
            self.complete = False
        elif node.content is None:
            return
        elif name == "media":
            self.media_rules.append((condition.lower(), tinycss2.serialize(node.content)))
            if media_applies(condition):
                self._inner(node, place, place.certain)
        elif name == "supports":
            answer = supports(condition)
            if answer is not False:
                self._inner(node, place, place.certain and answer is True)
        elif name in {"container", "scope"}:
            self._inner(node, place, False)
        elif name.endswith("keyframes"):
            self._keyframes(node, condition)
        elif name == "property":
            self._property(node, condition)

    def _inner(self, node: Any, place: _Place, certain: bool, layer: Layer | None = None) -> None:
        inner = tinycss2.parse_blocks_contents(node.content, skip_comments=True, skip_whitespace=True)
        inside = replace(place, layer=place.layer if layer is None else layer, certain=certain, depth=place.depth + 1)
        self._walk(inner, inside)

    def _layer(self, node: Any, names: str, place: _Place) -> None:
        listed = [text_of(part) for part in split(node.prelude, ",")] if names else [""]
        for name in listed:
            self._nameless += not name
            path = tuple(name.split(".")) if name else (f"\0{self._nameless}",)
            for length in range(1, len(path) + 1):
                self._layers.setdefault((*place.layer, *path[:length]), len(self._layers))
            if node.content is not None and len(listed) == 1:
                self._inner(node, place, place.certain, (*place.layer, *path))

    def _keyframes(self, node: Any, name: str) -> None:
        changed = self.keyframes.setdefault(name.strip("\"'").lower(), set())
        for step in tinycss2.parse_blocks_contents(node.content, skip_comments=True, skip_whitespace=True):
            if step.type == "qualified-rule":
                for inner in tinycss2.parse_blocks_contents(step.content, skip_comments=True, skip_whitespace=True):
                    if inner.type == "declaration":
                        changed.update(name for name, *_ in declared(inner))

    def _property(self, node: Any, name: str) -> None:
        inside = tinycss2.parse_blocks_contents(node.content, skip_comments=True, skip_whitespace=True)
        said = {inner.lower_name: text_of(inner.value) for inner in inside if inner.type == "declaration"}
        self.registered[name] = (said.get("inherits", "true").lower() != "false", said.get("initial-value"))


def declared(node: Any) -> list[Declaration]:
    """The longhands that a declaration sets; none where a browser drops it."""
    value = text_of(node.value)
    if len(value) > _MAX_VALUE_CHARACTERS and "url(" not in value:
        return []
    if node.name.startswith("--"):
        return [Declaration(node.name, value, node.important, "")]
    name = node.lower_name
    found = expand(name, value)
    if found is None:
        return []
    return [Declaration(long, part, node.important, name if long != found[0][0] else "") for long, part in found]


def declarations_of(style: str) -> list[Declaration]:
    """The longhands that a style attribute sets."""
    if too_deep(style):
        return []
    nodes = tinycss2.parse_blocks_contents(style, skip_comments=True, skip_whitespace=True)
    return [part for node in nodes if node.type == "declaration" for part in declared(node)]


def nested(prelude: Sequence[Any], parent: str) -> str:
    """The selectors of a nested rule with `&` put in (CSS Nesting 1, 3); without a parent, `&` is the root."""
    parent_tokens = tinycss2.parse_component_value_list(parent) if parent else []
    simple = bool(parent) and len(split(parent_tokens, ",")) == 1
    around = f":is({parent})" if parent else ":root"
    found = []
    for part in split(list(prelude), ","):
        tokens = bare(part)
        if not tokens:
            continue
        uses = _ampersands(part)
        text = text_of(part)
        starts = tokens[0].type == "literal" and tokens[0].value == "&"
        if not uses:
            text = f"{parent if simple else around} {text}" if parent else text
        elif simple and uses == 1 and starts and not re.match(r"&\s*(\w|\\)", text):
            text = parent + text[1:]
        else:
            text = _replaced(part, around)
            if tokens[0].type == "literal" and tokens[0].value in {">", "+", "~"}:
                text = f"{around} {text}"
        found.append(text)
    return ", ".join(found)


def _ampersands(tokens: Sequence[Any]) -> int:
    count = 0
    for token in tokens:
        if token.type == "literal" and token.value == "&":
            count += 1
        elif token.type == "function":
            count += _ampersands(token.arguments)
    return count


def _replaced(tokens: Sequence[Any], around: str) -> str:
    parts = []
    for token in tokens:
        if token.type == "literal" and token.value == "&":
            parts.append(around)
        elif token.type == "function":
            parts.append(f"{token.name}({_replaced(token.arguments, around)})")
        else:
            parts.append(tinycss2.serialize([token]))
    return "".join(parts).strip()
