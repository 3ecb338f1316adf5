-- What a task has to do with, for its page: its parent, the root of its tree when that is another, everything below it
-- (500, the nearest first), what it depends on and what depends on it (500 each). on_failure is that of the edge
-- between a child and its parent, or between the two tasks.
create or replace function list_related_tasks(
    p_tenant_id uuid, p_id uuid
) returns table (
    relation text, id uuid, parent_id uuid, agent_id text, task_type text, title text, status text, waiting_for text,
    failure_kind text, result_summary text, depth integer, on_failure text, started_at timestamptz,
    completed_at timestamptz
) language sql stable set enable_seqscan = off as $$
    with recursive below as (
        select c.id
        from agent_tasks as c
        where c.tenant_id = p_tenant_id and c.parent_id = p_id
        union all
        select n.id
        from below as b
        cross join lateral (
            select c.id from agent_tasks as c where c.tenant_id = p_tenant_id and c.parent_id = b.id limit 500
        ) as n
    ), related as (
        select 'parent' as relation, t.parent_id as id
        from agent_tasks as t
        where t.tenant_id = p_tenant_id and t.id = p_id
        union all
        select 'root', t.root_id
        from agent_tasks as t
        where t.tenant_id = p_tenant_id and t.id = p_id and t.root_id <> t.parent_id
        union all
        (select 'child', b.id from below as b limit 500)
        union all
        (
            select 'depends_on', d.depends_on
            from agent_task_dependencies as d
            where d.tenant_id = p_tenant_id and d.task_id = p_id and d.round = 0
            limit 500
        )
        union all
        (
            select 'dependent', d.task_id
            from agent_task_dependencies as d
            where d.tenant_id = p_tenant_id and d.depends_on = p_id and d.round = 0
            limit 500
        )
    )
    select r.relation, t.id, t.parent_id, t.agent_id::text, t.task_type::text, t.title::text, t.status::text,
        t.waiting_for, t.failure_kind, t.result_summary, t.depth, d.on_failure, t.started_at, t.completed_at
    from related as r
    cross join lateral (
        select a.* from agent_tasks as a where a.tenant_id = p_tenant_id and a.id = r.id limit 1
    ) as t
    left join lateral (
        select e.on_failure
        from agent_task_dependencies as e
        where e.tenant_id = p_tenant_id
            and e.task_id = case r.relation when 'depends_on' then p_id when 'child' then t.parent_id
                when 'parent' then t.id when 'dependent' then t.id end
            and e.depends_on = case r.relation when 'depends_on' then t.id when 'child' then t.id else p_id end
        limit 1
    ) as d on true
    order by array_position(array['root', 'parent', 'depends_on', 'child', 'dependent'], r.relation), t.depth, t.id
$$;
