"""Signing in and out: a one-time link or an API key begins a session, which is a credential of its own in a cookie."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from zora_core.admin.rendering import render
from zora_core.admin.site import (
    HOME,
    SESSION_COOKIE,
    SESSION_SECONDS,
    Pages,
    Visit,
    check_origin,
    html_answer,
    local_path,
    read_form,
)
from zora_core.api.errors import Unauthorized
from zora_core.api.keys import new_key
from zora_core.api.state import Api
from zora_core.errors import InvalidState
from zora_core.models import Role

pages = Pages()


async def sign_in_page(request: Request) -> Response:
    """The form; with a link, one press is left. Chat programs look at links, and must not use them up."""
    link = request.query_params.get("link", "")
    return _form(request, link=link, came_for=request.query_params.get("next", ""))


async def sign_in(request: Request) -> Response:
    """Begin a session."""
    api: Api = request.app.state.api
    check_origin(request)
    form = await read_form(request)
    given = (form.get("link") or form.get("key", "")).strip()
    # A link pasted whole into the field for a key is meant as what it holds.
    given = given.partition("link=")[2] or given
    try:
        principal = await api.credentials.check_to_sign_in(given)
        new = new_key()
        await api.database.call(
            "start_session",
            tenant_id=principal.tenant_id,
            made_with=principal.label,
            prefix=new.prefix,
            hash=new.hash,
            seconds=SESSION_SECONDS,
        )
    except (Unauthorized, InvalidState):
        # Attempts with invalid keys are counted by address, because there is no valid credential to count by.
        api.limiter.take(f"address:{request.client.host if request.client else ''}")
        return _form(request, came_for=form.get("next", ""), failed=True, status=401)
    answer = RedirectResponse(local_path(form.get("next")) or HOME, 303)
    answer.set_cookie(
        SESSION_COOKIE,
        new.key,
        max_age=SESSION_SECONDS,
        path="/admin",
        httponly=True,
        samesite="lax",  # a link to a page, from mail or chat, is to open it
        secure=request.headers["origin"].startswith("https://"),  # a proxy in front encrypts, and we do not see it
    )
    return answer


@pages.post("/sign-out", Role.VIEWER)
async def sign_out(visit: Visit) -> Response:
    """End the session, here and in the database."""
    await visit.call("revoke_api_key", key=visit.caller.principal.label, by_user_id=visit.user_id)
    visit.caller.api.credentials.forget(visit.token)
    answer = RedirectResponse("/admin/sign-in", 303)
    answer.delete_cookie(SESSION_COOKIE, path="/admin")
    return answer


def _form(request: Request, *, link: str = "", came_for: str = "", failed: bool = False, status: int = 200) -> Response:
    html = render("sign_in.html", link=link, came_for=local_path(came_for) or "", failed=failed)
    return html_answer(html, request, status)


ROUTES = [
    Route("/sign-in", sign_in_page, methods=["GET"]),
    Route("/sign-in", sign_in, methods=["POST"]),
    *pages,
]
