"""What the tasks carry in and out: credentials, personal data, and text that gives orders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from zora_core.data import load
from zora_core.models import Quote, TaskRecord
from zora_core.secrets import SecretMatch, cut, find_personal_data, find_secrets, redact
from zora_core.skills.risk.injection import find_injections
from zora_core.skills.risk.issue import Issue
from zora_core.skills.text.fields import strings
from zora_core.wording import count

# What a result quotes is not what it says: quotes may contain orders, and are scanned for credentials only.
_QUOTING = frozenset({"evidence", "sources", "findings"})
_TELLING_KEY = re.compile(r"(?:passw(?:or)?d|secret|token|api_?key|credential)\w{0,24}$", re.IGNORECASE)
_EXCERPT = 120


def content_issues(tasks: Sequence[TaskRecord]) -> list[Issue]:
    """Credentials, personal data and injected instructions in what tasks carry, an issue per field."""
    return [issue for task in tasks for issue in _task_issues(task)]


def _task_issues(task: TaskRecord) -> Iterator[Issue]:
    limits = load("risk_rules")["limits"]
    inputs = {"title": task.title, "description": task.description, "payload": task.payload}
    outputs = {"result": task.result, "result_summary": task.result_summary, "error_message": task.error_message}
    for direction, content in (("input", inputs), ("output", outputs)):
        for path, text in islice(strings(content), limits["fields"]):
            text = text[: limits["field_characters"]]
            yield from _sensitive(task, path, text, f"risk.secret-in-{direction}", find_secrets(_with_key(path, text)))
            yield from _sensitive(task, path, text, f"risk.personal-data-in-{direction}", find_personal_data(text))
            if direction == "input" or not _QUOTING.intersection(re.split(r"[.\[]", path)):
                yield from _injections(task, path, text, direction)


def _with_key(path: str, text: str) -> str:
    """The field as an assignment where its name tells of a secret, so that its bare value is seen as one."""
    name = path.rpartition(".")[2]
    return f'{name}="{text}"' if _TELLING_KEY.search(name) and '"' not in text else text


def _sensitive(task: TaskRecord, path: str, text: str, rule_id: str, matches: list[SecretMatch]) -> Iterator[Issue]:
    if not matches:
        return
    kinds = Counter(m.kind for m in matches)
    listed = ", ".join(f"{number} × {kind}" if number > 1 else kind for kind, number in sorted(kinds.items()))
    detail = f"{task.agent_id} {task.task_type}, {redact(path)}: {listed}. The values are not repeated here."
    quotes = tuple(Quote(source=_source(task, path), text=m.masked, masked=True) for m in matches[:3])
    yield Issue(rule_id, (str(task.id),), detail, quotes)


def _injections(task: TaskRecord, path: str, text: str, direction: str) -> Iterator[Issue]:
    matches = find_injections(text)
    if not matches:
        return
    first = matches[0]
    families = ", ".join(dict.fromkeys(f"{m.family} ({m.why})" for m in matches))
    rule_id = "risk.injected-instruction" if direction == "input" else "risk.injected-output"
    detail = f"{task.agent_id} {task.task_type}, {redact(path)}: {count(len(matches), 'passage')}: {families}."
    passage = text[first.start : first.end]
    redacted = redact(passage)
    quote = Quote(
        source=_source(task, path), text=cut(redacted, _EXCERPT), start=first.start, masked=redacted != passage
    )
    yield Issue(rule_id, (str(task.id),), detail, (quote,))


def _source(task: TaskRecord, path: str) -> str:
    return f"agent_tasks/{task.id}#{redact(path)}"
