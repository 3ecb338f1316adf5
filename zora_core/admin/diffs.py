"""What a suggestion changes, in plain words and whole: what its rows hold now, what was proposed on, and what comes.

An effect's form is in `database/sql/functions/apply_effect.sql`; what its targets hold now comes from
`preview_agent_suggestion`, whose rows have `change`, `expected` and `found`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal

State = Literal["as seen", "changed since", "gone", "not compared"]
Kind = Literal["same", "gone", "new"]
Segments = list[tuple[Kind, str]]

MAX_WORDS = 800  # of what differs; comparing takes the product of both sides' lengths
NOTHING = "nothing"
_NOUNS = {
    "climate_missions": "climate mission",
    "climate_profiles": "climate profile",
    "frontend_configs": "page",
    "memory_events": "memory",
    "autonomy_schedules": "schedule",
}
_UNITS = {"estimated_impact_kgco2": "kgCO2e a year"}
_LABELS = {"archived_at": "archived", "estimated_impact_kgco2": "estimated impact", "profile_id": "climate profile"}
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WORD = re.compile(r"\w+|\s+|[^\w\s]")
_MISSING: Any = object()


@dataclass(frozen=True)
class Shown:
    """A value for people: `text`, and `full` when `text` says it in another form."""

    text: str
    full: str | None = None


@dataclass(frozen=True)
class Row:
    """What one change does to one value, or a value that it rests on, which stays.

    `before` is what it was proposed on, `now` what is there by now if it is something else, `after` what comes; each is
    None where there is nothing to say. `segments` is the difference that approving makes to a text, word by word, from
    `now` if it is there, else from `before`; empty when there is no text on both sides.
    """

    name: str
    before: Shown | None
    now: Shown | None
    after: Shown | None
    segments: Segments


@dataclass(frozen=True)
class Change:
    """One change of an effect: what it is, whether its target is still what the agent saw, and its values."""

    heading: str
    state: State
    rows: list[Row]
    target: str = ""
    """The id or key of the row that changes; empty for a new one."""
    note: str = ""
    """What the target says of itself, such as the memory that is archived."""


def changes_of(
    effect: Mapping[str, Any] | None,
    preview: Sequence[Mapping[str, Any]] = (),
    zone: tzinfo = UTC,
) -> list[Change]:
    """The changes of `effect`, in its order; none for advice.

    `preview` has the rows of `preview_agent_suggestion`, of an edited suggestion those of the original: they are found
    by their target. Without one, as for what is decided already, nothing is compared. Times are told in `zone`.
    """
    changes = (effect or {}).get("changes", ())
    found = dict(zip(_places(row["change"] for row in preview), preview, strict=True))
    return [
        _view(_Seen(change, found.get(place), zone)) for change, place in zip(changes, _places(changes), strict=True)
    ]


def segments(before: str, after: str) -> Segments:
    """The difference of two texts, word by word.

    What is `same` or `gone` makes `before`, what is `same` or `new` makes `after`. Of texts that differ in too many
    words, what differs stands there as a whole.
    """
    old, new = _WORD.findall(before), _WORD.findall(after)
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    found: Segments = []
    _add(found, "same", old[:head])
    left, right = old[head : len(old) - tail], new[head : len(new) - tail]
    if len(left) > MAX_WORDS or len(right) > MAX_WORDS:
        _add(found, "gone", left)
        _add(found, "new", right)
    else:
        for word, *span in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
            if word == "equal":
                _add(found, "same", left[span[0] : span[1]])
            else:
                _add(found, "gone", left[span[0] : span[1]])
                _add(found, "new", right[span[2] : span[3]])
    _add(found, "same", old[len(old) - tail :])
    return _joined(found)


def shown(value: Any, name: str = "", zone: tzinfo = UTC) -> Shown:
    """A JSON value for people; `name` is that of its column, from which units follow."""
    match value:
        case None:
            return Shown(NOTHING)
        case bool():
            return Shown("yes" if value else "no")
        case int() | float():
            unit = _UNITS.get(name.rpartition(".")[2], "")
            return Shown(f"{value:,} {unit}".rstrip())
        case str() if _TIME.fullmatch(value):
            return Shown(_moment(value, zone), value)
        case str():
            return Shown(value) if value else Shown("an empty text")
        case list() if value and all(_plain(item) for item in value):
            return Shown(", ".join(shown(item).text if not isinstance(item, str) else item for item in value))
        case list() if not value:
            return Shown("an empty list")
        case _:
            return Shown(json.dumps(value, ensure_ascii=False, indent=2))


def _plain(item: Any) -> bool:
    """Whether an item can stand in a list that commas divide."""
    return isinstance(item, (int, float, bool)) or (isinstance(item, str) and item != "" and "," not in item)


# --- one change -------------------------------------------------------------------------------------------------------


class _Seen:
    """A change and what its target holds: `expected` what it must be, `found` what it is, both by column or task."""

    def __init__(self, change: Mapping[str, Any], preview: Mapping[str, Any] | None, zone: tzinfo) -> None:
        self.change = change
        self.op: str = change["op"]
        self.zone = zone
        self.expected: Any = preview["expected"] if preview else None
        self.found: Any = preview["found"] if preview else None
        self.state: State = "as seen"
        if preview is None:
            self.state = "not compared"
        elif self.expected != self.found:
            self.state = "gone" if self.found is None else "changed since"

    def now(self, name: str, expected: Any) -> Any:
        """What is there by now under `name` if it is something else than expected."""
        if self.state != "changed since" or not isinstance(self.found, Mapping):
            return _MISSING
        found = self.found.get(name)
        return _MISSING if found == expected else found

    def row(self, name: str, *, before: Any = _MISSING, now: Any = _MISSING, after: Any = _MISSING) -> Row:
        base = before if now is _MISSING else now
        texts = all(isinstance(value, str) and not _TIME.fullmatch(value) for value in (base, after))
        return Row(
            name=_LABELS.get(name, name if "." in name else name.replace("_", " ")),
            before=self._shown(name, before),
            now=self._shown(name, now),
            after=Shown("when it is approved") if _is_now(name, after) else self._shown(name, after),
            segments=segments(base, after) if texts and base != after and not _is_now(name, after) else [],
        )

    def _shown(self, name: str, value: Any) -> Shown | None:
        return None if value is _MISSING else shown(value, name, self.zone)


def _places(changes: Iterable[Mapping[str, Any]]) -> list[str]:
    """What tells the changes of one effect apart, whatever they write; those without a target by their number."""
    counted: Counter[str] = Counter()
    found = []
    for change in changes:
        key = change.get("key") or change.get("id") or change.get("row", {}).get("page")
        place = json.dumps([change["op"], change.get("table"), str(key), change.get("path")])
        found.append(f"{place} {counted[place]}")
        counted[place] += 1
    return found


def _view(seen: _Seen) -> Change:
    match seen.op:
        case "insert":
            return _insert(seen)
        case "update":
            return _update(seen)
        case "expect":
            heading = f"Rests on the {_noun(seen.change['table'])} {_called_by(seen.change)}"
            return Change(heading, seen.state, _kept(seen), target=str(seen.change["key"]))
        case "delete":
            return _delete(seen)
        case "create_tasks":
            return _create(seen)
        case "cancel_tasks":
            return _cancel(seen)
        case "release_task":
            return _release(seen)
        case op:
            rows = [seen.row(name, after=value) for name, value in seen.change.items() if name != "op"]
            return Change(f"A change that this page has no words for, {op}", seen.state, rows)


def _insert(seen: _Seen) -> Change:
    row = {name: value for name, value in seen.change["row"].items() if value is not None}
    rows = [seen.row(name, after=value) for name, value in row.items()]
    note = "There is one of this name already." if seen.state == "changed since" else ""
    return Change(f"New {_noun(seen.change['table'])}{_called(row)}", seen.state, rows, note=note)


def _update(seen: _Seen) -> Change:
    change, key = seen.change, str(seen.change["key"])
    expected = seen.expected or change["before"]
    rows = _kept(seen)
    for name, after in change["after"].items():
        before = expected.get(name)
        now = seen.now(name, before)
        if before == after and now is _MISSING:
            continue  # it is a precondition and nothing else
        rows.append(seen.row(".".join(change.get("path", ())) or name, before=before, now=now, after=after))
    return Change(_what_updates(change, key), seen.state, rows, target=key, note=_about(seen))


def _kept(seen: _Seen) -> list[Row]:
    """The columns that a change rests on and does not write; of a memory, told by its content, those that differ."""
    expected = seen.expected or seen.change.get("before") or {}
    rows = []
    for name, before in expected.items():
        now = seen.now(name, before)
        told = now is not _MISSING or (seen.change["table"] != "memory_events" and before is not None)
        if name not in (seen.change.get("after") or {}) and told:
            rows.append(seen.row(name, before=before, now=now))
    return rows


def _what_updates(change: Mapping[str, Any], key: str) -> str:
    before, after = change["before"].get("archived_at"), change["after"].get("archived_at")
    if change["table"] == "memory_events" and after is not None:
        return f"Archives the memory {key[-8:]}"
    if change["table"] == "memory_events" and before is not None:
        return f"Takes the memory {key[-8:]} out of the archive"
    return f"Changes the {_noun(change['table'])} {_called_by(change)}"


def _called_by(change: Mapping[str, Any]) -> str:
    """A row by its key: the end of an id, or a name."""
    key = str(change["key"])
    return key[-8:] if _ID.fullmatch(key) else f"“{key}”"


def _delete(seen: _Seen) -> Change:
    row = {name: value for name, value in seen.change["row"].items() if value is not None and name != "tenant_id"}
    expected = seen.expected or row
    rows = [
        seen.row(name, before=value, now=seen.now(name, expected.get(name)), after=None) for name, value in row.items()
    ]
    heading = f"Removes the {_noun(seen.change['table'])}{_called(row)}"
    return Change(heading, seen.state, rows, target=str(row.get("id") or row.get("page") or ""))


def _create(seen: _Seen) -> Change:
    tasks = seen.change["tasks"]
    workflow = seen.change.get("workflow")
    called = f": the workflow “{workflow['name']}”" if workflow else ""
    rows = []
    for task in tasks:
        edges = [edge if isinstance(edge, str) else edge["key"] for edge in task.get("depends_on", ())]
        what = f"{task['agent_id']} {task['task_type']}: {task['title']}"
        what += f" (after {', '.join(edges)})" if edges else ""
        more = {
            name: value
            for name, value in task.items()
            if name not in ("key", "agent_id", "task_type", "title", "depends_on") and value not in (None, {}, [])
        }
        what += f"\n{json.dumps(more, ensure_ascii=False, indent=2)}" if more else ""
        rows.append(Row(str(task["key"]), None, None, Shown(what), []))
    return Change(f"Creates {_counted(len(tasks))}{called}", seen.state, rows)


def _cancel(seen: _Seen) -> Change:
    ids = [str(task) for task in seen.change["ids"]]
    rows = []
    for task in ids:
        now = seen.now(task, "pending")
        is_now = None if now is _MISSING else Shown(str(now or NOTHING))
        rows.append(Row(f"task {task[-8:]}", Shown("pending"), is_now, Shown("cancelled"), []))
    return Change(f"Cancels {_counted(len(ids))}", seen.state, rows)


def _release(seen: _Seen) -> Change:
    change = seen.change
    found = seen.found if isinstance(seen.found, Mapping) else change
    rows = []
    for name in ("agent_id", "task_type", "title", "description"):
        now = found.get(name)
        if now != change.get(name):
            rows.append(seen.row(name, before=change.get(name), now=now, after=now))
        elif now is not None:
            rows.append(seen.row(name, after=now))
    there = _Seen(change, None, seen.zone)
    if seen.state == "changed since":
        there = _Seen(change, {"expected": change["payload"], "found": found.get("payload")}, seen.zone)
    given = change["payload"] or {}
    rows += [there.row(name, now=there.now(name, value), after=value) for name, value in given.items()]
    new = {n: v for n, v in (found.get("payload") or {}).items() if n not in given}
    rows += [there.row(name, now=value) for name, value in new.items()]
    rows = [replace(row, segments=[]) for row in rows]  # nothing is written: the payload is what must be there
    waits = seen.state != "changed since" or found.get("waiting_for") == "approval"
    note = "" if waits else "The task no longer waits for approval."
    return Change("Lets the task run, with exactly this payload", seen.state, rows, target=str(change["id"]), note=note)


def _is_now(name: str, value: Any) -> bool:
    return name.endswith("_at") and value == "now"


def _about(seen: _Seen) -> str:
    """What a row says of itself besides what changes, as it stands there now."""
    row = seen.found if isinstance(seen.found, Mapping) else seen.expected or seen.change.get("before") or {}
    return str(row["content"]) if row.get("content") else ""


def _counted(count: int) -> str:
    return "one task" if count == 1 else f"{count:,} tasks"


def _noun(table: str) -> str:
    return _NOUNS.get(table, f"row of {table}")


def _called(row: Mapping[str, Any]) -> str:
    name = row.get("title") or row.get("name") or row.get("page")
    return f": “{name}”" if name else ""


def _moment(value: str, zone: tzinfo) -> str:
    try:
        return datetime.fromisoformat(value).astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")
    except (ValueError, OverflowError):  # no date that there is
        return value


def _add(found: Segments, kind: Kind, words: Iterable[str]) -> None:
    text = "".join(words)
    if text:
        found.append((kind, text))


def _joined(found: Segments) -> Segments:
    """Each run of changes as one: first what goes, then what comes. A space between two changes belongs to them."""
    merged: Segments = []
    gone = new = ""
    for position, (kind, text) in enumerate([*found, ("same", "")]):
        before_a_change = position + 1 < len(found) and found[position + 1][0] != "same"
        if kind == "same" and not ((gone or new) and text.isspace() and before_a_change):
            _add(merged, "gone", [gone])
            _add(merged, "new", [new])
            gone = new = ""
            _add(merged, "same", [text])
        else:
            gone += text if kind != "new" else ""
            new += text if kind != "gone" else ""
    return merged
