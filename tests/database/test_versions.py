"""Two versions of the program on one database, as real processes: the older one never puts its functions back."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import ROOT, Server
from zora_core import __version__
from zora_core.database import schema
from zora_core.database.embedded import EmbeddedServer
from zora_core.settings import DEFAULT_TENANT_ID

MAJOR, MINOR, PATCH = (int(number) for number in __version__.split("."))
OUR_DIGEST = schema.functions_digest()
OURS = schema.Installed(frozenset(m.version for m in schema.migrations()), OUR_DIGEST, __version__)


def release(*, minor: int = 0, patch: int = 0) -> str:
    return f"{MAJOR}.{MINOR + minor}.{PATCH + patch}"


@pytest.mark.parametrize(
    ("found", "standing", "works"),
    [
        (OURS, "same", True),
        (replace(OURS, versions=OURS.versions - {3}), "older", True),
        (replace(OURS, versions=OURS.versions | {998}), "newer", True),
        (replace(OURS, versions=OURS.versions | {998}, release=release(minor=1)), "newer", False),
        (replace(OURS, versions=OURS.versions - {3} | {998}), "newer", True),
        (replace(OURS, digest="x"), "older", True),
        (replace(OURS, digest="x", replaced=(OUR_DIGEST,)), "newer", True),
        (replace(OURS, digest="x", replaced=("y",)), "older", True),
        (replace(OURS, digest="x", release=release(patch=1)), "newer", True),
        (replace(OURS, digest="x", release=release(minor=1)), "newer", False),
        (replace(OURS, digest="x", release=f"{MAJOR + 1}.0.0"), "newer", False),
        (replace(OURS, digest="x", release="0.0.9", replaced=(OUR_DIGEST,)), "older", False),
        (replace(OURS, digest="x", release=f"{release(patch=9)}.dev1"), "newer", True),
        (replace(OURS, release=None, digest="x", versions=frozenset({1})), "older", False),
        (schema.Installed(), "older", False),
        (schema.Installed.of({"version": 12, "digest": "x"}), "older", False),
        (schema.Installed.of({"version": 998, "digest": "x"}), "newer", False),
        (schema.Installed.of({"digest": None, "versions": None}), "older", False),
    ],
)  # fmt: skip
def test_a_database_is_the_same_older_or_newer(found: schema.Installed, standing: str, works: bool) -> None:
    assert found.standing == standing
    assert found.works is works


@dataclass
class Version:
    """A copy of the program with a release and functions of its own, run as processes."""

    folder: Path
    environment: dict[str, str]

    async def __call__(self, *arguments: str, status: int = 0, **environment: str) -> str:
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-m", "zora_core.cli", *arguments], capture_output=True,
            text=True, timeout=120, cwd=self.folder,
            env={**self.environment, "PYTHONPATH": str(self.folder), **environment},
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


def version(folder: Path, release: str, says: str, *, migrations: bool = False, **environment: str) -> Version:
    """A copy whose function server_version() says something of its own; with `migrations`, one that adds a column."""
    shutil.copytree(ROOT / "zora_core", folder / "zora_core", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "examples", folder / "examples")
    init = folder / "zora_core" / "__init__.py"
    init.write_text(init.read_text().replace(__version__, release))
    sql = folder / "zora_core" / "database" / "sql"
    function = sql / "functions" / "server_version.sql"
    function.write_text(re.sub(r"\$\$.*\$\$", f"$$ select '{says}'::text $$", function.read_text(), flags=re.DOTALL))
    if migrations:
        number = schema.latest_version() + 1
        (sql / "migrations" / f"{number:04}_later.sql").write_text("alter table tenants add column later text;")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZORA_", "SUPABASE_", "DATABASE_URL"))}
    return Version(folder, {**kept, "ZORA_HOME": str(folder / "home"), "COLUMNS": "200", **environment})


async def said(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval("select server_version()"))
    finally:
        await connection.close()


@pytest.fixture
async def url(server: Server) -> AsyncIterator[str]:
    async with server.fresh() as url:
        yield url


@pytest.mark.parametrize(
    ("newer_release", "migrations"),
    [(release(patch=1), False), (release(patch=1), True), (__version__, False), (__version__, True)],
)
async def test_an_older_version_works_with_what_a_newer_one_migrated_and_leaves_it_alone(
    url: str, tmp_path: Path, newer_release: str, migrations: bool
) -> None:
    older = version(tmp_path / "older", __version__, "older", DATABASE_URL=url)
    newer = version(tmp_path / "newer", newer_release, "newer", migrations=migrations, DATABASE_URL=url)
    await older("migrate")
    assert await said(url) == "older"
    assert "run `zora migrate`" in await newer("status", status=1)
    await newer("migrate")
    assert await said(url) == "newer"

    created = await older("create-task", "--agent=AEGIS", "--type=check_climate_claims", "--title=t",
                          '--payload={"claims": ["We are climate neutral."]}')  # fmt: skip
    assert created
    assert "1" in await older("run-once")
    assert "completed" in await older("tasks", "list")
    refused = await older("migrate", status=1)
    assert "which is newer than this zora" in refused or "a later zora" in refused
    assert "nothing was changed; upgrade zora" in refused
    assert len(refused.splitlines()) == 1
    assert "upgrade zora" in await older("doctor")
    assert await said(url) == "newer"
    assert "nothing to do" in await newer("migrate")

    script = await older("schema")
    connection = await asyncpg.connect(url)
    with pytest.raises(asyncpg.PostgresError, match="has migrated the schema public: nothing was changed"):
        await connection.execute(script)
    await connection.close()
    assert await said(url) == "newer"


async def test_another_minor_version_is_refused_with_what_to_do(url: str, tmp_path: Path) -> None:
    older = version(tmp_path / "older", __version__, "older", DATABASE_URL=url)
    newer = version(tmp_path / "newer", release(minor=1), "newer", DATABASE_URL=url)
    await newer("migrate")
    for command in ("status", "run-once", "migrate"):
        refused = await older(command, status=1)
        assert f"of zora {release(minor=1)}" in refused
        assert "upgrade zora" in refused
        assert "zora migrate" not in refused
    assert "upgrade zora" in await older("doctor", status=1)
    assert await said(url) == "newer"


async def test_a_database_of_the_first_release_is_told_to_migrate(url: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute((Path(__file__).parent / "released" / "0.1.0.sql").read_text())
    await connection.close()
    current = version(tmp_path / "current", __version__, "current", DATABASE_URL=url)
    assert "run `zora migrate`" in await current("status", status=1)
    await current("migrate")
    assert await said(url) == "current"


async def test_of_two_that_migrate_at_the_same_time_the_newer_one_wins(url: str, tmp_path: Path) -> None:
    older = version(tmp_path / "older", __version__, "older", DATABASE_URL=url)
    newer = version(tmp_path / "newer", release(patch=1), "newer", DATABASE_URL=url)

    async def migrate(one: Version) -> None:
        try:
            await one("migrate")
        except AssertionError as error:  # the older one came second
            assert "nothing was changed" in str(error)

    await asyncio.gather(migrate(older), migrate(newer))
    assert await said(url) == "newer"


async def test_two_versions_on_one_embedded_database_do_not_flip_it(short_tmp: Path, tmp_path: Path) -> None:
    home = short_tmp / "versions"
    server = EmbeddedServer.at(home)
    url = server.start()
    try:
        older = version(tmp_path / "older", __version__, "older", ZORA_HOME=str(home))
        newer = version(tmp_path / "newer", release(patch=1), "newer", ZORA_HOME=str(home))
        same = version(tmp_path / "same", release(patch=1), "rebuilt", ZORA_HOME=str(home))
        for one, expected in ((older, "older"), (newer, "newer"), (older, "newer"), (newer, "newer"),
                              (same, "rebuilt"), (newer, "rebuilt"), (older, "rebuilt")):  # fmt: skip
            await one("status")
            assert await said(url) == expected
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("select count(*) from tenants where id = $1", DEFAULT_TENANT_ID) == 1
        await connection.close()
    finally:
        server.release()
