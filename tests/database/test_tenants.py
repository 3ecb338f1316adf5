"""Tenants never meet, also when every function forgets its condition on the tenant: row-level security holds alone."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.conftest import Server, Zora
from tests.database.test_pooler import pooled_url  # noqa: F401 - a fixture
from zora_core.database import schema
from zora_core.database.postgres import API_ROLE, Database, connect
from zora_core.errors import InvalidInput, NotFound

# A condition on the tenant, in a statement or in the text of one (where %L or $1 stands for it).
CONDITION = re.compile(r"\b(?:\w+\.)?tenant_id = (?:(%L|\$\d)|(?:p_tenant_id|\w+\.tenant_id)\b)")
LEFT_OVER = re.compile(r"(?<!zora\.)\btenant_id\s*(?:=(?!>)|<|in\b|is\b).*")

# They run with the owner's rights, and see every tenant, because …
SECURITY_DEFINERS = {
    # … whose key it is must be known before a tenant can be named; only who knows a key's prefix is given something.
    "working_api_keys",
    # … any tenant's transaction may hold back the journal; only a moment is given.
    "journal_watermark",
}

# Live views come and go; what is paused is resumed; steps are done anew; policies and what an approved suggestion made
# are taken back.
DELETABLE = {
    "agent_task_watchers", "agent_pauses", "agent_task_policies", "climate_missions", "frontend_configs",
    "autonomy_schedules", "agent_task_steps", "workflows",
}  # fmt: skip
UNREADABLE = {"zora_functions", "zora_migrations", "zora_requests", "imported_records"}

UUID_TEXT = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass
class Tenant:
    """A tenant with rows in every table, each with the tenant's mark in its texts."""

    mark: str
    id: UUID
    user: UUID = field(default_factory=uuid4)
    watcher: UUID = field(default_factory=uuid4)
    tasks: dict[str, UUID] = field(default_factory=dict)
    tokens: dict[str, UUID] = field(default_factory=dict)
    suggestion: UUID = field(default_factory=uuid4)
    digest: str = field(default_factory=lambda: uuid4().hex * 2)
    schedule: UUID = field(default_factory=uuid4)
    schedule_row: tuple[Any, ...] = ()
    mission: UUID = field(default_factory=uuid4)
    run: UUID = field(default_factory=uuid4)
    profile: UUID = field(default_factory=uuid4)
    journal: UUID = field(default_factory=uuid4)
    memory: UUID = field(default_factory=uuid4)
    secrets: set[str] = field(default_factory=set)
    """Everything in its rows that tells of it: its mark, and every id."""


ENDS = ("completed", "failed", "retry", "running", "stopping", "expired", "cancelled", "ready", "later", "snoozed")


def imported(mark: str, kind: str = "plan") -> dict[str, Any]:
    """A memory of another system."""
    return {
        "source_table": "memory_events", "source_id": f"{mark} {kind}", "created_at": "2025-01-01T00:00:00Z",
        "agent": "EIVOR", "memory_type": kind, "content": f"{mark} from elsewhere",
    }  # fmt: skip


