"""Access, for founders: who is a user with which role, one-time links to sign in with, API keys, and sessions.

A secret is shown once, in the answer to the form that asked for it. It is in no redirect, no cookie, no log and no
journal, and the browser is told to keep no copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from starlette.responses import RedirectResponse, Response

from zora_core.admin.rendering import duration
from zora_core.admin.site import HOME, Notice, Pages, Visit
from zora_core.api.keys import NewKey, new_key
from zora_core.errors import InvalidInput, InvalidState, NotFound
from zora_core.models import AgentId, Role

pages = Pages()

HERE = "/admin/access"
LINK_MINUTES = (60, 1440, 10_080)  # choices; a link works for a week at most
MAX_DAYS = 36_500  # of a key, as the command line allows


_MUST = {
    "name": "must have 1 to 200 printable characters",
    "user_id": "choose a user",
    "agent_id": "choose an agent, or none",
    "expires_days": f"must be a whole number, 1 to {MAX_DAYS:,}",
}


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must have printable characters only")
    return text


def _empty_is_none(value: Any) -> Any:
    return value or None


class KeyCreate(BaseModel):
    """A key to be made, as the form has it; the limits are those of `zora keys create`."""

    name: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
    user_id: UUID
    agent_id: Annotated[AgentId | None, BeforeValidator(_empty_is_none)] = None
    expires_days: Annotated[int | None, Field(ge=1, le=MAX_DAYS), BeforeValidator(_empty_is_none)] = None


@pages.get("/access", Role.FOUNDER)
async def index(visit: Visit) -> Response:
    """Users, keys, links and sessions."""
    return await _show(visit)


async def _show(
    visit: Visit, *, typed: Mapping[str, str] | None = None, errors: Mapping[str, str] | None = None
) -> Response:
    """The page; with `errors`, what was typed into a form that could not be carried out is shown again."""
    users, keys, links, sessions = await asyncio.gather(
        visit.call("list_users"),
        visit.call("list_api_keys"),
        visit.call("list_api_keys", kind="link"),
        visit.call("list_api_keys", kind="session"),
    )
    return await visit.page(
        "access.html",
        status=400 if errors else 200,
        users=users,
        keys=keys,
        links=[link for link in links if link["state"] == "works"],
        sessions=sessions,
        mine=visit.caller.principal.label,
        manages=visit.may(Role.FOUNDER, person=True),
        roles=[role.value for role in reversed(Role)],
        agents=list(AgentId),
        link_minutes=[(minutes, duration(minutes * 60)) for minutes in LINK_MINUTES],
        max_days=MAX_DAYS,
        typed=typed or {},
        errors=errors or {},
    )


# --- users ------------------------------------------------------------------------------------------------------------


@pages.post("/access/users", Role.FOUNDER, person=True)
async def add_user(visit: Visit) -> Response:
    """Add a user, who can do nothing until there is a link or a key for them."""
    email, role = visit.form.text("email") or "", visit.form.get("role", "")
    if role not in list(Role):
        raise InvalidInput(f"unknown role {role[:50]!r}")
    try:
        if len(email) > 254:  # RFC 5321, section 4.5.3.1.3
            raise InvalidInput("an e-mail address has at most 254 characters")
        (user,) = await visit.call("add_user", email=email, role=role, by_user_id=visit.user_id)
    except (InvalidInput, InvalidState) as error:
        return await _show(visit, typed=visit.form, errors={"email": str(error)})
    return visit.back(Notice(f"{user['email']} is a user now. Make a sign-in link, and send it to them."), to=HERE)


@pages.post("/access/users/{id:uuid}/role", Role.FOUNDER, person=True)
async def set_role(visit: Visit) -> Response:
    """Give a user another role."""
    user_id: UUID = visit.request.path_params["id"]
    (user,) = await visit.call("set_user_role", id=user_id, role=visit.form.get("role"), user_id=visit.user_id)
    notice = Notice(f"{user['email']} has the role {user['role'].replace('_', ' ')}.")
    if user_id == visit.user_id:
        visit.caller.api.credentials.forget(visit.token)
        if user["role"] != Role.FOUNDER:
            return visit.back(notice, to=HOME)  # this page is no longer theirs to see
    return visit.back(notice, to=HERE)


@pages.get("/access/links", Role.FOUNDER)
@pages.get("/access/keys", Role.FOUNDER)
async def not_again(visit: Visit) -> Response:
    """A visit to the URL of an answer that showed a secret."""
    return RedirectResponse(HERE, 303)


@pages.post("/access/links", Role.FOUNDER, person=True)
async def create_link(visit: Visit) -> Response:
    """Make a link with which a user signs in once, and show it this once."""
    minutes = visit.form.get("minutes", "")
    if minutes not in map(str, LINK_MINUTES):
        raise InvalidInput(f"a link works for {', '.join(map(str, LINK_MINUTES))} minutes, not {minutes[:20]!r}")
    user = await _user(visit, visit.form.get("user_id", ""))
    new = new_key()
    (row,) = await visit.call(
        "create_sign_in_link",
        user_id=user["id"],
        prefix=new.prefix,
        hash=new.hash,
        seconds=int(minutes) * 60,
        by_user_id=visit.user_id,
    )
    origin = visit.request.headers["origin"]  # the browser's own word, which check_origin() has compared
    secret = f"{origin}/admin/sign-in?link={new.key}"
    return await _secret(visit, f"A sign-in link for {row['email']}", secret, row, link=True)


# --- keys and sessions ------------------------------------------------------------------------------------------------


@pages.post("/access/keys", Role.FOUNDER, person=True)
async def create_key(visit: Visit) -> Response:
    """Make an API key, and show it this once."""
    try:
        wanted = KeyCreate.model_validate({name: visit.form.get(name, "").strip() for name in KeyCreate.model_fields})
    except ValidationError as error:
        wrong = {str(problem["loc"][0]) for problem in error.errors(include_url=False, include_input=False)}
        return await _show(visit, typed=visit.form, errors={name: _MUST[name] for name in wrong})
    user = await _user(visit, str(wanted.user_id))
    days = wanted.expires_days
    new: NewKey = new_key()
    (row,) = await visit.call(
        "create_api_key",
        user_id=user["id"],
        name=wanted.name,
        prefix=new.prefix,
        hash=new.hash,
        expires_at=datetime.now(UTC) + timedelta(days=days) if days else None,
        agent_id=wanted.agent_id,
        by_user_id=visit.user_id,
    )
    return await _secret(visit, f"The API key “{row['name']}”", new.key, row, link=False)


async def _user(visit: Visit, user_id: str) -> dict[str, Any]:
    """A user of this tenant: a key's user is checked by a foreign key, which sees all tenants' users."""
    users = await visit.call("list_users")
    found = next((user for user in users if str(user["id"]) == user_id), None)
    if found is None:
        raise NotFound("user not found")
    return found


async def _secret(visit: Visit, title: str, secret: str, row: Mapping[str, Any], *, link: bool) -> Response:
    return await visit.page("secret.html", title=title, secret=secret, row=row, link=link)


@pages.post("/access/credentials/{id:uuid}/revoke", Role.FOUNDER, person=True)
async def revoke(visit: Visit) -> Response:
    """Stop a key or a link from working, or end a session, for ever."""
    credential = str(visit.request.path_params["id"])
    (row,) = await visit.call("revoke_api_key", key=credential, by_user_id=visit.user_id)
    # It may be the visitor's own, or what their session was made with.
    visit.caller.api.credentials.forget(visit.token)
    return visit.back(Notice(f"{row['name']} ({row['prefix']}) was revoked."), to=HERE)
