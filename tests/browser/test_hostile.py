"""What others write into tasks, memories and proposals, and what other sites try, does no harm in a real browser."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.browser.conftest import Open
from tests.browser.site import OPEN_ALL, PAGES, Site
from zora_core.cli.demo import DEMO_TENANT_ID
from zora_core.database.postgres import connect

HOSTILE = [
    "<script>hacked=1</script>",
    "<img src=x onerror=hacked=1>",
    '"><svg onload=hacked=1>',
    "'--></style></title></textarea></script><script>hacked=1</script>",
    '[click](javascript:hacked=1) ![x](x" onerror="hacked=1)',
    "{{ 7 * 7 }}{% raw %}<b onmouseover=hacked=1>",
    "<a href=javascript:hacked=1>a</a><iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
]


async def _write(site: Site) -> dict[str, str]:
    """Hostile text in every place where somebody else may write."""
    text = " ".join(HOSTILE)
    database = await connect(site.database_url)

    async def call(function: str, **arguments: Any) -> list[dict[str, Any]]:
        return await database.call(function, tenant_id=DEMO_TENANT_ID, **arguments)

    try:
        tasks = [
            {
                "agent_id": "EIVOR", "task_type": "summarize_recent_events", "title": text[:480],
                "description": "\n\n".join(HOSTILE), "payload": {"extra_instructions": text, text[:80]: HOSTILE},
                "run_at": "2031-01-01T00:00:00Z", "idempotency_key": text[:150],
            }
        ]  # fmt: skip
        (task,) = await call("create_agent_tasks", tasks=tasks)
        evidence = [
            {"kind": "quote", "source": text, "text": text, "start": 0, "masked": False},
            {"kind": "element", "source": text, "selector": text, "html": text},
            {"kind": "file", "path": text, "line": 1, "text": text, "masked": False},
            {"kind": "rows", "table": text, "ids": [text]},
            {"kind": "metric", "name": text, "value": 1.0, "unit": text, "formula": text, "source": text},
        ]
        mission = {"title": text, "category": "energy", "description": text}
        change = {"op": "insert", "table": "climate_missions", "row": mission}
        proposed = {
            "suggestion_type": "create_climate_missions", "title": text[:480], "body": "\n\n".join(HOSTILE),
            "target": {"table": "climate_missions", text: text}, "suggested_value": mission, "evidence": evidence,
            "risk_level": "high", "findings": [text], "effect": {"changes": [change]},
        }  # fmt: skip
        (suggestion,) = await call("propose_agent_suggestion", agent_id="ORACLE", suggestion=proposed, user_id=None)
        step = {"key": "a", "agent_id": "SAM", "task_type": "review_climate_page", "title": text[:480], "payload": {}}
        definition = {"key": "hostile", "name": text[:180], "inputs": {text[:50]: text}, "steps": [step]}
        await call("save_workflow", key="hostile", name=text[:180], definition=definition, user_id=None)
        seed = {
            "pages": [], "profiles": [], "missions": [{"title": text, "category": "energy", "description": text}],
            "memories": [{"agent": "EIVOR", "memory_type": "plan", "content": "\n\n".join(HOSTILE), "tags": [text]}],
            "journal": [{"category": "decision", "event_type": "x", "title": text, "body": text, "author": text}],
        }  # fmt: skip
        await call("seed_tenant", seed=seed)
        await call("pause_agents", agent_id="SAM", reason=text, user_id=None)
        (user,) = await call("ensure_user", email="<img/src=x/onerror=hacked=1>@example.org", role="viewer")
        await call("create_api_key", user_id=user["id"], name=text[:190], prefix="zora_hostile1", hash=b"1" * 32)
        return {"task": str(task["id"]), "suggestion": str(suggestion["id"]), "workflow": "hostile"}
    finally:
        await database.close()


def test_hostile_text_is_shown_as_text_on_every_page(site: Site, visit: Open) -> None:
    made: dict[str, str] = {}

    def write() -> None:
        made.update(asyncio.run(_write(site)))

    thread = threading.Thread(target=write)  # the browser's loop runs in this one
    thread.start()
    thread.join()
    page = visit()
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if "Content Security" in message.text else None)
    places = {**site.ids, **made}
    for name in PAGES:
        path = PAGES[name].format(**places)
        answer = page.goto(site.url + path)
        assert answer is not None
        assert answer.status == 200, path
        page.evaluate(OPEN_ALL)
        assert page.evaluate("typeof hacked") == "undefined", path
        strange = "main script, main iframe, main img, main [onerror], main [onload], main [onmouseover], main style"
        assert page.locator(strange).count() == 0, path
        assert page.locator("a[href^='javascript' i]").count() == 0, path
    assert refused == [], "nothing was there for the policy to stop"
    page.goto(site.url + f"/admin/agents/tasks/{made['task']}")
    assert "hacked=1</script>" in page.locator("h1").inner_text()


@contextmanager
def another_site(html: str) -> Iterator[str]:
    """The address of a site on this machine: to the browser it is the same site at another origin."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_another_site_cannot_act_in_a_visitors_name(site: Site, visit: Open) -> None:
    suggestion = next(s for s in site.zora("suggestions", "list", "--status", "proposed"))
    html = f"""<form method="post" action="{site.url}/admin/agents/suggestions/{suggestion["id"]}/decision">
    <input name="decision" value="approve"><input name="digest" value="{suggestion["effect_digest"]}">
    <input name="csrf" value="0.0"></form><script>document.forms[0].submit()</script>"""
    page = visit("/admin/agents/tasks", refused=True)
    with another_site(html) as evil:
        posted: list[Any] = []
        page.on("request", lambda request: posted.append(request) if request.method == "POST" else None)
        page.goto(evil, wait_until="commit")
        page.wait_for_url(f"{site.url}/**")
        assert page.locator("h1").inner_text() == "Not allowed"
        cookies = [request.all_headers().get("cookie", "") for request in posted]
        assert "zora_session" in cookies[0], "the cookie went along, so that the refusal was ours"
    assert site.zora("suggestions", "show", suggestion["id"])["status"] == "proposed"


def test_another_site_cannot_open_the_live_connection(site: Site, visit: Open) -> None:
    address = site.url.replace("http", "ws") + "/admin/live"
    html = f"""<script>const s = new WebSocket("{address}"); s.onmessage = () => {{ document.title = "heard" }};
    s.onclose = () => {{ document.title = "closed" }};</script>"""
    page = visit("/admin/agents/tasks", refused=True)
    with another_site(html) as evil:
        page.goto(evil)
        page.wait_for_function("document.title !== ''")
        assert page.title() == "closed"


def test_no_page_can_be_put_into_another_sites_frame(site: Site, visit: Open) -> None:
    page = visit("/admin/agents/tasks", refused=True)
    with another_site(f'<iframe src="{site.url}/admin/agents/tasks"></iframe>') as evil:
        page.goto(evil, wait_until="networkidle")
        (frame,) = [frame for frame in page.frames if frame.parent_frame]
        assert frame.locator("h1", has_text="Tasks").count() == 0
        assert not frame.url.startswith(site.url)
