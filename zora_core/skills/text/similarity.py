"""How alike two texts are, what must agree before they may be called the same, and which pairs are worth comparing."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz import fuzz
from rapidfuzz.distance import OSA

from zora_core.skills.text.words import stem, vocabulary, words

_TOKEN = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
_NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>[-−])?(?:(?P<currency>[€$£])\s{0,3})?(?P<value>\d+(?:[.,]\d+)*)\s{0,3}(?P<unit>[%€$£]|°c|[^\W\d_]+\d?e?)?",
    re.IGNORECASE,
)
_COMPOUND = re.compile(r"https?://\S+|\w+(?:[.-]\w+)*")
_QUANTITY = re.compile(r"[\d.,]+([^\W\d_]+)")

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Statement:
    """What a text commits itself to: two texts that differ in any of these fields do not say the same.

    `numbers` are (value, unit) pairs, `dates` calendar words, `polarity` negations and words of direction or degree,
    `names` capitalised words and identifiers; all as sorted tuples with repetitions.
    """

    numbers: Facts
    dates: tuple[str, ...]
    polarity: tuple[str, ...]
    names: tuple[str, ...]


@lru_cache(maxsize=20_000)
def statement(text: str) -> Statement:
    """Read the numbers, dates, polarity and names out of `text`."""
    lists = vocabulary()
    tokens = [word.replace("'", "") for word in words(text)]
    negations = ["not" for word in tokens if word in lists["negation"]]
    polar = [stem(word) for word in tokens if word in lists["polarity"]]
    return Statement(
        numbers=tuple(sorted(_numbers(text))),
        dates=tuple(sorted(word for word in tokens if word in lists["calendar"])),
        polarity=tuple(sorted(negations + polar)),
        names=tuple(sorted(_names(text))),
    )


def differing_facts(first: str, second: str) -> list[str]:
    """Why two texts must not be merged: any of "number", "date", "negation", "name", "wording"; empty when they may be.

    "wording" means that each text has a content word of its own that is not a misspelling of one in the other.
    """
    a, b = statement(first), statement(second)
    found = []
    if a.numbers != b.numbers:
        found.append("number")
    if a.dates != b.dates:
        found.append("date")
    if a.polarity != b.polarity or _prefix_negation(first, second):
        found.append("negation")
    only_first, only_second = _unmatched(words(first), words(second))
    swapped = _capitalised(only_first, first) and _capitalised(only_second, second)
    if swapped or _missing(a.names, b.names, second) or _missing(b.names, a.names, first):
        found.append("name")
    stop = vocabulary()["stop"]
    if [w for w in only_first if w not in stop] and [w for w in only_second if w not in stop]:
        found.append("wording")
    return found


def normal_form(text: str) -> str:
    """`text` without case, punctuation and spacing: equal for exact duplicates."""
    return " ".join(words(text))


def similarity(first: str, second: str) -> float:
    """Likeness of two texts, 0 to 1: soft overlap of words (misspellings match) and of character sequences.

    The weights were chosen once on general English sentence pairs. 1.0 means the same words in the same order; a text
    whose words are only swapped reaches 0.99 at most.
    """
    a, b = normal_form(first), normal_form(second)
    if a == b:
        return 1.0
    if not a or not b:
        return 0.0
    return min(0.99, 0.75 * _soft_overlap(_bag(a), _bag(b)) + 0.25 * fuzz.token_sort_ratio(a, b) / 100)


def candidate_pairs(bags: Sequence[Iterable[str]], threshold: float = 0.6) -> Iterator[tuple[int, int]]:
    """Index pairs (i < j) of bags whose sets may reach a Jaccard similarity of `threshold`, without comparing all.

    Prefix and length filtering over tokens ordered rarest first (Bayardo, Ma, Srikant 2007, "Scaling up all pairs
    similarity search"): exact, and deterministic where MinHash is not complete.
    """
    sets = [set(bag) for bag in bags]
    frequency = Counter(token for tokens in sets for token in tokens)
    postings: defaultdict[str, list[int]] = defaultdict(list)
    for index in sorted(range(len(sets)), key=lambda i: (len(sets[i]), i)):
        tokens = sorted(sets[index], key=lambda token: (frequency[token], token))
        if not tokens:
            continue
        prefix = len(tokens) - math.ceil(threshold * len(tokens)) + 1
        seen: set[int] = set()
        for token in tokens[:prefix]:
            for other in postings[token]:
                if other not in seen and len(sets[other]) >= threshold * len(tokens):
                    seen.add(other)
            postings[token].append(index)
        for other in sorted(seen):
            shared = len(sets[index] & sets[other])
            if shared >= threshold * (len(sets[index]) + len(sets[other]) - shared):
                yield min(index, other), max(index, other)


def _missing(names: tuple[str, ...], others: tuple[str, ...], text: str) -> bool:
    """Whether a name is not among the `others`, those of `text`, nor stands in it without capitals."""
    left = set(names) - set(others)
    return bool(left and left - {stem(word) for word in words(text)})


def _bag(normal: str) -> tuple[str, ...]:
    stop = vocabulary()["stop"]
    tokens = normal.split()
    return tuple(word for word in tokens if word not in stop) or tuple(tokens)


def _soft_overlap(first: tuple[str, ...], second: tuple[str, ...]) -> float:
    """Dice coefficient of two bags of words in which a misspelling counts 0.9 and longer words count more."""
    unmatched = list(second)
    by_stem: defaultdict[str, list[str]] = defaultdict(list)
    for word in second:
        by_stem[stem(word)].append(word)
    shared = 0.0
    rest = []
    for word in first:
        if same := by_stem[stem(word)]:
            unmatched.remove(same.pop())
            shared += _weight(word)
        else:
            rest.append(word)
    for word in rest:
        match = next((other for other in unmatched if is_misspelling(word, other)), None)
        if match is not None:
            unmatched.remove(match)
            shared += 0.9 * min(_weight(word), _weight(match))
    total = sum(map(_weight, first)) + sum(map(_weight, second))
    return min(1.0, 2 * shared / total) if total else 0.0


def _weight(word: str) -> float:
    return 1.0 + 0.1 * min(len(stem(word)), 10)


def is_misspelling(first: str, second: str) -> bool:
    """Whether two words of five or more letters differ by one slip of the keyboard, not in the first letter.

    A replaced letter counts only in words of seven or more letters, since it turns many shorter words into others.
    """
    if first == second:
        return True
    if min(len(first), len(second)) < 5 or first[0] != second[0] or not (first.isalpha() and second.isalpha()):
        return False
    if OSA.distance(first, second, score_cutoff=1) > 1:
        return False
    return len(first) != len(second) or sorted(first) == sorted(second) or len(first) >= 7


def _unmatched(first: list[str], second: list[str]) -> tuple[list[str], list[str]]:
    """The words of each text that the other lacks, leaving out inflections and misspellings."""
    left = {stem(word): word for word in first}
    right = {stem(word): word for word in second}
    only_left = [left[key] for key in left.keys() - right.keys()]
    only_right = [right[key] for key in right.keys() - left.keys()]
    matched_left = {w for w in only_left if any(is_misspelling(w, other) for other in only_right)}
    matched_right = {w for w in only_right if any(is_misspelling(w, other) for other in only_left)}
    return sorted(set(only_left) - matched_left), sorted(set(only_right) - matched_right)


def _capitalised(some: list[str], text: str) -> bool:
    wanted = set(some)
    return any(token[0].isupper() and token.casefold() in wanted for token in _TOKEN.findall(text))


def _numbers(text: str) -> Iterator[tuple[str, str]]:
    lists = vocabulary()
    aliases = lists["unit_aliases"]
    for match in _NUMBER.finditer(text):
        value = _number_value(match["value"])
        unit = (match["currency"] or match["unit"] or "").casefold()
        unit = unit if unit in lists["units"] else ""
        sign = "-" if match["sign"] else ""
        yield sign + value, aliases.get(unit, unit)
    for word in words(text):
        if word in lists["number_words"]:
            yield f"{lists['number_words'][word]:g}", ""


def _number_value(digits: str) -> str:
    """Digits in one form: "1,000" is 1000, "1.50" and "1,5" are decimals; versions such as "1.2.3" stay as they are."""
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", digits):
        digits = digits.replace(",", "")
    elif digits.count(",") == 1 and "." not in digits:
        digits = digits.replace(",", ".")
    if digits.count(".") > 1 or "," in digits:
        return digits
    return f"{float(digits):.10g}"


def _names(text: str) -> Iterator[str]:
    """Capitalised words inside a sentence, acronyms, and identifiers; a sentence's first word may be anything."""
    stop = vocabulary()["stop"]
    calendar = vocabulary()["calendar"]
    if text.upper() != text:
        for match in _TOKEN.finditer(text):
            token = match.group()
            before = text[max(0, match.start() - 8) : match.start()].rstrip(" \t\"'“‘([")
            inside = bool(before) and before[-1] not in ".!?:\n•-–—"
            shape = token[0].isupper() and (inside or any(c.isupper() for c in token[1:]))
            if shape and token.casefold() not in stop and token.casefold() not in calendar:
                yield stem(token.casefold())
    yield from _identifiers(text)


def _identifiers(text: str) -> list[str]:
    """Words with digits in them (versions, codes, addresses) that are no quantity with its unit."""
    compounds = (match.group().casefold() for match in _COMPOUND.finditer(text))
    found = [w for w in compounds if "://" in w or (any(map(str.isdigit, w)) and any(map(str.isalpha, w)))]
    quantities = (_QUANTITY.fullmatch(word) for word in found)
    units = vocabulary()["units"]
    return [word for word, match in zip(found, quantities, strict=True) if not match or match[1] not in units]


def _prefix_negation(first: str, second: str) -> bool:
    """Whether one text has a word of which the other has the negated form: "available" and "unavailable"."""
    a, b = set(words(first)), set(words(second))
    return any(
        prefix + word in other
        for only, other in ((a - b, b - a), (b - a, a - b))
        for word in only
        for prefix in vocabulary()["negative_prefixes"]
    )
