-- The owner's tables that effects of a tenant may change. Only the owner of the database registers them, not a tenant's
-- users: the API's role can read the list, but not change it.

-- Give the API's role the rights that the registrations of all tenants say for a table, and no others: none when no tenant
-- has it registered any more. What is approved over the API is applied by that role, which sees the rows of one tenant. Only
-- the table's owner can grant that: 42501 for anybody else. Registering and removing a table go on without it, because over
-- HTTP the caller owns nothing; closed_effect_tables() then says what the owner must run.
--
-- Row-level security is needed first. It is enabled here, unless other roles use the table: they would lose sight of its
-- rows, so that PT400 asks the owner to decide. The second policy is restrictive, because permissive ones of the owner, for
-- example one for everybody, would add rows of other tenants.
create or replace function open_effect_table(p_name text) returns void language plpgsql as $$
declare
    v_relation constant regclass := to_regclass(p_name);
    v_class pg_class;
    v_writable text[];
    v_others text;
    v_elsewhere regnamespace;
    v_sequence regclass;
begin
    select * into v_class from pg_class as c where c.oid = v_relation;
    if v_relation is null or not exists (select from pg_roles where rolname = 'zora_api') then
        return;
    end if;
    if not pg_has_role(v_class.relowner, 'usage') then
        raise exception 'only the owner of the table %, %, can open it for the API', v_relation,
            v_class.relowner::regrole using errcode = 'insufficient_privilege';
    end if;
    select array_agg(distinct quote_ident(a.attname)) into v_writable
    from effect_tables as t
    cross join unnest(t.writable) as w (name)
    inner join pg_attribute as a on a.attrelid = v_relation and a.attname = w.name and not a.attisdropped
    where to_regclass(t.name) = v_relation;

    select f.pronamespace into v_elsewhere
    from pg_policy as p
    inner join pg_depend as d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
    inner join pg_proc as f on f.oid = d.refobjid and f.proname = 'zora_tenant'
    where p.polrelid = v_relation and p.polname = 'zora_api_bounds' and f.pronamespace <> current_schema()::regnamespace;
    if v_elsewhere is not null and v_writable is null then
        return;
    elsif v_elsewhere is not null then
        raise exception 'the table % is registered by the installation of ZORA in the schema %, which sets the rights of '
            'zora_api on it: remove it there first', v_relation, v_elsewhere using errcode = 'PT400';
    end if;

    if v_writable is not null and not v_class.relrowsecurity then
        select string_agg(distinct coalesce(r.rolname, 'public'), ', ') into v_others
        from (
            select v_class.relacl
            union all
            select a.attacl from pg_attribute as a where a.attrelid = v_relation
        ) as g (acl)
        cross join aclexplode(g.acl) as x
        left join pg_roles as r on r.oid = x.grantee
        where x.grantee <> v_class.relowner and r.rolname is distinct from 'zora_api'
            and not coalesce(r.rolbypassrls or r.rolsuper, false);
        if v_others is not null then
            raise exception 'the table % has no row-level security, which keeps the tenants apart over the API, and enabling '
                'it would hide its rows from other roles (%): run "alter table % enable row level security", create '
                'policies for these roles, then register the table again', v_relation, v_others, v_relation
                using errcode = 'PT400';
        end if;
        execute format('alter table %s enable row level security', v_relation);
    end if;

    execute format('revoke all on %s from zora_api', v_relation);
    execute format('drop policy if exists zora_api_effects on %s', v_relation);
    execute format('drop policy if exists zora_api_bounds on %s', v_relation);
    if v_writable is not null then
        execute format(
            'create policy zora_api_effects on %s to zora_api using ((select zora_tenant()) = tenant_id)', v_relation
        );
        execute format(
            'create policy zora_api_bounds on %s as restrictive to zora_api using ((select zora_tenant()) = tenant_id)',
            v_relation
        );
        if not has_schema_privilege('zora_api', v_class.relnamespace, 'usage') then
            execute format('grant usage on schema %s to zora_api', v_class.relnamespace::regnamespace);
        end if;
        execute format('grant select, delete on %s to zora_api', v_relation);
        execute format('grant update (%s) on %s to zora_api', array_to_string(v_writable, ', '), v_relation);
        execute format('grant insert (%s) on %s to zora_api', array_to_string(v_writable || array(
            select quote_ident(a.attname) from pg_attribute as a
            where a.attrelid = v_relation and a.attname in ('tenant_id', 'created_at') and not a.attisdropped
        ), ', '), v_relation);
    elsif not exists (
        select from effect_tables as t
        inner join pg_class as c on c.oid = to_regclass(t.name)
        where c.relnamespace = v_class.relnamespace
    ) and not exists (  -- nor another installation's: tables, or that installation itself
        select from pg_policy as p
        inner join pg_class as c on c.oid = p.polrelid
        where c.relnamespace = v_class.relnamespace and p.polname in ('zora_api_bounds', 'zora_api_tenant')
    ) then
        execute format('revoke usage on schema %s from zora_api', v_class.relnamespace::regnamespace);
    end if;
    for v_sequence in
        select s.oid from pg_depend as d
        inner join pg_class as s on s.oid = d.objid and s.relkind = 'S'
        where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = v_relation
            and d.deptype = 'a'
    loop
        execute format('revoke all on sequence %s from zora_api', v_sequence);
        if v_writable is not null then
            execute format('grant usage on sequence %s to zora_api', v_sequence);
        end if;
    end loop;
