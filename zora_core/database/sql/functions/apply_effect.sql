-- An effect is data: an object whose array "changes" says row by row what is done. An agent describes it, a person
-- approves it by its digest, and only apply_effect() carries it out: all of it, or nothing when the target is no longer
-- what it was.
--
--   {"op": "insert", "table", "row"}                    a new row; ids are given when it is made
--   {"op": "update", "table", "key", "before", "after"} columns of one row; with "path", what the jsonb columns of "after"
--                                                       hold there (a time may be "now")
--   {"op": "delete", "table", "row"}                    a row that is still as told; takes an insert back
--   {"op": "expect", "table", "key", "before"}          changes nothing: a row that the decision rests on
--   {"op": "create_tasks", "tasks"}                     as create_agent_task_graph() takes them; with "workflow", an
--                                                       object with key, name and definition, as a run of it
--   {"op": "cancel_tasks", "ids"}                       tasks none of which has run yet; takes a creation back
--   {"op": "release_task", "id", "payload"}             a task that waits for approval may run; title, description, agent_id
--                                                       and task_type, where given, must be those that were seen
--
-- "before" is the precondition: it holds every column that the decision rests on, also such as are not written. What a
-- proposal leaves out of it is read from the row when the proposal is stored (prepare_effect). Under a path, null stands
-- for nothing there.
--
-- prepare_effect() also writes keys and values as the columns hold them (a numeric (6, 1) makes 1.3 of 1.25), and adds
-- "registration", which says under which registration of the owner's table the change was made. What is written is read
-- again before the transaction ends: an effect whose values a trigger, a rule or another of its changes replaces is not
-- applied.

-- An effect may name tables of the owner's, so that any statement on one can raise anything: its triggers, types and
-- policies are not ours, and it can be changed, locked or dropped at any time. Wherever such a statement runs, its error
-- becomes the answer about that effect. These are the errors after which a second try may succeed.
create or replace function may_pass(p_sqlstate text) returns boolean language sql immutable parallel safe as $$
    select p_sqlstate like any ('{08%,25%,40%,53%,55P03,57%,58%,XX%}'::text [])
$$;

-- Those of these columns that a table lacks; tenant_id must be of type uuid.
create or replace function missing_columns(p_relation regclass, p_names text []) returns text language sql stable as $$
    select string_agg(distinct c.name, ', ')
    from unnest(p_names) as c (name)
    where not exists (
        select from pg_attribute as a
        where a.attrelid = p_relation and a.attname = c.name and a.attnum > 0 and not a.attisdropped
            and (c.name <> 'tenant_id' or a.atttypid = 'uuid'::regtype)
    )
$$;

-- Which table this is, whatever its name: the cluster, the database and the table's oid. Only identities with the same
-- cluster and database can be compared, because a restore elsewhere gives the tables other oids.
create or replace function table_identity(p_relation regclass) returns text language sql stable as $$
    select concat_ws('/', c.system_identifier, d.oid, p_relation::oid)
    from pg_control_system() as c
    cross join pg_database as d
    where d.datname = current_database()
$$;

