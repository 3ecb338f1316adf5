"""Child processes: killed when nobody waits any more, limited in memory, without credentials, replaced when lost."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import work
from zora_core import processes
from zora_core.errors import AnalysisFailed
from zora_core.processes import in_process

ROOT = Path(__file__).parents[1]


async def until_written(path: Path) -> int:
    async with asyncio.timeout(20):
        while not path.exists():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.01)
    return int(path.read_text())


def waiting(folder: Path, number: int) -> asyncio.Task[str]:
    """A call that notes that it has begun and ends when the folder has the file `go`."""
    arguments = [str(folder / "go"), str(folder / f"waits-{number}")]
    return asyncio.create_task(in_process(work.wait_for, arguments))


def gone(process_id: int) -> bool:
    """Whether a process has ended; one that nobody has waited for counts as ended."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def until_gone(process_id: int) -> None:
    async with asyncio.timeout(20):
        while not gone(process_id):  # noqa: ASYNC110 - another process ends
            await asyncio.sleep(0.01)


async def test_a_result_and_an_error_come_back() -> None:
    assert await in_process(len, ["four"]) == 4
    with pytest.raises(ValueError, match="this is wrong") as caught:
        await in_process(work.fail, ["this is wrong"])
    assert "in fail" in caught.value.__notes__[0]  # where it was raised
    with pytest.raises(AnalysisFailed, match="Unsendable: one and two"):
        await in_process(work.fail_strangely)


async def test_calls_one_after_the_other_share_a_process_in_which_parsed_pages_are_kept() -> None:
    assert len({await in_process(work.process_id) for _ in range(5)}) == 1


async def test_cancelling_kills_the_process_at_once_with_the_programs_it_started(tmp_path: Path) -> None:
    for function, marker in ((work.spin, tmp_path / "spin"), (work.run_program, tmp_path / "program")):
        waiting = asyncio.create_task(in_process(function, [str(marker)]))
        process_id = await until_written(marker)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await until_gone(process_id)
    assert await in_process(len, ["the pool recovers"]) == 17


async def test_a_killed_process_takes_no_neighbour_along(tmp_path: Path) -> None:
    neighbours = [waiting(tmp_path, number) for number in range(2)]
    for number in range(2):
        await until_written(tmp_path / f"waits-{number}")
    spinning = asyncio.create_task(in_process(work.spin, [str(tmp_path / "spin")]))
    await until_written(tmp_path / "spin")
    spinning.cancel()
    with pytest.raises(AnalysisFailed, match="ended with status 3"):
        await in_process(work.end, [3])
    (tmp_path / "go").touch()
    assert len(set(await asyncio.gather(*neighbours))) == 2


async def test_more_calls_than_processes_wait_for_their_turn_and_can_be_cancelled(tmp_path: Path) -> None:
    running = [waiting(tmp_path, number) for number in range(processes.MOST_CHILDREN)]
    for number in range(processes.MOST_CHILDREN):
        await until_written(tmp_path / f"waits-{number}")
    queued = [asyncio.create_task(in_process(work.process_id)) for _ in range(3)]
    await asyncio.sleep(0)
    queued[0].cancel()
    (tmp_path / "go").touch()
    workers = {int(pid) for pid in await asyncio.gather(*running)}
    assert len(workers) == processes.MOST_CHILDREN
    assert set(await asyncio.gather(*queued[1:])) <= workers


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits exactly")
async def test_too_much_memory_is_an_error_and_the_next_call_works() -> None:
    with pytest.raises(AnalysisFailed, match="needed more than 256 MB of memory"):
        await in_process(work.allocate, [300], memory_mb=256)
    assert await in_process(work.allocate, [300]) == 300 * 1024 * 1024


async def test_a_process_that_dies_is_an_error_that_says_how() -> None:
    with pytest.raises(AnalysisFailed, match="was ended by signal 9"):
        await in_process(os.kill, [0, signal.SIGKILL])  # itself and its group
    assert await in_process(len, [""]) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.parametrize("function", [work.die_with_a_fork, work.die_with_a_program])
async def test_a_process_that_dies_takes_along_what_it_started_and_frees_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, function: Callable[[str], None]
) -> None:
    pool = processes._Pool()
    monkeypatch.setattr(processes, "_POOL", pool)
    monkeypatch.setattr(processes, "MOST_CHILDREN", 1)
    async with asyncio.timeout(20):
        with pytest.raises(AnalysisFailed, match="was ended by signal 9"):
            await in_process(function, [str(tmp_path / "started")])
        await until_gone(await until_written(tmp_path / "started"))
        assert await in_process(len, ["the next call works"]) == 19
    pool.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
