"""Changes in plain words, against what is there now."""

from __future__ import annotations

import itertools
import time
from datetime import timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Zora
from tests.database.test_suggestions import decide, headline, propose, stored, suggest
from zora_core.admin.diffs import Change, changes_of, segments, shown
from zora_core.admin.rendering import marked_segments

MISSION = {"title": "Insulate the roof", "category": "energy", "estimated_impact_kgco2": 1234.5}
words = st.text(st.sampled_from("ab .,\né"), max_size=40)


async def viewed(zora: Zora, suggestion: dict[str, Any]) -> list[Change]:
    preview = await zora.call("preview_agent_suggestion", tenant_id=zora.tenant_id, id=suggestion["id"])
    return changes_of(suggestion["effect"], preview)


def told(change: Change) -> dict[str, tuple[str | None, str | None, str | None]]:
    """Each row's values as texts: before, by now, after."""
    return {
        row.name: (row.before and row.before.text, row.now and row.now.text, row.after and row.after.text)
        for row in change.rows
    }


async def test_a_text_in_a_page_is_compared_with_what_is_there_now(zora: Zora) -> None:
    await zora.seed("frontend_configs", page="climate", config={"hero": {"title": "Our old title"}})
    (suggestion,) = await propose(zora, headline("Our new title", "Our old title"))
    (change,) = await viewed(zora, suggestion)
    assert (change.heading, change.state, change.target) == ("Changes the page “climate”", "as seen", "climate")
    assert told(change) == {"hero.title": ("Our old title", None, "Our new title")}
    assert change.rows[0].segments == [("same", "Our "), ("gone", "old"), ("new", "new"), ("same", " title")]

    await zora.sql("""update frontend_configs set config = '{"hero": {"title": "Another title"}}'""")
    (change,) = await viewed(zora, suggestion)
    assert change.state == "changed since"
    assert told(change) == {"hero.title": ("Our old title", "Another title", "Our new title")}
    assert change.rows[0].segments == [("gone", "Another"), ("new", "Our new"), ("same", " title")]

    await zora.sql("""update frontend_configs set config = '{"hero": {}}'""")
    (change,) = await viewed(zora, suggestion)
    assert told(change) == {"hero.title": ("Our old title", "nothing", "Our new title")}

    await zora.sql("delete from frontend_configs")
    (change,) = await viewed(zora, suggestion)
    assert (change.state, told(change)) == ("gone", {"hero.title": ("Our old title", None, "Our new title")})


async def test_a_new_mission_and_taking_it_back(zora: Zora) -> None:
    (suggestion,) = await propose(zora, suggest("create_climate_missions", {}, None, MISSION))
    (change,) = await viewed(zora, suggestion)
    assert (change.heading, change.state) == ("New climate mission: “Insulate the roof”", "as seen")
    assert told(change) == {
        "title": (None, None, "Insulate the roof"),
        "category": (None, None, "energy"),
        "status": (None, None, "planned"),
        "estimated impact": (None, None, "1,234.5 kgCO2e a year"),
        "verified": (None, None, "no"),
    }
    await decide(zora, suggestion)
    inverse = (await stored(zora, suggestion))["inverse"]
    (back,) = changes_of(inverse)
    assert (back.heading, back.state) == ("Removes the climate mission: “Insulate the roof”", "not compared")
    assert told(back)["title"] == ("Insulate the roof", None, "nothing")
    assert "tenant id" not in told(back)


