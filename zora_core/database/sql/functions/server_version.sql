-- The version of PostgreSQL, which is not a secret; facts about more than one tenant are in database_health().
create or replace function server_version() returns text language sql stable as $$
    select current_setting('server_version')
$$;
