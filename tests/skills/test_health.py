from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.models import JournalEntry, Quote, Rows, Severity
from zora_core.skills.systems import health, run_history
from zora_core.skills.systems.health import Check, Probe

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
QUEUE = {
    "pending": 3,
    "ready": 2,
    "in_progress": 1,
    "failed_last_hour": 0,
    "completed_last_hour": 40,
    "oldest_ready_seconds": 4.0,
    "expired_leases": 0,
}
DATABASE: dict[str, Any] = {
    "sees_sessions": True,
    "connections": {"used": 5, "max": 100},
    "longest_transaction_seconds": 0.2,
    "blocked_locks": 0,
    "dead_tuples": [{"table": "agent_tasks", "live": 5000, "dead": 200}],
    "transaction_id_age": 1200,
    "round_trip_ms": 1.5,
}


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_a_healthy_queue_and_database_are_green_and_make_no_finding() -> None:
    checks = [*health.judge_queue(QUEUE), *health.judge_database(DATABASE), health.judge_disk("/", 100, 60)]
    assert {check.status for check in checks} == {"green"}
    assert health.findings(checks) == []


FAULTS = [
    ({"expired_leases": 2}, "queue-expired-leases", "amber"),
    ({"oldest_ready_seconds": 7200.0}, "queue-age", "red"),
    ({"ready": 400}, "queue-drain", "amber"),
    ({"failed_last_hour": 40}, "failure-rate", "red"),
    ({"ready": 5, "in_progress": 1, "completed_last_hour": 0, "oldest_ready_seconds": 900.0}, "queue-stalled", "red"),
]


@pytest.mark.parametrize(("fault", "name", "status"), FAULTS, ids=[fault[1] for fault in FAULTS])
def test_every_fault_of_the_queue_is_named(fault: dict[str, Any], name: str, status: str) -> None:
    check = by_name(health.judge_queue(QUEUE | fault, own_tasks=1))[name]
    assert check.status == status
    assert check.next_step


DATABASE_FAULTS = [
    ({"connections": {"used": 96, "max": 100}}, "database-connections", "red"),
    ({"longest_transaction_seconds": 3600}, "database-long-transaction", "red"),
    ({"blocked_locks": 1}, "database-blocked-locks", "amber"),
    ({"dead_tuples": [{"table": "agent_tasks", "live": 1000, "dead": 9000}]}, "database-dead-rows", "red"),
    ({"transaction_id_age": 1_700_000_000}, "database-wraparound", "red"),
    ({"round_trip_ms": 80}, "database-round-trip", "amber"),
]


@pytest.mark.parametrize(("fault", "name", "status"), DATABASE_FAULTS, ids=[fault[1] for fault in DATABASE_FAULTS])
def test_every_fault_of_the_database_is_named(fault: dict[str, Any], name: str, status: str) -> None:
    checks = health.judge_database(DATABASE | fault)
    assert by_name(checks)[name].status == status
    (finding,) = health.findings(checks)
    assert finding.rule_id == f"health.{name}"
    assert finding.evidence[0].kind == "metric"


def test_few_dead_rows_in_a_small_table_do_not_matter() -> None:
    checks = health.judge_database(DATABASE | {"dead_tuples": [{"table": "small", "live": 3, "dead": 40}]})
    assert by_name(checks)["database-dead-rows"].status == "green"


def test_an_endpoint_that_does_not_answer_is_critical_and_says_why() -> None:
    checks = health.judge_endpoint("https://x.example/", [Probe(0, error="connection refused")] * 2, None, NOW)
    (finding,) = health.findings(checks)
    assert finding.severity is Severity.CRITICAL
    assert "answered 0 of 2 probes; connection refused" in finding.detail


def test_server_errors_are_named_and_latency_counts_only_answers() -> None:
    probes = [Probe(100, 200), Probe(120, 200), Probe(5000, 503)]
    checks = by_name(health.judge_endpoint("https://x.example/", probes, None, NOW))
    assert "HTTP 503" in checks["endpoint-available"].reason
    assert checks["endpoint-latency"].value == 120
    assert "endpoint-tls" not in checks


@pytest.mark.parametrize(("days", "status"), [(60, "green"), (14, "amber"), (3, "red"), (-2, "red")])
def test_a_certificate_is_judged_by_the_days_it_has_left(days: int, status: str) -> None:
    checks = health.judge_endpoint("https://x.example/", [Probe(10, 200)], NOW + timedelta(days=days), NOW)
    assert by_name(checks)["endpoint-tls"].status == status


def test_a_full_disk_is_red() -> None:
    check = health.judge_disk("/data", 1_000_000, 10_000)
    assert (check.status, check.value) == ("red", 0.01)


def test_every_check_has_thresholds_in_order_a_next_step_and_a_source() -> None:
    for name, rule in health.settings()["checks"].items():
        ordered = rule["red"] <= rule["amber"] if rule["worse"] == "below" else rule["red"] >= rule["amber"]
        assert ordered, name
        assert rule["next_step"], name
        assert rule["source"], name


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_lower_bound_lies_below_the_share(failed: int, more: int) -> None:
    runs = failed + more
    bound = health.wilson_lower(failed, runs)
    assert 0 <= bound <= (failed / runs if runs else 0)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_one_of_the_values(values: list[float], share: float) -> None:
    assert health.percentile(values, share) in values


