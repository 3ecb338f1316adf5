-- Figures for people who look after the agents: how they do, how their suggestions fare, how full the queue was.

-- How each agent's last 1,000 finished tasks ended, by age of the task, and how long the completed ones took.
create or replace function agent_figures(
    p_tenant_id uuid
) returns table (
    agent_id text, completed bigint, failed bigint, p50_seconds double precision, p90_seconds double precision,
    last_finished_at timestamptz
) language sql stable set enable_seqscan = off as $$
    with kinds as materialized (
        select k.state, k.agent_id, k.task_type from agent_task_kinds(p_tenant_id) as k where k.state in ('c', 'f')
    )
    select t.agent_id::text, count(*) filter (where t.state = 'c'), count(*) filter (where t.state = 'f'),
        percentile_cont(0.5) within group (order by d.seconds), percentile_cont(0.9) within group (order by d.seconds),
        max(t.completed_at)
    from agent_tasks as t
    cross join lateral (
        select case when t.state = 'c' then extract(epoch from t.completed_at - t.started_at)::double precision end
    ) as d (seconds)
    where t.tenant_id = p_tenant_id and t.id = any (array(
        select newest.id
        from (select distinct k.agent_id from kinds as k) as a
        cross join lateral (
            select o.id
            from kinds as k
            cross join lateral (
                select f.id
                from agent_tasks as f
                where f.tenant_id = p_tenant_id and f.state = k.state and f.agent_id = k.agent_id
                    and f.task_type = k.task_type
                order by f.id desc
                limit 1000
            ) as o
            where k.agent_id = a.agent_id
            order by o.id desc
            limit 1000
        ) as newest
    ))
    group by t.agent_id
    order by t.agent_id
$$;

-- What became of each agent's suggestions, week by week (from Monday, in UTC), this week and those before it: approved
-- ones, applied or not and whether or not they were undone later; rejected ones; those undone that week, whenever they
-- were approved; those whose time ran out. Of each the newest 10,000 suggestions are looked at.
create or replace function suggestion_weeks(
    p_tenant_id uuid, p_weeks integer default 12
) returns table (
    agent_id text, week date, approved bigint, rejected bigint, undone bigint, expired bigint
) language sql stable set enable_seqscan = off as $$
    select e.agent_id::text, date_trunc('week', e.at at time zone 'UTC')::date,
        count(*) filter (where e.what in ('approved', 'applied')), count(*) filter (where e.what = 'rejected'),
        count(*) filter (where e.what = 'undone'), count(*) filter (where e.what = 'expired')
    from unnest(array['approved', 'applied', 'rejected', 'expired']) as o (status)
    cross join lateral (
        select s.agent_id, s.decided_at, s.undone_at, s.expires_at
        from agent_suggestions as s
        where s.tenant_id = p_tenant_id and s.status = o.status
        order by s.id desc
        limit 10000
    ) as s
    cross join lateral (
        values
            (s.agent_id, o.status, case o.status when 'expired' then s.expires_at else s.decided_at end),
            (s.agent_id, 'undone', s.undone_at)
    ) as e (agent_id, what, at)
    where e.at >= (
        date_trunc('week', zora_now() at time zone 'UTC') - make_interval(weeks => least(p_weeks, 520) - 1)
    ) at time zone 'UTC'
    group by 1, 2
    order by 1, 2
$$;

-- How many tasks were created, completed and failed (cancelled ones among them) in each of p_buckets parts of the last
-- p_seconds, and how many were unfinished at its end: the number of now, taken back by what the journal says of the
-- time since. A failed task that a person puts back counts as unfinished again, and not as created.
--
-- At most the newest 200,000 entries are read; is_partial marks the parts that reach back further, and all of them when
-- the number of now is an estimate, as it is beyond 10,000.
create or replace function queue_history(
    p_tenant_id uuid, p_seconds integer default 3600, p_buckets integer default 60
) returns table (
    bucket_start timestamptz, created bigint, completed bigint, failed bigint, depth bigint, is_partial boolean
) language plpgsql stable set enable_seqscan = off as $$
declare
    v_reads constant integer := 200000;
    v_buckets constant integer := least(greatest(p_buckets, 1), 1000);
    v_since constant timestamptz := zora_now() - make_interval(secs => greatest(p_seconds, 1));
    v_width constant interval := make_interval(secs => greatest(p_seconds, 1)) / v_buckets;
    v_first constant uuid := least_id_since(v_since);
    v_depth bigint;
    v_is_estimate boolean;
    v_read_since timestamptz;
