"""What documents say about a topic: passages with citations, where they agree, where not, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from zora_core.models import Evidence, Finding, Metric, Quote, Rows, Severity
from zora_core.skills.research.retrieval import Index, Passage, fuse, passages, ranking
from zora_core.skills.text.similarity import Statement, similarity, statement
from zora_core.skills.text.summaries import choose
from zora_core.skills.text.words import Sentence, sentences, shorten, stem, stems, vocabulary, words

Verdict = Literal["supported", "thin", "not enough evidence"]

PASSAGES = {"quick": 5, "standard": 10, "deep": 20}
LEAST_COVERAGE = 1 / 3
LEAST_UNION = 0.5
ABOUT_THE_SAME = 0.45
SAME_SUBJECT = 0.6
TOLERANCE = 0.05
SAME_STATEMENT = "much the same statement"


@dataclass(frozen=True)
class Document:
    """Something to read: `ref` names it in citations; `table` and `row_id` are set for rows."""

    ref: str
    text: str
    table: str | None = None
    row_id: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True)
class Hit:
    """A passage that speaks of the topic; `coverage` is the share of the topic's terms that it mentions, 0..1."""

    document: Document
    text: str
    start: int
    score: float
    coverage: float


@dataclass(frozen=True)
class Claim:
    """A sentence of a document."""

    document: Document
    sentence: Sentence


@dataclass(frozen=True)
class Pair:
    """Two sentences of different documents about the same thing; `reason` says how they agree or differ."""

    first: Claim
    second: Claim
    likeness: float
    reason: str


@dataclass(frozen=True)
class Brief:
    """The answer to a research question; empty lists where nothing was found."""

    topic: str
    verdict: Verdict
    documents: int
    passages: int
    hits: list[Hit]
    key_sentences: list[Claim]
    agreements: list[Pair]
    disagreements: list[Pair]
    gaps: list[str]
    covered: list[str]
    missing: list[str]


def topic_terms(topic: str) -> dict[str, str]:
    """The stems that a topic is about, with the words they came from; the words of asking are left out."""
    stop = vocabulary()["stop"] | vocabulary()["asking"]
    return {stem(word): word for word in words(topic) if word not in stop and (len(word) > 1 or word.isdigit())}


def research(
    topic: str, documents: Sequence[Document], *, depth: str, now: datetime, database_order: Sequence[str] = ()
) -> Brief:
    """Answer what `documents` say about `topic`.

    `depth` (quick, standard, deep) sets how many passages are kept; `database_order` are row ids as the database's own
    full-text search ranked them, fused with our ranking by reciprocal rank.
    """
    pieces = [piece for number, document in enumerate(documents) for piece in passages(number, document.text)]
    index = Index([piece.text for piece in pieces])
    terms = topic_terms(topic)
    order = _rank(topic, documents, pieces, index, database_order)
    hits = _hits(order, documents, pieces, index, terms, PASSAGES[depth])
    said = {key for hit in hits for key in stems(hit.text)}
    covered = [key for key in terms if key in said]
    verdict = _verdict(hits, len(covered) / len(terms) if terms else 0.0)
    key_sentences, agreements, disagreements = _compare(hits, terms)
    brief = Brief(
        topic=topic,
        verdict=verdict,
        documents=len(documents),
        passages=len(pieces),
        hits=hits,
        key_sentences=key_sentences,
        agreements=agreements,
        disagreements=disagreements,
        gaps=[],
        covered=[terms[key] for key in covered],
        missing=[terms[key] for key in terms if key not in said],
    )
    brief.gaps.extend(_gaps(brief, now))
    return brief


def _rank(
    topic: str, documents: Sequence[Document], pieces: Sequence[Passage], index: Index, database_order: Sequence[str]
) -> list[tuple[int, float]]:
    scores = index.search(topic)
    own = ranking(scores, 200)
    best_of: dict[str, int] = {}
    for place in ranking(scores):
        row_id = documents[pieces[place].document].row_id
        if row_id is not None:
            best_of.setdefault(row_id, place)
    theirs = [best_of[row_id] for row_id in database_order if row_id in best_of]
    fused = fuse([own, theirs] if theirs else [own])
    return sorted(fused.items(), key=lambda item: (-item[1], item[0]))


