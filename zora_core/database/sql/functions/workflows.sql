-- Workflows: keeping definitions, starting runs of them, and what becomes of runs.

-- Keep a definition under its key; one that is there is replaced, runs of it go on as they began.
create or replace function save_workflow(
    p_tenant_id uuid, p_key text, p_name text, p_definition jsonb, p_user_id uuid default null
) returns setof workflows language plpgsql as $$
declare
    v_workflow workflows;
begin
    insert into workflows as w (tenant_id, key, name, definition, created_by, created_at)
    values (
        p_tenant_id, p_key, p_name, p_definition,
        (select u.id from users as u where u.tenant_id = p_tenant_id and u.id = p_user_id), zora_now()
    )
    on conflict (tenant_id, key) do update
    set name = excluded.name, definition = excluded.definition, updated_at = zora_now()
    returning * into v_workflow;
    insert into journal_entries (tenant_id, category, event_type, title, details, author, related_entity_ids, created_at)
    values (
        p_tenant_id, 'config_change', 'workflow_saved', 'Workflow saved: ' || p_name,
        jsonb_build_object('workflow', p_key, 'by_user_id', p_user_id), user_name(p_tenant_id, p_user_id),
        array[v_workflow.id], zora_now()
    );
    return next v_workflow;
end
$$;

-- Remove a definition; its runs stay.
create or replace function delete_workflow(
    p_tenant_id uuid, p_key text, p_user_id uuid default null
) returns setof workflows language plpgsql as $$
declare
    v_workflow workflows;
begin
    delete from workflows as w where w.tenant_id = p_tenant_id and w.key = p_key returning * into v_workflow;
    if not found then
        raise exception 'no workflow %', p_key using errcode = 'PT404';
    end if;
    insert into journal_entries (tenant_id, category, event_type, title, details, author, related_entity_ids, created_at)
    values (
        p_tenant_id, 'config_change', 'workflow_deleted', 'Workflow deleted: ' || v_workflow.name,
        jsonb_build_object('workflow', p_key, 'by_user_id', p_user_id), user_name(p_tenant_id, p_user_id),
        array[v_workflow.id], zora_now()
    );
    return next v_workflow;
end
$$;

-- A tenant's definitions, by key.
create or replace function list_workflows(p_tenant_id uuid) returns setof workflows language sql stable as $$
    select w.* from workflows as w where w.tenant_id = p_tenant_id order by w.key limit 1000
$$;

-- Start a run: its tasks as a graph (see create_agent_task_graph), each as the step of its key.
create or replace function start_workflow_run(
    p_tenant_id uuid, p_workflow text, p_name text, p_definition jsonb, p_context jsonb, p_tasks jsonb,
    p_user_id uuid default null
) returns setof workflow_runs language plpgsql as $$
declare
    v_run workflow_runs;
    v_ids uuid[];
    v_steps text[];
begin
    insert into workflow_runs (tenant_id, workflow, name, definition, context, created_by, created_at)
    values (
        p_tenant_id, p_workflow, p_name, p_definition, p_context,
        (select u.id from users as u where u.tenant_id = p_tenant_id and u.id = p_user_id), zora_now()
    )
    returning * into v_run;
    insert into journal_entries (tenant_id, category, event_type, title, details, author, related_entity_ids, created_at)
    values (
        p_tenant_id, 'autonomy', 'workflow_run_started', 'Workflow started: ' || p_name,
        jsonb_build_object('workflow', p_workflow, 'workflow_run_id', v_run.id, 'context', p_context,
            'steps', jsonb_array_length(p_tasks), 'by_user_id', p_user_id),
        user_name(p_tenant_id, p_user_id), array[v_run.id], zora_now()
    );
    select array_agg(g.id), array_agg(g.key) into v_ids, v_steps
    from create_agent_task_graph(p_tenant_id, p_tasks, p_user_id) as g;
    update agent_tasks as t
    set workflow_run_id = v_run.id, workflow_step = g.step
    from unnest(v_ids, v_steps) as g (id, step)
    where t.tenant_id = p_tenant_id and t.id = g.id;
    return next v_run;
end
$$;

