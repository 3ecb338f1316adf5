-- Reading and changing schedules. Callers must validate cron expression, time zone and payload before, because SQL
-- cannot parse them.

-- Create a schedule from an object with the keys of v_known below; name, agent_id, task_type and cron are required.
create or replace function create_schedule(
    p_tenant_id uuid, p_schedule jsonb, p_user_id uuid default null
) returns setof autonomy_schedules language plpgsql as $$
declare
    v_known constant text[] := array[
        'name', 'agent_id', 'task_type', 'payload', 'title', 'priority', 'cron', 'timezone', 'enabled',
        'misfire_policy', 'overlap_policy', 'max_catch_up', 'grace_seconds'
    ];
    v_given autonomy_schedules;
    v_schedule autonomy_schedules;
begin
    perform check_schedule(p_schedule, v_known);
    v_given := jsonb_populate_record(null::autonomy_schedules, jsonb_strip_nulls(p_schedule - 'payload'));
    if v_given.name is null or v_given.agent_id is null or v_given.task_type is null or v_given.cron is null then
        raise exception 'a schedule needs name, agent_id, task_type and cron' using errcode = 'PT400';
    elsif (select count(*) from autonomy_schedules as s where s.tenant_id = p_tenant_id) >= 1000 then
        raise exception 'a tenant has at most 1000 schedules: delete some' using errcode = 'PT409';
    end if;
    insert into autonomy_schedules as s (
        tenant_id, name, agent_id, task_type, payload, title, priority, cron, timezone, enabled, misfire_policy,
        overlap_policy, max_catch_up, grace_seconds, created_by_user_id, created_at
    )
    values (
        p_tenant_id, v_given.name, upper(v_given.agent_id), v_given.task_type, coalesce(p_schedule -> 'payload', '{}'),
        v_given.title, coalesce(v_given.priority, 0), v_given.cron, coalesce(v_given.timezone, 'UTC'),
        coalesce(v_given.enabled, true), coalesce(v_given.misfire_policy, 'run_once'),
        coalesce(v_given.overlap_policy, 'allow'), coalesce(v_given.max_catch_up, 100),
        coalesce(v_given.grace_seconds, 300),
        (select u.id from users as u where u.tenant_id = p_tenant_id and u.id = p_user_id), zora_now()
    )
    on conflict (tenant_id, name) do nothing
    returning s.* into v_schedule;
    if not found then
        raise exception 'a schedule % exists already', quote_literal(v_given.name) using errcode = 'unique_violation';
    end if;
    perform journal_schedule(
        v_schedule, 'created', 'created', user_name(p_tenant_id, p_user_id), schedule_content(v_schedule)
    );
    return next v_schedule;
end
$$;

-- Change a schedule by an object with the keys of v_known below. When cron, timezone or enabled change, its fire times
-- begin now; what was due and had not been carried out is not.
create or replace function update_schedule(
    p_tenant_id uuid, p_id uuid, p_changes jsonb, p_user_id uuid default null
) returns setof autonomy_schedules language plpgsql as $$
declare
    v_known constant text[] := array[
        'name', 'payload', 'title', 'priority', 'cron', 'timezone', 'enabled', 'misfire_policy', 'overlap_policy',
        'max_catch_up', 'grace_seconds'
    ];
    v_before autonomy_schedules;
    v_schedule autonomy_schedules;
    v_new autonomy_schedules;
begin
    perform check_schedule(p_changes, v_known);
    select * into v_before from autonomy_schedules as s where s.tenant_id = p_tenant_id and s.id = p_id for update;
    if not found then
        raise exception 'no schedule %', p_id using errcode = 'PT404';
    elsif exists (
        select from autonomy_schedules as s
        where s.tenant_id = p_tenant_id and s.id <> p_id and s.name = p_changes ->> 'name'
    ) then
        raise exception 'a schedule % exists already', quote_literal(p_changes ->> 'name')
            using errcode = 'unique_violation';
    end if;
    v_new := jsonb_populate_record(v_before, p_changes);
    if schedule_content(v_new) = schedule_content(v_before) then
        return next v_before;
        return;
    end if;
    update autonomy_schedules as s
    set (name, payload, title, priority, cron, timezone, enabled, misfire_policy, overlap_policy, max_catch_up,
        grace_seconds, updated_at) = row(v_new.name, v_new.payload, v_new.title, v_new.priority, v_new.cron,
        v_new.timezone, v_new.enabled, v_new.misfire_policy, v_new.overlap_policy, v_new.max_catch_up,
        v_new.grace_seconds, zora_now())
    where s.tenant_id = p_tenant_id and s.id = p_id
    returning s.* into v_schedule;
    perform journal_schedule(
        v_schedule, 'updated', 'changed', user_name(p_tenant_id, p_user_id),
        (
            select jsonb_build_object(
                'before', jsonb_object_agg(b.key, b.value), 'after', jsonb_object_agg(b.key, a.value)
            )
            from jsonb_each(schedule_content(v_before)) as b
            inner join jsonb_each(schedule_content(v_schedule)) as a on a.key = b.key
            where a.value <> b.value
        )
    );
    return next v_schedule;
end
$$;

-- What a schedule says, as an object.
create or replace function schedule_content(p_schedule autonomy_schedules) returns jsonb language sql stable as $$
    select jsonb_build_object(
        'name', p_schedule.name, 'payload', p_schedule.payload, 'title', p_schedule.title,
        'priority', p_schedule.priority, 'cron', p_schedule.cron, 'timezone', p_schedule.timezone,
        'enabled', p_schedule.enabled, 'misfire_policy', p_schedule.misfire_policy,
        'overlap_policy', p_schedule.overlap_policy, 'max_catch_up', p_schedule.max_catch_up,
        'grace_seconds', p_schedule.grace_seconds
    )
