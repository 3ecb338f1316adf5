"""A web page as the other skills see it: its markup, its text and where it came from."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple
from urllib.parse import urljoin

from selectolax.lexbor import LexborHTMLParser

from zora_core.skills.page.dom import Document, Element, collapse
from zora_core.skills.page.markup import bounded

BLOCK_BREAK = "\n\n"
_BLOCKS = frozenset(
    {
        "address", "article", "aside", "blockquote", "body", "br", "button", "caption", "dd", "details", "dialog",
        "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6",
        "header", "hr", "html", "label", "legend", "li", "main", "nav", "ol", "option", "p", "pre", "section", "select",
        "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
    }
)  # fmt: skip
_SILENT = frozenset(
    {"head", "noscript", "script", "style", "svg", "template", "textarea", "iframe", "object", "video", "audio"}
)
# Cached properties of a page that depend on its markup alone.
_OF_MARKUP = frozenset({"limits", "title", "blocks", "text", "main_text"})
_OTHER_XML = re.compile(r"\s*(<\?xml|<svg|<math)", re.I)


class Block(NamedTuple):
    """A paragraph, heading, list item or the like: its text, where it starts in the page's text, its element."""

    text: str
    start: int
    element: Element


class Resource(NamedTuple):
    """Something a page loads: its absolute address, the attribute's own value, and what kind of thing it is."""

    url: str
    reference: str
    kind: str


@dataclass(frozen=True)
class Page:
    """An HTML document.

    `ref` names it in evidence (a page key, a URL, a path or "html"); `html` is its markup; `transfer_bytes` is the
    weight of the document and, where known, of everything it loads, in bytes. `stylesheets` holds the text of linked
    style sheets that were loaded, by the `href` that names them. `known_as` names a page that is given as markup in
    every review of it, and `sketch` tells it apart from others; see `same_page`.
    """

    ref: str
    html: str
    url: str | None = None
    transfer_bytes: int | None = None
    stylesheets: Mapping[str, str] = field(default_factory=dict, hash=False)
    known_as: str = ""
    sketch: str = ""

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: another process parses the page itself."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @property
    def tree(self) -> LexborHTMLParser:
        """The parsed document, of bounded markup (see `limits`)."""
        return _parsed(self.html)[0]

    @property
    def document(self) -> Document:
        """The document as plain elements."""
        return _parsed(self.html)[1]

    @cached_property
    def limits(self) -> tuple[str, ...]:
        """What was left out of the markup before it was parsed, because a parser's time grows with its square."""
        return bounded(self.html).limits

    def loaded(self, stylesheets: Mapping[str, str], transfer_bytes: int) -> Page:
        """The page with what it loads; what has been parsed of it is not parsed again."""
        made = replace(self, stylesheets=stylesheets, transfer_bytes=transfer_bytes)
        made.__dict__.update({name: value for name, value in self.__dict__.items() if name in _OF_MARKUP})
        return made

    @property
    def is_html(self) -> bool:
        """False for other XML (an SVG image, say) that an HTML parser merely tolerates."""
        return not _OTHER_XML.match(self.html) or "<html" in self.html.lower()

    @cached_property
    def title(self) -> str:
        """The text of the first `title` in the head, white space collapsed."""
        found = next((e for e in self.document.elements if e.tag == "title" and not e.closest("svg")), None)
        return collapse("".join(c for c in found.children if isinstance(c, str))) if found else ""

    @cached_property
    def blocks(self) -> list[Block]:
        """The blocks of text a reader may see, in document order; hidden elements and code are left out."""
        found: list[Block] = []
        start = 0
        for element, text in _blocks(self.document):
            found.append(Block(text, start, element))
            start += len(text) + len(BLOCK_BREAK)
        return found

    @cached_property
    def text(self) -> str:
        """The text of all blocks, white space collapsed, parted by an empty line.

        Offsets in findings count characters of this text.
        """
        return BLOCK_BREAK.join(block.text for block in self.blocks)

    def block_at(self, offset: int) -> Block | None:
        """The block that holds a character of `text`."""
        return next(iter(self.blocks_from(offset)), None)

    def blocks_from(self, offset: int) -> list[Block]:
        """The block that holds a character of `text`, and the one after it."""
        place = bisect_right(self.blocks, offset, key=lambda block: block.start) - 1
        return self.blocks[place : place + 2] if place >= 0 else []

    @cached_property
    def main_text(self) -> str:
        """The page's own content without navigation, banners and footers, or all of `text` where none stands out."""
        import trafilatura

        found = trafilatura.extract(
            bounded(self.html).html, include_comments=False, include_tables=True, favor_recall=True
        )
        return found.strip().replace("\n", BLOCK_BREAK) if found and len(found.split()) >= 20 else self.text

    @cached_property
    def resources(self) -> list[Resource]:
        """What the browser loads with the page: style sheets, scripts, images, media and frames, each once."""
        found: dict[tuple[str, str], Resource] = {}
        for reference, kind in _references(self.document):
            url = urljoin(self.url or "", reference)
            found.setdefault((url, kind), Resource(url, reference, kind))
        return list(found.values())

    @property
    def html_bytes(self) -> int:
        """The size of the markup itself in UTF-8."""
        return len(self.html.encode())


@lru_cache(maxsize=2)
def _parsed(html: str) -> tuple[LexborHTMLParser, Document]:
    """A page is asked for again when its evidence is checked, in the same process as a rule."""
    tree = LexborHTMLParser(bounded(html).html)
    return tree, Document(tree)


def _blocks(document: Document) -> Iterator[tuple[Element, str]]:
    root = document.body or document.root
    if root is None:
        return
    owner, parts = root, [""]
    stack: list[tuple[Element | str | None, Element]] = [(root, root)]
    while stack:
        node, place = stack.pop()
        if isinstance(node, str):
            parts.append(node)
            continue
        if node is not None and (node.tag in _SILENT or node.has("hidden")):
            continue
        if node is None or node.tag in _BLOCKS:
            if text := collapse("".join(parts)):
                yield owner, text
            owner, parts = place if node is None or node.tag == "br" else node, []
            if node is not None and node.tag != "br":
                stack.append((None, place))
        if node is not None:
            inner = node if node.tag in _BLOCKS and node.tag != "br" else place
            stack.extend((child, inner) for child in node.children[::-1])
    if text := collapse("".join(parts)):
        yield owner, text


def _references(document: Document) -> Iterator[tuple[str, str]]:
    for element in document.elements:
        source = element.get("src").strip()
        match element.tag:
            case "link" if "stylesheet" in element.get("rel").lower() and element.get("href").strip():
                yield element.get("href"), "stylesheet"
            case "script" if source:
                yield source, "script"
            case "img" | "input" if source and not source.startswith("data:"):
                yield source, "image"
            case "video" | "audio" if source:
                yield source, "media"
            case "iframe" | "embed" if source:
                yield source, "frame"
