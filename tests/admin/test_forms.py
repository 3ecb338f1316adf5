"""Forms: what a payload's schema becomes, and that what is shown and sent back means the same."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser as HTMLParser

import zora_core
from zora_core.admin.forms import (
    Field,
    errors_of,
    fields_of,
    payload_of,
    requirement,
    submitted,
    values_of,
)
from zora_core.agents.agent import TaskType
from zora_core.agents.builtin import registry
from zora_core.effects import SuggestionType, suggestion_types
from zora_core.errors import InvalidPayload

TYPES = {f"{t.agent_id} {t.name}": t for t in registry()}
every_type = pytest.mark.parametrize("task_type", TYPES.values(), ids=TYPES)
TEMPLATES = Path(zora_core.__file__).parent / "admin" / "templates"

EVERYTHING: dict[str, Any] = {
    "type": "object",
    "required": ["place", "colour"],
    "$defs": {"Colour": {"enum": ["red", "green"], "type": "string", "title": "Colour"}},
    "properties": {
        "place": {"type": "string", "minLength": 2, "maxLength": 10, "description": "Where."},
        "colour": {"$ref": "#/$defs/Colour", "description": "Which."},
        "loud": {"type": "boolean", "default": True},
        "quiet": {"type": "boolean", "default": False},
        "maybe": {"anyOf": [{"type": "boolean"}, {"type": "null"}], "default": None},
        "size": {"type": ["number", "null"], "minimum": 0.5, "exclusiveMaximum": 2, "default": 1},
        "often": {"type": "integer", "multipleOf": 1, "default": 3},
        "only": {"const": "this", "default": "this"},
        "mixed": {"enum": [1, "1", None], "default": 1},
        "names": {"type": "array", "items": {"type": "string"}, "default": ["Ada"]},
        "colours": {"type": "array", "items": {"$ref": "#/$defs/Colour"}, "default": ["red"]},
        "nested": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"depth": {"type": "integer", "default": 1}, "why": {"type": "string"}},
        },
        "free": {"type": "object"},
        "either": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        "points": {"type": "array", "items": {"type": "number"}},
    },
}


def form_of(fields: list[Field], values: dict[str, Any]) -> dict[str, str]:
    """What a browser sends for controls that show `values`."""
    form: dict[str, str] = {"csrf": "x"}
    for field in fields:
        value = values[field.name]
        if field.kind in ("checkbox", "checks"):
            form[f"{field.name}.shown"] = "1"
        if field.kind == "checkbox":
            form |= {field.name: "1"} if value else {}
        elif field.kind == "checks":
            form |= {f"{field.name}.{text}": "1" for text in value}
        else:
            form[field.name] = value.replace("\n", "\r\n")
    return form


def texts(minimum: int, maximum: int) -> st.SearchStrategy[str]:
    """Texts that a form can say: not blank, without carriage returns and NUL."""
    alphabet = st.one_of(st.sampled_from(string.printable.replace("\r", "")), st.characters(exclude_categories=["C"]))
    return st.text(alphabet, min_size=max(1, minimum), max_size=max(min(maximum, 60), minimum)).filter(str.strip)


def values(schema: dict[str, Any], definitions: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return values(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return st.one_of(*(values(one, definitions) for one in schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "null":
            return st.none()
        case "string":
            return texts(schema.get("minLength", 0), schema.get("maxLength", 60))
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema.get("minimum"), schema.get("maximum"))
        case "number":
            low = schema.get("minimum", schema.get("exclusiveMinimum"))
            return st.floats(low, schema.get("maximum"), exclude_min="exclusiveMinimum" in schema)
        case "array":
            items = values(schema["items"], definitions)
            return st.lists(items, min_size=schema.get("minItems", 0), max_size=min(schema.get("maxItems", 6), 6))
    raise AssertionError(schema)


def payloads(task_type: TaskType) -> st.SearchStrategy[dict[str, Any]]:
    schema = task_type.schema
    each = {name: values(part, schema.get("$defs", {})) for name, part in schema["properties"].items()}
    required = schema.get("required", [])
    return st.fixed_dictionaries(
        {name: each[name] for name in required},
        optional={name: strategy for name, strategy in each.items() if name not in required},
    )


def meaning(task_type: TaskType, payload: dict[str, Any]) -> dict[str, Any]:
    """What a handler gets of it; the order of choices, and that one stands there twice, means nothing."""
    found = task_type.parse(payload).model_dump(mode="json")
    chosen = [f.path[0] for f in fields_of(task_type.schema) if f.kind == "checks"]
    return {**found, **{name: sorted(set(found[name])) for name in chosen}}


@every_type
@settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(data=st.data())
def test_a_payload_that_is_shown_and_sent_back_means_the_same(task_type: TaskType, data: st.DataObject) -> None:
    payload = data.draw(payloads(task_type))
    try:
        before = meaning(task_type, payload)
    except InvalidPayload:
        assume(False)
    fields = fields_of(task_type.schema)
    again = payload_of(fields, form_of(fields, values_of(fields, payload)))
    assert meaning(task_type, again) == before


@every_type
def test_the_examples_are_shown_and_sent_back(task_type: TaskType) -> None:
    fields = fields_of(task_type.schema)
    for example in task_type.schema["examples"]:
        again = payload_of(fields, form_of(fields, values_of(fields, example)))
        defaults = {field.path[0]: field.default for field in fields}
        assert again == {name: value for name, value in example.items() if value != defaults[name]}


@every_type
def test_every_parameter_has_a_control_that_fits_it(task_type: TaskType) -> None:
    fields = fields_of(task_type.schema)
    assert {field.path[0] for field in fields} == set(task_type.schema["properties"])
    assert all(field.help and field.label for field in fields)
    assert "json" not in {field.kind for field in fields}, "nobody should have to write JSON for what is shipped"


def test_each_construct_has_its_control() -> None:
    kinds = {field.name.removeprefix("payload."): field.kind for field in fields_of(EVERYTHING)}
    assert kinds == {
        "place": "text",
        "colour": "select",
        "loud": "checkbox",
        "quiet": "checkbox",
        "maybe": "select",
        "size": "number",
        "often": "integer",
        "only": "select",
        "mixed": "select",
        "names": "lines",
        "colours": "checks",
        "nested.depth": "integer",
        "nested.why": "text",
        "free": "json",
        "either": "json",
        "points": "json",
    }


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"loud": False, "quiet": True, "maybe": False, "size": None, "often": -4, "mixed": None},
        {"maybe": True, "size": 0.5, "mixed": "1", "names": [], "colours": [], "nested": {"depth": 2, "why": "so"}},
        {"names": ["two\nlines", " padded ", ""], "colours": ["green"], "free": {"a": [1, {"b": None}]}},
        {"names": ['["looks like JSON"]'], "either": ["a", "b"], "points": [1, 2.5]},
        {"names": ["[not JSON"], "either": "a", "nested": {"why": "line\nends"}},
    ],
)
def test_each_construct_is_sent_back_as_it_was(payload: dict[str, Any]) -> None:
    fields = fields_of(EVERYTHING)
    full = {"place": "here", "colour": "green", **payload}
    assert payload_of(fields, form_of(fields, values_of(fields, full))) == full


EDITED: dict[str, dict[str, Any]] = {
    "create_climate_missions": {
        "title": "Insulate the roof",
        "category": "energy",
        "estimated_impact_kgco2": 12.5,
        "due_date": "2027-01-01T00:00:00Z",
        "profile_id": "0190c2a0-0000-7000-8000-000000000001",
    },
    "change_frontend_config": {"value": {"title": ["any", 1, None]}},
    "merge_memories": {
        "keep": "0190c2a0-0000-7000-8000-000000000001",
        "archive": ["0190c2a0-0000-7000-8000-000000000002"],
        "tags": ["a"],
        "similarity": 0.9,
    },
    "archive_memories": {"archive": ["0190c2a0-0000-7000-8000-000000000002"]},
    "create_workflow": {
        "key": "p",
        "name": "P",
        "steps": [{"key": "a", "agent_id": "SAM", "task_type": "t", "title": "T", "payload": {}, "depends_on": []}],
    },
    "change_schedule": {"cron": "0 6 * * *", "enabled": False, "payload": {"page": "climate"}},
}


@pytest.mark.parametrize("kind", suggestion_types(), ids=lambda kind: kind.name)
def test_the_value_of_a_suggestion_can_be_edited(kind: SuggestionType[Any, Any]) -> None:
    value = EDITED[kind.name]
    kind.value.model_validate(value)
    fields = fields_of(kind.value.model_json_schema())
    again = payload_of(fields, form_of(fields, values_of(fields, value)))
    assert again == value


def test_a_box_that_is_unticked_is_not_one_that_was_not_there() -> None:
    fields = [field for field in fields_of(EVERYTHING) if field.path in (("loud",), ("colours",))]
    assert payload_of(fields, {}) == {}
    assert payload_of(fields, {"payload.loud.shown": "1", "payload.colours.shown": "1"}) == {
        "loud": False,
        "colours": [],
    }


def test_everything_that_is_wrong_is_said_at_once_and_nothing_typed_is_lost() -> None:
    fields = fields_of(EVERYTHING)
    form = {
        "payload.colour": "blue",
        "payload.size": "0,5",
        "payload.often": "2.5",
        "payload.free": "{not JSON",
        "payload.points": "[NaN]",
        "payload.nested.depth": "1e999",
        "payload.names": "Ada\nBob",
        "payload.loud.shown": "1",
    }
    with pytest.raises(InvalidPayload) as caught:
        payload_of(fields, form)
    errors = errors_of(fields, caught.value.problems)
    assert set(errors) == {
        f"payload.{name}" for name in ("place", "colour", "size", "often", "free", "points", "nested.depth")
    }
    assert errors["payload.place"] == "is required"
    assert errors["payload.size"] == "must be a number, such as 0.5"
    assert "line 1, column 2" in errors["payload.free"]
    shown = submitted(fields, form)
    assert all(shown[name] == text for name, text in form.items() if name in shown and name != "payload.loud")
    assert shown["payload.loud"] is False


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("place", "x", "at least 2 characters"),
        ("place", "x" * 11, "at most 10 characters"),
        ("place", "a\x00b", "NUL"),
        ("size", "0.4", "At least 0.5, less than 2."),
        ("size", "2", "less than 2"),
        ("size", "1" * 500, "too large"),
        ("size", "inf", "must be a number"),
        ("often", "1_000", "whole number"),
        ("often", "٣", "whole number"),
        ("free", "[" * 100_000, "must be JSON"),
        ("free", "text", "a text stands in double quotes"),
        ("free", '{"a": ["\\ud800"]}', "half a character"),
        ("free", '{"\\u0000": 1}', "NUL"),
        ("free", "[1e999]", "too large"),
        ("free", "9" * 5000, "limit"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(name: str, text: str, said: str) -> None:
    fields = [field for field in fields_of(EVERYTHING) if field.path == (name,)]
    with pytest.raises(InvalidPayload) as caught:
        payload_of(fields, {f"payload.{name}": text})
    assert said in errors_of(fields, caught.value.problems)[f"payload.{name}"]


def test_what_the_task_type_refuses_is_said_at_the_control() -> None:
    task_type = TYPES["AEGIS check_climate_claims"]
    fields = fields_of(task_type.schema)
    payload = payload_of(fields, {"payload.claim": "green", "payload.url": "https://a.example"})
    with pytest.raises(InvalidPayload) as caught:
        task_type.parse(payload)
    assert set(errors_of(fields, caught.value.problems)) == {"payload"}
    with pytest.raises(InvalidPayload) as caught:
        task_type.parse({"claims": ["good", ""], "nonsense": 1})
    errors = errors_of(fields, caught.value.problems)
    assert errors["payload.claims"].startswith("no. 2: ")
    assert errors["payload"].startswith("nonsense: ")


def test_a_page_that_was_left_at_its_default_does_not_contradict_an_address() -> None:
    task_type = TYPES["SAM review_climate_page"]
    fields = fields_of(task_type.schema)
    form = form_of(fields, values_of(fields, {})) | {"payload.url": "https://a.example"}
    assert form["payload.page"] == "climate"
    assert task_type.parse(payload_of(fields, form)).model_dump()["url"] == "https://a.example"


def test_what_excludes_one_another_is_said() -> None:
    said = {t.name: requirement(t.schema) for t in TYPES.values() if requirement(t.schema)}
    assert said == {
        "plan_frontend_improvements": "Give at most one of Page, URL and HTML.",
        "check_climate_claims": "Give exactly one of Claim, Claims, URL and HTML.",
        "review_accessibility": "Give exactly one of Target and HTML.",
        "review_climate_page": "Give at most one of Page, URL and HTML.",
    }
    fields = {field.path[0]: field for field in fields_of(TYPES["SAM review_accessibility"].schema)}
    assert said["review_accessibility"] in fields["target"].help
    assert said["review_accessibility"] not in fields["level"].help
    one_or_more = {"properties": {"a": {}, "b": {}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
    assert requirement(one_or_more) == "Give at least one of A and B."


def test_a_schema_that_refers_to_itself_becomes_one_field_of_json() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}, "additionalProperties": False}
    schema = {"$defs": {"Node": node}, "properties": {"node": {"$ref": "#/$defs/Node"}}}
    assert [field.kind for field in fields_of(schema)] == ["json"]
    circle = {"$defs": {"A": {"$ref": "#/$defs/A"}}, "properties": {"a": {"$ref": "#/$defs/A"}}}
    assert [field.kind for field in fields_of(circle)] == ["json"]


# --- the template -----------------------------------------------------------------------------------------------------


def drawn(fields: list[Field], shown: dict[str, Any], errors: dict[str, str] | None = None) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.from_string(
        '{% from "_fields.html" import fieldset %}{{ fieldset(fields, values, errors) }}'
    )
    return template.render(fields=fields, values=shown, errors=errors)


def sent(html: str) -> dict[str, str]:
    """What a browser would send of a form, as HTML says."""
    form: dict[str, str] = {}
    for control in HTMLParser(f"<form>{html}</form>").css("input, select, textarea"):
        name, attributes = control.attributes["name"], control.attributes
        assert name
        if control.tag == "select":
            options = control.css("option")
            chosen = next((o for o in options if "selected" in o.attributes), options[0])
            form[name] = chosen.attributes["value"] or ""
        elif control.tag == "textarea":
            form[name] = control.text().replace("\n", "\r\n")
        elif attributes["type"] != "checkbox" or "checked" in attributes:
            value = attributes["value"] or ""
            assert "\n" not in value, "a browser takes line ends out of one line"
            form[name] = value
    return form


@every_type
@settings(max_examples=15, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(data=st.data())
def test_the_drawn_form_sends_what_it_shows(task_type: TaskType, data: st.DataObject) -> None:
    payload = data.draw(payloads(task_type))
    fields = fields_of(task_type.schema)
    shown = values_of(fields, payload)
    assert sent(drawn(fields, shown)) | {"csrf": "x"} == form_of(fields, shown)


@pytest.mark.parametrize(
    "text", ["\nbegins with a line end", "</textarea><script>", '"><script>', "a\n\n\nb", "{{ 7 }}"]
)
def test_no_text_breaks_out_of_its_control(text: str) -> None:
    fields = fields_of(EVERYTHING)
    shown = values_of(fields, {"place": text, "colour": "red", "names": [text], "free": {text: text}})
    html = drawn(fields, shown, {field.name: text for field in fields} | {"payload": text})
    assert not HTMLParser(html).css("script")
    assert sent(html) | {"csrf": "x"} == form_of(fields, shown)


@pytest.mark.parametrize("wrong", [False, True])
def test_every_control_has_its_label_and_is_described_by_its_help_and_error(wrong: bool) -> None:
    for schema in (EVERYTHING, *(t.schema for t in TYPES.values())):
        fields = fields_of(schema)
        html = drawn(fields, values_of(fields, {}), {field.name: "is wrong" for field in fields} if wrong else None)
        tree = HTMLParser(html)
        ids = [node.attributes["id"] for node in tree.css("[id]")]
        assert len(ids) == len(set(ids))
        labelled = {label.attributes["for"] for label in tree.css("label")}
        controls = tree.css("input:not([type=hidden]), select, textarea")
        assert {control.attributes["id"] for control in controls} == labelled
        for node in tree.css("[aria-describedby]"):
            assert set((node.attributes["aria-describedby"] or "").split()) <= set(ids)
        for field in fields:
            node = tree.css_first(f"#{field.id}")
            assert node is not None
            assert (node.attributes.get("aria-invalid") == "true") is wrong
            described = node.attributes.get("aria-describedby") or ""
            assert ("-help" in described) == bool(field.help or field.limits)
            assert ("-error" in described) is wrong
        assert len(tree.css("[role=alert]")) == (len(fields) if wrong else 0)
        assert len(tree.css(".field-required")) == sum(field.required for field in fields)
        assert not tree.css("[style], script")
