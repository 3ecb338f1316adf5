"""The lines of an error's text that tell what went wrong, among frames, headers and hints."""

from __future__ import annotations

import re
from collections.abc import Sequence

# The margin of the tracebacks of exception groups, and what log lines begin with: a time, a process, a level.
_MARGIN = re.compile(r"^(?:[ ]*[|+](?:-\+-+ \d+ -+$|-+$)?[ ]?)+")
_LOG_PREFIX = re.compile(
    r"^\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,\d]*(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?\]?(?: \[[^\]]{1,40}\])?:?\s+"
)
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)|^The above exception was|^During handling of the above")
# "pkg.mod.SomeError: text", with what Java, Node, Go and .NET put before it.
_EXCEPTION = re.compile(
    r"^(?:Caused by: |Suppressed: |Uncaught |\(?node:\d+\) |Unhandled (?:exception|rejection)[.:]? |\[cause\]: |-+> "
    r"|Exception in thread \"[^\"]{0,80}\" )*"
    r"(?:panic: .|fatal error: .|thread '[^']{0,80}' panicked at .|(?:[\w$]+[.:]{1,2}){0,12}[\w$]*"
    r"(?:Error|Exception|Exit|Interrupt|Failure|Fault|Timeout|Rejection|Group)\b\w*(?: \[\w+\])?(?::|$))"
)
_SEVERITY = re.compile(r"(?:^|[\s:\]])(?:ERROR|FATAL|PANIC|CRITICAL|SEVERE|FEHLER)\b[\s:\]]")
_FRAME = re.compile(r"^\s+at |^\s*File \"|^\s*\.\.\. \d+ more|^\s*from \S+:\d+|^goroutine \d+|^#\d+ ")
_HINT = re.compile(r"^\s*(?:For further information|See |https?://|\^+|~+)")


def telling_lines(text: str) -> list[str]:
    """What went wrong, first; then its cause, or the lines that complete it. Each line is as it stands in `text`.

    Knows tracebacks of Python with causes, contexts and groups, of Java and .NET with "Caused by", of Node, Go and
    Rust, messages of PostgreSQL and of pydantic; of any other text it is the first line. Empty for an empty text.
    """
    lines = [(_LOG_PREFIX.sub("", _MARGIN.sub("", line.rstrip()))) for line in text.splitlines()]
    lines = [line for line in lines if line.strip()]
    if len(lines) < 2:
        return [line.strip() for line in lines]
    if any(_TRACEBACK.search(line) for line in lines):
        # The last exception ended the run, the first one began it; a text that was cut off has its innermost frame.
        raised = _raised_in_python(lines) or [len(lines) - 1]
        order = [raised[-1], raised[0]]
    else:
        raised = [
            place for place, line in enumerate(lines) if _EXCEPTION.match(line.strip()) and not _FRAME.match(line)
        ]
        severe = [place for place, line in enumerate(lines) if _SEVERITY.search(line)]
        order = [raised[0], raised[-1]] if raised else severe[:1] or [0]
    chosen = list(dict.fromkeys(order))
    if len(chosen) == 1:
        chosen += _completing(lines, chosen[0])
    return [lines[place].strip() for place in chosen]


def is_trace(text: str) -> bool:
    """Whether `text` is the output of a program that failed, with frames, and not prose."""
    return bool(_TRACEBACK.search(text)) or sum(bool(_FRAME.match(line)) for line in text.splitlines()) > 1


def _raised_in_python(lines: Sequence[str]) -> list[int]:
    """The places of the exceptions that the tracebacks in `lines` end with, without groups that hold others."""
    found, inside = [], False
    for place, line in enumerate(lines):
        if _TRACEBACK.search(line):
            inside = True
        elif not line[0].isspace() and (inside or _EXCEPTION.match(line)):
            found.append(place)
            inside = False
    return [place for place in found if "ExceptionGroup" not in lines[place]] or found


def _completing(lines: Sequence[str], place: int) -> list[int]:
    """The lines after one that only announces: "1 validation error for A", "thread 'main' panicked at main.rs:4:5:"."""
    line = lines[place]
    wanted = 2 if "validation error" in line else 1 if line.endswith(":") else 0
    following = [
        after
        for after in range(place + 1, min(len(lines), place + 1 + wanted))
        if not _HINT.match(lines[after]) and not _FRAME.match(lines[after])
    ]
    return following[:wanted]
