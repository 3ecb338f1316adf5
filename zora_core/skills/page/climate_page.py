"""What a climate page owes its readers beside true claims: sources near them, dates, structure, plain words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from zora_core.data import load
from zora_core.models import Element as ElementEvidence
from zora_core.models import Finding, Metric, Quote, Severity
from zora_core.skills.claims import Claim
from zora_core.skills.page import Block, Page
from zora_core.skills.page.dom import Element, shorten
from zora_core.skills.page.footprint import Footprint
from zora_core.skills.text.readability import Readability
from zora_core.wording import count

_YEAR = re.compile(r"\b(?:19|20)\d{2}\b")
_SOURCE_MARK = re.compile(r"\[\d+\]|[¹²³⁴-⁹]")
_SOURCE_LINK = re.compile(r"https?://|[\w./-]+\.pdf|#[\w-]*(ref|fn|note|source)", re.I)
_LIX = "words / sentences + 100 * words of more than 6 letters / words"
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_COMPARING = frozenset({"comparison", "reduction", "source_reduction"})


def settings() -> dict[str, Any]:
    """Limits, words and sentence patterns of the data file."""
    return load("climate_page")


@dataclass(frozen=True)
class Structure:
    """Counts of what orders a page."""

    words: int
    headings: int
    links: int
    images: int
    lists: int
    tables: int


def structure(page: Page) -> Structure:
    """Count the page's headings, links, images, lists and tables."""
    tags = page.document.with_tag
    return Structure(
        words=len(page.text.split()),
        headings=len(tags(*_HEADINGS)),
        links=len(tags("a")),
        images=len(tags("img", "svg")),
        lists=len(tags("ul", "ol", "dl")),
        tables=len(tags("table")),
    )


def has_source(page: Page, claim: Claim) -> bool:
    """Whether a link elsewhere, a footnote mark or a named source stands in the claim's block or the next."""
    blocks = page.blocks_from(claim.start)
    return any(_cites(near) for near in blocks if near is blocks[0] or near.element.tag not in _HEADINGS)


def _cites(block: Block) -> bool:
    inside = [] if block.element.tag == "body" else [block.element, *block.element.descendants()]
    linked = any(e.tag == "a" and _SOURCE_LINK.match(e.get("href")) for e in inside)
    marked = any(e.tag in {"cite", "sup"} and e.text for e in inside) or _SOURCE_MARK.search(block.text)
    return bool(linked or marked or _names(block.text, settings()["sources"]["words"]))


def _names(text: str, listed: Sequence[str]) -> bool:
    return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.I) for word in listed)


def missing_parts(claim: Claim, *, source_nearby: bool) -> list[str]:
    """The parts of a substantiated claim that this one lacks."""
    facts = claim.facts
    scoped = claim.kind in _COMPARING or claim.kind == "neutrality"
    parts = {
        "a figure with its unit": not facts.quantities and claim.kind != "label_claim",
        "the year or product it is compared with": claim.kind in _COMPARING and facts.baseline_year is None,
        "what it covers (product, site, scope 1, 2 or 3)": scoped and not facts.scopes,
        "a target year and a published, verified plan": claim.kind == "future" and facts.target_year is None,
        "a source beside it": not source_nearby,
    }
    return [part for part, lacking in parts.items() if lacking]


def pattern(claim: Claim) -> str:
    """A sentence with gaps that would say the same in a way that can be checked."""
    patterns: dict[str, str] = settings()["patterns"]
    return patterns.get("comparison" if claim.kind == "source_reduction" else claim.kind, patterns["other"])


def review(
    page: Page, claims: Sequence[Claim], reading: Readability, weight: Footprint, *, year: int, complete: bool
) -> list[Finding]:
    """Findings about the page besides those of the claims themselves; `year` is the present one."""
    return [
        *_sources(page, claims),
        *_dates(page, claims, year),
        *_structure(page),
        *_reading(page, reading),
        *_weight(page, weight, complete),
    ]


def _sources(page: Page, claims: Sequence[Claim]) -> Iterator[Finding]:
    for claim in claims:
        block = page.block_at(claim.start)
        if block is not None and block.element.tag in _HEADINGS:
            continue
        if (claim.facts.quantities or claim.kind in settings()["sources"]["kinds"]) and not has_source(page, claim):
            yield Finding(
                rule_id="page.source-missing",
                title="Claim stands without a source nearby",
                detail="Neither its paragraph nor the next links to, marks or names a source. Link the data behind it.",
                severity=Severity.MEDIUM,
                confidence=0.75,
                evidence=[Quote(source=page.ref, text=claim.text, start=claim.start)],
            )


