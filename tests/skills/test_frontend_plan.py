from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.models import Element, Finding, Metric, Quote, Severity
from zora_core.skills.accessibility import check_accessibility, rules
from zora_core.skills.page import Page
from zora_core.skills.page.footprint import footprint
from zora_core.skills.page.weight import grams_per_thousand_views, saved_bytes, weight_findings
from zora_core.skills.planning.frontend_plan import make_plan, settings

SITE = Path(__file__).parents[2] / "examples" / "site"


def finding(rule_id: str, selector: str = "", severity: Severity = Severity.MEDIUM) -> Finding:
    evidence = (
        Element(source="p", selector=selector) if selector else Quote(source="p", text=f"{rule_id} text", start=0)
    )
    return Finding(rule_id=rule_id, title=rule_id, severity=severity, confidence=1, evidence=[evidence])


PAGE = Page(
    ref="p",
    html="""<body><nav><a class="tab" href="/a"></a><a class="tab" href="/b"></a></nav>
    <main><a href="/c"></a><p>text</p></main></body>""",
)


def test_findings_of_one_rule_in_one_component_are_one_item() -> None:
    found = [finding("wcag.2.4.4.link-name", f"nav > a:nth-of-type({n})") for n in (1, 2)]
    plan = make_plan(PAGE, [*found, finding("wcag.2.4.4.link-name", "main > a")])
    assert {(item.component, item.elements) for item in plan} == {("nav a.tab", 2), ("main a", 1)}


def test_what_every_page_shares_and_what_is_severe_comes_first() -> None:
    plan = make_plan(
        PAGE,
        [
            finding("wcag.2.4.4.link-name", "main > a"),
            finding("wcag.2.4.4.link-name", "nav > a:nth-of-type(1)"),
            finding("wcag.1.1.1.image-alt", "main > p", Severity.CRITICAL),
        ],
    )
    assert [item.component for item in plan] == ["main p", "nav a.tab", "main a"]
    assert plan[1].reach == 2 * plan[2].reach


def test_effort_grows_with_the_elements_and_lowers_the_score() -> None:
    (one,) = make_plan(PAGE, [finding("wcag.1.1.1.image-alt", "main > p")])
    (many,) = make_plan(PAGE, [finding("wcag.1.1.1.image-alt", "main > p") for _ in range(10)])
    assert many.effort_minutes > one.effort_minutes
    assert many.score < one.score


def test_an_item_comes_after_those_it_depends_on_even_with_the_better_score() -> None:
    order = finding("practice.heading-order", "main > p", Severity.CRITICAL)
    first = finding("practice.heading-first", "main > p", Severity.INFO)
    plan = make_plan(PAGE, [order, first])
    assert [item.rule_id for item in plan] == ["practice.heading-first", "practice.heading-order"]
    assert plan[1].after == {"practice.heading-first @ main p": "levels are counted once the headings are right"}


def test_every_item_says_how_its_end_is_proven() -> None:
    (item,) = make_plan(PAGE, [finding("claims.eu.generic-claim")])
    assert item.component == "text"
    assert item.acceptance["expected_findings"] == 0
    assert item.acceptance["rule_id"] in item.acceptance["text"]


def test_known_fixes_go_with_the_item() -> None:
    found = finding("wcag.3.1.1.page-lang", "body")
    (item,) = make_plan(PAGE, [found], {"wcag.3.1.1.page-lang body": '<html lang="en">', "other body": "x"})
    assert item.fixes == {"body": '<html lang="en">'}


def test_no_findings_make_no_plan() -> None:
    assert make_plan(PAGE, []) == []


@given(st.lists(st.sampled_from([rule.id for rule in rules().values()] + ["page.reading-hard", "claims.eu.x"])))
def test_any_findings_can_be_put_in_order(rule_ids: list[str]) -> None:
    plan = make_plan(PAGE, [finding(rule_id, "main > p") for rule_id in rule_ids])
    place = {item.key: number for number, item in enumerate(plan)}
    assert sum(item.elements for item in plan) == len(rule_ids)
    assert all(place[before] < place[item.key] for item in plan for before in item.after)


@pytest.mark.parametrize("name", ["home", "dashboard", "products"])
def test_doing_the_first_items_makes_exactly_their_findings_go(name: str) -> None:
    """The closed loop: the offending elements of the top items are taken out, and the page is reviewed again."""
    page = Page(ref=name, html=(SITE / f"{name}.html").read_text())
    plan = make_plan(page, check_accessibility(page).findings)
    top = [item for item in plan if not item.component.startswith(("html", "head", "body"))][:3]
    assert len(top) == 3
    tree = page.tree
    nodes = [tree.css_first(e.selector) for item in top for e in item.evidence if isinstance(e, Element)]
    for node in nodes:
        node.decompose()
    html = tree.html
    assert html is not None
    again = Page(ref=name, html=html)
    left = {item.key for item in make_plan(again, check_accessibility(again).findings)}
    assert not {item.key for item in top} & left


def test_comments_and_spaces_cost_what_compression_leaves_of_them() -> None:
    noise = "".join(f"<!-- note {n * 7919 % 10007} {n * 104729 % 99991} -->\n" for n in range(800))
    page = Page(ref="p", html=f"<body>{noise}<p>text</p></body>")
    (found,) = weight_findings(page)
    assert found.rule_id == "page.weight.comments-and-space"
    assert 1000 < saved_bytes(found) < len(noise)
    assert weight_findings(Page(ref="p", html="<body><p>text</p></body>")) == []


def test_an_image_inside_the_markup_is_named_with_the_third_that_base64_adds() -> None:
    (found,) = weight_findings(Page(ref="p", html=f'<body><img src="data:image/png;base64,{"QUJD" * 2000}"></body>'))
    assert found.rule_id == "page.weight.data-uri"
    assert saved_bytes(found) == pytest.approx(8000 / 4, rel=0.01)


def test_a_heavy_page_is_told_how_far_it_is_from_the_target_grade() -> None:
    (found,) = weight_findings(Page(ref="p", html="<p>x", transfer_bytes=5_000_000))
    left = 5_000_000 - saved_bytes(found)
    assert footprint(left).grade == settings()["weight"]["target_grade"]
    (item,) = make_plan(PAGE, [found])
    assert item.grams_saved == grams_per_thousand_views(saved_bytes(found))
    metric = found.evidence[1]
    assert isinstance(metric, Metric)
    assert metric.value == pytest.approx(0.741)


def test_a_gigabyte_costs_what_the_model_says() -> None:
    assert grams_per_thousand_views(1_000_000_000) == pytest.approx(148_200)
