"""Word lists from data files, compiled: which of a list's terms stand in a text, and where."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TYPOGRAPHY = str.maketrans("‘’‛′“”„\u00a0\u2007\u202f\u2010\u2011\u2012\u2013\u2212_₂", "''''\"\"\"   ------2")


def normalize(text: str) -> str:
    """`text` with typographic quotes, spaces, hyphens, underscores and CO₂ made plain; offsets stay the same."""
    return text.translate(_TYPOGRAPHY)


class Terms:
    """A list of terms in the notation of the data files.

    A term is a regular expression of whole words in which a space stands for spaces or hyphens, and `*` after a
    letter for any word ending. Matching ignores case; text is expected to be normalized.
    """

    def __init__(self, terms: Iterable[str], exceptions: Iterable[str] = ()) -> None:
        """Compile `terms`; a match that lies within a match of `exceptions` does not count."""
        self._regex = _compile(terms)
        self._exceptions = _compile(exceptions)

    def find(self, text: str) -> list[re.Match[str]]:
        """The matches in `text`, in order and without overlaps."""
        found = [m for m in self._regex.finditer(text) if m.end() > m.start()]
        if not found or not self._exceptions.pattern:
            return found
        excepted = [m.span() for m in self._exceptions.finditer(text)]
        return [m for m in found if not any((a <= m.start() and m.end() <= b) or m.start() == a for a, b in excepted)]

    def __call__(self, text: str) -> bool:
        """Whether any term stands in `text`."""
        return bool(self.find(text))


def pattern_of(terms: Iterable[str]) -> str:
    """The regular expression of any of `terms`, as whole words."""
    return rf"(?<!\w)(?:{'|'.join(_to_regex(term) for term in terms)})(?!\w)"


def _compile(terms: Iterable[str]) -> re.Pattern[str]:
    terms = list(terms)
    return re.compile(pattern_of(terms) if terms else "", re.IGNORECASE)


def _to_regex(term: str) -> str:
    """Outside character classes, spaces and the `*` of word endings become their regular expressions."""
    parts = re.split(r"(\[[^\]]*\])", re.sub(r"(?<=\w)\*", r"\\w*", term))
    return "".join(part if part.startswith("[") else part.replace(" ", r"(?:[\s-]{1,3})") for part in parts)
