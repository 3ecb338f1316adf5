"""No message suggests a command that would act for another tenant than the one that the message is about."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import zora_core
from zora_core.cli.main import main
from zora_core.suggested_command import ANY_TENANT, act_for, completed, zora_command

ROOT = Path(zora_core.__file__).parent
COMMANDS = "|".join(main.commands)
ABOUT_ONE = re.compile(rf"(?:`|<code>)zora (?!(?:{'|'.join(ANY_TENANT)})\b)(?:{COMMANDS})\b")

# What the whole API is described by, for every tenant's callers.
GENERAL = {"api/openapi.py"}
# Nobody has signed in yet, so that there is no tenant.
BEFORE_A_TENANT = {"sign_in.html"}


@pytest.fixture(autouse=True)
def _no_tenant_chosen() -> Iterator[None]:
    yield
    act_for(None)


def texts(module: ast.Module) -> Iterator[ast.Constant]:
    """The strings that a program can print: neither docstrings nor the help of click, which is read before a tenant."""
    static: set[int] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            static.add(id(node.value))
        if isinstance(node, ast.keyword) and node.arg == "help":
            static |= {id(part) for part in ast.walk(node.value)}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in static:
            yield node


def test_no_text_of_a_program_spells_a_command_out() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{text.lineno}: {text.value}"
        for file in sorted(ROOT.rglob("*.py"))
        if file.relative_to(ROOT).as_posix() not in GENERAL
        for text in texts(ast.parse(file.read_text(encoding="utf-8")))
        if ABOUT_ONE.search(text.value)
    ]
    assert found == [], "use zora_command()"


def test_no_page_spells_a_command_out() -> None:
    found = [
        f"{file.name}: {match[0]}"
        for file in sorted(ROOT.rglob("*.html"))
        if file.name not in BEFORE_A_TENANT
        for match in ABOUT_ONE.finditer(file.read_text(encoding="utf-8"))
    ]
    assert found == [], "use visit.command()"


def test_what_the_database_suggests_is_completed() -> None:
    act_for("Acme & Co")
    said = (
        "x is paused: `zora resume SAM` lifts it, see `zora status`, or run `zora migrate` or `zora tenants add NAME`"
    )
    expected = (
        "x is paused: `zora --tenant 'Acme & Co' resume SAM` lifts it, see `zora --tenant 'Acme & Co' status`, or run "
        "`zora migrate` or `zora tenants add NAME`"
    )
    assert completed(said) == expected == completed(expected)
    assert "`zora --tenant beta resume SAM`" in completed(said, tenant="beta")
    act_for(None)
    assert completed(said) == said


def test_a_command_is_quoted() -> None:
    act_for("it's")
    assert shlex.split(zora_command("resume", "a b")) == ["zora", "--tenant", "it's", "resume", "a b"]
    assert zora_command("resume", tenant="beta") == "zora --tenant beta resume"


def test_an_error_names_the_tenant_of_its_command_line_and_the_next_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZORA_HOME", str(tmp_path))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    said = CliRunner().invoke(main, ("--tenant", "acme", "db", "url")).output
    assert "start `zora --tenant acme run-loop` beside this" in said
    assert "start `zora run-loop` beside this" in CliRunner().invoke(main, ("db", "url")).output
