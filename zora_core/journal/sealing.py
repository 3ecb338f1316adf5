"""Sealing: what no open transaction can still precede is hashed in the database and signed here, a block at a time.

The chain is made in the server's own process, so that a worker's thread has nothing to do but sign some 500 bytes. What
is signed is looked at first: the database's owner can have its functions say anything, and must not get a rewritten
past signed by the key that he does not have.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from zora_core.database.backoff import insisting, retrying
from zora_core.errors import ConfigurationError, JournalNotSealed
from zora_core.journal.canonical import NO_BLOCK, Header, read_header
from zora_core.journal.keys import Anchor, Remembered, SigningKey, public_key, signed_by, signing_key
from zora_core.journal.state import JournalState, clock_problem, read_state, time_of
from zora_core.safe_logger import safe_logger
from zora_core.suggested_command import zora_command

if TYPE_CHECKING:
    from zora_core.database.database import Database
    from zora_core.settings import Settings

logger = safe_logger("zora.journal")

BLOCK_ENTRIES = 1000
DUE_SECONDS = 10.0  # a block is sealed when it is full, or when its first entry is so old
LOOK_SECONDS = 5.0
BUSY_SHARE = 0.1  # of the time is spent on sealing at most, so that a backlog is sealed beside the work, not instead
REFUSED_SECONDS = 60.0
HEADERS = 1000  # read at a time when others have sealed since


class Sealer:
    """Seals the journal of one tenant with this machine's key."""

    def __init__(self, database: Database, settings: Settings) -> None:
        """Nothing is read, and no key made, before the first look."""
        self._database = database
        self._settings = settings
        self._remembered = Remembered(settings, settings.tenant_id)
        self._key: SigningKey | None = None
        self._head: Anchor | None = None

    async def run(self, due: asyncio.Event | None = None) -> None:
        """Seal what is due until cancelled. What must not be signed is said once, and looked at again every minute.

        With an event, somebody else sees whether a block is due, and sets it then.
        """
        said: str | None = None
        clock = asyncio.get_running_loop().time
        while True:
            if due is not None:
                await due.wait()
                due.clear()
            started = clock()
            try:
                sealed = await retrying(self._database, insisting(self.seal))
                full = sealed is not None and sealed.entries >= BLOCK_ENTRIES
                said, pause = None, (clock() - started) * (1 / BUSY_SHARE - 1) if full else LOOK_SECONDS
                if full and due is not None:
                    due.set()  # there may be more
            except (JournalNotSealed, ConfigurationError) as error:
                if str(error) != said:
                    logger.error("the journal is not sealed: %s", error)
                said, pause = str(error), REFUSED_SECONDS
            await asyncio.sleep(pause)

    async def seal(
        self, *, min_age_seconds: float = DUE_SECONDS, limit: int = BLOCK_ENTRIES, new_key: bool = False
    ) -> Header | None:
        """Seal the next block if one is due; returns its header, or None.

        With `new_key`, also when another key has signed until now. Raises `JournalNotSealed` when the database's chain
        does not go on from the block that this machine remembers, another key signed it, or the clocks differ;
        `ConfigurationError` when there is no key and none can be made.
        """
        if self._key is None:
            self._key = await asyncio.to_thread(signing_key, self._settings)
            self._head = await asyncio.to_thread(self._remembered.read)
        state = await read_state(self._database, self._settings.tenant_id)
        if state.clock is not None:
            raise JournalNotSealed(state.clock)
        rows = await self._database.call(
            "next_journal_block",
            tenant_id=self._settings.tenant_id,
            public_key=self._key.public,
            min_age_seconds=min_age_seconds,
            limit=limit,
        )
        if not rows:
            return None
        (row,) = rows
        header = self._expected(row["header"], self._key)
        head = self._head
        follows = (0, NO_BLOCK) if head is None else (head.number + 1, bytes.fromhex(head.hash))
        if (header.number, header.previous) != follows:
            head = await self._follow(header)
        if head is not None and head.public_key != self._key.public.hex() and not new_key:
            raise JournalNotSealed(another_key(head, self._key.public))
        kept = await self._database.value(
            "seal_journal_block",
            tenant_id=self._settings.tenant_id,
            header=row["header"],
            signature=self._key.sign(row["header"]),
            entry_ids=row["entry_ids"],
            entry_digests=row["entry_digests"],
        )
        if not kept:  # another sealer was first; the next look follows its block
            return None
        await self._remember(anchor_of(row["header"]))
        return header

    def forget(self) -> None:
        """Go on from what the database has, whatever this machine remembers."""
        self._remembered.forget()

    def _expected(self, text: str, key: SigningKey) -> Header:
        try:
            header = read_header(text)
        except ValueError as error:
            raise JournalNotSealed(f"the database proposes a block that is none: {error}") from error
        if (header.tenant_id, header.public_key) != (str(self._settings.tenant_id), key.public):
            raise JournalNotSealed("the database proposes a block of another tenant or another key")
        if self._head is not None and header.number <= self._head.number:
            raise JournalNotSealed(gone(self._head))
        # The function that told the time may have been replaced; the ids that are signed are looked at here.
        if (last := time_of(UUID(header.last_id))) > datetime.now(UTC) and (problem := clock_problem(last, None)):
            raise JournalNotSealed(problem)
        if header.number == 0 and header.previous != NO_BLOCK:
            raise JournalNotSealed("the database proposes a first block that has one before it")
        return header

    async def _follow(self, header: Header) -> Anchor:
        """Go from the remembered block to the one before this: others have sealed, or nothing is remembered yet."""
        head = self._head
        # Seen for the first time, the chain is believed from its last block; `zora journal verify` looks at it all.
        number = header.number - 1 if head is None else head.number
        while number < header.number:
            rows = await self._database.read(
                "journal_header_rows", self._settings.tenant_id, number=number, limit=HEADERS
            )
            rows = [row for row in rows if row["number"] < header.number]
            if not rows:
                break
            for row in rows:
                head = _next(head, row, number)
                number += 1
        if head is None or number < header.number or head.hash != header.previous.hex():
            raise JournalNotSealed(f"block {number} of the chain is missing or does not fit the next one: {_verify()}")
        return head

    async def _remember(self, head: Anchor) -> None:
        self._head = head
        try:
            await asyncio.to_thread(self._remembered.write, head)
        except OSError as error:
            raise ConfigurationError(
                f"the journal's last block cannot be remembered in {self._remembered.path}: {error.strerror}"
            ) from error


