"""The embedded server's life: shared, adopted, stopped by the last, restarted when it dies."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from zora_core.database.embedded import EmbeddedServer
from zora_core.database.postgres import connect
from zora_core.errors import ConfigurationError, DatabaseUnavailable
from zora_core.journal.keys import Anchor, Remembered, signing_key
from zora_core.settings import DEFAULT_TENANT_ID, Settings

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


def test_a_second_user_in_a_process_leaves_its_lock_in_place(home: Path) -> None:
    ours = EmbeddedServer.at(home)
    ours.start()
    ours.start()
    command = [sys.executable, "-c", HOLD, str(home)]
    subprocess.run(command, input="end\n", capture_output=True, text=True, check=True, timeout=60)
    assert ours.running(), "the other process was not the last"
    ours.release()
    ours.release()
    assert not ours.running()


def test_a_start_that_fails_holds_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(server: EmbeddedServer) -> None:
        raise DatabaseUnavailable("it does not start")

    ours = EmbeddedServer.at(home)
    with monkeypatch.context() as patched:
        patched.setattr(EmbeddedServer, "_ensure_running", refused)
        with pytest.raises(DatabaseUnavailable):
            ours.start()
    ours.start()
    ours.release()
    assert not ours.running()


async def test_a_server_that_was_killed_is_started_again(home: Path) -> None:
    server = EmbeddedServer.at(home)
    database = await connect(server.start(), server=server, schema_name="pg_catalog")
    assert await database.value("pg_backend_pid") > 0
    os.kill(postmaster(home), signal.SIGKILL)
    # Its backends hold the socket open for a moment, so that it seems to run; a second attempt succeeds.
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


STRANGE_NAMES = [
    "a'b",
    'a"b',
    "a&b",
    "a#b",
    "a+b",
    "a%20b",
    "a,b",
    "a$(touch pwned)b",
    "a`touch pwned`b",
    "a;b|c",
    "ü ß",
    "a\\b",
]


@pytest.mark.parametrize("name", [*STRANGE_NAMES, *(f"{name} {'long ' * 20}" for name in ("a,b'c", "a$(x)&"))])
async def test_no_character_in_the_home_means_anything_to_a_shell_or_a_url(short_tmp: Path, name: str) -> None:
    home = short_tmp / "strange" / name
    server = EmbeddedServer.at(home)
    database = await connect(await asyncio.to_thread(server.start), server=server, schema_name="pg_catalog")
    assert await database.value("pg_backend_pid") > 0
    await database.close()
    assert not server.running()
    assert not list(short_tmp.rglob("pwned"))
    shutil.rmtree(home)


def test_a_home_with_a_line_break_is_refused(short_tmp: Path) -> None:
    with pytest.raises(ConfigurationError, match="contains a line break"):
        EmbeddedServer.at(short_tmp / "a\nb").start()


@pytest.mark.parametrize(
    "left", [b"", b"garbage\n", b"\xff\xfe\x00", b"12345678901234567890\n", b"\n" * 8 + b"ready\n"]
)
def test_a_pid_file_that_a_full_disk_or_a_power_cut_left_does_not_stop_the_server(home: Path, left: bytes) -> None:
    server = EmbeddedServer.at(home)
    server.start()
    server.release()
    (home / "postgres" / "postmaster.pid").write_bytes(left)
    (home / "postgres" / ".s.PGSQL.5432.lock").write_bytes(left)
    assert not server.running()
    server.start()
    assert server.running()
    server.release()


def test_nobody_else_can_open_the_locks(home: Path) -> None:
    (home / "starting.lock").touch()
    (home / "starting.lock").chmod(0o644)
    server = EmbeddedServer.at(home)
    server.start()
    server.release()
    assert {(home / lock).stat().st_mode & 0o777 for lock in ("starting.lock", "holders.lock")} == {0o600}


def _socket_folder(home: Path) -> Path:
    """Where a home of a long name has its socket."""
    server = EmbeddedServer.at(home)
    url = server.start()
    server.release()
    return Path(parse_qs(urlsplit(url).query)["host"][0])


@pytest.mark.parametrize("prepared", ["open", "link", "file"])
def test_a_socket_folder_that_was_prepared_by_others_is_refused(short_tmp: Path, prepared: str) -> None:
    home = short_tmp / f"{prepared} {'long ' * 20}"
    folder = _socket_folder(home)
    assert folder.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(folder)
    if prepared == "open":
        folder.mkdir()
        folder.chmod(0o777)
    elif prepared == "link":
        folder.symlink_to(short_tmp)
    else:
        folder.touch()
    before = short_tmp.stat().st_uid
    with pytest.raises(ConfigurationError, match="with mode 0700"):
        EmbeddedServer(home).start()
    assert short_tmp.stat().st_uid == before
    folder.rmdir() if prepared == "open" else folder.unlink()


def test_a_server_on_a_port_requires_a_password(short_tmp: Path) -> None:
    class OnAPort(EmbeddedServer):
        TCP = True

    home = short_tmp / "port"
    server = OnAPort(home)
    url = server.start()

    async def connects(to: str) -> int:
        connection = await asyncpg.connect(to)
        try:
            return int(await connection.fetchval("select 1"))
        finally:
            await connection.close()

    assert asyncio.run(connects(url)) == 1
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(connects(url.replace(f":{urlsplit(url).password}@", ":guess@")))
    server.release()
    (home / "password").unlink()
    with pytest.raises(ConfigurationError, match="has no password"):
        OnAPort(home).start()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="root's files in a user's folder: needs root")
def test_what_root_makes_in_the_home_of_a_user_belongs_to_that_user(short_tmp: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    users = short_tmp / "user"
    users.mkdir()
    os.chown(users, nobody.pw_uid, nobody.pw_gid)
    home = users / "share" / "zora"
    server = EmbeddedServer.at(home)
    server.start()
    settings = Settings(home=home)
    signing_key(settings)
    Remembered(settings, DEFAULT_TENANT_ID).write(
        Anchor(tenant_id=str(DEFAULT_TENANT_ID), number=1, hash="0" * 64, sealed_at="now", public_key="0" * 64)
    )
    server.release()
    files = [home.parent, home, *home.rglob("*")]
    assert len(files) > 100
    assert {file.lstat().st_uid for file in files} == {nobody.pw_uid}
