"""Shorthand properties as the longhands that are read here, and values that a browser drops as invalid."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from zora_core.skills.css.contrast import valid_colour
from zora_core.skills.css.values import bare, length_px, number, split, text_of, tokens_of

WIDE = frozenset({"inherit", "initial", "unset", "revert", "revert-layer"})
FONT_SIZES = {
    "xx-small": 9.0, "x-small": 10.0, "small": 13.0, "medium": 16.0, "large": 18.0, "x-large": 24.0, "xx-large": 32.0,
    "xxx-large": 48.0,
}  # fmt: skip
_COLOURS = frozenset({"color", "background-color", "outline-color", "-webkit-text-fill-color"})
# The same words where the font is `monospace`, whose medium size is 13 pixels; the table of Chromium.
MONOSPACE_SIZES = {
    "xx-small": 9.0, "x-small": 10.0, "small": 12.0, "medium": 13.0, "large": 16.0, "x-large": 20.0, "xx-large": 26.0,
    "xxx-large": 39.0,
}  # fmt: skip
_LINE_STYLES = frozenset(
    {"none", "hidden", "dotted", "dashed", "solid", "double", "groove", "ridge", "inset", "outset", "auto"}
)
_LINE_WIDTHS = frozenset({"thin", "medium", "thick"})
_SIDES = ("top", "right", "bottom", "left")
LONGHANDS: dict[str, tuple[str, ...]] = {
    "background": (
        "background-color", "background-image", "background-clip", "background-size", "background-repeat",
        "background-position",
    ),
    "font": ("font-size", "font-weight", "line-height", "font-family"),
    "outline": ("outline-style", "outline-width", "outline-color"),
    "overflow": ("overflow-x", "overflow-y"),
    "inset": _SIDES,
    "inset-inline": ("left", "right"),
    "inset-block": ("top", "bottom"),
    "margin": tuple(f"margin-{side}" for side in _SIDES),
    "margin-inline": ("margin-left", "margin-right"),
    "margin-block": ("margin-top", "margin-bottom"),
    "animation": ("animation-name",),
    "grid-area": ("grid-row", "grid-column"),
}  # fmt: skip
_ALIASES = {
    "inset-inline-start": "left", "inset-inline-end": "right", "inset-block-start": "top", "inset-block-end": "bottom",
    "margin-inline-start": "margin-left", "margin-inline-end": "margin-right", "margin-block-start": "margin-top",
    "margin-block-end": "margin-bottom", "inline-size": "width", "block-size": "height",
    "-webkit-filter": "filter", "-webkit-backdrop-filter": "backdrop-filter", "-webkit-animation": "animation",
    "-webkit-animation-name": "animation-name", "-webkit-background-clip": "background-clip",
    "-webkit-box-shadow": "box-shadow", "-webkit-transform": "transform", "-webkit-background-size": "background-size",
    "-webkit-opacity": "opacity", "word-wrap": "overflow-wrap",
}  # fmt: skip
_DISPLAYS = frozenset(
    {
        "none", "contents", "block", "inline", "inline-block", "flow", "flow-root", "flex", "inline-flex", "grid",
        "inline-grid", "table", "inline-table", "table-row", "table-row-group", "table-header-group",
        "table-footer-group", "table-cell", "table-column", "table-column-group", "table-caption", "ruby", "ruby-base",
        "ruby-text", "list-item", "math", "run-in", "-webkit-box", "-webkit-inline-box", "-webkit-flex",
        "-webkit-inline-flex",
    }
)  # fmt: skip
_FOREIGN = re.compile(r"(^|[\s,(])-(moz|ms|o)-|progid:|expression\(", re.I)


@lru_cache(maxsize=16384)
def expand(name: str, value: str) -> tuple[tuple[str, str], ...] | None:
    """The longhands that a declaration sets, with their values; None where a browser drops it as invalid.

    A value with variables is kept whole for every longhand: `longhand` takes it apart once they are known.
    """
    name = _ALIASES.get(name, name)
    if name in LONGHANDS:
        if _pending(value) or value.lower() in WIDE:
            return tuple((longhand, value) for longhand in (name, *LONGHANDS[name]))
        parts = _EXPANDED[name](value)
        return None if parts is None else ((name, value), *parts.items())
    if not _pending(value) and value.lower() not in WIDE and not _valid(name, value):
        return None
    return ((name, value),)


def longhand(shorthand: str, name: str, value: str) -> str | None:
    """What a shorthand's value, variables put in, sets for one longhand; None where it is invalid."""
    found = expand(shorthand, value)
    return None if found is None else dict(found).get(name)


