"""Checks of what style sheets do to text, and of sound and film."""

from __future__ import annotations

import re
from collections.abc import Iterator

import tinycss2
from selectolax.lexbor import SelectolaxError

from zora_core.skills.accessibility.catalogue import Violation
from zora_core.skills.accessibility.view import View
from zora_core.skills.contrast import (
    TRANSPARENT,
    WHITE,
    Colour,
    contrast_ratio,
    parse_colour,
    passing_colour,
    required_ratio,
)
from zora_core.skills.dom import Element, shorten
from zora_core.skills.styles import Style, length_px

_SKIPPED = frozenset(
    {
        "option",
        "optgroup",
        "script",
        "style",
        "title",
        "noscript",
        "template",
        "svg",
        "canvas",
        "video",
        "audio",
        "iframe",
        "object",
    }
)
_FACES = {"button": "#efefef", "input": "#ffffff", "select": "#ffffff", "textarea": "#ffffff", "mark": "#ffff00"}
# Least spacing of WCAG 2.2, 1.4.12, as a factor of the font size.
_SPACING = {"letter-spacing": 0.12, "word-spacing": 0.16, "line-height": 1.5}
TINY_PX = 9.0
_NO_OUTLINE = re.compile(r"outline(-style|-width)?\s*:\s*(none|0)\b")
_FOCUS_STYLE = re.compile(
    r"(box-shadow|border|background|outline|text-decoration|color)[\w-]*\s*:(?!\s*(none|0|transparent))"
)


def contrast(view: View) -> Iterator[Violation]:
    """Text against its background, where both can be told from the style sheets."""
    exempt = _names_of_disabled(view)
    for element in view.document.elements:
        text = element.own_text if element.tag != "input" else _button_text(element)
        if not any(c.isalnum() for c in text) or element.tag in _SKIPPED or element.closest("svg"):
            continue
        if (
            not view.seen(element)
            or view.disabled(element)
            or any(e in exempt for e in [element, *element.ancestors()])
        ):
            continue
        style = view.styles[element]
        best = best_contrast(view, element)
        if best is None or style.font_px < 1:
            continue
        ratio, front, back = best
        seen = f'"{shorten(text, 50)}": {front.hex} on {back.hex} is {int(ratio * 100) / 100:.2f}:1'
        for level, rule in (("AA", "contrast"), ("AAA", "contrast-enhanced")):
            needed = required_ratio(style.font_px, style.weight, level)
            if ratio < needed:
                better = passing_colour(front, back, needed)
                cure = f"{better.hex} has it." if better else "No colour has that on this background."
                fix = f"color: {better.hex}" if better else ""
                size = f"{style.font_px:.0f} px, weight {style.weight}"
                yield Violation(rule, element, f"{seen}; text of {size} needs {needed:g}:1. {cure}", fix)


def _button_text(element: Element) -> str:
    return element.get("value") if element.get("type").lower() in {"submit", "button", "reset"} else ""


def _names_of_disabled(view: View) -> set[Element]:
    """The labels of disabled controls; WCAG asks no contrast of them."""
    exempt: set[Element] = set()
    for element in view.document.elements:
        if (element.tag in {"input", "button", "select", "textarea"} or element.has("role")) and view.disabled(element):
            exempt.update(view.labels(element))
            exempt.update(view.referenced(element, "aria-labelledby"))
    return exempt


