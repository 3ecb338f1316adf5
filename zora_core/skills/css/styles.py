"""The CSS cascade: which declared value each element ends up with, from style sheets and style attributes.

Layout is not computed. Rules count as in a light screen of 1280 by 720 pixels without user preferences. Where a value
hangs on what cannot be told from the page (a container query, `:valid`, an unknown `@supports`), it is not known, and
says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import cssselect2

from zora_core.skills.css.conditions import media_applies
from zora_core.skills.css.contrast import BLACK, WHITE, Colour, parse_colour
from zora_core.skills.css.selectors import Node, Nodes, Selector
from zora_core.skills.css.sheets import Declaration, Rule, Sheets, declarations_of
from zora_core.skills.css.shorthands import FONT_SIZES, MONOSPACE_SIZES, WIDE, longhand
from zora_core.skills.css.values import length_px, number, substitute
from zora_core.skills.page.dom import Document, Element

__all__ = ["Style", "Styles", "length_px", "specificity"]

_TAG_FONT_SCALE = {
    "h1": 2.0, "h2": 1.5, "h3": 1.17, "h4": 1.0, "h5": 0.83, "h6": 0.67,
    "small": 5 / 6, "sub": 5 / 6, "sup": 5 / 6, "big": 1.2, "rt": 0.5,
}  # fmt: skip
_MONOSPACE = frozenset({"code", "pre", "kbd", "samp", "tt", "xmp", "listing", "plaintext"})
_FONT_ATTRIBUTE = {1: 10.0, 2: 13.0, 3: 16.0, 4: 18.0, 5: 24.0, 6: 32.0, 7: 48.0}
# The text of disabled buttons in Chromium.
_GREYED = Colour(16 / 255, 16 / 255, 16 / 255, 0.3)
_FORM_FIELDS = frozenset({"button", "input", "select", "textarea"})
_BOLD_TAGS = frozenset({"th", "h1", "h2", "h3", "h4", "h5", "h6"})
_NOT_DISPLAYED = frozenset(
    {
        "base", "basefont", "datalist", "head", "link", "meta", "noembed", "noframes", "noscript", "param",
        "rp", "script", "source", "style", "template", "title", "track",
    }
)  # fmt: skip
# Units that depend on the font itself, which is not looked at.
_OF_THE_FONT = re.compile(r"\d(r?ex|r?ch|ic|cap|r?lh)\b")
_RELATIVE_TO_PARENT = re.compile(r"\d(em|ex|ch|%)")
_NEVER_DISPLAYED = frozenset({"script", "style", "noscript", "template"})
# `all` leaves these alone (CSS Cascade 5, 3.2).
_NOT_ALL = frozenset({"direction", "unicode-bidi"})

# Importance, place (presentational hint, sheet, style attribute), layer, specificity, order; the greatest wins.
Rank = tuple[int, int, int, tuple[int, int, int], int]


class Declared(NamedTuple):
    """A declared value and what decides between it and others."""

    value: str
    important: bool
    rank: Rank
    via: str

    @property
    def inline(self) -> bool:
        """Whether a style attribute declares it."""
        return self.rank[1] == 1


class Cascaded:
    """The winners among the declarations of one element, and of its `::before` and `::after`.

    `maybe` holds declarations that win if a condition holds that cannot be told.
    """

    __slots__ = ("declared", "maybe", "pseudo")

    def __init__(self) -> None:
        self.declared: dict[str, Declared] = {}
        self.maybe: dict[str, Declared] = {}
        self.pseudo: dict[str, Cascaded] = {}

    def copy(self) -> Cascaded:
        """A copy that more declarations can be added to."""
        made = Cascaded()
        made.declared, made.maybe = dict(self.declared), dict(self.maybe)
        made.pseudo = {name: part.copy() for name, part in self.pseudo.items()}
        return made

    def add(self, declaration: Declaration, rank: Rank, *, certain: bool = True) -> None:
        """Let a declaration take part."""
        name = declaration.name
        into = self.declared if certain else self.maybe
        held = into.get(name)
        if held is None or held.rank <= rank:
            into[name] = Declared(declaration.value, declaration.important, rank, declaration.via)

    def of(self, pseudo: str) -> Cascaded:
        """The declarations of a pseudo-element, or of the element itself."""
        return self.pseudo.setdefault(pseudo, Cascaded()) if pseudo else self


@dataclass
class Style:
    """What an element ends up with: inherited values resolved, the others as declared.

    `colour` is None where the text's colour cannot be told; `font_known` and `weight_known` say whether size and weight
    can. `scheme_dark` says that the element asks for the dark colour scheme alone.
    """

    declared: dict[str, Declared]
    maybe: dict[str, Declared]
    displayed: bool = True
    visible: bool = True
    font_px: float = 16.0
    font_known: bool = True
    root_px: float = 16.0
    monospace: bool = False
    absolute: bool = False
    keyword: str = "medium"
    weight: int = 400
    colour: Colour | None = BLACK
    scheme_dark: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    before: Style | None = None
    after: Style | None = None
    _values: dict[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """The declared value in lower case with variables put in, or an empty string."""
        found = self._values.get(name)
        if found is None:
            found = self._values[name] = self.raw(name).lower()
        return found

    def raw(self, name: str) -> str:
        """The declared value with variables put in, as it is written; an empty string where none counts."""
        found = self._winner(name, self.declared)
        if found is None:
            return ""
        value = substitute(found.value, self.variables)
        if value is not None and found.via and value is not found.value:
            value = longhand(found.via, name, value.strip())
        if value is None:  # invalid at computed-value time
            return "unset"
        value = value.strip() or "unset"  # variables may come to nothing
        return "" if value.lower() == "revert" else value

    def known(self, name: str) -> bool:
        """Whether the value can be told: nothing that may hold or not would change it."""
        certain, other = self._winner(name, self.declared), self._winner(name, self.maybe)
        if certain is not None and certain.value.lower() == "revert-layer":
            return False
        return other is None or (
            certain is not None and (certain.rank > other.rank or certain.value.lower() == other.value.lower())
        )

    @staticmethod
    def _winner(name: str, among: dict[str, Declared]) -> Declared | None:
        found, everything = among.get(name), among.get("all")
        if everything is None or name in _NOT_ALL or name.startswith("--"):
            return found
        return everything if found is None or everything.rank > found.rank else found

    def length(self, name: str, percent_of: float | None = None) -> float | None:
        """A declared length in pixels; None where it is none."""
        return length_px(self.get(name), self.font_px, percent_of, self.root_px)


class Styles:
    """The styles of every element of a document."""

    def __init__(self, document: Document, sheets: Mapping[str, str] | None = None) -> None:
        """Apply the document's style sheets; `sheets` holds linked ones by the `href` that names them."""
        self._document = document
        self.nodes = Nodes(document)
        self.sheets = Sheets(self.nodes)
        for element in document.elements:
            self._add_sheet(element, sheets or {})
        self._ranks = self.sheets.layer_ranks()
        self._static = _Matcher(self.sheets.rules)
        self._focus = _Matcher(self.sheets.rules, lambda selector: selector.focus)
        self._focus_elsewhere = _Matcher(self.sheets.rules, lambda selector: selector.focus_elsewhere)
        self._variables = _Variables(self.sheets.registered)
        self._shared: dict[tuple[int, ...], Cascaded] = {}
        self._styles: dict[Element, Style] = {}
        root_px = 16.0
        schemes = (e for e in document.with_tag("meta") if e.get("name").strip().lower() == "color-scheme")
        stated = next(schemes, None)
        dark = stated is not None and _only_dark(stated.get("content"))
        for element in document.elements:
            parent = self._styles[element.parent] if element.parent else None
            cascaded = self._cascade(element)
            style = self._styles[element] = _resolved(cascaded, element, parent, root_px, self._variables, dark=dark)
            if parent is None:
                root_px = style.root_px = style.font_px

    def __getitem__(self, element: Element) -> Style:
        """The style of an element of this document."""
        return self._styles[element]

    @property
    def complete(self) -> bool:
        """Whether all style sheets of the page were there and read to their end."""
        return self.sheets.complete

    @property
    def media_rules(self) -> list[tuple[str, str]]:
        """The conditions of `@media` and what stands below each."""
        return self.sheets.media_rules

    def _add_sheet(self, element: Element, sheets: Mapping[str, str]) -> None:
        if element.tag not in {"style", "link"} or not media_applies(element.get("media")):
            return
        if element.closest("template", "noscript"):
            return
        if element.tag == "style" and element.get("type").strip().lower() in {"", "text/css"}:
            self.sheets.add("".join(c for c in element.children if isinstance(c, str)))
        elif element.tag == "link":
            kinds = element.get("rel").lower().split()
            if "stylesheet" not in kinds or "alternate" in kinds or element.has("disabled"):
                return
            css = sheets.get(element.get("href"))
            if css is None:
                self.sheets.complete = False
            else:
                self.sheets.add(css)

    # ---- the cascade

    def _cascade(self, element: Element) -> Cascaded:
        found = self._static.match(self.nodes[element])
        key = tuple(number for number, *_ in found)
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = Cascaded()
            self._apply(shared, found)
        hints = _hints(element)
        if not hints and not element.has("style"):
            return shared
        own = shared.copy()
        for hint in hints:
            own.add(hint, (0, -1, 0, (0, 0, 0), 0))
        for place, declaration in enumerate(declarations_of(element.get("style")) if element.has("style") else ()):
            own.add(declaration, (int(declaration.important), 1, 0, (0, 0, 0), place))
        return own

    def _apply(self, cascaded: Cascaded, matches: Iterable[tuple[int, Rule, Selector]]) -> None:
        for _, rule, selector in matches:
            into = cascaded.of(selector.pseudo)
            strength = self._ranks[rule.layer]
            certain = rule.certain and selector.certain
            for place, declaration in enumerate(rule.declarations, rule.order):
                layer = -strength if declaration.important else strength
                rank = (int(declaration.important), 0, layer, selector.compiled.specificity, place)
                into.add(declaration, rank, certain=certain)

    # ---- the focus

    def focused(self, element: Element) -> Style:
        """The element's style while it has the focus by keyboard."""
        node = self.nodes[element]
        before = self._focus.match(node)
        self.nodes.focus(element, on=True)
        try:
            return self._restyled(node, before)
        finally:
            self.nodes.focus(element, on=False)

    def focused_around(self, element: Element) -> list[tuple[Style, Style]]:
        """Ancestors, siblings and what they contain that the focus on `element` restyles.

        Each with its style without and with the focus.
        """
        node = self.nodes[element]
        around = [(near, self._focus.match(near)) for near in _around(node) if self._focus_elsewhere.may_match(near)]
        self.nodes.focus(element, on=True)
        try:
            return [(self._styles[near.element], self._restyled(near, before)) for near, before in around]
        finally:
            self.nodes.focus(element, on=False)

    def _restyled(self, node: Node, before: list[tuple[int, Rule, Selector]]) -> Style:
        """The style of a node now that the focus is somewhere; the one it had, where no rule for the focus differs."""
        element = node.element
        if self._focus.match(node) == before:
            return self._styles[element]
        parent = self._styles[element.parent] if element.parent else None
        return _resolved(self._cascade(element), element, parent, self._styles[element].root_px, self._variables)


