-- An effect is data: an object whose array "changes" says row by row what is done. An agent describes it, a person
-- approves it by its digest, and only apply_effect() carries it out: all of it, or nothing when the target is no longer
-- what it was.
--
--   {"op": "insert", "table", "row"}                    a new row; ids are given when it is made
--   {"op": "update", "table", "key", "before", "after"} columns of one row; with "path", what jsonb columns hold there
--                                                       (a time may be "now")
--   {"op": "delete", "table", "row"}                    a row that is still as told; takes an insert back
--   {"op": "create_tasks", "tasks"}                     as create_agent_task_graph() takes them; with "workflow", an
--                                                       object with key, name and definition, as a run of it
--   {"op": "cancel_tasks", "ids"}                       tasks none of which has run yet; takes a creation back
--   {"op": "release_task", "id", "payload"}             a task that waits for approval may run
--
-- Under a path, null stands for nothing there.

-- The tables that an effect may change, the column that names a row, and the columns that it may write.
create or replace function effect_tables() returns table (
    name text, key_column text, key_type text, writable text []
) language sql immutable as $$
    values
        ('climate_missions', 'id', 'uuid', array['profile_id', 'title', 'description', 'category', 'status',
            'estimated_impact_kgco2', 'due_date', 'verified']),
        ('frontend_configs', 'page', 'text', array['page', 'config']),
        ('memory_events', 'id', 'uuid', array['tags', 'archived_at']),
        ('autonomy_schedules', 'id', 'uuid', array['name', 'agent_id', 'task_type', 'payload', 'cron', 'timezone',
            'enabled', 'misfire_policy'])
$$;

-- Raise PT400 unless this is a change of a form that apply_effect() knows.
create or replace function check_change(p_change jsonb) returns void language plpgsql immutable as $$
declare
    v_op constant text := coalesce(p_change ->> 'op', 'null');
    v_table text := p_change ->> 'table';
    v_key_column text;
    v_writable text[];
    v_problem text;
begin
    if v_op in ('insert', 'update', 'delete') then
        select t.key_column, t.writable into v_key_column, v_writable from effect_tables() as t where t.name = v_table;
        v_problem := case
            when v_key_column is null then format('changes a table that no effect may change, %s', v_table)
            when v_op = 'update' and p_change ->> 'key' is null then 'lacks the key of a row'
            when v_op = 'update' and (
                jsonb_typeof(p_change -> 'before') is distinct from 'object'
                or jsonb_typeof(p_change -> 'after') is distinct from 'object' or p_change -> 'after' = '{}'
            ) then 'lacks what is before and after'
            when v_op <> 'update' and jsonb_typeof(p_change -> 'row') is distinct from 'object' then 'lacks its row'
            when (v_op = 'delete' or v_key_column = any (v_writable)) and v_op <> 'update'
                and p_change -> 'row' ->> v_key_column is null then format('lacks a row with its %s', v_key_column)
            when v_op = 'update' and (p_change -> 'after') - v_writable <> '{}'
                then format('writes columns that no effect may write: %s', (p_change -> 'after') - v_writable)
            when v_op = 'insert' and (p_change -> 'row') - v_writable <> '{}'
                then format('writes columns that no effect may write: %s', (p_change -> 'row') - v_writable)
        end;
    elsif v_op = 'create_tasks' then
        if jsonb_typeof(p_change -> 'tasks') is distinct from 'array' then
            v_problem := 'lacks its tasks';
        end if;
    elsif v_op = 'cancel_tasks' then
        if jsonb_typeof(p_change -> 'ids') is distinct from 'array' then
            v_problem := 'lacks the ids of tasks';
        end if;
    elsif v_op = 'release_task' then
        if p_change ->> 'id' is null then
            v_problem := 'lacks the id of a task';
        end if;
    else
        v_problem := format('has an unknown op, %s', v_op);
    end if;
    if v_problem is not null then
        raise exception 'a change of the effect %', v_problem using errcode = 'PT400';
    end if;
end
$$;

-- What a change finds where it would act, in the same form as what it expects: null when there is nothing. Rows are
-- locked until the transaction ends.
create or replace function found_by_change(p_tenant_id uuid, p_change jsonb) returns jsonb language plpgsql as $$
declare
    v_table text := p_change ->> 'table';
    v_key_column text;
    v_key_type text;
    v_found jsonb;
