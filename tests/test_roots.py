"""Which folders agents may read: what can never be one, what a tenant may read, and what a person permits by hand."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from zora_core import roots
from zora_core.errors import ConfigurationError
from zora_core.roots import (
    announced,
    checked,
    permit,
    permitted,
    prune_permissions,
    set_tenant_roots,
    tenant_roots,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ZORA_HOME, in the home folder of a user."""
    user = tmp_path / "home" / "ada"
    (user / "shop").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(user))
    return user / "data" / "zora"


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("/", "whole file system"),
        ("{user}", "is your home folder"),
        ("~", "your home folder"),
        ("{user}/..", "contains your home folder"),
        ("{user}/shop/..", "is your home folder"),
        ("{user}/link", "whole file system"),
        ("{user}/data", "ZORA_HOME"),
        ("{user}/data/zora", "ZORA_HOME"),
        ("{user}/data/zora/journal", "ZORA_HOME"),
        ("/proc/self", "operating system"),
    ],
)
def test_some_folders_are_never_roots(home: Path, folder: str, reason: str) -> None:
    (home.parents[1] / "link").symlink_to("/")
    with pytest.raises(ConfigurationError, match=rf"ZORA_FILE_ROOTS names .*, which agents must not read: .*{reason}"):
        checked([folder.format(user=home.parents[1])], home, "ZORA_FILE_ROOTS")


def test_a_project_folder_is_a_root(home: Path) -> None:
    assert checked(["~/shop"], home, "ZORA_FILE_ROOTS") == (home.parents[1] / "shop",)


def test_a_tenants_folders_are_kept_by_tenant_and_can_be_none(home: Path, tmp_path: Path) -> None:
    one, other = uuid4(), uuid4()
    assert tenant_roots(home, one) is None
    set_tenant_roots(home, one, [tmp_path / "a"])
    set_tenant_roots(home, other, [])
    assert (tenant_roots(home, one), tenant_roots(home, other)) == ((tmp_path / "a",), ())
    set_tenant_roots(home, one, None)
    assert (tenant_roots(home, one), tenant_roots(home, other)) == (None, ())
    assert stat.S_IMODE((home / "file_roots.json").stat().st_mode) == 0o600


def test_tenants_whose_folders_are_set_at_once_all_keep_theirs(home: Path, tmp_path: Path) -> None:
    program = (
        "import sys, uuid; from pathlib import Path; from zora_core.roots import set_tenant_roots\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for name in sys.argv[2:]: set_tenant_roots(Path(sys.argv[1]), uuid.UUID(name), [Path('/srv/shop')])"
    )
    tenants = [uuid4() for _ in range(40)]
    with contextlib.ExitStack() as stack:
        commands = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", program, str(home), *map(str, tenants[start:20:2])],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for start in range(2)
        ]
        for command in commands:
            assert command.stdout
            assert command.stdout.readline() == "ready\n"
        for command in commands:
            assert command.stdin
            command.stdin.write("go\n")
            command.stdin.flush()
        with ThreadPoolExecutor(20) as threads:
            list(threads.map(lambda tenant: set_tenant_roots(home, tenant, [tmp_path]), tenants[20:]))
        assert [command.wait(timeout=60) for command in commands] == [0, 0]
    assert None not in [tenant_roots(home, tenant) for tenant in tenants]


def test_a_damaged_setting_is_named(home: Path) -> None:
    home.mkdir(parents=True)
    for content in ("{", "[]", '{"a": "b"}'):
        (home / "file_roots.json").write_text(content)
        with pytest.raises(ConfigurationError, match=r"file_roots\.json"):
            tenant_roots(home, uuid4())


def test_a_permission_is_for_one_task_and_ends_after_a_month(home: Path, tmp_path: Path) -> None:
    task, old = uuid4(), uuid4()
    permit(home, [old], tmp_path)
    month_ago = time.time() - 31 * 86_400
    os.utime(home / "permissions" / str(old), (month_ago, month_ago))
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    permit(home, [task], odd)
    prune_permissions(home)
    assert permitted(home, task) == odd
    assert permitted(home, old) is permitted(home, uuid4()) is permitted(home, None) is None
    assert stat.S_IMODE((home / "permissions").stat().st_mode) == 0o700