def _around(node: Node) -> list[Node]:
    """The ancestors of a node, its siblings and what is inside it and them, at most a few hundred."""
    near = list(node.ancestors)
    for sibling in node.etree_siblings[max(0, node.index - 20) : node.index + 50]:
        for inner in sibling.iter_subtree():
            if inner is not node:
                near.append(inner)
            if len(near) > 300:
                return near
    return near


class _Matcher:
    """Rules, found for a node by its id, its classes and its tag: all of them, or those with certain selectors."""

    def __init__(self, rules: Iterable[Rule], wanted: Callable[[Selector], bool] = lambda _: True) -> None:
        self._by_key: dict[str, list[tuple[int, Rule, Selector]]] = {}
        self._others: list[tuple[int, Rule, Selector]] = []
        self.size = 0
        for rule in rules:
            for selector in rule.selectors:
                if not wanted(selector) or selector.compiled.never_matches:
                    continue
                self.size += 1
                if not selector.keys:
                    self._others.append((self.size, rule, selector))
                for key in selector.keys:
                    self._by_key.setdefault(key, []).append((self.size, rule, selector))

    def may_match(self, node: Node) -> bool:
        """Whether a rule names the node's id, its tag or one of its classes, or none at all."""
        return bool(self._others) or not self._by_key.keys().isdisjoint(node.names)

    def match(self, node: Node) -> list[tuple[int, Rule, Selector]]:
        """The rules that match in order, each with its number and its selector."""
        if not self.size:
            return []
        around = node.around
        found = {}
        for entries in (self._others, *(self._by_key.get(name, ()) for name in node.names)):
            for entry in entries:
                above = entry[2].above
                if (not above or around is None or above <= around) and entry[2].compiled.test(node):
                    found[entry[0]] = entry
        return [found[number] for number in sorted(found)]


