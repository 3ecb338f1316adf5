"""Lists of tasks against a model in plain Python, read as the API reads them: by its role, within one tenant."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import START
from zora_core.database.postgres import API_ROLE
from zora_core.settings import DEFAULT_TENANT_ID

pytestmark = pytest.mark.both_transports

STRANGER = UUID(int=7)
LEAST, GREATEST = -(2**31), 2**31 - 1
MICROSECOND = timedelta(microseconds=1)

# Few of each, and mostly the first, so that tasks share everything but their id, and kinds have several.
PRIORITIES = st.sampled_from([0, 0, LEAST, LEAST + 1, -1, GREATEST])
MOMENTS = st.sampled_from([START, START, START + MICROSECOND])
AGENTS = st.sampled_from(["SAM", "SAM", "CONNOR"])
TYPES = st.sampled_from(["plan", "plan", "plan", "Plan", "ü"])
STATUSES = st.sampled_from(["pending", "pending", "pending", "in_progress", "completed", "failed"])


@dataclass(frozen=True)
class Listed:
    agent_id: str
    status: str
    task_type: str
    priority: int
    created_at: datetime
    id: UUID
    tenant_id: UUID = DEFAULT_TENANT_ID

    @property
    def place(self) -> tuple[int, datetime, UUID]:
        return (-self.priority, self.created_at, self.id)


@dataclass(frozen=True)
class Wanted:
    """A filter; None lets everything through."""

    agent_id: str | None
    status: str | None
    task_type: str | None

    def of(self, tasks: list[Listed]) -> list[Listed]:
        return sorted(
            (
                t
                for t in tasks
                if t.tenant_id == DEFAULT_TENANT_ID
                and self.agent_id in (None, t.agent_id)
                and self.status in (None, t.status)
                and self.task_type in (None, t.task_type)
            ),
            key=lambda t: t.place,
        )


TASK = st.builds(
    Listed,
    agent_id=AGENTS,
    status=STATUSES,
    task_type=TYPES,
    priority=PRIORITIES,
    created_at=MOMENTS,
    id=st.uuids(),
    tenant_id=st.sampled_from([DEFAULT_TENANT_ID, DEFAULT_TENANT_ID, DEFAULT_TENANT_ID, STRANGER]),
)
TASKS = st.lists(TASK, max_size=8, unique_by=lambda task: task.id) | st.lists(
    TASK, min_size=12, max_size=20, unique_by=lambda task: task.id
)
FILTERS = st.builds(
    Wanted,
    agent_id=st.none() | AGENTS,
    status=st.none() | STATUSES,
    task_type=st.none() | TYPES | st.just("unheard of"),
)


def filters_about(task: Listed) -> list[Wanted]:
    """No filter, each filter alone, and all of them, with values that match the task."""
    return [
        Wanted(None, None, None),
        Wanted(task.agent_id, None, None),
        Wanted(None, task.status, None),
        Wanted(None, None, task.task_type),
        Wanted(task.agent_id, task.status, task.task_type),
    ]


class Lists:
    """A connection of the API's role for the default tenant, and one of the owner who puts tasks there."""

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.owner: asyncpg.Connection = self.runner.run(asyncpg.connect(url))
        self.api: asyncpg.Connection = self.runner.run(asyncpg.connect(url, server_settings={"role": API_ROLE}))
        self._run(self.owner, "insert into tenants (id, name, slug) values ($1, 'stranger', 'stranger')", STRANGER)
        self._run(self.api, "select set_config('zora.tenant_id', $1, false)", str(DEFAULT_TENANT_ID))

    def _run(self, connection: asyncpg.Connection, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        return self.runner.run(connection.fetch(statement, *arguments))

    def put(self, tasks: list[Listed]) -> None:
        """Have these tasks and no others."""
        self._run(self.owner, "delete from agent_tasks")
        self._run(
            self.owner,
            "insert into agent_tasks (id, tenant_id, agent_id, task_type, status, priority, title, created_at, "
            "failure_kind, lease_token, lease_expires_at) "
            "select id, tenant_id, agent_id, task_type, status, priority, 't', created_at, "
            "case status when 'failed' then 'error' end, id, created_at "
            "from jsonb_populate_recordset(null::agent_tasks, $1)",
            json.dumps([asdict(t) for t in tasks], default=str),
        )

    def page(self, wanted: Wanted, *, limit: int, offset: int = 0, after: Listed | None = None) -> list[UUID]:
        cursor = (after.priority, after.created_at, after.id) if after else (None, None, None)
        rows = self._run(
            self.api,
            "select * from list_agent_tasks($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            DEFAULT_TENANT_ID, wanted.agent_id, wanted.status, wanted.task_type, limit, offset, *cursor,
        )  # fmt: skip
        assert all(
            row["agent_id"] == (wanted.agent_id or row["agent_id"])
            and row["status"] == (wanted.status or row["status"])
            and row["tenant_id"] == DEFAULT_TENANT_ID
            for row in rows
        )
        return [row["id"] for row in rows]

    def count(self, wanted: Wanted, *, exact_up_to: int) -> tuple[int, bool]:
        (row,) = self._run(
            self.api,
            "select * from count_agent_tasks($1, $2, $3, $4, $5)",
            DEFAULT_TENANT_ID, wanted.agent_id, wanted.status, wanted.task_type, exact_up_to,
        )  # fmt: skip
        return row["total"], row["is_estimate"]

    def close(self) -> None:
        self.runner.run(self.owner.close())
        self.runner.run(self.api.close())
        self.runner.close()


@pytest.fixture
def lists(database_url: str) -> Iterator[Lists]:
    made = Lists(database_url)
    yield made
    made.close()


def examples(number: int) -> Any:
    return settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck))


