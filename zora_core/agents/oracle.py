"""ORACLE looks ahead: proposes climate missions that fit a profile, and researches what is known about a topic."""

from __future__ import annotations

import re
import typing
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from zora_core.agents.agent import Agent, Payload, handler
from zora_core.agents.ledger import row_text
from zora_core.agents.page_payload import main_text, noted
from zora_core.errors import InvalidInput
from zora_core.models import (
    AgentId,
    ClimateMission,
    ClimateProfile,
    Evidence,
    Finding,
    Integer,
    Metric,
    Rows,
    Severity,
    Suggestion,
    Task,
    TaskResult,
    identity,
)

if typing.TYPE_CHECKING:
    from datetime import datetime

    from zora_core.agents.context import TaskContext
    from zora_core.skills.page import Page
    from zora_core.skills.planning.missions import Action, Choice, Proposal, Situation
    from zora_core.skills.research import Brief, Document

SUGGESTION_TYPE = "create_climate_missions"
# What the actions and emission factors are recorded as.
CATALOGUE = "mission catalogue"
MEMORIES = {"quick": 0, "standard": 3_000, "deep": 10_000}
JOURNAL = {"quick": 500, "standard": 2_000, "deep": 10_000}
_FILE_NAME = re.compile(
    r"(?:\.{0,2}/|~/|file:)?[^\s<>]{1,300}\.(?:txt|md|rst|html?|csv|json|log)|(?:\.{1,2}/|/)[^\s<>]{1,300}"
)


def _lower(value: object) -> object:
    return value.strip().casefold() if isinstance(value, str) else value


class ProposeNewClimateMissions(Payload):
    """Payload of propose_new_climate_missions."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"focus_area": "energy", "count": 5}]})

    focus_area: Annotated[
        Literal["general", "energy", "transport", "food", "consumption", "advocacy", "products"],
        BeforeValidator(_lower),
    ] = Field(default="general", description="A category of missions, or general for a spread over all of them.")
    count: Integer = Field(default=5, ge=1, le=50, description="Maximum number of missions to propose.")
    profile_id: str | None = Field(default=None, description="The climate profile's id (default: the primary profile).")


class ResearchTopic(Payload):
    """Payload of research_topic."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"topic": "heat pump running costs", "depth": "standard"}]}
    )

    topic: str | None = Field(default=None, max_length=2_000, description="The question (default: the task's title).")
    depth: Annotated[Literal["quick", "standard", "deep"], BeforeValidator(_lower)] = Field(
        default="standard", description="How far to look and how many passages to return."
    )
    sources: list[str] = Field(
        default_factory=list, max_length=50, description="Texts, URLs or file paths to read besides memory and journal."
    )


class Oracle(Agent):
    """The strategist and researcher."""

    agent_id = AgentId.ORACLE

    @handler("propose_new_climate_missions")
    async def propose_new_climate_missions(
        self, task: Task, payload: ProposeNewClimateMissions, ctx: TaskContext
    ) -> TaskResult:
        """Propose climate missions that fit a profile, each with its yearly saving, formula and uncertainty."""
        from zora_core import data
        from zora_core.skills.planning import missions

        profile = _find_profile(await ctx.profiles(), payload.profile_id)
        existing = await ctx.missions()
        earlier = await ctx.suggestions(limit=1000)
        taken = [
            str(s.suggested_value.get("title"))
            for s in earlier
            if s.suggestion_type == SUGGESTION_TYPE
            and s.status in ("proposed", "approved", "rejected")
            and isinstance(s.suggested_value, dict)
        ]
        ctx.cite_files("data", CATALOGUE, {f"{name}.toml": data.source(name) for name in missions.DATA})
        where = missions.situation(profile)
        choice = await ctx.compute(
            missions.propose,
            profile,
            existing,
            focus_area=payload.focus_area,
            count=payload.count,
            also_taken=taken,
        )
        return TaskResult(
            summary=_missions_sentence(choice, profile, where, payload.focus_area),
            findings=[_mission_finding(p, profile) for p in choice.proposals] or [_no_mission(choice, existing)],
            suggestions=[_mission_suggestion(p, profile) for p in choice.proposals],
            examined={
                _subject(profile): [_key(profile, action) for action in missions.suitable(profile, existing)],
            },
            result=_missions_result(choice, where, profile, payload, existing),
        )

    @handler("research_topic", timeout_seconds=300)
    async def research_topic(self, task: Task, payload: ResearchTopic, ctx: TaskContext) -> TaskResult:
        """Gather what memory, journal and sources say about a topic: citations, agreements, contradictions, gaps."""
        from zora_core.skills import research
        from zora_core.wording import count

        limits: list[str] = []
        topic = (payload.topic or task.title).strip()
        if not research.topic_terms(topic):
            raise InvalidInput(f"the topic {topic!r} contains no word to search for: describe what to research")
        documents = []
        for number, source in enumerate(payload.sources, 1):
            await ctx.progress(
                0.5 * (number - 1) / len(payload.sources), f"reading source {number} of {len(payload.sources)}"
            )
            documents.append(await _read_source(ctx, number, source, limits))
        await ctx.progress(0.5, "searching memory and journal")
        rows, order = await _read_records(ctx, topic, payload.depth)
        await ctx.progress(0.7, f"comparing {count(len(documents) + len(rows), 'document')}")
        about = {"depth": payload.depth, "given_sources": len(documents), "limits_reached": limits}
        return await ctx.compute(_research, topic, [*documents, *rows], order, ctx.now, about)


