"""The rule packs: what EU, UK and US provisions say of a claim with given features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from zora_core.data import load
from zora_core.models import Severity
from zora_core.skills.claim_detection import features
from zora_core.skills.claim_parsing import Facts

JURISDICTIONS = ("EU", "UK", "US")

# Verdicts on the wording of a claim, worst first; not the judgement of a court.
VERDICTS = ("prohibited", "misleading", "needs_evidence", "supported")


@dataclass(frozen=True)
class Rule:
    """One provision as a test of features; the fields are those of the data files `claims_<jurisdiction>.toml`."""

    id: str
    jurisdiction: str
    provision: str
    title: str
    detail: str
    remedy: str
    verdict: str
    severity: Severity
    confidence: float
    all_of: frozenset[str]
    any_of: frozenset[str]
    none_of: frozenset[str]
    cured_by: frozenset[str]

    def applies(self, shown: frozenset[str]) -> bool:
        """Whether a claim that shows the features `shown` falls under the rule."""
        return self.all_of <= shown and (not self.any_of or bool(self.any_of & shown)) and not (self.none_of & shown)


def claim_features(sentence: str, facts: Facts, neighbours: str = "") -> frozenset[str]:
    """Every feature of a claim: those of its words, those of its figures, and offsets or parts named next to it.

    `neighbours` is the text of the sentences beside it: what is said there of offsets, plans and parts counts too.
    """
    shown = set(features(sentence))
    around = features(neighbours) if neighbours else frozenset()
    shown |= around & {"plan", "verified", "disposal"}
    if "neutrality" in shown:
        shown |= around & {"offset", "offset_separate"}
    if "whole" in shown:
        shown |= around & {"part"}
    dimensions = {q.dimension for q in facts.quantities}
    future = "future" in shown or facts.future
    computed = {
        "future": future,
        "reduction": "reduction" in shown or (facts.change is not None and facts.direction == "down"),
        "comparator": "comparator" in shown or facts.baseline_year is not None or facts.change is not None,
        "quantity": bool(dimensions - {"number"}),
        "share": "share" in dimensions,
        "baseline_year": facts.baseline_year is not None,
        "target_year": future and any(year != facts.baseline_year for year in facts.years),
        "negated": facts.negated,
        "specified": bool(shown & {"specification", "scheme"}) or bool(dimensions - {"number", "count"}),
    }
    return frozenset(shown | {name for name, present in computed.items() if present})


def rules_for(jurisdictions: Sequence[str]) -> list[Rule]:
    """The rules of the given jurisdictions, in their order; an unknown one is a `ValueError`."""
    unknown = [j for j in jurisdictions if j not in JURISDICTIONS]
    if unknown:
        raise ValueError(f"unknown jurisdiction {unknown[0]!r} (known: {', '.join(JURISDICTIONS)})")
    return [rule for jurisdiction in dict.fromkeys(jurisdictions) for rule in _pack(jurisdiction)]


@cache
def _pack(jurisdiction: str) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            id=row["id"],
            jurisdiction=jurisdiction,
            provision=row["provision"],
            title=row["title"],
            detail=row["detail"],
            remedy=row["remedy"],
            verdict=row["verdict"],
            severity=Severity(row["severity"]),
            confidence=row["confidence"],
            all_of=frozenset(row.get("all", ())),
            any_of=frozenset(row.get("any", ())),
            none_of=frozenset(row.get("none", ())),
            cured_by=frozenset(row.get("cured_by", ())),
        )
        for row in load(f"claims_{jurisdiction.lower()}")["rule"]
    )
