-- One sentence that says why a task is not running, or what became of it.
create or replace function explain_agent_task(p_tenant_id uuid, p_id uuid) returns text language plpgsql stable as $$
declare
    t agent_tasks;
    v_ahead bigint;
    v_running bigint;
    v_last timestamptz;
    v_pause agent_pauses;
    v_workers bigint;
    v_capable bigint;
    v_known boolean;
    v_knowing bigint;
begin
    select * into t from agent_tasks where tenant_id = p_tenant_id and id = p_id;
    if not found then
        raise exception 'no task %', p_id using errcode = 'PT404';
    end if;

    if t.status = 'completed' then
        return format('Completed %s ago.', zora_duration(zora_now() - t.completed_at));
    elsif t.status = 'failed' then
        return format('Failed (%s) %s ago after %s of %s attempts: %s', t.failure_kind,
            zora_duration(zora_now() - t.completed_at), t.attempt, t.max_attempts, t.error_message);
    elsif t.status = 'in_progress' and t.lease_expires_at < zora_now() then
        return format('Worker %s has not been heard of since its lease expired %s ago; the next running worker takes '
            'the task back.', t.worker_id, zora_duration(zora_now() - t.lease_expires_at));
    elsif t.status = 'in_progress' then
        return format('Running for %s on worker %s%s; its lease holds for another %s.',
            zora_duration(zora_now() - t.started_at), t.worker_id,
            case when t.cancel_requested_at is not null then ', asked to stop' else '' end,
            zora_duration(t.lease_expires_at - zora_now()));
    elsif t.deadline_at <= zora_now() then
        return format('Its deadline passed %s ago; the next running worker lets it fail.',
            zora_duration(zora_now() - t.deadline_at));
    elsif t.waiting_for in ('run_at', 'retry') and t.run_at <= zora_now() then
        return format('Due since %s; the next running worker makes it claimable.',
            zora_duration(zora_now() - t.run_at));
    elsif t.waiting_for = 'run_at' then
        return format('Waits for its time: to run in %s (%s).', zora_duration(t.run_at - zora_now()), t.run_at);
    elsif t.waiting_for = 'retry' then
        return format('Attempt %s of %s failed (%s); the next one is due in %s.', t.attempt, t.max_attempts,
            t.error_message, zora_duration(t.run_at - zora_now()));
    elsif t.waiting_for = 'approval' then
        return (
            select format('Waits for a person to let it run: suggestion %s%s.', right(max(s.id::text), 8),
                ', asked ' || zora_duration(zora_now() - max(s.created_at)) || ' ago')
            from agent_suggestions as s
            where s.tenant_id = t.tenant_id and s.task_id = t.id and s.suggestion_type = 'run_task'
                and s.status = 'proposed'
        );
    elsif t.waiting_for = 'dependencies' then
        return (
            select format('Waits for %s of the %s tasks that it depends on, first for %s %s (%s, task %s).',
                t.dependencies_left,
                (select count(*) from agent_task_dependencies as d where d.task_id = t.id and d.round = 0),
                o.agent_id, o.task_type, o.status, right(o.id::text, 8))
            from agent_task_dependencies as d
            inner join agent_tasks as o on o.tenant_id = t.tenant_id and o.id = d.depends_on
            where d.tenant_id = t.tenant_id and d.task_id = t.id and d.round = 0
                and o.status in ('pending', 'in_progress')
            order by o.id
            limit 1
        );
    elsif t.waiting_for = 'children' then
        return (
            select format('Waits for %s of the %s tasks to which it delegated, first for %s %s (%s, task %s).',
                t.children_left,
                (select count(*) from agent_task_dependencies as d where d.task_id = t.id and d.round = t.round),
                c.agent_id, c.task_type, c.status, right(c.id::text, 8))
            from agent_task_dependencies as d
            inner join agent_tasks as c on c.tenant_id = t.tenant_id and c.id = d.depends_on
            where d.tenant_id = t.tenant_id and d.task_id = t.id and d.round = t.round
                and c.status in ('pending', 'in_progress')
            order by c.status desc, c.id
            limit 1
        );
    elsif t.waiting_for is not null then
        return format('Waits for %s.', t.waiting_for);
    end if;

    select p.* into v_pause
    from agent_pauses as p
    where p.tenant_id = t.tenant_id and p.agent_id in ('*', t.agent_id)
    order by p.agent_id
    limit 1;
    if found then
        return format('%s paused since %s%s; `zora resume%s` lifts the pause.',
            case v_pause.agent_id when '*' then 'Everything is' else t.agent_id || ' is' end,
            zora_duration(zora_now() - v_pause.created_at), coalesce(' (' || v_pause.reason || ')', ''),
            case v_pause.agent_id when '*' then '' else ' ' || t.agent_id end);
    end if;

    select count(*) filter (where w.expires_at > zora_now()),
        count(*) filter (where w.expires_at > zora_now() and k.claims),
        count(*) filter (where w.expires_at > zora_now() and k.knows), coalesce(bool_or(k.knows), false)
    into v_workers, v_capable, v_knowing, v_known
    from workers as w
    cross join lateral (
        select t.agent_id || ' ' || t.task_type = any (w.task_types) as claims,
            t.agent_id || ' ' || t.task_type = any (w.known_types) as knows
    ) as k
    where w.tenant_id = t.tenant_id;
    if v_capable = 0 and v_knowing > 0 then
        return format('Ready, but every running worker that knows this type, %s %s, is limited to others (--agents, '
            '--types): start one that claims it.', t.agent_id, t.task_type);
    elsif v_workers > 0 and v_capable = 0 then
        return format('Ready, but no running worker knows this type, %s %s (%s): start a worker whose agents have it.',
            t.agent_id, t.task_type,
            case v_workers when 1 then '1 worker is running' else v_workers || ' workers are running' end);
    elsif t.lost_leases > 0 then
        return format('Its worker was lost %s, so that it runs alone: a worker takes it when it has nothing else in hand.',
            case t.lost_leases when 1 then 'once' else t.lost_leases || ' times' end);
    end if;

    select count(*) into v_ahead
    from agent_tasks as o
    where o.tenant_id = t.tenant_id and o.status = 'pending' and o.waiting_for is null
        and (-o.priority, o.created_at, o.id) < (-t.priority, t.created_at, t.id);
    select count(*), max(o.started_at) into v_running, v_last
    from agent_tasks as o
    where o.tenant_id = t.tenant_id and o.status = 'in_progress' and o.lease_expires_at >= zora_now();

    return format('Ready for %s, %s; %s', zora_duration(zora_now() - coalesce(t.updated_at, t.created_at)),
        case v_ahead when 0 then 'first in the queue' when 1 then 'behind 1 other task'
            else format('behind %s other tasks', v_ahead) end,
        case when v_running > 0 then format('%s running now, the last one started %s ago.',
                case v_running when 1 then '1 task is' else v_running || ' tasks are' end,
                zora_duration(zora_now() - v_last))
            when v_capable > 0 then case v_capable when 1 then '1 worker that knows its type is running.'
                else v_capable || ' workers that know its type are running.' end
            when v_known then 'no worker is running: start one with run-once or run-loop.'
            else format('no worker is running: start one with run-once or run-loop, with an agent that has this type, '
                '%s %s.', t.agent_id, t.task_type) end);
end
$$;

-- An interval as a person says it, in its largest unit: 40 s, 12 min, 3 h, 2 days.
create or replace function zora_duration(p_interval interval) returns text language sql immutable as $$
    select case
        when s < 100 then round(s::numeric, case when s < 10 then 1 else 0 end) || ' s'
        when s < 6000 then round(s / 60) || ' min'
        when s < 172800 then round(s / 3600) || ' h'
        else round(s / 86400) || ' days'
    end
    from (select extract(epoch from p_interval)::double precision) as e (s)
$$;
