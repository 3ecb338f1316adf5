"""Forms for payloads: a JSON Schema becomes fields, and what a person typed becomes a payload.

A control is called `payload.` and the field's path. A list of choices has a checkbox per choice, `NAME.CHOICE`; beside
checkboxes stands a hidden control `NAME.shown`, because browsers do not send what is not ticked.

What equals its default is left out of the payload. So it is as short as a person would write it, and a default never
contradicts what was filled in instead (a page's key and a page's address, say). Forms cannot say everything that JSON
can: an empty or blank text counts as not given, and line ends become `\\n`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from zora_core.errors import InvalidPayload

Kind = Literal["text", "textarea", "number", "integer", "checkbox", "select", "checks", "lines", "json"]
Schema = Mapping[str, Any]
Value = str | list[str] | bool

PREFIX = "payload"
MARKER = ".shown"  # ends the name of the hidden control beside checkboxes
LONG = 200  # characters; a text that may be longer gets several lines
MAX_DIGITS = 400  # of a number; more is no double any more, and slow to read
_LONG_NAMES = {"extra_instructions", "html", "text", "body", "content"}  # no length in the schema, and yet long
_LAST = "extra_instructions"  # every payload has it and few need it
_ACRONYMS = {"url": "URL", "urls": "URLs", "html": "HTML", "id": "ID", "ids": "IDs", "json": "JSON"}
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LEFT_OUT: Any = object()


@dataclass(frozen=True)
class Choice:
    """One of several values: `text` is what the form sends, `value` what it stands for in JSON."""

    text: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of a form.

    `kind` is its control: `lines` is a list of texts, one per line; `checks` a list of choices; `json` whatever no
    other control can say. `above` and `below` are exclusive bounds, `minitems` and `maxitems` hold for lists.
    `nullable` says that null is a value; a field that is emptied becomes null then, unless that is the default.
    """

    name: str
    path: tuple[str, ...]
    label: str
    kind: Kind
    help: str = ""
    required: bool = False
    nullable: bool = False
    default: Any = None
    example: str = ""
    format: str | None = None
    choices: tuple[Choice, ...] = ()
    min: float | None = None
    max: float | None = None
    above: float | None = None
    below: float | None = None
    step: float | None = None
    minlength: int | None = None
    maxlength: int | None = None
    pattern: str | None = None
    minitems: int | None = None
    maxitems: int | None = None

    @property
    def id(self) -> str:
        """The control's id in the page, made of its name."""
        return re.sub(r"[^A-Za-z0-9_]+", "-", self.name)

    @property
    def limits(self) -> str:
        """What the schema demands of a value, in words; empty when it demands nothing."""
        of_them = " of them" if self.kind in ("lines", "checks") else " characters"
        said = (
            "a whole number" if self.kind == "integer" else "",
            "one per line" if self.kind == "lines" else "",
            "written as JSON" if self.kind == "json" else "",
            f"at least {self.min:,}" if self.min is not None else "",
            f"more than {self.above:,}" if self.above is not None else "",
            f"at most {self.max:,}" if self.max is not None else "",
            f"less than {self.below:,}" if self.below is not None else "",
            f"at least {self.minitems:,}{of_them}" if self.minitems else "",
            f"at most {self.maxitems:,}{of_them}" if self.maxitems is not None else "",
            f"at least {self.minlength:,}{of_them}" if (self.minlength or 0) > 1 else "",
            f"at most {self.maxlength:,}{of_them}" if self.maxlength is not None else "",
        )
        text = ", ".join(filter(None, said))
        return f"{text[0].upper()}{text[1:]}." if text else ""


# --- schema to fields -------------------------------------------------------------------------------------------------


def fields_of(schema: Schema) -> list[Field]:
    """The fields of a payload's JSON Schema (`TaskType.schema`): required ones first, further instructions last.

    A nested object becomes fields of its own where leaving them out cannot change its meaning, else one field of JSON.
    """
    examples = [example for example in schema.get("examples", ()) if isinstance(example, dict)]
    said = requirement(schema)
    together = set(_alternatives(schema)[1]) if said else set()
    fields = list(_fields(schema, schema.get("$defs", {}), (), examples, together, said))
    return sorted(fields, key=lambda field: (field.path[0] == _LAST, not field.required))


