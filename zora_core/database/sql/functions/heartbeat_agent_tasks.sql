-- Prolong the leases of everything a worker holds, store progress, and say what became of each task:
-- held, cancel (a person asked for it) or lost (the lease went to somebody else, or the task was settled). One row per
-- lease token: a worker that got its own task back asks about both runs of it.
--
-- Rows that a settlement has locked at this moment are skipped instead of waited for: two batches that lock the same
-- rows in different orders would deadlock. They are judged by what this statement's snapshot shows.
create or replace function heartbeat_agent_tasks(
    p_ids uuid [], p_lease_tokens uuid [], p_lease_seconds double precision default 30,
    p_progress real [] default null, p_messages text [] default null
) returns table (id uuid, lease_token uuid, state text) language sql as $$
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
        returning t.tenant_id, h.progress is not null or h.message is not null as has_progress
    ), shown as (
        select announce_agent_tasks(r.tenant_id)
        from (select distinct b.tenant_id from beaten as b where b.has_progress) as r
    )
    select g.id, g.lease_token,
        case
            when t.id is null then 'lost'
            when t.cancel_requested_at is not null then 'cancel'
            else 'held'
        end
    from given as g
    left join agent_tasks as t on t.id = g.id and t.lease_token = g.lease_token and t.status::text = 'in_progress'
    where (select count(*) from shown) is not null
$$;
