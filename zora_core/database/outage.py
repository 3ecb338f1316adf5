"""What the log says while a database cannot serve calls: one line when an outage begins, one when it is over."""

from __future__ import annotations

import asyncio
import math

from zora_core.errors import DatabaseUnavailable, UnexpectedAnswer
from zora_core.safe_logger import safe_logger

logger = safe_logger("zora.runtime")

REMIND_SECONDS = 60.0  # between two lines about the same problem


class Outage:
    """Shared by all that use one database in a process, so that an outage is logged once and not once per loop."""

    def __init__(self) -> None:
        """Everything is well so far."""
        self._failing: set[asyncio.Task[object] | None] = set()
        self._began = 0.0
        self._said = False
        self._last: tuple[str, float] = ("", -math.inf)
        self._over, self._lasted = -math.inf, 0.0

    def failed(self, error: DatabaseUnavailable) -> None:
        """The current task could not make its call, and will try again."""
        now = asyncio.get_running_loop().time()
        if not self._failing:
            self._began, self._said = now, False
        self._failing.add(asyncio.current_task())
        problem, when = self._last
        is_recent, is_same = now - when < REMIND_SECONDS, problem == str(error)
        if self._said:
            logged = is_recent or (is_same and not isinstance(error, UnexpectedAnswer))
        else:  # one that begins again and again is said once a minute
            logged = is_recent and is_same
        if not logged:
            self._said, self._last = True, (str(error), now)
            logger.warning("%s; retrying until it answers", error)

    def answered(self) -> None:
        """The current task's call was answered; the outage is over when no other task is failing."""
        now = asyncio.get_running_loop().time()
        if asyncio.current_task() in self._failing:
            self._over, self._lasted = now, now - self._began
        self.left()
        if self._said and not self._failing:
            self._said = False
            logger.warning("the database answers again after %.0f s", now - self._began)

    def is_recent(self, settle_seconds: float, longest_pause: float) -> bool:
        """Whether an outage is so recent that other processes may not have made their calls again.

        Between two tries they pause for up to twice as long as the outage has lasted, and `longest_pause` seconds at
        most; then their calls get `settle_seconds`. A failure of other calls that lasts longer does not count.
        """
        now = asyncio.get_running_loop().time()
        if self._failing and (asyncio.current_task() in self._failing or now - self._began < longest_pause):
            return True
        return now - self._over < settle_seconds + min(2 * self._lasted, longest_pause)

    def left(self) -> None:
        """The current task does not try any more."""
        if self._failing:
            current = asyncio.current_task()
            self._failing = {task for task in self._failing if task is not current and task and not task.done()}
