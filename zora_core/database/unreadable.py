"""JSON from the database, also where it holds what our reader of JSON cannot follow.

Rows may be written by other programs. What cannot be read is left out alone, so that the rows beside it are read.
"""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

from pydantic_core import from_json

MAX_LEVELS = 150  # that are read; `from_json` gives up at about 200, and an answer over HTTP wraps a row in a few
MAX_DIGITS = 300

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]|-?\d{%d,}' % MAX_DIGITS)


class Unreadable(str):
    """Stands for a value that was left out; as text it says why."""


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text, with an `Unreadable` in place of what is nested too deep and of too long numbers.

    Raises `ValueError` for what is no JSON.
    """
    try:
        return from_json(text)
    except ValueError:
        shortened, placeholder = _shortened(text.encode() if isinstance(text, str) else text)
        return _marked(from_json(shortened), placeholder)


def is_readable(value: Any) -> bool:
    """Whether nothing of a value was left out."""
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, Unreadable):
            return False
        if isinstance(one, dict):
            stack += one.values()
        elif isinstance(one, list):
            stack += one
    return True


def _shortened(text: bytes) -> tuple[bytes, str]:
    """The text with a placeholder, which occurs nowhere else, for what cannot be read."""
    placeholder = uuid4().hex
    kept, begin, level = [], 0, 0
    for token in _TOKEN.finditer(text):
        match text[token.start()]:
            case 0x5B | 0x7B:  # [ {
                level += 1
                if level == MAX_LEVELS:
                    kept.append(text[begin : token.start()])
            case 0x5D | 0x7D:  # ] }
                if level == MAX_LEVELS:
                    kept.append(f'"{placeholder}"'.encode())
                    begin = token.end()
                level -= 1
            case 0x22:
                pass
            case _:
                if level < MAX_LEVELS:
                    kept += [text[begin : token.start()], f'"{placeholder}"'.encode()]
                    begin = token.end()
    return b"".join([*kept, text[begin:]]), placeholder


def _marked(value: Any, placeholder: str) -> Any:
    if value == placeholder:
        return Unreadable("(left out: nested too deep, or too long a number)")
    if isinstance(value, list):
        return [_marked(one, placeholder) for one in value]
    if isinstance(value, dict):
        return {key: _marked(one, placeholder) for key, one in value.items()}
    return value
