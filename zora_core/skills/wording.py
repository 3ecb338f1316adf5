"""Numbers in sentences: singular and plural, and what the counts of verdicts are called."""

from __future__ import annotations

from collections.abc import Mapping

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
