-- Delete up to p_limit tasks that finished more than p_older_than_seconds ago; returns how many. Nothing calls it by
-- itself. The journal and the memories of the runs stay; a task whose suggestions still wait for a person stays too, as
-- does one whose result another task waits to read.
--
-- Ids are time-ordered, so the oldest tasks are found at the front of the primary key, without an index that every
-- completion would have to pay for.
create or replace function prune_agent_tasks(
    p_tenant_id uuid, p_older_than_seconds double precision, p_limit integer default 1000
) returns bigint language sql as $$
    with deleted as (
        delete from agent_tasks as t
        where t.id = any (array(
            select o.id
            from agent_tasks as o
            where o.tenant_id = p_tenant_id
                and o.status in ('completed', 'failed')
                and o.completed_at < zora_now() - make_interval(secs => p_older_than_seconds)
                and not exists (
                    select from agent_suggestions as s
                    where s.task_id = o.id and s.status in ('proposed', 'approved')
                )
                and not exists (
                    select
                    from agent_task_dependencies as d
                    inner join agent_tasks as w on w.id = d.task_id
                    where d.depends_on = o.id and w.status::text in ('pending', 'in_progress')
                )
            order by o.id
            limit p_limit
            for update skip locked
        ))
        returning t.id
    )
    select count(*) from deleted
$$;
