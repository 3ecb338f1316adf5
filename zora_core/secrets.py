"""Credentials and personal data in text: where they stand, and the text without them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import PurePath
from typing import NamedTuple

from zora_core.data import load
from zora_core.unmarked import unmarked as read_unmarked

_LETTERS = str.maketrans("\u0130\u0131\u017f\u212a", "iisk")


@dataclass(frozen=True)
class SecretMatch:
    """A credential or a piece of personal data: `text[start:end]`; `masked` may be shown in its place."""

    kind: str
    start: int
    end: int
    masked: str


@dataclass(frozen=True)
class _Pattern:
    kind: str
    regex: re.Pattern[str]
    starts: tuple[str, ...]
    contains: tuple[str, ...]
    keep: int
    check: str
    exception: re.Pattern[str] | None


class _Table(NamedTuple):
    """Patterns that are searched for together.

    `literals` are what they need. Nothing is found in a text that has none of `shortest`, of which every literal holds
    one; the empty one stands for patterns that need none.
    """

    patterns: tuple[_Pattern, ...]
    literals: frozenset[str]
    shortest: tuple[str, ...]


def find_secrets(text: str) -> list[SecretMatch]:
    """Credentials in `text`, in order and without overlaps; placeholders such as `your_api_key` are left out.

    The formats and the threshold of randomness stand in `data/risk_secrets.toml`.
    """
    return _find(text, _table("secret"))


def find_personal_data(text: str) -> list[SecretMatch]:
    """E-mail addresses, phone and national numbers, cards (Luhn) and IBANs (ISO 13616 check digits) in `text`."""
    return _find(text, _table("personal"))


def redact(text: str) -> str:
    """`text` with every credential and every piece of personal data replaced by its masked form."""
    parts, position = [], 0
    for match in _without_overlaps([*find_secrets(text), *find_personal_data(text)]):
        parts += [text[position : match.start], match.masked]
        position = match.end
    return "".join([*parts, text[position:]])


def without_secrets(data: bytes) -> bytes:
    """The content of a file with credentials masked; what is not text stays as it is."""
    if b"\0" in data[:8000]:
        return data
    text = data.decode("utf-8", "surrogateescape")
    masked = without_credentials(text)
    return data if masked is text else masked.encode("utf-8", "surrogateescape")


def without_credentials(text: str) -> str:
    """`text` with every credential replaced by its masked form; the same object when it has none."""
    parts, position = [], 0
    for match in find_secrets(text):
        parts += [text[position : match.start], match.masked]
        position = match.end
    return "".join([*parts, text[position:]]) if parts else text


def hides_secrets(path: PurePath) -> str | None:
    """Why a file or folder is not read at all, by its path below a root: it is hidden, or usually holds credentials."""
    hidden = next((part for part in path.parts if part.startswith(".")), None)
    if hidden is not None:
        return f"{hidden!r} is hidden, and hidden files often hold credentials"
    name = path.name.lower()
    if any(fnmatch(name, pattern) for pattern in load("risk_secrets")["credential_files"]):
        return "files of this name usually hold credentials"
    return None


def unmasked(text: str) -> re.Pattern[str]:
    """A pattern for what `text` was before `redact`: what a mask hides counts by its length alone."""
    parts, position = [], 0
    for mask in _mask().finditer(text):
        least, most = (max(0, int(mask["length"]) - kept) for kept in _kept(mask["kind"]))
        hidden = f"(?:{re.escape(mask[0])}|(?s:.){{{least},{most}}})"  # or the text had the mask itself
        parts += [re.escape(text[position : mask.start()]), hidden]
        position = mask.end()
    return re.compile("".join([*parts, re.escape(text[position:])]))


def cut(text: str, length: int) -> str:
    """The first `length` characters of a text that `redact` has masked; a mask is left out rather than cut."""
    half = next((m for m in _mask().finditer(text) if m.start() < length < m.end()), None)
    return text[: half.start() if half else length]


def _find(text: str, table: _Table) -> list[SecretMatch]:
    found = [_shown(text, start, end, start + p.keep, p) for start, end, p in _search(text, table)]
    if text.isascii() and text.isprintable() and "<" not in text and "&" not in text:  # most texts: nothing is hidden
        return _without_overlaps(found)
    if (read := read_unmarked(text)) is not None:
        for start, end, pattern in _search(read.text, table):
            public = read.ends[start + pattern.keep - 1] if pattern.keep else read.starts[start]
            found.append(_shown(text, *read.original(start, end), public, pattern))
    return _without_overlaps(found)


def _shown(text: str, start: int, end: int, public: int, pattern: _Pattern) -> SecretMatch:
    """A match that shows its characters up to `public`; the length that its mask tells is without markup in these."""
    masked = f"{text[start:public]}[{pattern.kind}, {end - public + pattern.keep} characters]"
    return SecretMatch(pattern.kind, start, end, masked)


def _search(text: str, table: _Table) -> Iterator[tuple[int, int, _Pattern]]:
    lowered = _lower(text)
    for literal in table.shortest:
        if literal in lowered:
            break
    else:
        return
    present = {literal for literal in table.literals if literal in lowered}
    for pattern in table.patterns:
        if not present.issuperset(pattern.contains) or (pattern.starts and present.isdisjoint(pattern.starts)):
            continue
        for match in _matches(pattern, text, lowered):
            group = "value" if "value" in pattern.regex.groupindex else 0
            if _passes(pattern, match[group]) and not ("name" in pattern.regex.groupindex and _names_something(match)):
                yield match.start(group), match.end(group), pattern


def _matches(pattern: _Pattern, text: str, lowered: str) -> Iterator[re.Match[str]]:
    """What `pattern.regex.finditer(text)` gives, ten times as fast on source code as that."""
    if not pattern.starts:
        yield from pattern.regex.finditer(text)
        return
    end = 0
    for position in sorted(p for literal in pattern.starts for p in _positions(literal, lowered)):
        if position >= end and (match := pattern.regex.match(text, position)):
            yield match
            end = match.end()


def _positions(literal: str, text: str) -> Iterator[int]:
    position = text.find(literal)
    while position >= 0:
        yield position
        position = text.find(literal, position + 1)


def _lower(text: str) -> str:
    """`text` in lower case, of the same length, with every letter that `re.IGNORECASE` takes for i, k or s as that."""
    odd = not text.isascii() and any(chr(letter) in text for letter in _LETTERS)
    return (text.translate(_LETTERS) if odd else text).lower()


def _without_overlaps(matches: list[SecretMatch]) -> list[SecretMatch]:
    """The earliest match wins, then the longest; of equals the first given, so specific patterns come first."""
    if not matches:
        return matches
    kept: list[SecretMatch] = []
    for match in sorted(matches, key=lambda m: (m.start, -m.end)):
        if not kept or match.start >= kept[-1].end:
            kept.append(match)
    return kept


def _passes(pattern: _Pattern, value: str) -> bool:
    if pattern.exception is not None and pattern.exception.search(value):
        return False
    match pattern.check:
        case "":
            return True
        case "placeholder":
            return not _is_placeholder(value)
        case "entropy":
            return not _is_placeholder(value) and _looks_random(value)
        case "typed":
            return not _is_placeholder(value) and _looks_typed(value)
        case "luhn":
            return _luhn(value)
        case "iban":
            return _iban(value)
        case unknown:
            raise ValueError(f"data/risk_secrets.toml: unknown check {unknown!r} of {pattern.kind}")


_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_IDENTIFIER = re.compile(r"[A-Za-z_$@#.][\w$.:/-]*")
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
# One word, perhaps with a sign ('string?', '=begin'); a place in a template or in markup; a regular expression.
_WORD_OR_PATTERN = re.compile(
    r"\A\W{0,2}[a-z]+\W{0,2}\Z|\A\{[\w.!:]+\}\Z|\A[:`]|\[masked\]|\(\?[:=!<]|\[\^|\\[sSdDwWb](?![A-Za-z])"
)
_PLAIN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s@]*")


def _names_something(match: re.Match[str]) -> bool:
    """Whether an assignment is about a secret without holding one: by the end of its name, or because of its value.

    The value is an address, an attribute of an object, or an identifier made of words, such as `user_password_input`.
    """
    rules = load("risk_secrets")
    words = [word.lower() for word in _WORD.findall(match["name"])]
    value = match["value"]
    if len(words) > 1 and words[-1] in rules["about_secrets"]:
        return True
    if _WORD_OR_PATTERN.search(value) or _PLAIN_URL.fullmatch(value):
        return True
    if "quote" not in match.re.groupindex and _DOTTED.fullmatch(value):
        return True
    inside = _WORD.findall(value)
    digits = sum(character.isdigit() for character in value)
    return (
        _IDENTIFIER.fullmatch(value) is not None
        and digits <= 2
        and any(word.lower() in rules["telling_words"] for word in inside)
        and all(len(word) > 2 for word in inside if word.isalpha())
    )


def _is_placeholder(value: str) -> bool:
    lowered = value.lower()
    rules = load("risk_secrets")
    return (
        lowered in rules["not_secret"]
        or len(set(lowered)) < 4
        or any(word in lowered for word in rules["placeholders"])
        or lowered.startswith(("${", "{{", "<", "%(", "$(", "os.environ", "process.env"))
    )


def _looks_random(value: str) -> bool:
    """Enough entropy, and more than one word's worth of letters: digits, symbols or mixed case inside."""
    mixed = any(c.isdigit() for c in value) or bool(re.search(r"[a-z][A-Z]|[^\w.\-/ ]", value))
    return mixed and entropy(value) >= load("risk_secrets")["min_bits"] - (0.8 if len(value) < 12 else 0)


