-- Tasks that wait for other tasks. An edge says what becomes of a task when the one it depends on fails: fail (it fails,
-- too), skip (it is not run, and counts as completed for those after it) or continue.
--
-- A task knows how many it still waits for, so that the end of one costs an update of each that waits, and no search.
alter table agent_tasks
add column dependencies_left integer not null default 0 check (dependencies_left >= 0),
add column has_dependents boolean not null default false;

create table agent_task_dependencies (
    tenant_id uuid not null references tenants (id),
    task_id uuid not null references agent_tasks (id) on delete cascade,
    depends_on uuid not null references agent_tasks (id) on delete cascade,
    name text not null,  -- by which the task's payload refers to the other's result
    on_failure text not null default 'fail' check (on_failure in ('fail', 'skip', 'continue')),
    created_at timestamptz not null default now(),
    primary key (task_id, depends_on)
);

create index agent_task_dependencies_back on agent_task_dependencies (depends_on);

alter table agent_task_dependencies enable row level security;
