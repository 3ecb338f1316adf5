"""When a workflow can finish: critical path, slack, and the spread of its finish."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log

# The 90th percentile of the standard normal distribution.
Z90 = 1.2815515655


@dataclass(frozen=True)
class Duration:
    """Median and 90th percentile of a step in seconds, from `runs` runs (0: assumed)."""

    p50: float
    p90: float
    runs: int


@dataclass(frozen=True)
class Timing:
    """When a step starts and ends at the earliest, in seconds after the start, and how late it may be."""

    start: float
    finish: float
    slack: float


def topological_order(after: Mapping[str, Sequence[str]]) -> list[str] | None:
    """The steps, each behind those in its `after`, in the given order where that is free; None if there is a cycle."""
    order: list[str] = []
    placed: set[str] = set()
    while len(order) < len(after):
        following = next((s for s, needs in after.items() if s not in placed and placed.issuperset(needs)), None)
        if following is None:
            return None
        order.append(following)
        placed.add(following)
    return order


def critical_path(after: Mapping[str, Sequence[str]], seconds: Mapping[str, float]) -> dict[str, Timing]:
    """Earliest times and slack of each step (critical path method, Kelley and Walker 1959); `after` has no cycle."""
    order = topological_order(after)
    if order is None:
        raise ValueError("the steps depend on each other in a circle")
    finish: dict[str, float] = {}
    for step in order:
        finish[step] = max((finish[needed] for needed in after[step]), default=0.0) + seconds[step]
    end = max(finish.values(), default=0.0)
    latest = dict.fromkeys(order, end)
    for step in reversed(order):
        for needed in after[step]:
            latest[needed] = min(latest[needed], latest[step] - seconds[step])
    return {step: Timing(finish[step] - seconds[step], finish[step], latest[step] - finish[step]) for step in order}


def critical_chain(after: Mapping[str, Sequence[str]], timings: Mapping[str, Timing]) -> list[str]:
    """One longest chain of steps from the start to the end; of several equally long ones the first."""
    chain: list[str] = []
    step = max(timings, key=lambda key: timings[key].finish, default=None)
    while step is not None:
        chain.append(step)
        step = max(after[step], key=lambda key: timings[key].finish, default=None)
    return chain[::-1]


def finish_percentiles(
    after: Mapping[str, Sequence[str]], durations: Mapping[str, Duration], draws: int
) -> tuple[float, float]:
    """Median and 90th percentile of the finish, in seconds.

    Each step is drawn from the log-normal distribution with its median and 90th percentile, independently, and starts
    as soon as what it needs has ended (a worker is always free). The same plan always gives the same figures.
    """
    order = topological_order(after)
    if not order:
        return 0.0, 0.0
    generator = random.Random(0)
    ends = []
    for _ in range(draws):
        finish: dict[str, float] = {}
        for step in order:
            duration = durations[step]
            sigma = log(max(duration.p90, duration.p50) / duration.p50) / Z90
            seconds = duration.p50 * exp(sigma * generator.gauss(0, 1))
            finish[step] = max((finish[needed] for needed in after[step]), default=0.0) + seconds
        ends.append(max(finish.values()))
    ends.sort()
    return ends[len(ends) // 2], ends[len(ends) * 9 // 10]
