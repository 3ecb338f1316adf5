"""A page as assistive technology sees it: roles, accessible names, what is shown, hidden or reachable by keyboard."""

from __future__ import annotations

import re
from functools import cached_property

from zora_core.skills.accessibility import aria
from zora_core.skills.accessibility.generated import generated_text
from zora_core.skills.css.styles import Styles
from zora_core.skills.css.values import number
from zora_core.skills.page import Page
from zora_core.skills.page.dom import Document, Element, collapse

LABELABLE = frozenset({"button", "input", "meter", "output", "progress", "select", "textarea"})
NAMED_BY_LABEL = frozenset({"input", "select", "textarea", "meter", "progress", "output"})
_BUTTON_TYPES = {"submit": "Submit", "reset": "Reset", "button": ""}
_SECTIONING = ("article", "aside", "main", "nav", "section")
_INLINE = frozenset(
    {
        "a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "dfn", "em", "font", "i", "kbd", "label", "mark", "q",
        "s", "samp", "small", "span", "strong", "sub", "sup", "time", "u", "var", "wbr",
    }
)  # fmt: skip
MAX_NAME_DEPTH = 120


class View:
    """Everything the checks ask of a page, computed once."""

    def __init__(self, page: Page) -> None:
        """Look at `page`, with its linked style sheets where they were loaded."""
        self.page = page
        self.document: Document = page.document
        self.styles = Styles(page.document, page.stylesheets)
        self.aria = aria.tables()
        self._roles: dict[Element, str] = {}
        self._names: dict[Element, str] = {}

    # ---- shown, exposed, reachable

    def shown(self, element: Element) -> bool:
        """Whether the element is rendered at all (it may still be outside the window)."""
        style = self.styles[element]
        return style.displayed and style.visible

    @cached_property
    def _aria_hidden(self) -> set[Element]:
        hidden: set[Element] = set()
        for element in self.document.elements:
            hides = element.get("aria-hidden").strip().lower() == "true" or element.has("inert")
            if element.parent in hidden or hides:
                hidden.add(element)
        return hidden

    def exposed(self, element: Element) -> bool:
        """Whether the element is in the accessibility tree, roles aside."""
        return self.shown(element) and element not in self._aria_hidden

    @cached_property
    def _inert(self) -> set[Element]:
        inert: set[Element] = set()
        for element in self.document.elements:
            if element.parent in inert or element.has("inert"):
                inert.add(element)
        return inert

    @cached_property
    def _graphics(self) -> set[Element]:
        graphics: set[Element] = set()
        for element in self.document.elements:
            if element.tag == "svg" or element.parent in graphics:
                graphics.add(element)
        return graphics

    @cached_property
    def _unseen(self) -> set[Element]:
        unseen: set[Element] = set()
        for element in self.document.elements:
            if element.parent in unseen or self._moved_away(element):
                unseen.add(element)
        return unseen

    def seen(self, element: Element) -> bool:
        """Whether a sighted reader sees it: rendered, and not pushed out of the window or clipped to nothing."""
        return self.shown(element) and element not in self._unseen

    def _moved_away(self, element: Element) -> bool:
        style = self.styles[element]
        if not style.declared:
            return False
        if number(style.get("opacity")) == 0 or number(style.get("scale")) == 0:
            return True
        if re.search(r"scale(3d)?\(\s*0\s*[,)]", style.get("transform")):
            return True
        for name in ("left", "top", "right", "bottom", "margin-left", "margin-top", "text-indent"):
            pixels = style.length(name)
            if pixels is not None and pixels <= -900 and (name.startswith(("margin", "text")) or style.get("position")):
                return True
        if re.search(r"rect\(\s*(0|1px)[\w\s,]*\)", style.get("clip")) or "inset(50%" in style.get("clip-path"):
            return True
        tiny = [style.length(side) for side in ("width", "height")]
        return style.get("overflow-x") in {"hidden", "clip"} and any(side is not None and side <= 1 for side in tiny)

    def disabled(self, element: Element) -> bool:
        """Whether a control, or one of its ancestors, is disabled."""
        if element.has("disabled") and (element.tag in LABELABLE or element.tag in {"fieldset", "option", "optgroup"}):
            return True
        for ancestor in [element, *element.ancestors()]:
            if ancestor.get("aria-disabled").lower() == "true":
                return True
            if ancestor.tag == "fieldset" and ancestor.has("disabled") and element.tag != "legend":
                return True
        return False

    def focusable(self, element: Element) -> bool:
        """Whether the element can take the focus at all."""
        if not self.shown(element) or self.disabled_control(element) or element in self._inert:
            return False
        return self._interactive(element) or _tabindex(element) is not None

    def tabbable(self, element: Element) -> bool:
        """Whether the Tab key reaches the element."""
        tabindex = _tabindex(element)
        return self.focusable(element) and (tabindex is None or tabindex >= 0)

    def disabled_control(self, element: Element) -> bool:
        """Whether the element is a form control that HTML disables."""
        if element.tag not in {"button", "input", "select", "textarea"}:
            return False
        return element.has("disabled") or any(a.tag == "fieldset" and a.has("disabled") for a in element.ancestors())

    def _interactive(self, element: Element) -> bool:
        match element.tag:
            case "a" | "area":
                return element.has("href")
            case "button" | "select" | "textarea" | "iframe":
                return True
            case "input":
                return element.get("type").lower() != "hidden"
            case "audio" | "video":
                return element.has("controls")
            case "summary":
                return self._is_summary(element)
            case _:
                return element.has("contenteditable") and element.get("contenteditable").lower() != "false"

    def _is_summary(self, element: Element) -> bool:
        parent = element.parent
        return bool(
            parent
            and parent.tag == "details"
            and next((e for e in parent.elements if e.tag == "summary"), None) is element
        )

    # ---- roles

    def role(self, element: Element) -> str:
        """The element's role: the first valid one it names, else the one HTML gives it, else an empty string."""
        if element not in self._roles:
            self._roles[element] = self._role(element)
        return self._roles[element]

    def explicit_role(self, element: Element) -> str:
        """The first valid role in the `role` attribute, or an empty string."""
        for token in element.get("role").lower().split():
            if token in self.aria.roles or token.startswith("doc-"):
                return token
        return ""

    def _role(self, element: Element) -> str:
        explicit = self.explicit_role(element)
        if explicit in {"none", "presentation"}:
            conflict = self.focusable(element) or any(
                element.get(name).strip() for name in self.aria.global_attributes - {"aria-hidden"}
            )
            return self.implicit_role(element) if conflict else "none"
        return explicit or self.implicit_role(element)

    def implicit_role(self, element: Element) -> str:
        """The role that HTML gives the element where it stands."""
        tag = element.tag
        match tag:
            case "a" | "area":
                return "link" if element.has("href") else "generic"
            case "img":
                return self._image_role(element)
            case "input":
                return self._input_role(element)
            case "select":
                return "listbox" if element.has("multiple") or _integer(element.get("size"), 1) > 1 else "combobox"
            case "header" | "footer":
                inside = element.closest(*_SECTIONING)
                return "generic" if inside else {"header": "banner", "footer": "contentinfo"}[tag]
            case "section" | "form":
                return {"section": "region", "form": "form"}[tag] if self._author_name(element) else "generic"
            case "li":
                return "listitem" if element.parent and element.parent.tag in {"ul", "ol", "menu"} else "generic"
            case "td" | "th":
                return self._cell_role(element)
            case "summary":
                return "summary" if self._is_summary(element) else "generic"
            case "svg":
                return "graphics-document" if self._author_name(element) or _svg_title(element) else "svg"
            case _:
                return self.aria.implicit.get(tag, "")

    def _image_role(self, element: Element) -> str:
        if not element.has("alt") or element.get("alt"):
            return "img"
        named = any(element.get(name).strip() for name in self.aria.global_attributes - {"aria-hidden"})
        return "img" if named or self.focusable(element) else "none"

    def _input_role(self, element: Element) -> str:
        kind = element.get("type").lower() or "text"
        if kind in {"hidden", "color", "date", "datetime-local", "file", "month", "password", "time", "week"}:
            return ""
        role = self.aria.input_roles.get(kind, "textbox")
        return "combobox" if element.get("list") and role in {"textbox", "searchbox"} else role

    def _cell_role(self, element: Element) -> str:
        table = element.closest("table")
        if table is None:
            return ""
        if element.tag == "th":
            scope = element.get("scope").lower()
            return "rowheader" if scope in {"row", "rowgroup"} else "columnheader"
        return "gridcell" if self.explicit_role(table) in {"grid", "treegrid"} else "cell"

    # ---- accessible names

    def name(self, element: Element) -> str:
        """The accessible name, by the steps of Accessible Name and Description Computation 1.2."""
        if element not in self._names:
            self._names[element] = collapse(self._name(element, depth=0))
        return self._names[element]

    def labels(self, element: Element) -> list[Element]:
        """The `label` elements of a control."""
        if element.tag not in LABELABLE:
            return []
        identifier = element.get("id")
        own = self.document.by_id.get(identifier) is element
        found = [label for label in self._labels if own and identifier and label.get("for") == identifier]
        wrapping = element.closest("label")
        if (
            wrapping
            and not wrapping.has("for")
            and next((d for d in wrapping.descendants() if d.tag in LABELABLE), None) is element
        ):
            found.append(wrapping)
        return found

    @cached_property
    def _labels(self) -> list[Element]:
        return self.document.with_tag("label")

    def referenced(self, element: Element, attribute: str) -> list[Element]:
        """The elements that an attribute of ids names and that exist."""
        return [self.document.by_id[i] for i in element.ids(attribute) if i in self.document.by_id]

    def _author_name(self, element: Element) -> str:
        labelled = " ".join(r.text for r in self.referenced(element, "aria-labelledby")).strip()
        return labelled or element.get("aria-label").strip() or element.get("title").strip()

    def _name(self, element: Element, *, depth: int, inside: bool = False, referenced: bool = False) -> str:
        if depth > MAX_NAME_DEPTH:
            return ""
        if not referenced:
            by_reference = " ".join(
                self._name(r, depth=depth + 1, inside=True, referenced=True)
                for r in self.referenced(element, "aria-labelledby")
            )
            if by_reference.strip():
                return by_reference
        if element.get("aria-label").strip():
            return element.get("aria-label")
        role = self.role(element)
        if inside and not referenced:
            value = self._embedded_value(element, role)
            if value is not None:
                return value
        if role == "none" and element.tag in {"img", "area", "svg"}:
            return ""
        native = self._native_name(element, depth)
        if native is not None and (native.strip() or element.tag in {"img", "area"}):
            return native if native.strip() else self._tooltip(element)
        from_content = role in {"summary", "generic", "none", ""} and (inside or role == "summary")
        if from_content or inside or (role in self.aria.roles and self.aria.roles[role].name == "content"):
            text = self._content(element, depth, hidden_too=referenced and not self.shown(element))
            if text.strip():
                return text
        return self._tooltip(element)

    def _tooltip(self, element: Element) -> str:
        return element.get("title").strip() or (
            element.get("placeholder") if element.tag in {"input", "textarea"} else ""
        )

    def _content(self, element: Element, depth: int, *, hidden_too: bool) -> str:
        parts: list[str] = []
        for child in element.children:
            if isinstance(child, str):
                parts.append(child)
            elif child.tag in {"script", "style", "template"}:
                continue
            elif hidden_too:
                parts.append(f" {child.text} " if child.tag != "img" else f" {child.get('alt')} ")
            elif self.exposed(child) or (self.styles[child].displayed and child not in self._aria_hidden):
                text = (
                    self._name(child, depth=depth + 1, inside=True)
                    if self.shown(child)
                    else self._content(child, depth + 1, hidden_too=False)
                )
                parts.append(text if self._inline(child) else f" {text} ")
        if hidden_too or self.shown(element):
            style = self.styles[element]
            before, after = generated_text(style.before, element), generated_text(style.after, element)
            return "".join([before, *parts, after])
        return "".join(p for p, c in zip(parts, element.children, strict=False) if not isinstance(c, str))

    def _embedded_value(self, element: Element, role: str) -> str | None:
        """What a control inside another's label contributes: its value."""
        if role in {"textbox", "searchbox", "spinbutton", "slider", "progressbar", "meter"}:
            return element.get("aria-valuetext") or element.get("aria-valuenow") or element.get("value") or element.text
        if role in {"combobox", "listbox"} and element.tag == "select":
            options = [d for d in element.descendants() if d.tag == "option"]
            chosen = next((o for o in options if o.has("selected")), options[0] if options else None)
            return chosen.text if chosen else ""
        return None

    def _native_name(self, element: Element, depth: int) -> str | None:
        """What HTML itself offers as a name; None where it offers nothing."""
        tag = element.tag
        if tag in {"img", "area"}:
            return element.get("alt")
        if tag == "input":
            kind = element.get("type").lower()
            if kind == "image":
                return element.get("alt")
            if kind in _BUTTON_TYPES:
                labels = self._label_text(element, depth)
                value = element.get("value") if element.has("value") else _BUTTON_TYPES[kind]
                return labels if labels.strip() else value
        if tag in NAMED_BY_LABEL or (tag == "button" and self.labels(element)):
            return self._label_text(element, depth)
        if element in self._graphics:
            return _svg_title(element)
        inner = {"fieldset": "legend", "table": "caption", "figure": "figcaption"}.get(tag)
        if inner:
            child = next((e for e in element.elements if e.tag == inner), None)
            return self._content(child, depth + 1, hidden_too=False) if child else None
        return None

    def _label_text(self, element: Element, depth: int) -> str:
        return " ".join(
            self._name(label, depth=depth + 1, inside=True, referenced=True)
            for label in self.labels(element)
            if self.exposed(label) or not self.shown(label)
        )

    # ---- text

    def exposed_text(self, element: Element) -> str:
        """The text inside that assistive technology reads."""
        return collapse(self._content(element, 0, hidden_too=False))

    def seen_text(self, element: Element) -> str:
        """The text inside that a sighted reader sees."""
        parts: list[str] = []
        for child in element.children:
            if isinstance(child, str):
                parts.append(child if self.seen(element) else "")
            elif self.seen(child) and child.tag not in {"script", "style", "select", "textarea"}:
                text = self.seen_text(child)
                parts.append(text if self._inline(child) else f" {text} ")
        return "".join(parts)

    def _inline(self, element: Element) -> bool:
        """Whether text runs on through the element without a break."""
        display = self.styles[element].get("display")
        return display in {"inline", "contents"} or (not display and element.tag in _INLINE)


def _tabindex(element: Element) -> int | None:
    value = element.get("tabindex").strip()
    return int(value) if re.match(r"[+-]?\d{1,6}\Z", value) else None


def _integer(value: str, default: int) -> int:
    return int(value) if re.match(r"\d{1,6}\Z", value.strip()) else default


def _svg_title(element: Element) -> str:
    title = next((e for e in element.elements if e.tag == "title"), None)
    return collapse("".join(c for c in title.children if isinstance(c, str))) if title else ""
