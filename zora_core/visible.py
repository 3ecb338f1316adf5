"""Text from elsewhere made visible: what a terminal obeys and what hides or reorders text is shown escaped.

Escapes look as in Python (`\\x1b`, `\\u202e`). Words with letters that pass for others are found, to be marked.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

# Invisible though they count as letters or marks: joiners and fillers, and the selectors that make no emoji.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE0E))))
_WORD = re.compile(r"\w+")
_ALIKE = frozenset(("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "FULLWIDTH", "MATHEMATICAL"))
_ENDS_VALUE = re.compile(r'["{}\[\]<>|]')
_AROUND = 5  # words on each side that tell in which script a passage is written


def has_hidden(text: str) -> bool:
    """Whether `visible` would change the text."""
    return not all(map(_is_plain, set(text)))


def visible(text: str) -> str:
    """The text with control, bidirectional and invisible characters escaped; line ends, tabs and spaces stay."""
    return text.translate({ord(char): _escaped(char) for char in set(text) if not _is_plain(char)})


def visible_json(text: str) -> str:
    """JSON whose strings hold the same, with such characters as JSON's own escapes."""
    return text.translate({ord(char): _json_escaped(char) for char in set(text) if not _is_plain(char)})


def odd_words(text: str) -> list[tuple[int, int, str]]:
    """Words with letters that pass for others, as start, end and what their letters are.

    These are words that mix look-alike scripts (`pаypal` with a Cyrillic а), and words in which every letter is one of
    another alphabet that looks like a Latin one (`раура` in Cyrillic). The latter are left alone where the words around
    them are of their own script, as in a Russian sentence.
    """
    if text.isascii():
        return []
    words = [(*word.span(), _scripts(word[0])) for word in _WORD.finditer(text)]
    found = []
    for place, (start, end, scripts) in enumerate(words):
        word = text[start:end]
        if len(scripts) > 1:
            found.append((start, end, f"letters of several scripts: {', '.join(sorted(map(str.capitalize, scripts)))}"))
        elif scripts and (latin := _as_latin(word)) and not _is_at_home(scripts, words, place, text):
            found.append((start, end, f"only {next(iter(scripts)).capitalize()} letters, which look like “{latin}”"))
    return found


def _scripts(word: str) -> set[str]:
    if word.isascii():
        return {"LATIN"} if any(map(str.isalpha, word)) else set()
    return {unicodedata.name(char, "").partition(" ")[0] for char in word if char.isalpha()} & _ALIKE


def _as_latin(word: str) -> str:
    """A word of at least two letters, none of them Latin, as the Latin word that it looks like; empty if it is none."""
    letters = [char for char in word if char.isalpha()]
    alike = len(letters) > 1 and not word.isascii() and all(ord(char) in lookalikes() for char in letters)
    return word.translate(lookalikes()) if alike else ""


def _is_at_home(scripts: set[str], words: Sequence[tuple[int, int, set[str]]], at: int, text: str) -> bool:
    """Whether most words around, within one value of JSON or markup, are of the script and do not pass for Latin."""
    around = []
    for step in (-1, 1):
        last = words[at]
        for other in words[at + step : at + step * (_AROUND + 1) if at + step * (_AROUND + 1) >= 0 else None : step]:
            if _ENDS_VALUE.search(text, min(last[1], other[1]), max(last[0], other[0])):
                break
            around.append(other)
            last = other
    own = sum(other == scripts and not _as_latin(text[start:end]) for start, end, other in around)
    return own > sum(other == {"LATIN"} for _, _, other in around)


@cache
def lookalikes() -> dict[int, int]:
    """The letters of other alphabets that look like Latin ones, and these, as `str.translate` takes them."""
    from zora_core.data import load  # here, for few texts need it and every command imports this module

    return {ord(other): ord(latin) for latin, others in load("lookalikes").items() for other in others}


def _is_plain(char: str) -> bool:
    if char.isprintable():
        return char not in _BLANK
    return char in "\n\t" or unicodedata.category(char) == "Zs"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _json_escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
