"""The rules the engine knows: criterion, level, ACT rules, severity and advice, read from the data file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from zora_core.data import load
from zora_core.models import Severity
from zora_core.skills.page.dom import Element

LEVELS = ("A", "AA", "AAA")


@dataclass(frozen=True)
class Rule:
    """One rule.

    `criterion` is the WCAG 2.2 success criterion, empty for good practice; `level` its conformance level, or
    "practice"; `act` the ids of the W3C ACT rules it implements.
    """

    key: str
    id: str
    title: str
    advice: str
    level: str
    severity: Severity
    confidence: float
    act: tuple[str, ...] = ()
    criterion: str = ""

    @property
    def basis(self) -> str:
        """Where the rule comes from, in words."""
        place = (
            f"WCAG 2.2 success criterion {self.criterion} (level {self.level})" if self.criterion else "Good practice"
        )
        return f"{place}; ACT rule {', '.join(self.act)}." if self.act else f"{place}."


@dataclass(frozen=True)
class Violation:
    """A rule that an element breaks, with what was seen there; `fix` is markup or style that would cure it.

    `confidence` replaces the rule's own where less can be told than usual.
    """

    rule: str
    element: Element
    detail: str
    fix: str = ""
    confidence: float | None = None


@lru_cache(maxsize=1)
def rules() -> dict[str, Rule]:
    """Every rule by its key."""
    found = {}
    for key, entry in load("accessibility_rules").items():
        criterion = entry.get("criterion", "")
        found[key] = Rule(
            key=key,
            id=f"wcag.{criterion}.{key}" if criterion else f"practice.{key}",
            title=entry["title"],
            advice=entry["advice"],
            level=entry["level"],
            severity=Severity(entry["severity"]),
            confidence=entry.get("confidence", 0.9),
            act=tuple(entry.get("act", ())),
            criterion=criterion,
        )
    return found
