-- Whether a worker that is not notified should look closer: `tasks`, whether it could claim one of the tenant's, on the
-- conditions of claim_agent_tasks(); `entries`, whether a block of its journal is due (as next_journal_block() sees it, but
-- for open transactions); `suggestions`, whether attend_agent_suggestions() may have something to do for any tenant.
create or replace function work_to_do(
    p_tenant_id uuid, p_min_age_seconds double precision default 10, p_limit integer default 1000,
    p_task_types text [] default null, p_idle boolean default true,
    p_worker_id text default null,
    out tasks boolean, out entries boolean, out suggestions boolean
) language sql stable as $$
    -- now(), not clock_timestamp(), which is volatile, so that no index could be searched by it.
    select
        exists (
            select from agent_tasks as n
            where n.tenant_id = p_tenant_id and n.status = 'pending' and n.waiting_for is null
                and (p_task_types is null or n.agent_id || ' ' || n.task_type = any (p_task_types))
                and not is_paused(p_tenant_id, n.agent_id)
                and (n.deadline_at is null or n.deadline_at > zora_now())
                and (
                    p_idle
                    or n.lost_leases = 0
                    and (n.priority <= (select suspect_priority(p_tenant_id, p_worker_id, p_task_types))) is not true
                )
        ),
        exists (
            select from journal_entries as j
            where j.tenant_id = p_tenant_id and j.id > last.id
                and j.id < least_uuidv7(now() - make_interval(secs => p_min_age_seconds))
        ) or exists (
            select from journal_entries as j
            where j.tenant_id = p_tenant_id and j.id > last.id
            order by j.id
            offset p_limit - 1
        ),
        suggestions_due()
    from (
        select coalesce((
            select (b.header::jsonb ->> 'last_id')::uuid
            from journal_blocks as b
            where b.tenant_id = p_tenant_id
            order by b.number desc
            limit 1
        ), '00000000-0000-0000-0000-000000000000') as id
    ) as last
$$;

-- Whether attend_agent_suggestions() may have something to do. Also when the table is locked: a look for tasks must not wait
-- for it.
create or replace function suggestions_due() returns boolean language plpgsql stable set lock_timeout = '20ms' as $$
begin
    return exists (
        select from agent_suggestions as s
        where s.status = 'approved' and s.effect is not null and not is_paused(s.tenant_id, s.agent_id)
    ) or exists (
        select from agent_suggestions as s where s.status = 'proposed' and s.expires_at <= zora_now()
    ) or exists (
        select from agent_suggestions as s where s.status = 'proposed' and s.remind_at <= zora_now()
    );
exception
    when lock_not_available then
        return true;
end
$$;
