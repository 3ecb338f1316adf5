"""What runs at this moment, for people who wait."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from zora_core.cli.output import new_console
from zora_core.cli.render import one_line, percent, short, text
from zora_core.models import Task

if TYPE_CHECKING:
    from zora_core.autonomy.execute import Run
    from zora_core.autonomy.runtime import AgentRuntime, TaskRun

FRAME_SECONDS = 0.125
MESSAGE_SECONDS = 1.0  # without a terminal, a task says at most so often what it does; a shorter one says nothing
LINE_WIDTH = 140


@dataclass
class _Shown:
    """A task that runs, since when, and what it was last seen doing."""

    task: Task
    since: float
    message: str = ""
    spinner: Spinner = field(default_factory=lambda: Spinner("dots"))


class Progress:
    """Shows what runs: on a terminal a live list that goes away.

    With `lines`, also a line per start and end, above that list; where there is no terminal to show the list on, a line
    per new progress message takes its place.
    """

    def __init__(self, *, quiet: bool = False, lines: bool = False) -> None:
        """`quiet` shows nothing."""
        self.runtime: AgentRuntime | None = None
        self._console = new_console(stderr=True)
        self._lines = lines
        self._running: dict[UUID, _Shown] = {}
        self._changed = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None
        self._logging: list[logging.StreamHandler[Any]] = []
        self._live: Live | None = None
        if not quiet and sys.stderr.isatty() and not self._console.is_dumb_terminal:
            self._live = Live(
                self,
                console=self._console,
                transient=True,
                auto_refresh=False,
                redirect_stdout=sys.stdout.isatty(),
            )

    def observe(self, event: Task | TaskRun) -> None:
        """A task started, or a run ended."""
        self._changed.set()
        if isinstance(event, Task):
            self._running[event.id] = _Shown(event, time.monotonic())
            if self._lines:
                self._say(event, "started", one_line(event.title, LINE_WIDTH))
            return
        if event.status != "lost" or event.task.id not in self._runs():  # it may run here again already
            self._running.pop(event.task.id, None)
        if self._lines:
            self._say(event.task, event.status, one_line(event.summary or event.error or "", LINE_WIDTH))

    def _say(self, task: Task, state: str, what: str) -> None:
        stamp = datetime.now(UTC).astimezone().strftime("%H:%M:%S")
        line = Text(f"{stamp}  {short(task.id)}  {task.agent_id.value} {task.task_type}  ")
        line.append_text(text(state)).append("  ").append_text(text(what))
        self._console.print(line, soft_wrap=True)

    async def _follow(self) -> None:
        """While anything runs, show how far it is."""
        while True:
            await self._changed.wait()
            if not self._running:
                self._changed.clear()
            if self._live:
                self._live.refresh()
                await asyncio.sleep(FRAME_SECONDS)
            else:
                await asyncio.sleep(MESSAGE_SECONDS)
                self._say_messages()

    def _say_messages(self) -> None:
        now, runs = time.monotonic(), self._runs()
        for shown in self._running.values():
            fraction, message = _doing(runs.get(shown.task.id))
            if message and message != shown.message and now - shown.since >= MESSAGE_SECONDS:
                shown.message = message
                self._say(shown.task, fraction, message)

    def __rich__(self) -> Table:
        """The list as it is at this moment."""
        now, runs = time.monotonic(), self._runs()
        rows = Table.grid(padding=(0, 1))
        for shown in self._running.values():
            task = shown.task
            what = (f"{task.agent_id.value} {task.task_type}", f"{now - shown.since:.0f} s", *_doing(runs.get(task.id)))
            line = text("  ".join(part for part in (short(task.id), *what) if part))
            line.no_wrap, line.overflow = True, "ellipsis"
            rows.add_row(shown.spinner, line)
        return rows

    def _runs(self) -> dict[UUID, Run]:
        """What runs at this moment, by task: of two runs of a task the newer one."""
        return {run.task.id: run for run in self.runtime.running.values()} if self.runtime else {}

    def __enter__(self) -> Progress:
        """Begin to show; a loop must be running."""
        if self._live:
            self._logging = [
                handler
                for handler in logging.getLogger("zora").handlers
                if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr
            ]
            self._live.start()
            # The list has taken stderr's place, so that what is logged stands above it and not in it.
            for handler in self._logging:
                handler.setStream(sys.stderr)
        if self._live or self._lines:
            self._follower = asyncio.create_task(self._follow())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the display."""
        if self._follower:
            self._follower.cancel()
        if self._live:
            self._live.stop()
            for handler in self._logging:
                handler.setStream(sys.stderr)


def _doing(run: Run | None) -> tuple[str, str]:
    """The progress that a handler reported, as percentage and message."""
    if run is None:
        return "", ""
    return "" if run.progress is None else percent(run.progress), one_line(run.message or "", LINE_WIDTH)
