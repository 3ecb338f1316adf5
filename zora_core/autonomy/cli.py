"""The command line: `zora`, or `python -m zora_core.autonomy.cli`.

Exit status: 0 done, 1 something failed, 2 the call itself was wrong. `--json` prints data for programs.
"""

from __future__ import annotations

import logging
import sys

import click

from zora_core import __version__
from zora_core.autonomy.commands import database, demo, queue, records, runtime
from zora_core.errors import ConfigurationError, InvalidPayload, UnknownTaskType, ZoraError

_USAGE = (ConfigurationError, InvalidPayload, UnknownTaskType)


class Group(click.Group):
    """Lists commands in the order in which a newcomer meets them, and turns our errors into one line each."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of their definition."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an error raised on purpose is one line on stderr."""
        try:
            return super().invoke(ctx)
        except ZoraError as error:
            click.secho(f"error: {error}", fg="red", err=True)
            ctx.exit(2 if isinstance(error, _USAGE) else 1)


class _Brief(logging.Formatter):
    """One line per record; tracebacks only when asked for. What failed is recorded with its task in any case."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__("%(levelname)s %(message)s")
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        if not self._tracebacks:
            record.exc_info = record.exc_text = None
        return super().format(record)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zora")
@click.option("--tenant", metavar="SLUG|ID", help="Act for this tenant instead of ZORA_TENANT_ID's.")
@click.option("--verbose", is_flag=True, help="Show tracebacks of failed tasks.")
@click.pass_context
def main(ctx: click.Context, tenant: str | None, verbose: bool) -> None:
    """Six agents, one task queue in PostgreSQL, evidence for everything they say."""
    ctx.obj = tenant
    handler = logging.StreamHandler()
    handler.setFormatter(_Brief(tracebacks=verbose))
    logging.getLogger("zora").handlers = [handler]


for module in (demo, runtime, queue, records, database):
    for command in module.COMMANDS:
        main.add_command(command)


if __name__ == "__main__":
    sys.exit(main(prog_name="zora"))
