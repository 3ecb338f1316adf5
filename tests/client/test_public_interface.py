"""What programs import from the installed package: it is typed, and it costs nothing before it is used."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import zora_core

ROOT = Path(__file__).parents[2]

PROGRAM = '''\
import asyncio
from uuid import UUID

from zora_core import Agent, AgentId, AgentRuntime, Client, Payload, Task, TaskContext, TaskResult, handler
from zora_core.errors import NotFound


class CountWords(Payload):
    page: str = "home"


class WordCounter(Agent):
    agent_id = AgentId.ORACLE

    @handler("count_words")
    async def count_words(self, task: Task, payload: CountWords, ctx: TaskContext) -> TaskResult:
        """Count the words of a page."""
        page = await ctx.page(page=payload.page)
        return TaskResult(summary=f"{len(page.text.split())} words on {payload.page}")


async def main() -> UUID:
    async with Client.open() as zora:
        try:
            task = await zora.tasks.get("1234abcd")
        except NotFound:
            raise SystemExit("there is no such task") from None
        words: str | None = task.result_summary
        reveal_type(task.created_at)
        runs = await AgentRuntime(agents=[WordCounter()]).run_once(limit=1)
        print(words, runs[0].status)
        return task.id


asyncio.run(main())
'''


def test_importing_the_package_loads_nothing_else() -> None:
    program = "import sys, zora_core; print(sorted(m for m in sys.modules if m.startswith(('zora', 'pydantic'))))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "['zora_core']\n"


@pytest.mark.parametrize("name", zora_core.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(zora_core, name).__name__ == name or name == "Evidence"


@pytest.mark.slow
def test_a_typed_program_passes_mypys_strictest_checks_against_the_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("zora_core-*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    for dependency in {Path(p) for p in sys.path if p.endswith("site-packages")}:
        for name in ("pydantic", "pydantic_core", "typing_extensions.py", "annotated_types", "typing_inspection"):
            if (dependency / name).exists():
                (packages / name).symlink_to(dependency / name)
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    mypy = shutil.which("mypy", path=str(Path(sys.executable).parent))
    assert mypy is not None
    checked = subprocess.run(
        [mypy, "--strict", "--python-executable", str(tmp_path / "venv" / "bin" / "python"), "program.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert 'Revealed type is "datetime.datetime"' in checked.stdout
    assert checked.returncode == 0, checked.stdout
