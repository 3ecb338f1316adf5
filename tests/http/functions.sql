-- What the tests of the transport call besides ZORA's own functions.
create type probe_colour as enum ('red', 'green');
create table probe_calls (id integer generated always as identity, said text);
grant select, insert on probe_calls to service_role;

create function probe_types() returns table (
    zulu uuid, yes boolean, moment timestamptz, moments timestamptz [], day date, bytes bytea, all_bytes bytea [],
    exact numeric, exacts numeric [], letter "char", letters text [], ids uuid [], doc jsonb, docs jsonb [],
    half double precision, halves double precision [], endless double precision, single real, singles real [],
    small smallint, whole integer, big bigint, colour probe_colour, nothing text, no_moment timestamptz,
    no_bytes bytea, alpha text, some_name name
) language sql stable as $$
    select * from (values (
        '3f2504e0-4f89-41d3-9a0c-0305e82c3301'::uuid, true, '2026-03-02 09:00:00.123456+05:30'::timestamptz,
        '{2026-03-02 09:00:00+00,NULL,1969-12-31 23:59:59.5+00}'::timestamptz [], '2024-02-29'::date,
        '\x00ff5c27'::bytea, array['\x00'::bytea, null, '\x'::bytea], 12345678901234567890.123456789000::numeric,
        array[0.1, null, 1000.5, 3.00]::numeric [], 'q'::"char", array['a', null, '', 'ü"\{},'],
        array['3f2504e0-4f89-41d3-9a0c-0305e82c3301', null]::uuid [],
        '{"ü": [null, 123456789012345678901234567890, {"𝄞": 1.5}], "": null}'::jsonb,
        array['{"a": 1}', null, 'null', '"x"']::jsonb [],
        0.1::double precision, array[1e-300, null, -0.5]::double precision [], '-infinity'::double precision,
        0.1::real, array[0.3, null]::real [], 3::smallint, -4::integer, 9223372036854775807::bigint,
        'green'::probe_colour, null::text, null::timestamptz, null::bytea, 'last'::text, 'pg_name'::name
    ), (
        null::uuid, null::boolean, null::timestamptz, '{}'::timestamptz [], null::date, null::bytea, null::bytea [],
        null::numeric, null::numeric [], null::"char", null::text [], null::uuid [], 'null'::jsonb, null::jsonb [],
        1e22::double precision, '{}'::double precision [], 'infinity'::double precision, null::real, null::real [],
        null::smallint, null::integer, null::bigint, null::probe_colour, null::text, null::timestamptz, null::bytea,
        null::text, null::name
    )) as v
$$;
create function probe_numeric() returns numeric language sql immutable as $$ select 12345678901234567890.10 $$;
create function probe_void() returns void language sql immutable as $$ select $$;
create function probe_nothing() returns integer language sql immutable as $$ select null::integer $$;
create function probe_moment() returns timestamptz language sql immutable as $$
    select '2026-03-02 09:00:00.5+00'::timestamptz
$$;
create function probe_set(p_upto integer) returns setof integer language sql immutable as $$
    select * from generate_series(1, p_upto)
$$;
create function probe_out(p_number integer, out p_next integer) language sql immutable as $$ select p_number + 1 $$;
create function probe_both(p_number integer, inout p_other integer, out p_third text) language sql immutable as $$
    select p_other + p_number, 'x'
$$;
create function probe_none() returns table (a integer, b text) language sql immutable as $$ select 1, 'x' where false $$;

create function probe_arguments(
    p_id uuid default null, p_ids uuid [] default null, p_moment timestamptz default null,
    p_moments timestamptz [] default null, p_bytes bytea default null, p_all_bytes bytea [] default null,
    p_doc jsonb default null, p_docs jsonb [] default null, p_texts text [] default null, p_text text default null,
    p_yes boolean default null, p_flags boolean [] default null, p_big bigint default null,
    p_double double precision default null, p_doubles double precision [] default null, p_singles real [] default null,
    p_whole integer default 7, p_time interval default null
) returns table (
    id uuid, ids uuid [], moment timestamptz, moments timestamptz [], bytes bytea, all_bytes bytea [], doc jsonb,
    docs jsonb [], texts text [], text text, yes boolean, flags boolean [], big bigint, double double precision,
    doubles double precision [], singles real [], whole integer, seconds double precision,
    docs_missing integer, doc_missing boolean
) language sql stable as $$
    select p_id, p_ids, p_moment, p_moments, p_bytes, p_all_bytes, p_doc, p_docs, p_texts, p_text, p_yes, p_flags,
        p_big, p_double, p_doubles, p_singles, p_whole, extract(epoch from p_time)::double precision,
        (select count(*)::integer from unnest(p_docs) as d where d is null), p_doc is null
$$;
create function probe_same(p_value jsonb) returns jsonb language sql immutable as $$ select p_value $$;

create function probe_call(p_said text default null) returns bigint language plpgsql as $$
begin
    insert into probe_calls (said) values (p_said);
    return (select count(*) from probe_calls);
end
$$;
-- Waits while somebody holds the advisory lock.
create function probe_call_and_wait() returns bigint language plpgsql as $$
begin
    perform pg_advisory_xact_lock(4711);
    return probe_call();
end
$$;
create function probe_fail(p_state text, p_detail text default null) returns void language plpgsql as $$
begin
    perform probe_call();
    if p_detail is null then
        raise exception 'I refuse' using errcode = p_state;
    end if;
    raise exception 'I refuse' using errcode = p_state, detail = p_detail;
end
$$;
create function probe_sleep(p_seconds double precision) returns void language sql as $$ select pg_sleep(p_seconds) $$;
create function probe_titles(p_tenant_id uuid default null) returns setof text language sql stable as $$
    select title from agent_tasks order by title
$$;
create function probe_who(p_tenant_id uuid default null) returns text language sql stable as $$
    select current_user::text
$$;
create function probe_retitle(p_tenant_id uuid, p_title text) returns bigint language sql as $$
    with changed as (update agent_tasks set title = p_title returning id) select count(*) from changed
$$;
