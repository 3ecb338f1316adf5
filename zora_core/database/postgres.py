"""Calling the database's functions over a direct connection (asyncpg)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import asyncpg
from pydantic_core import to_json

from zora_core.database import api_login, schema
from zora_core.database.database import ANSWER_SECONDS, API_ROLE, Call, Database, Row
from zora_core.database.sqlstate import Remedies, error_for
from zora_core.database.unreadable import read_json
from zora_core.database_url import Address, read_address
from zora_core.errors import ConfigurationError, DatabaseUnavailable, DataRejected, ZoraError
from zora_core.keep_alive import keep_alive
from zora_core.safe_logger import safe_logger

if TYPE_CHECKING:
    from uuid import UUID

    from zora_core.database.embedded import EmbeddedServer

logger = safe_logger("zora.runtime")

_NAMED = {"application_name": "zora"}

# Our statements are written for this isolation, whatever the default of the role, the database or the URL is. A role or
# a database that reads only by default is written to, as PostgREST does; a server that reads only is left as it is,
# because that is how a full disk or a failover is announced.
_READ_ONLY_BY_DEFAULT = """
from pg_settings
where name = 'default_transaction_read_only' and setting = 'on' and source in ('database', 'user', 'database user')
"""
_SET_UP = f"""
select set_config('default_transaction_isolation', 'read committed', false),
    (select set_config('default_transaction_read_only', 'off', false) {_READ_ONLY_BY_DEFAULT})
