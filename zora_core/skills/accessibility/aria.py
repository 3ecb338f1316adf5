"""What WAI-ARIA says about roles, states and properties, read from the data file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from zora_core.data import load


@dataclass(frozen=True)
class Role:
    """One role; see the data file for what each field means."""

    name: str = "author"
    required: tuple[str, ...] = ()
    supports: frozenset[str] = frozenset()
    context: frozenset[str] = frozenset()
    owns: frozenset[str] = frozenset()
    leaf: bool = False


@dataclass(frozen=True)
class Aria:
    """Roles by name, attributes by kind of value, and the roles that HTML elements have by themselves.

    `without_role` holds the elements that have none, `unnamed` those among them that must not be given a name.
    """

    roles: dict[str, Role]
    attributes: dict[str, tuple[str, frozenset[str]]]
    global_attributes: frozenset[str]
    implicit: dict[str, str]
    input_roles: dict[str, str]
    without_role: frozenset[str]
    unnamed: frozenset[str]


@lru_cache(maxsize=1)
def tables() -> Aria:
    """The tables of the data file; an attribute's value is its kind and, for tokens, the values allowed."""
    raw = load("accessibility_aria")
    kinds = raw["attributes"]
    attributes = {
        name: (kind, frozenset[str]())
        for kind in ("boolean", "boolean_or_undefined", "tristate", "integer", "number", "reference", "text")
        for name in kinds[kind]
    }
    attributes |= {name: ("token", frozenset(values)) for name, values in kinds["token"].items()}
    attributes |= {name: ("tokens", frozenset(values)) for name, values in kinds["tokens"].items()}
    roles = {
        role: Role(
            name=entry.get("name", "author"),
            required=tuple(entry.get("required", ())),
            supports=frozenset(entry.get("supports", ())),
            context=frozenset(entry.get("context", ())),
            owns=frozenset(entry.get("owns", ())),
            leaf=entry.get("leaf", False),
        )
        for role, entry in raw["roles"].items()
    }
    return Aria(
        roles=roles,
        attributes=attributes,
        global_attributes=frozenset(kinds["global"]),
        implicit=raw["implicit"],
        input_roles=raw["input_roles"],
        without_role=frozenset(raw["without_role"]["elements"]),
        unnamed=frozenset(raw["without_role"]["unnamed"]),
    )
