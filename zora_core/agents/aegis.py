"""AEGIS, the guardian: reviews what the agents did and checks climate claims for greenwashing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from zora_core.agents.agent import Agent, Payload, handler
from zora_core.agents.evidence import select
from zora_core.agents.page_payload import (
    NAMED,
    MarkupName,
    markup_result,
    name_needs_markup,
    noted,
    page_key,
    page_subject,
    recognised,
    visible_text,
)
from zora_core.errors import InvalidInput
from zora_core.models import AgentId, Evidence, Integer, Quote, Suggestion, Task, TaskResult, folded, identity

if TYPE_CHECKING:
    from zora_core.agents.context import TaskContext
    from zora_core.skills.claims import Claim, ClaimsReport, SourceText
    from zora_core.skills.page import Page
    from zora_core.skills.risk import RiskReport, TaskVerdict

MAX_FINDINGS = 200
MAX_LISTED = 100
# More than a handful of proposals is not read; the rest stands in the findings.
MAX_SUGGESTIONS = 8
MAX_EVIDENCE = 10
# Maximum number of findings in a suggestion about a task that breaks one rule many times.
NAMED_FINDINGS = 20
TASK_LIMIT = 5_000
JOURNAL_LIMIT = 20_000
SUGGESTION_LIMIT = 2_000

Text = Annotated[str, Field(min_length=1, max_length=100_000)]


class CheckClimateClaims(Payload):
    """Exactly one of `claim`, `claims`, `url` and `html` is required."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [name], "properties": {name: {"type": kind}}}
                for name, kind in (("claim", "string"), ("claims", "array"), ("url", "string"), ("html", "string"))
            ],
            **NAMED,
            "examples": [
                {
                    "claims": [
                        "Our refills are 100% climate neutral.",
                        "We cut packaging waste by 38% between 2021 and 2024 (scope 3, audited by Ravel & Co).",
                    ]
                }
            ],
        }
    )

    claim: Text | None = Field(default=None, description="One claim, in its exact words.")
    claims: list[Text] | None = Field(default=None, min_length=1, max_length=500, description="Several claims.")
    url: str | None = Field(default=None, description="A page whose text is searched for claims.")
    html: str | None = Field(default=None, description="A page given as HTML.")
    name: MarkupName = None
    sources: list[str] = Field(
        default_factory=list, max_length=50, description="Texts, or URLs of pages, that should support the claims."
    )
    jurisdictions: list[Literal["EU", "UK", "US"]] = Field(
        default=["EU", "UK", "US"], min_length=1, description="Jurisdictions whose rules apply."
    )

    _named = model_validator(mode="after")(name_needs_markup)

    @model_validator(mode="after")
    def _exactly_one_input(self) -> Self:
        given = [name for name in ("claim", "claims", "url", "html") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of claim, claims, url and html (given: {', '.join(given) or 'none of them'})"
            )
        return self


