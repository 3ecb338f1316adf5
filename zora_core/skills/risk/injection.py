"""Instructions smuggled into text that was meant as data: found, never followed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from zora_core.data import load

_SPACE = r"(?:\s{1,4})"


@dataclass(frozen=True)
class InjectionMatch:
    """A passage that reads like an instruction to the machine: `family` names the kind, `why` explains it."""

    family: str
    why: str
    weight: float
    start: int
    end: int


def find_injections(text: str) -> list[InjectionMatch]:
    """Passages of `text` that try to steer whoever processes it; empty unless their families weigh enough together.

    Families, weights and the threshold stand in `data/risk_injection.toml`. Phrases find direct attacks; what is worded
    like ordinary text is the business of the flow rule, which does not read the wording.
    """
    matches = [
        InjectionMatch(family, why, weight, m.start(), m.end())
        for family, why, weight, regex in _families()
        for m in list(regex.finditer(text))[:20]
    ]
    weights = {m.family: m.weight for m in matches}
    if sum(weights.values()) < load("risk_injection")["threshold"]:
        return []
    return sorted(matches, key=lambda m: (m.start, m.end))


@cache
def _families() -> tuple[tuple[str, str, float, re.Pattern[str]], ...]:
    return tuple(
        (
            row["id"],
            row["why"],
            row["weight"],
            re.compile("|".join(f"(?:{p.replace(' ', _SPACE)})" for p in row["patterns"]), re.IGNORECASE),
        )
        for row in load("risk_injection")["family"]
    )
