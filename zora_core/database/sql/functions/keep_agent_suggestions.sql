-- From what a run proposes to what waits for people. Identity, not wording, says which proposals are the same: `key`,
-- which holds no positions and no counts, so that an edit elsewhere in a text makes nothing new of what is known.
--
--   open, and still the same             nothing is stored
--   open, and something of it differs    the new proposal takes its place (superseded)
--   rejected or agreed, on the same      nothing is stored, until it rests on something that the decision did not
--   examined again and not found again   closed: superseded with the reason, or agreed advice marked as done

-- What a proposal is the same as when its maker does not say: the same change of the same target.
create or replace function suggestion_key(
    p_agent_id text, p_suggestion_type text, p_target jsonb, p_value jsonb
) returns text language sql immutable parallel safe as $$
    select text_digest(
        p_agent_id || E'\n' || p_suggestion_type || E'\n' || p_target::text || E'\n' || coalesce(p_value::text, '')
    )
$$;

-- A key or subject that an agent gives, as it is stored: those of different task types are different.
create or replace function run_key(
    p_agent_id text, p_task_type text, p_key text
) returns text language sql immutable strict parallel safe as $$
    select text_digest(p_agent_id || E'\n' || p_task_type || E'\n' || p_key)
$$;

-- The last of these keys; what one run finds several times on the same gets a number from the second on.
create or replace function numbered_key(p_keys text []) returns text language sql immutable parallel safe as $$
    select p_keys[cardinality(p_keys)]
        || case when n.times > 1 then ' ' || n.times else '' end
    from cardinality(array_positions(p_keys, p_keys[cardinality(p_keys)])) as n (times)
$$;

-- A sentence reduced to its words: no case, spacing, hyphens or punctuation marks around words; see folded() in models.py.
create or replace function folded(p_text text) returns text language sql immutable strict parallel safe as $$
    select trim(regexp_replace(regexp_replace(regexp_replace(regexp_replace(
        lower(p_text), '\u00AD', '', 'g'),
        '(?<![0-9\s\u00A0])[-\u2010-\u2014](?![0-9\s\u00A0])', ' ', 'g'),
        '(?<![^\s\u00A0])[.,;:!?()\[\]"''\u2018-\u201F\u00AB\u00BB\u2026]+(?![0-9])'
        '|[.,;:!?()\[\]"''\u2018-\u201F\u00AB\u00BB\u2026]+(?![^\s\u00A0])', ' ', 'g'),
        '[\s\u00A0\u202F]+', ' ', 'g'))
$$;

-- What evidence rests on, piece by piece, without where it stands and without measured values: a quoted text, an element's
-- start tag, a line, rows, the name of a figure.
create or replace function evidence_grounds(p_evidence jsonb) returns text [] language sql immutable parallel safe as $$
    select coalesce(array_agg(distinct g.ground order by g.ground), '{}')
    from jsonb_array_elements(p_evidence) as e (piece)
    cross join lateral (
        select case
            when jsonb_typeof(e.piece) <> 'object' then e.piece::text
            when e.piece ->> 'kind' = 'quote' then concat_ws(E'\n', 'quote',
                regexp_replace(e.piece ->> 'source', '\[[0-9]+\]$', ''),
                folded(e.piece ->> 'text'))
            when e.piece ->> 'kind' = 'element' then concat_ws(E'\n', 'element', e.piece ->> 'source',
                coalesce(substring(e.piece ->> 'html', '^\s*<[^>]*>?'), e.piece ->> 'selector'))
            when e.piece ->> 'kind' = 'file' then concat_ws(E'\n', 'file', e.piece ->> 'path',
                trim(regexp_replace(e.piece ->> 'text', '\s+', ' ', 'g')))
            when e.piece ->> 'kind' = 'metric' then concat_ws(E'\n', 'metric', e.piece ->> 'name', e.piece ->> 'unit',
                e.piece ->> 'source')
            else (e.piece - 'read')::text
        end as ground
    ) as g
$$;

