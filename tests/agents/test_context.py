"""What a handler may read: within its tenant, its folders and its network policy, each read recorded."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.conftest import Zora
from zora_core import roots
from zora_core.agents import Registry
from zora_core.agents.context import TaskContext
from zora_core.errors import InvalidInput
from zora_core.roots import permit, set_tenant_roots
from zora_core.storable import check_storable

pytestmark = pytest.mark.both_transports


def context(zora: Zora) -> TaskContext:
    return TaskContext(zora.database, zora.settings, zora.tenant_id, zora.now, Registry([]))


async def test_every_read_is_recorded_with_a_digest(zora: Zora) -> None:
    await zora.seed("memory_events", agent="EIVOR", memory_type="plan", content="insulate the loft")
    ctx = context(zora)
    assert [m.content for m in await ctx.memories()] == ["insulate the loft"]
    first = ctx.sources[-1]
    assert (first.kind, first.ref, first.count, first.unit) == ("rows", "memory_events", 1, "rows")
    await zora.seed("memory_events", agent="EIVOR", memory_type="plan", content="insulate the floor")
    await ctx.memories()
    assert ctx.sources[-1].digest != first.digest


async def test_search_finds_memories_by_any_word_best_first(zora: Zora) -> None:
    for content in ("the heat pump is loud", "pumps in the cellar", "nothing of that kind"):
        await zora.seed("memory_events", agent="EIVOR", memory_type="plan", content=content)
    assert [m.content for m in await context(zora).search("heat pumps")] == [
        "the heat pump is loud", "pumps in the cellar",
    ]  # fmt: skip


async def test_files_outside_the_allowed_folders_are_refused_also_through_links(zora: Zora, tmp_path: Path) -> None:
    ctx = context(zora)
    inside = tmp_path / "page.html"
    inside.write_text("<p>hello</p>")
    assert ctx.path("page.html") == inside.resolve()
    (tmp_path / "link.html").symlink_to("/etc/hostname")
    for outside in ("/etc/passwd", "../../etc/passwd", "link.html"):
        with pytest.raises(InvalidInput, match="outside the folders"):
            ctx.path(outside)
    with pytest.raises(InvalidInput, match="does not exist"):
        ctx.path("missing.html")


async def test_hidden_files_keys_and_the_runtimes_own_home_are_not_read(zora: Zora, tmp_path: Path) -> None:
    ctx = context(zora)
    names = (
        ".env", ".env.production", ".ssh/config", ".git/config", "keys/id_rsa", "id_ed25519.pub", "server.PEM", "a.key",
        "terraform.tfstate", "credentials.json", "google-credentials.json",
    )  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
        with pytest.raises(InvalidInput, match=r"is not read: .* (hidden|credentials)"):
            ctx.path(name)
    (zora.settings.home / "journal").mkdir(parents=True)
    (zora.settings.home / "journal" / "notes.txt").write_text("x")
    with pytest.raises(InvalidInput, match="outside the folders"):
        ctx.path("home/journal/notes.txt")
    with pytest.raises(InvalidInput, match="NUL character at position 2"):
        ctx.path("a\0b")


async def test_credentials_in_a_file_are_masked_before_a_handler_sees_them(zora: Zora, tmp_path: Path) -> None:
    secret = "q8Zr42Lw77TnVb1xq8Zr42Lw77Tn"
    text = f'<p>Hello</p>\napi_key = "{secret}"\ncaf\xe9'.encode("latin-1")
    (tmp_path / "notes.html").write_bytes(text)
    ctx = context(zora)
    read, page = await ctx.file("notes.html"), await ctx.page(path="notes.html")
    assert read == ctx.read_file("notes.html") == text.replace(secret.encode(), b"[assigned-secret, 28 characters]")
    assert secret not in page.html
    assert ctx.sources[0].digest == hashlib.sha256(text).hexdigest()  # of what is there
    await zora.seed("frontend_configs", page="notes", config={"path": "notes.html"})
    task = await zora.run("ORACLE", "research_topic", {"topic": "api key", "sources": ["notes.html"]})
    assert task.status == "completed"
    assert secret not in task.model_dump_json()


async def test_without_configured_folders_only_a_task_created_at_the_terminal_reads_files(
    zora: Zora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zora.settings = dataclasses.replace(zora.settings, file_roots=())
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "page.html").write_text("<p>hello</p>")
    monkeypatch.chdir(tmp_path / "shop")
    task = uuid4()

    def of(task_id: UUID | None) -> TaskContext:
        return TaskContext(zora.database, zora.settings, zora.tenant_id, zora.now, Registry([]), task_id=task_id)

    for path in ("page.html", str(tmp_path / "shop" / "page.html"), "/etc/passwd"):
        with pytest.raises(InvalidInput, match=r"no folders are configured\. Set ZORA_FILE_ROOTS"):
            of(task).path(path)
    permit(zora.settings.home, [task], Path.cwd())
    assert of(task).path("page.html") == tmp_path / "shop" / "page.html"
    with pytest.raises(InvalidInput, match="outside the folders"):
        of(task).path("../secret.txt")
    with pytest.raises(InvalidInput, match="no folders are configured"):
        of(uuid4()).path("page.html")
    permit(zora.settings.home, [task], Path.home())
    with pytest.raises(InvalidInput, match=r"no folders are configured\. The task was created in .*home folder"):
        of(task).path("page.html")


@pytest.mark.parametrize(
    ("agent", "task_type", "payload"),
    [
        ("SAM", "review_climate_page", {"page": "home"}),
        ("ORACLE", "research_topic", {"topic": "mugs", "sources": ["file:notes.txt"]}),
        ("CONNOR", "analyze_codebase", {"target": "."}),
    ],
)
async def test_a_handler_that_waits_for_a_permission_does_not_hold_up_the_other_handlers(
    zora: Zora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agent: str, task_type: str, payload: dict[str, Any]
) -> None:
    folder, command, on_loop = tmp_path / "shop", contextlib.ExitStack(), []
    folder.mkdir()
    (folder / "page.html").write_text("<p>Our mugs are made of clay.</p>")
    (folder / "notes.txt").write_text("Our mugs are made of clay.")
    await zora.seed("frontend_configs", page="home", config={"path": "page.html"})
    task = await zora.create(agent, task_type, payload)

    def end_the_command(_seconds: float) -> None:
        with contextlib.suppress(RuntimeError):
            on_loop.append(asyncio.get_running_loop())
        permit(zora.settings.home, [task], folder)
        command.close()

    monkeypatch.setattr(roots.time, "sleep", end_the_command)
    command.enter_context(roots.announced(zora.settings.home))
    (run,) = await zora.run_once()
    assert (run.status, run.error) == ("completed", None)
    assert on_loop == []
    assert not [*(zora.settings.home / "permissions" / "announced").iterdir()], "it has waited"


async def test_a_tenants_own_folders_take_the_place_of_the_others(zora: Zora, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "page.html").write_text("x")
    set_tenant_roots(zora.settings.home, zora.tenant_id, [tmp_path / "a"])
    ctx = context(zora)
    assert ctx.path("page.html") == tmp_path / "a" / "page.html"
    with pytest.raises(InvalidInput, match="zora tenants roots"):
        ctx.path(str(tmp_path / "b" / "page.html"))
    set_tenant_roots(zora.settings.home, zora.tenant_id, [])
    with pytest.raises(InvalidInput, match="no folders are configured"):
        ctx.path("page.html")


async def test_a_page_is_read_by_key_by_html_or_refused_by_name(zora: Zora, tmp_path: Path) -> None:
    (tmp_path / "home.html").write_text("<h1>Home</h1>")
    await zora.seed("frontend_configs", page="home", config={"path": "home.html"})
    await zora.seed("frontend_configs", page="empty", config={})
    ctx = context(zora)
    assert "Home" in (await ctx.page(page="home")).html
    assert (await ctx.page(html="<p>x</p>")).ref == "html"
    for arguments, message in (
        ({"page": "hmoe"}, r"unknown page 'hmoe' \(known: empty, home\)"),
        ({"page": "empty"}, "names neither a url nor a path"),
        ({}, "exactly one of"),
        ({"page": "home", "html": "x"}, "exactly one of"),
    ):
        with pytest.raises(InvalidInput, match=message):
            await ctx.page(**arguments)


@pytest.mark.parametrize("charset", ["unicode_escape", "utf-7", "idna", "rot13", "no-such", "utf-8", "latin1"])
async def test_a_fetched_page_is_text_that_can_be_stored(zora: Zora, charset: str) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", f"text/html; charset={charset}")
            self.end_headers()
            self.wfile.write(b"<p>a\0b \\ud800 +2AA- \xe9</p>")

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        page = await context(zora).page(url=f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
    check_storable(page.html, "the page")
    assert ("é" in page.html) is (charset == "latin1")


async def test_a_file_that_is_no_text_is_refused(zora: Zora, tmp_path: Path) -> None:
    (tmp_path / "image.html").write_bytes(b"GIF89a\0<p>")
    with pytest.raises(InvalidInput, match="holds no markup"):
        await context(zora).page(path="image.html")
    with pytest.raises(InvalidInput, match="NUL character at position"):
        await context(zora).fetch("http://127.0.0.1/\0")


async def test_private_addresses_are_refused_unless_allowed(zora: Zora) -> None:
    zora.settings = dataclasses.replace(zora.settings, allow_private_addresses=False)
    with pytest.raises(InvalidInput, match="ZORA_ALLOW_PRIVATE_ADDRESSES"):
        await context(zora).fetch("http://127.0.0.1:9/")


async def test_another_tenants_rows_are_not_read(zora: Zora) -> None:
    (other,) = await zora.sql("insert into tenants (name, slug) values ('o', 'o') returning id")
    await zora.seed("memory_events", tenant_id=other["id"], agent="EIVOR", memory_type="plan", content="heat pump")
    await zora.seed("journal_entries", tenant_id=other["id"], category="release", event_type="e", title="t")
    await zora.seed("frontend_configs", tenant_id=other["id"], page="theirs", config={})
    ctx = context(zora)
    assert await ctx.memories() == await ctx.search("heat pump") == await ctx.journal() == await ctx.page_keys() == []
