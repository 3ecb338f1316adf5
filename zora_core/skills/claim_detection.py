"""Which sentences are environmental claims: a weighted lexicon, every weight in `data/claims_lexicon.toml`."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cache, lru_cache

from zora_core.data import load
from zora_core.skills.claim_parsing import Facts, inside
from zora_core.skills.lexicon import Terms, normalize

_NEGATION_BEFORE = re.compile(
    r"\b(?:not(?! only| just)|never|no longer|neither|nor|hardly|cannot be|[a-z]+n't)(?:\s\w+){0,3}\s$", re.IGNORECASE
)


@dataclass(frozen=True)
class Detection:
    """A sentence's score, the threshold it was held against, and the words that made it, per group."""

    score: float
    threshold: float
    words: dict[str, tuple[str, ...]]

    @property
    def is_claim(self) -> bool:
        """Whether the sentence counts as an environmental claim."""
        return self.score >= self.threshold

    @property
    def confidence(self) -> float:
        """0..1, by the distance of the score from the threshold; 0.5 on it."""
        return round(min(0.95, max(0.05, 0.5 + 0.1 * (self.score - self.threshold))), 2)


def detect(sentence: str, facts: Facts) -> Detection:
    """Score one sentence; without a word of merit or of an environmental subject it scores 0."""
    rules = load("claims_lexicon")["detection"]
    text = normalize(sentence)
    spans = {name: [m.span() for m in terms.find(text)] for name, terms in _groups().items()}
    # What a longer term says is not said again by the subject within it, nor at all when it is denied.
    said = (spans["merit"], spans["technology"])
    spans["topic"] = [span for span in spans["topic"] if not any(inside(*span, longer) for longer in said)]
    spans["merit"] = [span for span in spans["merit"] if not _negated(text, span[0])]
    if facts.change and facts.direction == "down":
        # "from 412 t to 350 t" says that something fell without a word for it.
        spans["improvement"].append((facts.change[0].start, facts.change[1].start + len(facts.change[1].text)))
    words = {name: tuple(dict.fromkeys(text[a:b].lower() for a, b in found)) for name, found in spans.items() if found}
    if not words.keys() & {"merit", "technology", "topic"}:
        return Detection(0.0, rules["threshold"], words)
    score = sum(
        group["weight"] * min(len(words.get(name, ())), group["most"]) for name, group in rules["groups"].items()
    )
    subjects = spans["topic"] + said[0] + said[1]
    for name, weight in (("improvement", "pair_weight"), ("commitment", "commitment_pair_weight")):
        if _near(spans[name], subjects, rules["pair_distance"]):
            score += rules[weight]
    if any(q.dimension not in ("number", "count") for q in facts.quantities) and facts.metrics:
        score += rules["quantity_weight"]
    if "merit" in words and len(text.split()) <= rules["brief_words"]:
        score += rules["brief_weight"]
    if sentence.rstrip("\"')”’ ").endswith("?"):
        score += rules["question_weight"]
    return Detection(round(score, 2), rules["threshold"], words)


@lru_cache(maxsize=1024)
def features(sentence: str) -> frozenset[str]:
    """The word features of the rules that `sentence` shows, such as `generic`, `offset` or `future`."""
    return frozenset(name for name in _features() if find_feature(name, sentence))


def find_feature(name: str, sentence: str) -> list[tuple[int, int]]:
    """Where the words of feature `name` stand in `sentence`; a negated word of praise does not count."""
    text = normalize(sentence)
    spans = [m.span() for m in _features()[name].find(text)]
    if name in load("claims_lexicon")["detection"]["negatable"]:
        return [span for span in spans if not _negated(text, span[0])]
    return spans


def _negated(text: str, start: int) -> bool:
    return _NEGATION_BEFORE.search(text, max(0, start - 40), start) is not None


def _near(left: list[tuple[int, int]], right: list[tuple[int, int]], distance: int) -> bool:
    """Whether a span of `left` and one of `right` lie apart by at most `distance` characters."""
    starts, ends = sorted(c for c, _ in right), sorted(d for _, d in right)
    for a, b in left:
        after, before = bisect_left(starts, b), bisect_right(ends, a) - 1
        if after < len(starts) and starts[after] - b <= distance:
            return True
        if before >= 0 and a - ends[before] <= distance:
            return True
    return False


@cache
def _groups() -> dict[str, Terms]:
    return {name: Terms(group["terms"]) for name, group in load("claims_lexicon")["detection"]["groups"].items()}


@cache
def _features() -> dict[str, Terms]:
    return {
        name: Terms(feature["terms"], feature.get("except", ()))
        for name, feature in load("claims_lexicon")["features"].items()
    }