"""

# Rows that row level security hides from the owner's connections, such as when a table has another owner, must not look
# like rows that are gone: PostgreSQL refuses the call instead. Behind a pooler it holds for the transaction.
_SEES_ALL_ROWS = "set row_security = off"
_SEES_ALL_ROWS_POOLED = "set local row_security = off"

LISTEN_CHECK_SECONDS = 15.0  # between two questions to a connection that only listens
LISTEN_ANSWER_SECONDS = 10.0
TIDY_SECONDS = 2.0  # for a rollback, or the end of a cancelled statement: then the connection is given up
CLOSE_SECONDS = 2.0
UNANSWERED_SECONDS = 30  # for what was sent: then the connection is given up, whatever state it is in

_REMEDIES = Remedies(
    login="check the user, the password and the database's name in DATABASE_URL",
    rights="the role of DATABASE_URL must own the schema's tables",
    schema="run `zora migrate`",
)


class PostgresDatabase(Database):
    """A connection pool: a call is `select * from function(name => value)`.

    `pooled` tells that a pooler stands between us and the server: then every call is a transaction of its own, no
    statement is prepared across calls, and there is no LISTEN.
    """

    attempt_seconds = 10.0

    def __init__(
        self,
        pool: asyncpg.Pool,
        address: Address,
        *,
        pooled: bool,
        server: EmbeddedServer | None = None,
        restricted: bool = False,
        schema_name: str = schema.PUBLIC,
    ) -> None:
        """Take over an open pool on `address`; use `connect` to make one."""
        self._pool = pool
        self._address = address
        self._server = server
        self._restricted = restricted
        self._schema = schema_name
        self.pooled = pooled
        self._read_write = False
        """Whether transactions through a pooler must override the default of the role or the database."""

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
        async with self._connection() as connection:
            if not self.pooled:
                rows = await connection.fetch(query, *values)
            else:
                try:
                    rows = await self._fetch_pooled(connection, query, values)
                except asyncpg.ReadOnlySQLTransactionError:
                    if self._read_write or not await _is_read_only_by_default(connection):
                        raise
                    self._read_write = True
                    rows = await self._fetch_pooled(connection, query, values)
        return [dict(row) for row in rows]

    async def _fetch_pooled(self, connection: asyncpg.Connection, query: str, values: Sequence[Any]) -> list[Any]:
        """The rows of a call in a transaction of its own: a setting of the session would reach other programs."""
        async with self._transaction(connection, read_write=self._read_write):
            return await connection.fetch(query, *values)  # type: ignore[no-any-return]

    @asynccontextmanager
    async def _transaction(self, connection: asyncpg.Connection, **options: bool) -> AsyncIterator[None]:
        """A transaction that, through a pooler, begins with what a session of our own has from its start."""
        async with _transaction(connection, **options):
            if self.pooled:
                await connection.execute(f"set local role {API_ROLE}" if self._restricted else _SEES_ALL_ROWS_POOLED)
            yield

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
        async with self._connection() as connection, self._transaction(connection, readonly=True):
            if self._restricted:
                await connection.execute("select set_config('zora.tenant_id', $1, true)", str(tenant_id))
            await connection.execute("set local search_path = pg_catalog, pg_temp")
            return await connection.fetch(text, tenant_id, *arguments.values())  # type: ignore[no-any-return]

    async def restricted(self, *, max_connections: int = 8) -> PostgresDatabase:
        """See `Database.restricted`; a transaction per call."""
        async with self._connection() as connection, _transaction(connection):
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
        pool = await _open_pool(self._address, self.pooled, max_connections, role=API_ROLE, login=login)
        database = PostgresDatabase(pool, self._address, pooled=self.pooled, restricted=True, schema_name=self._schema)
        database.answered, database.outage = True, self.outage
        return database

    async def api_login_obstacle(self) -> str | None:
        """See `Database.api_login_obstacle`."""
        if self.pooled:
            return api_login.THROUGH_A_POOLER
        async with self._connection() as connection, _transaction(connection):
            return await api_login.obstacle(connection)

    async def _api_login(self) -> dict[str, str | None]:
        """User and password that lead to the API's role alone; none, with a warning, where there cannot be any."""

        async def log_in(user: str, password: str | None) -> asyncpg.Connection:
            return await _connect(self._address, user=user, password=password)

        found: tuple[str, str | None] | str = api_login.THROUGH_A_POOLER
        if not self.pooled:
            async with self._connection() as connection:
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
        with self._translated(connecting=True):
            connection = await _connect(self._address)
        check = None
        try:
            connection.add_termination_listener(lambda _: lost.set())
            with self._translated():
                async with asyncio.timeout(LISTEN_ANSWER_SECONDS):
                    await connection.add_listener(channel, lambda _c, _pid, _channel, payload: callback(payload))
            self.outage.answered()
            check = asyncio.create_task(_check(connection, lost))
            yield lost
        finally:
            if check is not None:
                check.cancel()
            connection.terminate()

    async def recover(self) -> None:
        """Start the embedded server again if it is gone."""
        if self._server is not None:
            await asyncio.to_thread(self._server.recover)

    async def migrate(self) -> bool:
        """See `Database.migrate`; without a deadline, on a connection of its own."""
        with self._translated():
            options = {"statement_cache_size": 0, "server_settings": None} if self.pooled else {}
            connection = await _connect(self._address, **options)
            try:
                await connection.execute(_SET_UP)
                return await schema.migrate(connection, self._schema)
            finally:
                connection.terminate()

    async def check_schema(self) -> schema.Installed:
        """See `Database.check_schema`."""
        async with self._connection() as connection, self._transaction(connection):
            return await schema.check(connection, self._schema)

    async def missing_objects(self) -> list[str]:
        """See `Database.missing_objects`."""
        async with self._connection() as connection, self._transaction(connection):
            return await schema.missing(connection, self._schema)

    async def close(self) -> None:
        """Close the connections and let go of the embedded server."""
        try:
            await asyncio.wait_for(self._pool.close(), timeout=CLOSE_SECONDS)
        except TimeoutError:
            self._pool.terminate()
        finally:
            if self._server is not None:
                await asyncio.to_thread(self._server.release)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the pool for one call, with the deadline of a call; errors become ours.

        After a call without an answer the network may have forgotten the other connections, too, and a database that
        reads only may be the old primary: new connections are opened then.
        """
        with self._translated():
            limit = asyncio.timeout(ANSWER_SECONDS)
            try:
                async with limit:
                    with self._translated(connecting=True):
                        connection = await self._pool.acquire()
                    try:
                        yield connection
                    except asyncpg.InternalClientError:  # the server hung up between two calls: asyncpg is confused
                        _cut_off(connection)
                        raise
                    except asyncpg.ReadOnlySQLTransactionError:
                        self._distrust()
                        raise
                    finally:
                        await self._give_back(connection)
            except TimeoutError:
                if not limit.expired():
                    raise
                raise DatabaseUnavailable(f"the database did not answer a call within {ANSWER_SECONDS:.0f} s") from None

    async def _give_back(self, connection: asyncpg.Connection) -> None:
        """Give a connection back to the pool; what was cancelled on it has a moment to end."""
        try:
            silent = connection.is_closed()
            await self._pool.release(connection, timeout=TIDY_SECONDS)
        except (TimeoutError, asyncpg.InterfaceError):  # asyncpg has closed it, now or before
            silent = True
        if silent:
            self._distrust()

    def _distrust(self) -> None:
        """Open new connections from now on.

        Those that are idle are cut off: asked to close, as asyncpg's expire_connections() does, they would not answer.
        """
        for holder in self._pool._holders:
            if holder.is_idle():
                holder.terminate()

    def _translated(self, *, connecting: bool = False) -> _translated:
        return _translated(self, connecting=connecting)


async def connect(
    url: str, *, server: EmbeddedServer | None = None, max_connections: int = 8, schema_name: str = schema.PUBLIC
) -> PostgresDatabase:
    """Open a pool on a PostgreSQL URL.

    Raises `DatabaseUnavailable` when the server cannot be reached, `ConfigurationError` when the URL or the login is
    wrong.
    """
    address = read_address(url, environment=os.environ)
    _check_files(address)
    for parameter in address.ignored:
        logger.warning("the parameter %s in DATABASE_URL is not supported: ZORA_SCHEMA names the schema", parameter)
    pooled = server is None and await _is_pooled(address)
    pool = await _open_pool(address, pooled, max_connections)
    return PostgresDatabase(pool, address, pooled=pooled, server=server, schema_name=schema_name)


def _check_files(address: Address) -> None:
    """Files for TLS are read whenever a connection is opened; that they are missing would look like an outage."""
    for parameter, path in address.files.items():
        if (parameter, path) == ("sslrootcert", "system"):
            continue
        try:
            with open(path, "rb"):
                pass
            if parameter == "sslrootcert":
                ssl.create_default_context(cafile=path)
        except (OSError, ValueError) as error:
            reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else getattr(error, "strerror", error)
            raise ConfigurationError(
                f"{parameter} of the database's address names {path}, which cannot be used ({reason}): correct the path"
                + (", or use sslrootcert=system for this machine's certificates" if parameter == "sslrootcert" else "")
            ) from error


def _trust(address: Address) -> dict[str, Any]:
    """For sslrootcert=system: the machine's certificates, and as for libpq nothing less than verify-full."""
    if address.files.get("sslrootcert") != "system":
        return {}
    context = ssl.create_default_context()
    if certificate := address.files.get("sslcert"):
        context.load_cert_chain(certificate, address.files.get("sslkey"))
    return {"ssl": context}


