"""When two texts say the same: equal in order, or apart only by words that are known to mean nothing."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from functools import cache

from zora_core.data import load
from zora_core.skills.language import ENGLISH, language

_QUOTES = str.maketrans("‘’‛“”„", "'''\"\"\"")
# Characters of code and paths, in which every space counts.
_CODE = re.compile(r"[{}=;`|\\<>]|\w\(")
_STRUCTURE = re.compile(r":|^[-*•\d]", re.MULTILINE)
_FINAL_STOP = re.compile(r"(?<=[^\W_])([\"')\]]*)[.。]([\"')\]]*)$")
_LETTER_NAME = re.compile(r"[B-HJ-Z]\W*")


def equal_form(text: str) -> str:
    """What is equal for texts that say the same in every language: NFC without odd spacing, quote style and final stop.

    Nothing else is taken away: case, order, signs, symbols, digits and one-letter words all count. In code every space
    counts, and in a text of several lines with a colon, a list or an indentation every line.
    """
    plain = unicodedata.normalize("NFC", text).translate(_QUOTES)
    lines = [line.rstrip() for line in plain.strip().splitlines()]
    if _CODE.search(plain):
        return "\n".join(lines)
    if len(lines) > 1 and (_STRUCTURE.search(plain) or any(line[:1].isspace() for line in lines)):
        joined = "\n".join(line[: len(line) - len(line.lstrip())] + " ".join(line.split()) for line in lines)
    else:
        joined = " ".join(plain.split())
    return _FINAL_STOP.sub(r"\1\2", joined)


def groups_that_say_the_same(texts: Sequence[str]) -> list[tuple[list[int], bool]]:
    """The indices of `texts` in groups that say the same, and whether a group's texts are equal.

    Texts that are not equal are in one group only if they are English and apart by no more than an article, a word of
    courtesy, the first capital, a final mark, or capitals throughout (`[same]` in `data/memory.toml`).
    """
    forms = [equal_form(text) for text in texts]
    alike: defaultdict[str, list[int]] = defaultdict(list)
    for index, form in enumerate(forms):
        alike[_loose_form(form)].append(index)
    by_capitals: defaultdict[str, list[str]] = defaultdict(list)
    for loose, members in alike.items():
        by_capitals[forms[members[0]].upper()].append(loose)
    for spellings in by_capitals.values():
        capitals = [s for s in spellings if _in_capitals(forms[alike[s][0]])]
        others = [s for s in spellings if s not in capitals]
        if len(capitals) == 1 and len(others) == 1 and _survives_capitals(forms[alike[others[0]][0]]):
            alike[others[0]] += alike.pop(capitals[0])
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
    rules = _sets()
    form = _spaced_unit().sub("", form)
    # After a digit "!" is an operator.
    form = re.sub(r"(?<=[^\W\d_]) ?!+$", "", form)
    chunks = _without_courtesy(form.split())
    # Beside other capital letters as names, "A" is a name, too.
    if any(_LETTER_NAME.fullmatch(chunk) or (place and chunk == "A") for place, chunk in enumerate(chunks)):
        return " ".join(chunks)
    kept = []
    for place, chunk in enumerate(chunks):
        following = chunks[place + 1].lower() if place + 1 < len(chunks) else ""
        counts = following in rules["article_needed_before"] or not following[:1].isalpha()
        if place == 0 and chunk.lower() in rules["articles"] and not counts:
            # The place of the article stays, so that "The apple" and "Apple" differ.
            kept.append("<article>")
        elif place == 0:
            kept.append(chunk[:1].lower() + chunk[1:] if chunk[1:].islower() else chunk)
        elif chunk != "the" or counts or chunks[place - 1].lower() in rules["article_needed_after"]:
            kept.append(chunk)
    return " ".join(kept)


def _without_courtesy(chunks: list[str]) -> list[str]:
    rules = _sets()
    asks = len(chunks) > 2 and (chunks[0].endswith(",") or chunks[1].lower() in rules["requests"])
    if asks and chunks[0].rstrip(",").lower() in rules["courtesy"]:
        chunks = chunks[1:]
    if len(chunks) > 2 and chunks[-1].lower() in rules["courtesy"] and chunks[-2].endswith(","):
        chunks = [*chunks[:-2], chunks[-2].rstrip(",")]
    return chunks


def _in_capitals(form: str) -> bool:
    return len(form.split()) >= 4 and form == form.upper() != form.lower()


def _survives_capitals(form: str) -> bool:
    """Whether `form` says the same in capitals: no unit and no word of it becomes another one."""
    rules = _sets()
    chunks = form.split()
    for place, chunk in enumerate(chunks):
        word = chunk.strip(".,;:!?'\"()[]").lower()
        unit = re.sub(r"^[\d.,]+", "", word)
        number = any(map(str.isdigit, chunk)) or (place > 0 and chunks[place - 1][-1].isdigit())
        if number and unit and unit not in rules["units"]:
            return False
        if place and chunk != chunk.lower() and word in rules["homographs"]:
            return False
    return True


@cache
def _sets() -> dict[str, frozenset[str]]:
    return {key: frozenset(words) for key, words in load("memory")["same"].items()}


@cache
def _spaced_unit() -> re.Pattern[str]:
    units = "|".join(map(re.escape, sorted(_sets()["units"], key=len, reverse=True)))
    return re.compile(rf"(?<=\d) (?=(?:{units})(?![^\W_]))", re.IGNORECASE)
