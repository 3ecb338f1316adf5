-- Supabase's roles and its schema for extensions, as its documentation describes them. Safe to run more than once.
--
-- Only what the Data API promises: the right to use the schemas. Tables are granted to nobody, which is the default of
-- new projects since 2026; functions can be executed by everybody, which is PostgreSQL's default.
do $roles$
declare
    v_role record;
begin
    for v_role in
        select * from (values
            ('anon', 'nologin noinherit', '3s'),
            ('authenticated', 'nologin noinherit', '8s'),
            -- It has no timeout of its own and gets the authenticator's.
            ('service_role', 'nologin noinherit bypassrls', null),
            ('authenticator', 'login noinherit', '8s')
        ) as r (name, attributes, timeout)
    loop
        if not exists (select from pg_roles where rolname = v_role.name) then
            begin
                execute format('create role %I %s', v_role.name, v_role.attributes);
            exception
                when duplicate_object or unique_violation then null;  -- another database of this server made it just now
            end;
        end if;
        if v_role.timeout is not null
            and not exists (select from pg_roles where rolname = v_role.name and rolconfig is not null) then
            execute format('alter role %I set statement_timeout = %L', v_role.name, v_role.timeout);
            if v_role.name = 'authenticator' then
                alter role authenticator set lock_timeout = '8s';
            end if;
        end if;
    end loop;
    grant anon, authenticated, service_role to authenticator;
end
$roles$;

create schema if not exists extensions;
grant usage on schema public, extensions to anon, authenticated, service_role;