async def _connect(address: Address, **options: Any) -> asyncpg.Connection:
    """A connection outside of the pool."""
    options = {"server_settings": _NAMED, "timeout": address.connect_seconds, **_trust(address), **options}
    connection = await _first_host(address, **options)
    _watch(connection)
    return connection


async def _first_host(address: Address, **options: Any) -> asyncpg.Connection:
    """A connection to the first host that serves; each has the whole time to connect, as for libpq.

    asyncpg gives the time to all hosts together, so that one whose network is gone would use it up.
    """
    failed: Exception | None = None
    for host, port in address.hosts if len(address.hosts) > 1 else ():
        try:
            return await asyncpg.connect(address.url, host=host.strip("[]"), port=port, **options)
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.TargetServerAttributeNotMatched) as error:
            failed = error
    if failed is not None:
        raise failed
    return await asyncpg.connect(address.url, **options)


async def _open_pool(
    address: Address,
    pooled: bool,
    max_connections: int,
    *,
    role: str | None = None,
    login: Mapping[str, str | None] | None = None,
) -> asyncpg.Pool:
    """A pool; a pooler would refuse settings at the start of a session, so that there the role is set per call."""

    async def connect_one(_: str, **options: Any) -> asyncpg.Connection:
        return await _first_host(address, **options)

    return await asyncpg.create_pool(
        address.url,
        connect=connect_one,
        **(login or {}),
        min_size=0,
        max_size=max_connections,
        timeout=address.connect_seconds,
        command_timeout=ANSWER_SECONDS,
        init=_prepare_pooled if pooled else _prepare if role else _prepare_owner,
        reset=_keep,
        **({"statement_cache_size": 0} if pooled else {}),
        server_settings=None if pooled else {**_NAMED, **({"role": role} if role else {})},
        **_trust(address),
    )


async def _is_pooled(address: Address) -> bool:
    """Whether a pooler answers: the backend's process id is then not the one that the connection was told."""
    with _translated(connecting=True):
        connection = await _connect(address, statement_cache_size=0, server_settings=None)
        try:
            async with asyncio.timeout(ANSWER_SECONDS), _transaction(connection):
                version = connection.get_server_version()
                if version.major < 14:
                    raise ConfigurationError(f"PostgreSQL {version.major} is too old: 14 or later is needed")
                backend = await connection.fetchval("select pg_backend_pid()")
                return bool(backend != connection.get_server_pid())
        finally:
            connection.terminate()


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.execute(_SET_UP)
    await _prepare_pooled(connection)


