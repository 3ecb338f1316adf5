"""People decide on the command line: on what the demo proposes, on policies, and on when everything stops."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import termios
from typing import Any

import pytest

from tests.cli import test_cli
from tests.cli.test_cli import DEMO, Zora
from zora_core.cli.render_decisions import print_change

environment, zora = test_cli.environment, test_cli.zora


class Demo(Zora):
    """Acts for the demo's tenant."""

    def __call__(self, *arguments: str, status: int = 0, **environment: str) -> str:
        return super().__call__("--tenant", DEMO, *arguments, status=status, **environment)

    def proposed(self, suggestion_type: str) -> list[dict[str, Any]]:
        rows = self.json("suggestions", "list", "--limit=200", "--status=proposed")
        return [row for row in rows if row["suggestion_type"] == suggestion_type]

    def verified(self) -> str:
        self("journal", "seal")
        return self("journal", "verify")


@pytest.fixture(scope="module")
def ran(environment: dict[str, str]) -> dict[str, str]:
    assert "12 of 12 completed" in Zora(environment)(DEMO)
    return environment


@pytest.fixture
def demo(ran: dict[str, str]) -> Demo:
    return Demo(ran)


def test_in_the_demo_a_plan_becomes_tasks_a_mission_is_made_and_both_are_taken_back(demo: Demo) -> None:
    assert "are as they were sealed" in demo.verified()
    (plan,) = demo.proposed("create_workflow")
    mission = demo.proposed("create_climate_missions")[0]
    before = {task["id"] for task in demo.json("tasks", "list", "--limit=200")}

    assert "Applied" in demo("suggestions", "approve", plan["id"][-8:], "--yes")
    assert "Applied" in demo("suggestions", "approve", mission["id"][-8:], "--digest", mission["effect_digest"])
    made = [task for task in demo.json("tasks", "list", "--limit=200") if task["id"] not in before]
    assert sorted(t["title"] for t in made) == sorted(s["title"] for s in plan["suggested_value"]["steps"])
    assert {task["status"] for task in made} == {"pending"}
    title = mission["suggested_value"]["title"]
    result = demo.json("create-task", "ORACLE", "propose_new_climate_missions", "More")
    runs = demo.json("run-once", "--limit=20")
    assert {run["status"] for run in runs} == {"completed"}, "the plan's tasks run, too"
    assert title not in str(demo.json("tasks", "show", result["id"])["result"]["suggestions"]), "it exists"

    assert "Undone" in demo("suggestions", "undo", mission["id"][-8:], "--reason", "too early")
    assert "has changed since" in demo("suggestions", "undo", plan["id"][-8:], status=1), "its tasks have run"
    shown = demo("suggestions", "show", mission["id"][-8:])
    assert "undone" in shown
    assert "are as they were sealed" in demo.verified()
    kinds = [entry["event_type"] for entry in demo.json("journal", "--category=decision", "--limit=50")]
    assert kinds.count("agent_suggestion_applied") == 2
    assert kinds[0] == "agent_suggestion_undone"


def test_an_approval_shows_the_difference_and_asks(demo: Demo) -> None:
    merge = next(s for s in demo.proposed("merge_memories") if s["title"] == "Merge 3 nearly equal memories")
    assert "cannot ask for confirmation" in demo("suggestions", "approve", merge["id"][-8:], status=2)
    shown = demo("suggestions", "show", merge["id"][-8:])
    for part in ("= content:", "= tags:", '+ archived_at: "now"', "decide until", merge["effect_digest"], "Evidence"):
        assert part in shown
    for answer, status in (("n", "proposed"), ("y", "applied")):
        terminal, theirs = pty.openpty()
        command = [sys.executable, "-m", "zora_core.cli", "--tenant", DEMO, "suggestions", "approve"]
        with subprocess.Popen(
            [*command, merge["id"]], env=demo.environment, stdin=theirs, stdout=subprocess.PIPE, text=True
        ) as asked:
            os.close(theirs)
            os.write(terminal, f"{answer}\n".encode())
            assert asked.stdout
            said = asked.stdout.read()
        os.close(terminal)
        assert "= content:" in said
        assert f"Approve “{merge['title']}” (digest {merge['effect_digest'][:12]}…)?" in said
        assert demo.json("suggestions", "show", merge["id"])["status"] == status


