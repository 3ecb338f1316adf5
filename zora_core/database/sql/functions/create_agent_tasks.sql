-- Create one or many tasks, in the given order, and journal each. p_tasks is a JSON array of objects with the keys of
-- v_known below; agent_id, task_type and title are required. A task whose idempotency_key this tenant has used before
-- is not created again: the earlier task is returned with created = false, whatever its state; a key that was used for
-- something else (another agent, type or payload) is an error, and nothing is created. Returns a row for each element of
-- p_tasks, in their order, without what only a run brings about.
--
-- p_created_by need not be one of our users: a token may name somebody whom another system knows. The journal keeps it.
--
-- plpgsql and two statements, because the second must see what another transaction committed while the first waited.
-- Ids are sorted before they are given out, because an older server's uuidv7() counts in milliseconds only.
create or replace function create_agent_tasks(
    p_tenant_id uuid, p_tasks jsonb, p_created_by uuid default null
) returns table (
    id uuid, tenant_id uuid, agent_id text, task_type text, status text, waiting_for text, priority integer, title text,
    description text, payload jsonb, attempt integer, max_attempts integer, timeout_seconds integer, run_at timestamptz,
    idempotency_key text, created_by_user_id uuid, created_at timestamptz, updated_at timestamptz, created boolean
) language plpgsql as $$
#variable_conflict use_column
declare
    v_known constant text[] := array[
        'agent_id', 'task_type', 'title', 'description', 'payload', 'priority', 'run_at', 'max_attempts',
        'timeout_seconds', 'idempotency_key'
    ];
    v_problem text;
    v_ids uuid[];
    v_created agent_tasks[];
    v_keyed boolean;
    v_user_id uuid;