class ReviewRecentAgentTasks(Payload):
    """Payload of review_recent_agent_tasks."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"hours": 24}]})

    hours: Integer = Field(
        default=24, ge=1, le=24 * 90, description="Review tasks created or updated in the last N hours (1–2160)."
    )


class Aegis(Agent):
    """Safety and ethics: reviews the agents' work and claims about the climate."""

    agent_id = AgentId.AEGIS

    @handler("check_climate_claims", timeout_seconds=300)
    async def check_climate_claims(self, task: Task, payload: CheckClimateClaims, ctx: TaskContext) -> TaskResult:
        """Check environmental claims in English against EU, UK and US rules and against given sources."""
        await ctx.progress(0, "reading what is claimed")
        texts, page, limits = await _texts(payload, ctx)
        sources = await _sources(payload, ctx, limits)
        return await ctx.compute(_check_claims, texts, payload, sources, page, limits)

    @handler("review_recent_agent_tasks", timeout_seconds=300)
    async def review_recent_agent_tasks(
        self, task: Task, payload: ReviewRecentAgentTasks, ctx: TaskContext
    ) -> TaskResult:
        """Review recent tasks for integrity, permission, secrets, injected instructions and tainted flow."""
        from zora_core.skills.risk import review_tasks
        from zora_core.wording import count

        since = ctx.now - timedelta(hours=payload.hours)
        await ctx.progress(0, "reading tasks, journal and suggestions")
        recent = await ctx.tasks(since=since, limit=TASK_LIMIT)
        # As of the time of claiming: a task that has moved since would be compared with another moment's journal.
        tasks = [t for t in recent if t.id != task.id and (t.updated_at or t.created_at) <= ctx.now]
        journal = await ctx.journal(since=since, until=ctx.now + timedelta.resolution, limit=JOURNAL_LIMIT)
        suggestions = await ctx.suggestions(limit=SUGGESTION_LIMIT)
        # At the limit the journal begins later than asked, and what lies before may have been recorded.
        journal_since = journal[0].created_at if len(journal) >= JOURNAL_LIMIT else since
        await ctx.progress(0.4, f"reviewing {count(len(tasks), 'task')}")
        report = await ctx.compute(review_tasks, tasks, journal, suggestions, now=ctx.now, journal_since=journal_since)
        examined = {"tasks": len(tasks), "journal_entries": len(journal), "suggestions": len(suggestions)}
        kinds = {str(t.id): (t.agent_id, t.task_type, str(t.status)) for t in tasks}
        result = _review_result(report, payload.hours, examined, kinds, complete=len(recent) < TASK_LIMIT)
        blocked = {task.task_id for task in report.flagged if task.verdict == "block"}
        held = {str(s.target.get("id")) for s in suggestions if s.agent_id == self.agent_id}
        result.examined = {one: [identity("hold", one)] if one in blocked else [] for one in held & set(kinds)}
        return result


def _check_claims(
    texts: dict[str, str], payload: CheckClimateClaims, sources: list[SourceText], page: Page | None, limits: list[str]
) -> TaskResult:
    from zora_core.child import progress
    from zora_core.skills.claims import check_text

    reports = {}
    for number, (ref, text) in enumerate(texts.items()):
        progress(0.4 + 0.6 * number / len(texts), f"checking text {number + 1} of {len(texts)}")
        reports[ref] = check_text(
            text,
            source=ref,
            jurisdictions=tuple(payload.jurisdictions),
            sources=sources,
            assume_claims=payload.claim is not None or payload.claims is not None,
        )
    return _claims_result(reports, payload, len(sources), page, limits)


async def _texts(payload: CheckClimateClaims, ctx: TaskContext) -> tuple[dict[str, str], Page | None, list[str]]:
    """What is to be checked, by the name under which it is quoted; and the page that it is all of, if any.

    Last come the limits that the page was beyond.
    """
    if payload.url is not None or payload.html is not None:
        page = await ctx.page(url=payload.url, html=payload.html)
        text, limits = await ctx.compute(visible_text, page)
        if not text:
            raise InvalidInput(f"{page.ref} has no visible text to check: give the claims themselves as `claims`")
        return {page.ref: text}, await recognised(page, payload.name, ctx), list(limits)
    claims = payload.claims if payload.claims is not None else [payload.claim or ""]
    ctx.cite("payload", "claims", "\n".join(claims), count=len(claims), unit="claims")
    texts = {f"claims[{index}]" if payload.claims is not None else "claim": text for index, text in enumerate(claims)}
    for ref, text in texts.items():
        ctx.derive(ref, text, source="claims")
    return texts, None, []


