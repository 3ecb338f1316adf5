"""What runs at this moment, for people who wait."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING
from uuid import UUID

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from zora_core.autonomy.commands.render import one_line, short, text
from zora_core.models import Task

if TYPE_CHECKING:
    from zora_core.autonomy.runtime import AgentRuntime, TaskRun


class Progress:
    """Shows what runs. On a terminal a live list that goes away; with `lines`, one line per start and end."""

    def __init__(self, *, quiet: bool = False, lines: bool = False) -> None:
        """`quiet` shows nothing."""
        self.runtime: AgentRuntime | None = None
        self._console = Console(stderr=True, highlight=False)
        self._lines = lines
        self._started: dict[UUID, tuple[Task, float]] = {}
        self._live: Live | None = None
        if not quiet and not lines and sys.stderr.isatty():
            self._live = Live(get_renderable=self._render, console=self._console, transient=True, refresh_per_second=8)

    def observe(self, event: Task | TaskRun) -> None:
        """A task started, or a run ended."""
        if isinstance(event, Task):
            self._started[event.id] = (event, time.monotonic())
            if self._lines:
                self._say(event, "started", text(event.title))
            return
        self._started.pop(event.task.id, None)
        if self._lines:
            self._say(event.task, event.status, text(one_line(event.summary or event.error or "", 140)))

    def _say(self, task: Task, state: str, what: Text) -> None:
        stamp = datetime.now(UTC).astimezone().strftime("%H:%M:%S")
        line = Text(f"{stamp}  {short(task.id)}  {task.agent_id.value} {task.task_type}  ")
        line.append_text(text(state)).append("  ").append_text(what)
        self._console.print(line, soft_wrap=True)

    def _render(self) -> Group:
        now = time.monotonic()
        return Group(
            *(
                Spinner("dots", text(f"{task.agent_id.value} {task.task_type}  {now - since:.0f} s{self._doing(task)}"))
                for task, since in list(self._started.values())
            )
        )

    def _doing(self, task: Task) -> str:
        """The handler's own word about its progress."""
        run = self.runtime.running.get(task.id) if self.runtime else None
        if run is None or run.progress is None:
            return ""
        return f"  {run.progress:.0%} {run.message or ''}"

    def __enter__(self) -> Progress:
        """Begin to show."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the display."""
        if self._live:
            self._live.stop()
