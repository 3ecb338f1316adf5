-- What of a tenant's journal is not sealed yet: how many entries (counted up to 10,000), the first of them, the last
-- entry that is sealed, and the server's own clock, from which ids are made.
create or replace function journal_state(p_tenant_id uuid) returns table (
    server_time timestamptz, last_sealed_id uuid, first_unsealed_id uuid, unsealed bigint
) language sql stable as $$
    with sealed as (
        select (b.header::jsonb ->> 'last_id')::uuid as last_id
        from journal_blocks as b
        where b.tenant_id = p_tenant_id
        order by b.number desc
        limit 1
    ), waiting as (
        select j.id
        from journal_entries as j
        where j.tenant_id = p_tenant_id
            and j.id > coalesce((select s.last_id from sealed as s), '00000000-0000-0000-0000-000000000000')
        order by j.id
        limit 10000
    )
    select clock_timestamp(), (select s.last_id from sealed as s),
        (select w.id from waiting as w order by w.id limit 1), (select count(*) from waiting)
$$;
