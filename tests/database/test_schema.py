"""The schema: one idempotent script, and every way of arriving at it ends in the same catalogue."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import Server
from zora_core.database import schema
from zora_core.errors import SchemaError
from zora_core.settings import DEFAULT_TENANT_ID

RELEASED = sorted((Path(__file__).parent / "released").glob("*.sql"))

CATALOGUE = """
select 'column' as kind, format('%s.%s', c.relname, a.attname) as name,
    format('%s %s %s', format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid))
from pg_class as c
join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
union all
select 'constraint', format('%s.%s', conrelid::regclass, conname), pg_get_constraintdef(oid)
from pg_constraint where connamespace = 'public'::regnamespace
union all
select 'index', indexname, indexdef from pg_indexes where schemaname = 'public'
union all
select 'option', relname, format('%s, row security %s', array_to_string(reloptions, ','), relrowsecurity)
from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
union all
select 'trigger', format('%s.%s', tgrelid::regclass, tgname), pg_get_triggerdef(oid)
from pg_trigger where not tgisinternal
union all
select 'enum', t.typname, string_agg(e.enumlabel, ',' order by e.enumsortorder)
from pg_type as t join pg_enum as e on e.enumtypid = t.oid group by t.typname
union all
select 'function', oid::regprocedure::text, pg_get_functiondef(oid)
from pg_proc where pronamespace = 'public'::regnamespace
order by 1, 2, 3
"""


async def catalogue(connection: asyncpg.Connection) -> list[tuple[str, str, str]]:
    return [tuple(row) for row in await connection.fetch(CATALOGUE)]


@pytest.fixture
async def fresh(server: Server):
    async with server.fresh() as url:
        connection = await asyncpg.connect(url)
        yield connection
        await connection.close()


async def test_the_script_may_be_run_twice(fresh: asyncpg.Connection) -> None:
    await fresh.execute(schema.render_script())
    first = await catalogue(fresh)
    await fresh.execute(schema.render_script())
    assert await catalogue(fresh) == first
    assert len(first) > 100


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: path.stem)
async def test_migrating_a_released_version_ends_where_a_fresh_schema_begins(
    fresh: asyncpg.Connection, server: Server, released: Path
) -> None:
    await fresh.execute(released.read_text())
    await fresh.execute("insert into tenants (name, slug) values ('kept', 'kept')")
    await schema.migrate(fresh)
    async with server.fresh() as url:
        other = await asyncpg.connect(url)
        await schema.migrate(other)
        assert await catalogue(fresh) == await catalogue(other)
        await other.close()
    assert await fresh.fetchval("select slug from tenants") == "kept"


def test_there_is_a_released_version_to_migrate_from() -> None:
    assert RELEASED


async def test_migrating_at_the_same_time_applies_everything_once(server: Server) -> None:
    async with server.fresh() as url:
        connections = [await asyncpg.connect(url) for _ in range(4)]
        await asyncio.gather(*(schema.migrate(connection) for connection in connections))
        assert await connections[0].fetchval("select count(*) from zora_migrations") == schema.latest_version()
        for connection in connections:
            await connection.close()


async def test_an_old_an_altered_and_a_newer_schema_are_refused_with_the_remedy(fresh: asyncpg.Connection) -> None:
    with pytest.raises(SchemaError, match=r"version 0, this zora needs \d+: run `zora migrate`"):
        await schema.check(fresh)
    assert await schema.migrate(fresh) is True
    await schema.check(fresh)
    assert await schema.migrate(fresh) is False
    await fresh.execute("update zora_functions set digest = 'other'")
    with pytest.raises(SchemaError, match="run `zora migrate`"):
        await schema.check(fresh)
    await fresh.execute("insert into zora_migrations values (999, 'future')")
    for step in (schema.check, schema.migrate):
        with pytest.raises(SchemaError, match="upgrade zora"):
            await step(fresh)


async def test_agent_tasks_has_the_columns_types_and_defaults_of_the_specification(fresh: asyncpg.Connection) -> None:
    await schema.migrate(fresh)
    rows = await fresh.fetch(
        "select column_name, udt_name, character_maximum_length, is_nullable, column_default "
        "from information_schema.columns where table_name = 'agent_tasks'"
    )
    columns = {row["column_name"]: tuple(row)[1:] for row in rows}
    specified = {
        "id": ("uuid", None, "NO"),
        "tenant_id": ("uuid", None, "NO"),
        "agent_id": ("varchar", 50, "NO"),
        "task_type": ("varchar", 100, "NO"),
        "status": ("agent_task_status", None, "NO"),
        "priority": ("int4", None, "NO"),
        "title": ("varchar", 500, "NO"),
        "description": ("text", None, "YES"),
        "payload": ("jsonb", None, "YES"),
        "result_summary": ("text", None, "YES"),
        "error_message": ("text", None, "YES"),
        "started_at": ("timestamptz", None, "YES"),
        "completed_at": ("timestamptz", None, "YES"),
        "created_by_user_id": ("uuid", None, "YES"),
        "created_at": ("timestamptz", None, "NO"),
        "updated_at": ("timestamptz", None, "YES"),
    }
    assert {name: columns[name][:3] for name in specified} == specified
    defaults = {name: columns[name][3] for name in ("status", "priority", "payload", "created_at")}
    assert defaults == {
        "status": "'pending'::agent_task_status",
        "priority": "0",
        "payload": "'{}'::jsonb",
        "created_at": "now()",
    }


async def test_a_role_that_does_not_own_the_tables_reads_and_changes_nothing_whatever_it_was_granted(
    fresh: asyncpg.Connection,
) -> None:
    await schema.migrate(fresh)
    await fresh.execute("insert into tenants (id, name, slug) values ($1, 't', 't')", DEFAULT_TENANT_ID)
    await fresh.execute(
        'select from create_agent_tasks($1, \'[{"agent_id": "SAM", "task_type": "t", "title": "t"}]\')',
        DEFAULT_TENANT_ID,
    )
    await fresh.execute("drop role if exists anon; create role anon; grant all on all tables in schema public to anon")
    await fresh.execute("set role anon")
    try:
        tables = await fresh.fetch(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'"
        )
        assert len(tables) > 10
        for table in tables:
            assert await fresh.fetchval(f"select count(*) from {table['relname']}") == 0, table["relname"]
        assert await fresh.fetch("select * from claim_agent_tasks($1, 'w', 5)", DEFAULT_TENANT_ID) == []
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await fresh.execute("insert into tenants (name, slug) values ('x', 'x')")
    finally:
        await fresh.execute("reset role; drop owned by anon; drop role anon")
