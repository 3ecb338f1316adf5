-- Wake runtimes and watchers when tasks are inserted, by any statement: once per statement and tenant, never per row.
create or replace function notify_created_agent_tasks() returns trigger language plpgsql as $$
begin
    perform
        case when r.some_ready then pg_notify('agent_tasks', r.tenant_id::text) end,
        announce_agent_tasks(r.tenant_id)
    from (
        select c.tenant_id, bool_or(c.status = 'pending' and c.waiting_for is null) as some_ready
        from created as c
        group by c.tenant_id
    ) as r;
    return null;
end
$$;

drop trigger if exists agent_tasks_notify_created on agent_tasks;
create trigger agent_tasks_notify_created
after insert on agent_tasks referencing new table as created
for each statement execute function notify_created_agent_tasks();
