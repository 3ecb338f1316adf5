"""Who may change the journal (nobody), when an entry is sealed, and what a key is never put under."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.autonomy.test_runtime import until, working
from tests.conftest import Server, Zora
from tests.database.test_changes import connections, strict  # noqa: F401 - a fixture
from tests.journal.conftest import Journal
from tests.journal.test_verification import cut, erase
from zora_core.cli import doctor
from zora_core.database.postgres import API_ROLE, Database, connect
from zora_core.errors import (
    ConfigurationError,
    InvalidInput,
    InvalidState,
    JournalNotSealed,
    NotFound,
    UnexpectedAnswer,
)
from zora_core.journal import sealing
from zora_core.journal.canonical import read_header
from zora_core.journal.keys import Remembered, SigningKey, key_file, public_key, signing_key
from zora_core.journal.reading import stored
from zora_core.journal.sealing import Sealer
from zora_core.journal.state import clock_problem, read_state, time_of
from zora_core.journal.verification import Verifier
from zora_core.settings import DEFAULT_TENANT_ID, Settings, load_settings

pytestmark = pytest.mark.both_transports

KEY = SigningKey.of(bytes(range(32)))


# Append-only.

REFUSED = (
    "update journal_entries set title = 'x'",
    "update journal_entries set salt = gen_random_uuid()",
    "update journal_entries set title = '[erased]', body = null, details = '{}'",
    "update journal_entries set title = '[erased]', body = null, details = '{}', salt = null, "
    "erased_content = sha256('')",
    # An erasure that takes the author with it, or leaves the text.
    "update journal_entries set title = '[erased]', body = null, details = '{}', salt = null, author = null, "
    "erased_content = journal_content(salt, title, body, details)",
    "update journal_entries set title = '[erased]', details = '{}', salt = null, "
    "erased_content = journal_content(salt, title, body, details)",
    "delete from journal_entries",
    "truncate journal_entries",
    "update journal_blocks set signature = signature",
    "delete from journal_blocks",
    "truncate journal_blocks",
)


@pytest.mark.parametrize("statement", REFUSED)
async def test_not_even_the_owner_changes_what_is_written_while_the_triggers_stand(
    journal: Journal, statement: str
) -> None:
    await journal.sealed(1)
    with pytest.raises(asyncpg.PostgresError, match="the journal is append-only"):
        await journal.owner.execute(statement)
    assert (await journal.verify()).ok


@pytest.mark.direct_connection
async def test_only_the_owner_is_granted_more_than_to_read_and_to_add(journal: Journal) -> None:
    rows = await journal.owner.fetch(
        "select table_name::text, grantee::text, privilege_type::text from information_schema.role_table_grants "
        "where table_name like 'journal%' and grantee <> current_user"
    )
    assert {tuple(row) for row in rows} == {
        ("journal_entries", API_ROLE, "SELECT"),
        ("journal_entries", API_ROLE, "INSERT"),
        ("journal_blocks", API_ROLE, "SELECT"),
    }


async def test_the_api_neither_seals_nor_erases(journal: Journal) -> None:
    await journal.sealed(1)
    api = await journal.zora.database.restricted()
    try:
        for function, arguments in (
            ("erase_journal_entry", {"id": str(journal.ids[0]), "reason": "x", "user_id": await founder(journal)}),
            ("seal_journal_block", {"header": '{"number": 7}', "signature": bytes(64), "entry_ids": bytes(16),
                                    "entry_digests": bytes(32)}),
        ):  # fmt: skip
            with pytest.raises(UnexpectedAnswer, match="permission denied"):
                await api.call(function, tenant_id=DEFAULT_TENANT_ID, **arguments)
    finally:
        await api.close()


async def founder(journal: Journal) -> UUID:
    (row,) = await journal.zora.call("ensure_founder", tenant_id=DEFAULT_TENANT_ID)
    return row["id"]


# Erasing.


async def test_a_text_is_erased_once_by_the_end_of_its_id_with_a_reason_by_somebody(journal: Journal) -> None:
    await journal.add(2)
    user = await founder(journal)

    async def erase_it(entry: str, reason: str = "asked to", user_id: UUID = user) -> list[dict[str, Any]]:
        return await journal.zora.call(
            "erase_journal_entry", tenant_id=DEFAULT_TENANT_ID, id=entry, reason=reason, user_id=user_id
        )

    last = str(journal.ids[0])[-12:].upper()
    for refused, kind in (
        (erase_it(last, reason=" "), InvalidInput), (erase_it(last, user_id=UUID(int=9)), NotFound),
        (erase_it("0" * 12), NotFound), (erase_it(last[-3:]), NotFound),
    ):  # fmt: skip
        with pytest.raises(kind):
            await refused
    (record,) = await erase_it(last)
    assert (record["event_type"], record["category"], record["author"], record["body"]) == (
        "journal_entry_erased", "config_change", "founder@localhost", "asked to",
    )  # fmt: skip
    assert record["related_entity_ids"] == [journal.ids[0]]
    with pytest.raises(InvalidState, match="was erased before"):
        await erase_it(last)
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await journal.owner.execute(
            "update journal_entries set title = 'Decision 0', salt = gen_random_uuid(), erased_content = null "
            "where id = $1",
            journal.ids[0],
        )


async def test_an_entry_can_be_erased_between_being_hashed_and_being_sealed(journal: Journal) -> None:
    await journal.add(3)
    row = await proposed(journal.owner, min_age=0)
    await erase(journal, journal.ids[1])
    await keep(journal.owner, row)
    assert (await journal.verify(trusted=[KEY.public])).ok


# What can be sealed, and when.


async def proposed(connection: asyncpg.Connection, *, min_age: float = 0, margin: float = 5, limit: int = 1000) -> Any:
    return await connection.fetchrow(
        "select * from next_journal_block($1, $2, $3, $4, $5)", DEFAULT_TENANT_ID, KEY.public, min_age, margin, limit
    )


async def keep(connection: asyncpg.Connection, row: Any) -> bool:
    kept = await connection.fetchval(
        "select seal_journal_block($1, $2, $3, $4, $5)",
        DEFAULT_TENANT_ID, row["header"], KEY.sign(row["header"]), row["entry_ids"], row["entry_digests"],
    )  # fmt: skip
    return bool(kept)


async def test_a_block_is_due_when_it_is_full_or_its_first_entry_is_old(journal: Journal) -> None:
    hour = 3600
    assert await proposed(journal.owner) is None
    await journal.add(3)
    assert await proposed(journal.owner, min_age=2 * hour, limit=4) is None
    assert read_header((await proposed(journal.owner, min_age=2 * hour, limit=3))["header"]).entries == 3
    assert read_header((await proposed(journal.owner, min_age=hour / 2, limit=4))["header"]).entries == 3
    assert await proposed(journal.owner, margin=2 * hour) is None, "all is within the margin"


async def test_what_was_just_written_waits_for_the_margin(journal: Journal) -> None:
    await journal.zora.create("SAM", "t")
    assert await journal.seal() == []
    assert (await journal.verify(trusted=[])).unsealed == 1


async def test_blocks_follow_one_another_without_a_gap(journal: Journal) -> None:
    await journal.add(12)
    headers = await journal.seal()
    assert [header.number for header in headers] == [0, 1, 2]
    assert [header.entries for header in headers] == [5, 5, 2]
    assert [header.last_id for header in headers] == [str(journal.ids[i]) for i in (4, 9, 11)]
    assert headers[0].sealed_at == "2026-03-02T09:00:00.000000Z"
    await journal.add(1)
    assert [header.first_id for header in await journal.seal()] == [str(journal.ids[12])]
    assert (await journal.verify()).ok


async def test_of_two_sealers_one_is_first_and_the_other_goes_on_from_there(journal: Journal) -> None:
    await journal.add(10)
    first, second = await proposed(journal.owner, limit=4), await proposed(journal.owner, limit=5)
    assert await keep(journal.owner, second)
    assert not await keep(journal.owner, first)
    others = [
        Sealer(journal.zora.database, replace(journal.zora.settings, home=journal.folder / name, journal_key=KEY.seed))
        for name in ("one", "other")
    ]
    while (await journal.owner.fetchval("select count(*) from journal_blocks")) < 6:
        await asyncio.gather(*(sealer.seal(limit=1, min_age_seconds=0) for sealer in others))
    report = await journal.verify(trusted=[KEY.public])
    assert report.ok
    assert (report.blocks, report.entries) == (6, 10)


STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "write", "write", "commit", "rollback", "seal"]), st.integers(0, 2)),
    min_size=10,
    max_size=40,
)


def test_no_open_transaction_is_overtaken_by_a_seal(strict: str) -> None:  # noqa: F811
    """However transactions overlap, nothing appears later in what is sealed, and everything is sealed in the end."""
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:
        opened = connections(strict, *[None] * 4)
        *writers, owner = runner.run(opened.__aenter__())
        stack.callback(lambda: runner.run(opened.__aexit__(None, None, None)))
        database = runner.run(connect(strict))
        stack.callback(lambda: runner.run(database.close()))

        async def play(steps: list[tuple[str, int]]) -> None:
            transactions: dict[int, Any] = {}
            for step, writer in steps:
                if step == "begin" and writer not in transactions:
                    transactions[writer] = writers[writer].transaction()
                    await transactions[writer].start()
                elif step == "write":
                    await writers[writer].execute(
                        "insert into journal_entries (tenant_id, category, event_type, title) "
                        "values ($1, 'decision', 'd', 'd')",
                        DEFAULT_TENANT_ID,
                    )
                elif step in ("commit", "rollback") and writer in transactions:
                    await getattr(transactions.pop(writer), step)()
                elif step == "seal":
                    await seal_all(owner)
            for transaction in transactions.values():
                await transaction.commit()
            written = await owner.fetchval("select count(*) from journal_entries")
            verifier = await verified(database)
            while verifier.report.entries < written:
                await seal_all(owner)
                verifier = await verified(database)
            assert verifier.finish().problems == []
            await owner.execute(
                "set session_replication_role = replica; delete from journal_blocks; delete from journal_entries; "
                "set session_replication_role = origin"
            )

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(STEPS)
        def check(steps: list[tuple[str, int]]) -> None:
            runner.run(play(steps))

        check()


async def seal_all(connection: asyncpg.Connection) -> None:
    while row := await proposed(connection, min_age=-1000, margin=0, limit=3):
        assert await keep(connection, row)


async def verified(database: Database) -> Verifier:
    verifier = Verifier(trusted=[KEY.public])
    async for block, entries in stored(database, DEFAULT_TENANT_ID):
        if block is not None:
            verifier.block(block, entries)
    return verifier


# What is not signed.


async def test_nothing_is_signed_after_an_end_that_this_machine_remembers_was_cut_off(journal: Journal) -> None:
    await journal.sealed(3)
    await cut(journal)
    await journal.add(5)
    restarted = Sealer(journal.zora.database, journal.zora.settings)
    for sealer in (journal.sealer, restarted):
        with pytest.raises(JournalNotSealed, match=r"block 2, which this machine saw sealed at 2026.*forget-head"):
            await journal.seal(sealer=sealer)
    state, found = await sealing.examine(journal.zora.database, journal.zora.settings)
    assert (state, "block 2" in found) == ("wrong", True)
    restored = Sealer(journal.zora.database, journal.zora.settings)
    restored.forget()
    assert [header.number for header in await journal.seal(sealer=restored)] == [2]


async def test_nothing_is_signed_after_a_chain_that_was_rewritten(journal: Journal) -> None:
    """Also when it has grown beyond the block that this machine remembers."""
    await journal.sealed(1)
    await journal.tamper("delete from journal_blocks")
    await journal.add(10)
    other = Sealer(journal.zora.database, replace(journal.zora.settings, home=journal.folder / "other"))
    await journal.seal(sealer=other)
    await journal.add(1)
    with pytest.raises(JournalNotSealed, match="block 0, which this machine saw"):
        await journal.seal()


async def propose(journal: Journal, header: str) -> None:
    """What the owner of the database would like to have signed."""
    await journal.owner.execute("alter function next_journal_block rename to real_next_journal_block")
    await journal.owner.execute(
        f"""create function next_journal_block(
            p_tenant_id uuid, p_public_key bytea, p_min_age_seconds double precision, p_limit integer
        ) returns table (header text, entry_ids bytea, entry_digests bytea) language sql as $$
            select {header}, r.entry_ids, r.entry_digests
            from real_next_journal_block(p_tenant_id, p_public_key, p_min_age_seconds, 5, p_limit) as r
        $$"""
    )


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("jsonb_set(r.header::jsonb, '{number}', '1')::text", "not in the database any more"),
        ("jsonb_set(r.header::jsonb, '{previous}', to_jsonb(repeat('00', 32)))::text", "does not fit the next one"),
        ("jsonb_set(r.header::jsonb, '{number}', '9')::text", "is missing or does not fit"),
        ("jsonb_set(r.header::jsonb, '{tenant_id}', to_jsonb(gen_random_uuid()))::text", "another tenant"),
        ("jsonb_set(r.header::jsonb, '{public_key}', to_jsonb(repeat('00', 32)))::text", "another key"),
        ("'I owe you everything'", "a block that is none"),
    ],
)
async def test_a_function_that_the_owner_replaced_gets_nothing_signed_that_does_not_follow_the_chain(
    journal: Journal, header: str, said: str
) -> None:
    await journal.sealed(2)
    await journal.add(1)
    await propose(journal, header)
    try:
        with pytest.raises(JournalNotSealed, match=said):
            await journal.seal()
        assert await journal.owner.fetchval("select count(*) from journal_blocks") == 2
    finally:
        await journal.owner.execute(
            "drop function next_journal_block(uuid, bytea, double precision, integer); "
            "alter function real_next_journal_block rename to next_journal_block"
        )


async def test_a_chain_that_another_key_signed_is_gone_on_with_only_on_request(journal: Journal) -> None:
    await journal.sealed(1)
    await journal.add(1)
    moved = replace(journal.zora.settings, home=journal.folder / "new", journal_key=KEY.seed)
    sealer = Sealer(journal.zora.database, moved)
    for _ in range(2):
        with pytest.raises(JournalNotSealed, match=r"ZORA_JOURNAL_KEY to the same key on every machine.*--new-key"):
            await journal.seal(sealer=sealer)
    assert Remembered(moved, DEFAULT_TENANT_ID).read() is None, "another key's block is not remembered as good"
    state, found = await sealing.examine(journal.zora.database, moved)
    assert (state, "--new-key" in found) == ("note", True)
    assert [header.number for header in await journal.seal(sealer=sealer, new_key=True)] == [1]
    await journal.add(1)
    assert [header.number for header in await journal.seal(sealer=sealer)] == [2]
    await journal.add(1)
    with pytest.raises(JournalNotSealed, match="--new-key"):
        await journal.seal()


async def test_a_machine_follows_what_others_with_the_same_key_have_sealed(journal: Journal) -> None:
    await journal.sealed(1)
    other = Sealer(journal.zora.database, replace(journal.zora.settings, journal_key=None))
    await journal.add(20)
    assert len(await journal.seal(sealer=other)) == 4
    await journal.add(1)
    assert [header.number for header in await journal.seal()] == [5]
    assert (await journal.verify(anchors=journal.remembered)).ok


# In the background.


async def test_a_worker_seals_while_it_runs_and_says_once_why_it_cannot(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("LOOK_SECONDS", "REFUSED_SECONDS"):
        monkeypatch.setattr(sealing, name, 0.01)
    looks: list[Sealer] = []
    seal = Sealer.seal
    monkeypatch.setattr(Sealer, "seal", lambda sealer: (looks.append(sealer), seal(sealer))[1])
    await journal.add(3)
    async with working(journal.zora.worker(), poll_seconds=0.01):
        await until(lambda: journal.owner.fetch("select from journal_blocks"))
        await journal.tamper("delete from journal_blocks")
        await until(lambda: caplog.records)
        enough = len(looks) + 5
        await until(lambda: len(looks) > enough)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "block 0, which this machine saw" in record.getMessage()


async def test_a_limited_run_seals_nothing_and_makes_no_key(zora: Zora) -> None:
    await zora.run_once()
    assert not (zora.settings.home / "journal").exists()


async def test_doctor_tells_of_the_journal(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", await server.emptied())
    monkeypatch.setenv("ZORA_HOME", str(tmp_path))
    checks = {check.name: check for check in await doctor.examine()}
    assert (checks["journal"].state, checks["journal"].found) == ("ok", "0 entries not sealed")


# The clocks, and what is not sealed.


CLOCK = """
create or replace function journal_state(p_tenant_id uuid) returns table (
    server_time timestamptz, last_sealed_id uuid, first_unsealed_id uuid, unsealed bigint
) language sql stable as $$
    select clock_timestamp() + interval '{ahead}',
        (select (b.header::jsonb ->> 'last_id')::uuid from journal_blocks as b order by b.number desc limit 1),
        null::uuid, 0::bigint
