"""The admin pages as visitors have them: `zora serve` in a process of its own, over what the demo leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from zora_core.cli.demo import DEMO_TENANT_ID
from zora_core.database import schema
from zora_core.database.postgres import connect

CLI = (sys.executable, "-m", "zora_core.cli", "--tenant", "demo")
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A machine without a way out would have Chromium ask for it again and again.
OPTIONS = [
    "--no-sandbox", "--no-proxy-server", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
OPEN_ALL = "for (const details of document.querySelectorAll('main details')) details.open = true"
WORKFLOW = "weekly-climate-review"
PAGES = {
    "needs": "/admin/agents/tasks",
    "live": "/admin/agents/tasks?view=live",
    "failed": "/admin/agents/tasks?view=failed",
    "tasks": "/admin/agents/tasks?view=all",
    "task": "/admin/agents/tasks/{task}",
    "waiting": "/admin/agents/tasks/{waiting}",
    "new": "/admin/agents/tasks/new",
    "new-task": "/admin/agents/tasks/new?agent=SAM&type=review_accessibility",
    "suggestions": "/admin/agents/suggestions",
    "suggestion": "/admin/agents/suggestions/{suggestion}",
    "agents": "/admin/agents",
    "workflows": "/admin/workflows",
    "workflow": "/admin/workflows/{workflow}",
    "workflow-runs": "/admin/workflow-runs",
    "workflow-run": "/admin/workflow-runs/{run}",
    "schedules": "/admin/schedules",
    "schedule": "/admin/schedules/{schedule}",
    "new-schedule": "/admin/schedules/new?agent=EIVOR&type=summarize_recent_events",
    "journal": "/admin/journal",
    "memory": "/admin/memory",
    "climate": "/admin/climate",
    "system": "/admin/system",
    "access": "/admin/access",
}


def chromium() -> str | None:
    """The system's browser, if there is one."""
    mac = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
    return next(filter(None, map(shutil.which, PROGRAMS)), str(mac) if mac.exists() else None)


class Site:
    """A served site; `ids` fill the places in `PAGES`."""

    def __init__(self, database_url: str, home: Path) -> None:
        self.database_url = database_url
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZORA_", "SUPABASE_"))}
        self._env = {**kept, "DATABASE_URL": database_url, "ZORA_HOME": str(home)}
        self._log = home / "serve.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self.url = ""
        self.ids: dict[str, str] = {}

    def zora(self, *arguments: str) -> Any:
        """What a command prints, as data."""
        said = subprocess.run([*CLI, *arguments, "--json"], env=self._env, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout)

    def start(self) -> None:
        """Serve, at the same address as before."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*CLI, "serve", f"--port={self._port}", "--rate-limit=0"], env=self._env, stderr=log, stdout=log
            )
        end = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < end, self._log.read_text()

    def _answers(self) -> bool:
        found = re.search(r"at (http://[^/]+:(\d+))/admin", self._log.read_text())
        if found is None:
            return False
        self.url, self._port = found[1], int(found[2])
        try:
            return httpx.get(f"{self.url}/api/status", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """End the server as an operator does."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def link(self, user: str = "ada@example.org", role: str = "founder") -> str:
        """A sign-in link, as the command line prints it."""
        return str(self.zora("keys", "link", "--user", user, "--role", role, "--url", self.url)["link"])

    def path(self, name: str) -> str:
        """Where a page is."""
        return PAGES[name].format(**self.ids)

    async def fill(self) -> None:
        """Add rows that the demo lacks: a running, a waiting and a failed task, a schedule, a workflow run."""
        database = await connect(self.database_url)

        async def call(function: str, **arguments: Any) -> list[dict[str, Any]]:
            return await database.call(function, tenant_id=DEMO_TENANT_ID, **arguments)

        try:
            busy = [
                ("CONNOR", "analyze_codebase", "Quality of the checkout", {"target": "src"}, 0.62, "reading cart.py"),
                ("SAM", "review_accessibility", "Check the checkout page", {"target": "shop"}, 0.2, "reading styles"),
                ("ORACLE", "research_topic", "Refill stations in towns", {"depth": "deep"}, 0.35, "document 29 of 82"),
            ]
            tasks = [
                {"agent_id": agent, "task_type": kind, "title": title, "payload": payload, "priority": 1000}
                for agent, kind, title, payload, _, _ in busy
            ]
            await call("create_agent_tasks", tasks=tasks)
            claimed = await call("claim_agent_tasks", worker_id="kiln-4127-9c1f", limit=3, lease_seconds=86_400.0)
            told = {title: (progress, message) for _, _, title, _, progress, message in busy}
            await database.call(
                "heartbeat_agent_tasks",
                ids=[task["id"] for task in claimed],
                lease_tokens=[task["lease_token"] for task in claimed],
                progress=[told[task["title"]][0] for task in claimed],
                messages=[told[task["title"]][1] for task in claimed],
                lease_seconds=86_400.0,
            )
        finally:
            await database.close()

    def prepare(self) -> None:
        """Everything that the pages show."""
        self.zora("demo")
        asyncio.run(self.fill())
        self.zora("create-task", "CONNOR", "analyze_codebase", "Quality of a folder that is gone",
                  "--payload", '{"target": "/nowhere/at/all"}')  # fmt: skip
        run = self.zora("workflows", "run", WORKFLOW)
        subprocess.run([*CLI, "run-once"], env=self._env, capture_output=True, check=False)
        self.zora("create-task", "SAM", "review_climate_page", "Review the climate page before the launch",
                  "--payload", '{"page": "climate"}', "--run-at", "2031-03-02T09:00:00Z")  # fmt: skip
        self.zora("schedules", "create", "Morning digest", "EIVOR", "summarize_recent_events", "--cron", "0 6 * * *",
                  "--timezone", "Europe/Berlin")  # fmt: skip
        self.zora("schedules", "create", "Health", "CONNOR", "review_system_health", "--cron", "*/30 * * * *")
        tasks = self.zora("tasks", "list", "--limit", "100")
        proposed = self.zora("suggestions", "list", "--limit", "200")
        by_type = {task["task_type"]: task for task in tasks if task["status"] == "completed"}
        self.ids = {
            "task": by_type["check_climate_claims"]["id"],
            "waiting": next(task["id"] for task in tasks if task["waiting_for"] == "run_at"),
            "suggestion": next(s["id"] for s in proposed if s["suggestion_type"] == "merge_memories"),
            "schedule": self.zora("schedules", "list")[0]["id"],
            "workflow": WORKFLOW,
            "run": run["id"],
        }  # fmt: skip


@contextmanager
def served(database_url: str, home: Path) -> Iterator[Site]:
    """A site over an empty database."""

    async def migrate() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await schema.migrate(connection)
        finally:
            await connection.close()

    asyncio.run(migrate())
    site = Site(database_url, home)
    site.prepare()
    site.start()
    try:
        yield site
    finally:
        site.stop()
