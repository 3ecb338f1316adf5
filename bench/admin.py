"""What the admin pages cost, each figure as a ratio within one run.

    python bench/admin.py [pages] [settle] [--smoke] [--tasks 1000000] [--open 50] …

Starts a PostgreSQL of its own (embedded, its default settings) and ends it; servers are `zora serve --no-worker` in
processes of their own, as a user starts them, but without a rate limit.

- pages: how long the server takes for each view of the tasks over `--tasks` tasks. Against the same view over 1,000, in
  another database; also what is transferred.
- settle: tasks claimed and settled per second as in drain.py, with `--open` live pages open against none. The pages
  show the running tasks, and are told once a second what has changed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import uvloop
from drain import checkpoint, drain_functions, enqueue
from serving import Contenders, Server, database_for, founder_key, in_turns, load, report, zora_server
from websockets.asyncio.client import connect as open_websocket

from zora_core.database.embedded import EmbeddedServer
from zora_core.database.postgres import connect

VIEWS = {
    "needs you": "/admin/agents/tasks",
    "live": "/admin/agents/tasks?view=live",
    "failed": "/admin/agents/tasks?view=failed",
    "all": "/admin/agents/tasks?view=all",
    "all, of an agent": "/admin/agents/tasks?view=all&agent=SAM&status=completed",
    "all, waiting": "/admin/agents/tasks?view=all&waiting=approval",
    "all, last day": "/admin/agents/tasks?view=all&within=day",
    "all, a word of most": "/admin/agents/tasks?view=all&q=improve",
}


async def visitor(server: Server) -> httpx.AsyncClient:
    """A client that has signed in."""
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False, timeout=60)
    answer = await client.post("/admin/sign-in", data={"key": server.key}, headers={"Origin": str(client.base_url)})
    assert answer.status_code == 303, answer.text
    return client


async def pages(arguments: argparse.Namespace, url: str) -> None:
    """A page over many tasks against one over few."""
    urls = {}
    for name, tasks in {"few": 1000, "many": arguments.tasks}.items():
        urls[name] = await database_for(url, name)
        started = time.perf_counter()
        await load(urls[name], tasks)
        print(f"pages   {tasks:,} tasks loaded in {time.perf_counter() - started:.0f} s")
    await checkpoint(url)
    keys = {name: await founder_key(url) for name, url in urls.items()}
    ratios = {}
    with zora_server(urls["few"], keys["few"]) as few, zora_server(urls["many"], keys["many"]) as many:
        clients = [await visitor(few), await visitor(many)]
        for name, path in VIEWS.items():
            times: tuple[list[float], list[float]] = ([], [])
            for turn in range(arguments.requests):
                for side in (0, 1) if turn % 2 else (1, 0):
                    started = time.perf_counter()
                    answer = await clients[side].get(path)
                    times[side].append(1000 * (time.perf_counter() - started))
                    assert answer.status_code == 200, answer.text
            less, more = (statistics.median(side) for side in times)
            ratios[name] = more / less
            size = answer.num_bytes_downloaded
            print(f"pages   {name:22} {more:6.1f} ms against {less:6.1f} ms, {size:6,} bytes  {more / less:.2f}")
        for client in clients:
            await client.aclose()
    worst = max(ratios, key=lambda name: ratios[name])
    print(f"pages   worst of {len(ratios)}: {ratios[worst]:.2f} ({worst})")


@asynccontextmanager
async def opened(server: Server, number: int) -> AsyncIterator[list[int]]:
    """So many live pages; gives how many messages each was sent."""
    client = await visitor(server)
    cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.cookies.jar)
    told = [0] * number
    heard = [asyncio.Event() for _ in told]

    async def listen(index: int, stack: AsyncExitStack) -> asyncio.Task[None]:
        address = f"ws://127.0.0.1:{server.port}/admin/live?lanes=1"
        origin = f"http://127.0.0.1:{server.port}"
        page = await stack.enter_async_context(
            open_websocket(address, additional_headers={"Cookie": cookie}, origin=origin, proxy=None)  # type: ignore[arg-type]
        )

        async def count() -> None:
            async for _ in page:
                told[index] += 1
                heard[index].set()

        return asyncio.create_task(count())

    async with AsyncExitStack() as stack:
        counting = [await listen(index, stack) for index in range(number)]
        await asyncio.gather(*(first.wait() for first in heard))
        yield told
    await asyncio.wait(counting)
    await client.aclose()


async def settle(arguments: argparse.Namespace, url: str) -> None:
    """The drain rate, with and without open pages."""
    url = await database_for(url, "settled")
    database = await connect(url)

    async def drain() -> float:
        await checkpoint(url)
        await enqueue(url, arguments.drained)
        return await drain_functions(database, arguments.drained)

    messages: list[int] = []
    with zora_server(url, await founder_key(url)) as server:

        async def with_pages() -> float:
            async with opened(server, arguments.open) as told:
                before = sum(told)
                rate = await drain()
                messages.append(sum(told) - before)
            return rate

        await drain()
        contenders: Contenders = {"no page": drain, f"{arguments.open} live pages": with_pages}
        report("settle", await in_turns(arguments.rounds, contenders), "tasks/s")
    print(f"settle  {statistics.median(messages):,.0f} messages were sent in a round")
    await database.close()


PARTS: dict[str, Callable[[argparse.Namespace, str], Coroutine[None, None, None]]] = {"pages": pages, "settle": settle}


async def main(arguments: argparse.Namespace, url: str) -> None:
    """Run the parts, one after the other."""
    for name in arguments.parts or PARTS:
        await PARTS[name](arguments, url)


SMOKE = {"rounds": 1, "tasks": 20_000, "requests": 3, "open": 5, "drained": 1000}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--smoke", action="store_true", help="small sizes: whether it runs, not how fast")
    parser.add_argument("--tasks", type=int, default=1_000_000, help="of pages")
    parser.add_argument("--requests", type=int, default=40, help="per view of pages")
    parser.add_argument("--open", type=int, default=50, help="live pages of settle")
    parser.add_argument("--rounds", type=int, default=11, help="of settle")
    parser.add_argument("--drained", type=int, default=20_000, help="tasks per round of settle")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown part {min(unknown)!r} (known: {', '.join(PARTS)})")
    if arguments.smoke:
        vars(arguments).update(SMOKE)
    with tempfile.TemporaryDirectory(prefix="zora-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedServer.at(Path(folder) / "home")
        try:
            uvloop.run(main(arguments, server.start()))
        finally:
            server.release()
