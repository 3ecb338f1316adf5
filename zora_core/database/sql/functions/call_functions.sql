-- Calls of our functions for clients that speak JSON over HTTP: several in one transaction, under a request's id.
--
-- p_calls is an array of {"function": name, "arguments": {name without p_: value}}; the answer is an array, in the same
-- order, of {"columns": [[name, type]], "rows": [{name: value}]}. The columns' types come along because JSON has no word
-- for uuid, timestamptz or bytea; a numeric is a text in it, because most readers of JSON would round it. One value that
-- holds everything, because PostgREST cuts sets after max-rows, also those of functions that write.
--
-- A client that has lost the answer asks again with the same p_request_id and gets the answer there was: the calls are
-- carried out once. If the first request is still at work, the second waits for it. Answers are kept for an hour. Calls
-- that only read are not remembered, and are carried out again.
--
-- With p_restricted the calls act as zora_api, each for the tenant that its argument tenant_id names: see access.sql.
create or replace function call_functions(
    p_calls jsonb, p_request_id uuid default null, p_restricted boolean default false
) returns jsonb language plpgsql as $$
declare
    v_role constant text := current_setting('role');
    v_writes constant boolean := p_request_id is not null and exists (
        select from jsonb_array_elements(p_calls) as c (call)
        inner join pg_proc as p on p.proname = c.call ->> 'function' and p.pronamespace = current_schema()::regnamespace
        where p.provolatile = 'v'
    );
    v_call jsonb;
    v_answer jsonb := '[]';
begin
    if v_writes then
        -- Waits for a transaction that has the same id in hand.
        insert into zora_requests (id) values (p_request_id) on conflict do nothing;
        if not found then
            return (select r.answer from zora_requests as r where r.id = p_request_id);
        end if;
        delete from zora_requests as r
        where r.id = any (array(
            select o.id
            from zora_requests as o
            where o.created_at < now() - interval '1 hour'
            order by o.created_at
            limit 20
            for update skip locked
        ));
    end if;

    if p_restricted then
        perform set_config('role', 'zora_api', true);
    end if;
    for v_call in select c.call from jsonb_array_elements(p_calls) with ordinality as c (call, n) order by c.n loop
        if p_restricted then
            perform set_config('zora.tenant_id', coalesce(v_call -> 'arguments' ->> 'tenant_id', ''), true);
        end if;
        v_answer := v_answer || call_function(v_call ->> 'function', coalesce(v_call -> 'arguments', '{}'));
    end loop;
    if p_restricted then
        perform set_config('role', v_role, true), set_config('zora.tenant_id', '', true);
    end if;

    if v_writes then
        update zora_requests as r set answer = v_answer where r.id = p_request_id;
    end if;
    return v_answer;
end
$$;

-- It chooses the tenant, so that it is not for those whose tenant is chosen for them.
revoke all on function call_functions(jsonb, uuid, boolean) from public;

-- One call. The arguments become literals of the function's own types, so that it is planned for their values, as a
-- prepared statement is.
create or replace function call_function(
    p_function text, p_arguments jsonb
) returns jsonb language plpgsql as $$
declare
    v_function pg_proc;
    v_unknown text;
    v_types text;
    v_texts text;
    v_literals text[];
    v_arguments text;
    v_columns jsonb;
    v_row text;
    v_rows jsonb;
begin
    select p.* into v_function
    from pg_proc as p
    where p.proname = p_function and p.pronamespace = current_schema()::regnamespace and p.prokind = 'f'
        and p.prorettype <> 'trigger'::regtype;
    if not found then
        raise exception 'there is no function %', p_function using errcode = 'undefined_function';
    end if;

    select string_agg(format('%I %s', a.name, format_type(a.type, null)), ', ' order by a.n),
        string_agg(format('r.%I::text', a.name), ', ' order by a.n),
        (select n.name from jsonb_object_keys(p_arguments) as n (name) where 'p_' || n.name <> all (array_agg(a.name)))
    into v_types, v_texts, v_unknown
    from (
        select v_function.proargnames[u.n] as name, u.type, u.n
        from unnest(v_function.proargtypes::oid []) with ordinality as u (type, n)
    ) as a
    where p_arguments ? substr(a.name, 3);
    if v_unknown is not null or (v_types is null and p_arguments <> '{}') then
        raise exception '% has no parameter %', p_function, coalesce(v_unknown, p_arguments::text)
            using errcode = 'undefined_function';
    end if;

    if v_types is not null then
        execute format('select array[%s] from jsonb_to_record($1) as r (%s)', v_texts, v_types)
        using (select jsonb_object_agg('p_' || a.key, a.value) from jsonb_each(p_arguments) as a (key, value))
        into v_literals;
        select string_agg(
            format('%I => %L::%s', a.name, v_literals[a.n], format_type(a.type, null)), ', ' order by a.n
        )
        into v_arguments
        from (
            select v_function.proargnames[u.n] as name, u.type, row_number() over (order by u.n) as n
            from unnest(v_function.proargtypes::oid []) with ordinality as u (type, n)
            where p_arguments ? substr(v_function.proargnames[u.n], 3)
        ) as a;
    end if;

    select jsonb_agg(jsonb_build_array(c.name, format_type(c.type, null)) order by c.n),
        string_agg(format(' || jsonb_build_object(%L, f.%I%s)', c.name, c.name, c.cast), '')
        filter (where c.cast is not null)
    into v_columns, v_row
    from (
        select a.*, case a.type when 'numeric'::regtype then '::text' when 'numeric[]'::regtype then '::text[]' end as cast
        from (
            select a.attname as name, a.atttypid as type, a.attnum as n
            from pg_type as t
            inner join pg_attribute as a on a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
            where t.oid = v_function.prorettype
            union all
            select v_function.proargnames[u.n], u.type, u.n
            from unnest(v_function.proallargtypes) with ordinality as u (type, n)
            where v_function.proargmodes[u.n] in ('o', 'b', 't')
            union all
            -- A value has no name of its own.
            select p_function, v_function.prorettype, 1
            where v_function.proallargtypes is null
                and not exists (select from pg_type as t where t.oid = v_function.prorettype and t.typrelid <> 0)
        ) as a
    ) as c;
    v_row := 'to_jsonb(f)' || coalesce(v_row, '');
    execute format(
        'select coalesce(jsonb_agg(%s), ''[]'') from (select * from %I(%s)) as f',
        v_row, p_function, coalesce(v_arguments, '')
    ) into v_rows;
    return jsonb_build_object('columns', v_columns, 'rows', v_rows);
end
$$;