-- Whether two objects have the same value under every key that both have; values that are not objects must be equal.
create or replace function agree(p_one jsonb, p_other jsonb) returns boolean language sql immutable parallel safe as $$
    select case
        when jsonb_typeof(p_one) = 'object' and jsonb_typeof(p_other) = 'object' then not exists (
            select from jsonb_each(p_one) as a inner join jsonb_each(p_other) as b on b.key = a.key where a.value <> b.value
        )
        else p_one is not distinct from p_other
    end
$$;

-- Store a proposal whose effect was prepared, unless it is known already; returns it, or nothing. The proposal is an object
-- with suggestion_type, title and evidence, and may have body, target, current_value, suggested_value, findings,
-- risk_level and effect. What an effect finds is read from its rows, so that current_value is kept for advice alone.
--
-- A session keeps its plans, and one that was made while the table was small would read all of it ever after.
create or replace function store_agent_suggestion(
    p_tenant_id uuid, p_agent_id text, p_suggestion jsonb, p_key text, p_hours integer, p_task_id uuid default null,
    p_subject text default null, p_by_policy boolean default false, p_author text default null
) returns setof agent_suggestions language plpgsql set enable_seqscan = off as $$
declare
    v_effect constant jsonb := nullif(p_suggestion -> 'effect', 'null');
    v_grounds constant text[] := evidence_grounds(p_suggestion -> 'evidence');
    v_open agent_suggestions;
    v_new agent_suggestions;
begin
    perform check_json_depth(p_suggestion, 'the suggestion', 1);
    -- Give this key to what a run of an earlier version proposed and people decided, or have yet to decide: the same agent on
    -- the same grounds, of a target and (if there is an effect) with a value that say nothing different. A verdict is a
    -- judgement on the target, which may be stricter now.
    if p_task_id is not null then
        update agent_suggestions as s
        set key = p_key, subject = p_subject, earlier = false
        where s.tenant_id = p_tenant_id and s.id in (
            select distinct on (o.status) o.id
            from agent_suggestions as o
            where o.tenant_id = p_tenant_id and o.earlier and o.agent_id = p_agent_id
                and o.suggestion_type = p_suggestion ->> 'suggestion_type'
                and agree(o.target - 'verdict', coalesce(p_suggestion -> 'target', '{}') - 'verdict')
                and (
                    o.suggestion_type = 'advice'
                    or agree(o.suggested_value, nullif(p_suggestion -> 'suggested_value', 'null'))
                )
                and v_grounds <> '{}' and v_grounds <@ evidence_grounds(o.evidence)
                and (o.status = 'approved' or o.status = 'rejected' or o.status = 'proposed' and not exists (
                    select from agent_suggestions as n
                    where n.tenant_id = p_tenant_id and n.key = p_key and n.status = 'proposed'
                ))
            order by o.status, o.id desc
        );
    end if;
    if exists (
        select from agent_suggestions as s
        where s.tenant_id = p_tenant_id and s.key = p_key and s.status in ('approved', 'rejected')
            and s.closed_by_task_id is null and v_grounds <@ evidence_grounds(s.evidence)
    ) then
        return;
    end if;
    select * into v_open from agent_suggestions as s
    where s.tenant_id = p_tenant_id and s.key = p_key and s.status = 'proposed'
    for update;
    if v_open.id is not null and (
        p_task_id is null  -- only a run, which has looked again, replaces what waits
        or v_open.suggested_value is not distinct from nullif(p_suggestion -> 'suggested_value', 'null')
        and v_open.effect is not distinct from v_effect
        and (p_subject is null or v_grounds = evidence_grounds(v_open.evidence))
    ) then
        return;
    elsif v_open.id is not null then
        update agent_suggestions as s
        set status = 'superseded', reason = 'replaced by a newer proposal of the same'
        where s.tenant_id = p_tenant_id and s.id = v_open.id;
    end if;

    insert into agent_suggestions (
        tenant_id, agent_id, task_id, suggestion_type, title, body, target, current_value, suggested_value, findings,
        evidence, risk_level, effect, status, decided_as, decided_at, expires_at, remind_at, supersedes, key, subject,
        proposed_as, created_at
    )
    select p_tenant_id, p_agent_id, p_task_id, g.suggestion_type, g.title, g.body, coalesce(g.target, '{}'),
        case when v_effect is null then g.current_value end, nullif(g.suggested_value, 'null'),
        coalesce(g.findings, '{}'), g.evidence, coalesce(g.risk_level, 'low'), v_effect,
        case when p_by_policy then 'approved' else 'proposed' end, case when p_by_policy then 'policy' end,
        case when p_by_policy then zora_now() end, zora_now() + make_interval(hours => p_hours),
        zora_now() + make_interval(mins => p_hours * 45), v_open.id, p_key, p_subject, p_author, zora_now()
    from jsonb_to_record(p_suggestion) as g (
        suggestion_type text, title text, body text, target jsonb, current_value jsonb, suggested_value jsonb,
        findings text [], evidence jsonb, risk_level text
    )
    on conflict (tenant_id, key) where status = 'proposed' do nothing
    returning * into v_new;
    if v_new.id is null then  -- another run has just proposed the same
        return;
    end if;
    if v_open.id is not null then
        update agent_suggestions as s set superseded_by = v_new.id where s.tenant_id = p_tenant_id and s.id = v_open.id;
        perform journal_suggestion(
            p_tenant_id, v_open.id, 'agent_suggestion_superseded', coalesce(p_author, lower(p_agent_id)),
            'replaced by a newer proposal of the same', jsonb_build_object('superseded_by', v_new.id)
        );
    end if;
    insert into journal_entries (
        tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
    )
    values (
        p_tenant_id, 'agent_action', 'agent_suggestion_created', p_agent_id || ' suggests: ' || v_new.title, v_new.body,
        jsonb_build_object('suggestion_id', v_new.id, 'suggestion_type', v_new.suggestion_type, 'target', v_new.target,
            'risk_level', v_new.risk_level, 'status', v_new.status, 'effect_digest', v_new.effect_digest),
        coalesce(p_author, lower(p_agent_id)), p_task_id, array_remove(array[v_new.id, p_task_id], null), zora_now()
    );
    return next v_new;
