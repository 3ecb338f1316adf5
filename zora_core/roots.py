"""Which folders of this machine agents may read: configured ones, and the folder in which a person created a task.

A task that came through the API, a page, a schedule, a delegation or another program reads files only under the folders
that the owner of this machine configured: `ZORA_FILE_ROOTS`, or those that `zora tenants roots` sets for one tenant. A
task that a person creates at the terminal may also read the folder in which they did so. That permission is a file in
`ZORA_HOME`, which no one can write over the network; a worker on another machine, or of another user, does not have it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import fasteners

from zora_core.errors import ConfigurationError
from zora_core.private_files import make_private_folder, replace_private, touch_private
from zora_core.suggested_command import zora_command

PERMISSION_DAYS = 30
CREATING_SECONDS = 60.0
"""Age after which a command that announced tasks is taken for killed: a call of the database ends sooner."""
WAIT_SECONDS = 10.0
"""How long a task waits for a command that may have created it; the command only lacks the database's answer."""
_SETTING = threading.Lock()  # the lock of a file is between processes only
_SYSTEM = tuple(Path(name) for name in ("/proc", "/sys", "/dev"))


def unfit(folder: Path, home: Path) -> str | None:
    """Why a folder must not be a root, or None; `home` is ZORA_HOME."""
    folder, home = folder.resolve(), home.resolve()
    if folder == Path(folder.anchor):
        return "it is the whole file system"
    try:
        user = Path.home().resolve()
    except RuntimeError:  # a user without a home folder
        user = Path(folder.anchor)
    if user != Path(user.anchor) and user.is_relative_to(folder):
        return f"it {'is' if user == folder else 'contains'} your home folder ({user})"
    if home.is_relative_to(folder) or folder.is_relative_to(home):
        return f"it is, contains or lies in ZORA_HOME ({home}), which holds the journal's key and the database"
    if any(folder.is_relative_to(system) for system in _SYSTEM):
        return "it belongs to the operating system"
    return None


def checked(folders: Iterable[str], home: Path, where: str) -> tuple[Path, ...]:
    """The folders, resolved; raises `ConfigurationError` for one that must not be a root."""
    roots = []
    for name in folders:
        root = Path(name).expanduser().resolve()
        if reason := unfit(root, home):
            raise ConfigurationError(
                f"{where} names {name!r}, which agents must not read: {reason}. Name a project folder"
            )
        roots.append(root)
    return tuple(roots)


def tenant_roots(home: Path, tenant_id: UUID) -> tuple[Path, ...] | None:
    """The folders set for a tenant on this machine, or None; they stand in place of `ZORA_FILE_ROOTS`."""
    configured = _read_tenants(home).get(str(tenant_id))
    return None if configured is None else tuple(Path(root) for root in configured)


def set_tenant_roots(home: Path, tenant_id: UUID, roots: Sequence[Path] | None) -> None:
    """Set the folders of a tenant, an empty list for none at all; None removes the setting."""
    make_private_folder(home)
    lock = home / "file_roots.lock"
    with _SETTING:
        touch_private(lock)  # within, because closing the file drops this process's lock on it
        with fasteners.InterProcessLock(lock):
            tenants = _read_tenants(home)
            if roots is None:
                tenants.pop(str(tenant_id), None)
            else:
                tenants[str(tenant_id)] = [str(root) for root in roots]
            replace_private(_tenants_file(home), (json.dumps(tenants, indent=2) + "\n").encode())


@contextlib.contextmanager
def announced(home: Path) -> Iterator[None]:
    """Announce tasks that a command is about to create and to `permit`.

    The database chooses their ids, and a worker may claim a task before the command has learned its id. While an
    announcement is there, a task without a permission waits for its end: see `permitted`.
    """
    announcement = _private_folder(home, "permissions", "announced") / str(uuid4())
    touch_private(announcement)
    try:
        yield
    finally:
        announcement.unlink(missing_ok=True)


def permit(home: Path, tasks: Iterable[UUID | str], folder: Path) -> None:
    """Let tasks that a person creates at the terminal read the folder in which they do; within `announced`."""
    permissions = _private_folder(home, "permissions")
    for task in tasks:
        replace_private(permissions / str(UUID(str(task))), os.fsencode(folder.resolve()))


def prune_permissions(home: Path) -> None:
    """Delete the permissions that have ended, and the announcements of commands that were killed."""
    for names, seconds in ((("permissions",), PERMISSION_DAYS * 86_400), (("permissions", "announced"), 86_400)):
        for path in _private_folder(home, *names).iterdir():
            with contextlib.suppress(ValueError):  # not one of our names
                UUID(path.name[:36])
                if _age(path) > seconds:
                    path.unlink(missing_ok=True)


def permitted(home: Path, task: UUID | str | None) -> Path | None:
    """The folder that a task may read because it was created there at the terminal, or None.

    Waits for commands that are creating tasks at this moment, because this task may be one of theirs.
    """
    if task is None:
        return None
    found = _permission(home, task)
    if found is None:
        _wait_for_announced(home)
        found = _permission(home, task)
    return found


def _permission(home: Path, task: UUID | str) -> Path | None:
    try:
        folder = (home / "permissions" / str(task)).read_bytes()
    except OSError:  # no permission, or that of another user
        return None
    return Path(os.fsdecode(folder)) if folder else None


def _wait_for_announced(home: Path) -> None:
    """Wait for the commands that create tasks now, not for those that begin meanwhile."""
    try:
        announcements = [*(home / "permissions" / "announced").iterdir()]
    except OSError:  # none so far, or those of another user
        return
    until = time.monotonic() + WAIT_SECONDS
    for announcement in announcements:
        while _age(announcement) < CREATING_SECONDS and time.monotonic() < until:
            time.sleep(0.01)


def _age(path: Path) -> float:
    """Seconds since a file was written; infinite when it is gone."""
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _private_folder(home: Path, *names: str) -> Path:
    """A folder in the home. Never a link: root would write, and delete what is old, wherever it leads."""
    folder = home
    for name in names:
        folder /= name
        make_private_folder(folder)
        if folder.is_symlink():
            raise OSError(errno.ELOOP, "is a symbolic link: remove it", str(folder))
    return folder


def _tenants_file(home: Path) -> Path:
    return home / "file_roots.json"


def _read_tenants(home: Path) -> dict[str, list[str]]:
    path = _tenants_file(home)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path} ({error.strerror}): delete it, and set it anew with "
            f"`{zora_command('tenants', 'roots')}`"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not JSON ({error}): delete it and set it anew") from error
    if not isinstance(found, dict) or not all(
        isinstance(roots, list) and all(isinstance(root, str) for root in roots) for roots in found.values()
    ):
        raise ConfigurationError(
            f"{path} does not hold lists of folders by tenant: set it anew with `{zora_command('tenants', 'roots')}`"
        )
    return found