-- A table that effects may name, or nulls: its key, the columns that an effect may write, those that a decision on a row of
-- it rests on, and those that it has lost since it was registered. Ours are here; the owner's are in the table
-- effect_tables; replaced says that another table has the name now. The types are for casts: row_type because a table may
-- be named like another type, and key_type without a length, to which a cast would shorten.
create or replace function effect_table(
    p_tenant_id uuid, p_name text, out relation regclass, out row_type regtype, out key_column text, out key_type text,
    out writable text [], out rests_on text [], out lost text, out registration uuid, out replaced boolean
) language sql stable as $$
    select r.relation, r.row_type, t.key_column,
        (
            select format_type(a.atttypid, -1) from pg_attribute as a
            where a.attrelid = r.relation and a.attname = t.key_column and not a.attisdropped
        ),
        t.writable, t.rests_on,
        missing_columns(r.relation, array[t.key_column, 'tenant_id'] || t.writable || t.rests_on), t.registration,
        coalesce(
            t.identity <> table_identity(r.relation)
            and regexp_replace(t.identity, '/[^/]*$', '') = regexp_replace(table_identity(r.relation), '/[^/]*$', ''), false
        )
    from (
        select o.*, null::uuid as registration, null as identity
        from (values
            ('climate_missions', 'id', array['profile_id', 'title', 'description', 'category', 'status',
                'estimated_impact_kgco2', 'due_date', 'verified'], array['profile_id', 'title', 'category', 'status']),
            ('climate_profiles', 'id', '{}', array['profile_type', 'name', 'energy_source', 'transport_mode',
                'diet_type', 'location_type', 'country', 'household_size', 'estimated_footprint_kg']),
            ('frontend_configs', 'page', array['page', 'config'], '{}'),
            ('memory_events', 'id', array['tags', 'archived_at'], array['content', 'memory_type', 'tags', 'metadata']),
            ('autonomy_schedules', 'id', array['name', 'agent_id', 'task_type', 'payload', 'cron', 'timezone',
                'enabled', 'misfire_policy'], array['name', 'agent_id', 'task_type', 'payload', 'cron', 'timezone',
                'enabled', 'misfire_policy'])
        ) as o (name, key_column, writable, rests_on)
        union all
        select e.name, e.key_column, e.writable, e.rests_on, e.registration, e.identity
        from effect_tables as e
        where e.tenant_id = p_tenant_id
    ) as t (name, key_column, writable, rests_on, registration, identity)
    left join lateral (
        select c.oid::regclass, c.reltype::regtype from pg_class as c
        where c.oid = to_regclass(t.name) and c.relkind in ('r', 'p')
    ) as r (relation, row_type) on true
    where t.name = p_name
    limit 1
$$;

-- Why apply_effect() cannot carry out a change of this form; null when it can.
create or replace function change_problem(p_tenant_id uuid, p_change jsonb) returns text language plpgsql stable as $$
declare
    v_op constant text := coalesce(p_change ->> 'op', 'null');
    v_table text := p_change ->> 'table';
    v_spec record;
begin
    if v_op in ('insert', 'update', 'delete', 'expect') then
        select * into v_spec from effect_table(p_tenant_id, v_table);
        return case
            when v_spec.key_column is null then format('is about a table that no effect may change, %s: the owner registers '
                'tables with `zora tables register`', v_table)
            when v_spec.relation is null then format('is about the table %s, which was registered and is missing', v_table)
            when v_spec.replaced then format('is about the table %s, which is not the one that was registered: the owner '
                'registers it again with `zora tables register`', v_table)
            when v_spec.lost is not null then format('is about the table %s, which has lost columns since it was registered: '
                '%s (tenant_id must be of type uuid)', v_table, v_spec.lost)
            when p_change ->> 'registration' is distinct from v_spec.registration::text
                then format('belongs to an earlier registration of the table %s: the table or its key column is another one '
                    'now', v_table)
            when v_op in ('update', 'expect') and p_change ->> 'key' is null then 'lacks the key of a row'
            when v_spec.key_type = 'uuid' and coalesce(p_change ->> 'key', p_change -> 'row' ->> v_spec.key_column)
                !~* '^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$'
                then format('has a key that is not a uuid, %s', p_change ->> 'key')
            when v_op in ('update', 'expect') and jsonb_typeof(p_change -> 'before') is distinct from 'object'
                then 'lacks what is before'
            when v_op = 'update' and (
                jsonb_typeof(p_change -> 'after') is distinct from 'object' or p_change -> 'after' = '{}'
            ) then 'lacks what is after'
            when p_change ? 'path' and jsonb_typeof(p_change -> 'path') <> 'array' then 'has a path that is not a list'
            when v_op in ('insert', 'delete') and jsonb_typeof(p_change -> 'row') is distinct from 'object'
                then 'lacks its row'
            when (v_op = 'delete' or v_op = 'insert' and v_spec.key_column = any (v_spec.writable))
                and p_change -> 'row' ->> v_spec.key_column is null then format('lacks a row with its %s', v_spec.key_column)
            when v_op = 'update' and (p_change -> 'after') - v_spec.writable <> '{}'
                then format('writes columns that no effect may write: %s', (p_change -> 'after') - v_spec.writable)
            when v_op = 'insert' and (p_change -> 'row') - v_spec.writable <> '{}'
                then format('writes columns that no effect may write: %s', (p_change -> 'row') - v_spec.writable)
            when v_op = 'delete' and v_spec.writable = '{}' then format('removes a row of %s, which no effect may', v_table)
            when v_op = 'update' and p_change -> 'after' ? v_spec.key_column
                then format('writes the key column %s, which only a new row may set', v_spec.key_column)
            else (
                select format('names columns that the table %s does not have: %s', v_table, m.columns)
                from missing_columns(v_spec.relation, array(
                    select jsonb_object_keys(case when jsonb_typeof(f.value) = 'object' then f.value end)
                    from jsonb_each(p_change) as f
                    where f.key = any ('{before,after,row}')
                )) as m (columns)
                where m.columns is not null
            )
        end;
    end if;
    return case
        when v_op not in ('create_tasks', 'cancel_tasks', 'release_task') then format('has an unknown op, %s', v_op)
        when v_op = 'create_tasks' and jsonb_typeof(p_change -> 'tasks') is distinct from 'array' then 'lacks its tasks'
        when v_op = 'cancel_tasks' and jsonb_typeof(p_change -> 'ids') is distinct from 'array'
            then 'lacks the ids of tasks'
        when v_op = 'release_task' and p_change ->> 'id' is null then 'lacks the id of a task'
    end;
