"""SVG as we draw it: elements whose every text is escaped, texts that fit, and links that stay on this server.

Colours and strokes come from CSS, by classes; nothing here has a style.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup, escape

WIDTH = 400  # of a chart that is as wide as its place
FONT = 13  # in such a chart; in a place of 340 px that is 11 px
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]"
)  # what neither XML nor a page can hold
_OURS = re.compile(r"[/?#](?![/\\])[^\s\\]*")  # an address on this server


def drawing(
    kind: str,
    width: float,
    height: float,
    title: str,
    desc: str,
    body: Iterable[Markup],
    *,
    role: str = "img",
    natural: bool = False,
) -> Markup:
    """The whole; `title` and `desc` are read out in its place. With `natural` it has a size, else that of its place."""
    size = {"width": math.ceil(width), "height": math.ceil(height)} if natural else {}
    content = [tag("title", [title]), tag("desc", [desc]), *body]
    box = f"0 0 {math.ceil(width)} {math.ceil(height)}"
    return tag("svg", content, class_=f"c-chart {kind}", viewBox=box, role=role, **size)


def nothing(kind: str, title: str, said: str, width: int = WIDTH, height: int = 60) -> Markup:
    """A chart of nothing, which says so."""
    small = 11 if height < 60 else FONT
    return drawing(
        kind,
        width,
        height,
        title,
        said,
        [text(width / 2, height / 2 + 4, said, small, "middle", "c-text c-empty")],
        natural=kind in ("c-spark", "c-graph"),
    )


def tag(name: str, content: Iterable[str] = (), **attributes: str | float) -> Markup:
    """An element; everything that is no `Markup` is escaped. `class_` is class, and `_` in a name is a hyphen."""
    said = Markup("").join(
        Markup(' {}="{}"').format(
            key.rstrip("_").replace("_", "-"), clean(value if isinstance(value, str) else tenths(value))
        )
        for key, value in attributes.items()
    )
    inner = Markup("").join(part if isinstance(part, Markup) else escape(clean(part)) for part in content)
    return Markup("<{0}{1}>{2}</{0}>").format(name, said, inner)


def text(x: float, y: float, said: str, size: int = FONT, anchor: str = "start", kind: str = "c-text") -> Markup:
    """One line of text; `x` and `y` are where its base line begins, ends or has its middle, as `anchor` says."""
    return tag("text", [said], class_=kind, x=x, y=y, font_size=size, text_anchor=anchor)


def clean(text: str) -> str:
    """A text with a mark in place of what no document can hold."""
    return _CONTROL.sub("\ufffd", text)


def tenths(value: float) -> str:
    """A number for SVG, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")


def point(x: float, y: float) -> str:
    """A place, as paths have it."""
    return f"{tenths(x)} {tenths(y)}"


def text_width(text: str, size: float) -> float:
    """About how wide a text is in a sans-serif; rather too much than too little, as the font is not known here."""
    return size * sum(map(_em, text))


def _em(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    if character in "mwMW@%":
        return 0.95
    if character.isupper() or not character.isascii():
        return 0.72
    return 0.32 if character in "iljtfrI.,:;'!|()[] " else 0.58


def fitted(text: str, width: float, size: float) -> str:
    """A text that fits into a width, with … for what is cut off."""
    flat = " ".join(clean(text).split())
    if text_width(flat, size) <= width:
        return flat
    left = width - text_width("…", size)
    kept = 0
    for character in flat:
        left -= size * _em(character)
        if left < 0:
            break
        kept += 1
    return flat[:kept].rstrip() + "…"


def local_href(row: Mapping[str, Any]) -> str | None:
    """An address that does not leave this server."""
    href = str(row.get("href") or "")
    return href if _OURS.fullmatch(href) else None
