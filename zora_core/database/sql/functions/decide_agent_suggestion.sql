-- People decide on suggestions, and what they approved is done: once, wholly, and only if it is still what they saw.
--
--   proposed ─ approve ─► approved ─ apply_effect() ─► applied ─ undo ─► applied, undone_at set
--       │ reject, deadline     └ the target changed ─► superseded, and a new proposal with what is there now
--       └─► rejected, expired
--
-- Approval and application are one transaction. Only a pause comes between them; then a worker applies afterwards
-- (attend_agent_suggestions). Plain advice has no effect and stays approved.

-- A person by their e-mail address, as the journal names authors; user:<id> when a token names somebody who is not ours.
create or replace function user_name(p_tenant_id uuid, p_user_id uuid) returns text language sql stable as $$
    select coalesce(
        (select u.email from users as u where u.tenant_id = p_tenant_id and u.id = p_user_id),
        'user:' || p_user_id::text,
        'operator'
    )
$$;

-- Write what became of a suggestion into the journal.
create or replace function journal_suggestion(
    p_tenant_id uuid, p_id uuid, p_event_type text, p_author text, p_body text, p_details jsonb default '{}'
) returns void language sql as $$
    insert into journal_entries (
        tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
    )
    select s.tenant_id, 'decision', p_event_type,
        initcap(replace(replace(p_event_type, 'agent_suggestion_', ''), '_', ' ')) || ': ' || s.title, p_body,
        jsonb_build_object(
            'suggestion_id', s.id, 'suggestion_type', s.suggestion_type, 'agent_id', s.agent_id, 'target', s.target,
            'risk_level', s.risk_level, 'status', s.status, 'effect_digest', s.effect_digest,
            'decided_by', s.decided_as
        ) || p_details,
        p_author, s.task_id, array_remove(array[s.id, s.task_id], null), zora_now()
    from agent_suggestions as s
    where s.tenant_id = p_tenant_id and s.id = p_id
$$;

-- EIVOR remembers a decision, so that it can be found and learnt from.
create or replace function remember_decision(
    p_tenant_id uuid, p_id uuid, p_decision text, p_reason text default null
) returns void language sql as $$
    insert into memory_events (tenant_id, agent, memory_type, content, tags, metadata, source_task_id, created_at)
    select s.tenant_id, 'EIVOR', 'decision',
        format('%s %s: %s%s', s.decided_as, p_decision, s.title, coalesce(' - ' || nullif(p_reason, ''), '')),
        array['agent_suggestion', s.agent_id, s.suggestion_type, p_decision],
        jsonb_build_object('suggestion_id', s.id, 'effect_digest', s.effect_digest), s.task_id, zora_now()
    from agent_suggestions as s
    where s.tenant_id = p_tenant_id and s.id = p_id
$$;

-- Raise PT403 unless this user may decide. Callers have authenticated an unknown user by a token.
create or replace function check_may_decide(p_tenant_id uuid, p_user_id uuid) returns void language plpgsql stable as $$
declare
    v_role text;
begin
    select u.role into v_role from users as u where u.tenant_id = p_tenant_id and u.id = p_user_id;
    if v_role not in ('founder', 'brand_admin') then
        raise exception 'suggestions are decided by a founder or a brand admin, not by a %', v_role
            using errcode = 'PT403';
    end if;
end
$$;

-- Carry out an approved suggestion, once, and return it as it is then; unchanged while its agent is paused. When its
-- target is no longer what the approver saw, it is superseded instead, and proposed anew on what is there now where that
-- makes sense: when all that differs is the present value of what it would change, or the task that it would let run.
-- Internal: call decide_agent_suggestion() or attend_agent_suggestions().
create or replace function apply_agent_suggestion(
    p_tenant_id uuid, p_id uuid, p_user_id uuid default null
) returns setof agent_suggestions language plpgsql as $$
declare
    v_suggestion agent_suggestions;
    v_conflicts jsonb;
    v_inverse jsonb;
    v_changes jsonb;
    v_done boolean;
    v_next agent_suggestions;
    v_asked uuid;
