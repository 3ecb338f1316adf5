-- Take back up to p_limit tasks whose lease has expired, from any tenant; any worker may do it. The rescuer first
-- replaces the lease token, which shuts the old worker out, then settles the run as that worker's last. A task that
-- lost p_max_lost leases ends as lost: it seems to kill its workers. Returns one row per task.
--
-- p_held are the lease tokens of what the asking worker runs itself. It is alive, whatever the clock says: its leases are
-- late because its process was stopped or its machine slept, and its next heartbeat prolongs them.
--
-- A lost lease counts only when its worker has been silent since (see workers): a worker that said that it runs after the
-- lease had expired was cut off or paused, and the task did not end it.
create or replace function rescue_agent_tasks(
    p_limit integer default 100, p_max_lost integer default 3, p_held uuid [] default '{}'
) returns table (id uuid, status text) language plpgsql as $$
declare
    v_expired record;
begin
    with taken as (
        update agent_tasks as t
        set lease_token = gen_random_uuid(), lost_leases = least(t.lost_leases, 2147483646) + (not exists (
            select from workers as w
            where w.tenant_id = t.tenant_id and w.id = t.worker_id and w.last_beat_at > t.lease_expires_at
        ))::integer
        where t.id = any (array(
            select e.id
            from agent_tasks as e
            where e.status = 'in_progress' and e.lease_expires_at < zora_now() and e.lease_token <> all (p_held)
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
