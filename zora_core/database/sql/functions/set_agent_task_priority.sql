-- Give a pending task another place in the queue: a higher priority comes first. What it has delegated keeps its own. A
-- task that runs or has ended is refused.
create or replace function set_agent_task_priority(
    p_tenant_id uuid, p_id uuid, p_priority integer, p_user_id uuid default null
) returns setof agent_tasks language plpgsql as $$
declare
    v_task agent_tasks;
    v_before integer;
begin
    if p_priority is null or p_priority not between -1000000 and 1000000 then
        raise exception 'a priority is between -1000000 and 1000000, not %', coalesce(p_priority::text, 'null')
            using errcode = 'PT400';
    end if;
    select * into v_task from agent_tasks as t where t.tenant_id = p_tenant_id and t.id = p_id for update;
    if not found then
        raise exception 'no task %', p_id using errcode = 'PT404';
    elsif v_task.status <> 'pending' then
        raise exception 'task % is %: only a pending task can be given another priority', p_id, v_task.status
            using errcode = 'PT409';
    elsif v_task.priority = p_priority then
        return next v_task;
        return;
    end if;

    v_before := v_task.priority;
    update agent_tasks as t
    set priority = p_priority, updated_at = zora_now()
    where t.tenant_id = p_tenant_id and t.id = p_id
    returning * into v_task;

    insert into journal_entries (
        tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
    ) values (
        v_task.tenant_id, 'agent_action', 'agent_task_prioritized',
        format('%s task: %s (%s)', v_task.agent_id, v_task.task_type, v_task.status),
        format('priority %s instead of %s', v_task.priority, v_before),
        jsonb_build_object('task_id', v_task.id, 'agent_id', v_task.agent_id, 'task_type', v_task.task_type,
            'status', v_task.status, 'priority', v_task.priority, 'previous_priority', v_before,
            'attempt', v_task.attempt, 'by_user_id', p_user_id),
        user_name(p_tenant_id, p_user_id), v_task.id, array[v_task.id], zora_now()
    );
    perform announce_agent_tasks(v_task.tenant_id);
    return next v_task;
end
$$;
