"""The application under `/admin`: all pages, our three static files, and errors as pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router, WebSocketRoute

from zora_core.admin import live, sessions
from zora_core.admin.pages import ROUTES as PAGES
from zora_core.admin.rendering import asset, render
from zora_core.admin.site import HOME, html_answer, plain_message
from zora_core.api.errors import ANSWERS, RateLimited, logger
from zora_core.errors import ZoraError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from zora_core.api.state import Api

TITLES = {
    400: "Bad request",
    403: "Not allowed",
    404: "Page not found",
    405: "Method not allowed",
    409: "Already changed or decided",
    413: "Request too large",
    415: "Unsupported media type",
    429: "Too many requests",
    500: "Something went wrong",
    503: "The database cannot be reached",
}


async def home(request: Request) -> Response:
    """What needs a decision comes first."""
    return RedirectResponse(HOME)


async def static(request: Request) -> Response:
    """One of our files; its address changes with its content."""
    found = asset(request.path_params["name"])
    if found is None:
        raise HTTPException(404)
    plain, compressed, kind = found
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(compressed, 200, {**headers, "Content-Encoding": "gzip"}, kind)
    return Response(plain, 200, headers, kind)


def _error_page(request: Request, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    title = TITLES.get(status, TITLES[500])
    answer = html_answer(render("error.html", title=title, message=message), request, status)
    answer.headers.update(headers or {})
    return answer


async def _on_purpose(request: Request, error: Exception) -> Response:
    assert isinstance(error, ZoraError)
    known = next((kind for kind in type(error).__mro__ if kind in ANSWERS), None)
    if known is None:  # a fault of ours or of the installation, whose text is not for visitors
        logger.error("%s: %s", type(error).__name__, error)
        return _error_page(request, 500, "The server is not configured correctly; see its log.")
    status = ANSWERS[known][0]
    if status == 503:
        logger.warning("%s", error)
        return _error_page(request, 503, "Try again in a moment; nothing was changed.", {"Retry-After": "1"})
    headers = {"Retry-After": str(max(1, round(error.seconds + 0.5)))} if isinstance(error, RateLimited) else None
    return _error_page(request, status, plain_message(error), headers)


async def _by_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: "There is no such page.", 405: "This page does not take that."}
    return _error_page(
        request, error.status_code, said.get(error.status_code, str(error.detail)), dict(error.headers or {})
    )


ROUTES = [
    Route("/", home),
    Route("/agents/tasks/", home),
    Route("/static/{name}", static),
    WebSocketRoute("/live", live.watch),
    *sessions.ROUTES,
    *PAGES,
]


def install(app: Starlette, api: Api) -> None:
    """Serve the pages over `api` under `/admin` of `app`, which answers to what nobody expected."""
    app.state.boards = live.Boards(api)
    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        ZoraError: _on_purpose,
        HTTPException: _by_framework,
    }
    app.mount("/admin", ExceptionMiddleware(Router(ROUTES), handlers))
