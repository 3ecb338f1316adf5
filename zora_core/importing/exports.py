"""Exports of the original's tables: files, read row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path
from typing import IO, Any

from zora_core.errors import InvalidInput
from zora_core.importing.fields import Row, tenant_of
from zora_core.importing.tables import OURS, TABLES, Broken, Table, Tenant, check_columns, check_tables, row_of

CHUNK = 1 << 16  # characters of a JSON file
MAX_VALUE = 1 << 26  # characters of one row
_ENDINGS = (".csv", "_rows.csv", ".json", ".jsonl", ".ndjson")


class ExportSource:
    """Files, one per table or one for all."""

    def __init__(self, files: dict[str, Path], *, together: bool) -> None:
        """`files` by table; `together` when they are one and the same."""
        self._files = files
        self._together = together

    def has(self, table: str) -> bool:
        """Whether there is such a table."""
        return table in self._files

    async def tenants(self) -> list[Tenant]:
        """Those that own rows."""
        found: set[str] = set()
        for table in TABLES:
            if self.has(table):
                found |= {
                    owner for row in self._read(table) if not isinstance(row, Broken) and (owner := tenant_of(row))
                }
        slugs: dict[str, str] = {}
        if self.has("tenants"):
            for row in self._read("tenants"):
                if not isinstance(row, Broken) and isinstance(row.get("slug"), str):
                    slugs[str(row.get("id")).lower()] = row["slug"]
        return [Tenant(one, slugs.get(one)) for one in sorted(found)]

    async def rows(self, table: str, tenant: str | None) -> AsyncIterator[Row | Broken]:
        """The rows of a tenant and those of none, in the order of the file."""
        for row in self._read(table):
            if isinstance(row, Broken) or tenant_of(row) in (tenant, None):
                yield row

    async def rows_of(self, table: str, column: str, values: Collection[str]) -> list[Row | Broken]:
        """The rows that have one of these ids in a column."""
        if not self.has(table):
            return []
        wanted = set(values)
        return [
            row
            for row in self._read(table)
            if not isinstance(row, Broken) and str(row.get(column)).strip().lower() in wanted
        ]

    def _read(self, table: str) -> Iterator[Row | Broken]:
        path = self._files[table]
        # A byte that is not UTF-8 becomes half a character, which the row that has it is refused for.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            if path.suffix == ".csv":
                yield from _csv_rows(file, path, TABLES.get(table))
            elif path.suffix in (".jsonl", ".ndjson"):
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield row_of(line, f"{path.name}, line {number}")
            elif self._together:
                yield from _member(file, path, table)
            else:
                yield from _elements(_Scanner(file, path), path)


def open_export(given: str) -> ExportSource:
    """Open a folder or a file; raises `InvalidInput` saying what it should be."""
    try:
        path = Path(given).expanduser()
        return _open_folder(path) if path.is_dir() else _open_file(path)
    except OSError as error:
        raise InvalidInput(f"the source cannot be read: {error}") from error


def _open_folder(path: Path) -> ExportSource:
    files: dict[str, Path] = {}
    for table in (*TABLES, "tenants", OURS):
        found = [file for ending in _ENDINGS if (file := path / f"{table}{ending}").is_file()]
        if len(found) > 1:
            raise InvalidInput(f"{path} holds {table} twice: {', '.join(file.name for file in found)}")
        if found:
            files[table] = found[0]
    if OURS in files:
        raise InvalidInput(f"{path} is an export of this program's database, not of the original system")
    check_tables(files, f"the folder {path}")
    return ExportSource(files, together=False)


def _open_file(path: Path) -> ExportSource:
    if not path.exists():
        raise InvalidInput(f"there is no folder or file {path}")
    with path.open("rb") as binary:
        start = binary.read(4096)
    if (
        start.startswith(b"PGDMP")
        or path.suffix in (".sql", ".dump", ".backup")
        or b"PostgreSQL database dump" in start
    ):
        raise InvalidInput(
            f"{path} is a dump of a database: restore it into an empty one (createdb original; psql or pg_restore) and "
            "name that, as --from postgresql://localhost/original"
        )
    if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] != b"{":
        raise InvalidInput(
            f"{path} is not a JSON object of tables: give a folder with a file per table, or one JSON file "
            '{"agent_tasks": [{…}, …], …}'
        )
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        names = list(_members(_Scanner(file, path)))
    if OURS in names:
        raise InvalidInput(f"{path} is an export of this program's database, not of the original system")
    check_tables(names, str(path))
    return ExportSource({name: path for name in names if name in TABLES or name == "tenants"}, together=True)


def _csv_rows(file: IO[str], path: Path, table: Table | None) -> Iterator[Row | Broken]:
    before = csv.field_size_limit(MAX_VALUE)
    try:
        reader = csv.DictReader(file)
        if table is not None:
            check_columns(table, reader.fieldnames or (), str(path))
        for row in reader:
            where = f"{path.name}, line {reader.line_num}"
            if None in row or None in row.values():
                yield Broken(where, "it has more or fewer fields than the first line")
            else:
                # CSV does not tell an empty text from none.
                yield {name: value or None for name, value in row.items()}
    except csv.Error as error:
        raise InvalidInput(f"{path} is not CSV: {error}") from error
    finally:
        csv.field_size_limit(before)


class _Scanner:
    """Reads one JSON value after another of a file that may be larger than memory."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file = file
        self._path = path
        self._text = ""
        self._at = 0
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode

    def _more(self) -> bool:
        if self._ended:
            return False
        # As much again as is held, so that a long value is looked at a few times and not once per chunk.
        held = self._text[self._at :]
        if len(held) > MAX_VALUE:
            raise self.wrong(f"a value has more than {MAX_VALUE:,} characters")
        read = self._file.read(max(CHUNK, len(held)))
        self._ended = not read
        self._text, self._at = held + read, 0
        return bool(read)

    def wrong(self, what: str) -> InvalidInput:
        """The error to raise."""
        return InvalidInput(f"{self._path} is not a JSON list of rows: {what}")

    def next(self) -> str:
        """The next character that is not a space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def take(self, expected: str) -> None:
        """Go past a character that must come next."""
        found = self.next()
        if found != expected:
            raise self.wrong(f"{expected} was expected, not {found or 'the end'}")
        self._at += 1

    def value(self) -> Any:
        """The next value."""
        self.next()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
                # A number may go on in what was not read yet.
                if end < len(self._text) or not self._more():
                    self._at = end
                    return value
            except RecursionError as error:
                raise self.wrong("a value is nested too deeply") from error
            except ValueError as error:
                if not self._more():
                    raise self.wrong("it ends or breaks off within a value") from error


def _elements(scanner: _Scanner, path: Path) -> Iterator[Row | Broken]:
    scanner.take("[")
    number = 0
    while scanner.next() != "]":
        if number:
            scanner.take(",")
        row, number = scanner.value(), number + 1
        yield row if isinstance(row, dict) else Broken(f"{path.name}, element {number}", "it is not a JSON object")
    scanner.take("]")


def _keys(scanner: _Scanner) -> Iterator[str]:
    """The keys of an object; the caller reads each value before it asks for the next key."""
    scanner.take("{")
    first = True
    while scanner.next() != "}":
        if not first:
            scanner.take(",")
        first = False
        key = scanner.value()
        if not isinstance(key, str):
            raise scanner.wrong("a key is not text")
        scanner.take(":")
        yield key


def _members(scanner: _Scanner) -> Iterator[str]:
    for key in _keys(scanner):
        _skip(scanner)
        yield key


def _member(file: IO[str], path: Path, table: str) -> Iterator[Row | Broken]:
    scanner = _Scanner(file, path)
    for key in _keys(scanner):
        if key == table:
            yield from _elements(scanner, path)
            return
        _skip(scanner)


def _skip(scanner: _Scanner) -> None:
    if scanner.next() == "[":
        for _ in _elements(scanner, Path()):
            pass
    else:
        scanner.value()