def _dates(page: Page, claims: Sequence[Claim], year: int) -> Iterator[Finding]:
    if not claims:
        return
    declared = any(
        (e.tag == "time")
        or (
            e.tag == "meta"
            and (e.get("property") or e.get("name")).lower() in settings()["dates"]["metadata"]
            and e.get("content")
        )
        for e in page.document.elements
    )
    if not declared and not _names(page.text, settings()["dates"]["words"]):
        first = claims[0]
        yield Finding(
            rule_id="page.date-missing",
            title="Page with climate claims does not say when it was written",
            detail=f"{count(len(claims), 'claim')}, but no time element, no date in the metadata, no “last updated”.",
            severity=Severity.LOW,
            confidence=0.85,
            evidence=[Quote(source=page.ref, text=first.text, start=first.start)],
        )
    for claim in claims:
        years = [int(y) for y in _YEAR.findall(claim.text)]
        if claim.facts.quantities and years and max(years) < year - settings()["limits"]["old_after_years"]:
            yield Finding(
                rule_id="page.figures-old",
                title="Figures of a claim are old",
                detail=f"The latest year it names is {max(years)}; it is {year}. Give newer figures.",
                severity=Severity.LOW,
                confidence=0.7,
                evidence=[Quote(source=page.ref, text=claim.text, start=claim.start)],
            )


def _structure(page: Page) -> Iterator[Finding]:
    counts = structure(page)
    body = page.document.body
    if body is not None and counts.words > settings()["limits"]["long_page_words"] and counts.headings < 2:
        yield Finding(
            rule_id="page.headings-few",
            title="Long page with hardly any headings",
            detail=f"{counts.words} words under {count(counts.headings, 'heading')}. Part it by topic.",
            severity=Severity.LOW,
            confidence=0.85,
            evidence=[_element(page, body)],
        )
    described = any(
        e.get("name").lower() == "description" and e.get("content").strip() for e in page.document.with_tag("meta")
    )
    head = next(iter(page.document.with_tag("head")), None)
    if head is not None and counts.words and not described:
        yield Finding(
            rule_id="page.description-missing",
            title="Page has no description",
            detail="There is no meta description; search results will show a passage out of its context.",
            severity=Severity.INFO,
            confidence=0.95,
            evidence=[_element(page, head)],
        )


def _element(page: Page, element: Element) -> ElementEvidence:
    return ElementEvidence(source=page.ref, selector=page.document.selector(element), html=shorten(element.markup, 200))


def _reading(page: Page, reading: Readability) -> Iterator[Finding]:
    if reading.hard and reading.lix is not None:
        yield Finding(
            rule_id="page.reading-hard",
            title="Text is hard to read",
            detail=f"{reading.words_per_sentence:.1f} words per sentence, {reading.long_word_share:.0%} long words: "
            f"{reading.level}.",
            severity=Severity.LOW,
            confidence=0.8,
            evidence=[
                Metric(
                    name="LIX",
                    value=round(reading.lix, 1),
                    unit="points",
                    formula="words/sentence + 100 * long words/words",
                    source=page.ref,
                )
            ],
        )
    for sentence in reading.long_sentences[:5]:
        start = page.text.find(sentence.text)
        if start >= 0:
            yield Finding(
                rule_id="page.sentence-long",
                title="Sentence is very long",
                detail=f"{len(sentence.text.split())} words. Split it.",
                severity=Severity.INFO,
                confidence=0.9,
                evidence=[Quote(source=page.ref, text=sentence.text, start=start)],
            )


def _weight(page: Page, weight: Footprint, complete: bool) -> Iterator[Finding]:
    if weight.grade not in {"D", "E", "F"}:
        return
    at_least = "" if complete else "at least "
    yield Finding(
        rule_id="page.weight",
        title="Page is heavy",
        detail=f"One view transfers {at_least}{weight.transfer_bytes / 1000:,.0f} kB and emits {at_least}"
        f"{weight.grams_per_view:.3f} gCO2e, grade {weight.grade} ({weight.source}).",
        severity=Severity.MEDIUM if weight.grade == "F" else Severity.LOW,
        confidence=0.7,
        source="statistic",
        evidence=[
            Metric(
                name="gCO2e per view",
                value=round(weight.grams_per_view, 4),
                unit="g",
                formula=weight.formula,
                source=page.ref,
            )
        ],
    )
