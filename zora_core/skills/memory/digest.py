"""What happened in a window of time: counts against the window before, gaps, templates, and what mattered."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from zora_core.models import Finding, JournalEntry, MemoryEvent, Metric, Quote, Rows, Severity
from zora_core.skills.text import error_fields
from zora_core.skills.text.error_text import is_trace, telling_lines
from zora_core.skills.text.summaries import choose
from zora_core.skills.text.words import Sentence, sentences, shorten

_MASKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.I), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"), "<time>"),
    (re.compile(r"\bhttps?://\S+"), "<url>"),
    (re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,64}\.[\w.]{1,64}"), "<email>"),
    (re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b"), "<address>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{6,}\b|\b0x[0-9a-f]+\b", re.I), "<id>"),
    (re.compile(r"(?<![\w<])[-+]?\d+(?:[.,:]\d+)*"), "<n>"),
)
# What decides whether an entry reports an error: how its type ends, its status, its severity. Words in its text do not:
# "0 errors", "the error budget is fine" and "timeouts are shorter now" report none.
_ENDED = ("_closed", "_resolved", "_recovered", "_cancelled", "_completed", "_succeeded", "_finished", "_approved")
_BETWEEN_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|[\s.:/-]+")
_WENT_WRONG = ("_failed", "_failure", "_error", "_errored", "_lost", "_rescued", "_crashed", "_timed_out", "_timeout")
_Z95 = 1.959964
# So much of an error's telling lines tells it from others.
SIGNATURE_CHARACTERS = 300


@dataclass(frozen=True)
class RateChange:
    """A count against the one of the equally long window before.

    `ratio` is after / before (None when there was nothing before); `low` and `high` bound it with 95 % confidence;
    `p_value` is the exact chance of a split at least this uneven under equal rates.
    """

    count: int
    previous: int
    ratio: float | None
    low: float
    high: float | None
    p_value: float

    @property
    def changed(self) -> bool:
        """Whether the difference is more than chance would explain at the 5 % level."""
        return self.p_value < 0.05


@dataclass(frozen=True)
class Template:
    """Events of one shape: `pattern` with numbers and ids masked, `entries` oldest first."""

    pattern: str
    event_type: str
    is_error: bool
    entries: tuple[JournalEntry, ...]


@dataclass(frozen=True)
class Gap:
    """The longest time without an event; an edge of the window stands in for a missing event."""

    start: datetime
    end: datetime
    after: JournalEntry | None
    before: JournalEntry | None

    @property
    def hours(self) -> float:
        """Its length in hours."""
        return (self.end - self.start).total_seconds() / 3600


@dataclass(frozen=True)
class Highlight:
    """A sentence worth reading, where it stands (in `field` of the first row), and the rows that say it."""

    text: str
    table: str
    ids: tuple[str, ...]
    field: str
    start: int
    score: float


@dataclass(frozen=True)
class Digest:
    """A window of the journal, summed up. Every list covers all events: counts add up to `total`."""

    since: datetime
    until: datetime
    total: RateChange
    by_category: dict[str, RateChange]
    by_event_type: dict[str, RateChange]
    templates: list[Template]
    new_errors: list[Template]
    longest_gap: Gap | None
    highlights: list[Highlight]


def compare_counts(count: int, previous: int) -> RateChange:
    """Compare two counts of equally long windows, taken as Poisson.

    Given their sum the first is binomial with p = 1/2 under equal rates (Przyborowski, Wilenski 1940), which gives the
    exact two-sided p-value; the interval of the ratio is Wilson's (1927) score interval of p, as p / (1 - p).
    """
    n = count + previous
    if n == 0:
        return RateChange(0, 0, None, 0.0, None, 1.0)
    p = count / n
    centre = p + _Z95**2 / (2 * n)
    spread = _Z95 * math.sqrt(p * (1 - p) / n + _Z95**2 / (4 * n * n))
    scale = 1 + _Z95**2 / n
    low, high = max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
    return RateChange(
        count=count,
        previous=previous,
        ratio=round(count / previous, 4) if previous else None,
        low=0.0 if count == 0 else round(low / (1 - low), 4),
        high=round(high / (1 - high), 4) if previous else None,
        p_value=_two_sided(min(count, previous), n),
    )


def _two_sided(smaller: int, n: int) -> float:
    """2 * P(X <= smaller) for X ~ Binomial(n, 1/2), summed in logarithms so that large counts do not underflow."""
    whole = math.lgamma(n + 1) - n * math.log(2)
    logs = [whole - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(smaller + 1)]
    top = max(logs)
    return round(min(1.0, 2 * math.exp(top) * math.fsum(math.exp(x - top) for x in logs)), 6)


def mask(text: str) -> str:
    """`text` on one line with ids, times, addresses and numbers replaced by their kind."""
    for pattern, name in _MASKS:
        text = pattern.sub(name, text)
    return " ".join(text.split())


def is_error(entry: JournalEntry) -> bool:
    """Whether an entry reports that something went wrong: by its status, severity, type or category, not by its words.

    A status counts before success and exit code, these before a severity, and a severity before a type. A run that is
    tried again by itself has failed, one that a person tries again has not.
    """
    kind = "_" + _BETWEEN_WORDS.sub("_", entry.event_type).casefold()
    if kind.endswith(("_cancelled", "_canceled")):
        return False
    said = error_fields.reports_error(entry.details)
    if said is not None:
        return said
    if kind.endswith(_ENDED):
        return False
    if kind == "_agent_task_retried":
        return "by_user_id" not in entry.details
    return entry.category == "incident" or kind.endswith(_WENT_WRONG) or error_fields.has_error(entry.details)


def find_templates(entries: Sequence[JournalEntry]) -> list[Template]:
    """Collapse events to templates, most frequent first; each event belongs to exactly one.

    Titles (and, of errors, the error's text) are masked; patterns of one type, length and beginning that share at least
    seven tenths of their words become one with wildcards (after Drain, He et al. 2017). Errors never merge by wildcard,
    so that no two of them hide behind one pattern.
    """
    exact: defaultdict[tuple[str, bool, str], list[JournalEntry]] = defaultdict(list)
    for entry in entries:
        error = is_error(entry)
        exact[entry.event_type, error, _signature(entry) if error else mask(entry.title)].append(entry)
    merged: list[tuple[str, bool, list[str], list[JournalEntry]]] = []
    for (event_type, error, pattern), group in sorted(exact.items(), key=lambda item: item[0]):
        tokens = pattern.split()
        alike = (m for m in merged if m[0] == event_type and not m[1] and _fits(m[2], tokens))
        home = None if error else next(alike, None)
        if home is None:
            merged.append((event_type, error, tokens, list(group)))
        else:
            home[2][:] = [a if a == b else "<*>" for a, b in zip(home[2], tokens, strict=True)]
            home[3].extend(group)
    found = [
        Template(" ".join(tokens), event_type, error, tuple(sorted(group, key=lambda e: (e.created_at, str(e.id)))))
        for event_type, error, tokens, group in merged
    ]
    return sorted(found, key=lambda t: (-len(t.entries), not t.is_error, t.event_type, t.pattern))


def _fits(pattern: list[str], tokens: list[str]) -> bool:
    if len(pattern) != len(tokens) or not tokens or pattern[0] != tokens[0]:
        return False
    same = sum(a == b or a == "<*>" for a, b in zip(pattern, tokens, strict=True))
    return same >= 0.7 * len(tokens) and len(tokens) > 3


def _signature(entry: JournalEntry) -> str:
    told = " · ".join(telling_lines(error_fields.error_text(entry.details) or entry.body or ""))
    return mask(f"{entry.title}: {shorten(told, SIGNATURE_CHARACTERS)}" if told else entry.title)


def longest_gap(entries: Sequence[JournalEntry], since: datetime, until: datetime) -> Gap | None:
    """The longest time without an event inside the window, its edges included; None without any event."""
    ordered = sorted(entries, key=lambda e: (e.created_at, str(e.id)))
    if not ordered:
        return None
    events: list[tuple[datetime, JournalEntry | None]] = [(e.created_at, e) for e in ordered]
    gaps = [Gap(a, b, before, after) for (a, before), (b, after) in pairwise([(since, None), *events, (until, None)])]
    return max(gaps, key=lambda gap: (gap.end - gap.start, -gap.start.timestamp()))


def digest(
    entries: Sequence[JournalEntry],
    previous: Sequence[JournalEntry],
    memories: Sequence[MemoryEvent],
    *,
    since: datetime,
    until: datetime,
    lines: int = 6,
) -> Digest:
    """Sum up `entries` of [since, until) against `previous`, those of the equally long window before."""
    templates = find_templates(entries)
    known = {t.pattern for t in find_templates(previous) if t.is_error}
    return Digest(
        since=since,
        until=until,
        total=compare_counts(len(entries), len(previous)),
        by_category=_changes([e.category for e in entries], [e.category for e in previous]),
        by_event_type=_changes([e.event_type for e in entries], [e.event_type for e in previous]),
        templates=templates,
        new_errors=[t for t in templates if t.is_error and t.pattern not in known],
        longest_gap=longest_gap(entries, since, until),
        highlights=highlights(entries, memories, lines),
    )


def _changes(current: list[str], previous: list[str]) -> dict[str, RateChange]:
    now, before = Counter(current), Counter(previous)
    keys = sorted(now.keys() | before.keys(), key=lambda key: (-now[key], -before[key], key))
    return {key: compare_counts(now[key], before[key]) for key in keys}


def highlights(
    entries: Sequence[JournalEntry], memories: Sequence[MemoryEvent], limit: int, pool: int = 400
) -> list[Highlight]:
    """The sentences of journal and memory that together say most; equal ones are read once and cite every row.

    At most the `pool` latest distinct sentences compete. What an incident, a decision or a person says weighs more
    than the routine records of runs.
    """
    said: dict[str, list[_Said]] = {}
    for entry in entries:
        weight = 0.3 if entry.category in ("agent_action", "autonomy") else 2.0 if entry.category == "incident" else 1.0
        field, text = ("body", entry.body) if entry.body and weight >= 1 else ("title", entry.title)
        _collect(said, _Place("journal_entries", str(entry.id), field), text, weight)
    for memory in memories:
        if memory.memory_type != "result":
            _collect(said, _Place("memory_events", str(memory.id), "content"), memory.content, 1.0)
    groups = list(said.values())[-pool:]
    weights = [group[0].weight * (1 + math.log(len(group))) for group in groups]
    ranked = choose([group[0].text for group in groups], limit, weights)
    found = []
    for item in ranked:
        group = groups[item.index]
        first = group[0]
        table, _, field = first.place
        ids = tuple(dict.fromkeys(said.place.row_id for said in group if said.place.table == table))
        found.append(Highlight(first.text, table, ids, field, first.start, item.score))
    return found


class _Place(NamedTuple):
    table: str
    row_id: str
    field: str


class _Said(NamedTuple):
    place: _Place
    text: str
    start: int
    weight: float


def _collect(said: dict[str, list[_Said]], place: _Place, text: str, weight: float) -> None:
    # Of a trace only the telling lines can be read.
    lines = [Sentence(line, text.index(line)) for line in telling_lines(text)] if is_trace(text) else sentences(text)
    for sentence in lines:
        if 3 <= len(sentence.text.split()) <= 80:
            key = mask(sentence.text).casefold()
            said.setdefault(key, []).append(_Said(place, sentence.text, sentence.start, weight))


def findings(summary: Digest, limit: int = 190) -> list[Finding]:
    """The digest as findings: new errors, repeated errors, changed rates, the gap, templates and highlights."""
    new = {t.pattern for t in summary.new_errors}
    out = [_error_finding(t, t.pattern in new) for t in summary.templates if t.is_error]
    for kind, changes in (("category", summary.by_category), ("event type", summary.by_event_type)):
        out += [_change_finding(kind, name, c) for name, c in changes.items() if c.changed]
    if summary.longest_gap:
        out.append(_gap_finding(summary.longest_gap))
    out += [_template_finding(t) for t in summary.templates if not t.is_error and len(t.entries) > 1]
    room = max(0, limit - len(summary.highlights))
    out = sorted(out, key=lambda f: -f.severity.rank)[:room]
    return out + [_highlight_finding(h) for h in summary.highlights]


def _rows(entries: Sequence[JournalEntry]) -> Rows:
    return Rows(table="journal_entries", ids=[str(e.id) for e in entries[:200]])


def _error_finding(template: Template, new: bool) -> Finding:
    first, last = template.entries[0], template.entries[-1]
    quotes = [Quote(source=f"journal_entries/{last.id}#title", text=last.title, start=0)] if last.title else []
    body = last.body or ""
    if told := telling_lines(body)[:1]:
        quotes.append(Quote(source=f"journal_entries/{last.id}#body", text=told[0], start=body.index(told[0])))
    times = f"{len(template.entries)}×" if len(template.entries) > 1 else "once"
    return Finding(
        rule_id="digest.new-error" if new else "digest.error",
        title=f"{'New error' if new else 'Error'}, {times}: {shorten(template.pattern, 240)}",
        detail=f"First {first.created_at:%Y-%m-%d %H:%M}, last {last.created_at:%Y-%m-%d %H:%M} UTC; "
        f"example: {shorten(last.title)}",
        severity=Severity.HIGH if new else Severity.MEDIUM,
        confidence=0.9,
        source="rule",
        evidence=[_rows(template.entries), *quotes],
    )


def _change_finding(kind: str, name: str, change: RateChange) -> Finding:
    ratio = "unbounded, none before"
    if change.ratio is not None:
        ratio = f"{change.ratio:g}, 95 % interval {change.low:g} to {change.high:g}"
    return Finding(
        rule_id=f"digest.rate.{kind.replace(' ', '-')}",
        title=f"{name}: {change.count} events, {change.previous} in the window before",
        detail=f"Ratio {ratio}; p = {change.p_value:g} (exact conditional test, one of several comparisons).",
        severity=Severity.LOW,
        confidence=round(1 - change.p_value, 3),
        source="statistic",
        evidence=[
            _events(f"events of {kind} {name}", change.count, "count in the window"),
            _events("previous window", change.previous, "count in the window before"),
        ],
    )


def _events(name: str, count: int, formula: str) -> Metric:
    return Metric(name=name, value=count, unit="events", formula=formula, source="journal_entries")


def _gap_finding(gap: Gap) -> Finding:
    ends = [entry for entry in (gap.after, gap.before) if entry is not None]
    return Finding(
        rule_id="digest.gap",
        title=f"Longest time without an event: {gap.hours:.1f} hours",
        detail=f"From {gap.start:%Y-%m-%d %H:%M} to {gap.end:%Y-%m-%d %H:%M} UTC"
        + ("." if len(ends) == 2 else ", up to an edge of the window."),
        severity=Severity.INFO,
        confidence=1.0,
        source="statistic",
        evidence=[
            _rows(ends),
            Metric(
                name="longest gap",
                value=round(gap.hours, 3),
                unit="hours",
                formula="max(t[i+1] - t[i])",
                source="journal_entries",
            ),
        ],
    )


def _template_finding(template: Template) -> Finding:
    return Finding(
        rule_id="digest.template",
        title=f"{len(template.entries)}× {shorten(template.pattern, 140)}",
        severity=Severity.INFO,
        confidence=1.0,
        source="statistic",
        evidence=[_rows(template.entries)],
    )


def _highlight_finding(item: Highlight) -> Finding:
    return Finding(
        rule_id="digest.highlight",
        title=shorten(item.text, 240),
        severity=Severity.INFO,
        confidence=item.score,
        source="statistic",
        evidence=[
            Rows(table=item.table, ids=list(item.ids[:200])),
            Quote(source=f"{item.table}/{item.ids[0]}#{item.field}", text=item.text, start=item.start),
        ],
    )


def as_result(summary: Digest, limit: int = 200) -> dict[str, Any]:
    """The digest for programs, errors first; templates beyond `limit` are counted in `templates_left_out`."""
    gap = summary.longest_gap
    ordered = sorted(summary.templates, key=lambda t: not t.is_error)
    return {
        "since": summary.since.isoformat(),
        "until": summary.until.isoformat(),
        "events": summary.total.count,
        "total": _plain(summary.total),
        "by_category": {key: _plain(change) for key, change in summary.by_category.items()},
        "by_event_type": {key: _plain(change) for key, change in summary.by_event_type.items()},
        "templates": [
            {
                "pattern": t.pattern,
                "event_type": t.event_type,
                "is_error": t.is_error,
                "count": len(t.entries),
                "ids": [str(e.id) for e in t.entries[:50]],
            }
            for t in ordered[:limit]
        ],
        "templates_left_out": max(0, len(summary.templates) - limit),
        "events_in_templates_left_out": sum(len(t.entries) for t in ordered[limit:]),
        "new_errors": [t.pattern for t in summary.new_errors[:limit]],
        "longest_gap_hours": round(gap.hours, 3) if gap else None,
        "lines": [{"text": h.text, "table": h.table, "ids": list(h.ids[:50])} for h in summary.highlights],
        "method": "95 % intervals: Wilson 1927 on the conditional binomial of Przyborowski & Wilenski 1940; "
        "lines: TextRank (Mihalcea & Tarau 2004) with MMR (Carbonell & Goldstein 1998)",
    }


def _plain(change: RateChange) -> dict[str, float | int | None]:
    return {
        "count": change.count,
        "previous": change.previous,
        "ratio": change.ratio,
        "low": change.low,
        "high": change.high,
        "p_value": change.p_value,
    }


def window(now: datetime, days: float) -> tuple[datetime, datetime, datetime]:
    """Start of the window before, start of the window, and its end, for a window of `days` days that ends now."""
    span = timedelta(days=days)
    return now - 2 * span, now - span, now