def _pending(value: str) -> bool:
    return "var(" in value.lower()


def _valid(name: str, value: str) -> bool:
    """Whether a browser keeps a value, for the properties whose fallbacks decide what is reported."""
    lowered = value.lower()
    if name in _COLOURS:
        return valid_colour(value) or (name == "outline-color" and lowered in {"auto", "invert"})
    if name == "font-size":
        return lowered in FONT_SIZES or lowered in {"smaller", "larger", "math"} or _lengthy(value)
    if name == "font-weight":
        return lowered in {"normal", "bold", "bolder", "lighter"} or number(value) is not None or _functional(value)
    if name == "opacity":
        return number(value) is not None or _functional(value)
    if name == "position":
        return lowered in {"static", "relative", "absolute", "fixed", "sticky", "-webkit-sticky"}
    if name == "visibility":
        return lowered in {"visible", "hidden", "collapse"}
    if name == "display":
        return set(lowered.split()) <= _DISPLAYS
    if name in {"background-image", "box-shadow", "filter", "clip-path"}:
        return bool(lowered) and not _FOREIGN.search(value)
    return True


def _lengthy(value: str) -> bool:
    """Whether a value is a length or a percentage, or a function that may come to one."""
    tokens = bare(tokens_of(value))
    if len(tokens) != 1:
        return False
    token = tokens[0]
    if token.type in {"percentage", "dimension"}:
        return bool(token.value >= 0)
    return token.type == "function" or length_px(value, 16.0) is not None


def _functional(value: str) -> bool:
    tokens = bare(tokens_of(value))
    return len(tokens) == 1 and tokens[0].type == "function"


# ---- one function for each shorthand


def _background(value: str) -> dict[str, str] | None:
    if _FOREIGN.search(value) or not value:
        return None
    layers = [bare(layer) for layer in split(tokens_of(value), ",")]
    images, clips, sizes, repeats, positions = [], [], [], [], []
    colour = "transparent"
    for place, layer in enumerate(layers):
        image, clip, after_slash = "none", "border-box", False
        size: list[str] = []
        repeat: list[str] = []
        position: list[str] = []
        for token in layer:
            text = text_of([token])
            word = token.lower_value if token.type == "ident" else ""
            if token.type == "literal" and token.value == "/":
                after_slash = True
            elif token.type == "url" or (token.type == "function" and _paints(token.lower_name)):
                image, after_slash = text, False
            elif word in {"text", "border-box", "padding-box", "content-box"}:
                clip, after_slash = word, False
            elif word in {"scroll", "fixed", "local"}:
                after_slash = False
            elif word in {"repeat", "no-repeat", "repeat-x", "repeat-y", "space", "round"}:
                repeat.append(word)
                after_slash = False
            elif word == "none":
                image = "none"
            elif word in {"left", "right", "top", "bottom", "center"} or _measure(token):
                (size if after_slash else position).append(text)
            elif after_slash and word in {"cover", "contain", "auto"}:
                size.append(word)
            elif place == len(layers) - 1 and colour == "transparent" and valid_colour(text):
                colour = text
            else:
                return None
        images.append(image)
        clips.append(clip)
        sizes.append(" ".join(size) or "auto")
        repeats.append(" ".join(repeat) or "repeat")
        positions.append(" ".join(position) or "0% 0%")
    listed = (images, clips, sizes, repeats, positions)
    names = LONGHANDS["background"][1:]
    return {"background-color": colour, **{n: ", ".join(v) for n, v in zip(names, listed, strict=True)}}


def _paints(function: str) -> bool:
    return "gradient" in function or function in {
        "url", "src", "image", "image-set", "-webkit-image-set", "cross-fade", "-webkit-cross-fade", "element", "paint",
    }  # fmt: skip


