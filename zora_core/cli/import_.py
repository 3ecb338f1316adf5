"""`zora import`: imports the records of the original system."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from zora_core.cli.common import json_option, print_json, run, session
from zora_core.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from zora_core.importing.importer import KindReport, Report


@click.command("import")
@click.option(
    "--from",
    "source",
    required=True,
    metavar="URL|FOLDER|FILE",
    help="The original's database (postgresql://…), a folder with a CSV or JSON file per table, or a JSON file.",
)
@click.option(
    "--source-schema", default="public", show_default=True, metavar="NAME", help="Schema of its tables, in a database."
)
@click.option(
    "--source-tenant", metavar="SLUG|ID", help="Tenant whose rows are imported; required if the source has several."
)
@click.option("--without-tenant", is_flag=True, help="Also import rows without a tenant.")
@click.option("--apply", "apply_", is_flag=True, help="Import; without it nothing is written.")
@json_option
@click.pass_context
def import_(
    ctx: click.Context,
    source: str,
    source_schema: str,
    source_tenant: str | None,
    without_tenant: bool,
    apply_: bool,
    as_json: bool,
) -> None:
    """Import tasks, records and settings of the original system. Only shows a preview without --apply.

    Existing rows are not changed, and imported tasks and schedules do not start by themselves. It can be repeated: a
    row is imported once.
    """  # fmt: skip
    from zora_core.agents.builtin import registry
    from zora_core.importing.fields import Context
    from zora_core.importing.importer import Importer, Report, choose_tenant
    from zora_core.importing.sources import masked, open_source

    async def take() -> Report:
        async with open_source(source, source_schema) as opened, session() as zora:
            tenant = choose_tenant(await opened.tenants(), source_tenant)
            user_id = (await zora.call("ensure_founder"))[0]["id"] if apply_ else None
            report = Report(masked(source), tenant, apply_)
            with _progress() as show:
                importer = Importer(
                    opened, zora.call, Context(registry()), report,
                    without_tenant=without_tenant, user_id=user_id, progress=show,
                )  # fmt: skip
                try:
                    await importer.run()
                except DatabaseUnavailable as error:
                    raise DatabaseUnavailable(
                        f"{error}; {report.taken if apply_ else 'no'} rows were written: run the same command again, "
                        "nothing is taken twice"
                    ) from error
            return report

    report = run(take())
    if as_json:
        print_json(report.shown())
        return
    from zora_core.cli.render_import import print_import

    print_import(report)
    if apply_ or not report.taken:
        click.echo("Done." if report.taken else "Nothing is left to take over.")
        return
    tenant = ctx.find_root().obj
    words = ["zora", *(["--tenant", tenant] if tenant else []), "import", "--from", masked(source)]
    words += ["--source-schema", source_schema] if source_schema != "public" else []
    words += ["--source-tenant", source_tenant] if source_tenant else []
    words += ["--without-tenant"] if without_tenant else []
    hidden = " (with the password for ***)" if masked(source) != source else ""
    click.echo(f"Nothing was written. To take it over{hidden}:\n{shlex.join([*words, '--apply'])}")


@contextmanager
def _progress() -> Iterator[Callable[[KindReport], object]]:
    """Show on a terminal which table is being read; the line disappears at the end."""
    if not sys.stderr.isatty():
        yield lambda report: None
        return
    from zora_core.cli.output import new_console

    with new_console(stderr=True).status("reading") as status:

        def show(report: KindReport) -> Any:
            return status.update(f"{report.name}: {report.found:,} read, {report.taken:,} taken")

        yield show


COMMANDS = (import_,)
