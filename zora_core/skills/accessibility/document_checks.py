"""Checks of the page as a whole: title, language, headings, landmarks, refresh, zoom."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from zora_core.skills.accessibility.catalogue import Violation
from zora_core.skills.accessibility.view import View
from zora_core.skills.accessibility.words import guess_language, registered_languages, words
from zora_core.skills.page.dom import Element, collapse
from zora_core.wording import count

_LANGUAGE_TAG = re.compile(r"[a-z]{2,8}(-[a-z0-9]{1,8})*\Z", re.I)
_PRIVATE_TAG = re.compile(r"x(-[a-z0-9]{1,8})+\Z", re.I)
_REFRESH = re.compile(r"\s*(\d+)(?:\.[\d.]*)?\s*(?:\Z|[;,\s])")
_ROTATED = re.compile(
    r"(transform|rotate)\s*:[^;}]*?rotate[z]?\(\s*-?(90|270)deg|matrix(3d)?\(\s*0\s*,\s*-?1|rotate\s*:\s*-?(90|270)deg"
)
_ZOOMABLE = '<meta name="viewport" content="width=device-width, initial-scale=1">'
# Confidence in a tag that BCP 47 allows and the W3C's ACT rule for pages does not.
_DOUBTED = 0.5
_RTL = frozenset({"R", "AL"})


def title(view: View) -> Iterator[Violation]:
    """A page needs a title that names it."""
    root = view.document.root
    if root is None or not view.page.is_html:
        return
    text = view.page.title
    if not text:
        yield Violation("page-title", root, "The page has no title element with text.")
    elif text.lower().strip(" .") in words().generic_titles:
        yield Violation("page-title-generic", root, f'The title is "{text}".')


def language(view: View) -> Iterator[Violation]:
    """The page and its parts must name the language that they are written in."""
    root = view.document.root
    if root is None or not view.page.is_html:
        return
    tag = root.get("lang").strip() or root.get("xml:lang").strip()
    body = view.document.body
    if not tag:
        written = guess_language(body.text) if body else None
        detail = "The html element's lang is empty." if root.has("lang") else "The html element has no lang."
        yield Violation("page-lang", root, detail, f'<html lang="{written}">' if written else "")
    elif not valid_language(tag):
        yield Violation("page-lang-valid", root, f'lang="{tag}" is not a valid language tag.')
    elif not names_language(tag):
        detail = f'lang="{tag}" is a private or old tag without a language that assistive technology knows.'
        yield Violation("page-lang-valid", root, detail, "", _DOUBTED)
    elif body is not None:
        text = " ".join(_inherited_text(view, body))
        written = guess_language(text)
        if written and written != _primary(tag) and _primary(tag) in words().languages:
            yield Violation("page-lang-match", root, f'lang="{tag}", but most of the text reads as "{written}".')
        elif _primary(tag) in words().languages:
            yield from _foreign_passages(view, body, _primary(tag))
    for element in view.document.elements[1:]:
        own = element.get("lang").strip()
        if own and view.shown(element) and any(_inherited_text(view, element, with_images=True)):
            yield from _part(view, element, own)


def _part(view: View, element: Element, tag: str) -> Iterator[Violation]:
    if element.closest("svg") or element.tag == "svg":
        return
    if not valid_language(tag):
        yield Violation("part-lang-valid", element, f'lang="{tag}" is not a valid language tag.')
        return
    written = guess_language(" ".join(_inherited_text(view, element)))
    if written and written != _primary(tag) and _primary(tag) in words().languages:
        yield Violation("part-lang-match", element, f'lang="{tag}", but the text reads as "{written}".')


def _foreign_passages(view: View, body: Element, language: str) -> Iterator[Violation]:
    for element in body.descendants():
        if element.tag not in {"p", "li", "blockquote", "q", "dd", "td", "span"} or len(element.own_text.split()) < 5:
            continue
        speaks = next((a.get("lang") for a in [element, *element.ancestors()] if a.get("lang").strip()), "")
        written = guess_language(element.own_text) if _primary(speaks) == language and view.exposed(element) else None
        if written and written != language:
            yield Violation("part-lang-missing", element, f'"{element.own_text[:80]}" reads as "{written}".')


def _inherited_text(view: View, element: Element, *, with_images: bool = False) -> Iterator[str]:
    """The texts that take their language from this element."""
    stack: list[Element | str] = element.children[::-1]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            if node.strip():
                yield node
        elif not node.get("lang").strip() and view.styles[node].displayed:
            if with_images and node.tag == "img" and node.get("alt").strip():
                yield node.get("alt")
            stack.extend(node.children[::-1])


def _primary(tag: str) -> str:
    return re.split(r"[-_]", tag.strip().lower())[0]


def names_language(tag: str) -> bool:
    """Whether the first part of a tag is registered as a language."""
    return _primary(tag) in registered_languages()[0]


def valid_language(tag: str) -> bool:
    """Whether BCP 47 allows a tag: its first part is a registered language, or it is grandfathered or for private use.

    A language with a code of two letters has no other ("eng" is not registered), and parts are joined by hyphens.
    """
    tag = tag.strip().lower()
    formed = _LANGUAGE_TAG.match(tag) is not None and names_language(tag)
    return formed or tag in registered_languages()[1] or _PRIVATE_TAG.match(tag) is not None


def direction(view: View) -> Iterator[Violation]:
    """Arabic and Hebrew script runs from right to left, other scripts from left to right."""
    for element in view.document.elements:
        if (
            len(element.own_text) < 8
            or not view.exposed(element)
            or element.closest("svg")
            or element.tag in {"script", "style", "title"}
        ):
            continue
        kinds = [unicodedata.bidirectional(c) for c in element.own_text if c.isalpha()]
        if not kinds:
            continue
        share = sum(kind in _RTL for kind in kinds) / len(kinds)
        stated = next(
            (a.get("dir").strip().lower() for a in [element, *element.ancestors()] if a.get("dir").strip()), "ltr"
        )
        if view.styles[element].get("direction") == "rtl":
            stated = "rtl"
        if (share > 0.8 and stated == "ltr") or (share == 0 and stated == "rtl" and len(kinds) > 12):
            yield Violation("text-direction", element, f'"{element.own_text[:60]}" is set {stated}.')


def headings(view: View) -> Iterator[Violation]:
    """Headings need text, and levels without gaps."""
    previous = 0
    levels: list[int] = []
    for element in view.document.elements:
        if view.role(element) != "heading" or not view.exposed(element):
            continue
        if not view.name(element):
            yield Violation("heading-empty", element, "The heading has no text.")
            continue
        level = _level(element)
        levels.append(level)
        if previous and level > previous + 1:
            yield Violation("heading-order", element, f'Level {level} "{element.text[:60]}" follows level {previous}.')
        previous = level
    body = view.document.body
    if levels and 1 not in levels and body is not None:
        yield Violation("heading-first", body, f"The page has {count(len(levels), 'heading')}, none of level 1.")


def _level(element: Element) -> int:
    stated = element.get("aria-level").strip()
    if stated.isdigit() and len(stated) < 3:
        return int(stated)
    return int(element.tag[1]) if re.fullmatch(r"h[1-6]", element.tag) else 2


def landmarks(view: View) -> Iterator[Violation]:
    """One main landmark, and skip links that lead somewhere."""
    body = view.document.body
    mains = [e for e in view.document.elements if view.role(e) == "main" and view.exposed(e)]
    links = [e for e in view.document.with_tag("a") if e.has("href") and view.shown(e)]
    if body is not None and not mains and len(links) >= 5:
        yield Violation("main-landmark", body, f"{len(links)} links and no main landmark.")
    if len(mains) > 1:
        yield Violation("main-repeated", mains[1], f"{len(mains)} main landmarks are visible.")
    for link in links[:3]:
        target = link.get("href")[1:] if link.get("href").startswith("#") else ""
        named = any(e.get("name") == target for e in view.document.with_tag("a"))
        if (
            target
            and target not in view.document.by_id
            and not named
            and re.match(r"skip|jump|zum inhalt", view.name(link).lower())
        ):
            yield Violation("skip-link-broken", link, f'No element has the id "{target}".')


def meta(view: View) -> Iterator[Violation]:
    """No timed reload, and zooming left on."""
    refreshes = [e for e in view.document.with_tag("meta") if e.get("http-equiv").strip().lower() == "refresh"]
    valid = [(e, m) for e in refreshes if (m := _REFRESH.match(e.get("content")))]
    if valid:
        element, match = valid[0]
        seconds = int(match.group(1)[:9])
        if 0 < seconds <= 72_000:
            yield Violation("meta-refresh", element, f"The page reloads or redirects after {seconds} seconds.")
        if seconds > 0:
            yield Violation("meta-refresh-any", element, f"The page reloads or redirects after {seconds} seconds.")
    for element in view.document.with_tag("meta"):
        if element.get("name").strip().lower() == "viewport":
            yield from _viewport(element)


def _viewport(element: Element) -> Iterator[Violation]:
    settings = dict(re.findall(r"([\w-]+)\s*=\s*([^\s,;]+)", element.get("content").lower()))
    scalable = settings.get("user-scalable")
    if scalable is not None and not (
        scalable in {"yes", "device-width", "device-height"} or abs(_number(scalable)) >= 1
    ):
        yield Violation("viewport-zoom", element, f"user-scalable={scalable}.", _ZOOMABLE)
    maximum = settings.get("maximum-scale")
    if maximum is not None:
        scale = {"yes": 1.0, "device-width": 10.0, "device-height": 10.0}.get(maximum, _number(maximum))
        if 0 <= scale < 2:
            yield Violation("viewport-zoom", element, f"maximum-scale={maximum}.", _ZOOMABLE)


def _number(value: str) -> float:
    found = re.match(r"[+-]?\d*\.?\d+", value)
    return float(found.group()) if found else 0.0


def orientation(view: View) -> Iterator[Violation]:
    """A page must not turn itself against the way the screen is held."""
    body = view.document.body
    if body is None or not view.shown(body) or not collapse(body.text):
        return
    for condition, content in view.styles.media_rules:
        if (
            re.search(r"orientation\s*:", condition)
            and re.search(r"\b(html|body)\b", content)
            and _ROTATED.search(content.lower())
        ):
            yield Violation("orientation-locked", body, f"@media {condition} turns the page.")
            return
