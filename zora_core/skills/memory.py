"""What a memory could do without: exact and near duplicates, statements that contradict each other, stale ones."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from zora_core.data import load
from zora_core.models import Evidence, Finding, MemoryEvent, Metric, Quote, Rows, Severity, identity
from zora_core.skills.similarity import candidate_pairs, differing_facts, normal_form, similarity, statement
from zora_core.skills.text import shorten, stems, words

_DIGITS = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Cluster:
    """Memories that say the same: `keep` the most useful one, `archive` the others; `score` is their least likeness."""

    keep: MemoryEvent
    archive: tuple[MemoryEvent, ...]
    score: float

    @property
    def exact(self) -> bool:
        """Whether all are equal up to case, punctuation and spacing."""
        return self.score == 1.0

    @property
    def tags(self) -> list[str]:
        """Every tag of the cluster, those of the kept memory first."""
        return list(dict.fromkeys(tag for memory in (self.keep, *self.archive) for tag in memory.tags))


@dataclass(frozen=True)
class Contradiction:
    """Two memories about the same thing that cannot both hold; `kinds` names what differs (number, negation)."""

    first: MemoryEvent
    second: MemoryEvent
    score: float
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Cleanup:
    """What a pass over the memory found; `near_misses` counts alike pairs that a differing fact kept apart."""

    examined: int
    clusters: list[Cluster]
    contradictions: list[Contradiction]
    stale: list[MemoryEvent]
    near_misses: int


@cache
def settings() -> dict[str, Any]:
    """The spans and limits of `data/memory.toml`."""
    return load("memory")


def clean(memories: Iterable[MemoryEvent], *, now: datetime, older_than_days: float, threshold: float) -> Cleanup:
    """Find duplicates, contradictions and stale entries among the memories that are not archived.

    `threshold` is the least `similarity` (0..1) of near duplicates. Memories of different types never merge, nor do
    the records of different runs: that something happened twice is not a repetition.
    """
    active = sorted((m for m in memories if m.archived_at is None), key=lambda m: (m.created_at, str(m.id)))
    clusters, near_misses = _duplicates([m for m in active if m.source_task_id is None], threshold)
    replaced = {m.id for cluster in clusters for m in cluster.archive}
    remaining = [m for m in active if m.id not in replaced]
    return Cleanup(
        examined=len(active),
        clusters=clusters,
        contradictions=_contradictions(remaining),
        stale=[m for m in remaining if is_stale(m, now=now, older_than_days=older_than_days)],
        near_misses=near_misses,
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


def _duplicates(memories: Sequence[MemoryEvent], threshold: float) -> tuple[list[Cluster], int]:
    exact: defaultdict[tuple[str, str], list[MemoryEvent]] = defaultdict(list)
    for memory in memories:
        exact[memory.memory_type, normal_form(memory.content)].append(memory)
    groups = [group for group in exact.values() if group[0].content.strip()]
    identical = [_split_by_facts(group) for group in groups]
    flat = [group for split in identical for group in split]

    links: dict[int, list[tuple[int, float]]] = defaultdict(list)
    near_misses = 0
    # Only equal numbers, dates and negations can merge, so that pairs need comparing within such a block only.
    blocks: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, group in enumerate(flat):
        said = statement(group[0].content)
        blocks[group[0].memory_type, said.numbers, said.dates, said.polarity].append(index)
    for block in blocks.values():
        bags = [set(stems(flat[index][0].content)) or set(words(flat[index][0].content)) for index in block]
        for left, right in candidate_pairs(bags, max(0.3, threshold - 0.5)):
            first, second = flat[block[left]][0], flat[block[right]][0]
            score = similarity(first.content, second.content)
            if score < threshold:
                continue
            if differing_facts(first.content, second.content):
                near_misses += 1
                continue
            links[block[left]].append((block[right], score))
            links[block[right]].append((block[left], score))
    return _clusters(flat, links), near_misses


def _split_by_facts(group: list[MemoryEvent]) -> list[list[MemoryEvent]]:
    """Texts of one normal form can still differ in a sign or in capitals that make a name; keep those apart."""
    parts: list[list[MemoryEvent]] = []
    for memory in group:
        for part in parts:
            differing = differing_facts(part[0].content, memory.content)
            if "number" not in differing and "negation" not in differing:
                part.append(memory)
                break
        else:
            parts.append([memory])
    return parts


def _clusters(groups: list[list[MemoryEvent]], links: dict[int, list[tuple[int, float]]]) -> list[Cluster]:
    """Star clusters: every archived memory is compared with the kept one itself, so that likeness cannot drift."""
    found: list[Cluster] = []
    taken: set[int] = set()
    for index in sorted(range(len(groups)), key=lambda i: _usefulness(groups[i]), reverse=True):
        if index in taken:
            continue
        taken.add(index)
        joined = [(other, score) for other, score in links.get(index, []) if other not in taken]
        taken.update(other for other, _ in joined)
        members = sorted(groups[index], key=_recency, reverse=True)
        rest = members[1:] + [m for other, _ in sorted(joined) for m in groups[other]]
        if rest:
            score = min([score for _, score in joined], default=1.0)
            found.append(Cluster(members[0], tuple(sorted(rest, key=_recency)), score))
    return sorted(found, key=lambda c: (-len(c.archive), -c.score, str(c.keep.id)))


def _usefulness(group: list[MemoryEvent]) -> tuple[int, datetime, str]:
    newest = max(group, key=_recency)
    return len(set(stems(newest.content))), newest.created_at, str(newest.id)


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
    """The cleanup as findings: contradictions first, then duplicates, then one per type of stale memory."""
    out = [_contradiction_finding(item) for item in cleanup.contradictions[:limit]]
    out += [cluster_finding(item) for item in cleanup.clusters[:limit]]
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
    evidence: list[Evidence] = [
        _rows((item.keep, *item.archive)),
        _quote(item.keep),
        Metric(
            name="similarity",
            value=round(item.score, 4),
            unit="0..1",
            formula="least likeness to the kept memory",
            source="memory_events",
        ),
    ]
    likeness = "same words." if item.exact else f"likeness at least {item.score:.2f}."
    return Finding(
        rule_id="memory.duplicate.exact" if item.exact else "memory.duplicate.near",
        title=f"{count} {'equal' if item.exact else 'nearly equal'} memories: “{shorten(item.keep.content, 80)}”",
        detail=f"Same numbers, dates, negations and names; {likeness}",
        severity=Severity.LOW,
        confidence=1.0 if item.exact else round(item.score, 2),
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
