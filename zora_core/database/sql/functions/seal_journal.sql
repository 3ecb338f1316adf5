-- The journal, sealed: append-only, hashed into blocks that are chained and signed, and still able to forget a text.
-- docs/journal.md says what is hashed, byte for byte, and what that proves. What is signed here is not verified here:
-- the owner of the database can replace these functions, so that verification does its own reading and hashing.

-- Entries and blocks are never changed and never removed; but the text of an entry may be erased, once, if its digest
-- stays and nothing else is touched. The triggers are the migrations'.
create or replace function refuse_journal_change() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and tg_table_name = 'journal_entries' then
        if old.erased_content is null
            and new.erased_content = journal_content(old.salt, old.title, old.body, old.details)
            and new.title = '[erased]' and new.body is null and new.details = '{}' and new.salt is null
            and to_jsonb(new) - '{title,body,details,salt,erased_content}'::text []
                = to_jsonb(old) - '{title,body,details,salt,erased_content}'::text []
        then
            return new;
        end if;
    end if;
    raise exception 'the journal is append-only: % is refused', lower(tg_op)
        using hint = 'Write a new entry that corrects the old one.', errcode = 'PT409';
end
$$;

-- SHA-256 of an entry's text and salt, in the form that jsonb has as text. Put together by hand, because that takes two
-- thirds of the time of making jsonb of it. Stable, as its parts are, so that the planner can inline it.
create or replace function journal_content(
    p_salt uuid, p_title text, p_body text, p_details jsonb
) returns bytea language sql stable as $$
    select sha256(convert_to(
        '{"body": ' || coalesce(to_json(p_body)::text, 'null')
        || ', "salt": "' || p_salt
        || '", "title": ' || to_json(p_title)::text
        || ', "details": ' || p_details::text || '}',
        'UTF8'
    ))
$$;

-- What the next block of a tenant would be: the header to sign, and the list to hand to seal_journal_block() with the
-- signature. No row when nothing can or need be sealed: a block is due when it would be full, or when the first entry of
-- it is p_min_age_seconds old.
--
-- An entry is sealed when no open transaction can still put another one before it. That is what the watermark tells, by
-- the real clock, which ids are made from; the margin is for clocks that were set back a little.
create or replace function next_journal_block(
    p_tenant_id uuid, p_public_key bytea, p_min_age_seconds double precision default 10,
    p_margin_seconds double precision default 5, p_limit integer default 1000
) returns table (header text, entry_ids bytea, entry_digests bytea) language plpgsql volatile as $$
declare
    -- In a statement of its own, whose snapshot is older than those of the entries.
    v_end constant uuid := least_uuidv7(journal_watermark() - make_interval(secs => p_margin_seconds));
    v_number bigint;
    v_after uuid;
    v_previous bytea;
    v_first uuid;
    v_last uuid;
    v_ids uuid[];
    v_digests bytea[];
    v_link bytea;
