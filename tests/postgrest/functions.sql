-- What the tests call besides ZORA's own functions, in a database of their own.
create type colour as enum ('red', 'green');
create type point2d as (x integer, y numeric);
create table notes (id bigint primary key, text text not null);
create table secrets (id bigint primary key);
create table children (note_id bigint references notes (id) deferrable initially deferred);
grant all on notes, children to service_role;
create schema private;
create schema other;
grant usage on schema other to service_role, anon;

create function add_them(a integer, b integer) returns integer language sql immutable as $$ select a + b $$;
create function greet(username text default 'guest') returns text language sql immutable as $$
    select 'Hello ' || username
$$;
create function "sayTo"("Who" text) returns text language sql immutable as $$ select "Who" $$;
create function echo_types(
    p_bigint bigint, p_numeric numeric, p_double double precision, p_boolean boolean, p_time timestamptz, p_uuid uuid,
    p_uuids uuid [], p_bytes bytea, p_json jsonb, p_jsons jsonb [], p_texts text [], p_colour colour, p_point point2d,
    p_missing text default 'default'
) returns table (
    p_bigint bigint, p_numeric numeric, p_double double precision, p_boolean boolean, p_time timestamptz, p_uuid uuid,
    p_uuids uuid [], p_bytes bytea, p_json jsonb, p_jsons jsonb [], p_texts text [], p_colour colour, p_point point2d,
    p_missing text
) language sql immutable as $$
    select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
$$;
create function nulls_in(p_jsons jsonb []) returns integer language sql immutable as $$
    select count(*)::integer from unnest(p_jsons) as j where j is null
$$;
create function kind_of(p_value jsonb) returns text language sql immutable as $$
    select coalesce(jsonb_typeof(p_value), 'NULL')
$$;
create function same_number(p_number numeric) returns numeric language sql immutable as $$ select p_number $$;
create function infinite() returns double precision language sql immutable as $$ select 'inf'::double precision $$;
create function nothing() returns void language sql as $$ select $$;
create function null_number() returns integer language sql as $$ select null::integer $$;
create function a_point() returns point2d language sql as $$ select (1, 2.50)::point2d $$;
create function raw_json() returns json language sql as $$ select '{"b": 1,  "a": [2]}'::json $$;
create function numbers(p_upto integer) returns setof bigint language sql stable as $$
    select * from generate_series(1::bigint, p_upto)
$$;
create function one_column(p_upto integer) returns table (value integer) language sql stable as $$
    select * from generate_series(1, p_upto)
$$;
create function two_columns(p_upto integer) returns table (id bigint, name text) language sql stable as $$
    select g, 'n' || g from generate_series(1, p_upto) as g
$$;
create function single_out(p_number integer, out p_next integer) language sql immutable as $$ select p_number + 1 $$;
create function all_notes() returns setof notes language sql stable as $$ select * from notes order by id $$;
create function untyped_notes() returns setof record language sql stable as $$ select 1 as id, 'one'::text as name $$;
create function untyped_note() returns record language sql stable as $$ select 1 as id, 'one'::text as name $$;
create function how_many(variadic p_values text []) returns integer language sql immutable as $$
    select cardinality(p_values)
$$;
create function whole(jsonb) returns text language sql immutable as $$ select jsonb_typeof($1) $$;
create function whole_bytes(bytea) returns integer language sql immutable as $$ select length($1) $$;
create function whole_text(text) returns text language sql immutable as $$ select upper($1) $$;
create function overloaded(a integer) returns text language sql immutable as $$ select 'one' $$;
create function overloaded(a integer, b integer) returns text language sql immutable as $$ select 'two' $$;
create function ambiguous(a integer) returns text language sql immutable as $$ select 'integer' $$;
create function ambiguous(a text) returns text language sql immutable as $$ select 'text' $$;
create function with_default(a integer) returns text language sql immutable as $$ select 'one' $$;
create function with_default(a integer, b integer default 1) returns text language sql immutable as $$ select 'two' $$;
create function fallback(a integer) returns text language sql immutable as $$ select 'named' $$;
create function fallback(json) returns text language sql immutable as $$ select 'whole' $$;
create procedure a_procedure() language sql as $$ select $$;

create function add_note(p_id bigint, p_text text) returns bigint language sql as $$
    insert into notes values (p_id, p_text) returning id
$$;
create function add_notes(p_ids bigint []) returns setof bigint language sql as $$
    insert into notes select unnest(p_ids), 'x' returning id
$$;
create function add_child(p_note_id bigint) returns void language sql as $$ insert into children values (p_note_id) $$;
create function stable_but_writes(p_id bigint) returns void language sql stable as $$ select add_note(p_id, 'x') $$;
create function read_secrets() returns setof secrets language sql stable as $$ select * from secrets $$;
create function missing_table() returns void language plpgsql as $$ begin perform * from no_such_table; end $$;
create function missing_function() returns void language plpgsql as $$ begin perform no_such_function(); end $$;
create function fail(p_state text, p_detail text default null, p_hint text default null) returns void
language plpgsql as $$
begin
    raise exception 'I refuse' using errcode = p_state, detail = coalesce(p_detail, ''), hint = coalesce(p_hint, '');
end
$$;
create function fail_plainly() returns void language plpgsql as $$
begin
    raise exception 'I refuse!' using detail = 'Pretty simple', hint = 'There is nothing you can do.';
end
$$;
create function fail_in_full(p_message text, p_detail text) returns void language plpgsql as $$
begin
    raise sqlstate 'PGRST' using message = p_message, detail = p_detail;
end
$$;
create function settings(p_names text []) returns jsonb language sql stable as $$
    select jsonb_object_agg(n, current_setting(n, true)) from unnest(p_names) as n
$$;
create function slow(p_seconds double precision) returns void language sql as $$ select pg_sleep(p_seconds) $$;
create function slow_within(p_seconds double precision) returns void language sql set statement_timeout = '100ms' as $$
    select pg_sleep(p_seconds)
$$;
create function lock_both(p_first bigint, p_second bigint) returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock(p_first);
    perform pg_sleep(0.3);
    perform pg_advisory_xact_lock(p_second);
end
$$;
create function isolation() returns text language sql stable set default_transaction_isolation = 'serializable' as $$
    select current_setting('transaction_isolation')
$$;
create function teapot() returns json language plpgsql as $$
begin
    perform set_config('response.status', '418', true);
    perform set_config('response.headers', '[{"Cache-Control": "public"}, {"X-Kind": "tea"}]', true);
    return '{"short": true}';
end
$$;
create function other.add_them(a integer, b integer) returns text language sql immutable as $$ select 'other' $$;
create function private.hidden() returns integer language sql immutable as $$ select 1 $$;
revoke execute on function greet from public;
grant execute on function greet to service_role, authenticated;
