"""What lies behind a text: the contrast between the two, or that it cannot be told without laying the page out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice, pairwise
from typing import Any

from zora_core.skills.accessibility.view import View
from zora_core.skills.css.contrast import (
    TRANSPARENT,
    WHITE,
    Colour,
    contrast_ratio,
    parse_colour,
    valid_colour,
)
from zora_core.skills.css.styles import Style
from zora_core.skills.css.values import bare, length_px, number, split, text_of, tokens_of
from zora_core.skills.page.dom import Element

_FACES = {"button": "buttonface", "input": "field", "select": "field", "textarea": "field", "mark": "mark"}
_BUTTONS = frozenset({"submit", "button", "reset"})
_REPLACED = frozenset({"img", "video", "canvas", "iframe", "embed", "object", "svg", "picture"})
_OUT_OF_FLOW = frozenset({"absolute", "fixed", "sticky", "-webkit-sticky"})
_GRIDS = frozenset({"grid", "inline-grid"})
_PAINTED = ("background-color", "background-image", "background-clip", "opacity", "filter", "mix-blend-mode")
_ANIMATED = frozenset({"color", "background-color", "background-image", "background", "opacity", "filter", "all"})
_CANVAS_DARK = Colour(18 / 255, 18 / 255, 18 / 255)
# Overlaps of fewer pixels do not bring a text onto another background, and boxes as small lie beside it.
_SHIFTED_PX = 16.0
_SMALL_PX = 64.0
# Stands for a size that only a layout tells, to see whether a share of it is negative or nothing.
_SOME_PX = 100.0
_MAX_LAYERS = 64
_MAX_GRADIENTS = 8
_MAX_STOPS = 16
_MAX_SHADOW = 1_000
# Below this contrast a text cannot be seen at all.
_INVISIBLE = 1.02
_MAX_INSIDE = 60


@dataclass(frozen=True)
class Contrast:
    """The best contrast of a text with what lies behind it, and the two colours.

    `doubt` says in a sentence why the background may be another; it is empty where nothing points to that.
    """

    ratio: float
    front: Colour
    back: Colour
    doubt: str = ""


class Backdrops:
    """The backgrounds behind the texts of a page."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._known: dict[tuple[Element, bool], bool] = {}
        self._painted: dict[Element, list[Colour]] = {}

    def contrast(self, element: Element) -> Contrast | None:
        """The best contrast of an element's text with what lies behind it; None where it cannot be told.

        Backgrounds are composited from the element outwards; of a gradient every colour stop counts, and colours
        between two stops. Images, shadows, blend modes, filters, animations, boxes that lie over others and values that
        hang on unknown conditions leave it open.
        """
        style = self._view.styles[element]
        ink = _ink(style)
        if ink is None or ink.alpha == 0 or style.get("text-shadow") not in {"", "none"}:
            return None
        layers: list[tuple[Colour, Colour]] = [(ink, TRANSPARENT)]
        covered = False
        for place in [element, *element.ancestors()]:
            here = self._view.styles[place]
            key = (place, place is element)
            if key not in self._known:
                self._known[key] = not self._unclear(here, text=place is element)
            if not self._known[key]:
                return None
            over = self._laid_over(place, element)
            if over is None:
                return None
            covered |= over
            if place not in self._painted:
                self._painted[place] = self._backgrounds(place)
            backs = self._painted[place]
            if not backs:
                return None
            opacity = _opacity(here)
            layers = [
                (front.over(b).faded(opacity), back.over(b).faded(opacity)) for front, back in layers for b in backs
            ][:_MAX_LAYERS]
            if all(back.alpha >= 0.999 for _, back in layers):
                if place.parent in self._veiled:
                    continue
                break
            if self._shifted(place, text=place is element):
                return None
        root = self._view.document.root
        canvas = _CANVAS_DARK if root is not None and self._view.styles[root].scheme_dark else WHITE
        pairs = [(front.over(canvas), back.over(canvas)) for front, back in layers]
        front, back = max(pairs, key=lambda pair: contrast_ratio(*pair))
        ratio = contrast_ratio(front, back)
        return Contrast(ratio, front, back, self._doubt(covered, ratio))

    def _doubt(self, covered: bool, ratio: float) -> str:
        if not self._view.styles.complete:
            return "A style sheet of the page was not read, so the colours may be others."
        if ratio < _INVISIBLE:
            return "Text in the colour of its background may be hidden on purpose, or lie on something else."
        return "A positioned element may lie behind the text." if covered else ""

    @cached_property
    def _veiled(self) -> set[Element]:
        """Elements that are painted as a group, or stand in one: what is inside is faded or filtered as a whole."""
        veiled: set[Element] = set()
        for element in self._view.document.elements:
            style = self._view.styles[element]
            own = _opacity(style) < 1 or any(
                not style.known(name) or style.get(name) not in {"", "none", "normal", "initial", "unset", "1", "100%"}
                for name in ("opacity", "filter", "mix-blend-mode")
            )
            if own or element.parent in veiled:
                veiled.add(element)
        return veiled

    def _unclear(self, style: Style, *, text: bool) -> bool:
        """Whether something about an element's painting cannot be computed here."""
        if not all(style.known(name) for name in _PAINTED):
            return True
        if style.get("filter") not in {"", "none", "initial", "unset"} and not style.get("filter").startswith("drop-"):
            return True
        if style.get("mix-blend-mode") not in {"", "normal", "initial", "unset"}:
            return True
        if "text" in style.get("background-clip") or (text and style.get("-webkit-text-stroke") not in {"", "0"}):
            return True
        if style.get("backdrop-filter") not in {"", "none"} or style.get("mask-image") not in {"", "none"}:
            return True
        if "inset" in style.get("box-shadow") and _spreads(style):
            return True
        names = style.get("animation-name").replace(",", " ").split()
        return any(self._view.styles.sheets.keyframes.get(name, set()) & _ANIMATED for name in names)

    # ---- boxes that lie over others

    @cached_property
    def _positioned(self) -> dict[Element, list[Element]]:
        """Boxes taken out of the flow that paint something, by the box that they are placed in."""
        found: dict[Element, list[Element]] = defaultdict(list)
        root = self._view.document.root
        for element in self._view.document.elements:
            position = self._view.styles[element].get("position")
            if position not in {"absolute", "fixed"} or not self._view.shown(element) or not self._paints(element):
                continue
            holder = root if position == "fixed" else self._holder(element)
            if holder is not None:
                found[holder].append(element)
        return found

    def _holder(self, element: Element) -> Element | None:
        """The nearest ancestor that an absolute position counts from."""
        for ancestor in element.ancestors():
            style = self._view.styles[ancestor]
            if style.get("position") not in {"", "static", "initial", "unset"}:
                return ancestor
            if style.get("transform") not in {"", "none"} or style.get("filter") not in {"", "none"}:
                return ancestor
        return self._view.document.root

    def _paints(self, element: Element) -> bool:
        inside = list(islice(element.descendants(), _MAX_INSIDE))
        return len(inside) == _MAX_INSIDE or any(
            place.tag in _REPLACED or _has_background(self._view.styles[place]) for place in [element, *inside]
        )

    def _laid_over(self, place: Element, text: Element) -> bool | None:
        """Whether a box placed in `place` may lie behind the text; None where one lies over all of it."""
        style = self._view.styles[place]
        for part in (style.before, style.after):
            if part is not None and part.displayed and _has_background(part):
                if part.get("position") in {"absolute", "fixed"}:
                    if _extent(part) == "all":
                        return None
                elif place is not text and part.get("display") in _GRIDS:
                    return None
        possible = False
        for box in self._positioned.get(place, ()):
            if box is text or box in set(text.ancestors()):
                continue
            extent = _extent(self._view.styles[box])
            # The height of an image follows from its width and its file.
            if extent == "all" or (extent == "some" and box.tag in _REPLACED):
                return None
            fixed = self._view.styles[box].get("position") == "fixed"
            possible |= extent == "some" and not fixed and text not in set(box.ancestors())
        parent = place.parent
        if parent is not None and self._view.styles[parent].get("display") in _GRIDS and self._stacked(place, parent):
            return None
        return possible

    def _stacked(self, place: Element, parent: Element) -> bool:
        """Whether a sibling stands in the same cell of a grid and paints something."""
        own = _cell(self._view.styles[place])
        return own is not None and any(
            sibling is not place
            and _cell(self._view.styles[sibling]) == own
            and self._view.shown(sibling)
            and self._paints(sibling)
            for sibling in parent.elements
        )

    def _shifted(self, place: Element, *, text: bool) -> bool:
        """Whether a box without a background of its own is moved off the one around it."""
        style = self._view.styles[place]
        if style.get("position") in _OUT_OF_FLOW or (style.get("float") in {"left", "right"} and not text):
            return True
        if any(_far(style, value) for value in _translations(style)):
            return True
        if any(_drawn_back(style, name) for name in ("margin-top", "margin-left", "margin-bottom")):
            return True
        if style.get("position") == "relative":
            sides = ("top", "bottom", "left", "right")
            if any(_drawn_back(style, name) or _far(style, style.get(name), 2 * _SHIFTED_PX) for name in sides):
                return True
        previous = place.preceding()
        return previous is not None and _drawn_back(self._view.styles[previous], "margin-bottom")

    # ---- backgrounds

    def _backgrounds(self, element: Element) -> list[Colour]:
        """The colours an element paints behind its content; none where it paints an image or they cannot be told."""
        style = self._view.styles[element]
        base = self._base(element, style)
        if base is None:
            return []
        image = style.raw("background-image")
        if image.lower() in {"", "none", "initial", "unset"}:
            return [base]
        layers = _gradients(image, style.get("background-size"), style.colour, style.scheme_dark)
        colours = [base] if layers is not None else []
        for stops in layers or ():
            colours = [stop.over(below) for stop in stops for below in colours][:_MAX_LAYERS]
        return colours

    def _base(self, element: Element, style: Style) -> Colour | None:
        """The background colour; None where it cannot be told."""
        value = style.get("background-color")
        if value == "inherit":
            return self._base(element.parent, self._view.styles[element.parent]) if element.parent else TRANSPARENT
        if value in {"initial", "unset", "none"}:
            return TRANSPARENT
        if not value:
            face = _FACES.get(element.tag, "transparent")
            kind = element.get("type").lower()
            if element.tag == "input" and kind in _BUTTONS:
                face = _FACES["button"]
            elif element.tag == "input" and kind in {"checkbox", "radio", "range", "image"}:
                face = "transparent"
            if face != "transparent" and style.scheme_dark:
                return None
            return parse_colour(face)
        if "currentcolor" in value and style.colour is None:
            return None
        return parse_colour(value, style.colour or TRANSPARENT, style.scheme_dark)


