"""LUMINA, the project lead: turns findings about a page, or a goal in plain words, into a plan."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pydantic import ConfigDict, Field, field_validator

from zora_core.agents.agent import Agent, Payload, handler
from zora_core.agents.evidence import select
from zora_core.agents.page_payload import ONE_PAGE, PagePayload, markup_result, noted, page_key, page_subject
from zora_core.errors import InvalidInput, InvalidPayload, UnknownTaskType
from zora_core.models import AgentId, Finding, Metric, Quote, Severity, Suggestion, Task, TaskResult

if typing.TYPE_CHECKING:
    from zora_core.agents.context import TaskContext
    from zora_core.agents.page_assets import Assets
    from zora_core.skills.page import Page
    from zora_core.skills.planning.frontend_plan import WorkItem
    from zora_core.skills.planning.workflow_goal import Match
    from zora_core.skills.planning.workflow_plan import Plan, Schedule

STORED_FINDINGS = 200
MAX_GOAL = 2000
SIMULATION = "simulation of log-normal durations"


class PlanFrontendImprovements(PagePayload):
    """Payload of plan_frontend_improvements."""

    model_config = ConfigDict(json_schema_extra={**ONE_PAGE, "examples": [{"page": "dashboard"}]})

    page: str = Field(default="dashboard", description="Key of a page in frontend_configs; not used with url or html.")


class PlanWorkflow(Payload):
    """Payload of plan_workflow."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"goal": "Improve our climate page and check its claims"}]}
    )

    goal: str | None = Field(
        default=None,
        min_length=3,
        max_length=MAX_GOAL,
        description="The goal to plan for (default: the task's title).",
    )
    target_agents: list[AgentId] = Field(
        default_factory=list, description="Agents that the plan may use; empty: all six."
    )

    @field_validator("target_agents", mode="before")
    @classmethod
    def _upper_case(cls, value: Any) -> Any:
        return [name.upper() if isinstance(name, str) else name for name in value] if isinstance(value, list) else value


class Lumina(Agent):
    """Orchestrator and project lead."""

    agent_id = AgentId.LUMINA

    @handler("plan_frontend_improvements", timeout_seconds=180)
    async def plan_frontend_improvements(
        self, task: Task, payload: PlanFrontendImprovements, ctx: TaskContext
    ) -> TaskResult:
        """Plan a page's improvements: work items by impact, reach and effort, each with its acceptance check."""
        from zora_core.agents.page_assets import with_assets

        await ctx.progress(0, "reading the page")
        page = await payload.read(ctx)
        await ctx.progress(0.2, "reading what the page loads")
        assets = await with_assets(page, ctx)
        await ctx.progress(0.6, "reviewing the page")
        return await ctx.compute(_frontend_result, assets, ctx.now.year)

    @handler("plan_workflow", timeout_seconds=120)
    async def plan_workflow(self, task: Task, payload: PlanWorkflow, ctx: TaskContext) -> TaskResult:
        """Plan a workflow for a goal: steps of the six agents, their order, critical path and likely finish."""
        from zora_core.skills.planning.workflow_plan import make_plan, schedule

        goal = (payload.goal or task.title).strip()
        if not goal:
            raise InvalidInput("the goal is empty: describe it in `goal` or in the title")
        ctx.cite("payload", "goal", goal)
        agents = [agent.value for agent in payload.target_agents]
        keys = await ctx.page_keys()
        # On a thread, because the validator asks this process; the goal has at most 2,000 characters.
        plan = await ctx.in_thread(make_plan, goal[:MAX_GOAL], keys, agents, _validator(ctx))
        times = schedule(plan.steps, await ctx.task_durations()) if plan.steps and not plan.problems else None
        return _workflow_result(plan, times, agents)