$$
"""


@pytest.fixture
async def clock(journal: Journal) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Sets the database's clock forward by a text such as `-2 hours`, for the function that is asked for it."""
    (before,) = await journal.owner.fetchrow("select pg_get_functiondef('journal_state(uuid)'::regprocedure)")
    yield lambda ahead: journal.owner.execute(CLOCK.format(ahead=ahead))
    await journal.owner.execute(before)


@pytest.mark.parametrize(("ahead", "said"), [("2 hours", "ahead of this"), ("-2 hours", "behind this")])
async def test_nothing_is_sealed_while_the_clocks_differ(
    journal: Journal, clock: Callable[[str], Awaitable[str]], ahead: str, said: str
) -> None:
    await journal.add(3)
    await clock(ahead)
    with pytest.raises(JournalNotSealed, match=f"the database's clock .* is 7,200 s {said} machine's"):
        await journal.seal()
    await clock("0 s")
    assert len(await journal.seal()) == 1


async def test_a_clock_that_was_set_back_behind_the_last_sealed_entry_is_told(journal: Journal) -> None:
    await journal.sealed(blocks=1)
    last = time_of(journal.ids[-1])
    assert clock_problem(last + timedelta(seconds=1), journal.ids[-1]) is not None, "an hour ago, by this machine"
    now = datetime.now(UTC)
    assert clock_problem(now, journal.ids[-1]) is None
    ahead = UUID(int=(int(now.timestamp() * 1000) + 30_000) << 80)
    assert "was set back behind the last sealed entry" in str(clock_problem(now, ahead))


