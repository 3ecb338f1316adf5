"""Exports are read row by row, whatever their size and wherever a chunk ends; what is not a row is passed over."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.importing.original import TENANT
from zora_core.errors import InvalidInput
from zora_core.importing import exports
from zora_core.importing.exports import ExportSource, open_export
from zora_core.importing.tables import Broken

NEEDED = {"agent": "EIVOR", "memory_type": "plan", "content": "c", "created_at": "2025-01-01"}


def memory(number: int, **columns: Any) -> dict[str, Any]:
    return {"id": str(number), "tenant_id": TENANT, **NEEDED, **columns}


async def read(source: ExportSource, table: str = "memory_events") -> list[Any]:
    return [row async for row in source.rows(table, TENANT)]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=6), st.integers(1, 40), st.booleans())
def test_json_is_read_as_the_standard_library_reads_it_wherever_a_chunk_ends(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], chunk: int, indented: bool
) -> None:
    path = tmp_path_factory.mktemp("json") / "all.json"
    tables = {"before": [1, "x", {"a": []}], "other": {"no": "rows"}, "memory_events": rows, "after": 17}
    path.write_text(json.dumps(tables, indent=2 if indented else None), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exports, "CHUNK", chunk)
        source = open_export(str(path))
        assert list(source._read("memory_events")) == rows
    assert not source.has("before")


async def test_a_file_is_never_held_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "memory_events.json"
    with path.open("w") as file:
        file.write("[")
        for number in range(20_000):
            file.write(("," if number else "") + json.dumps(memory(number, content="x" * 1000)))
        file.write("]")
    assert path.stat().st_size > 20_000_000
    source = open_export(str(tmp_path))
    tracemalloc.start()
    count = 0
    async for _ in source.rows("memory_events", TENANT):
        count += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 2_000_000


async def test_what_is_no_row_is_named_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "memory_events.csv").write_text(
        "\ufeffid,agent,memory_type,content,created_at\n"
        'a,EIVOR,plan,"two\nlines, and ""quotes""",2025-01-01\n'
        "b,EIVOR,plan\n"
        "c,EIVOR,plan,d,2025-01-01,more\n"
        "d,,plan,d,2025-01-01\n"
    )
    (tmp_path / "agent_insights.json").write_text('[{"id": 1}, 2, {"id": 3}]')
    (tmp_path / "journal_entries.jsonl").write_text('{"id": 1}\n\nnonsense\n')
    source = open_export(str(tmp_path))
    first, *broken, last = await read(source)
    assert first["content"] == 'two\nlines, and "quotes"'
    assert [one.where for one in broken] == ["memory_events.csv, line 4", "memory_events.csv, line 5"]
    assert last["agent"] is None
    assert await read(source, "agent_insights") == [
        {"id": 1}, Broken("agent_insights.json, element 2", "it is not a JSON object"), {"id": 3},
    ]  # fmt: skip
    assert await read(source, "journal_entries") == [
        {"id": 1}, Broken("journal_entries.jsonl, line 3", "it is not JSON"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"memory_events": [{"id": 1} {"id": 2}]}', ", was expected, not {"),
        ('{"memory_events": 3}', r"\[ was expected, not 3"),
        ('{"memory_events": [{"id": 1}', "the end"),
        ("{1: []}", "a key is not text"),
        ('{"memory_events": [' + "[" * 100_000 + "]}", "nested too deeply"),
    ],
)
async def test_a_file_that_is_no_json_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "all.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=said):
        await read(open_export(str(path)))


async def test_a_value_without_end_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "MAX_VALUE", 10_000)
    (tmp_path / "memory_events.json").write_text('[{"id": "' + "x" * 100_000)
    with pytest.raises(InvalidInput, match="more than 10,000 characters"):
        await read(open_export(str(tmp_path)))


async def test_rows_of_others_are_passed_over_and_their_tenants_named(tmp_path: Path) -> None:
    other = "22222222-2222-4222-8222-222222222222"
    rows = [memory(1), memory(2, tenant_id=other.upper()), memory(3, tenant_id=None), memory(4, tenant_id="nobody")]
    (tmp_path / "memory_events.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "tenants_rows.csv").write_text(f"id,name,slug\n{TENANT},First,first\n")
    source = open_export(str(tmp_path))
    assert [str(tenant) for tenant in await source.tenants()] == [f"first ({TENANT})", other]
    assert [row["id"] for row in await read(source)] == ["1", "3", "4"]
