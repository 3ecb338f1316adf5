"""Credentials and personal data are found, placeholders are not, and nothing found is repeated."""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import PurePath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zora_core.skills import secrets
from zora_core.skills.secrets import (
    cut,
    find_personal_data,
    find_secrets,
    hides_secrets,
    redact,
    unmasked,
    without_secrets,
)

# Assembled here, so that no file of the repository contains anything that looks like a key.
ALNUM = string.ascii_letters + string.digits
SAMPLES = {
    "aws-access-key-id": "AKIA" + "Q7R2M5X9B4T1W8Z3",
    "github-token": "ghp_" + ALNUM[7:43],
    "gitlab-token": "glpat-" + ALNUM[5:25],
    "slack-token": "xoxb-" + "1234567890-" + ALNUM[3:20],
    "stripe-key": "sk_live_" + ALNUM[10:34],
    "google-api-key": "AIza" + ALNUM[11:46],
    "huggingface-token": "hf_" + ALNUM[9:43],
    "jwt": "eyJ" + ALNUM[4:24] + ".eyJ" + ALNUM[8:40] + "." + ALNUM[2:40],
    "private-key": "-----BEGIN RSA PRIVATE KEY-----\n" + ALNUM + "\n-----END RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_key_of_a_known_format_is_found_where_it_stands(kind: str) -> None:
    text = f"before {SAMPLES[kind]} after"
    (match,) = find_secrets(text)
    assert match.kind == kind
    assert text[match.start : match.end] == SAMPLES[kind]
    assert SAMPLES[kind] not in match.masked


@pytest.mark.parametrize(
    "text",
    [
        'password = "c0rrect-Horse7"',
        "DB_PASSWORD=tR4nsit0ry88",
        'password = "hunter2"',
        'password2 = "q7ZtK2mPx9"',
        'db_password_prod = "q7ZtK2mPx9"',
        r'"source": ["password = \"hT7xQ2pLm9Zk4Wv\"\n"]',
        "secret_key_base: q7ZtK2mPx9LvRw4Bn8Hd",
        '{"api_key": "Zk29dlQm81xPw0"}',
        "postgres://zora:vErys3cretpw@db.internal/zora",
        "Authorization: Bearer " + ALNUM[20:52],
    ],
)
def test_a_secret_in_an_assignment_a_url_or_a_header_is_found(text: str) -> None:
    (match,) = find_secrets(text)
    assert text[match.start : match.end] not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        'password = os.environ["DB_PASSWORD"]',
        'api_key = "your_api_key_here"',
        "password: ********",
        "postgres://user:password@localhost/db",
        "The token economy grew by 12% in 2024.",
        'token = "${GITHUB_TOKEN}"',
        "secretary: Johnson",
        "sha256 " + "0123456789abcdef" * 4,
        'password_field = "user_password_input"',
        'password_field = "userPasswordInput2"',
        'token_url = "https://auth.example.org/oauth2/v1/token"',
        'tokenUrl: "https://auth.example.org/oauth2/v1/token2"',
        "token: https://auth.example.org/oauth2/v1/token2",
        'secret_name = "prod/db-password-1"',
        'passwordInputId = "Xq9-77"',
        'api_key_header = "X-Api-Key-2"',
        "password = self.config.password1",
        "secret = hashlib.sha256",
        'token == "#group"',
        '"password": "string?"',
        r'TOKEN = r"(?:\A|(?<=[=,]))\s*"',
        'api_key = "{key1}"',
    ],
)
def test_placeholders_and_ordinary_text_are_not_secrets(text: str) -> None:
    assert find_secrets(text) == []


def test_personal_data_is_checked_and_not_only_matched() -> None:
    text = "jane.roe@acme-corp.org, +44 20 7946 0958, 4111 1111 1111 1111, DE89 3704 0044 0532 0130 00"
    kinds = [m.kind for m in find_personal_data(text)]
    assert kinds == ["email-address", "phone-number", "payment-card", "iban"]
    assert find_personal_data("4111 1111 1111 1112, DE88 3704 0044 0532 0130 00, me@example.com, info@acme.org") == []


def test_redact_keeps_everything_else() -> None:
    text = f"key {SAMPLES['github-token']} of jane.roe@acme-corp.org."
    assert redact(text) == "key ghp_[github-token, 40 characters] of [email-address, 22 characters]."


@given(st.text(max_size=400))
def test_any_text_is_taken_and_matches_are_ordered_and_apart(text: str) -> None:
    for matches in (find_secrets(text), find_personal_data(text)):
        position = 0
        for match in matches:
            assert position <= match.start < match.end <= len(text)
            position = match.end
    redact(text)


def test_long_hostile_text_takes_no_long_time() -> None:
    for piece in ("token==", "a.a@a.", "+1 23 ", "-----BEGIN PRIVATE KEY-----", "eyJaaaaaaaaaaaa."):
        assert isinstance(redact(piece * 3000), str)


