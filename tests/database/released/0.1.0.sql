-- The schema of ZORA's Agent Runtime, version 1. Safe to run more than once.

begin;

select pg_advisory_xact_lock(7206017351921);

-- What has been applied to this database. Comes first in the script that `zora migrate` runs and `zora schema` prints.
create table if not exists zora_migrations (
    version integer primary key,
    name text not null,
    applied_at timestamptz not null default now()
);

create table if not exists zora_functions (
    only_row boolean primary key default true check (only_row),
    digest text not null,
    applied_at timestamptz not null default now()
);

alter table zora_migrations enable row level security;
alter table zora_functions enable row level security;

-- uuidv7() is built into PostgreSQL 18. For earlier versions: 48 bits of Unix time in milliseconds, then the version
-- and the variant, the rest random (RFC 9562, section 5.7).
do $bootstrap$
begin
    if to_regprocedure('uuidv7()') is null then
        create function uuidv7() returns uuid language sql volatile as $$
            select encode(
                set_byte(
                    overlay(
                        uuid_send(gen_random_uuid())
                        placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
                        from 1 for 6
                    ),
                    6, 112 + get_byte(uuid_send(gen_random_uuid()), 0) % 16
                ),
                'hex'
            )::uuid
        $$;
    end if;
end
$bootstrap$;


do $migration$
begin
if exists (select from zora_migrations where version = 1) then return; end if;
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

insert into zora_migrations (version, name) values (1, 'queue_and_records');
end
$migration$;

set local check_function_bodies = off;

-- Cancel a task. A pending task fails at once, as cancelled; a running one is asked to stop, which its worker learns
-- with its next heartbeat (and which the rescue honours when the worker is gone). A finished task is refused.
create or replace function cancel_agent_task(
    p_tenant_id uuid, p_id uuid, p_reason text default null, p_user_id uuid default null
) returns setof agent_tasks language plpgsql as $$
declare
    v_task agent_tasks;
begin
    select * into v_task from agent_tasks as t where t.tenant_id = p_tenant_id and t.id = p_id for update;
    if not found then
        raise exception 'no task %', p_id using errcode = 'PT404';
    elsif v_task.status in ('completed', 'failed') then
        raise exception 'task % is %: only a pending or running task can be cancelled', p_id, v_task.status
            using errcode = 'PT409';
    end if;

    update agent_tasks as t
    set status = case t.status when 'pending' then 'failed' else t.status end,
        waiting_for = null,
        failure_kind = case t.status when 'pending' then 'cancelled' end,
        error_message = case t.status
            when 'pending' then 'cancelled' || coalesce(': ' || p_reason, ' on request') else t.error_message
        end,
        completed_at = case t.status when 'pending' then zora_now() end,
        cancel_requested_at = coalesce(t.cancel_requested_at, zora_now()),
        updated_at = zora_now()
    where t.id = p_id
    returning * into v_task;

    insert into journal_entries (
        tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
    ) values (
        v_task.tenant_id, 'agent_action', 'agent_task_cancelled',
        format('%s task: %s (%s)', v_task.agent_id, v_task.task_type, v_task.status),
        coalesce(p_reason, 'cancelled on request'),
        jsonb_build_object('task_id', v_task.id, 'agent_id', v_task.agent_id, 'task_type', v_task.task_type,
            'status', v_task.status, 'priority', v_task.priority, 'attempt', v_task.attempt, 'by_user_id', p_user_id),
        coalesce(p_user_id::text, 'operator'), v_task.id, array[v_task.id], zora_now()
    );
    return next v_task;
end
$$;

-- Claim up to p_limit ready tasks of a tenant for a worker: highest priority first, then oldest. Every claim writes a
-- fresh lease token; whoever holds it, and nobody else, may heartbeat and settle the task.
--
-- Rows locked by another claim are skipped, so claimers never wait for one another. The ids pass through an array: it is
-- computed once (an inlined subquery could run again for each row, and claim more than p_limit), and it is planned as
-- short, where a join with a query of unknown limit is planned as a tenth of the table and reads all of it.
create or replace function claim_agent_tasks(
    p_tenant_id uuid, p_worker_id text, p_limit integer default 1, p_lease_seconds double precision default 30
) returns table (
    id uuid, tenant_id uuid, agent_id text, task_type text, title text, description text, payload jsonb,
    priority integer, attempt integer, max_attempts integer, timeout_seconds integer, lease_token uuid,
    created_at timestamptz, started_at timestamptz
) language sql as $$
    update agent_tasks as t
    set status = 'in_progress', attempt = t.attempt + 1, worker_id = p_worker_id, lease_token = gen_random_uuid(),
        lease_expires_at = zora_now() + make_interval(secs => p_lease_seconds), started_at = zora_now(),
        updated_at = zora_now(), progress = null, progress_message = null
    where t.id = any (array(
        select n.id
        from agent_tasks as n
        where n.tenant_id = p_tenant_id and n.status = 'pending' and n.waiting_for is null
        order by n.priority desc, n.created_at, n.id
        limit p_limit
        for update skip locked
    ))
    returning t.id, t.tenant_id, t.agent_id, t.task_type, t.title, t.description, coalesce(t.payload, '{}'),
        t.priority, t.attempt, t.max_attempts, t.timeout_seconds, t.lease_token, t.created_at, t.started_at
$$;

-- The one clock of the queue: the transaction's time. Inlined by the planner, so it costs nothing. Tests replace this
-- function in their own database and thereby own the time of every session at once.
create or replace function zora_now() returns timestamptz language sql stable as $$
    select now()
$$;

