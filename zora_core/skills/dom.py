"""A document as plain elements: parents, children, text and selectors, without the parser's own objects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property

from selectolax.lexbor import LexborHTMLParser, LexborNode

# Chromium flattens deeper markup too; it keeps every walk below Python's recursion limit.
MAX_DEPTH = 400
MAX_ELEMENTS = 50_000

_SIMPLE_IDENTIFIER = re.compile(r"[A-Za-z_][\w-]*\Z", re.ASCII)
_SPACE = re.compile(r"\s+")
NOT_TEXT = frozenset({"script", "style", "template", "head", "noscript", "title"})


class Element:
    """An element: its lower-case `tag`, its attributes (names in lower case, valueless ones empty) and its place."""

    __slots__ = ("attrs", "children", "depth", "index", "parent", "tag")

    def __init__(self, tag: str, attrs: dict[str, str], parent: Element | None, index: int) -> None:
        """Make an element; `index` is its position in document order."""
        self.tag = tag
        self.attrs = attrs
        self.parent = parent
        self.index = index
        self.depth: int = parent.depth + 1 if parent else 0
        self.children: list[Element | str] = []

    def __repr__(self) -> str:
        """The start tag, shortened."""
        return self.markup

    def get(self, name: str) -> str:
        """The attribute's value, or an empty string."""
        return self.attrs.get(name, "")

    def has(self, name: str) -> bool:
        """Whether the attribute is present, even if empty."""
        return name in self.attrs

    def ids(self, name: str) -> list[str]:
        """The space-separated values of an attribute."""
        return self.get(name).split()

    @property
    def elements(self) -> list[Element]:
        """The child elements."""
        return [child for child in self.children if isinstance(child, Element)]

    def ancestors(self) -> Iterator[Element]:
        """The parent, its parent, and so on to the root."""
        element = self.parent
        while element is not None:
            yield element
            element = element.parent

    def closest(self, *tags: str) -> Element | None:
        """The nearest ancestor with one of these tags."""
        return next((a for a in self.ancestors() if a.tag in tags), None)

    def descendants(self) -> Iterator[Element]:
        """All elements inside, in document order."""
        stack = self.elements[::-1]
        while stack:
            element = stack.pop()
            yield element
            stack.extend(element.elements[::-1])

    def find(self, *tags: str) -> Element | None:
        """The first element inside with one of these tags."""
        return next((d for d in self.descendants() if d.tag in tags), None)

    @property
    def text(self) -> str:
        """All text inside, white space collapsed; scripts and styles left out."""
        parts: list[str] = []
        stack: list[Element | str] = [self]
        while stack:
            node = stack.pop()
            if isinstance(node, str):
                parts.append(node)
            elif node is self or node.tag not in NOT_TEXT:
                stack.extend(node.children[::-1])
        return collapse("".join(parts))

    @property
    def own_text(self) -> str:
        """The text directly inside, white space collapsed."""
        return collapse(" ".join(child for child in self.children if isinstance(child, str)))

    @property
    def markup(self) -> str:
        """The start tag and the beginning of the text, at most about 240 characters."""
        attributes = "".join(
            f' {name}="{shorten(value, 60)}"' if value else f" {name}" for name, value in list(self.attrs.items())[:8]
        )
        return shorten(f"<{self.tag}{attributes}>", 180) + shorten(self.text, 60)


class Document:
    """A parsed page: its elements in document order and the look-ups that the checks need."""

    def __init__(self, tree: LexborHTMLParser) -> None:
        """Copy the parser's tree; beyond `MAX_ELEMENTS` elements the rest is left out and `truncated` is true."""
        self.elements: list[Element] = []
        self.truncated = False
        self._tree = tree
        self._by_memory: dict[int, Element] = {}
        if tree.root is not None:
            self._copy(tree.root)

    def _copy(self, root: LexborNode) -> None:
        stack: list[tuple[LexborNode, Element | None]] = [(root, None)]
        while stack:
            node, parent = stack.pop()
            if node.is_text_node:
                if parent is not None:
                    parent.children.append(node.text_content or "")
                continue
            if not node.is_element_node or node.tag is None:
                continue
            if len(self.elements) >= MAX_ELEMENTS:
                self.truncated = True
                return
            if parent is not None and parent.depth >= MAX_DEPTH:
                parent = parent.parent
            attributes = {name.lower(): value or "" for name, value in node.attributes.items()}
            element = Element(node.tag, attributes, parent, len(self.elements))
            self.elements.append(element)
            self._by_memory[node.mem_id] = element
            if parent is not None:
                parent.children.append(element)
            children = []
            child = node.child
            while child is not None:
                children.append((child, element))
                child = child.next
            stack.extend(reversed(children))

    @property
    def root(self) -> Element | None:
        """The `html` element."""
        return self.elements[0] if self.elements else None

    @cached_property
    def body(self) -> Element | None:
        """The `body` element."""
        return next((e for e in self.elements if e.tag == "body"), None)

    @cached_property
    def by_id(self) -> dict[str, Element]:
        """The first element with each id."""
        found: dict[str, Element] = {}
        for element in self.elements:
            if element.get("id"):
                found.setdefault(element.get("id"), element)
        return found

    @cached_property
    def id_counts(self) -> Counter[str]:
        """How many elements carry each id."""
        return Counter(e.get("id") for e in self.elements if e.get("id"))

    @cached_property
    def _tag_counts(self) -> Counter[str]:
        return Counter(element.tag for element in self.elements)

    def with_tag(self, *tags: str) -> list[Element]:
        """The elements with one of these tags."""
        return [e for e in self.elements if e.tag in tags]

    def select(self, selector: str) -> list[Element]:
        """The elements that a CSS selector matches; raises `SelectolaxError` for one the parser does not know."""
        nodes = self._tree.css(selector)
        return [self._by_memory[node.mem_id] for node in nodes if node.mem_id in self._by_memory]

    def selector(self, element: Element) -> str:
        """A CSS selector that finds this element only, anchored at the nearest unique id."""
        steps: list[str] = []
        current: Element | None = element
        while current is not None:
            identifier = current.get("id")
            if _SIMPLE_IDENTIFIER.match(identifier) and self.id_counts[identifier] == 1:
                steps.append(f"#{identifier}")
                break
            if current.tag in {"html", "body", "head"} and self._tag_counts[current.tag] == 1:
                steps.append(current.tag)
                break
            if current.parent is None:
                steps.append(":root")
                break
            steps.append(_step(current, current.parent.elements))
            current = current.parent
        return " > ".join(reversed(steps))


def _step(element: Element, siblings: list[Element]) -> str:
    """The part of a selector that finds an element among its siblings."""
    if not _SIMPLE_IDENTIFIER.match(element.tag):
        return f":nth-child({siblings.index(element) + 1})"
    alike = [sibling for sibling in siblings if sibling.tag == element.tag]
    return element.tag if len(alike) == 1 else f"{element.tag}:nth-of-type({alike.index(element) + 1})"


def collapse(text: str) -> str:
    """Runs of white space as one space, none at the ends."""
    return _SPACE.sub(" ", text).strip()


def shorten(text: str, length: int) -> str:
    """At most `length` characters, the cut marked."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
