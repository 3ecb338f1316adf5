"""Markup within limits: what parsers need quadratic time for is left out, and ordinary pages stay as they are."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from zora_core.settings import examples
from zora_core.skills.page import Page
from zora_core.skills.page.markup import MAX_ATTRIBUTES, MAX_DEPTH, MAX_ELEMENTS, bounded


def depth(html: str) -> int:
    deepest, stack = 0, [(LexborHTMLParser(html).root, 1)]
    while stack:
        node, level = stack.pop()
        deepest = max(deepest, level)
        child = node.child if node is not None else None
        while child is not None:
            stack.append((child, level + 1))
            child = child.next
    return deepest


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ("<div>" * 30_000 + "end", "nested deeper than 400 elements: it was analysed to that depth"),
        (
            "<div>" * 30_000 + "end" + "</div>" * 30_000,
            "nested deeper than 400 elements: it was analysed to that depth",
        ),
        ("<ul><li>" * 20_000 + "end", "nested deeper than 400 elements: it was analysed to that depth"),
        ("<table><tr><td>" * 10_000 + "end", "nested deeper than 400 elements: it was analysed to that depth"),
        ("<svg><p>" + "<path/>" * 20_000 + "end", "nested deeper than 400 elements: it was analysed to that depth"),
        ("<x-card>" * 20_000 + "end", "nested deeper than 400 elements: it was analysed to that depth"),
        (
            "<!--><div></div>-->" + "<div>" * 20_000 + "end",
            "nested deeper than 400 elements: it was analysed to that depth",
        ),
        ("<p>end" + "".join(f"<b id={n}>" for n in range(5_000)) + "<p>x" * 5_000, "4,950 were left out"),
        ("<p " + " ".join(f"a{n}=1" for n in range(20_000)) + ">end", "200 attributes: 19,800 were left out"),
        ("<p>end" + "<i>x</i>" * 200_000, "more than 50,000 elements: the rest was not analysed"),
        ("<p>end" + "x" * 6_000_000, "6,000,006 characters: the first 5,000,000 were analysed"),
    ],
)
def test_what_a_parser_needs_quadratic_time_for_is_left_out_and_said(html: str, said: str) -> None:
    began = time.process_time()
    page = Page("html", html)
    assert "end" in page.text
    assert said in " ".join(page.limits)
    assert depth(bounded(html).html) <= 2 * MAX_DEPTH  # an HTML parser adds tbody and the like
    assert time.process_time() - began < 5  # minutes without limits


@pytest.mark.parametrize(
    "html",
    [
        "<a '\" " * 50_000, "<a b=\"' " * 50_000, "<" * 300_000, "<!--" * 100_000, "<!-->" * 100_000,
        "<script>" * 50_000, "<title>" * 50_000, "</x" * 100_000, "<a/b=/c" * 50_000, "<![CDATA[" * 50_000,
    ],
)  # fmt: skip
def test_malformed_markup_takes_linear_time(html: str) -> None:
    began = time.process_time()
    bounded(html)
    assert time.process_time() - began < 2


def test_ordinary_pages_stay_as_they_are() -> None:
    pages = [path.read_text() for path in Path(examples()).rglob("*.html")]
    assert pages
    pages += [
        "<ul>" + "<li>item" * 5_000,  # ends that may be left out
        "<p>one" * 5_000,
        "<ul>" + "<li><p>one<p>two" * 2_000,
        "<dl>" + "<dt>a<dd><div>b</div>" * 2_000,
        "<p>one<div>two</div>" * 2_000,
        "<p>one<ul><li>two</ul>" * 2_000,
        "<table>" + "<tr><td>a<td>b" * 3_000,
        "<table>" + "<tbody><tr><td><div>a<td>b" * 2_000,
        "<ruby>" + "a<rt>b" * 2_000,
        "<select>" + "<option>x" * 1_000,
        '<svg viewBox="0 0 1 1">' + "<path d='M0 0'/>" * 2_000 + "</svg>",
        "<script>" + "document.write('<div>');" * 2_000 + "</script>",
        "<!-- " + "<div>" * 2_000 + " -->",
        "<a href=x>" + "<a href=y>link" * 500,
        "<p title='a > b'>1 < 2 & 3</p>",
        "<p " + " ".join(f"data-{n}='x'" for n in range(MAX_ATTRIBUTES)) + ">",
        "<div>" * MAX_DEPTH + "</div>" * MAX_DEPTH,
        "<i></i>" * (MAX_ELEMENTS - 1),
    ]
    for html in pages:
        assert bounded(html) == (html, ())


PARTS = (
    "<div>", "</div>", "<p>", "<b>", "</b>", "<td a=1 b='>'>", "<br/>", "<!--", "-->", "<script>", "</script>", "<svg>",
    "</svg>", "x", "<", ">", "'", '"', "<a href=", "</", "<li>", "<ul>",
)  # fmt: skip


@given(st.lists(st.sampled_from(PARTS)))
def test_whatever_is_within_the_limits_is_parsed_as_before(parts: list[str]) -> None:
    html = "".join(parts)
    assert LexborHTMLParser(bounded(html).html).html == LexborHTMLParser(html).html
