"""Checks of links, tables, lists and markup that looks like structure but is not."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from zora_core.skills.accessibility.catalogue import Violation
from zora_core.skills.accessibility.view import View
from zora_core.skills.accessibility.words import words
from zora_core.skills.page.dom import Element, collapse

_CONTEXT = ("p", "li", "td", "th", "dd", "dt", "figure", "h1", "h2", "h3", "h4", "h5", "h6")
_BULLET = re.compile(r"\s*(?:[-*•–·]|\(?\d{1,2}[.)])\s+\S")


def link_texts(view: View) -> Iterator[Violation]:
    """A link's text should say where it leads."""
    for link in view.document.elements:
        if view.role(link) != "link" or not view.exposed(link):
            continue
        name = view.name(link)
        plain = re.sub(r"[\W_]+", " ", name.lower()).strip()
        if name and (not plain or plain in words().generic_links):
            place = link.closest(*_CONTEXT)
            around = re.sub(r"[\W_]+", " ", place.text.lower()).strip() if place else plain
            alone = around == plain and not link.get("aria-describedby")
            yield Violation(
                "link-text-generic" if alone or not plain else "link-text-vague", link, f'The link\'s text is "{name}".'
            )
            yield Violation("link-text-generic-alone", link, f'The link\'s text is "{name}".')
        extension = re.search(r"\.(\w{3,4})(?:[?#]|\Z)", link.get("href").lower())
        if extension and extension.group(1) in words().document_extensions and name:
            said = f"{name} {link.parent.own_text if link.parent else ''}".lower()
            if extension.group(1) not in said:
                yield Violation(
                    "link-file-unannounced",
                    link,
                    f"The link opens a {extension.group(1).upper()} file without saying so.",
                )
        if link.get("title").strip() and collapse(link.get("title")).lower() == collapse(link.text).lower():
            yield Violation("link-title-repeats", link, f'Text and title are both "{link.text[:60]}".')


def link_targets(view: View) -> Iterator[Violation]:
    """Links of one name that part ways, and neighbours that lead to the same page."""
    by_name: dict[str, dict[str, Element]] = defaultdict(dict)
    links = [e for e in view.document.with_tag("a") if e.has("href") and view.exposed(e)]
    for link in links:
        if view.name(link) and not link.get("href").startswith("#"):
            by_name[view.name(link).lower()].setdefault(link.get("href").rstrip("/"), link)
    for name, targets in by_name.items():
        if len(targets) > 1:
            second = list(targets.values())[1]
            yield Violation("links-same-text", second, f'"{name[:60]}" leads to {len(targets)} different addresses.')
    for first, second, between in _neighbours(links):
        same = first.get("href").rstrip("/") == second.get("href").rstrip("/")
        if same and not collapse(between):
            yield Violation(
                "links-adjacent", second, f"This link and the one before it lead to {second.get('href')[:80]}."
            )
        elif between and not collapse(between) and not view.styles[second].get("display") and not _spaced(view, second):
            yield Violation(
                "links-not-separated", second, f'"{first.text[:40]}" and "{second.text[:40]}" run into each other.'
            )


def _neighbours(links: list[Element]) -> Iterator[tuple[Element, Element, str]]:
    """Pairs of links that follow each other under one parent, with the text between them."""
    for first in links:
        second, between = first.following()
        if second is not None and second.tag == "a" and second.has("href"):
            yield first, second, between


def _spaced(view: View, link: Element) -> bool:
    """Whether style sheets set the link apart (padding, margin, border) or lay its parent out as a row."""
    own = view.styles[link]
    laid_out = link.parent is not None and view.styles[link.parent].get("display") in {
        "flex",
        "grid",
        "inline-flex",
        "inline-grid",
    }
    return laid_out or any(name.startswith(("padding", "margin", "border")) for name in own.declared)


def tables(view: View) -> Iterator[Violation]:
    """Header cells must exist, be told apart, and be where `headers` says."""
    for table in view.document.with_tag("table"):
        if not view.exposed(table):
            continue
        cells = [d for d in table.descendants() if d.tag in {"td", "th"} and d.closest("table") is table]
        own_ids = {c.get("id") for c in cells if c.get("id")}
        for cell in cells:
            missing = [i for i in cell.ids("headers") if i not in own_ids or i == cell.get("id")]
            if missing and view.exposed(cell):
                yield Violation(
                    "table-headers-refer", cell, f'headers="{" ".join(missing)}" names no other cell of this table.'
                )
        if view.explicit_role(table) in {"none", "presentation"}:
            continue
        heads = [c for c in cells if c.tag == "th"]
        rows = [d for d in table.descendants() if d.tag == "tr" and d.closest("table") is table]
        if table.closest("table"):
            yield Violation("table-nested", table, "The table stands inside a cell of another table.")
        if len(cells) > 1 and len(heads) == len(cells):
            yield Violation("table-only-headers", table, f"All {len(heads)} cells are header cells.")
        elif (
            len(cells) > 1
            and not heads
            and not any("header" in view.explicit_role(c) for c in cells)
            and view.role(table) == "table"
        ):
            yield Violation("table-no-headers", table, f"{len(cells)} cells in {len(rows)} rows and no header cell.")
        elif _both_ways(rows) and not any(h.has("scope") or h.has("id") for h in heads):
            yield Violation("table-scope", table, f"{len(heads)} header cells head rows and columns; none has a scope.")


