"""Numbers in sentences: singular and plural, and what the counts of verdicts are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zora_core.skills.claims import Unjudged

# The verdicts on claims, worst first, as they follow the number 1 and other numbers.
VERDICTS = {
    "prohibited": ("prohibited", "prohibited"),
    "misleading": ("misleading", "misleading"),
    "needs_evidence": ("needs evidence", "need evidence"),
    "supported": ("supported", "supported"),
}


def count(number: int, one: str, many: str | None = None) -> str:
    """`number` with its thousands apart, and `one` or `many` as fits; `many` is `one` with an s where not given."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def verdicts(counts: Mapping[str, int]) -> str:
    """The verdicts that were given at all, worst first, such as `1 prohibited, 4 need evidence`."""
    return ", ".join(count(counts[name], *words) for name, words in VERDICTS.items() if counts.get(name))


def not_judged(parts: Iterable[Unjudged]) -> str:
    """What was not judged and why, a sentence per language, such as `Text in German: 2 sentences not judged.`"""
    sentences: dict[str, int] = {}
    terms: dict[str, list[str]] = {}
    for part in parts:
        sentences[part.language] = sentences.get(part.language, 0) + part.sentences
        terms.setdefault(part.language, []).extend(part.terms)
    said = []
    for language, number in sentences.items():
        named = ", ".join(list(dict.fromkeys(terms[language]))[:5])
        said.append(f"Text in {language}: {count(number, 'sentence')} not judged{f' ({named})' if named else ''}.")
    return " ".join(said)