def _drawn_back(style: Style, name: str) -> bool:
    """Whether a negative length may bring a box onto its neighbour."""
    if "%" in style.get(name):
        return (style.length(name, _SOME_PX) or 0.0) < 0
    pixels = style.length(name)
    return pixels is not None and pixels <= -_SHIFTED_PX


def _far(style: Style, value: str, least: float = _SHIFTED_PX) -> bool:
    """Whether a length, of either sign, is a large one; a share of something that is not laid out here may be."""
    share = "%" in value
    pixels = length_px(value, style.font_px, _SOME_PX if share else None, style.root_px)
    return pixels is not None and (pixels != 0 if share else abs(pixels) >= least)


def _translations(style: Style) -> Iterator[str]:
    """The lengths by which `translate` and the functions of `transform` move a box on the screen."""
    yield from (text_of([token]) for token in bare(tokens_of(style.get("translate")))[:2])
    for token in bare(tokens_of(style.get("transform"))):
        if token.type != "function":
            continue
        arguments = [text_of(part) for part in split(token.arguments, ",")]
        match token.lower_name:
            case "translate" | "translate3d" | "translatex" | "translatey":
                yield from arguments[:2]
            case "matrix":
                yield from (f"{pixels}px" for pixels in arguments[4:6])
            case "matrix3d":
                yield from (f"{pixels}px" for pixels in arguments[12:14])


