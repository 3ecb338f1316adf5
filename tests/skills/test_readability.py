"""Readability: LIX, long sentences, and when there is too little to say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zora_core.skills.text.readability import readability

PLAIN = "We fill your jar. You pay for what you take. We wash it if you like. " * 4
DENSE = (
    "Notwithstanding considerable infrastructural investment requirements, comprehensive decarbonisation strategies "
    "necessitate organisational transformation encompassing procurement, transportation, manufacturing, distribution, "
    "consumption, refurbishment, recycling, communication, certification, verification and stakeholder participation. "
) * 2


def test_plain_text_is_easy_and_dense_text_is_hard() -> None:
    plain, dense = readability(PLAIN), readability(DENSE)
    assert plain.lix is not None
    assert dense.lix is not None
    assert plain.lix < 30 < 60 < dense.lix
    assert (plain.hard, dense.hard) == (False, True)
    assert (plain.level, dense.level) == ("very easy", "very difficult")


def test_long_sentences_are_named_with_their_place() -> None:
    text = "Short one. " + "word " * 40 + "end."
    (sentence,) = readability(text).long_sentences
    assert text[sentence.start :].startswith(sentence.text)


def test_fragments_are_not_sentences() -> None:
    assert readability("Products\n\nPrices\n\nHome").words == 0


def test_too_little_text_gets_no_score() -> None:
    assert readability("We fill your jar.").lix is None
    assert readability("").sentences == 0


@given(st.text(max_size=500))
def test_any_text_can_be_measured(text: str) -> None:
    measured = readability(text)
    assert measured.words >= 0
    assert 0 <= measured.long_word_share <= 1
