"""What every page shares: who visits, which role a page needs, forms that may be trusted, and the answer.

A page is an async function of a `Visit`, registered with `Pages.get` or `Pages.post`. Every post carries a token that
only our own pages know, names no other origin, and is answered with a redirect, so that reloading does nothing twice.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote
from uuid import UUID

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from zora_core.admin.rendering import render
from zora_core.api.access import Caller, caller
from zora_core.api.errors import ANSWERS, Forbidden, RateLimited, Unauthorized
from zora_core.errors import DatabaseUnavailable, DataRejected, UnknownTaskType, ZoraError
from zora_core.models import Role
from zora_core.suggested_command import completed, zora_command

if TYPE_CHECKING:
    from zora_core.agents.agent import TaskType
    from zora_core.client import Client

logger = logging.getLogger("zora.api")

SESSION_COOKIE = "zora_session"
NOTICE_COOKIE = "zora_notice"
SESSION_SECONDS = 7 * 86_400
NOTICE_SECONDS = 60
MAX_NOTICE = 3000  # bytes: a browser keeps four thousand of a cookie
MAX_FORM_BYTES = 1_000_000
MAX_FIELDS = 2000
HOME = "/admin/agents/tasks"

# Nothing is loaded from elsewhere, nothing stands in the page that could run, and no other page may frame it.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
# The origin of a form would be withheld under no-referrer, and we look at it.
PAGE_HEADERS = {"Content-Security-Policy": CONTENT_POLICY, "Referrer-Policy": "same-origin"}

Handler = Callable[["Visit"], Awaitable[Response]]


@dataclass(frozen=True)
class Notice:
    """What a page says at its top about what was done just before; `undo` names a suggestion that can be taken back."""

    text: str
    kind: str = "done"
    """done or problem."""
    lines: Sequence[str] = ()
    undo: str | None = None


class Form(dict[str, str]):
    """What was sent; `all` holds the values of a name that stands several times."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Of several values of a name, the last stands."""
        super().__init__(pairs)
        self._pairs = pairs

    def all(self, name: str) -> list[str]:
        """Every value of a name, in order."""
        return [value for key, value in self._pairs if key == name]

    def text(self, name: str) -> str | None:
        """A value without space around it; None when nothing was entered."""
        return self.get(name, "").strip() or None


@dataclass
class Visit:
    """A request to a page by somebody who has signed in."""

    request: Request
    caller: Caller
    token: str = field(repr=False)
    """The session's credential."""
    form: Form = field(default_factory=lambda: Form([]))
    ignored: list[str] | None = None
    """Filters of the address that were left out, each with what is wrong with it; None until the address is read."""

    @property
    def client(self) -> Client:
        """What can be done for the visitor's tenant."""
        return self.caller.client

    async def call(self, function: str, /, **arguments: Any) -> list[dict[str, Any]]:
        """Call a SQL function for the visitor's tenant."""
        return await self.caller.call(function, **arguments)

    async def value(self, function: str, /, **arguments: Any) -> Any:
        """Call a SQL function that returns one value for the visitor's tenant."""
        return await self.caller.value(function, **arguments)

    @property
    def user_id(self) -> UUID | None:
        """Who visits."""
        return self.caller.principal.user_id

    @property
    def role(self) -> Role:
        """What the visitor may do."""
        return self.caller.principal.role

    def may(self, role: str, person: bool = False) -> bool:
        """Whether the visitor has this role or a higher one; with `person`, whether it is no agent either."""
        return self.role.rank >= Role(role).rank and not (person and self.caller.principal.agent_id is not None)

    @property
    def may_decide(self) -> bool:
        """Whether the visitor may decide suggestions."""
        return self.may(Role.BRAND_ADMIN, person=True)

    def task_type(self, agent_id: str | None, name: str | None) -> TaskType | None:
        """The task type that a form or an address names; None when there is none."""
        try:
            return self.caller.api.registry.find(agent_id or "", name or "")
        except UnknownTaskType:
            return None

    @property
    def foreign(self) -> str | None:
        """The visitor's tenant, for commands; None when it is the server's own."""
        tenant_id = self.caller.principal.tenant_id
        return None if tenant_id == self.caller.api.settings.tenant_id else str(tenant_id)

    def command(self, *words: object) -> str:
        """A command to run on the server's machine, for the visitor's tenant."""
        return zora_command(*words, tenant=self.foreign)

    def completed(self, text: str) -> str:
        """A text of the database with its commands complete; see `suggested_command`."""
        return completed(text, tenant=self.foreign)

    @property
    def here(self) -> str:
        """The path and query of this page; of the one that its form came from, when that is shown again."""
        if self.request.method == "POST":
            return local_path(self.form.get("back")) or HOME
        url = self.request.url
        return f"{url.path}?{url.query}" if url.query else url.path

    def query(self, model: type[Query]) -> Any:
        """The query as a model; a filter that is unknown or wrong is left out, and the page says so."""
        query, self.ignored = read_query(model, self.request.query_params)
        return query

    async def page(
        self, template: str, *, status: int = 200, watch: Sequence[Any] = (), board: Any = None, **values: Any
    ) -> Response:
        """The page that a template makes of `values`.

        `watch` holds the ids of the tasks whose changes the open page is to be told of; `board` is what `agent_board`
        said of them, if the page has asked already.
        """
        if self.ignored is None and self.request.method == "GET":
            self.query(Query)  # a page without filters
        board = board or await self.value("agent_board", watched=list(watch))
        notice = _read_notice(self.request.cookies.get(NOTICE_COOKIE))
        html = render(template, visit=self, csrf=csrf_token(self.token), notice=notice, board=board, **values)
        answer = html_answer(html, self.request, status)
        if notice:
            answer.delete_cookie(NOTICE_COOKIE, path="/admin")
        return answer

    def back(self, notice: Notice | None = None, *, to: str | None = None) -> Response:
        """Go to a page after something was done: `to`, or where the form says that it stood."""
        answer = RedirectResponse(to or local_path(self.form.get("back")) or HOME, 303)
        if notice:
            answer.set_cookie(
                NOTICE_COOKIE, _write_notice(notice), NOTICE_SECONDS, path="/admin", httponly=True, samesite="lax"
            )
        return answer


