"""A document as plain elements: parents, children, text and selectors, without the parser's own objects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property

from selectolax.lexbor import LexborHTMLParser, LexborNode

from zora_core.skills.page.markup import MAX_DEPTH, MAX_ELEMENTS

_SIMPLE_IDENTIFIER = re.compile(r"[A-Za-z_][\w-]*\Z", re.ASCII)
_SPACE = re.compile(r"\s+")
NOT_TEXT = frozenset({"script", "style", "template", "head", "noscript", "title"})


class Element:
    """An element: its lower-case `tag`, its attributes (names in lower case, valueless ones empty) and its place.

    `lifted` says that it lay too deep, and that `parent` is an ancestor further up.
    """

    __slots__ = ("attrs", "children", "depth", "index", "lifted", "parent", "place", "tag")

    def __init__(
        self, tag: str, attrs: dict[str, str], parent: Element | None, index: int, *, lifted: bool = False
    ) -> None:
        """Make an element; `index` is its position in document order."""
        self.lifted = lifted
        self.tag = tag
        self.attrs = attrs
        self.parent = parent
        self.index = index
        self.depth: int = parent.depth + 1 if parent else 0
        self.children: list[Element | str] = []
        self.place = len(parent.children) if parent else 0  # among the parent's children

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

    def preceding(self) -> Element | None:
        """The sibling element before this one; found from its place, for a parent may have very many children."""
        around = self.parent.children if self.parent else []
        return next((c for i in range(self.place - 1, -1, -1) if isinstance(c := around[i], Element)), None)

    def following(self) -> tuple[Element | None, str]:
        """The sibling element after this one, and the text between them."""
        around = self.parent.children if self.parent else []
        between: list[str] = []
        for i in range(self.place + 1, len(around)):
            child = around[i]
            if isinstance(child, Element):
                return child, "".join(between)
            between.append(child)
        return None, "".join(between)

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
        self._families: dict[int, _Family] = {}
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
            lifted = parent is not None and parent.depth >= MAX_DEPTH
            if parent is not None and lifted:
                parent = parent.parent
            attributes = {name.lower(): value or "" for name, value in node.attributes.items()}
            element = Element(node.tag, attributes, parent, len(self.elements), lifted=lifted)
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
        """The elements that a CSS selector matches; raises `SelectolaxError` for one the parser does not know.

        A selector of ours is followed from step to step: the engine counts all siblings anew for each `nth-of-type`.
        """
        if (found := self._follow(selector)) is not None:
            return [found]
        nodes = self._tree.css(selector)
        return [self._by_memory[node.mem_id] for node in nodes if node.mem_id in self._by_memory]

    def selector(self, element: Element) -> str:
        """A CSS selector that finds this element only, anchored at the nearest unique id.

        For one that lay too deep it finds all of its kind in the ancestor that was kept.
        """
        if element.lifted and element.parent is not None:
            kind = element.tag if _SIMPLE_IDENTIFIER.match(element.tag) else "*"
            return f"{self.selector(element.parent)} {kind}"
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
            steps.append(self._family(current.parent).step(current))
            current = current.parent
        return " > ".join(reversed(steps))

    def _family(self, parent: Element) -> _Family:
        if parent.index not in self._families:
            self._families[parent.index] = _Family(parent)
        return self._families[parent.index]

    def _follow(self, selector: str) -> Element | None:
        """The one element that a selector as `selector` makes it leads to; None where the engine has to say."""
        if self.truncated or not self.elements:
            return None
        first, *steps = selector.split(" > ")
        if first.startswith("#") and self.id_counts[first[1:]] == 1:
            current: Element | None = self.by_id[first[1:]]
        elif first in {"html", "body", "head"} and self._tag_counts[first] == 1:
            current = next(element for element in self.elements if element.tag == first)
        else:
            current = self.root if first == ":root" else None
        for step in steps:
            if current is None:
                return None
            current = self._family(current).child(step)
        return current


class _Family:
    """The children of an element, by what tells them apart in a selector."""

    def __init__(self, parent: Element) -> None:
        children = [child for child in parent.elements if not child.lifted]
        by_tag: dict[str, list[Element]] = {}
        for child in children:
            by_tag.setdefault(child.tag, []).append(child)
        self._steps: dict[int, str] = {}
        for number, child in enumerate(children, 1):
            if not _SIMPLE_IDENTIFIER.match(child.tag):
                self._steps[child.index] = f":nth-child({number})"
        for tag, alike in by_tag.items():
            for number, child in enumerate(alike, 1):
                self._steps.setdefault(child.index, tag if len(alike) == 1 else f"{tag}:nth-of-type({number})")
        self._children = {self._steps[child.index]: child for child in children}

    def step(self, child: Element) -> str:
        """The part of a selector that finds a child among its siblings."""
        return self._steps[child.index]

    def child(self, step: str) -> Element | None:
        """The child that a step finds, if it is one of ours."""
        return self._children.get(step)


def collapse(text: str) -> str:
    """Runs of white space as one space, none at the ends."""
    return _SPACE.sub(" ", text).strip()


def shorten(text: str, length: int) -> str:
    """At most `length` characters, the cut marked."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
