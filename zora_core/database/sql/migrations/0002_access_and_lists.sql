-- Who may call the API, what may be watched live, and lists of tasks whose cost does not depend on the backlog.

alter table users add constraint users_tenant_id_id_key unique (tenant_id, id);

-- A key is shown once. What is kept is its SHA-256, which is enough because the key is 256 random bits; the prefix tells
-- people which key is which, and finds the row.
create table api_keys (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null references tenants (id),
    user_id uuid not null,
    name text not null check (length(name) between 1 and 200),
    prefix text not null unique,
    hash bytea not null check (length(hash) = 32),
    expires_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz not null default now(),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);

create index api_keys_tenant on api_keys (tenant_id, created_at);

-- Who watches a tenant's tasks at this moment. Without a watcher, claims and settlements announce nothing: commits that
-- notify wait for one another. Not logged, because a watcher writes its row again every few seconds.
create unlogged table agent_task_watchers (
    tenant_id uuid not null references tenants (id),
    watcher_id uuid not null,
    expires_at timestamptz not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, watcher_id)
);

-- The status again, as a type whose comparison is leakproof. Under row-level security an index cannot be searched by an
-- enum: the planner must not let a comparison see a row before the policy has.
alter table agent_tasks add column state "char" not null generated always as (
    case status when 'pending' then 'p'::"char" when 'in_progress' then 'i' when 'completed' then 'c' else 'f' end
) stored;

-- A filtered list reads the first rows of each kind (state, agent, type) that fits, and merges them. The list of
-- everything has its own index, agent_tasks_list.
create index agent_tasks_kind on agent_tasks (
    tenant_id, state, agent_id, task_type, priority desc, created_at, id
);

alter table api_keys enable row level security;
alter table agent_task_watchers enable row level security;

-- These have other arguments or return other columns now: create or replace would refuse, or leave the old ones beside.
drop function if exists create_agent_tasks(uuid, jsonb, uuid);
drop function if exists list_agent_tasks(uuid, text, text, text, integer, integer);
drop function if exists list_journal_entries(uuid, timestamptz, timestamptz, text, uuid, integer);
drop function if exists list_memory_events(uuid, timestamptz, timestamptz, boolean, integer);
drop function if exists list_agent_suggestions(uuid, text, uuid, integer);
drop function if exists search_memory_events(uuid, text, integer);