def specificity(selector: str) -> tuple[int, int, int]:
    """Ids, classes (with attributes and pseudo-classes) and types of a selector; `:where()` counts nothing."""
    (compiled,) = cssselect2.compile_selector_list(selector)
    found: tuple[int, int, int] = compiled.specificity
    return found


# ---- computed values


def _resolved(
    cascaded: Cascaded,
    element: Element,
    parent: Style | None,
    root_px: float,
    variables: _Variables,
    *,
    dark: bool = False,
) -> Style:
    style = Style(cascaded.declared, cascaded.maybe, root_px=root_px)
    style.variables = variables.of(cascaded.declared, parent.variables if parent else {})
    style.scheme_dark = _scheme(style, parent, dark)
    _font_size(style, element, parent or Style({}, {}))
    style.weight = _weight(style, element, parent.weight if parent else 400)
    style.colour = _text_colour(style, element, parent)
    _display(style, element, parent)
    for name, part in cascaded.pseudo.items():
        setattr(style, name, _pseudo(part, style, element, variables))
    return style


def _pseudo(part: Cascaded, of: Style, element: Element, variables: _Variables) -> Style:
    style = Style(part.declared, part.maybe, root_px=of.root_px, font_px=of.font_px, font_known=of.font_known)
    style.variables = variables.of(part.declared, of.variables)
    style.scheme_dark, style.colour = of.scheme_dark, of.colour
    if style.get("color") not in {"", "inherit", "unset", "currentcolor"}:
        style.colour = parse_colour(style.get("color"), of.colour or BLACK, of.scheme_dark)
    size = length_px(style.get("font-size"), of.font_px, of.font_px, of.root_px)
    style.font_px = of.font_px if size is None else size
    content = style.get("content")
    style.displayed = of.displayed and style.get("display") != "none" and content not in {"", "none", "normal", *WIDE}
    style.visible = style.get("visibility") not in {"hidden", "collapse"} and (
        of.visible or style.get("visibility") == "visible"
    )
    return style


