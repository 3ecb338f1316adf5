-- How a run ends, from what the worker reports and what the row says:
--   completed   the work is done, also when a cancellation came too late to stop it
--   failed      for good: another attempt cannot help, or none is left, or a person cancelled the task
--   retry       after an error, with attempts left
--   delegated   the handler asked to be resumed when its children have ended; the attempt does not count
--   snoozed     the handler asked to be run later; the attempt does not count
--   released    the worker is shutting down and hands the task back; the attempt does not count
--   rescued     the worker vanished (see rescue_agent_tasks); the attempt does not count
create or replace function agent_task_verdict(
    p_outcome text, p_attempt integer, p_max_attempts integer, p_cancel_requested_at timestamptz
) returns text language sql immutable
begin atomic
    select case
        when p_outcome in ('completed', 'failed') then p_outcome
        when p_cancel_requested_at is not null then 'failed'
        when p_outcome = 'error' and p_attempt >= p_max_attempts then 'failed'
        when p_outcome = 'error' then 'retry'
        else p_outcome
    end;
end;

-- Seconds until the next attempt: 5, 20, 80, … times four, at most an hour, spread by a fifth either way so that tasks
-- that failed together do not return together.
create or replace function agent_task_backoff(p_attempt integer) returns double precision language sql volatile as $$
    select least(5 * power(4, least(p_attempt, 10) - 1), 3600) * (0.8 + 0.4 * random())
$$;

