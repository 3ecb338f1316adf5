-- Steps of a task: what they returned is kept, so that it need not be computed again after a crash. They stay until the
-- task is pruned, or put back into the queue by a person, who wants it done anew.

-- Store a step's value and its sources for the run that holds the task's lease; the first value is kept. Returns the
-- stored value, and no row if the lease was lost.
--
-- The task is locked against being taken back meanwhile.
create or replace function save_agent_task_step(
    p_id uuid, p_lease_token uuid, p_name text, p_value jsonb, p_reads jsonb default '[]'
) returns table (value jsonb) language sql as $$
    with held as materialized (
        select t.id, t.tenant_id
        from agent_tasks as t
        where t.id = p_id and t.lease_token = p_lease_token and t.status::text = 'in_progress'
        for share
    ), saved as (
        insert into agent_task_steps as s (tenant_id, task_id, name, value, reads, created_at)
        select h.tenant_id, h.id, p_name, p_value, p_reads, zora_now()
        from held as h
        on conflict (task_id, name) do nothing
        returning s.value
    )
    select s.value from saved as s
    union all
    select s.value
    from held as h
    inner join agent_task_steps as s on s.task_id = h.id
    where s.name = p_name and not exists (select from saved)
$$;

-- The steps that a task has done.
create or replace function list_agent_task_steps(
    p_tenant_id uuid, p_id uuid
) returns table (name text, value jsonb, reads jsonb) language sql stable as $$
    select s.name, s.value, s.reads
    from agent_task_steps as s
    where s.tenant_id = p_tenant_id and s.task_id = p_id
$$;