@pytest.mark.parametrize(
    "secret",
    [
        "ASIA" + "Q7R2M5X9B4T1W8Z3",
        *(f"{start}{ALNUM[7:43]}" for start in ("gho_", "ghu_", "ghs_", "ghr_")),
        "github_pat_" + ALNUM,
        *(f"{start}{ALNUM[5:30]}" for start in ("glptt-", "gldt-", "glrt-", "glsoat-")),
        *(f"{start}{ALNUM[10:34]}" for start in ("sk_test_", "rk_live_", "rk_test_", "sb_secret_")),
        "sbp_" + "0123456789abcdef9876" * 2,
        "https://hooks.slack.com/services/T0AB12CD3/B0AB12CD3/" + ALNUM[3:27],
        "aws_secret_access_key = " + ALNUM[-40:],
        *(f"{name} = 'c0rrect-Horse7'" for name in ("PASSWD", "passphrase", "Pwd", "secret", "token", "credentials")),
        *(f"{name} = 'c0rrect-Horse7'" for name in ("api-key", "ACCESS_KEY", "private_key")),
        f"bearer: {ALNUM[20:52]} ",
        f"Authorization: {ALNUM[20:52]} ",
    ],
)
def test_every_way_in_which_a_format_begins_is_known(secret: str) -> None:
    assert len(find_secrets(f"({secret})")) == 1


# What formats begin with and what may stand around it, letters that only `re.IGNORECASE` takes for ASCII included.
PIECES = st.sampled_from(
    [
        *SAMPLES.values(),
        *(start for table in ("secret", "personal") for p in secrets._patterns(table) for start in p.starts),
        *("api_key", "ACCESS-KEY", "private key", "passwd", "\u017fecret", "to\u212aen", "ap\u0130_key", "\u0131"),
        *('="Zk29dlQm81xPw0"', ": vErys3cretpw", "postgres://u:", "@db", "c0rrect-Horse7", "jane.roe@acme-corp.org"),
        *("+44 20 7946 0958", "SSN ", "219-09-9999", "_", "-", " ", "\n", "\u0130", "ß", "A", "7"),
    ]
)


@given(st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join))
@example('\u0130 to\u212aen = "c0rrect-Horse7"')
@example('to\u212aen \u017fecret="c0rrect-Horse7"')
@example("tokentoken=tokentoken=tR4nsit0ry88")
def test_looking_for_beginnings_first_changes_no_answer(text: str) -> None:
    for table in ("secret", "personal"):
        patterns = secrets._patterns(table)
        everywhere = [replace(pattern, starts=(), contains=()) for pattern in patterns]
        assert secrets._find(text, patterns) == secrets._find(text, everywhere)


def test_most_patterns_have_beginnings_so_that_source_code_is_read_fast() -> None:
    assert [p.kind for p in secrets._patterns("secret") if not p.starts] == ["password-in-url"]


@given(
    st.lists(
        st.sampled_from([*SAMPLES.values(), "eve@example.org", "[github-token, 40 characters]", " and ", "\n", "("])
    )
)
def test_a_masked_text_is_recognised_in_what_it_was(parts: list[str]) -> None:
    text = " ".join(parts)
    assert unmasked(redact(text)).fullmatch(text)
    assert unmasked(redact(text) + "x").fullmatch(text) is None


def test_a_mask_is_left_out_rather_than_cut() -> None:
    text = redact(f"the key {SAMPLES['github-token']} works")
    assert text == "the key ghp_[github-token, 40 characters] works"
    assert [cut(text, length) for length in (7, 12, 13, 40, 41, 99)] == [
        "the key", "the key ghp_", "the key ghp_", "the key ghp_", text[:41], text,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "DB_PASS=PW",
        "smtp_pass: PW",
        'pass = "PW"',
        '{"smtp_pass": "PW"}',
        "define('DB_PASSWORD', 'PW');",
        "machine mango.example login bob password PW",
        "machine mango.example\n  login bob\n  password PW\n",
        "mango.example:5432:db:user:PW",
        "curl -u admin:PW https://mango.example",
        "mysql -u root -pPW",
        "<mango><password>PW</password></mango>",
        "root:$6$saltsalt$PWPWPW:19000:0:99999:7:::",
        "postgres%3A%2F%2Fu%3APW%40h%2Fdb",
    ],
)
def test_a_credential_is_masked_in_the_formats_of_usual_files(text: str) -> None:
    password = "hT7kPq92LmXz4WvB8nRy"
    assert password not in without_secrets(text.replace("PW", password).encode()).decode()


@pytest.mark.parametrize("name", ["netrc", "_netrc", "pgpass", "shadow.txt", "shadow-", "gshadow"])
def test_files_of_passwords_are_not_read_without_their_dot_either(name: str) -> None:
    assert hides_secrets(PurePath(name))