async def fill(owner: asyncpg.Connection, tenant: Tenant) -> None:
    """Tasks in every state and a row in every table, made by the functions themselves."""
    mark = tenant.mark
    await owner.execute(
        "insert into tenants (id, name, slug) values ($1, $2, $2) on conflict (id) do update set name = $2, slug = $2",
        tenant.id, mark,
    )  # fmt: skip
    tenant.user = await owner.fetchval(
        "select id from ensure_user($1, $2, 'founder')", tenant.id, f"{mark}@example.org"
    )
    await owner.execute(
        "select from create_api_key($1, $2, $3, $3, $4)",
        tenant.id, tenant.user, mark, hashlib.sha256(mark.encode()).digest(),
    )  # fmt: skip
    seed = {
        "pages": [{"page": f"{mark} page", "config": {"path": mark}}],
        "profiles": [{"profile_type": "brand", "name": mark, "is_primary": True}],
        "missions": [{"profile": mark, "title": mark, "category": "energy", "estimated_impact_kgco2": 1}],
        "journal": [{"category": "decision", "event_type": mark, "title": mark, "author": mark}],
        "memories": [{"agent": "EIVOR", "memory_type": "plan", "content": f"{mark} remembers", "tags": [mark]}],
    }
    await owner.execute("select seed_tenant($1, $2)", tenant.id, json.dumps(seed))
    tasks = [
        {
            "agent_id": "SAM",
            "task_type": f"{mark}_task",
            "title": f"{mark} {end}",
            "description": mark,
            "payload": {"text": mark},
            "priority": len(ENDS) - number,
            "max_attempts": 1 if end == "failed" else 3,
            "idempotency_key": f"{mark}-{end}",
            **({"run_at": "2999-01-01T00:00:00Z"} if end == "later" else {}),
        }
        for number, end in enumerate(ENDS)
    ]
    rows = await owner.fetch("select id from create_agent_tasks($1, $2, $3)", tenant.id, json.dumps(tasks), tenant.user)
    tenant.tasks = dict(zip(ENDS, (row["id"] for row in rows), strict=True))
    await owner.execute("select from cancel_agent_task($1, $2, $3)", tenant.id, tenant.tasks["cancelled"], mark)
    await owner.execute(
        "update agent_tasks set run_at = now() + interval '1 day', waiting_for = 'run_at' where id = $1",
        tenant.tasks["snoozed"],
    )
    claimed = await owner.fetch("select * from claim_agent_tasks($1, $2, 6, 3600)", tenant.id, f"{mark}-worker")
    ends = {task_id: end for end, task_id in tenant.tasks.items()}
    tenant.tokens = {ends[row["id"]]: row["lease_token"] for row in claimed}
    assert set(tenant.tokens) == set(ENDS[:6])
    await owner.execute(
        "select from heartbeat_agent_tasks($1, $2, 3600, array_fill(0.5, $3), array_fill($4::text, $3))",
        [tenant.tasks[end] for end in tenant.tokens], list(tenant.tokens.values()), [6], f"{mark} half way",
    )  # fmt: skip
    suggestion = {
        "suggestion_type": "copy", "title": mark, "body": mark, "target": {"page": mark}, "evidence": [mark],
        "risk_level": "low", "suggested_value": mark,
    }  # fmt: skip
    settled = [(end, tenant.tasks[end], tenant.tokens[end]) for end in ("completed", "failed", "retry")]
    await owner.execute(
        "select from settle_agent_tasks($1, $2, '{completed,error,error}', $3, $4, $3, '{error,error,error}', '{}')",
        [task_id for _, task_id, _ in settled], [token for _, _, token in settled], [mark] * 3,
        [json.dumps({"suggestions": [suggestion]}), None, None],
    )  # fmt: skip
    await owner.execute("select from cancel_agent_task($1, $2, $3)", tenant.id, tenant.tasks["stopping"], mark)
    await owner.execute(
        "update agent_tasks set lease_expires_at = now() - interval '1 year' where id = $1", tenant.tasks["expired"]
    )
    await owner.execute(
        "select beat_worker($1, $2, $2, '1', array[$3], 4)", tenant.id, f"{mark}-worker", f"SAM {mark}_task"
    )
    await owner.execute("select watch_agent_tasks($1, $2, 3600)", tenant.id, tenant.watcher)
    await owner.execute(
        "insert into effect_tables (tenant_id, name, key_column, writable, rests_on) "
        "values ($1, $2, 'id', '{a}', '{a}')",
        tenant.id, mark,
    )  # fmt: skip
    await owner.execute("select from set_agent_task_policy($1, $2, true, 'low')", tenant.id, f"{mark}_type")
    await owner.execute("select from pause_agents($1, 'AEGIS', $2, $3)", tenant.id, mark, tenant.user)
    await owner.execute(
        "insert into autonomy_schedules (tenant_id, name, agent_id, task_type, cron) "
        "values ($1, $2::text, 'SAM', $2::text, '* * * * *')",
        tenant.id, mark,
    )  # fmt: skip
    await owner.execute(
        "insert into agent_task_dependencies (tenant_id, task_id, depends_on, name) values ($1, $2, $3, $4)",
        tenant.id, tenant.tasks["later"], tenant.tasks["ready"], mark,
    )  # fmt: skip
    await owner.execute(
        "select from save_agent_task_step($1, $2, $3, to_jsonb($3::text))",
        tenant.tasks["running"], tenant.tokens["running"], mark,
    )  # fmt: skip
    await owner.execute("select from save_workflow($1, $2, $2, $3)", tenant.id, mark, json.dumps({"name": mark}))
    tenant.run = await owner.fetchval(
        "insert into workflow_runs (tenant_id, workflow, name, definition) values ($1, $2, $2, '{}') returning id",
        tenant.id, mark,
    )  # fmt: skip
    await owner.execute("select from import_records($1, 'memory', $2)", tenant.id, json.dumps([imported(tenant.mark)]))

    row = await owner.fetchrow("select * from next_journal_block($1, $2, -1000, -1000)", tenant.id, bytes(32))
    await owner.execute("select seal_journal_block($1, $2, $3, $4, $5)", tenant.id, row[0], bytes(64), *row[1:])
    # One that is left to seal, for who says that he does not mind its time.
    await owner.execute(
        "insert into journal_entries (id, tenant_id, category, event_type, title) "
        "values ((left(least_uuidv7('2090-01-01')::text, 14) || right($3, 22))::uuid, $1, 'decision', 'd', $2)",
        tenant.id, mark, str(uuid4()),
    )  # fmt: skip

    for name, table in (
        ("suggestion", "agent_suggestions"),
        ("schedule", "autonomy_schedules"),
        ("mission", "climate_missions"),
        ("profile", "climate_profiles"),
        ("journal", "journal_entries"),
        ("memory", "memory_events"),
    ):
        setattr(
            tenant,
            name,
            await owner.fetchval(f"select min(id::text)::uuid from {table} where tenant_id = $1", tenant.id),
        )
    tenant.schedule_row = tuple(await owner.fetchrow("select * from autonomy_schedules where id = $1", tenant.schedule))
    tenant.digest = await owner.fetchval("select effect_digest from agent_suggestions where id = $1", tenant.suggestion)
    for rows in (await rows_of(owner, tenant)).values():
        assert rows, "there is a row in every table"
        tenant.secrets.update(UUID_TEXT.findall(" ".join(rows)))
    tenant.secrets.add(mark)


async def tables(owner: asyncpg.Connection) -> list[str]:
    rows = await owner.fetch(
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') "
        "and relname <> 'test_clock' order by relname"
    )
    return [row["relname"] for row in rows]


async def rows_of(owner: asyncpg.Connection, tenant: Tenant) -> dict[str, list[str]]:
    """Every row of a tenant, as JSON text, by table."""
    found = {}
    for table in await tables(owner):
        if not table.startswith("zora_"):
            column = "id" if table == "tenants" else "tenant_id"
            rows = await owner.fetch(
                f"select to_jsonb(t)::text as row from {table} as t where {column} = $1", tenant.id
            )
            found[table] = sorted(row["row"] for row in rows)
    return found


@dataclass
class Unguarded:
    """A database whose functions have lost their conditions, with two tenants."""

    url: str
    ours: Tenant
    theirs: Tenant


@pytest.fixture(scope="module", params=["embedded", "system"])
def unguarded(request: pytest.FixtureRequest) -> Iterator[Unguarded]:
    server: Server = request.getfixturevalue(request.param)

    async def prepare(url: str) -> Unguarded:
        owner = await asyncpg.connect(url)
        await schema.migrate(owner)
        ours, theirs = Tenant("abalone", uuid4()), Tenant("barnacle", uuid4())
        await fill(owner, ours)
        await fill(owner, theirs)
        policies, rest = re.split(r"(?<=\$access\$;)", schema.functions())
        script, replaced = CONDITION.subn(lambda match: f"{match[1]} is not null" if match[1] else "true", rest)
        assert replaced > 35, "hardly any function reads or writes without a tenant"
        assert LEFT_OVER.findall(script) == []
        assert not CONDITION.search(policies)
        await owner.execute("set check_function_bodies = off")
        await owner.execute(script)
        await owner.execute(schema.pinning())
        await owner.close()
        return Unguarded(url, ours, theirs)

    with asyncio.Runner() as runner:
        database = server.fresh()
        url = runner.run(database.__aenter__())
        yield runner.run(prepare(url))
        runner.run(database.__aexit__(None, None, None))


