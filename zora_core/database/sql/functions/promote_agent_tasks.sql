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
        select pg_notify('agent_tasks', r.tenant_id::text), announce_agent_tasks(r.tenant_id)
        from (select distinct ready.tenant_id from ready) as r
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