begin
    select sum(c.total), bool_or(c.is_estimate) into v_depth, v_is_estimate
    from (values ('pending'), ('in_progress')) as u (status)
    cross join lateral count_agent_tasks(p_tenant_id, null, u.status) as c;
    select j.created_at into v_read_since
    from journal_entries as j
    where j.tenant_id = p_tenant_id and j.id >= v_first
    order by j.id desc
    limit 1 offset v_reads;

    return query
    with entries as (
        select j.created_at, j.category, j.event_type, j.details
        from journal_entries as j
        where j.tenant_id = p_tenant_id and j.id >= v_first
        order by j.id desc
        limit v_reads
    ), changes as (
        select least(floor(extract(epoch from e.created_at - v_since) / extract(epoch from v_width))::integer,
                v_buckets - 1) as bucket,
            case
                when e.event_type in ('agent_task_created', 'agent_task_completed', 'agent_task_failed')
                    then e.event_type
                when e.event_type = 'agent_task_cancelled' and e.details ->> 'status' = 'failed'
                    then 'agent_task_failed'
                -- By a person; a worker's says that the next attempt is due, and the task was unfinished all along.
                when e.event_type = 'agent_task_retried' and e.details ? 'by_user_id' then 'agent_task_retried'
            end as change
        from entries as e
        where e.category = 'agent_action' and e.created_at >= v_since
    ), counted as (
        select c.bucket, count(*) filter (where c.change = 'agent_task_created') as created,
            count(*) filter (where c.change = 'agent_task_completed') as completed,
            count(*) filter (where c.change = 'agent_task_failed') as failed,
            count(*) filter (where c.change = 'agent_task_retried') as retried
        from changes as c
        group by c.bucket
    )
    select v_since + b.bucket * v_width, coalesce(c.created, 0), coalesce(c.completed, 0), coalesce(c.failed, 0),
        greatest(v_depth - coalesce(sum(c.created + c.retried - c.completed - c.failed) over (
            order by b.bucket desc rows between unbounded preceding and 1 preceding
        ), 0), 0)::bigint,
        v_is_estimate or coalesce(v_since + b.bucket * v_width <= v_read_since, false)
    from generate_series(0, v_buckets - 1) as b (bucket)
    left join counted as c on c.bucket = b.bucket
    order by b.bucket;
end
$$;

-- Who runs a tenant's tasks: of the first 10,000 that run, how many each worker holds, since when, and how many of its
-- leases have expired because nothing is heard of it.
create or replace function list_workers(
    p_tenant_id uuid
) returns table (
    worker_id text, tasks bigint, first_started_at timestamptz, lease_expires_at timestamptz, expired bigint
) language sql stable set enable_seqscan = off as $$
    select r.worker_id, count(*), min(r.started_at), min(r.lease_expires_at),
        count(*) filter (where r.lease_expires_at < zora_now())
    from (
        select t.worker_id, t.started_at, t.lease_expires_at
        from agent_tasks as t
        where t.tenant_id = p_tenant_id and t.state = 'i'
        limit 10000
    ) as r
    group by r.worker_id
    order by r.worker_id
$$;

-- What a tenant's missions are estimated to save, in kg CO2e per year, by category and status, and how much of that
-- somebody has verified. Looks at the newest 50,000.
create or replace function list_climate_totals(
    p_tenant_id uuid
) returns table (
    category text, status text, missions bigint, kgco2 numeric, verified_missions bigint, verified_kgco2 numeric
) language sql stable as $$
    select m.category, m.status, count(*), coalesce(sum(m.estimated_impact_kgco2), 0),
        count(*) filter (where m.verified), coalesce(sum(m.estimated_impact_kgco2) filter (where m.verified), 0)
    from (
        select a.category, a.status, a.estimated_impact_kgco2, a.verified
        from climate_missions as a
        where a.tenant_id = p_tenant_id
        order by a.created_at desc
        limit 50000
    ) as m
    group by m.category, m.status
    order by m.category, m.status
$$;
