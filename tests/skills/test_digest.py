"""Counts against before, templates, gaps and the sentences that matter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.models import JournalEntry, Rows
from zora_core.skills.memory.digest import (
    as_result,
    compare_counts,
    digest,
    find_templates,
    findings,
    is_error,
    longest_gap,
    mask,
)
from zora_core.skills.text.summaries import choose

UNTIL = datetime(2026, 3, 2, 9, tzinfo=UTC)
SINCE = UNTIL - timedelta(days=7)


def entry(title: str, *, hours: float = 1, category: str = "system_event", **fields: Any) -> JournalEntry:
    event_type = fields.pop("event_type", "event")
    return JournalEntry(
        id=uuid4(),
        category=category,
        event_type=event_type,
        title=title,
        created_at=UNTIL - timedelta(hours=hours),
        **fields,
    )


def failure(number: int, error: str, hours: float = 2) -> JournalEntry:
    return entry(f"Import {number} failed", hours=hours, event_type="import_failed", details={"error": error})


def test_counts_add_up_to_the_number_of_events() -> None:
    entries = [entry(f"Backup took {n} s", hours=n + 1) for n in range(30)] + [failure(n, "Timeout") for n in range(7)]
    result = as_result(digest(entries, entries[:5], [], since=SINCE, until=UNTIL))
    assert result["events"] == 37
    assert sum(c["count"] for c in result["by_category"].values()) == 37
    assert sum(c["count"] for c in result["by_event_type"].values()) == 37
    assert sum(t["count"] for t in result["templates"]) + result["events_in_templates_left_out"] == 37


def test_a_surge_is_told_from_noise() -> None:
    assert compare_counts(40, 10).changed
    assert not compare_counts(11, 10).changed
    surge = compare_counts(40, 10)
    assert surge.ratio == 4
    assert surge.high is not None
    assert surge.low < 4 < surge.high
    assert compare_counts(5, 0).ratio is None
    assert compare_counts(0, 0).p_value == 1.0


def test_the_exact_test_matches_the_binomial_by_hand() -> None:
    assert compare_counts(1, 5).p_value == pytest.approx(2 * (1 + 6) / 2**6, abs=1e-6)


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_any_two_counts_compare(count: int, previous: int) -> None:
    change = compare_counts(count, previous)
    assert 0 <= change.p_value <= 1
    assert change.high is None or change.low <= (change.ratio or 0) + 1e-3 <= change.high + 2e-3


def test_masking_hides_ids_and_numbers_only() -> None:
    assert (
        mask("Task 3f2504e0-4f89-11d3-9a0c-0305e82c3301 took 4.5 s at 10.0.0.7:80")
        == "Task <id> took <n> s at <address>"
    )


def test_every_error_has_a_template_of_its_own() -> None:
    errors = [failure(1, "TimeoutError after 20 s"), failure(2, "TimeoutError after 31 s"), failure(3, "disk full")]
    patterns = [t for t in find_templates([*errors, entry("Backup took 3 s")]) if t.is_error]
    assert sorted(len(t.entries) for t in patterns) == [1, 2]


def test_templates_with_another_word_in_one_place_merge_unless_they_are_errors() -> None:
    (template,) = find_templates(
        [entry("Import of the feed berlin is done"), entry("Import of the feed kassel is done")]
    )
    assert template.pattern == "Import of the feed <*> is done"


def test_only_errors_unknown_to_the_window_before_are_new() -> None:
    old, new = failure(1, "disk full"), failure(2, "TimeoutError")
    summary = digest([old, new], [failure(9, "disk full", hours=200)], [], since=SINCE, until=UNTIL)
    assert [t.entries[0].id for t in summary.new_errors] == [new.id]
    assert findings(summary)[0].rule_id == "digest.new-error"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"title": "Shelves empty", "category": "incident", "event_type": "incident_opened"}, True),
        ({"title": "Shelves full", "category": "incident", "event_type": "incident_closed"}, False),
        ({"title": "Import of feed 8", "event_type": "import_failed"}, True),
        ({"title": "Import of feed 8", "details": {"error": "disk full"}}, True),
        ({"title": "Import of feed 8", "details": {"error": {"type": "OSError", "message": "disk full"}}}, True),
        ({"title": "Import of feed 8", "details": {"severity": "ERROR"}}, True),
        ({"title": "Import of feed 8", "details": {"status": "failed"}}, True),
        ({"title": "GET /mugs", "details": {"status": 503}}, True),
        ({"title": "GET /mugs", "details": {"status": 404}}, False),
        ({"title": "Run", "category": "agent_action", "event_type": "agent_task_retried", "body": "late"}, True),
        ({"title": "Run", "event_type": "agent_task_retried", "details": {"by_user_id": "u"}}, False),
        ({"title": "Run", "event_type": "agent_task_rescued"}, True),
        ({"title": "Run", "event_type": "agent_task_cancelled", "details": {"status": "failed"}}, False),
        ({"title": "Run", "event_type": "agent_task_completed", "details": {"status": "completed"}}, False),
        ({"title": "Import finished without errors"}, False),
        ({"title": "Import finished: 0 errors, 0 failed"}, False),
        ({"title": "The error budget is fine"}, False),
        ({"title": "Timeouts are shorter now", "body": "A refused connection is tried again after a crash."}, False),
        ({"title": "Error page redesigned", "category": "agent_action"}, False),
        ({"title": "Import of feed 8", "details": {"error": None, "errors": 0}}, False),
        ({"title": "Import of feed 8", "details": {"error": "none"}}, False),
        ({"title": "Import failed, then worked", "details": {"status": "completed", "error": "late"}}, False),
        ({"title": "Import failed", "details": {"level": "info"}}, False),
        *(
            ({"title": "Import of feed 8", "details": details}, True)
            for details in (
                {"ok": False},
                {"success": False},
                {"success": "false"},
                {"exit_code": 2},
                {"returncode": -9},
                {"level": 50},
                {"level": "ERROR"},
                {"levelname": "CRITICAL"},
                {"type": "error"},
                {"error": True},
                {"status": "Timed out"},
                {"status_code": 503},
                {"outcome": "failure"},
                {"conclusion": "failure"},
                {"errors": ["no price"]},
                {"severity": "info", "status": "failed"},
                {"level": 30, "ok": False},
            )
        ),
        *(
            ({"title": "Import failed", "event_type": "import_failed", "details": details}, False)
            for details in (
                {"ok": True},
                {"success": True},
                {"exit_code": 0},
                {"level": 30},
                {"conclusion": "success"},
                {"status": "succeeded", "level": "error"},
                {"ok": True, "exit_code": 1},
            )
        ),
        *(
            ({"title": "Import", "event_type": kind}, True)
            for kind in ("import.failed", "ImportFailed", "job-lost", "error")
        ),
        ({"title": "Import of feed 8", "details": {"ok": None, "exit_code": None, "errors": [], "level": 7}}, False),
        ({"title": "Import of feed 8", "details": {"status": "open", "type": "csv", "error": False}}, False),
        ({"title": "A customer reports a failed payment", "category": "user_feedback"}, False),
    ],
)
def test_an_error_is_told_by_status_severity_and_type_and_not_by_a_word(fields: dict[str, Any], error: bool) -> None:
    assert is_error(entry(**fields)) is error


def test_errors_of_several_lines_have_templates_that_name_their_exception() -> None:
    def validation(model: str, field: str) -> str:
        return (
            'Traceback (most recent call last):\n  File "a.py", line 1\npydantic.ValidationError: 1 validation error'
            f" for {model}\n{field}\n  Field required [type=missing]\n    For further information visit https://errors/2/v/missing"
        )

    errors = [failure(1, validation("A", "name")), failure(1, validation("B", "email"))]
    entries = [*errors, entry("Import 2", event_type="import_failed", body=validation("A", "name"))]
    found = [t for t in find_templates(entries) if t.is_error]
    assert len(found) == 3
    assert any("pydantic.ValidationError: <n> validation error for A · name" in t.pattern for t in found)
    assert any("pydantic.ValidationError: <n> validation error for B · email" in t.pattern for t in found)
    reported = findings(digest(entries, [], [], since=SINCE, until=UNTIL))
    named = [f for f in reported if f.rule_id == "digest.new-error"]
    assert all("ValidationError" in f.title for f in named)
    quotes = [q for f in named for q in f.evidence if q.kind == "quote" and q.source.endswith("#body")]
    assert [q.text for q in quotes] == ["pydantic.ValidationError: 1 validation error for A"]


def test_the_longest_gap_counts_the_edges_of_the_window() -> None:
    a, b = entry("a", hours=160), entry("b", hours=100)
    gap = longest_gap([b, a], SINCE, UNTIL)
    assert gap is not None
    assert (gap.after, gap.before, gap.hours) == (b, None, 100)
    assert longest_gap([], SINCE, UNTIL) is None


def test_every_line_cites_rows_and_equal_sentences_are_said_once() -> None:
    body = "The stock service answered too slowly and held every connection of the page."
    entries = [entry("Outage", category="incident", body=body, hours=n) for n in (3, 4, 5)]
    entries.append(entry("Decision", category="decision", body="Short timeouts from now on for every feed."))
    lines = digest(entries, [], [], since=SINCE, until=UNTIL).highlights
    (first,) = [line for line in lines if line.text == body]
    assert set(first.ids) == {str(e.id) for e in entries[:3]}
    assert all(
        any(isinstance(e, Rows) and e.ids for e in f.evidence)
        for f in findings(digest(entries, entries, [], since=SINCE, until=UNTIL))
    )


def test_of_a_trace_only_the_telling_line_is_among_the_highlights() -> None:
    frames = "".join(f'  File "/app/shop{n}.py", line {n}, in read\n    return stock(n) or n\n' for n in range(4))
    body = f"Traceback (most recent call last):\n{frames}OSError: the disk of the shop is full"
    lines = digest([entry("Outage", category="incident", body=body)], [], [], since=SINCE, until=UNTIL).highlights
    assert [(line.text, line.start) for line in lines] == [("OSError: the disk of the shop is full", body.index("OSE"))]


def test_no_events_make_an_empty_digest() -> None:
    summary = digest([], [], [], since=SINCE, until=UNTIL)
    assert findings(summary) == []
    assert as_result(summary)["events"] == 0


def test_the_summary_prefers_what_many_sentences_say() -> None:
    texts = [
        "The battery lasts for days without a charge.",
        "Battery life is great and lasts for days.",
        "The battery lasts very long, for several days.",
        "My cousin painted the fence green.",
    ]
    assert choose(texts, 1)[0].index != 3
    assert choose([], 3) == []
    assert choose(["", "   "], 2) == []
