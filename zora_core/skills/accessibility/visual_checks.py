"""Checks of what style sheets do to text, and of sound and film."""

from __future__ import annotations

import re
from collections.abc import Iterator

from zora_core.skills.accessibility.backdrop import Backdrops
from zora_core.skills.accessibility.catalogue import Violation
from zora_core.skills.accessibility.view import View
from zora_core.skills.css.contrast import LARGE_PX, passing_colour, required_ratio
from zora_core.skills.css.styles import Style
from zora_core.skills.page.dom import Element, shorten

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
# Confidence where a style sheet is missing or something may lie between the text and its background.
_DOUBTED = 0.5
# Least spacing of WCAG 2.2, 1.4.12, as a factor of the font size.
_SPACING = {"letter-spacing": 0.12, "word-spacing": 0.16, "line-height": 1.5}
TINY_PX = 9.0


def contrast(view: View) -> Iterator[Violation]:
    """Text against its background, where both can be told from the style sheets."""
    exempt = _names_of_disabled(view)
    backdrops = Backdrops(view)
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
        best = backdrops.contrast(element) if style.font_px >= 1 else None
        if best is None:
            continue
        seen = f'"{shorten(text, 50)}": {best.front.hex} on {best.back.hex} is {int(best.ratio * 100) / 100:.2f}:1'
        for level, rule in (("AA", "contrast"), ("AAA", "contrast-enhanced")):
            needed = required_ratio(style.font_px if style.font_known else LARGE_PX, style.weight, level)
            if best.ratio < needed:
                better = passing_colour(best.front, best.back, needed)
                cure = f"{better.hex} has it." if better else "No colour has that on this background."
                fix = f"color: {better.hex}" if better else ""
                size = f"{style.font_px:.0f} px, weight {style.weight}" if style.font_known else "any size"
                said = f"{seen}; text of {size} needs {needed:g}:1. {cure}"
                if best.doubt:
                    said = f"{said} {best.doubt}"
                yield Violation(rule, element, said, fix, _DOUBTED if best.doubt else None)


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


def spacing(view: View) -> Iterator[Violation]:
    """Spacing that a style attribute fixes below what readers may ask for."""
    for element in view.document.elements:
        if not element.has("style") or not view.seen(element) or element.closest("svg"):
            continue
        style = view.styles[element]
        for name, least in _SPACING.items():
            declared = style.declared.get(name)
            if declared is None or not declared.important or not declared.inline:
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
    pixels = stated.length(name, stated.font_px)
    return pixels / text.font_px if pixels is not None and text.font_px else None


def text_size(view: View) -> Iterator[Violation]:
    """Text that is very small or long and in capitals."""
    for element in view.document.elements:
        text = element.own_text
        if len(text) < 4 or not view.seen(element) or element.tag in _SKIPPED or element.closest("svg", "sup", "sub"):
            continue
        style = view.styles[element]
        if style.font_known and style.font_px < TINY_PX and element.tag not in {"sup", "sub"}:
            yield Violation("text-tiny", element, f'"{text[:50]}" is {style.font_px:.1f} px.')
        letters = [c for c in text if c.isalpha()]
        typed = len(text.split()) >= 6 and letters and sum(c.isupper() for c in letters) / len(letters) > 0.9
        styled = len(text.split()) >= 6 and style.get("text-transform") == "uppercase"
        if typed or styled:
            yield Violation("text-capitals", element, f'"{text[:60]}" is set in capitals.')


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
