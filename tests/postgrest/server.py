"""The server: gateway, authentication, one transaction per request, answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import asyncpg
import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from tests.postgrest import requests, schema_cache
from tests.postgrest.calls import quoted, statement
from tests.postgrest.errors import ApiError, from_database, not_implemented
from tests.postgrest.jwts import claims_of
from tests.postgrest.supabase import PREFIX, GatewayError, Keys, token

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from tests.postgrest.schema_cache import Function, SchemaCache

_CONTENT_TYPE = "{}; charset=utf-8"
_UNREADABLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
_LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


@dataclass(frozen=True, kw_only=True)
class Config:
    """How a project is set up.

    `database_url` is the authenticator's. `max_rows` bounds every set, `pool` is the number of connections to the
    database, and `pool_timeout` how many seconds a request waits for one. Raises `ValueError` for a secret of under 32
    characters, which PostgREST refuses.
    """

    database_url: str
    jwt_secret: str
    anon_role: str | None = "anon"
    schemas: tuple[str, ...] = ("public",)
    extra_search_path: tuple[str, ...] = ("public", "extensions")
    max_rows: int | None = 1000
    audience: str | None = None
    channel: str = "pgrst"
    pool: int = 10
    pool_timeout: float = 10
    publishable_key: str = "sb_publishable_test"
    secret_key: str = "sb_secret_test"

    def __post_init__(self) -> None:
        if len(self.jwt_secret) < 32:
            raise ValueError(f"jwt_secret has {len(self.jwt_secret)} characters: at least 32 are needed")

    def _key(self, role: str) -> str:
        return token(self.jwt_secret, role, iss="supabase", iat=1_700_000_000, exp=4_102_444_800)

    @cached_property
    def anon_key(self) -> str:
        """The legacy API key that is a JWT of the role `anon`."""
        return self._key("anon")

    @cached_property
    def service_role_key(self) -> str:
        """The legacy API key that is a JWT of the role `service_role`."""
        return self._key("service_role")


class StandIn:
    """The ASGI application, between `start()` and `stop()`."""

    def __init__(self, config: Config) -> None:
        """Nothing is reached before `start()`."""
        self.config = config
        self._keys = Keys(
            {config.publishable_key: "anon", config.secret_key: "service_role"},
            frozenset({config.anon_key, config.service_role_key}),
        )
        self._pool: asyncpg.Pool | None = None
        self._cache: SchemaCache | None = None
        self._stale = asyncio.Event()
        self._pause = 1
        """Seconds until the schema cache is read again after a failure."""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read the catalogue and listen for notifications; without a database, answer PGRST002 until there is one."""
        self._pool = await asyncpg.create_pool(self.config.database_url, min_size=0, max_size=self.config.pool)
        listening = asyncio.Event()
        try:
            await self.reload()
        except _UNREADABLE:
            self._stale.set()
        self._tasks = [asyncio.create_task(self._listen(listening)), asyncio.create_task(self._reload_when_stale())]
        if self._cache is not None:
            await asyncio.wait_for(listening.wait(), 10)

    async def stop(self) -> None:
        """End what `start()` began."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._pool is not None:
            await self._pool.close()

    async def reload(self) -> None:
        """Read the schema cache anew."""
        assert self._pool is not None
        async with self._pool.acquire() as connection:
            self._cache = await schema_cache.read(connection, self.config.schemas)

    async def _reload_when_stale(self) -> None:
        while True:
            await self._stale.wait()
            self._stale.clear()
            # What fails to be read stays as it was. Page: schema_cache, reloading.
            try:
                await self.reload()
                self._pause = 1
            except _UNREADABLE:
                if self._cache is None:
                    await asyncio.sleep(self._pause)
                    self._pause = min(2 * self._pause, 32)
                    self._stale.set()

    async def _listen(self, listening: asyncio.Event) -> None:
        """Listen, and after a lost connection again, for ever, after at most 32 seconds. Page: listener."""
        pause = 1
        while True:
            with contextlib.suppress(*_UNREADABLE):
                connection = await asyncpg.connect(self.config.database_url)
                try:
                    lost = asyncio.Event()
                    connection.add_termination_listener(lambda *_, lost=lost: lost.set())
                    await connection.add_listener(self.config.channel, self._notified)
                    if listening.is_set():
                        self._stale.set()
                    listening.set()
                    pause = 1
                    await lost.wait()
                finally:
                    connection.terminate()
            await asyncio.sleep(pause)
            pause = min(2 * pause, 32)

    def _notified(self, connection: Any, process: int, channel: str, payload: object) -> None:
        if payload in ("reload schema", ""):
            self._stale.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            raise NotImplementedError(f"no {scope['type']} here")
        request = Request(scope, receive)
        try:
            path, headers = self._through_gateway(request)
            response = await self._answer(request, path, headers)
        except GatewayError as error:
            response = Response(error.body, error.status, media_type="application/json")
        except ApiError as error:
            response = Response(
                error.body,
                error.status,
                {
                    "Content-Type": _CONTENT_TYPE.format("application/json"),
                    "Proxy-Status": f"PostgREST; error={error.code}",
                    **error.headers,
                },
            )
        await response(scope, receive, send)

    def _through_gateway(self, request: Request) -> tuple[str, dict[str, str]]:
        """The path and the headers with which a request leaves the gateway; raises `GatewayError`."""
        path = request.url.path
        if not path.startswith(f"{PREFIX}/"):
            raise GatewayError(404, "no Route matched with those values")
        headers = dict(request.headers)
        role = self._keys.admit(headers)
        if role is not None:
            headers["authorization"] = f"Bearer {token(self.config.jwt_secret, role)}"
        return path.removeprefix(PREFIX), headers

    async def _answer(self, request: Request, path: str, headers: Mapping[str, str]) -> Response:
        config = self.config
        claims = claims_of(headers, secret=config.jwt_secret, audience=config.audience, anon_role=config.anon_role)
        match = re.fullmatch(r"/rpc/([^/]+)", path)
        if match is None:
            raise not_implemented(f"path {path}")
        if request.method not in ("GET", "HEAD", "POST"):
            raise ApiError(405, "PGRST101", f"Cannot use the {request.method} method on RPC")
        reads = request.method != "POST"
        schema = self._schema(headers.get("accept-profile" if reads else "content-profile"))
        if self._cache is None:
            raise ApiError(
                503, "PGRST002", "Could not query the database for the schema cache. Retrying.",
                headers={"Retry-After": str(self._pause)},
            )  # fmt: skip
        preferences = requests.Preferences.of(", ".join(request.headers.getlist("prefer")))
        media_type = requests.accepted(headers.get("accept"))
        query = parse_qsl(request.url.query, keep_blank_values=True)
        rows = requests.Range.of(query, headers.get("range") if reads else None)
        function, arguments, value = self._call(
            schema, match[1], None if reads else await request.body(), headers.get("content-type"), query
        )
        transaction = _Transaction(config, claims["role"], preferences)
        transaction.set("search_path", ", ".join(quoted(name) for name in (schema, *config.extra_search_path)))
        transaction.set("request.jwt.claims", json.dumps(claims))
        transaction.set("request.method", request.method)
        transaction.set("request.path", path)
        transaction.set("request.headers", json.dumps({k: v for k, v in headers.items() if k != "cookie"}))
        cookies = SimpleCookie(headers.get("cookie", ""))
        transaction.set("request.cookies", json.dumps({name: morsel.value for name, morsel in cookies.items()}))
        for settings in (self._cache.role_settings.get(claims["role"], {}), function.settings):
            for name, setting in settings.items():
                transaction.set(name, setting)
        if preferences.timezone is not None:
            transaction.set("timezone", preferences.timezone)
        assert self._pool is not None
        return await transaction.run(
            self._pool, function, arguments, value, rows, media_type, readonly=reads or not function.volatile
        )

    def _schema(self, profile: str | None) -> str:
        if profile is not None and profile not in self.config.schemas:
            known = ", ".join(self.config.schemas)
            raise ApiError(406, "PGRST106", f"The schema must be one of the following: {known}")
        return profile or self.config.schemas[0]

    def _call(
        self, schema: str, name: str, body: bytes | None, content_type: str | None, query: list[tuple[str, str]]
    ) -> tuple[Function, Collection[str] | None, str | bytes]:
        """The function, the names of its arguments (None when it takes the body as a whole), and what to send it."""
        assert self._cache is not None
        if body is None:
            given = requests.arguments_of_query(query)
            function = self._cache.choose(schema, name, given, "")
            variadic = {parameter.name for parameter in function.parameters if parameter.variadic}
            for argument, values in given.items():
                if len(values) > 1 and argument not in variadic:
                    raise ApiError(400, "PGRST100", f"the argument {argument} is given more than once")
            return function, given, json.dumps({k: v if k in variadic else v[0] for k, v in given.items()})
        requests.refuse_filters([key for key, _ in query])
        kind = requests.content_type_of(content_type)
        names = requests.arguments_of_body(body) if kind == requests.JSON else None
        function = self._cache.choose(schema, name, names, kind)
        if function.takes_whole(kind):
            names = None
        if names is None and function.parameters[0].type == "bytea":
            return function, None, body
        try:
            return function, names, body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ApiError(400, "PGRST102", "The body is not UTF-8") from error


class _Transaction:
    """The transaction of one request. Page: transactions."""

    def __init__(self, config: Config, role: str, preferences: requests.Preferences) -> None:
        self._config = config
        self._role = role
        self._preferences = preferences
        self._settings: dict[str, str] = {}

    def set(self, name: str, value: str) -> None:
        """Set something for this transaction; what is set later counts."""
        self._settings[name] = value

    async def run(
        self,
        pool: asyncpg.Pool,
        function: Function,
        arguments: Collection[str] | None,
        value: str | bytes,
        rows: requests.Range,
        media_type: str,
        *,
        readonly: bool,
    ) -> Response:
        """Call the function and commit, unless an error is raised, the database's or our own."""
        preferences = self._preferences
        if preferences.max_affected is not None and not function.set:
            raise ApiError(
                400,
                "PGRST128",
                "Function must return SETOF or TABLE when max-affected preference is used with handling=strict",
            )
        try:
            connection = await pool.acquire(timeout=self._config.pool_timeout)
        except TimeoutError as error:
            raise ApiError(504, "PGRST003", "Timed out acquiring connection from connection pool.") from error
        except (*_LOST, asyncpg.PostgresError) as error:
            raise ApiError(
                503, "PGRST000", "Database connection error. Retrying the connection.", str(error),
                headers={"Retry-After": "1"},
            ) from error  # fmt: skip
        try:
            isolation = self._settings.pop("default_transaction_isolation", "read committed")
            async with _begun(connection, isolation, "read only" if readonly else "read write"):
                await self._impersonate(connection)
                if function.shape == "void":
                    await connection.fetch(statement(function, arguments, counted=False), value)
                    answer = Response(status_code=204)
                else:
                    answer = await self._result(connection, function, arguments, value, rows, media_type)
                if preferences.applied:
                    answer.headers["Preference-Applied"] = ", ".join(preferences.applied)
                await self._overridden(connection, answer)
            return answer
        except _LOST as error:
            raise ApiError(
                503, "PGRST001", "Database client error. Retrying the connection.", str(error),
                headers={"Retry-After": "1"},
            ) from error  # fmt: skip
        except asyncpg.PostgresError as error:
            raise from_database(error, authenticated=self._role != self._config.anon_role) from error
        finally:
            await _give_back(pool, connection)

    async def _impersonate(self, connection: asyncpg.Connection) -> None:
        settings = {**self._settings, "role": self._role}
        await connection.execute(
            "select set_config(s.name, s.value, true) from unnest($1::text[], $2::text[]) as s (name, value)",
            list(settings),
            list(settings.values()),
        )

    async def _result(
        self,
        connection: asyncpg.Connection,
        function: Function,
        arguments: Collection[str] | None,
        value: str | bytes,
        rows: requests.Range,
        media_type: str,
    ) -> Response:
        preferences, most = self._preferences, self._config.max_rows
        limits = [limit for limit in (rows.limit, most) if limit is not None]
        offset, limit = (rows.offset, min(limits, default=None)) if function.set else (0, None)
        counted = preferences.count or preferences.max_affected is not None
        row = await connection.fetchrow(statement(function, arguments, counted=counted), value, offset, limit)
        page, total = row["page"], row["total"]
        if preferences.max_affected is not None and total > preferences.max_affected:
            raise ApiError(
                400,
                "PGRST124",
                "Query result exceeds max-affected preference constraint",
                f"The query affects {total} rows",
            )
        known = total if preferences.count else None
        if known is not None and offset > 0 and offset >= known:
            raise ApiError(
                416,
                "PGRST103",
                "Requested range not satisfiable",
                f"An offset of {offset} was requested, but there are only {known} rows.",
                headers={"Content-Range": f"*/{known}"},
            )
        single = media_type == requests.OBJECT
        if single and page != 1:
            raise ApiError(
                406, "PGRST116", "Cannot coerce the result to a single JSON object", f"The result contains {page} rows"
            )
        shown = f"{offset}-{offset + page - 1}" if page else "*"
        return Response(
            row["first"] if single or not function.set else row["body"],
            206 if known is not None and page < known else 200,
            {
                "Content-Type": _CONTENT_TYPE.format(media_type),
                "Content-Range": f"{shown}/{'*' if known is None else known}",
            },
        )

    async def _overridden(self, connection: asyncpg.Connection, answer: Response) -> None:
        """Let response.status and response.headers change the answer. Page: transactions."""
        row = await connection.fetchrow(
            "select current_setting('response.status', true) as status, "
            "current_setting('response.headers', true) as headers"
        )
        if row["status"]:
            if not re.fullmatch(r"[1-9]\d\d", row["status"]):
                raise ApiError(500, "PGRST112", "response.status guc must be a valid status code")
            answer.status_code = int(row["status"])
        if not row["headers"]:
            return
        try:
            given = [(name, text) for one in json.loads(row["headers"]) for name, text in one.items()]
            valid = all(isinstance(text, str) for _, text in given)
        except (ValueError, TypeError, AttributeError):
            valid = False
        if not valid:
            raise ApiError(
                500,
                "PGRST111",
                "response.headers guc must be a JSON array composed of objects with a single key and a string value",
            )
        for name in {name for name, _ in given if name in answer.headers}:
            del answer.headers[name]
        for name, text in given:
            answer.headers.append(name, text)


