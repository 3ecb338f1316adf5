-- Figures of the queue (of one tenant) and of the database (of all), for doctor and for the health review.
create or replace function database_health(p_tenant_id uuid) returns jsonb language sql stable as $$
    select jsonb_build_object(
        'server_version', current_setting('server_version'),
        'database_bytes', pg_database_size(current_database()),
        'server_time', clock_timestamp(),
        'queue', (
            select jsonb_build_object(
                'pending', count(*) filter (where t.status = 'pending'),
                'ready', count(*) filter (where t.status = 'pending' and t.waiting_for is null),
                'in_progress', count(*) filter (where t.status = 'in_progress'),
                'completed_last_hour', count(*) filter (
                    where t.status = 'completed' and t.completed_at > zora_now() - interval '1 hour'),
                'failed_last_hour', count(*) filter (
                    where t.status = 'failed' and t.completed_at > zora_now() - interval '1 hour'),
                'expired_leases', count(*) filter (
                    where t.status = 'in_progress' and t.lease_expires_at < zora_now()),
                'oldest_ready_seconds', extract(epoch from zora_now() - min(t.created_at) filter (
                    where t.status = 'pending' and t.waiting_for is null))
            )
            from agent_tasks as t
            where t.tenant_id = p_tenant_id
        ),
        -- Whether the next two are about everybody, or about the caller's own role alone, as for Supabase's service_role.
        'sees_sessions', pg_has_role('pg_read_all_stats', 'usage'),
        'connections', (
            select jsonb_build_object('used', count(*), 'max', current_setting('max_connections')::integer)
            from pg_stat_activity as a
            where a.backend_type = 'client backend'
        ),
        'longest_transaction_seconds', (
            select coalesce(extract(epoch from clock_timestamp() - min(a.xact_start)), 0)
            from pg_stat_activity as a
            where a.datname = current_database() and a.xact_start is not null and a.pid <> pg_backend_pid()
        ),
        'blocked_locks', (select count(*) from pg_locks as l where not l.granted),
        'dead_tuples', (
            select coalesce(jsonb_agg(
                jsonb_build_object('table', s.relname, 'live', s.n_live_tup, 'dead', s.n_dead_tup) order by s.relname
            ), '[]')
            from pg_stat_user_tables as s
            where s.relid in (
                'agent_tasks'::regclass, 'journal_entries'::regclass, 'memory_events'::regclass,
                'agent_suggestions'::regclass
            )
        ),
        'transaction_id_age', (select age(d.datfrozenxid) from pg_database as d where d.datname = current_database())
    )
$$;