def _hits(
    order: Sequence[tuple[int, float]],
    documents: Sequence[Document],
    pieces: Sequence[Passage],
    index: Index,
    terms: Mapping[str, str],
    limit: int,
) -> list[Hit]:
    """The best passages that share a third of the topic's terms with it, or three of them."""
    found: list[Hit] = []
    for place, score in order:
        piece = pieces[place]
        shared = len(set(index.bags[place]) & terms.keys())
        coverage = shared / len(terms) if terms else 0.0
        if coverage >= LEAST_COVERAGE or shared >= 3:
            found.append(Hit(documents[piece.document], piece.text, piece.start, round(score, 5), round(coverage, 3)))
            if len(found) == limit:
                break
    return found


def _verdict(hits: Sequence[Hit], union: float) -> Verdict:
    if not hits or union < LEAST_UNION:
        return "not enough evidence"
    return "supported" if len({hit.document.ref for hit in hits}) > 1 else "thin"


def _compare(hits: Sequence[Hit], terms: Mapping[str, str]) -> tuple[list[Claim], list[Pair], list[Pair]]:
    claims: list[Claim] = []
    weights: list[float] = []
    for place, hit in enumerate(hits):
        for sentence in sentences(hit.text):
            shared = len(set(stems(sentence.text)) & terms.keys())
            claims.append(Claim(hit.document, Sentence(sentence.text, hit.start + sentence.start)))
            weights.append((0.2 + shared) / (1 + 0.1 * place))
    chosen = choose([claim.sentence.text for claim in claims], 6, weights)
    agreements, disagreements = _agreements([c for c, w in zip(claims, weights, strict=True) if w > 0.3][:120])
    return [claims[item.index] for item in chosen], agreements[:20], disagreements[:20]


def _agreements(claims: Sequence[Claim]) -> tuple[list[Pair], list[Pair]]:
    agree: list[Pair] = []
    differ: list[Pair] = []
    for place, first in enumerate(claims):
        for second in claims[place + 1 :]:
            if first.document.ref == second.document.ref:
                continue
            likeness = similarity(_without_numbers(first.sentence.text), _without_numbers(second.sentence.text))
            if likeness < ABOUT_THE_SAME:
                continue
            reason, same = _relation(statement(first.sentence.text), statement(second.sentence.text))
            if reason and (likeness >= SAME_SUBJECT or reason == SAME_STATEMENT):
                (agree if same else differ).append(Pair(first, second, round(likeness, 3), reason))

    def strength(pair: Pair) -> tuple[float, str]:
        return -pair.likeness, pair.first.document.ref + pair.second.document.ref

    return sorted(agree, key=strength), sorted(differ, key=strength)


def _without_numbers(text: str) -> str:
    return " ".join(word for word in words(text) if not word[0].isdigit())


def _relation(first: Statement, second: Statement) -> tuple[str, bool]:
    """How two statements about one thing relate: a reason and whether they agree; no reason when neither shows."""
    if first.polarity.count("not") % 2 != second.polarity.count("not") % 2:
        return "one denies what the other says", False
    shared = {unit for _, unit in first.numbers} & {unit for _, unit in second.numbers}
    same = ""
    for unit in sorted(shared - {""}) or sorted(shared):
        mine, theirs = (sorted(_values(side, unit)) for side in (first, second))
        if not mine or not theirs:
            continue
        gap = min(abs(a - b) / max(abs(a), abs(b), 1e-9) for a in mine for b in theirs)
        shown = f"{'/'.join(f'{v:g}' for v in mine)} against {'/'.join(f'{v:g}' for v in theirs)} {unit}".strip()
        if gap > TOLERANCE:
            return f"different numbers: {shown}", False
        same = same or f"numbers within a twentieth: {shown}"
    if same:
        return same, True
    if first.numbers or second.numbers:
        return "", True
    return SAME_STATEMENT, True


def _values(said: Statement, unit: str) -> set[float]:
    """The numbers with that unit; a year is a date, not a quantity."""
    found = set()
    for value, other in said.numbers:
        if other == unit and value.replace(".", "", 1).lstrip("-").isdigit():
            number = float(value)
            if unit or not (1900 <= number <= 2100):
                found.add(number)
    return found