async def test_entries_that_stay_unsealed_are_told_with_the_time_from_which_nothing_is_proven(journal: Journal) -> None:
    assert not (await read_state(journal.zora.database, DEFAULT_TENANT_ID)).is_late
    await journal.sealed(blocks=1)
    late = await journal.add(2)
    state = await read_state(journal.zora.database, DEFAULT_TENANT_ID)
    assert (state.unsealed, state.since, state.clock) == (2, time_of(late[0]), None)
    assert state.is_late
    assert "2 entries not sealed, the oldest for 60 min: nothing is proven from " in state.said
    report = await journal.verify()
    assert report.ok
    assert report.unsealed_since == time_of(late[0]).isoformat()
    found = await sealing.examine(journal.zora.database, journal.zora.settings)
    assert found[0] == "note"
    assert "nothing is proven from" in found[1]
    await journal.seal()
    assert (await sealing.examine(journal.zora.database, journal.zora.settings))[0] == "ok"


# The key.


def test_a_key_is_made_at_first_use_for_its_owner_alone_and_found_again(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    assert public_key(settings) is None
    key = signing_key(settings)
    assert signing_key(settings) == key
    assert public_key(settings) == key.public
    path = key_file(settings)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent)] == [0o600, 0o700]
    assert os.listdir(path.parent) == ["key"]
    assert key.seed.hex() not in repr(key)
    assert str(list(key.seed)) not in repr(key)
    # What the file holds is what the environment takes.
    moved = load_settings({"ZORA_JOURNAL_KEY": path.read_text(), "ZORA_HOME": str(tmp_path / "other")})
    assert signing_key(moved) == key
    assert path.read_text().strip() not in repr(moved)
    assert not (tmp_path / "other").exists()