begin
    select b.number, (b.header::jsonb ->> 'last_id')::uuid, sha256(convert_to(b.header, 'UTF8'))
    into v_number, v_after, v_previous
    from journal_blocks as b
    where b.tenant_id = p_tenant_id
    order by b.number desc
    limit 1;
    v_number := coalesce(v_number + 1, 0);
    v_after := coalesce(v_after, '00000000-0000-0000-0000-000000000000');
    v_previous := coalesce(v_previous, decode(repeat('00', 32), 'hex'));

    select j.id into v_first
    from journal_entries as j
    where j.tenant_id = p_tenant_id and j.id > v_after and j.id < v_end
    order by j.id
    limit 1;
    if v_first is null then
        return;
    elsif v_first > least_uuidv7(clock_timestamp() - make_interval(secs => p_min_age_seconds)) then
        perform from journal_entries as j
        where j.tenant_id = p_tenant_id and j.id > v_after and j.id < v_end
        order by j.id
        limit 1 offset p_limit - 1;
        if not found then
            return;
        end if;
    end if;

    -- The entry as it is hashed: see docs/journal.md.
    select array_agg(e.id order by e.id), array_agg(sha256(convert_to(
        '{"id": "' || e.id
        || '", "author": ' || coalesce(to_json(e.author)::text, 'null')
        || ', "content": "' || encode(e.content, 'hex')
        || '", "task_id": ' || coalesce('"' || e.task_id || '"', 'null')
        || ', "category": "' || e.category
        || '", "tenant_id": "' || e.tenant_id
        || '", "created_at": "'
        || coalesce(to_char(e.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), e.created_at::text)
        || '", "event_type": ' || to_json(e.event_type)::text
        || ', "related_entity_ids": ' || to_jsonb(e.related_entity_ids)::text || '}',
        'UTF8'
    )) order by e.id)
    into v_ids, v_digests
    from (
        select j.*, coalesce(j.erased_content, journal_content(j.salt, j.title, j.body, j.details)) as content
        from journal_entries as j
        where j.tenant_id = p_tenant_id and j.id > v_after and j.id < v_end
        order by j.id
        limit p_limit
    ) as e;

    v_link := v_previous;
    for i in 1 .. cardinality(v_ids) loop
        v_link := sha256(v_link || uuid_send(v_ids[i]) || v_digests[i]);
    end loop;
    v_last := v_ids[cardinality(v_ids)];

    return query
    select
        jsonb_build_object(
            'version', 1, 'tenant_id', p_tenant_id, 'number', v_number, 'previous', encode(v_previous, 'hex'),
            'first_id', v_first, 'last_id', v_last, 'entries', cardinality(v_ids), 'link', encode(v_link, 'hex'),
            'sealed_at', to_char(zora_now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'public_key', encode(p_public_key, 'hex')
        )::text,
        string_agg(uuid_send(l.id), ''::bytea order by l.ordinal),
        string_agg(l.digest, ''::bytea order by l.ordinal)
    from unnest(v_ids, v_digests) with ordinality as l (id, digest, ordinal);
end
$$;

-- Keep a signed block as it was given. False when another sealer was first: its block has this number.
create or replace function seal_journal_block(
    p_tenant_id uuid, p_header text, p_signature bytea, p_entry_ids bytea, p_entry_digests bytea
) returns boolean language plpgsql as $$
begin
    insert into journal_blocks (tenant_id, number, header, signature, entry_ids, entry_digests)
    values (
        p_tenant_id, (p_header::jsonb ->> 'number')::bigint, p_header, p_signature, p_entry_ids, p_entry_digests
    )
    on conflict (tenant_id, number) do nothing;
    return found;
end
$$;

-- Erase the text of an entry, named by its id or the end of it: title, body and details go, and the salt with them; the
-- digest stays, so that the chain still holds. That it was erased, why and by whom, becomes an entry of its own. PT404
-- when there is no such entry, PT409 when several fit or it was erased before.
create or replace function erase_journal_entry(
    p_tenant_id uuid, p_id text, p_reason text, p_user_id uuid
) returns setof journal_entries language plpgsql as $$
declare
    v_ids uuid[] := array(
        select j.id from journal_entries as j
        where j.tenant_id = p_tenant_id and length(p_id) >= 4 and right(j.id::text, length(p_id)) = lower(p_id)
        limit 2
    );
    v_email text := (select u.email from users as u where u.tenant_id = p_tenant_id and u.id = p_user_id);
begin
    if coalesce(trim(p_reason), '') = '' then
        raise exception 'an erasure needs a reason' using errcode = 'PT400';
    elsif v_email is null then
        raise exception 'no user %', p_user_id using errcode = 'PT404';
    elsif cardinality(v_ids) = 0 then
        raise exception 'no journal entry %', p_id using errcode = 'PT404';
    elsif cardinality(v_ids) > 1 then
        raise exception 'several journal entries have an id that ends in %: give more characters', p_id
            using errcode = 'PT409';
    end if;
    update journal_entries as j
    set title = '[erased]', body = null, details = '{}', salt = null,
        erased_content = journal_content(j.salt, j.title, j.body, j.details)
    where j.tenant_id = p_tenant_id and j.id = v_ids[1] and j.erased_content is null;
    if not found then
        raise exception 'journal entry % was erased before', v_ids[1] using errcode = 'PT409';
    end if;
    return query
    insert into journal_entries (
        tenant_id, category, event_type, title, body, details, author, related_entity_ids, created_at
    )
    values (
        p_tenant_id, 'config_change', 'journal_entry_erased', 'Journal entry erased: ' || v_ids[1], p_reason,
        jsonb_build_object('entry_id', v_ids[1], 'user_id', p_user_id), v_email, array[v_ids[1]], zora_now()
    )
    returning *;
end
$$;
