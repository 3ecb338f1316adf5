"""What a run has read, kept until its result has been checked: where a quote, a line, an element or a row stands."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from zora_core.models import (
    ClimateMission,
    ClimateProfile,
    Element,
    Evidence,
    FileLine,
    JournalEntry,
    MemoryEvent,
    Metric,
    PageConfig,
    Quote,
    Rows,
    Source,
    SuggestionRecord,
    TaskRecord,
)
from zora_core.storable import storable

if TYPE_CHECKING:
    from zora_core.skills.page import Page

# Of what was read, so many bytes are kept for the check: twenty files of the largest size. Texts that a handler holds
# itself (pages, rows, an analysed directory) are shared with it and do not count.
KEPT_BYTES = 100_000_000
# What an unknown name is answered with.
NAMES_SHOWN = 12
# A row's text, for a quote that names no field. Others are quoted by field: `agent_tasks/ID#payload.html`.
TEXT_FIELDS = {"memory_events": ("content",), "journal_entries": ("title", "body")}
# As which rows are read again.
ROW_MODELS: dict[str, type[BaseModel]] = {
    "agent_suggestions": SuggestionRecord,
    "agent_tasks": TaskRecord,
    "climate_missions": ClimateMission,
    "climate_profiles": ClimateProfile,
    "frontend_configs": PageConfig,
    "journal_entries": JournalEntry,
    "memory_events": MemoryEvent,
}
_ROW = re.compile(r"(?P<table>[a-z_]+)/(?P<id>[^#]+)(?:#(?P<field>.+))?", re.DOTALL)
_LINE_END = re.compile(r"\r\n|\r|\n")


class NotRead(Exception):
    """Evidence that does not stand in what was read; the message says what is wrong with it."""


class Text:
    """Something that can be quoted; `position` is that of the source it was read as."""

    def __init__(self, position: int, content: str | bytes) -> None:
        """Keep `content`; bytes are decoded when they are first asked for."""
        self.position = position
        self._content = content

    @cached_property
    def text(self) -> str:
        """As text; bytes count as UTF-8."""
        return self._content if isinstance(self._content, str) else self._content.decode("utf-8", "replace")

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(end.end() for end in _LINE_END.finditer(self.text))]

    def line(self, number: int) -> tuple[int, int] | None:
        """Where line `number` (1-based) begins and ends, its end of line left out; None when there is no such line."""
        if not 0 < number <= len(self._line_starts):
            return None
        start = self._line_starts[number - 1]
        end = _LINE_END.search(self.text, start)
        return start, end.start() if end else len(self.text)


class _Recorder:
    """Keeps what a ledger is given, positions counted from where it began."""

    def __init__(self, start: int) -> None:
        self.reads: list[dict[str, Any]] = []
        self._start = start

    def source(self, source: Source, text: str | None, names: Sequence[str], *, dropped: bool) -> None:
        shown, kept = source.model_dump(mode="json"), None if text is None else storable(text)
        self.reads.append({"kind": "source", "source": shown, "text": kept, "names": names, "dropped": dropped})

    def made(self, kind: str, position: int, source: Source, **said: Any) -> None:
        texts = {name: storable(value) if isinstance(value, str) else value for name, value in said.items()}
        self.reads.append({"kind": kind, "position": position - self._start, "of": source.ref, **texts})


class Ledger:
    """The sources of a run in the order in which they were read, and what is needed to find evidence in them."""

    def __init__(self) -> None:
        """Nothing has been read."""
        self.sources: list[Source] = []
        self._positions: defaultdict[str, list[int]] = defaultdict(list)
        self._texts: defaultdict[str, list[Text]] = defaultdict(list)
        self._pages: defaultdict[str, list[tuple[int, Page]]] = defaultdict(list)
        self._rows: defaultdict[str, dict[str, tuple[int, Any]]] = defaultdict(dict)
        self._fields: dict[tuple[str, str], dict[str, list[str]]] = {}
        self._room = KEPT_BYTES
        self._dropped: set[str] = set()
        self._recorders: list[_Recorder] = []

    def add(self, source: Source, content: str | bytes | None = None, *, names: Iterable[str] = ()) -> int:
        """Record a source and keep its content, if it is text; `names` are others by which it may be quoted.

        Returns its position among the sources.
        """
        position = len(self.sources)
        names = list(names)
        self.sources.append(source)
        text = None if content is None else self._kept(position, content)
        for name in dict.fromkeys((source.ref, *names)):
            self._positions[name].append(position)
            if text is not None:
                self._texts[name].append(text)
            elif content is not None:
                self._dropped.add(name)
        for recorder in self._recorders:
            recorder.source(
                source, None if text is None else text.text, names, dropped=content is not None and not text
            )
        return position

    def _kept(self, position: int, content: str | bytes) -> Text | None:
        if len(content) > self._room or (isinstance(content, bytes) and b"\0" in content[:8000]):
            return None  # images and fonts would fill the memory, and cannot be quoted
        self._room -= len(content)
        return Text(position, content)

    def add_text(self, ref: str, text: str, position: int) -> None:
        """Let `text`, which was made from the source at `position`, be quoted as `ref`."""
        if position not in self._positions[ref]:
            self._positions[ref].append(position)
        self._texts[ref].append(Text(position, text))
        for recorder in self._recorders:
            recorder.made("text", position, self.sources[position], ref=ref, text=text)

    def add_page(self, page: Page, position: int) -> None:
        """Let a page be quoted, by its markup and its text, and its elements be found."""
        self._positions[page.ref] += [] if position in self._positions[page.ref] else [position]
        self._texts[page.ref].append(Text(position, page.html))
        self._pages[page.ref].append((position, page))
        for recorder in self._recorders:
            recorder.made("page", position, self.sources[position], ref=page.ref, html=page.html, url=page.url)

    def add_rows(self, table: str, rows: Mapping[str, Any], position: int) -> None:
        """Let rows, given by id, be named and their fields be quoted; of one read twice the last reading counts."""
        self._rows[table] |= {key: (position, row) for key, row in rows.items()}
        for recorder in self._recorders:
            shown = {key: row.model_dump(mode="json") for key, row in rows.items()}
            recorder.made("rows", position, self.sources[position], table=table, rows=shown)

    def excerpt(self, evidence: Iterable[Evidence]) -> Ledger:
        """A ledger that finds `evidence` as this one does, with the contents of nothing else."""
        names: set[str] = set()
        rows: set[tuple[str, str]] = set()
        for piece in evidence:
            match piece:
                case Quote(source=name) | Element(source=name) | FileLine(path=name):
                    names.add(name)
                    if row := _ROW.fullmatch(name):
                        rows.add((row["table"], row["id"]))
        made = Ledger()
        made.sources = self.sources
        made._positions = self._positions
        made._dropped = self._dropped
        # Every name is kept: an unknown one is answered with those that there are.
        made._texts.update((name, texts if name in names else []) for name, texts in self._texts.items())
        made._pages.update((name, pages if name in names else []) for name, pages in self._pages.items())
        for table, read in self._rows.items():
            made._rows[table] = {
                key: (position, row if (table, key) in rows else None) for key, (position, row) in read.items()
            }
        return made

    @contextmanager
    def recording(self) -> Iterator[list[dict[str, Any]]]:
        """What is read meanwhile, as JSON that `replay` takes; by other steps beside it, too."""
        recorder = _Recorder(len(self.sources))
        self._recorders.append(recorder)
        try:
            yield recorder.reads
        finally:
            self._recorders.remove(recorder)

    def replay(self, reads: Sequence[Mapping[str, Any]]) -> None:
        """Have read what an earlier run had recorded: the same sources, with their digests and times."""
        start = len(self.sources)
        for read in reads:
            if read["kind"] == "source":
                self.add(Source.model_validate(read["source"]), read["text"], names=read["names"])
                if read["dropped"]:
                    self._dropped |= {read["source"]["ref"], *read["names"]}
                continue
            position = start + read["position"]
            if read["position"] < 0:  # made of a source that was read before the step
                before = self.positions(read["of"])
                if not before:
                    continue
                position = before[-1]
            match read["kind"]:
                case "text":
                    self.add_text(read["ref"], read["text"], position)
                case "page":
                    from zora_core.skills.page import Page

                    self.add_page(Page(ref=read["ref"], html=read["html"], url=read["url"]), position)
                case "rows":
                    model = ROW_MODELS[read["table"]]
                    rows = {key: model.model_validate(row) for key, row in read["rows"].items()}
                    self.add_rows(read["table"], rows, position)

    def positions(self, ref: str) -> list[int]:
        """The positions of what was read as `ref`."""
        return self._positions.get(ref, [])

    def find(self, evidence: Evidence) -> list[int]:
        """The positions of the sources in which `evidence` stands; raises `NotRead` when it does not."""
        match evidence:
            case Quote():
                return [self._find_quote(evidence)]
            case Element():
                return [self._find_element(evidence)]
            case FileLine():
                return [self._find_line(evidence)]
            case Rows():
                return self._find_rows(evidence)
            case Metric():
                return self._find_metric(evidence)

    def _find_quote(self, quote: Quote) -> int:
        if not quote.text:
            raise NotRead("the quote is empty")
        known = False
        for position, text in self._quotable(quote.source):
            known = True
            if _stands(quote, text):
                return position
        if not known:
            raise self._unknown(quote.source)
        where = "" if quote.start is None else f" at character {quote.start}"
        raise NotRead(f"“{_short(quote.text)}” does not stand in {quote.source}{where}{self._instead(quote)}")

    def _quotable(self, ref: str) -> Iterator[tuple[int, str]]:
        """All texts that go by the name `ref`: of a page what a reader sees, its markup, and its main text."""
        pages = self._pages.get(ref, ())
        yield from ((position, page.text) for position, page in pages)
        yield from ((text.position, text.text) for text in self._texts.get(ref, ()))
        yield from self._row_texts(ref)
        yield from ((position, page.main_text) for position, page in pages)

    def _row_texts(self, ref: str) -> Iterator[tuple[int, str]]:
        named = _ROW.fullmatch(ref)
        if named is None or named["id"] not in self._rows.get(named["table"], {}):
            return
        position, row = self._rows[named["table"]][named["id"]]
        if named["field"] is not None:
            yield from ((position, text) for text in self._field(named["table"], named["id"], named["field"]))
        elif named["table"] in TEXT_FIELDS:
            yield position, row_text(named["table"], row)

    def _field(self, table: str, row_id: str, name: str) -> list[str]:
        """The strings of a row by the path `name`, which may itself have been masked."""
        from zora_core.secrets import redact
        from zora_core.skills.text.fields import strings

        fields = self._fields.get((table, row_id))
        if fields is None:
            fields = self._fields[table, row_id] = {}
            for path, text in strings(dict(self._rows[table][row_id][1])):
                fields.setdefault(path, []).append(text)
        if name not in fields and "[" in name:
            return [text for path, texts in fields.items() if redact(path) == name for text in texts]
        return fields.get(name, [])

    def _instead(self, quote: Quote) -> str:
        """Where else the quote stands, for a handler that has miscounted."""
        if quote.start is None or quote.masked:
            return ""
        places = (text.find(quote.text) for _, text in self._quotable(quote.source))
        found = next((place for place in places if place >= 0), None)
        return "" if found is None else f" (it does at {found})"

    def _find_element(self, element: Element) -> int:
        from selectolax.lexbor import SelectolaxError

        pages = self._pages.get(element.source)
        if not pages:
            raise self._unknown(element.source, "page")
        for position, page in pages:
            try:
                found = page.document.select(element.selector)
            except SelectolaxError as error:
                raise NotRead(f"{element.selector!r} is not a CSS selector: {error}") from error
            begin = element.html.removesuffix("…")
            if any(one.markup.startswith(begin) for one in found):
                return position
            if found and any(begin in (node.html or "") for node in page.tree.css(element.selector)):
                return position
        what = f"no element of {element.source} matches {element.selector!r}"
        raise NotRead(f"{what} with the markup {_short(element.html)}" if found else what)

    def _find_line(self, line: FileLine) -> int:
        texts = self._texts.get(line.path)
        if not texts:
            raise self._unknown(line.path, "file")
        for text in texts:
            span = text.line(line.line)
            if span is not None and _stands_in_line(line, text.text, *span):
                return text.position
        raise NotRead(f"line {line.line} of {line.path} does not hold “{_short(line.text)}”")

    def _find_rows(self, rows: Rows) -> list[int]:
        read = self._rows.get(rows.table)
        if read is None:
            raise self._unknown(rows.table, "table")
        if not rows.ids:
            raise NotRead(f"no row of {rows.table} is named")
        missing = [row_id for row_id in rows.ids if row_id not in read]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise NotRead(f"row {_short(missing[0])} of {rows.table}{more} was not read")
        return sorted({read[row_id][0] for row_id in rows.ids})

    def _find_metric(self, metric: Metric) -> list[int]:
        if metric.value != metric.value or metric.value in (float("inf"), float("-inf")):
            raise NotRead(f"the metric {_short(metric.name)} is {metric.value}, which is not a finite number")
        if metric.source is None:
            return []
        if not self.positions(metric.source):
            raise self._unknown(metric.source)
        return self.positions(metric.source)

    def _unknown(self, ref: str, kind: str = "source") -> NotRead:
        if ref in self._dropped:
            return NotRead(f"{_short(ref)!r} is not text, or beyond the {KEPT_BYTES:,} bytes that a run may quote from")
        of_kind = {"page": list(self._pages), "file": list(self._texts), "table": list(self._rows)}
        names = of_kind.get(kind, list(self._positions))
        known = ", ".join(_short(name) for name in names[:NAMES_SHOWN])
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        return NotRead(f"no {kind} {_short(ref)!r} was read (read: {known or 'nothing'}{more})")


def row_text(table: str, row: Any) -> str:
    """The text of a memory or a journal entry: its fields of `TEXT_FIELDS`, parted by an empty line."""
    values = (getattr(row, name) for name in TEXT_FIELDS[table])
    return "\n\n".join(value for value in values if value)


def _stands(quote: Quote, text: str) -> bool:
    if quote.start is not None and quote.start < 0:  # Python would count from the end
        return False
    if quote.masked:
        from zora_core.secrets import unmasked

        pattern = unmasked(quote.text)
        return bool(pattern.search(text) if quote.start is None else pattern.match(text, quote.start))
    return quote.text in text if quote.start is None else text.startswith(quote.text, quote.start)


def _stands_in_line(line: FileLine, text: str, start: int, end: int) -> bool:
    """Whether the line from `start` to `end` holds the evidence; what is masked may go on in the lines after it."""
    if not line.masked:
        return text.find(line.text, start, end) >= 0
    from zora_core.secrets import unmasked

    found = unmasked(line.text).search(text, start)
    return found is not None and found.start() <= end


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 120 else flat[:119] + "…"
