"""Text that can be stored: PostgreSQL keeps neither NUL characters nor halves of a surrogate pair."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zora_core.errors import InvalidInput

UNSTORABLE = re.compile("[\0\ud800-\udfff]")
MAX_DEPTH = 100  # of nested lists and objects; readers of JSON give up at 200
# What refers to itself many times over, as YAML may, is larger than its text.
MAX_VALUES = 2_000_000
MAX_CHARACTERS = 50_000_000  # of all texts and keys together
_SMALL = 64  # values and characters of what is looked at again each time it occurs: cheaper than remembering it
_MAX_SHOWN_KEY = 100  # characters
_CONTAINERS = (dict, list, tuple, Mapping)  # the usual ones first: looking at an abstract class takes long


@dataclass(slots=True)
class _Open:
    """A list or an object whose items are being looked at."""

    container: Any
    items: Iterator[tuple[Any, Any]]
    values: int
    """How many values there were before it; `characters` likewise."""
    characters: int
    key: Any = None
    """The key of the item that is being looked at."""
    height: int = 1
    """Number of levels found in it, its own included."""


def problem(value: Any, name: str, *, texts: bool = True) -> str | None:
    """What cannot be stored of a text, or of anything that JSON has, in one sentence; None when all can.

    `name` is what the value is called, such as `title` or `payload`. Without `texts`, only the size and the depth are
    checked.

    Large lists and objects are walked through once, however often they occur, and a path is written only for what is
    wrong: an input of a few hundred kilobytes can hold a hundred thousand values below a key of the same length.
    """
    if _is_plainly_storable(value, texts=texts):
        return None
    values = characters = 0
    known: dict[int, tuple[Any, int, int, int]] = {}  # holds the containers, so that no other one gets their id
    stack = [_Open([value], iter([(0, value)]), 0, 0)]
    while stack:
        top = stack[-1]
        for place, one in top.items:
            top.key = place
            values += 1
            new = None
            if isinstance(one, str):
                characters += len(one)
                if texts and (found := _unstorable(one)):
                    return f"{_path(name, stack)} {_what(found)}"
            elif isinstance(one, _CONTAINERS):
                seen = known.get(id(one))
                if len(stack) - 1 + (seen[3] if seen else 1) > MAX_DEPTH:
                    return f"{name} is nested deeper than {MAX_DEPTH} levels: give it a flatter structure"
                if seen:
                    values, characters = values + seen[1], characters + seen[2]
                    top.height = max(top.height, seen[3] + 1)
                else:
                    new = _Open(one, _items(one), values, characters)
                    keys = [key for key in one if isinstance(key, str)] if isinstance(one, Mapping) else []
                    characters += sum(map(len, keys))
                    if texts and (wrong := next(filter(_unstorable, keys), None)) is not None:
                        said = "which cannot be stored: it holds a NUL or half a character"
                        return f"{_path(name, stack)} has the key {_shown(wrong)!r}, {said}"
            if values > MAX_VALUES:
                return f"{name} holds more than {MAX_VALUES:,} values: give less at once"
            if characters > MAX_CHARACTERS:
                return f"{name} holds more than {MAX_CHARACTERS:,} characters: give less at once"
            if new:
                stack.append(new)
                break
        else:
            stack.pop()
            size = (values - top.values, characters - top.characters)
            if max(size) > _SMALL:
                known[id(top.container)] = (top.container, *size, top.height)
            if stack:
                stack[-1].height = max(stack[-1].height, top.height + 1)
    return None


def _is_plainly_storable(value: Any, *, texts: bool) -> bool:
    """Whether a value is small and plain, as most are; False says nothing yet.

    So few values cannot be nested too deep, and count as often as they occur.
    """
    stack, values, characters = [value], 0, 0
    while stack:
        one = stack.pop()
        values += 1
        if values > _SMALL:
            return False
        kind = type(one)
        if kind is str:
            if texts and (not one.isascii() or "\0" in one):
                return False
            characters += len(one)
        elif kind is dict:
            if len(one) > _SMALL:
                return False
            stack += one
            stack += one.values()
        elif kind is list or kind is tuple:
            if len(one) > _SMALL:
                return False
            stack += one
        elif kind is not int and kind is not float and kind is not bool and one is not None:
            return False
    return characters <= MAX_CHARACTERS


def check_storable(value: Any, name: str, *, texts: bool = True) -> None:
    """Raise `InvalidInput` with the `problem` of a value that cannot be stored."""
    if said := problem(value, name, texts=texts):
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


def _items(container: Any) -> Iterator[tuple[Any, Any]]:
    return iter(container.items() if isinstance(container, Mapping) else enumerate(container))


def _unstorable(text: str) -> re.Match[str] | None:
    """The first character that cannot be stored; quickly None for the usual text."""
    return None if text.isascii() and "\0" not in text else UNSTORABLE.search(text)


def _path(name: str, stack: list[_Open]) -> str:
    """Where the item lies that is being looked at, such as `payload.pages[2].title`."""
    steps = [f".{_shown(at.key)}" if isinstance(at.container, Mapping) else f"[{at.key}]" for at in stack[1:]]
    return name + "".join(steps)


def _shown(key: Any) -> str:
    text = str(key)
    return text if len(text) <= _MAX_SHOWN_KEY else f"{text[:_MAX_SHOWN_KEY]}…"


def _what(found: re.Match[str]) -> str:
    code, place = ord(found[0]), found.start() + 1
    if not code:
        return f"has a NUL character at position {place}, which cannot be stored: remove it"
    if 0xDC80 <= code <= 0xDCFF:
        return f"is not UTF-8 (byte 0x{code - 0xDC00:02x} at position {place}): encode it as UTF-8"
    return f"has half a character (surrogate U+{code:04X}) at position {place}, which cannot be stored: remove it"