async def test_memories_that_are_merged(zora: Zora) -> None:
    keep, gone, changed = [
        str(await zora.seed("memory_events", agent="EIVOR", memory_type="reflection", content=text, tags=["a"]))
        for text in ("kept", "alike", "nearly alike")
    ]
    seen = {one: {"tags": ["a"], "content": text} for one, text in ((keep, "kept"), (gone, "alike"))}
    value = {"keep": keep, "archive": [gone, changed], "tags": ["a", "b"]}
    made = suggest("merge_memories", {"keep": keep, "ids": [gone, changed]}, seen, value)
    (suggestion,) = await propose(zora, made)
    await zora.sql("update memory_events set archived_at = now() where id = $1", changed)
    first, *others = await viewed(zora, suggestion)
    assert (first.heading, first.note) == (f"Changes the memory {keep[-8:]}", "kept")
    assert told(first) == {"tags": ("a", None, "a, b")}
    by_target = {change.target: change for change in others}
    assert by_target[gone].heading == f"Archives the memory {gone[-8:]}"
    assert by_target[gone].note == "alike"
    assert told(by_target[gone]) == {"archived": ("nothing", None, "when it is approved")}
    assert by_target[changed].state == "changed since"
    assert told(by_target[changed])["archived"][1] not in (None, "nothing")


async def test_what_must_stay_is_shown_when_it_did_not(zora: Zora) -> None:
    keep, gone = [
        str(await zora.seed("memory_events", agent="EIVOR", memory_type="reflection", content="x", tags=["a"]))
        for _ in range(2)
    ]
    value = {"keep": keep, "archive": [gone], "tags": ["a"]}
    (suggestion,) = await propose(
        zora, suggest("merge_memories", {"keep": keep, "ids": [gone]}, {keep: {"tags": ["a"]}}, value)
    )
    assert told((await viewed(zora, suggestion))[0]) == {}
    await zora.sql("update memory_events set archived_at = now() where id = $1", keep)
    first, _ = await viewed(zora, suggestion)
    assert first.state == "changed since"
    assert set(told(first)) == {"archived"}


async def test_a_plan_says_its_tasks_and_what_they_wait_for(zora: Zora) -> None:
    steps = [
        {"key": "a", "agent_id": "SAM", "task_type": "review_climate_page", "title": "Look"},
        {
            "key": "b",
            "agent_id": "LUMINA",
            "task_type": "plan_workflow",
            "title": "Plan",
            "payload": {"goal": "all"},
            "depends_on": ["a"],
        },
    ]
    plan = {"key": "p", "name": "A plan", "steps": steps}
    (suggestion,) = await propose(zora, suggest("create_workflow", {"key": "p"}, None, plan))
    (change,) = await viewed(zora, suggestion)
    assert (change.heading, change.state) == ("Creates 2 tasks: the workflow “A plan”", "as seen")
    assert told(change)["a"] == (None, None, "SAM review_climate_page: Look")
    payload = '{\n  "payload": {\n    "goal": "all"\n  }\n}'
    assert told(change)["b"] == (None, None, f"LUMINA plan_workflow: Plan (after a)\n{payload}")
    await decide(zora, suggestion)
    (back,) = changes_of((await stored(zora, suggestion))["inverse"])
    assert back.heading == "Cancels 2 tasks"
    assert all(row == ("pending", None, "cancelled") for row in told(back).values())


async def test_a_task_that_waits_for_approval(zora: Zora) -> None:
    payload = {"page": "climate"}
    await zora.call("set_agent_task_policy", tenant_id=zora.tenant_id, task_type="ask", auto_execute=False)
    task = await zora.create("SAM", "ask", payload=payload)
    (suggestion,) = await zora.call("list_agent_suggestions", tenant_id=zora.tenant_id)
    (change,) = await viewed(zora, suggestion)
    assert (change.state, change.target, change.note) == ("as seen", str(task), "")
    as_it_is = {
        "agent id": (None, None, "SAM"), "task type": (None, None, "ask"), "title": (None, None, "ask"),
    }  # fmt: skip
    assert told(change) == {**as_it_is, "page": (None, None, "climate")}
    await zora.sql('update agent_tasks set payload = \'{"page": "other", "more": 1}\'')
    (change,) = await viewed(zora, suggestion)
    assert change.state == "changed since"
    assert told(change) == {**as_it_is, "page": (None, "other", "climate"), "more": (None, "1", None)}


