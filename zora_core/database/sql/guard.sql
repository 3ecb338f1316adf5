-- Stops the script before it writes anything, when this schema holds somebody else's objects, when a later version of
-- ZORA has been here, or when a table of ours has been lost. Everybody who runs the script waits for the same lock, so
-- that what is checked here holds until the end.
do $guard$
declare
    v_place constant text := format('schema %I', current_schema());
    v_ours constant boolean := to_regclass(format('%I.zora_migrations', current_schema())) is not null;
    v_applied integer [] := '{}';
    v_state jsonb := '{}';
    v_noted text [];
    v_known text [];
    v_found text [];
begin
    if v_ours then
        select coalesce(array_agg(m.version), '{}') into v_applied from zora_migrations as m;
        -- As jsonb, because the columns that tell the release were added later.
        select coalesce(max(to_jsonb(f)::text)::jsonb, '{}') into v_state from zora_functions as f;
    end if;
    if v_ours and v_applied = '{}' then
        v_noted := regexp_match(
            obj_description(to_regclass(format('%I.zora_migrations', current_schema())), 'pg_class'),
            '^ZORA (\S+), migrations (\d+(?:, \d+)*)$'
        );
        if v_noted is not null then
            v_applied := string_to_array(v_noted[2], ', ');
            v_state := jsonb_build_object('release', v_noted[1]) || v_state;
        end if;
    end if;

    if not v_applied <@ ':versions'::integer []
        or string_to_array(substring(v_state ->> 'release' from '^[0-9]+(?:\.[0-9]+)*'), '.')::integer []
        > string_to_array(substring(':release' from '^[0-9]+(?:\.[0-9]+)*'), '.')::integer []
        or (
            v_state ->> 'release' = ':release' and v_state ->> 'digest' <> ':digest'
            and v_state -> 'replaced' ? ':digest'
        )
    then
        raise exception 'a later zora than this one (:release) has migrated the %: nothing was changed', v_place
            using errcode = 'PT409', hint = 'Upgrade zora.';
    end if;

    -- The functions that are ours, to be replaced: those that the installed release made. The comment says it where the rows
    -- are missing; before migration 13 neither does.
    v_known := coalesce(
        (select array_agg(f.name) from jsonb_array_elements_text(v_state -> 'functions') as f (name)),
        string_to_array(obj_description(to_regclass(format('%I.zora_functions', current_schema())), 'pg_class'), ' '),
        (
            select array_agg(f.name)
            from jsonb_each(':earlier') as e (version, names)
            cross join lateral jsonb_array_elements_text(e.names) as f (name)
            where e.version::integer <= (select max(v) from unnest(v_applied) as a (v))
        ),
        '{}'
    );

    select array_agg(n.kind || ' ' || n.name order by n.kind desc, n.name) into v_found
    from unnest(':kinds'::text [], ':names'::text [], ':since'::integer []) as n (kind, name, version)
    where case n.kind
        when 'function' then n.name <> all (v_known) and exists (
            select from pg_proc as p
            where p.pronamespace = current_schema()::regnamespace and p.proname = n.name
                and not (p.proname = 'uuidv7' and current_setting('server_version_num')::integer >= 180000)
        )
        else n.version <> all (v_applied) and (exists (
            select from pg_type as t where t.typnamespace = current_schema()::regnamespace and t.typname = n.name
        ) or exists (
            select from pg_class as c where c.relnamespace = current_schema()::regnamespace and c.relname = n.name
        ))
    end;
    -- Migrations drop functions that earlier versions made.
    v_found := v_found || array(
        select distinct 'function ' || n.name
        from unnest(':dropped'::text [], ':dropped_by'::integer []) as n (name, version)
        where n.version <> all (v_applied) and split_part(n.name, '(', 1) <> all (v_known)
            and to_regprocedure(n.name) is not null
        order by 1
    );
    if v_found <> '{}' and v_ours and v_applied = '{}' then
        raise exception 'the % holds ZORA''s tables, but the table zora_migrations, which says of which version they are, '
            'is empty, as after pg_dump --schema-only: nothing was changed', v_place
            using errcode = 'PT409', hint = format(
                'Copy its rows from the database that was dumped, with `pg_dump --data-only '
                '--table=%1$s.zora_migrations --table=%1$s.zora_functions "$OLD" | psql "$NEW"`, then run this again.',
                current_schema()
            );
    end if;
    if v_found <> '{}' then
        raise exception 'the % already has objects that ZORA would create (%): nothing was changed', v_place,
            array_to_string(v_found[:10], ', ')
            || case when cardinality(v_found) > 10 then format(' and %s more', cardinality(v_found) - 10) else '' end
            using errcode = 'PT409', hint = case
                when v_ours
                then 'Rename these objects, which ZORA did not make, or move them to another schema, then run this again.'
                when 'table agent_tasks' = any (v_found)
                then 'Set ZORA_SCHEMA=zora to install ZORA into a schema of its own beside these, which look like the '
                    'tables of the original system, then take their records over with `zora import`.'
                else 'Set ZORA_SCHEMA, for example to zora, to install ZORA into a schema of its own.'
            end;
    end if;

    select array_agg(n.kind || ' ' || n.name order by n.name) into v_found
    from unnest(':kinds'::text [], ':names'::text [], ':since'::integer []) as n (kind, name, version)
    where n.kind = 'table' and n.version = any (v_applied) and to_regclass(n.name) is null;
    if v_found is not null then
        raise exception 'the % has lost %, with all rows: nothing was changed', v_place, array_to_string(v_found, ', ')
            using errcode = 'PT409', hint = 'Restore the database from a backup again, as docs/backup.md describes.';
    end if;

    if v_noted is not null then
        insert into zora_migrations (version, name)
        select m.version, m.name from unnest(':versions'::integer [], ':migrations'::text []) as m (version, name)
        where m.version = any (v_applied);
    end if;
end
$guard$;
