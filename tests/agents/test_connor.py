"""CONNOR's handlers through the real runtime."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Zora
from tests.https import https_server, make_certificate, trust
from zora_core.settings import examples
from zora_core.skills.systems.health import settings

pytestmark = pytest.mark.both_transports


class Service(BaseHTTPRequestHandler):
    """Answers 503 below /broken, and 200 elsewhere."""

    def do_GET(self) -> None:
        self.send_response(503 if self.path == "/broken" else 200)
        self.end_headers()
        self.wfile.write(b"answer")

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def dead() -> str:
    """An address on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


def checks(result: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(check["name"], check["subject"]): check["status"] for check in result["result"]["checks"]}


async def test_without_endpoints_queue_database_and_disk_are_reviewed_and_the_rest_is_named(zora: Zora) -> None:
    task = await zora.run("CONNOR", "review_system_health")
    assert task.status == "completed", task.error_message
    assert task.result is not None
    names = {name for name, _ in checks(task.result)}
    assert {"queue-age", "database-wraparound", "disk-free"} <= names
    assert any("none given" in reason for reason in task.result["result"]["not_examined"])
    assert {source["kind"] for source in task.result["sources"]} >= {"database", "rows"}


async def test_sessions_are_reviewed_where_they_can_be_seen_and_else_said_not_to_be(zora: Zora, transport: str) -> None:
    task = await zora.run("CONNOR", "review_system_health")
    assert task.result is not None
    reviewed = {"database-connections", "database-long-transaction"} & {name for name, _ in checks(task.result)}
    unseen = [reason for reason in task.result["result"]["not_examined"] if "sees its own alone" in reason]
    assert (len(reviewed), len(unseen)) == ((2, 0) if transport == "direct" else (0, 1))


async def test_dead_and_broken_endpoints_are_findings_and_a_living_one_is_not(
    zora: Zora, service: str, dead: str
) -> None:
    urls = [f"{service}/fine", f"{service}/broken", dead]
    task = await zora.run("CONNOR", "review_system_health", {"endpoints": urls})
    assert task.status == "completed", task.error_message
    assert task.result is not None
    status = checks(task.result)
    assert [status["endpoint-available", url] for url in urls] == ["green", "red", "red"]
    critical = [f for f in task.result["findings"] if f["rule_id"] == "health.endpoint-available"]
    assert {url for url in urls[1:] if any(url in f["title"] for f in critical)} == set(urls[1:])
    assert any("HTTP 503" in f["detail"] for f in critical)
    assert task.result_summary is not None
    assert task.result_summary.startswith("Red")


async def test_a_certificate_is_judged_from_the_probes_own_connections(
    zora: Zora, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path, 36_500)
    trust(monkeypatch, certificate)
    with https_server(certificate, Service) as server:
        task = await zora.run("CONNOR", "review_system_health", {"endpoints": [server.url, service]})
    assert task.result is not None, task.error_message
    (tls,) = [check for check in task.result["result"]["checks"] if check["name"] == "endpoint-tls"]
    assert (tls["subject"], tls["status"]) == (server.url, "green")
    assert server.connections == settings()["endpoint"]["probes"]


async def test_an_address_that_is_none_fails_the_task(zora: Zora) -> None:
    task = await zora.run("CONNOR", "review_system_health", {"endpoints": ["ftp://x.example/"]})
    assert task.status == "failed"
    assert task.error_message is not None
    assert "ftp" in task.error_message


async def test_an_old_backlog_and_failing_runs_are_found_in_one_review(zora: Zora) -> None:
    await zora.seed(
        "agent_tasks",
        agent_id="SAM",
        task_type="review_accessibility",
        title="waits",
        created_at=zora.now - timedelta(hours=5),
    )
    for _ in range(8):
        await zora.seed(
            "journal_entries",
            category="agent_action",
            event_type="agent_task_failed",
            title="failed",
            body="page is gone",
            details={"agent_id": "SAM", "task_type": "review_accessibility", "duration_ms": 10},
            created_at=zora.now - timedelta(minutes=30),
        )
    task_id = await zora.create("CONNOR", "review_system_health", priority=9)
    await zora.run_once(limit=1)
    task = await zora.task(task_id)
    assert task.result is not None, task.error_message
    rules = {finding["rule_id"]: finding for finding in task.result["findings"]}
    assert {"health.queue-age", "health.queue-stalled", "health.failure-rate"} <= set(rules)
    assert any(e.get("text") == "page is gone" for e in rules["health.failure-rate"]["evidence"])
    assert {s["suggestion_type"] for s in task.result["suggestions"]} == {"advice"}


