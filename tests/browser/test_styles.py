"""The cascade and the values computed here, compared with the browser's own on pages made at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.site import OPTIONS
from tests.browser.snippets import Snippets
from zora_core.skills.css.contrast import BLACK, TRANSPARENT, Colour, parse_colour
from zora_core.skills.css.styles import Style, Styles
from zora_core.skills.page import Page
from zora_core.skills.page.dom import Element

if TYPE_CHECKING:
    from playwright.sync_api import Page as Tab

PAGES = 150
# The least size that Chromium computes.
LEAST_PX = 6.0
COMPUTED = """() => {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (value) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = '#000';
    context.fillStyle = value;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  return [...document.querySelectorAll('[data-n]')].map((element) => {
    const style = getComputedStyle(element);
    let displayed = true;
    for (let place = element; place; place = place.parentElement)
      if (getComputedStyle(place).display === 'none') displayed = false;
    return {
      number: element.dataset.n, colour: rgba(style.color), background: rgba(style.backgroundColor), displayed,
      size: parseFloat(style.fontSize), weight: +style.fontWeight, visible: style.visibility === 'visible',
    };
  });
}"""


@pytest.fixture
def tab(program: str) -> Iterator[Tab]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        opened = started.new_page(viewport={"width": 1280, "height": 720})
        opened.route("**/*", lambda route: route.abort())
        yield opened
        started.close()


def test_computed_styles_are_those_of_the_browser(tab: Tab) -> None:
    compared = unknown = 0
    differences = []
    for number in range(PAGES):
        html = Snippets(number).page()
        page = Page(ref="snippet", html=html)
        tab.set_content(html)
        theirs = tab.evaluate(COMPUTED)
        ours = {element.get("data-n"): element for element in page.document.elements if element.has("data-n")}
        if len(theirs) != len(ours):
            continue  # the two parsers place misnested markup differently
        styles = Styles(page.document)
        for computed in theirs:
            element = ours[computed["number"]]
            found = list(_compared(element, styles[element], computed))
            compared += len(found)
            unknown += sum(equal is None for _, equal in found)
            differences += [(number, computed["number"], name) for name, equal in found if equal is False]
    assert differences == []
    assert compared > 10_000
    assert unknown < 0.04 * compared


def _compared(element: Element, style: Style, computed: dict[str, Any]) -> Iterator[tuple[str, bool | None]]:
    """What was compared and whether it is equal; None where we say that it cannot be told."""
    yield "colour", None if style.colour is None else _close(style.colour, computed["colour"])
    if computed["size"] > LEAST_PX:
        yield "size", abs(style.font_px - computed["size"]) < 0.05 if style.font_known else None
    yield "weight", style.weight == computed["weight"]
    yield "visible", style.visible == computed["visible"] if style.known("visibility") else None
    yield "displayed", style.displayed == computed["displayed"]
    value = style.get("background-color")
    if value != "inherit" and element.tag not in {"button", "input"}:
        none = value in {"", "unset", "initial", "none"}
        colour = TRANSPARENT if none else parse_colour(value, style.colour or BLACK)
        known = style.known("background-color") and colour is not None and style.colour is not None
        yield "background", _close(colour, computed["background"]) if known and colour is not None else None


def _close(ours: Colour, theirs: list[int]) -> bool:
    """Whether two colours are equal but for the rounding of premultiplied channels."""
    allowed = 2 if ours.alpha in {0, 1} else 2 + round(1 / max(ours.alpha, 0.05))
    return all(abs(round(channel * 255) - other) <= allowed for channel, other in zip(ours, theirs, strict=True))
