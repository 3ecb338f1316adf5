"""Charts of figures over time: in proportion, escaped, and told in words."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.admin.drawings import NASTY, NOW, parsed
from zora_core.admin.charts import TICK, bars, day_strip, line, spark
from zora_core.admin.svg import WIDTH

counts = st.integers(0, 10**7)
buckets_ = st.lists(st.tuples(counts, counts, counts, st.booleans()), min_size=1, max_size=60)


def bucketed(rows: list[tuple[int, int, int, bool]], width: timedelta = timedelta(minutes=1)) -> list[dict[str, Any]]:
    return [
        {"bucket_start": NOW + n * width, "completed": c, "failed": f, "created": m, "is_partial": p}
        for n, (c, f, m, p) in enumerate(rows)
    ]


@settings(max_examples=60)
@given(buckets_, st.timedeltas(timedelta(seconds=1), timedelta(days=3)))
def test_bars_stand_on_one_another_and_their_heights_are_in_proportion(rows: Any, width: timedelta) -> None:
    root = parsed(bars(bucketed(rows, width)))
    highest = max(max(c + f, m) for c, f, m, _ in rows)
    drawn = {kind: [] for kind in ("c-bar-ok", "c-bar-failed")}  # type: dict[str, list[float]]
    for rect in root.iter("rect"):
        kind = rect.attrib["class"].split()[0]
        if kind in drawn and "x" in rect.attrib and float(rect.attrib["y"]) >= 30:  # the others are the legend's
            drawn[kind].append(float(rect.attrib["height"]))
    assert len(drawn["c-bar-ok"]) == sum(c > 0 for c, _, _, _ in rows)
    assert len(drawn["c-bar-failed"]) == sum(f > 0 for _, f, _, _ in rows)
    if highest and drawn["c-bar-ok"]:
        scale = max(drawn["c-bar-ok"]) / max(c for c, _, _, _ in rows)
        for height, value in zip(drawn["c-bar-ok"], [c for c, _, _, _ in rows if c], strict=True):
            assert height == pytest.approx(scale * value, abs=0.2)
    desc = root[1].text or ""
    assert f"{sum(c for c, _, _, _ in rows):,} tasks completed" in desc
    assert len(root.findall(".//rect[@class='c-hit']/title")) == len(rows)


@settings(max_examples=60)
@given(st.lists(st.none() | st.integers(0, 10**9), min_size=1, max_size=60))
def test_a_line_breaks_off_where_nothing_is_known(values: list[int | None]) -> None:
    root = parsed(line([(NOW + timedelta(minutes=n), v) for n, v in enumerate(values)]))
    runs = [len(list(run)) for known, run in itertools.groupby(values, lambda v: v is not None) if known]
    assert len(root.findall(".//path[@class='c-line']")) == sum(run > 1 for run in runs)
    assert len(root.findall(".//circle")) == sum(run == 1 for run in runs)


def test_what_is_drawn_is_told_in_words() -> None:
    rows = [(3, 1, 5, False), (0, 0, 2, True)]
    said = parsed(bars(bucketed(rows)))[1].text
    assert said == (
        "2 parts of time from 09:17:00 to 09:18:00: 3 tasks completed, 1 failed, 7 created. "
        "Most ended at 09:17:00: 4. In 1 part not everything is counted."
    )
    points = [(NOW + timedelta(hours=n), v) for n, v in enumerate([5, None, 1200])]
    assert parsed(line(points))[1].text == (
        "From 09:17 to 11:17: 5 tasks at first, 1,200 at last; most 1,200 at 11:17, least 5 at 09:17."
    )
    assert parsed(spark([0.5, None, 1]))[1].text == "Oldest first: 50 %, none, 100 %."


def test_nothing_to_draw_is_said() -> None:
    for svg in (bars([]), line([]), line([(NOW, None)]), day_strip([], NOW), spark([None])):
        root = parsed(svg)
        assert [text.text for text in root.iter("text")] == [root[1].text]


@given(st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=60), st.booleans())
def test_a_spark_stays_in_its_frame(values: list[float | None], percent: bool) -> None:
    parsed(spark(values, percent=percent))


def test_the_next_day_has_a_tick_for_each_fire_time() -> None:
    rows = [
        {"name": "once", "times": [NOW + timedelta(hours=15)], "href": "/admin/schedules/1"},
        {"name": NASTY, "times": [NOW - timedelta(hours=1), NOW + timedelta(hours=25)]},
        {"name": "every minute", "times": [NOW + timedelta(minutes=n) for n in range(1440)]},
    ]
    root = parsed(day_strip(rows, NOW))
    ticks = [tick.text or "" for tick in root.findall(".//rect[@class='c-tick']/title")]
    assert ticks[0] == "once: Tue 00:17"
    assert len(ticks) - 1 <= WIDTH / TICK, "as many as can be told apart"
    assert sum(int(found[1]) if (found := re.search(r"(\d+) times", t)) else 1 for t in ticks[1:]) == 1440
    assert root[1].text is not None
    assert "once: 1 time, first at 00:17." in root[1].text


def test_hours_are_those_of_the_zone_also_when_the_clock_changes() -> None:
    now = datetime(2026, 3, 28, 20, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    root = parsed(day_strip([{"name": "n", "times": [datetime(2026, 3, 29, 4, tzinfo=UTC)]}], now))
    assert [t.text for t in root.iter("text") if t.attrib["class"] == "c-text c-small"] == [
        "00:00",
        "06:00",
        "12:00",
        "18:00",
    ]
    (tick,) = root.findall(".//rect[@class='c-tick']")
    hour = next(t for t in root.iter("text") if t.text == "06:00")
    assert float(tick.attrib["x"]) + 1.5 == pytest.approx(float(hour.attrib["x"]), abs=0.2)


@pytest.mark.parametrize("moment", [NOW.isoformat(), NOW])
def test_times_may_be_texts(moment: Any) -> None:
    bucket = {"bucket_start": moment, "completed": 1, "failed": 0, "created": 0}
    assert "09:17" in bars([bucket])
    assert "09:17" in line([(moment, 1)])


def test_no_text_breaks_out() -> None:
    for svg in (
        bars([], title=NASTY),
        line([(NOW, 1)], title=NASTY, unit=NASTY),
        day_strip([{"name": NASTY, "times": [NOW]}], NOW, title=NASTY),
        spark([1], title=NASTY),
    ):
        parsed(svg)
        assert "<script" not in svg
