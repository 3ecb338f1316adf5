"""Calling the database's functions over a direct connection (asyncpg)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
from pydantic_core import from_json, to_json

from zora_core.database import api_login, schema
from zora_core.database.database import API_ROLE, OUR_ERRORS, Call, Database, Row
from zora_core.errors import ConfigurationError, DatabaseUnavailable, DataRejected, DuplicateKey, TooMuchAtOnce

if TYPE_CHECKING:
    from uuid import UUID

    from zora_core.database.embedded import EmbeddedServer

logger = logging.getLogger("zora.api")

_NAMED = {"application_name": "zora"}

_LOST: tuple[type[BaseException], ...] = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
)


class PostgresDatabase(Database):
    """A connection pool: a call is `select * from function(name => value)`.

    `pooled` tells that a pooler stands between us and the server: then every call is a transaction of its own, no
    statement is prepared across calls, and there is no LISTEN.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        url: str,
        *,
        pooled: bool,
        server: EmbeddedServer | None = None,
        restricted: bool = False,
        schema_name: str = schema.PUBLIC,
    ) -> None:
        """Take over an open pool on `url`; use `connect` to make one."""
        self._pool = pool
        self._url = url
        self._server = server
        self._restricted = restricted
        self._schema = schema_name
        self.pooled = pooled

    @property
    def notifies(self) -> bool:
        """Not through a pooler."""
        return not self.pooled

    async def call(self, function: str, /, **arguments: Any) -> list[Row]:
        """See `Database.call`; nothing is tried twice."""
        query = _query(self._schema, function, tuple(arguments))
        values = list(arguments.values())
        if self._restricted and "tenant_id" in arguments:
            query = _scoped_query(self._schema, function, tuple(arguments))
            values = [value for name, value in arguments.items() if name != "tenant_id"]
            values.append(str(arguments["tenant_id"]))
        with _translated():
            async with self._pool.acquire() as connection:
                try:
                    if self.pooled:
                        async with connection.transaction():
                            if self._restricted:
                                await connection.execute(f"set local role {API_ROLE}")
                            rows = await connection.fetch(query, *values)
                    else:
                        rows = await connection.fetch(query, *values)
                except asyncpg.InternalClientError:  # the server hung up between two calls, and asyncpg is confused
                    connection.terminate()
                    raise
        return [dict(row) for row in rows]

    async def batch(self, calls: Sequence[Call]) -> list[list[Row]]:
        """See `Database.batch`: one after the other, each in a transaction of its own."""
        return [await self.call(function, **arguments) for function, arguments in calls]

    async def read(self, query: str, tenant_id: UUID, /, **arguments: Any) -> list[asyncpg.Record]:
        """The body of a function in `read_journal.sql` as it stands here, with nothing from outside the catalogue.

        For what is to be verified, and only for that: `call` gives what a function of the database says, which its
        owner can replace by another one of the same name. Even operators come from `pg_catalog` here. Through
        restricted connections the tenant is also the only one whose rows are visible; the policy that sees to that is
        the database's own, and can hide rows but not change them.
        """
        text = schema.query(query, ("tenant_id", *arguments), self._schema)
        with _translated():
            async with self._pool.acquire() as connection, connection.transaction(readonly=True):
                if self._restricted:
                    if self.pooled:
                        await connection.execute(f"set local role {API_ROLE}")
                    await connection.execute("select set_config('zora.tenant_id', $1, true)", str(tenant_id))
                await connection.execute("set local search_path = pg_catalog, pg_temp")
                return await connection.fetch(text, tenant_id, *arguments.values())  # type: ignore[no-any-return]

    async def restricted(self, *, max_connections: int = 8) -> PostgresDatabase:
        """See `Database.restricted`; a transaction per call."""
        with _translated():
            async with self._pool.acquire() as connection, connection.transaction():
                user = await connection.fetchval("select current_user")
                # Since PostgreSQL 16 a member need not be allowed to act as the role.
                right = "set" if connection.get_server_version().major >= 16 else "member"
                if not await connection.fetchval(
                    "select exists (select from pg_roles where rolname = $1 and pg_has_role(oid, $2))", API_ROLE, right
                ):
                    raise ConfigurationError(
                        f"the database role {API_ROLE} is missing, or {user} is not its member: have an administrator "
                        f"run `create role {API_ROLE}; grant {API_ROLE} to {user}`, then the output of `zora schema`"
                    )
            login = await self._api_login()
            pool = await _open_pool(self._url, self.pooled, max_connections, role=API_ROLE, login=login)
        return PostgresDatabase(pool, self._url, pooled=self.pooled, restricted=True, schema_name=self._schema)

    async def api_login_obstacle(self) -> str | None:
        """See `Database.api_login_obstacle`."""
        if self.pooled:
            return api_login.THROUGH_A_POOLER
        with _translated():
            async with self._pool.acquire() as connection, connection.transaction():
                return await api_login.obstacle(connection)

    async def _api_login(self) -> dict[str, str | None]:
        """User and password that lead to the API's role alone; none, with a warning, where there cannot be any."""

        async def log_in(user: str, password: str | None) -> asyncpg.Connection:
            return await asyncpg.connect(self._url, user=user, password=password, timeout=10, server_settings=_NAMED)

        found: tuple[str, str | None] | str = api_login.THROUGH_A_POOLER
        if not self.pooled:
            async with self._pool.acquire() as connection:
                found = await api_login.prepare(connection, log_in)
        if isinstance(found, tuple):
            return {"user": found[0], "password": found[1]}
        logger.warning(
            "the API logs in as the role of DATABASE_URL and acts as %s, because it cannot have a login of its own: %s",
            API_ROLE,
            found,
        )
        return {}

    @asynccontextmanager
    async def listening(self, channel: str, callback: Callable[[str], None]) -> AsyncIterator[asyncio.Event]:
        """See `Database.listening`; on a connection of its own."""
        lost = asyncio.Event()
        with _translated():
            connection = await asyncpg.connect(self._url, timeout=10, server_settings=_NAMED)
            try:
                connection.add_termination_listener(lambda _: lost.set())
                await connection.add_listener(channel, lambda _c, _pid, _channel, payload: callback(payload))
                yield lost
            finally:
                connection.terminate()

    async def recover(self) -> None:
        """Start the embedded server again if it is gone."""
        if self._server is not None:
            await asyncio.to_thread(self._server.recover)

    async def migrate(self) -> bool:
        """See `Database.migrate`."""
        with _translated():
            async with self._pool.acquire() as connection:
                return await schema.migrate(connection, self._schema)

    async def check_schema(self) -> schema.Installed:
        """See `Database.check_schema`."""
        with _translated():
            async with self._pool.acquire() as connection, connection.transaction():
                return await schema.check(connection, self._schema)

    async def missing_objects(self) -> list[str]:
        """See `Database.missing_objects`; by a query, in case the function is what is missing."""
        with _translated():
            async with self._pool.acquire() as connection, connection.transaction():
                return await schema.missing(connection, self._schema)

    async def close(self) -> None:
        """Close the connections and let go of the embedded server."""
        try:
            await asyncio.wait_for(self._pool.close(), timeout=5)
        except TimeoutError:
            self._pool.terminate()
        finally:
            if self._server is not None:
                await asyncio.to_thread(self._server.release)