-- Settle a batch of runs: outcome, journal entry, memory event, suggestions and the release of what waits for it, in one
-- statement, for each task whose lease token still fits. A run that lost its lease writes nothing and is missing from
-- what is returned. Repeating a settlement that was committed (its answer was lost on the way) returns its tasks again
-- and writes nothing.
--
-- Parallel arrays, one element per run: twice as fast as a JSON array. p_outcomes holds completed, failed, error, delegated,
-- snoozed or released; p_delays (seconds) is needed for snoozed and overrides the backoff after an error. The suggestions
-- of a completed run are those in its result, an object with an array of that name, each with its effect; see
-- keep_agent_suggestions(). Those that a policy allows are approved by it, which the summary says; a worker applies them
-- (attend_agent_suggestions). An effect that cannot be stored fails the task, or the attempt when the reason may pass, and
-- nothing of its result is stored. The result of a delegated run is what delegate_agent_task() takes; when it refuses, the
-- task fails.
create or replace function settle_agent_tasks(
    p_ids uuid [], p_lease_tokens uuid [], p_outcomes text [], p_summaries text [], p_results jsonb [],
    p_errors text [], p_failure_kinds text [], p_delays double precision []
) returns table (id uuid, lease_token uuid, status text, waiting_for text, run_at timestamptz) language sql as $$
    with reported as (
        select g.*,
            case g.outcome
                when 'delegated' then delegate_agent_task(g.id, g.lease_token, g.result)
                when 'completed' then case
                    when g.result -> 'suggestions' <> '[]' or g.result ? 'examined'
                        then keep_agent_suggestions(g.id, g.lease_token, g.result)
                end
            end as answer
        from unnest(
            p_ids, p_lease_tokens, p_outcomes, p_summaries, p_results, p_errors, p_failure_kinds, p_delays
        ) as g (id, lease_token, outcome, summary, result, error, failure_kind, delay)
    ), given as materialized (
        select r.id, r.lease_token,
            case
                when r.answer ->> 'refusal' is null then r.outcome
                when (r.answer ->> 'passing')::boolean then 'error'
                else 'failed'
            end as outcome,
            nullif(concat_ws(' ', r.summary, r.answer ->> 'note'), '') as summary,
            case when jsonb_typeof(r.result) = 'object' then r.result - 'examined' else r.result end as result,
            coalesce(r.answer ->> 'refusal', r.error) as error,
            case when r.answer ? 'refusal' then 'error' else r.failure_kind end as failure_kind, r.delay,
            r.answer -> 'children' as children
        from reported as r
    ), settled as (
        update agent_tasks as t
        set (
            status, waiting_for, run_at, attempt, result, result_summary, error_message, failure_kind, completed_at,
            progress, progress_message, lease_expires_at, updated_at, round, children_left, resume_with
        ) = (
            select
                case when v.verdict in ('completed', 'failed') then v.verdict::agent_task_status else 'pending' end,
                case v.verdict when 'retry' then 'retry' when 'snoozed' then 'run_at' when 'delegated' then 'children' end,
                case
                    when v.verdict in ('retry', 'snoozed')
                        then zora_now() + make_interval(secs => coalesce(g.delay, agent_task_backoff(t.attempt)))
                    else t.run_at
                end,
                t.attempt - (v.verdict in ('delegated', 'snoozed', 'released', 'rescued'))::integer,
                case v.verdict when 'completed' then g.result else t.result end,
                case v.verdict when 'completed' then g.summary else t.result_summary end,
                case
                    when v.verdict = 'completed' then null
                    when v.verdict in ('retry', 'failed') then coalesce(g.error, 'cancelled on request')
                    else t.error_message
                end,
                case
                    when v.verdict <> 'failed' then null
                    when t.cancel_requested_at is not null then 'cancelled'
                    else coalesce(g.failure_kind, 'error')
                end,
                case when v.verdict in ('completed', 'failed') then zora_now() end,
                case v.verdict when 'completed' then 1 end,
                null::text,
                null::timestamptz,
                zora_now(),
                t.round + (v.verdict = 'delegated')::integer,
                case v.verdict
                    when 'delegated' then (select count(*) from jsonb_object_keys(g.children)) else t.children_left
                end,
                case v.verdict when 'delegated' then g.result -> 'then' else t.resume_with end
            from agent_task_verdict(g.outcome, t.attempt, t.max_attempts, t.cancel_requested_at) as v (verdict)
        )
        from given as g
        -- As text, because the planner would else read the index of all running tasks, dead entries included.
        where t.id = g.id and t.lease_token = g.lease_token and t.status::text = 'in_progress'
        returning t.id, t.lease_token, t.tenant_id, t.agent_id, t.task_type, t.status::text as status, t.waiting_for, t.run_at,
            t.priority, t.attempt, t.started_at, t.failure_kind, t.result, t.result_summary, t.has_dependents,
            t.workflow_run_id, coalesce(g.error, t.error_message) as error, g.children,
            case
                when t.status <> 'pending' then t.status::text
                when g.outcome = 'error' then 'retry'
                else g.outcome
            end as verdict
    ), ended as materialized (
        select s.id, s.tenant_id, s.agent_id, s.task_type, s.status, s.verdict,
            case s.verdict
                when 'completed' then s.result_summary
                when 'snoozed' then 'to be run again at ' || s.run_at
                when 'delegated' then 'to be resumed when the tasks to which it delegated have ended: '
                    || (select string_agg(c.key, ', ' order by c.key) from jsonb_object_keys(s.children) as c (key))
                else s.error
            end as outcome,
            case
                when s.failure_kind = 'cancelled' then 'agent_task_cancelled'
                when s.verdict = 'retry' then 'agent_task_retried'
                else 'agent_task_' || s.verdict
            end as event_type,
            jsonb_build_object(
                'task_id', s.id, 'agent_id', s.agent_id, 'task_type', s.task_type, 'status', s.status,
                'priority', s.priority,
                'attempt', s.attempt + (s.verdict in ('delegated', 'snoozed', 'rescued'))::integer,
                'duration_ms', round(extract(epoch from zora_now() - s.started_at) * 1000)
            ) || case s.verdict when 'delegated' then jsonb_build_object('children', s.children) else '{}' end as details,
            array[s.id] || case s.verdict
                when 'delegated' then array(select c.id::uuid from jsonb_each_text(s.children) as c (key, id))
            end as related
        from settled as s
        where s.verdict <> 'released'
    ), journalled as (
        insert into journal_entries (
            tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
        )
        select e.tenant_id, 'agent_action', e.event_type,
            e.agent_id || ' task: ' || e.task_type || ' (' || e.status || ')', e.outcome, e.details,
            lower(e.agent_id), e.id, e.related, zora_now()
        from ended as e
    ), remembered as (
        insert into memory_events (
            tenant_id, agent, memory_type, content, tags, metadata, source_task_id, created_at
        )
        select e.tenant_id, 'EIVOR', 'result', e.agent_id || ' ' || e.task_type || ': ' || coalesce(e.outcome, ''),
            array['agent_task', e.agent_id, e.task_type, e.status], e.details, e.id, zora_now()
        from ended as e
    ), released as (
        select release_dependents(d.tenant_id, d.ids, d.completed)
        from (
            select s.tenant_id, array_agg(s.id) as ids, array_agg(s.status = 'completed') as completed
            from settled as s
            where s.has_dependents and s.status <> 'pending'
            group by s.tenant_id
        ) as d
    ), finished as (
        select finish_workflow_runs(r.tenant_id, r.runs)
        from (
            select s.tenant_id, array_agg(distinct s.workflow_run_id) as runs
            from settled as s
            where s.workflow_run_id is not null and s.status <> 'pending'
            group by s.tenant_id
        ) as r
    ), announced as (
        select pg_notify('agent_tasks', r.tenant_id::text)
        from (select distinct s.tenant_id from settled as s where s.verdict in ('released', 'rescued')) as r
    ), shown as (
        select announce_agent_tasks(r.tenant_id) from (select distinct s.tenant_id from settled as s) as r
    )
    select s.id, s.lease_token, s.status, s.waiting_for, s.run_at
    from settled as s
    where (select count(*) from announced) is not null and (select count(*) from shown) is not null
        and (select count(*) from released) is not null and (select count(*) from finished) is not null
    union all
    select t.id, t.lease_token, t.status::text, t.waiting_for, t.run_at
    from given as g
    inner join agent_tasks as t on t.id = g.id and t.lease_token = g.lease_token
    where t.status::text <> 'in_progress'
$$;
