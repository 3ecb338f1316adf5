"""Text without its secrets, for logs, journals and errors.

`find_secrets` knows credentials by their format and their randomness, for a reader who wants no false alarm. Here a
false alarm costs a word of a log and a miss costs a password, so that what merely stands where secrets stand is masked
too, however short or plain: after `password=`, after `Bearer`, in a URL. Personal data stay: an address in a log says
whom it concerns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from zora_core.secrets import find_secrets
from zora_core.unmarked import unmarked

LIMIT = 20_000
"""Characters of a text that are looked at and kept, so that a giant text costs no more than a long one."""
# Looked at but not kept, so that a secret on the edge is seen whole: a private key has up to 8,000 characters.
_MARGIN = 10_000
_MASK = "[masked]"

# Every pattern takes time linear in the text, or has bounds that make it so: a possessive `++`, `{0,40}`, or an end of
# text where it would otherwise start again. tests/test_masking.py tries hostile texts.

# A quote may be escaped, as in JSON within JSON. A quoted value that is cut off goes to the end of the text.
_QUOTED = r"""[bBfFrRuU]{0,2}(?P<quote>\\*["'])(?s:.*?)(?:(?<!\\)(?P=quote)|\Z)"""
_ASSIGN = r"""[\\"'\])]{0,4}[ \t\u00a0\u202f]*+(?>=>|:=|==?|[:：])(?:(?:\*\*|__)(?=\s))?[ \t\u00a0\u202f]*+"""
# What may stand after a telling name and is no secret: that there is none, and pydantic's words about a field.
_NO_VALUE = (
    r"(?:None|null|[Tt]rue|[Ff]alse|\[masked\]|Field required|Extra inputs are not permitted"
    r"|(?:[Aa]t (?:least|most)|(?:[Mm]ust|[Ss]hould) (?:be|contain|have|match|not)|[Tt]oo (?:common|long|short|weak))"
    r"""|(?:Input|Value|String) should (?:be|have))(?=[,;)\]}]*+(?:[\s"']|\Z))"""
)
_NAME = (
    r"(?i:passw(?:or)?d|passwort|kennwort|mot de passe|contrase[nñ]a|senha|palavra-passe|parola d'ordine|wachtwoord"
    r"|lösenord|adgangskode|hasło|salasana|пароль|密码|密碼|パスワード|passcode|passphrase|pwd|secret|token|credential|authorization|cookie"
    r"|(?:api|access|account|encryption|master|private|service(?:[_-]?role)?|shared|signing)[ _-]?key)[sS]?"
    # What is about a secret, without being one. A name may go on otherwise: password_hash, passwordHash, PASSWORD2.
    r"(?!(?i:[_-]?(?:count|id|limit|name|type|ur[il])s?)(?![\w-]))(?:[A-Z0-9_.-][\w.-]{0,40})?"
)

# name=value, 'name': 'value', Key (name)=(value)
_ASSIGNED = re.compile(rf"{_NAME}{_ASSIGN}(?!{_NO_VALUE})")
_QUOTED_VALUE = re.compile(rf"{_QUOTED}[^\s,;:&)\]}}>]{{0,64}}")
_OPENING = re.compile(r"[\w.-]{0,60}[\[{(]")
_CLOSING = re.compile(r"[\])}]|\Z")
_SPACE = re.compile(r"\s|\Z")

_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        # ('name', 'value') and --name value, in lists too.
        rf"""(?:\([bBuU]?["']|--(?!-))[\w-]{{0,40}}?{_NAME}(?:["'],[ ]?(?=[bBuU]?["'])|[ ])"""
        rf"""(?=(?P<value>{_QUOTED}|[^\s"',()]++))""",
        # A header's value goes to the end of its line.
        rf"(?i:authorization|cookies?){_ASSIGN}(?!{_NO_VALUE})(?P<value>{_QUOTED}|[^\r\n]++)",
        # `Bearer` before a word about tokens is prose; a WWW-Authenticate header has its realm and error there.
        r"""(?i:\bbearer[ \t:=]{1,8}(?!(?:auth|authentication|authorization|scheme|tokens?)["'.,;:)]*+(?:\s|\Z))"""
        r"""(?!(?:realm|error)="))(?P<value>[^\s"'\\]++)""",
        # JWS and JWE, the payload of any form.
        r"(?<![\w-])(?P<value>eyJ[\w-]*\.[\w-]*\.[\w.-]*)",
        # A private key that is not as it should be, cut off for example.
        r"(?s:-----BEGIN [A-Z0-9 ]{0,40}(?P<value>PRIVATE KEY.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY|\Z)))",
        # Pydantic quotes what it refuses, cut in the middle, so that the name that tells of a secret may be missing.
        r"input_value=(?!None,|True,|False,)(?P<value>(?s:.{0,400}?)), input_type=",
    )
)
_URL = re.compile(r"://\S*+")
_LOGIN = re.compile(r"""://[^\s:/@"'<>]*+:""")


