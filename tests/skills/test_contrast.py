"""Colours, contrast and the cascade that decides both."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.skills.contrast import (
    BLACK,
    TRANSPARENT,
    WHITE,
    Colour,
    contrast_ratio,
    parse_colour,
    passing_colour,
    required_ratio,
)
from zora_core.skills.page import Page
from zora_core.skills.styles import Styles, specificity

channel = st.floats(min_value=0, max_value=1, allow_nan=False)
colours = st.builds(Colour, channel, channel, channel, st.just(1.0))


def test_black_on_white_is_twenty_one_to_one() -> None:
    assert contrast_ratio(BLACK, WHITE) == pytest.approx(21)


def test_known_ratio_of_the_standard_grey() -> None:
    grey = parse_colour("#767676")
    assert grey is not None
    assert contrast_ratio(grey, WHITE) == pytest.approx(4.54, abs=0.01)


@given(colours, colours)
def test_contrast_is_symmetric_and_between_one_and_twenty_one(one: Colour, other: Colour) -> None:
    ratio = contrast_ratio(one, other)
    assert ratio == contrast_ratio(other, one)
    assert 1 <= ratio <= 21.001


@given(colours, colours)
def test_a_proposed_colour_passes(front: Colour, back: Colour) -> None:
    better = passing_colour(front, back, 4.5)
    assert better is not None
    assert contrast_ratio(better, back) >= 4.5


def test_half_transparent_black_on_white_is_grey() -> None:
    assert BLACK.faded(0.5).over(WHITE).hex == "#808080"
    assert TRANSPARENT.over(WHITE) == WHITE


@pytest.mark.parametrize("value", ["", "nonsense", "url(x.png)", "oklch(0.5 0.1 200)"])
def test_what_is_no_known_colour_is_none(value: str) -> None:
    assert parse_colour(value) is None


@pytest.mark.parametrize(
    ("px", "weight", "level", "ratio"),
    [
        (16, 400, "AA", 4.5),
        (24, 400, "AA", 3.0),
        (18.66, 700, "AA", 3.0),
        (18, 700, "AA", 4.5),
        (24, 400, "AAA", 4.5),
        (16, 400, "AAA", 7.0),
    ],
)
def test_large_text_needs_less(px: float, weight: int, level: str, ratio: float) -> None:
    assert required_ratio(px, weight, level) == ratio


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("p", (0, 0, 1)),
        ("#a .b p", (1, 1, 1)),
        ("a[href]:not(.x)", (0, 2, 1)),
        (":where(#a) p", (0, 0, 1)),
        ("ul > li:first-child", (0, 1, 2)),
    ],
)
def test_specificity_counts_ids_classes_and_types(selector: str, expected: tuple[int, int, int]) -> None:
    assert specificity(selector) == expected


def _value(css: str, markup: str, name: str) -> str:
    page = Page(ref="x", html=f"<style>{css}</style>{markup}")
    return Styles(page.document)[page.document.with_tag("p")[0]].get(name)


@pytest.mark.parametrize(
    ("css", "markup", "expected"),
    [
        ("p { color: red } p { color: blue }", "<p>", "blue"),
        (".a { color: red } p { color: blue }", '<p class="a">', "red"),
        ("p { color: red !important } #b { color: blue }", '<p id="b">', "red"),
        ("p { color: red }", '<p style="color: blue">', "blue"),
        ("p { color: red !important }", '<p style="color: blue">', "red"),
        ("p { color: red } p:hover { color: blue }", "<p>", "red"),
        ("p { color: red } @media print { p { color: blue } }", "<p>", "red"),
        ("p { color: red } @media (min-width: 40em) { p { color: blue } }", "<p>", "blue"),
        ("p { color: red } @media (max-width: 600px) { p { color: blue } }", "<p>", "red"),
        (":root { --ink: teal } p { color: var(--ink) }", "<p>", "teal"),
        ("p { color: var(--none, olive) }", "<p>", "olive"),
        ("}} p { color: red", "<p>", ""),
    ],
)
def test_the_cascade_decides(css: str, markup: str, expected: str) -> None:
    assert _value(css, markup, "color") == expected


def test_variables_that_name_each_other_come_to_an_end() -> None:
    assert "var(" in _value("p { --a: var(--b); --b: var(--a); color: var(--a) }", "<p>", "color")
