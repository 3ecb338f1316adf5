"""The schema: one idempotent script, and every way of arriving at it ends in the same catalogue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.conftest import Server
from zora_core.database import schema
from zora_core.database.postgres import connect
from zora_core.errors import ConfigurationError, SchemaError
from zora_core.settings import DEFAULT_TENANT_ID

OTHER_TENANT_ID = UUID(int=2)
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
union all
select 'policy', format('%s.%s', tablename, policyname), format('%s %s to %s using (%s) check (%s)', permissive, cmd,
    array_to_string(roles, ','), qual, with_check)
from pg_policies where schemaname = 'public'
union all
select 'grant', format('%s to %s', g.name, a.grantee::regrole), string_agg(
    a.privilege_type || case when a.is_grantable then ' to pass on' else '' end, ',' order by a.privilege_type)
from (
    select relname, relacl, relowner from pg_class where relnamespace = 'public'::regnamespace
    union all
    select oid::regprocedure::text, proacl, proowner from pg_proc where pronamespace = 'public'::regnamespace
    union all
    select nspname, nspacl, nspowner from pg_namespace where nspname = 'public'
) as g (name, acl, owner)
cross join lateral aclexplode(g.acl) as a
where a.grantee <> g.owner
group by g.name, a.grantee
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
    assert {"column", "constraint", "enum", "function", "grant", "index", "option", "policy", "trigger"} == {
        kind for kind, _, _ in first
    }
    assert ("grant", "agent_tasks to zora_api", "INSERT,SELECT,UPDATE") in first
    assert ("grant", "memory_events to zora_api", "INSERT,SELECT") in first


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
        assert await connections[0].fetchval("select count(*) from zora_migrations") == len(schema.migrations())
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
    await fresh.execute("create role visitor; grant all on all tables in schema public to visitor")
    await fresh.execute("set role visitor")
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
        await fresh.execute("reset role; drop owned by visitor; drop role visitor")


async def test_every_table_has_row_security_and_what_the_api_may_read_has_its_policy(fresh: asyncpg.Connection) -> None:
    await schema.migrate(fresh)
    rows = await fresh.fetch(
        "select c.relname::text as name, c.relrowsecurity, has_table_privilege('zora_api', c.oid, 'select') as read, "
        "array(select format('%s %s', permissive, cmd) from pg_policies where tablename = c.relname) as policies "
        "from pg_class as c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')"
    )
    assert len(rows) > 10
    for row in rows:
        assert row["relrowsecurity"], row["name"]
        policies = ["PERMISSIVE ALL"] if row["read"] else []
        if row["name"] == "agent_task_policies":
            policies.append("PERMISSIVE SELECT")  # everybody's, which belong to no tenant
        assert row["policies"] == policies, row["name"]


@asynccontextmanager
async def owned_by(server: Server, attributes: str, *, with_role: bool) -> AsyncIterator[tuple[str, str]]:
    """A database that belongs to an ordinary user, and the user's name; without `zora_api`, as on a new server."""
    name = f"owner_{uuid4().hex}"
    hidden = f"hidden_{uuid4().hex}"
    try:
        await server.admin(f'create role "{name}" login nosuperuser {attributes}')
        await server.admin(*([] if with_role else [f"alter role zora_api rename to {hidden}"]))
        async with server.fresh() as url:
            database = urlsplit(url).path[1:]
            await server.admin(f'alter database {database} owner to "{name}"')
            yield url.replace("postgres@", f"{name}@"), name
    finally:
        if not with_role:
            await server.admin("drop role if exists zora_api", f"alter role {hidden} rename to zora_api")
        await server.admin(f'drop role if exists "{name}"')


async def migrated(url: str) -> list[str]:
    """The warnings of migrating."""
    said: list[str] = []
    connection = await asyncpg.connect(url)
    connection.add_log_listener(lambda _, message: said.append(f"{message.severity}: {message.message}"))
    try:
        await connection.execute(schema.render_script())
        await schema.check(connection)
    finally:
        await connection.close()
    return [text for text in said if text.startswith("WARNING")]


async def the_api_works(url: str) -> None:
    """Tasks are created, listed and followed through the restricted connections, and another tenant sees none."""
    owner = await connect(url)
    try:
        api = await owner.restricted()
        try:
            for tenant_id in (DEFAULT_TENANT_ID, OTHER_TENANT_ID):
                await owner.call("ensure_tenant", id=tenant_id, name=str(tenant_id), slug=str(tenant_id))
            task = {"agent_id": "SAM", "task_type": "t", "title": "t"}
            (created,) = await api.call("create_agent_tasks", tenant_id=DEFAULT_TENANT_ID, tasks=[task])
            (listed,) = await api.call("list_agent_tasks", tenant_id=DEFAULT_TENANT_ID)
            assert listed["id"] == created["id"]
            (changed,) = await api.call("changed_agent_tasks", tenant_id=DEFAULT_TENANT_ID, since=created["created_at"])
            assert changed["id"] == created["id"]
            assert await api.call("list_agent_tasks", tenant_id=OTHER_TENANT_ID) == []
            (claimed,) = await owner.call("claim_agent_tasks", tenant_id=DEFAULT_TENANT_ID, worker_id="w")
            assert claimed["id"] == created["id"]
        finally:
            await api.close()
    finally:
        await owner.close()


async def test_an_owner_who_may_not_create_roles_migrates_and_is_told_what_the_api_lacks(server: Server) -> None:
    async with owned_by(server, "nocreaterole", with_role=False) as (url, name):
        (warning,) = await migrated(url)
        assert f"create role zora_api; grant zora_api to {name}" in warning
        database = await connect(url)
        try:
            await database.call("ensure_tenant", id=DEFAULT_TENANT_ID, name="t", slug="t")
            with pytest.raises(
                ConfigurationError,
                match=f"`create role zora_api; grant zora_api to {name}`, then the output of `zora schema`",
            ):
                await database.restricted()
        finally:
            await database.close()
        await server.admin(f"create role zora_api; grant zora_api to {name}")
        assert await migrated(url) == []
        await the_api_works(url)


async def test_an_owner_who_is_no_member_of_a_role_that_exists_migrates_and_is_told_what_the_api_lacks(
    server: Server,
) -> None:
    """Another database of the same server has it already."""
    async with owned_by(server, "nocreaterole", with_role=True) as (url, name):
        (warning,) = await migrated(url)
        assert f"grant zora_api to {name}" in warning
        database = await connect(url)
        try:
            with pytest.raises(ConfigurationError, match=f"grant zora_api to {name}"):
                await database.restricted()
        finally:
            await database.close()
        await server.admin(f"grant zora_api to {name}")
        await the_api_works(url)


async def test_an_owner_who_may_create_roles_and_is_no_superuser_gets_everything(server: Server) -> None:
    """As on Supabase. Since PostgreSQL 16, whoever makes a role may not act as it until he grants it to himself."""
    async with owned_by(server, "createrole", with_role=False) as (url, _):
        assert await migrated(url) == []
        await the_api_works(url)
        assert await migrated(url) == []
