-- Taking over what the original system holds: rows that `zora import` has mapped to ours become rows here, once each.
--
-- Nothing that is here is changed or removed, and nothing that comes in begins to run: tasks that were not finished wait
-- for a person, schedules are disabled. Journal entries are written now, because ours is sealed in the order of its ids;
-- everything else gets an id of the time that it was made at, so that lists stay in that order.

-- A UUID of version 7 of a moment other than now; see bootstrap.sql for its parts.
create or replace function uuidv7_at(p_at timestamptz) returns uuid language sql volatile strict as $$
    select (
        lpad(to_hex(t.us / 1000), 12, '0') || '7' || lpad(to_hex(t.us % 1000 * 4096 / 1000), 3, '0')
        || right(replace(gen_random_uuid()::text, '-', ''), 16)
    )::uuid
    from (select (extract(epoch from p_at) * 1000000)::bigint) as t (us)
$$;

-- Import up to 500 rows of a kind: task, memory, mission, profile, suggestion, policy, schedule, workflow or journal.
-- p_rows is a JSON array of objects with source_table, source_id and the columns of import_record(). Each row is taken
-- or refused by itself, with what the database says to it. With p_dry_run everything is done and undone again, so that
-- what a dry run says is what would be.
--
-- Returns a row for each, in their order: taken (its id here, and perhaps a note), here already, or refused.
create or replace function import_records(
    p_tenant_id uuid, p_kind text, p_rows jsonb, p_dry_run boolean default false, p_user_id uuid default null
) returns table (number integer, outcome text, reason text, note text, id uuid) language plpgsql as $$
#variable_conflict use_column
declare
    v_kinds constant text[] := array[
        'task', 'memory', 'mission', 'profile', 'suggestion', 'policy', 'schedule', 'workflow', 'journal'
    ];
    v_row jsonb;
    v_id uuid;
    v_note text;
    v_ids uuid[] := '{}';
    v_outcomes text[] := '{}';
    v_reasons text[] := '{}';
    v_notes text[] := '{}';
    v_outcome text;
    v_reason text;
begin
    if p_kind <> all (v_kinds) or p_kind is null then
        raise exception 'unknown kind % (known: %)', quote_nullable(p_kind), array_to_string(v_kinds, ', ')
            using errcode = 'PT400';
    elsif jsonb_typeof(p_rows) is distinct from 'array' or jsonb_array_length(p_rows) > 500 then
        raise exception 'p_rows must be a JSON array of at most 500 rows' using errcode = 'PT400';
    elsif not exists (select from tenants as t where t.id = p_tenant_id) then
        raise exception 'no tenant %', p_tenant_id using errcode = 'PT404';
    end if;
    -- One import at a time, so that two of the same source cannot both find that a row is not here.
    perform pg_advisory_xact_lock(hashtextextended('zora import ' || p_tenant_id::text, 0));

    begin
        for v_row in select e.record from jsonb_array_elements(p_rows) with ordinality as e (record, n) order by e.n loop
            v_note := null;
            v_reason := null;
            v_outcome := 'here';
            select r.id into v_id
            from imported_records as r
            where r.tenant_id = p_tenant_id and r.source_table = v_row ->> 'source_table'
                and r.source_id = v_row ->> 'source_id';
            if not found then
                begin
                    select m.id, m.note into v_id, v_note from import_record(p_tenant_id, p_kind, v_row, p_user_id) as m;
                    insert into imported_records (tenant_id, source_table, source_id, id, imported_at)
                    values (p_tenant_id, v_row ->> 'source_table', v_row ->> 'source_id', v_id, zora_now());
                    v_outcome := 'taken';
                exception
                    when data_exception or integrity_constraint_violation or program_limit_exceeded
                        or sqlstate 'PT400' or sqlstate 'PT404' or sqlstate 'PT409'
                    then
                        v_outcome := 'refused';
                        v_reason := sqlerrm;
                        v_note := null;
                        v_id := null;
                end;
            end if;
            v_outcomes := array_append(v_outcomes, v_outcome);
            v_reasons := array_append(v_reasons, v_reason);
            v_notes := array_append(v_notes, v_note);
            v_ids := array_append(v_ids, case when p_dry_run and v_outcome = 'taken' then null else v_id end);
        end loop;
        if p_dry_run then
            raise exception 'undone, because nothing was to be written' using errcode = 'PTDRY';
        end if;
    exception
        when sqlstate 'PTDRY' then null;  -- variables keep what they had
    end;

    return query
    select o.n::integer, o.outcome, o.reason, o.note, o.id
    from unnest(v_outcomes, v_reasons, v_notes, v_ids) with ordinality as o (outcome, reason, note, id, n)
    order by o.n;