def test_of_many_who_make_a_key_at_once_all_get_the_same(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: signing_key(Settings(home=tmp_path)), range(16)))
    assert len({key.public for key in keys}) == 1


def test_a_key_that_is_none_or_cannot_be_made_is_refused_with_the_remedy(tmp_path: Path) -> None:
    for wrong in ("x", base64.b64encode(bytes(31)).decode(), base64.b64encode(bytes(33)).decode(), "ä" * 44):
        with pytest.raises(ConfigurationError, match="openssl rand") as refused:
            load_settings({"ZORA_JOURNAL_KEY": wrong})
        assert wrong == "x" or wrong not in str(refused.value)
    settings = Settings(home=tmp_path)
    signing_key(settings)
    key_file(settings).write_text("not a key")
    with pytest.raises(ConfigurationError, match="put it back from your copy") as refused:
        signing_key(settings)
    assert "not a key" not in str(refused.value)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="set ZORA_JOURNAL_KEY"):
        signing_key(Settings(home=tmp_path / "file"))


def test_what_is_remembered_goes_by_the_databases_address_and_never_backwards(tmp_path: Path) -> None:
    remembered, elsewhere, the_same = (
        Remembered(Settings(home=tmp_path, database_url=f"postgresql://{url}"), DEFAULT_TENANT_ID)
        for url in ("u:p@a/x", "u:p@b/x", "v:q@a:5432/x")
    )
    assert elsewhere.path != remembered.path == the_same.path
    header = {
        "version": 1, "tenant_id": str(DEFAULT_TENANT_ID), "number": 5, "previous": "00" * 32,
        "first_id": str(UUID(int=1)), "last_id": str(UUID(int=2)), "entries": 2, "link": "11" * 32,
        "sealed_at": "2026-03-02T09:00:00.000000Z", "public_key": KEY.public.hex(),
    }  # fmt: skip
    later = sealing.anchor_of(json.dumps(header))
    remembered.write(later)
    remembered.write(replace(later, number=4))
    assert remembered.read() == later
    remembered.path.write_text("{}")
    with pytest.raises(ConfigurationError, match="not readable"):
        remembered.read()
