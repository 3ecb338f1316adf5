"""Markdown from agents and people as HTML that is safe to show.

Two independent gates: the parser lets no HTML through, and what it makes is cleaned by an allow-list all the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import Markup, escape

MAX_LENGTH = 30_000  # characters; longer texts are shown as they are, because some Markdown takes quadratic time
DEMOTED = 3  # levels: what is a text's first heading stands below an h3 of the page
TAGS = {"p", "br", "hr", "strong", "em", "code", "pre", "blockquote", "ul", "ol", "li", "h4", "h5", "h6", "a"}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td"}
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
SCHEMES = {"http", "https", "mailto"}
_ADDRESS = re.compile(rf"(?:{'|'.join(sorted(SCHEMES))}):", re.IGNORECASE)


def prose(text: str | None) -> Markup:
    """`text`, which is Markdown (CommonMark and tables, line breaks kept), as HTML; nothing for nothing.

    HTML in it is shown as text, an image as its description. Links lead to http, https and mailto only. Headings begin
    at h4. There are no ids, classes or styles.
    """
    if not text or not text.strip():
        return Markup("")
    if len(text) > MAX_LENGTH:
        return Markup("<pre>{}</pre>").format(text)
    return Markup(
        nh3.clean(
            _MARKDOWN.render(text),
            tags=TAGS,
            clean_content_tags=set(),
            attributes=ATTRIBUTES,
            attribute_filter=_attribute,
            url_schemes=SCHEMES,
            link_rel="nofollow noopener noreferrer",
        )
    )


def _attribute(tag: str, name: str, value: str) -> str | None:
    """A link within this server would be a text's way to have a person do something here."""
    return value if name != "href" or _ADDRESS.match(value) else None


def _demote(state: StateCore) -> None:
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1:]) + DEMOTED)}"


def _image(_renderer: Any, tokens: Sequence[Token], position: int, _options: Any, _env: Any) -> str:
    """An image would be fetched from wherever the text says; its description tells what it shows."""
    return str(escape(tokens[position].content))


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": True}).enable("table")
    parser.core.ruler.push("demote", _demote)
    parser.add_render_rule("image", _image)
    return parser


_MARKDOWN = _parser()