end
$$;

-- Let a tenant's effects change a table of the owner's. It must have a column tenant_id of type uuid. p_writable are the columns that an
-- effect may write; p_rests_on those whose change since a proposal supersedes it, by default all of p_writable. Registering
-- a table again replaces what was said of it. With another key column, or another table under the name, it gets a new
-- registration: suggestions made before cannot be applied or undone, because they would be about other rows. PT400 says what
-- is wrong.
create or replace function register_effect_table(
    p_tenant_id uuid, p_name text, p_key_column text, p_writable text [], p_rests_on text [] default null
) returns setof effect_tables language plpgsql as $$
declare
    v_relation regclass;
    v_class pg_class;
    v_missing text;
    v_generated text;
    v_problem text;
begin
    begin
        v_relation := to_regclass(p_name);
    exception
        when invalid_name or syntax_error then
            v_relation := null;
    end;
    select * into v_class from pg_class as c where c.oid = v_relation;
    v_missing := missing_columns(v_relation, array[p_key_column, 'tenant_id'] || p_writable || p_rests_on);
    select string_agg(a.attname, ', ') into v_generated
    from pg_attribute as a
    where a.attrelid = v_relation and a.attname = any (p_writable) and (a.attgenerated <> '' or a.attidentity = 'a');
    v_problem := case
        when coalesce(v_class.relkind, '') not in ('r', 'p') then format('%s is not a table of this database: give its '
            'name, with its schema unless that is on the search path', quote_nullable(p_name))
        when exists (
                select from pg_class as c where c.relnamespace = v_class.relnamespace and c.relname = 'zora_migrations'
            ) and v_class.relname = any (array[
                    'agent_pauses', 'agent_suggestions', 'agent_task_dependencies',
                    'agent_task_policies', 'agent_task_steps', 'agent_task_watchers', 'agent_tasks',
                    'api_keys', 'autonomy_schedules', 'climate_missions', 'climate_profiles',
                    'effect_tables', 'frontend_configs', 'imported_records', 'journal_blocks',
                    'journal_entries', 'memory_events', 'tenants', 'users', 'workers', 'workflow_runs',
                    'workflows', 'zora_functions', 'zora_migrations', 'zora_requests'
            ]) then format('%s is one of ZORA''s own tables: only tables of your own can be registered', p_name)
        when v_missing is not null then format('the table %s lacks the columns %s: it needs tenant_id, of type uuid, and '
            'every column that you name', p_name, v_missing)
        when not exists (
            select from pg_index as i
            cross join lateral (
                select array_agg(a.attname::text) as names from pg_attribute as a
                where a.attrelid = v_relation and a.attnum = any ((i.indkey::int2 [])[0:i.indnkeyatts - 1])
            ) as c
            where i.indrelid = v_relation and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
                and p_key_column = any (c.names) and c.names <@ array[p_key_column, 'tenant_id']
        ) then format('the key column %1$s of the table %2$s is not unique: it needs a primary key or a unique index, without a '
            'condition, on %1$s or on tenant_id and %1$s', p_key_column, p_name)
        when v_generated is not null then format('the column %s of the table %s is generated: it cannot be writable',
            v_generated, p_name)
        when 'tenant_id' = any (p_writable) then 'tenant_id cannot be writable: a row stays with its tenant'
        when coalesce(p_writable, '{}') = '{}' then 'name at least one writable column'
    end;
    if v_problem is not null then
        raise exception '%', v_problem using errcode = 'PT400';
    end if;

    return query
    insert into effect_tables as t (tenant_id, name, key_column, writable, rests_on, created_at, identity)
    values (p_tenant_id, p_name, p_key_column, p_writable, coalesce(p_rests_on, p_writable), zora_now(),
        table_identity(v_relation))
    on conflict (tenant_id, name) do update
    set registration = case when (t.key_column, t.identity) = (excluded.key_column, excluded.identity)
            then t.registration else excluded.registration end, identity = excluded.identity,
        key_column = excluded.key_column, writable = excluded.writable, rests_on = excluded.rests_on
    returning t.*;
    begin
        perform open_effect_table(p_name);
    exception
        when insufficient_privilege then null;  -- reported by closed_effect_tables()
    end;
