"""`tasks show` leads from a suggestion to its findings, to their evidence, and to what was read."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import START
from zora_core.cli import render


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render.console, "width", 200)


def quote(text: str) -> dict[str, Any]:
    return {"kind": "quote", "source": "claims[0]", "text": text, "start": 0, "read": [0]}


def finding(number: int, *evidence: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"id{number}", "rule_id": f"rule.{number}", "title": f"Title {number}", "severity": "low",
        "confidence": 1.0, "evidence": list(evidence) or [quote(f"text {number}")],
    }  # fmt: skip


def suggestion(title: str, *findings: int) -> dict[str, Any]:
    return {"title": title, "findings": [f"id{number}" for number in findings], "evidence": [quote("own evidence")]}


def shown(findings: list[dict[str, Any]], suggestions: list[dict[str, Any]]) -> str:
    sources = [
        {"kind": kind, "ref": ref, "digest": digit * 64, "read_at": START.isoformat(), "count": 2, "unit": "bytes"}
        for kind, ref, digit in (("payload", "claims", "a"), ("rows", "memory_events", "b"))
    ]
    row = dict.fromkeys(
        ("title", "description", "waiting_for", "failure_kind", "progress", "progress_message", "result_summary")
    )
    facts = {
        "id": "0" * 36, "agent_id": "SAM", "task_type": "t", "status": "completed", "payload": {}, "priority": 0,
        "attempt": 1, "max_attempts": 3, "created_at": START, "started_at": START, "completed_at": START,
    }  # fmt: skip
    result = {"findings": findings, "suggestions": suggestions, "sources": sources, "result": {}}
    with render.console.capture() as capture:
        render.print_task({**row, **facts, "result": result}, "", [], [])
    return capture.get()


def test_each_step_of_the_chain_is_shown(wide: None) -> None:
    when = render.when(START)
    row_id = "01a2139c-6b48-7021-adb1-026f7ba92e21"
    said = {"kind": "quote", "source": f"memory_events/{row_id}#content", "text": "said", "start": 0, "read": [1]}
    rows = {"kind": "rows", "table": "memory_events", "ids": [row_id], "read": [1]}
    text = shown([finding(1), finding(2, rows, said)], [suggestion("Do it", 2), suggestion("On its own")])
    assert (
        f"""
  claims[0]: “text 1”  (payload claims, aaaaaaaa, {when})
    low      Title 1  rule.1  id1
  memory_events: 7ba92e21
  memory_events/7ba92e21#content: “said”  (rows, bbbbbbbb, {when})
    low      Title 2  rule.2  id2

Suggestions
  • Do it  known already
      low      Title 2  rule.2  id2
  • On its own  known already
      claims[0]: “own evidence”  (payload claims, aaaaaaaa, {when})
"""
        in text
    )
    assert f"  payload claims: 2 bytes  aaaaaaaa, {when}\n" in text


def test_findings_with_the_same_evidence_stand_under_it_once(wide: None) -> None:
    shared = quote("shared")
    assert shown([finding(1, shared), finding(2, shared)], []).count("“shared”") == 1


def test_a_long_result_is_cut_but_no_chain_is(wide: None) -> None:
    many = [finding(number) for number in range(render.MAX_FINDINGS + 20)]
    last = render.MAX_FINDINGS + 19
    text = shown(many, [suggestion("Do it", last, *range(9))])
    assert "… and 20 more: use --json" in text
    assert "… and 7 more" in text
    assert f"Title {last - 1}" not in text
    assert text.index("Do it") < text.index(f"Title {last}") < text.index(f"“text {last}”")


def test_a_result_stored_before_there_were_chains_is_shown(wide: None) -> None:
    old = {name: value for name, value in finding(1).items() if name != "id"}
    old["evidence"] = [{name: value for name, value in quote("old").items() if name != "read"}]
    before = {name: value for name, value in suggestion("Do it").items() if name != "findings"}
    text = shown([old], [before])
    assert "claims[0]: “old”\n    low      Title 1  rule.1" in text
    assert "• Do it" in text
