"""What a key looks like, and what is kept of it."""

from __future__ import annotations

import dataclasses
import hashlib
import re

import pytest

from zora_core.api.keys import new_key, parse_key


def test_a_key_is_a_prefix_for_people_and_256_random_bits() -> None:
    new = new_key()
    assert re.fullmatch(r"zora_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", new.key)
    assert new.key.startswith(f"{new.prefix}_")
    assert len(new.prefix) == len("zora_xxxxxxxx")


def test_a_key_is_read_back_as_what_is_kept_of_it() -> None:
    new = new_key()
    assert parse_key(new.key) == (new.prefix, new.hash)
    assert new.hash == hashlib.sha256(new.key.encode()).digest()


def test_no_two_keys_share_a_prefix_or_a_secret() -> None:
    keys = [new_key() for _ in range(1000)]
    assert len({key.prefix for key in keys}) == 1000
    assert len({key.key.removeprefix(key.prefix) for key in keys}) == 1000


def test_another_secret_behind_the_same_prefix_has_another_hash() -> None:
    new, other = new_key(), new_key()
    forged = new.prefix + other.key.removeprefix(other.prefix)
    assert parse_key(forged) == (new.prefix, hashlib.sha256(forged.encode()).digest())
    assert parse_key(forged) != (new.prefix, new.hash)


SECRET = "A" * 43


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zora_abcd1234",
        f"zora_abcd1234_{SECRET[1:]}",
        f"zora_abcd1234_{SECRET}A",
        f"zora_abcd1234_{SECRET}\n",
        f" zora_abcd1234_{SECRET}",
        f"zora_Abcd1234_{SECRET}",
        f"zora_abcd123_{SECRET}",
        f"nora_abcd1234_{SECRET}",
        f"zora_abcd1234_{SECRET[1:]}=",
        f"zora_abcd1234_{SECRET[1:]}é",
        f"zora_abcd123٣_{SECRET}",
        f"zora_abcd1234_{SECRET[1:]}\udc80",
        "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoibWVtYmVyIn0.c2lnbmF0dXJl",
    ],
)
def test_anything_else_is_not_a_key(text: str) -> None:
    assert parse_key(f"zora_abcd1234_{SECRET}") is not None
    assert parse_key(text) is None


def test_a_new_key_does_not_show_itself() -> None:
    new = new_key()
    secret = new.key.removeprefix(new.prefix)
    for shown in (repr(new), str(new), f"{new}", repr([new])):
        assert new.prefix in shown
        assert secret not in shown


def test_a_new_key_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        new_key().prefix = "zora_abcd1234"  # type: ignore[misc]
