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
-- Rows locked by another claim are skipped, so claimers never wait for one another. The ids pass through an array: it is
-- computed once (an inlined subquery could run again for each row, and claim more than p_limit), and it is planned as
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
) language sql as $$
    with claimed as (
        update agent_tasks as t
        set status = 'in_progress', attempt = t.attempt + 1, worker_id = p_worker_id, lease_token = gen_random_uuid(),
            lease_expires_at = zora_now() + make_interval(secs => p_lease_seconds), started_at = zora_now(),
            updated_at = zora_now(), progress = null, progress_message = null
        where t.id = any (array(
            select p.id
            from (
                select r.id, row_number() over () as place,
                    max(r.lost_leases) over (rows unbounded preceding) as most_lost
                from (
                    select n.id, n.lost_leases
                    from agent_tasks as n
                    where n.tenant_id = p_tenant_id and n.status = 'pending' and n.waiting_for is null
                        and (p_task_types is null or n.agent_id || ' ' || n.task_type = any (p_task_types))
                        and not is_paused(p_tenant_id, n.agent_id)
                        and (n.deadline_at is null or n.deadline_at > zora_now())
                        and (
                            p_idle
                            or n.lost_leases = 0
                            and (n.priority <= (select suspect_priority(p_tenant_id, p_worker_id, p_task_types))) is not true
                        )
                    order by n.priority desc, n.created_at, n.id
                    limit p_limit
                    for update skip locked
                ) as r
            ) as p
            where p.most_lost = 0 or p.place = 1
        ))
        returning t.*
    ), announced as (
        select announce_agent_tasks(p_tenant_id) where exists (select from claimed)
    )
    select c.id, c.tenant_id, c.agent_id, c.task_type, c.title, c.description, coalesce(c.payload, '{}'), c.priority,
        c.attempt, c.max_attempts, c.timeout_seconds, c.lease_token, c.created_at, c.started_at, c.round,
        c.resume_with, c.lost_leases
    from claimed as c
    where (select count(*) from announced) is not null
    order by c.priority desc, c.created_at, c.id  -- a worker that claims ahead begins them one after the other
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