def test_walking_by_cursor_gives_every_task_once_and_in_order(lists: Lists) -> None:
    @examples(20)
    @given(tasks=TASKS, other=FILTERS, limit=st.sampled_from([1, 2, 3, 7]))
    def check(tasks: list[Listed], other: Wanted, limit: int) -> None:
        lists.put(tasks)
        by_id = {t.id: t for t in tasks}
        for wanted in [other, *(filters_about(tasks[0]) if tasks else ())]:
            walked: list[UUID] = []
            after = None
            while page := lists.page(wanted, limit=limit, after=after):
                assert len(page) <= limit
                walked += page
                assert len(walked) <= len(tasks)
                after = by_id[page[-1]]
            assert walked == [t.id for t in wanted.of(tasks)]

    check()


def test_a_page_begins_after_any_place_in_the_order_or_at_any_offset(lists: Lists) -> None:
    """Also after a task that the filter does not let through, or that is gone."""

    @examples(30)
    @given(
        tasks=TASKS,
        other=FILTERS,
        limit=st.integers(0, 8),
        offset=st.integers(0, 6),
        place=st.none() | st.builds(Listed, AGENTS, STATUSES, TYPES, PRIORITIES, MOMENTS, st.uuids()),
    )
    def check(tasks: list[Listed], other: Wanted, limit: int, offset: int, place: Listed | None) -> None:
        lists.put(tasks)
        for wanted, after in itertools.product(
            [other, *(filters_about(tasks[-1]) if tasks else ())], (None, place, *tasks[:1])
        ):
            expected = [t.id for t in wanted.of(tasks) if after is None or t.place > after.place]
            assert lists.page(wanted, limit=limit, offset=offset, after=after) == expected[offset : offset + limit]

    check()


def test_a_count_is_exact_up_to_its_bound_and_says_when_it_is_not(lists: Lists) -> None:
    @examples(20)
    @given(tasks=TASKS, filters=st.lists(FILTERS, min_size=1, max_size=3), bound=st.integers(0, 12))
    def check(tasks: list[Listed], filters: list[Wanted], bound: int) -> None:
        lists.put(tasks)
        for wanted in filters:
            there_are = len(wanted.of(tasks))
            total, is_estimate = lists.count(wanted, exact_up_to=bound)
            if there_are <= bound:
                assert (total, is_estimate) == (there_are, False)
            else:
                assert (total, is_estimate) == (bound, True), "more than its bound, and no guess"

    check()


def test_a_status_that_does_not_exist_is_an_error_and_not_an_empty_list(lists: Lists) -> None:
    lists.put([Listed("SAM", "pending", "plan", 0, START, uuid4())])
    for read in (
        lambda wanted: lists.page(wanted, limit=5),
        lambda wanted: lists.count(wanted, exact_up_to=5),
    ):
        with pytest.raises(asyncpg.InvalidTextRepresentationError, match="agent_task_status"):
            read(Wanted(None, "finished", None))
