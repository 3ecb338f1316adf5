"""The CSS cascade: which declared value each element ends up with, from style sheets and style attributes.

Layout is not computed. Rules count as in a 1280-pixel-wide light screen without user preferences.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import tinycss2
from selectolax.lexbor import SelectolaxError

from zora_core.skills.contrast import BLACK, Colour, parse_colour
from zora_core.skills.dom import Document, Element

VIEWPORT_PX = 1280
MAX_RULES = 5_000
MAX_CSS_CHARACTERS = 1_000_000

_LENGTH = re.compile(r"(-?\d*\.?\d+)(px|pt|em|rem|%|vw|vh|ex|ch)?\Z")
_WIDTH = re.compile(r"\(\s*(min|max)-width\s*:\s*(\d*\.?\d+)(px|em|rem)\s*\)")
_CONDITION = re.compile(r"\([^()]*\)")
_VARIABLE = re.compile(r"var\(\s*(--[\w-]+)\s*(?:,([^()]*))?\)")
# Selectors that depend on what a reader does, or that style something other than the element.
_DYNAMIC = re.compile(
    r":{1,2}(hover|focus[\w-]*|active|visited|target|before|after|placeholder|selection|marker|-\w[\w-]*)", re.I
)

_FONT_SIZES = {
    "xx-small": 9.0, "x-small": 10.0, "small": 13.0, "medium": 16.0, "large": 18.0, "x-large": 24.0, "xx-large": 32.0,
}  # fmt: skip
_TAG_FONT_SCALE = {
    "h1": 2.0, "h2": 1.5, "h3": 1.17, "h4": 1.0, "h5": 0.83, "h6": 0.67,
    "small": 5 / 6, "sub": 5 / 6, "sup": 5 / 6, "big": 1.2,
}  # fmt: skip
_FORM_FIELDS = frozenset({"button", "input", "select", "textarea"})
_BOLD_TAGS = frozenset({"b", "strong", "th", "h1", "h2", "h3", "h4", "h5", "h6"})
_NOT_DISPLAYED = frozenset(
    {"head", "script", "style", "template", "noscript", "title", "meta", "link", "datalist", "param", "source", "track"}
)


@dataclass(frozen=True)
class Declared:
    """A declared value and what decides between it and others."""

    value: str
    important: bool
    rank: tuple[int, int, tuple[int, int, int], int]


@dataclass
class Style:
    """What an element ends up with: inherited values resolved, the others as declared."""

    declared: dict[str, Declared]
    displayed: bool
    visible: bool
    font_px: float
    weight: int
    colour: Colour | None
    variables: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """The declared value in lower case with variables put in, or an empty string."""
        found = self.declared.get(name)
        return resolve_variables(found.value, self.variables).strip().lower() if found else ""


class Styles:
    """The styles of every element of a document."""

    def __init__(self, document: Document, sheets: Mapping[str, str] | None = None) -> None:
        """Apply the document's style sheets; `sheets` holds linked ones by the `href` that names them."""
        self.media_rules: list[tuple[str, str]] = []
        self.focus_rules: list[tuple[str, str]] = []
        self._declared: dict[Element, dict[str, Declared]] = {}
        self._order = 0
        self._rules = 0
        for element in document.elements:
            if element.tag == "style" and _media_applies(element.get("media")):
                self._sheet(document, "".join(c for c in element.children if isinstance(c, str)))
            elif (
                element.tag == "link"
                and "stylesheet" in element.get("rel").lower()
                and _media_applies(element.get("media"))
            ):
                self._sheet(document, (sheets or {}).get(element.get("href"), ""))
        for element in document.elements:
            if element.has("style"):
                self._apply([element], element.get("style"), (1, 0, 0), inline=True)
        self._styles: dict[Element, Style] = {}
        for element in document.elements:
            parent = self._styles[element.parent] if element.parent else None
            self._styles[element] = self._resolve(element, parent)

    def __getitem__(self, element: Element) -> Style:
        """The style of an element of this document."""
        return self._styles[element]

    def _sheet(self, document: Document, css: str) -> None:
        rules = tinycss2.parse_stylesheet(css[:MAX_CSS_CHARACTERS], skip_comments=True, skip_whitespace=True)
        for prelude, content in self._qualified(rules):
            self._rules += 1
            if self._rules > MAX_RULES:
                return
            for selector in _split_selectors(prelude):
                if _DYNAMIC.search(selector):
                    if ":focus" in selector and "::" not in selector:
                        self.focus_rules.append((selector, tinycss2.serialize(content)))
                    continue
                try:
                    elements = document.select(re.sub(r":(any-)?link\b", "[href]", selector))
                except SelectolaxError:
                    continue
                if elements:
                    self._apply(elements, content, specificity(selector))

    def _qualified(self, rules: Iterable[Any]) -> Iterator[tuple[str, list[Any]]]:
        for rule in rules:
            if rule.type == "qualified-rule":
                yield tinycss2.serialize(rule.prelude), rule.content
            elif rule.type == "at-rule" and rule.content and rule.lower_at_keyword in {"media", "supports", "layer"}:
                inner = tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True)
                condition = tinycss2.serialize(rule.prelude)
                if rule.lower_at_keyword == "media":
                    self.media_rules.append((condition.strip().lower(), tinycss2.serialize(rule.content)))
                    if not _media_applies(condition):
                        continue
                yield from self._qualified(inner)

    def _apply(
        self,
        elements: Iterable[Element],
        content: str | list[Any],
        weight: tuple[int, int, int],
        *,
        inline: bool = False,
    ) -> None:
        self._order += 1
        for declaration in tinycss2.parse_blocks_contents(content, skip_comments=True, skip_whitespace=True):
            if declaration.type != "declaration":
                continue
            value = tinycss2.serialize(declaration.value).strip()
            rank = (int(declaration.important), int(inline), weight, self._order)
            for element in elements:
                declared = self._declared.setdefault(element, {})
                for name, part in _expand(
                    declaration.lower_name if not declaration.name.startswith("--") else declaration.name, value
                ):
                    if name not in declared or declared[name].rank <= rank:
                        declared[name] = Declared(part, declaration.important, rank)

    def _resolve(self, element: Element, parent: Style | None) -> Style:
        declared = self._declared.get(element, {})
        own = {name: d.value for name, d in declared.items() if name.startswith("--")}
        inherited = parent.variables if parent else {}
        style = Style(declared, True, True, 16.0, 400, BLACK, {**inherited, **own} if own else inherited)
        parent_px = parent.font_px if parent else 16.0
        style.font_px = _font_px(style.get("font-size"), element, parent_px)
        style.weight = _weight(style.get("font-weight"), element, parent.weight if parent else 400)
        style.colour = _text_colour(style, element, parent)
        display = style.get("display")
        hidden_by_markup = (element.has("hidden") and not display) or element.tag in _NOT_DISPLAYED
        style.displayed = (parent.displayed if parent else True) and display != "none" and not hidden_by_markup
        if element.tag == "input" and element.get("type").lower() == "hidden":
            style.displayed = False
        if element.parent and _closed(element.parent) and not _stays_open(element):
            style.displayed = False
        if element.tag == "dialog" and not element.has("open") and not display:
            style.displayed = False
        visibility = style.get("visibility")
        inherited_visible = parent.visible if parent else True
        style.visible = (
            visibility not in {"hidden", "collapse"} if visibility and visibility != "inherit" else inherited_visible
        )
        return style


