"""Colours of CSS and the contrast between them, as WCAG 2.2 defines it."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import tinycss2.color4

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
        red, green, blue = (
            (top * self.alpha + bottom * below.alpha * (1 - self.alpha)) / alpha
            for top, bottom in zip(self[:3], below[:3], strict=True)
        )
        return Colour(red, green, blue, alpha)

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

# Keywords that CSS takes from the system; light theme.
_SYSTEM = {
    "canvas": WHITE,
    "canvastext": BLACK,
    "buttonface": Colour(0.937, 0.937, 0.937),
    "buttontext": BLACK,
    "field": WHITE,
    "fieldtext": BLACK,
    "linktext": Colour(0, 0, 0.933),
}


@lru_cache(maxsize=4096)
def parse_colour(value: str, current: Colour = BLACK) -> Colour | None:
    """The colour that a CSS value names; `currentcolor` is `current`.

    None for what is no colour, and for the spaces that tinycss2 cannot convert to sRGB (lab, lch, oklab, oklch).
    """
    text = value.strip().lower()
    if text in _SYSTEM:
        return _SYSTEM[text]
    try:
        parsed = tinycss2.color4.parse_color(text)
        if parsed is None or parsed == "currentcolor":
            return current if parsed else None
        channels = parsed.to("srgb")
    except (ValueError, ZeroDivisionError, NotImplementedError):
        return None
    red, green, blue = (max(0.0, min(1.0, c or 0.0)) for c in channels.coordinates)
    return Colour(red, green, blue, max(0.0, min(1.0, channels.alpha)))


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


def passing_colour(front: Colour, back: Colour, ratio: float) -> Colour | None:
    """The colour nearest to `front`, towards black or white, with at least `ratio` on `back`; None if there is none."""
    for end in sorted((BLACK, WHITE), key=lambda end: -contrast_ratio(end, back)):
        for step in range(1, 51):
            mixed = end.faded(step / 50).over(front.over(back))
            rounded = parse_colour(mixed.hex)
            if rounded is not None and contrast_ratio(rounded, back) >= ratio:
                return rounded
    return None