def _research(
    topic: str, documents: list[Document], order: list[str], now: datetime, about: dict[str, Any]
) -> TaskResult:
    from zora_core.skills import research

    brief = research.research(topic, documents, depth=about["depth"], now=now, database_order=order)
    return TaskResult(
        summary=noted(_research_sentence(brief), about["limits_reached"]),
        findings=research.findings(brief),
        result={**research.as_result(brief), **about},
    )


def _find_profile(profiles: list[ClimateProfile], profile_id: str | None) -> ClimateProfile | None:
    if profile_id is None:
        return profiles[0] if profiles else None
    for profile in profiles:
        if str(profile.id) == profile_id.strip().lower():
            return profile
    known = ", ".join(f"{p.name} ({p.id})" for p in profiles[:10]) or "none yet"
    raise InvalidInput(
        f"unknown profile_id {profile_id!r} (known: {known}): create the profile, or leave profile_id out"
    )


def _missions_sentence(choice: Choice, profile: ClimateProfile | None, where: Situation, focus_area: str) -> str:
    who = f"for {profile.name}" if profile else "for an average person, since there is no profile"
    if not choice.proposals:
        return f"No new mission to propose {who}: none of the {choice.examined} actions of the catalogue is left."
    total = sum(p.impact.mid for p in choice.proposals)
    area = "" if focus_area == "general" else f"{focus_area} "
    best = max(choice.proposals, key=lambda p: p.impact.mid)
    text = (
        f"{len(choice.proposals)} {area}missions proposed {who}, together about {total:.0f} kgCO2e a year; "
        f"the largest is “{best.action.title}” ({best.impact.mid:.0f} kg)."
    )
    return f"{text} {len(where.assumptions)} assumptions were made." if where.assumptions else text


def _mission_evidence(proposal: Proposal, profile: ClimateProfile | None) -> list[Evidence]:
    action, impact = proposal.action, proposal.impact
    figures = [
        ("saving", round(impact.mid, 1), "kgCO2e/year", action.formula),
        ("saving, low", round(impact.low, 1), "kgCO2e/year", "root sum of squares"),
        ("saving, high", round(impact.high, 1), "kgCO2e/year", "root sum of squares"),
        *((name, estimate.mid, estimate.unit, estimate.text) for name, estimate in proposal.inputs.items()),
    ]
    evidence: list[Evidence] = [
        Metric(name=name, value=value, unit=unit, formula=formula, source=CATALOGUE)
        for name, value, unit, formula in figures
    ]
    if profile is not None:
        evidence.append(Rows(table="climate_profiles", ids=[str(profile.id)]))
    return evidence


def _mission_finding(proposal: Proposal, profile: ClimateProfile | None) -> Finding:
    from zora_core.skills.planning.missions import explain

    action, impact = proposal.action, proposal.impact
    return Finding(
        rule_id=f"missions.{action.id}",
        title=f"{action.title}: about {impact.mid:.0f} kgCO2e a year ({max(0.0, impact.low):.0f} to {impact.high:.0f})",
        detail=explain(proposal),
        severity=Severity.INFO,
        confidence=round(min(0.95, action.feasibility**0.5), 2),
        source="statistic",
        evidence=_mission_evidence(proposal, profile),
    )


def _no_mission(choice: Choice, existing: list[ClimateMission]) -> Finding:
    reasons = "; ".join(f"{count}: {reason}" for reason, count in choice.left_out.items())
    evidence: list[Evidence] = [
        Metric(
            name="actions examined", value=choice.examined, unit="actions", formula="the catalogue", source=CATALOGUE
        )
    ]
    if existing:
        evidence.append(Rows(table="climate_missions", ids=[str(m.id) for m in existing[:200]]))
    return Finding(
        rule_id="missions.nothing",
        title="No new mission to propose",
        detail=f"Left out: {reasons}.",
        severity=Severity.INFO,
        confidence=1.0,
        evidence=evidence,
    )


def _mission_suggestion(proposal: Proposal, profile: ClimateProfile | None) -> Suggestion:
    from zora_core.skills.planning.missions import explain

    action = proposal.action
    profile_id = str(profile.id) if profile else None
    return Suggestion(
        suggestion_type=SUGGESTION_TYPE,
        title=f"New mission: {action.title}",
        body=explain(proposal),
        target={"table": "climate_missions", "profile_id": profile_id},
        current_value=None,
        suggested_value={
            "profile_id": profile_id,
            "title": action.title,
            "description": explain(proposal),
            "category": action.category,
            "status": "planned",
            "estimated_impact_kgco2": round(proposal.impact.mid, 1),
            "due_date": None,
            "verified": False,
        },
        findings=[_mission_finding(proposal, profile).id],
        evidence=_mission_evidence(proposal, profile),
        risk_level="low",
        key=_key(profile, action),
        subject=_subject(profile),
    )


