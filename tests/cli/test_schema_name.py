"""ZORA_SCHEMA: beside an application's own tables or the original system's, over a connection and over HTTP."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner

from tests.cli.supabase import Project, project_on
from tests.cli.test_doctor_over_http import checks
from tests.cli.test_journal import ADD
from tests.conftest import Server
from tests.importing import original
from zora_core.cli.database import print_schema
from zora_core.database import schema
from zora_core.errors import ConfigurationError
from zora_core.settings import DEFAULT_TENANT_ID, load_schema

CREATE = ("create-task", "--agent=AEGIS", "--type=check_climate_claims", "--title=t",
          '--payload={"claims": ["We are climate neutral."]}')  # fmt: skip
WITHIN = {"ZORA_SCHEMA": "zora"}


@pytest.fixture
async def url(embedded: Server) -> AsyncIterator[str]:
    """A database that belongs to an application."""
    async with embedded.fresh() as url:
        yield url


async def run(url: str, home: Path, *arguments: str, status: int = 0, **environment: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZORA_", "SUPABASE_", "DATABASE_URL"))}
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "zora_core.cli", *arguments], capture_output=True, text=True,
        timeout=120, env={**kept, "DATABASE_URL": url, "ZORA_HOME": str(home), "COLUMNS": "300", **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


async def test_beside_an_applications_own_tables_every_command_works_in_a_schema_of_its_own(
    url: str, tmp_path: Path
) -> None:
    owner = await asyncpg.connect(url)
    await owner.execute("create table users (id integer); create table tenants (id integer)")
    refused = await run(url, tmp_path, "migrate", status=1)
    assert refused == (
        "error: the schema public already has objects that ZORA would create (table tenants, table users): nothing was "
        "changed; set ZORA_SCHEMA, for example to zora, to install ZORA into a schema of its own\n"
    )
    assert await owner.fetchval("select count(*) from pg_class where relnamespace = 'public'::regnamespace") == 2

    await run(url, tmp_path, "migrate", **WITHIN)
    await owner.execute("set search_path = zora")
    await owner.execute(ADD, DEFAULT_TENANT_ID)
    await owner.close()
    await run(url, tmp_path, *CREATE, **WITHIN)
    assert "completed" in await run(url, tmp_path, "run-once", **WITHIN)
    assert "completed" in await run(url, tmp_path, "tasks", "list", **WITHIN)
    await run(url, tmp_path, "journal", "seal", **WITHIN)
    assert "✓" in await run(url, tmp_path, "journal", "verify", **WITHIN)
    doctor = await run(url, tmp_path, "doctor", **WITHIN)
    assert f"version {schema.latest_version()} in zora" in doctor
    for command in (["status"], ["suggestions", "list"], ["policies", "list"], ["schedules", "list"]):
        await run(url, tmp_path, *command, **WITHIN)
    assert "version 0" in await run(url, tmp_path, "status", status=1)


async def test_the_original_systems_tables_are_left_alone_and_imported_from_beside_them(
    url: str, tmp_path: Path
) -> None:
    await original.fill(url, original.rows())
    refused = await run(url, tmp_path, "migrate", status=1)
    assert "table agent_tasks" in refused
    assert "set ZORA_SCHEMA=zora" in refused
    assert "zora import" in refused
    assert len(refused.splitlines()) == 1
    await run(url, tmp_path, "migrate", **WITHIN)
    said = await run(url, tmp_path, "import", "--from", url, "--apply", **WITHIN)
    assert "tasks" in said
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("select count(*) from zora.imported_records") > 10
    await connection.close()


@pytest.fixture
def project(embedded: Server, tmp_path: Path) -> Iterator[Project]:
    with project_on(embedded, tmp_path, "--schema=public", "--schema=zora") as project:
        yield project


def test_over_http_beside_the_original_systems_tables(project: Project) -> None:
    asyncio.run(original.fill(project.admin_url, original.rows()))
    with pytest.raises(AssertionError, match=r"table agent_tasks.*nothing was changed") as refused:
        project.sql(schema.render_script(supabase=True))
    assert "ZORA_SCHEMA=zora" in str(refused.value)
    assert "zora import" in str(refused.value)

    script = CliRunner().invoke(print_schema, ["--supabase"], env=WITHIN).output
    assert script == schema.render_script(supabase=True, schema="zora")
    verdict = project.sql(script)
    assert len(re.findall(r"\| t +\| nothing", verdict)) == 11, verdict
    project.wait_until_known("zora")
    project.zora("tenants", "add", "Acme", **WITHIN)
    found = checks(project, **WITHIN)
    assert found["schema"] == ("ok", f"version {schema.latest_version()} in zora")
    assert {state for state, _ in found.values()} == {"ok"}
    project.zora(*CREATE, **WITHIN)
    assert "completed" in project.zora("run-once", **WITHIN)
    assert "Sealed" in project.zora("journal", "seal", **WITHIN)
    assert "✓" in project.zora("journal", "verify", **WITHIN)
    assert "nothing to do" in project.zora("migrate", **WITHIN)


@pytest.mark.parametrize(
    "name", ["Zora", "pg_zora", "1zora", "zo ra", 'zora"', "zora;", "information_schema", "a" * 64, "é"]
)
def test_a_name_that_is_not_usable_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"ZORA_SCHEMA is .* it must be the name of a schema"):
        load_schema({"ZORA_SCHEMA": name})


def test_the_default_is_public() -> None:
    assert load_schema({}) == load_schema({"ZORA_SCHEMA": " "}) == "public"
