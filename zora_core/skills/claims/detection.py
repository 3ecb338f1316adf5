"""Which sentences are environmental claims: a weighted lexicon, every weight in `data/claims_lexicon.toml`."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from zora_core.data import load
from zora_core.skills.claims.parsing import Facts, inside, split_sentences
from zora_core.skills.claims.senses import is_about_others, other_senses
from zora_core.skills.text.lexicon import Terms, normalize
from zora_core.skills.text.words import Sentence

# Characters on each side of a line break in which a term is looked for that the break divides, and the length of the
# longest line that can go on after it.
_WINDOW = 60
_LONGEST = 600
# Terms of one kind in a sentence that are looked at; the sentence of a person has no more.
_MOST = 100
# The groups of terms that are about the environment; without a term of theirs a sentence is no claim.
_ABOUT = frozenset({"merit", "technology", "topic"})
# Features of the rules whose phrases claim a merit by themselves.
_PRAISE = ("generic", "label_claim", "free_of", "non_toxic", "offset_subject")
# A verb that a term begins with: "is sustainable".
_VERB = re.compile(r"(?:is|are|be|being|just|only)\s+(?=\S)", re.IGNORECASE)
# How far before a term the words are looked for that deny it or only talk about it.
_REACH = 160
# The last items of a list of terms, before the term itself.
_LISTED = r"(?:[\w'\"-]+(?: [\w'\"-]+){0,2}(?:, ?(?:and |or )?| (?:and|or) )){0,5}[\"']?"


@dataclass(frozen=True)
class Detection:
    """A sentence's score, the threshold it was held against, and the words that made it, per group.

    `about_others` says that the sentence states what somebody else does or what is known to science.
    """

    score: float
    threshold: float
    words: dict[str, tuple[str, ...]]
    about_others: bool = False

    @property
    def is_claim(self) -> bool:
        """Whether the sentence counts as an environmental claim."""
        return self.score >= self.threshold and not self.about_others

    @property
    def confidence(self) -> float:
        """0..1, by the distance of the score from the threshold; 0.5 on it."""
        return round(min(0.95, max(0.05, 0.5 + 0.1 * (self.score - self.threshold))), 2)


def detect(sentence: str, facts: Facts) -> Detection:
    """Score one sentence; without a word of merit or of an environmental subject it scores 0."""
    rules = load("claims_lexicon")["detection"]
    text = normalize(sentence)
    spans = {name: [m.span() for m in terms.find(text)] for name, terms in _groups().items()}
    for name in _ABOUT:
        spans[name] = _in_its_sense(text, spans[name])
    # What a longer term says is not said again by the subject within it, nor at all when it is denied.
    # Phrases of these features are praise, too; the single words of `generic` ("green", "eco") need company.
    found = {name: [m.span() for m in _features()[name].find(text)[:_MOST]] for name in _PRAISE}
    found = {name: _in_its_sense(text, places) for name, places in found.items()}
    for places in found.values():
        phrases = [(a, b) for a, b in places if not text[a:b].isalpha() and not _overlaps((a, b), spans["merit"])]
        spans["merit"] = sorted(spans["merit"] + phrases)
    talked = [span for span in found["generic"] if not is_asserted(text, span)]
    said = (spans["merit"], spans["technology"], talked)
    spans["topic"] = [span for span in spans["topic"] if not any(inside(*span, longer) for longer in said)]
    spans["merit"] = [span for span in spans["merit"][:_MOST] if is_asserted(text, span)]
    if facts.change and facts.direction == "down":
        # "from 412 t to 350 t" says that something fell without a word for it.
        spans["improvement"].append((facts.change[0].start, facts.change[1].start + len(facts.change[1].text)))
    words = {name: tuple(dict.fromkeys(text[a:b].lower() for a, b in found)) for name, found in spans.items() if found}
    if not words.keys() & _ABOUT:
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
    return Detection(round(score, 2), rules["threshold"], words, is_about_others(text))


def sentences_of(text: str) -> list[Sentence]:
    """The sentences of `text`; those are joined that a line break divides in a term or after a word such as "the".

    A question is joined with a yes after it: together they claim what they say.
    """
    unfinished = frozenset(load("claims_parsing")["unfinished"])
    joined: list[Sentence] = []
    for sentence in split_sentences(text):
        if joined and _goes_on(text, joined[-1], sentence, unfinished):
            start = joined[-1].start
            joined[-1] = Sentence(text[start : sentence.start + len(sentence.text)], start)
        else:
            joined.append(sentence)
    return joined


def _goes_on(text: str, first: Sentence, second: Sentence, unfinished: frozenset[str]) -> bool:
    if first.text[-1] == "?" and _answers().match(second.text):
        return len(first.text) <= _LONGEST
    breaks = text[first.start + len(first.text) : second.start].replace("\r\n", "\n").replace("\r", "\n").count("\n")
    # Without a limit of length a long list would be joined again and again.
    if not breaks or len(first.text) > _LONGEST or first.text[-1] in ".!?:;…|":
        return False
    before, after = first.text[-_WINDOW:], second.text[:_WINDOW]
    if breaks == 1 and (before[-1] in ",-–" or before.split()[-1].lower() in unfinished):
        return True
    if max(len(first.text.split()), len(second.text.split())) < 3:
        return False
    seam = normalize(f"{before} {after}")
    found = [*_groups()["merit"].find(seam), *_features()["generic"].find(seam), *_features()["neutrality"].find(seam)]
    return any(match.start() < len(before) < match.end() - 1 for match in found)


@lru_cache(maxsize=1024)
def features(sentence: str) -> frozenset[str]:
    """The word features of the rules that `sentence` shows, such as `generic`, `offset` or `future`."""
    return frozenset(name for name in _features() if find_feature(name, sentence))


def find_feature(name: str, sentence: str) -> list[tuple[int, int]]:
    """Where the words of feature `name` stand in `sentence`; praise that is denied or talked about does not count."""
    text = normalize(sentence)
    spans = _in_its_sense(text, [m.span() for m in _features()[name].find(text)])
    if name in load("claims_lexicon")["detection"]["negatable"]:
        return [span for span in spans[:_MOST] if is_asserted(text, span)]
    return spans


def is_asserted(text: str, span: tuple[int, int]) -> bool:
    """Whether the term at `span` of the normalized `text` is said of something, not denied or only talked about."""
    turn, hint, before, after = _mentions()
    start, end = span
    reach = max(0, start - _REACH)
    clause = max((m.end() for m in turn.finditer(text, reach, start)), default=reach)
    verb = _VERB.match(text, start, end)
    start = verb.end() if verb else start
    # "No mug is greener" praises.
    praises = text[start:end].lower().split()[0].endswith("er")
    if after.match(text, end):
        return False
    # The hint is quick to look for, the rest is not.
    return praises or not hint.search(text, clause, start) or not before.search(text, clause, start)


def _in_its_sense(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of `spans` whose words are not meant in another sense, as those of a green button."""
    others = other_senses(text)
    return [span for span in spans if not _overlaps(span, others)] if others else spans


