"""Commands that create tasks permit them to read the current folder, before a worker can miss the permission."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.conftest import Server
from zora_core.cli.main import main
from zora_core.database.postgres import PostgresDatabase
from zora_core.roots import permitted

CREATING = {"create_agent_tasks", "start_workflow_run", "decide_agent_suggestion"}


@pytest.fixture(scope="module")
def url(embedded: Server) -> str:
    """A database of this module with the default tenant."""
    asyncio.run(embedded._make("permissions"))
    made = embedded.database_url("permissions")
    assert CliRunner().invoke(main, ("tenants", "add", "Shop"), env={"DATABASE_URL": made}).exit_code == 0
    return made


@pytest.mark.parametrize(
    ("arguments", "creations"),
    [
        (("create-task", "EIVOR", "summarize_recent_events", "This week"), 1),
        (("workflows", "run", "weekly-climate-review"), 1),
        (("ask", "--yes", "--json", "Improve the accessibility of http://127.0.0.1:9/"), 2),
    ],
)
def test_tasks_are_announced_before_a_worker_can_claim_them(
    url: str,
    arguments: tuple[str, ...],
    creations: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.chdir(folder)
    announced: list[int] = []
    original = PostgresDatabase.call

    async def call(self: PostgresDatabase, function: str, /, **values: Any) -> list[dict[str, Any]]:
        rows = await original(self, function, **values)
        if function in CREATING:  # committed, and the command does not know it yet
            announcements = tmp_path / "home" / "permissions" / "announced"
            announced.append(len([*announcements.iterdir()]) if announcements.is_dir() else 0)
        return rows

    monkeypatch.setattr(PostgresDatabase, "call", call)
    home = {"ZORA_HOME": str(tmp_path / "home"), "DATABASE_URL": url}
    done = CliRunner().invoke(main, arguments, env=home)
    assert done.exit_code == 0, done.output
    assert announced == [1] * creations, done.output
    assert not [*(tmp_path / "home" / "permissions" / "announced").iterdir()]
    tasks = [path for path in (tmp_path / "home" / "permissions").iterdir() if path.is_file()]
    assert {permitted(tmp_path / "home", task.name) for task in tasks} == {folder}