def test_on_a_low_terminal_the_change_is_paged_with_colours_and_named_in_the_question(demo: Demo) -> None:
    if shutil.which("less") is None:
        pytest.skip("less is not installed")
    mission, *_ = demo.proposed("create_climate_missions")
    terminal, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (8, 80))
    # `less` reads keys from the controlling terminal.
    attach = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    command = [sys.executable, "-c", attach, "-m", "zora_core.cli", "--tenant", DEMO, "suggestions", "approve"]
    kept = {name: value for name, value in demo.environment.items() if name not in ("COLUMNS", "LESS", "PAGER")}
    with subprocess.Popen(
        [*command, mission["id"]], env={**kept, "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    ) as asked:  # fmt: skip
        os.close(theirs)
        said = ""

        def until(expected: str) -> None:
            nonlocal said
            while expected not in said:
                said += os.read(terminal, 4096).decode(errors="replace")

        until("\x1b[K")  # the prompt of less, after the first page
        os.write(terminal, b"q")
        until("[y/N]:")
        os.write(terminal, b"n\n")
        assert asked.wait(timeout=30) == 1
    os.close(terminal)
    assert "ESC[" not in said
    assert f"\x1b[1m{mission['title']}" in said
    assert "\x1b[?1049" not in said, "the change stays on the screen"
    assert f"“{mission['title']}”" in " ".join(said.split("\n")[-3:])
    assert mission["effect_digest"][:12] in said


def test_a_rejection_is_not_proposed_again_and_a_second_decision_is_refused(demo: Demo) -> None:
    archive = demo.proposed("archive_memories")[0]
    assert "Rejected" in demo("suggestions", "reject", archive["id"][-8:], "--reason", "we need them")
    said = demo("suggestions", "approve", archive["id"][-8:], "--yes", status=1)
    assert "is rejected already, decided by founder@localhost" in said
    demo("create-task", "EIVOR", "memory_cleanup", "Tidy up")
    demo("run-once")
    again = [s for s in demo.proposed("archive_memories") if s["target"] == archive["target"]]
    assert again == []
    assert "we need them" in demo("memory", "search", archive["title"])


def test_an_edited_value_is_applied(demo: Demo) -> None:
    mission = demo.proposed("create_climate_missions")[-1]
    value = '{"title": "Something smaller", "category": "energy"}'
    assert "value of create_climate_missions is wrong" in demo(
        "suggestions", "approve", mission["id"], "--yes", "--value", '{"title": ""}', status=1
    )
    row = demo.json("suggestions", "approve", mission["id"], "--yes", "--value", value)
    assert (row["status"], row["edited_value"]["title"]) == ("applied", "Something smaller")
    assert '+ title: "Something smaller"' in demo("suggestions", "show", mission["id"])


def test_what_is_approved_is_written_out_whole(demo: Demo) -> None:
    note = "word " * 400
    payload = json.dumps({"goal": note, "target_agents": ["SAM"]})
    demo("policies", "set", "plan_workflow", "--ask-first")
    made = demo.json("create-task", "LUMINA", "plan_workflow", "Plan a lot", "--payload", payload)
    (asked,) = [row for row in demo.proposed("run_task") if row["task_id"] == made["id"]]
    assert f'"goal": "{note}"' in demo("suggestions", "show", asked["id"])
    said = demo("suggestions", "approve", asked["id"], "--yes")
    assert f'"goal": "{note}"' in said
    assert '+ title: "Plan a lot"' in said
    demo("policies", "remove", "plan_workflow")
    demo("tasks", "cancel", made["id"])

    for merge in demo.proposed("merge_memories"):
        shown = demo("suggestions", "show", merge["id"])
        for change in merge["effect"]["changes"]:
            assert str(change["key"]) in shown
            assert json.dumps(change["before"]["content"], ensure_ascii=False) in shown


def test_words_of_look_alike_letters_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    suggestion = {"title": "t", "body": None, "effect": None, "current_value": None, "suggestion_type": "advice"}
    fake = "\u0440\u0430\u0443\u0440\u0430\u04cf"
    value = {"send to": "p\u0430ypal", "or": fake, "and": "Привет, world", "title": "Рост цен"}
    print_change({**suggestion, "suggested_value": value}, [])
    said = capsys.readouterr().out
    assert "“p\u0430ypal” has letters of several scripts: Cyrillic, Latin" in said
    assert said.count("letters of several scripts") == 1
    assert f"“{fake}” has only Cyrillic letters, which look like “paypal”" in said
    assert said.count("look like") == 1


def test_a_policy_that_applies_is_told_where_the_summary_is(demo: Demo) -> None:
    demo("policies", "set", "memory_cleanup", "--apply-up-to", "low")
    made = demo.json("create-task", "EIVOR", "memory_cleanup", "Tidy up once more")
    demo("run-once")
    shown = demo("tasks", "show", made["id"])
    assert "until a person approves" not in shown
    assert "a person decides" not in shown
    demo("policies", "remove", "memory_cleanup")


def test_a_table_of_ones_own_is_registered(demo: Demo) -> None:
    assert "No tables of your own" in demo("tables", "list")
    said = demo("tables", "register", "shop_products", "--writable", "price", status=1)
    assert "not a table of this database" in said
    assert "ZORA's own tables" in demo("tables", "register", "users", "--writable", "role", status=1)
    assert "not registered" in demo("tables", "remove", "shop_products", status=1)


def test_only_a_founder_or_a_brand_admin_decides(demo: Demo) -> None:
    advice = demo.proposed("advice")[0]
    demo("keys", "create", "theirs", "--user", "m@example.org", "--role", "member")
    demo("keys", "create", "hers", "--user", "b@example.org", "--role", "brand_admin")
    assert "not by a member" in demo("suggestions", "approve", advice["id"], "--yes", "--as", "m@example.org", status=1)
    assert "no user nobody@example.org" in demo(
        "suggestions", "approve", advice["id"], "--yes", "--as", "nobody@example.org", status=1
    )
    row = demo.json("suggestions", "approve", advice["id"], "--yes", "--as", "B@example.org")
    assert (row["status"], row["decided_as"]) == ("approved", "b@example.org")


def test_a_policy_asks_before_a_task_runs(demo: Demo) -> None:
    assert "No policies" in demo("policies", "list")
    assert "unknown task type 'summarise_recent_events'" in demo(
        "policies", "set", "summarise_recent_events", "--ask-first", status=1
    )
    assert "after approval" in demo("policies", "set", "summarize_recent_events", "--ask-first")
    made = demo.json("create-task", "EIVOR", "summarize_recent_events", "This week")
    assert "No task" in demo("run-once")
    assert "Waits for a person to let it run" in demo("tasks", "explain", made["id"])
    (asked,) = demo.proposed("run_task")
    assert "Applied" in demo("suggestions", "approve", asked["id"], "--yes")
    said = demo("create-task", "EIVOR", "summarize_recent_events", "Next week")
    approve, other = demo.proposed("run_task")[0]["id"][-8:], said.split()[2].rstrip(":")
    assert f"It waits for approval: `zora --tenant demo suggestions approve {approve}`." in said
    demo("tasks", "cancel", other)
    said = demo("create-task", "EIVOR", "memory_cleanup", "Later", "--run-at=2099-01-01T09:00:00+00:00")
    assert "`zora --tenant demo run-loop` runs it at 2099-01-01" in said
    demo("tasks", "cancel", said.split()[2].rstrip(":"))
    (run,) = demo.json("run-once")
    assert (run["task"]["id"], run["status"]) == (made["id"], "completed")
    demo("policies", "remove", "summarize_recent_events")
    assert "no policy for" in demo("policies", "remove", "summarize_recent_events", status=1)


def test_a_suggested_command_names_the_tenant_and_every_argument(demo: Demo) -> None:
    archive = demo.proposed("archive_memories")[-1]
    shown = demo("suggestions", "show", archive["id"])
    applied = demo("suggestions", "approve", archive["id"], "--yes")
    demo("schedules", "create", "Tidy up", "eivor", "memory_cleanup", "--cron=@daily")
    paused = demo("pause", "sam") + demo("status") + demo("schedules", "pause", "Tidy up")
    suggested = [
        command
        for said in (shown, applied, paused, demo("run-once"))
        for command in re.findall(r"`(zora [^`]*)`", " ".join(said.split()))
    ]
    assert all(command.startswith(f"zora --tenant {DEMO} ") for command in suggested), suggested
    undo = f"zora --tenant {DEMO} suggestions undo {archive['id'][-8:]}"
    assert {undo, "zora --tenant demo resume SAM", "zora --tenant demo schedules resume 'Tidy up'"} <= set(suggested)
    for command in {undo, *(one for one in suggested if " resume " in one)}:
        demo(*shlex.split(command)[3:])
    demo("schedules", "delete", "Tidy up")


def test_a_pause_stops_everything_until_it_is_lifted(demo: Demo) -> None:
    demo("pause", "eivor", "--reason", "looks odd")
    made = demo.json("create-task", "EIVOR", "summarize_recent_events", "This week")
    assert "No task" in demo("run-once")
    said = demo("status")
    assert "EIVOR is paused since" in said
    assert "looks odd" in said
    assert "EIVOR goes on." in demo("resume", "EIVOR")
    (run,) = demo.json("run-once")
    assert run["task"]["id"] == made["id"]
    assert "not paused" in demo("resume", status=1)
