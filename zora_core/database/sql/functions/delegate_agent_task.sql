-- Tasks that delegate to other tasks. A parent waits for its children by edges of agent_task_dependencies, so that their
-- ends are counted off, and the parent released, like those of any dependency; see release_dependents().

-- Create the children of a running task as it delegates; part of its settlement. p_delegation is {"children": […], "then"};
-- children are as create_agent_task_graph() takes them, each with on_failure, which says what its failure does to the
-- parent: continue (the parent is resumed and sees it), fail or skip.
--
-- Returns {"children": {key: id}} or {"refusal": text}, and null for a lease that is lost or a task that is to stop.
--
-- Limits against handlers that delegate without end. A plan that a person can follow is five deep; what would be wider than
-- a hundred is a batch, which one task can work through; a thousand is ten times a hundred, or three levels of ten. The
-- thousand holds exactly, because delegations from within trees wait for one another, in each tenant.
create or replace function delegate_agent_task(
    p_id uuid, p_lease_token uuid, p_delegation jsonb
) returns jsonb language plpgsql as $$
declare
    v_max_depth constant integer := 5;
    v_max_children constant integer := 100;
    v_max_descendants constant integer := 1000;
    v_children constant jsonb := p_delegation -> 'children';
    v_task agent_tasks;
    v_root uuid;
    v_descendants bigint;
    v_ids jsonb;
begin
    select * into v_task
    from agent_tasks as t
    where t.id = p_id and t.lease_token = p_lease_token and t.status::text = 'in_progress'
    for update;
    if not found or v_task.cancel_requested_at is not null then
        return null;
    end if;

    if jsonb_typeof(v_children) is distinct from 'array' or v_children = '[]' then
        return jsonb_build_object('refusal', 'the delegation names no children');
    elsif jsonb_array_length(v_children) > v_max_children then
        return jsonb_build_object('refusal', format('the delegation names %s children, more than the limit of %s',
            jsonb_array_length(v_children), v_max_children));
    elsif v_task.depth >= v_max_depth then
        return jsonb_build_object('refusal', format('this task stands %s levels below its root, and the limit is %s: it '
            'cannot delegate', v_task.depth, v_max_depth));
    elsif exists (
        select from jsonb_array_elements(v_children) as c (child)
        where coalesce(c.child ->> 'on_failure', 'continue') not in ('fail', 'skip', 'continue')
    ) then
        return jsonb_build_object('refusal', 'a child has an unknown on_failure (known: fail, skip, continue)');
    end if;

    v_root := coalesce(v_task.root_id, v_task.id);
    if v_task.root_id is not null then
        perform pg_advisory_xact_lock(hashtextextended('zora delegation ' || v_task.tenant_id, 0));
    end if;
    select count(*) into v_descendants from agent_tasks as t where t.tenant_id = v_task.tenant_id and t.root_id = v_root;
    if v_descendants + jsonb_array_length(v_children) > v_max_descendants then
        return jsonb_build_object('refusal', format('%s more children would be too many: the tree of task %s has %s '
            'descendants, and the limit is %s', jsonb_array_length(v_children), v_root, v_descendants, v_max_descendants));
    end if;

    begin
        with made as materialized (
            select g.key, g.id
            from create_agent_task_graph(
                v_task.tenant_id,
                (
                    select jsonb_agg(c.child - 'on_failure' order by c.position)
                    from jsonb_array_elements(v_children) with ordinality as c (child, position)
                ),
                v_task.created_by_user_id,
                v_task.id
            ) as g
        ), linked as (
            insert into agent_task_dependencies (tenant_id, task_id, depends_on, name, on_failure, round, created_at)
            select v_task.tenant_id, v_task.id, m.id, m.key, coalesce(c.child ->> 'on_failure', 'continue'),
                v_task.round + 1, zora_now()
            from made as m
            inner join jsonb_array_elements(v_children) as c (child) on c.child ->> 'key' = m.key
        )
        select jsonb_object_agg(m.key, m.id) into v_ids from made as m;
        update agent_tasks as t
        set has_dependents = true
        where t.tenant_id = v_task.tenant_id and t.id = any (array(select i.id::uuid from jsonb_each_text(v_ids) as i (k, id)));
    exception
        -- The batch that this settlement is a part of must not fail with it.
        when sqlstate 'PT400' or data_exception or integrity_constraint_violation then
            return jsonb_build_object('refusal', 'the children cannot be created: ' || sqlerrm);
    end;
    return jsonb_build_object('children', v_ids);
end
$$;

-- Cancel everything unfinished below tasks that have ended: its results are not needed. Pending tasks end, running ones are asked
-- to stop.
--
-- What another transaction has locked is passed over, because it may wait for what this one has locked; any worker comes
-- back to it (cancel_orphaned_agent_tasks). Nothing is counted off at those that wait for what is cancelled: they are below
-- the same tasks, and end with it.
create or replace function cancel_descendants(
    p_tenant_id uuid, p_ids uuid [], p_reason text, p_author text default null
) returns integer language plpgsql as $$
declare
    v_ids uuid[];
