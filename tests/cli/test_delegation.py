"""The example of docs/delegation.md, killed and started again as it says there, with the output that stands there."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from tests.autonomy.test_runtime import until
from tests.conftest import Server
from zora_core.cli.render import console
from zora_core.cli.render_tree import MAX_LINES, print_dependencies, print_tree
from zora_core.database import schema
from zora_core.settings import DEFAULT_TENANT_ID

DOCS = Path(__file__).parents[2] / "docs" / "delegation.md"
CHANGING = re.compile(r"\b[0-9a-f]{8}(?:(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?\b|\d{4}-\d\d-\d\d \d\d:\d\d|[\d.]+ s ago")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def alike(text: str) -> list[str]:
    """Lines without ids, digests and times."""
    return [CHANGING.sub("…", line.rstrip()) for line in text.splitlines()]


@asynccontextmanager
async def started(folder: Path, environment: dict[str, str]) -> AsyncIterator[asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "survey.py", "site", cwd=folder, env=environment, stdout=subprocess.PIPE
    )
    assert process.stdout
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def heard(output: asyncio.StreamReader, last: str) -> list[str]:
    """What it says up to a line."""
    lines: list[str] = []
    async with asyncio.timeout(60):
        while last not in lines:
            line = (await output.readline()).decode()
            assert line, f"it ended without {last!r}: {lines}"
            lines.append(line.rstrip())
    return lines


async def completed(connection: asyncpg.Connection) -> bool:
    return await connection.fetchval("select bool_and(status = 'completed') from agent_tasks")


async def test_the_example_in_the_docs_says_what_stands_there(server: Server, tmp_path: Path) -> None:
    (program,) = blocks("python")
    session, shown = blocks("console")
    folder = tmp_path / "work"
    (folder / "site").mkdir(parents=True)
    (folder / "survey.py").write_text(program)
    for number, name in enumerate("abc", 1):
        (folder / "site" / f"{name}.html").write_text("x" * 100 * number)
    async with server.fresh() as url:
        connection = await asyncpg.connect(url)
        await schema.migrate(connection)
        await connection.execute("insert into tenants (id, name, slug) values ($1, 'docs', 'docs')", DEFAULT_TENANT_ID)
        environment = {**os.environ, "DATABASE_URL": url, "ZORA_HOME": str(tmp_path / "home"), "COLUMNS": "120"}
        environment |= {"ZORA_FILE_ROOTS": str(folder)}
        async with started(folder, environment) as output:
            said = await heard(output, "c.html: begins")
        async with started(folder, environment) as output:
            said += await heard(output, "survey: is resumed")
            await until(lambda: completed(connection))
        assert said == [line for line in session.splitlines() if not line.startswith("$")]

        task_id = await connection.fetchval("select id from agent_tasks where parent_id is null")
        await connection.close()
        show = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "zora_core.cli", "tasks", "show", str(task_id)],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert alike(show.stdout) == alike(shown.partition("\n")[2])


def edge(relation: str, name: str, **fields: Any) -> dict[str, Any]:
    return {
        "relation": relation, "id": name * 36, "name": name, "on_failure": "fail", "agent_id": "SAM", "task_type": "t",
        "title": name, "status": "pending", "waiting_for": None, **fields,
    }  # fmt: skip


def test_what_a_task_depends_on_and_what_depends_on_it_stand_apart_from_its_tree() -> None:
    with console.capture() as capture:
        print_dependencies(
            [edge("depends_on", "a"), edge("dependent", "b", waiting_for="dependencies"), edge("child", "c")]
        )
    assert capture.get().splitlines() == [
        "", "Depends on", "  a: SAM t  pending  aaaaaaaa  on failure: fail",
        "", "Waited for by", "  SAM t  pending (dependencies)  bbbbbbbb  on failure: fail",
    ]  # fmt: skip


def test_a_large_tree_is_cut_and_what_a_task_is_called_moves_no_cursor() -> None:
    def row(number: int, parent: int | None) -> dict[str, Any]:
        return {
            "id": f"{number:08}", "parent_id": None if parent is None else f"{parent:08}", "key": f"k\x1b{number}",
            "agent_id": "SAM", "task_type": "t", "status": "completed", "waiting_for": None, "failure_kind": None,
        }  # fmt: skip

    rows = [row(0, None), *(row(number, 0) for number in range(1, 71)), row(71, 70)]
    with console.capture() as capture:
        print_tree(rows, "00000001")
        print_tree(rows[:1], "00000000")
    lines = capture.get().splitlines()
    assert len(lines) == MAX_LINES + 3
    assert lines[3] == "  ├─ k\\x1b1: SAM t  completed  00000001  ◄ this task"
    assert lines[-1] == "  and 12 more: see --json"