def specificity(selector: str) -> tuple[int, int, int]:
    """Ids, classes (with attributes and pseudo-classes) and types of a selector; `:where()` counts nothing."""
    selector = re.sub(r":where\([^()]*\)", "", selector)
    bare = re.sub(r"\[[^\]]*\]", ".x", re.sub(r":(is|not|has)\(", " ", selector))
    ids = len(re.findall(r"#[\w-]+", bare))
    classes = len(re.findall(r"(?:\.|(?<!:):(?!:))[\w-]+", bare))
    types = len(re.findall(r"(?:^|[\s>+~(,])[A-Za-z][\w-]*", bare))
    return ids, classes, types


def resolve_variables(value: str, variables: Mapping[str, str]) -> str:
    """Replace `var(--name, fallback)`; gives up after eight rounds, as for variables that name each other."""
    for _ in range(8):
        if "var(" not in value or len(value) > 2_000:
            break
        value = _VARIABLE.sub(lambda m: variables.get(m.group(1), m.group(2) or ""), value)
    return value


def length_px(value: str, font_px: float, percent_of: float | None = None) -> float | None:
    """A CSS length in pixels, or None when it is no plain length. `percent_of` is what 100 % means."""
    found = _LENGTH.match(value.strip().lower())
    if not found:
        return None
    number, unit = float(found.group(1)), found.group(2)
    if unit == "%":
        return None if percent_of is None else number * percent_of / 100
    if unit is None:
        return number if number == 0 else None
    return number * {
        "px": 1.0, "pt": 4 / 3, "em": font_px, "rem": 16.0, "ex": font_px / 2, "ch": font_px / 2,
        "vw": VIEWPORT_PX / 100, "vh": 7.2,
    }[unit]  # fmt: skip


