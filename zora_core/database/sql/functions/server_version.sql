-- Which PostgreSQL this is. It is nobody's secret; what tells of more than one tenant is in database_health().
create or replace function server_version() returns text language sql stable as $$
    select current_setting('server_version')
$$;
