-- The workers that run a tenant's tasks; see functions/workers.sql. task_types are the types that each claims ('AGENT type'),
-- known_types all that it has installed: more, when it is narrowed.
create table workers (
    tenant_id uuid not null references tenants (id),
    id text not null check (length(id) between 1 and 500),
    host text not null,
    version text not null,
    task_types text [] not null,
    known_types text [] not null,
    slots integer not null check (slots > 0),
    started_at timestamptz not null default now(),
    last_beat_at timestamptz not null default now(),
    expires_at timestamptz not null,
    primary key (tenant_id, id)
)
-- A row is updated every few seconds, within its page.
with (fillfactor = 50);

alter table workers enable row level security;

-- Ready tasks that have lost a lease, which run alone; see functions/claim_agent_tasks.sql.
create index agent_tasks_suspect on agent_tasks (tenant_id, updated_at)
where status = 'pending' and waiting_for is null and lost_leases > 0;

-- By kind, because a claim reads the first rows of each kind that its worker can run and merges them: what others are to
-- run is not read. See functions/claim_agent_tasks.sql.
drop index agent_tasks_ready;
create index agent_tasks_claimable on agent_tasks (tenant_id, agent_id, task_type, priority desc, created_at, id)
where status = 'pending' and waiting_for is null;

-- These have other parameters now, or return the lease token: a worker that got its own task back has two runs of one id.
drop function if exists claim_agent_tasks(uuid, text, integer, double precision, integer);
drop function if exists set_agent_task_policy(uuid, text, boolean, text, integer, uuid);
drop function if exists rescue_agent_tasks(integer, integer);
drop function if exists work_to_do(uuid, double precision, integer);
drop function if exists work_to_do(uuid, double precision, integer, text [], boolean);
drop function if exists suspect_priority(uuid, text []);
drop function if exists heartbeat_agent_tasks(uuid [], uuid [], double precision, real [], text []);
drop function if exists settle_agent_tasks(
    uuid [], uuid [], text [], text [], jsonb [], text [], text [], double precision []
);
