-- Make a suggestion outside of a run: a person's, or that of an agent that works elsewhere. p_suggestion is an object
-- with suggestion_type, title and evidence, and may have body, target, current_value, suggested_value, findings,
-- risk_level and effect. What waits for a decision already is returned as it is; what was rejected on the same evidence
-- is PT409. No policy approves it: policies are about what tasks suggest.
create or replace function propose_agent_suggestion(
    p_tenant_id uuid, p_agent_id text, p_suggestion jsonb, p_user_id uuid default null
) returns setof agent_suggestions language plpgsql as $$
declare
    v_target constant jsonb := coalesce(p_suggestion -> 'target', '{}');
    v_value constant jsonb := nullif(p_suggestion -> 'suggested_value', 'null');
    v_suggestion agent_suggestions;
begin
    if p_agent_id not in ('CONNOR', 'LUMINA', 'EIVOR', 'ORACLE', 'AEGIS', 'SAM') or p_agent_id is null then
        raise exception 'unknown agent %', quote_nullable(p_agent_id) using errcode = 'PT400';
    end if;
    select * into v_suggestion from agent_suggestions as s
    where s.tenant_id = p_tenant_id and s.status in ('proposed', 'rejected')
        and s.proposal_digest = proposal_digest(p_agent_id, p_suggestion ->> 'suggestion_type', v_target, v_value)
        and (s.status = 'proposed' or s.evidence_digest = evidence_digest(p_suggestion -> 'evidence'))
    order by s.status, s.id desc
    limit 1;
    if v_suggestion.status = 'proposed' then
        return next v_suggestion;
        return;
    elsif v_suggestion.status = 'rejected' then
        raise exception 'the same was rejected as suggestion % by %: %', v_suggestion.id, v_suggestion.decided_as,
            v_suggestion.reason using errcode = 'PT409';
    end if;
    insert into agent_suggestions (
        tenant_id, agent_id, suggestion_type, title, body, target, current_value, suggested_value, findings,
        evidence, risk_level, effect, expires_at, remind_at, created_at
    )
    select p_tenant_id, p_agent_id, g.suggestion_type, g.title, g.body, v_target, g.current_value, v_value,
        coalesce(g.findings, '{}'), g.evidence, coalesce(g.risk_level, 'low'), g.effect,
        zora_now() + interval '30 days', zora_now() + interval '30 days' * 0.75, zora_now()
    from jsonb_to_record(p_suggestion) as g (
        suggestion_type text, title text, body text, current_value jsonb, findings text [], evidence jsonb,
        risk_level text, effect jsonb
    )
    returning * into v_suggestion;
    perform journal_suggestion(
        p_tenant_id, v_suggestion.id, 'agent_suggestion_created', user_name(p_tenant_id, p_user_id), v_suggestion.body,
        jsonb_build_object('by_user_id', p_user_id)
    );
    perform announce_agent_tasks(p_tenant_id);
    return next v_suggestion;
end
$$;
