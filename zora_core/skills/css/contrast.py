"""Colours of CSS and the contrast between them, as WCAG 2.2 defines it."""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import lru_cache
from typing import Any, NamedTuple

import tinycss2
import tinycss2.color4

from zora_core.skills.css.values import Amount, bare, calculate, split, text_of, tokens_of

LARGE_PX = 24.0
LARGE_BOLD_PX = 18.66
BOLD_WEIGHT = 700


class Colour(NamedTuple):
    """An sRGB colour; every channel and the opacity in 0..1."""

    red: float
    green: float
    blue: float
    alpha: float = 1.0

    def over(self, below: Colour) -> Colour:
        """This colour painted on `below` (source-over compositing)."""
        alpha = self.alpha + below.alpha * (1 - self.alpha)
        if alpha == 0:
            return TRANSPARENT
        if self.alpha == 1:
            return self
        own, other = self.alpha / alpha, below.alpha * (1 - self.alpha) / alpha
        return Colour(
            self.red * own + below.red * other,
            self.green * own + below.green * other,
            self.blue * own + below.blue * other,
            alpha,
        )

    def faded(self, opacity: float) -> Colour:
        """The same colour with its opacity multiplied."""
        return self._replace(alpha=self.alpha * opacity)

    @property
    def hex(self) -> str:
        """`#rrggbb`, without the opacity."""
        return "#" + "".join(f"{round(max(0.0, min(1.0, c)) * 255):02x}" for c in self[:3])


TRANSPARENT = Colour(0, 0, 0, 0)
WHITE = Colour(1, 1, 1)
BLACK = Colour(0, 0, 0)

# Keywords that CSS takes from the system, as Chromium paints them in its light and in its dark scheme.
_SYSTEM = {
    "canvas": ("#ffffff", "#121212"),
    "canvastext": ("#000000", "#ffffff"),
    "linktext": ("#0000ee", "#9e9eff"),
    "visitedtext": ("#551a8b", "#d0adf0"),
    "activetext": ("#ff0000", "#ff0000"),
    "buttonface": ("#efefef", "#6b6b6b"),
    "buttontext": ("#000000", "#ffffff"),
    "buttonborder": ("#000000", "#ffffff"),
    "field": ("#ffffff", "#3b3b3b"),
    "fieldtext": ("#000000", "#ffffff"),
    "graytext": ("#808080", "#808080"),
    "mark": ("#ffff00", "#ffff00"),
    "marktext": ("#000000", "#000000"),
    "-webkit-link": ("#0000ee", "#9e9eff"),
}
# Deprecated names of the same (CSS Color 4, appendix A), and names whose colour the reader's system chooses.
_DEPRECATED = {
    "window": "canvas", "windowtext": "canvastext", "background": "canvas", "infobackground": "canvas",
    "infotext": "canvastext", "menu": "canvas", "menutext": "canvastext", "scrollbar": "canvas",
    "appworkspace": "canvas", "buttonhighlight": "buttonface", "buttonshadow": "buttonface", "threedface": "buttonface",
    "captiontext": "canvastext", "inactivecaptiontext": "graytext",
}  # fmt: skip
_CHOSEN_BY_THE_SYSTEM = frozenset(
    {
        "highlight", "highlighttext", "accentcolor", "accentcolortext", "selecteditem", "selecteditemtext",
        "activeborder", "activecaption", "inactiveborder", "inactivecaption", "threeddarkshadow", "threedhighlight",
        "threedlightshadow", "threedshadow", "windowframe", "-webkit-focus-ring-color",
    }
)  # fmt: skip
_FUNCTIONS = frozenset(
    {
        "rgb", "rgba", "hsl", "hsla", "hwb", "lab", "lch", "oklab", "oklch", "color", "color-mix", "light-dark",
        "contrast-color", "device-cmyk", "alpha",
    }
)  # fmt: skip
# How a colour function's channels are named where another colour is taken apart (CSS Color 5, 4), with the space of
# coloraide, the channels' names there and the factor between the two.
_RELATIVE = {
    "rgb": ("srgb", (("r", 255.0), ("g", 255.0), ("b", 255.0))),
    "hsl": ("hsl", (("h", 1.0), ("s", 100.0), ("l", 100.0))),
    "hwb": ("hwb", (("h", 1.0), ("w", 100.0), ("b", 100.0))),
    "lab": ("lab", (("l", 1.0), ("a", 1.0), ("b", 1.0))),
    "lch": ("lch", (("l", 1.0), ("c", 1.0), ("h", 1.0))),
    "oklab": ("oklab", (("l", 1.0), ("a", 1.0), ("b", 1.0))),
    "oklch": ("oklch", (("l", 1.0), ("c", 1.0), ("h", 1.0))),
}
_MIXED_IN = {
    "srgb": "srgb", "srgb-linear": "srgb-linear", "hsl": "hsl", "hwb": "hwb", "lab": "lab", "lch": "lch",
    "oklab": "oklab", "oklch": "oklch", "xyz": "xyz-d65", "xyz-d65": "xyz-d65", "xyz-d50": "xyz-d50",
    "display-p3": "display-p3", "a98-rgb": "a98-rgb", "prophoto-rgb": "prophoto-rgb",
}  # fmt: skip
_MAX_NESTED = 8