begin
    case p_change ->> 'op'
        when 'create_tasks' then
            return null;
        when 'cancel_tasks' then
            select jsonb_object_agg(l.id, l.status || case when l.attempt > 0 then ', has run' else '' end) into v_found
            from (
                select t.id, t.status, t.attempt
                from agent_tasks as t
                where t.tenant_id = p_tenant_id
                    and t.id = any (array(select jsonb_array_elements_text(p_change -> 'ids')::uuid))
                order by t.id
                for update
            ) as l;
            return v_found;
        when 'release_task' then
            select jsonb_build_object('waiting_for', t.waiting_for, 'payload', t.payload) into v_found
            from agent_tasks as t where t.tenant_id = p_tenant_id and t.id = (p_change ->> 'id')::uuid for update;
            return v_found;
        else
            select t.key_column, t.key_type into v_key_column, v_key_type
            from effect_tables() as t where t.name = v_table;
            execute format(
                'select to_jsonb(t) from %I as t where t.tenant_id = $1 and t.%I = $2::%s for update',
                v_table, v_key_column, v_key_type
            )
            into v_found using p_tenant_id, coalesce(p_change ->> 'key', p_change -> 'row' ->> v_key_column);
            if p_change ->> 'op' <> 'update' or v_found is null then
                return v_found;
            end if;
            return (
                select jsonb_object_agg(k.name, coalesce(
                    v_found -> k.name #> coalesce(array(select jsonb_array_elements_text(p_change -> 'path')), '{}'),
                    'null'
                ))
                from jsonb_object_keys(p_change -> 'after') as k (name)
            );
    end case;
end
$$;

-- What a change must find; see found_by_change().
create or replace function expected_by_change(p_change jsonb) returns jsonb language plpgsql stable as $$
declare
    v_table text := p_change ->> 'table';
    v_expected jsonb := coalesce(p_change -> 'before', p_change -> 'row');
begin
    case p_change ->> 'op'
        when 'create_tasks', 'insert' then
            return null;
        when 'cancel_tasks' then
            return (select jsonb_object_agg(i.id, 'pending') from jsonb_array_elements_text(p_change -> 'ids') as i (id));
        when 'release_task' then
            return jsonb_build_object('waiting_for', 'approval', 'payload', p_change -> 'payload');
        else
            if p_change ? 'path' then
                return v_expected;
            end if;
            -- Through the table's types, so that a time is the same in every time zone.
            execute format('select to_jsonb(jsonb_populate_record(null::%I, $1))', v_table)
            into v_expected using v_expected;
            if p_change ->> 'op' = 'delete' then
                return v_expected;
            end if;
            return (
                select jsonb_object_agg(k.name, v_expected -> k.name)
                from jsonb_object_keys(p_change -> 'after') as k (name)
            );
    end case;
end
$$;

-- Carry out one change whose target was found as expected, and return the change that takes it back, or null when
-- nothing does.
create or replace function make_change(
    p_tenant_id uuid, p_change jsonb, p_user_id uuid
) returns jsonb language plpgsql as $$
declare
    v_table text := p_change ->> 'table';
    v_key_column text;
    v_key_type text;
    v_row jsonb;
    v_columns text;
    v_values text;
    v_id uuid;
