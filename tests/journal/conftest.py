"""A journal with entries old enough to be sealed, somebody who owns the database, and both kinds of server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.conftest import Server, Zora
from zora_core.journal.canonical import Block, Entry, Header
from zora_core.journal.keys import Anchor, Remembered, public_key
from zora_core.journal.reading import exported, stored, write_export
from zora_core.journal.sealing import Sealer
from zora_core.journal.verification import Report, Verifier
from zora_core.settings import DEFAULT_TENANT_ID

INSERT = """
insert into journal_entries (id, tenant_id, category, event_type, title, body, details, author, related_entity_ids)
select
    (left(least_uuidv7(now() - interval '1 hour' + $2 * interval '1 ms')::text, 14) || '7' || right(r::text, 21))::uuid,
    $1, 'decision', 'decided', 'Decision ' || $2, 'because ' || $2, '{"a": 1.50, "b": ["\\u00e4"]}', 'ada', array[r]
from gen_random_uuid() as r
returning id
"""


@pytest.fixture(params=["embedded", "system"])
def server(request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(request.param)


class Journal:
    """One tenant's journal, this machine's sealer, and the owner of the database, who may do everything but sign."""

    def __init__(self, zora: Zora, owner: asyncpg.Connection, folder: Path) -> None:
        self.zora = zora
        self.owner = owner
        self.folder = folder
        self.sealer = Sealer(zora.database, zora.settings)
        self.ids: list[UUID] = []

    async def add(self, entries: int) -> list[UUID]:
        """Entries of an hour ago, a millisecond apart, after those added before."""
        start = len(self.ids)
        made = [await self.owner.fetchval(INSERT, DEFAULT_TENANT_ID, start + i) for i in range(entries)]
        self.ids += made
        return made

    async def seal(self, *, limit: int = 5, sealer: Sealer | None = None, **options: Any) -> list[Header]:
        """Everything that can be sealed, in small blocks."""
        sealed = []
        while header := await (sealer or self.sealer).seal(limit=limit, min_age_seconds=0, **options):
            sealed.append(header)
        return sealed

    async def sealed(self, blocks: int) -> None:
        """That many blocks of five entries each."""
        await self.add(5 * blocks)
        assert len(await self.seal()) == blocks

    async def tamper(self, statement: str, *arguments: Any) -> None:
        """Do something that the triggers refuse, as the owner can."""
        await self.owner.execute("set session_replication_role = replica")
        await self.owner.execute(statement, *arguments)
        await self.owner.execute("set session_replication_role = origin")

    @property
    def remembered(self) -> list[tuple[str, Anchor]]:
        """What this machine remembers of the chain."""
        anchor = Remembered(self.zora.settings, DEFAULT_TENANT_ID).read()
        return [("this machine", anchor)] if anchor else []

    async def verify(
        self, *, anchors: Iterable[tuple[str, Anchor]] = (), trusted: Iterable[bytes] | None = None
    ) -> Report:
        """Read from the database and verify, by default with nothing but this machine's public key."""
        parts = [part async for part in stored(self.zora.database, DEFAULT_TENANT_ID)]
        return self._report(parts, Verifier(trusted=self._trusted(trusted), anchors=anchors))

    async def export(self) -> Path:
        """An export of the journal as it stands."""
        path = self.folder / "journal.jsonl"
        with path.open("w", encoding="utf-8") as file:
            await write_export(self.zora.database, DEFAULT_TENANT_ID, file.write, lambda done: None)
        return path

    def verify_export(self, path: Path, *, anchors: Iterable[tuple[str, Anchor]] = ()) -> Report:
        """Verify without the database."""
        verifier = Verifier(trusted=self._trusted(None), anchors=anchors)
        return self._report(exported(path, verifier.problem, lambda done: None), verifier)

    def _trusted(self, trusted: Iterable[bytes] | None) -> Iterable[bytes]:
        if trusted is not None:
            return trusted
        ours = public_key(self.zora.settings)
        assert ours is not None
        return [ours]

    @staticmethod
    def _report(parts: Iterable[tuple[Block | None, list[Entry]]], verifier: Verifier) -> Report:
        for block, entries in parts:
            if block is not None:
                verifier.block(block, entries)
            else:
                for entry in entries:
                    verifier.unsealed(entry)
        return verifier.finish()


@pytest.fixture
async def journal(zora: Zora, tmp_path: Path) -> AsyncIterator[Journal]:
    owner = await asyncpg.connect(zora.url)
    yield Journal(zora, owner, tmp_path)
    await owner.close()