def requirement(schema: Schema) -> str:
    """Which of a payload's fields exclude or replace one another, in one sentence; empty when the schema says nothing.

    It reads `oneOf` and `anyOf` whose branches each require one field, or rule out (`false`, or null only) all but one.
    """
    word, names, branches = _alternatives(schema)
    if not names:
        return ""
    required = [required for required, _ in branches]
    excluding = all(len(names) - len(excluded) == 1 for _, excluded in branches)
    if all(len(one) == 1 for one in required) and (word == "oneOf" or excluding):
        count = "exactly one"
    elif excluding:
        count = "at most one"
    elif word == "anyOf" and all(len(one) == 1 for one in required):
        count = "at least one"
    else:
        return ""
    labels = [_label(name, schema.get("properties", {}).get(name, {})) for name in names]
    return f"Give {count} of {', '.join(labels[:-1])} and {labels[-1]}."


def _alternatives(schema: Schema) -> tuple[str, list[str], list[tuple[set[str], set[str]]]]:
    """`oneOf` or `anyOf`, the fields that its branches name, and what each branch requires and rules out."""
    for word in ("oneOf", "anyOf"):
        branches = [branch for branch in schema.get(word, ()) if isinstance(branch, dict)]
        found = [
            (
                set(branch.get("required", ())),
                {
                    name
                    for name, value in branch.get("properties", {}).items()
                    if value is False or value == {"type": "null"}
                },
            )
            for branch in branches
        ]
        named = set().union(*(required | excluded for required, excluded in found)) if found else set()
        names = [name for name in schema.get("properties", {}) if name in named]
        if len(names) > 1:
            return word, names, found
    return "", [], []


def _fields(
    schema: Schema,
    definitions: Schema,
    path: tuple[str, ...],
    examples: list[dict[str, Any]],
    together: set[str],
    said: str,
) -> Iterator[Field]:
    for name, raw in schema.get("properties", {}).items():
        if not isinstance(raw, dict):
            continue  # `true` and `false` describe nothing that could be asked for
        part, nullable = _plain(raw, definitions)
        required = name in schema.get("required", ())
        here = (*path, name)
        inner = [example[name] for example in examples if name in example]
        if _spreads(part, required, nullable, here):
            nested = [example for example in inner if isinstance(example, dict)]
            yield from _fields(part, definitions, here, nested, set(), "")
        else:
            help_ = " ".join(filter(None, (part.get("description", ""), said if name in together else "")))
            yield _field(here, part, definitions, help_, required, nullable, [*part.get("examples", ()), *inner])


def _plain(schema: Schema, definitions: Schema) -> tuple[dict[str, Any], bool]:
    """A schema with references followed and "or null" taken off, and whether null was allowed."""
    found, nullable = dict(schema), False
    for _ in range(20):  # references may go round in circles
        if "$ref" in found:
            found = {**definitions.get(str(found.pop("$ref")).rpartition("/")[2], {}), **found}
        elif len(found.get("allOf", ())) == 1:
            found = {**found.pop("allOf")[0], **found}
        elif isinstance(found.get("type"), list):
            found["anyOf"] = [{"type": kind} for kind in found.pop("type")]
        elif "properties" not in found and (word := next((w for w in ("anyOf", "oneOf") if w in found), None)):
            every = found.pop(word)
            branches = [branch for branch in every if branch != {"type": "null"}]
            nullable = nullable or len(branches) < len(every)
            if len(branches) != 1 or not isinstance(branches[0], dict):
                found.pop("type", None)
                return found, nullable
            found = {**branches[0], **found}
        else:
            return found, nullable
    return {}, nullable