class _Variables:
    """The computed custom properties of elements; those with the same declarations and ancestors share theirs."""

    def __init__(self, registered: Mapping[str, tuple[bool, str | None]]) -> None:
        self._registered = registered
        # The keys are identities: what they identify is kept beside the result.
        self._known: dict[tuple[int, int], tuple[object, object, Mapping[str, str]]] = {}

    def of(self, declared: Mapping[str, Declared], inherited: Mapping[str, str]) -> Mapping[str, str]:
        """Those declared here with their own variables put in, over the inherited ones."""
        key = (id(declared), id(inherited))
        if key not in self._known:
            self._known[key] = (declared, inherited, self._computed(declared, inherited))
        return self._known[key][2]

    def _computed(self, declared: Mapping[str, Declared], inherited: Mapping[str, str]) -> Mapping[str, str]:
        own = {name: found.value for name, found in declared.items() if name.startswith("--")}
        base: Mapping[str, str] = inherited
        defaults = {
            name: initial
            for name, (inherits, initial) in self._registered.items()
            if initial is not None and (not inherits or name not in inherited)
        }
        if any(inherited.get(name) != value for name, value in defaults.items()):
            base = {**inherited, **defaults}
        if not own:
            return base
        computed: dict[str, str] = dict(base)
        waiting: dict[str, str] = {}
        for name, value in own.items():
            lowered = value.strip().lower()
            if lowered in {"inherit", "unset", "revert", "revert-layer"}:
                continue
            if lowered == "initial":
                computed.pop(name, None)
            elif "var(" in lowered:
                waiting[name] = value
            else:
                computed[name] = value
        _settle(waiting, computed)
        if len(computed) == len(base) and all(base.get(name) == value for name, value in computed.items()):
            return base
        return computed


def _settle(waiting: dict[str, str], computed: dict[str, str]) -> None:
    """Put variables into variables, those first that need no other; variables in a circle have no value."""
    for name in waiting:
        computed.pop(name, None)
    needs = {name: set(_mentioned(value) & waiting.keys()) for name, value in waiting.items()}
    users: dict[str, list[str]] = {}
    for name, needed in needs.items():
        for other in needed:
            users.setdefault(other, []).append(name)
    ready = [name for name, needed in needs.items() if not needed]
    while waiting:
        if not ready:
            for name in _circular(waiting, needs, users):
                del waiting[name]
                for user in users.get(name, ()):
                    needs[user].discard(name)
            ready = [name for name in waiting if not needs[name]]
            continue
        name = ready.pop()
        value = substitute(waiting.pop(name), computed)
        if value is not None:
            computed[name] = value
        for user in users.get(name, ()):
            needs[user].discard(name)
            if user in waiting and not needs[user]:
                ready.append(user)


