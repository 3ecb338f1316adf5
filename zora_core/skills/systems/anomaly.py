"""Anomalies in a series of measurements: points that break every record of their recent past, and lasting shifts."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

MAD_TO_SIGMA = 1.4826
P10_P90_TO_SIGMA = 2.563


@dataclass(frozen=True)
class Sensitivity:
    """When a point counts as anomalous; all lengths are in points, all scores in robust standard deviations.

    `window` is how much of the past is normal, `warm_up` how much of it must be there first, `history` how far back a
    record is looked for, `point_score` and `shift_score` what a single point and the median of the last `shift_length`
    points must exceed, `quiet` how many ordinary points end an episode, `relative_floor` the least standard deviation
    as a share of the median (so that a flat series does not alarm at its first wobble).
    """

    window: int
    warm_up: int
    history: int
    point_score: float
    shift_score: float
    shift_length: int
    quiet: int
    relative_floor: float

    def __post_init__(self) -> None:
        if not 0 < self.shift_length <= self.warm_up <= self.window:
            raise ValueError(
                f"need 0 < shift_length <= warm_up <= window, not {self.shift_length}, {self.warm_up}, {self.window}"
            )


@dataclass(frozen=True)
class Anomaly:
    """`value` at `index` where `expected` was the rolling median; `score` is the distance in robust deviations.

    `kind` is `point` for a value beyond all seen lately and `shift` for a new level, whose median is then `value`.
    """

    index: int
    kind: Literal["point", "shift"]
    value: float
    expected: float
    score: float


def find_anomalies(values: Sequence[float], settings: Sensitivity) -> list[Anomaly]:
    """The anomalies of `values`, in order; an episode counts once, at its first point.

    The scale is the larger of 1.4826 x MAD and (P90 - P10) / 2.563 of the rolling window: the first resists outliers
    (Hampel 1974), the second keeps a series that is mostly idle from having no spread at all. A series shorter than the
    warm-up has no anomalies. Values must be finite.
    """
    window: deque[float] = deque()
    ordered: list[float] = []
    found: list[Anomaly] = []
    last_extreme = last_shift = -len(values) - settings.window
    for index, value in enumerate(values):
        if len(ordered) >= settings.warm_up:
            expected, scale = _normal(ordered, settings.relative_floor)
            score = abs(value - expected) / scale
            if score > settings.point_score and _breaks_record(values, index, settings.history):
                if index - last_extreme > settings.quiet:
                    found.append(Anomaly(index, "point", value, expected, round(score, 2)))
                last_extreme = index
            elif index - last_shift > settings.window // 2 and index - last_extreme > settings.quiet:
                level = median(values[index - settings.shift_length + 1 : index + 1])
                score = abs(level - expected) / scale
                if score > settings.shift_score:
                    found.append(Anomaly(index, "shift", level, expected, round(score, 2)))
                    last_shift = index
        window.append(value)
        insort(ordered, value)
        if len(window) > settings.window:
            del ordered[bisect_left(ordered, window.popleft())]
    return found


def _normal(ordered: list[float], relative_floor: float) -> tuple[float, float]:
    """Median and robust standard deviation of a sorted window."""
    middle = median(ordered)
    deviation = median([abs(value - middle) for value in ordered]) * MAD_TO_SIGMA
    spread = (ordered[len(ordered) * 9 // 10] - ordered[len(ordered) // 10]) / P10_P90_TO_SIGMA
    return middle, max(deviation, spread, relative_floor * abs(middle), 1e-9)


def _breaks_record(values: Sequence[float], index: int, history: int) -> bool:
    past = values[max(0, index - history) : index]
    return not min(past) <= values[index] <= max(past)
