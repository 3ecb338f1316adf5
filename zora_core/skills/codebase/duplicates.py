"""Blocks of code that stand in more than one place."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from zora_core.models import Metric, Severity
from zora_core.skills.codebase.inventory import SourceFile
from zora_core.skills.codebase.issue import Issue, place, settings

_IMPORT = re.compile(r"(import|from|use|using|#include|package|require)\b")


@dataclass(frozen=True)
class _Lines:
    """The lines of a file that count: `texts[i]` without its spaces stands on line `numbers[i]`."""

    file: SourceFile
    texts: list[str]
    numbers: list[int]


@dataclass(frozen=True)
class Block:
    """`length` significant lines from line `first` to line `last` of a file."""

    path: str
    first: int
    last: int
    length: int


def find_duplicates(files: Sequence[SourceFile]) -> list[tuple[Block, Block]]:
    """Pairs of equal blocks of at least `duplicates.least_lines` significant lines, longest first.

    Lines are compared without white space; blank lines, comments, imports and lone brackets do not count. Each block
    is extended as far as it goes, and is paired with the first place where it stands. Blocks do not overlap.
    """
    rules = settings()["duplicates"]
    size: int = rules["least_lines"]
    prepared = [_significant(file) for file in files]
    seen: dict[int, tuple[int, int]] = {}
    pairs: list[tuple[Block, Block]] = []
    for number, current in enumerate(prepared):
        hashes = [hash(text) for text in current.texts]
        position = 0
        while position + size <= len(hashes):
            key = hash(tuple(hashes[position : position + size]))
            first = seen.setdefault(key, (number, position))
            length = _common(prepared[first[0]], first[1], current, position) if first != (number, position) else 0
            if first[0] == number:
                length = min(length, position - first[1])
            text = "".join(current.texts[position : position + length])
            if length >= size and len(text) >= rules["least_characters"]:
                pairs.append((_block(prepared[first[0]], first[1], length), _block(current, position, length)))
                position += length
            else:
                position += 1
    return sorted(pairs, key=lambda pair: (-pair[0].length, pair[0].path, pair[0].first, pair[1].path, pair[1].first))


def duplicate_issues(files: Sequence[SourceFile]) -> tuple[list[Issue], int]:
    """An issue for each block that is repeated, naming every place; and the number of repeated lines in all."""
    pairs = find_duplicates(files)
    by_path = {file.path: file for file in files}
    groups: dict[Block, list[Block]] = defaultdict(list)
    for original, copy in pairs:
        groups[original].append(copy)
    issues = []
    for original, copies in list(groups.items())[: settings()["duplicates"]["reported"]]:
        blocks = [original, *copies]
        issues.append(
            Issue(
                rule_id="code.duplicate",
                message=f"{original.length} lines stand in {len(blocks)} places: "
                + ", ".join(f"{b.path}:{b.first}-{b.last}" for b in blocks[:5]),
                severity=Severity.INFO if all(by_path[b.path].is_test for b in blocks) else Severity.LOW,
                places=tuple(place(b.path, b.first, by_path[b.path].lines) for b in blocks),
                metrics=(Metric(name="repeated lines", value=original.length * len(copies), unit="lines"),),
            )
        )
    return issues, sum(copy.length for _, copy in pairs)


def _significant(file: SourceFile) -> _Lines:
    comment = settings()["languages"][file.language]["comment"]
    texts, numbers = [], []
    for number, line in enumerate(file.lines, 1):
        text = "".join(line.split())
        if len(text) < 3 or text.startswith(comment) or _IMPORT.match(line.strip()):
            continue
        texts.append(text)
        numbers.append(number)
    return _Lines(file, texts, numbers)


def _common(a: _Lines, i: int, b: _Lines, j: int) -> int:
    length = 0
    while i + length < len(a.texts) and j + length < len(b.texts) and a.texts[i + length] == b.texts[j + length]:
        length += 1
    return length


def _block(lines: _Lines, start: int, length: int) -> Block:
    return Block(lines.file.path, lines.numbers[start], lines.numbers[start + length - 1], length)
