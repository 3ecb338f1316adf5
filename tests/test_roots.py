"""Which folders agents may read: what can never be one, what a tenant may read, and what a person permits by hand."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from uuid import uuid4

import pytest

from zora_core.errors import ConfigurationError
from zora_core.roots import checked, permit, permitted, set_tenant_roots, tenant_roots


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
    assert permitted(home, task) == odd
    assert permitted(home, old) is permitted(home, uuid4()) is permitted(home, None) is None
    assert stat.S_IMODE((home / "permissions").stat().st_mode) == 0o700
