"""What Python hashes is what PostgreSQL hashes, and what PostgreSQL prints as jsonb, for whatever an entry may hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Server
from zora_core.database import schema
from zora_core.journal.canonical import entry_of
from zora_core.settings import DEFAULT_TENANT_ID

# Everything that a text of PostgreSQL can hold.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
NUMBERS = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([-0.0, 1e300, 5e-324])
)
INFINITE = (datetime.min, datetime.max)  # as the driver writes minus infinity and infinity
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)
ENTRIES = st.fixed_dictionaries(
    {
        "category": st.sampled_from(["decision", "agent_action"]),
        "event_type": TEXTS,
        "title": TEXTS,
        "body": st.none() | TEXTS,
        "details": VALUES,
        "author": st.none() | TEXTS,
        "task_id": st.none() | st.uuids(),
        "related_entity_ids": st.lists(st.uuids(), max_size=3),
        "created_at": st.datetimes(timezones=st.just(UTC)) | st.sampled_from(INFINITE),
    }
)
COLUMNS = (
    "category", "event_type", "title", "body", "details", "author", "task_id", "related_entity_ids", "created_at",
)  # fmt: skip

AS_JSONB = """
select
    jsonb_build_object('salt', j.salt, 'title', j.title, 'body', j.body, 'details', j.details)::text as content,
    jsonb_build_object(
        'id', j.id, 'tenant_id', j.tenant_id, 'category', j.category, 'event_type', j.event_type, 'author', j.author,
        'task_id', j.task_id, 'related_entity_ids', j.related_entity_ids,
        'created_at',
        coalesce(to_char(j.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), j.created_at::text),
        'content', encode(sha256(convert_to(jsonb_build_object(
            'salt', j.salt, 'title', j.title, 'body', j.body, 'details', j.details
        )::text, 'UTF8')), 'hex')
    )::text as entry
from journal_entries as j
where j.id = $1
"""
INSERT = """
insert into journal_entries (
    tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
returning id
"""


@pytest.fixture(scope="module", params=["embedded", "system"])
def connection(request: pytest.FixtureRequest) -> Iterator[tuple[asyncio.Runner, asyncpg.Connection]]:
    server: Server = request.getfixturevalue(request.param)
    with asyncio.Runner() as runner:
        database = server.fresh()
        connection = runner.run(asyncpg.connect(runner.run(database.__aenter__())))
        runner.run(schema.migrate(connection))
        runner.run(connection.execute("drop trigger journal_entries_append_only on journal_entries"))
        yield runner, connection
        runner.run(connection.close())
        runner.run(database.__aexit__(None, None, None))


def test_python_and_the_sealing_function_hash_what_jsonb_prints(
    connection: tuple[asyncio.Runner, asyncpg.Connection],
) -> None:
    runner, database = connection
    query = schema.query("journal_entry_texts", ("tenant_id", "after", "upto", "limit"))
    least = "00000000-0000-0000-0000-000000000000"

    async def hashed(entry: dict[str, Any]) -> None:
        values = {**entry, "details": json.dumps(entry["details"])}
        entry_id = await database.fetchval(INSERT, DEFAULT_TENANT_ID, *(values[column] for column in COLUMNS))
        try:
            (row,) = await database.fetch(query, DEFAULT_TENANT_ID, least, str(entry_id), 10)
            expected = await database.fetchrow(AS_JSONB, entry_id)
            ours = entry_of(row)
            assert ours.content == expected["content"]
            assert ours.text == expected["entry"]
            (block,) = await database.fetch(
                "select * from next_journal_block($1, $2, -1000, -1000)", DEFAULT_TENANT_ID, bytes(32)
            )
            assert block["entry_digests"] == ours.digest
            assert block["entry_ids"] == entry_id.bytes
        finally:
            await database.execute("delete from journal_entries")

    @settings(max_examples=200, suppress_health_check=list(HealthCheck))
    @given(ENTRIES)
    def check(entry: dict[str, Any]) -> None:
        runner.run(hashed(entry))

    check()


async def test_it_is_the_same_whatever_the_session_is_set_to(server: Server) -> None:
    """Time zone, style of dates and of byte strings change what is printed elsewhere."""
    async with server.fresh() as url:
        connection = await asyncpg.connect(url)
        await schema.migrate(connection)
        await connection.execute(
            "insert into journal_entries (tenant_id, category, event_type, title, created_at) "
            "values ($1, 'decision', 'd', 'd', '2026-07-01 12:00:00.123456+00')",
            DEFAULT_TENANT_ID,
        )
        call = "select entry_digests from next_journal_block($1, $2, -1000, -1000)"
        plain = await connection.fetchval(call, DEFAULT_TENANT_ID, bytes(32))
        await connection.execute(
            "set timezone = 'Asia/Kathmandu'; set datestyle = 'SQL, DMY'; set bytea_output = 'escape'; "
            "set intervalstyle = 'sql_standard'; set extra_float_digits = 0; set lc_time = 'C'"
        )
        assert await connection.fetchval(call, DEFAULT_TENANT_ID, bytes(32)) == plain
        (row,) = await connection.fetch(
            schema.query("journal_entry_texts", ("tenant_id", "after", "upto", "limit")), DEFAULT_TENANT_ID,
            "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", 10,
        )  # fmt: skip
        assert entry_of(row).digest == plain
        assert '"created_at": "2026-07-01T12:00:00.123456Z"' in entry_of(row).text
        await connection.close()