$$;

-- Raise PT400 unless a schedule's fields have values that they can have.
create or replace function check_schedule(
    p_schedule jsonb, p_fields text []
) returns void language plpgsql stable as $$
declare
    v_problem text;
begin
    v_problem := case
        when jsonb_typeof(p_schedule) is distinct from 'object' then 'is not an object'
        when p_schedule - p_fields <> '{}' then format(
            'has an unknown field %L (known: %s)',
            (select k.key from jsonb_object_keys(p_schedule - p_fields) as k (key) limit 1),
            array_to_string(p_fields, ', ')
        )
        when p_schedule ? 'name' and length(trim(coalesce(p_schedule ->> 'name', ''))) not between 1 and 200
            then 'needs a name of 1 to 200 characters'
        when length(p_schedule ->> 'title') > 500 then 'has a title of over 500 characters'
        when trim(p_schedule ->> 'title') = '' then 'has a blank title'
        when p_schedule ->> 'misfire_policy' not in ('skip', 'run_once', 'catch_up') then format(
            'has an unknown misfire policy %L (known: skip, run_once, catch_up)', p_schedule ->> 'misfire_policy')
        when p_schedule ->> 'overlap_policy' not in ('allow', 'skip') then format(
            'has an unknown overlap policy %L (known: allow, skip)', p_schedule ->> 'overlap_policy')
        when (p_schedule ->> 'max_catch_up')::integer not between 1 and 1000
            then 'catches up with 1 to 1000 fire times, not ' || (p_schedule ->> 'max_catch_up')
        when (p_schedule ->> 'grace_seconds')::integer not between 0 and 3600
            then 'has a grace period of 0 to 3600 seconds, not ' || (p_schedule ->> 'grace_seconds')
        when jsonb_typeof(p_schedule -> 'payload') <> 'object' then 'has a payload that is not an object'
    end;
    if v_problem is not null then
        raise exception 'the schedule %', v_problem using errcode = 'PT400';
    end if;
end
$$;

-- Delete a schedule, and return what it was. Its tasks stay.
create or replace function delete_schedule(
    p_tenant_id uuid, p_id uuid, p_user_id uuid default null
) returns setof autonomy_schedules language plpgsql as $$
declare
    v_schedule autonomy_schedules;
begin
    delete from autonomy_schedules as s
    where s.tenant_id = p_tenant_id and s.id = p_id
    returning s.* into v_schedule;
    if not found then
        raise exception 'no schedule %', p_id using errcode = 'PT404';
    end if;
    perform journal_schedule(
        v_schedule, 'deleted', 'deleted', user_name(p_tenant_id, p_user_id), schedule_content(v_schedule)
    );
    return next v_schedule;
end
$$;

-- Create a task of a schedule now, whether or not it is enabled or its last task is unfinished: a person asks for it.
-- Its fire times stay as they are. Returns the schedule, whose last task it is.
create or replace function run_schedule_now(
    p_tenant_id uuid, p_id uuid, p_user_id uuid default null
) returns setof autonomy_schedules language plpgsql as $$
declare
    v_schedule autonomy_schedules;
    v_task uuid;
begin
    select * into v_schedule from autonomy_schedules as s where s.tenant_id = p_tenant_id and s.id = p_id for update;
    if not found then
        raise exception 'no schedule %', p_id using errcode = 'PT404';
    end if;
    select t.id into v_task
    from create_agent_tasks(p_tenant_id, jsonb_build_array(scheduled_task(v_schedule)), p_user_id) as t;
    update autonomy_schedules as s
    set last_run_at = zora_now(), last_task_id = v_task
    where s.tenant_id = p_tenant_id and s.id = p_id
    returning s.* into v_schedule;
    perform journal_schedule(
        v_schedule, 'executed', 'a task, asked for', user_name(p_tenant_id, p_user_id),
        jsonb_build_object('fire_times', '[]'::jsonb, 'task_ids', jsonb_build_array(v_task), 'by_user_id', p_user_id),
        array[v_task]
    );
    return next v_schedule;
end
$$;

-- All schedules of a tenant (at most 1000), by name.
create or replace function list_schedules(p_tenant_id uuid) returns setof autonomy_schedules language sql stable as $$
    select s.* from autonomy_schedules as s where s.tenant_id = p_tenant_id order by s.name, s.id
$$;

-- One schedule by its id, its name or the end of its id, in this order, or PT404; PT409 when several fit.
create or replace function get_schedule(
    p_tenant_id uuid, p_id text
) returns setof autonomy_schedules language plpgsql stable as $$
declare
    v_found integer;
begin
    return query
    select s.* from autonomy_schedules as s
    where s.tenant_id = p_tenant_id and (s.id::text = lower(p_id) or s.name = p_id)
    order by s.id::text = lower(p_id) desc
    limit 1;
    if found then
        return;
    end if;
    return query
    select s.* from autonomy_schedules as s
    where s.tenant_id = p_tenant_id and length(p_id) >= 4 and right(s.id::text, length(p_id)) = lower(p_id)
    limit 2;
    get diagnostics v_found = row_count;
    if v_found = 0 then
        raise exception 'no schedule %', p_id using errcode = 'PT404';
    elsif v_found > 1 then
        raise exception 'several schedules have an id that ends in %: give more characters', p_id using errcode = 'PT409';
    end if;
end
$$;
