"""A text as a reader sees it: no invisible characters, in display order, letters as what they look like."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from zora_core.data import load
from zora_core.visible import lookalikes

# Marks without a width that are no format characters by their category: fillers and variation selectors.
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10))))
_REVERSE, _ISOLATE_END, _EMBED_END = "\u202e", "\u2069", "\u202c"
_WORD = re.compile(r"[^\W\d_]+")
_BROKEN = re.compile(r"(?<![^\W\d_])([^\W\d_]+)-[ \t]*\r?\n[ \t]*(?=[a-z])")


@dataclass(frozen=True)
class Visible:
    """`text` as it is seen; `places[i]` is where its character i stands in the original."""

    text: str
    places: Sequence[int]

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Where the part from `start` to `end` of the visible text stands in the original."""
        places = self.places[start:end]
        return min(places), max(places) + 1


def visible(text: str) -> Visible:
    """What a reader sees of `text`; a hyphen at the end of a line that divides a word is left out, too."""
    if text.isascii():
        characters, places = text, list(range(len(text)))
    else:
        kept = _displayed(text)
        characters, places = "".join(c for c, _ in kept), [place for _, place in kept]
        characters = _latin(characters)
    if "-" not in characters:
        return Visible(characters, places)
    heads = load("claims_parsing")["compound_heads"]
    parts, kept_places, last = [], [], 0
    for match in _BROKEN.finditer(characters):
        # "eco-" keeps its hyphen at the end of a line, "environ-" has it from the line only.
        hyphen = 1 if match[1].lower() in heads else 0
        cut = match.end(1) + hyphen
        parts.append(characters[last:cut])
        kept_places += places[last:cut]
        last = match.end()
    return Visible("".join([*parts, characters[last:]]), [*kept_places, *places[last:]])


def _displayed(text: str) -> list[tuple[str, int]]:
    """The visible characters in display order, each with its place; a right-to-left override is turned round."""
    kept: list[tuple[str, int]] = []
    turned: list[tuple[str, int]] | None = None
    for place, character in enumerate(text):
        if turned is not None and (character in (_ISOLATE_END, _EMBED_END) or character in "\r\n"):
            kept += reversed(turned)
            turned = None
        if character == _REVERSE and turned is None:
            turned = []
        if character in _FILLERS or unicodedata.category(character) == "Cf":
            continue
        (kept if turned is None else turned).extend((c, place) for c in _plain(character))
    return kept + list(reversed(turned or []))


def _plain(character: str) -> str:
    """A letter in a styled, full-width or joined form as plain letters; any other character as it is."""
    if character.isascii() or not character.isalpha() or character in "ªº":
        return character
    plain = unicodedata.normalize("NFKC", character)
    return plain if plain.isascii() and plain.isalpha() else character


def _latin(text: str) -> str:
    """`text` with Cyrillic and Greek look-alikes as Latin letters, in words that have Latin letters beside them."""

    def replace(match: re.Match[str]) -> str:
        word = match[0]
        mixed = any(c.isascii() for c in word) and not word.isascii()
        return word.translate(lookalikes()) if mixed else word

    return _WORD.sub(replace, text)