-- Create one or many tasks, in the given order, and journal each. p_tasks is a JSON array of objects with the keys of
-- v_known below; agent_id, task_type and title are required. A task whose idempotency_key this tenant has used before
-- is not created again: the earlier task is returned with created = false, whatever its state.
--
-- plpgsql and two statements, because the second must see what another transaction committed while the first waited.
create or replace function create_agent_tasks(
    p_tenant_id uuid, p_tasks jsonb, p_created_by uuid default null
) returns table (
    id uuid, agent_id text, task_type text, title text, status text, waiting_for text, created boolean
) language plpgsql as $$
declare
    v_known constant text[] := array[
        'agent_id', 'task_type', 'title', 'description', 'payload', 'priority', 'run_at', 'max_attempts',
        'timeout_seconds', 'idempotency_key'
    ];
    v_problem text;
    v_ids uuid[];
begin
    if jsonb_typeof(p_tasks) is distinct from 'array' then
        raise exception 'p_tasks must be a JSON array of tasks, not %', coalesce(jsonb_typeof(p_tasks), 'null')
            using errcode = 'PT400';
    end if;

    select case
        when jsonb_typeof(e.task) <> 'object' then format('is %s, not an object', jsonb_typeof(e.task))
        when unknown.key is not null then format(
            'has an unknown field %L (known: %s)', unknown.key, array_to_string(v_known, ', '))
        when missing.key is not null then format('lacks %L', missing.key)
        when upper(e.task ->> 'agent_id') not in ('CONNOR', 'LUMINA', 'EIVOR', 'ORACLE', 'AEGIS', 'SAM') then format(
            'names an unknown agent %L (known: CONNOR, LUMINA, EIVOR, ORACLE, AEGIS, SAM)', e.task ->> 'agent_id')
        when length(e.task ->> 'title') > 500 then 'has a title of over 500 characters'
        when jsonb_typeof(coalesce(e.task -> 'payload', '{}')) <> 'object' then 'has a payload that is not an object'
    end || format(' (task %s of %s)', e.position, jsonb_array_length(p_tasks))
    into v_problem
    from jsonb_array_elements(p_tasks) with ordinality as e (task, position)
    left join lateral (
        select k.key from jsonb_object_keys(case jsonb_typeof(e.task) when 'object' then e.task else '{}' end) as k (key)
        where k.key <> all (v_known) limit 1
    ) as unknown on true
    left join lateral (
        select k.key from unnest(array['agent_id', 'task_type', 'title']) as k (key)
        where coalesce(trim(e.task ->> k.key), '') = '' limit 1
    ) as missing on true
    where jsonb_typeof(e.task) <> 'object'
        or unknown.key is not null
        or missing.key is not null
        or upper(e.task ->> 'agent_id') not in ('CONNOR', 'LUMINA', 'EIVOR', 'ORACLE', 'AEGIS', 'SAM')
        or length(e.task ->> 'title') > 500
        or jsonb_typeof(coalesce(e.task -> 'payload', '{}')) <> 'object'
    order by e.position
    limit 1;
    if v_problem is not null then
        raise exception 'the task %', v_problem using errcode = 'PT400';
    end if;

    with given as (
        select t.*, e.position
        from jsonb_array_elements(p_tasks) with ordinality as e (task, position)
        cross join lateral jsonb_to_record(e.task) as t (
            agent_id text, task_type text, title text, description text, payload jsonb, priority integer,
            run_at timestamptz, max_attempts integer, timeout_seconds integer, idempotency_key text
        )
    ), inserted as (
        insert into agent_tasks as a (
            tenant_id, agent_id, task_type, title, description, payload, priority, run_at, waiting_for,
            max_attempts, timeout_seconds, idempotency_key, created_by_user_id, created_at
        )
        select p_tenant_id, upper(g.agent_id), g.task_type, g.title, g.description, coalesce(g.payload, '{}'),
            coalesce(g.priority, 0), g.run_at, case when g.run_at > zora_now() then 'run_at' end,
            coalesce(g.max_attempts, 3), g.timeout_seconds, g.idempotency_key, p_created_by, zora_now()
        from given as g
        order by g.position
        on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
        returning a.*
    ), journalled as (
        insert into journal_entries (
            tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
        )
        select i.tenant_id, 'agent_action', 'agent_task_created',
            i.agent_id || ' task: ' || i.task_type || ' (pending)', i.title,
            jsonb_build_object('task_id', i.id, 'agent_id', i.agent_id, 'task_type', i.task_type, 'status', 'pending',
                'priority', i.priority, 'attempt', 0, 'created_by_user_id', i.created_by_user_id),
            lower(i.agent_id), i.id, array[i.id], zora_now()
        from inserted as i
    )
    select array_agg(i.id) into v_ids from inserted as i;

    return query
    select a.id, a.agent_id::text, a.task_type::text, a.title::text, a.status::text, a.waiting_for, true
    from unnest(v_ids) with ordinality as n (id, position)
    inner join agent_tasks as a on a.id = n.id
    order by n.position;

    return query
    select a.id, a.agent_id::text, a.task_type::text, a.title::text, a.status::text, a.waiting_for, false
    from agent_tasks as a
    where a.tenant_id = p_tenant_id
        and a.idempotency_key in (select e.task ->> 'idempotency_key' from jsonb_array_elements(p_tasks) as e (task))
        and a.id <> all (coalesce(v_ids, '{}'));
end
$$;

-- Make sure that a tenant exists; returns whether it was created now.
create or replace function ensure_tenant(p_id uuid, p_name text, p_slug text) returns boolean language plpgsql as $$
begin
    insert into tenants (id, name, slug) values (p_id, p_name, p_slug) on conflict do nothing;
    return found;
end
$$;

-- The id of the tenant with this slug or id, or PT404 naming the known slugs.
create or replace function find_tenant(p_tenant text) returns uuid language plpgsql stable as $$
declare
    v_id uuid;
