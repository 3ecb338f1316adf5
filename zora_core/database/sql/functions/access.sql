-- What the role zora_api may do: the API's connections use it. It owns nothing, so that row-level security holds for it,
-- and it sees only the tenant that its transaction names in zora.tenant_id.

-- The tenant of this transaction; null when none was named, and then no row is visible.
create or replace function zora_tenant() returns uuid language sql stable as $$
    select nullif(current_setting('zora.tenant_id', true), '')::uuid
$$;

do $access$
declare
    v_table text;
begin
    if not exists (select from pg_roles where rolname = 'zora_api') then
        begin
            create role zora_api nologin;
        exception
            when duplicate_object or unique_violation then null;  -- another database of this server made it just now
            when insufficient_privilege then
                raise warning 'the role zora_api is missing, which only zora serve needs: have an administrator run '
                    '"create role zora_api; grant zora_api to %", then run this script again',
                    quote_ident(current_user);
                return;
        end;
    end if;
    -- To act as a role one must be its member. Since PostgreSQL 16 its creator may administer it, which counts as
    -- membership and does not allow to act as it.
    if not pg_has_role(
        current_user, 'zora_api',
        case when current_setting('server_version_num')::integer < 160000 then 'member' else 'set' end
    ) then
        begin
            execute format('grant zora_api to %I', current_user);
        exception
            when insufficient_privilege then
                raise warning '% may not act as the role zora_api, which only zora serve needs: have an administrator '
                    'run "grant zora_api to %"', current_user, quote_ident(current_user);
        end;
    end if;

    execute format('grant usage on schema %I to zora_api', current_schema());
    grant select on
        tenants, users, agent_tasks, journal_entries, journal_blocks, memory_events, agent_suggestions,
        climate_profiles, climate_missions, frontend_configs, agent_task_policies, agent_pauses, autonomy_schedules,
        agent_task_dependencies, agent_task_steps, workflows, workflow_runs, effect_tables, workers
    to zora_api;
    grant insert, update on agent_tasks, agent_suggestions to zora_api;
    grant insert on users, api_keys to zora_api;
    grant update (role) on users to zora_api;
    grant select, update (revoked_at) on api_keys to zora_api;
    grant insert on journal_entries, memory_events to zora_api;
    grant insert on agent_task_dependencies to zora_api;
    grant delete on agent_task_steps to zora_api;
    grant insert, update, delete on workflows to zora_api;
    grant insert, update on workflow_runs to zora_api;
    grant insert, delete on agent_task_policies, agent_pauses to zora_api;
    -- What an approved suggestion may change; see effect_table(). A profile is locked while a decision that rests on it is
    -- carried out, which takes the right to update some column of it.
    grant update (is_primary) on climate_profiles to zora_api;
    grant insert, update, delete on climate_missions, frontend_configs, autonomy_schedules to zora_api;
    grant update (tags, archived_at) on memory_events to zora_api;
    grant select, insert, update, delete on agent_task_watchers to zora_api;

    foreach v_table in array array[
        'users', 'agent_tasks', 'journal_entries', 'journal_blocks', 'memory_events', 'agent_suggestions',
        'climate_profiles', 'climate_missions', 'frontend_configs', 'agent_task_watchers', 'agent_task_policies',
        'agent_pauses', 'autonomy_schedules', 'agent_task_dependencies', 'agent_task_steps', 'workflows',
        'workflow_runs', 'api_keys', 'effect_tables', 'workers'
    ] loop
        if not exists (select from pg_policy where polrelid = v_table::regclass and polname = 'zora_api_tenant') then
            execute format(
                'create policy zora_api_tenant on %I to zora_api using (tenant_id = (select zora_tenant()))', v_table
            );
        end if;
    end loop;
    if not exists (select from pg_policy where polrelid = 'tenants'::regclass and polname = 'zora_api_tenant') then
        create policy zora_api_tenant on tenants to zora_api using (id = (select zora_tenant()));
    end if;
    if not exists (
        select from pg_policy
        where polrelid = 'agent_task_policies'::regclass and polname = 'zora_api_everybody'
    ) then
        create policy zora_api_everybody on agent_task_policies for select to zora_api using (tenant_id is null);
    end if;
end
$access$;
