"""Choosing the sentences that say most: TextRank over TF-IDF vectors, then maximal marginal relevance."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from zora_core.skills.text.words import stems

Vector = dict[str, float]

DAMPING = 0.85
TYPICAL_WORDS = 12


@dataclass(frozen=True)
class Ranked:
    """A chosen sentence: `index` in the input, `score` its centrality (0..1, the most central is 1)."""

    index: int
    score: float


def vectors(bags: Sequence[Sequence[str]]) -> list[Vector]:
    """Unit-length TF-IDF vectors: (1 + ln tf) * ln(1 + N / df)."""
    document_frequency = Counter(token for bag in bags for token in set(bag))
    found = []
    for bag in bags:
        raw = {
            token: (1 + math.log(count)) * math.log(1 + len(bags) / document_frequency[token])
            for token, count in sorted(Counter(bag).items())
        }
        norm = math.sqrt(sum(weight * weight for weight in raw.values()))
        found.append({token: weight / norm for token, weight in raw.items()} if norm else {})
    return found


def cosine(first: Vector, second: Vector) -> float:
    """Cosine of two unit-length vectors."""
    if len(second) < len(first):
        first, second = second, first
    return sum(weight * second.get(token, 0.0) for token, weight in first.items())


def centrality(rows: Sequence[Vector], weights: Sequence[float] | None = None, rounds: int = 30) -> list[float]:
    """TextRank (Mihalcea, Tarau 2004) over cosine similarity; `weights` are the prior of each sentence.

    Returns scores of which the greatest is 1. Cost grows with the pairs that share a word.
    """
    count = len(rows)
    edges = _edges(rows)
    outgoing = [sum(row.values()) for row in edges]
    prior = list(weights) if weights else [1.0] * count
    total = sum(prior) or 1.0
    start = [p / total for p in prior]
    scores = start[:]
    for _ in range(rounds):
        incoming = [0.0] * count
        for index, row in enumerate(edges):
            if outgoing[index]:
                share = scores[index] / outgoing[index]
                for other, weight in row.items():
                    incoming[other] += share * weight
        scores = [(1 - DAMPING) * s + DAMPING * i for s, i in zip(start, incoming, strict=True)]
    top = max(scores, default=0.0)
    return [score / top for score in scores] if top else scores


def _edges(rows: Sequence[Vector]) -> list[dict[int, float]]:
    postings: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    edges: list[dict[int, float]] = [{} for _ in rows]
    for index, row in enumerate(rows):
        near: defaultdict[int, float] = defaultdict(float)
        for token, weight in row.items():
            for other, theirs in postings[token]:
                near[other] += weight * theirs
            postings[token].append((index, weight))
        for other, weight in near.items():
            edges[index][other] = edges[other][index] = weight
    return edges


def choose(
    texts: Sequence[str], limit: int, weights: Sequence[float] | None = None, *, redundancy: float = 0.45
) -> list[Ranked]:
    """The `limit` sentences that together say most, best first.

    Maximal marginal relevance (Carbonell, Goldstein 1998): centrality, damped for sentences far from a typical length,
    less `redundancy` times the likeness to what is already chosen.
    """
    bags = [stems(text) for text in texts]
    rows = vectors(bags)
    scores = centrality(rows, weights)
    value = [score * _length_factor(len(text.split())) for score, text in zip(scores, texts, strict=True)]
    chosen: list[int] = []
    left = [index for index in range(len(texts)) if bags[index]]
    likeness = [0.0] * len(texts)
    while left and len(chosen) < limit:
        best = max(left, key=lambda i: ((1 - redundancy) * value[i] - redundancy * likeness[i], -i))
        left.remove(best)
        if likeness[best] > 0.95:
            continue
        chosen.append(best)
        for index in left:
            likeness[index] = max(likeness[index], cosine(rows[best], rows[index]))
    return [Ranked(index, round(scores[index], 4)) for index in chosen]


def _length_factor(length: int) -> float:
    """1 up to the typical length, falling beyond it; very short sentences say little."""
    if length < 5:
        return length / 5
    return min(1.0, math.pow(TYPICAL_WORDS / length, 0.75))