begin
    select t.id into v_id from tenants as t where t.slug = lower(p_tenant) or t.id::text = lower(p_tenant);
    if v_id is null then
        raise exception 'no tenant % (known: %)', quote_literal(p_tenant),
            (select coalesce(string_agg(k.slug, ', '), 'none') from (select slug from tenants order by slug limit 20) as k)
            using errcode = 'PT404';
    end if;
    return v_id;
end
$$;

-- One sentence that says why a task is not running, or what became of it.
create or replace function explain_agent_task(p_tenant_id uuid, p_id uuid) returns text language plpgsql stable as $$
declare
    t agent_tasks;
    v_ahead bigint;
    v_running bigint;
    v_last timestamptz;
begin
    select * into t from agent_tasks where tenant_id = p_tenant_id and id = p_id;
    if not found then
        raise exception 'no task %', p_id using errcode = 'PT404';
    end if;

    if t.status = 'completed' then
        return format('Completed %s ago.', zora_duration(zora_now() - t.completed_at));
    elsif t.status = 'failed' then
        return format('Failed (%s) %s ago after %s of %s attempts: %s', t.failure_kind,
            zora_duration(zora_now() - t.completed_at), t.attempt, t.max_attempts, t.error_message);
    elsif t.status = 'in_progress' and t.lease_expires_at < zora_now() then
        return format('Worker %s has not been heard of since its lease expired %s ago; the next running worker takes '
            'the task back.', t.worker_id, zora_duration(zora_now() - t.lease_expires_at));
    elsif t.status = 'in_progress' then
        return format('Running for %s on worker %s%s; its lease holds for another %s.',
            zora_duration(zora_now() - t.started_at), t.worker_id,
            case when t.cancel_requested_at is not null then ', asked to stop' else '' end,
            zora_duration(t.lease_expires_at - zora_now()));
    elsif t.waiting_for in ('run_at', 'retry') and t.run_at <= zora_now() then
        return format('Due since %s; the next running worker makes it claimable.',
            zora_duration(zora_now() - t.run_at));
    elsif t.waiting_for = 'run_at' then
        return format('Waits for its time: to run in %s (%s).', zora_duration(t.run_at - zora_now()), t.run_at);
    elsif t.waiting_for = 'retry' then
        return format('Attempt %s of %s failed (%s); the next one is due in %s.', t.attempt, t.max_attempts,
            t.error_message, zora_duration(t.run_at - zora_now()));
    elsif t.waiting_for is not null then
        return format('Waits for %s.', t.waiting_for);
    end if;

    select count(*) into v_ahead
    from agent_tasks as o
    where o.tenant_id = t.tenant_id and o.status = 'pending' and o.waiting_for is null
        and (-o.priority, o.created_at, o.id) < (-t.priority, t.created_at, t.id);
    select count(*), max(o.started_at) into v_running, v_last
    from agent_tasks as o
    where o.tenant_id = t.tenant_id and o.status = 'in_progress' and o.lease_expires_at >= zora_now();

    return format('Ready for %s, %s; %s', zora_duration(zora_now() - coalesce(t.updated_at, t.created_at)),
        case v_ahead when 0 then 'first in the queue' when 1 then 'behind 1 other task'
            else format('behind %s other tasks', v_ahead) end,
        case when v_running > 0 then format('%s running now, the last one started %s ago.',
                case v_running when 1 then '1 task is' else v_running || ' tasks are' end,
                zora_duration(zora_now() - v_last))
            else 'no worker holds a task of this tenant: start one with run-once or run-loop.' end);
end
$$;

-- An interval as a person says it, in its largest unit: 40 s, 12 min, 3 h, 2 days.
create or replace function zora_duration(p_interval interval) returns text language sql immutable as $$
    select case
        when s < 100 then round(s::numeric, case when s < 10 then 1 else 0 end) || ' s'
        when s < 6000 then round(s / 60) || ' min'
        when s < 172800 then round(s / 3600) || ' h'
        else round(s / 86400) || ' days'
    end
    from (select extract(epoch from p_interval)::double precision) as e (s)
$$;

-- Prolong the leases of everything a worker holds, store progress, and say what became of each task:
-- held, cancel (a person asked for it) or lost (the lease went to somebody else, or the task was settled).
--
-- Rows that a settlement has locked at this moment are skipped instead of waited for: two batches that lock the same
-- rows in different orders would deadlock. They are judged by what this statement's snapshot shows.
create or replace function heartbeat_agent_tasks(
    p_ids uuid [], p_lease_tokens uuid [], p_lease_seconds double precision default 30,
    p_progress real [] default null, p_messages text [] default null
) returns table (id uuid, state text) language sql as $$
    with given as (
        select g.*
        from unnest(p_ids, p_lease_tokens, coalesce(p_progress, '{}'), coalesce(p_messages, '{}'))
            as g (id, lease_token, progress, message)
    ), held as materialized (
        select t.id, g.progress, g.message
        from agent_tasks as t
        inner join given as g on g.id = t.id and g.lease_token = t.lease_token
        where t.status::text = 'in_progress'  -- as text: see settle_agent_tasks
        for update of t skip locked
    ), beaten as (
        update agent_tasks as t
        set lease_expires_at = zora_now() + make_interval(secs => p_lease_seconds),
            progress = coalesce(h.progress, t.progress),
            progress_message = coalesce(h.message, t.progress_message)
        from held as h
        where t.id = h.id
    )
    select g.id,
        case
            when t.id is null then 'lost'
            when t.cancel_requested_at is not null then 'cancel'
            else 'held'
        end
    from given as g
    left join agent_tasks as t on t.id = g.id and t.lease_token = g.lease_token and t.status::text = 'in_progress'
