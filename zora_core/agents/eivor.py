"""EIVOR keeps the memory: sums up what happened and finds what the memory could do without."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from pydantic import ConfigDict, Field

from zora_core.agents.agent import Agent, Payload, handler
from zora_core.models import AgentId, Finding, Metric, Rows, Severity, Suggestion, Task, TaskResult, identity
from zora_core.wording import count

if typing.TYPE_CHECKING:
    from datetime import datetime

    from zora_core.agents.context import TaskContext
    from zora_core.models import SuggestionRecord
    from zora_core.skills.memory import Cleanup, Cluster
    from zora_core.skills.memory.digest import Digest

JOURNAL_LIMIT = 20_000
MEMORY_LIMIT = 20_000
SUGGESTION_LIMIT = 200
ARCHIVE_BATCH = 500


class SummarizeRecentEvents(Payload):
    """Payload of summarize_recent_events."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"days": 7}]})

    days: float = Field(default=7, gt=0, le=366, description="Length of the window that ends now, in days.")


class MemoryCleanup(Payload):
    """Payload of memory_cleanup."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"older_than_days": 30}]})

    older_than_days: float = Field(
        default=30, gt=0, le=3660, description="Age in days at which conversations and results are stale; others later."
    )
    similarity: float = Field(default=0.9, ge=0.5, le=1, description="Minimum similarity of pairs to report, 0.5 to 1.")


class Eivor(Agent):
    """The memory keeper."""

    agent_id = AgentId.EIVOR

    @handler("summarize_recent_events")
    async def summarize_recent_events(self, task: Task, payload: SummarizeRecentEvents, ctx: TaskContext) -> TaskResult:
        """Summarise the journal of the last days: counts, rates against the days before, new errors, gaps."""
        from zora_core.skills.memory import digest

        before, since, until = digest.window(ctx.now, payload.days)
        await ctx.progress(0, "reading journal and memory")
        entries = await ctx.journal(since=since, until=until, limit=JOURNAL_LIMIT)
        previous = await ctx.journal(since=before, until=since, limit=JOURNAL_LIMIT)
        memories = await ctx.memories(since=since, until=until, limit=JOURNAL_LIMIT)
        await ctx.progress(0.5, f"summing up {count(len(entries), 'event')}")
        summary = await ctx.compute(digest.digest, entries, previous, memories, since=since, until=until)
        result = {**digest.as_result(summary), "days": payload.days, "memories": len(memories)}
        notes = [
            f"only the {JOURNAL_LIMIT} latest {what} were read"
            for what, rows in (("events", entries), ("events of the window before", previous), ("memories", memories))
            if len(rows) >= JOURNAL_LIMIT
        ]
        result["notes"] = notes
        found = digest.findings(summary) or [_nothing_happened(summary, payload.days, len(memories))]
        text = " ".join([_digest_sentence(summary, payload.days), *(f"Note: {note}." for note in notes)])
        return TaskResult(summary=text, findings=found, result=result)

    @handler("memory_cleanup", timeout_seconds=300)
    async def memory_cleanup(self, task: Task, payload: MemoryCleanup, ctx: TaskContext) -> TaskResult:
        """Find duplicate, contradicting and stale memories, and suggest what to merge or archive."""
        from zora_core.skills import memory

        await ctx.progress(0, "reading the memory")
        memories = await ctx.memories(limit=MEMORY_LIMIT)
        await ctx.progress(0.3, f"comparing {count(len(memories), 'memory', 'memories')}")
        cleanup = await ctx.compute(
            memory.clean, memories, now=ctx.now, older_than_days=payload.older_than_days, threshold=payload.similarity
        )
        cleanup = _respecting(cleanup, await ctx.decisions("merge_memories"), await ctx.decisions("archive_memories"))
        same, stale = f"similarity {payload.similarity:g}", f"older than {payload.older_than_days:g} days"
        suggestions = [_merge(cluster, same) for cluster in cleanup.clusters[:SUGGESTION_LIMIT]]
        archivings = _archive(cleanup, payload.older_than_days, ctx.now, stale)
        # As many as are suggested, so that every suggestion has its finding.
        found = memory.findings(cleanup, now=ctx.now, older_than_days=payload.older_than_days, limit=SUGGESTION_LIMIT)
        result = _cleanup_result(cleanup, payload)
        result["truncated"] = len(memories) >= MEMORY_LIMIT
        examined = {same: [_merge_key(c) for c in cleanup.clusters], stale: [s.key for s in archivings]}
        return TaskResult(
            summary=_cleanup_sentence(cleanup, result["truncated"]),
            findings=found or [_nothing_to_clean(cleanup)],
            suggestions=[*suggestions, *archivings],
            result=result,
            examined={} if result["truncated"] else examined,
        )


def _respecting(cleanup: Cleanup, merges: list[SuggestionRecord], archivings: list[SuggestionRecord]) -> Cleanup:
    """Without the suggestions that a person rejected: memories to keep, and memories not to merge."""
    kept = {i for s in archivings if s.status == "rejected" for i in s.target.get("ids", ())}
    apart = [{s.target.get("keep"), *s.target.get("ids", ())} for s in merges if s.status == "rejected"]
    return dataclasses.replace(
        cleanup,
        stale=[m for m in cleanup.stale if str(m.id) not in kept],
        clusters=[c for c in cleanup.clusters if not any(_ids(c) <= together for together in apart)],
    )


def _ids(cluster: Cluster) -> set[str]:
    return {str(m.id) for m in (cluster.keep, *cluster.archive)}


def _digest_sentence(summary: Digest, days: float) -> str:
    total = summary.total
    if total.count == 0 and total.previous == 0:
        return f"No events in the last {days:g} days, nor in the {days:g} days before."
    largest = [f"{change.count} {name}" for name, change in list(summary.by_category.items())[:3] if change.count]
    of_which = f" ({', '.join(largest)})" if largest else ""
    errors = sum(1 for t in summary.templates if t.is_error)
    return (
        f"{count(total.count, 'event')} in the last {days:g} days{of_which}, "
        f"{total.previous} in the {days:g} days before; {count(errors, 'kind')} of error, "
        f"{len(summary.new_errors)} of them new."
    )


def _nothing_happened(summary: Digest, days: float, memories: int) -> Finding:
    return Finding(
        rule_id="digest.nothing",
        title="Nothing happened",
        detail=f"The journal has no entry from {summary.since:%Y-%m-%d %H:%M} to {summary.until:%Y-%m-%d %H:%M} UTC.",
        severity=Severity.INFO,
        confidence=1.0,
        evidence=[
            Metric(
                name="journal entries",
                value=0,
                unit="events",
                formula=f"count over {days:g} days",
                source="journal_entries",
            ),
            Metric(
                name="memories",
                value=memories,
                unit="rows",
                formula=f"count over {days:g} days",
                source="memory_events",
            ),
        ],
    )


def _nothing_to_clean(cleanup: Cleanup) -> Finding:
    return Finding(
        rule_id="memory.nothing",
        title="Nothing to clean up",
        detail=f"{cleanup.examined} memories were compared: no duplicates, no contradictions, nothing stale.",
        severity=Severity.INFO,
        confidence=1.0,
        evidence=[
            Metric(
                name="memories",
                value=cleanup.examined,
                unit="rows",
                formula="memories not archived",
                source="memory_events",
            )
        ],
    )


def _merge_key(cluster: Cluster) -> str:
    return identity("merge", cluster.keep.id, *sorted(str(m.id) for m in cluster.archive))


def _merge(cluster: Cluster, subject: str) -> Suggestion:
    from zora_core.skills.memory import cluster_finding
    from zora_core.skills.text.words import shorten

    members = (cluster.keep, *cluster.archive)
    return Suggestion(
        suggestion_type="merge_memories",
        title=f"Merge {len(members)} {'equal' if cluster.exact else 'nearly equal'} memories",
        body=f"Keep “{shorten(cluster.keep.content)}” and archive {len(cluster.archive)} "
        f"{'equal to it' if cluster.exact else 'that differ in articles, courtesy, capitals or a final mark'}. "
        "Archiving can be undone.",
        target={"table": "memory_events", "keep": str(cluster.keep.id), "ids": [str(m.id) for m in cluster.archive]},
        current_value={str(m.id): {"content": m.content, "tags": m.tags} for m in members},
        suggested_value={
            "keep": str(cluster.keep.id),
            "archive": [str(m.id) for m in cluster.archive],
            "tags": cluster.tags,
        },
        findings=[cluster_finding(cluster).id],
        evidence=[Rows(table="memory_events", ids=[str(m.id) for m in members])],
        risk_level="low" if cluster.exact else "medium",
        key=_merge_key(cluster),
        subject=subject,
    )


def _archive(cleanup: Cleanup, older_than_days: float, now: datetime, subject: str) -> list[Suggestion]:
    from zora_core.skills.memory import settings, stale_by_type, stale_finding

    found = []
    for kind, group in stale_by_type(cleanup):
        span = older_than_days * settings()["spans"].get(kind, 1)
        finding = stale_finding(kind, group, now, older_than_days)
        for start in range(0, len(group), ARCHIVE_BATCH):
            ids = [str(m.id) for m in group[start : start + ARCHIVE_BATCH]]
            found.append(
                Suggestion(
                    suggestion_type="archive_memories",
                    title=f"Archive {count(len(ids), f'{kind} memory', f'{kind} memories')} older than {span:g} days",
                    body="They stay readable as archived memories, and archiving can be undone.",
                    target={"table": "memory_events", "ids": ids},
                    suggested_value={"archive": ids},
                    findings=[finding.id],
                    evidence=[Rows(table="memory_events", ids=ids)],
                    risk_level="low",
                    key=identity("archive", kind, start // ARCHIVE_BATCH),
                    subject=subject,
                )
            )
    return found[:SUGGESTION_LIMIT]


def _cleanup_result(cleanup: Cleanup, payload: MemoryCleanup) -> dict[str, Any]:
    return {
        "examined": cleanup.examined,
        "older_than_days": payload.older_than_days,
        "similarity": payload.similarity,
        "clusters": [
            {
                "keep": str(c.keep.id),
                "archive": [str(m.id) for m in c.archive],
                "kind": "exact" if c.exact else "near",
            }
            for c in cleanup.clusters[:SUGGESTION_LIMIT]
        ],
        "duplicates": sum(len(c.archive) for c in cleanup.clusters),
        "clusters_total": len(cleanup.clusters),
        "contradictions": [
            {"ids": [str(c.first.id), str(c.second.id)], "differs_in": list(c.kinds), "similarity": round(c.score, 4)}
            for c in cleanup.contradictions[:SUGGESTION_LIMIT]
        ],
        "contradictions_total": len(cleanup.contradictions),
        "stale": len(cleanup.stale),
        "similar": [
            {"ids": [str(s.first.id), str(s.second.id)], "differs_in": list(s.differs), "similarity": round(s.score, 4)}
            for s in cleanup.similar[:SUGGESTION_LIMIT]
        ],
        "kept_apart": len(cleanup.similar),
    }


def _cleanup_sentence(cleanup: Cleanup, truncated: bool) -> str:
    duplicates = sum(len(c.archive) for c in cleanup.clusters)
    similar = f" (and {count(len(cleanup.similar), 'similar pair')} not merged)" if cleanup.similar else ""
    examined = f"{'The latest ' if truncated else ''}{count(cleanup.examined, 'memory', 'memories')} examined"
    return (
        f"{examined}: {count(duplicates, 'duplicate')} in {count(len(cleanup.clusters), 'cluster')}{similar}, "
        f"{count(len(cleanup.contradictions), 'contradiction')}, {len(cleanup.stale)} stale."
    )
