"""A dump of a database restores with every row, on both servers, in every format; what an old dump needs is done."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from tests.cli.test_journal import ADD
from tests.conftest import Server
from tests.database.test_schema import catalogue, the_api_works
from tests.database.test_tenants import Tenant, fill
from tests.servers import SystemServer
from zora_core.database import schema
from zora_core.database.embedded import EmbeddedServer
from zora_core.database.postgres import connect
from zora_core.errors import SchemaError

DOCS = Path(__file__).parents[2] / "docs" / "backup.md"

# As the functions were before they had a search_path of their own, in the dumps of such databases.
UNPINNED = """
do $$
declare
    v_function regprocedure;
begin
    for v_function in select oid from pg_proc where pronamespace = 'public'::regnamespace loop
        execute format('alter function %s reset search_path', v_function);
    end loop;
end
$$
"""


@dataclass
class Place:
    """A database with two tenants' rows in every table, another that is empty, and the programs of their server."""

    programs: Path
    source: str
    target: str
    folder: Path

    async def run(self, program: str, *arguments: str, given: str | None = None, **environment: str) -> str:
        """What one of PostgreSQL's programs prints; its errors fail the test."""
        done = await asyncio.to_thread(
            subprocess.run, [str(self.programs / program), *arguments], input=given, capture_output=True, text=True,
            timeout=120, env={**os.environ, **environment},
        )  # fmt: skip
        errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        assert (done.returncode, errors) == (0, []), done.stderr
        return done.stdout

    async def zora(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """A command on the restored database."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZORA_", "SUPABASE_", "DATABASE_URL"))}
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-m", "zora_core.cli", *arguments], capture_output=True,
            text=True, timeout=120, env={**kept, "DATABASE_URL": self.target, "ZORA_HOME": str(self.folder / "home"),
                              "COLUMNS": "200", **environment},
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr


async def rows(url: str, schema_name: str = "public") -> dict[str, list[str]]:
    """Everything in the tables."""
    connection = await asyncpg.connect(url)
    try:
        return {
            table: [row[0] for row in await connection.fetch(
                f'select to_jsonb(t)::text from "{schema_name}".{table} as t order by 1'
            )]
            for table in schema.created("table") if table != "agent_task_watchers"  # unlogged
        }  # fmt: skip
    finally:
        await connection.close()


@pytest.fixture
async def place(server: Server, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    kind = {"embedded": EmbeddedServer, "system": SystemServer}[request.node.callspec.params["server"]]
    async with server.fresh() as source, server.fresh() as target:
        owner = await asyncpg.connect(source)
        await schema.migrate(owner)
        for mark in ("abalone", "barnacle"):
            await fill(owner, Tenant(mark, uuid4()))
        await owner.close()
        yield Place(kind._binaries(), source, target, tmp_path)


async def is_whole(place: Place, *, structure: bool = True) -> None:
    """The same rows and the same catalogue, and everything works."""
    before, after = await rows(place.source), await rows(place.target)
    assert before["agent_suggestions"]
    assert {name: len(found) for name, found in after.items()} == {name: len(found) for name, found in before.items()}
    for table in before:
        if structure or not table.startswith("zora_"):  # when each was migrated
            assert after[table] == before[table], table
    source, target = await asyncpg.connect(place.source), await asyncpg.connect(place.target)
    try:
        restored, dumped = await catalogue(target), await catalogue(source)
        # PostgreSQL writes the conditions of a constraint or an index in other words when it reads them again.
        worded = {"constraint", "index"}
        assert {row if row[0] not in worded else row[:2] for row in restored} == {
            row if row[0] not in worded else row[:2] for row in dumped
        }
        assert await schema.migrate(target) is False
    finally:
        await source.close()
        await target.close()


async def tenant_of(place: Place) -> str:
    connection = await asyncpg.connect(place.target)
    try:
        return str(await connection.fetchval("select id from tenants where name = 'abalone'"))
    finally:
        await connection.close()


async def test_a_plain_dump_is_restored_whole_and_its_journal_is_proven(place: Place) -> None:
    owner = await asyncpg.connect(place.source)
    tenant = str(await owner.fetchval("insert into tenants (name, slug) values ('conch', 'conch') returning id"))
    await owner.execute(ADD, tenant)
    await owner.close()
    await place.zora("journal", "seal", DATABASE_URL=place.source, ZORA_TENANT_ID=tenant)

    dump = await place.run("pg_dump", place.source)
    await place.run("psql", "-q", "--set=ON_ERROR_STOP=1", place.target, given=dump)
    await is_whole(place)
    assert "✓  schema" in await place.zora("doctor", ZORA_TENANT_ID=tenant)
    verified = await place.zora("journal", "verify", ZORA_TENANT_ID=tenant)
    assert "✓" in verified, verified
    await the_api_works(place.target)


async def test_a_custom_dump_is_restored_whole(place: Place) -> None:
    file = str(place.folder / "zora.dump")
    await place.run("pg_dump", "--format=custom", f"--file={file}", place.source)
    await place.run("pg_restore", "--exit-on-error", f"--dbname={place.target}", file)
    await is_whole(place)


async def test_a_schema_of_its_own_is_dumped_and_restored_whole(place: Place) -> None:
    owner = await asyncpg.connect(place.source)
    await schema.migrate(owner, "zora")
    await owner.execute("set search_path = zora")
    await fill(owner, Tenant("conch", uuid4()))
    await owner.close()
    dump = await place.run("pg_dump", "--schema=zora", place.source)
    await place.run("psql", "-q", "--set=ON_ERROR_STOP=1", place.target, given=dump)
    assert await rows(place.target, "zora") == await rows(place.source, "zora")
    database = await connect(place.target, schema_name="zora")
    assert await database.missing_objects() == []
    await database.close()


@pytest.mark.parametrize("options", ["", "-c session_replication_role=replica"], ids=["as anybody", "as superuser"])
async def test_the_data_alone_are_restored_into_a_new_schema(place: Place, options: str) -> None:
    connection = await asyncpg.connect(place.target)
    await connection.execute(schema.render_script())
    await connection.close()
    left_out = [f"--exclude-table={table}" for table in ("zora_migrations", "zora_functions")]
    dump = await place.run("pg_dump", "--data-only", *left_out, place.source)
    await place.run("psql", "-q", "--set=ON_ERROR_STOP=1", place.target, given=dump, PGOPTIONS=options)
    if not options:  # a trigger plans schedules again
        for url in (place.source, place.target):
            connection = await asyncpg.connect(url)
            await connection.execute("update autonomy_schedules set upcoming = '{}', handled_until = '2030-01-01'")
            await connection.execute("update autonomy_schedules set next_run_at = null, plan_again_at = null")
            await connection.close()
    await is_whole(place, structure=False)


async def test_a_dump_of_an_earlier_version_loses_a_table_which_is_noticed_and_is_restored_as_the_docs_say(
    place: Place, server: Server
) -> None:
    owner = await asyncpg.connect(place.source)
    await owner.execute(UNPINNED)
    await owner.close()
    file = str(place.folder / "old.dump")
    await place.run("pg_dump", "--format=custom", f"--file={file}", place.source)
    with pytest.raises(AssertionError, match="text_digest"):
        await place.run("pg_restore", f"--dbname={place.target}", file)

    tenant = await tenant_of(place)
    lost = "the schema has lost table agent_suggestions, with the data: restore the database from a backup again"
    assert lost in await place.zora("doctor", status=1, ZORA_TENANT_ID=tenant)
    assert lost in await place.zora("migrate", status=1, ZORA_TENANT_ID=tenant)

    (commands,) = re.findall(r"^```sh\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    async with server.fresh() as url:
        place.target = url
        shell = commands.replace("old.dump", file).replace('"$NEW"', f"'{url}'")
        path = f"{place.programs}{os.pathsep}{os.environ['PATH']}"
        done = await asyncio.to_thread(
            subprocess.run, shell, shell=True, capture_output=True, text=True, env={**os.environ, "PATH": path}
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        connection = await asyncpg.connect(url)
        await connection.execute("update zora_functions set digest = 'of the earlier version'")
        assert await schema.migrate(connection) is True
        await connection.close()
        owner = await asyncpg.connect(place.source)
        await owner.execute(schema.render_script())
        await owner.close()
        await is_whole(place, structure=False)


async def test_a_dump_without_the_role_of_the_api_is_completed_by_migrating(place: Place, server: Server) -> None:
    dump = await place.run("pg_dump", "--no-privileges", place.source)
    dump = re.sub(r"^CREATE POLICY .*;$", "", dump, flags=re.MULTILINE)
    await place.run("psql", "-q", "--set=ON_ERROR_STOP=1", place.target, given=dump)
    tenant = await tenant_of(place)
    assert "the schema lacks access agent_pauses" in await place.zora("doctor", status=1, ZORA_TENANT_ID=tenant)
    await place.zora("migrate", ZORA_TENANT_ID=tenant)
    await the_api_works(place.target)


async def test_a_table_that_is_gone_is_not_migrated_over(place: Place) -> None:
    owner = await asyncpg.connect(place.source)
    await owner.execute("drop table agent_suggestions cascade; update zora_functions set digest = 'older'")
    with pytest.raises(SchemaError, match="the schema public has lost table agent_suggestions, with all rows"):
        await schema.migrate(owner)
    await owner.close()


async def schema_of(url: str) -> tuple[list[tuple[str, ...]], list[tuple[int, str]]]:
    """The catalogue of a database, and what it says of its migrations."""
    connection = await asyncpg.connect(url)
    try:
        applied = await connection.fetch("select version, name from zora_migrations order by version")
        worded = {"constraint", "index"}  # as in is_whole()
        found = {tuple(row if row[0] not in worded else row[:2]) for row in await catalogue(connection)}
        return sorted(found), [tuple(row) for row in applied]
    finally:
        await connection.close()


@pytest.mark.parametrize("by", ["the command", "the script"])
async def test_a_dump_of_the_schema_alone_is_recognised_and_completed(place: Place, by: str) -> None:
    dump = await place.run("pg_dump", "--schema-only", place.source)
    await place.run("psql", "-q", "--set=ON_ERROR_STOP=1", place.target, given=dump)
    assert "run `zora migrate`" in await place.zora("status", status=1)
    if by == "the command":
        await place.zora("migrate")
    else:
        await place.run("psql", "-q", "--set=ON_ERROR_STOP=1", place.target, given=schema.render_script())
    assert await schema_of(place.target) == await schema_of(place.source)
    assert "nothing to do" in await place.zora("migrate")
    assert "✓  schema" in await place.zora("doctor")
    await the_api_works(place.target)


async def test_a_dump_of_an_earlier_schema_alone_gets_the_migrations_that_it_lacks(
    place: Place, server: Server
) -> None:
    *_, last = schema.migrations()
    earlier = schema.render_script().replace(last.sql, "return;").replace(f", {last.version}';", "';")
    async with server.fresh() as url:
        await place.run("psql", "-q", "--set=ON_ERROR_STOP=1", url, given=earlier)
        dump = await place.run("pg_dump", "--schema-only", url)
    await place.run("psql", "-q", "--set=ON_ERROR_STOP=1", place.target, given=dump)
    await place.zora("migrate")
    assert await schema_of(place.target) == await schema_of(place.source)


async def test_a_dump_of_a_later_schema_alone_is_left_as_it_is(place: Place) -> None:
    owner = await asyncpg.connect(place.source)
    await owner.execute("comment on table zora_migrations is 'ZORA 9.0.0, migrations 1, 2, 99'")
    await owner.close()
    dump = await place.run("pg_dump", "--schema-only", place.source)
    await place.run("psql", "-q", "--set=ON_ERROR_STOP=1", place.target, given=dump)
    assert "a later zora than this one" in await place.zora("migrate", status=1)


@pytest.mark.parametrize("name", ["public", "zora"])
async def test_a_dump_of_the_schema_without_comments_is_explained_with_the_command_that_completes_it(
    place: Place, name: str
) -> None:
    if name != "public":
        owner = await asyncpg.connect(place.source)
        await schema.migrate(owner, name)
        await owner.close()
    dump = await place.run("pg_dump", "--schema-only", "--no-comments", f"--schema={name}", place.source)
    dump = re.sub(r"^CREATE SCHEMA public;$", "", dump, flags=re.MULTILINE)
    await place.run("psql", "-q", "--set=ON_ERROR_STOP=1", place.target, given=dump)
    said = await place.zora("migrate", status=1, ZORA_SCHEMA=name)
    assert f"the schema {name} holds ZORA's tables, but the table zora_migrations" in said
    command = re.findall(r"`(pg_dump [^`]*)`", said.replace("\n", " "))[0]
    done = await asyncio.to_thread(
        subprocess.run, command, shell=True, capture_output=True, text=True,
        env={**os.environ, "OLD": place.source, "NEW": place.target,
             "PATH": f"{place.programs}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    await place.zora("migrate", ZORA_SCHEMA=name)
    assert "✓  schema" in await place.zora("doctor", ZORA_SCHEMA=name)
