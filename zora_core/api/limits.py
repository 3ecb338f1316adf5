"""How often a credential may call."""

from __future__ import annotations

import time
from collections.abc import Callable

from zora_core.api.errors import RateLimited

_MAX_KEYS = 10_000
_ROUNDING = 1e-3  # of an interval: sums of floats must not cost a request of a burst


class RateLimiter:
    """A rate per key with room for bursts, by the generic cell rate algorithm (ITU-T I.371): one number per key."""

    def __init__(self, per_minute: int, burst: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`per_minute` requests on average, `burst` (a tenth of a minute's by default) at once; 0 is no limit."""
        self._interval = 60 / per_minute if per_minute else 0.0
        self._tolerance = self._interval * ((burst or max(per_minute // 10, 1)) - 1 + _ROUNDING)
        self._clock = clock
        self._next: dict[str, float] = {}

    def take(self, key: str) -> None:
        """Count one request of `key`, or raise `RateLimited` and count nothing."""
        if not self._interval:
            return
        now = self._clock()
        due = max(self._next.get(key, now), now)
        if due - now > self._tolerance:
            raise RateLimited(due - now - self._tolerance)
        if len(self._next) >= _MAX_KEYS:
            self._next = {key: due for key, due in self._next.items() if due > now}
        self._next[key] = due + self._interval
