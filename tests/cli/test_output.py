"""No terminal obeys what is stored: every command is run on rows of every kind, full of escapes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import click
import pytest

from tests.conftest import Server
from tests.rows import Rows
from zora_core.cli import render
from zora_core.cli.main import main
from zora_core.cli.output import VisibleStream, new_console, visible_output
from zora_core.settings import DEFAULT_TENANT_ID
from zora_core.visible import odd_words, visible, visible_json

# A colour, a title, a link, a C1 escape, a carriage return, reversed text, nothing to see, and a look-alike.
ESCAPES = "\x1b[31m\x1b]0;x\x07\x9b2J\r\u202e\u200b\u2066\U000e0041"
# They go on until they are stopped, or end a server that other tests use.
NOT_RUN = {("serve",), ("run-loop",), ("demo",), ("db", "stop"), ("ask",)}


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = {path: command for path, command in leaves(main) if path not in NOT_RUN}


@pytest.fixture(scope="module")
def rows(embedded: Server) -> Rows:
    """Rows in a database of this module."""

    async def fill() -> Rows:
        url = await embedded._make("output")
        connection = await asyncpg.connect(embedded.database_url("output"))
        try:
            await connection.execute((Path(__file__).parents[1] / "empty.sql").read_text())
            made = Rows(connection, ESCAPES)
            await made.every_kind()
        finally:
            await connection.close()
        assert not url
        return made

    return asyncio.run(fill())


@pytest.fixture
def run(embedded: Server, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command in this process; gives its status and everything that it wrote."""
    monkeypatch.setenv("DATABASE_URL", embedded.database_url("output"))
    monkeypatch.setenv("ZORA_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str) -> tuple[int, str, str]:
        said, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
            try:
                main(list(words), prog_name="zora")
                status: Any = 0
            except SystemExit as ended:
                status = ended.code
        return int(status or 0), said.getvalue(), errors.getvalue()

    return call


def arguments(path: tuple[str, ...], command: click.Command, rows: Rows) -> Iterator[list[str]]:
    """Words with which a command finds something: the end of each row's id, or the text itself."""
    tables = {
        "task": "agent_tasks", "suggestion": "agent_suggestions", "run_id": "workflow_runs", "entry": "journal_entries",
        "schedule": "autonomy_schedules",
    }  # fmt: skip
    fixed = {"number": "1", "cron": "0 6 * * *", "older_than_days": "9999", "agent": "SAM"}
    wanted = [a for a in command.params if isinstance(a, click.Argument) and (a.required or path[0] == "create-task")]
    options = []
    for option in command.params:
        if isinstance(option, click.Option) and (option.required or option.name in ("yes", "reason")):
            options += [option.opts[-1]] if option.is_flag else [option.opts[-1], fixed.get(option.name or "", ESCAPES)]
    named = next((tables[a.name] for a in wanted if a.name in tables), None)
    reads = path[-1] in ("show", "explain", "status")
    for row_id in (rows.ids[named][::3] if reads else rows.ids[named][:4]) if named else [""]:
        yield [*(row_id if a.name in tables else fixed.get(a.name or "", ESCAPES) for a in wanted), *options]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_command_writes_what_a_terminal_obeys(run: Any, rows: Rows, path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    as_json = any(option.name == "as_json" for option in command.params)
    for words in arguments(path, command, rows):
        for more in ([], ["--json"]) if as_json else ([],):
            status, said, errors = run(*path, *words, *more)
            for text in (said, errors):
                assert unsafe(text) == set(), f"{path} {words} {more}"
            if more and status == 0:
                json.loads(said)


def unsafe(text: str) -> set[str]:
    """Characters that a terminal obeys, or that hide or reorder text."""
    obeyed = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return {char for char in text if unicodedata.category(char) in obeyed and char not in "\n\t"}


def test_the_count_of_open_suggestions_is_exact(run: Any, embedded: Server) -> None:
    async def truth() -> int:
        connection = await asyncpg.connect(embedded.database_url("output"))
        try:
            await connection.execute(
                "insert into agent_suggestions (tenant_id, agent_id, suggestion_type, title, evidence, risk_level) "
                "select $1, 'SAM', 'advice', 't', '[]', 'low' from generate_series(1, 60)",
                DEFAULT_TENANT_ID,
            )
            query = "select count(*) from agent_suggestions where status = 'proposed' and tenant_id = $1"
            return int(await connection.fetchval(query, DEFAULT_TENANT_ID))
        finally:
            await connection.close()

    there_are = asyncio.run(truth())
    assert there_are > 50
    counted = json.loads(run("status", "--json")[1])
    assert (counted["suggestions_proposed"], counted["suggestions_proposed_is_more"]) == (there_are, False)
    assert f"{there_are} suggestions wait for a person" in run("status")[1]


def test_whatever_is_written_while_a_command_runs_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    with visible_output():
        print(ESCAPES)
        click.echo(ESCAPES)
        click.secho(ESCAPES, fg="red")
        new_console().print(ESCAPES, markup=False)
        new_console().print({"a": [ESCAPES]})
    said = capsys.readouterr().out
    assert unsafe(said) == set()
    assert said.count("\\x9b2J") == said.count("\\u202e\\u200b\\u2066\\U000e0041") == 5


def test_a_stream_has_no_way_round_it() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with pytest.raises(AttributeError):
        VisibleStream(stream).buffer  # noqa: B018 - what is asked for is the error


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größer, 日本語, नमस्ते, 👍🏽 ❤️", "plain, größer, 日本語, नमस्ते, 👍🏽 ❤️"),
        ("a\u00a0b\tc\nd", "a\u00a0b\tc\nd"),
        ("a\x00b\x7fc\x85", "a\\x00b\\x7fc\\x85"),
        ("\u2028\u061c\ufeff\u00ad", "\\u2028\\u061c\\ufeff\\xad"),
        ("\u3164\u2800\ufe00\ud800", "\\u3164\\u2800\\ufe00\\ud800"),
    ],
)
def test_text_is_shown_as_it_is_but_for_what_hides(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert json.loads(visible_json(json.dumps(text, ensure_ascii=False))) == text


def test_words_that_mix_look_alike_scripts_are_found() -> None:
    text = (
        "pay at p\u0430ypal.com, not at paypal.com; \u041c\u043e\u0441\u043a\u0432\u0430, K\u00f6ln, \u6771\u4eacTower"
    )
    assert odd_words(text) == [(7, 13, "letters of several scripts: Cyrillic, Latin")]
    assert odd_words("\U0001d429aypal and \uff50aypal")[0][2] == "letters of several scripts: Latin, Mathematical"


# In Cyrillic: paypa with a palochka, scope, Access; in Greek: KIVOTE without its sense, AXIOM without its M; Armenian.
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pay at \u0440\u0430\u0443\u0440\u0430\u04cf today", ["paypal"]),
        ("https://\u0440\u0430\u0443\u0440\u0430\u04cf.com/login", ["paypal"]),
        ("\u0440\u0430\u0443\u0440\u0430\u04cf", ["paypal"]),
        ("the \u0455\u0441\u043e\u0440\u0435 of the \u0410\u0441\u0441\u0435\u0455\u0455", ["scope", "Access"]),
        ('{"title": "Цены", "from": "\u0440\u0430\u0443\u0440\u0430\u04cf"}', ["paypal"]),
        ("set \u039f\u039a to \u0391\u03a5\u03a4\u039f", ["OK", "AYTO"]),
        ("say \u0570\u0578\u0578\u0578", ["hnnn"]),
        (
            "\u041c\u043e\u0441\u043a\u0432\u0430 pay with \u0440\u0430\u0443\u0440\u0430\u04cf or by card "
            "\u0432\u0447\u0435\u0440\u0430",
            ["paypal"],
        ),
    ],
)
def test_words_wholly_of_look_alike_letters_are_found_among_latin_words(text: str, words: list[str]) -> None:
    found = odd_words(text)
    assert [why.rpartition("\u201c")[2].rstrip("\u201d") for _, _, why in found] == words
    assert all(why.startswith("only ") for _, _, why in found)


