"""The journal on the command line: listed, sealed, verified, exported, anchored, erased, and its tampering named."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.cli import test_cli
from tests.cli.test_cli import Zora
from tests.cli.test_keys import sql

environment, zora = test_cli.environment, test_cli.zora

DOCS = Path(__file__).parents[2] / "docs" / "journal.md"
ADD = """
insert into journal_entries (id, tenant_id, category, event_type, title, body)
select
    (left(least_uuidv7(now() - interval '1 hour' + i * interval '1 ms')::text, 14) || right(r::text, 22))::uuid, $1,
    'decision', 'decided', 'Decision ' || i, 'because'
from generate_series(1, 12) as i
cross join lateral (select md5(i::text || $1::uuid::text)::uuid as r) as made
"""


@pytest.fixture
def tenant(zora: Zora, request: pytest.FixtureRequest) -> Zora:
    """Commands for a tenant of the test's own, with twelve entries of an hour ago."""
    zora("status")
    (row,) = sql(
        zora,
        "insert into tenants (name, slug) values ($1, $1) returning id",
        re.sub(r"\W", "-", request.node.name),
    )
    sql(zora, ADD, row["id"])
    return Zora({**zora.environment, "ZORA_TENANT_ID": str(row["id"])})


def tamper(zora: Zora, statement: str) -> None:
    """As the owner can: with the triggers off."""

    async def run() -> None:
        import asyncpg

        connection = await asyncpg.connect(zora("db", "url").strip())
        await connection.execute("set session_replication_role = replica")
        await connection.execute(statement.replace("$tenant", f"'{zora.environment['ZORA_TENANT_ID']}'"))
        await connection.close()

    asyncio.run(run())


def test_a_journal_is_sealed_verified_and_a_changed_title_is_named(tenant: Zora, tmp_path: Path) -> None:
    assert "Nothing is sealed yet" in tenant("journal", "verify")
    assert "Decision 12" in tenant("journal", "--limit", "1")
    sealed = tenant("journal", "seal")
    assert "Sealed 12 entries in 1 block, signed by" in sealed
    (key,) = re.findall(r"\b[0-9a-f]{64}\b", sealed)
    assert "Sealed 0 entries" in tenant("journal", "seal")
    said = tenant("journal", "verify")
    for part in ("✓ 12 entries in 1 block are as they were sealed", key, "known here", "1 remembered block"):
        assert part in said
    report = tenant.json("journal", "verify")
    assert (report["ok"], report["entries"], report["keys"]) == (True, 12, [{"from_block": 0, "public_key": key}])

    export = tmp_path / "journal.jsonl"
    assert "Exported 12 entries in 1 block," in tenant("journal", "export", str(export))
    elsewhere = str(tmp_path / "elsewhere")
    unknown = tenant("journal", "verify", str(export), ZORA_HOME=elsewhere)
    assert "it is not trusted" in unknown
    assert "known here" in tenant("journal", "verify", str(export), "--public-key", key, ZORA_HOME=elsewhere)
    wrong = tenant("journal", "verify", str(export), "--public-key", "00" * 32, ZORA_HOME=elsewhere, status=1)
    assert "which is not known to be good" in wrong
    assert "64 hexadecimal digits" in tenant("journal", "verify", "--public-key", "x", status=2)

    tamper(
        tenant, "update journal_entries set title = 'All is well' where tenant_id = $tenant and title = 'Decision 7'"
    )
    said = tenant("journal", "verify", status=1)
    (entry,) = sql(tenant, "select id from journal_entries where title = 'All is well'")
    assert "✗ The sealed journal was changed: 1 problem." in said
    assert f"block 0, entry {entry['id']}: it was changed; it says now: All is well" in said
    tenant("journal", "export", str(export))
    assert str(entry["id"]) in tenant("journal", "verify", str(export), status=1)
    report = tenant.json("journal", "verify", status=1)
    assert [problem["kind"] for problem in report["problems"]] == ["changed"]


