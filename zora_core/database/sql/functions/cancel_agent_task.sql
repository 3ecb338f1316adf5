-- Cancel a task. A pending task fails at once, as cancelled; a running one is asked to stop, which its worker learns
-- with its next heartbeat (and which the rescue honours when the worker is gone). What a waiting task has delegated is
-- cancelled with it. A finished task is refused.
create or replace function cancel_agent_task(
    p_tenant_id uuid, p_id uuid, p_reason text default null, p_user_id uuid default null
) returns setof agent_tasks language plpgsql as $$
declare
    v_task agent_tasks;
begin
    select * into v_task from agent_tasks as t where t.tenant_id = p_tenant_id and t.id = p_id for update;
    if not found then
        raise exception 'no task %', p_id using errcode = 'PT404';
    elsif v_task.status in ('completed', 'failed') then
        raise exception 'task % is %: only a pending or running task can be cancelled', p_id, v_task.status
            using errcode = 'PT409';
    end if;

    update agent_tasks as t
    set status = case t.status when 'pending' then 'failed' else t.status end,
        waiting_for = null,
        failure_kind = case t.status when 'pending' then 'cancelled' end,
        error_message = case t.status
            when 'pending' then 'cancelled' || coalesce(': ' || p_reason, ' on request') else t.error_message
        end,
        completed_at = case t.status when 'pending' then zora_now() end,
        cancel_requested_at = coalesce(t.cancel_requested_at, zora_now()),
        updated_at = zora_now()
    where t.id = p_id
    returning * into v_task;

    -- Whether it may run is no longer a question.
    update agent_suggestions as s
    set status = 'superseded'
    where s.tenant_id = p_tenant_id and s.task_id = p_id and s.suggestion_type = 'run_task' and s.status = 'proposed';

    insert into journal_entries (
        tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
    ) values (
        v_task.tenant_id, 'agent_action', 'agent_task_cancelled',
        format('%s task: %s (%s)', v_task.agent_id, v_task.task_type, v_task.status),
        coalesce(p_reason, 'cancelled on request'),
        jsonb_build_object('task_id', v_task.id, 'agent_id', v_task.agent_id, 'task_type', v_task.task_type,
            'status', v_task.status, 'priority', v_task.priority, 'attempt', v_task.attempt, 'by_user_id', p_user_id),
        user_name(p_tenant_id, p_user_id), v_task.id, array[v_task.id], zora_now()
    );
    if v_task.status = 'failed' and v_task.has_dependents then
        perform release_dependents(p_tenant_id, array[p_id], array[false]);
    end if;
    if v_task.status = 'failed' and v_task.children_left > 0 then
        perform cancel_descendants(
            p_tenant_id, array[p_id], format('cancelled with task %s%s', p_id, coalesce(': ' || p_reason, '')),
            user_name(p_tenant_id, p_user_id)
        );
    end if;
    if v_task.status = 'failed' and v_task.workflow_run_id is not null then
        perform finish_workflow_runs(p_tenant_id, array[v_task.workflow_run_id]);
    end if;
    perform announce_agent_tasks(v_task.tenant_id);
    return next v_task;
end
$$;