def _gaps(brief: Brief, now: datetime) -> list[str]:
    gaps = []
    if brief.missing:
        gaps.append(f"No passage mentions: {', '.join(brief.missing)}.")
    refs = {hit.document.ref for hit in brief.hits}
    if len(refs) == 1:
        gaps.append("Everything found comes from one document; nothing confirms it independently.")
    dated = [hit.document.created_at for hit in brief.hits if hit.document.created_at]
    if dated and (age := (now - max(dated)).days) > 180:
        gaps.append(f"The latest passage is {age} days old.")
    if brief.hits and not any(statement(hit.text).numbers for hit in brief.hits):
        gaps.append("No passage gives a number.")
    if brief.disagreements:
        gaps.append(f"{len(brief.disagreements)} pairs of statements disagree and need a decision or a better source.")
    if not brief.hits:
        gaps.append("Give texts, files or URLs as `sources`, or record what is known as memories, and ask again.")
    return gaps


def findings(brief: Brief) -> list[Finding]:
    """The brief as findings: disagreements, then the passages, agreements and gaps."""
    out = [_pair_finding(pair, False) for pair in brief.disagreements]
    out += [_passage_finding(hit) for hit in brief.hits]
    out += [_pair_finding(pair, True) for pair in brief.agreements]
    examined = Metric(
        name="documents examined", value=brief.documents, unit="documents", formula=f"{brief.passages} passages"
    )
    if brief.verdict == "not enough evidence":
        out.append(_gap_finding("Not enough evidence to answer", Severity.MEDIUM, " ".join(brief.gaps), examined))
    else:
        out += [_gap_finding(gap, Severity.LOW, "", examined) for gap in brief.gaps]
    return sorted(out, key=lambda f: -f.severity.rank)


def _cite(document: Document, text: str, start: int) -> list[Evidence]:
    evidence: list[Evidence] = [Quote(source=document.ref, text=text, start=start)]
    if document.table and document.row_id:
        evidence.append(Rows(table=document.table, ids=[document.row_id]))
    return evidence


def _passage_finding(hit: Hit) -> Finding:
    return Finding(
        rule_id="research.passage",
        title=shorten(hit.text, 140),
        detail=f"{hit.document.ref}: mentions {hit.coverage:.0%} of the topic's terms.",
        severity=Severity.INFO,
        confidence=min(1.0, hit.coverage),
        source="statistic",
        evidence=_cite(hit.document, hit.text, hit.start),
    )


def _pair_finding(pair: Pair, agrees: bool) -> Finding:
    a, b = pair.first, pair.second
    return Finding(
        rule_id="research.agreement" if agrees else "research.disagreement",
        title=f"{a.document.ref} and {b.document.ref} {'agree' if agrees else 'disagree'}: {pair.reason}",
        detail=f"“{shorten(a.sentence.text)}” / “{shorten(b.sentence.text)}”",
        severity=Severity.INFO if agrees else Severity.MEDIUM,
        confidence=round(min(0.9, pair.likeness), 2),
        source="statistic",
        evidence=[
            *_cite(a.document, a.sentence.text, a.sentence.start),
            *_cite(b.document, b.sentence.text, b.sentence.start),
        ],
    )


def _gap_finding(title: str, severity: Severity, detail: str, examined: Metric) -> Finding:
    return Finding(
        rule_id="research.gap", title=title, detail=detail, severity=severity, confidence=0.8, evidence=[examined]
    )


def as_result(brief: Brief) -> dict[str, Any]:
    """The brief for programs."""
    return {
        "topic": brief.topic,
        "verdict": brief.verdict,
        "documents_examined": brief.documents,
        "passages_examined": brief.passages,
        "key_points": [_claim(claim) for claim in brief.key_sentences]
        if brief.verdict != "not enough evidence"
        else [],
        "passages": [
            {"source": h.document.ref, "start": h.start, "text": h.text, "score": h.score, "coverage": h.coverage}
            for h in brief.hits
        ],
        "agreements": [_pair(pair) for pair in brief.agreements],
        "disagreements": [_pair(pair) for pair in brief.disagreements],
        "gaps": brief.gaps,
        "terms_covered": brief.covered,
        "terms_missing": brief.missing,
        "method": "BM25 over Porter2 stems and character grams, fused with PostgreSQL full text by reciprocal rank",
    }


def _claim(claim: Claim) -> dict[str, Any]:
    return {"text": claim.sentence.text, "source": claim.document.ref, "start": claim.sentence.start}


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "first": _claim(pair.first),
        "second": _claim(pair.second),
        "likeness": pair.likeness,
        "reason": pair.reason,
    }