end
$$;

-- Values as the columns of a table hold them; "now" stays for a time. All SQL on registered tables writes r.* for a row,
-- because r alone would be a column of that name.
create or replace function as_columns_hold(
    p_row_type regtype, p_values jsonb
) returns jsonb language plpgsql stable as $$
declare
    v_typed jsonb;
begin
    execute format('select to_jsonb(jsonb_populate_record(null::%s, $1))', p_row_type) into v_typed using p_values;
    return (
        select coalesce(jsonb_object_agg(
            e.key, case when e.key like '%\_at' and e.value = '"now"' then e.value else v_typed -> e.key end
        ), '{}')
        from jsonb_each(p_values) as e
    );
end
$$;

-- A value with another one at a path; null takes away what is there.
create or replace function at_path(p_value jsonb, p_path text [], p_new jsonb) returns jsonb language sql immutable as $$
    select case when p_new = 'null' then p_value #- p_path else jsonb_set(p_value, p_path, p_new) end
$$;

-- Why a change cannot write at its path in this row; null when it can. PostgreSQL writes nothing where a part before the last
-- is missing, and elsewhere when an index is outside of its list.
create or replace function path_problem(p_change jsonb, p_row jsonb) returns text language plpgsql immutable as $$
declare
    v_path constant text [] := array(select jsonb_array_elements_text(p_change -> 'path'));
    v_new record;
    v_held jsonb;
begin
    for v_new in select * from jsonb_each(p_change -> 'after') loop
        begin
            v_held := at_path(p_row -> v_new.key, v_path, v_new.value) #> v_path;
            if v_held is not distinct from nullif(v_new.value, 'null') then
                continue;
            end if;
        exception
            when data_exception then null;  -- said below
        end;
        return format('cannot be made: %s cannot hold this value at %s. Every part of the path before the last must exist; '
            'an index may be at most the length of its list, and only the last element can be taken away', v_new.key,
            array_to_string(v_path, '.'));
    end loop;
    return null;
end
$$;

-- The row that a change is about, as it is now; null when there is none. p_lock locks it until the transaction ends.
create or replace function row_of_change(
    p_tenant_id uuid, p_change jsonb, p_lock boolean
) returns jsonb language plpgsql as $$
declare
    v_spec record;
    v_key text;
    v_row jsonb;
    v_found integer;
begin
    select * into v_spec from effect_table(p_tenant_id, p_change ->> 'table');
    if v_spec.relation is null then
        return null;
    end if;
    v_key := coalesce(p_change ->> 'key', p_change -> 'row' ->> v_spec.key_column);
    execute format(
        'select to_jsonb(r.*) from %s as r where r.tenant_id = $1 and r.%I = $2::%s%s', v_spec.relation, v_spec.key_column,
        v_spec.key_type, case when p_lock then ' for update' end
    )
    into v_row using p_tenant_id, v_key;
    get diagnostics v_found = row_count;
    if v_found > 1 then
        raise exception '% rows of the table % have the key %: a key must name one row', v_found, p_change ->> 'table', v_key
            using errcode = 'PT409';
    end if;
    return v_row;