@asynccontextmanager
async def connected(url: str, *, role: str | None = None) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, server_settings={"role": role} if role else None)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def acting_for(connection: asyncpg.Connection, tenant: Tenant | None) -> AsyncIterator[None]:
    """A transaction as `Database.restricted()` scopes it; with None, one that names no tenant."""
    async with connection.transaction():
        await connection.execute("select set_config('zora.tenant_id', $1, true)", str(tenant.id) if tenant else "")
        yield


async def test_without_their_conditions_the_functions_would_give_everything_away(unguarded: Unguarded) -> None:
    """Else the other tests of this file would prove nothing."""
    async with connected(unguarded.url) as owner:
        for function in ("list_agent_tasks", "list_journal_entries", "list_memory_events", "list_agent_suggestions"):
            rows = await owner.fetch(f"select to_jsonb(f)::text as row from {function}($1) as f", unguarded.ours.id)
            assert {t.mark for t in (unguarded.ours, unguarded.theirs) for r in rows if t.mark in r["row"]} == {
                "abalone",
                "barnacle",
            }


async def test_no_table_shows_a_row_of_another_tenant(unguarded: Unguarded) -> None:
    ours, theirs = unguarded.ours, unguarded.theirs
    refused = set()
    async with connected(unguarded.url) as owner, connected(unguarded.url, role=API_ROLE) as api:
        expected = await rows_of(owner, ours)
        for table in await tables(owner):
            try:
                async with acting_for(api, ours):
                    rows = await api.fetch(f"select to_jsonb(t)::text as row from {table} as t")
            except asyncpg.InsufficientPrivilegeError:
                refused.add(table)
                continue
            assert sorted(row["row"] for row in rows) == expected[table], table
            assert not leaks(rows, theirs)
    assert refused == UNREADABLE


async def test_without_a_tenant_nothing_is_visible(unguarded: Unguarded) -> None:
    async with connected(unguarded.url) as owner, connected(unguarded.url, role=API_ROLE) as api:
        readable = [table for table in await tables(owner) if table not in UNREADABLE]
        assert len(readable) >= 10
        for _ in range(2):
            for table in readable:
                assert await api.fetchval(f"select count(*) from {table}") == 0, table
            async with acting_for(api, unguarded.ours):
                assert await api.fetchval("select count(*) from agent_tasks") == len(ENDS)
            # The tenant ended with its transaction, but an empty setting stays where there was none.


@dataclass(frozen=True)
class Function:
    name: str
    parameters: tuple[tuple[str, str, bool], ...]
    """Each with its name, its type, and whether it has a default."""
    volatility: str
    security_definer: bool
    settings: tuple[str, ...]


async def functions(owner: asyncpg.Connection) -> list[Function]:
    rows = await owner.fetch(
        "select p.proname::text as name, p.provolatile::text as volatility, p.prosecdef, p.proconfig, "
        "p.proargnames[1:p.pronargs]::text[] as names, "
        "array(select format_type(a.t, null) from unnest(p.proargtypes) as a (t)) as types, "
        "p.pronargdefaults as defaults "
        "from pg_proc as p where p.pronamespace = 'public'::regnamespace and p.prokind = 'f' order by 1"
    )
    found = []
    for row in rows:
        required = len(row["types"]) - row["defaults"]
        parameters = [
            (name, kind, number >= required)
            for number, (name, kind) in enumerate(zip(row["names"] or (), row["types"], strict=True))
        ]
        found.append(
            Function(row["name"], tuple(parameters), row["volatility"], row["prosecdef"], tuple(row["proconfig"] or ()))
        )
    return found


async def test_only_two_functions_run_with_the_owners_rights_and_they_pin_their_search_path(
    unguarded: Unguarded,
) -> None:
    async with connected(unguarded.url) as owner:
        definers = [f for f in await functions(owner) if f.security_definer]
    assert {f.name for f in definers} == SECURITY_DEFINERS
    assert {f.settings for f in definers} == {("search_path=public, pg_temp",)}


def changes(tenant: Tenant) -> list[dict[str, Any]]:
    """An effect's changes of everything that is a tenant's."""
    page = f"{tenant.mark} page"
    mission = {"id": str(tenant.mission), "title": tenant.mark, "category": "energy"}
    return [
        {"op": "update", "table": "frontend_configs", "key": page, "before": {"config": {"path": tenant.mark}},
         "after": {"config": {}}},
        {"op": "update", "table": "frontend_configs", "key": page, "path": ["path"],
         "before": {"config": tenant.mark}, "after": {"config": "x"}},
        {"op": "update", "table": "memory_events", "key": str(tenant.memory), "before": {"archived_at": None},
         "after": {"archived_at": "now"}},
        {"op": "insert", "table": "climate_missions", "row": {"title": tenant.mark, "category": "energy"}},
        {"op": "delete", "table": "climate_missions", "row": mission},
        {"op": "cancel_tasks", "ids": [str(tenant.tasks["ready"])]},
        {"op": "release_task", "id": str(tenant.tasks["ready"]), "payload": {"text": tenant.mark}},
        {"op": "create_task", "task": {"agent_id": "SAM", "task_type": "t", "title": "t",
                                       "idempotency_key": f"{tenant.mark}-ready"}},
    ]  # fmt: skip


