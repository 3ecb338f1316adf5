"""How a sentence says what the verdicts on claims are, and what was not judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from zora_core.wording import count

if TYPE_CHECKING:
    from zora_core.skills.claims import Unjudged

# The verdicts on claims, worst first, as they follow the number 1 and other numbers.
VERDICTS = {
    "prohibited": ("prohibited", "prohibited"),
    "misleading": ("misleading", "misleading"),
    "needs_evidence": ("needs evidence", "need evidence"),
    "supported": ("supported", "supported"),
}


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
