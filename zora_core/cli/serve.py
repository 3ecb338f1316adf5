"""`zora serve`: the admin pages and the API over HTTP and WebSocket, with the runtime beside them."""

from __future__ import annotations

import sys
from typing import Any

import click

from zora_core.cli.common import session
from zora_core.cli.interrupts import ending_soon, interrupt_work
from zora_core.cli.runtime import sleep_option, worker_options
from zora_core.suggested_command import zora_command

LINK_SECONDS = 3600


@click.command()
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; other than loopback requires ZORA_JWT_SECRET.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 uses any free one."
)
@click.option("--no-worker", is_flag=True, help="Run no tasks; `zora run-loop` runs them elsewhere.")
@worker_options
@sleep_option
@click.option(
    "--rate-limit", type=click.IntRange(0), default=6000, show_default=True, envvar="ZORA_RATE_LIMIT",
    help="Maximum requests per minute for each credential; 0: unlimited.",
)  # fmt: skip
@click.option("--quiet", is_flag=True, help="No line per request.")
def serve(
    host: str, port: int, no_worker: bool, sleep_seconds: float, rate_limit: int, quiet: bool, **options: Any
) -> None:
    """Serve the admin pages and the API, and run tasks as they arrive, until Ctrl-C."""
    import asyncio
    import logging

    from zora_core.autonomy.runtime import AgentRuntime
    from zora_core.cli.progress import Progress
    from zora_core.database.backoff import retrying
    from zora_core.server import serve as server
    from zora_core.settings import load_settings

    logging.getLogger("zora.api").setLevel(logging.WARNING if quiet else logging.INFO)

    async def work() -> None:
        # What is wrong with the call is said before a database is started.
        server.check_binding(host, load_settings())
        with server.bind(host, port) as listener:
            async with (
                session(wait=True) as zora,
                server.api_for(zora.database, zora.settings, requests_per_minute=rate_limit) as api,
            ):
                url = server.url_of(listener)
                click.echo(f"The admin pages are at {url}/admin, the API's description at {url}/docs.", err=True)
                # A link is a credential: only a person at the terminal sees it, no log file and no container's output.
                if zora.settings.embedded and sys.stderr.isatty():
                    (founder,) = await retrying(zora.database, lambda: zora.call("ensure_founder"))
                    link = await retrying(
                        zora.database,
                        lambda: server.sign_in_link(
                            zora.database, zora.settings.tenant_id, founder["id"], url, LINK_SECONDS
                        ),
                    )
                    click.echo(f"Sign in as {founder['email']}, once, within the next hour:\n  {link}", err=True)
                else:
                    link_command = zora_command("keys", "link", "--url", url)
                    click.echo(f"`{link_command}` creates a sign-in link.", err=True)
                click.echo("Ctrl-C to stop.", err=True)
                with Progress(quiet=no_worker, lines=True) as progress:
                    runtime = None
                    if not no_worker:
                        runtime = progress.runtime = AgentRuntime(
                            settings=zora.settings, database=zora.database, observe=progress.observe, **options
                        )
                    await server.serve(api, listener, runtime, sleep_seconds=sleep_seconds)

    with ending_soon():
        if sys.platform == "win32":
            interrupt_work()
            asyncio.run(work())
        else:
            import uvloop

            interrupt_work()
            uvloop.run(work())


COMMANDS = (serve,)
