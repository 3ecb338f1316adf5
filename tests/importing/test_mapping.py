"""What rows of the original are here: by field, under either naming, and never against the database's constraints."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Server
from tests.importing.original import MONDAY, NORDIC, TENANT, id_of
from zora_core.agents.builtin import registry
from zora_core.cron import Cron
from zora_core.database import schema
from zora_core.database.postgres import Database, connect
from zora_core.importing import graphs, mapping
from zora_core.importing.fields import Context, Mapped, Refused, Row, Taken, texts_of, unstorable
from zora_core.importing.importer import KINDS, Importer, Kind, Report, choose_tenant
from zora_core.importing.tables import TABLES, Broken, Tenant
from zora_core.settings import DEFAULT_TENANT_ID
from zora_core.workflows import parse

CONTEXT = Context(registry(), now=datetime(2026, 1, 1, tzinfo=UTC))
HERE = {"a policy for this task type exists already", "a workflow with this key exists already"}


def row(**columns: Any) -> dict[str, Any]:
    return {"id": id_of("one"), "tenant_id": TENANT, "created_at": MONDAY, **columns}


def taken(mapped: Mapped) -> dict[str, Any]:
    assert isinstance(mapped, Taken), mapped
    return mapped.row


def refused(mapped: Mapped) -> str:
    assert isinstance(mapped, Refused), mapped
    return mapped.reason


def a_task(**columns: Any) -> dict[str, Any]:
    return row(
        **{"agent_id": "SAM", "task_type": "review_climate_page", "status": "completed", "title": "t", **columns}
    )


# ── Tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("known", list(registry()), ids=lambda known: known.name)
def test_a_task_of_ours_has_the_same_agent_under_either_naming(known: Any) -> None:
    for name in (known.agent_id.value, NORDIC[known.agent_id.value], NORDIC[known.agent_id.value].lower()):
        mapped = mapping.task(a_task(agent_id=name, task_type=known.name), CONTEXT)
        assert taken(mapped)["agent_id"] == known.agent_id.value
        assert isinstance(mapped, Taken)
        assert mapped.notes == ()


def test_tyr_is_aegis_where_the_task_type_does_not_say_lumina_and_the_report_says_so() -> None:
    mapped = mapping.task(a_task(agent_id="TYR", task_type="something_else"), CONTEXT)
    assert taken(mapped)["agent_id"] == "AEGIS"
    assert isinstance(mapped, Taken)
    assert mapped.notes == ("TYR, who took over from AEGIS and LUMINA, was taken as AEGIS",)


@pytest.mark.parametrize("name", ["THOR", "FREYA", "", "SAM; drop table", None, 7])
def test_an_agent_that_we_do_not_have_is_refused(name: Any) -> None:
    assert isinstance(mapping.task(a_task(agent_id=name), CONTEXT), Refused)


@pytest.mark.parametrize("status", ["pending", "in_progress"])
@pytest.mark.parametrize(
    "approval", [{}, {"requires_approval": True}, {"approved_by_user_id": id_of("x"), "approved_at": MONDAY}]
)
def test_whatever_was_not_finished_comes_as_pending(status: str, approval: dict[str, Any]) -> None:
    """The database lets it wait for approval; an approval that was given there was for something that ran there."""
    mapped = taken(mapping.task(a_task(status=status, **approval), CONTEXT))
    assert mapped["status"] == "pending"
    assert "failure_kind" not in mapped


def test_a_task_that_could_not_run_is_refused_with_what_create_task_would_say() -> None:
    said = refused(mapping.task(a_task(status="pending", payload={"weeks": 1}), CONTEXT))
    assert "weeks: Extra inputs are not permitted" in said
    assert "unknown task type 'fly'" in refused(mapping.task(a_task(status="pending", task_type="fly"), CONTEXT))
    assert taken(mapping.task(a_task(status="failed", task_type="fly"), CONTEXT))["failure_kind"] == "error"


@pytest.mark.parametrize("status", ["pending", "failed", "in_progress", "completed"])
def test_what_a_person_rejected_stays_rejected(status: str) -> None:
    mapped = taken(mapping.task(a_task(status=status, rejected_at=MONDAY, decision_reason="no"), CONTEXT))
    assert (mapped["status"], mapped["failure_kind"], mapped["error_message"]) == ("failed", "rejected", "no")


def test_times_and_texts_of_an_export_are_what_they_mean() -> None:
    mapped = taken(
        mapping.task(
            a_task(
                created_at="2025-06-02 08:30:00.12345+00", completed_at="2025-06-02T10:31:00+02:00", priority="3",
                payload='{"page": "home"}', started_at=None, result='["x"]',
            ),
            CONTEXT,
        )
    )  # fmt: skip
    assert mapped["created_at"] == "2025-06-02T08:30:00.123450+00:00"
    assert mapped["completed_at"] == "2025-06-02T08:31:00+00:00"
    assert (mapped["priority"], mapped["payload"], mapped["attempt"]) == (3, {"page": "home"}, 0)
    assert mapped["result"]["result"] == {"value": ["x"]}


def test_what_an_agent_said_that_we_do_not_have_keeps_its_name() -> None:
    remembered = mapping.memory(row(agent="thor", memory_type="plan", content="c"), CONTEXT)
    assert taken(remembered)["agent"] == "THOR"
    assert taken(mapping.insight(row(agent_id="FREYA", category="story", title="t"), CONTEXT))["agent"] == "FREYA"
    assert "has no counterpart" in refused(mapping.suggestion(row(agent_id="THOR", status="applied"), CONTEXT))


# ── The others ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_estimate_is_made_up() -> None:
    mission = row(title="m", category="energy", status="planned")
    for columns, expected in (
        ({}, None),
        ({"estimated_impact_kgco2": None, "impact_estimate": {}}, None),
        ({"impact_estimate": {"co2_kg": 12.5}}, "12.5"),
        ({"impact_estimate": {"co2_kg": "a lot"}}, None),
        ({"estimated_impact_kgco2": "0", "impact_estimate": {"co2_kg": 9}}, "0"),
        ({"estimated_impact_kgco2": "NaN"}, None),
    ):
        assert taken(mapping.mission({**mission, **columns}, CONTEXT))["estimated_impact_kgco2"] == expected
    profile = taken(mapping.profile(row(name="p", household_size=0, estimated_footprint_kg=-1), CONTEXT))
    assert (profile["household_size"], profile["estimated_footprint_kg"]) == (None, None)


def test_no_policy_is_more_permissive_than_it_was() -> None:
    for flag, expected in ((True, True), ("t", True), (False, False), ("false", False), (None, False)):
        mapped = taken(mapping.policy(row(task_type="memory_cleanup", auto_execute=flag, max_risk_level=3), CONTEXT))
        assert mapped["auto_execute"] is expected
        assert "max_risk_level" not in mapped, "nothing is applied without asking"


@pytest.mark.parametrize(
    ("frequency", "coming", "cron"),
    [
        ("daily", "2025-06-02T08:30:00Z", "30 8 * * *"),
        ("weekly", "2025-06-02T08:30:00Z", "30 8 * * 1"),
        ("weekly", "2025-06-01T23:30:00-02:00", "30 1 * * 1"),
        ("weekly", "2025-06-08T00:00:00Z", "0 0 * * 0"),
        ("monthly", "2025-06-28T00:00:00Z", "0 0 28 * *"),
        ("monthly", "2025-06-30T00:00:00Z", "0 0 L * *"),
    ],
)
def test_a_frequency_becomes_a_cron_expression(frequency: str, coming: str, cron: str) -> None:
    given = row(schedule_type="memory_cleanup", frequency=frequency, next_run_at=coming)
    mapped = taken(mapping.schedule(given, CONTEXT))
    assert (mapped["cron"], mapped["timezone"], mapped["agent_id"]) == (cron, "UTC", "EIVOR")
    Cron(mapped["cron"], "UTC")


def test_a_schedule_whose_frequency_says_nothing_goes_by_its_hint() -> None:
    given = row(schedule_type="memory_cleanup", frequency="cron", next_run_at=MONDAY, cron_hint="0 9 * * 1")
    assert taken(mapping.schedule(given, CONTEXT))["cron"] == "0 9 * * 1"
    assert "cron_hint is invalid" in refused(mapping.schedule({**given, "cron_hint": "61 * * * *"}, CONTEXT))
    assert "cannot be derived" in refused(mapping.schedule({**given, "cron_hint": None}, CONTEXT))


def test_arrays_are_read_as_json_and_as_postgresql_writes_them() -> None:
    for value, expected in (
        (None, []), ("", []), ("{}", []), ([], []), ("[]", []), ('["a", "b c"]', ["a", "b c"]),
        ("{a,b}", ["a", "b"]), ('{"a \\"b\\", c",d}', ['a "b", c', "d"]), ('{"back\\\\slash"}', ["back\\slash"]),
    ):  # fmt: skip
        assert texts_of({"tags": value}, "tags") == expected, value


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_an_array_that_postgresql_wrote_is_read_back(values: list[str]) -> None:
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    assert texts_of({"tags": "{" + ",".join(f'"{value}"' for value in quoted) + "}"}, "tags") == values


def test_what_the_database_cannot_hold_is_found_wherever_it_is() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    for value in ("a\0", {"a\0": 1}, [{"x": ["\udc80"]}], float("nan"), {"x": float("inf")}, deep):
        assert unstorable(value) is not None
    assert unstorable({"x": [1, "é\n\x07", None, True, 1.5]}) is None


# ── Workflows ────────────────────────────────────────────────────────────────────────────────────────────────────────


def steps(*kinds: str, **columns: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": f"s{number}", "key": f"step_{number}", "name": f"Step {number}", "step_type": kind,
            "order_index": number, "config": {},
            **({"agent_id": "TYR", "task_type": "review_recent_agent_tasks"} if kind == "agent_task" else {}),
            **columns,
        }
        for number, kind in enumerate(kinds)
    ]  # fmt: skip


def edge(first: int, second: int, condition: str | None = None) -> dict[str, Any]:
    return {"from_step_id": f"s{first}", "to_step_id": f"s{second}", "condition": condition}


FLOW = row(key="A Flow!", name="Flow")


def test_steps_in_order_follow_one_another_and_an_approval_is_asked_before_the_next() -> None:
    mapped = taken(graphs.workflow(FLOW, CONTEXT, steps("agent_task", "noop", "wait_for_approval", "agent_task"), []))
    made = parse(mapped["definition"])
    assert mapped["key"] == "a-flow"
    first, second = made.steps
    assert (first.depends_on, first.ask_first, second.ask_first) == ([], False, True)
    (waits,) = second.model_dump()["depends_on"]
    assert waits == {"key": "step_0", "on_failure": "fail"}


def test_the_condition_of_an_edge_says_what_a_failure_does() -> None:
    edges = [edge(0, 1, "always"), edge(1, 2, "on_success")]
    mapped = taken(graphs.workflow(FLOW, CONTEXT, steps("agent_task", "noop", "agent_task"), edges))
    assert parse(mapped["definition"]).steps[1].model_dump()["depends_on"] == [
        {"key": "step_0", "on_failure": "continue"}
    ]
    strict = taken(graphs.workflow(FLOW, CONTEXT, steps("agent_task", "noop", "agent_task"), [*edges, edge(0, 2)]))
    assert parse(strict["definition"]).steps[1].model_dump()["depends_on"][0]["on_failure"] == "fail"


@pytest.mark.parametrize(
    ("made", "edges", "said"),
    [
        (steps("agent_task", "api_call"), [], "is of the type 'api_call'"),
        (steps("agent_task", "agent_task"), [edge(0, 1, "on_failure")], "the condition 'on_failure'"),
        (steps("agent_task", "agent_task"), [edge(0, 1), edge(1, 0)], "it could not run"),
        (steps("agent_task"), [edge(0, 5)], "a step that it does not have"),
        (steps("agent_task", task_type="fly"), [], "unknown task type 'fly'"),
        (steps("agent_task", config={"weeks": 1}), [], "Extra inputs are not permitted"),
        (steps("agent_task", "agent_task", key="same"), [], "it could not run"),
        (steps("noop"), [], "it could not run"),
    ],
)
def test_a_workflow_that_could_not_run_is_refused(
    made: list[dict[str, Any]], edges: list[dict[str, Any]], said: str
) -> None:
    assert said in refused(graphs.workflow(FLOW, CONTEXT, made, edges))


# ── Tenants ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_only_tenant_needs_no_name() -> None:
    assert choose_tenant([], None) is None
    assert choose_tenant([Tenant(TENANT)], None) == Tenant(TENANT)
    assert choose_tenant([Tenant(TENANT, "first"), Tenant(id_of("x"))], "First") == Tenant(TENANT, "first")


# ── Whatever a row holds ─────────────────────────────────────────────────────────────────────────────────────────────

LIKELY: dict[str, list[Any]] = {
    "id": [id_of(str(number)) for number in range(200)],
    "tenant_id": [TENANT, None],
    "created_at": [MONDAY, "2025-01-01", "2025-06-02 08:30:00+00"],
    "agent_id": [*NORDIC, *NORDIC.values()],
    "agent": [*NORDIC, "THOR", "SYSTEM"],
    "task_type": [known.name for known in registry()],
    "schedule_type": [known.name for known in registry()],
    "memory_type": sorted(mapping.MEMORY_TYPES),
    "profile_type": sorted(mapping.PROFILE_TYPES),
    "frequency": ["daily", "weekly", "monthly"],
    "title": ["A title", "t" * 500, "t" * 501],
    "name": ["A name"],
    "key": ["a_key", "Another Key"],
    "content": ["content", ""],
    "payload": [{}, "{}", None, {"page": "home"}],
    "next_run_at": [MONDAY, "2025-12-31T23:59:00Z"],
}
OF_TABLE: dict[tuple[str, str], list[Any]] = {
    ("agent_tasks", "status"): ["pending", "in_progress", "completed", "failed"],
    ("climate_missions", "status"): sorted(mapping.MISSION_STATES),
    ("climate_missions", "category"): sorted(mapping.MISSION_CATEGORIES),
    ("agent_suggestions", "status"): ["proposed", "applied", "rejected"],
    ("agent_insights", "category"): [*mapping.INSIGHTS, "something"],
    ("journal_entries", "category"): [*mapping.JOURNAL_CATEGORIES, "webtool"],
}
WILD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(["\0", "\udc00", "infinity", "-infinity", "NaN", "{}", "[]", "{a,b}", "x" * 600, "9999-12-31",
                     "0001-01-01"]),
    st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), lambda inner: st.lists(
        inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6),
)  # fmt: skip


def rows_of(table: str) -> st.SearchStrategy[dict[str, Any]]:
    """Rows of a table that are as they should be, but for two columns at most."""
    columns = (*TABLES[table].needed, *TABLES[table].optional)
    good = st.fixed_dictionaries(
        {name: st.sampled_from(OF_TABLE.get((table, name)) or LIKELY.get(name, [None])) for name in columns}
    )
    wild = st.dictionaries(st.sampled_from(columns), WILD, max_size=2)
    return st.builds(lambda row, changes: {**row, **changes}, good, wild)


class Rows:
    """A source of generated rows."""

    def __init__(self, table: str, made: list[dict[str, Any]]) -> None:
        self._table, self._made = table, made

    def has(self, table: str) -> bool:
        return table == self._table

    async def tenants(self) -> list[Tenant]:
        return []

    async def rows(self, table: str, tenant: str | None) -> AsyncIterator[Row | Broken]:
        for one in self._made:
            yield one

    async def rows_of(self, table: str, column: str, values: Collection[str]) -> list[Row | Broken]:
        return list(steps("agent_task", "agent_task")) if table == "workflow_steps" else []


@pytest.fixture(scope="module")
def loop_and_database(embedded: Server) -> Iterator[tuple[asyncio.Runner, Database]]:
    async def prepare(url: str) -> Database:
        connection = await asyncpg.connect(url)
        await schema.migrate(connection)
        await connection.execute("insert into tenants values ($1, 'default', 'default')", DEFAULT_TENANT_ID)
        await connection.close()
        return await connect(url)

    with asyncio.Runner() as runner:
        fresh = embedded.fresh()
        database = runner.run(prepare(runner.run(fresh.__aenter__())))
        yield runner, database
        runner.run(database.close())
        runner.run(fresh.__aexit__(None, None, None))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.table)
def test_what_is_mapped_never_breaks_a_constraint_of_ours(
    loop_and_database: tuple[asyncio.Runner, Database], kind: Kind
) -> None:
    """Nor raises anything: a row is taken, or refused with a reason, whatever it holds."""
    runner, database = loop_and_database
    seen = {"taken": 0, "refused": 0}

    async def call(function: str, **arguments: Any) -> list[dict[str, Any]]:
        outcomes = await database.call(function, tenant_id=DEFAULT_TENANT_ID, **arguments)
        for outcome, given_row in zip(outcomes, arguments["rows"], strict=True):
            assert outcome["outcome"] != "refused" or outcome["reason"] in HERE, (outcome, given_row)
        return outcomes

    @settings(max_examples=100, suppress_health_check=list(HealthCheck))
    @given(st.lists(rows_of(kind.table), max_size=40))
    def check(made: list[dict[str, Any]]) -> None:
        report = Report("generated", None, applied=False)
        importer = Importer(Rows(kind.table, made), call, CONTEXT, report, without_tenant=True)  # type: ignore[arg-type]
        runner.run(importer.run())
        (told,) = report.kinds
        assert told.found == len(made) == told.taken + told.here + told.not_taken
        assert all(reason.strip() for reason in told.reasons)
        json.dumps(report.shown())
        seen["taken"] += told.taken
        seen["refused"] += told.not_taken

    check()
    assert seen["taken"] > 30, "hardly anything was tried"
    assert seen["refused"] > 10
