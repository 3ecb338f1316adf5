"""Reading what a page loads, so that style sheets take part in the checks and the whole page is weighed."""

from __future__ import annotations

import asyncio
import re
import typing
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from zora_core.errors import FetchFailed, InvalidInput

if typing.TYPE_CHECKING:
    from zora_core.agents.context import TaskContext
    from zora_core.skills.page import Page, Resource

MAX_RESOURCES = 40
MAX_STYLE_BYTES = 3_000_000
TIME_LIMIT_SECONDS = 45.0


@dataclass(frozen=True)
class Assets:
    """A page with its style sheets and its weight; `unread` names what it loads that could not be read, and why."""

    page: Page
    read: int
    unread: dict[str, str]

    @property
    def complete(self) -> bool:
        """Whether everything that the markup names was read."""
        return not self.unread


async def with_assets(page: Page, ctx: TaskContext, *, only: frozenset[str] | None = None) -> Assets:
    """Read at most `MAX_RESOURCES` things the page loads, of the kinds in `only`, within `TIME_LIMIT_SECONDS`.

    Where `ctx` reads files, `page.url` is a `file:` address and so are the page's resources. A resource that cannot be
    read never fails the task: it is named in `unread`.
    """
    from zora_core.skills.page.dom import shorten

    wanted = await ctx.compute(_wanted, page, only)
    sheets: dict[str, str] = {}
    weights: list[int] = []
    unread: dict[str, str] = {}
    if len(wanted) > MAX_RESOURCES:
        unread[f"{len(wanted) - MAX_RESOURCES} more"] = f"only the first {MAX_RESOURCES} resources were read"
    pending = wanted[:MAX_RESOURCES]
    room = MAX_STYLE_BYTES
    try:
        async with asyncio.timeout(TIME_LIMIT_SECONDS):
            while pending:
                try:
                    body, weight = await _read(pending[0], page, ctx)
                    weights.append(weight)
                    if pending[0].kind == "stylesheet":
                        if len(body) > room:
                            raise InvalidInput(f"the style sheets together have more than {MAX_STYLE_BYTES:,} bytes")
                        room -= len(body)
                        sheets[pending[0].reference] = body.decode("utf-8", "replace")
                except (InvalidInput, FetchFailed) as error:
                    unread[shorten(pending[0].reference, 200)] = str(error)
                pending.pop(0)
    except TimeoutError:
        unread |= {shorten(r.reference, 200): f"not read within {TIME_LIMIT_SECONDS:g} seconds" for r in pending}
    weight = (page.transfer_bytes or page.html_bytes) + sum(weights)
    return Assets(page.loaded(sheets, weight), len(weights), unread)


def _wanted(page: Page, only: frozenset[str] | None) -> list[Resource]:
    return [resource for resource in page.resources if only is None or resource.kind in only]


async def _read(resource: Resource, page: Page, ctx: TaskContext) -> tuple[bytes, int]:
    """The bytes of a resource and how many of them travel."""
    parts = urlsplit(resource.url)
    if parts.scheme in {"http", "https"} and page.url:
        answer = await ctx.fetch(resource.url)
        if answer.status >= 400:
            raise InvalidInput(f"{resource.url} answered {answer.status}")
        length = answer.headers.get("content-length", "")
        return answer.body, int(length) if re.fullmatch(r"[0-9]{1,18}", length) else len(answer.body)
    if parts.scheme == "file" and urlsplit(page.url or "").scheme == "file":
        data = await ctx.file(unquote(parts.path))
        return data, len(data)
    raise InvalidInput("the page was given without an address to load it from")