def valid_colour(value: str) -> bool:
    """Whether a browser takes a value for a colour, including those that `parse_colour` cannot compute."""
    tokens = bare(tokens_of(value))
    if len(tokens) == 1 and tokens[0].type == "function" and tokens[0].lower_name in _FUNCTIONS:
        return tokens[0].lower_name not in {"rgb", "rgba", "hsl", "hsla"} or len(bare(tokens[0].arguments)) >= 3
    return value.strip().lower() in _CHOSEN_BY_THE_SYSTEM or parse_colour(value) is not None


@lru_cache(maxsize=8192)
def parse_colour(value: str, current: Colour = BLACK, dark: bool = False) -> Colour | None:
    """The sRGB colour that a CSS value names, as CSS Color 4 and 5 define it; None for any other value.

    `currentcolor` is `current`; `dark` chooses the dark side of `light-dark()` and of the system's colours. Channels
    outside sRGB are clipped, as Chromium does. None also for functions that cannot be computed, as `device-cmyk()`.
    """
    tokens = bare(tokens_of(value))
    if len(tokens) != 1:
        return None
    return _colour(tokens[0], current, dark, 0)


def _colour(token: Any, current: Colour, dark: bool, depth: int) -> Colour | None:
    if depth > _MAX_NESTED:
        return None
    if token.type == "ident":
        name = _DEPRECATED.get(token.lower_value, token.lower_value)
        if name == "currentcolor":
            return current
        if name in _SYSTEM:
            return parse_colour(_SYSTEM[name][dark])
        return _plain(name)
    if token.type == "hash":
        return _plain(f"#{token.value}")
    if token.type != "function":
        return None
    if token.lower_name == "light-dark":
        sides = [bare(side) for side in split(token.arguments, ",")]
        if len(sides) != 2 or any(len(side) != 1 for side in sides):
            return None
        return _colour(sides[dark][0], current, dark, depth + 1)
    made = _space_colour(token, current, dark, depth)
    return None if made is None else _clipped(made)


def _plain(text: str) -> Colour | None:
    """A name or a hexadecimal colour."""
    parsed = tinycss2.color4.parse_color(text)
    if parsed is None or isinstance(parsed, str):
        return None
    red, green, blue = parsed.coordinates
    return Colour(red, green, blue, parsed.alpha)


def _clipped(made: Any) -> Colour:
    red, green, blue, alpha = (
        0.0 if math.isnan(c) else max(0.0, min(1.0, c))
        for c in [*made.convert("srgb").coords(nans=False), made.alpha()]
    )
    return Colour(red, green, blue, alpha)


def _space_colour(token: Any, current: Colour, dark: bool, depth: int) -> Any:
    """A colour of coloraide, which knows the spaces of CSS Color 4 and how to mix in them; None where it is none."""
    from coloraide import Color  # 80 ms, and most pages name plain colours only

    if depth > _MAX_NESTED:
        return None
    if token.type != "function" or token.lower_name == "light-dark":
        found = _colour(token, current, dark, depth)
        return Color("srgb", found[:3], found.alpha) if found is not None else None
    if token.lower_name == "color-mix":
        return _mixed(token, current, dark, depth)
    name = token.lower_name.removesuffix("a") if token.lower_name in {"rgba", "hsla"} else token.lower_name
    arguments = bare(token.arguments)
    known: dict[str, float] = {}
    if arguments and arguments[0].type == "ident" and arguments[0].lower_value == "from":
        origin = _space_colour(arguments[1], current, dark, depth + 1) if len(arguments) > 1 else None
        if origin is None or name not in _RELATIVE:
            return None
        space, channels = _RELATIVE[name]
        there = origin.convert(space)
        coordinates = there.coords(nans=False)
        known = {c: value * factor for (c, factor), value in zip(channels, coordinates, strict=True)}
        known["alpha"] = there.alpha(nans=False)
        arguments = arguments[2:]
        if all(token != "/" for token in arguments):
            arguments += tokens_of("/ alpha")
            arguments = bare(arguments)
    if name == "color" and arguments and text_of(arguments[:1]).lower() == "rec2020":
        return None  # browsers have not settled on one transfer function
    words = [_channel(argument, known) for argument in arguments]
    if any(word is None for word in words):
        return None
    text = f"{name}({' '.join(word for word in words if word)})".replace(" ,", ",")
    try:
        return Color(text)
    except ValueError:
        return None