def entry(at: datetime, *, failed: bool = False, seconds: float = 1, body: str = "", event: str = "") -> JournalEntry:
    status = "failed" if failed else "completed"
    return JournalEntry(
        id=uuid4(),
        category="agent_action",
        event_type=event or f"agent_task_{status}",
        title="",
        body=body,
        details={"agent_id": "SAM", "task_type": "review", "status": status, "duration_ms": seconds * 1000},
        created_at=at,
        task_id=UUID(int=1),
    )


def test_a_task_type_that_fails_is_named_with_its_commonest_error_and_rows() -> None:
    entries = [entry(NOW - timedelta(hours=1), failed=True, body="no such page") for _ in range(6)]
    entries.append(entry(NOW - timedelta(hours=2), failed=True, body="timeout"))
    (check,) = run_history.judge_types(run_history.read_runs(entries), NOW)
    assert (check.subject, check.status) == ("SAM review", "red")
    quotes = [e for e in check.evidence if isinstance(e, Quote)]
    rows = [e for e in check.evidence if isinstance(e, Rows)]
    assert quotes[0].text == "no such page"
    assert len(rows[0].ids) == 7


def test_a_long_error_is_quoted_by_the_line_that_tells_what_went_wrong() -> None:
    frames = "".join(f'  File "shop{n}.py", line {n}, in read\n' for n in range(20))
    body = f"Traceback (most recent call last):\n{frames}OSError: disk full"
    entries = [entry(NOW - timedelta(hours=1), failed=True, body=body) for _ in range(6)]
    (check,) = run_history.judge_types(run_history.read_runs(entries), NOW)
    (quote,) = [e for e in check.evidence if isinstance(e, Quote)]
    assert (quote.text, quote.start) == ("OSError: disk full", body.index("OSError"))


def test_what_a_person_puts_back_is_no_failed_run() -> None:
    again = entry(NOW, failed=True, event="agent_task_retried")
    again.details["by_user_id"] = None
    assert run_history.read_runs([again]) == []
    assert len(run_history.read_runs([entry(NOW, failed=True, event="agent_task_retried")])) == 1


def test_old_runs_cancelled_runs_and_single_failures_do_not_accuse() -> None:
    old = [entry(NOW - timedelta(days=3), failed=True) for _ in range(9)]
    cancelled = [entry(NOW, failed=True, event="agent_task_cancelled") for _ in range(9)]
    runs = run_history.read_runs([*old, *cancelled, entry(NOW, failed=True)])
    assert len(runs) == 10
    assert run_history.judge_types(runs, NOW) == []


def day_and_a_half(failures_in_last_hour: int, seconds_in_last_hour: float = 1) -> list[JournalEntry]:
    entries = [entry(NOW - timedelta(hours=h, minutes=m)) for h in range(2, 40) for m in (5, 25, 45)]
    entries += [entry(NOW - timedelta(minutes=m), seconds=seconds_in_last_hour) for m in (5, 25, 45)]
    return entries + [entry(NOW - timedelta(minutes=10), failed=True) for _ in range(failures_in_last_hour)]


def test_an_hour_full_of_failures_stands_out_and_ordinary_hours_do_not() -> None:
    def rules(entries: list[JournalEntry]) -> list[str]:
        hours = run_history.hourly(run_history.read_runs(entries), NOW)
        return [finding.rule_id for finding in run_history.unusual_hours(hours, NOW)]

    assert rules(day_and_a_half(0)) == []
    assert "health.history.failures" in rules(day_and_a_half(12))
    assert rules(day_and_a_half(0, seconds_in_last_hour=90)) == ["health.history.seconds"]


def test_an_empty_journal_has_no_hours() -> None:
    assert run_history.read_runs([]) == []
    assert run_history.hourly([], NOW) == []
    assert run_history.unusual_hours([], NOW) == []


def test_of_red_checks_the_critical_one_comes_first_whatever_its_name() -> None:
    disk = health.judge_disk("/", 100, 1)
    (endpoint,) = health.judge_endpoint("https://x.example/", [Probe(0, error="refused")] * 2, None, NOW)
    assert [disk.status, endpoint.status] == ["red", "red"]
    late = health.judge("database-long-transaction", "database", 100, "late", source="database_health")
    assert sorted([late, disk, endpoint], key=health.worst_first) == [endpoint, disk, late]


def test_one_task_is_and_two_tasks_are() -> None:
    queue = {
        "ready": 1,
        "in_progress": 0,
        "completed_last_hour": 1,
        "failed_last_hour": 0,
        "oldest_ready_seconds": 4,
        "expired_leases": 1,
    }
    reasons = {check.name: check.reason for check in health.judge_queue(queue)}
    assert reasons["queue-age"] == "1 task is ready, the oldest for 4 s"
    assert reasons["queue-expired-leases"].startswith("1 running task has an expired lease")
    assert reasons["failure-rate"] == "0 of 1 run failed in the last hour"
    assert reasons["queue-drain"].startswith("1 ready task at 1 ended")
