-- Rights on Supabase, where everything in our schema is an HTTP API for three roles. Supabase grants them every new
-- object, and PostgreSQL lets everybody execute a new function: this script revokes both and grants the needed rights
-- again on every run, also for objects that it has just added or replaced. It does not touch other objects.

-- The tenant that the request's token names, by a claim of its own or in app_metadata, which users cannot write; null
-- when none is named, and then no row is visible. It is the setting that auth.jwt() reads.
create or replace function zora_claimed_tenant() returns uuid
language sql stable set search_path = pg_catalog, pg_temp as $$
    select case
        when t.claim ~ '^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$'
        then t.claim::uuid
    end
    from (select nullif(current_setting('request.jwt.claims', true), '')::jsonb) as j (claims)
    cross join lateral (
        select coalesce(j.claims ->> 'tenant_id', j.claims -> 'app_metadata' ->> 'tenant_id')
    ) as t (claim)
$$;

do $supabase$
declare
    v_missing constant text := (
        select string_agg(r.name, ', ')
        from unnest('{anon,authenticated,service_role}'::text []) as r (name)
        where not exists (select from pg_roles as p where p.rolname = r.name)
    );
    v_api constant text := (select r.rolname from pg_roles as r where r.rolname = 'zora_api');
    v_table text;
    v_function regprocedure;
begin
    if v_missing is not null then
        raise exception 'this is not a Supabase database, which has the role %', v_missing
            using hint = 'Run the output of `zora schema` without --supabase. Nothing was changed.';
    end if;
    execute format('grant usage on schema %I to authenticated, service_role', current_schema());

    foreach v_table in array '{:tables}'::text [] loop
        execute format('revoke all on table %I from public, anon, authenticated, service_role', v_table);
        execute format('grant select on table %I to service_role', v_table);
        -- What was applied to this database is written by its owner, who migrates it.
        if v_table not in ('zora_migrations', 'zora_functions') then
            execute format('grant insert, update, delete on table %I to service_role', v_table);
        end if;
        if not (select c.relrowsecurity from pg_class as c where c.oid = format('%I', v_table)::regclass) then
            execute format('alter table %I enable row level security', v_table);
        end if;
    end loop;

    for v_function in
        select p.oid from pg_proc as p
        where p.pronamespace = current_schema()::regnamespace and p.proname = any ('{:functions}'::text [])
    loop
        execute format('revoke all on function %s from public, anon, authenticated, service_role', v_function);
        -- The API's own role could execute them as everybody could, but for the one that chooses a tenant.
        execute format('grant execute on function %s to service_role', v_function);
        if v_api is not null and v_function <> 'call_functions(jsonb, uuid, boolean)'::regprocedure then
            execute format('grant execute on function %s to zora_api', v_function);
        end if;
    end loop;

    -- PostgREST's own role takes on zora_api when call_functions() is asked to; with nothing of it otherwise.
    if v_api is not null and exists (select from pg_roles as r where r.rolname = 'authenticator') then
        begin
            grant zora_api to authenticator;
        exception
            when insufficient_privilege then
                raise warning 'authenticator may not act as the role zora_api, which only zora serve over HTTP needs: '
                    'have an administrator run "grant zora_api to authenticator"';
        end;
    end if;

    -- In a policy, a function is called with the rights of the reading role.
    grant execute on function zora_claimed_tenant() to authenticated;
    foreach v_table in array '{:readable}'::text [] loop
        execute format('grant select on table %I to authenticated', v_table);
        -- Not made anew when it is as it should be, because that waits for everybody who uses the table.
        if not exists (
            select from pg_policies as p
            where p.schemaname = current_schema() and p.tablename = v_table
                and p.policyname = 'zora_authenticated_tenant'
                and p.permissive = 'PERMISSIVE' and p.cmd = 'SELECT' and p.roles = '{authenticated}'
                and p.qual = ':condition'
        ) then
            execute format('drop policy if exists zora_authenticated_tenant on %I', v_table);
            execute format(
                'create policy zora_authenticated_tenant on %I for select to authenticated '
                'using (tenant_id = (select zora_claimed_tenant()))', v_table
            );
        end if;
    end loop;
end
$supabase$;

-- PostgREST keeps a copy of the catalogue.
notify pgrst, 'reload schema';
