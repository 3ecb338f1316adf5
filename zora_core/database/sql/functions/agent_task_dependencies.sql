-- Tasks that wait for other tasks: created as a graph, released when those have ended.

-- What a pending task waits for next, once nothing that came before in this order holds it back: approval, other tasks,
-- those to which it delegated, its time.
create or replace function next_wait(
    p_dependencies_left integer, p_run_at timestamptz, p_children_left integer default 0
) returns text language sql stable as $$
    select case
        when p_dependencies_left > 0 then 'dependencies'
        when p_children_left > 0 then 'children'
        when p_run_at > zora_now() then 'run_at'
    end
$$;

-- Create a graph of tasks: as create_agent_tasks() takes them, each with a key, and depends_on, an array of the keys that
-- it waits for or of objects {"key", "on_failure"}; with ask_first a person is asked when nothing else holds it back. A task
-- stands after those that it depends on, which rules out cycles; zora_core.graph puts them in such an order, or names the
-- cycle. With p_parent_id they are its children. Returns the tasks' ids by their keys. Without sequential scans: edges that
-- were just made are not in the statistics.
create or replace function create_agent_task_graph(
    p_tenant_id uuid, p_tasks jsonb, p_created_by uuid default null, p_parent_id uuid default null
) returns table (key text, id uuid, waiting_for text) language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
    v_problem text;
    v_ids uuid[];
begin
    if jsonb_typeof(p_tasks) is distinct from 'array' then
        raise exception 'p_tasks must be a JSON array of tasks' using errcode = 'PT400';
    end if;
    select coalesce(
        (
            select format('the task %s of %s lacks a key', t.position, jsonb_array_length(p_tasks))
            from jsonb_array_elements(p_tasks) with ordinality as t (task, position)
            where coalesce(t.task ->> 'key', '') = ''
            limit 1
        ),
        (
            select format('two tasks have the key %L', t.task ->> 'key')
            from jsonb_array_elements(p_tasks) as t (task)
            group by t.task ->> 'key'
            having count(*) > 1
            limit 1
        ),
        (
            select format('the task %L has an idempotency_key, which a task of a graph cannot have', t.task ->> 'key')
            from jsonb_array_elements(p_tasks) as t (task)
            where t.task ? 'idempotency_key'
            limit 1
        ),
        (
            select format(
                case
                    when e.on_failure not in ('fail', 'skip', 'continue') then 'the task %L depends on %L with an '
                        'unknown on_failure (known: fail, skip, continue)'
                    when o.position is null then 'the task %L depends on %L, which no task before it is called'
                end, e.key, e.depends_on
            )
            from graph_edges(p_tasks) as e
            left join jsonb_array_elements(p_tasks) with ordinality as o (task, position)
                on o.task ->> 'key' = e.depends_on and o.position < e.place
            where o.position is null or e.on_failure not in ('fail', 'skip', 'continue')
            limit 1
        )
    )
    into v_problem;
    if v_problem is not null then
        raise exception '%', v_problem using errcode = 'PT400';
    end if;

    v_ids := array(
        select t.id
        from create_agent_tasks(
            p_tenant_id,
            (
                select jsonb_agg(t.task - array['key', 'depends_on', 'ask_first'] order by t.position)
                from jsonb_array_elements(p_tasks) with ordinality as t (task, position)
            ),
            p_created_by,
            p_parent_id
        ) as t
        order by t.id  -- which is their order
    );
    insert into agent_task_dependencies (tenant_id, task_id, depends_on, name, on_failure, created_at)
    select p_tenant_id, v_ids[e.place], v_ids[o.position], e.depends_on, e.on_failure, zora_now()
    from graph_edges(p_tasks) as e
    inner join jsonb_array_elements(p_tasks) with ordinality as o (task, position) on o.task ->> 'key' = e.depends_on;
    update agent_tasks as t
    set dependencies_left = e.dependencies,
        waiting_for = case
            when t.waiting_for = 'approval' or e.dependencies = 0 then t.waiting_for else 'dependencies'
        end,
        has_dependents = e.dependents > 0
    from (
        select g.id,
            (select count(*) from agent_task_dependencies as d where d.task_id = g.id) as dependencies,
            (select count(*) from agent_task_dependencies as d where d.depends_on = g.id) as dependents
        from unnest(v_ids) as g (id)
    ) as e
    where t.tenant_id = p_tenant_id and t.id = e.id and (e.dependencies > 0 or e.dependents > 0);

    if p_tasks @? '$[*].ask_first' then
        update agent_tasks as t
        set ask_first = true,
            waiting_for = case when t.waiting_for = 'dependencies' then 'dependencies' else 'approval' end
        from jsonb_array_elements(p_tasks) with ordinality as e (task, position)
        where t.tenant_id = p_tenant_id and t.id = v_ids[e.position] and e.task ->> 'ask_first' = 'true';
        perform ask_to_run(t.tenant_id, t.id, t.agent_id, t.task_type, t.title, t.payload)
        from agent_tasks as t
        where t.tenant_id = p_tenant_id and t.id = any (v_ids) and t.waiting_for = 'approval' and t.ask_first
            and not exists (select from agent_suggestions as s where s.tenant_id = p_tenant_id and s.task_id = t.id);
    end if;

    return query
    select t.task ->> 'key', a.id, a.waiting_for
    from jsonb_array_elements(p_tasks) with ordinality as t (task, position)
    inner join agent_tasks as a on a.tenant_id = p_tenant_id and a.id = v_ids[t.position]
    order by t.position;
