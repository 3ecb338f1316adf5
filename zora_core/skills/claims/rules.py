"""The rule packs: what EU, UK and US provisions say of a claim with given features."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from zora_core.data import load
from zora_core.models import Severity
from zora_core.skills.claims.detection import features, find_feature
from zora_core.skills.claims.parsing import Facts, Quantity
from zora_core.skills.text.lexicon import normalize

JURISDICTIONS = ("EU", "UK", "US")

# Features that a claim about the whole of something can rest on.
_OF_THE_WHOLE = ("generic", "neutrality", "recycled_content", "renewable_energy", "renewable_material")
_CLAUSE_END = re.compile(r"[,;:.!?()]|\s-\s|\s(?:but|and)\s")
# How many words after a figure, and before it, may name what it measures: "95% plant-based", "emissions fell by 14%".
_WORDS_AFTER = re.compile(r"(?:\W{0,3}[\w'-]+){0,5}")
_WORDS_BEFORE = 3
_LESS = re.compile(
    r"\b(?:less|fewer|lower|sav\w+|reduc\w+|cuts?|cutting|avoid\w*|emit\w*|us(?:es|ing)|consum\w+|fell|fall\w*|down|drop\w*"
    r"|declin\w+|decreas\w+|halv\w+|shr[aiu]nk\w*|slash\w*)\b",
    re.IGNORECASE,
)
_VERB = re.compile(r"\b(?:is|are|was|were|has|have|because|thanks|by|through|due)\b", re.IGNORECASE)
# The part of a clause before a figure, in characters, that can name what it measures.
_CLAUSE = 200
# A reason is looked for in so many characters after "because".
_REASON = 90

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
    if "offset_subject" in shown:
        shown.add("offset")
    if "neutrality" in shown:
        shown |= around & {"offset", "offset_separate"}
    if "whole" in shown:
        shown |= around & {"part", "limited"}
        text, parts = normalize(sentence), find_feature("part", sentence)
        if all(_is_of_a_part(text, parts, span) for name in _OF_THE_WHOLE for span in find_feature(name, sentence)):
            shown.discard("whole")
    dimensions = {q.dimension for q in facts.quantities}
    future = "future" in shown or facts.future
    computed = {
        "future": future,
        "reduction": "reduction" in shown or (facts.change is not None and facts.direction == "down"),
        "comparator": "comparator" in shown or facts.baseline_year is not None or facts.change is not None,
        "quantity": bool(dimensions - {"number"}),
        "share": any(q.dimension == "share" and _explains(sentence, q) for q in facts.quantities),
        "baseline_year": facts.baseline_year is not None,
        "target_year": future and any(year != facts.baseline_year for year in facts.years),
        "negated": facts.negated,
        "specified": "scheme" in shown or _is_specified(sentence, facts),
    }
    return frozenset(shown | {name for name, present in computed.items() if present})


def _is_specified(sentence: str, facts: Facts) -> bool:
    """Whether the sentence says what its praise rests on: a figure or a reason that names an environmental benefit."""
    substance = [start for start, _ in find_feature("substance", sentence)]
    text = normalize(sentence)
    for _, end in find_feature("specification", sentence):
        stop = re.search(r"[;.!?]\s|[;!?]", text[end : end + _REASON])
        reach = end + (stop.start() if stop else _REASON)
        if bisect_left(substance, end) < bisect_left(substance, reach):
            return True
    return any(_explains(sentence, quantity) for quantity in facts.quantities)


def _explains(sentence: str, quantity: Quantity) -> bool:
    """Whether a figure is one of an environmental benefit, not of the size, the price or the delivery of the offer."""
    if quantity.dimension in ("number", "count", "distance", "area"):
        return False
    text = normalize(sentence)
    start, end = quantity.start, quantity.start + len(quantity.text)
    stop = _CLAUSE_END.search(text, end)
    following = _WORDS_AFTER.match(text, end, stop.start() if stop else len(text))
    after, before = following[0] if following else "", text[_clause_start(text, start) : start]
    if find_feature("offer", after):
        return False
    if quantity.dimension != "share" and re.search(r"co2", quantity.text + after, re.IGNORECASE):
        return True
    # "350 ml" is a size; "saves 6 litres of water" and "45 kWh per 100 cycles" are not.
    if quantity.dimension == "energy" and re.match(r"\W{0,2}(?:per|a|an|/)\b", after):
        return True
    near = " ".join(before.split()[-_WORDS_BEFORE:])
    if quantity.dimension == "share" and find_feature("substance", f"{near} {after}"):
        return True
    named = find_feature("substance", f"{before} {after}")
    return bool(named) and bool(_LESS.search(f"{before} {quantity.text} {after}"))


def _is_of_a_part(text: str, parts: Sequence[tuple[int, int]], span: tuple[int, int]) -> bool:
    """Whether the term at `span` is said of a part: "recycled packaging", "the bottle is made of 100% recycled PET"."""
    stop = _CLAUSE_END.search(text, span[1])
    reach = min(stop.start() if stop else len(text), span[1] + 40)
    turn = _VERB.search(text, span[1], reach)
    begin = _clause_start(text, span[0])
    near = parts[bisect_left(parts, (begin, 0)) : bisect_left(parts, (reach, 0))]
    if any(span[0] <= start < (turn.start() if turn else reach) for start, _ in near):
        return True
    verb = _VERB.search(text, begin, span[0])
    return verb is not None and any(end <= verb.start() for _, end in near)


def _clause_start(text: str, place: int) -> int:
    begin = max(0, place - _CLAUSE)
    return max((m.end() for m in _CLAUSE_END.finditer(text, begin, place)), default=begin)


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
