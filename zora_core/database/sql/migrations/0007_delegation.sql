-- Tasks that delegate: a task creates children, waits for them without a worker, and is resumed with their results. And
-- steps of a long task, which are not done again after a crash.
--
-- A task can delegate several times; `round` counts, and an edge of agent_task_dependencies carries the round in which its
-- child was made (0: a dependency that the task was created with). A person's retry begins a new round, so that children
-- of earlier ones are not counted any more.
alter table agent_tasks
add column parent_id uuid,  -- no foreign keys: ended parents may be pruned before their children
add column root_id uuid,
add column depth integer not null default 0 check (depth >= 0),
add column round integer not null default 0,
add column children_left integer not null default 0 check (children_left >= 0),
add column resume_with jsonb,  -- what the delegating handler wants to be given back
add column deadline_at timestamptz;

create index agent_tasks_parent on agent_tasks (parent_id) where parent_id is not null;
create index agent_tasks_root on agent_tasks (root_id) where root_id is not null;

-- Parents that ended before their children did; see cancel_orphaned_agent_tasks().
create index agent_tasks_orphaning on agent_tasks (id)
where children_left > 0 and status in ('completed', 'failed');

create index agent_tasks_deadline on agent_tasks (deadline_at)
where deadline_at is not null and status = 'pending';

alter table agent_task_dependencies add column round integer not null default 0;

-- What a step of a task returned, and what it had read meanwhile.
create table agent_task_steps (
    tenant_id uuid not null references tenants (id),
    task_id uuid not null references agent_tasks (id) on delete cascade,
    name text not null check (length(name) between 1 and 200),
    value jsonb,
    reads jsonb not null default '[]',
    created_at timestamptz not null default now(),
    primary key (task_id, name)
);

alter table agent_task_steps enable row level security;

-- These have other arguments or return other columns now.
drop function if exists next_wait(integer, timestamptz);
drop function if exists create_agent_tasks(uuid, jsonb, uuid);
drop function if exists create_agent_task_graph(uuid, jsonb, uuid);
drop function if exists claim_agent_tasks(uuid, text, integer, double precision);
