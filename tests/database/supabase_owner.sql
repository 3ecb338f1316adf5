-- What a database of Supabase has besides the roles of tests/postgrest/roles.sql: an owner who is not a superuser, and
-- default privileges that open whatever it makes. A superuser runs it; twice is not an error.
do $$
begin
    if not exists (select from pg_roles where rolname = 'postgres_owner') then
        create role postgres_owner login createrole createdb replication bypassrls;
    end if;
    execute format('alter database %I owner to postgres_owner', current_database());
    -- As if it had made this role itself; another database of this server has.
    if exists (select from pg_roles where rolname = 'zora_api') then
        grant zora_api to postgres_owner with admin option;
    end if;
end
$$;

grant anon, authenticated, service_role, authenticator to postgres_owner with admin option;
grant pg_monitor, pg_read_all_data to postgres_owner;
grant all on schema extensions to postgres_owner;

alter default privileges for role postgres_owner in schema public
grant all on tables to anon, authenticated, service_role;
alter default privileges for role postgres_owner in schema public
grant all on functions to anon, authenticated, service_role;
alter default privileges for role postgres_owner in schema public
grant all on sequences to anon, authenticated, service_role;