end
$$;

-- The columns that a change compares, of a row, in the form of its "before".
create or replace function compared_by_change(p_change jsonb, p_row jsonb) returns jsonb language sql immutable as $$
    select coalesce(jsonb_object_agg(k.name, coalesce(
        case
            when p_change ? 'path' and p_change -> 'after' ? k.name
                then p_row -> k.name #> array(select jsonb_array_elements_text(p_change -> 'path'))
            else p_row -> k.name
        end, 'null'
    )), '{}')
    from (
        select jsonb_object_keys(coalesce(p_change -> 'before', '{}'))
        union
        select jsonb_object_keys(coalesce(p_change -> 'after', '{}'))
    ) as k (name)
$$;

-- What a change finds where it would act, in the same form as what it expects: null when there is nothing. p_lock locks rows
-- until the transaction ends.
create or replace function found_by_change(
    p_tenant_id uuid, p_change jsonb, p_lock boolean
) returns jsonb language plpgsql as $$
declare
    v_found jsonb;
begin
    if p_lock and p_change ->> 'op' in ('cancel_tasks', 'release_task') then
        perform from agent_tasks as t
        where t.tenant_id = p_tenant_id and t.id = any (array(
            select jsonb_array_elements_text(coalesce(p_change -> 'ids', jsonb_build_array(p_change -> 'id')))::uuid
        ))
        order by t.id
        for update;
    end if;
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
            ) as l;
            return v_found;
        when 'release_task' then
            select jsonb_object_agg(e.key, e.value) into v_found
            from (
                select to_jsonb(t) as task
                from agent_tasks as t
                where t.tenant_id = p_tenant_id and t.id = (p_change ->> 'id')::uuid
            ) as l
            cross join jsonb_each(l.task) as e
            where e.key = 'waiting_for' or p_change ? e.key and e.key <> 'id';
            return v_found;
        when 'insert' then
            return row_of_change(p_tenant_id, p_change, p_lock);
        when 'delete' then
            return row_of_change(p_tenant_id, p_change, p_lock);
        else
            v_found := row_of_change(p_tenant_id, p_change, p_lock);
            return case when v_found is not null then compared_by_change(p_change, v_found) end;
    end case;
end
$$;

-- What a change must find; see found_by_change().
create or replace function expected_by_change(p_tenant_id uuid, p_change jsonb) returns jsonb language plpgsql stable as $$
declare
    v_expected jsonb := coalesce(p_change -> 'before', p_change -> 'row');
    v_row_type constant regtype := (effect_table(p_tenant_id, p_change ->> 'table')).row_type;
    v_typed jsonb;
begin
    case p_change ->> 'op'
        when 'create_tasks', 'insert' then
            return null;
        when 'cancel_tasks' then
            return (select jsonb_object_agg(i.id, 'pending') from jsonb_array_elements_text(p_change -> 'ids') as i (id));
        when 'release_task' then
            return p_change - array['op', 'id'] || jsonb_build_object('waiting_for', 'approval');
        else
            if v_row_type is null then
                return null;
            end if;
            -- Through the table's types, so that a time is the same in every time zone.
            execute format('select to_jsonb(jsonb_populate_record(null::%s, $1))', v_row_type)
            into v_typed
            using case when p_change ? 'path' then v_expected - array(select jsonb_object_keys(p_change -> 'after'))
                else v_expected end;
            if p_change ->> 'op' = 'delete' then
                return v_typed;
            end if;
            return compared_by_change(
                p_change - 'path',
                case when p_change ? 'path' then v_typed || v_expected else v_typed end
            );
    end case;
end
$$;

-- Check an effect before it is stored, and complete it: what its changes rest on and do not say is read from the rows as
-- they are now. problem says why it cannot be stored, and passing that it may be possible later; missing names a row that it
-- rests on and that does not exist. Settlements of other tasks do not wait for a table that is locked.
create or replace function prepare_effect(
    p_tenant_id uuid, p_effect jsonb, out effect jsonb, out problem text, out missing text, out passing boolean
) language plpgsql set lock_timeout = '200ms' as $$
declare
    v_change jsonb;
    v_changes jsonb := '[]';
    v_row jsonb;
    v_spec record;
    v_part text;
    v_at_path text [];