end
$$;

-- The edges that a graph's tasks name.
create or replace function graph_edges(
    p_tasks jsonb
) returns table (place bigint, key text, depends_on text, on_failure text) language sql immutable as $$
    select distinct on (t.position, x.depends_on) t.position, t.task ->> 'key', x.depends_on, x.on_failure
    from jsonb_array_elements(p_tasks) with ordinality as t (task, position)
    cross join lateral jsonb_array_elements(coalesce(t.task -> 'depends_on', '[]')) as d (edge)
    cross join lateral (
        select
            case jsonb_typeof(d.edge) when 'object' then d.edge ->> 'key' else d.edge #>> '{}' end,
            case jsonb_typeof(d.edge) when 'object' then coalesce(d.edge ->> 'on_failure', 'fail') else 'fail' end
    ) as x (depends_on, on_failure)
    order by t.position, x.depends_on
$$;

-- Tasks have ended for good: decrement the counters of the tasks that wait for them. A task at zero becomes ready. A
-- task that must not run, because of how a dependency ended, ends now, and its dependents are counted down in turn.
--
-- Rows are locked in one order, the deepest first, because children end before their parents, then by id: so two ends of
-- the same dependents wait for one another. A graph is new, and the statistics do not know it yet: without sequential scans,
-- and with conditions that no index is searched by (… is true), the rows are found by the ids that are known.
create or replace function release_dependents(
    p_tenant_id uuid, p_ids uuid [], p_completed boolean []
) returns void language plpgsql set enable_seqscan = off as $$
declare
    v_ids uuid[] := p_ids;
    v_completed boolean[] := p_completed;
    v_waiting uuid[];
    v_parents uuid[];
    v_released boolean := false;
    v_asked uuid[];
    v_runs uuid[];