def values(tenant: Tenant, function: str, parameter: str, kind: str) -> list[Any]:
    """What somebody who knows everything about a tenant would pass."""
    everything = {
        "id": [tenant.suggestion]
        if "suggestion" in function or "decision" in function
        else list(tenant.tasks.values()),
        "change": [json.dumps(change) for change in changes(tenant)],
        "effect": [json.dumps({"changes": [change]}) for change in changes(tenant)],
        "decision": ["approve", "reject"],
        "digest": [tenant.digest],
        "edited_value": [None],
        "edited_effect": [None],
        "evidence": ["[]"],
        "result": [json.dumps({"suggestions": [], "examined": {tenant.mark: []}})],
        "hours": [24],
        "author": [tenant.mark],
        "subject": [tenant.mark],
        "writable": [["title"]],
        "keys": [[tenant.mark, tenant.mark]],
        "rests_on": [["title"]],
        "definition": ["{}"],
        "context": ["{}"],
        "workflow": [tenant.mark],
        "suggestion": [
            json.dumps({"suggestion_type": "copy", "title": tenant.mark, "target": {"a": tenant.mark}, "evidence": []})
        ],
        "target": ["{}"],
        "value": ["{}"],
        "payload": ["{}"],
        "details": ["{}"],
        "event_type": ["agent_suggestion_created"],
        "max_risk_level": ["high"],
        "user_id": [tenant.user],
        "by_user_id": [tenant.user],
        "made_with": [tenant.mark],
        "seconds": [3600],
        "kind": ["key"],
        "created_by": [tenant.user],
        "task_id": [tenant.tasks["completed"]],
        "profile_id": [tenant.profile],
        "watcher_id": [tenant.watcher],
        "after_id": [tenant.tasks["ready"]],
        "before_id": [UUID(int=2**128 - 1)],
        "known": [list(tenant.tasks.values())],
        "watched": [list(tenant.tasks.values())],
        "ids": [[tenant.tasks[end] for end in tenant.tokens]],
        "lease_tokens": [list(tenant.tokens.values())],
        "outcomes": [["completed"] * len(tenant.tokens)],
        "results": [[json.dumps({"suggestions": []})] * len(tenant.tokens)],
        "delegation": [
            json.dumps({"children": [{"key": "k", "agent_id": "SAM", "task_type": "t", "title": tenant.mark}]})
        ],
        "parent_id": [tenant.tasks["running"]],
        "reads": ["[]"],
        "lease_token": [tenant.tokens["running"]],
        "slug": [tenant.mark],
        "tenant": [tenant.mark, str(tenant.id)],
        "name": ["stranger"],
        "email": [f"{tenant.mark}@example.org"],
        "role": [None],
        "number": [0],
        "after": [UUID(int=0)],
        "upto": [UUID(int=2**128 - 1)],
        "function": ["list_agent_tasks"],
        "arguments": [json.dumps({"tenant_id": str(tenant.id)})],
        "calls": [json.dumps([{"function": "list_agent_tasks", "arguments": {"tenant_id": str(tenant.id)}}])],
        "request_id": [None],
        "restricted": [True],
        "key": [tenant.mark],
        "prefix": [tenant.mark],
        "prefixes": [[tenant.mark]],
        "hash": [b"0" * 32],
        "min_age_seconds": [-4e9],
        "margin_seconds": [-4e9],
        "public_key": [bytes(32)],
        "header": [json.dumps({"number": 7, "tenant_id": str(tenant.id)})],
        "signature": [bytes(64)],
        "entry_ids": [bytes(16)],
        "entry_digests": [bytes(32)],
        "salt": [UUID(int=1)],
        "query": [f"{tenant.mark} remembers"],
        "worker_id": [f"{tenant.mark}-worker"],
        "task_types": [[f"SAM {tenant.mark}_task"]],
        "held": [[]],
        "agent_id": ["SAM"],
        "agent": ["EIVOR"],
        "memory_type": ["plan", "result"],
        "category": ["agent_action", "decision"],
        "status": [None, "proposed" if "suggestion" in function else "pending"],
        "task_type": [f"{tenant.mark}_task"],
        "since": [datetime(2000, 1, 1, tzinfo=UTC)],
        "until": [datetime(3000, 1, 1, tzinfo=UTC)],
        "schedule": [json.dumps({"name": tenant.mark, "agent_id": "SAM", "task_type": "t", "cron": "* * * * *"})],
        "fields": [["name", "agent_id", "task_type", "cron"]],
        "changes": ['{"enabled": false}', json.dumps({"name": tenant.mark, "cron": "@daily"})],
        "cron": ["* * * * *"],
        "timezone": ["UTC"],
        "upcoming": [[datetime(3000, 1, 1, tzinfo=UTC)]],
        "task_ids": [[tenant.tasks["ready"]]],
        "after_created_at": [datetime(2000, 1, 1, tzinfo=UTC)],
        "expires_at": [datetime(3000, 1, 1, tzinfo=UTC)],
        "archived": [True],
        "after_priority": [None, 2147483647],
        "exact_up_to": [0, 1000],
        "older_than_seconds": [-1e9],
        "limit": [1000],
        "offset": [0, 2],
        "tasks": [
            json.dumps([{"agent_id": "SAM", "task_type": "t", "title": "t", "idempotency_key": key}])
            for key in (f"{tenant.mark}-ready", None)
        ],
        "row": [json.dumps(imported(tenant.mark, "design"))],
        "rows": [json.dumps([imported(tenant.mark), imported(tenant.mark, "design")])],
        "counts": ['{"memories": 1}'],
        "one": ["{}"],
        "new": ["{}"],
        "values": ['{"title": "t"}'],
        "back": ["{}"],
        "other": ["{}"],
        "seed": ['{"pages": [], "profiles": [{"profile_type": "brand", "name": "n"}], "missions": [], "journal": []}'],
    }
    by_type = {
        "text": ["text"],
        "integer": [3],
        "double precision": [1.0],
        "boolean": [True],
        "timestamp with time zone": [datetime(2026, 1, 1, tzinfo=UTC)],
        "interval": [timedelta(seconds=1)],
        "regclass": ["agent_tasks"],
        "regtype": ["agent_tasks"],
        "boolean[]": [[True] * len(tenant.tokens)],
        "text[]": [["text"] * len(tenant.tokens)],
        "timestamp with time zone[]": [[datetime(2026, 1, 1, tzinfo=UTC)]],
        "real[]": [[0.5] * len(tenant.tokens)],
        "double precision[]": [[0.0] * len(tenant.tokens)],
    }
    name = parameter.removeprefix("p_")
    if kind == "autonomy_schedules":
        return [tenant.schedule_row]
    if function in ("import_records", "import_record"):
        everything["kind"] = ["memory"]
    if function == "erase_journal_entry":
        everything["id"] = [str(tenant.journal), str(tenant.journal)[-5:]]
    elif function == "journal_proofs":
        everything["ids"] = [[tenant.journal]]
    elif function == "get_agent_suggestion":
        everything["id"] = [str(tenant.suggestion), str(tenant.suggestion)[-5:]]
    elif function == "get_agent_task":
        everything["id"] = [str(tenant.tasks["ready"]), str(tenant.tasks["ready"])[-5:]]
    elif function == "find_workflow_run":
        everything["id"] = [str(tenant.run)]
    elif "workflow_run" in function:
        everything["id"] = [tenant.run]
        everything["ids"] = [[tenant.run]]
    elif "suggestion" in function or "decision" in function:
        everything["id"] = [tenant.suggestion]
    elif function == "get_schedule":
        everything["id"] = [str(tenant.schedule), str(tenant.schedule)[-5:], tenant.mark]
    elif "schedule" in function:
        everything["id"] = [tenant.schedule]
    elif function == "beat_worker":
        everything["id"] = [f"{tenant.mark}-worker"]
    elif function == "ensure_tenant":
        everything["id"] = [tenant.id]
    if name in everything:
        return everything[name]
    assert kind in by_type, f"say in values() what a stranger would pass as {parameter} {kind} of {function}"
    return by_type[kind]


