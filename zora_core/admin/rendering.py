"""Templates: one environment that escapes everything, and how ids, times and numbers are written for people."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import Response

from zora_core.admin.diffs import Segments
from zora_core.admin.prose import prose
from zora_core.shapes import as_id, as_object, pieces_of
from zora_core.visible import has_hidden, odd_words, visible

# What a pending task waits for, in words.
WAITS = {
    "run_at": "its time",
    "retry": "the next try",
    "dependencies": "other tasks",
    "approval": "a person",
    "children": "what it delegated",
    "budget": "a budget",
}
COUNT_CAP = 999  # how far agent_board() counts: what it calls 1,000 may be more
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


_targets: ContextVar[dict[str, list[str]]] = ContextVar("targets")


def render(template: str, /, **values: Any) -> str:
    """The HTML of a template, with control, bidirectional and invisible characters shown escaped.

    All of the page at once, so that no template can forget it. Only what a form would send back stays as it is.
    """
    token = _targets.set({})
    try:
        html = _environment().get_template(template).render(values)
    finally:
        _targets.reset(token)
    if not has_hidden(html):
        return html
    parts = _TYPED.split(html)  # what is in a form stands at the odd places
    return "".join(part if place % 2 else visible(part) for place, part in enumerate(parts))


def marked(text: Any) -> Markup:
    """A text whose words with look-alike letters of another script are marked: `pаypal` with a Cyrillic а."""
    return _marked(str(text), odd_words(str(text)))


def marked_segments(segments: Segments) -> list[tuple[str, Markup]]:
    """The segments of a difference, marked as the words of the two texts that they make."""
    found: dict[int, Markup] = {}
    for kind in ("gone", "new"):
        of_text = [(place, part) for place, (of, part) in enumerate(segments) if of in ("same", kind)]
        odd = odd_words("".join(part for _, part in of_text))
        start = 0
        for place, part in of_text:
            end = start + len(part)
            found[place] = _marked(part, [(a - start, b - start, why) for a, b, why in odd if start <= a and b <= end])
            start = end
    return [(kind, found[place]) for place, (kind, _) in enumerate(segments)]


def _marked(text: str, odd: Iterable[tuple[int, int, str]]) -> Markup:
    shown, end = Markup(""), 0
    for start, stop, letters in odd:
        mark = Markup('<mark class="mixed" title="{}">{}</mark>')
        shown += escape(text[end:start]) + mark.format(letters, text[start:stop])
        end = stop
    return shown + escape(text[end:])


def named(title: Any, target: Any) -> str:
    """The text of a link: with the end of its target's id, if another link of the page says the same already.

    Tasks of a schedule have one title, and who only hears the links must be able to tell them apart.
    """
    text = str(title)
    targets = _targets.get().setdefault(" ".join(text.split()).casefold(), [])
    if str(target) not in targets:
        targets.append(str(target))
    return text if targets[0] == str(target) else f"{text} ({short(target)})"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("zora_core.admin"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        ago=ago,
        duration=duration,
        moment=moment,
        short=short,
        number=number,
        pretty=pretty,
        prose=prose,
        count=count,
        marked=marked,
        marked_segments=marked_segments,
        pieces=pieces_of,
        as_object=as_object,
        as_id=as_id,
    )
    environment.globals.update(WAITS=WAITS, named=named, static=static_url, with_query=with_query)
    return environment


def short(value: Any) -> str:
    """The end of an id, as the command line shows it: the beginning of a time-ordered id tells little."""
    return str(value)[-8:]


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units: `1 h 5 min`, `2.4 s`, `180 ms`."""
    if seconds is None:
        return "–"
    seconds = max(seconds, 0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    rest = round(seconds)
    parts = []
    for size, unit in _UNITS:
        if rest >= size:
            parts.append(f"{rest // size} {unit}")
            rest %= size
    return " ".join(parts[:2])


def moment(value: datetime | None) -> Markup:
    """A time as `<time>`, in UTC; our script writes it in the reader's own zone."""
    if value is None:
        return Markup("–")
    at = value.astimezone(UTC)
    return Markup('<time datetime="{}" data-local>{}</time>').format(
        at.isoformat(timespec="seconds"), f"{at:%Y-%m-%d %H:%M:%S} UTC"
    )


def ago(value: datetime | None, *, since: bool = False) -> Markup:
    """How long ago, or in how long, as `<time>` with the exact time as its title; our script keeps it right.

    With `since`, the time that has passed, without `ago`.
    """
    if value is None:
        return Markup("–")
    seconds = (datetime.now(UTC) - value).total_seconds()
    parts = duration(abs(seconds)).split(" ")
    length = " ".join(parts[:2]) if abs(seconds) >= 1 else "0 s"
    said = length if since else f"{length} ago" if seconds >= 0 else f"in {length}"
    at = value.astimezone(UTC)
    return Markup('<time datetime="{}" title="{}" data-{}>{}</time>').format(
        at.isoformat(timespec="milliseconds"), f"{at:%Y-%m-%d %H:%M:%S} UTC", "since" if since else "ago", said
    )


def number(value: float | None, digits: int = 0) -> str:
    """A number with its thousands apart."""
    return "–" if value is None else f"{value:,.{digits}f}"


def count(value: int, cap: int = COUNT_CAP) -> str:
    """A count that was broken off at some number above `cap`."""
    return f"{value:,}" if value <= cap else f"{cap:,}+"


_TYPED = re.compile(r'(<textarea\b.*?</textarea>|\bvalue="[^"]*")', re.S)


def counted(row: Mapping[str, Any], one: str, many: str) -> str:
    """A row of a `count_…` function in words, which is exact or a lower bound: `1 task`, `more than 1,000 tasks`."""
    more = "more than " if row["is_estimate"] else ""
    return f"{more}{row['total']:,} {one if row['total'] == 1 else many}"


def pretty(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def with_query(path: str, given: dict[str, Any], **changes: Any) -> str:
    """A path with a query of what is set in `given` and `changes`; the latter win, and None takes a parameter away."""
    values = {name: str(value) for name, value in {**given, **changes}.items() if value not in (None, "", False)}
    return f"{path}?{urlencode(values)}" if values else path


def internal_error_page() -> Response:
    """The answer to an unexpected error; the log has it, with the request's id."""
    message = "The log has it under this request's id. Nothing was half done: what is written is written as a whole."
    return Response(render("error.html", title="Something went wrong", message=message), 500, media_type="text/html")


@cache
def asset(name: str) -> tuple[bytes, bytes, str] | None:
    """A file of ours as it is, compressed, and what its content is; None when there is none of that name."""
    kinds = {"admin.css": "text/css", "admin.js": "text/javascript", "icon.svg": "image/svg+xml"}
    if name not in kinds:
        return None
    content = (resources.files("zora_core.admin") / "static" / name).read_bytes()
    return content, gzip.compress(content, 9, mtime=0), kinds[name]


@cache
def static_url(name: str) -> str:
    """Where a file of ours is: its address changes with its content, so that browsers may keep it for ever."""
    found = asset(name)
    assert found is not None
    return f"/admin/static/{name}?v={hashlib.sha256(found[0]).hexdigest()[:12]}"
