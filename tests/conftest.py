"""Fixtures: real PostgreSQL servers, a fresh database per test, and a clock that tests own."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import pytest
from hypothesis import settings as hypothesis_settings

from tests.postgrest import Config, prepare
from tests.servers import SystemServer, system_binaries
from zora_core.agents.agent import Agent, Registry
from zora_core.agents.builtin import registry
from zora_core.autonomy.worker import TaskRun, Worker
from zora_core.database import postgrest, schema
from zora_core.database.database import Database
from zora_core.database.embedded import EmbeddedServer
from zora_core.database.postgres import connect
from zora_core.models import TaskRecord
from zora_core.settings import DEFAULT_TENANT_ID, Settings

hypothesis_settings.register_profile("zora", deadline=None)
hypothesis_settings.load_profile("zora")

ROOT = Path(__file__).parents[1]
CLOCK = (Path(__file__).parent / "clock.sql").read_text()
EMPTY = (Path(__file__).parent / "empty.sql").read_text()
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
SECRET = "a secret of the tests, of more than 32 characters"


# Folders of which every test takes seconds: browsers, and real processes that are killed.
SLOW_FOLDERS = frozenset({"browser", "chaos"})
# Fixtures that run a test on either server.
SERVERS = ("server", "connection", "crowded", "project", "strict", "unguarded")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="each test once: on the embedded server, over a connection; no browsers, no chaos, nothing marked slow",
    )
    parser.addoption("--http", action="store_true", help="run every test that has the fixture zora over HTTP as well")
    parser.addoption("--system", action="store_true", help="run tests of one server on the installed, older PostgreSQL")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --quick, leave out what repeats another test elsewhere, or takes long."""
    if not config.getoption("--quick"):
        return

    def slow(item: pytest.Item) -> bool:
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        return bool(
            parameters.get("transport") == "http"
            or any(parameters.get(name) == "system" for name in SERVERS)
            or item.path.parent.name in SLOW_FOLDERS
            or item.get_closest_marker("slow")
        )

    left_out = [item for item in items if slow(item)]
    items[:] = [item for item in items if not slow(item)]
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape half surrogate pairs, which xdist cannot send: a failed test that is about them would end the run."""
    report = yield

    def sendable(text: str) -> str:
        return text.encode("utf-8", "backslashreplace").decode()

    report.sections = [(name, sendable(text)) for name, text in report.sections]
    if report.failed and sendable(report.longreprtext) != report.longreprtext:
        report.longrepr = sendable(report.longreprtext)
    return report


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The conformance suite: modules marked `both_transports` run over a direct connection and over HTTP."""
    marked = metafunc.definition.get_closest_marker
    wanted = marked("both_transports") or metafunc.config.getoption("--http")
    if "transport" in metafunc.fixturenames and wanted and not marked("direct_connection"):
        metafunc.parametrize("transport", ["direct", "http"])


class Server:
    """A running server with a database that has the schema and the tests' clock."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        self.home = home
        self._names = (f"test_{number}" for number in itertools.count())
        self._stand_in: subprocess.Popen[str] | None = None
        self._project: Settings | None = None

    def database_url(self, name: str) -> str:
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"/{name}"))

    async def admin(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def prepare(self) -> None:
        """Make the database that tests share in turn: creating one takes a hundred times as long as emptying it."""
        # These data need not survive a power cut.
        await self.admin("alter system set fsync = off", "select pg_reload_conf()")
        await self._make("shared")

    async def _make(self, name: str, *, supabase: bool = False) -> str:
        await self.admin(f"create database {name}")
        url = self.database_url(name)
        authenticator = await prepare(url) if supabase else ""
        connection = await asyncpg.connect(url)
        try:
            await schema.migrate(connection)
            await connection.execute(CLOCK)
            if supabase:
                await connection.execute("grant select on test_clock to service_role")
        finally:
            await connection.close()
        return authenticator

    async def project(self) -> Settings:
        """The settings of a project of Supabase on this server, its database `project`; made when first asked for."""
        if self._project is None:
            url = await self._make("project", supabase=True)
            self._project = Settings(
                home=self.home,
                supabase_url=self._stand_in_for(url),
                supabase_service_key=Config(database_url=url, jwt_secret=SECRET).secret_key,
            )
        return self._project

    def _stand_in_for(self, authenticator_url: str) -> str:
        """The address of a stand-in for PostgREST, in a process of its own."""
        command = [sys.executable, "-m", "tests.postgrest", f"--database-url={authenticator_url}"]
        self._stand_in = subprocess.Popen(
            [*command, f"--jwt-secret={SECRET}"], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self._stand_in.stdout
        return self._stand_in.stdout.readline().strip()

    def close(self) -> None:
        if self._stand_in is not None:
            self._stand_in.terminate()
            self._stand_in.communicate(timeout=30)

    async def emptied(self, database: str = "shared") -> str:
        """The URL of a shared database, with nothing in it but a tenant and the clock at its start."""
        url = self.database_url(database)
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(EMPTY)
        finally:
            await connection.close()
        return url

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[str]:
        """The URL of an empty database of one's own."""
        name = next(self._names)
        await self.admin(f"create database {name}")
        try:
            yield self.database_url(name)
        finally:
            await self.admin(f"drop database {name} with (force)")