def calls(function: Function, tenant_id: UUID, tenant: Tenant) -> Iterator[dict[str, Any]]:
    """Arguments about a tenant's things: without what has a default, and with everything, in each combination."""
    bare = [p for p in function.parameters if not p[2]]
    full = list(function.parameters)
    for parameters in [bare, full] if len(bare) < len(full) else [full]:
        options = [
            [tenant_id] if name == "p_tenant_id" else values(tenant, function.name, name, kind)
            for name, kind, _ in parameters
        ]
        for chosen in itertools.product(*options):
            yield {name: value for (name, _, _), value in zip(parameters, chosen, strict=True)}


class _Enough(Exception):
    """Rolls a transaction back."""


async def outcome(
    connection: asyncpg.Connection, function: Function, arguments: dict[str, Any], scope: Tenant | None, *, keep: bool
) -> str:
    """Everything that a call tells: its rows, or its error with all its fields."""
    kinds = {name: kind for name, kind, _ in function.parameters}
    named = ", ".join(f"{name} => ${i}::{kinds[name]}" for i, name in enumerate(arguments, 1))
    query = f"select to_jsonb(f)::text as row from {function.name}({named}) as f"
    rows: list[str] = []
    try:
        async with acting_for(connection, scope):
            rows = [row["row"] for row in await connection.fetch(query, *arguments.values())]
            if not keep:
                raise _Enough
    except _Enough:
        pass
    except asyncpg.PostgresError as error:
        told = error.as_dict()
        return "error " + str({name: told[name] for name in sorted(told) if not name.startswith("server_source")})
    return "rows " + str(rows)


def leaks(told: object, tenant: Tenant, passed: object = "") -> set[str]:
    """What was told of a tenant that the caller had not passed in himself."""
    text, known = str(told), str(passed)
    return {secret for secret in tenant.secrets if secret in text and secret not in known}


async def test_no_function_changes_anything_of_another_tenant(unguarded: Unguarded) -> None:
    ours, theirs = unguarded.ours, unguarded.theirs
    called = answered = 0
    async with connected(unguarded.url) as connection:
        before = [await rows_of(connection, tenant) for tenant in (ours, theirs)]
        outer = connection.transaction()
        await outer.start()
        await connection.execute(f"set local role {API_ROLE}")
        for function in await functions(connection):
            for tenant_id, scope in itertools.product((ours.id, theirs.id), (ours, None)):
                for arguments in calls(function, tenant_id, theirs):
                    told = await outcome(connection, function, arguments, scope, keep=True)
                    called += 1
                    answered += told.startswith("rows")
        await connection.execute("reset role")
        assert await rows_of(connection, theirs) == before[1]
        assert await rows_of(connection, ours) != before[0], "nothing was tried"
        await outer.rollback()
    assert called > 200
    assert answered > called / 3, "most calls must be let through, or nothing is tried"


async def test_no_function_tells_anything_of_another_tenant_not_even_that_a_row_exists(unguarded: Unguarded) -> None:
    """And an id of theirs is answered as an id that nobody has."""
    ours, theirs = unguarded.ours, unguarded.theirs
    nobody = Tenant(
        "cormorant",
        uuid4(),
        tasks={end: uuid4() for end in theirs.tasks},
        tokens={end: uuid4() for end in theirs.tokens},
    )
    known = {theirs.id: nobody.id, theirs.schedule: nobody.schedule, theirs.mark: nobody.mark}
    nobody.schedule_row = tuple(known.get(v, v) if isinstance(v, UUID | str) else v for v in theirs.schedule_row)

    def without_arguments(told: str, arguments: dict[str, Any]) -> str:
        told = re.sub("[0-9a-f]{64}", "…", UUID_TEXT.sub("…", told))  # ids, and digests of what was passed
        for text in (theirs.mark, nobody.mark, *map(str, arguments.values())):
            if not (text.isdecimal() and len(text) < 5):
                told = told.replace(text, "…")
        return re.sub(r"\d+", "#", told)

    compared = 0
    async with connected(unguarded.url) as owner, connected(unguarded.url, role=API_ROLE) as api:
        for function in await functions(owner):
            if function.name in ("working_api_keys", "agent_task_backoff"):  # excused above; gives a random number
                continue
            for scope in (ours, None):
                for about_theirs, about_nobody in itertools.chain(
                    zip(calls(function, ours.id, theirs), calls(function, ours.id, nobody), strict=True),
                    zip(calls(function, theirs.id, theirs), calls(function, nobody.id, nobody), strict=True),
                ):
                    told = await outcome(api, function, about_theirs, scope, keep=False)
                    assert not leaks(told, theirs, passed=list(about_theirs.values())), (function, about_theirs, told)
                    other = await outcome(api, function, about_nobody, scope, keep=False)
                    assert without_arguments(told, about_theirs) == without_arguments(other, about_nobody), function
                    compared += 1
    assert compared > 200


