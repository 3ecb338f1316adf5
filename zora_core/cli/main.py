"""The command line: `zora`, or `python -m zora_core.cli`.

Exit status: 0 done, 1 something failed, 2 the call or the configuration was wrong, 130 Ctrl-C. `--json` prints data for
programs.
"""

from __future__ import annotations

from typing import Any

import click

from zora_core import __version__
from zora_core.cli import (
    ask,
    database,
    decisions,
    demo,
    import_,
    journal,
    keys,
    queue,
    records,
    runtime,
    schedules,
    serve,
    tenants,
    workflows,
)
from zora_core.cli.output import print_error, visible_output
from zora_core.errors import (
    ConfigurationError,
    InvalidPayload,
    RetriesExhausted,
    UnexpectedAnswer,
    UnknownTaskType,
    ZoraError,
)
from zora_core.logs import set_up_logging
from zora_core.storable import problem
from zora_core.suggested_command import act_for

_USAGE = (ConfigurationError, InvalidPayload, RetriesExhausted, UnexpectedAnswer, UnknownTaskType)


class Group(click.Group):
    """Lists commands in the order in which a newcomer meets them, and turns our errors into one line each."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of their definition."""
        return list(self.commands)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command whose every output goes through `visible_output`, errors and usage included."""
        with visible_output():
            return super().main(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse arguments that are not text, before any command looks at them."""
        for place, argument in enumerate(args, 1):
            if said := problem(argument, f"argument {place}"):
                raise click.UsageError(said, ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an error raised on purpose is one line on stderr, and Ctrl-C is none."""
        try:
            return super().invoke(ctx)
        except (ZoraError, ExceptionGroup) as raised:
            error = _the_error(raised)
            if error is None:
                raise
            print_error(f"error: {error}")
            ctx.exit(2 if isinstance(error, _USAGE) else 1)
        except KeyboardInterrupt:
            ctx.exit(130)


def _the_error(raised: Exception) -> ZoraError | None:
    """The error to show for one, or for several loops that ended together; None when one is not raised on purpose."""
    if isinstance(raised, ZoraError):
        return raised
    assert isinstance(raised, ExceptionGroup)
    known = [error for error in raised.exceptions if isinstance(error, ZoraError | ExceptionGroup)]
    found = [_the_error(error) for error in known]
    return found[0] if len(known) == len(raised.exceptions) and None not in found else None


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zora")
@click.option("--tenant", metavar="SLUG|ID", help="Act for this tenant; overrides ZORA_TENANT_ID.")
@click.option("--verbose", is_flag=True, help="Show tracebacks of failed tasks.")
@click.pass_context
def main(ctx: click.Context, tenant: str | None, verbose: bool) -> None:
    """Run and manage six AI agents that work through a task queue in PostgreSQL."""
    ctx.obj = tenant
    act_for(tenant)
    ctx.call_on_close(lambda: act_for(None))
    set_up_logging(tracebacks=verbose)


for module in (
    demo,
    ask,
    runtime,
    serve,
    queue,
    decisions,
    workflows,
    schedules,
    journal,
    records,
    keys,
    tenants,
    database,
    import_,
):
    for command in module.COMMANDS:
        main.add_command(command)
