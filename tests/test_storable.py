"""Text that cannot be stored is named at the door: where it is, what it is, and what to do."""

from __future__ import annotations

import itertools
import re
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.errors import InvalidInput
from zora_core.storable import check_storable, escaped, problem, storable
from zora_core.workflows import load

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a\0", "title has a NUL character at position 2"),
        ("a\ud800", r"title has half a character \(surrogate U\+D800\) at position 2"),
        ("caf\udce9", r"title is not UTF-8 \(byte 0xe9 at position 4\)"),
        ({"a": [1, {"b": "\0"}]}, r"title\.a\[1\]\.b has a NUL character at position 1"),
        ({"a\0": 1}, r"title has the key 'a\\x00'"),
        (nested(100_000), "title is nested deeper than 100 levels"),
    ],
)
def test_what_cannot_be_stored_is_named_in_one_line(value: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        check_storable(value, "title")
    assert "\n" not in str(refused.value)
    str(refused.value).encode()


def itself() -> Any:
    value: Any = []
    value += [value, value]
    return value


def doubled(levels: int) -> Any:
    value: Any = ["x"]
    for _ in range(levels):
        value = [value, value]
    return value


def sparse(levels: int) -> Any:
    """Lists that hold the same list again at each level, below others of the same length."""
    value: Any = list(range(1_000))
    for _ in range(levels):
        value = [*range(1_000), value]
    return value


LONG = "k" * 500_000


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({LONG: [1] * 250_000}, None),
        ({LONG: {LONG: [{"a": 1}] * 10_000}}, None),
        ({LONG: [*["x"] * 250_000, "\0"]}, r"body\.k{100}…\[250000\] has a NUL character"),
        ({LONG: {LONG + "\0": 1}}, r"body\.k{100}… has the key 'k{100}…'"),
        ([LONG] * 125_000, "more than 50,000,000 characters"),
        ([{LONG: 1}] * 125_000, "more than 50,000,000 characters"),
        ([[LONG, "\0"]] * 125_000, r"body\[0\]\[1\] has a NUL character"),
        (doubled(19), None),
        (doubled(99), "more than 2,000,000 values"),
        (doubled(100), "deeper than 100 levels"),
        (sparse(99), None),
        (sparse(100), "deeper than 100 levels"),
        ([doubled(17)] * 1_000_000, "more than 2,000,000 values"),
        (itself(), "deeper than 100 levels"),
    ],
    ids=itertools.count(),
)
def test_a_check_costs_what_the_input_is_long_and_not_what_it_refers_to(value: Any, said: str | None) -> None:
    tracemalloc.start()
    began = time.process_time()
    try:
        found = problem(value, "body")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found is None if said is None else found and re.search(said, found)
    assert peak < 50_000_000
    assert time.process_time() - began < 20  # it was minutes; the tracing makes seconds of what takes 0.1 s


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_whatever_can_be_encoded_can_be_stored(value: Any) -> None:
    assert (problem(value, "it") is None) is ("\0" not in strings(value))


def strings(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(map(strings, value)) + "".join(map(strings, value.values()))
    return "".join(map(strings, value)) if isinstance(value, list) else value if isinstance(value, str) else ""


@given(st.text(st.characters() | st.sampled_from("\0\ud800\udc80\udfff")))
def test_a_text_is_made_storable_without_moving_its_characters(text: str) -> None:
    kept = storable(text)
    assert problem(kept, "it") is None
    assert [one for one, other in zip(text, kept, strict=True) if one != other] == list(unstorable(text))


def unstorable(text: str) -> str:
    return "".join(one for one in text if one == "\0" or "\ud800" <= one <= "\udfff")


def test_bytes_of_a_name_are_shown_escaped() -> None:
    assert escaped("caf\udce9\0\ud800.py") == r"caf\xe9\x00\ud800.py"


@pytest.mark.parametrize(("text", "said"), [(BOMB, "holds more than 2,000,000 values"), ("[" * 20_000, "too deep"),
    ('key: "a\\0"', "has a NUL character"), ("key: [", "is not YAML")])  # fmt: skip
def test_a_definition_that_cannot_be_read_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        load(text)
    assert "\n" not in str(refused.value)
