"""Supabase's script: three roles may do what they should and nothing else, and the check at its end says so.

The database is made as Supabase makes one: an owner without superuser, and default privileges that open everything.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from click.testing import CliRunner

from tests.conftest import Server, Zora
from tests.database.test_schema import RELEASED, catalogue, the_api_works
from tests.database.test_tenants import Tenant, fill, rows_of, tables
from tests.postgrest.supabase import ROLES as API_ROLES
from zora_core.cli.database import print_schema
from zora_core.database import schema
from zora_core.database.embedded import EmbeddedServer
from zora_core.database.postgres import connect
from zora_core.errors import SchemaError
from zora_core.settings import Settings

ROLES = API_ROLES + (Path(__file__).parent / "supabase_owner.sql").read_text()

# Everything of ours, as the catalogue has it; nothing else is in the test's database.
FUNCTIONS = """
select p.oid::regprocedure::text as signature, p.proname::text as name,
    array(
        select format('null::%s as a%s', format_type(t.type, null), t.number)
        from unnest(p.proargtypes) with ordinality as t (type, number)
    ) as nulls
from pg_proc as p where p.pronamespace = 'public'::regnamespace order by 1
"""


@dataclass
class Supabase:
    """A database of Supabase, and connections in its several roles."""

    url: str

    def as_role(self, role: str) -> str:
        """The URL for a direct connection; the API's roles are those of `authenticator`, as for PostgREST."""
        login = role if role in ("postgres", "postgres_owner") else "authenticator"
        url = self.url.replace("postgres@", f"{login}@")
        return url if login == role else f"{url}{'&' if '?' in url else '?'}role={role}"

    @asynccontextmanager
    async def connected(self, role: str, claims: Any = None) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.as_role(role))
        try:
            if claims is not None:
                said = claims if isinstance(claims, str) else json.dumps(claims)
                await connection.execute("select set_config('request.jwt.claims', $1, false)", said)
            yield connection
        finally:
            await connection.close()

    async def execute(self, *statements: str, role: str = "postgres_owner") -> None:
        async with self.connected(role) as connection:
            for statement in statements:
                await connection.execute(statement)

    async def run_script(self) -> None:
        await self.execute(schema.render_script(supabase=True))

    async def verdict(self) -> list[asyncpg.Record]:
        async with self.connected("postgres_owner") as owner:
            return await owner.fetch(schema.supabase_check())

    async def wrong(self) -> dict[str, str]:
        """The checks that fail, with what to do."""
        return {row["check"]: row["what to do"] for row in await self.verdict() if not row["ok"]}


@pytest.fixture
async def empty(server: Server) -> AsyncIterator[Supabase]:
    async with server.fresh() as url:
        supabase = Supabase(url)
        await supabase.execute(ROLES, ROLES, role="postgres")
        yield supabase


@pytest.fixture
async def supabase(empty: Supabase) -> Supabase:
    await empty.run_script()
    return empty


@dataclass
class Filled:
    """A database with two tenants, each with rows in every table."""

    supabase: Supabase
    ours: Tenant
    theirs: Tenant


@pytest.fixture
async def filled(supabase: Supabase) -> Filled:
    tenants = Tenant("abalone", uuid4()), Tenant("barnacle", uuid4())
    async with supabase.connected("postgres_owner") as owner:
        for tenant in tenants:
            await fill(owner, tenant)
    return Filled(supabase, *tenants)


async def test_the_script_may_be_run_twice_by_an_owner_who_is_no_superuser(empty: Supabase) -> None:
    async with empty.connected("postgres_owner") as owner:
        assert await owner.fetchval("select not rolsuper from pg_roles where rolname = current_user")
        await owner.execute(schema.render_script(supabase=True))
        first = await catalogue(owner)
        await owner.execute(schema.render_script(supabase=True))
        assert await catalogue(owner) == first
        await schema.check(owner)
    assert [tuple(row) for row in await empty.verdict()] == [
        (check, True, "nothing")
        for check in (
            "server version", "schema version", "tables", "row-level security", "functions", "extensions", "policies",
            "anon may do nothing", "authenticated may read", "service_role may do all", "zora_api for zora serve",
        )
    ]  # fmt: skip


