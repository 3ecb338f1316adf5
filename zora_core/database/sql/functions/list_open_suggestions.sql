-- What waits for a decision, in the order in which people should decide: what has a day left or less, then by risk, the
-- higher first, then by deadline, then the oldest. Of more than 10,000 only the oldest are put in order.
create or replace function list_open_suggestions(
    p_tenant_id uuid, p_limit integer default 50, p_offset integer default 0
) returns setof agent_suggestions language plpgsql stable set enable_seqscan = off as $$
declare
    -- Ids first, because suggestions are long: sorting them whole would not fit into memory.
    v_ids constant uuid[] := array(
        select o.id
        from (
            select s.id, s.risk_level, s.expires_at
            from agent_suggestions as s
            where s.tenant_id = p_tenant_id and s.status = 'proposed'
            order by s.id
            limit 10000
        ) as o
        order by coalesce(o.expires_at < zora_now() + interval '1 day', false) desc,
            array_position(array['high', 'medium', 'low'], o.risk_level), o.expires_at nulls last, o.id
        limit p_limit offset p_offset
    );
begin
    return query
    select s.*
    from agent_suggestions as s
    where s.tenant_id = p_tenant_id and s.id = any (v_ids)
    order by array_position(v_ids, s.id);
end
$$;
