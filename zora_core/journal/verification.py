"""Whether a journal is what was sealed, and if not, which entry or block is not.

Nothing of the database is trusted but the rows it shows: they are read by plain queries (`Database.read`) or from an
export, and everything is hashed here. What makes the rest trustworthy is a signature by a key that is known from
elsewhere, and the blocks that somebody else remembers (anchors).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import UUID

from zora_core.journal.canonical import NO_BLOCK, Block, Entry, Header, chained, digest, read_header, read_json
from zora_core.journal.keys import Anchor, Remembered, public_key, signed_by
from zora_core.journal.reading import stored
from zora_core.journal.state import time_of

if TYPE_CHECKING:
    from zora_core.database.database import Database
    from zora_core.settings import Settings

Kind = Literal["changed", "removed", "inserted", "reordered", "block", "signature", "key", "cut", "erasure", "file"]

MAX_PROBLEMS = 1000  # kept; the rest is counted
MAX_MOVED = 200  # that many misfits are compared with one another, to tell a swap from two changes


class Problem(NamedTuple):
    """Something that is not as it was sealed: which entry or block, and what happened to it."""

    kind: Kind
    block: int | None
    entry: str | None
    text: str


class Erasure(NamedTuple):
    """A text that was erased, by the record that the journal keeps of it."""

    entry: str
    block: int | None
    erased_at: str | None
    erased_by: str | None


@dataclass
class Report:
    """What was found."""

    tenant_id: str | None = None
    blocks: int = 0
    entries: int = 0
    first_at: str | None = None
    last_at: str | None = None
    unsealed: int = 0
    unsealed_since: str | None = None
    """The time of the first entry that is not sealed: from then on nothing is proven."""
    keys: list[tuple[int, str]] = field(default_factory=list)
    """Public keys, each with the number of the first block that it signed."""
    trusted: bool = False
    """Whether the last block is signed by a key that was known beforehand."""
    anchors: int = 0
    """How many remembered blocks were found in the chain."""
    erased: list[Erasure] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    more_problems: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything sealed is as it was."""
        return not self.problems

    def shown(self) -> dict[str, Any]:
        """As data for programs."""
        return {
            "ok": self.ok,
            **self.__dict__,
            "keys": [{"from_block": number, "public_key": key} for number, key in self.keys],
            "erased": [erasure._asdict() for erasure in self.erased],
            "problems": [problem._asdict() for problem in self.problems],
        }


class _Misfit(NamedTuple):
    """A row that does not fit its place, or a place whose row is missing (`entry` is None)."""

    block: int
    id: str
    digest: bytes | None
    entry: Entry | None


