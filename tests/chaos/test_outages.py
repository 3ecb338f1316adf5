"""Processes as people start them, while the database is away, reads only, lacks a function or cannot be heard."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.autonomy.test_runtime import until
from tests.chaos.test_serve import SUMMARY, environment, serving
from tests.conftest import Zora
from tests.forgetful import Network, network
from tests.http.gateway import Gateway, pass_on, say
from zora_core.api.keys import new_key

CLI = (sys.executable, "-m", "zora_core.cli")


class Process:
    """A running command and what it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr
        async for line in self.process.stderr:
            self.said += line.decode()

    async def says(self, words: str, seconds: float = 30) -> None:
        await until(lambda: words in self.said or self.process.returncode is not None, seconds)
        assert words in self.said, self.said

    async def ends(self, seconds: float = 30) -> int:
        async with asyncio.timeout(seconds):
            await self._reading
            return await self.process.wait()


@asynccontextmanager
async def running(env: dict[str, str], *arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *CLI, *arguments, env=env, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    made = Process(process)
    try:
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await made.ends()


async def completed(zora: Zora, *, at_least: int = 1) -> bool:
    (row,) = await zora.sql("select count(*) from agent_tasks where status = 'completed'")
    return bool(row["count"] >= at_least)


@pytest.fixture
async def between(zora: Zora) -> AsyncIterator[Network]:
    async with network(zora.url) as made:
        yield made


async def key_for(zora: Zora) -> str:
    (user,) = await zora.call("ensure_user", tenant_id=zora.tenant_id, email="ada@example.org", role="founder")
    made = new_key()
    await zora.call(
        "create_api_key", tenant_id=zora.tenant_id, user_id=user["id"], name="k", prefix=made.prefix, hash=made.hash
    )
    return made.key


async def test_a_loop_that_is_started_while_the_server_is_away_waits(zora: Zora, between: Network) -> None:
    await zora.create(*SUMMARY)
    await between.close()
    async with running(environment(DATABASE_URL=between.url), "run-loop") as loop:
        await loop.says("retrying until it answers")
        assert loop.said.count("\n") == 1, loop.said
        await between.open()
        await loop.says("Ctrl-C to stop")
        await until(lambda: completed(zora), 30)
        loop.process.send_signal(signal.SIGTERM)
        assert await loop.ends() == 0
    async with running(environment(DATABASE_URL="postgresql://postgres@127.0.0.1:1/x"), "run-loop") as loop:
        await loop.says("retrying until it answers")
        loop.process.send_signal(signal.SIGINT)
        assert await loop.ends() == 130
        assert loop.said.count("\n") == 1, loop.said


async def test_a_command_that_is_started_while_the_server_is_away_ends_in_one_line() -> None:
    async with running(environment(DATABASE_URL="postgresql://postgres@127.0.0.1:1/x"), "status") as command:
        assert await command.ends() == 1
        assert command.said.startswith("error: the database cannot be reached: ")
        assert command.said.count("\n") == 1


async def test_a_server_that_reads_only_stops_no_loop_and_no_api(zora: Zora) -> None:
    key = await key_for(zora)
    env = environment(DATABASE_URL=zora.url)
    task = {"agent_id": "EIVOR", "task_type": "summarize_recent_events", "title": "What happened"}
    async with running(env, "run-loop") as loop, serving(env, token=key) as server, server.http() as http:
        await loop.says("Ctrl-C to stop")
        await zora.sql("alter system set default_transaction_read_only = on")
        await zora.sql("select pg_reload_conf()")
        try:
            await loop.says("the database is read-only: ")
            answer = await http.post("/api/agents/tasks", json=task)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "DATABASE_UNAVAILABLE")
            assert int(answer.headers["retry-after"]) > 0
            assert (await http.get("/api/agents/tasks")).status_code == 200, "what only reads is served"
            async with running(env, "create-task", *SUMMARY, "What happened") as command:
                assert await command.ends() == 1
                assert command.said.startswith("error: the database is read-only: ")
                assert command.said.count("\n") == 1
            async with running(env, "run-loop") as late:
                await late.says("the database is read-only: ")
        finally:
            await writable(zora)
        await loop.says("the database answers again after")
        assert (await http.post("/api/agents/tasks", json=task)).status_code == 201
        await until(lambda: completed(zora), 30)
        for ending in (loop.process, server.process):
            ending.send_signal(signal.SIGTERM)
        assert (await loop.ends(), await server.ended()) == (0, 0)
        for said in (loop.said, "".join(server.said)):
            assert "Traceback" not in said
        assert loop.said.count("retrying until it answers") == 1


async def writable(zora: Zora) -> None:
    import asyncpg

    connection = await asyncpg.connect(zora.url)
    try:
        await connection.execute("set default_transaction_read_only = off")
        await connection.execute("alter system reset default_transaction_read_only")
        await connection.execute("select pg_reload_conf()")
    finally:
        await connection.close()


