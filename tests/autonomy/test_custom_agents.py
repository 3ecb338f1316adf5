"""Task types of one's own: the examples of docs/task-types.md, and a package's entry point."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.autonomy.agents import Probe
from tests.conftest import Zora
from zora_core.agents import Agent, AgentId, Payload, Registry, Task, TaskContext, TaskResult, handler
from zora_core.agents.builtin import registry
from zora_core.autonomy.runtime import AgentRuntime
from zora_core.errors import ConfigurationError

pytestmark = pytest.mark.both_transports

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "task-types.md"
EXAMPLE, FINDING_EXAMPLE, RESOURCES_EXAMPLE = (
    block for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL) if "@handler" in block
)
DEFINITIONS, _, _ = EXAMPLE.partition("\n\n\nasync def main")


async def test_the_guides_task_type_works_in_one_file(zora: Zora, tmp_path: Path) -> None:
    (tmp_path / "home.html").write_text("<html><body><p>Five words on this page</p></body></html>")
    await zora.seed("frontend_configs", page="home", config={"path": str(tmp_path / "home.html")})
    namespace: dict[str, type[Agent]] = {}
    exec(DEFINITIONS, namespace)
    assert len([line for line in DEFINITIONS.splitlines() if line and not line.startswith(("import", "from"))]) <= 10

    await zora.create("ORACLE", "count_words")
    runtime = AgentRuntime(agents=[namespace["WordCounter"]()], settings=zora.settings, database=zora.database)
    (result,) = await runtime.run_once()
    assert result.summary == "5 words on home"


async def test_the_guides_finding_rests_on_the_page_and_a_false_one_is_told_what_to_do(
    zora: Zora, tmp_path: Path
) -> None:
    (tmp_path / "home.html").write_text("<html><body><p>Our <b>synergy</b>\n grows</p></body></html>")
    await zora.seed("frontend_configs", page="home", config={"path": str(tmp_path / "home.html")})
    definitions = f"{DEFINITIONS}\n{FINDING_EXAMPLE}"
    true_id, false_id = [await zora.create("ORACLE", "find_jargon") for _ in range(2)]
    for source in (definitions, definitions.replace("start=start", "start=1 + start")):
        namespace: dict[str, type[Agent]] = {}
        exec(source, namespace)
        await zora.run_once(namespace["JargonFinder"](), limit=1)
    result = (await zora.task(true_id)).result
    assert result is not None
    assert result["suggestions"][0]["findings"] == [result["findings"][0]["id"]]
    assert result["sources"][result["findings"][0]["evidence"][0]["read"][0]]["ref"] == "home"
    error = (await zora.task(false_id)).error_message or ""
    (tmp_path / "home.html").write_text("<html><body><p>Our work grows</p></body></html>")
    await zora.create("ORACLE", "find_jargon")
    (none,) = await zora.run_once(namespace["JargonFinder"](), limit=1)
    assert (none.status, none.summary) == ("completed", "No jargon")
    assert "words.jargon (Jargon): “synergy” does not stand in home at character 5 (it does at 4)" in error
    assert "quote without trimming or rewording" in error


async def test_the_guides_client_is_opened_once_for_all_tasks(zora: Zora, monkeypatch: pytest.MonkeyPatch) -> None:
    connections, texts = [], []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        while head := await reader.readuntil(b"\r\n\r\n"):
            (length,) = re.findall(rb"content-length: (\d+)", head.lower())
            texts.append(json.loads(await reader.readexactly(int(length)))["text"])
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        monkeypatch.setenv("CHAT_URL", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        namespace: dict[str, type[Agent]] = {}
        exec(f"{DEFINITIONS}\n{RESOURCES_EXAMPLE}", namespace)
        for text in ("one", "two", "three"):
            await zora.create("ORACLE", "say", {"text": text})
        runs = await zora.worker(namespace["Messenger"](), concurrency=1).run(limit=3)
    assert [run.summary for run in runs] == ["Posted"] * 3
    assert (texts, len(connections)) == (["one", "two", "three"], 1)


def test_an_installed_package_adds_its_agents_to_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "word_counter.py").write_text(EXAMPLE.rpartition("\n\n")[0])
    metadata = tmp_path / "word_counter-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: word-counter\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[zora.agents]\nword_counter = word_counter:WordCounter\n")
    said = subprocess.run(
        [sys.executable, "-m", "zora_core.cli", "task-types", "--json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    types = {t["task_type"]: t for t in json.loads(said)}
    assert len(types) == 13
    assert types["count_words"]["agent_id"] == "ORACLE"
    assert types["count_words"]["description"] == "Count the words of a page."
    assert types["count_words"]["payload_schema"]["properties"]["page"]["default"] == "home"


BROKEN = {
    "raises": "raise RuntimeError('no licence')",
    "exits": "raise SystemExit(3)",
    "imports": "import a_package_that_is_not_there",
    "no_class": "WordCounter = 7",
    "no_name": "",
    "taken": EXAMPLE.rpartition("\n\n")[0].replace("count_words", "research_topic"),
    "vague": EXAMPLE.rpartition("\n\n")[0].replace("payload: ", "payload: dict or "),
    "half": EXAMPLE.rpartition("\n\n")[0] + "\n    def __init__(self):\n        raise ValueError('half')\n",
}


def test_a_package_that_cannot_be_loaded_is_named_and_does_not_stop_the_others(tmp_path: Path) -> None:
    packages = {**{f"broken_{name}": source for name, source in BROKEN.items()}, "sound": EXAMPLE.rpartition("\n\n")[0]}
    for name, source in packages.items():
        (tmp_path / f"{name}.py").write_text(source)
        metadata = tmp_path / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[zora.agents]\ncounter = {name}:WordCounter\n")
    said = subprocess.run(
        [sys.executable, "-m", "zora_core.cli", "task-types", "--json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "count_words" in {t["task_type"] for t in json.loads(said.stdout)}
    for name in BROKEN:
        assert said.stderr.count(f"the agents of broken_{name} 1.0 are left out") == 1, name
    assert "Traceback" not in said.stderr
    assert "the agents of sound" not in said.stderr
    assert "object at 0x" not in said.stderr


def test_the_six_agents_handle_the_twelve_task_types_of_the_specification() -> None:
    assert {(t.agent_id.value, t.name) for t in registry()} == {
        ("LUMINA", "plan_frontend_improvements"),
        ("LUMINA", "plan_workflow"),
        ("SAM", "review_climate_page"),
        ("SAM", "review_accessibility"),
        ("EIVOR", "summarize_recent_events"),
        ("EIVOR", "memory_cleanup"),
        ("ORACLE", "propose_new_climate_missions"),
        ("ORACLE", "research_topic"),
        ("CONNOR", "review_system_health"),
        ("CONNOR", "analyze_codebase"),
        ("AEGIS", "review_recent_agent_tasks"),
        ("AEGIS", "check_climate_claims"),
    }
    for task_type in registry():
        assert task_type.description
        assert "extra_instructions" in task_type.schema["properties"]


def test_two_handlers_for_one_task_type_are_refused() -> None:
    class Double(Agent):
        agent_id = AgentId.SAM

        @handler("count")
        async def count(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
            raise AssertionError

    with pytest.raises(ConfigurationError, match="two handlers for SAM count"):
        registry((Probe(), Double()))


def test_a_handler_without_a_payload_model_is_refused_with_its_name() -> None:
    class Vague(Agent):
        agent_id = AgentId.SAM

        @handler("vague")
        async def vague(self, task: Task, payload: dict, ctx: TaskContext) -> TaskResult:  # type: ignore[type-arg]
            raise AssertionError

    with pytest.raises(ConfigurationError, match=r"Vague\.vague must annotate its payload"):
        registry((Vague(),))


async def test_an_agents_handle_task_dispatches_to_its_handler(zora: Zora) -> None:
    await zora.create("SAM", "count", {"text": "two words"})
    (row,) = await zora.call("claim_agent_tasks", tenant_id=zora.tenant_id, worker_id="w")
    task = Task.model_validate({name: row[name] for name in Task.model_fields})
    from zora_core.agents.context import TaskContext

    context = TaskContext(zora.database, zora.settings, zora.tenant_id, zora.now, Registry([]))
    result = await Probe().handle_task(task, context)
    assert isinstance(result, TaskResult)
    assert result.summary == "2 words"


async def test_a_program_without_an_observer_logs_what_fails_on_its_input(
    zora: Zora, caplog: pytest.LogCaptureFixture
) -> None:
    task_id = await zora.create("SAM", "review_climate_page", payload={"page": "clmate"})
    with caplog.at_level("WARNING", logger="zora.runtime"):
        (run,) = await AgentRuntime(settings=zora.settings, database=zora.database).run_once()
    assert run.failure_kind == "error"
    assert f"task {task_id} failed: SAM review_climate_page (error): unknown page 'clmate'" in caplog.text
