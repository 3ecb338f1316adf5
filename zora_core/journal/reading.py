"""A journal as it is stored, or as it was exported: blocks in order, each with the entries that stand in its place."""

from __future__ import annotations

import asyncio
import base64
import json
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from zora_core.journal.canonical import Block, Entry, digest, entry_of, read_header, read_json

if TYPE_CHECKING:
    from zora_core.database.database import Database

BLOCKS, ENTRIES = 10, 10_000  # read at a time
LEAST, GREATEST = str(UUID(int=0)), str(UUID(int=2**128 - 1))
FORMAT = 1

_COUNTED = {"blocks": "blocks", "entries": "sealed entries", "unsealed": "unsealed entries"}

Part = tuple[Block | None, list[Entry]]
"""A block with its entries; without a block, entries that are not sealed."""


async def stored(database: Database, tenant_id: UUID) -> AsyncIterator[Part]:
    """A tenant's journal, read a few thousand entries at a time.

    Each in a transaction of its own, because a snapshot held for long keeps dead rows of the queue alive; what is
    sealed does not change meanwhile.
    """
    after, number = LEAST, 0
    while rows := await database.read("journal_block_rows", tenant_id, number=number, limit=BLOCKS):
        blocks = [Block(**row) for row in rows]
        number = blocks[-1].number + 1
        ends = [_end(block, after) for block in blocks]
        entries = [entry async for page in _pages(database, tenant_id, after, max(ends)) for entry in page]
        ids = [entry.id for entry in entries]
        taken = 0
        for block, end in zip(blocks, ends, strict=True):
            upto = max(bisect_right(ids, end), taken)
            yield block, entries[taken:upto]
            taken = upto
        after = max(after, *ends)
    async for page in _pages(database, tenant_id, after, GREATEST):
        yield None, page


async def _pages(database: Database, tenant_id: UUID, after: str, upto: str) -> AsyncIterator[list[Entry]]:
    """Entries in the order of their ids. The next page is on its way while one is hashed."""

    def read(after: str) -> asyncio.Task[Sequence[Mapping[str, Any]]]:
        return asyncio.create_task(
            database.read("journal_entry_texts", tenant_id, after=after, upto=upto, limit=ENTRIES)
        )

    reading: asyncio.Task[Sequence[Mapping[str, Any]]] | None = read(after)
    try:
        while reading is not None:
            rows = await reading
            reading = read(rows[-1]["id"]) if len(rows) == ENTRIES else None
            await asyncio.sleep(0)  # lets the query be sent
            # In a thread, so that a server that reads thousands of entries answers others meanwhile.
            yield await asyncio.to_thread(lambda rows: [entry_of(row) for row in rows], rows)
    finally:
        if reading is not None:
            reading.cancel()


def _end(block: Block, after: str) -> str:
    """The last id that belongs to a block; one whose header cannot be read gets no entries."""
    try:
        return read_header(block.header).last_id
    except ValueError:
        return after


async def write_export(
    database: Database, tenant_id: UUID, write: Callable[[str], object], advance: Callable[[int], object]
) -> dict[str, int]:
    """Write a journal as `export` makes it; returns how much of what.

    `write` gets the text piece by piece, `advance` the number of entries that were written.
    """
    counts = {"blocks": 0, "entries": 0, "unsealed": 0}
    async for text, entries in export(database, tenant_id, counts):
        write(text)
        advance(entries)
    return counts


async def export(database: Database, tenant_id: UUID, counts: dict[str, int]) -> AsyncIterator[tuple[str, int]]:
    """A journal as lines of JSON with all that its proof needs: a text of whole lines, and how many entries are in it.

    Adds to `counts` of blocks, entries and unsealed entries. Hashed texts are strings, so that every language
    verifies the same bytes, whatever its number format. No connection is held between two texts.
    """
    yield _line(type="journal", format=FORMAT, tenant_id=str(tenant_id)), 0
    async for block, entries in stored(database, tenant_id):
        counts["blocks"] += block is not None
        counts["entries" if block is not None else "unsealed"] += len(entries)
        yield await asyncio.to_thread(_lines, block, entries), len(entries)
    yield _line(type="end", **counts), 0


