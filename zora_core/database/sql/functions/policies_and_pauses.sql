-- What runs without asking, and the switch that stops everything.

-- The policy for a task type: the tenant's own, else everybody's, else none.
create or replace function agent_task_policy(
    p_tenant_id uuid, p_task_type text
) returns setof agent_task_policies language sql stable as $$
    select p.*
    from agent_task_policies as p
    where coalesce(p.tenant_id, p_tenant_id) = p_tenant_id and p.task_type = p_task_type
    order by p.tenant_id nulls last
    limit 1
$$;

-- The policies that hold for a tenant, by task type; those of everybody are told by their null tenant.
create or replace function list_agent_task_policies(
    p_tenant_id uuid
) returns setof agent_task_policies language sql stable as $$
    select distinct on (p.task_type) p.*
    from agent_task_policies as p
    where coalesce(p.tenant_id, p_tenant_id) = p_tenant_id
    order by p.task_type, p.tenant_id nulls last
$$;

-- Set a tenant's policy for a task type. When tasks of the type may no longer run without asking, those that wait to be
-- run are asked about, too. p_known_types are the types that the caller's program has: with them, a type is refused that
-- neither it nor a worker of the tenant knows, because a policy for a misspelt type would hold for nothing.
create or replace function set_agent_task_policy(
    p_tenant_id uuid, p_task_type text, p_auto_execute boolean default true, p_max_risk_level text default null,
    p_decide_within_hours integer default null, p_user_id uuid default null, p_known_types text [] default null
) returns setof agent_task_policies language plpgsql as $$
declare
    v_policy agent_task_policies;
    v_task agent_tasks;
begin
    if coalesce(length(trim(p_task_type)), 0) not between 1 and 100 then
        raise exception 'a policy is for a task type of 1 to 100 characters' using errcode = 'PT400';
    elsif p_task_type <> all (p_known_types) and not exists (
        select from workers as w
        cross join unnest(w.known_types) as x (name)
        where w.tenant_id = p_tenant_id and split_part(x.name, ' ', 2) = p_task_type
    ) then
        raise exception 'unknown task type %: neither this program nor a worker has it (known: %)',
            quote_literal(p_task_type), array_to_string(array(select distinct unnest(p_known_types) order by 1), ', ')
            using errcode = 'PT400';
    elsif p_max_risk_level not in ('low', 'medium', 'high') then
        raise exception 'unknown risk level % (known: low, medium, high)', quote_literal(p_max_risk_level)
            using errcode = 'PT400';
    elsif p_decide_within_hours not between 1 and 8760 then
        raise exception 'a decision takes 1 to 8760 hours, not %', p_decide_within_hours using errcode = 'PT400';
    end if;
    delete from agent_task_policies as p where p.tenant_id = p_tenant_id and p.task_type = p_task_type;
    insert into agent_task_policies (
        tenant_id, task_type, auto_execute, max_risk_level, decide_within_hours, created_at
    )
    values (p_tenant_id, p_task_type, p_auto_execute, p_max_risk_level, p_decide_within_hours, zora_now())
    returning * into v_policy;
    insert into journal_entries (tenant_id, category, event_type, title, details, author, related_entity_ids, created_at)
    values (
        p_tenant_id, 'config_change', 'agent_task_policy_set', 'Policy set: ' || p_task_type,
        to_jsonb(v_policy) - array['tenant_id', 'created_at', 'updated_at']
            || jsonb_build_object('by_user_id', p_user_id),
        user_name(p_tenant_id, p_user_id), array[v_policy.id], zora_now()
    );
    if not p_auto_execute then
        for v_task in
            update agent_tasks as t
            set waiting_for = 'approval', updated_at = zora_now()
            where t.tenant_id = p_tenant_id and t.state = 'p' and t.task_type = p_task_type
                and coalesce(t.waiting_for, '') in ('', 'run_at', 'retry', 'dependencies', 'children')
                and not may_run(p_tenant_id, t.id)
            returning t.*
        loop
            perform ask_to_run(
                v_task.tenant_id, v_task.id, v_task.agent_id, v_task.task_type, v_task.title, v_task.payload
            );
        end loop;
    end if;
    return next v_policy;
end
$$;

-- Remove a tenant's policy, so that everybody's holds again. What waits for approval goes on waiting: a person decides.
create or replace function remove_agent_task_policy(
    p_tenant_id uuid, p_task_type text, p_user_id uuid default null
) returns setof agent_task_policies language plpgsql as $$
declare
    v_policy agent_task_policies;
begin
    delete from agent_task_policies as p
    where p.tenant_id = p_tenant_id and p.task_type = p_task_type
    returning * into v_policy;
    if not found then
        raise exception 'no policy for % of this tenant', quote_nullable(p_task_type) using errcode = 'PT404';
    end if;
    insert into journal_entries (tenant_id, category, event_type, title, details, author, related_entity_ids, created_at)
    values (
        p_tenant_id, 'config_change', 'agent_task_policy_removed', 'Policy removed: ' || p_task_type,
        jsonb_build_object('task_type', p_task_type, 'by_user_id', p_user_id),
        user_name(p_tenant_id, p_user_id), array[v_policy.id], zora_now()
    );
    return next v_policy;
end
$$;

-- Whether a task that needs approval has it.
create or replace function may_run(p_tenant_id uuid, p_id uuid) returns boolean language sql stable as $$
    select exists (
        select from agent_suggestions as s
        where s.tenant_id = p_tenant_id and s.task_id = p_id and s.suggestion_type = 'run_task' and s.status = 'applied'
    )
$$;

