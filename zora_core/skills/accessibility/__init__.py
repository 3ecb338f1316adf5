"""Accessibility of a page, from its markup and style sheets alone: rules keyed to WCAG 2.2 and the W3C ACT rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from zora_core.models import Element as ElementEvidence
from zora_core.models import Finding
from zora_core.skills.accessibility import (
    aria_checks,
    document_checks,
    focus_checks,
    forms_checks,
    names_checks,
    structure_checks,
    visual_checks,
)
from zora_core.skills.accessibility.catalogue import LEVELS, Rule, Violation, rules
from zora_core.skills.accessibility.view import View
from zora_core.skills.page import Page
from zora_core.skills.page.dom import shorten

__all__ = ["AccessibilityReport", "Rule", "check_accessibility", "rules"]

CHECKS: tuple[Callable[[View], Iterator[Violation]], ...] = (
    names_checks.images,
    names_checks.image_words,
    names_checks.controls,
    names_checks.frames,
    names_checks.label_in_name,
    forms_checks.labels,
    forms_checks.repeated_labels,
    forms_checks.groups,
    forms_checks.hints,
    forms_checks.autofill,
    aria_checks.attributes,
    aria_checks.required_states,
    aria_checks.context,
    aria_checks.owned,
    aria_checks.keyboard,
    aria_checks.identifiers,
    document_checks.title,
    document_checks.language,
    document_checks.direction,
    document_checks.headings,
    document_checks.landmarks,
    document_checks.meta,
    document_checks.orientation,
    structure_checks.link_texts,
    structure_checks.link_targets,
    structure_checks.tables,
    structure_checks.lists,
    structure_checks.formatting,
    visual_checks.contrast,
    visual_checks.spacing,
    visual_checks.text_size,
    focus_checks.focus,
    visual_checks.media,
)
_HTML_LENGTH = 240


@dataclass(frozen=True)
class AccessibilityReport:
    """What was found on one page, most severe first, and what was looked at.

    `fixes` runs beside `findings`: markup or style that would cure each, or an empty string.
    """

    findings: list[Finding]
    fixes: list[str]
    elements: int
    rules_checked: int
    truncated: bool

    @cached_property
    def by_rule(self) -> dict[str, int]:
        """How many elements break each rule, by rule id."""
        return dict(Counter(f.rule_id for f in self.findings).most_common())

    @cached_property
    def by_severity(self) -> dict[str, int]:
        """How many findings have each severity."""
        return dict(Counter(f.severity.value for f in self.findings))


def check_accessibility(page: Page, level: str = "AA") -> AccessibilityReport:
    """Check a page against the rules up to a WCAG level, and good practice.

    `level` is "A", "AA" or "AAA". One finding per rule and element, with a selector that finds the element.
    """
    wanted = {*LEVELS[: LEVELS.index(level) + 1], "practice"}
    applied = {key: rule for key, rule in rules().items() if rule.level in wanted}
    view = View(page)
    found: dict[tuple[str, int], Violation] = {}
    for check in CHECKS:
        for violation in check(view):
            key = (violation.rule, violation.element.index)
            if violation.rule in applied and key not in found:
                found[key] = violation
    violations = sorted(found.values(), key=lambda v: (-applied[v.rule].severity.rank, v.element.index))
    return AccessibilityReport(
        findings=[_finding(applied[v.rule], v, view) for v in violations],
        fixes=[v.fix for v in violations],
        elements=len(view.document.elements),
        rules_checked=len(applied),
        truncated=view.document.truncated,
    )


def _finding(rule: Rule, violation: Violation, view: View) -> Finding:
    evidence = ElementEvidence(
        source=view.page.ref,
        selector=view.document.selector(violation.element),
        html=shorten(violation.element.markup, _HTML_LENGTH),
    )
    return Finding(
        rule_id=rule.id,
        title=rule.title,
        detail=f"{violation.detail} {rule.advice} {rule.basis}",
        severity=rule.severity,
        confidence=rule.confidence if violation.confidence is None else violation.confidence,
        evidence=[evidence],
    )