begin
    select * into v_suggestion from agent_suggestions as s
    where s.tenant_id = p_tenant_id and s.id = p_id and s.status = 'approved'
    for update;
    if not found then
        raise exception 'suggestion % is not approved', p_id using errcode = 'PT409';
    elsif v_suggestion.effect is null or is_paused(p_tenant_id, v_suggestion.agent_id) then
        return next v_suggestion;
        return;
    end if;
    select a.conflicts, a.inverse into v_conflicts, v_inverse
    from apply_effect(p_tenant_id, v_suggestion.effect, p_user_id) as a;

    if v_conflicts is null then
        update agent_suggestions as s
        set status = 'applied', applied_at = zora_now(), inverse = v_inverse
        where s.tenant_id = p_tenant_id and s.id = p_id
        returning * into v_suggestion;
        perform journal_suggestion(p_tenant_id, p_id, 'agent_suggestion_applied', v_suggestion.decided_as, null);
        return next v_suggestion;
        return;
    end if;

    -- Every change that can be made on what is there now, made on it; a change that is there already is left out. It makes no
    -- sense when something changed that the decision rests on and does not write, nor for a list, which was made from the
    -- one that was there: what has been added since would be lost.
    select
        jsonb_agg(c.change || case
            when x.found is null then '{}'
            else jsonb_build_object('before', (c.change -> 'before') || (
                select jsonb_object_agg(f.key, f.value) from jsonb_each(x.found) as f where c.change -> 'before' ? f.key
            ))
        end order by c.number) filter (where x.change is null or x.done is not true),
        bool_and(c.change ->> 'op' = 'update' and x.found is not null and x.only_written) filter (where x.change is not null)
    into v_changes, v_done
    from jsonb_array_elements(v_suggestion.effect -> 'changes') with ordinality as c (change, number)
    left join (
        select e.change, e.found,
            (
                select bool_and(
                    f.value = e.expected -> f.key or w.value is not null and jsonb_typeof(w.value) <> 'array'
                )
                from jsonb_each(e.found) as f
                left join jsonb_each(e.change -> 'after') as w on w.key = f.key
            ) as only_written,
            (
                select bool_and(f.value = w.value or w.key like '%\_at' and w.value = '"now"' and f.value <> 'null')
                from jsonb_each(e.change -> 'after') as w
                inner join jsonb_each(e.found) as f on f.key = w.key
            ) as done
        from (
            select c.conflict -> 'change' as change, c.conflict -> 'expected' as expected,
                nullif(c.conflict -> 'found', 'null') as found
            from jsonb_array_elements(v_conflicts) as c (conflict)
        ) as e
    ) as x on x.change = c.change;

    if v_done and v_changes is not null then
        insert into agent_suggestions (
            tenant_id, agent_id, task_id, suggestion_type, title, body, target, suggested_value, findings, evidence,
            risk_level, effect, expires_at, remind_at, supersedes, key, subject, proposed_as, created_at
        )
        values (
            v_suggestion.tenant_id, v_suggestion.agent_id, v_suggestion.task_id, v_suggestion.suggestion_type,
            v_suggestion.title, v_suggestion.body, v_suggestion.target,
            coalesce(v_suggestion.edited_value, v_suggestion.suggested_value), v_suggestion.findings,
            v_suggestion.evidence, v_suggestion.risk_level, jsonb_build_object('changes', v_changes),
            zora_now() + (v_suggestion.expires_at - v_suggestion.created_at),
            zora_now() + (v_suggestion.expires_at - v_suggestion.created_at) * 0.75, v_suggestion.id,
            v_suggestion.key, v_suggestion.subject, v_suggestion.proposed_as, zora_now()
        )
        on conflict (tenant_id, key) where status = 'proposed' do nothing
        returning * into v_next;
    end if;

    if v_suggestion.suggestion_type = 'run_task' then
        -- A task that goes on waiting for approval asks again, as it is now; else nothing would ever let it run.
        select ask_to_run(
            p_tenant_id, t.id, t.agent_id, t.task_type, t.title, t.payload, 'which has changed since a person was asked'
        ) into v_asked
        from agent_tasks as t
        where t.tenant_id = p_tenant_id and t.id = v_suggestion.task_id and t.status = 'pending'
            and t.waiting_for = 'approval';
        update agent_suggestions as s set supersedes = p_id where s.tenant_id = p_tenant_id and s.id = v_asked;
    end if;

    update agent_suggestions as s
    set status = 'superseded', superseded_by = coalesce(v_next.id, v_asked)
    where s.tenant_id = p_tenant_id and s.id = p_id
    returning * into v_suggestion;
    perform journal_suggestion(
        p_tenant_id, p_id, 'agent_suggestion_superseded', v_suggestion.decided_as,
        case
            when coalesce(v_next.id, v_asked) is not null
                then 'its target had changed; it is proposed anew on what is there now'
            when v_done then 'everything is as it proposed already'
            else 'its target is gone, or is no longer in a state in which this can be done'
        end,
        jsonb_build_object('conflicts', v_conflicts, 'superseded_by', v_suggestion.superseded_by)
    );
    if v_next.id is not null then
        perform journal_suggestion(
            p_tenant_id, v_next.id, 'agent_suggestion_created', lower(v_next.agent_id), v_next.body,
            jsonb_build_object('supersedes', v_suggestion.id)
        );
    end if;
    return next v_suggestion;
