"""A text without what divides words unseen: inline tags, comments, entities, colour codes, invisible characters."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

_INVISIBLE = (
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e01ef]"
)
_INLINE = "wbr|a|abbr|b|bdi|bdo|cite|code|del|em|font|i|ins|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|tt|u|var"
_UNSEEN = re.compile(
    rf"(?is:<!--.*?(?:-->|\Z))|(?i:</?(?:{_INLINE})(?:[\s/][^<>]{{0,400}})?>)|\x1b\[[0-9;]{{0,20}}[A-Za-z]|{_INVISIBLE}"
    r"|&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]\w{1,30});"
)
_INVISIBLE_ONLY = re.compile(_INVISIBLE)
_PERHAPS_UNSEEN = re.compile(rf"{_INVISIBLE[:-1]}<&]")  # how any of it begins; most texts are done with after this


@dataclass(frozen=True)
class Unmarked:
    """`text` as it is read; its character i stands at `starts[i]` to `ends[i]` of the original."""

    text: str
    starts: list[int]
    ends: list[int]

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Where the part from `start` to `end`, which is not empty, stands in the original."""
        return self.starts[start], self.ends[end - 1]


def unmarked(text: str) -> Unmarked | None:
    """`text` as it is read, with entities as their characters; None when nothing divides its words."""
    if _PERHAPS_UNSEEN.search(text) is None:
        return None
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    position = 0
    for match in _UNSEEN.finditer(text):
        read = _INVISIBLE_ONLY.sub("", html.unescape(match[0])) if match[0].startswith("&") else ""
        parts += [text[position : match.start()], read]
        starts += [*range(position, match.start()), *[match.start()] * len(read)]
        ends += [*range(position + 1, match.start() + 1), *[match.end()] * len(read)]
        position = match.end()
    if not parts:
        return None
    starts += range(position, len(text))
    ends += range(position + 1, len(text) + 1)
    return Unmarked("".join([*parts, text[position:]]), starts, ends)
