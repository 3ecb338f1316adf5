"""What the measurements of a served ZORA share: databases, servers in processes of their own, turns, figures."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from zora_core.agents.builtin import registry
from zora_core.api.keys import new_key
from zora_core.database import schema
from zora_core.database.postgres import connect
from zora_core.settings import DEFAULT_TENANT_ID

# In the order of creation: the first nine tenths are completed but for one in a thousand that failed, then 20 are
# running, and the rest is pending. Types, priorities and texts are spread by a hash of the number.
LOAD = """
insert into agent_tasks (
    id, tenant_id, agent_id, task_type, status, priority, title, payload, created_at, started_at, completed_at,
    updated_at, attempt, result_summary, result, error_message, failure_kind, lease_token, lease_expires_at, worker_id,
    idempotency_key
)
select uuidv7(t.created_at - clock_timestamp()), $1, ($3::text[])[t.kind], ($4::text[])[t.kind],
    t.status::agent_task_status,
    (array[0, 0, 0, 0, 0, 0, 5, 5, 10, -5])[1 + t.hash / 16 % 10],
    'What to improve on page ' || t.n, jsonb_build_object('page', 'page-' || t.n, 'extra_instructions', md5(t.n::text)),
    t.created_at,
    case when t.status <> 'pending' then t.created_at + interval '1 second' end,
    case when t.status in ('completed', 'failed') then t.created_at + interval '3 seconds' end,
    case when t.status <> 'pending' then t.created_at + interval '3 seconds' end,
    case when t.status = 'pending' then 0 else 1 end,
    case when t.status = 'completed' then 'Four findings; the worst: the page says "carbon neutral" of a parcel' end,
    case when t.status = 'completed' then jsonb_build_object('findings', jsonb_build_array(md5(t.n::text), t.hash)) end,
    case when t.status = 'failed' then 'ConnectTimeout: the page did not answer within 10 s' end,
    case when t.status = 'failed' then 'error' end,
    case when t.status <> 'pending' then gen_random_uuid() end,
    case when t.status = 'in_progress' then now() + interval '1 day' end,
    case when t.status <> 'pending' then 'worker-1' end,
    case when t.hash % 10 = 0 then 'key ' || t.n end
from (
    select n, 1 + h % 12 as kind, h as hash, now() - ($2::int - n) * interval '90 days' / $2::int as created_at,
        case
            when n > $2::int / 10 * 9 + 20 then 'pending'
            when n > $2::int / 10 * 9 then 'in_progress'
            when n % 1000 = 500 then 'failed'
            else 'completed'
        end as status
    from generate_series(1, $2::int) as n, abs(hashint4(n)::bigint) as h
    order by n
) as t
"""


class Server(NamedTuple):
    """Where a server listens, and a founder's key."""

    port: int
    key: str


@contextmanager
def zora_server(url: str, key: str, *options: str) -> Iterator[Server]:
    """`zora serve` in a process of its own; its log goes to a file."""
    with tempfile.NamedTemporaryFile("w+") as log:
        command = [sys.executable, "-m", "zora_core.cli.main", "serve", "--no-worker", "--port=0", "--rate-limit=0"]
        environment = {**os.environ, "DATABASE_URL": url, "ZORA_TENANT_ID": str(DEFAULT_TENANT_ID)}
        process = subprocess.Popen([*command, *options], stderr=log, env=environment)
        try:
            while not (said := re.search(r"http://127\.0\.0\.1:(\d+)", Path(log.name).read_text())):
                assert process.poll() is None, Path(log.name).read_text()
                time.sleep(0.05)
            yield Server(int(said[1]), key)
        finally:
            process.terminate()
            process.wait()


async def founder_key(url: str) -> str:
    """An API key of the tenant's founder."""
    made = new_key()
    database = await connect(url)
    (founder,) = await database.call("ensure_founder", tenant_id=DEFAULT_TENANT_ID)
    await database.call(
        "create_api_key",
        tenant_id=DEFAULT_TENANT_ID,
        user_id=founder["id"],
        name="bench",
        prefix=made.prefix,
        hash=made.hash,
    )
    await database.close()
    return made.key


async def database_for(url: str, name: str) -> str:
    """A new database with the schema and a tenant."""
    connection = await asyncpg.connect(url)
    await connection.execute(f"create database {name}")
    await connection.close()
    url = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    connection = await asyncpg.connect(url)
    await schema.migrate(connection)
    await connection.execute("insert into tenants (id, name, slug) values ($1, 'b', 'b')", DEFAULT_TENANT_ID)
    await connection.close()
    return url


Contenders = dict[str, Callable[[], Coroutine[Any, Any, float]]]


async def in_turns(rounds: int, contenders: Contenders) -> dict[str, list[float]]:
    """Every contender's figure in every round; every other round backwards."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders)[:: 1 if number % 2 else -1]:
            figures[name].append(await contenders[name]())
    return figures


def report(part: str, figures: dict[str, list[float]], unit: str) -> None:
    """Medians, and the median of the ratios to the first contender, each within one round."""
    base = next(iter(figures))
    for name, values in figures.items():
        ratio = statistics.median(value / other for value, other in zip(values, figures[base], strict=True))
        beside = f"  {ratio:.2f} of {base}" if name != base else ""
        print(f"{part:7} {name:24} {statistics.median(values):8,.0f} {unit} (median of {len(values)}){beside}")


async def load(url: str, tasks: int) -> None:
    """Fill a database with tasks, and let it know how many there are."""
    kinds = [(kind.agent_id.value, kind.name) for kind in registry()]
    connection = await asyncpg.connect(url)
    await connection.execute(LOAD, DEFAULT_TENANT_ID, tasks, [k[0] for k in kinds], [k[1] for k in kinds])
    await connection.execute("vacuum analyze")
    await connection.close()
