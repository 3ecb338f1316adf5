-- Claim up to p_limit ready tasks of a tenant for a worker: highest priority first, then oldest. Every claim writes a
-- fresh lease token; only the run that holds it may heartbeat and settle the task.
--
-- p_task_types are the types that the worker can run, each as 'AGENT type'; null claims any. What is paused is passed over,
-- and what is past its deadline, which fails (expire_agent_tasks).
--
-- A task that has lost a lease is a suspect: it may be what ended its worker's process, or have been beside it. It runs
-- alone, so that only the culprit loses more leases. It is claimed with nothing else, by a worker that has nothing in hand
-- (p_idle), and that worker claims nothing else until it has ended. A worker that is never idle passes suspects over for 30
-- seconds, in which an idle one may come, such as the restarted process. Then one of the workers that can run it, the one
-- that is likely to be idle first, claims nothing more of the same or a lower priority until what it runs has ended; the
-- others go on. Whichever worker is idle first takes the suspect, elected or not.
--
-- Rows locked by another claim are skipped, so claimers never wait for one another. Only what is taken is locked: when
-- other claims hold what was found, more is looked for. The ids pass through an array: it is computed once, and planned as
-- short, where a join with a query of unknown limit is planned as a tenth of the table and reads all of it.
--
-- p_begin is passed by workers of version 0.1 and ignored.
create or replace function claim_agent_tasks(
    p_tenant_id uuid, p_worker_id text, p_limit integer default 1, p_lease_seconds double precision default 30,
    p_task_types text [] default null, p_idle boolean default true, p_begin integer default null
) returns table (
    id uuid, tenant_id uuid, agent_id text, task_type text, title text, description text, payload jsonb,
    priority integer, attempt integer, max_attempts integer, timeout_seconds integer, lease_token uuid,
    created_at timestamptz, started_at timestamptz, round integer, resume_with jsonb, lost_leases integer
) language plpgsql as $$
#variable_conflict use_column
declare
    v_within integer := p_limit;
    v_ready uuid[];
    v_locked bigint;
    v_ids uuid[];
begin
    loop
        v_ready := array(
            select r.id from ready_agent_tasks(p_tenant_id, p_worker_id, v_within, p_task_types, p_idle) as r
        );
        select count(*), array_agg(p.id) filter (where p.most_lost = 0 or p.place = 1)
        into v_locked, v_ids
        from (
            select l.id, row_number() over () as place, max(l.lost_leases) over (rows unbounded preceding) as most_lost
            from (
                select n.id, n.lost_leases
                from agent_tasks as n
                -- As text, so that they are found by their ids.
                where n.id = any (v_ready) and n.status::text = 'pending' and n.waiting_for is null
                order by n.priority desc, n.created_at, n.id
                limit p_limit
                for update skip locked
            ) as l
        ) as p;
        exit when v_locked >= p_limit or (cardinality(v_ready) < v_within) is not false;
        v_within := least(v_within, 1000000) * 8;
    end loop;
    if v_locked = 0 then
        return;
    end if;

    return query
    with claimed as (
        update agent_tasks as t
        set status = 'in_progress', attempt = least(t.attempt, 2147483646) + 1, worker_id = p_worker_id,
            lease_token = gen_random_uuid(), lease_expires_at = zora_now() + make_interval(secs => p_lease_seconds),
            started_at = zora_now(), updated_at = zora_now(), progress = null, progress_message = null
        where t.id = any (v_ids)
        returning t.*
    )
    select c.id, c.tenant_id, c.agent_id::text, c.task_type::text, c.title::text, c.description,
        coalesce(c.payload, '{}'), c.priority, c.attempt, c.max_attempts, c.timeout_seconds, c.lease_token,
        least(greatest(c.created_at, '0001-01-02 UTC'), '9999-01-01 UTC'),  -- what Python can read
        c.started_at, c.round, c.resume_with, c.lost_leases
    from claimed as c
    order by c.priority desc, c.created_at, c.id;  -- a worker that claims ahead begins them one after the other
    perform announce_agent_tasks(p_tenant_id);
end
$$;