def _spreads(part: Schema, required: bool, nullable: bool, path: tuple[str, ...]) -> bool:
    """Whether an object's fields can stand for it: that all are left out must mean the same as leaving it out."""
    if part.get("type") != "object" or not part.get("properties") or nullable or part.get("default") or len(path) > 3:
        return False
    if part.get("additionalProperties") is not False or any("." in name for name in (path[-1], *part["properties"])):
        return False
    return required == bool(part.get("required"))


def _field(
    path: tuple[str, ...],
    part: Schema,
    definitions: Schema,
    help_: str,
    required: bool,
    nullable: bool,
    examples: Sequence[Any],
) -> Field:
    kind, choices = _control(path[-1], part, definitions, required, nullable)
    items = part if kind in ("lines", "checks") else {}
    bounded = part if kind in ("number", "integer") else {}
    text = part if kind in ("text", "textarea") else {}
    field = Field(
        name=".".join((PREFIX, *path)),
        path=path,
        label=_label(path[-1], part),
        kind=kind,
        help=help_,
        required=required,
        nullable=nullable,
        default=part.get("default"),
        format=part.get("format"),
        choices=choices,
        min=bounded.get("minimum"),
        max=bounded.get("maximum"),
        above=bounded.get("exclusiveMinimum"),
        below=bounded.get("exclusiveMaximum"),
        step=1 if kind == "integer" else bounded.get("multipleOf"),
        minlength=text.get("minLength"),
        maxlength=text.get("maxLength"),
        pattern=text.get("pattern"),
        minitems=items.get("minItems"),
        maxitems=items.get("maxItems"),
    )
    if not examples or kind in ("checkbox", "checks", "select"):
        return field
    example = _typed(field, examples[0])
    return replace(field, example=example if isinstance(example, str) else "")


def _control(
    name: str, part: Schema, definitions: Schema, required: bool, nullable: bool
) -> tuple[Kind, tuple[Choice, ...]]:
    if "const" in part or "enum" in part:
        values = [part["const"]] if "const" in part else list(part["enum"])
        if all(value is None or isinstance(value, (str, int, float, bool)) for value in values):
            return "select", _choices(values)
        return "json", ()
    match part.get("type"):
        case "string":
            long = name in _LONG_NAMES or part.get("maxLength", 0) > LONG or "\n" in str(part.get("default", ""))
            return ("textarea" if long else "text"), ()
        case "number":
            return "number", ()
        case "integer":
            return "integer", ()
        case "boolean" if nullable or not (required or isinstance(part.get("default"), bool)):
            return "select", (Choice("yes", True), Choice("no", False))
        case "boolean":
            return "checkbox", ()
        case "array" if isinstance(part.get("items"), dict):
            item, null = _plain(part["items"], definitions)
            if "enum" in item and not null and all(isinstance(value, str) for value in item["enum"]):
                return "checks", _choices(item["enum"])
            return ("lines" if item.get("type") == "string" and "enum" not in item and not null else "json"), ()
        case _:
            return "json", ()


def _choices(values: Sequence[Any]) -> tuple[Choice, ...]:
    plain = all(isinstance(value, str) and value for value in values)
    return tuple(Choice(value if plain else json.dumps(value, ensure_ascii=False), value) for value in values)


def _label(name: str, part: Schema) -> str:
    """The title that the schema was given; Pydantic's own is the name in title case, of which a sentence's is made."""
    title = part.get("title") if isinstance(part, dict) else None
    if title and title != name.replace("_", " ").title() and "enum" not in part:
        return str(title)
    words = [_ACRONYMS.get(word, word) for word in name.split("_") if word]
    text = " ".join(words) or name
    return text[0].upper() + text[1:]


# --- values to show ---------------------------------------------------------------------------------------------------


def values_of(fields: Iterable[Field], payload: Mapping[str, Any]) -> dict[str, Value]:
    """What the controls show for `payload`, by their names; what it lacks shows its default.

    A checkbox has a boolean, `checks` a list of the choices' texts, everything else a text.
    """
    return {field.name: _typed(field, _at(payload, field)) for field in fields}


