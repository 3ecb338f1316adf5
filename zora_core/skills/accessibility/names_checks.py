"""Checks of text alternatives and accessible names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from zora_core.skills.accessibility.catalogue import Violation
from zora_core.skills.accessibility.view import View
from zora_core.skills.accessibility.words import words
from zora_core.skills.page.dom import Element, collapse

_FIELD_ROLES = frozenset(
    {
        "checkbox", "combobox", "listbox", "menuitemcheckbox", "menuitemradio", "radio", "searchbox", "slider",
        "spinbutton", "switch", "textbox",
    }
)  # fmt: skip
_SVG_ROLES = frozenset({"img", "image", "graphics-document", "graphics-symbol"})
_LABEL_ROLES = frozenset(
    {
        "button",
        "checkbox",
        "link",
        "menuitem",
        "menuitemcheckbox",
        "menuitemradio",
        "option",
        "radio",
        "switch",
        "tab",
        "treeitem",
    }
)
_MEDIA_TYPE = re.compile(r"(image|audio|video)/|\.(png|jpe?g|gif|svg|webp|mp[34]|webm|ogg|wav)([?#]|\Z)", re.I)
_MANY_NAMELESS_INPUTS = frozenset({"color", "date", "datetime-local", "file", "month", "password", "time", "week"})


def images(view: View) -> Iterator[Violation]:
    """Images, graphics and embedded objects need a name, unless they are decoration."""
    for element in view.document.elements:
        if not view.exposed(element):
            continue
        role = view.role(element)
        if not view.name(element):
            yield from _unnamed_image(view, element, role)
        if _decorative(element) and role not in {"none", "generic", ""}:
            yield Violation("decorative-exposed", element, f'Marked as decoration, yet exposed with role "{role}".')


def _unnamed_image(view: View, element: Element, role: str) -> Iterator[Violation]:
    explicit = view.explicit_role(element)
    if element.tag == "img" and role == "img":
        yield Violation("image-alt", element, _missing_alt(element))
    elif element.tag == "svg" and explicit in _SVG_ROLES:
        yield Violation("svg-name", element, f'The svg has role "{role}" but neither a title nor an aria-label.')
    elif element.tag not in {"img", "svg", "input"} and explicit in {"img", "image"}:
        rule = "svg-name" if element.closest("svg") else "role-img-name"
        yield Violation(rule, element, 'Role "img" without aria-label or aria-labelledby.')
    elif element.tag == "object" and not element.has("role") and _shows_media(element):
        yield Violation("object-name", element, "The object shows an image, sound or film and has no name.")


def _shows_media(element: Element) -> bool:
    return _MEDIA_TYPE.search(f"{element.get('type')} {element.get('data')}") is not None


def _decorative(element: Element) -> bool:
    if element.tag == "img":
        return element.has("alt") and element.get("alt") == ""
    return element.get("role").strip().lower() in {"none", "presentation"} and element.tag in {"svg", "nav", "aside"}


def _missing_alt(element: Element) -> str:
    source = f" ({element.get('src')[-60:]})" if element.get("src") else ""
    return (
        f"The image{source} has no alt attribute."
        if not element.has("alt")
        else f"The image{source} has no usable name."
    )


def image_words(view: View) -> Iterator[Violation]:
    """Text alternatives that are file names or words such as "image"."""
    for element in view.document.elements:
        is_button = element.tag == "input" and element.get("type").lower() == "image"
        if not (element.tag == "img" or is_button) or not view.exposed(element):
            continue
        alternative = collapse(element.get("alt")).lower()
        looks_like_file = re.search(r"\.(\w{3,4})\Z", alternative)
        bare = re.sub(r"[\s\d_.\-]+\Z", "", alternative)
        if bare in words().uninformative_alts or (
            looks_like_file and looks_like_file.group(1) in words().image_extensions
        ):
            yield Violation("alt-uninformative", element, f'The text alternative is "{element.get("alt")}".')
        if element.tag == "img" and element.has("alt") and not alternative and element.get("title").strip():
            yield Violation("alt-empty-with-title", element, f'alt is empty, title says "{element.get("title")}".')
        if re.search(r"(spacer|blank|transparent|1x1|pixel)[\w-]*\.(gif|png)", element.get("src"), re.I):
            yield Violation("spacer-image", element, f"The image {element.get('src')[-60:]} holds space.")


def controls(view: View) -> Iterator[Violation]:
    """Buttons, links, fields, menu items, frames and summaries need a name."""
    for element in view.document.elements:
        if element.tag == "summary" and view.exposed(element) and view.implicit_role(element) == "summary":
            if not view.explicit_role(element).replace("none", "") and not view.name(element):
                yield Violation("summary-name", element, "The summary has no text.")
            continue
        if not view.exposed(element) or view.name(element):
            continue
        role = view.role(element)
        if element.tag == "input" and element.get("type").lower() == "image" and role == "button":
            yield Violation("image-button-name", element, "The image button has no alt text.")
        elif role == "button":
            yield Violation("button-name", element, "The button has neither text nor a label.")
        elif role == "link":
            yield Violation(
                "link-name",
                element,
                f"The link to {element.get('href')[:80] or 'a page'} has neither text nor a label.",
            )
        elif role in _FIELD_ROLES or (element.tag == "input" and element.get("type").lower() in _MANY_NAMELESS_INPUTS):
            yield Violation("field-name", element, "No label, aria-label or title names the field.")
        elif role == "menuitem":
            yield Violation("menuitem-name", element, "The menu item has neither text nor a label.")
        elif (
            element.tag == "iframe" and not element.has("role") and not element.get("tabindex").strip().startswith("-")
        ):
            yield Violation(
                "iframe-name", element, f"The frame of {element.get('src')[:80] or 'this page'} has no title."
            )


def frames(view: View) -> Iterator[Violation]:
    """Frames of one name should load one page; a frame with controls must be reachable by keyboard."""
    by_name: dict[str, list[Element]] = defaultdict(list)
    for element in view.document.with_tag("iframe"):
        if not view.exposed(element):
            continue
        if view.name(element):
            by_name[view.name(element).lower()].append(element)
        if element.get("tabindex").strip().startswith("-") and _has_controls(element.get("srcdoc")):
            yield Violation("iframe-tab-order", element, "tabindex is negative and the frame contains controls.")
    for name, alike in by_name.items():
        pages = {_bare_address(e.get("src")) for e in alike}
        if len(pages) > 1:
            yield Violation(
                "iframe-same-name", alike[1], f'{len(alike)} frames named "{name}" load {len(pages)} different pages.'
            )


def _bare_address(address: str) -> str:
    return re.sub(r"[#?].*", "", address).rstrip("/")


def _has_controls(markup: str) -> bool:
    from zora_core.skills.page import Page

    if not markup:
        return False
    inner = View(Page(ref="srcdoc", html=markup))
    return any(inner.tabbable(e) and inner.seen(e) for e in inner.document.elements)


def label_in_name(view: View) -> Iterator[Violation]:
    """Whoever speaks the label that is seen must hit the control."""
    for element in view.document.elements:
        explicit_name = element.get("aria-label").strip() or element.get("aria-labelledby").strip()
        if not explicit_name or view.role(element) not in _LABEL_ROLES or not view.shown(element):
            continue
        label, name = _speech(view.seen_text(element)), _speech(view.name(element))
        if len("".join(label)) <= 1 and not "".join(label).isdigit():
            continue
        if label and not any(name[i : i + len(label)] == label for i in range(len(name) - len(label) + 1)):
            yield Violation(
                "label-in-name",
                element,
                f'Seen: "{collapse(view.seen_text(element))[:80]}"; named: "{view.name(element)[:80]}".',
            )


def _speech(text: str) -> list[str]:
    """The words of a label as they are spoken: lower case, without what stands in brackets and without signs."""
    without_brackets = re.sub(r"\([^)]*\)|(?<=\w)-(?=\w)", lambda m: "" if m.group() == "-" else " ", text.lower())
    return re.findall(r"\w+", without_brackets)