@pytest.fixture
def project(zora: Zora, tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "a.py").write_text("import os\n")
    return root


async def test_the_example_project_is_analysed_with_advice(zora: Zora) -> None:
    task = await zora.run("CONNOR", "analyze_codebase", {"target": str(examples() / "code")})
    assert task.status == "completed", task.error_message
    assert task.result is not None
    assert task.result["findings"][0]["severity"] == "critical"
    titles = [suggestion["title"] for suggestion in task.result["suggestions"]]
    assert any("Credential" in title for title in titles)
    assert any("Import cycle" in title for title in titles)
    assert {"kind": "directory", "unit": "files"}.items() <= next(
        s for s in task.result["sources"] if s["kind"] == "directory"
    ).items()


async def test_a_second_run_says_what_changed(zora: Zora, project: Path) -> None:
    first = await zora.run("CONNOR", "analyze_codebase", {"target": "project"})
    assert first.result is not None, first.error_message
    assert first.result["result"]["comparison"] is None
    (project / "a.py").write_text("import os\n\n\ndef main():\n    return 1\n    print(2)\n")
    second = await zora.run("CONNOR", "analyze_codebase", {"target": "project"})
    assert second.result is not None
    compared = second.result["result"]["comparison"]
    assert compared["previous_task"] == str(first.id)
    assert (compared["new"], compared["fixed"]) == (1, 0)
    assert second.result["findings"][0]["rule_id"] == "code.unreachable"
    assert second.result_summary is not None
    assert "1 new" in second.result_summary


async def test_runs_with_other_globs_are_not_compared(zora: Zora, project: Path) -> None:
    await zora.run("CONNOR", "analyze_codebase", {"target": "project"})
    other = await zora.run("CONNOR", "analyze_codebase", {"target": "project", "exclude": ["*.py"]})
    assert other.result is not None
    assert other.result["result"]["comparison"] is None
    assert other.result_summary == "project holds no source file that could be read (1 left out)."


async def test_clean_code_says_what_was_examined(zora: Zora, project: Path) -> None:
    (project / "a.py").write_text("print(1)\n")
    task = await zora.run("CONNOR", "analyze_codebase", {"target": f"file://{project}"})
    assert task.result_summary == "Nothing found in 1 file with 2 lines of project."


@pytest.fixture
def broken_history(project: Path) -> Path:
    """The project as a repository whose objects cannot be read."""
    git = ["git", "-C", str(project), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    for file in (project / ".git" / "objects").glob("??/*"):
        file.chmod(0o600)
        file.write_bytes(b"broken")
    return project


async def test_a_history_that_git_cannot_read_is_named_and_the_code_is_still_read(
    zora: Zora, broken_history: Path
) -> None:
    task = await zora.run("CONNOR", "analyze_codebase", {"target": "project"})
    assert task.result is not None, task.error_message
    assert any("git log failed" in reason for reason in task.result["result"]["not_examined"])
    assert [f["rule_id"] for f in task.result["findings"]] == ["code.ruff.F401"]
    assert task.result_summary is not None
    assert task.result_summary.startswith("1 issue in 1 file with 2 lines of project: 1 low.")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("https://github.com/x/y", "not on this machine"),
        ("git@github.com:x/y.git", "not on this machine"),
        ("/etc", "lies outside"),
        ("nowhere", "does not exist"),
        ("project/a.py", "is a file"),
    ],
)
async def test_targets_that_cannot_be_read_fail_with_the_reason(
    zora: Zora, project: Path, target: str, message: str
) -> None:
    task = await zora.run("CONNOR", "analyze_codebase", {"target": target})
    assert task.status == "failed"
    assert task.error_message is not None
    assert message in task.error_message
