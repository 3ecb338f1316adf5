"""Commands for the journal: list, seal, verify, export, anchor, and erase a text."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from zora_core.cli.common import Session, json_option, print_json, run, session
from zora_core.errors import ConfigurationError, NotFound, ZoraError
from zora_core.settings import load_settings
from zora_core.suggested_command import zora_command
from zora_core.visible import visible_json

if TYPE_CHECKING:
    from zora_core.journal.canonical import Header
    from zora_core.journal.keys import Anchor
    from zora_core.journal.verification import Report

OVER_HTTP = (
    "Over HTTP the database's functions are asked, which its owner can replace: verifying an export that somebody else "
    "holds, or over a connection string, proves more."
)

WAIT_SECONDS = 8.0  # for entries to be old enough to be sealed


@click.group(invoke_without_command=True)
@click.option("--category", help="release, decision, incident, agent_action, …")
@click.option("--task", help="Only entries of this task.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
@click.pass_context
def journal(ctx: click.Context, category: str | None, task: str | None, limit: int, as_json: bool) -> None:
    """List the journal, newest entry first; seal, verify, anchor and export it."""
    if ctx.invoked_subcommand is not None:
        return

    async def read() -> list[dict[str, Any]]:
        async with session() as zora:
            task_id = (await zora.task(task))["id"] if task else None
            return await zora.call("list_journal_entries", category=category, task_id=task_id, limit=limit)

    rows = run(read())
    if as_json:
        print_json(rows)
        return
    from zora_core.cli.render import print_journal

    print_journal(rows)


@journal.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option(
    "--anchor",
    "anchors",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with anchors that somebody else kept; repeatable.",
)
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    metavar="HEX",
    help="Public key that you trust, in addition to this machine's; repeatable.",
)
@json_option
@click.pass_context
def verify(
    ctx: click.Context, file: Path | None, anchors: tuple[Path, ...], public_keys: tuple[str, ...], as_json: bool
) -> None:
    """Check that no sealed entry was changed, removed, inserted or moved.

    Reads the database, or the export FILE. Status 1 when it is not; the entries that were changed, removed, inserted or
    moved are named, the first one first.
    """
    held = [(str(path), anchor) for path in anchors for anchor in _read_anchors(path)]
    trusted = {_read_public_key(text) for text in public_keys} | {bytes.fromhex(a.public_key) for _, a in held}
    report = _verify_export(file, held, trusted) if file else run(_verify_stored(held, trusted))
    if as_json:
        print_json(report.shown())
    else:
        from zora_core.cli.render_journal import print_report

        print_report(report)
    if file is None and load_settings().supabase_url:
        click.echo(OVER_HTTP, err=True)
    if not report.ok:
        ctx.exit(1)


async def _verify_stored(held: list[tuple[str, Anchor]], trusted: set[bytes]) -> Report:
    from zora_core.journal.verification import verify_stored

    async with session() as zora:
        tenant_id = zora.settings.tenant_id
        (counted,) = await zora.database.read("journal_entries_after", tenant_id, after=UUID(int=0))
        with _progress(counted["entries"], "entries") as advance:
            return await verify_stored(
                zora.database, zora.settings, tenant_id, trusted=trusted, anchors=held, advance=advance
            )


def _verify_export(file: Path, held: list[tuple[str, Anchor]], trusted: set[bytes]) -> Report:
    from zora_core.journal.keys import public_key
    from zora_core.journal.reading import exported
    from zora_core.journal.verification import Verifier

    ours = public_key(load_settings())
    verifier = Verifier(trusted=trusted | ({ours} if ours else set()), anchors=held)
    with _progress(file.stat().st_size, "bytes") as advance:
        for block, entries in exported(file, verifier.problem, advance):
            verifier.take(block, entries)
    return verifier.finish()


@contextmanager
def _progress(total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on a terminal; it disappears at the end."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from zora_core.cli.output import new_console

    columns = (TextColumn("[dim]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=new_console(stderr=True), transient=True) as progress:
        task = progress.add_task(unit, total=total)
        yield lambda done: progress.advance(task, done)


def _read_anchors(path: Path) -> list[Anchor]:
    from zora_core.journal.keys import Anchor

    try:
        return [Anchor.parse(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is not a file of anchors: {error}") from error


def _read_public_key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise click.BadParameter("a public key is 64 hexadecimal digits", param_hint="--public-key")
    return key


@journal.command()
@click.argument("file", type=click.Path(dir_okay=False, writable=True, path_type=Path), required=False)
def export(file: Path | None) -> None:
    """Write entries and proofs as lines of JSON.

    To FILE, or to the standard output.
    """
    from zora_core.journal.reading import write_export

    async def read() -> dict[str, int]:
        async with session() as zora:
            (counted,) = await zora.database.read("journal_entries_after", zora.settings.tenant_id, after=UUID(int=0))
            with (
                file.open("w", encoding="utf-8") if file else nullcontext(sys.stdout) as output,
                _progress(counted["entries"], "entries") as advance,
            ):
                write = output.write if file else lambda line: output.write(visible_json(line))
                return await write_export(zora.database, zora.settings.tenant_id, write, advance)

    counts = run(read())
    from zora_core.cli.render_journal import count, entries

    click.echo(
        f"Exported {entries(counts['entries'])} in {count(counts['blocks'], 'block')}, and {counts['unsealed']:,} not "
        f"sealed. `{shlex.join(['zora', 'journal', 'verify', str(file or 'FILE')])}` verifies them anywhere.",
        err=True,
    )


@journal.command()
@click.option("--to", metavar="FILE|URL", help="Append the anchor to a file, or POST it to a URL.")
def anchor(to: str | None) -> None:
    """Print the last block's hash, an anchor for somebody else to keep.

    The anchor proves later if the end of the journal was cut off or rewritten: `zora journal verify --anchor FILE`.
    """
    found = run(_anchor())
    if to is None:
        click.echo(found.line())
        return
    if to.startswith(("http://", "https://")):
        _post(to, found)
    else:
        try:
            with Path(to).open("a", encoding="utf-8") as file:
                file.write(found.line() + "\n")
        except OSError as error:
            raise ConfigurationError(f"the anchor cannot be appended to {to}: {error.strerror}") from error
    click.echo(f"Block {found.number}, sealed at {found.sealed_at}, is anchored in {to}.")


async def _anchor() -> Anchor:
    from zora_core.journal.keys import signed_by
    from zora_core.journal.sealing import anchor_of, last_header

    async with session() as zora:
        last = await last_header(zora.database, zora.settings)
    if last is None:
        raise NotFound(f"nothing is sealed yet: `{zora_command('journal', 'seal')}` seals what can be sealed")
    header, signature = last
    try:
        found = anchor_of(header)
    except ValueError as error:
        raise ZoraError(f"the last block is unreadable: {error}. Run `{zora_command('journal', 'verify')}`") from error
    if not signed_by(bytes.fromhex(found.public_key), header, signature):
        raise ZoraError(f"the signature of block {found.number} is wrong: run `{zora_command('journal', 'verify')}`")
    return found


def _post(url: str, found: Anchor) -> None:
    import httpx

    try:
        httpx.post(url, json=json.loads(found.line()), timeout=30).raise_for_status()
    except httpx.HTTPError as error:
        raise ZoraError(f"the anchor was not accepted by {url}: {error}") from error


@journal.command()
@click.argument("entry")
@click.option("--reason", required=True, help="Reason. It is stored in the journal: do not name a person in it.")
@click.option("--user", metavar="EMAIL", help="User who erases it [the founder].")
@json_option
def erase(entry: str, reason: str, user: str | None, as_json: bool) -> None:
    """Erase an entry's text, but keep its proof.

    Title, body and details are gone for ever. Their digest stays, so that the journal can still be verified. That it
    was erased, when, by whom and why becomes an entry of its own. ENTRY is an id or the end of one.
    """

    async def write() -> dict[str, Any]:
        async with session() as zora:
            if user is None:
                (who,) = await zora.call("ensure_founder")
            else:
                (who,) = await zora.call("ensure_user", email=user)
            return (await zora.call("erase_journal_entry", id=entry, reason=reason, user_id=who["id"]))[0]

    row = run(write())
    if as_json:
        print_json(row)
        return
    click.echo(
        f"Erased the text of {row['related_entity_ids'][0]}. Copies of it may be in the task, in memories, in exports "
        "and in backups: this does not reach them."
    )


@journal.command()
@click.option(
    "--new-key", is_flag=True, help="Sign with this machine's key from now on, although another key signed before."
)
@click.option(
    "--forget-head", is_flag=True, help="After restoring a backup: continue from the last block in the database."
)
@click.option("--wait/--no-wait", default=True, help="Wait until the latest entries can be sealed, too.")
def seal(new_key: bool, forget_head: bool, wait: bool) -> None:
    """Seal the journal now.

    `zora run-loop` and `zora serve` do it by themselves. Entries can be sealed when they are 5 seconds old.
    """

    async def write() -> tuple[list[Header], int]:
        async with session() as zora:
            return await _seal(zora, new_key, forget_head, WAIT_SECONDS if wait else 0)

    sealed, left = run(write())
    from zora_core.cli.render_journal import count, entries

    said = f"Sealed {entries(sum(header.entries for header in sealed))} in {count(len(sealed), 'block')}"
    said += f", signed by {sealed[-1].public_key.hex()}." if sealed else "."
    if left:
        said += f" {left:,} are too new, or an open transaction may still put others before them."
    click.echo(said)


async def _seal(zora: Session, new_key: bool, forget_head: bool, seconds: float) -> tuple[list[Header], int]:
    from zora_core.journal.sealing import Sealer, unsealed

    sealer = Sealer(zora.database, zora.settings)
    if forget_head:
        sealer.forget()
    sealed: list[Header] = []
    wanted = await unsealed(zora.database, zora.settings)
    until = time.monotonic() + seconds
    while True:
        while header := await sealer.seal(min_age_seconds=0, new_key=new_key):
            sealed.append(header)
        if sum(header.entries for header in sealed) >= wanted or time.monotonic() > until:
            return sealed, await unsealed(zora.database, zora.settings)
        await asyncio.sleep(0.5)


COMMANDS = (journal,)
