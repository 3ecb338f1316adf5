"""Files and folders that only their owner can open, as ZORA_HOME holds them.

When root creates one, it belongs to the owner of the folder it is in. One command run as root in a user's ZORA_HOME
therefore leaves nothing behind that the user can no longer read.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

Account = tuple[int, int]
"""User and group."""

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag, and no root


def make_private_folder(path: Path, owner: Account | None = None) -> None:
    """Create a folder with mode 0700, and its missing parents likewise. An existing folder keeps its mode and owner.

    Root gives what it creates to `owner`, by default the owner of the folder that contains it.
    """
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:  # another process was faster
            continue
        if _is_root():
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW)
            try:
                _give(descriptor, owner or _owner_of(folder.parent))
            finally:
                os.close(descriptor)


def touch_private(path: Path) -> None:
    """Create an empty file with mode 0600 unless it exists; an existing file of ours gets that mode."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o600)
    except FileExistsError:
        descriptor = os.open(path, os.O_RDWR | _NO_FOLLOW)
        try:
            if hasattr(os, "geteuid") and os.fstat(descriptor).st_uid == os.geteuid():
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
        return
    try:
        _give(descriptor, _owner_of(path.parent))
    finally:
        os.close(descriptor)


def write_private(path: Path, content: str | bytes, owner: Account | None = None) -> None:
    """Create a file with mode 0600, on disk before this returns; text is ASCII. Raises `FileExistsError`.

    Root gives the file to `owner`, by default the owner of the folder that contains it.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        _give(descriptor, owner or _owner_of(path.parent))
        file.write(content.encode("ascii") if isinstance(content, str) else content)
        file.flush()
        os.fsync(descriptor)


def replace_private(path: Path, content: bytes) -> None:
    """Write a file with mode 0600 whether it exists or not; readers see the old content or the new, never a part.

    The name of the temporary file is random, and a link at `path` is replaced instead of followed: the owner of the
    folder cannot make root write to another file.
    """
    new = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        write_private(new, content)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _owner_of(folder: Path) -> Account:
    found = folder.stat()
    return found.st_uid, found.st_gid


def _give(descriptor: int, owner: Account) -> None:
    """By descriptor, not by path: a user who swaps the path meanwhile must not receive another file."""
    if _is_root() and owner[0] != 0:
        os.fchown(descriptor, *owner)