async def connect(
    url: str, *, server: EmbeddedServer | None = None, max_connections: int = 8, schema_name: str = schema.PUBLIC
) -> PostgresDatabase:
    """Open a pool on a PostgreSQL URL. Raises `DatabaseUnavailable` when the server cannot be reached."""
    url = _without_hints(url)
    pooled = server is None and await _is_pooled(url)
    with _translated():
        pool = await _open_pool(url, pooled, max_connections)
    return PostgresDatabase(pool, url, pooled=pooled, server=server, schema_name=schema_name)


async def _open_pool(
    url: str,
    pooled: bool,
    max_connections: int,
    *,
    role: str | None = None,
    login: Mapping[str, str | None] | None = None,
) -> asyncpg.Pool:
    """A pool; a pooler would refuse settings at the start of a session, so that there the role is set per call."""
    return await asyncpg.create_pool(
        url,
        **(login or {}),
        min_size=0,
        max_size=max_connections,
        timeout=10,
        init=_prepare,
        reset=_keep,
        **({"statement_cache_size": 0} if pooled else {}),
        server_settings=None if pooled else {**_NAMED, **({"role": role} if role else {})},
    )


async def _is_pooled(url: str) -> bool:
    """Whether a pooler answers: the backend's process id is then not the one that the connection was told."""
    with _translated():
        connection = await asyncpg.connect(url, timeout=10, statement_cache_size=0)
        try:
            async with connection.transaction():
                version = connection.get_server_version()
                if version.major < 14:
                    raise ConfigurationError(f"PostgreSQL {version.major} is too old: 14 or later is needed")
                backend = await connection.fetchval("select pg_backend_pid()")
                return bool(backend != connection.get_server_pid())
        finally:
            await connection.close(timeout=5)