class Verifier:
    """Takes a chain block by block, then what is not sealed, and reports.

    `trusted` holds public keys that are known from elsewhere; without any, the report says that the key is not trusted.
    `anchors` are blocks that somebody remembers; those of other tenants are passed over.
    """

    def __init__(
        self,
        *,
        trusted: Iterable[bytes] = (),
        anchors: Iterable[tuple[str, Anchor]] = (),
        tenant_id: str | None = None,
    ) -> None:
        """Each anchor comes with who holds it, for the report; without a tenant, the first header's is meant."""
        self.report = Report(tenant_id=tenant_id)
        self._anchors = list(anchors)
        self._trusted = set(trusted)
        self._hashes: dict[int, str] = {}
        self._number = 0
        self._previous: bytes | None = NO_BLOCK
        self._last_key: bytes | None = None
        self._untrusted_from: int | None = None
        self._erased: dict[str, int | None] = {}
        self._records: dict[str, tuple[str, str]] = {}
        self._misfits: list[_Misfit] = []

    def block(self, block: Block, entries: Sequence[Entry]) -> None:
        """The next block, with the rows that stand between its predecessor's last id and its own."""
        report = self.report
        if block.number > self._number:
            missing = f"block {self._number}" + (
                f" to {block.number - 1} were" if block.number > self._number + 1 else " was"
            )
            self._problem("block", self._number, None, f"{missing} removed")
            self._previous = None  # entries in the gap belong to no block
        self._number = block.number + 1
        report.blocks += 1
        report.entries += len(entries)
        self._hashes[block.number] = digest(block.header).hex()
        try:
            header = read_header(block.header)
        except ValueError as error:
            self._problem("block", block.number, None, f"the header was rewritten: {error}")
            self._previous = None
            return
        self._check_header(block, header)
        if self._previous is None:
            entries = [entry for entry in entries if entry.id >= header.first_id]
        self._previous = digest(block.header)
        self._check_entries(block, header, entries)
        for entry in entries:
            self._look(entry, block.number)

    def take(self, block: Block | None, entries: Sequence[Entry]) -> None:
        """The next part as it is read: a block with its entries, or entries that are not sealed."""
        if block is not None:
            self.block(block, entries)
            return
        for entry in entries:
            self.unsealed(entry)

    def unsealed(self, entry: Entry) -> None:
        """An entry after the last block."""
        if self.report.unsealed == 0:
            self.report.unsealed_since = time_of(UUID(entry.id)).isoformat()
        self.report.unsealed += 1
        self._look(entry, None)

    def finish(self) -> Report:
        """Look at what only the whole chain tells, and report."""
        report = self.report
        self._tell_misfits()
        for holder, anchor in self._anchors:
            self._check_anchor(holder, anchor)
        if self._untrusted_from is not None:
            key = next(key for number, key in reversed(report.keys) if number <= self._untrusted_from)
            self._problem(
                "key",
                self._untrusted_from,
                None,
                f"from here on the chain is signed by the key {key}, which is not known to be good",
            )
        report.trusted = bool(self._trusted) and report.blocks > 0 and self._untrusted_from is None
        for entry_id, block in self._erased.items():
            record = self._records.get(entry_id)
            report.erased.append(Erasure(entry_id, block, *(record or (None, None))))
            if record is None:
                self._problem("erasure", block, entry_id, "its text was erased, and the journal has no record of it")
        # In the order of the chain, a block before its entries; what belongs to no block comes last.
        report.problems.sort(key=lambda p: (p.block is None, p.block or 0, p.entry or ""))
        return report

    def problem(self, text: str) -> None:
        """Something is wrong with what the chain is read from."""
        self._problem("file", None, None, text)

    def _check_header(self, block: Block, header: Header) -> None:
        report = self.report
        if report.tenant_id is None:
            report.tenant_id = header.tenant_id
        if header.tenant_id != report.tenant_id or header.number != block.number:
            self._problem(
                "block", block.number, None,
                f"it was put here: its header is that of block {header.number} of tenant {header.tenant_id}",
            )  # fmt: skip
        elif self._previous is not None and header.previous != self._previous:
            before = "it does not begin a chain" if block.number == 0 else "it does not follow the block before it"
            self._problem("block", block.number, None, f"{before}: one of the two headers was rewritten")
        if not signed_by(header.public_key, block.header, block.signature):
            self._problem("signature", block.number, None, "the header's signature is wrong: it was rewritten")
        if header.public_key != self._last_key:
            report.keys.append((block.number, header.public_key.hex()))
            self._last_key = header.public_key
        # A signature vouches for the whole chain up to its block: only blocks after the last one with a known key are
        # not trusted.
        if header.public_key in self._trusted:
            self._untrusted_from = None
        elif self._trusted and self._untrusted_from is None:
            self._untrusted_from = block.number
        report.first_at = report.first_at or header.sealed_at
        report.last_at = header.sealed_at

    def _check_entries(self, block: Block, header: Header, entries: Sequence[Entry]) -> None:
        ids = [str(UUID(bytes=block.entry_ids[i : i + 16])) for i in range(0, len(block.entry_ids) // 16 * 16, 16)]
        digests = [block.entry_digests[i : i + 32] for i in range(0, len(block.entry_digests) // 32 * 32, 32)]
        # The list is vouched for by the header's link, so that it can name the entry that does not fit.
        link = header.previous
        for entry_id, entry_digest in zip(ids, digests, strict=False):
            link = chained(link, UUID(entry_id).bytes, entry_digest)
        listed = (len(ids), len(digests), ids[0] if ids else "", ids[-1] if ids else "")
        if link != header.link or listed != (header.entries, header.entries, header.first_id, header.last_id):
            self._problem("block", block.number, None, "its list of entries was rewritten")
        if [entry.id for entry in entries] == ids and [entry.digest for entry in entries] == digests:
            return
        self._compare(block.number, dict(zip(ids, digests, strict=False)), entries)

    def _compare(self, number: int, listed: dict[str, bytes], entries: Sequence[Entry]) -> None:
        """Name the entries of a block that are not as its list has them."""
        found = {entry.id: entry for entry in entries}
        for entry in entries:
            if entry.id not in listed or entry.digest != listed[entry.id]:
                self._misfits.append(_Misfit(number, entry.id, listed.get(entry.id), entry))
        self._misfits += [_Misfit(number, i, listed[i], None) for i in listed if i not in found]
        if len(entries) != len(found):
            twice = next(entry.id for i, entry in enumerate(entries) if entry.id in {e.id for e in entries[:i]})
            self._problem("inserted", number, twice, "it stands here twice")
        order = [i for i in listed if i in found]
        for expected, entry in zip(order, [entry for entry in entries if entry.id in listed], strict=False):
            if entry.id != expected:
                self._problem("reordered", number, entry.id, f"it stands where {expected} stood")
                return

    def _tell_misfits(self) -> None:
        """Tell moved entries, which fit another place, from changed, removed and inserted ones."""
        misfits = self._misfits
        moved: dict[str, str] = {}
        taken = set()
        if len(misfits) <= MAX_MOVED:
            places = {m.id: m.digest for m in misfits if m.digest is not None}
            for misfit in misfits:
                for place, expected in places.items():
                    if misfit.entry is not None and place != misfit.id and _at(misfit.entry, place) == expected:
                        moved[misfit.id] = place
                        taken.add(place)
        for misfit in misfits:
            if misfit.id in moved:
                text = f"it was put in another place: what stands here was sealed as {moved[misfit.id]}"
                self._problem("reordered", misfit.block, misfit.id, text)
            elif misfit.entry is None:
                if misfit.id not in taken:
                    self._problem("removed", misfit.block, misfit.id, "it was removed")
            elif misfit.digest is None:
                self._problem(
                    "inserted", misfit.block, misfit.id, f"it was inserted after the block was sealed{_named(misfit)}"
                )
            else:
                self._problem("changed", misfit.block, misfit.id, f"it was changed{_named(misfit)}")

    def _check_anchor(self, holder: str, anchor: Anchor) -> None:
        report = self.report
        if report.tenant_id is not None and anchor.tenant_id != report.tenant_id:
            return
        found = self._hashes.get(anchor.number)
        if found is None:
            self._problem(
                "cut", anchor.number, None,
                f"it is gone, and {holder} has it, sealed at {anchor.sealed_at}: the end of the journal was cut off",
            )  # fmt: skip
        elif found != anchor.hash:
            self._problem(
                "block", anchor.number, None,
                f"it is not the one that {holder} has, sealed at {anchor.sealed_at}: the chain was rewritten",
            )  # fmt: skip
        else:
            report.anchors += 1

    def _look(self, entry: Entry, block: int | None) -> None:
        """Note erased texts and the records of erasures."""
        if entry.content is None:
            self._erased[entry.id] = block
        if '"event_type": "journal_entry_erased"' in entry.text:
            try:
                fields = read_json(entry.text)
                record = (fields["created_at"], fields["author"])
                if all(isinstance(part, str) for part in record):
                    self._records |= dict.fromkeys(fields["related_entity_ids"], record)
            except (ValueError, KeyError, TypeError):
                return  # not as the journal writes it, so it is no record: the erasure is reported as one without

    def _problem(self, kind: Kind, block: int | None, entry: str | None, text: str) -> None:
        if len(self.report.problems) < MAX_PROBLEMS:
            self.report.problems.append(Problem(kind, block, entry, text))
        else:
            self.report.more_problems += 1


async def verify_stored(
    database: Database,
    settings: Settings,
    tenant_id: UUID,
    *,
    trusted: Iterable[bytes] = (),
    anchors: Iterable[tuple[str, Anchor]] = (),
    advance: Callable[[int], object] = lambda entries: None,
) -> Report:
    """Verify a tenant's journal as the database has it, with this machine's key and what it remembers of the chain.

    Reads with `Database.read`; hashing is done in a thread. `trusted` and `anchors` are others that are held, as for
    `Verifier`; `advance` is told of entries that were looked at. Raises `ConfigurationError` when what this machine
    keeps cannot be read.
    """
    ours = await asyncio.to_thread(public_key, settings)
    remembered = await asyncio.to_thread(Remembered(settings, tenant_id).read)
    verifier = Verifier(
        trusted={*trusted, *([ours] if ours else [])},
        anchors=[*anchors, *([("this machine", remembered)] if remembered else [])],
        tenant_id=str(tenant_id),
    )
    async for block, entries in stored(database, tenant_id):
        await asyncio.to_thread(verifier.take, block, entries)
        advance(len(entries))
    return await asyncio.to_thread(verifier.finish)


def _at(entry: Entry, place: str) -> bytes:
    """What the digest would be if the entry had this id, which stands first in its text."""
    return sha256(entry.text.replace(entry.id, place, 1).encode(errors="surrogatepass")).digest()


def _named(misfit: _Misfit) -> str:
    """What an entry says now, for people."""
    content = misfit.entry.content if misfit.entry else None
    if content is None:
        return ""
    try:
        return f"; it says now: {read_json(content)['title']}"
    except (ValueError, KeyError, TypeError):
        return ""
