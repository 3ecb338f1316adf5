"""When two texts say the same: equal in order, or apart only by words that are known to mean nothing."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from functools import cache

from zora_core.data import load
from zora_core.skills.text.language import ENGLISH, language

_QUOTES = str.maketrans("‘’‛“”„", "'''\"\"\"")
# Characters of code and paths, in which every space and stop counts.
_CODE = re.compile(r"[{}=;`|\\<>/]|\w\(")
# A stop that ends a sentence: after a word, not after an abbreviation, a letter or a number.
_FINAL_STOP = re.compile(r"(?<=[^\W\d_]{3})([\"')\]]*)[.。]([\"')\]]*)$")


def equal_form(text: str) -> str:
    """What is equal for texts that say the same in every language: NFC, one space for several, one style of quotes.

    Nothing else is taken away: case, order, signs, symbols, digits, final stops, tabs and line ends all count. In code
    every space counts, too.
    """
    plain = unicodedata.normalize("NFC", text).translate(_QUOTES)
    lines = [line.rstrip() for line in plain.strip().splitlines()]
    if _CODE.search(plain):
        return "\n".join(lines)
    return "\n".join(line[: len(line) - len(line.lstrip())] + re.sub(r"[^\S\t]+", " ", line.lstrip()) for line in lines)


def groups_that_say_the_same(texts: Sequence[str]) -> list[tuple[list[int], bool]]:
    """The indices of `texts` in groups that say the same, and whether a group's texts are equal.

    Texts that are not equal are in one group only if they are English and apart by no more than a word of courtesy, the
    first capital, a final mark or the space before a unit (`[same]` in `data/memory.toml`). An article, capitals
    throughout or any other word may make another statement: "the Apple", "THE SUN".
    """
    forms = [equal_form(text) for text in texts]
    alike: defaultdict[str, list[int]] = defaultdict(list)
    for index, form in enumerate(forms):
        alike[_loose_form(form)].append(index)
    found: list[tuple[list[int], bool]] = []
    for members in alike.values():
        equal: defaultdict[str, list[int]] = defaultdict(list)
        for index in members:
            equal[forms[index]].append(index)
        together = [form for form in equal if len(equal) > 1 and language(form) == ENGLISH]
        if len(together) > 1:
            found.append((sorted(index for form in together for index in equal.pop(form)), False))
        found += [(indices, True) for indices in equal.values()]
    return found


def _loose_form(form: str) -> str:
    """`form` without what may differ between two English texts that say the same; `form` itself for lines and code."""
    if "\n" in form or _CODE.search(form):
        return form
    form = _FINAL_STOP.sub(r"\1\2", _spaced_unit().sub("", form))
    # After a digit "!" is an operator.
    form = re.sub(r"(?<=[^\W\d_]) ?!+$", "", form)
    first, *rest = _without_courtesy(form.split()) or [""]
    # "A" may be a name.
    return " ".join([first[:1].lower() + first[1:] if first[1:].islower() else first, *rest])


def _without_courtesy(chunks: list[str]) -> list[str]:
    rules = _sets()
    asks = len(chunks) > 2 and (chunks[0].endswith(",") or chunks[1].lower() in rules["requests"])
    if asks and chunks[0].rstrip(",").lower() in rules["courtesy"]:
        chunks = chunks[1:]
    if len(chunks) > 2 and chunks[-1].lower() in rules["courtesy"] and chunks[-2].endswith(","):
        chunks = [*chunks[:-2], chunks[-2].rstrip(",")]
    return chunks


@cache
def _sets() -> dict[str, frozenset[str]]:
    return {key: frozenset(words) for key, words in load("memory")["same"].items()}


@cache
def _spaced_unit() -> re.Pattern[str]:
    units = "|".join(map(re.escape, sorted(_sets()["units"], key=len, reverse=True)))
    return re.compile(rf"(?<=\d) (?=(?:{units})(?![^\W_]))", re.IGNORECASE)
