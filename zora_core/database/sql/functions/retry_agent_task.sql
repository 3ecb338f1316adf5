-- Put a failed task back into the queue with all its attempts, to be done anew: without its saved steps, and without the
-- children that it had. A child can be retried while its parent waits for it. A task that a person rejected stays
-- rejected; one that needs approval and was cancelled before it had it waits for it again.
create or replace function retry_agent_task(
    p_tenant_id uuid, p_id uuid, p_user_id uuid default null
) returns setof agent_tasks language plpgsql as $$
declare
    v_task agent_tasks;
    v_asks boolean;
    v_left constant integer := count_dependencies(p_tenant_id, p_id);
begin
    select * into v_task from agent_tasks as t where t.tenant_id = p_tenant_id and t.id = p_id for update;
    if not found then
        raise exception 'no task %', p_id using errcode = 'PT404';
    elsif v_task.status <> 'failed' then
        raise exception 'task % is %: only a failed task can be retried', p_id, v_task.status using errcode = 'PT409';
    elsif v_task.failure_kind = 'rejected' then
        raise exception 'task % was rejected by a person: create a new task instead', p_id using errcode = 'PT409';
    elsif v_task.parent_id is not null and not exists (
        select
        from agent_tasks as p
        inner join agent_task_dependencies as d on d.task_id = p.id and d.round = p.round
        where p.tenant_id = p_tenant_id and p.id = v_task.parent_id and d.depends_on = p_id
            and p.status::text = 'pending' and p.children_left > 0
    ) then
        raise exception 'task % was delegated by task %, which does not wait for it any more: retry that one, or create a '
            'new task', p_id, v_task.parent_id using errcode = 'PT409';
    end if;

    v_asks := not may_run(p_tenant_id, p_id) and (
        v_task.ask_first and v_left = 0
        or exists (select from agent_task_policy(p_tenant_id, v_task.task_type) as o where not o.auto_execute)
    );
    update agent_tasks as t
    set status = 'pending', waiting_for = case when v_asks then 'approval' else next_wait(v_left, null) end,
        dependencies_left = v_left, run_at = null, attempt = 0, lost_leases = 0, failure_kind = null,
        error_message = null, completed_at = null, started_at = null, lease_token = null, lease_expires_at = null,
        worker_id = null, cancel_requested_at = null, progress = null, progress_message = null,
        round = t.round + (t.round > 0)::integer, children_left = 0, resume_with = null,
        deadline_at = case when t.deadline_at > zora_now() then t.deadline_at end,
        updated_at = zora_now()
    where t.id = p_id
    returning * into v_task;

    if v_task.round > 0 then
        perform cancel_descendants(p_tenant_id, array[p_id], 'cancelled, because its parent begins anew');
    end if;
    delete from agent_task_steps as s where s.tenant_id = p_tenant_id and s.task_id = p_id;

    -- Those that were to go on although it failed have counted it already, and wait for it again if they still wait.
    update agent_tasks as t
    set dependencies_left = t.dependencies_left + (d.round = 0)::integer,
        children_left = t.children_left + (d.round > 0)::integer,
        waiting_for = coalesce(t.waiting_for, 'dependencies')
    from agent_task_dependencies as d
    where d.tenant_id = p_tenant_id and d.depends_on = p_id and d.on_failure = 'continue' and t.id = d.task_id
        and t.tenant_id = p_tenant_id and t.status::text = 'pending' and d.round in (0, t.round)
        and coalesce(t.waiting_for, 'dependencies') in (
            'approval', case d.round when 0 then 'dependencies' else 'children' end
        );

    insert into journal_entries (
        tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
    ) values (
        v_task.tenant_id, 'agent_action', 'agent_task_retried',
        format('%s task: %s (pending)', v_task.agent_id, v_task.task_type), 'put back into the queue on request',
        jsonb_build_object('task_id', v_task.id, 'agent_id', v_task.agent_id, 'task_type', v_task.task_type,
            'status', 'pending', 'priority', v_task.priority, 'attempt', 0, 'by_user_id', p_user_id),
        user_name(p_tenant_id, p_user_id), v_task.id, array[v_task.id], zora_now()
    );
    if v_asks then
        perform ask_to_run(v_task.tenant_id, v_task.id, v_task.agent_id, v_task.task_type, v_task.title, v_task.payload);
    end if;
    perform pg_notify('agent_tasks', v_task.tenant_id::text);
    perform announce_agent_tasks(v_task.tenant_id);
    return next v_task;
end
$$;
