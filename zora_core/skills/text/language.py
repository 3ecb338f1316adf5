"""The language of a text, told from its letters and function words, and the environmental terms of other languages."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

from zora_core.data import load

ENGLISH = "en"
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


@dataclass(frozen=True)
class _Profiles:
    """What the languages of `data/languages.toml` are told by: each word and letter with its share per language."""

    words: dict[str, tuple[str, ...]]
    letters: dict[str, tuple[str, ...]]


@lru_cache(maxsize=20_000)
def language(text: str) -> str | None:
    """The language of `text`: a code of `data/languages.toml`, a script such as `CYRILLIC`, or None if it is not told.

    None does not mean English: a text of a few words, or in a language without a profile, has too little to go by.
    """
    letters = [c for c in text if c.isalpha()]
    script = _script(letters)
    if script is not None:
        return script
    return best(scores(text))


def scores(text: str) -> dict[str, float]:
    """What speaks for each language; an unwritten language has no entry."""
    profiles = _profiles()
    found: defaultdict[str, float] = defaultdict(float)
    folded = unicodedata.normalize("NFC", text).casefold().replace("’", "'")
    for word in _WORD.findall(folded):
        _share(found, profiles.words.get(word, ()))
        # A letter speaks once for each word that has it, since one foreign name can have several.
        for letter in set(word) & profiles.letters.keys():
            _share(found, profiles.letters[letter])
    for mark in "¿¡":
        if mark in text:
            found["es"] += 1
    for code in claim_languages():
        found[code] += 1.5 * len(claim_terms(text, code))
    return {code: score for code, score in found.items() if score}


def best(found: dict[str, float]) -> str | None:
    """The language that leads clearly in `found`."""
    rules = load("languages")
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    if not ranked or ranked[0][1] < rules["least"]:
        return None
    if len(ranked) > 1 and ranked[0][1] < rules["lead"] * ranked[1][1]:
        return None
    return ranked[0][0]


def name_of(code: str | None) -> str:
    """What a reader is told of a language or script, such as "German"."""
    if code is None:
        return "an unknown language"
    languages = load("languages")
    if code in languages["scripts"]:
        return str(languages["scripts"][code])
    return str(languages["languages"][code]["name"])


def claim_terms(text: str, code: str | None) -> list[str]:
    """The environmental terms in `text` of language `code`, or of any language for None, as they are written there."""
    plain = text.replace("’", "'")
    patterns = _claims().values() if code is None else [_claims()[code]] if code in _claims() else []
    return list(dict.fromkeys(match[0] for pattern in patterns for match in pattern.finditer(plain)))


def claim_languages() -> Iterable[str]:
    """The languages whose environmental terms are known."""
    return _claims().keys()


def _share(found: defaultdict[str, float], codes: tuple[str, ...]) -> None:
    for code in codes:
        found[code] += 1 / len(codes)


def _script(letters: list[str]) -> str | None:
    """The script of most of the letters, unless that is Latin."""
    if not letters:
        return None
    counts = Counter(_script_of(letter) for letter in letters)
    script, count = counts.most_common(1)[0]
    if script == "LATIN" or count < len(letters) / 2:
        return None
    # Japanese mixes Chinese characters with its own.
    if script == "CJK" and (counts["HIRAGANA"] or counts["KATAKANA"]):
        return "HIRAGANA"
    return script if script in load("languages")["scripts"] else None


@lru_cache(maxsize=4096)
def _script_of(letter: str) -> str:
    return unicodedata.name(letter, "").split(" ", 1)[0]


@cache
def _profiles() -> _Profiles:
    words: defaultdict[str, list[str]] = defaultdict(list)
    letters: defaultdict[str, list[str]] = defaultdict(list)
    for code, profile in load("languages")["languages"].items():
        for word in sorted(set(profile["words"].casefold().split())):
            # Other single letters are names, units and variables in every language.
            if len(word) > 1 or word in "yèé":
                words[word].append(code)
        for letter in sorted(set(profile.get("letters", ""))):
            letters[letter].append(code)
    return _Profiles(
        words={word: tuple(codes) for word, codes in words.items()},
        letters={letter: tuple(codes) for letter, codes in letters.items()},
    )


@cache
def _claims() -> dict[str, re.Pattern[str]]:
    return {
        code: re.compile(rf"(?<!\w)(?:{'|'.join(map(_beginning, terms))})(?!\w)", re.IGNORECASE)
        for code, terms in load("languages")["claims"].items()
    }


def _beginning(term: str) -> str:
    return re.escape(term.removesuffix("$")) + ("" if term.endswith("$") else r"\w*")