@asynccontextmanager
async def _begun(connection: Any, isolation: str, mode: str) -> AsyncIterator[None]:
    """A transaction whose access mode is always named, whatever the default is, which asyncpg's own does not do."""
    await connection.execute(f"begin isolation level {isolation} {mode}")
    try:
        yield
    except BaseException:
        with contextlib.suppress(*_LOST):
            await connection.execute("rollback")
        raise
    await connection.execute("commit")


async def _give_back(pool: asyncpg.Pool, connection: Any) -> None:
    # What was lost cannot be reset, and the pool throws it away.
    with contextlib.suppress(*_LOST, asyncpg.PostgresError):
        await pool.release(connection, timeout=10)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say when requests are answered."""
        await super().startup(sockets)
        self.ready.set()

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        """Leave the signals to the program that the server is a part of."""
        return contextlib.nullcontext()


@asynccontextmanager
async def serving(config: Config, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends, and give the project's URL, to which `/rest/v1/rpc/…` is to be added.

    Any free port without one. Raises `OSError` when the port is taken.
    """
    standin = StandIn(config)
    with socket.create_server((host, port)) as listener:
        address = listener.getsockname()
        await standin.start()
        try:
            server = _Server(uvicorn.Config(standin, log_config=None, lifespan="off", ws="none", access_log=False))
            running = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                await asyncio.wait_for(server.ready.wait(), 10)
                yield f"http://{address[0]}:{address[1]}"
            finally:
                server.should_exit = True
                await running
        finally:
            await standin.stop()
