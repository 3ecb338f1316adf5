"""The text that style sheets add with `::before` and `::after`."""

from __future__ import annotations

import unicodedata

from zora_core.skills.css.styles import Style
from zora_core.skills.css.values import split, text_of, tokens_of
from zora_core.skills.page.dom import Element

_QUOTES = {"open-quote": "\u201c", "close-quote": "\u201d"}


def generated_text(style: Style | None, element: Element) -> str:
    """What a pseudo-element adds to the accessible name (Accessible Name 1.2, 2F.ii); an empty string for none.

    An alternative after a slash replaces the text. The private characters of icon fonts say nothing and are left out.
    """
    if style is None or not style.displayed or not style.visible:
        return ""
    shown, *alternative = split(tokens_of(style.raw("content")), "/")
    parts = []
    for token in alternative[0] if alternative else shown:
        if token.type == "string":
            parts.append(token.value)
        elif token.type == "ident":
            parts.append(_QUOTES.get(token.lower_value, ""))
        elif token.type == "function" and token.lower_name == "attr":
            parts.append(element.get(text_of(token.arguments).split(",")[0].split(" ")[0].lower()))
        elif token.type == "function" and token.lower_name in {"counter", "counters"}:
            parts.append("1")
    text = "".join(c for c in "".join(parts) if unicodedata.category(c) not in {"Co", "Cn"})
    return text if style.get("display") in {"", "inline", "contents"} else f" {text} "
