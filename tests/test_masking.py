"""Masking: what stands where secrets stand never comes through, and the rest of the text does."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from zora_core import masking
from zora_core.api.keys import new_key
from zora_core.masking import LIMIT, mask
from zora_core.secrets import find_secrets
from zora_core.unmarked import unmarked

# Assembled here, so that no file of the repository contains anything that looks like a key.
ALNUM = string.ascii_letters + string.digits
NAMES = [
    *(
        "password",
        "passwd",
        "PASSWORD",
        "db_password",
        "passwordHash",
        "secret",
        "client_secret",
        "token",
        "accessToken",
    ),
    *(
        "api_key",
        "apikey",
        "apiKey",
        "X-Api-Key",
        "service_key",
        "SUPABASE_SERVICE_ROLE_KEY",
        "private_key",
        "access_key",
    ),
    *("authorization", "Proxy-Authorization", "credentials"),
]
MARK = "Q7zK"
"""Part of every random secret: it must not come through, whatever stands around it."""
SECRET = st.tuples(st.text(max_size=20), st.text(max_size=20)).map(MARK.join)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("login with password=x failed", "login with password=[masked] failed"),
        ("{'password': 'hunter2', 'user': 'bo'}", "{'password': [masked], 'user': 'bo'}"),
        ('{"api_key":"x","user":"bo"}', '{"api_key":[masked],"user":"bo"}'),
        (r'"{\"token\": \"a\\\"b\", \"user\": \"bo\"}"', r'"{\"token\": [masked], \"user\": \"bo\"}"'),
        ("Login(user='bo', password='it\\'s me', page=1)", "Login(user='bo', password=[masked], page=1)"),
        ("password: 'it's', page", "password: [masked], page"),
        ("{'tokens': ['a', 'b']} of bo", "{'tokens': [masked] of bo"),
        ("at /x?token=1,password='a b', page", "at /x?token=[masked], page"),
        ("at /x?token=1,secrets=(a b) of bo", "at /x?token=[masked] of bo"),
        ("[(b'authorization', b'Basic YTpi'), (b'host', b'h')]", "[(b'authorization', [masked]), (b'host', b'h')]"),
        ("Command '['psql', '--password', 'x y']' failed", "Command '['psql', '--password', [masked]]' failed"),
        ("zora --token abc status", "zora --token [masked] status"),
        ("DETAIL:  Key (token)=(abc) already exists.", "DETAIL:  Key (token)=[masked] already exists."),
        ("GET /tasks?api_key=abc&page=2 HTTP/1.1", "GET /tasks?api_key=[masked] HTTP/1.1"),
        ("Authorization: Basic YTpi\nHost: h", "Authorization: [masked]\nHost: h"),
        ("Cookie: a=b; c=d\r\nHost: h", "Cookie: [masked]\r\nHost: h"),
        ("sent 'Bearer x' to h", "sent 'Bearer [masked]' to h"),
        ("at eyJh.e30.x, expired", "at [masked], expired"),
        ("postgresql://zora:password@db:5432/zora", "postgresql://zora:[masked]@db:5432/zora"),
        ("postgresql://zora:p@s/s#1:x@db/zora is no URL", "postgresql://zora:[masked]@db/zora is no URL"),
        ("redis://:x@cache", "redis://:[masked]@cache"),
        ("AKIA" + "Q7R2M5X9B4T1W8Z3 is disabled", "AKIA[aws-access-key-id, 20 characters] is disabled"),
        ("-----BEGIN PRIVATE KEY-----\nMII...", "-----BEGIN [masked]"),
        ("Passwort: x", "Passwort: [masked]"),
        ("mot de passe : x", "mot de passe : [masked]"),
        ("Mot de passe\u202f: x", "Mot de passe\u202f: [masked]"),
        ("contraseña: x", "contraseña: [masked]"),
        ("**Password:** x", "**Password:** [masked]"),
        ("пароль: x", "пароль: [masked]"),
        ("密码：x", "密码：[masked]"),
        ("the password is hunter2Xy9!", "the password is [masked]"),
        ("pass<wbr>word: hun<!-- -->ter", "pass<wbr>word: [masked]"),
        ("pass\u00adword: x", "pass\u00adword: [masked]"),
        ("Bea\u200brer x", "Bea\u200brer [masked]"),
        ("password&#58; x", "password&#58; [masked]"),
        ("tok\x1b[1men=x", "tok\x1b[1men=[masked]"),
    ],
)
def test_what_stands_where_secrets_stand_is_masked_however_plain(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_a_key_of_ours_shows_its_prefix_and_nothing_else() -> None:
    made = new_key()
    shown = f"{made.prefix}[zora-api-key, 57 characters]"
    assert [m.kind for m in find_secrets(f"({made.key})")] == ["zora-api-key"]
    assert mask(f"key_{made.key} was refused") == f"key_{shown} was refused"
    assert mask(f"Authorization: Bearer {made.key}") == f"Authorization: {shown}"
    assert find_secrets("select zora_database_connections_in_use_by_all_tenants()") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lost the lease of task 01890a5d-ac96-774b-bcce-b302099a8057: nothing was recorded",
        "the database does not answer (connection refused on db:5432); trying again in 0.4 s",
        "missing bearer token",
        'WWW-Authenticate: Bearer realm="zora", error="invalid_token"',
        "invalid payload for SAM review_climate_page: api_key: Extra inputs are not permitted (fields: page)",
        "Settings(password=None, token=null)",
        '{"token": null, "token_type": "bearer", "token_count": 3, "secret_name": "db"}',
        "DATABASE_URL is not set; SUPABASE_SERVICE_KEY is not either",
        "GET https://example.org:443/tokens/ 404",
        "postgresql://zora@db:5432/zora",
        "secretary: Johnson",
        "the secret:\nasked for a token:",
        "password: at least 12 characters",
        "password: must contain a digit",
        "the password is required",
        "Passwort vergessen?",
        "secret ingredient is love",
        "sha256 " + "0123456789abcdef" * 4,
    ],
)
def test_text_without_a_secret_stays_as_it_is(text: str) -> None:
    assert mask(text) == text


def test_personal_data_stay_for_they_say_whom_a_record_concerns() -> None:
    assert mask("jane.roe@acme-corp.org, +44 20 7946 0958") == "jane.roe@acme-corp.org, +44 20 7946 0958"


@given(st.lists(st.sampled_from([*NAMES, "bearer tokens", "is", "not", "the", "key", "(a)", "'b'", "7", "https://h/"])))
def test_talking_about_secrets_is_no_secret(words: list[str]) -> None:
    assert mask(" ".join(words)) == " ".join(words)


@given(st.sampled_from(NAMES), st.sampled_from(["=", ": ", " = ", " := "]), st.text(min_size=1))
def test_a_value_without_quotes_is_masked_up_to_white_space(name: str, sign: str, value: str) -> None:
    value = "".join(value.split())
    # A quote or a bracket makes it longer, "=" may be part of the sign, and None is no value.
    assume(value and value[0] not in "\"'\\=>" and not set("([{") & set(value) and not {"'", '"'} & set(value[:3]))
    assume(value.rstrip(",;)]}").lower() not in ("none", "null", "true", "false"))
    # A value of marks alone is read as none; two asterisks are the end of a bold name.
    assume(((read := unmarked(value)) is None or read.text.strip()) and value not in ("**", "__"))
    rest = "" if "authorization" in name.lower() else " or else"  # a header goes to the end of its line
    assert mask(f"login {name}{sign}{value} or else") == f"login {name}{sign}[masked]{rest}"


@given(st.sampled_from(NAMES), SECRET, SECRET)
def test_a_value_in_a_repr_or_in_json_never_comes_through(name: str, value: str, token: str) -> None:
    payload = {"user": "bo", name: value, "access_token": token, "page": "home"}
    written = json.dumps(payload)
    for text in (repr(payload), written, json.dumps({"body": written}), repr(written), repr([(name, value)])):
        assert MARK in text
        assert MARK not in mask(f"ValueError: {text} is refused")


@given(SECRET)
def test_a_password_in_a_url_never_comes_through(password: str) -> None:
    password = "".join(password.split())
    assert MARK not in mask(f"cannot reach postgresql://zora:{password}@db/zora: refused")


@pytest.mark.parametrize("field", ["password", "pin"])
def test_what_pydantic_quotes_of_a_refused_value_is_masked(field: str) -> None:
    class Login(BaseModel):
        model_config = ConfigDict(extra="forbid")

        password: int
        a_field_that_is_missing: str

    refused: dict[str, Any] = {"password": f"{MARK} and more", field: MARK, "note": "x" * 30 + MARK}
    with pytest.raises(ValidationError) as caught:
        Login.model_validate(refused)
    said = str(caught.value)
    assert MARK in said
    assert MARK not in mask(said)
    assert "unable to parse string as an integer [type=int_parsing, input_value=[masked], input_type=str]" in mask(said)


def test_masking_what_is_masked_changes_nothing() -> None:
    for text in ("password=x, y", "{'token': 'x', 'a': 1}", "http://u:p@h", "Bearer x", "AKIA" + "Q7R2M5X9B4T1W8Z3"):
        assert mask(mask(text)) == mask(text)


def test_a_long_text_is_cut_and_says_by_how_much() -> None:
    assert mask("a" * LIMIT) == "a" * LIMIT
    assert mask("a" * (LIMIT + 1234)) == "a" * LIMIT + " [1,234 characters cut]"


@pytest.mark.parametrize("before", [LIMIT - 2, LIMIT - 20, LIMIT - 56])
def test_a_secret_on_the_edge_of_the_cut_is_seen_whole(before: int) -> None:
    key = new_key().key
    masked = mask("." * before + key + " and more" * 1000)
    assert masked.startswith("." * before + key[:13] + "[zora-api-key, 57 characters]")
    assert key[14:] not in masked
    assert masked.endswith("characters cut]")


PIECES = [
    *(
        "token",
        "token ",
        "token=",
        "token='",
        "token=(",
        'token="\\',
        "('token', ",
        "--",
        "--a",
        "--token ",
        "x",
        " ",
        "\\",
    ),
    *(
        "-----BEGIN PRIVATE KEY",
        "eyJ",
        "eyJ-",
        "-eyJ",
        "eyJ.",
        "eyJa.eyJa.",
        "://",
        "://a:",
        "a:a@",
        "bearer ",
        "Bearer\t",
    ),
    *("input_value=", "authorization", "authorization:", "zora_aaaaaaaa_", "zora_", "\n", "\x00", "aws", "awssecret"),
]


@pytest.mark.parametrize("piece", PIECES)
def test_a_megabyte_of_hostile_text_takes_no_long_time(piece: str) -> None:
    for start in ("", "token", "password='", "postgres://u:"):
        assert len(mask(start + piece * (1_000_000 // len(piece)))) < 3 * LIMIT


def test_what_is_cut_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    monkeypatch.setattr(masking, "find_secrets", lambda text: looked_at.append(text) or [])
    mask("a" * 1_000_000)
    assert len(looked_at[0]) < 2 * LIMIT


@given(st.text(max_size=300))
def test_any_text_is_taken(text: str) -> None:
    mask(text)
