-- What people and agents read about tasks. Every reader is bounded and scoped to one tenant.

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

-- The pages that the newest completed tasks of a task's kind were given as markup: what each is known as, and the sketch
-- by which it is recognised (see same_page.py), newest first.
create or replace function reviewed_markup(
    p_tenant_id uuid, p_task_id uuid, p_limit integer default 200
) returns table (id uuid, known_as text, sketch text) language sql stable as $$
    select t.id, t.result #> '{result,markup}' ->> 'known_as', t.result #> '{result,markup}' ->> 'sketch'
    from (
        select t.id, t.result
        from agent_tasks as mine
        inner join agent_tasks as t on t.tenant_id = mine.tenant_id and t.state = 'c' and t.agent_id = mine.agent_id
            and t.task_type = mine.task_type
        where mine.tenant_id = p_tenant_id and mine.id = p_task_id
        order by t.id desc
        limit p_limit
    ) as t
    where t.result #> '{result,markup}' ->> 'sketch' is not null
    order by t.id desc
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
        raise exception 'several tasks have an id that ends in %: give more characters', p_id using errcode = 'PT409';
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