$$;

-- Wake the runtimes when tasks are inserted, by whatever means: once per statement and tenant, never per row.
create or replace function notify_created_agent_tasks() returns trigger language plpgsql as $$
begin
    perform pg_notify('agent_tasks', r.tenant_id::text)
    from (
        select distinct c.tenant_id from created as c where c.status = 'pending' and c.waiting_for is null
    ) as r;
    return null;
end
$$;

drop trigger if exists agent_tasks_notify_created on agent_tasks;
create trigger agent_tasks_notify_created
after insert on agent_tasks referencing new table as created
for each statement execute function notify_created_agent_tasks();

-- Make tasks claimable whose time has come (run_at, or the backoff of a retry), from any tenant, oldest first.
-- Returns how many, and in how many seconds the next one falls due (null when none waits).
create or replace function promote_agent_tasks(
    p_limit integer default 1000
) returns table (promoted bigint, next_due_seconds double precision) language plpgsql as $$
begin
    with ready as (
        update agent_tasks as t
        set waiting_for = null, updated_at = zora_now()
        where t.id = any (array(
            select d.id
            from agent_tasks as d
            where d.status = 'pending' and d.waiting_for in ('run_at', 'retry') and d.run_at <= zora_now()
            order by d.run_at
            limit p_limit
            for update skip locked
        ))
        returning t.tenant_id
    ), announced as (
        select pg_notify('agent_tasks', r.tenant_id::text) from (select distinct ready.tenant_id from ready) as r
    )
    select (select count(*) from ready) into promoted from (select count(*) from announced) as a;

    select extract(epoch from t.run_at - zora_now()) into next_due_seconds
    from agent_tasks as t
    where t.status = 'pending' and t.waiting_for in ('run_at', 'retry')
    order by t.run_at
    limit 1;
    return next;
end
$$;

-- Delete up to p_limit tasks that finished more than p_older_than_seconds ago; returns how many. Nothing calls it by
-- itself. The journal and the memories of the runs stay; a task whose suggestions still wait for a person stays too.
--
-- Ids are time-ordered, so the oldest tasks are found at the front of the primary key, without an index that every
-- completion would have to pay for.
create or replace function prune_agent_tasks(
    p_tenant_id uuid, p_older_than_seconds double precision, p_limit integer default 1000
) returns bigint language sql as $$
    with deleted as (
        delete from agent_tasks as t
        where t.id = any (array(
            select o.id
            from agent_tasks as o
            where o.tenant_id = p_tenant_id
                and o.status in ('completed', 'failed')
                and o.completed_at < zora_now() - make_interval(secs => p_older_than_seconds)
                and not exists (
                    select from agent_suggestions as s
                    where s.task_id = o.id and s.status in ('proposed', 'approved')
                )
            order by o.id
            limit p_limit
            for update skip locked
        ))
        returning t.id
    )
    select count(*) from deleted
$$;

-- Figures of the queue (of one tenant) and of the database (of all), for doctor and for the health review.
create or replace function database_health(p_tenant_id uuid) returns jsonb language sql stable as $$
    select jsonb_build_object(
        'server_version', current_setting('server_version'),
        'database_bytes', pg_database_size(current_database()),
        'server_time', clock_timestamp(),
        'queue', (
            select jsonb_build_object(
                'pending', count(*) filter (where t.status = 'pending'),
                'ready', count(*) filter (where t.status = 'pending' and t.waiting_for is null),
                'in_progress', count(*) filter (where t.status = 'in_progress'),
                'completed_last_hour', count(*) filter (
                    where t.status = 'completed' and t.completed_at > zora_now() - interval '1 hour'),
                'failed_last_hour', count(*) filter (
                    where t.status = 'failed' and t.completed_at > zora_now() - interval '1 hour'),
                'expired_leases', count(*) filter (
                    where t.status = 'in_progress' and t.lease_expires_at < zora_now()),
                'oldest_ready_seconds', extract(epoch from zora_now() - min(t.created_at) filter (
                    where t.status = 'pending' and t.waiting_for is null))
            )
            from agent_tasks as t
            where t.tenant_id = p_tenant_id
        ),
        'connections', (
            select jsonb_build_object('used', count(*), 'max', current_setting('max_connections')::integer)
            from pg_stat_activity as a
            where a.backend_type = 'client backend'
        ),
        'longest_transaction_seconds', (
            select coalesce(extract(epoch from clock_timestamp() - min(a.xact_start)), 0)
            from pg_stat_activity as a
            where a.datname = current_database() and a.xact_start is not null and a.pid <> pg_backend_pid()
        ),
        'blocked_locks', (select count(*) from pg_locks as l where not l.granted),
        'dead_tuples', (
            select coalesce(jsonb_agg(
                jsonb_build_object('table', s.relname, 'live', s.n_live_tup, 'dead', s.n_dead_tup) order by s.relname
            ), '[]')
            from pg_stat_user_tables as s
            where s.relid in (
                'agent_tasks'::regclass, 'journal_entries'::regclass, 'memory_events'::regclass,
                'agent_suggestions'::regclass
            )
        ),
        'transaction_id_age', (select age(d.datfrozenxid) from pg_database as d where d.datname = current_database())
    )
$$;

-- What people and agents read besides tasks. Every reader is bounded and scoped to one tenant.