begin
    while cardinality(v_ids) > 0 loop
        v_waiting := array(
            select t.id
            from agent_tasks as t
            where (t.tenant_id = p_tenant_id) is true and t.status::text = 'pending' and t.id = any (array(
                select distinct d.task_id from agent_task_dependencies as d where d.depends_on = any (v_ids)
            ))
            order by t.depth desc, t.id
            for update
        );
        with counted as (
            select d.task_id, count(*) filter (where d.round = 0)::integer as dependencies,
                count(*) filter (where d.round > 0)::integer as children,
                case when bool_or(d.round > 0) then 'to which it delegated' else 'which it depends on' end as relation,
                min(d.depends_on::text) filter (where not e.completed and d.on_failure = 'fail') as failed_by,
                min(d.depends_on::text) filter (where not e.completed and d.on_failure = 'skip') as skipped_by
            from unnest(v_ids, v_completed) as e (id, completed)
            inner join agent_task_dependencies as d on d.depends_on = e.id
            inner join agent_tasks as w on w.id = d.task_id and d.round in (0, w.round)
            where d.depends_on = any (v_ids) and (d.task_id = any (v_waiting)) is true
            group by d.task_id
        ), moved as (
            update agent_tasks as t
            set dependencies_left = greatest(t.dependencies_left - c.dependencies, 0),
                children_left = greatest(t.children_left - c.children, 0),
                status = case
                    when c.failed_by is not null then 'failed'
                    when c.skipped_by is not null then 'completed'
                    else 'pending'
                end::agent_task_status,
                waiting_for = case
                    when coalesce(c.failed_by, c.skipped_by) is not null then null
                    when t.waiting_for = 'approval' then 'approval'
                    when t.ask_first and c.dependencies > 0 and t.dependencies_left = c.dependencies
                        and not may_run(t.tenant_id, t.id) then 'approval'
                    else next_wait(t.dependencies_left - c.dependencies, t.run_at, t.children_left - c.children)
                end,
                failure_kind = case when c.failed_by is not null then 'dependency' end,
                error_message = case when c.failed_by is not null then format('task %s, %s, failed',
                    c.failed_by, c.relation) end,
                result_summary = case when c.failed_by is null and c.skipped_by is not null
                    then format('not run%s, because task %s, %s, failed', case when t.round > 0 then ' again' else '' end,
                        c.skipped_by, c.relation) end,
                completed_at = case when coalesce(c.failed_by, c.skipped_by) is not null then zora_now() end,
                updated_at = zora_now()
            from counted as c
            where (t.tenant_id = p_tenant_id) is true and t.id = c.task_id
            returning t.id, t.tenant_id, t.agent_id, t.task_type, t.status::text as status, t.waiting_for, t.priority,
                t.attempt, t.has_dependents, t.children_left, coalesce(t.error_message, t.result_summary) as outcome,
                t.ask_first, t.dependencies_left, t.workflow_run_id
        ), journalled as (
            insert into journal_entries (
                tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
            )
            select m.tenant_id, 'agent_action', 'agent_task_' || m.status,
                m.agent_id || ' task: ' || m.task_type || ' (' || m.status || ')', m.outcome,
                jsonb_build_object('task_id', m.id, 'agent_id', m.agent_id, 'task_type', m.task_type,
                    'status', m.status, 'priority', m.priority, 'attempt', m.attempt),
                lower(m.agent_id), m.id, array[m.id], zora_now()
            from moved as m
            where m.status <> 'pending'
        )
        select array_agg(m.id) filter (where m.status <> 'pending' and m.has_dependents),
            array_agg(m.status = 'completed') filter (where m.status <> 'pending' and m.has_dependents),
            array_agg(m.id) filter (where m.status <> 'pending' and m.children_left > 0),
            v_released or coalesce(bool_or(m.status = 'pending' and m.waiting_for is null), false),
            array_agg(m.id) filter (where m.waiting_for = 'approval' and m.ask_first and m.dependencies_left = 0),
            v_runs || array_agg(distinct m.workflow_run_id) filter (where m.status <> 'pending')
        into v_ids, v_completed, v_parents, v_released, v_asked, v_runs
        from moved as m;
        if v_parents is not null then
            perform cancel_descendants(p_tenant_id, v_parents, 'cancelled, because its parent has ended');
        end if;
        perform ask_to_run(t.tenant_id, t.id, t.agent_id, t.task_type, t.title, t.payload)
        from agent_tasks as t
        where t.tenant_id = p_tenant_id and t.id = any (v_asked)
            and not exists (
                select from agent_suggestions as s
                where s.tenant_id = p_tenant_id and s.task_id = t.id and s.suggestion_type = 'run_task'
                    and s.status = 'proposed'
            );
    end loop;
    if cardinality(v_runs) > 0 then
        perform finish_workflow_runs(p_tenant_id, v_runs);
    end if;
    if v_released then
        perform pg_notify('agent_tasks', p_tenant_id::text);
    end if;
end
$$;

-- How many ends a task that is put back into the queue still waits for.
create or replace function count_dependencies(p_tenant_id uuid, p_id uuid) returns integer language sql stable as $$
    select count(*)::integer
    from agent_task_dependencies as d
    inner join agent_tasks as t on t.tenant_id = d.tenant_id and t.id = d.depends_on
    where d.tenant_id = p_tenant_id and d.task_id = p_id and d.round = 0 and t.status::text <> 'completed'
        and not (t.status::text = 'failed' and d.on_failure = 'continue')
$$;

-- What the tasks came to that a task depends on, by the names by which its payload refers to them.
create or replace function list_dependency_results(
    p_tenant_id uuid, p_id uuid
) returns table (name text, id uuid, status text, result jsonb, result_summary text) language sql stable as $$
    select d.name, t.id, t.status::text, t.result, t.result_summary
    from agent_task_dependencies as d
    inner join agent_tasks as t on t.tenant_id = d.tenant_id and t.id = d.depends_on
    where d.tenant_id = p_tenant_id and d.task_id = p_id and d.round = 0
    order by d.name
$$;

-- The tasks that a task waits for (depends_on, child), and those that wait for it (dependent, parent).
create or replace function list_agent_task_dependencies(
    p_tenant_id uuid, p_id uuid
) returns table (
    relation text, id uuid, name text, on_failure text, agent_id text, task_type text, title text, status text,
    waiting_for text
) language sql stable as $$
    select e.relation, t.id, e.name, e.on_failure, t.agent_id::text, t.task_type::text, t.title::text, t.status::text,
        t.waiting_for
    from (
        select case d.round when 0 then 'depends_on' else 'child' end as relation, d.depends_on as other, d.name,
            d.on_failure
        from agent_task_dependencies as d where d.tenant_id = p_tenant_id and d.task_id = p_id
        union all
        select case d.round when 0 then 'dependent' else 'parent' end, d.task_id, d.name, d.on_failure
        from agent_task_dependencies as d where d.tenant_id = p_tenant_id and d.depends_on = p_id
    ) as e
    inner join agent_tasks as t on t.tenant_id = p_tenant_id and t.id = e.other
    order by e.relation, t.id
    limit 1000
$$;