def mask(text: str) -> str:
    """`text` with every secret replaced by `[masked]`, and cut after `LIMIT` characters.

    A value without quotes ends at white space. A format that names its issuer keeps its public prefix, as in
    `zora_ab12cd34[zora-api-key, 57 characters]`.
    """
    parts, position = [], 0
    for start, end, shown in _merged(text[: LIMIT + _MARGIN]):
        if start >= LIMIT:
            break
        parts += [text[position:start], shown]
        position = end
    end = max(position, min(LIMIT, len(text)))
    parts.append(text[position:end])
    if end < len(text):
        parts.append(f" [{len(text) - end:,} characters cut]")
    return "".join(parts)


def _merged(text: str) -> Iterator[tuple[int, int, str]]:
    """Where secrets stand, and what to show there: a known format's public prefix, if one is within."""
    spans = [(start, end, "") for start, end in _telling(text)]
    if (read := unmarked(text)) is not None:  # what markup and invisible characters divide
        spans += [(*read.original(start, end), "") for start, end in _telling(read.text) if start < end]
    spans += [(m.start, m.end, "" if m.masked.startswith("[") else m.masked) for m in find_secrets(text)]
    start, end, shown = 0, 0, ""
    for next_start, next_end, next_shown in sorted(spans):
        if next_start < end:
            end, shown = max(end, next_end), shown or next_shown
            continue
        if end:
            yield start, end, shown or _MASK
        start, end, shown = next_start, next_end, next_shown
    if end:
        yield start, end, shown or _MASK


def _telling(text: str) -> Iterator[tuple[int, int]]:
    """What stands where secrets stand, however plain."""
    for pattern in _PATTERNS:
        yield from (match.span("value") for match in pattern.finditer(text))
    yield from _assigned(text)
    yield from _url_passwords(text)


def _assigned(text: str) -> Iterator[tuple[int, int]]:
    """What is given to a telling name: in quotes, in brackets (to the first that closes), or up to white space.

    Names within such a value are looked at as well, for it may be taken to be longer than it is.
    """
    closing = space = 0  # the first such after the values so far: what ends there need not be looked for again
    for name in _ASSIGNED.finditer(text):
        start = name.end()
        if start == len(text) or text[start].isspace():
            continue
        if quoted := _QUOTED_VALUE.match(text, start):
            yield start, quoted.end()
            continue
        if (opening := _OPENING.match(text, start)) and opening.end() > closing:
            closing = _position(_CLOSING, text, opening.end())
            space = max(space, _position(_SPACE, text, closing))
            yield start, space
        elif not opening and start >= space:
            space = _position(_SPACE, text, start)
            yield start, space


def _position(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.search(text, start)
    assert match is not None  # the patterns match the end of the text
    return match.start()


def _url_passwords(text: str) -> Iterator[tuple[int, int]]:
    """From the first colon of a URL's login to its last @: a password that should have been escaped may contain any."""
    for url in _URL.finditer(text):
        login, at = _LOGIN.search(url[0]), url[0].rfind("@")
        if login and login.end() < at:
            yield url.start() + login.end(), url.start() + at