begin
    select t.key_column, t.key_type into v_key_column, v_key_type from effect_tables() as t where t.name = v_table;
    case p_change ->> 'op'
        when 'insert' then
            v_row := (p_change -> 'row') || jsonb_build_object('tenant_id', p_tenant_id);
            select string_agg(quote_ident(k.name), ', ') into v_columns from jsonb_object_keys(v_row) as k (name);
            execute format(
                'insert into %1$I as t (%2$s, created_at) select %2$s, zora_now() '
                'from jsonb_populate_record(null::%1$I, $1) returning to_jsonb(t)', v_table, v_columns
            )
            into v_row using v_row;
            return jsonb_build_object('op', 'delete', 'table', v_table, 'row', v_row);
        when 'update' then
            select jsonb_object_agg(e.key, case
                when e.key like '%\_at' and e.value = '"now"' then to_jsonb(zora_now()) else e.value
            end)
            into v_row
            from jsonb_each(p_change -> 'after') as e;
            select string_agg(quote_ident(k.name), ', '), string_agg(format(
                case
                    when not p_change ? 'path' then 'r.%1$I'
                    when v_row -> k.name = 'null' then 't.%1$I #- $4'
                    else 'jsonb_set(t.%1$I, $4, $3 -> %1$L)'
                end, k.name
            ), ', ')
            into v_columns, v_values
            from jsonb_object_keys(v_row) as k (name);
            execute format(
                'update %1$I as t set (%2$s) = row(%3$s) from jsonb_populate_record(null::%1$I, $3) as r '
                'where t.tenant_id = $1 and t.%4$I = $2::%5$s', v_table, v_columns, v_values, v_key_column, v_key_type
            )
            using p_tenant_id, p_change ->> 'key', v_row,
                array(select jsonb_array_elements_text(p_change -> 'path'));
            return p_change || jsonb_build_object('before', v_row, 'after', p_change -> 'before');
        when 'delete' then
            execute format(
                'delete from %I as t where t.tenant_id = $1 and t.%I = $2::%s', v_table, v_key_column, v_key_type
            )
            using p_tenant_id, p_change -> 'row' ->> v_key_column;
        when 'create_tasks' then
            if p_change ? 'workflow' then
                select r.id into v_id
                from start_workflow_run(
                    p_tenant_id, p_change -> 'workflow' ->> 'key', p_change -> 'workflow' ->> 'name',
                    coalesce(p_change -> 'workflow' -> 'definition', '{}'), '{}', p_change -> 'tasks', p_user_id
                ) as r;
                select jsonb_agg(t.id order by t.id) into v_row
                from agent_tasks as t
                where t.tenant_id = p_tenant_id and t.workflow_run_id = v_id;
            else
                select jsonb_agg(t.id) into v_row
                from create_agent_task_graph(p_tenant_id, p_change -> 'tasks', p_user_id) as t;
            end if;
            return jsonb_build_object('op', 'cancel_tasks', 'ids', v_row);
        when 'cancel_tasks' then
            -- Those that wait for others first, which would else fail with what they depend on.
            for v_id in
                select i.id::uuid
                from jsonb_array_elements_text(p_change -> 'ids') with ordinality as i (id, number)
                order by i.number desc
            loop
                perform from cancel_agent_task(
                    p_tenant_id, v_id, 'the suggestion that created it was undone', p_user_id
                );
            end loop;
        when 'release_task' then
            update agent_tasks as t
            set waiting_for = next_wait(t.dependencies_left, t.run_at, t.children_left), updated_at = zora_now()
            where t.tenant_id = p_tenant_id and t.id = (p_change ->> 'id')::uuid;
            perform pg_notify('agent_tasks', p_tenant_id::text);
    end case;
    return null;
end
$$;

-- Carry out an effect, or nothing of it: when a target is not as expected, conflicts lists those changes with what they
-- found ({"change", "expected", "found"}), and nothing was written. Otherwise inverse is the effect that takes it back,
-- null when that is not possible.
create or replace function apply_effect(
    p_tenant_id uuid, p_effect jsonb, p_user_id uuid, out conflicts jsonb, out inverse jsonb
) language plpgsql as $$
declare
    v_change jsonb;
    v_back jsonb;
    v_changes jsonb := '[]';
begin
    if jsonb_typeof(p_effect -> 'changes') is distinct from 'array' then
        raise exception 'an effect is an object with the array "changes"' using errcode = 'PT400';
    end if;
    for v_change in select c.change from jsonb_array_elements(p_effect -> 'changes') as c (change) loop
        perform check_change(v_change);
    end loop;

    select jsonb_agg(
        jsonb_build_object('change', c.change, 'expected', c.expected, 'found', c.found) order by c.number
    )
    into conflicts
    from (
        select e.number, e.change, expected_by_change(e.change) as expected, found_by_change(p_tenant_id, e.change) as found
        from jsonb_array_elements(p_effect -> 'changes') with ordinality as e (change, number)
        offset 0
    ) as c
    where c.expected is distinct from c.found;
    if conflicts is not null then
        return;
    end if;

    for v_change in select c.change from jsonb_array_elements(p_effect -> 'changes') as c (change) loop
        v_back := make_change(p_tenant_id, v_change, p_user_id);
        v_changes := case when v_back is not null and v_changes is not null then jsonb_build_array(v_back) || v_changes end;
    end loop;
    inverse := case when v_changes <> '[]' then jsonb_build_object('changes', v_changes) end;
end
$$;

-- What each change of a suggestion's effect expects and what it would find now, in their order. Locks what it looks at
-- until the transaction ends.
create or replace function preview_agent_suggestion(
    p_tenant_id uuid, p_id uuid
) returns table (change jsonb, expected jsonb, found jsonb) language sql as $$
    select e.change, expected_by_change(e.change), found_by_change(p_tenant_id, e.change)
    from agent_suggestions as s
    cross join lateral jsonb_array_elements(s.effect -> 'changes') with ordinality as e (change, number)
    where s.tenant_id = p_tenant_id and s.id = p_id
    order by e.number
$$;