def submitted(fields: Iterable[Field], form: Mapping[str, str]) -> dict[str, Value]:
    """What a person had typed, to be shown again: like `values_of`, from the form itself."""
    found: dict[str, Value] = {}
    for field in fields:
        if field.kind == "checkbox":
            found[field.name] = field.name in form
        elif field.kind == "checks":
            found[field.name] = [choice.text for choice in field.choices if f"{field.name}.{choice.text}" in form]
        else:
            found[field.name] = form.get(field.name, "")
    return found


def _at(payload: Any, field: Field) -> Any:
    for name in field.path:
        if not isinstance(payload, Mapping) or name not in payload:
            return field.default
        payload = payload[name]
    return payload


def _typed(field: Field, value: Any) -> Value:
    match field.kind:
        case "checkbox":
            return value is True
        case "checks":
            return [choice.text for choice in field.choices if isinstance(value, list) and choice.value in value]
        case "select":
            same = _json(value)
            return next((choice.text for choice in field.choices if _json(choice.value) == same), "")
        case "lines" if isinstance(value, list) and all(isinstance(line, str) for line in value):
            text = "\n".join(value)
            # A text of several lines, say, must not become several texts.
            return text if _lines(text) == value else _json(value)
        case "json" if value is not None or field.default is not None:
            return json.dumps(value, ensure_ascii=False, indent=2)
        case _:
            return "" if value is None else value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# --- what was typed to a payload --------------------------------------------------------------------------------------


def payload_of(fields: Iterable[Field], form: Mapping[str, str]) -> dict[str, Any]:
    """The payload that a form says; `form` has the submitted texts by the controls' names, and may have others.

    Raises `InvalidPayload` naming every field that is missing or does not fit; `errors_of` tells them to the controls.
    What concerns several fields is left to `TaskType.parse`.
    """
    payload: dict[str, Any] = {}
    problems: list[dict[str, str]] = []
    for field in fields:
        try:
            value = _said(field, form)
        except ValueError as error:
            problems.append({"field": ".".join(field.path), "message": str(error)})
            continue
        if value is not _LEFT_OUT:
            place = payload
            for name in field.path[:-1]:
                place = place.setdefault(name, {})
            place[field.path[-1]] = value
    if problems:
        said = "; ".join(f"{problem['field']}: {problem['message']}" for problem in problems)
        raise InvalidPayload(f"the form is not complete: {said}", problems)
    return payload


