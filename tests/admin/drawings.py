"""What holds for every drawing: well-formed, told in words, its texts inside, no style or script of its own."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime

from markupsafe import Markup

from zora_core.admin import charts, graph_chart
from zora_core.admin.svg import text_width

NOW = datetime(2026, 3, 2, 9, 17, tzinfo=UTC)
NASTY = "</title><script>alert(1)</script>\x00\x1b\ud800 & \"quoted\" 'x' 漢字"
CLASSES = set(re.findall(r"c-[a-z]+(?:-[a-z]+)*", f"{charts.__doc__} {graph_chart.__doc__}"))


def parsed(svg: Markup) -> ElementTree.Element:
    """The drawing, once it is known to keep the rules that hold for all of them."""
    assert isinstance(svg, Markup)
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg"
    assert [child.tag for child in root[:2]] == ["title", "desc"]
    assert root[0].text
    assert root[1].text
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    assert (left, top) == (0, 0)
    links = root.findall(".//a")
    assert root.attrib["role"] == ("group" if links else "img")
    for element in root.iter():
        assert element.tag in {"svg", "title", "desc", "g", "a", "rect", "line", "path", "circle", "text"}
        assert not {"style", "id"} & set(element.attrib)
        assert not [name for name in element.attrib if name.startswith("on")]
        for kind in element.attrib.get("class", "").split():
            assert kind in CLASSES or kind.startswith("c-node-"), f"{kind} is not in the list for the style sheet"
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"):
            if name in element.attrib and element is not root:
                value = float(element.attrib[name])
                assert math.isfinite(value)
                assert value >= 0
                assert value <= (width if name in ("x", "x1", "x2", "cx", "width") else height) + 0.1
        if element.tag == "text":
            assert_within(element, width, root)
    return root


def assert_within(element: ElementTree.Element, width: float, root: ElementTree.Element) -> None:
    """A text is large enough to be read, and does not leave the drawing."""
    size = float(element.attrib["font-size"])
    natural = "width" in root.attrib
    assert size * (1 if natural else 340 / width) >= (11 if natural else 10)
    wide = text_width(element.text or "", size)
    start = float(element.attrib["x"]) - {"start": 0, "middle": wide / 2, "end": wide}[element.attrib["text-anchor"]]
    assert start >= -0.5
    assert start + wide <= width + 0.5
