"""Markup within limits: what makes a parser's time grow with the square of the input is taken out before it parses.

Parsers walk all open elements for each tag, and all earlier attributes for each attribute: 80,000 nested `<div>` in
880 kB took minutes. One pass over the tags, as the HTML standard's tokenizer sees them, counts both.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

MAX_CHARACTERS = 5_000_000
MAX_ELEMENTS = 50_000
MAX_DEPTH = 400  # keeps every walk below Python's recursion limit; Chromium stops at 512
MAX_ATTRIBUTES = 200
MAX_FORMATTING = 50  # open <b>, <font> and the like, all of which a parser opens again in each new block

_TAG = re.compile(r"<(?:(?P<end>/)?(?P<name>[a-zA-Z][^\s/>]*+)|(?P<comment>!--)|(?P<other>[!?/]))")
_ATTRIBUTE = re.compile(
    r"[\s/]*+(?:(?P<close>>)|(?P<name>[^\s/>][^\s/>=]*+)"
    r"""(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|(?P<endless>["'])|(?:[^\s>"'][^\s>]*+)?+))?+)"""
)
_COMMENT_END = re.compile(r"--!?>")
# Their content is text up to their own end tag.
_RAW = {
    name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE)
    for name in ("script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes")
}
_VOID = frozenset(
    {
        "area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "img", "input", "keygen", "link",
        "meta", "param", "source", "track", "wbr",
    }
)  # fmt: skip
_FORMATTING = frozenset(
    {"b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"}
)  # fmt: skip
_SCOPE = "table td th caption button object marquee applet template html"
_LIST = (
    _SCOPE + " ul ol menu dl section article main nav aside header footer blockquote details fieldset figure form pre"
)
# Which open elements a new one ends, and which elements that search does not go beyond, as in the HTML standard. `1`
# means that only the innermost open element is looked at.
_IMPLIED_ENDS = (
    ("li", "li", _LIST),
    ("dd dt", "dd dt", _LIST),
    (
        "p address article aside blockquote center details dialog div dl fieldset figure footer form h1 h2 h3 h4 h5 h6"
        " header main menu nav ol pre section summary table ul",
        "p",
        _SCOPE,
    ),
    ("button", "button", "table td th caption object marquee applet template html"),
    ("td th", "td th", "tr table template html"),
    ("tr", "tr", "table template html"),
    ("tbody tfoot thead", "tbody tfoot thead", "table template html"),
    ("option", "option", "select optgroup datalist"),
    ("optgroup", "optgroup", "select"),
    ("a", "a", "1"),
    ("rb rp rt", "rb rp rt", "1"),
    ("h1 h2 h3 h4 h5 h6", "h1 h2 h3 h4 h5 h6", "1"),
)
_ENDS: dict[str, list[tuple[frozenset[str], frozenset[str]]]] = {}
for _names, _ended, _barriers in _IMPLIED_ENDS:
    for _name in _names.split():
        _ENDS.setdefault(_name, []).append((frozenset(_ended.split()), frozenset(_barriers.split())))
# These end SVG or MathML content when they stand in it.
_NOT_FOREIGN = frozenset(
    {
        "blockquote", "body", "br", "center", "code", "dd", "div", "dl", "dt", "em", "embed", "h1", "h2", "h3", "h4",
        "h5", "h6", "head", "hr", "img", "li", "menu", "meta", "ol", "p", "pre", "ruby", "span", "strong", "sub", "sup",
        "table", "ul", "var", "foreignobject",
    }
)  # fmt: skip


class Bounded(NamedTuple):
    """Markup within the limits, and a sentence for each limit that it was beyond."""

    html: str
    limits: tuple[str, ...]


@lru_cache(maxsize=2)
def bounded(html: str) -> Bounded:
    """`html` without the tags, attributes and ends that are beyond the limits; its text stays.

    Elements that lie too deep are left out as tags: their content stands in the deepest ancestor that is kept.
    """
    limits = []
    if len(html) > MAX_CHARACTERS:
        limits.append(f"the page has {len(html):,} characters: the first {MAX_CHARACTERS:,} were analysed")
        html = html[:MAX_CHARACTERS]
    scan = _Scan(html)
    scan.run()
    if scan.too_deep:
        limits.append(f"the page is nested deeper than {MAX_DEPTH} elements: it was analysed to that depth")
    if scan.formatting_dropped:
        limits.append(
            f"more than {MAX_FORMATTING} formatting elements such as <b> are open at a time: "
            f"{scan.formatting_dropped:,} were left out"
        )
    if scan.attributes_dropped:
        limits.append(
            f"an element has more than {MAX_ATTRIBUTES} attributes: {scan.attributes_dropped:,} were left out"
        )
    if scan.end < len(html) and scan.elements >= MAX_ELEMENTS:
        limits.append(f"the page has more than {MAX_ELEMENTS:,} elements: the rest was not analysed")
    return Bounded(scan.kept(), tuple(limits))


class _Scan:
    """One pass over the tags of a text."""

    def __init__(self, html: str) -> None:
        self.html = html
        self.end = len(html)
        """Where the part that is kept ends."""
        self.too_deep = False
        self.elements = 0
        self.attributes_dropped = 0
        self.formatting_dropped = 0
        self._open: list[str] = []
        self._count: dict[str, int] = {}
        """How many elements of each name are open."""
        self._dropped: dict[str, int] = {}
        self._formatting = 0
        self._foreign = False
        self._cuts: list[tuple[int, int]] = []

    def run(self) -> None:
        """Go through the text from tag to tag."""
        position = 0
        while (tag := _TAG.search(self.html, position)) is not None:
            if self.elements >= MAX_ELEMENTS:
                self.end = tag.start()
                return
            if tag["name"] is not None:
                position = self._tag(tag)
            elif tag["comment"] is not None:
                position = self._after_comment(tag.end())
            else:
                position = self._after(">", tag.end())

    def kept(self) -> str:
        """The text without what was cut."""
        if not self._cuts and self.end == len(self.html):
            return self.html
        parts, position = [], 0
        for start, end in self._cuts:
            parts.append(self.html[position:start])
            position = end
        parts.append(self.html[position : self.end])
        return "".join(parts)

    def _after(self, what: str, position: int) -> int:
        found = self.html.find(what, position)
        return len(self.html) if found < 0 else found + len(what)

    def _after_comment(self, position: int) -> int:
        for empty in (">", "->"):
            if self.html.startswith(empty, position):
                return position + len(empty)
        found = _COMMENT_END.search(self.html, position)
        return len(self.html) if found is None else found.end()

    def _tag(self, tag: re.Match[str]) -> int:
        name = tag["name"].lower()
        position = self._attributes(tag.end())
        if position is None:  # cut off: a parser drops it, too
            self.end = min(self.end, tag.start())
            return len(self.html)
        if tag["end"]:
            self._close(name, tag.start(), position)
            return position
        self.elements += 1
        if self._foreign and name in _NOT_FOREIGN:
            self._foreign = False
        if name in _VOID or (self._foreign and self.html[position - 2] == "/"):
            return position
        if not self._foreign and name in _RAW:
            found = _RAW[name].search(self.html, position)
            return len(self.html) if found is None else self._after(">", found.end())
        self._opened(name, tag.start(), position)
        if name in ("svg", "math"):
            self._foreign = True
        return position

    def _attributes(self, position: int) -> int | None:
        """Where the tag ends whose attributes begin at `position`; None when the text ends first."""
        count, cut_from = 0, position
        while (found := _ATTRIBUTE.match(self.html, position)) is not None:
            position = found.end()
            if found["close"] is not None:
                if count > MAX_ATTRIBUTES:
                    self.attributes_dropped += count - MAX_ATTRIBUTES
                    self._cuts.append((cut_from, found.start("close")))
                return position
            if found["endless"] is not None:
                return None
            count += 1
            if count == MAX_ATTRIBUTES:
                cut_from = position
        return None

    def _opened(self, name: str, start: int, end: int) -> None:
        if not self._foreign:
            for ended, barriers in _ENDS.get(name, ()):
                self._end_implied(ended, barriers)
        formatting = name in _FORMATTING and not self._foreign
        if formatting and self._formatting >= MAX_FORMATTING:
            self.formatting_dropped += 1
        elif len(self._open) >= MAX_DEPTH:
            self.too_deep = True
        else:
            self._formatting += formatting
            self._open.append(name)
            self._count[name] = self._count.get(name, 0) + 1
            return
        self._dropped[name] = self._dropped.get(name, 0) + 1
        if not self._cuts or self._cuts[-1][1] <= start:
            self._cuts.append((start, end))
        else:  # attributes of this very tag were cut
            self._cuts[-1] = (start, end)

    def _end_implied(self, ended: frozenset[str], barriers: frozenset[str]) -> None:
        if not any(self._count.get(name) for name in ended):
            return
        for place in range(len(self._open) - 1, -1, -1):
            if self._open[place] in ended:
                self._pop(place)
                return
            if self._open[place] in barriers or "1" in barriers:
                return

    def _pop(self, place: int) -> None:
        """Close the open elements from a place on."""
        for name in self._open[place:]:
            self._count[name] -= 1
        del self._open[place:]

    def _close(self, name: str, start: int, end: int) -> None:
        if self._dropped.get(name):
            self._dropped[name] -= 1
            self._cuts.append((start, end))
            return
        if name in _FORMATTING and self._formatting:
            self._formatting -= 1
        if self._count.get(name):
            place = len(self._open) - 1
            while self._open[place] != name:
                place -= 1
            self._pop(place)
        if name in ("svg", "math"):
            self._foreign = False
