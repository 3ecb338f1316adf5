"""Checks of labels, groups, hints and autofill of forms."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from zora_core.skills.accessibility.catalogue import Violation
from zora_core.skills.accessibility.view import LABELABLE, View
from zora_core.skills.accessibility.words import words
from zora_core.skills.page.dom import Element

_TYPED = frozenset({"text", "email", "tel", "url", "search", "password", "number", ""})
_NO_AUTOFILL = frozenset({"button", "checkbox", "file", "hidden", "image", "radio", "reset", "submit"})


def labels(view: View) -> Iterator[Violation]:
    """Labels that are empty, point nowhere, say nothing or are all the same."""
    for label in view.document.with_tag("label"):
        if not view.exposed(label):
            continue
        if not view.exposed_text(label) and not any(d.tag in LABELABLE for d in label.descendants()):
            yield Violation("label-empty", label, "The label has no text.")
        target = view.document.by_id.get(label.get("for"))
        if label.get("for") and target is None:
            yield Violation("label-without-field", label, f'No element has the id "{label.get("for")}".')
    for field in view.document.elements:
        if not _typed(field) or not view.exposed(field):
            continue
        name = view.name(field)
        own = (
            view.labels(field)
            or field.get("aria-label").strip()
            or field.get("aria-labelledby").strip()
            or field.get("title").strip()
        )
        if name and not own and field.get("placeholder").strip():
            yield Violation(
                "placeholder-label", field, f'Only the placeholder "{field.get("placeholder")}" names the field.'
            )
        if re.sub(r"\W+\Z", "", name.lower()) in words().generic_labels:
            yield Violation("field-label-generic", field, f'The label is "{name}".')


def _typed(element: Element) -> bool:
    return element.tag == "textarea" or (element.tag == "input" and element.get("type").lower() in _TYPED | {"date"})


def repeated_labels(view: View) -> Iterator[Violation]:
    """Fields of one form whose names are equal, unless groups tell them apart."""
    by_name: dict[tuple[Element | None, str], list[Element]] = defaultdict(list)
    for field in view.document.elements:
        if _typed(field) and view.exposed(field) and view.name(field):
            by_name[field.closest("fieldset", "form", "table", "tr"), view.name(field).lower()].append(field)
    for (_, name), fields in by_name.items():
        if len(fields) > 1:
            yield Violation("labels-repeated", fields[1], f'{len(fields)} fields are labelled "{name[:80]}".')


def groups(view: View) -> Iterator[Violation]:
    """Choices that belong together need a group with a name."""
    choices: dict[tuple[str, str, Element | None], list[Element]] = defaultdict(list)
    for element in view.document.with_tag("input"):
        kind = element.get("type").lower()
        if kind in {"radio", "checkbox"} and view.exposed(element):
            place = element.closest("form") or view.document.body
            name = element.get("name") if kind == "radio" else re.sub(r"[\d\[\]_-]+\Z", "", element.get("name"))
            choices[kind, name, place].append(element)
    for (kind, name, _), members in choices.items():
        if len(members) > 1 and (name or kind == "checkbox") and not any(_grouped(view, m) for m in members):
            word = "radio buttons" if kind == "radio" else "check boxes"
            yield Violation(
                "fieldset-missing",
                members[0],
                f"{len(members)} {word} stand together without a fieldset or role group.",
            )
    for fieldset in view.document.with_tag("fieldset"):
        if view.exposed(fieldset) and not view.name(fieldset):
            yield Violation("legend-empty", fieldset, "The group has no name.")


def _grouped(view: View, element: Element) -> bool:
    return any(
        a.tag == "fieldset" or view.role(a) in {"group", "radiogroup", "listbox", "menu"} for a in element.ancestors()
    )


def hints(view: View) -> Iterator[Violation]:
    """A hint beside a field that no aria-describedby connects."""
    for element in view.document.elements:
        names = element.get("class").lower().split()
        if not any(
            re.fullmatch(r"([\w-]+[-_])?(hint|help-?text|field-?error|error-?message)([-_]\w+)?", n) for n in names
        ):
            continue
        if not view.exposed(element) or element.closest("label", "legend") or element.parent is None:
            continue
        fields = [d for d in element.parent.descendants() if _typed(d) and view.exposed(d)]
        referenced = {
            i for f in fields for i in f.ids("aria-describedby") + f.ids("aria-labelledby") + f.ids("aria-errormessage")
        }
        if len(fields) == 1 and element.text and element.get("id") not in referenced:
            yield Violation(
                "hint-not-connected", element, f'The hint "{element.text[:80]}" is not read with its field.'
            )


def autofill(view: View) -> Iterator[Violation]:
    """An autocomplete attribute must follow the grammar of the HTML standard."""
    for element in view.document.with_tag("input", "select", "textarea"):
        value = element.get("autocomplete").strip()
        if not value or not view.exposed(element) or view.disabled(element):
            continue
        if element.tag == "input" and element.get("type").lower() in _NO_AUTOFILL:
            continue
        unreachable = element.get("tabindex").strip().startswith("-")
        if unreachable and view.explicit_role(element) not in {
            "",
            "textbox",
            "combobox",
            "searchbox",
            "listbox",
            "spinbutton",
        }:
            continue
        if not valid_autofill(value):
            yield Violation("autocomplete-valid", element, f'autocomplete is "{value[:80]}".')


def valid_autofill(value: str) -> bool:
    """Whether a value is `on`, `off`, or `[section-…] [shipping|billing] [contact] field [webauthn]`."""
    tokens = value.lower().split()
    if tokens in (["on"], ["off"]):
        return True
    if tokens and tokens[0].startswith("section-"):
        tokens = tokens[1:]
    if tokens and tokens[0] in {"shipping", "billing"}:
        tokens = tokens[1:]
    if tokens and tokens[-1] == "webauthn":
        tokens = tokens[:-1]
    if len(tokens) == 2 and tokens[0] in {"home", "work", "mobile", "fax", "pager"}:
        return tokens[1] in words().autofill_contact
    return len(tokens) == 1 and tokens[0] in words().autofill | words().autofill_contact
