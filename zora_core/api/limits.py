"""How often a credential may call."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from zora_core.api.errors import RateLimited

_MAX_KEYS = 10_000
_ROUNDING = 1e-3  # of an interval: sums of floats must not cost a request of a burst


@dataclass(frozen=True)
class Quota:
    """What is left of a credential's rate: `remaining` of `burst` requests, all of them again in `full_in` seconds."""

    burst: int
    window: int
    """Seconds in which a whole burst is restored."""
    remaining: int
    full_in: int

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """`RateLimit-Policy` and `RateLimit`, as in draft-ietf-httpapi-ratelimit-headers-10."""
        return [
            (b"ratelimit-policy", f'"burst";q={self.burst};w={self.window}'.encode()),
            (b"ratelimit", f'"burst";r={self.remaining};t={self.full_in}'.encode()),
        ]


class RateLimiter:
    """A rate per key with room for bursts, by the generic cell rate algorithm (ITU-T I.371): one number per key."""

    def __init__(self, per_minute: int, burst: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`per_minute` requests on average, `burst` (a tenth of a minute's by default) at once; 0 is no limit."""
        self._interval = 60 / per_minute if per_minute else 0.0
        self._burst = burst or max(per_minute // 10, 1)
        self._tolerance = self._interval * (self._burst - 1 + _ROUNDING)
        self._clock = clock
        self._next: dict[str, float] = {}

    def take(self, key: str) -> Quota | None:
        """Count one request of `key`, or raise `RateLimited` and count nothing; None without a limit."""
        if not self._interval:
            return None
        now = self._clock()
        due = max(self._next.get(key, now), now)
        if due - now > self._tolerance:
            raise RateLimited(due - now - self._tolerance, self._quota(due - now))
        if len(self._next) >= _MAX_KEYS:
            self._next = {key: due for key, due in self._next.items() if due > now}
        self._next[key] = due + self._interval
        return self._quota(due + self._interval - now)

    def _quota(self, used: float) -> Quota:
        """What is left when the next request of an even rate would be due in `used` seconds."""
        left = (self._tolerance + self._interval - used) / self._interval
        return Quota(
            burst=self._burst,
            window=math.ceil(self._interval * self._burst),
            remaining=max(0, math.floor(left)),
            full_in=math.ceil(max(used - _ROUNDING * self._interval, 0.0)),
        )
