"""The schema: one idempotent script, and every way of arriving at it ends in the same catalogue."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.conftest import Server
from zora_core.database import schema
from zora_core.database.postgres import API_ROLE, connect
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
from pg_trigger
where not tgisinternal and tgrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace)
union all
select 'enum', t.typname, string_agg(e.enumlabel, ',' order by e.enumsortorder)
from pg_type as t join pg_enum as e on e.enumtypid = t.oid
where t.typnamespace = 'public'::regnamespace group by t.typname
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


IMAGE = {"kind": "element", "source": "home", "selector": "img", "html": '<img src="a.png">'}
FIELD = {"kind": "element", "source": "home", "selector": "input", "html": '<input name="mail">'}
QUOTE = {"kind": "quote", "source": "home", "start": 97, "text": "Our mugs are carbon neutral."}
MEMORIES = {"kind": "rows", "table": "memory_events", "ids": [str(UUID(int=7)), str(UUID(int=8))]}
ARCHIVED = {"archive": [str(UUID(int=8))]}
HERO = {"table": "frontend_configs", "page": "home", "path": ["title"]}

# What a run of an earlier version proposed, what became of it, and what a run proposes now: one that is the same (True)
# has another key, and differs in positions, counts and measured values.
UPGRADED: list[tuple[str, str, tuple[Any, Any, Any], tuple[Any, Any, Any], bool]] = [
    ("rejected", "archive_memories", ({"table": "memory_events", "ids": [str(UUID(int=8))]}, ARCHIVED, MEMORIES),
     ({"table": "memory_events", "ids": [str(UUID(int=8))]}, ARCHIVED, MEMORIES), True),
    ("rejected", "merge_memories", ({"keep": str(UUID(int=7))}, {**ARCHIVED, "similarity": 0.98}, MEMORIES),
     ({"keep": str(UUID(int=7))}, ARCHIVED, MEMORIES), True),
    ("rejected", "advice", ({"page": "home", "start": 97, "verdict": "misleading"}, None, QUOTE),
     ({"page": "home", "claim": QUOTE["text"], "verdict": "prohibited"}, {"pattern": "…"}, {**QUOTE, "start": 4}),
     True),
    ("approved", "advice", ({"page": "home", "rule_id": "alt", "elements": 1}, None, IMAGE),
     ({"page": "home", "rule_id": "alt"}, {"img": "alt"}, IMAGE), True),
    ("proposed", "advice", ({"page": "home", "rule_id": "name", "elements": 1}, {"input": "a"}, FIELD),
     ({"page": "home", "rule_id": "name"}, {"input": "b"}, FIELD), True),
    ("rejected", "advice", ({"page": "home", "rule_id": "alt", "elements": 1}, None, IMAGE),
     ({"page": "home", "rule_id": "lazy"}, None, IMAGE), False),
    ("rejected", "advice", ({"page": "home", "rule_id": "alt", "elements": 1}, None, IMAGE),
     ({"page": "home", "rule_id": "alt"}, None, FIELD), False),
    ("rejected", "change_frontend_config", (HERO, {"value": "A"}, QUOTE), (HERO, {"value": "B"}, QUOTE), False),
]  # fmt: skip


@pytest.mark.parametrize(("status", "kind", "before", "now", "same"), UPGRADED)
async def test_what_an_earlier_version_proposed_and_people_decided_is_not_proposed_anew(
    fresh: asyncpg.Connection, status: str, kind: str, before: Any, now: Any, same: bool
) -> None:
    tenant, task, token = DEFAULT_TENANT_ID, uuid4(), uuid4()
    await fresh.execute((Path(__file__).parent / "released" / "0.1.0.sql").read_text())
    await fresh.execute("insert into tenants (id, name, slug) values ($1, 'kept', 'kept')", tenant)
    target, value, piece = (json.dumps(part) for part in before)
    await fresh.execute(
        "insert into agent_suggestions (tenant_id, agent_id, task_id, suggestion_type, title, target, suggested_value, "
        "evidence, risk_level, status) values ($1, 'SAM', $2, $3, 'then', $4, $5, $6, 'low', $7)",
        tenant, uuid4(), kind, target, None if before[1] is None else value, f"[{piece}]", status,
    )  # fmt: skip
    await schema.migrate(fresh)
    await fresh.execute(
        "insert into agent_tasks (id, tenant_id, agent_id, task_type, title, status, lease_token, worker_id, attempt, "
        "started_at, lease_expires_at) "
        "values ($1, $2, 'SAM', 't', 't', 'in_progress', $3, 'w', 1, now(), now() + interval '1 hour')",
        task, tenant, token,
    )  # fmt: skip
    given = {
        "suggestion_type": kind, "title": "now", "target": now[0], "suggested_value": now[1], "evidence": [now[2]],
        "risk_level": "low", "key": "its own", "subject": "home",
    }  # fmt: skip
    for _ in range(2):
        answer = await fresh.fetchval(
            "select keep_agent_suggestions($1, $2, $3)", task, token, json.dumps({"suggestions": [given]})
        )
        assert answer is not None
    stored = [tuple(row) for row in await fresh.fetch("select title, status from agent_suggestions order by id")]
    if not same:
        assert stored == [("then", status), ("now", "proposed")]
    elif status == "proposed":
        assert stored == [("then", "superseded"), ("now", "proposed")], "an open one is replaced, not doubled"
    else:
        assert stored == [("then", status)]


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
    await fresh.execute("update zora_functions set release = '999.0.0'")
    for step in (schema.check, schema.migrate):
        with pytest.raises(SchemaError, match=r"version 999 of zora 999\.0\.0.*: .*upgrade zora"):
            await step(fresh)
    await fresh.execute("delete from zora_migrations where version = 999; update zora_functions set digest = 'x'")
    for newer in ("999", "999.1.dev3", "999rc1"):
        await fresh.execute("update zora_functions set release = $1", newer)
        with pytest.raises(asyncpg.PostgresError, match="a later zora than this one"):
            await fresh.execute(schema.render_script())
        await fresh.execute("rollback")
    await fresh.execute("delete from zora_migrations where version = 3")
    await fresh.execute("update zora_functions set release = '0.0.1'")
    with pytest.raises(SchemaError, match=f"version {schema.latest_version()}, without 3: run `zora migrate`"):
        await schema.check(fresh)


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


# The API's logins, of every database; they are made again when they are needed.
DROP_LOGINS = r"""
do $$
declare
    v_login name;