end
$$;

-- Keep what a completed run proposes, and close what it examined again and no longer found; part of its settlement.
-- p_result may have "suggestions", and "examined": an object of subjects, each with the keys of all that was found there,
-- also of what was not proposed for want of room.
--
-- A suggestion whose effect is about a row that does not exist, or no longer, is left out: an approval of it would rest on
-- nothing.
--
-- Returns null for a lease that is lost, {"refusal": text, "passing": boolean} when an effect cannot be stored (then nothing
-- is; passing says that another attempt may succeed), or {"note": text}, sentences on what was left out and on what a policy
-- lets happen without asking, or null.
create or replace function keep_agent_suggestions(
    p_id uuid, p_lease_token uuid, p_result jsonb
) returns jsonb language plpgsql set enable_seqscan = off as $$
declare
    v_task agent_tasks;
    v_policy agent_task_policies;
    v_given jsonb;
    v_prepared record;
    v_suggestions jsonb[] := '{}';
    v_by_policy boolean;
    v_kept integer := 0;
    v_allowed integer := 0;
    v_keys text[] := '{}';
    v_left_out text;
    v_closed agent_suggestions;
begin
    select * into v_task
    from agent_tasks as t
    where t.id = p_id and t.lease_token = p_lease_token and t.status::text = 'in_progress'
    for update;
    if not found then
        return null;
    end if;

    for v_given in
        select s.suggestion from jsonb_array_elements(p_result -> 'suggestions') with ordinality as s (suggestion, number)
        order by s.number
    loop
        select * into v_prepared from prepare_effect(v_task.tenant_id, v_given -> 'effect');
        if v_prepared.problem is not null then
            return jsonb_build_object('refusal', format('the suggestion “%s” (%s) cannot be stored: %s',
                v_given ->> 'title', v_given ->> 'suggestion_type', v_prepared.problem), 'passing', v_prepared.passing);
        elsif v_prepared.missing is not null then
            v_left_out := concat_ws(' ', v_left_out, format('The suggestion “%s” is not stored: %s.', v_given ->> 'title',
                v_prepared.missing));
            continue;
        end if;
        v_keys := v_keys || coalesce(
            run_key(v_task.agent_id, v_task.task_type, nullif(v_given ->> 'key', '')),
            suggestion_key(v_task.agent_id, v_given ->> 'suggestion_type', coalesce(v_given -> 'target', '{}'),
                nullif(v_given -> 'suggested_value', 'null'))
        );
        v_suggestions := v_suggestions || (v_given || jsonb_build_object(
            'effect', v_prepared.effect, 'key', numbered_key(v_keys)
        ));
    end loop;

    select * into v_policy from agent_task_policy(v_task.tenant_id, v_task.task_type);
    foreach v_given in array v_suggestions loop
        v_by_policy := coalesce(nullif(v_given -> 'effect', 'null') is not null
            and array_position('{low,medium,high}', v_given ->> 'risk_level')
            <= array_position('{low,medium,high}', v_policy.max_risk_level), false);
        perform from store_agent_suggestion(
            v_task.tenant_id, v_task.agent_id, v_given, v_given ->> 'key',
            coalesce(v_policy.decide_within_hours, 30 * 24), v_task.id,
            run_key(v_task.agent_id, v_task.task_type, nullif(v_given ->> 'subject', '')), v_by_policy
        );
        if found then
            v_kept := v_kept + 1;
            v_allowed := v_allowed + v_by_policy::integer;
        end if;
    end loop;

    if jsonb_typeof(p_result -> 'examined') = 'object' then
        v_keys := array(select s.suggestion ->> 'key' from unnest(v_suggestions) as s (suggestion)) || array(
            select k.key || case when row_number() over (partition by k.key) > 1
                then ' ' || row_number() over (partition by k.key) else '' end
            from (
                select run_key(v_task.agent_id, v_task.task_type, k.key) as key
                from jsonb_each(p_result -> 'examined') as e (subject, keys)
                cross join lateral jsonb_array_elements_text(e.keys) as k (key)
            ) as k
        );
        for v_closed in
            update agent_suggestions as s
            set status = case s.status when 'proposed' then 'superseded' else s.status end,
                reason = case s.status when 'proposed' then 'no longer found' else s.reason end,
                closed_by_task_id = v_task.id
            where s.tenant_id = v_task.tenant_id and s.id = any (array(
                select o.id
                from agent_suggestions as o
                where o.tenant_id = v_task.tenant_id and o.closed_by_task_id is null and o.key <> all (v_keys)
                    and (o.status = 'proposed' or o.status = 'approved' and o.effect is null)
                    and o.subject = any (array(
                        select run_key(v_task.agent_id, v_task.task_type, e.subject)
                        from jsonb_object_keys(p_result -> 'examined') as e (subject)
                    ))
                order by o.id
                for update
            ))
            returning s.*
        loop
            if v_closed.status = 'superseded' then
                perform journal_suggestion(
                    v_task.tenant_id, v_closed.id, 'agent_suggestion_superseded', lower(v_task.agent_id),
                    format('no longer found by task %s', v_task.id), jsonb_build_object('closed_by_task_id', v_task.id)
                );
            end if;
        end loop;
    end if;

    return jsonb_build_object('note', nullif(concat_ws(' ', v_left_out, case
        when v_allowed = 0 then null
        when v_kept = 1 then 'A policy allows the suggestion: applied without asking.'
        when v_allowed = v_kept then format('A policy allows all %s suggestions: applied without asking.', v_kept)
        else format('A policy allows %s of %s suggestions: applied without asking; the others wait for a person.',
            v_allowed, v_kept)
    end), ''));
end
$$;
