from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.agents.builtin import registry
from zora_core.errors import InvalidPayload, UnknownTaskType
from zora_core.skills.planning.workflow_goal import find_entities, match_templates, settings
from zora_core.skills.planning.workflow_plan import Plan, Step, definition, make_plan, prove, schedule
from zora_core.skills.planning.workflow_schedule import (
    Duration,
    critical_chain,
    critical_path,
    finish_percentiles,
    topological_order,
)

PAGES = ["climate", "dashboard", "home"]
TYPES = registry()


def validate(agent_id: str, task_type: str, payload: dict[str, Any]) -> str | None:
    try:
        TYPES.find(agent_id, task_type).parse(payload)
    except (InvalidPayload, UnknownTaskType) as error:
        return str(error)
    return None


def planned(goal: str, agents: tuple[str, ...] = (), pages: list[str] = PAGES) -> Plan:
    return make_plan(goal, pages, agents, validate)


def types(plan: Plan) -> list[str]:
    return [step.task_type for step in plan.steps]


GOALS = {
    "Make the dashboard accessible (WCAG AA)": {"review_accessibility", "plan_frontend_improvements"},
    "Review the climate page": {"review_climate_page"},
    "Is “Our soap is climate neutral” greenwashing?": {"check_climate_claims"},
    "Summarize what happened in the last 3 days": {"summarize_recent_events"},
    "Consolidate old memories": {"memory_cleanup"},
    "Research heat pump costs": {"research_topic"},
    "Propose 4 transport missions": {"research_topic", "propose_new_climate_missions"},
    "Check system health after the outage": {"review_system_health"},
    "Analyse code quality in ./src": {"analyze_codebase"},
    "Safety review: what did the agents do?": {"review_recent_agent_tasks"},
    "Get ready for the launch of the home page": {
        "review_accessibility",
        "review_climate_page",
        "plan_frontend_improvements",
        "review_system_health",
        "review_recent_agent_tasks",
    },
}


@pytest.mark.parametrize(("goal", "expected"), GOALS.items())
def test_a_goal_leads_to_the_steps_it_asks_for_and_the_plan_is_feasible(goal: str, expected: set[str]) -> None:
    plan = planned(goal)
    assert set(types(plan)) == expected
    assert plan.problems == []


def test_a_goal_that_fits_nothing_gets_no_steps_but_the_nearest_templates() -> None:
    plan = planned("Bake a chocolate cake")
    assert (plan.matches, plan.steps) == ([], [])
    assert len(plan.nearest) == settings()["nearest"]


def test_what_a_goal_excludes_is_not_planned() -> None:
    assert "memory_cleanup" in types(planned("Summarize the week and consolidate memories"))
    assert "memory_cleanup" not in types(planned("Summarize the week but do not consolidate memories"))


def test_goals_are_joined_and_ordered_by_what_needs_what() -> None:
    plan = planned("Improve the climate page, review its climate content, then do a safety review of the agents")
    after = {step.task_type: set(step.after) for step in plan.steps}
    assert after["plan_frontend_improvements"] == {"review_accessibility", "review_climate_page"}
    assert after["review_recent_agent_tasks"] == set(types(plan)) - {"review_recent_agent_tasks"}


def test_every_page_gets_its_own_chain() -> None:
    plan = planned("Review the accessibility of all pages")
    chains = {step.subject: step.after for step in plan.steps if step.task_type == "plan_frontend_improvements"}
    assert set(chains) == set(PAGES)
    subjects = {step.key: step.subject for step in plan.steps}
    assert all([subjects[key] for key in after] == [page] for page, after in chains.items())


def test_only_allowed_agents_are_used_and_the_rest_is_named() -> None:
    plan = planned("Improve the dashboard page", agents=("LUMINA",))
    assert types(plan) == ["plan_frontend_improvements"]
    assert plan.left_out == {"review_accessibility": "SAM is not among the allowed agents"}
    assert planned("Improve the dashboard page", agents=("EIVOR",)).steps == []


def test_a_step_without_what_it_needs_is_left_out_with_the_reason() -> None:
    plan = planned("Analyse the code quality and review system health")
    assert types(plan) == ["review_system_health"]
    assert "a folder on this machine" in plan.left_out["analyze_codebase"]


def test_a_page_that_does_not_exist_is_never_planned_for() -> None:
    plan = planned("Review the climate page", pages=["shop"])
    assert plan.steps == []
    assert "a page key or a URL" in plan.left_out["review_climate_page"]


def test_a_payload_that_does_not_fit_is_left_out() -> None:
    plan = planned("Summarize the events of the last 9000 days")
    assert plan.steps == []
    assert "days" in plan.left_out["summarize_recent_events"]


ENTITIES: list[tuple[str, dict[str, Any]]] = [
    ("see https://example.org/a, please", {"url": "https://example.org/a"}),
    ("the last 2 weeks", {"days": 14, "hours": 336}),
    ("over 36 hours", {"days": 1, "hours": 36}),
    ("propose 7 new food missions", {"count": 7, "category": "food"}),
    ("code in src/app/core now", {"path": "src/app/core"}),
    ("thorough research on tidal power and propose missions", {"depth": "deep", "topic": "tidal power"}),
    ("is “We are carbon neutral” true", {"claims": ["We are carbon neutral"]}),
]


