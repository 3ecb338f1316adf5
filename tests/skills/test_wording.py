"""Singular and plural."""

from __future__ import annotations

import pytest

from zora_core.skills.claims.wording import verdicts
from zora_core.wording import count


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (0, ("task",), "0 tasks"),
        (1, ("task",), "1 task"),
        (12_345, ("task",), "12,345 tasks"),
        (1, ("entry", "entries"), "1 entry"),
        (2, ("entry", "entries"), "2 entries"),
        (1, ("task is", "tasks are"), "1 task is"),
    ],
)
def test_the_noun_agrees_with_its_number(number: int, words: tuple[str, ...], expected: str) -> None:
    assert count(number, *words) == expected


def test_verdicts_agree_with_their_numbers_and_those_not_given_are_left_out() -> None:
    assert verdicts({"prohibited": 2, "misleading": 0, "needs_evidence": 1}) == "2 prohibited, 1 needs evidence"
    assert verdicts({"supported": 1, "needs_evidence": 4}) == "4 need evidence, 1 supported"
    assert verdicts({}) == ""