end
$$;

-- Decide on a suggestion: approve (with the digest of the effect that the approver saw, or with an edited value and its
-- effect, which may change values but nothing else) or reject, with a reason. One decision wins; a second one is PT409,
-- as is one on a suggestion whose effect is no longer the one that was seen. Returns the suggestion as it is then:
-- applied; approved, when it has no effect or the agent is paused; superseded, when its target had changed; rejected.
create or replace function decide_agent_suggestion(
    p_tenant_id uuid, p_id uuid, p_decision text, p_digest text default null, p_reason text default null,
    p_edited_value jsonb default null, p_edited_effect jsonb default null, p_user_id uuid default null
) returns setof agent_suggestions language plpgsql set lock_timeout = '2s' as $$
declare
    v_suggestion agent_suggestions;
    v_author constant text := user_name(p_tenant_id, p_user_id);
    v_edited record;
begin
    if p_decision not in ('approve', 'reject') or p_decision is null then
        raise exception 'a decision is approve or reject, not %', quote_nullable(p_decision) using errcode = 'PT400';
    elsif p_decision = 'reject' and coalesce(trim(p_reason), '') = '' then
        raise exception 'a rejection needs a reason, from which the agents learn' using errcode = 'PT400';
    elsif p_decision = 'approve' and p_digest is null then
        raise exception 'an approval needs the effect_digest of what was seen' using errcode = 'PT400';
    end if;
    perform check_may_decide(p_tenant_id, p_user_id);
    select * into v_suggestion from agent_suggestions as s where s.tenant_id = p_tenant_id and s.id = p_id for update;
    if not found then
        raise exception 'no suggestion %', p_id using errcode = 'PT404';
    elsif v_suggestion.status <> 'proposed' then
        raise exception 'suggestion % is % already%', p_id, v_suggestion.status,
            coalesce(', decided by ' || v_suggestion.decided_as, '') using errcode = 'PT409';
    elsif v_suggestion.expires_at <= zora_now() then
        raise exception 'the time to decide on suggestion % has passed', p_id using errcode = 'PT409';
    elsif p_digest <> v_suggestion.effect_digest then
        raise exception 'suggestion % is not the one that was seen: its effect has the digest %, not %', p_id,
            v_suggestion.effect_digest, p_digest using errcode = 'PT409';
    end if;
    select * into v_edited from prepare_effect(p_tenant_id, p_edited_effect);
    if coalesce(v_edited.problem, v_edited.missing) is not null then
        raise exception 'suggestion % cannot be edited: %', p_id, coalesce(v_edited.problem, v_edited.missing)
            using errcode = case when v_edited.passing then 'PT409' else 'PT400' end;
    elsif p_edited_value is not null and (
        v_suggestion.effect is null or v_edited.effect is null or (
            select count(*) <> count(c.change) or count(*) <> count(o.change) or not coalesce(bool_and(
                c.change - array['before', 'after', 'row', 'tasks', 'workflow']
                = o.change - array['before', 'after', 'row', 'tasks', 'workflow']
                and c.change ->> 'op' <> 'release_task'
                and coalesce(c.change -> 'before', '{}') @> coalesce(o.change -> 'before', '{}')
            ), false)
            from jsonb_array_elements(v_edited.effect -> 'changes') with ordinality as c (change, number)
            full join jsonb_array_elements(v_suggestion.effect -> 'changes') with ordinality as o (change, number)
                on o.number = c.number
        )
    ) then
        raise exception 'an edit of suggestion % may change values, not what is changed', p_id using errcode = 'PT400';
    end if;

    update agent_suggestions as s
    set status = case p_decision when 'approve' then 'approved' else 'rejected' end, reason = nullif(trim(p_reason), ''),
        decided_by = (select u.id from users as u where u.tenant_id = p_tenant_id and u.id = p_user_id),
        decided_as = v_author, decided_at = zora_now(), edited_value = p_edited_value,
        effect = case when p_edited_value is null then s.effect else v_edited.effect end
    where s.tenant_id = p_tenant_id and s.id = p_id
    returning * into v_suggestion;
    perform journal_suggestion(
        p_tenant_id, p_id, 'agent_suggestion_' || v_suggestion.status, v_author, v_suggestion.reason,
        jsonb_strip_nulls(jsonb_build_object('seen_digest', p_digest, 'edited_value', p_edited_value))
            || jsonb_build_object('by_user_id', p_user_id)
    );
    perform remember_decision(p_tenant_id, p_id, v_suggestion.status, v_suggestion.reason);

    if v_suggestion.status = 'approved' then
        begin
            select * into v_suggestion from apply_agent_suggestion(p_tenant_id, p_id, p_user_id);
        exception
            when others or assert_failure then
                if may_pass(sqlstate) and sqlstate <> '55P03' then
                    raise;
                end if;
                raise exception 'suggestion % cannot be applied: %', p_id, left(sqlerrm, 1000) using errcode = 'PT409';
        end;
    elsif v_suggestion.suggestion_type = 'run_task' then
        perform reject_agent_task(p_tenant_id, v_suggestion.task_id, v_suggestion.decided_as, v_suggestion.reason);
    end if;
    perform announce_agent_tasks(p_tenant_id);
    return next v_suggestion;
