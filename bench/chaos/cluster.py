"""PostgreSQL clusters that a fault can be done to: started, stopped, killed, filled up, failed over."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from zora_core.database.embedded import EmbeddedServer

WHEEL = EmbeddedServer._binaries()
SYSTEM = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def account() -> str | None:
    """The user to run as when we are root, which PostgreSQL and PgBouncer refuse."""
    if os.geteuid() != 0:
        return None
    return "postgres" if _exists("postgres") else "nobody"


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


class Cluster:
    """A PostgreSQL server in `folder`, on a loopback port without a password."""

    def __init__(self, folder: Path, binaries: Path = WHEEL, *, settings: tuple[str, ...] = ()) -> None:
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._binaries = binaries
        self._settings = (
            "listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={self.port}", "fsync=off",
            "logging_collector=off", *settings,
        )  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        if user := account():
            shutil.chown(folder, user)

    def create(self, *, wal: Path | None = None) -> None:
        """An empty cluster; `wal` puts the write-ahead log elsewhere."""
        elsewhere: tuple[str, ...] = ()
        if wal:
            elsewhere = (f"--waldir={wal}",)
            wal.mkdir()
            if user := account():
                shutil.chown(wal, user)
        self._run(
            "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", *elsewhere,
            f"--pgdata={self.data}",
        )  # fmt: skip

    def follow(self, primary: Cluster) -> None:
        """A streaming standby of `primary`."""
        self._run("pg_basebackup", f"--pgdata={self.data}", f"--dbname={primary.url}?application_name=standby", "-R")

    def start(self) -> None:
        """Returns when it accepts connections."""
        options = " ".join(f"-c {setting}" for setting in self._settings)
        self._run(
            "pg_ctl", "start", "--wait", "--silent", f"--pgdata={self.data}", f"--log={self.data / 'log'}",
            f"--options={options}",
        )  # fmt: skip

    def promote(self) -> None:
        """Make the standby a primary."""
        self._run("pg_ctl", "promote", "--wait", "--silent", f"--pgdata={self.data}")

    def running(self) -> bool:
        """Whether its process is there."""
        command = [str(self._binaries / "pg_ctl"), "status", f"--pgdata={self.data}"]
        return subprocess.run(command, capture_output=True, check=False, user=account()).returncode == 0

    def kill(self) -> None:
        """End the server as the kernel would, without a word to anybody."""
        os.kill(self._pid(), signal.SIGKILL)

    def stop(self) -> None:
        """Stop it if it runs."""
        if self.running():
            self._run("pg_ctl", "stop", "--wait", "--silent", "--mode=immediate", f"--pgdata={self.data}")

    def version(self) -> str:
        """The major version."""
        said = subprocess.run([self._binaries / "postgres", "--version"], capture_output=True, text=True, check=True)
        match = re.search(r"\d+", said.stdout)
        assert match
        return match[0]

    def _pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def _run(self, program: str, *arguments: str) -> None:
        # pg_ctl's server would keep a pipe open.
        done = subprocess.run(
            [self._binaries / program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, check=False, cwd=self.data.parent, user=account(),
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(arguments)} failed with status {done.returncode}")
