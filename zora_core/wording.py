"""Numbers in sentences: singular and plural."""

from __future__ import annotations


def count(number: int, one: str, many: str | None = None) -> str:
    """`number` with its thousands apart, and `one` or `many` as fits; `many` is `one` with an s where not given."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
