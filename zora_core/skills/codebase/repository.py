"""What a Git repository tells about its files, read without running anything that the repository could configure."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from zora_core.errors import InvalidInput, ZoraError
from zora_core.skills.codebase.issue import settings
from zora_core.storable import escaped

# A repository's own configuration may name programs (monitors, hooks, signature and diff helpers, transports).
_SAFE_CONFIGURATION = {
    "safe.directory": "*",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.pager": "cat",
    "core.attributesFile": os.devnull,
    "core.multiPackIndex": "false",  # the names of packs in it may be paths
    "diff.orderFile": os.devnull,
    "log.showSignature": "false",
    "protocol.allow": "never",
    "submodule.recurse": "false",
}


# A repository of more files than that in its own folder is packed badly, or made to keep us busy.
MAX_ENTRIES = 500_000
MAX_REFERENCES = 1_000_000  # bytes of a file that names paths


class GitFailed(ZoraError):
    """Git could not read a repository, or not within `limits.git_seconds`."""


_LAST_SECOND = 253_402_300_799  # of the year 9999; a commit of a later time was made to confuse, and is passed over


@dataclass(frozen=True)
class Repository:
    """`directory` is Git's own folder; `bare` tells that it has no work tree; `shallow` that its history is cut off.

    `outside` says which part of it lies outside the folders that may be read, if one does: then nothing of it is read.
    """

    directory: Path
    bare: bool
    shallow: bool
    outside: str | None = None


@dataclass(frozen=True)
class Commit:
    """A commit without merges: who, when (UTC), and the lines changed in each file of the target."""

    author: str
    at: datetime
    changes: dict[str, int]


def find_repository(target: Path, roots: Sequence[Path]) -> Repository | None:
    """The repository that `target` is or lies in, or None; all of it must lie in one of the folders `roots`."""
    if not target.is_dir():
        return None
    found = _git(
        target, "rev-parse", "--absolute-git-dir", "--is-bare-repository", "--is-shallow-repository", check=False
    )
    if found is None:
        return None
    directory, bare, shallow = found.decode("utf-8", "surrogateescape").rstrip("\n").rsplit("\n", 2)
    return Repository(Path(directory), bare == "true", shallow == "true", _outside(Path(directory), roots))


def _outside(directory: Path, roots: Sequence[Path]) -> str | None:
    """Why a repository may not be read: a part of it that lies outside the roots, links and references followed.

    Besides its own folder, a repository may have a common one (of a work tree) and take objects from others.
    """
    resolved_roots = [root.resolve() for root in roots]

    def inside(path: Path) -> bool:
        resolved = _resolved(path)
        return any(resolved.is_relative_to(root) for root in resolved_roots)

    folders, seen, entries = [directory], set[Path](), 0
    while folders:
        folder = folders.pop()
        if not inside(folder):
            return f"{_shown(folder)} lies outside the folders that may be read"
        if _resolved(folder) in seen:
            continue
        seen.add(_resolved(folder))
        try:
            folders += _references(folder)
        except _Unreadable as unreadable:
            return f"{_shown(unreadable.path)} is not a small text file"
        for place, names, files in os.walk(folder):
            if place == str(folder) and "hooks" in names:  # programs, which are not run
                names.remove("hooks")
            entries += len(names) + len(files)
            if entries > MAX_ENTRIES:
                return f"{_shown(directory)} has more than {MAX_ENTRIES:,} files"
            for name in (*names, *files):
                path = Path(place, name)
                mode = _mode(path, follow=False)
                if stat.S_ISLNK(mode):
                    if not inside(path):
                        return f"{_shown(path)} is a link that leads outside the folders that may be read"
                    mode = _mode(path, follow=True)
                    if stat.S_ISDIR(mode):  # the walk does not follow links
                        folders.append(path)
                if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                    return f"{_shown(path)} is a FIFO or a device"
    return None


class _Unreadable(Exception):
    """Git may find other paths in the file `path` than we do."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path


def _references(folder: Path) -> Iterator[Path]:
    """The folders that Git takes for further parts of a repository, each as every way of reading its path has it."""
    if common := _content(folder / "commondir"):
        yield folder / common.rstrip("\r\n")  # one path, whatever is in it
    for objects in (folder, folder / "objects"):
        for line in _content(objects / "info" / "alternates").split("\n"):
            if line.startswith('"'):  # a path with escapes; no Git writes one by itself
                yield Path("/")
            elif line and not line.startswith("#"):
                yield objects / line
                yield Path(os.path.normpath(_resolved(objects) / line))  # Git removes `..` before it follows links


