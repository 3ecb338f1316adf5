"""The command line as a person uses it: real processes on an embedded database of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zora_core.database.embedded import EmbeddedServer
from zora_core.settings import DEFAULT_TENANT_ID

DEMO = "demo"

# The specification's own lines, as they stand there.
SPECIFIED_CREATE = """
python -m zora_core.autonomy.cli create-task \\
    --agent=LUMINA \\
    --type=plan_frontend_improvements \\
    --title="Review dashboard page" \\
    --payload='{"page": "dashboard"}'
"""
SPECIFIED_PROGRAM = """
from zora_core.autonomy.runtime import AgentRuntime, is_runtime_configured

# Check if runtime is configured
if not is_runtime_configured():
    print("Missing required environment variables")
    exit(1)

# Create and run the runtime
runtime = AgentRuntime()

# Process up to 10 tasks
results = await runtime.run_once(limit=10)
print(f"Processed {len(results)} tasks")

# Or run continuous loop
await runtime.run_loop(sleep_seconds=30)
"""
RUN_WITH_AWAIT = """
import ast, asyncio, inspect, sys
code = compile(sys.stdin.read(), "specification", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
asyncio.run(eval(code))
"""


@pytest.fixture(scope="module")
def environment(short_tmp: Path) -> Iterator[dict[str, str]]:
    """An environment with a home of its own, whose server stays up between the commands of this module."""
    home = short_tmp / "cli"
    server = EmbeddedServer.at(home)
    server.start()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZORA_", "SUPABASE_", "DATABASE_URL"))}
    bin_folder = str(Path(sys.executable).parent)
    yield {**kept, "ZORA_HOME": str(home), "COLUMNS": "160", "PATH": f"{bin_folder}{os.pathsep}{kept['PATH']}"}
    server.release()


class Zora:
    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def __call__(self, *arguments: str, status: int = 0, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "zora_core.cli", *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", status=status))


@pytest.fixture
def zora(environment: dict[str, str]) -> Zora:
    return Zora(environment)


def test_the_specifications_create_task_runs_and_is_shown(zora: Zora) -> None:
    said = subprocess.run(
        SPECIFIED_CREATE, shell=True, env=zora.environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert "LUMINA plan_frontend_improvements" in said
    task_id = said.split()[2].rstrip(":")
    (run,) = zora.json("run-once", "--limit=5")
    assert (run["task"]["id"], run["status"]) == (task_id, "completed")
    shown = zora("tasks", "show", task_id[-8:])
    for part in ("Review dashboard page", "completed", '{"page": "dashboard"}', "Findings", "dashboard: ", "Journal"):
        assert part in shown
    assert "LUMINA" in zora("status")
    assert zora.json("tasks", "explain", task_id)["explanation"].startswith("Completed")


def test_the_specifications_program_runs_unchanged(zora: Zora) -> None:
    zora("create-task", "eivor", "summarize_recent_events", "This week")
    with subprocess.Popen(
        [sys.executable, "-u", "-c", RUN_WITH_AWAIT],
        env=zora.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as program:  # fmt: skip
        assert program.stdin
        assert program.stdout
        program.stdin.write(SPECIFIED_PROGRAM)
        program.stdin.close()
        try:
            assert program.stdout.readline() == "Processed 1 tasks\n"
            program.send_signal(signal.SIGTERM)
            assert program.wait(timeout=30) in (0, -signal.SIGTERM)
        finally:
            program.kill()


def test_the_loop_works_until_it_is_asked_to_stop(zora: Zora) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "zora_core.cli", "run-loop", "--sleep-seconds=10"],
        env=zora.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as loop:  # fmt: skip
        assert loop.stderr
        try:
            assert "Ctrl-C to stop" in loop.stderr.readline()
            task_id = zora.json("create-task", "EIVOR", "memory_cleanup", "Tidy up")["id"]
            lines = [loop.stderr.readline() for _ in range(2)]
            assert [task_id[-8:] in line for line in lines] == [True, True]
            assert "started" in lines[0]
            assert "completed" in lines[1]
            loop.send_signal(signal.SIGINT)
            assert loop.wait(timeout=30) == 0
        finally:
            loop.kill()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ("create-task", "LUMINA", "plan_worklow", "x"),
            2,
            "unknown task type 'plan_worklow' for LUMINA (known: plan_",
        ),
        (("create-task", "HAL", "plan_workflow", "x"), 2, "'HAL' is not one of"),
        (("create-task", "SAM", "review_climate_page"), 2, "missing --title"),
        (("create-task", "SAM", "review_climate_page", "x", "--payload", "{page}"), 2, "not JSON"),
        (("create-task", "SAM", "review_climate_page", "x", "--payload", "[]"), 2, "must be a JSON object"),
        (("create-task", "EIVOR", "summarize_recent_events", "x", "--payload", '{"days": "many"}'), 2, "days:"),
        (("create-task", "EIVOR", "summarize_recent_events", "x", "--payload", '{"dayz": 1}'), 2, "dayz: Extra"),
        (("tasks", "show", "0000dead"), 1, "no task 0000dead"),
        (("tasks", "show", "x"), 1, "not a task id: 'x'"),
        (("--tenant", "nobody", "status"), 1, "no tenant 'nobody' (known: default"),
        (("tasks", "list", "--status", "done"), 2, "'done' is not one of"),
        (("run-once", "--limit", "0"), 2, "0 is not in the range"),
        (("run-once", "--agents", "sam,BOB"), 2, "unknown agent 'BOB' (known: AEGIS, CONNOR"),
        (("run-loop", "--types", "plan"), 2, "unknown task type 'plan' (known: analyze_codebase"),
        (("run-once", "--agents", "SAM", "--types", "plan_workflow"), 2, "there would be nothing to run"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_and_what_would_be_right(
    zora: Zora, arguments: tuple[str, ...], status: int, message: str
) -> None:
    said = zora(*arguments, status=status)
    assert message in said
    assert "Traceback" not in said


def test_the_guides_task_type_runs_as_it_is_written(zora: Zora, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "task-types.md").read_text(encoding="utf-8")
    (script,) = [block for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "count_words" in block]
    (tmp_path / "words.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "words.py"], cwd=tmp_path, env=zora.environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"Words of the home page completed \d+ words on home\n", done.stdout)


def test_a_ready_task_of_a_type_that_is_not_installed_is_named(zora: Zora) -> None:
    program = (
        "import asyncio\nfrom zora_core.settings import load_settings\n"
        "from zora_core.database.connect import open_database\n"
        "async def main():\n"
        "    database = await open_database(load_settings())\n"
        "    task = {'agent_id': 'ORACLE', 'task_type': 'find_jargon', 'title': 'Not installed'}\n"
        "    created = await database.call('create_agent_tasks', tenant_id=load_settings().tenant_id, tasks=[task])\n"
        "    print(created[0]['id'])\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=zora.environment, timeout=60, check=True, capture_output=True, text=True
    )
    task_id = done.stdout.strip()
    said = "No task is claimable: 1 ready task has a type that is not installed here: ORACLE find_jargon.\n"
    assert zora("run-once") == said
    explained = zora("tasks", "explain", task_id)
    assert "with an agent that has this type, ORACLE find_jargon" in explained or "no running worker knows" in explained
    zora("tasks", "cancel", task_id)


def test_a_worker_can_be_narrowed_to_agents_and_types(zora: Zora) -> None:
    made = zora.json("create-task", "EIVOR", "summarize_recent_events", "This week")
    assert zora.json("run-once", "--agents", "SAM,lumina") == []
    assert zora.json("run-once", "--types", "memory_cleanup", "--types", "plan_workflow") == []
    assert zora.json("tasks", "show", made["id"])["attempt"] == 0
    (run,) = zora.json("run-once", "--agents", "eivor", "--types", "summarize_recent_events,memory_cleanup")
    assert run["task"]["id"] == made["id"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"SUPABASE_URL": "https://x.supabase.co"}, "SUPABASE_SERVICE_KEY is not"),
        ({"SUPABASE_SERVICE_KEY": "secret-key"}, "SUPABASE_URL is not"),
        ({"ZORA_UNKNOWN_TYPE_SECONDS": "soon"}, "ZORA_UNKNOWN_TYPE_SECONDS is 'soon': set it to a number of seconds"),
        ({"ZORA_TENANT_ID": "seven"}, "ZORA_TENANT_ID is 'seven', which is not a UUID"),
        ({"DATABASE_URL": "mysql://secret-key@host/db"}, "must begin with postgresql://"),
    ],
)
def test_an_incomplete_environment_is_named(zora: Zora, variables: dict[str, str], message: str) -> None:
    said = zora("status", status=2, **variables)
    assert message in said
    assert "secret-key" not in said


def test_an_unreachable_server_is_one_clear_line(zora: Zora) -> None:
    said = zora("status", status=1, DATABASE_URL="postgresql://zora:secret@127.0.0.1:1/zora")
    assert "Connect call failed" in said
    assert "secret" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (("/postgres?", "/nowhere?"), 2, 'database "nowhere" does not exist; check the user, the'),
        (("/postgres?", "/postgres?colour=red&"), 2, 'unrecognized configuration parameter "colour"; check'),
        (("/postgres?", "/postgres?sslmode=perhaps&"), 2, "check the parameters of DATABASE_URL"),
        (("postgres@", "stranger@"), 2, "the database refuses the login"),
    ],
)
def test_a_wrong_url_is_one_clear_line(zora: Zora, change: tuple[str, str], status: int, message: str) -> None:
    said = zora("status", status=status, DATABASE_URL=zora("db", "url").strip().replace(*change, 1))
    assert message in said
    assert "Traceback" not in said


def test_an_unknown_page_fails_its_task_and_names_the_known_ones(zora: Zora) -> None:
    task_id = zora.json("create-task", "SAM", "review_climate_page", "x", "--payload", '{"page": "clmate"}')["id"]
    (run,) = zora.json("run-once", status=1)
    assert run["status"] == "failed"
    assert "unknown page 'clmate' (known: climate, dashboard, home)" in run["error"]
    assert zora.json("tasks", "show", task_id)["attempt"] == 1
    zora("tasks", "retry", task_id)
    assert zora("tasks", "priority", task_id, "7") == f"Task {task_id} has priority 7.\n"
    zora("tasks", "cancel", task_id, "--reason", "a typo")
    assert "a typo" in zora("tasks", "explain", task_id)


def test_the_schema_command_prints_a_script_that_psql_accepts_twice(zora: Zora, environment: dict[str, str]) -> None:
    script = zora("schema")
    url = zora("db", "url").strip()
    psql = EmbeddedServer._binaries() / "psql"
    for _ in range(2):
        subprocess.run(
            [psql, url, "--quiet", "--set=ON_ERROR_STOP=1"], input=script, text=True, check=True, capture_output=True
        )


def test_the_embedded_database_is_dumped_by_the_command_in_the_docs(zora: Zora, tmp_path: Path) -> None:
    docs = (Path(__file__).parents[2] / "docs" / "backup.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^\$ (.*zora db bin.*)$", docs, re.MULTILINE)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=tmp_path, env=zora.environment, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "zora.dump").read_bytes().startswith(b"PGDMP")


def test_doctor_finds_a_fresh_installation_in_order(zora: Zora) -> None:
    zora("journal", "seal")  # no worker seals it, and doctor reports entries unsealed for a minute
    checks = {check["name"]: check for check in zora.json("doctor")}
    assert {check["state"] for check in checks.values()} == {"ok"}
    assert {"versions", "connection", "schema", "clock", "oldest transaction", "dead rows", "stuck tasks"} <= set(
        checks
    )


def test_the_demo_completes_one_task_of_each_type_and_says_where_to_look(zora: Zora) -> None:
    said = zora(DEMO)
    assert "12 of 12 completed" in said
    rows = zora.json("--tenant", DEMO, "tasks", "list")
    assert sorted({row["task_type"] for row in rows}) == sorted(t["task_type"] for t in zora.json("task-types"))
    for row in rows:
        assert row["result"]["sources"], row["task_type"]
        assert "".join(row["result_summary"].split()) in "".join(said.split()), "however the terminal wraps it"
        assert str(Path(__file__).parents[2]) not in row["result_summary"], "it does not depend on where the clone lies"
    for command in [
        line.split("  ")[1].split()[3:] for line in said.splitlines() if line.startswith("  zora --tenant")
    ]:
        zora("--tenant", DEMO, *command)
    assert "heat pump" in zora("--tenant", DEMO, "memory", "search", "heat", "pump")
    proposed = len(zora.json("--tenant", DEMO, "suggestions", "list", "--status=proposed", "--limit=200"))
    assert f"{proposed} suggestions wait" in said
    listed = zora("--tenant", DEMO, "suggestions", "list", "--status=proposed")
    assert listed.endswith(f"\n20 of {proposed} (`--limit 100` shows all)\n")
    assert "of 12 (" in zora("--tenant", DEMO, "tasks", "list", "--limit=5")
    assert "of 12 (" not in zora("--tenant", DEMO, "tasks", "list")
    narrow = zora("--tenant", DEMO, "tasks", "list", COLUMNS="60")
    unset = Zora({name: value for name, value in zora.environment.items() if name != "COLUMNS"})
    lines = unset("--tenant", DEMO, "tasks", "list").splitlines()
    for row in rows:
        assert re.search(rf"^{row['id'][-8:]}  {row['agent_id']} +completed ", narrow, re.MULTILINE)
        (line,) = [line for line in lines if line.startswith(row["id"][-8:])]
        for value in (row["agent_id"], row["task_type"], row["status"], row["title"]):
            assert value in line
    suggestion = zora.json("--tenant", DEMO, "suggestions", "list")[0]
    assert "Evidence" in zora("--tenant", DEMO, "suggestions", "show", suggestion["id"][-8:])
    assert zora.json("--tenant", DEMO, "tasks", "prune", "--older-than-days", "1") == {"deleted": 0}


def test_a_task_reads_the_folder_in_which_a_person_created_it_and_no_other_task_does(
    zora: Zora, tmp_path: Path
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "app.py").write_text("import os\nos.system(input())\n")
    create = [sys.executable, "-m", "zora_core.cli", "create-task", "CONNOR", "analyze_codebase", "Look"]
    environment = {**zora.environment, "PYTHONPATH": str(Path(__file__).parents[2])}
    for target in (".", str(tmp_path)):
        subprocess.run(
            [*create, "--payload", json.dumps({"target": target})],
            cwd=tmp_path / "shop", env=environment, capture_output=True, timeout=60, check=True,
        )  # fmt: skip
    program = (
        "import asyncio, sys\nfrom zora_core.cli.common import load_settings\n"
        "from zora_core.database.connect import open_database\n"
        "async def main():\n"
        "    database = await open_database(load_settings())\n"
        "    task = {'agent_id': 'CONNOR', 'task_type': 'analyze_codebase', 'title': 'Not from here',\n"
        "            'payload': {'target': sys.argv[1]}}\n"
        "    await database.call('create_agent_tasks', tenant_id=load_settings().tenant_id, tasks=[task])\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "shop")], env=environment, timeout=60, check=True)
    here, parent, other = sorted(zora.json("run-once", status=1), key=lambda run: run["task"]["id"])
    assert here["status"] == "completed", here["error"]
    assert "1 file" in here["summary"]
    assert "outside the folders that this task may read" in parent["error"]
    assert "no folders are configured. Set ZORA_FILE_ROOTS" in other["error"]


def test_a_tenants_folders_are_set_shown_and_reset(zora: Zora, tmp_path: Path) -> None:
    assert "no folder" in zora("tenants", "roots")
    said = zora("tenants", "roots", str(tmp_path))
    assert str(tmp_path) in said
    assert zora.json("tenants", "roots") == {
        "tenant_id": "00000000-0000-0000-0000-000000000001", "roots": [str(tmp_path)], "source": "zora tenants roots",
    }  # fmt: skip
    assert "whole file system" in zora("tenants", "roots", "/", status=2)
    assert "ZORA_HOME" in zora("tenants", "roots", zora.environment["ZORA_HOME"], status=2)
    assert "is not a folder" in zora("tenants", "roots", str(tmp_path / "missing"), status=2)
    assert "only one of them" in zora("tenants", "roots", "--none", "--reset", status=2)
    assert zora.json("tenants", "roots", "--none")["roots"] == []
    assert zora.json("tenants", "roots", "--reset")["source"] == "ZORA_FILE_ROOTS"


def test_a_root_that_cannot_be_one_is_refused_in_one_line(zora: Zora) -> None:
    (said,) = zora("status", status=2, ZORA_FILE_ROOTS="/").strip().splitlines()
    assert said.startswith("error: ZORA_FILE_ROOTS names '/', which agents must not read: it is the whole file system.")


@pytest.mark.parametrize(
    "arguments",
    [
        ("create-task", "SAM", "review_climate_page", os.fsdecode(b"caf\xe9")),
        ("create-task", "SAM", "review_climate_page", "t", "--payload", '{"html": "\\u0000"}'),
        ("create-task", "SAM", "review_climate_page", "t", "--payload", '{"html": "\\ud800"}'),
        ("create-task", "SAM", "review_climate_page", "t", "--payload", "[" * 50_000),
        ("schedules", "create", "n", "sam", "t", "--cron=@daily", "--payload", '{"html": "\\ud800"}'),
        ("memory", "search", os.fsdecode(b"\xff")),
        ("tasks", "show", os.fsdecode(b"\xff")),
        ("suggestions", "reject", os.fsdecode(b"\xff"), "--reason", "x"),
        ("workflows", "run", "frontend-quality-round", "--input", 'page="\\ud800"'),
        ("workflows", "run", os.fsdecode(b"\xff")),
        ("ask", os.fsdecode(b"\xff")),
        ("--tenant", os.fsdecode(b"\xff"), "status"),
        (os.fsdecode(b"\xff"),),
    ],
)
def test_text_that_cannot_be_stored_is_refused_in_one_line(zora: Zora, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zora_core.cli", *arguments],
        env=zora.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (1, 2), done.stdout
    assert "Traceback" not in done.stderr
    *_, last = done.stderr.strip().splitlines()
    assert last.lower().startswith("error: ")
    assert any(word in last for word in ("UTF-8", "NUL", "half a character", "not JSON"))


def test_a_tenant_is_made_beside_the_default_one(zora: Zora) -> None:
    made = zora.json("tenants", "add", "Acme")
    assert made["created"]
    assert made["id"] != str(DEFAULT_TENANT_ID)
    assert zora.json("tenants", "add", "Acme") == {"id": made["id"], "created": False}
    said = zora("tenants", "add", "Beta Works")
    assert "Made the tenant Beta Works: " in said
    assert "`zora --tenant beta-works run-loop`" in said
    for slug in ("acme", "beta-works"):
        assert "No tasks match" in zora("--tenant", slug, "tasks", "list")


def test_a_tenant_that_was_made_without_a_name_is_given_one(zora: Zora) -> None:
    named = Zora({**zora.environment, "ZORA_TENANT_ID": "00000000-0000-0000-0000-0000000000c1"})
    assert "No tasks match" in named("tasks", "list")  # the embedded database makes it
    assert "Made the tenant Cockle" in named("tenants", "add", "Cockle")
    assert "already" in named("tenants", "add", "Conch")
    assert "No tasks match" in zora("--tenant", "cockle", "tasks", "list")
