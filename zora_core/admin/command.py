"""The command that makes the same task as a form: `zora create-task` with its flags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from zora_core.suggested_command import zora_command

# What `zora create-task` calls the fields of a task, and the defaults that need not be said.
_FLAGS: dict[str, tuple[str, Any]] = {
    "description": ("--description", ""),
    "priority": ("--priority", 0),
    "run_at": ("--run-at", None),
    "deadline_at": ("--deadline", None),
    "max_attempts": ("--max-attempts", 3),
    "timeout_seconds": ("--timeout", None),
    "idempotency_key": ("--idempotency-key", None),
}


def command_line(
    agent_id: str, task_type: str, title: str, payload: Mapping[str, Any], *, tenant: str | None = None, **other: Any
) -> str:
    """The `zora create-task` that makes the same task, quoted for a POSIX shell; `tenant` as for `zora_command`.

    `other` has fields of a task as `create_agent_tasks` calls them: `description`, `priority`, `run_at`, `deadline_at`,
    `max_attempts`, `timeout_seconds`, `idempotency_key`. Raises `TypeError` for any other, and `ValueError` for a time
    without a zone.
    """
    if unknown := sorted(set(other) - set(_FLAGS)):
        raise TypeError(f"zora create-task has no flag for {unknown[0]!r} (known: {', '.join(_FLAGS)})")
    words = ["create-task", str(agent_id), task_type]
    words += [f"--title={title}"] if title.startswith("-") else [title]
    if payload:
        words += ["--payload", json.dumps(payload, ensure_ascii=False)]
    for name, (flag, default) in _FLAGS.items():
        value = other.get(name)
        if value is not None and value != default:
            said = _moment(value) if isinstance(value, datetime) else str(value)
            words += [f"{flag}={said}"] if said.startswith("-") else [flag, said]
    return zora_command(*words, tenant=tenant)


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError(f"{value.isoformat()} has no time zone")
    return value.isoformat(timespec="seconds")
