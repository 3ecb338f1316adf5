-- Lists of a tenant's tasks whose cost depends on the page, not on the backlog, whatever the filter.
--
-- Without sequential scans, because plans are kept: one made while the table was small would go on to read all of it,
-- until the next ANALYZE.

-- The kinds of task (state, agent, type) that a tenant has, of those that the filter lets through; every filter may be
-- null. A loose index scan: one probe of agent_tasks_kind for each kind that exists, a few dozen.
create or replace function agent_task_kinds(
    p_tenant_id uuid, p_agent_id text default null, p_status text default null, p_task_type text default null
) returns table (state "char", agent_id text, task_type text) language sql stable as $$
    with recursive kinds as (
        (
            select t.state, t.agent_id, t.task_type
            from agent_tasks as t
            where t.tenant_id = p_tenant_id
            order by t.state, t.agent_id, t.task_type
            limit 1
        )
        union all
        select n.state, n.agent_id, n.task_type
        from kinds as k
        cross join lateral (
            select t.state, t.agent_id, t.task_type
            from agent_tasks as t
            where t.tenant_id = p_tenant_id and (t.state, t.agent_id, t.task_type) > (k.state, k.agent_id, k.task_type)
            order by t.state, t.agent_id, t.task_type
            limit 1
        ) as n
    )
    select k.state, k.agent_id, k.task_type
    from kinds as k
    where (p_agent_id is null or k.agent_id = p_agent_id)
        and (p_status is null or k.state = left(p_status::agent_task_status::text, 1)::"char")
        and (p_task_type is null or k.task_type = p_task_type)
$$;

-- A page of a tenant's tasks, highest priority first, then oldest; every filter may be null. A page begins at an offset,
-- or after the task whose priority, creation and id are given (all three): that is as fast for the last page as for the
-- first. Leases are left out, and results unless asked for: they may be long.
--
-- Each kind gives its first rows from an index, ids first: those of the last task's priority that come after it, and
-- those of lower priorities (all of them when there is no last task). At an offset that would be offset + limit rows of
-- every kind. There the kinds are merged instead, which reads so many rows in all: a tenth of the time at 10,000. It
-- needs a statement with a branch for each kind, planned for every call.
create or replace function list_agent_tasks(
    p_tenant_id uuid, p_agent_id text default null, p_status text default null, p_task_type text default null,
    p_limit integer default 50, p_offset integer default 0, p_after_priority integer default null,
    p_after_created_at timestamptz default null, p_after_id uuid default null, p_with_result boolean default false
) returns table (
    id uuid, tenant_id uuid, agent_id text, task_type text, status text, waiting_for text, priority integer, title text,
    description text, payload jsonb, result_summary text, error_message text, failure_kind text, attempt integer,
    max_attempts integer, lost_leases integer, timeout_seconds integer, run_at timestamptz, started_at timestamptz,
    completed_at timestamptz, progress double precision, progress_message text, idempotency_key text, created_by_user_id uuid,
    created_at timestamptz, updated_at timestamptz, result jsonb
) language plpgsql stable set enable_seqscan = off as $$
declare
    -- A variable, because row-level security keeps an expression out of an index condition, harmless as it is.
    v_below constant bigint := coalesce(p_after_priority, 2147483648);
    v_ids uuid[];
    v_kinds text;
begin
    if p_offset > 0 and p_after_priority is null then
        select string_agg(
            format(
                '(select t.id, t.priority, t.created_at from agent_tasks as t where t.tenant_id = $1 and t.state = %L '
                'and t.agent_id = %L and t.task_type = %L order by t.priority desc, t.created_at, t.id limit $2 + $3)',
                k.state, k.agent_id, k.task_type
            ),
            ' union all '
        )
        into v_kinds
        from agent_task_kinds(p_tenant_id, p_agent_id, p_status, p_task_type) as k;
        if v_kinds is not null then
            execute 'select array(select e.id from (' || v_kinds || ') as e '
                'order by e.priority desc, e.created_at, e.id limit $2 offset $3)'
            into v_ids using p_tenant_id, p_limit, p_offset;
        end if;
    else
        select array_agg(page.id) into v_ids
        from (
            select e.id
            from agent_task_kinds(p_tenant_id, p_agent_id, p_status, p_task_type) as k
            cross join lateral (
                (
                    select t.id, t.priority, t.created_at
                    from agent_tasks as t
                    where t.tenant_id = p_tenant_id and t.state = k.state and t.agent_id = k.agent_id
                        and t.task_type = k.task_type and t.priority = p_after_priority
                        and (t.created_at, t.id) > (p_after_created_at, p_after_id)
                    order by t.created_at, t.id
                    limit p_limit + p_offset
                )
                union all
                (
                    select t.id, t.priority, t.created_at
                    from agent_tasks as t
                    where t.tenant_id = p_tenant_id and t.state = k.state and t.agent_id = k.agent_id
                        and t.task_type = k.task_type and t.priority < v_below
                    order by t.priority desc, t.created_at, t.id
                    limit p_limit + p_offset
                )
            ) as e
            order by e.priority desc, e.created_at, e.id
            limit p_limit offset p_offset
        ) as page;
    end if;

    return query
    select t.id, t.tenant_id, t.agent_id::text, t.task_type::text, t.status::text, t.waiting_for, t.priority,
        t.title::text, t.description, coalesce(t.payload, '{}'), t.result_summary, t.error_message, t.failure_kind,
        t.attempt, t.max_attempts, t.lost_leases, t.timeout_seconds, t.run_at, t.started_at, t.completed_at,
        t.progress::numeric::double precision,
        t.progress_message, t.idempotency_key, t.created_by_user_id, t.created_at, t.updated_at,
        case when p_with_result then t.result end
    from agent_tasks as t
    where t.tenant_id = p_tenant_id and t.id = any (v_ids)
    order by t.priority desc, t.created_at, t.id;
end
$$;

-- How many tasks a filter lets through: exact up to p_exact_up_to. With is_estimate there are more than total, which is
-- p_exact_up_to. The planner's guess is not given out: after a bulk insert it is off by a factor of ten.
create or replace function count_agent_tasks(
    p_tenant_id uuid, p_agent_id text default null, p_status text default null, p_task_type text default null,
    p_exact_up_to integer default 10000
) returns table (total bigint, is_estimate boolean) language plpgsql volatile set enable_seqscan = off as $$
begin
    select least(count(*), p_exact_up_to), count(*) > p_exact_up_to into total, is_estimate
    from (
        select
        from agent_task_kinds(p_tenant_id, p_agent_id, p_status, p_task_type) as k
        cross join lateral (
            select
            from agent_tasks as t
            where t.tenant_id = p_tenant_id and t.state = k.state and t.agent_id = k.agent_id
                and t.task_type = k.task_type
            limit p_exact_up_to + 1
        ) as t
        limit p_exact_up_to + 1
    ) as counted;
    return next;
end
$$;