begin
    if jsonb_typeof(p_tasks) is distinct from 'array' then
        raise exception 'p_tasks must be a JSON array of tasks, not %', coalesce(jsonb_typeof(p_tasks), 'null')
            using errcode = 'PT400';
    end if;

    select case
        when jsonb_typeof(e.task) <> 'object' then format('is %s, not an object', jsonb_typeof(e.task))
        when unknown.key is not null then format(
            'has an unknown field %L (known: %s)', unknown.key, array_to_string(v_known, ', '))
        when missing.key is not null then format('lacks %L', missing.key)
        when upper(e.task ->> 'agent_id') not in ('CONNOR', 'LUMINA', 'EIVOR', 'ORACLE', 'AEGIS', 'SAM') then format(
            'names an unknown agent %L (known: CONNOR, LUMINA, EIVOR, ORACLE, AEGIS, SAM)', e.task ->> 'agent_id')
        when length(e.task ->> 'title') > 500 then 'has a title of over 500 characters'
        when (e.task ->> 'run_at')::timestamptz not between '1970-01-01' and '9999-01-01'
            then 'has a run_at outside the years 1970 to 9998'
        when jsonb_typeof(coalesce(e.task -> 'payload', '{}')) <> 'object' then 'has a payload that is not an object'
    end || format(' (task %s of %s)', e.position, jsonb_array_length(p_tasks))
    into v_problem
    from jsonb_array_elements(p_tasks) with ordinality as e (task, position)
    left join lateral (
        select k.key from jsonb_object_keys(case jsonb_typeof(e.task) when 'object' then e.task else '{}' end) as k (key)
        where k.key <> all (v_known) limit 1
    ) as unknown on true
    left join lateral (
        select k.key from unnest(array['agent_id', 'task_type', 'title']) as k (key)
        where coalesce(trim(e.task ->> k.key), '') = '' limit 1
    ) as missing on true
    where jsonb_typeof(e.task) <> 'object'
        or unknown.key is not null
        or missing.key is not null
        or upper(e.task ->> 'agent_id') not in ('CONNOR', 'LUMINA', 'EIVOR', 'ORACLE', 'AEGIS', 'SAM')
        or length(e.task ->> 'title') > 500
        or (e.task ->> 'run_at')::timestamptz not between '1970-01-01' and '9999-01-01'
        or jsonb_typeof(coalesce(e.task -> 'payload', '{}')) <> 'object'
    order by e.position
    limit 1;
    if v_problem is not null then
        raise exception 'the task %', v_problem using errcode = 'PT400';
    end if;

    v_ids := array(select uuidv7() from generate_series(1, jsonb_array_length(p_tasks)) order by 1);
    select u.id into v_user_id from users as u where u.tenant_id = p_tenant_id and u.id = p_created_by;

    with given as (
        select t.*, v_ids[e.position] as id, e.position
        from jsonb_array_elements(p_tasks) with ordinality as e (task, position)
        cross join lateral jsonb_to_record(e.task) as t (
            agent_id text, task_type text, title text, description text, payload jsonb, priority integer,
            run_at timestamptz, max_attempts integer, timeout_seconds integer, idempotency_key text
        )
    ), inserted as (
        insert into agent_tasks as a (
            id, tenant_id, agent_id, task_type, title, description, payload, priority, run_at, waiting_for,
            max_attempts, timeout_seconds, idempotency_key, created_by_user_id, created_at
        )
        select g.id, p_tenant_id, upper(g.agent_id), g.task_type, g.title, g.description, coalesce(g.payload, '{}'),
            coalesce(g.priority, 0), g.run_at, case when g.run_at > zora_now() then 'run_at' end,
            coalesce(g.max_attempts, 3), g.timeout_seconds, g.idempotency_key, v_user_id, zora_now()
        from given as g
        order by g.position
        on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
        returning a as task
    ), journalled as (
        insert into journal_entries (
            tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
        )
        select (i.task).tenant_id, 'agent_action', 'agent_task_created',
            (i.task).agent_id || ' task: ' || (i.task).task_type || ' (pending)', (i.task).title,
            jsonb_build_object('task_id', (i.task).id, 'agent_id', (i.task).agent_id, 'task_type', (i.task).task_type,
                'status', 'pending', 'priority', (i.task).priority, 'attempt', 0, 'created_by_user_id', p_created_by),
            lower((i.task).agent_id), (i.task).id, array[(i.task).id], zora_now()
        from inserted as i
    )
    select array_agg(i.task) into v_created from inserted as i;

    v_keyed := p_tasks @? '$[*].idempotency_key';
    if v_keyed then
        select format('the idempotency key of task %s belongs to another task, %s (%s %s)', e.position, a.id, a.agent_id,
            a.task_type)
        into v_problem
        from jsonb_array_elements(p_tasks) with ordinality as e (task, position)
        inner join agent_tasks as a
            on a.tenant_id = p_tenant_id and a.idempotency_key = e.task ->> 'idempotency_key'
        where (a.agent_id, a.task_type, a.payload) is distinct from
            (upper(e.task ->> 'agent_id'), e.task ->> 'task_type', coalesce(e.task -> 'payload', '{}'))
        order by e.position
        limit 1;
        if v_problem is not null then
            raise exception '%', v_problem using errcode = 'unique_violation';
        end if;
    end if;

    -- What was created comes from what the insert returned: reading it back would cost more than the rest.
    return query
    select a.id, a.tenant_id, a.agent_id::text, a.task_type::text, a.status::text, a.waiting_for, a.priority,
        a.title::text, a.description, a.payload, a.attempt, a.max_attempts, a.timeout_seconds, a.run_at,
        a.idempotency_key, a.created_by_user_id, a.created_at, a.updated_at, a.created
    from (
        select c.*, c.id as place, true as created
        from unnest(v_created) as c
        union all
        select k.*, v_ids[e.position], false
        from jsonb_array_elements(p_tasks) with ordinality as e (task, position)
        inner join agent_tasks as k
            on k.tenant_id = p_tenant_id and k.idempotency_key = e.task ->> 'idempotency_key'
        where v_keyed and k.id <> v_ids[e.position]
    ) as a
    order by a.place;
end
$$;
