"""Taking over the original system, end to end: real databases and files, through the command line."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest

from tests.conftest import Server
from tests.database.test_pooler import pooled_url  # noqa: F401 - a fixture
from tests.importing import original
from tests.importing.original import EXPECTED, OTHER, TENANT, id_of
from zora_core.database import schema
from zora_core.settings import DEFAULT_TENANT_ID

TARGET = '{"target": "."}'
ELSEWHERE = UUID("33333333-3333-4333-8333-333333333333")
# Ids of ours, and digests of what names them; those of the original, which the tests make, are of version 5.
OUR_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{64}")
# What depends on when and on which ids.
PASSING = {
    "salt", "effect_digest", "proposal_digest", "evidence_digest", "handled_until", "imported_at", "erased_content",
}  # fmt: skip
WRITTEN_NOW = {"journal_entries", "agent_task_policies", "autonomy_schedules", "workflows", "users"}
RECORDS = (
    "agent_tasks", "journal_entries", "memory_events", "agent_suggestions", "climate_profiles", "climate_missions",
    "agent_task_policies", "autonomy_schedules", "workflows", "imported_records",
)  # fmt: skip


@dataclass
class Target:
    """A database of ours that is imported into."""

    url: str
    home: Path
    tenant: UUID = DEFAULT_TENANT_ID

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZORA_", "SUPABASE_", "DATABASE_URL"))}
        return {
            **kept, "DATABASE_URL": self.url, "ZORA_HOME": str(self.home), "ZORA_TENANT_ID": str(self.tenant),
            "COLUMNS": "160",
        }  # fmt: skip

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "zora_core.cli", *arguments]

    async def __call__(self, *arguments: str, status: int = 0) -> str:
        """What a command prints; in another process, beside which this one can go on."""
        done = await asyncio.to_thread(
            subprocess.run,
            self.command(*arguments),
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    async def take(self, source: str | Path, *options: str, apply: bool = True) -> dict[str, Any]:
        """The report of an import."""
        flags = ["--apply"] if apply else []
        said = await self("import", "--from", str(source), *flags, *options, "--json")
        report: dict[str, Any] = json.loads(said)
        for kind in report["kinds"]:
            assert kind["found"] == kind["taken"] + kind["here"] + kind["not_taken"], kind
        return report

    async def sql(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    async def everything(self) -> dict[str, list[str]]:
        """Every row of every table, and in which version it is."""
        tables = await self.sql("select relname from pg_class where relnamespace = 'public'::regnamespace "
                                "and relkind = 'r' order by 1")  # fmt: skip
        return {
            table["relname"]: [row[0] for row in await self.sql(
                f"select to_jsonb(t)::text || t.xmin from {table['relname']} as t order by 1")]
            for table in tables
        }  # fmt: skip

    async def content(self) -> dict[str, list[str]]:
        """What the tenant's rows say, without what is another for each run."""
        found = {}
        for table in RECORDS:
            rows = await self.sql(f"select to_jsonb(t) as row from {table} as t where tenant_id = $1", self.tenant)
            kept = []
            for row in map(json.loads, (row["row"] for row in rows)):
                if row.get("event_type") == "records_imported":
                    continue  # one per run
                now = table in WRITTEN_NOW or row.get("suggestion_type") == "run_task"
                left = {k: v for k, v in row.items() if k not in PASSING and not (now and k.endswith("_at"))}
                kept.append(OUR_ID.sub("…", json.dumps(left, sort_keys=True)))
            found[table] = sorted(kept)
        return found


@pytest.fixture
async def target(embedded: Server, tmp_path: Path) -> AsyncIterator[Target]:
    async with embedded.fresh() as url:
        yield await prepared(url, tmp_path / "home")


async def prepared(url: str, home: Path) -> Target:
    connection = await asyncpg.connect(url)
    await schema.migrate(connection)
    for tenant, slug in ((DEFAULT_TENANT_ID, "default"), (ELSEWHERE, "elsewhere")):
        await connection.execute("insert into tenants (id, name, slug) values ($1, $2, $2)", tenant, slug)
    await connection.close()
    return Target(url, home)