-- Ask a person whether a task may run: a suggestion whose effect is to let exactly this task go, with this payload, title
-- and description, all of which its handler reads. Returns its id.
-- p_because goes on where the sentence says what would run.
create or replace function ask_to_run(
    p_tenant_id uuid, p_id uuid, p_agent_id text, p_task_type text, p_title text, p_payload jsonb,
    p_because text default 'which a policy of this tenant allows only after approval'
) returns uuid language sql as $$
    with asked as (
        insert into agent_suggestions (
            tenant_id, agent_id, task_id, suggestion_type, title, body, target, suggested_value, evidence, risk_level,
            effect, expires_at, created_at
        )
        values (
            p_tenant_id, p_agent_id, p_id, 'run_task', 'Run: ' || p_title,
            format('%s would run %s, %s.', p_agent_id, p_task_type, p_because),
            jsonb_build_object('table', 'agent_tasks', 'id', p_id), p_payload,
            jsonb_build_array(jsonb_build_object('kind', 'rows', 'table', 'agent_tasks', 'ids', jsonb_build_array(p_id))),
            'medium',
            jsonb_build_object('changes', jsonb_build_array(
                jsonb_build_object('op', 'release_task', 'id', p_id, 'payload', p_payload, 'title', p_title,
                    'agent_id', p_agent_id, 'task_type', p_task_type,
                    'description', (select t.description from agent_tasks as t where t.tenant_id = p_tenant_id and t.id = p_id))
            )),
            null, zora_now()
        )
        returning *
    ), journalled as (
        insert into journal_entries (
            tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
        )
        select a.tenant_id, 'agent_action', 'agent_suggestion_created', a.agent_id || ' asks: ' || a.title, a.body,
            jsonb_build_object('suggestion_id', a.id, 'suggestion_type', a.suggestion_type, 'target', a.target,
                'risk_level', a.risk_level, 'status', a.status, 'effect_digest', a.effect_digest),
            lower(a.agent_id), a.task_id, array[a.id, a.task_id], zora_now()
        from asked as a
    )
    select a.id from asked as a
$$;

-- Stop all claims and all effects of a tenant, or of one agent of it. What runs, runs to its end. Doing it twice is no
-- error; the first reason stands.
create or replace function pause_agents(
    p_tenant_id uuid, p_agent_id text default null, p_reason text default null, p_user_id uuid default null
) returns setof agent_pauses language plpgsql as $$
declare
    v_agent constant text := coalesce(upper(p_agent_id), '*');
    v_author constant text := user_name(p_tenant_id, p_user_id);
begin
    if v_agent not in ('*', 'CONNOR', 'LUMINA', 'EIVOR', 'ORACLE', 'AEGIS', 'SAM') then
        raise exception 'unknown agent % (known: CONNOR, LUMINA, EIVOR, ORACLE, AEGIS, SAM)', quote_literal(p_agent_id)
            using errcode = 'PT400';
    end if;
    insert into agent_pauses (tenant_id, agent_id, reason, paused_by, created_at)
    values (
        p_tenant_id, v_agent, p_reason,
        (select u.id from users as u where u.tenant_id = p_tenant_id and u.id = p_user_id), zora_now()
    )
    on conflict (tenant_id, agent_id) do nothing;
    if found then
        insert into journal_entries (tenant_id, category, event_type, title, body, details, author, created_at)
        values (
            p_tenant_id, 'config_change', 'agents_paused',
            case v_agent when '*' then 'All agents paused' else v_agent || ' paused' end, p_reason,
            jsonb_build_object('agent_id', v_agent, 'by_user_id', p_user_id), v_author, zora_now()
        );
    end if;
    return query select p.* from agent_pauses as p where p.tenant_id = p_tenant_id order by p.agent_id;
end
$$;

-- Lift a pause: that of the whole tenant, or that of one agent; PT409 when there is none. Returns what is left.
create or replace function resume_agents(
    p_tenant_id uuid, p_agent_id text default null, p_user_id uuid default null
) returns setof agent_pauses language plpgsql as $$
declare
    v_agent constant text := coalesce(upper(p_agent_id), '*');
begin
    delete from agent_pauses as p where p.tenant_id = p_tenant_id and p.agent_id = v_agent;
    if not found then
        raise exception '% not paused: see `zora status`',
            case v_agent when '*' then 'the tenant is' else v_agent || ' is' end using errcode = 'PT409';
    end if;
    insert into journal_entries (tenant_id, category, event_type, title, details, author, created_at)
    values (
        p_tenant_id, 'config_change', 'agents_resumed',
        case v_agent when '*' then 'All agents resumed' else v_agent || ' resumed' end,
        jsonb_build_object('agent_id', v_agent, 'by_user_id', p_user_id), user_name(p_tenant_id, p_user_id), zora_now()
    );
    perform pg_notify('agent_tasks', p_tenant_id::text);
    return query select p.* from agent_pauses as p where p.tenant_id = p_tenant_id order by p.agent_id;
end
$$;

-- What is paused, the whole tenant (agent *) first.
create or replace function list_agent_pauses(p_tenant_id uuid) returns setof agent_pauses language sql stable as $$
    select p.* from agent_pauses as p where p.tenant_id = p_tenant_id order by p.agent_id
$$;

-- Whether an agent of a tenant is paused, by itself or with all.
create or replace function is_paused(p_tenant_id uuid, p_agent_id text) returns boolean language sql stable as $$
    select exists (
        select from agent_pauses as p where p.tenant_id = p_tenant_id and p.agent_id in ('*', p_agent_id)
    )
$$;