-- Tasks of these runs have ended: a run whose last one that was is finished, and the journal says so. The run's row is
-- locked, so that of two transactions with the last two tasks the second one sees the first one's.
create or replace function finish_workflow_runs(p_tenant_id uuid, p_ids uuid []) returns void language plpgsql as $$
declare
    v_run workflow_runs;
    v_failed bigint;
    v_tasks bigint;
begin
    for v_run in
        select r.* from workflow_runs as r
        where r.tenant_id = p_tenant_id and r.id = any (p_ids) and r.finished_at is null
        order by r.id
        for update
    loop
        if not exists (
            select from agent_tasks as t
            where t.tenant_id = p_tenant_id and t.workflow_run_id = v_run.id
                and t.status::text in ('pending', 'in_progress')
        ) then
            select count(*), count(*) filter (where t.status::text = 'failed') into v_tasks, v_failed
            from agent_tasks as t
            where t.tenant_id = p_tenant_id and t.workflow_run_id = v_run.id;
            update workflow_runs as r set finished_at = zora_now() where r.tenant_id = p_tenant_id and r.id = v_run.id;
            insert into journal_entries (
                tenant_id, category, event_type, title, body, details, author, related_entity_ids, created_at
            )
            values (
                p_tenant_id, 'autonomy', 'workflow_run_finished', 'Workflow finished: ' || v_run.name,
                case v_failed when 0 then format('all %s tasks completed', v_tasks)
                    else format('%s of %s tasks failed', v_failed, v_tasks) end,
                jsonb_build_object('workflow', v_run.workflow, 'workflow_run_id', v_run.id,
                    'status', case v_failed when 0 then 'completed' else 'failed' end,
                    'tasks', v_tasks, 'failed', v_failed),
                'zora', array[v_run.id], zora_now()
            );
        end if;
    end loop;
end
$$;

-- Runs, newest first, each with its status, which is that of its tasks: running, waiting (nothing runs, and a person is
-- asked), completed, or failed; and how many tasks it has, and of them have ended.
create or replace function list_workflow_runs(
    p_tenant_id uuid, p_workflow text default null, p_id uuid default null, p_limit integer default 50,
    p_offset integer default 0
) returns table (
    id uuid, workflow text, name text, status text, context jsonb, created_by uuid, created_at timestamptz,
    finished_at timestamptz, tasks integer, ended integer, failed integer, definition jsonb
) language sql stable as $$
    select r.id, r.workflow, r.name,
        case
            when c.running + c.ready > 0 then 'running'
            when c.pending > 0 and c.asked > 0 then 'waiting'
            when c.pending > 0 then 'running'
            when c.failed > 0 then 'failed'
            else 'completed'
        end,
        r.context, r.created_by, r.created_at, r.finished_at, c.tasks::integer, (c.tasks - c.pending - c.running)::integer,
        c.failed::integer, r.definition
    from (
        select r.* from workflow_runs as r
        where r.tenant_id = p_tenant_id and (p_workflow is null or r.workflow = p_workflow)
            and (p_id is null or r.id = p_id)
        order by r.id desc
        limit p_limit offset p_offset
    ) as r
    cross join lateral (
        select count(*) as tasks, count(*) filter (where t.status = 'pending') as pending,
            count(*) filter (where t.status = 'pending' and t.waiting_for is null) as ready,
            count(*) filter (where t.waiting_for = 'approval') as asked,
            count(*) filter (where t.status = 'in_progress') as running,
            count(*) filter (where t.status = 'failed') as failed
        from agent_tasks as t
        where t.tenant_id = p_tenant_id and t.workflow_run_id = r.id
    ) as c
    order by r.id desc
$$;

-- How many runs there are.
create or replace function count_workflow_runs(
    p_tenant_id uuid, p_workflow text default null
) returns bigint language sql stable as $$
    select count(*) from workflow_runs as r
    where r.tenant_id = p_tenant_id and (p_workflow is null or r.workflow = p_workflow)
$$;

-- One run by its id or the end of it, or PT404; PT409 when several fit.
create or replace function find_workflow_run(p_tenant_id uuid, p_id text) returns uuid language plpgsql stable as $$
declare
    v_ids uuid[] := array(
        select r.id from workflow_runs as r
        where r.tenant_id = p_tenant_id and right(r.id::text, length(p_id)) = lower(p_id)
        limit 2
    );
