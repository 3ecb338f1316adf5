-- How a run ends, from what the worker reports and what the row says:
--   completed   the work is done, also when a cancellation came too late to stop it
--   failed      for good: another attempt cannot help, or none is left, or a person cancelled the task
--   retry       after an error, with attempts left
--   snoozed     the handler asked to be run later; the attempt does not count
--   released    the worker is shutting down and hands the task back; the attempt does not count
--   rescued     the worker vanished (see rescue_agent_tasks); the attempt does not count
create or replace function agent_task_verdict(
    p_outcome text, p_attempt integer, p_max_attempts integer, p_cancel_requested_at timestamptz
) returns text language sql immutable as $$
    select case
        when p_outcome in ('completed', 'failed') then p_outcome
        when p_cancel_requested_at is not null then 'failed'
        when p_outcome = 'error' and p_attempt >= p_max_attempts then 'failed'
        when p_outcome = 'error' then 'retry'
        else p_outcome
    end
$$;

-- Seconds until the next attempt: 5, 20, 80, … times four, at most an hour, spread by a fifth either way so that tasks
-- that failed together do not return together.
create or replace function agent_task_backoff(p_attempt integer) returns double precision language sql volatile as $$
    select least(5 * power(4, least(p_attempt, 10) - 1), 3600) * (0.8 + 0.4 * random())
$$;

