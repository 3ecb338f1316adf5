-- The workers of a tenant: which types each claims and knows, and until when it counts as running.

-- Say that a worker runs, and that it will say so again within p_next_seconds; 0 when it stops. It counts as running for
-- three times that, and for a minute at least; returns until when. p_known_types are the types that it has installed, null
-- when it claims all of them. Rows of workers that have been gone for p_keep_seconds are deleted.
create or replace function beat_worker(
    p_tenant_id uuid, p_id text, p_host text, p_version text, p_task_types text [], p_slots integer,
    p_next_seconds double precision default 5, p_keep_seconds double precision default 86400,
    p_known_types text [] default null
) returns timestamptz language sql as $$
    with gone as (
        delete from workers as w
        where w.tenant_id = p_tenant_id and w.id <> p_id
            and w.expires_at < zora_now() - make_interval(secs => p_keep_seconds)
    )
    insert into workers (
        tenant_id, id, host, version, task_types, known_types, slots, started_at, last_beat_at, expires_at
    )
    select p_tenant_id, p_id, p_host, p_version, p_task_types, coalesce(p_known_types, p_task_types), p_slots, zora_now(),
        zora_now(),
        zora_now() + make_interval(
            secs => case when p_next_seconds > 0 then greatest(60, 3 * p_next_seconds) else 0 end
        )
    on conflict (tenant_id, id) do update
    set host = excluded.host, version = excluded.version, task_types = excluded.task_types,
        known_types = excluded.known_types, slots = excluded.slots,
        last_beat_at = excluded.last_beat_at, expires_at = excluded.expires_at
    returning expires_at
$$;

-- Let up to p_limit ready tasks of a tenant fail whose type no worker has known for p_after_seconds. A worker asks for it,
-- which must have been there for that time itself: else the first one to start after a break would let fail what the next
-- one knows. Returns how many failed.
create or replace function fail_unknown_agent_tasks(
    p_tenant_id uuid, p_worker_id text, p_after_seconds double precision default 600, p_limit integer default 1000
) returns bigint language plpgsql as $$
declare
    v_since constant timestamptz := zora_now() - make_interval(secs => p_after_seconds);
    v_ids uuid[];
    v_errors text[];
begin
    if not exists (
        select from workers as w
        where w.tenant_id = p_tenant_id and w.id = p_worker_id and w.started_at <= v_since
    ) then
        return 0;
    end if;
    select array_agg(f.id), array_agg(format('unknown task type %L for %s: no worker that knows it has been running for '
            '%s (known: %s)', u.task_type, u.agent_id, zora_duration(make_interval(secs => p_after_seconds)), u.known))
    into v_ids, v_errors
    from (
        select k.agent_id, k.task_type, coalesce((
            select string_agg(distinct substr(x.name, length(k.agent_id) + 2), ', ')
            from workers as w
            cross join unnest(w.known_types) as x (name)
            where w.tenant_id = p_tenant_id and w.expires_at > v_since and starts_with(x.name, k.agent_id || ' ')
        ), 'none') as known
        from agent_task_kinds(p_tenant_id, p_status => 'pending') as k
        where not exists (
            select from workers as w
            where w.tenant_id = p_tenant_id and w.expires_at > v_since
                and k.agent_id || ' ' || k.task_type = any (w.known_types)
        )
    ) as u
    cross join lateral (
        select t.id
        from agent_tasks as t
        where t.tenant_id = p_tenant_id and t.state = 'p' and t.agent_id = u.agent_id and t.task_type = u.task_type
            and t.waiting_for is null and coalesce(t.updated_at, t.created_at) <= v_since
        limit p_limit
        for update skip locked
    ) as f;
    return fail_agent_tasks(p_tenant_id, v_ids, 'unknown_task_type', v_errors);
end
$$;

-- Fail pending tasks that no worker will run, each with its error, and with all consequences. Returns how many failed.
create or replace function fail_agent_tasks(
    p_tenant_id uuid, p_ids uuid [], p_failure_kind text, p_errors text []
) returns bigint language plpgsql as $$
declare
    v_failed record;
begin
    with failed as (
        update agent_tasks as t
        set status = 'failed', waiting_for = null, failure_kind = p_failure_kind, completed_at = zora_now(),
            updated_at = zora_now(), error_message = g.error
        from unnest(p_ids, p_errors) as g (id, error)
        where t.tenant_id = p_tenant_id and t.id = g.id and t.status::text = 'pending'
        returning t.*
    ), superseded as (
        update agent_suggestions as s
        set status = 'superseded'
        from failed as f
        where s.tenant_id = f.tenant_id and s.task_id = f.id and s.suggestion_type = 'run_task'
            and s.status = 'proposed'
    ), journalled as (
        insert into journal_entries (
            tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
        )
        select f.tenant_id, 'agent_action', 'agent_task_failed',
            f.agent_id || ' task: ' || f.task_type || ' (failed)', f.error_message,
            jsonb_build_object('task_id', f.id, 'agent_id', f.agent_id, 'task_type', f.task_type, 'status', 'failed',
                'priority', f.priority, 'attempt', f.attempt),
            lower(f.agent_id), f.id, array[f.id], zora_now()
        from failed as f
    )
    select array_agg(f.id) as ids, array_agg(f.id) filter (where f.children_left > 0) as parents,
        array_agg(distinct f.workflow_run_id) filter (where f.workflow_run_id is not null) as runs
    into v_failed
    from failed as f;

    if v_failed.ids is null then
        return 0;
    end if;
    perform release_dependents(p_tenant_id, v_failed.ids, array_fill(false, array[cardinality(v_failed.ids)]));
    perform cancel_descendants(p_tenant_id, v_failed.parents, 'cancelled, because its parent failed before it was resumed');
    perform finish_workflow_runs(p_tenant_id, v_failed.runs);
    perform announce_agent_tasks(p_tenant_id);
    return cardinality(v_failed.ids);
end
$$;