async def test_a_prefix_is_all_that_a_key_is_found_by(unguarded: Unguarded) -> None:
    async with connected(unguarded.url, role=API_ROLE) as api:
        assert await api.fetch("select from working_api_keys('{}')") == []
        assert await api.fetch("select from working_api_keys('{%,\"\",cormorant}')") == []
        (key,) = await api.fetch("select * from working_api_keys($1)", [unguarded.theirs.mark])
        assert leaks(key, unguarded.theirs, passed=unguarded.theirs.mark) == {
            str(unguarded.theirs.id), str(unguarded.theirs.user),
        }, "whose it is, besides its hash"  # fmt: skip
        assert await api.fetchval("select pg_typeof(journal_watermark())::text") == "timestamp with time zone"


async def test_no_row_can_be_given_to_another_tenant(unguarded: Unguarded) -> None:
    ours, theirs = unguarded.ours, unguarded.theirs
    policed = set()
    async with connected(unguarded.url) as owner, connected(unguarded.url, role=API_ROLE) as api:
        before = [await rows_of(owner, tenant) for tenant in (ours, theirs)]
        for table, rows in before[0].items():
            columns = [
                row["attname"]
                for row in await owner.fetch(
                    "select attname::text from pg_attribute where attrelid = $1::text::regclass and attnum > 0 "
                    "and not attisdropped and attgenerated = ''",
                    table,
                )
            ]
            row = json.loads(rows[0])
            forged = {**row, "id": str(uuid4()), "tenant_id": str(theirs.id), "idempotency_key": None}
            names = ", ".join(columns)
            key = "id" if table == "tenants" else "tenant_id"
            for statement, arguments in (
                (
                    f"insert into {table} ({names}) select {names} from jsonb_populate_record(null::{table}, $1)",
                    [json.dumps(forged)],
                ),
                (f"update {table} set {key} = $1", [theirs.id]),
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError) as refusal:
                    async with acting_for(api, ours):
                        await api.execute(statement, *arguments)
                assert not leaks(refusal.value.as_dict(), theirs)
                if "row-level security" in str(refusal.value):
                    policed.add((statement.split()[0], table))
        assert [await rows_of(owner, tenant) for tenant in (ours, theirs)] == before
    both = {
        "agent_tasks", "agent_task_watchers", "agent_suggestions", "climate_missions", "frontend_configs",
        "autonomy_schedules", "workflows", "workflow_runs",
    }  # fmt: skip
    inserted = {
        "journal_entries", "memory_events", "agent_pauses", "agent_task_policies", "agent_task_dependencies", "users",
        "api_keys",
    }  # fmt: skip
    assert policed == {("insert", table) for table in both | inserted} | {("update", table) for table in both}, (
        "everything else is not even granted"
    )


async def test_an_edge_or_a_step_of_another_tenants_task_is_refused_for_the_owner_and_for_the_api(
    unguarded: Unguarded,
) -> None:
    """The check must not depend on seeing the other tenant's task, which row-level security hides from the API."""
    ours, theirs = unguarded.ours, unguarded.theirs
    edge = "insert into agent_task_dependencies (tenant_id, task_id, depends_on, name) values ($1, $2, $3, 'n')"
    step = "insert into agent_task_steps (tenant_id, task_id, name, value) values ($1, $2, 'n', '1')"
    mine, other, foreign = ours.tasks["completed"], ours.tasks["failed"], theirs.tasks["ready"]
    async with connected(unguarded.url) as owner:
        for role in (None, API_ROLE):
            for statement, tasks, allowed in (
                (edge, (mine, other), True), (edge, (mine, foreign), False), (edge, (foreign, mine), False),
                (step, (mine,), True), (step, (foreign,), False),
            ):  # fmt: skip
                transaction = owner.transaction()
                await transaction.start()
                await owner.execute("grant insert on agent_task_steps to zora_api")  # so that only the check refuses
                if role is not None:
                    await owner.execute(f"set local role {role}")
                    await owner.execute("select set_config('zora.tenant_id', $1, true)", str(ours.id))
                try:
                    await owner.execute(statement, ours.id, *tasks)
                    assert allowed, (role, statement, tasks)
                except asyncpg.ForeignKeyViolationError:
                    assert not allowed, (role, statement, tasks)
                finally:
                    await transaction.rollback()


@pytest.fixture
async def notes(zora: Zora) -> AsyncIterator[Tenant]:
    """A table of the owner's with a row of two tenants; gives the other tenant."""
    theirs = Tenant("barnacle", uuid4())
    await zora.sql("create schema shop")
    await zora.sql(
        "create table shop.notes (id serial primary key, tenant_id uuid not null, text text, secret text default 's')"
    )
    await zora.sql("insert into shop.notes (tenant_id, text) values ($1, 'ours'), ($2, 'theirs')",
                   zora.tenant_id, theirs.id)  # fmt: skip
    await zora.sql("insert into tenants (id, name, slug) values ($1, 'o', 'other')", theirs.id)
    yield theirs
    await zora.sql("drop schema shop cascade")


async def test_a_registered_table_shows_the_api_one_tenant_and_after_its_removal_nothing(
    zora: Zora, notes: Tenant
) -> None:
    ours = Tenant("abalone", zora.tenant_id)
    # Permissive policies add up: this one alone would show every tenant's rows.
    await zora.sql("create policy everybody on shop.notes using (true)")
    registered = {"name": "shop.notes", "key_column": "id", "writable": ["text"]}

    async def refused(api: asyncpg.Connection, statement: str) -> None:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with acting_for(api, ours):
                await api.execute(statement, *([notes.id] if "$1" in statement else []))

    async with connected(zora.url, role=API_ROLE) as api:
        await refused(api, "select from shop.notes")
        for tenant_id in (ours.id, notes.id):
            await zora.call("register_effect_table", tenant_id=tenant_id, **registered)
        for scope, visible in ((ours, ["ours"]), (notes, ["theirs"]), (None, [])):
            async with acting_for(api, scope):
                rows = await api.fetch("select text from shop.notes for update")
                assert [row["text"] for row in rows] == visible
        async with acting_for(api, ours):
            assert await api.execute("delete from shop.notes where text = 'theirs'") == "DELETE 0"
            assert await api.execute("update shop.notes set text = 'ours'") == "UPDATE 1"
            await api.execute("insert into shop.notes (tenant_id, text) values (zora_tenant(), 'new')")
            await api.execute("delete from shop.notes where text = 'new'")
        await refused(api, "insert into shop.notes (tenant_id, text) values ($1, 'forged')")
        await refused(api, "update shop.notes set secret = ''")

        await zora.call("remove_effect_table", tenant_id=notes.id, name="shop.notes")
        async with acting_for(api, ours):
            assert await api.fetchval("select count(*) from shop.notes") == 1, "it is registered by the other tenant"
        await zora.sql("alter table shop.notes rename to remarks")
        await zora.call("remove_effect_table", tenant_id=ours.id, name="shop.notes")
        for statement in (
            "select from shop.remarks", "delete from shop.remarks", "select nextval('shop.notes_id_seq')"
        ):  # fmt: skip
            await refused(api, statement)
    assert await zora.sql(
        "select from pg_policy where polrelid = 'shop.remarks'::regclass and polname like 'zora%'"
    ) == []  # fmt: skip


