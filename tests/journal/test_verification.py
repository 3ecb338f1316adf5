"""Whatever the owner of the database does to a sealed journal is named, in the database and in an export of it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.database.test_pooler import pooled_url  # noqa: F401 - a fixture
from tests.journal.conftest import Journal
from zora_core.database.postgres import connect
from zora_core.journal import reading
from zora_core.journal.canonical import NO_BLOCK, chained, digest, entry_of, read_header
from zora_core.journal.keys import Anchor, SigningKey
from zora_core.journal.sealing import Sealer, anchor_of
from zora_core.journal.verification import Report
from zora_core.settings import DEFAULT_TENANT_ID

pytestmark = pytest.mark.both_transports

OTHER_KEY = SigningKey.of(bytes(range(32)))


async def change_a_title(journal: Journal) -> tuple[str, int, UUID]:
    await journal.tamper("update journal_entries set title = 'Nothing happened' where id = $1", journal.ids[7])
    return "changed", 1, journal.ids[7]


async def change_a_number_in_the_details(journal: Journal) -> tuple[str, int, UUID]:
    """One that is the same to a program that reads floating point numbers."""
    await journal.tamper(
        'update journal_entries set details = \'{"a": 1.5, "b": ["ä"]}\' where id = $1', journal.ids[7]
    )
    return "changed", 1, journal.ids[7]


async def change_a_salt(journal: Journal) -> tuple[str, int, UUID]:
    await journal.tamper("update journal_entries set salt = gen_random_uuid() where id = $1", journal.ids[0])
    return "changed", 0, journal.ids[0]


async def move_in_time(journal: Journal) -> tuple[str, int, UUID]:
    await journal.tamper(
        "update journal_entries set created_at = created_at - interval '1 us' where id = $1", journal.ids[14]
    )
    return "changed", 2, journal.ids[14]


async def delete_a_row(journal: Journal) -> tuple[str, int, UUID]:
    await journal.tamper("delete from journal_entries where id = $1", journal.ids[6])
    return "removed", 1, journal.ids[6]


async def insert_one_in_the_middle(journal: Journal) -> tuple[str, int, UUID]:
    new = UUID(int=journal.ids[6].int + 1)
    await journal.tamper(
        "insert into journal_entries (id, tenant_id, category, event_type, title) "
        "values ($1, $2, 'decision', 'd', 'd')",
        new, DEFAULT_TENANT_ID,
    )  # fmt: skip
    return "inserted", 1, new


async def swap_two(journal: Journal) -> tuple[str, int, UUID]:
    await swap(journal, journal.ids[6], journal.ids[8])
    return "reordered", 1, journal.ids[6]


async def swap_two_of_different_blocks(journal: Journal) -> tuple[str, int, UUID]:
    await swap(journal, journal.ids[1], journal.ids[13])
    return "reordered", 0, journal.ids[1]


async def swap(journal: Journal, one: UUID, other: UUID) -> None:
    aside = UUID(int=1)
    for before, after in ((one, aside), (other, one), (aside, other)):
        await journal.tamper("update journal_entries set id = $2 where id = $1", before, after)


async def cut_the_tail_of_entries(journal: Journal) -> tuple[str, int, UUID]:
    await journal.tamper("delete from journal_entries where id >= $1", journal.ids[12])
    return "removed", 2, journal.ids[12]


async def remove_a_block_and_its_entries(journal: Journal) -> tuple[str, int, None]:
    await journal.tamper("delete from journal_blocks where number = 1")
    await journal.tamper("delete from journal_entries where id = any ($1)", journal.ids[5:10])
    return "block", 1, None


async def remove_a_block(journal: Journal) -> tuple[str, int, None]:
    await journal.tamper("delete from journal_blocks where number = 1")
    return "block", 1, None


async def put_a_block_in_the_place_of_another(journal: Journal) -> tuple[str, int, None]:
    await journal.tamper(
        "update journal_blocks as b set (header, signature, entry_ids, entry_digests) = "
        "(select header, signature, entry_ids, entry_digests from journal_blocks where number = 0) where b.number = 1"
    )
    return "block", 1, None


async def rewrite_a_header(journal: Journal) -> tuple[str, int, None]:
    # Not just any 2026: a digest may hold one.
    await journal.tamper(
        "update journal_blocks set header = regexp_replace(header, '(sealed_at\": \")2', '\\13') where number = 2"
    )
    return "signature", 2, None


async def make_a_header_unreadable(journal: Journal) -> tuple[str, int, None]:
    await journal.tamper("update journal_blocks set header = '{\"version\": 1}' where number = 1")
    return "block", 1, None


async def rewrite_a_blocks_list(journal: Journal) -> tuple[str, int, None]:
    """With the entry, so that both fit each other."""
    await change_a_title(journal)
    await rewrite_list(journal, 1)
    return "block", 1, None


async def rewrite_list(journal: Journal, number: int) -> None:
    entries = [entry_of(row) for row in await journal.zora.database.read(
        "journal_entry_texts", DEFAULT_TENANT_ID, after=str(journal.ids[5 * number - 1] if number else UUID(int=0)),
        upto=str(journal.ids[5 * number + 4]), limit=100,
    )]  # fmt: skip
    await journal.tamper(
        "update journal_blocks set entry_digests = $1, entry_ids = $2 where number = $3",
        b"".join(e.digest for e in entries), b"".join(UUID(e.id).bytes for e in entries), number,
    )  # fmt: skip


async def rewrite_the_chain(journal: Journal, key: SigningKey | None) -> None:
    """A title is changed and everything after it made to fit; without a key, the old signatures stay."""
    await change_a_title(journal)
    previous = NO_BLOCK
    for number in range(3):
        await rewrite_list(journal, number)
        (row,) = await journal.owner.fetch("select * from journal_blocks where number = $1", number)
        link = previous
        for i in range(5):
            link = chained(link, row["entry_ids"][16 * i : 16 * i + 16], row["entry_digests"][32 * i : 32 * i + 32])
        fields = json.loads(row["header"]) | {"previous": previous.hex(), "link": link.hex()}
        if key:
            fields["public_key"] = key.public.hex()
        header = await journal.owner.fetchval("select $1::jsonb::text", json.dumps(fields))
        await journal.tamper(
            "update journal_blocks set header = $1, signature = $2 where number = $3",
            header, key.sign(header) if key else row["signature"], number,
        )  # fmt: skip
        previous = digest(header)


async def rewrite_the_chain_without_the_key(journal: Journal) -> tuple[str, int, None]:
    await rewrite_the_chain(journal, None)
    return "signature", 1, None


async def rewrite_the_chain_with_another_key(journal: Journal) -> tuple[str, int, None]:
    await rewrite_the_chain(journal, OTHER_KEY)
    return "key", 0, None


async def erase_without_a_record(journal: Journal) -> tuple[str, int, UUID]:
    await journal.tamper(
        "update journal_entries set title = '[erased]', body = null, details = '{}', salt = null, "
        "erased_content = journal_content(salt, title, body, details) where id = $1",
        journal.ids[3],
    )
    return "erasure", 0, journal.ids[3]


async def put_another_text_under_an_erased_digest(journal: Journal) -> tuple[str, int, UUID]:
    await erase(journal, journal.ids[3])
    await journal.tamper("update journal_entries set title = 'All is well' where id = $1", journal.ids[3])
    return "changed", 0, journal.ids[3]


async def erase(journal: Journal, entry: UUID) -> None:
    (founder,) = await journal.zora.call("ensure_founder", tenant_id=DEFAULT_TENANT_ID)
    await journal.zora.call(
        "erase_journal_entry", tenant_id=DEFAULT_TENANT_ID, id=str(entry), reason="asked to", user_id=founder["id"]
    )


Tampering = Callable[[Journal], Awaitable[tuple[str, int | None, UUID | None]]]
TAMPERINGS: list[Tampering] = [
    change_a_title, change_a_number_in_the_details, change_a_salt, move_in_time, delete_a_row,
    insert_one_in_the_middle, swap_two, swap_two_of_different_blocks, cut_the_tail_of_entries,
    remove_a_block_and_its_entries, remove_a_block, put_a_block_in_the_place_of_another, rewrite_a_header,
    make_a_header_unreadable, rewrite_a_blocks_list, rewrite_the_chain_without_the_key,
    rewrite_the_chain_with_another_key, erase_without_a_record, put_another_text_under_an_erased_digest,
]  # fmt: skip


def first(report: Report) -> tuple[str, int | None, UUID | None]:
    assert not report.ok
    problem = report.problems[0]
    return problem.kind, problem.block, UUID(problem.entry) if problem.entry else None


@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda t: t.__name__)
async def test_the_first_thing_that_is_not_as_it_was_is_named(journal: Journal, tampering: Tampering) -> None:
    await journal.sealed(3)
    assert (await journal.verify()).ok
    expected = await tampering(journal)
    assert first(await journal.verify()) == expected
    assert first(journal.verify_export(await journal.export())) == expected


async def test_an_untouched_journal_is_proven_with_what_is_not_sealed_told_apart(journal: Journal) -> None:
    await journal.sealed(3)
    await journal.add(2)
    for report in (
        await journal.verify(anchors=journal.remembered),
        journal.verify_export(await journal.export(), anchors=journal.remembered),
    ):
        assert report.problems == []
        assert (report.blocks, report.entries, report.unsealed, report.anchors) == (3, 15, 2, 1)
        assert report.trusted
        assert [number for number, _ in report.keys] == [0]


async def test_each_of_several_misfits_is_named(journal: Journal) -> None:
    await journal.sealed(3)
    await change_a_title(journal)
    await delete_a_row(journal)
    await journal.tamper("update journal_entries set author = 'bob' where id = $1", journal.ids[12])
    report = await journal.verify()
    assert sorted((p.kind, p.entry) for p in report.problems) == sorted(
        [("changed", str(journal.ids[7])), ("removed", str(journal.ids[6])), ("changed", str(journal.ids[12]))]
    )


async def cut(journal: Journal) -> None:
    """The end, blocks and all: what is left is a chain in itself."""
    await journal.tamper("delete from journal_blocks where number = 2")
    await journal.tamper("delete from journal_entries where id >= $1", journal.ids[10])


async def test_an_end_that_was_cut_off_with_its_blocks_is_noticed_by_who_remembers_it(journal: Journal) -> None:
    await journal.sealed(3)
    held = [("a friend", journal.remembered[0][1])]
    await cut(journal)
    assert (await journal.verify()).ok, "the chain alone cannot tell"
    for report in (
        await journal.verify(anchors=journal.remembered),
        await journal.verify(anchors=held),
        journal.verify_export(await journal.export(), anchors=held),
    ):
        assert first(report) == ("cut", 2, None)
    assert "a friend has it" in (await journal.verify(anchors=held)).problems[0].text


async def test_a_rewritten_chain_does_not_fit_an_anchor_though_the_key_is_right(journal: Journal) -> None:
    await journal.sealed(3)
    key = journal.sealer._key
    assert key is not None
    await rewrite_the_chain(journal, key)
    assert (await journal.verify()).ok, "the owner of the key can do this"
    assert first(await journal.verify(anchors=journal.remembered)) == ("block", 2, None)


async def test_an_anchor_of_another_tenant_says_nothing(journal: Journal) -> None:
    await journal.sealed(1)
    (_, anchor), *_ = journal.remembered
    other = replace(anchor, tenant_id=str(UUID(int=2)), hash="00" * 32)
    assert (await journal.verify(anchors=[("a friend", other)])).ok


async def test_without_a_known_key_nobody_vouches_and_the_report_says_so(journal: Journal) -> None:
    await journal.sealed(1)
    report = await journal.verify(trusted=[])
    assert report.ok
    assert not report.trusted


async def test_after_a_change_of_keys_the_new_one_vouches_for_all_before_and_the_old_one_for_nothing_after(
    journal: Journal,
) -> None:
    await journal.sealed(2)
    assert journal.sealer._key is not None
    old = journal.sealer._key.public
    settings = replace(journal.zora.settings, journal_key=OTHER_KEY.seed)
    await journal.add(5)
    await journal.seal(sealer=Sealer(journal.zora.database, settings), new_key=True)
    report = await journal.verify(trusted=[OTHER_KEY.public])
    assert report.ok
    assert report.trusted
    assert report.keys == [(0, old.hex()), (2, OTHER_KEY.public.hex())]
    assert first(await journal.verify(trusted=[old])) == ("key", 2, None)


async def test_what_was_erased_is_told_with_when_and_by_whom_and_the_rest_still_holds(journal: Journal) -> None:
    await journal.sealed(2)
    text = "because 3"
    await erase(journal, journal.ids[3])
    (row,) = await journal.owner.fetch("select * from journal_entries where id = $1", journal.ids[3])
    assert (row["title"], row["body"], row["details"], row["salt"]) == ("[erased]", None, "{}", None)
    export = await journal.export()
    assert text not in export.read_text()
    for report in (await journal.verify(), journal.verify_export(export)):
        assert report.problems == []
        (erasure,) = report.erased
        assert (erasure.entry, erasure.block, erasure.erased_by) == (str(journal.ids[3]), 0, "founder@localhost")
        assert erasure.erased_at == "2026-03-02T09:00:00.000000Z"


async def test_an_entry_that_was_erased_before_it_was_sealed_is_sealed_by_its_digest(journal: Journal) -> None:
    await journal.add(5)
    await erase(journal, journal.ids[3])
    await journal.seal()
    report = await journal.verify()
    assert report.ok
    assert [erasure.entry for erasure in report.erased] == [str(journal.ids[3])]


# What can be done to an export, by its lines.


def rewritten(path: Path, change: Callable[[list[str]], list[str]]) -> Path:
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    return path


def position(lines: list[str], entry: UUID) -> int:
    return next(i for i, line in enumerate(lines) if f'{{\\"id\\": \\"{entry}' in line)


async def test_lines_of_an_export_that_were_swapped_removed_or_edited_are_named(journal: Journal) -> None:
    await journal.sealed(3)
    ids = journal.ids

    def swap(lines: list[str]) -> list[str]:
        a, b = position(lines, ids[6]), position(lines, ids[8])
        lines[a], lines[b] = lines[b], lines[a]
        return lines

    def remove(lines: list[str]) -> list[str]:
        del lines[position(lines, ids[6])]
        return lines

    def edit(lines: list[str]) -> list[str]:
        at = position(lines, ids[6])
        lines[at] = lines[at].replace("because", "in spite of")
        return lines

    def blank(lines: list[str]) -> list[str]:
        at = position(lines, ids[6])
        lines[at] = json.dumps(json.loads(lines[at]) | {"content": None}) + "\n"
        return lines

    def double(lines: list[str]) -> list[str]:
        at = position(lines, ids[6])
        return [*lines[:at], lines[at], *lines[at:]]

    for change, kind, entry in (
        (swap, "reordered", ids[8]), (remove, "removed", ids[6]), (edit, "changed", ids[6]),
        (blank, "erasure", ids[6]), (double, "inserted", ids[6]),
    ):  # fmt: skip
        report = journal.verify_export(rewritten(await journal.export(), change))
        assert first(report) == (kind, 1, entry), change


async def test_an_export_that_is_not_complete_or_not_one_is_refused(journal: Journal) -> None:
    await journal.sealed(3)

    def without_the_last_block(lines: list[str]) -> list[str]:
        return lines[: [i for i, line in enumerate(lines) if '"type": "block"' in line][2]] + lines[-1:]

    changes: dict[str, Callable[[list[str]], list[str]]] = {
        "its last line is missing": lambda lines: lines[:-1],
        "the export had 3 blocks, 2 are left": without_the_last_block,
        "line 3 is not one of an export": lambda lines: [*lines[:2], "[]\n", *lines[2:]],
        "has the format 2, this zora reads 1": lambda lines: [lines[0].replace(": 1,", ": 2,"), *lines[1:]],
    }
    for said, change in changes.items():
        (problem,) = journal.verify_export(rewritten(await journal.export(), change)).problems
        assert problem.kind == "file"
        assert said in problem.text


async def test_garbage_in_any_field_of_an_export_is_a_problem_and_no_crash(journal: Journal) -> None:
    await journal.sealed(1)
    original = (await journal.export()).read_text().splitlines()
    garbage: list[Any] = [None, 1, -1, "x", "", [], ["x"], {}, "\ud800", "{}", 1e400]
    tried = 0
    for at, line in [*enumerate(original[:3]), (len(original) - 1, original[-1])]:
        for name in json.loads(line):
            for value in garbage:
                changed = json.dumps(json.loads(line) | {name: value})
                if changed == line or (name, value) == ("content", None):
                    continue
                path = journal.folder / "garbage.jsonl"
                path.write_text("\n".join([*original[:at], changed, *original[at + 1 :]]) + "\n")
                report = journal.verify_export(path)
                tried += 1
                assert report.problems, (name, value)
    assert tried > 60


NESTED = ["[" * 100_000, '{"a":' * 100_000]


@pytest.mark.parametrize("nested", NESTED, ids=["lists", "objects"])
async def test_json_nested_deeply_is_a_problem_of_its_line(journal: Journal, nested: str) -> None:
    await journal.sealed(1)
    path = journal.folder / "nested.jsonl"
    original = (await journal.export()).read_text().splitlines()
    for place, fields in ((2, "entry"), (2, "content"), (1, "header"), (0, None)):
        changed = json.dumps(json.loads(original[place]) | {fields: nested}) if fields else nested
        path.write_text("\n".join([*original[:place], changed, *original[place + 1 :]]) + "\n")
        assert journal.verify_export(path).problems
    with pytest.raises(ValueError, match="nested too deeply"):
        Anchor.parse(nested)


@pytest.mark.parametrize(
    "record",
    [{}, {"related_entity_ids": 5}, {"related_entity_ids": [[]]}, {"author": {}}, {"created_at": None}],
    ids=["nothing", "number", "list", "author", "time"],
)
async def test_a_record_of_an_erasure_that_cannot_be_read_is_no_record(
    journal: Journal, record: dict[str, Any]
) -> None:
    await journal.sealed(1)
    whole = {
        "related_entity_ids": [str(journal.ids[0])],
        "created_at": "2026-01-01T00:00:00+00:00",
        "author": "a",
    } | record
    fields = {"id": str(UUID(int=2**127)), "content": None, "event_type": "journal_entry_erased"}
    line = json.dumps({"type": "unsealed", "entry": json.dumps(fields | (whole if record else {})), "content": None})

    def add(lines: list[str]) -> list[str]:
        return [*lines[:-1], line + "\n", json.dumps(json.loads(lines[-1]) | {"unsealed": 1}) + "\n"]

    report = journal.verify_export(rewritten(await journal.export(), add))
    assert [problem.kind for problem in report.problems] == ["erasure"]


def test_a_header_says_its_hash_and_who_signed_it() -> None:
    fields = {
        "version": 1, "tenant_id": str(DEFAULT_TENANT_ID), "number": 0, "previous": "00" * 32,
        "first_id": str(UUID(int=1)), "last_id": str(UUID(int=2)), "entries": 2, "link": "11" * 32,
        "sealed_at": "2026-03-02T09:00:00.000000Z", "public_key": OTHER_KEY.public.hex(),
    }  # fmt: skip
    text = json.dumps(fields)
    assert read_header(text).public_key == OTHER_KEY.public
    assert anchor_of(text).hash == sha256(text.encode()).hexdigest()
    for name in fields:
        with pytest.raises(ValueError, match="not a header"):
            read_header(json.dumps({k: v for k, v in fields.items() if k != name}))
    with pytest.raises(ValueError, match="upgrade zora"):
        read_header(json.dumps(fields | {"version": 2}))


async def test_the_size_of_what_is_read_at_a_time_makes_no_difference(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.sealed(7)
    await journal.add(4)
    await delete_a_row(journal)
    await journal.tamper("delete from journal_blocks where number = 4")
    expected = await journal.verify()
    for blocks, entries in ((1, 1), (2, 3), (3, 5), (7, 100)):
        monkeypatch.setattr(reading, "BLOCKS", blocks)
        monkeypatch.setattr(reading, "ENTRIES", entries)
        assert await journal.verify() == expected
        assert journal.verify_export(await journal.export()) == expected
    assert [(p.kind, p.block) for p in expected.problems] == [("removed", 1), ("block", 4)]
    assert expected.unsealed == 4


@pytest.mark.direct_connection
async def test_behind_a_pooler_sealing_and_verifying_are_the_same(
    journal: Journal,
    pooled_url: str,  # noqa: F811
) -> None:
    database = await connect(pooled_url)
    try:
        assert database.pooled
        await journal.add(7)
        assert len(await journal.seal(sealer=Sealer(database, journal.zora.settings))) == 2
        journal.zora.database, direct = database, journal.zora.database
        assert (await journal.verify()).entries == 7
        journal.zora.database = direct
    finally:
        await database.close()


BY_TYPE = {
    "uuid": "gen_random_uuid()", "text": "'incident'", "jsonb": """'{"x": 1}'""", "uuid[]": "array[gen_random_uuid()]",
    "timestamp with time zone": "now()", "bigint": "7",
}  # fmt: skip
BY_COLUMN = {
    "id": "'ffffffff-ffff-7fff-bfff-ffffffffffff'",
    "tenant_id": "'ffffffff-ffff-7fff-bfff-ffffffffffff'",
    "erased_content": "sha256(''), salt = null",
    "signature": "sha256('a') || sha256('b')",
    "entry_ids": "overlay(entry_ids placing '\\x00' from 16 for 1)",
    "entry_digests": "overlay(entry_digests placing '\\x0000' from 1 for 2)",
}


async def test_no_column_of_an_entry_or_a_block_can_be_changed_unnoticed(journal: Journal) -> None:
    """Nor one that is added later: this test then asks for it to be hashed."""
    await journal.sealed(2)
    columns = await journal.owner.fetch(
        "select attrelid::regclass::text, attname::text, format_type(atttypid, null) from pg_attribute "
        "where attrelid in ('journal_entries'::regclass, 'journal_blocks'::regclass) "
        "and attnum > 0 and not attisdropped"
    )
    assert len(columns) == 13 + 6
    places = {"journal_entries": f"id = '{journal.ids[6]}'", "journal_blocks": "number = 1"}
    for table, column, kind in columns:
        value = BY_COLUMN.get(column) or BY_TYPE[kind]
        before = await journal.owner.fetchval(f"select t::text from {table} as t where {places[table]}")
        await journal.tamper(f"update {table} set {column} = {value} where {places[table]}")
        assert not (await journal.verify(anchors=journal.remembered)).ok, (table, column)
        await journal.tamper(f"delete from {table} where {places[table]} or {column} = {value.split(',')[0]}")
        await journal.tamper(f"insert into {table} select (r).* from (select $1::text::{table}) as t (r)", before)
        assert (await journal.verify(anchors=journal.remembered)).ok, (table, column)