@pytest.fixture
async def source(embedded: Server) -> AsyncIterator[str]:
    """A database of the original system."""
    async with embedded.fresh() as url:
        await original.fill(url, original.rows())
        yield url


def numbers(report: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {kind["name"]: (kind["taken"], kind["not_taken"]) for kind in report["kinds"]}


def reasons(report: dict[str, Any], name: str, said: str = "reasons") -> dict[str, int]:
    (kind,) = [kind for kind in report["kinds"] if kind["name"] == name]
    return {told["text"]: told["count"] for told in kind[said]}


async def test_a_dry_run_writes_nothing_at_all_and_says_what_then_happens(target: Target, source: str) -> None:
    before = await target.everything()
    said = await target("import", "--from", source)
    dry = await target.take(source, apply=False)
    assert await target.everything() == before
    assert numbers(dry) == EXPECTED
    assert "would be taken" in said

    command = shlex.split(said.splitlines()[-1])
    assert command == ["zora", "import", "--from", source, "--apply"]
    said = await target(*command[1:])
    assert said.splitlines()[-1] == "Done."
    assert (await target.take(source, apply=False))["taken"] == 0
    dry["applied"] = True
    again = await target.take(source)
    for then, now in zip(dry["kinds"], again["kinds"], strict=True):
        assert (now["found"], now["here"], now["reasons"]) == (then["found"], then["taken"], then["reasons"])


async def test_every_kind_of_source_gives_the_same(
    embedded: Server, target: Target, source: str, tmp_path: Path
) -> None:
    await target.take(source)
    expected = await target.content()
    assert {table: len(rows) for table, rows in expected.items()} == {
        "agent_tasks": 5, "journal_entries": 10, "memory_events": 5, "agent_suggestions": 5, "climate_profiles": 2,
        "climate_missions": 2, "agent_task_policies": 2, "autonomy_schedules": 1, "workflows": 1,
        "imported_records": 23,
    }  # fmt: skip
    rows = original.rows()
    for made in (
        original.as_csv(tmp_path / "csv", rows),
        original.as_lines(tmp_path / "lines", rows),
        original.as_json(tmp_path / "all.json", rows),
    ):
        async with embedded.fresh() as url:
            other = await prepared(url, tmp_path / "home")
            assert numbers(await other.take(made)) == EXPECTED
            assert await other.content() == expected, made.name


async def test_both_namings_of_the_agents_give_the_same(target: Target, embedded: Server, tmp_path: Path) -> None:
    await target.take(original.as_json(tmp_path / "before.json", original.rows()))
    async with embedded.fresh() as url:
        other = await prepared(url, tmp_path / "home")
        await other.take(original.as_json(tmp_path / "after.json", original.rows(nordic=True)))

        def said(content: dict[str, list[str]]) -> str:
            # Only what the row was called there is another.
            return re.sub(r'"(agent|agent_id|author)": "[A-Z]+"', "", json.dumps(content).replace('\\"', '"'))

        assert said(await target.content()) == said(await other.content())
        agents = "select agent_id, task_type from agent_tasks order by 1, 2"
        assert await target.sql(agents) == await other.sql(agents)


async def test_an_import_can_be_repeated(target: Target, source: str) -> None:
    first = await target.take(source)
    before = await target.everything()
    again = await target.take(source)
    assert (first["taken"], again["taken"]) == (23, 0)
    assert {kind["name"]: kind["here"] for kind in again["kinds"]} == {k: v[0] for k, v in EXPECTED.items()}
    assert await target.everything() == before
    assert "Nothing is left to take over." in await target("import", "--from", source)


async def test_what_is_finished_is_history_as_it_was(target: Target, source: str) -> None:
    await target.take(source)
    tasks = {row["title"]: row for row in await target.sql("select * from agent_tasks")}
    done = tasks["The task reviewed"]
    assert (done["status"], done["agent_id"], done["result_summary"]) == ("completed", "SAM", "Good page")
    assert json.loads(done["result"]) == {"result": {"score": 7}, "imported": {"agent_id": "SAM"}}
    assert [done[name].isoformat()[11:16] for name in ("created_at", "started_at", "completed_at")] == [
        "08:30", "08:31", "08:32",
    ]  # fmt: skip
    broke, declined = tasks["The task broke"], tasks["The task declined"]
    assert (broke["failure_kind"], broke["error_message"], broke["priority"]) == ("error", "no answer", 4)
    assert (declined["status"], declined["failure_kind"], declined["error_message"]) == (
        "failed", "rejected", "too dear",
    )  # fmt: skip
    # Ids are of the time that a row was made at, so that lists stay in order.
    assert await target.sql("select from agent_tasks where id not between least_uuidv7(created_at) "
                            "and least_uuidv7(created_at + interval '1 ms')") == []  # fmt: skip
    suggestions = {row["status"]: row for row in await target.sql("select * from agent_suggestions")}
    applied = suggestions["applied"]
    assert (applied["title"], applied["body"]) == ("Change a", "Change a\nbecause of b")
    assert (applied["decided_as"], applied["effect"]) == (f"user:{id_of('somebody')}", None)
    assert suggestions["rejected"]["reason"] == "no reason was given in the original system"
    assert "could not be told exactly" in suggestions["expired"]["reason"]
    missions = {
        row["title"]: row
        for row in await target.sql(
            "select m.*, p.name as profile from climate_missions as m "
            "left join climate_profiles as p on p.id = m.profile_id"
        )
    }
    bike, heat = missions["Cycle to work"], missions["Heat pump"]
    assert (bike["profile"], float(bike["estimated_impact_kgco2"]), bike["verified"]) == ("Home", 320.25, True)
    assert (heat["profile"], heat["estimated_impact_kgco2"], heat["verified_by"]) == ("Firm", None, None)
    memories = {row["content"]: row for row in await target.sql("select * from memory_events")}
    assert memories["We spoke of heat pumps"]["tags"] == ["heat", 'with "quotes", and commas']
    assert memories["Aside"]["archived_at"] is not None
    assert memories["A plan was made"]["agent"] == "LUMINA"
    assert (
        memories["A plan was made"]["source_task_id"] == memories["Cycle\n\nEvery day"]["source_task_id"] == done["id"]
    )
    assert memories["Cycle\n\nEvery day"]["tags"] == ["imported", "insight", "climate_mission_suggestion", "accepted"]


async def test_nothing_that_came_in_begins_to_run_until_a_person_lets_it(target: Target, source: str) -> None:
    await target.take(source)
    await target("run-once")
    pending = await target.sql("select title, waiting_for from agent_tasks where status = 'pending' order by 1")
    assert [tuple(row) for row in pending] == [("The task open", "approval"), ("The task running", "approval")]
    assert [row["enabled"] for row in await target.sql("select enabled from autonomy_schedules")] == [False]
    assert "No schedule is due." in await target("run-due-schedules")
    (asked,) = [one for one in json.loads(await target("suggestions", "list", "--json"))
                if one["title"] == "Run: The task open"]  # fmt: skip
    assert asked["body"] == "LUMINA would run plan_workflow, which was imported and was not finished."
    await target("suggestions", "approve", asked["id"], "--yes")
    await target("run-once")
    status = await target.sql("select status::text from agent_tasks where title = 'The task open'")
    assert status[0]["status"] == "completed"


async def test_the_journal_is_written_now_and_can_still_be_proven(target: Target, source: str) -> None:
    await target("journal", "seal")
    before = await target.sql("select id from journal_entries")
    began = (await target.sql("select clock_timestamp()"))[0][0]
    await target.take(source)
    added = await target.sql(
        "select * from journal_entries where id <> all ($1) order by id", [r["id"] for r in before]
    )
    assert all(row["created_at"] >= began for row in added)
    (told,) = [row for row in added if row["event_type"] == "records_imported"]
    assert told["author"] == "founder@localhost"
    assert json.loads(told["details"])["counts"] == {name: taken for name, (taken, _) in EXPECTED.items() if taken}
    (made,) = [row for row in added if row["title"] == "We decided"]
    assert (made["category"], made["event_type"], made["author"], made["body"]) == (
        "decision", "imported_task_approved", "lumina", "at last",
    )  # fmt: skip
    imported = json.loads(made["details"])["imported"]
    assert (imported["table"], imported["id"], imported["created_at"]) == (
        "journal_entries", id_of("made"), original.MONDAY,
    )  # fmt: skip
    assert imported["related_entity_ids"] == [id_of("reviewed")]
    await asyncio.sleep(5.5)  # what is younger is not sealed yet
    await target("journal", "seal")
    said = json.loads(await target("journal", "verify", "--json"))
    assert said["ok"] is True
    assert said["entries"] >= len(added)


def many(count: int) -> dict[str, list[dict[str, Any]]]:
    """More rows than fit into a few batches."""
    rows = original.rows()
    rows["memory_events"] += [
        {
            "id": id_of(f"memory {number}"), "tenant_id": TENANT, "created_at": f"2025-03-01T00:{number // 60 % 60:02}:"
            f"{number % 60:02}+00:00", "agent": "EIVOR", "memory_type": "plan", "content": f"Memory {number}",
        }
        for number in range(count)
    ]  # fmt: skip
    return rows


async def test_an_import_that_was_killed_goes_on_where_it_was(embedded: Server, target: Target, tmp_path: Path) -> None:
    made = original.as_lines(tmp_path / "many", many(6000))
    process = subprocess.Popen(  # noqa: ASYNC220
        target.command("import", "--from", str(made), "--apply"),
        env=target.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while (await target.sql("select count(*) from imported_records"))[0][0] < 1000:
        assert time.monotonic() < deadline
        assert process.poll() is None, "it was over before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    taken = (await target.sql("select count(*) from imported_records"))[0][0]
    assert 1000 <= taken < 6000
    assert (await target.sql("select count(*) from memory_events"))[0][0] < 6000
    report = await target.take(made)
    assert 0 < report["taken"] <= 6023 - taken
    async with embedded.fresh() as url:
        whole = await prepared(url, tmp_path / "home")
        await whole.take(made)
        assert await target.content() == await whole.content()


async def test_two_imports_at_once_take_each_row_once(target: Target, tmp_path: Path) -> None:
    made = original.as_lines(tmp_path / "many", many(3000))
    reports = await asyncio.gather(target.take(made), target.take(made))
    assert sum(report["taken"] for report in reports) == 3023
    for report in reports:
        assert {name: left for name, (_, left) in numbers(report).items()} == {
            n: left for n, (_, left) in EXPECTED.items()
        }
    assert (await target.sql("select count(*) from memory_events"))[0][0] == 3005


async def test_of_several_tenants_one_is_named_and_the_other_stays_where_it_is(target: Target, tmp_path: Path) -> None:
    rows = original.rows()
    rows["agent_task_policies"] = []
    theirs = {"id": id_of("theirs"), "tenant_id": OTHER, "agent": "EIVOR", "memory_type": "plan",
              "content": "Theirs", "created_at": original.MONDAY}  # fmt: skip
    rows["memory_events"].append(theirs)
    made = original.as_json(tmp_path / "two.json", rows)
    said = await target("import", "--from", str(made), status=1)
    assert f"the rows of 2 tenants: name one with --source-tenant (first ({TENANT}), second ({OTHER}))" in said
    assert "no tenant 'third' owns rows" in await target(
        "import", "--from", str(made), "--source-tenant", "third", status=1
    )
    elsewhere = Target(target.url, target.home, ELSEWHERE)
    report = await elsewhere.take(made, "--source-tenant", "second")
    assert (report["taken"], report["source_tenant"]) == (1, OTHER)
    assert [
        r["content"] for r in await target.sql("select content from memory_events where tenant_id = $1", ELSEWHERE)
    ] == ["Theirs"]
    assert (await target.content())["memory_events"] == []
    said = await target("import", "--from", str(made), "--source-tenant", "FIRST")
    assert said.splitlines()[-1].endswith("--source-tenant FIRST --apply")
    await target.take(made, "--source-tenant", TENANT)
    assert (await elsewhere.sql("select count(*) from memory_events where tenant_id = $1", ELSEWHERE))[0][0] == 1


async def test_rows_of_no_tenant_are_taken_when_asked_for(target: Target, source: str) -> None:
    report = await target.take(source)
    assert reasons(report, "memories") == {"it belongs to no tenant: --without-tenant takes such rows": 1}
    report = await target.take(source, "--without-tenant")
    assert numbers(report)["memories"] == (1, 0)
    assert (await target.sql("select count(*) from memory_events where content = 'Whose is it?'"))[0][0] == 1


async def test_nothing_that_is_here_is_overwritten(target: Target, source: str) -> None:
    (own,) = await target.sql("insert into climate_profiles (tenant_id, profile_type, name, is_primary) "
                              "values ($1, 'brand', 'Ours', true) returning id", target.tenant)  # fmt: skip
    await target("policies", "set", "analyze_codebase", "--apply-up-to", "low")
    await target.sql(
        "insert into agent_task_policies (task_type, auto_execute) values ('summarize_recent_events', false)"
    )
    await target.sql("insert into workflows (tenant_id, key, name, definition) "
                     "values ($1, 'morning_round', 'Ours', '{}')", target.tenant)  # fmt: skip
    before = await target.everything()
    report = await target.take(source)
    after = await target.everything()
    for table in before:
        assert set(before[table]) <= set(after[table]), table
    taken = "a policy for this task type exists already"
    assert reasons(report, "policies")[taken] == 2, "everybody's holds, too"
    assert "a workflow with this key exists already" in reasons(report, "workflows")
    assert "not as the primary profile, which is another one here" in reasons(report, "profiles", "notes")
    primary = await target.sql("select id from climate_profiles where is_primary")
    assert [row["id"] for row in primary] == [own["id"]]


async def test_an_imported_policy_asks_about_tasks_from_then_on(target: Target, source: str) -> None:
    await target("create-task", "CONNOR", "analyze_codebase", "Before", "--payload", TARGET)
    await target.take(source)
    await target("create-task", "CONNOR", "analyze_codebase", "After", "--payload", TARGET)
    waiting = await target.sql("select title, waiting_for from agent_tasks where task_type = 'analyze_codebase'")
    assert {row["title"]: row["waiting_for"] for row in waiting} == {"Before": None, "After": "approval"}
    (told,) = await target.sql("select * from journal_entries where title = 'Policy set: analyze_codebase'")
    assert json.loads(told["details"])["imported"] == {"table": "agent_task_policies", "id": id_of("ask")}


HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("memory_events", {"content": "a\0b"}, "PostgreSQL does not store"),
    ("memory_events", {"content": "half \ud800"}, "PostgreSQL does not store"),
    ("memory_events", {"metadata": {"a\0": 1}}, "PostgreSQL does not store"),
    ("memory_events", {"memory_type": "dream"}, "which no memory has here"),
    ("memory_events", {"tags": {"a": 1}}, "must be a list of texts"),
    ("memory_events", {"created_at": "2999-01-01T00:00:00Z"}, "lies in the future"),
    ("memory_events", {"created_at": "1066-10-14"}, "outside of the years"),
    ("memory_events", {"created_at": "infinity"}, "is not a time"),
    ("memory_events", {"created_at": ["2025"]}, "is not a time"),
    ("memory_events", {"id": None}, "it has no id"),
    ("memory_events", {"id": "x" * 300}, "more than 200 characters"),
    ("memory_events", {"agent": "x" * 51}, "more than 50 characters"),
    ("agent_tasks", {"title": "t" * 501}, "more than 500 characters"),
    ("agent_tasks", {"status": "running"}, "which no task has here"),
    ("agent_tasks", {"priority": 10**12}, "is not an integer"),
    ("agent_tasks", {"payload": [1]}, "is not a JSON object"),
    ("agent_tasks", {"agent_id": "\x1b[31mLOKI"}, "has no counterpart here"),
    ("climate_missions", {"status": "done"}, "which no mission has here"),
    ("climate_missions", {"verified": "perhaps"}, "neither true nor false"),
    ("climate_profiles", {"profile_type": "planet"}, "which no profile has here"),
    ("agent_suggestions", {"status": "approved"}, "which no suggestion has here"),
    ("journal_entries", {"title": " "}, "it has no title"),
]


async def test_a_row_that_cannot_be_taken_stands_in_nobodys_way(target: Target, tmp_path: Path) -> None:
    rows, good = original.rows(), original.rows()
    for number, (table, changes, _) in enumerate(HOSTILE):
        row = {**good[table][0], "id": id_of(f"hostile {number}"), **changes}
        rows[table].insert(number % 2, row)
    folder = original.as_lines(tmp_path / "hostile", rows)
    with (folder / "memory_events.jsonl").open("ab") as file:
        file.write(b'{"id": "broken\n[1, 2]\n')
        file.write(b"[" * 100_000 + b"\n")
        file.write(b'{"id": "latin", "tenant_id": "%s", "agent": "EIVOR", "memory_type": "plan", "content": "\xe6", '
                   b'"created_at": "2025-01-01"}\n' % TENANT.encode())  # fmt: skip
    said = await target("import", "--from", str(folder))
    assert "\x1b" not in said
    report = await target.take(folder)
    assert {name: taken for name, (taken, _) in numbers(report).items()} == {n: t for n, (t, _) in EXPECTED.items()}
    told = " ".join(reason["text"] for kind in report["kinds"] for reason in kind["reasons"])
    for _, changes, reason in HOSTILE:
        assert reason in told, changes
    assert "it is not a JSON object" in told
    assert [reason["count"] for kind in report["kinds"] for reason in kind["reasons"]
            if reason["text"] == "it is not JSON"] == [2]  # fmt: skip


async def test_what_outside_texts_say_is_data(target: Target, tmp_path: Path) -> None:
    """An entry that pretends to be ours, and texts that would be commands somewhere else."""
    rows = original.rows()
    text = "'); drop table agent_tasks; -- <script>alert(1)</script> [red] %s {days} \x07"
    rows["journal_entries"].append(
        {
            "id": id_of("forged"), "tenant_id": TENANT, "created_at": original.MONDAY, "category": "config_change",
            "title": text, "author": "founder@localhost",
            "details": {"event_type": "journal_entry_erased", "imported": {"id": "mine"}, "entry_id": "x"},
            "related_entity_ids": [id_of("made")],
        }
    )  # fmt: skip
    rows["memory_events"][0]["content"] = text
    await target.take(original.as_json(tmp_path / "forged.json", rows))
    (entry,) = await target.sql("select * from journal_entries where title = $1", text)
    assert (entry["event_type"], entry["related_entity_ids"]) == ("imported_journal_entry_erased", [])
    assert json.loads(entry["details"])["imported"]["id"] == id_of("forged")
    assert (await target.sql("select count(*) from memory_events where content = $1", text))[0][0] == 1


async def test_a_source_that_cannot_be_read_is_told_and_its_password_is_not(
    embedded: Server, target: Target, source: str, tmp_path: Path
) -> None:
    dump, empty, array = tmp_path / "dump.sql", tmp_path / "empty", tmp_path / "array.json"
    dump.write_text("--\n-- PostgreSQL database dump\n--\n")
    (tmp_path / "binary").write_bytes(b"PGDMP\x01\x0e")
    empty.mkdir()
    array.write_text("[]")
    (tmp_path / "torn.json").write_text('{"agent_tasks": [{"id": 1}, {"id"')
    broken = original.as_csv(tmp_path / "broken", {"agent_tasks": [{"id": "a", "title": "b"}]})
    twice = original.as_csv(tmp_path / "twice", original.rows())
    original.as_lines(twice, {"agent_tasks": []})
    host = urlsplit(source)._replace(netloc="somebody:s3cret@localhost:1", query="").geturl()
    for given, said in (
        (str(tmp_path / "nowhere"), "there is no folder or file"),
        (str(dump), "restore it into an empty one"),
        (str(tmp_path / "binary"), "restore it into an empty one"),
        (str(array), "is not a JSON object of tables"),
        (str(tmp_path / "torn.json"), "ends or breaks off within a value"),
        (str(empty), "has none of the tables of the original system: climate_profiles"),
        (str(broken), "lacks the column agent_id of agent_tasks"),
        (str(twice), "holds agent_tasks twice"),
        ("mysql://somebody:s3cret@localhost/x", "the source is a postgresql:// URL"),
        ("postgresql://somebody:s3cret/x@localhost/x", "the URL of --from cannot be read"),
        ("postgresql://somebody:s3cret@[localhost/x", "the URL of --from cannot be read"),
        (host, "the source cannot be reached"),
        (f"{source}&application_name=x".replace(urlsplit(source).path, "/no_such_database"), "no_such_database"),
        (target.url, "is one of this program, not of the original system"),
    ):
        told = await target("import", "--from", given, status=1)
        assert said in told, given
        assert "s3cret" not in told
    assert "has none of the tables" in await target("import", "--from", source, "--source-schema", "other", status=1)


async def test_the_original_may_live_in_another_schema_of_the_same_database(target: Target) -> None:
    await original.fill(target.url, original.rows(), schema="before")
    report = await target.take(target.url, "--source-schema", "before")
    assert numbers(report) == EXPECTED
    said = await target("import", "--from", target.url, "--source-schema", "before", "--without-tenant")
    assert said.splitlines()[-1].endswith("--source-schema before --without-tenant --apply")


async def test_the_original_may_stand_behind_a_pooler(
    embedded: Server,
    target: Target,
    pooled_url: str,  # noqa: F811
) -> None:
    """Where nothing may stay in a session: the second time would find it."""
    await original.fill(embedded.database_url("shared"), original.rows(), schema="before")
    try:
        for _ in range(3):
            assert numbers(await target.take(pooled_url, "--source-schema", "before", apply=False)) == EXPECTED
    finally:
        await Target(embedded.database_url("shared"), target.home).sql("drop schema before cascade")


async def test_older_versions_of_the_original_lack_columns_and_tables(target: Target, source: str) -> None:
    connection = await asyncpg.connect(source)
    await connection.execute(
        """
        drop table agent_task_policies, autonomy_schedules, agent_insights;
        drop table workflow_runs, workflow_step_edges, workflow_steps, workflows;
        alter table agent_tasks drop result, drop requires_approval, drop approved_by_user_id, drop approved_at,
            drop rejected_by_user_id, drop rejected_at, drop decision_reason, drop command_id;
        alter table climate_missions drop estimated_impact_kgco2, drop due_date, drop tenant_id;
        alter table climate_profiles drop country, drop household_size, drop is_primary, drop primary_energy_source;
        alter table memory_events drop llm_provider, drop llm_model;
        """
    )
    report = await target.take(source, "--without-tenant")
    assert numbers(report) == {
        "profiles": (2, 0), "missions": (2, 1), "tasks": (5, 3), "memories": (4, 0), "suggestions": (3, 0),
        "journal entries": (2, 0),
    }  # fmt: skip
    await connection.execute("alter table agent_tasks drop task_type")
    await connection.close()
    said = await target("import", "--from", source, status=1)
    assert "lacks the column task_type of agent_tasks" in said


async def test_a_password_is_not_printed_in_the_command_to_apply(target: Target, source: str) -> None:
    given = f"{source}&password=s3cret"
    said = await target("import", "--from", given)
    assert "s3cret" not in said
    assert "with the password for ***" in said
    await target.take(given)
    assert await target.sql("select from journal_entries where details::text like '%s3cret%'") == []


async def test_a_tenant_that_is_not_here_is_told_and_not_taken_for_a_fault_of_the_rows(
    target: Target, tmp_path: Path
) -> None:
    nobody = Target(target.url, target.home, UUID(int=7))
    made = original.as_json(tmp_path / "all.json", original.rows())
    assert f"no tenant '{UUID(int=7)}'" in await nobody("import", "--from", str(made), status=2)
