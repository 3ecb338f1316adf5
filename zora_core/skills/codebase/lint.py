"""Ruff's findings on Python files, without the target's own configuration."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from zora_core.models import FileLine, Severity
from zora_core.skills.codebase.inventory import Inventory, SourceFile
from zora_core.skills.codebase.issue import Issue, place, settings
from zora_core.storable import UNSTORABLE, escaped

FILES_PER_CALL = 2000
# With so many files on which ruff crashes, the fault is taken to be its own.
MOST_FAILING = 10


class RuffCrashed(RuntimeError):
    """Ruff was ended by a signal, as by a stack overflow."""


def lint(inventory: Inventory) -> tuple[list[Issue], list[str]]:
    """Run ruff with the rules in `codebase.toml`; every file is named to it, so that it looks for none itself.

    Returns the issues, and the paths of files on which ruff itself fails (nested deeper than its stack, for example).
    Raises `RuntimeError` with ruff's own message when it cannot run.
    """
    rules = settings()["ruff"]
    issues = []
    failing: list[str] = []
    places: dict[tuple[str, int, bool], FileLine] = {}
    version = _target_version(inventory.files)
    with tempfile.TemporaryDirectory(prefix="zora-lint-") as folder:
        by_path = {_lintable(file, Path(folder)): file for file in inventory.python()}
        paths = sorted(by_path)
        for start in range(0, len(paths), FILES_PER_CALL):
            for found in _checked(paths[start : start + FILES_PER_CALL], version, failing):
                file = by_path.get(found["filename"])
                code = found["code"] or "invalid-syntax"
                if file is None or (file.is_test and code in rules["ignore_in_tests"]):
                    continue
                spot = (file.path, found["location"]["row"], code in rules["hide_text"])
                if spot not in places:
                    places[spot] = place(file.path, found["location"]["row"], file.lines, hide=spot[2])
                issues.append(
                    Issue(
                        rule_id=f"code.ruff.{code}",
                        message=escaped(f"{code} {found['message']}"),
                        severity=severity_of(code),
                        places=(places[spot],),
                    )
                )
    return issues, [by_path[path].path for path in failing]


def _lintable(file: SourceFile, folder: Path) -> str:
    """The path under which ruff finds a file; a copy where its name or its declared encoding is not UTF-8."""
    real = str(file.real)
    if UNSTORABLE.search(real) is None and file.encoding.startswith("utf-8"):
        return real
    number = len(os.listdir(folder))
    copy = folder / str(number) / file.path.rsplit("/", 1)[-1].replace("\\", "_")
    copy.parent.mkdir()
    copy.write_text(file.text, encoding="utf-8", newline="")
    return str(copy)


def _checked(paths: list[str], version: str, failing: list[str]) -> list[dict[str, Any]]:
    """Ruff's findings; a file on which it crashes is found by halving, added to `failing` and left out."""
    try:
        return _ruff(paths, version)
    except RuffCrashed:
        if len(failing) >= MOST_FAILING:
            raise
        if len(paths) == 1:
            failing.append(paths[0])
            return []
    middle = len(paths) // 2
    return [*_checked(paths[:middle], version, failing), *_checked(paths[middle:], version, failing)]


@cache
def severity_of(code: str) -> Severity:
    """The severity of a ruff rule, by its longest known prefix."""
    table: dict[str, str] = settings()["ruff"]["severity"]
    prefix = max((known for known in table if code.startswith(known)), key=len, default="")
    return Severity(table.get(prefix, "low"))


def _ruff(paths: list[str], version: str) -> list[dict[str, Any]]:
    from ruff.__main__ import find_ruff_bin  # type: ignore[import-untyped]

    rules = settings()["ruff"]
    command = [
        os.fsdecode(find_ruff_bin()),
        "check",
        "--isolated",
        "--no-cache",
        "--no-fix",
        "--exit-zero",
        "--quiet",
        "--output-format=json",
        f"--target-version={version}",
        f"--select={','.join(rules['select'])}",
        f"--ignore={','.join(rules['ignore'])}",
        "--",
        *paths,
    ]
    environment = {name: os.environ[name] for name in ("SYSTEMROOT", "TMPDIR", "TEMP") if name in os.environ}
    limit = settings()["limits"]["ruff_seconds"]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=limit, check=False)
    if done.returncode < 0:
        raise RuffCrashed(f"ruff was ended by signal {-done.returncode} on {len(paths)} files")
    if done.returncode != 0:
        raise RuntimeError(f"ruff failed with status {done.returncode}: {done.stderr.decode(errors='replace')[:500]}")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _target_version(files: Iterable[SourceFile]) -> str:
    """The oldest Python that the target's `pyproject.toml` supports; the newest known when it does not say."""
    newest: int = settings()["ruff"]["newest_python"]
    for file in files:
        if file.path == "pyproject.toml":
            try:
                project = tomllib.loads(file.text).get("project")
            except (tomllib.TOMLDecodeError, RecursionError):
                return f"py3{newest}"
            required = project.get("requires-python") if isinstance(project, dict) else None
            match = re.search(r">=?\s*3\.(\d+)", required) if isinstance(required, str) else None
            if match:
                return f"py3{min(max(int(match[1]), 7), newest)}"
    return f"py3{newest}"