def _both_ways(rows: list[Element]) -> bool:
    """Whether header cells stand in the first row and at the start of later rows."""
    if len(rows) < 2:
        return False
    first = [c for c in rows[0].elements if c.tag in {"td", "th"}]
    later = [next((c for c in row.elements if c.tag in {"td", "th"}), None) for row in rows[1:]]
    return sum(c.tag == "th" for c in first) > 1 and any(c is not None and c.tag == "th" for c in later)


def lists(view: View) -> Iterator[Violation]:
    """List items belong in lists, and lists contain items only."""
    reported: set[Element | None] = set()
    for element in view.document.elements:
        if not view.exposed(element) or (element.has("role") and element.tag in {"ul", "ol", "li"}):
            continue
        if (
            element.tag == "li"
            and (element.parent is None or element.parent.tag not in {"ul", "ol", "menu"})
            and element.parent not in reported
        ):
            if element.parent is None or view.role(element.parent) not in {"list", "directory"}:
                reported.add(element.parent)
                yield Violation(
                    "list-item-alone", element, f"Its parent is <{element.parent.tag if element.parent else ''}>."
                )
        elif element.tag in {"ul", "ol"}:
            wrong = next(
                (c for c in element.elements if c.tag not in {"li", "script", "template"} and view.exposed(c)), None
            )
            if wrong is not None:
                yield Violation("list-children", element, f"<{wrong.tag}> stands directly in the list.")
        elif (
            element.tag in {"p", "div", "main", "section", "article", "td"}
            and sum(bool(_BULLET.match(line)) for line in _lines(element)) >= 3
        ):
            yield Violation(
                "list-by-characters", element, f'Lines such as "{_lines(element)[0][:60]}" are typed as a list.'
            )
    for first in _typed_runs(view):
        yield Violation(
            "list-by-characters", first, f'This and the next paragraphs are typed as a list: "{first.text[:60]}".'
        )


def _lines(element: Element) -> list[str]:
    lines = [""]
    for child in element.children:
        if isinstance(child, str):
            lines[-1] += child
        elif child.tag == "br":
            lines.append("")
        else:
            lines[-1] += child.text
    return [line.strip() for line in lines if line.strip()]


def _typed_runs(view: View) -> Iterator[Element]:
    """The first of three or more paragraphs in a row that each begin like a list item."""
    run: list[Element] = []
    for element in [e for e in view.document.elements if e.tag == "p" and view.exposed(e)]:
        follows = bool(run) and element.parent is run[-1].parent
        typed = _BULLET.match(element.text) is not None and len(_lines(element)) == 1
        run = [*run, element] if typed and (follows or not run) else ([element] if typed else [])
        if len(run) == 3:
            yield run[0]


def formatting(view: View) -> Iterator[Violation]:
    """Formatting in place of structure, and elements that HTML has given up."""
    elements = view.document.elements
    for element in elements:
        if not view.exposed(element):
            continue
        if element.tag in {"marquee", "blink"}:
            yield Violation("moving-text", element, f"<{element.tag}> moves or blinks.")
        elif element.tag in {"center", "font", "big", "strike", "tt", "basefont"}:
            yield Violation("obsolete-element", element, f"<{element.tag}> is obsolete.")
        elif _spacer(element):
            yield Violation("paragraph-empty", element, "The paragraph is empty.")
        elif element.tag in {"p", "div"} and _looks_like_heading(view, element):
            yield Violation(
                "heading-by-formatting", element, f'"{element.text[:60]}" is bold and stands alone before a paragraph.'
            )
        tabindex = element.get("tabindex").strip()
        if tabindex.isdigit() and int(tabindex[:6]) > 0:
            yield Violation("tabindex-positive", element, f"tabindex is {tabindex}.", 'tabindex="0"')


def _spacer(element: Element) -> bool:
    """Whether an element is an empty paragraph that nothing will fill.

    A no-break space is text. A script fills an element that it can find: by its id, say, or inside one of its own kind.
    """
    return (
        element.tag == "p"
        and not any(child if isinstance(child, Element) else child.strip(" \t\n\r\f") for child in element.children)
        and element.attrs.keys() <= {"class", "style", "align"}
        and not any("-" in ancestor.tag for ancestor in element.ancestors())
    )


def _looks_like_heading(view: View, element: Element) -> bool:
    inner = element.elements
    bold = len(inner) == 1 and inner[0].tag in {"b", "strong", "font", "big"} and not element.own_text
    style = view.styles[element]
    large = not inner and style.weight >= 700 and style.font_px >= 18 and not element.text[:1].isdigit()
    if (
        not (bold or large)
        or element.parent is None
        or not 0 < len(element.text) <= 80
        or element.text.endswith((".", ":", "!", "?"))
    ):
        return False
    following, _ = element.following()
    return following is not None and following.tag in {"p", "ul", "ol"} and len(following.text) > len(element.text)