end
$$;

-- What people decided on suggestions of a type, the last decision first.
create or replace function list_decisions(
    p_tenant_id uuid, p_suggestion_type text, p_limit integer default 100
) returns setof agent_suggestions language sql stable as $$
    select s.*
    from agent_suggestions as s
    where s.tenant_id = p_tenant_id and s.suggestion_type = p_suggestion_type
        and s.status in ('approved', 'applied', 'rejected') and s.decided_as <> 'policy'
    order by s.decided_at desc, s.id desc
    limit p_limit
$$;

-- A task that may not run fails, as rejected, and cannot be retried.
create or replace function reject_agent_task(
    p_tenant_id uuid, p_id uuid, p_author text, p_reason text
) returns void language plpgsql as $$
begin
    with rejected as (
        update agent_tasks as t
        set status = 'failed', waiting_for = null, failure_kind = 'rejected', completed_at = zora_now(),
            updated_at = zora_now(),
            error_message = format('rejected by %s: %s', p_author, p_reason)
        where t.tenant_id = p_tenant_id and t.id = p_id and t.status = 'pending'
        returning t.*
    )
    insert into journal_entries (
        tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
    )
    select r.tenant_id, 'agent_action', 'agent_task_failed', r.agent_id || ' task: ' || r.task_type || ' (failed)',
        r.error_message,
        jsonb_build_object('task_id', r.id, 'agent_id', r.agent_id, 'task_type', r.task_type, 'status', 'failed',
            'priority', r.priority, 'attempt', r.attempt),
        lower(r.agent_id), r.id, array[r.id], zora_now()
    from rejected as r;
    perform release_dependents(p_tenant_id, array[p_id], array[false]);
    perform finish_workflow_runs(p_tenant_id, array[t.workflow_run_id])
    from agent_tasks as t
    where t.tenant_id = p_tenant_id and t.id = p_id and t.workflow_run_id is not null;