-- Journal entries of a window of time, newest first, optionally of one category or one task.
create or replace function list_journal_entries(
    p_tenant_id uuid, p_since timestamptz default null, p_until timestamptz default null,
    p_category text default null, p_task_id uuid default null, p_limit integer default 50
) returns setof journal_entries language sql stable as $$
    select j.*
    from journal_entries as j
    where j.tenant_id = p_tenant_id
        and (p_since is null or j.created_at >= p_since)
        and (p_until is null or j.created_at < p_until)
        and (p_category is null or j.category = p_category)
        and (p_task_id is null or j.task_id = p_task_id)
    order by j.created_at desc, j.id desc
    limit p_limit
$$;

-- Memories of a window of time, newest first; archived ones only on request.
create or replace function list_memory_events(
    p_tenant_id uuid, p_since timestamptz default null, p_until timestamptz default null,
    p_archived boolean default false, p_limit integer default 50
) returns setof memory_events language sql stable as $$
    select m.*
    from memory_events as m
    where m.tenant_id = p_tenant_id
        and (p_since is null or m.created_at >= p_since)
        and (p_until is null or m.created_at < p_until)
        and (p_archived or m.archived_at is null)
    order by m.created_at desc, m.id desc
    limit p_limit
$$;

-- Memories that share a word with the query (English stemming), best first. Looks through the newest 20,000, so that
-- the cost of a search is bounded without an index that every settled task would have to pay for.
create or replace function search_memory_events(
    p_tenant_id uuid, p_query text, p_limit integer default 20
) returns setof memory_events language sql stable as $$
    with query as (
        select replace(plainto_tsquery('english', p_query)::text, '&', '|')::tsquery as words
    ), recent as (
        select m.*
        from memory_events as m
        where m.tenant_id = p_tenant_id and m.archived_at is null
        order by m.id desc
        limit 20000
    )
    select r.*
    from recent as r
    cross join query as q
    where to_tsvector('english', r.content || ' ' || array_to_string(r.tags, ' ')) @@ q.words
    order by ts_rank(to_tsvector('english', r.content || ' ' || array_to_string(r.tags, ' ')), q.words) desc, r.id desc
    limit p_limit
$$;

-- Suggestions, newest first; every filter may be null.
create or replace function list_agent_suggestions(
    p_tenant_id uuid, p_status text default null, p_task_id uuid default null, p_limit integer default 50
) returns setof agent_suggestions language sql stable as $$
    select s.*
    from agent_suggestions as s
    where s.tenant_id = p_tenant_id
        and (p_status is null or s.status = p_status)
        and (p_task_id is null or s.task_id = p_task_id)
    order by s.id desc
    limit p_limit
$$;

-- One suggestion by its id or the end of its id, or PT404; PT409 when several fit.
create or replace function get_agent_suggestion(
    p_tenant_id uuid, p_id text
) returns setof agent_suggestions language plpgsql stable as $$
declare
    v_found integer;
begin
    return query
    select s.* from agent_suggestions as s
    where s.tenant_id = p_tenant_id and right(s.id::text, length(p_id)) = lower(p_id)
    limit 2;
    get diagnostics v_found = row_count;
    if v_found = 0 or length(p_id) < 4 then
        raise exception 'no suggestion %', p_id using errcode = 'PT404';
    elsif v_found > 1 then
        raise exception 'several suggestions have an id that ends in %: give more of it', p_id using errcode = 'PT409';
    end if;
end
$$;

-- Climate profiles, the primary one first.
create or replace function list_climate_profiles(p_tenant_id uuid) returns setof climate_profiles language sql stable as $$
    select p.*
    from climate_profiles as p
    where p.tenant_id = p_tenant_id
    order by p.is_primary desc, p.created_at, p.id
    limit 1000
$$;

-- Climate missions of a tenant, or of one of its profiles, oldest first.
create or replace function list_climate_missions(
    p_tenant_id uuid, p_profile_id uuid default null
) returns setof climate_missions language sql stable as $$
    select m.*
    from climate_missions as m
    where m.tenant_id = p_tenant_id and (p_profile_id is null or m.profile_id = p_profile_id)
    order by m.created_at, m.id
    limit 5000
$$;

-- The pages that the frontend knows, by key.
create or replace function list_frontend_configs(p_tenant_id uuid) returns setof frontend_configs language sql stable as $$
    select f.* from frontend_configs as f where f.tenant_id = p_tenant_id order by f.page limit 1000
$$;

-- What people and agents read about tasks. Every reader is bounded and scoped to one tenant.

-- A tenant's tasks, highest priority first, then oldest; every filter may be null.
create or replace function list_agent_tasks(
    p_tenant_id uuid, p_agent_id text default null, p_status text default null, p_task_type text default null,
    p_limit integer default 50, p_offset integer default 0
) returns setof agent_tasks language sql stable as $$
    select t.*
    from agent_tasks as t
    where t.tenant_id = p_tenant_id
        and (p_agent_id is null or t.agent_id = p_agent_id)
        and (p_status is null or t.status = p_status::agent_task_status)
        and (p_task_type is null or t.task_type = p_task_type)
    order by t.priority desc, t.created_at, t.id
    limit p_limit offset p_offset
$$;

-- A tenant's tasks that were created, updated or finished in a window of time, newest first.
create or replace function recent_agent_tasks(
    p_tenant_id uuid, p_since timestamptz default null, p_until timestamptz default null, p_status text default null,
    p_limit integer default 1000
) returns setof agent_tasks language sql stable as $$
    select t.*
    from agent_tasks as t
    where t.tenant_id = p_tenant_id
        and (p_since is null or coalesce(t.updated_at, t.created_at) >= p_since)
        and (p_until is null or t.created_at < p_until)
        and (p_status is null or t.status = p_status::agent_task_status)
    order by t.created_at desc, t.id desc
    limit p_limit
$$;

-- One task by its id, or by the end of its id as the tables show it (the beginning of a time-ordered id tells little);
-- PT404 when there is none, PT409 when several fit.
create or replace function get_agent_task(
    p_tenant_id uuid, p_id text
) returns setof agent_tasks language plpgsql stable as $$
declare
    v_found integer;
