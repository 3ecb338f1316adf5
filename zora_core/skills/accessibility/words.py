"""The word lists of the accessibility rules, read from the data file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_lowercase

from zora_core.data import load


@dataclass(frozen=True)
class Words:
    """Words that tell something about links, images, titles, labels and languages."""

    generic_links: frozenset[str]
    document_extensions: frozenset[str]
    uninformative_alts: frozenset[str]
    image_extensions: frozenset[str]
    generic_titles: frozenset[str]
    generic_labels: frozenset[str]
    autofill: frozenset[str]
    autofill_contact: frozenset[str]
    rtl_languages: frozenset[str]
    languages: dict[str, frozenset[str]]


@lru_cache(maxsize=1)
def words() -> Words:
    """The lists of the data file."""
    lists = load("accessibility_words")
    return Words(
        generic_links=frozenset(lists["links"]["generic"]),
        document_extensions=frozenset(lists["links"]["documents"]),
        uninformative_alts=frozenset(lists["images"]["uninformative"]),
        image_extensions=frozenset(lists["images"]["extensions"]),
        generic_titles=frozenset(lists["titles"]["generic"]),
        generic_labels=frozenset(lists["labels"]["generic"]),
        autofill=frozenset(lists["autocomplete"]["fields"]),
        autofill_contact=frozenset(lists["autocomplete"]["contact_fields"]),
        rtl_languages=frozenset(lists["languages"]["rtl"]),
        languages={code: frozenset(listed.split()) for code, listed in lists["languages"]["words"].items()},
    )


@lru_cache(maxsize=1)
def registered_languages() -> tuple[frozenset[str], frozenset[str]]:
    """What the IANA Language Subtag Registry lists, in lower case: primary language subtags, and grandfathered tags.

    The subtags include the private range `qaa` to `qtz`.
    """
    from langcodes.registry_parser import parse_registry

    entries: list[dict[str, str]] = list(parse_registry())  # type: ignore[no-untyped-call]
    listed = {entry["Subtag"].lower() for entry in entries if entry["Type"] == "language" and "Subtag" in entry}
    private = {f"q{a}{b}" for a in ascii_lowercase[:20] for b in ascii_lowercase}
    whole = {entry["Tag"].lower() for entry in entries if entry["Type"] == "grandfathered"}
    return frozenset(listed | private), frozenset(whole)


def guess_language(text: str) -> str | None:
    """The language a passage is written in, or None when its frequent words do not settle it.

    Counts the frequent words of each language; the best needs three hits and twice as many as any other.
    """
    tokens = re.findall(r"[^\W\d_]+", text.lower())
    hits = {code: sum(token in listed for token in tokens) for code, listed in words().languages.items()}
    ranked = sorted(hits, key=lambda code: (-hits[code], code))
    best, second = ranked[0], ranked[1]
    enough = hits[best] >= 3 and hits[best] >= 2 * max(hits[second], 1) and hits[best] * 6 >= len(tokens)
    return best if enough else None