end
$$;

-- Make one row of ours of a mapped one. Raises what the database has against it; import_records() goes on then.
create or replace function import_record(
    p_tenant_id uuid, p_kind text, p_row jsonb, p_user_id uuid default null, out id uuid, out note text
) language plpgsql as $$
#variable_conflict use_column
declare
    v_at constant timestamptz := (p_row ->> 'created_at')::timestamptz;
    v_origin constant jsonb := jsonb_build_object('table', p_row ->> 'source_table', 'id', p_row ->> 'source_id');
    v_id uuid;
    v_other uuid;
    v_primary boolean;
begin
    if p_kind in ('task', 'memory', 'mission', 'profile', 'suggestion') then
        if v_at is null or v_at not between '1970-01-01' and '9999-01-01' then
            raise exception 'it has no created_at in the years 1970 to 9998' using errcode = 'PT400';
        end if;
        v_id := uuidv7_at(v_at);
    else
        v_id := uuidv7();
    end if;

    -- What it refers to, if that was imported: the task that a memory comes from, the profile of a mission.
    select r.id into v_other
    from imported_records as r
    where r.tenant_id = p_tenant_id
        and r.source_table = case p_kind when 'memory' then 'agent_tasks' when 'mission' then 'climate_profiles' end
        and r.source_id = case p_kind when 'memory' then p_row ->> 'source_task' else p_row ->> 'profile' end;

    if p_kind = 'task' then
        insert into agent_tasks as t (
            id, tenant_id, agent_id, task_type, status, waiting_for, priority, title, description, payload, result,
            result_summary, error_message, failure_kind, attempt, started_at, completed_at, created_at, updated_at
        )
        select v_id, p_tenant_id, r.agent_id, r.task_type, r.status::agent_task_status,
            case r.status when 'pending' then 'approval' end, coalesce(r.priority, 0), r.title, r.description,
            coalesce(r.payload, '{}'), r.result, r.result_summary, r.error_message, r.failure_kind,
            coalesce(r.attempt, 0), r.started_at, r.completed_at, v_at, r.updated_at
        from jsonb_to_record(p_row) as r (
            agent_id text, task_type text, status text, priority integer, title text, description text, payload jsonb,
            result jsonb, result_summary text, error_message text, failure_kind text, attempt integer,
            started_at timestamptz, completed_at timestamptz, updated_at timestamptz
        )
        where r.status in ('pending', 'completed', 'failed');
        if not found then
            raise exception 'a task is imported as pending, completed or failed, not as %',
                quote_nullable(p_row ->> 'status') using errcode = 'PT400';
        end if;
        -- What is to be decided is told like any other task that waits; history is told by the entry of the import.
        if p_row ->> 'status' = 'pending' then
            insert into journal_entries (
                tenant_id, category, event_type, title, body, details, author, task_id, related_entity_ids, created_at
            )
            select t.tenant_id, 'agent_action', 'agent_task_created',
                t.agent_id || ' task: ' || t.task_type || ' (pending)', t.title,
                jsonb_build_object('task_id', t.id, 'agent_id', t.agent_id, 'task_type', t.task_type,
                    'status', 'pending', 'priority', t.priority, 'attempt', 0, 'created_by_user_id', p_user_id,
                    'imported', v_origin),
                user_name(p_tenant_id, p_user_id), t.id, array[t.id], zora_now()
            from agent_tasks as t
            where t.tenant_id = p_tenant_id and t.id = v_id;
            perform ask_to_run(
                p_tenant_id, t.id, t.agent_id, t.task_type, t.title, t.payload,
                'which was imported and was not finished'
            )
            from agent_tasks as t
            where t.tenant_id = p_tenant_id and t.id = v_id;
        end if;

    elsif p_kind = 'memory' then
        insert into memory_events (
            id, tenant_id, agent, memory_type, content, tags, metadata, session_id, source_task_id, archived_at,
            created_at
        )
        select v_id, p_tenant_id, r.agent, r.memory_type, r.content, coalesce(r.tags, '{}'),
            coalesce(r.metadata, '{}'), r.session_id, v_other, r.archived_at, v_at
        from jsonb_to_record(p_row) as r (
            agent text, memory_type text, content text, tags text [], metadata jsonb, session_id text,
            archived_at timestamptz
        );

    elsif p_kind = 'profile' then
        v_primary := coalesce((p_row ->> 'is_primary')::boolean, false);
        if v_primary and exists (
            select from climate_profiles as p where p.tenant_id = p_tenant_id and p.is_primary
        ) then
            v_primary := false;
            note := 'not as the primary profile, which is another one here';
        end if;
        insert into climate_profiles (
            id, tenant_id, profile_type, name, energy_source, transport_mode, diet_type, location_type, country,
            household_size, estimated_footprint_kg, is_primary, created_at
        )
        select v_id, p_tenant_id, r.profile_type, r.name, r.energy_source, r.transport_mode, r.diet_type,
            r.location_type, r.country, r.household_size, r.estimated_footprint_kg, v_primary, v_at
        from jsonb_to_record(p_row) as r (
            profile_type text, name text, energy_source text, transport_mode text, diet_type text, location_type text,
            country text, household_size integer, estimated_footprint_kg numeric
        );

    elsif p_kind = 'mission' then
        insert into climate_missions (
            id, tenant_id, profile_id, title, description, category, status, estimated_impact_kgco2, due_date,
            verified, created_at
        )
        select v_id, p_tenant_id,
            (select p.id from climate_profiles as p where p.tenant_id = p_tenant_id and p.id = v_other),
            r.title, r.description, r.category, r.status, r.estimated_impact_kgco2, r.due_date,
            coalesce(r.verified, false), v_at
        from jsonb_to_record(p_row) as r (
            title text, description text, category text, status text, estimated_impact_kgco2 numeric,
            due_date timestamptz, verified boolean
        );

    elsif p_kind = 'suggestion' then
        -- Without effect: what an approval would have done there is not what it would do here.
        if p_row ->> 'status' not in ('applied', 'rejected', 'expired') then
            raise exception 'a suggestion is imported as applied, rejected or expired, not as %',
                quote_nullable(p_row ->> 'status') using errcode = 'PT400';
        end if;
        insert into agent_suggestions (
            id, tenant_id, agent_id, suggestion_type, title, body, target, current_value, suggested_value, evidence,
            risk_level, status, decided_as, decided_at, applied_at, reason, created_at
        )
        select v_id, p_tenant_id, r.agent_id, r.suggestion_type, r.title, r.body, coalesce(r.target, '{}'),
            r.current_value, r.suggested_value, '[]', 'medium', r.status, r.decided_as, r.decided_at,
            case r.status when 'applied' then r.decided_at end, r.reason, v_at
        from jsonb_to_record(p_row) as r (
            agent_id text, suggestion_type text, title text, body text, target jsonb, current_value jsonb,
            suggested_value jsonb, status text, decided_as text, decided_at timestamptz, reason text
        );

    elsif p_kind = 'policy' then
        -- Not by set_agent_task_policy(), which replaces the one that is there and holds back tasks that are here.
        if exists (select from agent_task_policy(p_tenant_id, p_row ->> 'task_type')) then
            raise exception 'a policy for this task type exists already' using errcode = 'PT409';
        end if;
        insert into agent_task_policies (id, tenant_id, task_type, auto_execute, created_at)
        values (v_id, p_tenant_id, p_row ->> 'task_type', (p_row ->> 'auto_execute')::boolean, zora_now())
        on conflict do nothing;
        if not found then
            raise exception 'a policy for this task type exists already' using errcode = 'PT409';
        end if;
        insert into journal_entries (
            tenant_id, category, event_type, title, details, author, related_entity_ids, created_at
        )
        select p.tenant_id, 'config_change', 'agent_task_policy_set', 'Policy set: ' || p.task_type,
            to_jsonb(p) - array['tenant_id', 'created_at', 'updated_at']
                || jsonb_build_object('by_user_id', p_user_id, 'imported', v_origin),
            user_name(p_tenant_id, p_user_id), array[p.id], zora_now()
        from agent_task_policies as p
        where p.tenant_id = p_tenant_id and p.id = v_id;

    elsif p_kind = 'schedule' then
        select s.id into v_id
        from create_schedule(
            p_tenant_id, p_row - array['source_table', 'source_id'] || '{"enabled": false}', p_user_id
        ) as s;

    elsif p_kind = 'workflow' then
        insert into workflows as w (id, tenant_id, key, name, definition, created_by, created_at)
        values (
            v_id, p_tenant_id, p_row ->> 'key', p_row ->> 'name', p_row -> 'definition',
            (select u.id from users as u where u.tenant_id = p_tenant_id and u.id = p_user_id), zora_now()
        )
        on conflict (tenant_id, key) do nothing;
        if not found then
            raise exception 'a workflow with this key exists already' using errcode = 'PT409';
        end if;
        insert into journal_entries (
            tenant_id, category, event_type, title, details, author, related_entity_ids, created_at
        )
        values (
            p_tenant_id, 'config_change', 'workflow_saved', 'Workflow saved: ' || (p_row ->> 'name'),
            jsonb_build_object('workflow', p_row ->> 'key', 'by_user_id', p_user_id, 'imported', v_origin),
            user_name(p_tenant_id, p_user_id), array[v_id], zora_now()
        );

    else
        -- What the entry said stands under "imported" and its event begins with imported_, so that nothing that reads
        -- the journal can take it for one of ours.
        if p_row ->> 'event_type' not like 'imported\_%' then
            raise exception 'the event of an imported entry begins with imported_' using errcode = 'PT400';
        end if;
        insert into journal_entries (id, tenant_id, category, event_type, title, body, details, author, created_at)
        select v_id, p_tenant_id, r.category, r.event_type, r.title, r.body,
            jsonb_build_object('imported', v_origin || coalesce(r.imported, '{}')), r.author, zora_now()
        from jsonb_to_record(p_row) as r (
            category text, event_type text, title text, body text, author text, imported jsonb
        );
    end if;
    id := v_id;
end
$$;

-- Tell the journal that an import is done: from where, by whom, and how many rows of each kind. Returns the entry's id.
create or replace function journal_import(
    p_tenant_id uuid, p_source text, p_counts jsonb, p_user_id uuid default null
) returns uuid language sql as $$
    insert into journal_entries (tenant_id, category, event_type, title, body, details, author, created_at)
    values (
        p_tenant_id, 'config_change', 'records_imported', 'Records imported from the original system',
        (
            select string_agg(c.value || ' ' || c.key, ', ' order by c.key)
            from jsonb_each_text(p_counts) as c
        ),
        jsonb_build_object('source', p_source, 'counts', p_counts, 'by_user_id', p_user_id),
        user_name(p_tenant_id, p_user_id), zora_now()
    )
    returning id
$$;