end
$$;

-- Take a table off the list. What waits for a decision on rows of it cannot be approved any more, only rejected.
create or replace function remove_effect_table(
    p_tenant_id uuid, p_name text
) returns setof effect_tables language plpgsql as $$
declare
    v_relation regclass;
begin
    return query delete from effect_tables as t where t.tenant_id = p_tenant_id and t.name = p_name returning t.*;
    if found then
        -- Also tables that were renamed since they were registered: those with a policy of this installation, which calls
        -- its zora_tenant(). Another one in this database may have tables of its own.
        for v_relation in
            select to_regclass(p_name)
            union
            select p.polrelid::regclass from pg_policy as p
            where p.polname = 'zora_api_bounds' and exists (
                select from pg_depend as d
                where d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
                    and d.refobjid = 'zora_tenant()'::regprocedure
            ) and p.polrelid <> all (array(
                select to_regclass(t.name)::oid from effect_tables as t where to_regclass(t.name) is not null
            ))
        loop
            begin
                perform open_effect_table(v_relation::text);
            exception
                when insufficient_privilege then null;  -- reported by closed_effect_tables()
            end;
        end loop;
    else
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

-- The tables for which the API's role does not have exactly the rights that their registrations say, because whoever
-- registered or removed them could not grant or revoke these: a tenant's tables, and those that are registered no more.
-- `command` sets the rights; `run_by` is the role that can run it.
create or replace function closed_effect_tables(p_tenant_id uuid) returns table (
    name text, registered boolean, run_by text, command text
) language sql stable as $$
    with relations as (
        select to_regclass(t.name) as id from effect_tables as t where t.tenant_id = p_tenant_id
        union
        select p.polrelid::regclass from pg_policy as p
        where p.polname = 'zora_api_bounds' and exists (
            select from pg_depend as d
            where d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
                and d.refobjid = 'zora_tenant()'::regprocedure
        ) and p.polrelid <> all (array(
            select to_regclass(t.name)::oid from effect_tables as t where to_regclass(t.name) is not null
        ))
    ),
    found as (
        select r.id, c.relowner, c.relnamespace, z.relowner as ours, z.relnamespace::regnamespace as place, a.writable,
            exists (select from pg_policy as p where p.polrelid = r.id and p.polname = 'zora_api_bounds') as bounded,
            has_schema_privilege('zora_api', c.relnamespace, 'usage') as reached,
            coalesce(array(
                select g.attname::text from pg_attribute as g
                cross join aclexplode(g.attacl) as x
                where g.attrelid = r.id and not g.attisdropped and x.privilege_type = 'UPDATE'
                    and x.grantee = 'zora_api'::regrole
                order by g.attname::text
            ), '{}') as granted
        from relations as r
        inner join pg_class as c on c.oid = r.id
        inner join pg_class as z on z.oid = 'effect_tables'::regclass
        cross join lateral (
            select array_agg(distinct w.name::text order by w.name::text) as writable
            from effect_tables as t
            cross join unnest(t.writable) as w (name)
            inner join pg_attribute as g on g.attrelid = r.id and g.attname = w.name and not g.attisdropped
            where to_regclass(t.name) = r.id
        ) as a
        where exists (select from pg_roles where rolname = 'zora_api')
    ),
    needed as (
        select f.*,
            case when not pg_has_role(f.ours, f.relowner, 'usage')
                then format('grant %s to %s; ', f.relowner::regrole, f.ours::regrole)
            end as membership,
            case when f.writable is not null and not f.reached
                and not has_schema_privilege(f.ours, f.relnamespace, 'usage with grant option')
                then format('grant usage on schema %s to zora_api; ', f.relnamespace::regnamespace)
            end as passage
        from found as f
        where f.bounded <> (f.writable is not null) or f.granted <> coalesce(f.writable, '{}')
            or (f.writable is not null and not f.reached)
    )
    select n.id::text, n.writable is not null,
        case when n.membership is null and n.passage is null then n.ours::regrole::text else 'an administrator' end,
        concat(n.membership, n.passage, format('select %s.open_effect_table(%L)', n.place, n.id))
    from needed as n
    order by 1
$$;