async def test_a_url_that_reads_only_makes_a_loop_wait_and_a_command_end_in_one_line(zora: Zora) -> None:
    env = environment(DATABASE_URL=f"{zora.url}&default_transaction_read_only=on")
    async with running(env, "run-loop") as loop:
        await loop.says("the database is read-only: ")
        assert loop.process.returncode is None
    async with running(env, "create-task", *SUMMARY, "What happened") as command:
        assert await command.ends() == 1
        assert (command.said[:30], command.said.count("\n")) == ("error: the database is read-on", 1)


async def test_processes_whose_connections_are_forgotten_go_on_and_can_be_stopped(zora: Zora, between: Network) -> None:
    key = await key_for(zora)
    env = environment(DATABASE_URL=between.url)
    async with running(env, "run-loop") as loop, serving(env, "--no-worker", token=key) as server:
        await zora.create(*SUMMARY)
        await until(lambda: completed(zora), 30)
        between.forget()
        await zora.create(*SUMMARY)
        await until(lambda: completed(zora, at_least=2), 60)
        between.forget()
        for ending in (loop.process, server.process):
            ending.send_signal(signal.SIGTERM)
        assert (await loop.ends(20), await server.ended()) == (0, 0)
        assert "Traceback" not in loop.said


async def test_a_missing_function_ends_a_loop_in_one_line_when_it_lasts(zora: Zora) -> None:
    program = (
        "import sys; from zora_core.database import backoff; backoff.PATIENCE_SECONDS = 2; "
        "from zora_core.cli.main import main; sys.argv[0] = 'zora'; main()"
    )
    await zora.sql("alter function promote_agent_tasks rename to promote_elsewhere")
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, "run-loop", env=environment(DATABASE_URL=zora.url),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        loop = Process(process)
        assert await loop.ends() == 2
    finally:
        await zora.sql("alter function promote_elsewhere rename to promote_agent_tasks")
    assert "Traceback" not in loop.said
    assert loop.said.splitlines()[-1].startswith("error: the database lacks a function of this zora (")
    assert "gave up after" in loop.said.splitlines()[-1]


@pytest.mark.parametrize("arguments", [("run-loop",), ("status",), ("serve", "--port=0")], ids=lambda a: a[0])
async def test_ctrl_c_in_the_first_second_is_silent(zora: Zora, between: Network, arguments: tuple[str, ...]) -> None:
    between.forget_new = True
    env = environment(DATABASE_URL=between.url)
    ours = 0
    for milliseconds in (90, 120, 180, 240, 320, 400, 500, 700, 900):
        async with running(env, *arguments) as command:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(command.process.wait(), milliseconds / 1000)
            command.process.send_signal(signal.SIGINT)
            status = await command.ends(15)
            assert "zora_core" not in command.said, (milliseconds, command.said)
            if not command.said and status != -signal.SIGINT:  # else Python had not begun with our program
                assert status == 130
                ours += 1
    assert ours > 3


@pytest.mark.parametrize("transport", ["http"])
@pytest.mark.parametrize(
    "treatment", [say(401, {"message": "Invalid API key"}), say(200, b"<html>"), say(403, b"<html>")],
    ids=["401", "page", "403"],
)  # fmt: skip
async def test_an_unexpected_answer_over_http_is_waited_out(
    zora: Zora, server: Any, treatment: Any, transport: str
) -> None:
    project = await server.project()
    async with Gateway(project.supabase_url).listening() as gateway:
        env = environment(
            SUPABASE_URL=gateway.url,
            SUPABASE_SERVICE_KEY=project.supabase_service_key,
            ZORA_TENANT_ID=str(zora.tenant_id),
        )
        async with running(env, "run-loop", "--sleep-seconds=0.2") as loop:
            await loop.says("Ctrl-C to stop")
            await zora.create(*SUMMARY)
            await until(lambda: completed(zora), 30)
            gateway.otherwise = treatment
            await loop.says("retrying until it answers")
            gateway.otherwise = pass_on
            await loop.says("answers again")
            await zora.create(*SUMMARY)
            await until(lambda: completed(zora, at_least=2), 30)
            loop.process.send_signal(signal.SIGTERM)
            assert await loop.ends() == 0
            assert "Traceback" not in loop.said


async def test_the_api_answers_while_its_connections_are_forgotten(zora: Zora, between: Network) -> None:
    key = await key_for(zora)
    async with (
        serving(environment(DATABASE_URL=between.url), "--no-worker", token=key) as server,
        server.http() as http,
    ):
        assert (await http.get("/api/agents/tasks")).status_code == 200
        between.forget()
        answer: httpx.Response = await http.get("/api/agents/tasks", timeout=45)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "DATABASE_UNAVAILABLE")
        assert (await http.get("/api/agents/tasks")).status_code == 200
