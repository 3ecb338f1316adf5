"""Duplicates, contradictions and stale memories."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.models import MemoryEvent
from zora_core.skills.memory import Cleanup, clean, findings, is_stale

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def memory(content: str, *, age: float = 1, kind: str = "research", **fields: Any) -> MemoryEvent:
    return MemoryEvent(
        id=uuid4(), agent="EIVOR", memory_type=kind, content=content, created_at=NOW - timedelta(days=age), **fields
    )


def run(*memories: MemoryEvent, threshold: float = 0.9, older_than_days: float = 30) -> Cleanup:
    return clean(memories, now=NOW, older_than_days=older_than_days, threshold=threshold)


def test_memories_that_say_the_same_become_one_cluster_that_keeps_the_newest() -> None:
    old, new = (
        memory("The label names the method.", age=9, tags=["a"]),
        memory("the label names the method", tags=["b"]),
    )
    (cluster,) = run(old, new).clusters
    assert not cluster.exact
    assert cluster.keep is new
    assert cluster.archive == (old,)
    assert cluster.tags == ["b", "a"]


def test_a_misspelled_copy_is_reported_and_not_merged() -> None:
    """Without a dictionary a slip cannot be told from another word ("trial", "trail")."""
    cleanup = run(
        memory("Weekly summaries are read on the phone in the morning."),
        memory("Weekly sumaries are read on the phone in the morning.", age=2),
    )
    assert cleanup.clusters == []
    assert len(cleanup.similar) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("The soap has a footprint of 0.42 kg per bottle", "The soap has a footprint of 0.39 kg per bottle"),
        ("The map may be linked from the home page", "The map may not be linked from the home page"),
    ],
)
def test_statements_that_disagree_are_reported_and_never_merged(first: str, second: str) -> None:
    cleanup = run(memory(first), memory(second, age=3))
    assert cleanup.clusters == []
    (contradiction,) = cleanup.contradictions
    assert contradiction.second.content == first
    assert findings(cleanup, now=NOW, older_than_days=30)[0].rule_id == "memory.contradiction"


def test_other_dates_or_names_are_other_subjects() -> None:
    cleanup = run(
        memory("In 2024 the van drove 18,600 km in the city"),
        memory("In 2025 the van drove 17,100 km in the city"),
        memory("The audit of the plant in Kassel takes 3 days"),
        memory("The audit of the plant in Bremen takes 4 days"),
    )
    assert cleanup.clusters == []
    assert cleanup.contradictions == []


def test_records_of_different_runs_are_not_repetitions() -> None:
    first, second = (memory("Nothing to do.", kind="result", source_task_id=uuid4()) for _ in range(2))
    assert run(first, second).clusters == []
    first, second = (memory("founder approved: t", kind="decision", metadata={"suggestion_id": "1"}) for _ in range(2))
    assert run(first, second).clusters == []


def test_memories_of_different_types_do_not_merge() -> None:
    assert run(memory("We use refills.", kind="plan"), memory("We use refills.", kind="decision")).clusters == []


def test_a_type_lives_as_long_as_its_span() -> None:
    assert is_stale(memory("x", age=31, kind="conversation"), now=NOW, older_than_days=30)
    assert not is_stale(memory("x", age=31, kind="decision"), now=NOW, older_than_days=30)
    assert not is_stale(memory("x", age=31, kind="conversation"), now=NOW, older_than_days=40)
    assert not is_stale(
        memory("x", age=31, kind="conversation", metadata={"pinned": True}), now=NOW, older_than_days=30
    )


def test_after_applying_everything_a_second_pass_finds_nothing() -> None:
    memories = [memory(f"Note {n // 3} about the refill shelf in shop {n // 3}.", age=n * 7) for n in range(40)]
    first = run(*memories)
    gone: set[UUID] = {m.id for c in first.clusters for m in c.archive} | {m.id for m in first.stale}
    assert gone
    second = run(*(m for m in memories if m.id not in gone))
    assert (second.clusters, second.stale) == ([], [])


def test_an_empty_memory_is_clean() -> None:
    cleanup = run()
    assert (cleanup.examined, cleanup.clusters, cleanup.stale, cleanup.contradictions) == (0, [], [], [])


def test_archived_memories_are_left_alone() -> None:
    assert run(memory("Same words here."), memory("Same words here.", archived_at=NOW)).clusters == []


TEXTS = Path(__file__).parent / "texts"


def pairs(file: str, section: str | None = None) -> list[tuple[str, str]]:
    """The pairs of a file of `texts`, those under the heading `section` where given; escapes are those of Python."""
    found, heading = [], ""
    for line in (TEXTS / file).read_text("utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif not line.startswith("# ") and (section is None or heading == section):
            first, second = re.sub(
                r"\\(?:u[0-9a-f]{4}|[nrt])", lambda m: m[0].encode().decode("unicode_escape"), line
            ).split(" || ", 1)
            found.append((first, second))
    return found


@pytest.mark.parametrize(("first", "second"), pairs("pairs_different.txt") + pairs("pairs_different_second.txt"))
def test_memories_that_say_different_things_are_never_merged(first: str, second: str) -> None:
    assert run(memory(first), memory(second), threshold=0.5).clusters == []


@pytest.mark.parametrize(("first", "second"), pairs("pairs_same.txt", "equal"))
def test_equal_memories_are_merged_in_any_language(first: str, second: str) -> None:
    assert [c.exact for c in run(memory(first), memory(second)).clusters] == [True]


@pytest.mark.parametrize(("first", "second"), pairs("pairs_same.txt", "near"))
def test_nearly_equal_english_memories_are_merged_as_such(first: str, second: str) -> None:
    assert [c.exact for c in run(memory(first), memory(second)).clusters] == [False]


@pytest.mark.parametrize(
    ("first", "second", "differs"),
    [
        ("Anna owes Ben 50 euro for the tickets", "Ben owes Anna 50 euro for the tickets", "word order"),
        ("Die Kundin möchte bald den neuen Brief", "Die Kundin möchte bald nicht den neuen Brief", "the word nicht"),
        ("The flag of the shop is C# here", "The flag of the shop is C here", "signs, symbols or capitals"),
        ("The pump in the cellar is new now", "The pump in the celar is new now", "the words cellar, celar"),
    ],
)
def test_what_is_similar_and_not_the_same_is_reported_without_a_proposal(first: str, second: str, differs: str) -> None:
    cleanup = run(memory(first, age=2), memory(second), threshold=0.8)
    assert cleanup.clusters == []
    (pair,) = cleanup.similar
    assert pair.differs == (differs,)
    (found,) = [f for f in findings(cleanup, now=NOW, older_than_days=30) if f.rule_id == "memory.similar"]
    assert f"They differ in {differs}, which can change the meaning." in found.detail


@given(
    st.lists(
        st.sampled_from(
            [
                "the",
                "a",
                "Anna",
                "Ben",
                "owes",
                "not",
                "5",
                "-5",
                "%",
                "all",
                "some",
                "pays",
                "C",
                "x",
                "🙂",
                "of",
                "please",
            ]
        ),
        min_size=2,
    ),
    st.data(),
)
def test_no_change_of_order_or_of_a_word_with_a_meaning_is_merged(tokens: list[str], data: st.DataObject) -> None:
    other = data.draw(st.permutations(tokens) | st.lists(st.sampled_from(tokens), max_size=len(tokens)))
    meaning = [[t for t in side if t not in ("the", "a", "please")] for side in (tokens, other)]
    if run(memory(" ".join(tokens)), memory(" ".join(other))).clusters:
        assert meaning[0] == meaning[1]
