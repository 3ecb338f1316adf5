"""Where text from outside went: a task that read it and then proposed or caused a change is looked at by a person.

The rule does not read the wording, so an attack that is worded like ordinary text cannot pass it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from zora_core.data import load
from zora_core.models import Rows, SuggestionRecord, TaskRecord
from zora_core.skills.risk.issue import Issue
from zora_core.wording import count


def flow_issues(
    tasks: Sequence[TaskRecord], suggestions: Sequence[SuggestionRecord], *, poisoned: Collection[str]
) -> list[Issue]:
    """Tasks that read outside text, or text with orders (`poisoned`), and led to suggestions that change something."""
    harmless = load("risk_rules")["flow"]["harmless_suggestions"]
    led_to: dict[str, list[SuggestionRecord]] = defaultdict(list)
    for suggestion in suggestions:
        if suggestion.suggestion_type not in harmless:
            led_to[str(suggestion.task_id)].append(suggestion)
    return [
        issue
        for task in tasks
        if led_to[str(task.id)]
        for issue in _issues(task, led_to[str(task.id)], outside_text(task), str(task.id) in poisoned)
    ]


def outside_text(task: TaskRecord) -> list[str]:
    """By which ways text from outside came into `task`: kinds of the sources it read, and fields of its payload."""
    flow = load("risk_rules")["flow"]
    sources = (task.result or {}).get("sources") or []
    kinds = {str(s.get("kind")) for s in sources if isinstance(s, dict)} & set(flow["outside_sources"])
    fields = {f"payload field {name}" for name in flow["outside_fields"] if task.payload.get(name)}
    return sorted(kinds | fields)


def _issues(task: TaskRecord, suggestions: list[SuggestionRecord], ways: list[str], poisoned: bool) -> Iterator[Issue]:
    if not ways and not poisoned:
        return
    made = [s for s in suggestions if s.status in ("approved", "applied")]
    evidence = (Rows(table="agent_suggestions", ids=[str(s.id) for s in (made or suggestions)[:20]]),)
    types = ", ".join(sorted({s.suggestion_type for s in suggestions}))
    read = ", ".join(ways) or "its payload"
    detail = (
        f"{task.agent_id} {task.task_type} read text from outside ({read}) and led to "
        f"{count(len(suggestions), 'suggestion')} ({types}), {len(made)} of them approved or applied."
    )
    rule_id = "risk.poisoned-flow" if poisoned else "risk.tainted-effect" if made else "risk.tainted-flow"
    yield Issue(rule_id, (str(task.id),), detail, evidence)
