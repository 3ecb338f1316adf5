"""Words, stems and sentences of English text, shared by the skills that compare and rank it."""

from __future__ import annotations

import re
import threading
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import snowballstemmer

from zora_core.data import load

_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*|[€$£%]")
_SENTENCE_END = re.compile(
    r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9À-Þ])|\n\s*\n|\n(?=\s*(?:[-*•]|\d+[.)])\s)|;\s*\n"
)
_ABBREVIATION = re.compile(
    r"\b(?:e\.g|i\.e|etc|approx|ca|vs|no|fig|dr|mr|mrs|ms|st|inc|ltd|[A-Z])\.[\"')]*$", re.IGNORECASE
)
# The longest abbreviation with its full stop and the character before it.
_ABBREVIATION_SPAN = len(" approx.")
_local = threading.local()


@dataclass(frozen=True)
class Sentence:
    """A sentence and the character offset in its text at which it starts."""

    text: str
    start: int


@cache
def vocabulary() -> dict[str, Any]:
    """The word lists of `data/words.toml`; a list written as one string becomes a frozenset of its words."""
    return {key: frozenset(v.split()) if isinstance(v, str) else v for key, v in load("words").items()}


def words(text: str) -> list[str]:
    """The words, numbers and currency or percent signs of `text`, compatibility-normalised and case-folded."""
    return [word.replace("’", "'") for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold())]


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """The Porter2 stem of one case-folded word."""
    if not hasattr(_local, "stemmer"):
        # A stemmer keeps its word in itself, so that threads must not share one.
        _local.stemmer = snowballstemmer.stemmer("english")
    return str(_local.stemmer.stemWord(word))


def stems(text: str) -> list[str]:
    """Stems of the content words and numbers of `text`, in order."""
    stop = vocabulary()["stop"]
    return [stem(word) for word in words(text) if word not in stop and (len(word) > 1 or word.isdigit())]


def sentences(text: str) -> list[Sentence]:
    """Split `text` at sentence ends, blank lines and list items; offsets point into `text` itself."""
    found: list[Sentence] = []
    begin = 0
    for boundary in _SENTENCE_END.finditer(text):
        tail = max(begin, boundary.start() - _ABBREVIATION_SPAN)
        if "\n" not in boundary.group() and _ABBREVIATION.search(text, tail, boundary.start()):
            continue
        _append(found, text, begin, boundary.start() + len(boundary.group().rstrip()))
        begin = boundary.end()
    _append(found, text, begin, len(text))
    return found


def _append(found: list[Sentence], text: str, begin: int, end: int) -> None:
    piece = text[begin:end]
    stripped = piece.strip()
    if stripped:
        found.append(Sentence(stripped, begin + len(piece) - len(piece.lstrip())))


def shorten(text: str, limit: int = 160) -> str:
    """`text` on one line, cut at a word boundary to at most `limit` characters."""
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    return line[: limit - 1].rsplit(" ", 1)[0].rstrip(",;:") + "…"