async def _sources(payload: CheckClimateClaims, ctx: TaskContext, limits: list[str]) -> list[SourceText]:
    """The given sources as texts; a source that is a URL is fetched. Adds the limits that its page was beyond."""
    from zora_core.skills.claims import SourceText

    texts = []
    for index, source in enumerate(payload.sources):
        await ctx.progress(
            0.1 + 0.3 * index / len(payload.sources), f"reading source {index + 1} of {len(payload.sources)}"
        )
        if source.startswith(("http://", "https://")) and not any(c.isspace() for c in source.strip()):
            page = await ctx.page(url=source.strip())
            text, beyond = await ctx.compute(visible_text, page)
            limits += [f"source {index + 1}: {limit}" for limit in beyond]
            texts.append(SourceText(page.ref, text))
        else:
            ref = f"sources[{index}]"
            ctx.cite("payload", ref, source)
            texts.append(SourceText(ref, source))
    return texts


def _claims_result(
    reports: dict[str, ClaimsReport], payload: CheckClimateClaims, sources: int, page: Page | None, limits: list[str]
) -> TaskResult:
    from zora_core.skills.claims import wording
    from zora_core.wording import count

    claims = [(ref, claim) for ref, report in reports.items() for claim in report.claims]
    sentences = sum(report.sentences for report in reports.values())
    findings = sorted(
        (f for report in reports.values() for f in report.findings), key=lambda f: (-f.severity.rank, -f.confidence)
    )
    verdicts = {verdict: sum(claim.verdict == verdict for _, claim in claims) for verdict in wording.VERDICTS}
    not_judged = [part for report in reports.values() for part in report.not_judged]
    judged = sentences - sum(part.sentences for part in not_judged)
    where = count(judged, "sentence") + (f", {count(sources, 'source')}" if sources else "")
    if claims:
        summary = (
            f"{count(len(claims), 'environmental claim')} under {', '.join(payload.jurisdictions)} rules: "
            f"{wording.verdicts(verdicts)}. Examined: {where}."
        )
    elif judged or not not_judged:
        summary = f"No environmental claim found. Examined: {where}."
    else:
        summary = "No English text to examine."
    if not_judged:
        summary = f"{summary} {wording.not_judged(not_judged)}"
    suggestions = _rewordings(claims, page)
    return TaskResult(
        examined={page_subject(page): [_key(claim, page) for _, claim in claims if claim.remedies]}
        if page is not None and not limits
        else {},
        summary=noted(summary, limits),
        findings=select(findings, suggestions, MAX_FINDINGS),
        suggestions=suggestions,
        result={
            "limits_reached": limits,
            **(markup_result(page) if page is not None else {}),
            "verdicts": verdicts,
            "claims": [_claim_row(ref, claim) for ref, claim in claims[:MAX_LISTED]],
            "claims_total": len(claims),
            "findings_total": len(findings),
            "sentences": sentences,
            "sentences_judged": judged,
            "not_judged": [
                {"language": part.language, "sentences": part.sentences, "terms": list(part.terms)}
                for part in not_judged[:MAX_LISTED]
            ],
            "sources": sources,
            "jurisdictions": list(payload.jurisdictions),
        },
    )


def _claim_row(ref: str, claim: Claim) -> dict[str, object]:
    facts = claim.facts
    return {
        "source": ref,
        "text": claim.text[:500],
        "start": claim.start,
        "kind": claim.kind,
        "verdict": claim.verdict,
        "confidence": claim.confidence,
        "evidence": claim.evidence,
        "rule_ids": [finding.rule_id for finding in claim.findings],
        "quantities": [{"text": q.text, "value": q.value, "dimension": q.dimension} for q in facts.quantities],
        "baseline_year": facts.baseline_year,
        "target_year": facts.target_year,
        "scopes": list(facts.scopes),
        "metrics": sorted(facts.metrics),
    }


def _key(claim: Claim, page: Page | None) -> str:
    """The key of a claim: on a page that page's own, so that mending one page closes nothing of another."""
    words = folded(claim.text)
    return identity(words) if page is None else page_key(page, words)


def _rewordings(claims: Sequence[tuple[str, Claim]], page: Page | None) -> list[Suggestion]:
    """For the worst claims that something would cure, what that is."""
    from zora_core.skills.claims.wording import VERDICTS

    order = list(VERDICTS)
    curable = [(ref, claim) for ref, claim in claims if claim.remedies]
    curable.sort(key=lambda pair: (order.index(pair[1].verdict), -pair[1].confidence))
    return [_rewording(ref, claim, page) for ref, claim in curable[:MAX_SUGGESTIONS]]


