"""Whether given sources bear out a claim: number, unit, year, scope, direction and names must agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

from zora_core.data import load
from zora_core.skills.claims.detection import features
from zora_core.skills.claims.parsing import Facts, Quantity, base_unit, parse_facts, split_sentences
from zora_core.skills.text.lexicon import normalize
from zora_core.skills.text.words import Sentence, stem, stems, vocabulary

# Features of a source that can fill what a claim's wording leaves open.
_CURES = frozenset({"plan", "verified", "scheme"})


@dataclass(frozen=True)
class SourceText:
    """A text offered in support of claims; `ref` names it in evidence."""

    ref: str
    text: str


@dataclass(frozen=True)
class Passage:
    """A sentence of a source and what it does to the claim: `reason` says in which respect."""

    ref: str
    text: str
    start: int
    reason: str


@dataclass(frozen=True)
class Match:
    """How a claim stands against the sources.

    `status`: agrees (every figure and name found, nothing against it), partly (some of it), contradicted, silent (read,
    nothing to the point), none (no sources given). `shown` holds the features that the sources fill in for the claim.
    """

    status: Literal["agrees", "partly", "contradicted", "silent", "none"]
    agreeing: tuple[Passage, ...] = ()
    contradicting: tuple[Passage, ...] = ()
    narrower: tuple[Passage, ...] = ()
    missing: tuple[str, ...] = ()
    shown: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Statement:
    """A sentence of a source, parsed once."""

    source: SourceText
    sentence: Sentence
    facts: Facts
    senses: frozenset[str]

    @cached_property
    def features(self) -> frozenset[str]:
        return features(self.sentence.text)

    def passage(self, reason: str) -> Passage:
        return Passage(self.source.ref, self.sentence.text, self.sentence.start, reason)


class Evidence:
    """Sources, parsed once and matched against many claims."""

    def __init__(self, sources: Sequence[SourceText]) -> None:
        """Parse every sentence of `sources`."""
        self._sources = sources
        self._statements = [
            _Statement(source, s, parse_facts(s.text), senses(s.text))
            for source in sources
            for s in split_sentences(source.text)
        ]

    def match(self, text: str, facts: Facts) -> Match:
        """Hold one claim against all sources; the thresholds stand in `data/claims_evidence.toml`."""
        if not self._sources:
            return Match("none")
        limits = load("claims_evidence")
        words = senses(text)
        relevant = [(s, _coverage(words, s.senses)) for s in self._statements if _on_topic(facts, s.facts)]
        relevant = sorted(((s, c) for s, c in relevant if c >= limits["relevant_coverage"]), key=lambda pair: -pair[1])
        contradicting = [
            p for s, c in relevant if (p := _contradiction(facts, s, c, limits["same_statement_coverage"]))
        ]
        agreeing, missing = _figures(facts, [s for s, _ in relevant])
        if not facts.quantities:
            said = [s for s, c in relevant if c >= limits["same_text_coverage"] and s.facts.negated == facts.negated]
            agreeing = [s.passage("says the same") for s in said[:1]]
        unnamed = [name for name in names(text) if not any(name in normalize(s.text).lower() for s in self._sources)]
        borne_out = {(p.ref, p.start) for p in agreeing}
        if agreeing and not missing:
            contradicting = [p for p in contradicting if not p.reason.startswith("number")]
        narrower = [
            p for s, _ in relevant if (s.source.ref, s.sentence.start) in borne_out and (p := _narrower(text, facts, s))
        ]
        missing += [f"name {name!r}" for name in unnamed]
        shown = frozenset().union(*(s.features & _CURES for s, _ in relevant))
        status: Literal["agrees", "partly", "contradicted", "silent"] = (
            "contradicted"
            if contradicting
            else "silent"
            if not agreeing
            else "partly"
            if missing or narrower
            else "agrees"
        )
        if status == "agrees":
            shown |= {"evidence"}
        elif status == "contradicted":
            shown = frozenset()
        return Match(status, tuple(agreeing), tuple(contradicting[:3]), tuple(narrower[:3]), tuple(missing), shown)


def senses(text: str) -> frozenset[str]:
    """The senses of the content words of `text`: stems without stop words and figures, synonyms as one."""
    stop = vocabulary()["stop"]
    words = re.findall(r"[^\W\d_]{3,}", normalize(text).lower())
    return frozenset(_senses().get(stem(word), stem(word)) for word in words if word not in stop)


def names(text: str) -> list[str]:
    """Proper names of a claim in lower case: capitalised words inside a sentence that is not written in title case."""
    plain = normalize(text)
    words = list(re.finditer(r"[^\W\d_][\w&-]*", plain))
    capitalised = [w for w in words[1:] if w[0][0].isupper() and w[0].lower() not in vocabulary()["stop"]]
    if len(capitalised) > len(words) / 2:
        return []
    return list(dict.fromkeys(w[0].lower() for w in capitalised if plain[: w.start()].rstrip()[-1:] not in ".:!?"))


def _coverage(words: frozenset[str], others: frozenset[str]) -> float:
    return len(words & others) / len(words) if words else 0.0


def _on_topic(claim: Facts, source: Facts) -> bool:
    return not claim.metrics or bool(claim.metrics & source.metrics)


def _same_period(claim: Facts, source: Facts) -> bool:
    """Whether no year speaks against the two being about the same thing."""
    return not claim.years or not source.years or bool(set(claim.years) & set(source.years))


def _figures(facts: Facts, statements: list[_Statement]) -> tuple[list[Passage], list[str]]:
    """For each figure of the claim, the best statement that gives the same; and the figures that none gives."""
    found: list[Passage] = []
    missing: list[str] = []
    for quantity in facts.quantities:
        same = [
            s
            for s in statements
            if _same_period(facts, s.facts)
            and not _opposite(facts, s.facts)
            and any(_equal(quantity, q) for q in s.facts.quantities)
        ]
        if same:
            found.append(same[0].passage(f"number agrees: {quantity.text}"))
        else:
            missing.append(f"number {quantity.text!r}")
    return found, missing


def _equal(claim: Quantity, source: Quantity) -> bool:
    """Equal to the precision with which the claim states its number (half a unit of its last digit)."""
    if claim.dimension != source.dimension:
        return False
    digits = re.match(r"\d[\d ,]*(?:\.(\d+))?", claim.text)
    number = float(re.sub(r"[ ,]", "", digits[0])) if digits else 0.0
    scale = claim.value / number if number else 1.0
    precision = 10.0 ** -len((digits[1] or "") if digits else "")
    return abs(claim.value - source.value) <= max(0.5 * precision * scale, 1e-9)


def _opposite(claim: Facts, source: Facts) -> bool:
    return {claim.direction, source.direction} == {"up", "down"}


def _contradiction(facts: Facts, statement: _Statement, coverage: float, threshold: float) -> Passage | None:
    """What of `statement` contradicts the claim, when the two are about the same thing."""
    other = statement.facts
    if coverage < threshold:
        return None
    if facts.metrics and _opposite(facts, other) and _same_period(facts, other):
        return statement.passage("direction: the source says the opposite")
    if facts.negated != other.negated and not facts.quantities:
        return statement.passage("negation: the source denies it")
    for quantity in facts.quantities:
        rivals = [q for q in other.quantities if q.dimension == quantity.dimension != "number"]
        if not rivals:
            continue
        equal = any(_equal(quantity, q) for q in rivals)
        for name, claimed, given in (
            ("baseline year", facts.baseline_year, other.baseline_year),
            ("target year", facts.target_year, other.target_year),
        ):
            if equal and claimed and given and claimed != given:
                return statement.passage(f"{name}: the claim says {claimed}, the source {given}")
        if not equal and _same_period(facts, other):
            return statement.passage(f"number: the claim says {quantity.text}, the source {_listed(rivals)}")
    return None


def _listed(quantities: list[Quantity]) -> str:
    return " and ".join(
        q.text if q.text[-1:].isalpha() or "%" in q.text else f"{q.text} {base_unit(q.dimension)}" for q in quantities
    )


def _narrower(text: str, facts: Facts, statement: _Statement) -> Passage | None:
    """What limits the supporting statement that the claim leaves out."""
    missing = set(statement.facts.scopes) - set(facts.scopes)
    if statement.facts.scopes and not facts.scopes:
        return statement.passage(f"the source speaks of scope {', '.join(map(str, statement.facts.scopes))} only")
    if missing or not set(facts.scopes) <= set(statement.facts.scopes or facts.scopes):
        return statement.passage(f"the claim says scope {facts.scopes}, the source {statement.facts.scopes}")
    if statement.facts.per and not facts.per and not set(stems(statement.facts.per)) <= set(stems(text)):
        return statement.passage(f"the source counts per {statement.facts.per}, the claim in total")
    if "part" in statement.features and "part" not in features(text):
        return statement.passage("the source speaks of a part that the claim does not name")
    return None


@cache
def _senses() -> dict[str, str]:
    """Stem → the sense under which it is compared, so that "cut" and "reduced" agree."""
    return {stem: sense for sense, stems in load("claims_evidence")["senses"].items() for stem in stems}