async def _prepare_owner(connection: asyncpg.Connection) -> None:
    await connection.execute(_SEES_ALL_ROWS)
    await _prepare(connection)


async def _prepare_pooled(connection: asyncpg.Connection) -> None:
    """What belongs to the connection and not to the session, which changes behind a pooler."""
    _watch(connection)
    async with _transaction(connection):
        await connection.set_type_codec("jsonb", encoder=_to_json, decoder=read_json, schema="pg_catalog")


def _watch(connection: asyncpg.Connection) -> None:
    keep_alive(connection._transport, unanswered_seconds=UNANSWERED_SECONDS)  # asyncpg has no public way to it


async def _check(connection: asyncpg.Connection, lost: asyncio.Event) -> None:
    """Ask a connection that listens now and then whether it still does, and say that it is lost when it does not."""
    try:
        while True:
            await asyncio.sleep(LISTEN_CHECK_SECONDS)
            await connection.fetchval("select 1", timeout=LISTEN_ANSWER_SECONDS)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        lost.set()


@asynccontextmanager
async def _transaction(
    connection: asyncpg.Connection, *, readonly: bool = False, read_write: bool = False
) -> AsyncIterator[None]:
    """A transaction whose rollback has a deadline: a connection that does not answer is closed.

    `read_write` overrides a default of the role or the database.
    """
    transaction = connection.transaction(isolation="read_committed", readonly=readonly)
    try:
        await transaction.start()
        if read_write:
            try:
                await connection.execute("set transaction read write")
            except asyncpg.FeatureNotSupportedError as error:  # how a standby says that it is one
                raise asyncpg.ReadOnlySQLTransactionError(error.args[0]) from error
        yield
    except BaseException:
        try:
            async with asyncio.timeout(TIDY_SECONDS):
                await transaction.rollback()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            _cut_off(connection)  # which rolls back, too
        raise
    else:
        await transaction.commit()


async def _is_read_only_by_default(connection: asyncpg.Connection) -> bool:
    async with _transaction(connection):
        return bool(await connection.fetchval(f"select exists (select {_READ_ONLY_BY_DEFAULT})"))


def _cut_off(connection: asyncpg.Connection) -> None:
    with contextlib.suppress(asyncpg.InterfaceError):  # it is closed already
        connection.terminate()


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


class _translated:
    """Turn the driver's errors into ours, and remember the first success."""

    def __init__(self, database: PostgresDatabase | None = None, *, connecting: bool = False) -> None:
        """For calls to a database, or for `connecting`: then none of ours has been called yet."""
        self._database = database
        self._connecting = connecting

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        """Raise the error that a caller can act on."""
        if error is None:
            if self._database is not None and not self._connecting:
                self._database.answered = True
            return
        answered = self._database is not None and self._database.answered
        ours = _ours(error, answered=answered, connecting=self._connecting)
        if ours is not None:
            raise ours from error


def _ours(error: BaseException, *, answered: bool, connecting: bool) -> ZoraError | None:
    """Our error for the driver's or the operating system's. The server's DETAIL stays out of it: it quotes whole rows.

    An error without a code is one of the way to the server.
    """
    if isinstance(error, asyncpg.PostgresError):
        code, said = error.sqlstate or "", str(error.args[0])
        if connecting and not answered and code[:2] in ("22", "42", "55"):  # about a setting that the URL makes
            return ConfigurationError(f"{said}; check the parameters of DATABASE_URL")
        return error_for(code, said, _REMEDIES, answered=answered, constraint=error.constraint_name is not None)
    said = str(error) or type(error).__name__
    if isinstance(error, asyncpg.ClientConfigurationError):
        if "root certificate" in said:
            said = f"{said}: name one with sslrootcert=PATH, or this machine's certificates with sslrootcert=system"
        return ConfigurationError(f"{said}; check the parameters of DATABASE_URL")
    # asyncpg refuses an argument on our side with an InterfaceError that is also a ValueError.
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return DataRejected(f"the database refuses a value: {said}", unstorable=True)
    if isinstance(error, TimeoutError):
        return DatabaseUnavailable("the database cannot be reached: no answer in time")
    if isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return DatabaseUnavailable(f"the database cannot be reached: {said}")
    return None
