"""Pages: text with offsets, blocks, resources, selectors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zora_core.skills.page import Page
from zora_core.skills.page.dom import MAX_DEPTH, Element

ARTICLE = """<html lang="en"><head><title> Our  shop </title><style>p { color: red }</style></head><body>
<nav><a href="/">Start</a></nav>
<main><h1>Refills</h1><p>One <b>jar</b> at a time.<br>Since 2019.</p><ul><li>Oats<li>Soap</ul><p hidden>no</p></main>
<script>var x = "never text"</script></body></html>"""


def assert_only(page: Page, element: Element) -> None:
    """The element's selector finds it alone, by the CSS engine and by the shorter way."""
    selector = page.document.selector(element)
    assert len(page.tree.css(selector)) == 1
    assert page.document.select(selector) == [element]
    assert set(page.document.select(f"{selector}, {selector}")) == {element}


def test_text_has_one_block_per_paragraph_without_code_and_hidden_parts() -> None:
    page = Page(ref="shop", html=ARTICLE)
    assert [block.text for block in page.blocks] == [
        "Start",
        "Refills",
        "One jar at a time.",
        "Since 2019.",
        "Oats",
        "Soap",
    ]
    assert page.title == "Our shop"


def test_blocks_know_their_element_and_their_place_in_the_text() -> None:
    page = Page(ref="shop", html=ARTICLE)
    for block in page.blocks:
        assert page.text[block.start : block.start + len(block.text)] == block.text
        assert page.block_at(block.start + len(block.text) - 1) == block
    found = page.block_at(page.text.index("Oats"))
    assert found is not None
    assert found.element.tag == "li"


@given(st.text(alphabet="<>/abp \"'=&;!-\n", max_size=200))
def test_any_markup_makes_a_page(markup: str) -> None:
    page = Page(ref="any", html=markup)
    for block in page.blocks:
        assert page.text[block.start : block.start + len(block.text)] == block.text
    for element in page.document.elements:
        assert_only(page, element)


def test_an_empty_page_has_no_text() -> None:
    page = Page(ref="empty", html="")
    assert (page.text, page.blocks, page.title, page.block_at(0), page.resources) == ("", [], "", None, [])


def test_selectors_find_exactly_their_element() -> None:
    page = Page(ref="shop", html='<main id="m"><p>a</p><p>b<i>c</i></p></main><p id="twice"></p><p id="twice"></p>')
    for element in page.document.elements:
        assert_only(page, element)
    assert page.document.selector(page.document.with_tag("i")[0]) == "#m > p:nth-of-type(2) > i"


def test_deep_nesting_is_flattened_and_keeps_its_text() -> None:
    page = Page(ref="deep", html="<div>" * 5_000 + "<p>bottom</p>")
    assert page.text == "bottom"
    assert max(element.depth for element in page.document.elements) <= MAX_DEPTH


def test_what_lies_too_deep_is_found_by_its_kind_in_the_last_ancestor_that_was_kept() -> None:
    page = Page(ref="deep", html="<div>" * (MAX_DEPTH + 50) + "<img src=a><img src=b><p>bottom</p>")
    images = page.document.with_tag("img")
    selector = page.document.selector(images[0])
    assert selector.endswith(" > div img")
    assert page.document.select(selector) == images
    kept = next(element for element in page.document.elements if element.depth == MAX_DEPTH - 1)
    assert_only(page, kept)


def test_a_page_with_what_it_loads_is_not_parsed_again() -> None:
    page = Page(ref="shop", html=ARTICLE)
    text = page.text
    loaded = page.loaded({"a.css": "p { color: red }"}, 5)
    assert loaded.document is page.document
    assert (loaded.text, loaded.transfer_bytes, loaded.stylesheets) == (text, 5, {"a.css": "p { color: red }"})
    assert page.stylesheets == {}


def test_resources_are_absolute_and_listed_once() -> None:
    html = """<link rel="stylesheet" href="a.css"><script src="/b.js"></script><img src="c.png"><img src="c.png">
    <img src="data:image/gif;base64,R0"><iframe src="https://other.example/d"></iframe><img>"""
    page = Page(ref="x", html=html, url="https://shop.example/sub/")
    assert [(r.url, r.kind) for r in page.resources] == [
        ("https://shop.example/sub/a.css", "stylesheet"),
        ("https://shop.example/b.js", "script"),
        ("https://shop.example/sub/c.png", "image"),
        ("https://other.example/d", "frame"),
    ]


def test_main_text_leaves_navigation_out() -> None:
    paragraphs = "".join(
        f"<p>Paragraph {n} tells at some length how the shop refills jars and bottles.</p>" for n in range(6)
    )
    page = Page(
        ref="x", html=f"<body><nav><a href='/'>Elsewhere entirely</a></nav><main><h1>Shop</h1>{paragraphs}</main>"
    )
    assert "Paragraph 3" in page.main_text
    assert "Elsewhere" not in page.main_text


def test_main_text_of_a_tiny_page_is_its_text() -> None:
    assert Page(ref="x", html="<p>Just this.</p>").main_text == "Just this."


def test_an_svg_document_is_not_taken_for_html() -> None:
    assert not Page(ref="x", html='<?xml version="1.0"?><svg></svg>').is_html
    assert Page(ref="x", html='<?xml version="1.0"?><!DOCTYPE html><html></html>').is_html
