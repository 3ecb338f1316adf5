"""Every command of `zora`, with nothing but Supabase's variables: one story, in which none is left out."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner

from tests.cli.supabase import Project, project_on
from tests.cli.test_workflows import OWN
from tests.conftest import Server
from tests.importing import original
from zora_core.cli import render
from zora_core.cli.journal import OVER_HTTP
from zora_core.cli.main import main

WITHOUT_A_DATABASE = {"task-types", "schema", "db bin"}


def leaves(command: click.Command = main, name: str = "") -> Iterator[str]:
    if isinstance(command, click.Group):
        for part, inner in command.commands.items():
            yield from leaves(inner, f"{name} {part}".strip())
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield name


class Commands:
    """Runs commands in this process, and keeps which."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.ran: set[str] = set()

    def name(self, arguments: tuple[str, ...]) -> str:
        words = arguments[2:] if arguments[0] == "--tenant" else arguments
        names = [n for n in leaves() if list(words[: len(n.split())]) == n.split()]
        return max(names, key=len)

    def __call__(self, *arguments: str, status: int = 0) -> str:
        self.ran.add(self.name(arguments))
        done = CliRunner().invoke(main, arguments, env=self.environment)
        assert done.exit_code == status, (arguments, done.output, done.exception)
        return done.output

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))

    def process(self, *arguments: str) -> subprocess.Popen[str]:
        """One that stays, and tells of itself on its standard error."""
        self.ran.add(self.name(arguments))
        return subprocess.Popen(
            [sys.executable, "-m", "zora_core.cli", *arguments],
            env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


@pytest.fixture(params=["embedded", "system"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    server: Server = request.getfixturevalue(request.param)
    with project_on(server, tmp_path / "home") as project:
        yield project


def until(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    assert process.stderr
    for line in process.stderr:
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"no line with {pattern}")


def test_every_command_works_over_http(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "ZORA_JOURNAL_KEY", "ZORA_FILE_ROOTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(render.console, "width", 160)
    zora = Commands(project.environment)

    # The project is made ready.
    said = zora("migrate", status=2)
    assert "over HTTP functions can be called, but no tables made" in said
    assert "run the output of `zora schema --supabase` in the project's SQL editor" in said
    project.install()
    assert "already; nothing to do" in zora("migrate")
    assert "`zora tenants add NAME` makes it" in zora("status", status=2)
    assert "Made the tenant Acme" in zora("tenants", "add", "Acme")
    assert "wrong" not in {check["state"] for check in zora.json("doctor")}
    assert "12 of 12 completed" in zora("demo")

    # Tasks.
    task = zora.json("create-task", "EIVOR", "summarize_recent_events", "This week")["id"]
    other = zora.json("create-task", "EIVOR", "memory_cleanup", "Tidy up")["id"]
    assert "has priority 7" in zora("tasks", "priority", other, "7")
    assert "cancelled" in zora("tasks", "cancel", other, "--reason", "later").lower()
    zora("tasks", "retry", other)
    assert {run["status"] for run in zora.json("run-once")} == {"completed"}
    assert "This week" in zora("tasks", "show", task)
    assert "Completed" in zora("tasks", "explain", task)
    assert {row["id"] for row in zora.json("tasks", "list")} == {task, other}
    assert "EIVOR" in zora("status")
    assert "Deleted 0" in zora("tasks", "prune", "--older-than-days", "1")

    # What another system left.
    export = tmp_path / "export.json"
    export.write_text(json.dumps({name: rows for name, rows in original.rows().items() if name == "climate_profiles"}))
    assert "2" in zora("import", "--from", str(export), "--apply")

    # People decide.
    zora("policies", "set", "research_topic", "--ask-first")
    assert "research_topic" in zora("policies", "list")
    waits = zora.json("create-task", "ORACLE", "research_topic", "Heat", "--payload", '{"topic": "heat"}')["id"]
    (asked,) = zora.json("suggestions", "list", "--status=proposed")
    assert "research_topic" in zora("suggestions", "show", asked["id"])
    zora("suggestions", "reject", asked["id"], "--reason", "not now")
    assert "failed" in zora("tasks", "show", waits)
    zora("policies", "remove", "research_topic")
    zora("pause", "SAM", "--reason", "looks odd")
    zora("resume", "SAM")
    of_demo = ("--tenant", "demo")
    plan = zora.json(*of_demo, "ask", "Improve our climate page")["plan"]["id"]
    assert "Applied" in zora(*of_demo, "suggestions", "approve", plan, "--yes")
    zora(*of_demo, "suggestions", "undo", plan)

    # Workflows and schedules.
    file = tmp_path / "tidy.yaml"
    file.write_text(OWN)
    zora("workflows", "save", str(file))
    assert "tidy-up" in zora("workflows", "list")
    assert "after memory" in zora("workflows", "show", "tidy-up")
    run = zora.json("workflows", "run", "tidy-up")["id"]
    assert "0 of 2 steps" in zora("workflows", "status", run)
    zora("workflows", "cancel", run)
    zora("workflows", "retry", run)
    assert run in {row["id"] for row in zora.json("workflows", "runs")}
    weekly = ("EIVOR", "summarize_recent_events", "--cron", "0 9 * * 1", "--timezone", "Europe/Berlin")
    zora("schedules", "create", "Weekly digest", *weekly)
    zora("schedules", "update", "Weekly digest", "--cron", "0 8 * * 1")
    assert "0 8 * * 1" in zora("schedules", "show", "Weekly digest")
    zora("schedules", "pause", "Weekly digest")
    zora("schedules", "resume", "Weekly digest")
    assert "Weekly digest" in zora("schedules", "list")
    assert "Weekly digest" in zora("schedules", "next", "--hours", "200")
    zora("schedules", "run-now", "Weekly digest")
    assert "No schedule is due" in zora("run-due-schedules")
    zora("schedules", "delete", "Weekly digest")

    # The journal.
    assert "Sealed" in zora("journal", "seal")
    said = zora("journal", "verify")
    assert "are as they were sealed" in said
    assert said.count(OVER_HTTP) == 1
    export, anchors = tmp_path / "journal.jsonl", tmp_path / "anchors.jsonl"
    zora("journal", "export", str(export))
    zora("journal", "anchor", "--to", str(anchors))
    said = zora("journal", "verify", str(export), "--anchor", str(anchors))
    assert "are as they were sealed" in said
    assert OVER_HTTP not in said
    entry = zora.json("journal", "--limit=1")[0]["id"]
    assert "Erased the text" in zora("journal", "erase", entry, "--reason", "request 117")
    zora("memory", "search", "heat")

    # Keys, the pages and the API, and a loop.
    key = zora.json("keys", "create", "laptop")
    assert "laptop" in zora("keys", "list")
    loop = zora.process("run-loop", "--sleep-seconds=1")
    try:
        until(loop, r"in SUPABASE_URL \(127\.0\.0\.1\); Ctrl-C to stop")
        looped = zora.json("create-task", "EIVOR", "memory_cleanup", "In a loop")["id"]
        until(loop, f"{looped[-8:]}.*completed")
    finally:
        loop.send_signal(signal.SIGINT)
        loop.communicate(timeout=60)
    serving = zora.process("serve", "--port=0", "--no-worker")
    try:
        url = until(serving, r"The admin pages are at (\S+)/admin")[1]
        link = zora.json("keys", "link", "--url", url)["link"]
        with httpx.Client(headers={"Authorization": f"Bearer {key['key']}"}) as program:
            answer = program.get(f"{url}/api/agents/tasks", params={"limit": 100}).json()
            assert looped in {row["id"] for row in answer["data"]}
            with program.stream("GET", f"{url}/api/agents/tasks/events") as events:
                assert next(events.iter_lines()) == "event: snapshot"
        with httpx.Client(headers={"Origin": url}, follow_redirects=True) as visitor:
            given = link.partition("link=")[2]
            page = visitor.post(f"{url}/admin/sign-in", data={"link": given})
            pages = set(re.findall(r'<a [^>]*href="(/admin/[^"#?]*)"', page.text))
            assert len(pages) > 5
            for path in pages:
                assert visitor.get(f"{url}{path}").status_code == 200, path
    finally:
        serving.send_signal(signal.SIGINT)
        serving.communicate(timeout=60)
    zora("keys", "revoke", key["key"])
    assert "no folder" in zora("tenants", "roots")
    assert zora.json("tables", "list") == []
    assert "no_such_table" in zora("tables", "register", "no_such_table", "--writable", "name", status=1)
    assert "no_such_table" in zora("tables", "remove", "no_such_table", status=1)

    # The embedded server is not one's concern here, and is said not to run.
    assert "It is not running." in zora("db", "stop")
    assert "is not running" in zora("db", "url", status=1)
    assert set(leaves()) - zora.ran == WITHOUT_A_DATABASE


def test_a_table_is_registered_over_http_with_the_line_that_its_owner_must_run(project: Project) -> None:
    project.install()
    project.zora("tenants", "add", "Acme")
    project.sql("create table plants (id serial primary key, tenant_id uuid not null, name text, price int)")
    project.sql("alter table plants enable row level security")  # as Supabase advises
    may_write = "select has_column_privilege('zora_api', 'plants', 'name', 'update') as may"
    for arguments, problem, may in (
        (("register", "plants", "--writable", "name"), "has not yet the registered rights", "t"),
        (("register", "plants", "--writable", "price"), "has not yet the registered rights", "f"),
        (("remove", "plants"), "has rights left", "f"),
    ):
        said = " ".join(project.zora("tables", *arguments).split())
        assert f"note: the API {problem} on plants: as postgres_owner, run " in said
        assert "note:" in project.zora("tables", "list")
        (command,) = re.findall(r"`(select [^`]*)`", said)
        project.sql(command)
        assert project.sql(may_write).split()[-1] == may
        assert "note:" not in project.zora("tables", "list")
