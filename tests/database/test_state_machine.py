"""Hypothesis drives the queue against a model and compares every task, journal entry and memory after every step.

The model is what ARCHITECTURE's invariants say, written a second time in plain Python: no task is lost, an outcome is
recorded once with one journal entry and one memory, nobody without the lease writes, claims are in order.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.conftest import START, Server

LEASE, MAX_LOST, WORKERS = 30, 3, ("w1", "w2", "w3")
OUTCOMES = ("completed", "failed", "error", "snoozed", "released")


@dataclass
class ModelTask:
    id: UUID
    priority: int
    created_at: datetime
    max_attempts: int
    status: str = "pending"
    waiting_for: str | None = None
    run_at: datetime | None = None
    attempt: int = 0
    lost_leases: int = 0
    failure_kind: str | None = None
    token: UUID | None = None
    lease_until: datetime | None = None
    cancel: bool = False
    events: Counter[str] = field(default_factory=Counter)
    memories: int = 0

    @property
    def order(self) -> tuple[int, datetime, int]:
        return (-self.priority, self.created_at, self.id.int)

    def end_run(self, verdict: str, kind: str | None) -> None:
        """A run is over; what it leaves behind."""
        self.lease_until = None
        if verdict == "failed":
            self.status, self.failure_kind = "failed", "cancelled" if self.cancel else kind
            self.events["agent_task_cancelled" if self.cancel else "agent_task_failed"] += 1
        elif verdict == "completed":
            self.status = "completed"
            self.events["agent_task_completed"] += 1
        else:
            self.status = "pending"
            self.waiting_for = {"retry": "retry", "snoozed": "run_at"}.get(verdict)
            self.attempt -= verdict != "retry"
            event = {"retry": "agent_task_retried", "snoozed": "agent_task_snoozed", "rescued": "agent_task_rescued"}
            if verdict in event:
                self.events[event[verdict]] += 1
        self.memories += verdict != "released"


class Queue(RuleBasedStateMachine):
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.db = self.runner.run(asyncpg.connect(self.url))
        self.tenant = uuid4()
        self.now = START
        self.tasks: dict[UUID, ModelTask] = {}
        self.leases: list[tuple[UUID, UUID]] = []
        self.keys: dict[str, UUID] = {}
        self.fetch("insert into tenants (id, name, slug) values ($1, 't', $1::uuid::text)", self.tenant)
        self.fetch("update test_clock set now = $1", self.now)

    def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        return self.runner.run(self.db.fetch(statement, *arguments))

    def teardown(self) -> None:
        self.fetch("delete from agent_tasks")
        self.runner.run(self.db.close())
        self.runner.close()

    @rule(
        priority=st.integers(-1, 2),
        delay=st.sampled_from([0, 0, 0, 10, 60]),
        max_attempts=st.integers(1, 3),
        key=st.sampled_from([None, None, "a", "b"]),
    )
    def create(self, priority: int, delay: int, max_attempts: int, key: str | None) -> None:
        (row,) = self.fetch(
            "select * from create_agent_tasks($1, jsonb_build_array(jsonb_build_object('agent_id', 'sam', 'task_type', "
            "'t', 'title', 't', 'priority', $2::int, 'max_attempts', $3::int, 'run_at', $4::timestamptz, "
            "'idempotency_key', $5::text)))",
            self.tenant, priority, max_attempts, self.now + timedelta(seconds=delay), key,
        )  # fmt: skip
        assert row["created"] == (key is None or key not in self.keys)
        if not row["created"]:
            assert row["id"] == self.keys[key or ""]
            return
        if key:
            self.keys[key] = row["id"]
        task = ModelTask(row["id"], priority, self.now, max_attempts, waiting_for="run_at" if delay else None)
        task.run_at = self.now + timedelta(seconds=delay)
        task.events["agent_task_created"] += 1
        self.tasks[task.id] = task

    @rule(worker=st.sampled_from(WORKERS), limit=st.integers(1, 4))
    def claim(self, worker: str, limit: int) -> None:
        ready = sorted(
            (t for t in self.tasks.values() if t.status == "pending" and t.waiting_for is None), key=lambda t: t.order
        )
        rows = self.fetch("select * from claim_agent_tasks($1, $2, $3, $4)", self.tenant, worker, limit, LEASE)
        # A task that has lost a lease runs alone; what lies behind it waits for the next claim.
        suspect = next((place for place, task in enumerate(ready) if task.lost_leases), len(ready))
        expected = ready[: min(limit, suspect or 1)]
        assert [row["id"] for row in rows] == [task.id for task in expected]
        for row in rows:
            task = self.tasks[row["id"]]
            task.status, task.token = "in_progress", row["lease_token"]
            task.attempt += 1
            task.lease_until = self.now + timedelta(seconds=LEASE)
            assert row["attempt"] == task.attempt
            self.leases.append((task.id, row["lease_token"]))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.leases), min_size=1, max_size=4, unique=True))
        ids, tokens = [list(part) for part in zip(*chosen, strict=True)]
        rows = self.fetch("select * from heartbeat_agent_tasks($1, $2, $3)", ids, tokens, LEASE)
        expected = []
        for task_id, token in chosen:
            task = self.tasks[task_id]
            holds = task.status == "in_progress" and task.token == token
            expected.append((task_id, ("cancel" if task.cancel else "held") if holds else "lost"))
            if holds:
                task.lease_until = self.now + timedelta(seconds=LEASE)
        assert sorted((row["id"], row["state"]) for row in rows) == sorted(expected)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """Any lease that was ever given, fresh or stale, several at a time, with any outcome."""
        by_task = {
            lease[0]: lease for lease in data.draw(st.lists(st.sampled_from(self.leases), min_size=1, max_size=4))
        }
        chosen = list(by_task.values())
        outcomes = [data.draw(st.sampled_from(OUTCOMES)) for _ in chosen]
        kind = data.draw(st.sampled_from(["error", "timeout"]))
        ids, tokens = [list(part) for part in zip(*chosen, strict=True)]
        rows = self.fetch(
            "select * from settle_agent_tasks($1, $2, $3, $4, '{}', $5, $6, $7)",
            ids, tokens, outcomes, ["done"] * len(ids), ["boom"] * len(ids), [kind] * len(ids), [20.0] * len(ids),
        )  # fmt: skip
        returned = {row["id"]: row for row in rows}
        expected = set()
        for (task_id, token), outcome in zip(chosen, outcomes, strict=True):
            task = self.tasks[task_id]
            if task.token != token:
                continue
            expected.add(task_id)
            if task.status != "in_progress":
                continue
            match outcome:
                case "completed" | "failed":
                    verdict = outcome
                case _ if task.cancel:
                    verdict = "failed"
                case "error":
                    verdict = "retry" if task.attempt < task.max_attempts else "failed"
                case _:
                    verdict = outcome
            task.end_run(verdict, kind)
            if verdict in ("retry", "snoozed"):
                task.run_at = self.now + timedelta(seconds=20)
            assert returned[task_id]["status"] == task.status
        assert set(returned) == expected

    @rule(seconds=st.sampled_from([1, 15, 31, 100]))
    def pass_time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.fetch("update test_clock set now = $1", self.now)

    @rule(limit=st.integers(1, 5))
    def rescue(self, limit: int) -> None:
        expired = [
            t for t in self.tasks.values() if t.status == "in_progress" and t.lease_until and t.lease_until < self.now
        ]
        rows = self.fetch("select * from rescue_agent_tasks($1, $2)", limit, MAX_LOST)
        assert len(rows) == min(limit, len(expired))
        for row in rows:
            task = self.tasks[row["id"]]
            assert task in expired
            task.lost_leases += 1
            task.token = None
            task.end_run("failed" if task.lost_leases >= MAX_LOST or task.cancel else "rescued", "lost")

    @rule()
    def promote(self) -> None:
        due = [t for t in self.tasks.values() if t.waiting_for and t.run_at and t.run_at <= self.now]
        (row,) = self.fetch("select * from promote_agent_tasks()")
        assert row["promoted"] == len(due)
        for task in due:
            task.waiting_for = None

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task = self.tasks[data.draw(st.sampled_from(sorted(self.tasks)))]
        try:
            self.fetch("select * from cancel_agent_task($1, $2)", self.tenant, task.id)
        except asyncpg.PostgresError as error:
            assert error.sqlstate == "PT409"
            assert task.status in ("completed", "failed")
            return
        assert task.status in ("pending", "in_progress")
        task.cancel = True
        task.events["agent_task_cancelled"] += 1
        if task.status == "pending":
            task.status, task.waiting_for, task.failure_kind = "failed", None, "cancelled"

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        task = self.tasks[data.draw(st.sampled_from(sorted(self.tasks)))]
        try:
            self.fetch("select * from retry_agent_task($1, $2)", self.tenant, task.id)
        except asyncpg.PostgresError as error:
            assert error.sqlstate == "PT409"
            assert task.status != "failed"
            return
        assert task.status == "failed"
        task.status, task.failure_kind, task.attempt, task.lost_leases = "pending", None, 0, 0
        task.cancel, task.token, task.run_at = False, None, None
        task.events["agent_task_retried"] += 1

    @invariant()
    def database_and_model_agree(self) -> None:
        rows = self.fetch("select * from agent_tasks where tenant_id = $1", self.tenant)
        assert {row["id"] for row in rows} == set(self.tasks), "no task is lost"
        for row in rows:
            task = self.tasks[row["id"]]
            assert (
                row["status"], row["waiting_for"], row["attempt"], row["lost_leases"], row["failure_kind"],
                row["lease_expires_at"], row["cancel_requested_at"] is not None,
            ) == (
                task.status, task.waiting_for, task.attempt, task.lost_leases, task.failure_kind,
                task.lease_until, task.cancel,
            )  # fmt: skip
            assert (row["completed_at"] is not None) == (task.status in ("completed", "failed"))
        written = Counter(
            {
                (row["task_id"], row["event_type"]): row["n"]
                for row in self.fetch(
                    "select task_id, event_type, count(*) as n from journal_entries where tenant_id = $1 group by 1, 2",
                    self.tenant,
                )
            }
        )
        assert written == Counter({(t.id, e): n for t in self.tasks.values() for e, n in t.events.items()})
        remembered = self.fetch(
            "select source_task_id, count(*) as n from memory_events where tenant_id = $1 group by 1", self.tenant
        )
        assert {r["source_task_id"]: r["n"] for r in remembered} == {
            t.id: t.memories for t in self.tasks.values() if t.memories
        }


def test_the_queue_behaves_like_its_model(database_url: str, server: Server) -> None:
    machine = type("QueueOnAServer", (Queue,), {"url": database_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