begin
    if p_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        return query select t.* from agent_tasks as t where t.tenant_id = p_tenant_id and t.id = p_id::uuid;
    elsif p_id ~* '^[0-9a-f-]{4,35}$' then
        return query
        select t.* from agent_tasks as t
        where t.tenant_id = p_tenant_id and right(t.id::text, length(p_id)) = lower(p_id)
        limit 2;
    else
        raise exception 'not a task id: % (give the id, or at least its last four characters)', quote_literal(p_id)
            using errcode = 'PT400';
    end if;
    get diagnostics v_found = row_count;
    if v_found = 0 then
        raise exception 'no task %', p_id using errcode = 'PT404';
    elsif v_found > 1 then
        raise exception 'several tasks have an id that ends in %: give more of it', p_id using errcode = 'PT409';
    end if;
end
$$;

-- How many tasks each agent has in each state.
create or replace function agent_task_counts(
    p_tenant_id uuid
) returns table (agent_id text, status text, waiting_for text, tasks bigint, oldest timestamptz) language sql stable as $$
    select t.agent_id, t.status::text, t.waiting_for, count(*), min(t.created_at)
    from agent_tasks as t
    where t.tenant_id = p_tenant_id
    group by t.agent_id, t.status, t.waiting_for
$$;

-- How long completed runs took, per agent and type, over the last 1,000 completed tasks.
create or replace function agent_task_durations(
    p_tenant_id uuid
) returns table (
    agent_id text, task_type text, runs bigint, p50_seconds double precision, p90_seconds double precision
) language sql stable as $$
    with last as (
        select t.agent_id, t.task_type, extract(epoch from t.completed_at - t.started_at) as seconds
        from agent_tasks as t
        where t.tenant_id = p_tenant_id and t.status = 'completed'
        order by t.id desc
        limit 1000
    )
    select l.agent_id, l.task_type, count(*),
        percentile_cont(0.5) within group (order by l.seconds),
        percentile_cont(0.9) within group (order by l.seconds)
    from last as l
    group by l.agent_id, l.task_type
$$;

-- Take back up to p_limit tasks whose lease has expired, from any tenant; any worker may do it. The rescuer first
-- replaces the lease token, which shuts the old worker out, then settles the run as that worker's last. A task that
-- lost p_max_lost leases ends as lost: it seems to kill its workers. Returns one row per task.
create or replace function rescue_agent_tasks(
    p_limit integer default 100, p_max_lost integer default 3
) returns table (id uuid, status text) language plpgsql as $$
declare
    v_expired record;
begin
    with taken as (
        update agent_tasks as t
        set lease_token = gen_random_uuid(), lost_leases = t.lost_leases + 1
        where t.id = any (array(
            select e.id
            from agent_tasks as e
            where e.status = 'in_progress' and e.lease_expires_at < zora_now()
            order by e.lease_expires_at
            limit p_limit
            for update skip locked
        ))
        returning t.id, t.lease_token, t.lost_leases,
            format('the lease of worker %s expired after %s (lost lease %s of %s)',
                t.worker_id, zora_now() - t.started_at, t.lost_leases, p_max_lost) as error
    )
    select array_agg(taken.id) as ids, array_agg(taken.lease_token) as lease_tokens,
        array_agg(case when taken.lost_leases >= p_max_lost then 'failed' else 'rescued' end) as outcomes,
        array_agg(taken.error) as errors
    into v_expired
    from taken;

    if v_expired.ids is not null then
        return query
        select s.id, s.status
        from settle_agent_tasks(
            v_expired.ids, v_expired.lease_tokens, v_expired.outcomes, '{}', '{}', v_expired.errors,
            array_fill('lost'::text, array[cardinality(v_expired.ids)]), '{}'
        ) as s;
    end if;
end
$$;

-- Put a failed task back into the queue with all its attempts. A task that a person rejected stays rejected.
create or replace function retry_agent_task(
    p_tenant_id uuid, p_id uuid, p_user_id uuid default null
) returns setof agent_tasks language plpgsql as $$
declare
    v_task agent_tasks;
begin
    select * into v_task from agent_tasks as t where t.tenant_id = p_tenant_id and t.id = p_id for update;
    if not found then
        raise exception 'no task %', p_id using errcode = 'PT404';
    elsif v_task.status <> 'failed' then
        raise exception 'task % is %: only a failed task can be retried', p_id, v_task.status using errcode = 'PT409';
    elsif v_task.failure_kind = 'rejected' then
        raise exception 'task % was rejected by a person: create a new task instead', p_id using errcode = 'PT409';
    end if;

    update agent_tasks as t
    set status = 'pending', waiting_for = null, run_at = null, attempt = 0, lost_leases = 0, failure_kind = null,
        error_message = null, completed_at = null, started_at = null, lease_token = null, lease_expires_at = null,
        worker_id = null, cancel_requested_at = null, progress = null, progress_message = null,
        updated_at = zora_now()
    where t.id = p_id
    returning * into v_task;

    insert into journal_entries (
        tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
    ) values (
        v_task.tenant_id, 'agent_action', 'agent_task_retried',
        format('%s task: %s (pending)', v_task.agent_id, v_task.task_type), 'put back into the queue on request',
        jsonb_build_object('task_id', v_task.id, 'agent_id', v_task.agent_id, 'task_type', v_task.task_type,
            'status', 'pending', 'priority', v_task.priority, 'attempt', 0, 'by_user_id', p_user_id),
        coalesce(p_user_id::text, 'operator'), v_task.id, array[v_task.id], zora_now()
    );
    perform pg_notify('agent_tasks', v_task.tenant_id::text);
    return next v_task;
