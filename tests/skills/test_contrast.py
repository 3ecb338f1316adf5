"""Colours, contrast and the cascade that decides both."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.skills.css.contrast import (
    BLACK,
    TRANSPARENT,
    WHITE,
    Colour,
    contrast_ratio,
    parse_colour,
    passing_colour,
    required_ratio,
)
from zora_core.skills.css.styles import Styles, specificity
from zora_core.skills.page import Page

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


@pytest.mark.parametrize(
    "value",
    ["", "nonsense", "inherit", "url(x.png)", "red blue", "rgb(300 0)", "color-mix(in srgb, red)", "light-dark(red)"],
)
def test_other_values_are_not_colours(value: str) -> None:
    assert parse_colour(value) is None


# As Chromium 156 paints them; the conversions are those of CSS Color 4, 10 to 13, and of CSS Color 5, 3 to 5.
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("oklch(0.85 0 0)", "#cecece"),
        ("oklch(70% 0.1 0.5turn)", "#4bb3a1"),
        ("oklab(0.6 0.1 0.05)", "#ba645c"),
        ("lab(50% 40 59.5)", "#bf5700"),
        ("lch(60 50 200)", "#00a6ad"),
        ("hwb(120 10% 10%)", "#1ae61a"),
        ("hsl(210deg 50% 40%)", "#336699"),
        ("color(display-p3 0.5 0.4 0.3)", "#846549"),
        ("color(srgb-linear 0.5 0.5 0.5)", "#bcbcbc"),
        ("color(xyz 0.3 0.3 0.3)", "#a2918f"),
        ("color-mix(in srgb, #000 20%, white)", "#cccccc"),
        ("color-mix(in oklab, red, blue)", "#8c53a2"),
        ("color-mix(in hsl longer hue, red, blue)", "#00ff00"),
        ("light-dark(#123456, red)", "#123456"),
        ("oklch(from red calc(l * 0.5) c h)", "#890000"),
        ("rgb(from #123456 255 g b)", "#ff3456"),
        ("rgb(calc(100 + 55) 0 0)", "#9b0000"),
    ],
)
def test_colours_of_every_space_are_converted(value: str, expected: str) -> None:
    found = parse_colour(value)
    assert found is not None
    assert found.hex == expected


def test_a_mix_with_transparent_keeps_the_colour_and_lowers_the_opacity() -> None:
    found = parse_colour("color-mix(in oklab, red 40%, transparent)")
    assert found is not None
    assert (found.hex, round(found.alpha, 3)) == ("#ff0000", 0.4)


def test_the_dark_side_of_a_colour_is_chosen_by_the_scheme() -> None:
    assert parse_colour("light-dark(#000, #fff)", dark=True) == WHITE


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


def test_variables_that_refer_to_each_other_have_no_value() -> None:
    assert _value("p { --a: var(--b); --b: var(--a); color: var(--a) }", "<p>", "color") == "unset"
