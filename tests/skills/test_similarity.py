"""Likeness of texts, and the facts that keep two texts apart."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.skills.memory.digest import mask
from zora_core.skills.text.similarity import candidate_pairs, differing_facts, similarity, statement

SENTENCE = "The heat pump in the cellar needs 30 kWh a day when it is cold outside"


def may_merge(first: str, second: str) -> bool:
    return similarity(first, second) >= 0.9 and not differing_facts(first, second)


@pytest.mark.parametrize(
    "edited",
    [
        SENTENCE.upper(),
        SENTENCE.lower() + ".",
        "  ".join(SENTENCE.split()),
        SENTENCE.replace("cellar", "celar"),
        SENTENCE.replace("pump", "pumps"),
        SENTENCE.replace("The heat", "A heat"),
        SENTENCE.replace("needs", "need"),
        SENTENCE.replace("30 kWh", "30kWh"),
    ],
)
def test_trivial_edits_may_merge(edited: str) -> None:
    assert may_merge(SENTENCE, edited)


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (SENTENCE, SENTENCE.replace("30", "31"), "number"),
        ("The pump weighs 5 kg with its box and hose", "The pump weighs 5 t with its box and hose", "number"),
        ("It cost -3 euros in total that year", "It cost 3 euros in total that year", "number"),
        ("We have two offers for the new boiler here", "We have three offers for the new boiler here", "number"),
        (SENTENCE, SENTENCE.replace("needs", "does not need"), "negation"),
        ("The service is available in the north", "The service is unavailable in the north", "negation"),
        ("The pilot raised sales and was approved", "The pilot raised sales and was rejected", "negation"),
        ("The audit of the plant is in March", "The audit of the plant is in April", "date"),
        ("Anna approves the labels of the soap", "Peter approves the labels of the soap", "name"),
        ("The labels are approved by Anna in writing", "The labels are approved by Petra in writing", "name"),
        ("Release v1.2.3 of the site is out now", "Release v1.2.4 of the site is out now", "name"),
        ("The pump stands in the cellar of the house", "The pump stands in the garden of the house", "wording"),
    ],
)
def test_texts_that_say_different_things_never_merge(first: str, second: str, kind: str) -> None:
    assert kind in differing_facts(first, second)
    assert kind in differing_facts(second, first)


def test_equal_numbers_in_other_forms_are_the_same_number() -> None:
    assert statement("1,000 kg").numbers == statement("1000 kg").numbers
    assert statement("2.50 euros").numbers == statement("€2.5").numbers
    assert statement("40 percent").numbers == statement("40%").numbers


def test_similarity_falls_as_texts_drift_apart() -> None:
    near = similarity(SENTENCE, "The heat pump in the cellar needs 30 kWh a day")
    far = similarity(SENTENCE, "Refill pouches weigh less than glass")
    assert 1.0 == similarity(SENTENCE, SENTENCE + "!") > near > 0.7 > 0.4 > far


@given(st.text(max_size=80), st.text(max_size=80))
def test_similarity_is_bounded_and_survives_any_text(first: str, second: str) -> None:
    assert 0.0 <= similarity(first, second) <= 1.0
    assert similarity(first, first) == 1.0
    assert differing_facts(first, first) == []


def test_candidate_pairs_are_exactly_those_above_the_threshold() -> None:
    source = random.Random(3)
    bags = [frozenset(source.choices("abcdefghij", k=source.randint(1, 7))) for _ in range(120)]
    wanted = {(i, j) for (i, a), (j, b) in itertools.combinations(enumerate(bags), 2) if len(a & b) / len(a | b) >= 0.6}
    found = list(candidate_pairs(bags, 0.6))
    assert set(found) == wanted
    assert len(found) == len(wanted)


@pytest.mark.parametrize("piece", ["a-", "a.", "A'", " \n", "1,", "x@", "("])
def test_long_hostile_texts_are_read_in_time_that_grows_with_their_length(piece: str) -> None:
    text = piece * 60_000
    assert differing_facts(text, text) == []
    assert len(mask(text)) <= len(text) + 4 * 60_000