end
$$;

-- Fill a tenant with example records: an object with the arrays pages, profiles, missions, journal and memories, whose
-- elements have the columns of their tables. Times are given as age_days before now; a mission names its profile.
-- Pages are added when their key is new; the rest only to a tenant that has no climate profile yet.
create or replace function seed_tenant(p_tenant_id uuid, p_seed jsonb) returns void language plpgsql as $$
begin
    insert into frontend_configs (tenant_id, page, config)
    select p_tenant_id, r.page, r.config
    from jsonb_to_recordset(p_seed -> 'pages') as r (page text, config jsonb)
    on conflict (tenant_id, page) do nothing;

    if exists (select from climate_profiles as p where p.tenant_id = p_tenant_id) then
        return;
    end if;

    insert into climate_profiles (
        tenant_id, profile_type, name, energy_source, transport_mode, diet_type, location_type, country,
        household_size, estimated_footprint_kg, is_primary
    )
    select p_tenant_id, r.profile_type, r.name, r.energy_source, r.transport_mode, r.diet_type, r.location_type,
        r.country, r.household_size, r.estimated_footprint_kg, coalesce(r.is_primary, false)
    from jsonb_to_recordset(p_seed -> 'profiles') as r (
        profile_type text, name text, energy_source text, transport_mode text, diet_type text, location_type text,
        country text, household_size integer, estimated_footprint_kg numeric, is_primary boolean
    );

    insert into climate_missions (
        tenant_id, profile_id, title, description, category, status, estimated_impact_kgco2, created_at
    )
    select p_tenant_id, p.id, r.title, r.description, r.category, coalesce(r.status, 'planned'),
        r.estimated_impact_kgco2, zora_now() - make_interval(secs => coalesce(r.age_days, 0) * 86400)
    from jsonb_to_recordset(p_seed -> 'missions') as r (
        profile text, title text, description text, category text, status text, estimated_impact_kgco2 numeric,
        age_days double precision
    )
    left join climate_profiles as p on p.tenant_id = p_tenant_id and p.name = r.profile;

    insert into journal_entries (tenant_id, category, event_type, title, body, details, author, created_at)
    select p_tenant_id, r.category, r.event_type, r.title, r.body, coalesce(r.details, '{}'), r.author,
        zora_now() - make_interval(secs => coalesce(r.age_days, 0) * 86400)
    from jsonb_to_recordset(p_seed -> 'journal') as r (
        category text, event_type text, title text, body text, details jsonb, author text, age_days double precision
    )
    order by r.age_days desc;

    insert into memory_events (tenant_id, agent, memory_type, content, tags, metadata, created_at)
    select p_tenant_id, r.agent, r.memory_type, r.content, coalesce(r.tags, '{}'), coalesce(r.metadata, '{}'),
        zora_now() - make_interval(secs => coalesce(r.age_days, 0) * 86400)
    from jsonb_to_recordset(p_seed -> 'memories') as r (
        agent text, memory_type text, content text, tags text [], metadata jsonb, age_days double precision
    )
    order by r.age_days desc;
end
$$;

-- How a run ends, from what the worker reports and what the row says:
--   completed   the work is done, also when a cancellation came too late to stop it
--   failed      for good: another attempt cannot help, or none is left, or a person cancelled the task
--   retry       after an error, with attempts left
--   snoozed     the handler asked to be run later; the attempt does not count
--   released    the worker is shutting down and hands the task back; the attempt does not count
--   rescued     the worker vanished (see rescue_agent_tasks); the attempt does not count
create or replace function agent_task_verdict(
    p_outcome text, p_attempt integer, p_max_attempts integer, p_cancel_requested_at timestamptz
) returns text language sql immutable as $$
    select case
        when p_outcome in ('completed', 'failed') then p_outcome
        when p_cancel_requested_at is not null then 'failed'
        when p_outcome = 'error' and p_attempt >= p_max_attempts then 'failed'
        when p_outcome = 'error' then 'retry'
        else p_outcome
    end
$$;

-- Seconds until the next attempt: 5, 20, 80, … times four, at most an hour, spread by a fifth either way so that tasks
-- that failed together do not return together.
create or replace function agent_task_backoff(p_attempt integer) returns double precision language sql volatile as $$
    select least(5 * power(4, least(p_attempt, 10) - 1), 3600) * (0.8 + 0.4 * random())
$$;

