"""ZORA CORE: six agents, one task queue in PostgreSQL, evidence for everything they say.

The names in `__all__` are the public interface; each is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zora_core.agents import (
        Agent,
        AgentId,
        ChildResult,
        ChildTask,
        Delegate,
        Element,
        Evidence,
        FileLine,
        Finding,
        Metric,
        Payload,
        Quote,
        Registry,
        Rows,
        Severity,
        Snooze,
        Suggestion,
        Task,
        TaskContext,
        TaskResult,
        handler,
    )
    from zora_core.autonomy.runtime import AgentRuntime
    from zora_core.autonomy.worker import TaskRun
    from zora_core.client import Client
    from zora_core.errors import ZoraError

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AgentId",
    "AgentRuntime",
    "ChildResult",
    "ChildTask",
    "Client",
    "Delegate",
    "Element",
    "Evidence",
    "FileLine",
    "Finding",
    "Metric",
    "Payload",
    "Quote",
    "Registry",
    "Rows",
    "Severity",
    "Snooze",
    "Suggestion",
    "Task",
    "TaskContext",
    "TaskResult",
    "TaskRun",
    "ZoraError",
    "handler",
]

_ELSEWHERE = {
    "AgentRuntime": "zora_core.autonomy.runtime",
    "Client": "zora_core.client",
    "TaskRun": "zora_core.autonomy.worker",
    "ZoraError": "zora_core.errors",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE.get(name, "zora_core.agents")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
