"""The telling line is found among frames, headers and hints."""

from __future__ import annotations

import textwrap
import time
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zora_core.skills.error_text import telling_lines

PYDANTIC = """\
Traceback (most recent call last):
  File "a.py", line 1
pydantic.ValidationError: 1 validation error for A
name
  Field required [type=missing]
    For further information visit https://errors.pydantic.dev/2/v/missing
"""


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("disk full", ["disk full"]),
        ("", []),
        (PYDANTIC, ["pydantic.ValidationError: 1 validation error for A", "name", "Field required [type=missing]"]),
        (
            "2 validation errors for Mug\nsize\n  Input should be a valid integer",
            ["2 validation errors for Mug", "size", "Input should be a valid integer"],
        ),
        (
            'Exception in thread "main" java.lang.IllegalStateException: no stock\n\tat shop.Stock.read(Stock.java:9)\n'
            "Caused by: java.sql.SQLException: connection refused\n\tat org.Db.open(Db.java:3)\n\t... 4 more",
            [
                'Exception in thread "main" java.lang.IllegalStateException: no stock',
                "Caused by: java.sql.SQLException: connection refused",
            ],
        ),
        (
            "2026-03-01 10:00:00.123 ERROR Stock - failed\njava.lang.NullPointerException: stock\n\tat a.B(C.java:1)",
            ["java.lang.NullPointerException: stock"],
        ),
        (
            "/app/x.js:10\n    throw new TypeError('no mug');\n    ^\n\nTypeError: no mug\n    at f (/app/x.js:10:3)",
            ["TypeError: no mug"],
        ),
        (
            "Error [ERR_X]: import failed\n    at f (/a.js:1:2)\n  [cause]: Error: connect ECONNREFUSED 10.0.0.7:5432",
            ["Error [ERR_X]: import failed", "[cause]: Error: connect ECONNREFUSED 10.0.0.7:5432"],
        ),
        (
            "panic: runtime error: index out of range [5] with length 3\n\ngoroutine 1 [running]:\n\t/x.go:8",
            ["panic: runtime error: index out of range [5] with length 3"],
        ),
        (
            "thread 'main' panicked at src/main.rs:4:5:\nindex out of bounds: the len is 3 but the index is 9",
            [
                "thread 'main' panicked at src/main.rs:4:5:",
                "index out of bounds: the len is 3 but the index is 9",
            ],
        ),
        (
            'psql:a.sql:3: NOTICE:  no table "mug"\nERROR:  duplicate key value violates unique constraint '
            '"mug_key"\nDETAIL:  Key (id)=(7) already exists.',
            ['ERROR:  duplicate key value violates unique constraint "mug_key"'],
        ),
        (
            "Unhandled exception. System.InvalidOperationException: no stock\n ---> System.TimeoutException: late",
            [
                "Unhandled exception. System.InvalidOperationException: no stock",
                "---> System.TimeoutException: late",
            ],
        ),
        (
            'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    read()',
            ["read()"],
        ),
        (
            "ModuleNotFoundError: No module named 'x'\n\nThe above exception was the direct cause of the following "
            "exception:\n\nImportError: plugin x cannot be loaded",
            ["ImportError: plugin x cannot be loaded", "ModuleNotFoundError: No module named 'x'"],
        ),
        ("The import stopped.\nNothing was stored.", ["The import stopped."]),
    ],
)
def test_the_telling_lines_are_found(text: str, lines: list[str]) -> None:
    assert telling_lines(text) == lines


def raised(error: BaseException) -> str:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - its traceback is the subject
        return "".join(traceback.format_exception(caught))


def test_real_tracebacks_with_causes_notes_and_groups_are_read() -> None:
    outer = RuntimeError("import failed")
    outer.__cause__ = ConnectionRefusedError("port 5432")
    outer.__cause__.__traceback__ = None
    text = raised(outer)
    assert telling_lines(text)[0] == "RuntimeError: import failed"
    group = raised(ExceptionGroup("unhandled errors in a TaskGroup", [ValueError("boom")]))
    assert "ValueError: boom" in telling_lines(group)
    assert telling_lines(raised(KeyError("mug")))[0] == "KeyError: 'mug'"

    class OutOfStock(Exception):
        """A name without the usual ending."""

    assert telling_lines(raised(OutOfStock("mug")))[0].endswith("OutOfStock: mug")


def test_the_cause_is_named_beside_the_error_that_ended_the_run() -> None:
    chained = textwrap.dedent(
        """\
        Traceback (most recent call last):
          File "a.py", line 2, in f
            connect()
        ConnectionRefusedError: port 5432

        The above exception was the direct cause of the following exception:

        Traceback (most recent call last):
          File "a.py", line 4, in f
            raise RuntimeError("import failed") from error
        RuntimeError: import failed
        """
    )
    assert telling_lines(chained) == ["RuntimeError: import failed", "ConnectionRefusedError: port 5432"]


@given(st.text(max_size=300))
def test_every_line_stands_in_the_text(text: str) -> None:
    assert all(line in text for line in telling_lines(text))


@pytest.mark.parametrize("piece", ["a.", "| ", "Caused by: ", "at\n", "Traceback (most recent call last):\n", "-+"])
def test_long_nasty_texts_are_read_in_time(piece: str) -> None:
    start = time.perf_counter()
    telling_lines(piece * 30_000)
    assert time.perf_counter() - start < 5
