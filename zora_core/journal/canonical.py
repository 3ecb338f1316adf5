"""What is hashed, byte for byte. docs/journal.md describes it for those who verify without us.

Every text here has the form in which PostgreSQL prints jsonb: keys ordered by their length in bytes, then by their
bytes; `, ` and `: ` between things; numbers as they are stored; escaped are only `"`, `\\` and the characters below
U+0020. The functions in `seal_journal.sql` make the same bytes; a test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from json.encoder import encode_basestring as quoted
from typing import Any, NamedTuple
from uuid import UUID

VERSION = 1
ERASED_TITLE = "[erased]"
NO_BLOCK = bytes(32)  # stands for the hash of the block before the first one


class Entry(NamedTuple):
    """An entry as it is hashed. `content` is None when its text was erased; `digest` is that of `text`."""

    id: str
    text: str
    content: str | None
    digest: bytes


class Block(NamedTuple):
    """A sealed block as it is stored: the signed text and the list that its chain was made of."""

    number: int
    header: str
    signature: bytes
    entry_ids: bytes
    entry_digests: bytes


class Header(NamedTuple):
    """What a block's header says."""

    tenant_id: str
    number: int
    previous: bytes
    first_id: str
    last_id: str
    entries: int
    link: bytes
    sealed_at: str
    public_key: bytes


def digest(text: str) -> bytes:
    """SHA-256 of a text in UTF-8. A half of a surrogate pair, which only a forged export can hold, fits nothing."""
    return sha256(text.encode(errors="surrogatepass")).digest()


def chained(link: bytes, entry_id: bytes, entry_digest: bytes) -> bytes:
    """The next link of the chain over a block's entries; the first one starts from the previous header's hash."""
    return sha256(link + entry_id + entry_digest).digest()


def read_json(text: str | bytes) -> Any:
    """The JSON in a text; raises `ValueError` for any text that cannot be read, also for one that is nested deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_header(text: str) -> Header:
    """Take a header apart; raises `ValueError` when it is none of ours."""
    try:
        fields = read_json(text)
        if fields.pop("version") != VERSION:
            raise ValueError(f"version of the header is not {VERSION}: upgrade zora")
        header = Header(
            **{
                **fields,
                "previous": bytes.fromhex(fields["previous"]),
                "link": bytes.fromhex(fields["link"]),
                "public_key": bytes.fromhex(fields["public_key"]),
            }
        )
        for identifier in (header.tenant_id, header.first_id, header.last_id):
            UUID(identifier)
        if not all(isinstance(number, int) and number >= 0 for number in (header.number, header.entries)):
            raise ValueError("its numbers are none")
        if not isinstance(header.sealed_at, str):
            raise ValueError("sealed_at must be a time")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a header of a block: {error}") from error
    return header


def entry_of(row: Mapping[str, Any]) -> Entry:
    """An entry from a row of `journal_entry_texts` in `read_journal.sql`.

    A row that says it was erased and still has a text is not believed: the text would stand there unproven.
    """
    erased = row["erased_content"]
    title, body, details = row["title"], row["body"], row["details"]
    if erased is not None and (title, body, details, row["salt"]) == (ERASED_TITLE, None, "{}", None):
        content = None
        proof = erased
    else:
        content = content_text(row["salt"], title, body, details)
        proof = digest(content).hex()
    text = entry_text(row, proof)
    return Entry(row["id"], text, content, digest(text))


def content_text(salt: str | None, title: str, body: str | None, details: str) -> str:
    """The part of an entry that can be erased; `details` as jsonb prints it."""
    return f'{{"body": {_or_null(body)}, "salt": {_or_null(salt)}, "title": {quoted(title)}, "details": {details}}}'


def entry_text(row: Mapping[str, Any], content: str) -> str:
    """The entry itself; `content` is the SHA-256 of its content, in hexadecimal."""
    return (
        f'{{"id": "{row["id"]}", "author": {_or_null(row["author"])}, "content": "{content}", '
        f'"task_id": {_or_null(row["task_id"])}, "category": {quoted(row["category"])}, '
        f'"tenant_id": "{row["tenant_id"]}", "created_at": "{row["created_at"]}", '
        f'"event_type": {quoted(row["event_type"])}, "related_entity_ids": {row["related_entity_ids"]}}}'
    )


def _or_null(value: str | None) -> str:
    return "null" if value is None else quoted(value)
