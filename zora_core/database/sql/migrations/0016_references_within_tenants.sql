-- References between rows of tenants carry the tenant, so that no row can name a row of another tenant. A reference that
-- crossed tenants before is emptied: it never led anywhere that its reader could see.

alter table climate_profiles add constraint climate_profiles_tenant_id_id_key unique (tenant_id, id);
alter table api_keys add constraint api_keys_tenant_id_id_key unique (tenant_id, id);
alter table workflow_runs add constraint workflow_runs_tenant_id_id_key unique (tenant_id, id);
drop index workflow_runs_tenant;

do $references$
declare
    r record;
begin
    -- Every reference by one column from a table with a tenant to another: by its old name, that of the composite one.
    for r in
        select c.conname as name, c.conrelid::regclass as source, a.attname as reference, c.confrelid::regclass as target
        from pg_constraint as c
        inner join pg_attribute as a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
        where c.contype = 'f' and array_length(c.conkey, 1) = 1
            and c.conrelid in (
                'agent_tasks'::regclass, 'agent_suggestions'::regclass, 'agent_pauses'::regclass,
                'autonomy_schedules'::regclass, 'climate_missions'::regclass, 'workflows'::regclass,
                'workflow_runs'::regclass, 'api_keys'::regclass
            )
            and c.confrelid in (
                'users'::regclass, 'climate_profiles'::regclass, 'workflow_runs'::regclass, 'api_keys'::regclass
            )
    loop
        execute format(
            'update %1$s as s set %2$I = null where s.%2$I is not null and not exists '
            '(select from %3$s as t where t.tenant_id = s.tenant_id and t.id = s.%2$I)', r.source, r.reference, r.target
        );
        execute format('alter table %s drop constraint %I', r.source, r.name);
        execute format(
            'alter table %s add constraint %I foreign key (tenant_id, %I) references %s (tenant_id, id)%s', r.source,
            r.name, r.reference, r.target,
            -- A session ends with the key that it began with.
            case when r.source = 'api_keys'::regclass then ' on delete cascade' end
        );
    end loop;
end
$references$;

-- Edges and steps are checked when they are written: a key (tenant_id, id) of agent_tasks would be one more index to write
-- at every step of every task.
--
-- Each task must be found as one of the tenant's own: under row-level security one of another tenant cannot be found at all.
create function refuse_task_of_another_tenant() returns trigger language plpgsql as $$
declare
    v_depends_on constant uuid := (to_jsonb(new) ->> 'depends_on')::uuid;
begin
    if not exists (select from agent_tasks as t where t.tenant_id = new.tenant_id and t.id = new.task_id)
    or v_depends_on is not null
    and not exists (select from agent_tasks as t where t.tenant_id = new.tenant_id and t.id = v_depends_on) then
        raise exception 'a task of another tenant cannot be referred to' using errcode = 'foreign_key_violation';
    end if;
    return null;
end
$$;

create trigger agent_task_dependencies_tenant
after insert or update of tenant_id, task_id, depends_on on agent_task_dependencies
for each row execute function refuse_task_of_another_tenant();

create trigger agent_task_steps_tenant
after insert or update of tenant_id, task_id on agent_task_steps
for each row execute function refuse_task_of_another_tenant();