# In prose: dates, tickets ("SHOP-12"), numbers with their unit ("12-character"), addresses and paths are no passwords.
_NO_PASSWORD = re.compile(
    r"\d{4}-\d\d-\d\d.*|[A-Z]{2,10}-\d+|\d[\d.,]*[-+]?[a-z]+(?:-[a-z]+)*|[\w.+-]+@[\w-]+(?:\.[A-Za-z]{2,})+|\.{0,2}/.*/.*"
)


def _looks_typed(value: str) -> bool:
    """Whether a word of prose is no word: digits or signs among its letters, beyond names as `base64` and `OAuth2`."""
    word = value.strip("!?()[]*_~.,:;'’…")
    if len(word) < 6 or _NO_PASSWORD.fullmatch(word):
        return False
    technical = re.compile(load("risk_secrets")["technical_words"])
    rest = "".join(piece for piece in re.split(r"([-_/+.])", word) if not technical.fullmatch(piece))
    signs = re.search(r"[^\w\s.,:;/+'’()&-]", rest) is not None and len(word) >= 8
    return any(c.isalpha() for c in rest) and (signs or any(c.isdigit() for c in rest))


def entropy(value: str) -> float:
    """Shannon entropy of the characters of `value`, in bits per character; 0 for an empty string."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def _luhn(value: str) -> bool:
    digits = [int(c) for c in value if c.isdigit()]
    doubled = [d * 2 - 9 if d > 4 else d * 2 for d in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(value: str) -> bool:
    compact = value.replace(" ", "")
    return 15 <= len(compact) <= 34 and int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


@cache
def _mask() -> re.Pattern[str]:
    """A mask as `_find` writes it, without the public beginning of the value."""
    kinds = "|".join(re.escape(p.kind) for table in ("secret", "personal") for p in _patterns(table))
    return re.compile(rf"\[(?P<kind>{kinds}), (?P<length>\d{{1,6}}) characters\]")


@cache
def _kept(kind: str) -> tuple[int, int]:
    """How many characters of a value of this kind its mask shows, at most and at least."""
    kept = [p.keep for table in ("secret", "personal") for p in _patterns(table) if p.kind == kind]
    return max(kept), min(kept)


@cache
def _table(name: str) -> _Table:
    patterns = _patterns(name)
    literals = frozenset(literal for p in patterns for literal in (p.starts + p.contains or ("",)))
    shortest = [one for one in literals if not any(other in one for other in literals if other != one)]
    return _Table(patterns, literals, tuple(shortest))


@cache
def _patterns(table: str) -> tuple[_Pattern, ...]:
    return tuple(
        _Pattern(
            kind=row["kind"],
            regex=re.compile(row["regex"]),
            starts=tuple(row.get("starts", ())),
            contains=tuple(row.get("contains", ())),
            keep=row.get("keep", 0),
            check=row.get("check", ""),
            exception=re.compile(row["except"]) if "except" in row else None,
        )
        for row in load("risk_secrets")[table]
    )
