"""Credentials and personal data are found, placeholders are not, and nothing found is repeated."""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import PurePath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zora_core import secrets, unmarked
from zora_core.secrets import (
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


# A typed password in place of PW.
PROSE = [
    "the password is PW",
    "The password for the shop's admin account is PW.",
    "password was changed to PW, tell Bo",
    "Our API key is `PW`",
    "the token is now PW",
    "The password is: **PW**",
    "Passwort: PW",
    "Das Passwort für den Server lautet PW.",
    "Kennwort ist „PW“",
    "mot de passe : PW",
    "Le mot de passe du serveur est « PW ».",
    "contraseña: PW",
    "La contraseña de la tienda es PW",
    "senha: PW",
    "a password è PW",
    "Het wachtwoord is PW",
    "пароль: PW",
    "密码是PW",
    "パスワード：PW",
    "**Passwort:** PW",
    "<b>Passwort</b>: PW",
]


@pytest.mark.parametrize(
    "text",
    ["log in as bob with the password PW", "Passwort PW (bitte ändern)", "con la contraseña PW.", "password `PW`"],
)
@pytest.mark.parametrize("password", ["Sommer2024", "hunter2!xy", "c0rrect-Horse7"])
def test_a_password_is_found_without_a_verb_when_it_is_no_word(text: str, password: str) -> None:
    assert password not in redact(text.replace("PW", password))


@pytest.mark.parametrize("password", ["hunter2", "hunter2Xy9!", "Mango-Tiger-42", "Tr@ubador", "q7Zt-K2mP_x9"])
@pytest.mark.parametrize("text", PROSE)
def test_a_password_in_prose_is_found(text: str, password: str) -> None:
    shown = redact(text.replace("PW", password))
    assert password not in shown
    assert shown.startswith(text[:2])


@pytest.mark.parametrize(
    "text",
    [
        "the password is required",
        "the password is required!",
        "password: at least 12 characters",
        "Passwort: mindestens 12 Zeichen",
        "Passwort vergessen?",
        "Das Passwort ist falsch.",
        "mot de passe : obligatoire",
        "Mot de passe oublié ?",
        "contraseña: mínimo 8 caracteres",
        "¿Olvidó su contraseña?",
        "secret ingredient is love",
        "The secret is patience.",
        "The secret of success is hard-work.",
        "the password is case-sensitive",
        "the password is (optional)",
        "the password is 12-character",
        "the password is 12+ characters long",
        "the token is base64-encoded",
        "the token is OAuth2-based",
        "the password is SHA-256 hashed, then stored",
        "the token is valid until 2026-03-01T10:00:00Z",
        "the token was 2026-03-01T10:00:00Z old",
        "the password is in /etc/shop/env",
        "the secret is /run/secrets/db_1",
        "the password is username/password",
        "the password is the user's",
        "token is not None and user2 is None",
        "our access key is SHOP-1234",
        "the password was sent to jane@acme-corp.org",
        "the password is user_password_input",
        "password manager is 1Password",
        "La parola è d'oro",
        "the password Argon2id-hash",
        "the password SHA-256 digest",
        "a password of 12 characters",
        "password 2FA-protected",
        "password reset2",
        "clave: importante",
    ],
)
def test_talking_about_a_password_is_no_alarm(text: str) -> None:
    assert find_secrets(text) == []


DIVIDERS = [
    "<wbr>",
    "<wbr/>",
    "<!-- -->",
    "\u00ad",
    "&shy;",
    "&#xAD;",
    "\u200b",
    "\u2060",
    "\ufeff",
    "</b><b>",
    "\x1b[0m",
]


@pytest.mark.parametrize("divider", DIVIDERS)
@pytest.mark.parametrize(
    "text",
    [
        SAMPLES["github-token"],
        SAMPLES["aws-access-key-id"],
        f"Authorization: Bearer {ALNUM[20:52]}",
        "Passwort: hunter2Xy9!",
        'password = "c0rrect-Horse7"',
        "postgres://zora:vErys3cretpw@db.internal/zora",
    ],
)
def test_a_secret_that_markup_divides_is_masked_whole(text: str, divider: str) -> None:
    (whole,) = find_secrets(text)
    secret = text[whole.start : whole.end]
    for place in range(1, len(text)):
        divided = f"see {text[:place]}{divider}{text[place:]} there"
        shown = redact(divided)
        read = unmarked_text(shown)
        assert secret[-6:] not in read, place
        assert read.startswith("see ")
        assert read.endswith(" there")
        assert unmasked(shown).fullmatch(divided)


def unmarked_text(text: str) -> str:
    read = unmarked.unmarked(text)
    return text if read is None else read.text


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from([*DIVIDERS, "a", "&lt;", "&NotEqualTilde;", "<", ">", "&"])).map("".join)
)
def test_what_is_read_knows_where_it_stands(text: str) -> None:
    if (read := unmarked.unmarked(text)) is not None:
        assert len(read.text) == len(read.starts) == len(read.ends)
        for place, character in enumerate(read.text):
            start, end = read.original(place, place + 1)
            assert text[start:end] == character or text[start] == "&"


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
        *(" is ", " lautet ", "passwort : ", "mot de passe", "<wbr>", "\u00ad", "&amp;"),
        *('="Zk29dlQm81xPw0"', ": vErys3cretpw", "postgres://u:", "@db", "c0rrect-Horse7", "jane.roe@acme-corp.org"),
        *("+44 20 7946 0958", "SSN ", "219-09-9999", "_", "-", " ", "\n", "\u0130", "ß", "A", "7"),
    ]
)


@given(st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join))
@example('\u0130 to\u212aen = "c0rrect-Horse7"')
@example('to\u212aen \u017fecret="c0rrect-Horse7"')
@example("tokentoken=tokentoken=tR4nsit0ry88")
def test_looking_for_beginnings_first_changes_no_answer(text: str) -> None:
    for name in ("secret", "personal"):
        table = secrets._table(name)
        everywhere = tuple(replace(pattern, starts=(), contains=()) for pattern in table.patterns)
        assert secrets._find(text, table) == secrets._find(
            text, table._replace(patterns=everywhere, literals=frozenset({""}), shortest=("",))
        )


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