begin
    for v_login in select rolname from pg_roles where rolname like 'zora\_api\_%' loop
        execute format('drop role %I', v_login);
    end loop;
end
$$
"""


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
        await server.admin(DROP_LOGINS)
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


async def the_api_works(url: str, schema_name: str = "public") -> None:
    """Tasks are created, listed and followed through the restricted connections, and another tenant sees none."""
    owner = await connect(url, schema_name=schema_name)
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
    """As on Supabase. Since PostgreSQL 16, the creator of a role may act as it only after granting it to itself."""
    async with owned_by(server, "createrole", with_role=False) as (url, _):
        assert await migrated(url) == []
        await the_api_works(url)
        assert await migrated(url) == []


# Functions that run for every row: with a setting of their own they could not be inlined.
INLINED = {"agent_task_verdict", "zora_now"}


async def test_every_function_sets_its_search_path_but_those_whose_body_was_parsed_when_they_were_made(
    fresh: asyncpg.Connection,
) -> None:
    """The rule of Supabase's advisor (function_search_path_mutable) is that `proconfig` has a search_path."""
    await schema.migrate(fresh)
    rows = await fresh.fetch(
        "select proname::text as name, prosqlbody is not null as parsed, "
        "coalesce((select s from unnest(proconfig) as s where s like 'search_path=%'), '') as setting "
        "from pg_proc where pronamespace = 'public'::regnamespace"
    )
    assert len(rows) > 100
    assert {row["name"] for row in rows if not row["setting"]} == INLINED
    assert {row["name"] for row in rows if row["parsed"]} == INLINED
    others = {"search_path=public, pg_temp", "search_path=pg_catalog, pg_temp"}
    assert {row["setting"] for row in rows} <= {"", *others}


async def test_a_search_path_of_the_role_and_objects_of_the_same_names_change_nothing(server: Server) -> None:
    async with server.fresh() as url:
        owner = await asyncpg.connect(url)
        await schema.migrate(owner)
        await owner.execute("create schema other; create table other.agent_tasks (id integer)")
        await owner.execute(
            "create function other.zora_now() returns timestamptz language sql return null::timestamptz"
        )
        await owner.execute(f"alter database {urlsplit(url).path[1:]} set search_path = other, pg_temp")
        await owner.close()
        await the_api_works(url)
        again = await connect(url)
        await again.check_schema()
        assert await again.missing_objects() == []
        assert await again.migrate() is False
        await again.close()


