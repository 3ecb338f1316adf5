"""Text from elsewhere made visible: what a terminal obeys and what hides or reorders text is shown escaped.

Escapes look as in Python (`\\x1b`, `\\u202e`). Callers can find words that mix look-alike scripts.
"""

from __future__ import annotations

import re
import unicodedata

# Invisible though they count as letters or marks: joiners and fillers, and the selectors that make no emoji.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE0E))))
_WORD = re.compile(r"\w+")
_ALIKE = frozenset(("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "FULLWIDTH", "MATHEMATICAL"))


def has_hidden(text: str) -> bool:
    """Whether `visible` would change the text."""
    return not all(map(_is_plain, set(text)))


def visible(text: str) -> str:
    """The text with control, bidirectional and invisible characters escaped; line ends, tabs and spaces stay."""
    return text.translate({ord(char): _escaped(char) for char in set(text) if not _is_plain(char)})


def visible_json(text: str) -> str:
    """JSON whose strings hold the same, with such characters as JSON's own escapes."""
    return text.translate({ord(char): _json_escaped(char) for char in set(text) if not _is_plain(char)})


def mixed_words(text: str) -> list[tuple[int, int, str]]:
    """Words that mix scripts whose letters look alike, as start, end and scripts: `pаypal` with a Cyrillic а."""
    if text.isascii():
        return []
    found = []
    for word in _WORD.finditer(text):
        scripts = {unicodedata.name(char, "").partition(" ")[0] for char in word[0] if char.isalpha()} & _ALIKE
        if len(scripts) > 1:
            found.append((*word.span(), ", ".join(sorted(script.capitalize() for script in scripts))))
    return found


def _is_plain(char: str) -> bool:
    if char.isprintable():
        return char not in _BLANK
    return char in "\n\t" or unicodedata.category(char) == "Zs"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _json_escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