end
$$;

-- Take an applied suggestion back, unless something has changed since that depends on it (PT409), or nothing takes it
-- back.
create or replace function undo_agent_suggestion(
    p_tenant_id uuid, p_id uuid, p_reason text default null, p_user_id uuid default null
) returns setof agent_suggestions language plpgsql set lock_timeout = '2s' as $$
declare
    v_suggestion agent_suggestions;
    v_conflicts jsonb;
begin
    perform check_may_decide(p_tenant_id, p_user_id);
    select * into v_suggestion from agent_suggestions as s where s.tenant_id = p_tenant_id and s.id = p_id for update;
    if not found then
        raise exception 'no suggestion %', p_id using errcode = 'PT404';
    elsif v_suggestion.status <> 'applied' then
        raise exception 'suggestion % is %: only an applied one can be undone', p_id, v_suggestion.status
            using errcode = 'PT409';
    elsif v_suggestion.undone_at is not null then
        raise exception 'suggestion % was undone at %', p_id, v_suggestion.undone_at using errcode = 'PT409';
    elsif v_suggestion.inverse is null then
        raise exception 'suggestion % cannot be undone', p_id using errcode = 'PT409';
    end if;
    begin
        select a.conflicts into v_conflicts from apply_effect(p_tenant_id, v_suggestion.inverse, p_user_id) as a;
    exception
        when foreign_key_violation then
            raise exception 'suggestion % cannot be undone: something else refers to what it made', p_id
                using errcode = 'PT409';
        when others or assert_failure then
            if may_pass(sqlstate) and sqlstate <> '55P03' then
                raise;
            end if;
            raise exception 'suggestion % cannot be undone: %', p_id, left(sqlerrm, 1000) using errcode = 'PT409';
    end;
    if v_conflicts is not null then
        raise exception 'suggestion % cannot be undone: % has changed since', p_id, coalesce(
            v_conflicts -> 0 -> 'change' ->> 'table' || ' ' || coalesce(
                v_conflicts -> 0 -> 'change' ->> 'key', v_conflicts -> 0 -> 'change' -> 'row' ->> 'id'
            ),
            'one of its tasks'
        ) using errcode = 'PT409';
    end if;
    update agent_suggestions as s
    set undone_at = zora_now(),
        undone_by = (select u.id from users as u where u.tenant_id = p_tenant_id and u.id = p_user_id)
    where s.tenant_id = p_tenant_id and s.id = p_id
    returning * into v_suggestion;
    perform journal_suggestion(
        p_tenant_id, p_id, 'agent_suggestion_undone', user_name(p_tenant_id, p_user_id), p_reason,
        jsonb_build_object('by_user_id', p_user_id)
    );
    perform remember_decision(p_tenant_id, p_id, 'undone', p_reason);
    perform announce_agent_tasks(p_tenant_id);
    return next v_suggestion;
end
$$;