begin
    if p_effect is null or p_effect = 'null' then
        return;
    elsif jsonb_typeof(p_effect -> 'changes') is distinct from 'array' or p_effect -> 'changes' = '[]' then
        problem := 'its effect is not an object with the array "changes"';
        return;
    end if;
    for v_change in select c.change from jsonb_array_elements(p_effect -> 'changes') as c (change) loop
        begin
            select * into v_spec from effect_table(p_tenant_id, v_change ->> 'table');
            if v_change ->> 'op' in ('insert', 'update', 'delete', 'expect') then
                v_change := v_change - 'registration' || case when v_spec.registration is null then '{}'
                    else jsonb_build_object('registration', v_spec.registration) end;
            end if;
            problem := 'a change of its effect ' || change_problem(p_tenant_id, v_change);
            if problem is null and v_change ->> 'op' in ('insert', 'update', 'delete', 'expect') then
                v_at_path := case when v_change ? 'path' then array(select jsonb_object_keys(v_change -> 'after')) end;
                for v_part in
                    select p.name from unnest('{before,after,row}'::text []) as p (name)
                    where jsonb_typeof(v_change -> p.name) = 'object'
                loop
                    v_change := jsonb_set(v_change, array[v_part], (v_change -> v_part) || as_columns_hold(
                        v_spec.row_type, (v_change -> v_part) - coalesce(v_at_path, '{}')
                    ));
                end loop;
                v_row := row_of_change(p_tenant_id, v_change, false);
                if v_row is not null and v_change ? 'key' then
                    v_change := jsonb_set(v_change, '{key}', to_jsonb(v_row ->> v_spec.key_column));
                end if;
                if v_row is not null and v_change ? 'before' then
                    v_change := jsonb_set(v_change, '{before}', compared_by_change(
                        jsonb_set(v_change, '{before}', (
                            select coalesce(jsonb_object_agg(c.name, null), '{}')
                            from unnest(v_spec.rests_on) as c (name)
                            where not v_change ? 'path'
                        ) || (v_change -> 'before')), v_row
                    ) || (v_change -> 'before'));
                end if;
                if v_row is not null and v_at_path is not null then
                    problem := 'a change of its effect ' || path_problem(v_change, v_row);
                end if;
                perform expected_by_change(p_tenant_id, v_change);
                if v_change ->> 'op' <> 'insert' and v_row is null then
                    missing := format('its effect rests on %s of %s, which does not exist',
                        coalesce(v_change ->> 'key', v_change -> 'row' ->> v_spec.key_column), v_change ->> 'table');
                end if;
            end if;
        exception
            when data_exception then
                problem := format('a change of its effect has a value that a column of %s cannot hold',
                    v_change ->> 'table');
            when others or assert_failure then
                problem := format('a change of its effect cannot be compared with the table %s: %s',
                    v_change ->> 'table', left(sqlerrm, 1000));
                passing := may_pass(sqlstate);
        end;
        exit when problem is not null;
        v_changes := v_changes || jsonb_build_array(v_change);
    end loop;
    effect := case when problem is null then p_effect || jsonb_build_object('changes', v_changes) end;
end
$$;

-- Carry out one change whose target was found as expected, and return the change that takes it back, or null when
-- nothing does.
create or replace function make_change(
    p_tenant_id uuid, p_change jsonb, p_user_id uuid
) returns jsonb language plpgsql as $$
declare
    v_table text := p_change ->> 'table';
    v_spec record;
    v_row jsonb;
    v_columns text;
    v_values text;
    v_id uuid;
    v_back jsonb;
    v_written integer := 1;
