"""PostgreSQL servers for the tests: the embedded one, and a private cluster of the system's PostgreSQL if installed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from zora_core.database.embedded import EmbeddedServer


class SystemServer(EmbeddedServer):
    """A cluster of our own from the system's binaries: an older PostgreSQL than the embedded one."""

    LOCALE: ClassVar[tuple[str, ...]] = ("--locale=C.UTF-8",)

    @staticmethod
    def _binaries() -> Path:
        found = system_binaries()
        assert found is not None
        return found


def system_binaries() -> Path | None:
    """Where Debian, Homebrew or the PATH keep an installed PostgreSQL server's programs, if there is one."""
    candidates = [
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
        *sorted(Path("/opt/homebrew/opt").glob("postgresql@*/bin"), reverse=True),
    ]
    on_path = shutil.which("initdb")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    return next((c for c in candidates if (c / "initdb").exists() and (c / "pg_ctl").exists()), None)
