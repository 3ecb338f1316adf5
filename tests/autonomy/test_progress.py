"""Progress of a running handler: stored in its row, and sent to watchers."""

from __future__ import annotations

import asyncio
import io
import itertools
import logging
import queue
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.autonomy.agents import Probe, result
from tests.conftest import Zora
from zora_core.agents import Payload, TaskContext, TaskResult, handler
from zora_core.agents.agent import Task
from zora_core.autonomy.execute import Run
from zora_core.autonomy.runtime import AgentRuntime
from zora_core.cli import progress as display
from zora_core.cli.progress import Progress
from zora_core.cli.render import print_task
from zora_core.errors import DatabaseUnavailable

pytestmark = pytest.mark.both_transports

NO_BEAT_DUE = 3600.0  # seconds of a lease whose first regular heartbeat comes long after a test has ended


class Steps(queue.SimpleQueue[tuple[float, str] | None]):
    """From a test to a handler, which run on different loops."""

    async def get(self) -> tuple[float, str] | None:  # type: ignore[override]
        while self.empty():  # noqa: ASYNC110 - another thread fills it
            await asyncio.sleep(0.002)
        return self.get_nowait()


class Reporter(Probe):
    """Reports as a test tells it: each step of `say` is reported at once, `None` ends the work."""

    def __init__(self) -> None:
        super().__init__()
        self.say = Steps()

    @handler("report")
    async def report(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")
        self.started.set()
        while (step := await self.say.get()) is not None:
            await ctx.progress(*step)
        return result()

    @handler("many")
    async def many(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        ctx.cite("payload", "nothing", b"")
        for page in range(2000):
            await ctx.progress(page / 2000, f"reading page {page}")
            await asyncio.sleep(0)
        await self.release.wait()
        return result()


class Beats:
    """The heartbeats of a worker: what each call handed in, by task."""

    def __init__(self, zora: Zora, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[dict[Any, tuple[float | None, str | None]]] = []
        self.lose = 0
        """This number of calls take effect, but their answer is lost."""
        self.refuse = 0
        """This number of calls never reach the database."""
        self._call = zora.database.call
        monkeypatch.setattr(zora.database, "call", self._counted)

    async def _counted(self, function: str, /, **arguments: Any) -> list[dict[str, Any]]:
        if function != "heartbeat_agent_tasks":
            return await self._call(function, **arguments)
        if self.refuse:
            self.refuse -= 1
            raise DatabaseUnavailable("the connection was refused")
        rows = await self._call(function, **arguments)
        self.sent.append(
            dict(
                zip(
                    arguments["ids"],
                    zip(arguments["progress"], arguments["messages"], strict=True),
                    strict=True,
                )
            )
        )
        if self.lose:
            self.lose -= 1
            raise DatabaseUnavailable("the connection was lost")
        return rows

    def messages(self) -> list[str]:
        return [message for call in self.sent for _, message in call.values() if message is not None]


async def until(condition: Callable[[], Any] | Callable[[], Awaitable[Any]], seconds: float = 20) -> None:
    """Ask again and again until the condition holds."""
    async with asyncio.timeout(seconds):
        while True:
            met = condition()
            if asyncio.iscoroutine(met):
                met = await met
            if met:
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def working(zora: Zora, agent: Probe, lease_seconds: float = NO_BEAT_DUE) -> AsyncIterator[None]:
    working = zora.worker(agent, lease_seconds=lease_seconds)
    loop = asyncio.create_task(working.run(poll_seconds=60))
    try:
        yield
    finally:
        working.stop()
        working.stop()  # the second call does not wait for the handlers
        await asyncio.wait_for(loop, 20)


async def stored(zora: Zora, message: str) -> None:
    """Wait until a running task's row has the message."""

    async def has_it() -> bool:
        rows = await zora.sql("select from agent_tasks where status = 'in_progress' and progress_message = $1", message)
        return bool(rows)

    await until(has_it)


async def test_progress_is_in_the_row_while_the_handler_runs_though_no_heartbeat_is_due(zora: Zora) -> None:
    agent = Reporter()
    task_id = await zora.create("SAM", "report")
    async with working(zora, agent):
        for fraction, message in ((0.4, "reading pages"), (0.8, "checking claims"), (0.8, "")):
            agent.say.put_nowait((fraction, message))
            await stored(zora, message)
            (row,) = await zora.sql("select progress from agent_tasks where id = $1", task_id)
            assert row["progress"] == pytest.approx(fraction)


async def test_many_reports_make_few_statements(zora: Zora, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, beats = Reporter(), Beats(zora, monkeypatch)
    for _ in range(3):
        await zora.create("SAM", "many")
    began = time.monotonic()
    async with working(zora, agent):
        await until(lambda: beats.messages().count("reading page 1999") == 3)
        assert len(beats.sent) <= (time.monotonic() - began) / zora.database.pace.progress_seconds + 1
        assert len(beats.sent) < 100, "of 6000 reports"


async def test_progress_that_has_not_changed_is_not_sent_again(zora: Zora, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, beats = Reporter(), Beats(zora, monkeypatch)
    await zora.create("SAM", "report")
    async with working(zora, agent, lease_seconds=0.3):
        agent.say.put_nowait((0.4, "reading pages"))
        await stored(zora, "reading pages")
        agent.say.put_nowait((0.4, "reading pages"))
        seen = len(beats.sent)
        await until(lambda: len(beats.sent) >= seen + 5)
        assert beats.messages() == ["reading pages"]
        # A beat without it leaves it as it is.
        await stored(zora, "reading pages")


async def test_between_regular_heartbeats_only_runs_with_news_are_sent(
    zora: Zora, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, beats = Reporter(), Beats(zora, monkeypatch)
    await zora.create("SAM", "slow", timeout_seconds=60)
    task_id = await zora.create("SAM", "report", priority=-1)
    async with working(zora, agent):
        await agent.started.wait()
        agent.say.put_nowait((0.4, "reading pages"))
        await until(lambda: beats.sent)
        assert beats.sent == [{task_id: (0.4, "reading pages")}]


async def test_a_regular_heartbeat_prolongs_every_lease(zora: Zora, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, beats = Reporter(), Beats(zora, monkeypatch)
    quiet = await zora.create("SAM", "slow", timeout_seconds=60)
    reporting = await zora.create("SAM", "report")
    monkeypatch.setattr(zora.database, "pace", replace(zora.database.pace, progress_seconds=0.02))
    async with working(zora, agent, lease_seconds=1.2), asyncio.timeout(20):
        await agent.started.wait()
        for page in itertools.count():  # news all the time must not put the regular beat off
            agent.say.put_nowait((0.4, f"reading page {page}"))
            await until(lambda page=page: f"reading page {page}" in beats.messages())  # type: ignore[misc]
            if {quiet, reporting} in [call.keys() for call in beats.sent]:
                break


@pytest.mark.parametrize("fault", ["lose", "refuse"])
async def test_progress_is_sent_again_when_the_database_was_lost(
    zora: Zora, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    agent, beats = Reporter(), Beats(zora, monkeypatch)
    setattr(beats, fault, 2)
    await zora.create("SAM", "report")
    async with working(zora, agent):
        agent.say.put_nowait((0.4, "reading pages"))
        await stored(zora, "reading pages")
        await until(lambda: len(beats.sent) == (3 if fault == "lose" else 1))
        assert set(beats.messages()) == {"reading pages"}


async def test_progress_that_cannot_be_stored_spoils_no_heartbeat(zora: Zora) -> None:
    agent = Reporter()
    await zora.create("SAM", "report")
    async with working(zora, agent):
        agent.say.put_nowait((0.4, "a\0b \ud800" + "x" * 1000))
        await stored(zora, "a\N{REPLACEMENT CHARACTER}b \N{REPLACEMENT CHARACTER}" + "x" * 495)
        agent.say.put_nowait((float("nan"), "no number"))
        await stored(zora, "no number")
        (row,) = await zora.sql("select progress from agent_tasks")
        assert row["progress"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("agent_id", "task_type", "payload", "expected"),
    [
        ("AEGIS", "check_climate_claims", {"claims": ["We are green.", "Ours is best."]}, "checking text 2 of 2"),
        ("ORACLE", "research_topic", {"topic": "heat pumps", "sources": ["Heat.", "Pumps."]}, "reading source 2 of 2"),
        ("CONNOR", "analyze_codebase", {"target": "."}, "read 1 files"),  # from the thread that analyses
        ("EIVOR", "memory_cleanup", {}, "comparing 0 memories"),
        ("SAM", "review_accessibility", {"html": "<p>Hello"}, "checking the rules"),
    ],
)
async def test_the_agents_report_their_real_steps_in_order(
    zora: Zora, monkeypatch: pytest.MonkeyPatch, agent_id: str, task_type: str, payload: dict[str, Any], expected: str
) -> None:
    reports: list[tuple[float, str]] = []
    monkeypatch.setattr(Run, "report", lambda run, fraction, message: reports.append((fraction, message)))
    (zora.settings.file_roots[0] / "main.py").write_text("print('hello')\n")
    assert (await zora.run(agent_id, task_type, payload)).status == "completed"
    assert expected in [message for _, message in reports]
    assert reports == sorted(reports, key=lambda report: report[0])


@asynccontextmanager
async def showing(zora: Zora, agent: Probe) -> AsyncIterator[None]:
    """A runtime at work as in run-loop, with its display."""
    with Progress(lines=True) as progress:
        runtime = AgentRuntime(
            agents=[agent], settings=zora.settings, database=zora.database, observe=progress.observe, grace_seconds=0
        )
        progress.runtime = runtime
        loop = asyncio.create_task(runtime.run_loop(sleep_seconds=60))
        try:
            yield
        finally:
            runtime.stop()
            await asyncio.wait_for(loop, 20)


async def test_without_a_terminal_each_new_message_is_a_line(
    zora: Zora, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display, "MESSAGE_SECONDS", 0.01)
    agent, printed = Reporter(), ""
    task_id = await zora.create("SAM", "report", title="The climate page")

    def said(words: str) -> bool:
        nonlocal printed
        printed += capsys.readouterr().err
        return words in printed

    async with showing(zora, agent):
        agent.say.put_nowait((0.4, "reading pages"))
        await until(lambda: said("reading pages"))
        agent.say.put_nowait((0.5, "reading pages"))
        agent.say.put_nowait((0.8, "checking\nclaims \x1b[2J"))
        await until(lambda: said("checking"))
        agent.say.put_nowait(None)
        await until(lambda: said("completed"))
    lines = [line.split("  ", 1)[1] for line in printed.splitlines()]
    task = f"{str(task_id)[-8:]}  SAM report"
    assert lines == [
        f"{task}  started  The climate page",
        f"{task}  40 %  reading pages",
        f"{task}  80 %  checking claims \\x1b[2J",
        f"{task}  completed  done",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_on_a_terminal_progress_stands_in_a_list_under_the_lines_and_goes_away(
    zora: Zora, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    log = logging.StreamHandler(terminal)
    monkeypatch.setattr(logging.getLogger("zora"), "handlers", [log])
    agent = Reporter()
    await zora.create("SAM", "report", title="The climate page")
    async with showing(zora, agent):
        for fraction, percentage in ((0.4, "40 %  reading pages"), (0.8, "80 %  reading pages")):
            agent.say.put_nowait((fraction, "reading pages"))
            await until(lambda percentage=percentage: percentage in terminal.getvalue())  # type: ignore[misc]
        logging.getLogger("zora.runtime").warning("the database was away")
        agent.say.put_nowait(None)
        await until(lambda: "completed" in terminal.getvalue())
    assert (sys.stderr, log.stream) == (terminal, terminal)
    *above, last = terminal.getvalue().split("\n")
    started, logged, completed = (
        next(i for i, line in enumerate(above) if words in line)
        for words in ("started", "the database was away", "completed")
    )
    assert started < logged < completed
    for line in (above[logged], above[completed]):
        assert "\x1b[2K" in line, "the list is erased before anything is written above it"
    assert "reading pages" not in "".join([*above[completed:], last]).split("completed")[1]


async def test_showing_a_running_task_tells_its_progress(zora: Zora, capsys: pytest.CaptureFixture[str]) -> None:
    agent = Reporter()
    task_id = await zora.create("SAM", "report")

    async def shown() -> str:
        (row,) = await zora.call("get_agent_task", tenant_id=zora.tenant_id, id=str(task_id))
        print_task(row, "", [], [])
        return capsys.readouterr().out

    assert "progress" not in await shown()
    async with working(zora, agent):
        agent.say.put_nowait((0.4, "reading \x1b[2Jpages"))
        await stored(zora, "reading \x1b[2Jpages")
        assert "40 %  reading \\x1b[2Jpages" in await shown()
        agent.say.put_nowait(None)

        async def completed() -> bool:
            return (await zora.task(task_id)).status == "completed"

        await until(completed)
    said = await shown()
    assert "completed" in said
    assert "%" not in said
