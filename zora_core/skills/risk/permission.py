"""Was every change approved by a person, and by another one than asked for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime

from zora_core.data import load
from zora_core.models import JournalEntry, Rows, SuggestionRecord, TaskRecord
from zora_core.skills.risk.issue import Issue

# Keys of a journal entry's details that may name who acted.
_ACTORS = ("decided_by", "approved_by", "by_user_id", "user_id")


def permission_issues(
    tasks: Sequence[TaskRecord],
    journal: Sequence[JournalEntry],
    suggestions: Sequence[SuggestionRecord],
    *,
    journal_since: datetime,
) -> list[Issue]:
    """Changes without approval, approvals by agents, and approvals by the one who created the task.

    A suggestion made before `journal_since` may have been approved before it: no approval is then no finding.
    """
    approvals = _by_suggestion(journal, "agent_suggestion_approved")
    applications = _by_suggestion(journal, "agent_suggestion_applied")
    requester = {str(t.id): str(t.created_by_user_id) for t in tasks if t.created_by_user_id}
    issues: list[Issue] = []
    for suggestion in suggestions:
        key = str(suggestion.id)
        issues += _unapproved(suggestion, approvals[key], applications[key], journal_since)
        for entry in approvals[key]:
            issues += _approver(suggestion, entry, requester.get(str(suggestion.task_id)))
    return [*issues, *_changes_by_agents(journal)]


def _by_suggestion(journal: Sequence[JournalEntry], event_type: str) -> dict[str, list[JournalEntry]]:
    entries: dict[str, list[JournalEntry]] = defaultdict(list)
    for entry in journal:
        if entry.event_type == event_type:
            for key in dict.fromkeys([str(entry.details.get("suggestion_id")), *map(str, entry.related_entity_ids)]):
                entries[key].append(entry)
    return entries


def _unapproved(
    suggestion: SuggestionRecord,
    approvals: list[JournalEntry],
    applications: list[JournalEntry],
    journal_since: datetime,
) -> Iterator[Issue]:
    applied = suggestion.status == "applied" or bool(applications)
    first = min((a.created_at for a in applications), default=None)
    in_time = [a for a in approvals if first is None or a.created_at <= first]
    if not applied or in_time or (suggestion.created_at < journal_since and not approvals):
        return
    evidence = [Rows(table="agent_suggestions", ids=[str(suggestion.id)])]
    if applications:
        evidence.append(Rows(table="journal_entries", ids=[str(e.id) for e in applications[:5]]))
    when = "only after it was applied" if approvals else "nowhere in the journal"
    kind = suggestion.suggestion_type
    detail = f"A {kind} of {suggestion.agent_id} was applied; its approval is recorded {when}."
    yield Issue("risk.effect-without-approval", (str(suggestion.task_id),), detail, tuple(evidence))


def _approver(suggestion: SuggestionRecord, entry: JournalEntry, requester: str | None) -> Iterator[Issue]:
    evidence = (
        Rows(table="agent_suggestions", ids=[str(suggestion.id)]),
        Rows(table="journal_entries", ids=[str(entry.id)]),
    )
    author = (entry.author or "").lower()
    actors = {str(entry.details[key]) for key in _ACTORS if entry.details.get(key)} | {author}
    task_ids = (str(suggestion.task_id),)
    if author in load("risk_rules")["flow"]["agents"] and len(actors) == 1:
        kind = suggestion.suggestion_type
        detail = f"A {kind} of {suggestion.agent_id} was approved by {author.upper()}, not by a person."
        yield Issue("risk.agent-approval", task_ids, detail, evidence)
    elif requester is not None and requester in actors:
        detail = f"User {requester} created the task and approved its {suggestion.suggestion_type}."
        yield Issue("risk.self-approval", task_ids, detail, evidence)


def _changes_by_agents(journal: Sequence[JournalEntry]) -> Iterator[Issue]:
    agents = load("risk_rules")["flow"]["agents"]
    for entry in journal:
        if entry.category == "config_change" and (entry.author or "").lower() in agents and entry.task_id is not None:
            if entry.details.get("suggestion_id"):
                continue
            detail = (
                f"{str(entry.author).upper()} journalled a change of configuration that goes back to no suggestion."
            )
            evidence = (Rows(table="journal_entries", ids=[str(entry.id)]),)
            yield Issue("risk.effect-without-approval", (str(entry.task_id),), detail, evidence)