async def test_what_the_script_shows_at_its_end_is_the_verdict(empty: Supabase) -> None:
    psql = [str(EmbeddedServer._binaries() / "psql"), empty.as_role("postgres_owner"), "-XAtq", "--set=ON_ERROR_STOP=1"]
    script = schema.render_script(supabase=True)
    ran = await asyncio.to_thread(subprocess.run, psql, input=script, text=True, check=True, capture_output=True)
    _lock, *shown = ran.stdout.splitlines()
    assert len(shown) == 11
    assert all(row.endswith("|t|nothing") for row in shown)


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: path.stem)
async def test_a_released_schema_that_was_open_to_everybody_is_upgraded_and_closed(
    empty: Supabase, server: Server, released: Path
) -> None:
    await empty.execute(released.read_text(), "insert into tenants (name, slug) values ('kept', 'kept')")
    async with empty.connected("anon") as anon:
        await anon.execute("select from claim_agent_tasks(null, 'w', 1, 1)")
    await empty.run_script()
    assert await empty.wrong() == {}
    async with server.fresh() as url:
        other = Supabase(url)
        await other.execute(ROLES, role="postgres")
        await other.run_script()
        async with empty.connected("postgres_owner") as upgraded, other.connected("postgres_owner") as fresh:
            assert await catalogue(upgraded) == await catalogue(fresh)
            assert await upgraded.fetchval("select slug from tenants") == "kept"


async def test_what_the_script_closes_is_everything_it_creates(supabase: Supabase) -> None:
    async with supabase.connected("postgres_owner") as owner:
        assert list(schema.created("table")) == await tables(owner)
        made = {row["name"] for row in await owner.fetch(FUNCTIONS)}
        built_in = owner.get_server_version().major >= 18
    assert made == set(schema.created("function")) - ({"uuidv7"} if built_in else set())


async def test_anon_reads_nothing_writes_nothing_and_calls_nothing(filled: Filled) -> None:
    await refuses_everything(filled.supabase, "anon", {"role": "anon", "tenant_id": str(filled.ours.id)})


async def test_whoever_is_signed_in_writes_nothing_and_calls_nothing_but_the_claim(filled: Filled) -> None:
    claims = {"role": "authenticated", "tenant_id": str(filled.ours.id)}
    await refuses_everything(filled.supabase, "authenticated", claims, readable=set(schema.READABLE))


