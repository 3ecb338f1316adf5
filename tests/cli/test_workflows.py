"""Workflows on the command line, and a sentence that becomes one."""

from __future__ import annotations

from pathlib import Path

from tests.cli import test_cli
from tests.cli.test_cli import Zora

environment, zora = test_cli.environment, test_cli.zora

OWN = """
key: tidy-up
name: Tidy up
inputs: {days: 30}
steps:
  - {key: memory, agent_id: EIVOR, task_type: memory_cleanup, title: "Older than {days} days",
     payload: {older_than_days: {$input: days}}}
  - {key: summary, agent_id: EIVOR, task_type: summarize_recent_events, title: Sum up, depends_on: [memory],
     ask_first: true}
"""


def test_a_workflow_of_ones_own_is_saved_drawn_run_and_decided(zora: Zora, tmp_path: Path) -> None:
    file = tmp_path / "tidy.yaml"
    file.write_text(OWN.replace("memory_cleanup", "memory_clean"))
    assert "the step 'memory': unknown task type 'memory_clean'" in zora("workflows", "save", str(file), status=1)
    file.write_text(OWN)
    assert "Saved tidy-up" in zora("workflows", "save", str(file))
    listed = zora("workflows", "list")
    for part in ("tidy-up", "yours", "weekly-climate-review", "shipped"):
        assert part in listed
    drawn = zora("workflows", "show", "tidy-up")
    for part in ("inputs: days = 30", "┬─ memory", "└─ summary", "after memory", "asks a person first"):
        assert part in drawn

    assert "has no input 'day'" in zora("workflows", "run", "tidy-up", "--input", "day=3", status=1)
    run = zora.json("workflows", "run", "tidy-up", "--input", "days=90")
    zora("run-once")
    status = zora("workflows", "status", run["id"][-8:])
    for part in ("waiting", "1 of 2 steps", "days = 90", "pending/approval", "A person is asked"):
        assert part in status
    (asked,) = [s for s in zora.json("suggestions", "list", "--status=proposed") if s["suggestion_type"] == "run_task"]
    zora("suggestions", "approve", asked["id"], "--yes")
    zora("run-once")
    assert zora.json("workflows", "status", run["id"])["status"] == "completed"
    (row,) = zora.json("workflows", "runs", "--workflow", "tidy-up")
    assert (row["id"], row["ended"]) == (run["id"], 2)
    assert "every task of run" in zora("workflows", "cancel", run["id"], status=1)
    assert "no workflow run ffffffff" in zora("workflows", "status", "ffffffff", status=1)


def test_a_sentence_becomes_a_plan_and_once_approved_a_run(zora: Zora) -> None:
    sentence = ("ask", "Improve our climate page and check its claims")
    before = zora.json("tasks", "list")
    assert "cannot ask for confirmation without a terminal: pass --yes" in zora(*sentence, status=2)
    assert zora.json("tasks", "list") == before
    waits = zora.json(*sentence)
    assert waits["run"] is None
    assert waits["plan"]["status"] == "proposed"
    assert zora.json("workflows", "runs", "--workflow", waits["plan"]["target"]["key"]) == [], "nothing before approval"
    said = zora(*sentence, "--yes")
    assert "Started." in said
    (run,) = zora.json("workflows", "runs", "--workflow", waits["plan"]["target"]["key"])
    zora("run-once", "--limit=20")
    came = zora.json("workflows", "status", run["id"])
    assert came["status"] == "completed"
    assert {step["agent_id"] for step in came["steps"]} >= {"SAM"}
    assert "there is no plan" in zora("ask", "Make me a sandwich", "--yes")