class Query(BaseModel):
    """Base of the models of pages' queries."""


def read_query(model: type[Query], given: Mapping[str, str]) -> tuple[Any, list[str]]:
    """A query as a model, and what of it was left out: an old or mistyped link still shows something, and says what."""
    values = {name: value for name, value in given.items() if name in model.model_fields and value.strip()}
    known = f" ({', '.join(model.model_fields)})" if model.model_fields else ""
    ignored = [
        f"{_quoted(name)} is not a filter of this page{known}" for name in given if name not in model.model_fields
    ]
    for _ in range(len(values) + 1):
        try:
            return model.model_validate(values), ignored
        except ValidationError as error:
            for problem in error.errors():
                name = str(problem["loc"][0]) if problem["loc"] else ""
                wrong = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
                ignored.append(f"{name} {wrong}, not {_quoted(values.pop(name, ''))}")
    return model(), ignored


def _quoted(text: str) -> str:
    return f"“{text[:60]}{'…' if len(text) > 60 else ''}”"


class Pages(list[Route]):
    """The routes of one module of pages."""

    def get(self, path: str, role: Role = Role.VIEWER) -> Callable[[Handler], Handler]:
        """Register a page that requires `role`."""
        return self._route("GET", path, role, person=False)

    def post(self, path: str, role: Role, *, person: bool = False) -> Callable[[Handler], Handler]:
        """Register an action that requires `role`; with `person`, agents are refused."""
        return self._route("POST", path, role, person=person)

    def _route(self, method: str, path: str, role: Role, *, person: bool) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            async def serve(request: Request) -> Response:
                token = request.cookies.get(SESSION_COOKIE)
                if token is None:
                    return to_sign_in(request)
                try:
                    known = await caller(request, token, role)
                except Unauthorized:
                    return to_sign_in(request)
                if person and known.principal.agent_id is not None:
                    raise Forbidden(f"people decide this, and this session is {known.principal.agent_id}'s")
                visit = Visit(request, known, token)
                if method == "GET":
                    return await handler(visit)
                visit.form = await read_form(request)
                check_origin(request)
                if not is_csrf_token(token, visit.form.get("csrf", "")):
                    raise Forbidden("the form is from another session or too old: go back, reload, and try again")
                try:
                    return await handler(visit)
                except (Unauthorized, Forbidden, RateLimited, DatabaseUnavailable):
                    raise
                except ZoraError as error:
                    if not any(isinstance(error, kind) for kind in ANSWERS):
                        raise
                    return visit.back(Notice(visit.completed(plain_message(error)), "problem"))

            serve.role = role  # type: ignore[attr-defined]
            serve.person = person  # type: ignore[attr-defined]
            self.append(Route(path, serve, methods=[method], name=f"{handler.__module__}.{handler.__name__}"))
            return handler

        return register