begin
    select * into v_spec from effect_table(p_tenant_id, v_table);
    case p_change ->> 'op'
        when 'insert' then
            v_row := (p_change -> 'row') || jsonb_build_object('tenant_id', p_tenant_id);
            if exists (
                select from pg_attribute as a
                where a.attrelid = v_spec.relation and a.attname = 'created_at' and not a.attisdropped
            ) then
                v_row := v_row || jsonb_build_object('created_at', zora_now());
            end if;
            select string_agg(quote_ident(k.name), ', '), string_agg(format('r.%I', k.name), ', ')
            into v_columns, v_values
            from jsonb_object_keys(v_row) as k (name);
            execute format(
                'insert into %s as t (%s) select %s from jsonb_populate_record(null::%s, $1) as r returning to_jsonb(t.*)',
                v_spec.relation, v_columns, v_values, v_spec.row_type
            )
            into v_row using v_row;
            get diagnostics v_written = row_count;
            v_back := p_change || jsonb_build_object('op', 'delete', 'row', v_row);
        when 'update' then
            select jsonb_object_agg(e.key, case
                when e.key like '%\_at' and e.value = '"now"' then to_jsonb(zora_now()) else e.value
            end)
            into v_row
            from jsonb_each(p_change -> 'after') as e;
            select string_agg(quote_ident(k.name), ', '), string_agg(format(
                case when p_change ? 'path' then 'at_path(t.%1$I, $4, $3 -> %1$L)' else 'r.%1$I' end, k.name
            ), ', ')
            into v_columns, v_values
            from jsonb_object_keys(v_row) as k (name);
            execute format(
                'update %1$s as t set (%2$s) = row(%3$s) from jsonb_populate_record(null::%6$s, $3) as r '
                'where t.tenant_id = $1 and t.%4$I = $2::%5$s',
                v_spec.relation, v_columns, v_values, v_spec.key_column, v_spec.key_type, v_spec.row_type
            )
            using p_tenant_id, p_change ->> 'key', v_row,
                array(select jsonb_array_elements_text(p_change -> 'path'));
            get diagnostics v_written = row_count;
            v_back := p_change || jsonb_build_object('before', v_row, 'after', (
                select jsonb_object_agg(k.name, p_change -> 'before' -> k.name) from jsonb_object_keys(v_row) as k (name)
            ));
        when 'delete' then
            execute format('delete from %s as t where t.tenant_id = $1 and t.%I = $2::%s', v_spec.relation, v_spec.key_column,
                v_spec.key_type)
            using p_tenant_id, p_change -> 'row' ->> v_spec.key_column;
            get diagnostics v_written = row_count;
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
            v_back := jsonb_build_object('op', 'cancel_tasks', 'ids', v_row);
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
    if v_written = 0 then
        raise exception 'the database did not write the row of %: a trigger or rule of the table skips it', v_table
            using errcode = 'PT409';
    elsif v_written > 1 then
        raise exception '% rows of the table % would be written: a key must name one row', v_written, v_table
            using errcode = 'PT409';
    end if;
    return v_back;
end
$$;

-- Read what a change has written, PT409 unless it is what was approved; returns the change that takes it back, on the row as
-- triggers have left it.
create or replace function check_made(
    p_tenant_id uuid, p_change jsonb, p_back jsonb
) returns jsonb language plpgsql as $$
declare
    v_table constant text := p_change ->> 'table';
    v_key_column constant text := (effect_table(p_tenant_id, v_table)).key_column;
    v_made constant jsonb := case p_change ->> 'op'
        when 'insert' then p_change - 'row' || jsonb_build_object(
            'op', 'expect', 'key', p_back -> 'row' ->> v_key_column, 'before', p_change -> 'row'
        )
        when 'update' then p_back
        when 'delete' then p_change
    end;
    v_expected jsonb;
    v_found jsonb;
begin
    if v_made is null then
        return p_back;
    end if;
    v_expected := case when p_change ->> 'op' <> 'delete' then expected_by_change(p_tenant_id, v_made) end;
    v_found := found_by_change(p_tenant_id, v_made, false);
    if v_expected is distinct from v_found then
        raise exception '% of % would not be what was approved, but %: a trigger or rule of the table, or another change of '
            'the effect, writes the same', coalesce((
                select string_agg(e.key, ', ') from jsonb_each(v_expected) as e where e.value <> v_found -> e.key
            ), 'a row'), v_table, coalesce(left((
                select jsonb_object_agg(f.key, f.value) from jsonb_each(v_found) as f
                where f.value is distinct from v_expected -> f.key
            )::text, 300), 'missing')
            using errcode = 'PT409';
    end if;
    return case when p_change ->> 'op' = 'insert'
        then jsonb_set(p_back, '{row}', row_of_change(p_tenant_id, p_back, false)) else p_back end;
end
$$;