-- Settle a batch of runs: outcome, journal entry, memory event and suggestions in one statement, for each task whose
-- lease token still fits. A run that lost its lease writes nothing and is missing from what is returned. Repeating a
-- settlement that was committed (its answer was lost on the way) returns its tasks again and writes nothing.
--
-- Parallel arrays, one element per run: twice as fast as a JSON array. p_outcomes holds completed, failed, error,
-- snoozed or released; p_delays (seconds) is needed for snoozed and overrides the backoff after an error. The suggestions
-- of a completed run are those in its result, an object with an array of that name.
create or replace function settle_agent_tasks(
    p_ids uuid [], p_lease_tokens uuid [], p_outcomes text [], p_summaries text [], p_results jsonb [],
    p_errors text [], p_failure_kinds text [], p_delays double precision []
) returns table (id uuid, status text, waiting_for text, run_at timestamptz) language sql as $$
    with given as (
        select g.*
        from unnest(
            p_ids, p_lease_tokens, p_outcomes, p_summaries, p_results, p_errors, p_failure_kinds, p_delays
        ) as g (id, lease_token, outcome, summary, result, error, failure_kind, delay)
    ), settled as (
        update agent_tasks as t
        set (
            status, waiting_for, run_at, attempt, result, result_summary, error_message, failure_kind, completed_at,
            progress, progress_message, lease_expires_at, updated_at
        ) = (
            select
                case when v.verdict in ('completed', 'failed') then v.verdict::agent_task_status else 'pending' end,
                case v.verdict when 'retry' then 'retry' when 'snoozed' then 'run_at' end,
                case
                    when v.verdict in ('retry', 'snoozed')
                        then zora_now() + make_interval(secs => coalesce(g.delay, agent_task_backoff(t.attempt)))
                    else t.run_at
                end,
                t.attempt - (v.verdict in ('snoozed', 'released', 'rescued'))::integer,
                case v.verdict when 'completed' then g.result else t.result end,
                case v.verdict when 'completed' then g.summary else t.result_summary end,
                case
                    when v.verdict = 'completed' then null
                    when v.verdict in ('retry', 'failed') then coalesce(g.error, 'cancelled on request')
                    else t.error_message
                end,
                case
                    when v.verdict <> 'failed' then null
                    when t.cancel_requested_at is not null then 'cancelled'
                    else coalesce(g.failure_kind, 'error')
                end,
                case when v.verdict in ('completed', 'failed') then zora_now() end,
                case v.verdict when 'completed' then 1 end,
                null::text,
                null::timestamptz,
                zora_now()
            from agent_task_verdict(g.outcome, t.attempt, t.max_attempts, t.cancel_requested_at) as v (verdict)
        )
        from given as g
        -- As text, because the planner would else read the index of all running tasks, dead entries included.
        where t.id = g.id and t.lease_token = g.lease_token and t.status::text = 'in_progress'
        returning t.id, t.tenant_id, t.agent_id, t.task_type, t.status::text as status, t.waiting_for, t.run_at,
            t.priority, t.attempt, t.started_at, t.failure_kind, t.result, t.result_summary,
            coalesce(g.error, t.error_message) as error,
            case
                when t.status <> 'pending' then t.status::text
                when g.outcome = 'error' then 'retry'
                else g.outcome
            end as verdict
    ), ended as materialized (
        select s.id, s.tenant_id, s.agent_id, s.task_type, s.status, s.verdict, s.result -> 'suggestions' as suggestions,
            case s.verdict
                when 'completed' then s.result_summary
                when 'snoozed' then 'to be run again at ' || s.run_at
                else s.error
            end as outcome,
            case
                when s.failure_kind = 'cancelled' then 'agent_task_cancelled'
                when s.verdict = 'retry' then 'agent_task_retried'
                else 'agent_task_' || s.verdict
            end as event_type,
            jsonb_build_object(
                'task_id', s.id, 'agent_id', s.agent_id, 'task_type', s.task_type, 'status', s.status,
                'priority', s.priority,
                'attempt', s.attempt + (s.verdict in ('snoozed', 'rescued'))::integer,
                'duration_ms', round(extract(epoch from zora_now() - s.started_at) * 1000)
            ) as details
        from settled as s
        where s.verdict <> 'released'
    ), journalled as (
        insert into journal_entries (
            tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
        )
        select e.tenant_id, 'agent_action', e.event_type,
            e.agent_id || ' task: ' || e.task_type || ' (' || e.status || ')', e.outcome, e.details,
            lower(e.agent_id), e.id, array[e.id], zora_now()
        from ended as e
    ), remembered as (
        insert into memory_events (
            tenant_id, agent, memory_type, content, tags, metadata, source_task_id, created_at
        )
        select e.tenant_id, 'EIVOR', 'result', e.agent_id || ' ' || e.task_type || ': ' || coalesce(e.outcome, ''),
            array['agent_task', e.agent_id, e.task_type, e.status], e.details, e.id, zora_now()
        from ended as e
    ), proposed as (
        insert into agent_suggestions (
            tenant_id, agent_id, task_id, suggestion_type, title, body, target, current_value, suggested_value,
            evidence, risk_level, created_at
        )
        select e.tenant_id, e.agent_id, e.id, p.suggestion_type, p.title, p.body, coalesce(p.target, '{}'),
            p.current_value, p.suggested_value, p.evidence, p.risk_level, zora_now()
        from ended as e
        cross join lateral jsonb_to_recordset(e.suggestions) as p (
            suggestion_type text, title text, body text, target jsonb, current_value jsonb, suggested_value jsonb,
            evidence jsonb, risk_level text
        )
        where e.verdict = 'completed' and e.suggestions <> '[]'
        returning agent_suggestions.*
    ), proposals_journalled as (
        insert into journal_entries (
            tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
        )
        select p.tenant_id, 'agent_action', 'agent_suggestion_created', p.agent_id || ' suggests: ' || p.title, p.body,
            jsonb_build_object('suggestion_id', p.id, 'suggestion_type', p.suggestion_type, 'target', p.target,
                'risk_level', p.risk_level, 'status', p.status),
            lower(p.agent_id), p.task_id, array[p.id, p.task_id], zora_now()
        from proposed as p
    ), announced as (
        select pg_notify('agent_tasks', r.tenant_id::text)
        from (select distinct s.tenant_id from settled as s where s.verdict in ('released', 'rescued')) as r
    )
    select s.id, s.status, s.waiting_for, s.run_at
    from settled as s
    where (select count(*) from announced) is not null
    union all
    select t.id, t.status::text, t.waiting_for, t.run_at
    from given as g
    inner join agent_tasks as t on t.id = g.id and t.lease_token = g.lease_token
    where t.status::text <> 'in_progress'
$$;


insert into zora_functions (digest) values ('ce8093833110f12b762d5a6c791af1aecf12a0248dfd6ab243e4a710633060d3') on conflict (only_row) do update set digest = excluded.digest, applied_at = now();

commit;
