-- What a page that somebody has open asks of a tenant's tasks, once a second, as one JSON object: what runs, how many
-- tasks are ready, wait and failed and how many suggestions wait for people (each counted up to 1,000), and texts to be
-- compared with what they were before: needs_version changes with the set of suggestions that wait, and watched holds,
-- for each of up to 100 tasks, one that changes with the task, its suggestions and what it delegated.
--
-- xmin, the transaction that wrote a row as it is, changes with whatever changes the row. How many tasks wait is the
-- rest of those that are pending; no index knows it, so that with 1,000 ready ones or more it is counted among the newest
-- 200 of each kind. If a kind has more, waiting_is_exact is false, and there are at least so many.
create or replace function agent_board(
    p_tenant_id uuid, p_watched uuid [] default '{}'
) returns jsonb language plpgsql stable set enable_seqscan = off as $$
declare
    v_watched constant uuid[] := p_watched[:100];
    v_running jsonb;
    v_running_total integer;
    v_ready integer;
    v_pending integer;
    v_waiting integer;
    v_waiting_is_exact boolean := true;
    v_failed integer;
    v_needs integer;
    v_needs_version text;
    v_versions jsonb;
begin
    with running as (
        select t.id, t.agent_id, t.task_type, t.title, t.progress, t.progress_message, t.started_at, t.attempt,
            t.worker_id, row_number() over (order by t.started_at desc, t.id desc) as place
        from (
            select a.*
            from agent_tasks as a
            where a.tenant_id = p_tenant_id and a.state = 'i'
            limit 1000
        ) as t
    )
    select count(*), coalesce(jsonb_agg(
        jsonb_build_object(
            'id', r.id, 'agent_id', r.agent_id, 'task_type', r.task_type, 'title', r.title,
            'progress', r.progress::numeric::double precision, 'progress_message', r.progress_message,
            'started_at', r.started_at, 'attempt', r.attempt, 'worker_id', r.worker_id
        ) order by r.place
    ) filter (where r.place <= 60), '[]')
    into v_running_total, v_running
    from running as r;

    select count(*) into v_ready
    from (
        select
        from agent_tasks as t
        where t.tenant_id = p_tenant_id and t.status = 'pending' and t.waiting_for is null
        limit 1000
    ) as ready;

    if v_ready < 1000 then
        select count(*) into v_pending
        from (select from agent_tasks as t where t.tenant_id = p_tenant_id and t.state = 'p' limit 2000) as pending;
        v_waiting := least(v_pending - v_ready, 1000);
    else
        select least(sum(newest.waiting), 1000), coalesce(bool_and(newest.tasks < 200), true)
        into v_waiting, v_waiting_is_exact
        from agent_task_kinds(p_tenant_id, null, 'pending') as k
        cross join lateral (
            select count(*) as tasks, count(n.waiting_for) as waiting
            from (
                select t.waiting_for
                from agent_tasks as t
                where t.tenant_id = p_tenant_id and t.state = k.state and t.agent_id = k.agent_id
                    and t.task_type = k.task_type
                order by t.id desc
                limit 200
            ) as n
        ) as newest;
    end if;

    select count(*) into v_failed
    from (select from agent_tasks as t where t.tenant_id = p_tenant_id and t.state = 'f' limit 1000) as failed;

    select count(*), text_digest(concat(string_agg(o.id::text, ',' order by o.id), (
        select n.id
        from agent_suggestions as n
        where n.tenant_id = p_tenant_id and n.status = 'proposed'
        order by n.id desc
        limit 1
    )))
    into v_needs, v_needs_version
    from (
        select s.id
        from agent_suggestions as s
        where s.tenant_id = p_tenant_id and s.status = 'proposed'
        order by s.id
        limit 1000
    ) as o;

    select jsonb_object_agg(t.id, concat_ws('-', t.xmin, s.version, c.version)) into v_versions
    from agent_tasks as t
    cross join lateral (
        select text_digest(string_agg(o.written_by, ',' order by o.id)) as version
        from (
            select g.xmin::text as written_by, g.id
            from agent_suggestions as g
            where g.tenant_id = p_tenant_id and g.task_id = t.id
            limit 500
        ) as o
    ) as s
    cross join lateral (
        select text_digest(string_agg(o.written_by, ',' order by o.id)) as version
        from (
            (
                select a.xmin::text as written_by, a.id
                from agent_tasks as a
                where a.tenant_id = p_tenant_id and a.parent_id = t.id
                limit 500
            )
            union
            (
                select a.xmin::text, a.id
                from agent_tasks as a
                where a.tenant_id = p_tenant_id and a.root_id = t.id
                limit 500
            )
        ) as o
    ) as c
    where t.tenant_id = p_tenant_id and t.id = any (v_watched);

    return jsonb_build_object(
        'running', v_running, 'running_total', v_running_total, 'ready', v_ready, 'waiting', v_waiting,
        'waiting_is_exact', v_waiting_is_exact,
        'failed', v_failed, 'needs', v_needs, 'needs_version', v_needs_version,
        'watched', coalesce(v_versions, '{}')
    );
end
$$;
