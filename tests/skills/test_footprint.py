"""Grams of CO2e per view, by the Sustainable Web Design Model v4."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.skills.page.footprint import footprint, model


def test_a_gigabyte_emits_what_the_model_says() -> None:
    assert model().grams_per_gb == pytest.approx(148.2)
    assert footprint(1_000_000_000).grams_per_view == pytest.approx(148.2)


@pytest.mark.parametrize(
    ("grams", "grade"),
    [
        (0.0, "A+"),
        (0.040, "A+"),
        (0.041, "A"),
        (0.079, "A"),
        (0.145, "B"),
        (0.209, "C"),
        (0.278, "D"),
        (0.359, "E"),
        (0.36, "F"),
    ],
)
def test_grades_end_where_the_ratings_say(grams: float, grade: str) -> None:
    assert footprint(int(grams / model().grams_per_gb * 1_000_000_000)).grade == grade


@given(st.integers(min_value=0, max_value=10**10), st.integers(min_value=0, max_value=10**10))
def test_more_bytes_never_emit_less(one: int, more: int) -> None:
    assert footprint(one).grams_per_view <= footprint(one + more).grams_per_view


def test_the_estimate_shows_its_sum_and_source() -> None:
    estimate = footprint(2_000_000)
    assert estimate.formula == "0.002000000 GB * 0.300 kWh/GB * 494 gCO2e/kWh"
    assert "v4" in estimate.source
    assert estimate.kilograms_per_thousand_views == estimate.grams_per_view