async def test_a_table_that_other_roles_use_is_registered_after_its_owner_enabled_row_level_security(
    zora: Zora, notes: Tenant
) -> None:
    """Enabling it in passing would hide the table's rows from the owner's application."""
    registered = {"tenant_id": zora.tenant_id, "name": "shop.notes", "key_column": "id", "writable": ["text"]}
    await zora.sql("grant select (text) on shop.notes to public")
    with pytest.raises(InvalidInput, match=r"other roles \(public\): run \"alter table shop.notes enable row level"):
        await zora.call("register_effect_table", **registered)
    assert await zora.call("list_effect_tables", tenant_id=zora.tenant_id) == []
    await zora.sql("alter table shop.notes enable row level security")
    await zora.call("register_effect_table", **registered)


async def test_a_table_of_another_owner_is_registered_with_the_commands_that_open_it(server: Server) -> None:
    async with server.fresh() as url:
        admin = await asyncpg.connect(url)
        await admin.execute("create role shopkeeper; create role zora_owner login; grant zora_api to zora_owner")
        owner = None
        try:
            await admin.execute("create schema zora authorization zora_owner")
            await admin.execute("create schema shop authorization shopkeeper")
            await admin.execute("create table shop.notes (id serial primary key, tenant_id uuid not null, text text)")
            await admin.execute("alter table shop.notes owner to shopkeeper; grant usage on schema shop to zora_owner")
            owner = await asyncpg.connect(url.replace("postgres@", "zora_owner@"))
            await owner.execute(schema.render_script(schema="zora"))
            await owner.execute("set search_path = zora, pg_temp")
            tenant_id = uuid4()
            await owner.execute("insert into tenants (id, name, slug) values ($1, 'o', 'o')", tenant_id)
            for change, registered in (
                ("select from register_effect_table($1, 'shop.notes', 'id', '{text}')", True),
                ("select from remove_effect_table($1, 'shop.notes')", False),
            ):
                await owner.execute(change, tenant_id)
                (row,) = await owner.fetch("select * from closed_effect_tables($1)", tenant_id)
                assert (row["name"], row["registered"], row["run_by"]) == ("shop.notes", registered, "an administrator")
                assert row["command"].startswith("grant shopkeeper to zora_owner; ")
                await admin.execute(row["command"])
                assert await owner.fetch("select * from closed_effect_tables($1)", tenant_id) == []
                allowed = "select has_column_privilege('zora_api', 'shop.notes', 'text', 'update')"
                assert await admin.fetchval(allowed) is registered
                await admin.execute("revoke shopkeeper from zora_owner")
        finally:
            if owner is not None:
                await owner.close()
            await admin.execute("drop schema if exists shop cascade; drop schema if exists zora cascade")
            await admin.execute("drop owned by zora_owner; drop role zora_owner; drop role shopkeeper")
            await admin.close()


async def test_the_apis_role_deletes_no_record_and_changes_no_structure(unguarded: Unguarded) -> None:
    ours, theirs = unguarded.ours, unguarded.theirs
    async with connected(unguarded.url) as owner, connected(unguarded.url, role=API_ROLE) as api:
        before = [await rows_of(owner, tenant) for tenant in (ours, theirs)]
        everywhere = await tables(owner)
        refused = [
            *(f"delete from {table}" for table in everywhere if table not in DELETABLE),
            *(f"truncate {table}" for table in everywhere),
            *(f"alter table {table} disable row level security" for table in everywhere),
            *(f"alter table {table} owner to {API_ROLE}" for table in everywhere),
            *(f"create index on {table} ((1))" for table in everywhere),
            *(f"create policy mine on {table} using (true)" for table in everywhere),
            *(f"drop table {table}" for table in everywhere),
            "update journal_entries set title = ''",
            "update memory_events set content = ''",
            "alter table journal_entries disable trigger all",
            "drop policy zora_api_tenant on agent_tasks",
            "drop function zora_tenant()",
            "create or replace function zora_tenant() returns uuid language sql stable as 'select null::uuid'",
            "create function mine() returns integer language sql as 'select 1'",
            "create table mine (id integer)",
            "create schema mine",
            "set session_replication_role = replica",
            f"alter role {API_ROLE} bypassrls",
            f"alter role {API_ROLE} superuser",
            "copy agent_tasks to program 'cat'",
        ]
        for statement in refused:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with acting_for(api, ours):
                    await api.execute(statement)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await api.execute("set row_security = off; select from agent_tasks")
        assert [await rows_of(owner, tenant) for tenant in (ours, theirs)] == before
        async with acting_for(api, ours):
            assert await api.execute("delete from agent_task_watchers") == "DELETE 1"
            await api.execute("select watch_agent_tasks($1, $2, 3600)", ours.id, ours.watcher)
        after = await rows_of(owner, theirs)
    assert after == before[1]


TASK_LISTS: list[dict[str, Any]] = [
    {},
    {"status": "pending"},
    {"status": "in_progress", "agent_id": "SAM"},
    {"agent_id": "LUMINA"},
    {"task_type": "abalone_task", "limit": 3},
    {"limit": 4, "offset": 3},
    {"status": "failed", "limit": 1, "offset": 1},
]


