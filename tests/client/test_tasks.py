"""Creating tasks and waiting for them, over both transports."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.conftest import Zora
from zora_core import Agent, AgentId, Client, Payload, Task, TaskContext, TaskResult, handler
from zora_core.errors import ConfigurationError, DataRejected, DuplicateKey, InvalidInput, NotFound

pytestmark = pytest.mark.both_transports


class Halfway(Agent):
    agent_id = AgentId.ORACLE

    def __init__(self) -> None:
        self.go_on = threading.Event()

    @handler("wait", evidence="none")
    async def wait(self, task: Task, payload: Payload, ctx: TaskContext) -> TaskResult:
        await ctx.progress(0.5, "half of it")
        await ctx.in_thread(self.go_on.wait)
        return TaskResult(summary="waited")


@pytest.fixture
def client(zora: Zora) -> Client:
    return Client(zora.database, zora.tenant_id)


@asynccontextmanager
async def working(zora: Zora, agent: Agent) -> AsyncIterator[None]:
    worker = zora.worker(agent)
    running = asyncio.create_task(worker.run(poll_seconds=0.1))
    yield
    worker.stop()
    await running


async def test_a_task_has_the_fields_it_is_given(client: Client, zora: Zora) -> None:
    later = zora.now + timedelta(hours=1)
    task = await client.tasks.create("ORACLE", "research_topic", {"topic": "heat pumps"}, run_at=later, priority=3)
    assert (task.title, task.payload, task.priority) == ("Research topic", {"topic": "heat pumps"}, 3)
    assert (task.waiting_for, task.run_at, task.created, task.ended) == ("run_at", later, True, False)
    assert await client.tasks.get(str(task.id)[-8:]) == await client.tasks.get(task.id)


async def test_an_idempotency_key_creates_once(client: Client) -> None:
    first, again = [await client.tasks.create("SAM", "review_climate_page", idempotency_key="k") for _ in range(2)]
    assert (first.id, first.created, again.created) == (again.id, True, False)
    with pytest.raises(DuplicateKey):
        await client.tasks.create("SAM", "review_accessibility", idempotency_key="k")


async def test_wrong_fields_are_refused_and_nothing_is_created(client: Client) -> None:
    for wrong in ({"title": "\0"}, {"priority": 2**40}, {"max_attempts": 0}):
        with pytest.raises((InvalidInput, DataRejected)):
            await client.tasks.create("SAM", "review_climate_page", **wrong)  # type: ignore[arg-type]
    assert (await client.tasks.count()).total == 0


async def test_a_result_is_waited_for_and_progress_can_be_followed(client: Client, zora: Zora) -> None:
    agent = Halfway()
    task = await client.tasks.create("ORACLE", "wait")
    seen = []
    with pytest.raises(TimeoutError):
        await client.tasks.result(task.id, timeout=0.2)
    async with working(zora, agent):
        async for state in client.tasks.follow(task.id):
            seen.append((state.status, state.progress_message))
            if state.progress_message == "half of it":
                agent.go_on.set()
        done = await client.tasks.result(task.id, timeout=60)
    assert seen[0] == ("pending", None)
    assert ("in_progress", "half of it") in seen
    assert (done.status, done.result_summary) == ("completed", "waited")
    with pytest.raises(NotFound):
        await client.tasks.result(uuid4())


async def test_a_program_connects_with_one_line(zora: Zora) -> None:
    async with Client.open(zora.url) as client:
        created = await client.tasks.create("SAM", "review_accessibility")
    assert (await zora.task(created.id)).title == "Review accessibility"
    async with Client.open(zora.url, tenant=zora.tenant_id) as client:
        assert client.tenant_id == zora.tenant_id
    for url, tenant, said in ((zora.url, "nobody", "nobody"), (" ", None, "URL is empty")):
        with pytest.raises(ConfigurationError, match=said):
            async with Client.open(url, tenant=tenant):
                pass


async def test_an_unknown_tenant_of_the_environment_is_named(zora: Zora, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZORA_TENANT_ID", str(uuid4()))
    with pytest.raises(ConfigurationError, match="ZORA_TENANT_ID"):
        async with Client.open(zora.url):
            pass


GUIDE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLE, OWN_TRANSACTION = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)


async def test_the_guides_program_prints_progress_and_suggestions(
    zora: Zora, transport: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if transport == "http":
        pytest.skip("the program connects by DATABASE_URL")
    (tmp_path / "climate.html").write_text("<html><body><p>Our soap is eco-friendly.</p></body></html>")
    await zora.seed("frontend_configs", page="climate", config={"path": str(tmp_path / "climate.html")})
    monkeypatch.setenv("DATABASE_URL", zora.url)
    namespace: dict[str, Any] = {}
    exec(EXAMPLE.replace("asyncio.run(main())", ""), namespace)
    worker = zora.worker()
    running = asyncio.create_task(worker.run(poll_seconds=0.1))
    await namespace["main"]()
    worker.stop()
    await running
    lines = capsys.readouterr().out.splitlines()
    assert "completed" in {line.split()[0] for line in lines}
    assert any(line.startswith(("low ", "medium ", "high ")) for line in lines)


async def test_the_guides_transaction_creates_the_task_with_the_change(zora: Zora, client: Client) -> None:
    await zora.seed("frontend_configs", page="pricing", config={})
    namespace: dict[str, Any] = {}
    exec(OWN_TRANSACTION, namespace)
    connection = await asyncpg.connect(zora.url)
    await namespace["move"](client, connection, "pricing", "https://example.org/new")
    await connection.close()
    (task,) = await client.tasks.list()
    (page,) = await client.climate.pages()
    assert page.config == {"url": "https://example.org/new"}
    assert task.payload == {"page": "pricing"}


async def test_a_row_with_json_of_another_shape_hides_no_other(client: Client, zora: Zora) -> None:
    odd, sound = [await client.tasks.create("SAM", "review_climate_page") for _ in range(2)]
    await zora.sql("update agent_tasks set payload = '[1]' where id = $1", odd.id)
    listed = {task.id: task.payload for task in await client.tasks.list()}
    assert listed == {odd.id: [1], sound.id: {}}
    assert (await client.tasks.get(odd.id)).ended is False
