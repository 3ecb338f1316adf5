"""SAM reviews pages: can everyone use them, and does what they say about the climate hold."""

from __future__ import annotations

import typing
from collections import defaultdict
from dataclasses import asdict
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from zora_core.agents.agent import Agent, Payload, handler
from zora_core.agents.evidence import select
from zora_core.agents.page_payload import (
    NAMED,
    ONE_PAGE,
    MarkupName,
    PagePayload,
    markup_result,
    name_needs_markup,
    noted,
    page_key,
    page_subject,
    recognised,
    refuse_empty,
)
from zora_core.errors import InvalidInput
from zora_core.models import AgentId, Element, Evidence, Finding, Quote, Suggestion, Task, TaskResult, folded

if typing.TYPE_CHECKING:
    from zora_core.agents.context import TaskContext
    from zora_core.agents.page_assets import Assets
    from zora_core.skills.accessibility import AccessibilityReport
    from zora_core.skills.claims import ClaimsReport
    from zora_core.skills.page import Page
    from zora_core.skills.page.footprint import Footprint
    from zora_core.skills.text.readability import Readability

STORED_FINDINGS = 200
STORED_CLAIMS = 100
# More than a handful of proposals is not read; the rest stands in the findings.
MAX_SUGGESTIONS = 8
# Maximum number of findings in a suggestion about a fault that a page repeats.
NAMED_FINDINGS = 20


class ReviewClimatePage(PagePayload):
    """Payload of review_climate_page."""

    model_config = ConfigDict(json_schema_extra={**ONE_PAGE, "examples": [{"page": "climate"}]})

    page: str = Field(default="climate", description="Key of a page in frontend_configs; not used with url or html.")


class ReviewAccessibility(Payload):
    """Payload of review_accessibility: either `target` or `html`."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in ("target", "html")],
            **NAMED,
            "examples": [{"target": "dashboard", "level": "AA"}],
        }
    )

    target: str | None = Field(default=None, min_length=1, description="A URL, a page key or a file.")
    html: str | None = Field(default=None, min_length=1, description="The page's markup itself.")
    name: MarkupName = None
    level: Literal["A", "AA", "AAA"] = Field(default="AA", description="WCAG 2.2 conformance level to check against.")

    _named = model_validator(mode="after")(name_needs_markup)

    @model_validator(mode="after")
    def _one_page(self) -> ReviewAccessibility:
        if (self.target is None) == (self.html is None):
            raise ValueError("give either target or html")
        return self


class Sam(Agent):
    """The reviewer of pages."""

    agent_id = AgentId.SAM

    @handler("review_climate_page", timeout_seconds=180)
    async def review_climate_page(self, task: Task, payload: ReviewClimatePage, ctx: TaskContext) -> TaskResult:
        """Check a page's climate claims, their sources and dates, its readability, structure and carbon footprint."""
        from zora_core.agents.page_assets import with_assets

        await ctx.progress(0, "reading the page")
        page = await payload.read(ctx)
        await ctx.progress(0.2, "reading what the page loads")
        assets = await with_assets(page, ctx)
        await ctx.progress(0.6, "checking the claims")
        return await ctx.compute(_climate_result, assets, ctx.now.year)

    @handler("review_accessibility", timeout_seconds=180)
    async def review_accessibility(self, task: Task, payload: ReviewAccessibility, ctx: TaskContext) -> TaskResult:
        """Check a page against WCAG 2.2 by static rules keyed to success criteria and ACT rules."""
        from zora_core.agents.page_assets import with_assets

        await ctx.progress(0, "reading the page")
        page = await self._target(payload, ctx)
        refuse_empty(page)
        page = await recognised(page, payload.name, ctx)
        await ctx.progress(0.2, "reading its style sheets")
        assets = await with_assets(page, ctx, only=frozenset({"stylesheet"}))
        await ctx.progress(0.6, "checking the rules")
        return await ctx.compute(_accessibility_result, assets, payload.level)

    async def _target(self, payload: ReviewAccessibility, ctx: TaskContext) -> Page:
        """The page that `target` names: an address, a page key, or a file."""
        if payload.html is not None:
            return await ctx.page(html=payload.html)
        target = payload.target or ""
        if target.lower().startswith(("http://", "https://")):
            return await ctx.page(url=target)
        keys = await ctx.page_keys()
        if target in keys:
            return await ctx.page(page=target)
        try:
            return await _file_page(target, ctx)
        except InvalidInput as error:
            known = ", ".join(keys) or "none yet"
            raise InvalidInput(
                f"{target!r} is neither a URL nor a page key (known: {known}) and no readable file: {error}"
            ) from error