@pytest.mark.parametrize(("goal", "expected"), ENTITIES)
def test_a_goal_names_pages_addresses_spans_and_numbers(goal: str, expected: dict[str, Any]) -> None:
    found = find_entities(goal, PAGES)
    assert {name: found.get(name) for name in expected} == expected


WORDS = [word for template in settings()["templates"] for word in template["keywords"]]
WORDS += [
    *PAGES,
    "all pages",
    "./src",
    "https://example.org/",
    "9 missions",
    "40 days",
    "0 hours",
    "not",
    "“a green claim”",
]


@given(st.lists(st.sampled_from(WORDS), max_size=12), st.text(max_size=30), st.sets(st.sampled_from(["SAM", "EIVOR"])))
def test_any_goal_gives_a_feasible_plan_or_none(words: list[str], text: str, agents: set[str]) -> None:
    plan = make_plan(" ".join([*words, text]), PAGES, sorted(agents), validate)
    assert plan.problems == []
    assert all(not agents or step.agent_id in agents for step in plan.steps)


def test_every_template_and_order_names_task_types_that_exist() -> None:
    known = {(t.agent_id.value, t.name) for t in TYPES}
    steps = settings()["steps"]
    assert {(rule["agent"], name) for name, rule in steps.items()} <= known
    assert {step for template in settings()["templates"] for step in template["steps"]} == set(steps)
    assert {rule["then"] for rule in settings()["order"]} <= set(steps)


def test_a_keyword_counts_once_whatever_its_form() -> None:
    (once,) = match_templates("memories")
    (twice,) = match_templates("memory memories memory")
    assert once.score == twice.score


def step(key: str, *after: str, payload: dict[str, Any] | None = None, agent_id: str = "EIVOR") -> Step:
    return Step(key, agent_id, "summarize_recent_events", key, payload or {}, dict.fromkeys(after, "because"))


def test_the_proof_finds_what_stands_against_a_plan() -> None:
    assert prove([step("a"), step("b", "a")], [], validate) == []
    assert prove([step("a", "b"), step("b", "a")], [], validate) == ["the steps depend on each other in a circle"]
    assert prove([step("a", "gone")], [], validate)[0] == "a waits for unknown gone"
    assert prove([step("a")], ["SAM"], validate) == ["a needs EIVOR, who is not allowed"]
    assert "unknown task type" in prove([step("a", agent_id="SAM")], [], validate)[0]
    assert "days" in prove([step("a", payload={"days": -1})], [], validate)[0]


def test_the_critical_path_has_no_slack_and_the_rest_has() -> None:
    after = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    timings = critical_path(after, {"a": 1, "b": 10, "c": 4, "d": 2})
    assert {key: timing.slack for key, timing in timings.items()} == {"a": 0, "b": 0, "c": 6, "d": 0}
    assert timings["d"].finish == 13
    assert critical_chain(after, timings) == ["a", "b", "d"]


def test_a_circle_has_no_order_and_no_critical_path() -> None:
    after = {"a": ["b"], "b": ["a"]}
    assert topological_order(after) is None
    with pytest.raises(ValueError, match="circle"):
        critical_path(after, {"a": 1, "b": 1})


def test_percentiles_of_one_step_are_its_own_and_stay_the_same() -> None:
    durations = {"a": Duration(10, 40, 9)}
    p50, p90 = finish_percentiles({"a": []}, durations, 4000)
    assert p50 == pytest.approx(10, rel=0.1)
    assert p90 == pytest.approx(40, rel=0.15)
    assert (p50, p90) == finish_percentiles({"a": []}, durations, 4000)


def test_history_replaces_assumptions_and_is_named_where_it_is_missing() -> None:
    steps = [step("a"), Step("b", "SAM", "review_accessibility", "b", {"target": "home"}, {"a": "because"})]
    row = {"agent_id": "EIVOR", "task_type": "summarize_recent_events", "runs": 50, "p50_seconds": 2, "p90_seconds": 3}
    assumed = schedule(steps, [])
    measured = schedule(steps, [row])
    assert assumed.assumed == ["EIVOR summarize_recent_events", "SAM review_accessibility"]
    assert measured.assumed == ["SAM review_accessibility"]
    assert measured.durations["a"] == Duration(2, 3, 50)
    assert measured.p50_seconds < assumed.p50_seconds


def test_few_runs_are_not_trusted_to_know_their_own_spread() -> None:
    row = {"agent_id": "EIVOR", "task_type": "summarize_recent_events", "runs": 1, "p50_seconds": 2, "p90_seconds": 2}
    assert schedule([step("a")], [row]).durations["a"].p90 == 2 * settings()["durations"]["spread"]


def test_the_definition_holds_every_step_with_its_dependencies() -> None:
    plan = planned("Improve the dashboard page")
    workflow = definition(plan)
    assert workflow["key"] == "improve-the-dashboard-page"
    assert [s["depends_on"] for s in workflow["steps"]] == [[], ["review_accessibility"]]
    assert workflow["steps"][0]["payload"] == {"target": "dashboard"}
