"""What a climate page owes its readers besides true claims."""

from __future__ import annotations

import pytest

from zora_core.skills.claims import Claim, check_text
from zora_core.skills.page import Page
from zora_core.skills.page.climate_page import has_source, missing_parts, pattern, review, structure
from zora_core.skills.page.footprint import footprint
from zora_core.skills.text.readability import readability

CLAIM = "We cut our emissions by 38% from 2019 to 2025."


def page_of(body: str) -> Page:
    return Page(ref="climate", html=f"<html><head><title>t</title></head><body>{body}</body></html>")


def claims_of(page: Page) -> list[Claim]:
    return check_text(page.text, source=page.ref).claims


def rule_ids(page: Page, *, year: int = 2026, transfer_bytes: int = 1000) -> list[str]:
    reading, weight = readability(page.main_text), footprint(transfer_bytes)
    return [f.rule_id for f in review(page, claims_of(page), reading, weight, year=year, complete=True)]


@pytest.mark.parametrize(
    "near",
    [
        f'<p>{CLAIM} <a href="https://fernhill.example/report">Details</a></p>',
        f'<p>{CLAIM}</p><p>Verified by <a href="/about">Harrow</a>.</p>',
        f"<p>{CLAIM}<sup>1</sup></p>",
        f"<p>{CLAIM} Source: our own meters.</p>",
        f'<p>{CLAIM}</p><p><a href="files/report.pdf">All figures</a></p>',
    ],
)
def test_a_source_beside_the_claim_is_seen(near: str) -> None:
    page = page_of(near)
    assert has_source(page, claims_of(page)[0])
    assert "page.source-missing" not in rule_ids(page)


@pytest.mark.parametrize(
    "far",
    [
        f"<p>{CLAIM}</p>",
        f"<p>{CLAIM}</p><p>We sell oats.</p><p>Source: our own meters.</p>",
        f'<p>{CLAIM} <a href="/shop">Buy now</a></p>',
        f'{CLAIM}<ul><li>oats</li></ul><footer><a href="https://elsewhere.example/">Elsewhere</a></footer>',
    ],
)
def test_a_source_elsewhere_does_not_count(far: str) -> None:
    page = page_of(far)
    assert not has_source(page, claims_of(page)[0])
    assert "page.source-missing" in rule_ids(page)


def test_a_page_with_claims_must_be_dated() -> None:
    assert "page.date-missing" in rule_ids(page_of(f"<p>{CLAIM}</p>"))
    assert "page.date-missing" not in rule_ids(page_of(f"<p>{CLAIM}</p><p>Last updated in March.</p>"))
    assert "page.date-missing" not in rule_ids(page_of(f"<p>{CLAIM}</p><time>2026-03-18</time>"))
    assert "page.date-missing" not in rule_ids(page_of("<p>We sell oats.</p>"))


def test_figures_grow_old_with_the_clock() -> None:
    page = page_of(f"<p>{CLAIM}</p>")
    assert "page.figures-old" not in rule_ids(page, year=2026)
    assert "page.figures-old" in rule_ids(page, year=2031)


def test_a_heavy_page_is_a_finding_and_a_light_one_is_not() -> None:
    page = page_of("<p>We sell oats.</p>")
    assert "page.weight" in rule_ids(page, transfer_bytes=4_000_000)
    assert "page.weight" not in rule_ids(page, transfer_bytes=200_000)


def test_structure_is_counted() -> None:
    counts = structure(page_of('<h1>a</h1><p>b c</p><ul><li>d</li></ul><a href="#">e</a><img src="f"><table></table>'))
    assert (counts.words, counts.headings, counts.links, counts.images, counts.lists, counts.tables) == (
        5,
        1,
        1,
        1,
        1,
        1,
    )


def test_what_a_claim_lacks_is_named() -> None:
    (vague,) = claims_of(page_of("<p>Fernhill is eco-friendly and carbon neutral.</p>"))
    assert "a figure with its unit" in missing_parts(vague, source_nearby=False)
    assert "a source beside it" in missing_parts(vague, source_nearby=False)
    assert "a source beside it" not in missing_parts(vague, source_nearby=True)
    assert "[t CO2e]" in pattern(vague)


def test_an_empty_page_has_nothing_to_find() -> None:
    page = Page(ref="empty", html="")
    assert rule_ids(page) == []
