"""The embedded server's life: shared, adopted, stopped by the last, restarted when it dies."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from zora_core.database.embedded import EmbeddedServer
from zora_core.database.postgres import connect
from zora_core.errors import ConfigurationError, DatabaseUnavailable

HOLD = """
import sys
from pathlib import Path
from zora_core.database.embedded import EmbeddedServer
print(EmbeddedServer.at(Path(sys.argv[1])).start(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def server() -> None:
    """These tests run on a server of their own."""


@pytest.fixture(scope="module")
def home(short_tmp: Path) -> Path:
    return short_tmp / "life"


@pytest.fixture
def holder(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the server."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("postgresql://")
        yield process
        process.kill()


def postmaster(home: Path) -> int:
    return int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def test_processes_share_a_server_and_the_last_one_stops_it(home: Path, holder: subprocess.Popen[str]) -> None:
    pid = postmaster(home)
    ours = EmbeddedServer.at(home)
    ours.start()
    assert postmaster(home) == pid
    holder.communicate("end\n", timeout=30)
    assert ours.running(), "one holder is left"
    ours.release()
    assert not ours.running()


def test_a_server_that_a_killed_process_left_behind_is_adopted_and_then_stopped(
    home: Path, holder: subprocess.Popen[str]
) -> None:
    pid = postmaster(home)
    holder.kill()
    holder.wait()
    ours = EmbeddedServer.at(home)
    assert ours.running()
    ours.start()
    assert postmaster(home) == pid
    ours.release()
    assert not ours.running()


def test_stop_ends_a_server_that_nobody_holds_but_not_one_in_use(home: Path, holder: subprocess.Popen[str]) -> None:
    ours = EmbeddedServer.at(home)
    with pytest.raises(DatabaseUnavailable, match="in use by another process"):
        ours.stop()
    holder.kill()
    holder.wait()
    assert ours.stop() is True
    assert ours.stop() is False


def test_two_users_in_one_process_hold_it_twice(home: Path) -> None:
    first, second = EmbeddedServer.at(home), EmbeddedServer.at(home)
    first.start()
    second.start()
    first.release()
    assert second.running()
    second.release()
    assert not second.running()


async def test_a_server_that_was_killed_is_started_again(home: Path) -> None:
    server = EmbeddedServer.at(home)
    database = await connect(server.start(), server=server)
    assert await database.value("pg_backend_pid") > 0
    os.kill(postmaster(home), signal.SIGKILL)
    # Its backends hold the socket open for a moment, so that it seems to run; whoever tries again gets there.
    async with asyncio.timeout(60):
        while True:
            try:
                assert await database.value("pg_backend_pid") > 0
                break
            except DatabaseUnavailable:
                await database.recover()
    await database.close()
    assert not server.running()


async def test_a_home_with_a_long_path_and_a_space_works(short_tmp: Path) -> None:
    home = short_tmp / ("a long folder name " * 6).strip()
    server = EmbeddedServer.at(home)
    connection = await asyncpg.connect(server.start())
    assert await connection.fetchval("select 1") == 1
    await connection.close()
    server.release()


def test_an_interrupted_first_start_is_begun_again(short_tmp: Path) -> None:
    home = short_tmp / "interrupted"
    half = home / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    server = EmbeddedServer.at(home)
    server.start()
    assert server.running()
    server.release()
    shutil.rmtree(home)


def test_a_home_that_cannot_be_used_is_named(short_tmp: Path) -> None:
    (short_tmp / "file").write_text("")
    with pytest.raises(ConfigurationError, match="set ZORA_HOME to a folder of your own"):
        EmbeddedServer.at(short_tmp / "file" / "home").start()
