"""What a memory could do without: exact and near duplicates, statements that contradict each other, stale ones."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from zora_core.data import load
from zora_core.models import Evidence, Finding, MemoryEvent, Metric, Quote, Rows, Severity, identity
from zora_core.skills.memory.sameness import groups_that_say_the_same
from zora_core.skills.text.similarity import candidate_pairs, differing_facts, similarity, statement
from zora_core.skills.text.words import shorten, stems, words

_DIGITS = re.compile(r"\d+(?:[.,]\d+)*")
# Similar pairs that are listed as findings; the result counts all of them.
SIMILAR_LIMIT = 20


@dataclass(frozen=True)
class Cluster:
    """Memories that say the same: `keep` the newest one, `archive` the others.

    `exact`: whether their texts are equal (`equal_form`); if not, they are English and differ in words that are known
    to mean nothing.
    """

    keep: MemoryEvent
    archive: tuple[MemoryEvent, ...]
    exact: bool

    @property
    def tags(self) -> list[str]:
        """Every tag of the cluster, those of the kept memory first."""
        return list(dict.fromkeys(tag for memory in (self.keep, *self.archive) for tag in memory.tags))


@dataclass(frozen=True)
class Similar:
    """Two memories that are alike and stay apart; `differs` names what differs, such as "number" or "word order"."""

    first: MemoryEvent
    second: MemoryEvent
    score: float
    differs: tuple[str, ...]


@dataclass(frozen=True)
class Contradiction:
    """Two memories about the same thing that cannot both hold; `kinds` names what differs (number, negation)."""

    first: MemoryEvent
    second: MemoryEvent
    score: float
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Cleanup:
    """What a pass over the memory found; `similar` are alike pairs that are not merged."""

    examined: int
    clusters: list[Cluster]
    contradictions: list[Contradiction]
    stale: list[MemoryEvent]
    similar: list[Similar]


@cache
def settings() -> dict[str, Any]:
    """The spans and limits of `data/memory.toml`."""
    return load("memory")


def clean(memories: Iterable[MemoryEvent], *, now: datetime, older_than_days: float, threshold: float) -> Cleanup:
    """Find duplicates, contradictions and stale entries among the memories that are not archived.

    Only memories that say the same are clusters; `threshold` is the least `similarity` (0..1) of other pairs that are
    worth a look. Memories of different types never merge, nor do the records of different runs: that something
    happened twice is not a repetition.
    """
    active = sorted((m for m in memories if m.archived_at is None), key=lambda m: (m.created_at, str(m.id)))
    # Records of runs and of decisions are no statements: two that read the same are two events.
    stated = [m for m in active if m.source_task_id is None and "suggestion_id" not in m.metadata]
    clusters = _duplicates(stated)
    replaced = {m.id for cluster in clusters for m in cluster.archive}
    remaining = [m for m in active if m.id not in replaced]
    return Cleanup(
        examined=len(active),
        clusters=clusters,
        contradictions=_contradictions(remaining),
        stale=[m for m in remaining if is_stale(m, now=now, older_than_days=older_than_days)],
        similar=_similar([m for m in stated if m.id not in replaced], threshold),
    )


def retention(memory: MemoryEvent, *, now: datetime, older_than_days: float) -> float:
    """How much of a memory's use is left, 0 to 1: halves with each span of its type (`data/memory.toml`)."""
    span = older_than_days * settings()["spans"].get(memory.memory_type, 1)
    age = max(0.0, (now - memory.created_at).total_seconds() / 86400)
    return float(0.5 ** (age / span)) if span > 0 else 0.0


def is_stale(memory: MemoryEvent, *, now: datetime, older_than_days: float) -> bool:
    """Whether the memory is past its span and not pinned (`metadata.pinned`)."""
    if memory.metadata.get("pinned") is True:
        return False
    return retention(memory, now=now, older_than_days=older_than_days) < float(settings()["stale_below"])


def _duplicates(memories: Sequence[MemoryEvent]) -> list[Cluster]:
    by_type: defaultdict[str, list[MemoryEvent]] = defaultdict(list)
    for memory in memories:
        if memory.content.strip():
            by_type[memory.memory_type].append(memory)
    found = []
    for group in by_type.values():
        for indices, exact in groups_that_say_the_same([memory.content for memory in group]):
            keep, *rest = sorted((group[index] for index in indices), key=_recency, reverse=True)
            if rest:
                found.append(Cluster(keep, tuple(reversed(rest)), exact))
    return sorted(found, key=lambda c: (-len(c.archive), not c.exact, str(c.keep.id)))