-- Settle a batch of runs: outcome, journal entry, memory event and suggestions in one statement, for each task whose
-- lease token still fits. A run that lost its lease writes nothing and is missing from what is returned. Repeating a
-- settlement that was committed (its answer was lost on the way) returns its tasks again and writes nothing.
--
-- Parallel arrays, one element per run: twice as fast as a JSON array. p_outcomes holds completed, failed, error,
-- snoozed or released; p_delays (seconds) is needed for snoozed and overrides the backoff after an error. The suggestions
-- of a completed run are those in its result, an object with an array of that name.
create or replace function settle_agent_tasks(
    p_ids uuid [], p_lease_tokens uuid [], p_outcomes text [], p_summaries text [], p_results jsonb [],
    p_errors text [], p_failure_kinds text [], p_delays double precision []
) returns table (id uuid, status text, waiting_for text, run_at timestamptz) language sql as $$
    with given as (
        select g.*
        from unnest(
            p_ids, p_lease_tokens, p_outcomes, p_summaries, p_results, p_errors, p_failure_kinds, p_delays
        ) as g (id, lease_token, outcome, summary, result, error, failure_kind, delay)
    ), held as materialized (
        select g.*, agent_task_verdict(g.outcome, t.attempt, t.max_attempts, t.cancel_requested_at) as verdict
        from given as g
        inner join agent_tasks as t on t.id = g.id and t.lease_token = g.lease_token
        where t.status = 'in_progress'
        for update of t
    ), settled as (
        update agent_tasks as t
        set status = (
                case h.verdict when 'completed' then 'completed' when 'failed' then 'failed' else 'pending' end
            )::agent_task_status,
            waiting_for = case h.verdict when 'retry' then 'retry' when 'snoozed' then 'run_at' end,
            run_at = case
                when h.verdict in ('retry', 'snoozed')
                    then zora_now() + make_interval(secs => coalesce(h.delay, agent_task_backoff(t.attempt)))
                else t.run_at
            end,
            attempt = t.attempt - (h.verdict in ('snoozed', 'released', 'rescued'))::integer,
            result = case h.verdict when 'completed' then h.result else t.result end,
            result_summary = case h.verdict when 'completed' then h.summary else t.result_summary end,
            error_message = case
                when h.verdict = 'completed' then null
                when h.verdict in ('retry', 'failed') then coalesce(h.error, 'cancelled on request')
                else t.error_message
            end,
            failure_kind = case
                when h.verdict <> 'failed' then null
                when t.cancel_requested_at is not null then 'cancelled'
                else coalesce(h.failure_kind, 'error')
            end,
            completed_at = case when h.verdict in ('completed', 'failed') then zora_now() end,
            progress = case h.verdict when 'completed' then 1 end,
            progress_message = null,
            lease_expires_at = null,
            updated_at = zora_now()
        from held as h
        where t.id = h.id
        returning t.id, t.tenant_id, t.agent_id, t.task_type, t.status::text as status, t.waiting_for, t.run_at,
            h.verdict, h.result -> 'suggestions' as suggestions,
            case h.verdict
                when 'completed' then t.result_summary
                when 'snoozed' then 'to be run again at ' || t.run_at
                when 'rescued' then h.error
                else t.error_message
            end as outcome,
            case
                when t.failure_kind = 'cancelled' then 'agent_task_cancelled'
                when h.verdict = 'retry' then 'agent_task_retried'
                else 'agent_task_' || h.verdict
            end as event_type,
            jsonb_build_object(
                'task_id', t.id, 'agent_id', t.agent_id, 'task_type', t.task_type, 'status', t.status,
                'priority', t.priority,
                'attempt', t.attempt + (h.verdict in ('snoozed', 'rescued'))::integer,
                'duration_ms', round(extract(epoch from zora_now() - t.started_at) * 1000)
            ) as details
    ), journalled as (
        insert into journal_entries (
            tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
        )
        select s.tenant_id, 'agent_action', s.event_type,
            s.agent_id || ' task: ' || s.task_type || ' (' || s.status || ')', s.outcome, s.details,
            lower(s.agent_id), s.id, array[s.id], zora_now()
        from settled as s
        where s.verdict <> 'released'
    ), remembered as (
        insert into memory_events (
            tenant_id, agent, memory_type, content, tags, metadata, source_task_id, created_at
        )
        select s.tenant_id, 'EIVOR', 'result', s.agent_id || ' ' || s.task_type || ': ' || coalesce(s.outcome, ''),
            array['agent_task', s.agent_id, s.task_type, s.status], s.details, s.id, zora_now()
        from settled as s
        where s.verdict <> 'released'
    ), proposed as (
        insert into agent_suggestions (
            tenant_id, agent_id, task_id, suggestion_type, title, body, target, current_value, suggested_value,
            evidence, risk_level, created_at
        )
        select s.tenant_id, s.agent_id, s.id, p.suggestion_type, p.title, p.body, coalesce(p.target, '{}'),
            p.current_value, p.suggested_value, p.evidence, p.risk_level, zora_now()
        from settled as s
        cross join lateral jsonb_to_recordset(s.suggestions) as p (
            suggestion_type text, title text, body text, target jsonb, current_value jsonb, suggested_value jsonb,
            evidence jsonb, risk_level text
        )
        where s.verdict = 'completed' and s.suggestions <> '[]'
        returning agent_suggestions.*
    ), proposals_journalled as (
        insert into journal_entries (
            tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
        )
        select p.tenant_id, 'agent_action', 'agent_suggestion_created', p.agent_id || ' suggests: ' || p.title, p.body,
            jsonb_build_object('suggestion_id', p.id, 'suggestion_type', p.suggestion_type, 'target', p.target,
                'risk_level', p.risk_level, 'status', p.status),
            lower(p.agent_id), p.task_id, array[p.id, p.task_id], zora_now()
        from proposed as p
    ), announced as (
        select pg_notify('agent_tasks', r.tenant_id::text)
        from (select distinct s.tenant_id from settled as s where s.verdict in ('released', 'rescued')) as r
    )
    select s.id, s.status, s.waiting_for, s.run_at
    from settled as s
    where (select count(*) from announced) is not null
    union all
    select t.id, t.status::text, t.waiting_for, t.run_at
    from given as g
    inner join agent_tasks as t on t.id = g.id and t.lease_token = g.lease_token
    where t.status <> 'in_progress'
$$;