def _next(head: Anchor | None, row: Any, number: int) -> Anchor:
    """The end of the chain after this row, which may be the remembered block itself."""
    try:
        header = read_header(row["header"])
    except ValueError as error:
        raise JournalNotSealed(f"block {number} is unreadable ({error}): {_verify()}") from error
    found = anchor_of(row["header"])
    if (row["number"], header.number) != (number, number):
        raise JournalNotSealed(f"block {number} was removed: {_verify()}")
    if head is not None and number == head.number and found.hash != head.hash:
        raise JournalNotSealed(gone(head))
    if head is not None and number > head.number and header.previous.hex() != head.hash:
        raise JournalNotSealed(f"block {number} does not follow the one before it: {_verify()}")
    if not signed_by(header.public_key, row["header"], row["signature"]):
        raise JournalNotSealed(f"the signature of block {number} is wrong: {_verify()}")
    return found


def anchor_of(text: str) -> Anchor:
    """The anchor that a header makes."""
    header = read_header(text)
    return Anchor(
        tenant_id=header.tenant_id,
        number=header.number,
        hash=sha256(text.encode()).hexdigest(),
        sealed_at=header.sealed_at,
        public_key=header.public_key.hex(),
    )


def gone(head: Anchor) -> str:
    """What to say when a remembered block is not there any more."""
    return (
        f"block {head.number}, which this machine saw sealed at {head.sealed_at}, is not in the database any more: its "
        f"end was cut off or rewritten: {_verify()}; if you restored a backup, go on from there with "
        f"`{zora_command('journal', 'seal', '--forget-head')}`"
    )


def _verify() -> str:
    return f"run `{zora_command('journal', 'verify')}`"


def start_sealing(tenant: str | None = None) -> str:
    """What to do when entries are not sealed; for `tenant`, by default for the one of this command line."""
    serve, loop = zora_command("serve", tenant=tenant), zora_command("run-loop", tenant=tenant)
    return f"Sealing needs a running `{serve}` or `{loop}`; if it does not seal, its log says why"


def another_key(head: Anchor, ours: bytes) -> str:
    """What to say when the chain is signed by somebody else."""
    return (
        f"block {head.number} was signed by the key {head.public_key[:16]}…, ours is {ours.hex()[:16]}…: set "
        "ZORA_JOURNAL_KEY to the same key on every machine, or go on with ours by "
        f"`{zora_command('journal', 'seal', '--new-key')}`"
    )


async def last_header(database: Database, settings: Settings) -> tuple[str, bytes] | None:
    """The last block's header and signature, read as for verification; None when nothing is sealed."""
    rows = await database.read("journal_head_row", settings.tenant_id)
    return (rows[0]["header"], rows[0]["signature"]) if rows else None


async def unsealed(database: Database, settings: Settings) -> int:
    """How many entries stand after the last block."""
    last = await last_header(database, settings)
    after = read_header(last[0]).last_id if last else str(UUID(int=0))
    (counted,) = await database.read("journal_entries_after", settings.tenant_id, after=after)
    return int(counted["entries"])


async def examine(database: Database, settings: Settings) -> tuple[Literal["ok", "note", "wrong"], str]:
    """For `zora doctor`: whether the chain goes on as it should, and what there is to say of it."""
    try:
        last = await last_header(database, settings)
        state = await read_state(database, settings.tenant_id)
        remembered = Remembered(settings, settings.tenant_id).read()
        ours = public_key(settings)
        if last is None:
            return _waiting(state, "") if remembered is None else ("wrong", gone(remembered))
        head = anchor_of(last[0])
    except (ConfigurationError, ValueError) as error:
        return "wrong", str(error)
    if remembered is not None and head.number < remembered.number:
        return "wrong", gone(remembered)
    if ours is not None and head.public_key != ours.hex():
        return "note", another_key(head, ours)
    return _waiting(state, f"{head.number + 1:,} blocks, the last at {head.sealed_at[:16].replace('T', ' ')} UTC; ")


def _waiting(state: JournalState, sealed: str) -> tuple[Literal["ok", "note"], str]:
    found = f"{sealed}{state.said}"
    if state.clock is not None:
        return "note", f"{found}; {state.clock}"
    if state.is_late:
        return "note", f"{found}. {start_sealing()}"
    return "ok", found