async def _file_page(target: str, ctx: TaskContext) -> Page:
    page = await ctx.page(path=target)
    if "<" not in page.html:
        raise InvalidInput(f"{target!r} holds no markup")
    return page


def _accessibility_result(assets: Assets, level: str) -> TaskResult:
    from zora_core.skills.accessibility import check_accessibility, rules

    page = assets.page
    report = check_accessibility(page, level)
    by_id = {rule.id: rule for rule in rules().values()}
    broken = [
        {
            "rule_id": rule_id,
            "title": by_id[rule_id].title,
            "criterion": by_id[rule_id].criterion or None,
            "level": by_id[rule_id].level,
            "act_rules": list(by_id[rule_id].act),
            "severity": by_id[rule_id].severity.value,
            "count": count,
        }
        for rule_id, count in report.by_rule.items()
    ]
    suggestions = _accessibility_suggestions(page, report, level)
    return TaskResult(
        examined={}
        if report.truncated or page.limits
        else {page_subject(page, level): [page_key(page, level, f.rule_id) for f in report.findings]},
        summary=noted(_accessibility_summary(page, report, level), page.limits),
        findings=select(report.findings, suggestions, STORED_FINDINGS),
        suggestions=suggestions,
        result={
            "page": page.ref,
            "level": level,
            "engine": "static",
            "elements": report.elements,
            "rules_checked": report.rules_checked,
            "findings": len(report.findings),
            "findings_stored": min(len(report.findings), STORED_FINDINGS),
            "by_severity": report.by_severity,
            "rules_broken": broken,
            "stylesheets_read": assets.read,
            "unread": assets.unread,
            "truncated": report.truncated,
            "limits_reached": list(page.limits),
            **markup_result(page),
            "limits": "Markup and styles only: no script ran, nothing was laid out; a person must check the rest.",
        },
    )


def _accessibility_summary(page: Page, report: AccessibilityReport, level: str) -> str:
    from zora_core.wording import count

    elements, rules = count(report.elements, "element"), count(report.rules_checked, "rule")
    examined = f"{elements} of {page.ref}, {rules}, level {level}"
    if not report.findings:
        return f"No accessibility fault found ({examined}); what only a person can judge is unchecked."
    severities = ", ".join(f"{number} {severity}" for severity, number in report.by_severity.items())
    worst = max(report.findings, key=lambda f: (f.severity.rank, report.by_rule[f.rule_id]))
    times = report.by_rule[worst.rule_id]
    total = count(len(report.findings), "accessibility finding")
    return f"{total} ({severities}; {examined}). Worst: {worst.title} ({times}x)."


def _accessibility_suggestions(page: Page, report: AccessibilityReport, level: str) -> list[Suggestion]:
    """One suggestion per broken rule, most severe first, with up to five of its elements."""
    from zora_core.wording import count

    groups: dict[str, list[tuple[Finding, str]]] = defaultdict(list)
    for finding, fix in zip(report.findings, report.fixes, strict=True):
        groups[finding.rule_id].append((finding, fix))
    suggestions = []
    for rule_id, group in list(groups.items())[:MAX_SUGGESTIONS]:
        elements = [e for finding, _ in group[:5] for e in finding.evidence if isinstance(e, Element)]
        fixes = {e.selector: fix for e, (_, fix) in zip(elements, group, strict=False) if fix}
        evidence: list[Evidence] = list(elements)
        suggestions.append(
            Suggestion(
                suggestion_type="advice",
                title=f"{group[0][0].title}: fix {count(len(group), 'element')}",
                body=group[0][0].detail,
                target={"page": page.ref, "rule_id": rule_id},
                current_value={e.selector: e.html for e in elements},
                suggested_value=fixes or None,
                findings=[finding.id for finding, _ in group[:NAMED_FINDINGS]],
                evidence=evidence,
                key=page_key(page, level, rule_id),
                subject=page_subject(page, level),
            )
        )
    return suggestions


