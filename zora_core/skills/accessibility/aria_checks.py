"""Checks of roles, states and properties against WAI-ARIA 1.2."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

from zora_core.skills.accessibility.catalogue import Violation
from zora_core.skills.accessibility.view import View
from zora_core.skills.page.dom import Element, shorten

# What native elements already say without an attribute.
_NATIVE_STATE = {"aria-checked": {"checkbox", "radio"}, "aria-valuenow": {"range", "number"}}
# A value to begin with, for states whose first value can be told.
_START = {
    "aria-checked": 'aria-checked="false"',
    "aria-expanded": 'aria-expanded="false"',
    "aria-level": 'aria-level="2"',
}
_GROUPING = frozenset({"none", "generic", "", "presentation"})
_WIDGETS_WITHOUT_CHILDREN = frozenset({"input", "img", "select", "textarea"})


def attributes(view: View) -> Iterator[Violation]:
    """Roles and attributes must exist, have values that are allowed, and fit each other."""
    for element in view.document.elements:
        role_value = element.get("role").strip()
        names = [name for name in element.attrs if name.startswith("aria-")]
        if not (role_value or names) or not view.exposed(element):
            continue
        if role_value and not view.explicit_role(element):
            likely = _nearest(role_value.lower(), view.aria.roles)
            yield Violation(
                "aria-role-valid",
                element,
                f'"{shorten(role_value, 60)}" is not a role of WAI-ARIA.',
                f'role="{likely}"' if likely else "",
            )
        for name in names:
            value = element.get(name).strip()
            kind, allowed = view.aria.attributes.get(name, ("", frozenset[str]()))
            if not kind:
                likely = _nearest(name, view.aria.attributes)
                yield Violation("aria-attribute-defined", element, f"{name} is not defined in WAI-ARIA.", likely)
            elif value and not _valid(kind, allowed, value):
                yield Violation("aria-value-valid", element, f'{name}="{shorten(value, 60)}" is not allowed.')
            elif kind == "reference" and value and _dangling(view, element, name):
                yield Violation(
                    "aria-reference-missing", element, f'{name}="{shorten(value, 60)}": no such id on the page.'
                )
        yield from _permitted(view, element, names)


def _nearest(word: str, known: Iterable[str]) -> str:
    """The known word that a misspelt one most likely means, or an empty string."""
    return next(iter(difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.8)), "")


def _valid(kind: str, allowed: frozenset[str], value: str) -> bool:
    value = value.lower()
    match kind:
        case "boolean":
            return value in {"true", "false"}
        case "boolean_or_undefined":
            return value in {"true", "false", "undefined"}
        case "tristate":
            return value in {"true", "false", "mixed", "undefined"}
        case "integer":
            return re.fullmatch(r"[+-]?\d+", value) is not None
        case "number":
            return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", value) is not None
        case "token":
            return value in allowed
        case "tokens":
            return set(value.split()) <= allowed
        case _:
            return True


def _dangling(view: View, element: Element, name: str) -> bool:
    if view.referenced(element, name) or name in {"aria-controls", "aria-owns", "aria-flowto", "aria-activedescendant"}:
        return False
    return name in {"aria-labelledby", "aria-describedby", "aria-errormessage", "aria-details"}


def _permitted(view: View, element: Element, names: list[str]) -> Iterator[Violation]:
    role = view.role(element)
    known = view.aria.roles.get(role)
    if "-" in element.tag:
        return
    if known is None:
        yield from _permitted_without_role(view, element, names if not role else [])
        return
    unnamed_section = role == "generic" and element.tag in {"section", "form"}
    for name in names:
        if name not in view.aria.attributes or not element.get(name).strip():
            continue
        prohibited = known.name == "prohibited" and name in {"aria-label", "aria-labelledby", "aria-roledescription"}
        if prohibited and not unnamed_section and not (name == "aria-roledescription" and role != "generic"):
            yield Violation("aria-name-prohibited", element, f'{name} on an element with role "{role}".')
        elif name not in view.aria.global_attributes and name not in known.supports and name not in known.required:
            yield Violation("aria-not-permitted", element, f'{name} is not supported on role "{role}".')


def _permitted_without_role(view: View, element: Element, names: list[str]) -> Iterator[Violation]:
    if element.tag not in view.aria.without_role:
        return
    for name in names:
        if name not in view.aria.attributes or not element.get(name).strip():
            continue
        if name in {"aria-label", "aria-labelledby", "aria-roledescription"}:
            if element.tag in view.aria.unnamed:
                yield Violation("aria-name-prohibited", element, f"{name} on <{element.tag}>, which has no role.")
        elif name not in view.aria.global_attributes:
            yield Violation("aria-not-permitted", element, f"{name} on <{element.tag}>, which has no role.")


def required_states(view: View) -> Iterator[Violation]:
    """A role that needs a state must have it, unless the HTML element brings it along."""
    for element in view.document.elements:
        role = view.explicit_role(element)
        if not role or role not in view.aria.roles or role != view.role(element) or not view.exposed(element):
            continue
        required = view.aria.roles[role].required
        if role == "separator":
            required = ("aria-valuenow",) if view.focusable(element) else ()
        if view.implicit_role(element) == role or (role == "combobox" and element.tag == "select"):
            continue
        for name in required:
            native = element.tag == "input" and element.get("type").lower() in _NATIVE_STATE.get(name, set())
            if not element.get(name).strip() and not native:
                yield Violation("aria-required-state", element, f'Role "{role}" needs {name}.', _START.get(name, ""))


def context(view: View) -> Iterator[Violation]:
    """A role that belongs inside another must be there, directly, through groups, or by aria-owns."""
    owners: dict[Element, Element] = {}
    for element in view.document.elements:
        for owned in view.referenced(element, "aria-owns"):
            owners[owned] = element
    for element in view.document.elements:
        role = view.explicit_role(element)
        known = view.aria.roles.get(role)
        if known is None or not known.context or role == view.implicit_role(element) or not view.exposed(element):
            continue
        owner: Element | None = owners.get(element, element.parent)
        while owner is not None and view.role(owner) in _GROUPING:
            owner = owners.get(owner, owner.parent)
        if owner is None or view.role(owner) not in known.context:
            yield Violation("aria-context", element, f'Role "{role}" must be inside {_any_of(known.context)}.')


def owned(view: View) -> Iterator[Violation]:
    """A container role must own at least one of its parts and nothing else."""
    for element in view.document.elements:
        role = view.explicit_role(element)
        known = view.aria.roles.get(role)
        if known is None or not known.owns or role == view.implicit_role(element) or not view.exposed(element):
            continue
        if element.get("aria-busy").lower() == "true":
            continue
        parts = list(_owned(view, element))
        wrong = next((p for p in parts if view.role(p) not in known.owns), None)
        if wrong is not None:
            yield Violation(
                "aria-owned",
                element,
                f'Role "{role}" owns "{view.role(wrong)}" ({wrong.tag}); allowed: {_any_of(known.owns)}.',
            )
        elif not parts:
            yield Violation("aria-owned", element, f'Role "{role}" owns none of {_any_of(known.owns)}.')


def _owned(view: View, element: Element) -> Iterator[Element]:
    queue = [*element.elements, *view.referenced(element, "aria-owns")]
    seen: set[Element] = set()
    while queue:
        child = queue.pop(0)
        if child in seen or not view.exposed(child) or child.tag in {"script", "template", "style"}:
            continue
        seen.add(child)
        if view.role(child) in _GROUPING:
            queue[:0] = [*child.elements, *view.referenced(child, "aria-owns")]
        else:
            yield child


def _any_of(roles: frozenset[str]) -> str:
    return " or ".join(sorted(roles))


def keyboard(view: View) -> Iterator[Violation]:
    """Nothing hidden takes the focus, no control contains another, what reacts to clicks can be reached."""
    for element in view.document.elements:
        if element.get("aria-hidden").lower() == "true" and view.shown(element):
            reachable = next((e for e in [element, *element.descendants()] if view.tabbable(e)), None)
            if reachable is not None:
                yield Violation(
                    "aria-hidden-focus", element, f"The Tab key reaches {shorten(reachable.markup, 80)} inside it."
                )
        known = view.aria.roles.get(view.role(element))
        if known and known.leaf and view.exposed(element) and element.tag not in _WIDGETS_WITHOUT_CHILDREN:
            inner = next((e for e in element.descendants() if view.tabbable(e)), None)
            if inner is not None:
                yield Violation("nested-interactive", element, f"It contains {shorten(inner.markup, 80)}.")
        if element.has("onclick") and view.exposed(element) and not view.disabled(element):
            yield from _click(view, element)


def _click(view: View, element: Element) -> Iterator[Violation]:
    if view.focusable(element) or element.tag in {"html", "body", "label", "option", "area", "form"}:
        return
    if any(view.focusable(d) for d in element.descendants()) or any(view.focusable(a) for a in element.ancestors()):
        return
    yield Violation("click-without-keyboard", element, f"<{element.tag}> has onclick but cannot take the focus.")


def identifiers(view: View) -> Iterator[Violation]:
    """An id that something refers to must be unique."""
    used = {
        i
        for e in view.document.elements
        for name in ("for", "aria-labelledby", "aria-describedby", "aria-controls", "headers")
        for i in e.ids(name)
    }
    reported: set[str] = set()
    for element in view.document.elements:
        identifier = element.get("id")
        if identifier in used and view.document.id_counts[identifier] > 1 and identifier not in reported:
            reported.add(identifier)
            yield Violation(
                "duplicate-id", element, f'{view.document.id_counts[identifier]} elements have the id "{identifier}".'
            )
