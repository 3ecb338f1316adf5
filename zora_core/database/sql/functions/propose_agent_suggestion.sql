-- Make a suggestion outside of a run: a person's, or that of an agent that works elsewhere. p_suggestion is as
-- store_agent_suggestion() takes it. What waits for a decision already is returned as it is; what was rejected on the same
-- evidence is PT409. No policy approves it: policies are about what tasks suggest.
create or replace function propose_agent_suggestion(
    p_tenant_id uuid, p_agent_id text, p_suggestion jsonb, p_user_id uuid default null
) returns setof agent_suggestions language plpgsql set enable_seqscan = off as $$
declare
    v_key constant text := suggestion_key(
        p_agent_id, p_suggestion ->> 'suggestion_type', coalesce(p_suggestion -> 'target', '{}'),
        nullif(p_suggestion -> 'suggested_value', 'null')
    );
    v_prepared record;
    v_suggestion agent_suggestions;
begin
    if p_agent_id not in ('CONNOR', 'LUMINA', 'EIVOR', 'ORACLE', 'AEGIS', 'SAM') or p_agent_id is null then
        raise exception 'unknown agent % (known: CONNOR, LUMINA, EIVOR, ORACLE, AEGIS, SAM)', quote_nullable(p_agent_id)
            using errcode = 'PT400';
    end if;
    select * into v_prepared from prepare_effect(p_tenant_id, p_suggestion -> 'effect');
    if coalesce(v_prepared.problem, v_prepared.missing) is not null then
        raise exception 'the suggestion cannot be stored: %', coalesce(v_prepared.problem, v_prepared.missing)
            using errcode = case when v_prepared.passing then 'PT409' else 'PT400' end;
    end if;
    select * into v_suggestion
    from store_agent_suggestion(
        p_tenant_id, p_agent_id, p_suggestion || jsonb_build_object('effect', v_prepared.effect), v_key, 30 * 24,
        p_author => user_name(p_tenant_id, p_user_id)
    );
    if v_suggestion.id is null then
        select * into v_suggestion from agent_suggestions as s
        where s.tenant_id = p_tenant_id and s.key = v_key and s.status in ('proposed', 'approved', 'rejected')
        order by s.status = 'proposed' desc, s.id desc
        limit 1;
        if v_suggestion.status <> 'proposed' then
            raise exception 'the same was % as suggestion % by %: %', v_suggestion.status, v_suggestion.id,
                v_suggestion.decided_as, coalesce(v_suggestion.reason, 'no reason given') using errcode = 'PT409';
        end if;
    end if;
    perform announce_agent_tasks(p_tenant_id);
    return next v_suggestion;
end
$$;