def _climate_result(assets: Assets, year: int) -> TaskResult:
    from zora_core.skills.claims import check_text
    from zora_core.skills.page.climate_page import has_source, review, structure
    from zora_core.skills.page.footprint import footprint
    from zora_core.skills.text.readability import readability

    page = assets.page
    report = check_text(page.text, source=page.ref)
    reading = readability(page.main_text)
    weight = footprint(page.transfer_bytes or page.html_bytes)
    sourced = [has_source(page, claim) for claim in report.claims]
    findings = [*report.findings, *review(page, report.claims, reading, weight, year=year, complete=assets.complete)]
    findings.sort(key=lambda f: -f.severity.rank)
    claims = [
        {"text": c.text, "start": c.start, "kind": c.kind, "verdict": c.verdict, "source_nearby": near}
        for c, near in list(zip(report.claims, sourced, strict=True))[:STORED_CLAIMS]
    ]
    suggestions, examined = _claim_suggestions(page, report, sourced, findings)
    return TaskResult(
        examined={} if page.limits else examined,
        summary=noted(_climate_summary(page, report, sum(sourced), weight, assets.complete), page.limits),
        findings=select(findings, suggestions, STORED_FINDINGS),
        suggestions=suggestions,
        result={
            "page": page.ref,
            "title": page.title,
            "limits_reached": list(page.limits),
            **markup_result(page),
            "sentences": report.sentences,
            "claims": claims,
            "claims_total": len(report.claims),
            "claims_with_source_nearby": sum(sourced),
            "verdicts": _verdicts(report),
            "findings": len(findings),
            "findings_stored": min(len(findings), STORED_FINDINGS),
            "readability": _reading_result(reading),
            "structure": asdict(structure(page)),
            "footprint": {
                "transfer_bytes": weight.transfer_bytes,
                "complete": assets.complete,
                "resources_read": assets.read,
                "unread": assets.unread,
                "grams_co2e_per_view": round(weight.grams_per_view, 5),
                "grade": weight.grade,
                "formula": weight.formula,
                "source": weight.source,
            },
        },
    )


def _verdicts(report: ClaimsReport) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for claim in report.claims:
        counts[claim.verdict] += 1
    return dict(counts)


def _reading_result(reading: Readability) -> dict[str, Any]:
    return {
        "words": reading.words,
        "sentences": reading.sentences,
        "words_per_sentence": round(reading.words_per_sentence, 1),
        "long_word_share": round(reading.long_word_share, 3),
        "lix": None if reading.lix is None else round(reading.lix, 1),
        "level": reading.level,
        "long_sentences": len(reading.long_sentences),
    }


def _climate_summary(page: Page, report: ClaimsReport, sourced: int, weight: Footprint, complete: bool) -> str:
    from zora_core.skills.claims.wording import not_judged, verdicts
    from zora_core.wording import count

    at_least = "" if complete else "at least "
    view = f"{at_least}{weight.grams_per_view:.3f} gCO2e per view (grade {weight.grade})"
    if report.not_judged:
        view = f"{view}. {not_judged(report.not_judged)}".removesuffix(".")
    if not report.claims:
        judged = report.sentences - sum(part.sentences for part in report.not_judged)
        return f"No climate claim in {count(judged, 'sentence')} of {page.ref}; {view}."
    found = f"{count(len(report.claims), 'climate claim')} in {count(report.sentences, 'sentence')} of {page.ref}"
    return f"{found}: {verdicts(_verdicts(report))}; {sourced} with a source nearby; {view}."


def _claim_suggestions(
    page: Page, report: ClaimsReport, sourced: list[bool], findings: list[Finding]
) -> tuple[list[Suggestion], dict[str, list[str]]]:
    """One suggestion per claim that a rule objects to, worst first: what is missing, how to reword; all keys found."""
    from zora_core.skills.page.climate_page import missing_parts, pattern
    from zora_core.skills.page.dom import shorten

    judged = [
        (c, near) for c, near in zip(report.claims, sourced, strict=True) if c.verdict != "supported" and c.findings
    ]
    judged.sort(key=lambda pair: (-pair[0].findings[0].severity.rank, pair[0].start))
    what = {"prohibited": "Remove or reword"}
    unsourced = {
        quote.start: finding.id
        for finding in findings
        for quote in finding.evidence
        if finding.rule_id == "page.source-missing" and isinstance(quote, Quote)
    }
    subject = page_subject(page)
    suggestions = [
        Suggestion(
            suggestion_type="advice",
            title=f"{what.get(claim.verdict, 'Substantiate')}: “{shorten(claim.text, 70)}”",
            body=" ".join(claim.remedies) or claim.findings[0].detail,
            target={"page": page.ref, "claim": claim.text[:500], "verdict": claim.verdict},
            current_value=claim.text,
            suggested_value={"missing": missing_parts(claim, source_nearby=near), "pattern": pattern(claim)},
            findings=[*(f.id for f in claim.findings), *([unsourced[claim.start]] if claim.start in unsourced else [])],
            evidence=[Quote(source=page.ref, text=claim.text, start=claim.start)],
            risk_level="medium" if claim.verdict == "prohibited" else "low",
            key=page_key(page, folded(claim.text)),
            subject=subject,
        )
        for claim, near in judged[:MAX_SUGGESTIONS]
    ]
    return suggestions, {subject: [page_key(page, folded(claim.text)) for claim, _ in judged]}