def _similar(memories: Sequence[MemoryEvent], threshold: float) -> list[Similar]:
    """Pairs with the same numbers, dates and negations in other words or another order; they are never merged."""
    blocks: defaultdict[tuple[object, ...], list[MemoryEvent]] = defaultdict(list)
    for memory in memories:
        said = statement(memory.content)
        blocks[memory.memory_type, said.numbers, said.dates, said.polarity].append(memory)
    found = []
    for block in blocks.values():
        bags = [set(stems(memory.content)) or set(words(memory.content)) for memory in block]
        for left, right in candidate_pairs(bags, max(0.3, threshold - 0.5)):
            older, newer = sorted((block[left], block[right]), key=_recency)
            score = similarity(older.content, newer.content)
            if score >= threshold:
                differs = differing_facts(older.content, newer.content)
                found.append(Similar(older, newer, score, tuple(differs) or _apart(older.content, newer.content)))
    return sorted(found, key=lambda s: (-s.score, str(s.first.id), str(s.second.id)))


def _apart(first: str, second: str) -> tuple[str, ...]:
    """In what two texts differ that state the same facts as far as their words are known."""
    a, b = Counter(words(first)), Counter(words(second))
    own = [word for word, _ in ((a - b) + (b - a)).most_common(5)]
    if own:
        return (f"the words {', '.join(own)}" if len(own) > 1 else f"the word {own[0]}",)
    return ("word order" if words(first) != words(second) else "signs, symbols or capitals",)


def _recency(memory: MemoryEvent) -> tuple[datetime, str]:
    return memory.created_at, str(memory.id)


def _contradictions(memories: Sequence[MemoryEvent], limit: int = 200) -> list[Contradiction]:
    kinds = settings()["limits"]["contradiction_types"]
    least = settings()["limits"]["contradiction_similarity"]
    stated = [m for m in memories if m.memory_type in kinds]
    masked = [_DIGITS.sub(" ", m.content) for m in stated]
    bags = [set(stems(text)) for text in masked]
    found = []
    for left, right in candidate_pairs(bags, 0.5):
        first, second = stated[left], stated[right]
        differs = _conflict(first.content, second.content)
        if not differs or len(bags[left] & bags[right]) < 3:
            continue
        score = similarity(masked[left], masked[right])
        if score >= least:
            older, newer = sorted((first, second), key=_recency)
            found.append(Contradiction(older, newer, score, differs))
            if len(found) >= limit:
                break
    return sorted(found, key=lambda c: (-c.score, str(c.first.id), str(c.second.id)))


def _conflict(first: str, second: str) -> tuple[str, ...]:
    """What makes two statements about one subject incompatible; other names or dates make them other subjects."""
    a, b = statement(first), statement(second)
    if set(a.names) ^ set(b.names) or a.dates != b.dates or _years(a.numbers) != _years(b.numbers):
        return ()
    found = []
    if _disagree(a.numbers, b.numbers):
        found.append("number")
    if a.polarity.count("not") != b.polarity.count("not") or _opposed(a.polarity, b.polarity):
        found.append("negation")
    return tuple(found)


def _years(numbers: Sequence[tuple[str, str]]) -> set[str]:
    return {value for value, unit in numbers if not unit and re.fullmatch(r"(?:19|20)\d\d", value)}


def _disagree(first: Sequence[tuple[str, str]], second: Sequence[tuple[str, str]]) -> bool:
    """Whether both give a number in the same unit (or both without one) and share none of them."""
    for unit in {unit for _, unit in first} & {unit for _, unit in second}:
        mine, theirs = ({value for value, other in side if other == unit} for side in (first, second))
        if mine and theirs and not mine & theirs:
            return True
    return False


def _opposed(first: Sequence[str], second: Sequence[str]) -> bool:
    only_first, only_second = set(first) - set(second) - {"not"}, set(second) - set(first) - {"not"}
    return bool(only_first and only_second)


