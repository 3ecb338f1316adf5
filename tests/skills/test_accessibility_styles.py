"""What style sheets of real kinds do to contrast, focus, sizes and names: computed right, or left open."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.skills.test_accessibility import broken, document
from zora_core.skills.accessibility import check_accessibility
from zora_core.skills.page import Page

CASES: dict[str, list[dict[str, str]]] = tomllib.loads((Path(__file__).parent / "styles.toml").read_text())


def cases(outcome: str) -> list[Any]:
    return [pytest.param(case["css"], case["body"], id=case["name"]) for case in CASES[outcome]]


def styled(css: str, body: str) -> str:
    return document(body, head=f"<title>Refills - Fernhill</title><style>{css}</style>")


def low_contrast(html: str, **sheets: str) -> list[float]:
    """The confidence of each finding of too little contrast."""
    report = check_accessibility(Page(ref="page", html=html, stylesheets=sheets), "AA")
    return [f.confidence for f in report.findings if f.rule_id == "wcag.1.4.3.contrast"]


@pytest.mark.parametrize(("css", "body"), cases("enough_contrast"))
def test_enough_contrast_or_none_that_can_be_told_is_not_reported(css: str, body: str) -> None:
    assert low_contrast(styled(css, body)) == []


@pytest.mark.parametrize(("css", "body"), cases("too_little_contrast"))
def test_too_little_contrast_is_found(css: str, body: str) -> None:
    assert low_contrast(styled(css, body)) != []


def test_a_style_sheet_that_was_not_read_lowers_the_confidence() -> None:
    html = document('<p style="color:#999">grey</p>', head='<title>a</title><link rel="stylesheet" href="s.css">')
    assert low_contrast(html) == [0.5]
    assert low_contrast(html, **{"s.css": ""}) == [0.9]
    assert low_contrast(html, **{"s.css": "@import url(more.css);"}) == [0.5]


def test_a_box_that_may_lie_behind_the_text_lowers_the_confidence() -> None:
    css = ".h{position:relative;color:#aaa}.b{position:absolute;width:50%;height:200px;background:#123}"
    assert low_contrast(styled(css, '<div class="h"><p>text</p><div class="b"></div></div>')) == [0.5]


@pytest.mark.parametrize(("css", "body"), cases("visible_focus"))
def test_a_focus_that_shows_is_not_reported(css: str, body: str) -> None:
    assert "focus-outline" not in broken(styled(css, body))


@pytest.mark.parametrize(("css", "body"), cases("hidden_focus"))
def test_a_focus_that_does_not_show_is_reported(css: str, body: str) -> None:
    assert "focus-outline" in broken(styled(css, body))


@pytest.mark.parametrize(
    ("css", "named"),
    [
        (".i::before{content:'Basket'}", True),
        (".i:after{content:'Basket'}", True),
        (".i::before{content:'\\f07a' / 'Basket'}", True),
        (".i::before{content:url(cart.svg) / 'Basket'}", True),
        (".i::before{content:attr(data-label)}", True),
        (":root{--c:'Basket'}.i::before{content:var(--c)}", True),
        (".i{&::before{content:'Basket'}}", True),
        (".i::before{content:'\\f07a'}", False),
        (".i::before{content:''}", False),
        (".i::before{content:'Basket';display:none}", False),
        (".i::before{content:'Basket'}.i.i::before{content:none}", False),
        ("@media print{.i::before{content:'Basket'}}", False),
        (".i:hover::before{content:'Basket'}", False),
        (".i::marker{content:'Basket'}", False),
    ],
)
def test_generated_content_counts_in_names(css: str, named: bool) -> None:
    page = styled(css, '<a class="i" href="/cart" data-label="Basket"></a>')
    assert ("link-name" in broken(page)) is not named


@pytest.mark.parametrize(
    ("tag", "valid"),
    [
        ("en", True), ("en-GB", True), ("EN-us", True), ("de-CH-1996", True), ("zh-Hant-TW", True),
        ("gsw", True), ("yue", True), ("mul", True), ("qaa", True), ("x-klingon", True), ("eng", False),
        ("deu", False), ("en_US", False), ("en US", False), ("english", False), ("xyq", False), ("qzz", False),
        ("en--GB", False), ("en-", False), ("e", False), ("i-default", True), ("i-klingon", True), ("art-lojban", True),
        ("en-GB-oed", True), ("zh-min-nan", True), ("sgn-BE-FR", True), ("I-Lux", True), ("X-Private-1", True),
        ("x", False), ("x-", False), ("i-none", False), ("x-ninechars", False),
    ],
)  # fmt: skip
def test_language_tags_are_those_of_the_registry(tag: str, valid: bool) -> None:
    assert ("part-lang-valid" in broken(document(f'<p lang="{tag}">words here</p>'))) is not valid


@pytest.mark.parametrize(
    ("css", "confidence"),
    [
        (".Mui-focusVisible{background-color:rgba(0,0,0,.12)}", 0.5), (".js .focus-visible{outline:2px solid}", 0.5),
        (".focus\\:ring:focus{outline:none}", 0.8), (".focus-ring:focus{color:red}", 0.8),
    ],
)  # fmt: skip
def test_a_focus_that_a_script_may_show_lowers_the_confidence(css: str, confidence: float) -> None:
    html = styled(f"button{{outline:0}} {css}", "<button>Order</button>")
    report = check_accessibility(Page(ref="page", html=html), "AA")
    assert [f.confidence for f in report.findings if f.rule_id == "wcag.2.4.7.focus-outline"] == [confidence]


@pytest.mark.parametrize("tag", ["x-klingon", "i-default", "i-lux"])
def test_a_page_in_a_language_that_no_tag_names_is_doubted(tag: str) -> None:
    html = document("<p>words here</p>").replace('lang="en"', f'lang="{tag}"')
    report = check_accessibility(Page(ref="page", html=html), "AA")
    assert [f.confidence for f in report.findings if f.rule_id == "wcag.3.1.1.page-lang-valid"] == [0.5]


@pytest.mark.parametrize(
    ("markup", "empty"),
    [
        ("<p></p>", True), ("<p> \n </p>", True), ('<p class="mb-4"></p>', True), ("<p>&nbsp;</p>", False),
        ("<p>\u202f</p>", False), ("<p><br></p>", False), ('<p id="status"></p>', False), ("<p data-total></p>", False),
        ('<p role="alert"></p>', False), ('<p aria-live="polite"></p>', False), ('<p v-text="sum"></p>', False),
        ('<next-route-announcer><p aria-live="assertive" id="__next-route-announcer__" role="alert"></p>'
         "</next-route-announcer>", False),
        ("<my-toast><p></p></my-toast>", False),
    ],
)  # fmt: skip
def test_a_paragraph_is_empty_if_nothing_will_fill_it(markup: str, empty: bool) -> None:
    assert ("paragraph-empty" in broken(document(f"{markup}<p>Words.</p>"))) is empty


@pytest.mark.parametrize(
    ("markup", "key"),
    [
        ('<label for="d" aria-expanded="false">Date</label><input id="d">', "aria-not-permitted"),
        ('<fieldset><legend aria-checked="true">Unit</legend></fieldset>', "aria-not-permitted"),
        ('<kbd aria-pressed="true">x</kbd>', "aria-not-permitted"),
        ('<iframe src="a" title="Map" aria-expanded="true"></iframe>', "aria-not-permitted"),
        ('<label for="d" aria-label="Day">Date</label><input id="d">', "aria-name-prohibited"),
        ('<figure><figcaption aria-label="x">y</figcaption></figure>', "aria-name-prohibited"),
        ('<pre aria-label="x">y</pre>', "aria-name-prohibited"),
    ],
)
def test_aria_attributes_are_reported_where_html_gives_no_role_that_takes_them(markup: str, key: str) -> None:
    assert key in broken(document(markup))


@pytest.mark.parametrize(
    "markup",
    [
        '<label for="d" aria-hidden="false" aria-describedby="h">Date</label><input id="d"><p id="h">x</p>',
        '<label aria-controls="d">Date <input id="d"></label>',
        '<input type="password" title="x" aria-required="true">',
        '<input type="date" title="x" aria-readonly="true" aria-invalid="true">',
        '<details><summary aria-expanded="false">More on soap</summary>x</details>',
        '<canvas role="img" aria-label="Sales"></canvas>',
        '<kbd role="button" tabindex="0" aria-pressed="true">x</kbd>',
    ],
)
def test_aria_attributes_are_accepted_where_html_permits_them(markup: str) -> None:
    assert not {"aria-not-permitted", "aria-name-prohibited"} & broken(document(markup))


@pytest.mark.parametrize(
    "css",
    [
        "p{color:" + "(" * 20_000 + "}",
        "p{font-size:" + "calc(" * 2_000 + "1px" + ")" * 2_000 + "}",
        ":not(:is(" * 2_000 + "p" + "))" * 2_000 + "{color:#ddd}",
        "@media all{" * 5_000 + "p{color:#ddd}",
        "@supports " + "(not " * 5_000 + "(gap:0)" + ")" * 5_000 + "{p{color:#ddd}}",
        ".a{" + "& & {" * 20 + "color:#ddd" + "}" * 21,
        "p{" + "".join(f"--v{n}:var(--v{n + 1}) var(--v{n + 1});" for n in range(60)) + "--v60:#ddd;color:var(--v0)}",
        "p{" + "".join(f"--v{n}:var(--v{(n + 1) % 2_000});" for n in range(2_000)) + "color:var(--v0)}",
        "p{background:" + ",".join(["linear-gradient(" + ",".join(["red"] * 100) + ")"] * 100) + "}",
        "p{box-shadow:" + ",".join(["inset 0 0 0 1px red"] * 5_000) + "}",
    ],
    ids=[
        "value",
        "functions",
        "selector",
        "media",
        "supports",
        "nesting",
        "variables",
        "circle",
        "gradients",
        "shadows",
    ],
)
def test_style_sheets_that_are_made_to_be_slow_end_soon(css: str) -> None:
    started = time.process_time()
    assert low_contrast(styled(css, '<p class="a">text</p>' * 100)) == []
    assert time.process_time() - started < 5
