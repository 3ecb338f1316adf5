-- Every function finds our tables and functions whatever the session's search_path is: another role's setting, a dump
-- that is being restored, an object of the same name in a schema that comes first. Functions whose body was parsed when
-- they were created (begin atomic) need no setting, and without one they can be inlined: those that run for every row.
do $pin$
declare
    v_function regprocedure;
begin
    for v_function in
        select p.oid from pg_proc as p
        where p.pronamespace = current_schema()::regnamespace and p.proname = any (':pinned'::text [])
            and p.prosqlbody is null
            and not exists (select from unnest(p.proconfig) as s (setting) where s.setting like 'search_path=%')
    loop
        execute format('alter function %s set search_path = %I, pg_temp', v_function, current_schema());
    end loop;
end
$pin$;
