"""What every request of one process shares."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zora_core.agents.agent import Registry
    from zora_core.api.access import Credentials
    from zora_core.api.changes import Changes
    from zora_core.api.limits import RateLimiter
    from zora_core.database.database import Database
    from zora_core.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Api:
    """The restricted database, the task types, and what is counted and watched.

    `database` is that of `Database.restricted`: a request cannot reach another tenant's rows, whatever a route does.
    `settings` says where this machine keeps the journal's key and its last block; their tenant is the runtime's.
    `following` is the task in which `changes` runs.
    """

    database: Database
    settings: Settings
    registry: Registry
    credentials: Credentials
    limiter: RateLimiter
    changes: Changes
    following: asyncio.Task[None]
    started: float = field(default_factory=time.monotonic)