def test_a_link_in_the_home_is_replaced_and_not_followed(home: Path, tmp_path: Path) -> None:
    tenant, task = uuid4(), uuid4()
    (home / "permissions").mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_text("{}")
    for link in ("file_roots.json", f"file_roots.{os.getpid()}", f"permissions/{task}"):
        (home / link).symlink_to(victim)
    set_tenant_roots(home, tenant, [tmp_path])
    permit(home, [task], tmp_path)
    assert victim.read_text() == "{}"
    assert tenant_roots(home, tenant) == (tmp_path,)
    assert permitted(home, task) == tmp_path


def test_permissions_in_a_linked_folder_are_refused(home: Path, tmp_path: Path) -> None:
    home.mkdir(parents=True)
    old = tmp_path / "elsewhere" / str(uuid4())
    old.parent.mkdir()
    old.touch()
    month_ago = time.time() - 31 * 86_400
    os.utime(old, (month_ago, month_ago))
    (home / "permissions").symlink_to(old.parent)
    with pytest.raises(OSError, match="symbolic link"):
        permit(home, [uuid4()], tmp_path)
    with pytest.raises(OSError, match="symbolic link"):
        prune_permissions(home)
    assert [*old.parent.iterdir()] == [old]


def test_only_permissions_are_pruned(home: Path, tmp_path: Path) -> None:
    permit(home, [uuid4()], tmp_path)
    other = home / "permissions" / "notes.txt"
    other.touch()
    month_ago = time.time() - 31 * 86_400
    os.utime(other, (month_ago, month_ago))
    prune_permissions(home)
    assert other.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can leave files of root behind")
def test_what_root_writes_in_a_users_home_belongs_to_the_user(home: Path, tmp_path: Path) -> None:
    home.mkdir(parents=True)
    os.chown(home, 65534, 65534)
    set_tenant_roots(home, uuid4(), [tmp_path])
    with announced(home):
        permit(home, [uuid4()], tmp_path)
    written = [*home.rglob("*")]
    assert {path.name for path in written} >= {"file_roots.json", "permissions"}
    assert {path.stat().st_uid for path in written} == {65534}


def test_a_setting_that_this_user_cannot_read_is_named(home: Path) -> None:
    (home / "file_roots.json").mkdir(parents=True)  # cannot be read, by root either
    with pytest.raises(ConfigurationError, match=r"cannot read .*file_roots\.json"):
        tenant_roots(home, uuid4())


def test_a_task_waits_for_the_command_that_is_creating_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, command = uuid4(), contextlib.ExitStack()

    def learn_the_id(_seconds: float) -> None:
        permit(home, [task], tmp_path)
        command.close()

    monkeypatch.setattr(roots.time, "sleep", learn_the_id)
    assert permitted(home, task) is None  # no command: nothing to wait for
    command.enter_context(announced(home))
    assert permitted(home, task) == tmp_path


def test_a_killed_command_is_not_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_seconds: float) -> None:
        raise AssertionError("waited")

    monkeypatch.setattr(roots.time, "sleep", sleep)
    with announced(home):
        (left_behind,) = (home / "permissions" / "announced").iterdir()
        minutes_ago = time.time() - 2 * roots.CREATING_SECONDS
        os.utime(left_behind, (minutes_ago, minutes_ago))
        assert permitted(home, uuid4()) is None
    left_behind.touch()
    os.utime(left_behind, (0, 0))
    prune_permissions(home)
    assert not left_behind.exists()


def test_a_command_that_hangs_is_not_waited_for_without_end(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(roots.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(roots.time, "sleep", lambda _seconds: clock.append(clock.pop() + 1))
    with announced(home):
        assert permitted(home, uuid4()) is None
    assert clock == [roots.WAIT_SECONDS]