async def refuses_everything(
    supabase: Supabase, role: str, claims: dict[str, str], readable: set[str] = frozenset()
) -> None:
    async with supabase.connected("postgres_owner") as owner, supabase.connected(role, claims) as connection:
        everywhere = await tables(owner)
        assert len(everywhere) > 20
        for table in everywhere:
            column = await owner.fetchval(
                "select attname::text from pg_attribute where attrelid = $1::text::regclass and attnum = 1", table
            )
            reading = [f"select * from {table}", f"select {column} from {table}", f"copy {table} to stdout"]
            for statement in (
                *([] if table in readable else reading),
                f"insert into {table} default values",
                f"update {table} set {column} = default",
                f"delete from {table}",
                f"truncate {table}",
                f"alter table {table} disable row level security",
                f"create policy mine on {table} using (true)",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        functions = await owner.fetch(FUNCTIONS)
        assert {"working_api_keys", "journal_watermark", "zora_now"} <= {function["name"] for function in functions}
        callable_ = set()
        for function in functions:
            if await owner.fetchval("select has_function_privilege($1, $2, 'execute')", role, function["signature"]):
                callable_.add(function["name"])
                continue
            names = ", ".join(null.split()[-1] for null in function["nulls"])
            # Beyond the planner's sight, which knows without calling it that a strict function of null is null.
            nulls = f"select {', '.join(function['nulls'])} offset 0"
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for function"):
                await connection.execute(f"select {function['name']}({names}) from ({nulls}) as n")
        assert callable_ == ({"zora_claimed_tenant"} if role == "authenticated" else set())


@pytest.mark.parametrize(
    "where",
    [lambda tenant: {"tenant_id": tenant}, lambda tenant: {"app_metadata": {"provider": "email", "tenant_id": tenant}}],
    ids=["claim", "app_metadata"],
)
async def test_whoever_is_signed_in_reads_exactly_the_rows_of_the_tenant_that_the_token_names(
    filled: Filled, where: Any
) -> None:
    for tenant in (filled.ours, filled.theirs):
        async with (
            filled.supabase.connected("postgres_owner") as owner,
            filled.supabase.connected("authenticated", where(str(tenant.id))) as reader,
        ):
            expected = await rows_of(owner, tenant)
            for table in schema.READABLE:
                rows = [row["row"] for row in await reader.fetch(f"select to_jsonb(t)::text as row from {table} as t")]
                assert rows
                assert sorted(rows) == expected[table], table


async def test_without_a_tenant_in_the_token_nothing_is_visible(filled: Filled) -> None:
    ours = str(filled.ours.id)
    for claims in (
        None,
        "",
        {},
        {"tenant_id": None},
        {"tenant_id": ""},
        {"tenant_id": "abalone"},
        {"tenant_id": f"{ours}' or true --"},
        {"tenant_id": f" {ours}"},
        {"tenant_id": [ours]},
        {"tenant_id": "abalone", "app_metadata": {"tenant_id": ours}},
        {"app_metadata": ours},
        {"app_metadata": None},
        {"user_metadata": {"tenant_id": ours}},
        {"tenant_id": str(uuid4())},
        "null",
        f'"{ours}"',
        f'["{ours}"]',
    ):
        async with filled.supabase.connected("authenticated", claims) as reader:
            for table in schema.READABLE:
                assert await reader.fetchval(f"select count(*) from {table}") == 0, (table, claims)
    async with filled.supabase.connected("authenticated", "no JSON") as reader:
        for table in schema.READABLE:
            with pytest.raises(asyncpg.InvalidTextRepresentationError):
                await reader.fetchval(f"select count(*) from {table}")


async def test_the_service_role_carries_a_task_through_its_whole_life(supabase: Supabase, tmp_path: Path) -> None:
    database = await connect(supabase.as_role("service_role"))
    try:
        zora = Zora(database, supabase.as_role("service_role"), Settings(home=tmp_path, file_roots=(tmp_path,)))
        assert await zora.sql("select from pg_roles where rolname = current_user and rolname = 'service_role'")
        tenant_id = zora.tenant_id
        await zora.call("ensure_tenant", id=tenant_id, name="t", slug="t")
        (user,) = await zora.call("ensure_founder", tenant_id=tenant_id)

        task_id = await zora.create("SAM", "t")
        (claimed,) = await zora.call("claim_agent_tasks", tenant_id=tenant_id, worker_id="w")
        assert claimed["id"] == task_id
        token = claimed["lease_token"]
        run = {"ids": [task_id], "lease_tokens": [token]}
        await zora.call("heartbeat_agent_tasks", **run, lease_seconds=30.0, progress=[0.5], messages=["half"])
        await zora.call("save_agent_task_step", id=task_id, lease_token=token, name="s", value=1)
        suggestion = {
            "suggestion_type": "mission", "title": "m", "target": {}, "evidence": ["e"], "risk_level": "low",
            "suggested_value": None,
        }  # fmt: skip
        await zora.call(
            "settle_agent_tasks", **run, outcomes=["completed"], summaries=["s"],
            results=[{"suggestions": [suggestion]}], errors=[None], failure_kinds=[None], delays=[None],
        )  # fmt: skip
        assert (await zora.task(task_id)).status == "completed"
        (listed,) = await zora.call("list_agent_tasks", tenant_id=tenant_id)
        assert listed["id"] == task_id

        (proposed,) = await zora.call("list_agent_suggestions", tenant_id=tenant_id)
        decision = {"id": proposed["id"], "decision": "reject", "reason": "no", "user_id": user["id"]}
        await zora.call("decide_agent_suggestion", tenant_id=tenant_id, **decision)
        (decided,) = await zora.call("list_agent_suggestions", tenant_id=tenant_id)
        assert decided["status"] == "rejected"

        # The six agents' own way, with what upkeep does beside it.
        task = await zora.run("AEGIS", "check_climate_claims", {"claims": ["We are climate neutral."]})
        assert task.status == "completed"
        await zora.call("promote_agent_tasks")
        await zora.call("rescue_agent_tasks")
        await zora.call("run_due_schedules")
        entries = await zora.call("list_journal_entries", tenant_id=tenant_id)
        assert {"agent_task_created", "agent_task_completed"} <= {entry["event_type"] for entry in entries}

        # Without waiting until the entries are old enough.
        at_once = {"public_key": bytes(32), "min_age_seconds": -1000.0, "margin_seconds": -1000.0}
        (block,) = await zora.call("next_journal_block", tenant_id=tenant_id, **at_once)
        assert await database.value("seal_journal_block", tenant_id=tenant_id, signature=bytes(64), **block) is True
    finally:
        await database.close()


async def test_the_service_role_changes_neither_the_structure_nor_its_version_nor_the_journal(filled: Filled) -> None:
    async with filled.supabase.connected("service_role") as service:
        await schema.check(service)
        for statement in (
            "delete from zora_migrations",
            "delete from zora_functions",
            "truncate journal_entries",
            "alter table journal_entries disable trigger all",
            "set session_replication_role = replica",
            "drop function journal_watermark()",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await service.execute(statement)
        for table in ("journal_entries", "journal_blocks"):
            with pytest.raises(asyncpg.PostgresError, match="the journal is append-only"):
                await service.execute(f"delete from {table}")


@pytest.mark.parametrize("attribute", ["createrole", "nocreaterole"])
async def test_an_owner_who_makes_zora_api_has_a_working_api_and_one_who_may_not_has_the_rest(
    server: Server, attribute: str
) -> None:
    hidden = f"hidden_{uuid4().hex}"
    await server.admin(f"alter role zora_api rename to {hidden}")
    try:
        async with server.fresh() as url:
            supabase = Supabase(url)
            await supabase.execute(ROLES, f"alter role postgres_owner {attribute}", role="postgres")
            await supabase.run_script()
            await supabase.run_script()
            wrong = await supabase.wrong()
            assert list(wrong) == ([] if attribute == "createrole" else ["zora_api for zora serve"])
            if attribute == "nocreaterole":
                await supabase.execute(
                    "create role zora_api; grant zora_api to postgres_owner, authenticator", role="postgres"
                )
                await supabase.run_script()
            await the_api_works(supabase.as_role("postgres_owner"))
            assert await supabase.wrong() == {}
    finally:
        await server.admin(
            "alter role postgres_owner createrole", "drop role if exists zora_api",
            f"alter role {hidden} rename to zora_api",
        )  # fmt: skip


async def test_migrating_keeps_a_database_of_supabase_closed(empty: Supabase) -> None:
    async with empty.connected("postgres_owner") as owner:
        assert await schema.migrate(owner) is True
        assert await empty.wrong() == {}
        assert await schema.migrate(owner) is False
        # As by a release with a function that was not there.
        await owner.execute("drop function has_tenant(uuid); update zora_functions set digest = 'older'")
        with pytest.raises(SchemaError):
            await schema.check(owner)
        assert await schema.migrate(owner) is True
        assert await empty.wrong() == {}
        # The script was run without --supabase.
        await owner.execute("drop function zora_claimed_tenant() cascade; grant all on agent_tasks to anon")
        assert await schema.migrate(owner) is True
    assert await empty.wrong() == {}


# What is done to the database, which checks then fail, and what they say.
BREAKS: dict[str, tuple[str, dict[str, str]]] = {
    "policy dropped": (
        "drop policy zora_authenticated_tenant on agent_tasks",
        {"policies": "zora_authenticated_tenant is not on agent_tasks as it should be. Run this script again"},
    ),
    "policy opened": (
        "alter policy zora_authenticated_tenant on agent_tasks using (true)",
        {"policies": "zora_authenticated_tenant on agent_tasks is not of this script"},
    ),
    "policy of others": (
        "create policy everyone on api_keys using (true)",
        {"policies": "everyone on api_keys is not of this script"},
    ),
    "row security off": (
        "alter table journal_entries disable row level security",
        {"row-level security": "it is off on journal_entries. Run this script again"},
    ),
    "anon reads": (
        "grant select on memory_events to anon",
        {"anon may do nothing": "it must not have select on memory_events"},
    ),
    "anon reads a column": (
        "grant select (email) on users to anon",
        {"anon may do nothing": "it must not have select on users"},
    ),
    "anon calls": (
        "grant execute on function journal_watermark() to anon",
        {"anon may do nothing": "it must not have execute on journal_watermark()"},
    ),
    "everybody calls": (
        "grant execute on function working_api_keys(text [], boolean) to public",
        {
            "anon may do nothing": "it must not have execute on working_api_keys(text[], boolean)",
            "authenticated may read": "it must not have execute on working_api_keys(text[], boolean)",
        },
    ),
    "everything granted": (
        "grant all on all tables in schema public to anon",
        {"anon may do nothing": "it must not have delete on agent_suggestions; it must not have delete on agent_task"},
    ),
    "reader writes": (
        "grant update on agent_tasks to authenticated",
        {"authenticated may read": "it must not have update on agent_tasks"},
    ),
    "reader reads less": (
        "revoke select on workflows from authenticated",
        {"authenticated may read": "it lacks select on workflows"},
    ),
    "service less": (
        "revoke execute on function zora_now() from service_role",
        {"service_role may do all": "it lacks execute on zora_now()"},
    ),
    "function missing": (
        "drop function server_version()",
        {"functions": "server_version() is missing. Run this script again"},
    ),
    "function added anew": (
        "drop function server_version(); create function server_version() returns text language sql as 'select null'",
        {
            "anon may do nothing": "it must not have execute on server_version()",
            "authenticated may read": "it must not have execute on server_version()",
        },
    ),
    "functions of another version": (
        "update zora_functions set digest = 'other'",
        {"functions": "they are not those of this script"},
    ),
}


@pytest.mark.parametrize("broken", BREAKS)
async def test_the_check_names_what_is_wrong_and_running_the_script_again_repairs_it(
    supabase: Supabase, broken: str
) -> None:
    statement, expected = BREAKS[broken]
    await supabase.execute(statement)
    wrong = await supabase.wrong()
    assert wrong.keys() == expected.keys()
    for check, said in expected.items():
        assert said in wrong[check]
    await supabase.run_script()
    left = {"policies": wrong["policies"]} if broken == "policy of others" else {}
    assert await supabase.wrong() == left, "what is not of the script is for its owner to drop"


async def test_the_check_names_another_version_a_missing_table_an_extension_and_roles_that_see_all(
    supabase: Supabase,
) -> None:
    latest = schema.latest_version()
    await supabase.execute("insert into zora_migrations values (999, 'future')")
    assert f"version 999 is there, not {latest}" in (await supabase.wrong())["schema version"]
    await supabase.execute("delete from zora_migrations where version in (3, 999)")
    assert "schema version" in await supabase.wrong()
    await supabase.execute("insert into zora_migrations values (3, 'decisions')", "drop table agent_pauses cascade")
    assert "agent_pauses is missing. A table was dropped" in (await supabase.wrong())["tables"]

    available = "select name from pg_available_extensions where name in ('citext', 'vector') limit 1"
    async with supabase.connected("postgres") as superuser:
        name = await superuser.fetchval(available)
        if name is not None:
            await superuser.execute(f"create extension {name} schema extensions")
            await superuser.execute(f"alter table users add column mine extensions.{name}")
            assert f"the extension {name} is used" in (await supabase.wrong())["extensions"]
        await superuser.execute("alter role authenticated bypassrls; alter role service_role nobypassrls")
        try:
            wrong = await supabase.wrong()
        finally:
            await superuser.execute("alter role authenticated nobypassrls; alter role service_role bypassrls")
    assert "it must not bypass row-level security" in wrong["authenticated may read"]
    assert "it must bypass row-level security" in wrong["service_role may do all"]


async def test_what_is_not_ours_is_left_as_it_is(supabase: Supabase) -> None:
    await supabase.execute(
        "create table notes (id integer)",
        "create function shout(text) returns text language sql as 'select upper($1)'",
        "create policy mine on agent_tasks as restrictive for select to authenticated using (agent_id <> 'AEGIS')",
    )
    await supabase.run_script()
    async with supabase.connected("anon") as anon:
        assert await anon.fetch("select * from notes") == []
        assert await anon.fetchval("select shout('a')") == "A"
    async with supabase.connected("postgres_owner") as owner:
        assert await owner.fetchval("select count(*) from pg_policies where policyname = 'mine'") == 1
    assert await supabase.wrong() == {}, "a policy that only takes away is welcome"


async def test_a_database_without_supabases_roles_is_left_alone(server: Server) -> None:
    hidden = f"hidden_{uuid4().hex}"
    async with server.fresh() as url:
        supabase = Supabase(url)
        await supabase.execute(ROLES, f"alter role anon rename to {hidden}", role="postgres")
        try:
            with pytest.raises(asyncpg.RaiseError, match="not a Supabase database, which has the role anon"):
                await supabase.run_script()
        finally:
            await server.admin(f"alter role {hidden} rename to anon")
        async with supabase.connected("postgres_owner") as owner:
            assert await tables(owner) == []


def test_the_command_prints_the_script_that_ends_with_the_check() -> None:
    printed = CliRunner().invoke(print_schema, ["--supabase"]).output
    assert printed == schema.render_script(supabase=True)
    assert printed.endswith(schema.supabase_check() + "\n")
    assert ":tables" not in printed
    assert CliRunner().invoke(print_schema).output == schema.render_script()
