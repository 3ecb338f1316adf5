"""Text that can be stored: PostgreSQL keeps neither NUL characters nor halves of a surrogate pair."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from zora_core.errors import InvalidInput

UNSTORABLE = re.compile("[\0\ud800-\udfff]")
MAX_DEPTH = 100  # of nested lists and objects; readers of JSON give up at 200
# What refers to itself many times over, as YAML may, is larger than its text.
MAX_VALUES = 2_000_000


def problem(value: Any, name: str) -> str | None:
    """What cannot be stored of a text, or of anything that JSON has, in one sentence; None when all can.

    `name` is what the value is called, such as `title` or `payload`.
    """
    stack: list[tuple[Any, str, int]] = [(value, name, 0)]
    values = 0
    while stack:
        one, path, depth = stack.pop()
        values += 1
        if values > MAX_VALUES:
            return f"{name} holds more than {MAX_VALUES:,} values: give less at once"
        if isinstance(one, str):
            if found := UNSTORABLE.search(one):
                return f"{path} {_what(found)}"
        elif isinstance(one, Mapping | list | tuple):
            if depth == MAX_DEPTH:
                return f"{name} is nested deeper than {MAX_DEPTH} levels: give it a flatter structure"
            if isinstance(one, Mapping):
                if key := next((key for key in one if isinstance(key, str) and UNSTORABLE.search(key)), None):
                    return f"{path} has the key {key!r}, which cannot be stored: it holds a NUL or half a character"
                stack += [(item, f"{path}.{key}", depth + 1) for key, item in reversed(list(one.items()))]
            else:
                stack += [(item, f"{path}[{place}]", depth + 1) for place, item in reversed(list(enumerate(one)))]
    return None


def check_storable(value: Any, name: str) -> None:
    """Raise `InvalidInput` with the `problem` of a value that cannot be stored."""
    if said := problem(value, name):
        raise InvalidInput(said)


def storable(text: str) -> str:
    """`text`, of the same length, with a replacement character in place of each that cannot be stored."""
    return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def escaped(text: str) -> str:
    """`text` with what cannot be stored shown as an escape: a byte of a file name that is not UTF-8 as `\\xe9`."""
    return UNSTORABLE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python reads a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code else "\\x00"


def _what(found: re.Match[str]) -> str:
    code, place = ord(found[0]), found.start() + 1
    if not code:
        return f"has a NUL character at position {place}, which cannot be stored: remove it"
    if 0xDC80 <= code <= 0xDCFF:
        return f"is not UTF-8 (byte 0x{code - 0xDC00:02x} at position {place}): encode it as UTF-8"
    return f"has half a character (surrogate U+{code:04X}) at position {place}, which cannot be stored: remove it"