-- Check now what would be checked when the transaction ends: deferred constraints and triggers. Their errors would come from
-- the commit, after which nothing can be said about the effect that caused them.
create or replace function check_deferred_constraints() returns void language plpgsql as $$
declare
    v_deferred text;
begin
    select string_agg(format('%I.%I', c.schema, c.name), ', ') into v_deferred
    from (
        select n.nspname as schema, c.conname as name
        from pg_constraint as c
        inner join pg_namespace as n on n.oid = c.connamespace
        where has_schema_privilege(n.oid, 'usage')
        group by n.nspname, c.conname
        having bool_or(c.condeferred) and bool_and(c.condeferrable)
    ) as c;
    set constraints all immediate;
    if v_deferred is not null then
        execute 'set constraints ' || v_deferred || ' deferred';
    end if;
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
    v_changes jsonb [] := '{}';
    v_backs jsonb [] := '{}';
    v_problem text;
begin
    if jsonb_typeof(p_effect -> 'changes') is distinct from 'array' then
        raise exception 'an effect is an object with the array "changes"' using errcode = 'PT400';
    end if;
    for v_change in select c.change from jsonb_array_elements(p_effect -> 'changes') as c (change) loop
        v_problem := change_problem(p_tenant_id, v_change);
        if v_problem is not null then
            raise exception 'a change of the effect %', v_problem using errcode = 'PT400';
        end if;
    end loop;

    select jsonb_agg(
        jsonb_build_object('change', c.change, 'expected', c.expected, 'found', c.found) order by c.number
    )
    into conflicts
    from (
        select e.number, e.change, expected_by_change(p_tenant_id, e.change) as expected, found_by_change(p_tenant_id, e.change, true) as found
        from jsonb_array_elements(p_effect -> 'changes') with ordinality as e (change, number)
        offset 0
    ) as c
    where c.expected is distinct from c.found;
    if conflicts is not null then
        return;
    end if;

    for v_change in
        select c.change from jsonb_array_elements(p_effect -> 'changes') as c (change)
        where c.change ->> 'op' <> 'expect'
    loop
        v_changes := array_append(v_changes, v_change);
        v_backs := array_append(v_backs, make_change(p_tenant_id, v_change, p_user_id));
    end loop;
    if p_effect @? '$.changes[*].table' then
        perform check_deferred_constraints();
    end if;
    for v_number in 1 .. cardinality(v_changes) loop
        v_backs[v_number] := check_made(p_tenant_id, v_changes[v_number], v_backs[v_number]);
    end loop;
    select jsonb_build_object('changes', jsonb_agg(b.back order by b.number desc)) into inverse
    from unnest(v_backs) with ordinality as b (back, number)
    having count(*) > 0 and count(*) = count(b.back);
end
$$;

-- What each change of a suggestion's effect expects and what it finds now, in their order. Nothing is locked: a decision
-- compares again. Raises PT400 with the reason for an effect that cannot be carried out here, or not be compared now.
create or replace function preview_agent_suggestion(
    p_tenant_id uuid, p_id uuid
) returns table (change jsonb, expected jsonb, found jsonb) language plpgsql set lock_timeout = '500ms' as $$
declare
    v_changes jsonb;
    v_problem text;
begin
    select s.effect -> 'changes' into v_changes
    from agent_suggestions as s
    where s.tenant_id = p_tenant_id and s.id = p_id and s.effect is not null;
    if found and jsonb_typeof(v_changes) is distinct from 'array' then
        raise exception 'an effect is an object with the array "changes"' using errcode = 'PT400';
    end if;
    begin
        select 'a change of the effect ' || x.problem into v_problem
        from jsonb_array_elements(v_changes) as c (change)
        cross join lateral change_problem(p_tenant_id, c.change) as x (problem)
        where x.problem is not null
        limit 1;
        if v_problem is null then
            return query
            select e.change, expected_by_change(p_tenant_id, e.change), found_by_change(p_tenant_id, e.change, false)
            from jsonb_array_elements(v_changes) with ordinality as e (change, number)
            order by e.number;
        end if;
    exception
        when others or assert_failure or query_canceled then
            v_problem := 'the effect cannot be compared with what it would change: ' || left(sqlerrm, 1000);
    end;
    if v_problem is not null then
        raise exception '%', v_problem using errcode = 'PT400';
    end if;
end
$$;