def errors_of(fields: Iterable[Field], problems: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The problems of an `InvalidPayload` by the name of the control they belong to; `payload` has those of none."""
    names = {field.path: field.name for field in fields}
    found: dict[str, str] = {}
    for problem in problems:
        path = () if problem["field"] == PREFIX else tuple(problem["field"].split("."))
        depth = next((depth for depth in range(len(path), 0, -1) if path[:depth] in names), 0)
        # A position in a list counts from 0, a person from 1.
        inside = [f"no. {int(step) + 1}" if step.isdecimal() else step for step in path[depth:]]
        said = problem["message"].removeprefix("Value error, ")
        message = f"{' '.join(inside)}: {said}" if inside else said
        name = names.get(path[:depth], PREFIX)
        found[name] = f"{found[name]}; {message}" if name in found else message
    return found


def _said(field: Field, form: Mapping[str, str]) -> Any:
    """A field's value, or `_LEFT_OUT`; raises `ValueError` saying what is wrong with it."""
    value = _read(field, form)
    if value is _LEFT_OUT:
        if field.required and field.default is None:
            raise ValueError("is required")
        return value
    if not field.required and _json(value) == _json(field.default):
        return _LEFT_OUT
    _check(field, value)
    return value


def _read(field: Field, form: Mapping[str, str]) -> Any:
    if field.kind == "checkbox":
        if field.name in form or field.name + MARKER in form:
            value = field.name in form
            return _LEFT_OUT if not (value or field.default or field.required) else value
        return _LEFT_OUT
    if field.kind == "checks":
        chosen = [choice.value for choice in field.choices if f"{field.name}.{choice.text}" in form]
        if not chosen and field.name + MARKER not in form:
            return _LEFT_OUT
        return chosen or _emptied(field)
    text = form.get(field.name, "").replace("\r\n", "\n").replace("\r", "\n")
    if _UNSTORABLE.search(text):
        raise ValueError("has the character NUL or half a character, which cannot be stored")
    if not text.strip():
        return _emptied(field) if field.name in form else _LEFT_OUT
    match field.kind:
        case "select":
            return _chosen(field, text)
        case "lines":
            return _lines(text)
        case "integer" | "number":
            return _number(field, text.strip())
        case "json":
            return _parsed(text)
        case _:
            return text


def _emptied(field: Field) -> Any:
    """What it means that a person left a control empty."""
    if field.nullable:
        return _LEFT_OUT if field.default is None else None
    if field.kind in ("lines", "checks"):
        return [] if field.required or field.default else _LEFT_OUT
    return _LEFT_OUT


def _chosen(field: Field, text: str) -> Any:
    for choice in field.choices:
        if choice.text == text:
            return choice.value
    raise ValueError(f"must be one of {', '.join(choice.text for choice in field.choices)}")


def _lines(text: str) -> list[str]:
    """One text per line, without blank lines; or a JSON array of texts, for those that have several lines."""
    if text.lstrip().startswith("["):
        try:
            found = _parsed(text)
        except ValueError:
            found = None
        if isinstance(found, list) and all(isinstance(line, str) for line in found):
            return found
    return [line.strip() for line in text.split("\n") if line.strip()]


def _number(field: Field, text: str) -> float:
    whole = field.kind == "integer"
    if _INTEGER.fullmatch(text) and len(text) <= MAX_DIGITS:
        return int(text)
    value = float(text) if _NUMBER.fullmatch(text) else None
    if value is None:
        raise ValueError("must be a whole number, such as 5" if whole else "must be a number, such as 0.5")
    if not math.isfinite(value) or _INTEGER.fullmatch(text):
        raise ValueError("is too large a number")
    if whole and not value.is_integer():
        raise ValueError("must be a whole number, such as 5")
    return int(value) if whole else value


def _parsed(text: str) -> Any:
    """JSON as PostgreSQL can store it."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    try:
        found = json.loads(text, parse_constant=refuse)
        for leaf in _leaves(found):
            if isinstance(leaf, float) and not math.isfinite(leaf):
                raise ValueError("has too large a number")
            if isinstance(leaf, str) and _UNSTORABLE.search(leaf):
                raise ValueError("has the character NUL or half a character, which cannot be stored")
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"must be JSON, where a text stands in double quotes: {error.msg} ({where})") from error
    except RecursionError as error:
        raise ValueError("must be JSON that is nested less deeply") from error
    return found


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value
        for part in value.values():
            yield from _leaves(part)
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _check(field: Field, value: Any) -> None:
    """Raise `ValueError` for a value outside what the schema allows for this field alone."""
    if field.kind in ("number", "integer") and value is not None:
        if (
            (field.min is not None and value < field.min)
            or (field.max is not None and value > field.max)
            or (field.above is not None and value <= field.above)
            or (field.below is not None and value >= field.below)
        ):
            raise ValueError(f"is out of range. {field.limits}")
    elif isinstance(value, str) and field.kind in ("text", "textarea"):
        if len(value) < (field.minlength or 0):
            raise ValueError(f"must have at least {field.minlength:,} characters")
        if field.maxlength is not None and len(value) > field.maxlength:
            raise ValueError(f"must have at most {field.maxlength:,} characters, not {len(value):,}")
    elif isinstance(value, list) and field.kind in ("lines", "checks"):
        if len(value) < (field.minitems or 0):
            raise ValueError(f"must have at least {field.minitems:,}")
        if field.maxitems is not None and len(value) > field.maxitems:
            raise ValueError(f"must have at most {field.maxitems:,}, not {len(value):,}")
