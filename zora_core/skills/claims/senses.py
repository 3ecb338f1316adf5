"""Senses of environmental words, decided by the noun that governs them, and sentences about somebody else.

A green button has a colour, and a green bank claims a merit. The classes of nouns are those of
`data/claims_senses.toml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

from zora_core.data import load
from zora_core.skills.text.lexicon import Terms, pattern_of

# How far from a word its noun, its subject and the expressions beside it are looked for, in characters.
_REACH = 120
_DETERMINER = r"(?:the|an?|this|that|these|those|his|her|its|our|your|my|their|every|each|all|some|any|no|same|of)"
# A word that ends a noun phrase.
_STOP = (
    r"(?:the|an?|this|that|these|those|his|her|its|our|your|my|their|and|or|but|nor|so|if|when|while|because|as|than"
    r"|of|in|on|at|by|for|from|with|without|to|into|onto|over|under|after|before|since|until|about|per|between|against"
    r"|through|during|within|is|are|was|were|be|been|being|has|have|had|do|does|did|not|will|would|can|could|may|might"
    r"|must|shall|should|which|who|whose|where|it|they|we|you|he|she|i)"
)
_WORD = r"[^\W_]+(?:'[^\W_]+)?"
_OBJECT = re.compile(rf"(?:[\s\"'-]+{_DETERMINER}\b){{0,3}}(?P<words>(?:[\s\"'-]+(?!{_STOP}\b){_WORD}){{1,5}})", re.I)
_COMPLEMENT = re.compile(rf"\s+(?:of|in|for)\s+(?P<words>(?:{_WORD}\s*){{1,4}})", re.I)
_COPULA = re.compile(
    r"\b(?:is|are|was|were|be|been|being|isn't|aren't|wasn't|turn(?:s|ed)?|stay(?:s|ed)?|remain(?:s|ed)?|becomes?|became"
    r"|looks?|appears?|seems?|gets?|got|goes|went|lights?\s+up|grew|grows?|rose|rises?)"
    rf"(?:\s+(?:not|very|quite|still|now|so|too|yet|always|again|only|just|more|also|most|never|all|{_WORD}ly))*\s+$",
    re.I,
)
_CLAUSE = re.compile(
    r"[,;:.!?()]|\s-\s"
    r"|\b(?:and|but|or|because|while|if|when|whether|although|though|that|so|as|once|until|where)\b",
    re.I,
)
# What follows the head of a subject: "the pace | of these releases".
_AFTER_HEAD = re.compile(
    r"\s(?:of|in|on|at|for|from|with|to|per|which|who|we|you|they|between|behind|during|over|under|by|can|could|will"
    r"|would|should|may|might|must|has|have|had|cannot)\s.*$",
    re.I | re.S,
)
# What may stand before the subject: "In 2023, ".
_LEADING = re.compile(
    r"[\"'(\s]*(?:(?:in|since|under|by|on|at|during|after|before|however|today|meanwhile|according\s+to)\b"
    r"[^,;:.]{0,60},\s+)?",
    re.I,
)
# A word of lower case in "s" or "ed" before a noun is rather a verb: "Harrow helps regulators".
_MODIFIERS = rf"(?:(?!(?:{_STOP}|unlike|like|thanks|our|we)\b)(?!(?-i:[a-z]+(?:s|ed|ing)\b)){_WORD}[\s-]+){{0,4}}"

# What can follow a subject in the singular.
_PREDICATE = (
    rf"\s*(?:$|[,;:.!?()])|\s+(?:{_STOP}|also|now|only|{_WORD}ly"
    r"|found|set|said|wrote|led|made|began|gave|took|won|kept|cut|put|met|held|grew|fell|rose|built|chose)\b"
    rf"|\s+{_WORD}(?:(?<=s)|(?<=ed))(?!{_WORD})(?!\s+(?:is|are|was|were|can|have|has|will|come|use)\b)"
)


@dataclass(frozen=True)
class _Sense:
    words: Terms
    nouns: frozenset[str]
    subjects: frozenset[str]
    before: re.Pattern[str] | None
    after: re.Pattern[str] | None


@lru_cache(maxsize=1024)
def other_senses(text: str) -> tuple[tuple[int, int], ...]:
    """Where words stand in the normalized `text` that have another sense than that of the environment."""
    return tuple(sorted(_other_senses(text)))


@lru_cache(maxsize=1024)
def is_about_others(text: str) -> bool:
    """Whether the subject of the sentence `text` is a treaty, a state, a law, a science or another company."""
    subject, speaker, making = _others()
    lead = _LEADING.match(text)
    start = lead.end() if lead else 0
    found = subject.match(text, start)
    if not found or speaker(text[:start]) or speaker(text[found.end() :]):
        return False
    return not making.match(text, found.end())


def _other_senses(text: str) -> Iterator[tuple[int, int]]:
    for sense in _senses():
        for match in sense.words.find(text):
            start, end = match.span()
            if (
                (sense.after and sense.after.match(text, end))
                or (sense.before and sense.before.search(text, max(0, start - _REACH), start))
                or _governs(sense.nouns, text, end)
                or _is_subject(sense.subjects, text, start)
            ):
                yield start, end


def _governs(nouns: frozenset[str], text: str, end: int) -> bool:
    """Whether the noun phrase after a word that ends at `end` has one of `nouns` as its noun."""
    phrase = _OBJECT.match(text, end, end + _REACH)
    if not phrase:
        return False
    for word in re.finditer(_WORD, phrase["words"]):
        if _is_one_of(word[0], _context()):
            return False
        if _is_one_of(word[0], nouns):
            return not _is_of_nature(text, phrase.start("words") + word.end())
        # A noun in the plural modifies no other: "sustainable shoes support growth".
        if re.search(r"[^suiSUI][sS]$", word[0]):
            return False
    return False


def _is_subject(nouns: frozenset[str], text: str, start: int) -> bool:
    """Whether a word at `start` is said of one of `nouns`: "the pace of these releases is sustainable"."""
    begin = max(0, start - _REACH)
    verb = _COPULA.search(text, begin, start)
    if not verb:
        return False
    begin = max((m.end() for m in _CLAUSE.finditer(text, begin, verb.start())), default=begin)
    subject = text[begin : verb.start()].strip()
    head = re.findall(_WORD, _AFTER_HEAD.sub("", f"{subject} "))
    if not head or not _is_one_of(head[-1], nouns):
        return False
    return not any(_is_one_of(word, _context()) for word in re.findall(_WORD, subject))


def _is_of_nature(text: str, end: int) -> bool:
    complement = _COMPLEMENT.match(text, end, end + _REACH)
    return complement is not None and any(_is_one_of(w, _context()) for w in re.findall(_WORD, complement["words"]))


def _is_one_of(word: str, nouns: frozenset[str]) -> bool:
    word = word.lower().removesuffix("'s")
    return word in nouns or word.removesuffix("s") in nouns or word.removesuffix("es") in nouns


@cache
def _context() -> frozenset[str]:
    return frozenset(word for words in load("claims_senses")["context"].values() for word in words.split())


@cache
def _senses() -> tuple[_Sense, ...]:
    data = load("claims_senses")
    classes = {name: frozenset(words.split()) for name, words in data["nouns"].items()}
    return tuple(
        _Sense(
            words=Terms(row["words"]),
            nouns=frozenset().union(*(classes[name] for name in row.get("nouns", ()))),
            subjects=frozenset().union(*(classes[name] for key in ("nouns", "subjects") for name in row.get(key, ()))),
            before=re.compile(rf"{pattern_of(row['before'])}[\s-]*$", re.I) if "before" in row else None,
            after=re.compile(rf"[\s-]+{pattern_of(row['after'])}", re.I) if "after" in row else None,
        )
        for row in data["sense"]
    )


@cache
def _others() -> tuple[re.Pattern[str], Terms, re.Pattern[str]]:
    rules = load("claims_senses")["others"]
    named, common, plural, nature, countries, making = (
        pattern_of(rules[name]) for name in ("heads", "common", "plural", "nature", "countries", "making")
    )
    article = r"(?:(?:the\s+\w+\s+of\s+)?(?:the|an?|another|some|many|most|several)\s+|our\s+(?=competitor|rival))?"
    # Neither a possessive nor a word within a longer name is the subject ("Germany's greenest bank"), and after one in
    # the singular a verb follows: "The standard requires", unlike "The standard bottle".
    heads = rf"{article}{_MODIFIERS}(?:{named}|(?-i:{common}))"
    subject = (
        rf"(?:{nature}|(?:{heads}|{common}|{plural}|{countries})(?:(?<=s)|(?<=\bhe)|(?<=people)|(?={_PREDICATE})))"
        r"(?!['\w-])(?!\s+(?-i:[A-Z]))"
    )
    return (
        re.compile(subject, re.I),
        Terms(rules["speaker"]),
        re.compile(rf"\s+(?:(?:has|have|had|also|just|recently)\s+){{0,2}}{making}", re.I),
    )