begin
    if cardinality(v_ids) = 0 or length(p_id) < 4 then
        raise exception 'no workflow run %', p_id using errcode = 'PT404';
    elsif cardinality(v_ids) > 1 then
        raise exception 'several workflow runs have an id that ends in %: give more characters', p_id using errcode = 'PT409';
    end if;
    return v_ids[1];
end
$$;

-- The tasks of a run, in their order, each with the steps that it waits for.
create or replace function list_workflow_run_tasks(
    p_tenant_id uuid, p_id uuid
) returns table (
    step text, id uuid, agent_id text, task_type text, title text, status text, waiting_for text, failure_kind text,
    result_summary text, error_message text, started_at timestamptz, completed_at timestamptz, depends_on text []
) language sql stable as $$
    select t.workflow_step, t.id, t.agent_id::text, t.task_type::text, t.title::text, t.status::text, t.waiting_for,
        t.failure_kind, t.result_summary, t.error_message, t.started_at, t.completed_at,
        array(
            select d.name from agent_task_dependencies as d
            where d.tenant_id = p_tenant_id and d.task_id = t.id
            order by d.depends_on
        )
    from agent_tasks as t
    where t.tenant_id = p_tenant_id and t.workflow_run_id = p_id
    order by t.id
$$;

-- Cancel what has not ended of a run: what waits first, so that nothing is released meanwhile; running tasks are asked to
-- stop. PT409 when all has ended.
create or replace function cancel_workflow_run(
    p_tenant_id uuid, p_id uuid, p_reason text default null, p_user_id uuid default null
) returns integer language plpgsql as $$
declare
    v_id uuid;
    v_cancelled integer := 0;
begin
    for v_id in
        select t.id from agent_tasks as t
        where t.tenant_id = p_tenant_id and t.workflow_run_id = p_id and t.status::text in ('pending', 'in_progress')
        order by t.id desc
        for update
    loop
        -- It may have failed with one that it depends on, a moment ago.
        if (select t.status::text in ('pending', 'in_progress') from agent_tasks as t
            where t.tenant_id = p_tenant_id and t.id = v_id) then
            perform from cancel_agent_task(p_tenant_id, v_id, p_reason, p_user_id);
            v_cancelled := v_cancelled + 1;
        end if;
    end loop;
    if v_cancelled = 0 then
        raise exception 'every task of run % has ended', p_id using errcode = 'PT409';
    end if;
    return v_cancelled;
end
$$;

-- Put back into the queue what failed in a run, and what hung on it: what failed with it, or was skipped because of it.
-- What was run and completed stays. PT409 when nothing failed that may run again: what a person rejected does not.
create or replace function retry_workflow_run(
    p_tenant_id uuid, p_id uuid, p_user_id uuid default null
) returns integer language plpgsql as $$
declare
    v_id uuid;
    v_status text;
    v_retried integer := 0;
begin
    update workflow_runs as r set finished_at = null where r.tenant_id = p_tenant_id and r.id = p_id;
    for v_id, v_status in
        select t.id, t.status::text from agent_tasks as t
        where t.tenant_id = p_tenant_id and t.workflow_run_id = p_id and (
            t.status::text = 'failed' and t.failure_kind <> 'rejected'
            or t.status::text = 'completed' and t.started_at is null  -- skipped: it never ran
        )
        order by t.id  -- earlier ones first: those that wait for them then wait
        for update
    loop
        if v_status = 'failed' then
            perform from retry_agent_task(p_tenant_id, v_id, p_user_id);
            v_retried := v_retried + 1;
        elsif count_dependencies(p_tenant_id, v_id) > 0 then
            update agent_tasks as t
            set status = 'pending', waiting_for = 'dependencies', result_summary = null, completed_at = null,
                dependencies_left = count_dependencies(p_tenant_id, v_id), updated_at = zora_now()
            where t.tenant_id = p_tenant_id and t.id = v_id;
        end if;
    end loop;
    if v_retried = 0 then
        raise exception 'nothing failed in run % that may run again', p_id using errcode = 'PT409';
    end if;
    return v_retried;
end
$$;
