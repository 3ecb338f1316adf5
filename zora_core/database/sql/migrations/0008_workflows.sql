-- Workflows: definitions, and runs, whose state is that of their tasks.
create table workflows (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null references tenants (id),
    key text not null check (length(key) between 1 and 100),
    name text not null,
    definition jsonb not null,
    created_by uuid references users (id),
    created_at timestamptz not null default now(),
    updated_at timestamptz,
    unique (tenant_id, key)
);

-- definition is the one that was run; finished_at is set, and the journal told, when the last task has ended.
create table workflow_runs (
    id uuid primary key default uuidv7(),
    tenant_id uuid not null references tenants (id),
    workflow text not null,
    name text not null,
    definition jsonb not null,
    context jsonb not null default '{}',
    created_by uuid references users (id),
    created_at timestamptz not null default now(),
    finished_at timestamptz
);

create index workflow_runs_tenant on workflow_runs (tenant_id, id);

-- ask_first: once nothing else holds it back, a person is asked whether it may run.
alter table agent_tasks
add column workflow_run_id uuid references workflow_runs (id),
add column workflow_step text,
add column ask_first boolean not null default false;

create index agent_tasks_workflow_run on agent_tasks (workflow_run_id) where workflow_run_id is not null;

alter table workflows enable row level security;
alter table workflow_runs enable row level security;
