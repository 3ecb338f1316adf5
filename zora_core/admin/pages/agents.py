"""The six agents: what each is for, how it does, what it is doing, and the switch that stops it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from markupsafe import Markup
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.responses import Response

from zora_core.admin import charts
from zora_core.admin.live import MAX_WATCHED, lanes
from zora_core.admin.site import Notice, Pages, Visit
from zora_core.api.policies import PauseCreate
from zora_core.errors import InvalidInput
from zora_core.models import AgentId, Role

if TYPE_CHECKING:
    from zora_core.agents.agent import TaskType

pages = Pages()

WEEKS = 12
HERE = "/admin/agents"
ALL = "all"  # agents of the tenant, as the API calls them


@dataclass(frozen=True)
class Acceptance:
    """What became of an agent's suggestions in the last weeks."""

    approved: int = 0
    rejected: int = 0
    undone: int = 0
    expired: int = 0
    trend: Markup = field(default_factory=Markup)

    @property
    def decided(self) -> int:
        """How many of them a person, or a policy, decided."""
        return self.approved + self.rejected


@dataclass(frozen=True)
class Card:
    """What the page shows of an agent."""

    agent: AgentId
    task_types: Sequence[TaskType]
    figures: Mapping[str, Any] | None
    """As `agent_figures` has them; None when it has finished nothing."""
    acceptance: Acceptance
    running: Sequence[Mapping[str, Any]]
    pause: Mapping[str, Any] | None
    """Its own pause; that of all agents stands beside."""

    @property
    def finished(self) -> int:
        """How many finished tasks the figures are of."""
        return self.figures["completed"] + self.figures["failed"] if self.figures else 0


@pages.get("/agents")
async def index(visit: Visit) -> Response:
    """The agents."""
    return await _show(visit)


async def _show(visit: Visit, *, typed: Mapping[str, str] | None = None, problem: str = "") -> Response:
    """The page; `typed` and `problem` are what was sent of a pause that could not be, and what is wrong with it."""
    board, figures, weeks, pauses = await asyncio.gather(
        visit.value("agent_board", watched=[]),
        visit.call("agent_figures"),
        visit.call("suggestion_weeks", weeks=WEEKS),
        visit.call("list_agent_pauses"),
    )
    running = [task["id"] for task in board["running"]]
    if running:
        board = await visit.value("agent_board", watched=[UUID(str(task)) for task in running[:MAX_WATCHED]])
    paused = {row["agent_id"]: {**row, "by": await _name(visit, row["paused_by"])} for row in pauses}
    by_agent = {row["agent_id"]: row for row in figures}
    accepted = acceptances(weeks)
    doing = lanes(board)
    cards = [
        Card(
            agent,
            [kind for kind in visit.caller.api.registry if kind.agent_id == agent],
            by_agent.get(agent),
            accepted.get(agent, Acceptance()),
            doing[agent],
            paused.get(agent),
        )
        for agent in AgentId
    ]
    return await visit.page(
        "agents.html",
        status=400 if problem else 200,
        board=board,
        cards=cards,
        paused_all=paused.get("*"),
        weeks=WEEKS,
        not_shown=board["running_total"] - len(board["running"]),
        typed=typed or {},
        problem=problem,
    )


async def _name(visit: Visit, user_id: Any) -> str | None:
    return str(await visit.value("user_name", user_id=user_id)) if user_id else None


def acceptances(weeks: Iterable[Mapping[str, Any]]) -> dict[str, Acceptance]:
    """The weeks of `suggestion_weeks` by agent, with the share of those decided that were approved, week by week."""
    found: dict[str, dict[date, Mapping[str, Any]]] = defaultdict(dict)
    for row in weeks:
        found[row["agent_id"]][row["week"]] = row
    last = max((week for rows in found.values() for week in rows), default=None)
    if last is None:
        return {}
    span = [last - timedelta(weeks=n) for n in reversed(range(WEEKS))]
    return {
        agent: Acceptance(
            **{name: sum(row[name] for row in rows.values()) for name in ("approved", "rejected", "undone", "expired")},
            trend=charts.spark([_share(rows.get(week)) for week in span], title=f"{agent}: acceptance by week"),
        )
        for agent, rows in found.items()
    }


def _share(row: Mapping[str, Any] | None) -> float | None:
    decided = row["approved"] + row["rejected"] if row else 0
    return row["approved"] / decided if row and decided else None


@pages.post("/agents", Role.BRAND_ADMIN, person=True)
async def pause(visit: Visit) -> Response:
    """Stop all claims and effects of an agent, or of all; running tasks finish."""
    named, reason = visit.form.get("agent_id", ""), visit.form.text("reason")
    if named not in (ALL, *AgentId):
        raise InvalidInput(f"unknown agent {named[:100]!r}")
    try:
        body = {"agent_id": None if named == ALL else named, "reason": reason}
        wanted = PauseCreate.model_validate_json(to_json(body))
    except ValidationError as error:
        return await _show(visit, typed={named: reason or ""}, problem=_problem(error))
    agent_id = wanted.agent_id.value if wanted.agent_id else None
    await visit.call("pause_agents", agent_id=agent_id, reason=wanted.reason, user_id=visit.user_id)
    said = f"{agent_id} is paused" if agent_id else "All agents are paused"
    return visit.back(Notice(f"{said}: no task starts and no suggestion is applied until it is resumed."), to=HERE)


def _problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    if problem["type"] == "too_long":  # of a text, whatever Pydantic calls its parts
        return f"must have at most {problem['ctx']['max_length']:,} characters"
    return str(problem["msg"])


@pages.post("/agents/resume", Role.BRAND_ADMIN, person=True)
async def resume(visit: Visit) -> Response:
    """Lift the pause of an agent, or that of all."""
    named = visit.form.get("agent_id", "")
    if named not in (ALL, *AgentId):
        raise InvalidInput(f"unknown agent {named[:100]!r}")
    left = await visit.call("resume_agents", agent_id=None if named == ALL else named, user_id=visit.user_id)
    still = ", ".join("all agents" if row["agent_id"] == "*" else row["agent_id"] for row in left)
    said = "The pause of all agents is lifted." if named == ALL else f"{named} goes on."
    return visit.back(Notice(f"{said} Still paused: {still}." if still else said), to=HERE)