def _frontend_result(assets: Assets, year: int) -> TaskResult:
    from zora_core.models import Element
    from zora_core.skills.accessibility import check_accessibility
    from zora_core.skills.claims import check_text
    from zora_core.skills.page.climate_page import review
    from zora_core.skills.page.footprint import footprint
    from zora_core.skills.page.weight import grams_per_thousand_views, weight_findings
    from zora_core.skills.planning.frontend_plan import make_plan, settings
    from zora_core.skills.text.readability import readability

    page = assets.page
    access = check_accessibility(page)
    fixes = {
        f"{finding.rule_id} {element.selector}": fix
        for finding, fix in zip(access.findings, access.fixes, strict=True)
        for element in finding.evidence
        if isinstance(element, Element)
    }
    claims = check_text(page.text, source=page.ref)
    weight = footprint(page.transfer_bytes or page.html_bytes)
    reading = readability(page.main_text)
    content = review(page, claims.claims, reading, weight, year=year, complete=assets.complete)
    found = [
        *access.findings,
        *claims.findings,
        *(finding for finding in content if finding.rule_id != "page.weight"),
        *weight_findings(page),
    ]
    items = make_plan(page, found, fixes)
    kept = items[: settings()["max_items"]]
    proposed = items[: settings()["max_suggestions"]]
    found.sort(key=lambda finding: -finding.severity.rank)
    subject = page_subject(page)
    suggestions = [_item_suggestion(page, subject, number, item) for number, item in enumerate(proposed, 1)]
    return TaskResult(
        examined={subject: [page_key(page, item.key) for item in items]} if not page.limits else {},
        summary=noted(_frontend_summary(page.ref, found, items, len(proposed), access.elements), page.limits),
        findings=select(found, suggestions, STORED_FINDINGS),
        suggestions=suggestions,
        result={
            "page": page.ref,
            "limits_reached": list(page.limits),
            **markup_result(page),
            "items": [item.as_dict() for item in kept],
            "items_total": len(items),
            "items_proposed": len(proposed),
            "findings": len(found),
            "findings_stored": min(len(found), STORED_FINDINGS),
            "effort_minutes": sum(item.effort_minutes for item in items),
            "examined": {
                "elements": access.elements,
                "accessibility_rules": access.rules_checked,
                "sentences": claims.sentences,
                "resources_read": assets.read,
                "unread": assets.unread,
            },
            "weight": {
                "transfer_bytes": weight.transfer_bytes,
                "complete": assets.complete,
                "grade": weight.grade,
                "grams_co2e_per_1000_views": grams_per_thousand_views(weight.transfer_bytes),
                "grams_co2e_saved_per_1000_views": round(sum(item.grams_saved for item in items), 2),
                "source": weight.source,
            },
        },
    )


def _frontend_summary(ref: str, found: list[Finding], items: list[WorkItem], proposed: int, elements: int) -> str:
    from zora_core.wording import count

    if not items:
        examined = count(elements, "element")
        return f"Nothing to improve was found on {ref}: {examined}, its text and its weight were examined."
    hours = sum(item.effort_minutes for item in items) / 60
    first = items[0]
    saved = sum(item.grams_saved for item in items)
    grams = f" {saved:.0f} gCO2e per 1,000 views could be saved." if saved else ""
    return (
        f"{count(len(items), 'work item')} for {ref} from {count(len(found), 'finding')}, about {hours:.1f} h in all; "
        f"{f'the first {proposed} are' if proposed < len(items) else 'all'} proposed. "
        f"First: {first.title} ({first.component}, {first.effort_minutes} min).{grams}"
    )


def _item_suggestion(page: Page, subject: str, number: int, item: WorkItem) -> Suggestion:
    numbers = f"impact {item.impact:g} x reach {item.reach:g} / {item.effort_minutes} min = {item.score:g}"
    return Suggestion(
        suggestion_type="advice",
        title=f"{number}. {item.title} ({item.component}, {item.elements}x)"[:200],
        body=f"{item.advice} Score: {numbers}. Done when: {item.acceptance['text']}",
        target={"page": page.ref, "rule_id": item.rule_id, "component": item.component},
        suggested_value={
            "fixes": item.fixes,
            "after": sorted(item.after),
            "acceptance": item.acceptance,
            "grams_co2e_saved_per_1000_views": item.grams_saved,
        },
        findings=item.findings,
        evidence=item.evidence,
        key=page_key(page, item.key),
        subject=subject,
    )


def _validator(ctx: TaskContext) -> Callable[[str, str, dict[str, Any]], str | None]:
    """Says what is wrong with a step, by the agents' own payload models and by what may be read."""

    def wrong(agent_id: str, task_type: str, payload: dict[str, Any]) -> str | None:
        try:
            ctx.task_types.find(agent_id, task_type).parse(payload)
            if task_type == "analyze_codebase":
                ctx.path(payload["target"].removeprefix("file://"))
        except (InvalidInput, InvalidPayload, UnknownTaskType) as error:
            return str(error)
        return None

    return wrong