def test_an_edited_effect_is_compared_by_its_targets() -> None:
    def archive(key: str) -> dict[str, Any]:
        return {
            "op": "update",
            "table": "memory_events",
            "key": key,
            "before": {"archived_at": None},
            "after": {"archived_at": "now"},
        }

    nothing = {"archived_at": None}
    preview = [
        {"change": archive("one"), "expected": nothing, "found": None},
        {"change": archive("two"), "expected": nothing, "found": nothing},
    ]
    (change,) = changes_of({"changes": [archive("two")]}, preview)
    assert change.state == "as seen"


def test_advice_changes_nothing_and_an_unknown_change_is_not_hidden() -> None:
    assert changes_of(None) == []
    (change,) = changes_of({"changes": [{"op": "explode", "what": {"a": 1}}]})
    assert "explode" in change.heading
    assert change.rows[0].after is not None
    assert '"a": 1' in change.rows[0].after.text


def test_a_schedule_says_columns_and_times() -> None:
    key = str(uuid4())
    update = {
        "op": "update",
        "table": "autonomy_schedules",
        "key": key,
        "before": {"cron": "0 6 * * *", "enabled": True},
        "after": {"cron": "0 7 * * *", "enabled": False},
    }
    (change,) = changes_of({"changes": [update]})
    assert change.heading == f"Changes the schedule {key[-8:]}"
    assert told(change) == {"cron": ("0 6 * * *", None, "0 7 * * *"), "enabled": ("yes", None, "no")}
    assert change.rows[0].segments == [("same", "0 "), ("gone", "6"), ("new", "7"), ("same", " * * *")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (0.5, "0.5"),
        ("", "an empty text"),
        ([], "an empty list"),
        (["a", "b", 3], "a, b, 3"),
        ("2026-03-01T09:30:00+00:00", "2026-03-01 11:30 UTC+02:00"),
        ("2026-03-01 09:30:00.123+00", "2026-03-01 11:30 UTC+02:00"),
        ("2026-02-31T09:30:00Z", "2026-02-31T09:30:00Z"),
        ({"a": [1]}, '{\n  "a": [\n    1\n  ]\n}'),
    ],
)
def test_values_are_told_as_people_say_them(value: Any, text: str) -> None:
    assert shown(value, zone=timezone(timedelta(hours=2))).text == text


def test_a_long_value_is_shown_whole() -> None:
    text = "word " * 2000
    assert shown(text).text == text
    assert shown([text] * 3).text == ", ".join([text] * 3)
    assert shown(["a, b"]).text != shown(["a", "b"]).text


@given(words, words)
def test_the_segments_make_both_texts(before: str, after: str) -> None:
    found = segments(before, after)
    assert "".join(text for kind, text in found if kind != "new") == before
    assert "".join(text for kind, text in found if kind != "gone") == after
    assert all(text for _, text in found)
    kinds = [kind for kind, _ in found]
    assert all(first != second for first, second in itertools.pairwise(kinds))


def test_texts_that_differ_everywhere_are_compared_in_no_time() -> None:
    before, after = "a b " * 20_000, "b c " * 20_000
    began = time.process_time()
    found = segments(before, after)
    assert time.process_time() - began < 1
    assert "".join(text for kind, text in found if kind != "new") == before


def test_look_alike_letters_in_a_difference_are_judged_by_the_whole_text() -> None:
    fake = "\u0440\u0430\u0443\u0440\u0430\u04cf"
    assert marked_segments(segments("pay at Bonn", f"pay at {fake}")) == [
        ("same", "pay at "),
        ("gone", "Bonn"),
        ("new", f'<mark class="mixed" title="only Cyrillic letters, which look like “paypal”">{fake}</mark>'),
    ]
    russian = marked_segments(segments("Мы ждём спад цен & налогов", "Мы ждём рост цен & налогов"))
    assert "".join(text for _, text in russian) == "Мы ждём спадрост цен &amp; налогов"
