-- Tasks newest first, for people who look for one.

-- The least id that what was created at a moment or later can have, and the least that what was created before it
-- cannot: ids are made after created_at, the time at which their transaction began, which is taken to last no hour.
-- Where a test owns the clock, ids do not follow it, and nothing is excluded.
create or replace function least_id_since(p_since timestamptz) returns uuid language sql stable as $$
    select case
        when p_since is null or zora_now() <> now() then '00000000-0000-0000-0000-000000000000'::uuid
        else least_uuidv7(p_since - interval '1 minute')
    end
$$;

create or replace function least_id_after(p_until timestamptz) returns uuid language sql stable as $$
    select case
        when p_until is null or zora_now() <> now() then 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid
        else least_uuidv7(p_until + interval '1 hour')
    end
$$;

-- A page of a tenant's tasks, newest first, before the task whose id is given; every filter may be null. p_text is a
-- part of the title in any case, or the end of the id (four characters or more); a whole id is found however old it is.
-- Only what is pending waits for something.
--
-- The kinds are merged by id, which reads only as many rows as the page has. What no index knows (text,
-- waiting_for, the exact times) is looked for in the newest 20,000 tasks of the window of time and the kinds that are
-- asked for: a page that is not full may have more behind it when there are more than that.
--
-- Without bitmap scans, too: they read a whole kind to sort it, which seems cheap while the statistics are old. And with
-- a condition that no index is searched by (… is true): a task has few suggestions, while the open ones may be many.
create or replace function find_agent_tasks(
    p_tenant_id uuid, p_agent_id text default null, p_status text default null, p_task_type text default null,
    p_waiting_for text default null, p_text text default null, p_since timestamptz default null,
    p_until timestamptz default null, p_limit integer default 50, p_before_id uuid default null
) returns table (
    id uuid, agent_id text, task_type text, status text, waiting_for text, priority integer, title text,
    attempt integer, max_attempts integer, progress double precision, progress_message text, result_summary text,
    error_message text, failure_kind text, parent_id uuid, workflow_run_id uuid, created_at timestamptz,
    started_at timestamptz, completed_at timestamptz, run_at timestamptz, updated_at timestamptz, suggestions integer
) language plpgsql stable set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    v_looks constant integer := 20000;
    v_from constant uuid := least_id_since(p_since);
    v_before constant uuid := least(p_before_id, least_id_after(p_until));
    v_id_end constant text := case when p_text ~* '^[0-9a-f-]{4,36}$' then lower(p_text) end;
    v_only uuid;
    v_kinds text;
    v_ids uuid[];
begin
    if p_text ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        select t.id into v_only from agent_tasks as t where t.tenant_id = p_tenant_id and t.id = p_text::uuid;
    end if;
    select string_agg(
        format(
            '(select t.id, t.title, t.waiting_for, t.created_at from agent_tasks as t where t.tenant_id = $1 '
            'and t.state = %L and t.agent_id = %L and t.task_type = %L and t.id >= $2 and t.id < $3 '
            'and ($11 is null or t.id = $11) order by t.id desc limit $4)',
            k.state, k.agent_id, k.task_type
        ),
        ' union all '
    )
    into v_kinds
    from agent_task_kinds(p_tenant_id, p_agent_id, p_status, p_task_type) as k
    where p_waiting_for is null or k.state = 'p';
    if v_kinds is null then
        return;
    end if;
    execute 'select array(select e.id from (select k.* from (' || v_kinds || ') as k order by k.id desc limit $4) as e '
        'where ($5 is null or e.waiting_for = $5) and ($6 is null or e.created_at >= $6) '
        'and ($7 is null or e.created_at < $7) and ($8 is null or strpos(lower(e.title), lower($8)) > 0 '
        'or right(e.id::text, length($9)) = $9) order by e.id desc limit $10)'
    into v_ids
    using p_tenant_id, v_from, v_before, v_looks, p_waiting_for, p_since, p_until, p_text, v_id_end, p_limit, v_only;

    return query
    select t.id, t.agent_id::text, t.task_type::text, t.status::text, t.waiting_for, t.priority, t.title::text,
        t.attempt, t.max_attempts, t.progress::numeric::double precision, t.progress_message, t.result_summary,
        t.error_message, t.failure_kind, t.parent_id, t.workflow_run_id, t.created_at, t.started_at, t.completed_at,
        t.run_at, t.updated_at, (
            select count(*)::integer
            from agent_suggestions as s
            where s.tenant_id = p_tenant_id and s.task_id = t.id and (s.status = 'proposed') is true
        )
    from agent_tasks as t
    where t.tenant_id = p_tenant_id and t.id = any (v_ids)
    order by t.id desc;
end
$$;