def _circular(waiting: Mapping[str, str], needs: Mapping[str, set[str]], users: Mapping[str, list[str]]) -> list[str]:
    """The variables in a circle, or between two: what is left when those that no other of them uses are taken away."""
    uses = {name: sum(user in waiting for user in users.get(name, ())) for name in waiting}
    outside = [name for name, count in uses.items() if not count]
    while outside:
        for other in needs[outside.pop()]:
            uses[other] -= 1
            if not uses[other]:
                outside.append(other)
    return [name for name, count in uses.items() if count]


@lru_cache(maxsize=8192)
def _mentioned(value: str) -> frozenset[str]:
    return frozenset(re.findall(r"var\(\s*(--[^\s,)]+)", value, re.I))


def _hints(element: Element) -> list[Declaration]:
    """The presentational attributes of old markup (HTML, 15.3) as declarations below all style sheets."""
    found: list[Declaration] = []
    attributes = element.attrs
    if element.tag in {"body", "table", "thead", "tbody", "tfoot", "tr", "td", "th"}:
        if "bgcolor" in attributes:
            found.append(_hint("background-color", _old_colour(attributes["bgcolor"])))
        if attributes.get("background"):
            found.append(_hint("background-image", "url(background)"))
    if element.tag == "body" and "text" in attributes:
        found.append(_hint("color", _old_colour(attributes["text"])))
    if element.tag == "font":
        if "color" in attributes:
            found.append(_hint("color", _old_colour(attributes["color"])))
        size = re.match(r"\s*([+-]?)(\d)", attributes.get("size", ""))
        if size:
            steps = int(size.group(2))
            place = steps if not size.group(1) else 3 + (steps if size.group(1) == "+" else -steps)
            found.append(_hint("font-size", f"{_FONT_ATTRIBUTE[max(1, min(7, place))]}px"))
    if element.tag == "a" and "href" in attributes:
        body = next((a for a in element.ancestors() if a.tag == "body"), None)
        if body is not None and body.has("link"):
            found.append(_hint("color", _old_colour(body.get("link"))))
    if "hidden" in attributes:
        found.append(_hint("display", "none"))
    return [hint for hint in found if hint.value]


def _hint(name: str, value: str) -> Declaration:
    return Declaration(name, value, False, "")


def _old_colour(value: str) -> str:
    """A colour as old attributes write it: a name, or six digits with or without `#`."""
    value = value.strip()
    if re.fullmatch(r"#?([0-9a-f]{3}|[0-9a-f]{6})", value, re.I):
        return "#" + value.lstrip("#")
    return value if parse_colour(value) is not None else ""


def _scheme(style: Style, parent: Style | None, dark: bool) -> bool:
    value = style.get("color-scheme")
    if not value or value in {"inherit", "unset"}:
        return parent.scheme_dark if parent else dark
    return _only_dark(value)


def _only_dark(scheme: str) -> bool:
    words = set(scheme.lower().split())
    return "dark" in words and "light" not in words


def _monospace(style: Style, element: Element, around: bool) -> bool:
    """Whether the font is `monospace` alone, for which browsers take 13 pixels where another has 16."""
    family = style.get("font-family")
    if not family or family == "revert":
        return element.tag in _MONOSPACE or element.tag == "textarea" or (around and element.tag not in _FORM_FIELDS)
    return around if family in {"inherit", "unset"} else family == "monospace"


