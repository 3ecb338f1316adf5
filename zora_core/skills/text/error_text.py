"""The lines of an error's text that tell what went wrong, among progress, warnings, frames, hints and summaries."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping, Sequence
from enum import IntEnum
from functools import cache

from zora_core.skills.text import error_fields

# So much of a line is looked at, so that a giant line costs no more than a long one.
_LOOKED_AT = 400
# The margin of exception groups, boxes, assertions and containers, and what log lines begin with: a time, a step.
_MARGIN = re.compile(r"^(?:[ ]*[|+│╷╵](?:-\+-+ \d+ -+$|-+$)?[ ]?)+|^E {2,}(?=\S)|^[\w.-]{1,60} {1,20}\| ")
_LOG_PREFIX = re.compile(
    r"^(?:\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d[.,\d]*(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?\]?(?: \[[^\]]{1,40}\])?:?\s+"
    r"|#\d+ (?:\d+\.\d+ )?|##(?=\[))"
)
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)|^The above exception was|^During handling of the above")
# "pkg.mod.SomeError: text", with what Java, Node, Go and .NET put before it.
_EXCEPTION = re.compile(
    r"^(?:Caused by: |Suppressed: |Uncaught |\(?node:\d+\) |Unhandled (?:exception|rejection)[.:]? |\[cause\]: |-+> "
    r"|Exception in thread \"[^\"]{0,80}\" )*"
    r"(?:panic: .|fatal error: .|thread '[^']{0,80}' panicked at .|(?:[\w$]+[.:]{1,2}){0,12}[\w$]*"
    r"(?:Error|Exception|Exit|Interrupt|Failure|Fault|Timeout|Rejection|Group)\b\w*(?: \[\w+\])?(?::|$))"
)
# An exception of any name is told by the frames that follow it.
_NAMED = re.compile(r"^(?:[\w$]+\.){0,12}[A-Z][\w$]*(?:: |$)")
_FRAME = re.compile(r"^\s+at |^\s*File \"|^\s*\.\.\. \d+ |^\s*from \S+:\d+|^goroutine \d+|^#\d+ \S+\(\d+\)")
_HINT = re.compile(r"^\s*(?:For (?:further|more) information|See |https?://|[\^~]+\s*$)")
# Source code that a compiler quotes, with its marks.
_QUOTED = re.compile(r"^\s*\d*\s*\||^[\s^~|*-]*$|^\s*-->")

_ERROR_WORDS = (
    r"(?:errors?|err!|fatal|panic|critical|crit|severe|exception|failure"
    r"|fehler|erreur|errore|erro|fout|fel|fejl|feil|virhe|błąd|chyba|hiba|hata|ошибка|помилка|错误|錯誤|エラー|오류)"
)
_HARMLESS_WORDS = (
    r"(?:warn(?:ing)?|note|notice|info|debug|trace|hint|help|log|detail"
    r"|warnung|hinweis|avertissement|remarque|advertencia|aviso|avviso|waarschuwing|varning|ostrzeżenie|предупреждение)"
)
# file.c:3:5:, Cart.cs(12,20):, Cart.java:[12,20], script.sh: line 3:, main.c:(.text+0x9):
_PLACE = re.compile(
    r"^\s*(?:\S{1,200}?(?::\d+){1,3}:?|\S{1,200}?\(\d+(?:,\d+)*\):?|\S{1,200}?:\[\d+(?:,\d+)*\]"
    r"|\S{1,200}?: (?:line|Zeile|ligne|línea) \d+:|\S{1,200}?:\(\.\w+\+0x[0-9a-f]+\):)(?: -)?\s+(?=\S)"
)
# "error:", "error TS2322:", "error[E0382]:", "ERROR 1062 (23000) at line 3:", "clang: fatal error:"
_CODE = r"(?:\[\w{1,12}\]|\s[A-Z]{0,6}\d{1,6})?(?:\s\(\w{1,12}\))?(?: at line \d+)?"
_LABEL = re.compile(
    rf"^(?:(?!no |0 |without )[^\s:]{{1,60}}:?\s){{0,2}}{_ERROR_WORDS}{_CODE}\s?[:：](?P<text>.*)", re.IGNORECASE
)
_CODE_LABEL = re.compile(r"^[A-Z]{2,6}-?\d{3,6}[A-Z]?: |^\S{1,30}: \*\*\* |^\([\w.]{3,60}\) ")
_HARMLESS = re.compile(
    rf"^(?:[^\s:]{{1,60}}:?\s){{0,2}}{_HARMLESS_WORDS}{_CODE}\s?[:：]|^\w{{1,10}} WARN |^[IWD]\d{{4}} \d\d:",
    re.IGNORECASE,
)
_LEVEL = re.compile(
    r"(?:^|[\s:\]|\[])(?:(?P<bad>ERROR|FATAL|PANIC|CRITICAL|SEVERE|FEHLER|ERR!)|(?:INFO|DEBUG|TRACE|WARN|WARNING|NOTICE))"
    r"(?=[\s:\]|]|$)|^\w{1,10} (?P<worse>error) |^\[(?P<worst>error)\]|^(?P<klog>[EF]\d{4}) \d\d:"
)
_LOGFMT = re.compile(r"(?<![\w.])(?P<key>[A-Za-z_]{1,20})=(?P<value>\"[^\"]{0,300}\"|[^\s\"]{1,300})")
# What only follows from an error that was reported before: an exit code, a number of errors.
_CONSEQUENCE = re.compile(
    r"\bexit(?:ed|s)?(?: with)?(?: (?:code|status))?:? \d+|\b(?:exit status|exit code|code|status)[: ]{1,2}\w+$"
    r"|\*\*\* .{0,200}\b(?:Error|Fehler|Erreur) \d+$|\b[1-9]\d* (?:previous |compile )?(?:errors?|fehler|erreurs?)\b"
    r"|\bfailed with error:$",
    re.IGNORECASE,
)
_COUNT_OF_NONE = re.compile(r"\b0 (?:\w+ )?(?:errors?|failed|failures?|fehler|erreurs?)\b", re.IGNORECASE)
# Programs of Unix say "name: what went wrong", others "Error response from daemon: conflict".
_PROGRAM = re.compile(rf"^[a-z][\w.+/@-]{{0,40}}: \S|^(?i:{_ERROR_WORDS})\s[^:]{{1,60}}: \S")


class _Rank(IntEnum):
    """How surely a line tells what went wrong, by its form."""

    NOISE = 0
    PLAIN = 1
    PROGRAM = 2
    CONSEQUENCE = 3
    HEADING = 4
    PLACE = 5
    LABEL = 6
    PLACED_LABEL = 7
    EXCEPTION = 8


def telling_lines(text: str) -> list[str]:
    """What went wrong, first; then its cause, or the lines that complete it. Each line is as it stands in `text`.

    Of a line that is a JSON object it is the message. Tracebacks are read by their grammar. In any other text the line
    is the one whose form is that of an error: an exception, a label ("error:", in several languages), a place in a
    file, a message of the operating system; else the first one. Warnings, frames, hints and what only follows from an
    error, such as an exit code, come last. Empty for an empty text.
    """
    if text.lstrip().startswith("{") and (said := _said_in_json(text)) is not None:
        return said[1]
    raw = [line.rstrip() for line in text.splitlines()]
    lines = [line for line in (_LOG_PREFIX.sub("", _MARGIN.sub("", line)) for line in raw) if line.strip()]
    if any(_TRACEBACK.search(line[:_LOOKED_AT]) for line in lines):
        # The last exception ended the run, the first one began it; a text that was cut off has its innermost frame.
        raised = _raised_in_python(lines) or [len(lines) - 1]
        return _lines_at(lines, [raised[-1], raised[0]])
    objects = {line: said for line in lines if line.startswith("{") and (said := _said_in_json(line)) is not None}
    ranks = [_rank_of_object(objects[line]) if line in objects else _rank(lines, at) for at, line in enumerate(lines)]
    if not lines:
        return []
    highest = max(ranks)
    best = [place for place, rank in enumerate(ranks) if rank is highest]
    if (first := lines[best[0]]) in objects:
        return objects[first][1]
    return _lines_at(lines, [best[0], best[-1]] if highest is _Rank.EXCEPTION else best[:1])


def is_trace(text: str) -> bool:
    """Whether `text` is the output of a program that failed, with frames, and not prose."""
    return bool(_TRACEBACK.search(text)) or sum(bool(_FRAME.match(line)) for line in text.splitlines()) > 1


def _lines_at(lines: Sequence[str], places: Sequence[int]) -> list[str]:
    chosen = list(dict.fromkeys(places))
    if len(chosen) == 1:
        following = _completing(lines, chosen[0])
        announces = bool(following) and _announces(lines[chosen[0]])
        chosen = [*following, chosen[0]] if announces else [chosen[0], *following]
    return [lines[place].strip() for place in chosen]


def _raised_in_python(lines: Sequence[str]) -> list[int]:
    """The places of the exceptions that the tracebacks in `lines` end with, without groups that hold others."""
    found, inside = [], False
    for place, line in enumerate(lines):
        if _TRACEBACK.search(line[:_LOOKED_AT]):
            inside = True
        elif not line[0].isspace() and (inside or _EXCEPTION.match(line[:_LOOKED_AT])):
            found.append(place)
            inside = False
    return [place for place in found if "ExceptionGroup" not in lines[place]] or found


def _announces(line: str) -> bool:
    """Whether a line only says that a message follows: "thread 'main' panicked at main.rs:4:5:"."""
    return line.endswith(":") and "validation error" not in line


def _completing(lines: Sequence[str], place: int) -> list[int]:
    """The lines after one that only announces, and the first error of "1 validation error for A"."""
    wanted = 2 if "validation error" in lines[place] else 1 if _announces(lines[place]) else 0
    following = range(place + 1, min(len(lines), place + 1 + wanted))
    return [after for after in following if not _HINT.match(lines[after]) and not _FRAME.match(lines[after])]


def _rank(lines: Sequence[str], at: int) -> _Rank:
    line = lines[at][:_LOOKED_AT]
    bare = line.strip()
    if _FRAME.match(line) or _HINT.match(line) or _QUOTED.match(line) or _COUNT_OF_NONE.search(line):
        return _Rank.NOISE
    if _CONSEQUENCE.search(bare):
        return _Rank.CONSEQUENCE
    before_frames = at + 1 < len(lines) and bool(_FRAME.match(lines[at + 1][:_LOOKED_AT]))
    if _EXCEPTION.match(bare) or (before_frames and _NAMED.match(bare)):
        return _Rank.EXCEPTION
    level = _LEVEL.search(line[:80])
    place = _PLACE.match(line if level is None or not level.lastgroup else line[level.end() :].lstrip(" ]"))
    rest = line[place.end() :] if place else bare
    if _HARMLESS.match(bare) or _HARMLESS.match(rest) or (level and not level.lastgroup):
        return _Rank.NOISE
    fields = {match["key"]: match["value"].strip('"') for match in _LOGFMT.finditer(line)}
    if len(fields) > 1 and (error := error_fields.reports_error(fields)) is not None:
        return _Rank.LABEL if error else _Rank.NOISE
    return _rank_of_message(bare, rest, placed=place is not None, severe=level is not None)


def _rank_of_message(bare: str, rest: str, *, placed: bool, severe: bool) -> _Rank:
    label = _LABEL.match(rest) or _LABEL.match(bare)
    labelled = (label is not None and bool(label["text"].strip())) or _CODE_LABEL.match(bare) is not None
    if labelled or (severe and placed):
        return _Rank.PLACED_LABEL if placed else _Rank.LABEL
    if placed or any(message in bare for message in _system_messages()):
        return _Rank.PLACE
    if label or severe:
        return _Rank.HEADING if len(bare.split()) > 3 else _Rank.CONSEQUENCE
    return _Rank.PROGRAM if _PROGRAM.match(bare) else _Rank.PLAIN


@cache
def _system_messages() -> tuple[str, ...]:
    """What the operating system calls its errors ("No such file or directory"), and what a shell adds."""
    named = {os.strerror(number) for number in errno.errorcode}
    return (*sorted(message for message in named if " " in message), "command not found")


def _rank_of_object(said: tuple[bool | None, list[str]]) -> _Rank:
    return {True: _Rank.LABEL, False: _Rank.NOISE, None: _Rank.PLAIN}[said[0]]


def _said_in_json(line: str) -> tuple[bool | None, list[str]] | None:
    """Whether a JSON object reports an error, and its words as written; None for no object, or one without words."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, Mapping):
        return None
    bad = error_fields.reports_error(fields)
    has_error = error_fields.has_error(fields)
    said = [*(error_fields.error_parts(fields)[::-1] if has_error else ()), error_fields.message(fields)]
    found = [as_written for part in said if part.strip() and (as_written := _as_written(part, line))]
    return (True if bad is None and has_error else bad, list(dict.fromkeys(found))[:2]) if found else None


def _as_written(value: str, line: str) -> str | None:
    """The telling line of a JSON string as it stands in `line`, where it may be escaped."""
    told = next(iter(telling_lines(value)), "")
    forms = (told, json.dumps(told, ensure_ascii=False)[1:-1], json.dumps(told)[1:-1])
    return next((form for form in forms if form in line), None)
