-- What a database of Supabase has before anything of ours: the roles of its HTTP API, an owner who is no superuser, a
-- schema for extensions, and default privileges that open whatever the owner makes. A superuser runs it; twice is no
-- error.
do $$
declare
    v_role record;
begin
    for v_role in
        select *
        from (
            values
            ('anon', 'nologin noinherit'),
            ('authenticated', 'nologin noinherit'),
            ('service_role', 'nologin noinherit bypassrls'),
            ('authenticator', 'login noinherit'),
            ('postgres_owner', 'login createrole createdb replication bypassrls')
        ) as r (name, attributes)
        where not exists (select from pg_roles as p where p.rolname = r.name)
    loop
        execute format('create role %I %s', v_role.name, v_role.attributes);
    end loop;
    execute format('alter database %I owner to postgres_owner', current_database());
end
$$;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role, authenticator to postgres_owner with admin option;
grant pg_monitor, pg_read_all_data to postgres_owner;

create schema if not exists extensions;
grant usage on schema public, extensions to anon, authenticated, service_role;
grant all on schema extensions to postgres_owner;

alter default privileges for role postgres_owner in schema public
grant all on tables to anon, authenticated, service_role;
alter default privileges for role postgres_owner in schema public
grant all on functions to anon, authenticated, service_role;
alter default privileges for role postgres_owner in schema public
grant all on sequences to anon, authenticated, service_role;
