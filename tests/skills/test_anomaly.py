from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.skills.systems.anomaly import Sensitivity, find_anomalies
from zora_core.skills.systems.health import settings

MINUTES = Sensitivity(**settings()["anomaly"]["minutes"])
SMALL = Sensitivity(
    window=40, warm_up=20, history=100, point_score=4, shift_score=4, shift_length=4, quiet=3, relative_floor=0.1
)


def wave(points: int) -> list[float]:
    return [100 + 10 * math.sin(i / 5) for i in range(points)]


def test_a_steady_series_has_no_anomaly() -> None:
    assert find_anomalies([7.0] * 500, MINUTES) == []
    assert find_anomalies(wave(1000), MINUTES) == []


def test_a_spike_is_found_once_at_its_first_point() -> None:
    values = wave(400)
    values[300:303] = [400.0, 410.0, 420.0]
    (found,) = find_anomalies(values, SMALL)
    assert (found.index, found.kind, found.value) == (300, "point", 400.0)
    assert found.expected == pytest.approx(100, abs=10)


def test_a_spike_that_comes_back_is_no_longer_news() -> None:
    values = wave(400)
    for place in (100, 150, 180):
        values[place] = 400.0
    assert [a.index for a in find_anomalies(values, SMALL)] == [100]


def test_a_new_level_within_known_bounds_is_a_shift() -> None:
    values = [100.0 + i % 3 for i in range(200)] + [40.0 + i % 3 for i in range(60)]
    values[120] = 10.0
    kinds = {a.kind for a in find_anomalies(values, SMALL) if a.index >= 200}
    assert kinds == {"shift"}


def test_a_series_shorter_than_the_warm_up_says_nothing() -> None:
    assert find_anomalies([1.0, 1.0, 500.0], SMALL) == []
    assert find_anomalies([], SMALL) == []


def test_impossible_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shift_length <= warm_up <= window, not 4, 50, 40"):
        Sensitivity(40, 50, 100, 4, 4, 4, 3, 0.1)


@given(st.lists(st.floats(min_value=-1e6, max_value=1e6), max_size=200))
def test_any_series_gives_ordered_places_inside_it(values: list[float]) -> None:
    places = [a.index for a in find_anomalies(values, SMALL)]
    assert places == sorted(set(places))
    assert all(SMALL.warm_up <= place < len(values) for place in places)
