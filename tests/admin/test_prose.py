"""Markdown: what it may become, and that nothing else gets through."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser as HTMLParser

from zora_core.admin.prose import ATTRIBUTES, MAX_LENGTH, TAGS, prose

PIECES = [
    "<script>",
    "</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<style>*{}</style>",
    "<a href=",
    "javascript:alert(1)",
    "JaVaScRiPt&colon;alert(1)",
    "java\nscript:",
    "data:text/html,<script>",
    "vbscript:x",
    "[a](",
    "![a](",
    ")",
    "](",
    "[",
    "]",
    "[a]: ",
    "<",
    ">",
    '"',
    "'",
    "`",
    "```",
    "# ",
    "> ",
    "- ",
    "1. ",
    "|",
    "\n",
    "\n\n",
    "| a | b |\n|:-:|--:|\n| ",
    "&lt;",
    "&#106;",
    "&#x6A;avascript:",
    "\\",
    "*",
    "**",
    "_",
    "http://",
    "https://a.example",
    "//evil.example",
    "/admin",
    "mailto:",
    "onclick=",
    ' style="x"',
    " id=x class=y",
    "<!--",
    "-->",
    "<![CDATA[",
    "\x00",
    "\t",
    " ",
    "a",
    "é",
    "<iframe src=//x>",
    "<math><mtext></mtext><mglyph><style>",
    '<noscript><p title="</noscript>',
    "<form action=x>",
    "<input autofocus onfocus=x>",
    "<base href=//x>",
    "<meta http-equiv=refresh>",
    "<https://",
    "<javascript:alert(1)>",
]
CORPUS = [
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "[x](JAVASCRIPT:alert(1))",
    "[x](java&#09;script:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:msgbox(1))",
    "[x]: javascript:alert(1)\n\n[x]",
    "![x](https://a.example/x.png)",
    "![x](x\" onerror=\"alert(1))",
    '[x](https://a.example "t\\" onclick=\\"alert(1)")',
    "<img src=x onerror=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
    "<a href=\"https://a.example\" onclick=\"alert(1)\" style=\"position:fixed\">x</a>",
    "<javascript:alert(1)>",
    "```\"><script>alert(1)</script>\nx\n```",
    "`</code><script>alert(1)</script>`",
    "<!-- --><script>alert(1)</script>",
    "|a|\n|:-:|\n|<img src=x onerror=alert(1)>|",
    "<div id=\"payload\" class=\"x\">x</div>",
]  # fmt: skip


def assert_safe(html: str) -> None:
    for node in HTMLParser(f"<div>{html}</div>").css("div *"):
        assert node.tag in TAGS, html
        allowed = ATTRIBUTES.get(node.tag, set()) | ({"rel"} if node.tag == "a" else set())
        assert set(node.attributes) <= allowed, html
        if node.tag == "a":
            assert node.attributes["rel"] == "nofollow noopener noreferrer"
            href = node.attributes.get("href")
            assert href is None or href.lower().startswith(("http:", "https:", "mailto:")), html


@pytest.mark.parametrize("text", CORPUS)
def test_known_attacks_come_out_as_text(text: str) -> None:
    assert_safe(prose(text))


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=25).map("".join))
def test_no_text_becomes_anything_but_prose(text: str) -> None:
    assert_safe(prose(text))


def test_nothing_that_was_written_is_swallowed() -> None:
    html = prose("Use <b>bold</b> & <script>alert(1)</script>")
    assert html == "<p>Use &lt;b&gt;bold&lt;/b&gt; &amp; &lt;script&gt;alert(1)&lt;/script&gt;</p>\n"


def test_headings_stand_below_those_of_the_page() -> None:
    levels = [node.tag for node in HTMLParser(prose("# a\n## b\n### c\n###### d\n\nE\n===")).css("h1,h2,h3,h4,h5,h6")]
    assert levels == ["h4", "h5", "h6", "h6", "h4"]


def test_what_people_write_is_kept() -> None:
    tree = HTMLParser(
        prose("one\ntwo **bold** *soft* `code` [site](https://a.example)\n\n3. x\n\n> q\n\n|a|\n|-|\n|1|\n\n---")
    )
    for selector in ("br", "strong", "em", "code", "ol[start='3'] li", "blockquote", "table td", "hr"):
        assert tree.css_first(selector), selector
    link = tree.css_first("a")
    assert link is not None
    assert link.attributes["href"] == "https://a.example"


def test_a_link_into_this_server_leads_nowhere() -> None:
    for address in ("/admin/pause", "//evil.example", "?x=1", "#x", "admin"):
        link = HTMLParser(prose(f"[press]({address})")).css_first("a")
        assert link is not None
        assert "href" not in link.attributes


def test_an_image_is_told_and_not_fetched() -> None:
    assert prose("![a **chart**](https://a.example/x.png)") == "<p>a **chart**</p>\n"


def test_nothing_is_nothing() -> None:
    assert prose(None) == prose("") == prose(" \n") == ""


def test_a_text_that_is_too_long_to_be_read_as_markdown_is_shown_as_it_is() -> None:
    text = "<b>" + "*[" * MAX_LENGTH
    html = prose(text)
    assert html.startswith("<pre>&lt;b&gt;")
    assert HTMLParser(html).text() == text


@pytest.mark.parametrize("piece", ["[", "![", "*a ", "`", "<", "> ", "[a](", "|", "- ", "_a__b", "&", "\\"])
def test_no_text_that_is_read_as_markdown_takes_long(piece: str) -> None:
    """The length up to which Markdown is read was chosen by this: the worst takes two thirds of a second."""
    text = (piece * MAX_LENGTH)[:MAX_LENGTH]
    began = time.process_time()
    assert_safe(prose(text)[:1000].rpartition("<")[0])
    assert time.process_time() - began < 6  # on a busy machine
