-- The queries of verification. Over a direct connection the bodies are run as plain queries, exactly as they are here,
-- because the owner of the database can replace its functions. See `Database.read`.

-- Blocks of a tenant from a number on.
create or replace function journal_block_rows(p_tenant_id uuid, p_number bigint, p_limit integer) returns table (
    number bigint, header text, signature bytea, entry_ids bytea, entry_digests bytea
) language sql stable as $$
    select b.number, b.header, b.signature, b.entry_ids, b.entry_digests
    from journal_blocks as b
    where b.tenant_id = p_tenant_id and b.number >= p_number
    order by b.number
    limit p_limit
$$;

-- The same without their lists.
create or replace function journal_header_rows(p_tenant_id uuid, p_number bigint, p_limit integer) returns table (
    number bigint, header text, signature bytea
) language sql stable as $$
    select b.number, b.header, b.signature
    from journal_blocks as b
    where b.tenant_id = p_tenant_id and b.number >= p_number
    order by b.number
    limit p_limit
$$;

-- The last block of a tenant.
create or replace function journal_head_row(p_tenant_id uuid) returns table (
    number bigint, header text, signature bytea
) language sql stable as $$
    select b.number, b.header, b.signature
    from journal_blocks as b
    where b.tenant_id = p_tenant_id
    order by b.number desc
    limit 1
$$;

-- How many entries a tenant has after an id, and since when.
create or replace function journal_entries_after(p_tenant_id uuid, p_after uuid) returns table (
    entries bigint, oldest timestamptz
) language sql stable as $$
    select count(*) as entries, min(j.created_at) as oldest
    from journal_entries as j
    where j.tenant_id = p_tenant_id and j.id > p_after
$$;

-- Entries of a tenant after an id, up to and with another, as their texts are put together for hashing. As text, because
-- that takes a third of the time of sending values and making text of them.
create or replace function journal_entry_texts(
    p_tenant_id uuid, p_after uuid, p_upto uuid, p_limit integer
) returns table (
    id text, tenant_id text, category text, event_type text, author text, task_id text, related_entity_ids text,
    created_at text, salt text, title text, body text, details text, erased_content text
) language sql stable as $$
    select j.id::text as id, j.tenant_id::text as tenant_id, j.category, j.event_type, j.author,
        j.task_id::text as task_id, to_jsonb(j.related_entity_ids)::text as related_entity_ids,
        coalesce(to_char(j.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), j.created_at::text)
        as created_at,
        j.salt::text as salt, j.title, j.body, j.details::text as details, encode(j.erased_content, 'hex')
        as erased_content
    from journal_entries as j
    where j.tenant_id = p_tenant_id and j.id > p_after and j.id <= p_upto
    order by j.id
    limit p_limit
$$;