async def test_the_objects_that_are_looked_for_are_those_that_the_script_makes(fresh: asyncpg.Connection) -> None:
    await schema.migrate(fresh)
    rows = await fresh.fetch("""
        select 'table ' || relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
        union all
        select 'column ' || c.relname || '.' || a.attname from pg_class as c
        join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
        union all
        select 'index ' || c.relname from pg_class as c
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'i'
            and not exists (select from pg_constraint as k where k.conindid = c.oid and k.contype in ('p', 'u'))
        union all
        select 'trigger ' || tgrelid::regclass || '.' || tgname from pg_trigger where not tgisinternal
        union all
        select 'type ' || typname from pg_type where typnamespace = 'public'::regnamespace and typtype = 'e'
        union all
        select distinct 'function ' || proname from pg_proc
        where pronamespace = 'public'::regnamespace
            or (proname = 'uuidv7' and pronamespace = 'pg_catalog'::regnamespace)
        union all
        select 'access ' || tablename from pg_policies where policyname = 'zora_api_tenant'
    """)
    assert set(schema.objects()) == {row["name"] for row in rows}
    async with fresh.transaction():
        assert await schema.missing(fresh) == []


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("drop function effect_digest cascade", "column agent_suggestions.effect_digest"),
        ("drop function list_workers", "function list_workers"),
        ("drop index agent_tasks_claimable", "index agent_tasks_claimable"),
        ("drop trigger journal_entries_append_only on journal_entries", "trigger journal_entries.journal_entries_app"),
        ("alter table journal_blocks disable trigger all", "trigger journal_blocks.journal_blocks_append_only"),
        ("drop trigger agent_tasks_notify_created on agent_tasks", "trigger agent_tasks.agent_tasks_notify_created"),
        ("drop policy zora_api_tenant on users", "access users"),
        ("revoke all on agent_tasks from zora_api", "access agent_tasks"),
        ("alter table agent_tasks drop column has_dependents", "column agent_tasks.has_dependents"),
        ("drop table agent_suggestions cascade", "table agent_suggestions"),
        ("drop table agent_task_dependencies", "table agent_task_dependencies"),
    ],
)
async def test_a_missing_object_is_named_and_made_again_unless_it_held_data(
    fresh: asyncpg.Connection, statement: str, name: str
) -> None:
    await schema.migrate(fresh)
    before = await catalogue(fresh)
    await fresh.execute(statement)
    async with fresh.transaction():
        missing = await schema.missing(fresh)
    assert any(found.startswith(name) for found in missing)
    if name.startswith(("table ", "column ")):
        for _ in range(2):
            with pytest.raises(SchemaError, match=f"has lost {name}.*: restore the database from a backup again"):
                await schema.migrate(fresh)
        await fresh.execute("update zora_functions set digest = 'older'")
        if name.startswith("table "):
            with pytest.raises(SchemaError, match=f"has lost {name}.*nothing was changed; restore the database"):
                await schema.migrate(fresh)
    else:
        assert await schema.migrate(fresh) is True
        assert await catalogue(fresh) == before
        assert await schema.migrate(fresh) is False


ORIGINAL = """
create type agent_task_status as enum ('pending', 'in_progress', 'completed', 'failed', 'cancelled');
create table agent_tasks (id uuid primary key, status agent_task_status);
create table journal_entries (id uuid primary key);
"""


@pytest.mark.parametrize(
    ("theirs", "named", "remedy"),
    [
        ("create table users (id integer)", "table users", "Set ZORA_SCHEMA, for example to zora"),
        ("create table tenants (id integer); create view workflows as select 1", "table tenants, table workflows",
         "Set ZORA_SCHEMA"),
        ("create type agent_task_status as (a integer)", "type agent_task_status", "Set ZORA_SCHEMA"),
        ("create function is_paused() returns integer language sql return 1", "function is_paused", "Set ZORA_SCHEMA"),
        ("create function effect_tables() returns integer language sql return 1", "function effect_tables()",
         "Set ZORA_SCHEMA"),
        ("create sequence agent_tasks_claimable", "index agent_tasks_claimable", "Set ZORA_SCHEMA"),
        (ORIGINAL, "type agent_task_status, table agent_tasks, table journal_entries", "`zora import`"),
    ],
)  # fmt: skip
async def test_objects_of_somebody_else_stop_the_script_before_it_writes_anything(
    fresh: asyncpg.Connection, theirs: str, named: str, remedy: str
) -> None:
    await fresh.execute(theirs)
    before = await catalogue(fresh)
    for supabase in (False, True):
        with pytest.raises(asyncpg.PostgresError, match=re.escape(f"would create ({named}): nothing was")) as refused:
            await fresh.execute(schema.render_script(supabase=supabase))
        await fresh.execute("rollback")
        assert remedy in refused.value.hint
    with pytest.raises(
        SchemaError, match=re.escape(f"schema public already has objects that ZORA would create ({named})")
    ):
        await schema.migrate(fresh)
    assert await catalogue(fresh) == before
    assert await schema.migrate(fresh, "zora") is True
    assert await catalogue(fresh) == before


