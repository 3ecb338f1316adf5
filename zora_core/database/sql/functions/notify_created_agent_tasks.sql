-- Wake the runtimes, and whoever watches, when tasks are inserted by whatever means: once per statement and tenant,
-- never per row.
create or replace function notify_created_agent_tasks() returns trigger language plpgsql as $$
begin
    perform pg_notify('agent_tasks', r.tenant_id::text)
    from (
        select distinct c.tenant_id from created as c where c.status = 'pending' and c.waiting_for is null
    ) as r;
    perform announce_agent_tasks(r.tenant_id) from (select distinct c.tenant_id from created as c) as r;
    return null;
end
$$;

drop trigger if exists agent_tasks_notify_created on agent_tasks;
create trigger agent_tasks_notify_created
after insert on agent_tasks referencing new table as created
for each statement execute function notify_created_agent_tasks();
