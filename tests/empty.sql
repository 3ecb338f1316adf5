-- Empty every table that holds data, the append-only journal included (triggers are off for a replica's session).
set session_replication_role = replica;
do $$
declare
    v_table regclass;
begin
    for v_table in
        select c.oid from pg_class as c
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
            and c.relname not in ('zora_migrations', 'zora_functions', 'test_clock')
    loop
        execute format('delete from %s', v_table);
    end loop;
end
$$;
set session_replication_role = origin;

update test_clock set now = '2026-03-02 09:00:00+00';
insert into tenants (id, name, slug) values ('00000000-0000-0000-0000-000000000001', 'default', 'default');
-- Every role that calls a function reads the clock, including the API's.
grant select on test_clock to zora_api;
