-- Claim up to p_limit ready tasks of a tenant for a worker: highest priority first, then oldest. Every claim writes a
-- fresh lease token; whoever holds it, and nobody else, may heartbeat and settle the task.
--
-- What is paused is passed over, and what is past its deadline, which fails (expire_agent_tasks).
--
-- A worker that claims ahead says how many of them begin at once (p_begin). When it vanishes, all that it held has lost a
-- lease. Of those that have, no more are claimed than begin: else a task that kills its workers would take hundreds of
-- others along to their last lease.
--
-- Rows locked by another claim are skipped, so claimers never wait for one another. The ids pass through an array: it is
-- computed once (an inlined subquery could run again for each row, and claim more than p_limit), and it is planned as
-- short, where a join with a query of unknown limit is planned as a tenth of the table and reads all of it.
create or replace function claim_agent_tasks(
    p_tenant_id uuid, p_worker_id text, p_limit integer default 1, p_lease_seconds double precision default 30,
    p_begin integer default null
) returns table (
    id uuid, tenant_id uuid, agent_id text, task_type text, title text, description text, payload jsonb,
    priority integer, attempt integer, max_attempts integer, timeout_seconds integer, lease_token uuid,
    created_at timestamptz, started_at timestamptz, round integer, resume_with jsonb
) language sql as $$
    with claimed as (
        update agent_tasks as t
        set status = 'in_progress', attempt = t.attempt + 1, worker_id = p_worker_id, lease_token = gen_random_uuid(),
            lease_expires_at = zora_now() + make_interval(secs => p_lease_seconds), started_at = zora_now(),
            updated_at = zora_now(), progress = null, progress_message = null
        where t.id = any (array(
            select p.id
            from (
                select r.id, r.lost_leases, row_number() over () as place
                from (
                    select n.id, n.lost_leases
                    from agent_tasks as n
                    where n.tenant_id = p_tenant_id and n.status = 'pending' and n.waiting_for is null
                        and not is_paused(p_tenant_id, n.agent_id)
                        and (n.deadline_at is null or n.deadline_at > zora_now())
                    order by n.priority desc, n.created_at, n.id
                    limit p_limit
                    for update skip locked
                ) as r
            ) as p
            where p_begin is null or p.lost_leases = 0 or p.place <= p_begin
        ))
        returning t.*
    ), announced as (
        select announce_agent_tasks(p_tenant_id) where exists (select from claimed)
    )
    select c.id, c.tenant_id, c.agent_id, c.task_type, c.title, c.description, coalesce(c.payload, '{}'), c.priority,
        c.attempt, c.max_attempts, c.timeout_seconds, c.lease_token, c.created_at, c.started_at, c.round,
        c.resume_with
    from claimed as c
    where (select count(*) from announced) is not null
    order by c.priority desc, c.created_at, c.id  -- a worker that claims ahead begins them one after the other
$$;
