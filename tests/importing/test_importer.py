"""What is written when, and what is told of it."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Zora
from tests.importing import original
from tests.importing.original import EXPECTED, MONDAY, id_of
from tests.importing.test_mapping import Rows
from zora_core.agents.builtin import registry
from zora_core.errors import DataRejected
from zora_core.importing import importer
from zora_core.importing.exports import open_export
from zora_core.importing.fields import Context
from zora_core.importing.importer import MAX_REASONS, Importer, Report, choose_tenant

CONTEXT = Context(registry(), now=datetime(2026, 1, 1, tzinfo=UTC))


def memory(number: int, **columns: Any) -> dict[str, Any]:
    return {
        "id": id_of(str(number)), "created_at": MONDAY, "agent": "EIVOR", "memory_type": "plan", "content": "c",
        **columns,
    }  # fmt: skip


class Database:
    """Takes what it is given, unless that holds a word that cannot even be sent."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.told: list[dict[str, Any]] = []

    async def __call__(self, function: str, **arguments: Any) -> list[dict[str, Any]]:
        if function == "journal_import":
            self.told.append(arguments["counts"])
            return []
        contents = [row["content"] for row in arguments["rows"]]
        if "unsendable" in contents:
            raise DataRejected("the database refuses a value: it is unsendable")
        self.batches.append(contents)
        return [{"outcome": "taken", "reason": None, "note": None, "id": None} for _ in contents]


async def take(rows: list[dict[str, Any]], *, apply: bool = True) -> tuple[Database, Report]:
    database, report = Database(), Report("memory", None, apply)
    source: Any = Rows("memory_events", rows)
    await Importer(source, database, CONTEXT, report, without_tenant=True).run()
    return database, report


async def test_a_row_that_cannot_be_sent_is_found_and_the_others_are_written_once() -> None:
    rows = [memory(number, content="unsendable" if number in (7, 300) else f"c{number}") for number in range(600)]
    database, report = await take(rows)
    (told,) = report.kinds
    assert (told.taken, told.not_taken) == (598, 2)
    assert told.reasons["the database refuses a value: it is unsendable"].example == id_of("7")
    assert sorted(itertools.chain(*database.batches)) == sorted(f"c{n}" for n in range(600) if n not in (7, 300))
    assert database.told == [{"memories": 598}]


async def test_batches_are_small_in_rows_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "BATCH_ROWS", 100)
    monkeypatch.setattr(importer, "BATCH_BYTES", 50_000)
    database, _ = await take([memory(number, content="x" * (5_000 if number < 50 else 1)) for number in range(400)])
    assert max(map(len, database.batches)) == 100
    assert max(sum(map(len, batch)) for batch in database.batches) < 60_000


async def test_the_report_stays_short_whatever_the_rows_hold() -> None:
    _, report = await take([memory(number, memory_type=f"kind {number}") for number in range(200)])
    (told,) = report.kinds
    assert len(told.reasons) == MAX_REASONS + 1
    assert sum(reason.count for reason in told.reasons.values()) == told.not_taken == 200


@pytest.mark.parametrize(("apply", "rows"), [(False, [memory(1)]), (True, [])])
async def test_the_journal_is_told_of_nothing_when_nothing_was_written(apply: bool, rows: list[dict[str, Any]]) -> None:
    database, _ = await take(rows, apply=apply)
    assert database.told == []


async def test_the_journal_is_told_what_a_run_took_that_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "BATCH_ROWS", 10)
    database = Database()

    async def call(function: str, **arguments: Any) -> list[dict[str, Any]]:
        if len(database.batches) == 3 and function == "import_records":
            raise KeyboardInterrupt
        return await database(function, **arguments)

    source: Any = Rows("memory_events", [memory(number) for number in range(100)])
    with pytest.raises(KeyboardInterrupt):
        await Importer(source, call, CONTEXT, Report("memory", None, applied=True), without_tenant=True).run()
    assert database.told == [{"memories": 30}]


@pytest.mark.both_transports
async def test_an_import_goes_over_either_transport(zora: Zora, tmp_path: Path) -> None:
    async def call(function: str, **arguments: Any) -> list[dict[str, Any]]:
        return await zora.call(function, tenant_id=zora.tenant_id, **arguments)

    (founder,) = await call("ensure_founder")
    source = open_export(str(original.as_json(tmp_path / "all.json", original.rows())))
    tenant = choose_tenant(await source.tenants(), None)
    counts = []
    for apply in (False, True, True):
        report = Report("all.json", tenant, apply)
        await Importer(source, call, Context(registry()), report, user_id=founder["id"]).run()
        assert {kind.name: kind.not_taken for kind in report.kinds} == {n: left for n, (_, left) in EXPECTED.items()}
        counts.append(report.counts)
    expected = {name: taken for name, (taken, _) in EXPECTED.items()}
    assert counts == [expected, expected, {}]
    (told,) = await zora.sql("select author, details from journal_entries where event_type = 'records_imported'")
    assert told["author"] == founder["email"]
    assert json.loads(told["details"])["counts"] == expected