def best_contrast(view: View, element: Element) -> tuple[float, Colour, Colour] | None:
    """The best contrast of an element's text with what lies behind it, and the two colours; None if it cannot be told.

    Backgrounds are composited from the element outwards; of a gradient every colour stop counts. Images, shadows, blend
    modes, filters and elements taken out of the flow before an opaque background leave it open.
    """
    style = view.styles[element]
    if style.colour is None or style.colour.alpha == 0 or style.get("text-shadow") not in {"", "none"}:
        return None
    layers: list[tuple[Colour, Colour]] = [(style.colour, TRANSPARENT)]
    for place in [element, *element.ancestors()]:
        here = view.styles[place]
        if (
            here.get("filter") not in {"", "none"}
            or here.get("mix-blend-mode") not in {"", "normal"}
            or "clip" in here.get("background-clip")
        ):
            return None
        if "text" in here.get("background-clip") or "text" in here.get("-webkit-background-clip"):
            return None
        backs = _backgrounds(here, place)
        if backs is None:
            return None
        opacity = _opacity(here)
        layers = [(front.over(b).faded(opacity), back.over(b).faded(opacity)) for front, back in layers for b in backs][
            :64
        ]
        if all(back.alpha >= 0.999 for _, back in layers):
            break
        if here.get("position") in {"absolute", "fixed", "sticky"} or (
            here.get("float") in {"left", "right"} and place is not element
        ):
            return None
    pairs = [(front.over(WHITE), back.over(WHITE)) for front, back in layers]
    front, back = max(pairs, key=lambda pair: contrast_ratio(*pair))
    return contrast_ratio(front, back), front, back


def _opacity(style: Style) -> float:
    value = style.get("opacity")
    found = re.fullmatch(r"(\d*\.?\d+)(%?)", value)
    return min(1.0, float(found.group(1)) / (100 if found.group(2) else 1)) if found else 1.0


def _backgrounds(style: Style, element: Element) -> list[Colour] | None:
    """The colours an element paints behind its content, or None when it paints an image."""
    value = style.get("background-color") or _FACES.get(element.tag, "transparent")
    if element.tag == "input" and element.get("type").lower() in {"submit", "button", "reset"}:
        value = style.get("background-color") or _FACES["button"]
    if value in {"initial", "unset", "none", "inherit"}:
        value = "transparent"
    base = parse_colour(value, style.colour or TRANSPARENT)
    if base is None:
        return None
    image = style.get("background-image")
    if image in {"", "none", "initial", "unset"}:
        return [base]
    if "url(" in image or "gradient(" not in image or re.search(r"\b(conic|repeating)\b", image):
        return None
    stops = [colour.over(base) for colour in _stops(image, style.colour or TRANSPARENT)]
    return stops or None


def _stops(image: str, current: Colour) -> Iterator[Colour]:
    for token in tinycss2.parse_component_value_list(image):
        if token.type == "function" and "gradient" in token.lower_name:
            for inner in token.arguments:
                if inner.type in {"ident", "hash", "function"}:
                    colour = parse_colour(tinycss2.serialize([inner]), current)
                    if colour is not None:
                        yield colour


def spacing(view: View) -> Iterator[Violation]:
    """Spacing that a style attribute fixes below what readers may ask for."""
    for element in view.document.elements:
        if not element.has("style") or not view.seen(element) or element.closest("svg"):
            continue
        style = view.styles[element]
        for name, least in _SPACING.items():
            declared = style.declared.get(name)
            if declared is None or not declared.important or not declared.rank[1]:
                continue
            factors = [
                f for e in _spaced_by(view, element, name) if (f := _factor(name, style, view.styles[e])) is not None
            ]
            if factors and min(factors) < least:
                stated = f"{name}: {style.get(name)} !important"
                yield Violation(
                    name, element, f"{stated} is {min(factors):.2f} times the font size; at least {least} is needed."
                )


def _spaced_by(view: View, element: Element, name: str) -> Iterator[Element]:
    """The elements with text that take this spacing from `element`."""
    stack = [element]
    while stack:
        current = stack.pop()
        if current is element or name not in view.styles[current].declared:
            if len(current.own_text.split()) > 1 and view.seen(current):
                yield current
            stack.extend(current.elements)


def _factor(name: str, stated: Style, text: Style) -> float | None:
    """The spacing as a multiple of the text's font size."""
    value = stated.get(name)
    if value in {"normal", "initial"}:
        return 1.2 if name == "line-height" else 0.0
    if name == "line-height" and re.fullmatch(r"\d*\.?\d+", value):
        return float(value)
    pixels = length_px(value, stated.font_px, stated.font_px)
    return pixels / text.font_px if pixels is not None and text.font_px else None


