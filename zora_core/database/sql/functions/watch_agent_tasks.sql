-- Watching a tenant's tasks. A change is reported in two parts: a notification without content, which may be lost and
-- only says that something changed, and changed_agent_tasks(), which reads the changes from stored rows. So a watcher
-- misses no committed change, however long it was disconnected.

-- Receive notifications on the channel agent_task_changes for p_seconds; repeat it while watching.
create or replace function watch_agent_tasks(
    p_tenant_id uuid, p_watcher_id uuid, p_seconds double precision default 30
) returns void language plpgsql as $$
begin
    insert into agent_task_watchers (tenant_id, watcher_id, expires_at)
    values (p_tenant_id, p_watcher_id, clock_timestamp() + make_interval(secs => p_seconds))
    on conflict (tenant_id, watcher_id) do update set expires_at = excluded.expires_at;
    -- Skipping what is locked: two that were asleep for long, and wake together, would else wait for each other's row.
    delete from agent_task_watchers as w
    where w.tenant_id = p_tenant_id and w.watcher_id = any (array(
        select e.watcher_id
        from agent_task_watchers as e
        where e.tenant_id = p_tenant_id and e.expires_at < clock_timestamp() - interval '1 hour'
        for update skip locked
    ));
end
$$;

-- Say that a tenant's tasks changed, if somebody watches. Called once per statement, never per row.
create or replace function announce_agent_tasks(p_tenant_id uuid) returns void language sql as $$
    select pg_notify('agent_task_changes', p_tenant_id::text)
    where exists (
        select from agent_task_watchers as w where w.tenant_id = p_tenant_id and w.expires_at > clock_timestamp()
    )
$$;

-- From when on the journal may still grow in its past: entries get their time-ordered id while their transaction is
-- open, so whatever is not visible yet belongs to a transaction that has begun to write and has not ended, or that will
-- begin to write after the clock was read. With a margin for the moment between making an id and having a transaction id.
--
-- Runs with the owner's rights, to see transactions of other roles. An owner that is not a superuser sees that another
-- role writes, not since when: such a transaction counts as an hour old, and meanwhile that hour is read again.
create or replace function journal_watermark() returns timestamptz
language plpgsql volatile security definer as $$
declare
    v_now constant timestamptz := clock_timestamp();  -- before looking: a transaction may begin between the two
    v_began timestamptz;
begin
    perform pg_stat_clear_snapshot();  -- a second call in the same transaction would else be shown the first one's view
    select min(coalesce(a.xact_start, v_now - interval '1 hour')) into v_began
    from pg_stat_activity as a
    where a.datname = current_database() and a.backend_xid is not null and a.pid <> pg_backend_pid()
        and a.usesysid is not null;  -- vacuum has none, takes its time, and writes no journal
    return least(v_began, v_now) - interval '50 milliseconds';
end
$$;

-- The least time-ordered id of a moment: 48 bits of Unix time in milliseconds, the rest zero (RFC 9562, section 5.7).
create or replace function least_uuidv7(p_at timestamptz) returns uuid language sql immutable strict as $$
    select (
        lpad(to_hex(greatest(floor(extract(epoch from p_at) * 1000), 0)::bigint), 12, '0') || '00000000000000000000'
    )::uuid
$$;

-- Tasks of a tenant that changed since a cursor, those that are running, and those in p_known, as they are now. The
-- cursor is a moment that an earlier call returned; the next one to ask from comes with every row, also with the single
-- row without a task that is returned when nothing changed. A task may be returned although nothing about it changed.
--
-- At most p_limit entries of the journal are looked at; when there are more, more_after is the last one, to be given as
-- p_after_id, and the cursor to keep is that of the first call.
--
-- The watermark is taken first: in a statement of its own, whose snapshot is older than that of the rows.
create or replace function changed_agent_tasks(
    p_tenant_id uuid, p_since timestamptz, p_known uuid [] default '{}', p_after_id uuid default null,
    p_limit integer default 10000
) returns table (
    cursor timestamptz, more_after uuid, id uuid, agent_id text, task_type text, status text, waiting_for text, title text,
    priority integer, progress double precision, progress_message text, attempt integer, result_summary text,
    error_message text, failure_kind text, run_at timestamptz, started_at timestamptz, completed_at timestamptz,
    created_at timestamptz, updated_at timestamptz
) language plpgsql volatile as $$
declare
    v_cursor timestamptz := greatest(journal_watermark(), p_since);
    v_ids uuid[];
    v_more_after uuid;
begin
    select array_agg(distinct e.task_id), case when count(*) >= p_limit then (array_agg(e.id order by e.id desc))[1] end
    into v_ids, v_more_after
    from (
        select j.id, j.task_id
        from journal_entries as j
        where j.tenant_id = p_tenant_id and j.id >= greatest(least_uuidv7(p_since), p_after_id)
            and j.id is distinct from p_after_id
        order by j.id
        limit p_limit
    ) as e;

    return query
    select v_cursor, v_more_after, t.id, t.agent_id::text, t.task_type::text, t.status::text, t.waiting_for,
        t.title::text, t.priority,
        t.progress::numeric::double precision,  -- 0.1 as 0.1: four bytes made eight would be 0.10000000149
        t.progress_message, t.attempt, t.result_summary, t.error_message, t.failure_kind, t.run_at,
        t.started_at, t.completed_at, t.created_at, t.updated_at
    from (select) as one
    left join (
        select a.*
        from agent_tasks as a
        where a.tenant_id = p_tenant_id and a.id in (
            select c.id from unnest(v_ids) as c (id)
            union all
            select r.id from agent_tasks as r where r.tenant_id = p_tenant_id and r.state = 'i'
            union all
            select k.id from unnest(p_known) as k (id)
        )
    ) as t on true
    order by t.updated_at nulls first, t.created_at, t.id;
end
$$;

-- Suggestions of a tenant of which the journal has said something since a cursor, as they are now; due tells that
-- somebody was reminded. At most p_limit, the latest ones.
create or replace function changed_agent_suggestions(
    p_tenant_id uuid, p_since timestamptz, p_limit integer default 1000
) returns table (
    id uuid, agent_id text, task_id uuid, suggestion_type text, title text, risk_level text, status text, due boolean,
    expires_at timestamptz, created_at timestamptz
) language sql stable as $$
    select s.id, s.agent_id::text, s.task_id, s.suggestion_type, s.title, s.risk_level, s.status,
        s.status = 'proposed' and s.expires_at is not null and s.remind_at is null, s.expires_at, s.created_at
    from agent_suggestions as s
    where s.tenant_id = p_tenant_id and s.id = any (array(
        select distinct (j.details ->> 'suggestion_id')::uuid
        from journal_entries as j
        where j.tenant_id = p_tenant_id and j.id >= least_uuidv7(p_since) and j.event_type like 'agent_suggestion_%'
        limit p_limit
    ))
    order by s.id
$$;