def test_a_verifier_that_is_not_ours_agrees(tenant: Zora, tmp_path: Path) -> None:
    """The program that docs/journal.md shows, as it stands there."""
    (program,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(program.splitlines()) <= 45
    (key,) = re.findall(r"\b[0-9a-f]{64}\b", tenant("journal", "seal"))
    entry = tenant.json("journal", "--limit", "1")[0]["id"]
    tenant("journal", "erase", entry, "--reason", "asked to")
    export = tmp_path / "journal.jsonl"
    tenant("journal", "export", str(export))

    def verify(key: str = key) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, str(export), key], capture_output=True, text=True, check=False
        )

    anchor = json.loads(tenant("journal", "anchor"))
    assert verify().stdout == f"1 blocks are as they were sealed; the last one's hash is {anchor['hash']}\n"
    assert "signed by an unknown key" in verify("00" * 32).stderr
    text = export.read_text()
    for change in (
        lambda text: text.replace("Decision 3", "Decision 4"),
        lambda text: text.replace(r"\"author\": null", r"\"author\": \"me\"", 1),
        lambda text: "".join(line for line in text.splitlines(keepends=True) if "Decision 3" not in line),
        lambda text: "".join(line for line in text.splitlines(keepends=True) if '"type": "end"' not in line),
        lambda text: text.replace("journal_entry_erased", "journal_entry_renamed"),
    ):
        assert change(text) != text
        export.write_text(change(text))
        assert verify().returncode == 1


def test_an_anchor_held_elsewhere_tells_of_an_end_that_was_cut_off(tenant: Zora, tmp_path: Path) -> None:
    assert "nothing is sealed yet" in tenant("journal", "anchor", status=1)
    tenant("journal", "seal")
    anchors = tmp_path / "anchors.jsonl"
    for _ in range(2):
        assert "Block 0, sealed at 20" in tenant("journal", "anchor", "--to", str(anchors))
    assert anchors.read_text().splitlines() == [tenant("journal", "anchor").strip()] * 2
    export = tmp_path / "journal.jsonl"
    elsewhere = str(tmp_path / "elsewhere")
    tenant("journal", "export", str(export))
    said = tenant("journal", "verify", str(export), "--anchor", str(anchors), ZORA_HOME=elsewhere)
    assert "2 remembered blocks found" in said
    assert "known here" in said, "who holds an anchor knows the key"
    tamper(tenant, "delete from journal_blocks where tenant_id = $tenant")
    assert "block 0: it is gone, and this machine has it" in tenant("journal", "verify", status=1)
    assert "run `zora journal verify`" in tenant("journal", "seal", status=1)
    tenant("journal", "export", str(export))
    said = tenant("journal", "verify", str(export), "--anchor", str(anchors), ZORA_HOME=elsewhere, status=1)
    assert f"{anchors} has it" in said.replace("\n", "")
    assert "is not a file of anchors" in tenant("journal", "verify", "--anchor", str(export), status=2)
    assert "Sealed 12 entries" in tenant("journal", "seal", "--forget-head")


def test_an_anchor_is_posted_to_an_address_and_a_refusal_is_an_error(tenant: Zora) -> None:
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(201 if self.path == "/anchors" else 403)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    tenant("journal", "seal")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert "is anchored in http" in tenant("journal", "anchor", "--to", f"{url}/anchors")
        assert "was not accepted" in tenant("journal", "anchor", "--to", f"{url}/no", status=1)
        server.shutdown()
    assert json.loads(received[0]) == json.loads(tenant("journal", "anchor"))


def test_a_text_is_erased_and_every_reader_survives_it(tenant: Zora) -> None:
    tenant("journal", "seal")
    entry = tenant.json("journal", "--limit", "5")[4]["id"]
    assert "Missing option" in tenant("journal", "erase", entry, status=2)
    said = tenant("journal", "erase", entry[-8:], "--reason", "request 117", "--user", "Ada@example.org")
    assert f"Erased the text of {entry}" in said
    assert "was erased before" in tenant("journal", "erase", entry, "--reason", "again", status=1)
    listed = tenant("journal")
    assert "[erased]" in listed
    assert "request 117" in listed
    (erased,) = [row for row in tenant.json("journal") if row["id"] == entry]
    assert (erased["title"], erased["body"], erased["details"], erased["salt"]) == ("[erased]", None, {}, None)
    assert len(erased["erased_content"]) == 64
    said = tenant("journal", "verify")
    assert "✓ 12 entries" in said
    assert f"{entry}  by ada@example.org at 20" in said
    assert "1 entry: nothing is proven from" in said
    for agent, kind in (("EIVOR", "summarize_recent_events"), ("AEGIS", "review_recent_agent_tasks")):
        tenant("create-task", agent, kind, "Look back")
    assert [run["status"] for run in tenant.json("run-once", "--limit", "5")] == ["completed", "completed"]


def test_no_command_that_a_person_waits_for_loads_the_library_for_signatures(zora: Zora) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "zora_core.cli", "status"],
        env=zora.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "zora_core.cli.journal" in done.stderr
    assert "cryptography" not in done.stderr
