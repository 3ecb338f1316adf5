"""Charts that are drawn on the server, as SVG: throughput, depth, the next day, small trends.

Each has its figures in words, as `<title>` and `<desc>`. A spark has a natural size; the others are as wide as their
place, 400 units of their own, and readable from 340 px. Graphs of steps are in `graph_chart.py`.

Colours and strokes come from CSS; nothing here has a style. The classes:

- the whole: `c-chart` and one of `c-bars`, `c-depth`, `c-strip`, `c-spark`
- texts: `c-text`, `c-strong` (what is named), `c-small` (axes and legends); `c-empty` when there is nothing to draw
- `c-grid` (lines behind), `c-axis` (the base line), `c-hit` (invisible, carries a `<title>`: needs fill: transparent)
- bars: `c-bar-ok`, `c-bar-failed`, `c-line` (created; fill: none), `c-partial` (with the others: not all is counted)
- depth and spark: `c-line` (fill: none), `c-area`, `c-dot`
- the next day: `c-row` (a schedule's line), `c-tick`, `c-link`
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from markupsafe import Markup

from zora_core.admin.svg import FONT, WIDTH, drawing, fitted, local_href, nothing, point, tag, tenths, text, text_width
from zora_core.wording import count

MAX_TOLD = 40  # schedules that a description names
TICK = 2  # width that fire times share one tick within


def bars(buckets: Sequence[Mapping[str, Any]], *, title: str = "Throughput") -> Markup:
    """Tasks that ended as stacked bars, completed below failed, and those created as a line.

    A bucket has `bucket_start`, `completed`, `failed`, `created`, and may have `is_partial`, as `queue_history` gives
    them; times are told in their own zone.
    """
    if not buckets:
        return nothing("c-bars", title, "Nothing has been counted yet.")
    times = [_moment(bucket["bucket_start"]) for bucket in buckets]
    done, bad, made = ([int(bucket[name]) for bucket in buckets] for name in ("completed", "failed", "created"))
    top, ticks = _scale(max(max(d + f for d, f in zip(done, bad, strict=True)), *made))
    frame = _Frame(height=210, ticks=ticks, top=top)
    step = frame.width / len(buckets)
    body = [*frame.grid(), *frame.times(times, bars=True)]
    points = []
    for n, bucket in enumerate(buckets):
        left, wide = frame.left + n * step + step * 0.12, step * 0.76
        partial = " c-partial" if bucket.get("is_partial") else ""
        base, middle, upper = frame.y(0), frame.y(done[n]), frame.y(done[n] + bad[n])
        if done[n]:
            body.append(tag("rect", class_=f"c-bar-ok{partial}", x=left, y=middle, width=wide, height=base - middle))
        if bad[n]:
            body.append(
                tag("rect", class_=f"c-bar-failed{partial}", x=left, y=upper, width=wide, height=middle - upper)
            )
        points.append((left + wide / 2, frame.y(made[n])))
    body.append(tag("path", class_="c-line", d=_line(points), fill="none"))
    for n, time in enumerate(times):
        said = f"{_clock(time, times)}: {done[n]:,} completed, {bad[n]:,} failed, {made[n]:,} created"
        area = {"x": frame.left + n * step, "y": frame.above, "width": step, "height": frame.y(0) - frame.above}
        body.append(tag("rect", [tag("title", [said])], class_="c-hit", fill_opacity=0, **area))
    body += _legend((("c-bar-ok", "completed"), ("c-bar-failed", "failed"), ("c-line", "created")))
    partial_count = sum(bool(bucket.get("is_partial")) for bucket in buckets)
    desc = (
        f"{count(len(buckets), 'part')} of time from {_clock(times[0], times)} to {_clock(times[-1], times)}: "
        f"{sum(done):,} tasks completed, {sum(bad):,} failed, {sum(made):,} created. "
        f"Most ended at {_clock(times[_peak(done, bad)], times)}: {max(map(sum, zip(done, bad, strict=True))):,}."
        + (f" In {count(partial_count, 'part')} not everything is counted." if partial_count else "")
    )
    return drawing("c-bars", WIDTH, frame.height, title, desc, body)


def line(
    points: Sequence[tuple[datetime | str, float | None]],
    *,
    title: str = "Unfinished tasks",
    unit: str = "tasks",
) -> Markup:
    """A number over time, such as the depth of the queue; the line breaks off where it is None."""
    known = [(_moment(time), value) for time, value in points if value is not None]
    if not known:
        return nothing("c-depth", title, "Nothing has been counted yet.")
    times = [_moment(time) for time, _ in points]
    top, ticks = _scale(max(value for _, value in known))
    frame = _Frame(height=170, ticks=ticks, top=top, legend=False)
    step = frame.width / max(len(points) - 1, 1)
    body = [*frame.grid(), *frame.times(times)]
    run: list[tuple[float, float]] = []
    for n, value in enumerate([value for _, value in points] + [None]):
        if value is not None:
            run.append((frame.left + n * step, frame.y(value)))
            continue
        if len(run) > 1:
            base = frame.y(0)
            area = _line([(run[0][0], base), *run, (run[-1][0], base)]) + "Z"
            body += [tag("path", class_="c-area", d=area), tag("path", class_="c-line", d=_line(run), fill="none")]
        elif run:
            body.append(tag("circle", class_="c-dot", cx=run[0][0], cy=run[0][1], r=2.5))
        run = []
    for n, (time, (_, value)) in enumerate(zip(times, points, strict=True)):
        said = f"{_clock(time, times)}: {'unknown' if value is None else f'{_figure(value)} {unit}'}"
        left = max(frame.left, frame.left + (n - 0.5) * step)
        area_ = {"x": left, "y": frame.above, "width": min(step, WIDTH - left), "height": frame.y(0) - frame.above}
        body.append(tag("rect", [tag("title", [said])], class_="c-hit", fill_opacity=0, **area_))
    highest = max(known, key=lambda point: point[1])
    lowest = min(known, key=lambda point: point[1])
    desc = (
        f"From {_clock(times[0], times)} to {_clock(times[-1], times)}: {_figure(known[0][1])} {unit} at first, "
        f"{_figure(known[-1][1])} at last; most {_figure(highest[1])} at {_clock(highest[0], times)}, "
        f"least {_figure(lowest[1])} at {_clock(lowest[0], times)}."
    )
    return drawing("c-depth", WIDTH, frame.height, title, desc, body)


def day_strip(rows: Sequence[Mapping[str, Any]], now: datetime, *, title: str = "The next 24 hours") -> Markup:
    """What comes in the next 24 hours: a line for each schedule with a tick for each fire time.

    A row has `name` and `times` (times outside these hours are passed over), and may have `href`. Hours are those of
    `now`'s zone.
    """
    if not rows:
        return nothing("c-strip", title, "There are no schedules.")
    until, left, wide, tall, head = now.astimezone(UTC) + timedelta(hours=24), 8, WIDTH - 16, 40, 20
    height = head + len(rows) * tall + 4

    def at(time: datetime) -> float:
        return left + wide * (time - now) / timedelta(hours=24)

    body: list[Markup] = []
    hour = now.replace(minute=0, second=0, microsecond=0).astimezone(UTC) + timedelta(hours=1)
    while hour <= until:
        local = hour.astimezone(now.tzinfo)
        if local.hour % 3 == 0:
            x = at(hour)
            body.append(tag("line", class_="c-grid", x1=x, x2=x, y1=head - 2, y2=height))
            if local.hour % 6 == 0 and 18 <= x <= WIDTH - 18:
                body.append(text(x, 13, f"{local:%H:%M}", FONT - 1, "middle", "c-text c-small"))
        hour += timedelta(hours=1)
    told = []
    for n, row in enumerate(rows):
        times = sorted(time for time in map(_moment, row["times"]) if now <= time <= until)
        top, base = head + n * tall, head + n * tall + 30
        name = text(left, top + 15, fitted(str(row["name"]), wide, FONT), FONT, kind="c-text c-strong")
        href = local_href(row)
        body.append(tag("a", [name], class_="c-link", href=href) if href else name)
        body.append(tag("line", class_="c-row", x1=left, x2=left + wide, y1=base, y2=base))
        shared: dict[int, list[datetime]] = defaultdict(list)
        for time in times:
            shared[int(at(time) / TICK)].append(time)
        for near in shared.values():
            said = f"{row['name']}: {near[0].astimezone(now.tzinfo):%a %H:%M}"
            said += f" to {near[-1].astimezone(now.tzinfo):%H:%M}, {len(near)} times" if len(near) > 1 else ""
            place = {"x": at(near[0]) - 1.5, "y": base - 9, "width": 3, "height": 14}
            body.append(tag("rect", [tag("title", [said])], class_="c-tick", rx=1, **place))
        first = f", first at {times[0].astimezone(now.tzinfo):%H:%M}" if times else ""
        told.append(f"{row['name']}: {count(len(times), 'time')}{first}.")
    more = f" And {len(told) - MAX_TOLD} more." if len(told) > MAX_TOLD else ""
    desc = f"{count(len(rows), 'schedule')} from {now:%a %H:%M}. {' '.join(told[:MAX_TOLD])}{more}"
    role = "group" if any(local_href(row) for row in rows) else "img"
    return drawing("c-strip", WIDTH, height, title, desc, body, role=role)


def spark(
    values: Sequence[float | None], *, title: str = "Acceptance by week", top: float | None = 1.0, percent: bool = True
) -> Markup:
    """A small trend, oldest first; None where there is no value. `top` is the highest possible value, if there is one.

    `percent` says that the values are fractions.
    """
    known = [value for value in values if value is not None]
    if not known:
        return nothing("c-spark", title, "no figures yet", width=120, height=28)
    highest = max(top if top is not None else max(known), *known, 1e-9)
    step = 112 / max(len(values) - 1, 1)
    places = [
        None if value is None else (4 + n * step, 24 - 20 * max(value, 0) / highest) for n, value in enumerate(values)
    ]
    body = [tag("line", class_="c-axis", x1=4, x2=116, y1=25, y2=25)]
    run: list[tuple[float, float]] = []
    for place in [*places, None]:
        if place is not None:
            run.append(place)
            continue
        if len(run) > 1:
            body.append(tag("path", class_="c-line", d=_line(run), fill="none"))
        elif run:
            body.append(tag("circle", class_="c-dot", cx=run[0][0], cy=run[0][1], r=1.5))
        run = []
    last = next(place for place in reversed(places) if place is not None)
    body.append(tag("circle", class_="c-dot", cx=last[0], cy=last[1], r=2.5))
    told = ["none" if v is None else f"{v * 100:.0f} %" if percent else _figure(v) for v in values]
    return drawing("c-spark", 120, 28, title, f"Oldest first: {', '.join(told)}.", body, natural=True)


# --- axes -------------------------------------------------------------------------------------------------------------


class _Frame:
    """Where the figures of a chart stand: between the scale on the left, a legend above and the times below."""

    def __init__(self, *, height: int, ticks: Sequence[float], top: float, legend: bool = True) -> None:
        self.height = height
        self.ticks = ticks
        self.top = top
        self.above = 30 if legend else 10
        self.left = 10 + max(text_width(_short(tick), FONT - 1) for tick in ticks)
        self.width = WIDTH - self.left - 4

    def y(self, value: float) -> float:
        return self.above + (self.height - 24 - self.above) * (1 - value / self.top)

    def grid(self) -> list[Markup]:
        found = []
        for tick in self.ticks:
            y = self.y(tick)
            kind = "c-grid" if tick else "c-axis"
            found.append(tag("line", class_=kind, x1=self.left, x2=self.left + self.width, y1=y, y2=y))
            found.append(text(self.left - 5, y + 4, _short(tick), FONT - 1, "end", "c-text c-small"))
        return found

    def times(self, times: Sequence[datetime], *, bars: bool = False) -> list[Markup]:
        """Up to four times below, the first and the last of them at the edges; of bars, their beginnings."""
        shown = min(4, len(times))
        places = sorted({round(n * (len(times) - 1) / max(shown - 1, 1)) for n in range(shown)})
        step = self.width / (len(times) if bars else max(len(times) - 1, 1))
        found = []
        for n in places:
            x = self.left + n * step
            anchor = "start" if n == 0 else "end" if n == len(times) - 1 else "middle"
            x = self.left + self.width if anchor == "end" else x
            found.append(text(x, self.height - 6, _clock(times[n], times), FONT - 1, anchor, "c-text c-small"))
        return found


def _legend(entries: Iterable[tuple[str, str]]) -> list[Markup]:
    x, found = 8.0, []
    for kind, said in entries:
        if kind == "c-line":
            found.append(tag("path", class_=kind, d=f"M{tenths(x)} 12H{tenths(x + 14)}", fill="none"))
        else:
            found.append(tag("rect", class_=kind, x=x, y=6, width=12, height=12))
        found.append(text(x + 18, 16, said, FONT - 1, kind="c-text c-small"))
        x += 18 + text_width(said, FONT - 1) + 12
    return found


def _scale(highest: float) -> tuple[float, list[float]]:
    """The top of a scale and its two to five ticks, at 1, 2 or 5 times a power of ten, whole."""
    rough = max(highest, 1) / 4
    power = 10 ** math.floor(math.log10(rough)) if rough >= 1 else 1
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    steps = max(math.ceil(highest / step), 1)
    return step * steps, [step * n for n in range(steps + 1)]


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size * 10 or (value >= size and value % size == 0):
            return f"{value / size:,g}{unit}"
    return f"{value:g}"


def _clock(time: datetime, times: Sequence[datetime]) -> str:
    """A time among others: the hour within a day or so, else the day."""
    span = times[-1] - times[0]
    if span <= timedelta(minutes=5):
        return f"{time:%H:%M:%S}"
    return f"{time:%H:%M}" if span <= timedelta(hours=36) else f"{time.day} {time:%b}"


def _peak(done: Sequence[int], bad: Sequence[int]) -> int:
    return max(range(len(done)), key=lambda n: done[n] + bad[n])


def _moment(value: datetime | str) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _figure(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def _line(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(point(x, y) for x, y in points)
