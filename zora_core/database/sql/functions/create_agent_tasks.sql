-- Create one or many tasks, in the given order, and journal each. p_tasks is a JSON array of objects with the keys of
-- v_known below; agent_id, task_type and title are required. A task whose idempotency_key this tenant has used before
-- is not created again: the earlier task is returned with created = false, whatever its state; a key that was used for
-- something else (another agent, type or payload) is an error, and nothing is created. Returns the created tasks in their
-- order, then the earlier ones, without what only a run brings about.
--
-- Tasks of a type that a policy lets run only after approval wait for it, and a person is asked.
--
-- p_created_by need not be one of our users: a token may name somebody whom another system knows. The journal keeps it.
--
-- Tasks to which p_parent_id delegates belong to its tree; they do not come after it in the queue, and inherit its deadline.
--
-- plpgsql and two statements, because the second must see what another transaction committed while the first waited.
-- Ids are sorted before they are given out, because an older server's uuidv7() counts in quarters of a microsecond only.
create or replace function create_agent_tasks(
    p_tenant_id uuid, p_tasks jsonb, p_created_by uuid default null, p_parent_id uuid default null
) returns table (
    id uuid, tenant_id uuid, agent_id text, task_type text, status text, waiting_for text, priority integer, title text,
    description text, payload jsonb, attempt integer, max_attempts integer, timeout_seconds integer, run_at timestamptz,
    idempotency_key text, created_by_user_id uuid, created_at timestamptz, updated_at timestamptz, created boolean
) language plpgsql as $$
#variable_conflict use_column
declare
    v_known constant text[] := array[
        'agent_id', 'task_type', 'title', 'description', 'payload', 'priority', 'run_at', 'max_attempts',
        'timeout_seconds', 'idempotency_key', 'deadline_at'
    ];
    v_agents constant text[] := array['CONNOR', 'LUMINA', 'EIVOR', 'ORACLE', 'AEGIS', 'SAM'];
    v_parent agent_tasks;
    v_problem text;
    v_ids uuid[];
    v_keys text[];
