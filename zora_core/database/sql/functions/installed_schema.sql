-- What is installed, for clients that can only call functions: see schema.py. `version` is the highest of `versions`.
create or replace function installed_schema() returns table (
    version integer, digest text, versions integer [], release text, replaced text []
) language sql stable as $$
    select (select coalesce(max(m.version), 0) from zora_migrations as m), f.digest,
        (select array_agg(m.version order by m.version) from zora_migrations as m), f.release, f.replaced
    from zora_functions as f
$$;

-- Those of the named objects that the schema lacks, for example after a dump was restored in part. A name is a kind and
-- a name: table, type, index and function NAME, column and trigger TABLE.NAME, access TABLE (what the role zora_api may
-- do, where there is such a role). Also read as a plain query, in case this function is what is missing.
create or replace function missing_schema_objects(p_objects text []) returns setof text language sql stable as $$
    select o.name from unnest(p_objects::text []) as o (name)
    where o.name not like 'access %' or exists (select from pg_roles as r where r.rolname = 'zora_api')
    except all
    (
        select case c.relkind when 'i' then 'index ' else 'table ' end || c.relname
        from pg_class as c
        where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p', 'i')
        union all
        select 'column ' || c.relname || '.' || a.attname
        from pg_class as c
        inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p')
        union all
        select 'type ' || t.typname from pg_type as t where t.typnamespace = current_schema()::regnamespace
        union all
        -- PostgreSQL 18 has uuidv7() itself.
        select distinct 'function ' || p.proname
        from pg_proc as p
        where p.pronamespace = current_schema()::regnamespace
            or (p.proname = 'uuidv7' and p.pronamespace = 'pg_catalog'::regnamespace)
        union all
        select 'trigger ' || c.relname || '.' || t.tgname
        from pg_trigger as t
        inner join pg_class as c on c.oid = t.tgrelid
        where c.relnamespace = current_schema()::regnamespace and not t.tgisinternal and t.tgenabled <> 'D'
        union all
        select 'access ' || c.relname
        from pg_policy as p
        inner join pg_class as c on c.oid = p.polrelid
        inner join pg_roles as r on r.rolname = 'zora_api'
        where c.relnamespace = current_schema()::regnamespace and p.polname = 'zora_api_tenant'
            and has_table_privilege(r.oid, c.oid, 'select')
    )
    order by 1
$$;