def _subject(profile: ClimateProfile | None) -> str:
    return f"profile {profile.id if profile else 'none'}"


def _key(profile: ClimateProfile | None, action: Action) -> str:
    return identity(_subject(profile), action.id)


def _missions_result(
    choice: Choice,
    where: Situation,
    profile: ClimateProfile | None,
    payload: ProposeNewClimateMissions,
    existing: list[ClimateMission],
) -> dict[str, Any]:
    return {
        "profile_id": str(profile.id) if profile else None,
        "profile_type": where.profile_type,
        "country": where.country,
        "understood_as": dict(where.facts),
        "assumptions": list(where.assumptions),
        "focus_area": payload.focus_area,
        "existing_missions": len(existing),
        "actions_examined": choice.examined,
        "left_out": choice.left_out,
        "missions": [_mission_entry(proposal) for proposal in choice.proposals],
    }


def _mission_entry(proposal: Proposal) -> dict[str, Any]:
    action, impact = proposal.action, proposal.impact
    return {
        "id": action.id,
        "title": action.title,
        "category": action.category,
        "kgco2e_per_year": {"low": round(impact.low, 1), "mid": round(impact.mid, 1), "high": round(impact.high, 1)},
        "formula": action.formula,
        "inputs": {
            name: {"low": e.low, "mid": e.mid, "high": e.high, "unit": e.unit, "source": e.source, "year": e.year}
            for name, e in proposal.inputs.items()
        },
        "feasibility": action.feasibility,
        "novelty": proposal.novelty,
        "score": proposal.score,
        "what_would_make_this_wrong": action.wrong,
        "most_uncertain": [{"input": name, "share": round(share, 3)} for name, share in impact.drivers[:3]],
        "notes": list(proposal.notes),
    }


async def _read_records(ctx: TaskContext, topic: str, depth: str) -> tuple[list[Document], list[str]]:
    """Memories and journal entries as documents, and the memories' ids as the database ranked them.

    The records of runs are left out: they would answer with the questions asked before.
    """
    from zora_core.skills.research import Document

    found = [m for m in await ctx.search(topic, limit=100) if "agent_task" not in m.tags]
    memories = {m.id: m for m in found}
    if MEMORIES[depth]:
        memories |= {m.id: m for m in await ctx.memories(limit=MEMORIES[depth]) if "agent_task" not in m.tags}
    entries = [e for e in await ctx.journal(limit=JOURNAL[depth]) if e.category not in ("agent_action", "autonomy")]
    documents = [
        Document(f"memory_events/{m.id}", m.content, "memory_events", str(m.id), m.created_at)
        for m in sorted(memories.values(), key=lambda m: (m.created_at, str(m.id)))
    ]
    documents += [
        Document(f"{table}/{e.id}", row_text(table, e), table, str(e.id), e.created_at)
        for table, e in (("journal_entries", entry) for entry in entries)
    ]
    return documents, [str(m.id) for m in found]


async def _read_source(ctx: TaskContext, number: int, source: str, limits: list[str]) -> Document:
    """A given source as a document: a URL is fetched, a path is read, anything else is the text itself.

    Adds the limits that a page was beyond.
    """
    from zora_core.skills.research import Document

    stripped = source.strip()
    if not stripped:
        raise InvalidInput(f"sources[{number - 1}] is empty: give a text, a URL or a path")
    if re.match(r"https?://\S+$", stripped):
        return await _page_document(ctx, await ctx.page(url=stripped), number, limits)
    if _FILE_NAME.fullmatch(stripped):
        name = stripped.removeprefix("file://").removeprefix("file:")
        if name.lower().endswith((".html", ".htm")):
            return await _page_document(ctx, await ctx.page(path=name), number, limits)
        data = await ctx.file(name, ref=stripped)
        if b"\0" in data:
            raise InvalidInput(f"sources[{number - 1}] is not a text: {name!r} holds NUL characters")
        return Document(stripped, data.decode("utf-8", "replace"))
    ref = f"sources[{number - 1}]"
    ctx.cite("payload", ref, source)
    return Document(ref, source)


async def _page_document(ctx: TaskContext, page: Page, number: int, limits: list[str]) -> Document:
    from zora_core.skills.research import Document

    text, beyond = await ctx.compute(main_text, page)
    limits += [f"source {number}: {limit}" for limit in beyond]
    return Document(page.ref, text)


def _research_sentence(brief: Brief) -> str:
    read = f"{brief.passages} passages of {brief.documents} documents"
    if brief.verdict == "not enough evidence":
        return f"Not enough evidence on “{brief.topic}” in {read}. {brief.gaps[0] if brief.gaps else ''}".strip()
    documents = len({hit.document.ref for hit in brief.hits})
    text = (
        f"{len(brief.hits)} passages of {documents} documents speak of “{brief.topic}” (out of {read}); "
        f"{len(brief.agreements)} agreements, {len(brief.disagreements)} contradictions, {len(brief.gaps)} gaps."
    )
    return f"{text} It all rests on one document." if brief.verdict == "thin" else text
