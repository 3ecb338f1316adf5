"""A project of Supabase for the command line: an empty one, as its owner has it, behind a stand-in for PostgREST."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import httpx

from tests.conftest import ROOT, SECRET, Server
from tests.postgrest import Config, authenticator_url, prepare
from zora_core.database import schema
from zora_core.database.embedded import EmbeddedServer

OWNER = (ROOT / "tests" / "database" / "supabase_owner.sql").read_text(encoding="utf-8")
TENANT_ID = UUID("00000000-0000-0000-0000-0000000000aa")


@dataclass
class Project:
    """Runs SQL as the project's SQL editor does, and commands with the three variables set."""

    admin_url: str
    url: str
    environment: dict[str, str]

    @property
    def owner_url(self) -> str:
        return self.admin_url.replace("postgres@", "postgres_owner@", 1)

    def sql(self, script: str, *, administrator: bool = False) -> str:
        """What the script shows, as aligned columns; the owner is not a superuser."""
        psql = [EmbeddedServer._binaries() / "psql", self.admin_url if administrator else self.owner_url]
        done = subprocess.run(
            [*psql, "-Xq", "-P", "footer=off", "--set=ON_ERROR_STOP=1"],
            input=script, text=True, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self) -> None:
        self.sql(schema.render_script(supabase=True))
        self.wait_until_known()

    def wait_until_known(self, schema_name: str = "public") -> None:
        """Until PostgREST has noticed the functions, which takes it a moment after the script's last line."""
        headers = {"apikey": self.environment["SUPABASE_SERVICE_KEY"], "content-profile": schema_name}
        with httpx.Client(headers=headers) as client:
            while client.post(f"{self.url}/rest/v1/rpc/zora_now", json={}).status_code == 404:
                pass

    @property
    def authenticator_url(self) -> str:
        return authenticator_url(self.admin_url)

    def zora(self, *arguments: str, status: int = 0, given: str | None = None, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "zora_core.cli", *arguments],
            env={**self.environment, **environment}, input=given, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


@contextmanager
def stand_in(database_url: str, *options: str) -> Iterator[str]:
    """The address of a stand-in for PostgREST, in a process of its own."""
    command = [sys.executable, "-m", "tests.postgrest", f"--database-url={database_url}"]
    with subprocess.Popen(
        [*command, f"--jwt-secret={SECRET}", *options], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextmanager
def project_on(server: Server, home: Path, *options: str) -> Iterator[Project]:
    """An empty project on this server; `options` are the stand-in's."""
    name = f"project_{uuid4().hex[:12]}"
    url = server.database_url(name)
    asyncio.run(server.admin(f"create database {name}"))
    try:
        asyncio.run(prepare(url))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZORA_", "SUPABASE_", "DATABASE_URL"))}
        with stand_in(authenticator_url(url), *options) as address:
            project = Project(
                url,
                address,
                {
                    **kept,
                    "SUPABASE_URL": address,
                    "SUPABASE_SERVICE_KEY": Config(database_url=url, jwt_secret=SECRET).secret_key,
                    "ZORA_TENANT_ID": str(TENANT_ID),
                    "ZORA_HOME": str(home),
                    "COLUMNS": "160",
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
                },
            )
            project.sql(OWNER, administrator=True)
            yield project
    finally:
        asyncio.run(server.admin(f"drop database {name} with (force)"))
