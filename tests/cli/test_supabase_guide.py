"""docs/supabase.md, followed to the letter: what it says to type is typed, and what it says to expect is compared.

The SQL Editor is psql as the project's owner. Ids, times, versions and sizes are masked before comparing; a line with
nothing but … stands for any lines.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.supabase import Project, project_on
from tests.conftest import ROOT, Server
from zora_core.cron import Cron
from zora_core.schedules import plan

GUIDE = (ROOT / "docs" / "supabase.md").read_text(encoding="utf-8")
HOST = "abcdefghijklmnopqrst.supabase.co"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)

# What differs from one run to the next.
MASKS = {
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}": "UUID",
    r"\b[0-9a-f]{8}\b": "ID",
    r"\b\d\d:\d\d:\d\d\b": "TIME",
    r"\b\d+(\.\d+)+\b": "VERSION",
    r"\b\d[\d,.]* (ms|s|MB|transactions)\b": r"MANY \1",
    r"(Linux|Darwin) \w+": "MACHINE",
    r"\bversion \d+\b": "version N",
    r" +": " ",
}

# pg_cron for tests: what it is told is kept.
CRON = """
create schema cron;
create table cron.job (name text primary key, schedule text, command text);
create table cron.job_run_details (end_time timestamptz);
create function cron.schedule(job_name text, schedule text, command text) returns bigint language sql as $$
    insert into cron.job values (job_name, schedule, command) returning 1
$$;
"""


@pytest.fixture
def project(embedded: Server, tmp_path: Path) -> Iterator[Project]:
    with project_on(embedded, tmp_path / "home") as project:
        yield project


def masked(text: str) -> str:
    for pattern, mask in MASKS.items():
        text = re.sub(pattern, mask, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def assert_as_expected(said: str, expected: str) -> None:
    said, expected = masked(said), masked(expected)
    pattern = "\n".join(r"[^\0]*?" if line == "…" else re.escape(line) for line in expected.splitlines())
    assert re.fullmatch(pattern, said), f"expected:\n{expected}\n\nbut:\n{said}"


def commands(block: str) -> Iterator[tuple[str, str]]:
    """The commands of a session, each with what is expected of it; one may take several lines."""
    lines = block.splitlines()
    while lines:
        command = lines.pop(0).removeprefix("$ ")
        while subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False).returncode:
            command += "\n" + lines.pop(0)
        expected = []
        while lines and not lines[0].startswith("$ "):
            expected.append(lines.pop(0))
        yield command, "\n".join(expected)


class Reader:
    """Somebody with a terminal and the SQL Editor, who does what is written."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.project = project
        self.folder = folder
        kept = {k: v for k, v in project.environment.items() if not k.startswith(("SUPABASE_", "ZORA_TENANT"))}
        self.environment = {**kept, "COLUMNS": "118"}
        self.ids: dict[str, str] = {}

    def type(self, command: str, expected: str) -> None:
        said = self.run(command)
        assert_as_expected(said, expected)
        shorts = [re.findall(r"\b[0-9a-f]{8}\b(?!-)", text) for text in (expected, said)]
        self.ids.update(zip(*shorts, strict=False))

    def run(self, command: str) -> str:
        command = re.sub(rf"https://({HOST}|REF\.supabase\.co)", self.project.url, command)
        command = command.replace("sb_secret_…", self.project.environment["SUPABASE_SERVICE_KEY"])
        for written, real in self.ids.items():
            command = command.replace(written, real)
        kept = self.folder / "environment"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{command}\nenv -0 > '{kept}'"],
            cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        self.environment = dict(pair.split("=", 1) for pair in kept.read_text().split("\0") if pair)
        return done.stdout.replace("127.0.0.1", HOST)


