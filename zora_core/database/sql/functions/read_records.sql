-- What people and agents read besides tasks. Every reader is bounded and scoped to one tenant. Those with many optional
-- filters are in plpgsql, which plans a query for the filters that are given; SQL functions do so from version 18 on.

-- Journal entries of a window of time, newest first, optionally of one category or one task. Ids are time-ordered, so
-- the primary key gives the order; a page begins after an offset, or before an entry's id.
create or replace function list_journal_entries(
    p_tenant_id uuid, p_since timestamptz default null, p_until timestamptz default null,
    p_category text default null, p_task_id uuid default null, p_limit integer default 50, p_offset integer default 0,
    p_before_id uuid default null
) returns setof journal_entries language plpgsql stable as $$
begin
    return query
    select j.*
    from journal_entries as j
    where j.tenant_id = p_tenant_id
        and j.id < coalesce(p_before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        and (p_since is null or j.created_at >= p_since)
        and (p_until is null or j.created_at < p_until)
        and (p_category is null or j.category = p_category)
        and (p_task_id is null or j.task_id = p_task_id)
    order by j.id desc
    limit p_limit offset p_offset;
end
$$;

-- How many journal entries a filter lets through; see count_agent_tasks.
create or replace function count_journal_entries(
    p_tenant_id uuid, p_category text default null, p_task_id uuid default null, p_exact_up_to integer default 10000
) returns table (total bigint, is_estimate boolean) language plpgsql volatile as $$
begin
    select least(count(*), p_exact_up_to), count(*) > p_exact_up_to into total, is_estimate
    from (
        select
        from journal_entries as j
        where j.tenant_id = p_tenant_id
            and (p_category is null or j.category = p_category)
            and (p_task_id is null or j.task_id = p_task_id)
        limit p_exact_up_to + 1
    ) as counted;
    return next;
end
$$;

-- Memories of a window of time, newest first, optionally of one agent or one type; archived ones only on request.
create or replace function list_memory_events(
    p_tenant_id uuid, p_since timestamptz default null, p_until timestamptz default null,
    p_archived boolean default false, p_agent text default null, p_memory_type text default null,
    p_limit integer default 50, p_offset integer default 0, p_before_id uuid default null
) returns setof memory_events language plpgsql stable as $$
begin
    return query
    select m.*
    from memory_events as m
    where m.tenant_id = p_tenant_id
        and m.id < coalesce(p_before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        and (p_since is null or m.created_at >= p_since)
        and (p_until is null or m.created_at < p_until)
        and (p_archived or m.archived_at is null)
        and (p_agent is null or m.agent = p_agent)
        and (p_memory_type is null or m.memory_type = p_memory_type)
    order by m.id desc
    limit p_limit offset p_offset;
end
$$;

-- How many memories a filter lets through; see count_agent_tasks.
create or replace function count_memory_events(
    p_tenant_id uuid, p_archived boolean default false, p_agent text default null, p_memory_type text default null,
    p_exact_up_to integer default 10000
) returns table (total bigint, is_estimate boolean) language plpgsql volatile as $$
begin
    select least(count(*), p_exact_up_to), count(*) > p_exact_up_to into total, is_estimate
    from (
        select
        from memory_events as m
        where m.tenant_id = p_tenant_id
            and (p_archived or m.archived_at is null)
            and (p_agent is null or m.agent = p_agent)
            and (p_memory_type is null or m.memory_type = p_memory_type)
        limit p_exact_up_to + 1
    ) as counted;
    return next;
end
$$;

-- Memories that share a word with the query (English stemming), best first. Looks through the newest 20,000, so that
-- the cost of a search is bounded without an index that every settled task would have to pay for.
create or replace function search_memory_events(
    p_tenant_id uuid, p_query text, p_limit integer default 20, p_archived boolean default false,
    p_agent text default null, p_memory_type text default null
) returns setof memory_events language plpgsql stable as $$
begin
    return query
    with query as (
        select replace(plainto_tsquery('english', p_query)::text, '&', '|')::tsquery as words
    ), recent as (
        select m.*
        from memory_events as m
        where m.tenant_id = p_tenant_id
            and (p_archived or m.archived_at is null)
            and (p_agent is null or m.agent = p_agent)
            and (p_memory_type is null or m.memory_type = p_memory_type)
        order by m.id desc
        limit 20000
    )
    select r.*
    from recent as r
    cross join query as q
    where to_tsvector('english', r.content || ' ' || array_to_string(r.tags, ' ')) @@ q.words
    order by ts_rank(to_tsvector('english', r.content || ' ' || array_to_string(r.tags, ' ')), q.words) desc, r.id desc
    limit p_limit;
end
$$;

-- Suggestions, newest first; every filter may be null.
create or replace function list_agent_suggestions(
    p_tenant_id uuid, p_status text default null, p_task_id uuid default null, p_agent_id text default null,
    p_limit integer default 50, p_offset integer default 0, p_before_id uuid default null
) returns setof agent_suggestions language plpgsql stable as $$
begin
    return query
    select s.*
    from agent_suggestions as s
    where s.tenant_id = p_tenant_id
        and s.id < coalesce(p_before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        and (p_status is null or s.status = p_status)
        and (p_task_id is null or s.task_id = p_task_id)
        and (p_agent_id is null or s.agent_id = p_agent_id)
    order by s.id desc
    limit p_limit offset p_offset;
end
$$;

-- How many suggestions a filter lets through; see count_agent_tasks.
create or replace function count_agent_suggestions(
    p_tenant_id uuid, p_status text default null, p_task_id uuid default null, p_agent_id text default null,
    p_exact_up_to integer default 10000
) returns table (total bigint, is_estimate boolean) language plpgsql volatile as $$
begin
    select least(count(*), p_exact_up_to), count(*) > p_exact_up_to into total, is_estimate
    from (
        select
        from agent_suggestions as s
        where s.tenant_id = p_tenant_id
            and (p_status is null or s.status = p_status)
            and (p_task_id is null or s.task_id = p_task_id)
            and (p_agent_id is null or s.agent_id = p_agent_id)
        limit p_exact_up_to + 1
    ) as counted;
    return next;
end
$$;

-- One suggestion by its id or the end of its id, or PT404; PT409 when several fit.
create or replace function get_agent_suggestion(
    p_tenant_id uuid, p_id text
) returns setof agent_suggestions language plpgsql stable as $$
declare
    v_found integer;
begin
    return query
    select s.* from agent_suggestions as s
    where s.tenant_id = p_tenant_id and right(s.id::text, length(p_id)) = lower(p_id)
    limit 2;
    get diagnostics v_found = row_count;
    if v_found = 0 or length(p_id) < 4 then
        raise exception 'no suggestion %', p_id using errcode = 'PT404';
    elsif v_found > 1 then
        raise exception 'several suggestions have an id that ends in %: give more characters', p_id using errcode = 'PT409';
    end if;
end
$$;

-- Climate profiles, the primary one first.
create or replace function list_climate_profiles(p_tenant_id uuid) returns setof climate_profiles language sql stable as $$
    select p.*
    from climate_profiles as p
    where p.tenant_id = p_tenant_id
    order by p.is_primary desc, p.created_at, p.id
    limit 1000
$$;

-- Climate missions of a tenant, or of one of its profiles, oldest first.
create or replace function list_climate_missions(
    p_tenant_id uuid, p_profile_id uuid default null
) returns setof climate_missions language sql stable as $$
    select m.*
    from climate_missions as m
    where m.tenant_id = p_tenant_id and (p_profile_id is null or m.profile_id = p_profile_id)
    order by m.created_at, m.id
    limit 5000
$$;

-- The pages that the frontend knows, by key.
create or replace function list_frontend_configs(p_tenant_id uuid) returns setof frontend_configs language sql stable as $$
    select f.* from frontend_configs as f where f.tenant_id = p_tenant_id order by f.page limit 1000
$$;