-- The first p_limit tasks that a worker may claim (see claim_agent_tasks), in the order in which they are claimed. The
-- first p_limit of each kind are read, one after the other in the index, and merged.
create or replace function ready_agent_tasks(
    p_tenant_id uuid, p_worker_id text, p_limit integer, p_task_types text [] default null, p_idle boolean default true
) returns table (id uuid) language sql stable set enable_seqscan = off set enable_bitmapscan = off as $$
    with recursive present as (  -- a loose index scan over the kinds, for workers that name none
        (
            select n.agent_id, n.task_type
            from agent_tasks as n
            where p_task_types is null and n.tenant_id = p_tenant_id and n.status = 'pending' and n.waiting_for is null
            order by n.agent_id, n.task_type
            limit 1
        )
        union all
        select f.agent_id, f.task_type
        from present as p
        cross join lateral (
            select n.agent_id, n.task_type
            from agent_tasks as n
            where n.tenant_id = p_tenant_id and n.status = 'pending' and n.waiting_for is null
                and (n.agent_id, n.task_type) > (p.agent_id, p.task_type)
            order by n.agent_id, n.task_type
            limit 1
        ) as f
    ), kinds as materialized (
        select k.agent_id, k.task_type
        from (
            select p.agent_id, p.task_type from present as p
            union all
            select split_part(g.name, ' ', 1), substr(g.name, strpos(g.name, ' ') + 1)
            from (select distinct u.name from unnest(p_task_types) as u (name)) as g
        ) as k
        where not is_paused(p_tenant_id, k.agent_id)
    ), held as materialized (
        -- A worker that is not idle leaves suspects to others, and may have to leave everything up to a priority.
        select case when not p_idle then suspect_priority(p_tenant_id, p_worker_id, p_task_types) end as up_to
    )
    select f.id
    from kinds as k
    cross join lateral (
        select n.id, n.priority, n.created_at
        from agent_tasks as n
        where n.tenant_id = p_tenant_id and n.status = 'pending' and n.waiting_for is null
            and n.agent_id = k.agent_id and n.task_type = k.task_type
            and n.priority > coalesce((select h.up_to from held as h), -2147483649::bigint)
            and (p_idle or n.lost_leases = 0)
            and (n.deadline_at is null or n.deadline_at > zora_now())
        order by n.priority desc, n.created_at, n.id
        limit p_limit
    ) as f
    order by f.priority desc, f.created_at, f.id
    limit p_limit
$$;

-- The highest priority of the suspects (see claim_agent_tasks) that have waited long enough for an idle worker, and for
-- which this worker is the one to become idle. All workers compute the same answer from the same rows, without a lock.
--
-- Nobody knows how long a task will run, so an election looks at how long tasks have been running. It is held when the
-- suspect has waited for 30 seconds, and again after 60, 120, 240, … seconds. Candidates are the workers that can run the
-- suspect and were heard of within a minute. The one whose oldest running task started last is elected; tasks that started
-- since the election count alike, because only workers that were not elected start any. Of equals, the one that has
-- started nothing for the longest time is elected: it is the one that is becoming idle already.
create or replace function suspect_priority(
    p_tenant_id uuid, p_worker_id text, p_task_types text [] default null
) returns integer language sql stable as $$
    with busy as materialized (
        select t.worker_id, min(t.started_at) as first_start, max(t.started_at) as last_start
        from agent_tasks as t
        where t.tenant_id = p_tenant_id and t.status = 'in_progress'
        group by t.worker_id
    ), candidates as materialized (
        select w.id, w.task_types, b.first_start, coalesce(b.last_start, '-infinity') as last_start
        from workers as w
        left join busy as b on b.worker_id = w.id
        where w.tenant_id = p_tenant_id and w.expires_at > zora_now() and w.last_beat_at > zora_now() - interval '60 seconds'
    )
    select max(n.priority)
    from agent_tasks as n
    cross join lateral (
        select n.updated_at + interval '30 seconds' * power(
            2, floor(ln(greatest(extract(epoch from zora_now() - n.updated_at) / 30, 1)::double precision) / ln(2))
        ) as held_at
    ) as election
    left join busy as own on own.worker_id = p_worker_id
    where n.tenant_id = p_tenant_id and n.status = 'pending' and n.waiting_for is null and n.lost_leases > 0
        and n.updated_at <= zora_now() - interval '30 seconds'
        and (p_task_types is null or n.agent_id || ' ' || n.task_type = any (p_task_types))
        and not is_paused(p_tenant_id, n.agent_id)
        and (n.deadline_at is null or n.deadline_at > zora_now())
        and not exists (
            select from candidates as w
            where n.agent_id || ' ' || n.task_type = any (w.task_types)
                and (least(w.first_start, election.held_at), coalesce(own.last_start, '-infinity'), p_worker_id)
                > (least(own.first_start, election.held_at), w.last_start, w.id)
        )
$$;
