"""Sentences with their offsets, and what one of them states in figures, years and units."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

from zora_core.data import load
from zora_core.skills.text.lexicon import normalize
from zora_core.skills.text.words import Sentence, sentences

# A line ends a sentence, as headings and list items do, unless the next one goes on in lower case (wrapped text).
_LINES = re.compile(r"[^\r\n]+(?:\r?\n[ \t]*(?=[^\W\dA-Z])[^\r\n]+)*")
_YEAR = re.compile(r"(?<![\w.,/])(?:FY ?)?((?:19[5-9]|20[0-9])\d|2100)(?:/(?:\d\d|(?:19|20)\d\d))?(?![\w%]|/\d)")
# How far before a year its words of comparison or of aim are looked for.
_REACH = 90
_ARTICLE = r"\(?(?:the |a |our |its |their )?"
_YEAR_WORDS = r"(?:levels? (?:of|in) |baseline (?:of |year |in )?|(?:fiscal |financial |base )?year |end of )?"
# "against 2019", "since the year 2019", "compared with 412 tonnes in 2019", "base year: 2019"
_BASELINE_BEFORE = re.compile(
    rf"(?:\b(?:compar(?:ed|ison|ing) (?:to|with)|versus|vs\.?|relative to|against|since|below|than(?: in)?|over|on"
    rf"|base(?:line)?(?: year)?(?: is| was|:|,| of)?) {_ARTICLE}{_YEAR_WORDS}"
    rf"|\b(?:from|compared (?:to|with)|versus|vs\.?|relative to|against|below|than) {_ARTICLE}\d[\d.,]*"
    rf"(?: ?[\w%²³]+){{0,5}} (?:in|of|for) {_ARTICLE}{_YEAR_WORDS})$",
    re.IGNORECASE,
)
_BASELINE_AFTER = re.compile(
    r"\)?[ -]\(?(?:emissions? )?(?:levels?|base(?:line)?(?: year)?)\b|,? \(?(?:our|the|as) (?:baseline|base year)\b",
    re.IGNORECASE,
)
_FROM_BEFORE = re.compile(rf"\bfrom {_ARTICLE}{_YEAR_WORDS}$", re.IGNORECASE)
_BETWEEN_BEFORE = re.compile(rf"\bbetween {_ARTICLE}{_YEAR_WORDS}$", re.IGNORECASE)
_ONWARDS = re.compile(r" (?:on|onwards?|forward)\b|,", re.IGNORECASE)
_RANGE = re.compile(rf"\)? ?(?:-|and|to|until|till|through)(?: by)? ?{_ARTICLE}{_YEAR_WORDS}$", re.IGNORECASE)
_TARGET_BEFORE = re.compile(
    r"\b(?:by|until|before|no later than) (?:the )?(?:end of (?:the )?|(?:fiscal |financial )?year )?$", re.IGNORECASE
)
_MAYBE_TARGET_BEFORE = re.compile(rf"\b(?:from|in|for|and|to) {_ARTICLE}{_YEAR_WORDS}$", re.IGNORECASE)
_SCOPES = re.compile(
    r"\bscopes?[ -]([123])(?:(?: ?(?:,|and|&|\+|-|to) ?(?:scope )?)([123]))?"
    r"(?:(?: ?(?:,|and|&|\+) ?(?:and )?(?:scope )?)([123]))?(?![\d%.])",
    re.I,
)
_FROM = re.compile(r"\bfrom (?:about |around |some |over |nearly |roughly )?$", re.IGNORECASE)
_TO = re.compile(r"\bto (?:about |around |some |just |under |nearly |roughly |below )*$", re.IGNORECASE)
# "per kilogram of product", "per passenger kilometre"; spans of time and "per cent" are no units of output.
_PER = re.compile(
    r"\bper (?!cents?\b|annum\b|(?:year|month|week|day|hour|decade)s?\b)((?:[a-z]+[ -](?=k(?:m|ilomet)))?[a-z][\w²³]*"
    r"(?: of [a-z]\w*)?)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Quantity:
    """A number with its unit: `value` is in the base unit of `dimension` (percent, kg, kWh, l, m2, km, kW, items).

    A bare number has the dimension `number`. `text` stands at `start` of the sentence.
    """

    value: float
    dimension: str
    text: str
    start: int


@dataclass(frozen=True)
class Facts:
    """What a sentence states.

    Quantities; years, among them the one compared with (`baseline_year`) and the one aimed at (`target_year`); metrics;
    GHG scopes; direction; `change`, the two amounts of "from 412 t to 350 t"; `per`, what an intensity is counted by
    ("kilogram of product"); `future`, whether it speaks of what is to come.
    """

    quantities: tuple[Quantity, ...] = ()
    years: tuple[int, ...] = ()
    baseline_year: int | None = None
    target_year: int | None = None
    metrics: frozenset[str] = frozenset()
    scopes: tuple[int, ...] = ()
    direction: Literal["down", "up"] | None = None
    negated: bool = False
    change: tuple[Quantity, Quantity] | None = None
    per: str | None = None
    future: bool = False


def split_sentences(text: str) -> list[Sentence]:
    """Split at sentence ends and line breaks; `text[s.start : s.start + len(s.text)] == s.text` holds for each."""
    return [
        Sentence(sentence.text, line.start() + sentence.start)
        for line in _LINES.finditer(text)
        for sentence in sentences(line[0])
        if any(c.isalnum() for c in sentence.text)
    ]


def parse_facts(sentence: str) -> Facts:
    """Read figures, units, years, scopes, direction and negation of one sentence."""
    text = normalize(sentence)
    years = list(_YEAR.finditer(text))
    quantities = _quantities(text, [m.span() for m in years])
    intends = bool(_words("future").search(text))
    baseline = next((i for i in range(len(years)) if _is_baseline(text, years, i, quantities)), None)
    target = next((i for i in range(len(years)) if i != baseline and _is_target(text, years[i], intends)), None)
    change = _change(text, quantities)
    down, up = (bool(_words("direction", way).search(text)) for way in ("down", "up"))
    if change and down == up:
        down, up = change[1].value < change[0].value, change[1].value > change[0].value
    scopes = {int(digit) for m in _SCOPES.finditer(text) for digit in m.groups() if digit}
    per = _PER.search(text)
    return Facts(
        quantities=quantities,
        years=tuple(int(m[1]) for m in years),
        baseline_year=int(years[baseline][1]) if baseline is not None else None,
        target_year=int(years[target][1]) if target is not None else None,
        metrics=frozenset(name for name in load("claims_parsing")["metrics"] if _words("metrics", name).search(text)),
        scopes=tuple(sorted(scopes)),
        direction="down" if down and not up else "up" if up and not down else None,
        negated=bool(_words("negation").search(text)),
        change=change,
        per=per[1].lower() if per else None,
        future=intends or target is not None,
    )


def inside(start: int, end: int, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether one of `spans`, which are in order and do not overlap, covers `start` to `end`."""
    place = bisect_right(spans, start, key=lambda span: span[0]) - 1
    return place >= 0 and end <= spans[place][1]


