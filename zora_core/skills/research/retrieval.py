"""Finding the passages of a set of documents that answer a query: BM25, character grams, reciprocal rank fusion."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from zora_core.skills.text.words import Sentence, sentences, stems

K1 = 1.2
B = 0.75
FUSION_CONSTANT = 60
GRAM_WEIGHT = 0.3
FEEDBACK_WEIGHT = 0.15


@dataclass(frozen=True)
class Passage:
    """A run of sentences of one document: `start` is its offset there, `document` the document's index."""

    document: int
    text: str
    start: int


class Bm25:
    """Okapi BM25 (Robertson, Walker 1994; k1 = 1.2, b = 0.75) over bags of terms, with an inverted index."""

    def __init__(self, bags: Sequence[Sequence[str]]) -> None:
        """Index `bags`, one per document."""
        self._postings: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        self._lengths = [len(bag) for bag in bags]
        self._mean = (sum(self._lengths) / len(bags) if bags else 0.0) or 1.0
        for index, bag in enumerate(bags):
            for term, count in Counter(bag).items():
                self._postings[term].append((index, count))

    def idf(self, term: str) -> float:
        """ln(1 + (N - n + 0.5) / (n + 0.5)): never negative; greatest for a term that no document has."""
        n = len(self._postings.get(term, ()))
        return math.log(1 + (len(self._lengths) - n + 0.5) / (n + 0.5))

    def scores(self, query: Mapping[str, float]) -> dict[int, float]:
        """Scores of the documents that share a term with `query` (term to weight)."""
        found: defaultdict[int, float] = defaultdict(float)
        for term, weight in sorted(query.items()):
            idf = self.idf(term)
            for index, count in self._postings.get(term, ()):
                damp = K1 * (1 - B + B * self._lengths[index] / self._mean)
                found[index] += weight * idf * count * (K1 + 1) / (count + damp)
        return dict(found)


def ranking(scores: Mapping[int, float], limit: int | None = None) -> list[int]:
    """Keys by falling score; equal scores in the order of the keys."""
    return [key for key, _ in sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:limit]]


def fuse(rankings: Iterable[Sequence[int]]) -> dict[int, float]:
    """Reciprocal rank fusion (Cormack, Clarke, Büttcher 2009; k = 60) of several rankings into one score per item."""
    found: defaultdict[int, float] = defaultdict(float)
    for items in rankings:
        for rank, item in enumerate(items, 1):
            found[item] += 1 / (FUSION_CONSTANT + rank)
    return dict(found)


def grams(text: str) -> list[str]:
    """Stems cut into runs of four letters, so that compounds and variants meet ("refill", "refillable")."""
    return [stem[i : i + 4] for stem in stems(text) for i in range(max(1, len(stem) - 3))]


class Index:
    """Texts made searchable by stems and by character grams."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Index `texts`."""
        self.bags = [stems(text) for text in texts]
        self._words = Bm25(self.bags)
        self._grams = Bm25([grams(text) for text in texts])

    def idf(self, term: str) -> float:
        """How rare a stem is among the texts."""
        return self._words.idf(term)

    def search(self, query: str) -> dict[int, float]:
        """Scores (0 to about 1.5) of the texts that share a stem or a gram with `query`.

        The most telling terms of the first results join the query with a small weight (pseudo-relevance feedback after
        Rocchio 1971); grams count for about a quarter.
        """
        terms = Counter(stems(query))
        scores = self._words.scores(terms)
        for index, score in self._words.scores(self._expansion(terms, ranking(scores, 5))).items():
            scores[index] = scores.get(index, 0.0) + score
        letters = self._grams.scores(Counter(grams(query)))
        best, best_letters = max(scores.values(), default=1.0), max(letters.values(), default=1.0)
        return {
            index: scores.get(index, 0.0) / best + GRAM_WEIGHT * letters.get(index, 0.0) / best_letters
            for index in scores.keys() | letters.keys()
        }

    def _expansion(self, terms: Mapping[str, int], first: Sequence[int], count: int = 8) -> dict[str, float]:
        weights: defaultdict[str, float] = defaultdict(float)
        for rank, index in enumerate(first, 1):
            for term in sorted(set(self.bags[index])):
                if term not in terms and len(term) > 2:
                    weights[term] += self.idf(term) / rank
        best = sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:count]
        return {term: FEEDBACK_WEIGHT * weight / best[0][1] for term, weight in best}


def passages(document: int, text: str, words: int = 60) -> list[Passage]:
    """Cut a document into runs of whole sentences of about `words` words; offsets point into `text`."""
    found: list[Passage] = []
    run: list[Sentence] = []
    length = 0
    for sentence in sentences(text):
        size = len(sentence.text.split())
        if run and length + size > words:
            found.append(_passage(document, text, run))
            run, length = [], 0
        run.append(sentence)
        length += size
    if run:
        found.append(_passage(document, text, run))
    return found


def _passage(document: int, text: str, run: Sequence[Sentence]) -> Passage:
    start = run[0].start
    return Passage(document, text[start : run[-1].start + len(run[-1].text)], start)
