"""The files of a directory: which there are, in which language, and which of them are read."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tokenize
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

from zora_core.skills.codebase.issue import settings
from zora_core.storable import escaped

# The language of files that are read for credentials alone.
OTHER = "other"
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class SourceFile:
    """A text file under the target; `path` is relative to it, with slashes, and shows bytes that are not UTF-8 escaped.

    `real` is its path on the disk, and `encoding` that of its content.
    """

    path: str
    language: str
    text: str
    is_test: bool
    real: Path = Path()
    encoding: str = "utf-8"

    @cached_property
    def lines(self) -> list[str]:
        """Its lines, as compilers count them."""
        return self.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")

    def line_at(self, offset: int) -> int:
        """The line, 1-based, that holds a character of `text`."""
        return bisect_right(self._line_starts, offset)

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(end.end() for end in _LINE_END.finditer(self.text))]

    @cached_property
    def code_lines(self) -> int:
        """Lines that are neither blank nor a comment."""
        comment = settings()["languages"][self.language]["comment"]
        stripped = (line.strip() for line in self.lines)
        return sum(1 for line in stripped if line and not (comment and line.startswith(comment)))

    @property
    def is_code(self) -> bool:
        """Whether it is written in a programming language."""
        return self.language in settings()["code"]["languages"]


@dataclass
class Inventory:
    """What was read, and how many files were not analysed, by reason.

    `others` are read for credentials alone: generated files, and texts of no known language.
    """

    root: Path
    files: list[SourceFile] = field(default_factory=list)
    others: list[SourceFile] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def read(self) -> int:
        """How many files were read."""
        return len(self.files) + len(self.others)

    def code(self) -> list[SourceFile]:
        """The files in programming languages."""
        return [file for file in self.files if file.is_code]

    def python(self) -> list[SourceFile]:
        """The Python files."""
        return [file for file in self.files if file.language == "python"]


def take_inventory(root: Path, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Inventory:
    """Read the files under `root`, in order of their paths, within the limits.

    `include` and `exclude` are globs on the relative path (`src/**`, `*.py`); a directory's name excludes all in it.
    Symbolic links are never followed, so that nothing outside `root` is read.
    """
    limits = settings()["limits"]
    inventory = Inventory(root)
    total = 0
    for path, entry in _walk(root, "", exclude, inventory.skipped):
        if include and not _matches(path, include):
            inventory.skipped["not included"] += 1
            continue
        language = _language(path)
        size = entry.stat(follow_symlinks=False).st_size
        if size > limits["file_bytes"]:
            inventory.skipped["too large"] += 1
            continue
        if inventory.read >= limits["files"] or total + size > limits["total_bytes"]:
            inventory.skipped["beyond the limit"] += 1
            continue
        text, encoding = _decoded(Path(entry.path).read_bytes(), language)
        if text is None:
            inventory.skipped["binary" if language else "unknown type"] += 1
            continue
        total += size
        shown = escaped(path)
        generated = language is not None and _is_generated(text)
        inventory.skipped["generated"] += generated
        file = SourceFile(shown, language or OTHER, text, _is_test(shown), Path(entry.path), encoding)
        (inventory.files if language is not None and not generated else inventory.others).append(file)
    inventory.skipped += Counter()  # without zeros
    return inventory


def _decoded(data: bytes, language: str | None) -> tuple[str | None, str]:
    """A file as text, and in which encoding; None for one that is binary.

    Python says its encoding in its first lines (PEP 263). A byte that does not fit is shown as `\\xe9`.
    """
    encoding = "utf-8-sig"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\0" in data:
        return None, ""
    elif language == "python":
        with contextlib.suppress(SyntaxError):  # an encoding that does not exist; ruff says so
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    try:
        text = data.decode(encoding, "backslashreplace")
    except (LookupError, TypeError, UnicodeError, ValueError):  # not every codec can do that
        text, encoding = data.decode("utf-8-sig", "backslashreplace"), "utf-8-sig"
    return escaped(text), encoding


def _walk(
    root: Path, prefix: str, exclude: Sequence[str], skipped: Counter[str]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(root) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        path = prefix + entry.name
        if entry.is_symlink():
            skipped["symbolic link"] += 1
        elif _matches(path, exclude):
            skipped["excluded"] += 1
        elif entry.is_dir(follow_symlinks=False):
            if entry.name in settings()["inventory"]["skip_directories"]:
                skipped["skipped directory"] += 1
            else:
                yield from _walk(Path(entry.path), path + "/", exclude, skipped)
        elif entry.is_file(follow_symlinks=False):
            yield path, entry


def _matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a glob matches the whole path or, as with `.gitignore`, one of the folders above it."""
    parents = [str(parent) for parent in PurePosixPath(path).parents][:-1]
    name = path.rsplit("/", 1)[-1]
    for pattern in patterns:
        pattern = pattern.removeprefix("./").rstrip("/")
        if "/" not in pattern and fnmatch(name, pattern):
            return True
        if any(fnmatch(candidate, pattern) for candidate in (path, *parents)):
            return True
    return False


@cache
def _extensions() -> dict[str, str]:
    return {
        extension: language for language, about in settings()["languages"].items() for extension in about["extensions"]
    }


def _language(path: str) -> str | None:
    name = path.rsplit("/", 1)[-1].lower()
    return _extensions().get("." + name.rsplit(".", 1)[-1]) if "." in name else None


def _is_test(path: str) -> bool:
    rules = settings()["inventory"]
    *folders, name = path.split("/")
    return any(folder.lower() in rules["test_directories"] for folder in folders) or any(
        fnmatch(name, pattern) for pattern in rules["test_names"]
    )


def _is_generated(text: str) -> bool:
    """Whether a comment at the top has one of the markers by which tools know a generated file."""
    head = [
        line
        for line in text[:2000].split("\n")[:10]
        if line.lstrip().startswith(("#", "//", "/*", "--", "*", ";", "<!--"))
    ]
    return any(re.search(mark, line) for line in head for mark in settings()["inventory"]["generated_marks"])