@pytest.mark.parametrize(
    "text",
    [
        "На стройке работает сосед, он несёт хорошую рассаду на базар.",
        "Мы ждём рост цен, а не хаос.",
        "Увы, рост.",
        '{"page": "home", "title": "Рост цен", "link": "https://example.com"}',
        "Сухой сахар рассыпан: 3 кг, PayPal не принимаем, только наличные от соседа.",
        "Ο νέος άνθρωπος έχει ένα όνομα και το ΟΧΙ του είναι γνωστό.",
        "ΤΟ ΚΑΤΑΣΤΗΜΑ ΕΙΝΑΙ ΚΛΕΙΣΤΟ ΚΑΙ ΤΟ ΤΑΜΕΙΟ",
        "Սա հոս է, և մենք գնում ենք տուն։",
        "the α of 0.05, σ and ρ, x² and μ",
        "naïve Köln, Zürich, 東京",
    ],
)
def test_words_of_a_sentence_in_its_own_script_are_left_alone(text: str) -> None:
    assert odd_words(text) == []


def test_no_command_has_an_option_twice() -> None:
    def commands(command: click.Command) -> Iterator[click.Command]:
        yield command
        for below in command.commands.values() if isinstance(command, click.Group) else ():
            yield from commands(below)

    for command in commands(main):
        spelled = [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)]
        assert len(spelled) == len(set(spelled)), command.name


def test_a_text_with_a_command_has_no_line_break_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    console = new_console()
    console.width = 40
    line = "Nothing runs until `zora schedules resume 'The digest of every Monday morning'`."
    console.print(render.text(line))
    console.print(render.text(line.replace("`", "")))
    whole, *wrapped = capsys.readouterr().out.splitlines()
    assert whole == line
    assert len(wrapped) > 1