def _rewording(ref: str, claim: Claim, page: Page | None) -> Suggestion:
    kind, verdict = claim.kind.removesuffix("_claim").replace("_", " "), claim.verdict.replace("_", " ")
    return Suggestion(
        suggestion_type="advice",
        title=f"Reword or substantiate a {kind} claim ({verdict})",
        body=" ".join(claim.remedies),
        target={"source": ref, "claim": claim.text[:500]},
        current_value=claim.text[:500],
        suggested_value=claim.remedies[0],
        findings=[finding.id for finding in claim.findings],
        evidence=[Quote(source=ref, text=claim.text, start=claim.start)],
        risk_level="high" if claim.verdict == "prohibited" else "medium",
        key=_key(claim, page),
        subject=page_subject(page) if page is not None else "",
    )


def _review_result(
    report: RiskReport, hours: int, examined: dict[str, int], kinds: dict[str, tuple[str, str, str]], *, complete: bool
) -> TaskResult:
    from zora_core.wording import count

    rules = Counter(finding.rule_id for finding in report.findings)
    where = (
        f"{count(examined['tasks'], 'task')}, {count(examined['journal_entries'], 'journal entry', 'journal entries')} "
        f"and {count(examined['suggestions'], 'suggestion')} of the last {hours} h"
        f"{'' if complete else ' (the newest only: there are more tasks)'}"
    )
    if report.findings:
        block = report.verdicts["block"]
        summary = (
            f"{count(block, 'task')} to block, {report.verdicts['needs_human']} for a person to look at, "
            f"{count(report.verdicts['pass'], 'passes', 'pass')} ({count(len(report.findings), 'finding')}). "
            f"Examined: {where}."
        )
    else:
        summary = f"Nothing to object to. Examined: {where}."
    flagged = []
    for verdict in report.flagged[:MAX_LISTED]:
        agent_id, task_type, status = kinds.get(verdict.task_id, ("", "", "outside the window"))
        flagged.append(
            {
                "task_id": verdict.task_id,
                "agent_id": agent_id,
                "task_type": task_type,
                "status": status,
                "verdict": verdict.verdict,
                "rule_ids": list(verdict.rule_ids),
            }
        )
    suggestions = _holds(report)
    return TaskResult(
        summary=summary,
        findings=select(report.findings, suggestions, MAX_FINDINGS),
        suggestions=suggestions,
        result={
            "hours": hours,
            "examined": examined,
            "complete": complete,
            "verdicts": dict(report.verdicts),
            "flagged": flagged,
            "flagged_total": len(report.flagged),
            "findings_total": len(report.findings),
            "rules": dict(rules),
        },
    )


def _pieces(task: TaskVerdict) -> list[Evidence]:
    """The first pieces of evidence against a task, each once."""
    pieces: list[Evidence] = []
    for piece in (piece for finding in task.findings for piece in finding.evidence):
        if len(pieces) < MAX_EVIDENCE and piece not in pieces:
            pieces.append(piece)
    return pieces


def _holds(report: RiskReport) -> list[Suggestion]:
    """For each task to block, the worst first, what a person should decide."""
    return [
        Suggestion(
            suggestion_type="advice",
            title="Do not use what came of a task until a person has looked",
            body=f"The review found: {', '.join(task.rule_ids)}.",
            target={"table": "agent_tasks", "id": task.task_id},
            current_value="in use",
            suggested_value="set aside its suggestions, and rotate any credential it shows",
            findings=[finding.id for finding in task.findings[:NAMED_FINDINGS]],
            evidence=_pieces(task),
            risk_level="high",
            key=identity("hold", task.task_id),
            subject=task.task_id,
        )
        for task in report.flagged[:MAX_SUGGESTIONS]
        if task.verdict == "block"
    ]