def plain_message(error: ZoraError) -> str:
    """What an error says, in words for people; a driver's text is left out."""
    if isinstance(error, DataRejected) and type(error) is DataRejected:
        return "A value cannot be stored: look for NUL characters and numbers out of range."
    text = str(error)
    return text[:1].upper() + text[1:]


def to_sign_in(request: Request) -> Response:
    """Ask to sign in, and come back to this page afterwards."""
    url = request.url
    came_for = f"{url.path}?{url.query}" if url.query else url.path
    suffix = f"?next={quote(came_for)}" if request.method == "GET" and came_for != HOME else ""
    return RedirectResponse(f"/admin/sign-in{suffix}", 303)


async def read_form(request: Request) -> Form:
    """A form that was sent url-encoded. Raises 413 or 415 for anything else."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise HTTPException(415, "send a form, url-encoded")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise HTTPException(413, "the form is too large: the maximum is 1 MB")
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise HTTPException(400, "the form cannot be read") from None
    # Browsers end lines as on paper tape; nothing else in the system does.
    return Form([(name, value.replace("\r\n", "\n").replace("\0", "")) for name, value in pairs])


def check_origin(connection: HTTPConnection) -> None:
    """Raise `Forbidden` unless the browser says that our own page asked. Every browser says so of a post."""
    # An origin is compared as a text: one that is not an address, such as http://[::1, cannot be taken apart.
    _, _, host = connection.headers.get("origin", "").partition("://")
    if not host or host != connection.headers.get("host"):
        raise Forbidden(
            "a page of another origin asked for this; if a proxy stands in front, have it pass on the Host header"
        )


def csrf_token(token: str) -> str:
    """A token that only this session can have; a new one each time, because pages are compressed."""
    nonce = secrets.token_hex(8)
    return f"{nonce}.{_csrf(token, nonce)}"


def is_csrf_token(token: str, given: str) -> bool:
    """Whether `csrf_token` made it for this session."""
    nonce, _, rest = given.partition(".")
    return hmac.compare_digest(_csrf(token, nonce).encode(), rest.encode("utf-8", "surrogatepass"))


def _csrf(token: str, nonce: str) -> str:
    return hmac.new(token.encode(), b"csrf " + nonce.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def local_path(given: str | None) -> str | None:
    """A path of ours as it was given, or None: nobody is sent elsewhere."""
    if given is None or not given.startswith("/admin/") or "\\" in given or not given.isprintable():
        return None
    return given


def html_answer(html: str, request: Request, status: int = 200) -> Response:
    """A page, compressed when the browser takes that."""
    body = html.encode("utf-8", "replace")  # a lone surrogate cannot be written
    headers = {**PAGE_HEADERS, "Vary": "Accept-Encoding, Cookie"}
    if "gzip" in request.headers.get("accept-encoding", "") and len(body) > 1000:
        body = gzip.compress(body, 5, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(body, status, headers, "text/html")


def _write_notice(notice: Notice) -> str:
    lines = list(notice.lines)
    while True:
        text = base64.urlsafe_b64encode(to_json([notice.text[:1000], notice.kind, lines, notice.undo])).decode()
        if len(text) <= MAX_NOTICE or not lines:
            return text
        lines = [*lines[: len(lines) // 2], "…"] if len(lines) > 2 else []


def _read_notice(cookie: str | None) -> Notice | None:
    """What is shown comes from the browser: whatever is not a notice is none, and its text is text."""
    if not cookie:
        return None
    try:
        text, kind, lines, undo = from_json(base64.urlsafe_b64decode(cookie))
        plain = all(isinstance(part, str) for part in [text, kind, *lines])
        suggestion = str(UUID(undo)) if undo is not None else None
    except (ValueError, TypeError, AttributeError):
        return None
    return Notice(text, kind, lines, suggestion) if plain and kind in ("done", "problem") else None
