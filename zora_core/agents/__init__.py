"""The six agents and what it takes to write a handler for one of them."""

from zora_core.agents.agent import Agent, ChildTask, Delegate, Payload, Registry, Snooze, TaskType, handler
from zora_core.agents.context import TaskContext
from zora_core.models import (
    AgentId,
    ChildResult,
    Element,
    Evidence,
    FileLine,
    Finding,
    Metric,
    Quote,
    Rows,
    Severity,
    Suggestion,
    Task,
    TaskResult,
)

__all__ = [
    "Agent",
    "AgentId",
    "ChildResult",
    "ChildTask",
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
    "TaskType",
    "handler",
]
