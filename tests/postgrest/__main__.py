"""Run the stand-in: `python -m tests.postgrest --database-url … --port … --jwt-secret …`; its first line is its URL."""

from __future__ import annotations

import asyncio
import signal

import click

from tests.postgrest import Config, prepare, serving


@click.command()
@click.option("--database-url", required=True, help="The authenticator's; with --prepare, a superuser's.")
@click.option("--prepare", "prepares", is_flag=True, help="Make Supabase's roles first, and connect as authenticator.")
@click.option("--jwt-secret", required=True, help="At least 32 characters.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, help="Any free one without it.")
@click.option("--schema", "schemas", multiple=True, default=("public",), show_default=True)
@click.option("--max-rows", default=1000, show_default=True)
def main(
    database_url: str, prepares: bool, jwt_secret: str, host: str, port: int, schemas: tuple[str, ...], max_rows: int
) -> None:
    """Serve /rest/v1/rpc/<function> until SIGINT or SIGTERM."""

    async def run() -> None:
        url = await prepare(database_url) if prepares else database_url
        config = Config(database_url=url, jwt_secret=jwt_secret, schemas=schemas, max_rows=max_rows)
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        async with serving(config, host=host, port=port) as served:
            print(served, flush=True)
            await ended.wait()

    asyncio.run(run())


if __name__ == "__main__":
    main()