def _lines(block: Block | None, entries: list[Entry]) -> str:
    lines = []
    if block is not None:
        line = _line(
            type="block",
            number=block.number,
            header=block.header,
            signature=base64.b64encode(block.signature).decode(),
            entry_ids=[str(UUID(bytes=part)) for part in _parts(block.entry_ids, 16)],
            entry_digests=[part.hex() for part in _parts(block.entry_digests, 32)],
        )
        lines.append(line)
    kind = "entry" if block is not None else "unsealed"
    lines += [_line(type=kind, entry=entry.text, content=entry.content) for entry in entries]
    return "".join(lines)


def _line(**fields: Any) -> str:
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _parts(packed: bytes, size: int) -> list[bytes]:
    return [packed[i : i + size] for i in range(0, len(packed) // size * size, size)]


def exported(path: Path, problem: Callable[[str], object], advance: Callable[[int], object]) -> Iterator[Part]:
    """An export, part by part. `problem` is told of lines that are none of an export, `advance` of bytes read."""
    block: Block | None = None
    entries: list[Entry] = []
    ended = False
    tenant: str | None = None
    counts = {"blocks": 0, "entries": 0, "unsealed": 0}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            advance(len(line))
            try:
                fields = read_json(line)
                kind = fields["type"]
                if kind in ("entry", "unsealed"):
                    entries.append(_exported_entry(fields))
                    counts["entries" if kind == "entry" else "unsealed"] += 1
                if block is not None and kind in ("block", "unsealed", "end"):
                    rest = [entries.pop()] if kind == "unsealed" else []
                    yield block, entries
                    block, entries = None, rest
                if block is None and len(entries) >= ENTRIES:
                    yield None, entries
                    entries = []
                if kind == "block":
                    block = _exported_block(fields)
                    counts["blocks"] += 1
                    owner = _owner(block)
                    if counts["blocks"] == 1 and tenant and owner and owner != tenant:
                        problem(f"the export says that it is of tenant {tenant}, its first block is of tenant {owner}")
                elif kind == "journal":
                    tenant = str(UUID(fields["tenant_id"]))
                    if fields["format"] != FORMAT:
                        problem(f"the export has the format {fields['format']}, this zora reads {FORMAT}")
                elif kind == "end":
                    ended = True
                    for name, count in counts.items():
                        if type(fields[name]) is not int or fields[name] != count:
                            problem(f"the export had {fields[name]} {_COUNTED[name]}, {count} are left")
                            break  # what lacks a block lacks its entries
                elif kind not in ("entry", "unsealed"):
                    problem(f"line {number} is not one of an export: its type is {kind!r}")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                problem(f"line {number} is not one of an export: {type(error).__name__} {error}")
    if block is not None or entries:
        yield block, entries
    if tenant is None:
        problem("the export is not complete: the line with its tenant is missing")
    if not ended:
        problem("the export is not complete: its last line is missing")


def _owner(block: Block) -> str | None:
    """The tenant in a block's header, or None when the header cannot be read, which verification reports."""
    try:
        return read_header(block.header).tenant_id
    except ValueError:
        return None


def _exported_entry(fields: dict[str, Any]) -> Entry:
    text, content = fields["entry"], fields["content"]
    said = read_json(text)
    entry_id = str(UUID(said["id"]))
    fits = content is None or digest(content).hex() == said["content"]
    return Entry(entry_id, text, content, digest(text) if fits else b"")


def _exported_block(fields: dict[str, Any]) -> Block:
    if not isinstance(fields["number"], int) or not isinstance(fields["header"], str):
        raise ValueError("a block has a number and a header")
    return Block(
        number=fields["number"],
        header=fields["header"],
        signature=base64.b64decode(fields["signature"]),
        entry_ids=b"".join(UUID(part).bytes for part in fields["entry_ids"]),
        entry_digests=b"".join(bytes.fromhex(part) for part in fields["entry_digests"]),
    )
