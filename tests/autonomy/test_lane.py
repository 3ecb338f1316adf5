"""Lanes by themselves: runs that are taken back from a loop that is blocked."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from uuid import UUID, uuid4

from tests.autonomy.test_runtime import until
from zora_core.autonomy.execute import Run, Settlement
from zora_core.autonomy.lane import Lane
from zora_core.settings import DEFAULT_TENANT_ID


def a_run(task_type: str) -> Run:
    now = datetime.now(UTC)
    return Run(
        {
            "id": uuid4(), "tenant_id": DEFAULT_TENANT_ID, "agent_id": "SAM", "task_type": task_type, "title": "t",
            "description": None, "payload": {}, "priority": 0, "attempt": 1, "max_attempts": 3, "timeout_seconds": None,
            "lease_token": uuid4(), "created_at": now, "started_at": now, "round": 0, "resume_with": None,
            "lost_leases": 0,
        }
    )  # fmt: skip


async def test_a_blocked_handler_that_cancels_everything_does_not_reach_what_was_taken_back() -> None:
    blocked, go_on, moved, end = threading.Event(), threading.Event(), threading.Event(), threading.Event()
    ended: dict[UUID, Settlement | None] = {}
    both = asyncio.Event()
    home = asyncio.get_running_loop()

    async def work(run: Run) -> Settlement | None:
        run.handling = True
        if run.task.task_type == "block":
            blocked.set()
            go_on.wait(30)  # blocks its loop
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        else:
            moved.set()
            await asyncio.to_thread(end.wait, 30)
        return run.settlement("completed")

    def note(run: Run, settlement: Settlement | None) -> None:
        ended[run.lease_token] = settlement
        if len(ended) == 2:
            home.call_soon_threadsafe(both.set)

    first, second = Lane(work, note), Lane(work, note)
    blocking, innocent = a_run("block"), a_run("go")
    hold = threading.Event()
    first._loop.call_soon_threadsafe(hold.wait, 30)  # so that both begin in one step of the loop
    first.submit(blocking)
    first.submit(innocent)
    hold.set()
    assert await asyncio.to_thread(blocked.wait, 30)
    (taken,) = first.take_back()
    assert taken is innocent
    second.submit(innocent)
    assert await asyncio.to_thread(moved.wait, 30)
    go_on.set()
    await until(lambda: blocking.lease_token in ended)
    end.set()
    async with asyncio.timeout(30):
        await both.wait()
    assert not innocent.cancelled_by_another
    settlement = ended[innocent.lease_token]
    assert settlement is not None
    assert settlement.outcome == "completed"
    for lane in (first, second):
        await lane.close()
        assert not lane._tasks
        assert not lane.waiting
