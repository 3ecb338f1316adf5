"""Files and folders that only their owner can open, as ZORA_HOME holds them.

When root creates one, it belongs to the owner of the folder it is in. One command run as root in a user's ZORA_HOME
therefore leaves nothing behind that the user can no longer read.
"""

from __future__ import annotations

import os
from pathlib import Path

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag, and no root


def make_private_folder(path: Path) -> None:
    """Create a folder with mode 0700, and its missing parents likewise. An existing folder keeps its mode."""
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
                _give_to_the_owner_of(folder.parent, descriptor)
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
        _give_to_the_owner_of(path.parent, descriptor)
    finally:
        os.close(descriptor)


def write_private(path: Path, text: str) -> None:
    """Create a file of ASCII text with mode 0600, on disk before this returns. Raises `FileExistsError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        _give_to_the_owner_of(path.parent, descriptor)
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _give_to_the_owner_of(folder: Path, descriptor: int) -> None:
    """By descriptor, not by path: a user who swaps the path meanwhile must not receive another file."""
    if _is_root():
        owner = folder.stat()
        if owner.st_uid != 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