begin
    v_ids := array(
        with recursive below as (
            select t.id from agent_tasks as t where t.tenant_id = p_tenant_id and t.parent_id = any (p_ids)
            union
            select t.id
            from below as b
            inner join agent_tasks as t on t.tenant_id = p_tenant_id and t.parent_id = b.id
        )
        select t.id
        from agent_tasks as t
        where t.tenant_id = p_tenant_id and t.id = any (array(select b.id from below as b))
            and t.status::text in ('pending', 'in_progress') and t.cancel_requested_at is null
        for update skip locked
    );
    if v_ids = '{}' then
        return 0;
    end if;
    with cancelled as (
        update agent_tasks as t
        set status = case t.status when 'pending' then 'failed' else t.status end,
            waiting_for = null,
            failure_kind = case t.status when 'pending' then 'cancelled' end,
            error_message = case t.status when 'pending' then p_reason else t.error_message end,
            completed_at = case t.status when 'pending' then zora_now() end,
            cancel_requested_at = zora_now(),
            updated_at = zora_now()
        where t.tenant_id = p_tenant_id and t.id = any (v_ids)
        returning t.*
    ), superseded as (
        update agent_suggestions as s
        set status = 'superseded'
        where s.tenant_id = p_tenant_id and s.task_id = any (v_ids) and s.suggestion_type = 'run_task'
            and s.status = 'proposed'
    )
    insert into journal_entries (
        tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
    )
    select c.tenant_id, 'agent_action', 'agent_task_cancelled',
        format('%s task: %s (%s)', c.agent_id, c.task_type, c.status), p_reason,
        jsonb_build_object('task_id', c.id, 'agent_id', c.agent_id, 'task_type', c.task_type, 'status', c.status,
            'priority', c.priority, 'attempt', c.attempt, 'parent_id', c.parent_id),
        coalesce(p_author, lower(c.agent_id)), c.id, array[c.id, c.parent_id], zora_now()
    from cancelled as c
    order by c.id;
    perform announce_agent_tasks(p_tenant_id);
    return cardinality(v_ids);
end
$$;

-- Cancel what is unfinished below up to p_limit tasks that ended before their children did, of any tenant: what a cascade
-- had to pass over, and what nothing cascaded to, as when a parent was rejected. Returns how many tasks were cancelled.
create or replace function cancel_orphaned_agent_tasks(p_limit integer default 1000) returns bigint language plpgsql as $$
declare
    v_parents record;
    v_count bigint := 0;
begin
    for v_parents in
        select o.tenant_id, array_agg(o.id) as ids
        from (
            select t.tenant_id, t.id
            from agent_tasks as t
            where t.children_left > 0 and t.status in ('completed', 'failed')
            order by t.id
            limit p_limit
            for update skip locked
        ) as o
        group by o.tenant_id
    loop
        v_count := v_count
            + cancel_descendants(v_parents.tenant_id, v_parents.ids, 'cancelled, because its parent has ended');
        -- A parent is done with when each of its children has ended or is asked to stop; else it is come back to.
        update agent_tasks as t
        set children_left = 0
        where t.tenant_id = v_parents.tenant_id and t.id = any (v_parents.ids)
            and not exists (
                select from agent_tasks as c
                where c.tenant_id = t.tenant_id and c.parent_id = t.id and c.status::text in ('pending', 'in_progress')
                    and c.cancel_requested_at is null
            );
    end loop;
    return v_count;
end
$$;

-- Let up to p_limit tasks fail that have not begun, or not begun again, by their deadline, of any tenant. A run that has
-- begun is bounded by its time limit. Returns how many failed.
create or replace function expire_agent_tasks(p_limit integer default 1000) returns bigint language sql as $$
    select coalesce(sum(fail_agent_tasks(e.tenant_id, e.ids, 'timeout', e.errors)), 0)::bigint
    from (
        select d.tenant_id, array_agg(d.id) as ids,
            array_agg(format('its deadline passed at %s', d.deadline_at)) as errors
        from (
            select t.tenant_id, t.id, t.deadline_at
            from agent_tasks as t
            where t.status = 'pending' and t.deadline_at is not null and t.deadline_at <= zora_now()
            order by t.deadline_at
            limit p_limit
            for update skip locked
        ) as d
        group by d.tenant_id
    ) as e
$$;

-- What became of the tasks to which a task delegated last, by their keys.
create or replace function list_agent_task_children(
    p_tenant_id uuid, p_id uuid
) returns table (
    key text, id uuid, agent_id text, task_type text, title text, status text, failure_kind text, error text,
    summary text, result jsonb
) language sql stable as $$
    select d.name, c.id, c.agent_id::text, c.task_type::text, c.title::text, c.status::text, c.failure_kind,
        c.error_message, c.result_summary, c.result
    from agent_tasks as t
    inner join agent_task_dependencies as d on d.tenant_id = t.tenant_id and d.task_id = t.id and d.round = t.round
    inner join agent_tasks as c on c.tenant_id = t.tenant_id and c.id = d.depends_on
    where t.tenant_id = p_tenant_id and t.id = p_id and t.round > 0
    order by c.id
$$;

-- The tree that a task belongs to, each task after its parent; alone when it neither delegated nor was delegated.
create or replace function list_agent_task_tree(
    p_tenant_id uuid, p_id uuid
) returns table (
    id uuid, parent_id uuid, depth integer, key text, agent_id text, task_type text, title text, status text,
    waiting_for text, failure_kind text
) language sql stable as $$
    select t.id, t.parent_id, t.depth, d.name, t.agent_id::text, t.task_type::text, t.title::text, t.status::text,
        t.waiting_for, t.failure_kind
    from (
        select coalesce(a.root_id, a.id) as id from agent_tasks as a where a.tenant_id = p_tenant_id and a.id = p_id
    ) as r
    inner join lateral (
        select o.* from agent_tasks as o where o.tenant_id = p_tenant_id and o.id = r.id
        union all
        select o.* from agent_tasks as o where o.tenant_id = p_tenant_id and o.root_id = r.id
    ) as t on true
    left join agent_task_dependencies as d
        on d.tenant_id = p_tenant_id and d.task_id = t.parent_id and d.depends_on = t.id
    order by t.depth, t.id
    limit 2000
$$;
