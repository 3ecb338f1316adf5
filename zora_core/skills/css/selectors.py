"""Selectors, matched by cssselect2 on our elements.

cssselect2 knows selectors and their specificity; this module tells it which pseudo-classes hold on a page that nobody
has touched yet, and says for which selectors that cannot be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import cssselect2
import tinycss2

from zora_core.skills.css.values import bare, split
from zora_core.skills.page.dom import Document, Element

# Attributes that stand for the focus; `Nodes.focus` sets them.
FOCUS = "-zora-focus"
FOCUS_WITHIN = "-zora-focus-within"
_NEVER = "-zora-never"

_MAX_SELECTOR_TOKENS = 400
_MAX_DEPTH = 12
_MAX_FILTERED_DEPTH = 40
# What cssselect2 decides, on the markup alone.
_STATIC = frozenset(
    {
        "link", "any-link", "disabled", "checked", "root", "first-child", "last-child", "first-of-type",
        "last-of-type", "only-child", "only-of-type", "empty", "nth-child", "nth-last-child", "nth-of-type",
        "nth-last-of-type", "lang",
    }
)  # fmt: skip
_LOGICAL = frozenset({"is", "where", "not", "has"})
_ALIASES = {"matches": "is", "-webkit-any": "is"}
# What holds only after somebody has done something, or for elements that are in no tree of ours.
_NOT_YET = frozenset(
    {
        "hover", "active", "visited", "target", "target-within", "target-current", "user-valid", "user-invalid",
        "autofill", "-webkit-autofill", "fullscreen", "-webkit-full-screen", "picture-in-picture", "popover-open",
        "modal", "current", "past", "future", "playing", "seeking", "buffering", "stalled", "volume-locked",
        "host", "host-context", "has-slotted", "active-view-transition", "active-view-transition-type", "-webkit-drag",
        "interest-source", "interest-target",
    }
)  # fmt: skip
# What a browser decides from more than the markup.
_UNKNOWN = frozenset(
    {
        "valid", "invalid", "in-range", "out-of-range", "default", "indeterminate", "read-only", "read-write", "blank",
        "defined", "dir", "paused", "muted", "state", "local-link", "scope", "placeholder-shown", "heading",
        "xr-overlay", "open", "closed",
    }
)  # fmt: skip
_REWRITTEN = {
    "enabled": f":where(button, input, select, textarea, option, optgroup, fieldset):not(:where(:disabled), .{_NEVER})",
    "required": ":where(input, select, textarea)[required]",
    "optional": f":where(button, :is(input, select, textarea):not([required])):not(.{_NEVER})",
    "placeholder-shown": "[placeholder]:where(:not([value]))",
    "read-only": ":not(:where(input, textarea, [contenteditable]):where(:not([readonly], [disabled])))",
    "open": "[open]",
    "focus": f"[{FOCUS}]",
    "focus-visible": f"[{FOCUS}]",
    "focus-within": f"[{FOCUS_WITHIN}]",
}
_PSEUDO_ELEMENTS = frozenset(
    {
        "before", "after", "first-line", "first-letter", "selection", "target-text", "spelling-error", "grammar-error",
        "marker", "placeholder", "file-selector-button", "backdrop", "cue", "part", "slotted", "highlight",
        "details-content", "view-transition", "search-text", "checkmark", "picker", "picker-icon", "scroll-marker",
        "scroll-marker-group", "scroll-button", "column",
    }
)  # fmt: skip
_OLD_PSEUDO_ELEMENTS = frozenset({"before", "after", "first-line", "first-letter"})


class Selector(NamedTuple):
    """One compiled selector.

    `certain` is false where it may match less than it does here; `pseudo` is "before", "after" or empty; `focus` says
    that it asks for the focus, and `focus_elsewhere` that another element than the matching one may have it. `keys`
    holds classes, ids and tags (`.a`, `#b`, `p`) of which an element that it matches has one at least, or is empty;
    `above` holds those that its ancestors must have between them.
    """

    compiled: Any
    certain: bool
    pseudo: str
    focus: bool
    focus_elsewhere: bool
    keys: frozenset[str]
    above: frozenset[str]


class _Invalid(Exception):
    """A selector that a browser drops, with the rule it heads."""


class _Rewriting:
    """What was noticed while one selector was rewritten."""

    def __init__(self) -> None:
        self.certain = True
        self.focus = False
        self.pseudo: str | None = None


def selector_names(tokens: Sequence[Any]) -> frozenset[str]:
    """The classes, ids and tags that a selector asks for outside brackets."""
    found: set[str] = set()
    previous = ""
    for token in tokens:
        if token.type == "ident" and previous == ".":
            found.add(f".{token.value}")
        elif token.type == "ident" and previous not in {":", "|"}:
            found.add(token.lower_value)
        elif token.type == "hash":
            found.add(f"#{token.value}")
        previous = token.value if token.type == "literal" else ""
    return frozenset(found)


def parse_selectors(tokens: Iterable[Any], present: set[str] | None = None) -> list[Selector] | None:
    """The selectors of a list; None where a browser drops the whole list for one that is invalid.

    Selectors that name what is not in `present` (as `selector_names` writes it) are left out.
    """
    found: list[Selector] = []
    for part in split(list(tokens), ","):
        if not bare(part):
            return None
        try:
            made = _compiled(part, present)
        except _Invalid:
            return None
        if made is not None:
            found.append(made)
    return found


def valid_selectors(tokens: Iterable[Any]) -> bool:
    """Whether a browser keeps a list of selectors, as far as pseudo-classes and pseudo-elements decide that."""
    try:
        for part in split(list(tokens), ","):
            _rewrite(part, _Rewriting(), 0)
    except _Invalid:
        return False
    return True


def _compiled(part: list[Any], present: set[str] | None) -> Selector | None:
    if len(part) > _MAX_SELECTOR_TOKENS:
        raise _Invalid
    notes = _Rewriting()
    text = _rewrite(part, notes, 0)
    names = selector_names(part)
    if notes.pseudo not in {None, "before", "after"} or (present is not None and not names <= present):
        return None
    try:
        (compiled,) = cssselect2.compile_selector_list(text + (f"::{notes.pseudo}" if notes.pseudo else ""))
    except (cssselect2.SelectorError, NotImplementedError, RecursionError):
        raise _Invalid from None
    except SyntaxError:  # cssselect2 0.10 on `:has()` of what can never match
        return None
    elsewhere = notes.focus and _asks_elsewhere(part, text)
    return Selector(compiled, notes.certain, notes.pseudo or "", notes.focus, elsewhere, _keys(part, 0), _above(part))


def _asks_elsewhere(part: list[Any], rewritten: str) -> bool:
    """Whether a selector, rewritten, asks for the focus outside its last compound selector, or for that of another."""
    own = _rewrite(_last_compound(part), _Rewriting(), 0)
    return FOCUS_WITHIN in rewritten or ":has(" in own or rewritten.count(FOCUS) > own.count(FOCUS) or " " in own


def _above(tokens: Sequence[Any]) -> frozenset[str]:
    """The classes, ids and tags that the ancestors of a matching element have; empty where siblings may have them."""
    if any(token.type == "literal" and token.value in {"+", "~"} for token in tokens):
        return frozenset()
    subject = _last_compound(tokens)
    return selector_names(list(tokens[: tokens.index(subject[0])])) if subject else frozenset()


def _last_compound(tokens: Sequence[Any]) -> list[Any]:
    compound: list[Any] = []
    for token in reversed(tokens):
        combinator = token.type == "whitespace" or (token.type == "literal" and token.value in {">", "+", "~"})
        if combinator and compound:
            break
        if not combinator and token.type != "comment":
            compound.insert(0, token)
    return compound


def _keys(tokens: Sequence[Any], depth: int) -> frozenset[str]:
    """Classes, ids and tags of which a matching element has one: those of the last compound selector."""
    compound = _last_compound(tokens)
    named = selector_names(compound)
    if named:
        # The rarest kind decides: an id before a class before a tag.
        return frozenset({min(named, key=lambda name: (name[0] != "#", name[0] != ".", name))})
    for place, token in enumerate(compound):
        if token.type == "function" and token.lower_name in {"is", "where"} and compound[place - 1] == ":":
            inner = [_keys(part, depth + 1) for part in split(token.arguments, ",")] if depth < _MAX_DEPTH else []
            if inner and all(inner):
                return frozenset().union(*inner)
    return frozenset()


def _rewrite(tokens: Sequence[Any], notes: _Rewriting, depth: int) -> str:
    """The selector for cssselect2: pseudo-classes that it does not know replaced by what they come to."""
    if depth > _MAX_DEPTH:
        raise _Invalid
    parts: list[str] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        place += 1
        if token.type == "comment":
            continue
        if notes.pseudo is not None and token.type != "whitespace" and token != ":":
            raise _Invalid
        if token.type != "literal" or token.value != ":":
            parts.append(tinycss2.serialize([token]))
            continue
        element = place < len(tokens) and tokens[place].type == "literal" and tokens[place].value == ":"
        place += element
        if place >= len(tokens) or tokens[place].type not in {"ident", "function"}:
            raise _Invalid
        token = tokens[place]
        place += 1
        name = (token.lower_value if token.type == "ident" else token.lower_name).strip()
        if element or name in _OLD_PSEUDO_ELEMENTS:
            if name not in _PSEUDO_ELEMENTS and not name.startswith("-webkit-"):
                raise _Invalid
            notes.pseudo = name
            continue
        if notes.pseudo is not None:
            notes.pseudo = f"{notes.pseudo}:{name}"
            continue
        parts.append(_pseudo_class(token, _ALIASES.get(name, name), notes, depth))
    return "".join(parts)


def _pseudo_class(token: Any, name: str, notes: _Rewriting, depth: int) -> str:
    if token.type == "function" and name in _LOGICAL:
        return _logical(token, name, notes, depth)
    if name in _STATIC:
        return f":{tinycss2.serialize([token])}"
    if name in {"focus", "focus-visible", "focus-within"}:
        notes.focus = True
    if name == "scope":
        return ":root"
    if name in _REWRITTEN:
        return _REWRITTEN[name]
    if name in _NOT_YET:
        return f".{_NEVER}"
    if name in _UNKNOWN:
        notes.certain = False
        return f":not(.{_NEVER})"
    raise _Invalid


def _logical(token: Any, name: str, notes: _Rewriting, depth: int) -> str:
    parts = []
    for part in split(token.arguments, ","):
        inner = _Rewriting()
        try:
            text = _rewrite(part, inner, depth + 1).strip()
        except _Invalid:
            if name in {"is", "where"}:
                continue
            raise
        notes.focus |= inner.focus
        if inner.pseudo is not None or not text:
            continue
        if not inner.certain:
            notes.certain = False
            if name == "not":
                return f":not(.{_NEVER})"
        parts.append(text)
    return f":{name}({', '.join(parts)})" if parts else (f":not(.{_NEVER})" if name == "not" else f".{_NEVER}")


class Node:
    """An element as cssselect2 looks at one: the attributes of its `ElementWrapper` and of the tree below it."""

    __slots__ = (
        "__dict__", "attrib", "classes", "element", "etree_children", "etree_element", "etree_siblings", "id", "index",
        "local_name", "parent", "previous", "tag",
    )  # fmt: skip

    in_html_document = True
    namespace_url = ""

    def __init__(self, element: Element, parent: Node | None) -> None:
        self.element = element
        self.etree_element = self
        self.attrib: dict[str, str] = element.attrs
        self.tag = self.local_name = element.tag
        self.parent = parent
        self.id = element.attrs.get("id")
        self.classes = frozenset(element.attrs.get("class", "").split())
        self.etree_children: list[Node] = []
        self.etree_siblings: list[Node] = [self]
        self.index = 0
        self.previous: Node | None = None
        if parent is not None:
            self.etree_siblings = parent.etree_children
            self.index = len(self.etree_siblings)
            self.previous = self.etree_siblings[-1] if self.etree_siblings else None
            self.etree_siblings.append(self)

    def get(self, name: str, default: str | None = None) -> str | None:
        """An attribute, as etree's elements give it."""
        return self.attrib.get(name, default)

    @property
    def text(self) -> str:
        """All that is written directly inside, white space too."""
        return "".join(child for child in self.element.children if isinstance(child, str))

    @property
    def ancestors(self) -> Iterable[Node]:
        """The parent, its parent and so on."""
        if self.parent is None:
            return ()
        chain = self.parent.__dict__.get("chain")
        return self.parent.chain if chain is None else chain

    @cached_property
    def chain(self) -> list[Node]:
        """The node and its ancestors; children share it."""
        chain = []
        node: Node | None = self
        while node is not None:
            chain.append(node)
            node = node.parent
        return chain

    @property
    def previous_siblings(self) -> Iterator[Node]:
        """The siblings before this node, nearest first."""
        node = self.previous
        while node is not None:
            yield node
            node = node.previous

    def iter_children(self) -> Iterator[Node]:
        """The children."""
        return iter(self.etree_children)

    def iter_siblings(self) -> Iterator[Node]:
        """The siblings and the node itself."""
        return iter(self.etree_siblings)

    def iter_next_siblings(self) -> Iterator[Node]:
        """The siblings after this node."""
        return iter(self.etree_siblings[self.index + 1 :])

    def iter_subtree(self) -> Iterator[Node]:
        """The node and all below it, in document order."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.etree_children))

    @cached_property
    def names(self) -> frozenset[str]:
        """The node's classes, id and tag as `Selector.keys` writes them."""
        return frozenset({self.tag, *(f".{name}" for name in self.classes), *([f"#{self.id}"] if self.id else [])})

    @cached_property
    def around(self) -> frozenset[str] | None:
        """The names of all ancestors; None far down, where that would take too much memory."""
        return self.parent.within if self.parent is not None else frozenset()

    @cached_property
    def within(self) -> frozenset[str] | None:
        """The names of the node and its ancestors, which its children share."""
        around = self.around
        return None if around is None or self.element.depth > _MAX_FILTERED_DEPTH else around | self.names

    @cached_property
    def lang(self) -> str:
        """The language that the node or the nearest ancestor names."""
        own = self.attrib.get("lang")
        return own.lower() if own is not None else self.parent.lang if self.parent is not None else ""

    @cached_property
    def in_disabled_fieldset(self) -> bool:
        """Whether a disabled fieldset disables the node."""
        parent = self.parent
        if parent is None:
            return False
        first = next((child for child in parent.etree_children if child.tag == "legend"), None)
        return (
            parent.tag == "fieldset" and "disabled" in parent.attrib and first is not self
        ) or parent.in_disabled_fieldset


class Nodes:
    """The nodes of a document."""

    def __init__(self, document: Document) -> None:
        self._nodes: dict[Element, Node] = {}
        for element in document.elements:
            parent = self._nodes[element.parent] if element.parent is not None else None
            self._nodes[element] = Node(element, parent)

    def __getitem__(self, element: Element) -> Node:
        return self._nodes[element]

    @cached_property
    def present(self) -> set[str]:
        """The classes, ids and tags on the page, as `selector_names` writes them."""
        return set().union(*(node.names for node in self._nodes.values()))

    def focus(self, element: Element, *, on: bool) -> None:
        """Give the focus to an element, or take it away."""
        node = self._nodes[element]
        for place in [node, *node.ancestors]:
            place.attrib = {**place.element.attrs, FOCUS_WITHIN: ""} if on else place.element.attrs
        if on:
            node.attrib[FOCUS] = ""