-- Run by any worker for all tenants: apply suggestions approved by a policy or during a pause, expire those without a
-- decision in time, and remind of those with a quarter of their time left. Returns the number of each.
--
-- What cannot be applied is superseded, whatever the database says of it; what may be possible later is tried again the next
-- time, after everything that was not tried yet. Neither stands in the way of the rest: nothing waits for what another session
-- has locked, and at most five are put off at a time.
create or replace function attend_agent_suggestions(
    p_limit integer default 100
) returns table (applied integer, expired integer, reminded integer) language plpgsql as $$
declare
    v_lock_timeout constant text := current_setting('lock_timeout');
    v_suggestion agent_suggestions;
    v_put_off integer := 0;
begin
    applied := 0;
    expired := 0;
    reminded := 0;
    for v_suggestion in
        select s.*
        from agent_suggestions as s
        where s.status = 'approved' and s.effect is not null and not is_paused(s.tenant_id, s.agent_id)
        order by s.tried_at nulls first, s.decided_at, s.id
        limit p_limit
        for update skip locked
    loop
        begin
            perform set_config('lock_timeout', '20ms', true);
            if v_suggestion.decided_as = 'policy' then
                perform journal_suggestion(
                    v_suggestion.tenant_id, v_suggestion.id, 'agent_suggestion_approved', 'policy',
                    'a policy allows it without asking'
                );
                perform remember_decision(v_suggestion.tenant_id, v_suggestion.id, 'approved');
            end if;
            applied := applied + (
                select count(*) from apply_agent_suggestion(
                    v_suggestion.tenant_id, v_suggestion.id, v_suggestion.decided_by
                ) as a
                where a.status = 'applied'
            );
            perform set_config('lock_timeout', v_lock_timeout, true);
        exception
            when others or assert_failure or query_canceled then
                update agent_suggestions as s
                set tried_at = zora_now(), status = case when may_pass(sqlstate) then s.status else 'superseded' end
                where s.tenant_id = v_suggestion.tenant_id and s.id = v_suggestion.id;
                if may_pass(sqlstate) then
                    -- After query_canceled, the statement has had its time.
                    v_put_off := v_put_off + case when sqlstate = '57014' then 5 else 1 end;
                else
                    perform journal_suggestion(
                        v_suggestion.tenant_id, v_suggestion.id, 'agent_suggestion_superseded', 'zora',
                        'it could not be applied: ' || left(sqlerrm, 1000)
                    );
                end if;
        end;
        perform announce_agent_tasks(v_suggestion.tenant_id);
        exit when v_put_off >= 5;
    end loop;

    for v_suggestion in
        select s.*
        from agent_suggestions as s
        where s.status = 'proposed' and s.expires_at <= zora_now()
        order by s.expires_at
        limit p_limit
        for update skip locked
    loop
        update agent_suggestions as s
        set status = 'expired'
        where s.tenant_id = v_suggestion.tenant_id and s.id = v_suggestion.id;
        perform journal_suggestion(
            v_suggestion.tenant_id, v_suggestion.id, 'agent_suggestion_expired', 'zora', 'nobody decided in time'
        );
        perform announce_agent_tasks(v_suggestion.tenant_id);
        expired := expired + 1;
    end loop;

    for v_suggestion in
        select s.*
        from agent_suggestions as s
        where s.status = 'proposed' and s.remind_at <= zora_now()
        order by s.remind_at
        limit p_limit
        for update skip locked
    loop
        update agent_suggestions as s
        set remind_at = null
        where s.tenant_id = v_suggestion.tenant_id and s.id = v_suggestion.id;
        perform journal_suggestion(
            v_suggestion.tenant_id, v_suggestion.id, 'agent_suggestion_due', 'zora', 'waits for a decision',
            jsonb_build_object('expires_at', v_suggestion.expires_at)
        );
        perform announce_agent_tasks(v_suggestion.tenant_id);
        reminded := reminded + 1;
    end loop;
    return next;
end
$$;
