"""Checks of whether a reader sees where the keyboard's focus is."""

from __future__ import annotations

import re
from collections.abc import Iterator

from zora_core.skills.accessibility.catalogue import Violation
from zora_core.skills.accessibility.view import View
from zora_core.skills.css.contrast import BLACK, parse_colour
from zora_core.skills.css.styles import Style
from zora_core.skills.css.values import bare, length_px, split, text_of, tokens_of
from zora_core.skills.page.dom import Element

# What a reader sees change.
_VISIBLE = re.compile(
    r"(outline|border|background|text-decoration|text-underline|padding|font|inset|margin)(-|\Z)|"
    r"(box-shadow|text-shadow|color|opacity|transform|scale|rotate|translate|filter|backdrop-filter|fill|stroke|"
    r"stroke-width|width|height|letter-spacing|text-transform|visibility|display|clip|clip-path|left|right|top|bottom|"
    r"content|animation-name|mask|mask-image|-webkit-text-fill-color|z-index|position)\Z"
)
# Confidence where a style sheet is missing.
_DOUBTED = 0.5
# A class of a selector that says focus, not escaped (`.focus\\:ring` is one that authors write) and without :focus.
_FOCUS_CLASS = re.compile(r"\.([\w-]*focus[\w-]*)(?![\w\\-]|:focus)", re.I)
# Inputs in which a caret blinks while they have the focus: WCAG 2.2, Understanding 2.4.7, example 1.
_WITH_CARET = frozenset({"", "text", "email", "tel", "url", "search", "password", "number"})


def focus(view: View) -> Iterator[Violation]:
    """Style sheets that remove the focus outline and put nothing in its place."""
    by_script = _class_for_focus(view)
    for element in view.document.elements:
        if element.has("onfocus") or not view.tabbable(element) or not view.seen(element) or _has_caret(view, element):
            continue
        focused = view.styles.focused(element)
        if not _outline_removed(focused):
            continue
        if _changes(view.styles[element], focused) or any(
            _changes(rest, changed) for rest, changed in view.styles.focused_around(element)
        ):
            continue
        said = focused.get("outline") or f"outline-style: {focused.get('outline-style')}"
        detail = f'The outline of the focused element is "{said[:80]}", and nothing else changes.'
        if not view.styles.complete:
            detail = f"{detail} A style sheet of the page was not read and may draw another indicator."
            yield Violation("focus-outline", element, detail, confidence=_DOUBTED)
        elif by_script:
            detail = f"{detail} A script may set the class {by_script}, which has a style."
            yield Violation("focus-outline", element, detail, confidence=_DOUBTED)
        else:
            yield Violation("focus-outline", element, detail)


def _class_for_focus(view: View) -> str:
    """A class that style sheets have for the focus and no element has yet, such as `.focus-visible`; empty if none."""
    texts = [*view.page.stylesheets.values(), *("".join(map(str, e.children)) for e in view.document.with_tag("style"))]
    classes = {name for element in view.document.elements for name in element.ids("class")}
    named = (found[1] for text in texts for found in _FOCUS_CLASS.finditer(text))
    return next((name for name in named if name not in classes), "")


def _has_caret(view: View, element: Element) -> bool:
    typed = element.tag == "textarea" or (element.tag == "input" and element.get("type").lower() in _WITH_CARET)
    return typed and not element.has("readonly") and view.styles[element].get("caret-color") != "transparent"


def _outline_removed(style: Style) -> bool:
    """Whether an author's style leaves no outline on a focused element."""
    if not all(style.known(name) for name in ("outline-style", "outline-width", "outline-color")):
        return False
    if style.get("outline-style") in {"none", "hidden", "unset", "initial"}:
        return True
    if style.length("outline-width") == 0:
        return True
    colour = parse_colour(style.get("outline-color"), style.colour or BLACK, style.scheme_dark)
    return colour is not None and colour.alpha == 0


def _changes(rest: Style, focused: Style) -> bool:
    """Whether a reader sees a difference between the two styles, or it cannot be told that there is none."""
    if rest is focused:
        return False
    names = {name for name in {**rest.declared, **focused.declared} if _VISIBLE.match(name)}
    if any(rest.get(name) != focused.get(name) and not _both_invisible(name, rest, focused) for name in names):
        return True
    if any(_VISIBLE.match(name) and not focused.known(name) for name in focused.maybe):
        return True
    pseudo = ((rest.before, focused.before), (rest.after, focused.after))
    return any(
        changed is not None and changed.displayed and (before is None or _changes(before, changed))
        for before, changed in pseudo
    )


def _both_invisible(name: str, rest: Style, focused: Style) -> bool:
    """Whether neither value shows: an outline or a shadow that is not there before and after."""
    if name.startswith("outline"):
        return _no_outline(rest) and _no_outline(focused)
    if name in {"box-shadow", "text-shadow"}:
        return _no_shadow(name, rest) and _no_shadow(name, focused)
    if name.startswith("background") or name == "background":
        return {rest.get(name), focused.get(name)} <= {"", "none", "transparent", "initial", "unset"}
    if name.startswith("border"):
        return {rest.get(name), focused.get(name)} <= {"none", "0", "0px", "initial", "unset"}
    return False


def _no_outline(style: Style) -> bool:
    return not style.get("outline-style") or _outline_removed(style)


def _no_shadow(name: str, style: Style) -> bool:
    """Whether every shadow of the property has no offset, no blur and no size, as far as the lengths can be told."""
    value = style.get(name)
    if value in {"", "none", "initial", "unset"}:
        return True
    return all(_no_size(text_of([token]), style) for part in split(tokens_of(value), ",") for token in bare(part))


def _no_size(part: str, style: Style) -> bool:
    """Whether a part of a shadow is a length of 0, or no length: a colour or `inset`."""
    if part == "inset" or parse_colour(part, style.colour or BLACK, style.scheme_dark) is not None:
        return True
    return length_px(part, style.font_px, None, style.root_px) == 0
