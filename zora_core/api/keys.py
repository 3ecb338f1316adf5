"""API keys: what they look like, and what is kept of them.

A key is `zora_` and eight characters that tell it from others, its prefix, then `_` and 256 random bits. Kept are the
prefix and the SHA-256 of the whole text: 256 bits cannot be guessed, so that a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from dataclasses import dataclass, field

_PREFIX_CHARACTERS = string.ascii_lowercase + string.digits
_KEY = re.compile(r"(zora_[a-z0-9]{8})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A key just made. `key` is for its user alone, once; `prefix` and `hash` (SHA-256, 32 bytes) are kept."""

    key: str = field(repr=False)
    prefix: str
    hash: bytes = field(repr=False)


def new_key() -> NewKey:
    """A new random key."""
    prefix = "zora_" + "".join(secrets.choice(_PREFIX_CHARACTERS) for _ in range(8))
    key = f"{prefix}_{secrets.token_urlsafe(32)}"
    return NewKey(key=key, prefix=prefix, hash=_hash(key))


def parse_key(text: str) -> tuple[str, bytes] | None:
    """The prefix and the SHA-256 of a key, or None when the text is not a key."""
    match = _KEY.fullmatch(text)
    return (match[1], _hash(text)) if match else None


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("ascii")).digest()
