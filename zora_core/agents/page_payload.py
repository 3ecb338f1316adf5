"""The three ways in which a payload names a page: by key, by address, or as markup."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import replace

from pydantic import ConfigDict, Field, model_validator

from zora_core.agents.agent import Payload
from zora_core.errors import InvalidInput
from zora_core.models import identity

if typing.TYPE_CHECKING:
    from zora_core.agents.context import TaskContext
    from zora_core.skills.page import Page


INLINE = "html"  # the name of a page that is given as markup
_NULL: dict[str, typing.Any] = {"type": "null"}
# What `name_needs_markup` checks, for readers of the schema.
NAMED: dict[str, typing.Any] = {
    "not": {"required": ["name"], "properties": {"name": {"type": "string"}, "html": _NULL}}
}
# What `_one_page` checks, for readers of the schema; a subclass whose schema has more of its own takes it along.
ONE_PAGE: dict[str, typing.Any] = {
    "anyOf": [
        {"properties": {"url": _NULL, "html": _NULL}},
        {"properties": {"page": False, "html": _NULL}, "required": ["url"]},
        {"properties": {"page": False, "url": _NULL}, "required": ["html"]},
    ],
    **NAMED,
}


# The name under which markup given as `html` is known; a payload that has it takes NAMED and `name_needs_markup`, too.
MarkupName = typing.Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=200,
        description="A name for the page given as html. Reviews with the same name are of the same page: suggestions "
        "that a later one no longer finds are closed. Without a name, a page is recognised by its title, main heading "
        "and text.",
    ),
]


def name_needs_markup(payload: typing.Any) -> typing.Any:
    """Raise `ValueError` for a name without markup: pages with a key or an address need none."""
    if payload.name is not None and payload.html is None:
        raise ValueError(f"name {payload.name!r} needs html: it names a page that is given as markup")
    return payload


class PagePayload(Payload):
    """At most one of `page`, `url` and `html`; a subclass gives `page` its default."""

    model_config = ConfigDict(json_schema_extra=ONE_PAGE)

    page: str = Field(description="Key of a page in frontend_configs; not used with url or html.")
    url: str | None = Field(default=None, description="Address of the page.")
    html: str | None = Field(default=None, min_length=1, description="The page's markup itself.")
    name: MarkupName = None

    _named = model_validator(mode="after")(name_needs_markup)

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
        return await recognised(page, self.name, ctx)


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


async def recognised(page: Page, name: str | None, ctx: TaskContext) -> Page:
    """The page with what it is known as: for markup, the name given to it, or that of the same page reviewed before."""
    from zora_core.skills.page.same_page import recognise

    if page.ref != INLINE:
        return page
    if name is not None:
        return replace(page, known_as=f"{INLINE} named {name}")
    known_as, sketch = await ctx.compute(recognise, page, await ctx.reviewed_markup())
    return replace(page, known_as=known_as, sketch=sketch)


def markup_result(page: Page) -> dict[str, typing.Any]:
    """The part of a result by which a later review recognises markup; see `reviewed_markup` in the database."""
    return {"markup": {"known_as": page.known_as, "sketch": page.sketch}} if page.sketch else {}


def page_subject(page: Page, *more: str) -> str:
    """What a review of a page is about, the same in every run."""
    return " ".join([page.known_as or page.ref, *more])


def page_key(page: Page, *parts: str) -> str:
    """The key of what a review found on a page: `parts` name it there."""
    return identity(page.known_as or page.ref, *parts)
