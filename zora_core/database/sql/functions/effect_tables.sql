-- Which of the owner's tables the effects of a tenant may change. That is for whoever owns the database, not for a tenant's
-- users: the API's role may read the list and not change it.

-- Let a tenant's effects change a table of the owner's. It must have a column tenant_id of type uuid. p_writable are the columns that an
-- effect may write; p_rests_on those whose change since a proposal supersedes it, by default all of p_writable. Registering
-- a table again replaces what was said of it. PT400 says what is wrong.
create or replace function register_effect_table(
    p_tenant_id uuid, p_name text, p_key_column text, p_writable text [], p_rests_on text [] default null
) returns setof effect_tables language plpgsql as $$
declare
    v_relation regclass;
    v_class pg_class;
    v_missing text;
    v_problem text;
begin
    begin
        v_relation := to_regclass(p_name);
    exception
        when invalid_name or syntax_error then
            v_relation := null;
    end;
    select * into v_class from pg_class as c where c.oid = v_relation;
    select string_agg(c.name, ', ') into v_missing
    from unnest(array[p_key_column, 'tenant_id'] || p_writable || coalesce(p_rests_on, '{}')) as c (name)
    where not exists (
        select from pg_attribute as a
        where a.attrelid = v_relation and a.attname = c.name and a.attnum > 0 and not a.attisdropped
            and (c.name <> 'tenant_id' or a.atttypid = 'uuid'::regtype)
    );
    v_problem := case
        when coalesce(v_class.relkind, '') not in ('r', 'p') then format('%s is not a table of this database: give its '
            'name, with its schema unless that is on the search path', quote_nullable(p_name))
        when v_class.relnamespace = (select c.relnamespace from pg_class as c where c.oid = 'agent_tasks'::regclass)
            and v_class.relname = any (array[
                    'agent_pauses', 'agent_suggestions', 'agent_task_dependencies',
                    'agent_task_policies', 'agent_task_steps', 'agent_task_watchers', 'agent_tasks',
                    'api_keys', 'autonomy_schedules', 'climate_missions', 'climate_profiles',
                    'effect_tables', 'frontend_configs', 'imported_records', 'journal_blocks',
                    'journal_entries', 'memory_events', 'tenants', 'users', 'workers', 'workflow_runs',
                    'workflows', 'zora_functions', 'zora_migrations', 'zora_requests'
            ]) then format('%s is one of ZORA''s own tables: only tables of your own can be registered', p_name)
        when v_missing is not null then format('the table %s lacks the columns %s: it needs tenant_id, of type uuid, and '
            'every column that you name', p_name, v_missing)
        when 'tenant_id' = any (p_writable) then 'tenant_id cannot be writable: a row stays with its tenant'
        when coalesce(p_writable, '{}') = '{}' then 'name at least one writable column'
    end;
    if v_problem is not null then
        raise exception '%', v_problem using errcode = 'PT400';
    end if;

    -- What is approved over the API is applied by its role, which sees one tenant. Only the table's owner can grant that.
    if exists (select from pg_roles where rolname = 'zora_api') and pg_has_role(v_class.relowner, 'usage') then
        execute format('grant usage on schema %I to zora_api', v_class.relnamespace::regnamespace::text);
        execute format('grant select, insert, update, delete on %s to zora_api', v_relation);
        if pg_get_serial_sequence(v_relation::text, p_key_column) is not null then
            execute format('grant usage on sequence %s to zora_api', pg_get_serial_sequence(v_relation::text, p_key_column));
        end if;
        if v_class.relrowsecurity
            and not exists (select from pg_policy where polrelid = v_relation and polname = 'zora_api_tenant') then
            execute format(
                'create policy zora_api_tenant on %s to zora_api using ((select zora_tenant()) = tenant_id)', v_relation
            );
        end if;
    end if;
    return query
    insert into effect_tables as t (tenant_id, name, key_column, writable, rests_on, created_at)
    values (p_tenant_id, p_name, p_key_column, p_writable, coalesce(p_rests_on, p_writable), zora_now())
    on conflict (tenant_id, name) do update
    set key_column = excluded.key_column, writable = excluded.writable, rests_on = excluded.rests_on
    returning t.*;
end
$$;

-- Take a table off the list. What waits for a decision on rows of it cannot be approved any more, only rejected.
create or replace function remove_effect_table(
    p_tenant_id uuid, p_name text
) returns setof effect_tables language plpgsql as $$
begin
    return query delete from effect_tables as t where t.tenant_id = p_tenant_id and t.name = p_name returning t.*;
    if not found then
        raise exception 'the table % is not registered (registered: %)', quote_nullable(p_name), coalesce((
            select string_agg(t.name, ', ' order by t.name) from effect_tables as t where t.tenant_id = p_tenant_id
        ), 'none') using errcode = 'PT404';
    end if;
end
$$;

-- A tenant's registered tables, by name.
create or replace function list_effect_tables(p_tenant_id uuid) returns setof effect_tables language sql stable as $$
    select t.* from effect_tables as t where t.tenant_id = p_tenant_id order by t.name
$$;