def findings(cleanup: Cleanup, *, now: datetime, older_than_days: float, limit: int = 150) -> list[Finding]:
    """The cleanup as findings: contradictions, duplicates, similar pairs, then one per type of stale memory."""
    out = [_contradiction_finding(item) for item in cleanup.contradictions[:limit]]
    out += [cluster_finding(item) for item in cleanup.clusters[:limit]]
    out += [_similar_finding(item) for item in cleanup.similar[:SIMILAR_LIMIT]]
    out += [stale_finding(kind, group, now, older_than_days) for kind, group in stale_by_type(cleanup)]
    return sorted(out, key=lambda f: -f.severity.rank)


def stale_by_type(cleanup: Cleanup) -> list[tuple[str, list[MemoryEvent]]]:
    """The stale memories grouped by memory type, largest group first."""
    groups: defaultdict[str, list[MemoryEvent]] = defaultdict(list)
    for memory in cleanup.stale:
        groups[memory.memory_type].append(memory)
    return sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))


def _rows(memories: Iterable[MemoryEvent]) -> Rows:
    return Rows(table="memory_events", ids=[str(m.id) for m in memories])


def _quote(memory: MemoryEvent) -> Quote:
    return Quote(source=f"memory_events/{memory.id}#content", text=memory.content[:300], start=0)


def _contradiction_finding(item: Contradiction) -> Finding:
    numbers = "number" in item.kinds
    return Finding(
        rule_id="memory.contradiction",
        title=f"Two {item.first.memory_type} memories disagree in {' and '.join(item.kinds)}",
        detail=f"“{shorten(item.first.content)}” ({item.first.created_at:%Y-%m-%d}) against "
        f"“{shorten(item.second.content)}” ({item.second.created_at:%Y-%m-%d}). Nothing is merged; decide which holds.",
        severity=Severity.MEDIUM,
        confidence=round(min(0.95, item.score * (0.9 if numbers else 0.8)), 2),
        source="statistic",
        evidence=[_rows((item.first, item.second)), _quote(item.first), _quote(item.second)],
    )


def cluster_finding(item: Cluster) -> Finding:
    """Memories that say the same, as a finding."""
    count = len(item.archive) + 1
    how = "The same words in the same order."
    if not item.exact:
        how = "The same words in the same order, but for articles, courtesy, capitals or a final mark."
    return Finding(
        rule_id="memory.duplicate.exact" if item.exact else "memory.duplicate.near",
        title=f"{count} {'equal' if item.exact else 'nearly equal'} memories: “{shorten(item.keep.content, 80)}”",
        detail=how,
        severity=Severity.LOW,
        confidence=1.0 if item.exact else 0.9,
        source="statistic",
        evidence=[_rows((item.keep, *item.archive)), _quote(item.keep)],
    )


def _similar_finding(item: Similar) -> Finding:
    evidence: list[Evidence] = [_rows((item.first, item.second)), _quote(item.first), _quote(item.second)]
    evidence.append(
        Metric(
            name="similarity",
            value=round(item.score, 4),
            unit="0..1",
            formula="overlap of words and characters",
            source="memory_events",
        )
    )
    return Finding(
        rule_id="memory.similar",
        title=f"Similar, not merged: “{shorten(item.first.content, 60)}” and “{shorten(item.second.content, 60)}”",
        detail=f"They differ in {', '.join(item.differs)}, which can change the meaning. Nothing is proposed.",
        severity=Severity.INFO,
        confidence=round(item.score, 2),
        source="statistic",
        evidence=evidence,
    )


def stale_finding(kind: str, group: list[MemoryEvent], now: datetime, older_than_days: float) -> Finding:
    """Memories of one type that are stale, as a finding."""
    oldest = min(group, key=_recency)
    age = (now - oldest.created_at).days
    span = older_than_days * settings()["spans"].get(kind, 1)
    return Finding(
        rule_id="memory.stale",
        key=identity(kind, f"{span:g}"),
        title=f"{len(group)} {kind} memories are older than {span:g} days",
        detail=f"The oldest is {age} days old: “{shorten(oldest.content)}”.",
        severity=Severity.INFO,
        confidence=0.7,
        source="statistic",
        evidence=[
            Rows(table="memory_events", ids=[str(m.id) for m in group[:200]]),
            Metric(
                name="oldest age",
                value=age,
                unit="days",
                formula=f"stale when 0.5^(age / {span:g} days) < 0.5",
                source="memory_events",
            ),
        ],
    )