def test_the_guide_leads_from_an_empty_project_to_a_processed_task(project: Project, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    reader = Reader(project, tmp_path)
    pasted = ""
    for kind, block in BLOCKS:
        if kind == "console":
            for command, expected in commands(block):
                reader.type(command, expected)
                if command.endswith("> zora.sql"):
                    pasted = (tmp_path / "zora.sql").read_text(encoding="utf-8")
        elif kind == "text":
            shown = project.sql(pasted).strip()
            assert_as_expected(shown[shown.index("          check".strip()) :], block)
            project.wait_until_known()
        elif kind == "sql" and "cron.schedule" not in block:
            project.sql(block)
    (completed,) = project.sql(
        "select t.title from agent_tasks as t join tenants as n on n.id = t.tenant_id "
        "where n.slug = 'acme' and t.status = 'completed'"
    ).splitlines()[2:3]
    assert completed.strip() == "What has happened so far?"
    assert "https://example.org/climate" in project.sql("select config from frontend_configs where page = 'climate'")


def test_the_database_guides_lines_make_a_project_ready(project: Project, tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "database.md").read_text(encoding="utf-8")
    (block,) = (b for b in re.findall(r"```console\n(.*?)```", guide, flags=re.DOTALL) if "SUPABASE_URL" in b)
    project.install()
    reader = Reader(project, tmp_path)
    said = [reader.run(command) for command, _ in commands(block)]
    assert "Made the tenant Acme" in said[-2]
    assert "over HTTP" in said[-1]


def test_the_workflow_for_github_runs_what_it_says_and_pins_what_it_uses(project: Project, tmp_path: Path) -> None:
    """All but the installation, which would change the environment of the tests."""
    project.install()
    project.zora("tenants", "add", "Acme")
    project.zora("create-task", "EIVOR", "summarize_recent_events", "This week")
    (text,) = (block for kind, block in BLOCKS if kind == "yaml")
    workflow: dict[Any, Any] = yaml.safe_load(text)
    (event,) = workflow[True]["schedule"]  # YAML 1.1 reads `on` as a truth value
    Cron(event["cron"], "UTC")
    assert workflow["concurrency"]["group"]
    (job,) = workflow["jobs"].values()
    secrets = {**project.environment, "ZORA_JOURNAL_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZORA_", "SUPABASE_", "DATABASE_URL"))}
    environment = {**kept, "PATH": project.environment["PATH"], "HOME": str(tmp_path)}
    for name, value in job["env"].items():
        assert value == f"${{{{ secrets.{name} }}}}"
        environment[name] = secrets[name]
    lines = []
    for step in job["steps"]:
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
            continue
        lines.append(step["run"])
        if "pip install" in step["run"]:
            assert "--constraint constraints.txt" in step["run"]
            assert (ROOT / "constraints.txt").is_file()
            continue
        done = subprocess.run(
            ["bash", "-e", "-c", step["run"]],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert lines[0].startswith("python -m pip install")
    assert "completed" in project.zora("tasks", "list")
    assert "are as they were sealed" in project.zora("journal", "verify", **environment)


def test_what_pg_cron_is_told_creates_the_tasks_of_schedules_without_a_worker(project: Project) -> None:
    project.install()
    project.zora("tenants", "add", "Acme")
    project.zora("schedules", "create", "Weekly digest", "EIVOR", "summarize_recent_events", "--cron", "* * * * *")
    project.sql(
        "update autonomy_schedules set upcoming = array[date_trunc('minute', now())], "
        "next_run_at = date_trunc('minute', now()), handled_until = now() - interval '2 minutes'"
    )
    (block,) = (block for kind, block in BLOCKS if kind == "sql" and "cron.schedule" in block)
    project.sql("insert into tenants (name, slug) values ('x', 'x')")
    project.sql(CRON)
    project.sql(block)
    jobs = project.sql("copy (select schedule, command from cron.job order by name) to stdout").splitlines()
    assert len(jobs) == block.count("cron.schedule(")
    for schedule, command in (job.split("\t") for job in jobs):
        Cron(schedule, "UTC")
        project.sql(command)
    functions = set(re.findall(r"^\| `(\w+)\(\)` \|", GUIDE, flags=re.MULTILINE))
    assert functions == set(re.findall(r"(\w+)\(\)", "".join(jobs))) - {"now"}
    made = project.sql("select title, status from agent_tasks where idempotency_key like 'schedule:%'")
    assert "Weekly digest | pending" in re.sub(" +", " ", made)


def test_fire_times_are_known_for_as_long_as_the_guide_says() -> None:
    rows = re.findall(r"^\| `([\d* ]+)` \| (\d+) days \|$", GUIDE, flags=re.MULTILINE)
    assert len(rows) == 4
    now = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    for expression, days in rows:
        times, _ = plan(Cron(expression, "UTC"), now, now)
        assert round((times[-1] - now) / timedelta(days=1)) == int(days), expression


def test_every_message_of_the_table_is_one_of_ours() -> None:
    (table,) = re.findall(r"^\| message \|.*?\n\n", GUIDE, flags=re.MULTILINE | re.DOTALL)
    said = [part for row in table.split("\n")[2:-2] for part in re.findall(r"`([^`]+)`", row.split("|")[1])]
    source = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "zora_core").rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", source)
    assert len(said) > 15
    assert [text for text in said if text not in joined] == []
