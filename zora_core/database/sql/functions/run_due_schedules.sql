-- Creates the tasks of schedules, for any caller: a worker, `zora run-due-schedules`, pg_cron. There is no leader. A
-- schedule's row is locked while its fire times are handled, handled times are recorded in the same transaction, and
-- each task has the idempotency key of its schedule and fire time: with any number of callers none is created twice.
--
-- SQL cannot parse cron expressions: Python computes fire times ahead (list_schedules_to_plan, plan_schedule), for 100
-- of them or two days, whichever is more, and at least once a day.

-- Handle the fire times that are due, of up to p_limit schedules, those longest due first; with p_dry_run only return
-- what would be done. For one tenant, or for all. Returns a row for each schedule: the tasks that were created, their
-- fire times, the number of skipped fire times, and why:
--
--   missed   come too late. skip passes over whatever is later than the grace period. run_once makes one task for all,
--            the last, when the first is later than that. catch_up makes all, but the last max_catch_up at most.
--   overlap  the schedule asks that one task end before the next is created.
--   refused  a task could not be created; the journal has the reason.
--
-- While its agent is paused a schedule waits, and afterwards the same holds as for any other delay.
create or replace function run_due_schedules(
    p_limit integer default 100, p_dry_run boolean default false, p_tenant_id uuid default null
) returns table (
    schedule_id uuid, tenant_id uuid, name text, fire_times timestamptz [], task_ids uuid [], passed_over integer,
    why text
) language plpgsql as $$
#variable_conflict use_column
declare
    v_now constant timestamptz := zora_now();
    v_schedule autonomy_schedules;
    v_due timestamptz[];
    v_run timestamptz[];
    v_time timestamptz;
    v_busy boolean;
    v_task uuid;
    v_overlap timestamptz[];
    v_refused jsonb;
begin
    for v_schedule in
        select s.*
        from autonomy_schedules as s
        where s.enabled and s.next_run_at <= v_now and (p_tenant_id is null or s.tenant_id = p_tenant_id)
            and not is_paused(s.tenant_id, s.agent_id)
        order by s.next_run_at, s.id
        limit p_limit
        for update skip locked
    loop
        v_due := array(
            select u.at from unnest(v_schedule.upcoming) as u (at)
            where u.at > v_schedule.handled_until and u.at <= v_now
            order by u.at
        );
        v_run := fire_times_to_run(v_schedule, v_due, v_now);
        v_busy := is_task_unfinished(v_schedule.tenant_id, v_schedule.last_task_id);
        fire_times := '{}';
        task_ids := '{}';
        v_overlap := '{}';
        v_refused := '[]';
        foreach v_time in array v_run loop
            if v_busy and v_schedule.overlap_policy = 'skip' then
                v_overlap := v_overlap || v_time;
                continue;
            end if;
            if not p_dry_run then
                -- What is wrong with one schedule must not hold up the others.
                begin
                    v_task := create_scheduled_task(v_schedule, v_time);
                exception when data_exception or integrity_constraint_violation or sqlstate 'PT400' then
                    v_refused := v_refused || jsonb_build_object('fire_time', v_time, 'error', sqlerrm);
                    continue;
                end;
                continue when v_task is null;
                task_ids := task_ids || v_task;
            end if;
            fire_times := fire_times || v_time;
            v_busy := true;
        end loop;
        schedule_id := v_schedule.id;
        tenant_id := v_schedule.tenant_id;
        name := v_schedule.name;
        passed_over := cardinality(v_due) - cardinality(fire_times);
        why := nullif(concat_ws(', ',
            case when cardinality(v_run) < cardinality(v_due) then 'missed' end,
            case when v_overlap <> '{}' then 'overlap' end,
            case when v_refused <> '[]' then 'refused' end
        ), '');
        if not p_dry_run then
            update autonomy_schedules as s
            set handled_until = least(v_now, (select max(u.at) from unnest(s.upcoming) as u (at))),
                next_run_at = n.at,
                plan_again_at = case when n.at is not null then s.plan_again_at end,
                last_run_at = case when task_ids = '{}' then s.last_run_at else v_now end,
                last_task_id = coalesce(task_ids[cardinality(task_ids)], s.last_task_id)
            from (select min(u.at) as at from unnest(v_schedule.upcoming) as u (at) where u.at > v_now) as n
            where s.tenant_id = v_schedule.tenant_id and s.id = v_schedule.id;
            if task_ids <> '{}' or why is not null then
                perform journal_schedule(
                    v_schedule, 'executed',
                    case cardinality(task_ids)
                        when 0 then 'no task' when 1 then 'a task' else cardinality(task_ids) || ' tasks'
                    end || coalesce(' (' || why || ')', ''),
                    'scheduler',
                    jsonb_strip_nulls(jsonb_build_object(
                        'fire_times', to_jsonb(fire_times), 'task_ids', to_jsonb(task_ids),
                        'missed', fire_time_range(v_due[:cardinality(v_due) - cardinality(v_run)]),
                        'overlap', fire_time_range(v_overlap), 'refused', nullif(v_refused, '[]')
                    )),
                    task_ids
                );
            end if;
        end if;
        return next;
    end loop;
