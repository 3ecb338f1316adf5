"""Bytes that a page sends for nothing, and what they emit."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Any

from zora_core.data import load
from zora_core.models import Element, Finding, Metric, Severity
from zora_core.skills.page import Page
from zora_core.skills.page.footprint import footprint, model

_COMMENT = re.compile(r"<!--(?!\[if).*?-->", re.S)
_CSS_COMMENT = re.compile(r"/\*.*?\*/", re.S)
_SPACE = re.compile(r"\s+")
_KEEPS_SPACE = re.compile(r"<(pre|textarea|script)\b.*?</\1\s*>", re.S | re.I)


def _settings() -> dict[str, Any]:
    weight: dict[str, Any] = load("frontend_plan")["weight"]
    return weight


def weight_findings(page: Page) -> list[Finding]:
    """What the page could save, from its own markup and style sheets; sizes are of the compressed text (deflate).

    Each finding's metric `saved` holds the bytes; `grams_saved` turns them into gCO2e per thousand views.
    """
    found = [*_minify(page), *_data_uris(page), *_heavy(page)]
    return sorted(found, key=lambda f: (-f.severity.rank, f.rule_id))


def saved_bytes(finding: Finding) -> int:
    """The bytes per view that curing the finding saves; 0 where weight is not concerned."""
    return sum(int(e.value) for e in finding.evidence if isinstance(e, Metric) and e.name == "saved")


def grams_per_thousand_views(transfer_bytes: int) -> float:
    """gCO2e that a thousand views of so many bytes emit (Sustainable Web Design Model v4)."""
    return round(1000 * footprint(transfer_bytes).grams_per_view, 2)


def _minify(page: Page) -> Iterator[Finding]:
    """Comments and white space between tags; text that keeps its spaces is left alone."""
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[0])
        return "<keep/>"

    markup = _SPACE.sub(" ", _COMMENT.sub("", _KEEPS_SPACE.sub(keep, page.html))) + "".join(kept)
    sheets = "".join(page.stylesheets.values())
    small = _SPACE.sub(" ", _CSS_COMMENT.sub("", sheets))
    saved = _deflated(page.html) - _deflated(markup) + _deflated(sheets) - _deflated(small)
    if saved >= _settings()["least_bytes"]:
        yield _finding(
            page.ref,
            "page.weight.comments-and-space",
            "Markup and styles carry comments and white space",
            f"Without them a view sends {saved:,} bytes less, compressed. Minify both in the build.",
            saved,
            "deflated size - deflated size without comments and repeated white space",
        )


def _data_uris(page: Page) -> Iterator[Finding]:
    """Images inside the markup: base64 adds a third, and no cache keeps them apart from the page."""
    for element in page.document.with_tag("img"):
        source = element.get("src").strip()
        if (
            source.startswith("data:")
            and ";base64," in source[:100]
            and len(source) >= _settings()["least_data_uri_bytes"]
        ):
            saved = len(source) - len(source) * 3 // 4
            selector = page.document.selector(element)
            yield Finding(
                rule_id="page.weight.data-uri",
                title="Image is embedded as base64",
                detail=f"{len(source):,} characters stand in the markup; as a file the image has about "
                f"{len(source) * 3 // 4:,} bytes and is cached.",
                severity=Severity.LOW,
                confidence=0.8,
                evidence=[
                    Element(source=page.ref, selector=selector, html=element.markup),
                    Metric(
                        name="saved",
                        value=saved,
                        unit="bytes/view",
                        formula="length - length x 3/4",
                        source=page.ref,
                    ),
                ],
            )


def _heavy(page: Page) -> Iterator[Finding]:
    """A page beyond the target grade, with the bytes that part it from there."""
    weight = footprint(page.transfer_bytes or page.html_bytes)
    grade = _settings()["target_grade"]
    grams = next(limit for name, limit in model().grades if name == grade)
    if weight.grams_per_view <= grams:
        return
    target = int(grams / model().grams_per_gb * model().bytes_per_gigabyte)
    saved = weight.transfer_bytes - target
    yield Finding(
        rule_id="page.weight",
        title=f"Page is heavier than grade {grade} allows",
        detail=f"A view sends {weight.transfer_bytes / 1000:,.0f} kB (grade {weight.grade}); grade {grade} allows "
        f"{target / 1000:,.0f} kB. Scale and compress images and media first, then drop what is not used.",
        severity=Severity.MEDIUM if weight.grade == "F" else Severity.LOW,
        confidence=0.7,
        source="statistic",
        evidence=[
            Metric(
                name="saved",
                value=saved,
                unit="bytes/view",
                formula=f"transferred bytes - bytes of grade {grade}",
                source=page.ref,
            ),
            Metric(
                name="gCO2e per view",
                value=round(weight.grams_per_view, 4),
                unit="g",
                formula=weight.formula,
                source=page.ref,
            ),
        ],
    )


def _finding(ref: str, rule_id: str, title: str, detail: str, saved: int, formula: str) -> Finding:
    return Finding(
        rule_id=rule_id,
        title=title,
        detail=detail,
        severity=Severity.LOW,
        confidence=0.9,
        evidence=[Metric(name="saved", value=saved, unit="bytes/view", formula=formula, source=ref)],
    )


def _deflated(text: str) -> int:
    return len(zlib.compress(text.encode("utf-8", "replace"), 6)) if text else 0