@pytest.fixture(scope="session")
def short_tmp() -> Iterator[Path]:
    """A temporary folder whose path is short enough for a socket, open to the user that PostgreSQL runs as."""
    folder = Path(tempfile.mkdtemp(prefix="zora-"))
    folder.chmod(0o755)
    guard = subprocess.Popen([sys.executable, "-m", "tests.left_behind", folder], stdin=subprocess.PIPE, cwd=ROOT)
    yield folder
    shutil.rmtree(folder)
    guard.communicate(timeout=60)


def _running(kind: type[EmbeddedServer], home: Path) -> Iterator[Server]:
    embedded = kind.at(home)
    server = Server(embedded.start(), home)
    asyncio.run(server.prepare())
    yield server
    server.close()
    embedded.release()


@pytest.fixture(scope="session")
def embedded(short_tmp: Path) -> Iterator[Server]:
    yield from _running(EmbeddedServer, short_tmp / "embedded")


@pytest.fixture(scope="session")
def system(short_tmp: Path) -> Iterator[Server]:
    if system_binaries() is None:
        pytest.skip("no PostgreSQL installed besides the embedded one")
    yield from _running(SystemServer, short_tmp / "system")


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    """The server that a test runs on; tests/database runs on both kinds."""
    return request.getfixturevalue("system" if request.config.getoption("--system") else "embedded")


@pytest.fixture
def transport() -> str:
    """How `zora` gets to its database; both in modules marked `both_transports`."""
    return "direct"


@pytest.fixture
async def database_url(server: Server, transport: str) -> str:
    if transport == "direct":
        return await server.emptied()
    await server.project()
    return await server.emptied("project")


class Zora:
    """A database of one's own with everything a test needs to act on it."""

    tenant_id: UUID = DEFAULT_TENANT_ID

    def __init__(self, database: Database, url: str, settings: Settings) -> None:
        self.database = database
        self.url = url
        self.settings = settings
        self.now = START

    async def call(self, function: str, /, **arguments: Any) -> list[dict[str, Any]]:
        return await self.database.call(function, **arguments)

    async def sql(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    async def advance(self, **duration: float) -> None:
        """Move the database's clock."""
        self.now += timedelta(**duration)
        await self.sql("update test_clock set now = $1", self.now)

    async def create(self, agent_id: str, task_type: str, payload: dict[str, Any] | None = None, **fields: Any) -> UUID:
        task = {"agent_id": agent_id, "task_type": task_type, "title": task_type, "payload": payload or {}, **fields}
        (row,) = await self.call("create_agent_tasks", tenant_id=self.tenant_id, tasks=[task])
        return row["id"]

    async def task(self, task_id: UUID) -> TaskRecord:
        (row,) = await self.call("get_agent_task", tenant_id=self.tenant_id, id=str(task_id))
        return TaskRecord.model_validate(row)

    def worker(self, *agents: Agent, concurrency: int = 4, lease_seconds: float = 30, **options: Any) -> Worker:
        """A worker; with `agents`, one that knows only those."""
        return Worker(
            self.database,
            Registry(agents) if agents else registry(),
            self.settings,
            concurrency=concurrency,
            lease_seconds=lease_seconds,
            grace_seconds=5,
            **options,
        )

    async def run_once(self, *agents: Agent, limit: int = 10) -> list[TaskRun]:
        return await self.worker(*agents).run(limit=limit)

    async def run(
        self, agent_id: str, task_type: str, payload: dict[str, Any] | None = None, *, title: str | None = None
    ) -> TaskRecord:
        """Create a task, run it to the end, and read it back."""
        task_id = await self.create(agent_id, task_type, payload, title=title or task_type)
        await self.run_once(limit=1)
        return await self.task(task_id)

    async def seed(self, table: str, **columns: Any) -> UUID:
        """Insert a row by hand; the tenant is filled in."""
        columns = {"tenant_id": self.tenant_id, "created_at": self.now, **columns}
        names = ", ".join(columns)
        (row,) = await self.sql(
            f"insert into {table} ({names}) select {names} "
            f"from jsonb_populate_record(null::{table}, $1::jsonb) returning id",
            json.dumps(columns, default=str),
        )
        return row["id"]


@pytest.fixture
async def zora(server: Server, transport: str, database_url: str, tmp_path: Path) -> AsyncIterator[Zora]:
    http = transport == "http"
    database = await (postgrest.connect(await server.project()) if http else connect(database_url))
    settings = Settings(home=tmp_path / "home", file_roots=(tmp_path,), allow_private_addresses=True)
    yield Zora(database, database_url, settings)
    await database.close()
