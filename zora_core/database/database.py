"""The interface to PostgreSQL: calls SQL functions by name, over a direct connection or over HTTP."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zora_core.database.outage import Outage

if TYPE_CHECKING:
    from uuid import UUID

    from zora_core.database.schema import Installed

Row = dict[str, Any]
Call = tuple[str, dict[str, Any]]
"""A function and its arguments, for `Database.batch`."""

ANSWER_SECONDS = 30.0
"""The deadline of a call. Our functions do a bounded amount of work each; Supabase ends a statement after 8 s."""

CLOCK_SKEW_SECONDS = 5.0
"""By so much the database's clock and a worker's may differ before people are told."""

# Owns nothing and may do what functions/access.sql says.
API_ROLE = "zora_api"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What suits a way to the database, whose calls cost more or less.

    A worker takes up to `ahead` tasks more than it runs, as many as it would get through in a second; waits up to
    `linger_seconds` for outcomes to be recorded together; and stores progress every `progress_seconds` at most. Every
    `look_seconds` it is looked at whether those who follow changes still may, and, where nothing notifies, at what has
    changed.
    """

    ahead: int = 0
    linger_seconds: float = 0.0
    progress_seconds: float = 0.5
    look_seconds: float = 0.5


class Database(ABC):
    """A way to a database. `call` is the way through it; over which transport, callers need not know."""

    pace: Pace = Pace()
    attempt_seconds: float | None = None
    """How long a loop waits for an answer before it tries again on another connection; None where that is done here."""
    answered = False
    """Whether a call has ever succeeded: the address and the login are right, whatever goes wrong now."""

    @cached_property
    def outage(self) -> Outage:
        """What is known and said of the present outage; the restricted database shares it."""
        return Outage()

    @property
    @abstractmethod
    def notifies(self) -> bool:
        """Whether `listening` hears notifications; where not, one has to look now and then."""

    @abstractmethod
    async def call(self, function: str, /, **arguments: Any) -> list[Row]:
        """Call a SQL function and return its rows; jsonb goes in and comes out as Python values.

        Raises `NotFound`, `InvalidState` or `InvalidInput` as the function says, `DatabaseUnavailable` when the
        database cannot serve the call or does not answer within `ANSWER_SECONDS`. After a lost connection it is unknown
        whether the call took effect.
        """

    async def value(self, function: str, /, **arguments: Any) -> Any:
        """Call a SQL function that returns a single value."""
        (row,) = await self.call(function, **arguments)
        return next(iter(row.values()))

    @abstractmethod
    async def batch(self, calls: Sequence[Call]) -> list[list[Row]]:
        """The rows of several calls that do not depend on one another, with as little ado as the transport allows.

        They are carried out in this order, each in a transaction of its own or all in one.
        """

    @abstractmethod
    async def read(self, query: str, tenant_id: UUID, /, **arguments: Any) -> Sequence[Mapping[str, Any]]:
        """A tenant's rows of the journal for verification: the body of a function in `read_journal.sql`."""

    @abstractmethod
    async def restricted(self, *, max_connections: int = 8) -> Database:
        """The same database, acting as the role `zora_api`, one tenant at a time.

        That role owns no table, so that row-level security holds for it: a call sees and changes rows of the tenant
        that its argument `tenant_id` names, and no others, whatever the function does. Raises `ConfigurationError` when
        the role is missing or ours may not act as it.
        """

    async def api_login_obstacle(self) -> str | None:
        """Why `restricted` has to log in as the owner and only then acts as `zora_api`; None when it has not."""
        return None

    @abstractmethod
    def listening(self, channel: str, callback: Callable[[str], None]) -> AbstractAsyncContextManager[asyncio.Event]:
        """Call back with the payload of every notification; gives an event that is set when the connection is lost.

        A connection that the network has forgotten counts as lost within half a minute.
        """

    async def recover(self) -> None:  # noqa: B027 - a connection comes back by itself
        """After a `DatabaseUnavailable`: do what can be done from here to get it back."""

    @abstractmethod
    async def migrate(self) -> bool:
        """Bring the schema up to date; returns whether anything changed."""

    @abstractmethod
    async def check_schema(self) -> Installed:
        """What is installed; raises `SchemaError` unless the schema is one that this program works with."""

    async def missing_objects(self) -> list[str]:
        """The tables, columns, functions, indexes and triggers that are missing from the schema."""
        from zora_core.database import schema

        rows = await self.call("missing_schema_objects", objects=list(schema.objects()))
        return [row["missing_schema_objects"] for row in rows]

    @abstractmethod
    async def close(self) -> None:
        """Let go of every connection."""