async def compare(owner: Database, api: Database, ours: Tenant, readers: list[Function]) -> None:
    """Each function gives through the restricted connection what it gives the owner for that tenant."""
    tenant_id = ours.id

    async def same(function: str, **arguments: Any) -> list[dict[str, Any]]:
        expected = await owner.call(function, tenant_id=tenant_id, **arguments)
        found = await api.call(function, tenant_id=tenant_id, **arguments)
        # As tuples, because the column of a single value is named differently.
        assert [tuple(row.values()) for row in found] == [tuple(row.values()) for row in expected], (
            function,
            arguments,
        )
        return expected

    answered = set()
    for function in readers:
        for arguments in calls(function, tenant_id, ours):
            named = {name.removeprefix("p_"): value for name, value in arguments.items() if name != "p_tenant_id"}
            if await same(function.name, **named):
                answered.add(function.name)
    assert answered >= {
        "agent_board", "agent_figures", "agent_task_counts", "agent_task_durations", "explain_agent_task",
        "find_agent_tasks", "get_agent_suggestion", "get_agent_task", "has_tenant", "journal_proofs",
        "list_agent_suggestions", "list_climate_missions", "list_climate_profiles", "list_climate_totals",
        "list_frontend_configs", "list_journal_entries", "list_memory_events", "list_open_suggestions",
        "list_related_tasks", "list_workers", "queue_history", "recent_agent_tasks", "search_memory_events",
    }  # fmt: skip

    for filters in TASK_LISTS:
        rows = await same("list_agent_tasks", **filters)
        assert rows or filters == {"agent_id": "LUMINA"}
        await same("count_agent_tasks", **{n: v for n, v in filters.items() if n not in ("limit", "offset")})
        if rows:
            last = rows[len(rows) // 2]
            await same(
                "list_agent_tasks",
                **{n: v for n, v in filters.items() if n != "offset"},
                after_priority=last["priority"],
                after_created_at=last["created_at"],
                after_id=last["id"],
            )

    for since in (None, datetime(2000, 1, 1, tzinfo=UTC)):
        asked = {"tenant_id": tenant_id, "since": since, "known": [ours.tasks["ready"]]}
        changed = [await database.call("changed_agent_tasks", **asked) for database in (owner, api)]
        for row in itertools.chain(*changed):
            assert row.pop("cursor")
        assert changed[0] == changed[1]
        assert len(changed[0]) == (4 if since is None else len(ENDS))

    healths = [await database.value("database_health", tenant_id=tenant_id) for database in (owner, api)]
    assert healths[0]["queue"] == healths[1]["queue"]
    assert healths[0]["queue"]["in_progress"] == 3

    made = []
    for database in (owner, api):
        created = await database.call(
            "create_agent_tasks",
            tenant_id=tenant_id,
            tasks=[
                {"agent_id": "SAM", "task_type": "t", "title": "new"},
                {"agent_id": "SAM", "task_type": f"{ours.mark}_task", "title": "old",
                 "payload": {"text": ours.mark}, "idempotency_key": f"{ours.mark}-completed"},
            ],
            created_by=ours.user,
        )  # fmt: skip
        assert [row["created"] for row in created] == [True, False]
        assert created[1]["id"] == ours.tasks["completed"]
        task_id = created[0]["id"]
        written = [*created]
        for function in ("cancel_agent_task", "retry_agent_task"):
            written += await database.call(function, tenant_id=tenant_id, id=task_id, user_id=ours.user)
        written += await database.call("set_agent_task_priority", tenant_id=tenant_id, id=task_id, priority=7)
        entries = await database.call("list_journal_entries", tenant_id=tenant_id, task_id=task_id)
        assert [entry["event_type"] for entry in reversed(entries)] == [
            "agent_task_created", "agent_task_cancelled", "agent_task_retried", "agent_task_prioritized",
        ]  # fmt: skip
        made.append(re.sub(str(task_id), "…", str(written)))
    assert made[0] == made[1]


# Tells of the whole database.
NOT_FOR_THE_API = {"database_health"}


@pytest.fixture
async def filled(zora: Zora) -> tuple[Tenant, Tenant, list[Function]]:
    """Two tenants in the shared database, with the functions as they are, and those that read for a tenant."""
    ours, theirs = Tenant("abalone", zora.tenant_id), Tenant("barnacle", uuid4())
    async with connected(zora.url) as owner:
        for tenant in (ours, theirs):
            await fill(owner, tenant)
        readers = [
            function
            for function in await functions(owner)
            if function.volatility == "s"
            and any(name == "p_tenant_id" for name, _, _ in function.parameters)
            and function.name not in NOT_FOR_THE_API
        ]
    return ours, theirs, readers


async def test_the_restricted_database_gives_what_the_owner_gives_for_that_tenant(
    zora: Zora, filled: tuple[Tenant, Tenant, list[Function]]
) -> None:
    ours, theirs, readers = filled
    api = await zora.database.restricted()
    try:
        await compare(zora.database, api, ours, readers)
        with pytest.raises(NotFound, match=f"no task {theirs.tasks['ready']}"):
            await api.call("get_agent_task", tenant_id=ours.id, id=str(theirs.tasks["ready"]))
    finally:
        await api.close()


async def test_so_it_does_behind_a_pooler_where_both_share_the_same_sessions(
    filled: tuple[Tenant, Tenant, list[Function]],
    pooled_url: str,  # noqa: F811
) -> None:
    """Plans that a session keeps from the owner must not serve the restricted role, nor the other way round."""
    ours, theirs, readers = filled
    owner = await connect(pooled_url)
    api = await owner.restricted()
    try:
        assert api.pooled
        await compare(owner, api, ours, readers)
        for _ in range(8):  # until generic plans are used
            for tenant, database in itertools.product((ours, theirs), (owner, api)):
                rows = await database.call("list_agent_tasks", tenant_id=tenant.id, task_type=f"{tenant.mark}_task")
                assert len(rows) == len(ENDS)
                assert {row["tenant_id"] for row in rows} == {tenant.id}
    finally:
        await api.close()
        await owner.close()