def base_unit(dimension: str) -> str:
    """The unit in which values of `dimension` are given; empty for bare numbers."""
    return str(load("claims_parsing")["units"].get(dimension, {}).get("base", ""))


def _is_baseline(text: str, years: list[re.Match[str]], index: int, quantities: tuple[Quantity, ...]) -> bool:
    year = years[index]
    before = text[max(0, year.start() - _REACH) : year.start()]
    if _BASELINE_BEFORE.search(before) or _BASELINE_AFTER.match(text, year.end()):
        return True
    ranged = index + 1 < len(years) and _RANGE.fullmatch(text[year.end() : years[index + 1].start()]) is not None
    if _BETWEEN_BEFORE.search(before):
        return ranged
    if _FROM_BEFORE.search(before):
        # "by 40% from 2019" compares, "from 2030 onwards" and "From 2030 we" begin.
        given = any(q.start < year.start() for q in quantities)
        return ranged or (given and not _ONWARDS.match(text, year.end()))
    return False


def _is_target(text: str, year: re.Match[str], intends: bool) -> bool:
    before = text[max(0, year.start() - _REACH) : year.start()]
    if intends:
        return bool(_TARGET_BEFORE.search(before) or _MAYBE_TARGET_BEFORE.search(before))
    return bool(_TARGET_BEFORE.search(before)) and not _words("past").search(text)