def _channel(token: Any, known: dict[str, float]) -> str | None:
    """One channel as plain text: keywords of a relative colour and math functions calculated."""

    def unit(inner: Any) -> Amount | None:
        if inner.type == "ident" and inner.lower_value in known:
            return known[inner.lower_value], 0
        return _percentage(inner)

    if token.type == "ident" and token.lower_value in known:
        return f"{known[token.lower_value]:.12f}"
    if token.type == "function":
        found = calculate([token], unit)
        if found is None or not math.isfinite(found[0]):
            return None
        return f"{found[0]:.12f}{'%' if found[1] else ''}"
    return str(tinycss2.serialize([token])).lower()


def _percentage(token: Any) -> Amount | None:
    """A percentage as an amount that adds up with its like only."""
    return (token.value, 1) if token.type == "percentage" else None


def _mixed(token: Any, current: Colour, dark: bool, depth: int) -> Any:
    """`color-mix()` of two colours; CSS Color 5, 3, with its rules for percentages that do not sum to 100."""
    from coloraide import Color

    parts = [bare(part) for part in split(token.arguments, ",")]
    space, hue = "oklab", "shorter"
    if parts and parts[0] and parts[0][0].type == "ident" and parts[0][0].lower_value == "in":
        words = [word.lower_value for word in parts.pop(0) if word.type == "ident"]
        space = words[1] if len(words) > 1 else ""
        hue = words[2] if len(words) == 4 and words[3] == "hue" else "shorter"
    if len(parts) != 2 or space not in _MIXED_IN:
        return None
    colours, shares = [], []
    for part in parts:
        shared = [calculate([t], _percentage) for t in part]
        stated = [found[0] / 100 for found in shared if found is not None and found[1]]
        named = [t for t, found in zip(part, shared, strict=True) if found is None]
        if len(named) != 1 or len(stated) > 1 or len(part) != len(named) + len(stated):
            return None
        colours.append(_space_colour(named[0], current, dark, depth + 1))
        shares.append(stated[0] if stated else None)
    if any(colour is None for colour in colours) or any(s is not None and not 0 <= s <= 1 for s in shares):
        return None
    first, second = shares
    if first is None:
        first = 0.5 if second is None else 1 - second
    second = 1 - first if second is None else second
    total = first + second
    if total == 0:
        return None
    mixed = Color.mix(colours[0], colours[1], second / total, space=_MIXED_IN[space], hue=hue, powerless=True)
    return mixed.set("alpha", mixed.alpha(nans=False) * min(1.0, total))


@lru_cache(maxsize=8192)
def luminance(colour: Colour) -> float:
    """Relative luminance, 0 (black) to 1 (white); WCAG 2.2, definition of relative luminance."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast_ratio(one: Colour, other: Colour) -> float:
    """Contrast ratio of two opaque colours, 1 to 21; WCAG 2.2, definition of contrast ratio."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def required_ratio(font_px: float, weight: int, level: str) -> float:
    """The least contrast for text of this size and weight: 1.4.3 for `AA`, 1.4.6 for `AAA`."""
    large = font_px >= LARGE_PX or (weight >= BOLD_WEIGHT and font_px >= LARGE_BOLD_PX)
    if level == "AAA":
        return 4.5 if large else 7.0
    return 3.0 if large else 4.5


@lru_cache(maxsize=4096)
def passing_colour(front: Colour, back: Colour, ratio: float) -> Colour | None:
    """The colour nearest to `front`, towards black or white, with at least `ratio` on `back`; None if there is none."""
    start = front.over(back)
    for end in sorted((BLACK, WHITE), key=lambda end: -contrast_ratio(end, back)):
        if contrast_ratio(end, back) >= ratio:
            step = bisect_left(range(1, 50), True, key=lambda step: _passes(end, start, step, back, ratio)) + 1
            return _stepped(end, start, step)
    return None


def _passes(end: Colour, start: Colour, step: int, back: Colour, ratio: float) -> bool:
    return contrast_ratio(_stepped(end, start, step), back) >= ratio


def _stepped(end: Colour, start: Colour, step: int) -> Colour:
    """A colour so many fiftieths of the way from `start` to `end`, rounded as `hex` writes it."""
    mixed = end.faded(step / 50).over(start)
    return Colour(*(round(max(0.0, min(1.0, channel)) * 255) / 255 for channel in mixed[:3]))