begin
    if jsonb_typeof(p_tasks) is distinct from 'array' then
        raise exception 'p_tasks must be a JSON array of tasks, not %', coalesce(jsonb_typeof(p_tasks), 'null')
            using errcode = 'PT400';
    end if;
    perform check_json_depth(p_tasks, 'a task', 2);

    select p.problem || format(' (task %s of %s)', p.position, jsonb_array_length(p_tasks))
    into v_problem
    from (
        select e.position,
            case
                when jsonb_typeof(e.task) <> 'object' then format('is %s, not an object', jsonb_typeof(e.task))
                when e.task - v_known <> '{}' then format(
                    'has an unknown field %L (known: %s)',
                    (select k.key from jsonb_object_keys(e.task - v_known) as k (key) limit 1),
                    array_to_string(v_known, ', ')
                )
                when coalesce(trim(e.task ->> 'agent_id'), '') = '' then format('lacks %L', 'agent_id')
                when coalesce(trim(e.task ->> 'task_type'), '') = '' then format('lacks %L', 'task_type')
                when coalesce(trim(e.task ->> 'title'), '') = '' then format('lacks %L', 'title')
                when upper(e.task ->> 'agent_id') <> all (v_agents) then format(
                    'names an unknown agent %L (known: %s)', e.task ->> 'agent_id', array_to_string(v_agents, ', ')
                )
                when length(e.task ->> 'title') > 500 then 'has a title of over 500 characters'
                when (e.task ->> 'run_at')::timestamptz not between '1970-01-01' and '9999-01-01'
                    then 'has a run_at outside the years 1970 to 9998'
                when (e.task ->> 'deadline_at')::timestamptz not between '1970-01-01' and '9999-01-01'
                    then 'has a deadline_at outside the years 1970 to 9998'
                when jsonb_typeof(coalesce(e.task -> 'payload', '{}')) <> 'object'
                    then 'has a payload that is not an object'
            end as problem
        from jsonb_array_elements(p_tasks) with ordinality as e (task, position)
    ) as p
    where p.problem is not null
    order by p.position
    limit 1;
    if v_problem is not null then
        raise exception 'the task %', v_problem using errcode = 'PT400';
    end if;

    if p_parent_id is not null then
        select * into v_parent from agent_tasks as p where p.tenant_id = p_tenant_id and p.id = p_parent_id;
        if not found then
            raise exception 'no task %', p_parent_id using errcode = 'PT404';
        end if;
    end if;

    if jsonb_array_length(p_tasks) = 1 then
        v_ids := array[uuidv7()];  -- the common case, for which a query would cost a tenth of the whole
    else
        v_ids := array(select uuidv7() from generate_series(1, jsonb_array_length(p_tasks)) order by 1);
    end if;

    -- Returned as inserted: to read them back would cost as much again.
    return query
    with inserted as (
        insert into agent_tasks as a (
            id, tenant_id, agent_id, task_type, title, description, payload, priority, run_at, waiting_for,
            max_attempts, timeout_seconds, idempotency_key, created_by_user_id, created_at, parent_id, root_id, depth,
            deadline_at
        )
        select v_ids[e.position], p_tenant_id, upper(t.agent_id), t.task_type, t.title, t.description,
            coalesce(t.payload, '{}'), coalesce(greatest(t.priority, v_parent.priority), 0), t.run_at,
            case
                when (select not o.auto_execute from agent_task_policy(p_tenant_id, t.task_type) as o) then 'approval'
                when t.run_at > zora_now() then 'run_at'
            end, coalesce(t.max_attempts, 3), t.timeout_seconds,
            t.idempotency_key, (select u.id from users as u where u.tenant_id = p_tenant_id and u.id = p_created_by),
            zora_now(), v_parent.id, coalesce(v_parent.root_id, v_parent.id), coalesce(v_parent.depth + 1, 0),
            least(t.deadline_at, v_parent.deadline_at)
        from jsonb_array_elements(p_tasks) with ordinality as e (task, position)
        cross join lateral jsonb_to_record(e.task) as t (
            agent_id text, task_type text, title text, description text, payload jsonb, priority integer,
            run_at timestamptz, max_attempts integer, timeout_seconds integer, idempotency_key text,
            deadline_at timestamptz
        )
        order by e.position
        on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
        returning a.*
    ), journalled as (
        insert into journal_entries (
            tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
        )
        select i.tenant_id, 'agent_action', 'agent_task_created',
            i.agent_id || ' task: ' || i.task_type || ' (pending)', i.title,
            jsonb_build_object('task_id', i.id, 'agent_id', i.agent_id, 'task_type', i.task_type, 'status', 'pending',
                'priority', i.priority, 'attempt', 0, 'created_by_user_id', p_created_by)
                || case when i.parent_id is null then '{}' else jsonb_build_object('parent_id', i.parent_id) end,
            lower(i.agent_id), i.id, array_remove(array[i.id, i.parent_id], null), zora_now()
        from inserted as i
    ), asked as (
        select ask_to_run(i.tenant_id, i.id, i.agent_id, i.task_type, i.title, i.payload)
        from inserted as i
        where i.waiting_for = 'approval'
    )
    select a.id, a.tenant_id, a.agent_id::text, a.task_type::text, a.status::text, a.waiting_for, a.priority,
        a.title::text, a.description, a.payload, a.attempt, a.max_attempts, a.timeout_seconds, a.run_at,
        a.idempotency_key, a.created_by_user_id, a.created_at, a.updated_at, true
    from inserted as a
    where (select count(*) from asked) is not null
    order by a.id;

    if not p_tasks @? '$[*].idempotency_key' then
        return;
    end if;

    -- The keys pass through a variable: row-level security keeps an expression of a row out of an index condition.
    v_keys := array(select distinct e.task ->> 'idempotency_key' from jsonb_array_elements(p_tasks) as e (task));
    with earlier as materialized (
        select a.id, a.agent_id, a.task_type, a.payload, a.idempotency_key
        from agent_tasks as a
        where a.tenant_id = p_tenant_id and a.idempotency_key = any (v_keys)
    )
    select format('the idempotency key of task %s belongs to another task, %s (%s %s)',
        e.position, a.id, a.agent_id, a.task_type)
    into v_problem
    from jsonb_array_elements(p_tasks) with ordinality as e (task, position)
    inner join earlier as a on a.idempotency_key = e.task ->> 'idempotency_key'
    where (a.agent_id, a.task_type, a.payload) is distinct from
        (upper(e.task ->> 'agent_id'), e.task ->> 'task_type', coalesce(e.task -> 'payload', '{}'))
    order by e.position
    limit 1;
    if v_problem is not null then
        raise exception '%', v_problem using errcode = 'unique_violation';
    end if;

    return query
    select a.id, a.tenant_id, a.agent_id::text, a.task_type::text, a.status::text, a.waiting_for, a.priority,
        a.title::text, a.description, a.payload, a.attempt, a.max_attempts, a.timeout_seconds, a.run_at,
        a.idempotency_key, a.created_by_user_id, a.created_at, a.updated_at, false
    from agent_tasks as a
    where a.tenant_id = p_tenant_id and a.idempotency_key = any (v_keys) and a.id <> all (v_ids);
end
$$;