def _quantities(text: str, years: list[tuple[int, int]]) -> tuple[Quantity, ...]:
    rules = load("claims_parsing")
    others = [m.span() for m in re.finditer(rules["not_quantities"], text, re.IGNORECASE)]
    found = []
    for match in _number_pattern().finditer(text):
        if any(inside(match.start(), match.start() + 1, spans) for spans in (years, others)):
            continue
        dimension, factor = _units().get(match["unit"].lower() if match["unit"] else "", ("number", 1.0))
        value = _to_float(match["number"]) * rules["scales"].get((match["scale"] or "").lower(), 1.0) * factor
        found.append(Quantity(value, dimension, match[0], match.start()))
    found += [
        Quantity(float(rules["number_words"][m[0].lower().replace("-", " ")]), "share", m[0], m.start())
        for m in _number_words().finditer(text)
        if not inside(m.start(), m.end(), others)
    ]
    return tuple(sorted(found, key=lambda q: q.start))


def _change(text: str, quantities: tuple[Quantity, ...]) -> tuple[Quantity, Quantity] | None:
    """The first two neighbouring amounts of one dimension that stand as "from … to …"."""
    for old, new in pairwise(q for q in quantities if q.dimension not in ("number", "share")):
        between = text[old.start + len(old.text) : new.start]
        if (
            old.dimension == new.dimension
            and len(between) <= _REACH
            and _FROM.search(text[max(0, old.start - 20) : old.start])
            and _TO.search(between)
        ):
            return old, new
    return None


def _to_float(number: str) -> float:
    """`1,200` and `1 200` are thousands, `3,5` and `3.5` are decimals."""
    if re.search(r"[, ]\d{3}(?:\D|$)", number):
        return float(re.sub(r"[, ]", "", number))
    return float(number.replace(",", "."))


@cache
def _number_pattern() -> re.Pattern[str]:
    scales = "|".join(sorted(load("claims_parsing")["scales"], key=len, reverse=True))
    units = "|".join(re.escape(unit) for unit in sorted(_units(), key=len, reverse=True))
    return re.compile(
        rf"(?<![\w.,])(?P<number>\d{{1,3}}(?:[, ]\d{{3}})+(?:\.\d+)?|\d{{1,15}}(?:[.,]\d{{1,6}})?)"
        rf"(?: ?(?P<scale>{scales})(?!\w))?(?:[ -]?(?P<unit>{units})(?!\w))?(?!\w)",
        re.IGNORECASE,
    )


@cache
def _number_words() -> re.Pattern[str]:
    words = "|".join(load("claims_parsing")["number_words"]).replace(" ", "[ -]")
    return re.compile(rf"\b(?:{words})\b", re.IGNORECASE)


@cache
def _units() -> dict[str, tuple[str, float]]:
    """Unit → (dimension, factor to the dimension's base unit)."""
    units = load("claims_parsing")["units"]
    return {
        unit: (dimension, float(factor))
        for dimension, table in units.items()
        for unit, factor in table.items()
        if unit != "base"
    }


@cache
def _words(*path: str) -> re.Pattern[str]:
    words = load("claims_parsing")
    for key in path:
        words = words[key]
    return re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)
