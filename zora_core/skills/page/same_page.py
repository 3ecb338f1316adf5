"""Whether markup without an address is a page that was seen before, edited since."""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Iterator, Sequence
from typing import Any

from zora_core.models import identity
from zora_core.skills.page import Page
from zora_core.skills.page.dom import Element

_WORD = re.compile(r"\w+")
# What tells the parts of a page apart besides its words. Styles change without a change of the page.
_NAMING = ("src", "href", "action", "name", "id")
# A sketch keeps so many marks: of a page with more, those with the smallest digests, which are a fair sample.
_MARKS = 100
_MARK_LENGTH = 8
# The share of marks that two versions of a page have in common, and how many common marks make that share enough.
_ENOUGH = 0.5
_ENOUGH_MARKS = 8
# Of two versions between which something was only added or removed, one has all marks of the other; at least so many.
_LEAST_MARKS = 3
# The share for less evidence: pages with few marks, or without a title and a main heading. At least so many in common.
_ALMOST_ALL = 0.8
_FEW_MARKS = 5


def sketch(page: Page) -> str:
    """The page in short: a digest of title, main headings and canonical address, and a sample of its marks' digests.

    The first part is empty for markup that has none of the three.
    """
    head = [page.title, *(e.text for e in page.document.with_tag("h1")), *_canonical(page)]
    marks = heapq.nsmallest(_MARKS, {_digest(mark) for mark in _marks(page)})
    return f"{identity(*head) if any(head) else ''} {''.join(marks)}"


def _canonical(page: Page) -> Iterator[str]:
    for element in page.document.with_tag("link", "meta"):
        if element.get("rel").lower() == "canonical" or element.get("property").lower() == "og:url":
            yield element.get("href") or element.get("content")


def _marks(page: Page) -> Iterator[str]:
    shared: set[Element] = set()  # what all pages of a site have
    for element in page.document.elements:
        if element.tag in {"nav", "footer"} or element.parent in shared:
            shared.add(element)
    for block in page.blocks:
        if block.element not in shared:
            yield from _WORD.findall(block.text.casefold())
    for element in page.document.elements:
        if element not in shared and element.tag not in {"link", "script", "meta"}:
            yield from (f"{element.tag} {name} {element.get(name)}" for name in _NAMING if element.get(name))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_MARK_LENGTH]


def likeness(one: str, other: str) -> float:
    """The share of marks that two sketches have in common; 0 where they are not surely of the same page."""
    if one == other:
        return 1.0
    head, marks = _parts(one)
    other_head, other_marks = _parts(other)
    if head != other_head:
        return 0.0
    sample = heapq.nsmallest(_MARKS, marks | other_marks)
    common = marks & other_marks & set(sample)
    share = len(common) / len(sample) if sample else 0.0
    part = min(marks, other_marks, key=len)
    sure = bool(head) and (
        (len(common) >= _ENOUGH_MARKS and share > _ENOUGH) or (part <= common and len(part) >= _LEAST_MARKS)
    )
    return share if sure or (len(common) >= _FEW_MARKS and share > _ALMOST_ALL) else 0.0


def _parts(text: str) -> tuple[str, set[str]]:
    head, _, marks = text.partition(" ")
    return head, {marks[start : start + _MARK_LENGTH] for start in range(0, len(marks), _MARK_LENGTH)}


def recognise(page: Page, earlier: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """The name of the page that this is, which is that of the likest in `earlier` or a new one, and its sketch."""
    made = sketch(page)
    likest = max(earlier, key=lambda known: likeness(made, known["sketch"]), default=None)
    if likest is not None and likeness(made, likest["sketch"]) > 0:
        return likest["known_as"], made
    return f"{page.ref} {identity(made)}", made