def _workflow_result(plan: Plan, times: Schedule | None, agents: list[str]) -> TaskResult:
    from zora_core.skills.planning.workflow_plan import definition

    findings = [
        Finding(
            rule_id="workflow.step-left-out",
            title=f"{task_type} is not in the plan",
            detail=reason,
            severity=Severity.LOW,
            confidence=1.0,
            evidence=[Quote(source="goal", text=plan.goal, start=0)],
        )
        for task_type, reason in plan.left_out.items()
    ]
    if not plan.matches:
        findings.append(
            Finding(
                rule_id="workflow.no-template",
                title="The goal fits no workflow template",
                detail="Nearest: " + "; ".join(f"{match.key} ({match.title})" for match in plan.nearest) + ".",
                severity=Severity.MEDIUM,
                confidence=0.8,
                evidence=[Quote(source="goal", text=plan.goal, start=0)],
            )
        )
    result: dict[str, Any] = {
        "goal": plan.goal,
        "target_agents": agents,
        "templates": [_match(match) for match in plan.matches],
        "nearest_templates": [_match(match) for match in plan.nearest],
        "entities": plan.entities,
        "left_out": plan.left_out,
        "steps": [asdict(step) for step in plan.steps],
        "feasible": bool(plan.steps) and not plan.problems,
        "problems": plan.problems,
    }
    suggestions = []
    if times is not None:
        result["schedule"] = _schedule(times)
        suggestions.append(_workflow_suggestion(plan, times, definition(plan)))
    return TaskResult(
        summary=_workflow_summary(plan, times),
        findings=sorted(findings, key=lambda finding: -finding.severity.rank),
        suggestions=suggestions,
        result=result,
    )


def _match(match: Match) -> dict[str, Any]:
    return {"key": match.key, "title": match.title, "score": match.score, "words": list(match.words)}


def _schedule(times: Schedule) -> dict[str, Any]:
    return {
        "critical_path": times.path,
        "p50_finish_seconds": times.p50_seconds,
        "p90_finish_seconds": times.p90_seconds,
        "steps": {
            key: {
                "earliest_start": round(timing.start, 1),
                "earliest_finish": round(timing.finish, 1),
                "slack": round(timing.slack, 1),
                **asdict(times.durations[key]),
            }
            for key, timing in times.timings.items()
        },
        "assumed_durations": times.assumed,
        "assumptions": "Seconds after the start. A worker is always free, and no step waits for approval. "
        + (f"No run is recorded yet of {', '.join(times.assumed)}: their times are assumed." if times.assumed else ""),
    }


def _workflow_suggestion(plan: Plan, times: Schedule, definition: dict[str, Any]) -> Suggestion:
    from zora_core.wording import count

    return Suggestion(
        suggestion_type="create_workflow",
        title=f"Create the workflow “{definition['name']}” ({count(len(plan.steps), 'step')})"[:200],
        body="\n".join(f"{step.agent_id} {step.task_type}: {step.title}" for step in plan.steps),
        target={"table": "workflows", "key": definition["key"]},
        suggested_value=definition,
        evidence=[
            Quote(source="goal", text=plan.goal, start=0),
            *(
                Metric(name=name, value=seconds, unit="s", formula=SIMULATION, source="agent_tasks")
                for name, seconds in (("P50 finish", times.p50_seconds), ("P90 finish", times.p90_seconds))
            ),
        ],
    )


def _workflow_summary(plan: Plan, times: Schedule | None) -> str:
    from zora_core.wording import count

    if not plan.matches:
        nearest = ", ".join(match.key for match in plan.nearest)
        return f"No template fits this goal, so there is no plan. Nearest: {nearest}; say more, or use their words."
    fitted = ", ".join(match.key for match in plan.matches)
    if not plan.steps:
        reasons = "; ".join(f"{task_type}: {reason}" for task_type, reason in plan.left_out.items())
        return f"The goal fits {fitted}, but no step is possible: {reasons}."
    if times is None:
        return f"The plan ({fitted}) is not feasible: {'; '.join(plan.problems)}."
    agents = ", ".join(dict.fromkeys(step.agent_id for step in plan.steps))
    basis = (
        "assumed times"
        if len(times.assumed) == len({(s.agent_id, s.task_type) for s in plan.steps})
        else ("partly assumed times" if times.assumed else "this tenant's own times")
    )
    left = f" Left out: {', '.join(plan.left_out)}." if plan.left_out else ""
    return (
        f"{count(len(plan.steps), 'step')} by {agents} ({fitted}); critical path of {len(times.path)}, "
        f"P50 {times.p50_seconds:.0f} s and P90 {times.p90_seconds:.0f} s by {basis}.{left}"
    )
