-- The tables of the queue and of everything the agents read and leave behind.
--
-- A task is a row of agent_tasks. It is claimed under a lease (lease_token, lease_expires_at), worked on without any
-- open transaction, and settled by settle_agent_tasks(), which writes outcome, journal entry, memory event and
-- suggestions in one statement. The functions in ../functions are the only way to change a task's state.
--
-- Keys are time-ordered UUIDs (version 7), so that what is appended together lies together: random keys cost this
-- layout two thirds of its throughput. Tables that are only appended to are keyed by (tenant_id, id), which serves
-- "the latest of a tenant" without a second index.

create type agent_task_status as enum ('pending', 'in_progress', 'completed', 'failed');

create table tenants (
    id uuid primary key default uuidv7(),
    name text not null,
    slug text not null unique,
    created_at timestamptz not null default now()
);

create table users (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null references tenants (id),
    email text not null,
    display_name text,
    role text not null default 'member' check (role in ('founder', 'brand_admin', 'member', 'viewer')),
    created_at timestamptz not null default now(),
    unique (tenant_id, email)
);

create table agent_tasks (
    -- The specification's columns.
    id uuid primary key default uuidv7(),
    tenant_id uuid not null references tenants (id),
    agent_id varchar(50) not null check (agent_id in ('CONNOR', 'LUMINA', 'EIVOR', 'ORACLE', 'AEGIS', 'SAM')),
    task_type varchar(100) not null,
    status agent_task_status not null default 'pending',
    priority integer not null default 0,
    title varchar(500) not null,
    description text,
    payload jsonb default '{}',
    result_summary text,
    error_message text,
    started_at timestamptz,
    completed_at timestamptz,
    created_by_user_id uuid references users (id),
    created_at timestamptz not null default now(),
    updated_at timestamptz,

    -- Why a pending task cannot be claimed yet; null when it can.
    waiting_for text check (
        waiting_for in ('run_at', 'retry', 'dependencies', 'approval', 'children', 'budget')
    ),
    run_at timestamptz,
    idempotency_key text,

    -- Attempts count the runs that ended by themselves; lost_leases counts those whose worker vanished.
    attempt integer not null default 0,
    max_attempts integer not null default 3 check (max_attempts between 1 and 100),
    lost_leases integer not null default 0,
    timeout_seconds integer check (timeout_seconds between 1 and 86400),

    -- The lease. The token is fresh for every claim and is kept after settlement, so that a settlement repeated after
    -- a broken connection is recognised.
    lease_token uuid,
    lease_expires_at timestamptz,
    worker_id text,
    cancel_requested_at timestamptz,
    progress real check (progress between 0 and 1),
    progress_message text,

    result jsonb,
    failure_kind text check (
        failure_kind in (
            'error', 'invalid_payload', 'unknown_task_type', 'timeout', 'cancelled', 'rejected', 'lost', 'dependency'
        )
    ),
    check (status = 'pending' or waiting_for is null),
    check ((status = 'failed') = (failure_kind is not null)),
    check (status <> 'in_progress' or (lease_token is not null and lease_expires_at is not null))
)
-- Every task is updated two or more times: leave room on its page, and vacuum long before a fifth of the table is dead.
with (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- The hot path: each index holds only the rows that its one statement is about, whatever the history or the future.
create index agent_tasks_ready on agent_tasks (tenant_id, priority desc, created_at, id)
where status = 'pending' and waiting_for is null;

create index agent_tasks_lease on agent_tasks (lease_expires_at)
where status = 'in_progress';

create index agent_tasks_due on agent_tasks (run_at)
where status = 'pending' and waiting_for in ('run_at', 'retry');

-- The list of a tenant's tasks, in the order in which it is shown.
create index agent_tasks_list on agent_tasks (tenant_id, priority desc, created_at, id);

create unique index agent_tasks_idempotency on agent_tasks (tenant_id, idempotency_key)
where idempotency_key is not null;

create table journal_entries (
    id uuid not null default uuidv7(),
    tenant_id uuid not null,
    category text not null check (
        category in (
            'release', 'decision', 'model_update', 'experiment', 'milestone', 'incident', 'config_change',
            'agent_action', 'user_feedback', 'system_event', 'autonomy'
        )
    ),
    event_type text not null,
    title text not null,
    body text,
    details jsonb not null default '{}',
    author text,
    task_id uuid,
    related_entity_ids uuid [] not null default '{}',
    created_at timestamptz not null default now(),
    primary key (tenant_id, id)
);

create index journal_entries_task on journal_entries (task_id) where task_id is not null;

create function refuse_journal_change() returns trigger language plpgsql as $$
begin
    raise exception 'the journal is append-only: % is refused', lower(tg_op)
        using hint = 'Write a new entry that corrects the old one.', errcode = 'PT409';
end
$$;

create trigger journal_entries_append_only
before update or delete on journal_entries
for each row execute function refuse_journal_change();

create trigger journal_entries_no_truncate
before truncate on journal_entries
for each statement execute function refuse_journal_change();

create table memory_events (
    id uuid not null default uuidv7(),
    tenant_id uuid not null,
    agent text not null,
    memory_type text not null check (
        memory_type in (
            'decision', 'reflection', 'artifact', 'conversation', 'plan', 'result', 'research', 'design',
            'safety_review', 'climate_data', 'brand_data'
        )
    ),
    content text not null,
    tags text [] not null default '{}',
    metadata jsonb not null default '{}',
    session_id text,
    source_task_id uuid,
    archived_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id)
);

