-- What the database remembers of the script that made it. The comments say it where a dump holds no rows; see guard.sql.
do $record$
declare
    v_functions constant text [] := array(
        select distinct p.proname::text from pg_proc as p
        where p.pronamespace = current_schema()::regnamespace and p.proname = any (':made'::text [])
        order by 1
    );
begin
    insert into zora_functions (digest, release, functions) values (':digest', ':release', v_functions)
    on conflict (only_row) do update
    set digest = excluded.digest, release = excluded.release, functions = excluded.functions, applied_at = now(),
        replaced = array_remove(zora_functions.replaced || zora_functions.digest, excluded.digest);
    comment on table zora_migrations is 'ZORA :release, migrations :numbers';
    execute format('comment on table zora_functions is %L', array_to_string(v_functions, ' '));
end
$record$;
