"""Logs: one line per record, the request's id in it, and no secrets, wherever they come from."""

from __future__ import annotations

import contextvars
import logging
import subprocess
import sys

import pytest

from tests.conftest import Zora
from zora_core import masking
from zora_core.agents import Agent, AgentId, Payload, Task, TaskContext, TaskResult, handler
from zora_core.api.keys import new_key
from zora_core.logs import request_id, set_up_logging

SECRET = "hunter" + "2"
logger = logging.getLogger("zora.api")


class Log:
    """What logging writes to stderr."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def set_up(self, *, tracebacks: bool = False) -> None:
        """Set logging up; in the test itself, for pytest has another stderr while it sets fixtures up."""
        set_up_logging(tracebacks=tracebacks)

    def said(self) -> str:
        """What was written since the last look."""
        return self._capture.readouterr().err


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Log:
    ours = logging.getLogger("zora")
    monkeypatch.setattr(ours, "handlers", ours.handlers)
    monkeypatch.setattr(ours, "propagate", ours.propagate)
    return Log(capsys)


def test_a_record_is_one_line_with_its_level(log: Log) -> None:
    log.set_up()
    logger.warning("lost the lease of task %s", 7)
    assert log.said() == "WARNING lost the lease of task 7\n"


def test_setting_up_again_does_not_write_twice(log: Log) -> None:
    log.set_up()
    log.set_up()
    logger.warning("once")
    assert log.said() == "WARNING once\n"


def test_a_handler_of_another_program_gets_nothing_unmasked(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    log.set_up()
    logger.warning("password=%s", SECRET)
    assert log.said() == "WARNING password=[masked]\n"
    assert not caplog.records


def test_the_requests_id_is_in_its_lines_and_in_no_others(log: Log) -> None:
    log.set_up()

    def answer() -> None:
        request_id.set("0f3a")
        logger.error("in a request")

    contextvars.copy_context().run(answer)
    logger.error("outside")
    assert log.said() == "ERROR [0f3a] in a request\nERROR outside\n"


class _Login(Agent):
    agent_id = AgentId.SAM

    @handler("log_in")
    def log_in(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        """Fail as code that was handed a secret does."""
        headers = {"Authorization": f"Bearer {new_key().key}", "X-Request": "7"}
        url = f"postgresql://zora:{SECRET}@db/zora"
        raise RuntimeError(f"cannot send {{'user': 'bo', 'password': '{SECRET}'}} with {headers} for {url}")


@pytest.mark.parametrize("tracebacks", [False, True])
async def test_a_failing_handler_that_quotes_what_it_was_given_leaks_nothing(
    zora: Zora, log: Log, tracebacks: bool
) -> None:
    log.set_up(tracebacks=tracebacks)
    task_id = await zora.create("SAM", "log_in")
    await zora.run_once(_Login())
    text = log.said()
    assert text.startswith(f"ERROR SAM log_in failed (task {task_id}, attempt 1)\n")
    assert "RuntimeError: cannot send {'user': 'bo', 'password': [masked]} with" in text
    assert ("for postgresql://zora:[masked]@db/zora" in text) is tracebacks  # the warning is one short line
    assert ("Traceback" in text) is tracebacks
    assert SECRET not in text
    assert "Bearer" not in text.replace('f"Bearer {new_key().key}"', "")


def test_tracebacks_are_shown_only_when_asked_for_and_never_at_the_margin(log: Log) -> None:
    log.set_up()

    def fail() -> None:
        try:
            raise ValueError("the first line\nERROR a forged record\x1b[2J")
        except ValueError:
            logger.exception("failed")

    fail()
    assert log.said() == "ERROR failed\n"
    log.set_up(tracebacks=True)
    fail()
    lines = log.said().splitlines()
    assert lines[:2] == ["ERROR failed", "  Traceback (most recent call last):"]
    assert lines[-2:] == ["  ValueError: the first line", r"  ERROR a forged record\x1b[2J"]
    assert all(line.startswith("  ") for line in lines[1:])


def test_other_handlers_see_the_record_with_its_exception(log: Log) -> None:
    log.set_up()
    seen: list[logging.LogRecord] = []
    other = logging.Handler()
    other.emit = seen.append  # type: ignore[method-assign]
    logging.getLogger("zora").addHandler(other)
    try:
        raise ValueError("x")
    except ValueError:
        logger.exception("failed")
    assert seen[0].exc_info is not None


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("home\nERROR a forged record", r"home\nERROR a forged record"),
        ("home\r\nERROR", r"home\r\nERROR"),
        ("\x1b[2J\x07\x00\x7f\x9b1A", r"\x1b[2J\x07\x00\x7f\x9b1A"),
        ("a\u2028b\u2029c\x85d\x0be", r"a\u2028b\u2029c\x85d\x0be"),
        ("\u202eeslaf\u2066", r"\u202eeslaf\u2066"),
        ("smörgåsbord – 東京", "smörgåsbord – 東京"),
    ],
)
def test_a_message_cannot_forge_a_record_or_move_the_cursor(log: Log, hostile: str, shown: str) -> None:
    log.set_up()
    logger.warning("unknown page %s", hostile)
    token = request_id.set(hostile)
    logger.warning("unknown page")
    request_id.reset(token)
    assert log.said() == f"WARNING unknown page {shown}\nWARNING [{shown}] unknown page\n"


def test_a_line_end_still_ends_a_secret(log: Log) -> None:
    log.set_up()
    logger.warning("Authorization: Basic YTpi\nHost: example.org")
    assert log.said() == "WARNING Authorization: [masked]\\nHost: example.org\n"


def test_a_giant_message_is_cut(log: Log) -> None:
    log.set_up()
    logger.warning("%s", "a" * 1_000_000)
    text = log.said()
    assert len(text) < masking.LIMIT + 100
    assert text.endswith(" characters cut]\n")


def test_a_record_that_cannot_be_written_is_reported_without_what_it_would_have_said(log: Log) -> None:
    log.set_up()
    try:
        raise ValueError(f"the secret is {SECRET}")
    except ValueError:
        logger.exception("%d attempts", SECRET)
    text = log.said()
    assert "ERROR a record of zora.api at " in text
    assert "TypeError: %d format" in text
    assert SECRET not in text


def test_a_fault_in_the_masking_is_loud_and_lets_nothing_through(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.set_up()

    def broken(text: str) -> str:
        raise RuntimeError("a fault")

    monkeypatch.setattr(masking, "mask", broken)
    logger.warning("password %s", SECRET)
    text = log.said()
    assert "RuntimeError: a fault" in text
    assert SECRET not in text


def test_a_command_that_logs_nothing_starts_without_the_masking() -> None:
    program = "import sys, zora_core.cli.main; print([m for m in sys.modules if 'masking' in m or 'skills' in m])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