def _overlaps(span: tuple[int, int], others: Sequence[tuple[int, int]]) -> bool:
    place = bisect_left(others, (span[1], 0))
    return place > 0 and others[place - 1][1] > span[0]


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
def _mentions() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """What begins a clause anew, a hint of the words before a term that deny it, those words, and those after it."""
    rules = load("claims_lexicon")["detection"]["mention"]
    before = "|".join(rules["before"]).replace("TERMS", _LISTED)
    return (
        re.compile(rules["turn"], re.IGNORECASE),
        re.compile(rules["hint"], re.IGNORECASE),
        re.compile(f"(?:{before})$", re.IGNORECASE),
        re.compile("|".join(rules["after"]), re.IGNORECASE),
    )


@cache
def _answers() -> re.Pattern[str]:
    return re.compile(rf"(?:{'|'.join(load('claims_parsing')['answers'])})\b", re.IGNORECASE)


@cache
def _groups() -> dict[str, Terms]:
    return {
        name: Terms(group["terms"], group.get("except", ()))
        for name, group in load("claims_lexicon")["detection"]["groups"].items()
    }


@cache
def _features() -> dict[str, Terms]:
    return {
        name: Terms(feature["terms"], feature.get("except", ()))
        for name, feature in load("claims_lexicon")["features"].items()
    }
