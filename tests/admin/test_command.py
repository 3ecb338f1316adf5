"""The command line for a form: `zora` itself takes it for the same task."""

from __future__ import annotations

import json
import shlex
from datetime import UTC
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.admin.test_forms import every_type, texts
from zora_core.admin.command import command_line
from zora_core.agents.agent import TaskType
from zora_core.cli.main import main
from zora_core.cli.queue import create_task


def parsed(line: str) -> dict[str, Any]:
    """What `zora` itself takes the line for."""
    program, command, *words = shlex.split(line)
    assert program == "zora"
    group = main
    assert isinstance(group, click.Group)
    with group.make_context("zora", [command, *words]) as context:
        assert group.get_command(context, command) is create_task
    with create_task.make_context(command, words) as context:
        return context.params


@every_type
def test_the_command_line_makes_the_same_task(task_type: TaskType) -> None:
    payload = task_type.schema["examples"][0]
    found = parsed(command_line(task_type.agent_id, task_type.name, "A title", payload))
    assert (found["agent_argument"], found["type_argument"]) == (task_type.agent_id, task_type.name)
    assert found["title_argument"] == "A title"
    assert json.loads(found["payload"]) == payload
    assert found["priority"] == 0
    assert found["max_attempts"] == 3


@settings(max_examples=50)
@given(
    title=texts(1, 60),
    payload=st.dictionaries(texts(1, 20), st.one_of(texts(1, 20), st.lists(texts(1, 9)), st.integers(), st.none())),
    description=st.none() | texts(1, 60),
    priority=st.integers(-1_000_000, 1_000_000),
    max_attempts=st.integers(1, 100),
    timeout_seconds=st.none() | st.integers(1, 86_400),
    moment=st.none() | st.datetimes(timezones=st.timezones()).filter(lambda moment: moment.year > 1950),
    key=st.none() | texts(1, 60),
)
def test_whatever_a_task_says_survives_the_shell(
    title: str,
    payload: dict[str, Any],
    description: str | None,
    priority: int,
    max_attempts: int,
    timeout_seconds: int | None,
    moment: Any,
    key: str | None,
) -> None:
    line = command_line(
        "ORACLE",
        "research_topic",
        title,
        payload,
        description=description,
        priority=priority,
        run_at=moment,
        deadline_at=moment,
        max_attempts=max_attempts,
        timeout_seconds=timeout_seconds,
        idempotency_key=key,
    )
    found = parsed(line)
    assert (found["title"] or found["title_argument"]) == title
    assert json.loads(found["payload"]) == payload
    assert (found["description"], found["priority"], found["idempotency_key"]) == (description, priority, key)
    assert (found["max_attempts"], found["timeout_seconds"]) == (max_attempts, timeout_seconds)
    assert found["run_at"] == found["deadline"]
    # In one zone, because Python takes times that a zone has twice for different from any in another zone.
    assert moment is None or found["run_at"].astimezone(UTC) == moment.astimezone(UTC).replace(microsecond=0)


def test_a_flag_that_there_is_not_is_named() -> None:
    with pytest.raises(TypeError, match="no flag for 'colour'"):
        command_line("SAM", "review_climate_page", "Look", {}, colour="red")
