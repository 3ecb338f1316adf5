"""The accessibility engine: each rule finds its fault and leaves the cured markup alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.skills.accessibility import check_accessibility, rules
from zora_core.skills.accessibility.words import guess_language
from zora_core.skills.page import Page

SENTENCE = "The quick brown fox jumps over the lazy dog and then it sleeps."
ARABIC = "هذا نص طويل مكتوب باللغة العربية"
GERMAN = "Das ist ein Satz, der nicht in der Sprache der Seite steht und den wir finden."


def document(body: str, *, head: str = "<title>Refills - Fernhill</title>", lang: str = "en") -> str:
    return f'<!DOCTYPE html><html lang="{lang}"><head>{head}</head><body>{body}</body></html>'


def broken(html: str, level: str = "AAA", **sheets: str) -> set[str]:
    """The keys of the rules that a page breaks."""
    by_id = {rule.id: rule.key for rule in rules().values()}
    report = check_accessibility(Page(ref="page", html=html, stylesheets=sheets), level)
    return {by_id[finding.rule_id] for finding in report.findings}


CASES: list[tuple[str, str, str]] = [
    ("image-alt", '<img src="a.png">', '<img src="a.png" alt="A jar">'),
    ("image-alt", '<img src="a.png" role="none" tabindex="0">', '<img src="a.png" role="none">'),
    ("image-alt", '<img src="a.png" alt="" aria-labelledby="x">', '<img src="a.png" alt="">'),
    ("svg-name", '<svg role="img"><circle r="4"/></svg>', '<svg role="img"><title>Sun</title><circle r="4"/></svg>'),
    ("role-img-name", '<div role="img"></div>', '<div role="img" aria-label="Sun"></div>'),
    ("object-name", '<object data="a.mp4"></object>', '<object data="a.mp4" title="Film"></object>'),
    ("alt-uninformative", '<img src="a" alt="IMG_0012.jpg">', '<img src="a" alt="Version 2.0">'),
    ("alt-empty-with-title", '<img src="a" alt="" title="Oats">', '<img src="a" alt="Oats" title="Oats">'),
    ("image-button-name", '<input type="image" src="a">', '<input type="image" src="a" alt="Find">'),
    ("button-name", "<button></button>", "<button>Go on</button>"),
    ("button-name", '<button value="x"><img src="a" alt=""></button>', '<button><img src="a" alt="Find"></button>'),
    ("button-name", '<input type="button">', '<input type="submit">'),
    ("link-name", '<a href="/x"></a>', '<a href="/x" aria-label="Basket"></a>'),
    ("link-name", '<a href="/x"><span aria-hidden="true">x</span></a>', '<a href="/x"><span>Basket</span></a>'),
    ("field-name", "<p>Name</p><input>", "<label>Name <input></label>"),
    ("field-name", '<input aria-labelledby="none">', '<p id="n">Name</p><input aria-labelledby="n">'),
    (
        "field-name",
        '<label for="a">Name</label><div role="textbox" id="a"></div>',
        '<div role="textbox" aria-label="N"></div>',
    ),
    ("field-name", '<input type="date">', '<label for="d">Day</label><input type="date" id="d">'),
    (
        "menuitem-name",
        '<div role="menu"><i role="menuitem"></i></div>',
        '<div role="menu"><i role="menuitem">Cut</i></div>',
    ),
    ("iframe-name", '<iframe src="a"></iframe>', '<iframe src="a" title="Map"></iframe>'),
    ("summary-name", "<details><summary></summary>x</details>", "<details><summary>More on soap</summary>x</details>"),
    ("label-in-name", '<button aria-label="Search">Find</button>', '<button aria-label="Find oats">Find</button>'),
    ("label-in-name", '<a href="#" aria-label="just ice">justice</a>', '<button aria-label="Close">X</button>'),
    ("placeholder-label", '<input placeholder="Name">', '<label>Name <input placeholder="Ada"></label>'),
    ("label-empty", '<label for="a"></label><input id="a" title="A">', '<label for="a">A</label><input id="a">'),
    ("label-without-field", '<label for="b">A</label>', '<label for="a">A</label><input id="a">'),
    (
        "labels-repeated",
        "<form><label>Name <input></label><label>Name <input></label></form>",
        "<form><fieldset><legend>You</legend><label>Name <input></label></fieldset>"
        "<fieldset><legend>Them</legend><label>Name <input></label></fieldset></form>",
    ),
    (
        "fieldset-missing",
        '<label><input type="radio" name="u"> kWh</label><label><input type="radio" name="u"> euros</label>',
        '<fieldset><legend>Unit</legend><label><input type="radio" name="u"> kWh</label>'
        '<label><input type="radio" name="u"> euros</label></fieldset>',
    ),
    ("legend-empty", "<fieldset><legend></legend></fieldset>", "<fieldset><legend>Unit</legend></fieldset>"),
    ("autocomplete-valid", '<input title="E" autocomplete="e-mail">', '<input title="E" autocomplete="work email">'),
    (
        "autocomplete-valid",
        '<input title="E" autocomplete="home name">',
        '<input title="E" autocomplete="section-a shipping name">',
    ),
    ("aria-role-valid", '<div role="buton">x</div>', '<div role="future button" tabindex="0">x</div>'),
    ("aria-attribute-defined", '<div role="switch" aria-checked="true" aria-cheked="true">x</div>', "<div>x</div>"),
    (
        "aria-value-valid",
        '<div role="button" aria-pressed="yes">x</div>',
        '<div role="button" aria-pressed="mixed">x</div>',
    ),
    (
        "aria-reference-missing",
        '<input title="a" aria-describedby="no">',
        '<p id="h">h</p><input title="a" aria-describedby="h">',
    ),
    ("aria-required-state", '<div role="checkbox">x</div>', '<input type="checkbox" role="switch" title="x">'),
    ("aria-required-state", '<div role="heading">x</div>', '<h2 role="heading">x</h2>'),
    ("aria-not-permitted", '<button aria-checked="true">x</button>', '<button aria-expanded="true">x</button>'),
    ("aria-name-prohibited", '<div aria-label="x">y</div>', '<div role="group" aria-label="x">y</div>'),
    ("aria-context", '<div role="tab">x</div>', '<div role="tablist"><div><div role="tab">x</div></div></div>'),
    (
        "aria-context",
        '<div role="option">x</div>',
        '<div role="listbox" aria-owns="o"></div><div role="option" id="o">x</div>',
    ),
    ("aria-owned", '<div role="list"><p>x</p></div>', '<div role="list"><div role="listitem">x</div></div>'),
    (
        "aria-owned",
        '<ul role="tablist"><li>x</li></ul>',
        '<ul role="tablist"><li role="none"><b role="tab">x</b></li></ul>',
    ),
    (
        "aria-hidden-focus",
        '<div aria-hidden="true"><a href="#">x</a></div>',
        '<div aria-hidden="true"><a href="#" tabindex="-1">x</a></div>',
    ),
    ("nested-interactive", '<button>a <a href="#">b</a></button>', "<button>a <b>b</b></button>"),
    (
        "iframe-tab-order",
        '<iframe title="a" tabindex="-1" srcdoc="<button>b</button>"></iframe>',
        '<iframe title="a" tabindex="-1" srcdoc="b"></iframe>',
    ),
    ("click-without-keyboard", '<span onclick="go()">Menu</span>', '<button onclick="go()">Menu</button>'),
    ("duplicate-id", '<label for="a">A</label><input id="a"><p id="a">x</p>', '<p id="a">x</p><p id="a">y</p>'),
    ("heading-empty", "<h2></h2>", '<h2><img src="a" alt="Oats"></h2>'),
    ("heading-order", "<h1>a</h1><h3>b</h3>", "<h1>a</h1><h2>b</h2><h3>c</h3><h2>d</h2>"),
    ("heading-first", "<h2>a</h2>", "<h1>a</h1>"),
    ("heading-by-formatting", f"<p><b>Soap</b></p><p>{SENTENCE}</p>", f"<h2>Soap</h2><p>{SENTENCE}</p>"),
    ("main-repeated", "<main>a</main><main>b</main>", "<main>a</main><main hidden>b</main>"),
    (
        "skip-link-broken",
        '<a href="#content">Skip to content</a>',
        '<a href="#content">Skip to content</a><main id="content"></main>',
    ),
    ("tabindex-positive", '<a href="#" tabindex="2">soap</a>', '<a href="#" tabindex="0">soap</a>'),
    ("link-text-generic", '<p><a href="/x">Click here</a></p>', '<p>The oats of 2025: <a href="/x">click here</a></p>'),
    (
        "link-text-vague",
        '<p>Oats. <a href="/x">Read more</a></p>',
        '<p>Oats. <a href="/x">Read more about oats</a></p>',
    ),
    (
        "links-same-text",
        '<a href="/a">Soap</a>, <a href="/b">soap</a>',
        '<a href="/a">Soap</a>, <a href="/a/">soap</a>',
    ),
    (
        "links-adjacent",
        '<a href="/a"><img src="a" alt="Oats"></a> <a href="/a">Oats</a>',
        '<a href="/a"><img src="a" alt=""> Oats</a>',
    ),
    ("link-file-unannounced", '<a href="/r.pdf">The report</a>', '<a href="/r.pdf">The report (PDF)</a>'),
    (
        "table-headers-refer",
        '<table><tr><th id="h">a<td headers="g">b</table>',
        '<table><tr><th id="h">a<td headers="h">b</table>',
    ),
    ("table-no-headers", "<table><tr><td>a<td>b<tr><td>1<td>2</table>", "<table><tr><th>a<th>b<tr><td>1<td>2</table>"),
    ("table-no-headers", "<table><tr><td>a<td>b</table>", '<table role="presentation"><tr><td>a<td>b</table>'),
    ("table-only-headers", "<table><tr><th>a<th>b</table>", "<table><tr><th>a<td>b</table>"),
    ("table-nested", "<table><tr><th>a<td><table><tr><th>a<td>b</table></table>", "<table><tr><th>a<td>b</table>"),
    ("list-item-alone", "<div><li>x</li></div>", "<ul><li>x</li></ul>"),
    ("list-children", "<ul><div>x</div></ul>", "<ul><li>x</li><template></template></ul>"),
    ("list-by-characters", "<p>- oats<br>- soap<br>- oil</p>", "<p>- oats</p>"),
    ("obsolete-element", "<center>x</center>", "<div>x</div>"),
    ("moving-text", "<marquee>x</marquee>", "<p>x</p>"),
    ("contrast", '<p style="color: #999">grey text</p>', '<p style="color: #666">grey text</p>'),
    (
        "contrast",
        '<div style="background: #000"><p style="color: #333">dark</p></div>',
        '<div style="background: #000"><p style="color: #ccc">light</p></div>',
    ),
    ("contrast", '<p style="opacity: .5">faint</p>', '<p style="opacity: .9">firm</p>'),
    ("contrast", '<p style="color: #888">small</p>', '<p style="color: #888; font-size: 24px">large</p>'),
    (
        "contrast",
        '<p style="color: #fff; background: linear-gradient(#ccc, #eee)">x</p>',
        '<p style="color: #fff; background: url(night.jpg)">x</p>',
    ),
    ("contrast", '<button style="color: #aaa">x</button>', '<button style="color: #aaa" disabled>x</button>'),
    ("contrast-enhanced", '<p style="color: #666">grey</p>', '<p style="color: #444">grey</p>'),
    (
        "letter-spacing",
        f'<p style="letter-spacing: .05em !important">{SENTENCE}</p>',
        f'<p style="letter-spacing: .05em">{SENTENCE}</p>',
    ),
    (
        "word-spacing",
        f'<p style="word-spacing: 1px !important">{SENTENCE}</p>',
        f'<p style="word-spacing: 4px !important">{SENTENCE}</p>',
    ),
    (
        "line-height",
        f'<p style="line-height: 1.2 !important">{SENTENCE}</p>',
        f'<p style="line-height: 150% !important">{SENTENCE}</p>',
    ),
    (
        "focus-outline",
        "<style>a:focus { outline: none }</style><a href='#'>soap</a>",
        "<style>a:focus { outline: none; border: 1px solid }</style><a href='#'>soap</a>",
    ),
    ("text-tiny", '<p style="font-size: 8px">tiny text</p>', "<p>text</p>"),
    ("text-capitals", "<p>THIS IS WRITTEN ENTIRELY IN CAPITAL LETTERS</p>", "<p>NASA and ESA</p>"),
    ("autoplay-audio", '<video autoplay src="a.mp4"></video>', '<video autoplay muted src="a.mp4"></video>'),
    (
        "video-alternative",
        '<div><video controls src="a.mp4"></video></div>',
        '<video controls src="a.mp4"><track kind="captions" src="a.vtt"></video>',
    ),
    ("part-lang-valid", '<p lang="english">x</p>', '<p lang="cy">x</p>'),
    ("part-lang-match", f'<p lang="fr">{GERMAN}</p>', f'<p lang="de">{GERMAN}</p>'),
    (
        "part-lang-missing",
        f"<p>{SENTENCE} {SENTENCE} {SENTENCE}</p><p>{GERMAN}</p>",
        f'<p>{SENTENCE}</p><p lang="de">{GERMAN}</p>',
    ),
    ("text-direction", f'<p lang="ar">{ARABIC}</p>', f'<p lang="ar" dir="rtl">{ARABIC}</p>'),
]


@pytest.mark.parametrize(("key", "fault", "cured"), CASES)
def test_a_fault_is_found_and_its_cure_is_not(key: str, fault: str, cured: str) -> None:
    assert key in broken(document(fault))
    assert key not in broken(document(cured))


HEADS = [
    ("page-title", "", "<title>Refills</title>"),
    ("page-title", "<title> </title>", "<title>Refills</title>"),
    ("page-title-generic", "<title>Untitled</title>", "<title>Untitled paintings - Museum</title>"),
    ("meta-refresh", '<meta http-equiv="refresh" content="30">', '<meta http-equiv="refresh" content="0; url=/x">'),
    ("meta-refresh-any", '<meta http-equiv="refresh" content="90000">', '<meta http-equiv="refresh" content="x">'),
    (
        "viewport-zoom",
        '<meta name="viewport" content="user-scalable=no">',
        '<meta name="viewport" content="width=device-width">',
    ),
    (
        "viewport-zoom",
        '<meta name="viewport" content="maximum-scale=1.5">',
        '<meta name="viewport" content="maximum-scale=5">',
    ),
    (
        "orientation-locked",
        "<style>@media (orientation: portrait) { body { transform: rotate(90deg) } }</style>",
        "<style>@media (orientation: portrait) { body { color: navy } }</style>",
    ),
]


@pytest.mark.parametrize(("key", "fault", "cured"), HEADS)
def test_faults_of_the_head_are_found(key: str, fault: str, cured: str) -> None:
    assert key in broken(document("<p>x</p>", head=fault))
    assert key not in broken(document("<p>x</p>", head=cured))


@pytest.mark.parametrize(
    ("lang", "key"),
    [
        ("", "page-lang"),
        ("english", "page-lang-valid"),
        ("i-lux", "page-lang-valid"),
        ("de", "page-lang-match"),
        ("en-GB", None),
    ],
)
def test_the_language_of_the_page_is_checked(lang: str, key: str | None) -> None:
    about_language = {
        k for k in broken(document(f"<p>{SENTENCE} {SENTENCE}</p>", lang=lang)) if k.startswith("page-lang")
    }
    assert about_language == ({key} if key else set())


def test_a_clean_page_has_no_findings() -> None:
    clean = """<a href="#main">Skip to content</a><nav aria-label="Main"><ul><li><a href="/">Start</a></li></ul></nav>
    <main id="main"><h1>Refills</h1><p>Bring a jar.</p><img src="a.png" alt="A jar of oats">
    <form><label>Name <input autocomplete="name"></label><button>Send</button></form></main>"""
    report = check_accessibility(Page(ref="clean", html=document(clean)), "AAA")
    assert report.findings == []
    assert report.elements > 10
    assert report.rules_checked > 60


@pytest.mark.parametrize(
    "hidden",
    ["hidden", 'style="display: none"', 'style="visibility: hidden"', 'aria-hidden="true"', "inert"],
)
def test_what_is_hidden_needs_no_name(hidden: str) -> None:
    assert "image-alt" not in broken(document(f'<div {hidden}><img src="a.png"></div>'))


def test_linked_style_sheets_take_part() -> None:
    html = document('<p class="pale">text</p>', head='<title>a</title><link rel="stylesheet" href="s.css">')
    assert "contrast" not in broken(html)
    assert "contrast" in broken(html, **{"s.css": ".pale { color: #bbb }"})


def test_the_level_decides_what_counts() -> None:
    html = document('<p style="color: #999">grey</p><img src="a">')
    assert "contrast" not in broken(html, "A")
    assert "contrast" in broken(html, "AA")
    assert "contrast-enhanced" not in broken(html, "AA")
    assert "image-alt" in broken(html, "A")


def test_findings_point_at_their_element_and_come_most_severe_first() -> None:
    page = Page(ref="shop", html=document('<p></p><h1>a</h1><h3>b</h3><main><img src="a.png"></main>'))
    report = check_accessibility(page)
    severities = [finding.severity.rank for finding in report.findings]
    assert severities == sorted(severities, reverse=True)
    (image,) = [f for f in report.findings if f.rule_id == "wcag.1.1.1.image-alt"]
    (evidence,) = image.evidence
    assert evidence.kind == "element"
    assert (evidence.source, evidence.selector) == ("shop", "body > main > img")
    assert page.tree.css_first(evidence.selector).attributes["src"] == "a.png"
    assert "1.1.1" in image.detail
    assert "23a2a8" in image.detail


def test_a_contrast_finding_names_a_colour_that_passes() -> None:
    report = check_accessibility(Page(ref="x", html=document('<p style="color: #999">grey</p>')))
    (fix,) = [fix for finding, fix in zip(report.findings, report.fixes, strict=True) if "contrast" in finding.rule_id]
    assert "contrast" not in broken(document(f'<p style="{fix}">grey</p>'), "AA")


@given(st.text(alphabet="<>/aihmgpu \"'=:-{}#;", max_size=300))
def test_any_markup_can_be_checked(markup: str) -> None:
    report = check_accessibility(Page(ref="any", html=markup), "AAA")
    assert len(report.findings) == len(report.fixes)


@pytest.mark.parametrize(
    "css", ["p {", "@media {{{", "}", "p { color: }", "p { color: var(--", "@import url(", "a:not( { }"]
)
def test_broken_style_sheets_do_no_harm(css: str) -> None:
    assert "image-alt" in broken(document(f'<style>{css}</style><img src="a"><p>x</p>'))


def test_every_rule_is_complete_and_unique() -> None:
    ids = [rule.id for rule in rules().values()]
    assert len(ids) == len(set(ids))
    for rule in rules().values():
        assert (rule.criterion == "") == (rule.level == "practice")
        assert rule.title
        assert rule.advice.endswith((".", ")"))


def test_languages_are_told_apart_only_when_the_words_settle_it() -> None:
    assert guess_language(SENTENCE + " " + SENTENCE) == "en"
    assert guess_language(GERMAN) == "de"
    assert guess_language("Fernhill Refill") is None
    assert guess_language("") is None