def _content(path: Path) -> str:
    """A file of Git's that names paths, empty when it is missing. Raises `_Unreadable`."""
    try:
        # Opening a FIFO would wait for somebody to write to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise _Unreadable(path) from error
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        content = os.read(descriptor, MAX_REFERENCES + 1) if regular else b"\0"
    finally:
        os.close(descriptor)
    if len(content) > MAX_REFERENCES or b"\0" in content:  # where Git's paths end
        raise _Unreadable(path)
    return os.fsdecode(content)


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))  # `Path.resolve` raises an error at a link to itself


def _mode(path: Path, *, follow: bool) -> int:
    """The kind of a file, 0 when it is gone or a link that leads nowhere."""
    try:
        return path.stat(follow_symlinks=follow).st_mode
    except OSError:
        return 0


def _shown(path: Path) -> str:
    return escaped(str(path))


def read_history(target: Path) -> list[Commit]:
    """The commits that touched `target`, newest first, at most `limits.git_commits`; paths are relative to it.

    Renames are not followed: a renamed file begins anew. Raises `GitFailed`.
    """
    if _git(target, "rev-parse", "--verify", "--quiet", "HEAD", check=False) is None:
        return []
    output = _git(
        target,
        "log",
        f"--max-count={settings()['limits']['git_commits']}",
        "--no-merges",
        "--no-renames",
        "--no-ext-diff",
        "--no-textconv",
        "--no-show-signature",
        "--no-mailmap",
        "--ignore-submodules=all",
        "--relative",
        "--numstat",
        "-z",
        "--format=%x01%an%x02%ct",
        "HEAD",
        "--",
        ".",
    )
    return list(_commits(output or b""))


def _commits(output: bytes) -> Iterator[Commit]:
    for record in output.decode("utf-8", "surrogateescape").split("\x01")[1:]:
        head, _, body = record.partition("\0")
        author, _, seconds = head.partition("\x02")
        changes: dict[str, int] = {}
        for entry in body.split("\0"):
            added, _, rest = entry.strip("\n").partition("\t")
            deleted, _, path = rest.partition("\t")
            if path and added.isdigit() and deleted.isdigit():
                changes[escaped(path)] = changes.get(escaped(path), 0) + int(added) + int(deleted)
        if seconds.strip().isdigit() and int(seconds) <= _LAST_SECOND:
            yield Commit(escaped(author.strip()), datetime.fromtimestamp(int(seconds), UTC), changes)


def export_head(repository: Path, destination: Path) -> int:
    """Write the files of a bare repository's HEAD under `destination`, unfiltered, and return how many.

    Symbolic links, submodules and files beyond the limits are left out. Raises `InvalidInput` when there is no commit,
    and `GitFailed`.
    """
    limits = settings()["limits"]
    listing = _git(repository, "ls-tree", "-r", "-z", "--long", "HEAD", check=False)
    if listing is None:
        raise InvalidInput(f"the repository {str(repository)!r} has no commit at HEAD: name a branch with commits")
    wanted: list[tuple[str, Path]] = []
    total = 0
    for entry in listing.decode("utf-8", "surrogateescape").split("\0"):
        about, _, name = entry.partition("\t")
        fields = about.split()
        if len(fields) != 4 or fields[0] not in ("100644", "100755") or int(fields[3]) > limits["file_bytes"]:
            continue
        path = Path(os.path.normpath(destination / name))
        total += int(fields[3])
        if len(wanted) >= limits["files"] or total > limits["total_bytes"]:
            break
        if path.is_relative_to(destination) and path != destination:
            wanted.append((fields[2], path))
    requests = "".join(f"{blob}\n" for blob, _ in wanted).encode()
    answer = _git(repository, "cat-file", "--batch", stdin=requests) or b""
    position = 0
    for _, path in wanted:
        end = answer.index(b"\n", position)
        size = int(answer[position:end].split()[2])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answer[end + 1 : end + 1 + size])
        position = end + 1 + size + 1
    return len(wanted)


def _git(directory: Path, *arguments: str, stdin: bytes = b"", check: bool = True) -> bytes | None:
    """Git's output; None when it fails and `check` is off. Nothing is fetched, locked, paged or asked for.

    Raises `GitFailed`.
    """
    seconds = settings()["limits"]["git_seconds"]
    command = ["git", "--no-pager", "--no-optional-locks", "--no-replace-objects", "--literal-pathspecs"]
    for name, value in _SAFE_CONFIGURATION.items():
        command += ["-c", f"{name}={value}"]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "",
    }
    try:
        done = subprocess.run(
            [*command, *arguments],
            cwd=directory,
            input=stdin,
            capture_output=True,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        if check:
            raise GitFailed("git is not installed") from error
        return None
    except subprocess.TimeoutExpired as error:
        raise GitFailed(f"git {arguments[0]} took more than {seconds} s; give a shallow clone") from error
    if done.returncode == 0:
        return done.stdout
    if check:
        raise GitFailed(f"git {arguments[0]} failed: {done.stderr.decode(errors='replace')[:500]}")
    return None