def text_size(view: View) -> Iterator[Violation]:
    """Text that is very small or long and in capitals."""
    for element in view.document.elements:
        text = element.own_text
        if len(text) < 4 or not view.seen(element) or element.tag in _SKIPPED or element.closest("svg", "sup", "sub"):
            continue
        style = view.styles[element]
        if style.font_px < TINY_PX and element.tag not in {"sup", "sub"}:
            yield Violation("text-tiny", element, f'"{text[:50]}" is {style.font_px:.1f} px.')
        letters = [c for c in text if c.isalpha()]
        typed = len(text.split()) >= 6 and letters and sum(c.isupper() for c in letters) / len(letters) > 0.9
        styled = len(text.split()) >= 6 and style.get("text-transform") == "uppercase"
        if typed or styled:
            yield Violation("text-capitals", element, f'"{text[:60]}" is set in capitals.')


def focus(view: View) -> Iterator[Violation]:
    """Style sheets that remove the focus outline and put nothing in its place."""
    removed: dict[Element, str] = {}
    replaced: set[Element] = set()
    for selector, body in view.styles.focus_rules:
        try:
            elements = view.document.select(re.sub(r":focus(-visible|-within)?", "", selector).strip() or "*")
        except SelectolaxError:
            continue
        if _FOCUS_STYLE.search(body):
            replaced.update(elements)
        elif _NO_OUTLINE.search(body):
            removed.update(dict.fromkeys(elements, f"{selector} {{ {body.strip()[:80]} }}"))
    for element in view.document.elements:
        outline = view.styles[element].get("outline") or view.styles[element].get("outline-style")
        if outline.startswith(("none", "0")):
            removed.setdefault(element, f"outline: {outline}")
        if (
            element in removed
            and element not in replaced
            and not element.has("onfocus")
            and view.tabbable(element)
            and view.seen(element)
        ):
            yield Violation("focus-outline", element, removed[element])


def media(view: View) -> Iterator[Violation]:
    """Sound that starts by itself; film and sound without another way to get at them."""
    for element in view.document.with_tag("audio", "video"):
        if element.tag == "audio" and not element.has("controls") and not element.has("autoplay"):
            continue
        if (
            element.has("autoplay")
            and not element.has("muted")
            and not element.has("controls")
            and not _stoppable(view, element)
        ):
            yield Violation("autoplay-audio", element, f"<{element.tag} autoplay> has no controls.")
        if not view.exposed(element) or (element.has("muted") and element.has("autoplay")):
            continue
        tracks = any(
            d.tag == "track" and d.get("kind").lower() in {"captions", "subtitles", ""} for d in element.descendants()
        )
        described = element.get("aria-describedby").strip() or _text_nearby(element)
        if not tracks and not described:
            rule = "video-alternative" if element.tag == "video" else "audio-alternative"
            yield Violation(rule, element, f"The {element.tag} has no captions track and no text or link next to it.")


def _stoppable(view: View, element: Element) -> bool:
    """Whether the clip is short by its address, or something exposed on the page may pause or mute it."""
    sources = [element.get("src"), *(d.get("src") for d in element.descendants() if d.tag == "source")]
    clips = [re.search(r"#t=(?:npt:)?(\d*\.?\d*),(\d+\.?\d*)", source) for source in sources]
    if any(c and float(c.group(2)) - float(c.group(1) or 0) <= 3 for c in clips):
        return True
    said = (view.name(e).lower() for e in view.document.elements if view.role(e) == "button" and view.exposed(e))
    return any(re.search(r"pause|stop|mute|sound|play", name) for name in said)


def _text_nearby(element: Element) -> bool:
    parent = element.parent
    if parent is None:
        return False
    words_around = [c for c in parent.children if c is not element]
    return any(len((c if isinstance(c, str) else c.text).split()) >= 1 for c in words_around)
