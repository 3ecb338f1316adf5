"""Findings about a page as a plan: work items with impact, reach, effort, order and a check that proves them done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from math import log2
from typing import Any

from zora_core.data import load
from zora_core.models import Element, Evidence, Finding
from zora_core.skills.page import Page
from zora_core.skills.page.weight import grams_per_thousand_views, saved_bytes


@dataclass
class WorkItem:
    """All findings of one rule in one component (a region and a kind of element; `text` or `page` without element).

    `score` is impact x reach / effort, `effort_minutes` an estimate. `after` are the keys of items to be done first,
    each with the reason. The item is done when the check in `acceptance` reports no finding of the rule there.
    `grams_saved` is gCO2e per thousand views. `findings` are the ids of the first of them.
    """

    key: str
    rule_id: str
    component: str
    title: str
    advice: str
    severity: str
    elements: int
    impact: float
    reach: float
    effort_minutes: int
    score: float
    acceptance: dict[str, Any]
    evidence: list[Evidence]
    findings: list[str]
    fixes: dict[str, str]
    grams_saved: float = 0.0
    after: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For programs; the evidence is with the suggestion."""
        return {name: value for name, value in vars(self).items() if name not in ("evidence", "findings")}


def settings() -> dict[str, Any]:
    """The weights in `frontend_plan.toml`."""
    return load("frontend_plan")


def make_plan(page: Page, findings: Sequence[Finding], fixes: Mapping[str, str] | None = None) -> list[WorkItem]:
    """Merge `findings` by rule and component and put them in order: the best score first, but none before its `after`.

    `fixes` maps "rule selector" to markup or style that would cure the finding there.
    """
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.rule_id, component_of(page, finding)), []).append(finding)
    items = [_item(rule_id, component, group, fixes or {}) for (rule_id, component), group in groups.items()]
    items.sort(key=lambda item: (-item.score, item.key))
    _link(items)
    return _in_order(items)


def component_of(page: Page, finding: Finding) -> str:
    """The region and the kind of element a finding is about, such as `main a.button`."""
    element = next((e for e in finding.evidence if isinstance(e, Element)), None)
    if element is None:
        return "page" if all(e.kind == "metric" for e in finding.evidence) else "text"
    node = next(iter(page.document.select(element.selector)), None)
    if node is None:
        return element.selector
    rules = settings()["regions"]
    classes = node.ids("class")
    kind = f"{node.tag}.{classes[0]}" if classes else node.tag
    for above in node.ancestors():
        region = rules["roles"].get(above.get("role").lower()) or (above.tag if above.tag in rules["tags"] else None)
        if region:
            return f"{region} {kind}"
    return kind


def _item(rule_id: str, component: str, group: list[Finding], fixes: Mapping[str, str]) -> WorkItem:
    weights = settings()
    worst = max(group, key=lambda finding: finding.severity.rank)
    effort = next(e for e in weights["effort"] if any(fnmatch(rule_id, pattern) for pattern in e["rules"]))
    minutes = effort["once"] + effort["each"] * len(group)
    reach = 1 + weights["reach"]["growth"] * log2(len(group))
    if component.split(" ")[0] in weights["reach"]["shared_regions"]:
        reach *= weights["reach"]["shared_factor"]
    impact = float(weights["impact"][worst.severity.value])
    selectors = [e.selector for f in group for e in f.evidence if isinstance(e, Element)]
    evidence = [e for finding in group for e in finding.evidence]
    return WorkItem(
        key=f"{rule_id} @ {component}",
        rule_id=rule_id,
        component=component,
        title=worst.title,
        advice=worst.detail,
        severity=worst.severity.value,
        elements=len(group),
        impact=impact,
        reach=round(reach, 2),
        effort_minutes=minutes,
        score=round(impact * reach / (minutes / 60), 2),
        acceptance={
            "rule_id": rule_id,
            "component": component,
            "expected_findings": 0,
            "text": f"The next review of this page reports no {rule_id} in {component}.",
        },
        evidence=evidence[: weights["max_evidence"]],
        findings=[finding.id for finding in group[: weights["max_findings"]]],
        fixes={selector: fixes[key] for selector in selectors if fixes.get(key := f"{rule_id} {selector}")},
        grams_saved=grams_per_thousand_views(sum(saved_bytes(finding) for finding in group)),
    )


def _link(items: Sequence[WorkItem]) -> None:
    """Fill in which items come first."""
    for rule in settings()["dependencies"]:
        before = [item for item in items if any(fnmatch(item.rule_id, pattern) for pattern in rule["after"])]
        for item in items:
            if fnmatch(item.rule_id, rule["item"]):
                item.after |= {first.key: rule["reason"] for first in before if first.rule_id != item.rule_id}


def _in_order(items: Sequence[WorkItem]) -> list[WorkItem]:
    """The items by score, each after those that it waits for; the rules in the data have no cycle."""
    ordered: list[WorkItem] = []
    done: set[str] = set()
    waiting = list(items)
    while waiting:
        following = next(item for item in waiting if all(key in done for key in item.after))
        waiting.remove(following)
        ordered.append(following)
        done.add(following.key)
    return ordered