create table agent_suggestions (
    id uuid not null default uuidv7(),
    tenant_id uuid not null references tenants (id),
    agent_id varchar(50) not null,
    task_id uuid not null,
    suggestion_type text not null,
    title text not null,
    body text,
    target jsonb not null default '{}',
    current_value jsonb,
    suggested_value jsonb,
    evidence jsonb not null,
    risk_level text not null check (risk_level in ('low', 'medium', 'high')),
    status text not null default 'proposed' check (
        status in ('proposed', 'approved', 'applied', 'rejected', 'expired', 'superseded')
    ),
    decided_by uuid references users (id),
    decided_at timestamptz,
    reason text,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id)
);

create index agent_suggestions_task on agent_suggestions (task_id);

create table climate_profiles (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null references tenants (id),
    profile_type text not null check (profile_type in ('person', 'brand', 'organization')),
    name text not null,
    energy_source text,
    transport_mode text,
    diet_type text,
    location_type text,
    country text,
    household_size integer check (household_size > 0),
    estimated_footprint_kg numeric check (estimated_footprint_kg >= 0),
    is_primary boolean not null default false,
    created_at timestamptz not null default now()
);

create unique index climate_profiles_primary on climate_profiles (tenant_id) where is_primary;

create table climate_missions (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null references tenants (id),
    profile_id uuid references climate_profiles (id),
    title text not null,
    description text,
    category text not null check (
        category in ('energy', 'transport', 'food', 'consumption', 'advocacy', 'products')
    ),
    status text not null default 'planned' check (
        status in ('planned', 'in_progress', 'completed', 'cancelled', 'failed')
    ),
    estimated_impact_kgco2 numeric,
    due_date timestamptz,
    verified boolean not null default false,
    verified_by uuid references users (id),
    created_at timestamptz not null default now()
);

create index climate_missions_tenant on climate_missions (tenant_id, created_at);

create table frontend_configs (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null references tenants (id),
    page text not null,
    config jsonb not null default '{}',
    created_at timestamptz not null default now(),
    unique (tenant_id, page)
);

-- Only the owner reads and writes, until policies say otherwise: on Supabase the tables would else be open to everyone
-- who has the public key.
alter table tenants enable row level security;
alter table users enable row level security;
alter table agent_tasks enable row level security;
alter table journal_entries enable row level security;
alter table memory_events enable row level security;
alter table agent_suggestions enable row level security;
alter table climate_profiles enable row level security;
alter table climate_missions enable row level security;
alter table frontend_configs enable row level security;