def _ink(style: Style) -> Colour | None:
    fill = style.get("-webkit-text-fill-color")
    if fill in {"", "currentcolor", "inherit", "initial", "unset"}:
        return style.colour
    return parse_colour(fill, style.colour or TRANSPARENT, style.scheme_dark)


def _opacity(style: Style) -> float:
    value = number(style.get("opacity"))
    return 1.0 if value is None else max(0.0, min(1.0, value))


def _spreads(style: Style) -> bool:
    """Whether an inner shadow reaches far enough to lie behind the text."""
    shadow = style.get("box-shadow")
    lengths = re.findall(r"-?\d*\.?\d+(?:px|r?em|vw|vh)", shadow) if len(shadow) < _MAX_SHADOW else []
    pixels = [length_px(length, style.font_px, None, style.root_px) or 0.0 for length in lengths]
    return not lengths or any(abs(length) >= _SMALL_PX for length in pixels)


def _has_background(style: Style) -> bool:
    colour = style.get("background-color")
    image = style.get("background-image")
    painted = colour not in {"", "transparent", "initial", "unset", "none"}
    if painted:
        found = parse_colour(colour, style.colour or WHITE, style.scheme_dark)
        painted = found is None or found.alpha > 0
    return painted or image not in {"", "none", "initial", "unset"} or style.get("content").startswith("url(")