async def test_a_function_uuidv7_of_somebody_else_stops_the_script_where_it_would_be_replaced(
    fresh: asyncpg.Connection,
) -> None:
    await fresh.execute("create function uuidv7() returns uuid language sql as 'select gen_random_uuid()'")
    if fresh.get_server_version().major >= 18:
        assert await schema.migrate(fresh) is True
    else:
        with pytest.raises(SchemaError, match=r"would create \(function uuidv7\): nothing was changed"):
            await schema.migrate(fresh)
    assert await fresh.fetchval("select prosrc from pg_proc where oid = 'public.uuidv7()'::regprocedure") == (
        "select gen_random_uuid()"
    )


@pytest.mark.parametrize(
    ("theirs", "named"),
    [("workflows", "table workflows"), ("api_keys_tenant_id_id_key", "index api_keys_tenant_id_id_key")],
)
async def test_a_table_of_a_name_that_a_later_migration_would_give_stops_it(
    fresh: asyncpg.Connection, theirs: str, named: str
) -> None:
    await fresh.execute((Path(__file__).parent / "released" / "0.1.0.sql").read_text())
    await fresh.execute(f"create table {theirs} (id integer)")
    with pytest.raises(SchemaError, match=rf"would create \({named}\): nothing was changed"):
        await schema.migrate(fresh)
    assert (await schema.installed(fresh)).versions == {1}


APPLICATION = """
create function folded(p_text text) returns text language sql immutable strict as 'select lower(p_text)';
create function agree(p_one jsonb, p_other jsonb) returns boolean language sql as 'select p_one @> p_other';
create table words (word text);
create index on words (folded(word));
insert into words values ('Ab-cd.');
"""


@pytest.mark.parametrize(
    ("theirs", "named"),
    [
        (APPLICATION, "function agree, function folded"),
        ("create function run_key(integer) returns integer language sql return 1", "function run_key"),
        ("create function zora_claimed_tenant() returns integer language sql return 1", "function zora_claimed_tenant"),
        ("create procedure save_workflow() language sql as 'select 1'", "function save_workflow"),
        ("create function check_change(jsonb) returns integer language sql return 1", "function check_change(jsonb)"),
    ],
)  # fmt: skip
async def test_a_function_that_the_installed_version_did_not_have_stops_an_upgrade(
    fresh: asyncpg.Connection, theirs: str, named: str
) -> None:
    await fresh.execute((Path(__file__).parent / "released" / "0.1.0.sql").read_text())
    await fresh.execute(theirs)
    before = await catalogue(fresh)
    with pytest.raises(SchemaError, match=re.escape(f"would create ({named}): nothing was changed")) as refused:
        await schema.migrate(fresh)
    assert "rename these objects" in str(refused.value), "an installation beside it would be an empty one"
    assert await catalogue(fresh) == before


@pytest.mark.parametrize("recorded", ["in the table", "in the comment"])
async def test_a_function_that_is_new_in_a_later_release_stops_an_upgrade_from_this_one(
    fresh: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, recorded: str
) -> None:
    await schema.migrate(fresh)
    if recorded == "in the comment":  # all that a dump of the schema without its rows has
        await fresh.execute("delete from zora_migrations; delete from zora_functions")
    await fresh.execute("create function later() returns integer language sql return 1")
    ours = schema.functions()
    added = "create or replace function later() returns integer language sql as 'select 2';"
    for cached in (schema.objects, schema.created, schema.functions_digest):
        monkeypatch.setattr(schema, cached.__name__, cached.__wrapped__)
    monkeypatch.setattr(schema, "functions", lambda: f"{ours}\n{added}")
    with pytest.raises(SchemaError, match=r"would create \(function later\): nothing was changed"):
        await schema.migrate(fresh)
    assert await fresh.fetchval("select later()") == 1
    await fresh.execute("drop function later()")
    assert await schema.migrate(fresh) is True
    await fresh.execute("create or replace function later() returns integer language sql as 'select 3'")
    monkeypatch.setattr(schema, "functions", lambda: f"{ours}\n{added}\n")
    assert await schema.migrate(fresh) is True, "a function of ours is replaced"
    assert await fresh.fetchval("select later()") == 2


