-- Whether the schema is there, and everybody may do what supabase.sql says and nothing else: a row per check. Asked of
-- the catalogue, after everything was committed. What a role has by membership, or because everybody has it, counts like
-- what it was given.
with tables as (
    select n.name, c.oid, c.relrowsecurity
    from unnest('{:tables}'::text []) as n (name)
    left join pg_class as c on c.relname = n.name and c.relnamespace = ':schema'::regnamespace and c.relkind = 'r'
),

functions as (
    select n.name, p.oid, n.name || '(' || oidvectortypes(p.proargtypes) || ')' as signature
    from unnest('{:functions}'::text []) as n (name)
    left join pg_proc as p on p.proname = n.name and p.pronamespace = ':schema'::regnamespace
),

api_roles as (
    select r.oid, r.rolname::text as name, r.rolsuper or r.rolbypassrls as sees_all
    from pg_roles as r
    where r.rolname in ('anon', 'authenticated', 'service_role')
),

held as (
    select r.name as role, t.name as object, p.privilege
    from api_roles as r
    cross join tables as t
    cross join unnest(
        '{select,insert,update,delete,truncate,references,trigger}'::text []
        || case when current_setting('server_version_num')::integer >= 170000 then '{maintain}'::text [] end
    ) as p (privilege)
    where has_table_privilege(r.oid, t.oid, p.privilege)
        or case
            when p.privilege in ('select', 'insert', 'update', 'references')
            then has_any_column_privilege(r.oid, t.oid, p.privilege)
        end
    union all
    select r.name, f.signature, 'execute'
    from api_roles as r
    cross join functions as f
    where has_function_privilege(r.oid, f.oid, 'execute')
),

intended as (
    select 'authenticated' as role, t.name as object, 'select' as privilege
    from unnest('{:readable}'::text []) as t (name)
    union all
    select 'authenticated', 'zora_claimed_tenant()', 'execute'
    union all
    select 'service_role', t.name, p.privilege
    from tables as t
    cross join unnest('{select,insert,update,delete}'::text []) as p (privilege)
    where t.oid is not null and (p.privilege = 'select' or t.name not in ('zora_migrations', 'zora_functions'))
    union all
    select 'service_role', f.signature, 'execute'
    from functions as f
    where f.oid is not null
),

-- Those that let one of the two in, and how.
policies as (
    select distinct p.tablename::text as table_name, p.policyname::text as name,
        p.policyname = 'zora_authenticated_tenant' and p.cmd = 'SELECT' and p.roles = '{authenticated}'
        and p.tablename = any ('{:readable}'::text [])
        and replace(p.qual, quote_ident(':schema') || '.', '') = ':condition' as ours
    from pg_policies as p
    cross join unnest(p.roles) as m (name)
    inner join api_roles as r on r.name in ('anon', 'authenticated')
    left join pg_roles as g on g.rolname = m.name
    where p.schemaname = ':schema' and p.tablename in (select t.name from tables as t) and p.permissive = 'PERMISSIVE'
        and (m.name = 'public' or pg_has_role(r.oid, g.oid, 'usage'))
),

problems as (
    select 1 as number, 'PostgreSQL ' || current_setting('server_version') || ' is too old' as problem
    where current_setting('server_version_num')::integer < 150000
    union all
    select 2, 'version ' || coalesce(max(m.version), 0) || ' is there, not :version'
    from ":schema".zora_migrations as m
    having coalesce(max(m.version), 0) <> :version or count(*) <> :applied
    union all
    select 3, t.name || ' is missing' from tables as t where t.oid is null
    union all
    select 4, 'it is off on ' || t.name from tables as t where not t.relrowsecurity
    union all
    -- PostgreSQL 18 has uuidv7() itself.
    select 5, f.name || '() is missing'
    from functions as f
    where f.oid is null and not exists (
        select from pg_proc as p where p.proname = f.name and p.pronamespace = 'pg_catalog'::regnamespace
    )
    union all
    select 5, 'they are not those of this script'
    where not exists (select from ":schema".zora_functions as f where f.digest = ':digest')
    union all
    select distinct 6, 'the extension ' || e.extname || ' is used'
    from pg_depend as d
    inner join pg_depend as m on m.classid = d.refclassid and m.objid = d.refobjid and m.deptype = 'e'
    inner join pg_extension as e on e.oid = m.refobjid
    where e.extname <> 'plpgsql' and (
        (d.classid = 'pg_class'::regclass and d.objid in (select t.oid from tables as t))
        or (d.classid = 'pg_proc'::regclass and d.objid in (select f.oid from functions as f))
        or (d.classid = 'pg_attrdef'::regclass and d.objid in (
            select a.oid from pg_attrdef as a inner join tables as t on t.oid = a.adrelid
        ))
    )
    union all
    select 7, 'zora_authenticated_tenant is not on ' || t.name || ' as it should be'
    from unnest('{:readable}'::text []) as t (name)
    where not exists (select from policies as p where p.ours and p.table_name = t.name)
    union all
    select 7, p.name || ' on ' || p.table_name || ' is not of this script' from policies as p where not p.ours
    union all
    select c.number, 'it must not have ' || h.privilege || ' on ' || h.object
    from (values (8, 'anon'), (9, 'authenticated'), (10, 'service_role')) as c (number, role)
    inner join (table held except table intended) as h on h.role = c.role
    union all
    select c.number, 'it lacks ' || i.privilege || ' on ' || i.object
    from (values (9, 'authenticated'), (10, 'service_role')) as c (number, role)
    inner join (table intended except table held) as i on i.role = c.role
    union all
    select c.number, 'it must ' || case when r.sees_all then 'not ' else '' end || 'bypass row-level security'
    from (
        values (8, 'anon', false), (9, 'authenticated', false), (10, 'service_role', true)
    ) as c (number, role, sees_all)
    inner join api_roles as r on r.name = c.role and r.sees_all <> c.sees_all
    union all
    select 11, 'authenticator may not act as it'
    where not exists (
        select from pg_roles as a
        cross join pg_roles as z
        where a.rolname = 'authenticator' and z.rolname = 'zora_api' and pg_has_role(
            a.oid, z.oid, case when current_setting('server_version_num')::integer < 160000 then 'member' else 'set' end
        )
    )
)

select c.name as "check", count(p.problem) = 0 as ok,
    case
        when count(p.problem) = 0 then 'nothing'
        else array_to_string((array_agg(p.problem order by p.problem))[:5], '; ')
            || case when count(p.problem) > 5 then format('; and %s more', count(p.problem) - 5) else '' end
            || '. ' || c.remedy
    end as "what to do"
from (
    values
    (1, 'server version', 'Upgrade the project to PostgreSQL 15 or later.'),
    (2, 'schema version', 'Run the script of the zora that you use; a newer database needs a newer zora.'),
    (3, 'tables', 'A table was dropped: restore it from a backup.'),
    (4, 'row-level security', 'Run this script again.'),
    (5, 'functions', 'Run this script again.'),
    (6, 'extensions', 'None is needed: take back what makes our tables or functions depend on it.'),
    (7, 'policies', 'Run this script again, and drop policies that are not of it.'),
    (8, 'anon may do nothing', 'Run this script again; if it stays, find out which role anon has it from.'),
    (9, 'authenticated may read', 'Run this script again; if it stays, find out which role authenticated has it from.'),
    (10, 'service_role may do all', 'Run this script again.'),
    (11, 'zora_api for zora serve', 'Have an administrator run: create role zora_api; grant zora_api to authenticator.')
) as c (number, name, remedy)
left join problems as p on p.number = c.number
group by c.number, c.name, c.remedy
order by ok, c.number;