def _split_selectors(prelude: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for place, character in enumerate(prelude):
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append(prelude[start:place])
            start = place + 1
    return [part.strip() for part in [*parts, prelude[start:]] if part.strip()]


def _media_applies(query: str) -> bool:
    """Whether any part of a media query list holds for the assumed screen; conditions not understood do not."""
    return not query.strip() or any(_single_media_applies(part.strip().lower()) for part in query.split(","))


def _single_media_applies(query: str) -> bool:
    words = _CONDITION.sub(" ", query).split()
    if any(word not in {"and", "only", "screen", "all"} for word in words):
        return False
    for condition in _CONDITION.findall(query):
        width = _WIDTH.match(condition)
        if width is None:
            return False
        pixels = float(width.group(2)) * (1 if width.group(3) == "px" else 16)
        if (width.group(1) == "min" and pixels > VIEWPORT_PX) or (width.group(1) == "max" and pixels < VIEWPORT_PX):
            return False
    return True


def _expand(name: str, value: str) -> Iterator[tuple[str, str]]:
    """Shorthands as the longhands that are read here."""
    yield name, value
    if name == "background":
        yield "background-image", value if "url(" in value or "gradient(" in value else "none"
        yield "background-color", _colour_part(value)
    elif name == "font":
        size = re.search(
            r"(?<![\w.])(\d*\.?\d+(?:px|pt|em|rem|%)|xx?-small|small|medium|large|xx?-large)(?=[\s/])", value
        )
        if size:
            yield "font-size", size.group(1)
            weight = re.match(r".*?\b(bold|[1-9]00)\b", value[: size.start()])
            yield "font-weight", weight.group(1) if weight else "normal"
    elif name == "overflow":
        yield "overflow-x", value.split()[0] if value else ""
        yield "overflow-y", value.split()[-1] if value else ""


def _colour_part(background: str) -> str:
    """The colour within a `background` shorthand; the initial value where it names none."""
    for token in tinycss2.parse_component_value_list(background, skip_comments=True):
        text: str = tinycss2.serialize([token])
        if token.type in {"ident", "hash"} or (
            token.type == "function" and token.lower_name not in {"url", "image-set"}
        ):
            if token.type == "function" and token.lower_name == "var":
                return text
            if "gradient" not in text and parse_colour(text) is not None:
                return text
            if token.type == "function" and "gradient" not in text:
                return text
    return "transparent"


def _font_px(value: str, element: Element, parent_px: float) -> float:
    if not value or value == "inherit":
        if element.tag in _FORM_FIELDS and not value:
            return 13.333
        return parent_px * _TAG_FONT_SCALE.get(element.tag, 1.0)
    if value in _FONT_SIZES:
        return _FONT_SIZES[value]
    if value in {"smaller", "larger"}:
        return parent_px * (5 / 6 if value == "smaller" else 1.2)
    size = length_px(value, parent_px, parent_px)
    return parent_px if size is None else size


def _weight(value: str, element: Element, parent_weight: int) -> int:
    if value.isdigit():
        return int(value)
    if value == "normal" or (not value and element.tag in _FORM_FIELDS):
        return 400
    if value in {"bold", "bolder"} or (not value and element.tag in _BOLD_TAGS):
        return 700
    return 300 if value == "lighter" else parent_weight


def _text_colour(style: Style, element: Element, parent: Style | None) -> Colour | None:
    inherited = parent.colour if parent else BLACK
    value = style.get("color")
    if value in {"inherit", "unset", "currentcolor"}:
        return inherited
    if value == "initial":
        return BLACK
    if value:
        return parse_colour(value, inherited or BLACK)
    if element.tag == "a" and element.has("href"):
        return parse_colour("linktext")
    return BLACK if element.tag in _FORM_FIELDS or element.tag == "mark" else inherited


def _closed(parent: Element) -> bool:
    return parent.tag == "details" and not parent.has("open")


def _stays_open(element: Element) -> bool:
    parent = element.parent
    first = next((e for e in parent.elements if e.tag == "summary"), None) if parent else None
    return element is first
