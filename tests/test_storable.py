"""Text that cannot be stored is named at the door: where it is, what it is, and what to do."""

from __future__ import annotations

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