end
$$;

-- Those of the due fire times of a schedule that its misfire policy wants to be run; always the last ones.
create or replace function fire_times_to_run(
    p_schedule autonomy_schedules, p_due timestamptz [], p_now timestamptz
) returns timestamptz [] language sql stable as $$
    select case
        when p_schedule.misfire_policy = 'catch_up'
            then p_due[greatest(1, cardinality(p_due) - p_schedule.max_catch_up + 1):]
        when p_schedule.misfire_policy = 'skip'
            then array(select u.at from unnest(p_due) as u (at) where u.at >= l.late_before order by u.at)
        when p_due[1] < l.late_before then p_due[cardinality(p_due):]
        else p_due
    end
    from (select p_now - make_interval(secs => p_schedule.grace_seconds) as late_before) as l
$$;

-- Whether a task exists that has not ended.
create or replace function is_task_unfinished(p_tenant_id uuid, p_id uuid) returns boolean language sql stable as $$
    select exists (
        select from agent_tasks as t where t.tenant_id = p_tenant_id and t.id = p_id and t.state in ('p', 'i')
    )
$$;

-- The task of one fire time, or null when it has its task already.
create or replace function create_scheduled_task(
    p_schedule autonomy_schedules, p_fire_time timestamptz
) returns uuid language sql as $$
    select t.id
    from create_agent_tasks(p_schedule.tenant_id, jsonb_build_array(scheduled_task(p_schedule) || jsonb_build_object(
        'run_at', p_fire_time,
        'idempotency_key', format(
            'schedule:%s:%s', p_schedule.id, to_char(p_fire_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"')
        )
    ))) as t
    where t.created
$$;

-- What all tasks of a schedule have in common.
create or replace function scheduled_task(p_schedule autonomy_schedules) returns jsonb language sql stable as $$
    select jsonb_build_object(
        'agent_id', p_schedule.agent_id, 'task_type', p_schedule.task_type,
        'title', coalesce(p_schedule.title, p_schedule.name),
        'description', format('By the schedule %s (%s, %s).', p_schedule.name, p_schedule.cron, p_schedule.timezone),
        'payload', p_schedule.payload, 'priority', p_schedule.priority
    )
$$;

-- Fire times for the journal: how many, from when until when; null when there are none.
create or replace function fire_time_range(p_times timestamptz []) returns jsonb language sql stable as $$
    select jsonb_build_object('count', count(*), 'from', min(u.at), 'until', max(u.at))
    from unnest(p_times) as u (at)
    having count(*) > 0
$$;

-- Write what was done with a schedule into the journal.
create or replace function journal_schedule(
    p_schedule autonomy_schedules, p_what text, p_said text, p_author text, p_details jsonb default '{}',
    p_task_ids uuid [] default '{}'
) returns void language sql as $$
    insert into journal_entries (
        tenant_id, category, event_type, title, details, author, task_id, related_entity_ids, created_at
    )
    values (
        p_schedule.tenant_id, 'autonomy', 'autonomy_schedule_' || p_what,
        'Schedule ' || p_schedule.name || ': ' || p_said,
        jsonb_build_object(
            'schedule_id', p_schedule.id, 'name', p_schedule.name, 'agent_id', p_schedule.agent_id,
            'task_type', p_schedule.task_type
        ) || p_details,
        p_author, case when cardinality(p_task_ids) = 1 then p_task_ids[1] end, p_schedule.id || p_task_ids, zora_now()
    )
$$;

-- Whether there are schedules whose fire times are to be computed, and in how many seconds the next one is due (null
-- when none is): what a worker asks every few seconds.
create or replace function schedules_to_attend(
    out some_to_plan boolean, out next_due_seconds double precision
) language sql stable as $$
    select
        exists (
            select from autonomy_schedules as s
            where s.enabled and (s.plan_again_at is null or s.plan_again_at <= zora_now())
        ),
        (
            select extract(epoch from s.next_run_at - zora_now())
            from autonomy_schedules as s
            where s.enabled and s.next_run_at is not null and not is_paused(s.tenant_id, s.agent_id)
            order by s.next_run_at
            limit 1
        )
$$;

-- Up to p_limit schedules whose fire times are to be computed, of one tenant or of all, those without any first.
create or replace function list_schedules_to_plan(
    p_limit integer default 100, p_tenant_id uuid default null
) returns table (
    id uuid, tenant_id uuid, name text, cron text, timezone text, handled_until timestamptz, now timestamptz
) language sql stable as $$
    select s.id, s.tenant_id, s.name, s.cron, s.timezone, s.handled_until, zora_now()
    from autonomy_schedules as s
    where s.enabled and (s.plan_again_at is null or s.plan_again_at <= zora_now())
        and (p_tenant_id is null or s.tenant_id = p_tenant_id)
    order by s.plan_again_at nulls first, s.id
    limit p_limit
$$;

-- Take over the fire times that were computed for a schedule, or why they could not be. They are all after p_since;
-- fire times before it that have not been dealt with are too many to be kept, and dropped. Nothing happens when the
-- schedule was changed meanwhile: the change deleted its times, and they are computed again. Two callers may compute
-- the same times at once: times that have been handled meanwhile are left out.
create or replace function plan_schedule(
    p_tenant_id uuid, p_id uuid, p_cron text, p_timezone text, p_upcoming timestamptz [], p_since timestamptz,
    p_problem text default null
) returns void language plpgsql as $$
declare
    v_schedule autonomy_schedules;
begin
    select * into v_schedule
    from autonomy_schedules as s
    where s.tenant_id = p_tenant_id and s.id = p_id and s.enabled and s.cron = p_cron and s.timezone = p_timezone
    for update;
    if not found then
        return;
    end if;
    if p_since > v_schedule.handled_until then
        perform journal_schedule(
            v_schedule, 'executed', 'no task (missed)', 'scheduler',
            jsonb_build_object('missed', jsonb_build_object('from', v_schedule.handled_until, 'until', p_since))
        );
    end if;
    update autonomy_schedules as s
    set upcoming = p_upcoming,
        handled_until = greatest(s.handled_until, p_since),
        next_run_at = (
            select min(u.at) from unnest(p_upcoming) as u (at) where u.at > greatest(s.handled_until, p_since)
        ),
        plan_again_at = zora_now() + interval '1 day',
        problem = p_problem
    where s.tenant_id = p_tenant_id and s.id = p_id;
end
$$;

-- A new schedule, and one whose cron expression, time zone or state changes by whatever means, has nothing behind it:
-- its fire times begin now, and are computed anew.
create or replace function begin_schedule() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT'
        or (old.cron, old.timezone, old.enabled) is distinct from (new.cron, new.timezone, new.enabled) then
        new.upcoming := '{}';
        new.handled_until := zora_now();
        new.next_run_at := null;
        new.plan_again_at := null;
        new.problem := null;
    end if;
    return new;
end
$$;

drop trigger if exists autonomy_schedules_begin on autonomy_schedules;
create trigger autonomy_schedules_begin
before insert or update of cron, timezone, enabled on autonomy_schedules
for each row execute function begin_schedule();
