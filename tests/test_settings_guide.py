"""docs/settings.md lists every environment variable that the program reads."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_environment_variable_is_described() -> None:
    source = (ROOT / "zora_core" / "settings.py").read_text(encoding="utf-8")
    read = set(re.findall(r'"((?:ZORA|SUPABASE|DATABASE)_[A-Z_]+)"', source))
    table = re.findall(r"^\| (.*?) \|", (ROOT / "docs" / "settings.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    described = set(re.findall(r"`([A-Z_]+)`", " ".join(table)))
    assert len(read) > 10
    assert read - described == set()