def _without_hints(url: str) -> str:
    """The URL without `pgbouncer=…`, a hint for other programs that the server would refuse as a setting."""
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != "pgbouncer"]
    return urlunsplit(parts._replace(query=urlencode(query)))


async def _prepare(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        await connection.set_type_codec("jsonb", encoder=_to_json, decoder=from_json, schema="pg_catalog")


def _to_json(value: Any) -> str:
    """JSON text, ten times as fast as by the standard library; what is no number stays so and the server refuses it."""
    return to_json(value, inf_nan_mode="constants").decode()


async def _keep(connection: asyncpg.Connection) -> None:
    """Calls leave no state in a session, so that giving a connection back needs no round trip."""


@lru_cache(maxsize=256)
def _query(place: str, function: str, names: tuple[str, ...]) -> str:
    """The call in named notation, in a schema; the names come from our own code, never from input."""
    arguments = ", ".join(f"p_{name} => ${i}" for i, name in enumerate(names, 1))
    return f"select * from {schema.quoted(place)}.{function}({arguments})"


@lru_cache(maxsize=256)
def _scoped_query(place: str, function: str, names: tuple[str, ...]) -> str:
    """The call in a transaction of its tenant, in one round trip; the tenant's id comes last, as text.

    The function's argument is what `set_config` returned, so that it cannot run before the tenant is set. If a planner
    ever moved a part of it forward, that part would see no rows at all.
    """
    others = [name for name in names if name != "tenant_id"]
    arguments = ", ".join(
        ["p_tenant_id => scope.tenant_id", *(f"p_{name} => ${i}" for i, name in enumerate(others, 1))]
    )
    scope = f"select set_config('zora.tenant_id', ${len(names)}, true)::uuid as tenant_id offset 0"
    call = f"{schema.quoted(place)}.{function}({arguments})"
    return f"select f.* from ({scope}) as scope cross join lateral {call} as f"


_REJECTED = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)


class _translated:
    """Turn the driver's errors into ours."""

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        """Raise the error that a caller can act on. The server's DETAIL stays out of it: it quotes whole rows."""
        said = str(error.args[0] if isinstance(error, asyncpg.PostgresError) else error) or type(error).__name__
        if isinstance(error, asyncpg.PostgresError) and error.sqlstate in OUR_ERRORS:
            raise OUR_ERRORS[error.sqlstate](said) from error
        if isinstance(error, asyncpg.DeadlockDetectedError):
            raise DatabaseUnavailable(
                "the database ended this call, which waited for one that waited for it"
            ) from error
        if isinstance(error, asyncpg.QueryCanceledError):
            raise TooMuchAtOnce(f"the database was not done with a call in the time that it allows: {said}") from error
        if isinstance(error, asyncpg.UniqueViolationError):
            # Raised by one of our functions, it says what is taken; a constraint's own words are not for callers.
            taken = said if error.constraint_name is None else "something with this key exists already"
            raise DuplicateKey(taken) from error
        if isinstance(error, asyncpg.InvalidPasswordError | asyncpg.InvalidAuthorizationSpecificationError):
            raise ConfigurationError(f"the database refused the login: {said}; check DATABASE_URL") from error
        if isinstance(error, asyncpg.InvalidCatalogNameError):
            raise ConfigurationError(f"{said}; check the database's name in DATABASE_URL, or create it") from error
        if isinstance(error, asyncpg.ClientConfigurationError | asyncpg.UndefinedObjectError):
            raise ConfigurationError(f"{said}; check the parameters of DATABASE_URL") from error
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            raise ConfigurationError(f"{said}: the role of DATABASE_URL must own the schema's tables") from error
        # asyncpg refuses an argument on our side with an InterfaceError that is also a ValueError.
        if isinstance(error, _REJECTED) or (
            isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)
        ):
            raise DataRejected(f"the database refuses a value: {said}") from error
        if isinstance(error, _LOST):
            raise DatabaseUnavailable(f"the database cannot be reached: {said}") from error