def _measure(token: Any) -> bool:
    if token.type in {"dimension", "percentage", "number"}:
        return True
    return token.type == "function" and token.lower_name in {"calc", "min", "max", "clamp", "env", "round"}


def _font(value: str) -> dict[str, str] | None:
    tokens = bare(tokens_of(value))
    if len(tokens) == 1 and tokens[0].type == "ident":
        system = text_of(tokens)  # a font of the reader's system, whose size cannot be told
        return {"font-size": system, "font-weight": "400", "line-height": "normal", "font-family": system}
    weight = "400"
    for place, token in enumerate(tokens):
        text = text_of([token])
        if (token.type == "number" and 1 <= token.value <= 1000) or (
            token.type == "ident" and token.lower_value in {"bold", "bolder", "lighter"}
        ):
            weight = text
        elif text.lower() in FONT_SIZES or text.lower() in {"smaller", "larger"} or _lengthy(text):
            rest = tokens[place + 1 :]
            slash = bool(rest) and rest[0].type == "literal" and rest[0].value == "/"
            if not rest or (slash and len(rest) < 3):
                return None
            return {
                "font-size": text,
                "font-weight": weight,
                "line-height": text_of([rest[1]]) if slash else "normal",
                "font-family": text_of(rest[2:] if slash else rest),
            }
        elif token.type not in {"ident", "dimension", "percentage"}:
            return None
    return None


def _outline(value: str) -> dict[str, str] | None:
    found = {"outline-style": "none", "outline-width": "medium", "outline-color": "currentcolor"}
    for token in bare(tokens_of(value)):
        text = text_of([token])
        if text.lower() in _LINE_STYLES:
            found["outline-style"] = text
        elif text.lower() in _LINE_WIDTHS or token.type in {"dimension", "number"} or _calculated(token):
            found["outline-width"] = text
        elif valid_colour(text) or text.lower() == "invert":
            found["outline-color"] = text
        else:
            return None
    return found


def _calculated(token: Any) -> bool:
    return token.type == "function" and token.lower_name in {"calc", "min", "max", "clamp"}


def _two(names: Iterable[str]) -> Callable[[str], dict[str, str] | None]:
    first, second = names

    def expanded(value: str) -> dict[str, str] | None:
        parts = [text_of([token]) for token in bare(tokens_of(value))]
        return {first: parts[0], second: parts[-1]} if 1 <= len(parts) <= 2 else None

    return expanded


def _four(names: tuple[str, ...]) -> Callable[[str], dict[str, str] | None]:
    def expanded(value: str) -> dict[str, str] | None:
        parts = [text_of([token]) for token in bare(tokens_of(value))]
        if not 1 <= len(parts) <= 4:
            return None
        top = parts[0]
        right = parts[1] if len(parts) > 1 else top
        bottom = parts[2] if len(parts) > 2 else top
        left = parts[3] if len(parts) > 3 else right
        return dict(zip(names, (top, right, bottom, left), strict=True))

    return expanded


def _animation(value: str) -> dict[str, str]:
    words = [token.value for token in tokens_of(value) if token.type == "ident"]
    return {"animation-name": " ".join(words)}


def _grid_area(value: str) -> dict[str, str]:
    parts = [text_of(part) for part in split(tokens_of(value), "/")]
    row, column = parts[0], parts[1] if len(parts) > 1 else parts[0]
    ends = [*parts[2:], "auto", "auto"][:2]
    return {"grid-row": f"{row} / {ends[0]}", "grid-column": f"{column} / {ends[1]}"}


_EXPANDED: dict[str, Callable[[str], dict[str, str] | None]] = {
    "background": _background,
    "font": _font,
    "outline": _outline,
    "overflow": _two(LONGHANDS["overflow"]),
    "inset": _four(LONGHANDS["inset"]),
    "inset-inline": _two(LONGHANDS["inset-inline"]),
    "inset-block": _two(LONGHANDS["inset-block"]),
    "margin": _four(LONGHANDS["margin"]),
    "margin-inline": _two(LONGHANDS["margin-inline"]),
    "margin-block": _two(LONGHANDS["margin-block"]),
    "animation": _animation,
    "grid-area": _grid_area,
}
