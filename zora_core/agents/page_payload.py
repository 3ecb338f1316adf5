"""The three ways in which a payload names a page: by key, by address, or as markup."""

from __future__ import annotations

import typing
from collections.abc import Sequence

from pydantic import ConfigDict, Field, model_validator

from zora_core.agents.agent import Payload
from zora_core.errors import InvalidInput
from zora_core.models import Evidence, ground, identity

if typing.TYPE_CHECKING:
    from zora_core.agents.context import TaskContext
    from zora_core.skills.page import Page


INLINE = "html"  # the name of a page that is given as markup
_NULL = {"type": "null"}
# What `_one_page` checks, for readers of the schema; a subclass whose schema has more of its own takes it along.
ONE_PAGE: dict[str, typing.Any] = {
    "anyOf": [
        {"properties": {"url": _NULL, "html": _NULL}},
        {"properties": {"page": False, "html": _NULL}, "required": ["url"]},
        {"properties": {"page": False, "url": _NULL}, "required": ["html"]},
    ]
}


class PagePayload(Payload):
    """At most one of `page`, `url` and `html`; a subclass gives `page` its default."""

    model_config = ConfigDict(json_schema_extra=ONE_PAGE)

    page: str = Field(description="Key of a page in frontend_configs; not used with url or html.")
    url: str | None = Field(default=None, description="Address of the page.")
    html: str | None = Field(default=None, min_length=1, description="The page's markup itself.")

    @model_validator(mode="after")
    def _one_page(self) -> typing.Self:
        given = [n for n in ("page", "url", "html") if n in self.model_fields_set and getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"give only one of page, url and html, not {' and '.join(given)}")
        return self

    async def read(self, ctx: TaskContext) -> Page:
        """The page it names; an empty one is refused."""
        if self.html is not None:
            page = await ctx.page(html=self.html)
        elif self.url is not None:
            page = await ctx.page(url=self.url)
        else:
            page = await ctx.page(page=self.page)
        refuse_empty(page)
        return page


def visible_text(page: Page) -> tuple[str, tuple[str, ...]]:
    """The text that a reader of the page sees, and which limits its markup was beyond."""
    return page.text, page.limits


def main_text(page: Page) -> tuple[str, tuple[str, ...]]:
    """The page's own content, and which limits its markup was beyond."""
    return page.main_text, page.limits


def noted(summary: str, limits: Sequence[str]) -> str:
    """A summary that says what was not analysed."""
    return " ".join([summary, *(f"Note: {limit}." for limit in limits)])


def refuse_empty(page: Page) -> None:
    """Raise `InvalidInput` for a page on which nothing stands."""
    if not page.html.strip():
        raise InvalidInput(f"page {page.ref!r} is empty: there is nothing to review")


def page_subject(page: Page, *more: str) -> str:
    """What a review of a page is about, the same in every run; empty for markup given inline.

    Inline markup has no address: another page may have the same title, so that reviewing it must close nothing.
    """
    return "" if page.ref == INLINE else " ".join([page.ref, *more])


def page_key(page: Page, *parts: str, evidence: Sequence[Evidence] = ()) -> str:
    """The key of what a review found: `parts` name it on the page; inline, its evidence and the title do, too."""
    if page.ref != INLINE:
        return identity(page.ref, *parts)
    return identity(page.ref, page.title, *parts, *(" ".join(ground(piece)) for piece in evidence))
