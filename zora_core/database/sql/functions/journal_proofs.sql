-- Where journal entries stand in the sealed blocks, and whether they still are what was sealed: for each id, in the
-- order given, the block's number and the place in it (from 1), null while it is not sealed; and intact, null likewise,
-- which is false for an entry that is not what its block says, is gone, or appeared where a block had been sealed. An
-- id that neither the journal nor its block knows is left out.
--
-- That is the database's own word, good enough for a page: who owns the database can replace this function. The proof
-- is `zora journal verify`, which reads and hashes by itself.
--
-- Blocks are numbered without gaps, in the order of their entries' ids: a block is found by bisection. The digest is
-- made as next_journal_block() makes it.
create or replace function journal_proofs(
    p_tenant_id uuid, p_ids uuid []
) returns table (
    id uuid, block_number bigint, "position" integer, sealed_at timestamptz, header_hash text, intact boolean
) language plpgsql stable as $$
#variable_conflict use_column
declare
    v_last bigint;
    v_low bigint;
    v_high bigint;
    v_middle bigint;
    v_ends_at uuid;
    v_block journal_blocks;
    v_entry journal_entries;
    v_byte integer;
    v_digest bytea;
begin
    select b.number into v_last from journal_blocks as b where b.tenant_id = p_tenant_id order by b.number desc limit 1;
    foreach id in array coalesce(p_ids[:1000], '{}') loop
        block_number := null;
        "position" := null;
        sealed_at := null;
        header_hash := null;
        intact := null;
        select * into v_entry from journal_entries as j where j.tenant_id = p_tenant_id and j.id = journal_proofs.id;

        v_low := 0;
        v_high := coalesce(v_last, -1) + 1;
        while v_low < v_high loop
            v_middle := (v_low + v_high) / 2;
            select (b.header::jsonb ->> 'last_id')::uuid into v_ends_at
            from journal_blocks as b
            where b.tenant_id = p_tenant_id and b.number = v_middle;
            if v_ends_at >= id then
                v_high := v_middle;
            else
                v_low := v_middle + 1;
            end if;
        end loop;

        if v_low <= v_last then
            select * into v_block from journal_blocks as b where b.tenant_id = p_tenant_id and b.number = v_low;
            v_byte := position(uuid_send(id) in v_block.entry_ids) - 1;
            intact := false;
            if v_byte >= 0 and v_byte % 16 = 0 then
                block_number := v_block.number;
                "position" := v_byte / 16 + 1;
                sealed_at := (v_block.header::jsonb ->> 'sealed_at')::timestamptz;
                header_hash := encode(sha256(convert_to(v_block.header, 'UTF8')), 'hex');
                select sha256(convert_to(
                    '{"id": "' || e.id
                    || '", "author": ' || coalesce(to_json(e.author)::text, 'null')
                    || ', "content": "' || encode(c.content, 'hex')
                    || '", "task_id": ' || coalesce('"' || e.task_id || '"', 'null')
                    || ', "category": "' || e.category
                    || '", "tenant_id": "' || e.tenant_id
                    || '", "created_at": "'
                    || coalesce(
                        to_char(e.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), e.created_at::text
                    )
                    || '", "event_type": ' || to_json(e.event_type)::text
                    || ', "related_entity_ids": ' || to_jsonb(e.related_entity_ids)::text || '}',
                    'UTF8'
                ))
                into v_digest
                from (select v_entry.*) as e
                cross join lateral (
                    select coalesce(e.erased_content, journal_content(e.salt, e.title, e.body, e.details))
                ) as c (content);
                intact := coalesce(v_digest = substr(v_block.entry_digests, v_byte * 2 + 1, 32), false);
            end if;
        end if;
        if v_entry.id is not null or block_number is not null then
            return next;
        end if;
    end loop;
end
$$;