async def test_an_idle_process_that_is_killed_takes_its_fork_along(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pool = processes._Pool()
    monkeypatch.setattr(processes, "_POOL", pool)
    monkeypatch.setattr(processes, "MOST_CHILDREN", 1)
    async with asyncio.timeout(20):
        child = await in_process(work.leave_a_fork, [str(tmp_path / "fork")])
        fork = await until_written(tmp_path / "fork")
        os.kill(child, signal.SIGKILL)
        await until_gone(child)
        assert not gone(fork)
        assert await in_process(len, ["the next call works"]) == 19
        await until_gone(fork)
    pool.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
async def test_a_fork_that_returns_answers_no_call(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pool = processes._Pool()
    monkeypatch.setattr(processes, "_POOL", pool)
    monkeypatch.setattr(processes, "MOST_CHILDREN", 1)
    said: list[str] = []
    async with asyncio.timeout(20):
        child = await in_process(work.process_id)
        for _ in range(10):
            assert await in_process(work.return_twice, report=lambda _, message: said.append(message)) == child
            assert await in_process(len, ["four"]) == 4
    assert (said, caplog.records) == ([], [])
    pool.close()


async def test_credentials_of_the_environment_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("ZORA_JWT_SECRET", "DATABASE_URL", "SUPABASE_SERVICE_KEY", "ZORA_JOURNAL_KEY", "SOME_API_KEY")
    for name in secrets:
        monkeypatch.setenv(name, "a secret")
    fresh = processes._Pool()
    monkeypatch.setattr(processes, "_POOL", fresh)
    seen = await in_process(work.environment)
    assert "PATH" in seen
    assert "a secret" not in seen.values()
    fresh.close()


async def test_what_cannot_be_sent_is_refused_with_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"top level of a module.*ctx\.in_thread") as refused:
        await in_process(lambda: 1)
    assert "0x" not in str(refused.value)
    with pytest.raises(TypeError, match=r"ctx\.in_thread"):
        await in_process(len, [(line for line in "abc")])


@pytest.mark.parametrize(
    ("function", "args", "kind", "said"),
    [
        (len, [work.Unpicklable()], TypeError, "ValueError: a handle cannot be pickled"),
        (len, [work.Abrupt()], TypeError, "SystemExit: leaving"),
        (len, [work.Unreadable(work.raise_value_error)], ValueError, "a handle cannot be restored"),
        (work.unpicklable, [], ValueError, "a handle cannot be pickled"),
        (work.unreadable, [work.raise_value_error], AnalysisFailed, "ValueError: a handle cannot be restored"),
        (work.unreadable, [work.leave], AnalysisFailed, "SystemExit: 3"),
        (work.unreadable, [work.end_of_file], AnalysisFailed, "EOFError: nothing more"),
        (work.leave, [], SystemExit, "3"),
        (work.stop_iteration, [], AnalysisFailed, "StopIteration: no more"),
        (work.no_error, [], AnalysisFailed, "NoError: lost"),
    ],
)
async def test_whatever_pickling_or_a_function_raises_is_the_outcome_of_its_call_alone(
    monkeypatch: pytest.MonkeyPatch,
    function: Callable[..., Any],
    args: Sequence[Any],
    kind: type[BaseException],
    said: str,
) -> None:
    pool = processes._Pool()
    monkeypatch.setattr(processes, "_POOL", pool)
    monkeypatch.setattr(processes, "MOST_CHILDREN", 1)
    async with asyncio.timeout(20):
        with pytest.raises(kind) as raised:
            await in_process(function, args)
        assert said in str(raised.value)
        assert await in_process(len, ["the next call works"]) == 19
    assert len(pool._children) == 1
    pool.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGCHLD")
async def test_a_child_for_which_nobody_has_to_wait_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may ignore SIGCHLD, also one that was started so: then the system forgets a child that has ended."""
    pool = processes._Pool()
    monkeypatch.setattr(processes, "_POOL", pool)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        async with asyncio.timeout(20):
            child = await in_process(work.process_id)
            os.kill(child, signal.SIGKILL)
            await until_gone(child)
            assert await in_process(work.process_id) != child
    finally:
        signal.signal(signal.SIGCHLD, before)
        pool.close()


async def test_a_child_that_the_system_refuses_to_start_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(child: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = processes._Pool()
    monkeypatch.setattr(processes, "_POOL", pool)
    monkeypatch.setattr(processes, "MOST_CHILDREN", 1)
    with monkeypatch.context() as patched:
        patched.setattr(processes._Child, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            await in_process(len, ["four"])
    async with asyncio.timeout(20):
        assert await in_process(len, ["four"]) == 4
    pool.close()


async def test_printing_does_not_disturb_logs_are_passed_on_and_progress_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = []
    with caplog.at_level(logging.WARNING):
        assert await in_process(work.talk, report=lambda fraction, message: said.append((fraction, message))) == "done"
    assert said == [(0.5, "half way")]
    assert [(r.name, r.getMessage()) for r in caplog.records] == [("zora.test", "password=hunter2 was read")]


async def test_an_idle_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(processes, "_POOL", processes._Pool())
    await until_gone(await in_process(work.process_id))
    assert await in_process(len, ["again"]) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process in the middle of a call")
async def test_processes_end_with_a_killed_worker(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from tests import work; from zora_core.processes import in_process\n"
        "asyncio.run(in_process(work.spin, [sys.argv[1]]))"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "spin")], cwd=ROOT)  # noqa: ASYNC220
    child = await until_written(tmp_path / "spin")
    parent.kill()
    await asyncio.to_thread(parent.wait)
    await until_gone(child)


def test_a_program_without_a_main_guard_is_not_run_again(tmp_path: Path) -> None:
    """Other pools import the main program in each child: without a guard it would start itself again."""
    (tmp_path / "program.py").write_text(
        "import asyncio\n"
        "from zora_core.processes import in_process\n"
        "print('started', flush=True)\n"
        "def own(): return 1\n"
        "print(asyncio.run(in_process(len, ['four'])))\n"
        "try:\n    asyncio.run(in_process(own))\n"
        "except TypeError as error:\n    print(error)\n"
    )
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    started, length, refusal = done.stdout.splitlines()
    assert (started, length) == ("started", "4")
    assert "'own' is defined in the program that was started" in refusal
    assert time.monotonic() - began < 30