def _font_size(style: Style, element: Element, parent: Style) -> None:
    """Set the font's size, whether it can be told, and whether it is absolute: not scaled for `monospace`."""
    value = style.get("font-size")
    style.monospace = _monospace(style, element, parent.monospace)
    zoomed = number(style.get("zoom") or "1") not in {1.0, None}
    known = style.known("font-size") and not zoomed
    style.font_known, style.absolute = known and parent.font_known, parent.absolute
    style.keyword = ""
    if value in {"", "inherit", "unset"}:
        style.font_px = parent.font_px * (_TAG_FONT_SCALE.get(element.tag, 1.0) if not value else 1.0)
        if element.tag in _FORM_FIELDS and not value:
            style.font_px, style.font_known, style.absolute = 13.333, known, True
        elif parent.keyword and (value or element.tag not in _TAG_FONT_SCALE):
            style.keyword = parent.keyword
            style.font_px = (MONOSPACE_SIZES if style.monospace else FONT_SIZES)[style.keyword]
            return
    elif value in FONT_SIZES or value == "initial":
        style.keyword = value.replace("initial", "medium")
        style.font_px = (MONOSPACE_SIZES if style.monospace else FONT_SIZES)[style.keyword]
        style.font_known, style.absolute = known, False
        return
    elif value in {"smaller", "larger"}:
        style.font_px = parent.font_px * (5 / 6 if value == "smaller" else 1.2)
    else:
        size = length_px(value, parent.font_px, parent.font_px, style.root_px)
        relative = _RELATIVE_TO_PARENT.search(value) is not None
        style.font_known = known and size is not None and not _OF_THE_FONT.search(value)
        style.font_known = style.font_known and (parent.font_known or not relative)
        style.font_px = parent.font_px if size is None else max(0.0, size)
        style.absolute = parent.absolute or not relative or "(" in value
    if style.monospace != parent.monospace and not style.absolute:
        style.font_px *= 13 / 16 if style.monospace else 16 / 13


def _weight(style: Style, element: Element, parent_weight: int) -> int:
    value = style.get("font-weight")
    stated = number(value) if value and not value.endswith("%") else None
    if stated is not None:
        return round(max(1.0, min(1000.0, stated)))
    if value in {"normal", "initial"} or (not value and element.tag in _FORM_FIELDS):
        return 400
    if value == "bold" or (not value and element.tag in _BOLD_TAGS):
        return 700
    if value == "bolder" or (not value and element.tag in {"b", "strong"}):
        return 400 if parent_weight < 350 else 700 if parent_weight < 600 else 900
    if value == "lighter":
        return 100 if parent_weight < 550 else 400 if parent_weight < 750 else 700
    return parent_weight


def _text_colour(style: Style, element: Element, parent: Style | None) -> Colour | None:
    initial = WHITE if style.scheme_dark else BLACK
    inherited = parent.colour if parent else initial
    if not style.known("color"):
        return None
    value = style.get("color")
    if value in {"inherit", "unset", "currentcolor"}:
        return inherited
    if value == "initial":
        return initial
    if value:
        return (
            None
            if "currentcolor" in value and inherited is None
            else parse_colour(value, inherited or initial, style.scheme_dark)
        )
    if element.tag in {"a", "area"} and element.has("href"):
        return parse_colour("linktext", BLACK, style.scheme_dark)
    if element.tag == "mark":
        return BLACK
    if element.tag in _FORM_FIELDS:
        if element.has("disabled") and not style.scheme_dark:
            button = element.tag == "button" or element.get("type").lower() in {"button", "submit", "reset"}
            return _GREYED if button else parse_colour("#545454")
        return parse_colour("fieldtext", BLACK, style.scheme_dark)
    return inherited if parent is not None and parent.scheme_dark == style.scheme_dark else inherited or initial


def _display(style: Style, element: Element, parent: Style | None) -> None:
    display = style.get("display")
    hidden_by_markup = element.tag in _NOT_DISPLAYED and (not display or element.tag in _NEVER_DISPLAYED)
    style.displayed = (parent.displayed if parent else True) and display != "none" and not hidden_by_markup
    if element.tag == "input" and element.get("type").lower() == "hidden":
        style.displayed = False
    if element.parent and _closed(element.parent) and not _stays_open(element):
        style.displayed = False
    if not display and ((element.tag == "dialog" and not element.has("open")) or element.has("popover")):
        style.displayed = False
    if parent is not None and parent.get("content-visibility") == "hidden":
        style.displayed = False
    visibility = style.get("visibility")
    inherited_visible = parent.visible if parent else True
    style.visible = (
        visibility not in {"hidden", "collapse"}
        if visibility and visibility not in {"inherit", "unset"}
        else inherited_visible
    )


def _closed(parent: Element) -> bool:
    return parent.tag == "details" and not parent.has("open")


def _stays_open(element: Element) -> bool:
    parent = element.parent
    first = next((e for e in parent.elements if e.tag == "summary"), None) if parent else None
    return element is first