def _extent(style: Style) -> str:
    """How much of the box that it is placed in a positioned box takes up: "all", "some" or "little"."""
    spans = []
    for start, end, size, least in (
        ("left", "right", "width", "min-width"),
        ("top", "bottom", "height", "min-height"),
    ):
        stated = max(_share(style, size), _share(style, least))
        pinned = all(style.get(side) not in {"", "auto", "unset", "initial"} for side in (start, end))
        pixels = style.length(size)
        if stated >= 0.9 or (pinned and pixels is None):
            spans.append("all")
        elif pixels is not None and pixels <= _SMALL_PX:
            spans.append("little")
        else:
            spans.append("some")
    if spans == ["all", "all"]:
        return "all"
    return "little" if "little" in spans else "some"


def _share(style: Style, name: str) -> float:
    """A size as a share of the box around it or of the window."""
    value = style.get(name)
    if value in {"-webkit-fill-available", "stretch", "fill-available"}:
        return 1.0
    if value.endswith(("vw", "vh")) and (stated := number(value[:-2].rstrip("sdl"))) is not None:
        return stated / 100
    found = number(value) if value.endswith("%") else None
    return found or 0.0


def _cell(style: Style) -> tuple[str, str] | None:
    row, column = style.get("grid-row"), style.get("grid-column")
    return (row, column) if row and column else None


@lru_cache(maxsize=1024)
def _gradients(image: str, size: str, current: Colour | None, dark: bool) -> list[list[Colour]] | None:
    """The colours of the gradients of a `background-image`, the lowest first; None where they cannot be told."""
    layers = split(tokens_of(image), ",")
    sizes = [text_of(part) for part in split(tokens_of(size or "auto"), ",")]
    if len(layers) > _MAX_GRADIENTS:
        return None
    found = []
    for place, layer in reversed(list(enumerate(layers))):
        tokens = bare(layer)
        if sizes[place % len(sizes)] not in {"auto", "cover", "contain", "100%", "100% 100%", "auto auto", "unset"}:
            return None
        if len(tokens) == 1 and tokens[0].type == "ident" and tokens[0].lower_value == "none":
            continue
        if len(tokens) != 1 or tokens[0].type != "function" or "gradient" not in tokens[0].lower_name:
            return None
        stops = _stops(tokens[0].arguments, current, dark)
        if not stops:
            return None
        found.append(stops)
    return found


def _stops(arguments: list[Any], current: Colour | None, dark: bool) -> list[Colour]:
    """The colours of a gradient and three between each pair; none where one of them cannot be told."""
    stops: list[Colour] = []
    for part in split(arguments, ","):
        tokens = bare(part)
        words = [token.lower_value for token in tokens if token.type == "ident"]
        if "in" in words and set(words) & {"hsl", "hwb", "lch", "oklch"}:
            return []
        for token in tokens:
            text = text_of([token])
            if token.type in {"ident", "hash", "function"} and valid_colour(text):
                colour = parse_colour(text, current or TRANSPARENT, dark)
                if colour is None or ("currentcolor" in text.lower() and current is None):
                    return []
                stops.append(colour)
    return list(_between(stops)) if len(stops) <= _MAX_STOPS else []


def _between(stops: list[Colour]) -> Iterator[Colour]:
    for first, second in pairwise(stops):
        for step in range(4):
            share = step / 4
            alpha = first.alpha + (second.alpha - first.alpha) * share
            mixed = (
                (a * first.alpha * (1 - share) + b * second.alpha * share) / alpha if alpha else a
                for a, b in zip(first[:3], second[:3], strict=True)
            )
            red, green, blue = mixed
            yield Colour(red, green, blue, alpha)
    yield from stops[-1:]