async def test_a_schema_of_its_own_holds_everything_and_leaves_the_others_alone(server: Server) -> None:
    """Beside an application that has tables of the same names, and beside a second installation."""
    async with server.fresh() as url:
        owner = await asyncpg.connect(url)
        await owner.execute("create table users (id integer); create table agent_tasks (id integer)")
        before = await catalogue(owner)
        await owner.execute(schema.render_script(schema="zora"))
        await schema.check(owner, "zora")
        assert await schema.migrate(owner, "zora") is False
        assert await schema.migrate(owner, "order") is True, "a word that SQL reserves"
        with pytest.raises(SchemaError, match="version 0"):
            await schema.check(owner)
        assert await catalogue(owner) == before
        tables = await owner.fetchval("select count(*) from pg_class where relnamespace = 'zora'::regnamespace")
        assert tables > 50
        assert await owner.fetchval("select count(*) from pg_proc where pronamespace = 'public'::regnamespace") == 0
        await owner.close()
        await the_api_works(url, "zora")
        await the_api_works(url, "order")
        for name in ("zora", "order"):
            owner = await connect(url, schema_name=name)
            assert await owner.missing_objects() == []
            await owner.close()


async def test_two_installations_in_one_database_leave_the_tables_of_each_other_open(fresh: asyncpg.Connection) -> None:
    for name in ("za", "zb"):
        await schema.migrate(fresh, name)
        await fresh.execute(f"insert into {name}.tenants (id, name, slug) values ($1, 't', 't')", DEFAULT_TENANT_ID)
    await fresh.execute(
        "create schema app; create table app.things (id integer primary key, tenant_id uuid, name text);"
        "create table app.others (id integer primary key, tenant_id uuid, name text);"
        "create table zb.notes (id integer primary key, tenant_id uuid, name text);"
    )

    async def register(by: str, table: str) -> None:
        await fresh.execute(f"select {by}.register_effect_table($1, $2, 'id', '{{name}}')", DEFAULT_TENANT_ID, table)

    async def remove(by: str, table: str) -> None:
        await fresh.execute(f"select {by}.remove_effect_table($1, $2)", DEFAULT_TENANT_ID, table)

    await register("zb", "app.things")
    with pytest.raises(asyncpg.PostgresError, match=r"app\.things is registered .* in the schema zb") as refused:
        await register("za", "app.things")
    assert refused.value.sqlstate == "PT400"
    with pytest.raises(asyncpg.PostgresError, match="ZORA's own tables"):
        await register("za", "zb.agent_tasks")
    policies = "select * from pg_policies where tablename = 'things'"
    before = await fresh.fetch(policies)
    for table in ("app.others", "zb.notes"):
        await register("za", table)
        assert await fresh.fetch("select * from za.closed_effect_tables($1)", DEFAULT_TENANT_ID) == []
        await remove("za", table)
        assert await fresh.fetch("select * from za.closed_effect_tables($1)", DEFAULT_TENANT_ID) == []
        assert await fresh.fetch("select * from zb.closed_effect_tables($1)", DEFAULT_TENANT_ID) == []
    assert len(before) == 2
    assert await fresh.fetch(policies) == before
    for right in ("select", "delete"):
        assert await fresh.fetchval(f"select has_table_privilege('{API_ROLE}', 'app.things', '{right}')")
    for place in ("app", "zb"):
        assert await fresh.fetchval(f"select has_schema_privilege('{API_ROLE}', '{place}', 'usage')"), place

    # A table of its own is closed under its new name, too.
    await fresh.execute("alter table app.things rename to renamed")
    await remove("zb", "app.things")
    assert not await fresh.fetchval(f"select has_table_privilege('{API_ROLE}', 'app.renamed', 'select')")
    assert not await fresh.fetchval(f"select has_schema_privilege('{API_ROLE}', 'app', 'usage')")
